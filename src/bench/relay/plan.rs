//! What a part is told to do, and what it says: one line of JSON each, over its standard input and output.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::settings::{Merge, SlowKind};

/// What a part is: the first line that it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Plan {
    /// Publishes and plays, and judges.
    Generate(Load),
    /// Sends what a server would send, and nothing else.
    Floor(Sends),
    /// Holds idle connections.
    Hold(Held),
}

/// The load of one generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    /// As the user wrote it.
    pub(crate) host: String,
    pub(crate) app: String,
    /// The names to publish and to play, with their queries, stream by stream.
    pub(crate) publish: Vec<String>,
    pub(crate) play: Vec<String>,
    /// The far end is the floor, which makes the streams itself.
    pub(crate) bare: bool,
    /// Viewers of all generators together; the n-th watches stream n modulo the number of streams.
    pub(crate) players: usize,
    /// This generator and how many there are: it has each `generators`-th stream, viewer and visitor.
    pub(crate) generator: usize,
    pub(crate) generators: usize,
    /// Of all generators together.
    pub(crate) joins_per_s: u64,
    /// Visitors that join each second, and leave; of all generators together.
    pub(crate) churn_per_s: u64,
    /// How long a visitor stays, ns.
    pub(crate) stay: u64,
    /// Slow readers among the viewers, in thousandths.
    pub(crate) slow_permille: usize,
    pub(crate) slow: SlowKind,
    /// Video and audio of a stream, kb/s.
    pub(crate) kbps: u32,
    /// One viewer of so many checks the body of each frame.
    pub(crate) check_every: usize,
}

/// What the floor sends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sends {
    pub(crate) players: usize,
    pub(crate) streams: u32,
    pub(crate) kbps: u32,
    pub(crate) merge: Merge,
}

/// Connections that only stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) app: String,
    pub(crate) connections: usize,
}

/// What a part is told later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Every stream is there: let the viewers join.
    Join,
    /// Measure this span of the shared clock.
    Window { from: u64, until: u64 },
}

/// What a part says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It listens on this port of the loopback.
    Listening(u16),
    /// Its publishers were accepted and have sent for a while.
    Published,
    /// Its viewers have joined, or have had their time to.
    Joined,
    /// What it saw; the last word of a generator.
    Outcome(Box<Outcome>),
    /// So many connections are held.
    Held(usize),
    /// So many were left at the end.
    Left(usize),
    /// Why it could not go on.
    Failed(String),
}
