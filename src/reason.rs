//! Why something ended or was refused: one vocabulary for sessions, records, events and the host.
//!
//! Sorted by blame: bytes that no implementation may send, a peer that does what is not its turn, a limit, the
//! caller's mistake, or nobody's.

use std::fmt;

use crate::limits::Limit;

/// Whose fault an end or a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Nobody: an orderly end.
    Nobody,
    /// Bytes that are not the protocol.
    Malformed,
    /// Legal bytes at the wrong time, or a peer that fell silent or behind.
    Peer,
    /// A named limit was reached.
    Limit,
    /// A name, a key or a permission that the caller got wrong.
    Caller,
    /// A policy or a person of the operator.
    Operator,
    /// shardcast itself.
    Router,
}

/// A stable word for a protocol's own kind of error, such as `rtmp.chunk_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub &'static str);

/// Why a session, a publish, a play or a subscription ended or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The publisher or player ended in an orderly way.
    Ended,
    /// The peer closed the connection.
    PeerClosed,
    /// The peer reset the connection, or the network did.
    Reset,
    /// Bytes that are not the protocol.
    Malformed {
        /// What was being read, in the protocol's words.
        what: Label,
        /// Offset of the offending byte in the connection's input.
        at: u64,
    },
    /// Legal bytes that are not legal now.
    Misbehaved(Label),
    /// The peer uses something that this router does not speak, for example an unknown codec.
    Unsupported(Label),
    /// A bound of [`Limits`](crate::limits::Limits) was reached.
    Limit(Limit),
    /// Not through with the handshake in time.
    HandshakeTimeout,
    /// Neither published nor played in time.
    RequestTimeout,
    /// Silent for too long.
    Idle,
    /// Too far behind for too long.
    Lag,
    /// Did not take its last bytes in time.
    CloseTimeout,
    /// The application does not exist.
    UnknownApp,
    /// The stream does not exist, or its publisher did not come in time.
    NotFound,
    /// The application or stream name breaks the rules of [`StreamKey`](crate::id::StreamKey).
    BadName,
    /// Another publisher has the name.
    NameTaken,
    /// Another publisher took the name over.
    TakenOver,
    /// A publisher sends nothing, while another one of its stream does.
    Stalled,
    /// Another publisher of the stream was chosen by command.
    Switched,
    /// The primary publisher of the stream is back.
    Returned,
    /// The authenticator said no.
    Denied,
    /// The authenticator did not answer in time.
    AuthTimeout,
    /// The token's time is over.
    TokenExpired,
    /// Somebody with the right to do so ended it.
    Kicked,
    /// The router is stopping.
    Shutdown,
    /// What must be on record could not be recorded.
    AuditUnavailable,
    /// The shard that served it failed.
    ShardLost,
    /// The session failed with a panic: our fault.
    Panic,
}

impl Reason {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            Self::Ended | Self::PeerClosed | Self::Returned => Blame::Nobody,
            Self::Malformed { .. } => Blame::Malformed,
            Self::Reset
            | Self::Misbehaved(_)
            | Self::Unsupported(_)
            | Self::HandshakeTimeout
            | Self::RequestTimeout
            | Self::Idle
            | Self::Lag
            | Self::Stalled
            | Self::CloseTimeout => Blame::Peer,
            Self::Limit(_) => Blame::Limit,
            Self::UnknownApp
            | Self::NotFound
            | Self::BadName
            | Self::NameTaken
            | Self::Denied
            | Self::AuthTimeout
            | Self::TokenExpired => Blame::Caller,
            Self::TakenOver | Self::Switched | Self::Kicked | Self::Shutdown => Blame::Operator,
            Self::AuditUnavailable | Self::ShardLost | Self::Panic => Blame::Router,
        }
    }

    /// The stable word for records, metrics and events; details are left out.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::PeerClosed => "peer_closed",
            Self::Reset => "reset",
            Self::Malformed { .. } => "malformed",
            Self::Misbehaved(_) => "misbehaved",
            Self::Unsupported(_) => "unsupported",
            Self::Limit(_) => "limit",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::Idle => "idle",
            Self::Lag => "lag",
            Self::CloseTimeout => "close_timeout",
            Self::UnknownApp => "unknown_app",
            Self::NotFound => "not_found",
            Self::BadName => "bad_name",
            Self::NameTaken => "name_taken",
            Self::TakenOver => "taken_over",
            Self::Stalled => "stalled",
            Self::Switched => "switched",
            Self::Returned => "returned",
            Self::Denied => "denied",
            Self::AuthTimeout => "auth_timeout",
            Self::AuditUnavailable => "audit_unavailable",
            Self::TokenExpired => "token_expired",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::ShardLost => "shard_lost",
            Self::Panic => "panic",
        }
    }

    /// The protocol's label or the limit's name, where the reason has one.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Malformed { what, .. } => Some(what.0),
            Self::Misbehaved(label) | Self::Unsupported(label) => Some(label.0),
            Self::Limit(limit) => Some(limit.label()),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it ended"),
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::Malformed { what, at } => write!(f, "malformed input at byte {at}: {}", what.0),
            Self::Misbehaved(what) => write!(f, "the peer did what is not allowed at this point: {}", what.0),
            Self::Unsupported(what) => write!(f, "not supported: {}", what.0),
            Self::Limit(limit) => write!(f, "the limit '{limit}' is reached"),
            Self::HandshakeTimeout => f.write_str("the handshake took too long"),
            Self::RequestTimeout => f.write_str("neither publish nor play was requested in time"),
            Self::Idle => f.write_str("nothing was received for too long"),
            Self::Lag => f.write_str("the subscriber stayed too far behind"),
            Self::CloseTimeout => f.write_str("the peer did not take its last bytes in time"),
            Self::UnknownApp => f.write_str("no such application"),
            Self::NotFound => f.write_str("no such stream"),
            Self::BadName => {
                f.write_str("the application or stream name is not allowed: use A-Z a-z 0-9 _ . ~ - and /")
            }
            Self::NameTaken => f.write_str("another publisher is live under this name"),
            Self::TakenOver => f.write_str("another publisher took this name over"),
            Self::Stalled => f.write_str("the publisher sends nothing"),
            Self::Switched => f.write_str("another publisher of this stream was chosen by command"),
            Self::Returned => f.write_str("the primary publisher of this stream is back"),
            Self::Denied => f.write_str("access denied: the key, token or password is wrong or missing"),
            Self::AuthTimeout => f.write_str("access denied: the authenticator did not answer in time"),
            Self::TokenExpired => f.write_str("access denied: the token has expired"),
            Self::Kicked => f.write_str("closed by the operator"),
            Self::Shutdown => f.write_str("the server is stopping"),
            Self::AuditUnavailable => f.write_str("this could not be put on record, as it must be first"),
            Self::ShardLost => f.write_str("the shard that served this stream failed and was restarted"),
            Self::Panic => f.write_str("an internal error in this session; nothing else is affected"),
        }
    }
}

impl std::error::Error for Reason {}
