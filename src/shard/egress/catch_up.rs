//! Those who are behind: one subscriber, from its own place, up to the edge or its budget.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::{Outlets, Served};
use crate::limits::{CATCH_UP_BYTES_PER_TURN, SEND_BYTES_MAX};
use crate::media::Frame;
use crate::protocol::Packet;
use crate::reason::Reason;
use crate::shard::Skip;
use crate::shard::connection::{Connection, Rest};
use crate::shard::env::Env;
use crate::shard::group::{Packets, Slices, Subscriber, Target, for_each_piece, packet_len};
use crate::stream::{Bounds, Cursor, LagPolicy, LagVerdict, Position, StreamLog};

impl<E: Env> Outlets<'_, E> {
    /// Serves one subscriber from its own place up to `edge`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one stream, borrowed one by one")]
    pub(super) fn serve(
        &mut self,
        sub: &mut Subscriber,
        cursor: &mut Cursor,
        packets: Option<&mut Packets>,
        log: &StreamLog,
        policy: &LagPolicy,
        bounds: Bounds,
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
        let verdict = cursor.settle(log, policy, bounds, self.now);
        if cursor.skips != before.1 {
            let frames = cursor.skipped - before.0;
            self.counters.skipped += frames;
            self.skips.push(Skip { place: sub.place, frames: frames + cursor.take_thinned() });
        }
        // Another shard is never given up: its readers would come back by the same way, for frames they had before.
        if verdict == LagVerdict::Evict && !matches!(sub.target, Target::Peer(..)) {
            return Served::Gone(Reason::Lag);
        }
        if cursor.position() == Position::AwaitingKey {
            return Served::Waits;
        }
        let before = cursor.skipped;
        let served = match (&sub.target, packets) {
            (Target::Connection(slot), Some(packets)) => self.send_packets(*slot, sub, cursor, packets, log, edge),
            _ => self.push_frames(sub, cursor, log, edge),
        };
        self.counters.skipped += cursor.skipped - before;
        if served == Served::Edge {
            cursor.arrive(log, policy, bounds.hold, self.now);
        }
        if !cursor.is_thinning() {
            // One record however many single frames it was spared in a row.
            let frames = cursor.take_thinned();
            if frames > 0 {
                self.skips.push(Skip { place: sub.place, frames });
            }
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
            push_config(connection, packets, log, from, cursor);
            cursor.take_config();
        }
        if cursor.is_squeezed()
            && let Some(served) = self.send_past(slot, sub, cursor, packets, log, edge)
        {
            return served;
        }
        let Some(connection) = self.connections.get_mut(slot) else { return Served::Gone(Reason::PeerClosed) };
        // Those who are not told of gaps are done with them here.
        cursor.take_gap();
        packets.cover(log, cursor.next(), edge);
        let mut budget = CATCH_UP_BYTES_PER_TURN;
        loop {
            let from = cursor.next();
            let mut seq = from;
            // A frame that is longer goes in pieces.
            let mut slices = Slices::new(SEND_BYTES_MAX);
            let mut room = true;
            for bytes in &connection.cold.pending {
                room = room && slices.push(bytes);
            }
            let mut selective = false;
            while room && seq < edge && slices.bytes < budget && !selective {
                if let (Some(packet), Some(frame)) = (packets.get(seq), log.frame(seq))
                    && !cursor.spares(frame)
                {
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
                cursor.pass(log, passed);
                cursor.take_gap();
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
            let through = connection.cold.pending.is_empty();
            let rest = connection.cold.rest.take_if(|_| through);
            let spared = |frame: &Frame| cursor.spares(frame);
            let (next, frames, bytes) = account(connection, sub.place, packets, log, from..seq, media, spared);
            connection.cold.rest.take_if(|rest| rest.origin < self.since);
            let whole = (from..whole_until(connection, next)).filter(|seq| !log.frame(*seq).is_some_and(spared));
            self.times.of_one(self.env, rest, packets, log, whole, self.since);
            self.counters.deliveries += frames;
            sub.bytes += bytes;
            cursor.pass(log, next);
            cursor.take_gap();
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
}

/// The end of the frames before `next` that are through to their last byte.
pub(super) fn whole_until<S>(connection: &Connection<S>, next: u64) -> u64 {
    if connection.cold.pending.is_empty() { next } else { next.saturating_sub(1) }
}

/// After a send that took `sent` bytes of the frames in `range`, save for those that the subscriber is spared: which
/// frame is due next, how many are through, and their payload bytes. The rest of a frame that is through in part is
/// kept by the connection: bytes of two messages never mix.
pub(super) fn account<S>(
    connection: &mut Connection<S>,
    place: usize,
    packets: &Packets,
    log: &StreamLog,
    range: Range<u64>,
    mut sent: usize,
    spared: impl Fn(&Frame) -> bool,
) -> (u64, u64, u64) {
    let (mut seq, mut frames, mut bytes) = (range.start, 0, 0);
    while seq < range.end {
        if let (Some(packet), Some(frame)) = (packets.get(seq), log.frame(seq))
            && !spared(frame)
        {
            let len = packet_len(packet, &frame.payload);
            if sent == 0 && len > 0 {
                break;
            }
            frames += 1;
            bytes += frame.payload.len() as u64;
            if sent < len {
                keep_rest(connection, packet, frame, sent);
                connection.cold.rest = frame.is_timed().then_some(Rest { place, seq, origin: frame.origin });
                return (seq + 1, frames, bytes);
            }
            sent -= len;
        }
        seq += 1;
    }
    (seq, frames, bytes)
}

fn keep_rest<S>(connection: &mut Connection<S>, packet: &Packet, frame: &Frame, mut sent: usize) {
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

/// Configuration in force where `cursor` stands, in the format, with the time of the frame there.
fn push_config<S>(
    connection: &mut Connection<S>,
    packets: &mut Packets,
    log: &StreamLog,
    from: u64,
    cursor: &Cursor,
) {
    let seq = cursor.next();
    let Some(start) = log.frame(seq).map(|frame| frame.dts) else { return };
    for config in log.configs(from, seq) {
        let mut config = config.clone();
        (config.pts, config.dts) = (start, start);
        let Some(config) = cursor.stamp(&config) else { continue };
        push_once(connection, packets, &config);
    }
}

/// A frame that only this subscriber gets in this form; whether the format carries it.
pub(super) fn push_once<S>(connection: &mut Connection<S>, packets: &mut Packets, frame: &Frame) -> bool {
    let Some(packet) = packets.once(frame) else { return false };
    for_each_piece(&packet, &frame.payload, |piece| {
        let bytes = if is_within(piece, &frame.payload) {
            frame.payload.slice_ref(piece)
        } else {
            Bytes::copy_from_slice(piece)
        };
        connection.push_media(bytes);
    });
    true
}
