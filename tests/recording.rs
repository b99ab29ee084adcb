//! Recordings of a process that is killed in the middle of it, again and again: what was told to be recorded is there
//! afterwards, the index agrees with the files, our demuxer reads them, and ffmpeg has nothing to complain about.
//!
//! Where a tool is missing its test skips loudly, except with `CI` set, where that is a failure.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use bytes::Bytes;
use shardcast::Router;
use shardcast::clock::Now;
use shardcast::container::{flv, fmp4, mpegts};
use shardcast::extension::{FrameSource, SourcePoll, StorageBackend};
use shardcast::id::StreamKey;
use shardcast::limits::Limits;
use shardcast::media::{Codec, Frame, FrameKind, Timestamp};
use shardcast::protocol::PlayOptions;
use shardcast::record::recorder::{
    ContainerFormat, RecordSpec, RecorderPool, SegmentEntry, index_name, read_index, repair,
};
use shardcast::record::storage::FileSystem;
use shardcast::stream::{Absent, AppSpec};

#[path = "support/tools.rs"]
mod tools;

use tools::{Tool, found};

/// Tells the child where to record, and in which container.
const FOLDER: &str = "SHARDCAST_RECORDING_FOLDER";
const FORMAT: &str = "SHARDCAST_RECORDING_FORMAT";
const FORMATS: [ContainerFormat; 3] = [ContainerFormat::Fmp4, ContainerFormat::MpegTs, ContainerFormat::Flv];
/// So much faster than time does the child's publisher send.
const SPEED: u32 = 8;
const KILLS: u64 = 6;

/// libx264, Main, 318x178.
const AVCC: &[u8] = &[
    1, 0x4d, 0x40, 0x0d, 0xff, 0xe1, 0, 0x17, 0x67, 0x4d, 0x40, 0x0d, 0xec, 0xa0, 0xa0, 0xcf, 0x51, 0x18, 0x08, 0x80,
    0, 0x01, 0xf4, 0x80, 0x07, 0x53, 0x00, 0x78, 0xa1, 0x4c, 0xb0, 1, 0, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];
/// AAC LC, 48 kHz, stereo.
const ASC: &[u8] = &[0x11, 0x90];

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_had_recorded() {
    for format in FORMATS {
        let folder = Folder::new("killed");
        let told = record_and_kill(&folder, format);
        let (entries, _) = check(&folder, format, told);
        assert!(entries.iter().filter(|entry| entry.recovered).count() >= 2, "{format:?}: {entries:?}");
    }
}

#[test]
fn ffmpeg_plays_what_a_process_that_was_killed_has_recorded() {
    if !found(&[Tool::Ffmpeg]) {
        return;
    }
    for format in FORMATS {
        let folder = Folder::new("played");
        let ffmpeg = Tool::Ffmpeg.path().expect("the test has asked for it");
        let mut command = Command::new(&ffmpeg);
        let input = "-v error -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 -t 6";
        let codecs = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0 -pix_fmt yuv420p -c:a aac -ac 2";
        let output = "-movflags frag_keyframe+empty_moov+default_base_moof";
        command.args([input, codecs, output].join(" ").split(' ')).arg(folder.0.join("source.mp4"));
        assert!(command.status().expect("ffmpeg runs").success());

        let told = record_and_kill(&folder, format);
        let (entries, files) = check(&folder, format, told);
        for (entry, file) in entries.iter().zip(files) {
            let mut command = Command::new(&ffmpeg);
            let played = command.args(["-v", "error", "-xerror", "-i"]).arg(&file).args(["-f", "null", "-"]);
            let played = played.output().expect("ffmpeg runs");
            let said = String::from_utf8_lossy(&played.stderr);
            assert!(played.status.success() && said.is_empty(), "{}: {said}", file.display());

            let mut command = Command::new(ffmpeg.with_file_name("ffprobe"));
            command.args(["-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets,codec_name"]);
            let probed = command.args(["-of", "csv=p=0"]).arg(&file).output().expect("ffprobe runs");
            let probed = String::from_utf8_lossy(&probed.stdout).into_owned();
            // Of a program it tells twice.
            let once = probed.lines().take_while(|line| !line.is_empty());
            let packets = once.filter_map(|line| line.split(',').nth(1)?.trim().parse::<u64>().ok());
            assert_eq!(packets.sum::<u64>(), entry.frames, "{entry:?}\n{probed}");
        }
    }
}

/// Records in a child that is killed at some moment, several times to one folder. Gives how many frames the children
/// have said were recorded.
fn record_and_kill(folder: &Folder, format: ContainerFormat) -> u64 {
    let mut told = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().expect("a test has a file"));
        child.args(["--exact", "the_child_that_records", "--nocapture"]);
        child.env(FOLDER, &folder.0).env(FORMAT, format.extension()).stdout(Stdio::piped());
        let mut child = child.spawn().expect("the test can be run again");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let lines = lines.map_while(Result::ok);
        let mut said = lines.filter_map(|line| line.split("recorded ").nth(1)?.strip_suffix(" frames")?.parse().ok());
        let begun = said.find(|frames: &u64| *frames > 0).expect("it records until it is killed");
        // Some moment, another one each time.
        thread::sleep(Duration::from_millis(100 + kill * 7919 % 613));
        child.kill().expect("it runs until it is killed");
        child.wait().expect("it was started");
        told += said.max().unwrap_or(begun);
    }
    assert!(told > 100, "the children have recorded {told} frames");
    told
}

/// Not a test of its own: what the others start, and kill.
#[test]
fn the_child_that_records() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let format = FORMATS.into_iter().find(|format| env::var(FORMAT).is_ok_and(|name| name == format.extension()));
    let router = Router::builder().shards(1).app(AppSpec::new("live").absent(Absent::Wait(Duration::from_secs(5))));
    let router = router.start().expect("a router starts");
    let storage: Arc<dyn StorageBackend> = Arc::new(FileSystem::open(folder.join("root")).expect("the folder opens"));
    let pool = RecorderPool::start(storage, router.clock(), 1).expect("there are threads");
    let spec = RecordSpec::default()
        .format(format.expect("one of three"))
        .segment_duration(Duration::from_secs(2))
        .fragment_duration(Duration::from_millis(300));
    let (sink, recorder) = pool.record(&key(), spec).expect("the name is short");
    router.attach(&key(), PlayOptions::instant(), Box::new(sink)).expect("the application is there");
    let source = Endless { frames: frames(&folder.join("source.mp4")), at: 0, start: None };
    router.run_source(&key(), Box::new(source)).expect("nobody else publishes");
    loop {
        println!("recorded {} frames", recorder.stats().recorded);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends its frames over and over again, with time going on.
struct Endless {
    frames: Vec<Frame>,
    at: usize,
    start: Option<Now>,
}

impl FrameSource for Endless {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let start = self.start.get_or_insert(now).mono;
        let (lap, at) = (self.at / self.frames.len(), self.at % self.frames.len());
        let lap = Timestamp::from_millis(6000 * i64::try_from(lap).expect("laps are few"));
        let mut frame = self.frames[at].clone();
        (frame.dts, frame.pts) = (frame.dts + lap, frame.pts + lap);
        let due = start + Duration::from_nanos(frame.dts.0.unsigned_abs()) / SPEED;
        if due > now.mono {
            return SourcePoll::NotBefore(due);
        }
        self.at += 1;
        SourcePoll::Frame(frame)
    }
}

/// Six seconds of ffmpeg's, if there are, or of bytes that look like it.
fn frames(source: &Path) -> Vec<Frame> {
    let mut frames = Vec::new();
    if let Ok(file) = fs::read(source) {
        let (mut rest, mut demuxer) = (Bytes::from(file), fmp4::Demuxer::new());
        while let Some(event) = demuxer.push(&mut rest).expect("ffmpeg has written it") {
            match event {
                fmp4::Event::Track(track) => {
                    frames.push(Frame::config(track.codec, Timestamp::ZERO, track.config).on_track(track.id));
                }
                fmp4::Event::Frame(frame) => frames.push(frame),
            }
        }
        // A stream comes in order of time, and its pictures begin where the sound does.
        frames.retain(|frame| frame.kind == FrameKind::Config || frame.dts >= Timestamp::ZERO);
        frames.sort_by_key(|frame| (frame.kind != FrameKind::Config, frame.dts));
        return frames;
    }
    frames.push(Frame::config(Codec::H264, Timestamp::ZERO, Bytes::from_static(AVCC)));
    frames.push(Frame::config(Codec::Aac, Timestamp::ZERO, Bytes::from_static(ASC)));
    for number in 0..150_i64 {
        let time = Timestamp::from_millis(number * 40);
        let key = number % 25 == 0;
        let mut payload = vec![0, 0, 0x10, 1, if key { 0x65 } else { 0x41 }];
        payload.resize(0x1000 + 5, 0xAB);
        frames.push(Frame::video(Codec::H264, key, time, time, payload.into()));
        for half in 0..2 {
            let time = Timestamp::from_millis(number * 40 + half * 20);
            frames.push(Frame::audio(Codec::Aac, time, Bytes::from(vec![0xCD; 200])));
        }
    }
    frames
}

/// Repairs what is there, and checks it against the index: every file, frame by frame.
fn check(folder: &Folder, format: ContainerFormat, told: u64) -> (Vec<SegmentEntry>, Vec<PathBuf>) {
    let storage = FileSystem::open(folder.0.join("root")).expect("the folder opens");
    // Each child but the last one has had its leftovers brought in by the next.
    assert!(repair(&storage).expect("the disk works") <= 1);
    let entries = read_index(&storage, &index_name(&key()).expect("a short name")).expect("there is an index");
    let mut files = Vec::new();
    let each = &mut |info: shardcast::extension::ObjectInfo| {
        files.extend((!info.name.as_str().ends_with(".jsonl")).then_some((info.name, info.bytes)));
        ControlFlow::Continue(())
    };
    storage.list(None, each).expect("the disk works");
    files.sort();
    // A file that was made a moment before the kill, and that nothing was written to, is nobody's.
    files.retain(|(_, bytes)| *bytes > 0);
    let mut indexed: Vec<_> = entries.iter().map(|entry| (entry.name.clone(), entry.bytes)).collect();
    indexed.sort();
    assert_eq!(indexed, files, "{format:?}: files and index agree");

    let recorded: u64 = entries.iter().map(|entry| entry.frames).sum();
    assert!(recorded >= told, "{format:?}: {recorded} frames are there, {told} were told");
    let mut paths = Vec::new();
    for entry in &entries {
        assert!(entry.keyframe && entry.gaps.is_empty() && entry.duration_ms <= 4100, "{entry:?}");
        let path = folder.0.join("root").join(entry.name.as_str());
        assert_eq!(demuxed(&fs::read(&path).expect("it is listed"), format), entry.frames, "{entry:?}");
        paths.push(path);
    }
    (entries, paths)
}

/// Frames that our own demuxer finds in a file that must be whole.
fn demuxed(file: &[u8], format: ContainerFormat) -> u64 {
    let mut rest = Bytes::copy_from_slice(file);
    let mut frames = 0;
    let now = shardcast::clock::Instant::ZERO;
    match format {
        ContainerFormat::Fmp4 => {
            let mut demuxer = fmp4::Demuxer::new();
            while let Some(event) = demuxer.push(&mut rest).expect("it is whole") {
                frames += u64::from(matches!(event, fmp4::Event::Frame(_)));
            }
            assert!(demuxer.is_at_end(), "it ends within a fragment");
        }
        ContainerFormat::MpegTs => {
            let mut demuxer = mpegts::Demuxer::new((&Limits::default()).into());
            demuxer.push(now, file).and_then(|()| demuxer.finish(now)).expect("it is whole");
            while let Some(event) = demuxer.poll() {
                let frame = matches!(&event, mpegts::Event::Frame(frame) if frame.kind != FrameKind::Config);
                frames += u64::from(frame);
            }
            assert_eq!(demuxer.counters().skipped_bytes + demuxer.counters().continuity_errors, 0);
        }
        _ => {
            let mut reader = flv::Reader::default();
            reader.push(rest);
            while let Some(event) = reader.poll(now).expect("it is whole") {
                let frame = matches!(&event, flv::Event::Frame(frame) if frame.kind != FrameKind::Config);
                frames += u64::from(frame);
            }
            // The length of the last tag.
            assert_eq!(reader.held_bytes(), 4);
        }
    }
    frames
}

fn key() -> StreamKey {
    StreamKey::parse("live/cam").expect("a name")
}

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("shardcast-recording-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
