//! What the server says on standard error, and facts among it.

use std::io::IsTerminal;

use shardcast::fact::{Fact, FactKind};
use shardcast::reason::Blame;
use tracing_subscriber::EnvFilter;

use super::config::LogLevel;

/// Sends what this program logs to standard error; of its libraries warnings only.
pub(super) fn start(level: LogLevel) {
    let own = match level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let others = if level == LogLevel::Off { "off" } else { "warn" };
    let filter = EnvFilter::new(format!("{others},shardcast={own}"));
    // A host that embeds this binary's code in a test may have set its own.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// Logs a fact. From a thread that may wait for a terminal: neither a shard nor the audit writer, whose sinks are
/// the trail and nothing else.
pub(super) fn tell(fact: &Fact) {
    match importance(fact) {
        Importance::Warning => tracing::warn!("{}", sentence(fact)),
        Importance::Information => tracing::info!("{}", sentence(fact)),
        Importance::Detail => tracing::debug!("{}", sentence(fact)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Importance {
    Warning,
    Information,
    Detail,
}

fn importance(fact: &Fact) -> Importance {
    match fact.kind {
        FactKind::ShardPanic | FactKind::ShardStall => Importance::Warning,
        _ if fact.reason.is_some_and(|reason| matches!(reason.blame(), Blame::Router)) => Importance::Warning,
        FactKind::ConnectionOpen | FactKind::ConnectionClose | FactKind::Skip => Importance::Detail,
        _ => Importance::Information,
    }
}

/// `publish_start live/demo generation=1 rtmp 127.0.0.1:5000 "eve"`: what a peer chose is quoted and escaped.
fn sentence(fact: &Fact) -> String {
    let mut words = vec![fact.name().to_owned()];
    words.extend(fact.stream.as_ref().map(ToString::to_string));
    if let Some(who) = &fact.who {
        words.push(who.protocol.to_owned());
        words.extend(who.peer.map(|peer| peer.to_string()));
        words.push(format!("connection={}", who.connection));
        words.extend(who.principal.as_ref().map(|principal| format!("{principal:?}")));
    }
    if fact.bytes > 0 || !fact.duration.is_zero() {
        words.push(format!("bytes={} seconds={:.3}", fact.bytes, fact.duration.as_secs_f64()));
    }
    if fact.count > 0 {
        words.push(format!("count={}", fact.count));
    }
    words.extend(fact.host.as_ref().and_then(|event| event.note.as_ref()).map(|note| format!("{note:?}")));
    words.extend(fact.reason.map(|reason| format!("because {reason}")));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shardcast::clock::Now;
    use shardcast::fact::Who;
    use shardcast::id::{ConnectionId, ShardId, StreamKey};
    use shardcast::reason::Reason;

    use super::*;

    #[test]
    fn a_fact_is_a_line_in_which_a_peer_cannot_write() {
        let who = Who {
            connection: ConnectionId(7),
            peer: "192.0.2.1:5000".parse().ok(),
            protocol: "rtmp",
            principal: Some("eve\n\x1b[2J".into()),
        };
        let fact = Fact::new(FactKind::PlayEnd, Now::default(), ShardId(0))
            .stream(&StreamKey::parse("live/demo").unwrap())
            .who(&who)
            .totals(5, Duration::from_millis(1500))
            .reason(Reason::Lag);
        assert_eq!(
            sentence(&fact),
            r#"play_end live/demo rtmp 192.0.2.1:5000 connection=7 "eve\n\u{1b}[2J" bytes=5 seconds=1.500 because the subscriber stayed too far behind"#
        );
    }

    #[test]
    fn our_own_faults_are_warnings_and_connections_are_details() {
        let fact = |kind| Fact::new(kind, Now::default(), ShardId(0));
        assert_eq!(importance(&fact(FactKind::ShardPanic)), Importance::Warning);
        assert_eq!(importance(&fact(FactKind::PlayEnd).reason(Reason::Panic)), Importance::Warning);
        assert_eq!(importance(&fact(FactKind::PublishStart)), Importance::Information);
        assert_eq!(importance(&fact(FactKind::ConnectionOpen)), Importance::Detail);
    }
}
