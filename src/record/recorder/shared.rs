//! What the sink on its shard, the storage thread and the host see of one recording.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::GapCause;
use crate::extension::StorageError;
use crate::limits::RECORD_QUEUE_FRAMES;

/// Counters and flags. All are relaxed: the channel orders what must be in order.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes in the channel.
    pub(super) queued_bytes: AtomicUsize,
    /// The host wants no more.
    pub(super) stop: AtomicBool,
    /// The sink is gone, or will take no more.
    pub(super) sink_gone: AtomicBool,
    /// All is written that will be.
    pub(super) finished: AtomicBool,
    /// What the sink left out when it went, with nothing behind it: by the queue, and by the router.
    pub(super) owed_at_end: [AtomicU64; 2],
    pub(super) frames: AtomicU64,
    pub(super) recorded: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) lost: [AtomicU64; GapCause::ALL.len()],
    pub(super) bytes: AtomicU64,
    pub(super) fragments: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) recovered: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Nothing is written until the storage may be asked again.
    pub(super) resting: AtomicBool,
    pub(super) last_error: Mutex<Option<StorageError>>,
}

impl Shared {
    pub(super) fn add(&self, counter: &AtomicU64, more: u64) {
        // Each counter has one writer.
        counter.fetch_add(more, Relaxed);
    }

    pub(super) fn lose(&self, cause: GapCause, frames: u64) {
        if let Some(lost) = self.lost.get(cause as usize) {
            self.add(lost, frames);
        }
    }

    pub(super) fn failed(&self, error: StorageError) {
        self.add(&self.errors, 1);
        *self.last_error.lock() = Some(error);
    }

    pub(super) fn stats(&self, queued_frames: usize) -> RecorderStats {
        let lost = |cause: GapCause| self.lost.get(cause as usize).map_or(0, |lost| lost.load(Relaxed));
        RecorderStats {
            frames: self.frames.load(Relaxed),
            recorded: self.recorded.load(Relaxed),
            left_out: self.left_out.load(Relaxed),
            lost: GapCause::ALL.map(|cause| (cause, lost(cause))),
            bytes: self.bytes.load(Relaxed),
            fragments: self.fragments.load(Relaxed),
            segments: self.segments.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            recovered: self.recovered.load(Relaxed),
            errors: self.errors.load(Relaxed),
            last_error: *self.last_error.lock(),
            is_resting: self.resting.load(Relaxed),
            is_finished: self.finished.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed),
            queued_frames: queued_frames.min(RECORD_QUEUE_FRAMES),
        }
    }
}

/// What became of the frames of one recording so far. Configurations are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderStats {
    /// Frames that the shard gave. When a recording is finished, these are `recorded`, `left_out` and lost together,
    /// less those that the router left out.
    pub frames: u64,
    /// Frames that are on storage.
    pub recorded: u64,
    /// Frames that the container does not carry.
    pub left_out: u64,
    /// Frames that are missing, by cause.
    pub lost: [(GapCause, u64); GapCause::ALL.len()],
    /// Bytes on storage.
    pub bytes: u64,
    /// Fragments on storage.
    pub fragments: u64,
    /// Segments that were begun.
    pub segments: u64,
    /// Segments that were deleted because they were too old, or too many.
    pub deleted: u64,
    /// Segments of an earlier process that were brought into the index.
    pub recovered: u64,
    /// Calls to the storage that failed.
    pub errors: u64,
    /// Why the last one did.
    pub last_error: Option<StorageError>,
    /// Nothing is recorded until the storage may be asked again.
    pub is_resting: bool,
    /// All is written that will be.
    pub is_finished: bool,
    /// Bytes that wait for the storage thread.
    pub queued_bytes: usize,
    /// Frames that wait for it.
    pub queued_frames: usize,
}

impl RecorderStats {
    /// Frames that are missing because of this.
    #[must_use]
    pub fn lost_by(&self, cause: GapCause) -> u64 {
        self.lost.iter().find(|(of, _)| *of == cause).map_or(0, |(_, frames)| *frames)
    }

    /// Frames that are missing.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.iter().map(|(_, frames)| frames).sum()
    }
}
