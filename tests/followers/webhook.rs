//! Webhooks, to a receiver that checks them with the specification's own library.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shardcast::audit::follow::{FollowerState, Roots, Webhook, WebhookSecret};

use crate::process::{Dir, Process, SOON, wait_for};
use crate::tools::{Tool, found};
use crate::world::{World, free_port, read_trail, trail_in};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn receive(dir: &Dir, port: u16, secret: &str, out: &Path) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/followers/receiver.py");
    let mut python = Command::new(Tool::Python.path().unwrap());
    python.arg(script).arg(port.to_string()).arg(secret).arg(out);
    let mut process = Process::start(dir, "receiver", &mut python);
    wait_for("that it listens", SOON, || {
        process.assert_running();
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    process
}

fn webhook(port: u16) -> Webhook {
    let secret = WebhookSecret::parse(SECRET).unwrap();
    let roots = Roots::of_this_machine().unwrap();
    Webhook::new(&format!("http://127.0.0.1:{port}/audit"), secret, &roots).unwrap()
}

#[test]
fn whoever_keeps_the_names_of_batches_gets_each_record_once() {
    if !found(&[Tool::Python]) {
        return;
    }
    let dir = Dir::new();
    let (trail, port, out) = (trail_in(&dir), free_port(), dir.path().join("received"));
    let server = receive(&dir, port, SECRET, &out);
    let world = World::start(&trail, webhook(port));
    for _ in 0..10 {
        world.tell(15);
        world.delivered();
    }
    let stats = world.stop();
    drop(server);
    // 503, no answer, a redirect that is not followed.
    assert!(stats.failures >= 3, "{stats:?}");

    let (log, lines) = read_trail(&trail);
    let refused = lines.values().filter(|line| line.contains("\"count\":13")).count();
    assert_eq!((refused, stats.refused), (10, 10));
    let received = fs::read_to_string(&out).unwrap();
    let mut found = BTreeMap::new();
    for batch in received.lines() {
        let batch: Value = serde_json::from_str(batch).unwrap();
        assert!(batch["id"].as_str().unwrap().starts_with(&format!("{log}/")));
        for line in batch["body"].as_str().unwrap().lines() {
            let seq = serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
            assert_eq!(found.insert(seq, line.to_owned()), None, "twice: {line}");
        }
    }
    let wanted: BTreeMap<_, _> = lines.into_iter().filter(|(_, line)| !line.contains("\"count\":13")).collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_receiver_with_another_secret_is_not_told_as_one_that_has_taken_something() {
    if !found(&[Tool::Python]) {
        return;
    }
    let dir = Dir::new();
    let (trail, port, out) = (trail_in(&dir), free_port(), dir.path().join("received"));
    let _server = receive(&dir, port, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &out);
    let world = World::start(&trail, webhook(port));
    world.tell(3);
    let stats = world.until("that it fails", |stats| stats.failures > 1);
    let FollowerState::Failing(why) = &stats.state else { panic!("{stats:?}") };
    assert!(why.contains("401"), "{why}");
    assert_eq!((stats.delivered, stats.refused, out.exists()), (0, 0, false));
}
