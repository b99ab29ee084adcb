//! The runs of the peers.
//!
//! A publisher knows how far its subscribers are from one counter that they write: each tells its progress in steps,
//! so that telling costs next to nothing.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use shardcast::bench::BenchError;
use shardcast::bench::line::{on_core, pin, wait_until};
use shardcast::clock::{Clock, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};

use super::{Case, Place, Run, Stage, WINDOW};
use crate::bus::{Awaited, AwaitedBus, Bus, Item, Polled};
use crate::check::{Checker, Packets, Tally};

/// One thread asks all receivers in turn.
pub(super) fn polled<B: Bus>(stage: &Stage, case: &Case) -> Result<Run, BenchError> {
    Ok(match case.place {
        Place::OneCore { flush } => on_core(stage.subscribers, || polled_on_one_core::<B>(stage, case, flush)),
        _ => polled_on_two_cores::<B>(stage, case),
    })
}

/// A task for each subscriber.
pub(super) fn tasks<B: AwaitedBus>(stage: &Stage, case: &Case) -> Result<Run, BenchError> {
    Ok(match case.place {
        Place::OneCore { flush } => on_core(stage.subscribers, || tasks_on_one_core::<B>(stage, case, flush)),
        _ => tasks_on_two_cores::<B>(stage, case),
    })
}

/// The receivers of a case on one core, with nobody who delivers.
pub(super) fn checks_alone(stage: &Stage, case: &Case, flush: u64) -> Run {
    on_core(stage.subscribers, || {
        let mut packets = Packets::new(case.payload_bytes);
        let checker = |_| Checker::new(0, case.payload_bytes, case.strict);
        let mut subscribers: Vec<_> = (0..case.subscribers).map(checker).collect();
        let (mut start, mut sent, mut batch) = (Instant::ZERO, 0, Vec::new());
        while sent < case.frames {
            if sent <= case.warm_up() {
                start = stage.clock.instant();
            }
            batch.clear();
            batch.extend((0..flush).map(|_| packets.next(Instant::ZERO)));
            sent += flush;
            for subscriber in black_box(&mut subscribers) {
                batch.iter().for_each(|packet| subscriber.take(packet.number, &packet.payload));
            }
        }
        let end = stage.clock.instant();
        Run { ns: end.0 - start.0, tally: sum(subscribers, sent) }
    })
}

fn polled_on_one_core<B: Bus>(stage: &Stage, case: &Case, flush: u64) -> Run {
    let (mut bus, mut packets) = (B::open(), Packets::new(case.payload_bytes));
    let mut subscribers: Vec<_> = (0..case.subscribers).map(|_| Asked::new(bus.polled(), case)).collect();
    let mut start = Instant::ZERO;
    let mut sent = 0;
    while sent < case.frames {
        if sent <= case.warm_up() {
            start = stage.clock.instant();
        }
        for _ in 0..flush {
            bus.publish(packets.next(Instant::ZERO));
        }
        sent += flush;
        for subscriber in black_box(&mut subscribers) {
            subscriber.drain(u64::MAX);
        }
    }
    let end = stage.clock.instant();
    Run { ns: end.0 - start.0, tally: sum(subscribers.into_iter().map(|subscriber| subscriber.checker), sent) }
}

fn polled_on_two_cores<B: Bus>(stage: &Stage, case: &Case) -> Run {
    let mut bus = B::open();
    let mut subscribers: Vec<_> = (0..case.subscribers).map(|_| Asked::new(bus.polled(), case)).collect();
    let progress = &Progress::default();
    let publisher = Pacer { case, clock: stage.clock, progress };
    thread::scope(|scope| {
        let publisher = scope.spawn(move || {
            pin(stage.publisher);
            publisher.run(&mut bus)
        });
        let receiving = scope.spawn(move || {
            pin(stage.subscribers);
            loop {
                // All that was sent before the look at this is there now.
                let over = progress.over.load(Ordering::Acquire);
                let came: u64 = subscribers.iter_mut().map(|subscriber| subscriber.drain(SWEEP)).sum();
                progress.add(came);
                if came == 0 && over {
                    break (stage.clock.instant(), subscribers);
                }
            }
        });
        let (start, (end, subscribers)) = (joined(publisher.join()), joined(receiving.join()));
        let checkers = subscribers.into_iter().map(|subscriber| subscriber.checker);
        Run { ns: end.0 - start.0, tally: sum(checkers, case.frames) }
    })
}

/// Frames that one subscriber takes before it is the next one's turn.
pub(super) const SWEEP: u64 = 64;

/// A subscriber that is asked.
struct Asked<P> {
    polled: P,
    checker: Checker,
}

impl<P: Polled> Asked<P> {
    fn new(polled: P, case: &Case) -> Self {
        Self { polled, checker: Checker::new(0, case.payload_bytes, case.strict) }
    }

    /// Takes what is there, at most so many; by how many numbers it is further.
    #[inline]
    fn drain(&mut self, most: u64) -> u64 {
        let before = self.checker.next();
        let mut taken = 0;
        while taken < most {
            let Some(item) = self.polled.poll() else { break };
            self.checker.take(item.number(), item.payload());
            taken += 1;
        }
        self.checker.next() - before
    }
}

fn tasks_on_one_core<B: AwaitedBus>(stage: &Stage, case: &Case, flush: u64) -> Run {
    let (mut bus, mut packets) = (B::open(), Packets::new(case.payload_bytes));
    let (runtime, progress) = (runtime(), Arc::new(Progress::default()));
    let tasks = spawn(&runtime, &bus, case, flush, &progress);
    runtime.block_on(async {
        let mut start = Instant::ZERO;
        let mut sent = 0;
        while sent < case.frames {
            if sent <= case.warm_up() {
                start = stage.clock.instant();
            }
            for _ in 0..flush {
                bus.publish(packets.next(Instant::ZERO));
            }
            sent += flush;
            while progress.numbers() < sent * case.subscribers {
                yield_now().await;
            }
        }
        let end = stage.clock.instant();
        bus.end();
        Run { ns: end.0 - start.0, tally: sum(checkers(tasks).await, sent) }
    })
}

fn tasks_on_two_cores<B: AwaitedBus>(stage: &Stage, case: &Case) -> Run {
    let mut bus = B::open();
    let (runtime, progress) = (runtime(), Arc::new(Progress::default()));
    let tasks = spawn(&runtime, &bus, case, STEP, &progress);
    let publisher = Pacer { case, clock: stage.clock, progress: &progress };
    thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            pin(stage.subscribers);
            runtime.block_on(async {
                let checkers = checkers(tasks).await;
                (stage.clock.instant(), checkers)
            })
        });
        let publisher = scope.spawn(move || {
            pin(stage.publisher);
            let start = publisher.run(&mut bus);
            bus.end();
            start
        });
        let (start, (end, checkers)) = (joined(publisher.join()), joined(receiving.join()));
        Run { ns: end.0 - start.0, tally: sum(checkers, case.frames) }
    })
}

/// What tokio has for one pinned core: no work stealing, no driver.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime of this thread")
}

/// A task for each subscriber, which tells its progress in these steps.
fn spawn<B: AwaitedBus>(
    runtime: &Runtime,
    bus: &B,
    case: &Case,
    step: u64,
    progress: &Arc<Progress>,
) -> Vec<JoinHandle<Checker>> {
    let task = |_| {
        let (mut awaited, progress) = (bus.awaited(), Arc::clone(progress));
        let mut checker = Checker::new(0, case.payload_bytes, case.strict);
        runtime.spawn(async move {
            let mut told = 0;
            while let Some(item) = awaited.next().await {
                checker.take(item.number(), item.payload());
                if checker.next() >= told + step {
                    progress.add(checker.next() - told);
                    told = checker.next();
                }
            }
            checker
        })
    };
    (0..case.subscribers).map(task).collect()
}

async fn checkers(tasks: Vec<JoinHandle<Checker>>) -> Vec<Checker> {
    let mut checkers = Vec::with_capacity(tasks.len());
    for task in tasks {
        checkers.push(task.await.expect("it only counts"));
    }
    checkers
}

/// How far all subscribers are, together.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Progress {
    numbers: AtomicU64,
    /// Nothing is sent any more.
    pub(super) over: AtomicBool,
}

impl Progress {
    /// Only one thread does, so that no bus need be locked.
    #[inline]
    pub(super) fn add(&self, numbers: u64) {
        self.numbers.store(self.numbers.load(Ordering::Relaxed) + numbers, Ordering::Release);
    }

    #[inline]
    pub(super) fn numbers(&self) -> u64 {
        self.numbers.load(Ordering::Acquire)
    }

    /// Whether all of so many subscribers have, on average, all but so many of the numbers.
    pub(super) fn within(&self, window: u64, sent: u64, subscribers: u64) -> bool {
        self.numbers() + window * subscribers >= sent * subscribers
    }
}

/// How far a subscriber goes before it tells.
const STEP: u64 = 32;

/// A publisher on a core of its own.
struct Pacer<'a> {
    case: &'a Case,
    clock: Clock,
    progress: &'a Progress,
}

impl Pacer<'_> {
    /// Sends everything; when it began to count.
    fn run(&self, bus: &mut impl Bus) -> Instant {
        let mut packets = Packets::new(self.case.payload_bytes);
        let mut start = Instant::ZERO;
        for sent in 0..self.case.frames {
            if self.case.place != Place::Unpaced {
                let warm = sent == self.case.warm_up();
                // They tell in steps: what they have and did not tell is room, too.
                let window = if warm { STEP } else { WINDOW };
                let subscribers = self.case.subscribers;
                wait_until(|| self.progress.within(window, sent, subscribers).then_some(()));
            }
            if sent == self.case.warm_up() {
                start = self.clock.instant();
            }
            bus.publish(packets.next(Instant::ZERO));
        }
        self.progress.over.store(true, Ordering::Release);
        start
    }
}

fn sum(checkers: impl IntoIterator<Item = Checker>, sent: u64) -> Tally {
    let mut sum = Tally::default();
    checkers.into_iter().for_each(|checker| sum += checker.finish(sent));
    sum
}

/// What a thread returned; its panic is ours.
pub(crate) fn joined<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
