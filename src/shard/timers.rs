//! Deadlines of one shard: a heap of at most a few entries per connection and stream, re-armed lazily.
//!
//! A deadline that moved is found out when its entry fires; so activity arms nothing, and ten thousand idle
//! connections cost one entry each and no scan.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Instant;
use crate::id::ConnectionId;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A connection's deadline; the id tells whether the slot still has the same one.
    Connection(usize, ConnectionId),
    /// A publisher that was too fast is read again; the id tells the same.
    Rested(usize, ConnectionId),
    /// A stream's flush, grace, wait or drain; the number tells whether the slot still has the same one.
    Stream(usize, u64),
    /// A stream that may have several publishers: whether they send.
    Watch(usize, u64),
    /// An authenticator did not answer.
    Auth(u64),
    /// Somebody waits until it is on record that it may start.
    Settle,
    /// Listeners that ran out of descriptors look again.
    Accept,
    /// A source of the host has its next frame.
    Source(usize),
    /// Memory was short: is there some now?
    Memory,
    /// The drain's deadline.
    Drain,
    /// Once per second: what is only worth a look now and then.
    Second,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Due)>>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Instant, due: Due) {
        self.heap.push(Reverse((at, due)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, due))| due)
    }
}
