//! What waking a sleeper costs with nothing around it, and how often a shard wakes another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use hdrhistogram::Histogram;

use super::Bench;
use super::parts::{ONE_KEYFRAME, Stamper};
use crate::bench::figures::histogram;
use crate::bench::frames::{Frames, PAYLOAD_BYTES};
use crate::bench::line::pin;
use crate::bench::{BenchError, all_of};
use crate::id::{ShardId, StreamKey};
use crate::net::Network;
use crate::protocol::PlayOptions;
use crate::reason::Reason;
use crate::ring::Wake;
use crate::router::{PublishOptions, Router};
use crate::shard::{Counters, Idle};

impl Bench<'_> {
    /// `Thread::unpark` to a thread that sleeps on the other core, in ns.
    pub(super) fn unpark(&self) -> Histogram<u64> {
        self.wakes(|| thread::park_timeout(Duration::from_secs(1)), thread::Thread::unpark)
    }

    /// What a shard waits in, and what wakes it, in ns.
    pub(super) fn poll(&self) -> Result<Histogram<u64>, BenchError> {
        let system = |source| BenchError::System { action: "make a poll", source };
        let mut network = Network::new().map_err(system)?;
        let waker = network.waker().map_err(system)?;
        let mut ready = Vec::new();
        let wait = move || network.wait(Some(Duration::from_secs(1)), &mut ready);
        // Lent: closed by the sender after its last wake, it would take that wake along.
        Ok(self.wakes(wait, |_| waker.wake()))
    }

    fn wakes(&self, mut wait: impl FnMut() + Send, wake: impl Fn(&thread::Thread) + Send) -> Histogram<u64> {
        let (count, period) = self.plan(Idle::Park);
        let stamp = &AtomicU64::new(0);
        let mut samples = histogram();
        thread::scope(|scope| {
            let samples = &mut samples;
            let sleeper = scope.spawn(move || {
                pin(self.cores[1]);
                for _ in 0..count {
                    let sent = loop {
                        match stamp.swap(0, Ordering::Acquire) {
                            0 => wait(),
                            sent => break sent,
                        }
                    };
                    samples.saturating_record(self.clock.instant().0 - sent);
                }
            });
            let peer = sleeper.thread().clone();
            scope.spawn(move || {
                pin(self.cores[0]);
                for _ in 0..count {
                    // A sleeper that was kept from its core has the last one first.
                    while stamp.load(Ordering::Acquire) != 0 {
                        thread::sleep(period);
                    }
                    thread::sleep(period);
                    stamp.store(self.clock.instant().0, Ordering::Release);
                    wake(&peer);
                }
            });
        });
        samples
    }

    /// Eight streams, bursts of frames of all of them: how often does shard 0 wake shard 1, in how many turns?
    pub(super) fn burst(&self) -> Result<(f64, f64), BenchError> {
        const STREAMS: usize = 8;
        const FRAMES: u64 = 8;
        let bursts = self.settings.bursts;
        let router = self.router(Idle::Park, 2, 0)?;
        let keys = (0..STREAMS).map(|n| StreamKey::parse(&format!("live/{n}")));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|_| Reason::BadName)?;
        let publish = || PublishOptions { shard: Some(ShardId(0)), ..PublishOptions::default() };
        let mut publishers = Vec::new();
        for key in &keys {
            publishers.push(router.publish(key, publish())?);
        }
        let (ended, _end) = bounded(STREAMS);
        for key in &keys {
            let stamper = Stamper::new(router.clock(), ended.clone());
            router.attach_on(ShardId(1), key, PlayOptions::instant(), Box::new(stamper))?;
        }
        let before = counters(&router);
        let mut frames = Frames::new(ONE_KEYFRAME, PAYLOAD_BYTES);
        for _ in 0..bursts {
            thread::sleep(Duration::from_millis(2));
            for publisher in &mut publishers {
                let mut burst = (0..FRAMES).map(|_| frames.next());
                let taken = publisher.send_all(&mut burst).map_err(|_| Reason::ShardLost)?;
                all_of("frames of a burst that the shard took", taken as u64, FRAMES)?;
            }
        }
        thread::sleep(Duration::from_millis(50));
        let after = counters(&router);
        Ok(((after.wakes - before.wakes) as f64, (after.turns - before.turns) as f64))
    }
}

fn counters(router: &Router) -> Counters {
    router.stats().first().map(|stats| stats.counters.clone()).unwrap_or_default()
}
