//! A raw RTMP peer: it sends what it is told to send, whether that makes sense or not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use shardcast::clock::Instant;
use shardcast::id::ConnectionId;
use shardcast::limits::Limits;
use shardcast::protocol::rtmp::amf::{self, Decoder, Value};
use shardcast::protocol::rtmp::chunk::{ChunkLimits, ChunkReader, Message};
use shardcast::protocol::rtmp::message::{COMMAND, MessageWriter, PING_REQUEST, PING_RESPONSE, USER_CONTROL, VIDEO};

use super::world::{SOON, now};

/// S0, S1 and S2.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;

/// One end of a connection.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    /// What the router knows it as; 0 where nobody asked.
    pub(crate) id: ConnectionId,
    /// Bytes that came.
    pub(crate) received: usize,
    handshake_left: usize,
    input: Bytes,
    reader: ChunkReader,
    over: bool,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the router listens");
        Self::new(socket)
    }

    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a socket takes its options");
        // A write to one who never reads ends some time.
        socket.set_write_timeout(Some(SOON)).expect("a socket takes its options");
        Self {
            socket,
            id: ConnectionId(0),
            received: 0,
            handshake_left: HANDSHAKE_BYTES,
            input: Bytes::new(),
            reader: ChunkReader::new(ChunkLimits::from(&Limits::default()), 0),
            over: false,
        }
    }

    /// Sends as much as the other side takes before it hangs up; whether that was all.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// The next message; `None` at the end, or when the time is up.
    pub(crate) fn message(&mut self, within: Duration) -> Option<Message> {
        let until = now() + within;
        loop {
            if !self.input.is_empty()
                && let Some(message) = self.reader.read(&mut self.input).expect("the router keeps to the protocol")
            {
                return Some(message);
            }
            if !self.read(until) {
                return None;
            }
        }
    }

    /// Whether the other side ends the connection, whatever it says before.
    pub(crate) fn is_closed(&mut self, within: Duration) -> bool {
        let until = now() + within;
        while self.read(until) {}
        self.over
    }

    /// Reads once; `false` at the end or when the time is up.
    fn read(&mut self, until: Instant) -> bool {
        let left = until.since(now());
        if self.over || left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).expect("a socket takes its options");
        let mut buffer = vec![0; 64 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.over = true,
            Ok(len) => {
                self.received += len;
                buffer.truncate(len);
                let mut bytes = Bytes::from(buffer);
                let skip = self.handshake_left.min(bytes.len());
                self.handshake_left -= skip;
                bytes = bytes.slice(skip..);
                self.input = if self.input.is_empty() { bytes } else { [&*self.input, &*bytes].concat().into() };
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(_) => self.over = true,
        }
        false
    }

    /// Whether it gets an answer to a ping: everything that was sent before has been taken.
    pub(crate) fn is_served(&mut self) -> bool {
        let asked = 0x5EED_0000 | u32::try_from(self.received & 0xFFFF).unwrap_or(0);
        let mut out = Vec::new();
        MessageWriter::default().user_control(&mut out, PING_REQUEST, asked);
        if !self.send(&out) {
            return false;
        }
        let [a, b] = PING_RESPONSE.to_be_bytes();
        let [c, d, e, f] = asked.to_be_bytes();
        let until = now() + SOON;
        while let Some(message) = self.message(until.since(now())) {
            if message.kind == USER_CONTROL && *message.payload == [a, b, c, d, e, f] {
                return true;
            }
        }
        false
    }

    /// The code of the next status on any stream.
    pub(crate) fn status(&mut self, within: Duration) -> Option<String> {
        let until = now() + within;
        while let Some(message) = self.message(until.since(now())) {
            if message.kind != COMMAND {
                continue;
            }
            let mut values = Decoder::new(&message.payload);
            while let Some(value) = values.value().expect("the router's values can be read") {
                if let Some(code) = value.get("code").and_then(Value::as_str) {
                    return Some(code.to_owned());
                }
            }
        }
        None
    }

    /// Waits for one status among others.
    pub(crate) fn wait_for_status(&mut self, wanted: &str) {
        let until = now() + SOON;
        let mut seen = Vec::new();
        while let Some(code) = self.status(until.since(now())) {
            if code == wanted {
                return;
            }
            seen.push(code);
        }
        panic!("waited in vain for {wanted}, came {seen:?}");
    }

    /// The payload of the next video message, without its tag header.
    pub(crate) fn video(&mut self, within: Duration) -> Option<Bytes> {
        let until = now() + within;
        while let Some(message) = self.message(until.since(now())) {
            if message.kind == VIDEO {
                return Some(message.payload.slice(5.min(message.payload.len())..));
            }
        }
        None
    }

    /// Ends with a reset instead of an end.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.socket);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket takes its options");
    }

    /// Ends its own side.
    pub(crate) fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// C0, C1 and C2 in one piece: no server needs to be waited for.
pub(crate) fn hello() -> Vec<u8> {
    let mut out = vec![0; HANDSHAKE_BYTES];
    out[0] = 3;
    out
}

/// A command on the chunk stream of commands.
pub(crate) fn command(stream: u32, name: &str, transaction: f64, values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::default().command(&mut out, stream, name, transaction, values);
    out
}

pub(crate) fn connect(app: &str) -> Vec<u8> {
    let url = format!("rtmp://127.0.0.1/{app}");
    connect_to(app, &url)
}

pub(crate) fn connect_to(app: &str, url: &str) -> Vec<u8> {
    let object = Value::object([
        ("app", Value::string(app)),
        ("flashVer", Value::string("FMLE/3.0 (compatible; hostile)")),
        ("tcUrl", Value::string(url)),
    ]);
    command(0, "connect", 1.0, &[object])
}

pub(crate) fn create_stream() -> Vec<u8> {
    command(0, "createStream", 2.0, &[Value::Null])
}

pub(crate) fn publish(stream: u32, name: &str) -> Vec<u8> {
    command(stream, "publish", 3.0, &[Value::Null, Value::string(name), Value::string("live")])
}

pub(crate) fn play(stream: u32, name: &str) -> Vec<u8> {
    command(stream, "play", 4.0, &[Value::Null, Value::string(name)])
}

/// Everything up to the request to publish `app/name` on stream 1.
pub(crate) fn publisher(app: &str, name: &str) -> Vec<u8> {
    [hello(), connect(app), create_stream(), publish(1, name)].concat()
}

/// Everything up to the request to play `app/name` on stream 1.
pub(crate) fn player(app: &str, name: &str) -> Vec<u8> {
    [hello(), connect(app), create_stream(), play(1, name)].concat()
}

/// Any message, in chunks of 128 bytes.
pub(crate) fn message(kind: u8, stream: u32, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::default().message(&mut out, 6, kind, stream, timestamp, payload);
    out
}

/// A message in one chunk, behind the announcement that chunks are so long.
pub(crate) fn long_message(kind: u8, stream: u32, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = MessageWriter::default();
    writer.set_chunk_size(&mut out, 0x00FF_FFFF);
    writer.message(&mut out, 6, kind, stream, timestamp, payload);
    out
}

/// A video tag with H.264 in it.
pub(crate) fn video_tag(key: bool, payload: &[u8]) -> Vec<u8> {
    let mut tag = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    tag.extend_from_slice(payload);
    tag
}

/// A video message on stream 1.
pub(crate) fn video(key: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    message(VIDEO, 1, timestamp, &video_tag(key, payload))
}

/// A chunk header of type 0 and what follows it.
pub(crate) fn chunk(csid: u8, timestamp: u32, length: u32, kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![csid];
    out.extend_from_slice(&timestamp.min(0x00FF_FFFF).to_be_bytes()[1..]);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream.to_le_bytes());
    if timestamp >= 0x00FF_FFFF {
        out.extend_from_slice(&timestamp.to_be_bytes());
    }
    out.extend_from_slice(payload);
    out
}

/// A control message of raw bytes.
pub(crate) fn control(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's message is short");
    chunk(2, 0, length, kind, 0, payload)
}

/// Values as AMF0.
pub(crate) fn values(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| amf::encode(&mut out, value));
    out
}
