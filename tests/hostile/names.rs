//! Rows 26, 60 and 72: names that are none, at every door that they come in by.

use shardcast::audit::write_line;
use shardcast::limits::Limit;
use shardcast::protocol::rtmp::amf::Value;
use shardcast::reason::Reason;

use super::peer::{self, Peer, command, hello, long_message, values};
use super::rows::Stage::{Created, Shaken};
use super::rows::{Expect, Row, limited, refused, row, run};
use super::world::{SOON, World};

/// What must never reach a path, a record or a terminal.
fn bad_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "..",
        ".",
        "../../etc/passwd",
        "a/../b",
        "a/./b",
        "%2e%2e",
        "%252e%252e",
        "..\\..\\a",
        "a\\b",
        "a//b",
        "C:",
        "C:\\a",
        "a\0",
        "\0",
        "a\nb",
        "a\r\n{\"v\":1}",
        "\u{1b}[2J",
        "a\u{2028}b",
        "a\u{202e}gnp.exe",
        "a b",
        " ",
        "<img onerror=alert(1)>",
        "\";alert(1);\"",
        "=cmd|' /C calc'!A0",
        "a;b",
        "a|b",
        "$(id)",
        "`id`",
        "*",
        "a:b",
        "\u{fffd}",
        "ä",
        "\u{1f980}",
        "~/a$",
        "a/..",
        "a/.",
        "..;/",
    ]
    .map(str::to_owned)
    .into();
    names.push("n".repeat(256));
    names.push("n".repeat(4_096));
    names.push("n".repeat(60_000));
    names.push("n".repeat(65_535));
    names.push("n/".repeat(2_000) + "n");
    names
}

/// Longer than anything that is held of one whom nobody has let in, it is not even read.
const fn if_short(name: &str) -> Expect {
    if name.len() < 65_000 { refused("bad_name") } else { limited(Limit::HandshakeBytes) }
}

fn shown(name: &str) -> String {
    let start: String = name.chars().take(24).collect();
    format!("{start:?} ({} bytes)", name.len())
}

#[test]
fn bad_names_are_refused_by_publish_and_play() {
    let world = World::start();
    let mut rows: Vec<Row> = Vec::new();
    for name in bad_names() {
        for verb in ["publish", "play"] {
            let act = command(1, verb, 5.0, &[Value::Null, Value::string(&name)]);
            rows.push(row(&format!("{verb} {}", shown(&name)), Created, act, if_short(&name)));
        }
    }
    // What is no UTF-8 is replaced, and what replaces it is allowed in no name.
    for bytes in [&[0xFF][..], &[0xC0, 0x80], &[0xED, 0xA0, 0x80], b"a\xFFb"] {
        let mut payload = values(&[Value::string("publish"), Value::Number(5.0), Value::Null]);
        payload.extend_from_slice(&[2, 0, u8::try_from(bytes.len()).expect("it is short")]);
        payload.extend_from_slice(bytes);
        rows.push(row(
            &format!("publish {bytes:02x?}"),
            Created,
            long_message(20, 1, 0, &payload),
            refused("bad_name"),
        ));
    }
    run(&world, &rows);
    world.finish();
}

#[test]
fn bad_applications_are_refused_by_connect() {
    let world = World::start();
    let mut rows: Vec<Row> = Vec::new();
    for app in bad_names() {
        // Slashes around an application are no part of it.
        let object = Value::object([("app", Value::string(&app)), ("tcUrl", Value::string("rtmp://h/x"))]);
        let act = command(0, "connect", 1.0, &[object]);
        let reason = if_short(&app);
        rows.push(row(&format!("connect {}", shown(&app)), Shaken, act, reason));
        if app.len() < 1_000 && !app.contains("://") && !app.contains('?') {
            let object = Value::object([("tcUrl", Value::string(&format!("rtmp://h/{app}")))]);
            let act = command(0, "connect", 1.0, &[object]);
            rows.push(row(&format!("connect by URL to {}", shown(&app)), Shaken, act, refused("bad_name")));
        }
    }
    run(&world, &rows);
    world.finish();
}

/// No byte that a peer chose for a name comes back in a record, whatever became of it; and the refusal tells what is
/// allowed, not what was sent.
#[test]
fn no_refusal_repeats_what_it_refuses() {
    const MARK: &str = "evil-bytes-of-a-peer";
    let world = World::start();
    for verb in ["publish", "play"] {
        let mut peer: Peer = world.peer();
        let name = format!("{MARK}\r\n\u{1b}[2J<img>");
        let ask = command(1, verb, 5.0, &[Value::Null, Value::string(&name)]);
        peer.send(&[hello(), peer::connect("live"), peer::create_stream(), ask].concat());
        let mut said = Vec::new();
        while let Some(message) = peer.message(SOON) {
            said.extend_from_slice(&message.payload);
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("A-Z a-z 0-9") && !said.contains(MARK), "{verb}: {said:?}");
        let id = peer.id;
        drop(peer);
        let close = world.facts.close_of(id);
        assert_eq!(close.reason, Some(Reason::BadName));
    }
    world.facts.look(|facts| assert!(!format!("{facts:?}").contains(MARK)));
    world.finish();
}

/// Row 72: a user's name is the one text of a peer's own that is recorded.
#[test]
fn a_user_cannot_write_into_the_trail() {
    let world = World::start();
    let long = "x".repeat(7_000);
    for user in
        ["eve%0d%0a%7b%22v%22:1%7d", "%1b%5b2J%07", "%e2%80%a8%e2%80%ae", "%00%22%5c", "%ff%fe", long.as_str()]
    {
        let mut peer = world.peer();
        peer.send(&peer::publisher("live", &format!("a?user={user}")));
        peer.wait_for_status("NetStream.Publish.Start");
        let id = peer.id;
        drop(peer);
        world.facts.close_of(id);
    }
    let mut users = Vec::new();
    for record in world.finish_with_records() {
        let mut line = Vec::new();
        write_line(&record, &mut line);
        let line = String::from_utf8(line).expect("a line is text");
        assert_eq!(line.find('\n'), Some(line.len() - 1), "not one line: {line:?}");
        let bad = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}');
        assert!(!line.trim_end().chars().any(bad), "{line:?}");
        assert!(line.len() < 2_000, "a line of {} bytes", line.len());
        let fields: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
        if fields["event"] == "publish_start" && fields["protocol"] == "rtmp" {
            users.push((fields["principal"].as_str().map(str::len), fields["truncated"] == true));
        }
    }
    assert_eq!(users.len(), 6);
    assert_eq!(users[5], (Some(1024), true));
}
