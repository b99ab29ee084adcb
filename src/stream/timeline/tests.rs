//! What becomes of single steps. Whole days are in `day.rs`.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::Instant;
use crate::media::Codec;

const V: TrackId = TrackId::VIDEO;
const A: TrackId = TrackId::AUDIO;
const MS: i64 = MILLISECOND;

/// A publisher of one timeline, all in milliseconds.
struct Feed {
    line: Timeline,
    now: i64,
}

impl Feed {
    fn new() -> Self {
        Self::after(None)
    }

    fn after(end: Option<i64>) -> Self {
        Self { line: Timeline::new(end.map(Timestamp::from_millis)), now: 0 }
    }

    fn frame(&mut self, track: TrackId, kind: FrameKind, dts: i64, pts: i64) -> Frame {
        let codec = match (track, kind) {
            (TrackId::METADATA, _) => Codec::Script,
            (V, _) | (TrackId(3), _) => Codec::H264,
            _ => Codec::Aac,
        };
        let mut frame = Frame {
            payload: Bytes::new(),
            pts: Timestamp::from_millis(pts),
            dts: Timestamp::from_millis(dts),
            origin: Instant((self.now * MS).cast_unsigned()),
            track,
            kind,
            codec,
            flags: FrameFlags::default(),
        };
        self.line.place(&mut frame);
        frame
    }

    /// Audio or video; where it is put, and whether the discontinuity is marked.
    fn send(&mut self, track: TrackId, dts: i64) -> (i64, bool) {
        let kind = if track == A { FrameKind::Audio } else { FrameKind::Delta };
        let frame = self.frame(track, kind, dts, dts);
        (frame.dts.as_millis(), frame.flags.contains(FrameFlags::DISCONTINUITY))
    }

    /// So many ms of video each 40 ms and audio 10 ms behind each, from `from` on, as in life.
    fn play(&mut self, from: i64, length: i64) {
        for at in (0..length).step_by(40) {
            self.send(V, from + at);
            self.now += 10;
            self.send(A, from + at + 10);
            self.now += 30;
        }
    }

    fn corrections(&self) -> Corrections {
        self.line.corrections()
    }
}

#[test]
fn what_can_be_true_is_kept_to_the_nanosecond() {
    let mut line = Timeline::new(None);
    let steps = [-80_000_000, -46_633_333, -46_633_333, 0, 1, 999_999_999, 7_000_000_000];
    for (n, dts) in (0..).zip(steps) {
        let pts = dts + [66_733_333, 0, -1_000_000][n % 3];
        let mut frame = Frame::video(Codec::H264, n == 0, Timestamp(pts), Timestamp(dts), Bytes::new());
        frame.origin = Instant(1);
        assert!(!line.place(&mut frame) && frame.flags == FrameFlags::default());
        assert_eq!((frame.dts.0, frame.pts.0), (dts, pts));
    }
    assert_eq!(line.corrections(), Corrections::default());
}

#[test]
fn a_small_step_back_is_held_and_the_picture_keeps_its_place() {
    let mut feed = Feed::new();
    feed.send(V, 1_000);
    let back = feed.frame(V, FrameKind::Delta, 990, 1_000);
    let next = feed.frame(V, FrameKind::Delta, 1_005, 1_015);

    let times = [back, next].map(|frame| (frame.dts.as_millis(), frame.pts.as_millis()));
    assert_eq!(times, [(1_000, 1_010), (1_005, 1_015)]);
    assert_eq!(feed.corrections(), Corrections { held: 1, ..Corrections::default() });
}

#[test]
fn an_encoder_that_sets_its_clock_back_keeps_picture_and_sound_together() {
    let mut feed = Feed::new();
    feed.play(3_600_000, 8_000);

    let video = feed.send(V, 0);
    feed.now += 10;
    let audio = feed.send(A, 10);
    feed.now += 30;
    let next = feed.send(V, 40);

    assert_eq!((video, audio, next), ((3_608_000, true), (3_608_010, true), (3_608_040, false)));
    assert_eq!(feed.corrections(), Corrections { restarts: 1, ..Corrections::default() });
}

#[test]
fn a_jump_ahead_of_all_tracks_costs_no_time() {
    for ahead in [JUMP_MAX / MS + 1_000, 3_600_000, 24 * 24 * 3_600_000] {
        let mut feed = Feed::new();
        feed.play(0, 8_000);

        // Sound first, this time, and its clock is another one than before.
        let audio = feed.send(A, ahead + 8_000 - 25);
        let video = feed.send(V, ahead + 8_000);
        feed.now += 40;
        let next = (feed.send(V, ahead + 8_040), feed.send(A, ahead + 8_015));

        let (audio_at, video_at) = (audio.0, video.0);
        assert!((7_970..8_040).contains(&audio_at) && audio.1 && video.1, "{audio:?} {video:?}");
        assert_eq!((video_at - audio_at, next), (25, ((video_at + 40, false), (audio_at + 40, false))));
        assert_eq!(feed.corrections(), Corrections { jumps: 1, ..Corrections::default() });
    }
}

#[test]
fn a_pause_of_the_encoder_is_no_jump() {
    let mut feed = Feed::new();
    feed.play(0, 4_000);
    feed.now += 3_600_000;
    assert_eq!(feed.send(V, 3_604_000), (3_604_000, false));
    assert_eq!(feed.send(A, 3_604_010), (3_604_010, false));
    assert_eq!(feed.corrections(), Corrections::default());
}

#[test]
fn a_track_that_jumps_alone_stays_beside_the_other() {
    let mut feed = Feed::new();
    feed.play(0, 8_000);
    for at in (8_000..20_000).step_by(40) {
        let video = feed.send(V, at);
        feed.now += 10;
        let audio = feed.send(A, at + 10 - 7_200_000).0;
        feed.now += 30;
        assert_eq!(video, (at, false));
        assert!((audio - (at + 10)).abs() <= 10, "sound at {audio} where {} was meant", at + 10);
    }
    assert_eq!(feed.corrections(), Corrections { restarts: 1, alone: 1, ..Corrections::default() });
}

#[test]
fn a_step_that_is_small_on_one_track_and_large_on_the_other_is_one_step() {
    // By half a second and a bit: one track alone would be held.
    for first in [V, A] {
        let mut feed = Feed::new();
        feed.play(0, 8_000);
        let back = |track| if track == V { 8_000 - 545 } else { 8_010 - 515 };
        let second = if first == V { A } else { V };
        feed.send(first, back(first));
        feed.send(second, back(second));
        let video = feed.send(V, back(V) + 40).0;
        let audio = feed.send(A, back(A) + 40).0;
        assert_eq!(audio - video, back(A) - back(V), "{first:?} first");
    }
}

#[test]
fn one_wrong_timestamp_moves_only_its_frame() {
    let mut feed = Feed::new();
    feed.play(0, 8_000);
    let wrong = feed.send(V, 1_234_567_890).0;
    feed.now += 40;
    assert_eq!(feed.send(V, 8_040).0, 8_040);
    assert_eq!(feed.send(A, 8_050), (8_050, false));
    assert!((7_961..=8_040).contains(&wrong), "{wrong}");
}

#[test]
fn a_clock_that_jumps_to_and_fro_goes_back_to_where_it_was() {
    let mut feed = Feed::new();
    feed.send(V, 0);
    for n in 1..100 {
        feed.now += 40;
        let far = if n % 2 == 1 { 50_000_000 } else { 0 };
        assert_eq!(feed.send(V, far + n * 40).0, n * 40);
    }
    assert_eq!(feed.corrections().events(), 99);
}

#[test]
fn a_track_that_begins_later_has_its_own_times_unless_they_cannot_be_true() {
    let mut feed = Feed::new();
    feed.play(100_000, 4_000);
    assert_eq!(feed.send(TrackId(3), 103_500), (103_500, false));
    assert!(feed.send(TrackId(4), 5).1);
    assert!((103_900..104_100).contains(&feed.send(TrackId(4), 45).0));
    assert_eq!(feed.corrections().realigned, 1);
}

#[test]
fn a_later_track_finds_the_offset_that_the_others_have() {
    let mut feed = Feed::new();
    feed.play(3_600_000, 4_000);
    feed.play(0, 4_000);
    assert_eq!(feed.send(TrackId(3), 4_000).0 - feed.send(V, 4_000).0, 0);
    assert_eq!(feed.corrections(), Corrections { restarts: 1, ..Corrections::default() });
}

#[test]
fn a_second_publisher_goes_on_where_the_first_ended() {
    let mut feed = Feed::after(Some(90_000));
    // Its metadata says nothing of its clock.
    assert_eq!(feed.frame(TrackId::METADATA, FrameKind::Config, 0, 0).dts.as_millis(), 90_001);
    assert_eq!(feed.send(V, 7_200_000), (90_001, true));
    // What lies before the end of the former is held there.
    assert_eq!(feed.send(A, 7_199_960), (90_000, true));
    assert_eq!((feed.send(V, 7_200_040), feed.send(A, 7_200_020)), ((90_041, false), (90_021, false)));
    assert_eq!(feed.line.end().as_millis(), 90_041);
}

#[test]
fn a_switch_goes_on_behind_all_tracks_whatever_the_next_clock_shows() {
    for start in [0, 7_200_000, 24 * 24 * 3_600_000] {
        let mut feed = Feed::new();
        feed.play(3_600_000, 4_000);
        feed.play(0, 4_000);
        let before = feed.line.end().as_millis();
        assert_eq!(before, 3_608_000 - 30);

        feed.line.switch();
        let first = [feed.send(V, start), feed.send(A, start + 10)];
        let next = [feed.send(V, start + 40), feed.send(A, start + 50)];

        assert_eq!(first, [(before + 1, true), (before + 11, true)], "from {start}");
        assert_eq!(next, [(before + 41, false), (before + 51, false)], "from {start}");
        assert_eq!(feed.corrections(), Corrections { restarts: 1, ..Corrections::default() }, "a switch is none");
    }
}

#[test]
fn configuration_and_data_with_timestamp_zero_stand_beside_the_frames() {
    let mut feed = Feed::new();
    let place = |feed: &mut Feed, track, kind, dts| feed.frame(track, kind, dts, dts).dts.as_millis();
    assert_eq!(place(&mut feed, V, FrameKind::Config, 50_000), 0);
    feed.send(V, 100_000);
    assert_eq!(place(&mut feed, V, FrameKind::Config, 0), 100_000);
    assert_eq!(place(&mut feed, TrackId::METADATA, FrameKind::Config, 0), 98_000);
    assert_eq!(place(&mut feed, A, FrameKind::Config, 0), 98_000);
    feed.send(V, 100_040);
    assert_eq!(feed.send(A, 99_000).0, 99_000);
    assert_eq!(place(&mut feed, TrackId::METADATA, FrameKind::Data, 100_020), 100_020);
    assert_eq!(place(&mut feed, TrackId::METADATA, FrameKind::Data, 100_200), 100_040, "no one is held up by it");
    assert_eq!(feed.corrections(), Corrections::default());
}

#[test]
fn data_alone_has_a_timeline_too() {
    let mut feed = Feed::new();
    let data = |dts| feed.frame(TrackId::METADATA, FrameKind::Data, dts, dts + 5);
    let times = [100, 4_000, 90_000].map(data).map(|frame| (frame.dts.as_millis(), frame.pts.as_millis()));
    assert_eq!(times, [(100, 105), (4_000, 4_005), (90_000, 90_005)]);
}

#[derive(Clone, Debug)]
enum Dts {
    Step(i64),
    At(i64),
}

fn dts() -> impl Strategy<Value = Dts> {
    prop_oneof![
        8 => (-50 * MS..100 * MS).prop_map(Dts::Step),
        1 => (-20_000 * MS..20_000 * MS).prop_map(Dts::Step),
        1 => any::<i64>().prop_map(Dts::At),
        1 => (0..100_000 * MS).prop_map(Dts::At),
    ]
}

/// Farther apart than any number holds: found by the test below.
#[test]
fn timestamps_at_both_ends_of_all_numbers_do_not_make_time_fall() {
    let mut feed = Feed::new();
    let data = feed.frame(TrackId(1), FrameKind::Data, 3_947_680_962_384, 3_947_680_962_384).dts;
    let media = feed.frame(TrackId(1), FrameKind::Key, -5_275_691_074_480, -5_275_691_074_480).dts;
    assert!(media >= data, "{media:?} after {data:?}");
}

proptest! {
    #[test]
    fn whatever_the_timestamps_time_never_falls_on_a_track_and_pictures_keep_their_place(
        frames in prop::collection::vec((0..4_u8, 0..5_u8, dts(), 0..400_u64, any::<i32>()), 1..300),
        resume in proptest::option::of(0..1_000_000 * MS),
        switch in 0..400_usize,
    ) {
        let mut line = Timeline::new(resume.map(Timestamp));
        let (mut now, mut source) = (0, 0_i64);
        let mut last = [resume.unwrap_or(i64::MIN); 4];
        for (n, (track, kind, dts, passed, composition)) in frames.into_iter().enumerate() {
            if n == switch {
                last = [line.end().0; 4];
                line.switch();
            }
            now += passed * 1_000_000;
            source = match dts {
                Dts::Step(by) => source.saturating_add(by),
                Dts::At(at) => at,
            };
            let kind = [FrameKind::Key, FrameKind::Delta, FrameKind::Audio, FrameKind::Config, FrameKind::Data]
                [usize::from(kind)];
            let codec = [Codec::H264, Codec::Aac, Codec::Script, Codec::H265][usize::from(track)];
            let pts = source.saturating_add(composition.into());
            let mut frame = Frame {
                payload: Bytes::new(),
                pts: Timestamp(pts),
                dts: Timestamp(source),
                origin: Instant(now),
                track: TrackId(track),
                kind,
                codec,
                flags: FrameFlags::default(),
            };
            line.place(&mut frame);
            let last = &mut last[usize::from(track)];
            prop_assert!(frame.dts.0 >= *last, "{frame:?} after {last}");
            *last = frame.dts.0;
            prop_assert!(line.end().0 >= *last);
            let far = 1 << 61;
            let sane = source.abs() < far && frame.dts.0.abs() < far;
            if sane && matches!(kind, FrameKind::Key | FrameKind::Delta | FrameKind::Audio) {
                prop_assert_eq!(frame.pts - frame.dts, Timestamp(composition.into()));
            }
        }
    }
}
