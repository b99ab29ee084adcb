//! What H.264, H.265 and H.266 share: NAL units behind their lengths, and parameter sets in a record.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, BytesMut};

use super::CodecError;
use crate::limits::{CONFIG_BYTES_MAX, NAL_UNITS_MAX, RECORD_SETS_MAX};

/// Bytes of the length before each unit, from the low bits of a record's byte: three are forbidden.
pub(super) const fn length_bytes(low_bits: u8) -> Result<usize, CodecError> {
    match low_bits & 3 {
        0 => Ok(1),
        1 => Ok(2),
        3 => Ok(4),
        _ => Err(CodecError::Value),
    }
}

/// The units of an access unit, each behind a length of so many bytes. What is cut off is left out, and so is all
/// behind [`NAL_UNITS_MAX`] units.
pub fn units(access_unit: &[u8], length_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = access_unit;
    let next = move || {
        let (length, behind) = rest.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        let (unit, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(unit)
    };
    std::iter::from_fn(next).take(NAL_UNITS_MAX)
}

/// Keeps a parameter set, each once: encoders repeat them.
pub(super) fn add_set<'a>(sets: &mut Vec<&'a [u8]>, unit: &'a [u8]) -> Result<(), CodecError> {
    if sets.contains(&unit) {
        return Ok(());
    }
    if sets.len() >= RECORD_SETS_MAX {
        return Err(CodecError::TooMany);
    }
    sets.push(unit);
    Ok(())
}

/// A parameter set behind its length of 16 bits, in a record.
pub(super) fn put_unit(record: &mut BytesMut, unit: &[u8]) -> Result<(), CodecError> {
    let length = u16::try_from(unit.len()).map_err(|_| CodecError::TooLong)?;
    if record.len().saturating_add(unit.len()) > CONFIG_BYTES_MAX {
        return Err(CodecError::TooLong);
    }
    record.put_u16(length);
    record.put_slice(unit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_end_where_a_length_lies() {
        let bytes = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9, 1];
        let found: Vec<&[u8]> = units(&bytes, 4).collect();
        assert_eq!(found, [&[7, 8][..], &[]]);
        assert_eq!(units(&[1, 5, 1, 6], 1).count(), 2);
        assert_eq!(units(&vec![0; 4 * 100_000], 4).count(), NAL_UNITS_MAX);
    }
}
