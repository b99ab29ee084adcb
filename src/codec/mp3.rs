//! MPEG audio layer III: the header of a frame (ISO/IEC 11172-3, 2.4.1.3; ISO/IEC 13818-3 and MPEG-2.5 for low
//! rates).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use super::{CodecError, Description};

/// MPEG-1 by its number; MPEG-2 and MPEG-2.5 halve it, the latter twice.
const SAMPLE_RATES: [u32; 3] = [44_100, 48_000, 32_000];
const MPEG_1: u8 = 3;
const MPEG_2_5: u8 = 0;
const LAYER_III: u8 = 1;
const MONO: u8 = 3;

/// The header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// MPEG-1; otherwise MPEG-2 or MPEG-2.5.
    pub mpeg_1: bool,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
}

impl Header {
    /// Reads the first four bytes of a frame.
    ///
    /// # Errors
    /// They are no such header, or end too early.
    pub fn read(frame: &[u8]) -> Result<Self, CodecError> {
        let Some(&[0xFF, second, third, fourth]) = frame.first_chunk() else {
            return Err(if frame.len() < 4 { CodecError::End } else { CodecError::Mark });
        };
        let version = second >> 3 & 3;
        if second & 0xE0 != 0xE0 || version == 1 || second >> 1 & 3 != LAYER_III || third >> 4 == 15 {
            return Err(CodecError::Mark);
        }
        let rate = SAMPLE_RATES.get(usize::from(third >> 2 & 3)).ok_or(CodecError::Value)?;
        let sample_rate = match version {
            MPEG_1 => *rate,
            MPEG_2_5 => rate / 4,
            _ => rate / 2,
        };
        Ok(Self { mpeg_1: version == MPEG_1, sample_rate, channels: if fourth >> 6 == MONO { 1 } else { 2 } })
    }

    /// Samples of a frame.
    #[must_use]
    pub const fn frame_samples(&self) -> u32 {
        if self.mpeg_1 { 1152 } else { 576 }
    }
}

/// `mp4a.6B` is MPEG-1 audio, `mp4a.69` that of MPEG-2 (RFC 6381, 3.3).
#[must_use]
pub(crate) fn codec_string(sample_rate: u32) -> String {
    if SAMPLE_RATES.contains(&sample_rate) { "mp4a.6B" } else { "mp4a.69" }.to_owned()
}

pub(super) fn describe(frame: &[u8]) -> Result<Description, CodecError> {
    let header = Header::read(frame)?;
    Ok(Description::audio(header.channels, header.sample_rate, codec_string(header.sample_rate)))
}
