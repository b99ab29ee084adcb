//! What a run of the harness found, and where: the one structure behind the tables, the JSON file, the HTML page, the
//! interval logs and the comparison of two runs.
//!
//! Everything measured is either a [`Figure`], one number per repetition, or a [`Distribution`], a histogram of many
//! samples. Both say what was measured of whom under which parameters, so that readers of a report need to know no
//! scenario by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// The version of the JSON form. It changes when a reader of the old form would misunderstand the new one.
pub const SCHEMA: u32 = 1;

/// One invocation of the harness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it began, UTC, RFC 3339.
    pub started: String,
    /// The exact command line.
    pub command: String,
    /// `smoke`, `standard`, `full`, or `custom` where options were given.
    pub size: String,
    /// What it ran on.
    pub machine: Machine,
    /// Why the numbers may be wrong.
    pub warnings: Vec<String>,
    /// In the order in which they ran.
    pub scenarios: Vec<Scenario>,
}

/// What a figure is worth nothing without.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Names and values, in the order in which they are shown: CPU, kernel, commit, compiler, features, load, …
    pub facts: Vec<(String, String)>,
    /// Its logical cores.
    pub cores: usize,
    /// One way of the bare cache line between the two cores used, in ns, at the start and after each scenario: on a
    /// virtual machine the cores do not stay at a fixed distance.
    pub line_ns: Vec<f64>,
    /// What others did to each used core meanwhile.
    pub hiccups: Vec<Hiccups>,
}

/// How late a thread that only sleeps was woken on one core.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hiccups {
    /// The core.
    pub core: usize,
    /// Milliseconds.
    #[serde(deserialize_with = "or_null")]
    pub p50_ms: f64,
    /// Milliseconds.
    #[serde(deserialize_with = "or_null")]
    pub p99_ms: f64,
    /// Milliseconds.
    #[serde(deserialize_with = "or_null")]
    pub max_ms: f64,
    /// Share of the time that the hypervisor took, of 1.
    #[serde(deserialize_with = "or_null")]
    pub steal: f64,
}

/// What one scenario found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// Its exact configuration.
    pub config: BTreeMap<String, String>,
    /// How often everything was measured, in turns.
    pub repetitions: usize,
    /// Why these numbers may be wrong; those of an invalid run are not to be quoted.
    pub warnings: Vec<String>,
    /// Single numbers.
    pub figures: Vec<Figure>,
    /// Histograms.
    pub distributions: Vec<Distribution>,
}

/// One number per repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of whom: `shardcast`, `nginx-rtmp`, `floor`, `tokio::sync::broadcast`, …
    pub subject: String,
    /// What: `delivery`, `CPU per viewer-second`, …
    pub metric: String,
    /// In what: `ns`, `µs`, `MB`, `1/s`, `×`, or empty for a count.
    pub unit: String,
    /// Under which parameters, most significant first: `[("subscribers", "1000"), ("payload", "1200")]`.
    pub params: Vec<(String, String)>,
    /// Which way is better.
    pub better: Better,
    /// One value per repetition, in the order of the repetitions; those that failed are absent.
    pub values: Vec<f64>,
    /// What it should be.
    pub goal: Option<Goal>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Costs, times.
    #[default]
    Lower,
    /// Rates.
    Higher,
    /// It only describes the run.
    Neither,
}

/// A goal for the median.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// The bound, in the figure's unit: at most this if lower is better, at least this if higher is.
    #[serde(deserialize_with = "or_null")]
    pub bound: f64,
    /// Where it comes from, in a few words.
    pub why: String,
}

/// A histogram of many samples, of all repetitions together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// As in [`Figure`].
    pub subject: String,
    /// As in [`Figure`]: `one-way latency`, `age at the player`, `join`, …
    pub metric: String,
    /// As in [`Figure`].
    pub params: Vec<(String, String)>,
    /// Samples.
    pub count: u64,
    /// Nanoseconds at each quantile of [`QUANTILES`]; absent where fewer than 20 samples lie beyond it.
    pub quantiles: Vec<(f64, f64)>,
    /// The greatest, in nanoseconds.
    #[serde(deserialize_with = "or_null")]
    pub max: f64,
    /// The p50 of each repetition in nanoseconds: the spread.
    pub p50s: Vec<f64>,
    /// All samples in nanoseconds as an HdrHistogram V2 deflated payload in base64.
    pub histogram: String,
    /// Seconds from the start of the run, and percentiles of one interval each, for plots over time.
    pub intervals: Vec<Interval>,
}

/// The quantiles of a [`Distribution`].
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// One interval of a distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its beginning, in seconds since the distribution's first sample could come.
    #[serde(deserialize_with = "or_null")]
    pub start_s: f64,
    /// Its length in seconds.
    #[serde(deserialize_with = "or_null")]
    pub length_s: f64,
    /// Its samples, as in [`Distribution::histogram`].
    pub histogram: String,
}

/// JSON has no word for what is not a number: it stands there as null.
fn or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|number| number.unwrap_or(f64::NAN))
}
