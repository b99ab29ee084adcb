//! What is missing in a recording, by name.

use serde::{Deserialize, Serialize};

use super::index::wall;
use crate::clock::Wall;
use crate::limits::RECORD_GAPS_MAX;

/// Why frames are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GapCause {
    /// The storage was slower than the stream, and the queue full.
    Queue,
    /// The router left them out: its shard was behind.
    Router,
    /// The storage failed.
    Storage,
    /// The storage was full.
    NoRoom,
    /// They came before the first keyframe after their track had begun.
    Track,
    /// The container has no place for them: times that it cannot say, or a configuration that cannot be read.
    Unwritable,
}

impl GapCause {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Queue, Self::Router, Self::Storage, Self::NoRoom, Self::Track, Self::Unwritable];
}

/// Frames that are missing, and between which times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When the first of them was there, or the last one before them.
    #[serde(with = "wall")]
    pub from: Wall,
    /// When the first frame behind them was there; where none is behind, the end of the recording.
    #[serde(with = "wall")]
    pub to: Wall,
    /// How many, configurations not counted.
    pub frames: u64,
    /// Why.
    pub cause: GapCause,
}

/// The gaps that no line of the index has yet.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Of each cause one at most.
    open: Vec<Gap>,
    named: Vec<Gap>,
    /// When the last frame that is on storage was there.
    last: Wall,
}

impl Gaps {
    /// So many frames are missing from then on.
    pub(super) fn lose(&mut self, cause: GapCause, from: Wall, frames: u64) {
        if frames == 0 {
            return;
        }
        match self.open.iter_mut().find(|gap| gap.cause == cause) {
            Some(gap) => {
                gap.frames = gap.frames.saturating_add(frames);
                gap.from = gap.from.min(from);
            }
            None => self.open.push(Gap { from, to: from, frames, cause }),
        }
    }

    /// The same behind the last frame that was there.
    pub(super) fn lose_after_last(&mut self, cause: GapCause, frames: u64) {
        self.lose(cause, self.last, frames);
    }

    /// Frames are on storage, the first and the last of them from then: what was missing before is so no more.
    pub(super) fn close(&mut self, at: Wall, last: Wall) {
        self.last = last;
        for mut gap in self.open.drain(..) {
            gap.to = at.max(gap.from);
            if gap.from == Wall(0) {
                gap.from = at;
            }
            let full = self.named.len() >= RECORD_GAPS_MAX;
            match self.named.last_mut().filter(|_| full) {
                Some(last) => {
                    last.frames = last.frames.saturating_add(gap.frames);
                    last.to = gap.to;
                }
                None => self.named.push(gap),
            }
        }
    }

    /// No frame follows.
    pub(super) fn end(&mut self, at: Wall) {
        let at = at.max(self.last);
        self.close(at, at);
    }

    /// Those that are over.
    pub(super) fn take(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.named)
    }
}
