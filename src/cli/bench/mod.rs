//! `shardcast bench`: the harness on the command line. One file for what all of it has in common, one for each group of
//! subcommands.

mod compare;
mod output;
mod relay;
mod scenarios;
mod suite;

use std::process::ExitCode;

use clap::Subcommand;
use shardcast::bench::memory::Count;
use shardcast::bench::program;

use super::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The ring between two shards: push and pop, full speed and one message at a time between two cores
    Ring(scenarios::Ring),
    /// How long a frame is under way: shard to shard and through the host, shards spinning and asleep
    Hop(scenarios::Hop),
    /// What a delivery costs, with 1 to 10,000 subscribers, on one shard and across two
    Fanout(scenarios::Fanout),
    /// What a frame costs its publisher and its shard with nobody watching, GOP cache on and off
    Publish(scenarios::Publish),
    /// How soon a subscriber has the first keyframe, and is at the live edge
    Join(scenarios::Join),
    /// What telling a fact to the audit trail costs: channel empty, sink blocked, channel full
    Audit(scenarios::Audit),
    /// Bytes that an idle stream, subscriber and connection hold
    Memory(scenarios::Memory),
    /// How much later a stream is for what others do on its shard: joiners, storms, large keyframes
    Fair(scenarios::Fair),
    /// Servers under load, over sockets: this one, nginx-rtmp, any other by its address
    Relay(Box<relay::Args>),
    /// Every scenario, one after the other
    Suite(suite::Args),
    /// Put two results beside each other, and say what differs by more than noise
    Compare(compare::Args),
    /// A part of `memory` in a process of its own
    #[command(hide = true, name = program::PART)]
    MemoryPart { part: String, count: String },
    /// A part of `relay` in a process of its own
    #[command(hide = true)]
    RelayPart,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Ring(args) => args.run(),
        What::Hop(args) => args.run(),
        What::Fanout(args) => args.run(),
        What::Publish(args) => args.run(),
        What::Join(args) => args.run(),
        What::Audit(args) => args.run(),
        What::Memory(args) => args.run(),
        What::Fair(args) => args.run(),
        What::Relay(args) => args.run(),
        What::RelayPart => relay::run_part(),
        What::Suite(args) => suite::run(&args),
        What::Compare(args) => compare::run(&args),
        What::MemoryPart { part, count } => match program::part(&[program::PART.to_owned(), part, count], COUNT) {
            Some(ExitCode::SUCCESS) => Ok(()),
            _ => Err(Failure::runtime("the part could not be measured")),
        },
    }
}

/// What makes this program a part of `memory`.
const PART: [&str; 2] = ["bench", program::PART];

/// A program that serves does not count its allocations, unless it was built for it.
#[cfg(not(feature = "count-allocations"))]
const COUNT: Option<Count> = None;
#[cfg(feature = "count-allocations")]
const COUNT: Option<Count> = Some(heap::count);

#[cfg(feature = "count-allocations")]
mod heap {
    //! The allocator of a program that was built to count.

    use std::alloc::System;

    use shardcast::bench::memory::Counted;
    use stats_alloc::StatsAlloc;

    #[global_allocator]
    static HEAP: StatsAlloc<System> = StatsAlloc::system();

    pub(super) fn count() -> Counted {
        let stats = HEAP.stats();
        Counted {
            allocated: stats.bytes_allocated as u64,
            freed: stats.bytes_deallocated as u64,
            allocations: (stats.allocations + stats.reallocations) as u64,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  shardcast bench suite --size smoke              all of it within a minute; rough numbers
  shardcast bench suite --json a.json --html a.html
  shardcast bench compare a.json b.json           what differs by more than noise
  shardcast bench fanout --subscribers 10,1000 --payload 1200,64KiB
  shardcast bench hop --cores 2,3 --repetitions 9
  shardcast bench relay --players 1000 --peer nginx

What the numbers are worth:
  Every scenario verifies what was delivered. One that lost something or was disturbed too much
  has no numbers, and the exit code is 1. Numbers are medians of repetitions that take turns,
  with the least and the greatest. The machine's own disturbance is measured beside them: look
  at the warnings first. Compare a figure with the floor of the same run, not with that of
  another machine.";
