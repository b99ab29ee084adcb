//! The book of a run: what publishers sent, what was placed in the logs of their homes, which facts were told, and
//! what was wrong. The router writes into it through an [`Observer`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shardcast::extension::Observer;
use shardcast::fact::{Fact, FactKind};
use shardcast::id::{ConnectionId, StreamKey};
use shardcast::media::{Frame, FrameFlags, FrameKind};
use shardcast::reason::Reason;

use super::auth::principal;
use super::payload::Tag;

pub type BookRef = Arc<Mutex<Book>>;

#[derive(Default)]
pub struct Book {
    pub publishers: Vec<Publisher>,
    pub lives: Vec<Life>,
    pub troubles: Vec<String>,
    pub facts: BTreeMap<&'static str, u64>,
    /// Ends by reason.
    pub reasons: BTreeMap<(&'static str, &'static str), u64>,
    pub told: u64,
    pub tracing: bool,
    pub now: u64,
    /// Nothing may be left out.
    pub gapless: bool,
    /// Nothing may be older, in ns, where frames may be late for no reason but how their viewer reads.
    pub budget: Option<u64>,
    /// The oldest that any was, in percent of what it might be: when a socket took it, and when it was read.
    pub oldest: [u64; 2],
    /// Some shard was lost: what it knew is gone.
    pub shard_lost: bool,
    /// Which publisher speaks when this peer, or this host's publisher, publishes this name.
    expected: HashMap<(Source, StreamKey), u32>,
    connections: BTreeMap<ConnectionId, u32>,
    /// The life that each generation is.
    publishes: BTreeMap<u64, (ConnectionId, Option<u32>)>,
    standbys: BTreeSet<(ConnectionId, StreamKey)>,
    /// Nobody has a reason to be sent away.
    pub steadfast: bool,
    plays: BTreeMap<(ConnectionId, StreamKey), i64>,
}

/// Who publishes, as facts tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Peer(SocketAddr),
    Host(ConnectionId),
}

/// A publisher: it may lead more than once.
pub struct Publisher {
    pub key: StreamKey,
    pub sent: Vec<Sent>,
    /// The times that it led.
    pub lives: Vec<u32>,
    /// It stood by: what it had sent before the keyframe that it leads with is for nobody.
    stood_by: bool,
}

/// One life of a stream: a time in which one publisher leads.
pub struct Life {
    pub key: StreamKey,
    pub publisher: u32,
    /// From the fact of its start.
    pub generation: u64,
    pub began: u64,
    pub home: u16,
    pub ended: Option<Reason>,
    pub placed: Vec<Placed>,
    /// It begins in the midst of what was sent.
    joins: bool,
    /// How far behind its capture the last frame of each audio and video track stands, since a discontinuity.
    late: BTreeMap<u8, (i64, i64)>,
    at: HashMap<u32, usize>,
}

/// A frame as its encoder made it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub track: u8,
    pub kind: FrameKind,
    /// When it was captured, by a clock that is right, in ns, and by how much the encoder's was set until then; `None`
    /// if its timestamps do not go by that.
    pub captured: Option<(i64, i64)>,
}

/// A frame as it went into the log of its home.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub seq: u32,
    pub track: u8,
    pub kind: FrameKind,
    pub dts: i64,
    pub pts: i64,
    /// When its first byte reached the router.
    pub origin: u64,
    /// Nothing refers to it.
    pub disposable: bool,
}

impl Life {
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
        self.publishers.push(Publisher { key: key.clone(), sent: Vec::new(), lives: Vec::new(), stood_by: false });
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
        let standbys = self.standbys.iter().map(|standby| format!("standby {standby:x?}"));
        let plays = plays.map(|(play, count)| format!("{count} plays of {play:x?}"));
        connections.chain(publishes).chain(standbys).chain(plays).collect()
    }

    /// In which life of the stream a frame was placed that shows itself to be no older: some configuration is placed in
    /// several.
    pub fn life_of(&self, tag: Tag, shows: impl Fn(&Placed) -> bool) -> Option<u32> {
        let lives = &self.publishers[tag.publisher as usize].lives;
        let placed = |life: &u32| {
            let life = &self.lives[*life as usize];
            life.position(tag.seq).is_some_and(|at| shows(&life.placed[at]))
        };
        lives.iter().copied().rfind(placed)
    }

    /// In how many lives a frame was placed.
    pub fn lives_with(&self, tag: Tag) -> usize {
        let lives = &self.publishers[tag.publisher as usize].lives;
        lives.iter().filter(|life| self.lives[**life as usize].position(tag.seq).is_some()).count()
    }

    fn placed(&mut self, key: &StreamKey, frame: &Frame) {
        let Some(tag) = Tag::read(&frame.payload) else {
            return self.trouble(format!("{key}: a frame was placed that nobody made"));
        };
        let publisher = &self.publishers[tag.publisher as usize];
        let name = tag.publisher;
        if publisher.key != *key || (frame.track.0, frame.kind) != (tag.track, tag.kind) {
            return self.trouble(format!("{key}: frame {tag:?} was placed as {:?}", (frame.track, frame.kind)));
        }
        let Some(number) = publisher.lives.last().copied() else {
            return self.trouble(format!("{key}: frame {tag:?} was placed before its publisher led"));
        };
        let life = &self.lives[number as usize];
        let begun = !life.joins || life.placed.iter().any(|f| f.kind != FrameKind::Config);
        let next = life.placed.last().map_or(0, |last| last.seq + 1);
        if begun && tag.seq < next {
            return self.trouble(format!("{key}: frame {} of publisher {name} placed after {next}", tag.seq));
        }
        let from = if begun { next } else { tag.seq };
        if !begun && tag.kind == FrameKind::Delta {
            return self
                .trouble(format!("{key}: publisher {name} leads with frame {}, which is no keyframe", tag.seq));
        }
        for seq in from..tag.seq {
            let left_out = publisher.sent[seq as usize];
            let keyed = life.placed.iter().any(|f| f.track == left_out.track && f.kind == FrameKind::Key);
            if left_out.kind != FrameKind::Delta || keyed {
                return self.trouble(format!("{key}: frame {seq} of publisher {name} was lost before its log"));
            }
        }
        let captured = publisher.sent[tag.seq as usize].captured;
        let publisher = &mut self.lives[number as usize];
        let last = publisher.placed.iter().rev().find(|f| f.track == tag.track);
        if last.is_some_and(|last| last.dts > frame.dts.0) {
            return self.trouble(format!("{key}: dts of track {} fell in the home's log at {tag:?}", tag.track));
        }
        if let Some((captured, set)) = captured
            && matches!(frame.kind, FrameKind::Key | FrameKind::Delta | FrameKind::Audio)
        {
            if frame.flags.contains(FrameFlags::DISCONTINUITY) {
                publisher.late.clear();
            }
            let late = frame.dts.0 - captured;
            publisher.late.insert(tag.track, (set, late));
            // Until a track comes with the clock as it was set, its last frame tells nothing.
            let others = publisher.late.values().filter(|(then, _)| *then == set);
            let off = others.map(|(_, other)| other.abs_diff(late)).max().unwrap_or(0);
            if off > HELD_MOST {
                return self.trouble(format!("{key}: track {} is {off} ns off the others at {tag:?}", tag.track));
            }
        }
        publisher.at.insert(tag.seq, publisher.placed.len());
        publisher.placed.push(Placed {
            seq: tag.seq,
            track: tag.track,
            kind: tag.kind,
            dts: frame.dts.0,
            pts: frame.pts.0,
            origin: frame.origin.0,
            disposable: frame.flags.contains(FrameFlags::DISPOSABLE),
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
            (FactKind::Standby, Some(id)) => self.stands_by(fact, id),
            (FactKind::StandbyEnd, Some(id)) => self.stands_by_no_more(fact, id),
            (FactKind::Switch, Some(id)) if fact.reason.is_some() => self.stands_by_no_more(fact, id),
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

    fn stands_by(&mut self, fact: &Fact, id: ConnectionId) {
        let Some(key) = &fact.stream else { return };
        if let Some(publisher) = self.whose(fact, id) {
            self.publishers[publisher as usize].stood_by = true;
        }
        if !self.standbys.insert((id, key.clone())) {
            self.trouble(format!("{key}: {id:?} stands by twice"));
        }
    }

    fn stands_by_no_more(&mut self, fact: &Fact, id: ConnectionId) {
        let Some(key) = &fact.stream else { return };
        if !self.standbys.remove(&(id, key.clone())) {
            self.trouble(format!("{key}: {id:?} stood by no more, or never"));
        }
    }

    fn whose(&self, fact: &Fact, id: ConnectionId) -> Option<u32> {
        let peer = fact.who.as_ref().and_then(|who| who.peer);
        let source = peer.map_or(Source::Host(id), Source::Peer);
        self.expected.get(&(source, fact.stream.clone()?)).copied()
    }

    fn publish_started(&mut self, fact: &Fact, id: ConnectionId) {
        let (Some(key), Some(generation)) = (&fact.stream, fact.generation) else { return };
        let mut life = None;
        if let Some(number) = self.whose(fact, id) {
            let new = u32::try_from(self.lives.len()).expect("few lives");
            life = Some(new);
            let publisher = &mut self.publishers[number as usize];
            publisher.lives.push(new);
            self.lives.push(Life {
                key: key.clone(),
                publisher: number,
                generation: generation.0,
                began: self.now,
                home: fact.shard.0,
                ended: None,
                placed: Vec::new(),
                joins: publisher.stood_by,
                late: BTreeMap::new(),
                at: HashMap::new(),
            });
        } else {
            self.trouble(format!("{key}: a publish started that nobody asked for: {id:?}"));
        }
        if self.publishes.insert(generation.0, (id, life)).is_some() {
            self.trouble(format!("{key}: life {} started twice", generation.0));
        }
    }

    fn publish_ended(&mut self, fact: &Fact) {
        let Some(generation) = fact.generation else { return };
        let Some((_, life)) = self.publishes.remove(&generation.0) else {
            return self.trouble(format!("life {} ended twice, or never started", generation.0));
        };
        let Some(life) = life else { return };
        let key = self.lives[life as usize].key.clone();
        let ousted = self.lives.iter().any(|p| p.key == key && p.generation > generation.0);
        let life = &mut self.lives[life as usize];
        life.ended = fact.reason;
        // Who ends in order has all of it placed, but for deltas that nobody could decode, unless another had taken
        // the name already.
        let number = life.publisher;
        let placed = life.placed.last().map_or(0, |last| last.seq as usize + 1);
        let sent = &self.publishers[number as usize].sent;
        // One without pictures, which stood by, leads with what it sends from then on: that may be nothing.
        let silent = life.joins && life.placed.iter().all(|frame| frame.kind == FrameKind::Config);
        let lost = !silent && sent[placed..].iter().any(|sent| sent.kind != FrameKind::Delta);
        if fact.reason == Some(Reason::Ended) && lost && !ousted {
            let sent = sent.len();
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

/// While a frame is held its track is off the others, by the most that is held, in ns, and a picture's duration.
const HELD_MOST: u64 = shardcast::stream::BACK_MAX.unsigned_abs() + 50_000_000;
