//! A shard alone in a world that costs nothing: time stands until it is moved, sockets take everything.
//!
//! Nothing but the shard's own work is left to be timed. Frames come through the ring of a host's publisher.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
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

use super::{PAYLOAD_BYTES, PERIOD_NS, sequence_of, wrapped};

/// Slots of the publisher's ring: more than a turn takes.
pub(crate) const RING_SLOTS: usize = 1024;
/// From one frame to the next.
const PERIOD: Duration = Duration::from_nanos(PERIOD_NS);
/// What a turn takes, for deadlines.
const MOMENT: Duration = Duration::from_micros(10);
/// The stream that players at once play.
const NAME: &str = "live/bench";

/// The world.
pub(crate) struct NullEnv {
    now: Now,
    knocking: u32,
    /// The first bytes that each peer sends.
    hello: bytes::Bytes,
    took: Took,
}

/// What all sockets took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    /// Frames that were the next, and whole.
    pub(crate) right: u64,
    pub(crate) bytes: u64,
}

/// A peer that takes everything and checks that no frame is missing.
#[derive(Debug, Default)]
pub(crate) struct NullSocket {
    heard: bool,
    /// The number of the frame that is to come next.
    next: u64,
}

impl NullEnv {
    /// So many peers knock, and say hello.
    pub(crate) const fn new(knocking: u32, hello: bytes::Bytes) -> Self {
        let now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
        Self { now, knocking, hello, took: Took { right: 0, bytes: 0 } }
    }

    /// What the sockets took in all.
    pub(crate) const fn took(&self) -> Took {
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
        // Head and payload of each frame: if the last is as many further as there are, none is missing.
        let frames = slices.len() as u64 / 2;
        let next = wrapped(socket.next + frames);
        let last = slices.last().filter(|payload| payload.len() == PAYLOAD_BYTES);
        let right = last.and_then(|payload| sequence_of(payload)) == Some(wrapped(next + 255));
        socket.next = next;
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
    commands: Sender<Command>,
    publisher: Option<LonePublisher>,
    now: Now,
    next_connection: u64,
    _audit: AuditPipeline,
}

/// The host's end of a publish.
pub(crate) struct LonePublisher {
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
        limits.publishers = usize::MAX;
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
        let env = NullEnv::new(players, hello);
        let now = env.now;
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
        Self { shard, commands, publisher: None, now, next_connection: 1, _audit: audit }
    }

    /// Publishes the stream that [`Lone::send`] sends frames of.
    pub(crate) fn publish(&mut self, key: StreamKey) {
        self.publisher = Some(self.publisher(key, RING_SLOTS));
    }

    /// Publishes a stream through a ring of this many slots.
    pub(crate) fn publisher(&mut self, key: StreamKey, slots: usize) -> LonePublisher {
        let (frames, rx) = ring(slots);
        let (events_tx, events) = bounded(4);
        let (reply, answer) = bounded(1);
        let connection = self.new_connection();
        let request = HostPublish { key, credentials: None, connection, frames: rx, events: events_tx, reply };
        self.command(Command::Publish(Box::new(request)));
        answer.try_recv().expect("answered in its turn").expect("nobody else publishes");
        LonePublisher { frames, _events: events }
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

    /// Takes a sink off its stream.
    pub(crate) fn detach(&mut self, connection: ConnectionId) {
        self.command(Command::Detach(connection));
    }

    /// Hands a frame to the publisher's ring, one period after the last.
    #[inline]
    pub(crate) fn send(&mut self, frame: Frame) {
        self.now.mono = self.now.mono + PERIOD;
        let mono = self.now.mono;
        self.publisher.as_mut().expect("published").push(frame, mono);
    }

    /// Hands a frame to a further publisher's ring.
    pub(crate) fn push(&mut self, publisher: &mut LonePublisher, frame: Frame) {
        publisher.push(frame, self.now.mono);
    }

    /// One turn, a moment after the last.
    #[inline]
    pub(crate) fn turn(&mut self) -> usize {
        self.now.mono = self.now.mono + MOMENT;
        self.shard.turn(self.now)
    }

    /// Turns until a turn finds nothing to do.
    #[inline]
    pub(crate) fn settle(&mut self) {
        while self.turn() > 0 || self.shard.has_work() {}
    }

    /// Ends the stream, and with it all its subscribers.
    pub(crate) fn end(&mut self) {
        self.publisher = None;
        self.settle();
    }

    /// What the sockets took in all.
    pub(crate) fn took(self) -> Took {
        self.shard.salvage().0.env.took()
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.shard.counters()
    }

    fn new_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }
}
