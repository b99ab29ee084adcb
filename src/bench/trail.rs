//! What a record costs the writer of the trail, and whoever verifies it: chained, hashed, put into the tree, written,
//! synced now and then; read, hashed and compared again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::figures::{Found, Row, histogram};
use super::{BenchError, all_of};
use crate::audit::trail::{SigningKey, Trail, TrailOptions, Verifier};
use crate::audit::{AuditPipeline, AuditSink, Capacity, Entry, Record};
use crate::clock::Clock;
use crate::fact::{Fact, FactKind};
use crate::id::ShardId;

/// Writes a trail of this many records and verifies it.
pub(super) fn measure(found: &mut Found, clock: Clock, records: u64, fact: &Fact) -> Result<(), BenchError> {
    let folder = Folder::new();
    let failed = |error: &dyn Display| BenchError::System {
        action: "keep a trail",
        source: io::Error::other(error.to_string()),
    };
    let key = SigningKey::generate().map_err(|error| failed(&error))?;
    let public = key.verifying();
    let options = TrailOptions { key: Some(key), ..TrailOptions::default() };
    let mut trail = Trail::open(&folder.0, options).map_err(|error| failed(&error))?;
    let start = clock.instant();
    let mut seq = 0;
    while seq < records {
        let batch = (seq + 1..=(seq + BATCH).min(records)).map(|number| Record {
            seq: number,
            producer: 0,
            producer_seq: number,
            entry: Entry::Fact(fact.clone()),
        });
        let batch: Vec<Record> = batch.collect();
        seq += batch.len() as u64;
        let told = [(0, seq)].into();
        let written = trail.tick(clock.now(), &mut || BTreeMap::clone(&told));
        written.and_then(|()| trail.write(&batch)).and_then(|()| trail.flush()).map_err(|error| failed(&error))?;
    }
    let per_record = |ns: u64| ns as f64 / records as f64;
    let row = |metric| Row::ns("shardcast", metric);
    let written = per_record(clock.instant().0 - start.0);
    found.push(row("record made, chained and synced").goal(2_000.0, "500,000 records a second on one core"), written);
    let told = [(0, records)].into();
    let closed = trail.close(clock.now(), &mut || BTreeMap::clone(&told));
    closed.map_err(|error| failed(&error))?;
    drop(trail);

    let start = clock.instant();
    let verifier = Verifier { key: Some(&public), ..Verifier::default() };
    let report = verifier.verify(&folder.0, &mut |_| {}).map_err(|error| failed(&error))?;
    let verified = per_record(clock.instant().0 - start.0);
    found.push(row("record verified").goal(1_000.0, "a million records a second"), verified);
    all_of("findings of the verifier", report.findings.len() as u64, 0)?;
    all_of("facts in the trail", report.sums().1, records)
}

/// How long who is let in waits to be on record, with nothing else to be written and in a flood of telemetry: as many
/// times as `count`, one after the other.
pub(super) fn settle(found: &mut Found, clock: Clock, count: usize, fact: &Fact) -> Result<(), BenchError> {
    let folder = Folder::new();
    let failed = |error: &dyn Display| BenchError::System {
        action: "keep a trail",
        source: io::Error::other(error.to_string()),
    };
    let trail = Trail::open(&folder.0, TrailOptions::default()).map_err(|error| failed(&error))?;
    let pipeline = AuditPipeline::start(vec![Box::new(trail)], FLOODED, clock);
    let mut producer = pipeline.producer(0);
    for (beside, floods) in [("nothing", false), ("a flood of telemetry", true)] {
        let mut times = histogram();
        let since = found.now();
        let over = AtomicBool::new(false);
        let mut flooding = pipeline.producer(1 + u16::from(floods));
        std::thread::scope(|scope| {
            if floods {
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        flooding.emit(Fact::new(FactKind::Skip, clock.now(), ShardId(1)));
                    }
                });
            }
            let waited = (0..count).try_for_each(|_| {
                let start = clock.instant();
                let mut told = fact.clone();
                told.now = clock.now();
                let number = producer.emit_now(told).ok_or_else(|| failed(&"a decision found no room"))?;
                loop {
                    match producer.durable(number) {
                        Some(true) => break,
                        Some(false) => return Err(failed(&"a decision did not come to the disk")),
                        None => std::thread::sleep(LOOK_AGAIN),
                    }
                }
                times.saturating_record(clock.instant().since(start).as_nanos().try_into().unwrap_or(u64::MAX));
                Ok(())
            });
            over.store(true, Ordering::Relaxed);
            waited
        })?;
        let row = |metric| Row::ns("shardcast", metric).param("beside", beside);
        let p50 = found.samples(row("decision until it is on disk"), &times, since);
        found.push(row("decision until it is on disk"), p50);
        let p99 = times.value_at_quantile(0.99) as f64;
        found.push(row("decision until it is on disk, p99").goal(50e6, "50 ms, whatever else is told"), p99);
    }
    let stats = pipeline.stop(Duration::from_secs(10));
    all_of("facts written or marked", stats.written + stats.lost, stats.attempted)
}

/// As a router has it.
const FLOODED: Capacity = Capacity { decisions: 4096, telemetry: 8192 };
/// What a shard's timer looks after.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Records of one batch, as many as the writer offers at once.
const BATCH: u64 = 1_024;

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("shardcast-bench-trail-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
