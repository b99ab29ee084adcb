//! What a number is worth nothing without: the machine, the commit, the command; and how quiet it was.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use core_affinity::CoreId;
use hdrhistogram::Histogram;

use super::timing::{MILLISECOND, Timing};

/// The facts, as names and values.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) facts: Vec<(&'static str, String)>,
    /// Why the numbers may be wrong.
    pub(crate) warnings: Vec<String>,
}

impl Machine {
    /// Reads them.
    pub(crate) fn read(cores: &[usize]) -> Self {
        let load = file("/proc/loadavg");
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let mut warnings = Vec::new();
        if count < 2 {
            warnings.push(format!("{count} core: server and generator share it"));
        }
        let one_minute: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
        if one_minute > 0.5 {
            warnings.push(format!("load average {one_minute} at the start: other work runs beside"));
        }
        let facts = vec![
            ("cpu", cpu_model()),
            ("cores", format!("{count}; server on {}, generator on {}", cores[0], cores[cores.len() - 1])),
            ("kernel", file("/proc/sys/kernel/osrelease")),
            ("congestion control", file("/proc/sys/net/ipv4/tcp_congestion_control")),
            ("wmem", file("/proc/sys/net/ipv4/tcp_wmem")),
            ("load average", load),
            ("commit", commit()),
            ("nginx", line_of("nginx", &["-v"])),
            ("command", std::env::args().collect::<Vec<_>>().join(" ")),
        ];
        Self { facts, warnings }
    }
}

fn cpu_model() -> String {
    let info = file("/proc/cpuinfo");
    let field = |name: &str| {
        info.lines().find(|line| line.starts_with(name)).and_then(|line| line.split(": ").nth(1)).unwrap_or("?")
    };
    format!("{} family {} model {}", field("model name"), field("cpu family"), field("model\t"))
}

fn commit() -> String {
    let commit = line_of("git", &["rev-parse", "--short", "HEAD"]);
    let changed = line_of("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_empty() { commit } else { format!("{commit} with changes") }
}

/// The first line that a program prints, to either stream.
fn line_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").to_owned()
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// How late a thread wakes that only sleeps, on one core: what others do to it.
#[derive(Debug)]
pub(crate) struct HiccupMeter {
    core: usize,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

/// A sleep of the meter: rare enough to cost the core nothing.
const SLEEP: u64 = 5 * MILLISECOND;

impl HiccupMeter {
    pub(crate) fn start(core: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let _pinned = core_affinity::set_for_current(CoreId { id: core });
            let timing = Timing::start();
            let mut late = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds");
            while !stopped.load(Ordering::Relaxed) {
                let due = timing.now() + SLEEP;
                timing.sleep_until(due);
                late.saturating_record(timing.now().saturating_sub(due));
            }
            late
        });
        Self { core, stop, thread }
    }

    /// One line of percentiles.
    pub(crate) fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(late) = self.thread.join() else { return String::new() };
        let ms = |quantile| late.value_at_quantile(quantile) as f64 / MILLISECOND as f64;
        let [p50, p99, max] = [ms(0.5), ms(0.99), ms(1.0)];
        format!("core {}: woken late by p50 {p50:.2} p99 {p99:.2} max {max:.1} ms", self.core)
    }
}
