//! AMF0 and commands: deep, long, odd, or at the wrong time.

use std::sync::Arc;
use std::time::Duration;

use shardcast::fact::FactKind;
use shardcast::limits::Limit;
use shardcast::protocol::rtmp::amf::Value;
use shardcast::reason::Reason;
use shardcast::stream::{AppSpec, Conflict};

use super::peer::{self, command, connect, create_stream, long_message, message, play, publish, video};
use super::rows::Expect::Served;
use super::rows::Stage::{Connected, Created, Publishing, Shaken};
use super::rows::{limited, malformed, misbehaved, refused, row, run, unsupported};
use super::world::{HERE, SOON, Setup, Silent, THERE, World, key, wait_for};

const DATA: u8 = 18;
const COMMAND: u8 = 20;

/// A command of raw bytes behind its name and transaction.
fn raw(name: &str, rest: &[u8]) -> Vec<u8> {
    long_message(COMMAND, 0, 0, &raw_values(name, rest))
}

fn raw_values(name: &str, rest: &[u8]) -> Vec<u8> {
    [&peer::values(&[Value::string(name), Value::Number(7.0)]), rest].concat()
}

/// Data of raw bytes behind a name.
fn data(rest: &[u8]) -> Vec<u8> {
    long_message(DATA, 1, 0, &[&peer::values(&[Value::string("onCuePoint")]), rest].concat())
}

/// Rows 22 to 25.
#[test]
fn values_that_are_deep_long_or_lie_end_their_connection() {
    let world = World::start();
    let open: [(&str, Vec<u8>); 3] = [
        ("objects", vec![3, 0, 1, b'a']),
        ("ECMA arrays", vec![8, 0, 0, 0, 1, 0, 1, b'a']),
        ("strict arrays", vec![10, 0, 0, 0, 1]),
    ];
    let mut rows = Vec::new();
    for (name, marker) in &open {
        for depth in [33, 65, 1_000] {
            rows.push(row(
                &format!("{depth} {name} in each other"),
                Connected,
                raw("x", &marker.repeat(depth)),
                limited(Limit::Depth),
            ));
        }
        rows.push(row(
            &format!("70,000 {name} in each other"),
            Publishing,
            data(&marker.repeat(70_000)),
            limited(Limit::Depth),
        ));
    }
    let deep = [[10, 0, 0, 0, 1].repeat(32), vec![5]].concat();
    rows.push(row("32 arrays in each other", Connected, raw("x", &deep), Served));
    let keys = |count: usize| [&[3_u8][..], &[0, 1, b'k', 5].repeat(count), &[0, 0, 9]].concat();
    rows.extend([
        row(
            "a strict array of 2^32-1 with three bytes",
            Connected,
            raw("x", &[10, 255, 255, 255, 255, 5, 5, 5]),
            malformed("rtmp.amf_end"),
        ),
        row(
            "an ECMA array that lies about its count",
            Connected,
            raw("x", &[8, 255, 255, 255, 255, 0, 1, b'a', 5, 0, 0, 9]),
            Served,
        ),
        row(
            "an ECMA array of 2^32-1 that ends early",
            Connected,
            raw("x", &[8, 255, 255, 255, 255, 0, 1]),
            malformed("rtmp.amf_end"),
        ),
        row("a string beyond the message", Connected, raw("x", &[2, 255, 255, b'a']), malformed("rtmp.amf_end")),
        row(
            "a long string of 2^32-1",
            Connected,
            raw("x", &[12, 255, 255, 255, 255, b'a']),
            malformed("rtmp.amf_end"),
        ),
        row("an object of 5,000 keys", Connected, raw("x", &keys(5_000)), limited(Limit::Values)),
        row("data of 5,000 keys", Publishing, data(&keys(5_000)), limited(Limit::Values)),
        row("an object of 4,000 keys", Connected, raw("x", &keys(4_000)), Served),
        row("half a number", Connected, raw("x", &[0, 1, 2]), malformed("rtmp.amf_end")),
        row("references to themselves", Connected, raw("x", &[3, 0, 1, b'a', 7, 0, 0, 0, 0, 9, 7, 255, 255]), Served),
        row("a switch to AMF3 with an object", Connected, raw("x", &[17, 10]), unsupported("rtmp.amf3")),
        row("a switch to AMF3 with a number", Connected, raw("x", &[17, 4, 5]), Served),
        row(
            "a typed object and a date",
            Connected,
            raw("x", &[16, 0, 1, b'c', 0, 0, 9, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Served,
        ),
        row("a record set", Connected, raw("x", &[14]), malformed("rtmp.amf_marker")),
        row("a movie clip", Connected, raw("x", &[4]), malformed("rtmp.amf_marker")),
        row("a marker that does not exist", Connected, raw("x", &[0x7F]), malformed("rtmp.amf_marker")),
        row("an end of an object without one", Connected, raw("x", &[9]), malformed("rtmp.amf_marker")),
        row("the marker for what is not supported", Connected, raw("x", &[13]), Served),
        row("a command without a name", Connected, long_message(COMMAND, 0, 0, &[5]), malformed("rtmp.command")),
        row(
            "a command whose transaction is a text",
            Connected,
            long_message(COMMAND, 0, 0, &[2, 0, 1, b'x', 2, 0, 1, b'1']),
            malformed("rtmp.command"),
        ),
        row("a command with nothing but its name", Connected, long_message(COMMAND, 0, 0, &[2, 0, 1, b'x']), Served),
    ]);
    run(&world, &rows);
    world.finish();
}

/// Rows 27, 28 and 30.
#[test]
fn commands_at_the_wrong_time_end_their_connection_and_odd_ones_are_answered() {
    let world = World::start();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e308, -1.0];
    let close = |stream: u32| command(stream, "closeStream", 0.0, &[Value::Null]);
    let delete = |id: f64| command(0, "deleteStream", 0.0, &[Value::Null, Value::Number(id)]);
    let mut rows = vec![
        row("connect twice", Connected, connect("live"), misbehaved("rtmp.connect_twice")),
        row("publish before connect", Shaken, publish(1, "a"), misbehaved("rtmp.not_connected")),
        row("createStream before connect", Shaken, create_stream(), misbehaved("rtmp.not_connected")),
        row("a command that does not exist before connect", Shaken, raw("x", &[]), misbehaved("rtmp.not_connected")),
        row("publish without a stream", Connected, publish(1, "a"), misbehaved("rtmp.no_such_stream")),
        row("publish on stream 0", Created, publish(0, "a"), misbehaved("rtmp.no_such_stream")),
        row("publish on a stream of another", Created, publish(2, "a"), misbehaved("rtmp.no_such_stream")),
        row("publish twice", Publishing, publish(1, "other"), misbehaved("rtmp.publish_twice")),
        row("play on a publishing stream", Publishing, play(1, "other"), misbehaved("rtmp.play_while_publishing")),
        row(
            "publish on a playing stream",
            Created,
            [play(1, "../canary/near"), publish(1, "a")].concat(),
            refused("bad_name"),
        ),
        row("play what nobody publishes", Created, play(1, "nobody"), refused("not_found")),
        row(
            "media on a stream that nothing was asked for",
            Created,
            video(true, 0, b"x"),
            misbehaved("rtmp.media_before_publish"),
        ),
        row(
            "media on a stream that was never made",
            Publishing,
            message(9, 5, 0, &[0x17]),
            misbehaved("rtmp.media_before_publish"),
        ),
        row("17 streams", Connected, create_stream().repeat(17), limited(Limit::StreamsPerConnection)),
        row("16 streams", Connected, create_stream().repeat(16), Served),
        row(
            "streams made and deleted without end",
            Connected,
            (1..5_000).flat_map(|id| [create_stream(), delete(f64::from(id))]).flatten().collect::<Vec<_>>(),
            limited(Limit::CommandRate),
        ),
        row(
            "deleteStream of nobody's stream",
            Publishing,
            [delete(999.0), delete(0.0), delete(f64::NAN), delete(-1.0), delete(1e300)].concat(),
            Served,
        ),
        row("closeStream of nobody's stream", Publishing, [close(0), close(999)].concat(), Served),
        row("closeStream while a frame is under way", Publishing, [close(1), video(true, 0, b"x")].concat(), Served),
        row(
            "deleteStream while a frame is under way",
            Publishing,
            [delete(1.0), video(true, 0, b"x")].concat(),
            Served,
        ),
        row("closeStream twice", Publishing, [close(1), close(1)].concat(), Served),
        row(
            "publish again after closeStream",
            Publishing,
            [close(1), publish(1, "again"), video(true, 0, b"x")].concat(),
            Served,
        ),
    ];
    for name in
        ["releaseStream", "FCPublish", "FCUnpublish", "FCSubscribe", "getStreamLength", "pause", "seek", "play2", "x"]
    {
        for wrong in [Value::Null, Value::Number(f64::NAN), Value::StrictArray(vec![]), Value::Boolean(true)] {
            rows.push(row(
                &format!("{name} of {wrong:?}"),
                Created,
                command(1, name, 5.0, &[Value::Null, wrong]),
                Served,
            ));
        }
    }
    for transaction in odd {
        for name in ["createStream", "releaseStream", "x"] {
            let act = command(0, name, transaction, &[Value::Null]);
            rows.push(row(&format!("{name} with transaction {transaction}"), Connected, act, Served));
        }
    }
    for wrong in [Value::Null, Value::Number(1.0), Value::StrictArray(vec![])] {
        for name in ["publish", "play"] {
            let act = command(1, name, 5.0, &[Value::Null, wrong.clone()]);
            rows.push(row(&format!("{name} of {wrong:?}"), Created, act, refused("bad_name")));
        }
        let object = command(0, "connect", 1.0, std::slice::from_ref(&wrong));
        rows.push(row(&format!("connect of {wrong:?}"), Shaken, object, Served));
    }
    run(&world, &rows);
    world.finish();
}

/// Row 27: several streams of one connection are several streams.
#[test]
fn a_connection_may_not_publish_where_it_plays() {
    let world = World::start();
    let mut peer = world.peer();
    peer.send(&peer::player("canary", "near"));
    peer.wait_for_status("NetStream.Play.Start");
    peer.send(&publish(1, "mine"));
    assert!(peer.is_closed(SOON));
    let id = peer.id;
    drop(peer);
    let close = world.facts.close_of(id).reason.map(|reason| (reason.code(), reason.detail()));
    assert_eq!(close, Some(("misbehaved", Some("rtmp.publish_while_playing"))));
    world.finish();
}

/// Row 29.
#[test]
fn a_second_publisher_is_refused_while_the_first_is_live() {
    let world = World::start();
    let mut first = world.peer();
    first.send(&[peer::publisher("live", "twice"), video(true, 0, b"first")].concat());
    first.wait_for_status("NetStream.Publish.Start");
    for shard in [HERE, THERE] {
        let mut second = world.peer_on(shard);
        second.send(&[peer::publisher("live", "twice"), video(true, 0, b"second")].concat());
        second.wait_for_status("NetStream.Publish.BadName");
        assert!(second.is_closed(SOON));
        let id = second.id;
        drop(second);
        assert_eq!(world.facts.close_of(id).reason, Some(Reason::NameTaken));
        let refusals = world.facts.of(id, 0);
        let refusals: Vec<_> = refusals.iter().filter(|fact| fact.kind == FactKind::PublishRefuse).collect();
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].reason, Some(Reason::NameTaken));
    }
    assert!(first.is_served());
    let info = world.router.inspect(&key("live/twice")).expect("it is live");
    assert_eq!((info.connection, info.frames), (first.id, 1), "frames of another came in");
    drop(first);
    world.finish();
}

/// Row 29, the other policy.
#[test]
fn a_second_publisher_takes_over_and_the_first_writes_no_more() {
    let world = World::with(Setup {
        apps: vec![AppSpec::new("*"), AppSpec::new("taken").conflict(Conflict::TakeOver)],
        ..Setup::default()
    });
    for (name, shard) in [("here", HERE), ("there", THERE)] {
        let stream = format!("taken/{name}");
        let mut first = world.peer();
        first.send(&[peer::publisher("taken", name), video(true, 0, b"first")].concat());
        first.wait_for_status("NetStream.Publish.Start");
        let mut second = world.peer_on(shard);
        second.send(&[peer::publisher("taken", name), video(true, 0, b"second")].concat());
        second.wait_for_status("NetStream.Publish.Start");
        first.send(&video(true, 40, b"late"));
        assert!(first.is_closed(SOON));
        let (old, new) = (first.id, second.id);
        drop(first);
        assert_eq!(world.facts.close_of(old).reason, Some(Reason::TakenOver));
        assert!(second.is_served());
        let info = world.router.inspect(&key(&stream)).expect("it is live");
        assert_eq!((info.connection, info.frames), (new, 1), "frames of the former came in");
        let takeovers = world.facts.about(FactKind::Takeover, &stream);
        assert_eq!(takeovers.len(), 1);
        assert_eq!(takeovers[0].who.as_ref().map(|who| who.connection), Some(new));
        // Who lost it is told by the end of the former, in the same trail.
        let ends = world.facts.about(FactKind::PublishEnd, &stream);
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].who.as_ref().map(|who| who.connection), Some(old));
        drop(second);
    }
    world.finish();
}

/// Row 31.
#[test]
fn numbers_in_metadata_that_are_none_are_not_used() {
    let world = World::start();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e308, 0.0] {
        let mut peer = world.peer();
        peer.send(&peer::publisher("live", "numbers"));
        peer.wait_for_status("NetStream.Publish.Start");
        let members = [
            "width",
            "height",
            "framerate",
            "duration",
            "videodatarate",
            "audiodatarate",
            "audiosamplerate",
            "audiochannels",
        ];
        let members = members.iter().map(|name| ((*name).into(), Value::Number(number))).collect();
        let values = peer::values(&[Value::string("onMetaData"), Value::EcmaArray(members)]);
        peer.send(&message(DATA, 1, 0, &values));
        peer.send(&video(true, 0, b"x"));
        assert!(peer.is_served(), "{number}");
        let info = world.router.inspect(&key("live/numbers")).expect("it is live");
        assert_eq!(info.description.size, None, "{number}");
        let told = [info.description.frame_rate, info.description.video_bitrate, info.description.sample_rate];
        assert!(told.iter().flatten().all(|told| told.is_finite() && *told > 0.0), "{number}: {told:?}");
        drop(peer);
        wait_for("that it ends", || world.router.inspect(&key("live/numbers")).is_none().then_some(()));
    }
    world.finish();
}

/// An authenticator that never answers denies, and the connection is not read meanwhile.
#[test]
fn what_follows_a_request_waits_for_its_answer() {
    let mut setup = Setup { authenticator: Some(Arc::new(Silent::default())), ..Setup::default() };
    setup.limits.auth_deadline = Duration::from_millis(300);
    let world = World::with(setup);
    let unread = refused("auth_timeout");
    run(
        &world,
        &[
            row(
                "a publish and an error behind it",
                Created,
                [publish(1, "silent"), vec![0xFF; 100_000]].concat(),
                unread,
            ),
            row("a play and an error behind it", Created, [play(1, "silent"), vec![0xFF; 100_000]].concat(), unread),
        ],
    );
    world.finish();
}
