//! What the micro benches share: figures, pins, the bare cache line, the fingerprint of the machine, and a lone
//! shard in a world that costs nothing.
//!
//! `cargo bench` runs the real sizes; `cargo test --benches`, which passes no `--bench`, runs tiny ones, so that
//! nothing rots.
#![allow(dead_code, unused_imports, reason = "each bench uses a part of it")]

mod figures;
mod frames;
mod line;
mod machine;
mod world;

pub(crate) use figures::{Percentiles, Series, chunks, clock_ns, histogram};
pub(crate) use frames::{Frames, PAYLOAD_BYTES, PERIOD_NS, Verifier, sequence_of, wrapped};
pub(crate) use line::{LineHop, wait_until};
pub(crate) use machine::{Machine, pin};
#[cfg(feature = "rtmp")]
pub(crate) use world::PlaysAtOnce;
pub(crate) use world::{Lone, NullEnv, NullSocket, Took, key};

/// Whether the real sizes are wanted.
pub(crate) fn is_full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A size of the real run, and of the one that only shows that it runs.
pub(crate) fn size<T>(full: T, tiny: T) -> T {
    if is_full() { full } else { tiny }
}
