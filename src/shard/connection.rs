//! One connection: its socket, its session, and the bytes that could not be sent yet.
//!
//! Knows nothing of protocols; the session says what to send. What a delivery touches stands in front, the rest
//! behind one box, so that thousands of connections fit the cache.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;

use super::env::Env;
use super::group::Slices;
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
    pub(crate) rate: RateWindow,
    pub(crate) plays: Vec<Play>,
    pub(crate) publishes: Vec<Publishing>,
    /// Requests that wait for an authenticator: nothing is read meanwhile.
    pub(crate) asking: u32,
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
}

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play {
    pub(crate) handle: StreamHandle,
    /// The subscriber's place, see `shard/subscribers.rs`.
    pub(crate) place: usize,
}

/// A stream that this connection publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publishing {
    pub(crate) handle: StreamHandle,
    pub(crate) stream: usize,
}

impl<S> Connection<S> {
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.cold.phase, Phase::Closing(_) | Phase::Finished(_))
    }

    /// Puts bytes at the end of what waits to be sent.
    pub(crate) fn push(&mut self, bytes: Bytes) {
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
        // An idle player holds no buffer.
        self.cold.pending = VecDeque::new();
        sent
    }

    /// The socket took bytes.
    pub(crate) fn took(&mut self, _now: Instant, sent: usize) {
        self.bytes_out += sent as u64;
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
        if self.blocked_since == Instant::FAR {
            self.blocked_since = now;
        }
    }
}
