//! What a server publishes itself: files, the demo, MPEG-TS over UDP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shardcast::Router;
use shardcast::id::StreamKey;
use shardcast::ingest::{Feed, FileSource, IngestEvent, TsAddress, TsReceiver, demo};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct SourceArgs {
    /// Show a test picture with a clock and a beep on this stream [default of APP/NAME: live/demo]
    #[arg(long, value_name = "APP/NAME", num_args = 0..=1, default_missing_value = "live/demo", value_parser = key)]
    pub(super) demo: Option<StreamKey>,

    /// Publish a file (FLV, MPEG-TS, MP4) as a live stream that begins again at its end, or what comes out of a pipe
    /// (FLV, MPEG-TS, fragmented MP4; - is the standard input); may be given several times
    #[arg(long, value_name = "FILE=APP/NAME", value_parser = source)]
    source: Vec<Source>,

    /// Publish the MPEG-TS, bare or in RTP, that comes to this UDP address, or to a multicast group that is joined,
    /// on the interface behind @; may be given several times
    #[arg(long, value_name = "ADDR[@INTERFACE]=APP/NAME", value_parser = ts)]
    ts: Vec<Ts>,
}

/// A file or pipe, and the stream that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    path: PathBuf,
    key: StreamKey,
}

/// Where datagrams come to, and the stream that they become.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ts {
    address: TsAddress,
    key: StreamKey,
}

/// They run, each on a thread of its own.
pub(super) struct Sources {
    feeds: Vec<Feed>,
    receivers: Vec<(TsReceiver, Ts)>,
}

impl Sources {
    pub(super) fn start(args: &SourceArgs, router: &Arc<Router>) -> Result<Self, Failure> {
        let no_thread = |error| Failure::runtime(format!("cannot start a thread: {error}"));
        let feed = |key: &StreamKey, name: String, path: Option<&Path>, source| {
            let told = key.clone();
            let tell = move |event| tell(&name, &told, &event);
            Feed::start(Arc::clone(router), key.clone(), path, source, tell).map_err(no_thread)
        };
        let mut feeds = Vec::new();
        if let Some(key) = &args.demo {
            let source = demo().map_err(|error| Failure::runtime(format!("the demo: {error}")))?;
            feeds.push(feed(key, "the demo".into(), None, source)?);
        }
        for Source { path, key } in &args.source {
            let name = path.display().to_string();
            // A pipe has no second lap.
            let opened = FileSource::open(path, false).and_then(|once| match once.is_pipe() {
                true => Ok(once),
                false => FileSource::open(path, true),
            });
            let source = opened.map_err(|error| Failure::runtime(format!("{name}: {error}")))?;
            feeds.push(feed(key, name, Some(path), source)?);
        }
        let mut receivers = Vec::new();
        for ts in &args.ts {
            let (name, told) = (ts.address.to_string(), ts.key.clone());
            let tell = move |event| tell(&name, &told, &event);
            let receiver = TsReceiver::start(Arc::clone(router), ts.key.clone(), ts.address, tell)
                .map_err(|error| Failure::runtime(format!("MPEG-TS at {}: {error}", ts.address)))?;
            tracing::info!("MPEG-TS that comes to {} is published as {}", receiver.address(), ts.key);
            receivers.push((receiver, ts.clone()));
        }
        Ok(Self { feeds, receivers })
    }

    /// Ends what they publish.
    pub(super) fn stop(self) {
        self.feeds.into_iter().for_each(Feed::stop);
        for (receiver, ts) in self.receivers {
            let came = receiver.counters();
            if came.lost_packets + came.lost_datagrams + came.others + came.foreign > 0 {
                tracing::warn!(
                    "MPEG-TS at {}: of {} datagrams {} came from others and {} were no MPEG-TS; {} gaps in packets, {} \
                     datagrams missing by their RTP numbers",
                    ts.address,
                    came.datagrams,
                    came.others,
                    came.foreign,
                    came.lost_packets,
                    came.lost_datagrams
                );
            }
            receiver.stop();
        }
    }
}

fn tell(name: &str, key: &StreamKey, event: &IngestEvent) {
    match event {
        IngestEvent::Began => tracing::info!("{name} is published as {key}"),
        IngestEvent::Finished => tracing::info!("{name} has ended, and {key} with it"),
        IngestEvent::Silent => tracing::warn!("{name} is silent: {key} has ended, until something comes"),
        IngestEvent::Refused(reason) => tracing::warn!("{name} cannot be published as {key} now: {reason}"),
        IngestEvent::Ended(reason) => tracing::warn!("{name} is no longer published as {key}: {reason}"),
        IngestEvent::Failed(error) => tracing::error!("{name} cannot be published as {key}: {error}"),
        _ => {}
    }
}

fn key(text: &str) -> Result<StreamKey, String> {
    StreamKey::parse(text).map_err(|error| format!("a stream such as live/film: {error}"))
}

/// The last = divides: a file may have one in its name, a stream may not.
fn divided(text: &str) -> Result<(&str, StreamKey), String> {
    let (what, stream) = text.rsplit_once('=').filter(|(what, _)| !what.is_empty()).ok_or("=APP/NAME is missing")?;
    Ok((what, key(stream)?))
}

fn source(text: &str) -> Result<Source, String> {
    divided(text).map(|(path, key)| Source { path: path.into(), key })
}

fn ts(text: &str) -> Result<Ts, String> {
    let (address, key) = divided(text)?;
    Ok(Ts { address: address.parse().map_err(str::to_owned)?, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_what_stands_before_the_last_equals_sign() {
        let read = source("a=b.mp4=live/film").unwrap();
        assert_eq!((read.path, read.key.to_string()), (PathBuf::from("a=b.mp4"), "live/film".into()));
        for (text, why) in [("film.mp4", "=APP/NAME is missing"), ("=live/a", "=APP"), ("f=live", "a stream such as")]
        {
            assert!(source(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn an_address_may_name_the_interface_of_a_group() {
        let read = ts("239.1.2.3:5000@192.168.1.5=live/mux").unwrap();
        assert_eq!(read.address.to_string(), "239.1.2.3:5000@192.168.1.5");
        assert_eq!(ts("[::]:5000=live/a").unwrap().address.to_string(), "[::]:5000");
        for (text, why) in [
            ("localhost:1=live/a", "an address and a port"),
            ("10.0.0.1:1@10.0.0.2=live/a", "a group"),
            ("239.1.1.1:1@eth0=live/a", "IPv4 address"),
        ] {
            assert!(ts(text).unwrap_err().contains(why), "{text}");
        }
    }
}
