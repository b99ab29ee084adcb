//! Scenarios of RTMP relaying: servers from outside, over sockets, judged by what arrives.
//!
//! The parent starts a server on one core and a generator on another, run after run, and prints what the
//! generator measured. `generate`, `floor` and `hold` are the program started again by itself.

mod amf;
mod chunk;
mod fanout;
mod floor;
mod generator;
mod hold;
mod idle;
mod link;
mod machine;
mod measures;
mod media;
mod options;
mod player;
mod process;
mod publisher;
mod report;
mod selfcheck;
mod session;
mod stamp;
mod target;
mod timing;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use machine::Machine;
use options::Options;
use target::Target;

const HELP: &str = "cargo bench --bench relay -- [options]
  --scenario relay|idle     what to run                                  relay
  --targets LIST            of shardcast, shardcast2 (two shards,
                            not pinned), nginx, floor                    shardcast,nginx,floor
  --target URL              also rtmp://host:port/app[#PID]; may be repeated
  --shardcast PATH          the program                                  the one built with this bench
  --modes LIST              of default or milliseconds merged            0,default,20,50,350
  --players LIST            viewers                                      100,500,1000
  --rounds N                of each cell, interleaved                    3
  --window SECONDS          measured; best a multiple of the 2 s GOP     6
  --warm-up SECONDS         between the last join and the window         3
  --joins-per-s N           ramp                                         a quarter of the viewers, 100 at least
  --connections N           for idle                                     10000
  --idle SECONDS            for idle                                     20
  --server-core N, --generator-core N                                    0, 1
  --json FILE               everything, for a program";

const KNOWN: &[&str] = &[
    "scenario",
    "targets",
    "target",
    "shardcast",
    "modes",
    "players",
    "rounds",
    "window",
    "warm-up",
    "joins-per-s",
    "connections",
    "idle",
    "server-core",
    "generator-core",
    "json",
];

/// The bench, a part of it that was started by itself, or the self-check.
pub(crate) fn main(mut arguments: Vec<String>) -> ExitCode {
    // `cargo bench` passes --bench, `cargo test` does not.
    let given = arguments.len();
    arguments.retain(|argument| argument != "--bench");
    let result = match arguments.split_first() {
        Some((name, rest)) if !name.starts_with('-') => part(name, rest),
        Some((name, _)) if name == "--help" => {
            println!("{HELP}");
            Ok(())
        }
        _ if given == arguments.len() => selfcheck::run(),
        _ => bench(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn part(name: &str, arguments: &[String]) -> io::Result<()> {
    let options = Options::parse(arguments, &[])?;
    match name {
        "generate" => {
            print!("{}", generator::run(generator::Plan::read(&options)?)?.write());
            Ok(())
        }
        "floor" => {
            let mode = options.get("mode")?;
            floor::run(options.get("players")?, mode)
        }
        "hold" => hold::run(&options),
        // A filter, as `cargo bench NAME` passes it to every bench.
        _ => Ok(()),
    }
}

fn bench(arguments: &[String]) -> io::Result<()> {
    let options = Options::parse(arguments, KNOWN)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let server_core = options.get_or("server-core", 0)?;
    let generator_core = options.get_or("generator-core", 1.min(cores - 1))?;
    let targets = targets(&options)?;
    let machine = Machine::read(&[server_core, generator_core]);
    for (name, value) in &machine.facts {
        println!("{name}: {value}");
    }
    for warning in &machine.warnings {
        println!("warning: {warning}");
    }
    let (mut runs, mut remarks) = (Vec::new(), Vec::new());
    let rounds = options.get_or("rounds", 3)?;
    match options.get_or("scenario", "relay".to_owned())?.as_str() {
        "relay" => {
            let settings = fanout::Settings {
                targets,
                modes: options.list_or("modes", "0,default,20,50,350")?,
                players: options.list_or("players", "100,500,1000")?,
                rounds,
                window_ms: options.get_or("window", 6)? * 1000,
                warm_up_ms: options.get_or("warm-up", 3)? * 1000,
                joins_per_s: options.get_or("joins-per-s", 0)?,
                server_core,
                generator_core,
            };
            fanout::run(&settings, &mut runs, &mut remarks);
        }
        "idle" => {
            let settings = idle::Settings {
                targets,
                connections: options.get_or("connections", 10_000)?,
                rounds,
                seconds: options.get_or("idle", 20)?,
                server_core,
                generator_core,
            };
            idle::run(&settings, &mut remarks);
        }
        other => return Err(io::Error::other(format!("--scenario {other}: there are relay and idle"))),
    }
    match options.all("json").last() {
        Some(path) => std::fs::write(path, report::json(&machine, &runs, &remarks)),
        None => Ok(()),
    }
}

fn targets(options: &Options) -> io::Result<Vec<Target>> {
    let built = option_env!("CARGO_BIN_EXE_shardcast").unwrap_or("shardcast").to_owned();
    let program = PathBuf::from(options.get_or("shardcast", built)?);
    let mut targets = Vec::new();
    for name in options.list_or::<String>("targets", "shardcast,nginx,floor")? {
        match name.as_str() {
            "shardcast" => targets.push(Target::Shardcast { program: program.clone(), shards: 1 }),
            "shardcast2" => targets.push(Target::Shardcast { program: program.clone(), shards: 2 }),
            "nginx" if target::has_nginx() => targets.push(Target::Nginx),
            "nginx" => eprintln!("WARNING: nginx with its RTMP module is not installed: NO COMPARISON with it"),
            "floor" => targets.push(Target::Floor),
            other => return Err(io::Error::other(format!("--targets {other}: unknown"))),
        }
    }
    for url in options.all("target") {
        targets.push(Target::running(url)?);
    }
    Ok(targets)
}
