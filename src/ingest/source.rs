//! A file as an endless stream: lap after lap, on one timeline.
//!
//! Every lap is moved by the same time for all tracks, so their relation stays what it is in the file, to the
//! nanosecond, however many laps there are. A lap lasts as long as its media: from the first picture or sound that is
//! shown to the end of the last one, and no shorter than any track takes to be decoded.

use std::path::Path;

use bytes::Bytes;

use super::SourceError;
use super::demux::{Event, Pass, Step};
use super::input::Place;
use super::interleave::Interleaver;
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Media, Timestamp, TrackId};

/// Frames of a file or a pipe, from time 0 on, in order of decoding time.
///
/// Pictures before the first keyframe of a lap are left out: nobody could decode them. So is metadata of the file, and
/// a decoder configuration record that is in force already. Where a track goes on with another codec its first frame
/// carries the discontinuity.
#[derive(Debug)]
pub struct FileSource {
    place: Place,
    looping: bool,
    pass: Pass,
    interleaver: Interleaver,
    /// What this lap is moved by.
    offset: Timestamp,
    extents: Vec<Extent>,
    /// The earliest time in the first lap, which becomes 0.
    base: Option<Timestamp>,
    laps: u64,
    in_force: Vec<InForce>,
    pipe: bool,
    over: bool,
    left_out: u64,
}

/// What a source gives.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Frame),
    /// Nothing, yet: whoever writes into the pipe pauses.
    Wait,
    /// There is no more.
    End,
}

/// From where to where a track goes in one lap, in the times of the file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    track: TrackId,
    dts: (Timestamp, Timestamp),
    pts: (Timestamp, Timestamp),
    frames: i64,
    /// A keyframe was there.
    begun: bool,
}

/// What decoders of a track were told last.
#[derive(Clone, Debug)]
struct InForce {
    track: TrackId,
    codec: Codec,
    config: Bytes,
    /// The next frame has another codec than those before.
    changed: bool,
}

impl FileSource {
    /// Opens a file, or a pipe: `-` is the standard input. What it is is told by its bytes.
    ///
    /// # Errors
    /// It cannot be opened, or it is a pipe and should loop.
    pub fn open(path: &Path, looping: bool) -> Result<Self, SourceError> {
        Self::at(Place::of(path), looping)
    }

    /// Reads from memory.
    ///
    /// # Errors
    /// None, as yet.
    pub fn of_bytes(bytes: Bytes, looping: bool) -> Result<Self, SourceError> {
        Self::at(Place::Memory(bytes), looping)
    }

    fn at(place: Place, looping: bool) -> Result<Self, SourceError> {
        let input = place.open()?;
        let pipe = !input.is_seekable();
        if pipe && looping {
            return Err(SourceError::NotLooped);
        }
        Ok(Self {
            place,
            looping,
            pass: Pass::new(input),
            interleaver: Interleaver::default(),
            offset: Timestamp::ZERO,
            extents: Vec::new(),
            base: None,
            laps: 0,
            in_force: Vec::new(),
            pipe,
            over: false,
            left_out: 0,
        })
    }

    /// The next frame. Its origin is not set.
    ///
    /// # Errors
    /// It cannot be read on.
    pub fn next_frame(&mut self) -> Result<Next, SourceError> {
        loop {
            if let Some(frame) = self.interleaver.pop(self.over) {
                return Ok(Next::Frame(self.rebased(frame)));
            }
            if self.over {
                return Ok(Next::End);
            }
            match self.pass.next()? {
                Step::Wait => return Ok(Next::Wait),
                Step::Event(Event::Track(track)) => self.interleaver.track(track),
                Step::Event(Event::Ended(track)) => self.interleaver.ended(track),
                Step::Event(Event::Frame(frame)) => self.take(frame),
                Step::End => self.end_of_lap()?,
            }
        }
    }

    /// Laps that were read to their end.
    #[must_use]
    pub const fn laps(&self) -> u64 {
        self.laps
    }

    /// Whether it comes through a pipe, which has no second lap but perhaps another writer.
    #[must_use]
    pub const fn is_pipe(&self) -> bool {
        self.pipe
    }

    /// Pictures that nobody could have decoded, and what could not be read.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out.saturating_add(self.pass.skipped())
    }

    fn take(&mut self, mut frame: Frame) {
        let media = matches!(frame.kind, FrameKind::Key | FrameKind::Delta | FrameKind::Audio);
        if frame.codec.media() == Media::Data && frame.kind == FrameKind::Config {
            return;
        }
        if media && !self.measure(&frame) {
            self.left_out += 1;
            return;
        }
        if !self.is_news(&mut frame) {
            return;
        }
        frame.dts = frame.dts + self.offset;
        frame.pts = frame.pts + self.offset;
        self.interleaver.push(frame);
    }

    /// Notes how far the lap goes; whether the frame can be decoded.
    fn measure(&mut self, frame: &Frame) -> bool {
        let at = self.extents.iter().position(|extent| extent.track == frame.track).unwrap_or(self.extents.len());
        if at == self.extents.len() {
            let (dts, pts) = ((frame.dts, frame.dts), (frame.pts, frame.pts));
            self.extents.push(Extent { track: frame.track, dts, pts, frames: 0, begun: false });
        }
        let extent = &mut self.extents[at];
        if !extent.begun && frame.kind == FrameKind::Delta {
            return false;
        }
        if !extent.begun {
            (extent.dts, extent.pts) = ((frame.dts, frame.dts), (frame.pts, frame.pts));
            extent.begun = true;
        }
        extent.dts = (extent.dts.0.min(frame.dts), extent.dts.1.max(frame.dts));
        extent.pts = (extent.pts.0.min(frame.pts), extent.pts.1.max(frame.pts));
        extent.frames += 1;
        true
    }

    /// Whether a record differs from that in force; and marks the first frame of another codec.
    fn is_news(&mut self, frame: &mut Frame) -> bool {
        let Some(known) = self.in_force.iter_mut().find(|known| known.track == frame.track) else {
            let config = if frame.kind == FrameKind::Config { frame.payload.clone() } else { Bytes::new() };
            self.in_force.push(InForce { track: frame.track, codec: frame.codec, config, changed: false });
            return true;
        };
        if known.codec != frame.codec {
            (known.codec, known.config, known.changed) = (frame.codec, Bytes::new(), true);
        }
        if frame.kind == FrameKind::Config {
            let news = known.config != frame.payload;
            known.config = frame.payload.clone();
            return news;
        }
        if std::mem::take(&mut known.changed) {
            frame.flags = frame.flags.union(FrameFlags::DISCONTINUITY);
        }
        true
    }

    fn end_of_lap(&mut self) -> Result<(), SourceError> {
        self.laps += 1;
        let extents = std::mem::take(&mut self.extents);
        let length = length(&extents).ok_or(SourceError::Empty)?;
        if !self.looping {
            self.over = true;
            return Ok(());
        }
        self.left_out = self.left_out();
        self.pass = Pass::new(self.place.open()?);
        self.offset = self.offset + length;
        Ok(())
    }

    /// Time begins with the first picture or sound; a record before it may be far from that.
    fn rebased(&mut self, mut frame: Frame) -> Frame {
        if self.base.is_none() && frame.kind == FrameKind::Config {
            (frame.dts, frame.pts) = (Timestamp::ZERO, Timestamp::ZERO);
            return frame;
        }
        let base = *self.base.get_or_insert(frame.dts);
        let composition = frame.pts - frame.dts;
        // Of a track that was found late a frame may be earlier than that.
        frame.dts = (frame.dts - base).max(Timestamp::ZERO);
        frame.pts = frame.dts + composition;
        frame
    }
}

/// How long a lap is; none if there is nothing in it.
fn length(extents: &[Extent]) -> Option<Timestamp> {
    let begun = || extents.iter().filter(|extent| extent.begun);
    let first = begun().map(|extent| extent.pts.0).min()?;
    let last = begun().map(|extent| extent.pts.1 + extent.frame()).max()?;
    let decoding = begun().map(|extent| extent.dts.1 - extent.dts.0 + extent.frame()).max()?;
    Some((last - first).max(decoding))
}

impl Extent {
    /// How long a frame is, on average.
    fn frame(&self) -> Timestamp {
        let between = (self.dts.1 - self.dts.0).0.checked_div(self.frames - 1).unwrap_or(0);
        Timestamp(if between > 0 { between } else { FRAME_UNKNOWN })
    }
}

/// How long a single frame is.
const FRAME_UNKNOWN: i64 = 40_000_000;
