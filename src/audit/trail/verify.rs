//! Verifies a trail: one pass over its bytes, in constant memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Take};
use std::path::{Path, PathBuf};

use super::account::{Accounts, Entry, Gap, Missing, enter};
use super::checkpoint::Checkpoint;
use super::disk::segments;
use super::hash::Hasher;
use super::key::VerifyingKey;
use super::line::{Head, Next, Sealed, next_line};
use super::merkle::Frontier;
use super::{CHECKPOINTS, Hash, NOTHING};

/// Something that is wrong, with where: a file, and the offset of the first byte that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A line is not what its hash says, or no line of a trail at all.
    Broken {
        /// In which file.
        file: PathBuf,
        /// Offset of the line.
        offset: u64,
        /// The number of the record before.
        after: u64,
    },
    /// A line does not follow the one before: something was removed, added or moved here.
    Unchained {
        /// In which file.
        file: PathBuf,
        /// Offset of the line.
        offset: u64,
        /// The number that it has.
        found: u64,
        /// The number that should be there.
        expected: u64,
    },
    /// Facts are missing and no record says so.
    Gap(Gap),
    /// The last line is not whole.
    Torn {
        /// In which file.
        file: PathBuf,
        /// Where it begins.
        offset: u64,
        /// How much of it there is.
        bytes: u64,
    },
    /// A checkpoint is not to be believed.
    Checkpoint {
        /// In which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// A checkpoint that should be believed says something else than the trail.
    Contradiction {
        /// In which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What it speaks of: the number of a record.
        seq: u64,
        /// What differs.
        what: &'static str,
    },
    /// There are checkpoints of records that are not there: the end was cut off.
    Truncated {
        /// In which file.
        file: PathBuf,
        /// The record that the newest checkpoint knows.
        known: u64,
        /// The last one that is there.
        there: u64,
    },
    /// There is no checkpoint at all.
    NoCheckpoint,
}

impl Finding {
    /// The exit code of `shardcast audit verify` that it stands for.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Gap(_) => 4,
            Self::Broken { .. } | Self::Unchained { .. } | Self::Checkpoint { .. } | Self::Contradiction { .. } => 5,
            Self::Torn { .. } => 6,
            Self::Truncated { .. } | Self::NoCheckpoint => 7,
        }
    }
}

/// One boot's facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// By producer.
    pub producers: Accounts,
    /// Losses that records speak of, as they were told.
    pub losses: Vec<Marked>,
}

/// A loss that is marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Whose.
    pub producer: u16,
    /// The first number that is missing.
    pub first: u64,
    /// How many are.
    pub count: u64,
    /// `channel_full`, `sinks_refused`, or `killed`.
    pub cause: String,
    /// The record that says so.
    pub seq: u64,
}

/// What a trail is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which trail.
    pub log: Option<String>,
    /// Records that are whole and in their place.
    pub records: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Checkpoints that were checked, and how many of them were signed by the key that was given.
    pub checkpoints: (u64, u64),
    /// The facts of each boot.
    pub boots: BTreeMap<u64, Boot>,
    /// More losses were marked than are kept here.
    pub more_losses: u64,
    /// The hash of the last record, and the root over all.
    pub end: (Hash, Hash),
    /// What is wrong, [`FINDINGS_MAX`] at most; how many more there were.
    pub findings: Vec<Finding>,
    /// How many more.
    pub more_findings: u64,
}

impl Report {
    /// Facts that were told, written, and lost, over all boots.
    #[must_use]
    pub fn sums(&self) -> (u64, u64, u64) {
        let accounts = self.boots.values().flat_map(|boot| boot.producers.values());
        let (written, lost) =
            accounts.fold((0, 0), |(written, lost), account| (written + account.written, lost + account.lost));
        (written + lost, written, lost)
    }

    /// The exit code: 0 whole, 3 losses that are marked and nothing else, 4 gaps that are not, 5 a broken chain or
    /// signature, 6 a torn end, 7 a cut one or no checkpoints.
    #[must_use]
    pub fn code(&self) -> u8 {
        // The worst comes first.
        let found = |code| self.findings.iter().any(|finding| finding.code() == code);
        let worst = [5, 7, 4, 6].into_iter().find(|code| found(*code));
        worst.unwrap_or_else(|| if self.sums().2 > 0 { 3 } else { 0 })
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes that were read.
    pub done: u64,
    /// Of so many.
    pub all: u64,
}

/// Verifies trails.
#[derive(Debug, Default)]
pub struct Verifier<'a> {
    /// Signatures are checked with it; without one they are not.
    pub key: Option<&'a VerifyingKey>,
    /// Checkpoints that were kept elsewhere, instead of those beside the trail.
    pub against: Option<&'a Path>,
    /// The end may be written right now: a last line that is not whole is no finding.
    pub running: bool,
}

impl Verifier<'_> {
    /// Reads all of it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn verify(&self, dir: &Path, progress: &mut dyn FnMut(Progress)) -> io::Result<Report> {
        // First: what is written meanwhile is in the trail before a checkpoint speaks of it.
        let checkpoints = Checkpoints::open(self.against.map_or_else(|| dir.join(CHECKPOINTS), Path::to_path_buf))?;
        let found = segments(dir)?;
        let all = found.iter().map(|(_, path)| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
        let mut pass = Pass {
            report: Report::default(),
            boots: BTreeMap::new(),
            before: NOTHING,
            seq: 0,
            tree: Frontier::default(),
            checkpoints,
        };
        pass.checkpoints.advance(self, &mut pass.report)?;
        let mut done = 0;
        for (index, (_, segment)) in found.iter().enumerate() {
            let last = index + 1 == found.len();
            pass.segment(self, segment, last, &mut |bytes| progress(Progress { done: done + bytes, all }))?;
            done += fs::metadata(segment).map_or(0, |meta| meta.len());
            pass.report.segments += 1;
        }
        pass.end(self)
    }
}

/// The first line of a segment, as far as it is needed here.
#[derive(serde::Deserialize)]
struct Opening {
    log: String,
}

/// The state of one pass.
struct Pass {
    report: Report,
    boots: BTreeMap<u64, Accounts>,
    before: Hash,
    seq: u64,
    tree: Frontier,
    checkpoints: Checkpoints,
}

impl Pass {
    fn segment(
        &mut self,
        verifier: &Verifier<'_>,
        path: &Path,
        last: bool,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(READ_BYTES, File::open(path)?);
        let (mut line, mut offset) = (Vec::new(), 0_u64);
        loop {
            let (next, read) = next_line(&mut reader, &mut line)?;
            let start = offset;
            offset += read;
            if start / PROGRESS_BYTES != offset / PROGRESS_BYTES {
                progress(offset);
            }
            let file = || path.to_path_buf();
            match next {
                Next::End => return Ok(()),
                Next::Torn if last && verifier.running => return Ok(()),
                Next::Torn if last => {
                    self.report.find(Finding::Torn { file: file(), offset: start, bytes: read });
                    return Ok(());
                }
                // What was passed over is nothing that could be whole.
                Next::TooLong => line.clear(),
                Next::Line | Next::Torn => {}
            }
            let whole = Sealed::read(&line).filter(|sealed| next == Next::Line && sealed.is_whole());
            let Some((sealed, head)) = whole.zip(Head::read(&line)) else {
                self.report.find(Finding::Broken { file: file(), offset: start, after: self.seq });
                continue;
            };
            if sealed.before != self.before || head.seq != self.seq + 1 {
                let (found, expected) = (head.seq, self.seq + 1);
                self.report.find(Finding::Unchained { file: file(), offset: start, found, expected });
            }
            self.take(verifier, &line, &sealed, &head)?;
        }
    }

    fn take(&mut self, verifier: &Verifier<'_>, text: &[u8], sealed: &Sealed<'_>, head: &Head<'_>) -> io::Result<()> {
        self.before = sealed.hash;
        self.seq = head.seq;
        self.tree.push(&sealed.hash);
        self.report.records += 1;
        if self.report.log.is_none() && head.event == "segment" {
            self.report.log = serde_json::from_slice(text).ok().map(|Opening { log }| log);
        }
        // What this program does not know of a later schema is held by the chain, and is no fact that could be missing.
        if let Some(entry) = Entry::read(head, text) {
            self.enter(entry, text, head.seq);
        }
        while self.checkpoints.next.as_ref().is_some_and(|(checkpoint, _)| checkpoint.seq <= self.seq) {
            let Some((checkpoint, line)) = self.checkpoints.next.take() else { break };
            self.compare(&checkpoint, line);
            self.checkpoints.advance(verifier, &mut self.report)?;
        }
        Ok(())
    }

    fn enter(&mut self, entry: Entry, text: &[u8], seq: u64) {
        if let Some(gap) = enter(&mut self.boots, entry) {
            self.report.find(Finding::Gap(gap));
        }
        if let Entry::Loss { boot, producer, first, count } = entry {
            let cause = Missing::read(text).and_then(|missing| missing.reason).unwrap_or_else(|| "killed".into());
            let losses = &mut self.report.boots.entry(boot).or_default().losses;
            if losses.len() < LOSSES_MAX {
                losses.push(Marked { producer, first, count, cause, seq });
            } else {
                self.report.more_losses += 1;
            }
        }
    }

    fn compare(&mut self, checkpoint: &Checkpoint, line: u64) {
        let accounts = self.boots.get(&checkpoint.boot);
        let agrees = |(producer, [_, written, lost]): (&u16, &[u64; 3])| {
            let account = accounts.and_then(|accounts| accounts.get(producer)).copied().unwrap_or_default();
            (account.written, account.lost) == (*written, *lost)
        };
        let other_log = self.report.log.as_ref().is_some_and(|log| *log != checkpoint.log);
        let what = match () {
            () if other_log => "it is of another trail",
            () if checkpoint.seq < self.seq => "its record is not there",
            () if checkpoint.hash != self.before => "the hash of the record is another",
            () if checkpoint.root != self.tree.root() => "the root over all records before is another",
            () if !checkpoint.producers.iter().all(agrees) => "what was written and lost until then is not the same",
            () => return,
        };
        let (file, seq) = (self.checkpoints.path.clone(), checkpoint.seq);
        self.report.find(Finding::Contradiction { file, line, seq, what });
    }

    fn end(mut self, verifier: &Verifier<'_>) -> io::Result<Report> {
        let mut known = 0;
        while let Some((checkpoint, _)) = self.checkpoints.next.take() {
            known = known.max(checkpoint.seq);
            self.checkpoints.advance(verifier, &mut self.report)?;
        }
        if known > self.seq {
            let (file, there) = (self.checkpoints.path.clone(), self.seq);
            self.report.find(Finding::Truncated { file, known, there });
        }
        if self.report.checkpoints.0 == 0 && self.seq > 0 {
            self.report.find(Finding::NoCheckpoint);
        }
        self.report.end = (self.before, self.tree.root());
        for (boot, accounts) in self.boots {
            self.report.boots.entry(boot).or_default().producers = accounts;
        }
        Ok(self.report)
    }
}

/// The checkpoints, one after the other.
struct Checkpoints {
    path: PathBuf,
    /// As far as it was written when this was opened.
    reader: Option<Take<BufReader<File>>>,
    /// The next one, and its line.
    next: Option<(Checkpoint, u64)>,
    line: u64,
    /// Bytes of the lines before.
    offset: u64,
    before: Option<Hash>,
}

impl Checkpoints {
    fn open(path: PathBuf) -> io::Result<Self> {
        let reader = match File::open(&path) {
            Ok(file) => {
                let bytes = file.metadata()?.len();
                Some(BufReader::new(file).take(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, reader, next: None, line: 0, offset: 0, before: None })
    }

    /// Reads on to the next that is to be believed.
    fn advance(&mut self, of: &Verifier<'_>, report: &mut Report) -> io::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let mut text = Vec::new();
        loop {
            let (next, bytes) = next_line(reader, &mut text)?;
            match next {
                Next::End => return Ok(()),
                Next::Torn => {
                    // As with a record: a crash may have done that, and the next start cuts it off.
                    if !of.running {
                        report.find(Finding::Torn { file: self.path.clone(), offset: self.offset, bytes });
                    }
                    return Ok(());
                }
                Next::TooLong => text.clear(),
                Next::Line => {}
            }
            let line = &text[..];
            self.line += 1;
            self.offset += bytes;
            let read = Checkpoint::read(line, of.key);
            let why = match &read {
                Ok(one) if self.before.is_some_and(|before| before != one.before) => {
                    "it does not follow the one before: some were removed, added or moved".to_owned()
                }
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
            self.before = Some(Hasher::of(line));
            if !why.is_empty() {
                report.find(Finding::Checkpoint { file: self.path.clone(), line: self.line, why });
            }
            if let Ok(one) = read {
                report.checkpoints.0 += 1;
                report.checkpoints.1 += u64::from(of.key.is_some());
                self.next = Some((one, self.line));
                return Ok(());
            }
        }
    }
}

/// Findings that are kept: behind the first hundred nobody looks.
pub const FINDINGS_MAX: usize = 100;
/// Losses that are kept of one boot.
const LOSSES_MAX: usize = 1_000;
const READ_BYTES: usize = 1024 * 1024;
/// Between two tellings of how far it is.
const PROGRESS_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::audit::trail::{SigningKey, State};
    use crate::clock::Now;

    fn checkpoint(seq: u64, before: &Hash, key: &SigningKey) -> (Vec<u8>, Hash) {
        let mut out = Vec::new();
        let state = State { seq, ..State::default() };
        let hash = super::super::checkpoint::write(
            &mut out,
            "ab",
            (1, 1),
            Now::default(),
            &state,
            &BTreeMap::new(),
            (before, Some(key)),
        );
        (out, hash)
    }

    /// The trail is read to its end after that: a checkpoint of what came still later would show a cut end.
    #[test]
    fn checkpoints_that_are_written_during_a_verification_are_not_held_against_the_trail() {
        let dir = std::env::temp_dir().join(format!("shardcast-checkpoints-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(CHECKPOINTS);
        let key = SigningKey::generate().unwrap();
        let (first, hash) = checkpoint(7, &NOTHING, &key);
        fs::write(&path, first).unwrap();
        let mut checkpoints = Checkpoints::open(path.clone()).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(&checkpoint(9, &hash, &key).0).unwrap();

        let mut report = Report::default();
        let verifying = key.verifying();
        let verifier = Verifier { key: Some(&verifying), ..Verifier::default() };
        checkpoints.advance(&verifier, &mut report).unwrap();
        assert_eq!(checkpoints.next.take().map(|(one, line)| (one.seq, line)), Some((7, 1)));
        checkpoints.advance(&verifier, &mut report).unwrap();
        assert_eq!((checkpoints.next, report.findings), (None, Vec::new()));
        fs::remove_dir_all(dir).unwrap();
    }
}
