//! How much memory this process may hope for: the machine's, or less where its control group says so.

use std::fs;
use std::path::{Path, PathBuf};

/// What a server takes without a word: half, so that the rest is there for sockets' buffers, files and others.
pub(super) fn share() -> Option<u64> {
    let machine = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups, Path::new("/sys/fs/cgroup"));
    let limits = limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    let least = limits.fold(machine, u64::min);
    Some(least / 2 / MIB * MIB)
}

/// `MemTotal:       16384 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The files that may hold a limit: of the process's own group and of those around it, in both versions of groups.
/// `max`, and what is not there, is no limit.
fn limit_files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let own = Path::new(path.trim_start_matches('/'));
        files.extend(own.ancestors().map(|group| root.join(group).join(name)));
    }
    files
}

const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(share().is_some_and(|bytes| bytes > MIB && bytes.is_multiple_of(MIB)));
    }

    #[test]
    fn the_groups_of_both_versions_and_those_around_them_are_asked() {
        let files = limit_files("0::/a/b\n3:cpu,cpuacct:/x\n9:memory:/c\n", Path::new("/g"));
        let expected = [
            "/g/a/b/memory.max",
            "/g/a/memory.max",
            "/g/memory.max",
            "/g/memory/c/memory.limit_in_bytes",
            "/g/memory/memory.limit_in_bytes",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
    }
}
