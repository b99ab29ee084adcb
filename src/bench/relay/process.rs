//! Processes as the operating system sees them: pinned, counted, and ended by their own id.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use core_affinity::CoreId;

use super::error::RelayError;

/// A child that does not outlive this value.
#[derive(Debug)]
pub(crate) struct Guarded(Child);

impl Guarded {
    /// Starts `command` on `core`, or on all cores that we have.
    pub(crate) fn spawn(mut command: Command, core: Option<usize>) -> io::Result<Self> {
        let spawn = move || {
            // Where a core cannot be had, the child floats; the report says which cores were asked for.
            if let Some(id) = core {
                core_affinity::set_for_current(CoreId { id });
            }
            command.spawn()
        };
        // A child inherits the cores of the thread that starts it.
        let spawned = std::thread::scope(|scope| scope.spawn(spawn).join());
        spawned.map_err(|_| io::Error::other("the starting thread panicked"))?.map(Self)
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
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

/// What a process and its children have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) rss_kb: u64,
    pub(crate) rss_peak_kb: u64,
    pub(crate) threads: u64,
    pub(crate) switches_voluntary: u64,
    pub(crate) switches_forced: u64,
}

/// Ticks a second in `/proc` (`USER_HZ`, the same on every Linux).
pub(crate) const TICKS_PER_S: f64 = 100.0;

impl Usage {
    /// Reads `/proc/PID` of each of these: the scheduler statistics of every thread, and `status`.
    pub(crate) fn read(pids: &[u32]) -> io::Result<Self> {
        let mut usage = Self::default();
        for pid in pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            usage.rss_kb += field(&status, "VmRSS:");
            usage.rss_peak_kb += field(&status, "VmHWM:");
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?.path();
                let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
                usage.cpu_ns += number(schedstat.split_whitespace().next());
                let status = fs::read_to_string(task.join("status")).unwrap_or_default();
                usage.switches_voluntary += field(&status, "voluntary_ctxt_switches:");
                usage.switches_forced += field(&status, "nonvoluntary_ctxt_switches:");
                usage.threads += 1;
            }
        }
        Ok(usage)
    }
}

/// A process and its descendants: a server may have workers.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let (mut family, mut at) = (vec![pid], 0);
    while let Some(member) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(pid, _)| *pid));
        at += 1;
    }
    family
}

/// The second field of `stat` is the name in parentheses, the fourth the parent.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
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
        sum.0 += [0, 1, 2, 5, 6].iter().map(|i| number(ticks.get(*i).copied())).sum::<u64>();
        sum.1 += number(ticks.get(7).copied());
    }
    sum
}

fn field(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    number(rest.and_then(|rest| rest.split_whitespace().next()))
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A command that may open `files` files, through the shell if our own limit is lower.
pub(crate) fn command(program: &Path, files: usize) -> Result<Command, RelayError> {
    let limits = fs::read_to_string("/proc/self/limits").map_err(RelayError::system("/proc/self/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or("");
    let mut limits = line.split_whitespace().map(|limit| limit.parse().unwrap_or(usize::MAX));
    let (soft, hard) = (limits.next().unwrap_or(0), limits.next().unwrap_or(0));
    if files <= soft {
        return Ok(Command::new(program));
    }
    if files > hard {
        return Err(RelayError::OpenFiles { needed: files, allowed: hard });
    }
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n "$0" && exec "$@""#, &files.to_string()]).arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_counted_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & wait"]);
        let child = Guarded::spawn(command, None).unwrap();
        let both = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            family(child.pid()).len() == 2
        });
        let family = family(child.pid());
        assert!(both && family[0] == child.pid(), "{family:?}");
        let (one, two) = (Usage::read(&family[..1]).unwrap(), Usage::read(&family).unwrap());
        assert!(two.rss_kb > one.rss_kb && one.rss_kb > 0 && (one.threads, two.threads) == (1, 2), "{one:?} {two:?}");
        drop(child);
        for pid in &family[1..] {
            let _already = Command::new("kill").arg(pid.to_string()).stderr(std::process::Stdio::null()).status();
        }
    }

    #[test]
    fn more_open_files_than_allowed_are_refused() {
        let refused = command(Path::new("true"), usize::MAX);
        assert!(matches!(refused, Err(RelayError::OpenFiles { needed: usize::MAX, .. })), "{refused:?}");
        assert!(command(Path::new("true"), 8).is_ok());
    }
}
