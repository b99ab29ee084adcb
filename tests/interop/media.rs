//! What is published: a few seconds of moving picture and noise per codec, encoded once, so that a test itself
//! costs no encoder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::packets::Capture;
use crate::tools::Tool;

/// An FLV file and the packets in it.
#[derive(Debug)]
pub(crate) struct Media {
    /// The file.
    pub(crate) path: PathBuf,
    /// Which ffmpeg understands it.
    pub(crate) ffmpeg: PathBuf,
    /// Its codecs need enhanced RTMP.
    pub(crate) enhanced: bool,
    /// What is in it: what a player must get.
    pub(crate) published: Capture,
}

/// Long enough that a player which joins after some seconds is there before the end, also on a busy machine.
const SECONDS: u32 = 8;
const FRAMES_PER_SECOND: u32 = 25;

/// H.264 with B-frames and AAC, a keyframe every 2 s.
pub(crate) fn h264_aac() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    MEDIA.get_or_init(|| encode(Tool::Ffmpeg, "h264-aac", SECONDS, &format!("{H264} -g 50 -keyint_min 50 {AAC}")))
}

/// The same with a keyframe every 0.4 s, and longer, for publishers that come and go.
pub(crate) fn h264_aac_short_gop() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    MEDIA.get_or_init(|| encode(Tool::Ffmpeg, "h264-aac-short", 30, &format!("{H264} -g 10 -keyint_min 10 {AAC}")))
}

/// The same with a single keyframe in 12 s: who does not start from the cache waits for ever.
pub(crate) fn h264_aac_one_keyframe() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    MEDIA.get_or_init(|| encode(Tool::Ffmpeg, "h264-aac-long", 30, &format!("{H264} -g 999 -keyint_min 999 {AAC}")))
}

/// H.265 and AAC.
pub(crate) fn h265_aac() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    let codecs = format!("-c:v libx265 -preset ultrafast -x265-params keyint=50:min-keyint=50:log-level=none {AAC}");
    MEDIA.get_or_init(|| encode(Tool::FfmpegNew, "h265-aac", SECONDS, &codecs))
}

/// AV1 and Opus.
pub(crate) fn av1_opus() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    let codecs = format!("-c:v libsvtav1 -preset 12 -g 50 {OPUS}");
    MEDIA.get_or_init(|| encode(Tool::FfmpegNew, "av1-opus", SECONDS, &codecs))
}

/// VP9 and Opus.
pub(crate) fn vp9_opus() -> &'static Media {
    static MEDIA: OnceLock<Media> = OnceLock::new();
    let codecs = format!("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 50 -b:v 200k {OPUS}");
    MEDIA.get_or_init(|| encode(Tool::FfmpegNew, "vp9-opus", SECONDS, &codecs))
}

/// The arguments that list a file's or a stream's packets on standard output, as they are.
pub(crate) fn listing() -> impl Iterator<Item = &'static str> {
    "-map 0 -c copy -copyinkf -flush_packets 1 -f framecrc -".split(' ')
}

/// Lists the packets of a file.
pub(crate) fn packets_of(ffmpeg: &Path, file: &Path) -> Capture {
    let mut command = Command::new(ffmpeg);
    let output = command.args(["-v", "error", "-copyts", "-i"]).arg(file).args(listing()).output();
    let output = output.unwrap_or_else(|error| panic!("{} does not start: {error}", ffmpeg.display()));
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    Capture::parse(&String::from_utf8_lossy(&output.stdout))
}

const H264: &str = "-c:v libx264 -preset ultrafast -bf 2 -sc_threshold 0";
const AAC: &str = "-c:a aac -b:a 64k -ac 2";
const OPUS: &str = "-c:a libopus -b:a 64k -ac 2";

fn encode(tool: Tool, name: &str, seconds: u32, codecs: &str) -> Media {
    let ffmpeg = tool.path().expect("the test has asked for this tool");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    fs::create_dir_all(&dir).expect("the directory for media can be made");
    // A second run of the tests at the same time must not see half a file.
    let (path, partial) = (dir.join(format!("{name}.flv")), dir.join(format!("{name}.{}.flv", std::process::id())));

    let picture = format!("testsrc2=size=320x180:rate={FRAMES_PER_SECOND}");
    let mut command = Command::new(&ffmpeg);
    command.args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", &picture]);
    command.args(["-f", "lavfi", "-i", "anoisesrc=amplitude=0.1:seed=7:sample_rate=48000"]);
    command.args(["-t", &seconds.to_string()]).args(codecs.split(' ')).args(["-pix_fmt", "yuv420p"]).arg(&partial);
    let output = command.output().unwrap_or_else(|error| panic!("{} does not start: {error}", ffmpeg.display()));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&partial, &path).expect("the media can be put in its place");

    let published = packets_of(&ffmpeg, &path);
    Media { path, ffmpeg, enhanced: tool == Tool::FfmpegNew, published }
}
