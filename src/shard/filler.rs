//! What players see while nobody publishes: a publisher of the router's own, which makes room for any other.

use super::Shard;
use super::env::Env;
use super::host::{Feed, Port};
use super::local::PublisherRef;
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::extension::{FrameSource, SourcePoll};
use crate::fact::Who;
use crate::id::StreamKey;
use crate::media::Frame;
use crate::stream::Filler;
use std::time::Duration;

/// Repeats a filler in real time, until the grace is over.
struct Loop {
    filler: Filler,
    at: u64,
    began: Instant,
    until: Instant,
    next: Option<(Frame, Instant)>,
}

impl FrameSource for Loop {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        if now.mono >= self.until {
            return SourcePoll::End;
        }
        let (frame, due) = self.next.take().unwrap_or_else(|| {
            let (frame, due) = self.filler.frame(self.at);
            self.at += 1;
            (frame, self.began + Duration::from_nanos(due.0.max(0).cast_unsigned()))
        });
        if due <= now.mono {
            return SourcePoll::Frame(frame);
        }
        self.next = Some((frame, due));
        SourcePoll::NotBefore(due.min(self.until))
    }
}

impl<E: Env> Shard<E> {
    /// Fills the time until somebody publishes, if there is something to fill it with and somebody who waits.
    pub(super) fn fill(&mut self, key: &StreamKey, filler: &Filler, grace: Duration, now: Now) {
        if self.draining.is_some() || !self.shared.directory.is_awaited(key) {
            return;
        }
        let until = now.mono + grace;
        let source = Loop { filler: filler.clone(), at: 0, began: now.mono, until, next: None };
        let feed = Feed::Source { source: Box::new(source), not_before: now.mono };
        let port = self.ports.insert(Port { stream: None, feed, held: None, rests_until: Instant::ZERO });
        let connection = self.new_connection_id();
        let who = Who { connection, peer: None, protocol: FILLER, principal: None };
        // Whoever was faster has it.
        match self.start_publish(key, PublisherRef::Port(port), who, false, now) {
            Ok(stream) => {
                self.ports[port].stream = Some(stream);
                self.timers.arm(now.mono, Due::Source(port));
            }
            Err(reason) => self.close_port(port, reason),
        }
    }
}

/// The protocol of a filler in records.
pub(super) const FILLER: &str = "filler";
