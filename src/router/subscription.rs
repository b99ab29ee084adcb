//! A subscription of the host: frames come from its shard through a ring, to any one thread.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::extension::Credentials;
use crate::id::{ConnectionId, ShardId, StreamKey};
use crate::limits::HOST_RING_SLOTS;
use crate::media::Frame;
use crate::net::{Signal, Signalled, signal};
use crate::protocol::PlayOptions;
use crate::reason::Reason;
use crate::ring::{Consumer, Doorbell, Wake};
use crate::shard::{Command, HostNote, Message, Post};

/// How to subscribe from this process.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// Where to start, and how far behind to be at most.
    pub play: PlayOptions,
    /// What to show to the authenticator; `None` if the host vouches for itself.
    pub credentials: Option<Credentials>,
    /// Which shard serves it; `None` for the stream's home.
    pub shard: Option<ShardId>,
    /// Frames that may wait for this subscriber before it counts as behind, less two that are kept for the last
    /// notes.
    pub ring_slots: usize,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { play: PlayOptions::default(), credentials: None, shard: None, ring_slots: HOST_RING_SLOTS }
    }
}

/// What a subscription gives, in order.
#[derive(Debug)]
pub enum Delivery {
    /// A frame. The first are the configuration in force, then a keyframe.
    Frame(Frame),
    /// This many frames were left out here, because this subscriber was too far behind, or a ring on the way was
    /// full. Configuration in force and a keyframe follow, unless no other frame refers to those.
    Gap(u64),
    /// Nothing follows, for this reason.
    End(Reason),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there now.
    Empty,
    /// The end was received before.
    Ended(Reason),
}

/// Receives the frames of one stream. Dropping it leaves the stream.
pub struct Subscription {
    key: StreamKey,
    connection: ConnectionId,
    post: Post,
    frames: Consumer<Message<HostNote>>,
    doorbell: Doorbell,
    waker: HostWaker,
    skipped: Arc<AtomicU64>,
    clock: Clock,
    pollable: Option<Signalled>,
    ended: Option<Reason>,
}

impl Subscription {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from the parts of one request")]
    pub(super) const fn new(
        key: StreamKey,
        connection: ConnectionId,
        post: Post,
        frames: Consumer<Message<HostNote>>,
        doorbell: Doorbell,
        waker: HostWaker,
        skipped: Arc<AtomicU64>,
        clock: Clock,
    ) -> Self {
        Self { key, connection, post, frames, doorbell, waker, skipped, clock, pollable: None, ended: None }
    }

    /// What is there now.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], and the descriptor of [`Subscription::pollable`] becomes readable when that
    /// changes; [`TryRecvError::Ended`] after the end.
    pub fn try_recv(&mut self) -> Result<Delivery, TryRecvError> {
        if let Some(delivery) = self.pop() {
            return Ok(delivery);
        }
        if let Some(reason) = self.ended {
            return Err(TryRecvError::Ended(reason));
        }
        if let Some(signalled) = &mut self.pollable {
            signalled.clear();
            self.doorbell.announce_sleep();
            // Something may have come between the look and the announcement.
            if let Some(delivery) = self.pop() {
                self.doorbell.awake();
                return Ok(delivery);
            }
        }
        Err(TryRecvError::Empty)
    }

    /// The next delivery, waiting for it as long as it takes. After the end it is the end again.
    pub fn recv(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.recv_timeout(Duration::from_secs(3600)) {
                return delivery;
            }
        }
    }

    /// The next delivery, waiting for it at most this long.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Delivery> {
        let until = self.clock.instant() + timeout;
        loop {
            if let Some(delivery) = self.pop() {
                return Some(delivery);
            }
            if let Some(reason) = self.ended {
                return Some(Delivery::End(reason));
            }
            let left = until.since(self.clock.instant());
            if left.is_zero() {
                return None;
            }
            self.waker.expect(std::thread::current());
            self.doorbell.announce_sleep();
            if self.frames.is_empty() && !self.frames.is_closed() {
                std::thread::park_timeout(left);
            }
            self.doorbell.awake();
        }
    }

    /// Moves what is there to the end of `into`, at most `most`; how many.
    pub fn recv_batch(&mut self, into: &mut Vec<Delivery>, most: usize) -> usize {
        let before = into.len();
        while into.len() - before < most {
            let Some(delivery) = self.pop() else { break };
            into.push(delivery);
        }
        into.len() - before
    }

    /// A descriptor for the host's own event loop: it becomes readable when there is something to receive after
    /// [`Subscription::try_recv`] has said that there was nothing.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn pollable(&mut self) -> io::Result<BorrowedFd<'_>> {
        if self.pollable.is_none() {
            let (signal, signalled) = signal()?;
            self.waker.signal(signal);
            // Whoever polls before the first look finds it readable.
            self.waker.wake();
            self.pollable = Some(signalled);
        }
        self.pollable.as_ref().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Asks the publisher for a keyframe, if its protocol has a word for that; however many ask, it hears one wish each
    /// half second.
    pub fn want_keyframe(&self) {
        let _ = self.post.send(Command::WantKeyframe(self.key.clone()));
    }

    /// Frames that were left out so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The stream's name.
    #[must_use]
    pub const fn key(&self) -> &StreamKey {
        &self.key
    }

    /// What it is known as in records and to [`Router::kick`](super::Router::kick).
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.connection
    }

    fn pop(&mut self) -> Option<Delivery> {
        match self.frames.pop() {
            Some(Message::Frame(frame)) => Some(Delivery::Frame(frame.unpack(self.clock.instant()))),
            Some(Message::Control(note)) => Some(match *note {
                HostNote::Gap(frames) => Delivery::Gap(frames),
                HostNote::End(reason) => {
                    self.ended = Some(reason);
                    Delivery::End(reason)
                }
            }),
            None if self.ended.is_none() && self.frames.is_closed() => {
                // The shard failed: it has a last word otherwise.
                self.ended = Some(Reason::ShardLost);
                Some(Delivery::End(Reason::ShardLost))
            }
            None => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // A shard with too many commands finds the ring closed at its next frame.
            let _ = self.post.send(Command::Detach(self.connection));
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("key", &self.key).field("connection", &self.connection).finish()
    }
}

/// Wakes the thread that waits for a subscription, and its descriptor.
#[derive(Clone, Default)]
pub(super) struct HostWaker(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Touched only by who goes to sleep and who wakes it.
    thread: Mutex<Option<Thread>>,
    signal: OnceLock<Signal>,
}

impl HostWaker {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn expect(&self, thread: Thread) {
        *self.0.thread.lock() = Some(thread);
    }

    fn signal(&self, signal: Signal) {
        let _ = self.0.signal.set(signal);
    }
}

impl Wake for HostWaker {
    fn wake(&self) {
        if let Some(signal) = self.0.signal.get() {
            signal.raise();
        }
        if let Some(thread) = self.0.thread.lock().take() {
            thread.unpark();
        }
    }
}
