//! What a cursor decides, with a log and times by hand.

use super::*;
use crate::media::{Codec, Timestamp, TrackId};
use crate::stream::GopCache;
use bytes::Bytes;

const SECOND: u64 = 1_000_000_000;

fn policy() -> LagPolicy {
    LagPolicy {
        max_age: Duration::from_secs(3),
        max_bytes: 1_000_000,
        evict_window: Duration::from_secs(10),
        evict_lost: Duration::from_secs(9),
    }
}

fn video(log: &mut StreamLog, key: bool, at: Instant, track: TrackId) -> u64 {
    let time = Timestamp(i64::try_from(at.0).unwrap());
    let mut frame = Frame::video(Codec::H264, key, time, time, Bytes::from_static(b"x")).on_track(track);
    frame.origin = at;
    log.append(at, frame).seq
}

/// Everything may be delivered.
fn all(log: &StreamLog) -> Bounds {
    Bounds { limit: log.head(), hold: Duration::ZERO, thins: true }
}

fn log() -> StreamLog {
    StreamLog::new(GopCache::default(), Duration::from_secs(3))
}

#[test]
fn one_who_lags_skips_to_the_newest_keyframe_and_every_frame_left_out_is_counted() {
    let mut log = log();
    video(&mut log, true, Instant(0), TrackId::VIDEO);
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(0));
    assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(0)), LagVerdict::Deliver);
    cursor.take_config();
    cursor.advance(log.head());
    for second in 1..=4 {
        video(&mut log, second == 3, Instant(second * SECOND), TrackId::VIDEO);
    }
    let now = Instant(4 * SECOND + SECOND / 2);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    assert_eq!((cursor.next(), cursor.take_gap(), cursor.skips), (3, 2, 1));
    assert_eq!(cursor.take_config(), Some(1), "configuration since then is given again");
}

#[test]
fn without_a_keyframe_young_enough_it_waits_for_the_next() {
    let mut log = log();
    for second in 0..6 {
        video(&mut log, second == 0, Instant(second * SECOND), TrackId::VIDEO);
    }
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(5 * SECOND));
    assert_eq!(cursor.next(), 0, "a joiner gets the whole GOP, however old its keyframe is");
    assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(5 * SECOND)), LagVerdict::Deliver);
    let late = Instant(8 * SECOND + SECOND / 2);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), late), LagVerdict::Wait);
    video(&mut log, false, late, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), late), LagVerdict::Wait);
    let key = video(&mut log, true, late, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), late), LagVerdict::Deliver);
    assert_eq!((cursor.next(), cursor.take_gap()), (key, 7));
}

#[test]
fn one_who_never_reads_is_evicted_within_window_and_budget_but_half_speed_is_not() {
    for (reads, evicted) in [(false, true), (true, false)] {
        let mut log = log();
        let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(0));
        let mut verdicts = Vec::new();
        for tick in 0..600u64 {
            let now = Instant(tick * SECOND / 10);
            video(&mut log, tick % 10 == 0, now, TrackId::VIDEO);
            let verdict = cursor.settle(&log, &policy(), all(&log), now);
            if reads && verdict == LagVerdict::Deliver && tick % 2 == 0 {
                cursor.take_gap();
                let next = (cursor.next() + 1).min(log.head());
                cursor.advance(next);
            }
            verdicts.push(verdict);
        }
        assert_eq!(verdicts.contains(&LagVerdict::Evict), evicted, "reads: {reads}");
    }
}

#[test]
fn one_who_waited_gets_the_whole_gop_that_comes_however_old_it_is() {
    let mut log = log();
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(20 * SECOND));
    assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(20 * SECOND)), LagVerdict::Wait);
    for second in 10..=20 {
        video(&mut log, second == 10, Instant(second * SECOND), TrackId::VIDEO);
    }
    let now = Instant(24 * SECOND);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    assert_eq!((cursor.next(), cursor.gap()), (0, 0));
}

#[test]
fn an_old_gop_that_arrives_in_parts_is_not_late_before_its_young_end() {
    let mut log = log();
    let now = Instant(20 * SECOND);
    video(&mut log, true, Instant(10 * SECOND), TrackId::VIDEO);
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), now);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    let arrive = |cursor: &mut Cursor, log: &StreamLog| {
        cursor.take_config();
        cursor.advance(log.head());
        cursor.arrive(log, &policy(), Duration::ZERO, now);
    };
    arrive(&mut cursor, &log);
    for second in 11..=20 {
        video(&mut log, false, Instant(second * SECOND), TrackId::VIDEO);
    }
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    assert_eq!((cursor.next(), cursor.gap()), (1, 0), "the rest of its GOP is no older than what it began with");
    assert!(!cursor.is_spent());
    arrive(&mut cursor, &log);
    assert!(cursor.is_spent(), "from the live edge on it is like the others");
    video(&mut log, false, now, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(24 * SECOND)), LagVerdict::Wait);
}

#[test]
fn a_second_video_track_starts_at_a_keyframe_of_its_own() {
    let mut log = log();
    let (main, side) = (TrackId(0), TrackId(3));
    video(&mut log, true, Instant(0), side);
    video(&mut log, true, Instant(0), main);
    video(&mut log, false, Instant(1), side);
    video(&mut log, true, Instant(2), side);
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(2));
    assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(2)), LagVerdict::Deliver);
    let got: Vec<_> = (cursor.next()..log.head()).filter(|seq| cursor.admits(log.frame(*seq).unwrap())).collect();
    assert_eq!(got, [1, 3]);
}

#[test]
fn one_who_waited_from_the_start_begins_at_the_first_keyframe_also_without_a_cache() {
    for cache in [GopCache::default(), GopCache::OFF] {
        let mut log = StreamLog::new(cache, Duration::from_secs(3));
        let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(0));
        for n in 0..4 {
            video(&mut log, n % 2 == 1, Instant(n), TrackId::VIDEO);
        }
        assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(4)), LagVerdict::Deliver);
        assert_eq!((cursor.next(), cursor.gap(), cursor.skipped), (1, 0, 0), "{cache:?}");
    }
}

#[test]
fn a_keyframe_larger_than_the_bound_of_bytes_is_delivered() {
    let mut log = log();
    let policy = LagPolicy { max_bytes: 0, ..policy() };
    video(&mut log, true, Instant(0), TrackId::VIDEO);
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy, Instant(0));
    cursor.advance(log.head());
    cursor.arrive(&log, &policy, Duration::ZERO, Instant(0));
    let key = video(&mut log, true, Instant(1), TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy, all(&log), Instant(1)), LagVerdict::Deliver);
    assert_eq!((cursor.next(), cursor.take_gap()), (key, 0));
    video(&mut log, true, Instant(2), TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy, all(&log), Instant(2)), LagVerdict::Deliver);
    assert_eq!(cursor.take_gap(), 1, "but one that is not the newest is skipped");
}

#[test]
fn past_half_of_its_budget_it_is_spared_what_nothing_refers_to_until_it_has_caught_up() {
    let mut log = log();
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(0));
    for tenth in 0..25u64 {
        let seq = video(&mut log, tenth == 0, Instant(tenth * SECOND / 10), TrackId::VIDEO);
        assert_eq!(seq, tenth);
        if tenth == 0 {
            assert_eq!(cursor.settle(&log, &policy(), all(&log), Instant(0)), LagVerdict::Deliver);
            cursor.take_config();
            cursor.pass(&log, 1);
            cursor.arrive(&log, &policy(), Duration::ZERO, Instant(0));
        }
    }
    let mut disposable = log.frame(1).unwrap().clone();
    disposable.flags = FrameFlags::DISPOSABLE;
    let spares_at = |cursor: &mut Cursor, ms: u64, bounds: Bounds| {
        assert_eq!(cursor.settle(&log, &policy(), bounds, Instant(ms * 1_000_000)), LagVerdict::Deliver);
        (cursor.spares(&disposable), cursor.spares(log.frame(1).unwrap()))
    };
    let bounds = all(&log);
    assert_eq!(spares_at(&mut cursor, 1_500, bounds), (false, false), "1.4 s behind, of 3 s");
    assert_eq!(spares_at(&mut cursor, 1_700, Bounds { thins: false, ..bounds }), (false, false));
    assert_eq!(spares_at(&mut cursor, 1_700, bounds), (true, false));
    assert!(!cursor.is_calm());
    cursor.pass(&log, 5);
    assert_eq!(spares_at(&mut cursor, 1_700, bounds), (true, false), "1.2 s behind");
    cursor.pass(&log, 11);
    assert_eq!(spares_at(&mut cursor, 1_700, bounds), (false, false), "0.6 s behind");
    assert_eq!((cursor.gap(), cursor.skips), (0, 0), "there was nothing to leave out");
}

#[test]
fn every_frame_that_it_is_spared_is_counted() {
    let mut log = log();
    let mut cursor = Cursor::calm(0);
    for n in 0..10u64 {
        let time = Timestamp(0);
        let mut frame = Frame::video(Codec::H264, n == 0, time, time, Bytes::from_static(b"x"));
        frame.flags = if n % 3 == 1 { FrameFlags::DISPOSABLE } else { FrameFlags::default() };
        log.append(Instant(0), frame);
    }
    let now = Instant(2 * SECOND);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    cursor.pass(&log, 6);
    assert_eq!((cursor.take_gap(), cursor.skipped), (2, 2));
    cursor.pass(&log, 10);
    assert_eq!((cursor.take_gap(), cursor.skipped, cursor.take_thinned()), (1, 3, 3));
    cursor.arrive(&log, &policy(), Duration::ZERO, now);
    assert!(!cursor.is_thinning() && cursor.is_calm());
}

#[test]
fn one_who_is_to_be_behind_starts_and_skips_within_what_is_old_enough() {
    let mut log = StreamLog::new(GopCache::default(), Duration::from_secs(13)).keeping(Duration::from_secs(10));
    for second in 0..20 {
        video(&mut log, second % 2 == 0, Instant(second * SECOND), TrackId::VIDEO);
    }
    let (now, delay) = (Instant(19 * SECOND), Duration::from_secs(10));
    // More is held back than may wait for one who is late.
    let policy = LagPolicy { max_age: policy().max_age + delay, max_bytes: 9, ..policy() };
    let bounds = |limit| Bounds { limit, hold: delay, thins: true };
    let mut cursor = Cursor::join(&log, Start::Behind(delay), 10, &policy, now);
    assert_eq!(cursor.settle(&log, &policy, bounds(10), now), LagVerdict::Deliver);
    assert_eq!(cursor.next(), 8);
    cursor.take_config();
    cursor.advance(10);
    cursor.arrive(&log, &policy, delay, now);
    assert!(cursor.is_spent());
    for second in 20..25 {
        video(&mut log, second % 2 == 0, Instant(second * SECOND), TrackId::VIDEO);
    }
    let late = Instant(24 * SECOND);
    assert_eq!(cursor.settle(&log, &policy, bounds(15), late), LagVerdict::Deliver);
    assert_eq!((cursor.next(), cursor.gap()), (14, 4), "to the newest that is old enough, not to the newest");
    assert!(log.reaches(delay, late) && !log.reaches(delay + Duration::from_secs(1), late));
}

#[test]
fn one_who_catches_up_on_a_replica_waits_for_all_of_the_past() {
    let mut log = log();
    log.replay();
    let now = Instant(5 * SECOND);
    let mut cursor = Cursor::join(&log, Start::CatchUp, log.head(), &policy(), now);
    for second in 0..5 {
        let at = Instant(second * SECOND);
        let time = Timestamp(i64::try_from(at.0).unwrap());
        let mut frame = Frame::video(Codec::H264, second == 1, time, time, Bytes::from_static(b"x"));
        frame.origin = now;
        log.append(now, frame);
        assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Wait);
    }
    log.replayed();
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    assert_eq!(cursor.next(), 1);
    let times: Vec<_> = (1..5).map(|seq| cursor.stamp(log.frame(seq).unwrap()).unwrap().dts.as_millis()).collect();
    assert_eq!(times, [3_997, 3_998, 3_999, 4_000]);
    cursor.take_config();
    cursor.advance(4);
    assert!(!cursor.is_calm());
    cursor.advance(5);
    assert!(cursor.is_calm());
}

#[test]
fn one_who_paused_while_the_past_was_coming_never_goes_back() {
    let mut log = StreamLog::new(GopCache::default(), Duration::from_secs(3)).keeping(Duration::from_secs(1));
    log.replay();
    let now = Instant(5 * SECOND);
    let mut cursor = Cursor::join(&log, Start::Instant, log.head(), &policy(), now);
    video(&mut log, true, now, TrackId::VIDEO);
    log.replayed();
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    cursor.advance(log.head());
    // It comes again by another link, as the former ended, and is given once more what is kept.
    cursor.pause(log.head());
    video(&mut log, false, now, TrackId::VIDEO);
    log.replay();
    log.replayed();
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Wait);
    let key = video(&mut log, true, now, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    assert_eq!(cursor.next(), key);
}

#[test]
fn one_who_wants_the_next_keyframe_gets_none_of_what_a_replica_is_given() {
    let mut log = log();
    log.replay();
    let now = Instant(5 * SECOND);
    let mut cursor = Cursor::join(&log, Start::Live, log.head(), &policy(), now);
    video(&mut log, true, now, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Wait);
    log.replayed();
    video(&mut log, false, now, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Wait);
    let key = video(&mut log, true, now, TrackId::VIDEO);
    assert_eq!(cursor.settle(&log, &policy(), all(&log), now), LagVerdict::Deliver);
    assert_eq!(cursor.next(), key);
}

#[test]
fn audio_alone_starts_at_any_frame() {
    let mut log = log();
    let mut early = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(0));
    assert_eq!(early.settle(&log, &policy(), all(&log), Instant(0)), LagVerdict::Wait);
    for n in 0..5u64 {
        let mut frame = Frame::audio(Codec::Aac, Timestamp(0), Bytes::from_static(b"x"));
        frame.origin = Instant(n);
        log.append(Instant(n), frame);
    }
    assert_eq!(early.settle(&log, &policy(), all(&log), Instant(5)), LagVerdict::Deliver);
    assert_eq!((early.next(), early.take_gap()), (0, 0));
    let mut late = Cursor::join(&log, Start::Instant, log.head(), &policy(), Instant(5));
    assert_eq!(late.settle(&log, &policy(), all(&log), Instant(5)), LagVerdict::Deliver);
    assert_eq!(late.next(), 5);
}
