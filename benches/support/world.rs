//! A shard alone in a world that costs nothing: time stands until it is moved, sockets take everything.
//!
//! Nothing but the shard's own work is left to be timed. Frames come through the ring of a host's publisher.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::RwLock;
use shardcast::audit::AuditPipeline;
use shardcast::clock::{Clock, Instant, Now, Wall};
use shardcast::extension::{AllowAll, Credentials, FrameSink};
use shardcast::id::{ConnectionId, ShardId, StreamKey};
use shardcast::limits::Limits;
use shardcast::media::Frame;
use shardcast::net::{Accepted, Ready};
use shardcast::protocol::{Input, Output, Packetizer, PlayOptions, PlayRequest, Protocol, Session, SessionContext};
use shardcast::reason::Reason;
use shardcast::ring::{Doorbell, Producer, Wake, ring};
use shardcast::shard::{
    Attach, Beat, Command, Config, Counters, Env, EventHub, Gauges, HostPublish, Idle, Message, PackedFrame, Parts,
    Post, PublisherEvent, Shard, Shared, mesh,
};
use shardcast::stream::{AppSpec, Directory};

use super::{PAYLOAD_BYTES, sequence_of};

/// Slots of the publisher's ring: more than a turn takes.
const RING_SLOTS: usize = 1024;
/// The first turns of a lone shard let this many players in.
const NAME: &str = "live/bench";

/// The world.
pub(crate) struct NullEnv {
    now: Now,
    knocking: u32,
    /// The first bytes that each peer sends.
    hello: bytes::Bytes,
    totals: Rc<Totals>,
}

/// What all sockets took and found right.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Frames that were right.
    pub(crate) right: Cell<u64>,
    pub(crate) sends: Cell<u64>,
    pub(crate) bytes: Cell<u64>,
}

/// A peer that takes everything and checks that no frame is missing.
#[derive(Debug)]
pub(crate) struct NullSocket {
    heard: bool,
    next: Option<u64>,
}

impl Env for NullEnv {
    type Socket = NullSocket;

    fn now(&mut self) -> Now {
        self.now
    }

    fn instant(&mut self) -> Instant {
        self.now.mono
    }

    fn wait(&mut self, _: Option<Duration>, _: &mut Vec<Ready>) {}

    fn accept(&mut self, _: usize) -> Accepted<NullSocket> {
        if self.knocking == 0 {
            return Accepted::Empty;
        }
        self.knocking -= 1;
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Accepted::Connection(NullSocket { heard: false, next: None }, peer)
    }

    fn register(&mut self, _: &mut NullSocket, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn recv(&mut self, socket: &mut NullSocket, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut socket.heard, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..self.hello.len()].copy_from_slice(&self.hello);
        Ok(self.hello.len())
    }

    #[inline]
    fn send(&mut self, socket: &mut NullSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let totals = &*self.totals;
        let (mut bytes, mut right) = (0, 0);
        for slice in slices {
            bytes += slice.len();
            // Heads are far shorter than payloads.
            if slice.len() == PAYLOAD_BYTES {
                let number = sequence_of(slice);
                let expected = socket.next.or(number);
                right += u64::from(number == expected);
                socket.next = expected.map(|next| (next + 1) % 256);
            }
        }
        totals.right.set(totals.right.get() + right);
        totals.sends.set(totals.sends.get() + 1);
        totals.bytes.set(totals.bytes.get() + bytes as u64);
        Ok(bytes)
    }

    fn finish(&mut self, _: &mut NullSocket) {}

    fn close_listeners(&mut self) {}

    fn random(&mut self) -> u64 {
        1
    }
}

/// RTMP without its handshake and commands: who sends a byte plays, and gets RTMP messages.
#[cfg(feature = "rtmp")]
pub(crate) struct PlaysAtOnce;

#[cfg(feature = "rtmp")]
impl Protocol for PlaysAtOnce {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn session(&self, _: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(PlayingSession(Vec::new()))
    }

    fn packetizer(&self, format: u32) -> Box<dyn Packetizer> {
        shardcast::protocol::rtmp::Rtmp.packetizer(format)
    }
}

struct PlayingSession(Vec<Output>);

impl Session for PlayingSession {
    fn handle(&mut self, _: Now, input: Input) -> Result<(), Reason> {
        if matches!(input, Input::Bytes(_)) {
            let request = PlayRequest {
                handle: 1,
                key: key(),
                credentials: Credentials::default(),
                // Message stream 1, no multitrack.
                format: 2,
                options: PlayOptions::instant(),
            };
            self.0 = vec![Output::Play(Box::new(request)), Output::Established];
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.0.pop()
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        None
    }
}

/// One shard, its host and its publisher, on one thread.
pub(crate) struct Lone {
    pub(crate) shard: Shard<NullEnv>,
    pub(crate) totals: Rc<Totals>,
    commands: Sender<Command>,
    frames: Option<Producer<Message<Reason>>>,
    events: Option<Receiver<PublisherEvent>>,
    now: Now,
    next_connection: u64,
    _audit: AuditPipeline,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

pub(crate) fn key() -> StreamKey {
    StreamKey::parse(NAME).expect("a valid name")
}

impl Lone {
    /// A shard on which nothing is published; `players` knock at its listener for `protocol` and send `hello`.
    pub(crate) fn new(spec: AppSpec, players: u32, hello: bytes::Bytes, protocol: Option<Arc<dyn Protocol>>) -> Self {
        let (commands, orders) = unbounded();
        let doorbell = Doorbell::new(NoWake);
        let listeners = protocol.iter().enumerate().map(|(index, _)| index).collect();
        let mut limits = Limits::default();
        limits.accepts_per_second = u32::MAX;
        let shared = Arc::new(Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(Arc::new(AllowAll)),
            observers: Vec::new(),
            observes_frames: false,
            protocols: protocol.into_iter().collect(),
            listeners,
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: vec![Post::new(commands.clone(), doorbell.clone())],
            beats: vec![Beat::default()],
        });
        let audit = AuditPipeline::start(Vec::new(), 1024, Clock::start());
        let totals = Rc::new(Totals::default());
        let now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
        let env = NullEnv { now, knocking: players, hello, totals: Rc::clone(&totals) };
        let shard = Shard::new(Parts {
            id: ShardId(0),
            env,
            idle: Idle::Spin,
            mesh: mesh(std::slice::from_ref(&doorbell)).remove(0),
            doorbell,
            commands: orders,
            shared,
            config: Arc::new(Config { limits, apps: vec![Arc::new(spec)] }),
            audit: audit.producer(0),
            next_connection: 0,
        });
        Self { shard, totals, commands, frames: None, events: None, now, next_connection: 1, _audit: audit }
    }

    /// Publishes the stream.
    pub(crate) fn publish(&mut self, key: StreamKey) {
        let (tx, rx) = ring(RING_SLOTS);
        let (events_tx, events) = bounded(4);
        let (reply, answer) = bounded(1);
        let connection = self.new_connection();
        let request = HostPublish { key, credentials: None, connection, frames: rx, events: events_tx, reply };
        self.command(Command::Publish(Box::new(request)));
        answer.try_recv().expect("answered in its turn").expect("nobody else publishes");
        (self.frames, self.events) = (Some(tx), Some(events));
    }

    /// Attaches a sink.
    pub(crate) fn attach(&mut self, key: StreamKey, sink: Box<dyn FrameSink>) -> ConnectionId {
        let (reply, answer) = bounded(1);
        let connection = self.new_connection();
        let attach = Attach { key, connection, options: PlayOptions::instant(), sink, reply };
        self.command(Command::Attach(Box::new(attach)));
        answer.try_recv().expect("answered in its turn").expect("it may");
        connection
    }

    /// Gives the shard a command and the turn to obey it.
    pub(crate) fn command(&mut self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the shard is there");
        self.turn();
    }

    /// Hands a frame to the publisher's ring.
    #[inline]
    pub(crate) fn send(&mut self, mut frame: Frame) {
        frame.origin = self.now.mono;
        let frames = self.frames.as_mut().expect("published");
        assert!(frames.push(Message::Frame(PackedFrame::pack(&frame, 0))).is_ok(), "the shard keeps up");
    }

    /// One turn, a millisecond after the last.
    #[inline]
    pub(crate) fn turn(&mut self) -> usize {
        self.now.mono = self.now.mono + Duration::from_millis(1);
        self.shard.turn(self.now)
    }

    /// Turns until a turn finds nothing to do.
    #[inline]
    pub(crate) fn settle(&mut self) {
        while self.turn() > 0 || self.shard.has_work() {}
    }

    /// Ends the stream, and with it all its subscribers.
    pub(crate) fn end(&mut self) {
        self.frames = None;
        self.settle();
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.shard.counters()
    }

    fn new_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }
}
