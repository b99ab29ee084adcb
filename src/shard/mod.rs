//! One core: a loop that owns its connections, its streams and its timers, and talks to its peers through rings.
//!
//! Nothing of a shard is shared; another thread sends it a message. [`Shard::turn`] is the table of contents. The
//! same turn runs on its core ([`Shard::run`]) or step by step under a test's hand ([`Shard::step`]).

mod caps;
mod commands;
mod connection;
mod egress;
mod env;
mod filler;
mod group;
mod host;
mod ingress;
mod inspect;
mod local;
mod mailbox;
mod memory;
mod mesh;
mod message;
mod meter;
mod pace;
mod publish;
mod routing;
mod seats;
mod sessions;
mod settle;
mod shared;
mod shed;
mod standby;
mod subscribe;
mod timers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use crossbeam_channel::Receiver;
use hashbrown::HashMap;
use hdrhistogram::Histogram;
use slab::Slab;

pub use env::{Env, SystemEnv};
pub use host::{HostPublish, HostSubscribe, PublisherEvent};
pub use inspect::{Audience, Counters, ShardStats, StreamInfo, StreamPart, SurveyPage};
pub use mesh::{Link, Mesh, mesh, mesh_with};
pub use message::{Attach, Command, Control, HostNote, KickTarget, Message, PackedFrame, PeerMessage, RunSource};
pub use meter::StageHistograms;
pub use seats::Seats;
pub use shared::{Beat, Config, EventHub, Events, Gauges, LossPolicy, OnLoss, Post, Shared};

use crate::audit::AuditProducer;
use crate::clock::{Instant, Now};
use crate::fact::{Fact, FactKind, Who};
use crate::id::{ConnectionId, ShardId, StreamKey};
use crate::net::Ready;
use crate::protocol::Output;
use crate::reason::Reason;
use crate::ring::Doorbell;
use crate::stream::RateWindow;
use connection::Connection;
use group::Place;
use host::{HostEnd, Port};
use ingress::Arena;
use local::LocalStream;
use memory::Memory;
use sessions::{Asked, AskedBy, Task};
use timers::{Due, Timers};

/// How a shard waits when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Sleeps at once: costs nothing when idle; a wake takes tens of microseconds.
    #[default]
    Park,
    /// Looks for this long before it sleeps.
    SpinThenPark(Duration),
    /// Never sleeps: the lowest latency, for a whole core.
    Spin,
}

/// One core of a router.
pub struct Shard<E: Env> {
    id: ShardId,
    env: E,
    idle: Idle,
    doorbell: Doorbell,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    config: Arc<Config>,
    audit: AuditProducer,
    mesh: Mesh,

    connections: Slab<Connection<E::Socket>>,
    streams: Slab<LocalStream>,
    by_key: std::collections::HashMap<StreamKey, usize>,
    /// Where each subscriber's record stands.
    places: Slab<Place>,
    /// The far ends of the host's subscriptions.
    hosts: Slab<HostEnd>,
    /// Publishers without a connection.
    ports: Slab<Port>,
    /// Requests that wait for an authenticator, by ticket.
    asked: HashMap<u64, Asked>,
    unsettled: settle::Unsettled,
    timers: Timers,
    arena: Arena,
    memory: Memory,
    counters: Counters,
    turn_ns: Histogram<u64>,
    stages: StageHistograms,

    /// Connections that may have more to read than their budget allowed.
    readable: VecDeque<usize>,
    /// Listeners that may have more to accept.
    accepting: VecDeque<usize>,
    /// Streams with frames to flush.
    dirty: VecDeque<usize>,
    /// Subscribers to be served from their own place.
    behind: VecDeque<usize>,
    /// The same, whose ring was full.
    retry: Vec<usize>,
    /// Connections whose socket takes more of what waits.
    flushing: VecDeque<usize>,
    /// Host subscriptions whose doorbell is to be rung at the end of the turn.
    touched: Vec<usize>,
    /// Subscribers that are over.
    gone: Vec<(usize, Reason)>,
    /// Skips to be told.
    skips: Vec<Skip>,
    /// What sessions are to be told, in order.
    tasks: VecDeque<Task>,
    ready: Vec<Ready>,
    /// When sockets were looked at last.
    looked_at: Instant,
    outputs: Vec<Output>,

    next_connection: u64,
    next_ticket: u64,
    next_uid: u64,
    /// A timer is armed for listeners that ran out of descriptors.
    accepts_again: bool,
    accept_rate: RateWindow,
    /// Connections of the running second, by address or network.
    knocks: std::collections::HashMap<IpAddr, u32>,
    /// Connections refused since that was told last, by reason.
    refusals: Vec<(Reason, u64)>,
    refused: settle::Refused,
    draining: Option<Instant>,
    /// Someone in this turn asked for a failure.
    fail: bool,
}

/// A subscriber skipped frames.
#[derive(Clone, Copy, Debug)]
struct Skip {
    place: usize,
    frames: u64,
}

/// What a shard is made of.
pub struct Parts<E: Env> {
    /// Its number.
    pub id: ShardId,
    /// Its world.
    pub env: E,
    /// How it waits.
    pub idle: Idle,
    /// What wakes it.
    pub doorbell: Doorbell,
    /// What other threads want of it.
    pub commands: Receiver<Command>,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// Bounds and applications.
    pub config: Arc<Config>,
    /// Its producer of audit records.
    pub audit: AuditProducer,
    /// Its rings.
    pub mesh: Mesh,
    /// Connections numbered so far: a restarted shard goes on.
    pub next_connection: u64,
}

impl<E: Env> Shard<E> {
    /// An idle shard.
    #[must_use]
    pub fn new(mut parts: Parts<E>) -> Self {
        // Answers to the shard that failed before this one must not be taken for answers to this one.
        let next_ticket = parts.env.random();
        let listeners = parts.shared.listeners.len();
        let (limits, shards) = (&parts.config.limits, parts.shared.shards.len());
        let memory = Memory::new(limits.memory, shards, limits.structure_bytes(shards));
        let mut shard = Self {
            id: parts.id,
            env: parts.env,
            idle: parts.idle,
            doorbell: parts.doorbell,
            commands: parts.commands,
            shared: parts.shared,
            config: parts.config,
            audit: parts.audit,
            mesh: parts.mesh,
            connections: Slab::new(),
            streams: Slab::new(),
            by_key: std::collections::HashMap::new(),
            places: Slab::new(),
            hosts: Slab::new(),
            ports: Slab::new(),
            asked: HashMap::new(),
            unsettled: settle::Unsettled::default(),
            timers: Timers::default(),
            arena: Arena::new(BytesMut::new()),
            memory,
            counters: Counters::default(),
            turn_ns: Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("valid bounds and precision"),
            stages: StageHistograms::empty(),
            readable: VecDeque::new(),
            // Whoever knocked before a restart raised its edge then.
            accepting: (0..listeners).collect(),
            dirty: VecDeque::new(),
            behind: VecDeque::new(),
            retry: Vec::new(),
            flushing: VecDeque::new(),
            touched: Vec::new(),
            gone: Vec::new(),
            skips: Vec::new(),
            tasks: VecDeque::new(),
            ready: Vec::new(),
            looked_at: Instant::ZERO,
            outputs: Vec::new(),
            next_connection: parts.next_connection,
            next_ticket,
            next_uid: 0,
            accepts_again: false,
            accept_rate: RateWindow::default(),
            knocks: std::collections::HashMap::new(),
            refusals: Vec::new(),
            refused: settle::Refused::default(),
            draining: None,
            fail: false,
        };
        let now = shard.env.now();
        shard.timers.arm(now.mono + SECOND, Due::Second);
        shard
    }

    /// Turns until it is drained.
    pub fn run(&mut self) {
        let mut busy = true;
        let mut now = self.env.now();
        while !self.is_drained() {
            now = self.wait(busy, now.mono);
            busy = self.turn(now) > 0;
            if busy {
                let length = self.env.instant().since(now.mono);
                let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
                self.turn_ns.saturating_record(ns);
                self.counters.busy_ns += ns;
            }
        }
        let now = self.env.now();
        self.tell_refusals(now);
    }

    /// One look at the sockets and one turn, without ever sleeping; how much work there was.
    pub fn step(&mut self) -> usize {
        self.env.wait(Some(Duration::ZERO), &mut self.ready);
        let now = self.env.now();
        self.turn(now)
    }

    /// Everything that is due at `now`, in bounded pieces; how much work there was.
    pub fn turn(&mut self, now: Now) -> usize {
        self.see_memory();
        let mut work = self.ingress(now); // sockets      → sessions → frames → StreamLog, facts
        work += self.take_commands(now); // other threads → the host's publishers, subscribers, answers
        work += self.drain_ports(now); //   the host      → frames → StreamLog
        work += self.drain_mailbox(now); // peer shards   → replicas, links
        work += self.expire(now); //        deadlines that are due: a source's frame, a merged flush
        work += self.egress(now); //        StreamLog     → packetizer → one sendmsg per connection
        self.keep_to_memory(now); //         what is too much is let go
        self.report(); //                   doorbells, once each
        self.counters.turns += 1;
        let beat = &self.shared.beats[usize::from(self.id.0)];
        beat.turns.store(self.counters.turns, std::sync::atomic::Ordering::Relaxed);
        self.memory.end_turn(self.connections.len(), self.streams.len(), now.mono);
        let (held, released) = (self.memory.used(), self.memory.released());
        beat.memory.store(held, std::sync::atomic::Ordering::Relaxed);
        beat.memory_most.store(held + released, std::sync::atomic::Ordering::Relaxed);
        beat.memory_need.store(self.memory.need(), std::sync::atomic::Ordering::Relaxed);
        beat.memory_released.store(released, std::sync::atomic::Ordering::Relaxed);
        work
    }

    /// When it must run next even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether there is work that no event will announce.
    pub fn has_work(&mut self) -> bool {
        !self.ready.is_empty()
            || !self.readable.is_empty()
            || !self.accepting.is_empty()
            || !self.dirty.is_empty()
            || !self.behind.is_empty()
            || !self.flushing.is_empty()
            || !self.tasks.is_empty()
            || !self.commands.is_empty()
            || self.mesh.has_mail()
            || self.ports_have_frames()
    }

    /// Whether a ring was full or a message waits for room: a look now and then is needed.
    #[must_use]
    pub fn wants_retry(&self) -> bool {
        !self.retry.is_empty() || self.mesh.has_backlog()
    }

    /// Whether it was told to drain and has nothing left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining.is_some() && self.connections.is_empty() && self.ports.is_empty() && self.places.is_empty()
    }

    /// The world and the rest that outlives a failure, with a new set of rings: the old ones are dead, and the far
    /// ends of the new ones go to the peers by [`Command::Rewire`]. Every session that was served here ends.
    #[must_use]
    pub fn salvage(mut self) -> (Parts<E>, Vec<(ShardId, Link)>) {
        let now = self.env.now();
        self.shared.directory.purge(self.id);
        self.tell_refusals(now);
        let fact = Fact::new(FactKind::ShardPanic, now, self.id).reason(Reason::ShardLost);
        self.tell(fact.count(self.connections.len() as u64));
        for fact in self.obituaries(now) {
            self.tell(fact);
        }
        for (_, connection) in &self.connections {
            self.shared.gauges.leave(connection.cold.peer.ip());
        }
        self.end_sinks_and_sources();
        for asked in self.asked.values().chain(self.unsettled.asked()) {
            if matches!(asked.who, AskedBy::HostSubscribe(_)) {
                self.shared.gauges.host_subscribers.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        for (_, end) in std::mem::take(&mut self.hosts) {
            self.shared.gauges.host_subscribers.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            let HostEnd { frames, doorbell, .. } = end;
            drop(frames);
            doorbell.ring();
        }
        if let Some(until) = self.draining {
            // Its successor goes on with that.
            let post = &self.shared.shards[usize::from(self.id.0)];
            let _ = post.send(Command::Drain(until.since(now.mono)));
        }
        let links = self.mesh.renew(self.id, now.mono);
        let parts = Parts {
            id: self.id,
            env: self.env,
            idle: self.idle,
            doorbell: self.doorbell,
            commands: self.commands,
            shared: self.shared,
            config: self.config,
            audit: self.audit,
            mesh: self.mesh,
            next_connection: self.next_connection,
        };
        (parts, links)
    }

    /// Tells the host's code that ran on a shard that failed. One of them may be what failed: it harms nobody again.
    fn end_sinks_and_sources(&mut self) {
        let last_words = |tell: &mut dyn FnMut()| {
            let _ = catch_unwind(AssertUnwindSafe(tell));
        };
        for (_, stream) in &mut self.streams {
            for sub in stream.groups.iter_mut().flat_map(|group| &mut group.subs) {
                if let group::Target::Sink(sink) = &mut sub.target {
                    last_words(&mut || sink.on_end(Reason::ShardLost));
                }
            }
        }
        for (_, port) in &mut self.ports {
            if let host::Feed::Source { source, .. } = &mut port.feed {
                last_words(&mut || source.on_end(Reason::ShardLost));
            }
        }
    }

    /// The ends of all sessions of a shard that failed.
    fn obituaries(&self, now: Now) -> Vec<Fact> {
        let ended = |kind| Fact::new(kind, now, self.id).reason(Reason::ShardLost);
        let mut facts = Vec::new();
        for (_, stream) in &self.streams {
            if let Some(home) = stream.home() {
                let fact = ended(FactKind::PublishEnd).stream(&stream.key).generation(home.generation);
                facts.push(fact.who(&home.who).totals(home.qos.bytes, now.mono.since(home.started)));
            }
            for standby in &stream.standbys {
                facts.push(ended(FactKind::StandbyEnd).stream(&stream.key).who(&standby.who));
            }
        }
        for (place, entry) in &self.places {
            if let (Some(who), Some(stream)) =
                (self.who_of(entry.connection, place), self.streams.get(entry.stream()))
            {
                let fact = ended(FactKind::PlayEnd).stream(&stream.key).who(&who);
                facts.push(fact.totals(0, now.mono.since(entry.started)));
            }
        }
        for (_, connection) in &self.connections {
            let cold = &connection.cold;
            let fact = ended(FactKind::ConnectionClose).who(&cold.who);
            facts.push(fact.totals(cold.bytes_in + connection.bytes_out, now.mono.since(cold.opened)));
        }
        facts
    }

    /// Tells a fact to the audit trail, the observers and the receivers of events.
    pub fn tell(&mut self, fact: Fact) {
        self.shared.tell(&fact);
        self.audit.emit(fact);
    }

    /// Its counters so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits for something to do, as its idle policy says; the time of the turn that follows.
    fn wait(&mut self, busy: bool, last_turn: Instant) -> Now {
        let now = if busy || self.has_work() || self.is_due(last_turn) {
            self.env.now()
        } else {
            match self.idle {
                Idle::Spin => self.spin(None),
                Idle::SpinThenPark(time) => self.spin(Some(time)),
                Idle::Park => self.park(),
            }
        };
        if now.mono.since(self.looked_at) >= SOCKETS_WAIT_AT_MOST {
            self.look_at_sockets(now.mono);
        }
        now
    }

    /// Looks until there is something to do; after `most` it goes to sleep. Rings are looked at far more often than
    /// sockets: that costs a few nanoseconds, and no system call stands in the way of what comes meanwhile. Nor does
    /// the clock: a turn that they call for has the time of the last look at the sockets, a microsecond ago.
    fn spin(&mut self, most: Option<Duration>) -> Now {
        let mut now = self.env.now();
        let until = most.map_or(Instant::FAR, |most| now.mono + most);
        loop {
            for _ in 0..LOOKS_AT_RINGS {
                if self.has_work() {
                    return now;
                }
                std::hint::spin_loop();
            }
            now = self.env.now();
            self.look_at_sockets(now.mono);
            if !self.ready.is_empty() || self.is_due(now.mono) || self.wants_retry() {
                return now;
            }
            if now.mono >= until {
                return self.park();
            }
        }
    }

    fn look_at_sockets(&mut self, now: Instant) {
        self.env.wait(Some(Duration::ZERO), &mut self.ready);
        self.looked_at = now;
    }

    fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|due| due <= now)
    }

    /// Sleeps until something happens: announces it, looks once more, sleeps; the time then.
    fn park(&mut self) -> Now {
        self.doorbell.announce_sleep();
        let sleeps = !self.has_work();
        if sleeps {
            let now = self.env.instant();
            let mut timeout = self.deadline().map(|due| due.since(now));
            if self.wants_retry() {
                timeout = Some(timeout.map_or(egress::RETRY_AFTER, |due| due.min(egress::RETRY_AFTER)));
            }
            self.counters.parks += 1;
            self.env.wait(timeout, &mut self.ready);
        }
        self.doorbell.awake();
        let now = self.env.now();
        if sleeps {
            self.looked_at = now.mono;
        }
        now
    }

    /// Rings whom something was pushed to, once.
    fn report(&mut self) {
        self.counters.wakes += self.mesh.ring_doorbells();
        self.counters.ring_full = self.mesh.full;
        while let Some(host) = self.touched.pop() {
            if let Some(end) = self.hosts.get_mut(host) {
                end.touched = false;
                self.counters.wakes += u64::from(end.doorbell.ring());
            }
        }
        if self.fail {
            panic!("a failure was asked for");
        }
    }

    /// Everything that is due by the clock.
    fn expire(&mut self, now: Now) -> usize {
        let mut work = 0;
        while let Some(due) = self.timers.pop(now.mono) {
            work += 1;
            match due {
                Due::Connection(slot, id) => self.connection_due(slot, id, now),
                Due::Rested(slot, id) => self.rested(slot, id, now),
                Due::Stream(index, uid) => self.stream_due(index, uid, now),
                Due::Watch(index, uid) => self.watch_due(index, uid, now),
                Due::Auth(ticket) => self.auth_due(ticket, now),
                Due::Accept => {
                    self.accepts_again = false;
                    self.accepting.extend(0..self.shared.listeners.len());
                }
                Due::Source(port) => {
                    self.port_rested(port, now);
                    self.poll_source(port, now);
                }
                Due::Drain => self.drain_due(now),
                Due::Memory => self.memory_due(),
                Due::Settle => self.settle_due(now),
                Due::Second => self.second(now),
            }
        }
        self.run_tasks(now);
        self.finish_the_gone(now);
        work
    }

    /// What is worth a look once per second.
    fn second(&mut self, now: Now) {
        self.timers.arm(now.mono + SECOND, Due::Second);
        self.tell_refusals(now);
        self.knocks.clear();
        self.memory.sweep_some();
        self.reap_silent_publishers(now);
        if self.audit_halts() && self.draining.is_none() {
            self.shared.gauges.draining.store(true, std::sync::atomic::Ordering::Relaxed);
            self.drain(self.config.limits.close_deadline, now);
        }
    }

    /// One record for each reason and all who were refused for it, however many: a storm does not fill the trail.
    fn tell_refusals(&mut self, now: Now) {
        for (reason, count) in std::mem::take(&mut self.refusals) {
            let fact = Fact::new(FactKind::ConnectionRefuse, now, self.id).reason(reason).count(count);
            self.tell(fact);
        }
        for again in self.refused.take_again() {
            // Those who watch were told of each.
            self.audit.emit(again);
        }
    }

    fn arm_stream(&mut self, index: usize, at: Instant) {
        if let Some(stream) = self.streams.get_mut(index)
            && at < stream.timer_at
        {
            stream.timer_at = at;
            self.timers.arm(at, Due::Stream(index, stream.uid));
        }
    }

    fn mark_dirty(&mut self, index: usize) {
        if let Some(stream) = self.streams.get_mut(index)
            && !stream.dirty
        {
            stream.dirty = true;
            self.dirty.push_back(index);
        }
    }

    fn new_connection_id(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId((u64::from(self.id.0) << 48) | self.next_connection)
    }

    /// Who is behind a subscriber's place.
    fn who_of(&self, connection: ConnectionId, place: usize) -> Option<Who> {
        let entry = self.places.get(place)?;
        let sub = self.streams.get(entry.stream())?.groups.get(entry.group())?.subs.get(entry.index())?;
        match sub.target {
            group::Target::Connection(slot) => self.connections.get(slot).map(|c| c.cold.who.clone()),
            group::Target::Host(host) => self.hosts.get(host).map(|end| end.who.clone()),
            group::Target::Peer(..) => None,
            group::Target::Sink(_) => Some(Who { connection, peer: None, protocol: "host", principal: None }),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// How long sockets may wait for a look while there is other work.
const SOCKETS_WAIT_AT_MOST: Duration = Duration::from_micros(20);
/// Looks at the rings between two at the sockets, while a shard spins: about a microsecond.
const LOOKS_AT_RINGS: usize = 32;
