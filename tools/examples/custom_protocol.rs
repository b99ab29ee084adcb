//! A protocol of one's own: lines and length-prefixed frames over TCP.
//!
//! A client says `PUBLISH app/name` or `PLAY app/name`, and is answered `OK` or `ERR reason`. Then frames flow, to or
//! from it, each as a kind (`C`, `K`, `D`), milliseconds (8 bytes) and length (4 bytes), then the payload. `shardcast`
//! does all the rest: sockets, fan-out, joining at a keyframe, lag. The end of this file is a publisher and a player
//! over real sockets that show that it works.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use shardcast::Router;
use shardcast::clock::{Instant, Now};
use shardcast::extension::Credentials;
use shardcast::id::StreamKey;
use shardcast::limits::Limit;
use shardcast::media::{Codec, Frame, FrameKind, Timestamp};
use shardcast::protocol::{
    Body, Head, Input, Output, Packet, Packetizer, PlayOptions, PlayRequest, Protocol, PublishRequest, Session,
    SessionContext,
};
use shardcast::reason::{Label, Reason};

/// Kind, milliseconds, length.
const HEAD_BYTES: usize = 1 + 8 + 4;
const LINE_BYTES_MAX: usize = 256;
const FRAME_BYTES_MAX: usize = 1024 * 1024;

// --- the protocol: what a listener speaks ----------------------------------------------------------------------

struct Lines;

impl Protocol for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn session(&self, _: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(LineSession { phase: Phase::Line, input: BytesMut::new(), consumed: 0, outputs: VecDeque::new() })
    }

    fn packetizer(&self, _format: u32) -> Box<dyn Packetizer> {
        Box::new(LinePacketizer)
    }
}

/// Frame → bytes, made once for all players of a shard. The payload goes out as it came in: nothing is copied.
struct LinePacketizer;

impl Packetizer for LinePacketizer {
    fn packetize(&mut self, frame: &Frame) -> Option<Packet> {
        let kind = match frame.kind {
            FrameKind::Config => b'C',
            FrameKind::Key => b'K',
            FrameKind::Delta => b'D',
            FrameKind::Audio | FrameKind::Data => return None,
        };
        let length = u32::try_from(frame.payload.len()).ok()?;
        let head = Head::new(&[&[kind], &frame.dts.as_millis().to_be_bytes(), &length.to_be_bytes()]);
        Some(Packet { head, body: Body::Payload })
    }
}

// --- the session: what one connection may do now ---------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its first line is awaited.
    Line,
    /// Asked; nothing is read meanwhile.
    Waiting,
    Publishing,
    Playing,
}

struct LineSession {
    phase: Phase,
    input: BytesMut,
    /// Bytes before `input`: an error says where.
    consumed: u64,
    outputs: VecDeque<Output>,
}

/// A client has one stream.
const HANDLE: u32 = 1;

impl Session for LineSession {
    fn handle(&mut self, _: Now, input: Input) -> Result<(), Reason> {
        match input {
            Input::Bytes(bytes) => self.input.extend_from_slice(&bytes),
            Input::Published(_, result) => self.answered(Phase::Publishing, result),
            Input::Playing(_, result) => self.answered(Phase::Playing, result),
            Input::Ended(_, reason) | Input::Unpublished(_, reason) => self.outputs.push_back(Output::Close(reason)),
            _ => {}
        }
        while self.step()? {}
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        None
    }
}

impl LineSession {
    /// Takes one line or frame, if a whole one is there.
    fn step(&mut self) -> Result<bool, Reason> {
        match self.phase {
            Phase::Line => self.line(),
            Phase::Publishing => self.frame(),
            Phase::Waiting | Phase::Playing => Ok(false),
        }
    }

    fn line(&mut self) -> Result<bool, Reason> {
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
            return if self.input.len() > LINE_BYTES_MAX {
                Err(Reason::Limit(Limit::HandshakeBytes))
            } else {
                Ok(false)
            };
        };
        let line = self.take(end + 1);
        let text = std::str::from_utf8(&line).map_err(|_| self.malformed("lines.utf8"))?;
        let (verb, name) = text.trim_end().split_once(' ').ok_or_else(|| self.malformed("lines.verb"))?;
        let key = StreamKey::parse(name).map_err(|_| Reason::BadName)?;
        let credentials = Credentials::default();
        self.outputs.push_back(Output::Established);
        self.outputs.push_back(match verb {
            "PUBLISH" => Output::Publish(Box::new(PublishRequest { handle: HANDLE, key, credentials })),
            "PLAY" => {
                let options = PlayOptions::instant();
                Output::Play(Box::new(PlayRequest { handle: HANDLE, key, credentials, format: 0, options }))
            }
            _ => return Err(self.malformed("lines.verb")),
        });
        self.phase = Phase::Waiting;
        Ok(true)
    }

    fn answered(&mut self, phase: Phase, result: Result<(), Reason>) {
        let line = match result {
            Ok(()) => "OK\n".into(),
            Err(reason) => format!("ERR {}\n", reason.code()),
        };
        self.phase = phase;
        self.outputs.push_back(Output::Send(line.into()));
        if let Err(reason) = result {
            self.outputs.push_back(Output::Close(reason));
        }
    }

    fn frame(&mut self) -> Result<bool, Reason> {
        let Some(mut head) = self.input.get(..HEAD_BYTES) else { return Ok(false) };
        let (kind, ms, length) = (head.get_u8(), head.get_i64(), head.get_u32() as usize);
        // Before anything is kept for it.
        if length > FRAME_BYTES_MAX {
            return Err(Reason::Limit(Limit::MessageBytes));
        }
        if self.input.len() < HEAD_BYTES + length {
            return Ok(false);
        }
        let payload = self.take(HEAD_BYTES + length).slice(HEAD_BYTES..);
        let time = Timestamp::from_millis(ms);
        let frame = match kind {
            b'C' => Frame::config(Codec::H264, time, payload),
            b'K' | b'D' => Frame::video(Codec::H264, kind == b'K', time, time, payload),
            _ => return Err(self.malformed("lines.kind")),
        };
        self.outputs.push_back(Output::Frame(HANDLE, frame));
        Ok(true)
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.consumed += len as u64;
        self.input.split_to(len).freeze()
    }

    const fn malformed(&self, what: &'static str) -> Reason {
        Reason::Malformed { what: Label(what), at: self.consumed }
    }
}

// --- the proof: a publisher and a player over real sockets -----------------------------------------------------

fn main() -> Result<(), Box<dyn Error>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let router = Router::builder().shards(2).listen(any, Arc::new(Lines)).start()?;
    let address = router.listeners().first().ok_or("nothing is listened on")?.1;
    println!("listening on {address}");

    let mut publisher = connect(address, "PUBLISH live/demo")?;
    let sent = [(b'C', 0, "avcC"), (b'K', 0, "key"), (b'D', 40, "delta"), (b'D', 80, "another")];
    for (kind, ms, payload) in sent {
        send(&mut publisher, kind, ms, payload)?;
    }
    let mut second = TcpStream::connect(address)?;
    println!("a second publisher of the name: {}", ask(&mut second, "PUBLISH live/demo")?);

    let mut player = connect(address, "PLAY live/demo")?;
    for expected in sent {
        let (kind, ms, payload) = receive(&mut player)?;
        println!("{} at {ms} ms: {payload}", char::from(kind));
        if (kind, ms, &*payload) != expected {
            return Err("another frame was due".into());
        }
    }
    drop(publisher);
    let mut rest = Vec::new();
    player.read_to_end(&mut rest)?;
    println!("the publisher is gone, and the player's connection ended");
    if rest.is_empty() { Ok(()) } else { Err("something followed the last frame".into()) }
}

fn connect(address: SocketAddr, line: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let answer = ask(&mut socket, line)?;
    if answer == "OK" { Ok(socket) } else { Err(io::Error::other(answer)) }
}

fn ask(socket: &mut TcpStream, line: &str) -> io::Result<String> {
    writeln!(socket, "{line}")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    loop {
        socket.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        answer.extend(byte);
    }
}

fn send(socket: &mut TcpStream, kind: u8, ms: i64, payload: &str) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut bytes = vec![kind];
    bytes.extend(ms.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload.as_bytes());
    socket.write_all(&bytes)
}

fn receive(socket: &mut TcpStream) -> io::Result<(u8, i64, String)> {
    let mut head = [0; HEAD_BYTES];
    socket.read_exact(&mut head)?;
    let mut head = &head[..];
    let (kind, ms) = (head.get_u8(), head.get_i64());
    let mut payload = vec![0; head.get_u32() as usize];
    socket.read_exact(&mut payload)?;
    Ok((kind, ms, String::from_utf8_lossy(&payload).into_owned()))
}
