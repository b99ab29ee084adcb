//! Setting a router up, and starting it.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread::JoinHandle;

use crossbeam_channel::bounded;
use parking_lot::{Mutex, RwLock};

use super::Router;
use super::watch::Watch;
use crate::audit::{AuditPipeline, AuditSink, Capacity};
use crate::clock::Clock;
use crate::extension::{AllowAll, Authenticator, HealthCheck, Observer};
use crate::fact::{Fact, FactKind};
use crate::id::ShardId;
use crate::limits::{COMMANDS_MAX, Limits, SHARDS_MAX};
use crate::net::{Network, bind};
use crate::protocol::Protocol;
use crate::ring::Doorbell;
use crate::shard::{
    Command, Config, EventHub, Gauges, Idle, LossPolicy, Parts, Post, Shard, Shared, SystemEnv, mesh,
};
use crate::stream::{AppSpec, Directory};

/// Which cores shards are pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// One core each, in order, as long as there are cores.
    #[default]
    Auto,
    /// These, in order.
    List(Vec<usize>),
    /// None: the system moves them about.
    Unpinned,
}

/// A router to be set up. Without a word it has one shard per core, every application with the defaults of
/// [`AppSpec`], no listener, and lets the host do everything.
pub struct Builder {
    shards: Option<usize>,
    cores: Cores,
    idle: Idle,
    config: Config,
    authenticator: Arc<dyn Authenticator>,
    observers: Vec<Arc<dyn Observer>>,
    audit: Vec<Box<dyn AuditSink>>,
    listen: Vec<(SocketAddr, Arc<dyn Protocol>)>,
    checks: Vec<Arc<dyn HealthCheck>>,
}

/// Why a router could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address can't be listened on.
    #[error("cannot listen on {address} for {protocol}: {}", in_words(source))]
    Bind {
        /// Which.
        address: SocketAddr,
        /// For which protocol.
        protocol: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Too many shards, or none.
    #[error("{0} shards: a router has 1 to {SHARDS_MAX}")]
    Shards(usize),
    /// Less memory than the shards need to do anything at all.
    #[error("a memory of {given} bytes is too little for {shards} shards: they need at least {least} bytes ({} MiB)", least >> 20)]
    Memory {
        /// What they were given.
        given: u64,
        /// What they need.
        least: u64,
        /// How many they are.
        shards: usize,
    },
    /// A core that this machine does not have.
    #[error("core {0} does not exist here, or this process may not use it")]
    Core(usize),
    /// The system refused a thread or a descriptor.
    #[error("the system refused a thread or descriptor: {0}")]
    System(#[from] io::Error),
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has this port; stop it (`ss -ltnp` names it) or choose another port".into()
        }
        io::ErrorKind::PermissionDenied => "this port needs privileges; choose one above 1023".into(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        _ => error.to_string(),
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            shards: None,
            cores: Cores::default(),
            idle: Idle::default(),
            config: Config::default(),
            authenticator: Arc::new(AllowAll),
            observers: Vec::new(),
            audit: Vec::new(),
            listen: Vec::new(),
            checks: Vec::new(),
        }
    }
}

impl Builder {
    /// Sets the number of shards; without it there is one per core.
    #[must_use]
    pub const fn shards(mut self, count: usize) -> Self {
        self.shards = Some(count);
        self
    }

    /// Sets the cores that shards are pinned to.
    #[must_use]
    pub fn cores(mut self, cores: Cores) -> Self {
        self.cores = cores;
        self
    }

    /// Sets how shards wait.
    #[must_use]
    pub const fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Adds an application. As soon as one is added, those not added do not exist; `*` stands for any.
    #[must_use]
    pub fn app(mut self, app: AppSpec) -> Self {
        self.config.apps.push(Arc::new(app));
        self
    }

    /// Sets the bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets how many bytes of memory the router may hold: see [`Limits::memory`].
    #[must_use]
    pub const fn memory(mut self, bytes: u64) -> Self {
        self.config.limits.memory = Some(bytes);
        self
    }

    /// Times one frame in so many of each stream on its way, on average; 0 times none. The default is
    /// [`SAMPLE_EVERY`](crate::limits::SAMPLE_EVERY).
    #[must_use]
    pub const fn sample_every(mut self, frames: u32) -> Self {
        self.config.sample_every = frames;
        self
    }

    /// Sets who decides who may publish and play.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// What becomes of sessions while facts do not reach the audit trail.
    #[must_use]
    pub const fn on_loss(mut self, policy: LossPolicy) -> Self {
        self.config.on_loss = policy;
        self
    }

    /// Adds a sink of the audit trail.
    #[must_use]
    pub fn audit(mut self, sink: Box<dyn AuditSink>) -> Self {
        self.audit.push(sink);
        self
    }

    /// Adds a check to the router's health.
    #[must_use]
    pub fn health_check(mut self, check: Arc<dyn HealthCheck>) -> Self {
        self.checks.push(check);
        self
    }

    /// Listens on an address for a protocol; port 0 is any free one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr, protocol: Arc<dyn Protocol>) -> Self {
        self.listen.push((address, protocol));
        self
    }

    /// Starts the shards.
    ///
    /// # Errors
    /// Why not, in a sentence for the person who can act.
    pub fn start(mut self) -> Result<Router, StartError> {
        let available: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let count = self.shards.unwrap_or_else(|| available.len().max(1));
        if count == 0 || count > SHARDS_MAX {
            return Err(StartError::Shards(count));
        }
        let least = self.config.limits.memory_least(count);
        if let Some(given) = self.config.limits.memory.filter(|given| *given < least) {
            return Err(StartError::Memory { given, least, shards: count });
        }
        self.config.limits = self.config.limits.within_memory(count);
        let cores = assign_cores(&self.cores, &available, count)?;
        if self.config.apps.is_empty() {
            self.config.apps.push(Arc::new(AppSpec::new("*")));
        }
        let clock = Clock::start();
        let mut networks = Vec::new();
        for _ in 0..count {
            networks.push(Network::new()?);
        }
        let listeners = listen_all(&self.listen, &mut networks)?;
        let mut posts = Vec::new();
        let mut commands = Vec::new();
        for network in &networks {
            let (tx, rx) = bounded(COMMANDS_MAX);
            posts.push(Post::new(tx, Doorbell::new(network.waker()?)));
            commands.push(rx);
        }
        let doorbells: Vec<Doorbell> = posts.iter().map(|post| post.doorbell().clone()).collect();
        let shared = Arc::new(Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(self.authenticator),
            observes_frames: self.observers.iter().any(|observer| observer.wants_frames()),
            observers: self.observers,
            protocols: self.listen.iter().map(|(_, protocol)| Arc::clone(protocol)).collect(),
            listeners: (0..self.listen.len()).collect(),
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: posts,
            beats: (0..count).map(|_| crate::shard::Beat::default()).collect(),
        });
        let limits = &self.config.limits;
        let capacity = Capacity { decisions: limits.audit_decisions, telemetry: limits.audit_records };
        let audit = AuditPipeline::start(self.audit, capacity, clock);
        let watch = {
            let producer = audit.producer(WATCH_PRODUCER);
            Watch::start(Arc::clone(&shared), self.config.limits.shard_stall, clock, producer)?
        };
        let config = Arc::new(self.config);
        let mut router = Router {
            shared: Arc::clone(&shared),
            config: RwLock::new(Arc::clone(&config)),
            clock,
            threads: Vec::new(),
            teller: Mutex::new(audit.producer(ROUTER_PRODUCER)),
            audit: None,
            listeners,
            cores: cores.clone(),
            checks: self.checks,
            watch,
            next_shard: AtomicUsize::new(0),
            next_host: AtomicU64::new(1),
        };
        router.teller.lock().emit(Fact::new(FactKind::RouterStart, clock.now(), ShardId(0)));
        let rings = mesh(&doorbells);
        for (index, (((network, commands), mesh), core)) in
            networks.into_iter().zip(commands).zip(rings).zip(cores).enumerate()
        {
            let id = ShardId(u16::try_from(index).map_err(|_| StartError::Shards(count))?);
            let parts = Parts {
                id,
                env: SystemEnv::new(network, clock),
                idle: self.idle,
                doorbell: doorbells[index].clone(),
                commands,
                shared: Arc::clone(&shared),
                config: Arc::clone(&config),
                audit: audit.producer(id.0),
                mesh,
                next_connection: 0,
            };
            router.threads.push(spawn(parts, core)?);
        }
        router.audit = Some(audit);
        Ok(router)
    }
}

fn assign_cores(cores: &Cores, available: &[usize], count: usize) -> Result<Vec<Option<usize>>, StartError> {
    match cores {
        Cores::Unpinned => Ok(vec![None; count]),
        // More shards than cores share them as the system likes.
        Cores::Auto if count > available.len() => Ok(vec![None; count]),
        Cores::Auto => Ok(available.iter().take(count).map(|core| Some(*core)).collect()),
        Cores::List(list) => {
            if let Some(core) = list.iter().find(|core| !available.contains(core)) {
                return Err(StartError::Core(*core));
            }
            Ok((0..count).map(|index| list.get(index).copied()).collect())
        }
    }
}

/// Binds every address once for each shard.
fn listen_all(
    listen: &[(SocketAddr, Arc<dyn Protocol>)],
    networks: &mut [Network],
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let mut bound = Vec::new();
    let shared = networks.len() > 1;
    for (address, protocol) in listen {
        let protocol = protocol.name();
        let failed = |address, source| StartError::Bind { address, protocol, source };
        // Sharing a port succeeds with a stranger of the same user too: see first whether it is free.
        let probe = bind(*address, false).map_err(|source| failed(*address, source))?;
        let actual = probe.local_addr()?;
        drop(probe);
        for network in &mut *networks {
            let listener = bind(actual, shared).map_err(|source| failed(actual, source))?;
            network.listen(listener)?;
        }
        bound.push((protocol, actual));
    }
    Ok(bound)
}

/// A shard's thread: pinned, and restarted if it fails.
fn spawn(parts: Parts<SystemEnv>, core: Option<usize>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("shardcast-{}", parts.id)).spawn(move || {
        if let Some(id) = core {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let mut shard = Shard::new(parts);
        while catch_unwind(AssertUnwindSafe(|| shard.run())).is_err() {
            shard = restart(shard);
        }
    })
}

/// A fresh shard in the place of one that failed. The others learn of it by new rings.
fn restart(failed: Shard<SystemEnv>) -> Shard<SystemEnv> {
    let (parts, links) = failed.salvage();
    let (id, shared) = (parts.id, Arc::clone(&parts.shared));
    for (peer, link) in links {
        shared.shards[usize::from(peer.0)].send_surely(Command::Rewire(id, Box::new(link)));
    }
    Shard::new(parts)
}

/// The numbers of producers of audit records that are no shards.
const ROUTER_PRODUCER: u16 = u16::MAX;
const WATCH_PRODUCER: u16 = u16::MAX - 1;
