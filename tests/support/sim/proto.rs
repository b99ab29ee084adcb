//! A protocol of a host's own, as small as it can be: what `protocol/mod.rs` promises to whoever writes one.
//!
//! To the router: `length u32, kind u8, body`. From it: `f` and a frame, or `c` and a note. The number of a format
//! is the player's handle and its flavour: how the packetizer makes the body.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shardcast::clock::{Instant, Now};
use shardcast::extension::Credentials;
use shardcast::id::StreamKey;
use shardcast::media::{Codec, Frame, FrameFlags, FrameKind, Timestamp, TrackId};
use shardcast::protocol::{
    Body, Head, Input, Merge, Output, Packet, Packetizer, PlayOptions, PlayRequest, Protocol, PublishRequest,
    Session, SessionContext, Start,
};
use shardcast::reason::{Label, Reason};

use super::payload::kind_of;

pub struct Plain;

impl Protocol for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn session(&self, _context: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(PlainSession::default())
    }

    fn packetizer(&self, format: u32) -> Box<dyn Packetizer> {
        Box::new(PlainPacketizer(format))
    }
}

/// What a peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Say {
    Hello = b'H',
    Publish = b'P',
    Play = b'L',
    Frame = b'F',
    Unpublish = b'U',
    Stop = b'S',
    Pause = b'Z',
    Resume = b'R',
    NeedKey = b'K',
    Bye = b'C',
    /// The session fails with a panic.
    Explode = b'X',
}

/// What a peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Note {
    Published = 1,
    PublishRefused = 2,
    Playing = 3,
    PlayRefused = 4,
    Ended = 5,
    Unpublished = 6,
    Closing = 7,
    KeyWanted = 8,
}

pub const EXPLOSION: &str = "sim: the session explodes";
/// A flavour that leaves timed data out.
pub const WITHOUT_DATA: u32 = 1;

/// How a start is told on the wire.
pub const fn way_of(start: Start) -> u8 {
    match start {
        Start::Live => 1,
        Start::CatchUp => 2,
        Start::Behind(_) => 3,
        _ => 0,
    }
}

const OWN_BODIES: u32 = 2;
const CHUNKED: u32 = 3;
const CHUNK_FIRST: usize = 10;
const CHUNK: usize = 64 * 1024;
const SEPARATOR: [u8; 2] = [0xee, 0xef];
const FRAME_HEAD: usize = 29;

#[derive(Default)]
struct PlainSession {
    inbox: BytesMut,
    outputs: VecDeque<Output>,
    waiting: bool,
}

impl PlainSession {
    fn pump(&mut self, now: Now) -> Result<(), Reason> {
        while !self.waiting && self.inbox.len() >= 5 {
            let len = u32::from_be_bytes([self.inbox[0], self.inbox[1], self.inbox[2], self.inbox[3]]) as usize;
            if len > 1 << 20 {
                return Err(Reason::Malformed { what: Label("plain.length"), at: 0 });
            }
            if self.inbox.len() < 5 + len {
                return Ok(());
            }
            self.inbox.advance(4);
            let kind = self.inbox.get_u8();
            let body = self.inbox.split_to(len).freeze();
            self.message(now, kind, body)?;
        }
        Ok(())
    }

    fn message(&mut self, now: Now, kind: u8, mut body: Bytes) -> Result<(), Reason> {
        let malformed = Reason::Malformed { what: Label("plain.message"), at: 0 };
        if kind == Say::Hello as u8 {
            self.outputs.push_back(Output::Established);
            return Ok(());
        }
        if kind == Say::Explode as u8 {
            panic!("{EXPLOSION}");
        }
        if body.len() < 4 {
            return Err(malformed);
        }
        let handle = body.get_u32();
        let output = match kind {
            k if k == Say::Publish as u8 => {
                self.waiting = true;
                let key = key(&body).ok_or(Reason::BadName)?;
                Output::Publish(Box::new(PublishRequest { handle, key, credentials: Credentials::default() }))
            }
            k if k == Say::Play as u8 => {
                self.waiting = true;
                let (flavour, way, behind) = (body.get_u8(), body.get_u8(), body.get_u16());
                let (merge, age) = (body.get_u16(), body.get_u32());
                let mut options = PlayOptions::starting(match way {
                    1 => Start::Live,
                    2 => Start::CatchUp,
                    3 => Start::Behind(std::time::Duration::from_millis(behind.into())),
                    _ => Start::Instant,
                });
                options.merge = match merge {
                    0 => None,
                    1 => Some(Merge::Off),
                    2 => Some(Merge::AudioRides),
                    ms => Some(Merge::Window(std::time::Duration::from_millis(ms.into()))),
                };
                options.max_age = (age > 0).then(|| std::time::Duration::from_millis(age.into()));
                let key = key(&body).ok_or(Reason::BadName)?;
                let format = handle << 2 | u32::from(flavour);
                let credentials = Credentials::default();
                Output::Play(Box::new(PlayRequest { handle, key, credentials, format, options }))
            }
            k if k == Say::Frame as u8 => {
                // Kept frames hold no more than themselves.
                let body = Bytes::copy_from_slice(&body);
                self.outputs.push_back(Output::Buffer(body.slice(..1), body.len()));
                Output::Frame(handle, frame(body, now.mono).ok_or(malformed)?)
            }
            k if k == Say::Unpublish as u8 => Output::Unpublish(handle),
            k if k == Say::Stop as u8 => Output::Stop(handle),
            k if k == Say::Pause as u8 => Output::Pause(handle, true),
            k if k == Say::Resume as u8 => Output::Pause(handle, false),
            k if k == Say::NeedKey as u8 => Output::NeedKeyframe(handle),
            k if k == Say::Bye as u8 => Output::Close(Reason::Ended),
            _ => return Err(malformed),
        };
        self.outputs.push_back(output);
        Ok(())
    }

    fn note(&mut self, note: Note, handle: u32) {
        let mut out = BytesMut::new();
        out.put_u8(b'c');
        out.put_u8(note as u8);
        out.put_u32(handle);
        self.outputs.push_back(Output::Send(out.freeze()));
    }
}

impl Session for PlainSession {
    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reason> {
        match input {
            Input::Bytes(bytes) => self.inbox.extend_from_slice(&bytes),
            Input::Published(handle, result) => {
                self.waiting = false;
                self.note(if result.is_ok() { Note::Published } else { Note::PublishRefused }, handle);
            }
            Input::Playing(handle, result) => {
                self.waiting = false;
                self.note(if result.is_ok() { Note::Playing } else { Note::PlayRefused }, handle);
            }
            Input::Ended(handle, _) => self.note(Note::Ended, handle),
            Input::Unpublished(handle, _) => self.note(Note::Unpublished, handle),
            Input::KeyframeWanted(handle) => self.note(Note::KeyWanted, handle),
            Input::Closing(_) => self.note(Note::Closing, 0),
            _ => {}
        }
        self.pump(now)
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        None
    }

    fn held_bytes(&self) -> usize {
        self.inbox.capacity()
    }
}

struct PlainPacketizer(u32);

impl Packetizer for PlainPacketizer {
    fn packetize(&mut self, frame: &Frame) -> Option<Packet> {
        let flavour = self.0 & 3;
        if flavour == WITHOUT_DATA && frame.kind == FrameKind::Data {
            return None;
        }
        let len = u32::try_from(frame.payload.len()).ok()?;
        let kinds = [frame.track.0, frame.kind as u8, frame.codec as u8, frame.flags.0];
        let head = Head::new(&[
            b"f",
            &len.to_be_bytes(),
            &self.0.to_be_bytes(),
            &kinds,
            &frame.dts.0.to_be_bytes(),
            &frame.pts.0.to_be_bytes(),
        ]);
        let body = match flavour {
            OWN_BODIES => Body::Own(Bytes::copy_from_slice(&frame.payload)),
            CHUNKED => Body::Chunked {
                first: u32::try_from(CHUNK_FIRST).ok()?,
                every: u32::try_from(CHUNK).ok()?,
                separator: Head::new(&[&SEPARATOR]),
            },
            _ => Body::Payload,
        };
        Some(Packet { head, body })
    }
}

fn key(bytes: &[u8]) -> Option<StreamKey> {
    StreamKey::parse(std::str::from_utf8(bytes).ok()?).ok()
}

fn codec(byte: u8) -> Option<Codec> {
    Codec::ALL.into_iter().find(|codec| *codec as u8 == byte)
}

fn frame(mut body: Bytes, origin: Instant) -> Option<Frame> {
    if body.len() < 20 {
        return None;
    }
    let (track, kind) = (TrackId(body.get_u8()), kind_of(body.get_u8())?);
    let (codec, flags) = (codec(body.get_u8())?, FrameFlags(body.get_u8()));
    let (dts, pts) = (Timestamp(body.get_i64()), Timestamp(body.get_i64()));
    Some(Frame { payload: body, pts, dts, origin, track, kind, codec, flags })
}

// --- the peer's side -----------------------------------------------------------------------------------------

/// What a peer speaks.
pub trait Tongue {
    /// The bytes of a message to the router.
    fn say(&mut self, out: &mut BytesMut, what: Say, handle: u32, rest: &[u8]);

    /// The bytes of a frame to the router.
    fn frame(&mut self, out: &mut BytesMut, frame: &Frame);

    /// The next message from the router, if it is whole; what must be answered at once goes to `out`.
    fn hear(&mut self, inbox: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Heard>, String>;

    /// One stream per connection, one track of each kind, times in milliseconds.
    fn is_rtmp(&self) -> bool {
        false
    }
}

/// The test's own protocol.
pub struct PlainTongue;

impl Tongue for PlainTongue {
    fn say(&mut self, out: &mut BytesMut, what: Say, handle: u32, rest: &[u8]) {
        say(out, what, handle, rest);
    }

    fn frame(&mut self, out: &mut BytesMut, frame: &Frame) {
        say_frame(out, 0, frame);
    }

    fn hear(&mut self, inbox: &mut BytesMut, _out: &mut BytesMut) -> Result<Option<Heard>, String> {
        hear(inbox)
    }
}

/// The bytes of a message to the router.
fn say(out: &mut BytesMut, what: Say, handle: u32, rest: &[u8]) {
    out.put_u32(u32::try_from(4 + rest.len()).expect("messages are small"));
    out.put_u8(what as u8);
    out.put_u32(handle);
    out.put_slice(rest);
}

/// The bytes of a frame to the router.
fn say_frame(out: &mut BytesMut, handle: u32, frame: &Frame) {
    let mut rest = BytesMut::with_capacity(20 + frame.payload.len());
    rest.put_slice(&[frame.track.0, frame.kind as u8, frame.codec as u8, frame.flags.0]);
    rest.put_i64(frame.dts.0);
    rest.put_i64(frame.pts.0);
    rest.put_slice(&frame.payload);
    say(out, Say::Frame, handle, &rest);
}

/// What a peer heard.
#[derive(Debug)]
pub enum Heard {
    Note(u8, u32),
    /// On the play with this handle.
    Frame(u32, Box<Frame>),
}

/// The next message from the router, if it is whole.
fn hear(inbox: &mut BytesMut) -> Result<Option<Heard>, String> {
    let Some(first) = inbox.first() else { return Ok(None) };
    match first {
        b'c' if inbox.len() >= 6 => {
            inbox.advance(1);
            let note = inbox.get_u8();
            Ok(Some(Heard::Note(note, inbox.get_u32())))
        }
        b'f' if inbox.len() >= FRAME_HEAD => {
            let len = u32::from_be_bytes([inbox[1], inbox[2], inbox[3], inbox[4]]) as usize;
            let format = u32::from_be_bytes([inbox[5], inbox[6], inbox[7], inbox[8]]);
            let separators = if format & 3 == CHUNKED { len.saturating_sub(CHUNK_FIRST).div_ceil(CHUNK) } else { 0 };
            if inbox.len() < FRAME_HEAD + len + separators * SEPARATOR.len() {
                return Ok(None);
            }
            inbox.advance(9);
            let head = inbox.split_to(20);
            let mut payload = inbox.split_to(len.min(if separators > 0 { CHUNK_FIRST } else { len }));
            for _ in 0..separators {
                if inbox.split_to(SEPARATOR.len())[..] != SEPARATOR {
                    return Err("a separator is not where it belongs".into());
                }
                let piece = inbox.split_to((len - payload.len()).min(CHUNK));
                payload.extend_from_slice(&piece);
            }
            let mut body = head;
            body.extend_from_slice(&payload);
            let frame = frame(body.freeze(), Instant::ZERO).ok_or("a frame of an unknown kind")?;
            Ok(Some(Heard::Frame(format >> 2, Box::new(frame))))
        }
        b'c' | b'f' => Ok(None),
        other => Err(format!("the byte {other} where a message begins")),
    }
}
