//! From a source to where its frames go, in real time, on a thread that may wait.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{FileSource, IngestEvent, Next, Pacer, SourceError};
use crate::clock::{Clock, Instant};
use crate::id::StreamKey;
use crate::limits::INGEST_RETRY;
use crate::media::Frame;
use crate::reason::{Blame, Reason};
use crate::router::{PublishOptions, Publisher, Router, SendError};

/// Where frames go.
pub trait Outlet {
    /// Why nothing more is taken.
    type Error;

    /// Takes a frame, or gives it back: then it is offered again a moment later.
    ///
    /// # Errors
    /// It is over.
    fn offer(&mut self, frame: Frame) -> Result<Option<Frame>, Self::Error>;

    /// Is called several times a second while no frame is due.
    ///
    /// # Errors
    /// It is over.
    fn idle(&mut self) -> Result<(), Self::Error>;
}

impl Outlet for Publisher {
    type Error = Reason;

    fn offer(&mut self, frame: Frame) -> Result<Option<Frame>, Reason> {
        match self.send(frame) {
            Ok(()) => Ok(None),
            Err(SendError::Full(frame)) => Ok(Some(frame)),
            Err(SendError::Ended(_, reason)) => Err(reason),
        }
    }

    fn idle(&mut self) -> Result<(), Reason> {
        while let Some(event) = self.event() {
            if let crate::shard::PublisherEvent::Ended(reason) = event {
                return Err(reason);
            }
        }
        Ok(())
    }
}

/// Says to stop, from any thread or from a handler of signals.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was said.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// What a handler of signals can set.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Waits, at most until it is said; whether it was.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let mut left = time;
        while !self.is_stopped() && !left.is_zero() {
            let part = left.min(LOOK_EVERY);
            std::thread::sleep(part);
            left = left.saturating_sub(part);
        }
        self.is_stopped()
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The decoding time of the last one.
    pub until: crate::media::Timestamp,
}

/// Why a feed ended before its source did.
#[derive(Debug)]
pub enum FeedError<E> {
    /// The source cannot be read.
    Source(SourceError),
    /// Nothing more is taken; the frame that was not comes first in the next attempt.
    Outlet(E, Option<Box<Frame>>),
}

/// Sends what a source gives until it ends or is stopped; without a pacer, as fast as it is taken. `first` goes before
/// it, `progress` is told after each frame.
///
/// # Errors
/// The source cannot be read, or nothing is taken any more.
pub fn feed<O: Outlet>(
    source: &mut FileSource,
    first: Option<Frame>,
    outlet: &mut O,
    pacer: Option<Pacer>,
    clock: &Clock,
    stop: &Stop,
    mut progress: impl FnMut(&Sent),
) -> Result<Sent, FeedError<O::Error>> {
    let (mut sent, mut pacer, mut first) = (Sent::default(), pacer, first);
    let over = |error| FeedError::Outlet(error, None);
    while !stop.is_stopped() {
        let frame = match first.take() {
            Some(frame) => frame,
            None => match source.next_frame().map_err(FeedError::Source)? {
                Next::Frame(frame) => frame,
                Next::End => break,
                Next::Wait => {
                    outlet.idle().map_err(over)?;
                    stop.wait(PIPE_EVERY);
                    continue;
                }
            },
        };
        if let Some(pacer) = &mut pacer {
            let due = pacer.due(clock.instant(), frame.dts);
            if let Err(error) = wait_until(due, outlet, clock, stop) {
                return Err(FeedError::Outlet(error, Some(Box::new(frame))));
            }
        }
        let (bytes, until) = (frame.payload.len() as u64, frame.dts);
        let mut offered = frame;
        while let Some(back) = outlet.offer(offered).map_err(over)? {
            if stop.wait(FULL_EVERY) {
                return Ok(sent);
            }
            offered = back;
        }
        sent = Sent { frames: sent.frames + 1, bytes: sent.bytes + bytes, until };
        progress(&sent);
    }
    Ok(sent)
}

fn wait_until<O: Outlet>(due: Instant, outlet: &mut O, clock: &Clock, stop: &Stop) -> Result<(), O::Error> {
    loop {
        let left = due.since(clock.instant());
        if left.is_zero() || stop.wait(left.min(LOOK_EVERY)) {
            return Ok(());
        }
        outlet.idle()?;
    }
}

/// A file that is published to a router of this process by a thread of its own.
pub struct Feed {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Feed {
    /// Publishes from now on, in real time; `tell` hears what becomes of it, on that thread. A pipe publishes when
    /// something comes out of it, and anew for its next writer.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        router: Arc<Router>,
        key: StreamKey,
        path: Option<&std::path::Path>,
        source: FileSource,
        tell: impl FnMut(IngestEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Stop::default();
        let path = path.filter(|path| source.is_pipe() && path.as_os_str() != "-").map(std::path::Path::to_owned);
        let mut run = Run { router, key, stop: stop.clone(), tell: Box::new(tell) };
        let body = move || {
            let mut source = source;
            loop {
                let Some(error) = run.publish(&mut source) else { return };
                let pipe = path.as_deref().filter(|_| !run.stop.is_stopped());
                match (error, pipe) {
                    (Some(error), None) => return (run.tell)(IngestEvent::Failed(error)),
                    (None, None) => return,
                    (error, Some(path)) => {
                        if let Some(error) = error {
                            (run.tell)(IngestEvent::Failed(error));
                            run.stop.wait(INGEST_RETRY);
                        }
                        match FileSource::open(path, false) {
                            Ok(again) => source = again,
                            Err(error) => return (run.tell)(IngestEvent::Failed(error)),
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("shardcast-source".into()).spawn(body)?;
        Ok(Self { stop, thread })
    }

    /// Ends the publish after what was sent, within a moment.
    pub fn stop(self) {
        self.stop.stop();
        let _ = self.thread.join();
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

struct Run {
    router: Arc<Router>,
    key: StreamKey,
    stop: Stop,
    tell: Box<dyn FnMut(IngestEvent) + Send>,
}

impl Run {
    /// Publishes until the source ends; inside, why it ended early. Nothing if it must not be tried again.
    fn publish(&mut self, source: &mut FileSource) -> Option<Option<SourceError>> {
        let (mut pending, clock) = (None, self.router.clock());
        loop {
            // Nothing is published before there is something.
            while pending.is_none() {
                match source.next_frame() {
                    Ok(Next::Frame(frame)) => pending = Some(frame),
                    Ok(Next::End) => return self.finished(),
                    Ok(Next::Wait) if self.stop.wait(PIPE_EVERY) => return None,
                    Ok(Next::Wait) => {}
                    Err(error) => return Some(Some(error)),
                }
            }
            let mut publisher = match self.router.publish(&self.key, PublishOptions::default()) {
                Ok(publisher) => publisher,
                Err(reason) => {
                    (self.tell)(IngestEvent::Refused(reason));
                    if reason == Reason::Shutdown || self.stop.wait(INGEST_RETRY) {
                        return None;
                    }
                    continue;
                }
            };
            (self.tell)(IngestEvent::Began);
            let pacer = Some(Pacer::default());
            match feed(source, pending.take(), &mut publisher, pacer, &clock, &self.stop, |_| {}) {
                Ok(_) => {
                    publisher.end();
                    return if self.stop.is_stopped() { None } else { self.finished() };
                }
                Err(FeedError::Source(error)) => {
                    publisher.end();
                    return Some(Some(error));
                }
                Err(FeedError::Outlet(reason, frame)) => {
                    pending = frame.map(|frame| *frame);
                    (self.tell)(IngestEvent::Ended(reason));
                    if reason.blame() == Blame::Operator || self.stop.wait(INGEST_RETRY) {
                        return None;
                    }
                }
            }
        }
    }

    fn finished(&mut self) -> Option<Option<SourceError>> {
        (self.tell)(IngestEvent::Finished);
        Some(None)
    }
}

/// How soon a stop is seen.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a pipe that is empty is looked at.
const PIPE_EVERY: Duration = Duration::from_millis(5);
/// How soon a frame is offered again.
const FULL_EVERY: Duration = Duration::from_millis(1);
