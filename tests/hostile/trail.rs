//! The audit trail as who must rely on it meets it: the real server writes it, the real commands read it, and somebody
//! changes it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use shardcast::audit::trail::segments;

use super::child::Server;
use super::peer::{self, Peer, video};
use super::world::SOON;

fn audit(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.arg("audit").args(args).current_dir(dir).output().expect("the program starts")
}

/// What it printed, and how it ended.
fn said(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = audit(dir, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("it was not killed"), text(output.stdout), text(output.stderr))
}

/// A server with a key that `keygen` made, after some sessions.
fn server_with_sessions() -> Server {
    server_with("")
}

/// The same with more of a configuration.
fn server_with(more: &str) -> Server {
    let keys = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trail-{}", std::process::id()));
    fs::create_dir_all(&keys).expect("the test's directory is writable");
    if !keys.join("audit.pem").exists() {
        let (code, told, _) = said(&keys, &["keygen", "audit.pem"]);
        assert!(code == 0 && told.contains("audit.pem.pub"), "{told}");
    }
    let key_file = keys.join("audit.pem");
    let key_line = format!("[audit]\nkey_file = {:?}\n", key_file.to_str().expect("a plain path"));
    let server = Server::start("", &(key_line + more));
    fs::copy(keys.join("audit.pem.pub"), server.dir.join("audit.pub")).expect("the public key is there");
    let mut publisher = Peer::connect(server.address);
    publisher.send(&peer::publisher("live", "hearing"));
    publisher.wait_for_status("NetStream.Publish.Start");
    publisher.send(&video(true, 0, b"a picture"));
    let mut player = Peer::connect(server.address);
    player.send(&peer::player("live", "hearing"));
    player.wait_for_status("NetStream.Play.Start");
    assert!(player.video(SOON).is_some());
    let mut stranger = Peer::connect(server.address);
    stranger.send(&peer::player("live", "absent"));
    stranger.wait_for_status("NetStream.Play.StreamNotFound");
    drop((player, stranger, publisher));
    server
}

#[test]
fn who_is_let_in_is_on_record_first_and_nobody_can_be_told_without_the_key() {
    let keys = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pseudonyms-{}", std::process::id()));
    fs::create_dir_all(&keys).expect("the test's directory is writable");
    let (code, told, _) = said(&keys, &["keygen", "--pseudonyms", "names.key"]);
    assert!(code == 0 && told.contains("audit.pseudonym_key_file"), "{told}");
    let key = keys.join("names.key");
    let key = key.to_str().expect("a plain path");
    let app = "[[app]]\nname = \"*\"\ndurable = \"before-effect\"\n";
    let mut server = server_with(&format!("pseudonym_key_file = {key:?}\n{app}"));
    server.stop();

    let events: Vec<String> = server.trail().lines().filter_map(|line| event_of(line, "hearing")).collect();
    let at = |event: &str| events.iter().position(|there| there == event).unwrap_or_else(|| panic!("{events:?}"));
    assert!(at("publish_allow") < at("publish_start") && at("play_allow") < at("play_start"), "{events:?}");
    let (code, address, _) = said(&server.dir, &["pseudonym", "127.0.0.1", "--key", key]);
    assert_eq!(code, 0);
    let trail = server.trail();
    assert!(trail.contains(&format!("\"peer\":\"{}\"", address.trim())), "{trail}");
    assert!(!trail.contains("127.0.0.1"), "{trail}");
    assert_eq!(said(&server.dir, &["verify", "audit", "--key", "audit.pub"]).0, 0);
    fs::remove_dir_all(keys).expect("the test's directory is writable");
}

fn event_of(line: &str, stream: &str) -> Option<String> {
    let record: Value = serde_json::from_str(line).ok()?;
    (record["stream"] == stream).then(|| record["event"].as_str().map(str::to_owned))?
}

#[test]
fn everything_that_may_happen_is_listed_with_its_code_its_class_and_a_sentence() {
    let (code, told, _) = said(Path::new("."), &["events", "--json"]);
    let events: Value = serde_json::from_str(&told).expect("JSON");
    let play_start = events.as_array().and_then(|all| all.iter().find(|event| event["event"] == "play_start"));
    let play_start = play_start.expect("it may happen");
    assert_eq!((code, &play_start["code"], &play_start["class"]), (0, &Value::from(30), &Value::from("decision")));
    let (code, table, _) = said(Path::new("."), &["events"]);
    assert!(code == 0 && table.contains("publish_allow"), "{table}");
}

#[test]
fn a_trail_is_verified_shown_exported_and_counted_by_its_commands() {
    let mut server = server_with_sessions();
    let dir = server.dir.clone();
    // While it runs it can be verified too.
    let (code, told, error) = said(&dir, &["verify", "audit", "--key", "audit.pub"]);
    assert_eq!(code, 0, "{told}{error}");
    server.stop();

    let (code, told, error) = said(&dir, &["verify", "audit", "--key", "audit.pub", "--json"]);
    let report: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &report["lost"], error.as_str()), (0, &Value::from(0), ""), "{report:#}");
    assert_eq!(report["attempted"], report["written"]);
    assert!(report["signatures_checked"].as_u64() > Some(1) && report["signatures_checked"] == report["checkpoints"]);
    let (_, told, _) = said(&dir, &["verify", "audit"]);
    assert!(told.contains("signatures were not checked: give --key FILE"), "{told}");

    let (_, lines, _) = said(&dir, &["show", "audit", "--json"]);
    assert_eq!(lines.lines().count() as u64, report["records"].as_u64().unwrap(), "every record is a line");
    assert_eq!(lines, server.trail());
    let (_, table, _) =
        said(&dir, &["show", "audit", "--stream", "live/hearing", "--event", "publish_start,play_start"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().nth(1).is_some_and(|row| row.contains("publish_start") && row.contains("rtmp 127.0.0.1:")));
    let (_, nothing, _) = said(&dir, &["show", "audit", "--json", "--since", "9999"]);
    assert_eq!(nothing, "");

    let (_, csv, _) = said(&dir, &["export", "audit", "--format", "csv"]);
    assert!(csv.starts_with("seq,boot,wall,event,") && csv.contains("\r\n"));
    assert_eq!(csv.matches("\r\n").count() as u64, report["records"].as_u64().unwrap() + 1);
    let (_, stats, _) = said(&dir, &["stats", "audit"]);
    assert!(stats.contains("live/hearing") && stats.contains("connection_open"), "{stats}");

    let (code, _, error) = said(&dir, &["verify", "nowhere"]);
    assert!(code == 1 && error.starts_with("shardcast: cannot read nowhere: "), "{error}");
    let (code, _, error) = said(&dir, &["keygen", "audit.pub"]);
    assert!(code == 1 && error.contains("cannot make audit.pub"), "a key is never written over: {error}");
}

#[test]
fn whoever_changes_a_trail_is_found_by_the_command() {
    let mut server = server_with_sessions();
    server.stop();
    let dir = server.dir.clone();
    let (_, path) = segments(&server.audit()).expect("it is there").remove(0);
    let whole = fs::read(&path).expect("it can be read");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let verify = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("it can be written");
        said(&dir, &["verify", "audit", "--key", "audit.pub"])
    };

    let mut changed = whole.clone();
    let at = lines[0].len() + 20;
    changed[at] ^= 1;
    let (code, told, error) = verify(&changed);
    let place = format!("00000001.jsonl, byte {}: this line is not what its hash says", lines[0].len());
    assert!(code == 5 && told.contains(&place), "{told}");
    assert_eq!(error, "shardcast: the trail is not to be believed: something in it was changed\n");

    let (code, told, _) = verify(&[&lines[..3], &lines[4..]].concat().concat());
    assert!(code == 5 && told.contains("record 5 does not follow the one before; record 4 was to come"), "{told}");
    let (code, told, _) = verify(&lines[..lines.len() - 1].concat());
    assert!(code == 7 && told.contains("its end was cut off"), "{told}");
    let (code, _, _) = verify(&whole);
    assert_eq!(code, 0);

    // Another key vouches for nothing here.
    assert_eq!(said(&dir, &["keygen", "other.pem"]).0, 0);
    let (code, told, _) = said(&dir, &["verify", "audit", "--key", "other.pem.pub"]);
    assert!(code == 5 && told.contains("another key signed it"), "{told}");
}

/// A trail of each version that there was, as its program left it, is verified for ever.
#[test]
fn trails_of_every_version_are_verified() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/trail-v1");
    let (code, told, error) = said(&golden, &["verify", ".", "--key", "key.pub"]);
    assert_eq!(code, 3, "{told}{error}");
    assert!(
        told.contains("41 facts told = 15 written + 26 lost") && told.contains("the process was killed"),
        "{told}"
    );
    assert_eq!(error, "shardcast: the trail is whole; facts are missing, and records say which\n");
}

#[test]
fn one_record_is_proved_without_the_others() {
    let mut server = server_with_sessions();
    server.stop();
    let dir = server.dir.clone();
    let (code, proof, error) = said(&dir, &["prove", "audit", "3"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let alone = dir.join("proof.json");
    fs::write(&alone, &proof).expect("it can be written");
    fs::remove_dir_all(server.audit()).expect("the trail is not needed");

    let (code, told, error) = said(&dir, &["check-proof", "proof.json", "--key", "audit.pub"]);
    assert!(code == 0 && told.contains("record 3 of the trail"), "{told}{error}");
    let parsed: Value = serde_json::from_str(&proof).expect("JSON");
    assert!(proof.len() < 4_000 && parsed["record"].as_str().is_some_and(|line| line.contains("\"seq\":3")));
    for forged in [
        proof.replace("\"seq\": 3", "\"seq\": 4"),
        proof.replace("\\\"seq\\\":3", "\\\"seq\\\":4"),
        proof.replace("\\\"root\\\":\\\"", "\\\"root\\\":\\\"00"),
    ] {
        assert_ne!(forged, proof);
        fs::write(&alone, forged).expect("it can be written");
        let (code, _, error) = said(&dir, &["check-proof", "proof.json", "--key", "audit.pub"]);
        assert!(code == 5 && error.starts_with("shardcast: the proof does not hold: "), "{code}: {error}");
    }
}

#[test]
fn what_happens_is_shown_as_it_happens() {
    let server = server_with_sessions();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.args(["audit", "show", "audit", "--follow", "--event", "publish_start"]).current_dir(&server.dir);
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut shown = BufReader::new(follower.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(shown.any(|line| line.contains("live/hearing")));
    let mut publisher = Peer::connect(server.address);
    publisher.send(&peer::publisher("live", "verdict"));
    assert!(shown.any(|line| line.contains("live/verdict")));
    follower.kill().expect("it runs");
    follower.wait().expect("it can be waited for");
}
