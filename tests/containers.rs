//! MP4 files of ffmpeg's are read by our demuxer and written by our muxer, and ffmpeg reads those: packet by packet
//! it must be the same, and nothing to complain about.
//!
//! Where a tool is missing the test skips loudly, except with `CI` set, where that is a failure.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde_json::Value;
use shardcast::clock::Wall;
use shardcast::codec::{self, Description};
use shardcast::container::fmp4::{Demuxer, Event, Fragment, Head, Muxer, Progressive, Run, Starts, segment_index};
use shardcast::media::{Codec, Frame, Media, Timestamp, Track, TrackId};

#[path = "support/tools.rs"]
mod tools;

use tools::{Tool, found};

/// What ffmpeg is told to encode, and what then is in the tracks.
struct Case {
    name: &'static str,
    video: Option<(&'static str, Codec, &'static str)>,
    audio: Option<(&'static str, Codec, &'static str)>,
}

const H264: (&str, Codec, &str) =
    ("-c:v libx264 -preset ultrafast -bf 2 -g 20 -sc_threshold 0 -pix_fmt yuv420p", Codec::H264, "avc1.4d400d");
const H265: (&str, Codec, &str) = (
    "-c:v libx265 -preset ultrafast -x265-params keyint=20:min-keyint=20:bframes=2:log-level=none -tag:v hvc1 \
     -pix_fmt yuv420p",
    Codec::H265,
    "hvc1.1.6.L60.90",
);
const AV1: (&str, Codec, &str) = ("-c:v libsvtav1 -preset 12 -g 20 -pix_fmt yuv420p", Codec::Av1, "av01.0.00M.08");
const VP9: (&str, Codec, &str) =
    ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 20 -pix_fmt yuv420p", Codec::Vp9, "vp09.00.11.08");
const H266: (&str, Codec, &str) =
    ("-c:v libvvenc -preset faster -vvenc-params intraperiod=16 -pix_fmt yuv420p", Codec::H266, "vvc1.1.L32.CQA");
const AAC: (&str, Codec, &str) = ("-c:a aac -b:a 64k", Codec::Aac, "mp4a.40.2");
const OPUS: (&str, Codec, &str) = ("-c:a libopus -b:a 64k", Codec::Opus, "opus");
const MP3: (&str, Codec, &str) = ("-c:a libmp3lame -b:a 128k", Codec::Mp3, "mp4a.6B");
const FLAC: (&str, Codec, &str) = ("-c:a flac -strict -2", Codec::Flac, "fLaC");
const AC3: (&str, Codec, &str) = ("-c:a ac3 -b:a 192k", Codec::Ac3, "ac-3");
const EAC3: (&str, Codec, &str) = ("-c:a eac3 -b:a 192k", Codec::Eac3, "ec-3");

const CASES: [Case; 11] = [
    Case { name: "h264-aac", video: Some(H264), audio: Some(AAC) },
    Case { name: "h265-ac3", video: Some(H265), audio: Some(AC3) },
    Case { name: "av1-opus", video: Some(AV1), audio: Some(OPUS) },
    Case { name: "vp9-flac", video: Some(VP9), audio: Some(FLAC) },
    Case { name: "h264", video: Some(H264), audio: None },
    Case { name: "aac", video: None, audio: Some(AAC) },
    Case { name: "opus", video: None, audio: Some(OPUS) },
    Case { name: "mp3", video: None, audio: Some(MP3) },
    Case { name: "flac", video: None, audio: Some(FLAC) },
    Case { name: "ac3", video: None, audio: Some(AC3) },
    Case { name: "eac3", video: None, audio: Some(EAC3) },
];

/// What ffmpeg calls its ways to write MP4. Those of AC-3 must see a packet first.
const FRAGMENTED: &str = "frag_keyframe+empty_moov+default_base_moof";
const CMAF: &str = "cmaf";
/// Places that count from the begin of the file, and such that count from the samples before.
const FROM_THE_FILE: &str = "frag_keyframe+empty_moov";
const FROM_THE_LAST: &str = "frag_keyframe+empty_moov+omit_tfhd_offset";
/// Ways that write no fragments.
const PLAIN: [&str; 2] = ["faststart", "negative_cts_offsets"];
const SECONDS: &str = "2";

#[test]
fn files_of_ffmpeg_in_fragments_are_read_and_written_again_packet_by_packet() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("fragments");
    for case in &CASES {
        let file = encode(&files, case, FRAGMENTED, Tool::Ffmpeg);
        goes_through(case, &file, &read_fragmented(&file, 1 << 16));
    }
}

#[test]
fn files_of_ffmpeg_for_cmaf_and_of_older_kinds_are_read_and_written_again_in_pieces_of_any_length() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("cmaf");
    for (case, flags, piece) in [
        (0, CMAF, 1),
        (1, CMAF, 1000),
        (5, CMAF, 188),
        (0, FROM_THE_FILE, 1472),
        (0, FROM_THE_LAST, 65_536),
        (2, FROM_THE_LAST, 3),
    ] {
        let file = encode(&files, &CASES[case], flags, Tool::Ffmpeg);
        goes_through(&CASES[case], &file, &read_fragmented(&file, piece));
    }
}

#[test]
fn plain_files_of_ffmpeg_are_read_and_written_again_packet_by_packet() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("plain");
    for case in &CASES {
        for flags in PLAIN {
            let file = encode(&files, case, flags, Tool::Ffmpeg);
            let events = read_plain(&file);
            let frames =
                events.iter().filter_map(|event| if let Event::Frame(frame) = event { Some(frame) } else { None });
            assert!(frames.map(|frame| frame.dts).is_sorted(), "{}: frames are not in order of time", case.name);
            goes_through(case, &file, &events);
        }
    }
}

#[test]
fn vvc_is_read_and_written_again() {
    if !found(&[Tool::Ffmpeg, Tool::FfmpegNew]) {
        return;
    }
    let files = Files::new("vvc");
    let case = Case { name: "h266-aac", video: Some(H266), audio: Some(AAC) };
    let file = encode(&files, &case, FRAGMENTED, Tool::FfmpegNew);
    let events = read_fragmented(&file, 4096);
    describe(&case, &events);
    let (ours, shift) = write(&file, &events, false);
    // ffprobe of the distribution does not know VVC.
    let ffmpeg = Tool::FfmpegNew.path().expect("the test has asked for it");
    assert_same(case.name, &hashes(&ffmpeg, &file), &hashes(&ffmpeg, &ours), shift);
    assert_silent(&ffmpeg, &ours);
}

#[test]
fn a_recording_with_its_index_is_played_from_the_middle() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    let files = Files::new("index");
    let case = &CASES[0];
    let file = encode(&files, case, FRAGMENTED, Tool::Ffmpeg);
    let (ours, _) = write(&file, &read_fragmented(&file, 1 << 16), true);
    let ffmpeg = Tool::Ffmpeg.path().expect("the test has asked for it");
    assert_silent(&ffmpeg, &ours);
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-read_intervals", "1.4%+#1", "-select_streams", "v"]);
    command.args(["-show_entries", "packet=dts_time,flags", "-of", "csv=p=0"]).arg(&ours);
    let text = output(&mut command);
    // A key frame every 20 frames of 1001/30000 s: the second one is the last before.
    assert_eq!(text.trim(), "1.334667,K_", "{text}");
}

#[test]
fn gstreamer_decodes_what_is_written() {
    if !found(&[Tool::Ffmpeg, Tool::Gstreamer]) {
        return;
    }
    let files = Files::new("gstreamer");
    let file = encode(&files, &CASES[0], FRAGMENTED, Tool::Ffmpeg);
    let (ours, _) = write(&file, &read_fragmented(&file, 1 << 16), true);
    let [picture, sound] = ["picture", "sound"].map(|name| files.0.join(name));
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "filesrc", &format!("location={}", ours.display())]);
    let pipeline = format!(
        "! qtdemux name=media \
         media.video_0 ! queue ! h264parse ! avdec_h264 ! filesink sync=false location={} \
         media.audio_0 ! queue ! aacparse ! avdec_aac ! filesink sync=false location={}",
        picture.display(),
        sound.display()
    );
    output(command.args(pipeline.split_whitespace()));

    // 4:2:0 with rows of 320; two channels of 32 bits. A decoder may keep the packet of sound that primes it.
    let length = |path: &Path| fs::metadata(path).expect("GStreamer has written it").len();
    let tracks = packets(&file);
    assert_eq!(length(&picture), tracks["0"].len() as u64 * 320 * 178 * 3 / 2);
    let packets_of_sound = tracks["1"].len() as u64;
    let decoded = length(&sound) / 8 / 1024;
    assert!((packets_of_sound - 1..=packets_of_sound).contains(&decoded), "{decoded} of {packets_of_sound}");
}

/// Reads what is in the tracks, writes a file of it, and has ffmpeg compare.
fn goes_through(case: &Case, file: &Path, events: &[Event]) {
    describe(case, events);
    let (ours, shift) = write(file, events, false);
    assert_same(&format!("{}", file.with_extension("").display()), &packets(file), &packets(&ours), shift);
    assert_eq!(streams(file), streams(&ours), "{}", case.name);
    assert_silent(&Tool::Ffmpeg.path().expect("the test has asked for it"), &ours);
}

// ---- ours

fn read_fragmented(file: &Path, piece: usize) -> Vec<Event> {
    let mut rest = Bytes::from(fs::read(file).expect("ffmpeg has written it"));
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    while !rest.is_empty() {
        let mut pushed = rest.split_to(piece.min(rest.len()));
        while let Some(event) =
            demuxer.push(&mut pushed).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        {
            events.push(event);
        }
    }
    assert!(demuxer.is_at_end(), "{} ends too early", file.display());
    events
}

fn read_plain(file: &Path) -> Vec<Event> {
    let open = BufReader::new(File::open(file).expect("ffmpeg has written it"));
    let mut reader = Progressive::open(open).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let next = || reader.next_event().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    std::iter::from_fn(next).collect()
}

fn tracks_of(events: &[Event]) -> Vec<Track> {
    events
        .iter()
        .filter_map(|event| if let Event::Track(track) = event { Some(track.clone()) } else { None })
        .collect()
}

fn frames_of(events: &[Event], id: TrackId) -> Vec<Frame> {
    let frames = events.iter().filter_map(|event| if let Event::Frame(frame) = event { Some(frame) } else { None });
    frames.filter(|frame| frame.track == id).cloned().collect()
}

/// Checks what the codecs say of themselves against what ffmpeg was told to encode.
fn describe(case: &Case, events: &[Event]) {
    let tracks = tracks_of(events);
    let expected: Vec<_> = [case.video, case.audio].into_iter().flatten().collect();
    assert_eq!(tracks.len(), expected.len(), "{}", case.name);
    for (track, (_, codec, string)) in tracks.iter().zip(expected) {
        assert_eq!(track.codec, codec, "{}", case.name);
        let frames = frames_of(events, track.id);
        let described = Description::read(codec, &track.config, Some(&frames[0].payload)).unwrap();
        assert_eq!(described.codec_string, string);
        match codec.media() {
            Media::Video => {
                assert_eq!(
                    (track.id, described.size, track.size),
                    (TrackId::VIDEO, Some((318, 178)), Some((318, 178)))
                );
                let keys = |frames: &[Frame]| frames.iter().map(Frame::is_key).collect::<Vec<_>>();
                let looked_at: Vec<bool> =
                    frames.iter().map(|frame| codec::is_key(codec, &track.config, &frame.payload)).collect();
                assert_eq!(keys(&frames), looked_at, "{codec}: key frames by their payload");
                assert!(looked_at[0] && looked_at.iter().filter(|key| **key).count() >= 3, "{codec}: {looked_at:?}");
            }
            _ => {
                assert_eq!((track.id, track.channels, track.timescale), (TrackId::AUDIO, Some(2), 48_000));
                assert_eq!((described.channels, described.sample_rate), (Some(2), Some(48_000)));
            }
        }
        // What a frame says of itself is the record that the file has.
        if matches!(codec, Codec::Av1 | Codec::Vp9 | Codec::Ac3 | Codec::Eac3) {
            let made = codec::record_of_frame(codec, &frames[0].payload).unwrap();
            let described = |record: &Bytes| Description::read(codec, record, Some(&frames[0].payload)).unwrap();
            assert_eq!(described(&made), described(&track.config), "{codec}");
        }
    }
}

/// A file of ours with a fragment per half a second, and how far its times are moved.
fn write(theirs: &Path, events: &[Event], indexed: bool) -> (PathBuf, Timestamp) {
    let tracks = tracks_of(events);
    let frames: Vec<Vec<Frame>> = tracks.iter().map(|track| frames_of(events, track.id)).collect();
    let starts = frames.iter().filter_map(|frames| frames.first()).map(|frame| frame.dts);
    // A second is a whole number of everybody's ticks.
    let before = starts.min().unwrap() < Timestamp::ZERO;
    let origin = if before { Timestamp::from_millis(-1000) } else { Timestamp::ZERO };
    let mut muxer = Muxer::new(&tracks).unwrap().starting_at(origin);
    let mut file = muxer.init().to_vec();
    let mut index = Starts::new();
    let mut put = |fragment: &Fragment, file: &mut Vec<u8>| {
        if indexed {
            // A fragment may have sound alone.
            file.extend_from_slice(&segment_index(tracks[0].id, std::slice::from_ref(fragment)).unwrap_or_default());
        }
        index.add(fragment, file.len() as u64);
        fragment.slices().for_each(|slice| file.extend_from_slice(slice));
    };
    let mut next = vec![0; tracks.len()];
    for half in 1.. {
        let end = origin + Timestamp::from_millis(half * 500);
        let ends: Vec<usize> = frames.iter().map(|frames| frames.partition_point(|frame| frame.dts < end)).collect();
        // Video ends where the next key frame is: a fragment starts with one.
        let video = tracks.iter().position(|track| track.codec.media() == Media::Video);
        let ends: Vec<usize> = ends
            .iter()
            .enumerate()
            .map(|(at, end)| match video {
                Some(video) if video == at => {
                    let later = frames[at].iter().skip(*end).position(Frame::is_key);
                    later.map_or(frames[at].len(), |later| end + later)
                }
                _ => *end,
            })
            .collect();
        let runs: Vec<Run<'_>> = (0..tracks.len())
            .filter(|at| next[*at] < ends[*at])
            .map(|at| Run {
                track: tracks[at].id,
                frames: &frames[at][next[at]..ends[at]],
                end: frames[at].get(ends[at]).map(|frame| frame.dts),
            })
            .collect();
        if !runs.is_empty() {
            let head = Head { segment: true, captured: Some(Wall(1_700_000_000_000_000_000)) };
            put(&muxer.fragment(&runs, head).unwrap(), &mut file);
        }
        next = ends;
        if next.iter().zip(&frames).all(|(next, frames)| *next == frames.len()) {
            break;
        }
    }
    if indexed {
        file.extend_from_slice(&index.to_bytes());
    }
    let path = theirs.with_extension("ours.mp4");
    fs::write(&path, file).unwrap();
    (path, origin)
}

// ---- ffmpeg's

/// The files of one test: they stay where it fails.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("containers-{test}-{}", std::process::id()));
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

fn encode(files: &Files, case: &Case, flags: &str, tool: Tool) -> PathBuf {
    let name = flags.split('+').next_back().unwrap_or(flags);
    let path = files.0.join(format!("{}.{name}.mp4", case.name));
    let mut command = Command::new(tool.path().expect("the test has asked for it"));
    command.args(["-v", "error", "-nostdin", "-y"]);
    if case.video.is_some() {
        command.args(["-f", "lavfi", "-i", "testsrc2=size=318x178:rate=30000/1001"]);
    }
    if case.audio.is_some() {
        command.args(["-f", "lavfi", "-i", "anoisesrc=amplitude=0.1:seed=7:sample_rate=48000", "-ac", "2"]);
    }
    for (arguments, ..) in [case.video, case.audio].into_iter().flatten() {
        command.args(arguments.split(' '));
    }
    let packets_first = case.audio.is_some_and(|(_, codec, _)| matches!(codec, Codec::Ac3 | Codec::Eac3));
    let delay = if packets_first && !PLAIN.contains(&flags) { "+delay_moov" } else { "" };
    command.args(["-t", SECONDS, "-movflags", &format!("{flags}{delay}")]);
    if case.video.is_none() && !PLAIN.contains(&flags) {
        command.args(["-frag_duration", "400000"]);
    }
    command.arg(&path).env("SVT_LOG", "1");
    output(&mut command);
    path
}

/// One packet as ffmpeg sees it: times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    pts: String,
    dts: String,
    flags: String,
    hash: String,
}

fn packets(file: &Path) -> BTreeMap<String, Vec<Packet>> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_packets", "-show_data_hash", "md5", "-of", "json"]).arg(file);
    let parsed: Value = serde_json::from_str(&output(&mut command)).expect("ffprobe writes JSON");
    let mut streams = BTreeMap::<String, Vec<Packet>>::new();
    for packet in parsed["packets"].as_array().expect("there is a list of packets") {
        let text =
            |field: &str| packet[field].as_str().unwrap_or_else(|| panic!("{packet} has no {field}")).to_owned();
        let (pts, dts, flags, hash) = (text("pts_time"), text("dts_time"), text("flags"), text("data_hash"));
        streams.entry(packet["stream_index"].to_string()).or_default().push(Packet { pts, dts, flags, hash });
    }
    streams
}

/// What ffprobe says of the streams, the hash of their configuration included.
fn streams(file: &Path) -> String {
    let mut command = Command::new("ffprobe");
    let entries = "codec_name,profile,codec_tag_string,width,height,level,sample_rate,channels,r_frame_rate";
    command.args(["-v", "error", "-show_data_hash", "md5", "-of", "csv=p=0", "-show_entries"]);
    command.arg(format!("stream={entries},extradata_hash"));
    output(command.arg(file))
}

/// The same without ffprobe: `-f framehash`.
fn hashes(ffmpeg: &Path, file: &Path) -> BTreeMap<String, Vec<Packet>> {
    let mut command = Command::new(ffmpeg);
    command
        .args(["-v", "error", "-copyts", "-i"])
        .arg(file)
        .args("-map 0 -c copy -f framehash -hash md5 -".split(' '));
    let (mut bases, mut streams) = (BTreeMap::new(), BTreeMap::<String, Vec<Packet>>::new());
    for line in output(&mut command).lines() {
        if let Some((stream, base)) = line.strip_prefix("#tb ").and_then(|base| base.split_once(": ")) {
            let scale = base.strip_prefix("1/").and_then(|scale| scale.parse::<u32>().ok());
            bases.insert(stream.to_owned(), scale.expect("a time base is a fraction"));
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [stream, dts, pts, _duration, _size, hash] = &*fields else { continue };
        let Some(scale) = bases.get(*stream) else { continue };
        let seconds = |ticks: &str| micros(Timestamp::from_ticks(ticks.parse().unwrap(), *scale));
        let packet = Packet { pts: seconds(pts), dts: seconds(dts), flags: String::new(), hash: (*hash).to_owned() };
        streams.entry((*stream).to_owned()).or_default().push(packet);
    }
    streams
}

fn micros(time: Timestamp) -> String {
    let micros = (time.0 + 500).div_euclid(1000);
    format!("{}{}.{:06}", if micros < 0 { "-" } else { "" }, micros.abs() / 1_000_000, micros.abs() % 1_000_000)
}

/// The same packets, at times that are moved by `shift`, since ours cannot be negative.
fn assert_same(
    name: &str,
    theirs: &BTreeMap<String, Vec<Packet>>,
    ours: &BTreeMap<String, Vec<Packet>>,
    shift: Timestamp,
) {
    let count = |streams: &BTreeMap<String, Vec<Packet>>| streams.values().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(count(theirs), count(ours), "{name}: packets per stream");
    assert!(count(theirs).iter().all(|count| *count > 10), "{name}: {:?}", count(theirs));
    for (stream, packets) in theirs {
        let moved = nanos(&ours[stream][0].dts) - nanos(&packets[0].dts);
        // In plain files ffmpeg takes a frame's negative composition offset off the decode times, in fragments it
        // adds it to the presentation times: the first is as far from the second as two frames can be.
        let beyond = moved + shift.0;
        let negative = name.ends_with("negative_cts_offsets");
        assert!(
            beyond == 0 || negative && (0..70_000_000).contains(&beyond),
            "{name}: {stream} is moved by {moved} ns"
        );
        for (nth, (theirs, ours)) in packets.iter().zip(&ours[stream]).enumerate() {
            let what = format!("{name}: packet {nth} of stream {stream}");
            assert_eq!((&theirs.hash, theirs.flags.get(..1)), (&ours.hash, ours.flags.get(..1)), "{what}");
            for (theirs, ours) in [(&theirs.pts, &ours.pts), (&theirs.dts, &ours.dts)] {
                let beyond = nanos(ours) - nanos(theirs) - moved;
                // Six decimals are printed of each.
                assert!(beyond.abs() <= if negative { 1000 } else { 0 }, "{what}: {theirs} is {ours}");
            }
        }
    }
}

fn nanos(seconds: &str) -> i64 {
    let (sign, digits) = seconds.strip_prefix('-').map_or((1, seconds), |digits| (-1, digits));
    let (whole, micros) = digits.split_once('.').unwrap_or_else(|| panic!("{seconds} is no time"));
    sign * (whole.parse::<i64>().unwrap() * 1_000_000_000 + micros.parse::<i64>().unwrap() * 1000)
}

/// Decodes all of it: there must be nothing to complain about.
fn assert_silent(ffmpeg: &Path, file: &Path) {
    let mut command = Command::new(ffmpeg);
    let output = command.args(["-v", "error", "-i"]).arg(file).args(["-f", "null", "-"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty() && output.stdout.is_empty(), "{}: {said}", file.display());
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}
