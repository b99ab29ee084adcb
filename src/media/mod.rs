//! What flows: frames, the codecs they are in, and time.
//!
//! The kernel routes payloads without looking inside. What it must know of a frame (its track, whether a
//! decoder can start there, when it is due) stands beside the payload.

mod codec;
mod nal;
mod play;
mod time;

use bytes::Bytes;

pub use codec::{Codec, Media};
pub use nal::NalFormat;
pub use play::{Merge, Start};
pub use time::{Timestamp, WireClock, WireTimestamp};

use crate::clock::Instant;

/// A track of a stream: 0 .. [`TRACKS_MAX`](crate::limits::TRACKS_MAX) - 1, audio, video and data counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u8);

impl TrackId {
    /// The first video track, by convention of every built-in protocol.
    pub const VIDEO: Self = Self(0);
    /// The first audio track, by convention of every built-in protocol.
    pub const AUDIO: Self = Self(1);
    /// The metadata track (RTMP `onMetaData`), by convention of every built-in protocol.
    pub const METADATA: Self = Self(2);
}

/// What a frame is to a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A video frame at which a decoder can start (IDR, or what the codec calls it).
    Key = 0,
    /// A video frame that needs earlier ones.
    Delta = 1,
    /// An audio frame; a decoder can start at any.
    Audio = 2,
    /// A decoder configuration record, or metadata: replaces the one before it on its track, and is replayed
    /// to whoever joins later.
    Config = 3,
    /// Timed data (cue points, captions): not replayed.
    Data = 4,
}

/// Bits beside the kind of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameFlags(pub u8);

impl FrameFlags {
    /// Time or content jumps before this frame: another publisher, or a clock that was reset.
    pub const DISCONTINUITY: Self = Self(1);
    /// No other frame refers to this one (a non-reference B-frame): it may be left out alone.
    pub const DISPOSABLE: Self = Self(2);
    /// The router measures how long this frame takes. Set by the home of its stream alone, for one frame in as many as
    /// [`Config::sample_every`](crate::shard::Config::sample_every) says.
    pub const TIMED: Self = Self(4);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits that are not set in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One coded frame of one track.
///
/// A clone shares the payload. Payload formats by codec: H.264, H.265 and H.266 as NAL units with 4-byte
/// lengths (ISO/IEC 14496-15), their configuration as `AVCDecoderConfigurationRecord` and so on; AV1 as a
/// temporal unit of OBUs with sizes; AAC raw with an `AudioSpecificConfig`; everything else as one packet of its
/// codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The coded bytes.
    pub payload: Bytes,
    /// When to show it, on the stream's own timeline.
    pub pts: Timestamp,
    /// When to decode it: never falls within one track.
    pub dts: Timestamp,
    /// When it was there: the begin of the turn in which its last byte was read, or when the host sent it. Ages are
    /// counted from here.
    pub origin: Instant,
    /// Which track it belongs to.
    pub track: TrackId,
    /// What it is to a decoder.
    pub kind: FrameKind,
    /// The codec of the payload.
    pub codec: Codec,
    /// More about it.
    pub flags: FrameFlags,
}

impl Frame {
    /// A video frame of [`TrackId::VIDEO`] whose origin is set when it is sent.
    #[must_use]
    pub fn video(codec: Codec, key: bool, pts: Timestamp, dts: Timestamp, payload: Bytes) -> Self {
        let kind = if key { FrameKind::Key } else { FrameKind::Delta };
        Self {
            payload,
            pts,
            dts,
            origin: Instant::ZERO,
            track: TrackId::VIDEO,
            kind,
            codec,
            flags: FrameFlags::default(),
        }
    }

    /// An audio frame of [`TrackId::AUDIO`] whose origin is set when it is sent.
    #[must_use]
    pub fn audio(codec: Codec, pts: Timestamp, payload: Bytes) -> Self {
        Self {
            payload,
            pts,
            dts: pts,
            origin: Instant::ZERO,
            track: TrackId::AUDIO,
            kind: FrameKind::Audio,
            codec,
            flags: FrameFlags::default(),
        }
    }

    /// A decoder configuration record, valid from `dts` on.
    #[must_use]
    pub fn config(codec: Codec, dts: Timestamp, payload: Bytes) -> Self {
        let track = match codec.media() {
            Media::Video => TrackId::VIDEO,
            Media::Audio => TrackId::AUDIO,
            Media::Data => TrackId::METADATA,
        };
        Self {
            payload,
            pts: dts,
            dts,
            origin: Instant::ZERO,
            track,
            kind: FrameKind::Config,
            codec,
            flags: FrameFlags::default(),
        }
    }

    /// The same frame on another track.
    #[must_use]
    pub fn on_track(mut self, track: TrackId) -> Self {
        self.track = track;
        self
    }

    /// Whether the router measures how long it takes.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.flags.contains(FrameFlags::TIMED)
    }

    /// Whether a video decoder can start here.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.kind == FrameKind::Key
    }

    /// Whether it is a key or delta frame.
    #[must_use]
    pub fn is_video(&self) -> bool {
        matches!(self.kind, FrameKind::Key | FrameKind::Delta)
    }
}

/// What is known of one track, for people and for other protocols.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Which track.
    pub id: TrackId,
    /// Its codec.
    pub codec: Codec,
    /// Ticks per second of the publisher's timestamps (1,000 for RTMP).
    pub timescale: u32,
    /// The decoder configuration record in force, empty if the codec has none.
    pub config: Bytes,
    /// Coded width and height in pixels, where known.
    pub size: Option<(u32, u32)>,
    /// Audio channels, where known.
    pub channels: Option<u8>,
    /// BCP 47 tag, where known.
    pub language: Option<Box<str>>,
}
