//! What a frame costs its publisher's side with nobody watching, GOP cache on where there is one: on one core, 64
//! frames at once. A channel per subscriber has nothing to do then and is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shardcast::bench::figures::{Found, Row};
use shardcast::bench::frames::{Frames, PAYLOAD_BYTES};
use shardcast::bench::line::{on_core, wait_until};
use shardcast::bench::model::Scenario;
use shardcast::bench::{BenchError, Context, Size};
use shardcast::clock::{Clock, Instant, Now};
use shardcast::extension::{FrameSource, SourcePoll};
use shardcast::shard::Idle;

use crate::bus::{Arcly, Broadcast, Bus};
use crate::check::{GOP, Packets};
use crate::fanout::{OURS, key, router};

/// How much is measured.
pub(crate) struct Settings {
    pub(crate) repetitions: usize,
    pub(crate) frames: u64,
}

impl Settings {
    pub(crate) fn of(size: Size) -> Self {
        Self { repetitions: size.pick([1, 3, 5, 9]), frames: size.pick([6_400, 64_000, 640_000, 1_280_000]) }
    }
}

/// Runs it.
///
/// # Errors
/// A router that does not start, or does not take all frames in time.
pub(crate) fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    let about = "A frame that nobody watches, into the GOP cache where there is one";
    let mut found = Found::new("publish", about, settings.repetitions);
    let core = context.core(1);
    found.config("payload bytes", PAYLOAD_BYTES);
    found.config("core", core);
    found.config("frames", settings.frames);
    for repetition in 0..settings.repetitions {
        context.progress.step(repetition, settings.repetitions, "frames to nobody");
        let row = |subject: &str| Row::ns(subject, "frame to nobody");
        found.push(row(OURS), ours(settings.frames, core)?);
        found.push(row(Arcly::NAME), on_core(core, || peer::<Arcly>(settings.frames)));
        found.push(row(Broadcast::NAME), on_core(core, || peer::<Broadcast>(settings.frames)));
    }
    Ok(found.finish())
}

fn peer<B: Bus>(frames: u64) -> f64 {
    let (mut bus, mut packets, clock) = (B::open(), Packets::new(PAYLOAD_BYTES), Clock::start());
    let mut start = Instant::ZERO;
    for number in 0..frames {
        if number == frames / 8 {
            start = clock.instant();
        }
        bus.publish(packets.next(Instant::ZERO));
    }
    (clock.instant().0 - start.0) as f64 / (frames - frames / 8) as f64
}

fn ours(frames: u64, core: usize) -> Result<f64, BenchError> {
    let router = router(core, Idle::Spin)?;
    let ns = Arc::new(AtomicU64::new(0));
    let source = Batches {
        frames: Frames::new(GOP, PAYLOAD_BYTES),
        last: frames,
        left: BATCH,
        start: Instant::ZERO,
        clock: router.clock(),
        ns: Arc::clone(&ns),
    };
    router.run_source(&key(), Box::new(source))?;
    let until = router.clock().instant() + PATIENCE;
    let ns = wait_until(|| match ns.load(Ordering::Acquire) {
        0 if router.clock().instant() < until => {
            std::thread::yield_now();
            None
        }
        ns => Some(ns),
    });
    let came = router.stats().iter().map(|stats| stats.counters.frames_in).sum();
    if ns == 0 || came != frames {
        return Err(BenchError::Wrong { what: "frames that the shard took", found: came, expected: frames });
    }
    Ok(ns as f64 / (frames - frames / 8) as f64)
}

/// Frames in one turn.
const BATCH: u64 = 64;
/// No run takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Batches {
    frames: Frames,
    last: u64,
    left: u64,
    start: Instant,
    clock: Clock,
    /// How long it took, in the end.
    ns: Arc<AtomicU64>,
}

impl FrameSource for Batches {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let number = self.frames.number();
        if number == self.last {
            // The frame before is in the log.
            self.ns.store(self.clock.instant().0 - self.start.0, Ordering::Release);
            return SourcePoll::End;
        }
        if self.left == 0 {
            self.left = BATCH;
            return SourcePoll::NotBefore(now.mono);
        }
        if number == self.last / 8 {
            self.start = self.clock.instant();
        }
        self.left -= 1;
        SourcePoll::Frame(self.frames.next())
    }
}
