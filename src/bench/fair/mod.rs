//! Fair turns: what others do on a shard, and how much later a stream beside them is for it.
//!
//! A canary stream of small frames runs from a host's thread to a sink on the shard. Beside it, over real sockets to the
//! same shard, one disturbance after the other is let loose: joiners who all want a large GOP at once, a keyframe of
//! 16 MiB, a storm of connects, a publisher at ten times its rate. The age of each canary frame at the sink is the
//! time that the shard kept it waiting: whoever takes long turns is seen here.

mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::figures::{Found, Row, histogram};
use super::frames::{Frames, PAYLOAD_BYTES, is_right};
use super::line::on_core;
use super::model::{Better, Scenario};
use super::{BenchError, Context, Size, all_of, setting};
use crate::clock::{Clock, Instant};
use crate::extension::{FrameSink, SinkVerdict};
use crate::id::StreamKey;
use crate::limits::Limits;
use crate::media::Frame;
use crate::protocol::PlayOptions;
use crate::protocol::rtmp::Rtmp;
use crate::router::{Cores, PublishOptions, Publisher, Router, SendError};
use crate::shard::Idle;
use load::Load;

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// How long each disturbance lasts.
    pub duration: Duration,
    /// From one frame of the canary to the next.
    pub period: Duration,
    /// Players that join at once.
    pub joiners: usize,
    /// Bytes of the GOP that they get.
    pub gop_bytes: usize,
    /// Bytes of the large keyframe, a multiple of which comes each second.
    pub key_bytes: usize,
    /// Players of the publisher at ten times its rate.
    pub players: usize,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        let ms = Duration::from_millis;
        Self {
            repetitions: size.pick([1, 1, 5, 9]),
            duration: size.pick([ms(700), ms(1_000), ms(3_000), ms(6_000)]),
            period: Duration::from_millis(1),
            joiners: size.pick([10, 100, 200, 400]),
            gop_bytes: size.pick([1 << 20, 8 << 20, 8 << 20, 16 << 20]),
            key_bytes: size.pick([1 << 20, LARGEST, LARGEST, LARGEST]),
            players: size.pick([5, 100, 200, 400]),
        }
    }
}

/// What disturbs the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// Nothing.
    Calm,
    /// Joiners who all want a large GOP at once, again and again.
    Joiners,
    /// A publisher sends a large keyframe twice a second, to ten players.
    LargeKeyframe,
    /// As many connections as can be made, each given up after its handshake.
    Connects,
    /// A publisher sends 300 frames and 25 Mb per second to its players.
    TenfoldRate,
}

impl Disturbance {
    const ALL: [Self; 5] = [Self::Calm, Self::Joiners, Self::LargeKeyframe, Self::Connects, Self::TenfoldRate];

    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "none",
            Self::Joiners => "joiners at once",
            Self::LargeKeyframe => "large keyframes",
            Self::Connects => "storm of connects",
            Self::TenfoldRate => "ten times the rate",
        }
    }

    /// What is counted to show that it happened.
    const fn counts(self) -> &'static str {
        match self {
            Self::Calm => "nothing",
            Self::Joiners => "GOPs joiners got",
            Self::LargeKeyframe => "large keyframes players got",
            Self::Connects => "handshakes done",
            Self::TenfoldRate => "frames players got",
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense; a canary frame that was lost; a disturbance that did not take place.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    setting("joiners", settings.joiners, (1..=2_000).contains(&settings.joiners), "1 to 2,000")?;
    let fits = (4_096..=LARGEST).contains(&settings.key_bytes);
    setting("bytes of the keyframe", settings.key_bytes, fits, "4 KiB to 16 MiB less one byte")?;
    let fits = (1 << 16..=32 << 20).contains(&settings.gop_bytes);
    setting("bytes of the GOP", settings.gop_bytes, fits, "64 KiB to 32 MiB")?;
    let mut found = Found::new(
        "fair",
        "A canary stream on a shard while others there do what takes long: its frames' age at a sink on the shard",
        settings.repetitions,
    );
    let (shard, host) = (context.core(0), context.core(1));
    found.config("shard on core", shard);
    found.config("canary and load on core", host);
    found.config("canary's period", format!("{} µs", settings.period.as_micros()));
    found.config("joiners at once", format!("{}, of a GOP of {} bytes", settings.joiners, settings.gop_bytes));
    found.config("large keyframes", format!("{} bytes, 2/s, 10 players", settings.key_bytes));
    found.config("ten times the rate", format!("300 frames and 25 Mb/s, {} players", settings.players));
    if let Some(warning) = context.too_few_cores(2, "the shard and its load take turns on one") {
        found.warn(warning);
    }
    let steps = settings.repetitions * Disturbance::ALL.len();
    for repetition in 0..settings.repetitions {
        for (at, disturbance) in Disturbance::ALL.into_iter().enumerate() {
            context.progress.step(repetition * Disturbance::ALL.len() + at, steps, disturbance.name());
            // Before this thread has a core: the shard is pinned to another.
            let router = router(shard)?;
            let since = found.now();
            let run = on_core(host, || one(settings, disturbance, &router))?;
            let row = |metric: &str| Row::ns(OURS, metric).param("disturbance", disturbance.name());
            found.samples(row(AGE), &run.ages, since);
            let p99 = run.ages.value_at_quantile(0.99) as f64;
            found
                .push(row("age p99").goal(5e6, "no disturbance delays another stream by more than 5 ms at p99"), p99);
            for (metric, turn) in [("turn p99", run.turns.value_at_quantile(0.99)), ("longest turn", run.turns.max())]
            {
                found.push(row(metric), turn as f64);
            }
            if disturbance != Disturbance::Calm {
                let row = Row::new(OURS, "disturbed by", "/s").param("disturbance", disturbance.counts());
                found.push(row.better(Better::Neither), run.happened as f64 / settings.duration.as_secs_f64());
            }
        }
    }
    Ok(found.finish())
}

/// What the length of an RTMP message can say (RTMP 1.0, section 5.3.1.2).
const LARGEST: usize = (16 << 20) - 1;

const OURS: &str = "shardcast";
const AGE: &str = "age of the canary's frames";

/// What one run found.
struct Run {
    ages: Histogram<u64>,
    /// How long the shard's turns were meanwhile.
    turns: Histogram<u64>,
    /// How often what disturbs happened.
    happened: u64,
}

fn router(core: usize) -> Result<Router, BenchError> {
    let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    // The storm is to reach the shard, not the bound on connections per second.
    let limits = Limits { accepts_per_second: u32::MAX, ..Limits::default() };
    let router = Router::builder().shards(1).cores(Cores::List(vec![core])).idle(Idle::Park).limits(limits);
    Ok(router.listen(address, Arc::new(Rtmp)).start()?)
}

/// The canary on a router, and one disturbance beside it.
fn one(settings: &Settings, disturbance: Disturbance, router: &Router) -> Result<Run, BenchError> {
    let address = router.listeners()[0].1;
    let load = Load::start(router, address, disturbance, settings)?;
    let canary = Canary::start(router, settings.period)?;
    // What turns were like until now is of no interest.
    let _ = router.stats();
    thread::sleep(settings.duration);
    let happened = load.happened();
    let turns = router.stats().remove(0).turn_ns;
    let ages = canary.stop()?;
    load.stop()?;
    if disturbance != Disturbance::Calm && happened == 0 {
        return Err(BenchError::Wrong { what: disturbance.counts(), found: 0, expected: 1 });
    }
    Ok(Run { ages, turns, happened })
}

/// A publisher on a thread of the host and a sink on the shard.
struct Canary {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: thread::JoinHandle<Result<u64, BenchError>>,
}

struct Seen {
    ages: Histogram<u64>,
    /// Frames that were the next one, and whole.
    right: u64,
    /// When each frame was sent, by number; taken when it arrives.
    sent: std::collections::VecDeque<Instant>,
}

impl Canary {
    fn start(router: &Router, period: Duration) -> Result<Self, BenchError> {
        let key = StreamKey::parse("fair/canary").expect("a good name");
        let mut publisher = router.publish(&key, PublishOptions::default())?;
        let clock = Clock::start();
        let sent = std::collections::VecDeque::new();
        let seen = Arc::new(Mutex::new(Seen { ages: histogram(), right: 0, sent }));
        let sink = Sink { clock, seen: Arc::clone(&seen), next: 0 };
        router.attach(&key, PlayOptions::instant(), Box::new(sink))?;
        let over = Arc::new(AtomicBool::new(false));
        let (ended, times) = (Arc::clone(&over), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let mut frames = Frames::new(u64::MAX, PAYLOAD_BYTES);
            while !ended.load(Ordering::Relaxed) {
                let frame = frames.next();
                times.lock().sent.push_back(clock.instant());
                // If the shard is late the frame waits, and that is what is measured.
                send(&mut publisher, frame)?;
                thread::sleep(period);
            }
            publisher.end();
            Ok(frames.number())
        });
        Ok(Self { over, seen, thread })
    }

    /// The ages of all frames that were sent; each must have come.
    fn stop(self) -> Result<Histogram<u64>, BenchError> {
        self.over.store(true, Ordering::Relaxed);
        let sent = self.thread.join().expect("the canary's thread does not panic")?;
        let clock = Clock::start();
        while self.seen.lock().right < sent && clock.instant() < Instant::ZERO + PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        let seen = self.seen.lock();
        all_of("frames of the canary, in order and whole", seen.right, sent)?;
        Ok(seen.ages.clone())
    }
}

struct Sink {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    next: u64,
}

impl FrameSink for Sink {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let mut seen = self.seen.lock();
        seen.right += u64::from(is_right(&frame.payload, self.next, PAYLOAD_BYTES));
        self.next += 1;
        if let Some(sent) = seen.sent.pop_front() {
            let age = self.clock.instant().since(sent);
            seen.ages.saturating_record(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        }
        SinkVerdict::Taken
    }
}

/// Sends a frame, however long the ring has no room for it.
fn send(publisher: &mut Publisher, mut frame: Frame) -> Result<(), BenchError> {
    loop {
        match publisher.send(frame) {
            Ok(()) => return Ok(()),
            Err(SendError::Full(back)) => frame = back,
            Err(SendError::Ended(_, reason)) => return Err(reason.into()),
        }
        thread::yield_now();
    }
}

/// No frame is under way for longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn every_disturbance_takes_place_and_no_frame_of_the_canary_is_lost() {
        let scenario = on_all_cores(|context| run(&Settings::of(Size::Test), context)).unwrap();
        finite(&scenario);
        assert_eq!(scenario.distributions.len(), Disturbance::ALL.len());
        let happened: Vec<_> = scenario.figures.iter().filter(|figure| figure.metric == "disturbed by").collect();
        assert!(happened.len() == 4 && happened.iter().all(|figure| figure.values[0] > 0.0), "{happened:?}");
    }
}
