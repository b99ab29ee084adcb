//! What is told on the control socket, for both ends of it. Times in milliseconds, rates per second, sizes in bytes.

use serde::{Deserialize, Serialize};

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;

/// One line to a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kicked: Option<bool>,
    /// The connection of the publisher that the stream goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) switched: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<Stats>,
}

impl Reply {
    pub(crate) const fn empty() -> Self {
        Self { v: VERSION, error: None, kicked: None, switched: None, stats: None }
    }

    pub(crate) fn error(sentence: &str) -> Self {
        Self { error: Some(sentence.into()), ..Self::empty() }
    }

    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("it is always JSON: {error}"));
        line.push(b'\n');
        line
    }
}

/// A server, over a window of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// The version of the program.
    pub(crate) version: String,
    /// How long it runs.
    pub(crate) uptime_s: f64,
    /// How long the window is.
    pub(crate) window_s: f64,
    pub(crate) connections: usize,
    pub(crate) viewers: usize,
    /// Bytes that sockets gave and took.
    pub(crate) bytes_in_per_s: f64,
    pub(crate) bytes_out_per_s: f64,
    /// By number; one that hangs is missing.
    pub(crate) shards: Vec<Shard>,
    /// By name.
    pub(crate) streams: Vec<Stream>,
    pub(crate) audit: Audit,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shard {
    pub(crate) shard: u16,
    /// Where it is pinned.
    pub(crate) core: Option<usize>,
    /// The share of the window that it spent in turns with work, 0 to 1.
    pub(crate) busy: f64,
    pub(crate) turns_per_s: f64,
    pub(crate) frames_in_per_s: f64,
    /// To other shards.
    pub(crate) relays_per_s: f64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) bytes_in_per_s: f64,
    pub(crate) bytes_out_per_s: f64,
    pub(crate) connections: usize,
    /// Streams with their publisher here, and streams that only subscribers are here of.
    pub(crate) homes: usize,
    pub(crate) replicas: usize,
    /// Links to other shards counted.
    pub(crate) subscribers: usize,
    pub(crate) log_bytes: u64,
    /// Since the start: frames that subscribers skipped, subscribers evicted, frames that another shard's ring had no
    /// room for, connections refused.
    pub(crate) skipped: u64,
    pub(crate) evicted: u64,
    pub(crate) ring_full: u64,
    pub(crate) refused: u64,
    /// Lengths of turns with work.
    pub(crate) turn: Times,
    #[serde(flatten)]
    pub(crate) stages: Stages,
}

/// One live stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) stream: String,
    /// The shard of its publisher.
    pub(crate) home: u16,
    pub(crate) publisher: Publisher,
    pub(crate) uptime_s: f64,
    /// On all shards.
    pub(crate) viewers: usize,
    pub(crate) codecs: Vec<String>,
    pub(crate) video_bps: u64,
    pub(crate) audio_bps: u64,
    pub(crate) fps: u64,
    pub(crate) frames: u64,
    /// Frames that its viewers skipped, and viewers evicted for lag, since it is known.
    pub(crate) skipped: u64,
    pub(crate) evicted: u64,
    #[serde(flatten)]
    pub(crate) stages: Stages,
}

/// Who publishes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Publisher {
    pub(crate) connection: String,
    pub(crate) protocol: String,
    pub(crate) peer: Option<String>,
    pub(crate) principal: Option<String>,
}

/// How long the stages of timed frames took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stages {
    /// Ingest → in the log of the home.
    pub(crate) append: Times,
    /// In the log of the home → in the log of another shard.
    pub(crate) relay: Times,
    /// In the log of a shard → accepted by the first socket there.
    pub(crate) first: Times,
    /// Ingest → accepted by a socket, for each delivery: the age at hand-off.
    pub(crate) age: Times,
}

/// How times spread within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// The audit trail since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Audit {
    pub(crate) attempted: u64,
    pub(crate) written: u64,
    pub(crate) lost: u64,
    pub(crate) sink_errors: u64,
    pub(crate) last_error: Option<String>,
    /// Where the trail is carried to.
    #[serde(default)]
    pub(crate) followers: Vec<Follower>,
}

/// One follower of the trail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Follower {
    pub(crate) name: String,
    /// The last record that is there.
    pub(crate) delivered: u64,
    /// Records that are on disk here and not yet there.
    pub(crate) lag: u64,
    /// Records that were put aside because they will never be taken.
    pub(crate) refused: u64,
    /// Why it does not go on; what it fails with is tried again, and `halted` is not.
    pub(crate) error: Option<String>,
    pub(crate) halted: bool,
}
