//! What a delivery costs, on one shard and across two. `cargo bench --bench fanout`.

use std::process::ExitCode;

use shardcast::bench::fanout::{Settings, run};
use shardcast::bench::program;
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("fanout", move |context| run(&Settings::of(size), context))])
}
