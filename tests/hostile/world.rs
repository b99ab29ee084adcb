//! A router in this process, its facts, and the canaries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use shardcast::audit::{Entry, MemorySink, Record};
use shardcast::clock::{Clock, Instant};
use shardcast::extension::{AuthReply, AuthRequest, Authenticator, Observer};
use shardcast::fact::{Fact, FactKind};
use shardcast::id::{ConnectionId, ShardId, StreamKey};
use shardcast::limits::Limits;
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::protocol::rtmp::Rtmp;
use shardcast::router::{Cores, Delivery, PublishOptions, Publisher, Router, SubscribeOptions, Subscription};
use shardcast::shard::Counters;
use shardcast::stream::AppSpec;

use super::peer::{self, Peer};

/// Generous for anything that takes a moment on a busy machine; no test depends on its length.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// The shard that is attacked.
pub(crate) const HERE: ShardId = ShardId(0);
/// The other one.
pub(crate) const THERE: ShardId = ShardId(1);

/// The time since the first question.
pub(crate) fn now() -> Instant {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::start).instant()
}

/// Looks again and again until there is something, and panics with what was awaited.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn key(text: &str) -> StreamKey {
    StreamKey::parse(text).expect("a test's stream has a good name")
}

/// How a router is set up.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) apps: Vec<AppSpec>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// Whether facts are kept one by one, or only counted.
    pub(crate) keeps_facts: bool,
    /// Nothing else runs meanwhile: what the heap holds is looked at.
    pub(crate) alone: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let mut limits = Limits::default();
        limits.close_deadline = Duration::from_millis(500);
        Self { limits, apps: Vec::new(), authenticator: None, keeps_facts: true, alone: false }
    }
}

/// Tests that look at the heap run alone.
static HEAP_IS_LOOKED_AT: RwLock<()> = RwLock::new(());

/// Held by whatever runs, for its drop.
#[expect(dead_code, reason = "nobody looks into it")]
pub(crate) enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    pub(crate) fn shared() -> Self {
        Self::Shared(HEAP_IS_LOOKED_AT.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn alone() -> Self {
        Self::Alone(HEAP_IS_LOOKED_AT.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running router with its canaries.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) facts: Arc<Facts>,
    pub(crate) address: SocketAddr,
    /// With the canaries and nothing else.
    pub(crate) baseline: Sizes,
    audit: MemorySink,
    canaries: Canaries,
    _turn: Turn,
}

/// What must be as before when an attack is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    connections: usize,
    homes: usize,
    replicas: usize,
    subscribers: usize,
    live: usize,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let turn = if setup.alone { Turn::alone() } else { Turn::shared() };
        let facts = Arc::new(Facts { keeps: setup.keeps_facts, ..Facts::default() });
        let audit = MemorySink::new(if setup.keeps_facts { 1_000_000 } else { 16 });
        let mut builder = Router::builder()
            .shards(2)
            .cores(Cores::Unpinned)
            .limits(setup.limits)
            .observer(Arc::clone(&facts) as Arc<dyn Observer>)
            .audit(Box::new(audit.clone()))
            .listen((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(Rtmp));
        for app in setup.apps {
            builder = builder.app(app);
        }
        if let Some(authenticator) = setup.authenticator {
            builder = builder.authenticator(authenticator);
        }
        let router = builder.start().expect("a router starts on loopback");
        let (_, address) = router.listeners()[0];
        let canaries = Canaries::default();
        let baseline = Sizes::default();
        let mut world = Self { router, facts, address, baseline, audit, canaries, _turn: turn };
        world.start_canaries();
        world.baseline = Sizes { connections: 1, homes: 2, replicas: 0, subscribers: 3, live: 2 };
        world
    }

    /// A connection to the shard that is attacked.
    pub(crate) fn peer(&self) -> Peer {
        self.peer_on(HERE)
    }

    /// A connection to this shard: the system spreads them, so it may take a few.
    pub(crate) fn peer_on(&self, shard: ShardId) -> Peer {
        for _ in 0..200 {
            let mark = self.facts.count();
            let mut peer = Peer::connect(self.address);
            let local = peer.socket.local_addr().expect("it is connected");
            let open = self.facts.wait("that a connection is accepted", |facts| {
                let mut new = facts.iter().skip(mark);
                new.find(|fact| {
                    let peer = fact.who.as_ref().and_then(|who| who.peer);
                    fact.kind == FactKind::ConnectionOpen && peer == Some(local)
                })
                .cloned()
            });
            peer.id = open.who.expect("a connection is somebody's").connection;
            if open.shard == shard {
                return peer;
            }
            let id = peer.id;
            drop(peer);
            if self.facts.keeps {
                self.facts.close_of(id);
            }
        }
        panic!("no connection comes to shard {shard}");
    }

    pub(crate) fn publish_on(&self, shard: ShardId, name: &str) -> Publisher {
        let options = PublishOptions { shard: Some(shard), ..PublishOptions::default() };
        self.router.publish(&key(name), options).expect("the name is free")
    }

    pub(crate) fn subscribe_on(&self, shard: ShardId, name: &str) -> Subscription {
        let options = SubscribeOptions { shard: Some(shard), ring_slots: 4096, ..SubscribeOptions::default() };
        self.router.subscribe(&key(name), options).expect("the stream is there")
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let stats = self.router.stats();
        assert_eq!(stats.len(), 2, "a shard hangs");
        Sizes {
            connections: stats.iter().map(|shard| shard.connections).sum(),
            homes: stats.iter().map(|shard| shard.homes).sum(),
            replicas: stats.iter().map(|shard| shard.replicas).sum(),
            subscribers: stats.iter().map(|shard| shard.subscribers).sum(),
            live: self.router.streams().len(),
        }
    }

    /// Waits until the sizes are these; if they do not become so, what they are.
    pub(crate) fn settles_at(&self, sizes: &Sizes) -> Result<(), String> {
        let end = now() + SOON;
        loop {
            let current = self.sizes();
            if current == *sizes {
                return Ok(());
            }
            if now() > end {
                return Err(format!("{current:?}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn counters(&self) -> Vec<Counters> {
        self.router.stats().into_iter().map(|shard| shard.counters).collect()
    }

    /// Ends everything, and looks whether the canaries, the records and the counters are as they must be.
    pub(crate) fn finish(self) {
        let _ = self.finish_with_records();
    }

    /// The same, and what the trail has.
    pub(crate) fn finish_with_records(mut self) -> Vec<Record> {
        self.canaries.finish();
        assert_eq!(self.settles_at(&Sizes::default()), Ok(()), "something is left");
        let counters = self.counters();
        assert!(counters.iter().all(|shard| shard.session_panics == 0), "a session panicked: {counters:#?}");
        let report = self.router.stop(SOON);
        assert!(report.drained, "the router does not end in time");
        assert_eq!(report.audit.attempted, report.audit.written + report.audit.lost);
        assert_eq!(report.audit.lost, 0, "the trail has lost records");
        self.facts.check();
        let records = self.audit.records();
        if self.facts.keeps {
            let is_close = |fact: &Fact| fact.kind == FactKind::ConnectionClose;
            let told = self.facts.look(|facts| facts.iter().filter(|fact| is_close(fact)).count());
            let written = records.iter().filter(|r| matches!(&r.entry, Entry::Fact(fact) if is_close(fact))).count();
            assert_eq!(written, told, "the trail has not what was told");
        }
        records
    }

    fn start_canaries(&mut self) {
        let stop = Arc::clone(&self.canaries.stop);
        let near = self.publish_on(HERE, "canary/near");
        let far = self.publish_on(THERE, "canary/far");
        for publisher in [near, far] {
            let stop = Arc::clone(&stop);
            self.canaries.publishers.push(std::thread::spawn(move || sing(publisher, &stop)));
        }
        for (shard, stream, name) in [
            (HERE, "canary/near", "the subscriber on the attacked shard"),
            (THERE, "canary/far", "the subscriber on the other shard"),
        ] {
            let subscription = self.subscribe_on(shard, stream);
            self.canaries.listeners.push(std::thread::spawn(move || listen(subscription, name)));
        }
        let mut player = self.peer();
        player.send(&peer::player("canary", "near"));
        self.canaries.listeners.push(std::thread::spawn(move || watch(player)));
        // The canaries sing before anything happens.
        let near = key("canary/near");
        wait_for("the canaries", || {
            self.router.inspect(&near).filter(|info| info.frames > 0 && info.subscribers == 2).map(|_| ())
        });
    }
}

/// Lets everybody in, save that it never answers whoever asks for a stream named `silent`.
#[derive(Debug, Default)]
pub(crate) struct Silent(Mutex<Vec<AuthReply>>);

impl Silent {
    /// How many have asked in vain.
    pub(crate) fn asked(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Authenticator for Silent {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        if request.key.name() == "silent" {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
        } else {
            reply.allow(None);
        }
    }
}

/// Facts as they were told.
#[derive(Default)]
pub(crate) struct Facts {
    keeps: bool,
    opened: AtomicU64,
    closed: AtomicU64,
    kept: Mutex<Vec<Fact>>,
    changed: Condvar,
}

impl Observer for Facts {
    fn on_fact(&self, fact: &Fact) {
        match fact.kind {
            FactKind::ConnectionOpen => self.opened.fetch_add(1, Ordering::Relaxed),
            FactKind::ConnectionClose => self.closed.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        // One that keeps nothing still keeps what nobody wants to see.
        if self.keeps || matches!(fact.kind, FactKind::ShardPanic | FactKind::ShardStall | FactKind::ConnectionOpen) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(fact.clone());
            self.changed.notify_all();
        }
    }
}

impl Facts {
    pub(crate) fn count(&self) -> usize {
        self.look(<[Fact]>::len)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Fact]) -> T) -> T {
        look(&self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the facts show something, and panics with what was awaited.
    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut(&[Fact]) -> Option<T>) -> T {
        let end = now() + SOON;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&kept) {
                return found;
            }
            let left = end.since(now());
            assert!(!left.is_zero(), "waited in vain: {what}");
            kept = self.changed.wait_timeout(kept, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The end of a connection, when it comes.
    pub(crate) fn close_of(&self, id: ConnectionId) -> Fact {
        self.wait(&format!("that connection {id} is closed"), |facts| {
            facts.iter().rev().find(|fact| fact.kind == FactKind::ConnectionClose && is_of(fact, id)).cloned()
        })
    }

    /// What was told of a connection since there were `mark` facts.
    pub(crate) fn of(&self, id: ConnectionId, mark: usize) -> Vec<Fact> {
        self.look(|facts| facts.iter().skip(mark).filter(|fact| is_of(fact, id)).cloned().collect())
    }

    /// All facts of a kind about a stream.
    pub(crate) fn about(&self, kind: FactKind, stream: &str) -> Vec<Fact> {
        self.look(|facts| {
            let mut found = facts.to_vec();
            found.retain(|f| f.kind == kind && f.stream.as_ref().is_some_and(|key| key.as_str() == stream));
            found
        })
    }

    /// No shard failed, and every connection has exactly one end.
    fn check(&self) {
        self.look(|facts| {
            for kind in [FactKind::ShardPanic, FactKind::ShardStall] {
                assert!(facts.iter().all(|fact| fact.kind != kind), "{} was told", kind.name());
            }
            let ids = |kind| {
                let of_kind = facts.iter().filter(|fact| fact.kind == kind);
                let mut ids: Vec<_> = of_kind.filter_map(|f| f.who.as_ref()).map(|who| who.connection).collect();
                ids.sort_unstable();
                ids
            };
            if self.keeps {
                let (opened, closed) = (ids(FactKind::ConnectionOpen), ids(FactKind::ConnectionClose));
                assert_eq!(opened, closed, "not exactly one end of each connection");
            }
            let (opened, closed) = (self.opened.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed));
            assert_eq!(opened, closed, "not one end of each connection");
        });
    }
}

fn is_of(fact: &Fact, id: ConnectionId) -> bool {
    fact.who.as_ref().is_some_and(|who| who.connection == id)
}

/// Streams whose frames are numbered, and those who count them.
#[derive(Default)]
struct Canaries {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<u64>>,
    listeners: Vec<JoinHandle<Heard>>,
}

/// What one listener heard.
struct Heard {
    name: &'static str,
    next: Option<u64>,
    wrong: Vec<String>,
    delays: Vec<Duration>,
}

impl Canaries {
    fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let sung: Vec<u64> = self.publishers.drain(..).map(|thread| thread.join().expect("it sings")).collect();
        for thread in self.listeners.drain(..) {
            let mut heard = thread.join().expect("it listens");
            let all = if heard.name.contains("other") { sung[1] } else { sung[0] };
            assert!(heard.wrong.is_empty(), "{}: {}", heard.name, heard.wrong.join(", "));
            assert_eq!(heard.next, Some(all), "{} has not heard the last frames", heard.name);
            heard.delays.sort_unstable();
            let slow = heard.delays[heard.delays.len() * 99 / 100];
            assert!(slow < DELAY_P99, "{} hears late: {slow:?}", heard.name);
        }
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn sing(mut publisher: Publisher, stop: &AtomicBool) -> u64 {
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let mut payload = vec![0; 400];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        payload[8..16].copy_from_slice(&now().0.to_be_bytes());
        let time = Timestamp::from_millis(i64::try_from(number * 5).expect("a short test"));
        let mut frame = Frame::video(Codec::H264, number.is_multiple_of(50), time, time, Bytes::from(payload));
        loop {
            match publisher.send(frame) {
                Ok(()) => break,
                Err(shardcast::router::SendError::Full(back)) => frame = back,
                // No listener hears so many.
                Err(shardcast::router::SendError::Ended(..)) => return u64::MAX,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        number += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    publisher.end();
    number
}

impl Heard {
    const fn new(name: &'static str) -> Self {
        Self { name, next: None, wrong: Vec::new(), delays: Vec::new() }
    }

    fn frame(&mut self, payload: &[u8]) {
        let number = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().expect("eight bytes"));
        let got = number(0);
        if self.next.is_some_and(|next| next != got) {
            self.wrong.push(format!("frame {got} in the place of {:?}", self.next));
        }
        self.next = Some(got + 1);
        self.delays.push(now().since(Instant(number(8))));
    }
}

fn listen(mut subscription: Subscription, name: &'static str) -> Heard {
    let mut heard = Heard::new(name);
    loop {
        match subscription.recv_timeout(SOON) {
            Some(Delivery::Frame(frame)) => heard.frame(&frame.payload),
            Some(Delivery::Gap(frames)) => heard.wrong.push(format!("a gap of {frames}")),
            Some(Delivery::End(_)) => return heard,
            None => {
                heard.wrong.push("silence".into());
                return heard;
            }
        }
    }
}

fn watch(mut player: Peer) -> Heard {
    let mut heard = Heard::new("the RTMP player");
    while let Some(payload) = player.video(SOON) {
        heard.frame(&payload);
    }
    heard
}

/// The fault list asks for 5 ms on a machine that does nothing else; this only finds who holds a shard up.
const DELAY_P99: Duration = Duration::from_millis(500);
