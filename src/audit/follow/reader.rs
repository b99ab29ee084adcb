//! Reads a trail while it is written, and checks its chain on the way.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::trail::{Hash, Head, NOTHING, Next, Sealed, next_line, segments};
use super::destination::TrailRecord;

/// Why a trail cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file cannot be read: it may be later.
    #[error("the audit trail {path}: cannot read it: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Records are gone that were not delivered yet.
    #[error("the audit trail in {dir} begins with record {first}, and record {wanted} was not delivered yet")]
    Missing {
        /// Which trail.
        dir: PathBuf,
        /// The first record that is there.
        first: u64,
        /// The one that comes next.
        wanted: u64,
    },
    /// A record is not what its hash says, or does not follow the one before.
    #[error(
        "record {seq} in {path} is broken or does not follow the one before: `shardcast audit verify` tells more"
    )]
    Broken {
        /// In which segment.
        path: PathBuf,
        /// Its number, as it should be.
        seq: u64,
    },
    /// What was delivered is something else than what is there.
    #[error("record {seq} is not the one that was delivered: the audit trail in {dir} was replaced or changed")]
    Replaced {
        /// Which trail.
        dir: PathBuf,
        /// Which record.
        seq: u64,
    },
}

/// Reads record after record.
#[derive(Debug)]
pub(super) struct Reader {
    dir: PathBuf,
    current: Option<Segment>,
    /// The record that was read last.
    seq: u64,
    hash: Hash,
    line: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    reader: BufReader<File>,
}

impl Reader {
    /// Goes to behind record `after`, which has this hash, if that is known.
    pub(super) fn open(dir: &Path, after: u64, hash: Option<Hash>) -> Result<Self, ReadError> {
        let mut reader = Self { dir: dir.into(), current: None, seq: 0, hash: NOTHING, line: Vec::new() };
        let found = segments(dir).map_err(failed(dir))?;
        // The last segment that begins with it or before.
        let mut from = None;
        for (number, path) in found.iter().rev() {
            let Some((first, before)) = reader.first_of(path)? else { continue };
            from = Some((*number, first, before));
            if first <= after + 1 {
                break;
            }
        }
        let Some((number, first, before)) = from else { return Ok(reader) };
        if first > after + 1 {
            return Err(ReadError::Missing { dir: dir.into(), first, wanted: after + 1 });
        }
        reader.current = reader.segment(number.saturating_sub(1))?;
        (reader.seq, reader.hash) = (first - 1, before);
        while reader.seq < after {
            if reader.next()?.is_none() {
                return Err(ReadError::Replaced { dir: dir.into(), seq: after });
            }
        }
        if hash.is_some_and(|hash| hash != reader.hash) {
            return Err(ReadError::Replaced { dir: dir.into(), seq: after });
        }
        Ok(reader)
    }

    /// The next record; `None` at the end of what is there. One that is durable is there as a whole.
    pub(super) fn next(&mut self) -> Result<Option<TrailRecord>, ReadError> {
        loop {
            if self.current.is_none() {
                self.current = self.segment(0)?;
            }
            let Some(segment) = &mut self.current else { return Ok(None) };
            let (number, path) = (segment.number, segment.path.clone());
            let next = next_line(&mut segment.reader, &mut self.line).map_err(failed(&path))?.0;
            if next == Next::End {
                match self.segment(number)? {
                    None => return Ok(None),
                    next => self.current = next,
                }
                continue;
            }
            let broken = || ReadError::Broken { path: path.clone(), seq: self.seq + 1 };
            let sealed = Some(&self.line[..]).filter(|_| next == Next::Line).and_then(Sealed::read);
            let Some(sealed) = sealed.filter(Sealed::is_whole) else { return Err(broken()) };
            let seq = Head::read(&self.line).map(|head| head.seq);
            if seq != Some(self.seq + 1) || sealed.before != self.hash || std::str::from_utf8(&self.line).is_err() {
                return Err(broken());
            }
            let (hash, before) = (sealed.hash, sealed.before);
            (self.seq, self.hash) = (self.seq + 1, hash);
            return Ok(Some(TrailRecord { seq: self.seq, hash, before, line: Bytes::copy_from_slice(&self.line) }));
        }
    }

    /// The record that was read last.
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    /// The segment after this one.
    fn segment(&self, after: u64) -> Result<Option<Segment>, ReadError> {
        let found = segments(&self.dir).map_err(failed(&self.dir))?;
        let Some((number, path)) = found.into_iter().find(|(number, _)| *number > after) else { return Ok(None) };
        let file = File::open(&path).map_err(failed(&path))?;
        Ok(Some(Segment { number, path, reader: BufReader::with_capacity(READ_BYTES, file) }))
    }

    /// The number of the first record of a segment, and the hash of the one before; `None` if it has none yet.
    fn first_of(&mut self, path: &Path) -> Result<Option<(u64, Hash)>, ReadError> {
        let file = File::open(path).map_err(failed(path))?;
        let mut reader = BufReader::new(file);
        let next = next_line(&mut reader, &mut self.line).map_err(failed(path))?.0;
        let first = Head::read(&self.line).zip(Sealed::read(&self.line)).filter(|_| next == Next::Line);
        Ok(first.map(|(head, sealed)| (head.seq, sealed.before)))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ReadError + use<> {
    let path = path.to_owned();
    move |source| ReadError::File { path, source }
}

const READ_BYTES: usize = 64 * 1024;
