//! The pipeline as a whole: with its thread, and round by round under the test's hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use proptest::prelude::*;

use super::pipeline::{Senders, Shared, channels};
use super::writer::{Round, Writer};
use super::*;
use crate::clock::{Clock, Instant, Now};
use crate::fact::{Class, Fact, FactKind};
use crate::id::ShardId;

const LONG: Duration = Duration::from_secs(60);

fn fact() -> Fact {
    Fact::new(FactKind::PlayStart, Now::default(), ShardId(0))
}

fn at(millis: u64) -> Now {
    Now { mono: Instant(millis * 1_000_000), ..Now::default() }
}

/// The numbers of every producer, each told once or within a marked range, in order: a gap without a mark fails.
fn walk(records: &[Record]) -> HashMap<u16, (u64, u64)> {
    let mut told: HashMap<u16, (u64, u64)> = HashMap::new();
    for record in records {
        let (facts, lost) = told.entry(record.producer).or_default();
        assert_eq!(record.producer_seq, *facts + *lost + 1, "an unmarked gap before {record:?}");
        match &record.entry {
            Entry::Fact(_) => *facts += 1,
            Entry::Loss(loss) => {
                assert_eq!(loss.last - loss.first + 1, loss.count);
                *lost += loss.count;
            }
        }
    }
    told
}

/// A sink that takes nothing until its gate is opened (its sender dropped), and tells when it is asked.
struct Gated {
    asked: Sender<()>,
    gate: Receiver<()>,
    inner: MemorySink,
}

impl AuditSink for Gated {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        let _ = self.asked.try_send(());
        let _ = self.gate.recv();
        self.inner.write(records)
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        Ok(())
    }
}

fn gated() -> (Gated, Receiver<()>, Sender<()>, MemorySink) {
    let (asked, asking) = bounded(1);
    let (open, gate) = bounded(0);
    let inner = MemorySink::new(1_000_000);
    (Gated { asked, gate, inner: inner.clone() }, asking, open, inner)
}

/// A sink that refuses while its counter is not zero, and counts its flushes.
struct Moody {
    refusals: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
    /// Flushes that fail.
    broken_flushes: Arc<AtomicU64>,
    inner: MemorySink,
}

impl AuditSink for Moody {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(AuditError::Sink("not in the mood".into()));
        }
        self.inner.write(records)
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        let broken = self.broken_flushes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if broken.is_ok() { Err(AuditError::Sink("the disk is gone".into())) } else { Ok(()) }
    }
}

/// A writer without a thread.
struct ByHand {
    shared: Arc<Shared>,
    senders: Senders,
    writer: Writer,
    refusals: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
    broken_flushes: Arc<AtomicU64>,
    memory: MemorySink,
}

impl ByHand {
    fn new(capacity: usize, mut others: Vec<Box<dyn AuditSink>>) -> Self {
        let (senders, receivers) = channels(capacity.into());
        let shared = Arc::new(Shared::default());
        let (refusals, flushes, memory) = (Arc::default(), Arc::default(), MemorySink::new(1_000_000));
        let broken_flushes = Arc::default();
        let moody = Moody {
            refusals: Arc::clone(&refusals),
            flushes: Arc::clone(&flushes),
            broken_flushes: Arc::clone(&broken_flushes),
            inner: memory.clone(),
        };
        others.push(Box::new(moody));
        let mut writer = Writer::new(Arc::clone(&shared), receivers, others);
        writer.wait = |_| ();
        Self { shared, senders, writer, refusals, flushes, broken_flushes, memory }
    }

    fn producer(&self, id: u16) -> AuditProducer {
        self.shared.producer(id, self.senders.clone(), None)
    }
}

#[test]
fn a_blocked_sink_never_delays_emit_and_the_count_is_exact() {
    let (sink, asking, open, memory) = gated();
    let pipeline = AuditPipeline::start(vec![Box::new(sink)], 1_000, Clock::start());
    let mut producer = pipeline.producer(0);
    producer.emit(fact());
    asking.recv_timeout(LONG).unwrap();

    // The sink is blocked; this ends nevertheless.
    for _ in 1..100_000 {
        producer.emit(fact());
    }

    assert_eq!(pipeline.stats().written, 0);
    drop(open);
    let stats = pipeline.stop(LONG);
    assert_eq!((stats.attempted, stats.written, stats.lost), (100_000, 1_001, 98_999));
    assert_eq!(walk(&memory.records())[&0], (1_001, 98_999));
}

#[test]
fn many_producers_at_once_are_counted_exactly() {
    let memory = MemorySink::new(1_000_000);
    let pipeline = AuditPipeline::start(vec![Box::new(memory.clone())], 64, Clock::start());

    thread::scope(|scope| {
        for id in 0..4 {
            let mut producer = pipeline.producer(id);
            scope.spawn(move || (0..20_000).for_each(|_| producer.emit(fact())));
        }
    });

    let stats = pipeline.stop(LONG);
    assert_eq!((stats.attempted, stats.written + stats.lost), (80_000, 80_000));
    let told = walk(&memory.records());
    assert_eq!(told.values().map(|(facts, _)| facts).sum::<u64>(), stats.written);
    assert!(told.values().all(|(facts, lost)| facts + lost == 20_000), "{told:?}");
}

#[test]
fn the_loss_record_precedes_the_late_record() {
    let mut trail = ByHand::new(2, Vec::new());
    let mut producer = trail.producer(7);
    (0..5).for_each(|_| producer.emit(fact()));
    let _ = trail.writer.round(at(0));
    (0..4).for_each(|_| producer.emit(fact()));
    let _ = trail.writer.round(at(1));

    let told: Vec<_> = trail.memory.records().iter().map(|r| (r.seq, r.producer_seq, loss_of(r))).collect();
    assert_eq!(
        told,
        [(1, 1, None), (2, 2, None), (3, 3, Some((3, 5))), (4, 6, None), (5, 7, None), (6, 8, Some((8, 9)))]
    );
}

#[test]
fn a_gap_in_the_middle_is_marked_before_what_follows_it() {
    let mut trail = ByHand::new(2, Vec::new());
    let mut other = trail.producer(1);
    let mut producer = trail.producer(7);
    producer.emit(fact());
    other.emit(fact());
    producer.emit(fact()); // lost
    let lane = trail.shared.lanes.lock().iter().find(|lane| lane.id == 7).map(Arc::clone).unwrap();
    // As if it had not come back from `try_send` yet: the tail cannot be judged.
    lane.settled.store(1, Ordering::SeqCst);
    let _ = trail.writer.round(at(0));
    producer.emit(fact());
    let _ = trail.writer.round(at(1));

    let told: Vec<_> = trail.memory.records().iter().map(|r| (r.producer, r.producer_seq, loss_of(r))).collect();
    assert_eq!(told, [(7, 1, None), (1, 1, None), (7, 2, Some((2, 2))), (7, 3, None)]);
}

#[test]
fn a_flood_of_telemetry_takes_no_room_from_decisions() {
    let mut trail = ByHand::new(4, Vec::new());
    let mut producer = trail.producer(0);
    let skip = || Fact::new(FactKind::Skip, at(1), ShardId(0));
    (0..100).for_each(|_| producer.emit(skip()));
    (0..4).for_each(|_| producer.emit(fact()));
    let _ = trail.writer.round(at(2));
    let told = walk(&trail.memory.records());
    assert_eq!((told[&0], told[&TELEMETRY]), ((4, 0), (4, 96)));
    assert!(producer.fails(Class::Telemetry) && producer.has_lost(Class::Telemetry));
    assert!(!producer.fails(Class::Decision) && !producer.has_lost(Class::Decision));

    producer.emit(fact());
    let _ = trail.writer.round(at(3));
    assert!(!producer.fails(Class::Telemetry) && producer.has_lost(Class::Telemetry), "it is over, and was");
}

#[test]
fn the_number_of_a_producer_tells_whose_facts_it_counts() {
    for id in [0, 1, 700, u16::MAX - 1, u16::MAX] {
        assert_eq!(producer_of(id), (id, Class::Decision));
        assert_eq!(producer_of(id ^ TELEMETRY), (id, Class::Telemetry));
    }
}

#[test]
fn both_classes_stand_in_the_order_of_their_times() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut producer = trail.producer(0);
    let kinds = [FactKind::ConnectionOpen, FactKind::PlayStart, FactKind::Skip, FactKind::PlayEnd];
    for (kind, ms) in kinds.into_iter().zip(1..) {
        producer.emit(Fact::new(kind, at(ms), ShardId(0)));
    }
    let _ = trail.writer.round(at(9));
    let records = trail.memory.records();
    let told = records.iter().map(|record| match &record.entry {
        Entry::Fact(fact) => fact.kind,
        Entry::Loss(loss) => panic!("{loss:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), kinds);
}

#[test]
fn a_decision_that_somebody_waits_for_is_flushed_at_once_and_what_is_in_doubt_is_no_durable() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut producer = trail.producer(0);
    let first = producer.emit_now(fact()).unwrap();
    assert_eq!(producer.durable(first), None);
    let _ = trail.writer.round(at(1));
    assert_eq!((producer.durable(first), trail.flushes.load(Ordering::SeqCst)), (Some(true), 1));

    // The next is taken, and its flush fails; one more comes, and is flushed well.
    trail.broken_flushes.store(1, Ordering::SeqCst);
    let doubted = producer.emit_now(fact()).unwrap();
    let _ = trail.writer.round(at(2));
    assert!(producer.fails(Class::Decision));
    let second = producer.emit_now(fact()).unwrap();
    let _ = trail.writer.round(at(3));
    assert_eq!((producer.durable(doubted), producer.durable(second)), (Some(false), Some(true)));
    let _ = trail.writer.round(at(4));
    assert!(!producer.fails(Class::Decision));
}

#[test]
fn a_decision_that_no_sink_took_is_not_durable_because_the_next_one_is() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut producer = trail.producer(0);
    trail.refusals.store(5, Ordering::SeqCst);
    let lost = producer.emit_now(fact()).unwrap();
    assert_eq!(trail.writer.round(at(1)), Round::Refused);
    let next = producer.emit_now(fact()).unwrap();
    let _ = trail.writer.round(at(200));
    assert_eq!((producer.durable(lost), producer.durable(next)), (Some(false), Some(true)));
    assert_eq!(walk(&trail.memory.records())[&0], (1, 1));
}

#[test]
fn a_decision_that_finds_no_room_is_not_waited_for() {
    let trail = ByHand::new(1, Vec::new());
    let mut producer = trail.producer(0);
    assert_eq!(producer.emit_now(fact()), Some(1));
    assert_eq!(producer.emit_now(fact()), None);
}

#[test]
fn a_fact_that_is_being_sent_is_not_taken_for_lost_before_the_end() {
    let mut trail = ByHand::new(8, Vec::new());
    let producer = trail.producer(0);
    trail.shared.lanes.lock()[0].attempted().store(1, Ordering::SeqCst);

    let _ = trail.writer.round(at(0));
    assert_eq!(trail.shared.stats().lost, 0);

    trail.writer.close(at(1));
    assert_eq!((trail.shared.stats().attempted, trail.shared.stats().lost), (1, 1));
    drop(producer);
}

#[test]
fn a_loss_with_nothing_behind_it_is_told_by_the_next_round() {
    let mut trail = ByHand::new(1, Vec::new());
    let mut producer = trail.producer(0);
    (0..3).for_each(|_| producer.emit(fact()));

    assert_eq!(trail.writer.round(at(0)), Round::Busy);

    assert_eq!(walk(&trail.memory.records())[&0], (1, 2));
    assert_eq!(trail.writer.round(at(5)), Round::Idle);
}

#[test]
fn a_shard_that_was_restarted_goes_on_with_its_numbers() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut before = trail.producer(3);
    (0..2).for_each(|_| before.emit(fact()));
    drop(before);

    let mut after = trail.producer(3);
    after.emit(fact());
    trail.writer.close(at(0));

    assert_eq!(walk(&trail.memory.records())[&3], (3, 0));
}

#[test]
fn what_was_taken_is_flushed_within_ten_milliseconds_and_at_the_end() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut producer = trail.producer(0);
    producer.emit(fact());
    let flushes = Arc::clone(&trail.flushes);

    let _ = trail.writer.round(at(0));
    assert_eq!(flushes.load(Ordering::SeqCst), 0);
    let _ = trail.writer.round(at(10));
    assert_eq!(flushes.load(Ordering::SeqCst), 1);
    let _ = trail.writer.round(at(20));
    assert_eq!(flushes.load(Ordering::SeqCst), 1, "nothing is dirty");
    trail.writer.close(at(21));
    assert_eq!(flushes.load(Ordering::SeqCst), 2);
}

#[test]
fn a_stop_right_after_the_last_fact_writes_it() {
    let memory = MemorySink::new(10_000);
    let pipeline = AuditPipeline::start(vec![Box::new(memory.clone())], 4_096, Clock::start());
    let mut producer = pipeline.producer(0);
    (0..2_000).for_each(|_| producer.emit(fact()));

    let stats = pipeline.stop(LONG);

    assert_eq!((stats.attempted, stats.written, stats.lost), (2_000, 2_000, 0));
    assert_eq!(memory.records().len(), 2_000);
}

#[test]
fn a_pipeline_that_is_dropped_keeps_its_tail() {
    let memory = MemorySink::new(10);
    let pipeline = AuditPipeline::start(vec![Box::new(memory.clone())], 16, Clock::start());
    pipeline.producer(0).emit(fact());

    drop(pipeline);

    assert_eq!(memory.records().len(), 1);
}

#[test]
fn records_arrive_without_a_stop() {
    let memory = MemorySink::new(10);
    let pipeline = AuditPipeline::start(vec![Box::new(memory.clone())], 16, Clock::start());
    pipeline.producer(0).emit(fact());

    assert!(memory.wait_for(LONG, |records| records.len() == 1));
    let _ = pipeline.stop(LONG);
}

#[test]
fn a_sink_that_blocks_beyond_the_deadline_is_left_behind_and_its_facts_count_as_lost() {
    let (sink, asking, open, memory) = gated();
    let pipeline = AuditPipeline::start(vec![Box::new(sink)], 16, Clock::start());
    let mut producer = pipeline.producer(0);
    (0..10).for_each(|_| producer.emit(fact()));
    asking.recv_timeout(LONG).unwrap();

    let stats = pipeline.stop(Duration::from_millis(1));

    assert_eq!((stats.attempted, stats.written, stats.lost), (10, 0, 10));
    assert!(memory.records().is_empty());
    drop(open);
}

#[test]
fn without_sinks_facts_are_still_counted() {
    let pipeline = AuditPipeline::start(Vec::new(), 16, Clock::start());
    let mut producer = pipeline.producer(0);
    (0..10).for_each(|_| producer.emit(fact()));

    let stats = pipeline.stop(LONG);

    assert_eq!((stats.attempted, stats.written, stats.lost), (10, 10, 0));
}

#[test]
fn two_pipelines_in_one_process_know_nothing_of_each_other() {
    let sinks = [MemorySink::new(100), MemorySink::new(100)];
    let pipelines = sinks.clone().map(|sink| AuditPipeline::start(vec![Box::new(sink)], 16, Clock::start()));
    for (count, pipeline) in pipelines.iter().enumerate() {
        let mut producer = pipeline.producer(0);
        (0..=count).for_each(|_| producer.emit(fact()));
    }

    let [one, two] = pipelines.map(|pipeline| pipeline.stop(LONG));

    assert_eq!((one.written, two.written), (1, 2));
    assert_eq!(sinks.map(|sink| sink.records().last().unwrap().seq), [1, 2]);
}

#[test]
fn a_batch_that_a_sink_refuses_is_offered_again() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut producer = trail.producer(0);
    producer.emit(fact());
    trail.refusals.store(3, Ordering::SeqCst);

    assert_eq!(trail.writer.round(at(0)), Round::Busy);

    let stats = trail.shared.stats();
    assert_eq!((stats.written, stats.lost, stats.sink_errors, stats.sink_lost), (1, 0, 3, 0));
    assert_eq!(stats.last_error.unwrap().to_string(), "an audit sink failed: not in the mood");
}

#[test]
fn what_one_sink_refuses_for_good_is_a_gap_in_its_numbers_and_in_no_other() {
    let healthy = MemorySink::new(100);
    let mut trail = ByHand::new(8, vec![Box::new(healthy.clone())]);
    let mut producer = trail.producer(0);
    trail.refusals.store(5, Ordering::SeqCst);
    for turn in 0..3 {
        producer.emit(fact());
        let _ = trail.writer.round(at(turn));
    }

    let seqs = |sink: &MemorySink| sink.records().iter().map(|record| record.seq).collect::<Vec<_>>();
    assert_eq!((seqs(&healthy), seqs(&trail.memory)), (vec![1, 2, 3], vec![2, 3]));
    let stats = trail.shared.stats();
    assert_eq!((stats.written, stats.lost, stats.sink_lost), (3, 0, 1));
}

#[test]
fn what_no_sink_took_is_marked_as_soon_as_one_takes_records_again() {
    let mut trail = ByHand::new(8, Vec::new());
    let mut producers = [trail.producer(0), trail.producer(1)];
    trail.refusals.store(6, Ordering::SeqCst);
    for turn in 0..2 {
        producers.iter_mut().for_each(|producer| producer.emit(fact()));
        assert_eq!(trail.writer.round(at(turn)), Round::Refused);
    }
    assert_eq!(trail.shared.stats().lost, 4);

    assert_eq!(trail.writer.round(at(50)), Round::Idle, "not before the sink had its rest");
    assert!(trail.memory.records().is_empty());
    let _ = trail.writer.round(at(200));

    let told: Vec<_> = trail.memory.records().iter().map(|r| (r.producer, loss_of(r))).collect();
    assert_eq!(told, [(0, Some((1, 2))), (1, Some((1, 2)))]);
    assert_eq!((trail.shared.stats().written, trail.shared.stats().lost), (0, 4));
}

#[test]
fn while_no_sink_takes_anything_the_channel_keeps_what_comes() {
    let mut trail = ByHand::new(5_000, Vec::new());
    let mut producer = trail.producer(0);
    (0..5_000).for_each(|_| producer.emit(fact()));
    trail.refusals.store(5, Ordering::SeqCst);

    let _ = trail.writer.round(at(0));
    let lost = trail.shared.stats().lost;
    assert!(lost < 5_000);
    trail.writer.close(at(1));

    assert_eq!(walk(&trail.memory.records())[&0], (5_000 - lost, lost));
}

#[test]
fn a_sink_that_panics_is_not_called_again_and_harms_nobody() {
    struct Panicking;
    impl AuditSink for Panicking {
        fn write(&mut self, _: &[Record]) -> Result<(), AuditError> {
            std::panic::resume_unwind(Box::new("a sink of the host"));
        }
        fn flush(&mut self) -> Result<(), AuditError> {
            unreachable!("it is not called again")
        }
    }
    let memory = MemorySink::new(10);
    let sinks: Vec<Box<dyn AuditSink>> = vec![Box::new(Panicking), Box::new(memory.clone())];
    let pipeline = AuditPipeline::start(sinks, 16, Clock::start());
    let mut producer = pipeline.producer(0);
    (0..2).for_each(|_| producer.emit(fact()));

    let stats = pipeline.stop(LONG);

    assert_eq!((stats.written, stats.lost, stats.sink_errors, stats.sink_lost), (2, 0, 1, 2));
    assert!(matches!(*stats.last_error.unwrap(), AuditError::Panicked));
    assert_eq!(memory.records().len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Emit { lane: usize, count: u64 },
    Round,
    Refuse(u64),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 1..20_u64).prop_map(|(lane, count)| Step::Emit { lane, count }),
        3 => Just(Step::Round),
        1 => (0..8_u64).prop_map(Step::Refuse),
        1 => (0..3_usize).prop_map(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn attempted_is_written_plus_lost_whatever_happens(capacity in 1..30_usize, steps in prop::collection::vec(step(), 0..60)) {
        let mut trail = ByHand::new(capacity, Vec::new());
        let mut producers = [0, 1, 2].map(|id| trail.producer(id));
        let mut emitted = [0; 3];
        for (turn, step) in steps.iter().enumerate() {
            match *step {
                Step::Emit { lane, count } => {
                    emitted[lane] += count;
                    (0..count).for_each(|_| producers[lane].emit(fact()));
                }
                Step::Round => drop(trail.writer.round(at(turn as u64 * 40))),
                Step::Refuse(times) => trail.refusals.store(times, Ordering::SeqCst),
                Step::Restart(lane) => producers[lane] = trail.producer(u16::try_from(lane).unwrap()),
            }
            let stats = trail.shared.stats();
            prop_assert!(stats.written + stats.lost <= stats.attempted);
        }
        trail.refusals.store(0, Ordering::SeqCst);
        trail.writer.close(at(1_000_000));

        let stats = trail.shared.stats();
        prop_assert_eq!(stats.attempted, emitted.iter().sum::<u64>());
        prop_assert_eq!(stats.attempted, stats.written + stats.lost);
        let told = walk(&trail.memory.records());
        prop_assert_eq!(told.values().map(|(facts, _)| facts).sum::<u64>(), stats.written);
        for (id, emitted) in (0..).zip(emitted) {
            let (facts, lost) = told.get(&id).copied().unwrap_or_default();
            prop_assert_eq!(facts + lost, emitted);
        }
    }
}

fn loss_of(record: &Record) -> Option<(u64, u64)> {
    match &record.entry {
        Entry::Fact(_) => None,
        Entry::Loss(loss) => Some((loss.first, loss.last)),
    }
}
