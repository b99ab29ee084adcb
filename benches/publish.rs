//! A frame's own way: from the publisher into the log, with nobody watching; and what a joiner costs.
//!
//! * ingest: a lone shard on one pinned thread, no subscriber; frames through a host publisher's ring, 1 to 64 a turn.
//!   The difference between a GOP cache of 120 or 600 frames and none is what the cache costs a frame.
//! * send: `Publisher::send` on the host's thread, with the shard on the other core spinning or asleep.
//! * join: a sink joins a stream with a GOP of 30 to 600 frames in its log; the turns until it has its first keyframe
//!   and until it has everything, so many joins each. And the same for a host's `Subscription`, from the call on, with
//!   the shard on the other core.
//!
//! `cargo bench --bench publish`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use shardcast::Router;
use shardcast::clock::Clock;
use shardcast::extension::{FrameSink, SinkVerdict};
use shardcast::limits::HOST_RING_SLOTS;
use shardcast::media::Frame;
use shardcast::router::{Cores, Delivery, PublishOptions, SendError, SubscribeOptions};
use shardcast::shard::Idle;
use shardcast::stream::{AppSpec, GopCache};
use support::{
    Frames, Lone, Machine, Percentiles, Series, chunks, clock_ns, histogram, key, pin, sequence_of, size, wait_until,
    wrapped,
};

fn main() {
    let machine = Machine::read();
    println!("{machine}; the shard on core {}, the host on core {}", machine.core(1), machine.core(0));
    let bench = Bench { clock: Clock::start(), core: machine.core(1) };
    let on = |core, work: &(dyn Fn() + Sync)| {
        // A thread of its own: cores that this one gave up could not be given to shards.
        let pinned = || {
            pin(core);
            work();
        };
        thread::scope(|scope| scope.spawn(pinned).join().expect("the bench"));
    };
    on(machine.core(1), &|| bench.alone());
    for (name, idle) in [("shard spins", Idle::Spin), ("shard sleeps", Idle::Park)] {
        let router = bench.router(idle);
        on(machine.core(0), &|| bench.send(&router, name));
    }
    println!("\nrouter.subscribe(…) to the first keyframe, and to everything; µs");
    for (name, idle) in [("shard spins", Idle::Spin), ("shard sleeps", Idle::Park)] {
        for gop in [30, 120, 600] {
            let router = bench.router(idle);
            on(machine.core(0), &|| bench.subscribe(&router, name, gop));
        }
    }
}

const fn kept() -> GopCache {
    GopCache { frames: 4096, bytes: 48 * 1024 * 1024, age: Duration::from_secs(60) }
}

struct Bench {
    clock: Clock,
    core: usize,
}

impl Bench {
    /// What needs no second thread.
    fn alone(&self) {
        let repetitions = size(7, 1);

        println!("\ningest without a subscriber, ns per frame, median [min - max] of {repetitions} repetitions");
        println!("{:<24}{:>26}{:>26}{:>26}", "frames per turn", "1", "8", "64");
        let caches = [("cache off", 120, GopCache::OFF), ("GOP of 120", 120, kept()), ("GOP of 600", 600, kept())];
        for (name, gop, cache) in caches {
            let mut series: [Series; 3] = Default::default();
            for _ in 0..repetitions {
                for (series, batch) in series.iter_mut().zip([1, 8, 64]) {
                    series.push(self.ingest(cache, gop, batch));
                }
            }
            println!("{name:<24}{:>26}{:>26}{:>26}", series[0], series[1], series[2]);
        }

        println!("\na sink joins on its shard, ns, median [min - max]");
        println!("{:<24}{:>26}{:>26}{:>26}", "frames in the log", "first keyframe", "everything", "per frame");
        for gop in [30, 120, 600] {
            let mut series: [Series; 3] = Default::default();
            for _ in 0..repetitions {
                let (first, all) = self.join(gop);
                series[0].push(first);
                series[1].push(all);
                series[2].push(all / gop as f64);
            }
            println!("{gop:<24}{:>26}{:>26}{:>26}", series[0], series[1], series[2]);
        }
    }

    fn ingest(&self, cache: GopCache, gop: u64, batch: u64) -> f64 {
        let mut lone = Lone::new(AppSpec::new("*").gop_cache(cache), 0, Bytes::new(), None);
        lone.publish(key());
        let mut frames = Frames::new(gop);
        let turns = size(4096, 64) / batch;
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
        let ns = chunks(self.clock, size(41, 2), work);
        assert_eq!(lone.counters().frames_in, frames.number());
        ns
    }

    /// Nanoseconds from the command to the first frame, and to the last that is there.
    fn join(&self, gop: u64) -> (f64, f64) {
        let (mut first, mut all) = (Series::default(), Series::default());
        let (seen, seen_first) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for _ in 0..size(101, 2) {
            let mut lone = Lone::new(AppSpec::new("*"), 0, Bytes::new(), None);
            lone.publish(key());
            let mut frames = Frames::new(gop);
            // One GOP but for its last frame, all of it warm in the log.
            for _ in 0..gop {
                lone.send(frames.next());
                lone.turn();
            }
            seen.store(0, Ordering::Relaxed);
            let sink = Joiner { clock: self.clock, seen: Arc::clone(&seen), first: Arc::clone(&seen_first) };
            let start = self.clock.instant();
            lone.attach(key(), Box::new(sink));
            while seen.load(Ordering::Relaxed) < gop {
                lone.turn();
            }
            let end = self.clock.instant();
            first.push((seen_first.load(Ordering::Relaxed) - start.0) as f64);
            all.push((end.0 - start.0) as f64);
            assert_eq!(seen.load(Ordering::Relaxed), gop);
        }
        (first.median(), all.median())
    }

    fn router(&self, idle: Idle) -> Router {
        let router = Router::builder().shards(1).cores(Cores::List(vec![self.core])).idle(idle).start();
        router.expect("it starts")
    }

    fn send(&self, router: &Router, name: &str) {
        let mut publisher = router.publish(&key(), PublishOptions::default()).expect("nobody else publishes");
        let mut frames = Frames::new(60);
        let (mut bursts, mut first, mut rest) = (Series::default(), histogram(), histogram());
        for _ in 0..size(1_000, 3) {
            // The shard has taken everything, and has gone to sleep if it does.
            while publisher.free() < HOST_RING_SLOTS {
                thread::sleep(Duration::from_micros(200));
            }
            thread::sleep(Duration::from_micros(200));
            for n in 0..64 {
                let frame = frames.next();
                let start = self.clock.instant();
                publisher.send(frame).expect("there is room");
                let histogram = if n == 0 { &mut first } else { &mut rest };
                histogram.saturating_record(self.clock.instant().0 - start.0);
            }
            let mut burst = (0..64).map(|_| frames.next());
            let start = self.clock.instant();
            assert_eq!(publisher.send_all(&mut burst).ok(), Some(64));
            bursts.push((self.clock.instant().0 - start.0) as f64 / 64.0);
        }
        let reading = clock_ns(self.clock);
        let told = |histogram: &Histogram<u64>| {
            let mut percentiles = Percentiles::default();
            percentiles.push(histogram, reading, 1.0);
            percentiles
        };
        println!("\nPublisher::send, {name}; ns a call");
        println!("first after a rest      {}", told(&first));
        println!("the next 63             {}", told(&rest));
        println!("send_all of 64, each    {:.1}", bursts.median());
    }

    fn subscribe(&self, router: &Router, name: &str, gop: u64) {
        let mut publisher = router.publish(&key(), PublishOptions::default()).expect("nobody else publishes");
        let mut frames = Frames::new(gop);
        for _ in 0..gop {
            let mut frame = Some(frames.next());
            wait_until(|| match publisher.send(frame.take().expect("it came back")) {
                Ok(()) => Some(()),
                Err(SendError::Full(back)) => {
                    frame = Some(back);
                    None
                }
                Err(ended) => panic!("{ended}"),
            });
        }
        thread::sleep(Duration::from_millis(5));
        let (mut first, mut all) = (histogram(), histogram());
        for _ in 0..size(200, 2) {
            let start = self.clock.instant();
            let mut subscription = router.subscribe(&key(), SubscribeOptions::default()).expect("it may");
            for n in 0..gop {
                let Delivery::Frame(frame) = subscription.recv() else { panic!("frames were left out") };
                assert_eq!(sequence_of(&frame.payload), Some(wrapped(n)));
                if n == 0 {
                    first.saturating_record(self.clock.instant().0 - start.0);
                }
            }
            all.saturating_record(self.clock.instant().0 - start.0);
            drop(subscription);
            thread::sleep(Duration::from_micros(500));
        }
        let us = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1e3;
        println!(
            "{name:<16}GOP of {gop:<8}first p50 {:>7.1} p99 {:>8.1}    all p50 {:>7.1} p99 {:>8.1}",
            us(&first, 0.5),
            us(&first, 0.99),
            us(&all, 0.5),
            us(&all, 0.99)
        );
    }
}

/// Tells when its first frame came, and how many came.
struct Joiner {
    clock: Clock,
    seen: Arc<AtomicU64>,
    first: Arc<AtomicU64>,
}

impl FrameSink for Joiner {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let seen = self.seen.load(Ordering::Relaxed);
        if seen == 0 {
            assert!(frame.is_key());
            self.first.store(self.clock.instant().0, Ordering::Relaxed);
        }
        self.seen.store(seen + 1, Ordering::Relaxed);
        SinkVerdict::Taken
    }
}
