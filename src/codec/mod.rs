//! What is in a stream: size, rate, channels and codec string, from decoder configuration records and from the first
//! frame where a codec says it there; whether a decoder can start at a frame; and records made out of parameter sets.
//!
//! One codec is one file. Nothing here decodes, and nothing looks further into a frame than its headers. Records and
//! frames have the formats of [`Frame`](crate::media::Frame); besides:
//!
//! * VP8 and VP9: `VPCodecConfigurationRecord` (VP Codec ISO Media File Format Binding), without the version and
//!   flags
//!   of its box.
//! * Opus: the identification header of RFC 7845, 5.1 (`OpusHead`).
//! * FLAC: `fLaC` and metadata blocks, the first of them STREAMINFO (RFC 9639, 8).
//! * AC-3 and E-AC-3: the contents of the boxes `dac3` and `dec3` (ETSI TS 102 366, annex F).
//! * MP3 and G.711 have none.
//!
//! Left out: what Speex and PCM are, which only their containers say.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod aac;
pub mod ac3;
pub mod adts;
pub mod annexb;
pub mod av1;
mod bits;
pub mod flac;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod h266;
pub mod mp3;
mod nal;
pub mod opus;
pub mod vp8;
pub mod vp9;

use std::fmt;

use bytes::Bytes;

use crate::limits::PICTURE_SIDE_MAX;
use crate::media::{Codec, Media};

pub use nal::units;

/// What is wrong with a configuration record, a parameter set or the header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end within what they say they hold.
    #[error("it ends before it is complete")]
    End,
    /// A value that the specification does not allow there.
    #[error("a value that its specification does not allow")]
    Value,
    /// A record of a version that there was not when this was written, or of something else.
    #[error("a record of an unknown version")]
    Version,
    /// Neither a header of this codec nor what stands before one.
    #[error("the mark that such a header begins with is not there")]
    Mark,
    /// A picture without pixels, or larger than [`PICTURE_SIDE_MAX`].
    #[error("a picture of an impossible size")]
    Size,
    /// There is no sequence parameter set, or what the codec has in its place.
    #[error("no sequence parameter set or header in it")]
    NoParameterSet,
    /// More parameter sets than [`RECORD_SETS_MAX`](crate::limits::RECORD_SETS_MAX).
    #[error("too many parameter sets")]
    TooMany,
    /// More bytes than a record has room for.
    #[error("a parameter set that is too long for a record")]
    TooLong,
    /// Neither the record nor a frame was given that would tell.
    #[error("{0} cannot be told without a configuration record or a first frame")]
    NoConfiguration(Codec),
    /// A codec that has no header to be read.
    #[error("{0} says nothing about itself")]
    Unsupported(Codec),
}

/// Frames per second as a fraction of positive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Frames …
    pub frames: u32,
    /// … in so many seconds.
    pub seconds: u32,
}

impl FrameRate {
    /// None if one of the two is 0, which stands for not known.
    #[must_use]
    pub const fn new(frames: u32, seconds: u32) -> Option<Self> {
        if frames == 0 || seconds == 0 { None } else { Some(Self { frames, seconds }) }
    }

    /// As a decimal number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.frames) / f64::from(self.seconds)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.frames, self.seconds)
    }
}

/// What is known of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Width and height in pixels, cropped as they are shown.
    pub size: Option<(u32, u32)>,
    /// Frames per second, where the encoder says so.
    pub frame_rate: Option<FrameRate>,
    /// Audio channels.
    pub channels: Option<u8>,
    /// Audio samples per second, after decoding.
    pub sample_rate: Option<u32>,
    /// The `codecs` parameter of RFC 6381.
    pub codec_string: String,
}

impl Description {
    /// Reads the record of a codec, and for those that have none, or where it is empty, a frame at which a decoder
    /// can start. What the record does not say (the size of VP8 and VP9) is taken from the frame, where there is one.
    ///
    /// # Errors
    /// What is there cannot be read, nothing is there that tells, or the codec has no header.
    pub fn read(codec: Codec, record: &[u8], first_frame: Option<&[u8]>) -> Result<Self, CodecError> {
        let made = match (record, first_frame) {
            ([], Some(frame)) if has_record(codec) => record_of_frame(codec, frame)?,
            _ => Bytes::new(),
        };
        let record = if made.is_empty() { record } else { &made };
        if record.is_empty() && has_record(codec) {
            return Err(CodecError::NoConfiguration(codec));
        }
        match codec {
            Codec::H264 => h264::describe(record),
            Codec::H265 => h265::describe(record),
            Codec::H266 => h266::describe(record),
            Codec::Av1 => av1::describe(record),
            Codec::Vp8 => vp8::describe(record, first_frame),
            Codec::Vp9 => vp9::describe(record, first_frame),
            Codec::Aac => aac::describe(record),
            Codec::Opus => opus::describe(record),
            Codec::Mp3 => mp3::describe(first_frame.ok_or(CodecError::NoConfiguration(codec))?),
            Codec::Flac => flac::describe(record),
            Codec::Ac3 => ac3::describe(record),
            Codec::Eac3 => ac3::describe_enhanced(record),
            Codec::G711A | Codec::G711U => Ok(g711::describe(codec)),
            _ => Err(CodecError::Unsupported(codec)),
        }
    }

    fn video(size: (u32, u32), frame_rate: Option<FrameRate>, codec_string: String) -> Self {
        Self { size: Some(size), frame_rate, channels: None, sample_rate: None, codec_string }
    }

    fn audio(channels: u8, sample_rate: u32, codec_string: String) -> Self {
        Self { size: None, frame_rate: None, channels: Some(channels), sample_rate: Some(sample_rate), codec_string }
    }
}

/// Makes the configuration record out of what the codec says within a frame at which a decoder can start: parameter
/// sets, a sequence header, or the header of the frame itself.
///
/// # Errors
/// The frame does not hold it, or the codec has no record or nothing in its frames to make one from.
pub fn record_of_frame(codec: Codec, frame: &[u8]) -> Result<Bytes, CodecError> {
    match codec {
        Codec::H264 => h264::record_of_frame(frame),
        Codec::H265 => h265::record_of_frame(frame),
        Codec::H266 => h266::record_of_frame(frame),
        Codec::Av1 => av1::record_of_frame(frame),
        Codec::Vp8 => vp8::record_of_frame(frame),
        Codec::Vp9 => vp9::record_of_frame(frame),
        Codec::Ac3 => ac3::record_of_frame(frame),
        Codec::Eac3 => ac3::enhanced_record_of_frame(frame),
        Codec::Aac | Codec::Opus | Codec::Flac => Err(CodecError::NoConfiguration(codec)),
        _ => Err(CodecError::Unsupported(codec)),
    }
}

/// Whether a decoder can start at this frame, told from its payload. The record says how long the lengths before NAL
/// units are; without it they have 4 bytes. Audio can start anywhere.
#[must_use]
pub fn is_key(codec: Codec, record: &[u8], frame: &[u8]) -> bool {
    let length_at = |at: usize, shift: u32| {
        record.get(at).and_then(|byte| nal::length_bytes(byte.rotate_right(shift)).ok()).unwrap_or(4)
    };
    match codec {
        Codec::H264 => h264::is_key(frame, length_at(4, 0)),
        Codec::H265 => h265::is_key(frame, length_at(21, 0)),
        Codec::H266 => h266::is_key(frame, length_at(0, 1)),
        Codec::Av1 => av1::is_key(frame),
        Codec::Vp8 => vp8::is_key(frame),
        Codec::Vp9 => vp9::is_key(frame),
        _ => codec.media() == Media::Audio,
    }
}

/// Whether a decoder of the codec needs a configuration record, or a container does.
#[must_use]
pub const fn has_record(codec: Codec) -> bool {
    matches!(codec.media(), Media::Video)
        || matches!(codec, Codec::Aac | Codec::Opus | Codec::Flac | Codec::Ac3 | Codec::Eac3)
}

/// The size that is shown of one that is coded, less what is cropped left, right, above and below, in units.
fn cropped(coded: (u32, u32), crop: [u32; 4], unit: (u32, u32)) -> Result<(u32, u32), CodecError> {
    let [left, right, above, below] = crop;
    let width = coded.0.checked_sub(left.saturating_add(right).saturating_mul(unit.0));
    let height = coded.1.checked_sub(above.saturating_add(below).saturating_mul(unit.1));
    let possible = |side: Option<u32>| side.filter(|side| (1..=PICTURE_SIDE_MAX).contains(side));
    possible(width).zip(possible(height)).ok_or(CodecError::Size)
}

#[cfg(test)]
pub(crate) mod tests;
