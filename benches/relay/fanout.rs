//! `relay`: one publisher, N viewers, each target and mode in turn, round after round.

use std::io;
use std::process::Stdio;

use super::generator::Plan;
use super::machine::HiccupMeter;
use super::measures::Measures;
use super::process::Guarded;
use super::report::{self, Run};
use super::target::{Mode, Target, Wanted};

/// The name that is published.
const STREAM: &str = "bench";

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) targets: Vec<Target>,
    pub(crate) modes: Vec<Mode>,
    pub(crate) players: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) window_ms: u64,
    pub(crate) warm_up_ms: u64,
    /// 0 for a quarter of the viewers, but 100 at least.
    pub(crate) joins_per_s: u64,
    pub(crate) server_core: usize,
    pub(crate) generator_core: usize,
}

/// Runs all of it, printing a table for each number of viewers.
pub(crate) fn run(settings: &Settings, runs: &mut Vec<Run>, remarks: &mut Vec<String>) {
    for players in &settings.players {
        let meters = [settings.server_core, settings.generator_core].map(HiccupMeter::start);
        let first = runs.len();
        for round in 0..settings.rounds {
            for (target, mode) in cells(settings) {
                let label = if target.has_modes() { mode.to_string() } else { "-".to_owned() };
                eprintln!("{players} viewers, round {} of {}: {target} {label}", round + 1, settings.rounds);
                let result = cell(settings, &target, mode, *players).map_err(|error| error.to_string());
                if let Err(error) = &result {
                    eprintln!("warning: {target} {label}: {error}");
                }
                runs.push(Run {
                    scenario: "relay",
                    players: *players,
                    joins: target != Target::Floor,
                    target: target.to_string(),
                    mode: label,
                    result,
                });
            }
        }
        let (rounds, seconds) = (settings.rounds, settings.window_ms / 1000);
        println!("\n{players} viewers; median [least-most] of {rounds} rounds of {seconds} s");
        print!("{}", report::table(&runs[first..]));
        for meter in meters {
            let line = format!("{players} viewers, {}", meter.stop());
            println!("{line}");
            remarks.push(line);
        }
    }
    println!("{}", report::LEGEND);
}

/// One run: a fresh server, a fresh generator.
pub(crate) fn cell(settings: &Settings, target: &Target, mode: Mode, players: usize) -> io::Result<Measures> {
    let server =
        target.start(Wanted { mode, connections: players, core: settings.server_core, absent_waits: false })?;
    let joins_per_s = match settings.joins_per_s {
        0 => (players as u64 / 4).max(100),
        given => given,
    };
    let plan = Plan {
        address: server.address,
        app: server.app.clone(),
        publish: if *target == Target::Floor { None } else { Some(STREAM.to_owned()) },
        play: target.play_name(STREAM, mode),
        players,
        joins_per_s,
        warm_up_ms: settings.warm_up_ms,
        window_ms: settings.window_ms,
        server: server.pid,
        cores: vec![settings.server_core, settings.generator_core],
    };
    let mut command = super::process::command(&std::env::current_exe()?, players + 64)?;
    command.arg("generate").args(plan.arguments()).stdin(Stdio::null()).stdout(Stdio::piped());
    let generator = Guarded::spawn(command, Some(settings.generator_core))?;
    Ok(Measures::read(&generator.output()?))
}

fn cells(settings: &Settings) -> Vec<(Target, Mode)> {
    let modes = |target: &Target| if target.has_modes() { settings.modes.clone() } else { vec![Mode::Default] };
    settings.targets.iter().flat_map(|target| modes(target).into_iter().map(|mode| (target.clone(), mode))).collect()
}
