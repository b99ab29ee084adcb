//! StreamLog → packetizer → one `sendmsg` per connection.
//!
//! First those who are behind, each within a budget; then, for each stream with new frames, the cohort at the live
//! edge of each group: one gathered array serves all of them. A subscriber that can't take more keeps its place in
//! the log and nothing else; it is served again when its socket or ring has room.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;

use super::connection::Connection;
use super::env::Env;
use super::group::{Batch, Group, Packets, Slices, Subscriber, Target, for_each_piece, packet_len};
use super::host::HostEnd;
use super::inspect::Counters;
use super::mesh::Mesh;
use super::message::{Control, HostNote, Message, PackedFrame};
use super::{Shard, Skip};
use crate::clock::{Instant, Now};
use crate::extension::SinkVerdict;
use crate::fact::{Fact, FactKind};
use crate::limits::{CATCH_UP_BYTES_PER_TURN, SENDS_PER_TURN};
use crate::media::Frame;
use crate::reason::Reason;
use crate::stream::{Cursor, LagPolicy, LagVerdict, Position, StreamLog};

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
    pub(super) now: Instant,
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
        let mut budget = SENDS_PER_TURN;
        for _ in 0..self.dirty.len() {
            let Some(stream) = self.dirty.pop_front() else { break };
            work += 1;
            if !self.flush_stream(stream, now, &mut budget) {
                self.dirty.push_back(stream);
            }
            if budget == 0 {
                break;
            }
        }
        self.finish_the_gone(now);
        work
    }

    /// One round over those who are not at the live edge.
    fn serve_those_behind(&mut self, now: Now) -> usize {
        for place in std::mem::take(&mut self.retry) {
            self.behind.push_back(place);
        }
        let round = self.behind.len();
        for _ in 0..round {
            let Some(place) = self.behind.pop_front() else { break };
            self.serve(place, false, now);
        }
        round
    }

    /// Serves one subscriber from its own place; up to the end of the log if nothing follows.
    pub(super) fn serve(&mut self, place: usize, to_the_end: bool, now: Now) {
        let Some(entry) = self.places.get_mut(place) else { return };
        let (group_index, index, max_age) = (entry.group(), entry.index(), entry.max_age());
        let Some(stream) = self.streams.get_mut(entry.stream()) else { return };
        let ending = stream.ending.map(|(reason, _)| reason);
        let mut policy = stream.spec.lag;
        if let Some(age) = max_age {
            policy.max_age = age;
        }
        let group = &mut stream.groups[group_index];
        // What waited for company was not late for that.
        policy.max_age += group.hold();
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
            now: now.mono,
        };
        let edge = if to_the_end || ending.is_some() { stream.log.head() } else { group.edge };
        let cursor = sub.step_aside(&mut entry.cursor);
        let served = out.serve(sub, cursor, group.packets.as_mut(), &stream.log, &policy, edge);
        sub.step_in(&mut entry.cursor);
        match (served, ending) {
            (Served::Edge | Served::Waits, Some(reason)) => out.gone.push((place, reason)),
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
            now: now.mono,
        };
        let mut later = Instant::FAR;
        let mut done = true;
        for group in &mut stream.groups {
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
        let Some(stream) = self.streams.get(entry.stream()) else { return };
        let mut fact = Fact::new(FactKind::Skip, now, self.id).stream(&stream.key).count(skip.frames);
        fact.reason = Some(Reason::Lag);
        fact.who = self.who_of(entry.connection, skip.place);
        self.tell(fact);
    }
}

impl<E: Env> Outlets<'_, E> {
    /// Offers everything from the group's edge on to all who stand there. `false` if the budget ended first.
    fn flush_cohort(&mut self, group: &mut Group, log: &StreamLog, policy: &LagPolicy, budget: &mut usize) -> bool {
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

    /// Serves one subscriber from its own place up to `edge`.
    fn serve(
        &mut self,
        sub: &mut Subscriber,
        cursor: &mut Cursor,
        packets: Option<&mut Packets>,
        log: &StreamLog,
        policy: &LagPolicy,
        edge: u64,
    ) -> Served {
        if let Target::Connection(slot) = sub.target {
            let Some(connection) = self.connections.get_mut(slot) else { return Served::Gone(Reason::PeerClosed) };
            if connection.is_closing() {
                return Served::Gone(Reason::PeerClosed);
            }
            if !connection.writable {
                return Served::Blocked;
            }
        }
        let before = (cursor.skipped, cursor.skips);
        let verdict = cursor.settle(log, policy, self.now);
        if cursor.skips != before.1 {
            let frames = cursor.skipped - before.0;
            self.counters.skipped += frames;
            self.skips.push(Skip { place: sub.place, frames });
        }
        // Another shard is never given up: its readers would come back by the same way, for frames they had before.
        if verdict == LagVerdict::Evict && !matches!(sub.target, Target::Peer(..)) {
            return Served::Gone(Reason::Lag);
        }
        if cursor.position() == Position::AwaitingKey {
            return Served::Waits;
        }
        let served = match (&sub.target, packets) {
            (Target::Connection(slot), Some(packets)) => self.send_packets(*slot, sub, cursor, packets, log, edge),
            _ => self.push_frames(sub, cursor, log, edge),
        };
        if served == Served::Edge {
            cursor.arrive(log, policy, self.now);
        }
        served
    }

    /// Sends from the subscriber's own place: what the connection still owes, configuration, frames.
    fn send_packets(
        &mut self,
        slot: usize,
        sub: &mut Subscriber,
        cursor: &mut Cursor,
        packets: &mut Packets,
        log: &StreamLog,
        edge: u64,
    ) -> Served {
        let Some(connection) = self.connections.get_mut(slot) else { return Served::Gone(Reason::PeerClosed) };
        cursor.take_gap();
        if let Some(from) = cursor.config_owed()
            && cursor.next() < edge
        {
            push_config(connection, packets, log, from, cursor.next());
            cursor.take_config();
        }
        packets.cover(log, cursor.next());
        let mut budget = CATCH_UP_BYTES_PER_TURN;
        loop {
            let from = cursor.next();
            let mut seq = from;
            let mut slices = Slices::new();
            let mut room = true;
            for bytes in &connection.cold.pending {
                room = room && slices.push(bytes);
            }
            let mut selective = false;
            while room && seq < edge && slices.bytes < budget && !selective {
                if let (Some(packet), Some(frame)) = (packets.get(seq), log.frame(seq)) {
                    // While a track waits for its keyframe frames go one by one, so that what is admitted is sent.
                    selective = cursor.is_selective();
                    if selective && !cursor.admits(frame) {
                        break;
                    }
                    if !slices.push_packet(packet, &frame.payload) {
                        break;
                    }
                }
                seq += 1;
            }
            if slices.is_empty() {
                // Frames that this format does not carry, or that wait for their track's keyframe.
                let passed = if seq == from && seq < edge { seq + 1 } else { seq };
                cursor.advance(passed);
                if passed >= edge {
                    connection.clear = connection.writable && connection.cold.pending.is_empty();
                    return Served::Edge;
                }
                continue;
            }
            self.counters.sends += 1;
            let total = slices.bytes;
            let result = self.env.send(&mut connection.socket, slices.as_slice());
            let sent = match result {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    connection.fail();
                    return Served::Gone(Reason::Reset);
                }
            };
            self.counters.bytes_out += sent as u64;
            connection.took(self.now, sent);
            let media = connection.consume_pending(sent);
            let (next, frames, bytes) = account(connection, packets, log, from, seq, media);
            self.counters.deliveries += frames;
            sub.bytes += bytes;
            cursor.advance(next);
            if sent < total {
                connection.block(self.now);
                return Served::Blocked;
            }
            budget = budget.saturating_sub(sent);
            if next >= edge && connection.cold.pending.is_empty() {
                connection.clear = connection.writable;
                return Served::Edge;
            }
            if budget == 0 {
                return Served::More;
            }
        }
    }

    /// Hands frames as they are to a sink, a ring of the host, or another shard.
    fn push_frames(&mut self, sub: &mut Subscriber, cursor: &mut Cursor, log: &StreamLog, to: u64) -> Served {
        let mut seq = cursor.next();
        while seq < to {
            let Some(frame) = log.frame(seq) else { break };
            if !cursor.admits(frame) {
                seq += 1;
                continue;
            }
            if cursor.gap() > 0 {
                if !self.push_gap(&mut sub.target, cursor.gap()) {
                    cursor.advance(seq);
                    return Served::Full;
                }
                cursor.take_gap();
            }
            if let Some(from) = cursor.config_owed() {
                for (at, config) in log.configs_at(from, seq) {
                    match self.push_frame(&mut sub.target, config) {
                        // A ring smaller than all of it gets it in pieces, each once.
                        Ok(true) => cursor.take_config_at(at),
                        Ok(false) => {
                            cursor.advance(seq);
                            return Served::Full;
                        }
                        Err(reason) => return Served::Gone(reason),
                    }
                }
                cursor.take_config();
            }
            match self.push_frame(&mut sub.target, frame) {
                Ok(true) => sub.bytes += frame.payload.len() as u64,
                Ok(false) => {
                    cursor.advance(seq);
                    return Served::Full;
                }
                Err(reason) => return Served::Gone(reason),
            }
            seq += 1;
        }
        cursor.advance(seq);
        Served::Edge
    }

    fn push_frame(&mut self, target: &mut Target, frame: &Frame) -> Result<bool, Reason> {
        match target {
            Target::Sink(sink) => match sink.on_frame(frame) {
                SinkVerdict::Taken => self.counters.deliveries += 1,
                SinkVerdict::Busy => return Ok(false),
                SinkVerdict::Done => return Err(Reason::Ended),
            },
            Target::Host(host) => {
                let Some(end) = self.hosts.get_mut(*host) else { return Err(Reason::PeerClosed) };
                if !end.frames.has_room(1 + LAST_NOTES) {
                    return Ok(false);
                }
                match end.frames.push(Message::Frame(PackedFrame::pack(frame, 0))) {
                    Ok(()) => self.counters.deliveries += 1,
                    Err(error) => return refused(&error),
                }
                touch(end, *host, self.touched);
            }
            Target::Peer(shard, slot) => {
                if !self.mesh.frame(*shard, PackedFrame::pack(frame, *slot)) {
                    return Ok(false);
                }
                self.counters.relays += 1;
            }
            Target::Connection(_) => {}
        }
        Ok(true)
    }

    /// Marks frames that are left out, in order; `false` if there is no room for the mark.
    fn push_gap(&mut self, target: &mut Target, frames: u64) -> bool {
        match target {
            Target::Sink(sink) => sink.on_gap(frames),
            Target::Host(host) => {
                let Some(end) = self.hosts.get_mut(*host) else { return true };
                if !end.frames.has_room(1 + LAST_NOTES)
                    || end.frames.push(Message::Control(Box::new(HostNote::Gap(frames)))).is_err()
                {
                    return false;
                }
                end.skipped.fetch_add(frames, std::sync::atomic::Ordering::Relaxed);
                touch(end, *host, self.touched);
            }
            Target::Peer(shard, slot) => self.mesh.control(*shard, Control::Gap { slot: *slot, frames }),
            Target::Connection(_) => {}
        }
        true
    }
}

fn touch(end: &mut HostEnd, host: usize, touched: &mut Vec<usize>) {
    if !end.touched {
        end.touched = true;
        touched.push(host);
    }
}

fn refused<T>(error: &crate::ring::PushError<T>) -> Result<bool, Reason> {
    match error {
        crate::ring::PushError::Full(_) => Ok(false),
        crate::ring::PushError::Closed(_) => Err(Reason::PeerClosed),
    }
}

/// After a send that took `sent` bytes of the frames `from..to`: which frame is due next, how many are through,
/// and their payload bytes. The rest of a frame that is through in part is kept by the connection: bytes of two
/// messages never mix.
fn account<S>(
    connection: &mut Connection<S>,
    packets: &Packets,
    log: &StreamLog,
    from: u64,
    to: u64,
    mut sent: usize,
) -> (u64, u64, u64) {
    let (mut seq, mut frames, mut bytes) = (from, 0, 0);
    while seq < to {
        if let (Some(packet), Some(frame)) = (packets.get(seq), log.frame(seq)) {
            let len = packet_len(packet, &frame.payload);
            if sent == 0 && len > 0 {
                break;
            }
            frames += 1;
            bytes += frame.payload.len() as u64;
            if sent < len {
                keep_rest(connection, packet, frame, sent);
                return (seq + 1, frames, bytes);
            }
            sent -= len;
        }
        seq += 1;
    }
    (seq, frames, bytes)
}

fn keep_rest<S>(connection: &mut Connection<S>, packet: &crate::protocol::Packet, frame: &Frame, mut sent: usize) {
    let mut rest = Vec::new();
    for_each_piece(packet, &frame.payload, |piece| {
        let skip = sent.min(piece.len());
        sent -= skip;
        if skip < piece.len() {
            rest.push(&piece[skip..]);
        }
    });
    for piece in rest {
        // Payload is shared, header bytes are few.
        let bytes = if is_within(piece, &frame.payload) {
            frame.payload.slice_ref(piece)
        } else {
            Bytes::copy_from_slice(piece)
        };
        connection.push_media(bytes);
    }
}

fn is_within(piece: &[u8], payload: &[u8]) -> bool {
    payload.as_ptr_range().contains(&piece.as_ptr())
}

/// Configuration in force at `seq`, in the format, with the time of the frame there.
fn push_config<S>(connection: &mut Connection<S>, packets: &mut Packets, log: &StreamLog, from: u64, seq: u64) {
    let Some(start) = log.frame(seq).map(|frame| frame.dts) else { return };
    for config in log.configs(from, seq) {
        let mut config = config.clone();
        (config.pts, config.dts) = (start, start);
        let Some(packet) = packets.once(&config) else { continue };
        for_each_piece(&packet, &config.payload, |piece| {
            let bytes = if is_within(piece, &config.payload) {
                config.payload.slice_ref(piece)
            } else {
                Bytes::copy_from_slice(piece)
            };
            connection.push_media(bytes);
        });
    }
}

/// Slots of a host's ring that are kept for its last notes: frames that are left out at the end, and why it ends.
const LAST_NOTES: usize = 2;

const _: () = assert!(LAST_NOTES < crate::limits::HOST_RING_SLOTS_MIN);

/// How long a shard sleeps at most while a ring is full: nobody rings when it has room again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(2);
