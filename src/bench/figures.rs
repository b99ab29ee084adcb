//! What repetitions find, gathered row by row into a [`Scenario`]; medians, and timing in chunks.

use std::fmt::Display;
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::model::{Better, Distribution, Figure, Goal, Interval, QUANTILES, Scenario};
use crate::clock::{Clock, Instant};

/// What a row of results is of: everything of a [`Figure`] but its values.
#[derive(Clone, Debug)]
pub struct Row(Figure);

impl Row {
    /// A cost in this unit: lower is better.
    #[must_use]
    pub fn new(subject: &str, metric: &str, unit: &str) -> Self {
        let (subject, metric, unit) = (subject.to_owned(), metric.to_owned(), unit.to_owned());
        Self(Figure { subject, metric, unit, ..Figure::default() })
    }

    /// A cost in nanoseconds.
    #[must_use]
    pub fn ns(subject: &str, metric: &str) -> Self {
        Self::new(subject, metric, "ns")
    }

    /// One more parameter that it was measured under.
    #[must_use]
    pub fn param(mut self, name: &str, value: impl Display) -> Self {
        self.0.params.push((name.to_owned(), value.to_string()));
        self
    }

    /// The other way is better, or neither.
    #[must_use]
    pub const fn better(mut self, better: Better) -> Self {
        self.0.better = better;
        self
    }

    /// A bound for the median.
    #[must_use]
    pub fn goal(mut self, bound: f64, why: &str) -> Self {
        self.0.goal = Some(Goal { bound, why: why.to_owned() });
        self
    }

    /// The same parameters for something else that is measured, in its own unit.
    #[must_use]
    pub fn named(mut self, metric: &str, unit: &str) -> Self {
        (self.0.metric, self.0.unit) = (metric.to_owned(), unit.to_owned());
        self
    }
}

/// The results of a scenario while it runs.
pub struct Found {
    scenario: Scenario,
    /// All samples of each distribution, in the order of [`Scenario::distributions`].
    samples: Vec<Histogram<u64>>,
    clock: Clock,
    began: Instant,
}

impl Found {
    /// Nothing yet of a scenario that begins now.
    #[must_use]
    pub fn new(name: &str, about: &str, repetitions: usize) -> Self {
        let scenario =
            Scenario { name: name.to_owned(), about: about.to_owned(), repetitions, ..Scenario::default() };
        let clock = Clock::start();
        Self { scenario, samples: Vec::new(), clock, began: clock.instant() }
    }

    /// A part of the exact configuration.
    pub fn config(&mut self, name: &str, value: impl Display) {
        self.scenario.config.insert(name.to_owned(), value.to_string());
    }

    /// Why the numbers may be wrong; each reason is kept once.
    pub fn warn(&mut self, text: String) {
        if !self.scenario.warnings.contains(&text) {
            self.scenario.warnings.push(text);
        }
    }

    /// The value of one repetition.
    pub fn push(&mut self, row: Row, value: f64) {
        let Row(figure) = row;
        let same = |known: &&mut Figure| {
            (&known.metric, &known.subject, &known.params) == (&figure.metric, &figure.subject, &figure.params)
        };
        match self.scenario.figures.iter_mut().find(same) {
            Some(known) => known.values.push(value),
            None => self.scenario.figures.push(Figure { values: vec![value], ..figure }),
        }
    }

    /// The time, for [`Found::samples`].
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// The samples of one repetition, which were taken since `since`; its median.
    pub fn samples(&mut self, row: Row, samples: &Histogram<u64>, since: Instant) -> f64 {
        let Row(Figure { subject, metric, params, .. }) = row;
        let p50 = samples.value_at_quantile(0.5) as f64;
        let same =
            |known: &Distribution| (&known.metric, &known.subject, &known.params) == (&metric, &subject, &params);
        let index = self.scenario.distributions.iter().position(same).unwrap_or_else(|| {
            self.scenario.distributions.push(Distribution { subject, metric, params, ..Distribution::default() });
            self.samples.push(histogram());
            self.samples.len() - 1
        });
        // Both have the same bounds.
        let _ = self.samples[index].add(samples);
        let seconds = |from: Instant, to: Instant| to.since(from).as_secs_f64();
        let distribution = &mut self.scenario.distributions[index];
        distribution.p50s.push(p50);
        distribution.intervals.push(Interval {
            start_s: seconds(self.began, since),
            length_s: seconds(since, self.clock.instant()),
            histogram: encoded(samples),
        });
        p50
    }

    /// All of it.
    #[must_use]
    pub fn finish(mut self) -> Scenario {
        for (distribution, samples) in self.scenario.distributions.iter_mut().zip(&self.samples) {
            distribution.count = samples.len();
            distribution.max = samples.max() as f64;
            distribution.quantiles = quantiles(samples);
            distribution.histogram = encoded(samples);
        }
        self.scenario
    }
}

/// Samples that must lie beyond a quantile for it to be told.
const BEYOND: f64 = 20.0;

fn quantiles(samples: &Histogram<u64>) -> Vec<(f64, f64)> {
    let known = QUANTILES.into_iter().filter(|quantile| samples.len() as f64 * (1.0 - quantile) >= BEYOND - 1e-6);
    known.map(|quantile| (quantile, samples.value_at_quantile(quantile) as f64)).collect()
}

/// As HdrHistogram V2, deflated, in base64.
fn encoded(samples: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = V2DeflateSerializer::new().serialize(samples, &mut bytes);
    STANDARD.encode(bytes)
}

/// An empty histogram of nanoseconds up to a minute.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Each sample less what its measuring cost, and divided by the parts that it consists of.
pub(super) fn adjusted(samples: &Histogram<u64>, less_ns: f64, parts: f64) -> Histogram<u64> {
    let mut adjusted = histogram();
    for value in samples.iter_recorded() {
        let ns = ((value.value_iterated_to() as f64 - less_ns) / parts).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, below a minute in ns"
        )]
        adjusted.saturating_record_n(ns.round() as u64, value.count_since_last_iteration());
    }
    adjusted
}

/// The middle value; not a number if there is none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Times `count` chunks of work and tells the nanoseconds of one item in the median chunk, so that a preemption is
/// an outlier. The work returns how many items it did.
pub(super) fn chunks(clock: Clock, count: usize, mut work: impl FnMut() -> u64) -> f64 {
    let mut each = Vec::with_capacity(count);
    for _ in 0..count {
        let start = clock.instant();
        let items = work();
        let ns = clock.instant().0 - start.0;
        each.push(ns as f64 / items.max(1) as f64);
    }
    median(each)
}

/// What one reading of the clock costs, in ns.
pub(super) fn clock_ns(clock: Clock) -> f64 {
    const READINGS: u64 = 10_000;
    chunks(clock, 21, || {
        for _ in 0..READINGS {
            black_box(clock.instant());
        }
        READINGS
    })
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    #[test]
    fn repetitions_of_one_row_make_one_figure() {
        let mut found = Found::new("x", "measures", 2);
        let row =
            |subscribers: u32| Row::ns("shardcast", "delivery").param("subscribers", subscribers).goal(3.0, "so");
        found.push(row(10), 2.0);
        found.push(row(100), 5.0);
        found.push(row(10), 1.0);

        let scenario = found.finish();

        assert_eq!(scenario.figures.len(), 2);
        assert_eq!(scenario.figures[0].values, [2.0, 1.0]);
        assert_eq!(scenario.figures[1].params, [("subscribers".to_owned(), "100".to_owned())]);
    }

    #[test]
    fn a_quantile_with_fewer_than_twenty_samples_beyond_it_is_not_told() {
        let mut found = Found::new("x", "measures", 1);
        let mut samples = histogram();
        (1..=2_000).for_each(|n| samples.saturating_record(n));
        let since = found.now();
        assert_eq!(found.samples(Row::ns("shardcast", "hop"), &samples, since), 1_000.0);

        let scenario = found.finish();

        let distribution = &scenario.distributions[0];
        assert_eq!(
            distribution.quantiles.iter().map(|(quantile, _)| *quantile).collect::<Vec<_>>(),
            [0.5, 0.9, 0.99]
        );
        assert_eq!((distribution.count, distribution.max), (2_000, 2_000.0));
        let bytes = STANDARD.decode(&distribution.histogram).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!((read.len(), read.value_at_quantile(0.5)), (2_000, 1_000));
        assert_eq!(distribution.intervals.len(), 1);
    }

    #[test]
    fn what_measuring_cost_is_taken_off_before_a_round_trip_is_halved() {
        let mut samples = histogram();
        samples.saturating_record_n(120, 5);
        let adjusted = adjusted(&samples, 20.0, 2.0);
        assert_eq!((adjusted.len(), adjusted.value_at_quantile(0.5)), (5, 50));
    }
}
