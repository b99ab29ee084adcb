//! `idle`: what ten thousand connections cost that want something which is not there.

use std::time::Duration;

use super::error::RelayError;
use super::plan::{Held, Plan, Said};
use super::process::Usage;
use super::settings::{Merge, Programs};
use super::subject::{Subject, Wanted};
use super::talk::Part;
use super::timing::{SECOND, Timing};
use super::{Pins, nobody_is_there};
use crate::bench::model::{Better, Figure, Goal, Scenario};
use crate::bench::{Context, Size};

/// A run of `idle`: each subject in turns.
#[derive(Clone, Debug)]
pub struct IdleSettings {
    /// Who is measured; the floor has no idle connections.
    pub subjects: Vec<Subject>,
    /// Connections.
    pub connections: usize,
    /// How often everything is measured.
    pub repetitions: usize,
    /// How long they are held.
    pub window: Duration,
    /// The core of the server; by default the first that there is.
    pub server_core: Option<usize>,
    /// The core of who holds them; by default the second that there is.
    pub holder_core: Option<usize>,
    /// How the processes of a run are started.
    pub programs: Programs,
}

impl IdleSettings {
    /// What is measured by default.
    #[must_use]
    pub fn of(size: Size, programs: Programs) -> Self {
        let (connections, repetitions, window) = match size {
            Size::Test => (20, 1, 1),
            Size::Smoke => (1_000, 1, 3),
            Size::Standard => (10_000, 5, 5),
            Size::Full => (10_000, 5, 20),
        };
        Self {
            subjects: vec![Subject::Shardcast { shards: 1 }],
            connections,
            repetitions,
            window: Duration::from_secs(window),
            server_core: None,
            holder_core: None,
            programs,
        }
    }
}

/// What was found in one run.
#[derive(Clone, Copy, Debug)]
struct Idle {
    held: usize,
    left: usize,
    opening_cpu_ns: u64,
    /// Of the window, and how long that was.
    cpu_ns: u64,
    span_ns: u64,
    rss_kb: u64,
    rss_empty_kb: u64,
    switches: u64,
}

/// Runs it.
///
/// # Errors
///
/// If no subject can be started here, or a setting makes no sense. A run that fails is a warning in the result.
pub fn run(settings: &IdleSettings, context: &Context<'_>) -> Result<Scenario, RelayError> {
    if settings.connections == 0 || settings.repetitions == 0 {
        let (name, value, rule) = ("connections and repetitions", "0".into(), "at least 1");
        return Err(RelayError::Setting { name, value, rule });
    }
    if settings.subjects.iter().all(|subject| *subject == Subject::Floor) {
        let (name, value, rule) = ("subjects", "0".into(), "there must be a server to connect to");
        return Err(RelayError::Setting { name, value, rule });
    }
    let generators: Vec<usize> = settings.holder_core.into_iter().collect();
    let pins = Pins::choose(settings.server_core, &generators, context.cores);
    let mut scenario = Scenario {
        name: "idle".into(),
        about: "Connections that have asked to play a stream which is not there, and wait: CPU and memory of the server. \
                The kernel's sockets are not in its memory."
            .into(),
        repetitions: settings.repetitions,
        ..Scenario::default()
    };
    scenario.config.insert("connections".into(), settings.connections.to_string());
    scenario.config.insert("window".into(), format!("{} s", settings.window.as_secs_f64()));
    scenario.config.insert("cores".into(), pins.to_string());

    let wanted = settings.subjects.iter().filter(|subject| !matches!(subject, Subject::Floor));
    let (there, absent): (Vec<&Subject>, Vec<&Subject>) =
        wanted.partition(|subject| subject.is_there(&settings.programs).is_ok());
    let absent = absent.into_iter().filter_map(|subject| subject.is_there(&settings.programs).err());
    nobody_is_there(&mut scenario, absent, there.is_empty())?;
    let mut found: Vec<Vec<Idle>> = vec![Vec::new(); there.len()];
    for repetition in 0..settings.repetitions {
        for (i, subject) in there.iter().enumerate() {
            let what = format!("{} idle connections: {subject}, repetition {}", settings.connections, repetition + 1);
            context.progress.step(repetition * there.len() + i, settings.repetitions * there.len(), &what);
            match one(settings, &pins, subject) {
                Ok(idle) => {
                    let lost = settings.connections - idle.left;
                    let warning = format!("not valid: {what}: {lost} of {} were not held", settings.connections);
                    scenario.warnings.extend((lost > 0).then_some(warning));
                    found[i].push(idle);
                }
                Err(error) => scenario.warnings.push(format!("failed: {what}: {error}")),
            }
        }
    }
    for (subject, runs) in there.iter().zip(&found) {
        scenario.figures.extend(figures(settings, subject, runs));
    }
    Ok(scenario)
}

fn one(settings: &IdleSettings, pins: &Pins, subject: &Subject) -> Result<Idle, RelayError> {
    let timing = Timing::start();
    let server = subject.start(
        &settings.programs,
        Wanted {
            merge: Merge::AudioRides,
            streams: 0,
            kbps: 0,
            connections: settings.connections,
            players: 0,
            core: pins.server,
            absent_waits: true,
        },
    )?;
    let read = || Usage::read(&server.family).map_err(|_| RelayError::ServerEnded);
    let empty = read()?;
    let plan = Held {
        address: server.address,
        host: server.host.clone(),
        app: server.app.clone(),
        connections: settings.connections,
    };
    let core = pins.generators.first().copied().unwrap_or(pins.server);
    let mut holder = Part::start(&settings.programs, &Plan::Hold(plan), core, settings.connections + 64)?;
    let held = match holder.hear()? {
        Said::Held(held) => held,
        other => return Err(holder.unexpected(&other)),
    };
    // What is left to do for the last of them is not of the window.
    std::thread::sleep(settings.window.min(Duration::from_secs(2)));
    let (from, from_at) = (read()?, timing.now());
    std::thread::sleep(settings.window);
    let (to, to_at) = (read()?, timing.now());
    holder.end();
    let left = match holder.hear()? {
        Said::Left(left) => left,
        other => return Err(holder.unexpected(&other)),
    };
    let switches = |usage: Usage| usage.switches_voluntary + usage.switches_forced;
    Ok(Idle {
        held,
        left,
        opening_cpu_ns: from.cpu_ns.saturating_sub(empty.cpu_ns),
        cpu_ns: to.cpu_ns.saturating_sub(from.cpu_ns),
        span_ns: to_at - from_at,
        rss_kb: to.rss_kb,
        rss_empty_kb: empty.rss_kb,
        switches: switches(to).saturating_sub(switches(from)),
    })
}

fn figures(settings: &IdleSettings, subject: &Subject, runs: &[Idle]) -> Vec<Figure> {
    let figure =
        |metric: &str, unit: &str, better, goal: Option<(f64, &str)>, value: fn(&Idle) -> Option<f64>| Figure {
            subject: subject.to_string(),
            metric: metric.into(),
            unit: unit.into(),
            params: vec![("connections".into(), settings.connections.to_string())],
            better,
            values: runs.iter().filter_map(value).collect(),
            goal: goal.map(|(bound, why)| Goal { bound, why: why.into() }),
        };
    // A server elsewhere has no processes here: its memory is 0, and its costs are not known.
    let all = settings.connections as f64;
    let mut figures = vec![
        figure("connections held", "", Better::Higher, Some((all, "all of them")), |idle| Some(idle.left as f64)),
        figure("CPU", "%", Better::Lower, None, |idle| {
            (idle.rss_kb > 0).then(|| idle.cpu_ns as f64 * 100.0 / idle.span_ns as f64)
        }),
        figure("memory per connection", "bytes", Better::Lower, None, |idle| {
            let grown = idle.rss_kb.saturating_sub(idle.rss_empty_kb) * 1024;
            (idle.rss_kb > 0).then(|| grown as f64 / idle.held.max(1) as f64)
        }),
        figure("resident memory", "MB", Better::Lower, None, |idle| {
            (idle.rss_kb > 0).then(|| idle.rss_kb as f64 / 1024.0)
        }),
        figure("CPU per connection opened", "µs", Better::Lower, None, |idle| {
            (idle.rss_kb > 0).then(|| idle.opening_cpu_ns as f64 / 1e3 / idle.held.max(1) as f64)
        }),
        figure("context switches of the server", "1/s", Better::Lower, None, |idle| {
            (idle.rss_kb > 0).then(|| idle.switches as f64 * SECOND as f64 / idle.span_ns as f64)
        }),
    ];
    figures.retain(|figure| !figure.values.is_empty());
    figures
}
