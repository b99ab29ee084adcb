//! `shardcast bench relay`: servers under load, over sockets.

use std::time::Duration;

use shardcast::bench::relay::{self, IdleSettings, Merge, Programs, RelayError, Settings, Slow, Subject, Url};
use shardcast::bench::suite::Job;

use super::scenarios::Common;
use crate::cli::Failure;
use crate::cli::config::parse_duration;

/// What makes this program a part of the harness.
pub(super) const PART: [&str; 2] = ["bench", "relay-part"];

/// Each option has a default by the size of the run; what is given here stands above it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// Measure this server, here or elsewhere: rtmp://HOST[:PORT]/APP[/NAME][?QUERY][#PID]; may be given several
    /// times. With the id of its process its CPU time and memory are read, too. Without it a shardcast is started
    #[arg(long, value_name = "URL", value_parser = url)]
    target: Vec<Url>,

    /// Start this server and measure it in the same run
    #[arg(long, value_name = "nginx", value_parser = peer)]
    peer: Vec<Subject>,

    /// Start a shardcast with so many shards; 0 for none [default: 1, or none beside --target]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    shards: Option<u16>,

    /// Do not measure the floor, a bare loop of sends
    #[arg(long)]
    no_floor: bool,

    /// Publishers
    #[arg(long, value_name = "N")]
    streams: Option<u32>,

    /// Players of each stream; several numbers are measured one after another
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    players: Vec<usize>,

    /// How messages share sends where that can be chosen: default (audio rides with video), 0 (each alone), or all
    /// of so many milliseconds; several are measured in turns
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    merge: Vec<Merge>,

    /// How long each measurement is; best a multiple of the 2s from keyframe to keyframe
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,

    /// How long everything runs before that
    #[arg(long, value_name = "TIME", value_parser = time)]
    warm_up: Option<Duration>,

    /// Players that join each second at the start [default: a quarter of them, 100 at least]
    #[arg(long, value_name = "N/s")]
    ramp: Option<u32>,

    /// Visitors that join each second while it is measured, and as many that leave
    #[arg(long, value_name = "N/s")]
    churn: Option<u32>,

    /// How long a visitor stays [default: 3s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    stay: Option<Duration>,

    /// Players that read too slowly: a share, and paused (not at all) or trickling (a quarter), such as 5%:trickling
    #[arg(long, value_name = "SHARE[:KIND]")]
    slow: Option<Slow>,

    /// Video and audio of a stream together, kb/s [default: 2560]
    #[arg(long, value_name = "KB/S")]
    bitrate: Option<u32>,

    /// One player of so many checks the body of each frame, all of them check its stamp [default: 1]
    #[arg(long, value_name = "N")]
    check_every: Option<usize>,

    /// Hold so many idle connections instead, and measure what they cost
    #[arg(long, value_name = "CONNECTIONS", num_args = 0..=1, default_missing_value = "10000",
          conflicts_with_all = ["streams", "players", "merge", "churn", "slow", "bitrate"])]
    idle: Option<usize>,

    /// The core of a server that is started here [default: the first]
    #[arg(long, value_name = "N")]
    server_core: Option<usize>,

    /// The cores of the load: one generator on each [default: the second]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    generator_cores: Vec<usize>,

    /// Tell costs and times also of runs that were disturbed or lost something; they are not to be quoted
    #[arg(long)]
    keep_invalid: bool,
}

/// What this program does when it was started as a part of the harness: it speaks to the one who started it.
pub(super) fn run_part() -> Result<(), Failure> {
    relay::part().map_err(Failure::runtime)
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let programs = Programs::own(&PART).map_err(Failure::runtime)?;
        if let Some(connections) = self.idle {
            let settings = self.idle_settings(connections, programs);
            return self
                .common
                .run(true, || Ok(Job::new("idle", move |context| Ok(relay::run_idle(&settings, context)?))));
        }
        let (settings, default) = (self.settings(programs.clone()), Settings::of(self.common.scope.size, programs));
        self.common
            .run(settings != default, || Ok(Job::new("relay", move |context| Ok(relay::run(&settings, context)?))))
    }

    fn settings(&self, programs: Programs) -> Settings {
        let default = Settings::of(self.common.scope.size, programs);
        let or = |given: &[usize], default: Vec<usize>| if given.is_empty() { default } else { given.to_vec() };
        let mut subjects = self.servers();
        if !self.no_floor {
            subjects.push(Subject::Floor);
        }
        Settings {
            subjects,
            merges: if self.merge.is_empty() { default.merges } else { self.merge.clone() },
            streams: self.streams.unwrap_or(default.streams),
            players: or(&self.players, default.players),
            repetitions: self.common.repetitions.unwrap_or(default.repetitions),
            window: self.duration.unwrap_or(default.window),
            warm_up: self.warm_up.unwrap_or(default.warm_up),
            joins_per_s: self.ramp.or(default.joins_per_s),
            churn_per_s: self.churn.unwrap_or(default.churn_per_s),
            stay: self.stay.unwrap_or(default.stay),
            slow: self.slow.or(default.slow),
            kbps: self.bitrate.unwrap_or(default.kbps),
            check_every: self.check_every.unwrap_or(default.check_every),
            server_core: self.server_core,
            generator_cores: self.generator_cores.clone(),
            keeps_invalid: self.keep_invalid || default.keeps_invalid,
            programs: default.programs,
        }
    }

    fn idle_settings(&self, connections: usize, programs: Programs) -> IdleSettings {
        let default = IdleSettings::of(self.common.scope.size, programs);
        IdleSettings {
            subjects: self.servers(),
            connections,
            repetitions: self.common.repetitions.unwrap_or(default.repetitions),
            window: self.duration.unwrap_or(default.window),
            server_core: self.server_core,
            holder_core: self.generator_cores.first().copied(),
            programs: default.programs,
        }
    }

    fn servers(&self) -> Vec<Subject> {
        let shards = self.shards.unwrap_or_else(|| self.target.is_empty().into());
        let ours = (shards > 0).then_some(Subject::Shardcast { shards: shards.into() });
        let running = self.target.iter().cloned().map(Subject::Running);
        ours.into_iter().chain(self.peer.iter().cloned()).chain(running).collect()
    }
}

fn url(text: &str) -> Result<Url, RelayError> {
    text.parse()
}

fn peer(text: &str) -> Result<Subject, String> {
    match text {
        "nginx" => Ok(Subject::Nginx),
        _ => Err("only nginx can be started here; others are measured with --target".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time with its unit, such as 500ms, 6s or 2m".into())
}

const EXAMPLES: &str = "\
Examples:
  shardcast bench relay --players 1000 --peer nginx            shardcast, nginx-rtmp and the floor in turns
  shardcast bench relay --players 2000 --merge default,50,350  what merging buys
  shardcast bench relay --streams 25 --players 40 --churn 50   joins and leaves meanwhile
  shardcast bench relay --players 500 --slow 10%:paused        whether slow readers harm others
  shardcast bench relay --target 'rtmp://10.0.0.7/live?key=1'  any server; rtmp://127.0.0.1/live#PID also its CPU
  shardcast bench relay --idle 10000                           connections that wait

How to read it:
  CPU per viewer-second  of the server, from the system; compare with the floor's: the bytes must be sent anyway
  age at the player      from when the frame was due to when it was there; a server that stalls is not spared
  join                   from connecting to the first whole keyframe
A run in which frames are missing, changed or repeated, or which the machine disturbed, is not valid: it is warned of
and its costs and times are left out.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: Args,
    }

    fn settings(line: &str) -> Settings {
        let args = Wrapper::try_parse_from(line.split(' ')).unwrap().args;
        args.settings(Programs::own(&PART).unwrap())
    }

    #[test]
    fn without_options_shardcast_and_the_floor_are_measured() {
        let settings = settings("relay");
        assert_eq!(settings.subjects, [Subject::Shardcast { shards: 1 }, Subject::Floor]);
        assert!(settings.repetitions >= 5 && !settings.keeps_invalid);
    }

    #[test]
    fn a_target_stands_in_for_ours_unless_ours_is_asked_for() {
        let target = Subject::Running("rtmp://127.0.0.1/live#9".parse().unwrap());
        let alone = settings("relay --target rtmp://127.0.0.1/live#9 --no-floor").subjects;
        assert_eq!(alone, std::slice::from_ref(&target));
        let both = settings("relay --target rtmp://127.0.0.1/live#9 --no-floor --shards 2 --peer nginx").subjects;
        assert_eq!(both, [Subject::Shardcast { shards: 2 }, Subject::Nginx, target]);
    }

    #[test]
    fn what_is_given_stands_above_the_size() {
        let given = settings(
            "relay --streams 25 --players 40,80 --merge default,0,350 --duration 10s --warm-up 500ms --ramp 1000 \
             --churn 50 --stay 1s --slow 10%:trickling --bitrate 600 --generator-cores 1,2 --keep-invalid",
        );
        assert_eq!((given.streams, given.players, given.kbps), (25, vec![40, 80], 600));
        assert_eq!(given.merges, [Merge::AudioRides, Merge::Window(0), Merge::Window(350)]);
        assert_eq!((given.window, given.warm_up), (Duration::from_secs(10), Duration::from_millis(500)));
        assert_eq!((given.joins_per_s, given.churn_per_s, given.stay), (Some(1000), 50, Duration::from_secs(1)));
        assert_eq!(given.slow, "10%:trickling".parse().ok());
        assert!(given.keeps_invalid && given.generator_cores == [1, 2]);
    }

    #[test]
    fn idle_is_a_measurement_of_its_own() {
        let args = |line: &str| Wrapper::try_parse_from(line.split(' ')).map(|wrapper| wrapper.args);
        assert_eq!(args("relay --idle").unwrap().idle, Some(10_000));
        assert_eq!(args("relay --idle 500 --peer nginx").unwrap().servers().len(), 2);
        assert!(args("relay --idle --players 9").is_err());
        for bad in ["--target http://x/y", "--peer apache", "--merge fast", "--slow 200%", "--duration 5"] {
            assert!(args(&format!("relay {bad}")).is_err(), "{bad}");
        }
    }
}
