//! The thread of one follower.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;

use super::super::trail::{Hash, Trail};
use super::Follower;
use super::cursor::{Cursor, CursorError, Position};
use super::destination::{Batch, DeliveryError, TrailRecord};
use super::reader::{ReadError, Reader};
use crate::clock::{Clock, Instant};

/// What a follower is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowerState {
    /// Delivering, or waiting for something to deliver.
    Following,
    /// Its destination does not take what is offered; a sentence says why. It is tried again.
    Failing(String),
    /// It was stopped, with or without something left to deliver.
    Stopped,
    /// It does not go on by itself; a sentence says why.
    Halted(String),
}

/// Where a follower stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStats {
    /// Its name.
    pub name: String,
    /// The last record that its destination has.
    pub delivered: u64,
    /// Records that are durable in the trail and not delivered: its lag.
    pub lag: u64,
    /// Records that were put aside, ever.
    pub refused: u64,
    /// Offers that failed, since the start.
    pub failures: u64,
    /// What it is doing.
    pub state: FollowerState,
}

/// What a follower and everybody else know of it.
#[derive(Debug)]
pub(super) struct Shared {
    name: String,
    durable: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    /// Of these, what is no record of a follower.
    refused_facts: AtomicU64,
    failures: AtomicU64,
    /// Since when it fails; 0: it does not. In nanoseconds of its clock, and at least 1.
    failing_since: AtomicU64,
    clock: Clock,
    state: Mutex<FollowerState>,
    stopping: AtomicBool,
    /// Until when it may deliver what is left.
    grace_ends: AtomicU64,
}

impl Shared {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn see_durable(&self, seq: u64) {
        self.durable.store(seq, Ordering::Release);
    }

    pub(super) fn refused_facts(&self) -> u64 {
        self.refused_facts.load(Ordering::Acquire)
    }

    /// It has failed for so long, or will not go on at all.
    pub(super) fn fails_for(&self, time: Duration) -> bool {
        let since = self.failing_since.load(Ordering::Acquire);
        let halted = || matches!(*self.state.lock(), FollowerState::Halted(_));
        (since > 0 && self.clock.instant().since(Instant(since)) >= time) || halted()
    }

    pub(super) fn stats(&self) -> FollowerStats {
        let delivered = self.delivered.load(Ordering::Acquire);
        FollowerStats {
            name: self.name.clone(),
            delivered,
            lag: self.durable.load(Ordering::Acquire).saturating_sub(delivered),
            refused: self.refused.load(Ordering::Acquire),
            failures: self.failures.load(Ordering::Acquire),
            state: self.state.lock().clone(),
        }
    }

    fn fails(&self, why: String) {
        self.failures.fetch_add(1, Ordering::AcqRel);
        if self.failing_since.load(Ordering::Acquire) == 0 {
            self.failing_since.store(self.clock.instant().0.max(1), Ordering::Release);
        }
        *self.state.lock() = FollowerState::Failing(why);
    }

    fn goes_on(&self) {
        if self.failing_since.swap(0, Ordering::AcqRel) > 0 {
            *self.state.lock() = FollowerState::Following;
        }
    }

    /// Nothing more is to be tried.
    fn is_over(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
            && self.clock.instant() >= Instant(self.grace_ends.load(Ordering::Acquire))
    }
}

/// The other end of the thread.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
}

impl Worker {
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn stats(&self) -> FollowerStats {
        self.shared.stats()
    }

    pub(super) fn ask_to_stop(&self, grace: Duration) {
        self.shared.grace_ends.store((self.shared.clock.instant() + grace).0, Ordering::Release);
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// A destination that blocks is left behind.
    pub(super) fn join(&mut self, within: Duration) {
        let Some(thread) = self.thread.take() else { return };
        if !self.ended.recv_timeout(within).is_err_and(|error| error.is_timeout()) {
            let _ = thread.join();
        }
    }
}

pub(super) fn start(trail: &Trail, follower: Follower) -> Result<(Arc<Shared>, Worker), CursorError> {
    let cursor = Cursor::open(trail.dir(), &follower.name, trail.log())?;
    let shared = Arc::new(Shared {
        name: follower.name.clone(),
        durable: AtomicU64::new(trail.durable()),
        delivered: AtomicU64::new(cursor.at.delivered),
        refused: AtomicU64::new(cursor.at.refused),
        refused_facts: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        failing_since: AtomicU64::new(0),
        clock: Clock::start(),
        state: Mutex::new(FollowerState::Following),
        stopping: AtomicBool::new(false),
        grace_ends: AtomicU64::new(0),
    });
    let (end, ended) = bounded::<()>(0);
    let run = Run {
        shared: Arc::clone(&shared),
        dir: trail.dir().into(),
        retry: follower.retry_first,
        pending: VecDeque::new(),
        again: 0,
        follower,
        cursor,
    };
    let name = format!("audit-{}", shared.name.get(..9).unwrap_or(&shared.name));
    let spawned = thread::Builder::new().name(name).spawn(move || {
        let _end = end;
        run.run();
    });
    let thread = spawned.map_err(|error| CursorError::Thread(shared.name.clone(), error))?;
    Ok((Arc::clone(&shared), Worker { shared, thread: Some(thread), ended }))
}

/// What the thread owns.
struct Run {
    shared: Arc<Shared>,
    dir: PathBuf,
    follower: Follower,
    cursor: Cursor,
    /// Records that were read and not delivered yet, in order.
    pending: VecDeque<TrailRecord>,
    /// So many of these were offered before this process began, as one batch.
    again: usize,
    retry: Duration,
}

/// Why the thread ends.
enum End {
    Stopped,
    Halted(String),
}

impl Run {
    fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.follow()));
        *self.shared.state.lock() = match ended {
            Ok(End::Stopped) => FollowerState::Stopped,
            Ok(End::Halted(why)) => FollowerState::Halted(why),
            Err(_) => FollowerState::Halted("its destination panicked".into()),
        };
    }

    fn follow(&mut self) -> End {
        let mut reader = match self.begin() {
            Ok(reader) => reader,
            Err(end) => return end,
        };
        loop {
            if let Err(end) = self.fill(&mut reader).and_then(|()| self.deliver_pending()) {
                return end;
            }
            // Looked at before the trail's end is: what was durable when the stop was asked for is still delivered.
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let done = reader.seq() >= self.shared.durable.load(Ordering::Acquire);
            if stopping && (done || self.shared.is_over()) {
                return End::Stopped;
            }
            if done {
                thread::park_timeout(LOOK_EVERY);
            }
        }
    }

    /// Finds out where the destination is, and goes there.
    fn begin(&mut self) -> Result<Reader, End> {
        let last = loop {
            let log = self.cursor.log().to_owned();
            match self.follower.destination.last(&log, self.cursor.at.taken) {
                Ok(last) => break last,
                Err(error) => self.wait_after(error)?,
            }
        };
        self.shared.goes_on();
        let Position { delivered, taken, hash, offered, .. } = self.cursor.at;
        let durable = self.shared.durable.load(Ordering::Acquire);
        let known = last.map_or(delivered, |last| last.seq);
        if known > durable {
            return Err(End::Halted(format!(
                "its destination has record {known} of this trail, which ends with {durable}: the end of the trail was cut off"
            )));
        }
        let (after, hash) = match last {
            // What was put aside behind that is not there, and is not offered again.
            Some(last) if last.seq == taken => {
                (delivered, if taken == delivered { last.hash.or(hash) } else { hash })
            }
            // More came through than is known, or something is gone again.
            Some(last) => (last.seq, last.hash),
            None => (delivered, hash),
        };
        let mut reader = loop {
            match Reader::open(&self.dir, after, hash) {
                Ok(reader) => break reader,
                Err(error) => self.wait_to_read(error)?,
            }
        };
        if last.is_none() && offered > delivered {
            // The same batch once more, with the same name.
            while reader.seq() < offered.min(durable) {
                let record = self.read(&mut reader)?;
                self.pending.extend(record);
            }
            self.again = self.pending.len();
        }
        self.shared.delivered.store(after, Ordering::Release);
        Ok(reader)
    }

    /// Reads what is durable, up to a batch of it.
    fn fill(&mut self, reader: &mut Reader) -> Result<(), End> {
        let durable = self.shared.durable.load(Ordering::Acquire);
        let mut bytes = 0;
        while self.again == 0
            && reader.seq() < durable
            && self.pending.len() < self.follower.batch_records.max(1)
            && (bytes == 0 || bytes < self.follower.batch_bytes)
        {
            let record = self.read(reader)?;
            bytes += record.as_ref().map_or(0, |record| record.line.len());
            self.pending.extend(record);
        }
        Ok(())
    }

    fn read(&self, reader: &mut Reader) -> Result<Option<TrailRecord>, End> {
        loop {
            match reader.next() {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {
                    return Err(End::Halted("the audit trail ends before what was said to be durable".into()));
                }
                Err(error) => self.wait_to_read(error)?,
            }
        }
    }

    /// Delivers all that was read: as one batch, or, where that is refused, in halves.
    fn deliver_pending(&mut self) -> Result<(), End> {
        let mut count = self.pending.len();
        while !self.pending.is_empty() {
            count = count.clamp(1, self.pending.len());
            let again = std::mem::take(&mut self.again) > 0;
            let (last, hash) = (self.pending[count - 1].seq, self.pending[count - 1].hash);
            self.set(Position { offered: last, ..self.cursor.at })?;
            match self.offer(count, again)? {
                Offer::Taken => {
                    self.pending.drain(..count);
                    self.delivered(Position { taken: last, ..self.cursor.at }, last, hash)?;
                    count = self.pending.len();
                }
                Offer::Refused(why) if count == 1 => {
                    self.put_aside(&why)?;
                    count = self.pending.len();
                }
                Offer::Refused(_) => count /= 2,
            }
        }
        Ok(())
    }

    /// Offers so many records until they are taken or refused.
    fn offer(&mut self, count: usize, mut again: bool) -> Result<Offer, End> {
        self.pending.make_contiguous();
        loop {
            let batch = Batch { log: self.cursor.log(), records: &self.pending.as_slices().0[..count], again };
            match self.follower.destination.deliver(&batch) {
                Ok(()) => {
                    self.shared.goes_on();
                    self.retry = self.follower.retry_first;
                    return Ok(Offer::Taken);
                }
                Err(DeliveryError::Refused(why)) => {
                    return Ok(Offer::Refused(DeliveryError::Refused(why).to_string()));
                }
                Err(error) => self.wait_after(error)?,
            }
            again = true;
        }
    }

    /// Nobody takes the first of what is pending.
    fn put_aside(&mut self, why: &str) -> Result<(), End> {
        let Some(record) = self.pending.pop_front() else { return Ok(()) };
        while let Err(error) = self.cursor.put_aside(&record, why) {
            self.wait_after(DeliveryError::later(format!("cannot put a refused record aside: {error}")))?;
        }
        let refused = self.cursor.at.refused + 1;
        self.delivered(Position { refused, ..self.cursor.at }, record.seq, record.hash)?;
        self.shared.refused.store(self.cursor.at.refused, Ordering::Release);
        // Of one that says so of another nothing is said.
        if record.head().is_none_or(|head| !head.event.starts_with("follower_")) {
            self.shared.refused_facts.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    fn delivered(&mut self, at: Position, seq: u64, hash: Hash) -> Result<(), End> {
        self.set(Position { delivered: seq, hash: Some(hash), offered: seq, ..at })?;
        self.shared.delivered.store(seq, Ordering::Release);
        Ok(())
    }

    fn set(&mut self, at: Position) -> Result<(), End> {
        while let Err(error) = self.cursor.set(at) {
            self.wait_after(DeliveryError::later(format!("cannot keep its position: {error}")))?;
        }
        Ok(())
    }

    fn wait_to_read(&self, error: ReadError) -> Result<(), End> {
        match error {
            ReadError::File { .. } => {
                self.shared.fails(error.to_string());
                self.wait(self.follower.retry_first)
            }
            error => Err(End::Halted(error.to_string())),
        }
    }

    fn wait_after(&mut self, error: DeliveryError) -> Result<(), End> {
        if let DeliveryError::Contradiction(_) = error {
            return Err(End::Halted(error.to_string()));
        }
        self.shared.fails(error.to_string());
        let time = self.retry;
        self.retry = (time * 2).min(self.follower.retry_most);
        self.wait(time)
    }

    /// Waits so long, or until it is asked to stop and may not try again.
    fn wait(&self, time: Duration) -> Result<(), End> {
        let until = self.shared.clock.instant() + time;
        loop {
            let now = self.shared.clock.instant();
            if self.shared.is_over() {
                return Err(End::Stopped);
            }
            if now >= until {
                return Ok(());
            }
            thread::park_timeout(until.since(now).min(LOOK_EVERY));
        }
    }
}

enum Offer {
    Taken,
    Refused(String),
}

/// How often it looks whether something is durable that was not.
const LOOK_EVERY: Duration = Duration::from_millis(100);
