//! What is muxed is demuxed, however it is cut; what lies does no harm.

use std::io::Cursor;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::boxes::{Fields, FourCc, child, children, put_box, put_full_box, the_child};
use super::entry::Entry;
use super::*;
use crate::clock::Wall;
use crate::codec::tests::records;
use crate::limits::{MP4_SAMPLE_BYTES_MAX, MP4_STARTS_MAX};
use crate::media::{Frame, FrameFlags, FrameKind, Media, Timestamp};

/// A track of a codec, with the timescale that the muxer will give it.
fn track(codec: Codec, id: u8) -> Track {
    let config = records().into_iter().find(|(known, _)| *known == codec).unwrap().1;
    let video = codec.media() == Media::Video;
    Track {
        id: TrackId(id),
        codec,
        timescale: if video { 90_000 } else { 48_000 },
        config,
        size: video.then_some((318, 178)),
        channels: (!video).then_some(2),
        language: None,
    }
}

/// A frame at so many ticks.
fn frame(track: &Track, dts: i64, composition: i64, key: bool, payload: Bytes) -> Frame {
    let at = |ticks| Timestamp::from_ticks(ticks, track.timescale);
    let frame = match track.codec.media() {
        Media::Video => Frame::video(track.codec, key, at(dts + composition), at(dts), payload),
        _ => Frame::audio(track.codec, at(dts), payload),
    };
    frame.on_track(track.id)
}

fn h264() -> Track {
    track(Codec::H264, 0)
}

/// Three frames, the second shown last.
fn three(track: &Track, from: i64) -> Vec<Frame> {
    let steps = [(0, 3003, true), (3003, 6006, false), (6006, 0, false)];
    let byte = |dts: i64| Bytes::from(vec![u8::try_from(dts / 3003 % 251).unwrap(); 9]);
    steps.map(|(dts, composition, key)| frame(track, from + dts, composition, key, byte(from + dts))).to_vec()
}

fn run<'a>(track: &Track, frames: &'a [Frame]) -> Run<'a> {
    Run { track: track.id, frames, end: None }
}

fn all(fragment: &Fragment) -> Bytes {
    fragment
        .slices()
        .fold(BytesMut::new(), |mut out, slice| {
            out.extend_from_slice(slice);
            out
        })
        .freeze()
}

/// Everything that comes out of a stream that is pushed in pieces of these lengths, in turn.
fn demux(stream: &Bytes, pieces: &[usize]) -> Result<(Vec<Event>, bool), Mp4Error> {
    let mut demuxer = Demuxer::new();
    let (mut events, mut rest) = (Vec::new(), stream.clone());
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let mut piece = rest.split_to((*pieces.next().unwrap()).min(rest.len()));
        while let Some(event) = demuxer.push(&mut piece)? {
            events.push(event);
        }
        assert!(piece.is_empty(), "what is pushed is taken");
    }
    Ok((events, demuxer.is_at_end()))
}

fn frames_of(events: &[Event]) -> Vec<Frame> {
    let frame = |event: &Event| if let Event::Frame(frame) = event { Some(frame.clone()) } else { None };
    events.iter().filter_map(frame).collect()
}

fn tracks_of(events: &[Event]) -> Vec<Track> {
    let track = |event: &Event| if let Event::Track(track) = event { Some(track.clone()) } else { None };
    events.iter().filter_map(track).collect()
}

#[test]
fn payloads_are_neither_copied_in_nor_out() {
    let track = h264();
    let frames = three(&track, 0);
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let fragment = muxer.fragment(&[run(&track, &frames)], Head::default()).unwrap();
    let places = |payloads: &[Bytes]| payloads.iter().map(|payload| payload.as_ptr()).collect::<Vec<_>>();
    let given: Vec<Bytes> = frames.iter().map(|frame| frame.payload.clone()).collect();
    assert_eq!(places(&fragment.payloads), places(&given));

    let mut demuxer = Demuxer::new();
    assert!(matches!(demuxer.push(&mut muxer.init()), Ok(Some(Event::Track(_)))));
    let stream = all(&fragment);
    let mut rest = stream.clone();
    while let Some(Event::Frame(frame)) = demuxer.push(&mut rest).unwrap() {
        assert!(stream.as_ptr_range().contains(&frame.payload.as_ptr()));
    }
    assert!(demuxer.is_at_end());
}

#[test]
fn rounding_does_not_add_up_over_ten_hours_of_milliseconds() {
    let mut track = h264();
    track.timescale = 1000;
    let audio = Track { timescale: 1000, ..self::track(Codec::Aac, 1) };
    let mut muxer = Muxer::new(&[track.clone(), audio.clone()]).unwrap();
    let at = |nth: i64, num: i64, den: i64| Timestamp::from_millis(nth * num * 1000 / den);
    let mut ends = [0, 0];
    for second in 0..3600 {
        // 30 frames of 1001/30000 s, ten seconds apart; 47 of 1024/48000 s.
        let video: Vec<Frame> = (0..30)
            .map(|nth| at(second * 300 + nth, 1001, 30_000))
            .map(|dts| Frame::video(Codec::H264, true, dts, dts, Bytes::from_static(b"v")))
            .collect();
        let sound: Vec<Frame> = (0..47)
            .map(|nth| Frame::audio(Codec::Aac, at(second * 470 + nth, 1024, 48_000), Bytes::from_static(b"a")))
            .collect();
        let runs = [
            Run { end: Some(at(second * 300 + 30, 1001, 30_000)), ..run(&track, &video) },
            Run { end: Some(at(second * 470 + 47, 1024, 48_000)), ..run(&audio, &sound) },
        ];
        let fragment = muxer.fragment(&runs, Head::default()).unwrap();
        for (start, frames) in fragment.starts.iter().zip([&video, &sound]) {
            assert_eq!(i64::try_from(start.decode).unwrap(), frames[0].dts.as_ticks(start.timescale));
        }
        ends = [0, 1].map(|at: usize| fragment.starts[at].decode + fragment.starts[at].duration);
    }
    // Less than a millisecond from the truth: 1,079,730 frames and 1,691,577.
    let far = |end: u64, truth: u64, most: u64| assert!(end.abs_diff(truth) <= most, "{end} {truth}");
    far(ends[0], (3599 * 300 + 30) * 3003, 90);
    far(ends[1], (3599 * 470 + 47) * 1024, 48);
}

#[test]
fn a_last_frame_lasts_until_the_end_that_is_given_or_as_long_as_the_one_before() {
    let track = h264();
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let duration = |fragment: Fragment| fragment.starts[0].duration;
    let (frames, end) = (three(&track, 0), Some(Timestamp::from_ticks(9999, 90_000)));
    assert_eq!(duration(muxer.fragment(&[Run { end, ..run(&track, &frames) }], Head::default()).unwrap()), 9999);
    // One alone: as the last frame did before.
    assert_eq!(duration(muxer.fragment(&[run(&track, &frames[..1])], Head::default()).unwrap()), 9999 - 6006);
    assert_eq!(duration(muxer.fragment(&[run(&track, &frames)], Head::default()).unwrap()), 9009);
}

#[test]
fn what_has_no_place_in_a_file_is_refused_and_not_counted() {
    let (track, sound) = (h264(), track(Codec::Aac, 1));
    let mut muxer =
        Muxer::new(std::slice::from_ref(&track)).unwrap().starting_at(Timestamp::from_ticks(3003, 90_000));
    let mut frames = three(&track, 3003);
    let refused = |muxer: &mut Muxer, frames: &[Frame]| muxer.fragment(&[run(&track, frames)], Head::default());
    assert_eq!(refused(&mut muxer, &three(&track, 0)), Err(MuxError::Time(track.id)));
    assert_eq!(refused(&mut muxer, &[]), Err(MuxError::Empty));
    frames.swap(0, 1);
    assert_eq!(refused(&mut muxer, &frames), Err(MuxError::TimeFalls(track.id)));
    let none = muxer.fragment(&[run(&sound, &[])], Head::default());
    assert_eq!(none, Err(MuxError::UnknownTrack(sound.id)));
    let far = [
        frame(&track, 3003, 0, true, Bytes::from_static(b"a")),
        frame(&track, 1 << 40, 0, true, Bytes::from_static(b"b")),
    ];
    assert_eq!(refused(&mut muxer, &far), Err(MuxError::Time(track.id)));
    frames.swap(0, 1);
    let fragment = refused(&mut muxer, &frames).unwrap();
    assert_eq!((fragment.sequence, fragment.starts[0].decode), (1, 0));

    assert_eq!(Muxer::new(&[]).err(), Some(MuxError::Tracks));
    assert_eq!(Muxer::new(&[track.clone(), track.clone()]).err(), Some(MuxError::Tracks));
    let bare = Track { config: Bytes::new(), ..track.clone() };
    let none = CodecError::NoConfiguration(Codec::H264);
    assert_eq!(Muxer::new(&[bare]).err(), Some(MuxError::Config(Codec::H264, none)));
    let mp3 = Track { timescale: 1000, ..self::track(Codec::Mp3, 1) };
    assert_eq!(Muxer::new(&[mp3]).err(), Some(MuxError::SampleRate(TrackId(1))));
    let script = Track { codec: Codec::Script, ..track };
    assert_eq!(Muxer::new(&[script]).err(), Some(MuxError::Unsupported(Codec::Script)));
}

#[test]
fn what_is_the_same_for_all_samples_is_written_once() {
    let track = track(Codec::Aac, 1);
    let frames: Vec<Frame> = (0..50).map(|nth| frame(&track, nth * 1024, 0, true, Bytes::from(vec![1; 7]))).collect();
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let fragment = muxer.fragment(&[run(&track, &frames)], Head::default()).unwrap();
    // Sizes alone are per sample: 4 bytes each, behind 104 of headers.
    assert_eq!(fragment.header.len(), 50 * 4 + 104);

    // A key frame and what depends on it: its flags once, those of all others once; sizes and composition for each.
    let track = h264();
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let fragment = muxer.fragment(&[run(&track, &three(&track, 0))], Head::default()).unwrap();
    assert_eq!(fragment.header.len(), 3 * 8 + 104 + 4);
}

#[test]
fn a_temporal_delimiter_of_av1_is_not_in_the_file() {
    let track = track(Codec::Av1, 0);
    let frames = [frame(&track, 0, 0, true, Bytes::from_static(&[0x12, 0, 0x0A, 1, 2]))];
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let fragment = muxer.fragment(&[run(&track, &frames)], Head::default()).unwrap();
    let stream = [muxer.init(), all(&fragment)].concat().into();
    assert_eq!(&*frames_of(&demux(&stream, &[40]).unwrap().0)[0].payload, [0x0A, 1, 2]);
}

#[test]
fn a_segment_is_marked_and_its_index_and_that_of_the_file_point_at_it() {
    let track = h264();
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let head = Head { segment: true, captured: Some(Wall(1_500_000_000)) };
    let first = muxer.fragment(&[run(&track, &three(&track, 90_000))], head).unwrap();
    let second = muxer.fragment(&[run(&track, &three(&track, 99_009)[1..])], Head::default()).unwrap();

    let bytes = all(&first);
    let kinds: Vec<FourCc> = children(&bytes).map(|found| found.unwrap().0).collect();
    assert_eq!(kinds, [*b"styp", *b"prft", *b"moof", *b"mdat"].map(FourCc));
    assert_eq!(&bytes[first.moof_at + 4..][..4], b"moof");
    let (_, flags, mut prft) = Fields::full(b"prft", the_child(&bytes, b"prft").unwrap()).unwrap();
    assert_eq!((flags, prft.u32(), prft.u64()), (24, Ok(1), Ok((2_208_988_801 << 32) + (1 << 31))));
    assert_eq!(prft.u64(), Ok(90_000));

    let index = segment_index(track.id, &[first.clone(), second.clone()]).unwrap();
    let (_, _, mut sidx) = Fields::full(b"sidx", the_child(&index, b"sidx").unwrap()).unwrap();
    assert_eq!((sidx.u32(), sidx.u32(), sidx.u64()), (Ok(1), Ok(90_000), Ok(93_003)));
    assert_eq!((sidx.u64(), sidx.u32()), (Ok(0), Ok(2)));
    let reference = |sidx: &mut Fields<'_>| [(); 3].map(|()| sidx.u32().unwrap());
    assert_eq!(reference(&mut sidx), [u32::try_from(bytes.len()).unwrap(), 9009, 0x9000_0000]);
    assert_eq!(reference(&mut sidx)[1..], [6006, 0], "no start where there is no key frame");
    assert_eq!(segment_index(TrackId(7), std::slice::from_ref(&first)), None);

    let mut starts = Starts::new();
    starts.add(&first, 1000);
    starts.add(&second, 2000);
    let index = starts.to_bytes();
    let mfra = the_child(&index, b"mfra").unwrap();
    let (_, _, mut tfra) = Fields::full(b"tfra", the_child(mfra, b"tfra").unwrap()).unwrap();
    assert_eq!([(); 3].map(|()| tfra.u32().unwrap()), [1, 0, 1]);
    assert_eq!((tfra.u64(), tfra.u64()), (Ok(93_003), Ok(1000 + first.moof_at as u64)));
    let (_, _, mut mfro) = Fields::full(b"mfro", the_child(mfra, b"mfro").unwrap()).unwrap();
    assert_eq!(mfro.u32().unwrap() as usize, index.len());
}

#[test]
fn an_index_of_a_very_long_file_keeps_every_second_start() {
    let track = h264();
    let mut muxer = Muxer::new(std::slice::from_ref(&track)).unwrap();
    let frames = three(&track, 0);
    let fragment = muxer.fragment(&[run(&track, &frames)], Head::default()).unwrap();
    let mut starts = Starts::new();
    for nth in 0..3 * MP4_STARTS_MAX as u64 {
        starts.add(&fragment, nth);
    }
    let index = starts.to_bytes();
    let (_, _, mut tfra) =
        Fields::full(b"tfra", the_child(the_child(&index, b"mfra").unwrap(), b"tfra").unwrap()).unwrap();
    tfra.skip(8).unwrap();
    let count = tfra.u32().unwrap();
    assert!((MP4_STARTS_MAX / 2..=MP4_STARTS_MAX).contains(&(count as usize)));
    for nth in 0..u64::from(count) {
        tfra.skip(8).unwrap();
        assert_eq!(tfra.u64().unwrap(), nth * 4 + fragment.moof_at as u64);
        tfra.skip(3).unwrap();
    }
}

/// A `moof` of one run with these fields, for track 1.
fn moof(tfhd: u32, fields: &[u32], trun: u32, values: &[u32]) -> Bytes {
    let mut out = BytesMut::new();
    put_box(&mut out, b"moof", |out| {
        put_box(out, b"traf", |out| {
            put_full_box(out, b"tfhd", 0, tfhd, |out| fields.iter().for_each(|value| out.put_u32(*value)));
            put_full_box(out, b"trun", 1, trun, |out| values.iter().for_each(|value| out.put_u32(*value)));
        });
    });
    out.freeze()
}

fn after_init(parts: &[&[u8]]) -> Bytes {
    let init = Muxer::new(&[h264()]).unwrap().init();
    [&[&*init], parts].concat().concat().into()
}

#[test]
fn a_count_that_lies_costs_nothing_and_samples_that_lie_elsewhere_are_refused() {
    let error = |parts: &[&[u8]]| demux(&after_init(parts), &[1 << 20]).err();
    // Four billion samples: without anything written of each, of no bytes, and with sizes that are not there.
    assert_eq!(error(&[&moof(0x2_0000, &[1], 0, &[u32::MAX])]), Some(Mp4Error::TooManySamples));
    assert_eq!(error(&[&moof(0x2_0000, &[1], 0, &[1 << 20]), b"\0\0\0\x08mdat"]), None);
    assert_eq!(error(&[&moof(0x2_0000, &[1], 0x200, &[1 << 20, 1])]), Some(Mp4Error::Cut(FourCc(*b"trun"))));
    assert_eq!(error(&[&moof(0x2_0010, &[1, u32::MAX], 0, &[1])]), Some(Mp4Error::SampleTooLong));
    // Before the data, behind them, and nowhere.
    assert_eq!(error(&[&moof(0x2_0010, &[1, 4], 1, &[1, 0])]), Some(Mp4Error::Place));
    let headers = u32::try_from(moof(0x2_0010, &[1, 4], 1, &[1, 0]).len()).unwrap() + 8;
    assert_eq!(error(&[&moof(0x2_0010, &[1, 4], 1, &[1, headers]), b"\0\0\0\x0bmdatabc"]), Some(Mp4Error::Place));
    let in_header = moof(0x2_0010, &[1, 4], 1, &[1, headers - 4]);
    assert_eq!(error(&[&in_header, b"\0\0\0\x0cmdatabcd"]), Some(Mp4Error::Place));
    let good = moof(0x2_0010, &[1, 4], 1, &[1, headers]);
    assert_eq!(error(&[&good, &good]), Some(Mp4Error::Place));
    let (events, ended) = demux(&after_init(&[&good, b"\0\0\0\x0cmdatabcd"]), &[1 << 20]).unwrap();
    assert_eq!((&*frames_of(&events)[0].payload, ended), (&b"abcd"[..], true));
    // Headers that are too long, or come too early.
    assert_eq!(error(&[b"\x7f\xff\xff\xffmoof"]), Some(Mp4Error::TooLong(FourCc(*b"moof"))));
    assert_eq!(demux(&good, &[9]).err(), Some(Mp4Error::Missing(FourCc(*b"moov"))));
}

#[test]
fn flags_of_the_first_sample_go_before_those_of_each() {
    // Both of them: ISO/IEC 14496-12, 8.8.8 has it that they are not, but there are writers.
    let both = 1 | 4 | 0x200 | 0x400;
    let length = u32::try_from(moof(0x2_0000, &[1], both, &[2, 0, 0, 1, 1 << 16, 1, 1 << 16]).len()).unwrap();
    let moof = moof(0x2_0000, &[1], both, &[2, length + 8, 0, 1, 1 << 16, 1, 1 << 16]);
    let (events, _) = demux(&after_init(&[&moof, b"\0\0\0\x0amdatab"]), &[64]).unwrap();
    let kinds: Vec<FrameKind> = frames_of(&events).iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [FrameKind::Key, FrameKind::Delta]);
}

#[test]
fn a_fragment_that_says_no_time_goes_on_where_the_last_one_ended() {
    let moof = |at: u32| moof(0x2_0018, &[1, 3000, 1], 1, &[4, at]);
    let moof = moof(u32::try_from(moof(0).len()).unwrap() + 8);
    let data = &b"\0\0\0\x0cmdatabcd"[..];
    let (events, _) = demux(&after_init(&[&moof, data, &moof, data]), &[100]).unwrap();
    let times: Vec<i64> = frames_of(&events).iter().map(|frame| frame.dts.as_ticks(90_000)).collect();
    assert_eq!(times, (0..8).map(|nth| nth * 3000).collect::<Vec<_>>());
}

#[test]
fn samples_may_lie_in_a_later_box_of_data_than_the_next() {
    let moof = |at: u32| moof(0x2_0010, &[1, 2], 1, &[1, at]);
    let moof = moof(u32::try_from(moof(0).len()).unwrap() + 9 + 8 + 8 + 1);
    for piece in [1, 100] {
        let parts: [&[u8]; 4] = [&moof, b"\0\0\0\x09mdatx", b"\0\0\0\x08free", b"\0\0\0\x0cmdatxabx"];
        let (events, ended) = demux(&after_init(&parts), &[piece]).unwrap();
        assert_eq!((&*frames_of(&events)[0].payload, ended), (&b"ab"[..], true));
    }
}

#[test]
fn a_sample_entry_of_sound_says_channels_depth_and_rate_and_its_descriptors_fill_their_box() {
    for (codec, kind) in
        [(Codec::Flac, b"fLaC"), (Codec::Aac, b"mp4a"), (Codec::Mp3, b"mp4a"), (Codec::Opus, b"Opus")]
    {
        let entry = Entry::of(&Track { channels: Some(6), ..track(codec, 1) }).unwrap();
        let body = the_child(&entry.bytes, kind).unwrap();
        let mut fields = Fields::new(kind, &body[16..]);
        // What the record says goes before what is said of the track.
        let channels = if codec == Codec::Mp3 { 6 } else { 2 };
        let depth = if codec == Codec::Flac { 24 } else { 16 };
        assert_eq!((fields.u16(), fields.u16(), fields.u32()), (Ok(channels), Ok(depth), Ok(0)), "{codec}");
        assert_eq!(fields.u32(), Ok(48_000 << 16));
        if let Some(esds) = child(&body[28..], b"esds").unwrap() {
            let lengths: Vec<u8> = esds[4..].iter().copied().filter(|byte| *byte != 0x80).collect();
            // The stream's descriptor, behind its tag and four bytes of length; and the decoder's, less the last one.
            assert_eq!(usize::from(lengths[1]), esds.len() - 4 - 5);
            assert_eq!(usize::from(lengths[6]), esds.len() - 4 - 5 - 3 - 5 - 6);
        }
    }
}

#[test]
fn a_language_is_told_in_three_letters_too() {
    for (tag, letters) in [("de-AT", Some("deu")), ("nds", Some("nds")), ("x-klingon", None)] {
        let track = Track { language: Some(tag.into()), ..track(Codec::Aac, 1) };
        let mut init = Muxer::new(&[track]).unwrap().init().to_vec();
        let told =
            |init: &[u8]| tracks_of(&demux(&Bytes::copy_from_slice(init), &[99]).unwrap().0)[0].language.clone();
        assert_eq!(told(&init).as_deref(), Some(tag));
        let at = init.windows(4).position(|four| four == b"elng").unwrap();
        init[at..at + 4].copy_from_slice(b"free");
        assert_eq!(told(&init).as_deref(), letters);
    }
}

#[test]
fn a_second_movie_box_tells_of_its_tracks_again() {
    let (first, second) =
        (Muxer::new(&[h264()]).unwrap().init(), Muxer::new(&[track(Codec::Vp9, 0)]).unwrap().init());
    let stream = Bytes::from([first, second].concat());
    let tracks = tracks_of(&demux(&stream, &[50]).unwrap().0);
    assert_eq!(tracks.iter().map(|track| track.codec).collect::<Vec<_>>(), [Codec::H264, Codec::Vp9]);
}

// ---- a file that is not fragmented

/// A movie box with one track of samples in two chunks: of two and of one.
fn progressive() -> Vec<u8> {
    let track = h264();
    let entry = Entry::of(&track).unwrap();
    let put = |out: &mut BytesMut, kind: &[u8; 4], values: &[u32]| {
        put_full_box(out, kind, 0, 0, |out| values.iter().for_each(|value| out.put_u32(*value)));
    };
    let mut out = BytesMut::new();
    put_box(&mut out, b"ftyp", |out| out.put_slice(b"isom\0\0\0\0"));
    put_box(&mut out, b"mdat", |out| out.put_slice(b"aabbb...c"));
    put_box(&mut out, b"moov", |out| {
        put(out, b"mvhd", &[0, 0, 1000, 0]);
        put_box(out, b"trak", |out| {
            put(out, b"tkhd", &[0, 0, 1, 0, 0]);
            put_box(out, b"edts", |out| put(out, b"elst", &[2, 500, u32::MAX, 1 << 16, 1, 3003, 1 << 16]));
            put_box(out, b"mdia", |out| {
                put(out, b"mdhd", &[0, 0, 90_000, 0, 0x15C7 << 16]);
                put_box(out, b"minf", |out| {
                    put_box(out, b"stbl", |out| {
                        put_full_box(out, b"stsd", 0, 0, |out| {
                            out.put_u32(1);
                            out.put_slice(&entry.bytes);
                        });
                        put(out, b"stts", &[2, 0, 7, 3, 3003]);
                        put(out, b"ctts", &[2, 1, 3003, 2, 0]);
                        put(out, b"stsc", &[2, 1, 2, 1, 2, 1, 1]);
                        put(out, b"stsz", &[0, 3, 2, 3, 1]);
                        put(out, b"stco", &[2, 24, 32]);
                        put(out, b"stss", &[2, 1, 3]);
                    });
                });
            });
        });
    });
    out.to_vec()
}

fn read_progressive(file: Vec<u8>) -> Result<Vec<Event>, ReadError> {
    let mut file = Progressive::open(Cursor::new(file))?;
    let mut events = Vec::new();
    while let Some(event) = file.next_event()? {
        events.push(event);
    }
    Ok(events)
}

#[test]
fn a_file_with_its_index_at_the_end_is_read_in_order() {
    let events = read_progressive(progressive()).unwrap();
    assert_eq!(tracks_of(&events)[0].language.as_deref(), Some("eng"));
    let frames = frames_of(&events);
    let seen: Vec<_> = frames.iter().map(|frame| (&*frame.payload, frame.kind)).collect();
    assert_eq!(seen, [(&b"aa"[..], FrameKind::Key), (b"bbb", FrameKind::Delta), (b"c", FrameKind::Key)]);
    // Half a second is empty; what is before 3003 in the media is not shown.
    let ticks: Vec<_> = frames.iter().map(|frame| (frame.dts.as_ticks(90_000), frame.pts.as_ticks(90_000))).collect();
    assert_eq!(ticks, [(41_997, 45_000), (45_000, 45_000), (48_003, 48_003)]);
}

#[test]
fn a_file_that_is_cut_ends_in_an_error_and_one_without_movie_box_too() {
    let whole = progressive();
    for end in 0..whole.len() {
        assert!(read_progressive(whole[..end].to_vec()).is_err(), "{end}");
    }
    let start = whole.windows(4).position(|four| four == b"moov").unwrap() - 4;
    // The data are not where the index says.
    let error = read_progressive(whole[start..].to_vec());
    assert!(error.is_ok(), "places within the movie box are bytes like others: {error:?}");
}

// ---- any tracks, any frames

#[derive(Clone, Debug)]
struct Sample {
    step: u32,
    composition: i32,
    key: bool,
    disposable: bool,
    payload: Vec<u8>,
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let composition = prop_oneof![Just(0), -90_000..90_000_i32, Just(i32::MIN), Just(i32::MAX)];
    let step = prop_oneof![Just(3003_u32), 0..100_000_u32, Just(u32::MAX)];
    // None begins like a temporal delimiter of AV1, which would be left out.
    let payload = proptest::collection::vec(any::<u8>(), 1..40).prop_filter("no delimiter", |bytes| bytes[0] != 0x12);
    let sample = (step, composition, any::<bool>(), any::<bool>(), payload).prop_map(
        |(step, composition, key, disposable, payload)| Sample { step, composition, key, disposable, payload },
    );
    proptest::collection::vec(sample, 0..12)
}

/// Up to four tracks with ids as the demuxer gives them, and their frames.
fn tracks() -> impl Strategy<Value = Vec<(Track, Vec<Frame>)>> {
    let start = 0..1_i64 << 40;
    let language = prop_oneof![Just(None), Just(Some("eng")), Just(Some("de-AT")), Just(Some("x-klingon"))];
    let one = (any::<prop::sample::Index>(), samples(), start, language);
    proptest::collection::vec(one, 1..5).prop_map(|tracks| {
        let (mut video, mut audio) = (vec![7, 5, 3, 0], vec![8, 6, 4, 1]);
        let records = records();
        let made = tracks.into_iter().map(|(codec, samples, start, language)| {
            let codec = records[codec.index(records.len())].0;
            let ids = if codec.media() == Media::Video { &mut video } else { &mut audio };
            let mut track = track(codec, ids.pop().unwrap());
            track.language = language.map(Into::into);
            let mut at = start;
            let frames = samples.into_iter().map(|sample| {
                let composition = if codec.media() == Media::Video { sample.composition.into() } else { 0 };
                let mut frame = frame(&track, at, composition, sample.key, sample.payload.into());
                if sample.disposable && frame.kind == FrameKind::Delta {
                    frame.flags = FrameFlags::DISPOSABLE;
                }
                at += i64::from(sample.step);
                frame
            });
            let frames = frames.collect();
            (track, frames)
        });
        made.collect()
    })
}

/// The tracks' frames in fragments of so many frames each.
fn muxed(tracks: &[(Track, Vec<Frame>)], per_fragment: usize) -> (Bytes, Vec<Vec<Frame>>) {
    let only: Vec<Track> = tracks.iter().map(|(track, _)| track.clone()).collect();
    let mut muxer = Muxer::new(&only).unwrap();
    let mut stream = BytesMut::from(&*muxer.init());
    let longest = tracks.iter().map(|(_, frames)| frames.len()).max().unwrap_or(0);
    for from in (0..longest).step_by(per_fragment) {
        let runs = tracks.iter().map(|(track, frames)| {
            let end = (from + per_fragment).min(frames.len());
            let next = frames.get(end).map(|frame| frame.dts);
            Run { end: next, ..run(track, frames.get(from..end).unwrap_or_default()) }
        });
        let runs: Vec<Run<'_>> = runs.collect();
        let head = Head { segment: from % 2 == 0, captured: (from % 3 == 0).then_some(Wall(from as u64)) };
        stream.extend_from_slice(&all(&muxer.fragment(&runs, head).unwrap()));
    }
    (stream.freeze(), tracks.iter().map(|(_, frames)| frames.clone()).collect())
}

proptest! {
    #[test]
    fn what_is_muxed_is_demuxed(
        tracks in tracks(), per_fragment in 1_usize..8, pieces in proptest::collection::vec(1_usize..200, 1..6),
    ) {
        let (stream, sent) = muxed(&tracks, per_fragment);
        let (events, ended) = demux(&stream, &pieces).unwrap();
        prop_assert!(ended);
        let told = tracks_of(&events);
        let given: Vec<Track> = tracks.iter().map(|(track, _)| track.clone()).collect();
        prop_assert_eq!(told, given);
        let received = frames_of(&events);
        for ((track, _), sent) in tracks.iter().zip(sent) {
            let got: Vec<Frame> = received.iter().filter(|frame| frame.track == track.id).cloned().collect();
            prop_assert_eq!(got, sent);
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
        let _ = demux(&bytes.clone().into(), &[piece]);
        let init = Muxer::new(&[h264()]).unwrap().init();
        let _ = demux(&Bytes::from([&init, &*bytes].concat()), &[piece]);
        let _ = read_progressive(bytes);
    }

    #[test]
    fn what_is_changed_or_cut_in_a_file_does_no_harm(
        tracks in tracks(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        end in any::<prop::sample::Index>(), piece in 1_usize..500,
    ) {
        let change = |mut bytes: Vec<u8>| {
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(end.index(2 * bytes.len()));
            bytes
        };
        let stream = change(muxed(&tracks, 3).0.to_vec());
        if let Ok((events, _)) = demux(&stream.into(), &[piece]) {
            prop_assert!(frames_of(&events).iter().all(|frame| frame.payload.len() <= MP4_SAMPLE_BYTES_MAX));
        }
        let _ = read_progressive(change(progressive()));
    }
}

#[test]
fn a_track_of_an_unknown_codec_is_passed_over() {
    let tracks = [h264(), track(Codec::Aac, 1)];
    let mut muxer = Muxer::new(&tracks).unwrap();
    let (video, sound) = (three(&tracks[0], 0), frame(&tracks[1], 0, 0, true, Bytes::from_static(b"sound")));
    let fragment = muxer.fragment(&[run(&tracks[0], &video), run(&tracks[1], &[sound])], Head::default()).unwrap();
    let mut stream = [muxer.init(), all(&fragment)].concat();
    let entry = stream.windows(4).position(|four| four == b"avc1").unwrap();
    stream[entry..entry + 4].copy_from_slice(b"encv");
    let (events, ended) = demux(&stream.clone().into(), &[77]).unwrap();
    let frames = frames_of(&events);
    assert_eq!((frames.len(), &*frames[0].payload, ended), (1, &b"sound"[..], true));
    let moov = stream.windows(4).position(|four| four == b"mp4a").unwrap();
    stream[moov..moov + 4].copy_from_slice(b"enca");
    assert_eq!(demux(&stream.into(), &[77]).err(), Some(Mp4Error::NoTrack));
    assert_eq!(child(b"", b"moov"), Ok(None));
}
