//! What every subcommand has in common: how much, on which cores, and where the result goes.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use shardcast::bench::report::progress::{Display, display};
use shardcast::bench::report::{hlog, html, json, table};
use shardcast::bench::suite::{self, Job, Outcome};
use shardcast::bench::{Context, Progress, Size, machine};

use crate::cli::Failure;

/// How much is measured, and where.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Scope {
    /// How much: smoke is rough and takes seconds, standard has five repetitions at least, full has every parameter
    #[arg(long, value_name = "SIZE", default_value = "standard", value_parser = size)]
    pub(super) size: Size,

    /// The cores to pin threads to, the first two first [default: all that this process may use]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Vec<usize>,
}

/// Where the result goes besides the terminal.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Output {
    /// Write the result for programs, and for `bench compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the result as one page with plots, which opens offline
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write HdrHistogram interval logs into this directory
    #[arg(long, value_name = "DIR")]
    hlog: Option<PathBuf>,

    /// Do not show how far it is
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the scenarios, prints their table, writes what is asked for, and fails if one of them did or is not valid.
///
/// `size` is the word for it in the report.
pub(super) fn run(
    jobs: impl FnOnce() -> Result<Vec<Job<'static>>, Failure>,
    size: &str,
    scope: &Scope,
    output: &Output,
) -> Result<(), Failure> {
    let cores = cores(&scope.cores)?;
    // What can't be written is known before anything is measured for minutes.
    output.check()?;
    let display: Box<dyn Display> = if output.quiet { Box::new(Silent) } else { display() };
    let context = Context { size: scope.size, cores: &cores, progress: &Forward(&*display) };
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let outcome = suite::run(jobs()?, size, command, &context, &|name, at, of| display.scenario(name, at, of));
    display.finish();
    let verdict = verdict(&outcome);
    // Of a setting that makes no sense there is no result.
    if verdict.as_ref().is_err_and(|failure| failure.code == USAGE) {
        return verdict;
    }
    output.write(&outcome)?;
    verdict
}

fn verdict(outcome: &Outcome) -> Result<(), Failure> {
    let Some((_, first)) = outcome.failures.first() else { return Ok(()) };
    let sentences: Vec<String> = outcome.failures.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    let sentence = sentences.join("\nshardcast: ");
    let usage = outcome.failures.len() == 1 && first.is_usage();
    Err(if usage { Failure::usage(sentence) } else { Failure::runtime(sentence) })
}

/// The code of [`Failure::usage`].
const USAGE: u8 = 2;

/// Those that are given, if they are there; else all.
fn cores(given: &[usize]) -> Result<Vec<usize>, Failure> {
    let all = machine::cores();
    if given.is_empty() {
        return Ok(all);
    }
    if let Some(absent) = given.iter().find(|core| !all.contains(core)) {
        let known: Vec<String> = all.iter().map(ToString::to_string).collect();
        return Err(Failure::usage(format!("--cores {absent}: this process may use {}", known.join(", "))));
    }
    if let Some(twice) = given.iter().enumerate().find(|(at, core)| given[..*at].contains(core)) {
        return Err(Failure::usage(format!("--cores {}: named twice", twice.1)));
    }
    Ok(given.to_vec())
}

impl Output {
    fn check(&self) -> Result<(), Failure> {
        for (option, file) in [("--json", &self.json), ("--html", &self.html)] {
            let Some(file) = file else { continue };
            let folder =
                file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            if !folder.is_dir() {
                return Err(Failure::usage(format!("{option} {}: there is no such folder", file.display())));
            }
            if file.is_dir() {
                return Err(Failure::usage(format!("{option} {}: that is a folder", file.display())));
            }
        }
        let Some(folder) = &self.hlog else { return Ok(()) };
        fs::create_dir_all(folder).map_err(|error| Failure::usage(format!("--hlog {}: {error}", folder.display())))
    }

    fn write(&self, outcome: &Outcome) -> Result<(), Failure> {
        let report = &outcome.report;
        let out = std::io::stdout();
        let text = if out.is_terminal() { table::table_in_colour(report) } else { table::table(report) };
        // Whoever closes the pipe has read enough.
        let _ = out.lock().write_all(text.as_bytes());
        let write = |file: &Path, text: &str| {
            fs::write(file, text)
                .map_err(|error| Failure::runtime(format!("cannot write {}: {error}", file.display())))
        };
        if let Some(file) = &self.json {
            write(file, &json::write(report))?;
        }
        if let Some(file) = &self.html {
            write(file, &html::page(report))?;
        }
        if let Some(folder) = &self.hlog {
            for (name, log) in hlog::logs(report).map_err(Failure::runtime)? {
                write(&folder.join(name), &log)?;
            }
        }
        Ok(())
    }
}

fn size(word: &str) -> Result<Size, String> {
    let sizes = [Size::Smoke, Size::Standard, Size::Full];
    let known = sizes.into_iter().find(|size| size.name() == word);
    known.ok_or_else(|| "smoke, standard or full".to_owned())
}

/// A display as what a scenario knows of it.
struct Forward<'a>(&'a dyn Display);

impl Progress for Forward<'_> {
    fn step(&self, done: usize, all: usize, what: &str) {
        self.0.step(done, all, what);
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }
}

/// Shows nothing: the table says it all.
struct Silent;

impl Progress for Silent {
    fn step(&self, _: usize, _: usize, _: &str) {}

    fn note(&self, _: &str) {}
}

impl Display for Silent {
    fn scenario(&self, _: &str, _: usize, _: usize) {}

    fn finish(&self) {}
}

#[cfg(test)]
mod tests {
    use shardcast::bench::BenchError;

    use super::*;

    #[test]
    fn cores_that_are_not_there_or_named_twice_are_refused() {
        let all = machine::cores();
        assert_eq!(cores(&[]).unwrap(), all);
        assert_eq!(cores(&all[..1]).unwrap(), &all[..1]);
        assert!(cores(&[99_999]).unwrap_err().sentence.contains("--cores 99999"));
        assert!(cores(&[all[0], all[0]]).unwrap_err().sentence.contains("twice"));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_before_anything_is_measured() {
        let output = |json: &str| Output { json: Some(json.into()), html: None, hlog: None, quiet: true };
        assert!(output("/no such folder/x.json").check().unwrap_err().sentence.contains("no such folder"));
        assert!(output("/").check().is_err());
        assert!(output("x.json").check().is_ok());
    }

    #[test]
    fn a_scenario_that_is_not_valid_ends_in_code_1_and_a_wrong_setting_in_code_2() {
        let outcome =
            |error| Outcome { report: shardcast::bench::model::Report::default(), failures: vec![("hop", error)] };
        let invalid = outcome(BenchError::Wrong { what: "frames", found: 1, expected: 2 });
        assert_eq!(verdict(&invalid).unwrap_err().code, 1);
        let setting = outcome(BenchError::Setting { name: "GOP", value: 0, rule: "1 to 4,096 frames" });
        let failure = verdict(&setting).unwrap_err();
        assert_eq!((failure.code, &*failure.sentence), (2, "hop: GOP of 0: 1 to 4,096 frames"));
        assert!(verdict(&Outcome { failures: Vec::new(), ..invalid }).is_ok());
    }
}
