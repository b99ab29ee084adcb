//! `shardcast push`: publishes a file to a server.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use shardcast::clock::Clock;
use shardcast::ingest::push::{Push, PushError};
use shardcast::ingest::{FeedError, FileSource, Pacer, Sent, Stop, feed};
use shardcast::protocol::rtmp::client::Url;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// FLV, MPEG-TS or MP4, by what is in it; - or a named pipe for FLV, MPEG-TS or fragmented MP4 as it comes
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Where to: rtmp://HOST[:PORT]/APP/NAME[?token=…]
    #[arg(value_name = "URL", value_parser = url)]
    url: Url,

    /// Begin again at the end, with timestamps that go on
    #[arg(long = "loop")]
    looping: bool,

    /// Send as fast as the server takes it, instead of in real time
    #[arg(long)]
    no_pace: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let named = |error| Failure::runtime(format!("{}: {error}", args.file.display()));
    let mut source = FileSource::open(&args.file, args.looping).map_err(named)?;
    let (clock, stop) = (Clock::start(), Stop::default());
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, stop.flag())
            .and_then(|_| signal_hook::flag::register(signal, stop.flag()))
            .map_err(|error| Failure::runtime(format!("cannot catch signals: {error}")))?;
    }
    let failed = |error: PushError| match error {
        PushError::NoName => Failure::usage(error),
        error => Failure::runtime(error),
    };
    let mut push = match Push::connect(&args.url, clock, &stop) {
        Err(PushError::Stopped) => return Ok(()),
        connected => connected.map_err(failed)?,
    };

    let line = Line::new();
    let pacer = (!args.no_pace).then(Pacer::default);
    let started = clock.instant();
    let fed = feed(&mut source, None, &mut push, pacer, &clock, &stop, |sent| line.show(sent));
    line.clear();
    let sent = fed.map_err(|error| match error {
        FeedError::Source(error) => named(error),
        FeedError::Outlet(error, _) => failed(error),
    })?;
    let (unknown, left_out) = (push.left_out(), source.left_out());
    push.end().map_err(failed)?;
    eprintln!(
        "{} frames, {} kB, {} of media in {}",
        sent.frames,
        sent.bytes / 1000,
        seconds(media(&sent)),
        seconds(clock.instant().since(started))
    );
    if left_out > 0 {
        eprintln!("{left_out} frames were left out: they could not be read, or decoded without a keyframe");
    }
    if unknown > 0 {
        eprintln!(
            "{unknown} frames were left out: RTMP carries neither their codec nor more than one track of a kind"
        );
    }
    Ok(())
}

/// What is told on a terminal while it runs.
struct Line(ProgressBar);

impl Line {
    fn new() -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        // The template is a constant of ours.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, sent: &Sent) {
        if self.0.is_hidden() {
            return;
        }
        let time = media(sent);
        let kbps = u128::from(sent.bytes) * 8 / time.as_millis().max(1);
        self.0.set_message(format!("{}  {} frames  {kbps} kb/s", seconds(time), sent.frames));
        self.0.tick();
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn media(sent: &Sent) -> Duration {
    Duration::from_nanos(u64::try_from(sent.until.0).unwrap_or(0))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}: rtmp://HOST[:PORT]/APP/NAME"))?;
    if url.name.is_some() { Ok(url) } else { Err("it names no stream: rtmp://HOST[:PORT]/APP/NAME".into()) }
}

const EXIT_AT_ONCE: i32 = 130;

const EXAMPLES: &str = "\
Examples:
  shardcast push film.mp4 rtmp://127.0.0.1/live/film
  shardcast push --loop loop.flv \"rtmp://example.org/live/loop?token=$(shardcast token …)\"
  ffmpeg -i … -f mpegts - | shardcast push - rtmp://127.0.0.1/live/film

A signal (SIGINT, SIGTERM) ends the publish in order; a second one ends at once.

Exit codes:
  0 the file was sent, or a signal ended it; 1 it was not possible: the file cannot be read, nobody listens, or the
  server refused, in its own words; 2 wrong arguments; 130 ended at once";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_name_a_stream() {
        assert_eq!(url("rtmp://h/live/a/b?token=x").unwrap().stream().as_deref(), Some("a/b?token=x"));
        for (text, why) in [("rtmp://h/live", "names no stream"), ("http://h/live/a", "rtmp://"), ("rtmp://h", "app")]
        {
            assert!(url(text).unwrap_err().contains(why), "{text}");
        }
    }
}
