//! What a sink is given, and what it may answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
#[cfg(feature = "trail")]
use std::sync::Arc;

#[cfg(feature = "trail")]
use super::trail::CounterPage;
use crate::clock::Now;
use crate::fact::Fact;

/// Takes records, in order. Called on the writer thread alone, so it may block: the media path never notices,
/// and what does not fit the channel meanwhile is counted and marked.
pub trait AuditSink: Send {
    /// Takes a batch. After an error the whole batch is offered again a few times, so a record may arrive twice
    /// (its `seq` tells); then the batch is given up for this sink, which shows as a gap in `seq`.
    ///
    /// # Errors
    /// Whatever keeps the sink from taking the batch; it is counted and kept in
    /// [`AuditStats::last_error`](super::AuditStats::last_error).
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError>;

    /// Makes durable what was taken. Called every few milliseconds while there is something, and at the end.
    ///
    /// # Errors
    /// As [`AuditSink::write`]; what was not made durable is not offered again.
    fn flush(&mut self) -> Result<(), AuditError>;

    /// Where producers are to count what they tell, so that it survives the process; asked once, at the start. The
    /// first sink that has such a place is taken.
    #[cfg(feature = "trail")]
    fn counters(&self) -> Option<Arc<CounterPage>> {
        None
    }

    /// Time passes, also where nothing comes: several times a second. `attempted` tells what each producer has told.
    ///
    /// # Errors
    /// As [`AuditSink::write`].
    fn tick(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        let _ = (now, attempted);
        Ok(())
    }

    /// The end: all that was told was offered, and flushed.
    ///
    /// # Errors
    /// As [`AuditSink::write`].
    fn close(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        let _ = (now, attempted);
        Ok(())
    }
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the trail of this pipeline, from 1, without a gap, over facts and losses.
    pub seq: u64,
    /// Who told it: a shard, or the router.
    pub producer: u16,
    /// The producer's own number of it, from 1: of a loss, the first that is missing.
    pub producer_seq: u64,
    /// What it says.
    pub entry: Entry,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something happened.
    Fact(Fact),
    /// Facts are missing here.
    Loss(Loss),
}

/// Facts that were told and are not in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose.
    pub producer: u16,
    /// The producer's number of the first that is missing.
    pub first: u64,
    /// The producer's number of the last that is missing.
    pub last: u64,
    /// How many are missing.
    pub count: u64,
    /// Why.
    pub cause: LossCause,
    /// When the writer noticed the first of them.
    pub first_seen: Now,
    /// When the writer noticed the last of them.
    pub last_seen: Now,
}

/// Why facts are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossCause {
    /// The channel was full: a sink was too slow for too long.
    ChannelFull,
    /// No sink took them, however often they were offered.
    SinksRefused,
}

impl LossCause {
    /// The stable word in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChannelFull => "channel_full",
            Self::SinksRefused => "sinks_refused",
        }
    }
}

/// Why a sink did not take a batch or could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The operating system said no to a file.
    #[error("the audit file {path}: cannot {action}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried: a verb.
        action: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// Another pipeline writes this file.
    #[error("the audit file {path} is being written by another shardcast: give each its own")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// A host's own sink failed.
    #[error("an audit sink failed: {0}")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sink panicked; it is not called again.
    #[error("an audit sink panicked and is not called again")]
    Panicked,
    /// There is no writer thread: every fact is lost, and counted.
    #[error("cannot start the audit thread: {0}")]
    Thread(#[source] std::io::Error),
}
