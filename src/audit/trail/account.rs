//! What became of each producer's facts: kept by the writer, by whoever opens a trail, and by the verifier.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::line::Head;

/// The producers of one boot, by their number.
pub type Accounts = BTreeMap<u16, Account>;

/// One producer's facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// In the trail.
    pub written: u64,
    /// Not in the trail, and a record says so.
    pub lost: u64,
}

impl Account {
    /// The number of the last one that is accounted for: they have no gaps.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.written + self.lost
    }

    /// Facts from `found` on; the number that should have come, if it was another.
    pub(super) fn enter(&mut self, found: u64, written: u64, lost: u64) -> Option<u64> {
        let expected = self.last() + 1;
        self.written += written;
        self.lost += lost;
        if found == expected {
            return None;
        }
        // It goes on from what came, so that one gap is told once.
        self.written = found.saturating_sub(1 + self.lost - lost).saturating_add(written);
        Some(expected)
    }
}

/// What a line does to the accounts of its boot, or of the boot that it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A fact of a producer, with its number.
    Fact { boot: u64, producer: u16, number: u64 },
    /// Facts that are missing.
    Loss { boot: u64, producer: u16, first: u64, count: u64 },
    /// What the trail tells of itself.
    Note,
}

impl Entry {
    /// `None` if what should be there is not.
    pub(super) fn read(head: &Head<'_>, line: &[u8]) -> Option<Self> {
        let Some((producer, number)) = head.producer else { return Some(Self::Note) };
        if !matches!(head.event, "loss" | "recovery") {
            return Some(Self::Fact { boot: head.boot, producer, number });
        }
        let Missing { of_boot, first, count, .. } = Missing::read(line)?;
        let boot = if head.event == "loss" { head.boot } else { of_boot? };
        Some(Self::Loss { boot, producer, first, count })
    }
}

/// What a record says of facts that are not there.
#[derive(Deserialize)]
pub(super) struct Missing {
    pub(super) of_boot: Option<u64>,
    pub(super) first: u64,
    pub(super) count: u64,
    /// Why, if it says that.
    pub(super) reason: Option<String>,
}

impl Missing {
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// Facts that are neither there nor marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The boot and the producer.
    pub boot: u64,
    /// Its producer.
    pub producer: u16,
    /// The number that should have come.
    pub expected: u64,
    /// The one that did.
    pub found: u64,
}

/// Enters a line; a gap if one lies before it. (A number that came before is one too.)
pub(super) fn enter(boots: &mut BTreeMap<u64, Accounts>, entry: Entry) -> Option<Gap> {
    let (boot, producer, found, written, lost) = match entry {
        Entry::Fact { boot, producer, number } => (boot, producer, number, 1, 0),
        Entry::Loss { boot, producer, first, count } => (boot, producer, first, 0, count),
        Entry::Note => return None,
    };
    let account = boots.entry(boot).or_default().entry(producer).or_default();
    let expected = account.enter(found, written, lost)?;
    Some(Gap { boot, producer, expected, found })
}
