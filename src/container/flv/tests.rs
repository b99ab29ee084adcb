//! What is written is read, however the file is cut, and no bytes do harm.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::Instant;
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Timestamp, Track, TrackId};

const NOW: Instant = Instant(5);

fn write(frames: &[Frame], multitrack: bool) -> Bytes {
    let mut writer = Writer::new(multitrack);
    let tags = frames.iter().filter_map(|frame| writer.write(frame)).map(|tag| tag.to_bytes());
    [file_header(true, true).to_vec(), tags.collect::<Vec<_>>().concat()].concat().into()
}

fn read(pieces: impl IntoIterator<Item = Bytes>) -> (Vec<Track>, Vec<Frame>, Vec<FlvError>) {
    let (mut reader, mut errors) = (Reader::default(), Vec::new());
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.poll(NOW) {
                Ok(Some(Event::Track(track))) => tracks.push(*track),
                Ok(Some(Event::Frame(frame))) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    errors.push(error);
                    if error == FlvError::Header {
                        return (tracks, frames, errors);
                    }
                }
            }
        }
    }
    (tracks, frames, errors)
}

fn video(kind: FrameKind, pts: i64, dts: i64, payload: &[u8]) -> Frame {
    let (pts, dts) = (Timestamp::from_millis(pts), Timestamp::from_millis(dts));
    let frame = Frame::video(Codec::H264, true, pts, dts, Bytes::copy_from_slice(payload));
    Frame { kind, origin: NOW, ..frame }
}

fn script(name: &str) -> Vec<u8> {
    [&[2, 0, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), b"\x05"].concat()
}

#[test]
fn a_file_is_the_one_that_every_player_knows() {
    let config = video(FrameKind::Config, 0, 0, b"record");
    let key = video(FrameKind::Key, 0x0100_0050, 0x0100_0000, b"key");
    let expected = [
        &b"FLV\x01\x05\0\0\0\x09\0\0\0\0"[..],
        b"\x09\0\0\x0b\0\0\0\0\0\0\0\x17\0\0\0\0record\0\0\0\x16",
        b"\x09\0\0\x08\0\0\0\x01\0\0\0\x17\x01\0\0\x50key\0\0\0\x13",
    ];
    assert_eq!(write(&[config, key], false), expected.concat());
    assert_eq!((file_header(true, false)[4], file_header(false, true)[4]), (1, 4));
}

#[test]
fn tracks_are_told_when_they_begin_and_when_their_configuration_is_another() {
    let record = |payload| video(FrameKind::Config, 0, 0, payload);
    let metadata =
        Frame { origin: NOW, ..Frame::config(Codec::Script, Timestamp::ZERO, script("onMetaData").into()) };
    let sound = Frame { origin: NOW, ..Frame::audio(Codec::Aac, Timestamp::ZERO, Bytes::from_static(b"aac")) };
    let key = video(FrameKind::Key, 0, 0, b"key");
    let sent =
        [metadata.clone(), record(b"one"), key.clone(), sound, record(b"one"), key.clone(), record(b"two"), key];
    let (tracks, frames, errors) = read([write(&sent, false)]);
    let told: Vec<_> = tracks.iter().map(|track| (track.id, track.codec, &track.config[..])).collect();
    let expected = [
        (TrackId::METADATA, Codec::Script, &metadata.payload[..]),
        (TrackId::VIDEO, Codec::H264, b"one"),
        (TrackId::AUDIO, Codec::Aac, b""),
        (TrackId::VIDEO, Codec::H264, b"two"),
    ];
    assert_eq!((&told[..], &frames[..], &errors[..]), (&expected[..], &sent[..], &[][..]));
}

#[test]
fn script_data_is_told_apart_by_its_name() {
    let tag = |body: Vec<u8>| {
        let frame = Frame { kind: FrameKind::Data, ..Frame::config(Codec::Script, Timestamp::ZERO, body.into()) };
        write(&[frame], false).slice(13..)
    };
    let set = [&script("@setDataFrame")[..16], &script("onMetaData")].concat();
    let bodies =
        [set, script("onCuePoint"), script("|RtmpSampleAccess"), script("@clearDataFrame"), vec![5], vec![2, 0, 9]];
    let file = [file_header(true, true).to_vec(), bodies.map(tag).concat()].concat();
    let (_, frames, errors) = read([file.into()]);
    let kinds: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.payload.to_vec())).collect();
    assert_eq!(
        kinds,
        [(FrameKind::Config, script("onMetaData")), (FrameKind::Data, script("onCuePoint"))],
        "without the command that stood before it"
    );
    assert_eq!(errors, []);
}

#[test]
fn a_tag_that_is_malformed_is_an_error_and_the_next_one_is_read() {
    let good = write(&[video(FrameKind::Key, 0, 0, b"key")], false);
    // Video of codec 2, Sorenson H.263.
    let bad = b"\x09\0\0\x03\0\0\0\0\0\0\0\x12\0\0\0\0\0\x0e";
    let (_, frames, errors) = read([[&good[..], bad, &good[13..]].concat().into()]);
    assert_eq!((frames.len(), &errors[..]), (2, &[FlvError::Codec(Media::Video)][..]));
}

#[test]
fn what_is_no_file_is_an_error_at_once() {
    for bytes in
        [&b"RIFF\0\0\0\0W"[..], b"FLV\x02\x05\0\0\0\x09", b"FLV\x01\x05\0\0\0\x08", b"FLV\x01\x05\xff\xff\xff\xff"]
    {
        assert_eq!(read([Bytes::from_static(bytes)]).2, [FlvError::Header], "{bytes:?}");
    }
    let longer =
        [&b"FLV\x01\x05\0\0\0\x0b??"[..], &write(&[video(FrameKind::Key, 0, 0, b"key")], false)[9..]].concat();
    assert_eq!(read([longer.into()]).1.len(), 1, "a header of a later version");
}

#[test]
fn a_whole_tag_is_a_slice_of_what_was_pushed() {
    let file = write(&[video(FrameKind::Key, 0, 0, &[7; 1000])], false);
    let (start, end) = (file.as_ptr().addr(), file.as_ptr().addr() + file.len());
    let (_, frames, _) = read([file]);
    assert!((start..end).contains(&frames[0].payload.as_ptr().addr()));
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let codec = proptest::sample::select(Codec::ALL.to_vec());
    let payload = proptest::collection::vec(any::<u8>(), 1..60);
    (codec, -100_i64..100, any::<bool>(), 0_u8..3, payload).prop_map(
        |(codec, composition, config, extra, payload)| {
            let (kind, track) = match codec.media() {
                Media::Video => (FrameKind::Key, [0, 3, 5]),
                Media::Audio => (FrameKind::Audio, [1, 4, 6]),
                Media::Data => (FrameKind::Data, [2, 2, 2]),
            };
            let timed = matches!(codec, Codec::H264 | Codec::H265 | Codec::H266) && !config;
            let payload = if codec == Codec::Script { script("onCuePoint") } else { payload };
            let config = config && codec != Codec::Script;
            Frame {
                payload: payload.into(),
                pts: Timestamp::from_millis(if timed { composition } else { 0 }),
                dts: Timestamp::ZERO,
                origin: NOW,
                track: TrackId(track[usize::from(extra)]),
                kind: if config { FrameKind::Config } else { kind },
                codec,
                flags: FrameFlags::default(),
            }
        },
    )
}

fn cut(mut bytes: Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle() {
        pieces.push(bytes.split_to((*cut).min(bytes.len())));
        if bytes.is_empty() {
            return pieces;
        }
    }
    pieces
}

proptest! {
    #[test]
    fn write_then_read_is_the_identity(
        frames in proptest::collection::vec(any_frame(), 1..20),
        start in prop_oneof![0_i64..100, 0x00FF_FF00_i64..0x0100_0000, 0xFFFF_FF00_i64..0x1_0000_0000],
        cuts in proptest::collection::vec(1_usize..200, 1..10),
    ) {
        let place = |(n, frame): (i64, Frame)| {
            let at = Timestamp::from_millis(start + 20 * n);
            Frame { pts: frame.pts + at, dts: at, ..frame }
        };
        // A first frame sets the clock, as configurations do not.
        let first = video(FrameKind::Key, start, start, b"first");
        let mut frames: Vec<Frame> = (1..).zip(frames).map(place).collect();
        // FLV has neither configurations of these, nor tracks beside the main one, nor these at all.
        frames.retain(|frame| match frame.codec {
            Codec::Id3 | Codec::Klv => false,
            Codec::Mp3 => frame.kind != FrameKind::Config,
            Codec::G711A | Codec::G711U | Codec::Speex | Codec::Pcm => {
                frame.kind != FrameKind::Config && frame.track == TrackId::AUDIO
            }
            _ => true,
        });
        frames.insert(0, first);
        let file = write(&frames, true);
        let (_, mut got, errors) = read(cut(file.clone(), &cuts));
        // What FLV says of sound in its first byte is told as a configuration.
        let legacy = [Codec::Mp3, Codec::G711A, Codec::G711U, Codec::Speex, Codec::Pcm];
        got.retain(|frame| frame.kind != FrameKind::Config || !legacy.contains(&frame.codec));
        prop_assert_eq!(errors, vec![]);
        for (got, sent) in got.iter_mut().zip(&frames) {
            prop_assert!(!got.flags.contains(FrameFlags::DISPOSABLE) || sent.codec.media() == Media::Video);
            got.flags = FrameFlags::default();
        }
        prop_assert_eq!(&got, &frames);
        prop_assert_eq!(read([file]).1.len(), read(cut(write(&frames, true), &[1])).1.len());
    }

    #[test]
    fn no_bytes_do_harm(
        frames in proptest::collection::vec(any_frame(), 1..8),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cuts in proptest::collection::vec(1_usize..100, 1..4),
    ) {
        let mut file = write(&frames, true).to_vec();
        for (index, byte) in mutations {
            let at = index.index(file.len());
            file[at] = byte;
        }
        let _ = read(cut(file.into(), &cuts));
    }
}
