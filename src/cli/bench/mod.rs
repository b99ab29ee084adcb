//! `shardcast bench`: the harness on the command line.

mod relay;

use clap::Subcommand;
use shardcast::bench::{Context, Progress, Size};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A server under load, over sockets
    Relay(Box<relay::Args>),
    /// A process of the harness, started by it
    #[command(hide = true)]
    RelayPart,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let What::Relay(args) = &args.what else { return relay::run_part() };
    let cores: Vec<usize> = (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    let scenario = relay::run(args, &Context { size: Size::Standard, cores: &cores, progress: &Lines })?;
    let json = serde_json::to_string_pretty(&scenario).map_err(Failure::runtime)?;
    println!("{json}");
    Ok(())
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
