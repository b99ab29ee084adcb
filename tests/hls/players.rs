//! Streams that ffmpeg has encoded: what is packaged of them is, packet by packet, what ffmpeg has written, and
//! players play it without a complaint.
//!
//! Where a tool is missing the test skips loudly, except with `CI` set, where that is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use shardcast::media::TrackId;
use shardcast::record::hls::{Answer, MANIFEST, MULTIVARIANT, Request};

use crate::encrypted::{self, Rotating};
use crate::parsed::Playlist;
use crate::stream::{Packaged, SECOND, all, behind, by_track, package, read};
use crate::tools::{Tool, found};
use crate::watcher::Leniency;

const H264: &str = "-c:v libx264 -preset ultrafast -bf 2 -g 60 -sc_threshold 0 -pix_fmt yuv420p";
const H265: &str = "-c:v libx265 -preset ultrafast -x265-params keyint=50:min-keyint=50:bframes=2:log-level=none \
                    -tag:v hvc1 -pix_fmt yuv420p";
const AAC: &str = "-c:a aac -b:a 64k";

/// What ffmpeg is told to encode.
struct Case {
    name: &'static str,
    /// Size, rate, filter and codec of the pictures.
    video: Option<(&'static str, &'static str, &'static str, &'static str)>,
    /// Rate and codec of the sound.
    audio: Option<(&'static str, &'static str)>,
    /// What the multivariant playlist says.
    codecs: &'static str,
    /// Frames last differently.
    varies: bool,
}

const CASES: [Case; 9] = [
    Case {
        name: "h264-aac",
        video: Some(("320x180", "30000/1001", "null", H264)),
        audio: Some(("48000", AAC)),
        codecs: "avc1.4d400d,mp4a.40.2",
        varies: false,
    },
    Case {
        name: "h265-aac",
        video: Some(("320x180", "25", "null", H265)),
        audio: Some(("44100", AAC)),
        codecs: "hvc1.1.6.L60.90,mp4a.40.2",
        varies: false,
    },
    Case {
        name: "varying",
        video: Some((
            "320x180",
            "30",
            "select='not(eq(mod(n,7),3))*not(eq(mod(n,11),5))*not(between(n,70,75))'",
            H264,
        )),
        audio: Some(("48000", AAC)),
        codecs: "avc1.4d400d,mp4a.40.2",
        varies: true,
    },
    Case {
        name: "vp9-opus",
        video: Some((
            "320x180",
            "24",
            "null",
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 48 -keyint_min 48 -pix_fmt yuv420p",
        )),
        audio: Some(("48000", "-c:a libopus -b:a 64k")),
        codecs: "vp09.00.11.08,opus",
        varies: false,
    },
    Case {
        name: "av1",
        video: Some(("320x180", "50", "null", "-c:v libsvtav1 -preset 12 -g 100 -pix_fmt yuv420p")),
        audio: None,
        codecs: "av01.0.00M.08",
        varies: false,
    },
    Case {
        name: "long-groups",
        video: Some((
            "320x180",
            "30",
            "null",
            "-c:v libx264 -preset ultrafast -bf 2 -g 1000 -sc_threshold 0 -pix_fmt yuv420p",
        )),
        audio: Some(("48000", AAC)),
        codecs: "avc1.4d400d,mp4a.40.2",
        varies: false,
    },
    Case { name: "aac", video: None, audio: Some(("48000", AAC)), codecs: "mp4a.40.2", varies: false },
    Case {
        name: "mp3",
        video: None,
        audio: Some(("44100", "-c:a libmp3lame -b:a 128k")),
        codecs: "mp4a.6B",
        varies: false,
    },
    Case {
        name: "h264",
        video: Some(("640x360", "60", "null", H264)),
        audio: None,
        codecs: "avc1.4d401f",
        varies: false,
    },
];

#[test]
fn streams_of_ffmpeg_are_packaged_packet_by_packet_and_played_without_a_complaint() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("plays");
    for case in &CASES {
        let file = encode(&files, case);
        let frames = read(fs::read(&file).unwrap());
        let leniency = Leniency { short_parts: case.varies, ..Leniency::default() };

        let packaged = package(&frames, all(), leniency);

        let index = packaged.index();
        assert!(index.contains(&format!("CODECS=\"{}\"", case.codecs)), "{}: {index}", case.name);
        let mut moved = None;
        for (track, source) in by_track(&frames) {
            packaged.holds(name_of(track), &source, &mut moved);
        }
        if case.name != "varying" && case.name != "long-groups" {
            // Groups of pictures of one or two seconds, in nine seconds and a bit.
            for name in packaged.playlists() {
                let playlist = packaged.playlist(&name);
                assert_eq!((playlist.segments.len(), playlist.target), (5, 2), "{}: {name}", case.name);
            }
        }
        let folder = files.0.join(case.name);
        save(&packaged, &folder);
        for (track, _) in by_track(&frames) {
            let ours = folder.join(format!("{}.mp4", name_of(track)));
            fs::write(&ours, packaged.files(name_of(track)).concat()).unwrap();
            let kind = if track == TrackId::VIDEO { "v" } else { "a" };
            assert_same(case.name, &packets(&file, kind), &packets(&ours, kind));
            assert_silent(&ours);
        }
        for presentation in [MULTIVARIANT, MANIFEST].map(|name| folder.join(name)) {
            assert_silent(&presentation);
            for (track, source) in by_track(&frames) {
                let kind = if track == TrackId::VIDEO { "v" } else { "a" };
                let found = packets(&presentation, kind).len();
                assert_eq!(found, source.len(), "{}: packets of {}", case.name, presentation.display());
            }
        }
    }
}

#[test]
fn a_publisher_who_comes_back_with_other_pictures_is_played_on_either_side_of_the_discontinuity() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("comes-back");
    let large = Case {
        name: "large",
        video: Some(("640x360", "25", "null", H264)),
        audio: Some(("44100", AAC)),
        codecs: "",
        varies: false,
    };
    let [first, then] = [&CASES[0], &large].map(|case| read(fs::read(encode(&files, case)).unwrap()));
    let frames = behind(first, then, SECOND / 2);

    let packaged = package(&frames, all(), Leniency::default());

    let mut moved = None;
    for (track, source) in by_track(&frames) {
        packaged.holds(name_of(track), &source, &mut moved);
        assert_eq!(packaged.files(name_of(track)).len(), 2, "two initialization segments");
    }
    let folder = files.0.join("both");
    save(&packaged, &folder);
    // The demuxers of ffmpeg and of GStreamer take the first EXT-X-MAP for all: ffmpeg is given each side by itself.
    for (track, _) in by_track(&frames) {
        for (nth, file) in packaged.files(name_of(track)).into_iter().enumerate() {
            let path = folder.join(format!("{}-{nth}.mp4", name_of(track)));
            fs::write(&path, file).unwrap();
            assert_silent(&path);
        }
    }
    // The same publisher again has the same initialization segment, and is played across the discontinuity.
    let mut then = read(fs::read(encode(&files, &CASES[0])).unwrap());
    let frames = behind(then.clone(), std::mem::take(&mut then), SECOND / 2);
    let packaged = package(&frames, all(), Leniency::default());
    save(&packaged, &folder);
    assert_silent(&folder.join(MULTIVARIANT));
    for (track, source) in by_track(&frames) {
        let kind = if track == TrackId::VIDEO { "v" } else { "a" };
        assert_eq!(packets(&folder.join(MULTIVARIANT), kind).len(), source.len());
    }
}

#[test]
fn ffmpeg_plays_encrypted_segments_with_their_keys_and_not_with_others() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("encrypted");
    let frames = read(fs::read(encode(&files, &CASES[0])).unwrap());
    let packaged = encrypted::package(&frames, Rotating { none_at: None });
    let folder = files.0.join("encrypted");
    save(&packaged, &folder);
    for number in 1..9 {
        let name = format!("key-{number}.bin");
        fs::write(folder.join(&name), Rotating::key_of(&name)).unwrap();
    }
    let decode = |playlist: &str| {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "warning", "-allowed_extensions", "ALL", "-i"]).arg(folder.join(playlist));
        let output = command.args(["-f", "null", "-"]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(decode("video0.m3u8"), "");
    assert_eq!(decode("audio0.m3u8"), "");
    let count = || {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "quiet", "-allowed_extensions", "ALL", "-count_packets", "-of", "csv=p=0"]);
        command.args(["-show_entries", "stream=nb_read_packets", "video0.m3u8"]).current_dir(&folder);
        // Once of the program, once of the stream.
        output(&mut command).split_whitespace().next().unwrap_or("0").to_owned()
    };
    let all = by_track(&frames)[&TrackId::VIDEO].len();
    assert_eq!(count(), all.to_string());
    fs::write(folder.join("key-2.bin"), [9; 16]).unwrap();
    assert_ne!(count(), all.to_string());
}

#[test]
fn gstreamer_plays_it_to_the_end() {
    if !found(&[Tool::Ffmpeg, Tool::Gstreamer]) {
        return;
    }
    let files = Files::new("gstreamer");
    let frames = read(fs::read(encode(&files, &CASES[0])).unwrap());
    let packaged = package(&frames, all(), Leniency::default());
    let folder = files.0.join("played");
    save(&packaged, &folder);

    let pictures = by_track(&frames)[&TrackId::VIDEO].len() as u64;
    assert_eq!(raw_bytes(&folder), pictures * 320 * 180 * 3 / 2, "every picture is there");
}

/// What GStreamer decodes of the pictures in a folder, in bytes.
fn raw_bytes(folder: &Path) -> u64 {
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "filesrc", "location=video0.m3u8", "!", "hlsdemux", "!", "qtdemux", "!", "h264parse", "!"]);
    command.args(["avdec_h264", "!", "filesink", "location=raw"]).current_dir(folder);
    output(&mut command);
    fs::metadata(folder.join("raw")).unwrap().len()
}

fn name_of(track: TrackId) -> &'static str {
    if track == TrackId::VIDEO { "video0.m3u8" } else { "audio0.m3u8" }
}

/// Writes everything that the playlists name into a folder.
fn save(packaged: &Packaged, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let put = |name: &str| fs::write(folder.join(name), packaged.get(name)).unwrap();
    put(MULTIVARIANT);
    if let Answer::Ready(manifest) = packaged.shelf.get(&Request { path: MANIFEST, ..Request::default() }) {
        fs::write(folder.join(MANIFEST), manifest.body.concat()).unwrap();
    }
    for name in packaged.playlists() {
        put(&name);
        let Playlist { segments, ended, .. } = packaged.playlist(&name);
        assert!(ended, "what goes on is not played to its end");
        for segment in segments {
            segment.map.iter().for_each(|map| put(map));
            segment.parts.iter().for_each(|part| put(&part.uri));
            put(&segment.complete.unwrap().1);
        }
    }
}

// ---- ffmpeg's

/// The files of one test: they stay where it fails.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hls-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("the directory for media can be made");
        Self(directory)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Nine seconds and a bit.
fn encode(files: &Files, case: &Case) -> PathBuf {
    let path = files.0.join(format!("{}.mp4", case.name));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]);
    if let Some((size, rate, ..)) = case.video {
        command.args(["-f", "lavfi", "-i", &format!("testsrc2=size={size}:rate={rate}")]);
    }
    if let Some((rate, _)) = case.audio {
        command.args(["-f", "lavfi", "-i", &format!("anoisesrc=amplitude=0.1:seed=7:sample_rate={rate}")]);
        command.args(["-ac", "2"]);
    }
    if let Some((.., filter, codec)) = case.video {
        command.args(["-vf", filter, "-fps_mode", "vfr"]).args(codec.split_whitespace());
    }
    if let Some((_, codec)) = case.audio {
        command.args(codec.split_whitespace());
    }
    let flags = "empty_moov+default_base_moof+frag_keyframe+delay_moov";
    command.args(["-t", "9.3", "-movflags", flags, "-frag_duration", "500000"]);
    output(command.arg(&path).env("SVT_LOG", "1"));
    path
}

/// One packet as ffmpeg sees it: times in seconds.
#[derive(Clone, Debug, PartialEq)]
struct Packet {
    pts: f64,
    dts: f64,
    key: bool,
    hash: String,
}

fn packets(file: &Path, kind: &str) -> Vec<Packet> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", kind, "-show_packets", "-show_data_hash", "md5", "-of", "json"]);
    let parsed: Value = serde_json::from_str(&output(command.arg(file))).expect("ffprobe writes JSON");
    let packet = |packet: &Value| {
        let text =
            |field: &str| packet[field].as_str().unwrap_or_else(|| panic!("{packet} has no {field}")).to_owned();
        let seconds = |field: &str| text(field).parse().unwrap();
        let (pts, dts) = (seconds("pts_time"), seconds("dts_time"));
        Packet { pts, dts, key: text("flags").starts_with('K'), hash: text("data_hash") }
    };
    parsed["packets"].as_array().expect("there is a list of packets").iter().map(packet).collect()
}

/// The same packets, all moved by the same.
fn assert_same(name: &str, theirs: &[Packet], ours: &[Packet]) {
    assert_eq!(theirs.len(), ours.len(), "{name}");
    let moved = ours[0].dts - theirs[0].dts;
    for (nth, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
        assert_eq!((&theirs.hash, theirs.key), (&ours.hash, ours.key), "{name}: packet {nth}");
        for (theirs, ours) in [(theirs.pts, ours.pts), (theirs.dts, ours.dts)] {
            assert!((ours - theirs - moved).abs() < 0.000_02, "{name}: packet {nth}: {theirs} is {ours}");
        }
    }
}

/// Decodes all of it: there must be nothing to complain about.
fn assert_silent(file: &Path) {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "warning", "-i"]).arg(file).args(["-f", "null", "-"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty() && output.stdout.is_empty(), "{}: {said}", file.display());
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}
