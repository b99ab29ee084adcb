//! What crosses between threads: frames through rings, control beside them in order, commands from the host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Sender;

use super::host::{HostPublish, HostSubscribe};
use super::inspect::{ShardStats, StreamPart, SurveyPage};
use super::mesh::Link;
use super::shared::Config;
use crate::clock::Instant;
use crate::extension::{Decision, FrameSink, FrameSource};
use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Timestamp, TrackId};
use crate::protocol::{PlayOptions, Start};
use crate::reason::Reason;
use crate::stream::SwitchCause;

/// One slot of a ring: a frame, or something about frames that must keep its place among them.
#[derive(Debug)]
pub enum Message<C> {
    /// A frame.
    Frame(PackedFrame),
    /// Anything else.
    Control(Box<C>),
}

/// Between two shards.
pub type PeerMessage = Message<Control>;

const _: () = assert!(size_of::<PeerMessage>() == 56, "with its lap tag a message fills one cache line");

/// A frame in 56 bytes: what is constant on a link is left out.
#[derive(Debug)]
pub struct PackedFrame {
    payload: Bytes,
    dts: i64,
    /// Bits 24..64: pts - dts in ns, signed; bits 0..24: the receiver's slot of the stream.
    cts_and_slot: u64,
    /// Origin in units of 1,024 ns, modulo 2^32: unpacked relative to the receiver's clock.
    origin: u32,
    track: TrackId,
    kind: FrameKind,
    codec: Codec,
    flags: FrameFlags,
}

/// Streams that a shard may have slots for.
pub(super) const SLOTS_MAX: usize = 1 << 24;

impl PackedFrame {
    /// Packs a frame for the receiver's `slot`. The payload is shared, not copied.
    #[must_use]
    pub fn pack(frame: &Frame, slot: u32) -> Self {
        // 40 bits of nanoseconds are nine minutes of reordering; a stream with more is not decodable anyway.
        let cts = (frame.pts.0 - frame.dts.0).clamp(-(1 << 39), (1 << 39) - 1);
        Self {
            payload: frame.payload.clone(),
            dts: frame.dts.0,
            cts_and_slot: (cts.cast_unsigned() << 24) | u64::from(slot & 0xff_ffff),
            origin: low32(frame.origin.0 >> 10),
            track: frame.track,
            kind: frame.kind,
            codec: frame.codec,
            flags: frame.flags,
        }
    }

    /// The receiver's slot of the stream.
    #[must_use]
    pub const fn slot(&self) -> usize {
        (self.cts_and_slot & 0xff_ffff) as usize
    }

    /// Bytes of its payload.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// The frame; `now` is the receiver's clock, within half an hour of the origin.
    #[must_use]
    pub fn unpack(self, now: Instant) -> Frame {
        let age = low32(now.0 >> 10).wrapping_sub(self.origin).cast_signed();
        let origin = now - Duration::from_nanos(u64::from(age.max(0).cast_unsigned()) << 10);
        Frame {
            payload: self.payload,
            pts: Timestamp(self.dts + (self.cts_and_slot.cast_signed() >> 24)),
            dts: Timestamp(self.dts),
            origin,
            track: self.track,
            kind: self.kind,
            codec: self.codec,
            flags: self.flags,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low32(value: u64) -> u32 {
    value as u32
}

/// Between two shards, in order with the frames. `slot` is the receiver's slot of the stream.
#[derive(Debug)]
pub enum Control {
    /// Replica → home: send this stream to my `slot`.
    Subscribe {
        /// The stream.
        key: StreamKey,
        /// The life that the directory told of.
        generation: Generation,
        /// Where to send it.
        slot: u32,
    },
    /// Replica → home: nobody plays it here any more. Answered by `LinkEnd`.
    Unsubscribe {
        /// The stream.
        key: StreamKey,
        /// As subscribed.
        slot: u32,
    },
    /// Home → replica: the last message on this link.
    LinkEnd {
        /// The replica's slot.
        slot: u32,
        /// Why.
        reason: Reason,
    },
    /// Home → replica: this many frames are left out before the next one.
    Gap {
        /// The replica's slot.
        slot: u32,
        /// How many.
        frames: u64,
    },
    /// Home → replica: what was kept has been sent; what follows is live.
    Replayed {
        /// The replica's slot.
        slot: u32,
    },
    /// Home → replica, right after a timed frame: when that was appended at home. Left out where there is no room.
    Appended {
        /// The replica's slot.
        slot: u32,
        /// By the clock that all shards share.
        at: Instant,
    },
    /// New home → interested shards: the stream is here.
    Published {
        /// The stream.
        key: StreamKey,
        /// Its life.
        generation: Generation,
    },
    /// New home → old home: another publisher has the name now.
    TakenOver {
        /// The stream.
        key: StreamKey,
        /// The life that is over.
        generation: Generation,
    },
    /// To the shard of a publisher that stands by: it is to lead.
    Promote {
        /// The stream.
        key: StreamKey,
        /// The publisher.
        connection: ConnectionId,
        /// Why; if that does not hold any more nothing happens.
        cause: SwitchCause,
    },
    /// Replica → home: a viewer needs a keyframe.
    KeyframeWanted {
        /// The stream.
        key: StreamKey,
    },
}

/// To the thread of a host that subscribes, in order with the frames.
#[derive(Debug)]
pub enum HostNote {
    /// This many frames are left out before the next one, which is a keyframe unless nothing refers to those.
    Gap(u64),
    /// Nothing follows.
    End(Reason),
}

/// From another thread to a shard.
pub enum Command {
    /// A publisher of the host.
    Publish(Box<HostPublish>),
    /// A subscriber of the host.
    Subscribe(Box<HostSubscribe>),
    /// A sink of the host that runs on the shard.
    Attach(Box<Attach>),
    /// A source of the host that runs on the shard.
    Source(Box<RunSource>),
    /// Take a sink or a subscriber of the host off its stream.
    Detach(ConnectionId),
    /// An authenticator's answer.
    Answer(u64, Decision),
    /// Close one session, or the publisher of a stream.
    Kick(KickTarget, Sender<bool>),
    /// The stream is to go on with this publisher, which stands by.
    Switch(StreamKey, ConnectionId, Sender<Result<(), Reason>>),
    /// A viewer of the host needs a keyframe.
    WantKeyframe(StreamKey),
    /// Tell of one stream.
    Inspect(StreamKey, Sender<Option<StreamPart>>),
    /// Tell of some streams, from this slot on.
    Survey(usize, Sender<SurveyPage>),
    /// Tell the counters.
    Stats(Sender<ShardStats>),
    /// Keep to another configuration from now on.
    Configure(Arc<Config>),
    /// A peer was restarted: the old rings are dead, here are new ones.
    Rewire(ShardId, Box<Link>),
    /// Accept nothing new and end all sessions within this time.
    Drain(Duration),
    /// Fail on purpose: how tests see that a failure harms one shard only.
    Panic,
}

/// Whom to close.
#[derive(Clone, Debug)]
pub enum KickTarget {
    /// The publisher of this stream.
    Publisher(StreamKey),
    /// This connection.
    Connection(ConnectionId),
}

/// A sink of the host.
pub struct Attach {
    /// Which stream.
    pub key: StreamKey,
    /// As what it is known.
    pub connection: ConnectionId,
    /// Where to start.
    pub options: PlayOptions,
    /// The sink.
    pub sink: Box<dyn FrameSink>,
    /// The answer.
    pub reply: Sender<Result<(), Reason>>,
}

/// A source of the host.
pub struct RunSource {
    /// Which stream.
    pub key: StreamKey,
    /// As what it is known.
    pub connection: ConnectionId,
    /// The source.
    pub source: Box<dyn FrameSource>,
    /// The answer.
    pub reply: Sender<Result<(), Reason>>,
}

impl PlayOptions {
    /// Starting there, whatever the application says; all else as the application says.
    #[must_use]
    pub const fn starting(start: Start) -> Self {
        Self { start: Some(start), merge: None, max_age: None }
    }

    /// At the newest keyframe, at once.
    #[must_use]
    pub const fn instant() -> Self {
        Self::starting(Start::Instant)
    }

    /// At the next keyframe.
    #[must_use]
    pub const fn live() -> Self {
        Self::starting(Start::Live)
    }

    /// Never farther behind than this.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_survives_the_ring(
            dts in -1_000_000_000_000_000i64..1_000_000_000_000_000,
            cts in -500_000_000_000i64..500_000_000_000,
            slot in 0u32..(1 << 24), age in 0u64..1_000_000_000_000, codec in 0..Codec::ALL.len(), flags in 0u8..8,
        ) {
            let now = Instant(5_000_000_000_000);
            let frame = Frame {
                payload: Bytes::from_static(b"payload"),
                pts: Timestamp(dts + cts),
                dts: Timestamp(dts),
                origin: Instant(now.0 - age),
                track: TrackId(7),
                kind: FrameKind::Delta,
                codec: Codec::ALL[codec],
                flags: FrameFlags(flags),
            };
            let packed = PackedFrame::pack(&frame, slot);
            prop_assert_eq!(packed.slot(), slot as usize);
            let mut back = packed.unpack(now);
            prop_assert!(back.origin.0.abs_diff(frame.origin.0) < 2048);
            back.origin = frame.origin;
            prop_assert_eq!(back, frame);
        }

        #[test]
        fn a_receiver_whose_turn_began_before_the_origin_sees_age_zero(ahead in 0u64..1_000_000_000) {
            let now = Instant(5_000_000_000_000);
            let mut frame = Frame::audio(Codec::Aac, Timestamp(0), Bytes::new());
            frame.origin = Instant(now.0 + ahead);
            prop_assert!(PackedFrame::pack(&frame, 0).unpack(now).origin <= now);
        }
    }
}
