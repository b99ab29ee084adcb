//! The publisher's side of a stream: claim, end, takeover, silence.

use super::Shard;
use super::env::Env;
use super::filler::FILLER;
use super::group::Place;
use super::host::{Feed, PublisherEvent};
use super::local::{Home, LocalStream, PublisherRef, Source};
use super::message::Control;
use super::standby::Standby;
use crate::clock::{Instant, Now};
use crate::extension::FrameSource;
use crate::fact::{Fact, FactKind, Who};
use crate::id::{Generation, ShardId, StreamKey};
use crate::limits::KEYFRAME_REQUESTS_APART;
use crate::protocol::Input;
use crate::reason::Reason;
use crate::stream::{Claim, Conflict, Entered, Newcomer, SwitchCause};
use slab::Slab;
use std::sync::Arc;
use std::time::Duration;

impl<E: Env> Shard<E> {
    /// Takes the name and makes this shard its home, or takes a seat behind who leads; the stream's slot.
    pub(super) fn start_publish(
        &mut self,
        key: &StreamKey,
        publisher: PublisherRef,
        who: Who,
        backup: bool,
        now: Now,
    ) -> Result<usize, Reason> {
        let spec = Arc::clone(self.config.app(key.app()).ok_or(Reason::UnknownApp)?);
        let limits = &self.config.limits;
        let filler = who.protocol == FILLER;
        let newcomer = Newcomer { connection: who.connection, shard: self.id, backup, filler };
        let (publishers, streams) = (limits.publishers, self.config.streams_max());
        let entered = self.shared.directory.enter(key, newcomer, spec.conflict, publishers, streams)?;
        let index = self.stream_for(key, &spec);
        match entered {
            Entered::Live(claim) => {
                let (resume, line) = (claim.resume, claim.line.clone());
                let home = Home::new(publisher, who, claim.generation, resume, line, now.mono);
                self.go_live(index, home, claim, None, now);
            }
            Entered::Standby => self.stand_by(index, Standby::new(publisher, who, &spec, now.mono), now),
        }
        Ok(index)
    }

    /// The stream begins, or goes on, with this publisher.
    pub(super) fn go_live(&mut self, index: usize, home: Home, claim: Claim, cause: Option<SwitchCause>, now: Now) {
        let Some(stream) = self.streams.get(index) else { return };
        let (key, who, generation) = (stream.key.clone(), home.who.clone(), claim.generation);
        // Who publishes here is over, also if the name has moved on meanwhile and that word has not arrived yet.
        if let Some(generation) = stream.home().map(|home| home.generation) {
            self.oust(index, generation, now);
        }
        if let Some((shard, generation)) = claim.previous {
            if shard != self.id {
                self.mesh.control(shard, Control::TakenOver { key: key.clone(), generation });
            }
            if cause.is_none() {
                self.tell(Fact::new(FactKind::Takeover, now, self.id).stream(&key).generation(generation).who(&who));
            }
        }
        self.leave_home(index);
        self.finish_ending(index, now);
        self.waiting_is_over(index);
        let stream = &mut self.streams[index];
        stream.own_payloads = matches!(home.publisher, PublisherRef::Port(_));
        let switches = cause.is_some() || (stream.subscribers > 0 && claim.resume.is_some());
        let watch_at = (stream.spec.conflict == Conflict::Backup).then(|| now.mono + stream.spec.stall_after);
        stream.source = Source::Home(Box::new(home));
        // Frames of the former publisher can't be mixed with this one's GOP: here, and on the shards that got them
        // from here and come back for more.
        self.end_links(index, Reason::TakenOver, now);
        restart_readers(&mut self.streams[index], &mut self.places);
        for shard in claim.interested {
            if shard != self.id {
                self.mesh.control(shard, Control::Published { key: key.clone(), generation });
            }
        }
        let fact = |kind| Fact::new(kind, now, self.id).stream(&key).generation(generation).who(&who);
        let mut switch = fact(FactKind::Switch);
        switch.reason = cause.map(SwitchCause::reason);
        let start = fact(FactKind::PublishStart);
        if switches {
            self.counters.switches += 1;
            self.tell(switch);
        }
        self.tell(start);
        if let Some(at) = watch_at {
            self.watch(index, at);
        }
    }

    /// A publisher of this stream is over.
    pub(super) fn end_publish(&mut self, index: usize, publisher: PublisherRef, reason: Reason, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.home_of(publisher).is_none() {
            return self.end_standby(index, publisher, reason, now);
        }
        let grace = stream.spec.republish_grace;
        let fills = stream.home().is_some_and(|home| home.who.protocol == FILLER);
        let filler = stream.spec.filler.clone().filter(|_| !fills && grace > Duration::ZERO);
        let Source::Home(home) =
            std::mem::replace(&mut stream.source, Source::Absent { until: now.mono + grace, reason })
        else {
            return;
        };
        let key = stream.key.clone();
        let released = self.shared.directory.release(&key, home.generation, home.timeline_end());
        if let PublisherRef::Port(port) = home.publisher {
            self.close_port(port, reason);
        }
        self.tell_clock(&key, &home, now);
        let fact = Fact::new(FactKind::PublishEnd, now, self.id)
            .stream(&key)
            .generation(home.generation)
            .who(&home.who)
            .reason(reason)
            .totals(home.qos.bytes, now.mono.since(home.started));
        self.tell(fact);
        if released {
            self.source_ended(index, reason, grace, now);
            if self.draining.is_none() {
                self.hand_over(&key, SwitchCause::Vacant, now);
                if let Some(filler) = filler.filter(|_| self.shared.directory.successor(&key).is_none()) {
                    self.fill(&key, &filler, grace, now);
                }
            }
        } else {
            // Another shard has the name already, and its word is on its way: readers here wait for it.
            self.shared.directory.leave(&key, home.who.connection);
            self.streams[index].source = Source::Absent { until: Instant::FAR, reason: Reason::TakenOver };
            self.follow_successor(index, now);
        }
    }

    /// Frames stop coming: those who play wait for the next publisher, or read on to the end.
    pub(super) fn source_ended(&mut self, index: usize, reason: Reason, grace: Duration, now: Now) {
        self.end_links(index, reason, now);
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.subscribers == 0 {
            // No grace for nobody: whoever joins while the slot is still needed waits on terms of its own.
            stream.source = Source::Absent { until: Instant::FAR, reason };
            self.forget_if_idle(index);
            return;
        }
        // Whoever stands by, here or elsewhere, is given the time to lead.
        let stands_by = self.draining.is_none() && !self.shared.directory.seats(&stream.key).1.is_empty();
        let mut grace = if stands_by { grace.max(stream.spec.stall_after) } else { grace };
        if self.shared.directory.is_given_up(&stream.key) {
            grace = Duration::ZERO;
        }
        if grace > Duration::ZERO {
            let until = now.mono + grace;
            stream.source = Source::Absent { until, reason };
            self.arm_stream(index, until);
            return;
        }
        stream.source = Source::Absent { until: Instant::FAR, reason };
        let until = now.mono + stream.drain_time();
        stream.ending = Some((reason, until));
        // Everybody is served to the end from their own place, then told.
        for group in &mut stream.groups {
            group.queue_all(&mut self.behind);
        }
        self.arm_stream(index, until);
    }

    /// Another publisher took the name on another shard, or on this one.
    pub(super) fn oust(&mut self, index: usize, generation: Generation, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.home().is_none_or(|home| home.generation != generation) {
            return;
        }
        let Source::Home(home) =
            std::mem::replace(&mut stream.source, Source::Absent { until: Instant::FAR, reason: Reason::TakenOver })
        else {
            return;
        };
        let key = self.streams[index].key.clone();
        let stands_by = self.shared.directory.stands_by(&key, home.who.connection);
        if !stands_by {
            self.tell_ousted(home.publisher, now);
        }
        self.tell_clock(&key, &home, now);
        let fact = Fact::new(FactKind::PublishEnd, now, self.id)
            .stream(&key)
            .generation(generation)
            .who(&home.who)
            .reason(Reason::TakenOver)
            .totals(home.qos.bytes, now.mono.since(home.started));
        self.tell(fact);
        if stands_by {
            self.demote(index, *home, now);
        }
    }

    /// A publisher has lost its name for good.
    fn tell_ousted(&mut self, publisher: PublisherRef, now: Now) {
        match publisher {
            PublisherRef::Connection { slot, handle } => {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.cold.publishes.retain(|publishing| publishing.handle != handle);
                }
                self.settle_phase(slot, now);
                self.queue_task(slot, Input::Unpublished(handle, Reason::TakenOver));
            }
            PublisherRef::Port(port) => self.close_port(port, Reason::TakenOver),
        }
    }

    /// Tells what a publisher's clock did that was not told yet: it is over.
    fn tell_clock(&mut self, key: &StreamKey, home: &Home, now: Now) {
        if home.untold > 0 {
            let fact = Fact::new(FactKind::TimestampJump, now, self.id).stream(key).generation(home.generation);
            self.tell(fact.who(&home.who).count(home.untold));
        }
    }

    /// Closes whoever leads this stream here.
    pub(super) fn close_publisher(&mut self, index: usize, reason: Reason, now: Now) -> bool {
        let home = self.streams.get(index).and_then(LocalStream::home);
        let Some(publisher) = home.map(|home| home.publisher) else { return false };
        self.close_feed(index, publisher, reason, now);
        true
    }

    /// Closes one of the publishers of this stream.
    pub(super) fn close_feed(&mut self, index: usize, publisher: PublisherRef, reason: Reason, now: Now) {
        match publisher {
            PublisherRef::Connection { slot, .. } => self.close(slot, reason, now),
            PublisherRef::Port(_) => self.end_publish(index, publisher, reason, now),
        }
    }

    /// Publishers that fell silent are closed.
    pub(super) fn reap_silent_publishers(&mut self, now: Now) {
        let idle = self.config.limits.publisher_idle;
        let mut silent = Vec::new();
        for (index, stream) in &self.streams {
            let home =
                stream.home().map(|home| (home.publisher, &home.who, home.qos.last_frame, Some(home.generation)));
            let standbys = stream.standbys.iter().map(|one| (one.publisher, &one.who, one.last_frame, None));
            for (publisher, who, last_frame, generation) in home.into_iter().chain(standbys) {
                if now.mono.since(last_frame) >= idle {
                    let mut fact = Fact::new(FactKind::Reap, now, self.id).stream(&stream.key).who(who);
                    fact.generation = generation;
                    silent.push((index, publisher, fact.reason(Reason::Idle)));
                }
            }
        }
        for (index, publisher, fact) in silent {
            self.tell(fact);
            self.close_feed(index, publisher, Reason::Idle, now);
        }
    }

    /// Asks the publisher for a keyframe, once however many viewers want one.
    pub(super) fn want_keyframe(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        match &mut stream.source {
            Source::Remote { home } => {
                let control = Control::KeyframeWanted { key: stream.key.clone() };
                self.mesh.control(*home, control);
            }
            Source::Home(home) => {
                let (publisher, mut asked) = (home.publisher, home.key_asked);
                self.ask_for_keyframe(publisher, &mut asked, now);
                if let Some(home) = self.streams.get_mut(index).and_then(LocalStream::home_mut) {
                    home.key_asked = asked;
                }
            }
            Source::Absent { .. } => {}
        }
    }

    /// Asks this publisher for a keyframe, unless it was asked just now. One that can't be asked is counted.
    pub(super) fn ask_for_keyframe(&mut self, publisher: PublisherRef, asked: &mut Instant, now: Now) {
        if *asked > Instant::ZERO && now.mono.since(*asked) < KEYFRAME_REQUESTS_APART {
            return;
        }
        *asked = now.mono;
        let obeys = match publisher {
            PublisherRef::Connection { slot, handle } => {
                let obeys = self.connections.get(slot).is_some_and(|one| one.cold.session.can_ask_for_keyframes());
                if obeys {
                    self.queue_task(slot, Input::KeyframeWanted(handle));
                }
                obeys
            }
            PublisherRef::Port(port) => {
                match self.ports.get_mut(port).map(|port| &mut port.feed) {
                    // The last place is kept for the end: a host that never looks learns of it all the same.
                    Some(Feed::Ring { events, .. }) => {
                        let room = events.capacity().is_none_or(|capacity| events.len() + 1 < capacity);
                        let _ = room.then(|| events.try_send(PublisherEvent::KeyframeWanted));
                    }
                    Some(Feed::Source { source, .. }) => source.on_keyframe_wanted(),
                    None => {}
                }
                true
            }
        };
        let count = if obeys { &mut self.counters.keyframes_asked } else { &mut self.counters.keyframes_unheard };
        *count += 1;
    }

    /// A port of the host is over: its thread is told.
    pub(super) fn close_port(&mut self, port: usize, reason: Reason) {
        let Some(port) = self.ports.try_remove(port) else { return };
        self.memory.rings -= port.feed.ring_bytes();
        match port.feed {
            Feed::Ring { events, .. } => {
                let _ = events.try_send(PublisherEvent::Ended(reason));
            }
            Feed::Source { mut source, .. } => FrameSource::on_end(&mut *source, reason),
        }
    }

    /// The slot of this stream, new if need be.
    pub(super) fn stream_for(&mut self, key: &StreamKey, spec: &Arc<crate::stream::AppSpec>) -> usize {
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        self.next_uid += 1;
        let index = self.streams.insert(LocalStream::new(key.clone(), self.next_uid, Arc::clone(spec)));
        self.by_key.insert(key.clone(), index);
        self.recount_stream(index);
        index
    }

    /// Frees the slot of a stream that nothing needs any more.
    pub(super) fn forget_if_idle(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index) else { return };
        if !stream.is_idle() {
            if stream.subscribers == 0 && stream.home().is_none() {
                // The slot is still needed, but what is in it is for nobody who comes now.
                restart_readers(&mut self.streams[index], &mut self.places);
            }
            return;
        }
        let stream = self.streams.remove(index);
        self.memory.streams -= stream.counted;
        self.by_key.remove(&stream.key);
        if stream.interested {
            self.shared.directory.lose_interest(&stream.key, self.id);
        }
    }

    /// Which shard a home is on, if it is another.
    pub(super) const fn is_elsewhere(&self, home: ShardId) -> bool {
        home.0 != self.id.0
    }
}

/// All readers of a stream wait for the next publisher's first keyframe.
pub(super) fn restart_readers(stream: &mut LocalStream, places: &mut Slab<Place>) {
    let head = stream.log.head();
    stream.log.restart();
    for group in &mut stream.groups {
        group.edge = head;
        group.under_way = None;
        if let Some(packets) = &mut group.packets {
            packets.clear(head);
        }
        for sub in &mut group.subs {
            sub.step_aside(&mut places[sub.place].cursor).restart(head);
        }
    }
}
