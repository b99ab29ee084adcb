//! The parts: what is made so many times, and looked at.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;

use super::{Held, Meter};
use crate::bench::BenchError;
use crate::bench::all_of;
use crate::bench::frames::{Frames, PAYLOAD_BYTES, Verifier};
use crate::bench::world::{Lone, Peers, key};
use crate::extension::{FrameSink, SinkVerdict};
use crate::id::StreamKey;
use crate::media::{Codec, Frame, Merge, Timestamp};
use crate::protocol::rtmp::Rtmp;
use crate::protocol::rtmp::amf::{Value, encode};
use crate::protocol::rtmp::chunk::ChunkWriter;
use crate::protocol::rtmp::message::{COMMAND, CSID_COMMAND};
use crate::reason::Reason;
use crate::router::{PublishOptions, Router, SubscribeOptions};
use crate::shard::PeerMessage;
use crate::stream::AppSpec;

/// One thing that is measured.
pub(super) struct Part {
    /// What it is called between processes.
    pub(super) name: &'static str,
    /// What each of them is.
    pub(super) what: &'static str,
    /// Requested bytes that each should hold at most.
    pub(super) goal: Option<f64>,
    /// It is the host's: fewer of them.
    pub(super) of_host: bool,
    /// They are frames, each to so many subscribers.
    pub(super) frames_per: Option<usize>,
    pub(super) measure: fn(&Meter, usize) -> Result<Held, BenchError>,
}

const fn held(
    name: &'static str,
    what: &'static str,
    measure: fn(&Meter, usize) -> Result<Held, BenchError>,
) -> Part {
    Part { name, what, goal: None, of_host: false, frames_per: None, measure }
}

impl Part {
    const fn goal(self, bytes: f64) -> Self {
        Self { goal: Some(bytes), ..self }
    }

    const fn of_host(self) -> Self {
        Self { of_host: true, ..self }
    }

    const fn per_frame(self, subscribers: usize) -> Self {
        Self { frames_per: Some(subscribers), ..self }
    }
}

/// Subscribers of the frames whose allocations are counted.
const SOME: usize = 100;

pub(super) const PARTS: [Part; 12] = [
    held("stream", "idle stream, no frame yet", |meter, count| streams(meter, count, 0)).goal(8_000.0),
    held("live", "idle stream with a configuration and a frame", |meter, count| streams(meter, count, 1))
        .goal(8_000.0),
    held("sink", "sink on a shard", sinks).goal(128.0),
    held("player", "RTMP player that plays a stream", players),
    held("connection", "RTMP connection, connected, idle", connections).goal(4_096.0),
    held("publisher", "host publisher, ring of 256 slots", |meter, count| publishers(meter, count, 256)).of_host(),
    held("publisher-16", "host publisher, ring of 16 slots", |meter, count| publishers(meter, count, 16)).of_host(),
    held("subscription", "host subscription, ring of 256 slots", |meter, count| subscriptions(meter, count, 256))
        .of_host(),
    held("subscription-16", "host subscription, ring of 16 slots", |meter, count| subscriptions(meter, count, 16))
        .of_host(),
    held("frame", "to nobody", |meter, count| frames_to_sinks(meter, count, 0)).per_frame(0),
    held("frame-sinks", "to sinks", |meter, count| frames_to_sinks(meter, count, SOME)).per_frame(SOME),
    held("frame-players", "to RTMP players", frames_to_players).per_frame(SOME),
];

fn numbered(n: usize) -> Result<StreamKey, BenchError> {
    StreamKey::parse(&format!("live/{n:06}")).map_err(|_| Reason::BadName.into())
}

fn key_frame() -> Frame {
    Frame::video(Codec::H264, true, Timestamp(0), Timestamp(0), Bytes::from_static(b"key"))
}

/// The publisher's ring is the host's own, and the smallest here.
fn streams(meter: &Meter, count: usize, frames: usize) -> Result<Held, BenchError> {
    let mut lone = Lone::new(AppSpec::new("*"));
    lone.publish(key());
    warm_up(&mut lone);
    let keys = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
    let (mut held, publishers) = meter.each(count, || {
        let mut publishers = Vec::with_capacity(count);
        for key in &keys {
            let mut publisher = lone.publisher(key.clone(), 2);
            for _ in 0..frames {
                let config = Frame::config(Codec::H264, Timestamp(0), Bytes::from_static(b"config"));
                lone.push(&mut publisher, config);
                lone.turn();
                lone.push(&mut publisher, key_frame());
                lone.turn();
            }
            publishers.push(publisher);
        }
        publishers
    })?;
    let (ring, unused) = meter.each(1, || crate::ring::ring::<PeerMessage>(2))?;
    drop((unused, publishers));
    held.requested = held.requested.zip(ring.requested).map(|(all, ring)| all - ring);
    Ok(held)
}

/// The audit writer's own buffers grow to their size, and none of the tables does.
fn warm_up(lone: &mut Lone) {
    for _ in 0..2_000 {
        let one = lone.attach(key(), Box::new(Nothing));
        lone.detach(one);
    }
}

struct Nothing;

impl FrameSink for Nothing {
    fn on_frame(&mut self, _: &Frame) -> SinkVerdict {
        SinkVerdict::Taken
    }
}

fn sinks(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let mut lone = Lone::new(AppSpec::new("*"));
    lone.publish(key());
    warm_up(&mut lone);
    lone.send(key_frame());
    lone.settle();
    let (held, ()) = meter.each(count, || {
        for _ in 0..count {
            lone.attach(key(), Box::new(Nothing));
        }
        lone.settle();
    })?;
    Ok(held)
}

/// Sessions of RTMP in a null world; the hello is the whole of what a client sends before it plays.
fn connections(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let count_u32 = u32::try_from(count).unwrap_or(u32::MAX);
    with_peers(meter, count, Peers { count: count_u32, hello: hello(), protocol: Arc::new(Rtmp), payload_bytes: 3 })
}

fn players(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    with_peers(meter, count, Peers::playing(count, 3))
}

fn with_peers(meter: &Meter, count: usize, peers: Peers) -> Result<Held, BenchError> {
    let mut lone = Lone::with_peers(AppSpec::new("*"), Some(peers));
    let (held, ()) = meter.each(count, || {
        // The first turn of all lets some of them in: the listener is measured with them.
        lone.publish(key());
        lone.settle();
        lone.send(key_frame());
        lone.settle();
    })?;
    all_of("connections that were let in", lone.counters().accepted, count as u64)?;
    all_of("connections that were closed", lone.counters().closed, 0)?;
    Ok(held)
}

/// A plain handshake and `connect`.
fn hello() -> Bytes {
    let mut bytes = vec![3];
    bytes.resize(1 + 1536 + 1536, 0);
    let mut command = Vec::new();
    let object = Value::object([("app", Value::string("live")), ("tcUrl", Value::string("rtmp://localhost/live"))]);
    for value in [Value::string("connect"), Value::Number(1.0), object] {
        encode(&mut command, &value);
    }
    ChunkWriter::default().write(&mut bytes, CSID_COMMAND, COMMAND, 0, 0, &command);
    bytes.into()
}

fn publishers(meter: &Meter, count: usize, ring_slots: usize) -> Result<Held, BenchError> {
    let router = Router::builder().shards(1).start()?;
    let keys = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
    let (held, publishers) = meter.each(count, || {
        let options = || PublishOptions { ring_slots, ..PublishOptions::default() };
        keys.iter().map(|key| router.publish(key, options())).collect::<Result<Vec<_>, _>>()
    })?;
    drop(publishers?);
    let _ = router.stop(Duration::from_secs(1));
    Ok(held)
}

fn subscriptions(meter: &Meter, count: usize, ring_slots: usize) -> Result<Held, BenchError> {
    let router = Router::builder().shards(1).start()?;
    let publisher = router.publish(&key(), PublishOptions::default())?;
    let (held, subscriptions) = meter.each(count, || {
        let options = || SubscribeOptions { ring_slots, ..SubscribeOptions::default() };
        (0..count).map(|_| router.subscribe(&key(), options())).collect::<Result<Vec<_>, _>>()
    })?;
    drop((subscriptions?, publisher));
    let _ = router.stop(Duration::from_secs(1));
    Ok(held)
}

fn frames_to_sinks(meter: &Meter, count: usize, sinks: usize) -> Result<Held, BenchError> {
    let mut lone = Lone::new(AppSpec::new("*"));
    let sum = Arc::new(AtomicU64::new(0));
    lone.publish(key());
    for _ in 0..sinks {
        lone.attach(key(), Box::new(Verifier::<false>::new(PAYLOAD_BYTES, Arc::clone(&sum))));
    }
    frames(meter, count, sinks, &mut lone)
}

fn frames_to_players(meter: &Meter, count: usize) -> Result<Held, BenchError> {
    let spec = AppSpec::new("*").merge(Merge::Off);
    let mut lone = Lone::with_peers(spec, Some(Peers::playing(SOME, PAYLOAD_BYTES)));
    lone.publish(key());
    lone.settle();
    frames(meter, count, SOME, &mut lone)
}

/// A steady stream: what grows has grown before. The payloads are made before, too.
fn frames(meter: &Meter, count: usize, subscribers: usize, lone: &mut Lone) -> Result<Held, BenchError> {
    const GOP: u64 = 60;
    let mut frames = Frames::new(GOP, PAYLOAD_BYTES);
    let mut send = |lone: &mut Lone, count: usize| {
        for _ in 0..count {
            lone.send(frames.next());
            lone.settle();
        }
    };
    send(lone, WARM_UP);
    let (held, ()) = meter.each(count, || send(lone, count))?;
    all_of("deliveries", lone.counters().deliveries, (WARM_UP + count) as u64 * subscribers as u64)?;
    Ok(held)
}

/// Frames of several GOPs.
const WARM_UP: usize = 300;
