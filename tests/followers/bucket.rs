//! S3 with object lock. moto answers as S3 does and keeps locks; it is no store, and it does not check signatures:
//! `bucket.py` does, with the library that most clients of S3 sign with.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shardcast::audit::follow::{FollowerState, LockMode, Roots, S3, S3Options};

use crate::process::{Dir, Process, SOON, wait_for};
use crate::tools::{Tool, found};
use crate::world::{World, free_port, read_trail, trail_in};

struct Server {
    port: u16,
}

impl Server {
    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn run(&self, dir: &Dir) -> Process {
        let mut python = Command::new(Tool::Python.path().unwrap());
        python.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &self.port.to_string()]);
        let mut process = Process::start(dir, "moto", &mut python);
        wait_for("that it listens", 2 * SOON, || {
            process.assert_running();
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        process
    }

    fn show(&self, dir: &Dir, process: &Process, bucket: &str) -> String {
        let log = dir.file("moto.log");
        std::fs::write(&log, process.stderr()).unwrap();
        self.ask(dir, &["show", bucket, log.to_str().unwrap()])
    }

    fn ask(&self, dir: &Dir, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/followers/bucket.py");
        let mut python = Command::new(Tool::Python.path().unwrap());
        python.arg(script).arg(self.address()).args(arguments);
        python.env("AWS_ACCESS_KEY_ID", "us").env("AWS_SECRET_ACCESS_KEY", "our secret");
        let mut process = Process::start(dir, "boto", &mut python);
        process.succeed(2 * SOON);
        process.stdout()
    }

    fn bucket(&self, name: &str) -> S3 {
        let options = S3Options {
            endpoint: self.address(),
            region: "us-east-1".into(),
            bucket: name.into(),
            path_style: true,
            prefix: "court/room 7".into(),
            key_id: "us".into(),
            secret: "our secret".into(),
            lock: LockMode::Compliance,
            retain: Duration::from_secs(30 * 86_400),
        };
        S3::new(options, &Roots::of_this_machine().unwrap()).unwrap()
    }
}

#[test]
fn each_record_is_in_one_object_that_nobody_can_delete() {
    if !found(&[Tool::Python]) {
        return;
    }
    let dir = Dir::new();
    let trail = trail_in(&dir);
    let server = Server { port: free_port() };
    // Down at first: nothing is lost by that.
    let world = World::start(&trail, server.bucket("audit"));
    world.tell(50);
    world.until("that it fails", |stats| stats.failures > 0);
    let process = server.run(&dir);
    // No bucket is no reason to refuse records.
    world.until(
        "that it says so",
        |stats| matches!(&stats.state, FollowerState::Failing(why) if why.contains("NoSuchBucket")),
    );
    server.ask(&dir, &["make", "audit", "locked"]);
    world.delivered();
    let _ = world.stop();
    // Another process, which forgot how far it was.
    std::fs::remove_dir_all(trail.join("followers")).unwrap();
    let world = World::start(&trail, server.bucket("audit"));
    world.tell(45);
    let stats = world.stop();
    assert_eq!(stats.refused, 0);

    let (log, lines) = read_trail(&trail);
    let objects: Vec<Value> = serde_json::from_str(&server.show(&dir, &process, "audit")).unwrap();
    let mut stored = BTreeMap::new();
    for object in &objects {
        assert!(object["name"].as_str().unwrap().starts_with(&format!("court/room 7/{log}/000000")), "{object}");
        let (mode, versions, deleted) = (&object["mode"], &object["versions"], &object["deleted"]);
        assert_eq!((mode.as_str(), versions.as_u64()), (Some("COMPLIANCE"), Some(1)), "{object}");
        assert_eq!((deleted.as_str(), object["signed"].as_bool()), (Some("AccessDenied"), Some(true)), "{object}");
        assert!(object["until"].as_str().unwrap().starts_with("20"), "{object}");
        for line in object["text"].as_str().unwrap().lines() {
            let seq = serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
            assert_eq!(stored.insert(seq, line.to_owned()), None, "twice: {line}");
        }
    }
    assert_eq!(stored, lines);
}

#[test]
fn a_bucket_that_locks_nothing_gets_nothing() {
    if !found(&[Tool::Python]) {
        return;
    }
    let dir = Dir::new();
    let trail = trail_in(&dir);
    let server = Server { port: free_port() };
    let process = server.run(&dir);
    server.ask(&dir, &["make", "plain"]);
    let world = World::start(&trail, server.bucket("plain"));
    world.tell(3);
    let stats = world.until("that it fails", |stats| stats.failures > 1);
    let FollowerState::Failing(why) = &stats.state else { panic!("{stats:?}") };
    assert!(why.contains("ObjectLock"), "{why}");
    assert_eq!(server.show(&dir, &process, "plain").trim(), "[]");
}
