//! The machine, the commit and the load: without them a figure says nothing.

use std::fmt;
use std::fs;
use std::process::Command;

use core_affinity::CoreId;

/// What a figure was measured on.
pub(crate) struct Machine {
    pub(crate) cores: Vec<usize>,
    text: String,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let cores: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
        let text = format!(
            "{} x {}, kernel {}, commit {}, load average {}",
            cores.len(),
            model.trim_start_matches([' ', '\t', ':']),
            first_words("/proc/sys/kernel/osrelease", 1),
            commit(),
            first_words("/proc/loadavg", 2),
        );
        Self { cores, text }
    }

    /// The core at this place, or the last.
    pub(crate) fn core(&self, index: usize) -> usize {
        self.cores.get(index).or_else(|| self.cores.last()).copied().unwrap_or(0)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Keeps this thread on one core, if the system lets it.
pub(crate) fn pin(core: usize) {
    core_affinity::set_for_current(CoreId { id: core });
}

fn first_words(path: &str, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]).filter(|commit| !commit.is_empty()) else {
        return "unknown".into();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}
