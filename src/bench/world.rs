//! A shard alone in a world that costs nothing: time stands until it is moved, sockets take everything.
//!
//! Nothing but the shard's own work is left to be timed. Frames come through the ring of a host's publisher.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::RwLock;

use super::frames::{PERIOD_NS, is_right};
use crate::audit::AuditPipeline;
use crate::clock::{Clock, Instant, Now, Wall};
use crate::extension::{AllowAll, Credentials, FrameSink};
use crate::id::{ConnectionId, ShardId, StreamKey};
use crate::limits::Limits;
use crate::media::Frame;
use crate::net::{Accepted, Ready};
use crate::protocol::{Input, Output, Packetizer, PlayOptions, PlayRequest, Protocol, Session, SessionContext};
use crate::reason::Reason;
use crate::ring::{Doorbell, Producer, Wake, ring};
use crate::shard::{
    Attach, Beat, Command, Config, Counters, Env, EventHub, Gauges, HostPublish, Idle, Message, PackedFrame, Parts,
    Post, PublisherEvent, Shard, Shared, mesh,
};
use crate::stream::{AppSpec, Directory};

/// Slots of the publisher's ring: more than a turn takes.
pub(super) const RING_SLOTS: usize = 1024;
/// From one frame to the next.
const PERIOD: Duration = Duration::from_nanos(PERIOD_NS);
/// What a turn takes, for deadlines.
const MOMENT: Duration = Duration::from_micros(10);
/// The stream that players at once play.
const NAME: &str = "live/bench";

/// The world.
pub(super) struct NullEnv {
    now: Now,
    knocking: u32,
    /// The first bytes that each peer sends.
    hello: Bytes,
    payload_bytes: usize,
    took: Took,
}

/// What all sockets took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    /// Frames that were the next, and whole.
    pub(super) right: u64,
    pub(super) bytes: u64,
}

/// A peer that takes everything and checks that no frame is missing.
#[derive(Debug, Default)]
pub(super) struct NullSocket {
    heard: bool,
    /// The number of the frame that is to come next.
    next: u64,
}

impl NullEnv {
    /// So many peers knock, and say hello; they expect frames with payloads of this size.
    pub(super) const fn new(knocking: u32, hello: Bytes, payload_bytes: usize) -> Self {
        let now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
        Self { now, knocking, hello, payload_bytes, took: Took { right: 0, bytes: 0 } }
    }

    /// What the sockets took in all.
    pub(super) const fn took(&self) -> Took {
        self.took
    }
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
        Accepted::Connection(NullSocket::default(), peer)
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
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        // Head and payload of each frame.
        let (mut frames, mut right) = (0, true);
        for pair in slices.chunks(2) {
            right &= pair.get(1).is_some_and(|payload| is_right(payload, socket.next + frames, self.payload_bytes));
            frames += 1;
        }
        socket.next += frames;
        self.took.right += if right { frames } else { 0 };
        self.took.bytes += bytes as u64;
        Ok(bytes)
    }

    fn finish(&mut self, _: &mut NullSocket) {}

    fn close_listeners(&mut self) {}

    fn random(&mut self) -> u64 {
        1
    }
}

/// RTMP without its handshake and commands: who sends a byte plays, and gets RTMP messages.
pub(super) struct PlaysAtOnce;

impl Protocol for PlaysAtOnce {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn session(&self, _: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(PlayingSession(Vec::new()))
    }

    fn packetizer(&self, format: u32) -> Box<dyn Packetizer> {
        crate::protocol::rtmp::Rtmp.packetizer(format)
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
pub(super) struct Lone {
    pub(super) shard: Shard<NullEnv>,
    commands: Sender<Command>,
    publisher: Option<LonePublisher>,
    now: Now,
    next_connection: u64,
    _audit: AuditPipeline,
}

/// The host's end of a publish.
pub(super) struct LonePublisher {
    frames: Producer<Message<Reason>>,
    _events: Receiver<PublisherEvent>,
}

impl LonePublisher {
    #[inline]
    fn push(&mut self, mut frame: Frame, now: Instant) {
        frame.origin = now;
        assert!(self.frames.push(Message::Frame(PackedFrame::pack(&frame, 0))).is_ok(), "the shard keeps up");
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

pub(super) fn key() -> StreamKey {
    StreamKey::parse(NAME).expect("a valid name")
}

/// Who knocks at the listener of a lone shard.
pub(super) struct Peers {
    pub(super) count: u32,
    /// What each of them says.
    pub(super) hello: Bytes,
    pub(super) protocol: Arc<dyn Protocol>,
    /// Of the frames that they expect.
    pub(super) payload_bytes: usize,
}

impl Peers {
    /// Peers that play [`key`] at once, as RTMP players do.
    pub(super) fn playing(count: usize, payload_bytes: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self { count, hello: Bytes::from_static(b"p"), protocol: Arc::new(PlaysAtOnce), payload_bytes }
    }
}

impl Lone {
    /// A shard on which nothing is published, and at which nobody knocks.
    pub(super) fn new(spec: AppSpec) -> Self {
        Self::with_peers(spec, None)
    }

    /// A shard on which nothing is published.
    pub(super) fn with_peers(spec: AppSpec, peers: Option<Peers>) -> Self {
        let (commands, orders) = unbounded();
        let doorbell = Doorbell::new(NoWake);
        let listeners = peers.iter().map(|_| 0).collect();
        let protocols = peers.iter().map(|peers| Arc::clone(&peers.protocol)).collect();
        let env = match peers {
            Some(peers) => NullEnv::new(peers.count, peers.hello, peers.payload_bytes),
            None => NullEnv::new(0, Bytes::new(), 0),
        };
        let limits = Limits { accepts_per_second: u32::MAX, publishers: usize::MAX, ..Limits::default() };
        let shared = Arc::new(Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(Arc::new(AllowAll)),
            observers: Vec::new(),
            observes_frames: false,
            protocols,
            listeners,
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: vec![Post::new(commands.clone(), doorbell.clone())],
            beats: vec![Beat::default()],
        });
        let audit = AuditPipeline::start(Vec::new(), 1024, Clock::start());
        let now = env.now;
        let shard = Shard::new(Parts {
            id: ShardId(0),
            env,
            idle: Idle::Spin,
            mesh: mesh(std::slice::from_ref(&doorbell)).remove(0),
            doorbell,
            commands: orders,
            shared,
            config: Arc::new(Config { limits, apps: vec![Arc::new(spec)], ..Config::default() }),
            audit: audit.producer(0),
            next_connection: 0,
        });
        Self { shard, commands, publisher: None, now, next_connection: 1, _audit: audit }
    }

    /// Publishes the stream that [`Lone::send`] sends frames of.
    pub(super) fn publish(&mut self, key: StreamKey) {
        self.publisher = Some(self.publisher(key, RING_SLOTS));
    }

    /// Publishes a stream through a ring of this many slots.
    pub(super) fn publisher(&mut self, key: StreamKey, slots: usize) -> LonePublisher {
        let (frames, rx) = ring(slots);
        let (events_tx, events) = bounded(4);
        let (reply, answer) = bounded(1);
        let connection = self.new_connection();
        let request =
            HostPublish { key, credentials: None, connection, backup: false, frames: rx, events: events_tx, reply };
        self.command(Command::Publish(Box::new(request)));
        answer.try_recv().expect("answered in its turn").expect("nobody else publishes");
        LonePublisher { frames, _events: events }
    }

    /// Attaches a sink.
    pub(super) fn attach(&mut self, key: StreamKey, sink: Box<dyn FrameSink>) -> ConnectionId {
        let (reply, answer) = bounded(1);
        let connection = self.new_connection();
        let attach = Attach { key, connection, options: PlayOptions::instant(), sink, reply };
        self.command(Command::Attach(Box::new(attach)));
        answer.try_recv().expect("answered in its turn").expect("it may");
        connection
    }

    /// Gives the shard a command and the turn to obey it.
    pub(super) fn command(&mut self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the shard is there");
        self.turn();
    }

    /// Takes a sink off its stream.
    pub(super) fn detach(&mut self, connection: ConnectionId) {
        self.command(Command::Detach(connection));
    }

    /// Hands a frame to the publisher's ring, one period after the last.
    #[inline]
    pub(super) fn send(&mut self, frame: Frame) {
        self.now.mono = self.now.mono + PERIOD;
        let mono = self.now.mono;
        self.publisher.as_mut().expect("published").push(frame, mono);
    }

    /// Hands a frame to a further publisher's ring.
    pub(super) fn push(&mut self, publisher: &mut LonePublisher, frame: Frame) {
        publisher.push(frame, self.now.mono);
    }

    /// One turn, a moment after the last.
    #[inline]
    pub(super) fn turn(&mut self) -> usize {
        self.now.mono = self.now.mono + MOMENT;
        self.shard.turn(self.now)
    }

    /// Turns until a turn finds nothing to do.
    #[inline]
    pub(super) fn settle(&mut self) {
        while self.turn() > 0 || self.shard.has_work() {}
    }

    /// Ends the stream, and with it all its subscribers.
    pub(super) fn end(&mut self) {
        self.publisher = None;
        self.settle();
    }

    /// What the sockets took in all.
    pub(super) fn took(self) -> Took {
        self.shard.salvage().0.env.took()
    }

    pub(super) fn counters(&self) -> &Counters {
        self.shard.counters()
    }

    fn new_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }
}
