//! What the packetizer makes is what our own reader and session take apart again.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::container::flv::tag;
use crate::media::{Codec, FrameFlags, FrameKind, Media, Timestamp, TrackId};
use crate::protocol::rtmp::chunk::ChunkWriter;
use crate::protocol::rtmp::packetizer::{CHUNK_SIZE, Format, RtmpPacketizer};
use crate::protocol::{Body, Packet, Packetizer};

fn packetizer(multitrack: bool) -> RtmpPacketizer {
    RtmpPacketizer::new(Format { stream: 1, multitrack })
}

/// The bytes that a player gets for a packet, as the shard gathers them.
fn wire(packet: &Packet, payload: &Bytes) -> Bytes {
    let mut out = BytesMut::from(packet.head.as_slice());
    match &packet.body {
        Body::Payload => out.extend_from_slice(payload),
        Body::Chunked { first, every, separator } => {
            let (head, mut rest) = payload.split_at(*first as usize);
            out.extend_from_slice(head);
            while !rest.is_empty() {
                out.extend_from_slice(separator.as_slice());
                let (piece, behind) = rest.split_at(rest.len().min(*every as usize));
                out.extend_from_slice(piece);
                rest = behind;
            }
        }
        Body::Own(bytes) => out.extend_from_slice(bytes),
        Body::Closed { tail } => out.extend_from_slice(&[&payload[..], tail].concat()),
    }
    out.freeze()
}

/// The one message that those bytes are, to a player that was told our chunk size.
fn message(mut bytes: Bytes) -> Message {
    let mut reader = ChunkReader::new(CLIENT_LIMITS, 0);
    let mut size = Vec::new();
    ChunkWriter::default().write(&mut size, 2, 1, 0, 0, &CHUNK_SIZE.to_be_bytes());
    reader.read(&mut size.into()).unwrap().unwrap();
    let message = reader.read(&mut bytes).unwrap().expect("a whole message");
    assert!(bytes.is_empty());
    message
}

fn sent(frame: &Frame, multitrack: bool) -> Option<Message> {
    let packet = packetizer(multitrack).packetize(frame)?;
    Some(message(wire(&packet, &frame.payload)))
}

fn video(codec: Codec, kind: FrameKind, pts: i64, dts: i64, payload: &[u8]) -> Frame {
    let (pts, dts) = (Timestamp::from_millis(pts), Timestamp::from_millis(dts));
    Frame { kind, ..Frame::video(codec, true, pts, dts, Bytes::copy_from_slice(payload)) }
}

#[test]
fn the_first_bytes_of_every_codec_are_those_that_players_know() {
    let cases = [
        (video(Codec::H264, FrameKind::Config, 0, 0, b"x"), &b"\x17\x00\0\0\0x"[..]),
        (video(Codec::H264, FrameKind::Key, 66, 0, b"x"), b"\x17\x01\0\0\x42x"),
        (video(Codec::H264, FrameKind::Delta, 39, 40, b"x"), b"\x27\x01\xFF\xFF\xFFx"),
        (video(Codec::H265, FrameKind::Config, 0, 0, b"x"), b"\x90hvc1x"),
        (video(Codec::H265, FrameKind::Key, 0, 0, b"x"), b"\x93hvc1x"),
        (video(Codec::H265, FrameKind::Delta, 80, 40, b"x"), b"\xA1hvc1\0\0\x28x"),
        (video(Codec::H266, FrameKind::Key, 40, 0, b"x"), b"\x91vvc1\0\0\x28x"),
        (video(Codec::Av1, FrameKind::Key, 0, 0, b"x"), b"\x91av01x"),
        (video(Codec::Vp9, FrameKind::Delta, 0, 0, b"x"), b"\xA1vp09x"),
        (video(Codec::Vp8, FrameKind::Config, 0, 0, b"x"), b"\x90vp08x"),
        (video(Codec::H265, FrameKind::Data, 0, 0, b"x"), b"\x94hvc1x"),
    ];
    for (frame, tag) in cases {
        let message = sent(&frame, false).unwrap();
        assert_eq!((message.csid, message.kind, message.stream, &*message.payload), (6, 9, 1, tag), "{frame:?}");
    }
    let audio = |codec, kind| Frame { kind, ..Frame::audio(codec, Timestamp::ZERO, Bytes::from_static(b"x")) };
    for (codec, config, frame) in [
        (Codec::Aac, Some(&b"\xAF\0x"[..]), &b"\xAF\x01x"[..]),
        (Codec::Opus, Some(b"\x90Opusx"), b"\x91Opusx"),
        (Codec::Flac, Some(b"\x90fLaCx"), b"\x91fLaCx"),
        (Codec::Ac3, Some(b"\x90ac-3x"), b"\x91ac-3x"),
        (Codec::Eac3, Some(b"\x90ec-3x"), b"\x91ec-3x"),
        (Codec::Mp3, None, b"\x2Fx"),
        (Codec::G711A, None, b"\x72x"),
        (Codec::G711U, None, b"\x82x"),
        (Codec::Speex, None, b"\xB6x"),
        (Codec::Pcm, None, b"\x3Fx"),
    ] {
        assert_eq!(sent(&audio(codec, FrameKind::Config), false).map(|m| m.payload).as_deref(), config, "{codec}");
        let message = sent(&audio(codec, FrameKind::Audio), false).unwrap();
        assert_eq!((message.csid, message.kind, &*message.payload), (4, 8, frame), "{codec}");
    }
}

#[test]
fn a_legacy_audio_codec_goes_out_with_the_first_byte_that_it_came_with() {
    let mut packetizer = packetizer(false);
    let config = Frame::config(Codec::Mp3, Timestamp::ZERO, Bytes::from_static(&[0x2A]));
    assert_eq!(packetizer.packetize(&config), None);
    let frame = Frame::audio(Codec::Mp3, Timestamp::ZERO, Bytes::from_static(b"x"));
    let packet = packetizer.packetize(&frame).unwrap();
    assert_eq!(message(wire(&packet, &frame.payload)).payload, &b"\x2Ax"[..]);
}

#[test]
fn further_tracks_reach_only_players_that_know_them() {
    let video = video(Codec::H264, FrameKind::Key, 40, 0, b"x").on_track(TrackId(3));
    assert_eq!(sent(&video, false), None);
    assert_eq!(sent(&video, true).unwrap().payload, &b"\x96\x01avc1\x01\0\0\x28x"[..]);
    let audio = Frame::audio(Codec::Aac, Timestamp::ZERO, Bytes::from_static(b"x")).on_track(TrackId(6));
    assert_eq!(sent(&audio, true).unwrap().payload, &b"\x95\x01mp4a\x02x"[..]);
    // G.711 has no FourCC.
    let audio = Frame::audio(Codec::G711A, Timestamp::ZERO, Bytes::from_static(b"x")).on_track(TrackId(4));
    assert_eq!(sent(&audio, true), None);
}

#[test]
fn what_a_player_of_flv_tags_would_misread_is_not_sent() {
    assert_eq!(sent(&video(Codec::H264, FrameKind::Data, 0, 0, b"x"), true), None);
    let mapping =
        Frame { kind: FrameKind::Data, ..Frame::audio(Codec::Aac, Timestamp::ZERO, Bytes::from_static(b"x")) };
    assert_eq!(sent(&mapping, true), None);
    assert_eq!(sent(&video(Codec::H264, FrameKind::Key, 0, 0, b""), true), None);
}

#[test]
fn a_message_too_long_for_its_length_field_is_not_sent() {
    let longest = 0x00FF_FFFF - 5;
    for (length, fits) in [(longest, true), (longest + 1, false)] {
        let frame = video(Codec::H264, FrameKind::Key, 0, 0, &vec![0; length]);
        assert_eq!(packetizer(false).packetize(&frame).is_some(), fits);
    }
}

#[test]
fn a_frame_longer_than_a_chunk_is_separated() {
    for dts in [0, 0x00FF_FFFF, 0x0200_0000] {
        for length in [CHUNK_SIZE - 6, CHUNK_SIZE - 5, CHUNK_SIZE - 4, 3 * CHUNK_SIZE + 7] {
            let payload: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[1]).collect();
            let frame = video(Codec::H264, FrameKind::Key, dts, dts, &payload);
            let packet = packetizer(false).packetize(&frame).unwrap();
            assert_eq!(matches!(packet.body, Body::Chunked { .. }), length + 5 > CHUNK_SIZE);
            let message = message(wire(&packet, &frame.payload));
            assert_eq!(u32::try_from(message.payload.len()), Ok(length + 5));
            assert_eq!((&message.payload[5..], i64::from(message.timestamp)), (&payload[..], dts));
        }
    }
}

#[test]
fn metadata_goes_out_as_it_came_in() {
    let mut payload = Vec::new();
    crate::protocol::rtmp::amf::encode(&mut payload, &Value::string("onMetaData"));
    let frame = Frame::config(Codec::Script, Timestamp::ZERO, payload.clone().into());
    let message = sent(&frame, false).unwrap();
    assert_eq!((message.csid, message.kind, &*message.payload), (5, 18, &*payload));
}

fn frame() -> impl Strategy<Value = Frame> {
    let codec = proptest::sample::select(Codec::ALL.to_vec());
    let time = prop_oneof![0_i64..100_000, 0x00FF_FF00_i64..0x0100_0100, 0xFFFF_FF00_i64..0x1_0000_0100];
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..200),
        (1_048_500_usize..1_048_700).prop_map(|n| vec![0xC6; n]),
    ];
    (codec, time, -300_i64..300, 0_usize..4, payload, 0_u8..3).prop_map(
        |(codec, dts, offset, kind, payload, extra)| {
            let (kinds, wires): (&[FrameKind], [u8; 3]) = match codec.media() {
                Media::Video => (&[FrameKind::Key, FrameKind::Delta, FrameKind::Config], [0, 3, 5]),
                Media::Audio => (&[FrameKind::Audio, FrameKind::Config], [1, 4, 6]),
                Media::Data => (&[FrameKind::Data, FrameKind::Config], [2, 2, 2]),
            };
            let kind = kinds[kind % kinds.len()];
            let dts = Timestamp::from_millis(dts);
            let timed = matches!(codec, Codec::H264 | Codec::H265 | Codec::H266)
                && matches!(kind, FrameKind::Key | FrameKind::Delta);
            let pts = if timed { dts + Timestamp::from_millis(offset) } else { dts };
            Frame {
                payload: payload.into(),
                pts,
                dts,
                origin: Instant::ZERO,
                track: TrackId(wires[usize::from(extra)]),
                kind,
                codec,
                flags: FrameFlags::default(),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_packetized_is_the_frame(frame in frame()) {
        let Some(message) = sent(&frame, true) else {
            // Codecs that have no FourCC, beyond the main track, and configurations that FLV does not have.
            let legacy = matches!(frame.codec, Codec::Mp3 | Codec::G711A | Codec::G711U | Codec::Speex | Codec::Pcm);
            // Metadata that FLV knows nothing of.
            prop_assert!(legacy || matches!(frame.codec, Codec::Id3 | Codec::Klv));
            return Ok(());
        };
        // Metadata has no time of its own.
        let metadata = frame.codec == Codec::Script && frame.kind == FrameKind::Config;
        let Timestamp(ns) = if metadata { Timestamp::ZERO } else { frame.dts };
        prop_assert_eq!(i64::from(message.timestamp), (ns / 1_000_000) & 0xFFFF_FFFF);
        if frame.codec == Codec::Script {
            prop_assert_eq!(&message.payload, &frame.payload);
            return Ok(());
        }
        let media = frame.codec.media();
        let packets = if media == Media::Video { tag::video(message.payload) } else { tag::audio(message.payload) };
        let mut packets = packets.unwrap();
        let packet = packets.next().unwrap().unwrap();
        prop_assert!(packets.next().unwrap().is_none());
        let kind = match packet.kind {
            tag::PacketKind::Config => FrameKind::Config,
            tag::PacketKind::Key => FrameKind::Key,
            tag::PacketKind::Delta => FrameKind::Delta,
            tag::PacketKind::Audio => FrameKind::Audio,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((packet.codec, kind), (frame.codec, frame.kind));
        prop_assert_eq!(&packet.payload, &frame.payload);
        prop_assert_eq!(Timestamp::from_millis(packet.composition_ms.into()), frame.pts - frame.dts);
        let track = crate::container::flv::track::from_wire(media, packet.track);
        prop_assert_eq!(track, Some(frame.track));
    }
}
