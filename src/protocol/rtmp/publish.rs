//! What a publisher sends → frames.

use bytes::{Buf, Bytes};

use super::amf::{Decoder, Value};
use super::session::Turn;
use crate::container::flv::{Assembler, FlvError, Made};
use crate::limits::Limit;
use crate::media::{FrameKind, Media};
use crate::protocol::{Description, Output, StreamHandle};
use crate::reason::{Label, Reason};

/// Tags in one aggregate message.
const AGGREGATE_TAGS_MAX: usize = 4096;
/// Bytes of an encoder's name that are shown.
const ENCODER_BYTES_MAX: usize = 255;

/// One live publish.
#[derive(Debug)]
pub(super) struct Publishing {
    handle: StreamHandle,
    assembler: Assembler,
}

impl Publishing {
    pub(super) fn new(handle: StreamHandle) -> Self {
        Self { handle, assembler: Assembler::default() }
    }

    /// An audio or video message.
    pub(super) fn media(
        &mut self,
        turn: &mut Turn<'_>,
        media: Media,
        timestamp: u32,
        tag: Bytes,
    ) -> Result<(), Reason> {
        let (handle, at, origin) = (self.handle, turn.at, turn.now.mono);
        let made = self.assembler.media(origin, media, timestamp, tag, &mut |made| {
            turn.output(match made {
                Made::Frame(frame) => Output::Frame(handle, frame),
                Made::Wrapped => Output::Wrapped(handle),
            });
        });
        made.map_err(|error| reason(error, at))
    }

    /// A data message: `onMetaData` and what else there is.
    pub(super) fn data(&mut self, turn: &mut Turn<'_>, timestamp: u32, payload: Bytes) -> Result<(), Reason> {
        let mut values = Decoder::new(&payload);
        let malformed = Reason::Malformed { what: Label("rtmp.data"), at: turn.at };
        let mut start = 0;
        let mut name = match values.value().map_err(|e| e.reason(turn.at))? {
            None => return Ok(()),
            Some(Value::String(name)) => name,
            Some(_) => return Err(malformed),
        };
        if &*name == "@setDataFrame" {
            start = values.position();
            name = match values.value().map_err(|e| e.reason(turn.at))? {
                None => return Ok(()),
                Some(Value::String(name)) => name,
                Some(_) => return Err(malformed),
            };
        }
        // `@clearDataFrame`, and what only a server says (`|RtmpSampleAccess`).
        if name.starts_with(['@', '|']) {
            return Ok(());
        }
        // All of it must be readable before any player gets it.
        let first = values.value().map_err(|e| e.reason(turn.at))?;
        while values.value().map_err(|e| e.reason(turn.at))?.is_some() {}
        let metadata = &*name == "onMetaData";
        let kind = if metadata { FrameKind::Config } else { FrameKind::Data };
        let payload = payload.slice(start.min(payload.len())..);
        let frame = self.assembler.script(turn.now.mono, kind, timestamp, payload);
        turn.output(Output::Frame(self.handle, frame.map_err(|error| reason(error, turn.at))?));
        if metadata {
            let description = describe(&first.unwrap_or(Value::Null));
            turn.output(Output::Describe(self.handle, Box::new(description)));
        }
        Ok(())
    }

    /// FLV tags in one message (section 7.1.6): their times count from the message's.
    pub(super) fn aggregate(&mut self, turn: &mut Turn<'_>, timestamp: u32, mut rest: Bytes) -> Result<(), Reason> {
        let malformed = Reason::Malformed { what: Label("rtmp.aggregate"), at: turn.at };
        let mut base = None;
        let mut tags = 0_usize;
        while let Some(&[kind, l0, l1, l2, t0, t1, t2, t3, _, _, _]) = rest.first_chunk() {
            tags += 1;
            if tags > AGGREGATE_TAGS_MAX {
                return Err(Reason::Limit(Limit::Values));
            }
            let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX);
            let inner = u32::from_be_bytes([t3, t0, t1, t2]);
            let time = timestamp.wrapping_add(inner.wrapping_sub(*base.get_or_insert(inner)));
            rest.advance(11);
            if length > rest.len() {
                return Err(malformed);
            }
            let body = rest.split_to(length);
            match kind {
                super::message::AUDIO => self.media(turn, Media::Audio, time, body)?,
                super::message::VIDEO => self.media(turn, Media::Video, time, body)?,
                super::message::DATA => self.data(turn, time, body)?,
                super::message::AGGREGATE => return Err(malformed),
                _ => {}
            }
            // The back pointer; some leave out the last.
            match rest.len() {
                0 => {}
                1..4 => return Err(malformed),
                _ => rest.advance(4),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(malformed) }
    }
}

/// Why a publisher of such tags is closed.
pub(super) fn reason(error: FlvError, at: u64) -> Reason {
    match error {
        FlvError::Header => Reason::Malformed { what: Label("flv.header"), at },
        FlvError::TagEnd => Reason::Malformed { what: Label("rtmp.tag_end"), at },
        FlvError::Nested => Reason::Malformed { what: Label("rtmp.multitrack_nested"), at },
        FlvError::PacketType(Media::Video) => Reason::Unsupported(Label("rtmp.video_packet")),
        FlvError::PacketType(_) => Reason::Unsupported(Label("rtmp.audio_packet")),
        FlvError::Codec(Media::Video) => Reason::Unsupported(Label("rtmp.video_codec")),
        FlvError::Codec(_) => Reason::Unsupported(Label("rtmp.audio_codec")),
        FlvError::Tracks => Reason::Limit(Limit::Tracks),
        FlvError::ConfigBytes => Reason::Limit(Limit::MessageBytes),
    }
}

/// What `onMetaData` says. For people: nothing here is used in arithmetic that a strange number could hurt.
fn describe(metadata: &Value) -> Description {
    let number = |name| metadata.get(name).and_then(Value::as_number).filter(|n| *n > 0.0);
    let kilo = |name| number(name).map(|n| n * 1000.0).filter(|n| n.is_finite());
    let size = number("width").and_then(pixels).zip(number("height").and_then(pixels));
    let channels = number("audiochannels")
        .filter(|n| *n <= 255.0)
        .map(whole_u8)
        .filter(|n| *n > 0)
        .or_else(|| metadata.get("stereo").and_then(Value::as_bool).map(|stereo| if stereo { 2 } else { 1 }));
    Description {
        size,
        frame_rate: number("framerate"),
        video_bitrate: kilo("videodatarate"),
        audio_bitrate: kilo("audiodatarate"),
        sample_rate: number("audiosamplerate"),
        channels,
        encoder: metadata.get("encoder").and_then(Value::as_str).map(|name| cut(name).into()),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 255")]
fn whole_u8(number: f64) -> u8 {
    number as u8
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 65,535")]
fn pixels(number: f64) -> Option<u32> {
    (1.0..=65_535.0).contains(&number).then_some(number as u32)
}

/// The beginning of a name, whole characters.
fn cut(name: &str) -> &str {
    let end = (0..=ENCODER_BYTES_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}
