//! Handshake, chunks, timestamps: what is no RTMP, or almost.

use std::time::Duration;

use bytes::Bytes;
use shardcast::fact::FactKind;
use shardcast::id::StreamKey;
use shardcast::limits::Limit;
use shardcast::media::FrameKind;
use shardcast::protocol::rtmp::amf::Value;
use shardcast::protocol::rtmp::handshake;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, Subscription};

use super::peer::{self, chunk, control, hello, message, video, video_tag};
use super::rows::Expect::Served;
use super::rows::Stage::{Connected, Publishing, Raw, Shaken};
use super::rows::{limited, malformed, misbehaved, row, run, unsupported};
use super::world::{HERE, SOON, Setup, World, now, wait_for};

/// Message types, as the specification numbers them.
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW: u8 = 5;
const BANDWIDTH: u8 = 6;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA: u8 = 18;
const COMMAND: u8 = 20;
const AGGREGATE: u8 = 22;

/// Rows 1 and 2 of the fault list.
#[test]
fn a_handshake_that_is_not_done_in_time_is_closed_however_its_bytes_trickle() {
    let mut setup = Setup::default();
    setup.limits.handshake_deadline = Duration::from_millis(700);
    let world = World::with(setup);
    for trickles in [false, true] {
        let mut peer = world.peer();
        let started = now();
        let bytes = hello();
        let mut sent = 0;
        while !peer.is_closed(Duration::from_millis(20)) {
            if trickles {
                peer.send(&bytes[sent..=sent]);
                sent += 1;
            }
            assert!(now().since(started) < SOON, "trickles: {trickles}: not closed");
        }
        let lasted = now().since(started);
        let id = peer.id;
        drop(peer);
        assert_eq!(world.facts.close_of(id).reason, Some(Reason::HandshakeTimeout), "trickles: {trickles}");
        assert!(lasted >= Duration::from_millis(600), "closed after {lasted:?} already");
    }
    world.finish();
}

/// Between the handshake and the first publish or play there is a deadline too, and bytes do not move it.
#[test]
fn a_peer_that_neither_publishes_nor_plays_is_closed_in_time() {
    let mut setup = Setup::default();
    setup.limits.request_deadline = Duration::from_millis(900);
    let world = World::with(setup);
    for acts in [vec![hello()], vec![hello(), peer::connect("live"), peer::create_stream()]] {
        let mut peer = world.peer();
        peer.send(&acts.concat());
        let started = now();
        while !peer.is_closed(Duration::from_millis(20)) {
            peer.send(&control(ACKNOWLEDGEMENT, &[0; 4]));
            assert!(now().since(started) < SOON, "not closed");
        }
        let id = peer.id;
        drop(peer);
        assert_eq!(world.facts.close_of(id).reason, Some(Reason::RequestTimeout));
    }
    world.finish();
}

/// Rows 3 to 5.
#[test]
fn what_is_no_handshake_is_refused_without_a_word() {
    let world = World::start();
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0], &[255; 100], &[6; 1537], &[0]] {
        let mut peer = world.peer();
        peer.send(first);
        assert!(peer.is_closed(SOON), "{first:02x?} is not closed");
        assert_eq!(peer.received, 0, "{first:02x?} got an answer");
    }
    let mut rows = vec![
        row("version 6 is RTMPE", Raw, [6], unsupported("rtmp.rtmpe")),
        row("version 2", Raw, [2], malformed("rtmp.version")),
        row("version 255", Raw, [255], malformed("rtmp.version")),
        row("a request of HTTP", Raw, *b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", malformed("rtmp.version")),
        row("a ClientHello of TLS", Raw, [0x16, 3, 1, 2, 0, 1, 0], malformed("rtmp.version")),
    ];
    // A digest at its first place, its last one, one past that, and one that is wrong.
    for (name, offset) in [("first", [0; 4]), ("last", [255, 255, 217, 0]), ("one past", [255, 255, 218, 0])] {
        for scheme in [8, 772] {
            let mut first = hello();
            first[5..9].copy_from_slice(&[128, 0, 7, 2]);
            first[1 + scheme..5 + scheme].copy_from_slice(&offset);
            rows.push(row(&format!("a wrong digest at the {name} place of {scheme}"), Raw, first, Served));
        }
    }
    for digest in [false, true] {
        let mut first = Vec::new();
        let _ = handshake::Client::new([1, 2, 3, 4], digest, &mut first);
        first.extend_from_slice(&[0; 1536]);
        rows.push(row(&format!("a client's own handshake, digest {digest}"), Raw, first, Served));
    }
    run(&world, &rows);
    world.finish();
}

#[test]
fn a_peer_that_is_not_connected_may_send_little() {
    let world = World::start();
    // A type that means nothing: only its bytes count.
    let ignored = message(99, 0, 0, &vec![7; 30_000]);
    run(
        &world,
        &[
            row("10 MB before connect", Shaken, ignored.repeat(300), limited(Limit::HandshakeBytes)),
            row(
                "10 MB in the place of C2",
                Raw,
                [&[3][..], &vec![0xFF; 10_000_000]].concat(),
                malformed("rtmp.chunk_no_predecessor"),
            ),
            row("60 kB before connect", Shaken, ignored.repeat(2), Served),
            row("media before connect", Shaken, video(true, 0, b"x"), misbehaved("rtmp.media_before_publish")),
            row(
                "16 MB of a message behind connect, before anybody has allowed anything",
                Connected,
                [chunk(6, 0, 16_000_000, VIDEO, 1, &[0; 128]), [&[0xC6][..], &[0; 128]].concat().repeat(2_000)]
                    .concat(),
                limited(Limit::HandshakeBytes),
            ),
        ],
    );
    world.finish();
}

/// Rows 6, 8, 10 to 13 and 15.
#[test]
fn chunks_that_break_the_rules_end_their_connection_and_odd_ones_do_not() {
    let world = World::start();
    let size = |bytes: u32| control(SET_CHUNK_SIZE, &bytes.to_be_bytes());
    // A chunk size of 128 again, in chunks of one byte.
    let size_back = || [chunk(2, 0, 4, SET_CHUNK_SIZE, 0, &[0]), vec![0xC2, 0, 0xC2, 0, 0xC2, 128]].concat();
    let abort = |csid: u32| control(ABORT, &csid.to_be_bytes());
    let begun = || chunk(6, 0, 300, VIDEO, 1, &[0; 128]);
    let ignored = |csid: u8| chunk(csid, 0, 1, 99, 0, &[0]);
    let mut rows = vec![
        row("chunk size 0", Shaken, size(0), malformed("rtmp.chunk_size")),
        row("chunk size with the top bit", Shaken, size(0x8000_0000), malformed("rtmp.chunk_size")),
        row("chunk size 2^32-1", Shaken, size(u32::MAX), malformed("rtmp.chunk_size")),
        row("chunk size 2^31-1 is taken for the greatest", Shaken, size(0x7FFF_FFFF), Served),
        row("chunk size 1", Shaken, [size(1), size_back()].concat(), Served),
        row("chunk size without a number", Shaken, control(SET_CHUNK_SIZE, &[]), malformed("rtmp.control_length")),
        row(
            "type 1 as the first of its chunk stream",
            Shaken,
            [0x43, 0, 0, 0, 0, 0, 1, 99],
            malformed("rtmp.chunk_no_predecessor"),
        ),
        row(
            "type 2 as the first of its chunk stream",
            Shaken,
            [0x83, 0, 0, 0],
            malformed("rtmp.chunk_no_predecessor"),
        ),
        row("type 3 as the first of its chunk stream", Shaken, [0xC3], malformed("rtmp.chunk_no_predecessor")),
        row(
            "type 1 first on the control stream, as librtmp sends it",
            Shaken,
            [0x42, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0],
            Served,
        ),
        row("a new message within one", Publishing, [begun(), begun()].concat(), malformed("rtmp.chunk_interrupted")),
        row(
            "a shorter length within a message",
            Publishing,
            [begun(), vec![0x46, 0, 0, 0, 0, 0, 5, VIDEO]].concat(),
            malformed("rtmp.chunk_interrupted"),
        ),
        row("abort of an unknown chunk stream", Shaken, abort(77), Served),
        row("abort of its own chunk stream", Shaken, abort(2), Served),
        row("abort twice", Publishing, [begun(), abort(6), abort(6)].concat(), Served),
        row("abort, then another message", Publishing, [begun(), abort(6), video(true, 0, b"x")].concat(), Served),
        row("abort without a number", Shaken, control(ABORT, &[0, 0]), malformed("rtmp.control_length")),
        row("63 chunk streams", Shaken, (2..=63).map(ignored).collect::<Vec<_>>().concat(), Served),
    ];
    // One id in two forms is one chunk stream: the type-3 header has a predecessor.
    let long_form = [&[0x01, 0, 0][..], &ignored(0)[1..], &[0xC0, 0, 7]].concat();
    rows.push(row("one id in its two-byte and its three-byte form", Shaken, long_form, Served));
    let many = |unfinished: bool| -> Vec<u8> {
        let mut out = size(1);
        for id in 0..65_533_u32.min(if unfinished { 100 } else { 300 }) {
            let [low, high, ..] = id.to_le_bytes();
            let length = if unfinished { 2 } else { 1 };
            out.extend_from_slice(&[0x01, low, high]);
            out.extend_from_slice(&chunk(0, 0, length, 99, 0, &[0])[1..]);
        }
        out.extend(size_back());
        out
    };
    rows.push(row("300 chunk streams, all idle", Connected, many(false), Served));
    rows.push(row("100 chunk streams, none whole", Connected, many(true), limited(Limit::ChunkStreams)));
    run(&world, &rows);
    world.finish();
}

/// Row 7.
#[test]
fn tiny_chunks_are_work_and_work_is_bounded() {
    let mut setup = Setup::default();
    setup.limits.chunk_headers_per_second = 20_000;
    let world = World::with(setup);
    let tag = video_tag(true, &vec![0; 250_000]);
    let length = u32::try_from(tag.len()).expect("it is short");
    let mut act = control(SET_CHUNK_SIZE, &1_u32.to_be_bytes());
    act.extend_from_slice(&chunk(6, 0, length, VIDEO, 1, &tag[..1]));
    act.extend(tag[1..].iter().flat_map(|byte| [0xC6, *byte]));
    run(&world, &[row("a message in chunks of one byte", Publishing, act, limited(Limit::ChunkRate))]);
    world.finish();
}

/// Row 18.
#[test]
fn messages_of_no_length_are_refused_by_name_or_ignored() {
    let world = World::start();
    let mut rows = Vec::new();
    for kind in 0..=23_u8 {
        let expect = match kind {
            SET_CHUNK_SIZE..=BANDWIDTH => malformed("rtmp.control_length"),
            17 | COMMAND => malformed("rtmp.command"),
            _ => Served,
        };
        rows.push(row(&format!("an empty message of type {kind}"), Publishing, chunk(6, 0, 0, kind, 1, &[]), expect));
    }
    for (kind, name) in [(VIDEO, "video"), (AUDIO, "audio")] {
        for byte in [0x17, 0x27, 0x57, 0xAF, 0x80, 0x90] {
            let act = chunk(6, 0, 1, kind, 1, &[byte]);
            let expect = match (kind, byte) {
                (VIDEO, 0x80 | 0x90) | (AUDIO, 0x90) => malformed("rtmp.tag_end"),
                (VIDEO, 0xAF) => malformed("rtmp.tag_end"),
                (AUDIO, 0x17 | 0x57) => unsupported("rtmp.audio_codec"),
                _ => Served,
            };
            rows.push(row(&format!("a {name} tag of one byte, {byte:#x}"), Publishing, act, expect));
        }
    }
    run(&world, &rows);
    world.finish();
}

/// Row 19.
#[test]
fn aggregates_that_lie_end_their_connection() {
    let world = World::start();
    let tag = |kind: u8, length: u32, body: &[u8]| {
        let [_, a, b, c] = length.to_be_bytes();
        [&[kind, a, b, c, 0, 0, 0, 0, 0, 0, 0][..], body].concat()
    };
    let aggregate = |tags: Vec<u8>| message(AGGREGATE, 1, 0, &tags);
    let good = || [tag(VIDEO, 6, &video_tag(true, b"x")), vec![0, 0, 0, 17]].concat();
    run(
        &world,
        &[
            row(
                "an inner length beyond the outer",
                Publishing,
                aggregate(tag(VIDEO, 7, &[0x17])),
                malformed("rtmp.aggregate"),
            ),
            row(
                "an inner length of 2^24-1",
                Publishing,
                aggregate(tag(VIDEO, 0x00FF_FFFF, &[0x17])),
                malformed("rtmp.aggregate"),
            ),
            row(
                "an inner length of 0",
                Publishing,
                aggregate([tag(VIDEO, 0, &[]), vec![0; 4], good()].concat()),
                Served,
            ),
            row(
                "an aggregate in an aggregate",
                Publishing,
                aggregate(tag(AGGREGATE, 17, &good())),
                malformed("rtmp.aggregate"),
            ),
            row(
                "half a back pointer",
                Publishing,
                aggregate([tag(VIDEO, 6, &video_tag(true, b"x")), vec![0; 2]].concat()),
                malformed("rtmp.aggregate"),
            ),
            row(
                "half a tag header",
                Publishing,
                aggregate([good(), vec![VIDEO, 0, 0]].concat()),
                malformed("rtmp.aggregate"),
            ),
            row(
                "10,000 empty tags",
                Publishing,
                aggregate([tag(VIDEO, 0, &[]), vec![0; 4]].concat().repeat(10_000)),
                limited(Limit::Values),
            ),
            row("a good one", Publishing, aggregate(good()), Served),
        ],
    );
    world.finish();
}

/// Row 20.
#[test]
fn floods_of_control_messages_are_bounded_and_a_window_of_nothing_is_one_byte() {
    let world = World::start();
    let ping = control(USER_CONTROL, &[0, 6, 0, 0, 0, 1]);
    run(
        &world,
        &[
            row("a window of 0", Connected, control(WINDOW, &[0; 4]), Served),
            row("a window of 2^32-1", Connected, control(WINDOW, &[0xFF; 4]), Served),
            row("a bandwidth of 0", Connected, control(BANDWIDTH, &[0; 5]), Served),
            row(
                "a flood of acknowledgements",
                Connected,
                control(ACKNOWLEDGEMENT, &[0; 4]).repeat(5_000),
                limited(Limit::CommandRate),
            ),
            row(
                "a flood of windows",
                Connected,
                control(WINDOW, &[0, 0, 0, 1]).repeat(5_000),
                limited(Limit::CommandRate),
            ),
            row(
                "a flood of bandwidths",
                Connected,
                control(BANDWIDTH, &[0; 5]).repeat(5_000),
                limited(Limit::CommandRate),
            ),
            row("a flood of pings", Connected, ping.repeat(5_000), limited(Limit::CommandRate)),
            row("an event of one byte", Connected, control(USER_CONTROL, &[0]), malformed("rtmp.control_length")),
            row("an event that nobody knows", Connected, control(USER_CONTROL, &[0xFF; 6]), Served),
        ],
    );
    world.finish();
}

/// Row 20, from the other side: what is answered piles up where the peer does not read.
#[test]
fn a_peer_that_asks_and_never_reads_is_closed_when_the_answers_pile_up() {
    let mut setup = Setup::default();
    setup.limits.commands_per_second = 1_000_000;
    setup.limits.reply_bytes = 16 * 1024;
    let world = World::with(setup);
    let mut peer = world.peer();
    let small = socket2::SockRef::from(&peer.socket).set_recv_buffer_size(4096);
    small.expect("a socket takes its options");
    peer.send(&[hello(), peer::connect("live"), peer::create_stream()].concat());
    let asks = peer::command(1, "seek", 0.0, &[Value::Null, Value::Number(1.0)]).repeat(100);
    let end = now() + SOON;
    while peer.send(&asks) && world.facts.of(peer.id, 0).len() < 2 {
        assert!(now() < end, "it may ask without end");
    }
    let id = peer.id;
    let close = world.facts.close_of(id);
    assert_eq!(close.reason, Some(Reason::Limit(Limit::ReplyBytes)));
    drop(peer);
    world.finish();
}

/// Rows 8, 14 and 16.
#[test]
fn what_is_interleaved_resized_or_extended_arrives_whole() {
    let world = World::start();
    let payload = |seed: u8, len: usize| -> Vec<u8> {
        (0..len).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap_or(0))).collect()
    };
    let mut peer = world.peer();
    peer.send(&peer::publisher("live", "whole"));
    peer.wait_for_status("NetStream.Publish.Start");
    let mut viewer = world.subscribe_on(HERE, "live/whole");

    // The chunk size grows in the middle of a message.
    let first = video_tag(true, &payload(1, 300));
    peer.send(&chunk(6, 0, 305, VIDEO, 1, &first[..128]));
    peer.send(&control(SET_CHUNK_SIZE, &4096_u32.to_be_bytes()));
    peer.send(&[&[0xC6], &first[128..]].concat());
    assert_eq!(next_video(&mut viewer), payload(1, 300), "the chunk size grew in mid-message");

    // Three messages of different lengths, their chunks in turn.
    peer.send(&control(SET_CHUNK_SIZE, &100_u32.to_be_bytes()));
    let tags: Vec<Vec<u8>> =
        [(10, 950), (20, 250), (30, 450)].iter().map(|(seed, len)| video_tag(true, &payload(*seed, *len))).collect();
    let mut act = Vec::new();
    for round in 0..10 {
        for (csid, tag) in (10_u8..).zip(&tags) {
            let Some(piece) = tag.chunks(100).nth(round) else { continue };
            if round == 0 {
                let length = u32::try_from(tag.len()).expect("it is short");
                act.extend_from_slice(&chunk(csid, 40, length, VIDEO, 1, piece));
            } else {
                act.push(0xC0 | csid);
                act.extend_from_slice(piece);
            }
        }
    }
    peer.send(&act);
    // In the order in which they became whole.
    for (seed, len) in [(20, 250), (30, 450), (10, 950)] {
        assert_eq!(next_video(&mut viewer), payload(seed, len), "interleaved");
    }

    // Timestamps around the extended field, repeated in type-3 chunks or not.
    for timestamp in [0x00FF_FFFE_u32, 0x00FF_FFFF, 0x0100_0000] {
        for repeated in [true, false] {
            let tag = video_tag(true, &payload(200, 250));
            let mut act = chunk(6, timestamp, 255, VIDEO, 1, &tag[..100]);
            for piece in tag[100..].chunks(100) {
                act.push(0xC6);
                if repeated && timestamp >= 0x00FF_FFFF {
                    act.extend_from_slice(&timestamp.to_be_bytes());
                }
                act.extend_from_slice(piece);
            }
            peer.send(&act);
            assert_eq!(next_video(&mut viewer), payload(200, 250), "{timestamp:#x}, repeated: {repeated}");
        }
    }
    drop((peer, viewer));
    world.finish();
}

/// Row 17.
#[test]
fn a_clock_that_jumps_is_told_once_and_time_never_falls() {
    let world = World::start();
    let mut peer = world.peer();
    peer.send(&peer::publisher("live", "clock"));
    peer.wait_for_status("NetStream.Publish.Start");
    let mut viewer = world.subscribe_on(HERE, "live/clock");
    let day = 24 * 3600 * 1000_u32;
    let steps: [(&str, u32, u64); 8] = [
        ("the start", 1_000, 0),
        ("40 ms on", 1_040, 0),
        ("1 ms back", 1_039, 0),
        ("one hour on", 3_601_000, 1),
        ("one hour back", 1_000, 1),
        ("24 days on", 24 * day, 1),
        ("just below the wrap", 0xFFFF_FFF0, 1),
        ("over the wrap", 0x10, 0),
    ];
    let mut last = i64::MIN;
    let mut jumps = 0;
    for (name, timestamp, jumped) in steps {
        peer.send(&video(true, timestamp, name.as_bytes()));
        let frame = next_frame(&mut viewer);
        assert_eq!(&*frame.payload, name.as_bytes());
        assert!(frame.dts.0 >= last, "time falls at {name}");
        let step = frame.dts.0 - last.max(0);
        assert!(step < 2_000_000_000, "{name}: a step of {step} ns on the output");
        last = frame.dts.0;
        jumps += jumped;
        let told = world.facts.about(FactKind::TimestampJump, "live/clock").len();
        assert_eq!(told as u64, jumps, "told after {name}");
    }
    drop((peer, viewer));
    world.finish();
}

/// Row 17, for both tracks: what a viewer would notice is sound that is off the picture.
#[test]
fn a_clock_that_wraps_jumps_and_falls_keeps_sound_on_the_picture() {
    let world = World::start();
    let mut peer = world.peer();
    peer.send(&peer::publisher("live", "together"));
    peer.wait_for_status("NetStream.Publish.Start");
    let mut viewer = world.subscribe_on(HERE, "live/together");
    let mut start = 0xFFFF_FFD0_u32;
    let mut last = [i64::MIN; 2];
    // Each time two pictures and two packets, the second ones behind the wrap, and the packets 7 ms behind.
    for jump in [0, 0x7000_0000, 0x9000_0000, 3_600_000, 3_600_000_u32.wrapping_neg()] {
        start = start.wrapping_add(jump);
        for at in [0, 40, 80] {
            peer.send(&video(true, start.wrapping_add(at), b"picture"));
            peer.send(&message(AUDIO, 1, start.wrapping_add(at + 7), &[0xAF, 1, 7]));
            let frames = [next_media(&mut viewer), next_media(&mut viewer)];
            assert_eq!(frames[1].dts.0 - frames[0].dts.0, 7_000_000, "{at} ms behind a jump of {jump}");
            for (frame, last) in frames.iter().zip(&mut last) {
                assert!(frame.dts.0 > *last && (*last == i64::MIN || frame.dts.0 - *last < 5_000_000_000));
                *last = frame.dts.0;
            }
        }
    }
    let corrections = world.router.inspect(&StreamKey::parse("live/together").unwrap()).unwrap().corrections;
    assert_eq!((corrections.wraps, corrections.jumps, corrections.restarts, corrections.alone), (1, 2, 2, 0));
    drop((peer, viewer));
    world.finish();
}

/// Row 21 without the reading: what a player sends back is taken, however long it plays.
#[test]
fn what_a_player_sends_back_is_taken_and_a_flood_of_it_ends_the_player_only() {
    let mut setup = Setup::default();
    setup.limits.commands_per_second = 5_000;
    let world = World::with(setup);
    let mut player = world.peer();
    player.send(&peer::player("canary", "near"));
    player.wait_for_status("NetStream.Play.Start");
    let acks = control(ACKNOWLEDGEMENT, &[0; 4]).repeat(100);
    for _ in 0..20 {
        assert!(player.send(&acks));
        assert!(player.video(SOON).is_some(), "it gets no frames any more");
    }
    player.send(&acks.repeat(2_000));
    assert!(player.is_closed(SOON));
    let id = player.id;
    drop(player);
    assert_eq!(world.facts.close_of(id).reason, Some(Reason::Limit(Limit::CommandRate)));
    let ends = world.facts.look(|facts| {
        facts
            .iter()
            .filter(|f| f.kind == FactKind::PlayEnd && f.who.as_ref().is_some_and(|w| w.connection == id))
            .count()
    });
    assert_eq!(ends, 1);
    world.finish();
}

/// Data that is no metadata, and metadata of any size, belong to a publisher only.
#[test]
fn data_messages_are_bounded_and_ignored_from_who_does_not_publish() {
    let world = World::start();
    let long = Value::string(&"x".repeat(70_000));
    let metadata = peer::values(&[Value::string("@setDataFrame"), Value::string("onMetaData"), long]);
    run(
        &world,
        &[
            row("metadata from nobody", Connected, message(DATA, 1, 0, &[0xFF; 20]), Served),
            row(
                "metadata of 70 kB",
                Publishing,
                peer::long_message(DATA, 1, 0, &metadata),
                limited(Limit::MessageBytes),
            ),
            row(
                "data without a name",
                Publishing,
                message(DATA, 1, 0, &peer::values(&[Value::Null])),
                malformed("rtmp.data"),
            ),
            row(
                "data that ends in a value",
                Publishing,
                message(DATA, 1, 0, &[2, 0, 9, b'x']),
                malformed("rtmp.amf_end"),
            ),
        ],
    );
    world.finish();
}

fn next_media(viewer: &mut Subscription) -> shardcast::media::Frame {
    wait_for("a frame", || match viewer.recv_timeout(SOON) {
        Some(Delivery::Frame(frame)) => Some(frame),
        other => panic!("no frame but {other:?}"),
    })
}

fn next_frame(viewer: &mut Subscription) -> shardcast::media::Frame {
    wait_for("a video frame", || match viewer.recv_timeout(SOON) {
        Some(Delivery::Frame(frame)) if matches!(frame.kind, FrameKind::Key | FrameKind::Delta) => Some(frame),
        Some(Delivery::Frame(_)) => None,
        other => panic!("no frame but {other:?}"),
    })
}

fn next_video(viewer: &mut Subscription) -> Bytes {
    next_frame(viewer).payload
}
