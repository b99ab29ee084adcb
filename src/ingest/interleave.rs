//! Frames of several tracks, as a file has them → in order of decoding time.
//!
//! A track that has nothing is waited for, as a fragment has one track after the other; but not for ever: what waits is
//! bounded in frames, bytes and time. The order within a track is never changed.

use std::collections::VecDeque;

use crate::limits::{INGEST_HELD_BYTES_MAX, INGEST_HELD_FRAMES_MAX, INGEST_HELD_TIME_MAX};
use crate::media::{Frame, Media, Timestamp, TrackId};

/// Frames that wait.
#[derive(Debug, Default)]
pub(super) struct Interleaver {
    /// [`TRACKS_MAX`](crate::limits::TRACKS_MAX) at most.
    lanes: Vec<Lane>,
    frames: usize,
    bytes: usize,
    newest: Timestamp,
}

#[derive(Debug)]
struct Lane {
    track: TrackId,
    frames: VecDeque<Frame>,
    /// It is sound or picture, and goes on.
    awaited: bool,
}

impl Interleaver {
    /// There is such a track: it is waited for from now on if it is sound or picture.
    pub(super) fn track(&mut self, track: TrackId) {
        self.lane(track).awaited = track != TrackId::METADATA;
    }

    /// It has ended.
    pub(super) fn ended(&mut self, track: TrackId) {
        self.lane(track).awaited = false;
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.frames += 1;
        self.bytes += frame.payload.len();
        self.newest = if self.frames == 1 { frame.dts } else { self.newest.max(frame.dts) };
        let data = frame.codec.media() == Media::Data;
        let lane = self.lane(frame.track);
        lane.awaited &= !data;
        lane.frames.push_back(frame);
    }

    /// The earliest frame, if none can come before it; or if there is `no_more`.
    pub(super) fn pop(&mut self, no_more: bool) -> Option<Frame> {
        let heads = self.lanes.iter().enumerate().filter_map(|(at, lane)| Some((lane.frames.front()?.dts, at)));
        let (earliest, at) = heads.min()?;
        let waits = self.lanes.iter().any(|lane| lane.awaited && lane.frames.is_empty());
        if waits && !no_more && !self.is_full(earliest) {
            return None;
        }
        let frame = self.lanes.get_mut(at)?.frames.pop_front()?;
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(frame.payload.len());
        Some(frame)
    }

    fn is_full(&self, earliest: Timestamp) -> bool {
        let span = u128::try_from((self.newest - earliest).0).unwrap_or(0);
        self.frames >= INGEST_HELD_FRAMES_MAX
            || self.bytes >= INGEST_HELD_BYTES_MAX
            || span >= INGEST_HELD_TIME_MAX.as_nanos()
    }

    fn lane(&mut self, track: TrackId) -> &mut Lane {
        let at = self.lanes.iter().position(|lane| lane.track == track).unwrap_or(self.lanes.len());
        if at == self.lanes.len() {
            self.lanes.push(Lane { track, frames: VecDeque::new(), awaited: false });
        }
        &mut self.lanes[at]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::Codec;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn video(ms: i64) -> Frame {
        Frame::video(Codec::H264, true, at(ms), at(ms), Bytes::from_static(b"v"))
    }

    fn audio(ms: i64) -> Frame {
        Frame::audio(Codec::Aac, at(ms), Bytes::from_static(b"a"))
    }

    fn drain(interleaver: &mut Interleaver, no_more: bool) -> Vec<i64> {
        std::iter::from_fn(|| interleaver.pop(no_more)).map(|frame| frame.dts.as_millis()).collect()
    }

    #[test]
    fn tracks_that_lie_one_after_the_other_come_in_order_of_time() {
        let mut interleaver = Interleaver::default();
        interleaver.track(TrackId::VIDEO);
        interleaver.track(TrackId::AUDIO);
        [0, 40, 80].into_iter().for_each(|ms| interleaver.push(video(ms)));
        assert_eq!(drain(&mut interleaver, false), [0_i64; 0], "sound may be earlier");
        [10, 30, 50].into_iter().for_each(|ms| interleaver.push(audio(ms)));
        assert_eq!(drain(&mut interleaver, false), [0, 10, 30, 40, 50]);
        assert_eq!(drain(&mut interleaver, true), [80]);
    }

    #[test]
    fn a_track_that_is_silent_is_waited_for_within_bounds() {
        let mut interleaver = Interleaver::default();
        interleaver.track(TrackId::VIDEO);
        interleaver.track(TrackId::AUDIO);
        (0..=250).for_each(|n| interleaver.push(video(40 * n)));
        assert_eq!(drain(&mut interleaver, false), [0], "10 s are the bound");
        interleaver.ended(TrackId::AUDIO);
        assert_eq!(drain(&mut interleaver, false).len(), 250);
    }

    #[test]
    fn a_track_of_data_is_not_waited_for() {
        let mut interleaver = Interleaver::default();
        interleaver.track(TrackId(3));
        let mut cue = Frame::config(Codec::Script, at(0), Bytes::from_static(b"cue")).on_track(TrackId(3));
        cue.kind = crate::media::FrameKind::Data;
        interleaver.push(cue);
        interleaver.track(TrackId::VIDEO);
        interleaver.push(video(5));
        assert_eq!(drain(&mut interleaver, false), [0, 5]);
    }
}
