//! The publisher: an open loop. What is due at `t0 + offset` is sent then or, after a stall, as soon as it can be, and
//! the schedule is never moved; how late it was is part of the result.

use std::io;
use std::rc::Rc;

use super::chunk::{self, Outgoing};
use super::link::Link;
use super::media::{self, Bank, Schedule, Track};
use super::session::{CHUNK_SIZE, Progress};
use crate::protocol::rtmp::amf::{Members, Value, encode};

/// One stream's publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) link: Link,
    stream: u32,
    bank: Rc<Bank>,
    schedule: Schedule,
    /// The start of the stream, once the server has accepted it.
    t0: Option<u64>,
}

/// A message that was handed to the socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// When it was due.
    pub(crate) due: u64,
    /// Whether the socket had not yet taken the one before.
    pub(crate) blocked: bool,
}

/// A server that is so far behind will not take the stream.
const BACKLOG_MAX: usize = 32 * 1024 * 1024;

impl Publisher {
    pub(crate) fn new(link: Link, stream: u32, bank: Rc<Bank>) -> Self {
        Self { link, stream, bank, schedule: Schedule::default(), t0: None }
    }

    /// The stream that it publishes.
    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// When the next message is due; `None` until it has begun.
    pub(crate) fn due(&self) -> Option<u64> {
        Some(self.t0? + self.schedule.peek().offset_ns)
    }

    /// The start of the stream.
    pub(crate) fn t0(&self) -> Option<u64> {
        self.t0
    }

    /// Whether the server has accepted it and it has not yet begun.
    pub(crate) fn can_begin(&self) -> bool {
        self.t0.is_none() && self.link.session().progress() == Progress::Started
    }

    /// Fixes the schedule: the stream starts at `t0`. Sends what comes before the first frame.
    pub(crate) fn begin(&mut self, t0: u64) -> io::Result<()> {
        self.t0 = Some(t0);
        let number = |name: &str, number| (name.into(), Value::Number(number));
        let fields: Members = vec![
            number("width", 1280.0),
            number("height", 720.0),
            number("framerate", 30.0),
            number("videocodecid", 7.0),
            number("videodatarate", 2400.0),
            number("audiocodecid", 10.0),
            number("audiosamplerate", 44100.0),
            ("stereo".into(), Value::Boolean(true)),
        ];
        let mut metadata = Vec::new();
        for value in [Value::string("@setDataFrame"), Value::string("onMetaData"), Value::EcmaArray(fields)] {
            encode(&mut metadata, &value);
        }
        self.message(chunk::DATA, 0, &metadata);
        self.message(chunk::VIDEO, 0, &media::video_config());
        self.message(chunk::AUDIO, 0, &media::audio_config());
        self.link.flush()
    }

    /// Sends the next message, which was due, at `now`.
    pub(crate) fn send_next(&mut self, now: u64) -> io::Result<Option<Sent>> {
        let Some(due) = self.due() else { return Ok(None) };
        let sent = Sent { due, blocked: !self.link.out.is_empty() };
        let slot = self.schedule.take();
        let kind = match slot.track {
            Track::Video => chunk::VIDEO,
            Track::Audio => chunk::AUDIO,
        };
        let mut message = Vec::new();
        self.bank.message(self.stream, slot, due, now, &mut message);
        self.message(kind, slot.timestamp(), &message);
        if self.link.out.len() > BACKLOG_MAX {
            return Err(io::Error::other("is not read by the server"));
        }
        self.link.flush()?;
        Ok(Some(sent))
    }

    fn message(&mut self, kind: u8, timestamp: u32, body: &[u8]) {
        let stream_id = self.link.session().stream_id();
        Outgoing::media(kind, stream_id, timestamp).write(body, CHUNK_SIZE, &mut self.link.out);
    }
}
