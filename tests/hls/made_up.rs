//! Streams that are made up, each with an oddity.

use std::time::Duration;

use bytes::Bytes;
use shardcast::clock::{Instant, Now};
use shardcast::extension::FrameSink;
use shardcast::media::{Codec, Frame, FrameFlags, FrameKind, Media, Timestamp, TrackId};
use shardcast::reason::Reason;
use shardcast::record::hls::{Answer, MULTIVARIANT, Packager, Request, Settings};

use crate::parsed::{Playlist, Segment, nanos};
use crate::stream::{
    LARGE, Packaged, Reel, SECOND, SMALL, SOUND, SOUND_44, START, all, behind, by_track, package, usual,
};
use crate::watcher::Leniency;

const REGULAR: Leniency = Leniency { short_parts: false, crowded: false };

fn durations(playlist: &Playlist) -> Vec<i64> {
    playlist.segments.iter().map(|segment| (nanos(segment.duration()) + 500_000) / 1_000_000).collect()
}

fn whole(packaged: &Packaged, frames: &[Frame]) {
    let mut moved = None;
    let tracks = by_track(frames);
    let names = packaged.playlists();
    assert_eq!(names.len(), tracks.len());
    // The first of each kind is video0, audio0.
    for (track, source) in tracks {
        let name = if track == TrackId::VIDEO { "video0.m3u8" } else { "audio0.m3u8" };
        packaged.holds(name, &source, &mut moved);
    }
}

#[test]
fn a_usual_stream_has_segments_of_two_seconds_and_parts_of_a_fifth() {
    let frames = usual(21).frames;

    let packaged = package(&frames, all(), REGULAR);

    whole(&packaged, &frames);
    let video = packaged.playlist("video0.m3u8");
    assert_eq!(durations(&video), [[2000; 10].as_slice(), &[1000]].concat());
    assert_eq!((video.target, video.sequence, video.discontinuities, video.part_target), (2, 0, 0, Some(0.202)));
    assert!(video.independent && video.ended && video.hint.is_none());
    assert_eq!(video.segments[6].parts.len(), 0);
    assert_eq!(video.segments[9].parts.len(), 10);
    assert_eq!(video.segments[9].parts.iter().filter(|part| part.independent).count(), 1);
    assert_eq!(video.segments[0].date.as_deref(), Some("2026-01-01T00:00:00.000Z"));
    assert_eq!(video.segments[9].date.as_deref(), Some("2026-01-01T00:00:18.000Z"));
    // Sound is cut where the pictures are, to the nearest of its own frames.
    let sound = packaged.playlist("audio0.m3u8");
    let mut ends = 0.0;
    for (nth, segment) in sound.segments.iter().take(10).enumerate() {
        ends += segment.duration();
        assert!((ends - 2.0 * (nth + 1) as f64).abs() <= 0.0214, "{ends}");
    }
    assert!(sound.independent && sound.segments[9].parts.iter().all(|part| part.independent));
    assert_eq!(packaged.watcher.hints_missed, 0);
    assert!(packaged.watcher.looks > 100, "{}", packaged.watcher.looks);
    assert_eq!(packaged.shelf.left_out(), Default::default());
    let index = packaged.index();
    for piece in ["CODECS=\"avc1.4d400d,mp4a.40.2\"", "RESOLUTION=320x180", "FRAME-RATE=30.000", "AUDIO=\"sound0\""] {
        assert!(index.contains(piece), "{index}");
    }
    assert!(index.contains("CHANNELS=\"2\",URI=\"audio0.m3u8\"\n"), "{index}");
    // Pictures and sound together.
    let names = packaged.playlists();
    let bytes: usize = names
        .iter()
        .flat_map(|name| packaged.playlist(name).segments)
        .map(|segment| packaged.get(&segment.complete.unwrap().1).len())
        .sum();
    let line = index.lines().find_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:")).unwrap();
    let rate = |name: &str| {
        let found = crate::parsed::attributes(line).into_iter().find(|(known, _)| known == name);
        found.unwrap().1.parse::<usize>().unwrap()
    };
    let (peak, average) = (rate("BANDWIDTH"), rate("AVERAGE-BANDWIDTH"));
    assert!(average.abs_diff(bytes * 8 / 21) < average / 100 && peak >= average, "{line}: {bytes} bytes in 21 s");
}

#[test]
fn a_long_stream_names_a_window_and_forgets_the_rest() {
    let mut settings = Settings::default();
    settings.window = Duration::from_secs(12);
    settings.first_sequence = 1000;

    let packaged = package(&usual(90).frames, settings, REGULAR);

    for name in packaged.playlists() {
        let playlist = packaged.playlist(&name);
        assert_eq!(playlist.sequence + playlist.segments.len() as u64, 1000 + 45, "{name}");
        assert!((12.0..14.2).contains(&playlist.duration()), "{name}");
        assert_eq!(packaged.watcher.segments(&name), 45);
    }
    let bytes: u64 =
        packaged.playlists().iter().flat_map(|name| packaged.files(name)).map(|file| file.len() as u64).sum();
    assert!(packaged.shelf.bytes() < bytes * 5 / 2, "{} of {bytes} bytes are named", packaged.shelf.bytes());
}

#[test]
fn a_delta_update_leaves_out_most_of_a_long_window() {
    let packaged = package(&usual(60).frames, all(), REGULAR);

    let delta = packaged.shelf.get(&Request { path: "video0.m3u8", skip: true, ..Request::default() });

    let Answer::Ready(delta) = delta else { panic!("{delta:?}") };
    // Six target durations stay; the last frame is a nanosecond too short for it.
    assert_eq!(Playlist::read(&crate::watcher::text(&delta)).skipped, Some(30 - 7));
}

#[test]
fn segments_end_without_a_keyframe_where_they_would_be_too_long() {
    let mut reel = Reel::default();
    reel.config(Codec::H264, SMALL, 0);
    reel.config(Codec::Aac, SOUND, 0);
    reel.run(10 * SECOND, 14 * SECOND, (30, 1), 60, true);
    // Then none for half a minute.
    reel.run(14 * SECOND, 44 * SECOND, (30, 1), 10_000, true);
    reel.run(44 * SECOND, 48 * SECOND, (30, 1), 60, true);

    let packaged = package(&reel.frames, all(), REGULAR);

    whole(&packaged, &reel.frames);
    let video = packaged.playlist("video0.m3u8");
    assert_eq!(video.target, 2);
    assert!(!video.independent, "not all of them are");
    assert_eq!(durations(&video)[..3], [2000, 2000, 2467]);
    assert!(packaged.playlist("audio0.m3u8").independent);
    assert_eq!(packaged.watcher.hints_missed, 0);
}

#[test]
fn groups_of_pictures_of_any_length_make_a_target_duration_that_fits() {
    // Frames per group, and how long segments then are, and the target.
    for (group, length, target) in [(15, 2000, 2), (45, 3000, 3), (75, 2500, 3), (120, 4000, 4), (180, 6000, 6)] {
        let mut reel = Reel::default();
        reel.config(Codec::H264, SMALL, 0);
        reel.run(10 * SECOND, 40 * SECOND, (30, 1), group, false);
        let packaged = package(&reel.frames, all(), REGULAR);
        let video = packaged.playlist("video0.m3u8");
        assert_eq!((durations(&video)[..4].to_vec(), video.target), (vec![length; 4], target), "{group}");
        assert!(video.independent, "{group}");
    }
    // Longer than any segment may be.
    let mut reel = Reel::default();
    reel.config(Codec::H264, SMALL, 0);
    reel.run(10 * SECOND, 60 * SECOND, (30, 1), 300, false);
    let packaged = package(&reel.frames, all(), REGULAR);
    let video = packaged.playlist("video0.m3u8");
    assert_eq!((durations(&video)[..4].to_vec(), video.target), (vec![6467, 3533, 6467, 3533], 6));
    assert!(!video.independent);
}

#[test]
fn another_publisher_of_another_size_begins_behind_a_discontinuity_in_all_tracks() {
    let mut second = Reel::default();
    second.config(Codec::H264, LARGE, 0);
    second.config(Codec::Aac, SOUND_44, 0);
    second.run(0, 6 * SECOND, (25, 1), 50, true);
    let frames = behind(usual(5).frames, second.frames, SECOND / 2);

    let packaged = package(&frames, all(), REGULAR);

    whole(&packaged, &frames);
    for name in packaged.playlists() {
        let playlist = packaged.playlist(&name);
        let breaks: Vec<_> = playlist.segments.iter().map(|segment| segment.breaks).collect();
        assert_eq!(breaks, [0, 0, 0, 1, 0, 0], "{name}");
        assert!(playlist.segments[3].map.is_some() && playlist.segments[3].map != playlist.segments[0].map);
        assert!(playlist.segments[4].map.is_none());
    }
    assert!(packaged.index().contains("RESOLUTION=640x360"));
}

#[test]
fn a_configuration_that_is_told_again_changes_nothing() {
    let mut reel = usual(3);
    reel.config(Codec::H264, SMALL, 13 * SECOND);
    reel.config(Codec::Aac, SOUND, 13 * SECOND);
    reel.run(13 * SECOND, 16 * SECOND, (30, 1), 60, true);

    let packaged = package(&reel.frames, all(), REGULAR);

    for name in packaged.playlists() {
        assert!(packaged.playlist(&name).segments.iter().all(|segment| segment.breaks == 0), "{name}");
    }
}

#[test]
fn a_track_that_was_silent_over_discontinuities_has_as_many_when_it_comes_back() {
    let mut reel = usual(4);
    for nth in 0..3 {
        let from = (14 + 4 * nth) * SECOND;
        let at = reel.frames.len();
        reel.run(from, from + 4 * SECOND, (30, 1), 60, nth == 2);
        for media in [Media::Video, Media::Audio] {
            let first = reel.frames[at..].iter_mut().find(|frame| frame.codec.media() == media);
            first.into_iter().for_each(|frame| frame.flags = FrameFlags::DISCONTINUITY);
        }
    }

    let packaged = package(&reel.frames, all(), REGULAR);

    whole(&packaged, &reel.frames);
    let breaks =
        |name: &str| packaged.playlist(name).segments.iter().map(|segment| segment.breaks).collect::<Vec<_>>();
    assert_eq!(breaks("video0.m3u8"), [0, 0, 1, 0, 1, 0, 1, 0]);
    assert_eq!(breaks("audio0.m3u8"), [0, 0, 3, 0]);
}

#[test]
fn clocks_that_jump_ahead_or_back_make_a_discontinuity_and_no_endless_segment() {
    for jump in [25 * 24 * 3600 * SECOND, 3600 * SECOND, 3 * SECOND, -3600 * SECOND, -SECOND] {
        let mut reel = Reel::default();
        reel.config(Codec::H264, SMALL, 0);
        reel.config(Codec::Aac, SOUND, 0);
        reel.run(5000 * SECOND, 5005 * SECOND, (30, 1), 60, true);
        reel.run(5005 * SECOND + jump, 5010 * SECOND + jump, (30, 1), 60, true);
        let packaged = package(&reel.frames, all(), REGULAR);
        whole(&packaged, &reel.frames);
        for name in packaged.playlists() {
            let playlist = packaged.playlist(&name);
            assert_eq!(playlist.segments.iter().map(|segment| segment.breaks).sum::<u64>(), 1, "{jump}: {name}");
            assert_eq!(playlist.target, 2);
        }
    }
}

#[test]
fn a_stream_that_begins_before_its_zero_is_moved_by_whole_seconds() {
    for start in [-SECOND / 10, 0, SECOND / 2, -5000 * SECOND] {
        let mut reel = Reel::default();
        reel.config(Codec::H264, SMALL, 0);
        reel.config(Codec::Aac, SOUND, 0);
        reel.run(start, start + 5 * SECOND, (30, 1), 60, true);
        let packaged = package(&reel.frames, all(), REGULAR);
        whole(&packaged, &reel.frames);
    }
}

#[test]
fn frames_that_were_left_out_are_told_by_a_discontinuity_unless_nothing_needs_them() {
    let frames = usual(12).frames;
    let (lost, kept): (Vec<&Frame>, Vec<&Frame>) = frames
        .iter()
        .partition(|frame| frame.is_video() && frame.dts.0 > 14 * SECOND + SECOND / 2 && frame.dts.0 < 16 * SECOND);
    let mut packager = Packager::new(all(), Now { mono: Instant(0), wall: START });
    let shelf = packager.shelf();
    let mut watcher = crate::watcher::Watcher::new(shelf.clone(), REGULAR);
    for frame in kept {
        if frame.dts.0 == 16 * SECOND && frame.is_video() {
            packager.on_gap(lost.len() as u64);
        }
        if frame.dts.0 == 17 * SECOND && frame.kind == FrameKind::Delta {
            packager.on_gap(1);
        }
        packager.on_frame(frame);
        watcher.look();
    }
    packager.on_end(Reason::Ended);
    watcher.look();

    assert_eq!(shelf.left_out().lost, lost.len() as u64 + 1);
    let breaks: Vec<u64> = watcher
        .playlists()
        .map(|(_, playlist)| playlist.segments.iter().map(|segment| segment.breaks).sum())
        .collect();
    assert_eq!(breaks, [1, 1]);
}

#[test]
fn what_cannot_be_decoded_behind_a_jump_is_left_out_and_a_discontinuity() {
    let mut frames = usual(8).frames;
    let at = frames.iter().position(|frame| frame.is_video() && frame.dts.0 >= 13 * SECOND).unwrap();
    frames[at].flags = FrameFlags::DISCONTINUITY;

    let packaged = package(&frames, all(), REGULAR);

    assert_eq!(packaged.shelf.left_out().before_keyframe, 30);
    for name in packaged.playlists() {
        let breaks: Vec<_> = packaged.playlist(&name).segments.iter().map(|segment| segment.breaks).collect();
        assert_eq!(breaks.iter().sum::<u64>(), 1, "{name}: {breaks:?}");
    }
}

#[test]
fn discontinuities_that_no_playlist_names_any_more_are_counted() {
    let mut frames = usual(10).frames;
    for _ in 0..5 {
        frames = behind(frames, usual(10).frames, SECOND / 30);
    }
    let mut settings = Settings::default();
    settings.window = Duration::from_secs(12);

    let packaged = package(&frames, settings, REGULAR);

    for name in packaged.playlists() {
        let playlist = packaged.playlist(&name);
        let named: u64 = playlist.segments.iter().map(|segment| segment.breaks).sum();
        assert_eq!(playlist.discontinuities + named, 5, "{name}");
        assert!(named == 1 || named == 2, "{name}");
    }
}

#[test]
fn pictures_without_their_keyframe_are_left_out_and_counted() {
    let mut reel = usual(4);
    let first = reel.frames.iter().position(Frame::is_key).unwrap();
    reel.frames.remove(first);

    let packaged = package(&reel.frames, all(), REGULAR);

    assert_eq!(packaged.shelf.left_out().before_keyframe, 59);
    assert_eq!(packaged.frames("video0.m3u8").len(), 60);
    assert_eq!(packaged.frames("audio0.m3u8").len(), 188);
}

#[test]
fn a_codec_without_a_place_in_a_file_is_counted_and_leaves_the_rest_alone() {
    let mut reel = usual(5);
    let mut speex = 0;
    for frame in reel.frames.iter_mut().filter(|frame| frame.kind == FrameKind::Audio) {
        frame.codec = Codec::Speex;
        speex += 1;
    }

    let packaged = package(&reel.frames, all(), REGULAR);

    assert_eq!(packaged.playlists(), ["video0.m3u8"]);
    assert_eq!(packaged.shelf.left_out().unsupported, speex);
}

#[test]
fn pictures_that_last_longer_than_a_part_are_in_segments_without_parts() {
    let mut reel = Reel::default();
    reel.config(Codec::H264, SMALL, 0);
    reel.run(10 * SECOND, 14 * SECOND, (30, 1), 60, false);
    // The last one stands for more than a second.
    reel.run(15 * SECOND + SECOND / 4, 19 * SECOND, (30, 1), 60, false);
    // Two pictures per second.
    reel.run(19 * SECOND, 29 * SECOND, (2, 1), 4, false);

    let packaged = package(&reel.frames, all(), REGULAR);

    whole(&packaged, &reel.frames);
    let video = packaged.playlist("video0.m3u8");
    assert!(video.segments.iter().all(|segment| segment.breaks == 0));
    assert!(video.segments.iter().skip(6).all(|segment: &Segment| segment.parts.is_empty()), "{video:?}");
    assert_eq!(durations(&video)[1..3], [1967, 1283], "what stands still is a segment of its own");
}

#[test]
fn a_slow_camera_has_a_picture_in_each_part() {
    let mut reel = Reel::default();
    reel.config(Codec::H264, SMALL, 0);
    reel.run(10 * SECOND, 40 * SECOND, (1, 1), 4, false);

    let packaged = package(&reel.frames, all(), REGULAR);

    whole(&packaged, &reel.frames);
    let video = packaged.playlist("video0.m3u8");
    assert_eq!((video.part_target, video.target), (Some(1.01), 4));
    assert_eq!(video.segments.last().unwrap().parts.len(), 2);
    assert_eq!(packaged.watcher.hints_missed, 0);
}

#[test]
fn without_parts_it_is_plain_hls() {
    let mut settings = all();
    settings.part = None;

    let packaged = package(&usual(9).frames, settings, REGULAR);

    for name in packaged.playlists() {
        let playlist = packaged.playlist(&name);
        assert_eq!((playlist.version, playlist.part_target, playlist.segments.len()), (6, None, 5));
        assert!(playlist.segments.iter().all(|segment| segment.parts.is_empty()));
    }
}

#[test]
fn several_tracks_of_each_kind_have_playlists_of_their_own() {
    let mut reel = usual(8);
    let more: Vec<Frame> = reel
        .frames
        .iter()
        .map(|frame| {
            let mut copy = frame.clone().on_track(TrackId(frame.track.0 + 4));
            if copy.kind == FrameKind::Config && copy.codec == Codec::H264 {
                copy.payload = Bytes::from_static(LARGE);
            }
            copy
        })
        .collect();
    reel.frames.extend(more);
    reel.frames.sort_by_key(|frame| (frame.kind != FrameKind::Config, frame.dts));

    let packaged = package(&reel.frames, all(), REGULAR);

    assert_eq!(packaged.playlists(), ["audio0.m3u8", "audio1.m3u8", "video0.m3u8", "video1.m3u8"]);
    let tracks = by_track(&reel.frames);
    let mut moved = None;
    for (name, track) in [("video0", 0), ("audio0", 1), ("video1", 4), ("audio1", 5)] {
        packaged.holds(&format!("{name}.m3u8"), &tracks[&TrackId(track)], &mut moved);
    }
    let index = packaged.index();
    assert_eq!(index.matches("#EXT-X-STREAM-INF").count(), 2);
    assert_eq!(index.matches("GROUP-ID=\"sound0\"").count(), 2);
    assert_eq!(index.matches("DEFAULT=YES").count(), 1);
    assert_eq!(durations(&packaged.playlist("video0.m3u8")), durations(&packaged.playlist("video1.m3u8")));
}

#[test]
fn what_is_too_much_for_the_memory_goes_before_its_time() {
    let mut frames = usual(60).frames;
    for frame in frames.iter_mut().filter(|frame| frame.is_video()) {
        frame.payload = [&*frame.payload, &[7; 10_000]].concat().into();
    }
    let mut settings = all();
    settings.bytes = 4_000_000;

    let packaged = package(&frames, settings, Leniency { crowded: true, ..REGULAR });

    assert!(packaged.shelf.bytes() <= 4_000_000, "{}", packaged.shelf.bytes());
    let video = packaged.playlist("video0.m3u8");
    assert!((5..8).contains(&video.segments.len()), "{}", video.segments.len());
    assert_eq!(video.sequence + video.segments.len() as u64, 30);
    let sound = packaged.playlist("audio0.m3u8");
    assert!(sound.sequence.abs_diff(video.sequence) <= 1, "sound goes with the pictures");
}

#[test]
fn a_stream_that_goes_on_elsewhere_ends_without_saying_so() {
    let mut settings = all();
    settings.end_list = false;
    let packaged = package(&usual(5).frames, settings, REGULAR);
    assert!(packaged.playlists().iter().all(|name| !packaged.playlist(name).ended));
}

#[test]
fn nothing_is_there_before_the_first_segment_and_nothing_ever_of_an_empty_stream() {
    let mut packager = Packager::new(Settings::default(), Now { mono: Instant(0), wall: START });
    let shelf = packager.shelf();
    let get = |path: &str| shelf.get(&Request { path, ..Request::default() });
    for frame in &usual(2).frames {
        packager.on_frame(frame);
        assert_eq!(get(MULTIVARIANT), Answer::Wait);
        assert_eq!(get("video0.m3u8"), Answer::Wait);
    }
    for path in ["", "../index.m3u8", "video9.mp4", "seg-0-video0-0.m4s", "part-ffff-video0-0-0.m4s"] {
        assert_eq!(get(path), Answer::NotFound, "{path}");
    }
    packager.on_end(Reason::Ended);
    assert!(matches!(get(MULTIVARIANT), Answer::Ready(_)));

    let mut packager = Packager::new(Settings::default(), Now { mono: Instant(0), wall: START });
    let shelf = packager.shelf();
    packager.on_end(Reason::Ended);
    assert_eq!(shelf.get(&Request { path: MULTIVARIANT, ..Request::default() }), Answer::NotFound);
}

#[test]
fn payloads_are_not_copied() {
    let frames = usual(5).frames;
    let packaged = package(&frames, all(), REGULAR);
    let uri = &packaged.playlist("video0.m3u8").segments[0].complete.as_ref().unwrap().1.clone();
    let Answer::Ready(segment) = packaged.shelf.get(&Request { path: uri, ..Request::default() }) else {
        panic!("{uri} is there")
    };
    let places: Vec<*const u8> = segment.body.iter().map(|slice| slice.as_ptr()).collect();
    let video = frames.iter().filter(|frame| frame.is_video()).take(60);
    assert!(video.map(|frame| frame.payload.as_ptr()).all(|payload| places.contains(&payload)));
}

#[test]
fn frames_at_impossible_times_are_counted_and_no_more() {
    let mut frames = usual(5).frames;
    let impossible = [(i64::MAX, 0), (i64::MIN, 0), (12 * SECOND, i64::MAX), (12 * SECOND, i64::MIN)];
    for (nth, (dts, pts)) in impossible.into_iter().enumerate() {
        let mut frame = frames[40].clone();
        (frame.dts, frame.pts) = (Timestamp(dts), Timestamp(pts));
        frames.insert(40 + nth, frame);
    }

    let packaged = package(&frames, all(), REGULAR);

    assert_eq!(packaged.shelf.left_out().impossible, 4);
    assert_eq!(durations(&packaged.playlist("video0.m3u8")), [2000, 2000, 1000]);
}
