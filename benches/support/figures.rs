//! Medians with their range, percentiles, and timing in chunks.

use std::fmt;
use std::hint::black_box;

use hdrhistogram::Histogram;
use shardcast::clock::Clock;

/// One figure of all repetitions: its median, the least and the greatest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(least), Some(greatest)) = (self.0.first(), self.0.last()) else { return f.pad("-") };
        f.pad(&format!("{:.2} [{least:.2} - {greatest:.2}]", self.median()))
    }
}

/// Times `count` chunks of work and tells the nanoseconds of one item in the median chunk, so that a preemption is
/// an outlier. The work returns how many items it did.
pub(crate) fn chunks(clock: Clock, count: usize, mut work: impl FnMut() -> u64) -> f64 {
    let mut each = Series::default();
    for _ in 0..count {
        let start = clock.instant();
        let items = work();
        let ns = clock.instant().0 - start.0;
        each.push(ns as f64 / items.max(1) as f64);
    }
    each.median()
}

/// What one reading of the clock costs.
pub(crate) fn clock_ns(clock: Clock) -> f64 {
    const READINGS: u64 = 10_000;
    chunks(clock, 21, || {
        for _ in 0..READINGS {
            black_box(clock.instant());
        }
        READINGS
    })
}

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// p50, p90, p99 and the maximum over repetitions: each the median of the repetitions with its range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Percentiles {
    pub(crate) p50: Series,
    p90: Series,
    p99: Series,
    max: Series,
}

impl Percentiles {
    /// Adds a repetition; `less` nanoseconds are taken off each sample, which stands for `parts` of what is told.
    pub(crate) fn push(&mut self, histogram: &Histogram<u64>, less: f64, parts: f64) {
        let at = |quantile| (histogram.value_at_quantile(quantile) as f64 - less) / parts;
        self.p50.push(at(0.5));
        self.p90.push(at(0.9));
        self.p99.push(at(0.99));
        self.max.push(at(1.0));
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |series: &Series| format!("{:.0}", series.median());
        let (least, greatest) = (self.p50.0.first(), self.p50.0.last());
        let range = format!("[{:.0} - {:.0}]", least.unwrap_or(&f64::NAN), greatest.unwrap_or(&f64::NAN));
        write!(
            f,
            "p50 {:>7} {range:<17} p90 {:>7}  p99 {:>8}  max {:>9}",
            show(&self.p50),
            show(&self.p90),
            show(&self.p99),
            show(&self.max)
        )
    }
}
