//! FLAC: the metadata block STREAMINFO (RFC 9639, 8.2), and what an MP4 file has around it (`FLACSpecificBox`).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::Bits;
use super::{CodecError, Description};
use crate::limits::CONFIG_BYTES_MAX;

const MAGIC: &[u8] = b"fLaC";
const STREAMINFO_BYTES: u8 = 34;
/// The block's header: STREAMINFO is type 0, with the flag on top that it is the last one.
const LAST_BLOCK: u8 = 0x80;

/// What a STREAMINFO block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 to 8.
    pub channels: u8,
    /// Bits per sample: 4 to 32.
    pub bits: u8,
    /// Samples of a frame, where all have as many.
    pub frame_samples: Option<u16>,
}

impl StreamInfo {
    /// Reads it from `fLaC` with metadata blocks, from the blocks alone, or from what is in the block.
    ///
    /// # Errors
    /// It ends too early, or says what cannot be.
    pub fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut bits = Bits::new(body_of(record)?);
        let (least, most) = (bits.number(16)?, bits.number(16)?);
        bits.skip(48)?;
        let sample_rate = bits.number(20)?;
        let (channels, depth) = (bits.byte(3)?.saturating_add(1), bits.byte(5)?.saturating_add(1));
        if sample_rate == 0 || depth < 4 {
            return Err(CodecError::Value);
        }
        let frame_samples = u16::try_from(least).ok().filter(|_| least == most);
        Ok(Self { sample_rate, channels, bits: depth, frame_samples })
    }
}

/// The 34 bytes of the block STREAMINFO.
fn body_of(record: &[u8]) -> Result<&[u8], CodecError> {
    let blocks = record.strip_prefix(MAGIC).unwrap_or(record);
    if blocks.len() == usize::from(STREAMINFO_BYTES) {
        return Ok(blocks);
    }
    match blocks.first_chunk() {
        Some([kind, 0, 0, STREAMINFO_BYTES]) if kind & !LAST_BLOCK == 0 => blocks.get(4..38).ok_or(CodecError::End),
        Some(_) => Err(CodecError::Mark),
        None => Err(CodecError::End),
    }
}

/// `fLaC` and the metadata blocks, from what is in a box `dfLa`.
///
/// # Errors
/// It is of another version, too long, or does not begin with STREAMINFO.
pub fn record_of_box(body: &[u8]) -> Result<Bytes, CodecError> {
    let blocks = body.strip_prefix(&[0, 0, 0, 0]).ok_or(CodecError::Version)?;
    if blocks.len() > CONFIG_BYTES_MAX {
        return Err(CodecError::TooLong);
    }
    StreamInfo::read(blocks)?;
    Ok([MAGIC, blocks].concat().into())
}

/// What is in a box `dfLa`: the blocks behind version and flags.
///
/// # Errors
/// There is no STREAMINFO in the record.
pub fn box_of(record: &[u8]) -> Result<Bytes, CodecError> {
    let info = body_of(record)?;
    let mut out = BytesMut::new();
    out.put_u32(0);
    // Further blocks (tags, pictures) are of no use to a decoder.
    out.put_slice(&[LAST_BLOCK, 0, 0, STREAMINFO_BYTES]);
    out.put_slice(info);
    Ok(out.freeze())
}

pub(super) fn describe(record: &[u8]) -> Result<Description, CodecError> {
    let info = StreamInfo::read(record)?;
    Ok(Description::audio(info.channels, info.sample_rate, "fLaC".to_owned()))
}
