//! Live media over HTTP: the same packets as over RTMP, as FLV and as MPEG-TS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::media::{self, Media};
use crate::process::{Process, SOON};
use crate::tools::Tool;
use crate::world::{ENDS_WITHIN, World, free_port, loopback};

/// A server that speaks HTTP as well, and its address there.
fn world(tools: &[Tool], args: &[&str]) -> Option<(World, String)> {
    let http = loopback(free_port()).to_string();
    let world = World::start_shardcast(tools, &[&["--http", &http], args].concat())?;
    Some((world, format!("http://{http}")))
}

#[test]
fn flv_over_http_is_what_was_published() {
    flv_passes(&[Tool::Ffmpeg], media::h264_aac);
}

#[test]
fn enhanced_flv_over_http_is_what_was_published() {
    flv_passes(&[Tool::FfmpegNew], media::h265_aac);
}

fn flv_passes(tools: &[Tool], media: fn() -> &'static Media) {
    let Some((world, http)) = world(tools, &[]) else { return };
    let media = media();
    let mut publisher = world.publish(media, "live/a");
    publisher.wait_until_sent(Duration::from_millis(2500));
    let mut player = world.play_from(&media.ffmpeg, &format!("{http}/live/a.flv"), &["-copyts"], &[]);
    player.wait_until_it_gets_something();
    publisher.process.succeed(SOON);
    player.process.succeed(ENDS_WITHIN);
    // ffmpeg 9 says so at the end of any FLV that comes in chunks, from any server.
    let complaints = player.process.stderr();
    let known = |line: &&str| !line.ends_with("Error during demuxing: Input/output error");
    assert_eq!(complaints.lines().filter(known).count(), 0, "the player complains: {complaints}");
    let received = player.so_far();
    for (got, sent) in [(received.video(), media.published.video()), (received.audio(), media.published.audio())] {
        got.assert_dts_never_falls();
        assert_eq!(got.assert_contiguous_run_of(sent).end, sent.packets.len(), "{}", got.codec);
    }
    received.video().assert_starts_with_a_keyframe();
}

/// A hash of each picture that ffmpeg decodes.
fn pictures(world: &World, ffmpeg: &Path, url: &str, more: &[&str]) -> Vec<String> {
    let mut command = Command::new(ffmpeg);
    // Else it looks for five seconds at what there is.
    command.args(["-v", "error", "-nostdin", "-analyzeduration", "500000", "-i", url]).args(more);
    command.args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "framehash", "-hash", "md5", "-"]);
    let mut decoder = Process::start(&world.dir, "decoder", &mut command);
    decoder.succeed(SOON);
    assert_eq!(decoder.stderr(), "", "the decoder complains");
    let lines = decoder.stdout();
    let hashes = lines.lines().filter(|line| !line.starts_with('#'));
    hashes.filter_map(|line| line.rsplit(',').next()).map(|hash| hash.trim().to_owned()).collect()
}

#[test]
fn a_transport_stream_over_http_decodes_to_the_pictures_that_were_published() {
    let Some((world, http)) = world(&[Tool::Ffmpeg], &[]) else { return };
    let media = media::h264_aac();
    let published = pictures(&world, &media.ffmpeg, &media.path.to_string_lossy(), &[]);
    let mut publisher = world.publish(media, "live/a");
    // The configuration is no longer among the frames that are kept.
    publisher.wait_until_sent(Duration::from_millis(3500));
    // The second joins a packetizer that runs already.
    for _ in 0..2 {
        let played = pictures(&world, &media.ffmpeg, &format!("{http}/live/a.ts"), &["-t", "0.8"]);
        assert!(played.len() >= 10, "{} pictures", played.len());
        let first = published.iter().position(|hash| *hash == played[0]).expect("the first picture was published");
        assert_eq!(played[..], published[first..first + played.len()]);
    }
    let mut sound = Command::new("ffprobe");
    sound.args(["-v", "error", "-of", "csv=p=0", "-show_entries", "stream=codec_name,sample_rate,channels"]);
    let mut probe = Process::start(&world.dir, "ffprobe", sound.arg(format!("{http}/live/a.ts")));
    probe.succeed(SOON);
    let said = probe.stdout();
    assert!(said.contains("h264") && said.contains("aac,"), "{said}");
}

#[test]
fn whoever_may_not_play_gets_an_answer_of_http() {
    let tools = [Tool::Ffmpeg];
    let http = loopback(free_port()).to_string();
    let config = format!(
        "[listen]\nhttp = [\"{http}\"]\n[[auth.user]]\nname = \"eve\"\npassword = \"secret\"\nplay = [\"*\"]\npublish = [\"*\"]\n"
    );
    let Some(world) = World::start_configured(&tools, &config, &["--http", &http]) else { return };
    let ask = |path: &str| {
        let mut probe = Command::new("ffprobe");
        let url = format!("http://{http}/{path}");
        let mut probe = Process::start(&world.dir, "ffprobe", probe.args(["-v", "error", "-i", &url]));
        let _ = probe.wait(SOON);
        probe.stderr()
    };
    assert!(ask("live/a.flv").contains("403 Forbidden"));
    assert!(ask("live/a.flv?user=eve&password=wrong").contains("403 Forbidden"));
    assert!(ask("live/a.flv?user=eve&password=secret").contains("404 Not Found"));
    assert!(ask("nothing").contains("404 Not Found"));
}
