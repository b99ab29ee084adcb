//! The recording of one stream on its storage thread: fragments, segments, and what to do when they cannot be written.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::container::{Change, SegmentMuxer, Tracks};
use super::gap::{GapCause, Gaps};
use super::index::{Begun, Index, SegmentEntry};
use super::recover::bring_in;
use super::shared::Shared;
use super::{RecordSpec, index_name};
use crate::clock::{Instant, Now, Wall};
use crate::extension::{ObjectName, ObjectWriter, StorageBackend, StorageError};
use crate::id::StreamKey;
use crate::limits::{RECORD_FRAGMENT_BYTES_MAX, RECORD_FRAGMENT_FRAMES_MAX};
use crate::media::{Frame, FrameFlags, FrameKind, Media, Timestamp};

/// A track whose time goes on so much later goes on in another segment.
const JUMP: Timestamp = Timestamp::from_millis(10_000);
/// A storage that failed is asked again after this, then after twice as long each time,
const PATIENCE_FIRST: Duration = Duration::from_millis(250);
/// up to this.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// Between two looks for what is too old.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// Names that are tried for one segment, where others are taken.
const NAMES_MAX: u32 = 16;

/// One stream's recording.
pub(super) struct StreamWriter {
    storage: Arc<dyn StorageBackend>,
    key: StreamKey,
    spec: RecordSpec,
    shared: Arc<Shared>,
    /// Read before the first segment.
    index: Option<Index>,
    tracks: Tracks,
    /// Frames that are not written yet, in order.
    fragment: Vec<(Frame, Wall)>,
    fragment_bytes: usize,
    segment: Option<Segment>,
    gaps: Gaps,
    /// The segment ends at the next frame at which a decoder can start.
    cut: bool,
    /// The next segment does not go on from the one before,
    discontinuity: bool,
    /// nor does the one that begins at the next cut.
    jumped: bool,
    /// Frames are left out until then, and until a decoder can start.
    waiting: Option<Waiting>,
    patience: Duration,
    /// The latest decode time of this timeline.
    newest: Option<Timestamp>,
    /// When the last frame came.
    came: Instant,
    tidied: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    until: Instant,
    cause: GapCause,
}

/// The segment that is being written.
struct Segment {
    name: ObjectName,
    number: u64,
    start: Wall,
    /// Least decode time.
    first: Timestamp,
    /// Where the last fragment ends.
    end: Timestamp,
    bytes: u64,
    frames: u64,
    keyframe: bool,
    discontinuity: bool,
    muxer: SegmentMuxer,
    writer: Box<dyn ObjectWriter>,
}

impl StreamWriter {
    pub(super) fn new(
        storage: Arc<dyn StorageBackend>,
        key: StreamKey,
        spec: RecordSpec,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            storage,
            key,
            spec,
            shared,
            index: None,
            tracks: Tracks::default(),
            fragment: Vec::new(),
            fragment_bytes: 0,
            segment: None,
            gaps: Gaps::default(),
            cut: false,
            // Nobody knows what was before.
            discontinuity: true,
            jumped: false,
            waiting: None,
            patience: PATIENCE_FIRST,
            newest: None,
            came: Instant::ZERO,
            tidied: Instant::ZERO,
        }
    }

    /// Frames are missing before the next one.
    pub(super) fn on_gap(&mut self, cause: GapCause, frames: u64, now: Now) {
        // A fragment ends here, or the last frame before the gap would last until its end.
        self.flush(None, now);
        self.gaps.lose_after_last(cause, frames);
    }

    pub(super) fn on_frame(&mut self, frame: Frame, now: Now) {
        let at = when(&frame, now);
        self.came = now.mono;
        if frame.kind == FrameKind::Config {
            match self.tracks.configure(&frame) {
                Change::Changed => {
                    self.flush(None, now);
                    self.end_segment(now);
                }
                Change::Told => self.cut = true,
                Change::None | Change::TooMany => {}
            }
            return;
        }
        if frame.kind == FrameKind::Data && frame.codec.media() != Media::Data {
            // Colour metadata, channel mappings: told by configurations where a container has a place for them.
            return self.shared.add(&self.shared.left_out, 1);
        }
        if self.tracks.see(&frame) == Change::Changed {
            self.flush(None, now);
            self.end_segment(now);
        }
        self.notice_jump(&frame, now);
        let starts = self.tracks.is_start(&frame);
        if !self.has_waited(starts, now.mono) {
            return self.lose_one(at);
        }
        let media = frame.codec.media() != Media::Data;
        let place = match &self.segment {
            Some(segment) => {
                let carried = segment.muxer.carries(frame.track) && (media || frame.dts >= segment.first);
                // A track that began a moment ago is in the next segment, if the container carries it at all.
                self.cut |= !carried && media && self.tracks.last(frame.track).is_none();
                let bytes = segment.bytes.saturating_add(self.fragment_bytes as u64);
                if self.cut && starts || is_over(&self.spec, frame.dts - segment.first, bytes, starts) {
                    Place::NextSegment
                } else if carried {
                    Place::Here
                } else {
                    Place::None
                }
            }
            None => match self.fragment.first() {
                Some((first, _)) => {
                    let over = is_over(&self.spec, frame.dts - first.dts, self.fragment_bytes as u64, starts);
                    if self.cut && starts || over { Place::NextSegment } else { Place::Here }
                }
                None => Place::Here,
            },
        };
        match place {
            Place::NextSegment => {
                self.flush(Some(&frame), now);
                self.end_segment(now);
            }
            Place::Here if self.is_fragment_over(&frame, starts) => self.flush(Some(&frame), now),
            Place::Here => {}
            Place::None if self.cut && media && self.tracks.last(frame.track).is_none() => {
                self.gaps.lose(GapCause::Track, at, 1);
                return self.shared.lose(GapCause::Track, 1);
            }
            Place::None => {
                self.tracks.set_last(&frame);
                return self.shared.add(&self.shared.left_out, 1);
            }
        }
        // The storage may have failed a moment ago.
        if self.waiting.is_some() {
            return self.lose_one(at);
        }
        self.tracks.set_last(&frame);
        self.fragment_bytes = self.fragment_bytes.saturating_add(frame.payload.len());
        self.fragment.push((frame, at));
    }

    /// What is due without a frame.
    pub(super) fn tidy(&mut self, now: Now) {
        if !self.fragment.is_empty() && now.mono.since(self.came) > self.spec.fragment_duration {
            self.flush(None, now);
        }
        if now.mono.since(self.tidied) >= TIDY_EVERY {
            self.expire(now);
        }
    }

    /// No frame follows, but these are missing at the end.
    pub(super) fn finish(&mut self, owed: [(GapCause, u64); 2], now: Now) {
        self.flush(None, now);
        for (cause, frames) in owed {
            self.gaps.lose_after_last(cause, frames);
        }
        self.gaps.end(now.wall);
        self.end_segment(now);
        let gaps = self.gaps.take();
        if !gaps.is_empty() && self.load(now).is_ok() {
            let written = self.index.as_mut().map_or(Ok(()), |index| index.missing(&*self.storage, gaps));
            if let Err(error) = written {
                self.shared.failed(error);
            }
        }
        self.shared.finished.store(true, Relaxed);
    }

    /// Whether frames are taken again, if they were not.
    fn has_waited(&mut self, starts: bool, now: Instant) -> bool {
        let Some(waiting) = self.waiting else { return true };
        if now < waiting.until || !starts {
            return false;
        }
        self.waiting = None;
        true
    }

    fn lose_one(&mut self, at: Wall) {
        let cause = self.waiting.map_or(GapCause::Storage, |waiting| waiting.cause);
        self.gaps.lose(cause, at, 1);
        self.shared.lose(cause, 1);
    }

    /// Another publisher, or a clock that jumped: no container can say both times in one file.
    fn notice_jump(&mut self, frame: &Frame, now: Now) {
        if frame.flags.contains(FrameFlags::DISCONTINUITY) {
            (self.cut, self.jumped) = (true, true);
        }
        // Data may come as late, and as seldom, as they like.
        if frame.codec.media() == Media::Data {
            return;
        }
        let falls = self.tracks.last(frame.track).is_some_and(|last| frame.dts < last)
            || self.segment.as_ref().is_some_and(|segment| frame.dts < segment.first);
        let jumps = self.newest.is_some_and(|newest| frame.dts - newest > JUMP);
        if falls || jumps {
            self.flush(None, now);
            self.end_segment(now);
            self.tracks.forget_times();
            (self.discontinuity, self.newest) = (true, None);
        }
        self.newest = self.newest.max(Some(frame.dts));
    }

    fn is_fragment_over(&self, frame: &Frame, starts: bool) -> bool {
        let Some((first, _)) = self.fragment.first() else { return false };
        let long = nanos(frame.dts - first.dts);
        let due = u64::try_from(self.spec.fragment_duration.as_nanos()).unwrap_or(u64::MAX);
        // A fragment that begins with a keyframe is worth some time.
        long >= due
            || starts && long >= due / 2
            || self.fragment.len() >= RECORD_FRAGMENT_FRAMES_MAX
            || self.fragment_bytes.saturating_add(frame.payload.len()) > RECORD_FRAGMENT_BYTES_MAX
    }

    /// Writes what is gathered: all of it, or it is named as missing.
    fn flush(&mut self, next: Option<&Frame>, now: Now) {
        let gathered = std::mem::take(&mut self.fragment);
        self.fragment_bytes = 0;
        let (Some(&(_, from)), Some(&(_, to))) = (gathered.first(), gathered.last()) else { return };
        let frames: Vec<Frame> = gathered.into_iter().map(|(frame, _)| frame).collect();
        let count = frames.len() as u64;
        if let Err(failure) = self.write(&frames, (from, to), next, now) {
            let cause = match failure {
                Failure::Unwritable => GapCause::Unwritable,
                Failure::Storage(StorageError::NoRoom) => GapCause::NoRoom,
                Failure::Storage(_) => GapCause::Storage,
            };
            self.gaps.lose(cause, from, count);
            self.shared.lose(cause, count);
            match failure {
                Failure::Unwritable => {
                    self.waiting = Some(Waiting { until: now.mono, cause });
                    self.end_segment(now);
                }
                Failure::Storage(error) => {
                    self.fail(error, now);
                    self.end_segment(now);
                }
            }
        }
    }

    /// `times`: when the first and the last of the frames were there.
    fn write(
        &mut self,
        frames: &[Frame],
        times: (Wall, Wall),
        next: Option<&Frame>,
        now: Now,
    ) -> Result<(), Failure> {
        if self.segment.is_none() {
            self.segment = Some(self.begin_segment(frames, times.0, now)?);
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let muxed = segment.muxer.fragment(frames, next).ok_or(Failure::Unwritable)?;
        let written = segment.writer.write(&muxed.pieces);
        written.map_err(Failure::Storage)?;
        let bytes = muxed.pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(piece.len() as u64));
        segment.bytes = segment.bytes.saturating_add(bytes);
        segment.frames += muxed.frames;
        let last = frames.iter().map(|frame| frame.dts).max().unwrap_or(segment.end);
        segment.end = segment.end.max(next.map_or_else(|| last + step(frames), |next| next.dts.max(last)));
        self.gaps.close(times.0, times.1);
        let shared = &self.shared;
        shared.add(&shared.bytes, bytes);
        shared.add(&shared.fragments, 1);
        shared.add(&shared.recorded, muxed.frames);
        let left_out = (frames.len() as u64).saturating_sub(muxed.frames + muxed.unwritable);
        shared.add(&shared.left_out, left_out);
        if muxed.unwritable > 0 {
            self.gaps.lose(GapCause::Unwritable, times.0, muxed.unwritable);
            shared.lose(GapCause::Unwritable, muxed.unwritable);
        }
        self.patience = PATIENCE_FIRST;
        shared.resting.store(false, Relaxed);
        if self.spec.sync_fragments {
            // What is there is there; that it may not outlive a power loss is an error, but no gap.
            if let Err(error) = segment.writer.sync() {
                self.fail(error, now);
                self.end_segment(now);
            }
        }
        Ok(())
    }

    fn begin_segment(&mut self, frames: &[Frame], start: Wall, now: Now) -> Result<Segment, Failure> {
        let muxer = SegmentMuxer::new(self.spec.format, &self.tracks, frames).ok_or(Failure::Unwritable)?;
        self.load(now).map_err(Failure::Storage)?;
        let Some(index) = &mut self.index else { return Err(Failure::Unwritable) };
        let mut number = index.next_number();
        let mut tried = 0;
        let (name, writer) = loop {
            let name = self.spec.template.expand(&self.key, start, number, self.spec.format);
            let name = name.map_err(|_| Failure::Unwritable)?;
            match self.storage.begin(&name) {
                Ok(writer) => break (name, writer),
                // An index that was lost, or another stream whose names look the same.
                Err(StorageError::Exists) if tried < NAMES_MAX => {
                    (number, tried) = (number.saturating_add(1), tried + 1);
                }
                Err(error) => return Err(Failure::Storage(error)),
            }
        };
        let discontinuity = self.discontinuity;
        let begun = Begun { name: name.clone(), number, start, format: self.spec.format, discontinuity };
        if let Err(error) = index.begin(&*self.storage, begun) {
            writer.abort();
            return Err(Failure::Storage(error));
        }
        self.discontinuity = false;
        self.shared.add(&self.shared.segments, 1);
        let first = frames.iter().map(|frame| frame.dts).min().unwrap_or_default();
        let keyframe = frames.iter().find(|frame| frame.is_video()).is_some_and(Frame::is_key);
        Ok(Segment {
            name,
            number,
            start,
            first,
            end: first,
            bytes: 0,
            frames: 0,
            keyframe,
            discontinuity,
            muxer,
            writer,
        })
    }

    fn load(&mut self, now: Now) -> Result<(), StorageError> {
        if self.index.is_none() {
            // Checked when the recording began.
            let name = index_name(&self.key).map_err(|_| StorageError::NotFound)?;
            let (mut index, begun) = Index::load(&*self.storage, name)?;
            let recovered = bring_in(&*self.storage, &mut index, begun)?;
            self.shared.add(&self.shared.recovered, recovered);
            self.index = Some(index);
            self.expire(now);
        }
        Ok(())
    }

    fn end_segment(&mut self, now: Now) {
        self.cut = false;
        self.discontinuity |= std::mem::take(&mut self.jumped);
        let Some(segment) = self.segment.take() else { return };
        let Some(index) = &mut self.index else { return };
        let noted = if segment.frames == 0 {
            segment.writer.abort();
            index.empty(&*self.storage, segment.number)
        } else {
            if let Err(error) = segment.writer.finish() {
                self.shared.failed(error);
            }
            let duration = nanos(segment.end - segment.first);
            index.complete(
                &*self.storage,
                SegmentEntry {
                    name: segment.name,
                    number: segment.number,
                    start: segment.start,
                    end: Wall(segment.start.0.saturating_add(duration)),
                    duration_ms: duration / 1_000_000,
                    bytes: segment.bytes,
                    frames: segment.frames,
                    format: self.spec.format,
                    codecs: segment.muxer.codecs,
                    keyframe: segment.keyframe,
                    discontinuity: segment.discontinuity,
                    recovered: false,
                    gaps: self.gaps.take(),
                },
            )
        };
        match noted {
            Ok(()) => self.expire(now),
            Err(error) => self.fail(error, now),
        }
    }

    fn expire(&mut self, now: Now) {
        self.tidied = now.mono;
        if self.spec.retain_for.is_none() && self.spec.retain_bytes.is_none() {
            return;
        }
        let Some(index) = &mut self.index else { return };
        match index.expire(&*self.storage, &self.spec, now.wall) {
            Ok(deleted) => self.shared.add(&self.shared.deleted, deleted),
            // It is tried again by the next look.
            Err(error) => self.shared.failed(error),
        }
    }

    /// The storage is left alone for a while.
    fn fail(&mut self, error: StorageError, now: Now) {
        self.shared.failed(error);
        self.shared.resting.store(true, Relaxed);
        let cause = if error == StorageError::NoRoom { GapCause::NoRoom } else { GapCause::Storage };
        self.waiting = Some(Waiting { until: now.mono + self.patience, cause });
        self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
    }
}

/// Where a frame goes.
enum Place {
    Here,
    NextSegment,
    None,
}

enum Failure {
    /// The container has no place for it.
    Unwritable,
    Storage(StorageError),
}

/// Whether a segment of this length ends before a frame, at which a decoder can start or not.
fn is_over(spec: &RecordSpec, long: Timestamp, bytes: u64, starts: bool) -> bool {
    // Where no decoder can start for so long, it must end all the same.
    let times = if starts { 1 } else { 2 };
    let duration = u64::try_from(spec.segment_duration.as_nanos()).unwrap_or(u64::MAX);
    nanos(long) >= duration.saturating_mul(times) || bytes >= spec.segment_bytes.saturating_mul(times)
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}

/// How long the frame lasts that ends last.
fn step(frames: &[Frame]) -> Timestamp {
    let Some(last) = frames.iter().max_by_key(|frame| frame.dts) else { return Timestamp::ZERO };
    let before = frames.iter().rev().filter(|frame| frame.track == last.track && frame.dts < last.dts);
    before.map(|frame| frame.dts).max().map_or(Timestamp::ZERO, |before| last.dts - before)
}

/// When a frame was there, on the wall clock.
fn when(frame: &Frame, now: Now) -> Wall {
    // A frame that no router has seen is here now.
    if frame.origin == Instant::ZERO {
        return now.wall;
    }
    let age = u64::try_from(now.mono.since(frame.origin).as_nanos()).unwrap_or(0);
    Wall(now.wall.0.saturating_sub(age))
}
