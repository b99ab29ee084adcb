//! Who may publish and who may play.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::extension::Credentials;
use crate::id::{ConnectionId, StreamKey};
use crate::reason::Reason;

/// Decides who may publish and who may play.
///
/// Called on the shard, so it must not block: it answers at once, or hands the [`AuthReply`] to a thread of its
/// own that answers later. Unanswered within [`Limits::auth_deadline`](crate::limits::Limits::auth_deadline) is
/// denied.
pub trait Authenticator: Send + Sync {
    /// Answers, now or later, through `reply`.
    fn authorize(&self, request: AuthRequest, reply: AuthReply);
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send frames under a name.
    Publish,
    /// Receive frames.
    Play,
}

/// A request to be decided upon.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthRequest {
    /// Publish or play.
    pub action: Action,
    /// Which stream.
    pub key: StreamKey,
    /// What was shown.
    pub credentials: Credentials,
    /// Which connection.
    pub connection: ConnectionId,
    /// From where; `None` for the host itself.
    pub peer: Option<SocketAddr>,
    /// Over which protocol.
    pub protocol: &'static str,
    /// The time of the request.
    pub now: crate::clock::Now,
}

impl AuthRequest {
    /// A request; the router makes them, and tests of authenticators.
    #[must_use]
    pub const fn new(
        action: Action,
        key: StreamKey,
        credentials: Credentials,
        connection: ConnectionId,
        peer: Option<SocketAddr>,
        protocol: &'static str,
        now: crate::clock::Now,
    ) -> Self {
        Self { action, key, credentials, connection, peer, protocol, now }
    }
}

/// An authenticator's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and whom it recognised (never a secret: this goes into the audit trail).
    Allow {
        /// A user name, a key id, a subject.
        principal: Option<Arc<str>>,
    },
    /// No, and why.
    Deny(Reason),
}

/// The way back for one answer. Dropping it unanswered denies.
pub struct AuthReply {
    ticket: u64,
    back: Option<Arc<dyn AnswerBack>>,
}

/// Where answers go: the shard that asked.
pub trait AnswerBack: Send + Sync {
    /// Takes the answer to the request with this ticket. Must not block.
    fn answer(&self, ticket: u64, decision: Decision);
}

impl AuthReply {
    /// A reply handle for one ticket.
    #[must_use]
    pub fn new(ticket: u64, back: Arc<dyn AnswerBack>) -> Self {
        Self { ticket, back: Some(back) }
    }

    /// Says yes.
    pub fn allow(self, principal: Option<&str>) {
        self.decide(Decision::Allow { principal: principal.map(Into::into) });
    }

    /// Says no.
    pub fn deny(self, reason: Reason) {
        self.decide(Decision::Deny(reason));
    }

    /// Gives a decision.
    pub fn decide(mut self, decision: Decision) {
        if let Some(back) = self.back.take() {
            back.answer(self.ticket, decision);
        }
    }
}

impl Drop for AuthReply {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            back.answer(self.ticket, Decision::Deny(Reason::Denied));
        }
    }
}

impl fmt::Debug for AuthReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthReply({})", self.ticket)
    }
}

/// Lets everybody do everything: for loopback, and for hosts that check elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        reply.allow(request.credentials.user.as_deref());
    }
}
