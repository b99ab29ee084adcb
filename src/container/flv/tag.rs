//! Audio and video tags: their bodies (Adobe FLV 10.1, annex E.4) and their Enhanced RTMP v2 form.
//!
//! [`video`] and [`audio`] give a reader that takes one message apart into packets, one per track; a payload is
//! cut out, never copied. What is left out: legacy codecs other than those of [`Codec`] and AV1 in MPEG-2 TS form.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use bytes::{Buf, Bytes};

use super::FlvError;
use crate::limits::TRACKS_MAX;
use crate::media::{Codec, Media};

/// Packet types that video and audio share, and their own (Enhanced RTMP v2, `VideoPacketType`, `AudioPacketType`).
pub(crate) const SEQUENCE_START: u8 = 0;
pub(crate) const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
pub(crate) const CODED_FRAMES_X: u8 = 3;
/// Video: AMF colour metadata. Audio: channel mapping.
pub(crate) const METADATA: u8 = 4;
pub(crate) const MULTITRACK_AUDIO: u8 = 5;
pub(crate) const MULTITRACK_VIDEO: u8 = 6;
const MOD_EX: u8 = 7;

const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// Video frame types (FLV, E.4.3.1).
pub(crate) const FRAME_KEY: u8 = 1;
pub(crate) const FRAME_INTER: u8 = 2;
const FRAME_DISPOSABLE: u8 = 3;
const FRAME_GENERATED_KEY: u8 = 4;
const FRAME_COMMAND: u8 = 5;

/// The sound format that says that an enhanced header follows.
const SOUND_EX: u8 = 9;
const TIMESTAMP_OFFSET_NANO: u8 = 0;
const NANOS_PER_MILLI: u32 = 1_000_000;

/// One track's part of an audio or video message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// The track id on the wire; 0 is the default track.
    pub(crate) track: u8,
    pub(crate) codec: Codec,
    pub(crate) kind: PacketKind,
    /// Composition time in milliseconds, positive or negative.
    pub(crate) composition_ms: i32,
    /// Added to the presentation time: less than a millisecond.
    pub(crate) offset_ns: u32,
    /// The first byte of a legacy audio tag: format, rate, size, channels.
    pub(crate) sound: Option<u8>,
    pub(crate) payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketKind {
    /// A decoder configuration record.
    Config,
    Key,
    Delta,
    /// A delta that no other frame refers to.
    Disposable,
    Audio,
    /// Colour metadata or a channel mapping.
    Metadata,
}

/// The packets of one message.
#[derive(Debug)]
pub(crate) struct Packets {
    rest: Rest,
    media: Media,
    frame_type: u8,
    packet_type: u8,
    offset_ns: u32,
    /// The codec of all tracks, unless each has its own.
    codec: Option<Codec>,
    /// Tracks so far.
    tracks: usize,
}

#[derive(Debug)]
enum Rest {
    Nothing,
    /// A legacy packet, taken apart already.
    Legacy(Packet),
    /// The only track, id 0.
    Single(Bytes),
    /// The only track behind its id.
    One(Bytes),
    /// Tracks behind their ids and sizes.
    Many(Bytes),
}

/// The packets of a video message.
pub(crate) fn video(mut tag: Bytes) -> Result<Packets, FlvError> {
    let Some(&first) = tag.first() else { return Ok(Packets::none(Media::Video)) };
    tag.advance(1);
    let frame_type = first >> 4 & 7;
    if first & 0x80 != 0 {
        return enhanced(Media::Video, frame_type, first & 0x0F, tag);
    }
    if frame_type == FRAME_COMMAND {
        return Ok(Packets::none(Media::Video));
    }
    let codec = match first & 0x0F {
        7 => Codec::H264,
        // Not in the specification, but what many encoders used before there was an enhanced one.
        12 => Codec::H265,
        _ => return Err(FlvError::Codec(Media::Video)),
    };
    // A tag that ends before its composition time has no frame: some encoders cut the end-of-sequence tag so.
    let Some(&[packet_type, c0, c1, c2]) = tag.first_chunk() else { return Ok(Packets::none(Media::Video)) };
    tag.advance(4);
    let kind = match packet_type {
        0 => PacketKind::Config,
        1 => frame_kind(frame_type),
        2 => return Ok(Packets::none(Media::Video)),
        _ => return Err(FlvError::PacketType(Media::Video)),
    };
    let composition_ms = if packet_type == 1 { i24([c0, c1, c2]) } else { 0 };
    Ok(Packets::legacy(
        Media::Video,
        Packet { track: 0, codec, kind, composition_ms, offset_ns: 0, sound: None, payload: tag },
    ))
}

/// The packets of an audio message.
pub(crate) fn audio(mut tag: Bytes) -> Result<Packets, FlvError> {
    let Some(&first) = tag.first() else { return Ok(Packets::none(Media::Audio)) };
    tag.advance(1);
    if first >> 4 == SOUND_EX {
        return enhanced(Media::Audio, 0, first & 0x0F, tag);
    }
    let codec = match first >> 4 {
        0 | 3 => Codec::Pcm,
        2 | 14 => Codec::Mp3,
        7 => Codec::G711A,
        8 => Codec::G711U,
        10 => Codec::Aac,
        11 => Codec::Speex,
        _ => return Err(FlvError::Codec(Media::Audio)),
    };
    let mut kind = PacketKind::Audio;
    if codec == Codec::Aac {
        let Some(&packet_type) = tag.first() else { return Ok(Packets::none(Media::Audio)) };
        tag.advance(1);
        kind = match packet_type {
            0 => PacketKind::Config,
            1 => PacketKind::Audio,
            _ => return Err(FlvError::PacketType(Media::Audio)),
        };
    }
    let sound = (codec != Codec::Aac).then_some(first);
    let packet = Packet { track: 0, codec, kind, composition_ms: 0, offset_ns: 0, sound, payload: tag };
    Ok(Packets::legacy(Media::Audio, packet))
}

/// `ExVideoTagHeader` and `ExAudioTagHeader`, behind the first byte.
fn enhanced(media: Media, frame_type: u8, mut packet_type: u8, mut tag: Bytes) -> Result<Packets, FlvError> {
    let mut packets = Packets::none(media);
    packets.frame_type = frame_type;
    while packet_type == MOD_EX {
        let mut size = usize::from(take::<1>(&mut tag)?[0]).saturating_add(1);
        if size == 256 {
            size = usize::from(u16::from_be_bytes(take(&mut tag)?)).saturating_add(1);
        }
        if size > tag.len() {
            return Err(FlvError::TagEnd);
        }
        let data = tag.split_to(size);
        let [next] = take(&mut tag)?;
        packet_type = next & 0x0F;
        if let (TIMESTAMP_OFFSET_NANO, Some(&[a, b, c])) = (next >> 4, data.first_chunk()) {
            // "The maximum value is 999,999 ns": what is more would be a millisecond of the timestamp.
            packets.offset_ns = u32::from_be_bytes([0, a, b, c]).min(NANOS_PER_MILLI.saturating_sub(1));
        }
    }
    let multitrack = match media {
        Media::Video => {
            if packet_type != METADATA && frame_type == FRAME_COMMAND {
                return Ok(packets);
            }
            MULTITRACK_VIDEO
        }
        _ => MULTITRACK_AUDIO,
    };
    if packet_type == multitrack {
        let [byte] = take(&mut tag)?;
        packet_type = byte & 0x0F;
        if packet_type == multitrack {
            return Err(FlvError::Nested);
        }
        match byte >> 4 {
            ONE_TRACK => {
                packets.codec = Some(fourcc(media, take(&mut tag)?)?);
                packets.rest = Rest::One(tag);
            }
            MANY_TRACKS => {
                packets.codec = Some(fourcc(media, take(&mut tag)?)?);
                packets.rest = Rest::Many(tag);
            }
            MANY_TRACKS_MANY_CODECS => packets.rest = Rest::Many(tag),
            _ => return Err(FlvError::PacketType(media)),
        }
    } else {
        packets.codec = Some(fourcc(media, take(&mut tag)?)?);
        packets.rest = Rest::Single(tag);
    }
    packets.packet_type = packet_type;
    Ok(packets)
}

impl Packets {
    fn none(media: Media) -> Self {
        Self { rest: Rest::Nothing, media, frame_type: 0, packet_type: 0, offset_ns: 0, codec: None, tracks: 0 }
    }

    fn legacy(media: Media, packet: Packet) -> Self {
        Self { rest: Rest::Legacy(packet), ..Self::none(media) }
    }

    /// The next packet that holds something, until `None`.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, FlvError> {
        loop {
            let (codec, track, body) = match std::mem::replace(&mut self.rest, Rest::Nothing) {
                Rest::Nothing => return Ok(None),
                Rest::Legacy(packet) => return Ok(Some(packet).filter(|p| !p.payload.is_empty())),
                Rest::Single(body) => (self.codec, 0, body),
                Rest::One(mut body) => (self.codec, take::<1>(&mut body)?[0], body),
                Rest::Many(rest) if rest.is_empty() => return Ok(None),
                Rest::Many(mut rest) => {
                    self.tracks = self.tracks.saturating_add(1);
                    if self.tracks > TRACKS_MAX {
                        return Err(FlvError::Tracks);
                    }
                    let codec = match self.codec {
                        Some(codec) => codec,
                        None => fourcc(self.media, take(&mut rest)?)?,
                    };
                    let [track, s0, s1, s2] = take(&mut rest)?;
                    let size = usize::try_from(u32::from_be_bytes([0, s0, s1, s2])).unwrap_or(usize::MAX);
                    if size > rest.len() {
                        return Err(FlvError::TagEnd);
                    }
                    let body = rest.split_to(size);
                    self.rest = Rest::Many(rest);
                    (Some(codec), track, body)
                }
            };
            let Some(codec) = codec else { return Ok(None) };
            if let Some(packet) = self.packet(codec, track, body)? {
                return Ok(Some(packet));
            }
        }
    }

    fn packet(&self, codec: Codec, track: u8, mut payload: Bytes) -> Result<Option<Packet>, FlvError> {
        let mut composition_ms = 0;
        let video = self.media == Media::Video;
        let kind = match self.packet_type {
            SEQUENCE_START => PacketKind::Config,
            CODED_FRAMES if video => {
                // Only these have a composition time (`ExVideoTagBody`).
                if matches!(codec, Codec::H264 | Codec::H265 | Codec::H266) && !payload.is_empty() {
                    composition_ms = i24(take(&mut payload)?);
                }
                frame_kind(self.frame_type)
            }
            CODED_FRAMES_X if video => frame_kind(self.frame_type),
            CODED_FRAMES => PacketKind::Audio,
            SEQUENCE_END => return Ok(None),
            METADATA => PacketKind::Metadata,
            _ => return Err(FlvError::PacketType(self.media)),
        };
        if payload.is_empty() {
            return Ok(None);
        }
        Ok(Some(Packet { track, codec, kind, composition_ms, offset_ns: self.offset_ns, sound: None, payload }))
    }
}

fn frame_kind(frame_type: u8) -> PacketKind {
    match frame_type {
        FRAME_KEY | FRAME_GENERATED_KEY => PacketKind::Key,
        FRAME_DISPOSABLE => PacketKind::Disposable,
        _ => PacketKind::Delta,
    }
}

fn fourcc(media: Media, code: [u8; 4]) -> Result<Codec, FlvError> {
    Codec::ALL
        .into_iter()
        .find(|codec| codec.media() == media && fourcc_of(*codec) == Some(code))
        .ok_or(FlvError::Codec(media))
}

/// The FourCC of a codec, if Enhanced RTMP has one for it.
pub(crate) const fn fourcc_of(codec: Codec) -> Option<[u8; 4]> {
    Some(*match codec {
        Codec::H264 => b"avc1",
        Codec::H265 => b"hvc1",
        Codec::H266 => b"vvc1",
        Codec::Av1 => b"av01",
        Codec::Vp8 => b"vp08",
        Codec::Vp9 => b"vp09",
        Codec::Aac => b"mp4a",
        Codec::Opus => b"Opus",
        Codec::Mp3 => b".mp3",
        Codec::Flac => b"fLaC",
        Codec::Ac3 => b"ac-3",
        Codec::Eac3 => b"ec-3",
        _ => return None,
    })
}

fn take<const N: usize>(bytes: &mut Bytes) -> Result<[u8; N], FlvError> {
    let head = *bytes.first_chunk().ok_or(FlvError::TagEnd)?;
    bytes.advance(N);
    Ok(head)
}

/// A signed 24-bit number.
fn i24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}
