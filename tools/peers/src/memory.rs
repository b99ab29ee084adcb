//! What a subscriber and a stream hold when nothing happens, as the system sees it: resident bytes, each part in a
//! process of its own, as in `shardcast bench memory`.
//!
//! A subscriber is what an application needs for one: a sink on its shard, a subscription with its ring of 256 slots; a
//! receiver and the task that awaits it; a channel. A stream is idle; that of arcly-stream is measured with the ring
//! that it has by default, and with the one that everything else here is measured with.

use shardcast::bench::figures::{Found, Row};
use shardcast::bench::frames::{Frames, PAYLOAD_BYTES};
use shardcast::bench::memory::{Again, Held, Meter, in_its_own_process};
use shardcast::bench::model::Scenario;
use shardcast::bench::{BenchError, Context, Size};
use shardcast::clock::{Instant, Now};
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::id::StreamKey;
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::{PublishOptions, SubscribeOptions};
use shardcast::shard::Idle;
use tokio::task::yield_now;

use crate::bus::{Arcly, Awaited, AwaitedBus, Broadcast, Bus, Channels, Item, ROOM, engine, publish};
use crate::check::{Checker, GOP, Packets};
use crate::fanout::{OURS, SUBSCRIPTIONS, key, router, runtime};

/// How much is measured.
pub(crate) struct Settings {
    pub(crate) repetitions: usize,
    pub(crate) subscribers: usize,
    pub(crate) streams: usize,
}

impl Settings {
    pub(crate) fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 2, 5, 9]),
            subscribers: size.pick([100, 2_000, 4_000, 8_000]),
            streams: size.pick([20, 200, 500, 1_000]),
        }
    }
}

type Measure = fn(&Meter, usize) -> Result<Held, BenchError>;

/// One thing that is measured.
struct Part {
    /// What it is called between processes.
    name: &'static str,
    subject: &'static str,
    metric: &'static str,
    measure: Measure,
}

const SUBSCRIBER: &str = "resident bytes per subscriber";
const STREAM: &str = "resident bytes per idle stream";

const PARTS: [Part; 10] = [
    part("sink", OURS, SUBSCRIBER, sinks),
    part("subscription", SUBSCRIPTIONS, SUBSCRIBER, subscriptions),
    part("arcly-task", Arcly::NAME, SUBSCRIBER, tasks::<Arcly>),
    part("broadcast-task", Broadcast::NAME, SUBSCRIBER, tasks::<Broadcast>),
    part("channel", Channels::NAME, SUBSCRIBER, channels),
    part("publisher", OURS, STREAM, publishers),
    part("source", "shardcast: source on a shard", STREAM, sources),
    part("arcly-stream", "arcly-stream, ring of 4,096", STREAM, |meter, count| arcly_streams(meter, count, 4096)),
    part("arcly-stream-1024", "arcly-stream, ring of 1,024", STREAM, |meter, count| {
        arcly_streams(meter, count, ROOM)
    }),
    part("broadcast", Broadcast::NAME, STREAM, broadcasts),
];

const fn part(name: &'static str, subject: &'static str, metric: &'static str, measure: Measure) -> Part {
    Part { name, subject, metric, measure }
}

/// The first argument of a part.
pub(crate) const PART: &str = "memory-part";

/// Runs it.
///
/// # Errors
/// A part that could not be started, or failed.
pub(crate) fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    let about = "Resident bytes of an idle subscriber and an idle stream";
    let mut found = Found::new("memory", about, settings.repetitions);
    found.config("subscribers", settings.subscribers);
    found.config("streams", settings.streams);
    let again = Again::this(&[PART])?;
    for repetition in 0..settings.repetitions {
        for (index, part) in PARTS.iter().enumerate() {
            context.progress.step(repetition * PARTS.len() + index, settings.repetitions * PARTS.len(), part.name);
            let count = if part.metric == SUBSCRIBER { settings.subscribers } else { settings.streams };
            let held = in_its_own_process(&again, part.name, count)?;
            found.push(Row::new(part.subject, part.metric, "B"), held.resident);
        }
    }
    Ok(found.finish())
}

/// Measures one part in this process: what it prints, or why it cannot.
pub(crate) fn run_part(name: &str, count: &str) -> Result<String, String> {
    let part = PARTS.iter().find(|part| part.name == name).ok_or("there is no such part")?;
    let count = count.parse().map_err(|_| "that is no count")?;
    let held = (part.measure)(&Meter { count: None }, count).map_err(|error| error.to_string())?;
    serde_json::to_string(&held).map_err(|error| error.to_string())
}

/// A stream with a keyframe, and nothing after it.
struct Still(Option<Frame>);

impl Still {
    fn new() -> Self {
        Self(Some(Frames::new(GOP, PAYLOAD_BYTES).next()))
    }
}

impl FrameSource for Still {
    fn poll_frame(&mut self, _: Now) -> SourcePoll {
        self.0.take().map_or(SourcePoll::NotBefore(Instant::FAR), SourcePoll::Frame)
    }
}

struct Sink(Checker);

impl FrameSink for Sink {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        self.0.take_frame(frame);
        SinkVerdict::Taken
    }
}

fn checker() -> Checker {
    Checker::new(0, PAYLOAD_BYTES, false)
}

fn sinks(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let router = router(0, Idle::Park)?;
    router.run_source(&key(), Box::new(Still::new()))?;
    let attach = || {
        (0..count)
            .try_for_each(|_| router.attach(&key(), PlayOptions::instant(), Box::new(Sink(checker()))).map(drop))
    };
    let (held, attached) = meter.each(count, attach)?;
    attached?;
    Ok(held)
}

fn subscriptions(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let router = router(0, Idle::Park)?;
    router.run_source(&key(), Box::new(Still::new()))?;
    let subscribe = || router.subscribe(&key(), SubscribeOptions::default()).map(|one| (one, checker()));
    let (held, all) = meter.each(count, || (0..count).map(|_| subscribe()).collect::<Result<Vec<_>, _>>())?;
    all?;
    Ok(held)
}

fn tasks<B: AwaitedBus>(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let (mut bus, runtime) = (B::open(), runtime());
    bus.publish(Packets::new(PAYLOAD_BYTES).next(Instant::ZERO));
    let (held, tasks) = meter.each(count, || {
        let task = |_| {
            let (mut awaited, mut checker) = (bus.awaited(), checker());
            runtime.spawn(async move {
                while let Some(item) = awaited.next().await {
                    checker.take(item.number(), item.payload());
                }
            })
        };
        let tasks: Vec<_> = (0..count).map(task).collect();
        // Each has begun to wait.
        runtime.block_on(async {
            for _ in 0..count {
                yield_now().await;
            }
        });
        tasks
    })?;
    drop(tasks);
    Ok(held)
}

fn channels(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let mut bus = Channels::open();
    let mut packets = Packets::new(PAYLOAD_BYTES);
    let (held, all) = meter.each(count, || {
        let all: Vec<_> = (0..count).map(|_| (bus.polled(), checker())).collect();
        bus.publish(packets.next(Instant::ZERO));
        all
    })?;
    drop(all);
    Ok(held)
}

fn numbered(n: usize) -> Result<StreamKey, BenchError> {
    StreamKey::parse(&format!("live/{n:06}")).map_err(|_| Reason::BadName.into())
}

fn publishers(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let router = router(0, Idle::Park)?;
    let keys = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
    let publish =
        || keys.iter().map(|key| router.publish(key, PublishOptions::default())).collect::<Result<Vec<_>, _>>();
    let (held, all) = meter.each(count, publish)?;
    all?;
    Ok(held)
}

fn sources(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let router = router(0, Idle::Park)?;
    let keys = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
    let run = || keys.iter().try_for_each(|key| router.run_source(key, Box::new(Still(None))).map(drop));
    let (held, all) = meter.each(count, run)?;
    all?;
    Ok(held)
}

fn arcly_streams(meter: &Meter, count: usize, room: usize) -> Result<Held, BenchError> {
    let engine = engine(room);
    let all = || (0..count).map(|n| publish(&engine, &format!("{n:06}"))).collect::<Vec<_>>();
    let (held, all) = meter.each(count, all)?;
    drop(all);
    Ok(held)
}

fn broadcasts(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let (held, all) = meter.each(count, || (0..count).map(|_| Broadcast::open()).collect::<Vec<_>>())?;
    drop(all);
    Ok(held)
}
