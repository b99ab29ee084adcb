//! Fragments: `moof` and the header of `mdat` (ISO/IEC 14496-12, 8.8), in front of payloads that stay where they are.
//!
//! A time is turned into ticks as it is, and durations are the differences: what is rounded never adds up. Values
//! that all samples of a run share are written once.

use bytes::{BufMut, Bytes, BytesMut};

use super::MuxError;
use super::boxes::{HEADER_BYTES, patch, put_box, put_full_box};
use super::entry::Entry;
use super::init;
use crate::clock::Wall;
use crate::limits::{MP4_SAMPLES_MAX, TRACKS_MAX};
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Media, Timestamp, Track, TrackId};

/// `sample_flags` (8.8.3.1): what it depends on, whether others depend on it, whether a decoder can start there.
const INDEPENDENT: u32 = 2 << 24;
const DEPENDENT: u32 = 1 << 24;
pub(super) const DISPOSABLE: u32 = 2 << 22;
pub(super) const DISPOSABLE_MASK: u32 = 3 << 22;
pub(super) const NON_SYNC: u32 = 1 << 16;
/// Fields of `tfhd`.
const DEFAULT_DURATION: u32 = 0x08;
const DEFAULT_FLAGS: u32 = 0x20;
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
/// Fields of `trun`.
const DATA_OFFSET: u32 = 0x001;
const FIRST_FLAGS: u32 = 0x004;
const DURATION: u32 = 0x100;
const SIZE: u32 = 0x200;
const FLAGS: u32 = 0x400;
const COMPOSITION: u32 = 0x800;
/// A producer's time that stands for when the media were captured (8.16.5): arbitrary, but the same for all.
const CAPTURED: u32 = 24;
/// From 1900, where NTP counts from, to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// The frames of one track in a fragment.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The track that they are of, as it is in the initialization segment: what stands in the frames is not looked
    /// at.
    pub track: TrackId,
    /// In order of decoding; configurations and data among them are left out.
    pub frames: &'a [Frame],
    /// When the frame behind them is due to be decoded, if that is known: how long the last one lasts. Otherwise it
    /// lasts as long as the one before.
    pub end: Option<Timestamp>,
}

/// What may stand before a fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `styp`: a segment begins here.
    pub segment: bool,
    /// `prft`: when the first frame of the first run was captured.
    pub captured: Option<Wall>,
}

/// A fragment: headers of its own, payloads of the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// All up to the first payload: `styp`, `prft`, `moof` and the header of `mdat`.
    pub header: Bytes,
    /// The payloads, in the order in which they follow.
    pub payloads: Vec<Bytes>,
    /// Bytes before `moof`.
    pub moof_at: usize,
    /// The number in `mfhd`: the first fragment has 1.
    pub sequence: u32,
    /// Where each run starts, in their order.
    pub starts: Vec<RunStart>,
}

/// Where a run starts, and how long it is, in ticks of its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunStart {
    /// The track.
    pub track: TrackId,
    /// Its number in the file.
    pub number: u32,
    /// Ticks per second.
    pub timescale: u32,
    /// Decode time of the first frame.
    pub decode: u64,
    /// Least presentation time of all.
    pub present: u64,
    /// Until the end of the last.
    pub duration: u64,
    /// A decoder can start at the first frame.
    pub key: bool,
}

impl Fragment {
    /// Everything, piece by piece: for one gathering write.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.header).chain(&self.payloads)
    }

    /// Bytes of everything.
    #[must_use]
    pub fn length(&self) -> usize {
        self.slices().fold(0, |sum, slice| sum.saturating_add(slice.len()))
    }

    /// Whether a player can start here: every track's first frame is one at which a decoder can.
    #[must_use]
    pub fn is_independent(&self) -> bool {
        self.starts.iter().all(|start| start.key)
    }
}

/// Writes the fragments of some tracks.
#[derive(Clone, Debug)]
pub struct Muxer {
    tracks: Vec<MuxTrack>,
    init: Bytes,
    origin: Timestamp,
    sequence: u32,
}

#[derive(Clone, Debug)]
struct MuxTrack {
    id: TrackId,
    video: bool,
    timescale: u32,
    /// Of the last frame.
    duration: u32,
}

impl Muxer {
    /// For these tracks, in this order. The configuration record of each must be there (for codecs without one,
    /// [`record_of_frame`](crate::codec::record_of_frame) makes one); the timescale is 90,000 for video, the sample
    /// rate for audio, which MP3 takes from [`Track::timescale`].
    ///
    /// # Errors
    /// A track that MP4 has no sample entry for, or of which too little is known.
    pub fn new(tracks: &[Track]) -> Result<Self, MuxError> {
        let twice =
            |at: usize| tracks.iter().skip(at.saturating_add(1)).any(|track| Some(track.id) == id_of(tracks, at));
        if tracks.is_empty() || tracks.len() > TRACKS_MAX || (0..tracks.len()).any(twice) {
            return Err(MuxError::Tracks);
        }
        let entries: Vec<(Track, Entry)> =
            tracks.iter().map(|track| Ok((track.clone(), Entry::of(track)?))).collect::<Result<_, MuxError>>()?;
        let init = init::segment(&entries, |track| number_of(track.id));
        let known = |(track, entry): &(Track, Entry)| MuxTrack {
            id: track.id,
            video: track.codec.media() == Media::Video,
            timescale: entry.timescale,
            duration: entry.duration,
        };
        let tracks = entries.iter().map(known).collect();
        Ok(Self { tracks, init, origin: Timestamp::ZERO, sequence: 0 })
    }

    /// The same with a time that is 0 in the file: nothing may be decoded before it.
    #[must_use]
    pub const fn starting_at(mut self, origin: Timestamp) -> Self {
        self.origin = origin;
        self
    }

    /// The initialization segment, which stands before all fragments.
    #[must_use]
    pub fn init(&self) -> Bytes {
        self.init.clone()
    }

    /// Ticks per second of a track.
    #[must_use]
    pub fn timescale(&self, track: TrackId) -> Option<u32> {
        self.tracks.iter().find(|known| known.id == track).map(|known| known.timescale)
    }

    /// Writes one fragment of one or several tracks, and counts it.
    ///
    /// # Errors
    /// There are no samples in it, a track is not known, or a time or a length has no place in it: it is not counted.
    pub fn fragment(&mut self, runs: &[Run<'_>], head: Head) -> Result<Fragment, MuxError> {
        let mut written = Vec::with_capacity(runs.len().min(TRACKS_MAX));
        let mut payloads = Vec::new();
        let mut bytes = 0_u64;
        for run in runs {
            let at = self.tracks.iter().position(|track| track.id == run.track);
            let track = at.and_then(|at| self.tracks.get(at).map(|track| (at, track)));
            let (at, track) = track.ok_or(MuxError::UnknownTrack(run.track))?;
            let samples = Samples::of(track, self.origin, run)?;
            if samples.list.is_empty() {
                continue;
            }
            payloads.extend(run.frames.iter().filter(|frame| is_sample(frame)).map(payload_of));
            let begin = bytes;
            bytes = samples.list.iter().fold(bytes, |sum, sample| sum.saturating_add(sample.size.into()));
            written.push((at, samples, begin));
        }
        if written.is_empty() {
            return Err(MuxError::Empty);
        }
        if payloads.len() > MP4_SAMPLES_MAX {
            return Err(MuxError::TooLong);
        }
        let sequence = self.sequence.wrapping_add(1);
        let (header, moof_at) = self.header(&written, head, sequence, bytes)?;
        self.sequence = sequence;
        let mut starts = Vec::with_capacity(written.len());
        for (at, samples, _) in written {
            if let Some(track) = self.tracks.get_mut(at) {
                track.duration = samples.list.last().map_or(track.duration, |last| last.duration);
                starts.push(samples.start(track));
            }
        }
        Ok(Fragment { header, payloads, moof_at, sequence, starts })
    }

    fn header(
        &self,
        runs: &[(usize, Samples, u64)],
        head: Head,
        sequence: u32,
        bytes: u64,
    ) -> Result<(Bytes, usize), MuxError> {
        let mut out = BytesMut::new();
        if head.segment {
            put_box(&mut out, b"styp", |out| out.put_slice(b"msdh\0\0\0\0msdhmsixcmfs"));
        }
        if let (Some(wall), Some((at, first, _))) = (head.captured, runs.first()) {
            let number = self.tracks.get(*at).map_or(0, |track| number_of(track.id));
            put_full_box(&mut out, b"prft", 1, CAPTURED, |out| {
                out.put_u32(number);
                out.put_u64(ntp(wall));
                out.put_u64(first.decode);
            });
        }
        let moof_at = out.len();
        let mut offsets = Vec::with_capacity(runs.len());
        put_box(&mut out, b"moof", |out| {
            put_full_box(out, b"mfhd", 0, 0, |out| out.put_u32(sequence));
            for (at, samples, begin) in runs {
                let number = self.tracks.get(*at).map_or(0, |track| number_of(track.id));
                put_box(out, b"traf", |out| offsets.push((samples.put(out, number), *begin)));
            }
        });
        // Where a run's first payload lies, counted from the moof, is known only now.
        let before = out.len().saturating_sub(moof_at).saturating_add(HEADER_BYTES) as u64;
        let length = bytes.saturating_add(HEADER_BYTES as u64);
        for (place, begin) in offsets {
            let offset = i32::try_from(before.saturating_add(begin)).map_err(|_| MuxError::TooLong)?;
            patch(&mut out, place, offset.cast_unsigned());
        }
        out.put_u32(u32::try_from(length).map_err(|_| MuxError::TooLong)?);
        out.put_slice(b"mdat");
        Ok((out.freeze(), moof_at))
    }
}

fn id_of(tracks: &[Track], at: usize) -> Option<TrackId> {
    tracks.get(at).map(|track| track.id)
}

/// Tracks of a file are counted from 1.
fn number_of(track: TrackId) -> u32 {
    u32::from(track.0).saturating_add(1)
}

fn is_sample(frame: &Frame) -> bool {
    !matches!(frame.kind, FrameKind::Config | FrameKind::Data)
}

/// What of a frame is in the file: of AV1 all but a temporal delimiter (AV1 Codec ISO Media File Format Binding,
/// 2.4).
fn payload_of(frame: &Frame) -> Bytes {
    const TEMPORAL_DELIMITER: &[u8] = &[2 << 3 | 2, 0];
    let begins = frame.codec == Codec::Av1 && frame.payload.starts_with(TEMPORAL_DELIMITER);
    frame.payload.slice(if begins { TEMPORAL_DELIMITER.len() } else { 0 }..)
}

/// Seconds and their fraction since 1900.
fn ntp(wall: Wall) -> u64 {
    const NANOS: u64 = 1_000_000_000;
    let seconds = (wall.0 / NANOS).saturating_add(NTP_TO_UNIX_SECONDS);
    let fraction = ((wall.0 % NANOS) << 32) / NANOS;
    seconds << 32 | fraction
}

/// What `trun` says of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    duration: u32,
    size: u32,
    flags: u32,
    composition: i32,
}

/// A run in ticks.
#[derive(Debug)]
struct Samples {
    decode: u64,
    list: Vec<Sample>,
}

impl Samples {
    fn of(track: &MuxTrack, origin: Timestamp, run: &Run<'_>) -> Result<Self, MuxError> {
        let ticks = |time: Timestamp| Timestamp(time.0.saturating_sub(origin.0)).as_ticks(track.timescale);
        let wrong = || MuxError::Time(track.id);
        let frames = || run.frames.iter().filter(|frame| is_sample(frame));
        let mut list: Vec<Sample> = Vec::with_capacity(run.frames.len());
        let (mut first, mut last) = (None, 0_i64);
        for frame in frames() {
            let decode = ticks(frame.dts);
            first.get_or_insert(decode);
            if let Some(before) = list.last_mut() {
                let duration =
                    decode.checked_sub(last).filter(|step| *step >= 0).ok_or(MuxError::TimeFalls(track.id))?;
                before.duration = u32::try_from(duration).map_err(|_| wrong())?;
            }
            last = decode;
            let composition = ticks(frame.pts).checked_sub(decode).and_then(|offset| i32::try_from(offset).ok());
            list.push(Sample {
                duration: track.duration,
                size: u32::try_from(payload_of(frame).len()).map_err(|_| MuxError::TooLong)?,
                flags: flags_of(frame, track.video),
                composition: composition.ok_or_else(wrong)?,
            });
        }
        let before = list.len().checked_sub(2).and_then(|at| list.get(at)).map(|sample| sample.duration);
        if let Some(sample) = list.last_mut() {
            sample.duration = match run.end {
                Some(end) => {
                    let left = ticks(end).checked_sub(last).filter(|left| *left >= 0);
                    u32::try_from(left.ok_or(MuxError::TimeFalls(track.id))?).map_err(|_| wrong())?
                }
                None => before.unwrap_or(track.duration),
            };
        }
        let decode = u64::try_from(first.unwrap_or(0)).map_err(|_| wrong())?;
        Ok(Self { decode, list })
    }

    fn start(&self, track: &MuxTrack) -> RunStart {
        let mut at = self.decode;
        let mut present = u64::MAX;
        for sample in &self.list {
            present = present.min(at.saturating_add_signed(sample.composition.into()));
            at = at.saturating_add(sample.duration.into());
        }
        RunStart {
            track: track.id,
            number: number_of(track.id),
            timescale: track.timescale,
            decode: self.decode,
            present,
            duration: at.saturating_sub(self.decode),
            key: self.list.first().is_some_and(|sample| sample.flags & NON_SYNC == 0),
        }
    }

    /// What is in `traf`; returns where the data offset is to be written.
    fn put(&self, out: &mut BytesMut, number: u32) -> usize {
        let all = |value: fn(&Sample) -> u32, list: &[Sample]| {
            let first = list.first().map(value)?;
            list.iter().all(|sample| value(sample) == first).then_some(first)
        };
        let duration = all(|sample| sample.duration, &self.list);
        // A key frame and what follows it, mostly.
        let rest = self.list.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&self.list);
        let flags = all(|sample| sample.flags, rest);
        let first_flags =
            self.list.first().map(|sample| sample.flags).filter(|first| flags.is_some_and(|rest| rest != *first));
        let composed = self.list.iter().any(|sample| sample.composition != 0);

        let mut fields = DEFAULT_BASE_IS_MOOF;
        fields |= if duration.is_some() { DEFAULT_DURATION } else { 0 };
        fields |= if flags.is_some() { DEFAULT_FLAGS } else { 0 };
        put_full_box(out, b"tfhd", 0, fields, |out| {
            out.put_u32(number);
            duration.into_iter().chain(flags).for_each(|value| out.put_u32(value));
        });
        put_full_box(out, b"tfdt", 1, 0, |out| out.put_u64(self.decode));

        let mut fields = DATA_OFFSET | SIZE;
        fields |= if first_flags.is_some() { FIRST_FLAGS } else { 0 };
        fields |= if duration.is_none() { DURATION } else { 0 };
        fields |= if flags.is_none() { FLAGS } else { 0 };
        fields |= if composed { COMPOSITION } else { 0 };
        let mut place = 0;
        put_full_box(out, b"trun", 1, fields, |out| {
            out.put_u32(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
            place = out.len();
            out.put_u32(0);
            first_flags.into_iter().for_each(|value| out.put_u32(value));
            for sample in &self.list {
                if duration.is_none() {
                    out.put_u32(sample.duration);
                }
                out.put_u32(sample.size);
                if flags.is_none() {
                    out.put_u32(sample.flags);
                }
                if composed {
                    out.put_i32(sample.composition);
                }
            }
        });
        place
    }
}

fn flags_of(frame: &Frame, video: bool) -> u32 {
    let depends = if !video || frame.is_key() { INDEPENDENT } else { DEPENDENT | NON_SYNC };
    let disposable = video && frame.flags.contains(FrameFlags::DISPOSABLE);
    depends | if disposable { DISPOSABLE } else { 0 }
}
