//! Real encoders and players against the real binary: ffmpeg, GStreamer and rtmpdump publish to and play from
//! `shardcast serve`, each test with a server of its own.
//!
//! What a player received is compared packet by packet with what was published. Where a tool is missing the test
//! skips loudly, except with `CI` set, where that is a failure. A failed test shows the command, the state and the
//! last lines of every process it had started.
//!
//! `SHARDCAST_INTEROP_AGAINST=nginx-rtmp` runs the same clients against nginx-rtmp instead: a control group which
//! tells whether a client or shardcast is to blame. Tests of what only shardcast does skip themselves then.
#![cfg(feature = "server")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/tools.rs"]
mod tools;

mod packets;
mod top;
mod media;
mod world;

mod browser;
mod budget;
mod codecs;
mod continuity;
mod endings;
mod http;
mod joining;
mod peers;
mod recordings;
mod refusals;
mod serve;
mod starts;
mod timestamps;
mod viewer;

#[path = "../hostile/peer.rs"]
#[expect(dead_code, reason = "the viewers need but a part of it")]
mod peer;
