//! From values to places on an axis, and the ticks that a person would choose.

use super::super::format::{Scale, short};

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// From zero in even steps.
    Linear,
    /// In powers of ten; only values above zero have a place.
    Log,
    /// In 1 / (1 - quantile), so that each further nine takes as much room as the one before.
    Quantile,
}

/// An axis before it knows its values.
#[derive(Clone, Debug)]
pub(in super::super) struct Axis {
    pub(in super::super) label: String,
    pub(in super::super) kind: Kind,
    pub(in super::super) unit: String,
    /// Where ticks should be; elsewhere than at these there are none. Empty: where it suits.
    pub(in super::super) at: Vec<f64>,
}

/// An axis that spans its values.
pub(super) struct Fitted {
    kind: Kind,
    low: f64,
    high: f64,
    /// What stands behind the label: the unit, where the ticks do not say it.
    unit: String,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Spans those values that have a place; none if there are none.
    pub(super) fn fit(&self, values: impl Iterator<Item = f64>) -> Option<Fitted> {
        let kind = self.kind;
        let mut ends: Option<(f64, f64)> = None;
        for value in values.filter(|value| has_place(kind, *value)) {
            ends = Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
        }
        let (least, greatest) = ends?;
        let fitted = match kind {
            Kind::Quantile => quantiles(greatest),
            Kind::Linear => self.linear(least, greatest),
            Kind::Log => self.log(least, greatest),
        };
        Some(fitted)
    }

    fn linear(&self, least: f64, greatest: f64) -> Fitted {
        let span = greatest.max(0.0) - least.min(0.0);
        let step = if span > 0.0 { nice(span / 4.6) } else { 1.0 };
        let (low, high) = if self.at.is_empty() {
            let high = (greatest / step).ceil() * step;
            ((least.min(0.0) / step).floor() * step, if high > 0.0 { high } else { step })
        } else {
            (least.min(0.0), if greatest > 0.0 { greatest } else { step })
        };
        let scale = Scale::of(&self.unit, high);
        let label = |value: f64| short(value / scale.divisor);
        let ticks =
            if self.at.is_empty() { (0..12).map(|n| low + f64::from(n) * step).collect() } else { self.at.clone() };
        let ticks = ticks.into_iter().filter(|tick| *tick <= high + step / 1e6).map(|tick| (tick, label(tick)));
        Fitted { kind: Kind::Linear, low, high, unit: scale.unit.clone(), ticks: ticks.collect() }
    }

    fn log(&self, least: f64, greatest: f64) -> Fitted {
        let (mut low, mut high) =
            if self.at.is_empty() { (round_down(least), round_up(greatest)) } else { (least, greatest) };
        if high / low < 1.5 {
            (low, high) = (low / 2.0, high * 2.0);
        }
        let decades = (high / low).log10();
        let candidates = if self.at.is_empty() { log_ticks(low, high, decades) } else { self.at.clone() };
        let scaled = Scale::of(&self.unit, 1e3).unit != self.unit || Scale::of(&self.unit, 1e-3).unit != self.unit;
        let label = |value: f64| {
            let scale = Scale::of(&self.unit, value);
            if scaled { format!("{} {}", short(value / scale.divisor), scale.unit) } else { short(value) }
        };
        let inside = candidates.into_iter().filter(|tick| (low / 1.000_001..=high * 1.000_001).contains(tick));
        let ticks = inside.map(|tick| (tick, label(tick))).collect();
        let unit = if scaled { String::new() } else { self.unit.clone() };
        Fitted { kind: Kind::Log, low, high, unit, ticks }
    }
}

impl Fitted {
    /// From 0 at the low end to 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.kind {
            // Halves, since the ends may be as far apart as numbers go.
            Kind::Linear => (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0),
            Kind::Log | Kind::Quantile => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Whether a value has a place here.
    pub(super) fn takes(&self, value: f64) -> bool {
        has_place(self.kind, value)
    }

    /// `latency, ms`.
    pub(super) fn named(&self, label: &str) -> String {
        match (label, &*self.unit) {
            (label, "") => label.to_owned(),
            ("", unit) => unit.to_owned(),
            (label, unit) => format!("{label}, {unit}"),
        }
    }
}

fn has_place(kind: Kind, value: f64) -> bool {
    match kind {
        Kind::Linear => value.is_finite(),
        // What is smaller or greater than this was not measured, and its powers of ten would not fit.
        Kind::Log => (1e-30..1e30).contains(&value),
        Kind::Quantile => (1.0..1e12).contains(&value),
    }
}

fn quantiles(greatest: f64) -> Fitted {
    const NAMED: [(f64, &str); 6] =
        [(2.0, "p50"), (10.0, "p90"), (100.0, "p99"), (1e3, "p99.9"), (1e4, "p99.99"), (1e5, "p99.999")];
    let high = greatest.clamp(100.0, 1e5);
    let ticks = NAMED.iter().filter(|(at, _)| *at <= high * 1.000_001).map(|(at, name)| (*at, (*name).to_owned()));
    Fitted { kind: Kind::Quantile, low: 1.0, high, unit: String::new(), ticks: ticks.collect() }
}

/// The next step of 1, 2, 2.5 or 5 times a power of ten.
fn nice(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999_999);
    step.unwrap_or(10.0 * power)
}

fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let below = [5.0, 2.0].into_iter().map(|factor| factor * power).find(|at| *at <= value * 1.000_001);
    below.unwrap_or(power)
}

fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let above = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|at| *at >= value * 0.999_999);
    above.unwrap_or(10.0 * power)
}

fn log_ticks(low: f64, high: f64, decades: f64) -> Vec<f64> {
    let factors: &[f64] = if decades <= 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    // At most seven powers of ten.
    let stride = (decades / 7.0).ceil().max(1.0);
    let first = low.log10().floor();
    let powers = (0..8).map(|n| 10_f64.powf(first + f64::from(n) * stride)).filter(|power| *power <= high * 1.01);
    powers.flat_map(|power| factors.iter().map(move |factor| factor * power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(kind: Kind, unit: &str, at: &[f64], values: &[f64]) -> String {
        let axis = Axis { label: "x".to_owned(), kind, unit: unit.to_owned(), at: at.to_vec() };
        let fitted = axis.fit(values.iter().copied()).unwrap();
        let labels: Vec<&str> = fitted.ticks.iter().map(|(_, label)| &**label).collect();
        format!("{}: {}", fitted.named("x"), labels.join(" "))
    }

    #[test]
    fn ticks_are_those_that_a_person_would_choose() {
        assert_eq!(ticks(Kind::Linear, "ns", &[], &[3.1, 0.4]), "x, ns: 0 1 2 3 4");
        assert_eq!(ticks(Kind::Linear, "ns", &[], &[3_100.0]), "x, µs: 0 1 2 3 4");
        assert_eq!(ticks(Kind::Linear, "1/s", &[], &[48e6, 9e6]), "x, M/s: 0 20 40 60");
        assert_eq!(ticks(Kind::Linear, "", &[1.0, 2.0, 4.0], &[1.0, 4.0]), "x: 1 2 4");
        assert_eq!(ticks(Kind::Linear, "%", &[], &[0.0]), "x, %: 0 1");
        assert_eq!(
            ticks(Kind::Log, "ns", &[], &[60.0, 8_000.0]),
            "x: 50 ns 100 ns 200 ns 500 ns 1 µs 2 µs 5 µs 10 µs"
        );
        assert_eq!(ticks(Kind::Log, "ns", &[], &[1.0, 9e8]), "x: 1 ns 100 ns 10 µs 1 ms 100 ms");
        assert_eq!(ticks(Kind::Log, "µs CPU", &[], &[100.0, 480.0]), "x, µs CPU: 100 200 500");
        assert_eq!(ticks(Kind::Log, "", &[1.0, 10.0, 10_000.0], &[1.0, 10_000.0]), "x: 1 10 10k");
        assert_eq!(ticks(Kind::Quantile, "", &[], &[1.0, 1e4]), "x: p50 p90 p99 p99.9 p99.99");
    }

    #[test]
    fn places_run_from_zero_to_one() {
        let axis = |kind| Axis { label: String::new(), kind, unit: String::new(), at: vec![1.0] };
        let log = axis(Kind::Log).fit([1.0, 100.0].into_iter()).unwrap();
        assert_eq!([1.0, 10.0, 100.0, 1_000.0].map(|value| log.place(value)), [0.0, 0.5, 1.0, 1.0]);
        let linear = axis(Kind::Linear).fit([f64::MAX, f64::MIN].into_iter()).unwrap();
        assert_eq!([f64::MIN, 0.0, f64::MAX].map(|value| linear.place(value)), [0.0, 0.5, 1.0]);
    }
}
