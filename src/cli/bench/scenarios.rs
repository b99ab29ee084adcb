//! The scenarios in this process, each with what can be said about it; what is not said comes from the size.

use std::time::Duration;

use shardcast::bench::memory::Again;
use shardcast::bench::suite::Job;
use shardcast::bench::{audit, fair, fanout, hop, join, memory, publish, ring};

use super::output::{self, Output, Scope};
use super::{COUNT, PART};
use crate::cli::Failure;
use crate::cli::config::{parse_bytes, parse_duration};

/// What every scenario takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) scope: Scope,

    /// How often everything is measured, in turns
    #[arg(long, value_name = "N")]
    pub(super) repetitions: Option<usize>,

    #[command(flatten)]
    output: Output,
}

impl Common {
    /// `given`: something stands above the size.
    pub(super) fn run(
        &self,
        given: bool,
        job: impl FnOnce() -> Result<Job<'static>, Failure>,
    ) -> Result<(), Failure> {
        let size = if given || self.repetitions.is_some() { "custom" } else { self.scope.size.name() };
        output::run(|| Ok(vec![job()?]), size, &self.scope, &self.output)
    }
}

/// Puts what was given in the place of what the size says; whether something was.
fn set<T>(setting: &mut T, given: Option<T>) -> bool {
    given.map(|given| *setting = given).is_some()
}

/// The same for a list.
fn set_list<T>(setting: &mut Vec<T>, given: Vec<T>) -> bool {
    set(setting, Some(given).filter(|given| !given.is_empty()))
}

#[derive(Debug, clap::Args)]
#[command(after_help = RING)]
pub(super) struct Ring {
    #[command(flatten)]
    common: Common,

    /// Messages that the queues take
    #[arg(long, value_name = "N")]
    slots: Option<usize>,

    /// Messages pushed, then popped, on one thread
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    burst: Vec<usize>,

    /// Messages from one core to the other at full speed
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    /// Messages there and back, one at a time
    #[arg(long, value_name = "N")]
    round_trips: Option<u64>,
}

const RING: &str = "\
How to read it:
  push and pop on one thread        what the queue itself costs, its line always at hand
  message between two cores         at full speed; ns per message
  hop between two cores             half a round trip; floor is a bare cache line to and fro
Examples:
  shardcast bench ring --size smoke
  shardcast bench ring --slots 256 --burst 1,8,64";

impl Ring {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = ring::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set(&mut settings.slots, self.slots)
            | set_list(&mut settings.bursts, self.burst)
            | set(&mut settings.sent, self.messages)
            | set(&mut settings.round_trips, self.round_trips);
        self.common.run(given, || Ok(Job::new("ring", move |context| ring::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = HOP)]
pub(super) struct Hop {
    #[command(flatten)]
    common: Common,

    /// Frames of each way with shards that spin
    #[arg(long, value_name = "N")]
    frames: Option<u64>,

    /// From one of them to the next [default: 20us]
    #[arg(long, value_name = "TIME", value_parser = time)]
    period: Option<Duration>,

    /// Frames of each way with shards that sleep
    #[arg(long, value_name = "N")]
    parked_frames: Option<u64>,

    /// From one of them to the next [default: 2ms]
    #[arg(long, value_name = "TIME", value_parser = time)]
    parked_period: Option<Duration>,
}

const HOP: &str = "\
How to read it:
  shard 0 → shard 1                 from a source on one shard to a sink on the other
  source → sink on one shard        the same without the crossing
  host → … → host                   from Publisher::send to Subscription::recv
  floor                             a bare cache line, a bare ring, a bare wake-up
  With two cores the host's thread has none of its own.
Examples:
  shardcast bench hop --size smoke
  shardcast bench hop --cores 2,3,4 --parked-period 13ms";

impl Hop {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = hop::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set(&mut settings.spinning, self.frames)
            | set(&mut settings.spinning_period, self.period)
            | set(&mut settings.parked, self.parked_frames)
            | set(&mut settings.parked_period, self.parked_period);
        self.common.run(given, || Ok(Job::new("hop", move |context| hop::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = FANOUT)]
pub(super) struct Fanout {
    #[command(flatten)]
    common: Common,

    /// Subscribers of the stream; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    subscribers: Vec<usize>,

    /// Bytes of a frame, such as 200 or 64KiB; each is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = bytes)]
    payload: Vec<usize>,

    /// Frames that come between two turns of the shard; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    flush: Vec<u64>,

    /// Subscribers that are spread over one shard and over two; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "local")]
    across: Vec<usize>,

    /// One shard only
    #[arg(long)]
    local: bool,
}

const FANOUT: &str = "\
How to read it:
  delivery                          what one more subscriber costs the shard for each frame
  turn                              the same with the frame's own way, by its deliveries
  floor                             the same receivers in a bare loop: what is their own
  bookkeeping                       a delivery to a sink less that floor: the shard's own
  Receivers check number, length and end of every frame while they are timed: delivered
  means received and right.
Examples:
  shardcast bench fanout --size smoke
  shardcast bench fanout --subscribers 1,10,100,1000,10000 --payload 1200,64KiB --flush 1 --local";

impl Fanout {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = fanout::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set_list(&mut settings.subscribers, self.subscribers)
            | set_list(&mut settings.payloads, self.payload)
            | set_list(&mut settings.flushes, self.flush)
            | set_list(&mut settings.across, self.across)
            | self.local;
        if self.local {
            settings.across.clear();
        }
        self.common.run(given, || Ok(Job::new("fanout", move |context| fanout::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = PUBLISH)]
pub(super) struct Publish {
    #[command(flatten)]
    common: Common,

    /// Frames from keyframe to keyframe with the GOP cache on; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gop: Vec<u64>,

    /// Frames that come between two turns of the shard; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    batch: Vec<u64>,
}

const PUBLISH: &str = "\
How to read it:
  frame into the log                from the publisher's ring into the stream, no subscriber;
                                    floor is the ring alone
  call of the publisher             Publisher::send and send_all as their caller sees them
Examples:
  shardcast bench publish --size smoke
  shardcast bench publish --gop 30,300 --batch 1,64";

impl Publish {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = publish::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set_list(&mut settings.gops, self.gop) | set_list(&mut settings.batches, self.batch);
        self.common.run(given, || Ok(Job::new("publish", move |context| publish::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = JOIN)]
pub(super) struct Join {
    #[command(flatten)]
    common: Common,

    /// Frames since the keyframe; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gop: Vec<u64>,

    /// Joins in each repetition
    #[arg(long, value_name = "N")]
    joins: Option<usize>,
}

const JOIN: &str = "\
How to read it:
  sink on its shard                 from the command on, the shard's turns alone
  subscription                      from Router::subscribe on, the shard on another core
  floor                             the same frames checked in a slice
Examples:
  shardcast bench join --size smoke
  shardcast bench join --gop 30,120,600,2400";

impl Join {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = join::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set_list(&mut settings.gops, self.gop)
            | set(&mut settings.sinks, self.joins)
            | set(&mut settings.subscriptions, self.joins);
        self.common.run(given, || Ok(Job::new("join", move |context| join::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = AUDIT)]
pub(super) struct Audit {
    #[command(flatten)]
    common: Common,

    /// Facts that the channel takes
    #[arg(long, value_name = "N")]
    capacity: Option<usize>,

    /// Batches of 64 facts in each state of the channel
    #[arg(long, value_name = "N")]
    batches: Option<usize>,

    /// Records of the trail that is written and verified
    #[arg(long, value_name = "N")]
    records: Option<usize>,

    /// Decisions that wait to be on disk, beside nothing and beside a flood of telemetry
    #[arg(long, value_name = "N")]
    waits: Option<usize>,
}

const AUDIT: &str = "\
How to read it:
  empty                             the writer keeps up
  sink blocked                      the writer hangs in its sink, the channel has room
  full                              every fact is lost; the trail must mark each of them once
  decision until it is on disk      how long who is let in waits with before-effect
Examples:
  shardcast bench audit --size smoke
  shardcast bench audit --capacity 4096";

impl Audit {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = audit::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set(&mut settings.capacity, self.capacity)
            | set(&mut settings.batches, self.batches)
            | set(&mut settings.records, self.records)
            | set(&mut settings.waits, self.waits);
        self.common.run(given, || Ok(Job::new("audit", move |context| audit::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = MEMORY)]
pub(super) struct Memory {
    #[command(flatten)]
    common: Common,

    /// Streams, sinks, players and connections; each number is measured
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    count: Vec<usize>,
}

const MEMORY: &str = "\
How to read it:
  resident bytes                    by how much the process grew for each, as the system sees it
  requested bytes                   what the allocator was asked for
  Requested bytes and allocations are counted by `cargo bench --bench memory`, and by a build
  with the feature count-allocations: the program that serves does without, since counting
  costs each allocation 17 ns. Each measurement has a process of its own.
Examples:
  shardcast bench memory --size smoke
  shardcast bench memory --count 1000,10000";

impl Memory {
    pub(super) fn run(self) -> Result<(), Failure> {
        let again = Again::this(&PART).map_err(Failure::runtime)?;
        let mut settings = memory::Settings::of(self.common.scope.size, Some(again), COUNT);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set_list(&mut settings.counts, self.count);
        self.common.run(given, || Ok(Job::new("memory", move |context| memory::run(&settings, context))))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = FAIR)]
pub(super) struct Fair {
    #[command(flatten)]
    common: Common,

    /// How long each disturbance lasts
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,

    /// Players that join at once
    #[arg(long, value_name = "N")]
    joiners: Option<usize>,

    /// The GOP that each of them gets
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    gop_bytes: Option<usize>,

    /// The large keyframe
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    key_bytes: Option<usize>,

    /// Players of the publisher at ten times its rate
    #[arg(long, value_name = "N")]
    players: Option<usize>,
}

const FAIR: &str = "\
How to read it:
  age of the canary's frames        from the host's thread to a sink on the shard, while others there do what
                                    takes long; none is what it costs without them
  disturbed by                      what the others got done meanwhile: less of it would be easier to bear
Examples:
  shardcast bench fair --size smoke
  shardcast bench fair --joiners 500 --gop-bytes 16MiB";

impl Fair {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut settings = fair::Settings::of(self.common.scope.size);
        set(&mut settings.repetitions, self.common.repetitions);
        let given = set(&mut settings.duration, self.duration)
            | set(&mut settings.joiners, self.joiners)
            | set(&mut settings.gop_bytes, self.gop_bytes)
            | set(&mut settings.key_bytes, self.key_bytes)
            | set(&mut settings.players, self.players);
        self.common.run(given, || Ok(Job::new("fair", move |context| fair::run(&settings, context))))
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().or_else(|| parse_bytes(text));
    let bytes = bytes.and_then(|bytes: u64| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| "bytes, such as 1200 or 64KiB".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time with its unit, such as 20us or 2ms".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: Fanout,
    }

    fn parse(line: &str) -> Result<Fanout, clap::Error> {
        Wrapper::try_parse_from(line.split(' ')).map(|wrapper| wrapper.args)
    }

    #[test]
    fn lists_and_sizes_are_understood() {
        let args = parse("fanout --subscribers 1,10 --payload 200,64KiB --size smoke --repetitions 4").unwrap();
        assert_eq!((args.subscribers, args.payload), (vec![1, 10], vec![200, 65_536]));
        assert_eq!((args.common.scope.size.name(), args.common.repetitions), ("smoke", Some(4)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in ["--payload lots", "--size huge", "--size test", "--local --across 10", "--subscribers 1;2"] {
            assert!(parse(&format!("fanout {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_stands_above_the_size_and_the_rest_does_not() {
        let mut settings = fanout::Settings::of(shardcast::bench::Size::Smoke);
        let before = settings.clone();
        assert!(!set_list(&mut settings.payloads, Vec::new()) && !set(&mut settings.repetitions, None));
        assert_eq!(settings, before);
        assert!(set_list(&mut settings.payloads, vec![9]) && set(&mut settings.repetitions, Some(2)));
        assert_eq!((settings.payloads, settings.repetitions), (vec![9], 2));
    }
}
