//! Where the time of a frame goes: one frame in N is timed, and read the clock for, at every stage of its way.
//!
//! The home of a stream chooses it and marks it in its flags, which cross to other shards with it. All other frames
//! cost one bit test for each flush, and neither a look at the clock nor anything for each delivery.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Shard;
use super::connection::Rest;
use super::egress::Offer;
use super::env::Env;
use super::group::{Batch, Packets};
use crate::clock::Instant;
use crate::limits::TIMED_FRAMES_MAX;
use crate::stream::{Spread, Stage, Stages, StreamLog};

/// How long each stage took on one shard, in nanoseconds.
pub type StageHistograms = Stages<Histogram<u64>>;

impl StageHistograms {
    /// Empty ones, up to a minute, with two significant digits.
    pub(super) fn empty() -> Self {
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("valid bounds and precision");
        Self { append: histogram.clone(), relay: histogram.clone(), first: histogram.clone(), age: histogram }
    }

    /// What was recorded since the last time.
    pub(super) fn take(&mut self) -> Self {
        let taken = self.clone();
        for stage in [Stage::Append, Stage::Relay, Stage::First, Stage::Age] {
            self.of(stage).reset();
        }
        taken
    }
}

/// Chooses frames at irregular distances, so that no pattern of a GOP hides from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampler {
    /// Frames up to the next one that is chosen, that one included; 0 before the first frame.
    distance: u32,
}

impl Sampler {
    /// Whether [`Sampler::takes`] is to be asked; counts the frame if not.
    #[inline]
    pub(crate) const fn is_due(&mut self) -> bool {
        if self.distance > 1 {
            self.distance -= 1;
            return false;
        }
        true
    }

    /// Whether this frame is timed, if one in `every` is.
    #[cold]
    #[inline(never)]
    pub(crate) fn takes(&mut self, every: u32, random: u64) -> bool {
        let due = self.distance == 1 || every == 1;
        self.distance = next_distance(every, random);
        due && every > 0
    }
}

/// Half as far at least, half as far again at most.
fn next_distance(every: u32, random: u64) -> u32 {
    if every == 0 {
        return LOOK_AGAIN;
    }
    let half = every / 2;
    let more = random % (2 * u64::from(half) + 1);
    every - half + u32::try_from(more).unwrap_or(0)
}

/// Frames after which a stream without timed frames looks whether that was changed.
const LOOK_AGAIN: u32 = 1024;

/// The timed frames of one stream on one shard.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    stages: Stages<Spread>,
    /// The newest of them, oldest first; at most [`TIMED_FRAMES_MAX`].
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    seq: u64,
    origin: Instant,
    appended: Instant,
    /// Somebody has it.
    accepted: bool,
}

impl Meter {
    /// What was recorded since the last time.
    pub(crate) fn take(&mut self) -> Stages<Spread> {
        std::mem::take(&mut self.stages)
    }

    fn mark(&mut self, seq: u64, origin: Instant, appended: Instant, tail: u64) {
        while self.marks.front().is_some_and(|mark| mark.seq < tail) || self.marks.len() == TIMED_FRAMES_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark { seq, origin, appended, accepted: false });
    }
}

/// Where the times of one stream go: to the shard's histograms, and to its own.
pub(super) struct Times<'a> {
    pub(super) shard: &'a mut StageHistograms,
    pub(super) stream: &'a mut Option<Box<Meter>>,
}

impl Times<'_> {
    /// A socket took these frames to their last byte, and the rest of one before. What was there before its player
    /// came at `since` is a replay.
    pub(super) fn of_one<E: Env>(
        &mut self,
        env: &mut E,
        rest: Option<Rest>,
        packets: &Packets,
        log: &StreamLog,
        frames: impl Iterator<Item = u64>,
        since: Instant,
    ) {
        let rest = rest.map(|rest| (rest.seq, rest.origin));
        let mut timed = rest.into_iter().chain(timed(packets, log, frames)).filter(|(_, origin)| *origin >= since);
        if let Some(first) = timed.next() {
            let at = env.instant();
            std::iter::once(first).chain(timed).for_each(|(seq, origin)| self.accepted(seq, origin, at, 1));
        }
    }

    /// So many sockets more took all that was offered by now.
    pub(super) fn of_cohort<E: Env>(&mut self, env: &mut E, offer: &Offer<'_>, sockets: u64) {
        if sockets > 0 {
            let at = env.instant();
            let timed = timed(offer.packets, offer.log, offer.timed.clone());
            timed.for_each(|(seq, origin)| self.accepted(seq, origin, at, sockets));
        }
    }

    /// So many more were handed these frames, which the batch begins with, by now.
    pub(super) fn of_batch<E: Env>(&mut self, env: &mut E, batch: &Batch<'_>, frames: Range<u64>, takers: u64) {
        if takers > 0 {
            let at = env.instant();
            for (frame, seq) in batch.iter().zip(frames).filter(|(frame, _)| frame.is_timed()) {
                self.accepted(seq, frame.origin, at, takers);
            }
        }
    }

    /// A timed frame was delivered so many times by now.
    pub(super) fn accepted(&mut self, seq: u64, origin: Instant, at: Instant, times: u64) {
        if times == 0 {
            return;
        }
        self.record(Stage::Age, at.since(origin), times);
        let mut marks = self.stream.iter_mut().flat_map(|meter| meter.marks.iter_mut().rev());
        if let Some(mark) = marks.find(|mark| mark.seq == seq)
            && !std::mem::replace(&mut mark.accepted, true)
        {
            let appended = mark.appended;
            self.record(Stage::First, at.since(appended), 1);
        }
    }

    /// When a timed frame was appended here.
    pub(super) fn appended(&self, origin: Instant) -> Option<Instant> {
        let mut marks = self.stream.as_ref()?.marks.iter().rev();
        marks.find(|mark| mark.origin == origin).map(|mark| mark.appended)
    }

    fn record(&mut self, stage: Stage, time: Duration, times: u64) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.shard.of(stage).saturating_record_n(ns, times);
        self.stream.get_or_insert_default().stages.of(stage).record(time, times);
    }
}

/// Number and origin of those that are timed and have bytes in the format.
fn timed(
    packets: &Packets,
    log: &StreamLog,
    frames: impl Iterator<Item = u64>,
) -> impl Iterator<Item = (u64, Instant)> {
    let in_format = frames.filter(|seq| packets.get(*seq).is_some());
    in_format.filter_map(|seq| Some((seq, log.frame(seq).filter(|frame| frame.is_timed())?.origin)))
}

impl<E: Env> Shard<E> {
    /// A timed frame is in the log.
    #[cold]
    pub(super) fn timed_frame_appended(&mut self, index: usize, seq: u64, origin: Instant) {
        let at = self.env.instant();
        let Some(stream) = self.streams.get_mut(index) else { return };
        let is_home = stream.home().is_some();
        stream.meter.get_or_insert_default().mark(seq, origin, at, stream.log.tail());
        if is_home {
            Times { shard: &mut self.stages, stream: &mut stream.meter }.record(Stage::Append, at.since(origin), 1);
        }
    }

    /// The home tells when it had the timed frame that came right before this.
    pub(super) fn on_appended_at_home(&mut self, index: usize, at: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(mark) = stream.meter.as_ref().and_then(|meter| meter.marks.back()).copied() else { return };
        let mut times = Times { shard: &mut self.stages, stream: &mut stream.meter };
        times.record(Stage::Relay, mark.appended.since(at), 1);
    }

    /// The socket took the last byte of a timed frame that it had taken in part.
    #[cold]
    pub(super) fn rest_accepted(&mut self, rest: Rest) {
        let at = self.env.instant();
        let Some(stream) = self.places.get(rest.place).and_then(|entry| self.streams.get_mut(entry.stream())) else {
            return;
        };
        let mut times = Times { shard: &mut self.stages, stream: &mut stream.meter };
        times.accepted(rest.seq, rest.origin, at, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many frames are chosen, and the least and the greatest distance between two.
    fn chosen(every: u32, frames: u32) -> (u32, u32, u32) {
        let (mut sampler, mut random) = (Sampler::default(), 1u64);
        let (mut count, mut least, mut most, mut since) = (0, u32::MAX, 0, 0);
        for _ in 0..frames {
            since += 1;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let takes = sampler.is_due() && sampler.takes(every, random >> 33);
            if takes {
                (count, least, most, since) = (count + 1, least.min(since), most.max(since), 0);
            }
        }
        (count, least, most)
    }

    #[test]
    fn one_frame_in_so_many_is_timed_at_irregular_distances() {
        let (count, least, most) = chosen(64, 64_000);
        assert!((950..=1_050).contains(&count), "{count}");
        assert!((32..=40).contains(&least) && (90..=97).contains(&most), "{least} {most}");
    }

    #[test]
    fn one_times_every_frame_and_zero_none() {
        assert_eq!(chosen(1, 100), (100, 1, 1));
        assert_eq!(chosen(0, 10_000).0, 0);
    }

    #[test]
    fn timed_frames_that_nobody_takes_do_not_pile_up() {
        let mut meter = Meter::default();
        for seq in 0..1_000 {
            meter.mark(seq, Instant(seq), Instant(seq), 0);
        }
        assert_eq!(meter.marks.len(), TIMED_FRAMES_MAX);
        meter.mark(1_000, Instant(0), Instant(0), 999);
        assert_eq!(meter.marks.len(), 2, "what the log has let go of is not known any more");
    }
}
