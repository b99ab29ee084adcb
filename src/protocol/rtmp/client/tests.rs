use proptest::prelude::*;

use super::super::amf::encode;
use super::super::chunk::{ChunkLimits, ChunkReader};
use super::super::message::{ACKNOWLEDGEMENT, SET_PEER_BANDWIDTH, Typed, understand};
use super::*;
use crate::limits::Limits;

fn purpose(role: Role) -> Purpose {
    Purpose { role, app: "live".into(), host: "example.org".into(), stream: "film?token=t".into() }
}

/// A server's command.
fn said(name: &str, transaction: f64, values: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    encode(&mut body, &Value::string(name));
    encode(&mut body, &Value::Number(transaction));
    values.iter().for_each(|value| encode(&mut body, value));
    body
}

fn status(code: &str, description: &str) -> Vec<u8> {
    let info = Value::object([("code", Value::string(code)), ("description", Value::string(description))]);
    said("onStatus", 0.0, &[Value::Null, info])
}

/// What a client sent: the names of its commands, and the last value of each that is a text.
fn commands(out: &mut Vec<u8>, reader: &mut ChunkReader) -> Vec<(String, String)> {
    let mut bytes = bytes::Bytes::from(std::mem::take(out));
    let mut found = Vec::new();
    while let Some(message) = reader.read(&mut bytes).unwrap() {
        if let Typed::Command(command) = understand(message).unwrap() {
            let text = command.arguments.iter().find_map(Value::as_str).unwrap_or_default();
            found.push((command.name.into_string(), text.to_owned()));
        }
    }
    found
}

fn reader() -> ChunkReader {
    ChunkReader::new(ChunkLimits::from(&Limits::default()), 0)
}

fn named(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_publisher_asks_step_by_step_and_is_told_that_it_publishes() {
    let (mut out, mut reader) = (Vec::new(), reader());
    let mut conversation = Conversation::new(purpose(Role::Publish), &mut out);
    assert_eq!(commands(&mut out, &mut reader), named(&[("connect", "")]));

    conversation.handle(COMMAND, &said("_result", 1.0, &[Value::Null, Value::Null]), &mut out).unwrap();
    let stream = "film?token=t";
    let asked = [("releaseStream", stream), ("FCPublish", stream), ("createStream", "")];
    assert_eq!(commands(&mut out, &mut reader), named(&asked));

    // Servers that do not know it say so; it is no refusal.
    conversation.handle(COMMAND, &said("_error", 2.0, &[Value::Null]), &mut out).unwrap();
    conversation.handle(COMMAND, &said("_result", 4.0, &[Value::Null, Value::Number(7.0)]), &mut out).unwrap();
    assert_eq!(commands(&mut out, &mut reader), named(&[("publish", stream)]));
    assert_eq!((conversation.progress(), conversation.stream()), (Progress::Asked, 7));

    conversation.handle(COMMAND, &status("NetStream.Publish.Start", ""), &mut out).unwrap();
    assert_eq!(conversation.progress(), Progress::Started);
    conversation.unpublish(&mut out);
    assert_eq!(commands(&mut out, &mut reader), named(&[("FCUnpublish", stream), ("deleteStream", "")]));
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_server() {
    for (code, description, expected) in [
        (
            "NetStream.Publish.BadName",
            "The name is taken.",
            "the server refused: The name is taken. (NetStream.Publish.BadName)",
        ),
        ("NetStream.Publish.Denied", "", "the server refused: NetStream.Publish.Denied"),
    ] {
        let mut out = Vec::new();
        let mut conversation = Conversation::new(purpose(Role::Publish), &mut out);
        let refused = conversation.handle(COMMAND, &status(code, description), &mut out).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    let mut out = Vec::new();
    let mut conversation = Conversation::new(purpose(Role::Play), &mut out);
    let refused = conversation.handle(COMMAND, &said("_error", 1.0, &[Value::Null]), &mut out).unwrap_err();
    assert_eq!(refused.to_string(), "the server refused: it did not say why");
}

#[test]
fn pings_are_answered_and_what_came_is_acknowledged() {
    let mut out = Vec::new();
    let mut conversation = Conversation::new(purpose(Role::Play), &mut out);
    let mut reader = reader();
    commands(&mut out, &mut reader);
    conversation.handle(WINDOW_ACKNOWLEDGEMENT_SIZE, &1000_u32.to_be_bytes(), &mut out).unwrap();
    conversation.handle(USER_CONTROL, &[0, 6, 1, 2, 3, 4], &mut out).unwrap();
    conversation.received(999, &mut out);
    conversation.received(1, &mut out);
    conversation.received(10, &mut out);
    conversation.handle(SET_PEER_BANDWIDTH, &[0, 0, 1, 0, 2], &mut out).unwrap();
    let mut bytes = bytes::Bytes::from(out);
    let pong = reader.read(&mut bytes).unwrap().unwrap();
    assert_eq!((pong.kind, &*pong.payload), (USER_CONTROL, &[0, 7, 1, 2, 3, 4][..]));
    let acknowledged = reader.read(&mut bytes).unwrap().unwrap();
    assert_eq!((acknowledged.kind, &*acknowledged.payload), (ACKNOWLEDGEMENT, &1000_u32.to_be_bytes()[..]));
    assert_eq!(reader.read(&mut bytes).unwrap(), None);
}

proptest! {
    #[test]
    fn no_bytes_do_harm(messages in proptest::collection::vec((0_u8..24, proptest::collection::vec(any::<u8>(), 0..64)), 0..8)) {
        let mut out = Vec::new();
        let mut conversation = Conversation::new(purpose(Role::Publish), &mut out);
        for (kind, body) in messages {
            let _ = conversation.handle(kind, &body, &mut out);
        }
    }
}
