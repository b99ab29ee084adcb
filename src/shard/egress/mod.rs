//! StreamLog → packetizer → one `sendmsg` per connection.
//!
//! First those who are behind, each within a budget (`catch_up.rs`, `past.rs`); then, for each stream with new frames,
//! the cohort at the live edge of each group: one gathered array serves all of them (`cohort.rs`). Sinks, the host's
//! rings and other shards are handed frames as they are (`hand_over.rs`). A subscriber that can't take more keeps its
//! place in the log and nothing else; it is served again when its socket or ring has room.

mod catch_up;
mod cohort;
mod hand_over;
mod past;

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;

pub(super) use cohort::Offer;

use super::connection::Connection;
use super::env::Env;
use super::group::Target;
use super::host::HostEnd;
use super::inspect::Counters;
use super::mesh::Mesh;
use super::message::Control;
use super::meter::Times;
use super::{Shard, Skip};
use crate::clock::{Instant, Now};
use crate::fact::{Fact, FactKind};
use crate::limits::{BEHIND_BYTES_PER_TURN, EDGE_BYTES_PER_ROUND, EDGE_BYTES_PER_TURN};
use crate::reason::Reason;
use crate::stream::Bounds;

/// Everything that a delivery needs besides the stream itself.
pub(super) struct Outlets<'a, E: Env> {
    pub(super) env: &'a mut E,
    pub(super) connections: &'a mut Slab<Connection<E::Socket>>,
    pub(super) hosts: &'a mut Slab<HostEnd>,
    pub(super) mesh: &'a mut Mesh,
    pub(super) counters: &'a mut Counters,
    pub(super) behind: &'a mut VecDeque<usize>,
    pub(super) retry: &'a mut Vec<usize>,
    pub(super) touched: &'a mut Vec<usize>,
    pub(super) gone: &'a mut Vec<(usize, Reason)>,
    pub(super) skips: &'a mut Vec<Skip>,
    pub(super) times: Times<'a>,
    pub(super) now: Instant,
    /// When the one who is served came: timed frames from before are a replay to it. Zero for a cohort.
    pub(super) since: Instant,
}

/// How far a subscriber was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// Up to the edge.
    Edge,
    /// Nothing more before the next keyframe.
    Waits,
    /// Its budget of this turn is used up.
    More,
    /// It takes no more now; its socket says when.
    Blocked,
    /// Its ring is full, or its sink is busy: nobody says when.
    Full,
    /// It is over.
    Gone(Reason),
}

impl<E: Env> Shard<E> {
    pub(super) fn egress(&mut self, now: Now) -> usize {
        let mut work = self.serve_those_behind(now);
        let mut budget = EDGE_BYTES_PER_TURN;
        while budget > 0 {
            let Some(stream) = self.dirty.pop_front() else { break };
            work += 1;
            let share = EDGE_BYTES_PER_ROUND.min(budget);
            let mut left = share;
            if !self.flush_stream(stream, now, &mut left) {
                self.dirty.push_back(stream);
            }
            budget -= share - left;
        }
        self.finish_the_gone(now);
        work
    }

    /// One round over those who are not at the live edge, as far as the budget of all of them goes.
    fn serve_those_behind(&mut self, now: Now) -> usize {
        for place in std::mem::take(&mut self.retry) {
            self.behind.push_back(place);
        }
        let start = self.spent();
        let mut work = 0;
        for _ in 0..self.flushing.len() {
            if self.spent() - start >= BEHIND_BYTES_PER_TURN {
                break;
            }
            let Some(slot) = self.flushing.pop_front() else { break };
            work += 1;
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.cold.flushing = false;
                self.on_writable(slot, now);
            }
        }
        for _ in 0..self.behind.len() {
            if self.spent() - start >= BEHIND_BYTES_PER_TURN {
                break;
            }
            let Some(place) = self.behind.pop_front() else { break };
            work += 1;
            self.serve(place, false, now);
        }
        work
    }

    /// Serves one subscriber from its own place; up to the end of the log if nothing follows.
    pub(super) fn serve(&mut self, place: usize, to_the_end: bool, now: Now) {
        self.look_at_pace(place, now.mono);
        if self.memory.is_capped() && !self.has_room_to_serve(place, to_the_end) {
            // It keeps its place in line: what is let go of meanwhile makes room.
            self.retry.push(place);
            return self.look_at_memory_again(now);
        }
        let Some(entry) = self.places.get_mut(place) else { return };
        let (group_index, index, max_age, since) = (entry.group(), entry.index(), entry.max_age(), entry.started);
        let Some(stream) = self.streams.get_mut(entry.stream()) else { return };
        let ending = stream.ending.map(|(reason, _)| reason);
        let mut policy = stream.spec.lag;
        if let Some(age) = max_age {
            policy.max_age = age;
        }
        let group = &mut stream.groups[group_index];
        if let Target::Connection(slot) = group.subs[index].target
            && let Some(connection) = self.connections.get(slot)
        {
            // Its budget is the age at which the viewer gets a frame, so that what the socket adds is taken off.
            policy.max_age -= connection.dwell().min(policy.max_age * 3 / 4);
        }
        // What waited for company, or for its time, was not late for that.
        let delayed = !group.delay.is_zero();
        let hold = group.hold();
        policy.max_age += hold;
        let group_released = group.released(&stream.log, now.mono);
        let sub = &mut group.subs[index];
        sub.queued = false;
        if sub.paused {
            return;
        }
        let mut out = Outlets {
            env: &mut self.env,
            connections: &mut self.connections,
            hosts: &mut self.hosts,
            mesh: &mut self.mesh,
            counters: &mut self.counters,
            behind: &mut self.behind,
            retry: &mut self.retry,
            touched: &mut self.touched,
            gone: &mut self.gone,
            skips: &mut self.skips,
            times: Times { shard: &mut self.stages, stream: &mut stream.meter },
            now: now.mono,
            since: if delayed { Instant::FAR } else { since },
        };
        let edge = match () {
            () if delayed => group_released,
            () if to_the_end || ending.is_some() => stream.log.head(),
            () => group.edge,
        };
        // At a skip the newest keyframe counts, also if the others do not have it yet.
        let limit = if delayed { edge } else { stream.log.head() };
        let bounds = Bounds { limit, hold, thins: !matches!(sub.target, Target::Peer(..)) };
        let cursor = sub.step_aside(&mut entry.cursor);
        let served = out.serve(sub, cursor, group.packets.as_mut(), &stream.log, &policy, bounds, edge);
        sub.step_in(&mut entry.cursor);
        let index = entry.stream();
        if matches!(served, Served::Edge | Served::Waits)
            && let Target::Peer(shard, slot) = sub.target
            && let Some(terms) = entry.terms.as_mut()
            && std::mem::take(&mut terms.replays)
        {
            out.mesh.control(shard, Control::Replayed { slot });
        }
        let over = !delayed || edge == stream.log.head();
        match (served, ending) {
            (Served::Edge | Served::Waits, Some(reason)) if over => out.gone.push((place, reason)),
            (Served::Gone(reason), _) => out.gone.push((place, reason)),
            (Served::More, _) => {
                sub.queued = true;
                out.behind.push_back(place);
            }
            (Served::Full, _) => {
                sub.queued = true;
                out.retry.push(place);
            }
            (Served::Edge | Served::Waits | Served::Blocked, _) => {}
        }
        if self.memory.is_capped() {
            // Packets may have been made for it.
            self.recount_stream(index);
        }
    }

    /// Whether there is room for the packets that one subscriber needs and nobody else has needed yet.
    fn has_room_to_serve(&mut self, place: usize, to_the_end: bool) -> bool {
        let Some(entry) = self.places.get(place) else { return true };
        let Some(stream) = self.streams.get_mut(entry.stream()) else { return true };
        let group = &mut stream.groups[entry.group()];
        let sub = &group.subs[entry.index()];
        let next = entry.cursor.as_ref().map_or(sub.at, |cursor| cursor.next());
        let to = if to_the_end || stream.ending.is_some() { stream.log.head() } else { group.edge };
        let Some(packets) = &mut group.packets else { return true };
        let cost = packets.cost(&stream.log, next, to);
        cost == 0 || self.memory.has_room(cost)
    }

    /// Flushes the groups of one stream that are due; `false` if the budget ended first.
    fn flush_stream(&mut self, index: usize, now: Now, budget: &mut usize) -> bool {
        let Some(stream) = self.streams.get_mut(index) else { return true };
        let mut out = Outlets {
            env: &mut self.env,
            connections: &mut self.connections,
            hosts: &mut self.hosts,
            mesh: &mut self.mesh,
            counters: &mut self.counters,
            behind: &mut self.behind,
            retry: &mut self.retry,
            touched: &mut self.touched,
            gone: &mut self.gone,
            skips: &mut self.skips,
            times: Times { shard: &mut self.stages, stream: &mut stream.meter },
            now: now.mono,
            since: Instant::ZERO,
        };
        let mut later = Instant::FAR;
        let mut done = true;
        for group in &mut stream.groups {
            // Who wants to be behind tells nothing about the time that frames take.
            out.since = if group.delay.is_zero() { Instant::ZERO } else { Instant::FAR };
            if group.subs.is_empty() {
                group.edge = stream.log.head();
                continue;
            }
            while group.edge < stream.log.head() {
                if let Err(at) = group.due(&stream.log, now.mono) {
                    later = later.min(at);
                    break;
                }
                if !out.flush_cohort(group, &stream.log, &stream.spec.lag, budget) {
                    done = false;
                    break;
                }
            }
            if stream.ending.is_some() && !group.delay.is_zero() && group.edge == stream.log.head() {
                // The last frame was old enough: now they are told the end.
                group.queue_all(out.behind);
            }
        }
        stream.log.sweep();
        stream.dirty = !done;
        if later < Instant::FAR {
            self.arm_stream(index, later);
        }
        done
    }

    /// Takes those off their streams who are over.
    pub(super) fn finish_the_gone(&mut self, now: Now) {
        while let Some(skip) = self.skips.pop() {
            self.tell_skip(skip, now);
        }
        while let Some((place, reason)) = self.gone.pop() {
            self.end_subscriber(place, reason, now);
        }
    }

    fn tell_skip(&mut self, skip: Skip, now: Now) {
        let Some(entry) = self.places.get(skip.place) else { return };
        let Some(stream) = self.streams.get_mut(entry.stream()) else { return };
        stream.skipped += skip.frames;
        let mut fact = Fact::new(FactKind::Skip, now, self.id).stream(&stream.key).count(skip.frames);
        fact.reason = Some(Reason::Lag);
        fact.who = self.who_of(entry.connection, skip.place);
        self.tell(fact);
    }
}

/// How long a shard sleeps at most while a ring is full: nobody rings when it has room again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(2);
