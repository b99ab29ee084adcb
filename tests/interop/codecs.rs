//! H.265, AV1, VP9 and Opus: enhanced RTMP in both directions.

use std::time::Duration;

use crate::media::{self, Media};
use crate::process::SOON;
use crate::tools::Tool;
use crate::world::{self, ENDS_WITHIN, World};

#[test]
fn h265_passes_by_enhanced_rtmp() {
    passes(media::h265_aac, ["hevc", "aac"]);
}

#[test]
fn av1_and_opus_pass_by_enhanced_rtmp() {
    passes(media::av1_opus, ["av1", "opus"]);
}

#[test]
fn vp9_and_opus_pass_by_enhanced_rtmp() {
    passes(media::vp9_opus, ["vp9", "opus"]);
}

fn passes(media: fn() -> &'static Media, codecs: [&str; 2]) {
    if !world::is_shardcast_tested() {
        return;
    }
    let Some(world) = World::start(&[Tool::FfmpegNew]) else { return };
    let media = media();
    let mut publisher = world.publish(media, "live/new");
    publisher.wait_until_sent(Duration::from_millis(2500));

    let mut player = world.play(&media.ffmpeg, "live/new");
    world.assert_decodes(&media.ffmpeg, "live/new", "1");
    publisher.process.succeed(SOON);
    let received = player.finish(ENDS_WITHIN);

    let (video, audio) = (received.video(), received.audio());
    assert_eq!([&*video.codec, &*audio.codec], codecs);
    assert_eq!(video.size.as_deref(), Some("320x180"));
    video.assert_starts_with_a_keyframe();
    for (got, sent) in [(video, media.published.video()), (audio, media.published.audio())] {
        got.assert_dts_never_falls();
        assert_eq!(got.assert_contiguous_run_of(sent).end, sent.packets.len(), "{}", got.codec);
    }
}
