//! From one shard to another, beside the bare cache line, ring and wake-up. `cargo bench --bench hop`.

use std::process::ExitCode;

use shardcast::bench::hop::{Settings, run};
use shardcast::bench::program;
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("hop", move |context| run(&Settings::of(size), context))])
}
