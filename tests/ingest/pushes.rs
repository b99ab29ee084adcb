//! `shardcast push`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::film::{self, PATIENT, Shown, ffmpeg_path};
use crate::process::{Dir, Process, SOON};
use crate::tools::{self, Tool};
use crate::world::{self, World, now};

fn push(dir: &Dir, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    Process::start(dir, "push", command.arg("push").args(arguments))
}

#[test]
fn what_is_pushed_is_what_is_played() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film::h264("pushed.mp4", "-f mp4");
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], PATIENT, &[]) else { return };
    let (path, begun) = (film.path.to_string_lossy().into_owned(), now());
    let mut pushed = push(&world.dir, &[&path, &world.url("live/film")]);
    let shown = Shown::of(&ffmpeg_path(), &world.url("live/film"), None);
    pushed.succeed(SOON);
    assert!(now().since(begun) > Duration::from_millis(2500), "it is sent in real time");
    shown.assert_ends_with(&film.shown);
    let distance = shown.distance(&film.shown);
    assert!(distance.abs() < 0.003, "sound is {distance} s off");
    assert!(pushed.stderr().contains(" of media in "), "{}", pushed.stderr());
}

#[test]
fn a_push_that_loops_goes_on_until_a_signal_ends_it_in_order() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film::h264("pushed-loop.flv", "-f flv");
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], PATIENT, &[]) else { return };
    let path = film.path.to_string_lossy().into_owned();
    let mut pushed = push(&world.dir, &["--loop", &path, &world.url("live/loop")]);
    Shown::of(&ffmpeg_path(), &world.url("live/loop"), Some("5")).assert_loops(&film.shown);
    pushed.assert_running();
    let mut player = world.play(&ffmpeg_path(), "live/loop");
    player.wait_until_it_gets_something();
    pushed.signal("TERM");
    pushed.succeed(SOON);
    player.finish(SOON);
}

#[test]
fn without_pace_it_is_sent_as_fast_as_it_is_taken() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film::h264("pushed-fast.ts", "-f mpegts");
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], PATIENT, &[]) else { return };
    let path = film.path.to_string_lossy().into_owned();
    let mut pushed = push(&world.dir, &["--no-pace", &path, &world.url("live/fast")]);
    pushed.succeed(SOON);
    // 75 pictures, 142 of sound, and a record of each.
    let said = pushed.stderr();
    assert!(said.contains("219 frames, ") && said.contains(" of media in "), "{said}");
}

#[test]
fn who_cannot_push_is_told_why_in_the_servers_words() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film::h264("refused.flv", "-f flv");
    let path = film.path.to_string_lossy().into_owned();
    let dir = Dir::new();
    let secret = dir.file("secret");
    fs::write(&secret, "a secret that is long enough for a key").expect("the test's directory is writable");
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--demo"]) else { return };
    let args = ["--token-secret-file", &secret.to_string_lossy()];
    let Some(guarded) = World::start_shardcast(&[Tool::Ffmpeg], &args) else { return };
    film::wait_until_published(&world, "live/demo");

    let nobody = format!("rtmp://127.0.0.1:{}/live/film", world::free_port());
    let text = dir.file("text");
    fs::write(&text, "no media").expect("the test's directory is writable");
    let text = text.to_string_lossy().into_owned();
    for (file, url, code, said) in [
        (&path, nobody.clone(), 1, "Connection refused"),
        (&path, world.url("live/demo"), 1, "NetStream.Publish.BadName"),
        (&path, guarded.url("live/film?token=wrong"), 1, "the server refused: "),
        (&path, guarded.url("live/film"), 1, "NetStream.Publish.Denied"),
        (&path, world.url("live"), 2, "it names no stream"),
        (&path, "rtmp://no-such-host.invalid/live/film".into(), 1, "the host no-such-host.invalid is not known"),
        (&text, world.url("live/text"), 1, "it is neither FLV nor MPEG-TS nor MP4"),
        (&"/nonexistent.flv".to_owned(), nobody, 1, "/nonexistent.flv: it cannot be read"),
    ] {
        let mut pushed = push(&dir, &[file, &url]);
        assert_eq!(pushed.wait(SOON).code(), Some(code), "{url}: {}", pushed.stderr());
        assert!(pushed.stderr().contains(said), "{url}: {}", pushed.stderr());
    }

    let mut token = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    token.args(["token", "--action", "publish", "--stream", "live/film", "--expires", "1h", "--secret-file"]);
    let token = token.arg(&secret).output().expect("the binary starts");
    assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    push(&dir, &[&path, &guarded.url(&format!("live/film?token={token}"))]).succeed(SOON);
}
