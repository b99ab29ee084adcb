//! One run of frames on one way: who sends, who receives, and what they found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use hdrhistogram::Histogram;

use super::{Bench, WARM_UP};
use crate::bench::BenchError;
use crate::bench::figures::histogram;
use crate::bench::frames::{Frames, PAYLOAD_BYTES, is_right};
use crate::bench::line::{on_core, wait_until};
use crate::bench::world::key;
use crate::clock::{Clock, Instant, Now};
use crate::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use crate::id::{ShardId, StreamKey};
use crate::media::{Frame, Timestamp};
use crate::protocol::PlayOptions;
use crate::reason::Reason;
use crate::router::{Cores, Delivery, PublishOptions, Router, SendError, SubscribeOptions};
use crate::shard::Idle;

/// A shard that is kept from its core for long would start its joiner at a later one.
pub(super) const ONE_KEYFRAME: u64 = u64::MAX;

/// From whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From a source on one shard to a sink on the other, or the same.
    Shards(u16, u16),
    /// From the host's thread through so many shards, and back to it.
    Host(u16),
}

impl Way {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shards(0, 1) => "shard 0 → shard 1",
            Self::Shards(1, 0) => "shard 1 → shard 0",
            Self::Shards(..) => "source → sink on one shard",
            Self::Host(1) => "host → shard → host",
            Self::Host(_) => "host → shard 0 → shard 1 → host",
        }
    }
}

/// What one run found.
pub(super) struct Run {
    pub(super) samples: Histogram<u64>,
    /// Frames that did not come, or not as the next one.
    pub(super) missing: u64,
}

impl Bench<'_> {
    pub(super) fn router(&self, idle: Idle, shards: u16, first: usize) -> Result<Router, BenchError> {
        let shards = usize::from(shards);
        let cores = self.cores[first..first + shards].to_vec();
        Ok(Router::builder().shards(shards).cores(Cores::List(cores)).idle(idle).start()?)
    }

    pub(super) fn shard_to_shard(&self, idle: Idle, from: u16, to: u16) -> Result<Run, BenchError> {
        let router = self.router(idle, 2, 0)?;
        let (frames, period) = self.plan(idle);
        let (ended, end) = bounded(1);
        // Sources go to the shards in turn.
        if from == 1 {
            let other = StreamKey::parse("live/other").map_err(|_| Reason::BadName)?;
            let silent = Ticker::new(router.clock(), 0, Duration::from_secs(3600));
            router.run_source(&other, Box::new(silent))?;
        }
        let go = Arc::new(AtomicBool::new(false));
        let ticker = Ticker { go: Arc::clone(&go), ..Ticker::new(router.clock(), frames + WARM_UP, period) };
        router.run_source(&key(), Box::new(ticker))?;
        let home = router.streams().iter().find(|listed| listed.key == key()).map(|listed| listed.home);
        debug_assert_eq!(home, Some(ShardId(from)));
        let stamper = Stamper::new(router.clock(), ended);
        router.attach_on(ShardId(to), &key(), PlayOptions::instant(), Box::new(stamper))?;
        // The home knows of its reader, here or there.
        while router.stats().get(usize::from(from)).is_none_or(|stats| stats.subscribers == 0) {
            thread::sleep(Duration::from_millis(1));
        }
        go.store(true, Ordering::Release);
        let (right, samples) = end.recv_timeout(PATIENCE).unwrap_or_else(|_| (0, histogram()));
        Ok(Run { samples, missing: frames + WARM_UP - right })
    }

    /// A frame at a time, from the host's thread and back to it.
    pub(super) fn host_to_host(&self, idle: Idle, shards: u16) -> Result<Run, BenchError> {
        // Alone, the shard has the other core.
        let (first, core) = match (idle, shards) {
            (_, 1) => (1, self.cores[0]),
            (Idle::Park, _) => (0, self.cores[0]),
            _ => (0, self.host.unwrap_or(self.cores[0])),
        };
        let router = self.router(idle, shards, first)?;
        on_core(core, || self.there_and_back(&router, idle, ShardId(shards - 1)))
    }

    fn there_and_back(&self, router: &Router, idle: Idle, last: ShardId) -> Result<Run, BenchError> {
        let (count, period) = self.plan(idle);
        let clock = router.clock();
        let publish = PublishOptions { shard: Some(ShardId(0)), ..PublishOptions::default() };
        let mut publisher = router.publish(&key(), publish)?;
        let options = SubscribeOptions { shard: Some(last), ..SubscribeOptions::default() };
        let mut subscription = router.subscribe(&key(), options)?;
        let mut frames = Frames::new(ONE_KEYFRAME, PAYLOAD_BYTES);
        let (mut samples, mut missing) = (histogram(), 0);
        for n in 0..count + WARM_UP {
            if idle == Idle::Park {
                thread::sleep(period);
            } else {
                let due = clock.instant() + period;
                wait_until(|| (clock.instant() >= due).then_some(()));
            }
            let frame = frames.next();
            let sent = clock.instant();
            match publisher.send(stamped(frame, sent)) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    missing += 1;
                    continue;
                }
                Err(SendError::Ended(_, reason)) => return Err(reason.into()),
            }
            let delivery = if idle == Idle::Park {
                subscription.recv_timeout(PATIENCE)
            } else {
                Some(wait_until(|| subscription.try_recv().ok()))
            };
            let now = clock.instant();
            match delivery {
                Some(Delivery::Frame(frame))
                    if frame.dts.0 == sent.0.cast_signed() && is_right(&frame.payload, n, PAYLOAD_BYTES) =>
                {
                    if n >= WARM_UP {
                        samples.saturating_record(now.0 - sent.0);
                    }
                }
                Some(Delivery::End(reason)) => return Err(reason.into()),
                _ => missing += 1,
            }
        }
        Ok(Run { samples, missing })
    }
}

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A frame whose decoding time is its stamp.
fn stamped(mut frame: Frame, at: Instant) -> Frame {
    frame.dts = Timestamp(at.0.cast_signed());
    frame.pts = frame.dts;
    frame
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
        let frames = Frames::new(ONE_KEYFRAME, PAYLOAD_BYTES);
        Self { frames, clock, left, period, due: Instant::ZERO, go: Arc::default() }
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
pub(super) struct Stamper {
    clock: Clock,
    samples: Histogram<u64>,
    right: u64,
    seen: u64,
    ended: Sender<(u64, Histogram<u64>)>,
}

impl Stamper {
    pub(super) fn new(clock: Clock, ended: Sender<(u64, Histogram<u64>)>) -> Self {
        Self { clock, samples: histogram(), right: 0, seen: 0, ended }
    }
}

impl FrameSink for Stamper {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let now = self.clock.instant();
        self.right += u64::from(is_right(&frame.payload, self.seen, PAYLOAD_BYTES));
        self.seen += 1;
        if self.seen > WARM_UP {
            self.samples.saturating_record(now.0.saturating_sub(frame.dts.0.cast_unsigned()));
        }
        SinkVerdict::Taken
    }

    fn on_gap(&mut self, frames: u64) {
        self.seen += frames;
    }

    fn on_end(&mut self, _: Reason) {
        let _ = self.ended.try_send((self.right, self.samples.clone()));
    }
}
