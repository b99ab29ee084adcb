//! AC-3 and Enhanced AC-3: the head of a frame (ETSI TS 102 366, 4.3 and E.1.2), and what an MP4 file has in its
//! boxes `dac3` and `dec3` (F.4 and F.6).
//!
//! Of Enhanced AC-3 the first independent substream is described: channels that further ones add are left out.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::Bits;
use super::{CodecError, Description};

const SYNC_WORD: u32 = 0x0B77;
/// `fscod`; 3 is reserved, and halves the rate in Enhanced AC-3.
const SAMPLE_RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Full channels by `acmod`, to which the low-frequency one is added.
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
/// The last `bsid` of AC-3, and the last of Enhanced AC-3.
const BSID_AC3: u8 = 10;
const BSID_ENHANCED: u8 = 16;
/// A block's samples; `numblkscod`.
const BLOCK_SAMPLES: u32 = 256;
const BLOCKS: [u32; 4] = [1, 2, 3, 6];

/// What AC-3 and Enhanced AC-3 both say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels, the low-frequency one counted.
    pub channels: u8,
    /// Samples of a frame.
    pub frame_samples: u32,
}

/// Reads the head of an AC-3 frame, with the record it makes.
///
/// # Errors
/// It is none, or ends too early.
pub fn read_frame(frame: &[u8]) -> Result<(Header, Bytes), CodecError> {
    let mut bits = Bits::new(frame);
    if bits.number(16)? != SYNC_WORD {
        return Err(CodecError::Mark);
    }
    bits.skip(16)?;
    let (rate_code, size_code) = (bits.byte(2)?, bits.byte(6)?);
    let (bsid, mode) = (bits.byte(5)?, bits.byte(3)?);
    let layout = bits.byte(3)?;
    if bsid > BSID_AC3 || size_code > 37 {
        return Err(CodecError::Value);
    }
    // Levels of the mix of centre, surround and Dolby Surround.
    for said in [layout & 1 == 1 && layout != 1, layout & 4 != 0, layout == 2] {
        bits.skip(if said { 2 } else { 0 })?;
    }
    let low = u8::from(bits.flag()?);
    let record = [
        rate_code << 6 | bsid << 1 | mode >> 2,
        mode << 6 | layout << 3 | low << 2 | size_code >> 4,
        (size_code >> 1) << 5,
    ];
    Ok((header(rate_code, bsid, layout, low, 6)?, Bytes::copy_from_slice(&record)))
}

/// Reads the head of an Enhanced AC-3 frame, with the record it makes.
///
/// # Errors
/// It is none, ends too early, or is of a dependent substream.
pub fn read_enhanced_frame(frame: &[u8]) -> Result<(Header, Bytes), CodecError> {
    let mut bits = Bits::new(frame);
    if bits.number(16)? != SYNC_WORD {
        return Err(CodecError::Mark);
    }
    let kind = bits.byte(2)?;
    bits.skip(3)?;
    let words = bits.number(11)?.saturating_add(1);
    let rate_code = bits.byte(2)?;
    let second = bits.byte(2)?;
    let (layout, low) = (bits.byte(3)?, u8::from(bits.flag()?));
    let bsid = bits.byte(5)?;
    if kind == 1 || bsid <= BSID_AC3 || bsid > BSID_ENHANCED {
        return Err(CodecError::Value);
    }
    let halved = rate_code == 3;
    let blocks = if halved { 6 } else { BLOCKS.get(usize::from(second)).copied().unwrap_or(6) };
    let mut header = header(if halved { second } else { rate_code }, bsid, layout, low, blocks)?;
    if halved {
        header.sample_rate /= 2;
    }
    let bits_of_frame = u64::from(words).saturating_mul(16).saturating_mul(header.sample_rate.into());
    let kilobits = bits_of_frame.checked_div(u64::from(header.frame_samples)).unwrap_or(0) / 1000;
    let kilobits = u16::try_from(kilobits).unwrap_or(u16::MAX).min(0x1FFF);
    let mut record = BytesMut::new();
    record.put_u16(kilobits << 3);
    record.put_slice(&[rate_code << 6 | bsid << 1, layout << 1 | low, 0]);
    Ok((header, record.freeze()))
}

fn header(rate_code: u8, bsid: u8, layout: u8, low: u8, blocks: u32) -> Result<Header, CodecError> {
    let rate = *SAMPLE_RATES.get(usize::from(rate_code)).ok_or(CodecError::Value)?;
    // A decoder that knows them plays 9 and 10 at a half and a quarter of the rate.
    let sample_rate = match bsid {
        9 => rate / 2,
        10 => rate / 4,
        _ => rate,
    };
    let channels = CHANNELS.get(usize::from(layout)).copied().unwrap_or(2).saturating_add(low);
    Ok(Header { sample_rate, channels, frame_samples: BLOCK_SAMPLES.saturating_mul(blocks) })
}

/// Reads what is in a box `dac3`.
///
/// # Errors
/// It ends too early, or says what cannot be.
pub fn read_record(record: &[u8]) -> Result<Header, CodecError> {
    let mut bits = Bits::new(record);
    let (rate_code, bsid) = (bits.byte(2)?, bits.byte(5)?);
    bits.skip(3)?;
    let (layout, low) = (bits.byte(3)?, u8::from(bits.flag()?));
    bits.skip(10)?;
    header(rate_code, bsid, layout, low, 6)
}

/// Reads what is in a box `dec3`.
///
/// # Errors
/// It ends too early, or says what cannot be.
pub fn read_enhanced_record(record: &[u8]) -> Result<Header, CodecError> {
    let mut bits = Bits::new(record);
    bits.skip(16)?;
    let (rate_code, bsid) = (bits.byte(2)?, bits.byte(5)?);
    bits.skip(5)?;
    let (layout, low) = (bits.byte(3)?, u8::from(bits.flag()?));
    header(rate_code, bsid, layout, low, 6)
}

pub(super) fn record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    Ok(read_frame(frame)?.1)
}

pub(super) fn enhanced_record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    Ok(read_enhanced_frame(frame)?.1)
}

pub(super) fn describe(record: &[u8]) -> Result<Description, CodecError> {
    let header = read_record(record)?;
    Ok(Description::audio(header.channels, header.sample_rate, "ac-3".to_owned()))
}

pub(super) fn describe_enhanced(record: &[u8]) -> Result<Description, CodecError> {
    let header = read_enhanced_record(record)?;
    Ok(Description::audio(header.channels, header.sample_rate, "ec-3".to_owned()))
}
