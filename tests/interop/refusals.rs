//! Who is refused, what they are told, and that nobody else notices.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::media;
use crate::process::{Dir, Process, SOON};
use crate::tools::Tool;
use crate::world::{self, ENDS_WITHIN, World};

#[test]
fn a_second_publisher_is_refused_and_the_first_goes_on_without_a_gap() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut first = world.publish(media, "live/taken");
    first.wait_until_sent(Duration::from_millis(2500));
    let mut player = world.play(&media.ffmpeg, "live/taken");

    let mut second = world.publish(media, "live/taken");
    let refused = second.process.wait(SOON);

    assert!(!refused.success(), "the second publisher was let in");
    let told = second.process.stderr().to_lowercase();
    let wanted = world::words("another publisher is live under this name", "already publishing");
    assert!(told.contains(wanted), "the second publisher is told:\n{told}");
    first.process.assert_running();
    first.process.succeed(SOON);
    let received = player.finish(ENDS_WITHIN);
    for (got, sent) in [(received.video(), media.published.video()), (received.audio(), media.published.audio())] {
        let run = got.assert_contiguous_run_of(sent);
        assert!(world::is_control_group() || run.end == sent.packets.len(), "{} lacks its end", got.codec);
    }
}

#[test]
fn a_player_of_an_absent_stream_is_told_that_it_does_not_exist() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };

    let mut player = world.play(&Tool::Ffmpeg.path().expect("it was found"), "live/absent");
    let refused = player.process.wait(SOON);

    assert!(!refused.success());
    let told = player.process.stderr();
    assert!(told.to_lowercase().contains("no such stream"), "the player is told:\n{told}");
}

#[test]
fn rtmpdump_and_gstreamer_see_play_stream_not_found() {
    let Some(world) = World::start(&[Tool::Rtmpdump, Tool::Gstreamer]) else { return };
    let url = world.url("live/absent");

    let mut rtmpdump = Command::new("rtmpdump");
    rtmpdump.args(["--live", "-r", &url, "-o"]).arg(world.dir.file("nothing.flv"));
    let mut rtmpdump = Process::start(&world.dir, "rtmpdump", &mut rtmpdump);
    let mut gstreamer = world.gstreamer("rtmp2src", &format!("rtmp2src location={url} ! fakesink"));

    for player in [&mut rtmpdump, &mut gstreamer] {
        assert!(!player.wait(SOON).success());
        let told = player.stderr();
        assert!(told.contains("NetStream.Play.StreamNotFound"), "the player is told:\n{told}");
    }
}

#[test]
fn only_who_knows_the_password_publishes_and_plays() {
    const USERS: &str = "[[auth.user]]\nname = \"anna\"\npassword = \"fjord-42\"\n\
                         publish = [\"live/*\"]\nplay = [\"live/*\"]\n";
    let dir = Dir::new();
    let config = dir.file("users.toml");
    fs::write(&config, USERS).expect("the test's directory is writable");
    let config = config.to_string_lossy();
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--config", &config]) else { return };
    let media = media::h264_aac();

    for wrong in ["live/door", "live/door?user=anna&password=fjord-41", "live/door?user=eve&password=fjord-42"] {
        let mut publisher = world.publish(media, wrong);
        assert!(!publisher.process.wait(SOON).success(), "{wrong} was let in");
        assert!(publisher.process.stderr().contains("Access denied"), "the publisher is told why");
    }
    let right = "live/door?user=anna&password=fjord-42";
    let mut publisher = world.publish(media, right);
    publisher.wait_until_sent(Duration::from_secs(1));
    let mut stranger = world.play(&media.ffmpeg, "live/door");
    assert!(!stranger.process.wait(SOON).success(), "a player without a password was let in");
    assert!(stranger.process.stderr().contains("Access denied"), "the player is told why");

    let received = world.play_for(&media.ffmpeg, right, "1").finish(SOON);
    received.video().assert_contiguous_run_of(media.published.video());
    assert!(!world.server.stderr().contains("fjord"), "no password is logged");
}
