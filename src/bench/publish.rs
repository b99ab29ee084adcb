//! A frame's own way: from the publisher into the log, with nobody watching.
//!
//! * ingest: a lone shard on one pinned thread, no subscriber; frames through a host publisher's ring, 1 to 64 a turn.
//!   The difference between a GOP cache of 120 or 600 frames and none is what the cache costs a frame. The floor is
//!   the ring alone: the same packed frames pushed, popped and let go of.
//! * send: `Publisher::send` on the host's thread, with the shard on the other core spinning or asleep.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use super::figures::{Found, Row, adjusted, chunks, clock_ns, histogram, median};
use super::frames::{Frames, PAYLOAD_BYTES};
use super::line::on_core;
use super::model::Scenario;
use super::world::{Lone, RING_SLOTS, key};
use super::{BenchError, Context, Size, all_of, setting};
use crate::clock::{Clock, Instant};
use crate::limits::HOST_RING_SLOTS;
use crate::reason::Reason;
use crate::ring::ring;
use crate::router::{Cores, PublishOptions, Router, SendError};
use crate::shard::{Idle, Message, PackedFrame};
use crate::stream::{AppSpec, GopCache};

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Frames from one keyframe to the next with the GOP cache on; each is measured. Off is measured besides.
    pub gops: Vec<u64>,
    /// Frames that come between two turns of the shard.
    pub batches: Vec<u64>,
    /// Chunks of 4,096 frames of which the median is taken.
    pub chunks: usize,
    /// Rounds of a rest, 64 calls one by one and one of 64 frames.
    pub rounds: usize,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 3, 7, 15]),
            gops: vec![120, 600],
            batches: vec![1, 8, 64],
            chunks: size.pick([2, 15, 41, 81]),
            rounds: size.pick([3, 100, 300, 1_000]),
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense, or a frame that the shard did not get.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    for batch in &settings.batches {
        let fits = (1..=64).contains(batch);
        setting("frames per turn", usize::try_from(*batch).unwrap_or(usize::MAX), fits, "1 to 64")?;
    }
    for gop in &settings.gops {
        let fits = (1..=4096).contains(gop);
        setting("GOP", usize::try_from(*gop).unwrap_or(usize::MAX), fits, "1 to 4,096 frames")?;
    }
    let mut found = Found::new(
        "publish",
        "What a frame costs its publisher and its shard with nobody watching, GOP cache on and off",
        settings.repetitions,
    );
    let (host, shard) = (context.core(0), context.core(1));
    found.config("shard on core", shard);
    found.config("host on core", host);
    found.config("payload bytes", PAYLOAD_BYTES);
    found.config("rounds of calls", settings.rounds);
    if let Some(warning) = context.too_few_cores(2, "the host and the shard take turns on one") {
        found.warn(warning);
    }
    let clock = Clock::start();
    let bench = Bench { settings, clock, shard, clock_ns: on_core(host, || clock_ns(clock)) };
    for repetition in 0..settings.repetitions {
        context.progress.step(2 * repetition, 2 * settings.repetitions, "frames into the log");
        on_core(shard, || bench.repetition(&mut found))?;
        context.progress.step(2 * repetition + 1, 2 * settings.repetitions, "calls of the publisher");
        for (name, idle) in [("spins", Idle::Spin), ("sleeps", Idle::Park)] {
            let router = bench.router(idle)?;
            on_core(host, || bench.send(&router, name, &mut found))?;
        }
    }
    Ok(found.finish())
}

const OURS: &str = "shardcast";
/// Frames in one chunk.
const CHUNK: u64 = 4096;
const KEPT: GopCache = GopCache { frames: 4096, bytes: 48 * 1024 * 1024, age: Duration::from_secs(60) };

struct Bench<'a> {
    settings: &'a Settings,
    clock: Clock,
    shard: usize,
    clock_ns: f64,
}

impl Bench<'_> {
    fn repetition(&self, found: &mut Found) -> Result<(), BenchError> {
        for batch in &self.settings.batches {
            let row = |subject| Row::ns(subject, "frame into the log").param("frames per turn", batch);
            found.push(row("floor").param("GOP cache", "ring alone"), self.ring_alone(*batch));
            found.push(row(OURS).param("GOP cache", "off"), self.ingest(GopCache::OFF, 120, *batch)?);
            for gop in &self.settings.gops {
                found.push(row(OURS).param("GOP cache", format!("{gop} frames")), self.ingest(KEPT, *gop, *batch)?);
            }
        }
        Ok(())
    }

    fn ingest(&self, cache: GopCache, gop: u64, batch: u64) -> Result<f64, BenchError> {
        let mut lone = Lone::new(AppSpec::new("*").gop_cache(cache));
        lone.publish(key());
        let mut frames = Frames::new(gop, PAYLOAD_BYTES);
        let turns = CHUNK / batch;
        let mut work = || {
            for _ in 0..turns {
                for _ in 0..batch {
                    lone.send(frames.next());
                }
                lone.turn();
            }
            turns * batch
        };
        work();
        let ns = chunks(self.clock, self.settings.chunks, work);
        all_of("frames that came into the log", lone.counters().frames_in, frames.number())?;
        Ok(ns)
    }

    /// Packed, pushed, popped and unpacked, without a shard.
    fn ring_alone(&self, batch: u64) -> f64 {
        let (mut tx, mut rx) = ring::<Message<Reason>>(RING_SLOTS);
        let mut frames = Frames::new(120, PAYLOAD_BYTES);
        let turns = CHUNK / batch;
        let now = Instant(1_000_000_000);
        chunks(self.clock, self.settings.chunks, || {
            let mut taken = 0;
            for _ in 0..turns {
                for _ in 0..batch {
                    let mut frame = frames.next();
                    frame.origin = now;
                    let _ = tx.push(Message::Frame(PackedFrame::pack(&frame, 0)));
                }
                while let Some(Message::Frame(frame)) = rx.pop() {
                    black_box(frame.unpack(now));
                    taken += 1;
                }
            }
            taken
        })
    }

    fn router(&self, idle: Idle) -> Result<Router, BenchError> {
        Ok(Router::builder().shards(1).cores(Cores::List(vec![self.shard])).idle(idle).start()?)
    }

    fn send(&self, router: &Router, shard: &str, found: &mut Found) -> Result<(), BenchError> {
        let mut publisher = router.publish(&key(), PublishOptions::default())?;
        let mut frames = Frames::new(60, PAYLOAD_BYTES);
        let (mut first, mut rest, mut bursts) = (histogram(), histogram(), Vec::new());
        let since = found.now();
        for _ in 0..self.settings.rounds {
            // The shard has taken everything, and has gone to sleep if it does.
            while publisher.free() < HOST_RING_SLOTS {
                thread::sleep(Duration::from_micros(200));
            }
            thread::sleep(Duration::from_micros(200));
            for n in 0..BURST {
                let frame = frames.next();
                let start = self.clock.instant();
                match publisher.send(frame) {
                    Ok(()) => {}
                    Err(SendError::Full(_)) => all_of("free slots of the publisher's ring", 0, 1)?,
                    Err(SendError::Ended(_, reason)) => return Err(reason.into()),
                }
                let samples = if n == 0 { &mut first } else { &mut rest };
                samples.saturating_record(self.clock.instant().0 - start.0);
            }
            let mut burst = (0..BURST).map(|_| frames.next());
            let start = self.clock.instant();
            let taken = publisher.send_all(&mut burst).map_err(|_| Reason::ShardLost)?;
            bursts.push((self.clock.instant().0 - start.0) as f64 / BURST as f64);
            all_of("frames of a burst that were taken", taken as u64, BURST)?;
        }
        let row = |call: &str| Row::ns(OURS, "call of the publisher").param("shard", shard).param("call", call);
        for (call, samples) in [("send, first after a rest", &first), ("send, the next 63", &rest)] {
            let p50 = found.samples(row(call), &adjusted(samples, self.clock_ns, 1.0), since);
            found.push(row(call), p50);
        }
        found.push(row("send_all of 64, each"), median(bursts));
        // All of it went into the log.
        let sent = frames.number();
        while publisher.free() < HOST_RING_SLOTS {
            thread::sleep(Duration::from_micros(200));
        }
        let came = router.stats().iter().map(|stats| stats.counters.frames_in).sum();
        all_of("frames that came into the log", came, sent)
    }
}

/// Calls after a rest.
const BURST: u64 = 64;

const _: () = assert!(2 * BURST <= HOST_RING_SLOTS as u64, "a round fits the ring, so that none is refused");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn the_log_and_the_publisher_are_measured_with_the_cache_on_and_off() {
        let settings = Settings::of(Size::Test);
        let scenario = on_all_cores(|context| run(&settings, context)).unwrap();

        finite(&scenario);
        let log = scenario.figures.iter().filter(|figure| figure.metric == "frame into the log");
        let params: Vec<_> = log.map(|figure| (&*figure.params[0].1, &*figure.params[1].1)).collect();
        for batch in ["1", "8", "64"] {
            for cache in ["ring alone", "off", "120 frames", "600 frames"] {
                assert!(params.contains(&(batch, cache)), "{batch} {cache}: {params:?}");
            }
        }
        let rest = scenario.distributions.iter().find(|found| found.params[1].1 == "send, the next 63");
        assert_eq!(rest.map(|found| found.count), Some(settings.rounds as u64 * 63));
    }
}
