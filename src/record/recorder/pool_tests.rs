//! Recorders on their threads.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::tests::{assert_agrees, audio_config, index, key, objects, picture, seconds, spec, video_config};
use super::*;
use crate::clock::Clock;
use crate::extension::{FrameSink, ObjectInfo, ObjectName, ObjectWriter, SinkVerdict, StorageBackend, StorageError};
use crate::id::StreamKey;
use crate::record::storage::Memory;

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn recordings_of_many_streams_share_their_threads() {
    let storage: Arc<dyn StorageBackend> = Arc::new(Memory::new(1 << 30));
    let pool = RecorderPool::start(Arc::clone(&storage), Clock::start(), 2).unwrap();
    let mut sinks = Vec::new();
    for n in 0..10 {
        let key = StreamKey::new("live", &format!("s{n}")).unwrap();
        let (sink, recorder) = pool.record(&key, spec()).unwrap();
        assert!(matches!(pool.record(&key, spec()), Err(PoolError::Recorded(_))));
        sinks.push((sink, recorder));
    }
    for frame in [video_config(), audio_config()].into_iter().chain(seconds(0..6)) {
        for (sink, _) in &mut sinks {
            assert_eq!(sink.on_frame(&frame), SinkVerdict::Taken);
        }
    }
    let recorders: Vec<_> = sinks.into_iter().map(|(_, recorder)| recorder).collect();
    for recorder in &recorders {
        wait_until(|| recorder.stats().is_finished);
        let stats = recorder.stats();
        assert_eq!((stats.recorded, stats.segments, stats.queued_bytes), (450, 2, 0), "{stats:?}");
    }
    let indexes = objects(&*storage).into_iter().filter(|info| info.name.as_str().ends_with("index.jsonl"));
    assert_eq!(indexes.count(), 10);

    // A stream whose publisher comes back goes on behind what it has.
    let key = StreamKey::parse("live/s3").unwrap();
    let (mut first, _) = pool.record(&key, spec()).unwrap();
    // More than a thread takes in one turn.
    [video_config(), audio_config()].into_iter().chain(seconds(0..10)).for_each(|frame| _ = first.on_frame(&frame));
    drop(first);
    let (mut second, recorder) = pool.record(&key, spec()).unwrap();
    [video_config(), audio_config()].into_iter().chain(seconds(0..1)).for_each(|frame| _ = second.on_frame(&frame));
    pool.close();
    assert!(recorder.stats().is_finished);
    assert_eq!(second.on_frame(&picture(0)), SinkVerdict::Done);
    let entries = read_index(&*storage, &index_name(&key).unwrap()).unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.number, entry.frames)).collect();
    assert_eq!(told, [(1, 300), (2, 150), (3, 300), (4, 300), (5, 150), (6, 75)]);
}

/// A storage that stands still: the sink goes on taking frames, and what it left out is in the index afterwards.
#[test]
fn a_storage_that_stands_still_delays_nobody_and_costs_whole_groups_of_pictures() {
    #[derive(Clone)]
    struct Slow(Memory, Arc<Mutex<()>>);
    impl StorageBackend for Slow {
        fn put(&self, name: &ObjectName, pieces: &[Bytes]) -> Result<(), StorageError> {
            self.0.put(name, pieces)
        }
        fn begin(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, StorageError> {
            let thread = std::thread::current();
            assert!(thread.name().is_some_and(|name| name.starts_with("record-")), "{thread:?} asks the storage");
            let _until = self.1.lock();
            self.0.begin(name)
        }
        fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
            self.0.get(name, range)
        }
        fn size(&self, name: &ObjectName) -> Result<u64, StorageError> {
            self.0.size(name)
        }
        fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
            self.0.delete(name)
        }
        fn list(
            &self,
            prefix: Option<&ObjectName>,
            found: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
        ) -> Result<(), StorageError> {
            self.0.list(prefix, found)
        }
    }
    let slow = Slow(Memory::new(1 << 30), Arc::default());
    let pool = RecorderPool::start(Arc::new(slow.clone()), Clock::start(), 1).unwrap();
    let (mut sink, recorder) = pool.record(&key(), RecordSpec::default().queue_bytes(50_000)).unwrap();
    let stalled = slow.1.lock();
    let all = [video_config(), audio_config()].into_iter().chain(seconds(0..60));
    for frame in all {
        assert_eq!(sink.on_frame(&frame), SinkVerdict::Taken);
    }
    let stats = recorder.stats();
    assert!(stats.lost_by(GapCause::Queue) > 30 * 75 && stats.queued_bytes <= 50_000, "{stats:?}");
    drop(stalled);
    wait_until(|| recorder.stats().queued_bytes == 0);
    seconds(60..62).iter().for_each(|frame| _ = sink.on_frame(frame));
    drop(sink);
    wait_until(|| recorder.stats().is_finished);

    let stats = recorder.stats();
    assert_eq!(stats.frames, stats.recorded + stats.lost());
    let entries = index(&slow.0);
    let gaps: Vec<_> = entries.iter().flat_map(|entry| &entry.gaps).collect();
    assert_eq!(gaps.iter().map(|gap| gap.frames).sum::<u64>(), stats.lost_by(GapCause::Queue), "{gaps:?}");
    assert!(gaps.iter().all(|gap| gap.cause == GapCause::Queue && gap.from <= gap.to));
    assert_agrees(&slow.0);
}

#[test]
fn names_that_are_too_long_are_refused_before_anything_is_recorded() {
    let pool = RecorderPool::start(Arc::new(Memory::new(1)), Clock::start(), 1).unwrap();
    let long = StreamKey::new("live", &"~".repeat(200)).unwrap();
    assert!(matches!(pool.record(&long, spec()), Err(PoolError::Name(_))));
    assert!(matches!(RecorderPool::start(Arc::new(Memory::new(1)), Clock::start(), 0), Err(PoolError::Threads)));
}
