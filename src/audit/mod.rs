//! The audit trail: every fact of every stream's life, numbered, written by a thread of its own.
//!
//! Owns the way from a shard to the sinks: [`AuditProducer::emit`] (a store, a bounded `try_send`, a store) →
//! the writer thread → [`AuditSink`]s. It never makes the media path wait and never loses a record in silence:
//! what the channel could not take is itself a record, in its place, and `attempted = written + lost` is exact.
//!
//! `trail` keeps it on disk: chained, signed, exact also after a kill. `follow` carries it from there to other places.

#[cfg(feature = "trail")]
pub mod follow;
mod json;
mod memory;
mod pipeline;
mod record;
#[cfg(feature = "trail")]
pub mod trail;
mod utc;
mod writer;

#[cfg(test)]
mod tests;

pub use json::{LINE_VERSION, TEXT_BYTES_MAX, is_sly, write_line};
pub use memory::MemorySink;
pub use pipeline::{AuditPipeline, AuditProducer, AuditStats, Capacity, TELEMETRY, producer_of};
pub use record::{AuditError, AuditSink, Entry, Loss, LossCause, Record};
#[cfg(feature = "bench")]
pub(crate) use utc::rfc3339;
