//! A publisher of the host: frames go to its shard through a ring, from any one thread.

use std::fmt;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::clock::{Clock, Instant};
use crate::extension::Credentials;
use crate::id::{ConnectionId, ShardId, StreamKey};
use crate::limits::HOST_RING_SLOTS;
use crate::media::Frame;
use crate::reason::Reason;
use crate::ring::{Doorbell, Producer, PushError};
use crate::shard::{Message, PackedFrame, PublisherEvent};

/// How to publish from this process.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// What to show to the authenticator; `None` if the host vouches for itself.
    pub credentials: Option<Credentials>,
    /// Which shard is the stream's home; `None` for the router's choice.
    pub shard: Option<ShardId>,
    /// Frames that may wait for the shard.
    pub ring_slots: usize,
    /// It is a backup, also if it comes first: see [`Conflict::Backup`](crate::stream::Conflict::Backup).
    pub backup: bool,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self { credentials: None, shard: None, ring_slots: HOST_RING_SLOTS, backup: false }
    }
}

/// Publishes one stream. Dropping it ends the stream.
pub struct Publisher {
    key: StreamKey,
    connection: ConnectionId,
    frames: Producer<Message<Reason>>,
    doorbell: Doorbell,
    events: Receiver<PublisherEvent>,
    clock: Clock,
    ended: Option<Reason>,
}

/// Why a frame was not taken. It comes back: nothing is dropped behind the caller's back.
#[derive(Debug)]
pub enum SendError {
    /// The shard has not caught up: try again, or drop what the codec can do without.
    Full(Frame),
    /// The publish is over.
    Ended(Frame, Reason),
}

impl Publisher {
    pub(super) const fn new(
        key: StreamKey,
        connection: ConnectionId,
        frames: Producer<Message<Reason>>,
        doorbell: Doorbell,
        events: Receiver<PublisherEvent>,
        clock: Clock,
    ) -> Self {
        Self { key, connection, frames, doorbell, events, clock, ended: None }
    }

    /// Sends a frame; its origin is now, unless it has one.
    ///
    /// # Errors
    /// [`SendError::Full`] is back-pressure as a value; [`SendError::Ended`] says why nothing is taken any more.
    pub fn send(&mut self, frame: Frame) -> Result<(), SendError> {
        self.push(frame)?;
        self.doorbell.ring();
        Ok(())
    }

    /// Sends frames until one does not fit, and wakes the shard once; how many were taken.
    ///
    /// # Errors
    /// Only if the publish is over and none was taken.
    pub fn send_all(&mut self, frames: &mut impl Iterator<Item = Frame>) -> Result<usize, SendError> {
        let mut taken = 0;
        while self.frames.free() > 0 {
            let Some(frame) = frames.next() else { break };
            match self.push(frame) {
                Ok(()) => taken += 1,
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if taken > 0 {
            self.doorbell.ring();
        }
        Ok(taken)
    }

    /// How many frames can be sent now.
    pub fn free(&mut self) -> usize {
        self.frames.free()
    }

    /// What the router wants of this publisher, if anything: a keyframe, or that it ends.
    pub fn event(&mut self) -> Option<PublisherEvent> {
        self.events.try_recv().ok().inspect(|event| self.note(*event))
    }

    /// The same, waiting for it at most this long.
    pub fn event_timeout(&mut self, timeout: Duration) -> Option<PublisherEvent> {
        self.events.recv_timeout(timeout).ok().inspect(|event| self.note(*event))
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

    /// Ends the stream after the frames that were sent.
    pub fn end(mut self) {
        // If the ring is full its closing says the same.
        let _ = self.frames.push(Message::Control(Box::new(Reason::Ended)));
    }

    fn push(&mut self, mut frame: Frame) -> Result<(), SendError> {
        if self.frames.is_closed() {
            return Err(SendError::Ended(frame, self.why()));
        }
        if self.frames.free() == 0 {
            self.doorbell.ring();
            return Err(SendError::Full(frame));
        }
        if frame.origin == Instant::ZERO {
            frame.origin = self.clock.instant();
        }
        match self.frames.push(Message::Frame(PackedFrame::pack(&frame, 0))) {
            Ok(()) => Ok(()),
            Err(PushError::Full(_)) => Err(SendError::Full(frame)),
            Err(PushError::Closed(_)) => Err(SendError::Ended(frame, self.why())),
        }
    }

    fn why(&mut self) -> Reason {
        while self.event().is_some() {}
        self.ended.unwrap_or(Reason::ShardLost)
    }

    const fn note(&mut self, event: PublisherEvent) {
        if let PublisherEvent::Ended(reason) = event {
            self.ended = Some(reason);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // The shard finds the ring closed; it must be awake for that.
        let (closed, _) = crate::ring::ring(2);
        drop(std::mem::replace(&mut self.frames, closed));
        self.doorbell.ring();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("key", &self.key).field("connection", &self.connection).finish()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the shard has not caught up with this publisher"),
            Self::Ended(_, reason) => write!(f, "the publish is over: {reason}"),
        }
    }
}

impl std::error::Error for SendError {}
