//! Days of a publisher in a second: 29.97 pictures per second and AAC, rounded to milliseconds, over a 32-bit clock.
//!
//! The measure is what a viewer notices: by how much sound is off the picture, compared with when both were captured.

use bytes::Bytes;

use super::*;
use crate::clock::Instant;
use crate::media::{Codec, WireClock};

const MS: i64 = MILLISECOND;
const HOUR: i64 = 3_600 * SECOND;
/// A picture's duration at 30,000/1001 per second, rounded up.
const PICTURE: i64 = 33_366_667;

/// What a viewer and an operator see of it.
struct Seen {
    line: Timeline,
    wraps: u64,
    /// Most by which sound was off, in ns.
    off: i64,
    /// The longest step on a track, in ns.
    step: i64,
    /// Where the first and the last picture were put.
    ends: (i64, i64),
    marks: u64,
}

/// Publishes for so long. `clock` tells what the encoder's clock shows for a track at a time of capture, `way` how
/// long a frame is under way then, both in ns.
fn publish(
    length: i64,
    sample_rate: i64,
    mut clock: impl FnMut(TrackId, i64) -> i64,
    mut way: impl FnMut(i64) -> i64,
) -> Seen {
    let mut seen = Seen { line: Timeline::new(None), wraps: 0, off: 0, step: 0, ends: (0, 0), marks: 0 };
    let mut wire = WireClock::default();
    let (mut pictures, mut packets, mut arrival) = (0_i64, 0_i64, 0_i64);
    let (mut last, mut late) = ([None, None], [None, None]);
    loop {
        let picture_at = pictures * 1_001 * SECOND / 30_000;
        let packet_at = packets * 1_024 * SECOND / sample_rate;
        let track = if picture_at <= packet_at { TrackId::VIDEO } else { TrackId::AUDIO };
        let captured = picture_at.min(packet_at);
        if captured >= length {
            return seen;
        }
        arrival = arrival.max(captured + way(captured));
        // As an encoder does: the time of the frame, not a sum of durations, in whole milliseconds.
        let ms = (clock(track, captured) + MS / 2).div_euclid(MS);
        let at = wire.advance(u32::try_from(ms & 0xFFFF_FFFF).unwrap());
        seen.wraps += u64::from(at.wrapped);
        let codec = if track == TrackId::VIDEO { Codec::H264 } else { Codec::Aac };
        let mut frame = if track == TrackId::VIDEO {
            pictures += 1;
            let composition = Timestamp([67 * MS, 0, -MS][usize::try_from(pictures % 3).unwrap()]);
            Frame::video(codec, pictures % 60 == 1, at.at + composition, at.at, Bytes::new())
        } else {
            packets += 1;
            Frame::audio(codec, at.at, Bytes::new())
        };
        let composition = frame.pts - frame.dts;
        frame.origin = Instant(arrival.cast_unsigned());
        seen.line.place(&mut frame);

        assert_eq!(frame.pts - frame.dts, composition, "the picture at {captured} lost its place");
        let n = usize::from(track.0);
        if frame.flags.contains(FrameFlags::DISCONTINUITY) {
            seen.marks += 1;
            // What the other track had is of before.
            late[1 - n] = None;
        }
        if let Some(last) = last[n].replace(frame.dts.0) {
            assert!(frame.dts.0 >= last, "time falls on track {n} at {captured}");
            seen.step = seen.step.max(frame.dts.0 - last);
        } else if n == 0 {
            seen.ends.0 = frame.dts.0;
        }
        if n == 0 {
            seen.ends.1 = frame.dts.0;
        }
        late[n] = Some(frame.dts.0 - captured);
        if let [Some(video), Some(audio)] = late {
            seen.off = seen.off.max((audio - video).abs());
        }
    }
}

/// A network: up to 40 ms of jitter, and each ten minutes, so far into them, three seconds in which nothing comes.
fn network(into: i64) -> impl FnMut(i64) -> i64 {
    let mut dice = 1_u64;
    move |captured| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let stall = 3 * SECOND - (captured - into).rem_euclid(600 * SECOND);
        30 * MS + i64::try_from(dice >> 33).unwrap() % (40 * MS) + stall.max(0)
    }
}

/// 100 millionths of a time.
const fn ppm_100(time: i64) -> i64 {
    time / 10_000
}

#[test]
fn a_day_over_a_wrap_is_kept_as_it_is() {
    // It wraps after half a day; and its clock runs faster than ours.
    let start = ((1_i64 << 32) * MS) - 12 * HOUR;
    let seen = publish(24 * HOUR, 48_000, |_, at| start + at + ppm_100(at), network(0));

    assert_eq!((seen.wraps, seen.marks, seen.line.corrections()), (1, 0, Corrections::default()));
    assert!(seen.off <= MS, "sound is off by {} ns", seen.off);
    assert!(seen.step <= 34 * MS, "a step of {} ns", seen.step);
    // No rounding has added up: the last picture is where its encoder put it.
    let last = (24 * HOUR * 30_000 / 1_001 / SECOND) * 1_001 * SECOND / 30_000;
    assert!((seen.ends.1 - start - last - ppm_100(last)).abs() <= MS, "{:?}", seen.ends);
    for clock in seen.line.clocks() {
        assert!((95..=105).contains(&clock.drift_ppm.unwrap()), "{clock:?}");
        assert!(clock.skew.0.abs() < 50 * MS, "{clock:?}");
    }
}

#[test]
fn a_day_of_a_clock_that_is_set_every_hour_keeps_sound_on_the_picture() {
    // Back to zero, an hour on, 24 days on, to just below the wrap; sound drifts along with the picture.
    let set = |at: i64| match at / HOUR % 5 {
        0 => 1_000 * HOUR,
        1 => 0,
        2 => 70 * HOUR,
        3 => 24 * 24 * HOUR,
        _ => (1 << 32) * MS - 1_800 * SECOND,
    };
    let clock = |_, at: i64| set(at) + at % HOUR + ppm_100(at);
    let seen = publish(24 * HOUR, 44_100, clock, network(0));

    let all = seen.line.corrections();
    assert_eq!((all.restarts + all.jumps, all.alone, all.realigned, all.led_back), (23, 0, 0, 0), "{all:?}");
    assert_eq!(seen.marks, 2 * 23, "each track's first frame behind each step");
    assert!(all.held < 100, "{all:?}");
    assert!(seen.off <= PICTURE, "sound is off by {} ns", seen.off);
    assert!(seen.step < 4 * SECOND, "a step of {} ns", seen.step);
    // It stood still for three seconds at each step: those have passed, and nothing more.
    let more = seen.ends.1 - seen.ends.0 - 24 * HOUR - 23 * 3 * SECOND - ppm_100(24 * HOUR);
    assert!(more.abs() < 2 * SECOND, "a day took {more} ns more on the timeline");
}

#[test]
fn a_day_of_sound_with_a_clock_of_its_own_is_led_back_unheard() {
    let clock = |track, at| if track == TrackId::AUDIO { at + ppm_100(at) } else { at };
    let seen = publish(24 * HOUR, 48_000, clock, network(0));

    // 8.6 s, if nothing were done.
    assert!(seen.off <= PICTURE, "sound is off by {} ns", seen.off);
    let all = seen.line.corrections();
    assert_eq!(all, Corrections { led_back: all.led_back, ..Corrections::default() });
    assert!((280..500).contains(&all.led_back), "{all:?}");
    assert!(seen.step <= 34 * MS && seen.marks == 0, "a step of {} ns", seen.step);
    // What is told is the encoder's drift, not what was made of it.
    let drift = seen.line.clocks().iter().map(|clock| clock.drift_ppm.unwrap()).collect::<Vec<_>>();
    assert!((-5..=5).contains(&drift[0]) && (95..=105).contains(&drift[1]), "{drift:?}");
}

#[test]
fn the_picture_is_led_back_if_it_is_its_clock_that_is_wrong() {
    let clock = |track, at| if track == TrackId::VIDEO { at - ppm_100(at) * 5 } else { at };
    let seen = publish(2 * HOUR, 48_000, clock, network(0));

    assert!(seen.off <= PICTURE, "sound is off by {} ns", seen.off);
    let took = seen.ends.1 - seen.ends.0;
    assert!((took - 2 * HOUR).abs() < 500 * MS, "two hours took {took} ns");
}

#[test]
fn a_track_that_leaves_alone_by_seconds_is_put_beside_the_other() {
    for leap in [3 * SECOND, -400 * MS, 9 * SECOND] {
        let clock =
            |track, at| if track == TrackId::AUDIO && at > 60 * SECOND { HOUR + at + leap } else { HOUR + at };
        let seen = publish(600 * SECOND, 48_000, clock, |_| 30 * MS);

        let tracks = seen.line.clocks();
        assert!(tracks.iter().all(|clock| clock.skew.0.abs() <= PICTURE), "{leap}: {tracks:?}");
        assert_eq!(seen.line.corrections().events(), 1, "{leap}: {:?}", seen.line.corrections());
    }
}

#[test]
fn a_track_that_jumps_alone_every_hour_of_a_day_stays_on_the_other() {
    let clock = |track, at: i64| {
        let far = if track == TrackId::AUDIO && at / HOUR % 2 == 1 { 77 * HOUR } else { 0 };
        far + at
    };
    let seen = publish(24 * HOUR, 48_000, clock, network(300 * SECOND));

    let all = seen.line.corrections();
    assert_eq!((all.jumps, all.alone, all.events()), (12, 12, 12), "{all:?}");
    assert!(seen.off <= PICTURE, "sound is off by {} ns", seen.off);
}

#[test]
fn a_track_that_jumps_alone_while_the_network_stands_still_is_back_in_place_soon() {
    // Sound alone, at any moment around the stall.
    for moment in (9_500..13_500).step_by(250) {
        let clock = |track, at| if track == TrackId::AUDIO && at > moment * MS { HOUR + at } else { at };
        let seen = publish(40 * SECOND, 48_000, clock, network(10 * SECOND));

        let tracks = seen.line.clocks();
        assert!(tracks.iter().all(|clock| clock.skew.0.abs() <= 2 * PICTURE), "{moment}: {tracks:?}");
        assert_eq!(seen.line.corrections().jumps, 1);
    }
}
