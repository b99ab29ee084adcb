//! What an application promises its streams.

use std::time::Duration;

use super::filler::Filler;
use crate::media::{Merge, Start};

/// An application: the first part of a stream's key, and how its streams behave.
///
/// The name `*` is a template: any application that is not named otherwise exists as it says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AppSpec {
    /// The application's name, or `*`.
    pub name: Box<str>,
    /// Where a viewer starts that does not say otherwise.
    pub start: Start,
    /// The farthest behind the live edge that a viewer may choose to be ([`Start::Behind`]): so much of each stream is
    /// kept, within the frames and bytes of [`GopCache`] (but not less than 1,024 frames and 8 MiB). Zero keeps nothing
    /// for that.
    pub delay_max: Duration,
    /// What is kept for joiners.
    pub gop_cache: GopCache,
    /// How far behind a subscriber may be.
    pub lag: LagPolicy,
    /// How frames are gathered into sends, unless a viewer says otherwise.
    pub merge: Merge,
    /// How long a stream outlives its publisher's connection, with its players waiting.
    pub republish_grace: Duration,
    /// What a player of a stream without a publisher gets.
    pub absent: Absent,
    /// What happens to a second publisher of a live name.
    pub conflict: Conflict,
    /// How many may be there at once.
    pub seats: AppSeats,
    /// How fast its publishers may send.
    pub publisher: PublisherCaps,
    /// What players see within the grace.
    pub filler: Option<Filler>,
    /// A publisher that sends nothing for so long is passed over for one that stands by.
    pub stall_after: Duration,
    /// How long a primary that is back must have delivered before the stream goes on with it; `None` for never.
    pub return_after: Option<Duration>,
    /// Whether a session waits until it is on record.
    pub durable: Durable,
}

/// When a session starts that was let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durable {
    /// At once; its record follows.
    #[default]
    Async,
    /// When every audit sink has made durable that it may: it is on disk. If that takes too long, or one of them cannot,
    /// it is refused. Without a sink nobody waits for anything.
    BeforeEffect,
}

impl AppSpec {
    /// An application with the defaults: instant start, GOP cache on, three seconds of lag, audio rides with video, no
    /// grace, absent streams and second publishers refused.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            start: Start::default(),
            delay_max: Duration::ZERO,
            gop_cache: GopCache::default(),
            lag: LagPolicy::default(),
            merge: Merge::default(),
            republish_grace: Duration::ZERO,
            absent: Absent::Refuse,
            conflict: Conflict::Refuse,
            seats: AppSeats::NONE,
            publisher: PublisherCaps::NONE,
            filler: None,
            stall_after: Duration::from_secs(2),
            return_after: Some(Duration::from_secs(5)),
            durable: Durable::Async,
        }
    }

    /// Sets whether sessions wait until they are on record.
    #[must_use]
    pub const fn durable(mut self, durable: Durable) -> Self {
        self.durable = durable;
        self
    }

    /// Sets where viewers start.
    #[must_use]
    pub const fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets how far behind a viewer may choose to be.
    #[must_use]
    pub const fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = delay;
        self
    }

    /// Sets what is kept for joiners.
    #[must_use]
    pub const fn gop_cache(mut self, cache: GopCache) -> Self {
        self.gop_cache = cache;
        self
    }

    /// Sets how far behind a subscriber may be.
    #[must_use]
    pub const fn lag(mut self, lag: LagPolicy) -> Self {
        self.lag = lag;
        self
    }

    /// Sets how frames are gathered into sends.
    #[must_use]
    pub const fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// Sets how long a stream outlives its publisher.
    #[must_use]
    pub const fn republish_grace(mut self, grace: Duration) -> Self {
        self.republish_grace = grace;
        self
    }

    /// Sets what a player of an absent stream gets.
    #[must_use]
    pub const fn absent(mut self, absent: Absent) -> Self {
        self.absent = absent;
        self
    }

    /// Sets what happens to a second publisher.
    #[must_use]
    pub const fn conflict(mut self, conflict: Conflict) -> Self {
        self.conflict = conflict;
        self
    }

    /// Sets how many may be there at once.
    #[must_use]
    pub const fn seats(mut self, seats: AppSeats) -> Self {
        self.seats = seats;
        self
    }

    /// Sets how fast its publishers may send.
    #[must_use]
    pub const fn publisher(mut self, caps: PublisherCaps) -> Self {
        self.publisher = caps;
        self
    }

    /// Sets what players see within the grace.
    #[must_use]
    pub fn filler(mut self, filler: Filler) -> Self {
        self.filler = Some(filler);
        self
    }

    /// Sets how long a silent publisher keeps the stream although another stands by.
    #[must_use]
    pub const fn stall_after(mut self, time: Duration) -> Self {
        self.stall_after = time;
        self
    }

    /// Sets how long a primary that is back must have delivered before the stream goes on with it.
    #[must_use]
    pub const fn return_after(mut self, time: Option<Duration>) -> Self {
        self.return_after = time;
        self
    }
}

/// How many may be in one application at once over connections, each `None` for no limit. Those of the host in process
/// are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppSeats {
    /// Connections that publish or play.
    pub connections: Option<usize>,
    /// Publishers.
    pub publishers: Option<usize>,
    /// Viewers, of all streams together.
    pub viewers: Option<usize>,
}

impl AppSeats {
    /// As many as like.
    pub const NONE: Self = Self { connections: None, publishers: None, viewers: None };
}

/// How fast one publisher may send, and what happens if it sends faster. Three seconds' worth may come at once, so that
/// a large keyframe is no excess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherCaps {
    /// Bits of payload per second, `None` for no cap.
    pub bitrate: Option<u64>,
    /// Video frames per second of all tracks together, `None` for no cap.
    pub frame_rate: Option<u64>,
    /// What happens to what is too much.
    pub excess: Excess,
}

impl PublisherCaps {
    /// As fast as it likes.
    pub const NONE: Self = Self { bitrate: None, frame_rate: None, excess: Excess::Close };

    /// Whether there is any cap.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.bitrate.is_some() || self.frame_rate.is_some()
    }
}

/// What happens to a publisher that sends faster than it may. All of it is counted and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Nothing else.
    Warn,
    /// It is read no faster, and TCP holds it back.
    Throttle,
    /// It is closed.
    Close,
}

/// Bounds of what is kept since the newest keyframe. A GOP that exceeds one is dropped and counted, and joiners
/// wait for the next keyframe; subscribers at the live edge notice nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GopCache {
    /// Frames of all tracks together; 0 switches the cache off.
    pub frames: usize,
    /// Payload bytes.
    pub bytes: usize,
    /// Age of the keyframe.
    pub age: Duration,
}

impl GopCache {
    /// Nothing is kept: a joiner waits for the next keyframe.
    pub const OFF: Self = Self { frames: 0, bytes: 0, age: Duration::ZERO };
}

impl Default for GopCache {
    fn default() -> Self {
        Self { frames: 4096, bytes: 48 * 1024 * 1024, age: Duration::from_secs(60) }
    }
}

/// How far behind a subscriber may be, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagPolicy {
    /// The oldest frame that is still sent, counted when a slow viewer gets it: what is known of the time that it will
    /// spend in the socket is taken off. Beyond it the subscriber skips to the newest keyframe; beyond half of it
    /// frames that no other refers to are left out ([`FrameFlags::DISPOSABLE`](crate::media::FrameFlags)).
    pub max_age: Duration,
    /// Payload bytes that may wait for one subscriber; half of them count as half of the age.
    pub max_bytes: u64,
    /// The window in which skipped time is added up, and the longest time without any progress.
    pub evict_window: Duration,
    /// Skipped media time within the window at which the subscriber is evicted.
    pub evict_lost: Duration,
}

impl Default for LagPolicy {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(3),
            max_bytes: 16 * 1024 * 1024,
            evict_window: Duration::from_secs(10),
            evict_lost: Duration::from_secs(9),
        }
    }
}

/// What a player of a stream without a publisher gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error at once.
    Refuse,
    /// The stream, if its publisher comes within this time.
    Wait(Duration),
}

/// What happens to a second publisher of a live name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It is refused.
    Refuse,
    /// It takes over, and the first is closed.
    TakeOver,
    /// It stands by, and the stream goes on with it when the first ends or sends nothing, or by command.
    Backup,
}
