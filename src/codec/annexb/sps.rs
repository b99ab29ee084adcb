//! What a configuration record repeats of a sequence parameter set, and the size of the picture.

use super::bits::Bits;

/// Of an H.264 or H.265 sequence parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    pub(super) id: u32,
    pub(super) chroma_format: u8,
    pub(super) bit_depth_luma_minus8: u8,
    pub(super) bit_depth_chroma_minus8: u8,
    /// In pixels, cropped; none where it is not to be found or is none.
    pub(super) size: Option<(u32, u32)>,
    /// H.265: sub-layers, 1 to 7.
    pub(super) sub_layers: u8,
    /// H.265: `sps_temporal_id_nesting_flag`.
    pub(super) nested: bool,
    /// H.265: general profile, compatibility, constraints, level.
    pub(super) profile: [u8; 12],
}

/// Profiles whose parameter sets tell of chroma format and bit depth (ISO/IEC 14496-10, 7.3.2.1.1).
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

impl Sps {
    /// ISO/IEC 14496-10, 7.3.2.1.1. `None` if it ends before its size.
    pub(super) fn h264(unit: &[u8]) -> Option<Self> {
        let mut bits = Bits::of_unit(unit, 1);
        let profile = u8::try_from(bits.bits(8)?).ok()?;
        bits.skip(16)?;
        let mut sps = Self {
            id: bits.ue()?,
            chroma_format: 1,
            bit_depth_luma_minus8: 0,
            bit_depth_chroma_minus8: 0,
            size: None,
            sub_layers: 1,
            nested: false,
            profile: [0; 12],
        };
        let mut planes = false;
        if HIGH_PROFILES.contains(&profile) {
            sps.chroma_format = small(bits.ue()?, 3)?;
            if sps.chroma_format == 3 {
                planes = bits.flag()?;
            }
            sps.bit_depth_luma_minus8 = small(bits.ue()?, 6)?;
            sps.bit_depth_chroma_minus8 = small(bits.ue()?, 6)?;
            bits.skip(1)?;
            if bits.flag()? {
                let lists = if sps.chroma_format == 3 { 12 } else { 8 };
                for list in 0..lists {
                    if bits.flag()? {
                        scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        sps.size = size_h264(&mut bits, if planes { 0 } else { sps.chroma_format });
        Some(sps)
    }

    /// ISO/IEC 23008-2, 7.3.2.2.1.
    pub(super) fn h265(unit: &[u8]) -> Option<Self> {
        let mut bits = Bits::of_unit(unit, 2);
        bits.skip(4)?;
        let above = bits.bits(3)?;
        let nested = bits.flag()?;
        let profile = *bits.rest().first_chunk()?;
        bits.skip(96)?;
        let mut present = Vec::new();
        for _ in 0..above {
            present.push((bits.flag()?, bits.flag()?));
        }
        if above > 0 {
            bits.skip(2 * usize::try_from(8_u32.saturating_sub(above)).ok()?)?;
        }
        for (profile, level) in present {
            bits.skip(if profile { 88 } else { 0 })?;
            bits.skip(if level { 8 } else { 0 })?;
        }
        let id = bits.ue()?;
        let chroma_format = small(bits.ue()?, 3)?;
        let planes = chroma_format == 3 && bits.flag()?;
        let (width, height) = (bits.ue()?, bits.ue()?);
        let mut size = Some((width, height)).filter(|(width, height)| *width > 0 && *height > 0);
        if bits.flag()? {
            let edges = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
            size = cropped((width, height), edges, unit_of(if planes { 0 } else { chroma_format }, 1));
        }
        Some(Self {
            id,
            chroma_format,
            bit_depth_luma_minus8: small(bits.ue()?, 8)?,
            bit_depth_chroma_minus8: small(bits.ue()?, 8)?,
            size,
            sub_layers: small(above + 1, 7)?,
            nested,
            profile,
        })
    }
}

/// The rest of the parameter set up to the cropping.
fn size_h264(bits: &mut Bits, chroma_array: u8) -> Option<(u32, u32)> {
    bits.ue()?;
    match bits.ue()? {
        0 => _ = bits.ue()?,
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            // 255 at most; each takes a bit at least.
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1)?;
    let (width, height) = (bits.ue()?.checked_add(1)?, bits.ue()?.checked_add(1)?);
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let fields = if frames_only { 1 } else { 2 };
    let size = (width.checked_mul(16)?, height.checked_mul(16)?.checked_mul(fields)?);
    if !bits.flag()? {
        return Some(size);
    }
    cropped(size, [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?], unit_of(chroma_array, fields))
}

/// Luma samples of one step of cropping.
fn unit_of(chroma_array: u8, fields: u32) -> (u32, u32) {
    match chroma_array {
        1 => (2, 2 * fields),
        2 => (2, fields),
        _ => (1, fields),
    }
}

fn cropped(size: (u32, u32), [left, right, top, bottom]: [u32; 4], unit: (u32, u32)) -> Option<(u32, u32)> {
    let less = |size: u32, a: u32, b: u32, unit| size.checked_sub(a.checked_add(b)?.checked_mul(unit)?);
    let size = (less(size.0, left, right, unit.0)?, less(size.1, top, bottom, unit.1)?);
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// ISO/IEC 14496-10, 7.3.2.1.1.1.
fn scaling_list(bits: &mut Bits, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = last.checked_add(bits.se()?)?.checked_add(256)?.rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

fn small(value: u32, most: u8) -> Option<u8> {
    u8::try_from(value).ok().filter(|value| *value <= most)
}
