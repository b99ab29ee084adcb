//! `shardcast bench suite`: every scenario, one after the other.

use shardcast::bench::memory::Again;
use shardcast::bench::relay::Programs;
use shardcast::bench::suite;

use super::output::{self, Output, Scope};
use super::{COUNT, PART, relay};
use crate::cli::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    scope: Scope,

    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let jobs = || {
        let again = Again::this(&PART).map_err(Failure::runtime)?;
        let programs = Programs::own(&relay::PART).map_err(Failure::runtime)?;
        Ok(suite::all(Some(again), COUNT, Some(programs)))
    };
    output::run(jobs, args.scope.size.name(), &args.scope, &args.output)
}

const EXAMPLES: &str = "\
Examples:
  shardcast bench suite --size smoke                     within a minute
  shardcast bench suite --json now.json --html now.html --hlog logs
  shardcast bench compare before.json now.json";
