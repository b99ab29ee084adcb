//! Reads a stream of fragmented MP4 as it comes.
//!
//! Held are the movie box, the headers of one fragment, and the beginning of a sample that is not there whole; all
//! else is cut out of what was pushed. A box that is not known is passed over, however long it is.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::boxes::{FourCc, Header};
use super::movie::{self, FileTrack};
use super::runs::{self, MOOF, SampleRun};
use super::{Event, Mp4Error};
use crate::limits::MP4_BOX_BYTES_MAX;
use crate::media::Track;

const MOOV: FourCc = FourCc(*b"moov");
const MDAT: FourCc = FourCc(*b"mdat");
/// A header with a size of 64 bits.
const LONGEST_HEADER: usize = 16;

/// Turns bytes into tracks and frames.
#[derive(Debug, Default)]
pub struct Demuxer {
    state: State,
    /// Bytes taken so far: where in the stream the next one lies.
    at: u64,
    /// What is gathered of a box or of a sample.
    held: BytesMut,
    tracks: Vec<FileTrack>,
    /// Tracks that are still to be told.
    told: VecDeque<Track>,
    /// Runs of the fragment whose data follow, in the order in which they lie.
    runs: VecDeque<SampleRun>,
    /// A movie box was there.
    begun: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Between two boxes, or within a header.
    #[default]
    Between,
    /// Within a box that is read as a whole; so many bytes of its body are missing. It began at `start`.
    Gather { kind: FourCc, missing: usize, start: u64 },
    /// Within a box that is passed over, or data that nothing points to, up to there.
    Pass { end: u64 },
    /// Within `mdat`, which goes on to there.
    Data { end: u64 },
}

/// What came of one step.
enum Step {
    Event(Event),
    Again,
    /// All that was pushed is taken.
    More,
}

impl Demuxer {
    /// At the beginning of a file or a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes from `bytes` what the next event needs: to be called until it gives `None`, when all is taken.
    ///
    /// # Errors
    /// What was pushed is no MP4, or exceeds a bound. Nothing that is pushed afterwards makes sense.
    pub fn push(&mut self, bytes: &mut Bytes) -> Result<Option<Event>, Mp4Error> {
        loop {
            if let Some(track) = self.told.pop_front() {
                return Ok(Some(Event::Track(track)));
            }
            let step = match self.state {
                State::Between => self.between(bytes)?,
                State::Gather { kind, missing, start } => self.gather(bytes, kind, missing, start)?,
                State::Pass { end } => self.pass(bytes, end),
                State::Data { end } => self.data(bytes, end)?,
            };
            match step {
                Step::Event(event) => return Ok(Some(event)),
                Step::Again => {}
                Step::More => return Ok(None),
            }
        }
    }

    /// Whether the stream could end here: not within a box or with samples missing.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let between = match self.state {
            State::Between => self.held.is_empty(),
            State::Pass { end } | State::Data { end } => end == u64::MAX,
            State::Gather { .. } => false,
        };
        between && self.runs.is_empty()
    }

    fn between(&mut self, bytes: &mut Bytes) -> Result<Step, Mp4Error> {
        let held = self.held.len();
        let start = self.at.saturating_sub(held as u64);
        let mut header = if held == 0 { Header::read(bytes)? } else { None };
        if header.is_none() {
            // A header that is cut is gathered.
            let wanted = LONGEST_HEADER.saturating_sub(held).min(bytes.len());
            self.held.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
            header = Header::read(&self.held)?;
        }
        let Some(header) = header else {
            let taken = self.held.len().saturating_sub(held);
            bytes.advance(taken);
            self.at = self.at.saturating_add(taken as u64);
            return Ok(Step::More);
        };
        self.held.clear();
        let taken = header.length.saturating_sub(held);
        bytes.advance(taken.min(bytes.len()));
        self.at = self.at.saturating_add(taken as u64);
        let end = header.body.map_or(u64::MAX, |body| self.at.saturating_add(body));
        self.state = match header.kind {
            kind @ (MOOV | MOOF) => {
                if kind == MOOF && !self.begun {
                    return Err(Mp4Error::Missing(MOOV));
                }
                if !self.runs.is_empty() {
                    return Err(Mp4Error::Place);
                }
                let missing = header.body.and_then(|body| usize::try_from(body).ok());
                let missing = missing.filter(|missing| *missing <= MP4_BOX_BYTES_MAX);
                State::Gather { kind, missing: missing.ok_or(Mp4Error::TooLong(kind))?, start }
            }
            MDAT => State::Data { end },
            _ => State::Pass { end },
        };
        Ok(Step::Again)
    }

    fn gather(&mut self, bytes: &mut Bytes, kind: FourCc, missing: usize, start: u64) -> Result<Step, Mp4Error> {
        let part = bytes.split_to(missing.min(bytes.len()));
        self.at = self.at.saturating_add(part.len() as u64);
        if part.len() < missing {
            let missing = missing.saturating_sub(part.len());
            self.held.extend_from_slice(&part);
            self.state = State::Gather { kind, missing, start };
            return Ok(Step::More);
        }
        let body = if self.held.is_empty() {
            part
        } else {
            self.held.extend_from_slice(&part);
            mem::take(&mut self.held).freeze()
        };
        self.state = State::Between;
        if kind == MOOV {
            self.tracks = movie::read(&body, |_, _| Ok(()))?;
            self.told = self.tracks.iter().filter_map(|track| track.known.clone()).collect();
            self.begun = true;
        } else {
            self.runs = runs::read(&body, start, &mut self.tracks)?.into();
            if self.runs.front().is_some_and(|run| run.at < self.at) {
                return Err(Mp4Error::Place);
            }
        }
        Ok(Step::Again)
    }

    fn pass(&mut self, bytes: &mut Bytes, end: u64) -> Step {
        self.take(bytes, end);
        if self.at < end {
            return Step::More;
        }
        self.state = State::Between;
        Step::Again
    }

    /// Passes over what lies before `end`.
    fn take(&mut self, bytes: &mut Bytes, end: u64) {
        let passed = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(passed);
        self.at = self.at.saturating_add(passed as u64);
    }

    fn data(&mut self, bytes: &mut Bytes, end: u64) -> Result<Step, Mp4Error> {
        let Some(run) = self.runs.front_mut() else {
            self.state = State::Pass { end };
            return Ok(Step::Again);
        };
        let Some(sample) = run.peek()? else {
            self.runs.pop_front();
            return Ok(Step::Again);
        };
        // Where the sample begins; a part of it may be held.
        let start = run.at;
        if start >= end {
            // It lies in another box of data.
            self.state = State::Pass { end };
            return Ok(Step::Again);
        }
        if self.held.is_empty() && self.at > start {
            return Err(Mp4Error::Place);
        }
        if self.held.is_empty() && self.at < start {
            self.take(bytes, start);
            if self.at < start {
                return Ok(Step::More);
            }
        }
        let size = usize::try_from(sample.size).unwrap_or(usize::MAX);
        if start.saturating_add(sample.size.into()) > end {
            return Err(Mp4Error::Place);
        }
        let missing = size.saturating_sub(self.held.len());
        let part = bytes.split_to(missing.min(bytes.len()));
        self.at = self.at.saturating_add(part.len() as u64);
        if part.len() < missing {
            self.held.extend_from_slice(&part);
            return Ok(Step::More);
        }
        let payload = if self.held.is_empty() {
            part
        } else {
            self.held.extend_from_slice(&part);
            mem::take(&mut self.held).freeze()
        };
        let Some(run) = self.runs.front_mut() else { return Ok(Step::Again) };
        let decode = run.decode;
        run.advance()?;
        let track = self.tracks.get(run.track);
        let known = track.and_then(|track| track.known.as_ref().map(|known| (known, track.shift)));
        match known {
            // A sample without bytes only lets time pass.
            Some((known, shift)) if !payload.is_empty() => {
                Ok(Step::Event(Event::Frame(runs::frame(known, shift, decode, sample, payload)?)))
            }
            _ => Ok(Step::Again),
        }
    }
}
