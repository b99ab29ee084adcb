//! The movie box read: its tracks, and what holds for their samples unless these say otherwise (ISO/IEC 14496-12, 8.2
//! to 8.8.3).

use super::Mp4Error;
use super::boxes::{Fields, FourCc, child, children, the_child};
use super::entry_read::ReadEntry;
use crate::limits::{MP4_TRACKS_MAX, TRACKS_MAX};
use crate::media::{Media, Track, TrackId};

/// Bytes of a language tag that are kept.
const LANGUAGE_BYTES_MAX: usize = 64;

/// A track of the file, known here or not.
#[derive(Clone, Debug)]
pub(super) struct FileTrack {
    /// `track_ID`.
    pub(super) number: u32,
    /// None of a codec that is not known.
    pub(super) known: Option<Track>,
    pub(super) timescale: u32,
    /// Added to all times, in ticks: the first edit.
    pub(super) shift: i64,
    pub(super) defaults: Defaults,
    /// Where the next fragment goes on that does not say where it begins.
    pub(super) next_decode: u64,
}

/// `trex`: of samples that do not say it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// Reads the body of `moov`. `sample_table` is shown each `stbl` of a known track, in the order of the tracks.
pub(super) fn read<'a>(
    moov: &'a [u8],
    mut sample_table: impl FnMut(usize, &'a [u8]) -> Result<(), Mp4Error>,
) -> Result<Vec<FileTrack>, Mp4Error> {
    let (version, _, mut fields) = Fields::full(b"mvhd", the_child(moov, b"mvhd")?)?;
    fields.skip(if version == 0 { 8 } else { 16 })?;
    let movie_timescale = fields.u32()?;
    let mut tracks: Vec<FileTrack> = Vec::new();
    let mut ids = Ids::default();
    for found in children(moov) {
        let (kind, body) = found?;
        if kind.0 != *b"trak" {
            continue;
        }
        if tracks.len() >= MP4_TRACKS_MAX {
            return Err(Mp4Error::TooManyTracks);
        }
        let (track, stbl) = track(body, movie_timescale, &mut ids)?;
        if tracks.iter().any(|other| other.number == track.number) {
            return Err(Mp4Error::Value(FourCc(*b"tkhd")));
        }
        if track.known.is_some() {
            sample_table(tracks.len(), stbl)?;
        }
        tracks.push(track);
    }
    if tracks.iter().all(|track| track.known.is_none()) {
        return Err(Mp4Error::NoTrack);
    }
    if let Some(mvex) = child(moov, b"mvex")? {
        for found in children(mvex) {
            let (kind, body) = found?;
            if kind.0 == *b"trex" {
                let (_, _, mut fields) = Fields::full(b"trex", body)?;
                let number = fields.u32()?;
                fields.u32()?; // default_sample_description_index
                let defaults = Defaults { duration: fields.u32()?, size: fields.u32()?, flags: fields.u32()? };
                if let Some(track) = tracks.iter_mut().find(|track| track.number == number) {
                    track.defaults = defaults;
                }
            }
        }
    }
    Ok(tracks)
}

/// Gives tracks their ids: by convention the first ones, and places behind them in turn for others.
#[derive(Debug, Default)]
struct Ids {
    video: usize,
    audio: usize,
}

impl Ids {
    fn next(&mut self, media: Media) -> Result<TrackId, Mp4Error> {
        let (count, first, second) = match media {
            Media::Video => (&mut self.video, TrackId::VIDEO, 3),
            _ => (&mut self.audio, TrackId::AUDIO, 4),
        };
        let nth = *count;
        *count = nth.saturating_add(1);
        let Some(behind) = nth.checked_sub(1) else { return Ok(first) };
        let id = behind.saturating_mul(2).saturating_add(second);
        let id = u8::try_from(id).ok().filter(|id| usize::from(*id) < TRACKS_MAX);
        id.map(TrackId).ok_or(Mp4Error::TooManyTracks)
    }
}

fn track<'a>(trak: &'a [u8], movie_timescale: u32, ids: &mut Ids) -> Result<(FileTrack, &'a [u8]), Mp4Error> {
    let (version, _, mut fields) = Fields::full(b"tkhd", the_child(trak, b"tkhd")?)?;
    fields.skip(if version == 0 { 8 } else { 16 })?;
    let number = fields.u32()?;
    let mdia = the_child(trak, b"mdia")?;
    let (version, _, mut fields) = Fields::full(b"mdhd", the_child(mdia, b"mdhd")?)?;
    fields.skip(if version == 0 { 8 } else { 16 })?;
    let timescale = fields.u32()?;
    fields.wide(version)?; // duration
    let packed = fields.u16()?;
    if timescale == 0 {
        return Err(Mp4Error::Value(FourCc(*b"mdhd")));
    }
    let stbl = the_child(the_child(mdia, b"minf")?, b"stbl")?;
    let (_, _, mut fields) = Fields::full(b"stsd", the_child(stbl, b"stsd")?)?;
    fields.u32()?; // entry_count
    let entry = match children(fields.rest()).next().transpose()? {
        Some((kind, body)) => ReadEntry::read(kind, body)?,
        None => None,
    };
    let known = match entry {
        Some(entry) => Some(Track {
            id: ids.next(entry.codec.media())?,
            codec: entry.codec,
            timescale,
            config: entry.config,
            size: entry.size,
            channels: entry.channels,
            language: language(mdia, packed)?,
        }),
        None => None,
    };
    let shift = match child(trak, b"edts")? {
        Some(edts) => shift(edts, timescale, movie_timescale)?,
        None => 0,
    };
    let defaults = Defaults::default();
    Ok((FileTrack { number, known, timescale, shift, defaults, next_decode: 0 }, stbl))
}

/// The extended language tag, or the three letters of before.
fn language(mdia: &[u8], packed: u16) -> Result<Option<Box<str>>, Mp4Error> {
    if let Some(elng) = child(mdia, b"elng")? {
        let (_, _, fields) = Fields::full(b"elng", elng)?;
        let tag = fields.rest().split(|byte| *byte == 0).next().unwrap_or_default();
        if let Ok(tag) = std::str::from_utf8(tag)
            && (1..=LANGUAGE_BYTES_MAX).contains(&tag.len())
        {
            return Ok(Some(tag.into()));
        }
    }
    let letter = |shift: u32| (packed.rotate_right(shift) & 0x1F).to_be_bytes()[1] | 0x60;
    let code = [letter(10), letter(5), letter(0)];
    let told = code.iter().all(u8::is_ascii_lowercase) && code != super::init::UNDETERMINED;
    Ok(std::str::from_utf8(&code).ok().filter(|_| told).map(Into::into))
}

/// `elst`: time that is empty before the media, and where in the media it begins (8.6.6).
fn shift(edts: &[u8], timescale: u32, movie_timescale: u32) -> Result<i64, Mp4Error> {
    let Some(elst) = child(edts, b"elst")? else { return Ok(0) };
    let (version, _, mut fields) = Fields::full(b"elst", elst)?;
    let mut empty = 0_i128;
    for _ in 0..fields.u32()? {
        let duration = fields.wide(version)?;
        let start = if version == 0 { i64::from(fields.i32()?) } else { fields.u64()?.cast_signed() };
        fields.u32()?; // media_rate
        if start < 0 {
            let ticks = i128::from(duration).saturating_mul(timescale.into());
            empty = empty.saturating_add(ticks.checked_div(movie_timescale.into()).unwrap_or(0));
            continue;
        }
        return i64::try_from(empty.saturating_sub(start.into())).map_err(|_| Mp4Error::Time);
    }
    i64::try_from(empty).map_err(|_| Mp4Error::Time)
}
