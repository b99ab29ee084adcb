//! Those at the live edge: one pass serves all of them.

use std::io;

use super::catch_up::account;
use super::{Outlets, Served};
use crate::clock::Instant;
use crate::extension::SinkVerdict;
use crate::reason::Reason;
use crate::shard::env::Env;
use crate::shard::group::{Batch, Group, Slices, Subscriber, Target};
use crate::stream::{LagPolicy, StreamLog};

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
        let (from, head) = (group.edge, log.head());
        let (mut to, mut visited) = group.under_way.unwrap_or((head, 0));
        let Some(mut packets) = group.packets.take() else { return true };
        packets.cover(log, from);
        let mut slices = Slices::new();
        let mut payload = 0;
        // What does not fit one send goes in a second pass.
        let mut seq = from;
        while seq < to {
            if let (Some(packet), Some(frame)) = (packets.get(seq), log.frame(seq)) {
                if !slices.push_packet(packet, &frame.payload) && !slices.is_empty() {
                    break;
                }
                payload += frame.payload.len() as u64;
            }
            seq += 1;
        }
        to = seq;
        // What the log has let go of, or never had, is left out, and each is told so on its own.
        let special = from < log.tail();
        let before = *budget;
        let mut served = 0;
        for sub in group.round(visited) {
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
                    let (next, frames, bytes) = account(connection, &packets, log, from, to, sent);
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
        self.counters.sends += (before - *budget) as u64;
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

    /// The frames as they are for all sinks, rings of the host and other shards of the cohort.
    fn flush_frames(&mut self, group: &mut Group, log: &StreamLog, policy: &LagPolicy) {
        let (from, head) = (group.edge, log.head());
        let batch = Batch::gather(log, from);
        let to = batch.as_ref().map_or(head, |batch| from + batch.len());
        let Some(batch) = batch else {
            for sub in group.round(0) {
                self.set_aside(sub, policy);
            }
            return group.finish_round(to);
        };
        let mut taken_by_sinks = 0;
        for sub in group.round(0) {
            if sub.at != from {
                self.set_aside(sub, policy);
                continue;
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
                    taken_by_sinks += taken;
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
                sub.at = to;
                sub.bytes += batch.bytes;
                continue;
            };
            sub.at += taken;
            sub.bytes += batch.iter().zip(0..taken).map(|(frame, _)| frame.payload.len() as u64).sum::<u64>();
            if let Served::Gone(reason) = stop {
                self.gone.push((sub.place, reason));
            } else {
                sub.queued = true;
                self.retry.push(sub.place);
            }
        }
        self.counters.deliveries += taken_by_sinks;
        group.finish_round(to);
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
