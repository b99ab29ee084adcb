//! shardcast routes live media: one publisher's frames reach thousands of late-joining subscribers, instantly,
//! without a copy of the payload, without a lock on the way, and without silently dropping anything.
//!
//! The modules stand in dependency order: each uses only those above it (a test reads the order from here).

pub mod clock;
pub mod limits;
pub mod id;
pub mod reason;
pub mod fact;
pub mod ring;
pub mod media;
#[cfg(feature = "media")]
pub mod codec;
#[cfg(any(feature = "rtmp", feature = "media"))]
pub mod container;
pub mod extension;
pub mod protocol;
#[cfg(any(feature = "hls", feature = "record"))]
pub mod record;
pub mod audit;
pub mod stream;
pub mod net;
pub mod shard;
pub mod router;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "bench")]
pub mod bench;

pub use router::Router;
