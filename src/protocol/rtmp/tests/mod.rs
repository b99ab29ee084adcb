//! A client in a test's hand, and what it sees.

mod amf;
mod chunks;
mod handshakes;
mod hostile;
mod mutation;
mod packets;
mod play;
mod publish;
mod split;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Rtmp;
use super::amf::Value;
use super::chunk::{ChunkLimits, ChunkReader, Message};
use super::handshake::{Client, PACKET_BYTES};
use super::message::{COMMAND, Command, MessageWriter, Typed, understand};
use crate::clock::{Instant, Now, Wall};
use crate::limits::Limits;
use crate::media::Frame;
use crate::protocol::{Input, Output, PlayRequest, Protocol, PublishRequest, Session, SessionContext};
use crate::reason::Reason;

/// A client and the session that it talks to.
pub(super) struct Peer {
    session: Box<dyn Session>,
    pub(super) now: Now,
    pub(super) writer: MessageWriter,
    reader: ChunkReader,
    /// Messages of the server that no test has looked at.
    pub(super) replies: Vec<Message>,
    /// What the session wanted other than to send.
    pub(super) outputs: Vec<Output>,
}

pub(super) const CLIENT_LIMITS: ChunkLimits =
    ChunkLimits { message_bytes: 1 << 24, partial_bytes: 1 << 25, chunk_streams: 64 };

pub(super) fn session(limits: &Limits) -> Box<dyn Session> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    Rtmp.session(SessionContext { peer, limits, now: at_ms(0), random: [1, 2, 3, 4] })
}

pub(super) fn at_ms(ms: u64) -> Now {
    Now { mono: Instant::ZERO + Duration::from_millis(ms), wall: Wall(0) }
}

/// Everything a client sends up to its handshake's end, given that the server's answer is of no interest.
pub(super) fn handshake_bytes() -> Vec<u8> {
    let mut out = Vec::new();
    let _client = Client::new([7; 4], false, &mut out);
    out.extend_from_slice(&[0; PACKET_BYTES]);
    out
}

impl Peer {
    /// Accepted, nothing sent.
    pub(super) fn accepted(limits: &Limits) -> Self {
        Self {
            session: session(limits),
            now: at_ms(1_000),
            writer: MessageWriter::default(),
            reader: ChunkReader::new(CLIENT_LIMITS, 0),
            replies: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Through with the handshake.
    pub(super) fn shaken() -> Self {
        Self::shaken_within(&Limits::default())
    }

    pub(super) fn shaken_within(limits: &Limits) -> Self {
        let mut peer = Self::accepted(limits);
        peer.session.handle(peer.now, Input::Bytes(handshake_bytes().into())).unwrap();
        let Some(Output::Send(bytes)) = peer.session.poll() else { panic!("no answer to the handshake") };
        assert_eq!(bytes.len(), 1 + 2 * PACKET_BYTES);
        assert!(matches!(peer.session.poll(), Some(Output::Established)));
        peer
    }

    /// Connected to `live`.
    pub(super) fn connected() -> Self {
        Self::connected_within(&Limits::default())
    }

    pub(super) fn connected_within(limits: &Limits) -> Self {
        let mut peer = Self::shaken_within(limits);
        peer.connect(&[("app", Value::string("live")), ("tcUrl", Value::string("rtmp://host/live"))]).unwrap();
        assert_eq!(status_code(&peer.reply("_result").arguments[0]), "NetConnection.Connect.Success");
        peer.replies.clear();
        peer
    }

    /// Publishing `live/name` on stream 1.
    pub(super) fn publishing() -> Self {
        Self::publishing_within(&Limits::default())
    }

    pub(super) fn publishing_within(limits: &Limits) -> Self {
        let mut peer = Self::connected_within(limits);
        peer.command(0, "createStream", 4.0, &[Value::Null]).unwrap();
        peer.command(1, "publish", 5.0, &[Value::Null, Value::string("name"), Value::string("live")]).unwrap();
        peer.answer(Input::Published(1, Ok(()))).unwrap();
        peer.outputs.clear();
        peer.replies.clear();
        peer
    }

    /// Playing `live/name` on stream 1.
    pub(super) fn playing() -> Self {
        let mut peer = Self::connected();
        peer.command(0, "createStream", 4.0, &[Value::Null]).unwrap();
        peer.command(1, "play", 5.0, &[Value::Null, Value::string("name")]).unwrap();
        peer.answer(Input::Playing(1, Ok(()))).unwrap();
        peer.outputs.clear();
        peer.replies.clear();
        peer
    }

    pub(super) fn connect(&mut self, members: &[(&str, Value)]) -> Result<(), Reason> {
        let object = members.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
        self.command(0, "connect", 1.0, &[Value::Object(object)])
    }

    pub(super) fn command(
        &mut self,
        stream: u32,
        name: &str,
        transaction: f64,
        values: &[Value],
    ) -> Result<(), Reason> {
        let mut out = Vec::new();
        self.writer.command(&mut out, stream, name, transaction, values);
        self.send(out)
    }

    pub(super) fn message(&mut self, kind: u8, stream: u32, timestamp: u32, payload: &[u8]) -> Result<(), Reason> {
        let mut out = Vec::new();
        self.writer.message(&mut out, 6, kind, stream, timestamp, payload);
        self.send(out)
    }

    pub(super) fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), Reason> {
        self.answer(Input::Bytes(bytes.into()))
    }

    pub(super) fn answer(&mut self, input: Input) -> Result<(), Reason> {
        let result = self.session.handle(self.now, input);
        while let Some(output) = self.session.poll() {
            match output {
                Output::Buffer(..) => {}
                Output::Send(mut bytes) => {
                    while let Some(message) = self.reader.read(&mut bytes).expect("our own chunks are good") {
                        self.replies.push(message);
                    }
                }
                output => self.outputs.push(output),
            }
        }
        result
    }

    /// The oldest unseen reply of this name.
    pub(super) fn reply(&mut self, name: &str) -> Command {
        let found = self.replies.iter().position(|m| as_command(m).is_some_and(|c| &*c.name == name));
        as_command(&self.replies.remove(found.unwrap_or_else(|| panic!("no {name}")))).unwrap()
    }

    /// The `code` of the oldest unseen status.
    pub(super) fn status(&mut self) -> String {
        status_code(&self.reply("onStatus").arguments[0])
    }

    pub(super) fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Frame(1, frame) => {
                frames.push(frame.clone());
                false
            }
            _ => true,
        });
        frames
    }

    pub(super) fn publish_request(&mut self) -> PublishRequest {
        let found = self.outputs.iter().position(|o| matches!(o, Output::Publish(_))).expect("no publish");
        let Output::Publish(request) = self.outputs.remove(found) else { unreachable!() };
        *request
    }

    pub(super) fn play_request(&mut self) -> PlayRequest {
        let found = self.outputs.iter().position(|o| matches!(o, Output::Play(_))).expect("no play");
        let Output::Play(request) = self.outputs.remove(found) else { unreachable!() };
        *request
    }
}

pub(super) fn as_command(message: &Message) -> Option<Command> {
    if message.kind != COMMAND {
        return None;
    }
    match understand(message.clone()) {
        Ok(Typed::Command(command)) => Some(command),
        other => panic!("not a command: {other:?}"),
    }
}

pub(super) fn status_code(info: &Value) -> String {
    info.get("code").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// An AVC sequence header, a key frame and an AAC frame, as tags.
pub(super) fn avc_header() -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0][..], b"avcC-record"].concat()
}

pub(super) fn avc_frame(key: bool, composition: i32, payload: &[u8]) -> Vec<u8> {
    let c = composition.to_be_bytes();
    [&[if key { 0x17 } else { 0x27 }, 1, c[1], c[2], c[3]][..], payload].concat()
}

pub(super) fn aac_frame(payload: &[u8]) -> Vec<u8> {
    [&[0xAF, 1][..], payload].concat()
}
