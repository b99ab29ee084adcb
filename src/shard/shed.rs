//! What a shard does when memory is short: it reads nobody for whom there is no room, and lets go of what it holds.
//!
//! First what is largest and comes back by itself (frames that only laggards still need, caches over their share), then
//! viewers who hold most and take nothing, then the other caches, then connections with long unfinished messages.
//! Everything that is let go is counted and told.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shard;
use super::env::Env;
use super::timers::Due;
use crate::clock::Now;
use crate::fact::{Fact, FactKind};
use crate::limits::{CONNECTION_BYTES, Limit};
use crate::reason::Reason;

impl<E: Env> Shard<E> {
    /// Looks at what the others hold: with that this turn's room is known.
    pub(super) fn see_memory(&mut self) {
        if self.memory.is_capped() {
            let own = usize::from(self.id.0);
            let (mut others, mut most, mut need) = (0, 0, 0);
            for (_, beat) in self.shared.beats.iter().enumerate().filter(|(index, _)| *index != own) {
                let held = beat.memory.load(Ordering::Relaxed);
                others += held;
                most += held.max(beat.memory_most.load(Ordering::Relaxed));
                need = beat.memory_need.load(Ordering::Relaxed).max(need);
            }
            let most_own = self.memory.begin_turn(others, most, need);
            self.shared.beats[own].memory_most.store(most_own, Ordering::Relaxed);
        }
    }

    /// Counts a connection anew.
    pub(super) fn recount_connection(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let cold = &mut connection.cold;
        let counted = (CONNECTION_BYTES + cold.session.held_bytes() + cold.replies) as u64;
        self.memory.connections = self.memory.connections + counted - cold.counted;
        cold.counted = counted;
    }

    /// Counts a stream anew.
    pub(super) fn recount_stream(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let counted = stream.memory();
        self.memory.streams = self.memory.streams + counted - stream.counted;
        stream.counted = counted;
    }

    /// A connection is not read before there is room again.
    pub(super) fn starve(&mut self, slot: usize, need: u64, now: Now) {
        self.counters.reads_put_off += 1;
        self.memory.starved_need = self.memory.starved_need.max(need);
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.cold.starved, true)
        {
            self.memory.starved.push(slot);
        }
        self.look_at_memory_again(now);
    }

    /// A timer looks again whether there is room: no event tells.
    pub(super) fn look_at_memory_again(&mut self, now: Now) {
        if !std::mem::replace(&mut self.memory.looks_again, true) {
            self.timers.arm(now.mono + LOOK_AGAIN, Due::Memory);
        }
    }

    /// Those who were not read for want of room are tried again.
    pub(super) fn memory_due(&mut self) {
        self.memory.looks_again = false;
        if !self.memory.starved.is_empty() {
            self.memory.sweep_all();
        }
        self.memory.starved_need = 0;
        for slot in std::mem::take(&mut self.memory.starved) {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.cold.starved = false;
            }
            self.resume_read(slot);
        }
    }

    /// Lets go of what is too much. If others hold that, they are woken to do so.
    pub(super) fn keep_to_memory(&mut self, now: Now) {
        if !self.memory.is_capped() || now.mono < self.memory.rests_until {
            return;
        }
        if self.memory.excess() > 0 {
            self.memory.sweep_all();
        }
        let held = self.memory.total();
        if self.memory.excess() > 0 {
            let cost = self.shed(now);
            self.tell_pressure(held, cost, now);
            if self.memory.excess() > 0 {
                // What is left is not to be had: it is not looked for in every turn.
                self.memory.rests_until = now.mono + LOOK_AGAIN;
                self.look_at_memory_again(now);
            }
        } else if self.memory.is_over() {
            self.wake_those_over_their_share();
            self.memory.rests_until = now.mono + LOOK_AGAIN;
            self.look_at_memory_again(now);
        }
    }

    fn wake_those_over_their_share(&self) {
        let share = self.memory.shed_share();
        for (beat, post) in self.shared.beats.iter().zip(&self.shared.shards) {
            if beat.memory.load(Ordering::Relaxed) > share {
                post.doorbell().ring();
            }
        }
    }

    /// Lets go until it is enough or nothing is left; how many caches, viewers and connections that cost.
    fn shed(&mut self, now: Now) -> u64 {
        let mut cost = self.shed_caches(false, now);
        if self.memory.excess() > 0 {
            cost += self.shed_viewers(now);
        }
        if self.memory.excess() > 0 {
            cost += self.shed_caches(true, now);
        }
        // What was let go of is room in a moment: no publisher ends for that moment.
        if self.memory.excess() > self.memory.released() {
            cost += self.shed_unfinished(now);
        }
        cost
    }

    /// Lets go of caches, the largest first: what only those need who are behind, then the rest. Without `all` none
    /// below its share.
    fn shed_caches(&mut self, all: bool, now: Now) -> u64 {
        let share = if all { 0 } else { self.memory.shed_share() / self.streams.len().max(1) as u64 };
        let mut caches: Vec<(u64, usize)> =
            self.streams.iter().map(|(index, stream)| (stream.weight(), index)).collect();
        caches.retain(|(bytes, _)| *bytes > share);
        caches.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut cost = 0;
        let mut let_go = 0;
        for (bytes, index) in caches {
            cost += self.shed_cache(index, share, now);
            let_go += bytes;
            if let_go >= self.memory.excess() {
                self.memory.sweep_all();
                let_go = 0;
                if self.memory.excess() == 0 {
                    return cost;
                }
            }
        }
        self.memory.sweep_all();
        cost
    }

    /// Lets go of what only those need who are behind, and of all the rest if the stream is larger than `share` after
    /// that; 1 if joiners lost their GOP.
    fn shed_cache(&mut self, index: usize, share: u64, now: Now) -> u64 {
        let Some(stream) = self.streams.get_mut(index) else { return 0 };
        // What the cohort was not offered yet is not lost for that.
        let keep_from = stream.offered();
        let mut frames = stream.log.shed_lag(keep_from);
        let mut gop = false;
        if stream.weight() > share {
            gop = stream.log.key().is_some_and(|key| key < keep_from);
            frames += stream.log.shed(keep_from);
        }
        stream.shrink();
        let standbys = if stream.weight() > share { self.shed_standbys(index, now) } else { 0 };
        if gop {
            self.tell_gop_shed(index, frames, now);
        }
        self.recount_stream(index);
        u64::from(gop) + standbys
    }

    /// There is no room for a longer table of frames: this stream's are let go of, and if that is not enough also those
    /// that the cohort was not offered yet. Each of its readers skips to the next keyframe then.
    pub(super) fn shed_instead_of_growing(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let had = stream.log.key().is_some();
        let mut frames = stream.log.shed(stream.offered());
        stream.shrink();
        self.recount_stream(index);
        let Some(stream) = self.streams.get_mut(index) else { return };
        if !self.memory.has_room(stream.growth() as u64) {
            frames += stream.log.shed(stream.log.head());
            stream.shrink();
            self.recount_stream(index);
        }
        if had && self.streams.get(index).is_some_and(|stream| stream.log.key().is_none()) {
            self.tell_gop_shed(index, frames, now);
        }
    }

    fn tell_gop_shed(&mut self, index: usize, frames: u64, now: Now) {
        let Some(stream) = self.streams.get(index) else { return };
        self.counters.caches_shed += 1;
        let mut fact = Fact::new(FactKind::GopDrop, now, self.id).stream(&stream.key).count(frames);
        fact.reason = Some(Reason::Limit(Limit::Memory));
        fact.who = stream.home().map(|home| home.who.clone());
        self.tell(fact);
    }

    /// Lets go of viewers who do not take what they are sent: first those who hold most. They are not told on their
    /// connections, which take nothing.
    fn shed_viewers(&mut self, now: Now) -> u64 {
        let slow = self.connections.iter().filter(|(_, connection)| {
            !connection.cold.plays.is_empty() && connection.cold.publishes.is_empty() && !connection.clear
        });
        let mut viewers: Vec<(u64, usize)> =
            slow.map(|(slot, connection)| (connection.cold.counted + self.behind_bytes(slot), slot)).collect();
        viewers.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let cost = self.lose_until_enough(&viewers, now);
        self.counters.viewers_shed += cost;
        cost
    }

    /// What waits for a viewer: in its connection, and in the logs from its places on.
    fn behind_bytes(&self, slot: usize) -> u64 {
        let Some(connection) = self.connections.get(slot) else { return 0 };
        let places = connection.cold.plays.iter().filter_map(|play| self.places.get(play.place));
        let in_logs = places.filter_map(|place| {
            let stream = self.streams.get(place.stream())?;
            let sub = stream.groups.get(place.group())?.subs.get(place.index())?;
            let next = place.cursor.as_ref().map_or(sub.at, |cursor| cursor.next());
            Some(stream.log.bytes_behind(next.max(stream.log.tail())))
        });
        in_logs.sum::<u64>() + connection.cold.pending_bytes as u64
    }

    /// Closes connections with unfinished messages, or replies that nobody takes: first those that hold most.
    fn shed_unfinished(&mut self, now: Now) -> u64 {
        let holding = self.connections.iter().filter(|(_, connection)| connection.cold.counted > UNFINISHED_MIN);
        let mut holders: Vec<(u64, usize)> =
            holding.map(|(slot, connection)| (connection.cold.counted, slot)).collect();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let cost = self.lose_until_enough(&holders, now);
        self.counters.connections_shed += cost;
        cost
    }

    fn lose_until_enough(&mut self, holders: &[(u64, usize)], now: Now) -> u64 {
        let mut cost = 0;
        let mut let_go = 0;
        for (bytes, slot) in holders {
            self.lose(*slot, Reason::Limit(Limit::Memory), now);
            cost += 1;
            let_go += *bytes;
            if let_go >= self.memory.excess() {
                self.memory.sweep_all();
                let_go = 0;
                if self.memory.excess() == 0 {
                    break;
                }
            }
        }
        self.memory.sweep_all();
        cost
    }

    /// One record for each second in which something was let go.
    fn tell_pressure(&mut self, held: u64, cost: u64, now: Now) {
        self.memory.cost += cost;
        if self.memory.cost == 0 || self.memory.told.is_some_and(|told| now.mono.since(told) < TOLD_APART) {
            return;
        }
        self.memory.told = Some(now.mono);
        let cost = std::mem::take(&mut self.memory.cost);
        let fact = Fact::new(FactKind::MemoryPressure, now, self.id).reason(Reason::Limit(Limit::Memory));
        self.tell(fact.totals(held, Duration::ZERO).count(cost));
    }
}

/// How soon is looked again whether there is memory.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Time between two records of one shard that memory is short.
const TOLD_APART: Duration = Duration::from_secs(1);
/// A connection that is counted with less holds nothing worth its end.
const UNFINISHED_MIN: u64 = 4 * CONNECTION_BYTES as u64;
