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

const HELP: &str = "\
Scenarios:
  fanout   what a delivery costs, publisher and subscribers on one core and on two, and what an unpaced publisher loses
  latency  from the publisher's call to the subscriber, subscribers' core spinning and asleep
  join     from the call to a keyframe and to the live edge, and whether a frame is missing or comes twice
  publish  what a frame costs that nobody watches
  memory   resident bytes of a subscriber and of a stream

Who is measured:
  shardcast                 sinks on the shard; where there is a host's publisher, its frames come through a ring
  shardcast: subscriptions  a host's thread receives through a ring for each of its subscriptions
  arcly-stream, tasks       a task for each subscriber awaits frames, as its documentation asks for; one pinned
                            current-thread runtime, which is tokio's cheapest
  arcly-stream, polled      one pinned thread asks all raw receivers in turn: less than any of its protocols does, and
                            the cheapest way in
  tokio::sync::broadcast    the channel under it alone, in the same two ways
  crossbeam-channel each    a bounded channel for each subscriber

How to read it:
  All get the same frames on the same cores, in rounds in which they take turns; the table has the median of the
  rounds with the least and the greatest, and the ratio to shardcast. Every subscriber checks the number, the length
  and both ends of every frame that is timed, and in the first round every byte of some more. What a peer loses,
  repeats or damages is in the table; if shardcast does, the run fails. The rest of what these programs do over
  sockets is measured by tools/peers/relay.sh.

Examples:
  cargo run --release --manifest-path tools/peers/Cargo.toml
  cargo run --release --manifest-path tools/peers/Cargo.toml -- fanout join --size smoke --json peers.json";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [memory::PART, name, count] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return ended(memory::run_part(name, count).map(|held| println!("{held}")));
    }
    ended(run(&Args::parse()))
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("shardcast-peers: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let cores = cores(&args.cores)?;
    let display = progress::display();
    let context = Context { size: args.size, cores: &cores, progress: &Shown(&*display) };
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let outcome = suite::run(jobs(&args.scenarios), args.size.name(), command, &context, &|name, at, of| {
        display.scenario(name, at, of);
    });
    display.finish();
    print!("{}", table::table(&outcome.report));
    for (file, text) in [(&args.json, json::write(&outcome.report)), (&args.html, html::page(&outcome.report))] {
        let Some(file) = file else { continue };
        std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let failures: Vec<_> = outcome.failures.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nshardcast-peers: ")) }
}

/// Those that are given, if they are there; else all.
fn cores(given: &[usize]) -> Result<Vec<usize>, String> {
    let all = machine::cores();
    match given.iter().find(|core| !all.contains(core)) {
        Some(absent) => Err(format!("--cores {absent}: this process may use {all:?}")),
        None => Ok(if given.is_empty() { all } else { given.to_vec() }),
    }
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
