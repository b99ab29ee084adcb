//! What each producer of a boot has told, in mapped memory: one file for each boot of a trail, deleted when the next
//! boot has written down what was lost.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ring::MappedSlots;

/// Producers that one boot may have: a shard that is restarted is a new one.
pub(super) const SLOTS: usize = 1023;

const MAGIC: u64 = u64::from_le_bytes(*b"shcaud01");

/// The counters of one boot. The first slot is the boot's own: that the page is whole, when the machine was started,
/// and whether there were more producers than places. The others are producers': what each has told, and who it is.
#[derive(Debug)]
pub struct CounterPage(MappedSlots);

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
        let slots = MappedSlots::create(path, SLOTS + 1)?;
        slots.word(0, 1).store(machine_boot(), Ordering::Relaxed);
        slots.word(0, 0).store(MAGIC, Ordering::Release);
        Ok(Self(slots))
    }

    /// The counter of a producer that has this place on the page.
    pub(crate) fn counter(&self, lane: usize) -> Option<&AtomicU64> {
        (lane < SLOTS).then(|| self.0.word(lane + 1, 0))
    }

    /// Who has this place.
    pub(crate) fn claim(&self, lane: usize, producer: u16) {
        if lane < SLOTS {
            self.0.word(lane + 1, 1).store(u64::from(producer) + 1, Ordering::Release);
        } else {
            self.0.word(0, 2).store(1, Ordering::Relaxed);
        }
    }

    /// Reads the page of a boot that is over; `None` if it never was whole.
    pub(super) fn read(path: &Path) -> io::Result<Option<Found>> {
        let Some(slots) = MappedSlots::read(path, SLOTS + 1)?.filter(|slots| slots[0][0] == MAGIC) else {
            return Ok(None);
        };
        let counted = slots[1..].iter().filter_map(|slot| {
            let producer = u16::try_from(slot[1].checked_sub(1)?).ok()?;
            Some(Counted { producer, attempted: slot[0] })
        });
        Ok(Some(Found {
            same_machine_boot: slots[0][1] == machine_boot(),
            overflown: slots[0][2] != 0,
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
