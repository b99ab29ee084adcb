//! Live quality figures of one stream, kept by its home shard.

use super::rate::RateWindow;
use crate::clock::Instant;
use crate::media::{Frame, FrameKind, Timestamp};

/// Rates and totals of one stream. Configuration frames count as bytes, not as frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Qos {
    video_bytes: RateWindow,
    audio_bytes: RateWindow,
    video_frames: RateWindow,
    /// Frames of all tracks since the stream began.
    pub frames: u64,
    /// Payload bytes of all tracks since the stream began.
    pub bytes: u64,
    /// When the last frame came.
    pub last_frame: Instant,
    /// Frames and media time of the last whole GOP.
    pub gop: Option<(u32, Timestamp)>,
    gop_start: Option<Timestamp>,
    gop_frames: u32,
}

impl Qos {
    /// Nothing yet, from now on.
    #[must_use]
    pub fn starting(now: Instant) -> Self {
        Self { last_frame: now, ..Self::default() }
    }

    /// Counts a frame.
    pub fn record(&mut self, now: Instant, frame: &Frame) {
        let len = frame.payload.len() as u64;
        self.frames += 1;
        self.bytes += len;
        self.last_frame = now;
        match frame.kind {
            FrameKind::Key | FrameKind::Delta => {
                self.video_bytes.add(now, len);
                self.video_frames.add(now, 1);
                if frame.is_key() {
                    if let Some(start) = self.gop_start {
                        self.gop = Some((self.gop_frames, frame.dts - start));
                    }
                    self.gop_start = Some(frame.dts);
                    self.gop_frames = 0;
                }
                self.gop_frames = self.gop_frames.saturating_add(1);
            }
            FrameKind::Audio => {
                self.audio_bytes.add(now, len);
            }
            FrameKind::Config | FrameKind::Data => {}
        }
    }

    /// Video bits per second, audio bits per second, video frames per second; all fall to zero when nothing comes.
    pub fn rates(&mut self, now: Instant) -> (u64, u64, u64) {
        (
            self.video_bytes.per_second(now) * 8,
            self.audio_bytes.per_second(now) * 8,
            self.video_frames.per_second(now),
        )
    }
}
