//! Fan-out of one stream over two shards against one: does the second core bring what it should?
//!
//! The same number of sinks on one shard, and spread over two. A source on shard 0 makes frames as fast as the slower
//! shard delivers them, at most 256 ahead, so that nothing is left out; every sink checks number and length, and the sum
//! must match. The variants take turns within each repetition. The thread that waits for the end sleeps.
//! `cargo bench --bench shards`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use shardcast::Router;
use shardcast::clock::{Clock, Now};
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::id::ShardId;
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::Cores;
use shardcast::shard::Idle;
use support::{Frames, Machine, Series, Verifier, key, size};

/// Sinks that wait for a keyframe start at the newest: with one only, they all begin with it.
const ONE_KEYFRAME: u64 = u64::MAX;
const SINKS: usize = 2_000;
/// They are never idle while it counts; without sleep they would be in each other's way before on a busy machine.
const IDLE: Idle = Idle::SpinThenPark(Duration::from_micros(50));
/// Frames that the source may be ahead of the slower shard.
const AHEAD: u64 = 256;

fn main() {
    let machine = Machine::read();
    println!("{machine}; shard n on core n");
    if machine.cores.len() < 2 {
        println!("one core only: the ratio says nothing");
    }
    let (frames, repetitions) = (size(100_000, 200), size(7, 1));
    let (mut one, mut two, mut ratio) = (Series::default(), Series::default(), Series::default());
    for _ in 0..repetitions {
        let [single, double] = [1, 2].map(|shards| deliveries_per_us(&machine, shards, frames));
        one.push(single);
        two.push(double);
        ratio.push(double / single);
    }
    println!("{SINKS} sinks, {frames} frames, median [min - max] of {repetitions} repetitions");
    println!("one shard   {one} deliveries per microsecond");
    println!("two shards  {two}");
    println!("ratio       {ratio}");
    println!("{} deliveries received and verified", 2 * repetitions * SINKS as u64 * frames);
}

fn deliveries_per_us(machine: &Machine, shards: usize, frames: u64) -> f64 {
    let cores = (0..shards).map(|index| machine.core(index)).collect();
    let router = Router::builder().shards(shards).cores(Cores::List(cores)).idle(IDLE).start();
    let router = router.expect("it starts");
    let sum = Arc::new(AtomicU64::new(0));
    let done: Arc<[Done]> = (0..shards).map(|_| Done::default()).collect();
    let (ended, end) = bounded(shards);

    let (go, started) = (Arc::new(AtomicU64::new(0)), router.clock());
    let source =
        Source { frames: Frames::new(ONE_KEYFRAME), left: frames, done: Arc::clone(&done), go: Arc::clone(&go) };
    router.run_source(&key(), Box::new(source)).expect("nobody else publishes");
    for n in 0..SINKS {
        let sink = Box::new(Verifier::new(0, Arc::clone(&sum)));
        router.attach_on(shard(n % shards), &key(), PlayOptions::instant(), sink).expect("it may");
    }
    // The last of each shard: when it has a frame, all before it have.
    for index in 0..shards {
        let sink = Last { index, done: Arc::clone(&done), clock: router.clock(), ended: ended.clone() };
        router.attach_on(shard(index), &key(), PlayOptions::instant(), Box::new(sink)).expect("it may");
    }

    let start = started.instant();
    go.store(1, Ordering::Release);
    let last = (0..shards).map(|_| end.recv().expect("every shard ends")).max().expect("one at least");
    let stopped = router.stop(Duration::from_secs(5));
    assert!(stopped.drained);
    assert_eq!(sum.load(Ordering::Relaxed), SINKS as u64 * frames, "every frame reached every sink, in order, whole");
    (SINKS as u64 * frames) as f64 * 1e3 / (last - start.0) as f64
}

fn shard(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("two"))
}

/// Frames that all sinks of one shard have.
#[derive(Default)]
#[repr(align(128))]
struct Done(AtomicU64);

struct Source {
    frames: Frames,
    left: u64,
    done: Arc<[Done]>,
    go: Arc<AtomicU64>,
}

impl FrameSource for Source {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let slowest = self.done.iter().map(|done| done.0.load(Ordering::Acquire)).min().unwrap_or(0);
        if self.left == 0 {
            // The end waits until all have what was sent.
            return if slowest == self.frames.number() { SourcePoll::End } else { SourcePoll::NotBefore(now.mono) };
        }
        if self.go.load(Ordering::Acquire) == 0 || self.frames.number() - slowest >= AHEAD {
            return SourcePoll::NotBefore(now.mono);
        }
        self.left -= 1;
        SourcePoll::Frame(self.frames.next())
    }
}

/// Tells how far its shard is.
struct Last {
    index: usize,
    done: Arc<[Done]>,
    clock: Clock,
    ended: Sender<u64>,
}

impl FrameSink for Last {
    fn on_frame(&mut self, _: &Frame) -> SinkVerdict {
        let done = &self.done[self.index].0;
        // The only writer.
        done.store(done.load(Ordering::Relaxed) + 1, Ordering::Release);
        SinkVerdict::Taken
    }

    fn on_end(&mut self, _: Reason) {
        let _ = self.ended.try_send(self.clock.instant().0);
    }
}
