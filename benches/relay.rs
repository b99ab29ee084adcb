//! RTMP relaying, end to end: what a viewer costs the server, and what the viewer gets.
//!
//! The same scenario as `shardcast bench relay`, which has options, tables and reports.

use std::path::PathBuf;
use std::process::ExitCode;

use shardcast::bench::model::{Figure, Scenario};
use shardcast::bench::relay::{self, IdleSettings, Programs, RelayError, Settings, Subject};
use shardcast::bench::suite::Job;
use shardcast::bench::{Context, Size, program};

const PART: &str = "relay-part";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == PART) {
        return relay::part().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    program::main(|_| {
        let mut jobs = vec![Job::new("relay", |context| Ok(measure(context)?))];
        if SERVER.is_some() {
            jobs.push(Job::new("idle", |context| Ok(idle(context)?)));
        }
        jobs
    })
}

/// The server, where it is built with this program.
const SERVER: Option<&str> = option_env!("CARGO_BIN_EXE_shardcast");

fn programs() -> Result<Programs, RelayError> {
    let own = Programs::own(&[PART])?;
    Ok(match SERVER {
        Some(built) => Programs { shardcast: PathBuf::from(built), ..own },
        None => own,
    })
}

fn measure(context: &Context<'_>) -> Result<Scenario, RelayError> {
    let mut settings = Settings::of(context.size, programs()?);
    settings.subjects.retain(|subject| SERVER.is_some() || *subject == Subject::Floor);
    if context.size != Size::Test {
        settings.subjects.push(Subject::Nginx);
    }
    let scenario = relay::run(&settings, context)?;
    if context.size == Size::Test {
        check(&settings, &scenario);
    }
    Ok(scenario)
}

fn idle(context: &Context<'_>) -> Result<Scenario, RelayError> {
    let scenario = relay::run_idle(&IdleSettings::of(context.size, programs()?), context)?;
    assert_eq!(values(&scenario, "shardcast", "connections held").len(), scenario.repetitions);
    Ok(scenario)
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
