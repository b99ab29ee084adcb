//! The router: N shards on their cores, the rings between them, the audit writer, and the host's handles.

mod builder;
mod publisher;
mod subscription;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::{Mutex, RwLock};

pub use builder::{Builder, Cores, StartError};
pub use publisher::{PublishOptions, Publisher, SendError};
pub use subscription::{Delivery, SubscribeOptions, Subscription, TryRecvError};

use crate::audit::{AuditPipeline, AuditProducer, AuditStats};
use crate::clock::Clock;
use crate::extension::{Authenticator, FrameSink, FrameSource, Health, HealthCheck};
use crate::fact::{Fact, FactKind, HostEvent};
use crate::id::{ConnectionId, ShardId, StreamKey};
use crate::limits::{HOST_RING_SLOTS_MAX, HOST_RING_SLOTS_MIN, Limit, MEMORY_REFUSE_PERCENT};
use crate::protocol::PlayOptions;
use crate::reason::Reason;
use crate::ring::{Doorbell, ring};
use crate::shard::{
    Attach, Command, Config, Events, HostPublish, HostSubscribe, KickTarget, Post, RunSource, ShardStats, Shared,
    StreamInfo, StreamPart,
};
use crate::stream::{Listed, Located, Seat};
use watch::Watch;

/// A running router. Several may live in one process; dropping one stops it at once.
pub struct Router {
    shared: Arc<Shared>,
    config: RwLock<Arc<Config>>,
    clock: Clock,
    threads: Vec<JoinHandle<()>>,
    audit: Option<AuditPipeline>,
    teller: Mutex<AuditProducer>,
    listeners: Vec<(&'static str, SocketAddr)>,
    cores: Vec<Option<usize>>,
    checks: Vec<Arc<dyn HealthCheck>>,
    watch: Watch,
    next_shard: AtomicUsize,
    next_host: AtomicU64,
}

/// One shard, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// The core that it is pinned to, if it is.
    pub core: Option<usize>,
}

/// How a stop went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StopReport {
    /// Every session ended in order within the deadline.
    pub drained: bool,
    /// The audit trail's sums: attempted = written + lost.
    pub audit: AuditStats,
}

/// What a router holds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Bytes that are counted, as of the last turn of each shard: an upper bound of what is held.
    pub used: u64,
    /// Bytes that were let go of a moment ago ([`RELEASED_FOR`](crate::limits::RELEASED_FOR)), besides large buffers:
    /// an allocator may still keep them, and nothing is put in their place before. A program may ask it for the pages.
    pub released: u64,
    /// Bytes that may be held, `None` for no limit.
    pub cap: Option<u64>,
}

impl MemoryUse {
    /// Degraded when so much is in use that nobody new is let in.
    fn health(self) -> Health {
        match self.cap {
            Some(cap) if self.used * 100 >= cap * MEMORY_REFUSE_PERCENT => {
                Health::Degraded(format!("memory: {} of {} MiB are in use", self.used >> 20, cap >> 20))
            }
            _ => Health::Healthy,
        }
    }
}

impl Router {
    /// A router to be set up.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The addresses that it listens on, with their protocols.
    #[must_use]
    pub fn listeners(&self) -> &[(&'static str, SocketAddr)] {
        &self.listeners
    }

    /// Its shards.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardInfo> {
        let ids = 0u16..;
        ids.zip(&self.cores).map(|(id, core)| ShardInfo { id: ShardId(id), core: *core }).collect()
    }

    /// The clock that origins of frames are measured by.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Publishes a stream from this process.
    ///
    /// # Errors
    /// Why it is refused: the name is taken, the credentials are wrong, a limit is reached.
    pub fn publish(&self, key: &StreamKey, options: PublishOptions) -> Result<Publisher, Reason> {
        let shard = options.shard.unwrap_or_else(|| self.least_used());
        let post = self.post(shard)?;
        let slots = options.ring_slots.clamp(HOST_RING_SLOTS_MIN, HOST_RING_SLOTS_MAX);
        let (tx, rx) = ring(slots);
        let (events_tx, events) = bounded(PUBLISHER_EVENTS);
        let (reply, answer) = bounded(1);
        let connection = self.host_id();
        let request = HostPublish {
            key: key.clone(),
            credentials: options.credentials,
            connection,
            backup: options.backup,
            frames: rx,
            events: events_tx,
            reply,
        };
        self.ask(&post, Command::Publish(Box::new(request)), &answer)??;
        Ok(Publisher::new(key.clone(), connection, tx, post.doorbell().clone(), events, self.clock))
    }

    /// Subscribes to a stream from this process.
    ///
    /// # Errors
    /// Why it is refused: no such stream, the credentials are wrong, a limit is reached.
    pub fn subscribe(&self, key: &StreamKey, options: SubscribeOptions) -> Result<Subscription, Reason> {
        let gauge = &self.shared.gauges.host_subscribers;
        if gauge.fetch_add(1, Ordering::Relaxed) >= self.config.read().limits.host_subscribers {
            gauge.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::Limit(Limit::Subscribers));
        }
        let shard = options.shard.unwrap_or_else(|| self.home_or_least_used(key));
        let post = self.post(shard).inspect_err(|_| {
            gauge.fetch_sub(1, Ordering::Relaxed);
        })?;
        let (tx, rx) = ring(options.ring_slots.clamp(HOST_RING_SLOTS_MIN, HOST_RING_SLOTS_MAX));
        let (reply, answer) = bounded(1);
        let waker = subscription::HostWaker::new();
        let doorbell = Doorbell::new(waker.clone());
        let skipped = Arc::new(AtomicU64::new(0));
        let connection = self.host_id();
        let request = HostSubscribe {
            key: key.clone(),
            credentials: options.credentials,
            connection,
            options: options.play,
            frames: tx,
            doorbell: doorbell.clone(),
            reply,
            skipped: Arc::clone(&skipped),
        };
        self.ask(&post, Command::Subscribe(Box::new(request)), &answer).inspect_err(|reason| {
            // It was never asked: the seat is counted back here.
            if matches!(reason, Reason::Limit(Limit::Backlog) | Reason::Shutdown) {
                gauge.fetch_sub(1, Ordering::Relaxed);
            }
        })??;
        Ok(Subscription::new(key.clone(), connection, post, rx, doorbell, waker, skipped, self.clock))
    }

    /// Runs a sink on the shard of a stream, with no hop between. Detach it by the id.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn attach(
        &self,
        key: &StreamKey,
        options: PlayOptions,
        sink: Box<dyn FrameSink>,
    ) -> Result<ConnectionId, Reason> {
        self.attach_on(self.home_or_least_used(key), key, options, sink)
    }

    /// The same on a shard of the caller's choice: frames cross once to it, for all that it serves.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn attach_on(
        &self,
        shard: ShardId,
        key: &StreamKey,
        options: PlayOptions,
        sink: Box<dyn FrameSink>,
    ) -> Result<ConnectionId, Reason> {
        let (reply, answer) = bounded(1);
        let connection = self.host_id();
        let attach = Attach { key: key.clone(), connection, options, sink, reply };
        self.ask(&self.post(shard)?, Command::Attach(Box::new(attach)), &answer)??;
        Ok(connection)
    }

    /// Runs a source on a shard, which makes that shard the stream's home.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn run_source(&self, key: &StreamKey, source: Box<dyn FrameSource>) -> Result<ConnectionId, Reason> {
        let (reply, answer) = bounded(1);
        let connection = self.host_id();
        let run = RunSource { key: key.clone(), connection, source, reply };
        self.ask(&self.post(self.least_used())?, Command::Source(Box::new(run)), &answer)??;
        Ok(connection)
    }

    /// Takes a sink off its stream.
    pub fn detach(&self, connection: ConnectionId) {
        for post in &self.shared.shards {
            let _ = post.send(Command::Detach(connection));
        }
    }

    /// All live streams, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<Listed> {
        self.shared.directory.list()
    }

    /// What is known of one live stream: on its home, and of its audience on all shards. The times of its stages are
    /// those since this or [`Router::survey`] was asked last.
    #[must_use]
    pub fn inspect(&self, key: &StreamKey) -> Option<StreamInfo> {
        let Located::Live(..) = self.shared.directory.locate(key) else { return None };
        StreamPart::whole(self.shared.shards.iter().filter_map(|post| {
            let (reply, answer) = bounded(1);
            self.ask(post, Command::Inspect(key.clone(), reply), &answer).ok().flatten()
        }))
    }

    /// What is known of all live streams, by name; what a shard that hangs knows is left out. Shards tell of a few
    /// streams each turn, so that this delays no frame.
    #[must_use]
    pub fn survey(&self) -> Vec<StreamInfo> {
        let mut parts: BTreeMap<StreamKey, Vec<StreamPart>> = BTreeMap::new();
        for post in &self.shared.shards {
            let mut next = Some(0);
            while let Some(from) = next {
                let (reply, answer) = bounded(1);
                let Ok(page) = self.ask(post, Command::Survey(from, reply), &answer) else { break };
                page.parts.into_iter().for_each(|part| parts.entry(part.key.clone()).or_default().push(part));
                next = page.next;
            }
        }
        parts.into_values().filter_map(StreamPart::whole).collect()
    }

    /// The publishers of a stream where several may be: who leads, if anybody does, and who stands by.
    #[must_use]
    pub fn publishers(&self, key: &StreamKey) -> (Option<Seat>, Vec<Seat>) {
        self.shared.directory.seats(key)
    }

    /// Lets a stream go on with a publisher that stands by, from its next keyframe on: with this one, or with the best
    /// there is. It is preferred from then on. Who that is.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if nobody stands by, [`Reason::Stalled`] if that one sends nothing to start with.
    pub fn switch_publisher(&self, key: &StreamKey, to: Option<ConnectionId>) -> Result<ConnectionId, Reason> {
        let (_, standbys) = self.publishers(key);
        let mut wanted = standbys.iter().filter(|seat| to.is_none_or(|to| seat.connection == to));
        let seat = if to.is_some() { wanted.next() } else { wanted.min_by_key(|seat| (!seat.ready, seat.rank)) };
        let seat = seat.ok_or(Reason::NotFound)?;
        let (reply, answer) = bounded(1);
        let switch = Command::Switch(key.clone(), seat.connection, reply);
        self.ask(&self.post(seat.shard)?, switch, &answer)??;
        Ok(seat.connection)
    }

    /// Closes the publisher of a stream; whether there was one.
    pub fn kick_publisher(&self, key: &StreamKey) -> bool {
        let Located::Live(home, _) = self.shared.directory.locate(key) else { return false };
        let (reply, answer) = bounded(1);
        let kick = Command::Kick(KickTarget::Publisher(key.clone()), reply);
        self.post(home).and_then(|post| self.ask(&post, kick, &answer)).unwrap_or(false)
    }

    /// Closes one connection, subscriber or publisher; whether there was one.
    pub fn kick(&self, connection: ConnectionId) -> bool {
        self.shared.shards.iter().any(|post| {
            let (reply, answer) = bounded(1);
            self.ask(post, Command::Kick(KickTarget::Connection(connection), reply), &answer).unwrap_or(false)
        })
    }

    /// A receiver of facts as they happen, from now on; it holds as many as `Limits::events`.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.events.subscribe(self.config.read().limits.events)
    }

    /// The counters of every shard; one that hangs is left out.
    #[must_use]
    pub fn stats(&self) -> Vec<ShardStats> {
        let ask = |post: &Post| {
            let (reply, answer) = bounded(1);
            self.ask(post, Command::Stats(reply), &answer).ok()
        };
        self.shared.shards.iter().filter_map(ask).collect()
    }

    /// The sums of the audit trail so far.
    #[must_use]
    pub fn audit_stats(&self) -> Option<AuditStats> {
        self.audit.as_ref().map(AuditPipeline::stats)
    }

    /// What the router holds of memory, and what it may.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        let limits = &self.config.read().limits;
        let (mut used, mut released) = (limits.structure_bytes(self.shared.shards.len()), 0);
        for beat in &self.shared.beats {
            let held = beat.memory.load(Ordering::Relaxed);
            used += held;
            released += beat.memory_released.load(Ordering::Relaxed);
        }
        MemoryUse { used, released, cap: limits.memory }
    }

    /// How the router is: the worst of its shards, its capacity, and the checks of the host.
    #[must_use]
    pub fn health(&self) -> Health {
        let limits = &self.config.read().limits;
        let capacity = |what: &str, used: usize, limit: usize| {
            if used >= limit {
                Health::Unhealthy(format!("{what}: all {limit} are in use"))
            } else if used * 10 >= limit.saturating_mul(9) {
                Health::Degraded(format!("{what}: {used} of {limit} are in use"))
            } else {
                Health::Healthy
            }
        };
        let own = [
            self.watch.health(),
            self.memory().health(),
            capacity("publishers", self.shared.directory.publishers(), limits.publishers),
            capacity("connections", self.shared.gauges.connections.load(Ordering::Relaxed), limits.connections),
        ];
        own.into_iter().chain(self.checks.iter().map(|check| check.check())).max().unwrap_or(Health::Healthy)
    }

    /// Keeps to other limits and applications from now on. What is under way keeps the application's terms that it
    /// began with.
    ///
    /// The cap on memory can be moved, but not below what the router needs at least, see [`Limits::memory_least`].
    ///
    /// [`Limits::memory_least`]: crate::limits::Limits::memory_least
    pub fn configure(&self, mut config: Config) {
        let shards = self.shared.shards.len();
        let least = config.limits.memory_least(shards);
        config.limits.memory = config.limits.memory.map(|given| given.max(least));
        config.limits = config.limits.within_memory(shards);
        let config = Arc::new(config);
        *self.config.write() = Arc::clone(&config);
        for post in &self.shared.shards {
            post.send_surely(Command::Configure(Arc::clone(&config)));
        }
        self.tell_now(FactKind::Configuration, None);
    }

    /// Asks another authenticator from now on.
    pub fn set_authenticator(&self, authenticator: Arc<dyn Authenticator>) {
        *self.shared.authenticator.write() = authenticator;
        self.tell_now(FactKind::Configuration, None);
    }

    /// Tells that a replacement of the configuration was refused.
    pub fn configuration_refused(&self) {
        self.tell_now(FactKind::Configuration, Some(Reason::Denied));
    }

    /// Makes one shard fail, as a test of what that costs: its own sessions, and nobody else's.
    pub fn fail_shard(&self, shard: ShardId) {
        if let Ok(post) = self.post(shard) {
            let _ = post.send(Command::Panic);
        }
    }

    /// Takes nothing new, ends every session in order, and returns when all is written or the time is up.
    #[must_use]
    pub fn stop(mut self, deadline: Duration) -> StopReport {
        self.shut_down(deadline)
    }

    fn shut_down(&mut self, deadline: Duration) -> StopReport {
        let end = self.clock.instant() + deadline;
        self.tell_now(FactKind::RouterStop, None);
        self.shared.gauges.draining.store(true, Ordering::Relaxed);
        for post in &self.shared.shards {
            post.send_surely(Command::Drain(deadline));
        }
        let mut drained = true;
        for thread in self.threads.drain(..) {
            // A shard that hangs is left behind: its thread can't be ended.
            while !thread.is_finished() && self.clock.instant() < end + LEFT_BEHIND_AFTER {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if thread.is_finished() {
                drained &= thread.join().is_ok();
            } else {
                drained = false;
            }
        }
        drained &= self.clock.instant() <= end;
        self.watch.stop();
        let audit = self.audit.take().map_or_else(AuditStats::default, |audit| {
            audit.stop(end.since(self.clock.instant()).max(AUDIT_FLUSH_AT_LEAST))
        });
        StopReport { drained, audit }
    }

    /// Puts something on record that the host knows of: it goes the way of every fact, to the audit trail in its class,
    /// to observers and to events. From any thread; those who tell at the same time wait for each other.
    pub fn tell(&self, event: HostEvent) {
        let fact = Fact::of_host(event, self.clock.now(), ShardId(0));
        self.shared.tell(&fact);
        self.teller.lock().emit(fact);
    }

    fn tell_now(&self, kind: FactKind, reason: Option<Reason>) {
        let mut fact = Fact::new(kind, self.clock.now(), ShardId(0));
        fact.reason = reason;
        self.shared.tell(&fact);
        self.teller.lock().emit(fact);
    }

    /// Sends a command and waits for its answer; a shard that fails or hangs meanwhile is an answer too.
    fn ask<T>(&self, post: &Post, command: Command, answer: &crossbeam_channel::Receiver<T>) -> Result<T, Reason> {
        // A shard that has ended answers nobody, be it for good or by a fault.
        let stopping = || self.shared.gauges.draining.load(Ordering::Relaxed);
        let unless_stopping = |otherwise| if stopping() { Reason::Shutdown } else { otherwise };
        post.send(command).map_err(|_| unless_stopping(Reason::Limit(Limit::Backlog)))?;
        let limits = self.config.read().limits.clone();
        let patience = limits.auth_deadline + limits.audit_deadline + ANSWER_WITHIN;
        answer.recv_timeout(patience).map_err(|_| unless_stopping(Reason::ShardLost))
    }

    fn post(&self, shard: ShardId) -> Result<Post, Reason> {
        self.shared.shards.get(usize::from(shard.0)).cloned().ok_or(Reason::NotFound)
    }

    fn least_used(&self) -> ShardId {
        let next = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shared.shards.len().max(1);
        ShardId(u16::try_from(next).unwrap_or(0))
    }

    fn home_or_least_used(&self, key: &StreamKey) -> ShardId {
        match self.shared.directory.locate(key) {
            Located::Live(home, _) => home,
            Located::Absent => self.least_used(),
        }
    }

    fn host_id(&self) -> ConnectionId {
        ConnectionId((0xffff << 48) | self.next_host.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.shut_down(Duration::ZERO);
        }
    }
}

/// Wishes that wait for a publisher's thread.
const PUBLISHER_EVENTS: usize = 16;
/// How long a shard may take to answer, beyond what an authenticator may.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long after the deadline a shard's thread is left behind.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(2);
/// The audit writer always gets this long to write what it has.
const AUDIT_FLUSH_AT_LEAST: Duration = Duration::from_secs(1);
