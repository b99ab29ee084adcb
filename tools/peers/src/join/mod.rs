//! Joining a live stream: how soon a joiner has a keyframe and is at the live edge, and whether it got every frame once.
//!
//! The publisher sends on, on the other core, while joiners come one after another and each stay a while. The edge is
//! what was sent before the joiner's call. Each joiner checks that no frame is missing or comes twice from its first one
//! on: between a replay and what is live, that is where it goes wrong.
//!
//! shardcast's joiner is a sink that is attached or a subscription of the host's thread. arcly-stream has its own
//! `drive_to`, which its protocols use: first the replay, then the subscription; the other order is measured, too. A
//! bare channel keeps nothing: its joiner waits for the next keyframe, half a GOP away on average.

mod ours;
mod peers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use shardcast::bench::figures::{Found, Row, histogram};
use shardcast::bench::frames::PAYLOAD_BYTES;
use shardcast::bench::line::wait_until;
use shardcast::bench::model::Scenario;
use shardcast::bench::{BenchError, Context, Size};
use shardcast::clock::{Clock, Instant};

use crate::bus::{Arcly, Broadcast, Bus, Channels};
use crate::check::{Checker, GOP, Tally};
use crate::fanout::{OURS, SUBSCRIPTIONS};

/// How much is measured.
pub(crate) struct Settings {
    pub(crate) repetitions: usize,
    pub(crate) joins: usize,
}

impl Settings {
    pub(crate) fn of(size: Size) -> Self {
        Self { repetitions: size.pick([1, 2, 5, 9]), joins: size.pick([5, 40, 100, 500]) }
    }
}

/// Where and how often.
#[derive(Clone, Copy)]
struct Plan {
    publisher: usize,
    joiner: usize,
    joins: usize,
}

type Run = fn(&Plan) -> Result<Vec<Joined>, BenchError>;

fn subjects() -> Vec<(String, Run)> {
    vec![
        (OURS.to_owned(), ours::sinks),
        (SUBSCRIPTIONS.to_owned(), ours::subscriptions),
        (format!("{}, drive_to", Arcly::NAME), peers::drive_to),
        (format!("{}, subscribe and replay", Arcly::NAME), peers::replay),
        (Broadcast::NAME.to_owned(), peers::bare::<Broadcast>),
        (Channels::NAME.to_owned(), peers::bare::<Channels>),
    ]
}

/// Runs it.
///
/// # Errors
/// Fewer than two cores; a router that does not start; a joiner of shardcast that missed a frame, had one twice, or
/// did not begin with a keyframe.
pub(crate) fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    if context.cores.len() < 2 {
        return Err(BenchError::Cores { wanted: 2, there: context.cores.len() });
    }
    let about = "From the call to a keyframe and to the live edge, while the publisher sends on";
    let mut found = Found::new("join", about, settings.repetitions);
    let plan = Plan { publisher: context.core(0), joiner: context.core(1), joins: settings.joins };
    found.config("payload bytes", PAYLOAD_BYTES);
    found.config(
        "publisher on core",
        format!("{}, a frame each {PERIOD:?}, a keyframe each {GOP} frames", plan.publisher),
    );
    found.config("joiners on core", plan.joiner);
    found.config("joins", settings.joins);
    let subjects = subjects();
    for repetition in 0..settings.repetitions {
        for (index, (subject, run)) in subjects.iter().enumerate() {
            context.progress.step(
                repetition * subjects.len() + index,
                settings.repetitions * subjects.len(),
                subject,
            );
            let since = found.now();
            let joined = run(&plan)?;
            if subject.starts_with(OURS) {
                let clean = joined.iter().filter(|join| join.tally.is_clean() && join.keyed).count();
                if clean != settings.joins {
                    let (found, expected) = (clean as u64, settings.joins as u64);
                    let what = "joins of shardcast that began with a keyframe and had every frame once";
                    return Err(BenchError::Wrong { what, found, expected });
                }
            }
            push(&mut found, subject, &joined, since);
        }
    }
    Ok(found.finish())
}

fn push(found: &mut Found, subject: &str, joined: &[Joined], since: Instant) {
    let (mut key, mut edge): (Histogram<u64>, Histogram<u64>) = (histogram(), histogram());
    for join in joined {
        key.saturating_record(join.key.0.saturating_sub(join.called.0));
        edge.saturating_record(join.edge.0.saturating_sub(join.called.0));
    }
    for (metric, samples) in [("join to a keyframe", key), ("join to the live edge", edge)] {
        let row = Row::ns(subject, metric);
        let p50 = found.samples(row.clone(), &samples, since);
        found.push(row.named(&format!("{metric}, p50"), "ns"), p50);
    }
    let mut share = |metric: &str, wrong: fn(&Joined) -> bool| {
        let wrong = joined.iter().filter(|join| wrong(join)).count();
        found.push(Row::new(subject, metric, "%"), wrong as f64 * 100.0 / joined.len() as f64);
    };
    share("joins that miss frames", |join| join.tally.lost > 0);
    share("joins that get frames twice", |join| join.tally.repeated > 0);
    share("joins that begin without a keyframe", |join| !join.keyed);
}

/// From one frame to the next: 10,000 a second, so that many joins meet one.
const PERIOD: Duration = Duration::from_micros(100);
/// How long the `nth` joiner stays at the edge: each leaves, and the next one comes, at another place of the GOP.
const fn stay(nth: usize) -> u64 {
    1 + nth as u64 * 37 % GOP
}

/// And at another moment between two frames.
fn come(nth: usize, clock: Clock) {
    let at = clock.instant() + Duration::from_micros(nth as u64 * 37 % 100);
    wait_until(|| (clock.instant() >= at).then_some(()));
}

/// The publisher's side of a run.
#[derive(Default)]
struct Live {
    sent: AtomicU64,
    over: AtomicBool,
}

impl Live {
    /// At least one GOP is there.
    fn is_warm(&self) -> bool {
        self.sent.load(Ordering::Acquire) > GOP + GOP / 2
    }
}

/// What a joiner found.
#[derive(Clone, Copy, Debug)]
struct Joined {
    called: Instant,
    key: Instant,
    edge: Instant,
    /// The first frame was a keyframe.
    keyed: bool,
    tally: Tally,
}

/// A joiner under way.
struct Joiner {
    clock: Clock,
    called: Instant,
    /// What was sent before the call.
    sent: u64,
    checker: Option<Checker>,
    keyed: bool,
    key: Option<Instant>,
    edge: Option<Instant>,
    /// Frames after the edge.
    stay: u64,
    leaves_at: u64,
}

impl Joiner {
    /// The `nth` calls now.
    fn new(nth: usize, clock: Clock, live: &Live) -> Self {
        come(nth, clock);
        let sent = live.sent.load(Ordering::Acquire);
        let called = clock.instant();
        Self {
            clock,
            called,
            sent,
            checker: None,
            keyed: false,
            key: None,
            edge: None,
            stay: stay(nth),
            leaves_at: u64::MAX,
        }
    }

    /// A frame came; what was found once it has seen enough.
    fn take(&mut self, number: u64, is_key: bool, payload: &[u8]) -> Option<Joined> {
        if self.checker.is_none() {
            self.keyed = is_key;
        }
        let checker = self.checker.get_or_insert_with(|| Checker::new(number, PAYLOAD_BYTES, false));
        checker.take(number, payload);
        if is_key && self.key.is_none() {
            self.key = Some(self.clock.instant());
        }
        if self.edge.is_none() && self.key.is_some() && checker.next() >= self.sent {
            self.edge = Some(self.clock.instant());
            self.leaves_at = checker.next() + self.stay;
        }
        if checker.next() < self.leaves_at {
            return None;
        }
        let tally = checker.clone().finish(checker.next());
        Some(Joined { called: self.called, key: self.key?, edge: self.edge?, keyed: self.keyed, tally })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Packets;

    fn joined(numbers: impl IntoIterator<Item = u64>, sent: u64) -> Option<Joined> {
        let live = Live { sent: AtomicU64::new(sent), over: AtomicBool::new(false) };
        let mut joiner = Joiner::new(1, Clock::start(), &live);
        let mut packets = Packets::new(PAYLOAD_BYTES);
        let all: Vec<_> = (0..1_000).map(|_| packets.next(Instant::ZERO)).collect();
        let mut packets = numbers.into_iter().map(|number| &all[usize::try_from(number).unwrap()]);
        packets.find_map(|packet| joiner.take(packet.number, packet.key, &packet.payload))
    }

    #[test]
    fn a_joiner_that_has_everything_from_a_keyframe_on_is_clean() {
        let joined = joined(120..300, 150).unwrap();
        assert!(joined.keyed && joined.tally.is_clean() && joined.tally.right == 30 + stay(1));
        assert!(joined.called <= joined.key && joined.key <= joined.edge);
    }

    #[test]
    fn a_frame_missing_between_replay_and_live_and_one_that_comes_twice_are_seen() {
        assert_eq!(joined((120..150).chain(151..300), 150).unwrap().tally.lost, 1);
        assert_eq!(joined((120..150).chain(148..300), 150).unwrap().tally.repeated, 2);
    }

    #[test]
    fn a_joiner_without_a_keyframe_is_not_at_the_edge_before_it_has_one() {
        let joined = joined(150..400, 150).unwrap();
        assert!(!joined.keyed);
        assert_eq!(joined.tally.right, 240 + 1 + stay(1) - 150);
    }
}
