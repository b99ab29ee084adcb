//! What is made of a stream's frames besides sending them: playlists and segments in memory, recordings on storage.
//!
//! Each is a [`FrameSink`](crate::extension::FrameSink) on the stream's home shard: it sees every frame once, copies no
//! payload and waits for nobody. What waits for a disk does so on threads of its own.

#[cfg(feature = "hls")]
pub mod hls;
#[cfg(feature = "record")]
pub mod recorder;
#[cfg(feature = "record")]
pub mod storage;
