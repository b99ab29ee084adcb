//! AAC in the audio data transport stream (ISO/IEC 14496-3, 1.A.2.2), as MPEG-TS carries it, and the
//! `AudioSpecificConfig` (1.6.2.1) that stands for its headers elsewhere.
//!
//! Left out: several raw data blocks behind one header (no encoder makes them), channel layouts that a program config
//! element tells, and what is no AAC Main, LC, SSR or LTP, for which the header has no number. The header says nothing
//! of spectral band replication: of a configuration that does, it has the rate of the core, and a decoder finds the
//! rest in the payload.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use bytes::Bytes;

/// Bytes of the header that we write: one without a checksum.
pub const HEADER_BYTES: usize = 7;
/// Bytes of a frame with its header at most, as its length has 13 bits.
pub const FRAME_BYTES_MAX: usize = (1 << 13) - 1;

/// What is wrong with a header, a frame or a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdtsError {
    /// No 12 bits of sync word, or a layer that is not 0.
    #[error("there is no ADTS header")]
    Sync,
    /// The frame is shorter than its header, or its sampling frequency has no number.
    #[error("the ADTS header is malformed")]
    Header,
    /// More than one raw data block behind one header.
    #[error("several raw data blocks in one ADTS frame")]
    RawDataBlocks,
    /// The `AudioSpecificConfig` ends too early.
    #[error("the AudioSpecificConfig is malformed")]
    Config,
    /// An object type, a rate or a channel layout that an ADTS header can't tell.
    #[error("no ADTS header can say what the AudioSpecificConfig says")]
    NotInAdts,
    /// More than [`FRAME_BYTES_MAX`].
    #[error("an AAC frame is longer than ADTS can say")]
    FrameBytes,
}

/// Samples per second by `sampling_frequency_index` (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// What an ADTS header and an `AudioSpecificConfig` both tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdtsFormat {
    /// 1 Main, 2 LC, 3 SSR, 4 LTP.
    object_type: u8,
    /// 0 to 12.
    rate_index: u8,
    /// 1 to 7; 0 where an element in the payload tells.
    channels: u8,
}

impl AdtsFormat {
    /// From an `AudioSpecificConfig`.
    ///
    /// # Errors
    /// One that is cut, and what ADTS has no place for.
    pub fn from_config(config: &[u8]) -> Result<Self, AdtsError> {
        let mut bits = Bits { bytes: config, at: 0 };
        let mut object_type = bits.object_type()?;
        let mut rate_index = bits.rate_index()?;
        let channels = bits.take(4)?;
        // Explicit signalling of SBR and PS: the type and the rate of the core are what counts here.
        if matches!(object_type, 5 | 29) {
            bits.rate_index()?;
            object_type = bits.object_type()?;
        }
        if rate_index >= 13 || channels == 0 || channels > 7 || !(1..=4).contains(&object_type) {
            return Err(AdtsError::NotInAdts);
        }
        let small = |value: u32| u8::try_from(value).map_err(|_| AdtsError::NotInAdts);
        rate_index = rate_index.min(12);
        Ok(Self { object_type: small(object_type)?, rate_index: small(rate_index)?, channels: small(channels)? })
    }

    /// The `AudioSpecificConfig` of it: two bytes.
    #[must_use]
    pub fn config(self) -> Bytes {
        let bits =
            u16::from(self.object_type) << 11 | u16::from(self.rate_index) << 7 | u16::from(self.channels) << 3;
        Bytes::copy_from_slice(&bits.to_be_bytes())
    }

    /// The header of a frame with so many bytes of payload.
    ///
    /// # Errors
    /// The payload is too long.
    pub fn header(self, payload: usize) -> Result<[u8; HEADER_BYTES], AdtsError> {
        let length = payload.saturating_add(HEADER_BYTES);
        let length = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX).ok_or(AdtsError::FrameBytes)?;
        // Length, then a fullness of all ones: variable rate; then that there is one raw data block.
        let [l2, l1, l0, fullness] = (length << 13 | 0x7FF << 2).to_be_bytes();
        let channels = self.channels & 7;
        Ok([
            0xFF,
            // MPEG-4, layer 0, no checksum.
            0xF1,
            (self.object_type - 1) << 6 | self.rate_index << 2 | channels >> 2,
            channels << 6 | l2,
            l1,
            l0,
            fullness,
        ])
    }

    /// Samples per second.
    #[must_use]
    pub fn sample_rate(self) -> u32 {
        RATES.get(usize::from(self.rate_index)).copied().unwrap_or(48_000)
    }

    /// Channels; none where an element in the payload tells.
    #[must_use]
    pub fn channels(self) -> Option<u8> {
        match self.channels {
            0 => None,
            7 => Some(8),
            channels => Some(channels),
        }
    }
}

/// The header at the begin of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdtsHeader {
    /// What it says of the payload.
    pub format: AdtsFormat,
    /// Bytes of the header: 7, or 9 with a checksum.
    pub header_bytes: usize,
    /// Bytes of the frame, the header included.
    pub frame_bytes: usize,
}

impl AdtsHeader {
    /// Reads it; `None` if there are too few bytes to.
    ///
    /// # Errors
    /// There is none, or one of what is left out.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, AdtsError> {
        let Some(&[sync, flags, b2, b3, b4, b5, b6]) = bytes.first_chunk() else { return Ok(None) };
        if sync != 0xFF || flags & 0xF6 != 0xF0 {
            return Err(AdtsError::Sync);
        }
        let header_bytes = if flags & 1 == 1 { HEADER_BYTES } else { HEADER_BYTES + 2 };
        let frame_bytes = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5) >> 5;
        let format =
            AdtsFormat { object_type: (b2 >> 6) + 1, rate_index: b2 >> 2 & 15, channels: (b2 & 1) << 2 | b3 >> 6 };
        if frame_bytes < header_bytes || usize::from(format.rate_index) >= RATES.len() {
            return Err(AdtsError::Header);
        }
        if b6 & 3 != 0 {
            return Err(AdtsError::RawDataBlocks);
        }
        Ok(Some(Self { format, header_bytes, frame_bytes }))
    }
}

/// Bits of an `AudioSpecificConfig`.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<u32, AdtsError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8).ok_or(AdtsError::Config)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, AdtsError> {
        match self.take(5)? {
            31 => Ok(32 + self.take(6)?),
            object_type => Ok(object_type),
        }
    }

    /// The number of the rate, also where it is written out; 15 for one that has none.
    fn rate_index(&mut self) -> Result<u32, AdtsError> {
        let index = self.take(4)?;
        if index != 15 {
            return Ok(index);
        }
        let rate = self.take(24)?;
        let index = RATES.iter().position(|known| *known == rate).unwrap_or(15);
        Ok(u32::try_from(index).unwrap_or(15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_headers_of_a_known_encoder_are_written_and_read() {
        // AAC LC, 48 kHz, stereo; 371 bytes of payload: as ffmpeg writes it.
        let format = AdtsFormat::from_config(&[0x11, 0x90]).unwrap();
        let header = format.header(371).unwrap();
        assert_eq!(header, [0xFF, 0xF1, 0x4C, 0x80, 0x2F, 0x5F, 0xFC]);
        assert_eq!((format.sample_rate(), format.channels()), (48_000, Some(2)));
        assert_eq!(&*format.config(), [0x11, 0x90]);
    }

    #[test]
    fn the_core_of_a_configuration_with_spectral_band_replication_is_what_the_header_says() {
        // HE-AAC: object type 5, 24 kHz, stereo, extension rate 48 kHz, object type 2.
        let format = AdtsFormat::from_config(&[0x2B, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!((format.sample_rate(), format.object_type), (24_000, 2));
        // 48 kHz written out.
        let written_out = AdtsFormat::from_config(&[0x17, 0x80, 0x5D, 0xC0, 0x10]).unwrap();
        assert_eq!((written_out.sample_rate(), written_out.channels()), (48_000, Some(2)));
    }

    #[test]
    fn what_adts_has_no_place_for_is_refused() {
        // xHE-AAC (42), 44.123 Hz written out, a program config element, an AudioSpecificConfig that is cut.
        assert_eq!(AdtsFormat::from_config(&[0xF9, 0x46, 0x40, 0x00]), Err(AdtsError::NotInAdts));
        assert_eq!(AdtsFormat::from_config(&[0x17, 0x80, 0x56, 0x2D, 0x90]), Err(AdtsError::NotInAdts));
        assert_eq!(AdtsFormat::from_config(&[0x11, 0x80]), Err(AdtsError::NotInAdts));
        assert_eq!(AdtsFormat::from_config(&[0x11]), Err(AdtsError::Config));
        assert_eq!(AdtsFormat::from_config(&[0x11, 0x90]).unwrap().header(8185), Err(AdtsError::FrameBytes));
        assert!(AdtsFormat::from_config(&[0x11, 0x90]).unwrap().header(8184).is_ok());
        let two_blocks = [0xFF, 0xF1, 0x4C, 0x80, 0x2F, 0x5F, 0xFD];
        assert_eq!(AdtsHeader::read(&two_blocks), Err(AdtsError::RawDataBlocks));
        assert_eq!(AdtsHeader::read(&[0xFF, 0xF1, 0x4C, 0x80, 0x00, 0xDF, 0xFC]), Err(AdtsError::Header));
        assert_eq!(AdtsHeader::read(&[0xFF, 0xFB, 0x90, 0, 0, 0, 0]), Err(AdtsError::Sync), "MPEG audio, layer III");
        assert_eq!(AdtsHeader::read(&[0xFF, 0xF1]), Ok(None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            object_type in 1_u8..5, rate_index in 0_u8..13, channels in 1_u8..8, length in 0_usize..8185,
        ) {
            let format = AdtsFormat { object_type, rate_index, channels };
            prop_assert_eq!(AdtsFormat::from_config(&format.config()), Ok(format));
            let read = AdtsHeader::read(&format.header(length).unwrap()).unwrap().unwrap();
            prop_assert_eq!(read, AdtsHeader { format, header_bytes: 7, frame_bytes: length + 7 });
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = AdtsFormat::from_config(&bytes);
            if let Ok(Some(header)) = AdtsHeader::read(&bytes) {
                prop_assert!(header.frame_bytes >= header.header_bytes);
            }
        }
    }
}
