//! Frames in and out of a shard without a hop: code of the host that runs on the stream's own core.

use crate::clock::{Instant, Now};
use crate::media::Frame;
use crate::reason::Reason;

/// Receives the frames of one stream on the shard itself. Must not block: the shard waits for it.
pub trait FrameSink: Send {
    /// A frame, in order, starting at a keyframe (after the configuration in force there).
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict;

    /// Frames were left out before the next one, which is a keyframe unless no other frame refers to those: how many.
    fn on_gap(&mut self, frames: u64) {
        let _ = frames;
    }

    /// No frame follows.
    fn on_end(&mut self, reason: Reason) {
        let _ = reason;
    }
}

/// What a sink says to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkVerdict {
    /// Taken.
    Taken,
    /// Not now: offer it again next turn. Lag counts.
    Busy,
    /// Enough: take me off the stream.
    Done,
}

/// Makes the frames of one stream on the shard itself. Must not block.
pub trait FrameSource: Send {
    /// The next frame that is due.
    fn poll_frame(&mut self, now: Now) -> SourcePoll;

    /// Some viewer needs a keyframe.
    fn on_keyframe_wanted(&mut self) {}

    /// No frame is taken any more.
    fn on_end(&mut self, reason: Reason) {
        let _ = reason;
    }
}

/// What a source has.
#[derive(Debug)]
pub enum SourcePoll {
    /// A frame, to be sent now.
    Frame(Frame),
    /// Nothing before this time.
    NotBefore(Instant),
    /// Nothing ever again.
    End,
}
