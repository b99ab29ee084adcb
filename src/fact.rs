//! What happened, as data: the one record that audit, observers and events are told.
//!
//! Facts are rare (sessions, not frames), so they own their strings. Secrets never enter one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
use crate::reason::Reason;

/// What kind of thing happened. The number is stable; new kinds are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum FactKind {
    /// The router runs.
    RouterStart = 1,
    /// The router is stopping.
    RouterStop = 2,
    /// A connection was accepted.
    ConnectionOpen = 10,
    /// A connection is gone; bytes and duration are its totals.
    ConnectionClose = 11,
    /// A connection was refused before it had a session.
    ConnectionRefuse = 12,
    /// A publisher is live.
    PublishStart = 20,
    /// A publisher ended; bytes and duration are its totals.
    PublishEnd = 21,
    /// A publisher was refused.
    PublishRefuse = 22,
    /// A publisher lost its name to another.
    Takeover = 23,
    /// A stream went on with another publisher, its players untouched; a reason says why that was one who stood by.
    Switch = 24,
    /// A publisher was taken in behind the one that leads; its end or its switch follows.
    Standby = 25,
    /// A publisher that stood by is gone.
    StandbyEnd = 26,
    /// A publisher sends nothing; told once for each silence.
    Stall = 27,
    /// A player or subscriber started.
    PlayStart = 30,
    /// A player or subscriber ended; bytes and duration are its totals.
    PlayEnd = 31,
    /// A player or subscriber was refused.
    PlayRefuse = 32,
    /// A subscriber skipped frames because it was too far behind; `count` is how many.
    Skip = 33,
    /// A subscriber was removed for being behind for too long.
    Evict = 34,
    /// Somebody ended a session by command.
    Kick = 40,
    /// A silent publisher was removed.
    Reap = 41,
    /// A rate limit closed or refused something.
    RateLimit = 42,
    /// The GOP cache of a stream exceeded a bound and waits for the next keyframe.
    GopDrop = 43,
    /// A publisher's clock jumped, was set back or ran away, and the timeline went on; `count` is how often, since
    /// it was told last.
    TimestampJump = 44,
    /// Memory is near its cap, and what was held is let go; `bytes` is what was held, `count` how many caches, viewers
    /// and connections it cost since this was told last.
    MemoryPressure = 45,
    /// A shard panicked and was restarted; `count` is how many connections were lost.
    ShardPanic = 50,
    /// A shard does not finish its turn.
    ShardStall = 51,
    /// Configuration was replaced, or a replacement was refused.
    Configuration = 60,
}

impl FactKind {
    /// The stable name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RouterStart => "router_start",
            Self::RouterStop => "router_stop",
            Self::ConnectionOpen => "connection_open",
            Self::ConnectionClose => "connection_close",
            Self::ConnectionRefuse => "connection_refuse",
            Self::PublishStart => "publish_start",
            Self::PublishEnd => "publish_end",
            Self::PublishRefuse => "publish_refuse",
            Self::Takeover => "takeover",
            Self::Switch => "switch",
            Self::Standby => "standby",
            Self::StandbyEnd => "standby_end",
            Self::Stall => "stall",
            Self::PlayStart => "play_start",
            Self::PlayEnd => "play_end",
            Self::PlayRefuse => "play_refuse",
            Self::Skip => "skip",
            Self::Evict => "evict",
            Self::Kick => "kick",
            Self::Reap => "reap",
            Self::RateLimit => "rate_limit",
            Self::GopDrop => "gop_drop",
            Self::TimestampJump => "timestamp_jump",
            Self::MemoryPressure => "memory_pressure",
            Self::ShardPanic => "shard_panic",
            Self::ShardStall => "shard_stall",
            Self::Configuration => "configuration",
        }
    }
}

/// Who is behind a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The connection, or the host's publisher or subscriber.
    pub connection: ConnectionId,
    /// Where it comes from; `None` for the host itself.
    pub peer: Option<SocketAddr>,
    /// `rtmp`, `host`, or what a host's own protocol calls itself.
    pub protocol: &'static str,
    /// Whom the authenticator recognised.
    pub principal: Option<Arc<str>>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fact {
    /// What.
    pub kind: FactKind,
    /// When.
    pub now: Now,
    /// The shard that tells it.
    pub shard: ShardId,
    /// Which stream, if one is concerned.
    pub stream: Option<StreamKey>,
    /// Which life of that stream.
    pub generation: Option<Generation>,
    /// Who, if a session is concerned.
    pub who: Option<Who>,
    /// Why, for ends and refusals.
    pub reason: Option<Reason>,
    /// Payload bytes moved in the session, at its end.
    pub bytes: u64,
    /// How long the session lasted, at its end.
    pub duration: Duration,
    /// Frames skipped, connections lost, refusals summed up: see the kind.
    pub count: u64,
}

impl Fact {
    /// A fact with nothing but its kind, time and place.
    #[must_use]
    pub const fn new(kind: FactKind, now: Now, shard: ShardId) -> Self {
        Self {
            kind,
            now,
            shard,
            stream: None,
            generation: None,
            who: None,
            reason: None,
            bytes: 0,
            duration: Duration::ZERO,
            count: 0,
        }
    }

    /// Adds the stream.
    #[must_use]
    pub fn stream(mut self, key: &StreamKey) -> Self {
        self.stream = Some(key.clone());
        self
    }

    /// Adds the stream's life.
    #[must_use]
    pub const fn generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Adds the session.
    #[must_use]
    pub fn who(mut self, who: &Who) -> Self {
        self.who = Some(who.clone());
        self
    }

    /// Adds the reason.
    #[must_use]
    pub const fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Adds totals.
    #[must_use]
    pub const fn totals(mut self, bytes: u64, duration: Duration) -> Self {
        self.bytes = bytes;
        self.duration = duration;
        self
    }

    /// Adds a count.
    #[must_use]
    pub const fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }
}
