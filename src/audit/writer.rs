//! The writer thread: takes facts from the channel, finds what is missing, and offers both to the sinks.
//!
//! A round never blocks in `recv`: a blocked receiver makes the next sender wake it, which is a system call on
//! the media path. The writer sleeps a few milliseconds between rounds instead; the channel holds them easily.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::pipeline::{Envelope, Lane, Receivers, Shared};
use super::record::{AuditError, AuditSink, Entry, Loss, LossCause, Record};
use crate::clock::{Clock, Instant, Now};
use crate::fact::Class;

/// Everything the writer thread owns; a test drives it round by round.
pub(super) struct Writer {
    shared: Arc<Shared>,
    receivers: Receivers,
    /// Of each class the one that comes next, so that both stand in the trail in the order of their times.
    next: [Option<Envelope>; 2],
    lanes: Vec<LaneView>,
    sinks: Vec<Slot>,
    /// The number of the next record.
    seq: u64,
    batch: Vec<Record>,
    /// Losses of batches that no sink took: told again with the next batch, merged per producer.
    untold: Vec<Loss>,
    /// When [`Writer::untold`] is offered without a batch to go with.
    retell_at: Instant,
    /// Since when something is written and not flushed.
    dirty_since: Option<Instant>,
    /// The last flush failed.
    unflushed: bool,
    /// When sinks are told again that time passes.
    tick_at: Instant,
    /// Waits between two offers to a failing sink; a test does not wait.
    pub(super) wait: fn(Duration),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, receivers: Receivers, sinks: Vec<Box<dyn AuditSink>>) -> Self {
        shared.kept.store(!sinks.is_empty(), Ordering::Relaxed);
        Self {
            shared,
            receivers,
            next: [None, None],
            lanes: Vec::new(),
            sinks: sinks.into_iter().map(|sink| Slot { sink, state: SinkState::Taking }).collect(),
            seq: 1,
            batch: Vec::new(),
            untold: Vec::new(),
            retell_at: Instant::ZERO,
            dirty_since: None,
            unflushed: false,
            tick_at: Instant::ZERO,
            // Parked and not asleep: whoever stops the pipeline need not wait for it.
            wait: thread::park_timeout,
        }
    }

    pub(super) fn run(mut self, clock: Clock) {
        let mut idle = PAUSE_IDLE;
        while !self.shared.stopping.load(Ordering::Acquire) {
            let pause = match self.round(clock.now()) {
                // A trail to which nothing comes costs next to nothing.
                Round::Idle => {
                    idle = (idle * 2).min(PAUSE_IDLE_MOST);
                    idle
                }
                Round::Busy => {
                    idle = PAUSE_IDLE;
                    PAUSE_BUSY
                }
                Round::Refused => PAUSE_REFUSED,
            };
            (self.wait)(pause);
        }
        self.close(clock.now());
    }

    /// Takes what was sent before the round began and marks what was lost before it began.
    pub(super) fn round(&mut self, now: Now) -> Round {
        self.see_new_lanes();
        if now.mono >= self.tick_at {
            self.tick_at = now.mono + TICK_EVERY;
            for slot in &mut self.sinks {
                slot.call(&self.shared, |sink| sink.tick(now, &mut || self.shared.attempted()));
            }
        }
        for view in &mut self.lanes {
            view.horizon = view.lane.settled.load(Ordering::Acquire);
        }
        let lost = self.shared.lost.load(Ordering::Acquire);
        let urgent = self.shared.urgent.swap(false, Ordering::AcqRel);
        let round = self.drain(now, Ending::No);
        if self.dirty_since.is_some_and(|since| urgent || now.mono.since(since) >= FLUSH_EVERY) {
            self.flush(now.mono);
        }
        if lost == self.shared.lost.load(Ordering::Acquire) && round != Round::Refused && !self.unflushed {
            for fails in &self.shared.fails {
                fails.store(false, Ordering::Relaxed);
            }
        }
        round
    }

    /// The last round: every fact that was attempted is written or marked, and the sinks are flushed.
    pub(super) fn close(&mut self, now: Now) {
        self.see_new_lanes();
        for view in &mut self.lanes {
            view.horizon = view.lane.attempted().load(Ordering::Acquire);
        }
        self.drain(now, Ending::Yes);
        if !self.shared.abandoned.load(Ordering::Acquire) {
            self.flush(now.mono);
            for slot in &mut self.sinks {
                slot.call(&self.shared, |sink| sink.close(now, &mut || self.shared.attempted()));
            }
        }
    }

    fn drain(&mut self, now: Now, ending: Ending) -> Round {
        // Read after the horizons: with so many messages taken, all that was sent below a horizon has been seen,
        // and what has not is lost.
        let mut left = [0, 1].map(|class| self.receivers[class].len() + usize::from(self.next[class].is_some()));
        let sent = left;
        loop {
            while self.batch.len() < BATCH_RECORDS_MAX {
                let Some(envelope) = self.first_of(&mut left) else { break };
                self.take(envelope, now);
            }
            let drained = left == [0, 0];
            if drained {
                self.mark_tails(now);
                if ending == Ending::Yes || now.mono >= self.retell_at {
                    self.tell_untold();
                }
            }
            let refused = !self.offer_batch(now);
            if self.shared.abandoned.load(Ordering::Acquire) || (refused && ending == Ending::No) {
                // What is still in the channel waits there for better times.
                return Round::Refused;
            }
            if drained {
                return if sent == [0, 0] { Round::Idle } else { Round::Busy };
            }
        }
    }

    /// The earlier one of what comes next, of so many of each class.
    fn first_of(&mut self, left: &mut [usize; 2]) -> Option<Envelope> {
        for class in [0, 1] {
            if left[class] > 0 && self.next[class].is_none() {
                self.next[class] = self.receivers[class].try_recv().ok();
                if self.next[class].is_none() {
                    left[class] = 0;
                }
            }
        }
        let time = |class: usize| {
            let next = self.next[class].as_ref().filter(|_| left[class] > 0);
            next.map(|envelope| (envelope.fact.now.mono, class))
        };
        let (_, class) = [time(0), time(1)].into_iter().flatten().min()?;
        left[class] -= 1;
        self.next[class].take()
    }

    fn take(&mut self, envelope: Envelope, now: Now) {
        if envelope.lane >= self.lanes.len() {
            self.see_new_lanes();
        }
        let view = &mut self.lanes[envelope.lane];
        let (id, class, base) = (view.lane.id, view.lane.class, view.lane.base);
        let missing = view.next..envelope.number;
        view.next = envelope.number + 1;
        if !missing.is_empty() {
            self.mark((id, class), base + missing.start, base + envelope.number - 1, now);
        }
        self.push(id, base + envelope.number, Entry::Fact(envelope.fact));
    }

    /// Losses with nothing behind them yet.
    fn mark_tails(&mut self, now: Now) {
        for index in 0..self.lanes.len() {
            let view = &mut self.lanes[index];
            if view.next <= view.horizon {
                let lane = (view.lane.id, view.lane.class);
                let (first, last) = (view.lane.base + view.next, view.lane.base + view.horizon);
                view.next = view.horizon + 1;
                self.mark(lane, first, last, now);
            }
        }
    }

    fn mark(&mut self, (producer, class): (u16, Class), first: u64, last: u64, now: Now) {
        let count = last - first + 1;
        self.shared.lost.fetch_add(count, Ordering::AcqRel);
        self.shared.lose(class);
        let cause = LossCause::ChannelFull;
        let loss = Loss { producer, first, last, count, cause, first_seen: now, last_seen: now };
        self.push(producer, first, Entry::Loss(loss));
    }

    /// What was taken up to now, and is not known to be durable with every sink, never will be.
    fn doubt(&self) {
        for view in &self.lanes {
            view.lane.doubted.store(view.next - 1, Ordering::Release);
        }
    }

    /// Facts of neither class come to where they are to be.
    fn fail(&self) {
        for fails in &self.shared.fails {
            fails.store(true, Ordering::Relaxed);
        }
    }

    fn push(&mut self, producer: u16, producer_seq: u64, entry: Entry) {
        if self.batch.is_empty() {
            self.tell_untold();
        }
        self.batch.push(Record { seq: self.seq, producer, producer_seq, entry });
        self.seq += 1;
    }

    /// What was missing in the batches before stands in front of the next.
    fn tell_untold(&mut self) {
        for loss in self.untold.drain(..) {
            let (producer, producer_seq) = (loss.producer, loss.first);
            self.batch.push(Record { seq: self.seq, producer, producer_seq, entry: Entry::Loss(loss) });
            self.seq += 1;
        }
    }

    /// Whether somebody took it, or there was nothing to take.
    fn offer_batch(&mut self, now: Now) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let facts = self.batch.iter().filter(|record| matches!(record.entry, Entry::Fact(_))).count() as u64;
        let mut taken = self.sinks.is_empty();
        if taken {
            self.shared.written.fetch_add(facts, Ordering::AcqRel);
        }
        let mut by_all = true;
        for slot in &mut self.sinks {
            if !slot.offer(&self.batch, &self.shared, self.wait) {
                by_all = false;
                self.shared.sink_lost.fetch_add(facts, Ordering::AcqRel);
            } else if !taken {
                // At once: if the next sink blocks for ever, this one has it all the same.
                self.shared.written.fetch_add(facts, Ordering::AcqRel);
                taken = true;
            }
            if self.shared.abandoned.load(Ordering::Acquire) {
                break;
            }
        }
        if !by_all {
            self.doubt();
        }
        if taken {
            self.dirty_since.get_or_insert(now.mono);
        } else {
            self.shared.lost.fetch_add(facts, Ordering::AcqRel);
            self.fail();
            for record in &self.batch {
                if let Entry::Fact(fact) = &record.entry {
                    self.shared.lose(fact.class());
                }
            }
            self.retell_at = now.mono + PAUSE_REFUSED;
            self.remember_untold(now);
        }
        self.batch.clear();
        taken
    }

    /// Turns a batch that nobody took into losses: at most one per producer, so that it stays small however
    /// long the sinks refuse.
    fn remember_untold(&mut self, now: Now) {
        for record in self.batch.drain(..) {
            let loss = match record.entry {
                Entry::Loss(loss) => loss,
                Entry::Fact(_) => Loss {
                    producer: record.producer,
                    first: record.producer_seq,
                    last: record.producer_seq,
                    count: 1,
                    cause: LossCause::SinksRefused,
                    first_seen: now,
                    last_seen: now,
                },
            };
            match self.untold.iter_mut().find(|untold| untold.producer == loss.producer) {
                None => self.untold.push(loss),
                Some(untold) => {
                    untold.first = untold.first.min(loss.first);
                    untold.last = untold.last.max(loss.last);
                    untold.count += loss.count;
                    untold.cause = LossCause::SinksRefused;
                    untold.last_seen = loss.last_seen;
                }
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        self.dirty_since = None;
        let mut durable = true;
        for slot in &mut self.sinks {
            durable &= slot.flush(&self.shared);
        }
        self.unflushed = !durable;
        if durable {
            // All that was taken was offered before.
            for view in &self.lanes {
                view.lane.durable.store(view.next - 1, Ordering::Release);
            }
        } else {
            self.fail();
            self.doubt();
            // Is it better now?
            self.dirty_since = Some(now + PAUSE_REFUSED);
        }
    }

    fn see_new_lanes(&mut self) {
        let lanes = self.shared.lanes.lock();
        let new = lanes.iter().skip(self.lanes.len());
        self.lanes.extend(new.map(|lane| LaneView { lane: Arc::clone(lane), next: 1, horizon: 0 }));
    }
}

/// How a round went, which decides about the pause after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// No fact came.
    Idle,
    /// Facts came and somebody took them.
    Busy,
    /// Nobody took the last batch.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    Yes,
}

/// A lane as the writer knows it.
struct LaneView {
    lane: Arc<Lane>,
    /// The number that is neither taken nor marked; all below are.
    next: u64,
    /// Of the round: all up to here is in the channel or lost.
    horizon: u64,
}

/// A sink and how it fares.
struct Slot {
    sink: Box<dyn AuditSink>,
    state: SinkState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SinkState {
    /// It took the batch before.
    Taking,
    /// It refused the batch before, however often it was offered: it gets one offer per batch until it takes one.
    Refusing,
    /// It panicked: nobody knows in what state it is.
    Dead,
}

impl Slot {
    fn offer(&mut self, batch: &[Record], shared: &Shared, wait: fn(Duration)) -> bool {
        let offers = match self.state {
            SinkState::Taking => OFFERS_MAX,
            SinkState::Refusing => 1,
            SinkState::Dead => return false,
        };
        let mut pause = OFFER_PAUSE;
        for offer in 1..=offers {
            let error = match catch_unwind(AssertUnwindSafe(|| self.sink.write(batch))) {
                Ok(Ok(())) => {
                    self.state = SinkState::Taking;
                    return true;
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    self.state = SinkState::Dead;
                    shared.tell(AuditError::Panicked);
                    return false;
                }
            };
            shared.tell(error);
            if shared.abandoned.load(Ordering::Acquire) {
                return false;
            }
            if offer < offers {
                wait(pause);
                pause *= 2;
            }
        }
        self.state = SinkState::Refusing;
        false
    }

    /// Whether what it took is durable.
    fn flush(&mut self, shared: &Shared) -> bool {
        self.call(shared, |sink| sink.flush())
    }

    fn call(&mut self, shared: &Shared, call: impl FnOnce(&mut dyn AuditSink) -> Result<(), AuditError>) -> bool {
        if self.state == SinkState::Dead {
            return false;
        }
        match catch_unwind(AssertUnwindSafe(|| call(&mut *self.sink))) {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => shared.tell(error),
            Err(_) => {
                self.state = SinkState::Dead;
                shared.tell(AuditError::Panicked);
            }
        }
        false
    }
}

/// Between rounds while facts come.
const PAUSE_BUSY: Duration = Duration::from_millis(1);
/// Between rounds while none do: 200 wakes a second.
const PAUSE_IDLE_MOST: Duration = Duration::from_millis(50);
const PAUSE_IDLE: Duration = Duration::from_millis(5);
/// Between rounds while no sink takes anything; meanwhile the channel keeps what comes.
const PAUSE_REFUSED: Duration = Duration::from_millis(100);
/// Between two tellings that time passes.
const TICK_EVERY: Duration = Duration::from_millis(100);
/// From the first unflushed record to its flush.
const FLUSH_EVERY: Duration = Duration::from_millis(10);
/// Records of one batch: about 300 kB.
const BATCH_RECORDS_MAX: usize = 1024;
/// Times that a batch is offered to a sink that took the one before.
const OFFERS_MAX: u32 = 5;
/// From the first offer to the second; doubled for each that follows: 150 ms in all.
const OFFER_PAUSE: Duration = Duration::from_millis(10);
