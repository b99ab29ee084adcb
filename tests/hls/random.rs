//! Frames of any kind at any time: rules hold, nothing panics, and what goes in comes out.

use bytes::Bytes;
use proptest::prelude::*;
use shardcast::clock::{Instant, Now};
use shardcast::extension::FrameSink;
use shardcast::media::{Codec, Frame, FrameFlags, FrameKind, Timestamp, TrackId};
use shardcast::reason::Reason;
use shardcast::record::hls::{Packager, Request};

use crate::stream::{LARGE, SECOND, SMALL, SOUND, START, all, by_track, package};
use crate::watcher::{Leniency, Watcher};

/// Of each property.
const CASES: u32 = 64;
const LENIENT: Leniency = Leniency { short_parts: true, crowded: false };

/// A step in milliseconds, and whether a keyframe comes; pictures and sound.
fn steps() -> impl Strategy<Value = Vec<(u16, bool, bool)>> {
    let step = prop_oneof![20 => 1..60_u16, 2 => Just(0_u16), 1 => 60..1900_u16];
    prop::collection::vec((step, prop::bool::weighted(0.05), any::<bool>()), 1..400)
}

fn frame(video: bool, key: bool, dts: i64, pts: i64, nth: usize) -> Frame {
    let payload = Bytes::from([&[0, 0, 0, 5, 0x41][..], &u32::try_from(nth).unwrap().to_be_bytes()].concat());
    if video {
        Frame::video(Codec::H264, key, Timestamp(pts), Timestamp(dts), payload)
    } else {
        Frame::audio(Codec::Aac, Timestamp(dts), payload)
    }
}

fn kind() -> impl Strategy<Value = FrameKind> {
    prop_oneof![
        Just(FrameKind::Key),
        Just(FrameKind::Delta),
        Just(FrameKind::Audio),
        Just(FrameKind::Config),
        Just(FrameKind::Data)
    ]
}

fn anything() -> impl Strategy<Value = Vec<(Frame, bool)>> {
    let time = prop_oneof![5 => 0..20_000_i64, 1 => any::<i64>()];
    let codec =
        prop_oneof![5 => Just(Codec::H264), 5 => Just(Codec::Aac), 1 => prop::sample::select(&Codec::ALL[..])];
    let payload = prop_oneof![
        Just(Bytes::from_static(SMALL)),
        Just(Bytes::from_static(LARGE)),
        Just(Bytes::from_static(SOUND)),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ];
    let one = (
        time.clone(),
        time,
        codec,
        kind(),
        payload,
        0..4_u8,
        any::<u8>(),
        0..1_000_000_000_000_000_000_u64,
        prop::bool::weighted(0.05),
    );
    let one = one.prop_map(|(dts, apart, codec, kind, payload, track, flags, origin, gap)| {
        let dts = dts.saturating_mul(1_000_000);
        let frame = Frame {
            payload,
            pts: Timestamp(dts.saturating_add(apart)),
            dts: Timestamp(dts),
            origin: Instant(origin),
            track: TrackId(track),
            kind,
            codec,
            flags: FrameFlags(flags & 3),
        };
        (frame, gap)
    });
    prop::collection::vec(one, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_playlist_of_any_stream_keeps_to_the_rules_and_no_frame_is_lost(
        steps in steps(),
        composed in 0..5_i64,
    ) {
        let mut frames = vec![
            Frame::config(Codec::H264, Timestamp::ZERO, Bytes::from_static(SMALL)),
            Frame::config(Codec::Aac, Timestamp::ZERO, Bytes::from_static(SOUND)),
        ];
        let (mut times, mut first) = ([10 * SECOND; 2], true);
        for (nth, (step, key, video)) in steps.into_iter().enumerate() {
            // Sound of 48 kHz has no finer step than a tick.
            let at = &mut times[usize::from(video)];
            *at += i64::from(step) * 1_000_000;
            let key = key || first;
            first &= !video;
            frames.push(frame(video, key, *at, *at + composed * 40_000_000, nth));
        }

        let packaged = package(&frames, all(), LENIENT);

        let mut moved = None;
        for (track, source) in by_track(&frames) {
            let name = if track == TrackId::VIDEO { "video0.m3u8" } else { "audio0.m3u8" };
            packaged.holds(name, &source, &mut moved);
        }
    }

    #[test]
    fn no_frames_do_harm(frames in anything()) {
        let mut packager = Packager::new(all(), Now { mono: Instant(0), wall: START });
        let shelf = packager.shelf();
        let mut watcher = Watcher::new(shelf.clone(), LENIENT);
        for (frame, gap) in &frames {
            if *gap {
                packager.on_gap(1);
            }
            packager.on_frame(frame);
            watcher.look();
        }
        packager.on_end(Reason::Ended);
        watcher.look();
    }

    #[test]
    fn no_request_does_harm(
        path in "\\PC{0,40}",
        msn in any::<Option<u64>>(),
        part in any::<Option<u32>>(),
        skip in any::<bool>(),
    ) {
        let packaged = package(&crate::stream::usual(5).frames[..200], all(), LENIENT);
        for path in [&*path, "video0.m3u8", "audio0.m3u8", "index.m3u8"] {
            let _ = packaged.shelf.get(&Request { path, msn, part, skip });
        }
    }
}
