//! The publisher: an open loop. What is due at `t0 + offset` is sent then or, after a stall, as soon as it can
//! be, and the schedule is never moved; how late it was is part of the result.

use std::io;

use hdrhistogram::Histogram;

use super::amf::{self, Value};
use super::chunk::{self, Outgoing};
use super::link::Link;
use super::media::{self, Bank, Schedule, Track};
use super::session::{CHUNK_SIZE, Progress};
use super::timing::Timing;

/// One stream's publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) link: Link,
    bank: Bank,
    schedule: Schedule,
    /// The start of the stream, once the server has accepted it.
    t0: Option<u64>,
    /// Actual minus due, in nanoseconds.
    pub(crate) lateness: Histogram<u64>,
    /// Frames that met a socket which had not taken the one before.
    pub(crate) blocked: u64,
}

impl Publisher {
    pub(crate) fn new(link: Link) -> Self {
        let lateness = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds");
        Self { link, bank: Bank::new(), schedule: Schedule::default(), t0: None, lateness, blocked: 0 }
    }

    /// When the next message is due.
    pub(crate) fn due(&self) -> Option<u64> {
        Some(self.t0? + self.schedule.peek().offset_ns)
    }

    /// The start of the stream.
    pub(crate) fn t0(&self) -> Option<u64> {
        self.t0
    }

    /// Sends what is due.
    pub(crate) fn send_due(&mut self, timing: &Timing) -> io::Result<()> {
        if self.t0.is_none() {
            if self.link.session().progress() != Progress::Started {
                return Ok(());
            }
            self.t0 = Some(timing.now());
            self.announce();
        }
        while let Some(due) = self.due() {
            let now = timing.now();
            if due > now {
                break;
            }
            self.blocked += u64::from(!self.link.out.is_empty());
            self.lateness.saturating_record(now - due);
            self.send_next(due, now)?;
        }
        Ok(())
    }

    fn send_next(&mut self, due: u64, now: u64) -> io::Result<()> {
        let slot = self.schedule.take();
        let kind = match slot.track {
            Track::Video => chunk::VIDEO,
            Track::Audio => chunk::AUDIO,
        };
        let mut message = Vec::new();
        self.bank.head(slot, due, now, &mut message);
        message.extend(&self.bank.body(slot).bytes);
        self.message(kind, slot.timestamp(), &message);
        self.link.flush()
    }

    /// Metadata and both sequence headers.
    fn announce(&mut self) {
        let metadata = [
            ("width", Value::Number(1280.0)),
            ("height", Value::Number(720.0)),
            ("framerate", Value::Number(30.0)),
            ("videocodecid", Value::Number(7.0)),
            ("videodatarate", Value::Number(2400.0)),
            ("audiocodecid", Value::Number(10.0)),
            ("audiosamplerate", Value::Number(44100.0)),
            ("stereo", Value::Boolean(true)),
        ];
        let metadata =
            amf::write(&[Value::Text("@setDataFrame"), Value::Text("onMetaData"), Value::EcmaArray(&metadata)]);
        self.message(chunk::DATA, 0, &metadata);
        self.message(chunk::VIDEO, 0, &media::video_config());
        self.message(chunk::AUDIO, 0, &media::audio_config());
    }

    fn message(&mut self, kind: u8, timestamp: u32, body: &[u8]) {
        let stream_id = self.link.session().stream_id();
        Outgoing::media(kind, stream_id, timestamp).write(body, CHUNK_SIZE, &mut self.link.out);
    }
}
