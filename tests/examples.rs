//! The examples prove themselves: each is run, ends soon, and says what happened.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use shardcast::clock::{Clock, Instant};

#[test]
fn publish_subscribe_delivers_its_frames() {
    assert!(run("publish_subscribe").contains("5 frames"));
}

#[test]
fn custom_protocol_publishes_and_plays_over_sockets() {
    let said = run("custom_protocol");
    assert!(said.contains("ERR name_taken") && said.contains("D at 80 ms: another"), "{said}");
}

#[test]
fn late_authenticator_lets_one_in_and_two_not() {
    let said = run("late_authenticator");
    assert!(said.contains("alice: welcome") && said.contains("did not answer in time"), "{said}");
}

#[test]
fn shard_sink_measures_the_stream() {
    assert!(run("shard_sink").contains("a GOP of 25 frames, 12500 bytes"));
}

#[test]
fn every_declared_example_is_run_here() {
    let manifest = include_str!("../Cargo.toml");
    let declared = manifest.matches("path = \"tools/examples/").count();
    let run = include_str!("examples.rs").matches("run(\"").count();
    assert_eq!(declared, run);
}

fn run(name: &str) -> String {
    let example = examples().join(name);
    let clock = Clock::start();
    let done = Command::new(&example).output().unwrap_or_else(|error| panic!("{}: {error}", example.display()));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{name}: {}\n{said}{}", done.status, String::from_utf8_lossy(&done.stderr));
    // Two seconds alone on a machine; others run beside it here.
    assert!(clock.instant().since(Instant::ZERO) < Duration::from_secs(10), "{name} takes too long");
    said
}

/// Where they lie, built: `target/PROFILE/examples` (this test is in `target/PROFILE/deps`).
///
/// `cargo test` has built them already and nothing is left to do; `cargo test --test examples` has not.
fn examples() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows where it is");
        let profile = test.parent().and_then(Path::parent).expect("it lies in target/PROFILE/deps");
        let name = profile.file_name().and_then(OsStr::to_str).expect("profiles have plain names");
        // The features of this run, or it would all be built a second time.
        let features = [
            ("default", cfg!(feature = "default")),
            ("rtmp", cfg!(feature = "rtmp")),
            ("token", cfg!(feature = "token")),
            ("server", cfg!(feature = "server")),
        ];
        let features: Vec<&str> = features.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--examples", "--no-default-features", "--features"]);
        cargo.arg(features.join(",")).args(["--profile", if name == "debug" { "dev" } else { name }]);
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs, it runs this test");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("examples")
    })
}
