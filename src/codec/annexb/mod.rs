//! Access units of H.264, H.265 and H.266: NAL units with lengths before them, as frames carry them, and the byte
//! stream of Annex B, as MPEG-TS carries it (ISO/IEC 14496-10, 23008-2 and 23090-3, each annex B).
//!
//! [`ParameterSets`] holds what a decoder configuration record (ISO/IEC 14496-15) says and gives each access unit its
//! delimiter, and each at which a decoder can start its parameter sets. [`ByteStreamReader`] goes the other way: it
//! takes delimiters and parameter sets out and makes the record of them. Left out: making a record of H.266; H.265
//! parameter sets of further layers and H.264 subset parameter sets, which stay where they are.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bits;
mod reader;
mod record;
mod sps;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use reader::{AccessUnit, ByteStreamReader};

use crate::media::Codec;

/// What is wrong with a record, an access unit or a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NalError {
    /// Only H.264, H.265 and H.266 have NAL units.
    #[error("{0} has no NAL units")]
    Codec(Codec),
    /// The record ends too early, or its length size is 3.
    #[error("the decoder configuration record is malformed")]
    Record,
    /// A length reaches behind the end of the access unit.
    #[error("a NAL unit is longer than its access unit")]
    Length,
    /// More parameter sets than [`PARAMETER_SETS_MAX`](crate::limits::PARAMETER_SETS_MAX), or more of their bytes than
    /// [`CONFIG_BYTES_MAX`](crate::limits::CONFIG_BYTES_MAX).
    #[error("too many parameter sets")]
    ParameterSets,
}

/// What a NAL unit is, as far as this matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Delimiter,
    Vps,
    Sps,
    Pps,
    /// A slice of a picture at which decoding can start: IDR, BLA, CRA.
    RandomAccess,
    Other,
}

impl Kind {
    fn of(codec: Codec, unit: &[u8]) -> Self {
        let (Some(first), second) = (unit.first(), unit.get(1).copied().unwrap_or(0)) else { return Self::Other };
        match codec {
            Codec::H264 => match first & 0x1F {
                5 => Self::RandomAccess,
                7 => Self::Sps,
                8 => Self::Pps,
                9 => Self::Delimiter,
                _ => Self::Other,
            },
            Codec::H265 => match (first >> 1 & 0x3F, (first & 1) << 5 | second >> 3) {
                (16..=21, _) => Self::RandomAccess,
                (32, 0) => Self::Vps,
                (33, 0) => Self::Sps,
                (34, 0) => Self::Pps,
                (35, _) => Self::Delimiter,
                _ => Self::Other,
            },
            _ => match (second >> 3, first & 0x3F) {
                (7..=9, _) => Self::RandomAccess,
                (14, 0) => Self::Vps,
                (15, 0) => Self::Sps,
                (16, 0) => Self::Pps,
                (20, _) => Self::Delimiter,
                _ => Self::Other,
            },
        }
    }
}

/// The parameter sets of a track, out of its decoder configuration record, and how its NAL units are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
    length_bytes: usize,
    units: Vec<Bytes>,
}

impl ParameterSets {
    /// From `AVCDecoderConfigurationRecord`, `HEVCDecoderConfigurationRecord` or `VvcDecoderConfigurationRecord`
    /// (ISO/IEC 14496-15, 5.3.3.1, 8.3.3.1 and 11.2.4.2). The parameter sets are slices of it.
    ///
    /// # Errors
    /// A codec without NAL units, or a record that is cut.
    pub fn from_config(codec: Codec, config: &Bytes) -> Result<Self, NalError> {
        let (length_bytes, units) = match codec {
            Codec::H264 => record::read_avc(config),
            Codec::H265 => record::read_hevc(config),
            Codec::H266 => record::read_vvc(config),
            _ => return Err(NalError::Codec(codec)),
        }
        .ok_or(NalError::Record)?;
        Ok(Self { codec, length_bytes, units })
    }

    /// The parameter sets in their order.
    #[must_use]
    pub fn units(&self) -> &[Bytes] {
        &self.units
    }

    /// Looks through an access unit whose NAL units have lengths. `key`: a decoder may start here, even if no NAL unit
    /// says so.
    ///
    /// # Errors
    /// A length that reaches behind the end.
    pub fn byte_stream<'a>(&'a self, access_unit: &'a [u8], key: bool) -> Result<ByteStream<'a>, NalError> {
        let (mut with_sets, mut own_sets, mut bytes, mut count) = (key, false, 0_usize, 0_usize);
        let mut rest = access_unit;
        while !rest.is_empty() {
            let (unit, behind) = self.split(rest).ok_or(NalError::Length)?;
            rest = behind;
            match Kind::of(self.codec, unit) {
                Kind::Delimiter => continue,
                _ if unit.is_empty() => continue,
                Kind::RandomAccess => with_sets = true,
                Kind::Sps => own_sets = true,
                _ => {}
            }
            bytes += start_code(self.codec, unit, count == 0).len() + unit.len();
            count += 1;
        }
        let delimiter = delimiter(self.codec, with_sets);
        bytes += delimiter.len();
        let with_sets = with_sets && !own_sets && !self.units.is_empty();
        if with_sets {
            let code = |unit: &Bytes| start_code(self.codec, unit, true).len() + unit.len();
            bytes += self.units.iter().map(code).sum::<usize>();
            // The first unit of the access unit comes behind them then.
            bytes -= usize::from(self.first_is_short(access_unit));
        }
        Ok(ByteStream { sets: self, access_unit, with_sets, delimiter, bytes })
    }

    /// Whether the first unit that is written takes a start code of 3 bytes if it is not the first any more.
    fn first_is_short(&self, access_unit: &[u8]) -> bool {
        let first = self.units_of(access_unit).next();
        first.is_some_and(|unit| start_code(self.codec, unit, false).len() == SHORT.len())
    }

    /// The units that are written: no delimiters, no empty ones.
    fn units_of<'a>(&'a self, access_unit: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = access_unit;
        let all = std::iter::from_fn(move || {
            let (unit, behind) = self.split(rest)?;
            rest = behind;
            Some(unit)
        });
        all.filter(|unit| !unit.is_empty() && Kind::of(self.codec, unit) != Kind::Delimiter)
    }

    fn split<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (length, rest) = bytes.split_at_checked(self.length_bytes)?;
        rest.split_at_checked(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }
}

/// One access unit as a byte stream: delimiter, parameter sets where a decoder can start and it has none of its own,
/// then its NAL units. It lends the bytes of the access unit.
#[derive(Clone, Copy, Debug)]
pub struct ByteStream<'a> {
    sets: &'a ParameterSets,
    access_unit: &'a [u8],
    with_sets: bool,
    delimiter: &'static [u8],
    bytes: usize,
}

impl ByteStream<'_> {
    /// Bytes of it all.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is a delimiter at least")]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Gives it piece by piece, in order: [`ByteStream::len`] bytes together.
    pub fn write(&self, mut put: impl FnMut(&[u8])) {
        put(self.delimiter);
        let sets = self.sets.units.iter().filter(|_| self.with_sets).map(AsRef::as_ref);
        for (index, unit) in sets.chain(self.sets.units_of(self.access_unit)).enumerate() {
            put(start_code(self.sets.codec, unit, index == 0));
            put(unit);
        }
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes);
        self.write(|piece| out.extend_from_slice(piece));
        out.into()
    }
}

/// The NAL units of a byte stream, without start codes and the zeros around them.
pub fn units_of_byte_stream(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    // What stands before the first start code is no unit.
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let stream = rest?;
        let end = start_code_at(stream).unwrap_or(stream.len());
        let (unit, behind) = stream.split_at_checked(end)?;
        rest = after_start_code(behind);
        Some(unit)
    })
    .map(|unit| {
        // `trailing_zero_8bits`, and the `zero_byte` of the next one: no unit ends in a zero (B.1.2).
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        unit.get(..unit.len() - zeros).unwrap_or_default()
    })
    .filter(|unit| !unit.is_empty())
}

fn after_start_code(stream: &[u8]) -> Option<&[u8]> {
    stream.get(start_code_at(stream)? + SHORT.len()..)
}

/// Where the next 0x000001 is.
fn start_code_at(stream: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some([a, b, c]) = stream.get(at..).and_then(<[u8]>::first_chunk) {
        at += match (a, b, c) {
            (0, 0, 1) => return Some(at),
            // A byte over 1 is in no start code, so none begins before it.
            (_, _, 2..) => 3,
            (_, 1.., _) => 2,
            _ => 1,
        };
    }
    None
}

const SHORT: &[u8] = &[0, 0, 1];
const LONG: &[u8] = &[0, 0, 0, 1];

/// With the `zero_byte` that the first unit and parameter sets must have (ISO/IEC 14496-10, B.1.2). We give one to the
/// first unit behind the delimiter, too: some who read a stream take the delimiter off.
fn start_code(codec: Codec, unit: &[u8], first: bool) -> &'static [u8] {
    let set = matches!(Kind::of(codec, unit), Kind::Vps | Kind::Sps | Kind::Pps);
    if first || set { LONG } else { SHORT }
}

/// An access unit delimiter that allows all kinds of slices.
fn delimiter(codec: Codec, start: bool) -> &'static [u8] {
    match codec {
        Codec::H264 => &[0, 0, 0, 1, 0x09, 0xF0],
        Codec::H265 => &[0, 0, 0, 1, 35 << 1, 1, 0x50],
        // `aud_irap_or_gdr_flag` says whether decoding can start here (ISO/IEC 23090-3, 7.4.3.10).
        _ if start => &[0, 0, 0, 1, 0, 20 << 3 | 1, 0xA8],
        _ => &[0, 0, 0, 1, 0, 20 << 3 | 1, 0x28],
    }
}
