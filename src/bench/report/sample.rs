//! A report for the tests of this folder, with all that a report can have.
//!
//! **The numbers are made up**: plausible in size, drawn from a seed, measured by nobody. Nothing but tests sees them.

use std::sync::LazyLock;

use hdrhistogram::Histogram;

use super::super::model::{
    Better, Distribution, Figure, Goal, Hiccups, Interval, Machine, QUANTILES, Report, SCHEMA, Scenario,
};
use super::histogram::encode;
use super::resample::Random;
use super::summary::sorted;

/// Four scenarios: a sweep of subscribers, one of shards, players over sockets with peers, and one that went wrong.
pub(super) fn report() -> Report {
    static REPORT: LazyLock<Report> = LazyLock::new(make);
    REPORT.clone()
}

fn make() -> Report {
    let mut draw = Draw(Random::seeded("sample"));
    Report {
        schema: SCHEMA,
        started: "2026-03-14T09:26:53Z".to_owned(),
        command: "shardcast bench suite --size standard --json sample.json (SAMPLE: made-up numbers)".to_owned(),
        size: "standard".to_owned(),
        machine: machine(),
        warnings: vec![
            "SAMPLE DATA: these numbers were made up for a test of the page; nobody measured them".to_owned(),
            "2 cores: the load generator and the server cannot have a core each and leave one to the system"
                .to_owned(),
        ],
        scenarios: vec![fanout(&mut draw), hop(&mut draw), relay(&mut draw), memory(&mut draw)],
    }
}

/// Where `SHARDCAST_SAMPLE` names a folder, what a test drew is left there to be looked at.
pub(super) fn keep(name: &str, text: &str) {
    if let Some(folder) = std::env::var_os("SHARDCAST_SAMPLE") {
        std::fs::write(std::path::Path::new(&folder).join(name), text).expect("SHARDCAST_SAMPLE is a folder");
    }
}

/// A figure by subject, metric, unit, parameters.
pub(super) fn figure(subject: &str, metric: &str, unit: &str, params: &[(&str, &str)], values: Vec<f64>) -> Figure {
    Figure {
        subject: subject.to_owned(),
        metric: metric.to_owned(),
        unit: unit.to_owned(),
        params: owned(params),
        values,
        ..Figure::default()
    }
}

/// A histogram of these nanoseconds.
pub(super) fn histogram(samples: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    for sample in samples {
        histogram.record(*sample).unwrap();
    }
    histogram
}

fn owned(params: &[(&str, &str)]) -> Vec<(String, String)> {
    params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// With two cores of class B.
pub(super) fn machine() -> Machine {
    let facts = [
        ("CPU", "Sample CPU 9000 8-Core Processor"),
        ("kernel", "Linux 6.1.0-sample"),
        ("commit", "0123abc (clean)"),
        ("compiler", "rustc 1.90.0, release, fat LTO"),
        ("features", "server, bench"),
        ("load at the start", "0.42 0.51 0.60"),
        ("mitigations", "spectre_v2: retpolines; <others> & \"more\""),
        ("congestion control", "cubic"),
    ];
    let hiccup = |core, p50_ms, p99_ms, max_ms, steal| Hiccups { core, p50_ms, p99_ms, max_ms, steal };
    Machine {
        facts: owned(&facts),
        cores: 2,
        line_ns: vec![53.1, 52.4, 54.9, 51.8, 55.2],
        hiccups: vec![hiccup(0, 0.058, 0.31, 4.2, 0.001), hiccup(1, 0.061, 0.44, 7.9, 0.004)],
    }
}

fn fanout(draw: &mut Draw) -> Scenario {
    let mut figures = Vec::new();
    let subjects =
        [("shardcast", 2.1, 0.25), ("tokio::sync::broadcast", 38.0, 9.0), ("crossbeam-channel each", 61.0, 17.0)];
    for (subject, ns, growth) in subjects {
        for (at, subscribers) in ["1", "10", "100", "1000", "10000"].into_iter().enumerate() {
            let middle = ns + growth * f64::from(u8::try_from(at).unwrap());
            let params = [("subscribers", subscribers), ("payload", "1200 B")];
            let mut delivery = figure(subject, "delivery", "ns", &params, draw.around(middle, 0.06));
            if subject == "shardcast" {
                delivery.goal = Some(Goal { bound: 3.0, why: "bookkeeping floor".to_owned() });
            }
            figures.push(delivery);
            let rate = figure(subject, "deliveries", "1/s", &params, draw.around(1e9 / middle, 0.06));
            figures.push(Figure { better: Better::Higher, ..rate });
        }
    }
    Scenario {
        name: "fanout".to_owned(),
        about: "One publisher, many subscribers in one process; every frame is received and verified.".to_owned(),
        config: config(&[("frames", "200000"), ("payload", "1200"), ("warm-up", "1 s")]),
        repetitions: 5,
        figures,
        distributions: vec![draw.distribution(
            "shardcast",
            "delivery of one frame to all",
            &[],
            (9_000.0, 0.5),
            40_000,
            0,
        )],
        ..Scenario::default()
    }
}

fn hop(draw: &mut Draw) -> Scenario {
    let mut figures = Vec::new();
    let subjects = [("floor", 53.0, 0.02), ("shardcast", 96.0, 0.05), ("crossbeam-channel", 178.0, 0.08)];
    for (subject, ns, spread) in subjects {
        let mut p50 = figure(subject, "one way p50", "ns", &[("idle", "spin")], draw.around(ns, spread));
        if subject == "shardcast" {
            p50.goal = Some(Goal { bound: 90.0, why: "twice the line and the ring".to_owned() });
        }
        figures.push(p50);
    }
    for (shards, rate) in [("1", 15.2e6), ("2", 29.1e6), ("4", 55.0e6)] {
        let rate = figure("shardcast", "frames", "1/s", &[("shards", shards)], draw.around(rate, 0.04));
        figures.push(Figure { better: Better::Higher, ..rate });
    }
    let spin: &[(&str, &str)] = &[("idle", "spin")];
    let park: &[(&str, &str)] = &[("idle", "park")];
    Scenario {
        name: "hop".to_owned(),
        about: "Host thread, shard, other shard, host thread; one way, beside the bare cache line.".to_owned(),
        config: config(&[("cores", "0, 1"), ("rate", "20000/s")]),
        repetitions: 5,
        figures,
        distributions: vec![
            draw.distribution("floor", "one-way latency", spin, (53.0, 0.12), 200_000, 0),
            draw.distribution("shardcast", "one-way latency", spin, (96.0, 0.2), 200_000, 0),
            draw.distribution("shardcast", "one-way latency", park, (41_000.0, 0.35), 200_000, 0),
            draw.distribution("crossbeam-channel", "one-way latency", spin, (178.0, 0.3), 200_000, 0),
        ],
        ..Scenario::default()
    }
}

fn relay(draw: &mut Draw) -> Scenario {
    let mut figures = Vec::new();
    let mut distributions = Vec::new();
    let subjects = [("floor", 236.0, 0.0), ("shardcast", 332.0, 2.1e6), ("nginx-rtmp", 372.0, 6.0e6)];
    for (subject, cpu, age) in subjects {
        for (players, more) in [("100", 1.4), ("500", 1.1), ("1000", 1.0), ("2000", 0.97)] {
            let params = [("players", players), ("mode", "default")];
            let mut cost = figure(subject, "CPU per viewer-second", "µs", &params, draw.around(cpu * more, 0.08));
            if subject == "shardcast" {
                cost.goal = Some(Goal { bound: 1.3 * 236.0 * more, why: "1.3 × the floor of this run".to_owned() });
            }
            figures.push(cost);
            if age > 0.0 && players == "1000" {
                let memory = if subject == "shardcast" { 14.0 } else { 53.0 };
                figures.push(figure(subject, "resident memory", "MB", &params, draw.around(memory, 0.02)));
                let lost = figure(subject, "frames lost", "", &params, vec![0.0; 5]);
                figures.push(lost);
                distributions.push(draw.distribution(
                    subject,
                    "age at the player",
                    &params,
                    (age, 0.45),
                    300_000,
                    30,
                ));
                distributions.push(draw.distribution(subject, "join", &params, (age * 2.0, 0.6), 900, 0));
            }
        }
    }
    Scenario {
        name: "relay".to_owned(),
        about:
            "Publishers and players over loopback RTMP on a schedule that waits for nobody; every frame is checked."
                .to_owned(),
        config: config(&[
            ("publishers", "1"),
            ("bitrate", "2.5 Mb/s"),
            ("window", "6 s"),
            ("target", "(own server)"),
        ]),
        repetitions: 5,
        warnings: vec!["the generator's core was 93 % busy with 2,000 players: ages there are too high".to_owned()],
        figures,
        distributions,
    }
}

fn memory(draw: &mut Draw) -> Scenario {
    let mut none = figure("shardcast", "per idle stream", "B", &[], Vec::new());
    none.goal = Some(Goal { bound: 4096.0, why: "a page".to_owned() });
    let per = figure("shardcast", "per subscriber", "B", &[("streams", "1")], draw.around(112.0, 0.001));
    Scenario {
        name: "memory".to_owned(),
        about: "Bytes per idle stream, subscriber and connection.".to_owned(),
        repetitions: 5,
        warnings: vec!["per idle stream: the allocator gave no count, so there is no number".to_owned()],
        figures: vec![none, per],
        ..Scenario::default()
    }
}

fn config(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    owned(pairs).into_iter().collect()
}

/// Made-up numbers, the same ones each time.
struct Draw(Random);

impl Draw {
    /// Evenly between 0 and 1, never 0.
    fn unit(&mut self) -> f64 {
        (f64::from(u32::try_from(self.0.next() >> 32).unwrap()) + 1.0) / 4_294_967_297.0
    }

    /// Five repetitions within `spread` of the middle.
    fn around(&mut self, middle: f64, spread: f64) -> Vec<f64> {
        (0..5).map(|_| middle * (1.0 + spread * (2.0 * self.unit() - 1.0))).collect()
    }

    /// Log-normal, and one in five hundred comes from a tail ten times as far out.
    fn latency(&mut self, middle: f64, sigma: f64) -> u64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        let tail = if self.unit() < 0.002 { 10.0 * self.unit().powf(-0.4) } else { 1.0 };
        format!("{:.0}", middle * (sigma * normal).exp() * tail + 1.0).parse().unwrap()
    }

    fn distribution(
        &mut self,
        subject: &str,
        metric: &str,
        params: &[(&str, &str)],
        (middle, sigma): (f64, f64),
        count: u32,
        intervals: u32,
    ) -> Distribution {
        let samples: Vec<u64> = (0..count).map(|_| self.latency(middle, sigma)).collect();
        let all = histogram(&samples);
        let beyond = |q: f64| (1.0 - q) * f64::from(count) >= 19.999;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a test")]
        let at = |q| all.value_at_quantile(q) as f64;
        let parts = samples.chunks(samples.len().checked_div(intervals as usize).unwrap_or(usize::MAX).max(1));
        let parts = parts.take(intervals as usize).enumerate().map(|(at, part)| Interval {
            start_s: f64::from(u32::try_from(at).unwrap()),
            length_s: 1.0,
            histogram: encode(&histogram(part)).unwrap(),
        });
        Distribution {
            subject: subject.to_owned(),
            metric: metric.to_owned(),
            params: owned(params),
            count: u64::from(count),
            quantiles: QUANTILES.into_iter().filter(|q| beyond(*q)).map(|q| (q, at(q))).collect(),
            max: at(1.0),
            p50s: sorted(&self.around(at(0.5), 0.03)),
            histogram: encode(&all).unwrap(),
            intervals: parts.collect(),
        }
    }
}
