//! Players as they come, and how a play starts and ends.

use super::*;
use crate::protocol::rtmp::message::{STREAM_BEGIN, STREAM_EOF, USER_CONTROL};
use crate::protocol::rtmp::packetizer::Format;
use crate::protocol::{Merge, PlayOptions, Start};
use crate::reason::Label;

#[test]
fn ffmpeg_plays() {
    let mut peer = Peer::shaken();
    peer.connect(&[
        ("app", Value::string("live")),
        ("flashVer", Value::string("LNX 9,0,124,2")),
        ("tcUrl", Value::string("rtmp://host:1935/live")),
        ("fpad", Value::Boolean(false)),
        ("capabilities", Value::Number(15.0)),
        ("audioCodecs", Value::Number(4071.0)),
        ("videoCodecs", Value::Number(252.0)),
        ("videoFunction", Value::Number(1.0)),
    ])
    .unwrap();
    let mut out = Vec::new();
    peer.writer.window_acknowledgement_size(&mut out, 2_500_000);
    peer.send(out).unwrap();
    peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
    peer.command(0, "FCSubscribe", 3.0, &[Value::Null, Value::string("name")]).unwrap();
    peer.command(0, "getStreamLength", 4.0, &[Value::Null, Value::string("name")]).unwrap();
    peer.replies.clear();
    peer.command(1, "play", 5.0, &[Value::Null, Value::string("name"), Value::Number(-2000.0)]).unwrap();
    let request = peer.play_request();
    assert_eq!((request.handle, request.key.as_str(), request.options), (1, "live/name", PlayOptions::default()));
    assert_eq!(Format::from_number(request.format), Format { stream: 1, multitrack: false });
    let mut out = Vec::new();
    peer.writer.user_control(&mut out, 3, 1);
    peer.send(out).unwrap();
    assert!(peer.replies.is_empty());

    peer.answer(Input::Playing(1, Ok(()))).unwrap();

    assert_eq!(peer.replies[0].kind, USER_CONTROL);
    assert_eq!(peer.replies[0].payload[..2], STREAM_BEGIN.to_be_bytes());
    assert_eq!(peer.status(), "NetStream.Play.Reset");
    assert_eq!(peer.status(), "NetStream.Play.Start");
    let access = peer.replies.last().unwrap();
    assert_eq!((access.kind, access.stream), (18, 1));

    peer.replies.clear();
    peer.answer(Input::Ended(1, Reason::Ended)).unwrap();
    // The player has a moment to take in the last frames.
    assert!(peer.outputs.is_empty() && peer.replies.is_empty());
    peer.now.mono = peer.session.deadline().unwrap().0;
    peer.answer(Input::Deadline).unwrap();
    assert_eq!(peer.replies[0].payload[..2], STREAM_EOF.to_be_bytes());
    assert_eq!(peer.status(), "NetStream.Play.UnpublishNotify");
    assert!(matches!(peer.outputs.pop(), Some(Output::Close(Reason::Ended))));
}

#[test]
fn a_player_may_ask_for_less_delay_or_fewer_sends() {
    let mut peer = Peer::connected();
    peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
    let name = "name?merge_ms=50&max_age_ms=800&start=live&token=s";
    peer.command(1, "play", 0.0, &[Value::Null, Value::string(name)]).unwrap();
    let request = peer.play_request();
    assert_eq!(
        request.options,
        PlayOptions {
            start: Some(Start::Live),
            merge: Some(Merge::Window(Duration::from_millis(50))),
            max_age: Some(Duration::from_millis(800)),
        }
    );
}

#[test]
fn a_viewer_may_say_that_its_player_knows_multitrack() {
    let mut peer = Peer::connected();
    peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
    peer.command(1, "play", 0.0, &[Value::Null, Value::string("name?multitrack=1")]).unwrap();
    assert!(Format::from_number(peer.play_request().format).multitrack);
}

#[test]
fn an_enhanced_client_is_answered_in_kind() {
    let mut peer = Peer::shaken();
    peer.connect(&[
        ("app", Value::string("live")),
        ("fourCcList", Value::StrictArray(vec![Value::string("av01")])),
        ("videoFourCcInfoMap", Value::object([("hvc1", Value::Number(1.0))])),
        ("capsEx", Value::Number(3.0)),
    ])
    .unwrap();
    let info = peer.reply("_result").arguments.remove(0);
    assert_eq!(info.get("fourCcList"), Some(&Value::StrictArray(vec![Value::string("*")])));
    assert_eq!(info.get("capsEx").and_then(Value::as_number), Some(15.0));
    assert!(info.get("videoFourCcInfoMap").is_some() && info.get("audioFourCcInfoMap").is_none());

    peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
    peer.command(1, "play", 0.0, &[Value::Null, Value::string("name")]).unwrap();
    let format = peer.play_request().format;
    assert_eq!(Format::from_number(format), Format { stream: 1, multitrack: true });
    peer.answer(Input::Playing(1, Ok(()))).unwrap();
    peer.replies.clear();
    peer.answer(Input::Closing(Reason::Shutdown)).unwrap();
    assert_eq!(peer.status(), "NetConnection.Connect.ReconnectRequest");
    assert_eq!(peer.status(), "NetStream.Play.UnpublishNotify");
}

#[test]
fn a_client_that_asks_for_amf3_is_answered_in_amf0() {
    let mut peer = Peer::shaken();
    let mut payload = vec![0];
    for value in [
        Value::string("connect"),
        Value::Number(1.0),
        Value::object([("app", Value::string("live")), ("objectEncoding", Value::Number(3.0))]),
    ] {
        crate::protocol::rtmp::amf::encode(&mut payload, &value);
    }
    peer.message(17, 0, 0, &payload).unwrap();
    let info = peer.reply("_result").arguments.remove(0);
    assert_eq!(info.get("objectEncoding").and_then(Value::as_number), Some(0.0));
}

#[test]
fn a_refused_player_is_told_why() {
    for (reason, code) in [
        (Reason::NotFound, "NetStream.Play.StreamNotFound"),
        (Reason::UnknownApp, "NetStream.Play.StreamNotFound"),
        (Reason::Denied, "NetStream.Play.Failed"),
    ] {
        let mut peer = Peer::connected();
        peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
        peer.command(1, "play", 0.0, &[Value::Null, Value::string("name")]).unwrap();
        assert_eq!(peer.answer(Input::Playing(1, Err(reason))), Err(reason));
        assert_eq!(peer.status(), code);
    }
}

#[test]
fn a_player_may_pause_and_go_on() {
    let mut peer = Peer::playing();
    for (pause, code) in [(true, "NetStream.Pause.Notify"), (false, "NetStream.Unpause.Notify")] {
        peer.command(1, "pause", 0.0, &[Value::Null, Value::Boolean(pause), Value::Number(0.0)]).unwrap();
        assert_eq!(peer.status(), code);
        assert!(matches!(peer.outputs.pop(), Some(Output::Pause(1, p)) if p == pause));
    }
}

#[test]
fn what_a_live_stream_can_not_do_is_answered_and_nothing_ends() {
    let mut peer = Peer::playing();
    for (name, code) in [("seek", "NetStream.Seek.Failed"), ("play2", "NetStream.Play.Failed")] {
        peer.command(1, name, 0.0, &[Value::Null, Value::Number(0.0)]).unwrap();
        assert_eq!(peer.status(), code);
    }
    peer.command(1, "receiveAudio", 0.0, &[Value::Null, Value::Boolean(false)]).unwrap();
    peer.command(1, "receiveVideo", 0.0, &[Value::Null, Value::Boolean(false)]).unwrap();
    peer.command(0, "nonsense", 0.0, &[Value::Null]).unwrap();
    assert!(peer.replies.is_empty() && peer.outputs.is_empty());
    peer.command(0, "nonsense", 9.0, &[Value::Null]).unwrap();
    assert_eq!(peer.reply("_error").transaction, 9.0);
}

#[test]
fn a_player_that_leaves_stops() {
    let mut peer = Peer::playing();
    peer.command(0, "deleteStream", 0.0, &[Value::Null, Value::Number(1.0)]).unwrap();
    assert!(matches!(peer.outputs.pop(), Some(Output::Stop(1))));
    // An end that was under way.
    peer.answer(Input::Ended(1, Reason::Ended)).unwrap();
    assert!(peer.outputs.is_empty() && peer.replies.is_empty());
}

#[test]
fn another_stream_takes_the_place_of_the_one_that_plays() {
    let mut peer = Peer::playing();
    let values = [Value::Null, Value::string("b"), Value::Number(-2.0), Value::Number(-1.0), Value::Boolean(false)];
    peer.command(1, "play", 0.0, &values).unwrap();
    assert!(matches!(peer.outputs[0], Output::Stop(1)));
    assert_eq!(peer.play_request().key.as_str(), "live/b");
    peer.answer(Input::Playing(1, Ok(()))).unwrap();
    assert_eq!(peer.status(), "NetStream.Play.Start");
}

#[test]
fn a_connection_ends_with_the_last_of_its_streams() {
    let mut peer = Peer::playing();
    peer.command(0, "createStream", 2.0, &[Value::Null]).unwrap();
    peer.command(2, "play", 0.0, &[Value::Null, Value::string("b")]).unwrap();
    peer.answer(Input::Playing(2, Ok(()))).unwrap();
    peer.outputs.clear();
    peer.answer(Input::Ended(1, Reason::Ended)).unwrap();
    assert!(peer.outputs.is_empty());
    peer.answer(Input::Ended(2, Reason::Ended)).unwrap();
    peer.now.mono = peer.session.deadline().unwrap().0;
    peer.answer(Input::Deadline).unwrap();
    assert!(matches!(peer.outputs.pop(), Some(Output::Close(Reason::Ended))));
}

#[test]
fn media_from_a_player_is_misbehaviour() {
    let mut peer = Peer::playing();
    assert_eq!(
        peer.message(9, 1, 0, &avc_frame(true, 0, b"x")),
        Err(Reason::Misbehaved(Label("rtmp.media_before_publish")))
    );
}

#[test]
fn a_ping_is_answered() {
    let mut peer = Peer::playing();
    let mut out = Vec::new();
    peer.writer.user_control(&mut out, 6, 0x1234_5678);
    peer.send(out).unwrap();
    assert_eq!(peer.replies[0].payload, &[0, 7, 0x12, 0x34, 0x56, 0x78][..]);
}
