//! Files that come as they are made.

use std::process::{Command, Stdio};

use crate::film::{self, PATIENT, Shown, ffmpeg_path};
use crate::process::{Process, SOON};
use crate::tools::{self, Tool};
use crate::world::World;

#[test]
fn a_named_pipe_is_published_for_each_of_its_writers() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film::h264("pipe.flv", "-f flv");
    let fifo = film.path.with_file_name(format!("{}.fifo", std::process::id()));
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|made| made.success()), "a named pipe can be made");
    let source = format!("{}=live/pipe", fifo.display());
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], PATIENT, &["--source", &source]) else {
        return;
    };
    for _ in 0..2 {
        let mut sender = film::send(&world, &film, &format!("-c copy -y -f mpegts {}", fifo.display()));
        let shown = Shown::of(&ffmpeg_path(), &world.url("live/pipe"), None);
        sender.succeed(SOON);
        shown.assert_ends_with(&film.shown);
    }
}

#[test]
fn a_pipe_can_be_pushed_and_plain_mp4_in_it_is_refused() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film::h264("pushed-pipe.flv", "-f flv");
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], PATIENT, &[]) else { return };
    let push = || {
        let mut push = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        push.args(["push", "-", &world.url("live/pushed")]);
        push
    };
    let write = format!("-re -i {} -c copy -f mp4 -movflags +frag_keyframe+empty_moov -", film.path.display());
    let mut sender = Command::new(ffmpeg_path());
    sender.args(["-v", "error", "-nostdin"]).args(write.split(' ')).stdout(Stdio::piped());
    let mut sender = sender.spawn().expect("ffmpeg starts");
    let pipe = sender.stdout.take().expect("it has a pipe");
    let mut pushed = Process::start_with(&world.dir, "push", &mut push(), pipe.into());
    let shown = Shown::of(&ffmpeg_path(), &world.url("live/pushed"), None);
    pushed.succeed(SOON);
    assert!(sender.wait().is_ok_and(|ended| ended.success()));
    shown.assert_ends_with(&film.shown);

    let plain = film::h264("pushed-plain.mp4", "-movflags +faststart");
    let mut cat = Command::new("cat").arg(&plain.path).stdout(Stdio::piped()).spawn().expect("cat starts");
    let pipe = cat.stdout.take().expect("it has a pipe");
    let mut refused = Process::start_with(&world.dir, "push", &mut push(), pipe.into());
    assert_eq!(refused.wait(SOON).code(), Some(1));
    assert!(refused.stderr().contains("cannot come from a pipe"), "{}", refused.stderr());
    let _ = cat.wait();
}
