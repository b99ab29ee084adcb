//! A trail that is written and followed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shardcast::audit::AuditPipeline;
use shardcast::audit::follow::{Destination, Followed, Follower, FollowerStats, Followers};
use shardcast::audit::trail::{Head, Trail, TrailOptions, segments};
use shardcast::clock::Clock;
use shardcast::fact::{Fact, FactKind, Who};
use shardcast::id::{ConnectionId, ShardId};

use crate::process::{Dir, SOON, now, wait_for};

/// A pipeline with a trail and one follower.
pub(crate) struct World {
    pipeline: AuditPipeline,
    followers: Followers,
}

impl World {
    pub(crate) fn start(trail: &Path, destination: impl Destination + 'static) -> Self {
        let follower = Follower {
            batch_records: 20,
            retry_first: Duration::from_millis(50),
            retry_most: Duration::from_millis(400),
            ..Follower::new("it", Box::new(destination))
        };
        let trail = Trail::open(trail, TrailOptions::default()).unwrap();
        let (followed, followers) = Followed::start(trail, vec![follower]).unwrap();
        let pipeline = AuditPipeline::start(vec![Box::new(followed)], 4096, Clock::start());
        Self { pipeline, followers }
    }

    /// Facts with hard names: quotes, line ends, other scripts, NUL.
    pub(crate) fn tell(&self, count: u64) {
        let mut producer = self.pipeline.producer(1);
        let principal = Some("a\"b'c;--日本\r\n\0\u{1b}[2J".into());
        let who = Who { connection: ConnectionId(7), peer: None, protocol: "host", principal };
        for number in 0..count {
            let fact = Fact::new(FactKind::PlayStart, Clock::start().now(), ShardId(0)).who(&who).count(number);
            producer.emit(fact);
        }
        wait_for("that it is written", SOON, || {
            let stats = self.pipeline.stats();
            (stats.written == stats.attempted).then_some(())
        });
    }

    pub(crate) fn stats(&self) -> FollowerStats {
        self.followers.stats().remove(0)
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn(&FollowerStats) -> bool) -> FollowerStats {
        let end = now() + 2 * SOON;
        loop {
            let stats = self.stats();
            if holds(&stats) {
                return stats;
            }
            assert!(now() < end, "waited in vain: {what}: {stats:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Until all of the trail is delivered.
    pub(crate) fn delivered(&self) {
        self.until("that all is delivered", |stats| stats.lag == 0 && stats.delivered > 0);
    }

    pub(crate) fn stop(self) -> FollowerStats {
        let stats = self.pipeline.stop(SOON);
        assert_eq!(stats.lost, 0);
        let stats = self.followers.stop(SOON).remove(0);
        assert_eq!(stats.lag, 0, "{stats:?}");
        stats
    }
}

/// A folder for a trail.
pub(crate) fn trail_in(dir: &Dir) -> PathBuf {
    dir.path().join("audit")
}

/// Its name, and its lines by their numbers.
pub(crate) fn read_trail(trail: &Path) -> (String, BTreeMap<u64, String>) {
    let mut lines = BTreeMap::new();
    for (_, path) in segments(trail).unwrap() {
        for line in fs::read_to_string(path).unwrap().lines() {
            lines.insert(Head::read(line.as_bytes()).unwrap().seq, line.to_owned());
        }
    }
    let first: serde_json::Value = serde_json::from_str(&lines[&1]).unwrap();
    (first["log"].as_str().unwrap().to_owned(), lines)
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
