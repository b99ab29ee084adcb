//! Messages by type: Adobe RTMP 1.0, sections 5.4, 6.2, 7.1 and 7.2.
//!
//! A [`Message`] becomes a [`Typed`] one; audio and video stay bytes, for `tag.rs`. [`MessageWriter`] makes the
//! control messages and commands that a server or a client sends.

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

use super::amf::{self, AmfError, Decoder, Value};
use super::chunk::{ABORT, ChunkWriter, Message, SET_CHUNK_SIZE};
use crate::reason::{Label, Reason};

/// Message type: Acknowledgement.
pub const ACKNOWLEDGEMENT: u8 = 3;
/// Message type: User Control.
pub const USER_CONTROL: u8 = 4;
/// Message type: Window Acknowledgement Size.
pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
/// Message type: Set Peer Bandwidth.
pub const SET_PEER_BANDWIDTH: u8 = 6;
/// Message type: audio.
pub const AUDIO: u8 = 8;
/// Message type: video.
pub const VIDEO: u8 = 9;
/// Message type: data behind an AMF3 format byte.
pub const DATA_AMF3: u8 = 15;
/// Message type: command behind an AMF3 format byte.
pub const COMMAND_AMF3: u8 = 17;
/// Message type: data, AMF0.
pub const DATA: u8 = 18;
/// Message type: command, AMF0.
pub const COMMAND: u8 = 20;
/// Message type: aggregate.
pub const AGGREGATE: u8 = 22;

/// Chunk stream of control messages.
pub const CSID_CONTROL: u32 = 2;
/// Chunk stream of commands.
pub const CSID_COMMAND: u32 = 3;
/// Chunk stream of our audio.
pub const CSID_AUDIO: u32 = 4;
/// Chunk stream of our data messages.
pub const CSID_DATA: u32 = 5;
/// Chunk stream of our video.
pub const CSID_VIDEO: u32 = 6;

/// User control event: the stream begins.
pub const STREAM_BEGIN: u16 = 0;
/// User control event: the stream is over.
pub const STREAM_EOF: u16 = 1;
/// User control event: are you there?
pub const PING_REQUEST: u16 = 6;
/// User control event: I am.
pub const PING_RESPONSE: u16 = 7;

/// A message, understood.
#[derive(Debug, PartialEq)]
pub enum Typed {
    /// The reader has obeyed it already: Set Chunk Size, Abort.
    Chunk,
    /// The peer received so many bytes, modulo 2³².
    Acknowledgement(u32),
    /// After how many bytes the peer wants an acknowledgement.
    WindowAcknowledgementSize(u32),
    /// How much the peer wants to be outstanding at most.
    SetPeerBandwidth(u32),
    /// An event and its first 32 bits.
    UserControl(u16, u32),
    /// An audio message.
    Audio(Bytes),
    /// A video message.
    Video(Bytes),
    /// A data message: AMF0 values.
    Data(Bytes),
    /// A command.
    Command(Command),
    /// FLV tags in one message.
    Aggregate(Bytes),
    /// A type that means nothing here: shared objects, and what nobody sends.
    Other(u8),
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its name.
    pub name: Box<str>,
    /// Its transaction, as it came: a reply repeats it bit for bit. 0 means that no reply is wanted.
    pub transaction: f64,
    /// Its command object.
    pub object: Value,
    /// What follows.
    pub arguments: Vec<Value>,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A control message that is too short for its type.
    #[error("control message too short")]
    Length,
    /// A command that does not begin with a name and a transaction.
    #[error("not a command")]
    Command,
    /// Values that can't be read.
    #[error(transparent)]
    Amf(#[from] AmfError),
}

impl MessageError {
    /// The reason to close a connection whose message, ending before byte `at` of its input, holds this.
    #[must_use]
    pub const fn reason(self, at: u64) -> Reason {
        match self {
            Self::Length => Reason::Malformed { what: Label("rtmp.control_length"), at },
            Self::Command => Reason::Malformed { what: Label("rtmp.command"), at },
            Self::Amf(error) => error.reason(at),
        }
    }
}

/// Understands a message.
///
/// # Errors
/// [`MessageError`].
pub fn understand(message: Message) -> Result<Typed, MessageError> {
    let mut payload = message.payload;
    match message.kind {
        SET_CHUNK_SIZE | ABORT => Ok(Typed::Chunk),
        ACKNOWLEDGEMENT => number(&payload).map(Typed::Acknowledgement),
        WINDOW_ACKNOWLEDGEMENT_SIZE => number(&payload).map(Typed::WindowAcknowledgementSize),
        SET_PEER_BANDWIDTH => number(&payload).map(Typed::SetPeerBandwidth),
        USER_CONTROL => {
            let Some((event, rest)) = payload.split_first_chunk() else { return Err(MessageError::Length) };
            // Some events have less than 32 bits behind them; none that is answered here.
            let value = rest.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
            Ok(Typed::UserControl(u16::from_be_bytes(*event), value))
        }
        AUDIO => Ok(Typed::Audio(payload)),
        VIDEO => Ok(Typed::Video(payload)),
        AGGREGATE => Ok(Typed::Aggregate(payload)),
        DATA => Ok(Typed::Data(payload)),
        DATA_AMF3 => {
            skip_format(&mut payload);
            Ok(Typed::Data(payload))
        }
        COMMAND => command(&payload).map(Typed::Command),
        COMMAND_AMF3 => {
            skip_format(&mut payload);
            command(&payload).map(Typed::Command)
        }
        other => Ok(Typed::Other(other)),
    }
}

/// AMF3 messages begin with a format byte, 0, and are AMF0 behind it until a switch marker.
fn skip_format(payload: &mut Bytes) {
    if payload.first() == Some(&0) {
        payload.advance(1);
    }
}

fn number(payload: &[u8]) -> Result<u32, MessageError> {
    payload.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(MessageError::Length)
}

fn command(payload: &[u8]) -> Result<Command, MessageError> {
    let mut values = Decoder::new(payload);
    let Some(Value::String(name)) = values.value()? else { return Err(MessageError::Command) };
    // A notification without a transaction is one that wants no reply.
    let transaction = match values.value()? {
        Some(Value::Number(number)) => number,
        None => 0.0,
        Some(_) => return Err(MessageError::Command),
    };
    let object = values.value()?.unwrap_or(Value::Null);
    let mut arguments = Vec::new();
    while let Some(value) = values.value()? {
        arguments.push(value);
    }
    Ok(Command { name, transaction, object, arguments })
}

/// Messages to bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageWriter {
    chunks: ChunkWriter,
}

impl MessageWriter {
    /// Appends Set Chunk Size; it holds for what is written after it.
    pub fn set_chunk_size(&mut self, out: &mut Vec<u8>, size: u32) {
        self.control(out, SET_CHUNK_SIZE, &size.to_be_bytes());
    }

    /// Appends an Acknowledgement of `received` bytes.
    pub fn acknowledgement(&mut self, out: &mut Vec<u8>, received: u32) {
        self.control(out, ACKNOWLEDGEMENT, &received.to_be_bytes());
    }

    /// Appends Window Acknowledgement Size.
    pub fn window_acknowledgement_size(&mut self, out: &mut Vec<u8>, bytes: u32) {
        self.control(out, WINDOW_ACKNOWLEDGEMENT_SIZE, &bytes.to_be_bytes());
    }

    /// Appends Set Peer Bandwidth of the dynamic kind.
    pub fn set_peer_bandwidth(&mut self, out: &mut Vec<u8>, bytes: u32) {
        let [a, b, c, d] = bytes.to_be_bytes();
        self.control(out, SET_PEER_BANDWIDTH, &[a, b, c, d, 2]);
    }

    /// Appends a user control event with 32 bits.
    pub fn user_control(&mut self, out: &mut Vec<u8>, event: u16, value: u32) {
        let [a, b] = event.to_be_bytes();
        let [c, d, e, f] = value.to_be_bytes();
        self.control(out, USER_CONTROL, &[a, b, c, d, e, f]);
    }

    /// Appends a command: name, transaction, values.
    pub fn command(&mut self, out: &mut Vec<u8>, stream: u32, name: &str, transaction: f64, values: &[Value]) {
        let mut payload = Vec::with_capacity(256);
        amf::encode(&mut payload, &Value::string(name));
        amf::encode(&mut payload, &Value::Number(transaction));
        for value in values {
            amf::encode(&mut payload, value);
        }
        self.chunks.write(out, CSID_COMMAND, COMMAND, stream, 0, &payload);
    }

    /// Appends a data message.
    pub fn data(&mut self, out: &mut Vec<u8>, stream: u32, timestamp: u32, values: &[Value]) {
        let mut payload = Vec::with_capacity(256);
        for value in values {
            amf::encode(&mut payload, value);
        }
        self.chunks.write(out, CSID_DATA, DATA, stream, timestamp, &payload);
    }

    /// Appends any message.
    pub fn message(&mut self, out: &mut Vec<u8>, csid: u32, kind: u8, stream: u32, timestamp: u32, payload: &[u8]) {
        self.chunks.write(out, csid, kind, stream, timestamp, payload);
    }

    fn control(&mut self, out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
        self.chunks.write(out, CSID_CONTROL, kind, 0, 0, payload);
    }
}
