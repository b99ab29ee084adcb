//! A stream on this shard: its log, its readers, and where its frames come from.

use std::sync::Arc;
use std::time::Duration;

use super::caps::Spent;
use super::group::Group;
use super::meter::{Meter, Sampler};
use super::pace::Pace;
use super::standby::Standby;
use crate::clock::Instant;
use crate::fact::Who;
use crate::id::{Generation, ShardId, StreamKey};
use crate::limits::{CLOCK_FACTS_PER_MINUTE, STREAM_BYTES};
use crate::media::{Frame, Timestamp};
use crate::protocol::{Description, StreamHandle};
use crate::reason::Reason;
use crate::stream::{AppSpec, Line, Qos, RateWindow, StreamLog, Timeline};

/// A stream on this shard, home or replica.
pub(crate) struct LocalStream {
    pub(crate) key: StreamKey,
    /// Never used twice on this shard: tells a timer whether the slot still holds the same stream.
    pub(crate) uid: u64,
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) source: Source,
    pub(crate) log: StreamLog,
    /// How fast it grows, for the sockets of its viewers.
    pub(crate) pace: Pace,
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
    /// Bytes of memory that it is counted with.
    pub(crate) counted: u64,
    /// The payloads in its log are the host's own: no buffer of ours holds them.
    pub(crate) own_payloads: bool,
    /// Publishers of it on this shard that do not lead; the directory bounds them.
    pub(crate) standbys: Vec<Standby>,
    /// When it is looked whether its publishers send.
    pub(crate) watch_at: Instant,
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
    pub(crate) spent: Spent,
    pub(crate) timeline: Timeline,
    /// Corrections of its clock that no fact has told yet.
    pub(crate) untold: u64,
    /// Facts told of it since a minute began, and when that was.
    told: (u32, Instant),
    line: Line,
    /// When the last picture is shown.
    shown: Timestamp,
    /// Video tracks that had a keyframe, by bit.
    keyed: u16,
    pub(crate) sampler: Sampler,
    /// The last keyframe request, so that many viewers cause one.
    pub(crate) key_asked: Instant,
    /// It sends nothing, and that was told.
    pub(crate) stalled: bool,
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
        /// A clock was put right for it, or it was held: see [`Timeline::take_corrections`].
        corrected: bool,
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
            spent: Spent::default(),
            timeline: Timeline::new(resume),
            untold: 0,
            told: (0, now),
            line,
            shown: Timestamp::ZERO,
            keyed: 0,
            sampler: Sampler::default(),
            key_asked: Instant::ZERO,
            stalled: false,
        }
    }

    /// Puts a frame on the stream's timeline: behind the former publisher's, never back on its track.
    pub(crate) fn place(&mut self, frame: &mut Frame) -> Placed {
        if frame.is_video() {
            let bit = 1 << frame.track.0;
            if frame.is_key() {
                self.keyed |= bit;
            } else if self.keyed & bit == 0 {
                return Placed::BeforeKey;
            }
        }
        let corrected = self.timeline.place(frame);
        if frame.is_video() {
            // Pictures come in the order of their decoding: whoever goes on shows its own behind all of these.
            self.shown = self.shown.max(frame.pts.min(frame.dts + REORDERED_AT_MOST));
        }
        if !self.line.extend(frame.dts.max(self.shown)) {
            return Placed::Ousted;
        }
        Placed::Taken { corrected }
    }

    /// How many corrections of its clock a fact is to tell now, if one is.
    pub(crate) fn clock_fact(&mut self, now: Instant) -> Option<u64> {
        if now.since(self.told.1) >= Duration::from_secs(60) {
            self.told = (0, now);
        }
        if self.untold == 0 || self.told.0 >= CLOCK_FACTS_PER_MINUTE {
            return None;
        }
        self.told.0 += 1;
        Some(std::mem::take(&mut self.untold))
    }

    /// Where the timeline ends now.
    pub(crate) fn timeline_end(&self) -> Timestamp {
        self.timeline.end().max(self.shown)
    }
}

impl LocalStream {
    pub(crate) fn new(key: StreamKey, uid: u64, spec: Arc<AppSpec>) -> Self {
        let log = StreamLog::new(spec.gop_cache, spec.lag.max_age + spec.delay_max).keeping(spec.delay_max);
        Self {
            key,
            uid,
            spec,
            source: Source::Absent { until: Instant::FAR, reason: Reason::NotFound },
            log,
            pace: Pace::NEW,
            groups: Vec::new(),
            subscribers: 0,
            links: Vec::new(),
            dirty: false,
            interested: false,
            timer_at: Instant::FAR,
            ending: None,
            standbys: Vec::new(),
            watch_at: Instant::FAR,
            meter: None,
            skipped: 0,
            evicted: 0,
            counted: 0,
            own_payloads: false,
        }
    }

    /// Bytes of memory that it holds, subscribers included, and payloads where no buffer of ours is counted for them.
    pub(crate) fn memory(&self) -> u64 {
        let groups: usize = self.groups.iter().map(Group::memory).sum();
        let own = if self.own_payloads { self.log.bytes_held() + self.log.config_bytes() } else { 0 };
        let standbys: u64 = self.standbys.iter().map(Standby::memory).sum();
        (STREAM_BYTES + self.log.table_bytes() + groups) as u64 + own + standbys
    }

    /// The same with the payloads of its log, whoever is counted for them.
    pub(crate) fn weight(&self) -> u64 {
        let standbys: u64 = self.standbys.iter().map(Standby::uncounted).sum();
        self.memory() + standbys + if self.own_payloads { 0 } else { self.log.bytes_held() }
    }

    /// What lies before this was offered to everybody at the live edge.
    pub(crate) fn offered(&self) -> u64 {
        let readers = self.groups.iter().filter(|group| !group.subs.is_empty());
        readers.map(|group| group.edge).min().unwrap_or_else(|| self.log.head())
    }

    /// Gives back the room of frames that are held no more.
    pub(crate) fn shrink(&mut self) {
        self.log.shrink();
        for packets in self.groups.iter_mut().filter_map(|group| group.packets.as_mut()) {
            packets.shrink(self.log.tail());
        }
    }

    /// Bytes that one frame more makes its tables longer by, old and new ones held at once: nearly always none.
    pub(crate) fn growth(&self) -> usize {
        let groups = self.groups.iter().filter(|group| !group.subs.is_empty());
        self.log.growth() + groups.map(|group| group.growth(&self.log)).sum::<usize>()
    }

    /// Makes the tables of packets as long as they will be needed, and those packets whose bytes are their own.
    pub(crate) fn grow(&mut self) {
        for group in self.groups.iter_mut().filter(|group| !group.subs.is_empty()) {
            let edge = group.edge;
            if let Some(packets) = &mut group.packets {
                packets.grow(&self.log, edge);
            }
        }
    }

    pub(crate) const fn home(&self) -> Option<&Home> {
        if let Source::Home(home) = &self.source { Some(home) } else { None }
    }

    pub(crate) const fn home_mut(&mut self) -> Option<&mut Home> {
        if let Source::Home(home) = &mut self.source { Some(home) } else { None }
    }

    /// What is known of this publisher as its home.
    pub(crate) fn home_of(&mut self, publisher: PublisherRef) -> Option<&mut Home> {
        self.home_mut().filter(|home| home.publisher == publisher)
    }

    /// Nothing needs it any more: its slot may be given to another.
    pub(crate) const fn is_idle(&self) -> bool {
        self.subscribers == 0
            && self.links.is_empty()
            && self.standbys.is_empty()
            && !matches!(self.source, Source::Home(_))
    }

    /// How long those who are behind may read on after the end.
    pub(crate) fn drain_time(&self) -> Duration {
        let delay = self.groups.iter().filter(|group| !group.subs.is_empty()).map(|group| group.delay).max();
        self.spec.lag.max_age + delay.unwrap_or_default()
    }
}

/// How much later than it is decoded a picture may be shown, as far as the next publisher waits for that.
const REORDERED_AT_MOST: Timestamp = Timestamp::from_millis(1_000);
