//! AAC: `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use bytes::Bytes;

use super::bits::Bits;
use super::{CodecError, Description};

/// Audio object types (table 1.17).
const LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;
const ESCAPE: u8 = 31;
const ER_BSAC: u8 = 22;
/// `samplingFrequencyIndex` (table 1.18); 15 says that the rate itself follows.
pub const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const RATE_FOLLOWS: u32 = 15;
/// `syncExtensionType`s: what stands behind the configuration that old decoders read.
const SBR_FOLLOWS: u32 = 0x2B7;
const PS_FOLLOWS: u32 = 0x548;

/// What an `AudioSpecificConfig` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// The audio object type of the core: 2 is LC.
    pub object_type: u8,
    /// Samples per second of the core.
    pub core_rate: u32,
    /// Samples per second of the output: with spectral band replication (HE-AAC) mostly twice the core's.
    pub sample_rate: u32,
    /// Channels of the output.
    pub channels: u8,
    /// Spectral band replication: HE-AAC.
    pub sbr: bool,
    /// Parametric stereo: HE-AAC v2.
    pub ps: bool,
}

impl AudioSpecificConfig {
    /// Of AAC-LC.
    #[must_use]
    pub const fn lc(sample_rate: u32, channels: u8) -> Self {
        Self { object_type: LC, core_rate: sample_rate, sample_rate, channels, sbr: false, ps: false }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It ends too early, or says what cannot be.
    pub fn read(config: &[u8]) -> Result<Self, CodecError> {
        let mut bits = Bits::new(config);
        let mut object_type = object_type_of(&mut bits)?;
        let core_rate = rate_of(&mut bits)?;
        let configuration = bits.byte(4)?;
        let (mut sbr, mut ps, mut sample_rate) = (false, false, core_rate);
        if object_type == SBR || object_type == PS {
            (sbr, ps) = (true, object_type == PS);
            sample_rate = rate_of(&mut bits)?;
            object_type = object_type_of(&mut bits)?;
            if object_type == ER_BSAC {
                bits.skip(4)?;
            }
        }
        let mut channels = channels_of(configuration)?;
        if matches!(object_type, 1..=4 | 6 | 7 | 17 | 19..=23) {
            let said = general_audio(&mut bits, object_type, configuration)?;
            channels = channels.or(said);
            if !sbr && let Ok(Some((rate, stereo))) = extension(&mut bits) {
                (sbr, ps, sample_rate) = (true, stereo, rate);
            }
        }
        let channels = if ps { 2 } else { channels.ok_or(CodecError::Value)? };
        Ok(Self { object_type, core_rate, sample_rate, channels, sbr, ps })
    }

    /// As bytes. Spectral band replication and parametric stereo are said at the front, where every decoder looks.
    ///
    /// # Errors
    /// A number of channels that has no configuration of its own, or an object type above 30.
    pub fn to_bytes(&self) -> Result<Bytes, CodecError> {
        let core_channels = if self.ps { 1 } else { self.channels };
        let configuration = match core_channels {
            1..=6 => core_channels,
            7 => 11,
            8 => 7,
            _ => return Err(CodecError::Value),
        };
        let object_type = u64::from(self.object_type);
        if object_type == 0 || object_type >= ESCAPE.into() {
            return Err(CodecError::Value);
        }
        let outer = match (self.sbr, self.ps) {
            (_, true) => u64::from(PS),
            (true, _) => u64::from(SBR),
            _ => object_type,
        };
        let (mut word, mut length) = (0_u64, 0_u32);
        let mut put = |bits: u32, value: u64| {
            word = word.checked_shl(bits).unwrap_or(0) | value;
            length = length.saturating_add(bits);
        };
        let rate = |put: &mut dyn FnMut(u32, u64), rate: u32| match SAMPLE_RATES.iter().position(|one| *one == rate) {
            Some(index) => put(4, index.try_into().unwrap_or(0)),
            None => {
                put(4, RATE_FOLLOWS.into());
                put(24, u64::from(rate & 0xFF_FFFF));
            }
        };
        put(5, outer);
        rate(&mut put, self.core_rate);
        put(4, configuration.into());
        if self.sbr || self.ps {
            // With a rate that is spelled out on both sides it would not fit the word: none such is in use.
            if !SAMPLE_RATES.contains(&self.core_rate) && !SAMPLE_RATES.contains(&self.sample_rate) {
                return Err(CodecError::Value);
            }
            rate(&mut put, self.sample_rate);
            put(5, object_type);
        }
        put(3, 0);
        let filled = length.next_multiple_of(8);
        let word = word.checked_shl(64_u32.saturating_sub(length)).unwrap_or(0).to_be_bytes();
        let used = usize::try_from(filled / 8).unwrap_or(8);
        Ok(Bytes::copy_from_slice(word.get(..used).unwrap_or(&word)))
    }

    /// `mp4a.40.` and the object type that a player needs (RFC 6381, 3.3).
    #[must_use]
    pub fn codec_string(&self) -> String {
        let object_type = match (self.sbr, self.ps) {
            (_, true) => PS,
            (true, _) => SBR,
            _ => self.object_type,
        };
        format!("mp4a.40.{object_type}")
    }
}

fn object_type_of(bits: &mut Bits<'_>) -> Result<u8, CodecError> {
    match bits.byte(5)? {
        ESCAPE => Ok(bits.byte(6)?.saturating_add(32)),
        0 => Err(CodecError::Value),
        object_type => Ok(object_type),
    }
}

fn rate_of(bits: &mut Bits<'_>) -> Result<u32, CodecError> {
    let rate = match bits.number(4)? {
        RATE_FOLLOWS => bits.number(24)?,
        index => usize::try_from(index).ok().and_then(|at| SAMPLE_RATES.get(at)).copied().unwrap_or(0),
    };
    if rate == 0 { Err(CodecError::Value) } else { Ok(rate) }
}

/// `channelConfiguration` (table 1.19); none where a program config element says it.
fn channels_of(configuration: u8) -> Result<Option<u8>, CodecError> {
    match configuration {
        0 => Ok(None),
        1..=6 => Ok(Some(configuration)),
        7 | 12 | 14 => Ok(Some(8)),
        11 => Ok(Some(7)),
        13 => Ok(Some(24)),
        _ => Err(CodecError::Value),
    }
}

/// `GASpecificConfig` (4.4.1): the channels, where a program config element says them.
fn general_audio(bits: &mut Bits<'_>, object_type: u8, configuration: u8) -> Result<Option<u8>, CodecError> {
    bits.flag()?; // frameLengthFlag
    if bits.flag()? {
        bits.skip(14)?;
    }
    let extended = bits.flag()?;
    let channels = if configuration == 0 { Some(program_config(bits)?) } else { None };
    if object_type == 6 || object_type == 20 {
        bits.skip(3)?;
    }
    if extended {
        bits.skip(match object_type {
            22 => 16,
            17 | 19 | 20 | 23 => 3,
            _ => 0,
        })?;
        bits.flag()?;
    }
    Ok(channels)
}

/// `program_config_element` (4.4.1.1): how many channels its elements have.
fn program_config(bits: &mut Bits<'_>) -> Result<u8, CodecError> {
    bits.skip(4 + 2 + 4)?;
    let (front, side, back, low) = (bits.byte(4)?, bits.byte(4)?, bits.byte(4)?, bits.byte(2)?);
    let (data, coupling) = (usize::from(bits.byte(3)?), usize::from(bits.byte(4)?));
    for length in [4, 4, 3] {
        if bits.flag()? {
            bits.skip(length)?;
        }
    }
    let mut channels = low;
    for _ in 0..front.saturating_add(side).saturating_add(back) {
        channels = channels.saturating_add(if bits.flag()? { 2 } else { 1 });
        bits.skip(4)?;
    }
    bits.skip(usize::from(low).saturating_add(data).saturating_mul(4).saturating_add(coupling.saturating_mul(5)))?;
    bits.align();
    let comment = usize::from(bits.byte(8)?);
    bits.skip(comment.saturating_mul(8))?;
    if channels == 0 { Err(CodecError::Value) } else { Ok(channels) }
}

/// What may stand behind the configuration: the output's rate, and whether there is parametric stereo.
fn extension(bits: &mut Bits<'_>) -> Result<Option<(u32, bool)>, CodecError> {
    if bits.number(11)? != SBR_FOLLOWS || object_type_of(bits)? != SBR || !bits.flag()? {
        return Ok(None);
    }
    let rate = rate_of(bits)?;
    let stereo = bits.number(11).is_ok_and(|mark| mark == PS_FOLLOWS) && bits.flag().unwrap_or(false);
    Ok(Some((rate, stereo)))
}

pub(super) fn describe(config: &[u8]) -> Result<Description, CodecError> {
    let config = AudioSpecificConfig::read(config)?;
    Ok(Description::audio(config.channels, config.sample_rate, config.codec_string()))
}
