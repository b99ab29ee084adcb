//! `shardcast top` and the control socket that it asks, as an operator and as a stranger meet them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::media;
use crate::process::{Process, SOON, wait_for};
use crate::tools::Tool;
use crate::world::{self, Player, World};

/// A control socket where its path is short enough, gone with its test.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A server with two shards, and its control socket.
fn world(tools: &[Tool]) -> Option<(World, Socket)> {
    let socket = socket_path();
    let path = socket.to_str().expect("a plain path");
    let world = World::start_shardcast(tools, &["--control", path, "--shards", "2", "--drain", "1s"])?;
    // It is made after the port is open.
    wait_for("that the control socket is there", SOON, || UnixStream::connect(&socket).ok());
    Some((world, Socket(socket)))
}

fn socket_path() -> PathBuf {
    std::env::temp_dir().join(format!("shardcast-{}-{}.sock", std::process::id(), world::free_port()))
}

fn top(world: &World, socket: &Path, args: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.arg("top").arg("--control").arg(socket).args(args);
    Process::start(&world.dir, "top", &mut command)
}

fn printed(world: &World, socket: &Path, args: &[&str]) -> String {
    let mut top = top(world, socket, args);
    top.succeed(SOON);
    top.stdout()
}

/// Says it, and reads what is answered within the time or until the end.
fn say(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    // A server that has had enough does not read on.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

#[test]
fn top_shows_the_stream_with_its_viewers_and_how_old_its_frames_are() {
    let Some((world, socket)) = world(&[Tool::Ffmpeg]) else { return };
    let socket = &socket.0;
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/top");
    publisher.wait_until_sent(Duration::from_secs(1));
    let mut players = [world.play(&media.ffmpeg, "live/top"), world.play(&media.ffmpeg, "live/top")];
    players.iter_mut().for_each(Player::wait_until_it_gets_something);

    let stats = wait_for("that a timed frame was delivered", SOON, || {
        let stats: Value = serde_json::from_str(&printed(&world, socket, &["--once", "--json"])).expect("JSON");
        (stats["streams"][0]["age"]["count"].as_u64()? > 0).then_some(stats)
    });

    let stream = &stats["streams"][0];
    assert_eq!((stream["stream"].as_str(), stream["viewers"].as_u64()), (Some("live/top"), Some(2)), "{stats:#}");
    assert_eq!(stream["publisher"]["protocol"], "rtmp");
    assert!(stream["publisher"]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    assert!(stream["video_bps"].as_u64() > Some(10_000) && stream["fps"].as_u64() > Some(5), "{stream:#}");
    let age = &stream["age"];
    let ms = |name: &str| age[name].as_f64().expect("a number");
    assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("max_ms"), "{age:#}");
    assert!(ms("max_ms") < 10_000.0, "{age:#}");
    assert_eq!((stats["viewers"].as_u64(), stats["shards"].as_array().map(Vec::len)), (Some(2), Some(2)));
    let busy: f64 = stats["shards"].as_array().unwrap().iter().map(|shard| shard["busy"].as_f64().unwrap()).sum();
    assert!(busy > 0.0 && busy <= 2.0, "{busy}");
    assert!(stats["audit"]["attempted"].as_u64() >= stats["audit"]["written"].as_u64(), "{stats:#}");
    let window = stats["window_s"].as_f64().unwrap();
    assert!(window >= 1.0, "the interval lies between two questions: {window}");

    let table = printed(&world, socket, &["--once", "--interval", "200ms"]);
    let row = table.lines().find(|line| line.starts_with("live/top ")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains(" rtmp 127.0.0.1:") && table.contains("AGE p50"), "{table}");

    // The publisher is shown out, and is gone.
    let answer: Value =
        serde_json::from_str(&say(socket, b"{\"v\":1,\"kick\":{\"stream\":\"live/top\"}}\n")).unwrap();
    assert_eq!(answer, json!({"v": 1, "kicked": true}));
    publisher.process.wait(SOON);
}

#[test]
fn an_operator_switches_a_stream_to_its_backup() {
    let socket = Socket(socket_path());
    let path = socket.0.to_str().expect("a plain path");
    let config = "[[app]]\nname = \"live\"\nconflict = \"backup\"\n";
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], config, &["--control", path]) else { return };
    let media = media::h264_aac_short_gop();
    let mut first = world.publish(media, "live/both");
    first.wait_until_sent(Duration::from_millis(500));
    let mut backup = world.publish(media, "live/both?backup");
    backup.wait_until_sent(Duration::from_millis(1500));
    let leads = || {
        let stats: Value =
            serde_json::from_str(&printed(&world, &socket.0, &["--once", "--json", "--interval", "100ms"]))
                .expect("JSON");
        stats["streams"][0]["publisher"]["connection"].as_str().map(str::to_owned)
    };
    let before = leads().expect("it is published");

    let answer: Value =
        serde_json::from_str(&say(&socket.0, b"{\"v\":1,\"switch\":{\"stream\":\"live/both\"}}\n")).unwrap();
    let now = answer["switched"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert_ne!(now, before);
    wait_for("that the backup leads", SOON, || (leads().as_deref() == Some(now)).then_some(()));

    // And back, by name of the connection.
    let back = format!("{{\"v\":1,\"switch\":{{\"stream\":\"live/both\",\"to\":\"{before}\"}}}}\n");
    wait_for("that the first is ready again", SOON, || {
        say(&socket.0, back.as_bytes()).contains("switched").then_some(())
    });
    wait_for("that the first leads", SOON, || (leads().as_deref() == Some(&*before)).then_some(()));
}

#[test]
fn top_draws_on_a_terminal_and_gives_it_back() {
    let Some((world, socket)) = world(&[Tool::Ffmpeg, Tool::Script]) else { return };
    let socket = &socket.0;
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/screen");
    publisher.wait_until_sent(Duration::from_secs(1));
    let line = format!(
        "stty rows 24 cols 160; exec {} top --control {} --interval 200ms",
        env!("CARGO_BIN_EXE_shardcast"),
        socket.display()
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");

    let mut terminal = Process::start_with(&world.dir, "terminal", &mut script, std::process::Stdio::piped());
    let mut keys = terminal.stdin().expect("a pipe");
    wait_for("that the stream is drawn", SOON, || terminal.stdout().contains("live/screen").then_some(()));
    keys.write_all(b"nq").expect("it listens");

    terminal.succeed(SOON);
    let drawn = terminal.stdout();
    assert!(drawn.contains("\u{1b}[?1049h") && drawn.contains("STREAM"), "the alternate screen");
    assert!(drawn.contains("\u{1b}[?1049l") && drawn.contains("\u{1b}[?25h"), "it is left, and the cursor is back");
}

#[test]
fn whoever_talks_nonsense_to_the_control_socket_is_told_so_and_harms_nothing() {
    let Some((mut world, socket)) = world(&[]) else { return };
    let socket = &socket.0;
    let meta = fs::symlink_metadata(socket).expect("the socket is there");
    assert!(meta.file_type().is_socket() && meta.permissions().mode() & 0o777 == 0o600);
    // Silent ones, and one that says half a line, stay while the others are answered.
    let mut silent: Vec<_> = (0..3).map(|_| UnixStream::connect(socket).expect("there is room")).collect();
    silent[0].write_all(b"{\"v\":1,").expect("it listens");

    for (said, expected) in [
        (&b"\x00\xff\xfe garbage\n"[..], "this is no request"),
        (b"{\"v\":2,\"get\":\"stats\"}\n", "this server speaks version 1 of the protocol, not 2"),
        (b"{\"v\":1,\"get\":\"secrets\"}\n", "there is no \\\"secrets\\\" to get"),
        (b"{\"v\":1}\n", "a request has one of"),
        (b"{\"v\":1,\"kick\":{\"stream\":\"../etc\"}}\n", "is no name of a stream"),
        (b"{\"v\":1,\"get\":\"stats\",\"more\":1}\n", "unknown field"),
        (b"{\"v\":1,\"switch\":{\"stream\":\"live/no\"}}\n", "nobody like that stands by for live/no"),
        (b"{\"v\":1,\"switch\":{\"stream\":\"live/no\",\"to\":\"x\"}}\n", "is the number of a connection"),
    ] {
        let answer = say(socket, said);
        assert!(answer.contains(expected) && answer.ends_with("}\n"), "{answer}");
        let value: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(value["v"] == 1 && value["error"].is_string(), "{answer}");
    }
    let long = say(socket, &vec![b'x'; 1 << 20]);
    assert!(long.is_empty() || long.contains("a line may have 4096 bytes at most"), "{long}");
    // More than may ask at the same time: those that are too many are told.
    silent.extend((0..16).map(|_| UnixStream::connect(socket).expect("the queue of the socket has room")));
    let last = silent.last_mut().expect("there are many");
    last.set_read_timeout(Some(SOON)).expect("a time");
    let mut told = String::new();
    let _ = last.read_to_string(&mut told);
    assert!(told.contains("too many programs ask this server already"), "{told}");
    drop(silent);

    let stats: Value = wait_for("that there is room again", SOON, || {
        let mut top = top(&world, socket, &["--once", "--json", "--interval", "100ms"]);
        top.wait(SOON).success().then(|| serde_json::from_str(&top.stdout()).expect("JSON"))
    });
    assert_eq!(stats["streams"], json!([]));
    world.server.signal("TERM");
    world.server.succeed(SOON);
    assert!(!socket.exists(), "it is removed at the end");
}

#[test]
fn where_no_server_answers_top_says_so_in_one_sentence() {
    let Some(world) = World::start_shardcast(&[], &[]) else { return };
    let nowhere = world.dir.path().join("nowhere.sock");
    let mut top = top(&world, &nowhere, &["--once"]);
    assert_eq!(top.wait(SOON).code(), Some(1));
    let told = top.stderr();
    assert!(told.contains("no server answers at") && told.lines().count() == 1, "{told}");
}
