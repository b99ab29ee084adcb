//! `idle`: what ten thousand connections cost that want something which is not there.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::Duration;

use super::process::{self, Guarded, Usage};
use super::report;
use super::target::{Mode, Server, Target, Wanted};
use super::timing::{SECOND, Timing};

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) targets: Vec<Target>,
    pub(crate) connections: usize,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) server_core: usize,
    pub(crate) generator_core: usize,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    settled: usize,
    left: usize,
    opening_s: f64,
    opening_cpu_s: f64,
    rss_mb: f64,
    rss_per_connection_kb: f64,
    cpu_percent: f64,
    switches_per_s: f64,
}

/// Runs it, and prints a table.
pub(crate) fn run(settings: &Settings, remarks: &mut Vec<String>) {
    let header = [
        "target",
        "",
        "open",
        "still open",
        "opened in s",
        "with CPU s",
        "RSS MB",
        "KB/connection",
        "CPU %",
        "switches/s",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for target in settings.targets.iter().filter(|target| **target != Target::Floor) {
        let mut runs = Vec::new();
        for round in 0..settings.rounds {
            eprintln!("{} idle connections, round {}: {target}", settings.connections, round + 1);
            match one(settings, target) {
                Ok(idle) => runs.push(idle),
                Err(error) => eprintln!("warning: {target}: {error}"),
            }
        }
        let values = |value: fn(&Idle) -> f64| report::spread(runs.iter().map(value).collect());
        rows.push(vec![
            target.to_string(),
            String::new(),
            values(|idle| idle.settled as f64),
            values(|idle| idle.left as f64),
            values(|idle| idle.opening_s),
            values(|idle| idle.opening_cpu_s),
            values(|idle| idle.rss_mb),
            values(|idle| idle.rss_per_connection_kb),
            values(|idle| idle.cpu_percent),
            values(|idle| idle.switches_per_s),
        ]);
        remarks.extend(runs.iter().map(|idle| format!("{target}: {idle:?}")));
    }
    println!("\n{} idle connections; median [least-most] of {} rounds", settings.connections, settings.rounds);
    print!("{}", report::columns(&rows));
    println!("RSS is the server process; the kernel's sockets are not in it.");
}

fn one(settings: &Settings, target: &Target) -> io::Result<Idle> {
    let timing = Timing::start();
    let server = target.start(Wanted {
        mode: Mode::Default,
        connections: settings.connections,
        core: settings.server_core,
        absent_waits: true,
    })?;
    let empty = Usage::read(server.pid)?;
    let start = timing.now();
    let mut holder = hold(settings, &server)?;
    let mut lines = BufReader::new(holder.0.stdout.take().ok_or_else(|| io::Error::other("no output"))?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let opening_s = (timing.now() - start) as f64 / SECOND as f64;
    let settled = count(&line, "settled")?;
    std::thread::sleep(Duration::from_secs(2));
    let (from, from_at) = (Usage::read(server.pid)?, timing.now());
    std::thread::sleep(Duration::from_secs(settings.seconds));
    let (to, to_at) = (Usage::read(server.pid)?, timing.now());
    drop(holder.0.stdin.take());
    let mut rest = String::new();
    lines.read_to_string(&mut rest)?;
    let span_ns = (to_at - from_at) as f64;
    let switches = |usage: Usage| usage.switches_voluntary + usage.switches_forced;
    Ok(Idle {
        settled,
        left: count(&rest, "left")?,
        opening_s,
        opening_cpu_s: (from.cpu_ns - empty.cpu_ns) as f64 / SECOND as f64,
        rss_mb: to.rss_kb as f64 / 1024.0,
        rss_per_connection_kb: to.rss_kb.saturating_sub(empty.rss_kb) as f64 / settled.max(1) as f64,
        cpu_percent: (to.cpu_ns - from.cpu_ns) as f64 * 100.0 / span_ns,
        switches_per_s: (switches(to) - switches(from)) as f64 * SECOND as f64 / span_ns,
    })
}

fn hold(settings: &Settings, server: &Server) -> io::Result<Guarded> {
    let mut command = process::command(&std::env::current_exe()?, settings.connections + 64)?;
    command.args(["hold", "--address", &server.address.to_string(), "--app", &server.app]);
    command.args(["--connections", &settings.connections.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Guarded::spawn(command, Some(settings.generator_core))
}

fn count(line: &str, name: &str) -> io::Result<usize> {
    let number = line.trim().strip_prefix(name).and_then(|rest| rest.trim().parse().ok());
    number.ok_or_else(|| io::Error::other(format!("the connections were not held: {line}")))
}
