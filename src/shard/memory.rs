//! What a shard's memory is made of, and how much more of it may be taken.
//!
//! Counted in plain integers, as upper bounds: buffers that payloads are cut out of, for as long as any part of them
//! is held by anybody ([`Pins`]); what sessions hold; logs with all that belongs to them; rings of the host. One
//! relaxed store at each end of a turn tells the others; from what they told, a shard knows at the beginning of each
//! turn how much it may grow within it: its share of what is left, and what the others may still take is not left. So
//! all together stay below the cap although nobody asks anybody.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::clock::Instant;
use crate::limits::{
    ARENA_BYTES, CONNECTION_BYTES, MEMORY_REFUSE_PERCENT, MEMORY_SHED_PERCENT, PINS_PER_SWEEP, READ_BYTES_PER_TURN,
    RELEASED_FOR, STREAM_BYTES,
};

/// Buffers that payloads are cut out of: each counts whole until nobody holds any part of it.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// A slice of each buffer, and how large the buffer is. The oldest are in front until they are looked at.
    buffers: VecDeque<(Bytes, u64)>,
    bytes: u64,
}

impl Pins {
    /// Counts a buffer of so many bytes, of which `part` is a slice; a few others are looked at.
    pub(super) fn add(&mut self, part: Bytes, bytes: usize) {
        self.buffers.push_back((part, bytes as u64));
        self.bytes += bytes as u64;
        self.sweep(LOOKS_PER_PIN);
    }

    /// Lets go of those of the next `most` buffers that nobody else holds a part of.
    pub(super) fn sweep(&mut self, most: usize) {
        for _ in 0..most.min(self.buffers.len()) {
            let Some((part, bytes)) = self.buffers.pop_front() else { return };
            if part.is_unique() {
                self.bytes -= bytes;
            } else {
                self.buffers.push_back((part, bytes));
            }
        }
    }

    fn sweep_all(&mut self) {
        self.sweep(self.buffers.len());
    }
}

/// The most that connections and streams held without their buffers, in this stretch of time and in the one before:
/// what is made of many small pieces.
///
/// What is let go of of that is not given back at once: its pages hold other things too, or the allocator keeps them.
/// It may be had again for what is small, but not for a large buffer, before the program has asked for free pages
/// ([`crate::net::heap::trim`]) or has had the time to.
#[derive(Clone, Copy, Debug)]
struct Crest {
    now: u64,
    before: u64,
    since: Instant,
}

impl Crest {
    /// What is above `held`, which is so much from now on.
    fn above(&mut self, held: u64, now: Instant) -> u64 {
        let passed = now.since(self.since);
        if passed >= RELEASED_FOR {
            self.before = if passed < 2 * RELEASED_FOR { self.now } else { held };
            (self.now, self.since) = (held, now);
        }
        self.now = self.now.max(held);
        self.now.max(self.before).saturating_sub(held)
    }
}

/// The memory of one shard, and what it knows of the others'.
#[derive(Debug)]
pub(super) struct Memory {
    cap: Option<u64>,
    shards: u64,
    /// What the router holds before anybody comes.
    structure: u64,
    pub(super) pins: Pins,
    /// Sum over all connections of what each was counted with.
    pub(super) connections: u64,
    /// Sum over all streams of what each was counted with.
    pub(super) streams: u64,
    /// Slots of the host's rings.
    pub(super) rings: u64,
    crest: Crest,
    /// What was let go of a moment ago, and may still be resident.
    released: u64,
    /// What the structure and the other shards hold, when this turn began.
    others: u64,
    /// What was held then, and how much may be added in this turn.
    before: u64,
    room: u64,
    /// Connections that are not read before there is room again.
    pub(super) starved: Vec<usize>,
    /// The most that any of them needs.
    pub(super) starved_need: u64,
    /// The most that any connection of the others needs for that.
    others_need: u64,
    /// A timer is armed that looks again.
    pub(super) looks_again: bool,
    /// No look for what could be let go before.
    pub(super) rests_until: Instant,
    /// When pressure was told last.
    pub(super) told: Option<Instant>,
    /// What pressure has cost since then.
    pub(super) cost: u64,
}

impl Memory {
    pub(super) const fn new(cap: Option<u64>, shards: usize, structure: u64) -> Self {
        Self {
            cap,
            shards: if shards == 0 { 1 } else { shards as u64 },
            structure,
            pins: Pins { buffers: VecDeque::new(), bytes: 0 },
            connections: 0,
            streams: 0,
            rings: 0,
            crest: Crest { now: 0, before: 0, since: Instant::ZERO },
            released: 0,
            others: structure,
            before: 0,
            room: 0,
            starved: Vec::new(),
            starved_need: 0,
            others_need: 0,
            looks_again: false,
            rests_until: Instant::ZERO,
            told: None,
            cost: 0,
        }
    }

    /// Another cap, or another structure, from now on.
    pub(super) const fn set(&mut self, cap: Option<u64>, structure: u64) {
        self.others = (self.others + structure).saturating_sub(self.structure);
        (self.cap, self.structure) = (cap, structure);
    }

    pub(super) const fn is_capped(&self) -> bool {
        self.cap.is_some()
    }

    /// What this shard holds.
    pub(super) const fn used(&self) -> u64 {
        self.pins.bytes + self.connections + self.streams + self.rings
    }

    /// What this shard has let go of a moment ago, and may still be resident.
    pub(super) const fn released(&self) -> u64 {
        self.released
    }

    /// What the router holds, as far as this shard knows.
    pub(super) const fn total(&self) -> u64 {
        self.others + self.used()
    }

    /// A turn begins; the other shards hold `others` bytes together, and may hold `most` before their turns end; one of
    /// their connections is not read before there is room for `need`, or none. What this one may hold at the end of its
    /// own.
    pub(super) fn begin_turn(&mut self, others: u64, most: u64, need: u64) -> u64 {
        self.others = self.structure + others;
        self.others_need = need;
        self.before = self.used();
        let own = self.before + self.released;
        let taken = self.structure + most.max(others) + own;
        self.room = self.cap.map_or(u64::MAX, |cap| cap.saturating_sub(taken) / self.shards);
        own.saturating_add(self.room)
    }

    /// A turn ends with so many connections and streams.
    pub(super) fn end_turn(&mut self, connections: usize, streams: usize, now: Instant) {
        self.released = self.crest.above((connections * CONNECTION_BYTES + streams * STREAM_BYTES) as u64, now);
    }

    /// Whether so many bytes more may be taken in this turn.
    pub(super) const fn has_room(&self, bytes: u64) -> bool {
        let grown = self.used().saturating_sub(self.before);
        self.cap.is_none() || grown.saturating_add(bytes) <= self.room
    }

    /// Whether nobody new is let in.
    pub(super) fn refuses(&self) -> bool {
        self.cap.is_some() && self.total() >= self.mark(MEMORY_REFUSE_PERCENT)
    }

    /// What one of those needs who are not read for want of room; 0 if there is none.
    pub(super) fn need(&self) -> u64 {
        if self.starved.is_empty() { 0 } else { self.starved_need }
    }

    /// How many bytes this shard is to let go of: all that is too much, as far as it is more than its share.
    pub(super) fn excess(&self) -> u64 {
        let mark = self.enough();
        let over = self.total().saturating_sub(mark);
        over.min(self.used().saturating_sub(self.fair_share(mark)))
    }

    /// Whether the router holds more than it may, whoever is to let go of it.
    pub(super) fn is_over(&self) -> bool {
        self.total() > self.enough()
    }

    /// What one shard may hold when all hold the same and it is time to let go.
    pub(super) fn shed_share(&self) -> u64 {
        self.fair_share(self.enough())
    }

    /// More than this is too much. Where somebody is not read for want of room, there is to be room for every shard.
    fn enough(&self) -> u64 {
        let Some(cap) = self.cap else { return u64::MAX };
        let need = self.need().max(self.others_need);
        if need == 0 {
            return self.mark(MEMORY_SHED_PERCENT);
        }
        // Each of n shards gets so much although all others are in their turns: a share of n, with n - 1 taken.
        let all = (2 * self.shards - 1).saturating_mul(need);
        self.mark(MEMORY_REFUSE_PERCENT).min(cap.saturating_sub(all))
    }

    const fn fair_share(&self, mark: u64) -> u64 {
        mark.saturating_sub(self.structure) / self.shards
    }

    /// So much of what may come on top of what is there before anybody comes.
    fn mark(&self, percent: u64) -> u64 {
        let most = self.cap.map_or(u64::MAX, |cap| cap.saturating_sub(self.structure));
        self.structure + most / 100 * percent + most % 100 * percent / 100
    }

    /// Looks at all buffers.
    pub(super) fn sweep_all(&mut self) {
        self.pins.sweep_all();
    }

    /// What is worth a look once per second.
    pub(super) fn sweep_some(&mut self) {
        self.pins.sweep(PINS_PER_SWEEP);
    }
}

/// Buffers that are looked at for each new one: more than one, so that those that nobody needs do not pile up.
const LOOKS_PER_PIN: usize = 8;

/// What one read may take at most, besides a message that it makes grow: an arena, and what is gathered of it in a
/// buffer that doubles.
pub(super) const READ_ROOM: u64 = (ARENA_BYTES + 2 * READ_BYTES_PER_TURN) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const NOW: Instant = Instant(1_000_000_000);

    #[test]
    fn a_buffer_counts_whole_until_the_last_part_of_it_is_gone() {
        let mut pins = Pins::default();
        let whole = Bytes::from(vec![0; 1000]);
        let (kept, part) = (whole.slice(10..11), whole.slice(..1));
        pins.add(part, 1000);
        drop(whole);
        pins.sweep_all();
        assert_eq!(pins.bytes, 1000, "one byte of it is held");
        drop(kept);
        pins.sweep_all();
        assert_eq!((pins.bytes, pins.buffers.len()), (0, 0));
    }

    #[test]
    fn buffers_that_nobody_holds_do_not_pile_up_behind_one_that_is_kept() {
        let mut pins = Pins::default();
        let kept = Bytes::from(vec![0; 100]);
        pins.add(kept.slice(..1), 100);
        for _ in 0..1000 {
            pins.add(Bytes::from(vec![0; 100]).slice(..1), 100);
        }
        assert!(pins.buffers.len() <= 3, "{}", pins.buffers.len());
        assert!(pins.bytes >= 100);
    }

    #[test]
    fn a_shard_grows_in_one_turn_by_its_share_of_what_is_left() {
        let mut memory = Memory::new(Some(100 * MIB), 2, 20 * MIB);
        memory.begin_turn(40 * MIB, 40 * MIB, 0);
        assert!(memory.has_room(20 * MIB) && !memory.has_room(20 * MIB + 1));
        memory.connections += 18 * MIB;
        assert!(memory.has_room(2 * MIB) && !memory.has_room(2 * MIB + 1));
        memory.begin_turn(40 * MIB, 40 * MIB, 0);
        assert!(memory.has_room(11 * MIB) && !memory.has_room(11 * MIB + 1));
    }

    /// Two shards of which one takes many turns while the other is in a long one.
    #[test]
    fn what_a_shard_in_its_turn_may_still_take_is_nobody_elses() {
        let cap = 100 * MIB;
        let (mut long, mut short) = (Memory::new(Some(cap), 2, 0), Memory::new(Some(cap), 2, 0));
        let most = long.begin_turn(0, 0, 0);
        for _ in 0..100 {
            short.begin_turn(0, most, 0);
            let takes = short.room;
            assert!(short.has_room(takes));
            short.streams += takes;
        }
        long.streams += long.room;
        assert!(short.used() + long.used() <= cap, "{} + {}", short.used(), long.used());
        assert!(short.used() > 49 * MIB, "the half is all its own");
    }

    #[test]
    fn new_work_is_refused_before_anything_is_let_go_and_that_is_no_more_than_is_over_the_share() {
        // 100 MiB for two shards, on top of 20: refused from 105 on, let go from 115 on.
        let mut memory = Memory::new(Some(120 * MIB), 2, 20 * MIB);
        memory.streams = 44 * MIB;
        memory.begin_turn(40 * MIB, 0, 0);
        assert!(!memory.refuses());
        memory.streams += MIB;
        assert!(memory.refuses());
        assert_eq!((memory.excess(), memory.is_over()), (0, false));
        // One too many, but the other shard holds more than its share of 47.5 and this one less.
        memory.begin_turn(56 * MIB, 0, 0);
        memory.streams = 40 * MIB;
        assert_eq!((memory.excess(), memory.is_over()), (0, true));
        memory.begin_turn(40 * MIB, 0, 0);
        memory.streams = 56 * MIB;
        assert_eq!(memory.excess(), MIB);
        // Somebody waits for room, here or elsewhere: then there is to be some.
        memory.begin_turn(40 * MIB, 0, MIB);
        assert_eq!(memory.excess(), 11 * MIB);
        memory.begin_turn(40 * MIB, 0, 0);
        memory.starved.push(0);
        memory.starved_need = MIB;
        assert_eq!(memory.excess(), 11 * MIB);
    }

    #[test]
    fn what_is_small_and_was_let_go_of_is_no_room_for_a_moment() {
        const MANY: usize = (60 << 20) / CONNECTION_BYTES;
        let mut memory = Memory::new(Some(100 * MIB), 1, 0);
        memory.connections = 60 * MIB;
        memory.pins.add(Bytes::from(vec![0; 20 << 20]), 20 << 20);
        memory.end_turn(MANY, 0, NOW);
        memory.connections = 10 * MIB;
        memory.pins.sweep_all();
        memory.end_turn(MANY / 6, 0, NOW);
        assert_eq!((memory.used(), memory.released()), (10 * MIB, 50 * MIB), "a large buffer leaves nothing behind");
        memory.begin_turn(0, 0, 0);
        assert!(memory.has_room(40 * MIB) && !memory.has_room(40 * MIB + 1));
        memory.end_turn(MANY / 6, 0, NOW + RELEASED_FOR);
        assert_eq!(memory.released(), 50 * MIB, "it may just have been let go of");
        memory.end_turn(MANY / 6, 0, NOW + 2 * RELEASED_FOR);
        memory.begin_turn(0, 0, 0);
        assert!(memory.has_room(90 * MIB) && memory.released() == 0);
    }

    #[test]
    fn without_a_cap_there_is_always_room() {
        let mut memory = Memory::new(None, 1, 0);
        memory.begin_turn(0, 0, 0);
        memory.streams = u64::MAX / 4;
        assert!(memory.has_room(u64::MAX / 4) && !memory.refuses() && memory.excess() == 0);
    }
}
