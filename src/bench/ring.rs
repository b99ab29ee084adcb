//! The ring beside rtrb and crossbeam-channel: same messages, same two cores, one run; and the bare cache line.
//!
//! Two pinned threads that spin. The variants take turns within each repetition, since on a virtual machine the two
//! cores do not stay at a fixed distance: the bare line that goes to and fro beside them tells which one it was. A
//! repetition's throughput is the median of its chunks of 16,384 messages, so that a preemption is an outlier. A round
//! trip is timed by one reading of the clock, whose own cost is taken off; a hop is half of it. Every message is
//! checked for its number and for being whole.

mod queue;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hdrhistogram::Histogram;

use super::figures::{Found, Row, adjusted, chunks, clock_ns, histogram};
use super::line::{LineHop, on_core, pin, wait_until};
use super::machine::LineClass;
use super::model::Scenario;
use super::{BenchError, Context, Size, all_of, setting};
use crate::clock::Clock;
use crate::limits::PEER_RING_SLOTS;
use crate::ring::ring;
use queue::{Message, Receive1, Send1};

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Slots of each queue.
    pub slots: usize,
    /// Messages pushed and popped in turn on these many at once, on one thread.
    pub bursts: Vec<usize>,
    /// Messages on one thread.
    pub pairs: u64,
    /// Messages from one core to the other as fast as it goes.
    pub sent: u64,
    /// Round trips, one message at a time.
    pub round_trips: u64,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 3, 9, 15]),
            slots: PEER_RING_SLOTS,
            bursts: vec![1, 16, 64],
            pairs: size.pick([1_000, 500_000, 2_000_000, 4_000_000]),
            sent: size.pick([5_000, 2_000_000, 10_000_000, 20_000_000]),
            round_trips: size.pick([100, 50_000, 300_000, 1_000_000]),
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense; a message that was lost, repeated or torn.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    setting("slots", settings.slots, (2..=1 << 20).contains(&settings.slots), "2 to 1,048,576")?;
    for burst in &settings.bursts {
        setting(
            "burst",
            *burst,
            (1..=settings.slots).contains(burst),
            "at least 1, and no more than there are slots",
        )?;
    }
    let mut found = Found::new(
        "ring",
        "The ring between two shards, on one thread and between two cores, beside other queues and the bare cache line",
        settings.repetitions,
    );
    let cores = [context.core(0), context.core(1)];
    found.config("cores", format!("{}, {}", cores[0], cores[1]));
    found.config("slots", settings.slots);
    found.config("message bytes", size_of::<Message>());
    found.config("messages on one thread", settings.pairs);
    found.config("messages between two", settings.sent);
    found.config("round trips", settings.round_trips);
    if let Some(warning) = context.too_few_cores(2, ONE_CORE) {
        found.warn(warning);
    }
    let mut bench =
        Bench { settings, cores, clock: Clock::start(), clock_ns: 0.0, alone: false, wrong: AtomicU64::new(0) };
    bench.clock_ns = on_core(cores[0], || clock_ns(bench.clock));
    bench.alone = context.cores.len() < 2;
    for repetition in 0..settings.repetitions {
        context.progress.step(repetition, settings.repetitions, "queues and the bare line");
        on_core(cores[0], || bench.repetition(&mut found));
    }
    all_of("messages that were torn or out of order", bench.wrong.load(Ordering::Relaxed), 0)?;
    Ok(found.finish())
}

/// One way through the ring between these two cores, of so many round trips: a floor for other scenarios.
pub(super) fn hop(cores: [usize; 2], round_trips: u64) -> Result<Histogram<u64>, BenchError> {
    let settings = Settings { round_trips, ..Settings::of(Size::Test) };
    let mut bench = Bench {
        settings: &settings,
        cores,
        clock: Clock::start(),
        clock_ns: 0.0,
        alone: false,
        wrong: AtomicU64::new(0),
    };
    let hop = on_core(cores[0], || {
        bench.clock_ns = clock_ns(bench.clock);
        bench.hop(ring(settings.slots), ring(settings.slots))
    });
    all_of("messages that were torn or out of order", bench.wrong.load(Ordering::Relaxed), 0)?;
    Ok(hop)
}

const OURS: &str = "shardcast";
const RTRB: &str = "rtrb";
const HOP: &str = "hop between two cores";
/// Two threads that wait for each other measure on one core how long the system lets each of them wait.
const ONE_CORE: &str = "between two threads nothing is measured";
pub(super) const MOVED: &str = "the cores moved apart or together within a repetition: it has no quotients, and its figures of two threads are of \
     several distances";
/// Messages that are timed at once: far less than a time slice, far more than the ring.
const CHUNK: u64 = 16_384;

struct Bench<'a> {
    settings: &'a Settings,
    cores: [usize; 2],
    clock: Clock,
    clock_ns: f64,
    /// There is no second core.
    alone: bool,
    /// Messages that were not the one that had to come.
    wrong: AtomicU64,
}

/// What one queue needs between two cores, in ns.
struct Between {
    throughput: f64,
    hop_p50: f64,
}

impl Bench<'_> {
    fn repetition(&self, found: &mut Found) {
        let before = self.line(found);
        let ours = self.measure(found, OURS, ring::<Message>);
        let rtrb = self.measure(found, RTRB, rtrb::RingBuffer::<Message>::new);
        self.measure(found, "crossbeam-channel", crossbeam_channel::bounded::<Message>);
        let after = self.line(found);
        let (Some(before), Some(after), Some(ours), Some(rtrb)) = (before, after, ours, rtrb) else { return };
        let line = f64::midpoint(before, after);
        found.push(Row::ns("floor", HOP), line);

        // Of two distances there is no quotient.
        if LineClass::of(before) != LineClass::of(after) {
            found.warn(MOVED.to_owned());
            return;
        }
        let quotient = |metric: &str| Row::new(OURS, metric, "×");
        let lead = "rtrb is the choice if ours does not hold its lead";
        found.push(quotient("hop ÷ bare line"), ours.hop_p50 / line);
        found.push(quotient("hop ÷ rtrb's").goal(1.0, lead), ours.hop_p50 / rtrb.hop_p50);
        found.push(quotient("time per message ÷ rtrb's").goal(1.0, lead), ours.throughput / rtrb.throughput);
    }

    /// One way of the bare cache line.
    fn line(&self, found: &mut Found) -> Option<f64> {
        if self.alone {
            return None;
        }
        let since = found.now();
        let line = LineHop { cores: self.cores, round_trips: self.settings.round_trips }.measure(self.clock);
        Some(found.samples(Row::ns("floor", HOP), &line, since))
    }

    fn measure<S: Send1, R: Receive1>(
        &self,
        found: &mut Found,
        subject: &str,
        make: impl Fn(usize) -> (S, R),
    ) -> Option<Between> {
        let slots = self.settings.slots;
        for burst in &self.settings.bursts {
            let ns = self.same_thread(make(slots), *burst as u64);
            found.push(Row::ns(subject, "push and pop on one thread").param("burst", burst), ns);
        }
        if self.alone {
            return None;
        }
        let throughput = self.two_threads(make(slots));
        found.push(Row::ns(subject, "message between two cores at full speed"), throughput);
        let since = found.now();
        let hop = self.hop(make(slots), make(slots));
        let row = || Row::ns(subject, HOP);
        let hop_p50 = found.samples(row(), &hop, since);
        found.push(row(), hop_p50);
        Some(Between { throughput, hop_p50 })
    }

    /// Push and pop on one thread, so many of each in turn.
    fn same_thread<S: Send1, R: Receive1>(&self, (mut sender, mut receiver): (S, R), burst: u64) -> f64 {
        self.chunks(self.settings.pairs, |from, to| {
            let mut wrong = 0;
            for first in (from..to).step_by(usize::try_from(burst).unwrap_or(1)) {
                let last = to.min(first + burst);
                for n in first..last {
                    wrong += u64::from(sender.send(black_box(Message::new(n))).is_err());
                }
                for n in first..last {
                    wrong += u64::from(!black_box(receiver.receive()).is_some_and(|message| message.is(n)));
                }
            }
            wrong
        })
    }

    /// As fast as one thread sends and the other receives.
    fn two_threads<S: Send1, R: Receive1>(&self, (mut sender, mut receiver): (S, R)) -> f64 {
        let count = self.settings.sent;
        thread::scope(|scope| {
            scope.spawn(move || {
                pin(self.cores[1]);
                for n in 0..count {
                    send(&mut sender, n);
                }
            });
            self.chunks(count, |from, to| (from..to).map(|n| u64::from(!receive(&mut receiver).is(n))).sum())
        })
    }

    /// One message there and another back.
    fn hop<S: Send1, R: Receive1>(
        &self,
        (mut there, mut at_peer): (S, R),
        (mut back, mut here): (S, R),
    ) -> Histogram<u64> {
        let trips = self.settings.round_trips;
        let mut samples = histogram();
        let wrong = thread::scope(|scope| {
            scope.spawn(move || {
                pin(self.cores[1]);
                for _ in 0..=trips {
                    let n = receive(&mut at_peer).meta[1];
                    send(&mut back, n);
                }
            });
            let mut wrong = 0;
            let mut last = self.clock.instant();
            for n in 0..=trips {
                send(&mut there, n);
                wrong += u64::from(!receive(&mut here).is(n));
                let now = self.clock.instant();
                // The first waits for the other thread to be there.
                if n > 0 {
                    samples.saturating_record(now.0 - last.0);
                }
                last = now;
            }
            wrong
        });
        self.wrong.fetch_add(wrong, Ordering::Relaxed);
        adjusted(&samples, self.clock_ns, 2.0)
    }

    /// Does so many in chunks, counts those that were wrong, and tells how many nanoseconds one takes in the median
    /// chunk.
    fn chunks(&self, count: u64, mut work: impl FnMut(u64, u64) -> u64) -> f64 {
        let mut from = 0;
        let parts = usize::try_from(count.div_ceil(CHUNK)).unwrap_or(usize::MAX);
        chunks(self.clock, parts, || {
            let to = count.min(from + CHUNK);
            let wrong = work(from, to);
            if wrong > 0 {
                self.wrong.fetch_add(wrong, Ordering::Relaxed);
            }
            let done = to - from;
            from = to;
            done
        })
    }
}

#[inline]
fn send(sender: &mut impl Send1, n: u64) {
    // The number goes again, not the message that came back: a message that waits in memory would cost both of
    // them more than the queue.
    wait_until(|| sender.send(Message::new(n)).ok());
}

#[inline]
fn receive(receiver: &mut impl Receive1) -> Message {
    wait_until(|| receiver.receive())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn every_queue_and_the_bare_line_are_measured() {
        let scenario = on_all_cores(|context| run(&Settings::of(Size::Test), context)).unwrap();

        finite(&scenario);
        let hop: Vec<&str> = scenario.distributions.iter().map(|found| &*found.subject).collect();
        assert_eq!(hop, ["floor", OURS, RTRB, "crossbeam-channel"]);
        // The line before and after.
        assert_eq!(scenario.distributions.iter().map(|found| found.count).collect::<Vec<_>>(), [200, 100, 100, 100]);
        let bursts = scenario.figures.iter().filter(|figure| figure.subject == OURS && figure.params.len() == 1);
        assert_eq!(
            bursts.flat_map(|figure| &figure.params).map(|(_, burst)| &**burst).collect::<Vec<_>>(),
            ["1", "16", "64"]
        );
    }

    /// Takes every message and keeps none.
    struct Nowhere;

    impl Send1 for Nowhere {
        fn send(&mut self, _: Message) -> Result<(), Message> {
            Ok(())
        }
    }

    /// Gives the first message again and again.
    struct Repeats;

    impl Receive1 for Repeats {
        fn receive(&mut self) -> Option<Message> {
            Some(Message::new(0))
        }
    }

    #[test]
    fn a_torn_or_repeated_message_is_found() {
        let settings = Settings::of(Size::Test);
        let bench = Bench {
            settings: &settings,
            cores: [0, 0],
            clock: Clock::start(),
            clock_ns: 0.0,
            alone: false,
            wrong: AtomicU64::new(0),
        };
        bench.same_thread((Nowhere, Repeats), 1);
        // The first one has number 0, and every other one repeats it.
        assert_eq!(bench.wrong.load(Ordering::Relaxed), settings.pairs - 1);

        let mut torn = Message::new(4);
        torn.meta[2] = 5;
        assert!(!torn.is(4) && Message::new(4).is(4));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for wrong in [
            Settings { repetitions: 0, ..Settings::of(Size::Test) },
            Settings { slots: 1, ..Settings::of(Size::Test) },
            Settings { bursts: vec![4096], ..Settings::of(Size::Test) },
        ] {
            let refused = on_all_cores(|context| run(&wrong, context));
            assert!(matches!(refused, Err(BenchError::Setting { .. })), "{refused:?}");
        }
    }
}
