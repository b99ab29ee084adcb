//! Processes as the operating system sees them: pinned, counted, and ended by their own id.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use core_affinity::CoreId;

/// A child that does not outlive this value.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    /// Starts `command` on `core`, or on all cores that we have.
    pub(crate) fn spawn(mut command: Command, core: Option<usize>) -> io::Result<Self> {
        let spawn = move || {
            if let Some(id) = core
                && !core_affinity::set_for_current(CoreId { id })
            {
                eprintln!("warning: core {id} cannot be had; the process floats");
            }
            command.spawn()
        };
        // A child inherits the cores of the thread that starts it.
        let spawned = std::thread::scope(|scope| scope.spawn(spawn).join());
        spawned.map_err(|_| io::Error::other("the starting thread panicked"))?.map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Reads all that it prints, and waits for its end.
    pub(crate) fn output(mut self) -> io::Result<String> {
        let mut text = String::new();
        if let Some(mut stdout) = self.0.stdout.take() {
            stdout.read_to_string(&mut text)?;
        }
        match self.0.wait()? {
            status if status.success() => Ok(text),
            status => Err(io::Error::other(format!("{status}"))),
        }
    }
}

impl Drop for Guarded {
    /// Asks it to go, waits two seconds, kills it.
    fn drop(&mut self) {
        if !self.is_alive() {
            return;
        }
        let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        if asked.is_ok_and(|status| status.success()) {
            for _ in 0..200 {
                if !self.is_alive() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) rss_kb: u64,
    pub(crate) rss_peak_kb: u64,
    pub(crate) threads: u64,
    pub(crate) switches_voluntary: u64,
    pub(crate) switches_forced: u64,
}

/// Ticks a second in `/proc` (`USER_HZ`, the same on every Linux).
pub(crate) const TICKS_PER_S: f64 = 100.0;

impl Usage {
    /// Reads `/proc/PID`: every thread's scheduler statistics, `stat` and `status`.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let mut usage = Self::default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in parentheses; `utime` and `stime` are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        usage.user_ticks = number(fields.get(11));
        usage.system_ticks = number(fields.get(12));
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        usage.rss_kb = field(&status, "VmRSS:");
        usage.rss_peak_kb = field(&status, "VmHWM:");
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            usage.cpu_ns += number(schedstat.split_whitespace().next().as_ref());
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            usage.switches_voluntary += field(&status, "voluntary_ctxt_switches:");
            usage.switches_forced += field(&status, "nonvoluntary_ctxt_switches:");
            usage.threads += 1;
        }
        Ok(usage)
    }
}

/// Ticks of some cores: (busy, stolen), from `/proc/stat`.
pub(crate) fn core_ticks(cores: &[usize]) -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut sum = (0, 0);
    for core in cores {
        let name = format!("cpu{core}");
        let line = stat.lines().find(|line| line.split(' ').next() == Some(&name)).unwrap_or("");
        let ticks: Vec<&str> = line.split_whitespace().skip(1).collect();
        // user nice system idle iowait irq softirq steal
        sum.0 += [0, 1, 2, 5, 6].iter().map(|i| number(ticks.get(*i))).sum::<u64>();
        sum.1 += number(ticks.get(7));
    }
    sum
}

fn field(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    number(rest.and_then(|rest| rest.split_whitespace().next()).as_ref())
}

fn number(text: Option<&&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A command that may open `files` files, through the shell if our own limit is lower.
pub(crate) fn command(program: &Path, files: usize) -> io::Result<Command> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or("");
    let mut limits = line.split_whitespace().map(|limit| limit.parse().unwrap_or(usize::MAX));
    let (soft, hard) = (limits.next().unwrap_or(0), limits.next().unwrap_or(0));
    if files <= soft {
        return Ok(Command::new(program));
    }
    if files > hard {
        return Err(io::Error::other(format!("{files} open files are needed, {hard} are allowed (ulimit -n)")));
    }
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n "$0" && exec "$@""#, &files.to_string()]).arg(program);
    Ok(command)
}
