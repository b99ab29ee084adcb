//! RTMP relaying, end to end: what a viewer costs the server, and what the viewer gets.
//!
//! `cargo bench --bench relay -- --help` says the rest; the scenarios are a library, in `relay/`.

#[path = "relay/mod.rs"]
mod relay;

fn main() -> std::process::ExitCode {
    relay::main(std::env::args().skip(1).collect())
}
