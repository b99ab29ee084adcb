//! AV1: the sequence header (AV1 Bitstream, 5.5) and `AV1CodecConfigurationRecord` (AV1 Codec ISO Media File Format
//! Binding, 2.3).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::{Bits, take, take_u8};
use super::{CodecError, Description, FrameRate, cropped};
use crate::limits::{CONFIG_BYTES_MAX, OBUS_MAX};

/// Types of OBUs (6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
/// `CP_UNSPECIFIED` and its like.
const UNSPECIFIED: u8 = 2;

/// What a sequence header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point.
    pub level: u8,
    /// `seq_tier` of the first operating point: the high tier.
    pub high_tier: bool,
    /// Bits per sample: 8, 10 or 12.
    pub bits: u8,
    /// No colour.
    pub monochrome: bool,
    /// Colour has half the width, half the height.
    pub subsampling: (bool, bool),
    /// `chroma_sample_position`.
    pub chroma_position: u8,
    /// `color_primaries`, `transfer_characteristics`, `matrix_coefficients`: each 2 where it is not said.
    pub colour: [u8; 3],
    /// Samples use the full range.
    pub full_range: bool,
    /// Width and height in pixels at most.
    pub size: (u32, u32),
    /// Frames per second, where they are said and at equal distances.
    pub frame_rate: Option<FrameRate>,
}

impl SequenceHeader {
    /// Reads what is in the OBU, its header left out.
    ///
    /// # Errors
    /// It ends too early, or says what cannot be.
    pub fn read(obu: &[u8]) -> Result<Self, CodecError> {
        let mut bits = Bits::new(obu);
        let profile = bits.byte(3)?;
        bits.flag()?; // still_picture
        let reduced = bits.flag()?;
        let mut frame_rate = None;
        let (level, high_tier) = if reduced {
            (bits.byte(5)?, false)
        } else {
            let mut delay_bits = None;
            if bits.flag()? {
                frame_rate = timing(&mut bits)?;
                if bits.flag()? {
                    delay_bits = Some(usize::from(bits.byte(5)?).saturating_add(1));
                    bits.skip(32 + 10)?;
                }
            }
            operating_points(&mut bits, delay_bits)?
        };
        let (width_bits, height_bits) = (bits.number(4)?.saturating_add(1), bits.number(4)?.saturating_add(1));
        let coded = (bits.number(width_bits)?.saturating_add(1), bits.number(height_bits)?.saturating_add(1));
        let size = cropped(coded, [0; 4], (1, 1))?;
        tools(&mut bits, reduced)?;
        let mut header = Self {
            profile,
            level,
            high_tier,
            bits: 8,
            monochrome: false,
            subsampling: (true, true),
            chroma_position: 0,
            colour: [UNSPECIFIED; 3],
            full_range: false,
            size,
            frame_rate,
        };
        header.colour_config(&mut bits)?;
        Ok(header)
    }

    /// `color_config` (5.5.2).
    fn colour_config(&mut self, bits: &mut Bits<'_>) -> Result<(), CodecError> {
        let high = bits.flag()?;
        let twelve = self.profile == 2 && high && bits.flag()?;
        self.bits = match (high, twelve) {
            (_, true) => 12,
            (true, _) => 10,
            _ => 8,
        };
        self.monochrome = self.profile != 1 && bits.flag()?;
        if bits.flag()? {
            self.colour = [bits.byte(8)?, bits.byte(8)?, bits.byte(8)?];
        }
        if self.monochrome {
            self.full_range = bits.flag()?;
            return Ok(());
        }
        // BT.709 primaries, sRGB transfer and no matrix: RGB.
        if self.colour == [1, 13, 0] {
            (self.full_range, self.subsampling) = (true, (false, false));
            return Ok(());
        }
        self.full_range = bits.flag()?;
        self.subsampling = match (self.profile, self.bits) {
            (0, _) => (true, true),
            (1, _) => (false, false),
            (_, 12) => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        if self.subsampling == (true, true) {
            self.chroma_position = bits.byte(2)?;
        }
        Ok(())
    }

    /// `av01.` and what a player decides by (AV1 Codec ISO Media File Format Binding, 5): the second half only where
    /// it says something else than its defaults.
    #[must_use]
    pub fn codec_string(&self) -> String {
        let tier = if self.high_tier { 'H' } else { 'M' };
        let mut text = format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.bits);
        let (x, y) = (u8::from(self.subsampling.0), u8::from(self.subsampling.1));
        let position = if x & y == 1 { self.chroma_position } else { 0 };
        let [primaries, transfer, matrix] = self.colour.map(|code| if code == UNSPECIFIED { 1 } else { code });
        let more = (u8::from(self.monochrome), (x, y, position), (primaries, transfer, matrix), self.full_range);
        if more != (0, (1, 1, 0), (1, 1, 1), false) {
            let (mono, range) = (more.0, u8::from(self.full_range));
            text.push_str(&format!(".{mono}.{x}{y}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{range}"));
        }
        text
    }
}

/// `timing_info` (5.5.3).
fn timing(bits: &mut Bits<'_>) -> Result<Option<FrameRate>, CodecError> {
    let (units, scale) = (bits.number(32)?, bits.number(32)?);
    if !bits.flag()? {
        return Ok(None);
    }
    // `uvlc` has the form of `ue(v)`.
    let ticks = bits.unsigned()?.saturating_add(1);
    Ok(FrameRate::new(scale, units.saturating_mul(ticks)))
}

/// The level and the tier of the first operating point.
fn operating_points(bits: &mut Bits<'_>, delay_bits: Option<usize>) -> Result<(u8, bool), CodecError> {
    let displayed = bits.flag()?;
    let more = bits.byte(5)?;
    let mut first = None;
    for _ in 0..=more {
        bits.skip(12)?;
        let level = bits.byte(5)?;
        let tier = level > 7 && bits.flag()?;
        first.get_or_insert((level, tier));
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(delay_bits.saturating_mul(2).saturating_add(1))?;
        }
        if displayed && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Ok(first.unwrap_or_default())
}

/// From the size to the colour.
fn tools(bits: &mut Bits<'_>, reduced: bool) -> Result<(), CodecError> {
    if !reduced && bits.flag()? {
        bits.skip(7)?; // lengths of frame ids
    }
    bits.skip(3)?;
    if !reduced {
        bits.skip(4)?;
        let order_hint = bits.flag()?;
        bits.skip(if order_hint { 2 } else { 0 })?;
        // seq_choose_screen_content_tools, seq_force_screen_content_tools
        let screen_content = bits.flag()? || bits.flag()?;
        if screen_content && !bits.flag()? {
            bits.flag()?;
        }
        bits.skip(if order_hint { 3 } else { 0 })?;
    }
    bits.skip(3)
}

/// One OBU: its type, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Obu<'a> {
    kind: u8,
    body: &'a [u8],
}

impl<'a> Obu<'a> {
    /// Splits off the first (5.3).
    fn take(bytes: &mut &'a [u8]) -> Result<Self, CodecError> {
        let header = take_u8(bytes)?;
        if header & 0x80 != 0 {
            return Err(CodecError::Mark);
        }
        if header & 4 != 0 {
            take_u8(bytes)?;
        }
        let length = if header & 2 != 0 { leb128(bytes)? } else { bytes.len() };
        Ok(Self { kind: header >> 3 & 0x0F, body: take(bytes, length)? })
    }
}

/// `leb128` (4.10.5) of at most 32 bits.
fn leb128(bytes: &mut &[u8]) -> Result<usize, CodecError> {
    let mut value = 0_u64;
    for shift in [0_u32, 7, 14, 21, 28, 35, 42, 49] {
        let byte = take_u8(bytes)?;
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().and_then(|value| value.try_into().ok()).ok_or(CodecError::Value);
        }
    }
    Err(CodecError::Value)
}

fn obus(mut bytes: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    let next = move || if bytes.is_empty() { None } else { Obu::take(&mut bytes).ok() };
    std::iter::from_fn(next).take(OBUS_MAX)
}

fn sequence_header(obus_of: &[u8]) -> Result<&[u8], CodecError> {
    let header = obus(obus_of).find(|obu| obu.kind == SEQUENCE_HEADER);
    header.map(|obu| obu.body).ok_or(CodecError::NoParameterSet)
}

/// Makes an `AV1CodecConfigurationRecord` out of what is in a sequence header OBU.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn record_of(sequence_header: &[u8]) -> Result<Bytes, CodecError> {
    let header = SequenceHeader::read(sequence_header)?;
    if sequence_header.len() > CONFIG_BYTES_MAX / 2 {
        return Err(CodecError::TooLong);
    }
    let mut out = BytesMut::new();
    out.put_u8(0x81);
    out.put_u8(header.profile << 5 | header.level);
    let flags = [
        header.high_tier,
        header.bits > 8,
        header.bits == 12,
        header.monochrome,
        header.subsampling.0,
        header.subsampling.1,
    ];
    let flags = flags.iter().fold(0_u8, |byte, flag| byte << 1 | u8::from(*flag));
    out.put_u8(flags << 2 | header.chroma_position);
    out.put_u8(0);
    out.put_u8(SEQUENCE_HEADER << 3 | 2);
    let mut length = sequence_header.len();
    while length >= 0x80 {
        out.put_u8(u8::try_from(length & 0x7F).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.put_u8(u8::try_from(length).unwrap_or(0));
    out.put_slice(sequence_header);
    Ok(out.freeze())
}

/// The record that the sequence header within a temporal unit makes.
pub(super) fn record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    record_of(sequence_header(frame)?)
}

pub(super) fn describe(mut record: &[u8]) -> Result<Description, CodecError> {
    if take(&mut record, 4)?.first() != Some(&0x81) {
        return Err(CodecError::Version);
    }
    let header = SequenceHeader::read(sequence_header(record)?)?;
    Ok(Description::video(header.size, header.frame_rate, header.codec_string()))
}

/// Whether a decoder can start at this temporal unit: its first frame is a key frame that is shown.
pub(super) fn is_key(frame: &[u8]) -> bool {
    let first = obus(frame).find(|obu| obu.kind == FRAME || obu.kind == FRAME_HEADER);
    // show_existing_frame 0, frame_type KEY_FRAME 0, show_frame 1 (5.9.2).
    first.and_then(|obu| obu.body.first()).is_some_and(|byte| byte >> 4 == 0b0001)
}
