//! `shardcast top`: what a running server does, live on a terminal, or as text and JSON for scripts.

mod client;
mod screen;
mod table;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::Failure;
use super::config::{CONTROL_SOCKET, parse_duration};
use super::control::model::Stats;
use super::control::place::default_directory;
use client::Client;
use table::{Sort, View};

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Ask the server at this control socket: its start prints the path
    #[arg(long, value_name = "PATH", conflicts_with_all = ["data", "port"])]
    control: Option<PathBuf>,

    /// Ask the server that was started with this --data
    #[arg(long, value_name = "DIR", env = "SHARDCAST_DATA", conflicts_with = "port")]
    data: Option<PathBuf>,

    /// Ask the server that listens on this port and has no --data [default: the only one that runs]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// How often to look: from 100ms to 60s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// Sort streams by this, the greatest first
    #[arg(long, value_name = "KEY", value_enum, default_value_t = Sort::Viewers)]
    sort: Sort,

    /// Print one interval as a table, and end
    #[arg(long)]
    once: bool,

    /// Print one JSON object for each interval, a line each
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.socket().map_err(Failure::usage)?;
    let mut client = Client::connect(&path).map_err(Failure::runtime)?;
    if !args.json && !args.once {
        return screen::run(&mut client, View::new(args.sort), args.interval).map_err(Failure::runtime);
    }
    // Rates and times are those since the last question: this one begins the first interval.
    client.stats().map_err(Failure::runtime)?;
    loop {
        std::thread::sleep(args.interval);
        let stats = client.stats().map_err(Failure::runtime)?;
        let text = if args.json { json(&stats) } else { View::new(args.sort).plain(&stats) };
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(Failure::runtime)?,
        }
        if args.once {
            return Ok(());
        }
    }
}

impl Args {
    fn socket(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.control {
            return Ok(path.clone());
        }
        if let Some(data) = &self.data {
            return Ok(data.join(CONTROL_SOCKET));
        }
        let directory = default_directory();
        if let Some(port) = self.port {
            return Ok(directory.join(format!("{port}.sock")));
        }
        let found = directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        let found = found.filter(|path| path.extension().is_some_and(|end| end == "sock"));
        // Those that were killed have left theirs behind.
        let mut alive: Vec<PathBuf> = found.filter(|path| Client::connect(path).is_ok()).collect();
        alive.sort();
        match alive.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(format!(
                "no server answers in {}: start `shardcast serve`, or say where it is by --data DIR or --control PATH",
                directory.display()
            )),
            several => {
                let ports = several.iter().filter_map(|path| path.file_stem()).map(|port| port.to_string_lossy());
                Err(format!(
                    "several servers run: say which by --port, out of {}",
                    ports.collect::<Vec<_>>().join(", ")
                ))
            }
        }
    }
}

fn json(stats: &Stats) -> String {
    serde_json::to_string(stats).unwrap_or_else(|error| unreachable!("it is always JSON: {error}")) + "\n"
}

fn interval(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(60);
    let given = parse_duration(text).filter(|time| (Duration::from_millis(100)..=most).contains(time));
    given.ok_or_else(|| "a time from 100ms to 60s with its unit, such as 500ms or 2s".into())
}

const HELP: &str = "\
Keys:
  q, Esc          end
  v b f a s n     sort streams by viewers, bitrate, frames per second, age (p99), skipped frames, name
  r               the other way round
  Up, Down, PgUp, PgDn, Home, End

Columns of streams:
  AGE             how old a frame is when a viewer's socket has taken its last byte, counted from when the server had
                  read it: half of all deliveries are younger than p50, one in a hundred is older than p99. What comes
                  on top is the network and the player's buffer. One frame in 64 is timed (router.sample_every).
  SKIP, EVICT     frames left out for viewers who were too far behind, and viewers closed for that

Columns of shards:
  BUSY            share of the time spent in turns with work: near 100 % the shard is full
  TURN            how long such a turn takes; everything that comes meanwhile waits for its end
  APPEND          from when a frame was read to when it is in the log of its stream
  HOP             from there to the log of another shard
  FIRST           from the log to the first socket that has taken it; with `merge`, frames wait for each other here

Examples:
  shardcast top
  shardcast top --data /var/lib/shardcast --sort age
  shardcast top --once
  shardcast top --json --interval 5s | jq '.streams[] | {stream, viewers, p99: .age.p99_ms}'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_that_makes_sense() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["1", "0s", "61s", "50ms", "soon"] {
            assert!(interval(wrong).unwrap_err().contains("from 100ms to 60s"), "{wrong}");
        }
    }
}
