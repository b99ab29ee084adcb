//! The ring beside rtrb, crossbeam-channel and the bare cache line. `cargo bench --bench ring`.

use std::process::ExitCode;

use shardcast::bench::program;
use shardcast::bench::ring::{Settings, run};
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("ring", move |context| run(&Settings::of(size), context))])
}
