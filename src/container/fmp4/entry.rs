//! Sample entries: what a track is coded in, written (ISO/IEC 14496-12, 8.5.2 and 12; ISO/IEC 14496-15; the bindings
//! of each codec). A configuration record is written as it is.

use bytes::{BufMut, Bytes, BytesMut};

use super::MuxError;
use super::boxes::{put_box, put_full_box};
use crate::codec::{CodecError, Description, flac, has_record, mp3, opus, vp9};
use crate::media::{Codec, Media, Track};

/// Object type indications (ISO/IEC 14496-1, 7.2.6.6.2; mp4ra.org): AAC, and layer III of MPEG-1 and MPEG-2.
pub(super) const OBJECT_AAC: u8 = 0x40;
pub(super) const OBJECT_MP3_MPEG_1: u8 = 0x6B;
pub(super) const OBJECT_MP3_MPEG_2: u8 = 0x69;
/// Descriptor tags (7.2.2.1).
pub(super) const TAG_ES: u8 = 3;
pub(super) const TAG_DECODER_CONFIG: u8 = 4;
pub(super) const TAG_DECODER_SPECIFIC: u8 = 5;
const TAG_SL_CONFIG: u8 = 6;
const DOTS_PER_INCH_72: u32 = 72 << 16;
/// Audio clocks that a track's timescale may stand for, where its record says none.
const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 7_350..=768_000;

/// What the headers of a track need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The box within `stsd`.
    pub(super) bytes: Bytes,
    /// Ticks per second: the sample rate, 90,000 of video.
    pub(super) timescale: u32,
    /// Ticks of a frame, for a last one of which nothing says how long it lasts.
    pub(super) duration: u32,
    /// Of video.
    pub(super) size: (u16, u16),
}

/// Ticks per second of video: so many are a whole number of frames at all usual rates.
const VIDEO_TIMESCALE: u32 = 90_000;
const USUAL_FRAME_RATE: u32 = 30;

impl Entry {
    pub(super) fn of(track: &Track) -> Result<Self, MuxError> {
        match track.codec.media() {
            Media::Video => Self::video(track),
            Media::Audio => Self::audio(track),
            Media::Data => Err(MuxError::Unsupported(track.codec)),
        }
    }

    fn video(track: &Track) -> Result<Self, MuxError> {
        let (kind, config_box) = match track.codec {
            Codec::H264 => (b"avc1", b"avcC"),
            Codec::H265 => (b"hvc1", b"hvcC"),
            Codec::H266 => (b"vvc1", b"vvcC"),
            Codec::Av1 => (b"av01", b"av1C"),
            Codec::Vp8 => (b"vp08", b"vpcC"),
            Codec::Vp9 => (b"vp09", b"vpcC"),
            _ => return Err(MuxError::Unsupported(track.codec)),
        };
        if track.config.is_empty() {
            return Err(MuxError::Config(track.codec, CodecError::NoConfiguration(track.codec)));
        }
        // A size is enough: a record that cannot be read whole may still be good for a decoder.
        let description = Description::read(track.codec, &track.config, None);
        let (size, frame_rate) = match description {
            Ok(description) => (description.size.or(track.size), description.frame_rate),
            Err(_) if track.size.is_some() => (track.size, None),
            Err(error) => return Err(MuxError::Config(track.codec, error)),
        };
        let (width, height) = size.ok_or(MuxError::Size(track.id))?;
        let side = |side: u32| u16::try_from(side).map_err(|_| MuxError::Size(track.id));
        let size = (side(width)?, side(height)?);
        let mut out = BytesMut::new();
        put_box(&mut out, kind, |out| {
            out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
            out.put_bytes(0, 16);
            out.put_u16(size.0);
            out.put_u16(size.1);
            out.put_u32(DOTS_PER_INCH_72);
            out.put_u32(DOTS_PER_INCH_72);
            out.put_u32(0);
            out.put_u16(1);
            out.put_bytes(0, 32); // compressorname
            out.put_u16(24);
            out.put_i16(-1);
            match track.codec {
                Codec::H266 => put_full_box(out, config_box, 0, 0, |out| out.put_slice(&track.config)),
                Codec::Vp8 | Codec::Vp9 => {
                    let record = vp9::Record::read(&track.config).unwrap_or_default();
                    put_full_box(out, config_box, 1, 0, |out| out.put_slice(&record.to_bytes()));
                }
                _ => put_box(out, config_box, |out| out.put_slice(&track.config)),
            }
        });
        let per_frame = |rate: crate::codec::FrameRate| {
            let ticks =
                u64::from(VIDEO_TIMESCALE).saturating_mul(rate.seconds.into()).checked_div(rate.frames.into());
            u32::try_from(ticks.unwrap_or(0)).unwrap_or(0)
        };
        let duration = frame_rate.map_or(VIDEO_TIMESCALE / USUAL_FRAME_RATE, per_frame);
        Ok(Self { bytes: out.freeze(), timescale: VIDEO_TIMESCALE, duration, size })
    }

    fn audio(track: &Track) -> Result<Self, MuxError> {
        let described = Description::read(track.codec, &track.config, None);
        let (channels, rate) = match described {
            Ok(description) => (description.channels, description.sample_rate),
            // MP3 has no record: its rate is that of the file which it comes from.
            Err(_) if !has_record(track.codec) => (None, None),
            Err(error) => return Err(MuxError::Config(track.codec, error)),
        };
        let rate = rate.or(Some(track.timescale)).filter(|rate| SAMPLE_RATES.contains(rate));
        let rate = rate.ok_or(MuxError::SampleRate(track.id))?;
        let channels = channels.or(track.channels).unwrap_or(2);
        let config = |error| MuxError::Config(track.codec, error);
        let (kind, duration) = match track.codec {
            Codec::Aac | Codec::Mp3 => (b"mp4a", if track.codec == Codec::Aac { 1024 } else { 1152 }),
            Codec::Opus => (b"Opus", 960),
            Codec::Flac => (b"fLaC", 4096),
            Codec::Ac3 => (b"ac-3", 1536),
            Codec::Eac3 => (b"ec-3", 1536),
            _ => return Err(MuxError::Unsupported(track.codec)),
        };
        let mut sample_bits = 16;
        let mut specific = BytesMut::new();
        match track.codec {
            Codec::Aac => put_esds(&mut specific, OBJECT_AAC, &track.config),
            Codec::Mp3 => {
                let first = mp3::codec_string(rate) == "mp4a.6B";
                put_esds(&mut specific, if first { OBJECT_MP3_MPEG_1 } else { OBJECT_MP3_MPEG_2 }, &[]);
            }
            Codec::Opus => {
                let head = opus::OpusHead::read(&track.config).map_err(config)?;
                put_box(&mut specific, b"dOps", |out| out.put_slice(&head.to_box()));
            }
            Codec::Flac => {
                let body = flac::box_of(&track.config).map_err(config)?;
                sample_bits = flac::StreamInfo::read(&track.config).map_err(config)?.bits.into();
                put_box(&mut specific, b"dfLa", |out| out.put_slice(&body));
            }
            Codec::Ac3 => put_box(&mut specific, b"dac3", |out| out.put_slice(&track.config)),
            _ => put_box(&mut specific, b"dec3", |out| out.put_slice(&track.config)),
        }
        let mut out = BytesMut::new();
        put_box(&mut out, kind, |out| {
            out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
            out.put_bytes(0, 8);
            out.put_u16(channels.into());
            out.put_u16(sample_bits);
            out.put_u32(0);
            // 16.16: of higher rates the record alone tells.
            out.put_u32(u16::try_from(rate).map_or(0, |rate| u32::from(rate) << 16));
            out.put_slice(&specific);
        });
        Ok(Self { bytes: out.freeze(), timescale: rate, duration, size: (0, 0) })
    }
}

/// `esds` (ISO/IEC 14496-14, 5.6.1).
fn put_esds(out: &mut BytesMut, object: u8, specific: &[u8]) {
    // Of the decoder's configuration the fixed fields, then its own descriptor; around it the stream's.
    const DECODER_FIELDS: usize = 13;
    const DESCRIPTOR_HEADER: usize = 5;
    let specific_bytes = if specific.is_empty() { 0 } else { specific.len().saturating_add(DESCRIPTOR_HEADER) };
    let decoder_bytes = specific_bytes.saturating_add(DECODER_FIELDS);
    put_full_box(out, b"esds", 0, 0, |out| {
        put_descriptor(out, TAG_ES, decoder_bytes.saturating_add(3 + DESCRIPTOR_HEADER + DESCRIPTOR_HEADER + 1));
        out.put_slice(&[0, 0, 0]);
        put_descriptor(out, TAG_DECODER_CONFIG, decoder_bytes);
        // streamType 5 is audio; buffer size and rates are not known.
        out.put_slice(&[object, 5 << 2 | 1, 0, 0, 0]);
        out.put_u64(0);
        if !specific.is_empty() {
            put_descriptor(out, TAG_DECODER_SPECIFIC, specific.len());
            out.put_slice(specific);
        }
        put_descriptor(out, TAG_SL_CONFIG, 1);
        out.put_u8(2);
    });
}

/// A tag and a length in four groups of seven bits.
fn put_descriptor(out: &mut BytesMut, tag: u8, length: usize) {
    out.put_u8(tag);
    for shift in [21_u32, 14, 7, 0] {
        let group = u8::try_from(length.checked_shr(shift).unwrap_or(0) & 0x7F).unwrap_or(0);
        out.put_u8(if shift > 0 { group | 0x80 } else { group });
    }
}
