//! A frame's way from its publisher into the log, with nobody watching. `cargo bench --bench publish`.

use std::process::ExitCode;

use shardcast::bench::program;
use shardcast::bench::publish::{Settings, run};
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("publish", move |context| run(&Settings::of(size), context))])
}
