//! Late joiners: they start at once, at a keyframe, and then get everything.

use std::time::Duration;

use crate::media;
use crate::process::SOON;
use crate::tools::Tool;
use crate::world::{self, ENDS_WITHIN, World};

#[test]
fn a_late_player_starts_at_once_from_the_cached_keyframe() {
    if !world::is_shardcast_tested() {
        return;
    }
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac_one_keyframe();
    let mut publisher = world.publish(media, "live/late");
    publisher.wait_until_sent(Duration::from_secs(3));

    let mut player = world.play_for(&media.ffmpeg, "live/late", "1");
    let received = player.finish(SOON);

    // One second of media from the cache, while the publisher has seconds to go.
    publisher.process.assert_running();
    assert!(player.process.age() < Duration::from_secs(5), "it took {:?}", player.process.age());
    let run = received.video().assert_contiguous_run_of(media.published.video());
    assert_eq!(run.first, 0, "the one keyframe of the stream is its first packet");
    received.audio().assert_contiguous_run_of(media.published.audio());
}

/// A stream's own shard and one that only has a replica of it owe a joiner the same start, also from a keyframe that
/// is older than a subscriber may ever lag behind.
#[test]
fn late_players_on_two_shards_start_at_once_from_an_old_keyframe() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--shards", "2"]) else { return };
    let media = media::h264_aac_one_keyframe();
    let mut publisher = world.publish(media, "live/old");
    publisher.wait_until_sent(Duration::from_millis(4500));

    let mut players: Vec<_> = (0..8).map(|_| world.play_for(&media.ffmpeg, "live/old", "1")).collect();
    let received = players.iter_mut().map(|player| player.finish(SOON)).collect::<Vec<_>>();

    publisher.process.assert_running();
    for received in received {
        assert_eq!(received.video().assert_contiguous_run_of(media.published.video()).first, 0);
    }
}

#[test]
fn a_late_player_gets_every_packet_from_its_keyframe_to_the_end() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/whole");
    let joined = publisher.wait_until_sent(Duration::from_millis(2500));

    let mut player = world.play(&media.ffmpeg, "live/whole");
    publisher.process.succeed(SOON);
    let received = player.finish(ENDS_WITHIN);

    let (video, audio) = (received.video(), received.audio());
    video.assert_starts_with_a_keyframe();
    video.assert_dts_never_falls();
    audio.assert_dts_never_falls();
    let pictures = video.assert_contiguous_run_of(media.published.video());
    let sound = audio.assert_contiguous_run_of(media.published.audio());
    assert_eq!(pictures.offset, sound.offset, "picture and sound are on one timeline");
    if !world::is_control_group() {
        // nginx-rtmp has no cache and drops what it has not sent yet when the publisher ends.
        let first = media.published.video().packets[pictures.first].dts;
        assert!(i128::from(first) <= joined.as_millis().cast_signed(), "the keyframe at {first} ms was yet to come");
        let apart = (audio.packets[0].dts - video.packets[0].dts).abs();
        assert!(apart <= 100, "sound and picture start {apart} ms apart");
        assert_eq!(pictures.end, media.published.video().packets.len(), "the last picture arrives");
        assert_eq!(sound.end, media.published.audio().packets.len(), "the last sound arrives");
    }
}

#[test]
fn what_a_late_player_gets_is_described_and_decodes_without_an_error() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/decode");
    publisher.wait_until_sent(Duration::from_secs(1));

    let described = world.probe("live/decode");
    world.assert_decodes(&media.ffmpeg, "live/decode", "1.5");

    for fact in
        "codec_name=h264 width=320 height=180 has_b_frames=2 codec_name=aac profile=LC sample_rate=48000 channels=2"
            .split(' ')
    {
        assert!(described.lines().any(|line| line == fact), "no {fact} in:\n{described}");
    }
}

#[test]
fn players_on_two_shards_all_get_every_packet() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--shards", "2"]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/mesh");
    publisher.wait_until_sent(Duration::from_millis(2500));

    // The kernel spreads connections by chance: of eight, all on the publisher's shard is one in 256.
    let mut players: Vec<_> = (0..8).map(|_| world.play(&media.ffmpeg, "live/mesh")).collect();
    publisher.process.succeed(SOON);

    for player in &mut players {
        let received = player.finish(ENDS_WITHIN);
        received.video().assert_starts_with_a_keyframe();
        for (got, sent) in [(received.video(), media.published.video()), (received.audio(), media.published.audio())]
        {
            assert_eq!(got.assert_contiguous_run_of(sent).end, sent.packets.len(), "{}", got.codec);
        }
    }
}

#[test]
fn a_stream_of_sound_alone_is_played() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish_with(media, "live/sound", &["-map", "0:a"]);
    publisher.wait_until_sent(Duration::from_secs(1));

    let received = world.play_for(&media.ffmpeg, "live/sound", "2").finish(SOON);

    assert_eq!(received.tracks().len(), 1);
    received.audio().assert_dts_never_falls();
    received.audio().assert_contiguous_run_of(media.published.audio());
}

#[test]
fn a_stream_of_pictures_alone_is_played() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish_with(media, "live/picture", &["-map", "0:v"]);
    publisher.wait_until_sent(Duration::from_secs(1));

    let received = world.play_for(&media.ffmpeg, "live/picture", "2").finish(SOON);

    assert_eq!(received.tracks().len(), 1);
    received.video().assert_starts_with_a_keyframe();
    received.video().assert_contiguous_run_of(media.published.video());
}
