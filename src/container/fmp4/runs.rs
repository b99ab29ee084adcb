//! A fragment's headers read: where its samples lie, and what they are (ISO/IEC 14496-12, 8.8.4 to 8.8.8, 8.8.12).
//!
//! A run is read sample by sample out of the bytes of its box: what a count claims costs nothing.

use bytes::{Buf, Bytes};

use super::Mp4Error;
use super::boxes::{Fields, FourCc, children, the_child};
use super::fragment::{DISPOSABLE, DISPOSABLE_MASK, NON_SYNC};
use super::movie::FileTrack;
use crate::clock::Instant;
use crate::limits::{MP4_RUNS_MAX, MP4_SAMPLE_BYTES_MAX, MP4_SAMPLES_MAX};
use crate::media::{Frame, FrameFlags, FrameKind, Media, Timestamp, Track};

/// A sample, before its bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) size: u32,
    pub(super) duration: u32,
    pub(super) flags: u32,
    pub(super) composition: i64,
}

/// Samples that lie one behind the other.
#[derive(Clone, Debug)]
pub(super) struct SampleRun {
    /// Index of the track.
    pub(super) track: usize,
    /// Where the next sample lies, in bytes of the stream.
    pub(super) at: u64,
    /// When it is decoded, in ticks.
    pub(super) decode: u64,
    /// Samples that are left.
    left: u32,
    first_flags: Option<u32>,
    duration: Option<u32>,
    size: Option<u32>,
    flags: Option<u32>,
    composed: bool,
    signed: bool,
    /// What is written of each sample.
    table: Bytes,
}

impl SampleRun {
    /// The next sample, without moving on.
    pub(super) fn peek(&self) -> Result<Option<Sample>, Mp4Error> {
        Ok(self.clone_cursor().next()?.map(|(sample, _)| sample))
    }

    /// The next sample with its time and place; moves on.
    pub(super) fn advance(&mut self) -> Result<Option<Sample>, Mp4Error> {
        let next = self.clone_cursor().next()?;
        let Some((sample, read)) = next else { return Ok(None) };
        self.table.advance(read.min(self.table.len()));
        self.left = self.left.saturating_sub(1);
        self.first_flags = None;
        self.at = self.at.checked_add(sample.size.into()).ok_or(Mp4Error::Place)?;
        self.decode = self.decode.checked_add(sample.duration.into()).ok_or(Mp4Error::Time)?;
        Ok(Some(sample))
    }

    fn clone_cursor(&self) -> Cursor<'_> {
        Cursor { run: self, left: self.left, first_flags: self.first_flags, table: &self.table }
    }

    /// Bytes and ticks of all samples that are left.
    fn sums(&self) -> Result<(u64, u64), Mp4Error> {
        let too_long = |size: u32| usize::try_from(size).map_or(true, |size| size > MP4_SAMPLE_BYTES_MAX);
        // Where nothing is written of each, nothing is read of each: a count alone must not cost anything.
        if let (Some(duration), Some(size), Some(_), false) = (self.duration, self.size, self.flags, self.composed) {
            let sum = |each: u32| u64::from(each).saturating_mul(self.left.into());
            return if too_long(size) { Err(Mp4Error::SampleTooLong) } else { Ok((sum(size), sum(duration))) };
        }
        let (mut bytes, mut ticks) = (0_u64, 0_u64);
        let mut cursor = self.clone_cursor();
        while let Some((sample, _)) = cursor.next()? {
            if too_long(sample.size) {
                return Err(Mp4Error::SampleTooLong);
            }
            bytes = bytes.saturating_add(sample.size.into());
            ticks = ticks.saturating_add(sample.duration.into());
        }
        Ok((bytes, ticks))
    }
}

/// Reads a run without taking it along.
struct Cursor<'a> {
    run: &'a SampleRun,
    left: u32,
    first_flags: Option<u32>,
    table: &'a [u8],
}

impl Cursor<'_> {
    /// The sample, and how many bytes of the table it took.
    fn next(&mut self) -> Result<Option<(Sample, usize)>, Mp4Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        let before = self.table.len();
        let mut fields = Fields::new(b"trun", self.table);
        let mut value = |default: Option<u32>| default.map_or_else(|| fields.u32(), Ok);
        let duration = value(self.run.duration)?;
        let size = value(self.run.size)?;
        // Flags that are written for each sample are passed over where the first has its own.
        let flags = value(self.run.flags)?;
        let flags = self.first_flags.take().unwrap_or(flags);
        let composition = match (self.run.composed, self.run.signed) {
            (false, _) => 0,
            (true, true) => fields.i32()?.into(),
            (true, false) => fields.u32()?.into(),
        };
        self.left = left;
        self.table = fields.rest();
        Ok(Some((Sample { size, duration, flags, composition }, before.saturating_sub(self.table.len()))))
    }
}

/// Reads the body of a `moof` that began at `start`: its runs, in the order in which their samples lie. Tracks get
/// the time at which they go on.
pub(super) fn read(moof: &Bytes, start: u64, tracks: &mut [FileTrack]) -> Result<Vec<SampleRun>, Mp4Error> {
    let mut runs: Vec<SampleRun> = Vec::new();
    let mut samples = 0_usize;
    // Where a fragment of a track begins that says nothing: the first at the moof, others behind the one before.
    let mut base = start;
    for found in children(moof) {
        let (kind, traf) = found?;
        if kind.0 != *b"traf" {
            continue;
        }
        let (_, given, mut fields) = Fields::full(b"tfhd", the_child(traf, b"tfhd")?)?;
        let number = fields.u32()?;
        let index = tracks.iter().position(|track| track.number == number);
        let defaults = index.and_then(|index| tracks.get(index)).map(|track| track.defaults).unwrap_or_default();
        if given & 0x01 != 0 {
            base = fields.u64()?;
        } else if given & 0x02_0000 != 0 {
            base = start;
        }
        if given & 0x02 != 0 {
            fields.u32()?; // sample_description_index
        }
        let mut value = |bit: u32, default: u32| if given & bit != 0 { fields.u32() } else { Ok(default) };
        let duration = value(0x08, defaults.duration)?;
        let size = value(0x10, defaults.size)?;
        let flags = value(0x20, defaults.flags)?;
        let mut decode = match super::boxes::child(traf, b"tfdt")? {
            Some(tfdt) => {
                let (version, _, mut fields) = Fields::full(b"tfdt", tfdt)?;
                fields.wide(version)?
            }
            None => index.and_then(|index| tracks.get(index)).map_or(0, |track| track.next_decode),
        };
        let mut at = base;
        for found in children(traf) {
            let (kind, trun) = found?;
            if kind.0 != *b"trun" {
                continue;
            }
            let (version, given, mut fields) = Fields::full(b"trun", trun)?;
            let left = fields.u32()?;
            samples = samples.saturating_add(usize::try_from(left).unwrap_or(usize::MAX));
            if samples > MP4_SAMPLES_MAX || runs.len() >= MP4_RUNS_MAX {
                return Err(Mp4Error::TooManySamples);
            }
            if given & 0x01 != 0 {
                at = base.checked_add_signed(fields.i32()?.into()).ok_or(Mp4Error::Place)?;
            }
            let first_flags = if given & 0x04 != 0 { Some(fields.u32()?) } else { None };
            let default = |bit: u32, value: u32| (given & bit == 0).then_some(value);
            let run = SampleRun {
                track: index.unwrap_or(usize::MAX),
                at,
                decode,
                left,
                first_flags,
                duration: default(0x100, duration),
                size: default(0x200, size),
                flags: default(0x400, flags),
                composed: given & 0x800 != 0,
                signed: version != 0,
                table: moof.slice_ref(fields.rest()),
            };
            let (bytes, ticks) = run.sums()?;
            at = at.checked_add(bytes).ok_or(Mp4Error::Place)?;
            decode = decode.checked_add(ticks).ok_or(Mp4Error::Time)?;
            let wanted = index.and_then(|index| tracks.get(index)).is_some_and(|track| track.known.is_some());
            // Samples without bytes only let time pass.
            if wanted && bytes > 0 {
                runs.push(run);
            }
        }
        base = at;
        if let Some(track) = index.and_then(|index| tracks.get_mut(index)) {
            track.next_decode = decode;
        }
    }
    runs.sort_by_key(|run| run.at);
    let mut end = 0;
    for run in &runs {
        if run.at < end {
            return Err(Mp4Error::Place);
        }
        end = run.at.saturating_add(run.sums()?.0);
    }
    Ok(runs)
}

/// The frame that a sample is, with its bytes.
pub(super) fn frame(
    track: &Track,
    shift: i64,
    decode: u64,
    sample: Sample,
    payload: Bytes,
) -> Result<Frame, Mp4Error> {
    let decode = i64::try_from(decode).ok().and_then(|decode| decode.checked_add(shift)).ok_or(Mp4Error::Time)?;
    let present = decode.checked_add(sample.composition).ok_or(Mp4Error::Time)?;
    let video = track.codec.media() == Media::Video;
    let kind = match (video, sample.flags & NON_SYNC == 0) {
        (true, true) => FrameKind::Key,
        (true, false) => FrameKind::Delta,
        _ => FrameKind::Audio,
    };
    let disposable = kind == FrameKind::Delta && sample.flags & DISPOSABLE_MASK == DISPOSABLE;
    Ok(Frame {
        payload,
        pts: Timestamp::from_ticks(present, track.timescale),
        dts: Timestamp::from_ticks(decode, track.timescale),
        origin: Instant::ZERO,
        track: track.id,
        kind,
        codec: track.codec,
        flags: if disposable { FrameFlags::DISPOSABLE } else { FrameFlags::default() },
    })
}

/// The box that this reads.
pub(super) const MOOF: FourCc = FourCc(*b"moof");
