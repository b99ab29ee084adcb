//! What happened, as data: the one record that audit, observers and events are told.
//!
//! Facts are rare (sessions, not frames), so they own their strings. Secrets never enter one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
use crate::reason::Reason;

/// What a kind of fact is worth: each class has a way of its own into the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Who was let in, sent away, replaced or let go, and by which rules.
    Decision,
    /// How it went meanwhile. However much of it there is, it takes no room from decisions.
    Telemetry,
}

impl Class {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Decision, Self::Telemetry];

    /// The stable word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Telemetry => "telemetry",
        }
    }
}

macro_rules! kinds {
    ($($kind:ident = $code:literal, $name:literal, $class:ident, $sentence:literal;)*) => {
        /// What kind of thing happened. The number is stable; new kinds have new numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum FactKind {
            $(#[doc = $sentence] $kind = $code,)*
        }

        impl FactKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The stable name in records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What it is worth.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$kind => Class::$class,)*
                }
            }

            /// What it says, for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$kind => $sentence,)*
                }
            }
        }
    };
}

// Code, name, class, and a sentence.
kinds! {
    RouterStart = 1, "router_start", Decision, "The router runs.";
    RouterStop = 2, "router_stop", Decision, "The router is stopping.";
    ConnectionOpen = 10, "connection_open", Telemetry, "A connection was accepted.";
    ConnectionClose = 11, "connection_close", Telemetry, "A connection is gone; bytes and duration are its totals.";
    ConnectionRefuse = 12, "connection_refuse", Telemetry, "Connections were refused before they had a session; the count is how many.";
    PublishStart = 20, "publish_start", Decision, "A publisher is live.";
    PublishEnd = 21, "publish_end", Decision, "A publisher ended; bytes and duration are its totals.";
    PublishRefuse = 22, "publish_refuse", Decision, "A publisher was refused; a count is how often that came again within a second.";
    Takeover = 23, "takeover", Decision, "A publisher lost its name to another.";
    Switch = 24, "switch", Decision, "A stream went on with another publisher, its players untouched; a reason says why that was one who stood by.";
    Standby = 25, "standby", Decision, "A publisher was taken in behind the one that leads; its end or its switch follows.";
    StandbyEnd = 26, "standby_end", Decision, "A publisher that stood by is gone.";
    Stall = 27, "stall", Telemetry, "A publisher sends nothing; told once for each silence.";
    PublishAllow = 28, "publish_allow", Decision, "Somebody may publish, and does so as soon as this is on disk: see durable = \"before-effect\".";
    PlayStart = 30, "play_start", Decision, "A player or subscriber started.";
    PlayEnd = 31, "play_end", Decision, "A player or subscriber ended; bytes and duration are its totals.";
    PlayRefuse = 32, "play_refuse", Decision, "A player or subscriber was refused; a count is how often that came again within a second.";
    Skip = 33, "skip", Telemetry, "A subscriber skipped frames because it was too far behind; the count is how many.";
    Evict = 34, "evict", Decision, "A subscriber was removed for being behind for too long.";
    PlayAllow = 35, "play_allow", Decision, "Somebody may play, and does so as soon as this is on disk: see durable = \"before-effect\".";
    Kick = 40, "kick", Decision, "Somebody ended a session by command.";
    Reap = 41, "reap", Decision, "A silent publisher was removed.";
    RateLimit = 42, "rate_limit", Telemetry, "A rate limit closed or refused something.";
    GopDrop = 43, "gop_drop", Telemetry, "The GOP cache of a stream exceeded a bound and waits for the next keyframe.";
    TimestampJump = 44, "timestamp_jump", Telemetry, "A publisher's clock jumped, was set back or ran away, and the timeline went on; the count is how often, since it was told last.";
    MemoryPressure = 45, "memory_pressure", Telemetry, "Memory is near its cap, and what was held is let go; bytes are what was held, the count how many caches, viewers and connections it cost since this was told last.";
    ShardPanic = 50, "shard_panic", Decision, "A shard panicked and was restarted; the count is how many connections were lost.";
    ShardStall = 51, "shard_stall", Telemetry, "A shard does not finish its turn.";
    Configuration = 60, "configuration", Decision, "Configuration was replaced, or a replacement was refused.";
    Host = 99, "host", Decision, "Something that the host of this router tells, under a name, a code and a class of its own.";
}

/// A kind of event that a host adds to the trail: declared once, as data, as ours are.
///
/// ```
/// use shardcast::fact::{Class, HostKind};
/// const DOOR: HostKind = HostKind::new(10_001, "door_open", Class::Decision, "A door of the court room was opened.");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostKind {
    code: u16,
    name: &'static str,
    class: Class,
    sentence: &'static str,
}

impl HostKind {
    /// The least code of a host's own kinds.
    pub const CODE_MIN: u16 = 10_000;

    /// Declares one. The code is at least [`HostKind::CODE_MIN`], the name has 1 to 32 of `a-z 0-9 _`.
    ///
    /// # Panics
    /// If they are not, which stops the build where it is a constant.
    #[must_use]
    pub const fn new(code: u16, name: &'static str, class: Class, sentence: &'static str) -> Self {
        assert!(code >= Self::CODE_MIN, "codes below 10,000 are shardcast's");
        assert!(!name.is_empty() && name.len() <= 32, "a name has 1 to 32 characters");
        let mut rest = name.as_bytes();
        while let [first, behind @ ..] = rest {
            assert!(matches!(first, b'a'..=b'z' | b'0'..=b'9' | b'_'), "a name has a-z, 0-9 and _");
            rest = behind;
        }
        Self { code, name, class, sentence }
    }

    /// The stable number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.code
    }

    /// The stable name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// What it is worth.
    #[must_use]
    pub const fn class(self) -> Class {
        self.class
    }

    /// What it says, for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        self.sentence
    }
}

/// What a host tells: see [`Router::tell`](crate::Router::tell).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEvent {
    /// What happened.
    pub kind: HostKind,
    /// Which stream is concerned, if one is.
    pub stream: Option<StreamKey>,
    /// Who, if somebody is.
    pub who: Option<Who>,
    /// More about it, as a text; it is cut at [`TEXT_BYTES_MAX`](crate::audit::TEXT_BYTES_MAX). No secrets.
    pub note: Option<Arc<str>>,
}

impl HostEvent {
    /// With nothing but its kind.
    #[must_use]
    pub const fn new(kind: HostKind) -> Self {
        Self { kind, stream: None, who: None, note: None }
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
    /// Of [`FactKind::Host`]: what it is.
    pub host: Option<Arc<HostEvent>>,
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
            host: None,
        }
    }

    /// What a host tells.
    #[must_use]
    pub fn of_host(event: HostEvent, now: Now, shard: ShardId) -> Self {
        let (stream, who) = (event.stream.clone(), event.who.clone());
        Self { stream, who, host: Some(Arc::new(event)), ..Self::new(FactKind::Host, now, shard) }
    }

    /// The stable name of what happened: a host's own, where it tells it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.host.as_ref().map_or_else(|| self.kind.name(), |event| event.kind.name())
    }

    /// The stable number of what happened.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.host.as_ref().map_or(self.kind as u16, |event| event.kind.code())
    }

    /// What it is worth.
    #[must_use]
    pub fn class(&self) -> Class {
        self.host.as_ref().map_or_else(|| self.kind.class(), |event| event.kind.class())
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
