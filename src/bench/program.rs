//! What the programs under `benches/` are: a scenario or two each, at the size that cargo asks for.

use std::process::ExitCode;

use super::memory::{self, Count};
use super::report;
use super::suite::{self, Job};
use super::{Context, Progress, Size, machine};

/// Runs scenarios at [`Size::Standard`] under `cargo bench` and at [`Size::Test`] under `cargo test`, which passes no
/// `--bench`, and prints their table. It fails if one of them does or is not valid.
#[must_use]
pub fn main(jobs: impl FnOnce(Size) -> Vec<Job<'static>>) -> ExitCode {
    let size = if std::env::args().any(|argument| argument == "--bench") { Size::Standard } else { Size::Test };
    let cores = machine::cores();
    let context = Context { size, cores: &cores, progress: &Quiet };
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let outcome = suite::run(jobs(size), size.name(), command, &context, &|_, _, _| {});
    println!("{}", report::table::table(&outcome.report));
    for (name, error) in &outcome.failures {
        eprintln!("error: {name}: {error}");
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a program that [`memory::Again`] starts does, if these are the arguments of one: it prints what the part holds.
#[must_use]
pub fn part(arguments: &[String], count: Option<Count>) -> Option<ExitCode> {
    let [word, name, number] = arguments else { return None };
    if word != PART {
        return None;
    }
    let held = number.parse().map_err(|_| format!("{number} is no count")).and_then(|number| {
        let held = memory::part(name, number, count).map_err(|error| error.to_string())?;
        serde_json::to_string(&held).map_err(|error| error.to_string())
    });
    Some(match held {
        Ok(held) => {
            println!("{held}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

/// The first argument of a part.
pub const PART: &str = "memory-part";

/// The table says it all.
struct Quiet;

impl Progress for Quiet {
    fn step(&self, _: usize, _: usize, _: &str) {}

    fn note(&self, _: &str) {}
}
