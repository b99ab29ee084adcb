//! Files of our own muxers, and what a source makes of them over many laps.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::codec::Description;
use crate::container::flv::{Writer, file_header};
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Timestamp, TrackId};

/// A file as frames, in the order in which they lie in it.
#[derive(Clone, Debug)]
struct Film {
    frames: Vec<Frame>,
}

impl Film {
    /// Pictures `between` ms apart, every third of which is shown later, and sound.
    fn new(pictures: i64, between: i64, sounds: i64, sound: i64, sound_from: i64) -> Self {
        let at = Timestamp::from_millis;
        let mut frames = Vec::new();
        for n in 0..pictures {
            let late = if n % 3 == 1 { 2 * between } else { between };
            let (dts, pts) = (at(1_000 + n * between), at(1_000 + n * between + late));
            frames.push(Frame::video(Codec::H264, n % 25 == 0, pts, dts, Bytes::from_static(b"\0\0\0\x01\x65")));
        }
        for n in 0..sounds {
            frames.push(Frame::audio(
                Codec::Aac,
                at(1_000 + sound_from + n * sound),
                Bytes::from_static(b"\x21\x10"),
            ));
        }
        frames.sort_by_key(|frame| frame.dts);
        Self { frames }
    }

    fn flv(&self) -> Bytes {
        let mut writer = Writer::new(false);
        let mut file = file_header(true, true).to_vec();
        let first = self.frames.iter().map(|frame| frame.dts).min().unwrap_or_default();
        let configs = [(Codec::H264, &b"\x01\x64\x00\x1f\xff\xe0\x00"[..]), (Codec::Aac, &b"\x11\x90"[..])];
        for (codec, config) in configs {
            if self.frames.iter().all(|frame| frame.codec != codec) {
                continue;
            }
            let frame = Frame::config(codec, first, Bytes::copy_from_slice(config));
            file.extend_from_slice(&writer.write(&frame).unwrap().to_bytes());
        }
        for frame in &self.frames {
            file.extend_from_slice(&writer.write(frame).unwrap().to_bytes());
        }
        file.into()
    }
}

/// So many frames, or all there are.
fn take(source: &mut FileSource, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        match source.next_frame().unwrap() {
            Next::Frame(frame) => frames.push(frame),
            Next::End => break,
            Next::Wait => panic!("memory never lets wait"),
        }
    }
    frames
}

fn media(frames: &[Frame], track: TrackId) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.track == track && frame.kind != FrameKind::Config).collect()
}

/// Asserts what a viewer of many laps would notice.
fn is_one_stream(frames: &[Frame], per_lap: [usize; 2]) {
    assert!(frames.windows(2).all(|two| two[0].dts <= two[1].dts), "decoding time falls over all tracks");
    assert!(frames.iter().all(|frame| !frame.flags.contains(FrameFlags::DISCONTINUITY)));
    let tracks = [TrackId::VIDEO, TrackId::AUDIO];
    let mut moved: Vec<Vec<i64>> = Vec::new();
    for (track, per_lap) in tracks.into_iter().zip(per_lap) {
        let frames = media(frames, track);
        assert!(frames.windows(2).all(|two| two[0].dts < two[1].dts), "{track:?} stands still");
        // By how much each lap stands behind the first: to be the same for all its frames.
        let by = |(at, frame): (usize, &&Frame)| (frame.pts - frames[at % per_lap].pts).0;
        let all: Vec<i64> = frames.iter().enumerate().map(by).collect();
        moved.push(all.chunks(per_lap).map(|lap| lap[0]).collect());
        assert!(all.chunks(per_lap).all(|lap| lap.iter().all(|by| *by == lap[0])), "{track:?} is bent");
    }
    let laps = moved.iter().map(Vec::len).min().unwrap_or(0);
    assert_eq!(moved[0][..laps], moved[1][..laps], "sound has moved against the picture");
}

#[test]
fn after_a_thousand_laps_of_the_demo_sound_is_where_it_was_and_no_time_is_lost() {
    let mut source = demo().unwrap();
    let (laps, per_lap) = (1_000, 200 + 375);
    let frames = take(&mut source, laps * per_lap + 2);
    is_one_stream(&frames, [200, 375]);
    assert_eq!(
        frames.iter().filter(|frame| frame.kind == FrameKind::Config).count(),
        2,
        "once, for it never changes"
    );
    for (track, per_lap, frame) in [(TrackId::VIDEO, 200, 40_000_000), (TrackId::AUDIO, 375, 21_333_333)] {
        let frames = media(&frames, track);
        let steps = frames.windows(2).map(|two| (two[1].dts - two[0].dts).0);
        assert!(steps.clone().all(|step| (step - frame).abs() <= 1), "{track:?} has a seam");
        assert_eq!(frames[(laps - 1) * per_lap].pts, Timestamp::from_millis(8_000 * 999), "{track:?}");
    }
}

#[test]
fn the_demo_is_small_and_begins_with_what_decoders_need() {
    let frames = take(&mut demo().unwrap(), 60);
    let first = media(&frames, TrackId::VIDEO)[0];
    assert_eq!((first.kind, first.pts, first.codec), (FrameKind::Key, Timestamp::ZERO, Codec::H264));
    let config =
        frames.iter().find(|frame| frame.kind == FrameKind::Config && frame.track == TrackId::VIDEO).unwrap();
    let described = Description::read(Codec::H264, &config.payload, None).unwrap();
    assert_eq!(described.size, Some((640, 360)));
    assert!(include_bytes!("demo.mp4").len() <= 400 * 1024);
}

#[test]
fn a_file_that_is_not_looped_ends_with_its_last_frame() {
    let film = Film::new(50, 40, 90, 21, 0);
    let mut source = FileSource::of_bytes(film.flv(), false).unwrap();
    let frames = take(&mut source, usize::MAX);
    assert_eq!((media(&frames, TrackId::VIDEO).len(), media(&frames, TrackId::AUDIO).len()), (50, 90));
    assert_eq!(frames[0].dts, Timestamp::ZERO, "time begins with the file");
    assert_eq!(media(&frames, TrackId::VIDEO)[0].pts, Timestamp::from_millis(40), "the composition time is kept");
    assert!(matches!(source.next_frame(), Ok(Next::End)));
}

#[test]
fn pictures_that_nobody_could_decode_are_left_out_of_every_lap() {
    let mut film = Film::new(60, 40, 0, 21, 0);
    film.frames.drain(..5);
    let mut source = FileSource::of_bytes(film.flv(), true).unwrap();
    let frames = take(&mut source, 1 + 35 + 2);
    assert_eq!((frames[1].kind, frames[1].dts), (FrameKind::Key, Timestamp::ZERO));
    assert_eq!((frames[36].kind, frames[36].dts), (FrameKind::Key, Timestamp::from_millis(35 * 40)));
    assert_eq!(source.left_out(), 40);
}

#[test]
fn another_record_within_a_file_is_told_on_every_lap() {
    let mut film = Film::new(25, 40, 0, 21, 0);
    let config =
        Frame::config(Codec::H264, Timestamp::from_millis(1_400), Bytes::from_static(b"\x01\x4d\0\x1f\xff\xe0\0"));
    film.frames.insert(10, config);
    let frames = take(&mut FileSource::of_bytes(film.flv(), true).unwrap(), 3 * 27);
    assert_eq!(frames.iter().filter(|frame| frame.kind == FrameKind::Config).count(), 6);
    assert!(frames.iter().all(|frame| !frame.flags.contains(FrameFlags::DISCONTINUITY)), "the codec is the same");
}

#[test]
fn what_is_no_media_says_so() {
    let open = |bytes: &'static [u8]| FileSource::of_bytes(Bytes::from_static(bytes), true).unwrap().next_frame();
    assert!(matches!(open(b"#!/bin/sh\necho hello, world\n"), Err(SourceError::Unknown)));
    assert!(matches!(open(b""), Err(SourceError::Empty)));
    assert!(matches!(open(b"FLV\x01\x05\0\0\0\x09\0\0\0\0"), Err(SourceError::Empty)), "and is not looped for ever");
    assert!(matches!(open(b"\0\0\0\x10ftypisom\0\0\0\0"), Err(SourceError::Mp4(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn laps_are_one_stream_whatever_their_tracks_are(
        pictures in 2_i64..80, between in 5_i64..60, sounds in 2_i64..120, sound in 5_i64..60, from in 0_i64..50,
    ) {
        let film = Film::new(pictures, between, sounds, sound, from);
        let mut source = FileSource::of_bytes(film.flv(), true).unwrap();
        let laps = 1_000.min(20_000 / (pictures + sounds));
        let count = usize::try_from((pictures + sounds) * laps + 2).unwrap();
        let frames = take(&mut source, count);
        is_one_stream(&frames, [usize::try_from(pictures).unwrap(), usize::try_from(sounds).unwrap()]);
    }

    #[test]
    fn no_bytes_do_harm(kind in 0_usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let begins: [&[u8]; 4] =
            [b"FLV\x01\x05\0\0\0\x09\0\0\0\0", b"\0\0\0\x08ftyp", b"\0\0\0\x08moof", b"\x47"];
        let begin = begins[kind];
        let mut source = FileSource::of_bytes([begin, &bytes].concat().into(), true).unwrap();
        for _ in 0..10_000 {
            match source.next_frame() {
                Ok(Next::Frame(_)) => {}
                Ok(Next::Wait | Next::End) | Err(_) => break,
            }
        }
    }

    #[test]
    fn damaged_files_do_no_harm(at in 0_usize..4_000, value in any::<u8>()) {
        let mut file = Film::new(30, 40, 60, 21, 0).flv().to_vec();
        let at = at % file.len();
        file[at] = value;
        let mut source = FileSource::of_bytes(file.into(), true).unwrap();
        for _ in 0..1_000 {
            match source.next_frame() {
                Ok(Next::Frame(frame)) => prop_assert!(frame.dts >= Timestamp::ZERO),
                Ok(Next::Wait | Next::End) | Err(_) => break,
            }
        }
    }
}
