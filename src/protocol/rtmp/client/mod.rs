//! The other side of a session: what a client says, and what it makes of the answers.
//!
//! After the handshake: `connect`, `createStream`, then `publish` or `play`. It acknowledges what it receives and
//! answers pings, as a server may insist on. It owns no socket and no reader of chunks: whoever has these hands over
//! control messages and sends what is appended to `out`.

mod url;

#[cfg(test)]
mod tests;

pub use url::{Url, UrlError};

use super::amf::{Decoder, Value};
use super::chunk::CHUNK_SIZE_MAX;
use super::message::{
    COMMAND, MessageWriter, PING_REQUEST, PING_RESPONSE, USER_CONTROL, WINDOW_ACKNOWLEDGEMENT_SIZE,
};

/// The chunk size that a publisher announces: a frame is one chunk, or few.
pub const CHUNK_SIZE: u32 = 65_536;

/// What a client wants, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Whether it publishes or plays.
    pub role: Role,
    /// The application.
    pub app: Box<str>,
    /// The server as `host:port`, as the user wrote it: virtual hosts are told apart by it.
    pub host: Box<str>,
    /// The name of the stream, with its query.
    pub stream: Box<str>,
}

/// What a client is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends it.
    Publish,
    /// It receives it.
    Play,
}

/// How far a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Waits for the result of `connect`.
    Connect,
    /// Waits for the result of `createStream`.
    CreateStream,
    /// Has sent `play` or `publish`.
    Asked,
    /// Was told that it publishes or plays.
    Started,
}

/// The server said no, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server refused: {}", .0.said())]
pub struct Refused(pub Status);

/// What a server says of how something went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A word such as `NetStream.Publish.BadName`.
    pub code: Box<str>,
    /// A sentence; empty if it gave none.
    pub description: Box<str>,
}

impl Status {
    fn said(&self) -> String {
        match (self.description.trim(), &*self.code) {
            ("", "") => "it did not say why".into(),
            ("", code) => code.into(),
            (description, "") => description.into(),
            (description, code) => format!("{description} ({code})"),
        }
    }
}

/// One client's side of a session, behind the handshake.
#[derive(Debug)]
pub struct Conversation {
    purpose: Purpose,
    progress: Progress,
    writer: MessageWriter,
    stream: u32,
    window: u32,
    received: u64,
    acknowledged: u64,
}

impl Conversation {
    /// Appends `connect` to `out`.
    #[must_use]
    pub fn new(purpose: Purpose, out: &mut Vec<u8>) -> Self {
        let mut writer = MessageWriter::default();
        connect(&purpose, &mut writer, out);
        let progress = Progress::Connect;
        Self { purpose, progress, writer, stream: 0, window: WINDOW, received: 0, acknowledged: 0 }
    }

    /// So many more bytes came, the handshake's included; appends an acknowledgement if one is due.
    pub fn received(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.received = self.received.saturating_add(bytes as u64);
        if self.received.saturating_sub(self.acknowledged) >= u64::from(self.window) {
            self.acknowledged = self.received;
            // The sequence number is 32 bits and wraps (RTMP 1.0, section 5.4.3).
            let [.., a, b, c, d] = self.received.to_be_bytes();
            self.writer.acknowledgement(out, u32::from_be_bytes([a, b, c, d]));
        }
    }

    /// Takes a message that is no media, and appends the answer.
    ///
    /// # Errors
    /// The server refused what was asked for, or ended it.
    pub fn handle(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        match (kind, body) {
            (WINDOW_ACKNOWLEDGEMENT_SIZE, [a, b, c, d, ..]) => {
                self.window = u32::from_be_bytes([*a, *b, *c, *d]).max(1);
            }
            (USER_CONTROL, [e1, e0, a, b, c, d, ..]) if u16::from_be_bytes([*e1, *e0]) == PING_REQUEST => {
                self.writer.user_control(out, PING_RESPONSE, u32::from_be_bytes([*a, *b, *c, *d]));
            }
            (COMMAND, _) => {
                if let Some(answer) = Answer::read(body) {
                    return self.answered(&answer, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Appends that the publish is over.
    pub fn unpublish(&mut self, out: &mut Vec<u8>) {
        let stream = Value::string(&self.purpose.stream);
        self.writer.command(out, 0, "FCUnpublish", 6.0, &[Value::Null, stream]);
        self.writer.command(out, 0, "deleteStream", 7.0, &[Value::Null, Value::Number(self.stream.into())]);
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The message stream that `createStream` gave.
    #[must_use]
    pub const fn stream(&self) -> u32 {
        self.stream
    }

    /// What media is written with.
    pub const fn writer(&mut self) -> &mut MessageWriter {
        &mut self.writer
    }

    fn answered(&mut self, answer: &Answer, out: &mut Vec<u8>) -> Result<(), Refused> {
        let to = |transaction: f64| (answer.transaction - transaction).abs() < 0.5;
        match (&*answer.name, self.progress) {
            ("_result", Progress::Connect) if to(CONNECT) => {
                self.progress = Progress::CreateStream;
                self.create_stream(out);
            }
            ("_result", Progress::CreateStream) if to(CREATE_STREAM) => {
                self.stream = answer.stream();
                self.progress = Progress::Asked;
                self.ask(out);
            }
            // `releaseStream` and `FCPublish` may be unknown to a server; that is no refusal.
            ("_error", Progress::Connect) if to(CONNECT) => return Err(Refused(answer.status())),
            ("_error", Progress::CreateStream) if to(CREATE_STREAM) => return Err(Refused(answer.status())),
            ("onStatus", _) => {
                let status = answer.status();
                match &*status.code {
                    "NetStream.Publish.Start" | "NetStream.Play.Start" => self.progress = Progress::Started,
                    code if REFUSALS.contains(&code) => return Err(Refused(status)),
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// As OBS and FFmpeg do it.
    fn create_stream(&mut self, out: &mut Vec<u8>) {
        match self.purpose.role {
            Role::Publish => {
                let stream = Value::string(&self.purpose.stream);
                self.writer.command(out, 0, "releaseStream", 2.0, &[Value::Null, stream.clone()]);
                self.writer.command(out, 0, "FCPublish", 3.0, &[Value::Null, stream]);
            }
            Role::Play => self.writer.window_acknowledgement_size(out, WINDOW),
        }
        self.writer.command(out, 0, "createStream", CREATE_STREAM, &[Value::Null]);
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        let stream = Value::string(&self.purpose.stream);
        match self.purpose.role {
            Role::Publish => {
                let values = [Value::Null, stream, Value::string("live")];
                self.writer.command(out, self.stream, "publish", 5.0, &values);
            }
            Role::Play => {
                let values = [Value::Null, stream, Value::Number(-2000.0)];
                self.writer.command(out, self.stream, "play", 5.0, &values);
                // SetBufferLength: event 3, the stream, milliseconds.
                let [.., a, b, c, d] = self.stream.to_be_bytes();
                let [e, f, g, h] = BUFFER_MS.to_be_bytes();
                self.writer.message(out, 2, USER_CONTROL, 0, 0, &[0, 3, a, b, c, d, e, f, g, h]);
            }
        }
    }
}

fn connect(purpose: &Purpose, writer: &mut MessageWriter, out: &mut Vec<u8>) {
    let url = format!("rtmp://{}/{}", purpose.host, purpose.app);
    let text = Value::string;
    let mut fields: Vec<(Box<str>, Value)> = vec![("app".into(), text(&purpose.app))];
    match purpose.role {
        Role::Publish => {
            fields.push(("type".into(), text("nonprivate")));
            writer.set_chunk_size(out, CHUNK_SIZE);
        }
        Role::Play => fields.extend([
            ("fpad".into(), Value::Boolean(false)),
            ("capabilities".into(), Value::Number(15.0)),
            ("audioCodecs".into(), Value::Number(4071.0)),
            ("videoCodecs".into(), Value::Number(252.0)),
            ("videoFunction".into(), Value::Number(1.0)),
        ]),
    }
    fields.extend([("flashVer".into(), text("FMLE/3.0")), ("tcUrl".into(), text(&url))]);
    writer.command(out, 0, "connect", CONNECT, &[Value::Object(fields)]);
}

/// A server's command, as far as it is looked at.
struct Answer {
    name: Box<str>,
    transaction: f64,
    values: Vec<Value>,
}

impl Answer {
    fn read(body: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(body);
        let name = decoder.value().ok()??.as_str()?.into();
        let transaction = decoder.value().ok()??.as_number()?;
        let mut values = Vec::new();
        while let Ok(Some(value)) = decoder.value() {
            values.push(value);
        }
        Some(Self { name, transaction, values })
    }

    /// The number behind the command object: the answer to `createStream`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range of u32")]
    fn stream(&self) -> u32 {
        let number = self.values.get(1).and_then(Value::as_number);
        number.filter(|number| (1.0..=f64::from(u32::MAX)).contains(number)).map_or(1, |number| number as u32)
    }

    fn status(&self) -> Status {
        let info = self.values.iter().rev().find(|value| value.get("code").is_some());
        let text = |name| info.and_then(|info| info.get(name)).and_then(Value::as_str).unwrap_or_default().into();
        Status { code: text("code"), description: text("description") }
    }
}

/// What ends a conversation.
const REFUSALS: [&str; 7] = [
    "NetStream.Publish.BadName",
    "NetStream.Publish.Denied",
    "NetStream.Play.Failed",
    "NetStream.Play.StreamNotFound",
    "NetStream.Play.BadName",
    "NetStream.Play.Denied",
    "NetConnection.Connect.Rejected",
];

/// How much is received between acknowledgements until the server says otherwise.
const WINDOW: u32 = 2_500_000;
/// How long a player says that it buffers.
const BUFFER_MS: u32 = 3_000;

const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;

const _: () = assert!(CHUNK_SIZE <= CHUNK_SIZE_MAX);
