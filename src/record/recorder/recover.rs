//! After the end of a process: what it was writing is cut to what is whole, and brought into the index.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::container::Tracks;
use super::index::{Begun, Index, SegmentEntry};
use super::template::stream_of_index;
use super::{ContainerFormat, RecordSpec, index_name};
use crate::clock::{Instant, Wall};
use crate::container::flv::{Event as FlvEvent, Reader, TagReader};
use crate::container::fmp4::{Demuxer as Fmp4Demuxer, Event as Fmp4Event};
use crate::container::mpegts::{DemuxLimits, Demuxer as TsDemuxer, Event as TsEvent, PACKET_BYTES};
use crate::extension::{ObjectInfo, ObjectName, StorageBackend, StorageError};
use crate::id::StreamKey;
use crate::limits::{Limits, TRACKS_MAX};
use crate::media::{Frame, FrameKind, Timestamp, Track, TrackId};

/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;

/// Brings every segment of this storage that was cut short into the index of its stream. To be called before the
/// storage is recorded to: what is being written would be taken for a leftover. Gives how many there were.
///
/// # Errors
/// The storage failed; what was done until then is done.
pub fn repair(storage: &dyn StorageBackend) -> Result<u64, StorageError> {
    let mut indexes = Vec::new();
    storage.list(None, &mut |ObjectInfo { name, .. }| {
        if stream_of_index(&name).is_some() {
            indexes.push(name);
        }
        ControlFlow::Continue(())
    })?;
    let mut repaired = 0;
    for name in indexes {
        let (mut index, begun) = Index::load(storage, name)?;
        repaired += bring_in(storage, &mut index, begun)?;
    }
    Ok(repaired)
}

/// Deletes segments of a stream that is not being recorded, as its recorder would: too old, or too much. Gives how
/// many.
///
/// # Errors
/// The storage failed; what was done until then is done.
pub fn sweep(
    storage: &dyn StorageBackend,
    key: &StreamKey,
    spec: &RecordSpec,
    now: Wall,
) -> Result<u64, StorageError> {
    // A name that is too long for an index has none.
    let name = index_name(key).map_err(|_| StorageError::NotFound)?;
    storage.size(&name)?;
    Index::load(storage, name)?.0.expire(storage, spec, now)
}

/// The same for the segments that an index has begun. Gives how many hold something.
pub(super) fn bring_in(
    storage: &dyn StorageBackend,
    index: &mut Index,
    begun: Vec<Begun>,
) -> Result<u64, StorageError> {
    let mut repaired = 0;
    for segment in begun {
        let Begun { name, number, start, format, discontinuity } = segment;
        let found = match storage.size(&name) {
            Ok(size) => whole(storage, &name, format, size)?,
            Err(StorageError::NotFound) => {
                index.empty(storage, number)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        storage.cut(&name, found)?;
        let seen = read(storage, &name, format)?;
        if seen.frames == 0 {
            storage.delete(&name)?;
            index.empty(storage, number)?;
            continue;
        }
        let duration = seen.duration();
        let entry = SegmentEntry {
            name,
            number,
            start,
            end: Wall(start.0.saturating_add(duration)),
            duration_ms: duration / 1_000_000,
            bytes: found,
            frames: seen.frames,
            format,
            codecs: seen.tracks.codec_strings(),
            keyframe: seen.keyframe,
            discontinuity,
            recovered: true,
            gaps: Vec::new(),
        };
        index.complete(storage, entry)?;
        repaired += 1;
    }
    Ok(repaired)
}

/// Bytes up to the end of the last whole fragment, packet or tag.
fn whole(
    storage: &dyn StorageBackend,
    name: &ObjectName,
    format: ContainerFormat,
    size: u64,
) -> Result<u64, StorageError> {
    match format {
        ContainerFormat::Fmp4 => whole_boxes(storage, name, size),
        ContainerFormat::MpegTs => Ok(size - size % PACKET_BYTES as u64),
        ContainerFormat::Flv => {
            let mut reader = TagReader::default();
            let mut whole = 0;
            each_piece(storage, name, &mut |piece| {
                reader.push(piece);
                while let Ok(Some(tag)) = reader.next_tag() {
                    // The length of a tag stands behind it.
                    let end = tag.at.saturating_add(tag.body.len() as u64 + 4);
                    whole = if end <= size { end } else { whole };
                }
            })?;
            Ok(whole)
        }
    }
}

/// The end of the last `mdat` that is whole: the init segment alone is nothing.
fn whole_boxes(storage: &dyn StorageBackend, name: &ObjectName, size: u64) -> Result<u64, StorageError> {
    let (mut at, mut whole) = (0_u64, 0);
    loop {
        let header = storage.get(name, at..at.saturating_add(16))?;
        let Some((&[l3, l2, l1, l0, kind @ ..], rest)) = header.split_first_chunk::<8>() else { return Ok(whole) };
        let length = match (u32::from_be_bytes([l3, l2, l1, l0]), rest.first_chunk::<8>()) {
            (1, Some(long)) => u64::from_be_bytes(*long),
            (short, _) => short.into(),
        };
        let Some(end) = at.checked_add(length).filter(|end| length >= 8 && *end <= size) else { return Ok(whole) };
        if kind == *b"mdat" {
            whole = end;
        }
        at = end;
    }
}

fn each_piece(
    storage: &dyn StorageBackend,
    name: &ObjectName,
    each: &mut dyn FnMut(Bytes),
) -> Result<(), StorageError> {
    let mut at = 0_u64;
    loop {
        let piece = storage.get(name, at..at.saturating_add(READ_BYTES))?;
        if piece.is_empty() {
            return Ok(());
        }
        at = at.saturating_add(piece.len() as u64);
        each(piece);
    }
}

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) tracks: Tracks,
    pub(super) frames: u64,
    pub(super) keyframe: bool,
    pictures: bool,
    times: Vec<Times>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    track: TrackId,
    first: Timestamp,
    last: Timestamp,
    /// Between the last two.
    step: Timestamp,
}

impl Seen {
    fn track(&mut self, track: &Track) {
        if !track.config.is_empty() {
            let config = Frame::config(track.codec, Timestamp::ZERO, track.config.clone());
            self.tracks.configure(&config.on_track(track.id));
        }
    }

    fn frame(&mut self, frame: &Frame) {
        if frame.kind == FrameKind::Config {
            self.tracks.configure(frame);
            return;
        }
        self.tracks.see(frame);
        self.frames += 1;
        if frame.is_video() && !self.pictures {
            (self.pictures, self.keyframe) = (true, frame.is_key());
        }
        let room = self.times.len() < TRACKS_MAX;
        match self.times.iter_mut().find(|times| times.track == frame.track) {
            Some(times) => (times.step, times.last) = (frame.dts - times.last, frame.dts),
            None if room => {
                let (track, first) = (frame.track, frame.dts);
                self.times.push(Times { track, first, last: first, step: Timestamp::ZERO });
            }
            None => {}
        }
    }

    fn drain(&mut self, demuxer: &mut TsDemuxer) {
        while let Some(event) = demuxer.poll() {
            if let TsEvent::Frame(frame) = event {
                self.frame(&frame);
            }
        }
    }

    /// From the first frame to the end of the last, in nanoseconds.
    pub(super) fn duration(&self) -> u64 {
        let first = self.times.iter().map(|times| times.first).min().unwrap_or_default();
        let end = self.times.iter().map(|times| times.last + times.step).max().unwrap_or_default();
        u64::try_from((end - first).0).unwrap_or(0)
    }
}

/// Reads a file of ours from its begin to where it can be read no further.
pub(super) fn read(
    storage: &dyn StorageBackend,
    name: &ObjectName,
    format: ContainerFormat,
) -> Result<Seen, StorageError> {
    let mut seen = Seen::default();
    match format {
        ContainerFormat::Fmp4 => {
            let mut demuxer = Fmp4Demuxer::new();
            each_piece(storage, name, &mut |mut piece| {
                while let Ok(Some(event)) = demuxer.push(&mut piece) {
                    match event {
                        Fmp4Event::Track(track) => seen.track(&track),
                        Fmp4Event::Frame(frame) => seen.frame(&frame),
                    }
                }
            })?;
        }
        ContainerFormat::MpegTs => {
            let mut demuxer = TsDemuxer::new(DemuxLimits::from(&Limits::default()));
            each_piece(storage, name, &mut |piece| {
                let _ = demuxer.push(Instant::ZERO, &piece);
                seen.drain(&mut demuxer);
            })?;
            let _ = demuxer.finish(Instant::ZERO);
            seen.drain(&mut demuxer);
        }
        ContainerFormat::Flv => {
            let mut reader = Reader::default();
            each_piece(storage, name, &mut |piece| {
                reader.push(piece);
                while let Ok(Some(event)) = reader.poll(Instant::ZERO) {
                    if let FlvEvent::Frame(frame) = event {
                        seen.frame(&frame);
                    }
                }
            })?;
        }
    }
    Ok(seen)
}
