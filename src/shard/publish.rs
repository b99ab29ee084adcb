//! The publisher's side of a stream: claim, end, takeover, silence.

use super::Shard;
use super::env::Env;
use super::group::Place;
use super::host::{Feed, PublisherEvent};
use super::local::{Home, LocalStream, PublisherRef, Source};
use super::message::Control;
use crate::clock::{Instant, Now};
use crate::extension::FrameSource;
use crate::fact::{Fact, FactKind, Who};
use crate::id::{Generation, ShardId, StreamKey};
use crate::protocol::Input;
use crate::reason::Reason;
use slab::Slab;
use std::sync::Arc;
use std::time::Duration;

impl<E: Env> Shard<E> {
    /// Takes the name and makes this shard its home; the stream's slot.
    pub(super) fn start_publish(
        &mut self,
        key: &StreamKey,
        publisher: PublisherRef,
        who: Who,
        now: Now,
    ) -> Result<usize, Reason> {
        let spec = Arc::clone(self.config.app(key.app()).ok_or(Reason::UnknownApp)?);
        let limits = &self.config.limits;
        let claim =
            self.shared.directory.claim(key, self.id, spec.conflict, limits.publishers, self.config.streams_max())?;
        let index = self.stream_for(key, &spec);
        let mut kind = FactKind::PublishStart;
        // Who publishes here is over, also if the name has moved on meanwhile and that word has not arrived yet.
        if let Some(generation) = self.streams[index].home().map(|home| home.generation) {
            self.oust(index, generation, now);
        }
        if let Some((home, generation)) = claim.previous {
            if home != self.id {
                self.mesh.control(home, Control::TakenOver { key: key.clone(), generation });
            }
            self.tell(Fact::new(FactKind::Takeover, now, self.id).stream(key).generation(generation).who(&who));
        }
        self.leave_home(index);
        self.finish_ending(index, now);
        self.waiting_is_over(index);
        let stream = &mut self.streams[index];
        let resumes = stream.subscribers > 0 && claim.resume.is_some();
        if resumes {
            kind = FactKind::Switch;
        }
        let home = Home::new(publisher, who.clone(), claim.generation, claim.resume, claim.line, now.mono);
        stream.source = Source::Home(Box::new(home));
        // Frames of the former publisher can't be mixed with this one's GOP: here, and on the shards that got them
        // from here and come back for more.
        self.end_links(index, Reason::TakenOver, now);
        restart_readers(&mut self.streams[index], &mut self.places);
        for shard in claim.interested {
            if shard != self.id {
                let generation = claim.generation;
                self.mesh.control(shard, Control::Published { key: key.clone(), generation });
            }
        }
        if kind == FactKind::Switch {
            self.tell(Fact::new(kind, now, self.id).stream(key).generation(claim.generation).who(&who));
        }
        let fact = Fact::new(FactKind::PublishStart, now, self.id);
        self.tell(fact.stream(key).generation(claim.generation).who(&who));
        Ok(index)
    }

    /// The publisher of a home stream is over.
    pub(super) fn end_publish(&mut self, index: usize, reason: Reason, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let grace = stream.spec.republish_grace;
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
        let fact = Fact::new(FactKind::PublishEnd, now, self.id)
            .stream(&key)
            .generation(home.generation)
            .who(&home.who)
            .reason(reason)
            .totals(home.qos.bytes, now.mono.since(home.started));
        self.tell(fact);
        if released {
            self.source_ended(index, reason, grace, now);
        } else {
            // Another shard has the name already, and its word is on its way: readers here wait for it.
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
            for sub in &mut group.subs {
                sub.queued = true;
                self.behind.push_back(sub.place);
            }
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
        match home.publisher {
            PublisherRef::Connection { slot, handle } => {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.cold.publishes.retain(|publishing| publishing.handle != handle);
                }
                self.settle_phase(slot, now);
                self.queue_task(slot, Input::Unpublished(handle, Reason::TakenOver));
            }
            PublisherRef::Port(port) => self.close_port(port, Reason::TakenOver),
        }
        let key = self.streams[index].key.clone();
        let fact = Fact::new(FactKind::PublishEnd, now, self.id)
            .stream(&key)
            .generation(generation)
            .who(&home.who)
            .reason(Reason::TakenOver)
            .totals(home.qos.bytes, now.mono.since(home.started));
        self.tell(fact);
    }

    /// Closes whoever publishes this stream here.
    pub(super) fn close_publisher(&mut self, index: usize, reason: Reason, now: Now) -> bool {
        let Some(publisher) = self.streams.get(index).and_then(LocalStream::home).map(|home| home.publisher) else {
            return false;
        };
        match publisher {
            PublisherRef::Connection { slot, .. } => self.close(slot, reason, now),
            PublisherRef::Port(_) => self.end_publish(index, reason, now),
        }
        true
    }

    /// Publishers that fell silent are closed.
    pub(super) fn reap_silent_publishers(&mut self, now: Now) {
        let idle = self.config.limits.publisher_idle;
        let silent: Vec<usize> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.home().is_some_and(|home| now.mono.since(home.qos.last_frame) >= idle))
            .map(|(index, _)| index)
            .collect();
        for index in silent {
            let Some(home) = self.streams[index].home() else { continue };
            let fact = Fact::new(FactKind::Reap, now, self.id)
                .stream(&self.streams[index].key)
                .generation(home.generation)
                .who(&home.who)
                .reason(Reason::Idle);
            self.tell(fact);
            self.close_publisher(index, Reason::Idle, now);
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
                if home.key_asked > Instant::ZERO && now.mono.since(home.key_asked) < KEYFRAME_REQUESTS_APART {
                    return;
                }
                home.key_asked = now.mono;
                match home.publisher {
                    PublisherRef::Connection { slot, handle } => {
                        self.queue_task(slot, Input::KeyframeWanted(handle));
                    }
                    PublisherRef::Port(port) => match self.ports.get_mut(port).map(|port| &mut port.feed) {
                        // The last place is kept for the end: a host that never looks learns of it all the same.
                        Some(Feed::Ring { events, .. }) => {
                            let room = events.capacity().is_none_or(|capacity| events.len() + 1 < capacity);
                            let _ = room.then(|| events.try_send(PublisherEvent::KeyframeWanted));
                        }
                        Some(Feed::Source { source, .. }) => source.on_keyframe_wanted(),
                        None => {}
                    },
                }
            }
            Source::Absent { .. } => {}
        }
    }

    /// A port of the host is over: its thread is told.
    pub(super) fn close_port(&mut self, port: usize, reason: Reason) {
        let Some(port) = self.ports.try_remove(port) else { return };
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

/// Time between two keyframe requests to one publisher.
const KEYFRAME_REQUESTS_APART: Duration = Duration::from_millis(500);
