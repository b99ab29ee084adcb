//! What a trail promises, at every byte: what is changed, removed, added or moved is found, and what is lost is told.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::disk::{Appended, Disk, FileSystem};
use super::*;
use crate::audit::record::{Loss, LossCause};
use crate::clock::Wall;
use crate::fact::{Fact, FactKind, Who};
use crate::id::{ConnectionId, ShardId};

/// A folder that is gone after the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shardcast-trail-{}-{number}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn copy(&self, name: &str) -> Self {
        let copy = Self::new(name);
        for entry in fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
        }
        copy
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment_path(&self.0, number)
    }

    fn verify(&self) -> Report {
        self.verify_with(&Verifier::default())
    }

    fn verify_with(&self, verifier: &Verifier<'_>) -> Report {
        verifier.verify(&self.0, &mut |_| {}).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: Wall(1_735_689_599_000_000_000 + ms * 1_000_000) }
}

/// The pipeline's side: numbers facts, and counts them before they are offered.
struct Told {
    trail: Trail,
    seq: u64,
    told: BTreeMap<u16, u64>,
    ms: u64,
}

impl Told {
    fn open(folder: &Folder, options: TrailOptions) -> Self {
        Self::over(Trail::open(&folder.0, options).unwrap())
    }

    /// A trail that has begun on a disk that may fail.
    fn on(disk: Failing, folder: &Folder) -> Self {
        let mut told = Self::over(Trail::open_on(Box::new(disk), folder.0.clone(), TrailOptions::default()).unwrap());
        told.pass(0).unwrap();
        told
    }

    fn over(trail: Trail) -> Self {
        Self { trail, seq: 0, told: BTreeMap::new(), ms: 0 }
    }

    /// What a producer tells, and may never be written.
    fn tell(&mut self, producer: u16, count: u64) -> Vec<Record> {
        (0..count).map(|_| self.tell_one(producer)).collect()
    }

    fn tell_one(&mut self, producer: u16) -> Record {
        let told = self.told.entry(producer).or_default();
        *told += 1;
        let page = self.trail.counters().unwrap();
        page.claim(usize::from(producer), producer);
        page.counter(usize::from(producer)).unwrap().store(*told, Ordering::Release);
        self.seq += 1;
        let fact = Fact::new(FactKind::PlayStart, now(self.ms), ShardId(producer));
        Record { seq: self.seq, producer, producer_seq: *told, entry: Entry::Fact(fact) }
    }

    fn lose(&mut self, producer: u16, count: u64) -> Record {
        let first = self.told.get(&producer).copied().unwrap_or(0) + 1;
        let _ = self.tell(producer, count);
        let seen = now(self.ms);
        let (last, cause) = (first + count - 1, LossCause::ChannelFull);
        let loss = Loss { producer, first, last, count, cause, first_seen: seen, last_seen: seen };
        Record { seq: self.seq, producer, producer_seq: first, entry: Entry::Loss(loss) }
    }

    fn write(&mut self, records: &[Record]) {
        self.trail.write(records).unwrap();
    }

    fn some(&mut self, count: u64) {
        let records = self.tell(0, count);
        self.write(&records);
    }

    fn pass(&mut self, ms: u64) -> Result<(), AuditError> {
        self.ms += ms;
        let told = self.told.clone();
        self.trail.tick(now(self.ms), &mut || told.clone())
    }

    fn close(mut self) {
        let told = self.told.clone();
        self.trail.flush().unwrap();
        self.trail.close(now(self.ms), &mut || told.clone()).unwrap();
    }

    /// As `kill -9`: nothing is told any more.
    fn die(self) {
        drop(self);
    }
}

fn small_segments() -> TrailOptions {
    TrailOptions { segment_bytes: 3_000, ..TrailOptions::default() }
}

/// A trail of three boots and several segments, one of which was killed, with losses of both kinds.
fn long(key: Option<SigningKey>) -> Folder {
    let folder = Folder::new("long");
    let mut told = Told::open(&folder, TrailOptions { key, ..small_segments() });
    told.pass(0).unwrap();
    for _ in 0..5 {
        told.some(4);
        let lost = told.lose(0, 3);
        let other = told.tell_one(7);
        told.write(&[lost, other]);
        told.pass(1_100).unwrap();
    }
    // These die with it.
    let _ = told.tell(0, 5);
    let _ = told.tell(9, 2);
    told.die();
    for _ in 0..2 {
        let mut told = Told::open(&folder, small_segments());
        told.pass(0).unwrap();
        told.some(10);
        told.pass(1_100).unwrap();
        told.close();
    }
    folder
}

#[test]
fn every_fact_of_every_boot_is_written_or_its_loss_is() {
    let folder = long(None);
    let report = folder.verify();

    assert_eq!((report.findings.clone(), report.code()), (Vec::new(), 3));
    // 5 x (4 + 3 + 1) + 7, and twice 10.
    assert_eq!(report.sums(), (67, 45, 22));
    let killed: Vec<_> = report.boots[&1].losses.iter().filter(|loss| loss.cause == "killed").collect();
    let killed: Vec<_> = killed.iter().map(|loss| (loss.producer, loss.first, loss.count)).collect();
    assert_eq!(killed, [(0, 36, 5), (9, 1, 2)]);
    assert!(report.segments > 3 && report.checkpoints.0 > 5, "{report:?}");
    assert_eq!(disk::pages(&folder.0).unwrap(), [], "all boots are accounted for");
}

#[test]
fn a_trail_without_any_loss_is_whole() {
    let folder = Folder::new("whole");
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    told.some(100);
    told.close();

    let report = folder.verify();
    assert_eq!((report.code(), report.sums(), report.records), (0, (100, 100, 0), 101));
}

/// The matrix of what somebody may do to a trail who does not have the key.
#[test]
fn whatever_is_changed_is_found_and_named() {
    let key = SigningKey::generate().unwrap();
    let public = key.verifying();
    let folder = long(Some(key));
    let by_key = Verifier { key: Some(&public), ..Verifier::default() };
    // The boots after the first had no key: their checkpoints are not to be believed.
    let unsigned = |report: &Report| report.findings.iter().all(|one| matches!(one, Finding::Checkpoint { .. }));
    assert!(unsigned(&folder.verify_with(&by_key)));
    let lines = |folder: &Folder, n| -> Vec<String> {
        fs::read_to_string(folder.segment(n)).unwrap().lines().map(|line| format!("{line}\n")).collect()
    };
    let (first, second) = (lines(&folder, 1), lines(&folder, 2));
    let rewrite = |name: &str, change: &dyn Fn(&Folder)| {
        let copy = folder.copy(name);
        change(&copy);
        copy.verify()
    };
    let put = |folder: &Folder, n: u64, lines: &[String]| fs::write(folder.segment(n), lines.concat()).unwrap();

    let deleted = rewrite("deleted", &|it| put(it, 1, &[&first[..3], &first[4..]].concat()));
    assert!(matches!(&deleted.findings[0], Finding::Unchained { expected: 4, found: 5, .. }), "{deleted:?}");
    assert_eq!(deleted.code(), 5);

    let swapped = rewrite("swapped", &|it| {
        let mut lines = first.clone();
        lines.swap(3, 4);
        put(it, 1, &lines);
    });
    assert!(matches!(&swapped.findings[0], Finding::Unchained { expected: 4, found: 5, .. }), "{swapped:?}");

    let doubled = rewrite("doubled", &|it| put(it, 1, &[&first[..4], &first[3..]].concat()));
    assert!(matches!(&doubled.findings[0], Finding::Unchained { expected: 5, found: 4, .. }), "{doubled:?}");

    let without = rewrite("without a segment", &|it| fs::remove_file(it.segment(2)).unwrap());
    assert!(matches!(&without.findings[0], Finding::Unchained { .. }) && without.code() == 5, "{without:?}");

    let replayed = rewrite("replayed", &|it| put(it, 2, &[first.clone(), second.clone()].concat()));
    assert!(matches!(&replayed.findings[0], Finding::Unchained { .. }), "{replayed:?}");

    let flipped = rewrite("flipped", &|it| {
        let mut bytes = fs::read(it.segment(2)).unwrap();
        bytes[second[0].len() + 30] ^= 4;
        fs::write(it.segment(2), bytes).unwrap();
    });
    let offset = second[0].len() as u64;
    assert!(matches!(&flipped.findings[0], Finding::Broken { offset: at, .. } if *at == offset), "{flipped:?}");

    // The end is cut off: whoever has no checkpoint does not see it.
    let last = segments(&folder.0).unwrap().last().unwrap().0;
    let end = lines(&folder, last);
    let cut = |it: &Folder| put(it, last, &end[..end.len() - 2]);
    let truncated = rewrite("truncated", &cut);
    assert!(matches!(truncated.findings.last(), Some(Finding::Truncated { .. })) && truncated.code() == 7);
    let torn = rewrite("torn", &|it| {
        let bytes = fs::read(it.segment(last)).unwrap();
        fs::write(it.segment(last), &bytes[..bytes.len() - 10]).unwrap();
    });
    assert!(torn.findings.iter().any(|one| one.code() == 6), "{torn:?}");

    let bare = rewrite("no checkpoints", &|it| fs::remove_file(it.0.join(CHECKPOINTS)).unwrap());
    assert_eq!((&bare.findings[..], bare.code()), (&[Finding::NoCheckpoint][..], 7));
}

/// Whoever writes all of it anew, hashes and checkpoints too, is found only by checkpoints that were kept elsewhere, or
/// by the key.
#[test]
fn a_trail_that_was_written_anew_is_found_by_its_checkpoints_alone() {
    let key = SigningKey::generate().unwrap();
    let public = key.verifying();
    let write = |key: Option<SigningKey>, first: FactKind| {
        let folder = Folder::new("anew");
        let mut told = Told::open(&folder, TrailOptions { key, ..TrailOptions::default() });
        told.pass(0).unwrap();
        let mut records = told.tell(0, 20);
        if let Entry::Fact(fact) = &mut records[5].entry {
            fact.kind = first;
        }
        told.write(&records);
        told.close();
        folder
    };
    let (true_one, forged) = (write(Some(key), FactKind::Kick), write(None, FactKind::PlayEnd));

    assert_eq!(forged.verify().code(), 0, "it is consistent in itself");
    let by_key = Verifier { key: Some(&public), ..Verifier::default() };
    assert_eq!((true_one.verify_with(&by_key).code(), forged.verify_with(&by_key).code()), (0, 5));
    let elsewhere = true_one.0.join(CHECKPOINTS);
    let kept = Verifier { key: Some(&public), against: Some(&elsewhere), ..Verifier::default() };
    assert_eq!((true_one.verify_with(&kept).code(), forged.verify_with(&kept).code()), (0, 5));
    let other = SigningKey::generate().unwrap().verifying();
    assert_eq!(true_one.verify_with(&Verifier { key: Some(&other), ..Verifier::default() }).code(), 5);
}

/// A crash in the middle of anything: the file is cut at each byte of its last two lines.
#[test]
fn wherever_a_crash_tears_the_end_off_it_goes_on_and_nothing_is_lost_in_silence() {
    let folder = Folder::new("crash");
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    told.some(3);
    told.die();
    let whole = fs::read(folder.segment(1)).unwrap();
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();

    for length in lines[1]..whole.len() {
        let copy = folder.copy("cut");
        fs::write(copy.segment(1), &whole[..length]).unwrap();
        let mut told = Told::open(&copy, TrailOptions::default());
        told.pass(0).unwrap();
        told.some(2);
        told.close();

        let report = copy.verify();
        let kept = lines.iter().filter(|end| **end <= length).count() as u64 - 1;
        // The checkpoint of the first boot was written before anything came.
        assert_eq!((report.code(), report.sums()), (3, (5, kept + 2, 3 - kept)), "cut at {length}: {report:?}");
        let torn = length - lines[usize::try_from(kept).unwrap()];
        let aside = copy.0.join("00000001.torn");
        assert_eq!(fs::read(&aside).map_or(0, |bytes| bytes.len()), torn);
        assert!(
            torn == 0 || fs::read_to_string(copy.segment(2)).unwrap().contains(&format!("\"torn_bytes\":{torn}"))
        );
    }
}

#[test]
fn one_who_is_killed_while_it_recovers_tells_each_loss_once() {
    let folder = Folder::new("again");
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    told.some(2);
    let _ = told.tell(0, 4);
    told.die();
    // Killed before it wrote anything, and after it did.
    Told::open(&folder, TrailOptions::default()).die();
    let page = page_path(&folder.0, 1);
    let kept = fs::read(&page).unwrap();
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    told.die();
    // As if it had been killed between the record and the end of the page.
    fs::write(&page, kept).unwrap();
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    told.close();

    let report = folder.verify();
    assert_eq!((report.code(), report.sums()), (3, (6, 2, 4)), "{report:?}");
}

#[test]
fn silence_has_checkpoints_too_and_a_segment_ends_with_its_time() {
    let folder = Folder::new("silence");
    let mut told =
        Told::open(&folder, TrailOptions { segment_age: Duration::from_secs(60), ..TrailOptions::default() });
    for _ in 0..300 {
        told.pass(100).unwrap();
    }
    told.some(1);
    told.pass(40_000).unwrap();
    told.close();

    let report = folder.verify();
    assert_eq!((report.code(), report.segments), (0, 2));
    assert!((4..8).contains(&report.checkpoints.0), "{report:?}");
}

/// A disk that fails when it is told to.
#[derive(Debug, Default)]
struct Failing {
    full: Arc<AtomicBool>,
    /// Bytes that are kept of it, and given back while it is full.
    spare: Arc<AtomicU64>,
    released: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    syncs: Arc<AtomicU64>,
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn Appended>,
    full: Arc<AtomicBool>,
    spare: Arc<AtomicU64>,
    released: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    syncs: Arc<AtomicU64>,
    failed: bool,
}

impl Disk for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        self.over(FileSystem.create(path)?)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        self.over(FileSystem.append(path)?)
    }

    fn reserve(&self, _: &Path, bytes: usize) -> io::Result<()> {
        // What was given back could be had again.
        if self.full.load(Ordering::Relaxed) && bytes > RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.spare.store(bytes as u64, Ordering::Relaxed);
        self.released.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, _: &Path) -> io::Result<()> {
        self.released.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Failing {
    fn over(&self, file: Box<dyn Appended>) -> io::Result<Box<dyn Appended>> {
        let (full, broken, syncs) = (Arc::clone(&self.full), Arc::clone(&self.broken), Arc::clone(&self.syncs));
        let (spare, released) = (Arc::clone(&self.spare), Arc::clone(&self.released));
        Ok(Box::new(FailingFile { file, full, spare, released, broken, syncs, failed: false }))
    }
}

impl Appended for FailingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let spare = self.spare.load(Ordering::Relaxed);
        if self.released.load(Ordering::Relaxed) && spare >= bytes.len() as u64 {
            self.spare.store(spare - bytes.len() as u64, Ordering::Relaxed);
        } else if self.full.load(Ordering::Relaxed) {
            // As much as there was room for.
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        assert!(!self.failed, "asked again after it had failed");
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.broken.swap(false, Ordering::Relaxed) {
            self.failed = true;
            return Err(io::Error::other("the disk is gone"));
        }
        self.file.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }
}

#[test]
fn a_sync_that_fails_poisons_its_segment_and_the_next_says_what_is_in_doubt() {
    let folder = Folder::new("sync");
    let disk = Failing::default();
    let broken = Arc::clone(&disk.broken);
    let mut told = Told::on(disk, &folder);
    told.some(5);
    told.trail.flush().unwrap();
    told.some(3);
    broken.store(true, Ordering::Relaxed);
    assert!(told.trail.flush().unwrap_err().to_string().contains("cannot sync"));
    told.some(2);
    told.close();

    let report = folder.verify();
    assert_eq!((report.code(), report.segments, report.sums()), (0, 2, (10, 10, 0)), "{report:?}");
    let second = fs::read_to_string(folder.segment(2)).unwrap();
    let doubt = second.lines().nth(1).unwrap();
    // Line 1 is the segment's own, 2 to 6 are durable.
    assert!(
        doubt.contains("\"event\":\"sync_failed\"") && doubt.contains("\"first_seq\":7,\"last_seq\":9"),
        "{doubt}"
    );
}

#[test]
fn a_batch_that_a_full_disk_took_half_of_is_taken_back_and_written_whole_later() {
    let folder = Folder::new("full");
    let disk = Failing::default();
    let full = Arc::clone(&disk.full);
    let mut told = Told::on(disk, &folder);
    told.some(2);
    full.store(true, Ordering::Relaxed);
    let records = told.tell(0, 3);
    for _ in 0..3 {
        assert!(told.trail.write(&records).is_err());
    }
    full.store(false, Ordering::Relaxed);
    told.write(&records);
    told.close();

    let report = folder.verify();
    assert_eq!((report.code(), report.sums()), (0, (5, 5, 0)), "{report:?}");
}

#[test]
fn a_full_disk_is_told_on_it_and_checkpoints_go_on_until_there_is_room() {
    let folder = Folder::new("reserve");
    let disk = Failing::default();
    let (full, spare) = (Arc::clone(&disk.full), Arc::clone(&disk.spare));
    let mut told = Told::on(disk, &folder);
    told.some(2);
    full.store(true, Ordering::Relaxed);
    let records = told.tell(0, 1);
    for _ in 0..3 {
        assert!(told.trail.write(&records).is_err());
    }
    let text = fs::read_to_string(folder.segment(1)).unwrap();
    assert_eq!(text.matches("\"event\":\"disk_full\"").count(), 1, "{text}");
    assert!(spare.load(Ordering::Relaxed) > RESERVE_BYTES as u64 - 1_000, "records do not take what is kept");
    let checkpoints = || fs::read_to_string(folder.0.join(CHECKPOINTS)).unwrap().lines().count();
    let before = checkpoints();
    told.pass(60_000).unwrap();
    assert!(checkpoints() > before, "silence would be evidence of a fault");

    full.store(false, Ordering::Relaxed);
    told.write(&records);
    assert_eq!(spare.load(Ordering::Relaxed), RESERVE_BYTES as u64, "it is kept anew");
    told.close();
    let report = folder.verify();
    assert_eq!((report.code(), report.sums()), (0, (3, 3, 0)), "{report:?}");
}

#[test]
fn a_disk_that_others_fill_while_nothing_comes_is_told_too_and_no_checkpoint_is_torn() {
    let folder = Folder::new("filled");
    let disk = Failing::default();
    let full = Arc::clone(&disk.full);
    let mut told = Told::on(disk, &folder);
    told.some(2);
    full.store(true, Ordering::Relaxed);
    assert!(told.pass(60_000).is_err(), "half of a checkpoint was written");
    told.pass(100).unwrap();
    full.store(false, Ordering::Relaxed);
    told.some(1);
    told.close();
    let text = fs::read_to_string(folder.segment(1)).unwrap();
    assert_eq!(text.matches("\"event\":\"disk_full\"").count(), 1, "{text}");
    let report = folder.verify();
    assert_eq!((report.code(), report.sums()), (0, (3, 3, 0)), "{report:?}");
}

#[test]
fn a_clock_that_is_set_is_told_with_by_how_much() {
    let folder = Folder::new("clock");
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    let mut at = now(told.ms + 100);
    for (mono_ms, wall_ms) in [(100, 100), (100, 3_600_100), (5_000, 5_000), (100, -1_799_900), (100, 300)] {
        at.mono = Instant(at.mono.0 + mono_ms * 1_000_000);
        at.wall = Wall(at.wall.0.checked_add_signed(wall_ms * 1_000_000).unwrap());
        told.trail.tick(at, &mut BTreeMap::new).unwrap();
    }
    told.close();
    let text = fs::read_to_string(folder.segment(1)).unwrap();
    let steps = text.lines().filter(|line| line.contains("\"clock_step\""));
    let by: Vec<&str> = steps.filter_map(|line| line.split("\"by_ms\":").nth(1)?.split(',').next()).collect();
    assert_eq!(by[..2], ["3600000", "-1800000"], "{text}");
    assert_eq!(folder.verify().code(), 0);
}

#[test]
fn with_a_key_of_pseudonyms_nobody_stands_in_the_trail_and_it_is_whole_all_the_same() {
    let folder = Folder::new("pseudonyms");
    let key = PseudonymKey::generate().unwrap();
    let (mallory, address, id) = (key.pseudonym("mallory"), key.pseudonym("192.0.2.7"), key.id());
    let mut told = Told::open(&folder, TrailOptions { pseudonyms: Some(key), ..TrailOptions::default() });
    told.pass(0).unwrap();
    for peer in ["192.0.2.7:40000", "[::ffff:192.0.2.7]:40001"] {
        let mut record = told.tell_one(0);
        let Entry::Fact(fact) = &mut record.entry else { panic!("{record:?}") };
        let principal = Some("mallory".into());
        let peer = Some(peer.parse().unwrap());
        fact.who = Some(Who { connection: ConnectionId(1), peer, protocol: "rtmp", principal });
        told.write(&[record]);
    }
    told.close();
    let text = fs::read_to_string(folder.segment(1)).unwrap();
    assert!(!text.contains("mallory") && !text.contains("192.0.2"), "{text}");
    assert_eq!((text.matches(&mallory).count(), text.matches(&address).count()), (2, 2), "{text}");
    assert!(text.lines().next().unwrap().contains(&format!("\"pseudonyms\":\"{id}\"")));
    assert_eq!((folder.verify().code(), folder.verify().sums()), (0, (2, 2, 0)));
}

#[test]
fn a_trail_that_another_writes_is_refused() {
    let folder = Folder::new("lock");
    let first = Told::open(&folder, TrailOptions::default());
    assert!(matches!(Trail::open(&folder.0, TrailOptions::default()), Err(AuditError::InUse { .. })));
    first.die();
    assert!(Trail::open(&folder.0, TrailOptions::default()).is_ok());
}

#[test]
fn a_record_is_proved_to_a_signed_checkpoint_by_a_few_hashes() {
    let key = SigningKey::generate().unwrap();
    let public = key.verifying();
    let folder = Folder::new("prove");
    let mut told = Told::open(&folder, TrailOptions { key: Some(key), ..small_segments() });
    told.pass(0).unwrap();
    for _ in 0..20 {
        told.some(7);
    }
    told.close();

    let checkpoints = fs::read_to_string(folder.0.join(CHECKPOINTS)).unwrap();
    let checkpoint = Checkpoint::read(checkpoints.lines().last().unwrap().as_bytes(), Some(&public)).unwrap();
    let all: Vec<Hash> = segments(&folder.0)
        .unwrap()
        .iter()
        .flat_map(|(_, path)| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| Sealed::read(line.as_bytes()).unwrap().hash)
        .collect();
    assert_eq!(all.len() as u64, checkpoint.seq);
    for index in [0, 1, 76, checkpoint.seq - 1] {
        let path = prove(index, checkpoint.seq, &mut all.iter().copied()).unwrap();
        assert!(path.len() <= 9);
        let record = &all[usize::try_from(index).unwrap()];
        assert_eq!(root_of(record, index, checkpoint.seq, &path), Some(checkpoint.root));
    }
}

#[test]
fn a_checkpoint_that_a_crash_has_torn_is_told_until_the_next_start() {
    let folder = Folder::new("torn-checkpoint");
    let mut told = Told::open(&folder, TrailOptions::default());
    told.pass(0).unwrap();
    told.some(5);
    told.close();
    let path = folder.0.join(CHECKPOINTS);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let report = folder.verify();
    let [Finding::Torn { file, bytes, .. }] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((file, *bytes > 100, report.code()), (&path, true, 6));
    assert_eq!(folder.verify_with(&Verifier { running: true, ..Verifier::default() }).code(), 0);
    Told::open(&folder, TrailOptions::default()).close();
    assert_eq!(folder.verify().code(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No byte of a trail can be another without that being found, in the records or in the checkpoints.
    #[test]
    fn a_byte_that_is_changed_anywhere_is_found(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        static TRAIL: std::sync::OnceLock<(Folder, VerifyingKey)> = std::sync::OnceLock::new();
        let (folder, public) = TRAIL.get_or_init(|| {
            let key = SigningKey::generate().unwrap();
            let public = key.verifying();
            let folder = Folder::new("byte");
            let mut told = Told::open(&folder, TrailOptions { key: Some(key), ..small_segments() });
            told.pass(0).unwrap();
            for _ in 0..6 {
                told.some(5);
                told.pass(1_100).unwrap();
            }
            told.close();
            (folder, public)
        });
        let copy = folder.copy("flip");
        let mut files: Vec<PathBuf> = segments(&copy.0).unwrap().into_iter().map(|(_, path)| path).collect();
        files.push(copy.0.join(CHECKPOINTS));
        let sizes: Vec<usize> = files.iter().map(|path| fs::read(path).unwrap().len()).collect();
        let mut at = at.index(sizes.iter().sum());
        let mut file = 0;
        while at >= sizes[file] {
            at -= sizes[file];
            file += 1;
        }
        let mut bytes = fs::read(&files[file]).unwrap();
        bytes[at] ^= 1 << bit;
        fs::write(&files[file], bytes).unwrap();

        let report = copy.verify_with(&Verifier { key: Some(public), ..Verifier::default() });
        prop_assert!(report.code() >= 4, "byte {at} of {:?}: {report:?}", files[file]);
    }
}
