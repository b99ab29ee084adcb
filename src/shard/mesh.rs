//! The rings between shards: one per ordered pair, and a backlog for control messages that find them full.
//!
//! Full is an answer, never a wait: frames stay in their log behind a cursor, control goes to the backlog first,
//! so two full rings can't wait for each other. While a peer has a backlog no frame overtakes it.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::{Control, Message, PackedFrame, PeerMessage};
use crate::clock::Instant;
use crate::id::ShardId;
use crate::limits::{CONTROL_BACKLOG_MAX, PEER_RING_SLOTS};
use crate::ring::{Consumer, Doorbell, Producer, PushError, ring};

/// One shard's end of the connection to one peer.
pub struct Link {
    pub(crate) tx: Producer<PeerMessage>,
    pub(crate) rx: Consumer<PeerMessage>,
    /// When it was made, and by whom: of two that cross on their way both shards keep the later.
    epoch: (Instant, ShardId),
}

/// Two ends of a new connection between two shards.
fn link_pair(slots: usize, epoch: (Instant, ShardId)) -> (Link, Link) {
    let (a_tx, b_rx) = ring(slots);
    let (b_tx, a_rx) = ring(slots);
    (Link { tx: a_tx, rx: a_rx, epoch }, Link { tx: b_tx, rx: b_rx, epoch })
}

/// All connections of one shard, by peer; its own place is empty.
pub struct Mesh {
    peers: Vec<Option<Peer>>,
    /// Messages that each ring holds.
    slots: usize,
    /// Peers whose ring was full, or who were sent nothing because of a backlog, since the counter was read.
    pub(crate) full: u64,
}

struct Peer {
    link: Link,
    doorbell: Doorbell,
    backlog: VecDeque<PeerMessage>,
    /// Something was pushed in this turn: ring once at its end.
    touched: bool,
}

/// A full mesh between shards with these doorbells: one [`Mesh`] for each.
#[must_use]
pub fn mesh(doorbells: &[Doorbell]) -> Vec<Mesh> {
    mesh_with(doorbells, PEER_RING_SLOTS)
}

/// The same with rings of so many messages: small ones are full soon, which tests want.
#[must_use]
pub fn mesh_with(doorbells: &[Doorbell], slots: usize) -> Vec<Mesh> {
    let mut out: Vec<Mesh> =
        doorbells.iter().map(|_| Mesh { peers: doorbells.iter().map(|_| None).collect(), slots, full: 0 }).collect();
    for a in 0..doorbells.len() {
        for b in a + 1..doorbells.len() {
            let (to_b, to_a) = link_pair(slots, (Instant::ZERO, ShardId(0)));
            out[a].peers[b] = Some(Peer::new(to_b, doorbells[b].clone()));
            out[b].peers[a] = Some(Peer::new(to_a, doorbells[a].clone()));
        }
    }
    out
}

impl Peer {
    const fn new(link: Link, doorbell: Doorbell) -> Self {
        Self { link, doorbell, backlog: VecDeque::new(), touched: false }
    }

    /// Moves what fits from the backlog to the ring; whether the backlog is empty then.
    fn drain_backlog(&mut self) -> bool {
        while let Some(message) = self.backlog.pop_front() {
            match self.link.tx.push(message) {
                Ok(()) => self.touched = true,
                Err(PushError::Full(message)) => {
                    self.backlog.push_front(message);
                    return false;
                }
                // The peer is being replaced: its new rings come with a command.
                Err(PushError::Closed(_)) => self.backlog.clear(),
            }
        }
        true
    }
}

impl Mesh {
    /// Sends a control message, in order with the frames; never fails, never waits.
    pub(crate) fn control(&mut self, to: ShardId, control: Control) {
        let Some(peer) = self.peer(to) else { return };
        let message = Message::Control(Box::new(control));
        if !peer.drain_backlog() {
            peer.backlog.push_back(message);
            return;
        }
        match peer.link.tx.push(message) {
            Ok(()) => peer.touched = true,
            Err(PushError::Full(message)) => peer.backlog.push_back(message),
            Err(PushError::Closed(_)) => {}
        }
    }

    /// Sends a control message if there is room for it; it is of no use later.
    pub(crate) fn hint(&mut self, to: ShardId, control: Control) {
        let Some(peer) = self.peer(to) else { return };
        let sent = peer.drain_backlog() && peer.link.tx.push(Message::Control(Box::new(control))).is_ok();
        peer.touched |= sent;
    }

    /// Whether so many control messages wait for this peer that no new work may be begun with it.
    pub(crate) fn is_overloaded(&self, to: ShardId) -> bool {
        let peer = self.peers.get(usize::from(to.0)).and_then(Option::as_ref);
        peer.is_some_and(|peer| peer.backlog.len() >= CONTROL_BACKLOG_MAX)
    }

    /// Sends a frame, or says that there is no room now.
    pub(crate) fn frame(&mut self, to: ShardId, frame: PackedFrame) -> bool {
        let Some(peer) = self.peer(to) else { return false };
        let sent = peer.drain_backlog() && peer.link.tx.push(Message::Frame(frame)).is_ok();
        peer.touched |= sent;
        self.full += u64::from(!sent);
        sent
    }

    /// The next message of a peer.
    pub(crate) fn receive(&mut self, from: ShardId) -> Option<PeerMessage> {
        self.peer(from)?.link.rx.pop()
    }

    /// Wakes every peer that was sent something, if it sleeps: once per turn.
    pub(crate) fn ring_doorbells(&mut self) -> u64 {
        let mut wakes = 0;
        for peer in self.peers.iter_mut().flatten() {
            if !peer.backlog.is_empty() {
                peer.drain_backlog();
            }
            if std::mem::take(&mut peer.touched) {
                wakes += u64::from(peer.doorbell.ring());
            }
        }
        wakes
    }

    /// Whether anything waits to be received.
    pub(crate) fn has_mail(&mut self) -> bool {
        self.peers.iter_mut().flatten().any(|peer| !peer.link.rx.is_empty())
    }

    /// Whether control messages wait for room in a peer's ring.
    pub(crate) fn has_backlog(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.backlog.is_empty())
    }

    /// A peer was restarted: its old rings and what waited for them are gone.
    pub(crate) fn rewire(&mut self, to: ShardId, link: Link) {
        if let Some(peer) = self.peer(to) {
            *peer = Peer::new(link, peer.doorbell.clone());
        }
    }

    /// Whether a restarted peer's new rings are the newest. Those that it made before this shard was restarted are
    /// not: it gets newer ones from here.
    pub(crate) fn wants(&mut self, to: ShardId, link: &Link) -> bool {
        self.peer(to).is_some_and(|peer| peer.link.epoch < link.epoch)
    }

    /// New rings to all peers, and the far ends to hand to them.
    pub(crate) fn renew(&mut self, of: ShardId, now: Instant) -> Vec<(ShardId, Link)> {
        let mut far = Vec::new();
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            // Later than the old ones in any case.
            let made = now.max(peer.link.epoch.0 + Duration::from_nanos(1));
            let (near, other) = link_pair(self.slots, (made, of));
            *peer = Peer::new(near, peer.doorbell.clone());
            far.push((ShardId(u16::try_from(index).unwrap_or(u16::MAX)), other));
        }
        far
    }

    fn peer(&mut self, of: ShardId) -> Option<&mut Peer> {
        self.peers.get_mut(usize::from(of.0)).and_then(Option::as_mut)
    }
}
