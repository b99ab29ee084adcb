//! What a shard tells of itself: plain values, taken between two turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
use crate::media::{Timestamp, Track};
use crate::protocol::Description;

/// Counters of one shard since its start. Nothing here is reset, but for the histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Turns taken.
    pub turns: u64,
    /// Times that the shard slept.
    pub parks: u64,
    /// Times that it woke a peer or a host's thread.
    pub wakes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused before they had a session.
    pub refused: u64,
    /// Connections closed.
    pub closed: u64,
    /// Sessions ended by an error of the peer.
    pub peer_errors: u64,
    /// Frames that publishers sent here.
    pub frames_in: u64,
    /// Payload bytes of those.
    pub payload_in: u64,
    /// Frames received from other shards.
    pub frames_relayed: u64,
    /// Frames handed to subscribers, other shards not counted.
    pub deliveries: u64,
    /// Frames handed to other shards.
    pub relays: u64,
    /// Bytes that sockets took.
    pub bytes_out: u64,
    /// Bytes that sockets gave.
    pub bytes_in: u64,
    /// `sendmsg` calls.
    pub sends: u64,
    /// `recv` calls.
    pub receives: u64,
    /// Frames that subscribers skipped because they were too far behind.
    pub skipped: u64,
    /// Subscribers evicted for lag.
    pub evicted: u64,
    /// Frames that other shards' rings had no room for at first try.
    pub ring_full: u64,
    /// Delta frames before the first keyframe of a publisher: nobody could have decoded them.
    pub before_key: u64,
    /// Timestamps that stepped back on their track and were held.
    pub dts_held: u64,
    /// GOPs that exceeded the cache.
    pub gops_dropped: u64,
    /// Sessions that panicked.
    pub session_panics: u64,
    /// Commands of the host carried out.
    pub commands: u64,
}

/// One shard's state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardStats {
    /// Which shard.
    pub shard: ShardId,
    /// Its counters.
    pub counters: Counters,
    /// Length of its turns in nanoseconds, sleep not counted, since this was asked last.
    pub turn_ns: Histogram<u64>,
    /// Open connections.
    pub connections: usize,
    /// Streams with their publisher here.
    pub homes: usize,
    /// Streams with subscribers here and their publisher elsewhere or absent.
    pub replicas: usize,
    /// Subscribers, other shards counted.
    pub subscribers: usize,
    /// Payload bytes that the logs hold.
    pub log_bytes: u64,
}

/// What is known of one live stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub key: StreamKey,
    /// Which life.
    pub generation: Generation,
    /// Where its publisher is.
    pub home: ShardId,
    /// The publisher's connection.
    pub connection: ConnectionId,
    /// The publisher's address; `None` for the host itself.
    pub peer: Option<SocketAddr>,
    /// The publisher's protocol.
    pub protocol: &'static str,
    /// Whom the authenticator recognised.
    pub principal: Option<Arc<str>>,
    /// Time since its publisher started.
    pub uptime: Duration,
    /// What the publisher says of it.
    pub description: Description,
    /// Its tracks, by their newest configuration and frames.
    pub tracks: Vec<Track>,
    /// Video bits per second.
    pub video_bitrate: u64,
    /// Audio bits per second.
    pub audio_bitrate: u64,
    /// Video frames per second.
    pub frame_rate: u64,
    /// Frames since the start.
    pub frames: u64,
    /// Payload bytes since the start.
    pub bytes: u64,
    /// Frames and duration of the last whole GOP.
    pub gop: Option<(u32, Timestamp)>,
    /// Subscribers on its home shard, one for each other shard that has some.
    pub subscribers: usize,
    /// Frames and payload bytes that its log holds.
    pub log: (u64, u64),
}
