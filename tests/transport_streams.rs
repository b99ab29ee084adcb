//! Real muxers and players against our MPEG-TS and FLV: what ffmpeg writes is read by us, what we write of it is read
//! by ffprobe, ffmpeg and GStreamer.
//!
//! The oracle is ffprobe's list of packets: times, flags and checksums in our file must be those in ffmpeg's own. Where
//! a tool is missing the test skips loudly, except with `CI` set, where that is a failure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use shardcast::clock::Instant;
use shardcast::container::{flv, mpegts};
use shardcast::limits::Limits;
use shardcast::media::{Codec, Frame, FrameKind, Media, Track};

#[path = "support/tools.rs"]
mod tools;

use tools::{Tool, found};

const H264: &str = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0 -pix_fmt yuv420p";
const H265: &str = "-c:v libx265 -preset ultrafast -x265-params keyint=25:bframes=2:log-level=none -pix_fmt yuv420p";
const AAC: &str = "-c:a aac -b:a 64k -ac 2";
const PICTURE: &str = "-f lavfi -i testsrc2=size=320x180:rate=30000/1001";
const SOUND: &str = "-f lavfi -i anoisesrc=amplitude=0.1:seed=7:sample_rate=48000";
/// Ticks of 90 kHz have 33 bits.
const WRAP: i64 = 1 << 33;

#[test]
fn h264_with_b_frames_and_aac_pass_through_mpeg_ts() {
    let Some(case) = Case::new() else { return };
    let ts = case.make("a.ts", &format!("{PICTURE} {SOUND} -t 3 {H264} {AAC}"));
    let (ours, frames) = case.passes(&ts, 2);
    case.decodes_in_gstreamer(&ours, "h264parse ! avdec_h264", frames[&Codec::H264]);
    case.segments_can_be_read_alone(&ts);
}

#[test]
fn h265_and_aac_pass_through_mpeg_ts() {
    let Some(case) = Case::new() else { return };
    let ts = case.make("a.ts", &format!("{PICTURE} {SOUND} -t 2 {H265} {AAC}"));
    let (ours, frames) = case.passes(&ts, 2);
    case.decodes_in_gstreamer(&ours, "h265parse ! avdec_h265", frames[&Codec::H265]);
    case.segments_can_be_read_alone(&ts);
}

#[test]
fn every_codec_of_sound_passes_through_mpeg_ts() {
    let Some(case) = Case::new() else { return };
    for codec in ["libmp3lame -b:a 128k", "ac3 -b:a 192k", "eac3 -b:a 192k", "libopus -b:a 64k", "aac -b:a 64k"] {
        let ts = case.make("a.ts", &format!("{PICTURE} {SOUND} -t 2 {H264} -c:a {codec} -ac 2"));
        case.passes(&ts, 2);
    }
}

#[test]
fn sound_alone_and_pictures_alone_pass_through_mpeg_ts() {
    let Some(case) = Case::new() else { return };
    let ts = case.make("sound.ts", &format!("{SOUND} -t 2 {AAC}"));
    let (ours, frames) = case.passes(&ts, 1);
    assert!(frames[&Codec::Aac] > 90);
    let program = case.probe(&ours).streams.len();
    assert_eq!(program, 1);
    let ts = case.make("pictures.ts", &format!("{PICTURE} -t 2 {H264}"));
    case.passes(&ts, 1);
}

/// 26.5 hours after its begin a stream has used up its 33 bits.
#[test]
fn a_stream_whose_timestamps_wrap_around_passes_through_mpeg_ts() {
    let Some(case) = Case::new() else { return };
    let offset = WRAP / 90_000 - 2;
    let ts = case.make("a.ts", &format!("{PICTURE} {SOUND} -t 3 {H264} {AAC} -output_ts_offset {offset}"));
    let read = read_ts(&fs::read(&ts).unwrap());
    let first = read.frames.iter().map(|frame| frame.dts.as_ticks(90_000)).min();
    let last = read.frames.iter().map(|frame| frame.dts.as_ticks(90_000)).max();
    assert!(first < Some(WRAP) && last > Some(WRAP), "{first:?} to {last:?}: time goes on");
    case.passes(&ts, 2);
}

#[test]
fn several_tracks_keep_their_languages() {
    let Some(case) = Case::new() else { return };
    let maps = "-map 0:v -map 1:a -map 1:a -metadata:s:a:0 language=deu -metadata:s:a:1 language=fra";
    let ts = case.make("a.ts", &format!("{PICTURE} {SOUND} -t 1 {maps} {H264} {AAC}"));
    let (ours, _) = case.passes(&ts, 3);
    let languages = |tracks: &[Track]| tracks.iter().filter_map(|track| track.language.clone()).collect::<Vec<_>>();
    assert_eq!(languages(&read_ts(&fs::read(&ts).unwrap()).tracks), ["de".into(), "fr".into()]);
    assert_eq!(case.probe(&ours).languages(), ["deu", "fra"]);
}

#[test]
fn a_stream_that_lost_packets_is_read_on_without_what_was_damaged() {
    let Some(case) = Case::new() else { return };
    let ts = case.make("a.ts", &format!("{PICTURE} {SOUND} -t 3 {H264} {AAC}"));
    let whole = fs::read(&ts).unwrap();
    let kept = whole.chunks(188).enumerate().filter(|(n, _)| n % 97 != 50).map(|(_, packet)| packet);
    // Besides, a byte in the middle of the stream that belongs to nothing.
    let mut bytes = kept.collect::<Vec<_>>().concat();
    bytes.insert(bytes.len() / 2, 0x47);
    let (before, after) = (read_ts(&whole), read_ts(&bytes));
    assert!(after.counters.continuity_errors > 3 && after.counters.sync_losses == 1, "{:?}", after.counters);
    assert!(after.frames.len() < before.frames.len() && after.frames.len() > before.frames.len() / 2);
    // What is left out is left out whole: all that is there is as it was.
    let all: Vec<_> = before.frames.iter().map(|frame| (frame.track, frame.dts, &frame.payload)).collect();
    assert!(after.frames.iter().all(|frame| all.contains(&(frame.track, frame.dts, &frame.payload))));
}

#[test]
fn flv_passes_through_ours() {
    let Some(case) = Case::new() else { return };
    for (codecs, streams) in [
        (format!("{PICTURE} {SOUND} -t 3 {H264} {AAC}"), 2),
        (format!("{SOUND} -t 2 {AAC}"), 1),
        (format!("{PICTURE} {SOUND} -t 2 {H264} -c:a libmp3lame -ar 44100"), 2),
    ] {
        let file = case.make("a.flv", &codecs);
        let (tracks, frames) = read_flv(&fs::read(&file).unwrap());
        let ours = case.file("ours.flv");
        fs::write(&ours, write_flv(&tracks, &frames)).unwrap();
        let (theirs, our) = (case.probe(&file), case.probe(&ours));
        assert_eq!(our.streams.len(), streams);
        theirs.assert_same(&our, 0);
        case.decodes(&ours);
    }
}

#[test]
fn what_was_flv_is_the_same_in_mpeg_ts() {
    let Some(case) = Case::new() else { return };
    let file = case.make("a.flv", &format!("{PICTURE} {SOUND} -t 3 {H264} {AAC}"));
    let (tracks, frames) = read_flv(&fs::read(&file).unwrap());
    let ours = case.file("ours.ts");
    fs::write(&ours, write_ts(&tracks, &frames)).unwrap();
    case.decodes(&ours);
    // It begins at 0, before which there is no time for a clock that runs ahead.
    let pictures = frames.iter().filter(|frame| frame.is_video()).count();
    case.decodes_in_gstreamer(&ours, "h264parse ! avdec_h264", pictures);

    // ffmpeg's own way there, on the same timeline. It has other start codes, so the pictures are compared.
    let theirs = case.file("theirs.ts");
    case.ffmpeg(&format!("-copyts -i {} -c copy -muxdelay 0 -muxpreload 0 {}", file.display(), theirs.display()));
    let (mut their, mut our) = (case.probe(&theirs), case.probe(&ours));
    for probe in [&mut their, &mut our] {
        let video = probe.streams.values_mut().filter(|stream| stream.name == "h264");
        video.flat_map(|stream| &mut stream.packets).for_each(Packet::forget_bytes);
    }
    // Nor does it keep the milliseconds of FLV: it gives frames of sound the times that their rate says.
    their.assert_same(&our, 90);
    assert_eq!(case.decoded_pictures(&ours), case.decoded_pictures(&theirs));
}

// ---- reading and writing with ours

struct Read {
    tracks: Vec<Track>,
    frames: Vec<Frame>,
    counters: mpegts::DemuxCounters,
}

fn read_ts(bytes: &[u8]) -> Read {
    let mut demuxer = mpegts::Demuxer::new(mpegts::DemuxLimits::from(&Limits::default()));
    let mut read = Read { tracks: Vec::new(), frames: Vec::new(), counters: demuxer.counters() };
    // As datagrams would bring it, but not at packet boundaries.
    for piece in bytes.chunks(1316 + 7) {
        demuxer.push(Instant::ZERO, piece).expect("no frame is too long");
    }
    demuxer.finish(Instant::ZERO).expect("no frame is too long");
    while let Some(event) = demuxer.poll() {
        match event {
            mpegts::Event::Track(track) => keep(&mut read.tracks, *track),
            mpegts::Event::Frame(frame) => read.frames.push(frame),
            other => panic!("{other:?}"),
        }
    }
    read.counters = demuxer.counters();
    read
}

fn write_ts(tracks: &[Track], frames: &[Frame]) -> Vec<u8> {
    let mut muxer = mpegts::Muxer::new(tracks).expect("there are tracks");
    frames.iter().flat_map(|frame| muxer.write(frame).expect("it can be written")).collect()
}

fn read_flv(bytes: &[u8]) -> (Vec<Track>, Vec<Frame>) {
    let (mut reader, mut tracks, mut frames) = (flv::Reader::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(4096) {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(event) = reader.poll(Instant::ZERO).expect("it is FLV") {
            match event {
                flv::Event::Track(track) => keep(&mut tracks, *track),
                flv::Event::Frame(frame) => frames.push(frame),
                other => panic!("{other:?}"),
            }
        }
    }
    (tracks, frames)
}

fn write_flv(tracks: &[Track], frames: &[Frame]) -> Vec<u8> {
    let has = |media: Media| tracks.iter().any(|track| track.codec.media() == media);
    let mut writer = flv::Writer::new(false);
    let mut out = flv::file_header(has(Media::Video), has(Media::Audio)).to_vec();
    out.extend(frames.iter().filter_map(|frame| writer.write(frame)).flat_map(|tag| tag.to_bytes()));
    out
}

fn keep(tracks: &mut Vec<Track>, track: Track) {
    tracks.retain(|other| other.id != track.id);
    tracks.push(track);
}

// ---- looking at files with theirs

/// One test: its directory, and the tools.
struct Case(PathBuf);

impl Drop for Case {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

impl Case {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !found(&[Tool::Ffmpeg, Tool::Gstreamer]) {
            return None;
        }
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transport_streams").join(name);
        fs::create_dir_all(&path).expect("the test's directory can be made");
        Some(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn ffmpeg(&self, arguments: &str) {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-y"]).args(arguments.split(' '));
        run(&mut command);
    }

    /// Encodes a file.
    fn make(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.file(name);
        self.ffmpeg(&format!("{arguments} {}", path.display()));
        path
    }

    /// Reads ffmpeg's file, compares what was read with what ffprobe reads, writes it and compares the two files.
    /// Gives ours and the number of frames by codec.
    fn passes(&self, ts: &Path, streams: usize) -> (PathBuf, BTreeMap<Codec, usize>) {
        let read = read_ts(&fs::read(ts).unwrap());
        let counters = read.counters;
        assert_eq!(
            (counters.continuity_errors, counters.sync_losses, counters.bad_frames, counters.damaged_pes),
            (0, 0, 0, 0)
        );
        let theirs = self.probe(ts);
        assert_eq!((read.tracks.len(), theirs.streams.len()), (streams, streams));
        let mut frames = BTreeMap::new();
        for (track, packets) in read.tracks.iter().zip(theirs.in_order_of(&read.tracks)) {
            let mut own: Vec<&Frame> =
                read.frames.iter().filter(|one| one.track == track.id && one.kind != FrameKind::Config).collect();
            frames.insert(track.codec, own.len());
            own.sort_by_key(|frame| frame.dts);
            let times = |frame: &&Frame| (frame.pts.as_ticks(90_000), frame.dts.as_ticks(90_000));
            let expected: Vec<_> = packets.iter().map(|packet| (packet.pts, packet.dts)).collect();
            same_times(&own.iter().map(times).collect::<Vec<_>>(), &expected, 1);
            if track.codec.media() == Media::Video {
                let keys = own.iter().map(|frame| frame.is_key());
                assert!(keys.eq(packets.iter().map(|packet| packet.flags.starts_with('K'))));
            }
        }

        let ours = self.file("ours.ts");
        fs::write(&ours, write_ts(&read.tracks, &read.frames)).unwrap();
        theirs.assert_same(&self.probe(&ours), 1);
        self.decodes(&ours);
        (ours, frames)
    }

    /// ffmpeg decodes all of it and has nothing to say.
    fn decodes(&self, file: &Path) {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-xerror", "-i"]).arg(file).args("-map 0 -f null -".split(' '));
        let said = run(&mut command);
        assert_eq!(said.1, "", "{}", file.display());
    }

    /// The checksum of all pictures.
    fn decoded_pictures(&self, file: &Path) -> String {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-i"]).arg(file).args("-map 0:v -f md5 -".split(' '));
        run(&mut command).0
    }

    /// As many pictures come out as frames went in.
    fn decodes_in_gstreamer(&self, file: &Path, decoder: &str, pictures: usize) {
        let raw = self.file("pictures.yuv");
        let line = format!(
            "filesrc location={} ! tsdemux name=d d. ! queue ! {decoder} ! filesink location={} \
             d. ! queue ! aacparse ! avdec_aac ! fakesink",
            file.display(),
            raw.display()
        );
        let mut command = Command::new("gst-launch-1.0");
        command.arg("-q").args(line.split_whitespace());
        run(&mut command);
        let bytes = fs::metadata(&raw).expect("GStreamer wrote it").len();
        assert_eq!(bytes, u64::try_from(pictures).unwrap() * 320 * 180 * 3 / 2);
    }

    /// What we write is cut at keyframes; each piece decodes, beginning with one.
    fn segments_can_be_read_alone(&self, ts: &Path) {
        let read = read_ts(&fs::read(ts).unwrap());
        let mut muxer = mpegts::Muxer::new(&read.tracks).unwrap();
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for frame in &read.frames {
            if frame.is_key() {
                segments.push(Vec::new());
            }
            let bytes = muxer.write(frame).unwrap();
            if let Some(segment) = segments.last_mut() {
                segment.extend_from_slice(&bytes);
            }
        }
        assert!(segments.len() > 1, "{} segments", segments.len());
        for segment in segments {
            let file = self.file("segment.ts");
            fs::write(&file, segment).unwrap();
            self.decodes(&file);
            let video = self.probe(&file).streams.into_values().find(|stream| stream.name.starts_with('h'));
            assert!(video.expect("there are pictures").packets[0].flags.starts_with('K'));
        }
    }

    fn probe(&self, file: &Path) -> Probe {
        let mut command = Command::new("ffprobe");
        command.args("-v error -of json -show_packets -show_streams -show_data_hash md5".split(' ')).arg(file);
        let json: serde_json::Value = serde_json::from_str(&run(&mut command).0).expect("ffprobe speaks JSON");
        let mut probe = Probe { streams: BTreeMap::new() };
        for stream in json["streams"].as_array().expect("there are streams") {
            let text = |name: &str| stream[name].to_string();
            let known = ["codec_name", "width", "height", "sample_rate", "channels", "has_b_frames"].map(text);
            let language = stream["tags"]["language"].as_str().map(str::to_owned);
            let name = stream["codec_name"].as_str().unwrap_or_default().to_owned();
            let index = stream["index"].as_u64().expect("streams are counted");
            probe.streams.insert(index, Stream { name, known, language, packets: Vec::new() });
        }
        for packet in json["packets"].as_array().expect("there are packets") {
            let number = |name: &str| packet[name].as_i64().unwrap_or_else(|| panic!("no {name} in {packet}"));
            let index = packet["stream_index"].as_u64().expect("packets are of a stream");
            probe.streams.get_mut(&index).expect("a stream that was told").packets.push(Packet {
                pts: number("pts"),
                dts: number("dts"),
                size: packet["size"].to_string(),
                flags: packet["flags"].as_str().unwrap_or_default().to_owned(),
                hash: packet["data_hash"].to_string(),
            });
        }
        probe
    }
}

/// What ffprobe says of a file.
struct Probe {
    streams: BTreeMap<u64, Stream>,
}

struct Stream {
    name: String,
    known: [String; 6],
    language: Option<String>,
    packets: Vec<Packet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    pts: i64,
    dts: i64,
    size: String,
    flags: String,
    hash: String,
}

impl Packet {
    fn forget_bytes(&mut self) {
        (self.size, self.hash) = (String::new(), String::new());
    }
}

impl Probe {
    /// The packets of each of our tracks.
    fn in_order_of(&self, tracks: &[Track]) -> Vec<Vec<Packet>> {
        let mut names: Vec<_> = tracks.iter().map(|track| (track.codec.media() != Media::Video, track.id)).collect();
        names.sort_unstable();
        let streams: Vec<_> = self.streams.values().map(|stream| stream.packets.clone()).collect();
        tracks
            .iter()
            .map(|track| {
                let name = (track.codec.media() != Media::Video, track.id);
                streams[names.iter().position(|other| *other == name).unwrap()].clone()
            })
            .collect()
    }

    fn languages(&self) -> Vec<&str> {
        self.streams.values().filter_map(|stream| stream.language.as_deref()).collect()
    }

    /// The same streams with the same packets, at the same times but for so many ticks.
    fn assert_same(&self, other: &Self, ticks: i64) {
        let known = |probe: &Self| probe.streams.values().map(|stream| stream.known.clone()).collect::<Vec<_>>();
        assert_eq!(known(self), known(other));
        for (theirs, ours) in self.streams.values().zip(other.streams.values()) {
            let times = |stream: &Stream| stream.packets.iter().map(|one| (one.pts, one.dts)).collect::<Vec<_>>();
            same_times(&times(ours), &times(theirs), ticks);
            for (n, (theirs, ours)) in theirs.packets.iter().zip(&ours.packets).enumerate() {
                let bytes = |packet: &Packet| (packet.size.clone(), packet.flags.clone(), packet.hash.clone());
                assert_eq!(bytes(ours), bytes(theirs), "packet {n}: {ours:?} {theirs:?}");
            }
        }
    }
}

/// As many, and each as late, modulo the wrap and but for so many ticks: a time that was worked out from a rate may be
/// one off.
fn same_times(ours: &[(i64, i64)], theirs: &[(i64, i64)], ticks: i64) {
    assert_eq!(ours.len(), theirs.len());
    let near = |a: i64, b: i64| (a - b + ticks).rem_euclid(WRAP) <= 2 * ticks;
    for (n, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!(near(ours.0, theirs.0) && near(ours.1, theirs.1), "packet {n}: {ours:?}, not {theirs:?}");
    }
}

/// Output and errors of a command that ends well.
fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{err}", output.status);
    (out, err)
}
