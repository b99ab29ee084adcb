//! `serve --demo` and `serve --source`.

use crate::film::{self, Film, PATIENT, Shown, ffmpeg_path};
use crate::process::{Process, SOON, wait_for};
use crate::tools::{self, Tool};
use crate::world::{self, World};

#[test]
fn the_demo_plays_over_its_seam_without_an_error() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--demo", "--shards", "2"]) else { return };
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ingest/demo.mp4");
    let made = Shown::of(&ffmpeg_path(), demo, None);
    assert_eq!((made.pictures.len(), made.sounds.len()), (200, 375));
    film::wait_until_published(&world, "live/demo");
    let shown = Shown::of(&ffmpeg_path(), &world.url("live/demo"), Some("9"));
    shown.assert_loops(&made);
    assert!(shown.distance(&made).abs() < 0.002, "sound is {} s off", shown.distance(&made));
}

#[test]
fn the_banner_says_how_to_watch_the_demo() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--demo", "live/clock"]) else { return };
    let expected = format!("Watch the demo with\n  ffplay -fflags nobuffer {}\n", world.url("live/clock"));
    let said = wait_for("the banner", SOON, || Some(world.server.stdout()).filter(|said| said.contains("Watch")));
    assert!(said.contains(&expected), "{said}");
    film::wait_until_published(&world, "live/clock");
}

#[test]
fn mp4_loops() {
    loops(|| film::h264("plain.mp4", "-movflags +faststart"));
}

#[test]
fn mp4_with_its_index_at_the_end_loops() {
    loops(|| film::h264("index-last.mp4", "-f mp4"));
}

#[test]
fn fragmented_mp4_loops() {
    loops(|| film::h264("fragmented.mp4", "-movflags +frag_keyframe+delay_moov+default_base_moof"));
}

#[test]
fn flv_loops() {
    loops(|| film::h264("film.flv", "-f flv"));
}

#[test]
fn mpeg_ts_loops_also_by_another_name() {
    loops(|| film::h264("mpeg-ts.dat", "-f mpegts"));
}

#[test]
fn h265_in_mp4_loops() {
    if tools::found(&[Tool::FfmpegNew]) {
        let player = Tool::FfmpegNew.path().expect("it was found");
        loops_for(&player, film::h265);
    }
}

fn loops(film: impl Fn() -> Film) {
    if tools::found(&[Tool::Ffmpeg]) {
        loops_for(&ffmpeg_path(), film);
    }
}

fn loops_for(player: &std::path::Path, film: impl Fn() -> Film) {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let film = film();
    let source = format!("{}=live/film", film.path.display());
    let Some(world) = World::start_configured(&[], PATIENT, &["--source", &source]) else { return };
    let url = world.url("live/film");
    let shown = Shown::of(player, &url, Some("5"));
    shown.assert_loops(&film.shown);
    let distance = shown.distance(&film.shown);
    assert!(distance.abs() < 0.003, "sound is {distance} s off");
}

#[test]
fn a_stop_is_quick_and_in_order() {
    let Some(mut world) = World::start_shardcast(&[Tool::Ffmpeg], &["--demo"]) else { return };
    film::wait_until_published(&world, "live/demo");
    let mut player = world.play(&ffmpeg_path(), "live/demo");
    player.wait_until_it_gets_something();
    world.server.signal("TERM");
    world.server.succeed(SOON);
    assert_eq!(world.server.stderr(), "", "the server complains");
    player.finish(SOON);
}

#[test]
fn a_source_that_cannot_be_read_ends_the_start_or_is_told() {
    if !world::is_shardcast_tested() {
        return;
    }
    let dir = crate::process::Dir::new();
    let text = dir.file("notes.txt");
    std::fs::write(&text, "no media at all").expect("the test's directory is writable");
    let run = |what: &str| -> Process {
        let port = world::free_port();
        world::shardcast(&world::serve_args(port, &["--source", &format!("{what}=live/film")]), &dir)
    };
    let mut missing = run("/nonexistent/film.mp4");
    assert_eq!(missing.wait(SOON).code(), Some(1));
    assert!(
        missing.stderr().contains("/nonexistent/film.mp4: it cannot be read: No such file"),
        "{}",
        missing.stderr()
    );
    let wrong = run(&text.to_string_lossy());
    let said = "it is neither FLV nor MPEG-TS nor MP4";
    wait_for("that the server says why", SOON, || wrong.stderr().contains(said).then_some(()));
}
