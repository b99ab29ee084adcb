//! The threads of one storage.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;

use super::shared::Shared;
use super::sink::{Message, RecorderSink};
use super::stream::StreamWriter;
use super::{GapCause, RecordSpec, RecorderStats, index_name};
use crate::clock::{Clock, Wall};
use crate::extension::StorageBackend;
use crate::id::StreamKey;
use crate::limits::{RECORD_FRAMES_PER_TURN, RECORD_QUEUE_FRAMES, RECORD_THREADS_MAX, RECORDINGS_MAX};

/// A thread that has nothing to do looks again after this. It never sleeps in a channel: to be woken would cost the
/// shard a system call.
const PAUSE: Duration = Duration::from_millis(20);

/// Records streams to one storage.
///
/// Dropping it ends all recordings as [`RecorderPool::close`] does, but waits for nobody.
pub struct RecorderPool {
    storage: Arc<dyn StorageBackend>,
    threads: Vec<Worker>,
    recordings: Mutex<HashMap<StreamKey, Entry>>,
}

impl fmt::Debug for RecorderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecorderPool({} threads, {} recordings)", self.threads.len(), self.recordings.lock().len())
    }
}

struct Worker {
    inbox: Sender<New>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Entry {
    shared: Arc<Shared>,
    thread: usize,
}

/// Why a stream is not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The stream is being recorded to this storage already.
    #[error("{0} is being recorded already")]
    Recorded(StreamKey),
    /// More than [`RECORDINGS_MAX`].
    #[error("there are {RECORDINGS_MAX} recordings already")]
    TooMany,
    /// The names of its segments or of its index would be too long.
    #[error("the name of {0} is too long for its recording")]
    Name(StreamKey),
    /// No threads, or more than [`RECORD_THREADS_MAX`].
    #[error("a pool has 1 to {RECORD_THREADS_MAX} threads")]
    Threads,
    /// The system has no thread.
    #[error("no thread could be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The pool is closed.
    #[error("the storage threads have ended")]
    Closed,
}

/// A recording, to be told from the host to its thread.
struct New {
    key: StreamKey,
    /// An earlier one of the same stream may have something to write yet.
    behind: bool,
    queue: Receiver<Message>,
    shared: Arc<Shared>,
    writer: StreamWriter,
}

impl RecorderPool {
    /// Starts threads for a storage: one for a disk, some for one behind a network. The clock must be that of the
    /// router, which says how old frames are.
    ///
    /// # Errors
    /// Too few or too many threads, or the system has none.
    pub fn start(storage: Arc<dyn StorageBackend>, clock: Clock, threads: usize) -> Result<Self, PoolError> {
        if !(1..=RECORD_THREADS_MAX).contains(&threads) {
            return Err(PoolError::Threads);
        }
        let worker = |number: usize| {
            let (inbox, new) = bounded(RECORDINGS_MAX);
            let name = format!("record-{number}");
            let thread = thread::Builder::new().name(name).spawn(move || work(&new, clock))?;
            Ok(Worker { inbox, thread })
        };
        let threads = (0..threads).map(worker).collect::<Result<_, PoolError>>()?;
        Ok(Self { storage, threads, recordings: Mutex::default() })
    }

    /// Records a stream: the sink is to be attached to it, and the recording ends when the sink is dropped. A stream
    /// that was recorded before, and whose last frames are not written yet, goes on behind them.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn record(&self, key: &StreamKey, spec: RecordSpec) -> Result<(RecorderSink, Recorder), PoolError> {
        // Number and time take more room when they grow, by a few digits.
        let named = spec.template.expand(key, Wall(0), 999_999_999, spec.format).is_ok() && index_name(key).is_ok();
        if !named {
            return Err(PoolError::Name(key.clone()));
        }
        let mut recordings = self.recordings.lock();
        recordings.retain(|_, entry| !entry.shared.finished.load(Relaxed));
        let before = match recordings.get(key) {
            Some(entry) if !entry.shared.sink_gone.load(Relaxed) => return Err(PoolError::Recorded(key.clone())),
            before => before.map(|entry| entry.thread),
        };
        if recordings.len() >= RECORDINGS_MAX {
            return Err(PoolError::TooMany);
        }
        let load = |thread: &usize| recordings.values().filter(|entry| entry.thread == *thread).count();
        let thread = before.or_else(|| (0..self.threads.len()).min_by_key(load)).unwrap_or(0);

        let (sender, queue) = bounded(RECORD_QUEUE_FRAMES);
        let shared = Arc::new(Shared::default());
        let sink = RecorderSink::new(sender, Arc::clone(&shared), spec.queue_bytes);
        let writer = StreamWriter::new(Arc::clone(&self.storage), key.clone(), spec, Arc::clone(&shared));
        let new = New {
            key: key.clone(),
            behind: before.is_some(),
            queue: queue.clone(),
            shared: Arc::clone(&shared),
            writer,
        };
        let worker = self.threads.get(thread).ok_or(PoolError::Closed)?;
        worker.inbox.try_send(new).map_err(|_| PoolError::Closed)?;
        recordings.insert(key.clone(), Entry { shared: Arc::clone(&shared), thread });
        Ok((sink, Recorder { shared, queue }))
    }

    /// Ends all recordings, writes what is queued, and waits until that is done.
    pub fn close(self) {
        for entry in self.recordings.lock().values() {
            entry.shared.stop.store(true, Relaxed);
        }
        let workers = self.threads.into_iter().map(|Worker { inbox, thread }| {
            drop(inbox);
            thread
        });
        let threads: Vec<_> = workers.collect();
        for thread in threads {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// The host's end of one recording.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    /// Only looked at for its length.
    queue: Receiver<Message>,
}

impl Recorder {
    /// What became of the frames so far.
    #[must_use]
    pub fn stats(&self) -> RecorderStats {
        self.shared.stats(self.queue.len())
    }

    /// Takes no more frames, and writes those that are queued.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }
}

/// One storage thread.
fn work(inbox: &Receiver<New>, clock: Clock) {
    let mut recordings: Vec<New> = Vec::new();
    let mut open = true;
    while open || !recordings.is_empty() {
        loop {
            match inbox.try_recv() {
                Ok(new) => recordings.push(new),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        let mut busy = false;
        for at in 0..recordings.len() {
            let (before, from) = recordings.split_at_mut(at);
            let Some(recording) = from.first_mut() else { continue };
            // Of one stream that is recorded anew the end of the recording before comes first.
            recording.behind = recording.behind && before.iter().any(|other| other.key == recording.key);
            if recording.behind {
                continue;
            }
            busy |= recording.turn(clock, !open);
        }
        recordings.retain(|recording| !recording.shared.finished.load(Relaxed));
        if !busy {
            thread::sleep(PAUSE);
        }
    }
}

impl New {
    /// Takes some frames. Says whether there were any.
    fn turn(&mut self, clock: Clock, closing: bool) -> bool {
        let now = clock.now();
        for taken in 0..RECORD_FRAMES_PER_TURN {
            match self.queue.try_recv() {
                Ok(Message::Frame(frame)) => {
                    self.shared.queued_bytes.fetch_sub(frame.payload.len(), Relaxed);
                    self.writer.on_frame(frame, clock.now());
                }
                Ok(Message::Gap(cause, frames)) => self.writer.on_gap(cause, frames, now),
                Err(TryRecvError::Disconnected) => {
                    self.end(clock);
                    return true;
                }
                Err(TryRecvError::Empty) => {
                    // The shard may hold the sink for long after a stop: nothing comes from it any more.
                    if closing || self.shared.stop.load(Relaxed) {
                        self.end(clock);
                    } else {
                        self.writer.tidy(now);
                    }
                    return taken > 0;
                }
            }
        }
        true
    }

    fn end(&mut self, clock: Clock) {
        self.shared.stop.store(true, Relaxed);
        self.shared.sink_gone.store(true, Relaxed);
        // What came between the last look and the stop.
        while let Ok(message) = self.queue.try_recv() {
            match message {
                Message::Frame(frame) => {
                    self.shared.queued_bytes.fetch_sub(frame.payload.len(), Relaxed);
                    self.writer.on_frame(frame, clock.now());
                }
                Message::Gap(cause, frames) => self.writer.on_gap(cause, frames, clock.now()),
            }
        }
        let [queue, router] = &self.shared.owed_at_end;
        let owed = [(GapCause::Queue, queue.load(Relaxed)), (GapCause::Router, router.load(Relaxed))];
        self.writer.finish(owed, clock.now());
    }
}
