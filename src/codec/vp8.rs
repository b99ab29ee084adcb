//! VP8: the header of a key frame (RFC 6386, 9.1), and its record, which is that of VP9.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::Bytes;

use super::vp9::{Record, level_of};
use super::{CodecError, Description, cropped};

/// Width and height in a key frame.
///
/// # Errors
/// The frame is no key frame, or ends within its header.
pub fn size_of_frame(frame: &[u8]) -> Result<(u32, u32), CodecError> {
    let Some(&[first, _, _, s0, s1, s2, w0, w1, h0, h1]) = frame.first_chunk() else { return Err(CodecError::End) };
    if first & 1 != 0 || [s0, s1, s2] != [0x9D, 0x01, 0x2A] {
        return Err(CodecError::Mark);
    }
    // Two bits above each say how to scale for display.
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
    cropped((side(w0, w1), side(h0, h1)), [0; 4], (1, 1))
}

pub(super) fn record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    let size = size_of_frame(frame)?;
    let profile = frame.first().map_or(0, |first| first >> 1 & 7);
    Ok(Record { profile, level: level_of(size), ..Record::default() }.to_bytes())
}

pub(super) fn describe(record: &[u8], first_frame: Option<&[u8]>) -> Result<Description, CodecError> {
    let codec_string = Record::read(record)?.codec_string("vp08");
    let size = first_frame.map(size_of_frame).transpose()?;
    Ok(Description { size, frame_rate: None, channels: None, sample_rate: None, codec_string })
}

pub(super) fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 == 0)
}
