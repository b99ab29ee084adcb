//! Decoder configuration records (ISO/IEC 14496-15, 5.3.3.1, 8.3.3.1 and 11.2.4.2).

use bytes::{Buf, Bytes};

use super::sps::Sps;
use crate::limits::PARAMETER_SETS_MAX;

type Read = Option<(usize, Vec<Bytes>)>;

pub(super) fn read_avc(record: &Bytes) -> Read {
    let mut rest = record.clone();
    let [1, _, _, _, flags, count] = take(&mut rest)? else { return None };
    let mut units = Vec::new();
    for _ in 0..count & 0x1F {
        unit(&mut rest, Some(&mut units))?;
    }
    let [count] = take(&mut rest)?;
    for _ in 0..count {
        unit(&mut rest, Some(&mut units))?;
    }
    Some((length_bytes(flags)?, units))
}

pub(super) fn read_hevc(record: &Bytes) -> Read {
    let mut rest = record.clone();
    // 0 was written by encoders of the time before the standard.
    let head: [u8; 23] = take(&mut rest)?;
    let [0 | 1, .., flags, arrays] = head else { return None };
    let mut units = Vec::new();
    for _ in 0..arrays {
        let [kind, n1, n0] = take(&mut rest)?;
        for _ in 0..u16::from_be_bytes([n1, n0]) {
            // What else may be there (SEI) is no parameter set.
            unit(&mut rest, (32..=34).contains(&(kind & 0x3F)).then_some(&mut units))?;
        }
    }
    Some((length_bytes(flags)?, units))
}

pub(super) fn read_vvc(record: &Bytes) -> Read {
    let mut rest = record.clone();
    let [flags] = take(&mut rest)?;
    if flags & 1 == 1 {
        // ols_idx 9, num_sublayers 3, constant_frame_rate 2, chroma_format_idc 2; bit_depth_minus8 3.
        let [_, layers, _] = take(&mut rest)?;
        let layers = u32::from(layers >> 4 & 7);
        let [constraint] = take(&mut rest)?;
        let [_, _] = take(&mut rest)?;
        skip(&mut rest, usize::from(constraint & 0x3F))?;
        if layers > 1 {
            let [present] = take(&mut rest)?;
            let levels = (u32::from(present) >> (9 - layers)).count_ones();
            skip(&mut rest, usize::try_from(levels).ok()?)?;
        }
        let [profiles] = take(&mut rest)?;
        skip(&mut rest, 4 * usize::from(profiles))?;
        // Size and frame rate.
        let [_, _, _, _, _, _] = take(&mut rest)?;
    }
    let [arrays] = take(&mut rest)?;
    let mut units = Vec::new();
    for _ in 0..arrays {
        let [kind] = take(&mut rest)?;
        // OPI and DCI: there is one of it.
        let count = if matches!(kind & 0x1F, 12 | 13) { 1 } else { u16::from_be_bytes(take(&mut rest)?) };
        for _ in 0..count {
            unit(&mut rest, (14..=16).contains(&(kind & 0x1F)).then_some(&mut units))?;
        }
    }
    Some((length_bytes(flags >> 1)?, units))
}

/// Of sequence and picture parameter sets; the first of the former speaks for all.
pub(super) fn write_avc(sequence: &[&Bytes], picture: &[&Bytes]) -> Option<Vec<u8>> {
    let first = sequence.first()?;
    let [_, profile, compatibility, level] = *first.first_chunk()?;
    let mut out = vec![1, profile, compatibility, level, 0xFC | 3];
    out.push(0xE0 | u8::try_from(sequence.len()).ok().filter(|count| *count < 32)?);
    sequence.iter().try_for_each(|unit| put(&mut out, unit))?;
    out.push(u8::try_from(picture.len()).ok()?);
    picture.iter().try_for_each(|unit| put(&mut out, unit))?;
    // The three profiles that have neither other chroma nor depth; all others may.
    if !matches!(profile, 66 | 77 | 88) {
        let (chroma, luma_depth, chroma_depth) = match Sps::h264(first) {
            Some(sps) => (sps.chroma_format, sps.bit_depth_luma_minus8, sps.bit_depth_chroma_minus8),
            None => (1, 0, 0),
        };
        out.extend([0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0]);
    }
    Some(out)
}

/// Of video, sequence and picture parameter sets.
pub(super) fn write_hevc(sets: [&[&Bytes]; 3]) -> Option<Vec<u8>> {
    let [_, sequence, _] = sets;
    let sps = Sps::h265(sequence.first()?)?;
    let mut out = vec![1];
    out.extend(sps.profile);
    // Segmentation and parallelism: not known. Average frame rate: not known.
    out.extend([0xF0, 0, 0xFC, 0xFC | sps.chroma_format]);
    out.extend([0xF8 | sps.bit_depth_luma_minus8, 0xF8 | sps.bit_depth_chroma_minus8, 0, 0]);
    out.push(sps.sub_layers << 3 | u8::from(sps.nested) << 2 | 3);
    out.push(u8::try_from(sets.iter().filter(|units| !units.is_empty()).count()).ok()?);
    for (kind, units) in (32..).zip(sets).filter(|(_, units)| !units.is_empty()) {
        out.push(0x80 | kind);
        out.extend(u16::try_from(units.len()).ok()?.to_be_bytes());
        units.iter().try_for_each(|unit| put(&mut out, unit))?;
    }
    Some(out)
}

fn put(out: &mut Vec<u8>, unit: &Bytes) -> Option<()> {
    out.extend(u16::try_from(unit.len()).ok()?.to_be_bytes());
    out.extend_from_slice(unit);
    Some(())
}

/// Takes one unit off, to where such units are kept.
fn unit(rest: &mut Bytes, kept: Option<&mut Vec<Bytes>>) -> Option<()> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    if length > rest.len() {
        return None;
    }
    let unit = rest.split_to(length);
    if let Some(units) = kept.filter(|_| !unit.is_empty()) {
        if units.len() >= PARAMETER_SETS_MAX {
            return None;
        }
        units.push(unit);
    }
    Some(())
}

fn length_bytes(flags: u8) -> Option<usize> {
    Some(usize::from(flags & 3) + 1).filter(|bytes| *bytes != 3)
}

fn skip(bytes: &mut Bytes, count: usize) -> Option<()> {
    (count <= bytes.len()).then(|| bytes.advance(count))
}

fn take<const N: usize>(bytes: &mut Bytes) -> Option<[u8; N]> {
    let head = *bytes.first_chunk()?;
    bytes.advance(N);
    Some(head)
}
