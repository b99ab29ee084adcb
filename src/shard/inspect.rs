//! What a shard tells of itself: plain values, taken between two turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Shard;
use super::env::Env;
use super::group::{Format, Target};
use super::meter::StageHistograms;
use crate::clock::Now;
use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
use crate::limits::SURVEY_STREAMS;
use crate::media::{Media, Timestamp, Track};
use crate::protocol::Description;
use crate::stream::{Corrections, TrackClock};
use crate::stream::{Spread, Stages};

/// Counters of one shard since its start. Nothing here is reset; histograms are, whenever they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Turns taken.
    pub turns: u64,
    /// Time spent in turns that had work, sleeping and looking around not counted, in nanoseconds.
    pub busy_ns: u64,
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
    /// Frames of publishers that stand by.
    pub frames_standby: u64,
    /// Times that a stream with players went on with another publisher, or with another connection of the same.
    pub switches: u64,
    /// Keyframes that publishers were asked for, at most one each half second.
    pub keyframes_asked: u64,
    /// Keyframes that were needed of publishers whose protocol can't be asked.
    pub keyframes_unheard: u64,
    /// Timestamps and clocks of publishers that were put right.
    pub corrections: Corrections,
    /// GOPs that exceeded the cache.
    pub gops_dropped: u64,
    /// Caches that were let go because memory was short.
    pub caches_shed: u64,
    /// Viewers that were let go because memory was short.
    pub viewers_shed: u64,
    /// Connections with unfinished messages that were closed because memory was short.
    pub connections_shed: u64,
    /// Reads that were put off because memory was short.
    pub reads_put_off: u64,
    /// Frames with which a publisher was over its application's caps.
    pub frames_over_rate: u64,
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
    /// How long the stages of timed frames took here, in nanoseconds, since this was asked last.
    pub stages: StageHistograms,
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
    /// Bytes of memory that it is counted with: see [`Limits::memory`](crate::limits::Limits::memory).
    pub memory: u64,
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
    /// What was put right in its publisher's timestamps.
    pub corrections: Corrections,
    /// How the clocks of its audio and video tracks run.
    pub clocks: Vec<TrackClock>,
    /// Frames and duration of the last whole GOP.
    pub gop: Option<(u32, Timestamp)>,
    /// Subscribers on its home shard, one for each other shard that has some.
    pub subscribers: usize,
    /// Frames and payload bytes that its log holds.
    pub log: (u64, u64),
    /// Its viewers on all shards, and how old frames are when they leave.
    pub audience: Audience,
}

/// The viewers of one stream, on one shard or on all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audience {
    /// Subscribers, those that are other shards not counted.
    pub viewers: usize,
    /// Frames that subscribers skipped because they were too far behind, since the shard knows the stream.
    pub skipped: u64,
    /// Subscribers evicted for lag, since then.
    pub evicted: u64,
    /// How long the stages of timed frames took, since this was asked last.
    pub stages: Stages<Spread>,
}

impl Audience {
    /// Adds what another shard has.
    pub fn merge(&mut self, other: &Self) {
        self.viewers += other.viewers;
        self.skipped += other.skipped;
        self.evicted += other.evicted;
        self.stages.merge(&other.stages);
    }
}

/// What one shard knows of one stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamPart {
    /// Its name.
    pub key: StreamKey,
    /// From its home alone, without its audience.
    pub info: Option<Box<StreamInfo>>,
    /// Those on this shard.
    pub audience: Audience,
}

impl StreamPart {
    /// The stream as a whole, of all shards' parts in it; none if no shard is its home.
    #[must_use]
    pub fn whole(parts: impl IntoIterator<Item = Self>) -> Option<StreamInfo> {
        let (mut info, mut audience) = (None, Audience::default());
        for part in parts {
            audience.merge(&part.audience);
            info = part.info.or(info);
        }
        let mut info = info?;
        info.audience = audience;
        Some(*info)
    }
}

/// Some of the streams of one shard.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SurveyPage {
    /// At most [`SURVEY_STREAMS`](crate::limits::SURVEY_STREAMS).
    pub parts: Vec<StreamPart>,
    /// Where the next page begins, unless this was the last.
    pub next: Option<usize>,
}

impl<E: Env> Shard<E> {
    /// What this shard knows of the stream in this slot. The times of its stages are taken.
    pub(super) fn part(&mut self, index: usize, now: Now) -> Option<StreamPart> {
        let stream = self.streams.get_mut(index)?;
        let peers = stream.groups.iter().filter(|group| group.format == Format::Frames).flat_map(|group| &group.subs);
        let peers = peers.filter(|sub| matches!(sub.target, Target::Peer(..))).count();
        let audience = Audience {
            viewers: stream.subscribers - peers,
            skipped: stream.skipped,
            evicted: stream.evicted,
            stages: stream.meter.as_mut().map(|meter| meter.take()).unwrap_or_default(),
        };
        Some(StreamPart { key: stream.key.clone(), info: self.info(index, now).map(Box::new), audience })
    }

    /// Some streams, from this slot on.
    pub(super) fn survey(&mut self, from: usize, now: Now) -> SurveyPage {
        let mut slots = self.streams.iter().map(|(index, _)| index).filter(|index| *index >= from);
        let page: Vec<usize> = slots.by_ref().take(SURVEY_STREAMS).collect();
        let next = slots.next();
        SurveyPage { parts: page.into_iter().filter_map(|index| self.part(index, now)).collect(), next }
    }

    fn info(&mut self, index: usize, now: Now) -> Option<StreamInfo> {
        let shard = self.id;
        let stream = self.streams.get_mut(index)?;
        let key = stream.key.clone();
        let subscribers = stream.subscribers;
        let log = (stream.log.head() - stream.log.tail(), stream.log.bytes_held());
        let mut tracks: Vec<Track> = stream
            .log
            .current_configs()
            .map(|config| Track {
                id: config.track,
                codec: config.codec,
                timescale: 1_000,
                config: config.payload.clone(),
                size: None,
                channels: None,
                language: None,
            })
            .collect();
        tracks.sort_by_key(|track| track.id);
        let home = stream.home_mut()?;
        for track in &mut tracks {
            match track.codec.media() {
                Media::Video => track.size = home.description.size,
                Media::Audio => track.channels = home.description.channels,
                Media::Data => {}
            }
        }
        let (video_bitrate, audio_bitrate, frame_rate) = home.qos.rates(now.mono);
        Some(StreamInfo {
            key,
            generation: home.generation,
            home: shard,
            connection: home.who.connection,
            peer: home.who.peer,
            protocol: home.who.protocol,
            principal: home.who.principal.clone(),
            uptime: now.mono.since(home.started),
            description: home.description.clone(),
            tracks,
            video_bitrate,
            audio_bitrate,
            frame_rate,
            frames: home.qos.frames,
            bytes: home.qos.bytes,
            corrections: home.timeline.corrections(),
            clocks: home.timeline.clocks(),
            gop: home.qos.gop,
            subscribers,
            log,
            audience: Audience::default(),
        })
    }

    pub(super) fn stats(&mut self) -> ShardStats {
        let homes = self.streams.iter().filter(|(_, stream)| stream.home().is_some()).count();
        let turn_ns = self.turn_ns.clone();
        self.turn_ns.reset();
        ShardStats {
            shard: self.id,
            counters: self.counters.clone(),
            turn_ns,
            stages: self.stages.take(),
            connections: self.connections.len(),
            homes,
            replicas: self.streams.len() - homes,
            subscribers: self.places.len(),
            log_bytes: self.streams.iter().map(|(_, stream)| stream.log.bytes_held()).sum(),
            memory: self.memory.used(),
        }
    }
}
