//! What players and the name see when a publisher is gone.

use std::time::Duration;

use crate::media;
use crate::process::SOON;
use crate::tools::Tool;
use crate::world::{ENDS_WITHIN, World};

#[test]
fn players_end_by_themselves_when_the_publisher_is_killed() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/killed");
    publisher.wait_until_sent(Duration::from_millis(2500));
    let mut player = world.play(&media.ffmpeg, "live/killed");
    player.wait_until_it_gets_something();

    publisher.process.kill();

    player.finish(ENDS_WITHIN).video().assert_contiguous_run_of(media.published.video());
}

#[test]
fn a_name_is_free_again_when_its_publisher_has_gone() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut first = world.publish(media, "live/again");
    first.wait_until_sent(Duration::from_secs(1));
    first.process.kill();
    drop(first);

    let mut second = world.publish(media, "live/again");
    second.wait_until_sent(Duration::from_secs(1));

    let received = world.play_for(&media.ffmpeg, "live/again", "1").finish(SOON);
    received.video().assert_starts_with_a_keyframe();
    received.video().assert_contiguous_run_of(media.published.video());
}
