//! What all shards of one router share: the directory, the host's extensions, and the gauges of global limits.
//!
//! Nothing here is touched per frame.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Mutex, RwLock};

use super::message::Command;
use super::seats::Seats;
use crate::extension::auth::AnswerBack;
use crate::extension::{Authenticator, Decision, Observer};
use crate::fact::{Class, Fact};
use crate::limits::{Limits, SAMPLE_EVERY};
use crate::protocol::Protocol;
use crate::ring::Doorbell;
use crate::stream::{AppSpec, Directory};

/// What may be replaced while the router runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bounds.
    pub limits: Limits,
    /// The applications; `*` stands for all that are not named.
    pub apps: Vec<Arc<AppSpec>>,
    /// One frame in so many of each stream is timed on its way, on average; 0 times none, 1 all. See
    /// [`Stages`](crate::stream::Stages).
    pub sample_every: u32,
    /// What becomes of sessions while facts are lost.
    pub on_loss: LossPolicy,
}

/// What is done where facts are lost, by their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossPolicy {
    /// Where decisions are.
    pub decisions: OnLoss,
    /// Where telemetry is.
    pub telemetry: OnLoss,
}

impl Default for LossPolicy {
    /// Without a record of who comes in nobody does; telemetry may be missing, and the trail says so.
    fn default() -> Self {
        Self { decisions: OnLoss::RefuseNew, telemetry: OnLoss::Continue }
    }
}

impl LossPolicy {
    pub(crate) const fn of(&self, class: Class) -> OnLoss {
        match class {
            Class::Decision => self.decisions,
            Class::Telemetry => self.telemetry,
        }
    }
}

/// What is done where facts are lost, or are not known to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// All goes on; the loss is marked in the trail.
    Continue,
    /// Nobody new is let in as long as it goes on.
    RefuseNew,
    /// All sessions end, and nobody is let in before the next start.
    Halt,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            apps: Vec::new(),
            sample_every: SAMPLE_EVERY,
            on_loss: LossPolicy::default(),
        }
    }
}

impl Config {
    /// Streams of the router at most: their slots travel in 24 bits.
    pub(super) fn streams_max(&self) -> usize {
        self.limits.streams.min(super::message::SLOTS_MAX)
    }

    /// How streams of this application behave, if it exists.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&Arc<AppSpec>> {
        let named = self.apps.iter().find(|app| &*app.name == name);
        named.or_else(|| self.apps.iter().find(|app| &*app.name == "*"))
    }
}

/// What all shards of one router share.
pub struct Shared {
    /// Who publishes what where.
    pub directory: Directory,
    /// Who may.
    pub authenticator: RwLock<Arc<dyn Authenticator>>,
    /// Who sees.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Whether any of them wants every frame.
    pub observes_frames: bool,
    /// The protocols that listeners speak.
    pub protocols: Vec<Arc<dyn Protocol>>,
    /// For each listener of a shard, the index of its protocol.
    pub listeners: Vec<usize>,
    /// Who is told of facts as they happen.
    pub events: EventHub,
    /// Router-wide counts that limits are held against.
    pub gauges: Gauges,
    /// The ways to all shards.
    pub shards: Vec<Post>,
    /// What each shard tells of itself at the end of each turn.
    pub beats: Vec<Beat>,
}

impl Shared {
    /// Tells observers and the receivers of events. An observer that panics has missed this fact and nothing else, also
    /// while a failed shard is salvaged.
    pub(crate) fn tell(&self, fact: &Fact) {
        for observer in &self.observers {
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_fact(fact)));
        }
        self.events.tell(fact);
    }
}

/// What a shard tells of itself at the end of each turn, alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Beat {
    /// How many turns it has taken: one that is awake and does not count on hangs.
    pub turns: AtomicU64,
    /// How many bytes of memory it holds.
    pub memory: AtomicU64,
    /// How many it may come to hold within the turn that it is in: what it holds, between two turns. What it has let go
    /// of a moment ago included.
    pub memory_most: AtomicU64,
    /// What one of its connections needs that is not read for want of room; 0 if there is none.
    pub memory_need: AtomicU64,
    /// How many it has let go of a moment ago, which its allocator may still keep.
    pub memory_released: AtomicU64,
}

/// Router-wide counts.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Open connections.
    pub connections: AtomicUsize,
    /// In-process subscribers.
    pub host_subscribers: AtomicUsize,
    /// No new session is let in.
    pub draining: AtomicBool,
    /// Connections by address, where they are counted.
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// Seats by application, principal and address, where they are limited.
    pub(crate) seats: Arc<Seats>,
}

impl Gauges {
    /// Counts a connection in, unless a limit stands against it.
    pub(crate) fn enter(&self, address: IpAddr, limits: &Limits) -> Result<(), crate::limits::Limit> {
        use crate::limits::Limit;
        if self.connections.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::Connections);
        }
        let mut addresses = self.addresses.lock();
        let count = addresses.entry(address).or_default();
        if *count >= limits.connections_per_address {
            drop(addresses);
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(())
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self, address: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = self.addresses.lock();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// The way to one shard for other threads.
#[derive(Clone)]
pub struct Post {
    commands: Sender<Command>,
    doorbell: Doorbell,
}

impl Post {
    /// The way to the shard that takes `commands` and sleeps by `doorbell`.
    #[must_use]
    pub const fn new(commands: Sender<Command>, doorbell: Doorbell) -> Self {
        Self { commands, doorbell }
    }

    /// Hands a command over and wakes the shard; it comes back if the shard has too many.
    ///
    /// # Errors
    /// The command.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) | TrySendError::Disconnected(command) => command,
        })?;
        self.doorbell.ring();
        Ok(())
    }

    /// Hands a command over even if that takes a while: only for what must not be lost, from threads that may wait.
    pub(crate) fn send_surely(&self, command: Command) {
        let _ = self.commands.send_timeout(command, std::time::Duration::from_secs(5));
        self.doorbell.ring();
    }

    /// The shard's doorbell.
    #[must_use]
    pub const fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }
}

impl AnswerBack for Post {
    fn answer(&self, ticket: u64, decision: Decision) {
        // A shard with too many commands denies by its deadline.
        let _ = self.send(Command::Answer(ticket, decision));
    }
}

/// Tells facts to whoever wants them, and how many each has missed.
#[derive(Debug, Default)]
pub struct EventHub {
    receivers: RwLock<Vec<(Sender<Fact>, Arc<AtomicU64>)>>,
    any: AtomicBool,
}

/// Receives facts as they happen. A receiver that is too slow misses some, and is told how many.
#[derive(Debug)]
pub struct Events {
    facts: Receiver<Fact>,
    missed: Arc<AtomicU64>,
}

impl EventHub {
    /// A new receiver with room for `capacity` facts.
    pub fn subscribe(&self, capacity: usize) -> Events {
        let (tx, facts) = bounded(capacity);
        let missed = Arc::new(AtomicU64::new(0));
        self.receivers.write().push((tx, Arc::clone(&missed)));
        self.any.store(true, Ordering::Release);
        Events { facts, missed }
    }

    pub(crate) fn tell(&self, fact: &Fact) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut gone = false;
        for (tx, missed) in self.receivers.read().iter() {
            match tx.try_send(fact.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => gone = true,
            }
        }
        if gone {
            let mut receivers = self.receivers.write();
            // The receiver holds the other half of the counter.
            receivers.retain(|(_, missed)| Arc::strong_count(missed) > 1);
            self.any.store(!receivers.is_empty(), Ordering::Release);
        }
    }
}

impl Events {
    /// The next fact, if there is one.
    pub fn try_recv(&self) -> Option<Fact> {
        self.facts.try_recv().ok()
    }

    /// The next fact, waiting for it at most this long.
    pub fn recv_timeout(&self, timeout: std::time::Duration) -> Option<Fact> {
        self.facts.recv_timeout(timeout).ok()
    }

    /// How many facts this receiver has missed since the last call, because it had no room.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}
