//! VP9: the uncompressed header of a key frame (VP9 Bitstream, 6.2) and `VPCodecConfigurationRecord` (VP Codec ISO
//! Media File Format Binding).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::Bytes;

use super::bits::Bits;
use super::{CodecError, Description, cropped};

const FRAME_MARKER: u8 = 2;
const SYNC_CODE: u32 = 0x49_83_42;
const CS_RGB: u8 = 7;
/// Colour that is not said, in the numbers of ISO/IEC 23091-2.
const UNSPECIFIED: u8 = 2;
/// Levels by their largest picture and the most samples per second (VP9 levels, annex A): ten times the level first.
const LEVELS: [(u8, u64, u64); 14] = [
    (10, 36_864, 829_440),
    (11, 73_728, 2_764_800),
    (20, 122_880, 4_608_000),
    (21, 245_760, 9_216_000),
    (30, 552_960, 20_736_000),
    (31, 983_040, 36_864_000),
    (40, 2_228_224, 83_558_400),
    (41, 2_228_224, 160_432_128),
    (50, 8_912_896, 311_951_360),
    (51, 8_912_896, 588_251_136),
    (52, 8_912_896, 1_176_502_272),
    (60, 35_651_584, 1_176_502_272),
    (61, 35_651_584, 2_353_004_544),
    (62, 35_651_584, 4_706_009_088),
];
/// What is taken for the frame rate, of which VP9 says nothing.
const USUAL_FRAME_RATE: u64 = 30;

/// A `VPCodecConfigurationRecord`: that of VP8, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// 0 to 3.
    pub profile: u8,
    /// Ten times the level, 0 where it is not known.
    pub level: u8,
    /// Bits per sample: 8, 10 or 12.
    pub bits: u8,
    /// 0 and 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma: u8,
    /// Samples use the full range.
    pub full_range: bool,
    /// Primaries, transfer and matrix by ISO/IEC 23091-2: each 2 where it is not said.
    pub colour: [u8; 3],
}

impl Default for Record {
    fn default() -> Self {
        Self { profile: 0, level: 0, bits: 8, chroma: 1, full_range: false, colour: [UNSPECIFIED; 3] }
    }
}

impl Record {
    /// Takes a record apart; the version and flags of its box may stand before it.
    ///
    /// # Errors
    /// It ends too early, or has an impossible depth.
    pub fn read(record: &[u8]) -> Result<Self, CodecError> {
        // A depth is never 0: it is the flags that are.
        let body = record.strip_prefix(&[1, 0, 0, 0]).unwrap_or(record);
        let Some(&[profile, level, packed, primaries, transfer, matrix]) = body.first_chunk() else {
            return Err(CodecError::End);
        };
        let bits = packed >> 4;
        if ![8, 10, 12].contains(&bits) || profile > 3 {
            return Err(CodecError::Value);
        }
        let colour = [primaries, transfer, matrix];
        Ok(Self { profile, level, bits, chroma: packed >> 1 & 7, full_range: packed & 1 == 1, colour })
    }

    /// As bytes; initialization data has VP9 none.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let packed = self.bits << 4 | self.chroma << 1 | u8::from(self.full_range);
        let [primaries, transfer, matrix] = self.colour;
        Bytes::copy_from_slice(&[self.profile, self.level, packed, primaries, transfer, matrix, 0, 0])
    }

    /// The sample entry and what a player decides by: the second half only where it says something else than its
    /// defaults.
    #[must_use]
    pub fn codec_string(&self, sample_entry: &str) -> String {
        let mut text = format!("{sample_entry}.{:02}.{:02}.{:02}", self.profile, self.level, self.bits);
        let [primaries, transfer, matrix] = self.colour.map(|code| if code == UNSPECIFIED { 1 } else { code });
        // 4:2:0 is 4:2:0, wherever its chroma samples lie.
        if (self.chroma.max(1), primaries, transfer, matrix, self.full_range) != (1, 1, 1, 1, false) {
            let (chroma, range) = (self.chroma, u8::from(self.full_range));
            text.push_str(&format!(".{chroma:02}.{primaries:02}.{transfer:02}.{matrix:02}.{range:02}"));
        }
        text
    }
}

/// The record and the size of a key frame. The level is that of its size at 30 frames per second.
///
/// # Errors
/// The frame is no key frame, ends within its header, or says what cannot be.
pub fn read_frame(frame: &[u8]) -> Result<(Record, (u32, u32)), CodecError> {
    let mut bits = Bits::new(frame);
    let (profile, key) = frame_start(&mut bits)?;
    if !key {
        return Err(CodecError::Mark);
    }
    bits.skip(2)?; // show_frame, error_resilient_mode
    if bits.number(24)? != SYNC_CODE {
        return Err(CodecError::Mark);
    }
    let mut record = Record { profile, ..Record::default() };
    if profile >= 2 {
        record.bits = if bits.flag()? { 12 } else { 10 };
    }
    let space = bits.byte(3)?;
    let odd = profile & 1 == 1;
    if space == CS_RGB {
        (record.full_range, record.chroma) = (true, 3);
        bits.skip(if odd { 1 } else { 0 })?;
    } else {
        record.full_range = bits.flag()?;
        if odd {
            let (x, y) = (bits.flag()?, bits.flag()?);
            bits.flag()?;
            record.chroma = match (x, y) {
                (true, true) => 1,
                (true, false) => 2,
                _ => 3,
            };
        }
    }
    record.colour = match space {
        1 => [6, 6, 6],
        2 => [1, 1, 1],
        3 => [6, 6, 6],
        4 => [7, 7, 7],
        5 => [9, 14, 9],
        CS_RGB => [1, 13, 0],
        _ => [UNSPECIFIED; 3],
    };
    let coded = (bits.number(16)?.saturating_add(1), bits.number(16)?.saturating_add(1));
    let size = cropped(coded, [0; 4], (1, 1))?;
    record.level = level_of(size);
    Ok((record, size))
}

/// The profile, and whether it is a key frame.
fn frame_start(bits: &mut Bits<'_>) -> Result<(u8, bool), CodecError> {
    if bits.byte(2)? != FRAME_MARKER {
        return Err(CodecError::Mark);
    }
    let profile = u8::from(bits.flag()?) | u8::from(bits.flag()?) << 1;
    if profile == 3 {
        bits.flag()?;
    }
    // show_existing_frame, then frame_type: 0 is a key frame.
    let shown_again = bits.flag()?;
    Ok((profile, !shown_again && !bits.flag()?))
}

/// The lowest level for pictures of this size.
pub(super) fn level_of((width, height): (u32, u32)) -> u8 {
    let samples = u64::from(width).saturating_mul(height.into());
    let fits = |level: &&(u8, u64, u64)| samples <= level.1 && samples.saturating_mul(USUAL_FRAME_RATE) <= level.2;
    LEVELS.iter().find(fits).map_or(62, |level| level.0)
}

pub(super) fn record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    Ok(read_frame(frame)?.0.to_bytes())
}

pub(super) fn describe(record: &[u8], first_frame: Option<&[u8]>) -> Result<Description, CodecError> {
    let codec_string = Record::read(record)?.codec_string("vp09");
    let size = first_frame.map(read_frame).transpose()?.map(|(_, size)| size);
    Ok(Description { size, frame_rate: None, channels: None, sample_rate: None, codec_string })
}

pub(super) fn is_key(frame: &[u8]) -> bool {
    frame_start(&mut Bits::new(frame)).is_ok_and(|(_, key)| key)
}
