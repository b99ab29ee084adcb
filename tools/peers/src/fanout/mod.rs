//! Fan-out: what a delivery costs, and what of it is lost.
//!
//! * one core: publisher and subscribers on one core, a flush of frames after another, each of which all subscribers
//!   have before the next begins. The time is all the work that there is: the frame's own way in is part of it.
//!   So are the receivers' checks, which are also timed alone, in an array with nothing around them.
//! * two cores: the publisher on one, all subscribers on the other, the publisher as far ahead as there is room.
//! * unpaced: the same, but the publisher waits for nobody that the library does not make it wait for. shardcast's
//!   `Publisher` gets a full ring as a value and tries again; the channels of the peers have no such value or cannot
//!   use it without making one viewer hold up all others. A subscription of shardcast that falls too far behind skips to
//!   a keyframe and is told how many frames it missed; they are lost here.
//!
//! shardcast runs its sinks on the shard, or hands each of a host's subscriptions its frames through a ring. The peers
//! run a task per subscriber on a current-thread runtime that is pinned, or have one pinned thread ask all receivers in
//! turn, which is less than any of their protocols does and the cheapest that they allow.

mod ours;
mod peers;

use shardcast::bench::figures::{Found, Row};
use shardcast::bench::frames::PAYLOAD_BYTES;
use shardcast::bench::model::{Better, Scenario};
use shardcast::bench::{BenchError, Context, Size};
use shardcast::clock::Clock;

pub(crate) use ours::{key, router};
pub(crate) use peers::{joined, runtime};

use crate::bus::{Arcly, Broadcast, Bus, Channels};
use crate::check::Tally;

/// How much is measured.
pub(crate) struct Settings {
    pub(crate) repetitions: usize,
    pub(crate) subscribers: Vec<u64>,
    pub(crate) flushes: Vec<u64>,
    /// Deliveries of one run.
    pub(crate) deliveries: u64,
    /// Frames of one unpaced run.
    pub(crate) unpaced: u64,
}

impl Settings {
    pub(crate) fn of(size: Size) -> Self {
        let subscribers: &[u64] =
            size.pick([&[10, 100], &[100, 1_000], &[10, 100, 1_000], &[10, 100, 1_000, 10_000]]);
        Self {
            repetitions: size.pick([1, 2, 5, 9]),
            subscribers: subscribers.to_vec(),
            flushes: vec![1, 16],
            deliveries: size.pick([40_000, 400_000, 1_000_000, 2_000_000]),
            unpaced: size.pick([3_000, 10_000, 20_000, 40_000]),
        }
    }
}

/// One run of one subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    place: Place,
    subscribers: u64,
    /// Those that come before the time is taken are among them.
    frames: u64,
    payload_bytes: usize,
    /// Every byte is looked at; the time says nothing then.
    strict: bool,
}

/// Where the publisher is, and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the subscribers' core; so many frames, until all have them.
    OneCore { flush: u64 },
    /// On a core of its own; as long as somebody has more than [`WINDOW`] to come.
    TwoCores,
    /// On a core of its own; for nobody.
    Unpaced,
}

/// Frames that a publisher on its own core may be ahead: there is room for as many in every ring.
const WINDOW: u64 = 192;
/// Subscribers of an unpaced publisher.
const UNPACED_SUBSCRIBERS: u64 = 100;

impl Place {
    fn name(self) -> String {
        match self {
            Self::OneCore { flush } => format!("one core, flush {flush}"),
            Self::TwoCores => "two cores".to_owned(),
            Self::Unpaced => "two cores, unpaced".to_owned(),
        }
    }

    /// The parameters of a row.
    fn params(self, row: Row) -> Row {
        match self {
            Self::OneCore { flush } => row.param("cores", 1).param("flush", flush),
            Self::TwoCores | Self::Unpaced => row.param("cores", 2),
        }
    }
}

impl Case {
    /// Frames that come before the time is taken.
    const fn warm_up(&self) -> u64 {
        self.frames / 8
    }

    const fn sent(&self) -> u64 {
        self.frames * self.subscribers
    }

    /// Nanoseconds of one delivery.
    fn each(&self, run: Run) -> f64 {
        run.ns as f64 / ((self.frames - self.warm_up()) * self.subscribers) as f64
    }
}

/// What one run found.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// From when the warm-up was delivered to when everything was.
    ns: u64,
    tally: Tally,
}

/// Where it runs.
#[derive(Clone, Copy)]
struct Stage {
    clock: Clock,
    publisher: usize,
    subscribers: usize,
}

/// Who is measured, and how.
struct Subject {
    name: String,
    run: fn(&Stage, &Case) -> Result<Run, BenchError>,
    one_core: bool,
    ours: bool,
}

pub(crate) const OURS: &str = "shardcast";
pub(crate) const SUBSCRIPTIONS: &str = "shardcast: subscriptions";
/// A task for each subscriber.
pub(crate) fn in_tasks<B: Bus>() -> String {
    format!("{}, tasks", B::NAME)
}
/// One thread asks them all.
pub(crate) fn polled<B: Bus>() -> String {
    format!("{}, polled", B::NAME)
}

fn subjects() -> Vec<Subject> {
    let ours = |name: &str, run, one_core| Subject { name: name.to_owned(), run, one_core, ours: true };
    let peer = |name, run| Subject { name, run, one_core: true, ours: false };
    vec![
        ours(OURS, ours::sinks, true),
        ours(SUBSCRIPTIONS, ours::subscriptions, false),
        peer(in_tasks::<Arcly>(), peers::tasks::<Arcly>),
        peer(polled::<Arcly>(), peers::polled::<Arcly>),
        peer(in_tasks::<Broadcast>(), peers::tasks::<Broadcast>),
        peer(polled::<Broadcast>(), peers::polled::<Broadcast>),
        peer(Channels::NAME.to_owned(), peers::polled::<Channels>),
    ]
}

/// Runs it.
///
/// # Errors
/// A router that does not start; shardcast lost, repeated or damaged something.
pub(crate) fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    let mut found = Found::new(
        "fanout",
        "One publisher to many subscribers in one process; each of them checks each frame",
        settings.repetitions,
    );
    let stage = Stage { clock: Clock::start(), publisher: context.core(0), subscribers: context.core(1) };
    found.config("payload bytes", PAYLOAD_BYTES);
    found.config("subscribers on core", stage.subscribers);
    found.config("publisher on core", format!("{} (one core: {})", stage.publisher, stage.subscribers));
    found.config("frames that may wait for a peer's subscriber", crate::bus::ROOM);
    if let Some(warning) = context.too_few_cores(2, "publisher and subscribers take turns on one") {
        found.warn(warning);
    }
    let (subjects, cases) = (subjects(), cases(settings));
    let steps = settings.repetitions * cases.len();
    for repetition in 0..settings.repetitions {
        let mut paced = vec![(Tally::default(), 0); subjects.len()];
        for (index, case) in cases.iter().enumerate() {
            let what = format!("{} subscribers, {}", case.subscribers, case.place.name());
            context.progress.step(repetition * cases.len() + index, steps, &what);
            if repetition == 0 && case.place != Place::Unpaced {
                byte_by_byte(&stage, case, &subjects, &mut paced)?;
            }
            one_case(&stage, case, &subjects, &mut paced, &mut found)?;
        }
        for (subject, (tally, sent)) in subjects.iter().zip(paced) {
            push_lost(&mut found, &subject.name, "paced", tally, sent);
        }
    }
    Ok(found.finish())
}

fn cases(settings: &Settings) -> Vec<Case> {
    let mut cases = Vec::new();
    let places = settings.flushes.iter().map(|flush| Place::OneCore { flush: *flush }).chain([Place::TwoCores]);
    for place in places {
        for &subscribers in &settings.subscribers {
            // Whole flushes, and more than may be on the way.
            let frames = (settings.deliveries / subscribers).max(2 * WINDOW).next_multiple_of(128);
            cases.push(Case { place, subscribers, frames, payload_bytes: PAYLOAD_BYTES, strict: false });
        }
    }
    let (subscribers, frames) = (UNPACED_SUBSCRIBERS, settings.unpaced);
    cases.push(Case { place: Place::Unpaced, subscribers, frames, payload_bytes: PAYLOAD_BYTES, strict: false });
    cases
}

/// Some frames of a case whose every byte is looked at.
fn byte_by_byte(
    stage: &Stage,
    case: &Case,
    subjects: &[Subject],
    paced: &mut [(Tally, u64)],
) -> Result<(), BenchError> {
    let strict = Case { strict: true, frames: 2 * WINDOW, ..*case };
    for (subject, paced) in subjects.iter().zip(paced).filter(|(subject, _)| subject.plays(case)) {
        measure(stage, &strict, subject, paced)?;
    }
    Ok(())
}

fn measure(stage: &Stage, case: &Case, subject: &Subject, paced: &mut (Tally, u64)) -> Result<Run, BenchError> {
    let run = (subject.run)(stage, case)?;
    if subject.ours {
        clean(case, run.tally)?;
    }
    paced.0 += run.tally;
    paced.1 += case.sent();
    Ok(run)
}

fn one_case(
    stage: &Stage,
    case: &Case,
    subjects: &[Subject],
    paced: &mut [(Tally, u64)],
    found: &mut Found,
) -> Result<(), BenchError> {
    let row = |subject: &str, metric: &str, unit: &str| {
        case.place.params(Row::new(subject, metric, unit)).param("subscribers", case.subscribers)
    };
    let checks = match case.place {
        Place::OneCore { flush } => Some(case.each(peers::checks_alone(stage, case, flush))),
        Place::TwoCores | Place::Unpaced => None,
    };
    if let Some(checks) = checks {
        found.push(row("an array of receivers", "checks alone", "ns"), checks);
    }
    let mut ours = f64::NAN;
    for (subject, paced) in subjects.iter().zip(paced).filter(|(subject, _)| subject.plays(case)) {
        if case.place == Place::Unpaced {
            let run = (subject.run)(stage, case)?;
            // A host's subscription that is too slow has gaps, which it is told of: its publisher waits for it no more
            // than those of the peers do. Sinks have no reason to be slow.
            if subject.name == OURS {
                clean(case, run.tally)?;
            }
            push_lost(found, &subject.name, "unpaced", run.tally, case.sent());
            continue;
        }
        let each = case.each(measure(stage, case, subject, paced)?);
        found.push(row(&subject.name, "delivery", "ns"), each);
        if let Some(checks) = checks {
            found.push(row(&subject.name, LESS_CHECKS, "ns"), each - checks);
        }
        if subject.name == OURS {
            ours = each;
        } else if subject.name.starts_with(Arcly::NAME) {
            let held = subject.name == in_tasks::<Arcly>() && case.subscribers >= 1_000;
            // The goal is the plain ratio's: what an application sees has its own work in it.
            let times = |metric: &str| {
                let row = row(&subject.name, &format!("{metric} ÷ shardcast's"), "×").better(Better::Higher);
                if held {
                    row.goal(20.0, "at least 20 times cheaper than arcly-stream, used as documented")
                } else {
                    row
                }
            };
            found.push(times("delivery"), each / ours);
            if let Some(checks) = checks {
                found.push(times(LESS_CHECKS), (each - checks) / (ours - checks).max(NOISE_NS));
            }
        }
    }
    Ok(())
}

/// What a library does for a delivery: all that it takes, less what the receivers do at the least. The checks are little
/// beside a peer's delivery and half of shardcast's: this ratio is greater than the plain one, and less certain.
const LESS_CHECKS: &str = "delivery less its checks";
/// Less than this between two runs is no difference.
const NOISE_NS: f64 = 0.1;

/// Shares of what was sent, in percent.
pub(crate) fn push_lost(found: &mut Found, subject: &str, publisher: &str, tally: Tally, sent: u64) {
    let share = |count: u64| count as f64 * 100.0 / sent as f64;
    let row = |metric: &str| Row::new(subject, metric, "%").param("publisher", publisher);
    found.push(row("deliveries lost"), share(tally.lost));
    found.push(row("deliveries repeated or damaged"), share(tally.repeated + tally.damaged));
}

impl Subject {
    const fn plays(&self, case: &Case) -> bool {
        self.one_core || case.place.has_two_cores()
    }
}

impl Place {
    const fn has_two_cores(self) -> bool {
        !matches!(self, Self::OneCore { .. })
    }
}

/// Nothing is missing.
fn clean(case: &Case, tally: Tally) -> Result<(), BenchError> {
    all("deliveries that were right, in their place", tally.right, case.sent())?;
    all("deliveries lost, repeated or damaged", tally.lost + tally.repeated + tally.damaged, 0)
}

fn all(what: &'static str, found: u64, expected: u64) -> Result<(), BenchError> {
    if found == expected { Ok(()) } else { Err(BenchError::Wrong { what, found, expected }) }
}
