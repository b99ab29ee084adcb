//! One-way latency: from the publisher's call on one core to the subscriber's check on the other, at a steady pace.
//!
//! * spins: the subscribers' core never sleeps. A shard that spins, or one thread that asks all receivers in turn.
//! * sleeps: it sleeps between two frames, as that of an idle server does. A shard that parks, a runtime whose tasks
//!   wait, a thread for each channel that waits in it. Waking the core is most of what is measured.
//!
//! Frames for a host's subscriptions come from a source on a shard on the publisher's core, and are counted from the
//! beginning of the shard's turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use shardcast::bench::figures::{Found, Row, histogram};
use shardcast::bench::frames::{Frames, PAYLOAD_BYTES};
use shardcast::bench::line::{on_core, pin, wait_until};
use shardcast::bench::model::Scenario;
use shardcast::bench::{BenchError, Context, Size};
use shardcast::clock::{Clock, Instant, Now};
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, PublishOptions, SubscribeOptions};
use shardcast::shard::Idle;

use crate::bus::{Arcly, Awaited, AwaitedBus, Broadcast, Bus, Channels, Item, Polled};
use crate::check::{Checker, GOP, Packets, Tally};
use crate::fanout::{OURS, SUBSCRIPTIONS, in_tasks, joined, key, polled, push_lost, router, runtime};

/// How much is measured.
pub(crate) struct Settings {
    pub(crate) repetitions: usize,
    pub(crate) subscribers: Vec<usize>,
    /// Frames to subscribers that spin, and that sleep.
    pub(crate) frames: [u64; 2],
}

impl Settings {
    pub(crate) fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 2, 5, 9]),
            subscribers: vec![1, 100],
            frames: size.pick([[50, 20], [1_000, 100], [2_000, 300], [10_000, 1_000]]),
        }
    }
}

/// One run.
#[derive(Clone, Copy)]
struct Load {
    clock: Clock,
    publisher: usize,
    core: usize,
    subscribers: usize,
    frames: u64,
    period: Duration,
    idle: Idle,
}

/// What all subscribers of a run saw: nanoseconds, and what was wrong.
type Seen = (Vec<u64>, Tally);
type Run = fn(&Load) -> Result<Seen, BenchError>;

/// Who is measured with subscribers that spin, and that sleep.
fn subjects(idle: Idle) -> Vec<(String, Run)> {
    let (ours, subscriptions) = (OURS.to_owned(), SUBSCRIPTIONS.to_owned());
    if idle == Idle::Spin {
        vec![
            (ours, sinks),
            (subscriptions, asked_subscriptions),
            (polled::<Arcly>(), asked::<Arcly>),
            (polled::<Broadcast>(), asked::<Broadcast>),
            (Channels::NAME.to_owned(), asked::<Channels>),
        ]
    } else {
        vec![
            (ours, sinks),
            (subscriptions, waiting_subscriptions),
            (in_tasks::<Arcly>(), tasks::<Arcly>),
            (in_tasks::<Broadcast>(), tasks::<Broadcast>),
            (Channels::NAME.to_owned(), waiting_channels),
        ]
    }
}

/// Runs it.
///
/// # Errors
/// A router that does not start; shardcast lost, repeated or damaged something.
pub(crate) fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    if context.cores.len() < 2 {
        return Err(BenchError::Cores { wanted: 2, there: context.cores.len() });
    }
    let about = "From the publisher's call on one core to the subscriber's check on the other, at a steady pace";
    let mut found = Found::new("latency", about, settings.repetitions);
    found.config("payload bytes", PAYLOAD_BYTES);
    found.config("publisher on core", context.core(0));
    found.config("subscribers on core", context.core(1));
    let clock = Clock::start();
    let mut runs = Vec::new();
    for (frames, idle, period) in [
        (settings.frames[0], Idle::Spin, Duration::from_micros(100)),
        (settings.frames[1], Idle::Park, Duration::from_millis(1)),
    ] {
        found.config(&format!("core {}", word(idle)), format!("{frames} frames, one each {period:?}"));
        for subscribers in settings.subscribers.iter().copied() {
            let (publisher, core) = (context.core(0), context.core(1));
            runs.push(Load { clock, publisher, core, subscribers, frames, period, idle });
        }
    }
    for repetition in 0..settings.repetitions {
        for (index, load) in runs.iter().enumerate() {
            let what = format!("{} subscribers, their core {}", load.subscribers, word(load.idle));
            context.progress.step(repetition * runs.len() + index, settings.repetitions * runs.len(), &what);
            for (subject, run) in subjects(load.idle) {
                let since = found.now();
                let (samples, tally) = run(load)?;
                let sent = load.frames * load.subscribers as u64;
                if subject.starts_with(OURS) && !(tally.is_clean() && tally.right == sent) {
                    return Err(BenchError::Wrong {
                        what: "deliveries of shardcast",
                        found: tally.right,
                        expected: sent,
                    });
                }
                let mut all = histogram();
                samples.into_iter().for_each(|ns| all.saturating_record(ns));
                let row = Row::ns(&subject, "one-way latency").param("core", word(load.idle));
                let row = row.param("subscribers", load.subscribers);
                let p50 = found.samples(row.clone(), &all, since);
                found.push(row.named("one-way latency, p50", "ns"), p50);
                push_lost(&mut found, &subject, "steady", tally, sent);
            }
        }
    }
    Ok(found.finish())
}

const fn word(idle: Idle) -> &'static str {
    if matches!(idle, Idle::Spin) { "spins" } else { "sleeps" }
}

impl Load {
    /// Publishes at the pace, on the publisher's core.
    fn pace<E>(&self, mut publish: impl FnMut(Instant) -> Result<(), E>) -> Result<(), E> {
        let mut due = self.clock.instant() + START;
        for _ in 0..self.frames {
            wait_until(|| (self.clock.instant() >= due).then_some(()));
            publish(self.clock.instant())?;
            due = due + self.period;
        }
        Ok(())
    }

    fn publish_all(&self, bus: &mut impl Bus) {
        let mut packets = Packets::new(PAYLOAD_BYTES);
        let Ok(()) = self.pace(|sent| {
            bus.publish(packets.next(sent));
            Ok::<_, std::convert::Infallible>(())
        });
    }

    fn one(&self) -> Subscriber {
        let samples = Vec::with_capacity(usize::try_from(self.frames).unwrap_or_default());
        Subscriber { checker: Checker::new(0, PAYLOAD_BYTES, false), samples, clock: self.clock }
    }

    fn sum(&self, subscribers: impl IntoIterator<Item = Subscriber>) -> Seen {
        let (mut samples, mut tally) = (Vec::new(), Tally::default());
        let warm_up = usize::try_from(self.frames / 10).unwrap_or_default();
        for subscriber in subscribers {
            samples.extend(subscriber.samples.into_iter().skip(warm_up));
            tally += subscriber.checker.finish(self.frames);
        }
        (samples, tally)
    }
}

/// Everybody waits by then.
const START: Duration = Duration::from_millis(2);
/// No run takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Subscriber {
    checker: Checker,
    samples: Vec<u64>,
    clock: Clock,
}

impl Subscriber {
    #[inline]
    fn take(&mut self, item: &impl Item) {
        self.checker.take(item.number(), item.payload());
        self.samples.push(self.clock.instant().0 - item.sent().0);
    }

    #[inline]
    fn take_frame(&mut self, frame: &Frame) {
        self.checker.take_frame(frame);
        self.samples.push(self.clock.instant().0 - frame.origin.0);
    }
}

/// One thread asks all receivers of a peer in turn.
fn asked<B: Bus>(load: &Load) -> Result<Seen, BenchError> {
    let mut bus = B::open();
    let mut all: Vec<_> = (0..load.subscribers).map(|_| (bus.polled(), load.one())).collect();
    let over = &AtomicBool::new(false);
    Ok(thread::scope(|scope| {
        scope.spawn(move || {
            pin(load.publisher);
            load.publish_all(&mut bus);
            over.store(true, Ordering::Release);
        });
        let receiving = scope.spawn(move || {
            pin(load.core);
            loop {
                let (last, mut came) = (over.load(Ordering::Acquire), false);
                for (polled, subscriber) in &mut all {
                    while let Some(item) = polled.poll() {
                        subscriber.take(&*item);
                        came = true;
                    }
                }
                if last && !came {
                    return all;
                }
            }
        });
        load.sum(joined(receiving.join()).into_iter().map(|(_, subscriber)| subscriber))
    }))
}

/// A task waits for each subscriber of a peer.
fn tasks<B: AwaitedBus>(load: &Load) -> Result<Seen, BenchError> {
    let (mut bus, runtime) = (B::open(), runtime());
    let task = |_| {
        let (mut awaited, mut subscriber) = (bus.awaited(), load.one());
        runtime.spawn(async move {
            while let Some(item) = awaited.next().await {
                subscriber.take(&*item);
            }
            subscriber
        })
    };
    let tasks: Vec<_> = (0..load.subscribers).map(task).collect();
    Ok(thread::scope(|scope| {
        scope.spawn(move || {
            pin(load.publisher);
            load.publish_all(&mut bus);
            bus.end();
        });
        let receiving = scope.spawn(|| {
            pin(load.core);
            runtime.block_on(async {
                let mut all = Vec::new();
                for task in tasks {
                    all.push(task.await.expect("it only counts"));
                }
                all
            })
        });
        load.sum(joined(receiving.join()))
    }))
}

/// A thread waits in each channel.
fn waiting_channels(load: &Load) -> Result<Seen, BenchError> {
    let mut bus = Channels::open();
    let channels: Vec<_> = (0..load.subscribers).map(|_| (bus.polled(), load.one())).collect();
    Ok(thread::scope(|scope| {
        let wait = |(channel, mut subscriber): (crossbeam_channel::Receiver<_>, Subscriber)| {
            scope.spawn(move || {
                pin(load.core);
                while let Ok(packet) = channel.recv() {
                    let packet: Arc<crate::check::Packet> = packet;
                    subscriber.take(&*packet);
                }
                subscriber
            })
        };
        let threads: Vec<_> = channels.into_iter().map(wait).collect();
        scope.spawn(move || {
            pin(load.publisher);
            load.publish_all(&mut bus);
        });
        load.sum(threads.into_iter().map(|thread| joined(thread.join())))
    }))
}

/// Sinks on a shard, which has the subscribers' core; the host's thread publishes.
fn sinks(load: &Load) -> Result<Seen, BenchError> {
    let router = router(load.core, load.idle)?;
    let load = &Load { clock: router.clock(), ..*load };
    let mut publisher = router.publish(&key(), PublishOptions::default())?;
    let (ended, ends) = unbounded();
    for _ in 0..load.subscribers {
        let sink = Sink { subscriber: Some(load.one()), ended: ended.clone() };
        router.attach(&key(), PlayOptions::instant(), Box::new(sink))?;
    }
    let mut frames = Frames::new(GOP, PAYLOAD_BYTES);
    on_core(load.publisher, || {
        load.pace(|sent| {
            let frame = Frame { origin: sent, ..frames.next() };
            // A full ring would be a shard that stands still: the frame is missed.
            publisher.send(frame).or(Ok::<_, BenchError>(()))
        })?;
        publisher.end();
        Ok::<_, BenchError>(())
    })?;
    let all = (0..load.subscribers).map_while(|_| ends.recv_timeout(PATIENCE).ok());
    Ok(load.sum(all))
}

struct Sink {
    subscriber: Option<Subscriber>,
    ended: Sender<Subscriber>,
}

impl FrameSink for Sink {
    #[inline]
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.take_frame(frame);
        }
        SinkVerdict::Taken
    }

    fn on_end(&mut self, _: Reason) {
        if let Some(subscriber) = self.subscriber.take() {
            // Nobody waits any more if it took too long.
            let _ = self.ended.try_send(subscriber);
        }
    }
}

/// One thread of the host asks all its subscriptions in turn.
fn asked_subscriptions(load: &Load) -> Result<Seen, BenchError> {
    subscriptions(load, |load, mut all| {
        on_core(load.core, move || {
            let mut left = all.len();
            while left > 0 {
                for (subscription, subscriber) in &mut all {
                    while let Ok(delivery) = subscription.try_recv() {
                        match delivery {
                            Delivery::Frame(frame) => subscriber.take_frame(&frame),
                            Delivery::Gap(_) => {}
                            Delivery::End(_) => left -= 1,
                        }
                    }
                }
            }
            all.into_iter().map(|(_, subscriber)| subscriber).collect()
        })
    })
}

/// A thread of the host waits for each of its subscriptions.
fn waiting_subscriptions(load: &Load) -> Result<Seen, BenchError> {
    subscriptions(load, |load, all| {
        thread::scope(|scope| {
            let wait = |(mut subscription, mut subscriber): Subscribed| {
                scope.spawn(move || {
                    pin(load.core);
                    loop {
                        match subscription.recv() {
                            Delivery::Frame(frame) => subscriber.take_frame(&frame),
                            Delivery::Gap(_) => {}
                            Delivery::End(_) => return subscriber,
                        }
                    }
                })
            };
            let threads: Vec<_> = all.into_iter().map(wait).collect();
            threads.into_iter().map(|thread| joined(thread.join())).collect()
        })
    })
}

type Subscribed = (shardcast::router::Subscription, Subscriber);

fn subscriptions(
    load: &Load,
    receive: impl FnOnce(&Load, Vec<Subscribed>) -> Vec<Subscriber>,
) -> Result<Seen, BenchError> {
    let router = router(load.publisher, load.idle)?;
    let load = &Load { clock: router.clock(), ..*load };
    let go = Arc::new(AtomicBool::new(false));
    let frames = Frames::new(GOP, PAYLOAD_BYTES);
    let source = Paced { frames, load: *load, due: Instant::ZERO, go: Arc::clone(&go) };
    router.run_source(&key(), Box::new(source))?;
    let mut all = Vec::new();
    for _ in 0..load.subscribers {
        all.push((router.subscribe(&key(), SubscribeOptions::default())?, load.one()));
    }
    go.store(true, Ordering::Release);
    Ok(load.sum(receive(load, all)))
}

/// A frame now and then, once it may.
struct Paced {
    frames: Frames,
    load: Load,
    due: Instant,
    go: Arc<AtomicBool>,
}

impl FrameSource for Paced {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        if !self.go.load(Ordering::Acquire) {
            self.due = now.mono + START;
            return SourcePoll::NotBefore(self.due);
        }
        if now.mono < self.due {
            return SourcePoll::NotBefore(self.due);
        }
        if self.frames.number() == self.load.frames {
            return SourcePoll::End;
        }
        self.due = self.due.max(now.mono) + self.load.period;
        SourcePoll::Frame(self.frames.next())
    }
}
