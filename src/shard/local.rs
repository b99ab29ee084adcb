//! A stream on this shard: its log, its readers, and where its frames come from.

use std::sync::Arc;
use std::time::Duration;

use super::group::Group;
use super::meter::{Meter, Sampler};
use crate::clock::Instant;
use crate::fact::Who;
use crate::id::{Generation, ShardId, StreamKey};
use crate::limits::TRACKS_MAX;
use crate::media::{Frame, FrameFlags, FrameKind, Timestamp};
use crate::protocol::{Description, StreamHandle};
use crate::reason::Reason;
use crate::stream::{AppSpec, Line, Qos, RateWindow, StreamLog};

/// A stream on this shard, home or replica.
pub(crate) struct LocalStream {
    pub(crate) key: StreamKey,
    /// Never used twice on this shard: tells a timer whether the slot still holds the same stream.
    pub(crate) uid: u64,
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) source: Source,
    pub(crate) log: StreamLog,
    pub(crate) groups: Vec<Group>,
    /// Subscribers in all groups.
    pub(crate) subscribers: usize,
    /// Homes whose last message on a link to this slot is still to come: the slot is not free before.
    pub(crate) links: Vec<ShardId>,
    /// It is in the list of streams with something to flush.
    pub(crate) dirty: bool,
    /// The directory knows that this shard has subscribers of it.
    pub(crate) interested: bool,
    /// When its timer is armed; earlier deadlines arm another.
    pub(crate) timer_at: Instant,
    /// Its former publisher ended for this reason, and those who are behind may read on until then.
    pub(crate) ending: Option<(Reason, Instant)>,
    /// How long its timed frames took here; none before the first.
    pub(crate) meter: Option<Box<Meter>>,
    /// Frames that subscribers here skipped.
    pub(crate) skipped: u64,
    /// Subscribers here that were evicted.
    pub(crate) evicted: u64,
}

/// Where frames come from.
pub(crate) enum Source {
    /// Nobody publishes it. At the given time those who wait are told so, for the given reason.
    Absent {
        /// When the waiting ends.
        until: Instant,
        /// What those who wait are told then.
        reason: Reason,
    },
    /// Its publisher is here.
    Home(Box<Home>),
    /// Its publisher is on another shard.
    Remote {
        /// Which.
        home: ShardId,
    },
}

/// The publisher's side of a stream.
pub(crate) struct Home {
    pub(crate) publisher: PublisherRef,
    pub(crate) who: Who,
    pub(crate) generation: Generation,
    pub(crate) started: Instant,
    pub(crate) qos: Qos,
    pub(crate) description: Description,
    pub(crate) bitrate: RateWindow,
    /// Added to the publisher's timestamps; set at its first frame where an older timeline goes on.
    offset: Timestamp,
    resume: Option<Timestamp>,
    /// Tracks whose first frame is to be marked, by bit: time or content jumps there for those who read on.
    jumped: u16,
    line: Line,
    /// The highest DTS of each track.
    last_dts: [i64; TRACKS_MAX],
    /// Video tracks that had a keyframe, by bit.
    keyed: u16,
    pub(crate) sampler: Sampler,
    /// The last keyframe request, so that many viewers cause one.
    pub(crate) key_asked: Instant,
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublisherRef {
    /// A connection's stream.
    Connection {
        /// Its slot.
        slot: usize,
        /// Its own number for the stream.
        handle: StreamHandle,
    },
    /// A port of the host.
    Port(usize),
}

/// What became of a frame at its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It goes into the log.
    Taken {
        /// Its timestamp had stepped back on its track and was held.
        held: bool,
    },
    /// A delta frame before the track's first keyframe.
    BeforeKey,
    /// Another publisher has the name, and its time goes on from here.
    Ousted,
}

impl Home {
    pub(crate) fn new(
        publisher: PublisherRef,
        who: Who,
        generation: Generation,
        resume: Option<Timestamp>,
        line: Line,
        now: Instant,
    ) -> Self {
        let qos = Qos::starting(now);
        Self {
            publisher,
            who,
            generation,
            started: now,
            qos,
            description: Description::default(),
            bitrate: RateWindow::default(),
            offset: Timestamp::ZERO,
            resume,
            jumped: if resume.is_some() { u16::MAX } else { 0 },
            line,
            // No track of this publisher lies before the end of the former, whichever frame comes first.
            last_dts: [resume.map_or(i64::MIN, |end| end.0); TRACKS_MAX],
            keyed: 0,
            sampler: Sampler::default(),
            key_asked: Instant::ZERO,
        }
    }

    /// Puts a frame on the stream's timeline: behind the former publisher's, never back on its track.
    pub(crate) fn place(&mut self, frame: &mut Frame) -> Placed {
        let track = usize::from(frame.track.0);
        if frame.is_video() {
            let bit = 1 << track;
            if frame.is_key() {
                self.keyed |= bit;
            } else if self.keyed & bit == 0 {
                return Placed::BeforeKey;
            }
        }
        if let Some(end) = self.resume.take() {
            self.offset = end + MILLISECOND - frame.dts;
        }
        if self.jumped & (1 << track) != 0 && frame.kind != FrameKind::Config {
            // Each track's own: what comes before the first keyframe nobody sees.
            self.jumped &= !(1 << track);
            frame.flags = frame.flags.union(FrameFlags::DISCONTINUITY);
        }
        frame.dts = frame.dts + self.offset;
        frame.pts = frame.pts + self.offset;
        let last = &mut self.last_dts[track];
        let held = frame.dts.0 < *last;
        if held && frame.kind != FrameKind::Config {
            // The picture keeps its place relative to its decoding.
            frame.pts = frame.pts + Timestamp(*last - frame.dts.0);
        }
        if held {
            frame.dts = Timestamp(*last);
        }
        *last = frame.dts.0;
        if !self.line.extend(frame.dts) {
            return Placed::Ousted;
        }
        Placed::Taken { held }
    }

    /// Where the timeline ends now.
    pub(crate) fn timeline_end(&self) -> Timestamp {
        Timestamp(self.last_dts.iter().copied().max().unwrap_or(0).max(0))
    }
}

impl LocalStream {
    pub(crate) fn new(key: StreamKey, uid: u64, spec: Arc<AppSpec>) -> Self {
        let log = StreamLog::new(spec.gop_cache, spec.lag.max_age);
        Self {
            key,
            uid,
            spec,
            source: Source::Absent { until: Instant::FAR, reason: Reason::NotFound },
            log,
            groups: Vec::new(),
            subscribers: 0,
            links: Vec::new(),
            dirty: false,
            interested: false,
            timer_at: Instant::FAR,
            ending: None,
            meter: None,
            skipped: 0,
            evicted: 0,
        }
    }

    pub(crate) const fn home(&self) -> Option<&Home> {
        if let Source::Home(home) = &self.source { Some(home) } else { None }
    }

    pub(crate) const fn home_mut(&mut self) -> Option<&mut Home> {
        if let Source::Home(home) = &mut self.source { Some(home) } else { None }
    }

    /// Nothing needs it any more: its slot may be given to another.
    pub(crate) const fn is_idle(&self) -> bool {
        self.subscribers == 0 && self.links.is_empty() && !matches!(self.source, Source::Home(_))
    }

    /// How long those who are behind may read on after the end.
    pub(crate) fn drain_time(&self) -> Duration {
        self.spec.lag.max_age
    }
}

const MILLISECOND: Timestamp = Timestamp(1_000_000);
