//! Joining in process: from the call to the first keyframe, and to the live edge.
//!
//! * a sink on its shard: a lone shard on one pinned thread has one GOP in its log; from the command on, its turns until
//!   the sink has the keyframe, and until it has everything. The floor walks the same frames in a slice and checks them.
//! * a host's `Subscription`: from `Router::subscribe` on, with the shard on the other core, spinning or asleep.
//!
//! Each joiner checks every frame from the keyframe to the live edge.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::figures::{Found, Row, adjusted, clock_ns, histogram};
use super::frames::{Frames, PAYLOAD_BYTES, is_right};
use super::line::on_core;
use super::model::Scenario;
use super::world::{Lone, key};
use super::{BenchError, Context, Size, all_of, setting};
use crate::clock::{Clock, Instant};
use crate::extension::{FrameSink, SinkVerdict};
use crate::media::Frame;
use crate::router::{Cores, Delivery, PublishOptions, Router, SendError, SubscribeOptions};
use crate::shard::Idle;
use crate::stream::AppSpec;

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Frames since the keyframe, that one included.
    pub gops: Vec<u64>,
    /// Joins of a sink in each repetition.
    pub sinks: usize,
    /// Joins of a subscription in each repetition.
    pub subscriptions: usize,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 3, 7, 15]),
            gops: vec![30, 120, 600],
            sinks: size.pick([2, 40, 100, 300]),
            subscriptions: size.pick([2, 60, 200, 500]),
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense; a joiner that did not get the GOP as it was sent.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    for gop in &settings.gops {
        let fits = (1..=4096).contains(gop);
        setting("GOP", usize::try_from(*gop).unwrap_or(usize::MAX), fits, "1 to 4,096 frames")?;
    }
    let mut found = Found::new(
        "join",
        "From the call to the first keyframe and to the live edge, in process, by the length of the GOP",
        settings.repetitions,
    );
    let (host, shard) = (context.core(0), context.core(1));
    found.config("shard on core", shard);
    found.config("host on core", host);
    found.config("payload bytes", PAYLOAD_BYTES);
    found.config("joins of a sink", settings.sinks);
    found.config("joins of a subscription", settings.subscriptions);
    if let Some(warning) = context.too_few_cores(2, "the host and the shard take turns on one") {
        found.warn(warning);
    }
    let clock = Clock::start();
    let bench = Bench { settings, clock, shard, clock_ns: on_core(host, || clock_ns(clock)) };
    let steps = settings.repetitions * settings.gops.len();
    for repetition in 0..settings.repetitions {
        for (index, gop) in settings.gops.iter().enumerate() {
            let what = format!("a GOP of {gop} frames");
            context.progress.step(repetition * settings.gops.len() + index, steps, &what);
            on_core(shard, || bench.sinks(*gop, &mut found))?;
            for (joiner, idle) in [(SPINS, Idle::Spin), ("subscription, shard sleeps", Idle::Park)] {
                let router = bench.router(idle)?;
                on_core(host, || bench.subscriptions(&router, joiner, *gop, &mut found))?;
            }
        }
    }
    Ok(found.finish())
}

const OURS: &str = "shardcast";
const SINK: &str = "sink on its shard";
const SPINS: &str = "subscription, shard spins";
const TO_KEYFRAME: &str = "join to the first keyframe";
const TO_EDGE: &str = "join to the live edge";

struct Bench<'a> {
    settings: &'a Settings,
    clock: Clock,
    shard: usize,
    clock_ns: f64,
}

impl Bench<'_> {
    fn push(
        &self,
        found: &mut Found,
        metric: &str,
        joiner: &str,
        gop: u64,
        samples: &hdrhistogram::Histogram<u64>,
        since: Instant,
    ) {
        let mut row = Row::ns(OURS, metric).param("GOP", gop).param("joiner", joiner);
        let p50 = found.samples(row.clone(), &adjusted(samples, self.clock_ns, 1.0), since);
        // Waking a core that sleeps takes a virtual machine longer than the join.
        if gop == 120 && (joiner == SINK || joiner == SPINS) {
            row = row.goal(50_000.0, "a GOP of 120 frames in less than 50 µs in process");
        }
        found.push(row, p50);
    }

    fn sinks(&self, gop: u64, found: &mut Found) -> Result<(), BenchError> {
        let (mut first, mut all, mut floor) = (histogram(), histogram(), histogram());
        let since = found.now();
        for _ in 0..self.settings.sinks {
            let mut lone = Lone::new(AppSpec::new("*"));
            lone.publish(key());
            let mut frames = Frames::new(gop, PAYLOAD_BYTES);
            // One GOP, all of it warm in the log.
            let mut slice = Vec::new();
            for _ in 0..gop {
                let frame = frames.next();
                slice.push(frame.clone());
                lone.send(frame);
                lone.turn();
            }
            let seen = Arc::new(Seen::default());
            let sink = Joiner { clock: self.clock, next: 0, seen: Arc::clone(&seen) };

            let start = self.clock.instant();
            lone.attach(key(), Box::new(sink));
            let mut turns = 0;
            while seen.frames.load(Ordering::Relaxed) < gop && turns < TURNS_MAX {
                lone.turn();
                turns += 1;
            }
            let end = self.clock.instant();

            all_of("frames of the GOP that a sink got, in order and whole", seen.right.load(Ordering::Relaxed), gop)?;
            first.saturating_record(seen.first.load(Ordering::Relaxed).saturating_sub(start.0));
            all.saturating_record(end.0 - start.0);

            let start = self.clock.instant();
            let right = black_box(&slice).iter().zip(0..);
            let right = right.filter(|(frame, n)| is_right(&frame.payload, *n, PAYLOAD_BYTES)).count();
            floor.saturating_record(self.clock.instant().0 - start.0);
            all_of("frames of the GOP in the slice", right as u64, gop)?;
        }
        self.push(found, TO_KEYFRAME, SINK, gop, &first, since);
        self.push(found, TO_EDGE, SINK, gop, &all, since);
        let row = || Row::ns("floor", TO_EDGE).param("GOP", gop).param("joiner", SINK);
        let p50 = found.samples(row(), &adjusted(&floor, self.clock_ns, 1.0), since);
        found.push(row(), p50);
        Ok(())
    }

    fn router(&self, idle: Idle) -> Result<Router, BenchError> {
        Ok(Router::builder().shards(1).cores(Cores::List(vec![self.shard])).idle(idle).start()?)
    }

    fn subscriptions(&self, router: &Router, joiner: &str, gop: u64, found: &mut Found) -> Result<(), BenchError> {
        let mut publisher = router.publish(&key(), PublishOptions::default())?;
        let mut frames = Frames::new(gop, PAYLOAD_BYTES);
        for _ in 0..gop {
            let mut frame = frames.next();
            loop {
                match publisher.send(frame) {
                    Ok(()) => break,
                    Err(SendError::Full(back)) => frame = back,
                    Err(SendError::Ended(_, reason)) => return Err(reason.into()),
                }
                thread::sleep(Duration::from_micros(100));
            }
        }
        // All of it is in the log.
        while router.stats().iter().map(|stats| stats.counters.frames_in).sum::<u64>() < gop {
            thread::sleep(Duration::from_millis(1));
        }
        let (mut first, mut all) = (histogram(), histogram());
        let since = found.now();
        for _ in 0..self.settings.subscriptions {
            let start = self.clock.instant();
            let mut subscription = router.subscribe(&key(), SubscribeOptions::default())?;
            let mut right = 0;
            for n in 0..gop {
                let delivery = subscription.recv_timeout(PATIENCE);
                let Some(Delivery::Frame(frame)) = delivery else { break };
                right += u64::from(is_right(&frame.payload, n, PAYLOAD_BYTES));
                if n == 0 {
                    first.saturating_record(self.clock.instant().0 - start.0);
                }
            }
            all.saturating_record(self.clock.instant().0 - start.0);
            all_of("frames of the GOP that a subscription got, in order and whole", right, gop)?;
            drop(subscription);
            // The shard has taken leave of it, and sleeps again if it does.
            thread::sleep(Duration::from_micros(500));
        }
        self.push(found, TO_KEYFRAME, joiner, gop, &first, since);
        self.push(found, TO_EDGE, joiner, gop, &all, since);
        Ok(())
    }
}

/// No join takes as many turns.
const TURNS_MAX: usize = 1_000_000;
/// Nor as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a joiner got.
#[derive(Default)]
struct Seen {
    frames: AtomicU64,
    right: AtomicU64,
    /// When the first of them came.
    first: AtomicU64,
}

struct Joiner {
    clock: Clock,
    next: u64,
    seen: Arc<Seen>,
}

impl FrameSink for Joiner {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let mut right = is_right(&frame.payload, self.next, PAYLOAD_BYTES);
        if self.next == 0 {
            right &= frame.is_key();
            self.seen.first.store(self.clock.instant().0, Ordering::Relaxed);
        }
        self.next += 1;
        // The only writer.
        if right {
            self.seen.right.store(self.seen.right.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.seen.frames.store(self.next, Ordering::Relaxed);
        SinkVerdict::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn sinks_and_subscriptions_join_gops_of_every_length() {
        let settings = Settings::of(Size::Test);
        let scenario = on_all_cores(|context| run(&settings, context)).unwrap();

        finite(&scenario);
        for metric in [TO_KEYFRAME, TO_EDGE] {
            let ours = scenario.distributions.iter().filter(|found| found.metric == metric && found.subject == OURS);
            let joiners: Vec<_> = ours.map(|found| (&*found.params[0].1, &*found.params[1].1)).collect();
            assert_eq!(joiners.len(), 9, "{joiners:?}");
        }
        let goals = scenario.figures.iter().filter(|figure| figure.goal.is_some());
        assert!(goals.clone().count() == 4 && goals.clone().all(|figure| figure.params[0].1 == "120"));
    }

    #[test]
    fn a_joiner_that_does_not_begin_with_a_keyframe_is_not_right() {
        let (seen, mut frames) = (Arc::new(Seen::default()), Frames::new(10, PAYLOAD_BYTES));
        let mut joiner = Joiner { clock: Clock::start(), next: 0, seen: Arc::clone(&seen) };
        let first = frames.next();
        let delta = Frame::video(crate::media::Codec::H264, false, first.pts, first.dts, first.payload);
        joiner.on_frame(&delta);
        joiner.on_frame(&frames.next());
        assert_eq!((seen.frames.load(Ordering::Relaxed), seen.right.load(Ordering::Relaxed)), (2, 1));
    }
}
