//! One case of the local fan-out, for each of the variants that are compared.

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::Settings;
use crate::bench::figures::chunks;
use crate::bench::frames::{Frames, Verifier, is_right};
use crate::bench::world::{Lone, NullEnv, NullSocket, Peers, key};
use crate::bench::{BenchError, all_of};
use crate::clock::Clock;
use crate::extension::FrameSink;
use crate::media::{Frame, Merge};
use crate::reason::Reason;
use crate::shard::Env;
use crate::stream::AppSpec;

/// What is measured of whom.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    pub(super) subject: &'static str,
    pub(super) metric: &'static str,
    /// Its time has the frame's own way in it.
    pub(super) whole_turn: bool,
    work: Work,
}

#[derive(Clone, Copy)]
enum Work {
    Sinks,
    BareSinks,
    BareCursors,
    Channels,
    Players,
    BareSockets,
}

pub(super) const SINK: &str = "delivery to a sink";
pub(super) const PLAYER: &str = "delivery to an RTMP player";

pub(super) const OURS: &str = "shardcast";
pub(super) const FLOOR: &str = "floor";

pub(super) const VARIANTS: [Variant; 6] = [
    Variant { subject: OURS, metric: SINK, whole_turn: true, work: Work::Sinks },
    floor(FLOOR, SINK, Work::BareSinks),
    floor("floor: cursors", SINK, Work::BareCursors),
    floor("crossbeam-channel each", SINK, Work::Channels),
    Variant { subject: OURS, metric: PLAYER, whole_turn: true, work: Work::Players },
    floor(FLOOR, PLAYER, Work::BareSockets),
];

const fn floor(subject: &'static str, metric: &'static str, work: Work) -> Variant {
    Variant { subject, metric, whole_turn: false, work }
}

/// How many get how much at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) subscribers: usize,
    pub(super) payload: usize,
    pub(super) flush: u64,
}

impl Case {
    /// Some frames to sinks that look at every byte: not timed. How many deliveries were right.
    pub(super) fn every_byte(self) -> Result<u64, BenchError> {
        let mut lone = Lone::new(AppSpec::new("*"));
        let sum = Arc::new(AtomicU64::new(0));
        lone.publish(key());
        for _ in 0..self.subscribers {
            lone.attach(key(), Box::new(Verifier::<true>::new(self.payload, Arc::clone(&sum))));
        }
        let mut frames = Frames::new(GOP, self.payload);
        for _ in 0..self.flush.max(3) {
            lone.send(frames.next());
        }
        lone.settle();
        lone.end();
        let right = sum.load(Ordering::Relaxed);
        let sent = frames.number() * self.subscribers as u64;
        all_of("frames that reached a sink with every byte as it was sent", right, sent)?;
        Ok(right)
    }
}

const GOP: u64 = 60;
/// Frames that a bounded channel of a subscriber takes.
const CHANNEL: usize = 64;

/// One case to be measured, in nanoseconds per delivery, and with how many deliveries were right.
pub(super) struct Local<'a> {
    pub(super) clock: Clock,
    pub(super) settings: &'a Settings,
    pub(super) case: &'a Case,
}

impl Local<'_> {
    pub(super) fn run(&self, variant: Variant) -> Result<(f64, u64), BenchError> {
        match variant.work {
            Work::Sinks => self.sinks(self.case.subscribers),
            Work::BareSinks => self.bare_sinks(),
            Work::BareCursors => self.bare_cursors(),
            Work::Channels => self.channels(),
            Work::Players => self.players(),
            Work::BareSockets => self.bare_sockets(),
        }
    }

    /// Flushes in one chunk: enough for the clock, few enough for a time slice.
    fn flushes(&self) -> u64 {
        let deliveries = self.settings.deliveries / self.case.subscribers.max(10);
        (deliveries as u64 / self.case.flush).clamp(1, 2_000)
    }

    /// Per frame if there is no subscriber.
    pub(super) fn sinks(&self, subscribers: usize) -> Result<(f64, u64), BenchError> {
        let mut lone = Lone::new(AppSpec::new("*"));
        let sum = Arc::new(AtomicU64::new(0));
        lone.publish(key());
        for _ in 0..subscribers {
            lone.attach(key(), Box::new(Verifier::<false>::new(self.case.payload, Arc::clone(&sum))));
        }
        let mut frames = self.frames();
        let ns = self.drive(&mut lone, &mut frames, subscribers);
        lone.end();
        let (right, sent) = (sum.load(Ordering::Relaxed), frames.number() * subscribers as u64);
        all_of("frames that reached a sink, in order and whole", right, sent)?;
        all_of("deliveries that the shard counted", lone.counters().deliveries, sent)?;
        Ok((ns, right))
    }

    fn players(&self) -> Result<(f64, u64), BenchError> {
        let spec = AppSpec::new("*").merge(Merge::Off);
        let mut lone = Lone::with_peers(spec, Some(Peers::playing(self.case.subscribers, self.case.payload)));
        lone.publish(key());
        lone.settle();
        let mut frames = self.frames();
        let ns = self.drive(&mut lone, &mut frames, self.case.subscribers);
        let (deliveries, bytes) = (lone.counters().deliveries, lone.counters().bytes_out);
        let took = lone.took();
        let sent = frames.number() * self.case.subscribers as u64;
        all_of("frames that reached an RTMP player, in order and whole", took.right, sent)?;
        all_of("deliveries that the shard counted", deliveries, sent)?;
        all_of("bytes that the shard counted", bytes, took.bytes)?;
        Ok((ns, took.right))
    }

    fn drive(&self, lone: &mut Lone, frames: &mut Frames, subscribers: usize) -> f64 {
        let (flushes, flush) = (self.flushes(), self.case.flush);
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
        chunks(self.clock, self.settings.chunks, work)
    }

    /// Cursors on a slice of shared frames: what is left when nothing can go wrong.
    fn bare_cursors(&self) -> Result<(f64, u64), BenchError> {
        struct Reader {
            next: u64,
            right: u64,
        }
        let mut source = self.frames();
        let log: Vec<Frame> = (0..256).map(|_| source.next()).collect();
        let mut readers: Vec<Reader> = (0..self.case.subscribers).map(|_| Reader { next: 0, right: 0 }).collect();
        let mut head = 0;
        let ns = self.bare(|flush| {
            head += flush;
            for reader in black_box(&mut readers) {
                while reader.next < head {
                    let frame = &log[(reader.next % 256) as usize];
                    reader.right += u64::from(is_right(&frame.payload, reader.next, self.case.payload));
                    reader.next += 1;
                }
            }
        });
        let right: u64 = readers.iter().map(|reader| reader.right).sum();
        self.all(head, right, ns)
    }

    /// The same sinks called one after the other: what of a delivery is the receiver's own.
    fn bare_sinks(&self) -> Result<(f64, u64), BenchError> {
        let sum = Arc::new(AtomicU64::new(0));
        let sink = |_| Box::new(Verifier::<false>::new(self.case.payload, Arc::clone(&sum))) as Box<dyn FrameSink>;
        let mut sinks: Vec<Box<dyn FrameSink>> = (0..self.case.subscribers).map(sink).collect();
        let mut frames = self.frames();
        let mut batch = Vec::new();
        let ns = self.bare(|flush| {
            refill(&mut batch, &mut frames, flush);
            for sink in black_box(&mut sinks) {
                for frame in &batch {
                    black_box(sink.on_frame(frame));
                }
            }
        });
        for sink in &mut sinks {
            sink.on_end(Reason::Ended);
        }
        self.all(frames.number(), sum.load(Ordering::Relaxed), self.less_frames(ns))
    }

    /// The same null sockets, one send each of the same slices: what of a delivery is the world's.
    fn bare_sockets(&self) -> Result<(f64, u64), BenchError> {
        let mut env = NullEnv::new(0, Bytes::new(), self.case.payload);
        let mut sockets: Vec<NullSocket> = (0..self.case.subscribers).map(|_| NullSocket::default()).collect();
        let mut frames = self.frames();
        let mut batch = Vec::new();
        let ns = self.bare(|flush| {
            refill(&mut batch, &mut frames, flush);
            let slices: Vec<IoSlice<'_>> =
                batch.iter().flat_map(|frame| [IoSlice::new(&[0; 17]), IoSlice::new(&frame.payload)]).collect();
            for socket in black_box(&mut sockets) {
                // It takes everything, and says in the end how much of it was right.
                let _ = black_box(env.send(socket, &slices));
            }
        });
        self.all(frames.number(), env.took().right, self.less_frames(ns))
    }

    /// Less the making of the frames, which is no delivery.
    fn less_frames(&self, ns: f64) -> f64 {
        let (mut frames, mut batch) = (self.frames(), Vec::new());
        let flushes = self.flushes();
        let each = chunks(self.clock, self.settings.chunks, || {
            for _ in 0..flushes {
                refill(&mut batch, &mut frames, self.case.flush);
                black_box(&batch);
            }
            flushes * self.case.flush
        });
        ns - each / self.case.subscribers as f64
    }

    /// A bounded channel of payloads for each subscriber.
    fn channels(&self) -> Result<(f64, u64), BenchError> {
        let mut frames = self.frames();
        let channel = |_| crossbeam_channel::bounded::<Bytes>(CHANNEL);
        let channels: Vec<_> = (0..self.case.subscribers).map(channel).collect();
        let mut right = 0;
        let ns = self.bare(|flush| {
            let first = frames.number();
            for _ in 0..flush {
                let frame = frames.next();
                for (tx, _) in &channels {
                    // There is room; a payload that is missing shows where it is received.
                    let _ = tx.try_send(frame.payload.clone());
                }
            }
            for (_, rx) in &channels {
                for n in first..first + flush {
                    let payload = rx.try_recv();
                    right += u64::from(payload.is_ok_and(|payload| is_right(&payload, n, self.case.payload)));
                }
            }
        });
        self.all(frames.number(), right, ns)
    }

    /// Times a loop that is given how many frames to deliver in each flush.
    fn bare(&self, mut flush: impl FnMut(u64)) -> f64 {
        let flushes = self.flushes();
        chunks(self.clock, self.settings.chunks, || {
            for _ in 0..flushes {
                flush(self.case.flush);
            }
            flushes * self.case.flush * self.case.subscribers as u64
        })
    }

    fn all(&self, frames: u64, right: u64, ns: f64) -> Result<(f64, u64), BenchError> {
        all_of("frames that reached a receiver of the floor", right, frames * self.case.subscribers as u64)?;
        Ok((ns, right))
    }

    fn frames(&self) -> Frames {
        Frames::new(GOP, self.case.payload)
    }
}

fn refill(batch: &mut Vec<Frame>, frames: &mut Frames, count: u64) {
    batch.clear();
    batch.extend((0..count).map(|_| frames.next()));
}

const _: () = assert!(CHANNEL >= 64, "a flush has at most 64 frames");
