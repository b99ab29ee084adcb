//! The same work on shardcast and on other libraries, in one run: see `--help`.

mod bus;
mod check;
mod fanout;
mod join;
mod latency;
mod memory;
mod publish;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use shardcast::bench::report::{html, json, progress, table};
use shardcast::bench::suite::{self, Job};
use shardcast::bench::{Context, Progress, Size, machine};

/// The same work on shardcast, arcly-stream, tokio::sync::broadcast and a crossbeam-channel per subscriber
#[derive(Debug, Parser)]
#[command(name = "shardcast-peers", after_help = HELP)]
struct Args {
    /// What to measure [default: all of it]
    #[arg(value_name = "SCENARIO", value_parser = ["fanout", "latency", "join", "publish", "memory"])]
    scenarios: Vec<String>,

    /// How much: smoke has two rounds and takes half a minute, standard has five, full nine
    #[arg(long, value_name = "SIZE", default_value = "standard", value_parser = size)]
    size: Size,

    /// The cores to pin threads to: the publisher's, then the subscribers' [default: the first two]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Vec<usize>,

    /// Write the result for programs, and for `shardcast bench compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the result as one page with plots, which opens offline
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const HELP: &str = "TODO";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [memory::PART, name, count] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return match memory::run_part(name, count) {
            Ok(held) => {
                println!("{held}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let args = Args::parse();
    let cores = if args.cores.is_empty() { machine::cores() } else { args.cores.clone() };
    let display = progress::display();
    let context = Context { size: args.size, cores: &cores, progress: &Shown(&*display) };
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let outcome = suite::run(jobs(&args.scenarios), args.size.name(), command, &context, &|name, at, of| {
        display.scenario(name, at, of);
    });
    display.finish();
    print!("{}", table::table(&outcome.report));
    let files = [(args.json, json::write(&outcome.report)), (args.html, html::page(&outcome.report))];
    for (file, text) in files {
        let Some(file) = file else { continue };
        if let Err(error) = std::fs::write(&file, text) {
            eprintln!("error: cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    for (name, error) in &outcome.failures {
        eprintln!("error: {name}: {error}");
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Those that are named, or all.
fn jobs(named: &[String]) -> Vec<Job<'static>> {
    let wanted = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    let jobs = [
        ("fanout", Job::new("fanout", |context| fanout::run(&fanout::Settings::of(context.size), context))),
        ("latency", Job::new("latency", |context| latency::run(&latency::Settings::of(context.size), context))),
        ("join", Job::new("join", |context| join::run(&join::Settings::of(context.size), context))),
        ("publish", Job::new("publish", |context| publish::run(&publish::Settings::of(context.size), context))),
        ("memory", Job::new("memory", |context| memory::run(&memory::Settings::of(context.size), context))),
    ];
    jobs.into_iter().filter(|(name, _)| wanted(name)).map(|(_, job)| job).collect()
}

fn size(word: &str) -> Result<Size, String> {
    let sizes = [Size::Test, Size::Smoke, Size::Standard, Size::Full];
    let known = sizes.into_iter().find(|size| size.name() == word);
    known.ok_or_else(|| "smoke, standard or full".to_owned())
}

/// A display as what a scenario knows of it.
struct Shown<'a>(&'a dyn progress::Display);

impl Progress for Shown<'_> {
    fn step(&self, done: usize, all: usize, what: &str) {
        self.0.step(done, all, what);
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }
}
