//! What others on a shard do to a stream. `cargo bench --bench fair`.

use std::process::ExitCode;

use shardcast::bench::fair::{Settings, run};
use shardcast::bench::program;
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("fair", move |context| run(&Settings::of(size), context))])
}
