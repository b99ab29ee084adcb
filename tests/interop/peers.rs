//! Other people's RTMP stacks: GStreamer's new and old one, and librtmp.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::media;
use crate::process::{Process, SOON, wait_for};
use crate::tools::Tool;
use crate::world::{self, ENDS_WITHIN, World};

#[test]
fn gstreamer_rtmp2src_gets_every_packet_and_ends_with_the_publisher() {
    plays_to_the_end(&[Tool::Ffmpeg, Tool::Gstreamer], |world, url, file| {
        world.gstreamer("rtmp2src", &format!("rtmp2src location={url} {}", keep_and_decode(file)))
    });
}

#[test]
fn gstreamer_rtmpsrc_gets_every_packet_and_ends_with_the_publisher() {
    plays_to_the_end(&[Tool::Ffmpeg, Tool::Gstreamer], |world, url, file| {
        let mut command = Command::new("gst-launch-1.0");
        command.args(["-q", "rtmpsrc", &format!("location={url} live=1")]);
        command.args(keep_and_decode(file).split_whitespace());
        Process::start(&world.dir, "rtmpsrc", &mut command)
    });
}

#[test]
fn rtmpdump_gets_every_packet_and_ends_with_the_publisher() {
    plays_to_the_end(&[Tool::Ffmpeg, Tool::Rtmpdump], |world, url, file| {
        let mut command = Command::new("rtmpdump");
        command.args(["-q", "--live", "-r", url, "-o"]).arg(file);
        Process::start(&world.dir, "rtmpdump", &mut command)
    });
}

#[test]
fn gstreamer_publishes_with_chunks_of_4096_bytes_as_obs_does() {
    let Some(world) = World::start(&[Tool::Ffmpeg, Tool::Gstreamer]) else { return };
    let url = world.url("live/gst");
    let mut publisher = world.gstreamer(
        "rtmp2sink",
        &format!(
            "videotestsrc is-live=true num-buffers=150 ! video/x-raw,width=320,height=180,framerate=25/1 \
             ! x264enc key-int-max=50 bframes=2 speed-preset=ultrafast ! h264parse ! flvmux name=mux streamable=true \
             ! rtmp2sink chunk-size=4096 location={url} \
             audiotestsrc is-live=true wave=pink-noise num-buffers=250 ! voaacenc bitrate=64000 ! aacparse ! mux."
        ),
    );
    // GStreamer tells nobody when it has begun: the first player that is let in does.
    let ffmpeg = Tool::Ffmpeg.path().expect("the test has asked for this tool");
    let mut player = wait_for("that the stream can be played", SOON, || {
        publisher.assert_running();
        let mut player = world.play(&ffmpeg, "live/gst");
        player.gets_something().then_some(player)
    });
    world.assert_decodes(&ffmpeg, "live/gst", "1");
    publisher.succeed(SOON);
    let received = player.finish(ENDS_WITHIN);

    assert_eq!([&*received.video().codec, &*received.audio().codec], ["h264", "aac"]);
    assert_eq!(received.video().size.as_deref(), Some("320x180"));
    received.video().assert_starts_with_a_keyframe();
    received.video().assert_dts_never_falls();
    received.audio().assert_dts_never_falls();
}

/// A player of somebody else writes what it gets to a file; it must be everything, and the player must end.
fn plays_to_the_end(tools: &[Tool], play: impl FnOnce(&World, &str, &Path) -> Process) {
    let Some(world) = World::start(tools) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/peer");
    publisher.wait_until_sent(Duration::from_millis(2500));

    let file = world.dir.file("received.flv");
    let mut player = play(&world, &world.url("live/peer"), &file);
    publisher.process.succeed(SOON);
    player.succeed(ENDS_WITHIN);

    let received = media::packets_of(&media.ffmpeg, &file);
    received.video().assert_starts_with_a_keyframe();
    for (got, sent) in [(received.video(), media.published.video()), (received.audio(), media.published.audio())] {
        let run = got.assert_contiguous_run_of(sent);
        assert!(world::is_control_group() || run.end == sent.packets.len(), "{} lacks its end", got.codec);
    }
}

/// Writes the FLV as it comes to a file, and decodes it as well.
fn keep_and_decode(file: &Path) -> String {
    let sink = "sync=false async=false";
    format!(
        "! tee name=copy copy. ! queue ! filesink location={} {sink} copy. ! queue ! flvdemux name=media \
         media.video ! queue ! h264parse ! avdec_h264 ! fakesink {sink} \
         media.audio ! queue ! aacparse ! avdec_aac ! fakesink {sink}",
        file.display()
    )
}
