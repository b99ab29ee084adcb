//! Where frames of sound begin, how long they are and how long they last: AAC in ADTS, MPEG audio layer III, AC-3 and
//! E-AC-3.

use bytes::Bytes;

use crate::codec::adts::AdtsHeader;
use crate::media::Codec;

/// A frame at the begin of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AudioFrame {
    /// Bytes that are no payload, before it.
    pub(super) header_bytes: usize,
    /// Bytes with the header.
    pub(super) frame_bytes: usize,
    /// Samples of each channel.
    pub(super) samples: u32,
    pub(super) sample_rate: u32,
    pub(super) channels: Option<u8>,
    /// The decoder configuration record, of codecs that have one.
    pub(super) config: Option<Bytes>,
}

/// What stands at the begin of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame, perhaps longer than the bytes.
    Frame(AudioFrame),
    /// More bytes will tell.
    TooShort,
    Nothing,
}

pub(super) fn find(codec: Codec, bytes: &[u8]) -> Found {
    match codec {
        Codec::Aac => aac(bytes),
        Codec::Mp3 => mp3(bytes),
        _ => ac3(bytes),
    }
}

/// Bytes that are enough to tell.
const HEADER_BYTES: usize = 8;

fn aac(bytes: &[u8]) -> Found {
    let header = match AdtsHeader::read(bytes) {
        Ok(Some(header)) => header,
        Ok(None) => return Found::TooShort,
        Err(_) => return Found::Nothing,
    };
    Found::Frame(AudioFrame {
        header_bytes: header.header_bytes,
        frame_bytes: header.frame_bytes,
        samples: 1024,
        sample_rate: header.format.sample_rate(),
        channels: header.format.channels(),
        config: Some(header.format.config()),
    })
}

/// Kilobits per second of layer III by index (ISO/IEC 11172-3, 2.4.2.3 and 13818-3, 2.4.2.3).
const MPEG1_KBPS: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const MPEG2_KBPS: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

/// Whether a frame of MPEG audio is one of MPEG-1, and not of its halved rates.
pub(super) fn is_mpeg1(bytes: &[u8]) -> bool {
    bytes.get(1).is_none_or(|byte| byte & 8 != 0)
}

fn mp3(bytes: &[u8]) -> Found {
    let Some(&[sync, b1, b2, b3]) = bytes.first_chunk() else { return Found::TooShort };
    // 11 bits of sync; version 1 is reserved; layer 1 is III.
    let (version, layer) = (b1 >> 3 & 3, b1 >> 1 & 3);
    if sync != 0xFF || b1 & 0xE0 != 0xE0 || version == 1 || layer != 1 {
        return Found::Nothing;
    }
    let mpeg1 = version == 3;
    let kbps = if mpeg1 { MPEG1_KBPS } else { MPEG2_KBPS }.get(usize::from(b2 >> 4)).copied();
    let rate = [44_100, 48_000, 32_000].get(usize::from(b2 >> 2 & 3)).copied();
    // A free format tells its length nowhere.
    let (Some(kbps @ 1..), Some(rate)) = (kbps, rate) else { return Found::Nothing };
    let sample_rate = match version {
        3 => rate,
        2 => rate / 2,
        _ => rate / 4,
    };
    let samples = if mpeg1 { 1152 } else { 576 };
    let bytes = samples / 8 * kbps * 1000 / sample_rate + u32::from(b2 >> 1 & 1);
    let Ok(frame_bytes) = usize::try_from(bytes) else { return Found::Nothing };
    let channels = Some(if b3 >> 6 == 3 { 1 } else { 2 });
    Found::Frame(AudioFrame { header_bytes: 0, frame_bytes, samples, sample_rate, channels, config: None })
}

/// Kilobits per second of AC-3 by half of `frmsizecod` (ATSC A/52, table 5.18).
const AC3_KBPS: [usize; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];

/// Substreams of E-AC-3 beside the first: 8 that depend on it, and 7 further programs.
const SUBSTREAMS_MAX: usize = 15;

/// ATSC A/52, 5.3 and annex E, 2.2: `bsid` tells which of the two it is. An independent substream of E-AC-3 has those
/// that depend on it, and further programs, in its frame.
fn ac3(bytes: &[u8]) -> Found {
    let Some(first) = bytes.first_chunk::<HEADER_BYTES>() else { return Found::TooShort };
    let Some((mut frame, false)) = syncframe(first) else { return Found::Nothing };
    for _ in 0..SUBSTREAMS_MAX {
        let next = bytes.get(frame.frame_bytes..).and_then(<[u8]>::first_chunk);
        let Some((more, true)) = next.and_then(syncframe) else { break };
        frame.frame_bytes += more.frame_bytes;
    }
    Found::Frame(frame)
}

/// One syncframe, and whether it belongs to the one before.
fn syncframe(bytes: &[u8; HEADER_BYTES]) -> Option<(AudioFrame, bool)> {
    let &[0x0B, 0x77, b2, b3, b4, b5, b6, b7] = bytes else { return None };
    let rate = [48_000, 44_100, 32_000].get(usize::from(b4 >> 6)).copied();
    let (frame_bytes, samples, sample_rate, mode, lfe, belongs);
    match b5 >> 3 {
        bsid @ 0..=10 => {
            let (rate, kbps) = (rate?, *AC3_KBPS.get(usize::from(b4 & 0x3F) / 2)?);
            frame_bytes = match rate {
                48_000 => kbps * 4,
                32_000 => kbps * 6,
                _ => (kbps * 320 / 147 + usize::from(b4 & 1)) * 2,
            };
            (samples, mode, belongs) = (1536, b6 >> 5, false);
            // Annex to the standard that halves the rate, or quarters it.
            sample_rate = rate >> bsid.saturating_sub(8);
            // Mix levels stand between the mode and this bit.
            let centre = if mode & 1 == 1 && mode != 1 { 2 } else { 0 };
            let levels = centre + if mode & 4 == 4 { 2 } else { 0 } + if mode == 2 { 2 } else { 0 };
            lfe = u16::from_be_bytes([b6, b7]) >> (12 - levels) & 1 == 1;
        }
        11..=16 => {
            frame_bytes = (usize::from(b2 & 7) << 8 | usize::from(b3)) * 2 + 2;
            (sample_rate, samples) = match rate {
                Some(rate) => (rate, [256, 512, 768, 1536].get(usize::from(b4 >> 4 & 3)).copied()?),
                None => ([24_000, 22_050, 16_000].get(usize::from(b4 >> 4 & 3)).copied()?, 1536),
            };
            (mode, lfe) = (b4 >> 1 & 7, b4 & 1 == 1);
            // `strmtyp` 1 depends; a `substreamid` says that there is an earlier one.
            belongs = b2 >> 6 == 1 || b2 >> 3 & 7 != 0;
        }
        _ => return None,
    }
    if frame_bytes < HEADER_BYTES {
        return None;
    }
    let channels = [2, 1, 2, 3, 3, 4, 4, 5].get(usize::from(mode)).map(|channels| channels + u8::from(lfe));
    Some((AudioFrame { header_bytes: 0, frame_bytes, samples, sample_rate, channels, config: None }, belongs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(codec: Codec, bytes: &[u8]) -> (usize, u32, u32, Option<u8>) {
        match find(codec, bytes) {
            Found::Frame(frame) => (frame.frame_bytes, frame.samples, frame.sample_rate, frame.channels),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn headers_of_layer_3_tell_length_and_rate() {
        // 128 kbit/s at 44.1 kHz, without and with padding; 64 kbit/s at 24 kHz, mono.
        assert_eq!(frame(Codec::Mp3, &[0xFF, 0xFB, 0x90, 0x00]), (417, 1152, 44_100, Some(2)));
        assert_eq!(frame(Codec::Mp3, &[0xFF, 0xFB, 0x92, 0x00]), (418, 1152, 44_100, Some(2)));
        assert_eq!(frame(Codec::Mp3, &[0xFF, 0xF3, 0x84, 0xC0]), (192, 576, 24_000, Some(1)));
        // Layer II; reserved version; free format; reserved rate.
        for bytes in [[0xFF, 0xFD, 0x90, 0], [0xFF, 0xEB, 0x90, 0], [0xFF, 0xFB, 0, 0], [0xFF, 0xFB, 0x9C, 0]] {
            assert_eq!(find(Codec::Mp3, &bytes), Found::Nothing);
        }
    }

    #[test]
    fn headers_of_ac_3_tell_length_and_channels() {
        // 448 kbit/s, 48 kHz, 5.1; the same at 44.1 kHz, a word longer; 192 kbit/s stereo.
        assert_eq!(frame(Codec::Ac3, &[0x0B, 0x77, 1, 2, 0x1E, 0x40, 0xE1, 0]), (1792, 1536, 48_000, Some(6)));
        assert_eq!(frame(Codec::Ac3, &[0x0B, 0x77, 1, 2, 0x5F, 0x40, 0xE1, 0]), (1952, 1536, 44_100, Some(6)));
        assert_eq!(frame(Codec::Ac3, &[0x0B, 0x77, 1, 2, 0x14, 0x40, 0x40, 0]), (768, 1536, 48_000, Some(2)));
        // Bits per second that there are not; a bsid of the future.
        assert_eq!(find(Codec::Ac3, &[0x0B, 0x77, 1, 2, 0x3F, 0x40, 0, 0]), Found::Nothing);
        assert_eq!(find(Codec::Ac3, &[0x0B, 0x77, 1, 2, 0x14, 0x88, 0, 0]), Found::Nothing);
    }

    #[test]
    fn substreams_are_part_of_the_frame_that_they_depend_on() {
        let substream = |first: u8| [vec![0x0B, 0x77, first, 31, 0x3F, 0x80, 0, 0], vec![0; 56]].concat();
        let (independent, dependent) = (substream(0), substream(0x40));
        assert_eq!(frame(Codec::Eac3, &independent), (64, 1536, 48_000, Some(6)));
        let whole = [&independent[..], &dependent, &independent].concat();
        assert_eq!(frame(Codec::Eac3, &whole).0, 128);
        assert_eq!(find(Codec::Eac3, &dependent), Found::Nothing);
    }
}
