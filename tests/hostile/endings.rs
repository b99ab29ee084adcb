//! Peers that stop: reading, writing, existing.

use std::sync::Arc;
use std::time::Duration;

use shardcast::extension::Authenticator;
use shardcast::fact::FactKind;
use shardcast::media::FrameKind;
use shardcast::protocol::rtmp::amf::Value;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, Subscription};
use shardcast::stream::{AppSpec, LagPolicy};

use super::child;
use super::peer::{self, Peer, chunk, control, message, video, video_tag};
use super::world::{HERE, SOON, Setup, Silent, THERE, World, key, now, wait_for};

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// F1 and F2.
#[test]
fn a_player_that_does_not_read_is_evicted_and_nobody_else_notices() {
    let lag = LagPolicy {
        max_age: Duration::from_millis(300),
        max_bytes: 4 << 20,
        evict_window: Duration::from_millis(1_000),
        evict_lost: Duration::from_millis(900),
    };
    let mut setup = Setup { apps: vec![AppSpec::new("*"), AppSpec::new("slow").lag(lag)], ..Setup::default() };
    setup.limits.commands_per_second = 1_000_000;
    let world = World::with(setup);
    let before = world.baseline.clone();
    let mut publisher = world.peer();
    publisher.send(&peer::publisher("slow", "big"));
    publisher.wait_for_status("NetStream.Publish.Start");
    publisher.send(&control(1, &0x00FF_FFFF_u32.to_be_bytes()));
    let viewer = world.subscribe_on(HERE, "slow/big");
    let mut players = Vec::new();
    for writes in [false, true] {
        let mut player = world.peer();
        let small = socket2::SockRef::from(&player.socket).set_recv_buffer_size(4096);
        small.expect("a socket takes its options");
        player.send(&peer::player("slow", "big"));
        player.wait_for_status("NetStream.Play.Start");
        players.push((writes, player));
    }
    // It writes what it wants, and reads nothing.
    let acks = control(3, &[0; 4]).repeat(200);
    let tag = video_tag(true, &vec![1; 100_000]);
    let length = u32::try_from(tag.len()).expect("it is short");
    let mut viewer = Thread::new(viewer);
    let mut sent = 0_u32;
    let evicted = |id| {
        let facts = world.facts.of(id, 0);
        facts.iter().any(|fact| fact.kind == FactKind::Evict && fact.reason == Some(Reason::Lag))
    };
    let end = now() + SOON;
    while !players.iter().all(|(_, player)| evicted(player.id)) {
        assert!(now() < end, "not evicted after {sent} frames");
        publisher.send(&chunk(6, sent * 10, length, VIDEO, 1, &tag));
        sent += 1;
        for (writes, player) in &mut players {
            if *writes {
                player.send(&acks);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for (writes, player) in players {
        let id = player.id;
        let close = world.facts.close_of(id);
        assert_eq!(close.reason, Some(Reason::Lag), "writes: {writes}");
        let facts = world.facts.of(id, 0);
        let ends = facts.iter().filter(|fact| fact.kind == FactKind::PlayEnd).count();
        assert_eq!(ends, 1, "writes: {writes}");
    }
    publisher.finish();
    assert_eq!(viewer.frames(), sent, "the one who reads has missed some");
    drop(publisher);
    assert_eq!(world.settles_at(&before), Ok(()));
    world.finish();
}

/// F3: whatever is not whole is never forwarded, and the players are told that it is over.
#[test]
fn a_publisher_that_dies_at_any_byte_costs_the_frame_that_it_had_not_finished() {
    let world = World::start();
    let tags = [video_tag(true, &[1; 60]), video_tag(false, &[2; 150]), video_tag(false, &[3; 20])];
    let frames: Vec<Vec<u8>> = (0..).zip(&tags).map(|(n, tag)| message(VIDEO, 1, n * 40, tag)).collect();
    let stream: Vec<u8> = frames.concat();
    // Who plays on both shards knows at which byte each frame is whole.
    let whole_at: Vec<usize> = frames
        .iter()
        .scan(0, |at, frame| {
            *at += frame.len();
            Some(*at)
        })
        .collect();
    let before = world.baseline.clone();
    let cuts = stream.len() + 1;
    for cut in 0..cuts {
        let dies = [Reason::PeerClosed, Reason::Reset][cut % 2];
        let name = format!("live/cut-{cut}");
        let mut publisher = Peer::connect(world.address);
        publisher.send(&peer::publisher("live", &format!("cut-{cut}")));
        publisher.wait_for_status("NetStream.Publish.Start");
        let shard = if cut % 3 == 0 { THERE } else { HERE };
        let mut viewer = world.subscribe_on(shard, &name);
        // It has joined at the stream's home, wherever that is.
        let joined = || world.router.inspect(&key(&name)).filter(|info| info.subscribers == 1).map(|_| ());
        wait_for("that the subscriber has joined", joined);
        publisher.send(&stream[..cut]);
        let whole = whole_at.iter().filter(|at| **at <= cut).count();
        // A reset throws away what was not read: its frames are awaited first.
        let mut got = Vec::new();
        while got.len() < whole {
            match viewer.recv_timeout(SOON) {
                Some(Delivery::Frame(frame)) => got.push(frame.payload),
                other => panic!("cut at {cut}: no frame {} but {other:?}", got.len()),
            }
        }
        let expected: Vec<&[u8]> = tags[..whole].iter().map(|tag| &tag[5..]).collect();
        assert_eq!(got, expected, "cut at {cut}");
        if dies == Reason::Reset {
            publisher.reset();
        } else {
            drop(publisher);
        }
        match viewer.recv_timeout(SOON) {
            Some(Delivery::End(reason)) => assert_eq!(reason, dies, "cut at {cut}"),
            other => panic!("cut at {cut}: no end but {other:?}"),
        }
        let ends = world.facts.wait("that the publish ends", |facts| {
            let mut ends = facts.to_vec();
            ends.retain(|fact| {
                fact.kind == FactKind::PublishEnd && fact.stream.as_ref().is_some_and(|k| k.as_str() == name)
            });
            (!ends.is_empty()).then_some(ends)
        });
        assert_eq!((ends.len(), ends[0].reason), (1, Some(dies)), "cut at {cut}");
    }
    if let Err(sizes) = world.settles_at(&before) {
        panic!("{before:?} has become {sizes}");
    }
    world.finish();
}

/// F3, the third way: silence.
#[test]
fn a_publisher_that_falls_silent_is_reaped_and_its_players_are_told() {
    let mut setup = Setup::default();
    setup.limits.publisher_idle = Duration::from_millis(500);
    let world = World::with(setup);
    let silent: [(&str, Vec<u8>); 3] = [
        ("nothing", vec![]),
        ("half a frame", video(true, 0, &[1; 300])[..100].to_vec()),
        // Row 9: sixteen megabytes are declared, one byte comes.
        ("one byte of many", chunk(6, 0, 0x00FF_FFFF, VIDEO, 1, &[0x17])),
    ];
    for (name, bytes) in silent {
        let mut publisher = world.peer();
        publisher.send(&peer::publisher("live", "silent"));
        publisher.wait_for_status("NetStream.Publish.Start");
        publisher.send(&bytes);
        let mut player = world.peer();
        player.send(&peer::player("live", "silent"));
        player.wait_for_status("NetStream.Play.Start");
        assert!(publisher.is_closed(SOON), "{name}");
        player.wait_for_status("NetStream.Play.UnpublishNotify");
        assert!(player.is_closed(SOON), "{name}");
        let ids = [publisher.id, player.id];
        drop((publisher, player));
        for id in ids {
            assert_eq!(world.facts.close_of(id).reason, Some(Reason::Idle), "{name}");
        }
        let reaps = world.facts.about(FactKind::Reap, "live/silent");
        assert_eq!(reaps.last().and_then(|fact| fact.who.as_ref()).map(|who| who.connection), Some(ids[0]), "{name}");
    }
    world.finish();
}

/// F27.
#[test]
fn a_player_that_vanishes_in_the_middle_of_a_write_costs_itself_only() {
    vanish_while_written_to();
}

/// F27 again, in a process whose SIGPIPE kills, as that of a host in C would be.
#[test]
fn a_host_that_dies_of_sigpipe_is_not_killed_by_a_player_that_vanishes() {
    if child::is_one() {
        child::let_sigpipe_kill();
        vanish_while_written_to();
        return;
    }
    child::run_test("hostile::endings::a_host_that_dies_of_sigpipe_is_not_killed_by_a_player_that_vanishes");
}

fn vanish_while_written_to() {
    let silent = Arc::new(Silent::default());
    let authenticator = Arc::clone(&silent) as Arc<dyn Authenticator>;
    let mut setup = Setup { authenticator: Some(authenticator), ..Setup::default() };
    // Far away: who is gone does not wait for it.
    setup.limits.auth_deadline = SOON * 2;
    let world = World::with(setup);
    let mut publisher = world.peer();
    publisher.send(&peer::publisher("live", "big"));
    publisher.wait_for_status("NetStream.Publish.Start");
    publisher.send(&control(1, &0x00FF_FFFF_u32.to_be_bytes()));
    let before = world.sizes();
    let tag = video_tag(true, &vec![1; 300_000]);
    let length = u32::try_from(tag.len()).expect("it is short");
    for round in 0..12_u32 {
        let mut players = Vec::new();
        for _ in 0..4 {
            let mut player = world.peer();
            player.send(&peer::player("live", "big"));
            player.wait_for_status("NetStream.Play.Start");
            players.push(player);
        }
        publisher.send(&chunk(6, round * 40, length, VIDEO, 1, &tag));
        // One in the middle of its first message, others at once; half of them with a reset.
        for (index, player) in players.into_iter().enumerate() {
            if index % 2 == 0 {
                let mut player = player;
                assert!(player.message(SOON).is_some());
                player.reset();
            } else {
                drop(player);
            }
        }
        // What was under way meets a peer that is gone.
        publisher.send(&chunk(6, round * 40 + 20, length, VIDEO, 1, &tag));
        let audio = message(AUDIO, 1, round * 40 + 20, &[0xAF, 1, 2]);
        publisher.send(&audio);
    }
    if let Err(sizes) = world.settles_at(&before) {
        panic!("{before:?} has become {sizes}");
    }
    // One whose end can't be seen, because nothing is read of who waits for an answer: its first frame is answered
    // with a reset, the second is a write on a broken pipe.
    let mut player = world.peer();
    player.send(&peer::player("live", "big"));
    assert!(player.video(SOON).is_some());
    player.send(&peer::create_stream());
    // All is read: what is not would make a reset of its end.
    assert!(player.is_served());
    player.send(&peer::play(2, "silent"));
    wait_for("that it has asked", || (silent.asked() == 1).then_some(()));
    let id = player.id;
    drop(player);
    for frame in 0..10_u32 {
        publisher.send(&video(true, 100_000 + frame, &[1; 100]));
        assert!(publisher.is_served());
    }
    assert_eq!(world.facts.close_of(id).reason, Some(Reason::Reset));
    let ends = world.facts.of(id, 0);
    let ends: Vec<_> = ends.iter().filter(|fact| fact.kind == FactKind::PlayEnd).map(|fact| fact.reason).collect();
    assert_eq!(ends, [Some(Reason::Reset)]);
    drop(publisher);
    world.finish();
}

/// The end of a stream reaches a player on either shard as a status, whatever the publisher said last.
#[test]
fn players_on_both_shards_are_told_the_end() {
    let world = World::start();
    for (last_words, reset) in [
        (peer::command(1, "FCUnpublish", 6.0, &[Value::Null, Value::string("end")]), false),
        (peer::command(0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]), false),
        (vec![], true),
        (vec![0xFF; 64], false),
    ] {
        let mut publisher = world.peer();
        publisher.send(&[peer::publisher("live", "end"), video(true, 0, b"x")].concat());
        publisher.wait_for_status("NetStream.Publish.Start");
        let mut players: Vec<Peer> = [HERE, THERE].into_iter().map(|shard| world.peer_on(shard)).collect();
        for player in &mut players {
            player.send(&peer::player("live", "end"));
            player.wait_for_status("NetStream.Play.Start");
            assert!(player.video(SOON).is_some());
        }
        publisher.send(&last_words);
        if reset {
            publisher.reset();
        } else {
            drop(publisher);
        }
        for mut player in players {
            player.wait_for_status("NetStream.Play.UnpublishNotify");
            assert!(player.is_closed(SOON));
        }
        wait_for("that the name is free", || world.router.inspect(&key("live/end")).is_none().then_some(()));
    }
    world.finish();
}

/// A subscription that is read as frames come.
struct Thread(Option<std::thread::JoinHandle<u32>>);

impl Thread {
    fn new(mut viewer: Subscription) -> Self {
        Self(Some(std::thread::spawn(move || {
            let mut frames = 0;
            loop {
                match viewer.recv_timeout(SOON) {
                    Some(Delivery::Frame(frame)) => frames += u32::from(frame.kind == FrameKind::Key),
                    Some(Delivery::End(_)) | None => return frames,
                    Some(Delivery::Gap(_)) => {}
                }
            }
        })))
    }

    fn frames(&mut self) -> u32 {
        self.0.take().map_or(0, |thread| thread.join().expect("it counts"))
    }
}
