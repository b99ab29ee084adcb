//! From a shard to the writer thread: numbered, bounded, counted, and never waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::record::{AuditError, AuditSink};
#[cfg(feature = "trail")]
use super::trail::CounterPage;
use super::writer::Writer;
use crate::clock::Clock;
use crate::fact::{Class, Fact};

/// How many facts of each class may be on their way to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Decisions.
    pub decisions: usize,
    /// Telemetry.
    pub telemetry: usize,
}

impl From<usize> for Capacity {
    /// As many of each.
    fn from(facts: usize) -> Self {
        Self { decisions: facts, telemetry: facts }
    }
}

/// The way of facts into the trail: producers, a bounded channel for each class, one writer thread, sinks.
#[derive(Debug)]
pub struct AuditPipeline {
    shared: Arc<Shared>,
    senders: Senders,
    /// `None` if the thread could not be started.
    writer: Option<WriterThread>,
}

impl AuditPipeline {
    /// Starts the writer thread. Without sinks facts are still numbered and counted.
    ///
    /// The channels take `capacity` facts (at least one) and allocate their slots at once. If the thread cannot
    /// be started, every fact counts as lost and [`AuditStats::last_error`] says why.
    #[must_use]
    pub fn start(sinks: Vec<Box<dyn AuditSink>>, capacity: impl Into<Capacity>, clock: Clock) -> Self {
        let (senders, receivers) = channels(capacity.into());
        #[cfg(feature = "trail")]
        let shared = Shared { page: sinks.iter().find_map(|sink| sink.counters()), ..Shared::default() };
        #[cfg(not(feature = "trail"))]
        let shared = Shared::default();
        let shared = Arc::new(shared);
        let writer = Writer::new(Arc::clone(&shared), receivers, sinks);
        let (ended, end) = bounded::<()>(0);
        let spawned = thread::Builder::new().name("shardcast-audit".into()).spawn(move || {
            // Dropped when the thread ends, also by a panic: whoever stops the pipeline waits for that.
            let _ended = ended;
            writer.run(clock);
        });
        let writer = match spawned {
            Ok(thread) => Some(WriterThread { thread, end }),
            Err(error) => {
                shared.tell(AuditError::Thread(error));
                None
            }
        };
        Self { shared, senders, writer }
    }

    /// A handle for one shard or for the router. The same id again goes on with the numbers of the handle before,
    /// which should be gone by then: a shard that was restarted.
    #[must_use]
    pub fn producer(&self, id: u16) -> AuditProducer {
        let writer = self.writer.as_ref().map(|writer| writer.thread.thread().clone());
        self.shared.producer(id, self.senders.clone(), writer)
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> AuditStats {
        self.shared.stats()
    }

    /// Writes and flushes what was taken, marks what is missing at the end, and ends the thread.
    ///
    /// A sink that blocks beyond `deadline` is left behind with its thread; what it was not seen to take counts
    /// as lost. What producers emit after this call began belongs to no pipeline and is not counted.
    #[must_use]
    pub fn stop(mut self, deadline: Duration) -> AuditStats {
        self.end(deadline);
        let mut stats = self.shared.stats();
        // Exact when the writer has closed; else what it left.
        stats.lost = stats.attempted - stats.written;
        stats
    }

    fn end(&mut self, deadline: Duration) {
        let Some(WriterThread { thread, end }) = self.writer.take() else { return };
        self.shared.stopping.store(true, Ordering::Release);
        thread.thread().unpark();
        if end.recv_timeout(deadline).is_err_and(|error| error.is_timeout()) {
            self.shared.abandoned.store(true, Ordering::Release);
        } else {
            // It has ended or is about to return; a panic of the writer itself shows in the counts.
            let _ = thread.join();
        }
    }
}

impl Drop for AuditPipeline {
    /// As [`AuditPipeline::stop`] with a second, so that a host that forgets to stop keeps its tail.
    fn drop(&mut self) {
        self.end(Duration::from_secs(1));
    }
}

/// One producer's end of the channels.
///
/// A producer has a number for each class, as the facts of each come on their own: that of its decisions is its own,
/// that of its telemetry is [`TELEMETRY`] more (or less, of those above that).
pub struct AuditProducer {
    ways: [Way; 2],
    shared: Arc<Shared>,
    /// Who takes what comes; it sleeps between its rounds.
    writer: Option<thread::Thread>,
}

/// Its way for one class.
struct Way {
    lane: Arc<Lane>,
    /// Of the lane in [`Shared::lanes`].
    index: usize,
    /// Facts emitted by this handle.
    number: u64,
    sender: Sender<Envelope>,
}

impl AuditProducer {
    /// Tells a fact: two stores to a cache line of its own and a `try_send`. Never blocks and makes no system
    /// call; a fact that the channel cannot take is counted, and the trail marks where it is missing.
    pub fn emit(&mut self, fact: Fact) {
        let class = fact.class();
        if self.ways[class as usize].emit(fact).is_none() {
            // The writer may be held up, and tell it much later.
            self.shared.lose(class);
        }
    }

    /// Tells a decision and wakes the writer, that it is soon on disk; its number, by which
    /// [`AuditProducer::durable`] tells when. `None` if it could not be taken.
    #[must_use]
    pub fn emit_now(&mut self, fact: Fact) -> Option<u64> {
        let Some(number) = self.ways[Class::Decision as usize].emit(fact) else {
            self.shared.lose(Class::Decision);
            return None;
        };
        // Before the wake: the writer that it wakes sees it.
        self.shared.urgent.store(true, Ordering::Release);
        if let Some(writer) = &self.writer {
            writer.unpark();
        }
        Some(number)
    }

    /// Whether the decision of this handle with that number is durable with every sink; `None` if that is not known yet.
    /// What a sink has refused, or could not make durable, never is.
    #[must_use]
    pub fn durable(&self, number: u64) -> Option<bool> {
        let lane = &self.ways[Class::Decision as usize].lane;
        // In this order: what was in doubt once is not taken for durable for what came after it.
        let durable = lane.durable.load(Ordering::Acquire);
        match number {
            _ if number <= lane.doubted.load(Ordering::Acquire) => Some(false),
            _ if number <= durable => Some(true),
            _ => None,
        }
    }

    /// Whether facts of this class are being lost, or what was written is not known to be on disk.
    #[must_use]
    pub fn fails(&self, class: Class) -> bool {
        self.shared.fails[class as usize].load(Ordering::Relaxed)
    }

    /// Whether facts of this class were ever lost.
    #[must_use]
    pub fn has_lost(&self, class: Class) -> bool {
        self.shared.has_lost[class as usize].load(Ordering::Relaxed)
    }
}

impl Way {
    fn emit(&mut self, fact: Fact) -> Option<u64> {
        self.number += 1;
        // Before the send, so that no way of dying in between leaves a fact uncounted.
        self.lane.attempted().store(self.number, Ordering::Release);
        // Full or closed, the fact is gone; the writer finds out by the number.
        let sent = self.sender.try_send(Envelope { lane: self.index, number: self.number, fact }).is_ok();
        // Pairs with the load in `Writer::round`: who sees this number, finds its fact in the channel or nowhere.
        self.lane.settled.store(self.number, Ordering::Release);
        sent.then_some(self.number)
    }
}

impl fmt::Debug for AuditProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [decisions, telemetry] = &self.ways;
        write!(f, "AuditProducer({}, {} + {} emitted)", decisions.lane.id, decisions.number, telemetry.number)
    }
}

/// What became of the facts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AuditStats {
    /// Facts emitted. `attempted = written + lost +` what is still under way; after a stop nothing is.
    pub attempted: u64,
    /// Facts that a sink took (or, without sinks, that the writer has seen).
    pub written: u64,
    /// Facts that are in no sink.
    pub lost: u64,
    /// Times that a sink answered with an error or a panic.
    pub sink_errors: u64,
    /// Facts that were given up for some sink, summed over the sinks: each such sink has a gap in `seq`.
    pub sink_lost: u64,
    /// The latest error of a sink.
    pub last_error: Option<Arc<AuditError>>,
}

/// By class.
pub(super) type Senders = [Sender<Envelope>; 2];
/// By class.
pub(super) type Receivers = [Receiver<Envelope>; 2];

pub(super) fn channels(capacity: Capacity) -> (Senders, Receivers) {
    let (decisions, taken_decisions) = bounded(capacity.decisions.max(1));
    let (telemetry, taken_telemetry) = bounded(capacity.telemetry.max(1));
    ([decisions, telemetry], [taken_decisions, taken_telemetry])
}

/// What the number of a producer's telemetry differs by from its own.
pub const TELEMETRY: u16 = 1 << 14;

/// Whose facts a number stands for, and of which class they are.
#[must_use]
pub const fn producer_of(number: u16) -> (u16, Class) {
    // Shards are numbered from below, the router itself from above.
    let (is_shard, has_bit) = (number < 1 << 15, number & TELEMETRY != 0);
    if is_shard == has_bit { (number ^ TELEMETRY, Class::Telemetry) } else { (number, Class::Decision) }
}

/// A fact on its way.
pub(super) struct Envelope {
    /// Index in [`Shared::lanes`].
    pub(super) lane: usize,
    /// From 1, without a gap on the side of the producer.
    pub(super) number: u64,
    pub(super) fact: Fact,
}

/// The counters of one producer handle, alone on their cache lines (two, as adjacent lines are fetched together).
///
/// `settled <= attempted <= settled + 1`
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Lane {
    /// The producer's id, which several handles may have one after the other.
    pub(super) id: u16,
    /// Of its facts.
    pub(super) class: Class,
    /// The number that the handles before this one came to.
    pub(super) base: u64,
    /// Written by the producer alone, where there is no page for it.
    attempted: AtomicU64,
    /// The page where it counts instead, so that it survives the process, and its place there.
    #[cfg(feature = "trail")]
    page: Option<(Arc<CounterPage>, usize)>,
    /// Written by the producer alone: up to here every fact is in the channel or lost.
    pub(super) settled: AtomicU64,
    /// Written by the writer alone: up to here every fact is durable with every sink, but for those in doubt.
    pub(super) durable: AtomicU64,
    /// Written by the writer alone: up to here nothing became durable any more that was not yet.
    pub(super) doubted: AtomicU64,
}

impl Lane {
    /// Where the producer counts what it tells.
    pub(super) fn attempted(&self) -> &AtomicU64 {
        #[cfg(feature = "trail")]
        if let Some(counter) = self.page.as_ref().and_then(|(page, lane)| page.counter(*lane)) {
            return counter;
        }
        &self.attempted
    }
}

/// What the producers' side and the writer both look at; the media path touches none of it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Only ever added to: an index stays valid.
    pub(super) lanes: Mutex<Vec<Arc<Lane>>>,
    /// Where lanes count.
    #[cfg(feature = "trail")]
    page: Option<Arc<CounterPage>>,
    pub(super) written: AtomicU64,
    pub(super) lost: AtomicU64,
    sink_errors: AtomicU64,
    pub(super) sink_lost: AtomicU64,
    last_error: Mutex<Option<Arc<AuditError>>>,
    /// There are sinks.
    pub(super) kept: AtomicBool,
    /// By class: facts were lost in the last round, or what was taken could not be made durable.
    pub(super) fails: [AtomicBool; 2],
    /// By class: facts were lost at some time.
    pub(super) has_lost: [AtomicBool; 2],
    /// Somebody waits for what was told.
    pub(super) urgent: AtomicBool,
    /// No fact is expected any more: write what is there and end.
    pub(super) stopping: AtomicBool,
    /// Nobody waits for the writer any more: it ends as soon as its sink lets it.
    pub(super) abandoned: AtomicBool,
}

impl Shared {
    /// Facts of this class are lost. Where nobody keeps any that is no failure.
    pub(super) fn lose(&self, class: Class) {
        if self.kept.load(Ordering::Relaxed) {
            self.has_lost[class as usize].store(true, Ordering::Relaxed);
            self.fails[class as usize].store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn tell(&self, error: AuditError) {
        self.sink_errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(Arc::new(error));
    }

    pub(super) fn producer(
        self: &Arc<Self>,
        id: u16,
        senders: Senders,
        writer: Option<thread::Thread>,
    ) -> AuditProducer {
        let [decisions, telemetry] = senders;
        let decisions = self.way(id, Class::Decision, decisions);
        let telemetry = self.way(id ^ TELEMETRY, Class::Telemetry, telemetry);
        AuditProducer { ways: [decisions, telemetry], shared: Arc::clone(self), writer }
    }

    fn way(&self, id: u16, class: Class, sender: Sender<Envelope>) -> Way {
        let mut lanes = self.lanes.lock();
        let former = lanes.iter().filter(|lane| lane.id == id);
        let base = former.map(|lane| lane.attempted().load(Ordering::Acquire)).sum();
        let index = lanes.len();
        #[cfg(feature = "trail")]
        let page = self.page.as_ref().map(|page| {
            page.claim(index, id);
            (Arc::clone(page), index)
        });
        let lane = Arc::new(Lane {
            id,
            class,
            base,
            attempted: AtomicU64::new(0),
            #[cfg(feature = "trail")]
            page,
            settled: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
        });
        lanes.push(Arc::clone(&lane));
        Way { lane, index, number: 0, sender }
    }

    /// What each producer has told.
    pub(super) fn attempted(&self) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for lane in self.lanes.lock().iter() {
            *all.entry(lane.id).or_default() += lane.attempted().load(Ordering::Acquire);
        }
        all
    }

    pub(super) fn stats(&self) -> AuditStats {
        // In this order: what is written or lost was attempted before.
        let (written, lost) = (self.written.load(Ordering::Acquire), self.lost.load(Ordering::Acquire));
        AuditStats {
            attempted: self.lanes.lock().iter().map(|lane| lane.attempted().load(Ordering::Acquire)).sum(),
            written,
            lost,
            sink_errors: self.sink_errors.load(Ordering::Relaxed),
            sink_lost: self.sink_lost.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
        }
    }
}

#[derive(Debug)]
struct WriterThread {
    thread: JoinHandle<()>,
    /// Disconnects when the thread ends.
    end: Receiver<()>,
}
