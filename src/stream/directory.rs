//! The one shared map: which stream has its publisher where. Touched at publish, play and end, never per frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use super::spec::Conflict;
use crate::id::{Generation, ShardId, StreamKey};
use crate::limits::{Limit, SHARDS_MAX};
use crate::media::Timestamp;
use crate::reason::Reason;

/// Who has which name. A claim is atomic over all shards.
#[derive(Debug, Default)]
pub struct Directory {
    // std's SipHash: the keys are chosen by peers.
    map: RwLock<Map>,
}

#[derive(Debug, Default)]
struct Map {
    entries: HashMap<StreamKey, Entry>,
    publishers: usize,
    next: u64,
}

#[derive(Debug, Default)]
struct Entry {
    live: Option<(ShardId, Generation)>,
    /// Shards that have players of it, or players who wait for it.
    interested: ShardSet,
    /// How far the live publisher's timeline goes.
    line: Line,
    /// Where the timeline of its last publisher ended.
    end: Timestamp,
}

/// How far one publisher's timeline goes: told by its home for each frame, closed by whoever takes the name.
///
/// So a takeover knows to the frame where it goes on, although the old home learns of it later.
#[derive(Clone, Debug)]
pub struct Line(Arc<AtomicI64>);

impl Line {
    /// The timeline goes up to here; `false` if it was closed, and the frame belongs to no stream any more.
    #[must_use]
    pub fn extend(&self, to: Timestamp) -> bool {
        // Relaxed: one number, and all that hangs on it. Only the home extends, so an exchange fails if it is closed.
        let last = self.0.load(Ordering::Relaxed);
        if last == CLOSED || to.0 <= last {
            return last != CLOSED;
        }
        self.0.compare_exchange(last, to.0.min(CLOSED - 1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Nothing is added any more; where it ended.
    fn close(&self) -> Timestamp {
        Timestamp(self.0.swap(CLOSED, Ordering::Relaxed))
    }
}

impl Default for Line {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(0)))
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Line {}

/// In the place of a time.
const CLOSED: i64 = i64::MAX;

/// A successful claim.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// The number of this life of the stream.
    pub generation: Generation,
    /// Whom to tell that the stream is here now.
    pub interested: Vec<ShardId>,
    /// Who lost the name by it.
    pub previous: Option<(ShardId, Generation)>,
    /// Where the timeline of the former publisher ended, if somebody still waits for it to go on.
    pub resume: Option<Timestamp>,
    /// What the new one's timeline is told to.
    pub line: Line,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// Its publisher is on this shard, in this life.
    Live(ShardId, Generation),
    /// Nobody publishes it.
    Absent,
}

/// One live stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: StreamKey,
    /// Where its publisher is.
    pub home: ShardId,
    /// Which life.
    pub generation: Generation,
}

impl Directory {
    /// Takes a name for a publisher on `home`.
    ///
    /// # Errors
    /// [`Reason::NameTaken`], or the limit that is reached.
    pub fn claim(
        &self,
        key: &StreamKey,
        home: ShardId,
        conflict: Conflict,
        publishers: usize,
        streams: usize,
    ) -> Result<Claim, Reason> {
        let mut map = self.map.write();
        let previous = map.entries.get(key).and_then(|entry| entry.live);
        if previous.is_some() && conflict == Conflict::Refuse {
            return Err(Reason::NameTaken);
        }
        if previous.is_none() && map.publishers >= publishers {
            return Err(Reason::Limit(Limit::Publishers));
        }
        if !map.entries.contains_key(key) && map.entries.len() >= streams {
            return Err(Reason::Limit(Limit::Streams));
        }
        map.next += 1;
        let generation = Generation(map.next);
        if previous.is_none() {
            map.publishers += 1;
        }
        let entry = map.entries.entry(key.clone()).or_default();
        entry.live = Some((home, generation));
        let line = Line::default();
        let former = std::mem::replace(&mut entry.line, line.clone());
        if previous.is_some() {
            entry.end = entry.end.max(former.close());
        }
        let interested = entry.interested.iter().collect();
        let resume = (entry.end > Timestamp::ZERO).then_some(entry.end);
        Ok(Claim { generation, interested, previous, resume, line })
    }

    /// Gives a name back, if this life still has it: the end of a stale session harms nobody.
    pub fn release(&self, key: &StreamKey, generation: Generation, end: Timestamp) -> bool {
        let mut map = self.map.write();
        let Some(entry) = map.entries.get_mut(key) else { return false };
        if entry.live.is_none_or(|(_, live)| live != generation) {
            return false;
        }
        entry.live = None;
        entry.end = entry.end.max(end);
        let forgotten = entry.interested.is_empty();
        if forgotten {
            map.entries.remove(key);
        }
        map.publishers -= 1;
        true
    }

    /// Finds a stream, and notes that `shard` has players of it or players who wait for it.
    ///
    /// # Errors
    /// The limit of streams, where the name is not known yet.
    pub fn interest(&self, key: &StreamKey, shard: ShardId, streams: usize) -> Result<Located, Reason> {
        let mut map = self.map.write();
        if !map.entries.contains_key(key) && map.entries.len() >= streams {
            return Err(Reason::Limit(Limit::Streams));
        }
        let entry = map.entries.entry(key.clone()).or_default();
        entry.interested.insert(shard);
        Ok(entry.live.map_or(Located::Absent, |(home, generation)| Located::Live(home, generation)))
    }

    /// `shard` has no players of it any more.
    pub fn lose_interest(&self, key: &StreamKey, shard: ShardId) {
        let mut map = self.map.write();
        let Some(entry) = map.entries.get_mut(key) else { return };
        entry.interested.remove(shard);
        if entry.interested.is_empty() && entry.live.is_none() {
            map.entries.remove(key);
        }
    }

    /// A shard is gone: its publishers and its players with it.
    pub fn purge(&self, shard: ShardId) -> Vec<StreamKey> {
        let mut map = self.map.write();
        let mut lost = Vec::new();
        map.entries.retain(|key, entry| {
            entry.interested.remove(shard);
            if entry.live.is_some_and(|(home, _)| home == shard) {
                entry.live = None;
                entry.end = entry.end.max(entry.line.close());
                lost.push(key.clone());
            }
            entry.live.is_some() || !entry.interested.is_empty()
        });
        map.publishers -= lost.len();
        lost
    }

    /// Where a stream is.
    #[must_use]
    pub fn locate(&self, key: &StreamKey) -> Located {
        let map = self.map.read();
        let live = map.entries.get(key).and_then(|entry| entry.live);
        live.map_or(Located::Absent, |(home, generation)| Located::Live(home, generation))
    }

    /// All live streams, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let map = self.map.read();
        let mut out: Vec<_> = map
            .entries
            .iter()
            .filter_map(|(key, entry)| {
                entry.live.map(|(home, generation)| Listed { key: key.clone(), home, generation })
            })
            .collect();
        drop(map);
        out.sort_by(|a, b| a.key.cmp(&b.key));
        out
    }

    /// Live publishers.
    #[must_use]
    pub fn publishers(&self) -> usize {
        self.map.read().publishers
    }

    /// Names that somebody publishes, plays or waits for.
    #[must_use]
    pub fn names(&self) -> usize {
        self.map.read().entries.len()
    }
}

/// A set of shards in place.
#[derive(Clone, Copy, Debug, Default)]
struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    fn insert(&mut self, shard: ShardId) {
        self.0[usize::from(shard.0) / 64] |= 1 << (shard.0 % 64);
    }

    fn remove(&mut self, shard: ShardId) {
        self.0[usize::from(shard.0) / 64] &= !(1 << (shard.0 % 64));
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = ShardId> {
        let words = self.0;
        (0..u16::try_from(SHARDS_MAX).unwrap_or(u16::MAX))
            .filter(move |shard| words[usize::from(*shard) / 64] & (1 << (shard % 64)) != 0)
            .map(ShardId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(65);

    fn key() -> StreamKey {
        StreamKey::parse("live/a").unwrap()
    }

    #[test]
    fn one_of_two_publishers_of_a_name_gets_it() {
        let directory = Directory::default();
        let first = directory.claim(&key(), A, Conflict::Refuse, 9, 9).unwrap();
        assert_eq!(directory.claim(&key(), B, Conflict::Refuse, 9, 9), Err(Reason::NameTaken));
        assert_eq!(directory.locate(&key()), Located::Live(A, first.generation));
    }

    #[test]
    fn the_end_of_a_stale_session_does_not_kill_its_successor() {
        let directory = Directory::default();
        let old = directory.claim(&key(), A, Conflict::TakeOver, 9, 9).unwrap();
        let new = directory.claim(&key(), B, Conflict::TakeOver, 9, 9).unwrap();
        assert_eq!(new.previous, Some((A, old.generation)));
        assert!(!directory.release(&key(), old.generation, Timestamp::ZERO));
        assert_eq!(directory.locate(&key()), Located::Live(B, new.generation));
        assert!(directory.release(&key(), new.generation, Timestamp::ZERO));
        assert_eq!((directory.publishers(), directory.names()), (0, 0));
    }

    #[test]
    fn who_waits_is_told_by_the_claim_and_the_timeline_goes_on() {
        let directory = Directory::default();
        assert_eq!(directory.interest(&key(), B, 9), Ok(Located::Absent));
        let first = directory.claim(&key(), A, Conflict::Refuse, 9, 9).unwrap();
        assert_eq!((first.interested.as_slice(), first.resume), ([B].as_slice(), None));
        directory.release(&key(), first.generation, Timestamp::from_millis(500));
        let second = directory.claim(&key(), A, Conflict::Refuse, 9, 9).unwrap();
        assert_eq!(second.resume, Some(Timestamp::from_millis(500)));
    }

    #[test]
    fn a_takeover_goes_on_where_the_ousted_publisher_stopped_and_that_one_adds_nothing_more() {
        let directory = Directory::default();
        let old = directory.claim(&key(), A, Conflict::TakeOver, 9, 9).unwrap();
        let at = Timestamp::from_millis;
        assert!(old.line.extend(at(400)) && old.line.extend(at(360)));
        let new = directory.claim(&key(), B, Conflict::TakeOver, 9, 9).unwrap();
        assert_eq!(new.resume, Some(at(400)));
        assert!(!old.line.extend(at(440)) && !old.line.extend(at(1)));
        assert!(new.line.extend(at(401)));
    }

    #[test]
    fn limits_are_exact_and_unknown_names_leave_nothing_behind() {
        let directory = Directory::default();
        let other = StreamKey::parse("live/b").unwrap();
        directory.claim(&key(), A, Conflict::Refuse, 1, 9).unwrap();
        assert_eq!(directory.claim(&other, A, Conflict::Refuse, 1, 9), Err(Reason::Limit(Limit::Publishers)));
        assert_eq!(directory.interest(&other, A, 1), Err(Reason::Limit(Limit::Streams)));
        directory.interest(&other, A, 9).unwrap();
        directory.lose_interest(&other, A);
        assert_eq!(directory.names(), 1);
    }

    #[test]
    fn a_lost_shard_takes_its_publishers_along_and_no_others() {
        let directory = Directory::default();
        let other = StreamKey::parse("live/b").unwrap();
        directory.claim(&key(), A, Conflict::Refuse, 9, 9).unwrap();
        directory.claim(&other, B, Conflict::Refuse, 9, 9).unwrap();
        assert_eq!(directory.purge(A), [key()]);
        assert_eq!(directory.list().len(), 1);
        assert_eq!(directory.publishers(), 1);
    }
}
