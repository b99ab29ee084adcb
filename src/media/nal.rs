//! Frames that no other frame refers to, told from the headers of their NAL units.
//!
//! H.264: `nal_ref_idc` is 0 (ISO/IEC 14496-10, 7.4.1: then it is so for all slices of the picture). H.265: a
//! sub-layer non-reference picture (ISO/IEC 23008-2, table 7-1) of the highest temporal sub-layer, since those of
//! higher ones may refer to it. Left out: H.266, AV1, VP8 and VP9, where it takes more than a header to know. Who is
//! not sure says no: leaving out a frame that others need breaks the picture.

use super::Codec;

/// What a decoder configuration record says about the NAL units of its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NalFormat {
    codec: Codec,
    /// Bytes of the length before each unit: 1, 2 or 4.
    length_bytes: usize,
    /// The highest temporal sub-layer that there may be; H.265 alone has them.
    highest: u8,
}

impl NalFormat {
    /// From `AVCDecoderConfigurationRecord` or `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3 and 8.3.3);
    /// none for codecs whose frames are not looked into.
    #[must_use]
    pub fn from_config(codec: Codec, record: &[u8]) -> Option<Self> {
        let (flags, highest) = match codec {
            Codec::H264 => (*record.get(4)?, 0),
            Codec::H265 => {
                let flags = *record.get(21)?;
                // 0 says that it is not known.
                let layers = flags >> 3 & 7;
                (flags, layers.checked_sub(1).unwrap_or(SUB_LAYER_MAX))
            }
            _ => return None,
        };
        let length_bytes = match flags & 3 {
            0 => 1,
            1 => 2,
            3 => 4,
            _ => return None,
        };
        Some(Self { codec, length_bytes, highest })
    }

    /// Whether nothing refers to the picture in this access unit: the first slice tells for all of it.
    #[must_use]
    pub fn is_disposable(&self, access_unit: &[u8]) -> bool {
        let mut rest = access_unit;
        // Before the first slice may stand a delimiter, parameter sets and messages.
        for _ in 0..UNITS_LOOKED_AT_MAX {
            let Some((length, behind)) = self.length(rest) else { return false };
            let Some(unit) = behind.get(..length) else { return false };
            let (Some(first), Some(second)) = (unit.first(), unit.get(1)) else { return false };
            match self.codec {
                Codec::H264 => match first & 0x1F {
                    // A slice, or the first of three partitions of one.
                    1 | 2 => return first >> 5 & 3 == 0,
                    5 => return false,
                    _ => {}
                },
                _ => match first >> 1 & 0x3F {
                    kind @ 0..=15 => return kind % 2 == 0 && (second & 7).saturating_sub(1) >= self.highest,
                    16..=31 => return false,
                    _ => {}
                },
            }
            rest = behind.get(length..).unwrap_or_default();
        }
        false
    }

    fn length<'a>(&self, bytes: &'a [u8]) -> Option<(usize, &'a [u8])> {
        let (length, rest) = bytes.split_at_checked(self.length_bytes)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        Some((length, rest))
    }
}

/// `TemporalId` is 0 to 6.
const SUB_LAYER_MAX: u8 = 6;
/// Units before the first slice that are looked at.
const UNITS_LOOKED_AT_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit_of(units: &[&[u8]], length_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for unit in units {
            out.extend_from_slice(&u32::try_from(unit.len()).unwrap().to_be_bytes()[4 - length_bytes..]);
            out.extend_from_slice(unit);
        }
        out
    }

    fn h264(length_bytes: u8) -> NalFormat {
        NalFormat::from_config(Codec::H264, &[1, 100, 0, 30, 0xFC | (length_bytes - 1)]).unwrap()
    }

    fn h265(layers: u8) -> NalFormat {
        let mut record = [0; 23];
        record[21] = layers << 3 | 3;
        NalFormat::from_config(Codec::H265, &record).unwrap()
    }

    #[test]
    fn a_slice_that_nothing_refers_to_is_found_behind_delimiter_and_messages() {
        let (delimiter, message): (&[u8], &[u8]) = (&[0x09, 0xF0], &[0x06, 5, 1, 0, 0x80]);
        for (header, disposable) in [(0x01, true), (0x21, false), (0x41, false), (0x61, false), (0x65, false)] {
            for length_bytes in [1, 2, 4] {
                let format = h264(length_bytes);
                let unit = unit_of(&[delimiter, message, &[header, 0x9A, 0x24]], length_bytes.into());
                assert_eq!(format.is_disposable(&unit), disposable, "{header:#x}");
            }
        }
    }

    #[test]
    fn a_picture_that_a_higher_sub_layer_may_need_is_kept() {
        // TRAIL_N (0) and TRAIL_R (1) of sub-layers 0 and 1; 0 layers: not known.
        let picture = |kind: u8, layer: u8| unit_of(&[&[35 << 1, 1, 0x50], &[kind << 1, layer + 1, 0x80]], 4);
        for (layers, kind, layer, disposable) in [
            (1, 0, 0, true),
            (1, 1, 0, false),
            (2, 0, 0, false),
            (2, 0, 1, true),
            (2, 1, 1, false),
            (0, 0, 1, false),
            (1, 19, 0, false),
            (1, 8, 0, true),
        ] {
            assert_eq!(h265(layers).is_disposable(&picture(kind, layer)), disposable, "{layers} {kind} {layer}");
        }
    }

    #[test]
    fn a_record_that_is_cut_or_of_another_codec_says_nothing() {
        assert_eq!(NalFormat::from_config(Codec::H264, &[1, 100, 0, 30]), None);
        assert_eq!(NalFormat::from_config(Codec::H264, &[1, 100, 0, 30, 0xFE]), None, "no length has three bytes");
        assert_eq!(NalFormat::from_config(Codec::H265, &[0; 21]), None);
        assert_eq!(NalFormat::from_config(Codec::Av1, &[0; 30]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), length_bytes in 0u8..4) {
            if length_bytes != 2 {
                let _ = h264(length_bytes + 1).is_disposable(&bytes);
                let _ = h265(length_bytes).is_disposable(&bytes);
            }
        }
    }
}
