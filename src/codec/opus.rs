//! Opus: the identification header (RFC 7845, 5.1), and what an MP4 file has in its place (`OpusSpecificBox`,
//! Encapsulation of Opus in ISO BMFF, 4.3.2).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::{BufMut, Bytes, BytesMut};

use super::{CodecError, Description};

/// A decoder always gives so many samples per second (RFC 6716, 2).
pub const SAMPLE_RATE: u32 = 48_000;
const MAGIC: &[u8] = b"OpusHead";

/// An identification header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusHead {
    /// Output channels.
    pub channels: u8,
    /// Samples at 48 kHz that a player leaves out at the start.
    pub pre_skip: u16,
    /// Samples per second before encoding: only to be told.
    pub input_rate: u32,
    /// Gain of the output in dB · 256.
    pub gain: i16,
    /// Channel mapping family.
    pub family: u8,
    /// The channel mapping table, empty of family 0: streams, coupled streams, and one place per channel.
    pub mapping: Box<[u8]>,
}

impl OpusHead {
    /// Of one stream of one or two channels, as an encoder starts with (its delay is 6.5 ms).
    #[must_use]
    pub fn new(channels: u8) -> Self {
        Self { channels, pre_skip: 312, input_rate: SAMPLE_RATE, gain: 0, family: 0, mapping: Box::default() }
    }

    /// Reads an identification header.
    ///
    /// # Errors
    /// It is none, ends too early, is of a later version, or has no channels.
    pub fn read(head: &[u8]) -> Result<Self, CodecError> {
        let body = head.strip_prefix(MAGIC).ok_or(CodecError::Mark)?;
        let (fields, table) = body.split_first_chunk().ok_or(CodecError::End)?;
        let [version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family] = *fields;
        // A minor version may add what can be passed over.
        if version & 0xF0 != 0 {
            return Err(CodecError::Version);
        }
        let input_rate = u32::from_le_bytes([r0, r1, r2, r3]);
        let (pre_skip, gain) = (u16::from_le_bytes([s0, s1]), i16::from_le_bytes([g0, g1]));
        Self { channels, pre_skip, input_rate, gain, family, mapping: Box::default() }.with_mapping(table)
    }

    /// Reads what is in a box `dOps`.
    ///
    /// # Errors
    /// It ends too early, is of a later version, or has no channels.
    pub fn read_box(body: &[u8]) -> Result<Self, CodecError> {
        let (fields, table) = body.split_first_chunk().ok_or(CodecError::End)?;
        let [version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family] = *fields;
        if version != 0 {
            return Err(CodecError::Version);
        }
        let input_rate = u32::from_be_bytes([r0, r1, r2, r3]);
        let (pre_skip, gain) = (u16::from_be_bytes([s0, s1]), i16::from_be_bytes([g0, g1]));
        Self { channels, pre_skip, input_rate, gain, family, mapping: Box::default() }.with_mapping(table)
    }

    fn with_mapping(mut self, table: &[u8]) -> Result<Self, CodecError> {
        if self.channels == 0 || (self.family == 0 && self.channels > 2) {
            return Err(CodecError::Value);
        }
        if self.family != 0 {
            let length = usize::from(self.channels).saturating_add(2);
            self.mapping = table.get(..length).ok_or(CodecError::End)?.into();
        }
        Ok(self)
    }

    /// As an identification header.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::from(MAGIC);
        out.put_slice(&[1, self.channels]);
        out.put_u16_le(self.pre_skip);
        out.put_u32_le(self.input_rate);
        out.put_i16_le(self.gain);
        out.put_u8(self.family);
        out.put_slice(&self.mapping);
        out.freeze()
    }

    /// As what is in a box `dOps`.
    #[must_use]
    pub fn to_box(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&[0, self.channels]);
        out.put_u16(self.pre_skip);
        out.put_u32(self.input_rate);
        out.put_i16(self.gain);
        out.put_u8(self.family);
        out.put_slice(&self.mapping);
        out.freeze()
    }
}

pub(super) fn describe(head: &[u8]) -> Result<Description, CodecError> {
    Ok(Description::audio(OpusHead::read(head)?.channels, SAMPLE_RATE, "opus".to_owned()))
}
