//! A joiner's way to the first keyframe and to the live edge. `cargo bench --bench join`.

use std::process::ExitCode;

use shardcast::bench::join::{Settings, run};
use shardcast::bench::program;
use shardcast::bench::suite::Job;

fn main() -> ExitCode {
    program::main(|size| vec![Job::new("join", move |context| run(&Settings::of(size), context))])
}
