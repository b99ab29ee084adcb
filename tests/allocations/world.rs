//! One shard in a test's hand: a clock that the test moves, and peers that are bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use crossbeam_channel::{Sender, bounded};
use parking_lot::RwLock;
use shardcast::audit::AuditPipeline;
use shardcast::clock::{Clock, Instant, Now, Wall};
use shardcast::extension::{AllowAll, FrameSink, FrameSource, SinkVerdict};
use shardcast::id::{ConnectionId, ShardId, StreamKey};
use shardcast::media::Frame;
use shardcast::net::{Accepted, Ready, Source};
use shardcast::protocol::PlayOptions;
use shardcast::ring::{Doorbell, Wake};
use shardcast::shard::{
    Attach, Command, Config, Env, EventHub, Gauges, Idle, Parts, Post, RunSource, Shard, Shared, mesh,
};
use shardcast::stream::{AppSpec, Directory};

use crate::allocations;

/// What the shard sees of the world, and the test too.
#[derive(Default)]
struct Outside {
    now: Instant,
    knocking: usize,
    peers: Vec<Peer>,
    ready: Vec<Ready>,
}

#[derive(Default)]
struct Peer {
    /// What it has sent, and the shard has not read.
    sent: VecDeque<Bytes>,
    /// Under which slot the shard wants to hear of it.
    slot: usize,
    /// Bytes that it was sent.
    received: u64,
}

/// Peers take everything at once.
pub(crate) struct Open(Rc<RefCell<Outside>>);

impl Env for Open {
    type Socket = usize;

    fn now(&mut self) -> Now {
        let mono = self.0.borrow().now;
        Now { mono, wall: Wall(mono.0) }
    }

    fn instant(&mut self) -> Instant {
        self.0.borrow().now
    }

    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) {
        ready.append(&mut self.0.borrow_mut().ready);
    }

    fn accept(&mut self, _: usize) -> Accepted<usize> {
        let mut outside = self.0.borrow_mut();
        if outside.knocking == 0 {
            return Accepted::Empty;
        }
        outside.knocking -= 1;
        let socket = outside.peers.len() - outside.knocking - 1;
        Accepted::Connection(socket, SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn register(&mut self, socket: &mut usize, slot: usize) -> io::Result<()> {
        self.0.borrow_mut().peers[*socket].slot = slot;
        Ok(())
    }

    fn recv(&mut self, socket: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let mut outside = self.0.borrow_mut();
        let sent = &mut outside.peers[*socket].sent;
        let Some(bytes) = sent.front_mut() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let len = bytes.len().min(into.len());
        bytes.copy_to_slice(&mut into[..len]);
        if bytes.is_empty() {
            sent.pop_front();
        }
        Ok(len)
    }

    fn send(&mut self, socket: &mut usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        self.0.borrow_mut().peers[*socket].received += len as u64;
        Ok(len)
    }

    fn finish(&mut self, _: &mut usize) {}

    fn close_listeners(&mut self) {}

    fn random(&mut self) -> u64 {
        4
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// One shard with an RTMP listener, and everything around it.
pub(crate) struct World {
    pub(crate) shard: Shard<Open>,
    outside: Rc<RefCell<Outside>>,
    commands: Sender<Command>,
    next: u64,
    /// Allocations of the shard's turns.
    pub(crate) allocations: u64,
    _audit: AuditPipeline,
}

impl World {
    pub(crate) fn new() -> Self {
        let outside = Rc::new(RefCell::new(Outside::default()));
        let (commands, rx) = bounded(64);
        let doorbell = Doorbell::new(NoWake);
        let audit = AuditPipeline::start(Vec::new(), 64, Clock::start());
        let shared = Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(Arc::new(AllowAll)),
            observers: Vec::new(),
            observes_frames: false,
            protocols: vec![Arc::new(shardcast::protocol::rtmp::Rtmp)],
            listeners: vec![0],
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: vec![Post::new(commands.clone(), doorbell.clone())],
            beats: vec![Default::default()],
        };
        let parts = Parts {
            id: ShardId(0),
            env: Open(Rc::clone(&outside)),
            idle: Idle::Park,
            doorbell: doorbell.clone(),
            commands: rx,
            shared: Arc::new(shared),
            config: Arc::new(Config { apps: vec![Arc::new(AppSpec::new("*"))], ..Config::default() }),
            audit: audit.producer(0),
            mesh: mesh(&[doorbell]).remove(0),
            next_connection: 0,
        };
        Self { shard: Shard::new(parts), outside, commands, next: 1, allocations: 0, _audit: audit }
    }

    /// Turns until nothing is left to do now.
    pub(crate) fn settle(&mut self) {
        let before = allocations();
        while self.shard.step() > 0 || self.shard.has_work() {}
        self.allocations += allocations() - before;
    }

    /// Time passes, and the shard with it.
    pub(crate) fn pass(&mut self, time: Duration) {
        {
            let mut outside = self.outside.borrow_mut();
            outside.now = outside.now + time;
        }
        self.settle();
    }

    /// A source of the host on the shard.
    pub(crate) fn run(&mut self, name: &str, source: Box<dyn FrameSource>) {
        let (reply, answer) = bounded(1);
        let connection = self.connection();
        let run = RunSource { key: key(name), connection, source, reply };
        self.commands.send(Command::Source(Box::new(run))).expect("the shard takes commands");
        self.settle();
        answer.recv().expect("it is answered").expect("the name is free");
    }

    /// A sink that takes everything.
    pub(crate) fn attach(&mut self, name: &str) {
        let (reply, answer) = bounded(1);
        let connection = self.connection();
        let sink = Box::new(Taker { frames: 0 });
        let attach = Attach { key: key(name), connection, options: PlayOptions::instant(), sink, reply };
        self.commands.send(Command::Attach(Box::new(attach))).expect("the shard takes commands");
        self.settle();
        answer.recv().expect("it is answered").expect("the stream is there");
    }

    /// A peer connects and sends these bytes; its number.
    pub(crate) fn connect(&mut self, bytes: Bytes) -> usize {
        let peer = {
            let mut outside = self.outside.borrow_mut();
            outside.knocking += 1;
            outside.peers.push(Peer::default());
            let ready = Ready { source: Source::Listener(0), readable: true, writable: false, over: false };
            outside.ready.push(ready);
            outside.peers.len() - 1
        };
        self.settle();
        self.send(peer, bytes);
        peer
    }

    /// A peer sends bytes.
    pub(crate) fn send(&mut self, peer: usize, bytes: Bytes) {
        {
            let mut outside = self.outside.borrow_mut();
            let slot = outside.peers[peer].slot;
            outside.peers[peer].sent.push_back(bytes);
            let source = Source::Connection(slot);
            outside.ready.push(Ready { source, readable: true, writable: false, over: false });
        }
        self.settle();
    }

    pub(crate) fn received(&self, peer: usize) -> u64 {
        self.outside.borrow().peers[peer].received
    }

    fn connection(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId((0xffff << 48) | self.next)
    }
}

pub(crate) fn key(name: &str) -> StreamKey {
    StreamKey::parse(name).expect("a good name")
}

/// Its box is the least that a sink with any state has.
pub(crate) struct Taker {
    pub(crate) frames: u64,
}

impl FrameSink for Taker {
    fn on_frame(&mut self, _: &Frame) -> SinkVerdict {
        self.frames += 1;
        SinkVerdict::Taken
    }
}
