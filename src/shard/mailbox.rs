//! Peer shards → replicas and links.

use super::Shard;
use super::env::Env;
use super::group::Target;
use super::local::Source;
use super::mesh::Link;
use super::message::{Control, Message};
use crate::clock::Now;
use crate::id::ShardId;
use crate::limits::MAILBOX_PER_TURN;
use crate::reason::Reason;

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
            Control::Published { key, generation } => self.on_published(from, &key, generation, now),
            Control::TakenOver { key, generation } => self.on_taken_over(&key, generation, now),
            Control::KeyframeWanted { key } => {
                if let Some(index) = self.by_key.get(&key).copied() {
                    self.want_keyframe(index, now);
                }
            }
        }
    }

    /// A peer was restarted: its rings are new, its streams are gone, and so are its replicas.
    pub(super) fn on_rewire(&mut self, peer: ShardId, link: Link, now: Now) {
        let mut replicas = Vec::new();
        let mut orphans = Vec::new();
        for (index, stream) in &mut self.streams {
            stream.links.retain(|home| *home != peer);
            let subs = stream.groups.iter().flat_map(|group| &group.subs);
            let linked = subs.filter(|sub| matches!(sub.target, Target::Peer(shard, _) if shard == peer));
            replicas.extend(linked.map(|sub| sub.place));
            if stream.is_idle() || matches!(stream.source, Source::Remote { home } if home == peer) {
                orphans.push(index);
            }
        }
        for place in replicas {
            self.end_subscriber(place, Reason::ShardLost, now);
        }
        // Not before: the ends of the old links are nothing to the new shard, whose slots are others.
        self.mesh.rewire(peer, link);
        for index in orphans {
            let Some(stream) = self.streams.get_mut(index) else { continue };
            if matches!(stream.source, Source::Remote { home } if home == peer) {
                let grace = stream.spec.republish_grace;
                stream.source = Source::Absent { until: crate::clock::Instant::FAR, reason: Reason::ShardLost };
                self.source_ended(index, Reason::ShardLost, grace, now);
            } else {
                self.forget_if_idle(index);
            }
        }
    }
}
