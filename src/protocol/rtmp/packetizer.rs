//! Frames → messages that all players of a format share.
//!
//! Every message has a full header with the absolute timestamp, so nothing depends on what a player got before.
//! H.264 and the codecs that FLV has numbers for go out as FLV tags, all others with an Enhanced RTMP header;
//! further tracks as "one track" of multitrack, to players who said that they know it. No allocation.

use super::chunk::{MESSAGE_LENGTH_MAX, TIMESTAMP_EXTENDED, be24};
use super::message::{AUDIO, CSID_AUDIO, CSID_DATA, CSID_VIDEO, DATA, VIDEO};
use super::tag::{
    CODED_FRAMES, CODED_FRAMES_X, FRAME_INTER, FRAME_KEY, METADATA, MULTITRACK_AUDIO, MULTITRACK_VIDEO,
    SEQUENCE_START, fourcc_of,
};
use super::track;
use crate::media::{Codec, Frame, FrameKind, Media, TrackId};
use crate::protocol::{Body, Head, Packet, Packetizer, SEPARATED_BYTES_MIN};

/// Our chunk size: one header per message, save for key frames of more than a mebibyte.
pub(super) const CHUNK_SIZE: u32 = 1024 * 1024;

/// Chunk header, then tag header: a type-0 header with an extended timestamp, then an enhanced multitrack header
/// with a composition time.
const HEAD_BYTES_MAX: usize = (1 + 11 + 4) + (1 + 1 + 4 + 1 + 3);

const _: () = assert!(HEAD_BYTES_MAX <= Head::CAPACITY);
const _: () = assert!(CHUNK_SIZE as usize - HEAD_BYTES_MAX >= SEPARATED_BYTES_MIN as usize);

/// How a player wants its messages: the number that travels as the `format` of a play request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// The message stream id of the player's stream: below 2³¹.
    pub(super) stream: u32,
    /// Whether the player knows multitrack; one that does not gets tracks 0, 1 and 2.
    pub(super) multitrack: bool,
}

impl Format {
    pub(super) const fn to_number(self) -> u32 {
        self.stream << 1 | self.multitrack as u32
    }

    pub(super) const fn from_number(number: u32) -> Self {
        Self { stream: number >> 1, multitrack: number & 1 == 1 }
    }
}

/// The packetizer of one format.
#[derive(Debug)]
pub(super) struct RtmpPacketizer {
    format: Format,
    /// First byte of the legacy audio tags of the main audio track, where its codec needs one: set by the
    /// configuration that the session makes of it.
    sound: Option<u8>,
}

impl RtmpPacketizer {
    pub(super) const fn new(format: Format) -> Self {
        Self { format, sound: None }
    }

    /// What stands between chunk header and payload.
    fn tag(&mut self, frame: &Frame) -> Option<Head> {
        let main = frame.track <= TrackId::METADATA;
        if !main && !self.format.multitrack {
            return None;
        }
        match frame.codec.media() {
            Media::Data => Some(Head::new(&[])),
            Media::Video => self.video(frame, main),
            Media::Audio => self.audio(frame, main),
        }
    }

    fn video(&self, frame: &Frame, main: bool) -> Option<Head> {
        let composition = composition(frame);
        let frame_type = if frame.kind == FrameKind::Delta { FRAME_INTER } else { FRAME_KEY };
        if frame.codec == Codec::H264 && main {
            let packet_type = match frame.kind {
                FrameKind::Config => 0,
                FrameKind::Key | FrameKind::Delta => 1,
                // A player of FLV tags would take colour metadata for a codec of that number.
                _ => return None,
            };
            return Some(Head::new(&[&[frame_type << 4 | 7, packet_type], &composition]));
        }
        let timed = matches!(frame.codec, Codec::H264 | Codec::H265 | Codec::H266);
        let packet_type = match frame.kind {
            FrameKind::Config => SEQUENCE_START,
            FrameKind::Data => METADATA,
            FrameKind::Key | FrameKind::Delta if timed && composition == [0; 3] => CODED_FRAMES_X,
            FrameKind::Key | FrameKind::Delta => CODED_FRAMES,
            FrameKind::Audio => return None,
        };
        let first = 0x80 | frame_type << 4;
        let mut head = enhanced(frame, first, MULTITRACK_VIDEO, packet_type, main)?;
        if packet_type == CODED_FRAMES && timed {
            head.push(&composition);
        }
        Some(head)
    }

    fn audio(&mut self, frame: &Frame, main: bool) -> Option<Head> {
        let config = frame.kind == FrameKind::Config;
        if main {
            match (frame.codec, frame.kind) {
                // A player of FLV tags would take a channel mapping for a codec of that number.
                (Codec::Aac, FrameKind::Data) => return None,
                // Rate, size and channels have these values for AAC, whatever it is in truth (FLV, E.4.2.1).
                (Codec::Aac, _) => return Some(Head::new(&[&[0xAF, u8::from(!config)]])),
                (Codec::Mp3 | Codec::G711A | Codec::G711U | Codec::Speex | Codec::Pcm, FrameKind::Config) => {
                    self.sound = frame.payload.first().copied().filter(|_| frame.payload.len() == 1);
                    return None;
                }
                (codec, kind) => {
                    if let Some(usual) = usual_sound(codec) {
                        let sound = self.sound.unwrap_or(usual);
                        return (kind == FrameKind::Audio).then(|| Head::new(&[&[sound]]));
                    }
                }
            }
        }
        let packet_type = match frame.kind {
            // What FLV says in its first byte has no place here.
            FrameKind::Config if usual_sound(frame.codec).is_some() => return None,
            FrameKind::Config => SEQUENCE_START,
            FrameKind::Data => METADATA,
            FrameKind::Audio => CODED_FRAMES,
            _ => return None,
        };
        enhanced(frame, 0x90, MULTITRACK_AUDIO, packet_type, main)
    }
}

impl Packetizer for RtmpPacketizer {
    fn packetize(&mut self, frame: &Frame) -> Option<Packet> {
        let tag = self.tag(frame)?;
        let tag = tag.as_slice();
        if frame.payload.is_empty() {
            return None;
        }
        let payload = u32::try_from(frame.payload.len()).ok()?;
        let tag_bytes = u32::try_from(tag.len()).ok()?;
        let length = payload.checked_add(tag_bytes).filter(|length| *length <= MESSAGE_LENGTH_MAX)?;
        let (csid, kind) = match frame.codec.media() {
            Media::Audio => (CSID_AUDIO, AUDIO),
            Media::Video => (CSID_VIDEO, VIDEO),
            Media::Data => (CSID_DATA, DATA),
        };
        let csid = csid.to_be_bytes()[3];

        // Metadata that is told again to a joiner has no time of its own: with one, ffmpeg takes it for a text track.
        let metadata = frame.codec == Codec::Script && frame.kind == FrameKind::Config;
        let timestamp = if metadata { 0 } else { wire_ms(frame.dts.as_millis()) };
        let field = timestamp.min(TIMESTAMP_EXTENDED);
        let extended = timestamp.to_be_bytes();
        let extended: &[u8] = if field == TIMESTAMP_EXTENDED { &extended } else { &[] };
        let head = Head::new(&[
            &[csid],
            &be24(field),
            &be24(length),
            &[kind],
            &self.format.stream.to_le_bytes(),
            extended,
            tag,
        ]);
        let body = if length <= CHUNK_SIZE {
            Body::Payload
        } else {
            let separator = Head::new(&[&[0xC0 | csid], extended]);
            Body::Chunked { first: CHUNK_SIZE - tag_bytes, every: CHUNK_SIZE, separator }
        };
        Some(Packet { head, body })
    }
}

/// `ExVideoTagHeader` or `ExAudioTagHeader`, without composition time.
fn enhanced(frame: &Frame, first: u8, multitrack: u8, packet_type: u8, main: bool) -> Option<Head> {
    let fourcc = fourcc_of(frame.codec)?;
    Some(if main {
        Head::new(&[&[first | packet_type], &fourcc])
    } else {
        // 0 in the upper half: one track.
        Head::new(&[&[first | multitrack, packet_type], &fourcc, &[track::to_wire(frame.codec.media(), frame.track)]])
    })
}

/// Presentation minus decoding time, in the milliseconds of the two timestamps as a player sees them.
fn composition(frame: &Frame) -> [u8; 3] {
    const MAX: i64 = 0x7F_FFFF;
    if !frame.is_video() {
        return [0; 3];
    }
    let ms = frame.pts.as_millis().saturating_sub(frame.dts.as_millis()).clamp(-MAX, MAX);
    let [.., a, b, c] = ms.to_be_bytes();
    [a, b, c]
}

/// The first byte of an audio tag that no publisher gave: 44.1 kHz (or the codec's own), 16 bits, stereo or mono.
const fn usual_sound(codec: Codec) -> Option<u8> {
    match codec {
        Codec::Mp3 => Some(0x2F),
        Codec::Pcm => Some(0x3F),
        Codec::G711A => Some(0x72),
        Codec::G711U => Some(0x82),
        Codec::Speex => Some(0xB6),
        _ => None,
    }
}

/// The low 32 bits of a count of milliseconds.
fn wire_ms(ms: i64) -> u32 {
    let [.., a, b, c, d] = ms.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
