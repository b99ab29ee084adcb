//! The pages in a real browser: the picture moves, nothing is asked of anybody else, and nobody complains.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::media;
use crate::process::{Process, SOON};
use crate::tools::Tool;
use crate::world::{World, free_port, loopback};

/// What Chromium saw of a page for so many seconds.
pub(crate) fn watch(world: &World, url: &str, seconds: u32, more: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/watch.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(Tool::Chromium.path().expect("it was found")).arg(url).arg(seconds.to_string()).args(more);
    let mut process = Process::start(&world.dir, "chromium", &mut node);
    process.succeed(3 * SOON);
    serde_json::from_str(&process.stdout()).expect("one line of JSON")
}

#[test]
fn the_watch_page_plays_and_asks_nobody_else_for_anything() {
    let tools = [Tool::Ffmpeg, Tool::Chromium];
    let http = loopback(free_port()).to_string();
    let Some(world) = World::start_shardcast(&tools, &["--http", &http]) else { return };
    let mut publisher = world.publish_with(media::h264_aac(), "live/a", &[]);
    publisher.wait_until_sent(Duration::from_millis(500));
    let seen = watch(&world, &format!("http://{http}/watch/live/a"), 3, &["2"]);
    assert_eq!(seen["foreign"].as_array().map(Vec::len), Some(0), "{seen}");
    assert_eq!(seen["errors"].as_array().map(Vec::len), Some(0), "{seen}");
    assert!(seen["facts"].as_str().is_some_and(|facts| facts.contains("HLS, low latency")), "{seen}");
    let behind = seen["facts"].as_str().and_then(|facts| facts.rsplit(" · ").next()?.strip_suffix(" s behind"));
    println!("hls.js in Chromium: {}", seen["facts"]);
    // The goal of two seconds is a figure of a bench; here the machine may be busy.
    assert!(behind.and_then(|behind| behind.parse::<f64>().ok()).is_some_and(|behind| behind < 6.0), "{seen}");
    assert!(seen["clock"].as_f64().is_some_and(|clock| clock > 2.0), "{seen}");
    assert!(seen["pictures"].as_u64().is_some_and(|pictures| pictures > 40), "{seen}");
    assert_eq!(seen["width"].as_u64(), Some(320), "{seen}");
    // Back within the window, and on from there.
    assert!(seen["seeked"]["clock"].as_f64().is_some_and(|clock| clock > 0.5), "{seen}");
    assert!(seen["seeked"]["pictures"].as_u64().is_some_and(|pictures| pictures > 10), "{seen}");
}
