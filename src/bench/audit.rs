//! What telling a fact costs the media path: with the channel empty, with the sink blocked, and with the channel full.
//!
//! One thread emits, as a shard does; the writer has the other core. With the channel empty the writer keeps up; with
//! the sink blocked the channel still has room, but nobody takes anything out; full, every fact is lost. The facts are
//! made before, as long as those of a session. Afterwards the trail must add up: every fact is either in the sink
//! once, in its place, or in one of the marks of loss, and as many are lost as did not fit.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Condvar, Mutex};

use super::figures::{Found, Row, adjusted, clock_ns, histogram, median};
use super::line::on_core;
use super::model::Scenario;
use super::trail;
use super::world::key;
use super::{BenchError, Context, Size, all_of, setting};
use crate::audit::{AuditError, AuditPipeline, AuditProducer, AuditSink, AuditStats, Entry, Record};
use crate::clock::{Clock, Now};
use crate::fact::{Fact, FactKind, Who};
use crate::id::{ConnectionId, ShardId, StreamKey};

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Facts that the channel takes.
    pub capacity: usize,
    /// Batches of facts in each state.
    pub batches: usize,
    /// Records of the trail that is written and verified.
    pub records: usize,
    /// Decisions that wait to be on disk, in each state.
    pub waits: usize,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 3, 7, 15]),
            capacity: size.pick([256, 16_384, 16_384, 16_384]),
            batches: size.pick([2, 30, 100, 400]),
            records: size.pick([3_000, 100_000, 500_000, 2_000_000]),
            waits: size.pick([5, 50, 500, 2_000]),
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense; a fact that is neither in the trail nor marked as lost.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    setting("batches", settings.batches, settings.batches > 0, "at least 1")?;
    setting("records", settings.records, settings.records > 0, "at least 1")?;
    let rule = "64 to 1,048,576 facts";
    setting("capacity", settings.capacity, (MIN_CAPACITY..=1 << 20).contains(&settings.capacity), rule)?;
    let mut found = Found::new(
        "audit",
        "What telling a fact costs the media path: channel empty, sink blocked, channel full; and whether the loss is exact",
        settings.repetitions,
    );
    let core = context.core(0);
    found.config("shard on core", core);
    found.config("capacity", settings.capacity);
    found.config("facts in a batch", BATCH);
    found.config("batches", settings.batches);
    if let Some(warning) = context.too_few_cores(2, "the writer takes the time of who tells") {
        found.warn(warning);
    }
    let clock = Clock::start();
    let bench = Bench { settings, clock, clock_ns: on_core(core, || clock_ns(clock)), key: key() };
    let (mut attempted, mut lost) = (0, 0);
    for repetition in 0..settings.repetitions {
        context.progress.step(repetition, settings.repetitions, "empty, blocked, full");
        let stats = on_core(core, || bench.repetition(&mut found))?;
        attempted += stats.attempted;
        lost += stats.lost;
        context.progress.step(repetition, settings.repetitions, "a trail is written and verified");
        context.progress.step(repetition, settings.repetitions, "decisions wait for the disk");
        trail::settle(&mut found, clock, settings.waits, &bench.fact())?;
        on_core(core, || trail::measure(&mut found, clock, settings.records as u64, &bench.fact()))?;
    }
    found.config("facts told", attempted);
    found.config("of these lost on purpose, and marked", lost);
    Ok(found.finish())
}

const OURS: &str = "shardcast";
/// Facts that are told one after the other; the channel has room for as many.
const BATCH: usize = 64;
const MIN_CAPACITY: usize = BATCH;

struct Bench<'a> {
    settings: &'a Settings,
    clock: Clock,
    clock_ns: f64,
    key: StreamKey,
}

/// The times of one state.
struct Emits {
    each: Histogram<u64>,
    /// Nanoseconds of one fact in each batch.
    batches: Vec<f64>,
}

impl Bench<'_> {
    fn repetition(&self, found: &mut Found) -> Result<AuditStats, BenchError> {
        let (gate, sink) = gated(false);
        let pipeline = AuditPipeline::start(vec![Box::new(sink)], self.settings.capacity, self.clock);
        let mut producer = pipeline.producer(0);
        let mut told = 0;

        let mut empty = Emits::new();
        let since = found.now();
        for _ in 0..self.settings.batches {
            told += self.batch(&mut producer, &mut empty);
            self.until_written(&pipeline, told)?;
        }
        self.push(found, "empty", &empty, since);

        // The writer is in the sink with one fact, and stays there.
        gate.close();
        producer.emit(self.fact());
        told += 1;
        gate.until_blocked();
        let mut blocked = Emits::new();
        let since = found.now();
        let room = self.settings.capacity;
        for _ in 0..room / BATCH {
            told += self.batch(&mut producer, &mut blocked);
        }
        self.push(found, "sink blocked", &blocked, since);

        for _ in room / BATCH * BATCH..room {
            producer.emit(self.fact());
            told += 1;
        }
        let fits = told;
        let mut full = Emits::new();
        let since = found.now();
        for _ in 0..self.settings.batches {
            told += self.batch(&mut producer, &mut full);
        }
        self.push(found, "full", &full, since);

        gate.open();
        let stats = pipeline.stop(Duration::from_secs(30));
        adds_up(told, told - fits, &stats, &gate.trail())?;
        Ok(stats)
    }

    fn push(&self, found: &mut Found, channel: &str, emits: &Emits, since: crate::clock::Instant) {
        let row = |metric| Row::ns(OURS, metric).param("channel", channel);
        let p50 = found.samples(row("emit"), &adjusted(&emits.each, self.clock_ns, 1.0), since);
        found.push(row("emit").goal(20.0, "p50 of at most 20 ns, and never a system call"), p50);
        found.push(row("emit, mean of 32 after a rest"), median(emits.batches.clone()));
    }

    /// Facts one after the other, timed together, and as many timed one by one.
    fn batch(&self, producer: &mut AuditProducer, emits: &mut Emits) -> u64 {
        let facts: Vec<Fact> = (0..BATCH / 2).map(|_| self.fact()).collect();
        let start = self.clock.instant();
        for fact in facts {
            producer.emit(fact);
        }
        let ns = self.clock.instant().0 - start.0;
        emits.batches.push((ns as f64 - self.clock_ns) / (BATCH / 2) as f64);
        for _ in BATCH / 2..BATCH {
            let fact = self.fact();
            let start = self.clock.instant();
            producer.emit(fact);
            emits.each.saturating_record(self.clock.instant().0 - start.0);
        }
        BATCH as u64
    }

    /// As a player's end: it shares its names with the session, so that letting go of it frees nothing.
    fn fact(&self) -> Fact {
        let who = Who { connection: ConnectionId(7), peer: None, protocol: "rtmp", principal: None };
        Fact::new(FactKind::PlayEnd, Now::default(), ShardId(0)).stream(&self.key).who(&who)
    }

    fn until_written(&self, pipeline: &AuditPipeline, told: u64) -> Result<(), BenchError> {
        let until = self.clock.instant() + Duration::from_secs(10);
        while pipeline.stats().written < told {
            if self.clock.instant() > until {
                return all_of("facts that the writer took in ten seconds", pipeline.stats().written, told);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Emits {
    fn new() -> Self {
        Self { each: histogram(), batches: Vec::new() }
    }
}

/// Every fact that was told is in the trail or marked, once; and as many are marked as had to be.
fn adds_up(told: u64, lost: u64, stats: &AuditStats, trail: &Trail) -> Result<(), BenchError> {
    all_of("facts that the pipeline counted", stats.attempted, told)?;
    all_of("facts lost", stats.lost, lost)?;
    all_of("facts written", stats.written, told - lost)?;
    all_of("facts in the sink", trail.facts, told - lost)?;
    all_of("facts in marks of loss", trail.lost, lost)?;
    all_of("records out of order", trail.out_of_order, 0)?;
    all_of("number of the last fact in the trail", trail.last, told)
}

/// What a sink was given.
#[derive(Clone, Copy, Debug, Default)]
struct Trail {
    facts: u64,
    lost: u64,
    /// The producer's number of the last fact, given or marked as lost.
    last: u64,
    /// Records that did not go on where the one before ended.
    out_of_order: u64,
}

impl Trail {
    fn take(&mut self, record: &Record) {
        let (first, last) = match &record.entry {
            Entry::Fact(_) => {
                self.facts += 1;
                (record.producer_seq, record.producer_seq)
            }
            Entry::Loss(loss) => {
                self.lost += loss.count;
                (loss.first, loss.last)
            }
        };
        self.out_of_order += u64::from(first != self.last + 1);
        self.last = last;
    }
}

/// A sink that is blocked while its gate is closed, and the gate.
fn gated(closed: bool) -> (Gate, Gated) {
    let state = Arc::new(Shared { state: Mutex::new(State { closed, ..State::default() }), changed: Condvar::new() });
    (Gate(Arc::clone(&state)), Gated(state))
}

#[derive(Default)]
struct State {
    closed: bool,
    /// The sink waits at the gate.
    blocked: bool,
    trail: Trail,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct Gate(Arc<Shared>);

impl Gate {
    fn close(&self) {
        self.0.state.lock().closed = true;
    }

    fn open(&self) {
        self.0.state.lock().closed = false;
        self.0.changed.notify_all();
    }

    fn until_blocked(&self) {
        let mut state = self.0.state.lock();
        self.0.changed.wait_while(&mut state, |state| !state.blocked);
    }

    fn trail(&self) -> Trail {
        self.0.state.lock().trail
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A run that failed leaves no thread behind.
        self.open();
    }
}

struct Gated(Arc<Shared>);

impl AuditSink for Gated {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        let mut state = self.0.state.lock();
        state.blocked = state.closed;
        self.0.changed.notify_all();
        self.0.changed.wait_while(&mut state, |state| state.closed);
        state.blocked = false;
        records.iter().for_each(|record| state.trail.take(record));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn each_state_of_the_channel_is_measured_and_the_loss_is_exact() {
        let settings = Settings { repetitions: 2, ..Settings::of(Size::Test) };
        let scenario = on_all_cores(|context| run(&settings, context)).unwrap();

        finite(&scenario);
        let channels = scenario.figures.iter().filter_map(|figure| figure.params.first());
        let channels: Vec<_> = channels.map(|(_, value)| &**value).collect();
        let states = ["empty", "empty", "sink blocked", "sink blocked", "full", "full"];
        let beside = ["nothing", "nothing", "a flood of telemetry", "a flood of telemetry"];
        assert_eq!(channels, [&states[..], &beside[..]].concat());
        let trail: Vec<_> = scenario.figures.iter().filter(|figure| figure.params.is_empty()).collect();
        assert_eq!(trail.len(), 2, "a trail was written, and verified");
        // Each repetition loses what it tells after the channel is full.
        let lost = 2 * settings.batches * BATCH;
        assert_eq!(scenario.config["of these lost on purpose, and marked"], lost.to_string());
        let told = 2 * (2 * settings.batches * BATCH + 1 + settings.capacity);
        assert_eq!(scenario.config["facts told"], told.to_string());
    }

    #[test]
    fn a_fact_that_is_lost_and_not_marked_is_found() {
        let mut stats = AuditStats::default();
        (stats.attempted, stats.written, stats.lost) = (10, 8, 2);
        let trail = Trail { facts: 8, lost: 2, last: 10, out_of_order: 0 };
        assert!(adds_up(10, 2, &stats, &trail).is_ok());

        for wrong in [
            Trail { facts: 7, ..trail },
            Trail { lost: 1, ..trail },
            Trail { last: 9, ..trail },
            Trail { out_of_order: 1, ..trail },
        ] {
            assert!(matches!(adds_up(10, 2, &stats, &wrong), Err(BenchError::Wrong { .. })), "{wrong:?}");
        }
        assert!(adds_up(10, 3, &stats, &trail).is_err());
        assert!(adds_up(11, 2, &stats, &trail).is_err());
    }

    #[test]
    fn a_record_that_is_missing_or_repeated_in_the_trail_is_out_of_order() {
        let fact = |producer_seq| {
            let fact = Fact::new(FactKind::PlayEnd, Now::default(), ShardId(0));
            Record { seq: producer_seq, producer: 0, producer_seq, entry: Entry::Fact(fact) }
        };
        let mut trail = Trail::default();
        [1, 2, 4, 5, 5].into_iter().for_each(|number| trail.take(&fact(number)));
        assert_eq!((trail.facts, trail.out_of_order), (5, 2));
    }
}
