//! The ring beside rtrb and crossbeam-channel: same messages, same two cores, one run.
//!
//! Two pinned threads that spin. The variants take turns within each repetition, since on a virtual machine the two
//! cores do not stay at a fixed distance: the bare cache line that goes to and fro beside them tells which one it was.
//! Figures are the median of the repetitions, with the least and the greatest. One repetition's throughput is the
//! median of its chunks of 16,384 messages, so that a preemption is an outlier. A round trip is timed by one reading
//! of the clock each, whose own cost is taken off; a hop is half of it. `cargo bench --bench ring`.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use core_affinity::CoreId;
use hdrhistogram::Histogram;
use shardcast::clock::Clock;
use shardcast::ring::{Consumer, Producer, PushError, ring};

fn main() {
    let sizes = if std::env::args().any(|argument| argument == "--bench") { FULL } else { SMALL };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let pins = [cores.first().copied(), cores.get(1).copied()];
    if pins[1].is_none() {
        println!("one core only: the figures of two threads are those of the scheduler");
    }
    pin(pins[0]);
    let bench = Bench { sizes, pins, clock: Clock::start() };

    let clock_ns = bench.clock_ns();
    let mut rows: [(&str, Row); 3] = NAMES.map(|name| (name, Row::default()));
    let (mut line_p50, mut line_p99) = (Series::default(), Series::default());
    for _ in 0..sizes.repetitions {
        let line = bench.line(clock_ns);
        line_p50.push(line.p50);
        line_p99.push(line.p99);
        bench.measure(&mut rows[0].1, clock_ns, ring::<Message>);
        bench.measure(&mut rows[1].1, clock_ns, rtrb::RingBuffer::<Message>::new);
        bench.measure(&mut rows[2].1, clock_ns, crossbeam_channel::bounded::<Message>);
    }

    println!(
        "{} repetitions, {} slots, {} B messages, clock {clock_ns:.1} ns; ns, median [min - max]",
        sizes.repetitions,
        CAPACITY,
        size_of::<Message>()
    );
    println!("bare line, one way: p50 {line_p50}, p99 {line_p99}");
    let distances = line_p50.sorted();
    if distances[distances.len() - 1] > 2.0 * distances[0] {
        println!("the cores moved apart or together meanwhile: the rows of two threads are of several distances");
    }
    println!("{:<18}{COLUMNS}", "");
    for (name, row) in &rows {
        let [same, burst, two, p50, p99] = row.series().map(ToString::to_string);
        println!("{name:<18} {same:>21} {burst:>21} {two:>21} {p50:>21} {p99:>21}");
    }
    for (name, row) in &rows[1..] {
        let ours = &rows[0].1;
        println!(
            "against {name}: throughput x{:.2}, hop p50 x{:.2}, same thread x{:.2}",
            ours.two_threads.times(&row.two_threads),
            ours.hop_p50.times(&row.hop_p50),
            ours.same_thread.times(&row.same_thread)
        );
    }
    println!("checked: {} messages per variant, in order", sizes.messages() * sizes.repetitions as u64);
}

const NAMES: [&str; 3] = ["shardcast::ring", "rtrb", "crossbeam bounded"];
const COLUMNS: &str = "       same thread pair        in bursts of 64            two threads                hop p50                hop p99";
/// Messages that are timed at once: far less than a time slice, far more than the ring.
const CHUNK: u64 = 16_384;
/// As between two shards.
const CAPACITY: usize = shardcast::limits::PEER_RING_SLOTS;

/// What goes between shards for each frame: a payload and its description, 56 bytes. The payload is static, so that
/// no reference count is measured.
struct Message {
    payload: Bytes,
    meta: [u64; 3],
}

impl Message {
    #[inline]
    fn new(n: u64) -> Self {
        Self { payload: Bytes::from_static(b"frame"), meta: [n, n, n] }
    }

    /// The number, if the message is whole.
    #[inline]
    fn number(&self) -> u64 {
        assert!(self.payload.len() == 5 && self.meta[0] == self.meta[2], "the message is torn");
        self.meta[1]
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Sizes {
    repetitions: usize,
    pairs: u64,
    sent: u64,
    round_trips: u64,
}

const FULL: Sizes = Sizes { repetitions: 9, pairs: 2_000_000, sent: 10_000_000, round_trips: 300_000 };
/// `cargo test --benches`: whether it runs.
const SMALL: Sizes = Sizes { repetitions: 1, pairs: 1_000, sent: 5_000, round_trips: 100 };

impl Sizes {
    const fn messages(self) -> u64 {
        2 * self.pairs + self.sent + 2 * self.round_trips
    }
}

/// One half of a queue that is compared.
trait Send1: Send {
    fn send(&mut self, message: Message) -> Result<(), Message>;
}

trait Receive1: Send {
    fn receive(&mut self) -> Option<Message>;
}

impl Send1 for Producer<Message> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<(), Message> {
        self.push(message).map_err(|(PushError::Full(back) | PushError::Closed(back))| back)
    }
}

impl Receive1 for Consumer<Message> {
    #[inline]
    fn receive(&mut self) -> Option<Message> {
        self.pop()
    }
}

impl Send1 for rtrb::Producer<Message> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<(), Message> {
        self.push(message).map_err(|rtrb::PushError::Full(back)| back)
    }
}

impl Receive1 for rtrb::Consumer<Message> {
    #[inline]
    fn receive(&mut self) -> Option<Message> {
        self.pop().ok()
    }
}

impl Send1 for crossbeam_channel::Sender<Message> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<(), Message> {
        self.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

impl Receive1 for crossbeam_channel::Receiver<Message> {
    #[inline]
    fn receive(&mut self) -> Option<Message> {
        self.try_recv().ok()
    }
}

struct Bench {
    sizes: Sizes,
    pins: [Option<CoreId>; 2],
    clock: Clock,
}

impl Bench {
    fn measure<S: Send1, R: Receive1>(&self, row: &mut Row, clock_ns: f64, make: impl Fn(usize) -> (S, R)) {
        row.same_thread.push(self.same_thread(make(CAPACITY), 1));
        row.burst.push(self.same_thread(make(CAPACITY), 64));
        row.two_threads.push(self.two_threads(make(CAPACITY)));
        let hop = self.hop(clock_ns, make(CAPACITY), make(CAPACITY));
        row.hop_p50.push(hop.p50);
        row.hop_p99.push(hop.p99);
    }

    /// Push and pop on one thread, so many of each in turn.
    fn same_thread<S: Send1, R: Receive1>(&self, (mut sender, mut receiver): (S, R), burst: usize) -> f64 {
        self.chunks(self.sizes.pairs, |from, to| {
            for first in (from..to).step_by(burst) {
                let last = to.min(first + burst as u64);
                for n in first..last {
                    assert!(sender.send(black_box(Message::new(n))).is_ok(), "there is room");
                }
                for n in first..last {
                    assert_eq!(black_box(receiver.receive()).expect("it was sent").number(), n);
                }
            }
        })
    }

    /// As fast as one thread sends and the other receives.
    fn two_threads<S: Send1, R: Receive1>(&self, (mut sender, mut receiver): (S, R)) -> f64 {
        let count = self.sizes.sent;
        thread::scope(|scope| {
            let sending = scope.spawn(move || {
                pin(self.pins[1]);
                for n in 0..count {
                    send(&mut sender, n);
                }
            });
            let ns = self.chunks(count, |from, to| {
                for n in from..to {
                    assert_eq!(receive(&mut receiver), n);
                }
            });
            sending.join().expect("the sender checks nothing");
            ns
        })
    }

    /// One message there and another back.
    fn hop<S: Send1, R: Receive1>(
        &self,
        clock_ns: f64,
        (mut there, mut at_peer): (S, R),
        (mut back, mut here): (S, R),
    ) -> Hop {
        thread::scope(|scope| {
            let peer = scope.spawn(move || {
                pin(self.pins[1]);
                for _ in 0..=self.sizes.round_trips {
                    let n = receive(&mut at_peer);
                    send(&mut back, n);
                }
            });
            let hop = self.round_trips(clock_ns, |n| {
                send(&mut there, n);
                assert_eq!(receive(&mut here), n);
            });
            peer.join().expect("the peer checks nothing");
            hop
        })
    }

    /// The floor: one word on one line, written by both in turn.
    fn line(&self, clock_ns: f64) -> Hop {
        #[repr(align(128))]
        struct Line(AtomicU64);
        let line = Line(AtomicU64::new(0));
        thread::scope(|scope| {
            let peer = scope.spawn(|| {
                pin(self.pins[1]);
                for n in 0..=self.sizes.round_trips {
                    wait_until(|| (line.0.load(Ordering::Acquire) == 2 * n + 1).then_some(()));
                    line.0.store(2 * n + 2, Ordering::Release);
                }
            });
            let hop = self.round_trips(clock_ns, |n| {
                line.0.store(2 * n + 1, Ordering::Release);
                wait_until(|| (line.0.load(Ordering::Acquire) == 2 * n + 2).then_some(()));
            });
            peer.join().expect("the peer checks nothing");
            hop
        })
    }

    fn round_trips(&self, clock_ns: f64, mut trip: impl FnMut(u64)) -> Hop {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("the bounds are in order");
        trip(0); // The peer is there now.
        let mut last = self.clock.instant();
        for n in 1..=self.sizes.round_trips {
            trip(n);
            let now = self.clock.instant();
            histogram.saturating_record(now.0 - last.0);
            last = now;
        }
        let half = |quantile| (histogram.value_at_quantile(quantile) as f64 - clock_ns) / 2.0;
        Hop { p50: half(0.5), p99: half(0.99) }
    }

    /// What one reading of the clock costs.
    fn clock_ns(&self) -> f64 {
        self.chunks(self.sizes.pairs, |from, to| {
            for _ in from..to {
                black_box(self.clock.instant());
            }
        })
    }

    /// Does so many in chunks, and tells how many nanoseconds one takes in the median chunk.
    fn chunks(&self, count: u64, mut work: impl FnMut(u64, u64)) -> f64 {
        let mut each = Series::default();
        let mut from = 0;
        while from < count {
            let to = count.min(from + CHUNK);
            let start = self.clock.instant();
            work(from, to);
            let ns = self.clock.instant().0 - start.0;
            each.push(ns as f64 / (to - from) as f64);
            from = to;
        }
        each.median()
    }
}

/// Half a round trip.
struct Hop {
    p50: f64,
    p99: f64,
}

#[derive(Default)]
struct Row {
    same_thread: Series,
    burst: Series,
    two_threads: Series,
    hop_p50: Series,
    hop_p99: Series,
}

impl Row {
    fn series(&self) -> [&Series; 5] {
        [&self.same_thread, &self.burst, &self.two_threads, &self.hop_p50, &self.hop_p99]
    }
}

/// One figure of all repetitions.
#[derive(Default)]
struct Series(Vec<f64>);

impl Series {
    fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> f64 {
        self.sorted()[self.0.len() / 2]
    }

    /// How much more theirs is, repetition by repetition: both had the same distance between the cores, mostly.
    fn times(&self, theirs: &Self) -> f64 {
        Self(self.0.iter().zip(&theirs.0).map(|(ours, theirs)| theirs / ours).collect()).median()
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sorted = self.sorted();
        write!(f, "{:.1} [{:.1} - {:.1}]", self.median(), sorted[0], sorted[sorted.len() - 1])
    }
}

#[inline]
fn send(sender: &mut impl Send1, n: u64) {
    // The number goes again, not the message that came back: a message that waits in memory would cost both of
    // them more than the queue.
    wait_until(|| sender.send(Message::new(n)).ok());
}

#[inline]
fn receive(receiver: &mut impl Receive1) -> u64 {
    wait_until(|| receiver.receive()).number()
}

/// Spins; the peer gets the core only if it seems to have none.
#[inline]
fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let mut looks = 0u32;
    loop {
        if let Some(found) = look() {
            return found;
        }
        spin_loop();
        looks += 1;
        if looks.is_multiple_of(1 << 16) {
            thread::yield_now();
        }
    }
}

fn pin(core: Option<CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
}
