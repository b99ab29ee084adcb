//! `shardcast serve`: the only file of the command line that calls the router.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use shardcast::Router;
use shardcast::audit::follow::{Followed, Followers, FollowersWatch};
use shardcast::audit::trail::{SigningKey, Trail, TrailOptions};
use shardcast::extension::{AllowAll, Resources};
use shardcast::fact::FactKind;
use shardcast::id::StreamKey;
use shardcast::protocol::http::Http;
use shardcast::protocol::rtmp::Rtmp;
use shardcast::record::hls::Settings;
use shardcast::shard::{Config, Events};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::audit::pseudonym::read_key as pseudonym_key;
use super::banner::{Running, banner};
use super::config::{DEFAULT_HTTP, Idle, LogLevel, Overrides, ServerConfig, parse_duration, parse_memory};
use super::control::Control;
use super::control::place::{default_directory, make_directory};
use super::heap::HeapKeeper;
use super::hls::{HlsKeeper, Shelves};
use super::recording::RecordKeeper;
use super::reload::Reload;
use super::site::Site;
use super::sources::{SourceArgs, Sources};
use super::{Failure, follow, key_file, log};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Listen for RTMP here; may be given several times [default: 127.0.0.1:1935]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    rtmp: Vec<SocketAddr>,

    /// Listen for HTTP here; may be given several times; "off" for nowhere [default: 127.0.0.1:8080, if that is free]
    #[arg(long, value_name = "ADDR", value_parser = http_address)]
    http: Vec<HttpAddress>,

    /// Threads, each with its share of the connections [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,

    /// What a shard does when there is nothing to do: park sleeps at once and costs no CPU, spin never sleeps, a
    /// number spins for so many microseconds before it sleeps [default: park]
    #[arg(long, value_name = "park|spin|MICROSECONDS")]
    idle: Option<Idle>,

    /// Hold no more memory than this: a size such as 512MiB, "auto" for half of what the machine or its control group
    /// has, or "none" [default: auto]
    #[arg(long = "mem", value_name = "SIZE", value_parser = memory)]
    memory: Option<Memory>,

    /// Read this configuration; what is given here stands above it
    #[arg(long, value_name = "FILE", env = "SHARDCAST_CONFIG")]
    config: Option<PathBuf>,

    /// Keep files here: the audit trail goes to DIR/audit; see `shardcast audit`
    #[arg(long, value_name = "DIR", env = "SHARDCAST_DATA")]
    data: Option<PathBuf>,

    /// Record all streams to DIR/recordings of --data DIR, as fragmented MP4; see [record] of the configuration for more
    #[arg(long)]
    record: bool,

    /// Answer `shardcast top` on this Unix socket [default: DIR/control.sock with --data DIR; else
    /// $XDG_RUNTIME_DIR/shardcast/PORT.sock, or /tmp/shardcast-UID/PORT.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// What to say on standard error [default: info]
    #[arg(long, value_name = "LEVEL", env = "SHARDCAST_LOG")]
    log: Option<LogLevel>,

    /// Let everybody publish and play, also from other machines
    #[arg(long)]
    open: bool,

    /// Let in whoever has a token signed with the secret in this file: see `shardcast token`
    #[arg(long, value_name = "FILE")]
    token_secret_file: Option<PathBuf>,

    #[command(flatten)]
    sources: SourceArgs,

    /// How long a stop lets sessions end [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = drain)]
    drain: Option<Duration>,
}

impl Args {
    fn overrides(&self) -> Overrides {
        Overrides {
            rtmp: self.rtmp.clone(),
            http: (!self.http.is_empty()).then(|| self.http.iter().filter_map(|address| address.0).collect()),
            shards: self.shards.map(usize::from),
            idle: self.idle,
            drain: self.drain,
            memory: self.memory.map(|memory| memory.0),
            data: self.data.clone(),
            control: self.control.clone(),
            log: self.log,
            open: self.open,
            record: self.record,
            token_secret_file: self.token_secret_file.clone(),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let overrides = args.overrides();
    let mut config = ServerConfig::load(args.config.as_deref(), &overrides).map_err(Failure::usage)?;
    log::start(config.log);
    warn(&config);
    // Before the router runs: a signal that comes early is not lost.
    let signals = StopSignals::catch().map_err(|error| Failure::runtime(format!("cannot catch signals: {error}")))?;

    let server = Server::start(&config)?;
    let sources = Sources::start(&args.sources, &server.router)?;
    print!("{}", banner(&config, &server.running(args.sources.demo.as_ref())));

    signals.until_stop(|| match ServerConfig::load(args.config.as_deref(), &overrides) {
        Ok(read) => {
            let reload = Reload::between(&config, &read);
            server.apply(&read, &reload);
            warn(&read);
            tracing::info!("{}", reload.sentence());
            config = read;
        }
        Err(error) => {
            server.refused();
            tracing::error!("the configuration was read again and is wrong; the one before stays in force: {error}");
        }
    });
    tracing::info!("stopping: sessions have {:?} to end; another signal ends at once", config.drain);
    sources.stop();
    server.stop(config.drain);
    Ok(())
}

fn warn(config: &ServerConfig) {
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// SIGINT and SIGTERM stop, the second of them at once; SIGHUP reloads.
struct StopSignals {
    signals: Signals,
    stopping: Arc<AtomicBool>,
}

impl StopSignals {
    fn catch() -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Looked at in the handler itself, and set only when the first signal was seen.
            signal_hook::flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, Arc::clone(&stopping))?;
        }
        Ok(Self { signals: Signals::new([SIGINT, SIGTERM, SIGHUP])?, stopping })
    }

    fn until_stop(mut self, mut reload: impl FnMut()) {
        for signal in self.signals.forever() {
            if signal == SIGHUP {
                reload();
            } else {
                self.stopping.store(true, Ordering::SeqCst);
                return;
            }
        }
    }
}

/// The router with what the server adds to it.
struct Server {
    router: Arc<Router>,
    /// None where nothing could be made in the default place.
    control: Option<Control>,
    heap: HeapKeeper,
    site: Arc<Site>,
    hls: HlsKeeper,
    record: Option<RecordKeeper>,
    listeners: Vec<(&'static str, SocketAddr)>,
    cores: Vec<Option<usize>>,
    audit: Option<PathBuf>,
    /// None where no trail is kept.
    followers: Option<Followers>,
    logger: Logger,
}

impl Server {
    fn start(config: &ServerConfig) -> Result<Self, Failure> {
        HeapKeeper::prepare();
        let mut builder = Router::builder().idle(idle(config.idle)).limits(config.limits.clone());
        builder = builder.sample_every(config.sample_every).on_loss(config.on_loss);
        if let Some(shards) = config.shards {
            builder = builder.shards(shards);
        }
        for app in &config.apps {
            builder = builder.app(app.clone());
        }
        for address in &config.rtmp {
            builder = builder.listen(*address, Arc::new(Rtmp));
        }
        let (shelves, wants) = Shelves::new(Settings::default());
        let site = Arc::new(Site::new(!config.access.is_guarded(), Arc::clone(&shelves)));
        for address in http_addresses(config) {
            let resources: Arc<dyn Resources> = Arc::<Site>::clone(&site);
            builder = builder.listen(address, Arc::new(Http::with(resources)));
        }
        if let Some(authenticator) = config.access.authenticator() {
            builder = builder.authenticator(authenticator);
        }
        let audit = config.data.as_ref().map(|data| data.join("audit"));
        let mut followers = None;
        if let Some(dir) = &audit {
            let key = config
                .audit_key
                .as_deref()
                .map(|path| key_file::read(SIGNS, path, SigningKey::from_pem))
                .transpose()?;
            let pseudonyms = config.pseudonym_key.as_deref().map(pseudonym_key).transpose()?;
            let options = TrailOptions { key, pseudonyms, ..TrailOptions::default() };
            let trail = Trail::open(dir, options).map_err(Failure::runtime)?;
            let started = Followed::start(trail, follow::followers(&config.followers)?);
            let (followed, running) = started.map_err(Failure::runtime)?;
            builder = builder.audit(Box::new(followed));
            followers = Some(running);
        }
        let watch = followers.as_ref().map(Followers::watch).unwrap_or_default();
        builder = builder.health_check(Arc::new(follow::FollowersHealth(watch.clone())));
        let router = Arc::new(builder.start().map_err(Failure::runtime)?);
        site.runs(&router);
        let control = control(config, &router, &watch)?;
        let no_thread = |error| Failure::runtime(format!("cannot start a thread: {error}"));
        let hls = HlsKeeper::start(Arc::clone(&router), shelves, wants).map_err(no_thread)?;
        let record = match (&config.record, &config.data) {
            (Some(recording), Some(data)) => {
                Some(RecordKeeper::start(Arc::clone(&router), data, recording.clone()).map_err(Failure::runtime)?)
            }
            _ => None,
        };
        let heap = HeapKeeper::start(Arc::clone(&router)).map_err(no_thread)?;
        let logger = Logger::start(router.events(), watch, config.exit_on_hang).map_err(no_thread)?;
        let listeners = router.listeners().to_vec();
        let cores = router.shards().iter().map(|shard| shard.core).collect();
        Ok(Self { router, control, heap, site, hls, record, listeners, cores, audit, followers, logger })
    }

    fn running<'a>(&'a self, demo: Option<&'a StreamKey>) -> Running<'a> {
        Running {
            listeners: &self.listeners,
            cores: &self.cores,
            audit: self.audit.as_deref(),
            control: self.control.as_ref().map(Control::path),
            demo,
        }
    }

    fn apply(&self, config: &ServerConfig, reload: &Reload) {
        // Each of the two is a record of its own in the trail.
        if reload.replaces_access() {
            self.router.set_authenticator(config.access.authenticator().unwrap_or_else(|| Arc::new(AllowAll)));
        }
        self.site.set_lists(!config.access.is_guarded());
        let apps = config.apps.iter().cloned().map(Arc::new).collect();
        self.router.configure(Config {
            limits: config.limits.clone(),
            apps,
            sample_every: config.sample_every,
            on_loss: config.on_loss,
        });
    }

    fn refused(&self) {
        self.router.configuration_refused();
    }

    fn stop(self, drain: Duration) {
        if let Some(control) = self.control {
            control.stop();
        }
        self.heap.stop();
        self.hls.stop();
        if let Some(record) = self.record {
            record.stop();
        }
        // Nobody else has it by now.
        let Some(router) = Arc::into_inner(self.router) else { return };
        let report = router.stop(drain);
        let followers = self.followers.map(|followers| followers.stop(FOLLOWERS_GRACE)).unwrap_or_default();
        self.logger.stop();
        if !report.drained {
            tracing::warn!("not every session ended within {drain:?}: those left were cut off");
        }
        if report.audit.lost > 0 {
            tracing::warn!("the audit trail lost {} of {} records", report.audit.lost, report.audit.attempted);
        }
        for stats in followers.iter().filter(|stats| stats.lag > 0) {
            let (name, lag) = (&stats.name, stats.lag);
            tracing::warn!(
                "the follower {name:?} of the audit trail is {lag} records behind: they follow after the next start"
            );
        }
    }
}

/// Where the configuration says; if it says nothing, where nobody else listens.
fn http_addresses(config: &ServerConfig) -> Vec<SocketAddr> {
    if let Some(addresses) = &config.http {
        return addresses.clone();
    }
    match std::net::TcpListener::bind(DEFAULT_HTTP) {
        Ok(_) => vec![DEFAULT_HTTP],
        Err(error) => {
            tracing::warn!(
                "nothing is served over HTTP: {DEFAULT_HTTP}: {error}; say --http ADDR for another address"
            );
            Vec::new()
        }
    }
}

/// Where the configuration says; if it says nothing the server runs also without.
fn control(
    config: &ServerConfig,
    router: &Arc<Router>,
    followers: &FollowersWatch,
) -> Result<Option<Control>, Failure> {
    if let Some(path) = config.control_path() {
        return Control::start(&path, Arc::clone(router), followers.clone()).map(Some).map_err(Failure::runtime);
    }
    let Some(port) = router.listeners().first().map(|(_, address)| address.port()) else { return Ok(None) };
    let directory = default_directory();
    let started = make_directory(&directory).and_then(|()| {
        Control::start(&directory.join(format!("{port}.sock")), Arc::clone(router), followers.clone())
    });
    Ok(started.inspect_err(|sentence| tracing::warn!("`shardcast top` will not work: {sentence}")).ok())
}

const fn idle(idle: Idle) -> shardcast::shard::Idle {
    match idle {
        Idle::Park => shardcast::shard::Idle::Park,
        Idle::SpinThenPark(time) => shardcast::shard::Idle::SpinThenPark(time),
        Idle::Spin => shardcast::shard::Idle::Spin,
    }
}

/// Logs facts from a thread of its own, which may wait for a terminal.
struct Logger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Logger {
    fn start(events: Events, followers: FollowersWatch, exit_on_hang: bool) -> std::io::Result<Self> {
        let mut followers = follow::Teller::new(followers);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("shardcast-log".into()).spawn(move || {
            loop {
                // Looked at before the last round, so that what was told until then is logged.
                let last = stopped.load(Ordering::SeqCst);
                while let Some(fact) = events.try_recv() {
                    log::tell(&fact);
                    if exit_on_hang && fact.kind == FactKind::ShardStall {
                        std::process::exit(EXIT_HANGING);
                    }
                }
                followers.tell();
                let missed = events.take_missed();
                if missed > 0 {
                    tracing::warn!("{missed} facts came too fast to be logged; the audit trail has them");
                }
                if last {
                    return;
                }
                std::thread::park_timeout(LOG_EVERY);
            }
        })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

const SIGNS: &str = "the key of the audit trail";

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port, such as 127.0.0.1:1935 or [::]:1935".into())
}

/// What `--http` says; `None` is nowhere.
#[derive(Clone, Copy, Debug)]
struct HttpAddress(Option<SocketAddr>);

fn http_address(text: &str) -> Result<HttpAddress, String> {
    if text == "off" {
        return Ok(HttpAddress(None));
    }
    let sentence = || "\"off\", or an address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned();
    text.parse().map(|address| HttpAddress(Some(address))).map_err(|_| sentence())
}

/// What `--mem` says; `None` is no limit.
#[derive(Clone, Copy, Debug)]
struct Memory(Option<u64>);

fn memory(text: &str) -> Result<Memory, String> {
    parse_memory(text).map(Memory)
}

fn drain(text: &str) -> Result<Duration, String> {
    let drain = parse_duration(text).filter(|drain| *drain <= Duration::from_secs(3600));
    drain.ok_or_else(|| "a time from 0s to 1h with its unit, such as 500ms, 10s or 2m".into())
}

const EXIT_AT_ONCE: i32 = 130;

/// How long followers of the trail may deliver what is left when the router has stopped.
const FOLLOWERS_GRACE: Duration = Duration::from_secs(5);

/// EX_SOFTWARE of sysexits.h.
const EXIT_HANGING: i32 = 70;

/// How often facts are taken to be logged: a shard that tells one never wakes this thread.
const LOG_EVERY: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  shardcast serve
  shardcast serve --rtmp 127.0.0.1:1935 --rtmp [::1]:1935 --shards 2 --idle 200
  shardcast serve --rtmp 0.0.0.0:1935 --open
  shardcast serve --demo --source film.mp4=live/film --ts 239.1.2.3:5000=live/mux
  shardcast serve --config shardcast.toml --data /var/lib/shardcast
  shardcast top                                from another terminal: streams, viewers, where the time goes

What a viewer may add to the name (rtmp://HOST/live/name?start=catch-up&max_age_ms=1000):
  start=instant     begin at the newest keyframe, as it was published; start=catch-up makes the player show the newest
                    picture at once; start=live waits for the next keyframe
  behind_ms=30000   be that far behind, up to delay_max of the application
  max_age_ms=1000   skip rather than be farther behind than this
  merge_ms=100      fewer, larger sends for up to so much delay

Signals:
  SIGINT, SIGTERM   let sessions end within --drain and exit with 0; a second one ends at once with 130
  SIGHUP            read the configuration file again: limits, applications and access change at once;
                    if the file is wrong, nothing changes

In the file times are texts with a unit (\"10s\", \"500ms\"), sizes are bytes or texts (\"64KiB\"):
see `shardcast config example`.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Overrides, clap::Error> {
        Wrapper::try_parse_from(line.split(' ')).map(|wrapper| wrapper.args.overrides())
    }

    #[test]
    fn flags_become_what_stands_above_the_file() {
        let given =
            parse("serve --rtmp 127.0.0.1:1 --rtmp [::1]:2 --shards 3 --idle 200 --drain 2s --log debug --data d --mem 64MiB")
                .unwrap();
        assert_eq!(given.rtmp, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!((given.shards, given.idle), (Some(3), Some(Idle::SpinThenPark(Duration::from_micros(200)))));
        assert_eq!((given.drain, given.log), (Some(Duration::from_secs(2)), Some(LogLevel::Debug)));
        assert_eq!(given.memory, Some(Some(64 << 20)));
        assert_eq!(parse("serve --mem none").unwrap().memory, Some(None));
        assert_eq!((given.data, given.open), (Some(PathBuf::from("d")), false));
    }

    #[test]
    fn a_wrong_flag_is_refused_with_what_is_allowed() {
        for (line, expected) in [
            ("serve --rtmp localhost", "an address and a port, such as 127.0.0.1:1935"),
            ("serve --shards 0", "0 is not in 1..=256"),
            ("serve --shards 257", "257 is not in 1..=256"),
            ("serve --idle sleep", "must be \"park\", \"spin\" or a time"),
            ("serve --drain 10", "a time from 0s to 1h with its unit"),
            ("serve --mem 1MiB", "a size from 16MiB on with its unit"),
            ("serve --log loud", "possible values: off, error, warn, info, debug, trace"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }
}
