//! One stream over two shards against one: does the second core bring what it should?
//!
//! A source on shard 0 makes frames as fast as the slower shard delivers them, at most 256 ahead, so that nothing is
//! left out. The thread that waits for the end sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::Settings;
use crate::bench::figures::{Found, Row};
use crate::bench::frames::{Frames, PAYLOAD_BYTES, Verifier};
use crate::bench::model::Better;
use crate::bench::world::key;
use crate::bench::{BenchError, Context, all_of};
use crate::clock::{Clock, Now};
use crate::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use crate::id::ShardId;
use crate::media::Frame;
use crate::protocol::PlayOptions;
use crate::reason::Reason;
use crate::router::{Cores, Router};
use crate::shard::Idle;

/// Both, in turn; the deliveries that were verified.
pub(super) fn repetition(
    subscribers: usize,
    settings: &Settings,
    context: &Context<'_>,
    found: &mut Found,
) -> Result<u64, BenchError> {
    let frames = (settings.across_deliveries / subscribers as u64).max(AHEAD);
    let mut rates = [0.0; 2];
    for (rate, shards) in rates.iter_mut().zip([1u16, 2]) {
        let cores = (0..usize::from(shards)).map(|index| context.core(index)).collect();
        *rate = deliveries_per_s(cores, subscribers, frames)?;
        let row = Row::new("shardcast", "rate across shards", "1/s").better(Better::Higher);
        found.push(row.param("shards", shards).param("subscribers", subscribers), *rate);
    }
    let quotient = Row::new("shardcast", "rate of two shards ÷ one", "×").better(Better::Higher);
    found.push(quotient.param("subscribers", subscribers), rates[1] / rates[0]);
    Ok(2 * subscribers as u64 * frames)
}

/// Sinks that wait for a keyframe start at the newest: with one only, they all begin with it.
const ONE_KEYFRAME: u64 = u64::MAX;
/// They are never idle while it counts; without sleep they would be in each other's way before on a busy machine.
const IDLE: Idle = Idle::SpinThenPark(Duration::from_micros(50));
/// Frames that the source may be ahead of the slower shard.
const AHEAD: u64 = 256;
/// No run takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

fn deliveries_per_s(cores: Vec<usize>, subscribers: usize, frames: u64) -> Result<f64, BenchError> {
    let shards = cores.len();
    let router = Router::builder().shards(shards).cores(Cores::List(cores)).idle(IDLE).start()?;
    let sum = Arc::new(AtomicU64::new(0));
    let done: Arc<[Done]> = (0..shards).map(|_| Done::default()).collect();
    let (ended, end) = bounded(shards);
    let (go, started) = (Arc::new(AtomicU64::new(0)), router.clock());
    let source = Source {
        frames: Frames::new(ONE_KEYFRAME, PAYLOAD_BYTES),
        left: frames,
        done: Arc::clone(&done),
        go: Arc::clone(&go),
    };
    router.run_source(&key(), Box::new(source))?;
    let ids: Vec<ShardId> = (0u16..).take(shards).map(ShardId).collect();
    // Shard by shard: sinks of two shards on one cache line would cost each delivery the way between the cores.
    for n in 0..subscribers {
        let sink = Box::new(Verifier::<false>::new(PAYLOAD_BYTES, Arc::clone(&sum)));
        router.attach_on(ids[n * shards / subscribers], &key(), PlayOptions::instant(), sink)?;
    }
    // The last of each shard: when it has a frame, all before it have.
    for (index, id) in ids.iter().enumerate() {
        let sink = Last { index, done: Arc::clone(&done), clock: router.clock(), ended: ended.clone() };
        router.attach_on(*id, &key(), PlayOptions::instant(), Box::new(sink))?;
    }

    let start = started.instant();
    go.store(1, Ordering::Release);
    let mut last = start.0;
    for _ in 0..shards {
        last = last.max(end.recv_timeout(PATIENCE).unwrap_or(u64::MAX));
    }
    let _ = router.stop(Duration::from_secs(5));
    let sent = subscribers as u64 * frames;
    all_of("frames that reached a sink of two shards, in order and whole", sum.load(Ordering::Relaxed), sent)?;
    Ok(sent as f64 * 1e9 / (last - start.0) as f64)
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

    fn on_gap(&mut self, frames: u64) {
        // The source must not wait for what does not come; the sum tells that it did not.
        self.done[self.index].0.fetch_add(frames, Ordering::Release);
    }

    fn on_end(&mut self, _: Reason) {
        let _ = self.ended.try_send(self.clock.instant().0);
    }
}
