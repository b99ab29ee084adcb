//! An authenticator that answers at once, late, never, or with no.

use std::sync::Arc;

use parking_lot::Mutex;
use shardcast::extension::{AuthReply, AuthRequest, Authenticator};
use shardcast::reason::Reason;

use super::rng::Rng;

#[derive(Clone)]
pub struct Porter(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    /// Once in so many; 0 for never.
    denies: u64,
    late: u64,
    now: u64,
    waiting: Vec<(u64, AuthReply)>,
}

impl Porter {
    pub fn new(rng: Rng, denies: u64, late: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner { rng, denies, late, now: 0, waiting: Vec::new() })))
    }

    /// Gives the answers that are due.
    pub fn advance(&self, now: u64) {
        let mut inner = self.0.lock();
        inner.now = now;
        let mut due = Vec::new();
        let mut at = 0;
        while at < inner.waiting.len() {
            if inner.waiting[at].0 <= now {
                due.push(inner.waiting.swap_remove(at).1);
            } else {
                at += 1;
            }
        }
        drop(inner);
        for reply in due {
            reply.allow(Some("late"));
        }
    }

    pub fn due(&self) -> u64 {
        self.0.lock().waiting.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX)
    }

    /// From now on everybody is let in at once.
    pub fn calm(&self) {
        let mut inner = self.0.lock();
        (inner.denies, inner.late) = (0, 0);
    }
}

impl Authenticator for Porter {
    fn authorize(&self, _request: AuthRequest, reply: AuthReply) {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        if inner.denies > 0 && inner.rng.one_in(inner.denies) {
            return reply.deny(Reason::Denied);
        }
        if inner.late > 0 && inner.rng.one_in(inner.late) {
            // Sometimes later than the deadline of two seconds.
            let at = inner.now + inner.rng.within(1_000_000, 2_600_000_000);
            return inner.waiting.push((at, reply));
        }
        reply.allow(None);
    }
}
