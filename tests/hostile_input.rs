//! Whatever a peer sends, or fails to send, costs its own connection and nothing else.
//!
//! A router runs in this process with two shards and real loopback sockets, and with canaries: a stream with an
//! RTMP player and a subscriber on the shard that is attacked, and another on the other shard. Each attack must end
//! for its own reason, in time, with exactly one record; the canaries must not miss a frame; connections, streams,
//! subscribers and memory must be back where they were. What needs a process of its own runs the real binary, or
//! this one once more.
#![cfg(feature = "server")]

#[path = "hostile/mod.rs"]
mod hostile;
