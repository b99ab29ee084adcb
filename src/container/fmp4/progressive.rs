//! Reads an MP4 file that is not fragmented: its movie box says where every sample lies (ISO/IEC 14496-12, 8.6 and
//! 8.7).
//!
//! The tables are walked where they are, sample by sample; nothing is unfolded. Frames come in order of decoding time
//! over all tracks, each with one read.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::{Buf, Bytes};

use super::boxes::{Fields, FourCc, Header, child, the_child};
use super::fragment::NON_SYNC;
use super::movie::{self, FileTrack};
use super::runs::{self, Sample};
use super::{Event, Mp4Error};
use crate::limits::{MP4_INDEX_BYTES_MAX, MP4_SAMPLE_BYTES_MAX};
use crate::media::{Media, Timestamp, Track};

const MOOV: FourCc = FourCc(*b"moov");
/// Boxes at the top of a file that are passed over in search of the movie box.
const TOP_LEVEL_MAX: usize = 65_536;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says so.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no MP4.
    #[error(transparent)]
    Mp4(#[from] Mp4Error),
}

/// A file, and where in it each track stands.
#[derive(Debug)]
pub struct Progressive<R> {
    file: R,
    tracks: Vec<FileTrack>,
    cursors: Vec<Cursor>,
    /// Tracks that were told already.
    told: usize,
}

impl<R: Read + Seek> Progressive<R> {
    /// Reads the movie box, wherever in the file it is.
    ///
    /// # Errors
    /// The file cannot be read, is no MP4, or holds no track of a known codec.
    pub fn open(mut file: R) -> Result<Self, ReadError> {
        let moov = find_moov(&mut file)?;
        let mut tables = Vec::new();
        let tracks = movie::read(&moov, |index, stbl| {
            tables.push((index, stbl));
            Ok(())
        })?;
        let cursor = |(index, stbl): (usize, &[u8])| {
            let known = tracks.get(index).and_then(|track| track.known.as_ref());
            let video = known.is_some_and(|track| track.codec.media() == Media::Video);
            Cursor::new(index, video, stbl, &moov)
        };
        let cursors = tables.into_iter().map(cursor).collect::<Result<_, _>>()?;
        Ok(Self { file, tracks, cursors, told: 0 })
    }

    /// The tracks.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter_map(|track| track.known.as_ref())
    }

    /// The tracks one by one, then their frames in order of decoding time; `None` behind the last.
    ///
    /// # Errors
    /// The file cannot be read, or its tables lie.
    pub fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        let told = self.told;
        self.told = told.saturating_add(1);
        if let Some(track) = self.tracks().nth(told).cloned() {
            return Ok(Some(Event::Track(track)));
        }
        loop {
            let mut earliest: Option<(Timestamp, usize)> = None;
            for (at, cursor) in self.cursors.iter().enumerate() {
                let Some(track) = self.tracks.get(cursor.track).filter(|_| cursor.left > 0) else { continue };
                let decode = i64::try_from(cursor.decode).ok().and_then(|decode| decode.checked_add(track.shift));
                let decode = Timestamp::from_ticks(decode.ok_or(Mp4Error::Time)?, track.timescale);
                if earliest.is_none_or(|(other, _)| decode < other) {
                    earliest = Some((decode, at));
                }
            }
            let Some((_, at)) = earliest else { return Ok(None) };
            let Some(cursor) = self.cursors.get_mut(at) else { return Ok(None) };
            let decode = cursor.decode;
            let (sample, place) = cursor.next()?;
            let track = self.tracks.get(cursor.track);
            let Some((track, shift)) = track.and_then(|track| track.known.as_ref().map(|known| (known, track.shift)))
            else {
                continue;
            };
            if sample.size == 0 {
                continue;
            }
            self.file.seek(SeekFrom::Start(place))?;
            let payload = read_up_to(&mut self.file, sample.size.into())?;
            if u32::try_from(payload.len()) != Ok(sample.size) {
                return Err(Mp4Error::Place.into());
            }
            return Ok(Some(Event::Frame(runs::frame(track, shift, decode, sample, payload)?)));
        }
    }
}

/// So many bytes, or fewer at the end of the file: the buffer grows as they come.
fn read_up_to(file: &mut impl Read, length: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn find_moov(file: &mut (impl Read + Seek)) -> Result<Bytes, ReadError> {
    let mut at = 0_u64;
    for _ in 0..TOP_LEVEL_MAX {
        file.seek(SeekFrom::Start(at))?;
        let head = read_up_to(file, 16)?;
        let Some(header) = Header::read(&head)? else { return Err(Mp4Error::Missing(MOOV).into()) };
        at = at.checked_add(header.length as u64).ok_or(Mp4Error::Size(header.kind))?;
        if header.kind == MOOV {
            let length = header.body.filter(|length| *length <= MP4_INDEX_BYTES_MAX as u64);
            let length = length.ok_or(Mp4Error::TooLong(MOOV))?;
            file.seek(SeekFrom::Start(at))?;
            let moov = read_up_to(file, length)?;
            if moov.len() as u64 != length {
                return Err(Mp4Error::Size(MOOV).into());
            }
            return Ok(moov);
        }
        let Some(body) = header.body else { return Err(Mp4Error::Missing(MOOV).into()) };
        at = at.checked_add(body).ok_or(Mp4Error::Size(header.kind))?;
    }
    Err(Mp4Error::Missing(MOOV).into())
}

/// A table of entries of equal length that is walked once.
#[derive(Clone, Debug)]
struct Table {
    kind: [u8; 4],
    rest: Bytes,
}

impl Table {
    /// Behind version, flags and the number of entries, which is not believed: the bytes are what there is.
    fn new(stbl: &[u8], kind: &[u8; 4], moov: &Bytes) -> Result<Option<(u8, Self)>, Mp4Error> {
        let Some(body) = child(stbl, kind)? else { return Ok(None) };
        let (version, _, mut fields) = Fields::full(kind, body)?;
        let count = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
        let entry = match kind {
            b"stsc" => 12,
            b"stts" | b"ctts" | b"co64" => 8,
            _ => 4,
        };
        let rest = fields.rest();
        let used = count.saturating_mul(entry).min(rest.len());
        Ok(Some((version, Self { kind: *kind, rest: moov.slice_ref(rest.get(..used).unwrap_or_default()) })))
    }

    fn fields(&self) -> Fields<'_> {
        Fields::new(&self.kind, &self.rest)
    }

    fn skip(&mut self, count: usize) {
        self.rest.advance(count.min(self.rest.len()));
    }

    fn u32(&mut self) -> Result<u32, Mp4Error> {
        let value = self.fields().u32()?;
        self.skip(4);
        Ok(value)
    }

    fn u64(&mut self) -> Result<u64, Mp4Error> {
        let value = self.fields().u64()?;
        self.skip(8);
        Ok(value)
    }
}

/// Where a track stands in its tables.
#[derive(Clone, Debug)]
struct Cursor {
    track: usize,
    video: bool,
    /// Samples that are left, and the number of the next one.
    left: u32,
    number: u32,
    decode: u64,
    /// `stts`: samples left of the entry, and their duration.
    durations: Table,
    duration: (u32, u32),
    /// `ctts`.
    compositions: Option<(u8, Table)>,
    composition: (u32, i64),
    /// `stsz`: one size for all, or one each.
    size: u32,
    sizes: Bytes,
    /// `stco` or `co64`.
    chunks: Table,
    wide: bool,
    /// `stsc`: samples per chunk from here on, until the chunk at which the next entry begins.
    layout: Table,
    per_chunk: u32,
    chunk: u32,
    left_in_chunk: u32,
    place: u64,
    /// `stss`: the next sample at which a decoder can start; none where it can at all.
    syncs: Option<Table>,
}

impl Cursor {
    fn new(track: usize, video: bool, stbl: &[u8], moov: &Bytes) -> Result<Self, Mp4Error> {
        let table = |kind: &[u8; 4]| Table::new(stbl, kind, moov);
        let the_table = |kind: &[u8; 4]| table(kind)?.ok_or(Mp4Error::Missing(FourCc(*kind)));
        let (_, _, mut fields) = Fields::full(b"stsz", the_child(stbl, b"stsz")?)?;
        let (size, count) = (fields.u32()?, fields.u32()?);
        let sizes = if size == 0 { moov.slice_ref(fields.rest()) } else { Bytes::new() };
        // What is not written down is not there; with one size for all, time still has to be told for each.
        let written = u32::try_from(sizes.len() / 4).unwrap_or(u32::MAX);
        let left = if size == 0 { count.min(written) } else { count };
        let (wide, chunks) = match table(b"stco")? {
            Some((_, chunks)) => (false, chunks),
            None => (true, the_table(b"co64")?.1),
        };
        Ok(Self {
            track,
            video,
            left,
            number: 1,
            decode: 0,
            durations: the_table(b"stts")?.1,
            duration: (0, 0),
            compositions: table(b"ctts")?,
            composition: (0, 0),
            size,
            sizes,
            chunks,
            wide,
            layout: the_table(b"stsc")?.1,
            per_chunk: 0,
            chunk: 0,
            left_in_chunk: 0,
            place: 0,
            syncs: table(b"stss")?.map(|(_, table)| table),
        })
    }

    /// The next sample, and where it lies. There must be one.
    fn next(&mut self) -> Result<(Sample, u64), Mp4Error> {
        let mut size = self.size;
        if size == 0 {
            size = Fields::new(b"stsz", &self.sizes).u32()?;
            self.sizes.advance(4);
        }
        if usize::try_from(size).map_or(true, |size| size > MP4_SAMPLE_BYTES_MAX) {
            return Err(Mp4Error::SampleTooLong);
        }
        // Entries that stand for no samples are passed over: each takes its bytes of the table.
        while self.duration.0 == 0 {
            self.duration = (self.durations.u32()?, self.durations.u32()?);
        }
        self.duration.0 = self.duration.0.saturating_sub(1);
        if let Some((version, compositions)) = &mut self.compositions {
            while self.composition.0 == 0 {
                let count = compositions.u32()?;
                let offset = compositions.u32()?;
                let offset = if *version == 0 { offset.into() } else { offset.cast_signed().into() };
                self.composition = (count, offset);
            }
            self.composition.0 = self.composition.0.saturating_sub(1);
        }
        while self.left_in_chunk == 0 {
            self.next_chunk()?;
        }
        self.left_in_chunk = self.left_in_chunk.saturating_sub(1);
        let place = self.place;
        self.place = place.checked_add(size.into()).ok_or(Mp4Error::Place)?;
        let sync = match &mut self.syncs {
            None => true,
            Some(syncs) => {
                let next = syncs.fields().u32().ok();
                if next == Some(self.number) {
                    syncs.skip(4);
                }
                next == Some(self.number)
            }
        };
        self.number = self.number.saturating_add(1);
        self.left = self.left.saturating_sub(1);
        let duration = self.duration.1;
        self.decode = self.decode.checked_add(duration.into()).ok_or(Mp4Error::Time)?;
        let flags = if sync || !self.video { 0 } else { NON_SYNC };
        Ok((Sample { size, duration, flags, composition: self.composition.1 }, place))
    }

    fn next_chunk(&mut self) -> Result<(), Mp4Error> {
        self.place = if self.wide { self.chunks.u64()? } else { self.chunks.u32()?.into() };
        self.chunk = self.chunk.saturating_add(1);
        if self.layout.fields().u32().is_ok_and(|first| first <= self.chunk) {
            self.layout.skip(4);
            self.per_chunk = self.layout.u32()?;
            self.layout.skip(4); // sample_description_index
        }
        self.left_in_chunk = self.per_chunk;
        Ok(())
    }
}
