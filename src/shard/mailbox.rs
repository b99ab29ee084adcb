//! Peer shards → replicas and links.

use super::Shard;
use super::env::Env;
use super::group::Target;
use super::local::Source;
use super::mesh::Link;
use super::message::{Control, Message};
use crate::clock::{Instant, Now};
use crate::id::ShardId;
use crate::limits::MAILBOX_PER_TURN;
use crate::reason::Reason;
use crate::stream::Located;

impl<E: Env> Shard<E> {
    /// Takes what peers sent, from each up to its share.
    pub(super) fn drain_mailbox(&mut self, now: Now) -> usize {
        let mut work = 0;
        for peer in 0..self.shared.shards.len() {
            let Ok(peer) = u16::try_from(peer) else { break };
            let from = ShardId(peer);
            for _ in 0..MAILBOX_PER_TURN {
                let Some(message) = self.mesh.receive(from) else { break };
                work += 1;
                match message {
                    Message::Frame(frame) => {
                        let slot = frame.slot();
                        if self.is_linked(slot, from) {
                            self.counters.frames_relayed += 1;
                            self.append(slot, frame.unpack(now.mono), now);
                        }
                    }
                    Message::Control(control) => self.on_control(from, *control, now),
                }
            }
        }
        self.run_tasks(now);
        work
    }

    /// Whether frames for this slot come over the current link of its stream. Late ones of a former link do not:
    /// its last message has not come yet.
    fn is_linked(&self, slot: usize, from: ShardId) -> bool {
        let Some(stream) = self.streams.get(slot) else { return false };
        matches!(stream.source, Source::Remote { home } if home == from)
            && stream.links.iter().filter(|home| **home == from).count() == 1
    }

    fn on_control(&mut self, from: ShardId, control: Control, now: Now) {
        match control {
            Control::Subscribe { key, generation, slot } => self.on_subscribe(from, &key, generation, slot, now),
            Control::Unsubscribe { key, slot } => self.on_unsubscribe(from, &key, slot, now),
            Control::LinkEnd { slot, reason } => self.on_link_end(from, slot, reason, now),
            Control::Gap { slot, frames } => {
                if self.is_linked(slot as usize, from) {
                    self.streams[slot as usize].log.note_gap(frames);
                }
            }
            Control::Replayed { slot } => {
                if self.is_linked(slot as usize, from) {
                    self.on_replayed(slot as usize);
                }
            }
            Control::Appended { slot, at } => {
                if self.is_linked(slot as usize, from) {
                    self.on_appended_at_home(slot as usize, at);
                }
            }
            Control::Published { key, generation } => self.on_published(from, &key, generation, now),
            Control::TakenOver { key, generation } => self.on_taken_over(&key, generation, now),
            Control::Promote { key, connection, cause } => self.on_promote(&key, connection, cause, now),
            Control::KeyframeWanted { key } => {
                if let Some(index) = self.by_key.get(&key).copied() {
                    self.want_keyframe(index, now);
                }
            }
        }
    }

    /// A peer was restarted: its rings are new, its streams are gone, and so are its replicas.
    pub(super) fn on_rewire(&mut self, peer: ShardId, link: Link, now: Now) {
        if !self.mesh.wants(peer, &link) {
            return;
        }
        let mut replicas = Vec::new();
        for (_, stream) in &mut self.streams {
            stream.links.retain(|home| *home != peer);
            let subs = stream.groups.iter().flat_map(|group| &group.subs);
            let linked = subs.filter(|sub| matches!(sub.target, Target::Peer(shard, _) if shard == peer));
            replicas.extend(linked.map(|sub| sub.place));
        }
        // The last words on these links go to the rings that nobody reads any more: in the new ones they would end
        // links that the restarted shard has asked for since.
        for place in replicas {
            self.end_subscriber(place, Reason::ShardLost, now);
        }
        self.mesh.rewire(peer, link);
        let indices: Vec<usize> = self.streams.iter().map(|(index, _)| index).collect();
        for index in indices {
            self.reconcile(index, peer, now);
            self.fill_vacancy(index, now);
        }
    }

    /// Messages from and to a shard that was restarted are lost; what they were about stands in the directory.
    fn reconcile(&mut self, index: usize, peer: ShardId, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let (key, grace) = (stream.key.clone(), stream.spec.republish_grace);
        let located = self.shared.directory.locate(&key);
        match &stream.source {
            Source::Home(home) if located == Located::Live(self.id, home.generation) => {
                // It may have players who wait for this, or a publisher who has lost the name.
                self.mesh.control(peer, Control::Published { key, generation: home.generation });
            }
            Source::Home(home) => {
                let generation = home.generation;
                self.on_taken_over(&key, generation, now);
            }
            Source::Remote { home } if *home == peer => {
                stream.source = Source::Absent { until: Instant::FAR, reason: Reason::ShardLost };
                self.follow(index, Reason::ShardLost, grace, now);
            }
            Source::Remote { .. } | Source::Absent { .. } => {
                if let Located::Live(home, generation) = located
                    && self.is_elsewhere(home)
                {
                    self.on_published(home, &key, generation, now);
                }
                self.forget_if_idle(index);
            }
        }
    }
}
