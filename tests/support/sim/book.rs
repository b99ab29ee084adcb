//! The book of a run: what publishers sent, what was placed in the logs of their homes, which facts were told, and
//! what was wrong. The router writes into it through an [`Observer`].

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shardcast::extension::Observer;
use shardcast::fact::{Fact, FactKind};
use shardcast::id::{ConnectionId, StreamKey};
use shardcast::media::{Frame, FrameKind};
use shardcast::reason::Reason;

use super::auth::principal;
use super::payload::Tag;

pub type BookRef = Arc<Mutex<Book>>;

#[derive(Default)]
pub struct Book {
    pub publishers: Vec<Publisher>,
    pub troubles: Vec<String>,
    pub facts: BTreeMap<&'static str, u64>,
    /// Ends by reason.
    pub reasons: BTreeMap<(&'static str, &'static str), u64>,
    pub told: u64,
    pub tracing: bool,
    pub now: u64,
    /// Nothing may be left out.
    pub gapless: bool,
    /// Some shard was lost: what it knew is gone.
    pub shard_lost: bool,
    /// Which publisher speaks when this peer, or this host's publisher, publishes this name.
    expected: HashMap<(Source, StreamKey), u32>,
    connections: BTreeMap<ConnectionId, u32>,
    publishes: BTreeMap<u64, (ConnectionId, Option<u32>)>,
    plays: BTreeMap<(ConnectionId, StreamKey), i64>,
}

/// Who publishes, as facts tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Peer(SocketAddr),
    Host(ConnectionId),
}

/// One life of a publisher.
pub struct Publisher {
    pub key: StreamKey,
    /// From the fact of its start.
    pub generation: Option<u64>,
    pub home: Option<u16>,
    pub ended: Option<Reason>,
    pub sent: Vec<Sent>,
    pub placed: Vec<Placed>,
    at: HashMap<u32, usize>,
}

/// A frame as its encoder made it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub track: u8,
    pub kind: FrameKind,
}

/// A frame as it went into the log of its home.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub seq: u32,
    pub track: u8,
    pub kind: FrameKind,
    pub dts: i64,
    pub pts: i64,
}

impl Publisher {
    /// Where in the home's log a frame stands, counted from the publisher's first.
    pub fn position(&self, seq: u32) -> Option<usize> {
        self.at.get(&seq).copied()
    }

    /// The configuration of a track that is in force at a position.
    pub fn config_at(&self, track: u8, position: usize) -> Option<usize> {
        self.placed[..position].iter().rposition(|f| f.track == track && f.kind == FrameKind::Config)
    }
}

impl Book {
    pub fn new(tracing: bool) -> Self {
        Self { tracing, ..Self::default() }
    }

    pub fn publisher(&mut self, key: &StreamKey) -> u32 {
        self.publishers.push(Publisher {
            key: key.clone(),
            generation: None,
            home: None,
            ended: None,
            sent: Vec::new(),
            placed: Vec::new(),
            at: HashMap::new(),
        });
        u32::try_from(self.publishers.len() - 1).expect("few publishers")
    }

    pub fn sent(&mut self, publisher: u32, sent: Sent) {
        self.publishers[publisher as usize].sent.push(sent);
    }

    pub fn expect(&mut self, source: Source, key: &StreamKey, publisher: u32) {
        self.expected.insert((source, key.clone()), publisher);
    }

    pub fn trouble(&mut self, what: String) {
        self.trace(|| format!("TROUBLE {what}"));
        self.troubles.push(what);
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.tracing {
            println!("{:>14.6} ms  {}", self.now as f64 / 1e6, line());
        }
    }

    /// Sessions that were told to have begun and not to have ended.
    pub fn open_sessions(&self) -> Vec<String> {
        let connections = self.connections.keys().map(|id| format!("connection {id:x?}"));
        let publishes = self.publishes.iter().map(|(generation, who)| format!("publish {generation} of {who:x?}"));
        let plays = self.plays.iter().filter(|(_, count)| **count != 0);
        connections.chain(publishes).chain(plays.map(|(play, count)| format!("{count} plays of {play:x?}"))).collect()
    }

    fn placed(&mut self, key: &StreamKey, frame: &Frame) {
        let Some(tag) = Tag::read(&frame.payload) else {
            return self.trouble(format!("{key}: a frame was placed that nobody made"));
        };
        let publisher = &mut self.publishers[tag.publisher as usize];
        let name = tag.publisher;
        if publisher.key != *key || (frame.track.0, frame.kind) != (tag.track, tag.kind) {
            return self.trouble(format!("{key}: frame {tag:?} was placed as {:?}", (frame.track, frame.kind)));
        }
        let next = publisher.placed.last().map_or(0, |last| last.seq + 1);
        if tag.seq < next {
            return self.trouble(format!("{key}: frame {} of publisher {name} placed after {next}", tag.seq));
        }
        for seq in next..tag.seq {
            let left_out = publisher.sent[seq as usize];
            let keyed = publisher.placed.iter().any(|f| f.track == left_out.track && f.kind == FrameKind::Key);
            if left_out.kind != FrameKind::Delta || keyed {
                return self.trouble(format!("{key}: frame {seq} of publisher {name} was lost before its log"));
            }
        }
        let last = publisher.placed.iter().rev().find(|f| f.track == tag.track);
        if last.is_some_and(|last| last.dts > frame.dts.0) {
            return self.trouble(format!("{key}: dts of track {} fell in the home's log at {tag:?}", tag.track));
        }
        publisher.at.insert(tag.seq, publisher.placed.len());
        publisher.placed.push(Placed {
            seq: tag.seq,
            track: tag.track,
            kind: tag.kind,
            dts: frame.dts.0,
            pts: frame.pts.0,
        });
    }

    fn fact(&mut self, fact: &Fact) {
        self.told += 1;
        *self.facts.entry(fact.kind.name()).or_default() += 1;
        if let Some(reason) = fact.reason {
            *self.reasons.entry((fact.kind.name(), reason.code())).or_default() += 1;
        }
        self.trace(|| {
            let who = fact.who.as_ref().map_or(0, |who| who.connection.0);
            let key = fact.stream.as_ref().map_or("", |key| key.as_str());
            let generation = fact.generation.map_or(0, |generation| generation.0);
            let (kind, shard, count) = (fact.kind.name(), fact.shard, fact.count);
            format!("shard {shard}: {kind} {key} gen {generation} who {who:x} {:?} count {count}", fact.reason)
        });
        let connection = fact.who.as_ref().map(|who| who.connection);
        if let Some(who) = &fact.who
            && who.principal.as_deref().is_some_and(|known| *known != *principal(who.connection))
        {
            self.trouble(format!("{:x} is taken for {:?}", who.connection.0, who.principal));
        }
        match (fact.kind, connection) {
            (FactKind::ConnectionOpen, Some(id)) => {
                let before = self.connections.insert(id, 1);
                if before.is_some() {
                    self.trouble(format!("connection {id:?} opened twice"));
                }
            }
            (FactKind::ConnectionClose, Some(id)) => {
                let open = self.connections.remove(&id);
                if open.is_none() {
                    self.trouble(format!("connection {id:?} closed without having been opened, or twice"));
                }
            }
            (FactKind::PublishStart, Some(id)) => self.publish_started(fact, id),
            (FactKind::PublishEnd, Some(_)) => self.publish_ended(fact),
            (FactKind::PlayStart | FactKind::PlayEnd, Some(id)) => {
                let by = if fact.kind == FactKind::PlayStart { 1 } else { -1 };
                let Some(key) = fact.stream.clone() else { return };
                let count = self.plays.entry((id, key)).or_default();
                *count += by;
                if *count < 0 {
                    self.trouble(format!("a play of {id:?} ended that had not started"));
                }
            }
            (FactKind::ShardPanic, _) => self.shard_lost = true,
            _ => {}
        }
    }

    fn publish_started(&mut self, fact: &Fact, id: ConnectionId) {
        let (Some(key), Some(generation)) = (&fact.stream, fact.generation) else { return };
        let peer = fact.who.as_ref().and_then(|who| who.peer);
        let source = peer.map_or(Source::Host(id), Source::Peer);
        let publisher = self.expected.get(&(source, key.clone())).copied();
        if let Some(publisher) = publisher {
            let publisher = &mut self.publishers[publisher as usize];
            publisher.generation = Some(generation.0);
            publisher.home = Some(fact.shard.0);
        } else {
            self.trouble(format!("{key}: a publish started that nobody asked for: {id:?}"));
        }
        if self.publishes.insert(generation.0, (id, publisher)).is_some() {
            self.trouble(format!("{key}: life {} started twice", generation.0));
        }
    }

    fn publish_ended(&mut self, fact: &Fact) {
        let Some(generation) = fact.generation else { return };
        let Some((_, publisher)) = self.publishes.remove(&generation.0) else {
            return self.trouble(format!("life {} ended twice, or never started", generation.0));
        };
        let Some(number) = publisher else { return };
        let key = self.publishers[number as usize].key.clone();
        let ousted = self.publishers.iter().any(|p| p.key == key && p.generation > Some(generation.0));
        let publisher = &mut self.publishers[number as usize];
        publisher.ended = fact.reason;
        // Who ends in order has all of it placed, but for deltas that nobody could decode, unless another had taken
        // the name already.
        let placed = publisher.placed.last().map_or(0, |last| last.seq as usize + 1);
        let lost = publisher.sent[placed..].iter().any(|sent| sent.kind != FrameKind::Delta);
        if fact.reason == Some(Reason::Ended) && lost && !ousted {
            let sent = publisher.sent.len();
            self.trouble(format!("publisher {number} ended in order, but only {placed} of {sent} were placed"));
        }
    }
}

/// Writes into the book.
pub struct Scribe(pub BookRef);

impl Observer for Scribe {
    fn on_fact(&self, fact: &Fact) {
        self.0.lock().fact(fact);
    }

    fn wants_frames(&self) -> bool {
        true
    }

    fn on_frame(&self, key: &StreamKey, frame: &Frame) {
        self.0.lock().placed(key, frame);
    }
}
