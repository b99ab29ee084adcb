//! One publisher's frames → the stream's timeline.
//!
//! The publisher's own timestamps are kept, to the nanosecond, for as long as they can be true: one offset is added
//! to each track's, the same for all. Rounding does not add up, a variable frame rate stays what it is, equal
//! timestamps and composition times of either sign pass. Audio and video drive the timeline; configuration and data
//! come with timestamps of 0 from many encoders, so they only stand on it. What cannot be true is put right:
//!
//! | what a publisher does | what becomes of it |
//! |---|---|
//! | its 32-bit clock wraps | nothing: its session has unwrapped it ([`crate::media::WireClock`]); counted |
//! | a track steps back, [`BACK_MAX`] at most | held at the track's last time; composition time kept |
//! | a track steps back farther: the clock was set anew | a new offset, so that time goes on as it does in life |
//! | it jumps to [`JUMP_MAX`] beyond what the clock on the wall allows | the same |
//! | the other tracks make the same step | they take over the very offset: their distance is what it was |
//! | no other does for [`FOLLOW_WITHIN`] | the new offset is that track's alone: it stands beside the others as before |
//! | a track moves away from another by [`SKEW_MAX`], by the time at which both arrive | a broken clock: it is led back by less than a hundredth of each frame's duration; from [`SKEW_STEP`] on, in one step |
//! | all tracks drift from the router's clock | nothing: it is their timeline; the drift is measured and told |
//!
//! The first frame of each track that has a new offset carries the discontinuity. Per track, time never falls.

#[cfg(test)]
mod day;
mod lane;
mod skew;
#[cfg(test)]
mod tests;

use std::ops::AddAssign;

use crate::limits::TRACKS_MAX;
use crate::media::{Frame, FrameFlags, FrameKind, Timestamp, TrackId};
use lane::Lane;

/// A step back of a track by more is no disorder of frames but a clock that was set anew, in nanoseconds.
pub const BACK_MAX: i64 = 500 * MILLISECOND;
/// Farther ahead of the stream than this, elapsed time added, is a jump of the clock, in nanoseconds.
pub const JUMP_MAX: i64 = 10 * SECOND;
/// How long after a track's new offset another one's step is taken for the same event, in nanoseconds.
pub const FOLLOW_WITHIN: i64 = 2 * SECOND;
/// Tracks that depart farther from each other, by their arrival, have clocks of their own, in nanoseconds. With what
/// they move until that is certain it is less than a picture lasts, so sound stays on it.
pub const SKEW_MAX: i64 = 20 * MILLISECOND;
/// From here on a departure is not led back but closed by a step of the track that is behind, in nanoseconds.
pub const SKEW_STEP: i64 = SECOND;

/// What was corrected, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corrections {
    /// 32-bit clocks that wrapped around: no step on the timeline.
    pub wraps: u64,
    /// Frames that stepped back a little and were held.
    pub held: u64,
    /// Clocks that were set back: the timeline went on.
    pub restarts: u64,
    /// Clocks that jumped ahead: the timeline went on as time did.
    pub jumps: u64,
    /// Of these, steps that one track made alone: its new offset put it back where it was beside the others.
    pub alone: u64,
    /// Tracks that began or came to be far from the others, and were put beside them in one step.
    pub realigned: u64,
    /// Tracks that had drifted from another one and were led back.
    pub led_back: u64,
}

impl Corrections {
    /// How often a clock was found to be wrong; wraps and frames held are no such events.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.restarts + self.jumps + self.realigned + self.led_back
    }
}

impl AddAssign for Corrections {
    fn add_assign(&mut self, rhs: Self) {
        self.wraps += rhs.wraps;
        self.held += rhs.held;
        self.restarts += rhs.restarts;
        self.jumps += rhs.jumps;
        self.alone += rhs.alone;
        self.realigned += rhs.realigned;
        self.led_back += rhs.led_back;
    }
}

/// What is known of one track's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackClock {
    /// Which track.
    pub track: TrackId,
    /// How much faster than the router's clock it runs, in millionths; the longer it is watched, the finer. `None`
    /// in the first minute, and for a minute after its offset changed.
    pub drift_ppm: Option<i64>,
    /// How far it has moved from the main track since both began, by their arrival: positive if it is ahead.
    pub skew: Timestamp,
}

/// Where the frames of one publisher stand on its stream's timeline.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// By track; as many as the highest track needs, [`TRACKS_MAX`] at most.
    lanes: Vec<Lane>,
    /// Where the former publisher's timeline ended, until the first frame that drives this one.
    resume: Option<i64>,
    /// No frame stands before this.
    floor: i64,
    /// Added to timestamps of tracks of which nothing is known yet.
    offset: i64,
    /// Tracks whose first frame is to be marked, by bit: time or content jumps there for those who read on.
    jumped: u16,
    /// A frame came that drives it.
    began: bool,
    rebase: Option<Rebase>,
    /// When skew and drift are looked at again, by arrival.
    review_at: i64,
    /// Since it was asked last, and before.
    recent: Corrections,
    total: Corrections,
}

/// A track got a new offset.
#[derive(Clone, Copy, Debug)]
struct Rebase {
    offset: i64,
    at: i64,
    /// It is settled whether others followed.
    settled: bool,
}

/// What offset a frame's track is to have.
enum Verdict {
    /// The one it has.
    Stay,
    /// One that another track has, or that it had before.
    Take(i64),
    /// One that puts the frame here.
    Put(i64),
}

impl Timeline {
    /// A timeline that begins with its publisher, or goes on behind `resume`, where the former one's ended.
    #[must_use]
    pub fn new(resume: Option<Timestamp>) -> Self {
        let resume = resume.map(|end| end.0);
        Self {
            lanes: Vec::new(),
            resume,
            // No track of this publisher lies before the end of the former, whichever frame comes first.
            floor: resume.unwrap_or(i64::MIN),
            offset: 0,
            jumped: if resume.is_some() { u16::MAX } else { 0 },
            began: false,
            rebase: None,
            review_at: i64::MIN,
            recent: Corrections::default(),
            total: Corrections::default(),
        }
    }

    /// Puts a frame in its place; whether something was corrected. Its origin is when it arrived, its track below
    /// [`TRACKS_MAX`].
    #[inline]
    pub fn place(&mut self, frame: &mut Frame) -> bool {
        if !matches!(frame.kind, FrameKind::Key | FrameKind::Delta | FrameKind::Audio) {
            self.accompany(frame);
            return false;
        }
        let arrival = frame.origin.0.cast_signed();
        if arrival < self.review_at
            && let Some(lane) = self.lanes.get_mut(usize::from(frame.track.0))
            && lane.goes_on(frame)
        {
            lane.advance(frame, arrival);
            return false;
        }
        self.place_odd(frame, arrival)
    }

    /// Another publisher, or another source of this one, takes over: whatever its timestamps are, its first audio or
    /// video frame stands right behind all that was, each track's first frame is marked as a discontinuity, and
    /// nothing of the former clocks is held against it. What was corrected stays counted.
    pub fn switch(&mut self) {
        *self = Self { recent: self.recent, total: self.total, ..Self::new(Some(self.end())) };
    }

    /// Its publisher's 32-bit clock wrapped around.
    pub const fn wrapped(&mut self) {
        self.recent.wraps += 1;
    }

    /// What was corrected since this was asked last.
    pub fn take_corrections(&mut self) -> Corrections {
        let recent = std::mem::take(&mut self.recent);
        self.total += recent;
        recent
    }

    /// All that was corrected.
    #[must_use]
    pub fn corrections(&self) -> Corrections {
        let mut all = self.total;
        all += self.recent;
        all
    }

    /// What is known of the clocks of its audio and video tracks.
    #[must_use]
    pub fn clocks(&self) -> Vec<TrackClock> {
        let lanes = (0..).zip(&self.lanes).filter(|(_, lane)| lane.began);
        lanes
            .map(|(track, lane)| TrackClock {
                track: TrackId(track),
                drift_ppm: lane.drift_ppm(),
                skew: Timestamp(lane.skew),
            })
            .collect()
    }

    /// Where it ends now.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        let end = self.lanes.iter().map(|lane| lane.last).max().unwrap_or(i64::MIN);
        Timestamp(end.max(self.floor).max(0))
    }

    /// All but the usual case: the first frame of a track, steps, and what is looked at now and then.
    #[cold]
    fn place_odd(&mut self, frame: &mut Frame, arrival: i64) -> bool {
        let before = self.recent;
        if arrival >= self.review_at {
            self.review(arrival);
        }
        let track = self.grow(frame.track);
        if let Some(end) = self.resume.take() {
            self.offset = end.saturating_add(MILLISECOND).saturating_sub(frame.dts.0);
        }
        let verdict = if self.lanes[track].began {
            self.judge(track, frame.dts.0, arrival)
        } else {
            self.lanes[track].offset = self.usual_offset();
            self.judge_first(track, frame.dts.0, arrival)
        };
        let rebased = match verdict {
            Verdict::Stay => None,
            Verdict::Take(offset) => Some(offset),
            Verdict::Put(at) => Some(at.saturating_sub(frame.dts.0)),
        };
        if let Some(offset) = rebased {
            self.rebase(track, offset, arrival);
        }
        let bit = 1 << track;
        if rebased.is_some() || self.jumped & bit != 0 {
            // Each track's own: what comes before the first keyframe nobody sees.
            self.jumped &= !bit;
            frame.flags = frame.flags.union(FrameFlags::DISCONTINUITY);
        }
        self.began = true;
        let lane = &mut self.lanes[track];
        lane.lead_back(frame.dts.0);
        let held = lane.advance_or_hold(frame, arrival);
        self.recent.held += u64::from(held);
        self.recent != before
    }

    /// What to do about a frame of a track that is under way.
    fn judge(&self, track: usize, dts: i64, arrival: i64) -> Verdict {
        let lane = &self.lanes[track];
        let elapsed = lane.elapsed(arrival);
        let step = |offset: i64| dts.saturating_add(offset).saturating_sub(lane.last);
        let soon = elapsed.saturating_add(STEP_MAX);
        let own = step(lane.offset);
        if !(0..=soon).contains(&own)
            && let Some(rebase) = self.rebase
            && (arrival.saturating_sub(rebase.at) <= FOLLOW_WITHIN || rebase.at >= lane.arrival)
            && (0..=soon).contains(&step(rebase.offset))
        {
            // A step that would be let pass if it were alone is part of a greater one.
            return Verdict::Take(rebase.offset);
        }
        if (-BACK_MAX..=elapsed.saturating_add(JUMP_MAX)).contains(&own) {
            return Verdict::Stay;
        }
        if own >= 0 && dts.saturating_add(lane.offset) <= self.horizon(arrival) {
            // The others are there already.
            return Verdict::Stay;
        }
        let mut others = self.lanes.iter().filter(|other| other.began).map(|other| other.offset);
        let fits = |offset: &i64| *offset != lane.offset && (-BACK_MAX..=soon).contains(&step(*offset));
        // Back to what it was before a jump, unless it would have to be held there: then time has gone on since.
        let former = Some(lane.former).filter(|offset| fits(offset) && step(*offset) > 0);
        if let Some(offset) = others.find(fits).or(former) {
            return Verdict::Take(offset);
        }
        Verdict::Put(self.expected(track, arrival))
    }

    /// What to do about the first frame of a track: it is where the others are, or else its clock is not theirs.
    fn judge_first(&self, track: usize, dts: i64, arrival: i64) -> Verdict {
        let lane = &self.lanes[track];
        let Some(high) = self.high() else { return Verdict::Stay };
        let near = high.last.saturating_sub(JUMP_MAX)..=self.horizon(arrival);
        let fits = |offset: i64| near.contains(&dts.saturating_add(offset));
        if fits(lane.offset) {
            return Verdict::Stay;
        }
        let mut others = self.lanes.iter().filter(|other| other.began).map(|other| other.offset);
        others
            .find(|offset| fits(*offset))
            .map_or_else(|| Verdict::Put(high.last.saturating_add(high.elapsed(arrival))), Verdict::Take)
    }

    /// Gives a track another offset, and counts it once, however many follow.
    fn rebase(&mut self, track: usize, offset: i64, arrival: i64) {
        let follows = self.lanes.iter().any(|lane| lane.began && lane.offset == offset);
        let lane = &mut self.lanes[track];
        if !follows {
            let back = offset > lane.offset;
            match (lane.began, back) {
                (false, _) => self.recent.realigned += 1,
                (true, true) => self.recent.restarts += 1,
                (true, false) => self.recent.jumps += 1,
            }
            let settled = !lane.began;
            self.rebase = Some(Rebase { offset, at: arrival, settled });
        }
        lane.rebase(offset);
    }

    /// A frame that does not drive the timeline: it stands where its timestamp says if that is near, and never ahead
    /// of the audio and video frames, whose time must not be held up by it.
    fn accompany(&mut self, frame: &mut Frame) {
        let track = self.grow(frame.track);
        let offset = if self.lanes[track].began { self.lanes[track].offset } else { self.usual_offset() };
        let own = frame.dts.0.saturating_add(offset);
        let last = self.lanes[track].last;
        let (mut at, mut pts) = (own, frame.pts.0.saturating_add(offset));
        if let Some(high) = self.high().map(|lane| lane.last) {
            let near = high.saturating_sub(COMPANY_BACK)..=high.saturating_add(JUMP_MAX);
            if near.contains(&own) {
                at = own.min(high);
            } else {
                // The first frame of a track may be so much older than the others.
                at = if last > self.floor { last } else { high.saturating_sub(COMPANY_BACK).max(high.min(0)) };
                pts = at.max(last).saturating_add(frame.pts.0.saturating_sub(frame.dts.0));
            }
        } else if let Some(end) = self.resume {
            // Where the first frame that drives it will stand.
            let end = end.saturating_add(MILLISECOND);
            (at, pts) = (end, end.saturating_add(frame.pts.0.saturating_sub(frame.dts.0)));
        } else if frame.kind == FrameKind::Config {
            at = own.min(0);
            pts = at;
        }
        let bit = 1 << track;
        if self.jumped & bit != 0 && frame.kind != FrameKind::Config {
            self.jumped &= !bit;
            frame.flags = frame.flags.union(FrameFlags::DISCONTINUITY);
        }
        let lane = &mut self.lanes[track];
        lane.last = at.max(lane.last);
        // Between threads, composition times are short: one that is hours is none.
        let apart = pts.saturating_sub(lane.last).clamp(-COMPANY_APART, COMPANY_APART);
        frame.dts = Timestamp(lane.last);
        frame.pts = Timestamp(lane.last.saturating_add(apart));
    }

    /// Where a track is now, judged by the track that came last and by how far the two are apart; if there is no
    /// other, by the time that has passed.
    fn expected(&self, track: usize, arrival: i64) -> i64 {
        let lane = &self.lanes[track];
        let elapsed = lane.elapsed(arrival);
        // Before that was measured, one clock is taken to be behind both.
        let apart = |other: &Lane| lane.settled.zip(other.settled).map_or(0, |(own, its)| own.saturating_sub(its));
        let others = (0..).zip(&self.lanes).filter(|(n, other)| *n != track && other.elapsed(arrival) <= STEP_MAX);
        let guess = others
            .max_by_key(|(_, other)| other.arrival)
            .map(|(_, other)| other.last.saturating_add(other.elapsed(arrival)).saturating_add(apart(other)));
        let guess = guess.unwrap_or_else(|| lane.last.saturating_add(elapsed));
        let (least, most) = (lane.last.saturating_add(MILLISECOND), lane.last.saturating_add(elapsed));
        guess.clamp(least, most.saturating_add(STEP_MAX))
    }

    /// The audio or video track that is farthest.
    fn high(&self) -> Option<&Lane> {
        self.lanes.iter().filter(|lane| lane.began).max_by_key(|lane| lane.last)
    }

    /// Farther than this the stream can't be.
    fn horizon(&self, arrival: i64) -> i64 {
        let end = self.high().map_or(i64::MAX, |high| high.last.saturating_add(high.elapsed(arrival)));
        end.saturating_add(JUMP_MAX)
    }

    /// The offset of the track that came last.
    fn usual_offset(&self) -> i64 {
        let newest = self.lanes.iter().filter(|lane| lane.began).max_by_key(|lane| lane.arrival);
        newest.map_or(self.offset, |lane| lane.offset)
    }

    fn grow(&mut self, track: TrackId) -> usize {
        let track = usize::from(track.0);
        assert!(track < TRACKS_MAX, "the router refuses track {track}");
        if self.lanes.len() <= track {
            self.lanes.resize(track + 1, Lane::new(self.floor));
        }
        track
    }
}

/// Within this a track's step needs no thought, in nanoseconds.
const STEP_MAX: i64 = SECOND;
/// So far behind the end, what does not drive the timeline is still where it says, in nanoseconds.
const COMPANY_BACK: i64 = 2 * SECOND;
/// Data and configuration are presented so far from where they stand at most, in nanoseconds.
const COMPANY_APART: i64 = 60 * SECOND;

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;
