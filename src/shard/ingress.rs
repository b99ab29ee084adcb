//! Sockets → sessions.
//!
//! mio is edge-triggered: whoever stops before `WouldBlock` (a budget, a pause, descriptors that ran out) is put on
//! the shard's own run queue, or it would never be heard of again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Shard;
use super::connection::{Cold, Connection, Drain, Phase};
use super::env::Env;
use super::inspect::Counters;
use super::memory::{Pins, READ_ROOM};
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::fact::{Fact, FactKind, Who};
use crate::limits::{
    ACCEPTS_PER_TURN, ADDRESSES_MAX, ARENA_BYTES, CALL_PRICE_BYTES, CONNECTION_BYTES, INGRESS_BYTES_PER_TURN, Limit,
    READ_BYTES_MIN, READ_BYTES_PER_TURN,
};
use crate::net::{Accepted, Source};
use crate::protocol::{Input, SessionContext};
use crate::reason::Reason;
use crate::stream::RateWindow;

/// What sockets are read into. Payloads are cut out of it and shared; what is kept of it keeps it whole.
#[derive(Debug)]
pub(super) struct Arena(BytesMut);

impl Arena {
    pub(super) const fn new(bytes: BytesMut) -> Self {
        Self(bytes)
    }

    /// Room for the next read. A new arena is counted with `pins`.
    fn room(&mut self, pins: &mut Pins) -> &mut [u8] {
        if self.0.len() < READ_BYTES_MIN {
            self.0 = BytesMut::zeroed(ARENA_BYTES);
            pins.add(self.0.split_to(1).freeze(), ARENA_BYTES);
        }
        &mut self.0
    }

    /// The first `len` bytes of the room, now owned by whoever needs them.
    fn take(&mut self, len: usize) -> Bytes {
        self.0.split_to(len).freeze()
    }
}

impl<E: Env> Shard<E> {
    pub(super) fn ingress(&mut self, now: Now) -> usize {
        let mut ready = std::mem::take(&mut self.ready);
        let mut work = ready.len();
        for event in ready.drain(..) {
            match event.source {
                Source::Listener(listener) => self.accepting.push_back(listener),
                Source::Connection(slot) => {
                    let Some(connection) = self.connections.get_mut(slot) else { continue };
                    if event.writable && !connection.writable {
                        connection.writable = true;
                        self.on_writable(slot, now);
                    }
                    if event.readable {
                        self.queue_read(slot, event.over);
                    }
                }
            }
        }
        self.ready = ready;
        for _ in 0..self.accepting.len() {
            let Some(listener) = self.accepting.pop_front() else { break };
            work += 1;
            self.accept(listener, now);
        }
        let start = self.spent();
        for _ in 0..self.readable.len() {
            if self.spent() - start >= INGRESS_BYTES_PER_TURN {
                break;
            }
            let Some(slot) = self.readable.pop_front() else { break };
            work += 1;
            self.read(slot, now);
            self.run_tasks(now);
        }
        self.run_tasks(now);
        work
    }

    /// What the sockets have cost so far: bytes, and what a call costs beside them.
    pub(super) const fn spent(&self) -> u64 {
        let Counters { bytes_in, bytes_out, receives, sends, .. } = &self.counters;
        *bytes_in + *bytes_out + (*receives + *sends) * CALL_PRICE_BYTES as u64
    }

    fn queue_read(&mut self, slot: usize, over: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.cold.readable = true;
        connection.cold.read_over |= over;
        self.resume_read(slot);
    }

    /// Puts a connection that may have more to read on the run queue, unless it is paused.
    pub(super) fn resume_read(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let waits = connection.waits();
        let cold = &mut connection.cold;
        if cold.readable && !cold.queued && (!waits || cold.broken) {
            cold.queued = true;
            self.readable.push_back(slot);
        }
    }

    /// Reads one connection up to its budget.
    fn read(&mut self, slot: usize, now: Now) {
        let mut budget = READ_BYTES_PER_TURN;
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.cold.queued = false;
        }
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return };
            if connection.cold.broken {
                return self.lose(slot, Reason::Reset, now);
            }
            if connection.waits() {
                return;
            }
            if self.memory.is_capped() {
                let cold = &connection.cold;
                let need = READ_ROOM + (2 * CONNECTION_BYTES + cold.replies + cold.session.growth_bytes()) as u64;
                if !self.memory.has_room(need) {
                    return self.starve(slot, need, now);
                }
            }
            let Some(connection) = self.connections.get_mut(slot) else { return };
            let room = self.arena.room(&mut self.memory.pins);
            let most = room.len().min(budget);
            self.counters.receives += 1;
            match self.env.recv(&mut connection.socket, &mut room[..most]) {
                Ok(0) => {
                    self.lose(slot, Reason::PeerClosed, now);
                    return;
                }
                Ok(len) => {
                    let bytes = self.arena.take(len);
                    self.counters.bytes_in += len as u64;
                    connection.cold.bytes_in += len as u64;
                    if !self.within_byte_rate(slot, len, now) {
                        return;
                    }
                    self.feed(slot, Input::Bytes(bytes), now);
                    let Some(connection) = self.connections.get_mut(slot) else { return };
                    if len < most && !connection.cold.read_over {
                        // A short read has emptied the socket: the next bytes raise an edge of their own.
                        connection.cold.readable = false;
                        return;
                    }
                    budget = budget.saturating_sub(len);
                    if budget == 0 {
                        self.resume_read(slot);
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.cold.readable = false;
                    return;
                }
                Err(_) => {
                    self.lose(slot, Reason::Reset, now);
                    return;
                }
            }
        }
    }

    fn within_byte_rate(&mut self, slot: usize, len: usize, now: Now) -> bool {
        let Some(limit) = self.config.limits.bytes_per_second else { return true };
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.cold.rate.add(now.mono, len as u64) <= limit {
            return true;
        }
        let reason = Reason::Limit(Limit::ByteRate);
        let fact = Fact::new(FactKind::RateLimit, now, self.id).who(&connection.cold.who).reason(reason);
        self.tell(fact);
        self.close(slot, reason, now);
        false
    }

    fn accept(&mut self, listener: usize, now: Now) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.env.accept(listener) {
                Accepted::Connection(socket, peer) => self.welcome(listener, socket, peer, now),
                Accepted::Refused => self.refuse(Reason::Limit(Limit::Descriptors)),
                Accepted::Exhausted => {
                    // No event will come for those who wait. One timer looks at all listeners: one for each would
                    // be as many again at every look.
                    if !std::mem::replace(&mut self.accepts_again, true) {
                        self.timers.arm(now.mono + ACCEPT_AGAIN, Due::Accept);
                    }
                    return;
                }
                Accepted::Empty => return,
                Accepted::Failed(_) => self.counters.refused += 1,
            }
        }
        self.accepting.push_back(listener);
    }

    fn welcome(&mut self, listener: usize, mut socket: E::Socket, peer: SocketAddr, now: Now) {
        let shards = u64::try_from(self.shared.shards.len().max(1)).unwrap_or(1);
        let allowed = u64::from(self.config.limits.accepts_per_second).div_ceil(shards);
        if self.shared.gauges.draining.load(Ordering::Relaxed) {
            return self.refuse(Reason::Shutdown);
        }
        if self.accept_rate.add(now.mono, 1) > allowed {
            return self.refuse(Reason::Limit(Limit::AcceptRate));
        }
        if !self.may_knock(peer.ip()) {
            return self.refuse(Reason::Limit(Limit::AcceptRatePerAddress));
        }
        if self.memory.refuses() {
            return self.refuse(Reason::Limit(Limit::Memory));
        }
        if let Err(limit) = self.shared.gauges.enter(peer.ip(), &self.config.limits) {
            return self.refuse(Reason::Limit(limit));
        }
        let protocol_index = self.shared.listeners.get(listener).copied().unwrap_or(0);
        let protocol = &self.shared.protocols[protocol_index];
        let random = [self.env.random(), self.env.random(), self.env.random(), self.env.random()];
        let context = SessionContext { peer, limits: &self.config.limits, now, random };
        let session = protocol.session(context);
        let who = Who {
            connection: self.new_connection_id(),
            peer: Some(peer),
            protocol: self.shared.protocols[protocol_index].name(),
            principal: None,
        };
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        if self.env.register(&mut socket, slot).is_err() {
            self.shared.gauges.leave(peer.ip());
            return self.refuse(Reason::Limit(Limit::Descriptors));
        }
        let id = who.connection;
        entry.insert(Connection {
            socket,
            clear: true,
            writable: true,
            bytes_out: 0,
            unsent: 0,
            blocked_since: Instant::FAR,
            cold: Box::new(Cold {
                id,
                who: who.clone(),
                peer,
                session,
                protocol: protocol_index,
                phase: Phase::Handshake,
                opened: now.mono,
                phase_since: now.mono,
                pending: std::collections::VecDeque::new(),
                pending_bytes: 0,
                pending_media: 0,
                rest: None,
                bytes_in: 0,
                drain: Drain::default(),
                rate: RateWindow::default(),
                plays: Vec::new(),
                publishes: Vec::new(),
                asking: 0,
                sharing: false,
                readable: false,
                queued: false,
                flushing: false,
                read_over: false,
                broken: false,
                timer_at: Instant::FAR,
                counted: 0,
                replies: 0,
                starved: false,
                rests_until: Instant::ZERO,
                seats: Vec::new(),
            }),
        });
        self.recount_connection(slot);
        self.counters.accepted += 1;
        self.tell(Fact::new(FactKind::ConnectionOpen, now, self.id).who(&who));
        self.arm_connection(slot, now);
        // A server that speaks first may have something to say; bytes may be there before the edge is watched.
        self.queue_read(slot, false);
    }

    /// Whether one more connection of this address is within its rate. Connections of one address come to all shards
    /// alike, so each allows its share.
    fn may_knock(&mut self, address: IpAddr) -> bool {
        let Some(most) = self.config.limits.accepts_per_second_per_address else { return true };
        let shards = u32::try_from(self.shared.shards.len().max(1)).unwrap_or(u32::MAX);
        let network = match address {
            IpAddr::V6(six) if six.to_ipv4_mapped().is_none() => {
                IpAddr::from((u128::from(six) & NETWORK_OF_SIX).to_be_bytes())
            }
            other => other,
        };
        if self.knocks.len() >= ADDRESSES_MAX && !self.knocks.contains_key(&network) {
            return true;
        }
        let knocks = self.knocks.entry(network).or_default();
        *knocks += 1;
        *knocks <= most.div_ceil(shards)
    }

    /// Counts a connection that is closed before it has a session; who was refused is told once per second.
    fn refuse(&mut self, reason: Reason) {
        self.counters.refused += 1;
        match self.refusals.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.refusals.push((reason, 1)),
        }
    }
}

/// The /64 of an IPv6 address: whoever has one of its addresses has all of them.
const NETWORK_OF_SIX: u128 = u128::MAX << 64;
/// How long listeners that ran out of descriptors rest.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
