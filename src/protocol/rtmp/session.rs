//! One RTMP connection: what is legal now.
//!
//! Owns the handshake, the chunk reader, the acknowledgement windows and the rates; `command.rs` has the
//! commands, `publish.rs` turns media into frames. Media to players is no business of the session.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::address::Address;
use super::chunk::{ChunkError, ChunkLimits, ChunkReader, Message};
use super::handshake;
use super::message::{self, AGGREGATE, AUDIO, MessageWriter, PING_REQUEST, PING_RESPONSE, Typed, VIDEO};
use super::publish::Publishing;
use crate::clock::{Instant, Now};
use crate::limits::{Limit, Limits};
use crate::media::Media;
use crate::protocol::{Input, Output, Session, SessionContext, StreamHandle};
use crate::reason::{Label, Reason};

/// The acknowledgement window that we announce, and the one that we keep before the peer announces its own.
pub(super) const WINDOW_BYTES: u32 = 2_500_000;
/// Longest message of another type than audio, video and aggregate: values cost more to understand than to send.
const VALUES_BYTES_MAX: usize = 1024 * 1024;
/// A queue of outputs that grew longer than this in a burst is given back.
const OUTPUTS_KEPT: usize = 256;

/// The session of one connection.
pub(super) struct RtmpSession {
    bounds: Bounds,
    phase: Phase,
    /// Bytes of the peer so far.
    received: u64,
    /// Input behind a command whose answer is awaited.
    pending: Bytes,
    outputs: VecDeque<Output>,
}

enum Phase {
    Handshake(handshake::Server),
    Open(Box<Connection>),
}

/// The limits that concern a session.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) chunks: ChunkLimits,
    /// What may be held of a peer that was not let in to publish.
    unasked_bytes: usize,
    handshake_bytes: u64,
    chunk_headers_per_second: u32,
    commands_per_second: u32,
    pub(super) streams_per_connection: usize,
}

/// What the code of one call needs from around it.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    /// Offset of the next byte in the connection's input.
    pub(super) at: u64,
    pub(super) bounds: &'a Bounds,
    outputs: &'a mut VecDeque<Output>,
}

impl<'a> Turn<'a> {
    pub(super) const fn new(now: Now, at: u64, bounds: &'a Bounds, outputs: &'a mut VecDeque<Output>) -> Self {
        Self { now, at, bounds, outputs }
    }

    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Send(bytes.into()));
    }
}

/// A connection behind its handshake.
pub(super) struct Connection {
    pub(super) reader: ChunkReader,
    /// It was allowed to publish: messages may be long.
    pub(super) let_in: bool,
    pub(super) writer: MessageWriter,
    /// What `connect` said; `None` before it.
    pub(super) address: Option<Address>,
    /// The client said that it knows multitrack (Enhanced RTMP, `capsEx`).
    pub(super) multitrack: bool,
    /// The client said that it obeys a reconnect request.
    pub(super) reconnect: bool,
    pub(super) streams: Vec<Stream>,
    /// The id of the next stream: 1 .. 2³¹. Never one that was used, so that nothing late can hit another.
    pub(super) next_stream: u32,
    /// The stream whose publish or play waits for its answer: nothing is read meanwhile.
    pub(super) waiting: Option<StreamHandle>,
    /// After how many bytes the peer wants an acknowledgement: at least 1.
    window: u64,
    acknowledged: u64,
    commands: Rate,
    headers: Rate,
}

/// A stream that `createStream` made.
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) state: StreamState,
}

/// What a stream is used for.
pub(super) enum StreamState {
    /// What it played has ended; the player is told so when it has taken in the last frames.
    Ending {
        at: Instant,
        reason: Reason,
    },
    /// Nothing yet.
    Created,
    /// A publish waits for its answer.
    AskedToPublish,
    Publishing(Box<Publishing>),
    /// A play waits for its answer; whether the client wants to hear of a reset.
    AskedToPlay {
        reset: bool,
    },
    Playing,
    /// It was published or played and is not any more: media that is still under way is ignored.
    Over,
}

impl RtmpSession {
    pub(super) fn new(context: SessionContext<'_>) -> Self {
        Self {
            bounds: Bounds::from(context.limits),
            phase: Phase::Handshake(handshake::Server::new(context.random)),
            received: 0,
            pending: Bytes::new(),
            outputs: VecDeque::new(),
        }
    }

    fn receive(&mut self, now: Now, bytes: Bytes) -> Result<(), Reason> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        let mut bytes = join(std::mem::take(&mut self.pending), bytes);
        if let Phase::Handshake(server) = &mut self.phase {
            let mut reply = Vec::new();
            let done = server.handle(&mut bytes, &mut reply)?;
            if !reply.is_empty() {
                self.outputs.push_back(Output::Send(reply.into()));
            }
            let at = self.received.saturating_sub(bytes.len() as u64);
            if at > self.bounds.handshake_bytes {
                return Err(Reason::Limit(Limit::HandshakeBytes));
            }
            if !done {
                return Ok(());
            }
            self.outputs.push_back(Output::Established);
            self.phase = Phase::Open(Box::new(Connection::new(&self.bounds, at)));
        }
        self.pending = bytes;
        self.pump(now)
    }

    /// Reads messages until the input is used up or an answer must be awaited.
    fn pump(&mut self, now: Now) -> Result<(), Reason> {
        let Phase::Open(connection) = &mut self.phase else { return Ok(()) };
        let mut turn = Turn { now, at: 0, bounds: &self.bounds, outputs: &mut self.outputs };
        while connection.waiting.is_none() && !self.pending.is_empty() {
            connection.read(&mut turn, &mut self.pending)?;
        }
        connection.acknowledge(&mut turn, self.received);
        Ok(())
    }

    fn answer(&mut self, now: Now, input: Input) -> Result<(), Reason> {
        let Phase::Open(connection) = &mut self.phase else { return Ok(()) };
        let mut turn = Turn { now, at: self.received, bounds: &self.bounds, outputs: &mut self.outputs };
        match input {
            Input::Published(handle, result) => connection.published(&mut turn, handle, result)?,
            Input::Playing(handle, result) => connection.playing(&mut turn, handle, result)?,
            Input::Ended(handle, reason) => connection.ended(&mut turn, handle, reason),
            Input::Unpublished(handle, reason) => connection.unpublished(&mut turn, handle, reason),
            Input::Closing(reason) => connection.closing(&mut turn, reason),
            Input::Deadline => connection.deadline(&mut turn),
            // RTMP can't ask for a keyframe.
            Input::KeyframeWanted(_) | Input::Bytes(_) | Input::Sent => {}
        }
        self.pump(now)
    }
}

impl Session for RtmpSession {
    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reason> {
        match input {
            Input::Bytes(bytes) => self.receive(now, bytes),
            input => self.answer(now, input),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > OUTPUTS_KEPT {
            self.outputs = VecDeque::new();
        }
        output
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        match &self.phase {
            Phase::Open(connection) => connection.next_farewell(),
            Phase::Handshake(_) => None,
        }
    }

    fn held_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open(connection) => self.pending.len().saturating_add(connection.reader.held_bytes()),
            Phase::Handshake(_) => 0,
        }
    }

    fn growth_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open(connection) => self.pending.len().saturating_add(connection.reader.growth_bytes()),
            Phase::Handshake(_) => 0,
        }
    }

    /// RTMP has no word for it.
    fn can_ask_for_keyframes(&self) -> bool {
        false
    }
}

impl Connection {
    fn new(bounds: &Bounds, at: u64) -> Self {
        Self {
            reader: ChunkReader::new(bounds.chunks.narrowed(bounds.unasked_bytes), at),
            let_in: false,
            writer: MessageWriter::default(),
            address: None,
            multitrack: false,
            reconnect: false,
            streams: Vec::new(),
            next_stream: 1,
            waiting: None,
            window: WINDOW_BYTES.into(),
            acknowledged: 0,
            commands: Rate::default(),
            headers: Rate::default(),
        }
    }

    fn read(&mut self, turn: &mut Turn<'_>, input: &mut Bytes) -> Result<(), Reason> {
        let message = self.reader.read(input).map_err(|error| self.blame(error))?;
        turn.at = self.reader.position();
        if let Some((part, bytes)) = self.reader.take_buffer() {
            turn.output(Output::Buffer(part, bytes));
        }
        let headers = self.reader.take_headers();
        if !self.headers.take(turn.now, headers, turn.bounds.chunk_headers_per_second) {
            return Err(Reason::Limit(Limit::ChunkRate));
        }
        if self.address.is_none() && turn.at > turn.bounds.handshake_bytes {
            return Err(Reason::Limit(Limit::HandshakeBytes));
        }
        message.map_or(Ok(()), |message| self.message(turn, message))
    }

    /// One who was not let in to publish is held to `handshake_bytes`, whatever the reader calls it.
    fn blame(&self, error: ChunkError) -> Reason {
        match error {
            ChunkError::Limit(Limit::MessageBytes | Limit::PartialBytes) if !self.let_in => {
                Reason::Limit(Limit::HandshakeBytes)
            }
            error => error.into(),
        }
    }

    fn message(&mut self, turn: &mut Turn<'_>, message: Message) -> Result<(), Reason> {
        let (stream, timestamp) = (message.stream, message.timestamp);
        let media = matches!(message.kind, AUDIO | VIDEO | AGGREGATE);
        if !media && message.payload.len() > VALUES_BYTES_MAX {
            return Err(Reason::Limit(Limit::MessageBytes));
        }
        if !media && !self.commands.take(turn.now, 1, turn.bounds.commands_per_second) {
            return Err(Reason::Limit(Limit::CommandRate));
        }
        match message::understand(message).map_err(|e| e.reason(turn.at))? {
            Typed::Chunk | Typed::Acknowledgement(_) | Typed::SetPeerBandwidth(_) | Typed::Other(_) => Ok(()),
            Typed::WindowAcknowledgementSize(bytes) => {
                self.window = u64::from(bytes).max(1);
                Ok(())
            }
            Typed::UserControl(PING_REQUEST, time) => {
                let mut out = Vec::new();
                self.writer.user_control(&mut out, PING_RESPONSE, time);
                turn.send(out);
                Ok(())
            }
            Typed::UserControl(..) => Ok(()),
            Typed::Command(command) => self.command(turn, stream, command),
            Typed::Audio(tag) => self.media(turn, stream, |p, turn| p.media(turn, Media::Audio, timestamp, tag)),
            Typed::Video(tag) => self.media(turn, stream, |p, turn| p.media(turn, Media::Video, timestamp, tag)),
            Typed::Aggregate(tags) => self.media(turn, stream, |p, turn| p.aggregate(turn, timestamp, tags)),
            Typed::Data(values) => match self.stream(stream).map(|s| &mut s.state) {
                Some(StreamState::Publishing(publishing)) => publishing.data(turn, timestamp, values),
                _ => Ok(()),
            },
        }
    }

    fn media(
        &mut self,
        turn: &mut Turn<'_>,
        stream: u32,
        take: impl FnOnce(&mut Publishing, &mut Turn<'_>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let deleted = (1..self.next_stream).contains(&stream);
        match self.stream(stream).map(|s| &mut s.state) {
            Some(StreamState::Publishing(publishing)) => take(publishing, turn),
            // Under way when the publish ended.
            Some(StreamState::Over) => Ok(()),
            None if deleted => Ok(()),
            _ => Err(Reason::Misbehaved(Label("rtmp.media_before_publish"))),
        }
    }

    pub(super) fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// Section 5.4.3, once per call at most: a window of one byte costs one message per read.
    fn acknowledge(&mut self, turn: &mut Turn<'_>, received: u64) {
        if self.address.is_some() && received.saturating_sub(self.acknowledged) >= self.window {
            self.acknowledged = received;
            let mut out = Vec::new();
            self.writer.acknowledgement(&mut out, u32::try_from(received & 0xFFFF_FFFF).unwrap_or(0));
            turn.send(out);
        }
    }
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            chunks: limits.into(),
            unasked_bytes: limits.handshake_bytes,
            handshake_bytes: limits.handshake_bytes as u64,
            chunk_headers_per_second: limits.chunk_headers_per_second,
            commands_per_second: limits.commands_per_second,
            streams_per_connection: limits.streams_per_connection,
        }
    }
}

/// How many of something there were in this second.
#[derive(Debug, Default)]
struct Rate {
    since: Instant,
    count: u32,
}

impl Rate {
    /// Counts `n` more and says whether that is still within `max`.
    fn take(&mut self, now: Now, n: u32, max: u32) -> bool {
        if now.mono.since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now.mono, count: 0 };
        }
        self.count = self.count.saturating_add(n);
        self.count <= max
    }
}

/// Both, in order. Copies only if there are both, which the contract of [`Output::Publish`] rules out.
fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    let mut both = BytesMut::from(&*first);
    both.extend_from_slice(&second);
    both.freeze()
}
