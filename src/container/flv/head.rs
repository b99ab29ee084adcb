//! Frames → what stands before their payload in a tag.
//!
//! H.264 and the codecs that FLV has numbers for become FLV tags, all others get an Enhanced RTMP header; further
//! tracks are "one track" of multitrack, for those who know it. No allocation.

use super::tag::{
    CODED_FRAMES, CODED_FRAMES_X, FRAME_INTER, FRAME_KEY, METADATA, MULTITRACK_AUDIO, MULTITRACK_VIDEO,
    SEQUENCE_START, fourcc_of,
};
use super::track;
use crate::media::{Codec, Frame, FrameKind, Media, TrackId};

/// An enhanced multitrack header with a composition time.
pub(crate) const TAG_HEAD_BYTES_MAX: usize = 1 + 1 + 4 + 1 + 3;

/// The bytes before the payload, held in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagHead {
    bytes: [u8; TAG_HEAD_BYTES_MAX],
    len: u8,
}

impl TagHead {
    fn new(parts: &[&[u8]]) -> Self {
        let mut head = Self { bytes: [0; TAG_HEAD_BYTES_MAX], len: 0 };
        for part in parts {
            head.push(part);
        }
        head
    }

    /// There is room: [`TAG_HEAD_BYTES_MAX`] is the longest that is made here.
    fn push(&mut self, part: &[u8]) {
        for byte in part {
            if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Makes the heads of one stream.
#[derive(Clone, Debug)]
pub(crate) struct TagHeads {
    /// Whether the reader knows multitrack; one that does not gets tracks 0, 1 and 2.
    multitrack: bool,
    /// First byte of the legacy audio tags of the main audio track, where its codec needs one: set by the
    /// configuration that [`Assembler`](super::Assembler) makes of it.
    sound: Option<u8>,
}

impl TagHeads {
    pub(crate) const fn new(multitrack: bool) -> Self {
        Self { multitrack, sound: None }
    }

    /// `None` if there is no tag for the frame.
    pub(crate) fn head(&mut self, frame: &Frame) -> Option<TagHead> {
        let main = frame.track <= TrackId::METADATA;
        if !main && !self.multitrack {
            return None;
        }
        match frame.codec.media() {
            Media::Data => (frame.codec == Codec::Script).then(|| TagHead::new(&[])),
            Media::Video => video(frame, main),
            Media::Audio => self.audio(frame, main),
        }
    }

    fn audio(&mut self, frame: &Frame, main: bool) -> Option<TagHead> {
        let config = frame.kind == FrameKind::Config;
        if main {
            match (frame.codec, frame.kind) {
                // A player of FLV tags would take a channel mapping for a codec of that number.
                (Codec::Aac, FrameKind::Data) => return None,
                // Rate, size and channels have these values for AAC, whatever it is in truth (FLV, E.4.2.1).
                (Codec::Aac, _) => return Some(TagHead::new(&[&[0xAF, u8::from(!config)]])),
                (Codec::Mp3 | Codec::G711A | Codec::G711U | Codec::Speex | Codec::Pcm, FrameKind::Config) => {
                    self.sound = frame.payload.first().copied().filter(|_| frame.payload.len() == 1);
                    return None;
                }
                (codec, kind) => {
                    if let Some(usual) = usual_sound(codec) {
                        let sound = self.sound.unwrap_or(usual);
                        return (kind == FrameKind::Audio).then(|| TagHead::new(&[&[sound]]));
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

fn video(frame: &Frame, main: bool) -> Option<TagHead> {
    let composition = composition(frame);
    let frame_type = if frame.kind == FrameKind::Delta { FRAME_INTER } else { FRAME_KEY };
    if frame.codec == Codec::H264 && main {
        let packet_type = match frame.kind {
            FrameKind::Config => 0,
            FrameKind::Key | FrameKind::Delta => 1,
            // A player of FLV tags would take colour metadata for a codec of that number.
            _ => return None,
        };
        return Some(TagHead::new(&[&[frame_type << 4 | 7, packet_type], &composition]));
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

/// The timestamp of a frame's tag.
pub(crate) fn timestamp(frame: &Frame) -> u32 {
    // Metadata that is told again to a joiner has no time of its own: with one, ffmpeg takes it for a text track.
    if frame.codec == Codec::Script && frame.kind == FrameKind::Config {
        return 0;
    }
    // The low 32 bits of a count of milliseconds.
    let [.., a, b, c, d] = frame.dts.as_millis().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// `ExVideoTagHeader` or `ExAudioTagHeader`, without composition time.
fn enhanced(frame: &Frame, first: u8, multitrack: u8, packet_type: u8, main: bool) -> Option<TagHead> {
    let fourcc = fourcc_of(frame.codec)?;
    Some(if main {
        TagHead::new(&[&[first | packet_type], &fourcc])
    } else {
        // 0 in the upper half: one track.
        let track = track::to_wire(frame.codec.media(), frame.track);
        TagHead::new(&[&[first | multitrack, packet_type], &fourcc, &[track]])
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
