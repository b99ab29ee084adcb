//! H.264: the sequence parameter set (ITU-T H.264, 7.3.2.1 and E.1.1) and `AVCDecoderConfigurationRecord`
//! (ISO/IEC 14496-15, 5.3.3.1).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::{Bits, take, take_u8, take_u16, unescaped};
use super::nal::{self, put_unit};
use super::{CodecError, Description, FrameRate, cropped};
use crate::limits::{CONFIG_BYTES_MAX, RECORD_SETS_MAX};

/// Types of NAL units (table 7-1).
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
/// Profiles whose parameter sets say how colour is sampled (7.3.2.1.1).
const PROFILES_WITH_CHROMA: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
const EXTENDED_SAR: u8 = 255;

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// The byte of `constraint_set` flags behind it.
    pub constraints: u8,
    /// `level_idc`: ten times the level.
    pub level: u8,
    /// `chroma_format_idc`: 0 grey, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits per luma sample.
    pub luma_bits: u8,
    /// Bits per chroma sample.
    pub chroma_bits: u8,
    /// Width and height in pixels, cropped.
    pub size: (u32, u32),
    /// Frames per second, where the timing information says so.
    pub frame_rate: Option<FrameRate>,
}

impl Sps {
    /// Reads a NAL unit, header included.
    ///
    /// # Errors
    /// The unit is no SPS, ends too early, or says what cannot be.
    pub fn read(unit: &[u8]) -> Result<Self, CodecError> {
        if unit.first().is_none_or(|header| header & 0x1F != SPS) {
            return Err(CodecError::NoParameterSet);
        }
        let unit = unescaped(unit.get(..unit.len().min(CONFIG_BYTES_MAX)).unwrap_or_default());
        let mut bits = Bits::new(&unit);
        bits.skip(8)?;
        let (profile, constraints, level) = (bits.byte(8)?, bits.byte(8)?, bits.byte(8)?);
        bits.unsigned()?; // seq_parameter_set_id
        let (mut chroma_format, mut separate, mut luma_bits, mut chroma_bits) = (1, false, 8, 8);
        if PROFILES_WITH_CHROMA.contains(&profile) {
            chroma_format = small(bits.unsigned()?, 3)?;
            separate = chroma_format == 3 && bits.flag()?;
            luma_bits = small(bits.unsigned()?, 6)?.saturating_add(8);
            chroma_bits = small(bits.unsigned()?, 6)?.saturating_add(8);
            bits.flag()?; // qpprime_y_zero_transform_bypass_flag
            if bits.flag()? {
                scaling_lists(&mut bits, if chroma_format == 3 { 12 } else { 8 })?;
            }
        }
        bits.unsigned()?; // log2_max_frame_num_minus4
        match bits.unsigned()? {
            0 => _ = bits.unsigned()?,
            1 => {
                bits.flag()?;
                bits.signed()?;
                bits.signed()?;
                // num_ref_frames_in_pic_order_cnt_cycle
                for _ in 0..small(bits.unsigned()?, u8::MAX)? {
                    bits.signed()?;
                }
            }
            2 => {}
            _ => return Err(CodecError::Value),
        }
        bits.unsigned()?; // max_num_ref_frames
        bits.flag()?; // gaps_in_frame_num_value_allowed_flag
        let width = bits.unsigned()?.saturating_add(1).saturating_mul(16);
        let map_units = bits.unsigned()?.saturating_add(1);
        let frames_only = bits.flag()?;
        let fields = if frames_only { 1 } else { 2 };
        let height = map_units.saturating_mul(16).saturating_mul(fields);
        if !frames_only {
            bits.flag()?; // mb_adaptive_frame_field_flag
        }
        bits.flag()?; // direct_8x8_inference_flag
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.unsigned()?;
            }
        }
        // CropUnitX and CropUnitY (7-19 to 7-22).
        let (x, y) = match (separate, chroma_format) {
            (false, 1) => (2, 2),
            (false, 2) => (2, 1),
            _ => (1, 1),
        };
        let size = cropped((width, height), crop, (x, fields.saturating_mul(y)))?;
        // Encoders that were cut short here are routed all the same: what follows is not needed to decode.
        let frame_rate = if bits.flag().unwrap_or(false) { vui_frame_rate(&mut bits).unwrap_or(None) } else { None };
        Ok(Self { profile, constraints, level, chroma_format, luma_bits, chroma_bits, size, frame_rate })
    }

    /// `avc1.` with profile, constraints and level (RFC 6381, 3.3).
    #[must_use]
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}

/// `scaling_list`: its values matter to a decoder alone.
fn scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Result<(), CodecError> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = last.wrapping_add(bits.signed()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Ok(())
}

/// `vui_parameters` up to its timing information (E.1.1).
fn vui_frame_rate(bits: &mut Bits<'_>) -> Result<Option<FrameRate>, CodecError> {
    if bits.flag()? && bits.byte(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.flag()?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.unsigned()?;
        bits.unsigned()?;
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let (units, scale) = (bits.number(32)?, bits.number(32)?);
    // A tick is a field: two of them make a frame (E.2.1).
    Ok(FrameRate::new(scale, units.saturating_mul(2)))
}

/// The fields of an `AVCDecoderConfigurationRecord` that others need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the length before each unit of a frame: 1, 2 or 4.
    pub length_bytes: usize,
    /// Sequence parameter sets.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets.
    pub pps: Vec<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Takes a record apart.
    ///
    /// # Errors
    /// It ends too early, or is of another version.
    pub fn read(mut record: &'a [u8]) -> Result<Self, CodecError> {
        let head = take(&mut record, 5)?;
        let [1, _, _, _, length] = *head else { return Err(CodecError::Version) };
        let length_bytes = nal::length_bytes(length)?;
        let mut sets = |mask: u8| {
            let count = take_u8(&mut record)? & mask;
            let mut sets = Vec::new();
            for _ in 0..count {
                let length = take_u16(&mut record)?;
                sets.push(take(&mut record, usize::from(length))?);
            }
            Ok(sets)
        };
        let sps = sets(0x1F)?;
        Ok(Self { length_bytes, sps, pps: sets(0xFF)? })
    }
}

/// Makes an `AVCDecoderConfigurationRecord` with 4-byte lengths out of parameter sets, each a NAL unit with its
/// header.
///
/// # Errors
/// There is no SPS, the first one cannot be read, or there are more of them than a record holds.
pub fn record_of(sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, CodecError> {
    let first = Sps::read(sps.first().ok_or(CodecError::NoParameterSet)?)?;
    let count = |sets: &[&[u8]]| {
        u8::try_from(sets.len()).ok().filter(|_| sets.len() <= RECORD_SETS_MAX).ok_or(CodecError::TooMany)
    };
    let mut out = BytesMut::new();
    out.put_slice(&[1, first.profile, first.constraints, first.level, 0xFF]);
    out.put_u8(0xE0 | count(sps)?);
    sps.iter().try_for_each(|unit| put_unit(&mut out, unit))?;
    out.put_u8(count(pps)?);
    pps.iter().try_for_each(|unit| put_unit(&mut out, unit))?;
    // 5.3.3.1.2: not for the profiles that there were before colour was said.
    if PROFILES_WITH_CHROMA.contains(&first.profile) {
        let depth = |bits: u8| 0xF8 | bits.saturating_sub(8);
        out.put_slice(&[0xFC | first.chroma_format, depth(first.luma_bits), depth(first.chroma_bits), 0]);
    }
    Ok(out.freeze())
}

/// The record that the parameter sets within a frame with 4-byte lengths make.
pub(super) fn record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    let (mut sps, mut pps) = (Vec::new(), Vec::new());
    for unit in nal::units(frame, 4) {
        match unit.first().map(|header| header & 0x1F) {
            Some(SPS) => nal::add_set(&mut sps, unit)?,
            Some(PPS) => nal::add_set(&mut pps, unit)?,
            _ => {}
        }
    }
    record_of(&sps, &pps)
}

pub(super) fn describe(record: &[u8]) -> Result<Description, CodecError> {
    let sps = Sps::read(Record::read(record)?.sps.first().ok_or(CodecError::NoParameterSet)?)?;
    Ok(Description::video(sps.size, sps.frame_rate, sps.codec_string()))
}

/// Whether a decoder can start at this access unit: it holds a slice of an IDR picture.
pub(super) fn is_key(frame: &[u8], length_bytes: usize) -> bool {
    nal::units(frame, length_bytes).any(|unit| unit.first().is_some_and(|header| header & 0x1F == IDR))
}

fn small(value: u32, most: u8) -> Result<u8, CodecError> {
    u8::try_from(value).ok().filter(|value| *value <= most).ok_or(CodecError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::bits::tests::Written;

    /// High, 4.0, 1920x1080: 1088 rows less 8.
    const HIGH: [u8; 27] = [
        0x67, 0x64, 0x00, 0x28, 0xAC, 0xD9, 0x40, 0x78, 0x02, 0x27, 0xE5, 0x9A, 0x80, 0x80, 0x80, 0xA0, 0x00, 0x00,
        0x7D, 0x20, 0x00, 0x1D, 0x4C, 0x11, 0xE3, 0x06, 0x32,
    ];

    #[test]
    fn rows_that_only_fill_up_macroblocks_are_cropped() {
        let sps = Sps::read(&HIGH).unwrap();
        assert_eq!((sps.profile, sps.level, sps.chroma_format, sps.luma_bits), (100, 40, 1, 8));
        assert_eq!(sps.size, (1920, 1080));
        assert_eq!(sps.codec_string(), "avc1.640028");
    }

    #[test]
    fn fields_count_two_rows_of_macroblocks_and_two_of_cropping() {
        let set = Written::default().number(32, 0x674D_401E).unsigned(0).unsigned(0).unsigned(0).unsigned(0);
        // 720 x 576 in 45 x 18 pairs, cropped by 2 · 2 · 4 rows below.
        let set = set.unsigned(1).number(1, 0).unsigned(44).unsigned(17).number(1, 0).number(2, 0b01);
        let set = set.number(1, 1).unsigned(0).unsigned(0).unsigned(0).unsigned(4).number(2, 0b01);
        assert_eq!(Sps::read(&set.bytes).unwrap().size, (720, 560));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let set = |crop: u32, cycle: u32| {
            let set = Written::default().number(32, 0x6742_001E).unsigned(0).unsigned(0).unsigned(1).number(1, 0);
            let set = set.signed(0).signed(0).unsigned(cycle).unsigned(1).number(1, 0);
            set.unsigned(3)
                .unsigned(3)
                .number(1, 1)
                .number(2, 3)
                .unsigned(crop)
                .unsigned(0)
                .unsigned(0)
                .unsigned(0)
                .bytes
        };
        assert_eq!(Sps::read(&set(40, 0)), Err(CodecError::Size), "more is cropped than there is");
        assert_eq!(Sps::read(&set(0, u32::MAX - 1)), Err(CodecError::Value), "a cycle of 4 billion frames");
        assert_eq!(Sps::read(&[0x68, 1, 2]), Err(CodecError::NoParameterSet));
    }

    #[test]
    fn a_record_that_is_made_is_read() {
        let pps: &[u8] = &[0x68, 0xEB, 0xE3];
        let record = record_of(&[&HIGH], &[pps]).unwrap();
        assert_eq!(record[..6], [1, 0x64, 0, 0x28, 0xFF, 0xE1]);
        assert_eq!(record[record.len() - 4..], [0xFD, 0xF8, 0xF8, 0]);
        assert_eq!(Record::read(&record).unwrap(), Record { length_bytes: 4, sps: vec![&HIGH], pps: vec![pps] });
        assert_eq!(record_of(&[], &[pps]), Err(CodecError::NoParameterSet));
        for end in 0..record.len() - 4 {
            assert!(Record::read(&record[..end]).is_err());
        }
    }
}
