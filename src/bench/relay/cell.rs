//! One run: a fresh server, fresh generators, one window.

use std::time::Duration;

use super::error::RelayError;
use super::outcome::Outcome;
use super::plan::{Load, Order, Plan, Said};
use super::process::{self, TICKS_PER_S, Usage};
use super::settings::{Merge, Settings, SlowKind};
use super::subject::{Server, Subject, Wanted};
use super::talk::Part;
use super::timing::{MILLISECOND, SECOND, Timing};

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) subject: Subject,
    pub(crate) merge: Merge,
    /// Of all streams.
    pub(crate) players: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) window_s: f64,
    pub(crate) outcome: Outcome,
    /// Of the server, where its process is known.
    pub(crate) server: Option<Cost>,
    /// Share of its core that the busiest generator used.
    pub(crate) generator_busy: f64,
    /// Cores' worth of CPU time on the used cores that was neither server nor generator.
    pub(crate) foreign_busy: f64,
    /// Share of the used cores that the hypervisor took.
    pub(crate) steal: f64,
}

/// What a server used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU seconds in the window.
    pub(crate) cpu_s: f64,
    pub(crate) rss_mb: f64,
    pub(crate) rss_peak_mb: f64,
    pub(crate) switches_voluntary_per_s: f64,
    pub(crate) switches_forced_per_s: f64,
}

/// The cores of a run.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    pub(crate) server: usize,
    pub(crate) generators: Vec<usize>,
}

/// Everything read at one edge of the window.
struct Edge {
    at: u64,
    server: Option<Usage>,
    generators: Vec<u64>,
    ticks: (u64, u64),
}

/// From the order until the window begins, at least: the parts have to hear of it.
const NOTICE: u64 = 20 * MILLISECOND;

impl Cell {
    /// Runs it.
    pub(crate) fn run(&self, settings: &Settings, pins: &Pins) -> Result<Run, RelayError> {
        let timing = Timing::start();
        let streams = usize::try_from(settings.streams).unwrap_or(usize::MAX);
        let visitors = u64::from(settings.churn_per_s) * (settings.stay.as_secs() + 1);
        let connections = self.players + streams + usize::try_from(visitors).unwrap_or(usize::MAX);
        let wanted = Wanted {
            merge: self.merge,
            streams: settings.streams,
            kbps: settings.kbps,
            connections,
            players: self.players,
            core: pins.server,
            absent_waits: false,
        };
        let mut server = self.subject.start(&settings.programs, wanted)?;
        let load = self.load(settings, &server);
        let start = |(generator, core): (usize, &usize)| {
            let load = Load { generator, generators: pins.generators.len(), ..load.clone() };
            Part::start(&settings.programs, &Plan::Generate(load), *core, connections + 64)
        };
        let mut parts = pins.generators.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        wait_for(&mut parts, &Said::Published)?;
        tell(&mut parts, Order::Join)?;
        wait_for(&mut parts, &Said::Joined)?;

        let from = timing.now() + NOTICE + nanos(settings.warm_up);
        let until = from + nanos(settings.window);
        tell(&mut parts, Order::Window { from, until })?;
        sleep(&timing, from, &mut server)?;
        let before = Edge::read(&timing, &server, &parts, pins)?;
        sleep(&timing, until, &mut server)?;
        let after = Edge::read(&timing, &server, &parts, pins)?;

        let mut outcome: Option<Outcome> = None;
        for part in &mut parts {
            match (part.hear()?, &mut outcome) {
                (Said::Outcome(more), Some(sum)) => sum.add(&more),
                (Said::Outcome(first), none) => *none = Some(*first),
                (other, _) => return Err(part.unexpected(&other)),
            }
        }
        Ok(self.found(&before, &after, outcome.unwrap_or_default(), (from, until), pins, &server))
    }

    fn load(&self, settings: &Settings, server: &Server) -> Load {
        let (publish, play) = self.subject.names(settings.streams, self.merge);
        // The floor serves viewers that read and stay: what it costs to serve others is up to the server.
        let slow = settings.slow.filter(|_| !server.bare);
        Load {
            address: server.address,
            host: server.host.clone(),
            app: server.app.clone(),
            publish,
            play,
            bare: server.bare,
            players: self.players,
            generator: 0,
            generators: 1,
            joins_per_s: settings.joins_per_s(self.players),
            churn_per_s: if server.bare { 0 } else { settings.churn_per_s.into() },
            stay: nanos(settings.stay),
            slow_permille: slow.map_or(0, |slow| permille(slow.share)),
            slow: slow.map_or(SlowKind::Paused, |slow| slow.kind),
            kbps: settings.kbps,
            check_every: settings.check_every,
        }
    }

    fn found(
        &self,
        before: &Edge,
        after: &Edge,
        outcome: Outcome,
        (from, until): (u64, u64),
        pins: &Pins,
        server: &Server,
    ) -> Run {
        let seconds = |ns: u64| ns as f64 / SECOND as f64;
        let (window_s, read_s) = (seconds(until - from), seconds(after.at - before.at));
        let per_s = |from: u64, to: u64| to.saturating_sub(from) as f64 / read_s;
        let cost = before.server.zip(after.server).map(|(from, to)| Cost {
            // The edges were read as soon as this process had a core: what counts is the rate.
            cpu_s: seconds(to.cpu_ns.saturating_sub(from.cpu_ns)) / read_s * window_s,
            rss_mb: to.rss_kb as f64 / 1024.0,
            rss_peak_mb: to.rss_peak_kb as f64 / 1024.0,
            switches_voluntary_per_s: per_s(from.switches_voluntary, to.switches_voluntary),
            switches_forced_per_s: per_s(from.switches_forced, to.switches_forced),
        });
        let busy = |from: &u64, to: &u64| seconds(to.saturating_sub(*from)) / read_s;
        let generators: Vec<f64> =
            before.generators.iter().zip(&after.generators).map(|(from, to)| busy(from, to)).collect();
        let ticks = |from: u64, to: u64| to.saturating_sub(from) as f64 / TICKS_PER_S / read_s;
        let used = cores(pins, server).len() as f64;
        let known = if server.is_ours() { cost.map_or(0.0, |cost| cost.cpu_s / window_s) } else { 0.0 };
        Run {
            window_s,
            outcome,
            server: cost,
            generator_busy: generators.iter().copied().fold(0.0, f64::max),
            foreign_busy: (ticks(before.ticks.0, after.ticks.0) - known - generators.iter().sum::<f64>()).max(0.0),
            steal: ticks(before.ticks.1, after.ticks.1) / used,
        }
    }
}

impl Run {
    /// Server CPU microseconds for one viewer and second.
    pub(crate) fn us_per_viewer_s(&self) -> Option<f64> {
        let viewer_s = self.outcome.viewer_ns as f64 / SECOND as f64;
        self.server.filter(|_| viewer_s > 0.0).map(|cost| cost.cpu_s * 1e6 / viewer_s)
    }

    /// Server CPU seconds for 10^9 bytes.
    pub(crate) fn s_per_gb(&self) -> Option<f64> {
        let bytes = self.outcome.bytes as f64;
        self.server.filter(|_| bytes > 0.0).map(|cost| cost.cpu_s * 1e9 / bytes)
    }
}

impl Edge {
    fn read(timing: &Timing, server: &Server, parts: &[Part], pins: &Pins) -> Result<Self, RelayError> {
        let own = |part: &Part| Usage::read(&[part.pid()]).map(|usage| usage.cpu_ns);
        let generators = parts.iter().map(own).collect::<Result<_, _>>();
        let ended = |_| RelayError::ServerEnded;
        Ok(Self {
            at: timing.now(),
            server: if server.family.is_empty() { None } else { Some(Usage::read(&server.family).map_err(ended)?) },
            // A generator that has ended has said why, and is heard later.
            generators: generators.unwrap_or_default(),
            ticks: process::core_ticks(&cores(pins, server)),
        })
    }
}

/// The cores whose time is all of the run's: of the server only where we pinned it.
fn cores(pins: &Pins, server: &Server) -> Vec<usize> {
    let mut cores = pins.generators.clone();
    cores.extend(Some(pins.server).filter(|core| server.is_ours() && !pins.generators.contains(core)));
    cores
}

fn wait_for(parts: &mut [Part], word: &Said) -> Result<(), RelayError> {
    for part in parts {
        match part.hear()? {
            said if said == *word => {}
            other => return Err(part.unexpected(&other)),
        }
    }
    Ok(())
}

fn tell(parts: &mut [Part], order: Order) -> Result<(), RelayError> {
    parts.iter_mut().try_for_each(|part| part.tell(order))
}

/// Sleeps until `due`, unless the server ends before.
fn sleep(timing: &Timing, due: u64, server: &mut Server) -> Result<(), RelayError> {
    while timing.now() < due {
        timing.sleep_until(due.min(timing.now() + SECOND));
        if !server.is_alive() {
            return Err(RelayError::ServerEnded);
        }
    }
    Ok(())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1, which was checked")]
fn permille(share: f64) -> usize {
    (share * 1000.0).round() as usize
}
