//! Frames → bytes of a response without end, shared by all of its viewers.
//!
//! Over plain HTTP each packet is a chunk (RFC 9112, 7.1), so that a viewer knows an end from a broken connection. What
//! ends a chunk stands before the next one: the session begins with one that has not ended, and ends the last.

use bytes::Bytes;

use super::websocket;
use crate::container::flv::{FlvTag, Writer, file_header};
use crate::container::mpegts::{Muxer, PACKET_BYTES};
use crate::media::{Codec, Frame, FrameKind, Track, TrackId};
use crate::protocol::{Body, Head, Packet, Packetizer};

/// What a viewer gets: the number that travels as the `format` of a play request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Tags of FLV, behind the header of a file.
    Flv,
    /// The same, each tag a message of a WebSocket.
    WebSocketFlv,
    /// Packets of MPEG-TS.
    Ts,
    /// Nothing: whoever asks for files of a stream counts as its viewer.
    Files,
}

impl Format {
    pub(super) const fn to_number(self) -> u32 {
        self as u32
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Ts => "video/mp2t",
            _ => "video/x-flv",
        }
    }
}

pub(super) fn packetizer(format: u32) -> Box<dyn Packetizer> {
    match format {
        0 => Box::new(Flv { writer: Writer::new(false), websocket: false }),
        1 => Box::new(Flv { writer: Writer::new(false), websocket: true }),
        2 => Box::new(Ts { muxer: None, tracks: Vec::new() }),
        _ => Box::new(Files),
    }
}

/// What a response of this format begins with: a chunk that has not ended, or a message.
pub(super) fn begin(format: Format, out: &mut Vec<u8>) {
    let header = file_header(true, true);
    match format {
        Format::Flv => {
            out.extend_from_slice(format!("{:x}\r\n", header.len()).as_bytes());
            out.extend_from_slice(&header);
        }
        Format::WebSocketFlv => {
            out.extend_from_slice(websocket::Header::of_message(header.len()).as_slice());
            out.extend_from_slice(&header);
        }
        // A chunk must not be empty: a packet that says nothing.
        Format::Ts => {
            out.extend_from_slice(format!("{PACKET_BYTES:x}\r\n").as_bytes());
            out.extend_from_slice(&NULL_PACKET);
        }
        Format::Files => {}
    }
}

/// What a response of this format ends with, if its stream came to an end.
pub(super) fn end(format: Format) -> Vec<u8> {
    match format {
        Format::Flv | Format::Ts => b"\r\n0\r\n\r\n".to_vec(),
        // 1001: going away.
        Format::WebSocketFlv => websocket::control(websocket::CLOSE, &[3, 233]),
        Format::Files => Vec::new(),
    }
}

/// Ends a chunk and begins one of so many bytes.
fn next_chunk(bytes: usize) -> Head {
    let mut head = Head::new(&[b"\r\n"]);
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        head.push(&[b"0123456789abcdef"[bytes >> (4 * digit) & 15]]);
    }
    head.push(b"\r\n");
    head
}

const NULL_PACKET: [u8; PACKET_BYTES] = {
    let mut packet = [0xFF; PACKET_BYTES];
    (packet[0], packet[1], packet[2], packet[3]) = (0x47, 0x1F, 0xFF, 0x10);
    packet
};

struct Flv {
    writer: Writer,
    websocket: bool,
}

impl Packetizer for Flv {
    fn packetize(&mut self, frame: &Frame) -> Option<Packet> {
        let tag = self.writer.write(frame)?;
        let FlvTag { payload, length, .. } = &tag;
        let bytes = tag.head().len() + payload.len() + length.len();
        let mut head = match self.websocket {
            true => Head::new(&[websocket::Header::of_message(bytes).as_slice()]),
            false => next_chunk(bytes),
        };
        head.push(tag.head());
        Some(Packet { head, body: Body::Closed { tail: *length } })
    }
}

struct Ts {
    muxer: Option<Muxer>,
    tracks: Vec<Track>,
}

impl Ts {
    /// Takes in what a frame says of its track; whether something is new.
    fn learn(&mut self, frame: &Frame) -> bool {
        let config = if frame.kind == FrameKind::Config { frame.payload.clone() } else { Bytes::new() };
        let known = self.tracks.iter_mut().find(|track| track.id == frame.track);
        match known {
            Some(track) if frame.kind == FrameKind::Config || track.codec != frame.codec => {
                let changed = track.codec != frame.codec || track.config != config;
                (track.codec, track.config) = (frame.codec, config);
                changed
            }
            Some(_) => false,
            None => {
                self.tracks.push(track(frame.track, frame.codec, config));
                true
            }
        }
    }
}

impl Packetizer for Ts {
    fn packetize(&mut self, frame: &Frame) -> Option<Packet> {
        if frame.codec == Codec::Script {
            return None;
        }
        if self.learn(frame) {
            match &mut self.muxer {
                Some(muxer) => {
                    let _ = muxer.set_tracks(&self.tracks);
                }
                None => self.muxer = Muxer::new(&self.tracks).ok(),
            }
        }
        // One of a codec that MPEG-TS does not carry is left out.
        let bytes = self.muxer.as_mut()?.write(frame).ok().filter(|bytes| !bytes.is_empty())?;
        Some(Packet { head: next_chunk(bytes.len()), body: Body::Own(bytes) })
    }
}

fn track(id: TrackId, codec: Codec, config: Bytes) -> Track {
    Track { id, codec, timescale: 90_000, config, size: None, channels: None, language: None }
}

struct Files;

impl Packetizer for Files {
    fn packetize(&mut self, _frame: &Frame) -> Option<Packet> {
        None
    }
}
