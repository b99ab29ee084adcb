//! What memory a stream, a subscriber and a connection hold when nothing happens: bytes that the allocator was asked
//! for, by a counting allocator, on a lone shard in a null world and on a router.
//!
//! Tables grow in steps, so that the last one to come may pay for many: counted is what all of them hold together,
//! divided by their number, for two numbers: just before a table grows would be the best case, just after the worst.
//! Sockets and kernel buffers are not counted. `cargo bench --bench memory`.
#![expect(unsafe_code, reason = "a counting allocator is an allocator")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shardcast::Router;
use shardcast::extension::{FrameSink, SinkVerdict};
use shardcast::id::StreamKey;
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::protocol::Protocol;
use shardcast::protocol::rtmp::Rtmp;
use shardcast::protocol::rtmp::amf::{Value, encode};
use shardcast::router::{PublishOptions, SubscribeOptions};
use shardcast::stream::AppSpec;
use support::{Lone, Machine, PlaysAtOnce, key, size};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counter beside it has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: it came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    // The audit writer has written what it was told, and let go of it.
    std::thread::sleep(Duration::from_millis(50));
    HELD.load(Ordering::Relaxed)
}

/// Bytes that `work` leaves held, for each of `count`.
fn each<T>(count: usize, work: impl FnOnce() -> T) -> (f64, T) {
    let before = held();
    let kept = work();
    ((held() as f64 - before as f64) / count as f64, kept)
}

fn main() {
    println!("{}", Machine::read());
    println!("bytes each, of so many\n");
    let counts = [size(10_000, 100), size(16_384, 128)];
    let row = |name: &str, goal: &str, measure: &dyn Fn(usize) -> f64| {
        let [some, full] = counts.map(measure);
        println!("{name:<54}{some:>10.0} of {:<8}{full:>10.0} of {:<8}{goal}", counts[0], counts[1]);
    };
    row("idle stream, published, no frame yet", "at most 8,000", &|count| streams(count, 0));
    row("idle stream with a configuration and a frame", "at most 8,000, payload aside", &|count| streams(count, 1));
    row("sink on a shard", "at most 128", &sinks);
    row("RTMP player that plays a stream", "", &players);
    row("RTMP connection, connected, idle", "at most 4,096", &connections);
    println!();
    let host = size(512, 8);
    println!("{:<54}{:>10.0} of {host}", "host publisher, ring of 256 slots", publishers(host, 256));
    println!("{:<54}{:>10.0} of {host}", "host publisher, ring of 16 slots", publishers(host, 16));
    println!("{:<54}{:>10.0} of {host}", "host subscription, ring of 256 slots", subscriptions(host, 256));
    println!("{:<54}{:>10.0} of {host}", "host subscription, ring of 16 slots", subscriptions(host, 16));
}

fn numbered(n: usize) -> StreamKey {
    StreamKey::parse(&format!("live/{n:06}")).expect("a valid name")
}

/// The publisher's ring is the host's own, and the smallest here.
fn streams(count: usize, frames: usize) -> f64 {
    let mut lone = Lone::new(AppSpec::new("*"), 0, Bytes::new(), None);
    lone.publish(key());
    warm_up(&mut lone);
    let (bytes, publishers) = each(count, || {
        let mut publishers = Vec::with_capacity(count);
        for n in 0..count {
            let mut publisher = lone.publisher(numbered(n), 2);
            for _ in 0..frames {
                let config = Frame::config(Codec::H264, Timestamp(0), Bytes::from_static(b"config"));
                lone.push(&mut publisher, config);
                lone.turn();
                let key = Frame::video(Codec::H264, true, Timestamp(0), Timestamp(0), Bytes::from_static(b"key"));
                lone.push(&mut publisher, key);
                lone.turn();
            }
            publishers.push(publisher);
        }
        publishers
    });
    let (ring, unused) = each(1, || shardcast::ring::ring::<shardcast::shard::PeerMessage>(2));
    drop((unused, publishers));
    bytes - ring
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

fn sinks(count: usize) -> f64 {
    let mut lone = Lone::new(AppSpec::new("*"), 0, Bytes::new(), None);
    lone.publish(key());
    warm_up(&mut lone);
    lone.send(Frame::video(Codec::H264, true, Timestamp(0), Timestamp(0), Bytes::from_static(b"key")));
    lone.settle();
    let (bytes, ()) = each(count, || {
        for _ in 0..count {
            lone.attach(key(), Box::new(Nothing));
        }
        lone.settle();
    });
    bytes
}

/// Sessions of RTMP in a null world; the hello is the whole of what a client sends before it plays.
fn connections(count: usize) -> f64 {
    with_peers(count, hello(), Arc::new(Rtmp))
}

fn players(count: usize) -> f64 {
    with_peers(count, Bytes::from_static(b"p"), Arc::new(PlaysAtOnce))
}

fn with_peers(count: usize, hello: Bytes, protocol: Arc<dyn Protocol>) -> f64 {
    let players = u32::try_from(count).expect("few");
    let mut lone = Lone::new(AppSpec::new("*"), players, hello, Some(protocol));
    let (bytes, ()) = each(count, || {
        // The first turn of all lets some of them in: the listener is measured with them.
        lone.publish(key());
        lone.settle();
        lone.send(Frame::video(Codec::H264, true, Timestamp(0), Timestamp(0), Bytes::from_static(b"key")));
        lone.settle();
    });
    assert_eq!((lone.counters().accepted, lone.counters().closed), (count as u64, 0));
    bytes
}

/// A plain handshake and `connect`.
fn hello() -> Bytes {
    use shardcast::protocol::rtmp::chunk::ChunkWriter;
    use shardcast::protocol::rtmp::message::{COMMAND, CSID_COMMAND};
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

fn publishers(count: usize, ring_slots: usize) -> f64 {
    let router = Router::builder().shards(1).start().expect("it starts");
    let (bytes, publishers) = each(count, || {
        let options = || PublishOptions { ring_slots, ..PublishOptions::default() };
        (0..count).map(|n| router.publish(&numbered(n), options()).expect("it may")).collect::<Vec<_>>()
    });
    drop(publishers);
    let _ = router.stop(Duration::from_secs(1));
    bytes
}

fn subscriptions(count: usize, ring_slots: usize) -> f64 {
    let router = Router::builder().shards(1).start().expect("it starts");
    let publisher = router.publish(&key(), PublishOptions::default()).expect("it may");
    let (bytes, subscriptions) = each(count, || {
        let options = || SubscribeOptions { ring_slots, ..SubscribeOptions::default() };
        (0..count).map(|_| router.subscribe(&key(), options()).expect("it may")).collect::<Vec<_>>()
    });
    drop((subscriptions, publisher));
    let _ = router.stop(Duration::from_secs(1));
    bytes
}
