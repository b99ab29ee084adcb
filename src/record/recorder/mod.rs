//! Recorders: frames of one stream → segments of a container on storage, and an index of what there is.
//!
//! ```text
//! shard:           FrameSink ── try_send, bounded in frames and bytes ──┐      never waits, makes no system call
//! storage thread:  queue ──► fragment of about a second ──► segment ◄───┘      waits for the disk as long as it takes
//!                               all or nothing              └► index.jsonl
//! ```
//!
//! [`RecorderPool`] has the threads of *one* storage. Not one pool for all: a disk that stalls would have all threads of
//! it in the end, and recordings to other places would stand still with it. Not one thread for each recording either:
//! there may be thousands, and they wait for the same disk. One thread is right for a disk; a storage behind a network,
//! where each call waits, deserves more. A recording stays on its thread, so its frames are in order without a lock.
//!
//! What a queue has no room for is left out up to the next keyframe, and so is what a storage does not take: counted,
//! and named in the index as a [`Gap`]. A process that is killed leaves whole fragments, of a power loss the last one
//! may be missing; what was being written is cut to its last whole fragment and put into the index when its stream is
//! recorded the next time, or by [`repair`].
//!
//! A recording begins with the cached keyframe of its stream, as any sink: that is its pre-roll. There is one pool, of
//! one process, for one storage: a second one would take what the first one is writing for a leftover.

mod container;
mod gap;
mod index;
mod pool;
mod recover;
mod shared;
mod sink;
mod stream;
mod template;
mod utc;

#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use gap::{Gap, GapCause};
pub use index::{SegmentEntry, read_index};
pub use pool::{PoolError, Recorder, RecorderPool};
pub use recover::{repair, sweep};
pub use shared::RecorderStats;
pub use sink::RecorderSink;
pub use template::{NameTemplate, TemplateError, index_name};

use crate::limits::RECORD_QUEUE_BYTES;

/// What segments are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ContainerFormat {
    /// Fragmented MP4: carries all codecs of today but Speex and PCM.
    #[default]
    Fmp4,
    /// MPEG-TS: no AV1, VP8, VP9 or FLAC.
    MpegTs,
    /// FLV with Enhanced RTMP's codecs and tracks.
    Flv,
}

impl ContainerFormat {
    /// What names of such files end with.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Fmp4 => "mp4",
            Self::MpegTs => "ts",
            Self::Flv => "flv",
        }
    }
}

/// How a stream is recorded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordSpec {
    /// The container.
    pub format: ContainerFormat,
    /// The names of segments.
    pub template: NameTemplate,
    /// A segment ends at the first keyframe after so much time. Where none comes, it ends after twice the time.
    pub segment_duration: Duration,
    /// A segment ends at the first keyframe after so many bytes. Where none comes, it ends after twice as many.
    pub segment_bytes: u64,
    /// About so much time is in a fragment: what is written, and lost, at once.
    pub fragment_duration: Duration,
    /// Segments that ended so long ago are deleted.
    pub retain_for: Option<Duration>,
    /// The oldest segments of a stream are deleted as long as all have more bytes than this together. The newest one
    /// stays.
    pub retain_bytes: Option<u64>,
    /// Bytes that wait for the storage thread.
    pub queue_bytes: usize,
    /// Each fragment is made durable when it is written. Without, a power loss may take what is not older than the
    /// kernel's patience; a process that is killed loses nothing by it.
    pub sync_fragments: bool,
}

impl Default for RecordSpec {
    fn default() -> Self {
        Self {
            format: ContainerFormat::Fmp4,
            template: NameTemplate::default(),
            segment_duration: Duration::from_secs(600),
            segment_bytes: 4 << 30,
            fragment_duration: Duration::from_secs(1),
            retain_for: None,
            retain_bytes: None,
            queue_bytes: RECORD_QUEUE_BYTES,
            sync_fragments: true,
        }
    }
}

impl RecordSpec {
    /// The same in another container.
    #[must_use]
    pub const fn format(mut self, format: ContainerFormat) -> Self {
        self.format = format;
        self
    }

    /// The same with other names.
    #[must_use]
    pub fn template(mut self, template: NameTemplate) -> Self {
        self.template = template;
        self
    }

    /// The same with segments of this duration.
    #[must_use]
    pub const fn segment_duration(mut self, duration: Duration) -> Self {
        self.segment_duration = duration;
        self
    }

    /// The same with segments of so many bytes.
    #[must_use]
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// The same with fragments of this duration.
    #[must_use]
    pub const fn fragment_duration(mut self, duration: Duration) -> Self {
        self.fragment_duration = duration;
        self
    }

    /// The same with segments deleted after so much time.
    #[must_use]
    pub const fn retain_for(mut self, time: Duration) -> Self {
        self.retain_for = Some(time);
        self
    }

    /// The same with the oldest segments deleted when all have more bytes than this.
    #[must_use]
    pub const fn retain_bytes(mut self, bytes: u64) -> Self {
        self.retain_bytes = Some(bytes);
        self
    }

    /// The same with another bound of what waits.
    #[must_use]
    pub const fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// The same with fragments that are made durable one by one, or not.
    #[must_use]
    pub const fn sync_fragments(mut self, sync: bool) -> Self {
        self.sync_fragments = sync;
        self
    }
}
