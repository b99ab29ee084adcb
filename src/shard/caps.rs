//! How fast a publisher may send, and what happens when it sends faster: it is told of, slowed down or closed.
//!
//! Slowed down is not read: its socket fills up, and TCP holds the sender back. Nothing is kept for it here but what
//! was read already.

use std::time::Duration;

use super::Shard;
use super::env::Env;
use super::local::PublisherRef;
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::fact::{Fact, FactKind};
use crate::id::ConnectionId;
use crate::limits::Limit;
use crate::media::{Frame, FrameKind};
use crate::reason::Reason;
use crate::stream::{Bucket, Excess, PublisherCaps};

/// What one publisher has sent of late.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    bits: Bucket,
    pictures: Bucket,
    told: Option<Instant>,
    /// Frames that were too much since that was told.
    excess: u64,
}

impl Spent {
    /// Counts a frame. If it is too much: which cap it is over, and after how long it would not be.
    fn spend(&mut self, now: Instant, frame: &Frame, caps: &PublisherCaps) -> Option<(Limit, Duration)> {
        let bits = caps.bitrate.and_then(|most| {
            let wait = self.bits.spend(now, frame.payload.len() as u64 * 8, most).err()?;
            Some((Limit::PublisherBitrate, wait))
        });
        let is_picture = frame.is_video() && frame.kind != FrameKind::Config;
        let pictures = caps.frame_rate.filter(|_| is_picture).and_then(|most| {
            let wait = self.pictures.spend(now, 1, most).err()?;
            Some((Limit::PublisherFrameRate, wait))
        });
        let over = [bits, pictures].into_iter().flatten().max_by_key(|(_, wait)| *wait);
        if over.is_some() && caps.excess == Excess::Warn {
            self.bits.forgive(caps.bitrate.unwrap_or(0));
            self.pictures.forgive(caps.frame_rate.unwrap_or(0));
        }
        over
    }

    /// How many frames were too much since that was told last, if it is time to tell it again.
    fn take_untold(&mut self, now: Instant) -> Option<u64> {
        self.excess += 1;
        if self.told.is_some_and(|told| now.since(told) < TOLD_APART) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.excess))
    }
}

impl<E: Env> Shard<E> {
    /// Holds a publisher's frame against the caps of its application, also if it only stands by.
    pub(super) fn hold_to_caps(
        &mut self,
        index: usize,
        publisher: PublisherRef,
        frame: &Frame,
        now: Now,
    ) -> Result<(), Reason> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        let caps = stream.spec.publisher;
        let (spent, who) = match stream.home_of(publisher) {
            Some(home) => (&mut home.spent, &home.who),
            None => match stream.standby_mut(publisher) {
                Some(standby) => (&mut standby.spent, &standby.who),
                None => return Ok(()),
            },
        };
        let Some((limit, wait)) = spent.spend(now.mono, frame, &caps) else { return Ok(()) };
        let reason = Reason::Limit(limit);
        self.counters.frames_over_rate += 1;
        if let Some(count) = spent.take_untold(now.mono) {
            let fact = Fact::new(FactKind::RateLimit, now, self.id).who(who).reason(reason).count(count);
            let fact = fact.stream(&stream.key);
            self.tell(fact);
        }
        match caps.excess {
            Excess::Warn => Ok(()),
            Excess::Close => Err(reason),
            Excess::Throttle => {
                // What is owed beyond that is waited for after the next frame: a wait is no silence.
                self.rest(publisher, wait.min(self.config.limits.publisher_idle / 2), now);
                Ok(())
            }
        }
    }

    /// Takes nothing of a publisher for so long.
    fn rest(&mut self, publisher: PublisherRef, wait: Duration, now: Now) {
        let (at, due) = match publisher {
            PublisherRef::Connection { slot, .. } => {
                let Some(connection) = self.connections.get_mut(slot) else { return };
                let until = connection.cold.rests_until.max(now.mono + wait);
                if std::mem::replace(&mut connection.cold.rests_until, until) > now.mono {
                    return;
                }
                (until, Due::Rested(slot, connection.cold.id))
            }
            PublisherRef::Port(port) => {
                let Some(port_now) = self.ports.get_mut(port) else { return };
                port_now.rests_until = now.mono + wait;
                (port_now.rests_until, Due::Source(port))
            }
        };
        self.timers.arm(at, due);
    }

    /// The same for a publisher without a connection.
    pub(super) fn port_rested(&mut self, port: usize, now: Now) {
        if let Some(port) = self.ports.get_mut(port).filter(|port| port.rests_until <= now.mono) {
            port.rests_until = Instant::ZERO;
        }
    }

    /// A publisher that was slowed down is read again, unless more has come of it since.
    pub(super) fn rested(&mut self, slot: usize, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(slot).filter(|connection| connection.cold.id == id) else {
            return;
        };
        let until = connection.cold.rests_until;
        if until > now.mono {
            self.timers.arm(until, Due::Rested(slot, id));
            return;
        }
        connection.cold.rests_until = Instant::ZERO;
        self.resume_read(slot);
    }
}

/// Time between two records of one publisher.
const TOLD_APART: Duration = Duration::from_secs(10);
