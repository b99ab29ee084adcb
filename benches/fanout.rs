//! Local fan-out: what a shard does for each delivery of a frame, and nothing else.
//!
//! A lone shard under a null world on one pinned thread; frames come from a host publisher's ring. Sinks and sockets
//! check the number and length of every frame, and the sum of what was right must be the sum of what was sent.
//! "turn" is everything, the frame's own way into the log included; "fan-out" is less the turn of the same frames
//! without a subscriber, which is the fixed price of a frame and not of a delivery (`benches/publish.rs`). The bare
//! loops do nothing but what the receivers do: bare cursors on shared frames, the same sinks, the same null sockets.
//! `cargo bench --bench fanout`.

mod support;

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shardcast::clock::Clock;
use shardcast::extension::FrameSink;
use shardcast::media::Frame;
use shardcast::protocol::Merge;
use shardcast::reason::Reason;
use shardcast::shard::Env;
use shardcast::stream::AppSpec;
use support::{
    Frames, Lone, Machine, NullEnv, NullSocket, PAYLOAD_BYTES, PlaysAtOnce, Series, Verifier, chunks, key, pin,
    sequence_of, size,
};

const SUBSCRIBERS: [usize; 4] = [10, 100, 1_000, 10_000];
const FLUSHES: [u64; 3] = [1, 4, 16];
const GOP: u64 = 60;

fn main() {
    let machine = Machine::read();
    println!("{machine}, pinned to core {}", machine.core(1));
    pin(machine.core(1));
    let bench = Bench { clock: Clock::start(), chunks: size(41, 2), deliveries: size(60_000, 20) };
    let repetitions = size(5, 1);
    let most = size(10_000, 100);
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));

    let mut right = 0;
    println!("ns per delivery, median [min - max] of {repetitions} repetitions; {PAYLOAD_BYTES} B payloads");
    for flush in FLUSHES {
        let plural = if flush == 1 { "" } else { "s" };
        println!("\n{flush} frame{plural} per flush{:>14}{:>26}{:>26}{:>26}", "S = 10", "100", "1,000", "10,000");
        let mut rows: Vec<(&str, [Series; 4])> = NAMES.map(|name| (name, Default::default())).to_vec();
        for _ in 0..repetitions {
            for (column, subscribers) in SUBSCRIBERS.into_iter().enumerate().filter(|(_, count)| *count <= most) {
                for (name, series) in &mut rows {
                    if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
                        continue;
                    }
                    let (ns, taken) = bench.run(name, subscribers, flush);
                    series[column].push(ns);
                    right += taken;
                }
            }
        }
        for (name, series) in rows {
            println!("{name:<24}{:>26}{:>26}{:>26}{:>26}", series[0], series[1], series[2], series[3]);
        }
    }
    println!("\n{right} deliveries received and verified");
}

const NAMES: [&str; 8] = [
    "sinks, turn",
    "sinks, fan-out",
    "RTMP players, turn",
    "RTMP players, fan-out",
    "bare: cursors",
    "bare: sinks",
    "bare: null sockets",
    "crossbeam bounded",
];

struct Bench {
    clock: Clock,
    chunks: usize,
    /// In one chunk.
    deliveries: usize,
}

impl Bench {
    /// Nanoseconds per delivery, and how many were verified.
    fn run(&self, name: &str, subscribers: usize, flush: u64) -> (f64, u64) {
        match name {
            "sinks, turn" => self.sinks(subscribers, flush),
            "sinks, fan-out" => {
                let (ns, right) = self.sinks(subscribers, flush);
                (ns - self.sinks(0, flush).0 / subscribers as f64, right)
            }
            "RTMP players, turn" => self.players(subscribers, flush),
            "RTMP players, fan-out" => {
                let (ns, right) = self.players(subscribers, flush);
                (ns - self.sinks(0, flush).0 / subscribers as f64, right)
            }
            "bare: cursors" => self.bare_cursors(subscribers, flush),
            "bare: sinks" => self.bare_sinks(subscribers, flush),
            "bare: null sockets" => self.bare_sockets(subscribers, flush),
            _ => self.channels(subscribers, flush),
        }
    }

    /// Flushes in one chunk: enough for the clock, few enough for a time slice.
    fn flushes(&self, subscribers: usize, flush: u64) -> u64 {
        ((self.deliveries / subscribers.max(10)) as u64 / flush).clamp(1, 2_000)
    }

    fn sinks(&self, subscribers: usize, flush: u64) -> (f64, u64) {
        let mut lone = Lone::new(AppSpec::new("*"), 0, Bytes::new(), None);
        let sum = Arc::new(AtomicU64::new(0));
        lone.publish(key());
        for _ in 0..subscribers {
            lone.attach(key(), Box::new(Verifier::new(0, Arc::clone(&sum))));
        }
        let mut frames = Frames::new(GOP);
        let ns = self.drive(&mut lone, &mut frames, subscribers, flush);
        lone.end();
        let right = sum.load(Ordering::Relaxed);
        assert_eq!(right, frames.number() * subscribers as u64, "every frame reached every sink, in order and whole");
        assert_eq!(lone.counters().deliveries, right);
        (ns, right)
    }

    fn players(&self, subscribers: usize, flush: u64) -> (f64, u64) {
        let spec = AppSpec::new("*").merge(Merge::Off);
        let players = u32::try_from(subscribers).expect("few");
        let mut lone = Lone::new(spec, players, Bytes::from_static(b"p"), Some(Arc::new(PlaysAtOnce)));
        lone.publish(key());
        lone.settle();
        let mut frames = Frames::new(GOP);
        let ns = self.drive(&mut lone, &mut frames, subscribers, flush);
        let (deliveries, bytes) = (lone.counters().deliveries, lone.counters().bytes_out);
        let took = lone.took();
        assert_eq!(took.right, frames.number() * subscribers as u64, "every frame reached every player, in order");
        assert_eq!((deliveries, bytes), (took.right, took.bytes));
        (ns, took.right)
    }

    /// Nanoseconds per delivery; per frame if there is no subscriber.
    fn drive(&self, lone: &mut Lone, frames: &mut Frames, subscribers: usize, flush: u64) -> f64 {
        let flushes = self.flushes(subscribers, flush);
        let mut work = || {
            for _ in 0..flushes {
                for _ in 0..flush {
                    lone.send(frames.next());
                }
                lone.turn();
                // More players than one turn may serve.
                while lone.shard.has_work() {
                    lone.turn();
                }
            }
            flushes * flush * subscribers.max(1) as u64
        };
        work();
        work();
        chunks(self.clock, self.chunks, work)
    }

    /// Cursors on a slice of shared frames: what is left when nothing can go wrong.
    fn bare_cursors(&self, subscribers: usize, flush: u64) -> (f64, u64) {
        struct Reader {
            next: u64,
            right: u64,
        }
        let mut source = Frames::new(GOP);
        let log: Vec<Frame> = (0..256).map(|_| source.next()).collect();
        let mut readers: Vec<Reader> = (0..subscribers).map(|_| Reader { next: 0, right: 0 }).collect();
        let mut head = 0;
        let flushes = self.flushes(subscribers, flush);
        let ns = chunks(self.clock, self.chunks, || {
            for _ in 0..flushes {
                head += flush;
                for reader in black_box(&mut readers) {
                    while reader.next < head {
                        let frame = &log[(reader.next % 256) as usize];
                        let right = sequence_of(&frame.payload) == Some(reader.next % 256);
                        reader.right += u64::from(right && frame.payload.len() == PAYLOAD_BYTES);
                        reader.next += 1;
                    }
                }
            }
            flushes * flush * subscribers as u64
        });
        let right: u64 = readers.iter().map(|reader| reader.right).sum();
        assert_eq!(right, head * subscribers as u64);
        (ns, right)
    }

    /// The same sinks called one after the other: what of a delivery is the receiver's own.
    fn bare_sinks(&self, subscribers: usize, flush: u64) -> (f64, u64) {
        let sum = Arc::new(AtomicU64::new(0));
        let mut sinks: Vec<Box<dyn FrameSink>> =
            (0..subscribers).map(|_| Box::new(Verifier::new(0, Arc::clone(&sum))) as Box<dyn FrameSink>).collect();
        let mut frames = Frames::new(GOP);
        let flushes = self.flushes(subscribers, flush);
        let ns = chunks(self.clock, self.chunks, || {
            for _ in 0..flushes {
                let batch: Vec<Frame> = (0..flush).map(|_| frames.next()).collect();
                for sink in black_box(&mut sinks) {
                    for frame in &batch {
                        black_box(sink.on_frame(frame));
                    }
                }
            }
            flushes * flush * subscribers as u64
        });
        for sink in &mut sinks {
            sink.on_end(Reason::Ended);
        }
        let right = sum.load(Ordering::Relaxed);
        assert_eq!(right, frames.number() * subscribers as u64);
        (ns, right)
    }

    /// The same null sockets, one send each of the same slices: what of a delivery is the world's.
    fn bare_sockets(&self, subscribers: usize, flush: u64) -> (f64, u64) {
        let mut env = NullEnv::new(0, Bytes::new());
        let mut sockets: Vec<NullSocket> = (0..subscribers).map(|_| NullSocket::default()).collect();
        let mut frames = Frames::new(GOP);
        let flushes = self.flushes(subscribers, flush);
        let ns = chunks(self.clock, self.chunks, || {
            for _ in 0..flushes {
                let batch: Vec<Frame> = (0..flush).map(|_| frames.next()).collect();
                let slices: Vec<IoSlice<'_>> =
                    batch.iter().flat_map(|frame| [IoSlice::new(&[0; 17]), IoSlice::new(&frame.payload)]).collect();
                for socket in black_box(&mut sockets) {
                    assert!(env.send(socket, &slices).is_ok(), "it takes everything");
                }
            }
            flushes * flush * subscribers as u64
        });
        assert_eq!(env.took().right, frames.number() * subscribers as u64);
        (ns, env.took().right)
    }

    /// A bounded channel of frames per subscriber.
    fn channels(&self, subscribers: usize, flush: u64) -> (f64, u64) {
        let mut frames = Frames::new(GOP);
        let channels: Vec<_> = (0..subscribers).map(|_| crossbeam_channel::bounded::<Bytes>(64)).collect();
        let mut right = 0;
        let flushes = self.flushes(subscribers, flush);
        let ns = chunks(self.clock, self.chunks, || {
            for _ in 0..flushes {
                let first = frames.number();
                for _ in 0..flush {
                    let frame = frames.next();
                    for (tx, _) in &channels {
                        assert!(tx.try_send(frame.payload.clone()).is_ok(), "there is room");
                    }
                }
                for (_, rx) in &channels {
                    for n in first..first + flush {
                        let payload = rx.try_recv().expect("it was sent");
                        let number = sequence_of(&payload) == Some(n % 256);
                        right += u64::from(number && payload.len() == PAYLOAD_BYTES);
                    }
                }
            }
            flushes * flush * subscribers as u64
        });
        assert_eq!(right, frames.number() * subscribers as u64);
        (ns, right)
    }
}
