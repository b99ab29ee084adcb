//! A byte stream → NAL units with lengths, and a decoder configuration record.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bits::Bits;
use super::sps::Sps;
use super::{Kind, NalError, record, units_of_byte_stream};
use crate::limits::{CONFIG_BYTES_MAX, PARAMETER_SETS_MAX};
use crate::media::Codec;

/// One access unit, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units with 4-byte lengths, without delimiter and parameter sets; empty if there was nothing else.
    pub payload: Bytes,
    /// A picture at which decoding can start: IDR of H.264, IRAP of H.265.
    pub random_access: bool,
    /// It has a sequence parameter set of its own.
    pub has_sps: bool,
    /// [`ByteStreamReader::config`] is another one from this access unit on.
    pub new_config: bool,
}

/// Reads the access units of one track and collects its parameter sets.
#[derive(Clone, Debug)]
pub struct ByteStreamReader {
    codec: Codec,
    /// By kind and id; [`PARAMETER_SETS_MAX`] of them and [`CONFIG_BYTES_MAX`] bytes at most.
    sets: BTreeMap<(Kind, u32), Bytes>,
    config: Bytes,
    size: Option<(u32, u32)>,
}

impl ByteStreamReader {
    /// A reader for H.264 or H.265.
    ///
    /// # Errors
    /// Any other codec.
    pub fn new(codec: Codec) -> Result<Self, NalError> {
        if !matches!(codec, Codec::H264 | Codec::H265) {
            return Err(NalError::Codec(codec));
        }
        Ok(Self { codec, sets: BTreeMap::new(), config: Bytes::new(), size: None })
    }

    /// Reads one access unit. What stands before its first start code is passed over.
    ///
    /// # Errors
    /// Too many parameter sets; nothing of the access unit is taken then.
    pub fn read(&mut self, stream: &[u8]) -> Result<AccessUnit, NalError> {
        let mut changed = false;
        let mut out = AccessUnit { payload: Bytes::new(), random_access: false, has_sps: false, new_config: false };
        // A start code takes a byte less than a length, where it is short.
        let mut payload = Vec::with_capacity(stream.len() + stream.len() / 16);
        for unit in units_of_byte_stream(stream) {
            let kind = Kind::of(self.codec, unit);
            match kind {
                Kind::Delimiter => continue,
                Kind::Vps | Kind::Sps | Kind::Pps => {
                    out.has_sps |= kind == Kind::Sps;
                    changed |= self.keep(kind, unit)?;
                    continue;
                }
                Kind::RandomAccess => out.random_access = true,
                Kind::Other => {}
            }
            payload.extend_from_slice(&u32::try_from(unit.len()).map_err(|_| NalError::Length)?.to_be_bytes());
            payload.extend_from_slice(unit);
        }
        out.payload = payload.into();
        if changed {
            out.new_config = self.make_config();
        }
        Ok(out)
    }

    /// The decoder configuration record (`AVCDecoderConfigurationRecord`, `HEVCDecoderConfigurationRecord`), with
    /// 4-byte lengths; empty until all parameter sets that it needs were there.
    #[must_use]
    pub fn config(&self) -> &Bytes {
        &self.config
    }

    /// Width and height in pixels, cropped, once they are known.
    #[must_use]
    pub fn size(&self) -> Option<(u32, u32)> {
        self.size
    }

    /// Whether the set is another one than before.
    fn keep(&mut self, kind: Kind, unit: &[u8]) -> Result<bool, NalError> {
        // A set without an id can't be referred to.
        let Some(id) = self.id(kind, unit) else { return Ok(false) };
        if self.sets.get(&(kind, id)).is_some_and(|known| known == unit) {
            return Ok(false);
        }
        let others = self.sets.iter().filter(|(key, _)| **key != (kind, id));
        let (count, bytes) = others.fold((0, 0), |(count, bytes), (_, unit)| (count + 1, bytes + unit.len() + 2));
        if count >= PARAMETER_SETS_MAX || bytes + unit.len() + RECORD_BYTES > CONFIG_BYTES_MAX {
            return Err(NalError::ParameterSets);
        }
        self.sets.insert((kind, id), Bytes::copy_from_slice(unit));
        Ok(true)
    }

    fn id(&self, kind: Kind, unit: &[u8]) -> Option<u32> {
        let header = if self.codec == Codec::H264 { 1 } else { 2 };
        match (kind, self.codec) {
            (Kind::Vps, _) => Bits::of_unit(unit.get(..header + 2)?, header).bits(4),
            (Kind::Sps, Codec::H264) => Sps::h264(unit).map(|sps| sps.id),
            (Kind::Sps, _) => Sps::h265(unit).map(|sps| sps.id),
            _ => Bits::of_unit(unit.get(..unit.len().min(16))?, header).ue(),
        }
    }

    /// Whether there is a new record.
    fn make_config(&mut self) -> bool {
        let of = |wanted: Kind| -> Vec<&Bytes> {
            self.sets.iter().filter(|((kind, _), _)| *kind == wanted).map(|(_, unit)| unit).collect()
        };
        let (video, sequence, picture) = (of(Kind::Vps), of(Kind::Sps), of(Kind::Pps));
        let Some(first) = sequence.first() else { return false };
        let (size, record) = if picture.is_empty() {
            return false;
        } else if self.codec == Codec::H264 {
            (Sps::h264(first).and_then(|sps| sps.size), record::write_avc(&sequence, &picture))
        } else if video.is_empty() {
            return false;
        } else {
            (Sps::h265(first).and_then(|sps| sps.size), record::write_hevc([&video, &sequence, &picture]))
        };
        let Some(record) = record else { return false };
        self.size = size;
        self.config = record.into();
        true
    }
}

/// A record without its parameter sets, at most.
const RECORD_BYTES: usize = 64;
