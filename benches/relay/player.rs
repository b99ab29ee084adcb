//! What one viewer sees, and the sums over all of them.

use hdrhistogram::Histogram;

use super::chunk::{self, Message};
use super::link::Link;
use super::media::{self, GOP, Track};

/// One viewer.
#[derive(Debug)]
pub(crate) struct Player {
    /// `None` once it is lost.
    pub(crate) link: Option<Link>,
    pub(crate) watch: Watch,
    /// Whether each byte is hashed.
    pub(crate) hashing: bool,
}

/// What a viewer remembers of what it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    started: u64,
    joined: bool,
    video: Last,
    audio: Last,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    index: Option<u64>,
    timestamp: u32,
}

/// The sums over all viewers.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Frames that were due in this span, in shared nanoseconds, are measured.
    pub(crate) window: std::ops::Range<u64>,
    /// When the stream's first frame was due, by the first stamp seen.
    pub(crate) origin: Option<u64>,
    /// Receipt minus due, video frames of the window, nanoseconds.
    pub(crate) age: Histogram<u64>,
    /// Receipt minus sent, the same frames.
    pub(crate) age_since_sent: Histogram<u64>,
    /// Connect to first whole keyframe, nanoseconds.
    pub(crate) join: Histogram<u64>,
    /// Video and audio frames of the window that came.
    pub(crate) received: u64,
    /// Places where frames are missing.
    pub(crate) gaps: u64,
    /// Frames missing there.
    pub(crate) missing: u64,
    /// Frames that came twice or after a later one.
    pub(crate) repeated: u64,
    /// Timestamps below the one before in the same track.
    pub(crate) falls: u64,
    pub(crate) checked: u64,
    pub(crate) corrupt: u64,
    /// Media messages that are neither configuration nor stamped.
    pub(crate) strange: u64,
}

impl Watch {
    /// A viewer that begins to connect at `now`.
    pub(crate) fn new(now: u64) -> Self {
        Self { started: now, joined: false, video: Last::default(), audio: Last::default() }
    }

    /// Takes in a media message received at `now`.
    pub(crate) fn on_media(&mut self, message: &Message<'_>, now: u64, tally: &mut Tally) {
        let Some(track) = chunk::track_of(message.kind) else { return };
        let Some(stamp) = message.stamp else {
            // A configuration has a 0 where a frame has a 1.
            tally.strange += u64::from(message.start.get(1) != Some(&0));
            return;
        };
        let last = match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        if let Some(index) = last.index {
            tally.falls += u64::from(message.timestamp < last.timestamp);
            if stamp.index <= index {
                tally.repeated += 1;
            } else if stamp.index > index + 1 {
                tally.gaps += 1;
                tally.missing += stamp.index - index - 1;
            }
        }
        last.timestamp = message.timestamp;
        last.index = last.index.max(Some(stamp.index));
        if let Some(body) = message.body {
            tally.checked += 1;
            tally.corrupt += u64::from(!stamp.fits(body));
        }
        let video = track == Track::Video;
        if video && tally.origin.is_none() {
            tally.origin = Some(stamp.due - media::video_offset(stamp.index));
        }
        if video && !self.joined && stamp.index.is_multiple_of(GOP) {
            self.joined = true;
            tally.join.saturating_record(now - self.started);
        }
        if tally.window.contains(&stamp.due) {
            tally.received += 1;
            if video {
                tally.age.saturating_record(now.saturating_sub(stamp.due));
                tally.age_since_sent.saturating_record(now.saturating_sub(stamp.sent));
            }
        }
    }

    /// Whether a keyframe came.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds");
        Self {
            window: 0..0,
            origin: None,
            age: histogram(),
            age_since_sent: histogram(),
            join: histogram(),
            received: 0,
            gaps: 0,
            missing: 0,
            repeated: 0,
            falls: 0,
            checked: 0,
            corrupt: 0,
            strange: 0,
        }
    }
}
