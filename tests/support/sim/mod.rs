//! A world for the router: shards on one thread, virtual time, a network in memory, faults and checkers, all from one
//! seed. `tests/simulation.rs` says what is checked.

pub mod auth;
pub mod book;
pub mod client;
pub mod cluster;
pub mod encoder;
pub mod env;
pub mod host;
pub mod net;
pub mod ops;
pub mod payload;
pub mod proto;
pub mod rng;
#[cfg(feature = "rtmp")]
pub mod rtmp;
pub mod swarm;
pub mod watcher;
pub mod world;
