//! H.266: the head of the sequence parameter set (ITU-T H.266, 7.3.2.4) and `VvcDecoderConfigurationRecord`
//! (ISO/IEC 14496-15, 11.2.4.2).
//!
//! The frame rate is that of the record: in the parameter set it stands behind all the tools of the codec.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::{Bits, take, take_u8, take_u16, unescaped};
use super::nal::{self, put_unit};
use super::{CodecError, Description, FrameRate, cropped};
use crate::limits::{CONFIG_BYTES_MAX, RECORD_SETS_MAX};

/// Types of NAL units (table 5): IDR and CRA pictures, and parameter sets.
const IDR_W_RADL: u8 = 7;
const CRA: u8 = 9;
const OPI: u8 = 12;
const DCI: u8 = 13;
const VPS: u8 = 14;
const SPS: u8 = 15;
const PPS: u8 = 16;
/// Flags of `general_constraints_info` that every version knows, behind `gci_present_flag` (7.3.3.2).
const CONSTRAINT_BITS: u32 = 71;
/// Subpictures of the highest level (A.4.1).
const SUBPICTURES_MAX: u32 = 1000;
const BASE32: [u8; 32] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `profile_tier_level` of all sub-layers together (7.3.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `general_profile_idc`.
    pub idc: u8,
    /// `general_tier_flag`: the high tier.
    pub high_tier: bool,
    /// `general_level_idc`: sixteen times the level, three for each tenth.
    pub level: u8,
    /// `ptl_frame_only_constraint_flag`, `ptl_multilayer_enabled_flag` and the constraints behind them, in whole
    /// bytes.
    pub constraints: Vec<u8>,
}

impl Profile {
    /// `vvc1.` and what a player decides by (ISO/IEC 14496-15, E.6).
    #[must_use]
    pub fn codec_string(&self) -> String {
        let tier = if self.high_tier { 'H' } else { 'L' };
        let mut text = format!("vvc1.{}.{tier}{}", self.idc, self.level);
        let used = self.constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        let used = self.constraints.get(..used).unwrap_or_default();
        if !used.is_empty() {
            text.push_str(".C");
            let mut bits = Bits::new(used);
            for _ in 0..used.len().saturating_mul(8).div_ceil(5) {
                // The last group is filled with zeros.
                let group = (0..5).fold(0_u8, |group, _| group << 1 | u8::from(bits.flag().unwrap_or(false)));
                text.push(char::from(BASE32.get(usize::from(group)).copied().unwrap_or(b'A')));
            }
        }
        text
    }
}

/// What the head of a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Profile, tier, level and constraints, where they stand here and not in the VPS.
    pub profile: Option<Profile>,
    /// Sub-layers: 1 to 7.
    pub sub_layers: u8,
    /// `sps_chroma_format_idc`: 0 grey, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits per sample.
    pub bits: u8,
    /// Width and height in pixels as they are coded at most.
    pub coded: (u32, u32),
    /// Width and height in pixels, cropped.
    pub size: (u32, u32),
}

impl Sps {
    /// Reads a NAL unit, header included.
    ///
    /// # Errors
    /// The unit is no SPS, ends too early, or says what cannot be.
    pub fn read(unit: &[u8]) -> Result<Self, CodecError> {
        if kind(unit) != Some(SPS) {
            return Err(CodecError::NoParameterSet);
        }
        let unit = unescaped(unit.get(..unit.len().min(CONFIG_BYTES_MAX)).unwrap_or_default());
        let mut bits = Bits::new(&unit);
        bits.skip(16 + 8)?; // header, sps_seq_parameter_set_id, sps_video_parameter_set_id
        let more_layers = bits.byte(3)?;
        if more_layers > 6 {
            return Err(CodecError::Value);
        }
        let chroma_format = bits.byte(2)?;
        let ctu_bits = bits.number(2)?.saturating_add(5);
        let profile = if bits.flag()? { Some(profile(&mut bits, more_layers)?) } else { None };
        bits.flag()?; // sps_gdr_enabled_flag
        if bits.flag()? {
            bits.flag()?; // sps_res_change_in_clvs_allowed_flag
        }
        let coded = (bits.unsigned()?, bits.unsigned()?);
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.unsigned()?;
            }
        }
        let unit = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let size = cropped(coded, crop, unit)?;
        if bits.flag()? {
            subpictures(&mut bits, coded, ctu_bits)?;
        }
        let depth = bits.unsigned()?;
        let bits = u8::try_from(depth).ok().filter(|depth| *depth <= 8).ok_or(CodecError::Value)?.saturating_add(8);
        Ok(Self { profile, sub_layers: more_layers.saturating_add(1), chroma_format, bits, coded, size })
    }
}

/// `profile_tier_level( 1, more_layers )`.
fn profile(bits: &mut Bits<'_>, more_layers: u8) -> Result<Profile, CodecError> {
    let (idc, high_tier, level) = (bits.byte(7)?, bits.flag()?, bits.byte(8)?);
    let mut flags = vec![bits.flag()?, bits.flag()?, bits.flag()?];
    if flags.last() == Some(&true) {
        for _ in 0..CONSTRAINT_BITS {
            flags.push(bits.flag()?);
        }
        let more = bits.byte(8)?;
        flags.extend((0..8).rev().map(|bit| more.rotate_right(bit) & 1 == 1));
        for _ in 0..more {
            flags.push(bits.flag()?);
        }
    }
    let byte = |eight: &[bool]| (0..8).fold(0_u8, |byte, at| byte << 1 | u8::from(eight.get(at) == Some(&true)));
    let constraints = flags.chunks(8).map(byte).collect();
    bits.align();
    let mut said = 0_usize;
    for _ in 0..more_layers {
        said = said.saturating_add(usize::from(bits.flag()?));
    }
    bits.align();
    bits.skip(said.saturating_mul(8))?;
    let sub_profiles = bits.byte(8)?;
    bits.skip(usize::from(sub_profiles).saturating_mul(32))?;
    Ok(Profile { idc, high_tier, level, constraints })
}

/// What follows `sps_subpic_info_present_flag`: where on the grid of coding tree units each subpicture lies.
fn subpictures(bits: &mut Bits<'_>, coded: (u32, u32), ctu_bits: u32) -> Result<(), CodecError> {
    let more = bits.unsigned()?;
    if more >= SUBPICTURES_MAX {
        return Err(CodecError::Value);
    }
    if more > 0 {
        let (independent, same_size) = (bits.flag()?, bits.flag()?);
        // So many bits has a place on the grid: none where there is only one.
        let place = |side: u32| {
            let units = side.div_ceil(1_u32.checked_shl(ctu_bits).unwrap_or(1));
            usize::try_from(u32::BITS.saturating_sub(units.saturating_sub(1).leading_zeros())).unwrap_or(0)
        };
        let place = place(coded.0).saturating_add(place(coded.1));
        for nth in 0..=more {
            if !same_size || nth == 0 {
                // The first begins at the corner, the last ends at the opposite one.
                bits.skip(if nth > 0 { place } else { 0 })?;
                bits.skip(if nth < more { place } else { 0 })?;
            }
            if !independent {
                bits.skip(2)?;
            }
        }
    }
    let id_bits = usize::try_from(bits.unsigned()?).unwrap_or(usize::MAX).saturating_add(1);
    if bits.flag()? && bits.flag()? {
        let ids = usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1);
        bits.skip(id_bits.saturating_mul(ids))?;
    }
    Ok(())
}

/// The fields of a `VvcDecoderConfigurationRecord` that others need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the length before each unit of a frame: 1, 2 or 4.
    pub length_bytes: usize,
    /// Profile, tier and level, where the record has them.
    pub profile: Option<Profile>,
    /// `avg_frame_rate`: frames in 256 seconds, 0 where it is not said.
    pub average_frame_rate: u16,
    /// Video parameter sets.
    pub vps: Vec<&'a [u8]>,
    /// Sequence parameter sets.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets.
    pub pps: Vec<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Takes a record apart.
    ///
    /// # Errors
    /// It ends too early, or holds too many parameter sets.
    pub fn read(mut record: &'a [u8]) -> Result<Self, CodecError> {
        let first = take_u8(&mut record)?;
        if first & 0xF8 != 0xF8 {
            return Err(CodecError::Version);
        }
        let length_bytes = nal::length_bytes(first >> 1)?;
        let (mut profile, mut average_frame_rate) = (None, 0);
        if first & 1 == 1 {
            let layers = take_u16(&mut record)? >> 4 & 7;
            take_u8(&mut record)?; // bit depth
            profile = Some(record_profile(&mut record, layers)?);
            take(&mut record, 4)?; // max_picture_width, max_picture_height
            average_frame_rate = take_u16(&mut record)?;
        }
        let (mut vps, mut sps, mut pps) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..take_u8(&mut record)? {
            let array = take_u8(&mut record)? & 0x1F;
            let count = if array == DCI || array == OPI { 1 } else { take_u16(&mut record)? };
            for _ in 0..count {
                let length = take_u16(&mut record)?;
                let unit = take(&mut record, usize::from(length))?;
                match array {
                    VPS => nal::add_set(&mut vps, unit)?,
                    SPS => nal::add_set(&mut sps, unit)?,
                    PPS => nal::add_set(&mut pps, unit)?,
                    _ => {}
                }
            }
        }
        Ok(Self { length_bytes, profile, average_frame_rate, vps, sps, pps })
    }
}

/// `VvcPTLRecord`.
fn record_profile(record: &mut &[u8], layers: u16) -> Result<Profile, CodecError> {
    let constraint_bytes = usize::from(take_u8(record)? & 0x3F);
    let (profile, level) = (take_u8(record)?, take_u8(record)?);
    let constraints = take(record, constraint_bytes)?.to_vec();
    if layers > 1 {
        let said = take_u8(record)?;
        let said = said & !0xFF_u8.checked_shr(u32::from(layers).saturating_sub(1)).unwrap_or(0);
        take(record, usize::try_from(said.count_ones()).unwrap_or(usize::MAX))?;
    }
    let sub_profiles = take_u8(record)?;
    take(record, usize::from(sub_profiles).saturating_mul(4))?;
    Ok(Profile { idc: profile >> 1, high_tier: profile & 1 == 1, level, constraints })
}

/// Makes a `VvcDecoderConfigurationRecord` with 4-byte lengths out of parameter sets, each a NAL unit with its
/// header. The arrays are marked complete: frames need no further sets.
///
/// # Errors
/// There is no SPS with a profile, the first one cannot be read, or there are more of them than a record holds.
pub fn record_of(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, CodecError> {
    let first = Sps::read(sps.first().ok_or(CodecError::NoParameterSet)?)?;
    let profile = first.profile.as_ref().ok_or(CodecError::NoParameterSet)?;
    let mut out = BytesMut::new();
    out.put_u8(0xFF);
    // Of the first output layer set; whether its frame rate is constant is not known.
    out.put_u16(u16::from(first.sub_layers) << 4 | u16::from(first.chroma_format));
    out.put_u8(first.bits.saturating_sub(8) << 5 | 0x1F);
    let constraint_bytes = u8::try_from(profile.constraints.len()).ok().filter(|count| *count <= 0x3F);
    out.put_u8(constraint_bytes.ok_or(CodecError::TooLong)?);
    out.put_slice(&[profile.idc << 1 | u8::from(profile.high_tier), profile.level]);
    out.put_slice(&profile.constraints);
    if first.sub_layers > 1 {
        out.put_u8(0);
    }
    out.put_u8(0);
    for side in [first.coded.0, first.coded.1] {
        out.put_u16(u16::try_from(side).map_err(|_| CodecError::Size)?);
    }
    out.put_u16(0);
    let arrays = [(VPS, vps), (SPS, sps), (PPS, pps)];
    let arrays = arrays.iter().filter(|(_, sets)| !sets.is_empty());
    out.put_u8(u8::try_from(arrays.clone().count()).unwrap_or(u8::MAX));
    for (kind, sets) in arrays {
        let count = u16::try_from(sets.len()).ok().filter(|_| sets.len() <= RECORD_SETS_MAX);
        out.put_u8(0x80 | kind);
        out.put_u16(count.ok_or(CodecError::TooMany)?);
        sets.iter().try_for_each(|unit| put_unit(&mut out, unit))?;
    }
    Ok(out.freeze())
}

/// The record that the parameter sets within a frame with 4-byte lengths make.
pub(super) fn record_of_frame(frame: &[u8]) -> Result<Bytes, CodecError> {
    let (mut vps, mut sps, mut pps) = (Vec::new(), Vec::new(), Vec::new());
    for unit in nal::units(frame, 4) {
        match kind(unit) {
            Some(VPS) => nal::add_set(&mut vps, unit)?,
            Some(SPS) => nal::add_set(&mut sps, unit)?,
            Some(PPS) => nal::add_set(&mut pps, unit)?,
            _ => {}
        }
    }
    record_of(&vps, &sps, &pps)
}

pub(super) fn describe(record: &[u8]) -> Result<Description, CodecError> {
    let record = Record::read(record)?;
    let sps = Sps::read(record.sps.first().ok_or(CodecError::NoParameterSet)?)?;
    let profile = record.profile.or(sps.profile).ok_or(CodecError::NoParameterSet)?;
    let frame_rate = FrameRate::new(record.average_frame_rate.into(), 256);
    Ok(Description::video(sps.size, frame_rate, profile.codec_string()))
}

/// Whether a decoder can start at this access unit: an IDR or CRA picture.
pub(super) fn is_key(frame: &[u8], length_bytes: usize) -> bool {
    nal::units(frame, length_bytes).any(|unit| kind(unit).is_some_and(|kind| (IDR_W_RADL..=CRA).contains(&kind)))
}

/// The type stands in the second byte of the header.
fn kind(unit: &[u8]) -> Option<u8> {
    unit.get(1).map(|header| header >> 3)
}
