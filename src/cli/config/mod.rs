//! The configuration of the server: text → values that cannot be invalid.
//!
//! Everything that is wrong is told at once, each with its line, its key and what is allowed. What the command
//! line says stands above what the file says.

mod access;
mod apps;
mod follow;
mod limits;
mod listen;
mod machine;
mod reader;
mod record;
mod units;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use shardcast::extension::TokenKey;
use shardcast::limits::{Limits, SAMPLE_EVERY, SHARDS_MAX};
use shardcast::shard::{LossPolicy, OnLoss};
use shardcast::stream::AppSpec;
use toml::de::{DeTable, DeValue};

pub(crate) use access::{Access, read_secret_file};
pub(crate) use follow::{FollowerSpec, To};
pub(crate) use listen::DEFAULT_HTTP;
pub(crate) use reader::Problem;
pub(crate) use record::Recording;
#[cfg(feature = "bench")]
pub(crate) use units::parse_bytes;
pub(crate) use units::{parse_duration, parse_memory, show_duration};

use reader::{Problems, Section};
use units::{count, duration, list, shown, text, word, yes_or_no};

/// The whole configuration of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    /// `None`: one for each core.
    pub(crate) shards: Option<usize>,
    pub(crate) idle: Idle,
    /// How long a stop lets sessions end.
    pub(crate) drain: Duration,
    /// A shard that does not finish its turn ends the program, so that whoever supervises it starts it anew.
    pub(crate) exit_on_hang: bool,
    /// One frame in so many of each stream is timed; 0: none.
    pub(crate) sample_every: u32,
    /// Where `shardcast top` asks; `None`: where it looks by default.
    pub(crate) control: Option<PathBuf>,
    /// The file of the key that signs the audit trail's checkpoints.
    pub(crate) audit_key: Option<PathBuf>,
    /// The file of the key by which addresses and principals are hidden in the trail.
    pub(crate) pseudonym_key: Option<PathBuf>,
    /// What is recorded; `None`: nothing.
    pub(crate) record: Option<Recording>,
    /// Where the trail is carried to.
    pub(crate) followers: Vec<FollowerSpec>,
    /// What becomes of sessions while facts do not reach the trail.
    pub(crate) on_loss: LossPolicy,
    pub(crate) rtmp: Vec<SocketAddr>,
    /// `None`: [`DEFAULT_HTTP`], if it is free.
    pub(crate) http: Option<Vec<SocketAddr>>,
    pub(crate) limits: Limits,
    /// At least one.
    pub(crate) apps: Vec<AppSpec>,
    pub(crate) access: Access,
    /// Where the server keeps files; `None`: nowhere.
    pub(crate) data: Option<PathBuf>,
    pub(crate) log: LogLevel,
    /// What is allowed and yet looks wrong, a sentence for each.
    pub(crate) warnings: Vec<String>,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Instead of the file's, if there is any.
    pub(crate) rtmp: Vec<SocketAddr>,
    /// Instead of the file's; inside it may be empty.
    pub(crate) http: Option<Vec<SocketAddr>>,
    pub(crate) shards: Option<usize>,
    pub(crate) idle: Option<Idle>,
    pub(crate) drain: Option<Duration>,
    /// Outside: it was not given; inside: no limit.
    pub(crate) memory: Option<Option<u64>>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) control: Option<PathBuf>,
    pub(crate) log: Option<LogLevel>,
    pub(crate) open: bool,
    /// Everything is recorded, if the file does not say what.
    pub(crate) record: bool,
    /// One more token key, named `default`.
    pub(crate) token_secret_file: Option<PathBuf>,
}

impl ServerConfig {
    /// Reads the file if there is one, and puts the command line above it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let Some(path) = file else {
            return Self::from_text("", Path::new(""), overrides).map_err(ConfigError::given);
        };
        let read = fs::read_to_string(path).map_err(|error| ConfigError {
            file: Some(path.to_owned()),
            problems: vec![Problem { line: None, text: format!("cannot be read: {error}") }],
        })?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        Self::from_text(&read, base, overrides)
            .map_err(|problems| ConfigError { file: Some(path.to_owned()), problems })
    }

    /// Paths in the text are relative to `base`.
    fn from_text(source: &str, base: &Path, overrides: &Overrides) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new(source);
        let mut config = match DeTable::parse(source) {
            Ok(table) => read_config(Section::root(table.get_ref(), &problems), base),
            Err(error) => {
                problems.note(
                    error.span().map_or(0, |span| span.start),
                    format!("this is not TOML: {}", error.message()),
                );
                return Err(problems.into_found());
            }
        };
        let mut found = problems.into_found();
        let told = config
            .put_above(overrides)
            .and_then(|()| listen::check(&config.rtmp, config.http.as_deref().unwrap_or_default(), &config.access))
            .and_then(|()| apps::check(&config.apps, config.data.is_some()))
            .and_then(|()| match config.followers.is_empty() || config.data.is_some() {
                true => Ok(()),
                false => Err("audit.follower needs a trail to follow: give data (or --data DIR)".into()),
            })
            .and_then(|()| match config.record.is_none() || config.data.is_some() {
                true => Ok(()),
                false => Err("record.apps needs a place to record to: give data (or --data DIR)".into()),
            });
        if let Err(text) = told
            && found.is_empty()
        {
            found.push(Problem { line: None, text });
        }
        if found.is_empty() { Ok(config) } else { Err(found) }
    }

    /// The control socket, where one was named or follows from the data directory.
    pub(crate) fn control_path(&self) -> Option<PathBuf> {
        self.control.clone().or_else(|| Some(self.data.as_ref()?.join(CONTROL_SOCKET)))
    }

    fn put_above(&mut self, overrides: &Overrides) -> Result<(), String> {
        let given = overrides.clone();
        if !given.rtmp.is_empty() {
            self.rtmp = given.rtmp;
        }
        self.http = given.http.or_else(|| self.http.take());
        self.shards = given.shards.or(self.shards);
        self.idle = given.idle.unwrap_or(self.idle);
        self.drain = given.drain.unwrap_or(self.drain);
        self.data = given.data.or_else(|| self.data.take());
        self.control = given.control.or_else(|| self.control.take());
        self.log = given.log.unwrap_or(self.log);
        self.limits.memory = given.memory.unwrap_or(self.limits.memory);
        if self.limits.memory == machine::share() {
            // Nobody said so: many shards on a small machine are no error.
            let least = self.limits.memory_least(self.shards.unwrap_or_else(cores));
            self.limits.memory = self.limits.memory.map(|share| share.max(least));
        }
        if given.record && self.record.is_none() {
            self.record = Some(Recording::of_all());
        }
        self.access.open |= given.open;
        if let Some(path) = given.token_secret_file {
            let secret = read_secret_file(&path, &mut self.warnings)
                .map_err(|text| format!("the file of --token-secret-file {text}"))?;
            if self.access.token_keys.iter().any(|key| key.id() == DEFAULT_KEY_ID) {
                return Err(format!(
                    "--token-secret-file is the token key {DEFAULT_KEY_ID:?}, which the file has too: rename that one"
                ));
            }
            let key = TokenKey::new(DEFAULT_KEY_ID, secret.as_bytes())
                .map_err(|error| format!("the secret in {} cannot be used: {error}", path.display()))?;
            self.access.token_keys.push(key);
        }
        Ok(())
    }
}

/// Shards that a router has if nobody says how many.
fn cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len().max(1))
}

/// The control socket's name in the data directory.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// The name of the key that the command line gives.
pub(crate) const DEFAULT_KEY_ID: &str = "default";

/// What a shard does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Sleeps at once.
    Park,
    /// Looks for work all the time.
    Spin,
    /// Looks for so long, then sleeps.
    SpinThenPark(Duration),
}

impl FromStr for Idle {
    type Err = String;
    /// `park`, `spin`, a time such as `200us`, or a number of microseconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = || text.parse().ok().map(Duration::from_micros).or_else(|| parse_duration(text));
        match text {
            "park" => Ok(Self::Park),
            "spin" => Ok(Self::Spin),
            _ => match time().filter(|time| *time <= IDLE_SPIN_MOST) {
                Some(Duration::ZERO) => Ok(Self::Park),
                Some(time) => Ok(Self::SpinThenPark(time)),
                None => {
                    Err("must be \"park\", \"spin\" or a time up to \"1s\" to spin before parking, such as \"200us\""
                        .into())
                }
            },
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Park => f.write_str("park"),
            Self::Spin => f.write_str("spin"),
            Self::SpinThenPark(time) => f.write_str(&show_duration(*time)),
        }
    }
}

/// The longest spin that still counts as "then park".
const IDLE_SPIN_MOST: Duration = Duration::from_secs(1);

/// How much the server says on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Everything that is wrong with a configuration, a line for each.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// `None`: the command line alone.
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

impl ConfigError {
    const fn given(problems: Vec<Problem>) -> Self {
        Self { file: None, problems }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            match &self.file {
                Some(file) => write!(f, "{end}{}: {problem}", file.display())?,
                None => write!(f, "{end}{problem}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

fn read_config(mut root: Section<'_>, base: &Path) -> ServerConfig {
    let mut warnings = Vec::new();
    let data = root.take("data", |value| text(value).map(|path| base.join(path)));
    let log = root.take("log", log_level);
    let control = root.take("control", |value| text(value).map(|path| base.join(path)));
    let mut router = root.section("router");
    let shards = router.take("shards", shards).flatten();
    let idle = router
        .take("idle", |value| text(value)?.parse::<Idle>().map_err(|text| format!("{text}, not {}", shown(value))));
    let exit_on_hang = router.take("exit_on_hang", yes_or_no).unwrap_or(false);
    let sample_every = router.take("sample_every", count(0..=1_000_000)).unwrap_or(SAMPLE_EVERY);
    let drain = router.take("drain", duration(Duration::ZERO..=Duration::from_secs(3600)));
    router.finish();
    let mut listen = root.section("listen");
    let rtmp = listen.take("rtmp", list(listen::address));
    let http = listen.take("http", list(listen::address));
    listen.finish();
    let mut audit = root.section("audit");
    let audit_key = audit.take("key_file", |value| text(value).map(|path| base.join(path)));
    let pseudonym_key = audit.take("pseudonym_key_file", |value| text(value).map(|path| base.join(path)));
    let mut on_loss = LossPolicy::default();
    for (key, policy) in [("on_decision_loss", &mut on_loss.decisions), ("on_telemetry_loss", &mut on_loss.telemetry)]
    {
        if let Some(given) = audit.take(key, word(ON_LOSS)) {
            *policy = given;
        }
    }
    let followers = follow::read_followers(audit.sections("follower"), base);
    audit.finish();
    let record = record::read_record(root.section("record"));
    let limits = limits::read_limits(root.section("limits"));
    let apps = apps::read_apps(root.sections("app"), base);
    let access = access::read_access(root.section("auth"), base, &mut warnings);
    root.finish();
    ServerConfig {
        shards,
        idle: idle.unwrap_or(Idle::Park),
        drain: drain.unwrap_or(Duration::from_secs(10)),
        exit_on_hang,
        sample_every,
        control,
        audit_key,
        pseudonym_key,
        followers,
        record,
        on_loss,
        rtmp: rtmp.unwrap_or_else(|| vec![listen::DEFAULT_RTMP]),
        http,
        limits,
        apps,
        access,
        data,
        log: log.unwrap_or(LogLevel::Info),
        warnings,
    }
}

const ON_LOSS: [(&str, OnLoss); 3] =
    [("continue", OnLoss::Continue), ("refuse-new", OnLoss::RefuseNew), ("halt", OnLoss::Halt)];

fn shards(value: &DeValue<'_>) -> Result<Option<usize>, String> {
    if value.as_str() == Some("auto") {
        return Ok(None);
    }
    count(1..=SHARDS_MAX as u64)(value)
        .map(Some)
        .map_err(|_| format!("must be \"auto\" or a whole number from 1 to {SHARDS_MAX}, not {}", shown(value)))
}

fn log_level(value: &DeValue<'_>) -> Result<LogLevel, String> {
    let level = value.as_str().and_then(|text| <LogLevel as clap::ValueEnum>::from_str(text, false).ok());
    level.ok_or_else(|| {
        format!("must be \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", not {}", shown(value))
    })
}
