//! A recorder with its sink in hand, storages that fail on command, and what is in the files afterwards.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::recover::read;
use super::shared::Shared;
use super::sink::Message;
use super::stream::StreamWriter;
use super::*;
use crate::clock::{Instant, Now, Wall};
use crate::container::fmp4::Demuxer;
use crate::extension::{FrameSink, ObjectInfo, ObjectName, ObjectWriter, SinkVerdict, StorageBackend, StorageError};
use crate::id::StreamKey;
use crate::media::{Codec, Frame, FrameFlags, Timestamp, TrackId};
use crate::record::storage::Memory;

/// libx264, Main, 318x178.
const AVCC: &[u8] = &[
    1, 0x4d, 0x40, 0x0d, 0xff, 0xe1, 0, 0x17, 0x67, 0x4d, 0x40, 0x0d, 0xec, 0xa0, 0xa0, 0xcf, 0x51, 0x18, 0x08, 0x80,
    0, 0x01, 0xf4, 0x80, 0x07, 0x53, 0x00, 0x78, 0xa1, 0x4c, 0xb0, 1, 0, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];
/// AAC LC, 48 kHz, stereo.
const ASC: &[u8] = &[0x11, 0x90];
/// 2024-02-29T23:59:59.007Z.
const START: Wall = Wall(1_709_251_199_007_000_000);

pub(super) fn video_config() -> Frame {
    Frame::config(Codec::H264, Timestamp::ZERO, Bytes::from_static(AVCC))
}

pub(super) fn audio_config() -> Frame {
    Frame::config(Codec::Aac, Timestamp::ZERO, Bytes::from_static(ASC))
}

/// A picture of this number: 25 per second, a keyframe each second. Its bytes say which it is.
pub(super) fn picture(number: i64) -> Frame {
    let key = number % 25 == 0;
    let time = Timestamp::from_millis(number * 40);
    let mut payload = vec![0, 0, 0, 101, if key { 0x65 } else { 0x41 }];
    payload.extend([number.to_be_bytes()[7]; 100]);
    Frame::video(Codec::H264, key, time, time, payload.into())
}

fn sound(number: i64) -> Frame {
    Frame::audio(Codec::Aac, Timestamp::from_millis(number * 20), Bytes::from(vec![number.to_be_bytes()[7]; 50]))
}

/// So many seconds of pictures and sound, in order of time.
pub(super) fn seconds(range: Range<i64>) -> Vec<Frame> {
    let frames = (range.start * 25..range.end * 25).flat_map(|n| [picture(n), sound(2 * n), sound(2 * n + 1)]);
    frames.collect()
}

pub(super) fn key() -> StreamKey {
    StreamKey::parse("live/cam").unwrap()
}

/// The storage thread of one recording, step by step.
struct World {
    storage: Arc<dyn StorageBackend>,
    shared: Arc<Shared>,
    writer: StreamWriter,
    /// Moves on with the frames.
    now: Now,
}

impl World {
    fn new(storage: impl StorageBackend + 'static, spec: RecordSpec) -> Self {
        Self::on(Arc::new(storage), spec, START)
    }

    fn on(storage: Arc<dyn StorageBackend>, spec: RecordSpec, start: Wall) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = StreamWriter::new(Arc::clone(&storage), key(), spec, Arc::clone(&shared));
        let mut world = Self { storage, shared, writer, now: Now { mono: Instant(1), wall: start } };
        world.feed([video_config(), audio_config()]);
        world
    }

    fn feed(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            if frame.kind != crate::media::FrameKind::Config {
                self.shared.frames.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            if frame.is_video() {
                self.now.mono = self.now.mono + Duration::from_millis(40);
                self.now.wall.0 += 40_000_000;
            }
            self.writer.on_frame(frame, self.now);
        }
    }

    fn finish(mut self) -> (RecorderStats, Arc<dyn StorageBackend>) {
        self.writer.finish([(GapCause::Queue, 0), (GapCause::Router, 0)], self.now);
        let stats = self.shared.stats(0);
        assert_eq!(stats.frames, stats.recorded + stats.left_out + stats.lost(), "{stats:?}");
        (stats, self.storage)
    }
}

pub(super) fn index(storage: &dyn StorageBackend) -> Vec<SegmentEntry> {
    read_index(storage, &index_name(&key()).unwrap()).unwrap()
}

pub(super) fn objects(storage: &dyn StorageBackend) -> Vec<ObjectInfo> {
    let mut found = Vec::new();
    let each = &mut |info| {
        found.push(info);
        ControlFlow::Continue(())
    };
    storage.list(None, each).unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Files and index say the same, and every file has the frames that the index says it has.
pub(super) fn assert_agrees(storage: &dyn StorageBackend) -> Vec<SegmentEntry> {
    let entries = index(storage);
    let files = objects(storage).into_iter().filter(|info| !info.name.as_str().ends_with(".jsonl"));
    let files: Vec<_> = files.map(|info| (info.name, info.bytes)).collect();
    let mut told: Vec<_> = entries.iter().map(|entry| (entry.name.clone(), entry.bytes)).collect();
    told.sort();
    assert_eq!(told, files);
    for entry in &entries {
        let seen = read(storage, &entry.name, entry.format).unwrap();
        assert_eq!(seen.frames, entry.frames, "{entry:?}");
        assert!((seen.duration() / 1_000_000).abs_diff(entry.duration_ms) <= 45, "{} {entry:?}", seen.duration());
        assert_eq!(seen.keyframe, entry.keyframe);
        assert!(entry.codecs.len() == 2 || entry.recovered, "{entry:?}");
    }
    entries
}

pub(super) fn spec() -> RecordSpec {
    RecordSpec::default().segment_duration(Duration::from_secs(4))
}

#[test]
fn segments_begin_at_keyframes_and_hold_every_frame_in_each_container() {
    for format in [ContainerFormat::Fmp4, ContainerFormat::MpegTs, ContainerFormat::Flv] {
        let mut world = World::new(Memory::new(1 << 30), spec().format(format));
        world.feed(seconds(0..10));
        let (stats, storage) = world.finish();

        assert_eq!((stats.recorded, stats.segments, stats.lost()), (10 * 75, 3, 0), "{format:?}: {stats:?}");
        let entries = assert_agrees(&*storage);
        let told: Vec<_> = entries.iter().map(|entry| (entry.number, entry.frames, entry.keyframe)).collect();
        assert_eq!(told, [(1, 300, true), (2, 300, true), (3, 150, true)], "{format:?}");
        assert_eq!(entries.iter().map(|entry| entry.discontinuity).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(entries[0].codecs, ["avc1.4d400d", "mp4a.40.2"]);
        let extension = format.extension();
        assert_eq!(entries[1].name.as_str(), format!("live/cam/2024-03-01T00-00-03-000002.{extension}"));
        assert_eq!((entries[0].duration_ms, entries[0].end.0 - entries[0].start.0), (4000, 4_000_000_000));
        assert!(entries.iter().all(|entry| entry.gaps.is_empty()));
    }
}

#[test]
fn segments_end_by_size_and_without_a_keyframe_at_twice_of_it() {
    let mut world = World::new(Memory::new(1 << 30), spec().segment_bytes(11_000));
    world.feed(seconds(0..6));
    let (_, storage) = world.finish();
    let entries = assert_agrees(&*storage);
    assert!(entries.len() == 6 / 2 && entries.iter().all(|entry| entry.keyframe), "{entries:?}");

    let mut world = World::new(Memory::new(1 << 30), spec());
    let all_deltas = seconds(0..20).into_iter().enumerate();
    world.feed(all_deltas.filter(|(n, frame)| *n == 0 || !frame.is_key()).map(|(_, frame)| frame));
    let (_, storage) = world.finish();
    let told: Vec<_> = assert_agrees(&*storage).iter().map(|it| (it.duration_ms / 1000, it.keyframe)).collect();
    assert_eq!(told[..2], [(8, true), (8, false)], "{told:?}");
}

#[test]
fn each_fragment_is_on_storage_as_soon_as_it_is_complete() {
    let mut world = World::new(Memory::new(1 << 30), spec());
    world.feed(seconds(0..1));
    assert_eq!(world.shared.stats(0).fragments, 0);
    world.feed([picture(25)]);
    let stats = world.shared.stats(0);
    assert_eq!((stats.fragments, stats.recorded), (1, 75));
    // A stream that stands still is written all the same.
    world.now.mono = world.now.mono + Duration::from_secs(2);
    world.writer.tidy(world.now);
    assert_eq!(world.shared.stats(0).recorded, 76);
}

#[test]
fn another_configuration_another_publisher_and_another_time_begin_another_segment() {
    let mut world = World::new(Memory::new(1 << 30), RecordSpec::default());
    world.feed(seconds(0..1));
    let mut other = AVCC.to_vec();
    other[1] = 0x4e;
    world.feed([Frame { payload: other.into(), ..video_config() }]);
    world.feed(seconds(1..2));
    // The flag may be on a frame that is none to begin with.
    world.feed([Frame { flags: FrameFlags::DISCONTINUITY, ..sound(100) }]);
    world.feed(seconds(2..3).into_iter().skip(75 - 3));
    world.feed(seconds(3..4));
    world.feed(seconds(400..401));
    world.feed(seconds(1..2));
    let (stats, storage) = world.finish();
    assert_eq!(stats.lost(), 0, "{stats:?}");
    let entries = index(&*storage);
    let told: Vec<_> = entries.iter().map(|entry| (entry.frames, entry.discontinuity)).collect();
    assert_eq!(told, [(75, true), (79, false), (75, true), (75, true), (75, true)]);
}

#[test]
fn a_track_that_begins_later_is_in_the_next_segment_and_until_then_named_as_missing() {
    for late_config in [false, true] {
        let mut world = World::on(Arc::new(Memory::new(1 << 30)), RecordSpec::default(), START);
        world.feed(seconds(0..2));
        if late_config {
            let config = Frame { payload: Bytes::from_static(&[0x11, 0x88]), ..audio_config() };
            world.feed([config.on_track(TrackId(4))]);
        }
        let late = |n: i64| sound(n).on_track(TrackId(4));
        world.feed((50..60).flat_map(|n| [picture(n), late(2 * n)]));
        world.feed((60..100).flat_map(|n| [picture(n), late(2 * n)]));
        let (stats, storage) = world.finish();
        if late_config {
            // The keyframe 50 was there before the track's first frame.
            assert_eq!(stats.lost_by(GapCause::Track), 25, "{stats:?}");
            let entries = index(&*storage);
            assert_eq!(entries.len(), 2);
            assert_eq!(entries[1].codecs.len(), 3);
            let gaps: u64 = entries.iter().flat_map(|entry| &entry.gaps).map(|gap| gap.frames).sum();
            assert_eq!(gaps, 25);
        } else {
            // Nothing says what it is.
            assert_eq!(stats.lost() + stats.left_out, 50, "{stats:?}");
            assert_eq!(stats.recorded, 2 * 75 + 50);
        }
    }
}

#[test]
fn a_track_that_is_told_late_is_in_the_next_segment() {
    let mut world = World::new(Memory::new(1 << 30), RecordSpec::default());
    let late = |n: i64| sound(n).on_track(TrackId(4));
    let both = |n: i64| [picture(n), late(2 * n)];
    world.feed((0..60).flat_map(both));
    world.feed([audio_config().on_track(TrackId(4))]);
    world.feed((60..100).flat_map(both));
    let (stats, storage) = world.finish();
    // Up to the keyframe 75 nobody knew what it is.
    assert_eq!((stats.left_out, stats.lost()), (75, 0), "{stats:?}");
    let told: Vec<_> = index(&*storage).iter().map(|entry| (entry.frames, entry.codecs.len())).collect();
    assert_eq!(told, [(75, 2), (50, 3)]);
}

#[test]
fn what_the_container_does_not_carry_is_counted_and_is_no_gap() {
    let mut world = World::new(Memory::new(1 << 30), spec());
    let speex = |n: i64| Frame::audio(Codec::Speex, Timestamp::from_millis(n * 20), Bytes::from_static(b"speex"));
    world.feed(seconds(0..9).into_iter().zip(0..).flat_map(|(frame, n)| {
        let more = (n % 3 == 0).then(|| Frame { dts: frame.dts, ..speex(0) }.on_track(TrackId(6)));
        std::iter::once(frame).chain(more)
    }));
    let (stats, storage) = world.finish();
    assert_eq!((stats.left_out, stats.recorded, stats.lost()), (9 * 25, 9 * 75, 0));
    assert_eq!(assert_agrees(&*storage).len(), 3);
}

#[test]
fn sound_alone_is_recorded_too() {
    let mut world = World::new(Memory::new(1 << 30), spec());
    world.writer = StreamWriter::new(Arc::clone(&world.storage), key(), spec(), Arc::clone(&world.shared));
    world.feed([audio_config()]);
    world.feed((0..500).map(sound));
    let (stats, storage) = world.finish();
    assert_eq!((stats.recorded, stats.lost()), (500, 0));
    assert_eq!(index(&*storage).iter().map(|entry| entry.frames).collect::<Vec<_>>(), [200, 200, 100]);
}

#[test]
fn the_oldest_segments_are_deleted_by_age_and_by_size_and_never_the_newest() {
    let mut world = World::new(Memory::new(1 << 30), spec().retain_for(Duration::from_secs(9)));
    world.feed(seconds(0..30));
    let (stats, storage) = world.finish();
    let left: Vec<_> = assert_agrees(&*storage).iter().map(|entry| entry.number).collect();
    assert_eq!((left, stats.deleted), (vec![6, 7, 8], 5));
    // Hours later, when nobody records.
    let later = Wall(START.0 + 3_600_000_000_000);
    assert_eq!(sweep(&*storage, &key(), &spec().retain_for(Duration::from_secs(9)), later), Ok(2));
    assert_eq!(assert_agrees(&*storage).len(), 1);

    let mut world = World::new(Memory::new(1 << 30), spec().retain_bytes(1));
    world.feed(seconds(0..30));
    let (stats, storage) = world.finish();
    assert_eq!((assert_agrees(&*storage)[0].number, stats.deleted), (8, 7));
}

#[test]
fn an_index_does_not_grow_with_what_was_deleted_and_numbers_are_never_used_again() {
    let memory = Memory::new(1 << 30);
    let spec = RecordSpec::default().segment_duration(Duration::from_millis(900)).retain_bytes(1);
    let mut world = World::new(memory.clone(), spec.clone());
    world.feed(seconds(0..400));
    let (stats, _) = world.finish();
    assert_eq!(stats.deleted, 399);
    let bytes = memory.size(&index_name(&key()).unwrap()).unwrap();
    assert!(bytes < 100_000, "{bytes}");
    assert_eq!(assert_agrees(&memory)[0].number, 400);

    let mut world = World::new(memory.clone(), spec);
    world.feed(seconds(0..1));
    world.finish();
    assert_eq!(assert_agrees(&memory)[0].number, 401);
}

// ---- storages that fail

#[derive(Clone)]
struct Faulty {
    memory: Memory,
    /// What each call to write answers until it is taken back.
    fault: Arc<Mutex<Option<StorageError>>>,
}

impl Faulty {
    fn new() -> Self {
        Self { memory: Memory::new(1 << 30), fault: Arc::default() }
    }

    fn set(&self, fault: Option<StorageError>) {
        *self.fault.lock() = fault;
    }

    fn ask(&self) -> Result<(), StorageError> {
        self.fault.lock().map_or(Ok(()), Err)
    }
}

impl StorageBackend for Faulty {
    fn put(&self, name: &ObjectName, pieces: &[Bytes]) -> Result<(), StorageError> {
        self.ask().and_then(|()| self.memory.put(name, pieces))
    }
    fn begin(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, StorageError> {
        self.ask()?;
        Ok(Box::new(FaultyWriter(self.clone(), self.memory.begin(name)?)))
    }
    fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.ask().and_then(|()| self.memory.get(name, range))
    }
    fn size(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.ask().and_then(|()| self.memory.size(name))
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.ask().and_then(|()| self.memory.delete(name))
    }
    fn list(
        &self,
        prefix: Option<&ObjectName>,
        found: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.ask().and_then(|()| self.memory.list(prefix, found))
    }
    // Appends by the default: read, and put back.
}

struct FaultyWriter(Faulty, Box<dyn ObjectWriter>);

impl ObjectWriter for FaultyWriter {
    fn write(&mut self, pieces: &[Bytes]) -> Result<(), StorageError> {
        self.0.ask().and_then(|()| self.1.write(pieces))
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.0.ask().and_then(|()| self.1.sync())
    }
    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        self.0.ask().and_then(|()| self.1.finish())
    }
    fn abort(self: Box<Self>) {
        self.1.abort();
    }
}

#[test]
fn a_storage_that_fails_costs_whole_fragments_and_is_asked_again() {
    for (error, cause) in [
        (StorageError::NoRoom, GapCause::NoRoom),
        (StorageError::Unavailable(std::io::ErrorKind::TimedOut), GapCause::Storage),
        (StorageError::Denied, GapCause::Storage),
    ] {
        let faulty = Faulty::new();
        let mut world = World::new(faulty.clone(), RecordSpec::default());
        world.feed(seconds(0..3));
        faulty.set(Some(error));
        world.feed(seconds(3..8));
        let stats = world.shared.stats(0);
        assert!(stats.is_resting && stats.last_error == Some(error), "{stats:?}");
        faulty.set(None);
        world.feed(seconds(8..20));
        assert!(!world.shared.stats(0).is_resting);
        let (stats, _) = world.finish();

        // The two that were written, and all from a keyframe some time after the failure is over.
        let lost = stats.lost_by(cause);
        assert!((6 * 75..=14 * 75).contains(&lost) && lost % 75 == 0 && lost == stats.lost(), "{stats:?}");
        let entries = assert_agrees(&faulty.memory);
        assert_eq!((entries.len(), entries[0].frames), (2, 150));
        let gaps: Vec<_> = entries.iter().flat_map(|entry| &entry.gaps).collect();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!((gaps[0].frames, gaps[0].cause), (lost, cause));
        assert_eq!(gaps[0].to, entries[1].start);
        // 25 pictures of 40 ms a second; the clock of this test moves before a picture.
        assert_eq!((gaps[0].from.0 - START.0) / 1_000_000, 2040);
    }
}

#[test]
fn a_storage_that_never_works_costs_the_recording_alone() {
    let faulty = Faulty::new();
    faulty.set(Some(StorageError::Unavailable(std::io::ErrorKind::NotConnected)));
    let mut world = World::new(faulty.clone(), spec());
    world.feed(seconds(0..60));
    // It is asked less and less often: 0.25 s, 0.5 s, … after each failure, at keyframes.
    let errors = world.shared.stats(0).errors;
    assert!((4..12).contains(&errors), "{errors}");
    let (stats, _) = world.finish();
    assert_eq!((stats.recorded, stats.lost_by(GapCause::Storage)), (0, 60 * 75));
    assert!(objects(&faulty.memory).is_empty());
}

#[test]
fn what_is_missing_at_the_end_is_in_the_index_also_when_the_storage_fills_up() {
    let memory = Memory::new(30_000);
    let mut world = World::new(memory.clone(), spec());
    world.feed(seconds(0..30));
    memory.set_bytes_max(1 << 30);
    let (stats, storage) = world.finish();
    assert!(stats.recorded > 75 && stats.lost_by(GapCause::NoRoom) > 75, "{stats:?}");
    assert_agrees(&*storage);
    let lines = storage.get(&index_name(&key()).unwrap(), 0..1 << 20).unwrap();
    let lines = std::str::from_utf8(&lines).unwrap().lines();
    let values = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let gaps = values.filter_map(|line| Some(line.get("gaps")?.as_array()?.clone())).flatten();
    let missing: u64 = gaps.map(|gap| gap["frames"].as_u64().unwrap()).sum();
    assert_eq!(missing, stats.lost());
}

#[test]
fn nobodys_file_is_written_over() {
    let memory = Memory::new(1 << 30);
    let template = NameTemplate::parse("{app}/{name}/{number}.{ext}").unwrap();
    for number in 1..=3 {
        let name = ObjectName::new(&format!("live/cam/{number:06}.mp4")).unwrap();
        memory.put(&name, &[Bytes::from_static(b"precious")]).unwrap();
    }
    let mut world = World::new(memory.clone(), spec().template(template));
    world.feed(seconds(0..2));
    world.finish();
    assert_eq!(index(&memory)[0].number, 4);
    assert_eq!(memory.get(&ObjectName::new("live/cam/000002.mp4").unwrap(), 0..99).unwrap(), "precious");
}

// ---- after the end of a process

/// The process ends at any byte of what it was writing: all that is whole is in the index afterwards.
#[test]
fn a_segment_that_was_cut_anywhere_is_brought_in_up_to_its_last_whole_fragment() {
    for format in [ContainerFormat::Fmp4, ContainerFormat::MpegTs, ContainerFormat::Flv] {
        let memory = Memory::new(1 << 30);
        let mut world = World::new(memory.clone(), RecordSpec::default().format(format));
        world.feed(seconds(0..4));
        let segment = objects(&memory).into_iter().find(|info| !info.name.as_str().ends_with("jsonl")).unwrap();
        let index_name = index_name(&key()).unwrap();
        let (whole, told) =
            (memory.get(&segment.name, 0..segment.bytes).unwrap(), memory.get(&index_name, 0..9999).unwrap());
        drop(world);

        let mut counts = Vec::new();
        for cut in (0..whole.len()).step_by(97).chain([whole.len()]) {
            let after = Memory::new(1 << 30);
            after.put(&segment.name, &[whole.slice(..cut)]).unwrap();
            after.put(&index_name, &[told.clone(), Bytes::from_static(b"{\"event\":\"seg")]).unwrap();
            let repaired = repair(&after).unwrap();

            let entries = assert_agrees(&after);
            assert_eq!(entries.len() as u64, repaired, "{cut} of {}", whole.len());
            counts.push(entries.first().map_or(0, |entry| entry.frames));
            if let Some(entry) = entries.first() {
                assert!(entry.recovered && entry.start.0 / 1_000_000 == (START.0 + 40_000_000) / 1_000_000);
            }
            if format == ContainerFormat::Fmp4 && repaired > 0 {
                let mut file = after.get(&segment.name, 0..segment.bytes).unwrap();
                let mut demuxer = Demuxer::new();
                while demuxer.push(&mut file).unwrap().is_some() {}
                assert!(demuxer.is_at_end(), "nothing is left of a fragment that is not whole");
            }
            assert_eq!(repair(&after), Ok(0), "once is enough");
        }
        assert!(counts.is_sorted(), "{format:?}: {counts:?}");
        assert_eq!((counts[0], counts.last()), (0, Some(&225)), "{format:?}");
        if format == ContainerFormat::Fmp4 {
            assert!(counts.iter().all(|count| count % 75 == 0), "{counts:?}");
        }
    }
}

#[test]
fn the_next_recording_of_a_stream_brings_in_what_the_last_one_left() {
    let memory = Memory::new(1 << 30);
    let mut world = World::new(memory.clone(), RecordSpec::default());
    world.feed(seconds(0..3));
    drop(world);
    assert_eq!(index(&memory), []);

    let later = Wall(START.0 + 60_000_000_000);
    let mut world = World::on(Arc::new(memory.clone()), RecordSpec::default(), later);
    world.feed(seconds(0..2));
    let (stats, _) = world.finish();
    assert_eq!(stats.recovered, 1);
    let told: Vec<_> =
        assert_agrees(&memory).iter().map(|it| (it.number, it.frames, it.recovered, it.discontinuity)).collect();
    assert_eq!(told, [(1, 150, true, true), (2, 150, false, true)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_in_an_index_or_a_segment_do_harm(
        lines in prop::collection::vec(any::<u8>(), 0..200), format in 0..3_usize,
        mut file in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>(),
    ) {
        let format = [ContainerFormat::Fmp4, ContainerFormat::MpegTs, ContainerFormat::Flv][format];
        let memory = Memory::new(1 << 20);
        let format_name = serde_json::to_string(&format).unwrap();
        let begun = format!("\n{{\"event\":\"begun\",\"name\":\"live/cam/x\",\"number\":18446744073709551615,\
                            \"start\":\"2024-02-29T23:59:59.007Z\",\"format\":{format_name},\"discontinuity\":true}}\n");
        memory.put(&index_name(&key()).unwrap(), &[lines.into(), begun.into()]).unwrap();
        if head {
            file.splice(0..0, *b"\0\0\0\x08free\0\0\0\x10mdat");
        }
        memory.put(&ObjectName::new("live/cam/x").unwrap(), &[file.into()]).unwrap();
        repair(&memory).unwrap();
        let _ = index(&memory);
    }

    /// Whatever the queue has room for when: each frame is recorded, or in a gap; what follows a gap is a keyframe.
    #[test]
    fn what_the_queue_has_no_room_for_is_named_to_the_frame(
        taken in prop::collection::vec(0..40_usize, 1..60), bytes in 200..3000_usize, gap in 0..200_usize,
    ) {
        let (sender, queue) = bounded(24);
        let shared = Arc::new(Shared::default());
        let mut sink = RecorderSink::new(sender, Arc::clone(&shared), bytes);
        let mut got: Vec<Message> = Vec::new();
        let drain = |most: usize, queue: &Receiver<Message>, got: &mut Vec<Message>| {
            for message in queue.try_iter().take(most) {
                if let Message::Frame(frame) = &message {
                    shared.queued_bytes.fetch_sub(frame.payload.len(), std::sync::atomic::Ordering::Relaxed);
                }
                got.push(message);
            }
        };
        sink.on_frame(&video_config());
        sink.on_frame(&audio_config());
        let (mut sent, mut router) = (0, 0);
        for (n, frame) in seconds(0..10).into_iter().enumerate() {
            if n == gap && frame.is_key() {
                sink.on_gap(7);
                router += 7;
            }
            prop_assert_eq!(sink.on_frame(&frame), SinkVerdict::Taken);
            sent += 1;
            if n % 10 == 0 {
                // The configuration is told again, as after a change of it.
                sink.on_frame(&video_config());
            }
            drain(taken[n % taken.len()] / 10, &queue, &mut got);
            let queued: usize = shared.queued_bytes.load(std::sync::atomic::Ordering::Relaxed);
            prop_assert!(queued <= bytes.max(110), "{queued}");
        }
        drain(usize::MAX, &queue, &mut got);
        drop(sink);
        let owed: u64 = shared.owed_at_end.iter().map(|it| it.load(std::sync::atomic::Ordering::Relaxed)).sum();

        let (mut frames, mut missing, mut behind_gap) = (0, owed, false);
        let mut last_config = 0;
        for message in &got {
            match message {
                Message::Gap(_, count) => (missing, behind_gap) = (missing + count, true),
                Message::Frame(frame) if frame.kind == crate::media::FrameKind::Config => last_config += 1,
                Message::Frame(frame) => {
                    prop_assert!(!behind_gap || frame.is_key());
                    (frames, behind_gap) = (frames + 1, false);
                }
            }
        }
        prop_assert!(last_config >= 2 || frames == 0);
        prop_assert_eq!(frames + missing, sent + router);
        let stats = shared.stats(0);
        prop_assert_eq!((stats.frames, stats.lost()), (sent, missing));
    }
}
