//! From one shard to another: how long a frame is under way, beside the bare cache line, the bare ring and the bare
//! wake-up.
//!
//! * shard → shard: a source on shard 0 stamps each frame as it hands it over, a sink on shard 1 reads the clock as it
//!   gets it. That is everything between: the home's log, the ring, the replica's log, the fan-out. The same the other
//!   way round shows whether the two cores' clocks agree; and on one shard, what is not the crossing.
//! * host → shard → host and host → shard 0 → shard 1 → host: a thread sends and receives, one way, frame by frame.
//!   With two cores there is no core left for the host: spinning, it then goes through one shard only, which has the
//!   other core; parked, it shares a core with shard 0, and sleeps as the shards do.
//!
//! The variants take turns within each repetition; the line is measured at its beginning and end. Every frame's
//! number is checked.

mod parts;
mod wakes;

use std::time::Duration;

use hdrhistogram::Histogram;

use super::figures::{Found, Row, adjusted, clock_ns};
use super::line::{LineHop, on_core};
use super::machine::LineClass;
use super::model::Scenario;
use super::ring::MOVED;
use super::{BenchError, Context, Size, ring, setting};
use crate::clock::Clock;
use crate::shard::Idle;
use parts::Way;

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Frames of each way with shards that spin.
    pub spinning: u64,
    /// From one of them to the next.
    pub spinning_period: Duration,
    /// Frames of each way with shards that sleep.
    pub parked: u64,
    /// From one of them to the next.
    pub parked_period: Duration,
    /// Bursts of eight streams, for the count of wakes.
    pub bursts: u64,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        Self {
            repetitions: size.pick([1, 3, 7, 15]),
            spinning: size.pick([200, 5_000, 20_000, 100_000]),
            spinning_period: Duration::from_micros(20),
            parked: size.pick([5, 100, 300, 1_000]),
            parked_period: Duration::from_millis(2),
            bursts: size.pick([3, 100, 500, 1_000]),
        }
    }
}

/// Runs it.
///
/// # Errors
/// A router that does not start; frames that were lost or out of order in most repetitions.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    if context.cores.len() < 2 {
        return Err(BenchError::Cores { wanted: 2, there: context.cores.len() });
    }
    let mut found = Found::new(
        "hop",
        "How long a frame is under way from thread to thread, shards spinning and asleep, beside the bare floors",
        settings.repetitions,
    );
    let cores = [context.core(0), context.core(1)];
    // The host's thread has a core of its own if there are three.
    let host = context.cores.get(2).copied();
    found.config("shards on cores", format!("{}, {}", cores[0], cores[1]));
    found.config("host on core", host.map_or_else(|| "none of its own".to_owned(), |core| core.to_string()));
    found.config("spinning", format!("{} frames, one each {:?}", settings.spinning, settings.spinning_period));
    found.config("parked", format!("{} frames, one each {:?}", settings.parked, settings.parked_period));
    if let Some(warning) = context.too_few_cores(3, "the host's thread has none of its own") {
        found.warn(warning);
    }
    let mut bench =
        Bench { settings, cores, host, clock: Clock::start(), clock_ns: 0.0, missing: 0, valid: 0, all: 0 };
    bench.clock_ns = on_core(cores[0], || clock_ns(bench.clock));
    for repetition in 0..settings.repetitions {
        context.progress.step(2 * repetition, 2 * settings.repetitions, "shards that spin");
        bench.spinning(&mut found)?;
        context.progress.step(2 * repetition + 1, 2 * settings.repetitions, "shards that sleep");
        bench.parked(&mut found)?;
    }
    if bench.missing > 0 {
        let (missing, bad) = (bench.missing, bench.all - bench.valid);
        found.warn(format!(
            "{missing} frames did not come: a shard had no core for as long as a ring lasts; {bad} of {} runs are left out",
            bench.all
        ));
        if bench.valid * 2 < bench.all {
            return Err(BenchError::Disturbed { what: "the ways", valid: bench.valid, all: bench.all });
        }
    }
    Ok(found.finish())
}

const OURS: &str = "shardcast";
const FLOOR: &str = "floor";
/// Frames before the histogram begins.
const WARM_UP: u64 = 100;

struct Bench<'a> {
    settings: &'a Settings,
    cores: [usize; 2],
    host: Option<usize>,
    clock: Clock,
    clock_ns: f64,
    missing: u64,
    /// Runs in which every frame came.
    valid: usize,
    all: usize,
}

impl Bench<'_> {
    fn spinning(&mut self, found: &mut Found) -> Result<(), BenchError> {
        let line = LineHop { cores: self.cores, round_trips: self.settings.spinning };
        let row = |subject, way: &str| Row::ns(subject, "one way, spinning").param("way", way);
        let since = found.now();
        let before = found.samples(row(FLOOR, "bare line"), &line.measure(self.clock), since);
        let since = found.now();
        let ring = found.samples(row(FLOOR, "bare ring"), &ring::hop(self.cores, self.settings.spinning)?, since);
        let mut crossing = Vec::new();
        for way in [Way::Shards(0, 1), Way::Shards(1, 0)] {
            crossing.extend(self.spin(way, found)?);
        }
        let since = found.now();
        let after = found.samples(row(FLOOR, "bare line"), &line.measure(self.clock), since);
        let line = f64::midpoint(before, after);
        found.push(row(FLOOR, "bare line"), line);
        found.push(row(FLOOR, "bare ring"), ring);
        // Of two distances there is no quotient.
        if LineClass::of(before) != LineClass::of(after) {
            found.warn(MOVED.to_owned());
        } else if let [there, back] = crossing[..] {
            // Both directions: what the clocks of the cores differ by cancels out.
            let hop = f64::midpoint(there, back);
            let quotient = |metric: &str| Row::new(OURS, metric, "×");
            let why = "at most twice the bare line, and the ring";
            found.push(quotient("shard to shard ÷ (2 × line + ring)").goal(1.0, why), hop / (2.0 * line + ring));
            found.push(quotient("shard to shard ÷ line").goal(3.0, "at most three times the bare line"), hop / line);
        }
        self.spin(Way::Shards(0, 0), found)?;
        self.spin(Way::Host(1), found)?;
        if self.host.is_some() {
            self.spin(Way::Host(2), found)?;
        }
        Ok(())
    }

    /// The median of one way with shards that spin, unless frames are missing.
    fn spin(&mut self, way: Way, found: &mut Found) -> Result<Option<f64>, BenchError> {
        let since = found.now();
        let Some(samples) = self.way(Idle::Spin, way)? else { return Ok(None) };
        let row = Row::ns(OURS, "one way, spinning").param("way", way.name());
        let p50 = found.samples(row.clone(), &samples, since);
        found.push(row, p50);
        Ok(Some(p50))
    }

    fn parked(&mut self, found: &mut Found) -> Result<(), BenchError> {
        let row = |subject, way: &str| Row::ns(subject, "one way, asleep").param("way", way);
        let since = found.now();
        let unpark = adjusted(&self.unpark(), self.clock_ns, 1.0);
        let unpark = found.samples(row(FLOOR, "bare unpark"), &unpark, since);
        found.push(row(FLOOR, "bare unpark"), unpark);
        let since = found.now();
        let poll = adjusted(&self.poll()?, self.clock_ns, 1.0);
        let poll = found.samples(row(FLOOR, "bare wake of a poll"), &poll, since);
        found.push(row(FLOOR, "bare wake of a poll"), poll);
        for way in [Way::Shards(0, 1), Way::Host(2)] {
            let since = found.now();
            let Some(samples) = self.way(Idle::Park, way)? else { continue };
            let mut row = row(OURS, way.name());
            let p50 = found.samples(row.clone(), &samples, since);
            if way == Way::Shards(0, 1) {
                row = row.goal(60_000.0, "60 µs, the waking of a sleeping core included");
                found.push(Row::new(OURS, "shard to shard, asleep ÷ bare wake of a poll", "×"), p50 / poll);
            }
            found.push(row, p50);
        }
        let (wakes, turns) = self.burst()?;
        found.push(
            Row::new(OURS, "wakes per turn of 8 streams in bursts", "")
                .goal(1.0, "one target is woken once per turn"),
            wakes / turns,
        );
        Ok(())
    }

    /// The samples of one run, unless frames are missing in it.
    fn way(&mut self, idle: Idle, way: Way) -> Result<Option<Histogram<u64>>, BenchError> {
        let run = match way {
            Way::Shards(from, to) => self.shard_to_shard(idle, from, to)?,
            Way::Host(shards) => self.host_to_host(idle, shards)?,
        };
        self.all += 1;
        if run.missing > 0 {
            self.missing += run.missing;
            return Ok(None);
        }
        self.valid += 1;
        Ok(Some(adjusted(&run.samples, self.clock_ns, 1.0)))
    }

    const fn plan(&self, idle: Idle) -> (u64, Duration) {
        match idle {
            Idle::Park => (self.settings.parked, self.settings.parked_period),
            _ => (self.settings.spinning, self.settings.spinning_period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn both_ways_of_waiting_are_measured_beside_their_floors() {
        let scenario = on_all_cores(|context| run(&Settings::of(Size::Test), context)).unwrap();

        finite(&scenario);
        let way = |metric: &str, subject: &str, way: &str| {
            let wanted = [("way".to_owned(), way.to_owned())];
            let mut found = scenario.distributions.iter();
            found.find(|found| found.metric == metric && found.subject == subject && found.params == wanted)
        };
        assert!(way("one way, spinning", FLOOR, "bare line").is_some());
        assert!(way("one way, asleep", FLOOR, "bare wake of a poll").is_some());
        // One repetition may be disturbed on a busy machine; then it says so.
        let crossing = way("one way, spinning", OURS, "shard 0 → shard 1");
        assert!(crossing.is_some_and(|found| found.count == 200) || !scenario.warnings.is_empty());
    }
}
