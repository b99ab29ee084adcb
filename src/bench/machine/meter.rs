//! What others do to the cores while something is measured: threads that only sleep and tell how late they woke, and
//! the time that the hypervisor took.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::figures::histogram;
use crate::bench::line::pin;
use crate::bench::model::Hiccups;
use crate::clock::Clock;

/// A thread on one core that only sleeps, and measures how late it is woken.
#[derive(Debug)]
pub struct HiccupMeter {
    core: usize,
    before: Option<Ticks>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

/// A sleep of the meter: rare enough to cost the core nothing.
const SLEEP: Duration = Duration::from_millis(5);
/// More than this share of the time taken by the hypervisor makes figures doubtful.
const STEAL_MAX: f64 = 0.01;

impl HiccupMeter {
    /// Begins to measure on this core.
    #[must_use]
    pub fn start(core: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            pin(core);
            let clock = Clock::start();
            let mut late = histogram();
            while !stopped.load(Ordering::Relaxed) {
                let due = clock.instant() + SLEEP;
                thread::sleep(SLEEP);
                let ns = clock.instant().since(due).as_nanos();
                late.saturating_record(u64::try_from(ns).unwrap_or(u64::MAX));
            }
            late
        });
        Self { core, before: Ticks::read(core), stop, thread }
    }

    /// Ends it; what it found.
    #[must_use]
    pub fn stop(self) -> Hiccups {
        self.stop.store(true, Ordering::Relaxed);
        let late = self.thread.join().unwrap_or_else(|_| histogram());
        let ms = |quantile| late.value_at_quantile(quantile) as f64 / 1e6;
        let steal = match (self.before, Ticks::read(self.core)) {
            (Some(before), Some(after)) => after.steal_since(before),
            _ => 0.0,
        };
        Hiccups { core: self.core, p50_ms: ms(0.5), p99_ms: ms(0.99), max_ms: ms(1.0), steal }
    }
}

/// A meter on each core that is used.
#[derive(Debug)]
pub struct Meters(Vec<HiccupMeter>);

impl Meters {
    /// Begins to measure on these cores.
    #[must_use]
    pub fn start(cores: &[usize]) -> Self {
        Self(cores.iter().map(|core| HiccupMeter::start(*core)).collect())
    }

    /// Ends them: what they found, and what to warn of.
    #[must_use]
    pub fn stop(self) -> (Vec<Hiccups>, Vec<String>) {
        let hiccups: Vec<Hiccups> = self.0.into_iter().map(HiccupMeter::stop).collect();
        let warnings = warnings(&hiccups);
        (hiccups, warnings)
    }
}

fn warnings(hiccups: &[Hiccups]) -> Vec<String> {
    let stolen = hiccups.iter().filter(|hiccups| hiccups.steal > STEAL_MAX);
    let warning = |hiccups: &Hiccups| {
        let percent = hiccups.steal * 100.0;
        format!("the hypervisor took {percent:.1} % of the time of core {} for others", hiccups.core)
    };
    stolen.map(warning).collect()
}

/// The time of one core so far, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    fn read(core: usize) -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, core)
    }

    /// `cpu0 user nice system idle iowait irq softirq steal guest guest_nice`; a guest's time is in the user's.
    fn parse(stat: &str, core: usize) -> Option<Self> {
        let name = format!("cpu{core}");
        let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        Some(Self { all: ticks.iter().take(8).sum(), stolen: *ticks.get(7)? })
    }

    fn steal_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { self.stolen.saturating_sub(before.stolen) as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 10 70 0 0 0 10 5 0\ncpu10 1 2 3 4 5 6 7 8 0 0\nintr 1\n";

    #[test]
    fn the_share_that_was_stolen_is_of_the_time_between() {
        let before = Ticks::parse(STAT, 0).unwrap();
        assert_eq!(before, Ticks { all: 100, stolen: 10 });
        assert_eq!(Ticks { all: 300, stolen: 30 }.steal_since(before), 0.1);
        assert_eq!(before.steal_since(before), 0.0);
        assert_eq!(Ticks::parse(STAT, 10).map(|ticks| ticks.stolen), Some(8));
        assert_eq!(Ticks::parse(STAT, 1), None);
    }

    #[test]
    fn a_meter_measures_until_it_is_stopped() {
        let meter = HiccupMeter::start(0);
        thread::sleep(SLEEP * 4);
        let hiccups = meter.stop();
        assert_eq!(hiccups.core, 0);
        assert!(hiccups.max_ms > 0.0 && hiccups.max_ms >= hiccups.p50_ms, "{hiccups:?}");
    }

    #[test]
    fn steal_above_a_hundredth_is_warned_of() {
        let hiccups = [(0, 0.009), (1, 0.034)].map(|(core, steal)| Hiccups { core, steal, ..Hiccups::default() });
        assert_eq!(warnings(&hiccups), ["the hypervisor took 3.4 % of the time of core 1 for others"]);
    }
}
