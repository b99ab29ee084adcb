//! A client that publishes over RTMP: what a [`FileSource`](super::FileSource) gives, to any server.
//!
//! One socket, which never blocks; whoever feeds it waits. What the server says is read whenever something is sent or
//! awaited, so that a ping is answered and a refusal is heard. A frame is taken when the one before has left, so
//! nothing piles up here and nothing is left out but what RTMP cannot carry, which is counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;

use super::{Outlet, Stop};
use crate::clock::{Clock, Instant};
use crate::container::flv::{TagHeads, timestamp};
use crate::limits::{Limits, PUSH_ANSWER_WITHIN, PUSH_STALL_MAX};
use crate::media::{Frame, FrameKind, Media};
use crate::protocol::rtmp::chunk::{ChunkError, ChunkLimits, ChunkReader};
use crate::protocol::rtmp::client::{Conversation, Progress, Purpose, Refused, Role, Url};
use crate::protocol::rtmp::handshake::{Client, HandshakeError, PACKET_BYTES};
use crate::protocol::rtmp::message::{AUDIO, CSID_AUDIO, CSID_DATA, CSID_VIDEO, DATA, VIDEO};

/// Why a push ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The URL has no name of a stream.
    #[error("the URL names no stream: rtmp://HOST/APP/NAME")]
    NoName,
    /// The name of the host means nothing.
    #[error("the host {0} is not known: {1}")]
    Host(String, io::Error),
    /// Nobody listens there, or the network does not get there.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// It is connected, but says nothing.
    #[error("the server does not answer")]
    Silent,
    /// The server says no, or ended the publish.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It is gone.
    #[error("the server closed the connection")]
    Closed,
    /// It reads no more.
    #[error("the server takes nothing any more")]
    Stalled,
    /// The network failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It speaks something else.
    #[error("the server does not speak RTMP: {0}")]
    Handshake(#[from] HandshakeError),
    /// The same, later.
    #[error("the server does not speak RTMP: {0:?}")]
    Chunk(ChunkError),
    /// It was told to stop before it began.
    #[error("it was stopped")]
    Stopped,
}

/// One publish.
pub struct Push {
    socket: TcpStream,
    conversation: Conversation,
    reader: ChunkReader,
    heads: TagHeads,
    out: Vec<u8>,
    /// Of `out`.
    written: usize,
    clock: Clock,
    /// When the server has taken something.
    taken: Instant,
    left_out: u64,
}

impl Push {
    /// Connects and asks to publish; returns when the server has allowed it.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn connect(url: &Url, clock: Clock, stop: &Stop) -> Result<Self, PushError> {
        let stream = url.stream().ok_or(PushError::NoName)?;
        let unknown = |error| PushError::Host(url.host.clone(), error);
        let place = url.host_and_port().map_err(|error| unknown(io::Error::other(error)))?;
        let mut socket = Err(unknown(ErrorKind::NotFound.into()));
        for address in place.to_socket_addrs().map_err(unknown)? {
            socket = TcpStream::connect_timeout(&address, PUSH_ANSWER_WITHIN)
                .map_err(|error| PushError::Connect(address, error));
            if socket.is_ok() {
                break;
            }
        }
        let socket = socket?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let purpose = Purpose {
            role: Role::Publish,
            app: url.app.as_str().into(),
            host: url.host.as_str().into(),
            stream: stream.into(),
        };
        let end = clock.instant() + PUSH_ANSWER_WITHIN;
        let mut shaking = Shaking { socket, out: Vec::new(), written: 0 };
        let rest = shaking.shake(&clock, end, stop)?;
        let Shaking { socket, mut out, written } = shaking;
        let mut conversation = Conversation::new(purpose, &mut out);
        conversation.received(1 + 2 * PACKET_BYTES, &mut out);
        let mut push = Self {
            socket,
            conversation,
            reader: ChunkReader::new(ChunkLimits::from(&Limits::default()), 0),
            heads: TagHeads::new(false),
            out,
            written,
            clock,
            taken: clock.instant(),
            left_out: 0,
        };
        push.hear(rest)?;
        while push.conversation.progress() != Progress::Started {
            push.turn()?;
            if stop.wait(WAIT) {
                return Err(PushError::Stopped);
            }
            if clock.instant() > end {
                return Err(PushError::Silent);
            }
        }
        Ok(push)
    }

    /// Frames that RTMP cannot carry: further tracks, and codecs that it has no name for.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Ends the publish behind what was sent, and waits until the server has it all.
    ///
    /// # Errors
    /// It does not take it.
    pub fn end(mut self) -> Result<(), PushError> {
        self.conversation.unpublish(&mut self.out);
        let end = self.clock.instant() + PUSH_STALL_MAX;
        let never = Stop::default();
        loop {
            match self.turn() {
                // What it says to the end is no refusal.
                Ok(()) | Err(PushError::Refused(_)) => {}
                Err(PushError::Closed) if self.out.is_empty() => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.out.is_empty() {
                break;
            }
            if self.clock.instant() > end {
                return Err(PushError::Stalled);
            }
            never.wait(WAIT);
        }
        // A connection that is closed with something unread is reset, and what is under way is lost with it.
        self.socket.shutdown(Shutdown::Write)?;
        let end = self.clock.instant() + LAST_WORDS;
        while self.clock.instant() < end {
            match self.socket.read(&mut [0; 4096]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => _ = never.wait(WAIT),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Reads what is there, and writes what can be.
    fn turn(&mut self) -> Result<(), PushError> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(PushError::Closed),
                Ok(read) => {
                    self.conversation.received(read, &mut self.out);
                    self.hear(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default()))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(gone(error)),
            }
        }
        let before = self.written;
        write(&mut self.socket, &mut self.out, &mut self.written)?;
        let now = self.clock.instant();
        if self.out.is_empty() || self.written != before {
            self.taken = now;
        }
        if now.since(self.taken) > PUSH_STALL_MAX { Err(PushError::Stalled) } else { Ok(()) }
    }

    fn hear(&mut self, mut bytes: Bytes) -> Result<(), PushError> {
        while let Some(message) = self.reader.read(&mut bytes).map_err(PushError::Chunk)? {
            self.conversation.handle(message.kind, &message.payload, &mut self.out)?;
        }
        Ok(())
    }

    /// A tag is its head and the payload, in one message.
    fn write_frame(&mut self, frame: &Frame) {
        let (kind, csid) = match frame.codec.media() {
            Media::Audio => (AUDIO, CSID_AUDIO),
            Media::Video => (VIDEO, CSID_VIDEO),
            Media::Data => (DATA, CSID_DATA),
        };
        let config_of_one_byte = frame.kind == FrameKind::Config && frame.payload.len() == 1;
        let Some(head) = self.heads.head(frame) else {
            self.left_out += u64::from(!config_of_one_byte);
            return;
        };
        let body = [head.as_slice(), &frame.payload].concat();
        let stream = self.conversation.stream();
        self.conversation.writer().message(&mut self.out, csid, kind, stream, timestamp(frame), &body);
    }
}

impl Outlet for Push {
    type Error = PushError;

    fn offer(&mut self, frame: Frame) -> Result<Option<Frame>, PushError> {
        if !self.out.is_empty() {
            self.turn()?;
            if !self.out.is_empty() {
                return Ok(Some(frame));
            }
        }
        self.write_frame(&frame);
        self.turn()?;
        Ok(None)
    }

    fn idle(&mut self) -> Result<(), PushError> {
        self.turn()
    }
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("conversation", &self.conversation).finish_non_exhaustive()
    }
}

/// A connection before anything can be said.
struct Shaking {
    socket: TcpStream,
    out: Vec<u8>,
    written: usize,
}

impl Shaking {
    /// What came behind the handshake.
    fn shake(&mut self, clock: &Clock, end: Instant, stop: &Stop) -> Result<Bytes, PushError> {
        // What it is made of proves nothing: it only should not be the same each time.
        let seed = clock.now().wall.0;
        let mut client = Client::new([seed, seed.rotate_left(17), !seed, 1], false, &mut self.out);
        let mut buffer = [0; READ_BYTES];
        loop {
            write(&mut self.socket, &mut self.out, &mut self.written)?;
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(PushError::Closed),
                Ok(read) => {
                    let mut bytes = Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default());
                    if client.handle(&mut bytes, &mut self.out)? {
                        write(&mut self.socket, &mut self.out, &mut self.written)?;
                        return Ok(bytes);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if stop.wait(WAIT) {
                        return Err(PushError::Stopped);
                    }
                    if clock.instant() > end {
                        return Err(PushError::Silent);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

/// Writes what the socket takes; all of it was taken when `out` is empty.
fn write(socket: &mut TcpStream, out: &mut Vec<u8>, written: &mut usize) -> Result<(), PushError> {
    while let Some(rest) = out.get(*written..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(0) => return Err(PushError::Closed),
            Ok(more) => *written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(gone(error)),
        }
    }
    out.clear();
    *written = 0;
    Ok(())
}

fn gone(error: io::Error) -> PushError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => PushError::Closed,
        _ => PushError::Io(error),
    }
}

const READ_BYTES: usize = 16 * 1024;
const WAIT: Duration = Duration::from_millis(1);
/// How long a server may take to close its side when all was said.
const LAST_WORDS: Duration = Duration::from_secs(2);
