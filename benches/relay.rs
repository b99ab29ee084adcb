//! RTMP relaying, end to end: what a viewer costs the server, and what the viewer gets.
//!
//! The same scenario as `shardcast bench relay`, which has options, tables and reports.

use std::path::PathBuf;
use std::process::ExitCode;

use shardcast::bench::model::{Figure, Scenario};
use shardcast::bench::relay::{self, IdleSettings, Programs, RelayError, Settings, Subject};
use shardcast::bench::{Context, Progress, Size};

const PART: &str = "relay-part";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    // `cargo bench` passes --bench, `cargo test` does not.
    let size = if has("--bench") { Size::Standard } else { Size::Test };
    match if has(PART) { relay::part() } else { measure(size) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(size: Size) -> Result<(), RelayError> {
    let cores: Vec<usize> = (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    let context = Context { size, cores: &cores, progress: &Lines };
    let mut programs = Programs::own(&[PART])?;
    if let Some(built) = option_env!("CARGO_BIN_EXE_shardcast") {
        programs.shardcast = PathBuf::from(built);
    }
    let mut settings = Settings::of(size, programs.clone());
    let has_server = option_env!("CARGO_BIN_EXE_shardcast").is_some();
    settings.subjects.retain(|subject| has_server || *subject == Subject::Floor);
    if size != Size::Test {
        settings.subjects.push(Subject::Nginx);
    }
    let scenario = relay::run(&settings, &context)?;
    show(&scenario);
    if size == Size::Test {
        check(&settings, &scenario);
    }
    if has_server {
        let scenario = relay::run_idle(&IdleSettings::of(size, programs), &context)?;
        show(&scenario);
        assert_eq!(values(&scenario, "shardcast", "connections held").len(), scenario.repetitions);
    }
    Ok(())
}

/// Nothing that depends on how quiet the machine is: every viewer was there, every frame came and was right.
fn check(settings: &Settings, scenario: &Scenario) {
    let players: usize = settings.players.iter().sum::<usize>() * settings.streams as usize;
    for subject in &settings.subjects {
        let name = subject.to_string();
        let sum = |metric| values(scenario, &name, metric).iter().sum::<f64>();
        let is_floor = *subject == Subject::Floor;
        let slow = if is_floor { 0.0 } else { 2.0 };
        assert_eq!(sum("viewers"), players as f64 - slow, "{name}: {:?}", scenario.warnings);
        assert!(sum("frames verified") >= sum("viewers") * 70.0, "{name}: {}", sum("frames verified"));
        for metric in
            ["frames missing", "gaps", "frames repeated", "frames reordered", "frames corrupt", "viewers lost"]
        {
            assert_eq!(values(scenario, &name, metric), [0.0], "{name}: {metric}: {:?}", scenario.warnings);
        }
        assert!(sum("CPU per viewer-second") > 0.0 && sum("resident memory") > 0.0, "{name}");
        if !is_floor {
            assert_eq!(values(scenario, &name, "visitors without a keyframe"), [0.0], "{name}");
            assert!(sum("visitors") >= 9.0 && sum("slow readers") == slow, "{name}: {} visitors", sum("visitors"));
        }
    }
}

fn values(scenario: &Scenario, subject: &str, metric: &str) -> Vec<f64> {
    let same = |figure: &&Figure| figure.subject == subject && figure.metric == metric;
    scenario.figures.iter().find(same).map(|figure| figure.values.clone()).unwrap_or_default()
}

fn show(scenario: &Scenario) {
    println!("{}: {}", scenario.name, scenario.about);
    for Figure { subject, params, metric, unit, values, .. } in &scenario.figures {
        let params: Vec<String> = params.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        let median = values[values.len() / 2];
        println!(
            "{subject:<12} {:<32} {metric:<40} {median:>12.2} [{least:.2} - {most:.2}] {unit}",
            params.join(", ")
        );
    }
    for distribution in &scenario.distributions {
        let at = |(quantile, ns): &(f64, f64)| format!("p{} {:.2}", quantile * 100.0, ns / 1e6);
        let quantiles: Vec<String> = distribution.quantiles.iter().map(at).collect();
        let (max, merge) = (distribution.max / 1e6, distribution.params.get(1).map_or("", |(_, merge)| merge));
        println!(
            "{:<12} {merge:<8} {:<42} {} max {max:.2} ms",
            distribution.subject,
            distribution.metric,
            quantiles.join(" ")
        );
    }
    for warning in &scenario.warnings {
        println!("warning: {warning}");
    }
}

struct Lines;

impl Progress for Lines {
    fn step(&self, done: usize, all: usize, what: &str) {
        eprintln!("[{done}/{all}] {what}");
    }

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}
