//! Counters of producers in a file that is mapped into memory: they survive a process that is killed, and cost it no
//! system call.
//!
//! One file for each boot of a trail; it is deleted when the next boot has written down what was lost. Each producer
//! has two cache lines of its own in it.

#![expect(unsafe_code, reason = "a mapped file is memory that the system could take away")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Producers that one boot may have: a shard that is restarted is a new one.
pub(super) const SLOTS: usize = 1023;

/// Two cache lines, as adjacent ones are fetched together.
const SLOT_BYTES: usize = 128;
const MAGIC: u64 = u64::from_le_bytes(*b"shcaud01");

/// The counters of one boot.
#[derive(Debug)]
pub struct CounterPage {
    map: MmapRaw,
}

/// One producer of a boot that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) producer: u16,
    /// Facts that it told.
    pub(super) attempted: u64,
}

/// What a page says of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The machine has not been started anew since: what is there is exact.
    pub(super) same_machine_boot: bool,
    /// More producers than the page had room for.
    pub(super) overflown: bool,
    pub(super) counted: Vec<Counted>,
}

impl CounterPage {
    /// Makes the page of a boot.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        file.set_len(((SLOTS + 1) * SLOT_BYTES) as u64)?;
        let map = MmapOptions::new().len((SLOTS + 1) * SLOT_BYTES).map_raw(&file)?;
        let page = Self { map };
        page.word(0, 1).store(machine_boot(), Ordering::Relaxed);
        page.word(0, 0).store(MAGIC, Ordering::Release);
        Ok(page)
    }

    /// The counter of a producer that has this place on the page.
    pub(crate) fn counter(&self, lane: usize) -> Option<&AtomicU64> {
        (lane < SLOTS).then(|| self.word(lane + 1, 0))
    }

    /// Who has this place.
    pub(crate) fn claim(&self, lane: usize, producer: u16) {
        if lane < SLOTS {
            self.word(lane + 1, 1).store(u64::from(producer) + 1, Ordering::Release);
        } else {
            self.word(0, 2).store(1, Ordering::Relaxed);
        }
    }

    fn word(&self, slot: usize, word: usize) -> &AtomicU64 {
        assert!(slot <= SLOTS && word < SLOT_BYTES / size_of::<AtomicU64>());
        let at = slot * SLOT_BYTES + word * size_of::<AtomicU64>();
        // SAFETY: The map is as long as all slots, and `at` lies within it.
        let word = unsafe { self.map.as_mut_ptr().add(at) };
        // SAFETY: The map lives as long as `self` and begins on a page, so that `at` is aligned. Nothing but these
        // atomics reads or writes it. Were the file shortened by somebody else, an access would be a SIGBUS and no
        // data race; it is in a folder that is its owner's alone.
        unsafe { &*word.cast::<AtomicU64>() }
    }

    /// Reads the page of a boot that is over; `None` if it never was whole.
    pub(super) fn read(path: &Path) -> io::Result<Option<Found>> {
        let mut file = File::open(path)?;
        if file.seek(SeekFrom::End(0))? != ((SLOTS + 1) * SLOT_BYTES) as u64 {
            return Ok(None);
        }
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let word = |slot: usize, word: usize| {
            let at = slot * SLOT_BYTES + word * size_of::<u64>();
            let bytes = bytes.get(at..at + size_of::<u64>()).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        if word(0, 0) != MAGIC {
            return Ok(None);
        }
        let counted = (1..=SLOTS).filter_map(|slot| {
            let producer = u16::try_from(word(slot, 1).checked_sub(1)?).ok()?;
            Some(Counted { producer, attempted: word(slot, 0) })
        });
        Ok(Some(Found {
            same_machine_boot: word(0, 1) == machine_boot(),
            overflown: word(0, 2) != 0,
            counted: counted.collect(),
        }))
    }
}

/// A number for the time since this machine was started; 0 where the system does not tell.
fn machine_boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_there_when_nobody_maps_it_any_more() {
        let path = std::env::temp_dir().join(format!("shardcast-page-{}", std::process::id()));
        let page = CounterPage::create(&path).unwrap();
        for (lane, producer) in [(0, 7), (1, 0), (SLOTS - 1, 7)] {
            page.claim(lane, producer);
            page.counter(lane).unwrap().store(40 + lane as u64, Ordering::Relaxed);
        }
        page.claim(SLOTS, 1);
        assert!(page.counter(SLOTS).is_none());
        drop(page);

        let found = CounterPage::read(&path).unwrap().unwrap();
        let counted: Vec<_> = found.counted.iter().map(|one| (one.producer, one.attempted)).collect();
        assert_eq!(counted, [(7, 40), (0, 41), (7, 40 + SLOTS as u64 - 1)]);
        assert!(found.same_machine_boot && found.overflown);
        std::fs::write(&path, b"half").unwrap();
        assert_eq!(CounterPage::read(&path).unwrap(), None);
        std::fs::remove_file(&path).unwrap();
    }
}
