//! What `relay` is asked for.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::RelayError;
use super::media::{KBPS, KBPS_MIN};
use super::subject::Subject;
use crate::bench::Size;

/// A run of `relay`: each subject with each merging and each number of players, in turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who is measured.
    pub subjects: Vec<Subject>,
    /// How messages are merged, where that can be chosen.
    pub merges: Vec<Merge>,
    /// Publishers.
    pub streams: u32,
    /// Players of each stream.
    pub players: Vec<usize>,
    /// How often everything is measured.
    pub repetitions: usize,
    /// How long each measurement is; best a multiple of the GOP's two seconds.
    pub window: Duration,
    /// Between the last join and the window.
    pub warm_up: Duration,
    /// The ramp; by default a quarter of the players each second, 100 at least.
    pub joins_per_s: Option<u32>,
    /// Visitors that join each second during the window, and as many that leave.
    pub churn_per_s: u32,
    /// How long a visitor stays.
    pub stay: Duration,
    /// Slow readers among the players.
    pub slow: Option<Slow>,
    /// Video and audio of a stream, kb/s.
    pub kbps: u32,
    /// One player of so many checks the body of each frame.
    pub check_every: usize,
    /// The core of the server; by default the first that there is.
    pub server_core: Option<usize>,
    /// The cores of the generators; by default the second that there is.
    pub generator_cores: Vec<usize>,
    /// Whether the costs and times of runs that were not valid are told, too.
    pub keeps_invalid: bool,
    /// How the processes of a run are started.
    pub programs: Programs,
}

impl Settings {
    /// What is measured by default: shardcast and the floor, beside nginx-rtmp where that is installed.
    #[must_use]
    pub fn of(size: Size, programs: Programs) -> Self {
        let merges = |all: &[Merge]| all.to_vec();
        let (streams, repetitions, window, warm_up) = match size {
            Size::Test => (2, 1, 1, 0),
            Size::Smoke => (1, 1, 4, 1),
            Size::Standard => (1, 5, 6, 2),
            Size::Full => (1, 5, 10, 3),
        };
        Self {
            subjects: vec![Subject::Shardcast { shards: 1 }, Subject::Floor],
            merges: match size {
                Size::Test | Size::Smoke => merges(&[Merge::AudioRides]),
                Size::Standard => merges(&[Merge::Window(0), Merge::AudioRides, Merge::Window(350)]),
                Size::Full => merges(&[0, 20, 50, 100, 350].map(Merge::Window)),
            },
            streams,
            players: match size {
                Size::Test => vec![5],
                Size::Smoke => vec![200],
                Size::Standard => vec![1_000],
                Size::Full => vec![100, 500, 1_000, 2_000],
            },
            repetitions,
            window: Duration::from_secs(window),
            warm_up: Duration::from_secs(warm_up),
            joins_per_s: None,
            churn_per_s: if size == Size::Test { 10 } else { 0 },
            // Longer than a GOP: also a server that sends nobody an old keyframe has sent one by then.
            stay: Duration::from_secs(3),
            slow: (size == Size::Test).then_some(Slow { share: 0.2, kind: SlowKind::Paused }),
            kbps: KBPS,
            check_every: 1,
            server_core: None,
            generator_cores: Vec::new(),
            keeps_invalid: matches!(size, Size::Test | Size::Smoke),
            programs,
        }
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), RelayError> {
        let rule = |ok: bool, name, value: &dyn fmt::Display, rule| {
            if ok { Ok(()) } else { Err(RelayError::Setting { name, value: value.to_string(), rule }) }
        };
        let most = self.players.iter().max().copied().unwrap_or(0);
        let streams = usize::try_from(self.streams).unwrap_or(usize::MAX);
        rule(!self.subjects.is_empty(), "subjects", &0, "there must be somebody to measure")?;
        rule((1..=10_000).contains(&self.streams), "streams", &self.streams, "1 to 10000")?;
        rule(self.players.iter().all(|players| *players > 0) && most > 0, "players", &most, "at least 1")?;
        rule(most.saturating_mul(streams) <= 1_000_000, "players", &most, "at most 1000000 of all streams")?;
        rule(self.repetitions > 0, "repetitions", &self.repetitions, "at least 1")?;
        rule(!self.merges.is_empty(), "merge", &"nothing", "at least one")?;
        rule(self.window >= Duration::from_secs(1), "window", &self.window.as_secs_f64(), "at least 1 s")?;
        rule(self.joins_per_s != Some(0), "ramp", &0, "at least 1 a second")?;
        rule(self.kbps >= KBPS_MIN, "bitrate", &self.kbps, "at least 200 kb/s")?;
        rule(self.check_every > 0, "check-every", &self.check_every, "at least 1")?;
        let slow = self.slow.map_or(0.0, |slow| slow.share);
        rule((0.0..1.0).contains(&slow), "slow", &(slow * 100.0), "a share below 100 %")
    }

    /// The ramp for so many players of all streams.
    pub(crate) fn joins_per_s(&self, players: usize) -> u64 {
        self.joins_per_s.map_or_else(|| (players as u64 / 4).max(100), u64::from)
    }
}

/// How messages share sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Video leaves at once, audio with the next video frame: what shardcast does by default.
    AudioRides,
    /// All of so many milliseconds; at 0 each message is sent alone.
    Window(u32),
}

impl FromStr for Merge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::AudioRides),
            ms => ms.parse().map(Self::Window).map_err(|_| "'default' or a number of milliseconds".into()),
        }
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AudioRides => f.write_str("default"),
            Self::Window(ms) => write!(f, "{ms} ms"),
        }
    }
}

/// Players that do not read as fast as they should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// Their share of the players, of 1.
    pub share: f64,
    /// What is wrong with them.
    pub kind: SlowKind,
}

/// How a slow reader reads, once it has its first keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlowKind {
    /// Not at all until the window is over; then everything that is there.
    Paused,
    /// A quarter of what it should, in small pieces.
    Trickling,
}

impl FromStr for Slow {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (share, kind) = text.split_once(':').unwrap_or((text, "paused"));
        let kind = match kind {
            "paused" => SlowKind::Paused,
            "trickling" => SlowKind::Trickling,
            _ => return Err("the kind of a slow reader is 'paused' or 'trickling'".into()),
        };
        let percent: Option<f64> = share.strip_suffix('%').unwrap_or(share).parse().ok();
        match percent.filter(|percent| (0.0..100.0).contains(percent)) {
            Some(percent) => Ok(Self { share: percent / 100.0, kind }),
            None => Err("a share such as 5% or 5%:trickling".into()),
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SlowKind::Paused => "paused",
            SlowKind::Trickling => "trickling",
        };
        write!(f, "{} % {kind}", self.share * 100.0)
    }
}

/// How the processes of a run are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The program that serves when it is started with `serve`.
    pub shardcast: PathBuf,
    /// This program: what starts it again as a part of the harness, see [`super::part`].
    pub own: PathBuf,
    /// The arguments that make it one.
    pub part: Vec<OsString>,
}

impl Programs {
    /// This very program serves, and is a part of the harness when started with these arguments.
    ///
    /// # Errors
    ///
    /// If the system does not tell where the program lies.
    pub fn own(part: &[&str]) -> Result<Self, RelayError> {
        let own = std::env::current_exe().map_err(RelayError::system("the path of this program"))?;
        Ok(Self { shardcast: own.clone(), own, part: part.iter().map(OsString::from).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line_are_read_and_shown_again() {
        assert_eq!("default".parse(), Ok(Merge::AudioRides));
        assert_eq!("350".parse(), Ok(Merge::Window(350)));
        assert!("fast".parse::<Merge>().is_err());
        assert_eq!("5%".parse(), Ok(Slow { share: 0.05, kind: SlowKind::Paused }));
        let slow: Slow = "2.5:trickling".parse().unwrap();
        assert_eq!(slow.to_string(), "2.5 % trickling");
        for bad in ["100%", "-1", "x", "5%:asleep"] {
            assert!(bad.parse::<Slow>().is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let programs = Programs { shardcast: "s".into(), own: "o".into(), part: Vec::new() };
        let good = Settings::of(Size::Standard, programs);
        assert!(good.check().is_ok());
        for spoil in [
            (|s| s.subjects.clear()) as fn(&mut Settings),
            |s| s.streams = 0,
            |s| s.players = vec![10, 0],
            |s| s.repetitions = 0,
            |s| s.window = Duration::ZERO,
            |s| s.joins_per_s = Some(0),
            |s| s.kbps = 100,
            |s| s.slow = Some(Slow { share: 1.0, kind: SlowKind::Paused }),
        ] {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(bad.check().is_err_and(|error| error.is_usage()), "{bad:?}");
        }
    }
}
