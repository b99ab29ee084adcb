//! One thread that is the publisher and all viewers: the load on the server, and its judge.
//!
//! Runs in a process of its own on a core of its own, and prints [`Measures`]. Between any two sockets it
//! looks whether the publisher's next message is due, so that a burst of receipts does not delay the schedule.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::link::Link;
use super::measures::Measures;
use super::media::Schedule;
use super::options::Options;
use super::player::{Player, Tally, Watch};
use super::process::{self, TICKS_PER_S, Usage};
use super::publisher::Publisher;
use super::session::{Purpose, Role};
use super::timing::{MILLISECOND, SECOND, Timing};

/// The first viewer joins when the stream is this old.
const LEAD_IN: u64 = SECOND / 2;
/// How long a server may take to accept the publisher, and a viewer to see its first keyframe.
const PATIENCE: u64 = 6 * SECOND;
/// How long frames of the window may take to arrive after it.
const DRAIN: u64 = 3 * SECOND / 2;
/// One viewer of so many hashes all that it receives.
const HASHING_EVERY: usize = 16;
/// What one read takes at most.
const READ_LEN: usize = 256 * 1024;

const PUBLISHER: Token = Token(usize::MAX - 1);

/// What to do; the parent's words are read back by [`Plan::read`].
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) app: String,
    /// The name to publish, unless the server makes the stream itself and sends bare chunks.
    pub(crate) publish: Option<String>,
    pub(crate) play: String,
    pub(crate) players: usize,
    pub(crate) joins_per_s: u64,
    pub(crate) warm_up_ms: u64,
    pub(crate) window_ms: u64,
    /// The process whose CPU time and memory are read; 0 for none.
    pub(crate) server: u32,
    /// The cores of server and generator.
    pub(crate) cores: Vec<usize>,
}

impl Plan {
    /// As arguments of the hidden subcommand.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let cores: Vec<String> = self.cores.iter().map(ToString::to_string).collect();
        let pairs = [
            ("address", self.address.to_string()),
            ("app", self.app.clone()),
            ("publish", self.publish.clone().unwrap_or_default()),
            ("play", self.play.clone()),
            ("players", self.players.to_string()),
            ("joins-per-s", self.joins_per_s.to_string()),
            ("warm-up-ms", self.warm_up_ms.to_string()),
            ("window-ms", self.window_ms.to_string()),
            ("server", self.server.to_string()),
            ("cores", cores.join(",")),
        ];
        pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }

    /// From these arguments.
    pub(crate) fn read(options: &Options) -> io::Result<Self> {
        Ok(Self {
            address: options.get("address")?,
            app: options.get("app")?,
            publish: Some(options.get("publish")?).filter(|name: &String| !name.is_empty()),
            play: options.get("play")?,
            players: options.get("players")?,
            joins_per_s: options.get("joins-per-s")?,
            warm_up_ms: options.get("warm-up-ms")?,
            window_ms: options.get("window-ms")?,
            server: options.get("server")?,
            cores: options.list("cores")?,
        })
    }
}

/// Where the run is, and when that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Publishing { until: u64 },
    Joining { since: u64, until: u64 },
    WarmUp { until: u64 },
    Window { until: u64 },
    Drain { until: u64 },
    Over,
}

/// Counters at one edge of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    at: u64,
    bytes: u64,
    server: Usage,
    own: Usage,
    core_ticks: (u64, u64),
}

struct Generator {
    plan: Plan,
    timing: Timing,
    poll: Poll,
    phase: Phase,
    publisher: Option<Publisher>,
    players: Vec<Player>,
    purpose: Purpose,
    tally: Tally,
    bytes: u64,
    lost: usize,
    joined: usize,
    edges: [Edge; 2],
}

/// Does what the plan says.
pub(crate) fn run(plan: Plan) -> io::Result<Measures> {
    let timing = Timing::start();
    let poll = Poll::new()?;
    let host: Rc<str> = plan.address.to_string().into();
    let app: Rc<str> = plan.app.as_str().into();
    let purpose =
        |role, stream: &str| Purpose { role, app: Rc::clone(&app), host: Rc::clone(&host), stream: stream.into() };
    let publisher = match &plan.publish {
        Some(name) => {
            let publish = purpose(Role::Publish, name);
            Some(Publisher::new(Link::connect(poll.registry(), PUBLISHER, plan.address, publish)?))
        }
        None => None,
    };
    let role = if plan.publish.is_some() { Role::Play } else { Role::Sink };
    let mut generator = Generator {
        purpose: purpose(role, &plan.play),
        phase: Phase::Publishing { until: timing.now() + PATIENCE },
        players: Vec::with_capacity(plan.players),
        tally: Tally::new(),
        bytes: 0,
        lost: 0,
        joined: 0,
        edges: [Edge::default(); 2],
        plan,
        timing,
        poll,
        publisher,
    };
    generator.run()?;
    Ok(generator.measures())
}

impl Generator {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; READ_LEN];
        while self.phase != Phase::Over {
            self.poll.poll(&mut events, Some(self.timeout()))?;
            for event in &events {
                match event.token() {
                    PUBLISHER => self.on_publisher(event.is_writable(), event.is_readable(), &mut buffer)?,
                    Token(player) => {
                        self.on_player(player, event.is_writable(), event.is_readable(), &mut buffer);
                    }
                }
                self.publish()?;
            }
            self.publish()?;
            self.join()?;
            self.advance()?;
        }
        Ok(())
    }

    /// Until what comes next; whole milliseconds, and no sleep for the last one, for epoll oversleeps.
    fn timeout(&self) -> Duration {
        let publish = self.publisher.as_ref().and_then(Publisher::due);
        let phase = match self.phase {
            Phase::Joining { since, until } if self.players.len() < self.plan.players => {
                until.min(self.join_due(since))
            }
            Phase::Publishing { until }
            | Phase::Joining { until, .. }
            | Phase::WarmUp { until }
            | Phase::Window { until }
            | Phase::Drain { until } => until,
            Phase::Over => 0,
        };
        let left = publish.map_or(phase, |due| due.min(phase)).saturating_sub(self.timing.now());
        Duration::from_millis((left / MILLISECOND).min(100))
    }

    fn publish(&mut self) -> io::Result<()> {
        match &mut self.publisher {
            Some(publisher) => publisher.send_due(&self.timing),
            None => Ok(()),
        }
    }

    fn on_publisher(&mut self, writable: bool, readable: bool, buffer: &mut [u8]) -> io::Result<()> {
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        let gone = |error: io::Error| io::Error::new(error.kind(), format!("the publisher was lost: {error}"));
        if writable {
            publisher.link.on_writable().map_err(gone)?;
        }
        if readable {
            publisher.link.on_readable(buffer, false, |_| {}).map_err(gone)?;
        }
        Ok(())
    }

    fn on_player(&mut self, index: usize, writable: bool, readable: bool, buffer: &mut [u8]) {
        let Self { players, tally, timing, bytes, joined, lost, .. } = self;
        let Player { link: slot, watch, hashing } = &mut players[index];
        let Some(link) = slot else { return };
        let joined_before = watch.has_joined();
        let mut result = if writable { link.on_writable() } else { Ok(()) };
        if readable && result.is_ok() {
            let read = link.on_readable(buffer, *hashing, |message| watch.on_media(message, timing.now(), tally));
            result = read.map(|read| *bytes += read as u64);
        }
        *joined += usize::from(!joined_before && watch.has_joined());
        if let Err(error) = result {
            if *lost == 0 {
                eprintln!("warning: player {index} was lost: {error}");
            }
            *lost += 1;
            *slot = None;
        }
    }

    /// Connects the viewers that are due to join.
    fn join(&mut self) -> io::Result<()> {
        let Phase::Joining { since, .. } = self.phase else { return Ok(()) };
        while self.players.len() < self.plan.players && self.join_due(since) <= self.timing.now() {
            let index = self.players.len();
            let registry = self.poll.registry();
            let now = self.timing.now();
            let link = Link::connect(registry, Token(index), self.plan.address, self.purpose.clone())?;
            let hashing = index.is_multiple_of(HASHING_EVERY);
            self.players.push(Player { link: Some(link), watch: Watch::new(now), hashing });
            self.publish()?;
        }
        Ok(())
    }

    fn join_due(&self, since: u64) -> u64 {
        since + self.players.len() as u64 * SECOND / self.plan.joins_per_s
    }

    fn advance(&mut self) -> io::Result<()> {
        let now = self.timing.now();
        self.phase = match self.phase {
            Phase::Publishing { until } => {
                let started =
                    self.publisher.as_ref().map_or(Some(now), |publisher| publisher.t0().map(|t0| t0 + LEAD_IN));
                match started {
                    Some(since) => {
                        let ramp = self.plan.players as u64 * SECOND / self.plan.joins_per_s;
                        Phase::Joining { since, until: since + ramp + PATIENCE }
                    }
                    None if now >= until => return Err(io::Error::other("the publisher was not accepted")),
                    None => return Ok(()),
                }
            }
            Phase::Joining { until, .. } if now >= until || self.joined + self.lost >= self.plan.players => {
                Phase::WarmUp { until: now + self.plan.warm_up_ms * MILLISECOND }
            }
            Phase::WarmUp { until } if now >= until => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.lateness.reset();
                    publisher.blocked = 0;
                }
                self.edges[0] = self.edge()?;
                let until = self.edges[0].at + self.plan.window_ms * MILLISECOND;
                self.tally.window = self.edges[0].at..until;
                Phase::Window { until }
            }
            Phase::Window { until } if now >= until => {
                self.edges[1] = self.edge()?;
                Phase::Drain { until: now + DRAIN }
            }
            Phase::Drain { until } if now >= until || self.tally.received >= self.expected() => Phase::Over,
            unchanged => unchanged,
        };
        Ok(())
    }

    fn edge(&self) -> io::Result<Edge> {
        let server = match self.plan.server {
            0 => Usage::default(),
            pid => Usage::read(pid)?,
        };
        let own = Usage::read(std::process::id())?;
        let core_ticks = process::core_ticks(&self.plan.cores);
        Ok(Edge { at: self.timing.now(), bytes: self.bytes, server, own, core_ticks })
    }

    /// Frames of the window that all viewers who are there together must get.
    fn expected(&self) -> u64 {
        let Some(origin) = self.tally.origin else { return 0 };
        let mut schedule = Schedule::default();
        let mut frames = 0;
        while origin + schedule.peek().offset_ns < self.tally.window.end {
            frames += u64::from(self.tally.window.contains(&(origin + schedule.take().offset_ns)));
        }
        frames * self.viewers()
    }

    fn viewers(&self) -> u64 {
        self.players.iter().filter(|player| player.link.is_some() && player.watch.has_joined()).count() as u64
    }

    fn measures(&self) -> Measures {
        let [from, to] = self.edges;
        let window_s = (to.at - from.at) as f64 / SECOND as f64;
        let cores = self.plan.cores.len() as f64;
        let cpu_s = (to.server.cpu_ns - from.server.cpu_ns) as f64 / SECOND as f64;
        let own_s = (to.own.cpu_ns - from.own.cpu_ns) as f64 / SECOND as f64;
        let ticks = |from: u64, to: u64| (to - from) as f64 / TICKS_PER_S;
        let tally = &self.tally;
        let late = |quantile| self.publisher.as_ref().map_or(0.0, |publisher| ms(&publisher.lateness, quantile));
        Measures {
            window_s,
            viewers: self.viewers() as f64,
            cpu_s: if self.plan.server == 0 { f64::NAN } else { cpu_s },
            cpu_user_s: ticks(from.server.user_ticks, to.server.user_ticks),
            cpu_system_s: ticks(from.server.system_ticks, to.server.system_ticks),
            bytes: (to.bytes - from.bytes) as f64,
            rss_mb: to.server.rss_kb as f64 / 1024.0,
            rss_peak_mb: to.server.rss_peak_kb as f64 / 1024.0,
            threads: to.server.threads as f64,
            switches_voluntary_per_s: (to.server.switches_voluntary - from.server.switches_voluntary) as f64
                / window_s,
            switches_forced_per_s: (to.server.switches_forced - from.server.switches_forced) as f64 / window_s,
            join_p50_ms: ms(&tally.join, 0.5),
            join_p99_ms: ms(&tally.join, 0.99),
            join_max_ms: ms(&tally.join, 1.0),
            age_p50_ms: ms(&tally.age, 0.5),
            age_p99_ms: ms(&tally.age, 0.99),
            age_max_ms: ms(&tally.age, 1.0),
            age_since_sent_p50_ms: ms(&tally.age_since_sent, 0.5),
            age_since_sent_p99_ms: ms(&tally.age_since_sent, 0.99),
            received: tally.received as f64,
            expected: self.expected() as f64,
            lost: self.lost as f64,
            never_joined: (self.plan.players - self.joined) as f64,
            gaps: tally.gaps as f64,
            missing: tally.missing as f64,
            repeated: tally.repeated as f64,
            falls: tally.falls as f64,
            checked: tally.checked as f64,
            corrupt: tally.corrupt as f64,
            strange: tally.strange as f64,
            late_p50_ms: late(0.5),
            late_p99_ms: late(0.99),
            late_max_ms: late(1.0),
            blocked: self.publisher.as_ref().map_or(0, |publisher| publisher.blocked) as f64,
            generator_busy: own_s / window_s,
            foreign_busy: (ticks(from.core_ticks.0, to.core_ticks.0) - cpu_s - own_s) / window_s,
            steal: ticks(from.core_ticks.1, to.core_ticks.1) / (window_s * cores),
            clock_step_ms: self.timing.step_ns() as f64 / MILLISECOND as f64,
        }
    }
}

fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / MILLISECOND as f64
}
