//! What must be on record before it takes effect: who may publish or play starts when that is on disk.
//!
//! The shard waits for nobody: it goes on, looks again every few milliseconds while somebody waits, and refuses whose
//! record is not there in time. Refusals are told here too: the first of each source and second at once, the others as a
//! count.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::Shard;
use super::env::Env;
use super::sessions::{Asked, AskedBy};
use super::shared::OnLoss;
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::fact::{Class, Fact, FactKind, Who};
use crate::limits::REFUSED_SOURCES_MAX;
use crate::reason::Reason;
use crate::stream::Durable;

/// Those who may start, and whose record is under way, in its order.
#[derive(Default)]
pub(super) struct Unsettled(VecDeque<Waiting>);

struct Waiting {
    /// Of the record.
    number: u64,
    until: Instant,
    asked: Asked,
    principal: Option<Arc<str>>,
}

impl Unsettled {
    pub(super) fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.0.iter().map(|waiting| &waiting.asked)
    }
}

/// Refusals of the running second.
#[derive(Debug, Default)]
pub(super) struct Refused(HashMap<Source, Again>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Source {
    kind: FactKind,
    /// `None` for all for whom there is no room here.
    from: Option<IpAddr>,
    reason: Option<Reason>,
}

/// The newest of them, and how many came after the first.
#[derive(Debug)]
struct Again {
    fact: Fact,
    count: u64,
}

impl Refused {
    /// Gives a refusal back that is to be told now: the first of its source.
    fn first(&mut self, fact: Fact) -> Option<Fact> {
        let from = fact.who.as_ref().and_then(|who| who.peer).map(|peer| peer.ip());
        let mut source = Source { kind: fact.kind, from, reason: fact.reason };
        if self.0.len() >= REFUSED_SOURCES_MAX && !self.0.contains_key(&source) {
            source.from = None;
        }
        match self.0.entry(source) {
            Entry::Vacant(entry) => {
                entry.insert(Again { fact: fact.clone(), count: 0 });
                Some(fact)
            }
            Entry::Occupied(mut entry) => {
                let again = entry.get_mut();
                let same = again.fact.stream == fact.stream;
                again.count += 1;
                again.fact = fact;
                if !same {
                    again.fact.stream = None;
                }
                None
            }
        }
    }

    /// What came again, with how often. From now on the first of a source is told at once again.
    pub(super) fn take_again(&mut self) -> impl Iterator<Item = Fact> + use<> {
        let again = std::mem::take(&mut self.0).into_values().filter(|again| again.count > 0);
        again.map(|Again { fact, count }| fact.count(count))
    }
}

impl<E: Env> Shard<E> {
    /// Somebody may start, and does so now, or when that is on record.
    pub(super) fn settle(&mut self, asked: Asked, principal: Option<Arc<str>>, now: Now) {
        let spec = self.config.app(asked.key.app());
        if spec.is_none_or(|spec| spec.durable == Durable::Async) {
            return self.answer_asked(asked, Ok(principal), now);
        }
        let host = |connection| Who { connection, peer: None, protocol: "host", principal: None };
        let (kind, who) = match &asked.who {
            AskedBy::Publish { slot, id, .. } => (FactKind::PublishAllow, self.who_is(*slot, *id)),
            AskedBy::Play { slot, id, .. } => (FactKind::PlayAllow, self.who_is(*slot, *id)),
            AskedBy::HostPublish(request) => (FactKind::PublishAllow, Some(host(request.connection))),
            AskedBy::HostSubscribe(request) => (FactKind::PlayAllow, Some(host(request.connection))),
        };
        // It is gone: nothing takes effect.
        let Some(mut who) = who else { return self.answer_asked(asked, Ok(principal), now) };
        who.principal = principal.clone().or(who.principal);
        let fact = Fact::new(kind, now, self.id).stream(&asked.key).who(&who);
        self.shared.tell(&fact);
        let Some(number) = self.audit.emit_now(fact) else {
            return self.answer_asked(asked, Err(Reason::AuditUnavailable), now);
        };
        if self.unsettled.0.is_empty() {
            self.timers.arm(now.mono + LOOK_AGAIN, Due::Settle);
        }
        let until = now.mono + self.config.limits.audit_deadline;
        self.unsettled.0.push_back(Waiting { number, until, asked, principal });
    }

    /// Lets those start whose record is on disk.
    pub(super) fn settle_due(&mut self, now: Now) {
        while let Some(first) = self.unsettled.0.front() {
            let is_durable = match self.audit.durable(first.number) {
                Some(is_durable) => is_durable,
                None if now.mono >= first.until => false,
                None => break,
            };
            let Some(Waiting { asked, principal, .. }) = self.unsettled.0.pop_front() else { break };
            let answer = if is_durable { Ok(principal) } else { Err(Reason::AuditUnavailable) };
            self.answer_asked(asked, answer, now);
        }
        if !self.unsettled.0.is_empty() {
            self.timers.arm(now.mono + LOOK_AGAIN, Due::Settle);
        }
    }

    /// Whether facts are lost in a way in which nobody is to be let in.
    pub(super) fn audit_stands_against(&self) -> bool {
        Class::ALL.into_iter().any(|class| match self.config.on_loss.of(class) {
            OnLoss::Continue => false,
            OnLoss::RefuseNew => self.audit.fails(class),
            OnLoss::Halt => self.audit.has_lost(class),
        })
    }

    /// Whether facts were lost in a way in which nothing is to go on.
    pub(super) fn audit_halts(&self) -> bool {
        let halts = |class: &Class| self.config.on_loss.of(*class) == OnLoss::Halt;
        Class::ALL.into_iter().filter(halts).any(|class| self.audit.has_lost(class))
    }

    /// Tells a refusal: to observers each, to the trail the first of each source and second.
    pub(super) fn tell_refused(&mut self, fact: Fact) {
        self.shared.tell(&fact);
        if let Some(first) = self.refused.first(fact) {
            self.audit.emit(first);
        }
    }

    fn who_is(&self, slot: usize, id: crate::id::ConnectionId) -> Option<Who> {
        let connection = self.connections.get(slot).filter(|connection| connection.cold.id == id)?;
        (!connection.is_closing()).then(|| connection.cold.who.clone())
    }
}

/// Between two looks whether a record is on disk: the writer syncs as soon as it is told, which takes it as long.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ConnectionId, ShardId, StreamKey};

    fn refusal(stream: &str, from: [u8; 4]) -> Fact {
        let peer = Some((from, 4000).into());
        let who = Who { connection: ConnectionId(1), peer, protocol: "rtmp", principal: None };
        let key = StreamKey::new("live", stream).unwrap();
        Fact::new(FactKind::PlayRefuse, Now::default(), ShardId(0)).stream(&key).who(&who).reason(Reason::Denied)
    }

    #[test]
    fn the_first_refusal_of_a_source_is_told_and_the_others_as_a_count() {
        let mut refused = Refused::default();
        assert!(refused.first(refusal("a", [10, 0, 0, 1])).is_some());
        assert!(refused.first(refusal("a", [10, 0, 0, 2])).is_some(), "another one");
        assert!(refused.first(refusal("a", [10, 0, 0, 1])).is_none());
        assert!(refused.first(refusal("b", [10, 0, 0, 1])).is_none());
        let again: Vec<Fact> = refused.take_again().collect();
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].count, &again[0].stream), (2, &None), "of several streams");
        assert!(refused.first(refusal("a", [10, 0, 0, 1])).is_some(), "a new second");
    }

    #[test]
    fn however_many_sources_there_are_what_is_kept_is_bounded_and_all_are_counted() {
        let mut refused = Refused::default();
        let sources = u32::try_from(REFUSED_SOURCES_MAX).unwrap() + 500;
        let told = (0..sources).filter(|n| refused.first(refusal("a", n.to_be_bytes())).is_some()).count();
        assert_eq!(told, REFUSED_SOURCES_MAX + 1);
        let again: Vec<Fact> = refused.take_again().collect();
        assert_eq!(again.iter().map(|fact| fact.count).sum::<u64>(), 499);
    }
}
