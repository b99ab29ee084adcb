//! The latest records in memory, for tests and for hosts that look at the trail themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::record::{AuditError, AuditSink, Record};

/// Keeps the latest records; a clone sees the same ones, so one goes into the pipeline and one stays.
#[derive(Clone, Debug)]
pub struct MemorySink {
    kept: Arc<Kept>,
}

impl MemorySink {
    /// Keeps the latest `capacity` records.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let kept = Kept { capacity, records: Mutex::default(), changed: Condvar::new() };
        Self { kept: Arc::new(kept) }
    }

    /// A copy of what is kept, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.kept.records.lock().iter().cloned().collect()
    }

    /// Blocks until what is kept satisfies `wanted`, at most for `timeout`; whether it does.
    #[must_use]
    pub fn wait_for(&self, timeout: Duration, mut wanted: impl FnMut(&VecDeque<Record>) -> bool) -> bool {
        let mut records = self.kept.records.lock();
        !self.kept.changed.wait_while_for(&mut records, |records| !wanted(records), timeout).timed_out()
    }
}

impl AuditSink for MemorySink {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        let mut kept = self.kept.records.lock();
        for record in records {
            if kept.len() >= self.kept.capacity {
                kept.pop_front();
            }
            kept.push_back(record.clone());
        }
        kept.truncate(self.kept.capacity);
        self.kept.changed.notify_all();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Kept {
    capacity: usize,
    records: Mutex<VecDeque<Record>>,
    changed: Condvar,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Entry, Loss, LossCause};
    use crate::clock::Now;

    #[test]
    fn the_latest_records_are_kept_and_older_ones_make_room() {
        let mut sink = MemorySink::new(2);
        let seen = sink.clone();

        sink.write(&[record(1), record(2)]).unwrap();
        sink.write(&[record(3)]).unwrap();

        assert_eq!(seen.records(), [record(2), record(3)]);
        assert!(seen.wait_for(Duration::ZERO, |records| records.back().is_some_and(|last| last.seq == 3)));
        assert!(!seen.wait_for(Duration::ZERO, |records| records.len() == 3));
    }

    fn record(seq: u64) -> Record {
        let (now, cause) = (Now::default(), LossCause::ChannelFull);
        let loss = Loss { producer: 0, first: 1, last: 1, count: 1, cause, first_seen: now, last_seen: now };
        Record { seq, producer: 0, producer_seq: 1, entry: Entry::Loss(loss) }
    }
}
