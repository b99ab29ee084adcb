//! One shard on this thread in a world that costs nothing and is the same in every run: time moves when it is moved,
//! sockets take everything.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};
use parking_lot::RwLock;
use shardcast::audit::AuditPipeline;
use shardcast::clock::{Clock, Instant, Now, Wall};
use shardcast::extension::{AllowAll, Credentials, FrameSink};
use shardcast::id::{ConnectionId, ShardId, StreamKey};
use shardcast::limits::Limits;
use shardcast::media::Frame;
use shardcast::net::{Accepted, Ready};
use shardcast::protocol::rtmp::Rtmp;
use shardcast::protocol::{
    Input, Merge, Output, Packetizer, PlayOptions, PlayRequest, Protocol, Session, SessionContext,
};
use shardcast::reason::Reason;
use shardcast::ring::{Doorbell, Producer, Wake, ring};
use shardcast::shard::{
    Attach, Beat, Command, Config, Counters, Env, EventHub, Gauges, HostPublish, Idle, Message, PackedFrame, Parts,
    Post, Shard, Shared, mesh,
};
use shardcast::stream::{AppSpec, Directory};

/// Message stream 1, no multitrack.
pub(crate) const FORMAT: u32 = 2;
/// From one frame to the next: 73 a second.
pub(crate) const PERIOD_NS: u64 = 13_700_000;
/// The same.
pub(crate) const PERIOD: Duration = Duration::from_nanos(PERIOD_NS);

/// A shard, and its host.
pub(crate) struct World {
    shard: Shard<NullEnv>,
    commands: Sender<Command>,
    publisher: Producer<Message<Reason>>,
    now: Now,
    next_connection: u64,
    /// It has a thread of its own, whose instructions are not counted.
    _audit: AuditPipeline,
}

impl World {
    /// A shard on which a stream is published, and played by so many players over RTMP.
    pub(crate) fn new(players: u32, merge: Merge) -> Self {
        let (commands, orders) = unbounded();
        let doorbell = Doorbell::new(NoWake);
        let mut limits = Limits::default();
        limits.accepts_per_second = u32::MAX;
        let shared = Arc::new(Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(Arc::new(AllowAll)),
            observers: Vec::new(),
            observes_frames: false,
            protocols: vec![Arc::new(PlaysAtOnce)],
            listeners: vec![0],
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: vec![Post::new(commands.clone(), doorbell.clone())],
            beats: vec![Beat::default()],
        });
        let audit = AuditPipeline::start(Vec::new(), 1024, Clock::start());
        let now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
        let shard = Shard::new(Parts {
            id: ShardId(0),
            env: NullEnv { now, knocking: players },
            idle: Idle::Spin,
            mesh: mesh(std::slice::from_ref(&doorbell)).remove(0),
            doorbell,
            commands: orders,
            shared,
            config: Arc::new(Config {
                limits,
                apps: vec![Arc::new(AppSpec::new("*").merge(merge))],
                ..Config::default()
            }),
            audit: audit.producer(0),
            next_connection: 0,
        });
        let (publisher, frames) = ring(1024);
        let mut world = Self { shard, commands, publisher, now, next_connection: 1, _audit: audit };
        let (events, _) = bounded(4);
        let (reply, answer) = bounded(1);
        let connection = world.new_connection();
        let publish = HostPublish { key: key(), credentials: None, connection, backup: false, frames, events, reply };
        world.command(Command::Publish(Box::new(publish)));
        answer.try_recv().expect("answered in its turn").expect("nobody else publishes");
        world.settle();
        assert_eq!(world.counters().accepted, u64::from(players));
        world
    }

    /// Attaches a sink to the stream.
    pub(crate) fn attach(&mut self, sink: Box<dyn FrameSink>) {
        let (reply, answer) = bounded(1);
        let connection = self.new_connection();
        let attach = Attach { key: key(), connection, options: PlayOptions::instant(), sink, reply };
        self.command(Command::Attach(Box::new(attach)));
        answer.try_recv().expect("answered in its turn").expect("it may");
    }

    /// Hands a frame to the publisher's ring.
    #[inline]
    pub(crate) fn send(&mut self, mut frame: Frame) {
        frame.origin = self.now.mono;
        assert!(self.publisher.push(Message::Frame(PackedFrame::pack(&frame, 0))).is_ok(), "the shard keeps up");
    }

    /// Lets time go by.
    #[inline]
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
    }

    /// One turn.
    #[inline]
    pub(crate) fn turn(&mut self) {
        self.shard.turn(self.now);
    }

    /// Turns until there is nothing to do.
    pub(crate) fn settle(&mut self) {
        while self.shard.turn(self.now) > 0 || self.shard.has_work() {}
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.shard.counters()
    }

    fn command(&mut self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the shard is there");
        self.turn();
    }

    fn new_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }
}

fn key() -> StreamKey {
    StreamKey::parse("live/instructions").expect("a valid name")
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

struct NullEnv {
    now: Now,
    knocking: u32,
}

/// Says one byte, then takes everything.
struct NullSocket {
    spoke: bool,
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
        Accepted::Connection(NullSocket { spoke: false }, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
    }

    fn register(&mut self, _: &mut NullSocket, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn recv(&mut self, socket: &mut NullSocket, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut socket.spoke, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[0] = 0;
        Ok(1)
    }

    fn send(&mut self, _: &mut NullSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn finish(&mut self, _: &mut NullSocket) {}

    fn close_listeners(&mut self) {}

    /// So that one frame in 64 is timed, as on average in life.
    fn random(&mut self) -> u64 {
        32
    }
}

/// RTMP without its handshake and commands: who sends a byte plays, and gets RTMP messages.
struct PlaysAtOnce;

impl Protocol for PlaysAtOnce {
    fn name(&self) -> &'static str {
        "instructions"
    }

    fn session(&self, _: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(PlayingSession(Vec::new()))
    }

    fn packetizer(&self, format: u32) -> Box<dyn Packetizer> {
        Rtmp.packetizer(format)
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
                format: FORMAT,
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
