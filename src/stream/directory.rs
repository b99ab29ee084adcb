//! The one shared map: which stream has its publisher where. Touched at publish, play and end, never per frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use super::seats::{Newcomer, Seat, Seats, SwitchCause};
use super::spec::Conflict;
use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
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
    /// Somebody has published it.
    began: bool,
    /// A filler was last, and its time was up.
    filled_in_vain: bool,
    /// Where the timeline of its last publisher ended.
    end: Timestamp,
    /// Who publishes it, and who stands by.
    seats: Seats,
}

impl Entry {
    /// Nobody publishes it, plays it or waits for it.
    fn is_over(&self) -> bool {
        self.live.is_none() && self.interested.is_empty() && self.seats.standbys.is_empty()
    }

    /// A new life begins on `home`.
    fn begin(&mut self, home: ShardId, generation: Generation) -> Claim {
        let previous = self.live.replace((home, generation));
        self.filled_in_vain = false;
        let line = Line::default();
        let former = std::mem::replace(&mut self.line, line.clone());
        if previous.is_some() {
            self.end = self.end.max(former.close());
        }
        let interested = self.interested.iter().collect();
        let resume = std::mem::replace(&mut self.began, true).then_some(self.end);
        Claim { generation, interested, previous, resume, line }
    }
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

/// How a publisher was let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// The name is its own.
    Live(Claim),
    /// Another one leads; it stands by.
    Standby,
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
    /// Takes a name for a publisher, or a seat behind the one that leads.
    ///
    /// # Errors
    /// [`Reason::NameTaken`], or the limit that is reached.
    pub fn enter(
        &self,
        key: &StreamKey,
        newcomer: Newcomer,
        conflict: Conflict,
        publishers: usize,
        streams: usize,
    ) -> Result<Entered, Reason> {
        let mut map = self.map.write();
        let previous = map.entries.get(key).and_then(|entry| entry.live);
        let filled = map.entries.get(key).is_some_and(|entry| entry.seats.is_filled());
        if previous.is_some() && (newcomer.filler || (conflict == Conflict::Refuse && !filled)) {
            return Err(Reason::NameTaken);
        }
        let stands_by = previous.is_some() && (conflict == Conflict::Backup || filled);
        if (previous.is_none() || stands_by) && map.publishers >= publishers {
            return Err(Reason::Limit(Limit::Publishers));
        }
        if !map.entries.contains_key(key) && map.entries.len() >= streams {
            return Err(Reason::Limit(Limit::Streams));
        }
        if stands_by {
            let entry = map.entries.entry(key.clone()).or_default();
            entry.seats.add(newcomer)?;
            map.publishers += 1;
            return Ok(Entered::Standby);
        }
        let generation = Generation(map.next + 1);
        let entry = map.entries.entry(key.clone()).or_default();
        entry.seats.lead = None;
        entry.seats.lead = Some(entry.seats.place(newcomer)?);
        let claim = entry.begin(newcomer.shard, generation);
        map.next = generation.0;
        if previous.is_none() {
            map.publishers += 1;
        }
        Ok(Entered::Live(claim))
    }

    /// Lets a standby lead, if the cause still holds; who led until now stands by.
    pub fn promote(&self, key: &StreamKey, connection: ConnectionId, cause: SwitchCause) -> Option<Claim> {
        let mut map = self.map.write();
        let generation = Generation(map.next + 1);
        let entry = map.entries.get_mut(key)?;
        let holds = match (cause, entry.live) {
            (_, None) | (SwitchCause::Command, _) => true,
            (SwitchCause::Vacant, Some(_)) => entry.seats.is_filled(),
            (SwitchCause::Stalled(life), Some((_, live))) => life == live,
            (SwitchCause::Return, Some(_)) => entry.seats.prefers(connection),
        };
        let shard = entry.seats.standby(connection)?.shard;
        let filled = entry.seats.is_filled();
        if !holds || !entry.seats.promote(connection, cause == SwitchCause::Command) {
            return None;
        }
        let claim = entry.begin(shard, generation);
        map.next = generation.0;
        map.publishers -= usize::from(filled);
        Some(claim)
    }

    /// A standby delivers what a decoder can start with, or does not any more.
    pub fn set_ready(&self, key: &StreamKey, connection: ConnectionId, ready: bool) {
        let mut map = self.map.write();
        if let Some(seat) = map.entries.get_mut(key).and_then(|entry| entry.seats.standby(connection)) {
            seat.ready = ready;
        }
    }

    /// A standby is gone.
    pub fn leave(&self, key: &StreamKey, connection: ConnectionId) {
        let mut map = self.map.write();
        let Some(entry) = map.entries.get_mut(key) else { return };
        let Some(at) = entry.seats.standbys.iter().position(|seat| seat.connection == connection) else { return };
        entry.seats.standbys.remove(at);
        let over = entry.is_over();
        map.publishers -= 1;
        if over {
            map.entries.remove(key);
        }
    }

    /// The standby that a stream can go on with.
    #[must_use]
    pub fn successor(&self, key: &StreamKey) -> Option<Seat> {
        self.map.read().entries.get(key).and_then(|entry| entry.seats.best())
    }

    /// Whether nobody leads, or a standby is preferred to who does.
    #[must_use]
    pub fn prefers(&self, key: &StreamKey, connection: ConnectionId) -> bool {
        self.map.read().entries.get(key).is_some_and(|entry| entry.seats.prefers(connection))
    }

    /// Whether nobody leads who would not make room at once.
    #[must_use]
    pub fn is_vacant(&self, key: &StreamKey) -> bool {
        let map = self.map.read();
        map.entries.get(key).is_none_or(|entry| entry.live.is_none() || entry.seats.is_filled())
    }

    /// Whether some shard has players of it although nobody publishes it.
    #[must_use]
    pub fn is_awaited(&self, key: &StreamKey) -> bool {
        let map = self.map.read();
        map.entries.get(key).is_some_and(|entry| entry.live.is_none() && !entry.interested.is_empty())
    }

    /// Whether its players have waited long enough: a filler was shown to them meanwhile.
    #[must_use]
    pub fn is_given_up(&self, key: &StreamKey) -> bool {
        self.map.read().entries.get(key).is_some_and(|entry| entry.filled_in_vain)
    }

    /// Whether this connection stands by.
    #[must_use]
    pub fn stands_by(&self, key: &StreamKey, connection: ConnectionId) -> bool {
        let map = self.map.read();
        let seats = map.entries.get(key).map(|entry| &entry.seats);
        seats.is_some_and(|seats| seats.standbys.iter().any(|seat| seat.connection == connection))
    }

    /// The publishers of a name: who leads, if anybody does, then those who stand by.
    #[must_use]
    pub fn seats(&self, key: &StreamKey) -> (Option<Seat>, Vec<Seat>) {
        let map = self.map.read();
        let seats = map.entries.get(key).map(|entry| &entry.seats);
        seats.map_or((None, Vec::new()), |seats| (seats.lead, seats.standbys.clone()))
    }

    /// Gives a name back, if this life still has it: the end of a stale session harms nobody.
    pub fn release(&self, key: &StreamKey, generation: Generation, end: Timestamp) -> bool {
        let mut map = self.map.write();
        let Some(entry) = map.entries.get_mut(key) else { return false };
        if entry.live.is_none_or(|(_, live)| live != generation) {
            return false;
        }
        entry.live = None;
        entry.filled_in_vain = entry.seats.is_filled();
        entry.seats.lead = None;
        entry.end = entry.end.max(end);
        if entry.is_over() {
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
        if entry.is_over() {
            map.entries.remove(key);
        }
    }

    /// A shard is gone: its publishers and its players with it.
    pub fn purge(&self, shard: ShardId) -> Vec<StreamKey> {
        let mut map = self.map.write();
        let mut lost = Vec::new();
        let mut standbys = 0;
        map.entries.retain(|key, entry| {
            entry.interested.remove(shard);
            standbys += entry.seats.standbys.len();
            entry.seats.standbys.retain(|seat| seat.shard != shard);
            standbys -= entry.seats.standbys.len();
            if entry.live.is_some_and(|(home, _)| home == shard) {
                entry.live = None;
                entry.seats.lead = None;
                entry.end = entry.end.max(entry.line.close());
                lost.push(key.clone());
            }
            !entry.is_over()
        });
        map.publishers -= lost.len() + standbys;
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

    /// Live publishers, and those who stand by.
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

    fn newcomer(connection: u64, shard: ShardId) -> Newcomer {
        Newcomer { connection: ConnectionId(connection), shard, backup: false, filler: false }
    }

    impl Directory {
        fn claim(
            &self,
            key: &StreamKey,
            home: ShardId,
            conflict: Conflict,
            publishers: usize,
            streams: usize,
        ) -> Result<Claim, Reason> {
            match self.enter(key, newcomer(7, home), conflict, publishers, streams)? {
                Entered::Live(claim) => Ok(claim),
                Entered::Standby => panic!("it is no backup"),
            }
        }

        /// A primary on A that leads, and a ready backup on B.
        fn with_a_backup() -> (Self, Claim) {
            let directory = Self::default();
            let enter = |newcomer| directory.enter(&key(), newcomer, Conflict::Backup, 9, 9);
            let Ok(Entered::Live(claim)) = enter(newcomer(1, A)) else { panic!("the first leads") };
            assert_eq!(enter(newcomer(2, B)), Ok(Entered::Standby));
            directory.set_ready(&key(), ConnectionId(2), true);
            (directory, claim)
        }
    }

    #[test]
    fn a_backup_leads_when_the_primary_has_ended_and_gives_way_to_who_returns() {
        let (directory, first) = Directory::with_a_backup();
        assert_eq!(directory.promote(&key(), ConnectionId(2), SwitchCause::Vacant), None, "the primary is live");
        assert!(first.line.extend(Timestamp::from_millis(90)));
        directory.release(&key(), first.generation, Timestamp::from_millis(90));
        assert_eq!(directory.successor(&key()).unwrap().connection, ConnectionId(2));

        let second = directory.promote(&key(), ConnectionId(2), SwitchCause::Vacant).unwrap();

        assert_eq!((second.previous, second.resume), (None, Some(Timestamp::from_millis(90))));
        assert_eq!(directory.locate(&key()), Located::Live(B, second.generation));
        let back = directory.enter(&key(), newcomer(3, A), Conflict::Backup, 9, 9);
        assert_eq!((back, directory.prefers(&key(), ConnectionId(3))), (Ok(Entered::Standby), true));
        let third = directory.promote(&key(), ConnectionId(3), SwitchCause::Return).unwrap();
        assert_eq!(third.previous, Some((B, second.generation)));
        assert!(directory.stands_by(&key(), ConnectionId(2)) && !directory.prefers(&key(), ConnectionId(2)));
        assert_eq!(directory.publishers(), 2);
    }

    #[test]
    fn a_filler_makes_room_for_anybody_and_is_counted_out() {
        let directory = Directory::default();
        directory.interest(&key(), A, 9).unwrap();
        let filler = Newcomer { filler: true, ..newcomer(1, A) };
        let Ok(Entered::Live(first)) = directory.enter(&key(), filler, Conflict::Refuse, 9, 9) else { panic!() };
        assert_eq!(directory.enter(&key(), newcomer(2, B), Conflict::Refuse, 9, 9), Ok(Entered::Standby));
        assert!(directory.is_vacant(&key()));
        let claim = directory.promote(&key(), ConnectionId(2), SwitchCause::Vacant).unwrap();
        assert_eq!(claim.previous, Some((A, first.generation)));
        assert!(!directory.stands_by(&key(), ConnectionId(1)) && !directory.is_vacant(&key()));
        assert_eq!(directory.publishers(), 1);
        let late = Newcomer { connection: ConnectionId(3), ..filler };
        assert_eq!(directory.enter(&key(), late, Conflict::Backup, 9, 9), Err(Reason::NameTaken));
        directory.release(&key(), claim.generation, Timestamp::ZERO);
        assert!(directory.is_awaited(&key()) && !directory.is_given_up(&key()));
        let Ok(Entered::Live(again)) = directory.enter(&key(), filler, Conflict::Refuse, 9, 9) else { panic!() };
        directory.release(&key(), again.generation, Timestamp::ZERO);
        assert!(directory.is_given_up(&key()));
    }

    #[test]
    fn a_stall_that_is_over_with_its_publisher_switches_nothing() {
        let (directory, first) = Directory::with_a_backup();
        let stalled = SwitchCause::Stalled(first.generation);
        let second = directory.promote(&key(), ConnectionId(2), stalled).unwrap();
        assert_eq!(second.previous, Some((A, first.generation)));
        assert!(!first.line.extend(Timestamp::from_millis(1)), "the former one adds nothing more");
        assert_eq!(directory.promote(&key(), ConnectionId(1), stalled), None);
    }

    #[test]
    fn who_is_chosen_by_command_is_the_primary_from_then_on() {
        let (directory, _) = Directory::with_a_backup();
        assert!(directory.promote(&key(), ConnectionId(2), SwitchCause::Command).is_some());
        assert!(!directory.prefers(&key(), ConnectionId(1)));
        assert_eq!(directory.seats(&key()).0.unwrap().rank, 0);
    }

    #[test]
    fn standbys_are_bounded_counted_and_lost_with_their_shard() {
        let (directory, first) = Directory::with_a_backup();
        let enter = |connection| directory.enter(&key(), newcomer(connection, B), Conflict::Backup, 9, 9);
        assert_eq!(enter(2), Err(Reason::NameTaken), "one seat for each connection");
        assert_eq!((enter(3), enter(4)), (Ok(Entered::Standby), Ok(Entered::Standby)));
        assert_eq!(enter(5), Err(Reason::Limit(Limit::Standbys)));
        assert_eq!(directory.publishers(), 4);
        directory.leave(&key(), ConnectionId(3));
        directory.purge(B);
        assert_eq!((directory.publishers(), directory.successor(&key())), (1, None));
        directory.release(&key(), first.generation, Timestamp::ZERO);
        assert_eq!((directory.publishers(), directory.names()), (0, 0));
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
