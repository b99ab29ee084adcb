//! Several authenticators, one after the other.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::extension::auth::AnswerBack;
use crate::extension::{AuthReply, AuthRequest, Authenticator, Decision};
use crate::reason::Reason;

/// Lets in whoever one of them lets in; they are asked in order, until one says yes.
///
/// The first is asked on the shard. The next is asked where the one before said no, which may be that one's own
/// thread. If all say no, the most telling reason is given: the first that is not a plain [`Reason::Denied`].
/// Without any, everybody is denied.
#[derive(Clone)]
pub struct AnyOf(Arc<[Arc<dyn Authenticator>]>);

impl AnyOf {
    /// Asks these, in this order.
    #[must_use]
    pub fn new(authenticators: Vec<Arc<dyn Authenticator>>) -> Self {
        Self(authenticators.into())
    }
}

impl Authenticator for AnyOf {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        ask(Inquiry { all: Arc::clone(&self.0), next: 0, request, reply, reason: Reason::Denied });
    }
}

impl fmt::Debug for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyOf({} authenticators)", self.0.len())
    }
}

/// One request on its way through the authenticators.
struct Inquiry {
    all: Arc<[Arc<dyn Authenticator>]>,
    next: usize,
    request: AuthRequest,
    reply: AuthReply,
    /// The most telling reason so far.
    reason: Reason,
}

/// Goes as deep as there are authenticators, which the host has chosen.
fn ask(mut inquiry: Inquiry) {
    let all = Arc::clone(&inquiry.all);
    let Some(authenticator) = all.get(inquiry.next) else { return inquiry.reply.deny(inquiry.reason) };
    inquiry.next += 1;
    let AuthRequest { action, key, credentials, connection, peer, protocol, now } = &inquiry.request;
    let request = AuthRequest::new(*action, key.clone(), credentials.clone(), *connection, *peer, protocol, *now);
    let back = Arc::new(Turn(Mutex::new(Some(inquiry))));
    authenticator.authorize(request, AuthReply::new(0, back));
}

/// Waits for the answer of one authenticator, which comes once: a reply that is dropped says no.
struct Turn(Mutex<Option<Inquiry>>);

impl AnswerBack for Turn {
    fn answer(&self, _: u64, decision: Decision) {
        // Taken out first: the next one is asked without the lock.
        let Some(mut inquiry) = self.0.lock().take() else { return };
        match decision {
            Decision::Allow { .. } => inquiry.reply.decide(decision),
            Decision::Deny(reason) => {
                if inquiry.reason == Reason::Denied {
                    inquiry.reason = reason;
                }
                ask(inquiry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::extension::{Action, AllowAll, Credentials};
    use crate::id::{ConnectionId, StreamKey};

    /// Says no for a reason.
    struct No(Reason);

    impl Authenticator for No {
        fn authorize(&self, _: AuthRequest, reply: AuthReply) {
            reply.deny(self.0);
        }
    }

    /// Keeps the reply: it is answered later, or dropped.
    #[derive(Default)]
    struct Later(Mutex<Option<AuthReply>>);

    impl Authenticator for Later {
        fn authorize(&self, _: AuthRequest, reply: AuthReply) {
            *self.0.lock() = Some(reply);
        }
    }

    #[derive(Default)]
    struct Answer(Mutex<Vec<(u64, Decision)>>);

    impl AnswerBack for Answer {
        fn answer(&self, ticket: u64, decision: Decision) {
            self.0.lock().push((ticket, decision));
        }
    }

    fn asked(authenticators: Vec<Arc<dyn Authenticator>>) -> Arc<Answer> {
        let answer = Arc::new(Answer::default());
        let credentials = Credentials::from_query("user=eve&token=x");
        let key = StreamKey::parse("live/a").unwrap();
        let request = AuthRequest::new(Action::Play, key, credentials, ConnectionId(1), None, "rtmp", Now::default());
        let back: Arc<dyn AnswerBack> = Arc::<Answer>::clone(&answer);
        AnyOf::new(authenticators).authorize(request, AuthReply::new(42, back));
        answer
    }

    fn eve() -> Vec<(u64, Decision)> {
        vec![(42, Decision::Allow { principal: Some("eve".into()) })]
    }

    #[test]
    fn one_yes_is_enough_and_the_credentials_reach_it() {
        let answer = asked(vec![Arc::new(No(Reason::Denied)), Arc::new(AllowAll)]);
        assert_eq!(*answer.0.lock(), eve());
    }

    #[test]
    fn the_most_telling_no_is_given() {
        let answer = asked(vec![
            Arc::new(No(Reason::Denied)),
            Arc::new(No(Reason::TokenExpired)),
            Arc::new(No(Reason::Denied)),
        ]);
        assert_eq!(*answer.0.lock(), [(42, Decision::Deny(Reason::TokenExpired))]);
    }

    #[test]
    fn nobody_to_ask_is_a_no() {
        assert_eq!(*asked(Vec::new()).0.lock(), [(42, Decision::Deny(Reason::Denied))]);
    }

    #[test]
    fn an_answer_that_comes_later_is_waited_for() {
        let later = Arc::new(Later::default());
        let first: Arc<dyn Authenticator> = Arc::<Later>::clone(&later);
        let answer = asked(vec![first, Arc::new(AllowAll)]);
        assert!(answer.0.lock().is_empty());

        // Dropped unanswered, which is a no: the next one is asked.
        let reply = later.0.lock().take();
        drop(reply);

        assert_eq!(*answer.0.lock(), eve());
    }
}
