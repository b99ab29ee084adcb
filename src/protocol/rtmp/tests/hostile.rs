//! Peers that break the rules, and which answer each gets.

use super::*;
use crate::limits::Limit;
use crate::protocol::rtmp::message::{
    ACKNOWLEDGEMENT, AGGREGATE, AUDIO, DATA, SET_PEER_BANDWIDTH, USER_CONTROL, VIDEO, WINDOW_ACKNOWLEDGEMENT_SIZE,
};
use crate::reason::Label;

fn malformed(result: Result<(), Reason>) -> &'static str {
    match result {
        Err(Reason::Malformed { what, .. }) => what.0,
        other => panic!("{other:?}"),
    }
}

fn misbehaved(label: &'static str) -> Result<(), Reason> {
    Err(Reason::Misbehaved(Label(label)))
}

// Rows 3 and 4 of the list of faults.

#[test]
fn another_protocol_is_refused_at_once_and_gets_no_answer() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n"[..], Reason::Malformed { what: Label("rtmp.version"), at: 0 }),
        (b"\x16\x03\x01", Reason::Malformed { what: Label("rtmp.version"), at: 0 }),
        (b"\xFF", Reason::Malformed { what: Label("rtmp.version"), at: 0 }),
        (b"\x06", Reason::Unsupported(Label("rtmp.rtmpe"))),
    ] {
        let mut session = session(&Limits::default());
        assert_eq!(session.handle(at_ms(0), Input::Bytes(Bytes::from_static(bytes))), Err(reason));
        assert!(session.poll().is_none());
    }
}

#[test]
fn what_comes_before_connect_is_bounded() {
    let mut peer = Peer::shaken();
    let mut out = Vec::new();
    peer.writer.set_chunk_size(&mut out, 1 << 20);
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &vec![0; 1 << 20]);
    let mut sent = 0;
    let result = out.chunks(1000).find_map(|piece| {
        sent += piece.len();
        peer.send(piece.to_vec()).err()
    });
    assert_eq!(result, Some(Reason::Limit(Limit::HandshakeBytes)));
    assert!(sent <= Limits::default().handshake_bytes);
}

// Rows 7, 20 and 21.

#[test]
fn tiny_chunks_are_bounded_by_their_number() {
    let limits = Limits { chunk_headers_per_second: 10_000, ..Limits::default() };
    let mut peer = Peer::publishing_within(&limits);
    let mut out = Vec::new();
    peer.writer.set_chunk_size(&mut out, 1);
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &avc_frame(true, 0, &[0; 20_000]));
    assert_eq!(peer.send(out), Err(Reason::Limit(Limit::ChunkRate)));
}

#[test]
fn floods_of_control_messages_end_the_connection() {
    for (kind, payload) in [
        (ACKNOWLEDGEMENT, &[0; 4][..]),
        (WINDOW_ACKNOWLEDGEMENT_SIZE, &[0; 4]),
        (SET_PEER_BANDWIDTH, &[0, 0, 0, 0, 2]),
        (USER_CONTROL, &[0, 6, 0, 0, 0, 0]),
        (USER_CONTROL, &[0, 3, 0, 0, 0, 1, 0, 0, 0, 0]),
        (DATA, b"\x02\x00\x01a"),
    ] {
        let mut peer = Peer::playing();
        let limit = Limits::default().commands_per_second;
        let error = (0..=limit).find_map(|_| peer.message(kind, 0, 0, payload).err());
        assert_eq!(error, Some(Reason::Limit(Limit::CommandRate)), "{kind}");
    }
}

#[test]
fn acknowledgements_at_a_usual_rate_are_read_for_ever() {
    let mut peer = Peer::playing();
    for second in 2..2_000 {
        peer.now = at_ms(second * 1_000);
        for _ in 0..100 {
            peer.message(ACKNOWLEDGEMENT, 0, 0, &[0; 4]).unwrap();
        }
    }
    // Nothing but our own, once in 2.5 million bytes.
    assert_eq!(peer.replies.iter().map(|m| m.kind).collect::<Vec<_>>(), [ACKNOWLEDGEMENT]);
}

#[test]
fn a_window_of_zero_is_acknowledged_once_per_read() {
    let mut peer = Peer::publishing();
    peer.message(WINDOW_ACKNOWLEDGEMENT_SIZE, 0, 0, &[0; 4]).unwrap();
    peer.replies.clear();
    let mut out = Vec::new();
    for n in 0..100 {
        peer.writer.message(&mut out, 6, VIDEO, 1, n, &avc_frame(false, 0, b"x"));
    }
    peer.send(out).unwrap();
    assert_eq!(peer.replies.len(), 1);
}

// Rows 18 and 19, and 35.

#[test]
fn empty_messages_and_tags_are_tolerated() {
    let mut peer = Peer::publishing();
    for kind in [AUDIO, VIDEO, DATA, AGGREGATE, 15, 16, 19, 7, 200] {
        peer.message(kind, 1, 0, &[]).unwrap();
    }
    for tag in [&[0x17][..], &[0x17, 2], &[0x17, 1, 0, 0, 0], &[0x17, 0, 0, 0, 0], &[0x57, 0], &[0x27, 2, 0, 0, 0]] {
        peer.message(VIDEO, 1, 0, tag).unwrap();
    }
    for tag in [&[0xAF][..], &[0xAF, 0], &[0xAF, 1], &[0x2F]] {
        peer.message(AUDIO, 1, 0, tag).unwrap();
    }
    assert!(peer.frames().is_empty());
    for kind in [ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_ACKNOWLEDGEMENT_SIZE, SET_PEER_BANDWIDTH] {
        assert_eq!(malformed(Peer::publishing().message(kind, 0, 0, &[])), "rtmp.control_length");
    }
    assert_eq!(malformed(Peer::publishing().message(20, 0, 0, &[])), "rtmp.command");
}

#[test]
fn an_aggregate_that_lies_is_malformed() {
    let inner = |kind: u8, said: u8, body: &[u8]| [&[kind, 0, 0, said, 0, 0, 0, 0, 0, 0, 0][..], body].concat();
    for tags in [
        inner(VIDEO, 200, b"short"),
        inner(AGGREGATE, 11, &inner(AUDIO, 0, b"")),
        [inner(AUDIO, 2, &[0xAF, 1]), vec![0, 0]].concat(),
        [inner(AUDIO, 2, &[0xAF, 1]), vec![0, 0, 0, 13, 9]].concat(),
        vec![AUDIO; 10],
    ] {
        assert_eq!(malformed(Peer::publishing().message(AGGREGATE, 1, 0, &tags)), "rtmp.aggregate", "{tags:?}");
    }
    // Inner lengths of zero are no lie; very many tags are too many.
    let empty = [inner(AUDIO, 0, b""), vec![0, 0, 0, 11]].concat();
    Peer::publishing().message(AGGREGATE, 1, 0, &empty.repeat(4096)).unwrap();
    let result = Peer::publishing().message(AGGREGATE, 1, 0, &empty.repeat(4097));
    assert_eq!(result, Err(Reason::Limit(Limit::Values)));
}

#[test]
fn multitrack_that_lies_is_malformed() {
    for (tag, label) in [
        (&b"\x96\x11avc1\x00\x00\x00\xFFx"[..], "rtmp.tag_end"),
        (b"\x96\x11avc1\x00\xFF\xFF\xFFx", "rtmp.tag_end"),
        (b"\x96\x21avc", "rtmp.tag_end"),
        (b"\x96\x16avc1\x00", "rtmp.multitrack_nested"),
        (b"\x91avc1\0", "rtmp.tag_end"),
        (b"\x97\xFF\xFF\xFFx", "rtmp.tag_end"),
        (b"\x97\x02\0\0\0", "rtmp.tag_end"),
        (b"\x91", "rtmp.tag_end"),
    ] {
        assert_eq!(malformed(Peer::publishing().message(VIDEO, 1, 0, tag)), label, "{tag:02x?}");
    }
    let many = [&b"\x96\x11avc1"[..], &b"\x00\x00\x00\x00".repeat(255)].concat();
    assert_eq!(Peer::publishing().message(VIDEO, 1, 0, &many), Err(Reason::Limit(Limit::Tracks)));
}

#[test]
fn a_configuration_that_is_no_configuration_is_not_kept() {
    for (kind, tag) in [(VIDEO, avc_header()), (DATA, b"\x02\x00\x0AonMetaData\x0C\x00\x01\x00\x00".to_vec())] {
        let tag = [tag, vec![0; 65_536]].concat();
        assert_eq!(Peer::publishing().message(kind, 1, 0, &tag), Err(Reason::Limit(Limit::MessageBytes)));
    }
}

// Rows 22 to 25 and 30.

#[test]
fn values_that_exhaust_are_refused_in_commands_and_data() {
    let command = b"\x02\x00\x01x\x00\0\0\0\0\0\0\0\0".to_vec();
    let data = b"\x02\x00\x0AonMetaData".to_vec();
    for (kind, head) in [(20, command), (DATA, data)] {
        let deep = [&head[..], &b"\x0A\0\0\0\x01".repeat(70_000)].concat();
        assert_eq!(Peer::publishing().message(kind, 1, 0, &deep), Err(Reason::Limit(Limit::Depth)));
        let wide = [&head[..], &[5; 5_000]].concat();
        assert_eq!(Peer::publishing().message(kind, 1, 0, &wide), Err(Reason::Limit(Limit::Values)));
        let short = [&head[..], b"\x02\xFF\xFFx"].concat();
        assert_eq!(malformed(Peer::publishing().message(kind, 1, 0, &short)), "rtmp.amf_end");
        let unknown = [&head[..], &[0x0E]].concat();
        assert_eq!(malformed(Peer::publishing().message(kind, 1, 0, &unknown)), "rtmp.amf_marker");
    }
}

#[test]
fn strange_transactions_and_arguments_are_answered() {
    let mut peer = Peer::connected();
    for transaction in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1.0, 5e-324] {
        for name in ["releaseStream", "FCPublish", "getStreamLength", "_checkbw"] {
            for value in [Value::Null, Value::Number(f64::NAN), Value::StrictArray(vec![]), Value::Reference(9)] {
                peer.command(0, name, transaction, &[value.clone(), value]).unwrap();
                assert_eq!(peer.reply("_result").transaction.to_bits(), transaction.to_bits());
            }
        }
    }
    peer.replies.clear();
    peer.command(0, "releaseStream", -0.0, &[Value::Null]).unwrap();
    assert!(peer.replies.is_empty());
    for id in [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e308, 99.0] {
        peer.command(0, "deleteStream", 0.0, &[Value::Null, Value::Number(id)]).unwrap();
    }
    peer.command(0, "deleteStream", 0.0, &[]).unwrap();
    assert!(peer.outputs.is_empty());
}

#[test]
fn a_name_that_is_no_text_is_a_bad_name() {
    for name in [Value::Null, Value::Number(1.0), Value::Boolean(true), Value::StrictArray(vec![])] {
        for command in ["publish", "play"] {
            let mut peer = Peer::connected();
            peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
            assert_eq!(peer.command(1, command, 0.0, &[Value::Null, name.clone()]), Err(Reason::BadName));
        }
    }
    let mut peer = Peer::shaken();
    let result = peer.connect(&[("app", Value::string("../etc"))]);
    assert_eq!(result, Err(Reason::BadName));
    assert_eq!(status_code(&peer.reply("_error").arguments[0]), "NetConnection.Connect.Rejected");
}

// Rows 27 and 28: what is legal in which state, all of it.

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Shaken,
    Connected,
    Created,
    Publishing,
    Playing,
    Over,
}

const STATES: [State; 6] =
    [State::Shaken, State::Connected, State::Created, State::Publishing, State::Playing, State::Over];

fn peer_in(state: State) -> Peer {
    match state {
        State::Shaken => Peer::shaken(),
        State::Connected => Peer::connected(),
        State::Created => {
            let mut peer = Peer::connected();
            peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
            peer
        }
        State::Publishing => Peer::publishing(),
        State::Playing => Peer::playing(),
        State::Over => {
            let mut peer = Peer::publishing();
            peer.command(1, "closeStream", 0.0, &[Value::Null]).unwrap();
            peer.outputs.clear();
            peer
        }
    }
}

#[test]
fn what_is_legal_in_which_state() {
    type Event = fn(&mut Peer) -> Result<(), Reason>;
    let events: [(&str, Event); 8] = [
        ("connect", |peer| peer.connect(&[("app", Value::string("live"))])),
        ("createStream", |peer| peer.command(0, "createStream", 9.0, &[Value::Null])),
        ("publish", |peer| peer.command(1, "publish", 9.0, &[Value::Null, Value::string("n")])),
        ("play", |peer| peer.command(1, "play", 9.0, &[Value::Null, Value::string("n")])),
        ("media", |peer| peer.message(VIDEO, 1, 0, &avc_frame(true, 0, b"x"))),
        ("data", |peer| peer.message(DATA, 1, 0, b"\x02\x00\x0AonMetaData\x05")),
        ("closeStream", |peer| peer.command(1, "closeStream", 9.0, &[Value::Null])),
        ("FCPublish", |peer| peer.command(0, "FCPublish", 9.0, &[Value::Null, Value::string("n")])),
    ];
    let early = misbehaved("rtmp.not_connected");
    let twice = misbehaved("rtmp.connect_twice");
    let nowhere = misbehaved("rtmp.no_such_stream");
    let media = misbehaved("rtmp.media_before_publish");
    // Shaken, connected, created, publishing, playing, over.
    let table: [[Result<(), Reason>; 6]; 8] = [
        [Ok(()), twice, twice, twice, twice, twice],
        [early, Ok(()), Ok(()), Ok(()), Ok(()), Ok(())],
        [early, nowhere, Ok(()), misbehaved("rtmp.publish_twice"), misbehaved("rtmp.publish_while_playing"), Ok(())],
        [early, nowhere, Ok(()), misbehaved("rtmp.play_while_publishing"), Ok(()), Ok(())],
        [media, media, media, Ok(()), media, Ok(())],
        [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(())],
        [early, Ok(()), Ok(()), Ok(()), Ok(()), Ok(())],
        [early, Ok(()), Ok(()), Ok(()), Ok(()), Ok(())],
    ];
    for ((name, event), row) in events.iter().zip(table) {
        for (state, expected) in STATES.into_iter().zip(row) {
            let mut peer = peer_in(state);
            peer.replies.clear();
            assert_eq!(event(&mut peer), expected, "{name} when {state:?}");
            if expected.is_err() && *name != "media" {
                assert!(!peer.replies.is_empty(), "{name} when {state:?} gets no answer");
            }
        }
    }
}

#[test]
fn streams_of_one_connection_are_bounded() {
    let mut peer = Peer::connected();
    for id in 1..=16 {
        peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
        assert_eq!(peer.reply("_result").arguments[0].as_number(), Some(f64::from(id)));
    }
    let result = peer.command(0, "createStream", 2.0, &[Value::Null]);
    assert_eq!(result, Err(Reason::Limit(Limit::StreamsPerConnection)));
    assert_eq!(status_code(&peer.reply("_error").arguments[0]), "NetConnection.Call.Failed");
}

#[test]
fn a_stream_id_is_never_used_twice() {
    let mut peer = Peer::connected();
    for id in 1..=100 {
        peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
        assert_eq!(peer.reply("_result").arguments[0].as_number(), Some(f64::from(id)));
        peer.command(0, "deleteStream", 0.0, &[Value::Null, Value::Number(f64::from(id))]).unwrap();
    }
}

#[test]
fn a_stream_closed_while_a_frame_is_under_way_forwards_nothing_of_it() {
    let mut peer = Peer::publishing();
    let mut out = Vec::new();
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &avc_frame(true, 0, &[0; 1000]));
    let rest = out.split_off(12 + 128);
    peer.send(out).unwrap();
    peer.command(1, "closeStream", 0.0, &[Value::Null]).unwrap();
    assert!(matches!(peer.outputs[..], [Output::Unpublish(1)]));
    peer.send(rest).unwrap();
    assert!(peer.frames().is_empty());
}

// Row 73: a stream key must not be in what is printed.

#[test]
fn a_secret_is_in_no_output_that_is_printed() {
    let mut peer = Peer::shaken();
    peer.connect(&[
        ("app", Value::string("live?token=hunter2")),
        ("tcUrl", Value::string("rtmp://u:hunter2@host/live?token=hunter2")),
    ])
    .unwrap();
    peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
    peer.command(1, "publish", 3.0, &[Value::Null, Value::string("n?token=hunter2&password=hunter2")]).unwrap();
    peer.answer(Input::Published(1, Err(Reason::Denied))).unwrap_err();
    let shown = format!("{:?} {:?}", peer.outputs, peer.replies);
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_connection_that_is_idle_takes_little_memory() {
    let session = size_of::<crate::protocol::rtmp::session::RtmpSession>();
    let connection = size_of::<crate::protocol::rtmp::session::Connection>();
    let outputs = 4 * size_of::<Output>();
    assert!(session + connection + outputs <= 1024, "{session} + {connection} + {outputs}");
}
