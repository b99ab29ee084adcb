//! Frames as they are: to a sink, a ring of the host, or another shard.

use super::{Outlets, Served};
use crate::extension::SinkVerdict;
use crate::limits::HOST_RING_SLOTS_MIN;
use crate::media::Frame;
use crate::reason::Reason;
use crate::ring::PushError;
use crate::shard::env::Env;
use crate::shard::group::{Subscriber, Target};
use crate::shard::host::HostEnd;
use crate::shard::message::{Control, HostNote, Message, PackedFrame};
use crate::stream::{Cursor, StreamLog};

impl<E: Env> Outlets<'_, E> {
    /// Hands frames as they are to a sink, a ring of the host, or another shard.
    pub(super) fn push_frames(
        &mut self,
        sub: &mut Subscriber,
        cursor: &mut Cursor,
        log: &StreamLog,
        to: u64,
    ) -> Served {
        let mut seq = cursor.next();
        while seq < to {
            let Some(frame) = log.frame(seq) else { break };
            if !cursor.admits(frame) {
                seq += 1;
                continue;
            }
            if cursor.spares(frame) {
                cursor.advance(seq);
                cursor.pass(log, seq + 1);
                seq += 1;
                continue;
            }
            let Some(frame) = cursor.stamp(frame) else {
                seq += 1;
                continue;
            };
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
            match self.push_frame(&mut sub.target, &frame) {
                Ok(true) => {
                    sub.bytes += frame.payload.len() as u64;
                    if frame.is_timed() && frame.origin >= self.since && !matches!(sub.target, Target::Peer(..)) {
                        let at = self.env.instant();
                        self.times.accepted(seq, frame.origin, at, 1);
                    }
                }
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

    /// Hands over one frame; `false` if there is no room.
    pub(super) fn push_frame(&mut self, target: &mut Target, frame: &Frame) -> Result<bool, Reason> {
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
                if frame.is_timed()
                    && frame.origin >= self.since
                    && let Some(at) = self.times.appended(frame.origin)
                {
                    self.mesh.hint(*shard, Control::Appended { slot: *slot, at });
                }
            }
            Target::Connection(_) => {}
        }
        Ok(true)
    }

    /// Marks frames that are left out, in order; `false` if there is no room for the mark.
    pub(super) fn push_gap(&mut self, target: &mut Target, frames: u64) -> bool {
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

fn refused<T>(error: &PushError<T>) -> Result<bool, Reason> {
    match error {
        PushError::Full(_) => Ok(false),
        PushError::Closed(_) => Err(Reason::PeerClosed),
    }
}

/// Slots of a host's ring that are kept for its last notes: frames that are left out at the end, and why it ends.
const LAST_NOTES: usize = 2;

const _: () = assert!(LAST_NOTES < HOST_RING_SLOTS_MIN);
