//! H.265: the sequence parameter set (ITU-T H.265, 7.3.2.2 and E.2.1) and `HEVCDecoderConfigurationRecord`
//! (ISO/IEC 14496-15, 8.3.3.1).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::{Bits, take, take_u8, take_u16, unescaped};
use super::nal::{self, put_unit};
use super::{CodecError, Description, FrameRate, cropped};
use crate::limits::{CONFIG_BYTES_MAX, RECORD_SETS_MAX};

/// Types of NAL units (table 7-1): intra random access points, and parameter sets.
const BLA_W_LP: u8 = 16;
const RSV_IRAP_VCL23: u8 = 23;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const EXTENDED_SAR: u8 = 255;
/// `num_short_term_ref_pic_sets` and the pictures of one set (7.4.3.2.1, A.4.2).
const REFERENCE_SETS_MAX: u32 = 64;
const REFERENCES_MAX: u32 = 16;

/// `general_…` of `profile_tier_level` (7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `general_profile_space`: 0 to 3.
    pub space: u8,
    /// `general_tier_flag`: the high tier.
    pub high_tier: bool,
    /// `general_profile_idc`.
    pub idc: u8,
    /// `general_profile_compatibility_flag`s, the first on top.
    pub compatibility: u32,
    /// The six bytes of constraint flags.
    pub constraints: [u8; 6],
    /// `general_level_idc`: thirty times the level.
    pub level: u8,
}

impl Profile {
    fn read(bits: &mut Bits<'_>) -> Result<Self, CodecError> {
        let (space, high_tier, idc) = (bits.byte(2)?, bits.flag()?, bits.byte(5)?);
        let compatibility = bits.number(32)?;
        let mut constraints = [0; 6];
        for byte in &mut constraints {
            *byte = bits.byte(8)?;
        }
        Ok(Self { space, high_tier, idc, compatibility, constraints, level: bits.byte(8)? })
    }

    /// `hvc1.` and what a player decides by (ISO/IEC 14496-15, E.3).
    #[must_use]
    pub fn codec_string(&self) -> String {
        let space = match self.space {
            1 => "A",
            2 => "B",
            3 => "C",
            _ => "",
        };
        let tier = if self.high_tier { 'H' } else { 'L' };
        let flags = self.compatibility.reverse_bits();
        let mut text = format!("hvc1.{space}{}.{flags:X}.{tier}{}", self.idc, self.level);
        let used = self.constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        for byte in self.constraints.iter().take(used) {
            text.push_str(&format!(".{byte:X}"));
        }
        text
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.space << 6 | u8::from(self.high_tier) << 5 | self.idc);
        out.put_u32(self.compatibility);
        out.put_slice(&self.constraints);
        out.put_u8(self.level);
    }
}

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Profile, tier and level.
    pub profile: Profile,
    /// Temporal sub-layers: 1 to 7.
    pub sub_layers: u8,
    /// Each sub-layer is what a lower one refers to (`sps_temporal_id_nesting_flag`).
    pub nested: bool,
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
        if kind(unit) != Some(SPS) {
            return Err(CodecError::NoParameterSet);
        }
        let unit = unescaped(unit.get(..unit.len().min(CONFIG_BYTES_MAX)).unwrap_or_default());
        let mut bits = Bits::new(&unit);
        bits.skip(16 + 4)?; // header, sps_video_parameter_set_id
        let more_layers = bits.byte(3)?;
        if more_layers > 6 {
            return Err(CodecError::Value);
        }
        let nested = bits.flag()?;
        let profile = Profile::read(&mut bits)?;
        sub_layer_levels(&mut bits, more_layers)?;
        bits.unsigned()?; // sps_seq_parameter_set_id
        let chroma_format = small(bits.unsigned()?, 3)?;
        let separate = chroma_format == 3 && bits.flag()?;
        let coded = (bits.unsigned()?, bits.unsigned()?);
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.unsigned()?;
            }
        }
        // SubWidthC and SubHeightC (table 6-1).
        let unit = match (separate, chroma_format) {
            (false, 1) => (2, 2),
            (false, 2) => (2, 1),
            _ => (1, 1),
        };
        let size = cropped(coded, crop, unit)?;
        let luma_bits = small(bits.unsigned()?, 8)?.saturating_add(8);
        let chroma_bits = small(bits.unsigned()?, 8)?.saturating_add(8);
        // What follows is not needed to route the stream.
        let frame_rate = frame_rate(&mut bits, more_layers).unwrap_or(None);
        let sub_layers = more_layers.saturating_add(1);
        Ok(Self { profile, sub_layers, nested, chroma_format, luma_bits, chroma_bits, size, frame_rate })
    }
}

/// The rest of `profile_tier_level`: what the lower sub-layers say of themselves.
fn sub_layer_levels(bits: &mut Bits<'_>, more_layers: u8) -> Result<(), CodecError> {
    let mut said = Vec::new();
    for _ in 0..more_layers {
        said.push((bits.flag()?, bits.flag()?));
    }
    if more_layers > 0 {
        bits.skip(usize::from(8_u8.saturating_sub(more_layers)).saturating_mul(2))?;
    }
    for (profile, level) in said {
        bits.skip(if profile { 88 } else { 0 })?;
        bits.skip(if level { 8 } else { 0 })?;
    }
    Ok(())
}

/// From the bit depths of an SPS to the timing information of its VUI.
fn frame_rate(bits: &mut Bits<'_>, more_layers: u8) -> Result<Option<FrameRate>, CodecError> {
    let poc_bits = bits.unsigned()?.saturating_add(4);
    let all = bits.flag()?; // sps_sub_layer_ordering_info_present_flag
    for _ in 0..=if all { more_layers } else { 0 } {
        bits.unsigned()?;
        bits.unsigned()?;
        bits.unsigned()?;
    }
    for _ in 0..6 {
        bits.unsigned()?; // sizes of blocks, depths of transform trees
    }
    if bits.flag()? && bits.flag()? {
        scaling_lists(bits)?;
    }
    bits.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.flag()? {
        bits.skip(8)?;
        bits.unsigned()?;
        bits.unsigned()?;
        bits.flag()?;
    }
    reference_sets(bits)?;
    if bits.flag()? {
        let count = bits.unsigned()?;
        if count > 32 {
            return Err(CodecError::Value);
        }
        for _ in 0..count {
            bits.number(poc_bits)?;
            bits.flag()?;
        }
    }
    bits.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if bits.flag()? { vui_frame_rate(bits) } else { Ok(None) }
}

/// `scaling_list_data` (7.3.4).
fn scaling_lists(bits: &mut Bits<'_>) -> Result<(), CodecError> {
    for size in 0..4_u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag()? {
                bits.unsigned()?;
                continue;
            }
            if size > 1 {
                bits.signed()?;
            }
            for _ in 0..if size == 0 { 16 } else { 64 } {
                bits.signed()?;
            }
        }
    }
    Ok(())
}

/// `st_ref_pic_set`s (7.3.7). Of each the number of pictures is needed, since the next one may be told by it.
fn reference_sets(bits: &mut Bits<'_>) -> Result<(), CodecError> {
    let count = bits.unsigned()?;
    if count > REFERENCE_SETS_MAX {
        return Err(CodecError::Value);
    }
    let mut pictures = 0_u32;
    for set in 0..count {
        if set > 0 && bits.flag()? {
            bits.flag()?;
            bits.unsigned()?;
            let mut used = 0_u32;
            for _ in 0..=pictures {
                let kept = bits.flag()? || bits.flag()?;
                used = used.saturating_add(u32::from(kept));
            }
            pictures = used;
        } else {
            let (negative, positive) = (bits.unsigned()?, bits.unsigned()?);
            pictures = negative.saturating_add(positive);
            if pictures > REFERENCES_MAX {
                return Err(CodecError::Value);
            }
            for _ in 0..pictures {
                bits.unsigned()?;
                bits.flag()?;
            }
        }
        if pictures > REFERENCES_MAX {
            return Err(CodecError::Value);
        }
    }
    Ok(())
}

/// `vui_parameters` up to its timing information (E.2.1).
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
    bits.skip(3)?; // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
    if bits.flag()? {
        for _ in 0..4 {
            bits.unsigned()?; // default display window
        }
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let (units, scale) = (bits.number(32)?, bits.number(32)?);
    Ok(FrameRate::new(scale, units))
}

/// The fields of an `HEVCDecoderConfigurationRecord` that others need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Profile, tier and level.
    pub profile: Profile,
    /// Bytes of the length before each unit of a frame: 1, 2 or 4.
    pub length_bytes: usize,
    /// `avgFrameRate`: frames in 256 seconds, 0 where it is not said.
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
    /// It ends too early, is of another version, or holds too many parameter sets.
    pub fn read(mut record: &'a [u8]) -> Result<Self, CodecError> {
        // Some encoders write 0 there, from before the record was fixed.
        if take_u8(&mut record)? > 1 {
            return Err(CodecError::Version);
        }
        let profile = Profile::read(&mut Bits::new(take(&mut record, 12)?))?;
        take(&mut record, 6)?;
        let average_frame_rate = take_u16(&mut record)?;
        let length_bytes = nal::length_bytes(take_u8(&mut record)?)?;
        let (mut vps, mut sps, mut pps) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..take_u8(&mut record)? {
            let array = take_u8(&mut record)? & 0x3F;
            for _ in 0..take_u16(&mut record)? {
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
        Ok(Self { profile, length_bytes, average_frame_rate, vps, sps, pps })
    }
}

/// Makes an `HEVCDecoderConfigurationRecord` with 4-byte lengths out of parameter sets, each a NAL unit with its
/// header. The arrays are marked complete: frames need no further sets.
///
/// # Errors
/// There is no SPS, the first one cannot be read, or there are more of them than a record holds.
pub fn record_of(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, CodecError> {
    let first = Sps::read(sps.first().ok_or(CodecError::NoParameterSet)?)?;
    let mut out = BytesMut::new();
    out.put_u8(1);
    first.profile.put(&mut out);
    // min_spatial_segmentation_idc and parallelismType 0: not known.
    out.put_slice(&[0xF0, 0, 0xFC, 0xFC | first.chroma_format]);
    out.put_slice(&[0xF8 | first.luma_bits.saturating_sub(8), 0xF8 | first.chroma_bits.saturating_sub(8)]);
    out.put_u16(0);
    out.put_u8(first.sub_layers << 3 | u8::from(first.nested) << 2 | 3);
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
    let average = FrameRate::new(record.average_frame_rate.into(), 256);
    Ok(Description::video(sps.size, sps.frame_rate.or(average), sps.profile.codec_string()))
}

/// Whether a decoder can start at this access unit: an intra random access point (3.69).
pub(super) fn is_key(frame: &[u8], length_bytes: usize) -> bool {
    let random_access = |unit| kind(unit).is_some_and(|kind| (BLA_W_LP..=RSV_IRAP_VCL23).contains(&kind));
    nal::units(frame, length_bytes).any(random_access)
}

fn kind(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header >> 1 & 0x3F)
}

fn small(value: u32, most: u8) -> Result<u8, CodecError> {
    u8::try_from(value).ok().filter(|value| *value <= most).ok_or(CodecError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::bits::tests::Written;

    /// An SPS of 64x48 whose frame rate stands behind all that may stand before it.
    fn with_everything() -> Written {
        let set = Written::default().number(16, 0x4201).number(4, 0).number(3, 1).number(1, 1);
        // profile_tier_level with one sub-layer that says both of itself.
        let set = set.number(8, 1).number(32, 0x6000_0000).number(24, 0x90_0000).number(24, 0).number(8, 60);
        let set = set.number(2, 3).number(14, 0).number(32, 7).number(32, 7).number(24, 7).number(8, 7);
        let set = set.unsigned(0).unsigned(1).unsigned(64).unsigned(64).number(1, 1);
        let set = set.unsigned(0).unsigned(0).unsigned(0).unsigned(8).unsigned(0).unsigned(0);
        let set =
            set.unsigned(4).number(1, 1).unsigned(1).unsigned(0).unsigned(0).unsigned(1).unsigned(0).unsigned(0);
        let mut set = (0..6).fold(set, Written::unsigned).number(2, 3);
        for size in 0..4 {
            for list in 0..if size == 3 { 2 } else { 6 } {
                // The first list of each size is copied, the others are written.
                set = set.number(1, u32::from(list > 0));
                if list == 0 {
                    set = set.unsigned(0);
                    continue;
                }
                set = if size > 1 { set.signed(8) } else { set };
                set = (0..if size == 0 { 16 } else { 64 }).fold(set, |set, value| set.signed(value % 3 - 1));
            }
        }
        let set = set.number(2, 3).number(1, 1).number(8, 0x77).unsigned(0).unsigned(0).number(1, 0);
        // Three sets of references: 3 pictures; of 4 places 3 are kept; of 4 places 1 is kept.
        let set = set.unsigned(3).unsigned(2).unsigned(1);
        let set = (0..3).fold(set, |set, _| set.unsigned(0).number(1, 1));
        let set = set.number(1, 1).number(1, 0).unsigned(0).number(1, 1).number(2, 0b01).number(2, 0b00).number(1, 1);
        let set = set.number(1, 1).number(1, 0).unsigned(0).number(2, 0).number(2, 0).number(2, 0).number(1, 1);
        let set = set.number(1, 1).unsigned(2).number(9, 0x155).number(9, 0x155).number(2, 3);
        // VUI: an aspect ratio, overscan, colour, where chroma lies, a window, and the time.
        let set = set.number(1, 1).number(1, 1).number(8, 255).number(32, 0x10001).number(2, 3).number(1, 1);
        let set = set.number(4, 0xB).number(1, 1).number(24, 0x01_0101).number(1, 1).unsigned(0).unsigned(0);
        let set = set.number(3, 0).number(1, 1).unsigned(0).unsigned(0).unsigned(0).unsigned(0);
        set.number(1, 1).number(32, 1001).number(32, 60_000)
    }

    #[test]
    fn the_frame_rate_is_found_behind_scaling_lists_and_reference_sets() {
        let written = with_everything();
        // A reader takes three bytes for two where they would look like a start code.
        let unit = written.bytes.iter().fold(Vec::new(), |mut unit: Vec<u8>, byte| {
            if unit.ends_with(&[0, 0]) && *byte <= 3 {
                unit.push(3);
            }
            unit.push(*byte);
            unit
        });
        let sps = Sps::read(&unit).unwrap();
        assert_eq!((sps.size, sps.sub_layers, sps.luma_bits), ((64, 48), 2, 8));
        assert_eq!(sps.frame_rate, FrameRate::new(60_000, 1001));
        for end in 0..unit.len() {
            let _ = Sps::read(&unit[..end]);
        }
    }
}
