//! Runs to figures and distributions.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::cell::{Cell, Run};
use super::histogram::{Samples, encode, histogram};
use super::outcome::Outcome;
use super::settings::{Merge, Settings};
use super::subject::Subject;
use super::timing::MILLISECOND;
use super::validity::{Fault, GENERATOR_BUSY_MAX};
use crate::bench::model::{Better, Distribution, Figure, Goal, Interval, QUANTILES};

/// All runs of one cell.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) cell: Cell,
    /// One for each repetition; `None` where it failed.
    pub(crate) runs: Vec<Option<(Run, Vec<Fault>)>>,
}

/// Everything that is told, row by row.
pub(crate) fn all(settings: &Settings, rows: &[Row]) -> (Vec<Figure>, Vec<Distribution>) {
    let (mut figures, mut distributions) = (Vec::new(), Vec::new());
    for row in rows {
        let teller = Teller { settings, row, rows };
        figures.extend(teller.costs());
        figures.extend(teller.times());
        figures.extend(teller.faults());
        figures.extend(teller.conditions());
        distributions.extend(teller.distributions());
    }
    figures.retain(|figure| !figure.values.is_empty());
    (figures, distributions)
}

/// Which samples of a run.
type Of = fn(&Outcome) -> &Samples;

struct Teller<'a> {
    settings: &'a Settings,
    row: &'a Row,
    rows: &'a [Row],
}

impl Teller<'_> {
    fn costs(&self) -> Vec<Figure> {
        let cost = Run::us_per_viewer_s;
        let mut figures = vec![
            self.figure("CPU per viewer-second", "µs", self.valid(cost)),
            self.figure("CPU per GB", "s", self.valid(Run::s_per_gb)),
            self.figure("CPU", "cores", self.valid(|run| Some(run.server?.cpu_s / run.window_s))),
            self.figure("resident memory", "MB", self.valid(|run| Some(run.server?.rss_mb))),
            self.figure("peak resident memory", "MB", self.valid(|run| Some(run.server?.rss_peak_mb))),
        ];
        let floor = self.ratios(&|cell| cell.subject == Subject::Floor && cell.merge == self.floor_merge(), cost);
        if self.row.cell.subject != Subject::Floor {
            let figure = self.figure("CPU per viewer-second, of the floor's", "×", floor);
            figures.push(with_goal(figure, FLOOR_MAX, "a bare loop of the same sends costs 1"));
        }
        if matches!(self.row.cell.subject, Subject::Shardcast { .. }) {
            for peer in self.peers() {
                let values = self.ratios(&|cell| cell.subject == peer, cost);
                let figure = self.figure(&format!("CPU per viewer-second, of {peer}'s"), "×", values);
                figures.push(with_goal(figure, 1.0, "no more than a peer"));
            }
        }
        figures
    }

    fn times(&self) -> Vec<Figure> {
        let p99 = |samples: Of| {
            self.valid(move |run| {
                let samples = samples(&run.outcome).decode();
                told(&samples, 0.99).then(|| ms(samples.value_at_quantile(0.99)))
            })
        };
        let mut figures = vec![self.figure("age at the player, p99", "ms", p99(|outcome| &outcome.age))];
        if self.row.cell.subject != Subject::Floor {
            figures.push(self.figure("join, p99", "ms", p99(|outcome| &outcome.join)));
        }
        figures
    }

    /// What may not be; of every run, valid or not.
    fn faults(&self) -> Vec<Figure> {
        let none = |metric: &str, count: fn(&Outcome) -> u64| {
            with_goal(
                self.figure(metric, "", self.every(|run| count(&run.outcome) as f64)),
                0.0,
                "nothing is lost or changed",
            )
        };
        let mut figures = vec![
            none("viewers lost", |outcome| outcome.lost),
            none("viewers that never joined", |outcome| outcome.never_joined),
            none("frames missing", |outcome| outcome.expected.saturating_sub(outcome.received)),
            none("gaps", |outcome| outcome.counts.gaps),
            none("frames repeated", |outcome| outcome.counts.repeated),
            none("frames reordered", |outcome| outcome.counts.reordered),
            none("frames corrupt", |outcome| outcome.counts.corrupt + outcome.slow.corrupt),
            none("timestamps falling", |outcome| outcome.counts.falls + outcome.slow.falls),
            none("frames of another stream", |outcome| outcome.counts.misrouted + outcome.slow.misrouted),
            none("frames without a stamp", |outcome| outcome.counts.unstamped + outcome.slow.unstamped),
        ];
        if self.has_visitors() {
            figures.push(none("visitors without a keyframe", |outcome| outcome.visitors_failed));
        }
        let invalid = self.row.runs.iter().filter(|run| run.as_ref().is_none_or(|(_, faults)| !faults.is_empty()));
        let invalid = self.figure("runs that are not valid", "", vec![invalid.count() as f64]);
        figures.push(with_goal(invalid, 0.0, "a run that was disturbed or lost something is no measurement"));
        figures
    }

    /// What it was measured with and under; of every run.
    fn conditions(&self) -> Vec<Figure> {
        let describes = |metric: &str, unit: &str, value: fn(&Run) -> f64| Figure {
            better: Better::Neither,
            ..self.figure(metric, unit, self.every(value))
        };
        let gigabits = |run: &Run| run.outcome.bytes as f64 * 8.0 / 1e9 / run.window_s;
        let late = |run: &Run| ms(run.outcome.lateness.decode().value_at_quantile(0.99));
        let busy = describes("generator busy", "%", |run| run.generator_busy * 100.0);
        let mut figures = vec![
            describes("viewers", "", |run| run.outcome.stayed as f64),
            describes("throughput", "Gb/s", gigabits),
            describes("frames verified", "", |run| run.outcome.counts.checked as f64),
            Figure {
                better: Better::Lower,
                ..with_goal(busy, GENERATOR_BUSY_MAX * 100.0, "it has to keep its schedule")
            },
            describes("others on the cores", "%", |run| run.foreign_busy * 100.0),
            describes("steal", "%", |run| run.steal * 100.0),
        ];
        // The floor makes its streams itself.
        if self.row.cell.subject != Subject::Floor {
            figures.push(describes("publisher late, p99", "ms", late));
            figures.push(describes("messages not taken at once", "", |run| run.outcome.blocked as f64));
        }
        let switches = |value: fn(&super::cell::Cost) -> f64| {
            let runs = self.row.runs.iter().flatten();
            runs.filter_map(|(run, _)| run.server.as_ref().map(value)).collect::<Vec<f64>>()
        };
        for (metric, values) in [
            ("sleeps of the server", switches(|cost| cost.switches_voluntary_per_s)),
            ("preemptions of the server", switches(|cost| cost.switches_forced_per_s)),
        ] {
            figures.push(Figure { better: Better::Neither, ..self.figure(metric, "1/s", values) });
        }
        if self.has_visitors() {
            figures.push(describes("visitors", "", |run| run.outcome.visitors as f64));
        }
        if self.settings.slow.is_some() && self.row.cell.subject != Subject::Floor {
            figures.push(describes("slow readers", "", |run| run.outcome.slow_players as f64));
            figures.push(describes("slow readers ended by the server", "", |run| run.outcome.slow_ended as f64));
            figures.push(describes("frames that slow readers missed", "", |run| run.outcome.slow.missing as f64));
        }
        figures
    }

    fn distributions(&self) -> Vec<Distribution> {
        let mut wanted: Vec<(&str, Of)> = vec![
            ("age at the player", |outcome| &outcome.age),
            ("age at the player since sent, uncorrected", |outcome| &outcome.age_since_sent),
        ];
        if self.row.cell.subject != Subject::Floor {
            wanted.push(("publisher lateness", |outcome| &outcome.lateness));
            wanted.push(("join", |outcome| &outcome.join));
        }
        if self.has_visitors() {
            wanted.push(("join of visitors", |outcome| &outcome.visitors_join));
        }
        let told = wanted.into_iter().map(|(metric, samples)| self.distribution(metric, samples));
        told.filter(|distribution| distribution.count > 0).collect()
    }

    fn distribution(&self, metric: &str, samples: Of) -> Distribution {
        let (mut total, mut p50s, mut intervals): (Histogram<u64>, _, _) = (histogram(), Vec::new(), Vec::new());
        let mut start_s = 0.0;
        for run in self.usable() {
            let samples = samples(&run.outcome);
            let of_run = samples.decode();
            p50s.push(of_run.value_at_quantile(0.5) as f64);
            // All of ours have the same bounds.
            let _infallible = total.add(of_run);
            intervals.extend(samples.parts.iter().map(|part| Interval {
                start_s: start_s + part.start_s,
                length_s: part.length_s,
                histogram: part.histogram.clone(),
            }));
            start_s += run.window_s;
        }
        let quantiles = QUANTILES.into_iter().filter(|quantile| told(&total, *quantile));
        Distribution {
            subject: self.row.cell.subject.to_string(),
            metric: metric.to_owned(),
            params: self.params(),
            count: total.len(),
            quantiles: quantiles.map(|quantile| (quantile, total.value_at_quantile(quantile) as f64)).collect(),
            max: total.max() as f64,
            p50s,
            histogram: encode(&total),
            intervals,
        }
    }

    fn figure(&self, metric: &str, unit: &str, values: Vec<f64>) -> Figure {
        Figure {
            subject: self.row.cell.subject.to_string(),
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            params: self.params(),
            values,
            ..Figure::default()
        }
    }

    fn params(&self) -> Vec<(String, String)> {
        let Cell { subject, merge, players } = &self.row.cell;
        let merge = if subject.merges() { merge.to_string() } else { AS_IT_IS.to_owned() };
        let mut params = vec![("players".to_owned(), players.to_string()), ("merge".to_owned(), merge)];
        let settings = self.settings;
        let mut more = |name: &str, value: Option<String>| params.extend(value.map(|value| (name.to_owned(), value)));
        more("streams", (settings.streams > 1).then(|| settings.streams.to_string()));
        if *subject != Subject::Floor {
            more("slow", settings.slow.map(|slow| slow.to_string()));
            more("churn", (settings.churn_per_s > 0).then(|| format!("{}/s", settings.churn_per_s)));
        }
        params
    }

    /// The floor has none.
    fn has_visitors(&self) -> bool {
        self.settings.churn_per_s > 0 && self.row.cell.subject != Subject::Floor
    }

    /// Runs whose costs and times may be told.
    fn usable(&self) -> impl Iterator<Item = &Run> {
        self.row.runs.iter().filter_map(|run| self.usable_run(run.as_ref()))
    }

    fn usable_run<'a>(&self, run: Option<&'a (Run, Vec<Fault>)>) -> Option<&'a Run> {
        run.filter(|(_, faults)| self.settings.keeps_invalid || faults.is_empty()).map(|(run, _)| run)
    }

    fn valid(&self, value: impl Fn(&Run) -> Option<f64>) -> Vec<f64> {
        self.usable().filter_map(value).collect()
    }

    fn every(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.row.runs.iter().flatten().map(|(run, _)| value(run)).collect()
    }

    /// The value of each run by that of another cell's run of the same repetition.
    fn ratios(&self, is_other: &dyn Fn(&Cell) -> bool, value: fn(&Run) -> Option<f64>) -> Vec<f64> {
        let same = |row: &&Row| row.cell.players == self.row.cell.players && is_other(&row.cell);
        let Some(other) = self.rows.iter().find(same) else { return Vec::new() };
        let pairs = self.row.runs.iter().zip(&other.runs);
        let values = pairs.map(|(own, other)| {
            let (own, other) = (self.usable_run(own.as_ref())?, self.usable_run(other.as_ref())?);
            Some(value(own)? / value(other)?)
        });
        values.flatten().collect()
    }

    /// What does not merge sends message by message, as the floor does at 0.
    fn floor_merge(&self) -> Merge {
        if self.row.cell.subject.merges() { self.row.cell.merge } else { Merge::Window(0) }
    }

    fn peers(&self) -> Vec<Subject> {
        let subjects = self.rows.iter().map(|row| &row.cell.subject);
        let mut peers: Vec<Subject> =
            subjects.filter(|subject| matches!(subject, Subject::Nginx | Subject::Running(_))).cloned().collect();
        peers.dedup();
        peers
    }
}

/// How merging is called where it cannot be chosen.
pub(crate) const AS_IT_IS: &str = "as it is";
/// The goal over the floor.
const FLOOR_MAX: f64 = 1.3;
/// A quantile is told if so many samples lie beyond it.
const BEYOND_MIN: f64 = 20.0;

fn told(samples: &Histogram<u64>, quantile: f64) -> bool {
    samples.len() as f64 * (1.0 - quantile) >= BEYOND_MIN - 1e-6
}

fn with_goal(figure: Figure, bound: f64, why: &str) -> Figure {
    Figure { goal: Some(Goal { bound, why: why.to_owned() }), ..figure }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / MILLISECOND as f64
}

/// The configuration, as it is written into the report.
pub(crate) fn config(settings: &Settings) -> Vec<(&'static str, String)> {
    let seconds = |time: Duration| format!("{} s", time.as_secs_f64());
    let list = |items: Vec<String>| items.join(", ");
    vec![
        ("players of each stream", list(settings.players.iter().map(ToString::to_string).collect())),
        ("streams", settings.streams.to_string()),
        ("merge", list(settings.merges.iter().map(ToString::to_string).collect())),
        ("window", seconds(settings.window)),
        ("warm-up", seconds(settings.warm_up)),
        (
            "ramp",
            settings.joins_per_s.map_or_else(|| "a quarter of the players/s".into(), |ramp| format!("{ramp}/s")),
        ),
        ("churn", format!("{}/s, each for {}", settings.churn_per_s, seconds(settings.stay))),
        ("slow readers", settings.slow.map_or_else(|| "none".into(), |slow| slow.to_string())),
        ("media", format!("720p30 H.264 and AAC, {} kb/s, keyframe each 2 s, 73 messages/s", settings.kbps)),
        ("checked", format!("stamps of all frames; bodies of one player in {}", settings.check_every)),
        ("runs that are not valid", if settings.keeps_invalid { "told".into() } else { "not told".into() }),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cost;
    use super::super::settings::Programs;
    use super::super::timing::SECOND;
    use super::*;
    use crate::bench::Size;

    fn run(cpu_s: f64, received: u64) -> (Run, Vec<Fault>) {
        let mut age: Histogram<u64> = histogram();
        age.saturating_record_n(5 * MILLISECOND, 3_000);
        let outcome = Outcome {
            viewer_ns: 100 * SECOND,
            bytes: 1_000_000_000,
            received,
            expected: 10,
            age: Samples::whole(&age),
            ..Outcome::default()
        };
        let server =
            Cost { cpu_s, rss_mb: 7.0, rss_peak_mb: 8.0, switches_voluntary_per_s: 1.0, switches_forced_per_s: 1.0 };
        let run =
            Run { window_s: 1.0, outcome, server: Some(server), generator_busy: 0.5, foreign_busy: 0.0, steal: 0.0 };
        let faults = if received < 10 { vec![Fault::Missing { received, expected: 10 }] } else { Vec::new() };
        (run, faults)
    }

    fn told(keeps_invalid: bool) -> (Vec<Figure>, Vec<Distribution>) {
        let programs = Programs { shardcast: "s".into(), own: "o".into(), part: Vec::new() };
        let settings = Settings { keeps_invalid, ..Settings::of(Size::Standard, programs) };
        let row = |subject, runs| Row { cell: Cell { subject, merge: Merge::Window(0), players: 100 }, runs };
        let rows = [
            row(Subject::Shardcast { shards: 1 }, vec![Some(run(0.012, 10)), Some(run(9.0, 9)), None]),
            row(Subject::Nginx, vec![Some(run(0.024, 10)), Some(run(0.024, 10)), Some(run(0.024, 10))]),
            row(Subject::Floor, vec![Some(run(0.010, 10)), Some(run(0.010, 10)), Some(run(0.010, 10))]),
        ];
        all(&settings, &rows)
    }

    fn values(figures: &[Figure], subject: &str, metric: &str) -> Vec<f64> {
        let found = figures.iter().find(|figure| figure.subject == subject && figure.metric == metric);
        found.map(|figure| figure.values.clone()).unwrap_or_default()
    }

    #[test]
    fn a_run_that_is_not_valid_has_no_cost_but_says_what_was_wrong() {
        let (figures, distributions) = told(false);
        assert_eq!(values(&figures, "shardcast", "CPU per viewer-second"), [120.0]);
        assert_eq!(values(&figures, "shardcast", "frames missing"), [0.0, 1.0]);
        assert_eq!(values(&figures, "shardcast", "runs that are not valid"), [2.0]);
        let age = &distributions[0];
        assert_eq!((age.subject.as_str(), age.count, age.p50s.len()), ("shardcast", 3_000, 1));
        let (figures, _) = told(true);
        assert_eq!(values(&figures, "shardcast", "CPU per viewer-second").len(), 2);
    }

    #[test]
    fn ratios_are_of_runs_of_the_same_repetition() {
        let (figures, _) = told(false);
        let floor = values(&figures, "shardcast", "CPU per viewer-second, of the floor's");
        assert!(matches!(floor[..], [ratio] if (ratio - 1.2).abs() < 1e-9), "{floor:?}");
        let nginx = values(&figures, "shardcast", "CPU per viewer-second, of nginx-rtmp's");
        assert!(matches!(nginx[..], [ratio] if (ratio - 0.5).abs() < 1e-9), "{nginx:?}");
        assert_eq!(values(&figures, "floor", "CPU per viewer-second, of the floor's"), [0.0; 0]);
        assert_eq!(values(&figures, "nginx-rtmp", "CPU per viewer-second, of the floor's").len(), 3);
    }

    #[test]
    fn quantiles_without_enough_samples_are_left_out() {
        let (_, distributions) = told(false);
        let quantiles: Vec<f64> = distributions[0].quantiles.iter().map(|(quantile, _)| *quantile).collect();
        assert_eq!(quantiles, [0.5, 0.9, 0.99]);
    }
}
