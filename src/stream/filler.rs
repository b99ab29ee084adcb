//! What is shown while nobody publishes: frames that are repeated for as long as it takes.

use std::fmt;
use std::sync::Arc;

use crate::limits::{FILLER_BYTES_MAX, FILLER_FRAMES_MAX, Limit};
use crate::media::{Frame, FrameKind, Timestamp};
use crate::reason::{Label, Reason};

/// A loop of frames, which all streams share.
#[derive(Clone, PartialEq)]
pub struct Filler {
    frames: Arc<[Frame]>,
    first: Timestamp,
    length: Timestamp,
}

impl Filler {
    /// A loop of these frames, in the order of their decoding.
    ///
    /// # Errors
    /// There is nothing to be shown, pictures do not begin with a keyframe, or it is longer than its bounds.
    pub fn new(frames: Vec<Frame>) -> Result<Self, Reason> {
        if frames.len() > FILLER_FRAMES_MAX {
            return Err(Reason::Limit(Limit::FillerBytes));
        }
        if frames.iter().map(|frame| frame.payload.len()).sum::<usize>() > FILLER_BYTES_MAX {
            return Err(Reason::Limit(Limit::FillerBytes));
        }
        let media = || frames.iter().filter(|frame| !matches!(frame.kind, FrameKind::Config | FrameKind::Data));
        let (Some(first), Some(last)) = (media().map(|frame| frame.dts).min(), media().map(|frame| frame.dts).max())
        else {
            return Err(Reason::Unsupported(Label("filler.empty")));
        };
        if media().find(|frame| frame.is_video()).is_some_and(|frame| !frame.is_key()) {
            return Err(Reason::Unsupported(Label("filler.keyframe")));
        }
        // Until the first frame comes again as much time passes as between two of them.
        let count = i64::try_from(media().filter(|frame| frame.is_video()).count()).unwrap_or(i64::MAX);
        let between = (last.0 - first.0).checked_div(count - 1).unwrap_or(0).clamp(MILLISECOND, 1_000 * MILLISECOND);
        Ok(Self { frames: frames.into(), first, length: Timestamp(last.0 - first.0 + between) })
    }

    /// The frame at this place of the endless row, and how long after the first it is due.
    #[must_use]
    pub fn frame(&self, at: u64) -> (Frame, Timestamp) {
        let count = self.frames.len() as u64;
        let round = i64::try_from(at / count).unwrap_or(i64::MAX);
        let mut frame = self.frames[usize::try_from(at % count).unwrap_or(0)].clone();
        let by = Timestamp(self.length.0.saturating_mul(round).saturating_sub(self.first.0));
        frame.dts = frame.dts + by;
        frame.pts = frame.pts + by;
        let due = frame.dts.max(Timestamp(self.length.0.saturating_mul(round)));
        (frame, due)
    }
}

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filler").field("frames", &self.frames.len()).field("length", &self.length).finish()
    }
}

const MILLISECOND: i64 = 1_000_000;
