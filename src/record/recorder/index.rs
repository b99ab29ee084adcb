//! `index.jsonl`: what is recorded of a stream, a line for each thing that happened.
//!
//! ```text
//! {"event":"begun", …}      a segment is being written from now on: without one of the next two it was cut short
//! {"event":"segment", …}    it is complete: start, end, bytes, codecs, gaps
//! {"event":"deleted", …}    it is gone: too old, too much, or empty
//! {"event":"gaps", …}       what is missing behind the last segment
//! ```
//!
//! Lines are appended, so that a crash costs the one that was being written at most; when most of them are about what
//! is gone the file is written anew. Of the segments only the oldest are in memory, which are the next to be deleted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ContainerFormat, Gap, RecordSpec};
use crate::clock::Wall;
use crate::extension::{ObjectName, StorageBackend, StorageError};
use crate::limits::{OBJECT_COPY_BYTES_MAX, RECORD_LINE_BYTES_MAX};

/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;
/// Segments that are in memory.
const HELD_MAX: usize = 1024;
/// Fewer lines about what is gone are not worth a new file.
const DEAD_MIN: u64 = 256;

/// A segment that is complete, as the index has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentEntry {
    /// Where it is.
    #[serde(with = "object")]
    pub name: ObjectName,
    /// Counts the segments of the stream.
    pub number: u64,
    /// When its first frame was there.
    #[serde(with = "wall")]
    pub start: Wall,
    /// That and the duration.
    #[serde(with = "wall")]
    pub end: Wall,
    /// From its first frame to the end of its last one, in milliseconds of the stream's own time.
    pub duration_ms: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// Frames in it.
    pub frames: u64,
    /// The container.
    pub format: ContainerFormat,
    /// The `codecs` parameter of RFC 6381 of each track, as far as it is known.
    pub codecs: Vec<String>,
    /// A decoder can start at its first picture.
    pub keyframe: bool,
    /// Its time does not go on from the segment before.
    pub discontinuity: bool,
    /// It was cut short by the end of its process, and what was whole of it brought in later.
    pub recovered: bool,
    /// What is missing in it, or before it.
    pub gaps: Vec<Gap>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line {
    Begun(Begun),
    Segment(SegmentEntry),
    Deleted { number: u64, cause: DeleteCause },
    Gaps { gaps: Vec<Gap> },
}

/// A segment that is being written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begun {
    #[serde(with = "object")]
    pub(super) name: ObjectName,
    pub(super) number: u64,
    #[serde(with = "wall")]
    pub(super) start: Wall,
    pub(super) format: ContainerFormat,
    pub(super) discontinuity: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DeleteCause {
    Age,
    Size,
    Empty,
}

impl Line {
    fn to_bytes(&self) -> Vec<u8> {
        // There is nothing in a line that JSON has no form for.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Reads the index of a stream: its segments that are complete and not deleted, in order.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn read_index(storage: &dyn StorageBackend, index: &ObjectName) -> Result<Vec<SegmentEntry>, StorageError> {
    let mut segments = BTreeMap::new();
    each_line(storage, index, &mut |line, _| match line {
        Line::Segment(entry) => _ = segments.insert(entry.number, entry),
        Line::Deleted { number, .. } => _ = segments.remove(&number),
        Line::Begun(_) | Line::Gaps { .. } => {}
    })?;
    Ok(segments.into_values().collect())
}

/// Shows every line that can be read, and its text. Gives the bytes of all whole lines, and those of all.
fn each_line(
    storage: &dyn StorageBackend,
    index: &ObjectName,
    each: &mut dyn FnMut(Line, &[u8]),
) -> Result<(u64, u64), StorageError> {
    let (mut at, mut whole) = (0_u64, 0_u64);
    let mut partial: Vec<u8> = Vec::new();
    loop {
        let read = storage.get(index, at..at.saturating_add(READ_BYTES))?;
        if read.is_empty() {
            return Ok((whole, at));
        }
        for piece in read.split_inclusive(|byte| *byte == b'\n') {
            at = at.saturating_add(piece.len() as u64);
            // Of a line that is too long only that it is too long is kept.
            let room = (RECORD_LINE_BYTES_MAX + 1).saturating_sub(partial.len()).min(piece.len());
            partial.extend_from_slice(piece.get(..room).unwrap_or_default());
            if piece.ends_with(b"\n") {
                whole = at;
                if let Ok(line) = serde_json::from_slice(&partial) {
                    each(line, &partial);
                }
                partial.clear();
            }
        }
    }
}

/// What the storage thread knows of the index of a stream.
#[derive(Debug)]
pub(super) struct Index {
    name: ObjectName,
    /// The oldest segments, in order.
    held: VecDeque<Held>,
    /// Complete segments, those included that are not held, and their bytes.
    segments: u64,
    bytes: u64,
    next_number: u64,
    /// Lines that are not on storage yet.
    pending: Vec<u8>,
    /// Lines about what is there, and about what is gone.
    live: u64,
    dead: u64,
}

#[derive(Clone, Debug)]
struct Held {
    name: ObjectName,
    number: u64,
    end: Wall,
    bytes: u64,
}

impl Index {
    /// Reads it; a line that was cut short is cut off. What was begun and is neither complete nor deleted is given
    /// back, to be repaired.
    pub(super) fn load(storage: &dyn StorageBackend, name: ObjectName) -> Result<(Self, Vec<Begun>), StorageError> {
        let mut index = Self {
            name,
            held: VecDeque::new(),
            segments: 0,
            bytes: 0,
            next_number: 1,
            pending: Vec::new(),
            live: 0,
            dead: 0,
        };
        let begun = index.read(storage)?;
        Ok((index, begun))
    }

    fn read(&mut self, storage: &dyn StorageBackend) -> Result<Vec<Begun>, StorageError> {
        let mut begun = BTreeMap::new();
        let mut segments: BTreeMap<u64, Held> = BTreeMap::new();
        let mut last = 0;
        let mut lines = 0_u64;
        let name = self.name.clone();
        let read = each_line(storage, &name, &mut |line, _| {
            lines += 1;
            match line {
                Line::Begun(segment) => {
                    last = last.max(segment.number);
                    begun.insert(segment.number, segment);
                }
                Line::Segment(SegmentEntry { name, number, end, bytes, .. }) => {
                    last = last.max(number);
                    begun.remove(&number);
                    segments.insert(number, Held { name, number, end, bytes });
                }
                Line::Deleted { number, .. } => {
                    last = last.max(number);
                    begun.remove(&number);
                    segments.remove(&number);
                }
                Line::Gaps { .. } => {}
            }
        });
        match read {
            Ok((whole, all)) if whole < all => storage.cut(&name, whole)?,
            Ok(_) | Err(StorageError::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.segments = segments.len() as u64;
        self.bytes = segments.values().fold(0, |sum, held| sum.saturating_add(held.bytes));
        self.live = self.segments;
        self.dead = lines.saturating_sub(self.live);
        self.held = segments.into_values().take(HELD_MAX).collect();
        self.next_number = self.next_number.max(last.saturating_add(1));
        Ok(begun.into_values().collect())
    }

    pub(super) const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Notes that a segment is being written; it is not to be written before this succeeds.
    pub(super) fn begin(&mut self, storage: &dyn StorageBackend, begun: Begun) -> Result<(), StorageError> {
        self.flush(storage)?;
        self.next_number = self.next_number.max(begun.number.saturating_add(1));
        let line = Bytes::from(Line::Begun(begun).to_bytes());
        storage.append(&self.name, &line)?;
        self.dead += 1;
        Ok(())
    }

    /// Notes that one is complete. What fails here is tried again by the next call: it is not forgotten.
    pub(super) fn complete(&mut self, storage: &dyn StorageBackend, entry: SegmentEntry) -> Result<(), StorageError> {
        let held = Held { name: entry.name.clone(), number: entry.number, end: entry.end, bytes: entry.bytes };
        // All that are not held are newer than those that are.
        if self.segments == self.held.len() as u64 && self.held.len() < HELD_MAX {
            self.held.push_back(held);
        }
        self.segments += 1;
        self.live += 1;
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.pending.extend(Line::Segment(entry).to_bytes());
        self.flush(storage)
    }

    pub(super) fn empty(&mut self, storage: &dyn StorageBackend, number: u64) -> Result<(), StorageError> {
        self.pending.extend(Line::Deleted { number, cause: DeleteCause::Empty }.to_bytes());
        self.dead += 1;
        self.flush(storage)
    }

    pub(super) fn missing(&mut self, storage: &dyn StorageBackend, gaps: Vec<Gap>) -> Result<(), StorageError> {
        self.pending.extend(Line::Gaps { gaps }.to_bytes());
        self.live += 1;
        self.flush(storage)
    }

    fn flush(&mut self, storage: &dyn StorageBackend) -> Result<(), StorageError> {
        if !self.pending.is_empty() {
            storage.append(&self.name, &Bytes::copy_from_slice(&self.pending))?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Deletes what is too old or too much, oldest first; the newest stays. Gives how many.
    pub(super) fn expire(
        &mut self,
        storage: &dyn StorageBackend,
        spec: &RecordSpec,
        now: Wall,
    ) -> Result<u64, StorageError> {
        let mut deleted = 0;
        while self.segments > 1 {
            let Some(oldest) = self.held.front().cloned() else {
                // Those that were held are all gone.
                self.flush(storage)?;
                self.read(storage)?;
                if self.held.is_empty() {
                    break;
                }
                continue;
            };
            let age = Duration::from_nanos(now.0.saturating_sub(oldest.end.0));
            let cause = if spec.retain_for.is_some_and(|most| age > most) {
                DeleteCause::Age
            } else if spec.retain_bytes.is_some_and(|most| self.bytes > most) {
                DeleteCause::Size
            } else {
                break;
            };
            match storage.delete(&oldest.name) {
                // A process that ended before it could note it has deleted it.
                Ok(()) | Err(StorageError::NotFound) => {}
                Err(error) => return Err(error),
            }
            self.held.pop_front();
            self.segments -= 1;
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.live = self.live.saturating_sub(1);
            self.dead += 2;
            deleted += 1;
            self.pending.extend(Line::Deleted { number: oldest.number, cause }.to_bytes());
            self.flush(storage)?;
        }
        if self.dead > DEAD_MIN && self.dead > self.live.saturating_mul(2) {
            self.rewrite(storage)?;
        }
        Ok(deleted)
    }

    /// Writes the file anew, without lines about what is gone. What is being written keeps its own.
    fn rewrite(&mut self, storage: &dyn StorageBackend) -> Result<(), StorageError> {
        if storage.size(&self.name)? > OBJECT_COPY_BYTES_MAX {
            return Ok(());
        }
        let (mut complete, mut deleted) = (BTreeSet::new(), BTreeSet::new());
        each_line(storage, &self.name, &mut |line, _| match line {
            Line::Segment(entry) => _ = complete.insert(entry.number),
            Line::Deleted { number, .. } => _ = deleted.insert(number),
            Line::Begun(_) | Line::Gaps { .. } => {}
        })?;
        let (mut kept, mut lines) = (Vec::new(), 0);
        let mut last: Option<(u64, Vec<u8>)> = None;
        each_line(storage, &self.name, &mut |line, text| {
            let keep = match &line {
                Line::Begun(begun) => !complete.contains(&begun.number) && !deleted.contains(&begun.number),
                Line::Segment(entry) => !deleted.contains(&entry.number),
                Line::Deleted { .. } => false,
                // What was missing before all that is there is of no use any more.
                Line::Gaps { .. } => !kept.is_empty(),
            };
            // Numbers are never used twice: the last one is remembered, whatever became of it.
            if let Line::Deleted { number, .. } = line
                && last.as_ref().is_none_or(|(last, _)| *last < number)
            {
                last = Some((number, text.to_vec()));
            }
            if keep {
                kept.extend_from_slice(text);
                lines += 1;
            }
        })?;
        let mut pieces = vec![Bytes::from(kept)];
        pieces.extend(last.map(|(_, text)| Bytes::from(text)));
        storage.put(&self.name, &pieces)?;
        (self.live, self.dead) = (lines, 1);
        Ok(())
    }
}

/// Times as text of RFC 3339.
pub(super) mod wall {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::super::utc::{parse, rfc3339};
    use crate::clock::Wall;

    pub(in super::super) fn serialize<S: Serializer>(wall: &Wall, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rfc3339(*wall))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Wall, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        parse(&text).ok_or_else(|| Error::custom("no time of RFC 3339 in UTC"))
    }
}

/// Names that are checked when they are read.
mod object {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::extension::ObjectName;

    pub(super) fn serialize<S: Serializer>(name: &ObjectName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectName, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        ObjectName::new(&text).map_err(Error::custom)
    }
}
