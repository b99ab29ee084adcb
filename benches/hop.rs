//! From one shard to another: how long a frame is under way, beside the bare cache line and the bare wake-up.
//!
//! * shard → shard: a source on shard 0 stamps each frame as it hands it over, a sink on shard 1 reads the clock as it
//!   gets it. That is everything between: the home's log, the ring, the replica's log, the fan-out. The same the other
//!   way round shows whether the two cores' clocks agree; and on one shard, what is not the crossing.
//! * host → shard → host and host → shard 0 → shard 1 → host: a thread sends and receives, one way, frame by frame.
//!   With two cores there is no core left for the host: spinning, it then goes through one shard only, which has the
//!   other core; parked, it shares a core with shard 0, and sleeps as the shards do.
//!
//! Spinning frames come each 20 µs, parked ones each 2 ms. Nanoseconds, from histograms; the variants take turns
//! within each repetition; the bare line is measured at its beginning and end, since on a virtual machine the cores do
//! not stay at a fixed distance. `cargo bench --bench hop`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use hdrhistogram::Histogram;
use shardcast::Router;
use shardcast::clock::{Clock, Instant, Now};
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::id::{ShardId, StreamKey};
use shardcast::media::{Frame, Timestamp};
use shardcast::net::Network;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::ring::Wake;
use shardcast::router::{Cores, Delivery, PublishOptions, SubscribeOptions};
use shardcast::shard::{Counters, Idle};
use support::{Frames, LineHop, Machine, Percentiles, Series, clock_ns, histogram, key, pin, size, wait_until};

/// A shard that is kept from its core for long would start its joiner at a later one.
const ONE_KEYFRAME: u64 = u64::MAX;
/// Frames before the histogram begins.
const WARM_UP: u64 = 100;

fn main() {
    let machine = Machine::read();
    let clock = Clock::start();
    let cores = [machine.core(0), machine.core(1)];
    println!("{machine}; shard 0 on core {}, shard 1 on core {}", cores[0], cores[1]);
    let three = machine.cores.len() > 2;
    if !three {
        println!("two cores: the host's thread has none of its own, see the head of benches/hop.rs");
    }
    let bench = Bench { clock, cores, host: machine.core(2), spinning: size(20_000, 200), parked: size(300, 5) };
    let reading = clock_ns(clock);
    let line = LineHop { cores, round_trips: size(20_000, 50) };

    let mut rows: Vec<(String, Percentiles)> = Vec::new();
    let mut ratio = Series::default();
    let mut notes = Vec::new();
    let mut record = |name: &str, histogram: &Histogram<u64>, less: f64, parts: f64| {
        if !rows.iter().any(|(known, _)| known == name) {
            rows.push((name.to_owned(), Percentiles::default()));
        }
        let row = rows.iter_mut().find(|(known, _)| known == name);
        row.expect("it was put there").1.push(histogram, less, parts);
    };
    for _ in 0..size(5, 1) {
        let before = line.measure(clock);
        record("bare line", &before, reading, 2.0);
        let there = bench.shard_to_shard(Idle::Spin, 0, 1, &mut notes);
        record("spin  shard 0 → shard 1", &there, reading, 1.0);
        let back = bench.shard_to_shard(Idle::Spin, 1, 0, &mut notes);
        record("spin  shard 1 → shard 0", &back, reading, 1.0);
        record("spin  source → sink on one shard", &bench.shard_to_shard(Idle::Spin, 0, 0, &mut notes), reading, 1.0);
        if three {
            record("spin  host → 0 → 1 → host", &bench.host_to_host(Idle::Spin, 2, &mut notes), reading, 1.0);
        }
        record("spin  host → shard → host", &bench.host_to_host(Idle::Spin, 1, &mut notes), reading, 1.0);
        let after = line.measure(clock);
        record("bare line", &after, reading, 2.0);
        let bare = (before.value_at_quantile(0.5) + after.value_at_quantile(0.5)) as f64 / 2.0 - reading;
        let hop = (there.value_at_quantile(0.5) + back.value_at_quantile(0.5)) as f64 / 2.0 - reading;
        ratio.push(hop / (bare / 2.0));

        record("park  bare wake, unpark", &bench.unpark(), reading, 1.0);
        record("park  bare wake, mio", &bench.poll(), reading, 1.0);
        record("park  shard 0 → shard 1", &bench.shard_to_shard(Idle::Park, 0, 1, &mut notes), reading, 1.0);
        record("park  host → 0 → 1 → host", &bench.host_to_host(Idle::Park, 2, &mut notes), reading, 1.0);
    }
    println!("ns one way, median of the repetitions, p50 with [min - max]; clock {reading:.1} ns, taken off");
    for (name, percentiles) in rows {
        println!("{name:<34}{percentiles}");
    }
    println!("shard to shard, p50 of both directions, against the bare line of the same repetition: {ratio}");
    println!("\nWakes: at most one per target and turn, however many frames and streams");
    let burst = bench.burst();
    println!("{burst}");
    notes.sort();
    notes.dedup();
    for note in notes {
        println!("{note}");
    }
}

struct Bench {
    clock: Clock,
    cores: [usize; 2],
    host: usize,
    spinning: u64,
    parked: u64,
}

impl Bench {
    fn router(&self, idle: Idle, shards: usize, first: usize) -> Router {
        let cores = self.cores[first..first + shards].to_vec();
        let router = Router::builder().shards(shards).cores(Cores::List(cores)).idle(idle).start();
        router.expect("it starts")
    }

    const fn plan(&self, idle: Idle) -> (u64, Duration) {
        match idle {
            Idle::Park => (self.parked, Duration::from_millis(2)),
            _ => (self.spinning, Duration::from_micros(20)),
        }
    }

    fn shard_to_shard(&self, idle: Idle, from: u16, to: u16, notes: &mut Vec<String>) -> Histogram<u64> {
        let router = self.router(idle, 2, 0);
        let (frames, period) = self.plan(idle);
        let (ended, end) = bounded(1);
        // Sources go to the shards in turn.
        if from == 1 {
            let other = StreamKey::parse("live/other").expect("a valid name");
            let silent = Ticker::new(router.clock(), 0, Duration::from_secs(3600));
            router.run_source(&other, Box::new(silent)).expect("nobody else publishes");
        }
        let go = Arc::new(AtomicBool::new(false));
        let ticker = Ticker { go: Arc::clone(&go), ..Ticker::new(router.clock(), frames + WARM_UP, period) };
        router.run_source(&key(), Box::new(ticker)).expect("nobody else publishes");
        let home = router.streams().iter().find(|listed| listed.key == key()).map(|listed| listed.home);
        assert_eq!(home, Some(ShardId(from)));
        let stamper = Stamper { clock: router.clock(), histogram: histogram(), seen: 0, ended };
        router.attach_on(ShardId(to), &key(), PlayOptions::instant(), Box::new(stamper)).expect("it may");
        // The home knows of its reader, here or there.
        while router.stats()[usize::from(from)].subscribers == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        go.store(true, Ordering::Release);
        let (seen, histogram) = end.recv().expect("it ends");
        // A shard that is kept from its core for as long as a ring lasts is left out of what follows.
        let missing = frames + WARM_UP - seen;
        if missing > 0 {
            notes.push(format!("warning: {missing} of {frames} frames did not come, a shard had no core for long"));
        }
        check_wakes(&router, notes);
        histogram
    }

    /// A frame at a time, from the host's thread and back to it.
    fn host_to_host(&self, idle: Idle, shards: usize, notes: &mut Vec<String>) -> Histogram<u64> {
        let alone = shards == 1;
        let router = self.router(idle, shards, usize::from(alone));
        let (count, period) = self.plan(idle);
        let clock = router.clock();
        thread::scope(|scope| {
            let host = scope.spawn(|| {
                pin(if alone { self.cores[0] } else { self.host_core(idle) });
                let publish = PublishOptions { shard: Some(ShardId(0)), ..PublishOptions::default() };
                let mut publisher = router.publish(&key(), publish).expect("nobody else publishes");
                let last = ShardId(u16::try_from(shards - 1).expect("two"));
                let options = SubscribeOptions { shard: Some(last), ..SubscribeOptions::default() };
                let mut subscription = router.subscribe(&key(), options).expect("it may");
                let mut frames = Frames::new(ONE_KEYFRAME);
                let mut histogram = histogram();
                for n in 0..count + WARM_UP {
                    if idle == Idle::Park {
                        thread::sleep(period);
                    } else {
                        let due = clock.instant() + period;
                        wait_until(|| (clock.instant() >= due).then_some(()));
                    }
                    let frame = frames.next();
                    let sent = clock.instant();
                    publisher.send(stamped(frame, sent)).expect("there is room");
                    let delivery = if idle == Idle::Park {
                        subscription.recv()
                    } else {
                        wait_until(|| subscription.try_recv().ok())
                    };
                    let now = clock.instant();
                    let Delivery::Frame(frame) = delivery else { panic!("no frame: {delivery:?}") };
                    assert_eq!(frame.dts.0, sent.0.cast_signed());
                    if n >= WARM_UP {
                        histogram.saturating_record(now.0 - sent.0);
                    }
                }
                check_wakes(&router, notes);
                histogram
            });
            host.join().expect("it only counts")
        })
    }

    fn host_core(&self, idle: Idle) -> usize {
        if idle == Idle::Park { self.cores[0] } else { self.host }
    }

    /// `Thread::unpark` to a thread that sleeps on the other core.
    fn unpark(&self) -> Histogram<u64> {
        let stamp = AtomicU64::new(0);
        self.wakes(&stamp, |_| thread::park_timeout(Duration::from_secs(1)), |peer, ()| peer.unpark(), &())
    }

    /// What a shard waits in, and what wakes it.
    fn poll(&self) -> Histogram<u64> {
        let stamp = AtomicU64::new(0);
        let mut network = Network::new().expect("descriptors");
        let waker = network.waker().expect("a descriptor");
        let mut ready = Vec::new();
        let wait = move |_: &AtomicU64| network.wait(Some(Duration::from_secs(1)), &mut ready);
        self.wakes(&stamp, wait, |_, waker| waker.wake(), &waker)
    }

    fn wakes<W>(
        &self,
        stamp: &AtomicU64,
        mut wait: impl FnMut(&AtomicU64) + Send,
        wake: impl Fn(&thread::Thread, &W) + Send,
        waker: &W,
    ) -> Histogram<u64>
    where
        W: Sync,
    {
        let (count, period) = self.plan(Idle::Park);
        thread::scope(|scope| {
            let sleeper = scope.spawn(move || {
                pin(self.cores[1]);
                let mut histogram = histogram();
                for _ in 0..count {
                    let sent = loop {
                        match stamp.swap(0, Ordering::Acquire) {
                            0 => wait(stamp),
                            sent => break sent,
                        }
                    };
                    histogram.saturating_record(self.clock.instant().0 - sent);
                }
                histogram
            });
            let peer = sleeper.thread().clone();
            let sender = scope.spawn(move || {
                pin(self.cores[0]);
                for _ in 0..count {
                    // A sleeper that was kept from its core has the last one first.
                    while stamp.load(Ordering::Acquire) != 0 {
                        thread::sleep(period);
                    }
                    thread::sleep(period);
                    stamp.store(self.clock.instant().0, Ordering::Release);
                    wake(&peer, waker);
                }
            });
            sender.join().expect("it only stamps");
            sleeper.join().expect("it only counts")
        })
    }

    /// Eight streams, bursts of frames of all of them: how often does shard 0 wake shard 1?
    fn burst(&self) -> String {
        const STREAMS: usize = 8;
        let bursts = size(500, 3);
        let router = self.router(Idle::Park, 2, 0);
        let keys: Vec<StreamKey> =
            (0..STREAMS).map(|n| StreamKey::parse(&format!("live/{n}")).expect("a valid name")).collect();
        let publish = || PublishOptions { shard: Some(ShardId(0)), ..PublishOptions::default() };
        let mut publishers: Vec<_> =
            keys.iter().map(|key| router.publish(key, publish()).expect("nobody else publishes")).collect();
        let (ended, _end) = bounded(STREAMS);
        for key in &keys {
            let stamper = Stamper { clock: router.clock(), histogram: histogram(), seen: 0, ended: ended.clone() };
            router.attach_on(ShardId(1), key, PlayOptions::instant(), Box::new(stamper)).expect("it may");
        }
        let before = counters(&router, 0);
        let mut frames = Frames::new(ONE_KEYFRAME);
        for _ in 0..bursts {
            thread::sleep(Duration::from_millis(2));
            for publisher in &mut publishers {
                let mut burst = (0..8).map(|_| frames.next());
                publisher.send_all(&mut burst).expect("there is room");
            }
        }
        thread::sleep(Duration::from_millis(50));
        let after = counters(&router, 0);
        let (wakes, turns, relays) =
            (after.wakes - before.wakes, after.turns - before.turns, after.relays - before.relays);
        assert!(wakes <= turns, "one target: at most one wake per turn");
        format!("{STREAMS} streams in bursts, parked: {relays} frames relayed in {turns} turns, {wakes} wakes")
    }
}

/// A frame whose decoding time is its stamp.
fn stamped(mut frame: Frame, at: Instant) -> Frame {
    frame.dts = Timestamp(at.0.cast_signed());
    frame.pts = frame.dts;
    frame
}

fn counters(router: &Router, shard: usize) -> Counters {
    router.stats()[shard].counters.clone()
}

/// Shard 0 has one target besides the host, and so has shard 1.
fn check_wakes(router: &Router, notes: &mut Vec<String>) {
    for stats in router.stats() {
        let counters = stats.counters;
        assert!(counters.wakes <= 2 * counters.turns, "{counters:?}");
        if counters.ring_full > 0 {
            notes.push("warning: a ring was full".to_owned());
        }
    }
}

/// Stamps a frame now and then, once it may.
struct Ticker {
    frames: Frames,
    clock: Clock,
    left: u64,
    period: Duration,
    due: Instant,
    go: Arc<AtomicBool>,
}

impl Ticker {
    fn new(clock: Clock, left: u64, period: Duration) -> Self {
        Self { frames: Frames::new(ONE_KEYFRAME), clock, left, period, due: Instant::ZERO, go: Arc::default() }
    }
}

impl FrameSource for Ticker {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        if !self.go.load(Ordering::Acquire) {
            return SourcePoll::NotBefore(now.mono + Duration::from_millis(1));
        }
        if now.mono < self.due {
            return SourcePoll::NotBefore(self.due);
        }
        if self.left == 0 {
            return SourcePoll::End;
        }
        self.left -= 1;
        self.due = now.mono + self.period;
        let frame = self.frames.next();
        SourcePoll::Frame(stamped(frame, self.clock.instant()))
    }
}

/// Reads the clock when a frame comes.
struct Stamper {
    clock: Clock,
    histogram: Histogram<u64>,
    seen: u64,
    ended: Sender<(u64, Histogram<u64>)>,
}

impl FrameSink for Stamper {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let now = self.clock.instant();
        self.seen += 1;
        if self.seen > WARM_UP {
            self.histogram.saturating_record(now.0.saturating_sub(frame.dts.0.cast_unsigned()));
        }
        SinkVerdict::Taken
    }

    fn on_end(&mut self, _: Reason) {
        let _ = self.ended.try_send((self.seen, self.histogram.clone()));
    }
}
