//! Bytes of an idle stream, subscriber and connection, and allocations of a frame. `cargo bench --bench memory`.
//!
//! The program counts what its allocator is asked for; the one that serves does not.

use std::alloc::System;
use std::process::ExitCode;

use shardcast::bench::memory::{Again, Counted, Settings, run};
use shardcast::bench::program;
use shardcast::bench::suite::Job;
use stats_alloc::StatsAlloc;

#[global_allocator]
static HEAP: StatsAlloc<System> = StatsAlloc::system();

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(done) = program::part(&arguments, Some(count)) {
        return done;
    }
    program::main(|size| {
        vec![Job::new("memory", move |context| {
            run(&Settings::of(size, Some(Again::this(&[program::PART])?), Some(count)), context)
        })]
    })
}

fn count() -> Counted {
    let stats = HEAP.stats();
    Counted {
        allocated: stats.bytes_allocated as u64,
        freed: stats.bytes_deallocated as u64,
        allocations: (stats.allocations + stats.reallocations) as u64,
    }
}
