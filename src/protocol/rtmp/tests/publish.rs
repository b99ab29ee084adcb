//! Publishers as they come: OBS, FFmpeg, Enhanced RTMP; and what a publish may and may not do.

use bytes::Bytes;

use super::*;
use crate::media::{Codec, FrameFlags, FrameKind, Timestamp, TrackId};
use crate::protocol::rtmp::amf;
use crate::protocol::rtmp::message::{AGGREGATE, AUDIO, DATA, VIDEO};
use crate::reason::Label;

const MS: i64 = 1_000_000;

fn data(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        amf::encode(&mut out, value);
    }
    out
}

#[test]
fn obs_publishes() {
    // The order of librtmp as OBS has it: all commands before the first answer.
    let mut peer = Peer::shaken();
    let mut out = Vec::new();
    peer.writer.set_chunk_size(&mut out, 4096);
    peer.send(out).unwrap();
    peer.connect(&[
        ("app", Value::string("live")),
        ("type", Value::string("nonprivate")),
        ("flashVer", Value::string("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("swfUrl", Value::string("rtmp://host/live")),
        ("tcUrl", Value::string("rtmp://host/live")),
    ])
    .unwrap();
    let kinds: Vec<u8> = peer.replies.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [5, 6, 1, 20]);
    peer.replies.clear();
    peer.command(0, "releaseStream", 2.0, &[Value::Null, Value::string("key?token=s")]).unwrap();
    peer.command(0, "FCPublish", 3.0, &[Value::Null, Value::string("key?token=s")]).unwrap();
    peer.command(0, "createStream", 4.0, &[Value::Null]).unwrap();
    peer.command(0, "_checkbw", 5.0, &[Value::Null]).unwrap();
    let transactions: Vec<f64> =
        peer.replies.iter().filter_map(as_command).filter(|c| &*c.name == "_result").map(|c| c.transaction).collect();
    assert_eq!(transactions, [2.0, 3.0, 4.0, 5.0]);
    peer.replies.clear();
    peer.command(1, "publish", 0.0, &[Value::Null, Value::string("key?token=s"), Value::string("live")]).unwrap();
    let request = peer.publish_request();
    assert_eq!((request.handle, request.key.as_str()), (1, "live/key"));
    assert_eq!(request.credentials.token.unwrap().expose(), "s");

    peer.answer(Input::Published(1, Ok(()))).unwrap();
    assert_eq!(peer.status(), "NetStream.Publish.Start");
    let metadata = [
        Value::string("@setDataFrame"),
        Value::string("onMetaData"),
        Value::EcmaArray(vec![
            ("width".into(), Value::Number(1920.0)),
            ("height".into(), Value::Number(1080.0)),
            ("framerate".into(), Value::Number(60.0)),
            ("videodatarate".into(), Value::Number(6000.0)),
            ("stereo".into(), Value::Boolean(true)),
            ("encoder".into(), Value::string("obs-output module")),
        ]),
    ];
    peer.message(DATA, 1, 0, &data(&metadata)).unwrap();
    peer.message(VIDEO, 1, 0, &avc_header()).unwrap();
    peer.message(AUDIO, 1, 0, &[0xAF, 0, 0x12, 0x10]).unwrap();
    peer.message(VIDEO, 1, 0, &avc_frame(true, 66, b"idr")).unwrap();
    peer.message(AUDIO, 1, 21, &aac_frame(b"aac")).unwrap();
    peer.message(VIDEO, 1, 33, &avc_frame(false, -1, b"b")).unwrap();

    let frames = peer.frames();
    let seen: Vec<_> = frames.iter().map(|f| (f.track, f.kind, f.codec, f.dts.0 / MS, f.pts.0 / MS)).collect();
    assert_eq!(
        seen,
        [
            (TrackId::METADATA, FrameKind::Config, Codec::Script, 0, 0),
            (TrackId::VIDEO, FrameKind::Config, Codec::H264, 0, 0),
            (TrackId::AUDIO, FrameKind::Config, Codec::Aac, 0, 0),
            (TrackId::VIDEO, FrameKind::Key, Codec::H264, 0, 66),
            (TrackId::AUDIO, FrameKind::Audio, Codec::Aac, 21, 21),
            (TrackId::VIDEO, FrameKind::Delta, Codec::H264, 33, 32),
        ]
    );
    assert_eq!(frames[0].payload, data(&metadata[1..]));
    assert_eq!(frames[1].payload, &b"avcC-record"[..]);
    assert_eq!(frames[3].payload, &b"idr"[..]);
    assert!(frames.iter().all(|f| f.origin == peer.now.mono));
    let Some(Output::Describe(1, told)) = peer.outputs.iter().find(|o| matches!(o, Output::Describe(..))) else {
        panic!("nothing described");
    };
    assert_eq!((told.size, told.channels), (Some((1920, 1080)), Some(2)));
    assert_eq!((told.video_bitrate, told.audio_bitrate), (Some(6_000_000.0), None));

    peer.command(0, "FCUnpublish", 6.0, &[Value::Null, Value::string("key")]).unwrap();
    peer.command(0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]).unwrap();
    assert!(peer.outputs.iter().any(|o| matches!(o, Output::Unpublish(1))));
    // What was under way when it ended.
    peer.message(VIDEO, 1, 66, &avc_frame(true, 0, b"late")).unwrap();
    assert!(peer.frames().is_empty());
}

#[test]
fn what_follows_publish_in_one_read_waits_for_the_answer() {
    let mut peer = Peer::connected();
    peer.command(0, "createStream", 4.0, &[Value::Null]).unwrap();
    let mut out = Vec::new();
    peer.writer.command(&mut out, 1, "publish", 5.0, &[Value::Null, Value::string("name")]);
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &avc_header());
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &avc_frame(true, 0, b"idr"));
    peer.send(out).unwrap();
    assert!(peer.frames().is_empty());

    peer.answer(Input::Published(1, Ok(()))).unwrap();

    assert_eq!(peer.status(), "NetStream.Publish.Start");
    assert_eq!(peer.frames().len(), 2);
}

#[test]
fn a_payload_is_the_very_bytes_that_were_received() {
    let mut peer = Peer::publishing();
    let mut out = Vec::new();
    peer.writer.set_chunk_size(&mut out, 65_536);
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &avc_frame(true, 0, &[5; 20_000]));
    let input = Bytes::from(out);
    let range = input.as_ptr_range();

    peer.send(input.clone()).unwrap();

    let frame = peer.frames().remove(0);
    assert_eq!(frame.payload.len(), 20_000);
    assert!(range.contains(&frame.payload.as_ptr()));
}

#[test]
fn a_configuration_does_not_keep_the_buffer_it_came_in() {
    let mut peer = Peer::publishing();
    let mut out = Vec::new();
    peer.writer.message(&mut out, 6, VIDEO, 1, 0, &avc_header());
    let input = Bytes::from(out);
    let range = input.as_ptr_range();

    peer.send(input.clone()).unwrap();

    assert!(!range.contains(&peer.frames().remove(0).payload.as_ptr()));
}

#[test]
fn a_wrap_of_the_timestamp_is_told_and_both_tracks_go_on() {
    let mut peer = Peer::publishing();
    peer.message(VIDEO, 1, u32::MAX - 19, &avc_frame(true, 10, b"a")).unwrap();
    peer.message(AUDIO, 1, u32::MAX - 9, &aac_frame(b"a")).unwrap();
    peer.message(VIDEO, 1, 20, &avc_frame(false, -5, b"b")).unwrap();
    peer.message(AUDIO, 1, u32::MAX, &aac_frame(b"b")).unwrap();
    peer.message(AUDIO, 1, 21, &aac_frame(b"c")).unwrap();

    assert_eq!(peer.outputs.iter().filter(|o| matches!(o, Output::Wrapped(1))).count(), 1);
    let times: Vec<_> = peer.frames().iter().map(|f| (f.dts.0 / MS - (1 << 32), f.pts.0 / MS - (1 << 32))).collect();
    assert_eq!(times, [(-20, -10), (-10, -10), (20, 15), (-1, -1), (21, 21)]);
}

#[test]
fn what_is_no_audio_or_video_frame_does_not_move_the_clock() {
    let mut peer = Peer::publishing();
    peer.message(VIDEO, 1, u32::MAX - 19, &avc_frame(true, 0, b"a")).unwrap();
    peer.message(VIDEO, 1, 0x7FFF_0000, &avc_header()).unwrap();
    peer.message(DATA, 1, 0, &data(&[Value::string("onMetaData"), Value::Null])).unwrap();
    peer.message(AUDIO, 1, 5, &[0xAF, 0, 0x12, 0x10]).unwrap();
    peer.message(VIDEO, 1, 20, &avc_frame(false, 0, b"b")).unwrap();

    let wrap = peer.outputs.iter().position(|o| matches!(o, Output::Wrapped(1))).unwrap();
    assert!(matches!(&peer.outputs[wrap + 1], Output::Frame(1, frame) if frame.payload == b"b"[..]));
    let frames = peer.frames();
    assert_eq!((frames[4].dts - frames[0].dts).0 / MS, 40);
}

#[test]
fn enhanced_video_and_audio_become_frames() {
    let mut peer = Peer::publishing();
    peer.message(VIDEO, 1, 0, b"\x90hvc1record").unwrap();
    peer.message(VIDEO, 1, 0, b"\x91hvc1\x00\x00\x28idr").unwrap();
    peer.message(VIDEO, 1, 40, b"\xA3hvc1delta").unwrap();
    peer.message(VIDEO, 1, 80, b"\xB1hvc1\xFF\xFF\xFFdisposable").unwrap();
    peer.message(VIDEO, 1, 120, b"\xA2hvc1").unwrap();
    peer.message(AUDIO, 1, 0, b"\x90OpusOpusHead").unwrap();
    peer.message(AUDIO, 1, 20, b"\x91Opuspacket").unwrap();
    // ModEx: 3 bytes of nanoseconds, then CodedFrames.
    peer.message(AUDIO, 1, 40, b"\x97\x02\x07\xA1\x20\x01Opuspacket").unwrap();

    let frames = peer.frames();
    let seen: Vec<_> = frames.iter().map(|f| (f.kind, f.codec, f.dts.0, f.pts.0)).collect();
    assert_eq!(
        seen,
        [
            (FrameKind::Config, Codec::H265, 0, 0),
            (FrameKind::Key, Codec::H265, 0, 40 * MS),
            (FrameKind::Delta, Codec::H265, 40 * MS, 40 * MS),
            (FrameKind::Delta, Codec::H265, 80 * MS, 79 * MS),
            (FrameKind::Config, Codec::Opus, 80 * MS - 80 * MS, 0),
            (FrameKind::Audio, Codec::Opus, 20 * MS, 20 * MS),
            (FrameKind::Audio, Codec::Opus, 40 * MS, 40 * MS + 500_000),
        ]
    );
    assert!(frames[3].flags.contains(FrameFlags::DISPOSABLE));
    assert_eq!(frames[1].payload, &b"idr"[..]);
}

#[test]
fn every_codec_that_the_router_knows_can_be_published() {
    for (tag, codec) in [
        (&b"\x91avc1\0\0\0x"[..], Codec::H264),
        (b"\x1C\x01\0\0\0x", Codec::H265),
        (b"\x91vvc1\0\0\0x", Codec::H266),
        (b"\x91av01x", Codec::Av1),
        (b"\x91vp08x", Codec::Vp8),
        (b"\x91vp09x", Codec::Vp9),
    ] {
        let mut peer = Peer::publishing();
        peer.message(VIDEO, 1, 0, tag).unwrap();
        let frame = peer.frames().remove(0);
        assert_eq!((frame.codec, frame.kind, &*frame.payload), (codec, FrameKind::Key, &b"x"[..]));
    }
    for (tag, codec, config) in [
        (&b"\x91mp4ax"[..], Codec::Aac, false),
        (b"\x91.mp3x", Codec::Mp3, false),
        (b"\x91fLaCx", Codec::Flac, false),
        (b"\x91ac-3x", Codec::Ac3, false),
        (b"\x91ec-3x", Codec::Eac3, false),
        (b"\x2Fx", Codec::Mp3, true),
        (b"\xE2x", Codec::Mp3, true),
        (b"\x72x", Codec::G711A, true),
        (b"\x82x", Codec::G711U, true),
        (b"\xB6x", Codec::Speex, true),
        (b"\x3Ex", Codec::Pcm, true),
    ] {
        let mut peer = Peer::publishing();
        peer.message(AUDIO, 1, 0, tag).unwrap();
        let mut frames = peer.frames();
        if config {
            let config = frames.remove(0);
            assert_eq!((config.kind, &*config.payload), (FrameKind::Config, &tag[..1]));
        }
        assert_eq!((frames[0].codec, frames[0].kind, &*frames[0].payload), (codec, FrameKind::Audio, &b"x"[..]));
        peer.message(AUDIO, 1, 20, tag).unwrap();
        assert_eq!(peer.frames().len(), 1, "the first byte is told once");
    }
}

#[test]
fn a_codec_that_the_router_does_not_know_is_refused_by_name() {
    for (kind, tag, label) in [
        (VIDEO, &b"\x12x"[..], "rtmp.video_codec"),
        (VIDEO, b"\x90zzzzx", "rtmp.video_codec"),
        (VIDEO, b"\x90Opusx", "rtmp.video_codec"),
        (VIDEO, b"\x95av01x", "rtmp.video_packet"),
        (AUDIO, b"\x62x", "rtmp.audio_codec"),
        (AUDIO, b"\x91zzzzx", "rtmp.audio_codec"),
        (AUDIO, b"\x9FOpusx", "rtmp.audio_packet"),
    ] {
        let mut peer = Peer::publishing();
        assert_eq!(peer.message(kind, 1, 0, tag), Err(Reason::Unsupported(Label(label))), "{tag:02x?}");
    }
}

#[test]
fn multitrack_messages_are_taken_apart() {
    let mut peer = Peer::publishing();
    // One track: id 1.
    peer.message(VIDEO, 1, 0, b"\x96\x00avc1\x01record").unwrap();
    // Many tracks of one codec: 0 and 1.
    peer.message(VIDEO, 1, 10, b"\x96\x11avc1\x00\x00\x00\x05\0\0\0k0\x01\x00\x00\x05\0\0\0k1").unwrap();
    // Many tracks, many codecs.
    peer.message(AUDIO, 1, 10, b"\x95\x21Opus\x00\x00\x00\x02o0mp4a\x02\x00\x00\x02a2").unwrap();

    let frames = peer.frames();
    let seen: Vec<_> = frames.iter().map(|f| (f.track.0, f.codec, f.kind, &*f.payload)).collect();
    assert_eq!(
        seen,
        [
            (3, Codec::H264, FrameKind::Config, &b"record"[..]),
            (0, Codec::H264, FrameKind::Key, b"k0"),
            (3, Codec::H264, FrameKind::Key, b"k1"),
            (1, Codec::Opus, FrameKind::Audio, b"o0"),
            (6, Codec::Aac, FrameKind::Audio, b"a2"),
        ]
    );
}

#[test]
fn tracks_beyond_the_limit_end_the_connection() {
    let mut peer = Peer::publishing();
    let tag = |id: u8| [b"\x96\x03avc1", &[id][..], b"x"].concat();
    let mut fits = 0;
    let error = (0..=255).find_map(|id| {
        let result = peer.message(VIDEO, 1, 0, &tag(id)).err();
        fits += usize::from(result.is_none());
        result
    });
    assert_eq!(error, Some(Reason::Limit(crate::limits::Limit::Tracks)));
    // All places but those of audio and metadata.
    assert_eq!(fits, crate::limits::TRACKS_MAX - 2);
    let ids: std::collections::HashSet<u8> = peer.frames().iter().map(|f| f.track.0).collect();
    assert_eq!(ids.len(), fits);
}

#[test]
fn an_aggregate_is_its_tags_with_their_times_moved() {
    let mut peer = Peer::publishing();
    let mut tags = Vec::new();
    for (kind, time, body) in
        [(AUDIO, 500_u32, aac_frame(b"a0")), (VIDEO, 520, avc_frame(true, 0, b"v")), (AUDIO, 523, aac_frame(b"a1"))]
    {
        let t = time.to_be_bytes();
        tags.extend_from_slice(&[kind, 0, 0, u8::try_from(body.len()).unwrap(), t[1], t[2], t[3], t[0], 0, 0, 0]);
        tags.extend_from_slice(&body);
        tags.extend_from_slice(&(u32::try_from(body.len()).unwrap() + 11).to_be_bytes());
    }

    peer.message(AGGREGATE, 1, 9_000, &tags).unwrap();

    let times: Vec<i64> = peer.frames().iter().map(|f| f.dts.0 / MS).collect();
    assert_eq!(times, [9_000, 9_020, 9_023]);
}

#[test]
fn cue_points_are_data_and_are_not_kept() {
    let mut peer = Peer::publishing();
    let cue = data(&[Value::string("onCuePoint"), Value::object([("time", Value::Number(1.0))])]);
    peer.message(DATA, 1, 5, &cue).unwrap();
    peer.message(15, 1, 5, &[&[0][..], &cue].concat()).unwrap();
    peer.message(DATA, 1, 5, &data(&[Value::string("@clearDataFrame"), Value::string("onMetaData")])).unwrap();

    let frames = peer.frames();
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert_eq!((frame.kind, frame.codec, &*frame.payload), (FrameKind::Data, Codec::Script, &*cue));
    }
}

#[test]
fn strange_numbers_in_metadata_are_not_told() {
    for strange in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e308] {
        let mut peer = Peer::publishing();
        let members = ["width", "height", "framerate", "videodatarate", "audiodatarate", "audiosamplerate"]
            .map(|name| (name, Value::Number(strange)));
        peer.message(DATA, 1, 0, &data(&[Value::string("onMetaData"), Value::object(members)])).unwrap();
        let Some(Output::Describe(_, told)) = peer.outputs.pop() else { panic!("not described") };
        assert_eq!((told.size, told.video_bitrate, told.audio_bitrate), (None, None, None), "{strange}");
    }
}

#[test]
fn a_refused_publisher_is_told_why_and_what_to_do() {
    for (reason, code, word) in [
        (Reason::NameTaken, "NetStream.Publish.BadName", "another name"),
        (Reason::Denied, "NetStream.Publish.Denied", "token"),
        (Reason::UnknownApp, "NetStream.Publish.Denied", "application"),
    ] {
        let mut peer = Peer::connected();
        peer.command(0, "createStream", 4.0, &[Value::Null]).unwrap();
        peer.command(1, "publish", 5.0, &[Value::Null, Value::string("name")]).unwrap();
        assert_eq!(peer.answer(Input::Published(1, Err(reason))), Err(reason));
        let info = peer.reply("onStatus").arguments.remove(0);
        assert_eq!(status_code(&info), code);
        assert_eq!(info.get("level").and_then(Value::as_str), Some("error"));
        let text = info.get("description").and_then(Value::as_str).unwrap();
        assert!(text.contains(word) && text.ends_with('.'), "{text}");
    }
}

#[test]
fn a_bad_stream_name_is_refused_by_status() {
    for name in ["..", "a/../b", "a b", "a\u{202e}", "a\0", "", "%2e%2e"] {
        let mut peer = Peer::connected();
        peer.command(0, "createStream", 4.0, &[Value::Null]).unwrap();
        let result = peer.command(1, "publish", 5.0, &[Value::Null, Value::string(name)]);
        assert_eq!(result, Err(Reason::BadName), "{name:?}");
        assert_eq!(peer.status(), "NetStream.Publish.BadName");
    }
}

#[test]
fn a_publish_that_the_router_ends_is_told_and_closed() {
    let mut peer = Peer::publishing();
    peer.answer(Input::Unpublished(1, Reason::TakenOver)).unwrap();
    assert_eq!(peer.status(), "NetStream.Publish.BadName");
    assert!(matches!(peer.outputs.pop(), Some(Output::Close(Reason::TakenOver))));
    peer.message(VIDEO, 1, 0, &avc_frame(true, 0, b"late")).unwrap();
    assert!(peer.frames().is_empty());
}

#[test]
fn received_bytes_are_acknowledged_every_window() {
    let mut peer = Peer::publishing();
    let mut out = Vec::new();
    peer.writer.set_chunk_size(&mut out, 1 << 20);
    peer.writer.window_acknowledgement_size(&mut out, 10_000);
    peer.send(out).unwrap();
    peer.replies.clear();
    for n in 0..10 {
        peer.message(VIDEO, 1, n, &avc_frame(true, 0, &[0; 3_000])).unwrap();
    }
    let acks: Vec<u32> = peer
        .replies
        .iter()
        .filter(|m| m.kind == 3)
        .map(|m| u32::from_be_bytes(m.payload[..].try_into().unwrap()))
        .collect();
    assert_eq!(acks.len(), 2);
    assert!(acks.windows(2).all(|pair| pair[1] - pair[0] >= 10_000));
}

#[test]
fn a_new_publish_may_follow_on_the_same_stream() {
    let mut peer = Peer::publishing();
    peer.command(1, "closeStream", 0.0, &[Value::Null]).unwrap();
    assert_eq!(peer.status(), "NetStream.Unpublish.Success");
    peer.command(1, "publish", 6.0, &[Value::Null, Value::string("other")]).unwrap();
    assert_eq!(peer.publish_request().key.as_str(), "live/other");
}

#[test]
fn timestamps_are_frames_of_the_stream() {
    let mut peer = Peer::publishing();
    peer.message(VIDEO, 1, 0x00FF_FFFF, &avc_frame(true, 0, b"a")).unwrap();
    peer.message(VIDEO, 1, 0x0100_0000, &avc_frame(true, 0, b"b")).unwrap();
    let frames = peer.frames();
    assert_eq!(frames[0].dts, Timestamp::from_millis(0x00FF_FFFF));
    assert_eq!(frames[1].dts, Timestamp::from_millis(0x0100_0000));
}

#[test]
fn a_picture_that_nothing_refers_to_is_marked_whatever_its_tag_says() {
    let mut peer = Peer::publishing();
    let record: &[u8] = &[1, 100, 0, 30, 0xFF, 0xE1];
    let mut config = vec![0x17, 0, 0, 0, 0];
    config.extend_from_slice(record);
    peer.message(VIDEO, 1, 0, &config).unwrap();
    let slice = |header: u8| avc_frame(header & 0x1F == 5, 0, &[0, 0, 0, 2, header, 0x9A]);

    for (time, header) in [(0, 0x65), (33, 0x41), (66, 0x01), (100, 0x01)] {
        peer.message(VIDEO, 1, time, &slice(header)).unwrap();
    }
    let mut tagged = slice(0x41);
    tagged[0] = 0x37;
    peer.message(VIDEO, 1, 133, &tagged).unwrap();

    let frames = peer.frames();
    let marked: Vec<bool> = frames.iter().map(|frame| frame.flags.contains(FrameFlags::DISPOSABLE)).collect();
    assert_eq!(marked, [false, false, false, true, true, true]);
}
