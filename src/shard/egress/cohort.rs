//! Those at the live edge: one pass serves all of them.

use std::io;
use std::ops::Range;

use super::catch_up::{account, whole_until};
use super::{Outlets, Served};
use crate::clock::Instant;
use crate::extension::SinkVerdict;
use crate::limits::{CALL_PRICE_BYTES, SEND_BYTES_MAX, TIMED_TOGETHER};
use crate::reason::Reason;
use crate::shard::env::Env;
use crate::shard::group::{Batch, Group, Packets, Slices, Subscriber, Target};
use crate::stream::{LagPolicy, StreamLog};

/// What a flush offers to everybody at the edge of a group.
pub(in crate::shard) struct Offer<'a> {
    pub(in crate::shard) packets: &'a Packets,
    pub(in crate::shard) log: &'a StreamLog,
    policy: &'a LagPolicy,
    slices: &'a Slices<'a>,
    /// Payload bytes.
    payload: u64,
    from: u64,
    to: u64,
    /// From the first timed frame to the last one.
    pub(in crate::shard) timed: Range<u64>,
    /// Frames before it are not held any more.
    special: bool,
}

impl<E: Env> Outlets<'_, E> {
    /// Offers everything from the group's edge on to all who stand there. `false` if the budget ended first.
    pub(super) fn flush_cohort(
        &mut self,
        group: &mut Group,
        log: &StreamLog,
        policy: &LagPolicy,
        budget: &mut usize,
    ) -> bool {
        if group.packets.is_some() {
            return self.flush_packets(group, log, policy, budget);
        }
        self.flush_frames(group, log, policy);
        true
    }

    /// One gathered array of slices for all connections of the cohort.
    fn flush_packets(&mut self, group: &mut Group, log: &StreamLog, policy: &LagPolicy, budget: &mut usize) -> bool {
        let from = group.edge;
        let (mut to, visited) = group.under_way.unwrap_or_else(|| (group.released(log, self.now), 0));
        let Some(mut packets) = group.packets.take() else { return true };
        packets.cover(log, from, to);
        let mut slices = Slices::new(usize::MAX);
        let mut payload = 0;
        let mut timed = from..from;
        // What does not fit one send goes in a second pass.
        let mut seq = from;
        while seq < to {
            if let (Some(packet), Some(frame)) = (packets.get(seq), log.frame(seq)) {
                let long = slices.bytes + frame.payload.len() > SEND_BYTES_MAX;
                if !slices.is_empty() && (long || !slices.push_packet(packet, &frame.payload)) {
                    break;
                }
                if slices.is_empty() && (long || !slices.push_packet(packet, &frame.payload)) {
                    // Nobody gets it in one send: each goes on alone from here, in pieces.
                    for sub in group.round(0) {
                        self.set_aside(sub, policy);
                    }
                    group.packets = Some(packets);
                    group.finish_round(seq + 1);
                    return true;
                }
                payload += frame.payload.len() as u64;
                if frame.is_timed() && group.delay.is_zero() {
                    timed = if timed.is_empty() { seq } else { timed.start }..seq + 1;
                }
            }
            seq += 1;
        }
        to = seq;
        // What the log has let go of, or never had, is left out, and each is told so on its own.
        let special = from < log.tail();
        let price = slices.bytes + CALL_PRICE_BYTES;
        let most = (*budget / price).max(1);
        let mut sends = most;
        let offer = Offer { packets: &packets, log, policy, slices: &slices, payload, from, to, timed, special };
        let (served, visited) = if offer.timed.is_empty() {
            self.offer::<false>(group, &offer, visited, &mut sends)
        } else {
            self.offer::<true>(group, &offer, visited, &mut sends)
        };
        *budget = budget.saturating_sub((most - sends) * price);
        self.counters.sends += (most - sends) as u64;
        self.counters.deliveries += served * (to - from);
        self.counters.bytes_out += served * slices.bytes as u64;
        group.packets = Some(packets);
        if visited < group.subs.len() {
            group.under_way = Some((to, visited));
            return false;
        }
        group.finish_round(to);
        true
    }

    /// Sends it to one after another until `budget` sends are made; how many took all of it, and how many were visited.
    /// Apart from what surrounds it, and from itself with timed frames, so that the loop has all registers.
    #[inline(never)]
    fn offer<const TIMED: bool>(
        &mut self,
        group: &mut Group,
        offer: &Offer<'_>,
        mut visited: usize,
        budget: &mut usize,
    ) -> (u64, usize) {
        let &Offer { packets, log, policy, slices, payload, from, to, special, .. } = offer;
        let (mut served, mut told) = (0, 0);
        // Where the next look at the clock is due: first after one send.
        let mut look = budget.saturating_sub(1);
        for sub in group.round(visited) {
            if TIMED && *budget == look {
                self.times.of_cohort(self.env, offer, served - told);
                (told, look) = (served, budget.saturating_sub(TIMED_TOGETHER));
            }
            if *budget == 0 {
                break;
            }
            visited += 1;
            if sub.at != from || special {
                self.set_aside(sub, policy);
                continue;
            }
            let Target::Connection(slot) = sub.target else { continue };
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            if !connection.clear {
                if self.now.since(connection.blocked_since) >= policy.evict_window
                    && connection.blocked_since < Instant::FAR
                {
                    self.gone.push((sub.place, Reason::Lag));
                }
                continue;
            }
            if slices.is_empty() {
                sub.at = to;
                continue;
            }
            *budget -= 1;
            match self.env.send(&mut connection.socket, slices.as_slice()) {
                Ok(sent) if sent == slices.bytes => {
                    connection.bytes_out += sent as u64;
                    sub.bytes += payload;
                    sub.at = to;
                    served += 1;
                }
                Ok(sent) => {
                    connection.took(self.now, sent);
                    self.counters.bytes_out += sent as u64;
                    let (next, frames, bytes) =
                        account(connection, sub.place, packets, log, from..to, sent, |_| false);
                    connection.cold.rest.take_if(|rest| rest.origin < self.since);
                    let whole = whole_until(connection, next);
                    if TIMED {
                        self.times.of_one(self.env, None, packets, log, from..whole, Instant::ZERO);
                    }
                    self.counters.deliveries += frames;
                    sub.bytes += bytes;
                    sub.at = next;
                    connection.block(self.now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.block(self.now),
                Err(_) => {
                    connection.fail();
                    self.gone.push((sub.place, Reason::Reset));
                }
            }
        }
        if TIMED {
            self.times.of_cohort(self.env, offer, served - told);
        }
        (served, visited)
    }

    /// The frames as they are for all sinks, rings of the host and other shards of the cohort.
    fn flush_frames(&mut self, group: &mut Group, log: &StreamLog, policy: &LagPolicy) {
        let (from, to) = (group.edge, group.released(log, self.now));
        let Some(first) = log.frame(from) else {
            for sub in group.round(0) {
                self.set_aside(sub, policy);
            }
            return group.finish_round(to);
        };
        let batch = Batch::gather(log, from..to, first);
        if batch.timed && group.delay.is_zero() {
            self.hand_timed(group, &batch, from, policy);
        } else {
            self.hand_all(group, &batch, from, policy);
        }
        group.finish_round(from + batch.len());
    }

    /// Hands a batch to everybody. Apart from what surrounds it, so that the loop has all registers.
    #[inline(never)]
    fn hand_all(&mut self, group: &mut Group, batch: &Batch<'_>, from: u64, policy: &LagPolicy) {
        let mut by_sinks = 0;
        for sub in group.round(0) {
            self.hand_to(sub, batch, from, policy, &mut by_sinks);
        }
        self.counters.deliveries += by_sinks;
    }

    /// The same with timed frames among them.
    #[cold]
    #[inline(never)]
    fn hand_timed(&mut self, group: &mut Group, batch: &Batch<'_>, from: u64, policy: &LagPolicy) {
        let mut by_sinks = 0;
        // Those who took all of it since the last look at the clock, and how many there may be.
        let (mut together, mut most) = (0, 1);
        for sub in group.round(0) {
            let is_peer = matches!(sub.target, Target::Peer(..));
            let taken = self.hand_to(sub, batch, from, policy, &mut by_sinks);
            if is_peer {
                continue;
            }
            if taken < batch.len() {
                self.times.of_batch(self.env, batch, from..from + taken, 1);
                continue;
            }
            together += 1;
            if together == most {
                self.times.of_batch(self.env, batch, from..from + taken, together);
                (together, most) = (0, TIMED_TOGETHER as u64);
            }
        }
        self.times.of_batch(self.env, batch, from..from + batch.len(), together);
        self.counters.deliveries += by_sinks;
    }

    /// Hands what it takes of a batch to one subscriber; how many frames that are.
    #[inline(always)]
    fn hand_to(
        &mut self,
        sub: &mut Subscriber,
        batch: &Batch<'_>,
        from: u64,
        policy: &LagPolicy,
        by_sinks: &mut u64,
    ) -> u64 {
        if sub.at != from {
            self.set_aside(sub, policy);
            return 0;
        }
        let mut taken = 0;
        let stop = match &mut sub.target {
            Target::Sink(sink) => {
                let stop = batch.iter().find_map(|frame| match sink.on_frame(frame) {
                    SinkVerdict::Taken => {
                        taken += 1;
                        None
                    }
                    SinkVerdict::Busy => Some(Served::Full),
                    SinkVerdict::Done => Some(Served::Gone(Reason::Ended)),
                });
                *by_sinks += taken;
                stop
            }
            target => batch.iter().find_map(|frame| match self.push_frame(target, frame) {
                Ok(true) => {
                    taken += 1;
                    None
                }
                Ok(false) => Some(Served::Full),
                Err(reason) => Some(Served::Gone(reason)),
            }),
        };
        let Some(stop) = stop else {
            sub.at = from + taken;
            sub.bytes += batch.bytes;
            return taken;
        };
        sub.at += taken;
        sub.bytes += batch.iter().zip(0..taken).map(|(frame, _)| frame.payload.len() as u64).sum::<u64>();
        if let Served::Gone(reason) = stop {
            self.gone.push((sub.place, reason));
        } else {
            sub.queued = true;
            self.retry.push(sub.place);
        }
        taken
    }

    /// One who is not in the cohort is served on its own, if it can take anything.
    fn set_aside(&mut self, sub: &mut Subscriber, policy: &LagPolicy) {
        if sub.queued || sub.paused {
            return;
        }
        if let Target::Connection(slot) = sub.target {
            let Some(connection) = self.connections.get(slot) else { return };
            if !connection.writable {
                if connection.blocked_since < Instant::FAR
                    && self.now.since(connection.blocked_since) >= policy.evict_window
                {
                    self.gone.push((sub.place, Reason::Lag));
                }
                return;
            }
        }
        sub.queued = true;
        self.behind.push_back(sub.place);
    }
}
