//! The end of a recording that is on the shard: it clones references into a queue, and never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Sender;

use super::GapCause;
use super::shared::Shared;
use crate::extension::{FrameSink, SinkVerdict};
use crate::limits::TRACKS_MAX;
use crate::media::{Frame, FrameKind, TrackId};
use crate::reason::Reason;

/// What goes to the storage thread, in order. Its end is that of the channel.
#[derive(Debug)]
pub(super) enum Message {
    Frame(Frame),
    /// So many frames are missing here.
    Gap(GapCause, u64),
}

/// Takes the frames of one stream for its recorder; to be attached to the router.
///
/// What the queue has no room for is left out up to the next keyframe (of a stream without pictures, up to the next
/// frame), and the storage thread is told how much that was. Per frame it costs one message in a channel in which
/// nobody sleeps.
#[derive(Debug)]
pub struct RecorderSink {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    bytes_max: usize,
    /// The stream has a track of pictures, this one first.
    video: Option<TrackId>,
    /// Frames are left out until one at which a decoder can start fits.
    skipping: bool,
    /// Left out and not told yet.
    owed_by_queue: u64,
    owed_by_router: u64,
    /// Configurations that came meanwhile, one per track.
    configs: Vec<Frame>,
}

impl RecorderSink {
    pub(super) fn new(queue: Sender<Message>, shared: Arc<Shared>, bytes_max: usize) -> Self {
        let (video, configs) = (None, Vec::new());
        Self { queue, shared, bytes_max, video, skipping: false, owed_by_queue: 0, owed_by_router: 0, configs }
    }

    /// This sink is the only one that sends: what has room now has it until it is sent.
    fn has_room(&self, messages: usize, bytes: usize) -> bool {
        let queued = self.shared.queued_bytes.load(Relaxed);
        let free = self.queue.capacity().unwrap_or(usize::MAX).saturating_sub(self.queue.len());
        // A frame that is longer than the queue may have it alone.
        free >= messages && (queued == 0 || queued.saturating_add(bytes) <= self.bytes_max)
    }

    fn send(&self, message: Message) -> SinkVerdict {
        let bytes = if let Message::Frame(frame) = &message { frame.payload.len() } else { 0 };
        self.shared.queued_bytes.fetch_add(bytes, Relaxed);
        match self.queue.try_send(message) {
            Ok(()) => SinkVerdict::Taken,
            // Not full, see above: the storage thread is gone.
            Err(_) => SinkVerdict::Done,
        }
    }

    fn keep(&mut self, config: &Frame) {
        let room = self.configs.len() < TRACKS_MAX;
        match self.configs.iter_mut().find(|kept| kept.track == config.track) {
            Some(kept) => *kept = config.clone(),
            None if room => self.configs.push(config.clone()),
            None => {}
        }
    }

    fn leave_out(&mut self, frame: &Frame) -> SinkVerdict {
        if frame.kind == FrameKind::Config {
            self.keep(frame);
        } else {
            self.owed_by_queue += 1;
            self.shared.lose(GapCause::Queue, 1);
        }
        SinkVerdict::Taken
    }

    /// A decoder can start here.
    fn is_start(&self, frame: &Frame) -> bool {
        match self.video {
            Some(video) => frame.is_key() && frame.track == video,
            None => frame.kind == FrameKind::Audio,
        }
    }
}

impl FrameSink for RecorderSink {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        if self.shared.stop.load(Relaxed) {
            return SinkVerdict::Done;
        }
        if frame.kind != FrameKind::Config {
            self.shared.frames.fetch_add(1, Relaxed);
        }
        if frame.is_video() && self.video.is_none_or(|video| frame.track < video) {
            self.video = Some(frame.track);
        }
        if self.skipping && !self.is_start(frame) {
            return self.leave_out(frame);
        }
        let before: usize = self.configs.iter().map(|config| config.payload.len()).sum();
        if !self.has_room(2 + self.configs.len() + 1, before + frame.payload.len()) {
            self.skipping = true;
            return self.leave_out(frame);
        }
        self.skipping = false;
        for (cause, owed) in [
            (GapCause::Queue, std::mem::take(&mut self.owed_by_queue)),
            (GapCause::Router, std::mem::take(&mut self.owed_by_router)),
        ] {
            if owed > 0 {
                self.send(Message::Gap(cause, owed));
            }
        }
        for config in std::mem::take(&mut self.configs) {
            self.send(Message::Frame(config));
        }
        self.send(Message::Frame(frame.clone()))
    }

    fn on_gap(&mut self, frames: u64) {
        self.owed_by_router += frames;
        self.shared.lose(GapCause::Router, frames);
    }

    fn on_end(&mut self, _: Reason) {
        self.shared.sink_gone.store(true, Relaxed);
    }
}

impl Drop for RecorderSink {
    fn drop(&mut self) {
        // Told before the channel ends, which is what the storage thread looks for.
        for (place, owed) in self.shared.owed_at_end.iter().zip([self.owed_by_queue, self.owed_by_router]) {
            place.store(owed, Relaxed);
        }
        self.shared.sink_gone.store(true, Relaxed);
    }
}
