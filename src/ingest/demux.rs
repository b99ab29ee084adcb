//! One pass over a file: its tracks and frames, as they lie in it.

use std::collections::VecDeque;
use std::io::{Seek, SeekFrom};

use bytes::{Bytes, BytesMut};

use super::SourceError;
use super::input::{Input, Part};
use super::sniff::{BoxWalk, Kind, is_fragmented};
use crate::clock::Instant;
use crate::container::flv::{self, FlvError};
use crate::container::fmp4::{self, Progressive};
use crate::container::mpegts;
use crate::limits::{INGEST_SNIFF_BYTES, Limits};
use crate::media::{Frame, FrameKind, Timestamp, Track, TrackId};

/// What is found.
#[derive(Debug)]
pub(super) enum Event {
    Track(TrackId),
    Ended(TrackId),
    Frame(Frame),
}

/// What a step gave.
#[derive(Debug)]
pub(super) enum Step {
    Event(Event),
    /// Nothing, yet: it is a pipe.
    Wait,
    End,
}

/// A pass from the first byte to the last.
#[derive(Debug)]
pub(super) struct Pass {
    demux: Demux,
    /// A demuxer gives a few at once.
    ready: VecDeque<Event>,
    /// Records of tracks that had no frame yet; [`TRACKS_MAX`](crate::limits::TRACKS_MAX) at most.
    configs: Vec<Track>,
    skipped: u64,
}

#[derive(Debug)]
enum Demux {
    /// What it is is not known yet: bytes so far.
    Sniff(Input, BytesMut),
    Flv(Input, Box<flv::Reader>),
    MpegTs(Input, Box<mpegts::Demuxer>),
    Fragmented(Input, Box<Fragmented>),
    Plain(Box<Progressive<Input>>),
    Over,
}

#[derive(Debug, Default)]
struct Fragmented {
    demuxer: fmp4::Demuxer,
    rest: Bytes,
    /// For a pipe, which was not looked through before.
    walk: Option<BoxWalk>,
}

impl Pass {
    pub(super) fn new(input: Input) -> Self {
        let demux = Demux::Sniff(input, BytesMut::new());
        Self { demux, ready: VecDeque::new(), configs: Vec::new(), skipped: 0 }
    }

    /// Tags and packets that could not be read.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }

    pub(super) fn next(&mut self) -> Result<Step, SourceError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Step::Event(event));
            }
            match &mut self.demux {
                Demux::Over => return Ok(Step::End),
                Demux::Plain(file) => match file.next_event()? {
                    Some(event) => self.on_mp4(event),
                    None => self.demux = Demux::Over,
                },
                Demux::Sniff(input, _)
                | Demux::Flv(input, _)
                | Demux::MpegTs(input, _)
                | Demux::Fragmented(input, _) => match input.part()? {
                    Part::Bytes(bytes) => self.push(bytes)?,
                    Part::Wait => return Ok(Step::Wait),
                    Part::End => self.finish()?,
                },
            }
        }
    }

    fn push(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        match &mut self.demux {
            Demux::Sniff(_, gathered) => {
                gathered.extend_from_slice(&bytes);
                if gathered.len() >= INGEST_SNIFF_BYTES { self.begin() } else { Ok(()) }
            }
            Demux::Flv(_, reader) => {
                reader.push(bytes);
                loop {
                    match reader.poll(Instant::ZERO) {
                        Ok(Some(flv::Event::Track(track))) => self.ready.push_back(Event::Track(track.id)),
                        Ok(Some(flv::Event::Frame(frame))) => self.ready.push_back(Event::Frame(frame)),
                        Ok(None) => return Ok(()),
                        Err(error @ (FlvError::Header | FlvError::Tracks | FlvError::ConfigBytes)) => {
                            return Err(error.into());
                        }
                        Err(_) => self.skipped += 1,
                    }
                }
            }
            Demux::MpegTs(_, demuxer) => {
                self.skipped += u64::from(demuxer.push(Instant::ZERO, &bytes).is_err());
                take_ts(demuxer, &mut self.ready);
                Ok(())
            }
            Demux::Fragmented(_, file) => {
                if let Some(walk) = &mut file.walk {
                    match walk.push(&bytes)? {
                        Some(false) => return Err(SourceError::NotSeekable),
                        Some(true) => file.walk = None,
                        None => {}
                    }
                }
                file.rest = bytes;
                let mut events = Vec::new();
                while let Some(event) = file.demuxer.push(&mut file.rest)? {
                    events.push(event);
                }
                events.into_iter().for_each(|event| self.on_mp4(event));
                Ok(())
            }
            Demux::Plain(_) | Demux::Over => Ok(()),
        }
    }

    /// There are no more bytes.
    fn finish(&mut self) -> Result<(), SourceError> {
        match &mut self.demux {
            // A short one may be known nevertheless.
            Demux::Sniff(_, gathered) if gathered.is_empty() => self.demux = Demux::Over,
            Demux::Sniff(..) => return self.begin(),
            Demux::MpegTs(_, demuxer) => {
                self.skipped += u64::from(demuxer.finish(Instant::ZERO).is_err());
                take_ts(demuxer, &mut self.ready);
                self.demux = Demux::Over;
            }
            _ => self.demux = Demux::Over,
        }
        Ok(())
    }

    /// Enough is there to know what it is.
    fn begin(&mut self) -> Result<(), SourceError> {
        let Demux::Sniff(mut input, gathered) = std::mem::replace(&mut self.demux, Demux::Over) else {
            return Ok(());
        };
        let limits = Limits::default();
        self.demux = match Kind::of(&gathered).ok_or(SourceError::Unknown)? {
            Kind::Flv => Demux::Flv(input, Box::default()),
            Kind::MpegTs => Demux::MpegTs(input, Box::new(mpegts::Demuxer::new((&limits).into()))),
            Kind::Mp4 if !input.is_seekable() => {
                let file = Fragmented { walk: Some(BoxWalk::default()), ..Fragmented::default() };
                Demux::Fragmented(input, Box::new(file))
            }
            Kind::Mp4 => {
                let fragmented = is_fragmented(&mut input)?;
                if !fragmented {
                    self.demux = Demux::Plain(Box::new(Progressive::open(input)?));
                    return Ok(());
                }
                input.seek(SeekFrom::Start(gathered.len() as u64))?;
                Demux::Fragmented(input, Box::default())
            }
        };
        self.push(gathered.freeze())
    }

    /// In MP4 records stand beside the tracks: each is told before the first frame.
    fn on_mp4(&mut self, event: fmp4::Event) {
        match event {
            fmp4::Event::Track(track) => {
                self.ready.push_back(Event::Track(track.id));
                self.configs.retain(|other| other.id != track.id);
                if !track.config.is_empty() {
                    self.configs.push(track);
                }
            }
            fmp4::Event::Frame(frame) => {
                if let Some(at) = self.configs.iter().position(|track| track.id == frame.track) {
                    let track = self.configs.swap_remove(at);
                    self.ready.push_back(Event::Frame(config(track, frame.dts)));
                }
                self.ready.push_back(Event::Frame(frame));
            }
        }
    }
}

fn config(track: Track, at: Timestamp) -> Frame {
    let frame = Frame::config(track.codec, at, track.config).on_track(track.id);
    debug_assert!(frame.kind == FrameKind::Config);
    frame
}

fn take_ts(demuxer: &mut mpegts::Demuxer, ready: &mut VecDeque<Event>) {
    while let Some(event) = demuxer.poll() {
        ready.push_back(match event {
            mpegts::Event::Track(track) => Event::Track(track.id),
            mpegts::Event::Ended(track) => Event::Ended(track),
            mpegts::Event::Frame(frame) => Event::Frame(frame),
        });
    }
}
