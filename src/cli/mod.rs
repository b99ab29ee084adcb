//! The command line: one file per subcommand.

mod audit;
mod banner;
#[cfg(feature = "bench")]
mod bench;
mod config;
mod control;
mod config_command;
mod heap;
mod hls;
mod follow;
mod key_file;
mod log;
mod plain;
mod push;
mod recording;
mod reload;
mod serve;
mod site;
mod sources;
mod token;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Config(args) => config_command::run(args),
        Command::Token(args) => token::run(args),
        Command::Audit(args) => audit::run(args),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shardcast: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}

#[derive(Debug, Parser)]
#[command(name = "shardcast", version, about, long_about = None, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Route live streams: take them from publishers, hand them to players
    Serve(Box<serve::Args>),
    /// Publish a file to a server over RTMP, in real time
    Push(push::Args),
    /// Show what a running server does: streams, viewers, bitrates, and where the time of a frame goes
    Top(top::Args),
    /// Check a configuration file, or print one to begin with
    Config(config_command::Args),
    /// Print a signed token that lets somebody publish or play until a time
    Token(token::Args),
    /// Look at an audit trail, verify it, take proofs out of it
    Audit(audit::Args),
    /// Measure: rings, hops, fan-out, joins, memory; the numbers of this machine, with what they are worth
    #[cfg(feature = "bench")]
    Bench(bench::Args),
}

/// Why the program ends without having done what it was asked for.
#[derive(Debug)]
struct Failure {
    sentence: String,
    code: u8,
}

impl Failure {
    /// What was asked for makes no sense: code 2.
    fn usage(sentence: impl ToString) -> Self {
        Self { sentence: sentence.to_string(), code: 2 }
    }

    /// It was not possible: code 1.
    fn runtime(sentence: impl ToString) -> Self {
        Self { sentence: sentence.to_string(), code: 1 }
    }
}

const EXAMPLES: &str = "\
Examples:
  shardcast serve                              RTMP on 127.0.0.1:1935; prints how to publish and play
  shardcast serve --demo                       the same with a test picture to watch at once
  shardcast top                                what a running server does, live
  shardcast push film.mp4 rtmp://HOST/live/film
  shardcast serve --rtmp 0.0.0.0:1935 --token-secret-file secret --data /var/lib/shardcast
  shardcast config example > shardcast.toml    every key with its default and what it means
  shardcast config check shardcast.toml
  shardcast serve --config shardcast.toml
  shardcast bench suite --size smoke           what this machine can do, within a minute

Exit codes:
  0 done, 1 it was not possible, 2 wrong arguments or configuration, 70 a shard hangs (router.exit_on_hang),
  130 stopped at once";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_shows_examples_and_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("shardcast serve --config shardcast.toml") && help.contains("Exit codes:"), "{help}");
    }
}
