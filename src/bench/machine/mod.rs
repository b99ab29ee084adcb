//! What a number is worth nothing without: the machine, the commit and the load ([`facts`]); what others did to the
//! cores meanwhile ([`Meters`]); how far apart the two cores are ([`LineClass`]).

mod binary;
mod meter;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub use meter::{HiccupMeter, Meters};

use super::figures::clock_ns;
use super::line::{LineHop, on_core};
use crate::clock::Clock;

/// The logical cores that this process may use, in their order.
#[must_use]
pub fn cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect()
}

/// Names and values, in the order in which they are shown. What the system does not tell is left out.
#[must_use]
pub fn facts(cores: &[usize]) -> Vec<(String, String)> {
    let used = cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let clock = Clock::start();
    let (reading, pause) = on_core(cores.first().copied().unwrap_or(0), || (clock_ns(clock), pause_ns(clock)));
    let facts = [
        ("cpu", cpu_model()),
        ("cores", format!("{} online, {used} used", online())),
        ("memory", memory()),
        ("hypervisor", hypervisor()),
        ("kernel", file("/proc/sys/kernel/osrelease")),
        ("timer", kernel_config("CONFIG_HZ=").map_or(String::new(), |hz| format!("{hz} Hz"))),
        ("clock source", file("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("clock reading", format!("{reading:.1} ns")),
        ("pause instruction", format!("{pause:.1} ns")),
        ("idle driver", file("/sys/devices/system/cpu/cpuidle/current_driver")),
        ("governor", file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("mitigations", mitigations()),
        ("cgroup quota", quota(&file("/sys/fs/cgroup/cpu.max"))),
        ("congestion control", file("/proc/sys/net/ipv4/tcp_congestion_control")),
        ("tcp_rmem", words(&file("/proc/sys/net/ipv4/tcp_rmem"))),
        ("tcp_wmem", words(&file("/proc/sys/net/ipv4/tcp_wmem"))),
        ("load average", load_average().map_or(String::new(), |load| load.to_string())),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", commit()),
        ("compiler", binary::compiler()),
        ("build", build()),
    ];
    let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Why numbers of this machine, as it is now, may be wrong.
#[must_use]
pub fn warnings(cores: &[usize]) -> Vec<String> {
    let mut warnings = Vec::new();
    if cores.len() < 2 {
        warnings.push("one core: what needs two threads measures the system's scheduler".to_owned());
    }
    if let Some(load) = load_average().filter(|load| *load > LOAD_MAX) {
        warnings.push(format!("load average {load} at the start: other work runs beside"));
    }
    let quota = quota(&file("/sys/fs/cgroup/cpu.max"));
    if !quota.is_empty() && quota != NO_QUOTA {
        warnings.push(format!("a cgroup limits this process to {quota}: it is stopped when that is used up"));
    }
    if cfg!(debug_assertions) {
        warnings.push("built with debug assertions: the numbers are not those of a release".to_owned());
    }
    warnings
}

/// One way of the bare cache line between the two cores in nanoseconds, median: some milliseconds of work. `None` on
/// a single core.
#[must_use]
pub fn line_ns(cores: &[usize]) -> Option<f64> {
    let [first, second, ..] = cores else { return None };
    let line = LineHop { cores: [*first, *second], round_trips: 20_000 };
    Some(line.measure(Clock::start()).value_at_quantile(0.5) as f64)
}

/// How far apart two cores are, by the bare cache line. A virtual machine's cores do not stay at one distance, and
/// figures of two threads are comparable within one class only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineClass {
    /// Below 40 ns: two threads of one core, most likely.
    A,
    /// 40 to 150 ns: they share a cache.
    B,
    /// Beyond: they share none.
    C,
}

impl LineClass {
    /// The class of so many nanoseconds one way.
    #[must_use]
    pub const fn of(ns: f64) -> Self {
        if ns < 40.0 {
            Self::A
        } else if ns < 150.0 {
            Self::B
        } else {
            Self::C
        }
    }
}

impl fmt::Display for LineClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A (below 40 ns)",
            Self::B => "B (40 to 150 ns)",
            Self::C => "C (beyond 150 ns)",
        })
    }
}

/// Work that waits or runs beside, at which figures begin to say less.
const LOAD_MAX: f64 = 0.5;
const NO_QUOTA: &str = "none";

fn online() -> usize {
    let processors = file("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    if processors > 0 { processors } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

fn cpu_model() -> String {
    let info = file("/proc/cpuinfo");
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|field| field.trim() == name));
        line.and_then(|line| line.split(": ").nth(1)).map(str::trim)
    };
    let numbers = ["cpu family", "model"].map(field);
    match (field("model name"), numbers) {
        (Some(name), [Some(family), Some(model)]) => format!("{name}, family {family} model {model}"),
        (Some(name), _) => name.to_owned(),
        _ => String::new(),
    }
}

fn memory() -> String {
    let total = file("/proc/meminfo");
    let kb = total.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kb = kb.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kb.map_or(String::new(), |kb| format!("{:.1} GiB", kb as f64 / 1024.0 / 1024.0))
}

fn hypervisor() -> String {
    let flags = file("/proc/cpuinfo");
    let guest = flags.lines().find(|line| line.starts_with("flags")).is_some_and(|line| line.ends_with("hypervisor"))
        || flags.split_whitespace().any(|flag| flag == "hypervisor");
    if guest { "yes: the cores are shared with others".to_owned() } else { String::new() }
}

fn kernel_config(name: &str) -> Option<String> {
    let text = file(&format!("/boot/config-{}", file("/proc/sys/kernel/osrelease")));
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
}

/// The measures against speculative execution that are on; they are a part of every system call.
fn mitigations() -> String {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return String::new() };
    let mut on: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let text = file(&entry.path().to_string_lossy());
            let measure = text.strip_prefix("Mitigation: ")?.split(';').next()?.trim().to_owned();
            Some(format!("{}: {measure}", entry.file_name().to_string_lossy()))
        })
        .collect();
    on.sort();
    if on.is_empty() { "none".to_owned() } else { on.join("; ") }
}

/// `max 100000` and `150000 100000` in cores.
fn quota(text: &str) -> String {
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["max", _] => NO_QUOTA.to_owned(),
        [quota, period] => match (quota.parse::<f64>(), period.parse::<f64>()) {
            (Ok(quota), Ok(period)) if period > 0.0 => format!("{:.2} cores", quota / period),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn load_average() -> Option<f64> {
    file("/proc/loadavg").split(' ').next()?.parse().ok()
}

/// What one `pause` costs, which every wait between two looks at a line consists of.
fn pause_ns(clock: Clock) -> f64 {
    const PAUSES: u64 = 10_000;
    super::figures::chunks(clock, 5, || {
        (0..PAUSES).for_each(|_| std::hint::spin_loop());
        PAUSES
    })
}

/// The commit of the checkout that this program was built in: the one that its file lies in.
fn commit() -> String {
    let Ok(program) = std::env::current_exe() else { return String::new() };
    let Some(folder) = program.parent() else { return String::new() };
    let git = |arguments: &[&str]| git(folder, arguments);
    // A checkout of something else, in which the program only lies, says nothing about it.
    if git(&["cat-file", "-e", "HEAD:./src/bench/model.rs"]).is_none()
        && git(&["cat-file", "-e", "HEAD:src/bench/model.rs"]).is_none()
    {
        return String::new();
    }
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = git.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

fn build() -> String {
    let features: Vec<&str> = [
        ("rtmp", cfg!(feature = "rtmp")),
        ("token", cfg!(feature = "token")),
        ("bench", cfg!(feature = "bench")),
        ("server", cfg!(feature = "server")),
    ]
    .into_iter()
    .filter_map(|(name, on)| on.then_some(name))
    .collect();
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{profile}; features {}", features.join(", "))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_told_in_cores() {
        assert_eq!(quota("max 100000"), NO_QUOTA);
        assert_eq!(quota("150000 100000"), "1.50 cores");
        assert_eq!(quota("nonsense"), "");
    }

    #[test]
    fn the_classes_of_the_line_are_those_that_were_seen() {
        assert_eq!([29.0, 53.0, 257.0].map(LineClass::of), [LineClass::A, LineClass::B, LineClass::C]);
    }

    #[test]
    fn the_facts_say_on_what_it_ran() {
        let facts = facts(&cores());
        for name in ["cpu", "cores", "kernel", "version", "build", "clock reading"] {
            let fact = facts.iter().find(|(known, _)| known == name);
            assert!(fact.is_some_and(|(_, value)| !value.is_empty()), "{name} is missing: {facts:?}");
        }
    }
}
