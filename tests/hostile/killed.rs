//! The process is killed at any moment, under load: every fact that was told is in the trail, or the trail says how many
//! are not; and whoever follows the trail has each of its records once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use shardcast::audit::trail::Verifier;

use super::child::Server;
use super::peer;

const KILLS: u64 = 200;

#[test]
fn a_server_that_is_killed_two_hundred_times_accounts_for_every_fact() {
    let mut server = Server::start("", FOLLOWED);
    // What the counters said right after each kill, read by nobody but this test.
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    let mut dice = 1_u64;
    for boot in 1..=KILLS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let address = server.address;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // Each tells of an open, a handshake, a refused play and a close, or of a part of that.
                        let Ok(mut socket) = TcpStream::connect(address) else { continue };
                        let _ = socket.write_all(&peer::player("live", "absent"));
                        let _ = socket.set_read_timeout(Some(Duration::from_millis(2)));
                        let _ = socket.read(&mut [0; 16]);
                    }
                });
            }
            thread::sleep(Duration::from_micros(3_000 + dice % 40_000));
            server.kill();
            over.store(true, Ordering::Relaxed);
        });
        told.insert(boot, counters(&server.audit(), boot));
        server.start_again();
    }
    server.stop();
    // What was not delivered by then is after the next start.
    server.start_again();
    server.stop();
    compare_table(&server.audit());

    let report = Verifier::default().verify(&server.audit(), &mut |_| {}).expect("the trail can be read");
    assert_eq!(report.findings, []);
    let (attempted, written, lost) = report.sums();
    println!(
        "killed {KILLS} times: {attempted} facts told = {written} written + {lost} lost and marked; {} records in {} segments",
        report.records, report.segments
    );
    for (boot, told) in &told {
        let accounts = report.boots.get(boot).map(|boot| &boot.producers);
        let accounted: u64 = accounts.into_iter().flatten().map(|(_, account)| account.last()).sum();
        assert_eq!(accounted, *told, "boot {boot}");
    }
    assert_eq!(attempted, written + lost);
    assert!(lost > 0 && written > 10 * KILLS, "{written} written, {lost} lost: this was no load");
    assert!(!server.trail().contains("\"exact\":false"), "the machine was not started anew");
}

/// The table has the trail, line by line.
#[cfg(feature = "follow-sqlite")]
fn compare_table(audit: &Path) {
    let trail = shardcast::audit::trail::segments(audit).expect("there is a trail");
    let trail = trail.into_iter().map(|(_, path)| fs::read_to_string(path).expect("a segment can be read"));
    let lines: Vec<String> = trail.collect::<String>().lines().map(str::to_owned).collect();
    let table = rusqlite::Connection::open(audit.with_file_name("audit.sqlite")).expect("there is a table");
    let mut rows = table.prepare("SELECT record FROM audit ORDER BY seq").expect("it has records");
    let rows = rows.query_map([], |row| row.get(0)).expect("they can be read");
    let rows: Vec<String> = rows.map(|row| row.expect("a record is text")).collect();
    println!("{} records in the trail, {} in the table of a follower", lines.len(), rows.len());
    assert!(rows == lines, "the table of a follower has something else than the trail");
}

#[cfg(not(feature = "follow-sqlite"))]
fn compare_table(_audit: &Path) {}

#[cfg(feature = "follow-sqlite")]
const FOLLOWED: &str = "[[audit.follower]]\nname = \"table\"\nto = \"sqlite\"\npath = \"audit.sqlite\"\n";
#[cfg(not(feature = "follow-sqlite"))]
const FOLLOWED: &str = "";

/// The sum of all counters on the page of a boot: its slots have 128 bytes, the first is no producer's.
pub(crate) fn counters(dir: &Path, boot: u64) -> u64 {
    let page = fs::read(dir.join(format!("counters-{boot}"))).expect("a boot that was killed has left its counters");
    let slots = page.chunks_exact(128).skip(1);
    slots.map(|slot| u64::from_ne_bytes(slot[..8].try_into().expect("eight bytes"))).sum()
}
