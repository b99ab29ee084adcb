//! `relay`: the real thing over sockets. Servers from outside, under an open-loop load, judged by what arrives.
//!
//! This process starts a server on one core and a generator on another, run after run; both are processes of their
//! own, the generator this program itself, started again with [`part`]. Publishers send on a schedule that is fixed at
//! the start and never moved, so a server that stalls is not spared; each frame carries its number, the time that it
//! was due, and a checksum in user data that any server passes on. What the server used is read from `/proc`.
//!
//! Over loopback the sender pays for much of what receiving costs: compare with the floor, not with a network card.

mod cell;
pub(super) mod chunk;
mod crowd;
mod error;
mod figures;
mod floor;
mod generator;
mod h264;
mod histogram;
mod hold;
mod idle;
pub(super) mod link;
pub(super) mod media;
mod outcome;
mod plan;
mod process;
mod publisher;
pub(super) mod session;
mod settings;
mod stamp;
mod subject;
mod talk;
mod timing;
mod url;
mod validity;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;

use super::Context;
use super::model::Scenario;
use cell::{Cell, Pins, Run};
use figures::Row;
use plan::{Plan, Said};
use talk::Orders;
use validity::{Fault, faults};

pub use error::RelayError;
pub use idle::{IdleSettings, run as run_idle};
pub use settings::{Merge, Programs, Settings, Slow, SlowKind};
pub use subject::Subject;
pub use url::Url;

/// A run that was disturbed by others is made again so often.
const RETRIES: usize = 1;

/// Runs it.
///
/// # Errors
///
/// If nobody who is to be measured can be started here, or a setting makes no sense. A run that fails is a warning in
/// the result.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, RelayError> {
    settings.check()?;
    let pins = Pins::choose(settings.server_core, &settings.generator_cores, context.cores);
    let mut scenario = Scenario {
        name: "relay".into(),
        about:
            "Publishers and players over RTMP on loopback, open loop; CPU and memory of the server from the system, \
                everything else judged at the players."
                .into(),
        repetitions: settings.repetitions,
        ..Scenario::default()
    };
    let config = figures::config(settings).into_iter().map(|(name, value)| (name.to_owned(), value));
    scenario.config.extend(config);
    scenario.config.insert("cores".into(), pins.to_string());
    if pins.generators.contains(&pins.server) {
        scenario.warnings.push(format!("server and generator share core {}", pins.server));
    }
    let pinned = pins.generators.iter().chain([&pins.server]);
    let lost = pinned.filter(|core| !context.cores.contains(core));
    scenario.warnings.extend(lost.map(|core| format!("core {core} cannot be had: what was to run there floats")));

    let (there, absent): (Vec<&Subject>, Vec<&Subject>) =
        settings.subjects.iter().partition(|subject| subject.is_there(&settings.programs).is_ok());
    let absent = absent.into_iter().filter_map(|subject| subject.is_there(&settings.programs).err());
    nobody_is_there(&mut scenario, absent, there.is_empty())?;
    let mut rows: Vec<Row> = cells(settings, &there).map(|cell| Row { cell, runs: Vec::new() }).collect();
    let all = rows.len() * settings.repetitions;
    for repetition in 0..settings.repetitions {
        for i in 0..rows.len() {
            let what = format!("{}, repetition {} of {}", rows[i].cell, repetition + 1, settings.repetitions);
            context.progress.step(repetition * rows.len() + i, all, &what);
            let run = repeat(settings, &pins, &rows[i].cell, |warning| {
                let warning = format!("{what}: {warning}");
                context.progress.note(&warning);
                scenario.warnings.push(warning);
            });
            rows[i].runs.push(run);
        }
    }
    (scenario.figures, scenario.distributions) = figures::all(settings, &rows);
    Ok(scenario)
}

/// Does what the plan on the standard input says: the program that [`Programs::part`] starts comes here, prints
/// nothing else, and ends.
///
/// # Errors
///
/// What went wrong; it has been said to the one who started this part, too.
pub fn part() -> Result<(), RelayError> {
    let done = match Orders::plan() {
        Ok(Plan::Generate(load)) => generator::run(&load, Orders::listen, &mut talk::say)
            .map(|outcome| talk::say(&Said::Outcome(Box::new(outcome)))),
        Ok(Plan::Floor(plan)) => {
            talk::end_with_input();
            floor::run(&plan, &mut talk::say)
        }
        Ok(Plan::Hold(plan)) => hold::run(&plan, Orders::listen, &mut talk::say),
        Err(error) => Err(error),
    };
    done.inspect_err(|error| talk::say(&Said::Failed(error.to_string())))
}

/// All combinations, in the order in which they take turns.
fn cells<'a>(settings: &'a Settings, subjects: &'a [&'a Subject]) -> impl Iterator<Item = Cell> + 'a {
    let streams = usize::try_from(settings.streams).unwrap_or(usize::MAX);
    settings.players.iter().flat_map(move |players| {
        subjects.iter().flat_map(move |subject| {
            let merges = if subject.merges() { settings.merges.as_slice() } else { &[Merge::AudioRides] };
            let cell =
                |merge: &Merge| Cell { subject: (*subject).clone(), merge: *merge, players: players * streams };
            merges.iter().map(cell).collect::<Vec<_>>()
        })
    })
}

/// Runs a cell, and again if it was disturbed.
fn repeat(settings: &Settings, pins: &Pins, cell: &Cell, mut warn: impl FnMut(String)) -> Option<(Run, Vec<Fault>)> {
    for retries_left in (0..=RETRIES).rev() {
        let run = match cell.run(settings, pins) {
            Ok(run) => run,
            Err(error) => {
                warn(format!("failed: {error}"));
                return None;
            }
        };
        let faults = faults(&run);
        if !faults.is_empty() {
            let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
            warn(format!("not valid: {}", said.join("; ")));
        }
        // What the server did wrong is a result.
        let again = !settings.keeps_invalid && !faults.is_empty() && faults.iter().all(Fault::is_disturbance);
        if !again || retries_left == 0 {
            return Some((run, faults));
        }
    }
    None
}

/// Warns of subjects that are not there; an error if there is no other.
fn nobody_is_there(
    scenario: &mut Scenario,
    absent: impl Iterator<Item = RelayError>,
    nobody: bool,
) -> Result<(), RelayError> {
    let mut absent = absent.peekable();
    match absent.next_if(|_| nobody) {
        Some(first) => Err(first),
        None => {
            scenario.warnings.extend(absent.map(|error| format!("not measured: {error}")));
            Ok(())
        }
    }
}

impl Pins {
    /// As it was asked for; else the server gets the first core and the generator the second.
    fn choose(server: Option<usize>, generators: &[usize], cores: &[usize]) -> Self {
        let core = |place: usize| cores.get(place).or_else(|| cores.last()).copied().unwrap_or(0);
        let generators = if generators.is_empty() { vec![core(1)] } else { generators.to_vec() };
        Self { server: server.unwrap_or_else(|| core(0)), generators }
    }
}

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generators: Vec<String> = self.generators.iter().map(ToString::to_string).collect();
        write!(f, "server on {}, generator on {}", self.server, generators.join(", "))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merge = if self.subject.merges() { self.merge.to_string() } else { figures::AS_IT_IS.to_owned() };
        write!(f, "{}, merge {merge}, {} players", self.subject, self.players)
    }
}
