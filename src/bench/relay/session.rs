//! An RTMP client, without its socket: handshake, `connect`, `createStream`, then `play` or `publish`.
//!
//! It acknowledges what it receives and answers pings, as a server may insist on.

use std::rc::Rc;

use super::amf::{self, Answer, Value};
use super::chunk::{self, ChunkReader, Message, Outgoing};

/// C1, S1, C2 and S2 (RTMP 1.0, section 5.2).
const HANDSHAKE_LEN: usize = 1536;
/// The chunk size that a publisher announces: a frame is one chunk.
pub(crate) const CHUNK_SIZE: usize = 65_536;
/// How much is received between acknowledgements until the server says otherwise.
const WINDOW: u32 = 2_500_000;
/// How long a player says that it buffers.
const BUFFER_MS: u32 = 3_000;

const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;

/// What a client wants, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub(crate) role: Role,
    pub(crate) app: Rc<str>,
    /// Of the server, as `host:port`, as the user wrote it: virtual hosts are told apart by it.
    pub(crate) host: Rc<str>,
    /// The name of the stream, with its query.
    pub(crate) stream: Rc<str>,
    /// Which of the run's streams that is.
    pub(crate) number: u32,
}

/// What a client is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publish,
    Play,
    /// Says which stream it wants and reads chunks at once: the far end is the floor's bare sender.
    Sink,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Waits for the rest of S0, S1 and S2.
    Handshake,
    /// Waits for the result of `connect`.
    Connect,
    /// Waits for the result of `createStream`.
    CreateStream,
    /// Has sent `play` or `publish`.
    Asked,
    /// Was told that it publishes or plays.
    Started,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the server sent what is no RTMP: {0}")]
    Malformed(#[from] chunk::Malformed),
    /// The server answered with `_error` or a failure code.
    #[error("the server refused: {0}")]
    Refused(String),
}

/// One client's conversation.
#[derive(Debug)]
pub(crate) struct Session {
    purpose: Purpose,
    progress: Progress,
    handshake: Vec<u8>,
    reader: ChunkReader,
    control: Control,
}

/// Everything but the reader, so that messages can be handled while it reads.
#[derive(Debug)]
struct Control {
    stream_id: u32,
    window: u32,
    received: u64,
    acknowledged: u64,
}

impl Session {
    /// A session, and the bytes that open it.
    pub(crate) fn new(purpose: Purpose, out: &mut Vec<u8>) -> Self {
        let progress = match purpose.role {
            Role::Sink => {
                out.extend(purpose.number.to_be_bytes());
                Progress::Started
            }
            Role::Publish | Role::Play => {
                out.push(3);
                out.extend([0; 8]);
                out.extend((0..HANDSHAKE_LEN - 8).map(|i| i.to_le_bytes()[0]));
                Progress::Handshake
            }
        };
        Self {
            purpose,
            progress,
            handshake: Vec::new(),
            reader: ChunkReader::new(),
            control: Control { stream_id: 0, window: WINDOW, received: 0, acknowledged: 0 },
        }
    }

    /// Takes in what the server sent; `media` gets audio and video, `out` the answers.
    pub(crate) fn input(
        &mut self,
        mut bytes: &[u8],
        checking: bool,
        out: &mut Vec<u8>,
        mut media: impl FnMut(&Message<'_>),
    ) -> Result<(), Fault> {
        self.control.received += bytes.len() as u64;
        if self.progress == Progress::Handshake {
            bytes = self.shake(bytes, out);
        }
        let Self { purpose, progress, reader, control, .. } = self;
        let mut fault = None;
        let read = reader.push(bytes, checking, |message| match message.kind {
            chunk::AUDIO | chunk::VIDEO => media(message),
            _ => {
                if let Err(refused) = control.on_message(message, purpose, progress, out) {
                    fault = Some(refused);
                }
            }
        });
        read?;
        if purpose.role != Role::Sink {
            control.acknowledge(out);
        }
        fault.map_or(Ok(()), Err)
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// The message stream that `createStream` gave.
    pub(crate) fn stream_id(&self) -> u32 {
        self.control.stream_id
    }

    /// Reads S0, S1, S2; answers S1 with C2 and S2 with `connect`. Returns what lies behind S2.
    fn shake<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        const S1_END: usize = 1 + HANDSHAKE_LEN;
        const S2_END: usize = S1_END + HANDSHAKE_LEN;
        let before = self.handshake.len();
        let (mine, rest) = bytes.split_at(bytes.len().min(S2_END - before));
        self.handshake.extend(mine);
        if before < S1_END && self.handshake.len() >= S1_END {
            out.extend(&self.handshake[1..S1_END]);
        }
        if self.handshake.len() == S2_END {
            self.handshake = Vec::new();
            self.progress = Progress::Connect;
            connect(&self.purpose, out);
        }
        rest
    }
}

impl Control {
    fn on_message(
        &mut self,
        message: &Message<'_>,
        purpose: &Purpose,
        progress: &mut Progress,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match (message.kind, message.start) {
            (chunk::WINDOW_ACK_SIZE, [a, b, c, d, ..]) => {
                self.window = u32::from_be_bytes([*a, *b, *c, *d]).max(1);
            }
            // Ping request, answered by the same bytes as a ping response.
            (chunk::USER_CONTROL, [0, 6, time @ ..]) => {
                let pong = [&[0, 7], time].concat();
                Outgoing::control(chunk::USER_CONTROL).write(&pong, chunk::DEFAULT_CHUNK_SIZE, out);
            }
            (chunk::COMMAND, body) => {
                if let Some(answer) = Answer::read(body) {
                    return self.on_answer(answer, purpose, progress, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        answer: Answer<'_>,
        purpose: &Purpose,
        progress: &mut Progress,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match (answer.name, *progress) {
            (b"_result", Progress::Connect) if same(answer.transaction, CONNECT) => {
                *progress = Progress::CreateStream;
                create_stream(purpose, out);
            }
            (b"_result", Progress::CreateStream) if same(answer.transaction, CREATE_STREAM) => {
                let id = answer.number().unwrap_or(1.0);
                self.stream_id = (1..=u32::from(u16::MAX)).find(|known| same(f64::from(*known), id)).unwrap_or(1);
                *progress = Progress::Asked;
                ask(purpose, self.stream_id, out);
            }
            // `releaseStream` and `FCPublish` may be unknown to a server; that is no refusal.
            (b"_error", Progress::Connect) if same(answer.transaction, CONNECT) => return Err(refused(answer)),
            (b"_error", Progress::CreateStream) if same(answer.transaction, CREATE_STREAM) => {
                return Err(refused(answer));
            }
            (b"onStatus", _) => match answer.code() {
                b"NetStream.Publish.Start" | b"NetStream.Play.Start" => *progress = Progress::Started,
                b"NetStream.Publish.BadName"
                | b"NetStream.Play.Failed"
                | b"NetStream.Play.StreamNotFound"
                | b"NetStream.Play.BadName"
                | b"NetStream.Publish.Denied"
                | b"NetStream.Play.Denied"
                | b"NetConnection.Connect.Rejected" => return Err(refused(answer)),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, out: &mut Vec<u8>) {
        if self.received - self.acknowledged >= u64::from(self.window) {
            self.acknowledged = self.received;
            // The sequence number is 32 bits and wraps (RTMP 1.0, section 5.4.3).
            let [.., a, b, c, d] = self.received.to_be_bytes();
            Outgoing::control(chunk::ACKNOWLEDGEMENT).write(&[a, b, c, d], chunk::DEFAULT_CHUNK_SIZE, out);
        }
    }
}

fn refused(answer: Answer<'_>) -> Fault {
    let code = answer.code();
    Fault::Refused(String::from_utf8_lossy(if code.is_empty() { answer.name } else { code }).into_owned())
}

fn connect(purpose: &Purpose, out: &mut Vec<u8>) {
    let url = format!("rtmp://{}/{}", purpose.host, purpose.app);
    let mut fields =
        vec![("app", Value::Text(&purpose.app)), ("flashVer", Value::Text("FMLE/3.0")), ("tcUrl", Value::Text(&url))];
    match purpose.role {
        Role::Publish => {
            fields.insert(1, ("type", Value::Text("nonprivate")));
            Outgoing::control(chunk::SET_CHUNK_SIZE).write(
                &u32::try_from(CHUNK_SIZE).unwrap_or(0).to_be_bytes(),
                chunk::DEFAULT_CHUNK_SIZE,
                out,
            );
        }
        Role::Play | Role::Sink => fields.extend([
            ("fpad", Value::Boolean(false)),
            ("capabilities", Value::Number(15.0)),
            ("audioCodecs", Value::Number(4071.0)),
            ("videoCodecs", Value::Number(252.0)),
            ("videoFunction", Value::Number(1.0)),
        ]),
    }
    command(purpose, 0, &[Value::Text("connect"), Value::Number(CONNECT), Value::Object(&fields)], out);
}

/// As OBS and FFmpeg do it.
fn create_stream(purpose: &Purpose, out: &mut Vec<u8>) {
    let stream = Value::Text(&purpose.stream);
    match purpose.role {
        Role::Publish => {
            command(purpose, 0, &[Value::Text("releaseStream"), Value::Number(2.0), Value::Null, stream], out);
            command(purpose, 0, &[Value::Text("FCPublish"), Value::Number(3.0), Value::Null, stream], out);
        }
        Role::Play | Role::Sink => {
            let window = WINDOW.to_be_bytes();
            Outgoing::control(chunk::WINDOW_ACK_SIZE).write(&window, chunk::DEFAULT_CHUNK_SIZE, out);
        }
    }
    command(purpose, 0, &[Value::Text("createStream"), Value::Number(CREATE_STREAM), Value::Null], out);
}

fn ask(purpose: &Purpose, stream_id: u32, out: &mut Vec<u8>) {
    let stream = Value::Text(&purpose.stream);
    match purpose.role {
        Role::Publish => command(
            purpose,
            stream_id,
            &[Value::Text("publish"), Value::Number(5.0), Value::Null, stream, Value::Text("live")],
            out,
        ),
        Role::Play | Role::Sink => {
            let play = [Value::Text("play"), Value::Number(5.0), Value::Null, stream, Value::Number(-2000.0)];
            command(purpose, stream_id, &play, out);
            // SetBufferLength: event 3, the stream, milliseconds.
            let buffer = [&[0, 3], stream_id.to_be_bytes().as_slice(), &BUFFER_MS.to_be_bytes()].concat();
            Outgoing::control(chunk::USER_CONTROL).write(&buffer, chunk::DEFAULT_CHUNK_SIZE, out);
        }
    }
}

fn command(purpose: &Purpose, stream_id: u32, values: &[Value<'_>], out: &mut Vec<u8>) {
    let chunk_size = match purpose.role {
        Role::Publish => CHUNK_SIZE,
        Role::Play | Role::Sink => chunk::DEFAULT_CHUNK_SIZE,
    };
    Outgoing::command(stream_id).write(&amf::write(values), chunk_size, out);
}

/// Transaction and stream numbers are small integers in a float.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.5
}
