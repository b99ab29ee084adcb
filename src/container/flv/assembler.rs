//! Audio and video tags → frames: tracks, their numbers, and one timeline without end.

use bytes::Bytes;

use super::tag::{self, Packet, PacketKind};
use super::{FlvError, track};
use crate::clock::Instant;
use crate::limits::{CONFIG_BYTES_MAX, TRACKS_MAX};
use crate::media::{
    Codec, Frame, FrameFlags, FrameKind, Media, NalFormat, Timestamp, TrackId, WireClock, WireTimestamp,
};

/// What a tag becomes.
#[derive(Debug)]
pub(crate) enum Made {
    Frame(Frame),
    /// The clock wrapped around, and was unwrapped: the frames that follow go on.
    Wrapped,
}

/// Makes the frames of one stream.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
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

/// What all frames of one tag have in common.
struct Moment {
    origin: Instant,
    timestamp: u32,
    /// One tag has one time, however many tracks are in it.
    placed: Option<WireTimestamp>,
}

impl Assembler {
    /// The frames of an audio or video tag.
    pub(crate) fn media(
        &mut self,
        origin: Instant,
        media: Media,
        timestamp: u32,
        tag: Bytes,
        out: &mut impl FnMut(Made),
    ) -> Result<(), FlvError> {
        let mut packets = if media == Media::Video { tag::video(tag) } else { tag::audio(tag) }?;
        let mut moment = Moment { origin, timestamp, placed: None };
        while let Some(packet) = packets.next()? {
            self.packet(&mut moment, packet, out)?;
        }
        Ok(())
    }

    /// The frame of script data: [`FrameKind::Config`] for `onMetaData`, [`FrameKind::Data`] for all else.
    pub(crate) fn script(
        &mut self,
        origin: Instant,
        kind: FrameKind,
        timestamp: u32,
        payload: Bytes,
    ) -> Result<Frame, FlvError> {
        let index = self.track(Media::Data, 0)?;
        let payload = if kind == FrameKind::Config { config(&payload)? } else { payload };
        Ok(self.undriven(&Moment { origin, timestamp, placed: None }, index, Codec::Script, kind, payload))
    }

    fn packet(&mut self, moment: &mut Moment, packet: Packet, out: &mut impl FnMut(Made)) -> Result<(), FlvError> {
        let index = self.track(packet.codec.media(), packet.track)?;
        if let Some(sound) = packet.sound {
            self.sound(moment, index, packet.codec, sound, out);
        }
        let mut flags = FrameFlags::default();
        let kind = match packet.kind {
            PacketKind::Config => {
                let payload = config(&packet.payload)?;
                if let Some(track) = self.tracks.get_mut(index) {
                    track.nal = NalFormat::from_config(packet.codec, &payload);
                }
                out(Made::Frame(self.undriven(moment, index, packet.codec, FrameKind::Config, payload)));
                return Ok(());
            }
            PacketKind::Metadata => {
                out(Made::Frame(self.undriven(moment, index, packet.codec, FrameKind::Data, packet.payload)));
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
        let first = moment.placed.is_none();
        let WireTimestamp { at, wrapped } =
            *moment.placed.get_or_insert_with(|| self.clock.advance(moment.timestamp));
        if first && wrapped {
            out(Made::Wrapped);
        }
        let offset = Timestamp::from_millis(packet.composition_ms.into()) + Timestamp(packet.offset_ns.into());
        out(Made::Frame(Frame {
            payload: packet.payload,
            pts: at + offset,
            dts: at,
            origin: moment.origin,
            track: self.id(index),
            kind,
            codec: packet.codec,
            flags,
        }));
        Ok(())
    }

    /// A frame that does not drive the clock.
    fn undriven(&self, moment: &Moment, index: usize, codec: Codec, kind: FrameKind, payload: Bytes) -> Frame {
        let at = self.clock.at(moment.timestamp);
        Frame {
            payload,
            pts: at,
            dts: at,
            origin: moment.origin,
            track: self.id(index),
            kind,
            codec,
            flags: FrameFlags::default(),
        }
    }

    /// Tells the first byte of legacy audio tags as a configuration record of one byte, at first and when it
    /// changes: the codec itself does not carry rate and channels.
    fn sound(&mut self, moment: &Moment, index: usize, codec: Codec, sound: u8, out: &mut impl FnMut(Made)) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        if track.sound.replace(sound) != Some(sound) {
            let payload = Bytes::copy_from_slice(&[sound]);
            out(Made::Frame(self.undriven(moment, index, codec, FrameKind::Config, payload)));
        }
    }

    fn id(&self, index: usize) -> TrackId {
        self.tracks.get(index).map_or(TrackId::METADATA, |track| track.id)
    }

    /// The index of a track, a new one where need be.
    fn track(&mut self, media: Media, wire: u8) -> Result<usize, FlvError> {
        if let Some(index) = self.tracks.iter().position(|t| t.media == media && t.wire == wire) {
            return Ok(index);
        }
        let free = |id: &TrackId| self.tracks.iter().all(|track| track.id != *id);
        let last = u8::try_from(TRACKS_MAX).unwrap_or(u8::MAX);
        let id = track::from_wire(media, wire)
            .filter(free)
            .or_else(|| (3..last).rev().map(TrackId).find(free))
            .ok_or(FlvError::Tracks)?;
        self.tracks.push(Track { media, wire, id, sound: None, nal: None });
        Ok(self.tracks.len() - 1)
    }
}

/// A copy of its own: it lives long, and a slice would keep the buffer that it came in.
fn config(record: &[u8]) -> Result<Bytes, FlvError> {
    if record.len() > CONFIG_BYTES_MAX {
        return Err(FlvError::ConfigBytes);
    }
    Ok(Bytes::copy_from_slice(record))
}
