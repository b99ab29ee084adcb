//! Where a player starts: what real players get and decode in each mode.

use std::fs;
use std::time::Duration;

use crate::media;
use crate::packets::{Capture, Track};
use crate::process::{Dir, SOON};
use crate::tools::Tool;
use crate::world::{ENDS_WITHIN, World};

/// Plays from a stream whose one keyframe is three seconds old, until its publisher goes away two seconds later.
fn joined_late(wish: &str) -> Option<Capture> {
    let world = World::start_shardcast(&[Tool::Ffmpeg], &["--shards", "2"])?;
    let media = media::h264_aac_one_keyframe();
    let mut publisher = world.publish(media, "live/late");
    publisher.wait_until_sent(Duration::from_secs(3));
    let mut player = world.play(&media.ffmpeg, &format!("live/late?{wish}"));
    player.wait_until_it_gets_something();
    publisher.wait_until_sent(Duration::from_secs(5));
    publisher.process.kill();
    Some(player.finish(ENDS_WITHIN))
}

/// How much older the picture is that a player shows first than the newest that was published when it joined.
fn first_picture(track: &Track) -> i64 {
    track.packets[0].dts
}

#[test]
fn a_player_that_catches_up_begins_at_the_live_edge_with_picture_and_sound_together() {
    let Some(received) = joined_late("start=catch-up") else { return };
    let media = media::h264_aac_one_keyframe();
    let (video, audio) = (received.video(), received.audio());

    video.assert_starts_with_a_keyframe();
    video.assert_dts_never_falls();
    audio.assert_dts_never_falls();
    assert!(first_picture(video) > 2_500, "the first picture is told to be of {} ms", first_picture(video));
    let apart = (audio.packets[0].dts - video.packets[0].dts).abs();
    assert!(apart <= 300, "sound and picture start {apart} ms apart");
    // Every picture came, since each needs those before it, and the sound has no hole from where it begins.
    let bytes = |track: &Track| track.packets.iter().map(|packet| (packet.size, packet.sum)).collect::<Vec<_>>();
    let published = bytes(media.published.video());
    assert!(published.starts_with(&bytes(video)), "{} pictures came", video.packets.len());
    let sound = audio.assert_contiguous_run_of(media.published.audio());
    // From the live edge on pictures have their own times again, on the same timeline as the sound.
    let (last, sent) = (video.packets.len() - 1, &media.published.video().packets);
    assert_eq!(video.packets[last].dts - sent[last].dts, sound.offset, "picture and sound are on one timeline");
}

#[test]
fn a_player_with_an_instant_start_gets_the_past_as_it_was() {
    let Some(received) = joined_late("start=instant") else { return };
    let media = media::h264_aac_one_keyframe();
    let pictures = received.video().assert_contiguous_run_of(media.published.video());
    let sound = received.audio().assert_contiguous_run_of(media.published.audio());
    assert_eq!((pictures.first, pictures.offset), (0, sound.offset));
}

#[test]
fn every_start_decodes_without_an_error() {
    let dir = Dir::new();
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--config", &delaying(&dir)]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/decode");
    publisher.wait_until_sent(Duration::from_millis(2_500));

    std::thread::scope(|scope| {
        for wish in ["start=catch-up", "start=instant", "start=live", "behind_ms=1000"] {
            let world = &world;
            scope.spawn(move || world.assert_decodes(&media.ffmpeg, &format!("live/decode?{wish}"), "1"));
        }
    });
}

#[test]
fn a_player_is_told_that_it_cannot_be_so_far_behind() {
    let dir = Dir::new();
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--config", &delaying(&dir)]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/far");
    publisher.wait_until_sent(Duration::from_millis(500));

    let mut player = world.play(&media.ffmpeg, "live/far?behind_ms=60000");

    player.process.wait(SOON);
    assert!(player.process.stderr().contains("Ask to be less far behind"), "{}", player.process.stderr());
}

/// A configuration that keeps ten seconds for those who want to be behind.
fn delaying(dir: &Dir) -> String {
    let path = dir.file("delaying.toml");
    fs::write(&path, "[[app]]\nname = \"live\"\ndelay_max = \"10s\"\n").expect("the test's directory is writable");
    path.to_str().expect("its path is text").into()
}
