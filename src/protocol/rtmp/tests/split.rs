//! However the network cuts the stream of bytes, the session says the same.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::protocol::rtmp::amf;
use crate::protocol::rtmp::message::{AGGREGATE, AUDIO, DATA, VIDEO};

/// All that a publisher with several chunk sizes, interleaving and all kinds of messages sends.
pub(super) fn publisher() -> Vec<u8> {
    let mut out = handshake_bytes();
    let mut w = MessageWriter::default();
    w.set_chunk_size(&mut out, 300);
    let object = Value::object([
        ("app", Value::string("live")),
        ("tcUrl", Value::string("rtmp://host/live?token=x")),
        ("capsEx", Value::Number(15.0)),
    ]);
    w.command(&mut out, 0, "connect", 1.0, &[object]);
    w.window_acknowledgement_size(&mut out, 2_500_000);
    w.command(&mut out, 0, "releaseStream", 2.0, &[Value::Null, Value::string("name")]);
    w.command(&mut out, 0, "FCPublish", 3.0, &[Value::Null, Value::string("name")]);
    w.command(&mut out, 0, "createStream", 4.0, &[Value::Null]);
    w.command(&mut out, 1, "publish", 5.0, &[Value::Null, Value::string("name?a=b"), Value::string("live")]);
    let mut metadata = Vec::new();
    for value in [
        Value::string("@setDataFrame"),
        Value::string("onMetaData"),
        Value::EcmaArray(vec![("width".into(), Value::Number(320.0)), ("stereo".into(), Value::Boolean(true))]),
    ] {
        amf::encode(&mut metadata, &value);
    }
    w.message(&mut out, 4, DATA, 1, 0, &metadata);
    w.message(&mut out, 6, VIDEO, 1, 0, &avc_header());
    w.message(&mut out, 4, AUDIO, 1, 0, &[0xAF, 0, 0x12, 0x10]);
    for n in 0..8 {
        w.message(&mut out, 6, VIDEO, 1, 0x00FF_FFF0 + n * 40, &avc_frame(n % 4 == 0, 40, &[7; 700]));
        w.message(&mut out, 4, AUDIO, 1, 0x00FF_FFF0 + n * 40 + 10, &aac_frame(&[8; 90]));
    }
    // Type-1, type-2 and type-3 headers with deltas.
    out.extend_from_slice(&[0x44, 0, 0, 20, 0, 0, 3, 8, 0xAF, 1, 1]);
    out.extend_from_slice(&[0x84, 0, 0, 20, 0xAF, 1, 2, 0xC4, 0xAF, 1, 3]);
    w.user_control(&mut out, 6, 77);
    w.message(&mut out, 4, AUDIO, 1, 0x0100_0300, b"\x97\x02\x00\x01\x00\x01Opuspacket");
    w.message(&mut out, 6, VIDEO, 1, 0x0100_0300, b"\x96\x11hvc1\x00\x00\x00\x05\0\0\0k0\x01\x00\x00\x05\0\0\0k1");
    let tags = [&[AUDIO, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0][..], &aac_frame(b"ag"), &[0, 0, 0, 15]].concat();
    w.message(&mut out, 6, AGGREGATE, 1, 0x0100_0320, &tags);
    w.command(&mut out, 0, "FCUnpublish", 6.0, &[Value::Null, Value::string("name")]);
    w.command(&mut out, 0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]);
    out
}

/// All that a player sends.
pub(super) fn player() -> Vec<u8> {
    let mut out = handshake_bytes();
    let mut w = MessageWriter::default();
    let object = Value::object([
        ("app", Value::string("live")),
        ("objectEncoding", Value::Number(0.0)),
        ("fourCcList", Value::StrictArray(vec![Value::string("av01"), Value::string("hvc1")])),
    ]);
    w.command(&mut out, 0, "connect", 1.0, &[object]);
    w.window_acknowledgement_size(&mut out, 2_500_000);
    w.command(&mut out, 0, "createStream", 2.0, &[Value::Null]);
    w.command(&mut out, 0, "getStreamLength", 3.0, &[Value::Null, Value::string("name")]);
    w.command(&mut out, 1, "play", 4.0, &[Value::Null, Value::string("name"), Value::Number(-2000.0)]);
    w.user_control(&mut out, 3, 1);
    w.acknowledgement(&mut out, 4_000);
    w.command(&mut out, 1, "pause", 5.0, &[Value::Null, Value::Boolean(true), Value::Number(40.0)]);
    w.command(&mut out, 1, "seek", 6.0, &[Value::Null, Value::Number(40.0)]);
    w.command(&mut out, 1, "closeStream", 0.0, &[Value::Null]);
    out
}

/// Feeds the bytes in pieces of these lengths, again and again; answers every request with yes; gives all that
/// the session said.
pub(super) fn told(bytes: &Bytes, cuts: &[usize]) -> (Vec<String>, Result<(), Reason>) {
    let mut session = session(&Limits::default());
    let mut told = Vec::new();
    let mut rest = bytes.clone();
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            return (told, Ok(()));
        }
        let mut input = Some(Input::Bytes(rest.split_to((*cut).clamp(1, rest.len()))));
        while let Some(next) = input.take() {
            let result = session.handle(at_ms(1_000), next);
            while let Some(output) = session.poll() {
                match &output {
                    Output::Publish(request) => input = Some(Input::Published(request.handle, Ok(()))),
                    Output::Play(request) => input = Some(Input::Playing(request.handle, Ok(()))),
                    // What had to be put together depends on the cuts.
                    Output::Buffer(..) => continue,
                    _ => {}
                }
                told.push(format!("{output:?}"));
            }
            if result.is_err() {
                return (told, result);
            }
        }
    }
    unreachable!("cuts are cycled")
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    for bytes in [publisher(), player()] {
        let bytes = Bytes::from(bytes);
        let (whole, result) = told(&bytes, &[usize::MAX]);
        assert_eq!(result, Ok(()));
        assert!(whole.len() > 10);
        assert_eq!(told(&bytes, &[1]).0, whole);
    }
}

proptest! {
    #[test]
    fn any_cuts_give_the_same_outputs(cuts in proptest::collection::vec(1_usize..2_000, 1..12)) {
        for bytes in [publisher(), player()] {
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(told(&bytes, &cuts), told(&bytes, &[usize::MAX]));
        }
    }
}
