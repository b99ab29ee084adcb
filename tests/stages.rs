//! Where the time of a frame goes, to the nanosecond: two shards in a test's hand, a clock that moves when it is moved
//! and by what each send takes.
//!
//! Times are in units of 1,024 ns, in which origins cross from one thread to another.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use parking_lot::{Mutex, RwLock};
use shardcast::audit::AuditPipeline;
use shardcast::clock::{Clock, Instant, Now, Wall};
use shardcast::extension::{AllowAll, Credentials, FrameSink, SinkVerdict};
use shardcast::id::{ConnectionId, ShardId, StreamKey};
use shardcast::media::{Codec, Frame, FrameFlags, Timestamp};
use shardcast::net::{Accepted, Ready, Source};
use shardcast::protocol::{
    Body, Head, Input, Merge, Output, Packet, Packetizer, PlayOptions, PlayRequest, Protocol, Session, SessionContext,
};
use shardcast::reason::Reason;
use shardcast::ring::{Doorbell, Producer, Wake, ring};
use shardcast::shard::{
    Attach, Beat, Command, Config, Env, EventHub, Gauges, HostPublish, Idle, Message, PackedFrame, Parts, Post,
    Shard, ShardStats, Shared, StreamPart, mesh,
};
use shardcast::stream::{AppSpec, Directory, Spread};

#[test]
fn each_stage_of_a_frame_is_counted_where_it_happens() {
    let mut world = World::new(1, 1, Merge::Off);
    world.players(3);
    world.begin();

    world.send(true, units(300));
    world.turn(0);

    let stages = world.part(0).audience.stages;
    // It was appended before the first send; each send takes ten units.
    assert_eq!((stages.append.count(), stages.append.max()), (1, units(300)));
    assert_eq!((stages.first.count(), stages.first.max()), (1, units(10)));
    assert_eq!((stages.age.count(), stages.age.max()), (3, units(330)));
    assert_between(&stages.age, 0.33, units(310), units(320));
    assert_eq!(stages.relay.count(), 0, "there is no other shard");
    let shard = world.stats(0).stages;
    assert_eq!((shard.append.len(), shard.first.len(), shard.age.len()), (1, 1, 3));
    let close = |ns: u64, time: Duration| ns.abs_diff(u64::try_from(time.as_nanos()).unwrap()) * 100 <= ns;
    assert!(close(shard.age.max(), units(330)) && close(shard.first.max(), units(10)), "{shard:?}");
    let stages = world.part(0).audience.stages;
    assert_eq!((stages.age.count(), world.stats(0).stages.age.len()), (0, 0), "what was read is taken");
}

#[test]
fn a_frame_counts_when_its_last_byte_is_accepted_and_not_before() {
    let mut world = World::new(1, 1, Merge::Off);
    world.players(1);
    world.begin();
    world.outside.borrow_mut().room[0] = PAYLOAD - 1;
    world.send(true, units(50));
    world.turn(0);
    let before = world.part(0).audience.stages;

    world.pass(units(4_000));
    world.make_room(0);
    world.turn(0);

    let stages = world.part(0).audience.stages;
    assert_eq!((before.age.count(), before.first.count(), before.append.count()), (0, 0, 1));
    // Two sends: the first took all but one byte.
    assert_eq!((stages.age.count(), stages.age.max()), (1, units(50 + 10 + 4_000 + 10)));
    assert_eq!((stages.first.count(), stages.first.max()), (1, units(10 + 4_000 + 10)));
}

#[test]
fn a_frame_that_no_socket_took_any_of_is_as_old_as_it_is_when_one_does() {
    let mut world = World::new(1, 1, Merge::Off);
    world.players(2);
    world.begin();
    world.outside.borrow_mut().room[1] = 0;
    world.send(true, units(0));
    world.turn(0);
    let before = world.part(0).audience.stages;

    world.pass(units(70_000));
    world.make_room(1);
    world.turn(0);

    let stages = world.part(0).audience.stages;
    assert_eq!((before.age.count(), before.first.count()), (1, 1), "the other one has it");
    assert_eq!((stages.age.count(), stages.first.count()), (1, 0), "only one is the first");
    assert!(stages.age.max() >= units(70_000) && stages.age.max() <= units(70_030), "{:?}", stages.age);
}

#[test]
fn what_waits_to_leave_with_others_is_older_for_it() {
    let mut world = World::new(1, 1, Merge::Window(units(20_000)));
    world.players(1);
    world.begin();
    world.send(true, units(0));
    world.turn(0);
    world.pass(units(5_000));
    world.send(false, units(0));
    world.turn(0);
    assert_eq!(world.part(0).audience.stages.age.count(), 0, "they wait for the window's end");

    world.pass(units(15_000));
    world.turn(0);

    let stages = world.part(0).audience.stages;
    assert_eq!((stages.age.count(), stages.age.max()), (2, units(20_010)));
    assert_between(&stages.age, 0.5, units(15_010), units(15_020));
    assert_eq!((stages.first.count(), stages.first.max()), (2, units(20_010)));
}

#[test]
fn the_hop_to_another_shard_is_counted_there_from_append_to_append() {
    let mut world = World::new(2, 1, Merge::Off);
    world.attach(1);
    world.begin();
    world.send(true, units(100));
    world.turn(0);
    world.pass(units(40));

    world.turn(1);

    let (home, replica) = (world.part(0), world.part(1));
    let (at_home, there) = (&home.audience.stages, &replica.audience.stages);
    assert_eq!((at_home.append.count(), at_home.append.max()), (1, units(100)));
    assert_eq!(
        (at_home.age.count(), at_home.first.count(), at_home.relay.count()),
        (0, 0, 0),
        "a hop is no delivery"
    );
    assert_eq!((there.relay.count(), there.relay.max()), (1, units(40)));
    assert_eq!((there.age.count(), there.age.max()), (1, units(140)), "the origin crosses with the frame");
    assert_eq!((there.first.count(), there.first.max(), there.append.count()), (1, units(0), 0));
    assert_eq!((home.audience.viewers, replica.audience.viewers), (0, 1));
    let whole = StreamPart::whole([replica, home]).expect("one is the home");
    assert_eq!((whole.home, whole.audience.viewers, whole.audience.stages.age.count()), (ShardId(0), 1, 1));
}

#[test]
fn a_replay_to_a_joiner_is_not_taken_for_latency() {
    let mut world = World::new(1, 1, Merge::Off);
    world.send(true, units(0));
    world.turn(0);
    world.pass(Duration::from_secs(2));

    world.attach(0);
    world.settle();
    let replayed = world.part(0).audience.stages;
    world.send(false, units(7));
    world.turn(0);

    assert_eq!((replayed.age.count(), replayed.first.count()), (0, 0));
    let stages = world.part(0).audience.stages;
    assert_eq!((stages.age.count(), stages.age.max()), (1, units(7)));
}

#[test]
fn what_a_new_replica_gets_of_the_past_is_not_taken_for_a_slow_hop() {
    let mut world = World::new(2, 1, Merge::Off);
    world.send(true, units(0));
    world.turn(0);
    world.pass(Duration::from_secs(2));

    world.attach(1);
    world.settle();

    assert_eq!(world.flags.lock().len(), 1, "it was replayed");
    let stages = world.part(1).audience.stages;
    assert_eq!((stages.relay.count(), stages.age.count(), stages.first.count()), (0, 0, 0));
}

#[test]
fn frames_that_are_not_timed_cost_no_look_at_the_clock() {
    for (every, timed) in [(0, 0..=0), (64, 5..=20), (1, 640..=640)] {
        let mut world = World::new(1, every, Merge::Off);
        world.players(20);
        (0..3).for_each(|_| world.attach(0));
        world.begin();
        world.outside.borrow_mut().looks = 0;

        for number in 0..640 {
            world.send(number == 0, units(0));
            world.turn(0);
        }

        let looks = world.outside.borrow().looks;
        let stages = world.part(0).audience.stages;
        assert!(timed.contains(&stages.append.count()), "{} timed, one in {every}", stages.append.count());
        assert_eq!(stages.age.count(), stages.append.count() * 23);
        // One when it is appended, one after the first send and after each sixteen, and the same for the sinks.
        assert_eq!(looks, stages.append.count() * (1 + 3 + 2), "one in {every}");
    }
}

#[test]
fn a_publisher_cannot_mark_its_frames_itself() {
    let mut world = World::new(1, 0, Merge::Off);
    world.attach(0);
    world.begin();
    world.flags.lock().clear();
    let mut frame = picture(true);
    frame.origin = world.outside.borrow().now;
    frame.flags = FrameFlags::TIMED.union(FrameFlags::DISCONTINUITY);
    world.push(frame);
    world.turn(0);

    assert_eq!(*world.flags.lock(), [FrameFlags::DISCONTINUITY]);
    assert_eq!(world.part(0).audience.stages.age.count(), 0);
}

// ---- the world

/// 1,024 ns each.
fn units(count: u64) -> Duration {
    Duration::from_nanos(count << 10)
}

fn assert_between(spread: &Spread, share: f64, least: Duration, most: Duration) {
    let told = spread.at_quantile(share);
    assert!(told >= least && told <= most * 9 / 8, "{told:?} is not between {least:?} and {most:?}");
}

const PAYLOAD: usize = 1_000;
/// What a send takes.
const SEND: Duration = Duration::from_nanos(10 << 10);

fn picture(key: bool) -> Frame {
    Frame::video(Codec::H264, key, Timestamp::ZERO, Timestamp::ZERO, Bytes::from_static(&[7; PAYLOAD]))
}

/// What the shards see of the world, and the test too.
#[derive(Default)]
struct Outside {
    now: Instant,
    /// Looks at the clock between two turns' beginnings.
    looks: u64,
    knocking: usize,
    spoke: Vec<bool>,
    /// Bytes that each socket still takes.
    room: Vec<usize>,
    ready: Vec<Ready>,
}

struct World {
    shards: Vec<Shard<Hand>>,
    commands: Vec<Sender<Command>>,
    outside: Rc<RefCell<Outside>>,
    publisher: Producer<Message<Reason>>,
    /// What sinks saw.
    flags: Arc<Mutex<Vec<FrameFlags>>>,
    next: u64,
    _audit: AuditPipeline,
}

impl World {
    fn new(shards: u16, sample_every: u32, merge: Merge) -> Self {
        let outside = Rc::new(RefCell::new(Outside { now: Instant(1 << 40), ..Default::default() }));
        let doorbells: Vec<Doorbell> = (0..shards).map(|_| Doorbell::new(NoWake)).collect();
        let (commands, orders): (Vec<_>, Vec<_>) = (0..shards).map(|_| bounded(64)).unzip();
        let posts = commands.iter().zip(&doorbells).map(|(tx, bell)| Post::new(Sender::clone(tx), bell.clone()));
        let shared = Arc::new(Shared {
            directory: Directory::default(),
            authenticator: RwLock::new(Arc::new(AllowAll)),
            observers: Vec::new(),
            observes_frames: false,
            protocols: vec![Arc::new(Plain)],
            listeners: vec![0],
            events: EventHub::default(),
            gauges: Gauges::default(),
            shards: posts.collect(),
            beats: (0..shards).map(|_| Beat::default()).collect(),
        });
        let audit = AuditPipeline::start(Vec::new(), 64, Clock::start());
        let apps = vec![Arc::new(AppSpec::new("*").merge(merge))];
        let config = Arc::new(Config { apps, sample_every, ..Config::default() });
        let parts = mesh(&doorbells).into_iter().zip(orders).zip(doorbells).zip(0u16..);
        let shards = parts.map(|(((mesh, commands), doorbell), id)| {
            Shard::new(Parts {
                id: ShardId(id),
                env: Hand(Rc::clone(&outside), id),
                idle: Idle::Park,
                doorbell,
                commands,
                shared: Arc::clone(&shared),
                config: Arc::clone(&config),
                audit: audit.producer(id),
                mesh,
                next_connection: 0,
            })
        });
        let shards = shards.collect();
        let (publisher, frames) = ring(1024);
        let flags = Arc::default();
        let mut world = Self { shards, commands, outside, publisher, flags, next: 1, _audit: audit };
        let (events, _) = bounded(4);
        let (reply, answer) = bounded(1);
        let connection = world.connection();
        let publish = HostPublish { key: key(), credentials: None, connection, backup: false, frames, events, reply };
        world.command(0, Command::Publish(Box::new(publish)));
        answer.try_recv().expect("answered in its turn").expect("the name is free");
        world
    }

    /// So many players join on the first shard.
    fn players(&mut self, count: usize) {
        {
            let mut outside = self.outside.borrow_mut();
            outside.knocking = count;
            outside.room = vec![usize::MAX; count];
            outside.spoke = vec![false; count];
            outside.ready.push(Ready { source: Source::Listener(0), readable: true, writable: false, over: false });
        }
        self.settle();
    }

    /// A sink joins on a shard.
    fn attach(&mut self, shard: usize) {
        let (reply, answer) = bounded(1);
        let sink = Box::new(Eye(Arc::clone(&self.flags)));
        let connection = self.connection();
        let attach = Attach { key: key(), connection, options: PlayOptions::instant(), sink, reply };
        self.command(shard, Command::Attach(Box::new(attach)));
        answer.try_recv().expect("answered in its turn").expect("the stream is there");
    }

    /// The first keyframe has reached all who wait for it, and a second has passed since.
    fn begin(&mut self) {
        self.send(true, Duration::ZERO);
        self.settle();
        self.pass(Duration::from_secs(1));
        self.settle();
        (0..self.shards.len()).for_each(|shard| drop((self.part(shard), self.stats(shard))));
    }

    /// A picture that was sent so long ago.
    fn send(&mut self, key: bool, ago: Duration) {
        let mut frame = picture(key);
        frame.origin = self.outside.borrow().now - ago;
        self.push(frame);
    }

    fn push(&mut self, frame: Frame) {
        assert!(self.publisher.push(Message::Frame(PackedFrame::pack(&frame, 0))).is_ok(), "there is room");
    }

    fn pass(&mut self, time: Duration) {
        let mut outside = self.outside.borrow_mut();
        outside.now = outside.now + time;
    }

    /// A socket takes everything again, and says so.
    fn make_room(&mut self, socket: usize) {
        let mut outside = self.outside.borrow_mut();
        outside.room[socket] = usize::MAX;
        outside.ready.push(Ready {
            source: Source::Connection(socket),
            readable: false,
            writable: true,
            over: false,
        });
    }

    /// One turn of one shard, and what it left for the next.
    fn turn(&mut self, shard: usize) {
        while self.shards[shard].step() > 0 {}
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            (0..self.shards.len()).for_each(|shard| self.turn(shard));
        }
    }

    fn part(&mut self, shard: usize) -> StreamPart {
        let (reply, answer) = bounded(1);
        self.command(shard, Command::Inspect(key(), reply));
        answer.try_recv().expect("answered in its turn").expect("it knows the stream")
    }

    fn stats(&mut self, shard: usize) -> ShardStats {
        let (reply, answer) = bounded(1);
        self.command(shard, Command::Stats(reply));
        answer.try_recv().expect("answered in its turn")
    }

    fn command(&mut self, shard: usize, command: Command) {
        assert!(self.commands[shard].try_send(command).is_ok(), "the shard takes commands");
        self.turn(shard);
    }

    fn connection(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId((0xffff << 48) | self.next)
    }
}

fn key() -> StreamKey {
    StreamKey::parse("live/a").expect("a good name")
}

/// A sink that remembers the flags of what it saw.
struct Eye(Arc<Mutex<Vec<FrameFlags>>>);

impl FrameSink for Eye {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        self.0.lock().push(frame.flags);
        SinkVerdict::Taken
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

struct Hand(Rc<RefCell<Outside>>, u16);

impl Env for Hand {
    type Socket = usize;

    fn now(&mut self) -> Now {
        Now { mono: self.0.borrow().now, wall: Wall(0) }
    }

    fn instant(&mut self) -> Instant {
        let mut outside = self.0.borrow_mut();
        outside.looks += 1;
        outside.now
    }

    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) {
        if self.1 == 0 {
            ready.append(&mut self.0.borrow_mut().ready);
        }
    }

    fn accept(&mut self, _: usize) -> Accepted<usize> {
        let mut outside = self.0.borrow_mut();
        if self.1 != 0 || outside.knocking == 0 {
            return Accepted::Empty;
        }
        outside.knocking -= 1;
        let socket = outside.room.len() - outside.knocking - 1;
        Accepted::Connection(socket, SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn register(&mut self, _: &mut usize, _: usize) -> io::Result<()> {
        Ok(())
    }

    /// Every peer says one byte, and that is all.
    fn recv(&mut self, socket: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let mut outside = self.0.borrow_mut();
        if std::mem::replace(&mut outside.spoke[*socket], true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[0] = 0;
        Ok(1)
    }

    fn send(&mut self, socket: &mut usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut outside = self.0.borrow_mut();
        outside.now = outside.now + SEND;
        let room = &mut outside.room[*socket];
        let taken = slices.iter().map(|slice| slice.len()).sum::<usize>().min(*room);
        *room -= if *room == usize::MAX { 0 } else { taken };
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn finish(&mut self, _: &mut usize) {}

    fn close_listeners(&mut self) {}

    fn random(&mut self) -> u64 {
        4
    }
}

/// Who connects plays, and gets payloads and nothing else.
struct Plain;

impl Protocol for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn session(&self, _: SessionContext<'_>) -> Box<dyn Session> {
        let options = PlayOptions::instant();
        let request = PlayRequest { handle: 1, key: key(), credentials: Credentials::default(), format: 0, options };
        Box::new(Plays { asks: vec![Output::Play(Box::new(request)), Output::Established], heard: false })
    }

    fn packetizer(&self, _: u32) -> Box<dyn Packetizer> {
        struct Payload;
        impl Packetizer for Payload {
            fn packetize(&mut self, _: &Frame) -> Option<Packet> {
                Some(Packet { head: Head::new(&[]), body: Body::Payload })
            }
        }
        Box::new(Payload)
    }
}

struct Plays {
    asks: Vec<Output>,
    heard: bool,
}

impl Session for Plays {
    fn handle(&mut self, _: Now, _: Input) -> Result<(), Reason> {
        self.heard = true;
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.heard.then(|| self.asks.pop()).flatten()
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        None
    }
}
