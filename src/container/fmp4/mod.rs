//! Fragmented MP4 (ISO/IEC 14496-12) as CMAF (ISO/IEC 23000-19), HLS and DASH have it, and plain MP4 files.
//!
//! [`Muxer`] writes an initialization segment for some tracks, then one fragment after the other: the headers are new
//! bytes, the payloads are those of the frames. [`Demuxer`] is given bytes as they come and yields tracks and frames;
//! [`Progressive`] reads a file that is not fragmented, in order of time.
//!
//! First tracks of a file get the ids that they have by convention ([`TrackId::VIDEO`](crate::media::TrackId::VIDEO),
//! [`TrackId::AUDIO`](crate::media::TrackId::AUDIO)), further ones those behind them. A track's edit list moves its
//! time by its first edit. Left out: encryption, subtitles and metadata, more than one sample entry of a track, and
//! edits behind the first.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod boxes;
mod demux;
mod entry;
mod entry_read;
mod fragment;
mod index;
mod init;
mod movie;
mod progressive;
mod runs;

use crate::codec::CodecError;
use crate::media::{Codec, Frame, Track, TrackId};

pub use boxes::FourCc;
pub use demux::Demuxer;
pub use fragment::{Fragment, Head, Muxer, Run};
pub use index::{Starts, segment_index};
pub use progressive::{Progressive, ReadError};

/// What comes out of a file or a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A track, before its first frame; and again where another movie box follows. Its timescale is that of the file.
    Track(Track),
    /// A frame of a track. Its flags may hold [`DISPOSABLE`](crate::media::FrameFlags::DISPOSABLE).
    Frame(Frame),
}

/// What is wrong with bytes that should be MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// A box ends within its fields.
    #[error("box {0} ends within its fields")]
    Cut(FourCc),
    /// A box is smaller than its header, or larger than what it is in.
    #[error("box {0} has an impossible size")]
    Size(FourCc),
    /// A box that must be there is not.
    #[error("box {0} is missing")]
    Missing(FourCc),
    /// A box holds a value that cannot be.
    #[error("box {0} holds a value that it must not")]
    Value(FourCc),
    /// A box is longer than [`MP4_BOX_BYTES_MAX`](crate::limits::MP4_BOX_BYTES_MAX), or
    /// [`MP4_INDEX_BYTES_MAX`](crate::limits::MP4_INDEX_BYTES_MAX) in a file that is not fragmented.
    #[error("box {0} is longer than is allowed")]
    TooLong(FourCc),
    /// More tracks than [`MP4_TRACKS_MAX`](crate::limits::MP4_TRACKS_MAX), or more of a known codec than
    /// [`TRACKS_MAX`](crate::limits::TRACKS_MAX).
    #[error("too many tracks")]
    TooManyTracks,
    /// More runs than [`MP4_RUNS_MAX`](crate::limits::MP4_RUNS_MAX) in a fragment, or more samples than
    /// [`MP4_SAMPLES_MAX`](crate::limits::MP4_SAMPLES_MAX).
    #[error("too many samples in one fragment")]
    TooManySamples,
    /// A sample is longer than [`MP4_SAMPLE_BYTES_MAX`](crate::limits::MP4_SAMPLE_BYTES_MAX).
    #[error("a sample is longer than is allowed")]
    SampleTooLong,
    /// No track has a codec that is known here.
    #[error("there is no track of a known codec")]
    NoTrack,
    /// Samples lie where they were passed already, on each other, or outside of the data that follow.
    #[error("samples lie outside of the data or on each other")]
    Place,
    /// A time beyond what can be counted.
    #[error("a time that cannot be counted")]
    Time,
    /// A decoder configuration record cannot be read.
    #[error("the configuration of {0} cannot be read: {1}")]
    Config(Codec, CodecError),
}

/// Why something cannot be written as MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// A codec that has no sample entry.
    #[error("{0} has no sample entry in MP4")]
    Unsupported(Codec),
    /// The configuration record of a track cannot be read, or is not there.
    #[error("the configuration of {0} cannot be used: {1}")]
    Config(Codec, CodecError),
    /// A video track whose size is known neither from its record nor otherwise.
    #[error("the size of track {} is not known", .0.0)]
    Size(TrackId),
    /// An audio track whose sample rate is known neither from its record nor from its timescale.
    #[error("the sample rate of track {} is not known", .0.0)]
    SampleRate(TrackId),
    /// No tracks, two with one id, or more than [`TRACKS_MAX`](crate::limits::TRACKS_MAX).
    #[error("the tracks are none, too many, or not different")]
    Tracks,
    /// A track that the initialization segment does not have.
    #[error("track {} is not in the initialization segment", .0.0)]
    UnknownTrack(TrackId),
    /// Frames of a track whose decode times fall.
    #[error("the decode times of track {} fall", .0.0)]
    TimeFalls(TrackId),
    /// A time before that at which the muxer starts, or one that has no place in a fragment.
    #[error("a time of track {} cannot be written", .0.0)]
    Time(TrackId),
    /// No samples.
    #[error("a fragment without samples")]
    Empty,
    /// More bytes than a fragment can hold: 2 GiB.
    #[error("a fragment that is too long")]
    TooLong,
}

#[cfg(test)]
mod tests;
