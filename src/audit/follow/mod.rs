//! Followers of a trail: each carries its records, in order, to a place of its own.
//!
//! ```text
//! shards ── channel ──► writer thread ──► Followed: Trail on disk ── durable: 4711 ──┐
//!                                                                                    ▼
//!                 DIR/followers/NAME.json ◄── cursor ── a thread for each follower reads the trail up to there
//!                 DIR/followers/NAME.refused.jsonl ◄── what nobody will take        and delivers ──► Destination
//! ```
//!
//! The trail on disk is the truth. A follower reads it again, checks its chain on the way, and keeps on disk how far its
//! destination is; so one that is slow, blocked or gone for a week costs nobody anything: it holds no memory, fills no
//! channel, and goes on where it was. A destination that can tell what it has (a table, a topic, a bucket) gets each
//! record once; any other gets the same batch again, under the same [`Batch::id`], if nobody can know whether it came
//! through.
//!
//! What a destination will never take is put aside with its reason, and the trail says so. What fails is tried again for
//! ever, ever more seldom, and the trail says when that began and when it was over.

mod cursor;
mod destination;
mod reader;
mod worker;

#[cfg(feature = "follow-kafka")]
mod kafka;
#[cfg(feature = "follow-postgres")]
mod postgres;
#[cfg(feature = "follow-s3")]
mod s3;
#[cfg(feature = "follow-sqlite")]
mod sqlite;
#[cfg(feature = "follow-syslog")]
mod syslog;
#[cfg(any(feature = "follow-s3", feature = "follow-syslog", feature = "follow-webhook"))]
mod tls;
#[cfg(feature = "follow-webhook")]
mod webhook;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::record::{AuditError, AuditSink, Record};
use super::trail::{CounterPage, Trail};
use crate::clock::{Instant, Now};
use worker::{Shared, Worker};

pub use cursor::CursorError;
pub use destination::{Batch, DeliveryError, Destination, Standing, TrailRecord};
#[cfg(feature = "follow-kafka")]
pub use kafka::{Kafka, KafkaOptions};
#[cfg(feature = "follow-postgres")]
pub use postgres::Postgres;
pub use reader::ReadError;
#[cfg(feature = "follow-s3")]
pub use s3::{LockMode, S3, S3Options};
#[cfg(feature = "follow-sqlite")]
pub use sqlite::Sqlite;
#[cfg(feature = "follow-syslog")]
pub use syslog::{Syslog, SyslogOptions};
#[cfg(any(feature = "follow-s3", feature = "follow-syslog", feature = "follow-webhook"))]
pub use tls::Roots;
#[cfg(feature = "follow-webhook")]
pub use webhook::{Webhook, WebhookError, WebhookSecret};
pub use worker::{FollowerState, FollowerStats};

/// A destination and how it is served.
#[derive(Debug)]
pub struct Follower {
    /// Names its cursor and its records in the trail: letters, digits, `-` and `_`, 64 of them at most.
    pub name: String,
    /// Where records go.
    pub destination: Box<dyn Destination>,
    /// Records of one batch at most.
    pub batch_records: usize,
    /// Bytes of one batch at most, beyond its first record.
    pub batch_bytes: usize,
    /// After a failure it is tried again after so long, then after twice as long, and so on,
    pub retry_first: Duration,
    /// but after so long at most.
    pub retry_most: Duration,
}

impl Follower {
    /// With batches of 500 records or 1 MiB, tried again after half a second to half a minute.
    #[must_use]
    pub fn new(name: impl Into<String>, destination: Box<dyn Destination>) -> Self {
        Self {
            name: name.into(),
            destination,
            batch_records: 500,
            batch_bytes: 1024 * 1024,
            retry_first: Duration::from_millis(500),
            retry_most: Duration::from_secs(30),
        }
    }
}

/// A trail that is followed: an [`AuditSink`].
#[derive(Debug)]
pub struct Followed {
    trail: Trail,
    followers: Vec<Told>,
    told_at: Instant,
}

/// What the trail knows of a follower.
#[derive(Debug)]
struct Told {
    shared: Arc<Shared>,
    /// Records that it has put aside, and that the trail says so of.
    refused: u64,
    /// The trail says that it fails.
    failing: bool,
}

impl Followed {
    /// Starts a thread for each follower.
    ///
    /// # Errors
    /// Two have one name, a cursor cannot be read or is of another trail, or a thread cannot be started.
    pub fn start(trail: Trail, followers: Vec<Follower>) -> Result<(Self, Followers), CursorError> {
        let mut workers = Vec::new();
        let mut told: Vec<Told> = Vec::new();
        for follower in followers {
            if told.iter().any(|other| other.shared.name() == follower.name) {
                return Err(CursorError::Twice(follower.name));
            }
            let (shared, worker) = worker::start(&trail, follower)?;
            told.push(Told { shared, refused: 0, failing: false });
            workers.push(worker);
        }
        let followed = Self { trail, followers: told, told_at: Instant::ZERO };
        followed.publish();
        Ok((followed, Followers { workers }))
    }

    /// Up to where followers may read.
    fn publish(&self) {
        for told in &self.followers {
            told.shared.see_durable(self.trail.durable());
        }
    }

    /// What has become of followers, as records of the trail itself. Of a follower that has put one of these aside
    /// nothing is told, or that would go on for ever.
    fn tell(&mut self, now: Now) -> Result<(), AuditError> {
        if now.mono.since(self.told_at) < TELL_EVERY {
            return Ok(());
        }
        self.told_at = now.mono;
        for told in &mut self.followers {
            let (refused, failing) = (told.shared.refused_facts(), told.shared.fails_for(FAILS_FOR));
            if refused > told.refused {
                self.trail.tell_refused(told.shared.name(), refused - told.refused)?;
                told.refused = refused;
            }
            if failing != told.failing {
                self.trail.tell_follower(told.shared.name(), failing)?;
                told.failing = failing;
            }
        }
        Ok(())
    }
}

impl AuditSink for Followed {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        self.trail.write(records)
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        let flushed = self.trail.flush();
        self.publish();
        flushed
    }

    fn counters(&self) -> Option<Arc<CounterPage>> {
        self.trail.counters()
    }

    fn tick(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        let passed = self.trail.tick(now, attempted).and_then(|()| self.tell(now));
        self.publish();
        passed
    }

    fn close(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        let closed = self.trail.close(now, attempted);
        self.publish();
        closed
    }
}

/// The threads that follow a trail.
#[derive(Debug)]
pub struct Followers {
    workers: Vec<Worker>,
}

impl Followers {
    /// Where each stands, in the order in which they were given.
    #[must_use]
    pub fn stats(&self) -> Vec<FollowerStats> {
        self.workers.iter().map(Worker::stats).collect()
    }

    /// Something to ask for [`FollowerStats`] from other threads.
    #[must_use]
    pub fn watch(&self) -> FollowersWatch {
        FollowersWatch { all: self.workers.iter().map(Worker::shared).collect() }
    }

    /// Delivers what is durable by now, as far as that goes within `grace`, and ends the threads; call it after the
    /// router was stopped. What was not delivered is when the trail is opened the next time. A destination that blocks
    /// longer is left behind with its thread.
    pub fn stop(mut self, grace: Duration) -> Vec<FollowerStats> {
        self.end(grace);
        self.stats()
    }

    fn end(&mut self, grace: Duration) {
        for worker in &self.workers {
            worker.ask_to_stop(grace);
        }
        for worker in &mut self.workers {
            worker.join(grace + JOIN_WITHIN);
        }
    }
}

impl Drop for Followers {
    /// As [`Followers::stop`] with no grace.
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Tells where followers stand.
#[derive(Clone, Debug, Default)]
pub struct FollowersWatch {
    all: Vec<Arc<Shared>>,
}

impl FollowersWatch {
    /// Where each stands.
    #[must_use]
    pub fn stats(&self) -> Vec<FollowerStats> {
        self.all.iter().map(|shared| shared.stats()).collect()
    }
}

/// So often the trail says at most what becomes of followers.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Who fails for so long is worth a record.
const FAILS_FOR: Duration = Duration::from_secs(5);
/// A thread that is not in a call of its destination ends within this.
const JOIN_WITHIN: Duration = Duration::from_millis(500);
