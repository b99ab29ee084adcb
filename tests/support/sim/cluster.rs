//! N shards on one thread: which of them steps next is up to the caller; a parked one steps only if something woke it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::RwLock;
use shardcast::audit::AuditPipeline;
use shardcast::clock::Instant;
use shardcast::extension::Observer;
use shardcast::id::ShardId;
use shardcast::protocol::Protocol;
use shardcast::ring::Doorbell;
use shardcast::shard::{
    Beat, Command, Config, EventHub, Gauges, Idle, Parts, Post, Shard, ShardStats, Shared, mesh_with,
};
use shardcast::stream::Directory;

use super::auth::Porter;
use super::book::{BookRef, Scribe};
use super::env::{Clocks, SimEnv};
use super::host::{Bell, SINK_EXPLOSION};
use super::net::{Card, NetRef};
use super::proto::Plain;
use super::rng::Rng;

pub struct Cluster {
    pub shared: Arc<Shared>,
    pub seats: Vec<Seat>,
    pub clocks: Clocks,
    pub net: NetRef,
    pub porter: Porter,
    book: BookRef,
}

/// Where a shard runs.
pub struct Seat {
    /// `None` when it is drained.
    shard: Option<Shard<SimEnv>>,
    pub post: Post,
    doorbell: Doorbell,
    bell: Bell,
    parked: bool,
    wake_at: u64,
    /// It does not step before: its core is busy elsewhere.
    pub paused_until: u64,
}

impl Cluster {
    #[expect(clippy::too_many_arguments, reason = "made in one place")]
    pub fn new(
        count: usize,
        ring_slots: usize,
        config: &Arc<Config>,
        net: &NetRef,
        clocks: &Clocks,
        book: &BookRef,
        porter: Porter,
        audit: &AuditPipeline,
        rng: &mut Rng,
    ) -> Self {
        let (mut posts, mut bells, mut receivers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let bell = Bell::default();
            let (tx, rx) = bounded(1024);
            posts.push(Post::new(tx, Doorbell::new(bell.clone())));
            bells.push(bell);
            receivers.push(rx);
        }
        let doorbells: Vec<Doorbell> = posts.iter().map(|post| post.doorbell().clone()).collect();
        let protocols = protocols();
        let shared = Arc::new(Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(Arc::new(porter.clone())),
            observers: vec![Arc::new(Scribe(Arc::clone(book))) as Arc<dyn Observer>],
            observes_frames: true,
            listeners: (0..protocols.len()).collect(),
            protocols,
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: posts.clone(),
            beats: (0..count).map(|_| Beat::default()).collect(),
        });
        let mut seats = Vec::new();
        let rings = mesh_with(&doorbells, ring_slots);
        for (index, (commands, mesh)) in receivers.into_iter().zip(rings).enumerate() {
            let card = Card { net: net.clone(), shard: index };
            let shard = Shard::new(Parts {
                id: ShardId(u16::try_from(index).expect("few shards")),
                env: SimEnv { card, clocks: clocks.clone(), rng: rng.fork() },
                idle: Idle::Park,
                doorbell: doorbells[index].clone(),
                commands,
                shared: Arc::clone(&shared),
                config: Arc::clone(config),
                audit: audit.producer(u16::try_from(index).expect("few shards")),
                mesh,
                next_connection: 0,
            });
            seats.push(Seat {
                shard: Some(shard),
                post: posts[index].clone(),
                doorbell: doorbells[index].clone(),
                bell: bells[index].clone(),
                parked: false,
                wake_at: 0,
                paused_until: 0,
            });
        }
        Self { shared, seats, clocks: clocks.clone(), net: net.clone(), porter, book: Arc::clone(book) }
    }

    /// Whether a shard would take a turn now.
    pub fn is_runnable(&self, index: usize, now: u64) -> bool {
        let seat = &self.seats[index];
        let up = seat.shard.is_some() && seat.paused_until <= now;
        up && (!seat.parked
            || seat.bell.0.load(std::sync::atomic::Ordering::Relaxed)
            || seat.wake_at <= now
            || self.net.borrow().has_events(index))
    }

    /// When the next shard wants its turn although nothing happens.
    pub fn due(&self, now: u64) -> u64 {
        let due = |seat: &Seat| {
            if seat.shard.is_none() {
                u64::MAX
            } else if seat.paused_until > now {
                seat.paused_until
            } else {
                seat.wake_at
            }
        };
        self.seats.iter().map(due).min().unwrap_or(u64::MAX)
    }

    /// One turn, as `Shard::run` takes it.
    pub fn step(&mut self, index: usize) {
        let now = self.clocks.mono.get();
        let seat = &mut self.seats[index];
        let Some(shard) = &mut seat.shard else { return };
        if std::mem::take(&mut seat.parked) {
            seat.bell.0.store(false, std::sync::atomic::Ordering::Relaxed);
            seat.doorbell.awake();
        }
        self.net.borrow_mut().looks = 0;
        match catch_unwind(AssertUnwindSafe(|| shard.step())) {
            Ok(0) => {
                seat.doorbell.announce_sleep();
                if shard.has_work() {
                    seat.doorbell.awake();
                } else {
                    seat.parked = true;
                    let retry = shard.wants_retry().then(|| now + RETRY);
                    let deadline = shard.deadline().map(|Instant(at)| at);
                    seat.wake_at = retry.into_iter().chain(deadline).min().unwrap_or(u64::MAX);
                    if seat.wake_at <= now && retry.is_none() {
                        self.book.lock().trouble(format!("shard {index} has a timer in the past"));
                    }
                }
            }
            Ok(_) => {}
            Err(panic) => self.restart(index, &*panic),
        }
        let looks = self.net.borrow().looks;
        if looks > LOOKS_MOST {
            self.book.lock().trouble(format!("shard {index} looked {looks} times at its listeners in one turn"));
        }
        let seat = &mut self.seats[index];
        if seat.shard.as_ref().is_some_and(Shard::is_drained) {
            seat.shard = None;
        }
    }

    /// A fresh shard in the place of one that failed, as `router/builder.rs` does it.
    fn restart(&mut self, index: usize, panic: &(dyn std::any::Any + Send)) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        let mut book = self.book.lock();
        book.trace(|| format!("shard {index}: panics: {text}"));
        if text != ASKED_FOR && text != SINK_EXPLOSION {
            book.trouble(format!("shard {index} panicked: {text}"));
        }
        drop(book);
        let Some(failed) = self.seats[index].shard.take() else { return };
        let (parts, links) = failed.salvage();
        for (peer, link) in links {
            let _ = self.seats[usize::from(peer.0)].post.send(Command::Rewire(parts.id, Box::new(link)));
        }
        self.seats[index].shard = Some(Shard::new(parts));
    }

    pub fn is_drained(&self) -> bool {
        self.seats.iter().all(|seat| seat.shard.is_none())
    }

    /// Asks a shard for its state; the answer needs a turn of it.
    pub fn ask_stats(&self, index: usize) -> Option<crossbeam_channel::Receiver<ShardStats>> {
        let (reply, answer) = bounded(1);
        self.seats[index].post.send(Command::Stats(reply)).ok().map(|()| answer)
    }

    pub fn drain(&self, time: Duration) {
        self.shared.gauges.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        for seat in &self.seats {
            let _ = seat.post.send(Command::Drain(time));
        }
    }
}

fn protocols() -> Vec<Arc<dyn Protocol>> {
    vec![
        Arc::new(Plain),
        #[cfg(feature = "rtmp")]
        Arc::new(shardcast::protocol::rtmp::Rtmp),
    ]
}

/// Listeners of each shard.
pub const LISTENERS: usize = if cfg!(feature = "rtmp") { 2 } else { 1 };
/// How long a shard sleeps at most while a ring is full.
const RETRY: u64 = 2_000_000;
/// Looks at its listeners that one turn may take.
const LOOKS_MOST: u64 = 64 * LISTENERS as u64 + 8;
/// What `Command::Panic` says.
const ASKED_FOR: &str = "a failure was asked for";
