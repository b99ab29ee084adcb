//! Histograms of nanoseconds: recorded whole and interval by interval, and on their way between processes and into
//! the report.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

use super::timing::SECOND;

/// The longest time that is told apart.
const MAX_NS: u64 = 60 * SECOND;
/// Intervals that are kept at most: a long window has longer ones.
const INTERVALS_MAX: u64 = 120;

/// An empty histogram from 1 ns to a minute, three digits.
pub(crate) fn histogram<C: Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, MAX_NS, 3).expect("the bounds are in order")
}

/// Samples of one window.
#[derive(Debug)]
pub(crate) struct Recorder {
    window: Range<u64>,
    every: u64,
    total: Histogram<u64>,
    intervals: Vec<Histogram<u32>>,
}

impl Recorder {
    /// Of samples that belong into `window`, a span of the shared clock.
    pub(crate) fn new(window: Range<u64>) -> Self {
        let length = window.end - window.start;
        let every = SECOND * length.div_ceil(SECOND * INTERVALS_MAX).max(1);
        Self { window, every, total: histogram(), intervals: Vec::new() }
    }

    /// Takes in a sample that belongs to the time `at`, unless that is outside of the window.
    pub(crate) fn record(&mut self, at: u64, ns: u64) {
        if !self.window.contains(&at) {
            return;
        }
        self.total.saturating_record(ns);
        let interval = usize::try_from((at - self.window.start) / self.every).unwrap_or(0);
        while self.intervals.len() <= interval {
            self.intervals.push(histogram());
        }
        self.intervals[interval].saturating_record(ns);
    }

    /// Everything, as text.
    pub(crate) fn encode(&self) -> Samples {
        let seconds = |ns: u64| ns as f64 / SECOND as f64;
        let length = self.window.end - self.window.start;
        let interval = |(i, histogram): (u64, &Histogram<u32>)| Part {
            start_s: seconds(i * self.every),
            length_s: seconds(self.every.min(length.saturating_sub(i * self.every))),
            histogram: encode(histogram),
        };
        Samples { total: encode(&self.total), parts: (0..).zip(&self.intervals).map(interval).collect() }
    }
}

/// A [`Recorder`]'s samples as text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Samples {
    /// All of them.
    pub(crate) total: String,
    /// Interval by interval.
    pub(crate) parts: Vec<Part>,
}

/// One interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Since the start of the window.
    pub(crate) start_s: f64,
    pub(crate) length_s: f64,
    pub(crate) histogram: String,
}

impl Samples {
    /// Samples without a place in time.
    pub(crate) fn whole(total: &Histogram<u64>) -> Self {
        Self { total: encode(total), parts: Vec::new() }
    }

    /// Takes in another process's samples of the same window.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total = added(&self.total, &other.total);
        for (i, part) in other.parts.iter().enumerate() {
            match self.parts.get_mut(i) {
                Some(own) => own.histogram = added(&own.histogram, &part.histogram),
                None => self.parts.push(part.clone()),
            }
        }
    }

    /// All of them as a histogram again.
    pub(crate) fn decode(&self) -> Histogram<u64> {
        decode(&self.total)
    }
}

fn added(a: &str, b: &str) -> String {
    let mut sum = decode(a);
    // Both have the same bounds.
    let _infallible = sum.add(decode(b));
    encode(&sum)
}

/// HdrHistogram's V2 form, deflated, in base64.
pub(crate) fn encode<C: Counter>(histogram: &Histogram<C>) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => BASE64_STANDARD.encode(bytes),
        // Writing to memory fails for no histogram of these bounds.
        Err(_) => String::new(),
    }
}

/// Reads it back; an empty histogram if it is none.
pub(crate) fn decode(text: &str) -> Histogram<u64> {
    let read = |text: &str| Deserializer::new().deserialize(&mut BASE64_STANDARD.decode(text).ok()?.as_slice()).ok();
    read(text).unwrap_or_else(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_go_into_the_interval_that_they_belong_to_and_survive_their_text() {
        let mut recorder = Recorder::new(100..100 + 2 * SECOND + SECOND / 2);
        for (at, ns) in [(99, 1), (100, 10), (100 + SECOND, 20), (100 + SECOND, 30), (100 + 3 * SECOND, 1)] {
            recorder.record(at, ns);
        }
        recorder.record(100 + 2 * SECOND, 40);
        let mut samples = recorder.encode();
        assert_eq!(samples.decode().len(), 4, "two were outside of the window");
        let each: Vec<_> = samples.parts.iter().map(|part| (part.length_s, decode(&part.histogram).len())).collect();
        assert_eq!(each, [(1.0, 1), (1.0, 2), (0.5, 1)]);

        samples.add(&samples.clone());
        assert_eq!((samples.decode().len(), samples.decode().max()), (8, 40));
        assert_eq!(decode(&samples.parts[1].histogram).len(), 4);
    }

    #[test]
    fn a_long_window_has_no_more_intervals() {
        let mut recorder = Recorder::new(0..3_600 * SECOND);
        recorder.record(3_599 * SECOND, 5);
        assert_eq!((recorder.intervals.len(), recorder.every), (120, 30 * SECOND));
    }
}
