//! The trail on disk: segments of JSON lines, each line chained to the one before by its hash, and checkpoints of it.
//!
//! ```text
//! DIR/00000001.jsonl, 00000002.jsonl, …   the records; a segment ends after so many bytes or so much time
//! DIR/checkpoints.jsonl                   what the trail was at a time, signed: copy it elsewhere
//! DIR/counters-3                          what each producer of the running boot has told, in mapped memory
//! DIR/00000001.torn                       what a crash left of a line, put aside
//! ```
//!
//! A line says its number, its boot (how often the trail was opened), who told it, and ends with the hash of the line
//! before and its own over its exact bytes, so that nothing need be parsed to verify it. What a boot that was killed
//! had told and not written is known from its counters: the next one writes a `recovery` for each producer. So
//! `attempted = written + lost` holds for every boot.
//!
//! A disk that is full is told by a record of its own, for which some room is kept, and what came meanwhile is marked as
//! lost when there is room again.
//!
//! A sync that fails poisons its segment: nobody knows what of it is durable, and asking again would not tell. A new
//! segment begins with what is in doubt.

mod account;
mod checkpoint;
pub(in crate::audit) mod disk;
mod hash;
mod key;
mod line;
mod merkle;
mod page;
mod pseudonym;
mod recover;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::json::{Line, write_hex, write_record};
use super::record::{AuditError, AuditSink, Entry, Record};
use crate::clock::{Instant, Now};
use crate::limits::AUDIT_LINE_BYTES_MAX;
use disk::{Appended, Disk, FileSystem, page_path, segment_path};
use recover::{Left, Lost};

pub use account::{Account, Accounts, Gap};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use disk::segments;
pub use hash::{Hash, NOTHING, from_hex, hex};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use line::{Head, Next, Sealed, next_line};
pub use merkle::{Frontier, prove, root_of};
pub use page::CounterPage;
pub use pseudonym::{PseudonymKey, PseudonymKeyError};
pub use verify::{Boot, FINDINGS_MAX, Finding, Marked, Progress, Report, Verifier};

/// How a trail is kept.
#[derive(Debug)]
pub struct TrailOptions {
    /// A segment ends after so many bytes.
    pub segment_bytes: u64,
    /// Or after so long.
    pub segment_age: Duration,
    /// A checkpoint follows a record after so long,
    pub checkpoint_every: Duration,
    /// or after so many records,
    pub checkpoint_records: u64,
    /// and comes after so long where nothing happens: silence is then evidence of a fault.
    pub checkpoint_idle: Duration,
    /// Signs them.
    pub key: Option<SigningKey>,
    /// Addresses and principals stand in the trail as its pseudonyms.
    pub pseudonyms: Option<PseudonymKey>,
}

impl Default for TrailOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            segment_age: Duration::from_secs(3600),
            checkpoint_every: Duration::from_secs(1),
            checkpoint_records: 1_000,
            checkpoint_idle: Duration::from_secs(10),
            key: None,
            pseudonyms: None,
        }
    }
}

/// Where a trail stands.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The number of the last record.
    seq: u64,
    /// Its hash.
    hash: Hash,
    /// The tree over all of them.
    tree: Frontier,
    /// Of the running boot.
    accounts: Accounts,
}

/// A trail that is written: an [`AuditSink`].
#[derive(Debug)]
pub struct Trail {
    dir: PathBuf,
    /// Locked as long as it is written.
    _lock: File,
    disk: Box<dyn Disk>,
    options: TrailOptions,
    log: String,
    boot: u64,
    page: Arc<CounterPage>,
    state: State,
    /// What boots before have lost, until it is written down.
    left: Option<Left>,
    segment: Option<Segment>,
    /// The number of the last segment.
    segments: u64,
    /// Records that were written and are not known to be durable.
    unsynced: bool,
    /// The last record that is.
    durable: u64,
    checkpoints: Box<dyn Appended>,
    /// Bytes of whole lines of them, and whether a failed write may have left a part of a line behind that.
    checkpoints_length: u64,
    checkpoints_torn: bool,
    /// Of the last checkpoint.
    checkpoint_hash: Hash,
    checkpoint_seq: u64,
    checkpoint_at: Option<Instant>,
    now: Now,
    /// Some of the disk is kept for when it is full.
    reserved: bool,
    /// Both clocks, when they were looked at last.
    seen: Option<Now>,
    lines: Vec<u8>,
}

/// The file that is written now.
#[derive(Debug)]
struct Segment {
    file: Box<dyn Appended>,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    /// A failed write may have left a part of a line behind that.
    torn: bool,
    since: Instant,
}

impl Trail {
    /// Opens or makes the trail in this folder, for the owner alone; it goes on where the last one ended.
    ///
    /// # Errors
    /// [`AuditError::File`] with what could not be done, or [`AuditError::InUse`].
    pub fn open(dir: impl Into<PathBuf>, options: TrailOptions) -> Result<Self, AuditError> {
        Self::open_on(Box::new(FileSystem), dir.into(), options)
    }

    fn open_on(disk: Box<dyn Disk>, dir: PathBuf, options: TrailOptions) -> Result<Self, AuditError> {
        disk::make_folder(&dir).map_err(failed(&dir, "make"))?;
        let lock_path = dir.join("lock");
        let lock = disk::open(&lock_path, File::options().write(true).create(true).truncate(false));
        let lock = lock.map_err(failed(&lock_path, "open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditError::InUse { path: dir }),
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path, "lock")(error)),
        }
        let mut left = recover::recover(&dir).map_err(failed(&dir, "read what is in"))?;
        let boot = left.boot + 1;
        let page = page_path(&dir, boot);
        let counters = CounterPage::create(&page).map_err(failed(&page, "map"))?;
        let checkpoints_path = dir.join(CHECKPOINTS);
        let (checkpoint_hash, checkpoints_length) =
            last_checkpoint(&checkpoints_path).map_err(failed(&checkpoints_path, "read"))?;
        let checkpoints = disk.append(&checkpoints_path).map_err(failed(&checkpoints_path, "open"))?;
        // On a disk that is full already nothing can be kept; it is tried again later.
        let reserved = disk.reserve(&dir.join(RESERVE), RESERVE_BYTES).is_ok();
        let mut state = std::mem::take(&mut left.state);
        state.accounts = Accounts::new();
        Ok(Self {
            log: left.log.take().unwrap_or_else(new_log),
            boot,
            page: Arc::new(counters),
            segments: left.segment,
            durable: state.seq,
            checkpoint_seq: state.seq,
            state,
            left: Some(left),
            segment: None,
            unsynced: false,
            checkpoints,
            checkpoints_length,
            checkpoints_torn: false,
            checkpoint_hash,
            checkpoint_at: None,
            now: Now::default(),
            reserved,
            seen: None,
            lines: Vec::new(),
            dir,
            _lock: lock,
            disk,
            options,
        })
    }

    /// Where it is kept.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its name, like that of no other.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The number of the last record that is known to be on disk.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// Says that a follower has put so many records aside.
    pub(super) fn tell_refused(&mut self, follower: &str, count: u64) -> Result<(), AuditError> {
        self.begin_segment()?;
        self.append(|writer| {
            writer.note("follower_refuse", FOLLOWER_REFUSE_CODE, |line| {
                line.text("follower", follower);
                line.number("count", count);
            });
        })
    }

    /// Says that a follower fails, or no longer does.
    pub(super) fn tell_follower(&mut self, follower: &str, fails: bool) -> Result<(), AuditError> {
        let (event, code) =
            if fails { ("follower_fail", FOLLOWER_FAIL_CODE) } else { ("follower_return", FOLLOWER_RETURN_CODE) };
        self.begin_segment()?;
        self.append(|writer| writer.note(event, code, |line| line.text("follower", follower)))
    }

    /// Appends lines that `write` makes of where the trail stands: all of them or none.
    fn append(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Result<(), AuditError> {
        self.lines.clear();
        self.lines.shrink_to(LINES_BYTES_KEPT);
        let mut state = self.state.clone();
        let pseudonyms = self.options.pseudonyms.as_ref();
        write(&mut Writer { state: &mut state, boot: self.boot, now: self.now, pseudonyms, out: &mut self.lines });
        let Some(segment) = &mut self.segment else { return Ok(()) };
        if segment.torn {
            segment.file.cut(segment.length).map_err(failed(&segment.path, "cut a torn line off"))?;
        }
        segment.torn = true;
        segment.file.write_all(&self.lines).map_err(failed(&segment.path, "append to"))?;
        segment.torn = false;
        segment.length += self.lines.len() as u64;
        self.state = state;
        self.unsynced = true;
        Ok(())
    }

    /// Sees to it that there is a segment to write to.
    fn begin_segment(&mut self) -> Result<(), AuditError> {
        if self.segment.is_some() {
            return Ok(());
        }
        let number = self.segments + 1;
        let path = segment_path(&self.dir, number);
        let file = self.disk.create(&path).map_err(failed(&path, "make"))?;
        self.segment = Some(Segment { file, path, length: 0, torn: false, since: self.now.mono });
        self.segments = number;
        let (log, key) = (self.log.clone(), self.options.key.as_ref().map(|key| key.id().to_owned()));
        let (torn, lost) = self.left.as_ref().map_or((0, Vec::new()), |left| (left.torn, left.lost.clone()));
        let written = self.append(|writer| {
            writer.opening(&log, number, torn, key.as_deref());
            for lost in &lost {
                writer.recovery(lost);
            }
        });
        if let Err(error) = written {
            // It is tried again under the same name: nothing is in it.
            if let Some(segment) = self.segment.take() {
                let _ = fs::remove_file(segment.path);
            }
            self.segments -= 1;
            return Err(error);
        }
        if self.left.is_some() {
            // What boots before have lost is told; as soon as that is durable their counters are not needed.
            self.sync()?;
            for page in self.left.take().map(|left| left.pages).unwrap_or_default() {
                fs::remove_file(&page).map_err(failed(&page, "remove"))?;
            }
        }
        Ok(())
    }

    /// The segment is large or old enough.
    fn end_segment(&mut self) -> Result<(), AuditError> {
        let number = self.segments;
        self.append(|writer| writer.ending(number))?;
        self.sync()?;
        self.segment = None;
        Ok(())
    }

    /// Makes durable what was written. If that fails, a new segment tells what is in doubt.
    fn sync(&mut self) -> Result<(), AuditError> {
        let Some(segment) = &mut self.segment else {
            // Where none could be begun behind one that is poisoned, nothing is known of what that had.
            let why = || AuditError::Sink("no segment could be begun".into());
            return if self.state.seq > self.durable { Err(why()) } else { Ok(()) };
        };
        if !std::mem::take(&mut self.unsynced) {
            return Ok(());
        }
        if let Err(error) = segment.file.sync() {
            let error = failed(&segment.path, "sync")(error);
            let (number, first, last) = (self.segments, self.durable + 1, self.state.seq);
            // Never again on that file: what it answered would mean nothing.
            self.segment = None;
            self.begin_segment()?;
            self.append(|writer| writer.doubt(number, first, last))?;
            return Err(error);
        }
        self.durable = self.state.seq;
        Ok(())
    }

    /// Keeps some of the disk for when it is full; where it is, nothing is written before that is to be had, and as much
    /// again for what is written then.
    fn reserve(&mut self) -> Result<(), AuditError> {
        let path = self.dir.join(RESERVE);
        let kept = self.disk.reserve(&path, 2 * RESERVE_BYTES).and_then(|()| self.disk.reserve(&path, RESERVE_BYTES));
        kept.map_err(|error| {
            // What there was of it is for checkpoints.
            let _ = self.disk.release(&path);
            failed(&path, "keep some of the disk with")(error)
        })?;
        self.reserved = true;
        Ok(())
    }

    /// How something went. If it found no room, what was kept of the disk is for saying so, and for the checkpoints of a
    /// trail that stands still.
    fn unless_full(&mut self, done: Result<(), AuditError>) -> Result<(), AuditError> {
        let no_room = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let is_full = matches!(&done, Err(AuditError::File { source, .. }) if no_room(source.kind()));
        if is_full && std::mem::take(&mut self.reserved) && self.disk.release(&self.dir.join(RESERVE)).is_ok() {
            // Who found no room is told that; whether this could be said changes nothing.
            let _ = self.append(|writer| writer.note("disk_full", DISK_FULL_CODE, |_| ())).and_then(|()| self.sync());
        }
        done
    }

    /// What is due now that nobody asks for: another segment, a checkpoint, what has become of the clock.
    fn pass(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        self.begin_segment()?;
        let old = |segment: &Segment| now.mono.since(segment.since) >= self.options.segment_age;
        if self.segment.as_ref().is_some_and(old) && self.state.seq > self.checkpoint_seq {
            self.end_segment()?;
            self.begin_segment()?;
        }
        self.see_clocks(now)?;
        if self.is_checkpoint_due() { self.checkpoint(&attempted()) } else { Ok(()) }
    }

    /// Tells where the clock on the wall was set: from there on times are others. The order of records is that of
    /// their numbers.
    fn see_clocks(&mut self, now: Now) -> Result<(), AuditError> {
        let passed = |before: Now| {
            let wall = i128::from(now.wall.0) - i128::from(before.wall.0);
            wall - (i128::from(now.mono.0) - i128::from(before.mono.0))
        };
        let step = self.seen.map_or(0, passed) / 1_000_000;
        if step.unsigned_abs() >= CLOCK_STEP.as_millis() {
            self.append(|writer| writer.clock_step(step))?;
        }
        self.seen = Some(now);
        Ok(())
    }

    fn checkpoint(&mut self, attempted: &BTreeMap<u16, u64>) -> Result<(), AuditError> {
        // Never newer than what it speaks of.
        self.sync()?;
        let mut out = Vec::new();
        let place = (self.boot, self.segments);
        let seal = (&self.checkpoint_hash, self.options.key.as_ref());
        let hash = checkpoint::write(&mut out, &self.log, place, self.now, &self.state, attempted, seal);
        let path = self.dir.join(CHECKPOINTS);
        if self.checkpoints_torn {
            self.checkpoints.cut(self.checkpoints_length).map_err(failed(&path, "cut a torn line off"))?;
        }
        self.checkpoints_torn = true;
        self.checkpoints.write_all(&out).map_err(failed(&path, "append to"))?;
        self.checkpoints_torn = false;
        self.checkpoints_length += out.len() as u64;
        self.checkpoints.sync().map_err(failed(&path, "sync"))?;
        self.checkpoint_hash = hash;
        self.checkpoint_seq = self.state.seq;
        self.checkpoint_at = Some(self.now.mono);
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        let Some(at) = self.checkpoint_at else { return true };
        let (passed, records) = (self.now.mono.since(at), self.state.seq - self.checkpoint_seq);
        let options = &self.options;
        passed >= options.checkpoint_idle
            || records >= options.checkpoint_records
            || (records > 0 && passed >= options.checkpoint_every)
    }
}

impl AuditSink for Trail {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        if self.segment.as_ref().is_some_and(|segment| segment.length >= self.options.segment_bytes) {
            self.end_segment()?;
        }
        if !self.reserved {
            self.reserve()?;
        }
        self.begin_segment()?;
        let written = self.append(|writer| records.iter().for_each(|record| writer.record(record)));
        self.unless_full(written)
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        self.sync()
    }

    fn counters(&self) -> Option<Arc<CounterPage>> {
        Some(Arc::clone(&self.page))
    }

    fn tick(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        self.now = now;
        let passed = self.pass(now, attempted);
        self.unless_full(passed)
    }

    fn close(&mut self, now: Now, attempted: &mut dyn FnMut() -> BTreeMap<u16, u64>) -> Result<(), AuditError> {
        self.now = now;
        self.checkpoint(&attempted())?;
        // All is told: the next boot finds nothing to account for.
        let path = page_path(&self.dir, self.boot);
        fs::remove_file(&path).map_err(failed(&path, "remove"))
    }
}

/// Writes lines and moves the state on.
struct Writer<'a> {
    state: &'a mut State,
    boot: u64,
    now: Now,
    pseudonyms: Option<&'a PseudonymKey>,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn record(&mut self, record: &Record) {
        let start = self.out.len();
        let hide = self.pseudonyms.map(|key| |name: &str| key.pseudonym(name));
        let hide = hide.as_ref().map(|hide| hide as &dyn Fn(&str) -> String);
        write_record(record, self.state.seq + 1, Some(self.boot), hide, self.out);
        self.seal(start);
        let account = self.state.accounts.entry(record.producer).or_default();
        match record.entry {
            Entry::Fact(_) => account.enter(record.producer_seq, 1, 0),
            Entry::Loss(loss) => account.enter(loss.first, 0, loss.count),
        };
    }

    /// The first line of a segment: enough to go on from it without those before.
    fn opening(&mut self, log: &str, number: u64, torn: u64, key: Option<&str>) {
        let producers = self.state.accounts.iter();
        let producers = producers.map(|(id, account)| format!("\"{id}\":[{},{}]", account.written, account.lost));
        let producers = format!("{{{}}}", producers.collect::<Vec<_>>().join(","));
        let mut tree = b"[".to_vec();
        for (n, root) in self.state.tree.roots().iter().enumerate() {
            tree.extend_from_slice(if n > 0 { b",\"" } else { b"\"" });
            write_hex(root, &mut tree);
            tree.push(b'"');
        }
        tree.push(b']');
        let pseudonyms = self.pseudonyms.map(PseudonymKey::id);
        self.note("segment", SEGMENT_CODE, |line| {
            line.text("log", log);
            line.number("segment", number);
            line.text("program", concat!("shardcast ", env!("CARGO_PKG_VERSION")));
            if let Some(key) = key {
                line.text("key", key);
            }
            if let Some(key) = pseudonyms {
                line.text("pseudonyms", &key);
            }
            if torn > 0 {
                line.number("torn_bytes", torn);
            }
            line.raw("tree", &tree);
            line.raw("producers", producers.as_bytes());
        });
    }

    fn ending(&mut self, number: u64) {
        self.note("segment_end", SEGMENT_END_CODE, |line| line.number("segment", number));
    }

    fn clock_step(&mut self, ms: i128) {
        self.note("clock_step", CLOCK_STEP_CODE, |line| line.raw("by_ms", ms.to_string().as_bytes()));
    }

    fn doubt(&mut self, segment: u64, first: u64, last: u64) {
        self.note("sync_failed", SYNC_FAILED_CODE, |line| {
            line.number("segment", segment);
            line.number("first_seq", first);
            line.number("last_seq", last);
        });
    }

    fn recovery(&mut self, lost: &Lost) {
        let start = self.out.len();
        let mut line = Line::begin(self.state.seq + 1, Some(self.boot), self.out);
        line.number("producer", lost.producer.into());
        line.number("pseq", lost.first);
        line.time("wall", self.now.wall);
        line.number("mono_ns", self.now.mono.0);
        line.text("event", "recovery");
        line.number("code", RECOVERY_CODE);
        line.number("of_boot", lost.boot);
        line.number("first", lost.first);
        line.number("count", lost.count);
        line.raw("exact", if lost.exact { b"true" } else { b"false" });
        self.seal(start);
    }

    fn note(&mut self, event: &str, code: u64, rest: impl FnOnce(&mut Line<'_>)) {
        let start = self.out.len();
        let mut line = Line::begin(self.state.seq + 1, Some(self.boot), self.out);
        line.time("wall", self.now.wall);
        line.number("mono_ns", self.now.mono.0);
        line.text("event", event);
        line.number("code", code);
        rest(&mut line);
        self.seal(start);
    }

    fn seal(&mut self, start: usize) {
        self.state.hash = line::seal(self.out, start, &self.state.hash);
        self.state.tree.push(&self.state.hash);
        self.state.seq += 1;
    }
}

/// The hash of the last whole checkpoint, and where it ends.
fn last_checkpoint(path: &Path) -> io::Result<(Hash, u64)> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((NOTHING, 0)),
        Err(error) => return Err(error),
    };
    // Its last lines are enough: one that a crash has torn, and the whole one before.
    let all = file.metadata()?.len();
    let from = all.saturating_sub(2 * AUDIT_LINE_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.by_ref().take(all - from).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole == 0 && from > 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not end with lines of checkpoints"));
    }
    if whole < bytes.len() {
        // The next begins on a line of its own.
        file.set_len(from + whole as u64)?;
    }
    let last = bytes[..whole].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    Ok((last.map_or(NOTHING, hash::Hasher::of), from + whole as u64))
}

/// A name for a trail that is like no other.
fn new_log() -> String {
    let mut id = [0; 16];
    // Without random numbers it has a name that others have too.
    let _ = aws_lc_rs::rand::fill(&mut id);
    hex(&id)
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::File { path, action, source }
}

/// The file of checkpoints in the folder of a trail.
pub const CHECKPOINTS: &str = "checkpoints.jsonl";

/// Codes of what the trail tells of itself: facts have numbers below.
const SEGMENT_CODE: u64 = 1001;
const SEGMENT_END_CODE: u64 = 1002;
const SYNC_FAILED_CODE: u64 = 1003;
const RECOVERY_CODE: u64 = 1004;
const CLOCK_STEP_CODE: u64 = 1005;
const DISK_FULL_CODE: u64 = 1006;
const FOLLOWER_REFUSE_CODE: u64 = 1007;
const FOLLOWER_FAIL_CODE: u64 = 1008;
const FOLLOWER_RETURN_CODE: u64 = 1009;
/// What is kept of the disk for when it is full: enough for hours of checkpoints.
const RESERVE_BYTES: usize = 1024 * 1024;
const RESERVE: &str = "reserve";
/// By so much the clock on the wall must have moved against the other between two looks, a tenth of a second apart.
const CLOCK_STEP: Duration = Duration::from_millis(500);

/// Of the buffer of a batch; a larger one goes back after its use.
const LINES_BYTES_KEPT: usize = 1024 * 1024;
