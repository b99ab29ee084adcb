//! What the peers have in common: frames go in at one end, each subscriber has one of the others.
//!
//! Each is used in the ways that its documentation names, and in the cheapest one that it allows:
//! a task for each subscriber that awaits its next frame, or one thread that asks all of them in turn.

mod arcly;
mod broadcast;
mod channels;

use std::future::Future;
use std::sync::Arc;

pub(crate) use arcly::{Arcly, Sink, engine, publish};
pub(crate) use broadcast::Broadcast;
pub(crate) use channels::Channels;
use shardcast::clock::Instant;

use crate::check::Packet;

/// Frames that may wait for a subscriber, in every peer that has such a bound. shardcast's rings have 256.
pub(crate) const ROOM: usize = 1024;

/// A frame as a peer delivers it.
pub(crate) trait Item: Send + Sync + 'static {
    fn number(&self) -> u64;
    fn is_key(&self) -> bool;
    fn sent(&self) -> Instant;
    fn payload(&self) -> &[u8];
}

/// One live stream of a peer, publisher's end.
pub(crate) trait Bus: Sized + Send + 'static {
    const NAME: &'static str;
    type Item: Item;
    type Polled: Polled<Item = Self::Item>;

    fn open() -> Self;

    /// Hands a frame to all subscribers; waits for none of them.
    fn publish(&mut self, packet: Packet);

    /// Where subscribers that are asked come in, from any thread.
    fn door(&self) -> impl Fn() -> Self::Polled + Send + 'static;

    /// A subscriber that is asked.
    fn polled(&self) -> Self::Polled {
        self.door()()
    }
}

/// A subscriber that is asked.
pub(crate) trait Polled: Send + 'static {
    type Item: Item;

    /// The next frame, if it is there.
    fn poll(&mut self) -> Option<Arc<Self::Item>>;
}

/// A peer whose subscribers can await their frames.
pub(crate) trait AwaitedBus: Bus {
    type Awaited: Awaited<Item = Self::Item>;

    /// A subscriber that waits.
    fn awaited(&self) -> Self::Awaited;

    /// Ends the stream for all of them.
    fn end(&mut self);
}

/// A subscriber that waits in a task.
pub(crate) trait Awaited: Send + 'static {
    type Item: Item;

    /// The next frame; none after the end.
    fn next(&mut self) -> impl Future<Output = Option<Arc<Self::Item>>> + Send;
}

impl Item for Packet {
    #[inline]
    fn number(&self) -> u64 {
        self.number
    }

    fn is_key(&self) -> bool {
        self.key
    }

    fn sent(&self) -> Instant {
        self.sent
    }

    #[inline]
    fn payload(&self) -> &[u8] {
        &self.payload
    }
}
