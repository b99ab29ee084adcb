//! Joiners of shardcast: the stream's shard has the publisher's core, the host's thread the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use shardcast::Router;
use shardcast::bench::BenchError;
use shardcast::bench::frames::{Frames, PAYLOAD_BYTES};
use shardcast::bench::line::on_core;
use shardcast::clock::{Instant, Now};
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::router::{Delivery, SubscribeOptions};
use shardcast::shard::Idle;

use super::{Joined, Joiner, Live, PERIOD, Plan};
use crate::check::{GOP, number_of};
use crate::fanout::{key, router};

/// A sink that is attached, and runs on the shard.
pub(super) fn sinks(plan: &Plan) -> Result<Vec<Joined>, BenchError> {
    joins(plan, |nth, router, live| {
        let (tell, told) = bounded(1);
        let sink = Sink { joiner: Joiner::new(nth, router.clock(), live), tell };
        router.attach(&key(), PlayOptions::instant(), Box::new(sink))?;
        Ok(told.recv_timeout(PATIENCE).ok())
    })
}

/// A subscription of the host's thread.
pub(super) fn subscriptions(plan: &Plan) -> Result<Vec<Joined>, BenchError> {
    joins(plan, |nth, router, live| {
        let mut joiner = Joiner::new(nth, router.clock(), live);
        let mut subscription = router.subscribe(&key(), SubscribeOptions::default())?;
        loop {
            match subscription.recv_timeout(PATIENCE) {
                Some(Delivery::Frame(frame)) => {
                    if let Some(joined) = joiner.take(number_of(&frame), frame.is_key(), &frame.payload) {
                        return Ok(Some(joined));
                    }
                }
                // The numbers tell how many.
                Some(Delivery::Gap(_)) => {}
                Some(Delivery::End(_)) | None => return Ok(None),
            }
        }
    })
}

/// No join takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

fn joins(
    plan: &Plan,
    join: impl Fn(usize, &Router, &Live) -> Result<Option<Joined>, BenchError> + Sync,
) -> Result<Vec<Joined>, BenchError> {
    let router = router(plan.publisher, Idle::Spin)?;
    let live = Arc::new(Live::default());
    let source = Steady { frames: Frames::new(GOP, PAYLOAD_BYTES), due: Instant::ZERO, live: Arc::clone(&live) };
    router.run_source(&key(), Box::new(source))?;
    on_core(plan.joiner, || {
        while !live.is_warm() {
            std::thread::yield_now();
        }
        let mut all = Vec::new();
        for nth in 0..plan.joins {
            all.extend(join(nth, &router, &live)?);
        }
        Ok(all)
    })
}

/// A frame each period.
struct Steady {
    frames: Frames,
    due: Instant,
    live: Arc<Live>,
}

impl FrameSource for Steady {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        // What it handed over before is in the log.
        self.live.sent.store(self.frames.number(), Ordering::Release);
        if now.mono < self.due {
            return SourcePoll::NotBefore(self.due);
        }
        self.due = now.mono + PERIOD;
        SourcePoll::Frame(self.frames.next())
    }
}

struct Sink {
    joiner: Joiner,
    tell: Sender<Joined>,
}

impl FrameSink for Sink {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        match self.joiner.take(number_of(frame), frame.is_key(), &frame.payload) {
            Some(joined) => {
                // Nobody waits any more if it took too long.
                let _ = self.tell.try_send(joined);
                SinkVerdict::Done
            }
            None => SinkVerdict::Taken,
        }
    }
}
