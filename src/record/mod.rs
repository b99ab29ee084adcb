//! What is made of a stream's frames besides sending them: segments and playlists.
//!
//! A packager is a [`FrameSink`](crate::extension::FrameSink) on the stream's home shard: it sees every frame once and
//! copies no payload. What it makes may be asked for from any thread. Nothing here knows a socket, a thread or a file.

pub mod hls;
