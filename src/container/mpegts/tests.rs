//! What is muxed comes back, whatever happens on the way is counted, and no bytes do harm.

use bytes::Bytes;
use proptest::prelude::*;

use super::pes::{Adaptation, PesWriter, header};
use super::table::push_stream;
use super::*;
use crate::clock::Instant;
use crate::codec::adts::AdtsFormat;
use crate::limits::Limits;
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Timestamp, Track, TrackId};

const NOW: Instant = Instant(7);
const SPS: &[u8] =
    b"\x67\x42\xc0\x0d\xda\x05\x46\x78\x89\xb0\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x32\x0f\x14\x2a";
const PPS: &[u8] = b"\x68\xce\x0f\xc8";

fn avcc() -> Bytes {
    let length = |unit: &[u8]| u16::try_from(unit.len()).unwrap().to_be_bytes();
    let head = [1, SPS[1], SPS[2], SPS[3], 0xFF, 0xE1];
    [&head[..], &length(SPS), SPS, &[1], &length(PPS), PPS].concat().into()
}

fn track(id: TrackId, codec: Codec) -> Track {
    let config = match codec {
        Codec::H264 => avcc(),
        Codec::Aac => Bytes::from_static(&[0x11, 0x90]),
        Codec::Opus => opus::head(2).unwrap(),
        _ => Bytes::new(),
    };
    let (size, channels) = match codec {
        Codec::H264 => (Some((322, 182)), None),
        Codec::Aac | Codec::Opus | Codec::Mp3 | Codec::Ac3 => (None, Some(2)),
        _ => (None, None),
    };
    let language = (codec == Codec::Aac).then(|| "de".into());
    Track { id, codec, timescale: TIMESCALE, config, size, channels, language }
}

fn tracks() -> Vec<Track> {
    let others = [Codec::Opus, Codec::Mp3, Codec::Ac3, Codec::Klv];
    let first =
        [track(TrackId::VIDEO, Codec::H264), track(TrackId::AUDIO, Codec::Aac), track(TrackId::METADATA, Codec::Id3)];
    first.into_iter().chain((3..).zip(others).map(|(id, codec)| track(TrackId(id), codec))).collect()
}

fn ticks(ticks: i64) -> Timestamp {
    Timestamp::from_ticks(ticks, TIMESCALE)
}

/// An access unit of one slice with so many bytes behind its header.
fn picture(key: bool, at: i64, bytes: usize) -> Frame {
    let unit = [&[if key { 0x65 } else { 0x41 }][..], &vec![0x9A; bytes]].concat();
    let payload = [&u32::try_from(unit.len()).unwrap().to_be_bytes(), &unit[..]].concat();
    Frame { origin: NOW, ..Frame::video(Codec::H264, key, ticks(at + 3000), ticks(at), payload.into()) }
}

fn sound(at: i64, payload: &[u8]) -> Frame {
    Frame { origin: NOW, ..Frame::audio(Codec::Aac, ticks(at), Bytes::copy_from_slice(payload)) }
}

fn demux(bytes: &[u8]) -> (Vec<Event>, DemuxCounters) {
    let mut demuxer = Demuxer::new(DemuxLimits::from(&Limits::default()));
    demuxer.push(NOW, bytes).unwrap();
    demuxer.finish(NOW).unwrap();
    (std::iter::from_fn(|| demuxer.poll()).collect(), demuxer.counters())
}

/// All but the configurations.
fn frames(events: &[Event]) -> Vec<Frame> {
    let frame = |event: &Event| if let Event::Frame(frame) = event { Some(frame.clone()) } else { None };
    events.iter().filter_map(frame).filter(|frame| frame.kind != FrameKind::Config).collect()
}

fn mux(muxer: &mut Muxer, frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| muxer.write(frame).unwrap()).collect()
}

/// Packets of a PID that begin a section or PES packet.
fn starts(bytes: &[u8], pid: u16) -> Vec<&[u8]> {
    let of = |packet: &&[u8]| u16::from_be_bytes([packet[1] & 0x1F, packet[2]]) == pid && packet[1] & 0x40 != 0;
    bytes.chunks(PACKET_BYTES).filter(of).collect()
}

#[test]
fn tracks_come_back_with_what_is_known_of_them() {
    let mut muxer = Muxer::new(&tracks()).unwrap();
    let mp3 = [&[0xFF, 0xFB, 0x90, 0][..], &[0; 413]].concat();
    let ac3 = [&[0x0B, 0x77, 1, 2, 0x14, 0x40, 0x40, 0][..], &[0; 760]].concat();
    let of =
        |id: u8, codec, payload: &[u8]| Frame { codec, origin: NOW, ..sound(1000, payload).on_track(TrackId(id)) };
    let data = |id: u8, codec, payload: &[u8]| Frame { kind: FrameKind::Data, ..of(id, codec, payload) };
    let sent = [
        picture(true, 0, 100),
        of(1, Codec::Aac, b"sound"),
        data(2, Codec::Id3, b"ID3 tag"),
        of(3, Codec::Opus, &[0xFC; 600]),
        of(4, Codec::Mp3, &mp3),
        of(5, Codec::Ac3, &ac3),
        data(6, Codec::Klv, b"\x06\x0e\x2b\x34"),
    ];
    let (events, counters) = demux(&mux(&mut muxer, &sent));
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Track(track) = event { Some(&**track) } else { None })
        .collect();
    assert_eq!(told, tracks().iter().collect::<Vec<_>>());
    assert_eq!(frames(&events), sent);
    let configs = events.iter().filter_map(|event| match event {
        Event::Frame(frame) if frame.kind == FrameKind::Config => Some((frame.track.0, frame.payload.clone())),
        _ => None,
    });
    let expected = [0, 1, 3].map(|id| (id, tracks()[usize::from(id)].config.clone()));
    assert_eq!(configs.collect::<Vec<_>>(), expected);
    assert_eq!((counters.continuity_errors, counters.damaged_pes, counters.unknown_streams), (0, 0, 0));
}

#[test]
fn a_stream_can_be_read_from_each_keyframe_on_and_where_a_segment_begins() {
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let mut segments = vec![Vec::new()];
    for n in 0..40 {
        if n % 10 == 0 {
            segments.push(Vec::new());
        }
        let last = segments.last_mut().unwrap();
        last.extend(muxer.write(&picture(n % 10 == 0, n * 3000, 500)).unwrap());
        last.extend(muxer.write(&sound(n * 3000, &[1; 100])).unwrap());
    }
    for segment in &segments[1..] {
        assert_eq!(starts(&segment[..PACKET_BYTES], PID_PAT).len(), 1, "the first packet is the association");
        let (events, counters) = demux(segment);
        let frames = frames(&events);
        assert_eq!((frames.len(), frames[0].kind, counters.continuity_errors), (20, FrameKind::Key, 0));
    }

    muxer.begin_segment();
    let segment = muxer.write(&sound(120_000, &[1; 100])).unwrap();
    assert_eq!(starts(&segment[..PACKET_BYTES], PID_PAT).len(), 1);
    let (events, _) = demux(&segment);
    assert_eq!(frames(&events), [sound(120_000, &[1; 100])]);
}

#[test]
fn tables_and_clock_are_never_100_ms_apart() {
    // Pictures twice a second, with sound between them.
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let (mut tables, mut clocks) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let at = n * 1920;
        let frame = if at % 44_160 == 0 { picture(at == 0, at, 5000) } else { sound(at, &[1; 300]) };
        let bytes = muxer.write(&frame).unwrap();
        assert_eq!(starts(&bytes, PID_PAT).len(), starts(&bytes, 0x1000).len());
        tables.extend(starts(&bytes, PID_PAT).iter().map(|_| at));
        for packet in bytes.chunks(PACKET_BYTES).filter(|packet| packet[3] & 0x20 != 0 && packet[4] > 0) {
            if packet[5] & 0x10 != 0 {
                let base = packet[6..11].iter().fold(0_i64, |base, byte| base << 8 | i64::from(*byte)) >> 7;
                assert_eq!(base, if at < 9000 { 0 } else { at - 9000 });
                assert_eq!(packet[1..3], [0x41, 0].map(|byte| byte & !(u8::from(packet[3] & 0x10 == 0) << 6)));
                clocks.push(at);
            }
        }
    }
    for times in [tables, clocks] {
        assert!(times.len() > 30 && times.windows(2).all(|two| two[1] - two[0] <= 9000 + 1920), "{times:?}");
    }
}

#[test]
fn what_is_kept_of_a_frame_is_as_long_as_its_packets() {
    let mut muxer = Muxer::new(&tracks()).unwrap();
    for frame in [picture(true, 0, 9), sound(0, &[1; 170]), picture(false, 3000, 3000), sound(20_000, &[1; 600])] {
        let bytes = muxer.write(&frame).unwrap();
        let len = bytes.len();
        assert_eq!(bytes.try_into_mut().unwrap().capacity(), len);
    }
}

#[test]
fn random_access_is_told_where_decoding_can_start() {
    let indicated = |bytes: &[u8], pid| {
        let of = |packet: &&[u8]| packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0;
        starts(bytes, pid).iter().filter(|packet| of(packet)).count()
    };
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    assert_eq!(indicated(&muxer.write(&picture(true, 0, 9)).unwrap(), 0x100), 1);
    assert_eq!(indicated(&muxer.write(&picture(false, 3000, 9)).unwrap(), 0x100), 0);
    let mut only_sound = Muxer::new(&tracks()[1..2]).unwrap();
    assert_eq!(indicated(&only_sound.write(&sound(0, b"x")).unwrap(), 0x101), 1);
}

#[test]
fn other_tracks_get_a_map_of_the_next_version_and_those_that_stay_go_on() {
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let mut bytes = mux(&mut muxer, &[picture(true, 0, 9), sound(0, b"a")]);
    muxer.set_tracks(&tracks()[..2]).unwrap();
    bytes.extend(mux(&mut muxer, &[picture(false, 3000, 9)]));
    let mut next = tracks()[..1].to_vec();
    next.push(track(TrackId(3), Codec::Opus));
    muxer.set_tracks(&next).unwrap();
    let opus = Frame { codec: Codec::Opus, ..sound(6000, &[0xFC, 1]).on_track(TrackId(3)) };
    bytes.extend(mux(&mut muxer, &[picture(false, 6000, 9), opus.clone()]));

    let versions: Vec<_> = starts(&bytes, 0x1000).iter().map(|packet| packet[10] >> 1 & 0x1F).collect();
    assert_eq!(versions, [0, 1], "the same tracks again are no other map");
    let (events, counters) = demux(&bytes);
    assert!(events.contains(&Event::Ended(TrackId::AUDIO)));
    // The place of the first sound is free again.
    let expected = [
        picture(true, 0, 9),
        sound(0, b"a"),
        picture(false, 3000, 9),
        picture(false, 6000, 9),
        opus.on_track(TrackId::AUDIO),
    ];
    assert_eq!(frames(&events), expected);
    assert_eq!(counters.continuity_errors, 0);
    assert_eq!(muxer.write(&sound(9000, b"a")), Err(MuxError::UnknownTrack(TrackId::AUDIO)));
}

#[test]
fn a_new_configuration_stands_before_the_keyframe_that_needs_it() {
    let mut muxer = Muxer::new(&tracks()[..1]).unwrap();
    let mut bytes = mux(&mut muxer, &[picture(true, 0, 9)]);
    let mut other = avcc().to_vec();
    let last = other.len() - 1;
    other[last] = 0xCC;
    let config = Frame::config(Codec::H264, ticks(3000), other.into());
    bytes.extend(mux(&mut muxer, &[config.clone(), picture(true, 3000, 9)]));
    let (events, _) = demux(&bytes);
    let Some([Event::Track(told), Event::Frame(got), Event::Frame(key)]) = events.last_chunk() else {
        panic!("{events:?}")
    };
    assert_eq!((&told.config, &got.payload, got.kind), (&config.payload, &config.payload, FrameKind::Config));
    assert_eq!(*key, picture(true, 3000, 9));
}

#[test]
fn what_has_no_place_in_a_transport_stream_is_left_out_or_refused() {
    let av1 = track(TrackId::VIDEO, Codec::Av1);
    assert_eq!(Muxer::new(std::slice::from_ref(&av1)).unwrap_err(), MuxError::NoTrack);
    let mut muxer = Muxer::new(&[av1, track(TrackId::AUDIO, Codec::Aac)]).unwrap();
    let frame = Frame::video(Codec::Av1, true, ticks(0), ticks(0), Bytes::from_static(b"obu"));
    assert_eq!(muxer.write(&frame), Ok(Bytes::new()));
    assert!(matches!(muxer.write(&sound(0, &[0; 8185])), Err(MuxError::Adts(TrackId::AUDIO, _))));
    let twice = [tracks()[1].clone(), tracks()[1].clone()];
    assert_eq!(muxer.set_tracks(&twice), Err(MuxError::Tracks(TrackId::AUDIO)));
    assert!(!muxer.write(&sound(0, b"x")).unwrap().is_empty(), "the tracks are those of before");

    let bare = Track { config: Bytes::new(), ..tracks()[0].clone() };
    let mut muxer = Muxer::new(&[bare]).unwrap();
    assert_eq!(muxer.write(&picture(true, 0, 9)), Err(MuxError::NoConfig(TrackId::VIDEO)));
    muxer.write(&Frame::config(Codec::H264, ticks(0), avcc())).unwrap();
    let cut = Frame { payload: picture(true, 0, 9).payload.slice(..9), ..picture(true, 0, 9) };
    assert!(matches!(muxer.write(&cut), Err(MuxError::Nal(TrackId::VIDEO, _))));
}

#[test]
fn a_lost_packet_costs_its_frame_and_a_doubled_one_nothing() {
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let sent: Vec<Frame> = (0..6).map(|n| picture(n == 0, n * 3000, 1000)).collect();
    let pieces: Vec<Bytes> = sent.iter().map(|frame| muxer.write(frame).unwrap()).collect();
    let mut packets: Vec<&[u8]> = pieces.iter().flat_map(|piece| piece.chunks(PACKET_BYTES)).collect();
    // The third of the last packets of frame 2.
    let at = pieces[..3].iter().map(Bytes::len).sum::<usize>() / PACKET_BYTES - 3;
    packets.remove(at);
    packets.insert(at + 10, packets[at + 10]);
    let (events, counters) = demux(&packets.concat());
    assert_eq!((counters.continuity_errors, counters.damaged_pes, counters.duplicates), (1, 1, 1));
    let kept: Vec<Frame> = sent.iter().enumerate().filter(|(n, _)| *n != 2).map(|(_, frame)| frame.clone()).collect();
    assert_eq!(frames(&events), kept);
}

#[test]
fn a_frame_longer_than_its_length_field_ends_where_the_next_begins() {
    let mut muxer = Muxer::new(&tracks()[..1]).unwrap();
    let sent = [picture(true, 0, 200_000), picture(false, 3000, 65_500), picture(false, 6000, 10)];
    let (events, _) = demux(&mux(&mut muxer, &sent));
    assert_eq!(frames(&events), sent);
}

#[test]
fn a_frame_over_its_bound_is_an_error_and_the_next_one_is_read() {
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let sent = [picture(true, 0, 90), picture(false, 3000, 20_000), picture(false, 6000, 90)];
    let pieces = sent.clone().map(|frame| muxer.write(&frame).unwrap());
    let limits = DemuxLimits { frame_bytes: 10_000, partial_bytes: 1 << 20 };
    for (limits, error) in [
        (limits, DemuxError::FrameBytes),
        (DemuxLimits { partial_bytes: 10_000, frame_bytes: 1 << 20 }, DemuxError::PartialBytes),
    ] {
        let mut demuxer = Demuxer::new(limits);
        let results = pieces.clone().map(|piece| demuxer.push(NOW, &piece));
        assert_eq!(results, [Ok(()), Err(error), Ok(())]);
        let events: Vec<_> = std::iter::from_fn(|| demuxer.poll()).collect();
        assert_eq!(frames(&events), [sent[0].clone(), sent[2].clone()]);
        assert_eq!(demuxer.held_bytes(), 0);
    }
}

#[test]
fn time_goes_on_when_33_bits_are_used_up() {
    let start = TICKS_WRAP - 7000;
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let sent: Vec<Frame> =
        (0..5).flat_map(|n| [picture(n == 0, start + n * 3000, 9), sound(start + n * 3000 - 5000, b"a")]).collect();
    let (events, counters) = demux(&mux(&mut muxer, &sent));
    assert_eq!(frames(&events), sent);
    assert_eq!(counters.continuity_errors, 0);
}

/// PES packets of AAC with these payloads and times, behind the tables of a stream that has nothing else.
fn pes_of_sound(payloads: &[(&[u8], i64)]) -> Vec<u8> {
    let mut muxer = Muxer::new(&[Track { language: None, ..tracks()[1].clone() }]).unwrap();
    let first = muxer.write(&sound(0, b"first")).unwrap();
    let mut out = first.to_vec();
    let mut continuity = 0;
    for (payload, at) in payloads {
        let (head, bytes) = header(0xC0, payload.len(), *at, *at);
        let mut pes = PesWriter::new(&mut out, 0x101, &mut continuity, Adaptation::default(), bytes + payload.len());
        pes.put(&head[..bytes]);
        pes.put(payload);
    }
    out
}

#[test]
fn frames_of_sound_begin_and_end_anywhere_in_pes_packets() {
    let format = AdtsFormat::from_config(&[0x11, 0x90]).unwrap();
    let frame = |payload: &[u8]| [&format.header(payload.len()).unwrap(), payload].concat();
    let all = [frame(&[1; 50]), frame(&[2; 60]), frame(&[3; 70]), frame(&[4; 80])].concat();
    // The first time is of frame 1, the second of frame 4, the only one that begins behind it.
    let bytes = pes_of_sound(&[(&all[..140], 10_000), (&all[140..150], 77_777), (&all[150..], 20_000)]);
    let (events, counters) = demux(&bytes);
    let times: Vec<_> =
        frames(&events)[1..].iter().map(|frame| (frame.payload[0], frame.pts.as_ticks(TIMESCALE))).collect();
    assert_eq!(times, [(1, 10_000), (2, 11_920), (3, 13_840), (4, 20_000)]);
    assert_eq!(counters.bad_frames, 0);

    // Bytes between two frames are passed over, and counted once.
    let bytes = pes_of_sound(&[(&[&frame(&[1; 50])[..], b"noise", &frame(&[2; 60])].concat(), 10_000)]);
    let (events, counters) = demux(&bytes);
    assert_eq!((frames(&events).len(), counters.bad_frames), (3, 1));
}

#[test]
fn cells_are_taken_off_metadata() {
    let mut body = vec![0xE1, 2, 0xF0, 0];
    push_stream(stream_type::METADATA, 0x102, b"\x05\x04KLVA", &mut body);
    let mut out = tables(0x1000, &body);
    let payload = b"\x00\x07\xdf\x00\x04klv1\x00\x08\xdf\x00\x04klv2";
    let (head, bytes) = header(0xFC, payload.len(), 4500, 4500);
    let mut continuity = 3;
    let mut pes = PesWriter::new(&mut out, 0x102, &mut continuity, Adaptation::default(), bytes + payload.len());
    pes.put(&head[..bytes]);
    pes.put(payload);
    let (events, _) = demux(&out);
    let got: Vec<_> = frames(&events).iter().map(|frame| (frame.codec, frame.payload.clone(), frame.pts)).collect();
    let expected = [b"klv1", b"klv2"].map(|unit| (Codec::Klv, Bytes::from_static(unit), ticks(4500)));
    assert_eq!(got, expected);
}

/// The tables of a program, its map on this PID.
fn tables(map_pid: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    table::write_section(PID_PAT, &mut 5, &table::pat(1, map_pid), &mut out);
    table::write_section(map_pid, &mut 5, &table::pmt(1, 0, body), &mut out);
    out
}

#[test]
fn tables_that_lead_nowhere_or_to_themselves_do_no_harm() {
    let mut muxer = Muxer::new(&tracks()[..2]).unwrap();
    let good = mux(&mut muxer, &[picture(true, 0, 9), sound(0, b"a"), picture(true, 3000, 9)]);
    let mut body = vec![0xE1, 0, 0xF0, 0];
    // The association, the map, and the stuffing, as elementary streams; one of them twice.
    for pid in [PID_PAT, 0x20, 0x20, PID_NULL, 0x101] {
        push_stream(stream_type::AAC_ADTS, pid, &[], &mut body);
    }
    for map_pid in [PID_PAT, PID_NULL, 0x20] {
        let (events, _) = demux(&[&tables(map_pid, &body)[..], &good].concat());
        assert_eq!(frames(&events).len(), 3, "a map on PID {map_pid}");
    }
    // Descriptors that are longer than the map.
    let (events, counters) = demux(&tables(0x20, &[0xE1, 0, 0xFF, 0xFF]));
    assert_eq!((events.len(), counters.bad_sections), (0, 0));
}

#[test]
fn a_pes_packet_of_sound_that_never_ends_is_an_error() {
    let mut bytes = pes_of_sound(&[(&[0; 300], 0)]);
    // No length: up to the next one.
    let at = bytes.len() - 2 * PACKET_BYTES;
    bytes[at + 8..at + 10].fill(0);
    let mut demuxer = Demuxer::new(DemuxLimits::from(&Limits::default()));
    demuxer.push(NOW, &bytes).unwrap();
    let mut continuity = bytes[at + PACKET_BYTES + 3];
    let errors = (0..1000).filter(|_| {
        continuity = 0x10 | continuity.wrapping_add(1) & 0x0F;
        let packet = [&[SYNC, 0x01, 0x01, continuity][..], &[0; BODY_BYTES]].concat();
        demuxer.push(NOW, &packet) == Err(DemuxError::FrameBytes)
    });
    assert_eq!(errors.count(), 1, "once it was dropped, all is passed over up to the next begin");
    assert_eq!((demuxer.held_bytes(), demuxer.counters().continuity_errors), (0, 0));
}

/// A frame of one of the tracks of [`tracks`]: its track, bytes of payload, and whether it is a key.
fn any_frame() -> impl Strategy<Value = (u8, usize, bool, u8, i64)> {
    let bytes = prop_oneof![1_usize..600, 180..190_usize, 60_000..70_000_usize];
    (0_u8..7, bytes, any::<bool>(), any::<u8>(), 0_i64..4000)
}

fn build((track, bytes, key, fill, composition): (u8, usize, bool, u8, i64), at: i64, first: bool) -> Frame {
    let filled = |header: &[u8], bytes: usize| [header, &vec![fill; bytes - header.len()]].concat();
    let data = |codec, payload: Vec<u8>| Frame { kind: FrameKind::Data, codec, ..sound(at, &payload) };
    let other = |codec, payload: Vec<u8>| Frame { codec, ..sound(at, &payload) };
    let frame = match track {
        0 => Frame { pts: ticks(at + composition), ..picture(key || first, at, bytes) },
        1 => sound(at, &vec![fill; bytes.min(8184)]),
        2 => data(Codec::Id3, vec![fill; bytes.min(65_000)]),
        3 => other(Codec::Opus, vec![fill; bytes.min(1275)]),
        4 => other(Codec::Mp3, filled(&[0xFF, 0xFB, 0x90, 0], 417)),
        5 => other(Codec::Ac3, filled(&[0x0B, 0x77, 1, 2, 0x14, 0x40, 0x40, 0], 768)),
        _ => data(Codec::Klv, vec![fill; bytes.min(65_000)]),
    };
    let flags = if bytes % 7 == 0 { FrameFlags::DISCONTINUITY } else { FrameFlags::default() };
    Frame { flags, ..frame.on_track(TrackId(track)) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn mux_then_demux_is_the_identity(
        kinds in proptest::collection::vec(any_frame(), 1..40),
        start in prop_oneof![0_i64..1000, TICKS_WRAP - 60_000..TICKS_WRAP],
        piece in 1_usize..5000,
    ) {
        // All tracks are there from the begin, so that each has the number that it had.
        let mut muxer = Muxer::new(&tracks()).unwrap();
        let sent: Vec<Frame> = (0..).zip(&kinds).map(|(n, kind)| {
            let first = kinds.iter().take(n).all(|(track, ..)| *track != 0);
            build(*kind, start + 2000 * i64::try_from(n).unwrap(), first)
        }).collect();
        let bytes = mux(&mut muxer, &sent);
        prop_assert_eq!(bytes.len() % PACKET_BYTES, 0);
        let mut demuxer = Demuxer::new(DemuxLimits::from(&Limits::default()));
        bytes.chunks(piece).for_each(|piece| demuxer.push(NOW, piece).unwrap());
        demuxer.finish(NOW).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| demuxer.poll()).collect();
        let counters = demuxer.counters();
        let faults = [counters.continuity_errors, counters.damaged_pes, counters.bad_frames, counters.duplicates];
        prop_assert_eq!(faults, [0; 4]);
        let by_track = |frames: &[Frame], id: u8| -> Vec<Frame> {
            // A jump of the clock is one of all tracks.
            let bare = |frame: &Frame| Frame { flags: FrameFlags::default(), ..frame.clone() };
            frames.iter().filter(|frame| frame.track.0 == id).map(bare).collect()
        };
        let mut got = frames(&events);
        // A long picture ends where the next begins: what comes meanwhile may be the first to be read, and then a time
        // before the wrap is one before 0.
        let first = sent.iter().find(|frame| frame.track == got[0].track).unwrap();
        let laps = first.dts.as_ticks(TIMESCALE) - got[0].dts.as_ticks(TIMESCALE);
        prop_assert!(laps == 0 || laps == TICKS_WRAP, "{}", laps);
        for frame in &mut got {
            let place = |at: Timestamp| ticks(at.as_ticks(TIMESCALE) + laps);
            (frame.pts, frame.dts) = (place(frame.pts), place(frame.dts));
        }
        for id in 0..7 {
            prop_assert_eq!(by_track(&got, id), by_track(&sent, id));
        }
        for sent in sent.iter().filter(|frame| frame.flags.contains(FrameFlags::DISCONTINUITY)) {
            let same = got.iter().find(|frame| (frame.track, frame.dts) == (sent.track, sent.dts)).unwrap();
            prop_assert!(same.flags.contains(FrameFlags::DISCONTINUITY));
        }
    }

    #[test]
    fn no_bytes_do_harm(
        kinds in proptest::collection::vec(any_frame(), 1..12),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..30),
        piece in 1_usize..3000,
    ) {
        let mut muxer = Muxer::new(&tracks()).unwrap();
        let mut bytes = mux(&mut muxer, &kinds.iter().map(|kind| build(*kind, 0, true)).collect::<Vec<_>>());
        for (index, value, how) in mutations {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                // What stands first in packets and PES packets matters most.
                1 => {
                    let place = at / PACKET_BYTES * PACKET_BYTES + usize::from(value % 24);
                    bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= value);
                }
                2 => _ = bytes.remove(at),
                _ => bytes.insert(at, value),
            }
        }
        let limits = DemuxLimits { frame_bytes: 50_000, partial_bytes: 60_000 };
        let mut demuxer = Demuxer::new(limits);
        for piece in bytes.chunks(piece) {
            let _ = demuxer.push(NOW, piece);
            prop_assert!(demuxer.held_bytes() <= limits.partial_bytes + 7 * 70_000);
        }
        let _ = demuxer.finish(NOW);
        while demuxer.poll().is_some() {}
    }

    #[test]
    fn noise_is_passed_over(bytes in proptest::collection::vec(prop_oneof![Just(0x47_u8), any::<u8>()], 0..2000)) {
        let mut demuxer = Demuxer::new(DemuxLimits::from(&Limits::default()));
        prop_assert!(demuxer.push(NOW, &bytes).is_ok());
        prop_assert!(demuxer.finish(NOW).is_ok());
        prop_assert!(demuxer.poll().is_none());
    }
}
