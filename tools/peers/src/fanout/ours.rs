//! The runs of shardcast.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use shardcast::Router;
use shardcast::bench::BenchError;
use shardcast::bench::frames::Frames;
use shardcast::bench::line::{on_core, wait_until};
use shardcast::clock::{Clock, Instant, Now};
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::id::StreamKey;
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::{Cores, Delivery, PublishOptions, Publisher, SendError, SubscribeOptions};
use shardcast::shard::Idle;

use super::peers::{Progress, SWEEP};
use super::{Case, Place, Run, Stage, WINDOW};
use crate::check::{Checker, GOP, Tally};

/// One shard on this core.
pub(crate) fn router(core: usize, idle: Idle) -> Result<Router, BenchError> {
    Ok(Router::builder().shards(1).cores(Cores::List(vec![core])).idle(idle).start()?)
}

pub(crate) fn key() -> StreamKey {
    StreamKey::parse("live/bench").expect("a valid name")
}

/// Sinks on the shard; frames from a source beside them, or from the host's thread on the other core.
pub(super) fn sinks(stage: &Stage, case: &Case) -> Result<Run, BenchError> {
    let router = router(stage.subscribers, Idle::Spin)?;
    let start = Arc::new(AtomicU64::new(0));
    let (ended, ends) = bounded(1);
    let flush = match case.place {
        Place::OneCore { flush } => Some(flush),
        Place::TwoCores | Place::Unpaced => None,
    };
    let publisher = if let Some(flush) = flush {
        let source = Flushes {
            frames: Frames::new(GOP, case.payload_bytes),
            case: *case,
            flush,
            left: flush,
            start: Arc::clone(&start),
            clock: router.clock(),
        };
        router.run_source(&key(), Box::new(source))?;
        None
    } else {
        Some(router.publish(&key(), PublishOptions::default())?)
    };
    let all = Arc::new(Ending::new(case, router.clock(), ended));
    for _ in 0..case.subscribers {
        let checker = Checker::new(0, case.payload_bytes, case.strict);
        router.attach(&key(), PlayOptions::instant(), Box::new(Sink { checker, all: Arc::clone(&all) }))?;
    }
    match publisher {
        None => start.store(GO, Ordering::Release),
        Some(publisher) => on_core(stage.publisher, || send(&router, publisher, case, &start))?,
    }
    let (end, tally) = ends.recv_timeout(PATIENCE).unwrap_or_default();
    Ok(Run { ns: end.0.saturating_sub(start.load(Ordering::Acquire)), tally })
}

/// From the host's thread: a full ring is tried again.
fn send(router: &Router, mut publisher: Publisher, case: &Case, start: &AtomicU64) -> Result<(), BenchError> {
    let mut frames = Frames::new(GOP, case.payload_bytes);
    for number in 0..case.frames {
        // Sinks that wait for their first keyframe would begin at the newest.
        if number == 1 || number == case.warm_up() {
            let delivered = |deliveries| deliveries >= number * case.subscribers;
            while !router.stats().iter().any(|stats| delivered(stats.counters.deliveries)) {
                std::thread::yield_now();
            }
        }
        if number == case.warm_up() {
            start.store(router.clock().instant().0, Ordering::Release);
        }
        let mut frame = Some(frames.next());
        wait_until(|| match publisher.send(frame.take()?) {
            Ok(()) => Some(Ok(())),
            Err(SendError::Full(back)) => {
                frame = Some(back);
                None
            }
            Err(SendError::Ended(_, reason)) => Some(Err(reason)),
        })?;
    }
    publisher.end();
    Ok(())
}

/// No run takes as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time of a source that may begin; 0 before.
const GO: u64 = 1;

/// A flush of frames in each turn of the shard.
struct Flushes {
    frames: Frames,
    case: Case,
    flush: u64,
    /// Frames that this turn still gets.
    left: u64,
    /// [`GO`], and then when the time began to count.
    start: Arc<AtomicU64>,
    clock: Clock,
}

impl FrameSource for Flushes {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let number = self.frames.number();
        if self.left == 0 {
            self.left = self.flush;
            return SourcePoll::NotBefore(now.mono);
        }
        if self.left == self.flush {
            if number == self.case.frames {
                return SourcePoll::End;
            }
            if self.start.load(Ordering::Acquire) == 0 {
                return SourcePoll::NotBefore(now.mono);
            }
            if number <= self.case.warm_up() {
                self.start.store(self.clock.instant().0, Ordering::Release);
            }
        }
        self.left -= 1;
        SourcePoll::Frame(self.frames.next())
    }
}

struct Sink {
    checker: Checker,
    all: Arc<Ending>,
}

impl FrameSink for Sink {
    #[inline]
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        self.checker.take_frame(frame);
        SinkVerdict::Taken
    }

    fn on_end(&mut self, _: Reason) {
        self.all.one(self.checker.clone());
    }
}

/// When all sinks have ended.
struct Ending {
    left: AtomicU64,
    frames: u64,
    tally: Mutex<Tally>,
    clock: Clock,
    ended: Sender<(Instant, Tally)>,
}

impl Ending {
    fn new(case: &Case, clock: Clock, ended: Sender<(Instant, Tally)>) -> Self {
        let left = AtomicU64::new(case.subscribers);
        Self { left, frames: case.frames, tally: Mutex::default(), clock, ended }
    }

    fn one(&self, checker: Checker) {
        // All sinks are on one shard.
        let Ok(mut tally) = self.tally.lock() else { return };
        *tally += checker.finish(self.frames);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.ended.try_send((self.clock.instant(), *tally));
        }
    }
}

/// Subscriptions of a host's thread on one core; their frames from a source on a shard on the other.
pub(super) fn subscriptions(stage: &Stage, case: &Case) -> Result<Run, BenchError> {
    let router = router(stage.publisher, Idle::Spin)?;
    let (start, progress) = (Arc::new(AtomicU64::new(0)), Arc::new(Progress::default()));
    let source = Windowed {
        frames: Frames::new(GOP, case.payload_bytes),
        case: *case,
        start: Arc::clone(&start),
        progress: Arc::clone(&progress),
        clock: router.clock(),
    };
    router.run_source(&key(), Box::new(source))?;
    let mut subscriptions = Vec::new();
    for _ in 0..case.subscribers {
        let subscription = router.subscribe(&key(), SubscribeOptions::default())?;
        subscriptions.push((subscription, Checker::new(0, case.payload_bytes, case.strict)));
    }
    start.store(GO, Ordering::Release);
    let end = on_core(stage.subscribers, || {
        let mut left = case.subscribers;
        while left > 0 {
            let mut came = 0;
            for (subscription, checker) in &mut subscriptions {
                let before = checker.next();
                for _ in 0..SWEEP {
                    match subscription.try_recv() {
                        Ok(Delivery::Frame(frame)) => checker.take_frame(&frame),
                        // The numbers tell how many.
                        Ok(Delivery::Gap(_)) => {}
                        Ok(Delivery::End(_)) => left -= 1,
                        Err(_) => break,
                    }
                }
                came += checker.next() - before;
            }
            progress.add(came);
        }
        router.clock().instant()
    });
    let mut tally = Tally::default();
    subscriptions.into_iter().for_each(|(_, checker)| tally += checker.finish(case.frames));
    Ok(Run { ns: end.0 - start.load(Ordering::Acquire), tally })
}

/// Frames as long as there is room.
struct Windowed {
    frames: Frames,
    case: Case,
    start: Arc<AtomicU64>,
    progress: Arc<Progress>,
    clock: Clock,
}

impl FrameSource for Windowed {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let number = self.frames.number();
        if self.start.load(Ordering::Acquire) == 0 {
            return SourcePoll::NotBefore(now.mono);
        }
        let window = match number {
            // Who waits for a first keyframe would begin at the newest.
            1 => 0,
            number if number == self.case.warm_up() => 0,
            _ => WINDOW,
        };
        let may = self.case.place == Place::Unpaced && number != 1
            || self.progress.within(window, number, self.case.subscribers);
        if !may {
            return SourcePoll::NotBefore(now.mono);
        }
        if number == self.case.frames {
            return SourcePoll::End;
        }
        if number == self.case.warm_up() {
            self.start.store(self.clock.instant().0, Ordering::Release);
        }
        SourcePoll::Frame(self.frames.next())
    }
}
