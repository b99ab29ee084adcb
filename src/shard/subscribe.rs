//! The subscriber's side of a stream: join, end, and where a shard's replica gets its frames from.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shard;
use super::connection::Play;
use super::env::Env;
use super::group::{ASIDE, Format, Group, Packets, Place, Subscriber, Target, Terms, growth};
use super::host::{HostEnd, HostSubscribe};
use super::local::Source;
use super::message::{Attach, Control, HostNote, Message};
use super::seats::Part;
use crate::clock::{Instant, Now};
use crate::fact::{Fact, FactKind, Who};
use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
use crate::limits::{GROUPS_MAX, Limit};
use crate::protocol::{Input, Merge, PlayOptions, PlayRequest, Start};
use crate::reason::Reason;
use crate::stream::{Absent, Cursor, Located};

/// A subscriber that is about to join.
struct Joiner {
    connection: ConnectionId,
    target: Target,
    format: Format,
    options: PlayOptions,
    /// Another shard's replica: no limit, no record, no waiting.
    replica: bool,
}

impl<E: Env> Shard<E> {
    /// A connection plays a stream.
    pub(super) fn start_play(&mut self, slot: usize, request: &PlayRequest, now: Now) -> Result<(), Reason> {
        let connection = self.connections.get(slot).ok_or(Reason::PeerClosed)?;
        let streams = connection.cold.publishes.len() + connection.cold.plays.len();
        if streams >= self.config.limits.streams_per_connection {
            return Err(Reason::Limit(Limit::StreamsPerConnection));
        }
        let format = Format::Packets { protocol: connection.cold.protocol, format: request.format };
        let who = connection.cold.who.clone();
        let joiner = Joiner {
            connection: connection.cold.id,
            target: Target::Connection(slot),
            format,
            options: request.options,
            replica: false,
        };
        let seat = self.take_seats(slot, Part::Viewer, &request.key, &who)?;
        let place = self.subscribe(&request.key, joiner, now)?;
        let play = Play { handle: request.handle, place, seat };
        self.connections[slot].cold.plays.push(play);
        self.tell(Fact::new(FactKind::PlayStart, now, self.id).stream(&request.key).who(&who));
        Ok(())
    }

    /// A thread of the host subscribes.
    pub(super) fn host_subscribe_answered(
        &mut self,
        request: HostSubscribe,
        answer: Result<Option<Arc<str>>, Reason>,
        now: Now,
    ) {
        let HostSubscribe { key, connection, options, frames, doorbell, reply, skipped, .. } = request;
        let mut who = Who { connection, peer: None, protocol: "host", principal: None };
        let result = answer.and_then(|principal| {
            who.principal = principal;
            let end = HostEnd { frames, doorbell, skipped, who: who.clone(), touched: false };
            let ring = end.ring_bytes();
            let host = self.hosts.insert(end);
            let target = Target::Host(host);
            let joiner = Joiner { connection, target, format: Format::Frames, options, replica: false };
            let joined = self.subscribe(&key, joiner, now);
            if joined.is_err() {
                self.hosts.remove(host);
            } else {
                self.memory.rings += ring;
            }
            joined
        });
        match result {
            Ok(_) => self.tell(Fact::new(FactKind::PlayStart, now, self.id).stream(&key).who(&who)),
            Err(reason) => {
                self.shared.gauges.host_subscribers.fetch_sub(1, Ordering::Relaxed);
                let fact = Fact::new(FactKind::PlayRefuse, now, self.id).stream(&key).who(&who);
                self.tell(fact.reason(reason));
            }
        }
        let _ = reply.try_send(result.map(|_| ()));
    }

    /// Code of the host joins, right here.
    pub(super) fn attach(&mut self, attach: Attach, now: Now) {
        let Attach { key, connection, options, sink, reply } = attach;
        let who = Who { connection, peer: None, protocol: "host", principal: None };
        let target = Target::Sink(sink);
        let joiner = Joiner { connection, target, format: Format::Frames, options, replica: false };
        let result = self.may_start(&key).and_then(|()| self.subscribe(&key, joiner, now)).map(|_| ());
        let kind = if result.is_ok() { FactKind::PlayStart } else { FactKind::PlayRefuse };
        let mut fact = Fact::new(kind, now, self.id).stream(&key).who(&who);
        fact.reason = result.err();
        self.tell(fact);
        let _ = reply.try_send(result);
    }

    /// Another shard has subscribers of a stream that is at home here.
    pub(super) fn on_subscribe(
        &mut self,
        from: ShardId,
        key: &StreamKey,
        generation: Generation,
        slot: u32,
        now: Now,
    ) {
        let live = self
            .by_key
            .get(key)
            .copied()
            .filter(|index| self.streams[*index].home().is_some_and(|home| home.generation >= generation));
        let Some(index) = live else {
            self.mesh.control(from, Control::LinkEnd { slot, reason: Reason::NotFound });
            return;
        };
        let target = Target::Peer(from, slot);
        let connection = ConnectionId(0);
        let options = PlayOptions::instant();
        let joiner = Joiner { connection, target, format: Format::Frames, options, replica: true };
        if let Err(reason) = self.join(index, joiner, Instant::FAR, now) {
            self.mesh.control(from, Control::LinkEnd { slot, reason });
        }
    }

    /// Another shard has none left.
    pub(super) fn on_unsubscribe(&mut self, from: ShardId, key: &StreamKey, slot: u32, now: Now) {
        let place = self.by_key.get(key).and_then(|index| {
            let stream = &self.streams[*index];
            let mut subs = stream.groups.iter().flat_map(|group| &group.subs);
            subs.find(|sub| matches!(sub.target, Target::Peer(shard, at) if shard == from && at == slot))
                .map(|sub| sub.place)
        });
        // If there is none, its link had ended before, and that message is on its way already.
        if let Some(place) = place {
            self.end_subscriber(place, Reason::Ended, now);
        }
    }

    /// Finds the stream, or where it is, and joins it; the subscriber's place.
    fn subscribe(&mut self, key: &StreamKey, joiner: Joiner, now: Now) -> Result<usize, Reason> {
        let spec = Arc::clone(self.config.app(key.app()).ok_or(Reason::UnknownApp)?);
        if let Some(index) = self.by_key.get(key).copied()
            && let Some(generation) = self.streams[index].home().map(|home| home.generation)
            && self.shared.directory.locate(key) != Located::Live(self.id, generation)
        {
            // The name was taken over, and word of that is under way: nobody joins what is over.
            self.on_taken_over(key, generation, now);
        }
        let known = self.by_key.get(key).copied();
        if let Some(index) = known {
            // The former publisher's readers may still be served: this one belongs to the next.
            self.finish_ending(index, now);
        }
        let index = match known.filter(|index| self.streams[*index].interested) {
            Some(index) => index,
            None => {
                self.shared.directory.interest(key, self.id, self.config.streams_max())?;
                let index = self.stream_for(key, &spec);
                self.streams[index].interested = true;
                index
            }
        };
        let mut wait_until = Instant::FAR;
        if matches!(self.streams[index].source, Source::Absent { until: Instant::FAR, .. }) {
            match (self.shared.directory.locate(key), spec.absent) {
                (Located::Live(home, generation), _) if self.is_elsewhere(home) => {
                    if self.mesh.is_overloaded(home) {
                        self.lose_interest_if_unused(index);
                        return Err(Reason::Limit(Limit::Backlog));
                    }
                    self.link(index, home, generation);
                }
                (_, Absent::Wait(time)) => wait_until = now.mono + time,
                (_, Absent::Refuse) => {
                    self.lose_interest_if_unused(index);
                    return Err(Reason::NotFound);
                }
            }
        }
        let result = self.join(index, joiner, wait_until, now);
        if result.is_err() {
            self.lose_interest_if_unused(index);
        }
        result
    }

    /// Adds a subscriber to a stream of this shard.
    fn join(&mut self, index: usize, joiner: Joiner, wait_until: Instant, now: Now) -> Result<usize, Reason> {
        let shards = self.shared.shards.len().max(1);
        let stream = &mut self.streams[index];
        let limit = self.config.limits.subscribers_per_stream.div_ceil(shards);
        if !joiner.replica && stream.subscribers >= limit {
            return Err(Reason::Limit(Limit::Subscribers));
        }
        let merge = match joiner.format {
            Format::Frames => Merge::Off,
            Format::Packets { .. } => joiner.options.merge.unwrap_or(stream.spec.merge),
        };
        let start = joiner.options.start.unwrap_or(stream.spec.start);
        let delay = if let Start::Behind(delay) = start { delay } else { Duration::ZERO };
        if !stream.log.reaches(delay, now.mono) {
            return Err(Reason::Limit(Limit::Delay));
        }
        let same = |group: &Group| group.format == joiner.format && group.merge == merge && group.delay == delay;
        let found = stream.groups.iter().position(same);
        let group_index = match found.or_else(|| stream.groups.iter().position(|group| group.subs.is_empty())) {
            Some(group) => group,
            None if stream.groups.len() < GROUPS_MAX => {
                stream.groups.push(Group::new(joiner.format, merge, delay, None, stream.log.head()));
                stream.groups.len() - 1
            }
            None => return Err(Reason::Limit(Limit::Subscribers)),
        };
        let group = &mut stream.groups[group_index];
        if group.subs.is_empty() {
            let tail = stream.log.tail();
            *group = Group::new(joiner.format, merge, delay, None, tail);
            group.edge = group.released(&stream.log, now.mono);
            if let Format::Packets { protocol, format } = joiner.format {
                let protocol = &self.shared.protocols[protocol];
                group.packets = Some(Packets::new(protocol.packetizer(format), group.edge));
            }
        }
        let mut policy = stream.spec.lag;
        if let Some(age) = joiner.options.max_age {
            policy.max_age = age;
        }
        let cursor = if joiner.replica {
            Cursor::replica(&stream.log, &policy, now.mono)
        } else {
            // Who wants to be behind starts where the others of the kind are now.
            let limit = if delay.is_zero() { stream.log.head() } else { group.released(&stream.log, now.mono) };
            Cursor::join(&stream.log, start, limit, &policy, now.mono)
        };
        let waits = cursor.position() == crate::stream::Position::AwaitingKey;
        let under_way = matches!(stream.source, Source::Remote { .. }) && !stream.log.has_media();
        let mut entry = Place::new([index, group_index, group.subs.len()], joiner.connection, now.mono);
        entry.cursor = Some(Box::new(cursor));
        if joiner.options.max_age.is_some() || wait_until < Instant::FAR || joiner.replica {
            let terms = Terms { max_age: joiner.options.max_age, wait_until, replays: joiner.replica };
            entry.terms = Some(Box::new(terms));
        }
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(growth(self.places.len()));
        }
        let place = self.places.insert(entry);
        let target = joiner.target;
        if group.subs.len() == group.subs.capacity() {
            group.subs.reserve_exact(growth(group.subs.len()));
        }
        group.subs.push(Subscriber { at: ASIDE, bytes: 0, target, place, queued: true, paused: false });
        stream.subscribers += 1;
        self.recount_stream(index);
        self.behind.push_back(place);
        self.bound_unsent(place);
        if !delay.is_zero() {
            // What is too young for it now becomes old enough also if nothing follows.
            self.mark_dirty(index);
        }
        if wait_until < Instant::FAR {
            self.arm_stream(index, wait_until);
        }
        if waits && matches!(start, Start::Instant | Start::CatchUp) && !under_way {
            // Nothing is cached that it could start with. (What the home has is under way; it asks for itself.)
            self.want_keyframe(index, now);
        }
        Ok(place)
    }

    /// A subscriber is over: it is taken off its stream and told so.
    pub(super) fn end_subscriber(&mut self, place: usize, reason: Reason, now: Now) {
        let Some(entry) = self.places.try_remove(place) else { return };
        let Some(stream) = self.streams.get_mut(entry.stream()) else { return };
        let group = &mut stream.groups[entry.group()];
        let sub = group.subs.swap_remove(entry.index());
        if let Some(moved) = group.subs.get(entry.index()) {
            self.places[moved.place].move_to(entry.index());
        }
        // A flush that is under way starts over: those who have it already are passed over.
        if let Some((_, visited)) = &mut group.under_way {
            *visited = 0;
        }
        if group.subs.is_empty() {
            *group = Group::new(group.format, group.merge, group.delay, None, stream.log.head());
        }
        stream.subscribers -= 1;
        // Where memory has cost the publisher, its viewers end with it.
        let with_stream = stream.ending.is_some_and(|(why, _)| why == reason);
        let evicted = reason == Reason::Lag || (reason == Reason::Limit(Limit::Memory) && !with_stream);
        stream.evicted += u64::from(evicted);
        let key = stream.key.clone();
        self.recount_stream(entry.stream());
        let who = match sub.target {
            Target::Connection(slot) => {
                let who = self.end_play(slot, place, reason);
                self.settle_phase(slot, now);
                who
            }
            Target::Host(host) => self.end_host(host, entry.gap(), reason),
            Target::Sink(mut sink) => {
                sink.on_end(reason);
                Some(Who { connection: entry.connection, peer: None, protocol: "host", principal: None })
            }
            Target::Peer(shard, slot) => {
                self.mesh.control(shard, Control::LinkEnd { slot, reason });
                None
            }
        };
        if let Some(who) = who {
            let mut kinds = [Some(FactKind::PlayEnd), None];
            if evicted {
                self.counters.evicted += 1;
                kinds = [Some(FactKind::Evict), Some(FactKind::PlayEnd)];
            }
            for kind in kinds.into_iter().flatten() {
                let fact = Fact::new(kind, now, self.id).stream(&key).who(&who).reason(reason);
                let fact = fact.totals(sub.bytes, now.mono.since(entry.started)).count(entry.skipped());
                self.tell(fact);
            }
        }
        self.lose_interest_if_unused(entry.stream());
    }

    /// A connection's play is over; whose it was.
    fn end_play(&mut self, slot: usize, place: usize, reason: Reason) -> Option<Who> {
        let connection = self.connections.get_mut(slot)?;
        let plays = &mut connection.cold.plays;
        let ended = plays.iter().position(|play| play.place == place).map(|at| plays.swap_remove(at));
        if connection.cold.rest.is_some_and(|rest| rest.place == place) {
            // The place may be another's before that is through.
            connection.cold.rest = None;
        }
        let who = connection.cold.who.clone();
        if let Some(play) = ended {
            if connection.cold.broken {
                self.queue_loss(slot);
            } else {
                self.queue_task(slot, Input::Ended(play.handle, reason));
            }
        }
        Some(who)
    }

    /// A send failed: the connection is gone, whatever its session thinks.
    fn queue_loss(&mut self, slot: usize) {
        // In the turn of those who are read, since streams are being served now.
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.cold.readable = true;
        }
        self.resume_read(slot);
    }

    fn end_host(&mut self, host: usize, gap: u64, reason: Reason) -> Option<Who> {
        let mut end = self.hosts.try_remove(host)?;
        self.memory.rings -= end.ring_bytes();
        self.shared.gauges.host_subscribers.fetch_sub(1, Ordering::Relaxed);
        if gap > 0 {
            end.skipped.fetch_add(gap, Ordering::Relaxed);
            let _ = end.frames.push(Message::Control(Box::new(HostNote::Gap(gap))));
        }
        // Room for both was kept. If the other side is gone nobody wants to know.
        let _ = end.frames.push(Message::Control(Box::new(HostNote::End(reason))));
        let HostEnd { frames, doorbell, who, .. } = end;
        drop(frames);
        doorbell.ring();
        Some(who)
    }

    pub(super) fn pause_subscriber(&mut self, place: usize, paused: bool) {
        let Some(entry) = self.places.get_mut(place) else { return };
        let Some(stream) = self.streams.get_mut(entry.stream()) else { return };
        let group = &mut stream.groups[entry.group()];
        let at = if group.delay.is_zero() { stream.log.head() } else { group.edge };
        let sub = &mut group.subs[entry.index()];
        sub.paused = paused;
        sub.step_aside(&mut entry.cursor).pause(at);
    }

    /// Takes whoever is left of a former publisher's readers off the stream.
    pub(super) fn finish_ending(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some((reason, _)) = stream.ending.take() else { return };
        let places: Vec<usize> = stream.groups.iter().flat_map(|group| &group.subs).map(|sub| sub.place).collect();
        // The stream itself stays: whoever calls goes on with it.
        stream.links.push(self.id);
        for place in places {
            self.end_subscriber(place, reason, now);
        }
        let links = &mut self.streams[index].links;
        if let Some(at) = links.iter().position(|link| *link == self.id) {
            links.swap_remove(at);
        }
        // Whoever comes now waits for the next publisher: what the former one left is not for them.
        super::publish::restart_readers(&mut self.streams[index], &mut self.places);
    }

    /// A stream's timer: a flush, the end of a wait, of a grace, of a drain.
    pub(super) fn stream_due(&mut self, index: usize, uid: u64, now: Now) {
        let Some(stream) = self.streams.get_mut(index).filter(|stream| stream.uid == uid) else { return };
        if stream.timer_at > now.mono {
            return;
        }
        stream.timer_at = Instant::FAR;
        if stream.ending.is_some_and(|(_, until)| until <= now.mono) {
            self.finish_ending(index, now);
            self.forget_if_idle(index);
            return;
        }
        let mut next = stream.ending.map_or(Instant::FAR, |(_, until)| until);
        if let Source::Absent { until, reason } = stream.source {
            if until <= now.mono {
                stream.ending = Some((reason, now.mono));
                stream.source = Source::Absent { until: Instant::FAR, reason };
                self.finish_ending(index, now);
                self.forget_if_idle(index);
                return;
            }
            next = next.min(until);
            for sub in stream.groups.iter().flat_map(|group| &group.subs) {
                let wait_until = self.places[sub.place].wait_until();
                if wait_until <= now.mono {
                    self.gone.push((sub.place, Reason::NotFound));
                } else {
                    next = next.min(wait_until);
                }
            }
        }
        self.mark_dirty(index);
        if next < Instant::FAR {
            self.arm_stream(index, next);
        }
        self.finish_the_gone(now);
    }

    // --- links between shards --------------------------------------------------------------------------------

    /// Subscribes this shard to a stream's home.
    fn link(&mut self, index: usize, home: ShardId, generation: Generation) {
        let Ok(slot) = u32::try_from(index) else { return };
        self.waiting_is_over(index);
        let stream = &mut self.streams[index];
        super::publish::restart_readers(stream, &mut self.places);
        stream.log.replay();
        stream.source = Source::Remote { home };
        stream.links.push(home);
        let control = Control::Subscribe { key: stream.key.clone(), generation, slot };
        self.mesh.control(home, control);
    }

    /// Gives up the link to a stream's home; its last message is still to come.
    pub(super) fn leave_home(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let Source::Remote { home } = stream.source else { return };
        stream.source = Source::Absent { until: Instant::FAR, reason: Reason::NotFound };
        let Ok(slot) = u32::try_from(index) else { return };
        let control = Control::Unsubscribe { key: stream.key.clone(), slot };
        self.mesh.control(home, control);
    }

    /// A stream that somebody here waits for, or plays from a former home, is published on another shard.
    pub(super) fn on_published(&mut self, home: ShardId, key: &StreamKey, generation: Generation, now: Now) {
        let Some(index) = self.by_key.get(key).copied() else { return };
        if let Some(here) = self.streams[index].home().map(|home| home.generation)
            && here < generation
        {
            // Word of the takeover was lost with a shard.
            self.on_taken_over(key, here, now);
        }
        let Some(stream) = self.streams.get(index).filter(|stream| stream.key == *key) else { return };
        if !stream.interested || stream.home().is_some() {
            return;
        }
        if self.shared.directory.locate(key) != Located::Live(home, generation) {
            // Old news: whoever has the name now tells so too, or has done so.
            return;
        }
        if matches!(stream.source, Source::Remote { home: linked } if linked == home) {
            // The link is to that shard already, and goes on there.
            return;
        }
        self.leave_home(index);
        self.finish_ending(index, now);
        if self.streams[index].subscribers > 0 {
            self.link(index, home, generation);
        } else {
            self.forget_if_idle(index);
        }
    }

    /// A publisher came: nobody waits any more.
    pub(super) fn waiting_is_over(&mut self, index: usize) {
        for sub in self.streams[index].groups.iter().flat_map(|group| &group.subs) {
            if let Some(terms) = &mut self.places[sub.place].terms {
                terms.wait_until = Instant::FAR;
            }
        }
    }

    /// The last message on a link.
    pub(super) fn on_link_end(&mut self, home: ShardId, slot: u32, reason: Reason, now: Now) {
        let index = slot as usize;
        let Some(stream) = self.streams.get_mut(index) else { return };
        if let Some(at) = stream.links.iter().position(|link| *link == home) {
            stream.links.swap_remove(at);
        }
        let still_linked = stream.links.contains(&home);
        let current = matches!(stream.source, Source::Remote { home: linked } if linked == home);
        if current && !still_linked {
            let grace = stream.spec.republish_grace;
            stream.source = Source::Absent { until: Instant::FAR, reason };
            self.follow(index, reason, grace, now);
            return;
        }
        self.forget_if_idle(index);
    }

    /// The home of a stream is lost to its readers here. It may have moved, or come back, while word of that was
    /// under way; else they wait, or end.
    pub(super) fn follow(&mut self, index: usize, reason: Reason, grace: Duration, now: Now) {
        let Some(stream) = self.streams.get(index) else { return };
        if let Located::Live(home, generation) = self.shared.directory.locate(&stream.key)
            && self.is_elsewhere(home)
            && stream.subscribers > 0
        {
            self.link(index, home, generation);
        } else {
            self.source_ended(index, reason, grace, now);
        }
    }

    /// Ends the links of all other shards to a home stream, after what they can still take.
    pub(super) fn end_links(&mut self, index: usize, reason: Reason, now: Now) {
        let Some(stream) = self.streams.get(index) else { return };
        let links: Vec<usize> = stream
            .groups
            .iter()
            .flat_map(|group| &group.subs)
            .filter(|sub| matches!(sub.target, Target::Peer(..)))
            .map(|sub| sub.place)
            .collect();
        for place in links {
            self.serve(place, true, now);
            self.end_subscriber(place, reason, now);
        }
    }

    /// A replica has all that its home had kept: those who waited for that can start.
    pub(super) fn on_replayed(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.log.replayed();
        let aside = |sub: &&mut Subscriber| sub.at == ASIDE && !sub.queued && !sub.paused;
        for sub in stream.groups.iter_mut().flat_map(|group| &mut group.subs).filter(aside) {
            sub.queued = true;
            self.behind.push_back(sub.place);
        }
    }

    /// A stream without subscribers here is no replica any more.
    fn lose_interest_if_unused(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.subscribers > 0 {
            return;
        }
        if std::mem::take(&mut stream.interested) {
            let key = stream.key.clone();
            self.shared.directory.lose_interest(&key, self.id);
        }
        self.leave_home(index);
        self.forget_if_idle(index);
    }
}
