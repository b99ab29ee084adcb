//! A table of attacks: bytes, and what must come of them.

use shardcast::fact::{Fact, FactKind};
use shardcast::limits::Limit;
use shardcast::reason::{Blame, Reason};

use super::peer;
use super::world::{SOON, World, now};

/// How far a peer has come in an orderly way before it attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Connected, and nothing sent.
    Raw,
    /// Behind the handshake.
    Shaken,
    /// Behind `connect`.
    Connected,
    /// With stream 1 from `createStream`.
    Created,
    /// Publishing on stream 1, with a name of its own.
    Publishing,
}

/// What must come of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The connection is closed for this reason.
    Closed(Blame, &'static str, Option<&'static str>),
    /// Nothing: it is served as before.
    Served,
}

/// One attack.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) act: Vec<u8>,
    pub(crate) expect: Expect,
}

pub(crate) fn row(name: &str, stage: Stage, act: impl Into<Vec<u8>>, expect: Expect) -> Row {
    Row { name: name.to_owned(), stage, act: act.into(), expect }
}

/// Bytes that are not the protocol.
pub(crate) const fn malformed(label: &'static str) -> Expect {
    Expect::Closed(Blame::Malformed, "malformed", Some(label))
}

/// Legal bytes at the wrong time.
pub(crate) const fn misbehaved(label: &'static str) -> Expect {
    Expect::Closed(Blame::Peer, "misbehaved", Some(label))
}

pub(crate) const fn unsupported(label: &'static str) -> Expect {
    Expect::Closed(Blame::Peer, "unsupported", Some(label))
}

pub(crate) const fn limited(limit: Limit) -> Expect {
    Expect::Closed(Blame::Limit, "limit", Some(limit.label()))
}

pub(crate) const fn refused(code: &'static str) -> Expect {
    Expect::Closed(Blame::Caller, code, None)
}

impl Stage {
    /// The bytes that lead there.
    pub(crate) fn bytes(self, name: &str) -> Vec<u8> {
        let steps = [peer::hello(), peer::connect("live"), peer::create_stream(), peer::publish(1, name)];
        let count = match self {
            Self::Raw => 0,
            Self::Shaken => 1,
            Self::Connected => 2,
            Self::Created => 3,
            Self::Publishing => 4,
        };
        steps[..count].concat()
    }
}

/// Runs all attacks, one after the other on the canaries' shard, and fails with all that went wrong.
pub(crate) fn run(world: &World, rows: &[Row]) {
    let wrong = rows.iter().enumerate().filter_map(|(number, row)| run_one(world, number, row));
    // Each may take its time to fail.
    let wrong: Vec<String> = wrong.take(WRONG_MAX).collect();
    assert!(wrong.is_empty(), "{} or more of {} attacks:\n  {}", wrong.len(), rows.len(), wrong.join("\n  "));
}

fn run_one(world: &World, number: usize, row: &Row) -> Option<String> {
    let failed = |what: &str| Some(format!("{} ({:?}): {what}", row.name, row.stage));
    let before = &world.baseline;
    if let Err(sizes) = world.settles_at(before) {
        return failed(&format!("there is {sizes} before it"));
    }
    let mark = world.facts.count();
    let mut peer = world.peer();
    peer.send(&row.stage.bytes(&format!("attack-{number}")));
    if row.stage == Stage::Publishing {
        peer.wait_for_status("NetStream.Publish.Start");
    }
    let attacked = now();
    peer.send(&row.act);
    let expected = match row.expect {
        Expect::Closed(blame, code, detail) => {
            if !peer.is_closed(SOON) {
                return failed("the connection was not closed");
            }
            (blame, code, detail)
        }
        Expect::Served => {
            if !peer.is_served() {
                let id = peer.id;
                drop(peer);
                return failed(&format!("it is served no more: {:?}", reason(&world.facts.close_of(id))));
            }
            let reason = Reason::PeerClosed;
            (reason.blame(), reason.code(), None)
        }
    };
    let took = now().since(attacked);
    let id = peer.id;
    drop(peer);
    let close = world.facts.close_of(id);
    if reason(&close) != Some(expected) {
        return failed(&format!("closed because {:?}, and not {expected:?}", close.reason));
    }
    if took > CLOSED_WITHIN {
        return failed(&format!("it took {took:?}"));
    }
    if let Err(sizes) = world.settles_at(before) {
        return failed(&format!("{before:?} has become {sizes}"));
    }
    let facts: Vec<Fact> = world.facts.of(id, mark);
    let count = |kind| facts.iter().filter(|fact| fact.kind == kind).count();
    if count(FactKind::ConnectionClose) != 1 || count(FactKind::PublishStart) != count(FactKind::PublishEnd) {
        return failed(&format!("not one end for each start: {facts:#?}"));
    }
    None
}

fn reason(fact: &Fact) -> Option<(Blame, &'static str, Option<&'static str>)> {
    fact.reason.map(|reason| (reason.blame(), reason.code(), reason.detail()))
}

/// After so many the others are not tried.
const WRONG_MAX: usize = 3;
/// One second is what is asked for; a machine that does other things besides is given more.
const CLOSED_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);
