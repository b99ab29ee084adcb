//! Other threads → the shard: publishers, subscribers and questions of the host, answers of authenticators.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::env::Env;
use super::host::{Feed, HostPublish, Port};
use super::local::{PublisherRef, Source};
use super::message::{Command, KickTarget, RunSource};
use super::sessions::{Asked, AskedBy};
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::extension::Action;
use crate::fact::{Fact, FactKind, Who};
use crate::id::{ConnectionId, Generation, StreamKey};
use crate::limits::COMMANDS_PER_TURN;
use crate::reason::Reason;

impl<E: Env> Shard<E> {
    pub(super) fn take_commands(&mut self, now: Now) -> usize {
        let mut work = 0;
        // A look is cheaper than a try, and mostly there is none.
        while work < COMMANDS_PER_TURN && !self.commands.is_empty() {
            let Ok(command) = self.commands.try_recv() else { break };
            work += 1;
            self.counters.commands += 1;
            self.obey(command, now);
        }
        self.run_tasks(now);
        work
    }

    fn obey(&mut self, command: Command, now: Now) {
        match command {
            Command::Publish(request) => self.host_publish(*request, now),
            Command::Subscribe(request) => match (self.may_start(&request.key), &request.credentials) {
                (Err(reason), _) => self.host_subscribe_answered(*request, Err(reason), now),
                (Ok(()), None) => {
                    let key = request.key.clone();
                    self.settle(Asked { who: AskedBy::HostSubscribe(request), key }, None, now);
                }
                (Ok(()), Some(credentials)) => {
                    let (key, credentials) = (request.key.clone(), credentials.clone());
                    self.authorize(AskedBy::HostSubscribe(request), Action::Play, key, credentials, now);
                }
            },
            Command::Attach(attach) => self.attach(*attach, now),
            Command::Source(run) => self.run_source(*run, now),
            Command::Detach(connection) => {
                if let Some(place) = self.place_of(connection) {
                    self.end_subscriber(place, Reason::Ended, now);
                }
            }
            Command::Answer(ticket, decision) => self.take_answer(ticket, decision, now),
            Command::Kick(target, reply) => {
                let found = self.kick(&target, now);
                let _ = reply.try_send(found);
            }
            Command::Switch(key, connection, reply) => {
                let result = self.switch_to(&key, connection, now);
                let _ = reply.try_send(result);
            }
            Command::WantKeyframe(key) => {
                if let Some(index) = self.by_key.get(&key).copied() {
                    self.want_keyframe(index, now);
                }
            }
            Command::Inspect(key, reply) => {
                let part = self.by_key.get(&key).copied().and_then(|index| self.part(index, now));
                let _ = reply.try_send(part);
            }
            Command::Survey(from, reply) => {
                let _ = reply.try_send(self.survey(from, now));
            }
            Command::Stats(reply) => {
                let _ = reply.try_send(self.stats());
            }
            Command::Configure(config) => {
                let (limits, shards) = (&config.limits, self.shared.shards.len());
                self.memory.set(limits.memory, limits.structure_bytes(shards));
                self.config = config;
                // Without a cap not everything was counted.
                for index in self.streams.iter().map(|(index, _)| index).collect::<Vec<_>>() {
                    self.recount_stream(index);
                }
            }
            Command::Rewire(peer, link) => self.on_rewire(peer, *link, now),
            Command::Drain(time) => self.drain(time, now),
            Command::Panic => self.fail = true,
        }
    }

    fn host_publish(&mut self, request: HostPublish, now: Now) {
        match (self.may_start(&request.key), &request.credentials) {
            (Err(reason), _) => self.host_publish_answered(request, Err(reason), now),
            (Ok(()), None) => {
                let key = request.key.clone();
                self.settle(Asked { who: AskedBy::HostPublish(Box::new(request)), key }, None, now);
            }
            (Ok(()), Some(credentials)) => {
                let (key, credentials) = (request.key.clone(), credentials.clone());
                self.authorize(AskedBy::HostPublish(Box::new(request)), Action::Publish, key, credentials, now);
            }
        }
    }

    pub(super) fn host_publish_answered(
        &mut self,
        request: HostPublish,
        answer: Result<Option<Arc<str>>, Reason>,
        now: Now,
    ) {
        let HostPublish { key, connection, backup, frames, events, reply, .. } = request;
        let feed = Feed::Ring { frames, events };
        let result = answer.and_then(|principal| self.open_port(&key, connection, principal, backup, feed, now));
        if let Err(reason) = result {
            self.tell_host_refusal(&key, connection, reason, now);
        }
        let _ = reply.try_send(result.map(|_| ()));
    }

    fn run_source(&mut self, run: RunSource, now: Now) {
        let RunSource { key, connection, source, reply, .. } = run;
        let feed = Feed::Source { source, not_before: now.mono };
        let result = self.may_start(&key).and_then(|()| self.open_port(&key, connection, None, false, feed, now));
        match result {
            Ok(port) => self.timers.arm(now.mono, Due::Source(port)),
            Err(reason) => self.tell_host_refusal(&key, connection, reason, now),
        }
        let _ = reply.try_send(result.map(|_| ()));
    }

    fn open_port(
        &mut self,
        key: &StreamKey,
        connection: ConnectionId,
        principal: Option<Arc<str>>,
        backup: bool,
        feed: Feed,
        now: Now,
    ) -> Result<usize, Reason> {
        let who = Who { connection, peer: None, protocol: "host", principal };
        self.memory.rings += feed.ring_bytes();
        let port = self.ports.insert(Port { stream: None, feed, held: None, rests_until: Instant::ZERO });
        match self.start_publish(key, PublisherRef::Port(port), who, backup, now) {
            Ok(stream) => {
                self.ports[port].stream = Some(stream);
                Ok(port)
            }
            Err(reason) => {
                self.close_port(port, reason);
                Err(reason)
            }
        }
    }

    fn tell_host_refusal(&mut self, key: &StreamKey, connection: ConnectionId, reason: Reason, now: Now) {
        let who = Who { connection, peer: None, protocol: "host", principal: None };
        self.tell(Fact::new(FactKind::PublishRefuse, now, self.id).stream(key).who(&who).reason(reason));
    }

    fn place_of(&self, connection: ConnectionId) -> Option<usize> {
        if connection == ConnectionId(0) {
            // Links to other shards: nobody's to end from outside.
            return None;
        }
        self.places.iter().find(|(_, place)| place.connection == connection).map(|(index, _)| index)
    }

    fn kick(&mut self, target: &KickTarget, now: Now) -> bool {
        let (key, who, found) = match target {
            KickTarget::Publisher(key) => {
                let Some(index) = self.by_key.get(key).copied() else { return false };
                let home = self.streams[index].home().map(|home| (home.who.clone(), home.publisher));
                let Some((who, publisher)) = home else { return false };
                (Some(key.clone()), who, Ok((index, publisher)))
            }
            KickTarget::Connection(id) => {
                let slot = self.connections.iter().find(|(_, connection)| connection.cold.id == *id);
                if let Some((slot, connection)) = slot {
                    (None, connection.cold.who.clone(), Err(slot))
                } else if let Some(place) = self.place_of(*id) {
                    let stream = self.places.get(place).and_then(|entry| self.streams.get(entry.stream()));
                    let (Some(stream), Some(who)) = (stream, self.who_of(*id, place)) else { return false };
                    let fact = Fact::new(FactKind::Kick, now, self.id).stream(&stream.key).who(&who);
                    self.tell(fact.reason(Reason::Kicked));
                    self.end_subscriber(place, Reason::Kicked, now);
                    return true;
                } else {
                    let mut streams = self.streams.iter();
                    let found = streams.find_map(|(index, stream)| {
                        let home = stream.home().map(|home| (&home.who, home.publisher));
                        let standbys = stream.standbys.iter().map(|standby| (&standby.who, standby.publisher));
                        let mut all = home.into_iter().chain(standbys);
                        let (who, publisher) = all.find(|(who, _)| who.connection == *id)?;
                        Some((Some(stream.key.clone()), who.clone(), Ok((index, publisher))))
                    });
                    let Some(found) = found else { return false };
                    found
                }
            }
        };
        let mut fact = Fact::new(FactKind::Kick, now, self.id).who(&who).reason(Reason::Kicked);
        fact.stream = key;
        self.tell(fact);
        match found {
            Ok((index, publisher)) => self.close_feed(index, publisher, Reason::Kicked, now),
            Err(slot) => self.close(slot, Reason::Kicked, now),
        }
        true
    }

    /// Takes nothing new, ends what there is, and leaves what is under way until the deadline.
    pub(super) fn drain(&mut self, time: Duration, now: Now) {
        if self.draining.is_some() {
            return;
        }
        let until = now.mono + time;
        self.draining = Some(until);
        self.env.close_listeners();
        self.timers.arm(until, Due::Drain);
        let standbys = self.streams.iter().flat_map(|(index, stream)| {
            stream.standbys.iter().map(move |standby| (index, standby.publisher)).collect::<Vec<_>>()
        });
        for (index, publisher) in standbys.collect::<Vec<_>>() {
            self.close_feed(index, publisher, Reason::Shutdown, now);
        }
        // Publishers first: their players are served to the end, and told.
        let homes: Vec<usize> =
            self.streams.iter().filter(|(_, stream)| stream.home().is_some()).map(|(index, _)| index).collect();
        for index in homes {
            self.close_publisher(index, Reason::Shutdown, now);
        }
        let waiting: Vec<usize> = self
            .streams
            .iter()
            .filter(|(_, stream)| matches!(stream.source, Source::Absent { .. }) && stream.ending.is_none())
            .map(|(index, _)| index)
            .collect();
        for index in waiting {
            if let Some(stream) = self.streams.get_mut(index) {
                stream.ending = Some((Reason::Shutdown, now.mono));
            }
            self.finish_ending(index, now);
            self.forget_if_idle(index);
        }
        let idle: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.cold.plays.is_empty())
            .map(|(slot, _)| slot)
            .collect();
        for slot in idle {
            self.close(slot, Reason::Shutdown, now);
        }
        self.run_tasks(now);
    }

    /// The drain's time is up: whoever is left is cut off.
    pub(super) fn drain_due(&mut self, now: Now) {
        let places: Vec<usize> = self.places.iter().map(|(place, _)| place).collect();
        for place in places {
            self.end_subscriber(place, Reason::Shutdown, now);
        }
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.close(slot, Reason::Shutdown, now);
            self.lose(slot, Reason::Shutdown, now);
        }
        let ports: Vec<_> = self.ports.iter().filter_map(|(port, feed)| Some((port, feed.stream?))).collect();
        for (port, stream) in ports {
            self.end_publish(stream, PublisherRef::Port(port), Reason::Shutdown, now);
        }
    }

    /// A stream of this shard has its publisher on another one now.
    pub(super) fn on_taken_over(&mut self, key: &StreamKey, generation: Generation, now: Now) {
        let Some(index) = self.by_key.get(key).copied() else { return };
        if self.streams[index].home().is_none_or(|home| home.generation != generation) {
            return;
        }
        self.oust(index, generation, now);
        self.follow_successor(index, now);
    }

    /// Readers here go to whoever has the name now: that shard may have told so before they came. Those on other
    /// shards ask it themselves.
    pub(super) fn follow_successor(&mut self, index: usize, now: Now) {
        self.end_links(index, Reason::TakenOver, now);
        if let Some(grace) = self.streams.get(index).map(|stream| stream.spec.republish_grace) {
            self.follow(index, Reason::TakenOver, grace, now);
        }
    }
}
