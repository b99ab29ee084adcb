//! Two reports beside each other: what became faster, what slower, and what is no more than noise.
//!
//! Figures are matched by scenario, subject, metric, unit and parameters; of distributions, the p50 of each repetition
//! and the percentiles of all. A row has changed only if the bootstrap interval of the ratio of medians excludes one
//! *and* the ratio is more than 3 % off: with fewer than five repetitions on a side nothing is said of it.

use std::fmt;

use super::super::model::{Better, QUANTILES, Report, Scenario};
use super::charts::join;
use super::columns::{Cell, Columns, Paint, Palette, paragraph};
use super::format::{self, NONE, Scale};
use super::resample::ratio_of_medians;
use super::series::{Keyed, shared};
use super::summary::{Spread, line_classes};

/// A change of less than this share is not called one.
pub const THRESHOLD: f64 = 0.03;
/// Repetitions on either side without which there is no verdict.
pub const REPETITIONS_MIN: usize = 5;

/// What the comparison of two reports gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Why they cannot be compared; there are no rows then.
    pub refused: Option<String>,
    /// Why a difference may not be the code's.
    pub warnings: Vec<String>,
    /// What both have, in the order of the first one.
    pub rows: Vec<Row>,
    /// What only the first one has.
    pub only_before: Vec<String>,
    /// What only the second one has.
    pub only_after: Vec<String>,
}

/// One figure in both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// Of whom.
    pub subject: String,
    /// What; of a distribution with the percentile.
    pub metric: String,
    /// In what.
    pub unit: String,
    /// Under which parameters.
    pub params: Vec<(String, String)>,
    /// Which way is better.
    pub better: Better,
    /// In the first report.
    pub before: Option<Spread>,
    /// In the second one.
    pub after: Option<Spread>,
    /// Repetitions in each.
    pub repetitions: [usize; 2],
    /// The second median divided by the first, and where it lies at 99 %.
    pub ratio: Option<(f64, [f64; 2])>,
    /// What to make of it.
    pub outcome: Outcome,
}

/// What to make of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Faster, or less of what should be less.
    Improved,
    /// Slower, or more of what should be less.
    Regressed,
    /// It differs, and neither way is better.
    Changed,
    /// The repetitions of one report differ as much.
    WithinNoise,
    /// Fewer than [`REPETITIONS_MIN`] on a side: the ratio is told, nothing is made of it.
    TooFew,
    /// A side has no numbers, or negative ones.
    NoRatio,
}

/// Puts two reports beside each other, the older one first.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Comparison {
    if let Some(refused) = refusal(before, after) {
        return Comparison { refused: Some(refused), ..Comparison::default() };
    }
    let (old, mut new) = (samples(before), samples(after));
    let mut comparison = Comparison { warnings: warnings(before, after), ..Comparison::default() };
    for sample in old {
        match new.iter().position(|other| other.key == sample.key) {
            // Removed, so that a key that occurs twice is matched in order.
            Some(at) => comparison.rows.push(row(&sample, &new.remove(at))),
            None => comparison.only_before.push(sample.key.to_string()),
        }
    }
    comparison.only_after = new.iter().map(|sample| sample.key.to_string()).collect();
    comparison
}

impl Comparison {
    /// How many rows have this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.rows.iter().filter(|row| row.outcome == outcome).count()
    }

    /// As [`fmt::Display`], with the colours of a terminal.
    #[must_use]
    pub fn in_colour(&self) -> String {
        self.draw(Palette { on: true })
    }

    /// Those rows that are wanted, of one scenario and metric together, in the order of their first appearance.
    pub(super) fn by_metric(&self, wanted: impl Fn(&Row) -> bool) -> Vec<Vec<&Row>> {
        let mut groups: Vec<Vec<&Row>> = Vec::new();
        for row in self.rows.iter().filter(|row| wanted(row)) {
            let same =
                |group: &&mut Vec<&Row>| (&group[0].scenario, &group[0].metric) == (&row.scenario, &row.metric);
            match groups.iter_mut().find(same) {
                Some(group) => group.push(row),
                None => groups.push(vec![row]),
            }
        }
        groups
    }

    /// `2 worse, 1 better, 40 within noise`.
    #[must_use]
    pub fn summary(&self) -> String {
        let outcomes = [
            (Outcome::Regressed, "worse"),
            (Outcome::Improved, "better"),
            (Outcome::Changed, "changed"),
            (Outcome::WithinNoise, "within noise"),
            (Outcome::TooFew, "of too few repetitions"),
            (Outcome::NoRatio, "without a ratio"),
        ];
        let counts = outcomes.map(|(outcome, word)| (self.count(outcome), word));
        let parts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() { "nothing in common".to_owned() } else { parts.join(", ") }
    }

    fn draw(&self, palette: Palette) -> String {
        let mut out = String::new();
        if let Some(refused) = &self.refused {
            paragraph(&mut out, "not compared: ", refused, palette, Paint::Bad);
            return out;
        }
        let mut columns = Columns::default();
        for rows in self.by_metric(|_| true) {
            let shared = shared(&rows);
            let head = join(&[&format!("{}: {}", rows[0].scenario, rows[0].metric), &format::params(&shared)]);
            let titles = ["before", "after", "ratio", "99 % within", ""].map(|title| Cell::new(title, Paint::Dim));
            columns.push([Cell::new(head, Paint::Bold)].into_iter().chain(titles).collect());
            for row in rows {
                columns.push(row.cells(&shared));
            }
        }
        columns.draw(&mut out, 0, palette);
        for (what, only) in [("only before: ", &self.only_before), ("only after: ", &self.only_after)] {
            for key in only {
                paragraph(&mut out, what, key, palette, Paint::Dim);
            }
        }
        for warning in &self.warnings {
            paragraph(&mut out, "! ", warning, palette, Paint::Warn);
        }
        paragraph(&mut out, "", &self.summary(), palette, Paint::Bold);
        out
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.draw(Palette { on: false }))
    }
}

impl Row {
    /// The outcome in a word that fits what was measured: a time becomes slower, memory becomes more.
    #[must_use]
    pub fn word(&self) -> String {
        let timed = ["ns", "µs", "us", "ms", "s"].contains(&&*self.unit) || self.unit.ends_with("/s");
        let word = match (self.outcome, timed) {
            (Outcome::Improved, true) => "faster",
            (Outcome::Improved, false) => "better",
            (Outcome::Regressed, true) => "SLOWER",
            (Outcome::Regressed, false) => "WORSE",
            (Outcome::Changed, _) => "changed",
            (Outcome::WithinNoise, _) => "within noise",
            (Outcome::NoRatio, _) => "no ratio",
            (Outcome::TooFew, _) => {
                let least = self.repetitions[0].min(self.repetitions[1]);
                return format!("too few ({least} of {REPETITIONS_MIN})");
            }
        };
        word.to_owned()
    }

    /// Both medians in one unit, the ratio, and its interval.
    pub(super) fn texts(&self) -> [String; 4] {
        let typical = self.before.or(self.after).map_or(f64::NAN, |spread| spread.median);
        let scale = Scale::of(&self.unit, typical);
        let median = |side: Option<Spread>| side.map_or_else(|| NONE.to_owned(), |side| scale.with_unit(side.median));
        let ratio = self.ratio.map_or_else(|| NONE.to_owned(), |(ratio, _)| format::ratio(ratio));
        let interval = match self.ratio {
            Some((_, [low, high])) if self.outcome != Outcome::TooFew => {
                format!("{} – {}", format::ratio(low), format::ratio(high))
            }
            _ => String::new(),
        };
        [median(self.before), median(self.after), ratio, interval]
    }

    /// Of whom under which parameters, without those that stand beside the metric's name.
    pub(super) fn label(&self, shared: &[(String, String)]) -> String {
        let own: Vec<(String, String)> =
            self.params.iter().filter(|param| !shared.contains(param)).cloned().collect();
        join(&[&self.subject, &format::params(&own)])
    }

    fn cells(&self, shared: &[(String, String)]) -> Vec<Cell> {
        let paint = match self.outcome {
            Outcome::Improved => Paint::Good,
            Outcome::Regressed => Paint::Bad,
            Outcome::Changed | Outcome::NoRatio => Paint::Warn,
            Outcome::WithinNoise | Outcome::TooFew => Paint::Dim,
        };
        let [before, after, ratio, interval] = self.texts().map(Cell::plain);
        vec![
            Cell::plain(format!("  {}", self.label(shared))),
            before,
            after,
            ratio,
            interval,
            Cell::new(self.word(), paint),
        ]
    }
}

impl Keyed for Row {
    fn subject(&self) -> &str {
        &self.subject
    }
    fn params(&self) -> &[(String, String)] {
        &self.params
    }
}

/// What a number of both reports is found by.
#[derive(Clone, PartialEq)]
struct Key<'a> {
    scenario: &'a str,
    subject: &'a str,
    metric: String,
    unit: &'a str,
    params: &'a [(String, String)],
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} · {}", self.scenario, self.metric, self.subject)?;
        if self.params.is_empty() { Ok(()) } else { write!(f, " · {}", format::params(self.params)) }
    }
}

struct Sample<'a> {
    key: Key<'a>,
    better: Better,
    values: Vec<f64>,
}

fn samples(report: &Report) -> Vec<Sample<'_>> {
    report.scenarios.iter().flat_map(samples_of).collect()
}

fn samples_of(scenario: &Scenario) -> Vec<Sample<'_>> {
    let mut samples = Vec::new();
    for figure in &scenario.figures {
        let (subject, unit, params) = (&*figure.subject, &*figure.unit, &*figure.params);
        let key = Key { scenario: &scenario.name, subject, metric: figure.metric.clone(), unit, params };
        samples.push(Sample { key, better: figure.better, values: figure.values.clone() });
    }
    for distribution in &scenario.distributions {
        let mut add = |q: f64, values: Vec<f64>| {
            let metric = format!("{} {}", distribution.metric, format::quantile(q));
            let (subject, params) = (&*distribution.subject, &*distribution.params);
            let key = Key { scenario: &scenario.name, subject, metric, unit: "ns", params };
            samples.push(Sample { key, better: Better::Lower, values });
        };
        add(QUANTILES[0], distribution.p50s.clone());
        // Of all repetitions together, so one number each: told, not judged.
        for (q, value) in distribution.quantiles.iter().filter(|(q, _)| *q > QUANTILES[0]) {
            add(*q, vec![*value]);
        }
    }
    samples
}

fn row(before: &Sample<'_>, after: &Sample<'_>) -> Row {
    let ratio = ratio_of_medians(&before.values, &after.values, &before.key.to_string());
    let numbers = |values: &[f64]| values.iter().filter(|value| value.is_finite()).count();
    let repetitions = [numbers(&before.values), numbers(&after.values)];
    let key = before.key.clone();
    Row {
        scenario: key.scenario.to_owned(),
        subject: key.subject.to_owned(),
        metric: key.metric,
        unit: key.unit.to_owned(),
        params: key.params.to_vec(),
        better: after.better,
        before: Spread::of(&before.values),
        after: Spread::of(&after.values),
        repetitions,
        ratio,
        outcome: outcome(ratio, repetitions, after.better),
    }
}

fn outcome(ratio: Option<(f64, [f64; 2])>, repetitions: [usize; 2], better: Better) -> Outcome {
    let Some((ratio, [low, high])) = ratio else { return Outcome::NoRatio };
    if repetitions.iter().any(|repetitions| *repetitions < REPETITIONS_MIN) {
        return Outcome::TooFew;
    }
    let excludes_one = low > 1.0 || high < 1.0;
    if !excludes_one || (ratio - 1.0).abs() <= THRESHOLD {
        return Outcome::WithinNoise;
    }
    match better {
        Better::Neither => Outcome::Changed,
        Better::Lower if ratio < 1.0 => Outcome::Improved,
        Better::Higher if ratio > 1.0 => Outcome::Improved,
        Better::Lower | Better::Higher => Outcome::Regressed,
    }
}

fn fact<'a>(report: &'a Report, names: &[&str]) -> Option<&'a str> {
    let found =
        report.machine.facts.iter().find(|(name, _)| names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)));
    found.map(|(_, value)| &**value)
}

/// Different machines have different numbers: their ratio would be the machines'.
fn refusal(before: &Report, after: &Report) -> Option<String> {
    let cpu = |report| fact(report, &["cpu", "cpu model", "model name"]);
    if let (Some(old), Some(new)) = (cpu(before), cpu(after))
        && old != new
    {
        return Some(format!("the first report is of the CPU {old:?}, the second one of {new:?}"));
    }
    let (old, new) = (before.machine.cores, after.machine.cores);
    (old != new).then(|| {
        let (old, new) = (format::plural(old, "core"), format::plural(new, "core"));
        format!("the first report is of {old}, the second one of {new}")
    })
}

fn warnings(before: &Report, after: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if fact(before, &["cpu", "cpu model", "model name"]).is_none() {
        warnings.push("the first report names no CPU: they may be of different machines".to_owned());
    }
    let (old, new) = (line_classes(before), line_classes(after));
    if old != new {
        let name = |classes: &str| {
            if classes.is_empty() { "not measured".to_owned() } else { format!("of class {classes}") }
        };
        let (old, new) = (name(&old), name(&new));
        warnings.push(format!(
            "the bare line was {old} before and {new} after: the cores moved, so ring and hop figures do not compare"
        ));
    }
    for name in ["kernel", "compiler", "rustc", "features", "mitigations", "governor", "congestion control"] {
        if let (Some(old), Some(new)) = (fact(before, &[name]), fact(after, &[name]))
            && old != new
        {
            warnings.push(format!("{name}: {old} before, {new} after"));
        }
    }
    for old in &before.scenarios {
        let Some(new) = after.scenarios.iter().find(|new| new.name == old.name) else { continue };
        let keys = old.config.keys().chain(new.config.keys().filter(|key| !old.config.contains_key(*key)));
        for key in keys.filter(|key| old.config.get(*key) != new.config.get(*key)) {
            let text =
                |scenario: &Scenario| scenario.config.get(key).cloned().unwrap_or_else(|| "not given".to_owned());
            warnings.push(format!("{}, {key}: {} before, {} after", old.name, text(old), text(new)));
        }
        let of = |scenario: &Scenario, which: &str, not_in: &[String]| {
            let own = scenario.warnings.iter().filter(|warning| !not_in.contains(warning));
            own.map(|warning| format!("{}{which}: {warning}", scenario.name)).collect::<Vec<_>>()
        };
        let both: Vec<String> =
            old.warnings.iter().filter(|warning| new.warnings.contains(warning)).cloned().collect();
        warnings.extend(both.iter().map(|warning| format!("{}, before and after: {warning}", old.name)));
        warnings.extend(of(old, " before", &both));
        warnings.extend(of(new, " after", &both));
    }
    warnings
}
