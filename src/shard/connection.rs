//! One connection: its socket, its session, and the bytes that could not be sent yet.
//!
//! Knows nothing of protocols; the session says what to send. What a delivery touches stands in front, the rest
//! behind one box, so that thousands of connections fit the cache.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::env::Env;
use super::group::Slices;
use super::seats::Seat;
use crate::clock::Instant;
use crate::fact::Who;
use crate::id::ConnectionId;
use crate::limits::SEND_BYTES_MAX;
use crate::protocol::{Session, StreamHandle};
use crate::reason::Reason;
use crate::stream::RateWindow;

pub(crate) struct Connection<S> {
    pub(crate) socket: S,
    /// Media may be sent at once: writable, nothing pending, not closing. `clear` implies `writable`.
    pub(crate) clear: bool,
    pub(crate) writable: bool,
    pub(crate) bytes_out: u64,
    /// Bytes that may wait in the socket; 0 if nobody has said.
    pub(crate) unsent: u32,
    /// Since when it does not take what it is offered; `FAR` while it does.
    pub(crate) blocked_since: Instant,
    pub(crate) cold: Box<Cold>,
}

pub(crate) struct Cold {
    pub(crate) id: ConnectionId,
    pub(crate) who: Who,
    pub(crate) peer: SocketAddr,
    pub(crate) session: Box<dyn Session>,
    pub(crate) protocol: usize,
    pub(crate) phase: Phase,
    pub(crate) opened: Instant,
    pub(crate) phase_since: Instant,
    /// Control replies and the rest of a message that was sent in part, in order.
    pub(crate) pending: VecDeque<Bytes>,
    pub(crate) pending_bytes: usize,
    /// Media among what was put there since it was empty: the rest of one message, and configuration.
    pub(crate) pending_media: usize,
    /// The rest of a timed frame is among what waits.
    pub(crate) rest: Option<Rest>,
    pub(crate) bytes_in: u64,
    pub(crate) drain: Drain,
    pub(crate) rate: RateWindow,
    pub(crate) plays: Vec<Play>,
    pub(crate) publishes: Vec<Publishing>,
    /// What the connection itself is counted as in each application where it publishes or plays.
    pub(crate) seats: Vec<(Box<str>, Option<Box<Seat>>)>,
    /// Requests that wait for an authenticator: nothing is read meanwhile.
    pub(crate) asking: u32,
    /// What others hold as well is among what waits: nothing is read until it is gone.
    pub(crate) sharing: bool,
    /// The read side may hold more: a budget or a pause stopped before `WouldBlock`.
    pub(crate) readable: bool,
    /// It is in the run queue of those.
    pub(crate) queued: bool,
    /// It is in the run queue of those whose socket takes more of what waits.
    pub(crate) flushing: bool,
    /// The peer ended its side: read on to the end whatever a read gives.
    pub(crate) read_over: bool,
    /// A send failed: the connection is gone, and nothing can be said on it.
    pub(crate) broken: bool,
    /// When its timer is armed; earlier deadlines arm another.
    pub(crate) timer_at: Instant,
    /// Bytes of memory that it is counted with.
    pub(crate) counted: u64,
    /// Bytes of replies that were put among what waits since that was empty: the rest of it is media, which is counted
    /// where it comes from.
    pub(crate) replies: usize,
    /// It is not read before there is memory again.
    pub(crate) starved: bool,
    /// It publishes too fast, and is not read before this time; `ZERO` where it does not.
    pub(crate) rests_until: Instant,
}

/// How fast a slow peer takes what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drain {
    since: Instant,
    bytes: u64,
    per_second: Option<u64>,
    /// The socket took no more at some time since the last look, and right at that look: what it took since then is
    /// what left it.
    was_full: bool,
    began_full: bool,
    /// That is another than it was when the socket was bounded.
    news: bool,
}

impl Drain {
    /// The socket has taken so many bytes, and may have room or not; `unsent` may wait in it.
    fn look(&mut self, now: Instant, bytes_out: u64, unsent: u32) {
        let passed = now.since(self.since);
        if passed < DRAIN_WINDOW {
            return;
        }
        if self.since > Instant::ZERO {
            let per_second = |bytes| pace(bytes, passed);
            let grown = bytes_out - self.bytes;
            let before = self.per_second;
            self.per_second = match (self.was_full, self.began_full) {
                (true, true) => Some(per_second(grown)),
                // A part of that only filled it: its peer is no faster.
                (true, false) => Some(per_second(grown).min(before.unwrap_or(u64::MAX))),
                // All of it may still wait there: only in the long run is it known what left it.
                (false, _) if before.is_some() && passed < DRAIN_WINDOW_EMPTY => return,
                (false, _) => before.map(|pace| {
                    let least = per_second(grown.saturating_sub(unsent.into()));
                    // It may be much faster than what there is for it: soon nothing is left of how slow it was.
                    if least >= pace / 2 { pace.saturating_mul(2).max(least) } else { pace }
                }),
            };
            self.news = self.per_second != before;
        }
        (self.since, self.bytes, self.was_full, self.began_full) = (now, bytes_out, false, false);
    }

    /// The socket took no more, and has room now: what left it is no more than all that it had been given.
    fn look_again(&mut self, now: Instant, bytes_out: u64, unsent: u32) {
        let passed = now.since(self.since);
        if passed < DRAIN_WINDOW || self.since == Instant::ZERO {
            return;
        }
        let most = pace(bytes_out - self.bytes + u64::from(unsent), passed);
        if self.per_second.is_none_or(|pace| most < pace) {
            self.per_second = Some(most);
            self.news = true;
        }
    }

    /// The socket takes no more.
    fn fill(&mut self, now: Instant) {
        self.was_full = true;
        self.began_full |= now == self.since;
    }

    fn bytes_in(&self, time: Duration) -> Option<u32> {
        let bytes = u128::from(self.per_second?) * time.as_millis() / 1_000;
        Some(u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    fn time_for(&self, bytes: u32) -> Duration {
        self.per_second.map_or(Duration::ZERO, |pace| Duration::from_millis(u64::from(bytes) * 1_000 / pace.max(1)))
    }
}

/// Bytes per second.
fn pace(bytes: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// Long enough for more than one wake of a peer that reads in bursts.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);
/// The same where a socket always has room: several times as long as what may wait in it lasts.
const DRAIN_WINDOW_EMPTY: Duration = Duration::from_secs(3);

/// A timed frame of which the socket took a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    /// Whose delivery it is.
    pub(crate) place: usize,
    pub(crate) seq: u64,
    pub(crate) origin: Instant,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The protocol's handshake.
    Handshake,
    /// Neither publishing nor playing.
    Idle,
    /// Publishing or playing.
    Busy,
    /// Its last bytes are on their way; then its sending side is ended.
    Closing(Reason),
    /// The sending side is ended; the peer's end is awaited.
    Finished(Reason),
}

/// A stream that this connection plays.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) handle: StreamHandle,
    /// The subscriber's place, see `shard/subscribers.rs`.
    pub(crate) place: usize,
    /// What it is counted as, given back with it.
    #[expect(dead_code, reason = "nobody looks into it")]
    pub(crate) seat: Option<Box<Seat>>,
}

/// A stream that this connection publishes.
#[derive(Debug)]
pub(crate) struct Publishing {
    pub(crate) handle: StreamHandle,
    pub(crate) stream: usize,
    /// What it is counted as, given back with it.
    #[expect(dead_code, reason = "nobody looks into it")]
    pub(crate) seat: Option<Box<Seat>>,
}

impl<S> Connection<S> {
    /// Whether something stands against reading it: a question that is asked for it, an answer that is not gone yet, or
    /// its pace.
    pub(crate) fn waits(&self) -> bool {
        self.cold.asking > 0 || self.cold.sharing || self.cold.rests_until > Instant::ZERO
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.cold.phase, Phase::Closing(_) | Phase::Finished(_))
    }

    /// Puts a reply at the end of what waits to be sent.
    pub(crate) fn push_reply(&mut self, bytes: Bytes) {
        self.cold.replies += bytes.len();
        self.push(bytes);
    }

    /// Puts bytes at the end of what waits to be sent.
    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.cold.pending_bytes += bytes.len();
            self.cold.pending.push_back(bytes);
            self.clear = false;
        }
    }

    /// The same for what no session has asked for.
    pub(crate) fn push_media(&mut self, bytes: Bytes) {
        self.cold.pending_media += bytes.len();
        self.push(bytes);
    }

    /// Sends of what waits as much as one turn allows. `Ok(true)` if nothing is left; if something is, and the socket
    /// takes more, it is to be called again.
    pub(crate) fn flush<E: Env<Socket = S>>(&mut self, env: &mut E, now: Instant) -> io::Result<bool> {
        if self.writable && !self.cold.pending.is_empty() {
            let mut slices = Slices::new(SEND_BYTES_MAX);
            for bytes in &self.cold.pending {
                if !slices.push(bytes) {
                    break;
                }
            }
            let total = slices.bytes;
            match env.send(&mut self.socket, slices.as_slice()) {
                Ok(sent) => {
                    self.consume_pending(sent);
                    self.took(now, sent);
                    if sent < total {
                        self.block(now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.block(now),
                Err(error) => return Err(error),
            }
        }
        let empty = self.cold.pending.is_empty();
        self.clear = empty && self.writable && !self.is_closing();
        Ok(empty)
    }

    /// `sent` bytes of what waits are gone; returns how many of them were beyond it.
    pub(crate) fn consume_pending(&mut self, mut sent: usize) -> usize {
        while let Some(first) = self.cold.pending.front_mut() {
            if sent < first.len() {
                if sent > 0 {
                    let _ = first.split_to(sent);
                    self.cold.pending_bytes -= sent;
                }
                return 0;
            }
            sent -= first.len();
            self.cold.pending_bytes -= first.len();
            self.cold.pending.pop_front();
        }
        self.cold.pending_media = 0;
        self.cold.replies = 0;
        // An idle player holds no buffer.
        self.cold.pending = VecDeque::new();
        sent
    }

    /// How old what is handed to the socket now will be when it leaves it, as far as is known: older by nothing for one
    /// who was never slow.
    pub(crate) fn dwell(&self) -> Duration {
        self.cold.drain.time_for(self.unsent)
    }

    /// What a slow peer takes in so long; none of one who was never slow.
    pub(crate) fn takes_in(&self, time: Duration) -> Option<u32> {
        self.cold.drain.bytes_in(time)
    }

    /// Looks at its pace before it is offered more, if it took nothing for a while.
    pub(crate) fn look_again(&mut self, now: Instant) {
        if self.blocked_since < Instant::FAR {
            self.cold.drain.look_again(now, self.bytes_out, self.unsent);
        }
    }

    /// Whether it takes what it is sent at another pace than it did when this was asked.
    pub(crate) const fn has_another_pace(&mut self) -> bool {
        std::mem::replace(&mut self.cold.drain.news, false)
    }

    /// The socket took bytes, of one who is behind or not all that it was offered.
    pub(crate) fn took(&mut self, now: Instant, sent: usize) {
        self.bytes_out += sent as u64;
        self.cold.drain.look(now, self.bytes_out, self.unsent);
        if sent > 0 {
            self.blocked_since = Instant::FAR;
        }
    }

    /// The socket has failed: nothing more is sent.
    pub(crate) fn fail(&mut self) {
        self.writable = false;
        self.clear = false;
        self.cold.broken = true;
    }

    /// The socket takes no more for now.
    pub(crate) fn block(&mut self, now: Instant) {
        self.writable = false;
        self.clear = false;
        self.cold.drain.fill(now);
        if self.blocked_since == Instant::FAR {
            self.blocked_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSENT: u32 = 100_000;

    #[test]
    fn what_waits_in_a_socket_is_as_old_as_its_peer_is_slow() {
        let mut drain = Drain::default();
        let at = |ms: u64| Instant(1_000_000_000 + ms * 1_000_000);
        for (ms, bytes) in [(0, 90_000), (300, 120_000), (600, 120_000)] {
            drain.look(at(ms), bytes, UNSENT);
            drain.fill(at(ms));
        }
        assert_eq!(drain.time_for(100_000), Duration::from_secs(2), "50 kB/s");
        assert_eq!(drain.bytes_in(Duration::from_millis(500)), Some(25_000));
        drain.look(at(2_600), 122_000, UNSENT);
        drain.fill(at(2_600));
        assert_eq!(drain.time_for(1_000), Duration::from_secs(1), "it had stopped");
        drain.look(at(3_200), 722_000, UNSENT);
        assert_eq!(drain.time_for(100_000), Duration::from_millis(100), "and goes on");

        // What fills an empty socket says nothing of who reads from it.
        drain.look(at(3_800), 812_000, UNSENT);
        drain.look(at(6_000), 822_000, UNSENT);
        assert_eq!(drain.time_for(100_000), Duration::from_millis(100));
        drain.look(at(6_200), 822_000, UNSENT);
        assert_eq!(drain.time_for(100_000), Duration::from_millis(100));
        // It filled at last: it is no faster than all that it took.
        drain.fill(at(6_400));
        drain.look(at(7_200), 872_000, UNSENT);
        assert_eq!(drain.time_for(50_000), Duration::from_secs(1));
        // It takes all that there is for a long time.
        drain.look(at(10_200), 1_572_000, UNSENT);
        assert_eq!(drain.time_for(200_000), Duration::from_secs(1), "600 kB in three seconds");
        assert_eq!(Drain::default().time_for(100_000), Duration::ZERO);
    }
}
