//! Cuts one track into segments and parts.
//!
//! How long a frame lasts is known when the next one is there: so the newest frame is always held, and a part goes
//! out when it is certain that no further frame has room in it.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::measure::part_target;
use super::rendition::{Begin, Content, Info, Piece};
use super::seal::{Keys, Seal};
use super::shelf::{LeftOut, Shelf};
use super::{MILLISECOND, SECOND, Settings, nanos};
use crate::clock::Wall;
use crate::codec::{self, Description};
use crate::container::fmp4::{Head, Muxer, Run};
use crate::limits::{
    HLS_CUTS_MAX, HLS_MEASURED_FRAMES_MAX, HLS_PART_BYTES_MAX, HLS_PART_FRAMES_MAX, HLS_SEGMENT_BYTES_MAX,
    HLS_SEGMENT_PARTS_MAX,
};
use crate::media::{Codec, Frame, Media, Timestamp, Track, TrackId};

/// What all tracks share between two discontinuities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Era {
    /// Discontinuities before it.
    pub(super) number: u64,
    /// The time that is 0 in the files.
    pub(super) origin: Timestamp,
    /// When what is shown at `pts` was made.
    pub(super) wall: Wall,
    pub(super) pts: Timestamp,
}

impl Era {
    /// When what is shown then was made.
    pub(super) fn wall_at(&self, pts: Timestamp) -> Wall {
        Wall(self.wall.0.saturating_add_signed(pts.0.saturating_sub(self.pts.0)))
    }
}

/// What holds for all tracks at a cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A segment is at least so long, in nanoseconds, where keyframes allow it.
    pub(super) segment: i64,
    /// And at most so long.
    pub(super) longest: i64,
    /// What a part should have; none for no parts.
    pub(super) part: Option<i64>,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut rules = Self { segment: nanos(settings.segment), longest: 0, part: settings.part.map(nanos) };
        rules.set_target(settings.segment_max.as_secs().max(rules.least_target()));
        rules
    }

    /// The target duration that segments of the least length have, in seconds.
    pub(super) fn least_target(&self) -> u64 {
        rounded_seconds(self.segment).max(1)
    }

    /// What is rounded to the target is no longer than it (RFC 8216bis, 4.4.3.1).
    pub(super) fn set_target(&mut self, seconds: u64) {
        let target = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND);
        self.longest = target.saturating_add(SECOND / 2).saturating_sub(MILLISECOND);
    }
}

/// To the nearest whole second.
pub(super) fn rounded_seconds(nanos: i64) -> u64 {
    u64::try_from(nanos.saturating_add(SECOND / 2) / SECOND).unwrap_or(0)
}

/// Who says where a track is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It does, and others follow.
    Leads,
    /// It is cut where the leading one was.
    Follows,
}

/// One track.
#[derive(Debug)]
pub(super) struct Cutter {
    id: TrackId,
    video: bool,
    codec: Codec,
    /// The configuration that was announced last, and whether frames have come with it.
    config: Bytes,
    in_force: bool,
    /// None before there was a frame, and for codecs that have no place in a file.
    muxer: Option<Muxer>,
    info: Option<Info>,
    /// Which one it is on the shelf.
    place: Option<usize>,
    /// The discontinuity since which it has had frames.
    era: Option<Era>,
    /// No frame before a keyframe is of use.
    waits_for_key: bool,
    part_target: Option<i64>,
    /// Frames from the time before it is known how long parts are.
    measured: Vec<Frame>,
    /// Frames of the next part; only the end of the last one is not known.
    pending: Vec<Frame>,
    pending_bytes: u64,
    segment: Segment,
    cuts: VecDeque<Timestamp>,
    last: Option<Timestamp>,
    step: i64,
    last_key: Option<Timestamp>,
    closed: u64,
    longest: i64,
    /// Segments are encrypted.
    keys: Option<Keys>,
    /// The one to which the pending frames belong; none where there must be a gap.
    seal: Option<Seal>,
}

/// The segment to which the pending frames belong.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    start: Timestamp,
    /// When its first frame is shown.
    shown: Timestamp,
    /// Nothing of it went out yet: when its first frame is shown.
    begin: Option<Timestamp>,
    parts: usize,
    bytes: u64,
    /// Its parts are not named.
    plain: bool,
}

/// A piece of a segment whose parts are not named.
const PLAIN_PIECE: i64 = SECOND;
/// Frames are measured for so long.
const MEASURED: i64 = SECOND;
/// A frame whose duration nothing tells.
const USUAL_STEP: i64 = 33 * MILLISECOND;

impl Cutter {
    pub(super) const fn new(id: TrackId, codec: Codec, keys: Option<Keys>) -> Self {
        Self {
            id,
            video: matches!(codec.media(), Media::Video),
            codec,
            config: Bytes::new(),
            in_force: false,
            muxer: None,
            info: None,
            place: None,
            era: None,
            waits_for_key: true,
            part_target: None,
            measured: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            segment: Segment {
                start: Timestamp::ZERO,
                shown: Timestamp::ZERO,
                begin: None,
                parts: 0,
                bytes: 0,
                plain: false,
            },
            cuts: VecDeque::new(),
            last: None,
            step: USUAL_STEP,
            last_key: None,
            closed: 0,
            longest: 0,
            keys,
            seal: None,
        }
    }

    pub(super) const fn id(&self) -> TrackId {
        self.id
    }

    pub(super) const fn is_video(&self) -> bool {
        self.video
    }

    /// Whether it has had frames since this discontinuity.
    pub(super) fn is_in(&self, era: u64) -> bool {
        self.era.is_some_and(|own| own.number == era)
    }

    /// Complete segments so far.
    pub(super) const fn closed(&self) -> u64 {
        self.closed
    }

    /// The longest segment so far, the open one counted, in nanoseconds.
    pub(super) fn longest(&self) -> i64 {
        let open = self.last.filter(|_| self.era.is_some() && !self.pending.is_empty());
        let open = open.map_or(0, |last| last.0.saturating_sub(self.segment.start.0));
        self.longest.max(open)
    }

    /// A configuration: in force from the next frame on. A track does not turn from pictures into sound.
    pub(super) fn announce(&mut self, codec: Codec, config: &Bytes) {
        let same_kind = self.video == (codec.media() == Media::Video);
        if same_kind && (self.codec != codec || self.config != *config) {
            self.codec = codec;
            self.config = config.clone();
            self.in_force = false;
        }
    }

    /// Whether time or content jumps with this frame, seen from this track alone.
    pub(super) fn jumps(&self, frame: &Frame, step_max: i64) -> bool {
        let step = self.last.map(|last| frame.dts.0.saturating_sub(last.0));
        !self.in_force || frame.codec != self.codec || step.is_some_and(|step| step < 0 || step > step_max)
    }

    /// Nothing is of use before the next keyframe.
    pub(super) fn wait_for_key(&mut self) {
        self.waits_for_key = self.video;
    }

    pub(super) fn is_waiting(&self, frame: &Frame) -> bool {
        self.waits() && !frame.is_key()
    }

    /// Something is missing before the next frame.
    pub(super) const fn waits(&self) -> bool {
        self.waits_for_key && self.video
    }

    /// Whether it has had any frame.
    pub(super) const fn has_begun(&self) -> bool {
        self.era.is_some()
    }

    /// The first frame since a discontinuity; none where there is no way to put it into a file.
    pub(super) fn begin(&mut self, era: Era, frame: &Frame, shelf: &Shelf) -> Option<()> {
        if frame.codec != self.codec {
            // Without an announcement: what was announced is of another codec.
            self.announce(frame.codec, &Bytes::new());
        }
        if !self.in_force || self.muxer.is_none() {
            self.in_force = true;
            self.muxer = None;
            let (muxer, info) = self.describe(frame)?;
            if let Some(place) = self.place {
                shelf.begin_init(place, info.clone(), muxer.init());
            }
            (self.muxer, self.info) = (Some(muxer), Some(info));
        }
        self.muxer = self.muxer.take().map(|muxer| muxer.starting_at(era.origin));
        self.era = Some(era);
        self.waits_for_key = false;
        self.cuts.clear();
        self.last = None;
        self.last_key = None;
        Some(())
    }

    fn describe(&self, frame: &Frame) -> Option<(Muxer, Info)> {
        let mut config = self.config.clone();
        if config.is_empty() && codec::has_record(self.codec) {
            config = codec::record_of_frame(self.codec, &frame.payload).ok()?;
        }
        let description = Description::read(self.codec, &config, Some(&frame.payload)).ok()?;
        let track = Track {
            id: self.id,
            codec: self.codec,
            timescale: description.sample_rate.unwrap_or(0),
            config,
            size: description.size,
            channels: description.channels,
            language: None,
        };
        let muxer = Muxer::new(&[track]).ok()?;
        let timescale = muxer.timescale(self.id)?;
        Some((muxer, Info { description, timescale, step: 0 }))
    }

    /// Takes a frame. Where this track leads, the times at which it was cut are put into `cuts`.
    pub(super) fn push(&mut self, frame: Frame, role: Role, rules: &Rules, shelf: &Shelf, cuts: &mut Vec<Timestamp>) {
        self.last = Some(frame.dts);
        if self.place.is_some() {
            self.take(frame, role, rules, shelf, cuts);
            return;
        }
        let since = self.measured.first().map_or(0, |first| frame.dts.0.saturating_sub(first.dts.0));
        self.measured.push(frame);
        if since >= MEASURED.min(rules.segment) || self.measured.len() >= HLS_MEASURED_FRAMES_MAX {
            self.measure(role, rules, shelf, cuts);
        }
    }

    /// Decides how long parts are by the frames that there are, and takes those.
    fn measure(&mut self, role: Role, rules: &Rules, shelf: &Shelf, cuts: &mut Vec<Timestamp>) {
        let (Some(muxer), Some(info)) = (&self.muxer, &mut self.info) else { return };
        let times = || self.measured.iter().map(|frame| frame.dts.0);
        let steps: Vec<i64> = times().zip(times().skip(1)).map(|(one, next)| next.saturating_sub(one)).collect();
        let sum = steps.iter().fold(0_i64, |sum, step| sum.saturating_add(*step));
        info.step = i64::try_from(steps.len()).ok().and_then(|count| sum.checked_div(count)).unwrap_or(0);
        self.step = if info.step > 0 { info.step } else { USUAL_STEP };
        self.part_target = rules.part.map(|wanted| part_target(&steps, wanted));
        self.place = Some(shelf.begin_track(self.video, info.clone(), muxer.init(), self.part_target));
        for frame in mem::take(&mut self.measured) {
            self.take(frame, role, rules, shelf, cuts);
        }
    }

    /// The leading track was cut where this is shown.
    pub(super) fn follow(&mut self, cut: Timestamp) {
        if self.cuts.len() >= HLS_CUTS_MAX {
            self.cuts.pop_front();
        }
        self.cuts.push_back(cut);
    }

    /// No frame follows before a discontinuity. Says when the last one ends.
    pub(super) fn finish(&mut self, rules: &Rules, shelf: &Shelf) -> Option<Timestamp> {
        if self.place.is_none() {
            // What leads or follows is no matter any more.
            self.measure(Role::Follows, rules, shelf, &mut Vec::new());
        }
        // How long the last one lasts nothing tells: as long as the one before, where that fits.
        let end = self.pending.last().zip(self.pending.first()).map(|(last, first)| {
            let part = first.dts.0.saturating_add(self.piece_target());
            let segment = self.segment.start.0.saturating_add(rules.longest);
            Timestamp(last.dts.0.saturating_add(self.step).min(part).min(segment).max(last.dts.0))
        });
        if let Some(end) = end {
            self.emit(self.pending.len(), end, true, shelf);
        }
        self.cuts.clear();
        self.wait_for_key();
        end
    }

    fn take(&mut self, frame: Frame, role: Role, rules: &Rules, shelf: &Shelf, cuts: &mut Vec<Timestamp>) {
        let (dts, pts, key) = (frame.dts, frame.pts, frame.is_key());
        let Some(last) = self.pending.last().map(|last| (last.dts, last.pts)) else {
            self.open(dts, pts);
            self.hold(frame);
            return;
        };
        let since = |earlier: Timestamp| dts.0.saturating_sub(earlier.0);
        let step = since(last.0);
        let too_long = since(self.segment.start) > rules.longest && self.segment.start < last.0;
        if too_long || self.since_pending(dts) > self.piece_target() {
            self.split_before_last(last, too_long, shelf);
            if too_long && role == Role::Leads {
                cuts.push(last.1);
            }
            if step > self.piece_target() && !self.segment.plain {
                // The last frame is longer than a part may be.
                if self.segment.begin.is_none() {
                    self.close(shelf);
                    self.open(last.0, last.1);
                    if role == Role::Leads {
                        cuts.push(last.1);
                    }
                }
                self.segment.plain = true;
            }
        }
        if step > 0 {
            self.step = step;
        }
        if self.is_cut(dts, pts, key, role, rules) {
            self.emit(self.pending.len(), dts, true, shelf);
            self.open(dts, pts);
            if role == Role::Leads {
                cuts.push(pts);
            }
        } else if self.since_pending(dts).saturating_add(self.step) > self.piece_target()
            || self.pending.len() >= HLS_PART_FRAMES_MAX
            || self.pending_bytes.saturating_add(frame.payload.len() as u64) > HLS_PART_BYTES_MAX
        {
            self.emit(self.pending.len(), dts, false, shelf);
        }
        if key {
            self.last_key = Some(dts);
        }
        self.hold(frame);
    }

    /// How long the pieces of this segment may be.
    fn piece_target(&self) -> i64 {
        self.part_target.filter(|_| !self.segment.plain).unwrap_or(PLAIN_PIECE)
    }

    /// Whether a segment begins with a frame of these times.
    fn is_cut(&mut self, dts: Timestamp, pts: Timestamp, key: bool, role: Role, rules: &Rules) -> bool {
        let since = |earlier: Timestamp| dts.0.saturating_sub(earlier.0);
        let (length, half) = (since(self.segment.start), self.step / 2);
        let full = self.segment.parts >= HLS_SEGMENT_PARTS_MAX || self.segment.bytes >= HLS_SEGMENT_BYTES_MAX;
        if full || length.saturating_add(self.step) > rules.longest {
            return true;
        }
        if self.video && !key {
            return false;
        }
        // Another group of pictures of that length would not fit.
        let group = self.last_key.filter(|_| self.video).map_or(0, since);
        if length > 0 && length.saturating_add(group) > rules.longest {
            return true;
        }
        match role {
            // Pictures that are shown before a keyframe may be decoded after it: what is shown counts.
            Role::Leads => {
                let shown = pts.0.saturating_sub(self.segment.shown.0);
                length > 0 && shown >= rules.segment.saturating_sub(half)
            }
            Role::Follows => {
                let mut reached = false;
                while self.cuts.front().is_some_and(|cut| cut.0 <= pts.0.saturating_add(half)) {
                    reached = true;
                    self.cuts.pop_front();
                }
                // One that was cut by its length a moment ago is not cut again.
                reached && (length >= rules.segment / 2 || self.video && length > 0)
            }
        }
    }

    fn since_pending(&self, dts: Timestamp) -> i64 {
        self.pending.first().map_or(0, |first| dts.0.saturating_sub(first.dts.0))
    }

    /// Emits all that is pending but the last frame, which begins at `last`.
    fn split_before_last(&mut self, last: (Timestamp, Timestamp), closes: bool, shelf: &Shelf) {
        let before = self.pending.len().saturating_sub(1);
        if before > 0 {
            self.emit(before, last.0, closes, shelf);
        } else if closes {
            self.close(shelf);
        }
        if closes {
            self.open(last.0, last.1);
        }
    }

    fn open(&mut self, start: Timestamp, pts: Timestamp) {
        let plain = self.part_target.is_none();
        self.segment = Segment { start, shown: pts, begin: Some(pts), parts: 0, bytes: 0, plain };
    }

    fn hold(&mut self, frame: Frame) {
        self.pending_bytes = self.pending_bytes.saturating_add(frame.payload.len() as u64);
        self.pending.push(frame);
    }

    /// The segment ends with what was emitted of it last.
    fn close(&mut self, shelf: &Shelf) {
        let start = self.segment.start;
        let end = self.pending.first().map_or(start, |first| first.dts);
        self.count_closed(end.0.saturating_sub(start.0));
        let Some(place) = self.place else { return };
        match self.seal.take().and_then(Seal::end) {
            // The rest of a block goes behind what there is.
            Some((tail, lock)) => {
                let (slices, content) = (vec![tail], Content::Locked(lock));
                let piece = Piece {
                    begin: None,
                    slices,
                    duration: 0,
                    independent: false,
                    listed: false,
                    last: true,
                    content,
                };
                shelf.add(place, piece);
            }
            None => shelf.close(place),
        }
    }

    /// Encrypts a piece, or leaves nothing of it.
    fn seal(&mut self, slices: Vec<Bytes>, begins: bool, last: bool, shelf: &Shelf) -> (Vec<Bytes>, Content) {
        let (Some(keys), Some(place)) = (&self.keys, self.place) else { return (slices, Content::Clear) };
        if begins {
            let (epoch, sequence) = shelf.next_segment(place);
            self.seal = u8::try_from(place).ok().and_then(|track| keys.seal(epoch, track, sequence));
        }
        let mut seal = self.seal.take();
        let sealed = seal.as_mut().and_then(|seal| seal.update(&slices));
        let Some((mut sealed, seal)) = sealed.zip(seal) else { return (Vec::new(), Content::Gap) };
        let lock = seal.lock.clone();
        if !last {
            self.seal = Some(seal);
            return (sealed, Content::Locked(lock));
        }
        let Some((tail, lock)) = seal.end() else { return (Vec::new(), Content::Gap) };
        sealed.push(tail);
        (sealed, Content::Locked(lock))
    }

    fn count_closed(&mut self, duration: i64) {
        self.longest = self.longest.max(duration);
        self.closed = self.closed.saturating_add(1);
    }

    /// Makes a piece of so many pending frames, which end there.
    fn emit(&mut self, frames: usize, end: Timestamp, last: bool, shelf: &Shelf) {
        let rest = self.pending.split_off(frames.min(self.pending.len()));
        let frames = mem::replace(&mut self.pending, rest);
        let bytes =
            |frames: &[Frame]| frames.iter().fold(0, |sum: u64, one| sum.saturating_add(one.payload.len() as u64));
        self.pending_bytes = bytes(&self.pending);
        let (Some(place), Some(era), Some(muxer)) = (self.place, self.era, &mut self.muxer) else { return };
        let Some(first) = frames.first() else { return };
        let run = Run { track: self.id, frames: &frames, end: Some(end) };
        let head = Head { segment: self.segment.begin.is_some(), captured: None };
        let Ok(fragment) = muxer.fragment(&[run], head) else {
            // Times were looked at before: only what is longer than a fragment may be comes here.
            shelf.count(LeftOut { impossible: frames.len() as u64, ..LeftOut::default() });
            if last {
                self.close(shelf);
            }
            return;
        };
        let start = fragment.starts.first();
        let begin = self.segment.begin.take().map(|pts| Begin {
            era: era.number,
            wall: era.wall_at(pts),
            decode: start.map_or(0, |start| start.decode),
            present: start.map_or(0, |start| start.present),
            era_wall: era.wall,
            era_present: era.pts.0.saturating_sub(era.origin.0),
        });
        let independent = fragment.is_independent();
        let mut slices = Vec::with_capacity(fragment.payloads.len().saturating_add(1));
        slices.push(fragment.header);
        slices.extend(fragment.payloads);
        let duration = end.0.saturating_sub(first.dts.0);
        self.segment.parts = self.segment.parts.saturating_add(1);
        self.segment.bytes = self.segment.bytes.saturating_add(bytes(&frames));
        if last {
            self.count_closed(end.0.saturating_sub(self.segment.start.0));
        }
        let listed = !self.segment.plain;
        let (slices, content) = self.seal(slices, begin.is_some(), last, shelf);
        shelf.add(place, Piece { begin, slices, duration, independent, listed, last, content });
    }
}
