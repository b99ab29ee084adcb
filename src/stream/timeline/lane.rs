//! One track on the timeline: its offset, its last frame, and when that came.

use super::{SECOND, STEP_MAX};
use crate::media::{Frame, Timestamp};

#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Added to the publisher's timestamps, in ns.
    pub(super) offset: i64,
    /// What the offset was before.
    pub(super) former: i64,
    /// The highest DTS.
    pub(super) last: i64,
    /// When its last audio or video frame came.
    pub(super) arrival: i64,
    /// An audio or video frame came.
    pub(super) began: bool,
    /// It is a video track.
    pub(super) video: bool,
    /// Nothing is to be done but to add the offset.
    steady: bool,
    /// Frames since the last review.
    pub(super) frames: u32,
    /// The most by which a frame was ahead of its arrival since the last review: the frame that waited least.
    pub(super) peak: i64,
    /// The same of the last review that had enough frames.
    pub(super) settled: Option<i64>,
    /// How far it and the main track were ahead when they were first compared.
    pub(super) base: Option<(i64, i64)>,
    /// How far it has moved from the main track since, at the last review.
    pub(super) skew: i64,
    /// Reviews in a row that found it astray to one side, and the least by which it was.
    pub(super) astray: (u32, i64),
    /// By how much it is still to be led back.
    slew: i64,
    /// By how much it was led back since `drift_from`.
    led: i64,
    /// The first review: how far it was ahead, and when that was.
    drift_from: Option<(i64, i64)>,
    /// The last one.
    drift_to: (i64, i64),
}

impl Lane {
    /// A track of which nothing is known but that no frame stands before `floor`.
    pub(super) const fn new(floor: i64) -> Self {
        Self {
            offset: 0,
            former: 0,
            last: floor,
            arrival: 0,
            began: false,
            video: false,
            steady: false,
            frames: 0,
            peak: i64::MIN,
            settled: None,
            base: None,
            skew: 0,
            astray: (0, 0),
            slew: 0,
            led: 0,
            drift_from: None,
            drift_to: (0, 0),
        }
    }

    /// Whether the frame follows the last one as frames do.
    #[inline]
    pub(super) const fn goes_on(&self, frame: &Frame) -> bool {
        // As unsigned numbers, steps back are large.
        let step = frame.dts.0.saturating_add(self.offset).wrapping_sub(self.last).cast_unsigned();
        self.steady && step <= STEP_MAX.cast_unsigned()
    }

    /// Puts a frame that goes on in its place.
    #[inline]
    pub(super) fn advance(&mut self, frame: &mut Frame, arrival: i64) {
        frame.dts = frame.dts + Timestamp(self.offset);
        frame.pts = frame.pts + Timestamp(self.offset);
        self.last = frame.dts.0;
        self.arrival = arrival;
        self.frames = self.frames.wrapping_add(1);
        self.peak = self.peak.max(frame.dts.0.saturating_sub(arrival));
    }

    /// Puts any frame in its place, not back on the track; whether it was held.
    pub(super) fn advance_or_hold(&mut self, frame: &mut Frame, arrival: i64) -> bool {
        let before = self.last;
        let composition = frame.pts - frame.dts;
        self.began = true;
        self.video = frame.is_video();
        self.steady = self.slew == 0;
        self.advance(frame, arrival);
        let held = frame.dts.0 < before;
        if held {
            // The picture keeps its place relative to its decoding.
            frame.dts = Timestamp(before);
            frame.pts = frame.dts + composition;
            self.last = before;
        }
        held
    }

    /// Time since its last frame, in ns.
    pub(super) fn elapsed(&self, arrival: i64) -> i64 {
        arrival.saturating_sub(self.arrival).max(0)
    }

    /// Sets a new offset; what was measured of the running review is of the old one.
    pub(super) fn rebase(&mut self, offset: i64) {
        self.former = std::mem::replace(&mut self.offset, offset);
        self.slew = 0;
        self.led = 0;
        self.drift_from = None;
        // Its next frame is looked at.
        self.steady = false;
        self.begin_review();
    }

    /// Moves all that follows ahead.
    pub(super) fn step_ahead(&mut self, by: i64) {
        self.settled = self.settled.map(|ahead| ahead.saturating_add(by));
        self.rebase(self.offset.saturating_add(by));
    }

    /// It is to be led back by so much, in ns.
    pub(super) const fn begin_to_lead_back(&mut self, by: i64) {
        self.slew = by;
        self.steady = false;
    }

    /// Moves the offset by what the next frame's step allows.
    pub(super) fn lead_back(&mut self, dts: i64) {
        if self.slew == 0 {
            return;
        }
        let step = dts.saturating_add(self.offset).saturating_sub(self.last).clamp(0, STEP_MAX);
        let by = self.slew.clamp(-(step / LED_PER_STEP), step / LED_PER_STEP);
        self.offset = self.offset.saturating_add(by);
        self.slew -= by;
        self.led += by;
    }

    /// Whether it is being led back.
    pub(super) const fn is_led(&self) -> bool {
        self.slew != 0
    }

    /// Ends a review: what was measured is of the past.
    pub(super) const fn begin_review(&mut self) {
        self.frames = 0;
        self.peak = i64::MIN;
    }

    /// Notes how far it was ahead at a review.
    pub(super) fn settle(&mut self, arrival: i64) {
        self.settled = Some(self.peak);
        let own = self.peak.saturating_sub(self.led);
        self.drift_to = (own, arrival);
        self.drift_from.get_or_insert((own, arrival));
    }

    /// How far it has moved against arrival since it was first compared.
    pub(super) fn moved(&self) -> i64 {
        self.base.zip(self.settled).map_or(0, |((base, _), now)| now.saturating_sub(base))
    }

    /// See [`super::TrackClock::drift_ppm`].
    pub(super) fn drift_ppm(&self) -> Option<i64> {
        let (from, since) = self.drift_from?;
        let (to, until) = self.drift_to;
        let watched = until.saturating_sub(since);
        let ppm = i128::from(to.saturating_sub(from)) * 1_000_000 / i128::from(watched.max(1));
        (watched >= DRIFT_AFTER).then(|| i64::try_from(ppm).unwrap_or(i64::MAX))
    }
}

/// A track is led back by this part of each step: under a hundredth nobody hears it, and no frame falls back.
const LED_PER_STEP: i64 = 128;
/// Before this, what is measured is jitter more than drift, in ns.
const DRIFT_AFTER: i64 = 60 * SECOND;
