//! What telling a fact costs: channel empty, sink blocked, channel full. `cargo bench --bench audit`.

use std::process::ExitCode;

use shardcast::bench::audit::{Settings, run};
use shardcast::bench::program;
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("audit", move |context| run(&Settings::of(size), context))])
}
