//! What a publisher sends → frames.

use bytes::{Buf, Bytes};

use super::amf::{Decoder, Value};
use super::session::Turn;
use super::tag::{self, Packet, PacketKind, Packets};
use super::track;
use crate::limits::{Limit, TRACKS_MAX};
use crate::media::{
    Codec, Frame, FrameFlags, FrameKind, Media, NalFormat, Timestamp, TrackId, WireClock, WireTimestamp,
};
use crate::protocol::{Description, Output, StreamHandle};
use crate::reason::{Label, Reason};

/// A configuration record or metadata message: it is kept for as long as its stream lives, and every player
/// gets it.
const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Tags in one aggregate message.
const AGGREGATE_TAGS_MAX: usize = 4096;
/// Bytes of an encoder's name that are shown.
const ENCODER_BYTES_MAX: usize = 255;

/// One live publish.
#[derive(Debug)]
pub(super) struct Publishing {
    handle: StreamHandle,
    /// Driven by coded frames alone: configuration and data come with timestamps of 0 from many encoders.
    clock: WireClock,
    /// In order of appearance; at most TRACKS_MAX, each with another id.
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    media: Media,
    wire: u8,
    id: TrackId,
    /// The first byte of its legacy audio tags, once it was told.
    sound: Option<u8>,
    /// What its configuration in force says, of codecs whose frames are looked into.
    nal: Option<NalFormat>,
}

impl Publishing {
    pub(super) fn new(handle: StreamHandle) -> Self {
        Self { handle, clock: WireClock::default(), tracks: Vec::new() }
    }

    /// An audio or video message.
    pub(super) fn media(
        &mut self,
        turn: &mut Turn<'_>,
        media: Media,
        timestamp: u32,
        tag: Bytes,
    ) -> Result<(), Reason> {
        let packets = if media == Media::Video { tag::video(tag) } else { tag::audio(tag) };
        self.packets(turn, packets.map_err(|e| e.reason(turn.at))?, timestamp)
    }

    fn packets(&mut self, turn: &mut Turn<'_>, mut packets: Packets, timestamp: u32) -> Result<(), Reason> {
        // One message has one timestamp, however many tracks are in it.
        let mut placed = None;
        while let Some(packet) = packets.next().map_err(|e| e.reason(turn.at))? {
            self.packet(turn, packet, timestamp, &mut placed)?;
        }
        Ok(())
    }

    fn packet(
        &mut self,
        turn: &mut Turn<'_>,
        packet: Packet,
        timestamp: u32,
        placed: &mut Option<WireTimestamp>,
    ) -> Result<(), Reason> {
        let index = self.track(packet.codec.media(), packet.track)?;
        if let Some(sound) = packet.sound {
            self.sound(turn, index, packet.codec, sound, timestamp);
        }
        let mut flags = FrameFlags::default();
        let kind = match packet.kind {
            PacketKind::Config => {
                let payload = config(&packet.payload)?;
                if let Some(track) = self.tracks.get_mut(index) {
                    track.nal = NalFormat::from_config(packet.codec, &payload);
                }
                self.undriven(turn, index, packet.codec, FrameKind::Config, timestamp, payload);
                return Ok(());
            }
            PacketKind::Metadata => {
                self.undriven(turn, index, packet.codec, FrameKind::Data, timestamp, packet.payload);
                return Ok(());
            }
            PacketKind::Key => FrameKind::Key,
            PacketKind::Delta => {
                // Few encoders say so in the tag.
                let nal = self.tracks.get(index).and_then(|track| track.nal);
                if nal.is_some_and(|nal| nal.is_disposable(&packet.payload)) {
                    flags = FrameFlags::DISPOSABLE;
                }
                FrameKind::Delta
            }
            PacketKind::Disposable => {
                flags = FrameFlags::DISPOSABLE;
                FrameKind::Delta
            }
            PacketKind::Audio => FrameKind::Audio,
        };
        let first = placed.is_none();
        let WireTimestamp { at, wrapped } = *placed.get_or_insert_with(|| self.clock.advance(timestamp));
        if first && wrapped {
            turn.output(Output::Wrapped(self.handle));
        }
        let offset = Timestamp::from_millis(packet.composition_ms.into()) + Timestamp(packet.offset_ns.into());
        let frame = Frame {
            payload: packet.payload,
            pts: at + offset,
            dts: at,
            origin: turn.now.mono,
            track: self.id(index),
            kind,
            codec: packet.codec,
            flags,
        };
        turn.output(Output::Frame(self.handle, frame));
        Ok(())
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
        let index = self.track(Media::Data, 0)?;
        if &*name == "onMetaData" {
            let payload = config(payload.get(start..).unwrap_or_default())?;
            self.undriven(turn, index, Codec::Script, FrameKind::Config, timestamp, payload);
            let description = describe(&first.unwrap_or(Value::Null));
            turn.output(Output::Describe(self.handle, Box::new(description)));
        } else {
            let payload = payload.slice(start.min(payload.len())..);
            self.undriven(turn, index, Codec::Script, FrameKind::Data, timestamp, payload);
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

    /// A frame that does not drive the clock.
    fn undriven(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        codec: Codec,
        kind: FrameKind,
        timestamp: u32,
        payload: Bytes,
    ) {
        let at = self.clock.at(timestamp);
        let frame = Frame {
            payload,
            pts: at,
            dts: at,
            origin: turn.now.mono,
            track: self.id(index),
            kind,
            codec,
            flags: FrameFlags::default(),
        };
        turn.output(Output::Frame(self.handle, frame));
    }

    /// Tells the first byte of legacy audio tags as a configuration record of one byte, at first and when it
    /// changes: the codec itself does not carry rate and channels.
    fn sound(&mut self, turn: &mut Turn<'_>, index: usize, codec: Codec, sound: u8, timestamp: u32) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        if track.sound.replace(sound) != Some(sound) {
            let payload = Bytes::copy_from_slice(&[sound]);
            self.undriven(turn, index, codec, FrameKind::Config, timestamp, payload);
        }
    }

    fn id(&self, index: usize) -> TrackId {
        self.tracks.get(index).map_or(TrackId::METADATA, |track| track.id)
    }

    /// The index of a track, a new one where need be.
    fn track(&mut self, media: Media, wire: u8) -> Result<usize, Reason> {
        if let Some(index) = self.tracks.iter().position(|t| t.media == media && t.wire == wire) {
            return Ok(index);
        }
        let free = |id: &TrackId| self.tracks.iter().all(|track| track.id != *id);
        let last = u8::try_from(TRACKS_MAX).unwrap_or(u8::MAX);
        let id = track::from_wire(media, wire)
            .filter(free)
            .or_else(|| (3..last).rev().map(TrackId).find(free))
            .ok_or(Reason::Limit(Limit::Tracks))?;
        self.tracks.push(Track { media, wire, id, sound: None, nal: None });
        Ok(self.tracks.len() - 1)
    }
}

/// A copy of its own: it lives long, and a slice would keep the buffer that it came in.
fn config(record: &[u8]) -> Result<Bytes, Reason> {
    if record.len() > CONFIG_BYTES_MAX {
        return Err(Reason::Limit(Limit::MessageBytes));
    }
    Ok(Bytes::copy_from_slice(record))
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
