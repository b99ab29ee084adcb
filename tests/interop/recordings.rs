//! What the server records: the packets that were published, in files that others read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::media;
use crate::process::{Dir, Process, SOON, wait_for};
use crate::tools::Tool;
use crate::world::World;

/// A checksum of each packet of pictures, as ffprobe sees them.
fn packets(world: &World, file: &Path) -> Vec<String> {
    let mut probe = Command::new("ffprobe");
    probe.args([
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_data_hash",
        "md5",
        "-show_entries",
        "packet=data_hash",
    ]);
    let mut probe = Process::start(&world.dir, "ffprobe", probe.args(["-show_packets", "-of", "csv=p=0"]).arg(file));
    probe.succeed(SOON);
    assert_eq!(probe.stderr(), "", "{}", file.display());
    let hash = |line: &str| line.split("MD5:").nth(1).map(|hash| hash.trim_end_matches(',').to_owned());
    probe.stdout().lines().filter_map(hash).collect()
}

fn recorded(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mp4"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_server_that_is_killed_amid_a_stream_has_recorded_it_to_its_last_second() {
    let data = Dir::new();
    let folder = data.path().to_string_lossy().into_owned();
    let args = ["--record", "--data", &folder];
    let Some(mut world) = World::start_shardcast(&[Tool::Ffmpeg], &args) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/a");
    publisher.wait_until_sent(Duration::from_secs(5));
    world.server.kill();
    drop(publisher);

    let published = packets(&world, &media.path);
    let streams = data.path().join("recordings/live/a");
    let files = recorded(&streams);
    assert_eq!(files.len(), 1, "{files:?}");
    let kept = packets(&world, &files[0]);
    assert_eq!(kept, published[..kept.len()]);
    // A fragment has about a second, and the next one was under way.
    assert!(kept.len() >= 25 * 3, "{} pictures of five seconds", kept.len());

    // The next start brings it into the index, and goes on with a segment of its own.
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &args) else { return };
    let index = || fs::read_to_string(streams.join("index.jsonl")).unwrap_or_default();
    let name = files[0].file_name().and_then(|name| name.to_str()).unwrap().to_owned();
    let in_index = |line: &str| line.contains("\"segment\"") && line.contains(&name);
    wait_for("that it is in the index", SOON, || index().lines().any(in_index).then_some(()));
    let mut publisher = world.publish(media, "live/a");
    publisher.process.succeed(SOON);
    wait_for("another segment", SOON, || {
        let files = recorded(&streams);
        (files.len() == 2 && packets(&world, &files[1]) == published).then_some(())
    });
}
