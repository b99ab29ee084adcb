//! The disk of the trail is full, a real one of three megabytes: that is on record, and what did not fit is marked as soon
//! as there is room again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shardcast::audit::trail::{Verifier, segments};

use super::child::Server;
use super::killed::counters;
use super::peer;
use super::world::wait_for;

/// The audit folder is a file system of its own, which only the server sees.
const SMALL_DISK: &str =
    "mkdir audit && exec unshare --mount sh -c 'mount -t tmpfs -o size=3m tmpfs audit && \"$@\"' sh";

#[test]
fn a_disk_that_is_full_is_on_record_and_what_did_not_fit_is_marked_when_there_is_room() {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !is_root {
        eprintln!("SKIPPED: only root may mount a file system");
        return;
    }
    let mut server = Server::start(SMALL_DISK, "");
    let audit = server.root().join(server.audit().strip_prefix("/").expect("it is absolute"));
    let trail = || -> String {
        let found = segments(&audit).unwrap_or_default();
        found.iter().map(|(_, path)| fs::read_to_string(path).unwrap_or_default()).collect()
    };
    let address = server.address;
    // Each tells of an open, a handshake, a refused play and a close, or of a part of that.
    let load = || {
        for _ in 0..200 {
            let Ok(mut socket) = TcpStream::connect(address) else { continue };
            let _ = socket.write_all(&peer::player("live", "absent"));
            let _ = socket.set_read_timeout(Some(Duration::from_millis(2)));
            let _ = socket.read(&mut [0; 16]);
        }
    };
    wait_for("that the disk is full", || {
        load();
        trail().contains("\"disk_full\"").then_some(())
    });
    // More than the channels hold.
    let enough = counters(&audit, 1) + 20_000;
    wait_for("that facts do not fit any more", || {
        load();
        (counters(&audit, 1) > enough).then_some(())
    });
    let report =
        Verifier { running: true, ..Verifier::default() }.verify(&audit, &mut |_| {}).expect("it can be read");
    assert_eq!(report.findings, [], "a full disk breaks nothing");

    let mut grow = Command::new("nsenter");
    grow.args(["--mount", "--target", &server.pid().to_string(), "mount", "-o", "remount,size=64m", "tmpfs"]);
    assert!(grow.arg(server.audit()).status().is_ok_and(|status| status.success()), "nsenter is in util-linux");
    wait_for("that what was lost is marked, to the fact", || {
        let report = Verifier { running: true, ..Verifier::default() }.verify(&audit, &mut |_| {}).ok()?;
        assert_eq!(report.findings, []);
        let (attempted, written, lost) = report.sums();
        let told = counters(&audit, 1);
        (lost > 0 && attempted == told).then(|| println!("{told} facts told = {written} written + {lost} marked"))
    });
    let told: BTreeMap<&str, usize> =
        ["\"disk_full\"", "\"loss\""].map(|event| (event, trail().matches(event).count())).into();
    assert_eq!(told["\"disk_full\""], 1, "{told:?}");
    server.stop();
}

impl Server {
    /// The root of the file systems as it sees them.
    fn root(&self) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join("root")
    }
}
