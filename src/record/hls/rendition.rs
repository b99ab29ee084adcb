//! What has been made of one track: its segments, those that its playlist names and those that it named until a
//! moment ago.

use std::collections::VecDeque;

use std::sync::Arc;

use bytes::Bytes;

use super::name::TrackName;
use super::seal::Lock;
use crate::clock::Wall;
use crate::codec::Description;
use crate::limits::HLS_SEGMENTS_MAX;

/// What comes of a cut: some frames with headers in front of them.
#[derive(Debug)]
pub(super) struct Piece {
    /// A segment begins with it.
    pub(super) begin: Option<Begin>,
    pub(super) slices: Vec<Bytes>,
    /// In nanoseconds.
    pub(super) duration: i64,
    /// A decoder can start with it.
    pub(super) independent: bool,
    /// It is a part that the playlist names.
    pub(super) listed: bool,
    /// The segment ends with it.
    pub(super) last: bool,
    pub(super) content: Content,
}

/// In what form the bytes of a segment are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Clear,
    /// Encrypted with this key.
    Locked(Arc<Lock>),
    /// Not there: it could not be encrypted.
    Gap,
}

/// What is known of a segment when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    /// Discontinuities of the stream before it.
    pub(super) era: u64,
    /// When its first frame was made.
    pub(super) wall: Wall,
    /// That frame's decode time in the file, and the least presentation time near it, in ticks of the track.
    pub(super) decode: u64,
    pub(super) present: u64,
    /// What was made when the discontinuity was is shown so many nanoseconds after the file's zero.
    pub(super) era_wall: Wall,
    pub(super) era_present: i64,
}

/// A segment that is complete or about to be.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) msn: u64,
    pub(super) begin: Begin,
    /// Discontinuities between the segment before and this one.
    pub(super) breaks: u64,
    /// The number of its initialization segment.
    pub(super) init: u64,
    /// In nanoseconds.
    pub(super) duration: i64,
    pub(super) bytes: u64,
    pub(super) parts: Vec<Part>,
    /// Its parts are not named.
    pub(super) plain: bool,
    pub(super) content: Content,
    /// The how-manieth segment of the stream it is, all tracks counted together.
    born: u64,
}

/// A part of a segment.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) slices: Vec<Bytes>,
    pub(super) duration: i64,
    pub(super) independent: bool,
}

/// What the multivariant playlist says of a track.
#[derive(Clone, Debug)]
pub(super) struct Info {
    pub(super) description: Description,
    /// Ticks per second.
    pub(super) timescale: u32,
    /// Nanoseconds of a frame, measured.
    pub(super) step: i64,
}

/// One track.
#[derive(Debug)]
pub(super) struct Rendition {
    pub(super) name: TrackName,
    pub(super) info: Info,
    /// In nanoseconds; none without parts.
    pub(super) part_target: Option<i64>,
    /// Complete ones, the oldest first.
    pub(super) segments: VecDeque<Segment>,
    /// So many of them are not named any more: `0 ..= segments.len()`.
    pub(super) unlisted: usize,
    /// The one that is about to be complete.
    pub(super) open: Option<Segment>,
    /// The number of the open segment, or of the next one.
    pub(super) next_msn: u64,
    /// There was a segment that needs the one before it.
    pub(super) dependent: bool,
    /// Of segments long enough to count, bits per second.
    pub(super) peak: u64,
    /// Of all complete segments so far: bytes and nanoseconds.
    total: (u64, i64),
    /// Nanoseconds of the longest segment so far, and of the most complete ones that were named.
    longest: (i64, i64),
    inits: VecDeque<(u64, Bytes, Info)>,
    next_init: u64,
    last_era: Option<u64>,
    /// Playlists as they were written last: whole, and with what is old left out.
    pub(super) written: [Option<(u64, Bytes)>; 2],
}

impl Rendition {
    pub(super) fn new(name: TrackName, info: Info, part_target: Option<i64>, first_msn: u64) -> Self {
        Self {
            name,
            info,
            part_target,
            segments: VecDeque::new(),
            unlisted: 0,
            open: None,
            next_msn: first_msn,
            dependent: false,
            peak: 0,
            total: (0, 0),
            longest: (0, 0),
            inits: VecDeque::new(),
            next_init: 0,
            last_era: None,
            written: [None, None],
        }
    }

    /// Segments from here on have this initialization segment.
    pub(super) fn begin_init(&mut self, init: Bytes, info: Info) {
        self.info = info.clone();
        if self.inits.back().is_none_or(|(_, last, _)| *last != init) {
            self.inits.push_back((self.next_init, init, info));
            self.next_init = self.next_init.saturating_add(1);
        }
    }

    /// Adds a piece to the open segment, or begins one, and says how many bytes it has.
    pub(super) fn add(&mut self, piece: Piece, born: u64) -> u64 {
        let bytes = piece.slices.iter().fold(0_u64, |sum, slice| sum.saturating_add(slice.len() as u64));
        if let Some(begin) = piece.begin {
            self.close();
            let breaks = self.last_era.map_or(0, |last| begin.era.saturating_sub(last));
            self.last_era = Some(begin.era);
            self.dependent |= !piece.independent;
            let init = self.next_init.saturating_sub(1);
            let plain = !piece.listed;
            let (msn, parts) = (self.next_msn, Vec::new());
            let content = piece.content.clone();
            let (duration, bytes) = (0, 0);
            self.open = Some(Segment { msn, begin, breaks, init, duration, bytes, parts, plain, content, born });
        }
        // There is an open one: the cutter begins with a begin.
        if let Some(open) = &mut self.open {
            open.duration = open.duration.saturating_add(piece.duration);
            open.bytes = open.bytes.saturating_add(bytes);
            let Piece { slices, duration, independent, content, .. } = piece;
            if let Content::Gap = content {
                open.content = content;
            }
            open.parts.push(Part { slices, duration, independent });
        }
        if piece.last {
            self.close();
        }
        bytes
    }

    /// The open segment is complete.
    pub(super) fn close(&mut self) {
        let Some(segment) = self.open.take() else { return };
        self.total.0 = self.total.0.saturating_add(segment.bytes);
        self.total.1 = self.total.1.saturating_add(segment.duration);
        self.longest.0 = self.longest.0.max(segment.duration);
        self.segments.push_back(segment);
        self.next_msn = self.next_msn.saturating_add(1);
    }

    /// Segments that the playlist names, the open one not counted.
    pub(super) fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.range(self.unlisted.min(self.segments.len())..)
    }

    /// Names no more than a window needs, and forgets what nobody can want any more; says how many bytes went.
    pub(super) fn trim(&mut self, window: i64) -> u64 {
        let sum = |segments: &mut dyn Iterator<Item = &Segment>| {
            segments.fold(0_i64, |sum, segment| sum.saturating_add(segment.duration))
        };
        let mut listed = sum(&mut self.listed());
        while let Some(first) = self.segments.get(self.unlisted) {
            let rest = listed.saturating_sub(first.duration);
            if rest < window {
                break;
            }
            listed = rest;
            self.unlisted = self.unlisted.saturating_add(1);
        }
        // A segment stays for its own duration and that of the playlist after it was named last (RFC 8216bis, 6.2.2);
        // a playlist names parts of one segment more than are complete.
        self.longest.1 = self.longest.1.max(listed);
        let playlist = self.longest.1.saturating_add(self.longest.0);
        let mut gone = sum(&mut self.segments.iter().take(self.unlisted));
        let mut bytes = 0_u64;
        while let Some(first) = self.segments.front() {
            let after = gone.saturating_sub(first.duration);
            let needed = self.unlisted == 0 || after < playlist.saturating_add(first.duration);
            if needed && self.segments.len() <= HLS_SEGMENTS_MAX {
                break;
            }
            gone = after;
            bytes = bytes.saturating_add(self.forget_first());
        }
        bytes
    }

    /// Forgets the oldest complete segment, and what only it needed.
    pub(super) fn forget_first(&mut self) -> u64 {
        let Some(first) = self.segments.pop_front() else { return 0 };
        self.unlisted = self.unlisted.saturating_sub(1);
        let oldest = self.segments.front().or(self.open.as_ref()).map_or(first.init, |segment| segment.init);
        self.inits.retain(|(number, ..)| *number >= oldest);
        first.bytes
    }

    /// When the oldest complete segment was begun, if there is another one behind it.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.segments.front().filter(|_| self.segments.len() > 1).map(|segment| segment.born)
    }

    /// An initialization segment, and what is known of what follows it.
    pub(super) fn init(&self, number: u64) -> Option<(&Bytes, &Info)> {
        self.inits.iter().find(|(known, ..)| *known == number).map(|(_, init, info)| (init, info))
    }

    /// A complete segment that is still there.
    pub(super) fn segment(&self, msn: u64) -> Option<&Segment> {
        let first = self.segments.front()?.msn;
        let segment = self.segments.get(usize::try_from(msn.checked_sub(first)?).ok()?);
        segment.filter(|segment| segment.msn == msn)
    }

    /// A part that is there, be its segment complete or not.
    pub(super) fn part(&self, msn: u64, part: u64) -> Option<&Part> {
        let open = self.open.as_ref().filter(|open| open.msn == msn);
        let segment = open.or_else(|| self.segment(msn)).filter(|segment| !segment.plain)?;
        segment.parts.get(usize::try_from(part).ok()?)
    }

    /// Parts of the open segment that are named.
    pub(super) fn open_parts(&self) -> u64 {
        self.open.as_ref().filter(|open| !open.plain).map_or(0, |open| open.parts.len() as u64)
    }

    /// The part that the playlist says comes next: the number of its segment, and its own.
    pub(super) fn hint(&self) -> Option<(u64, u64)> {
        self.part_target?;
        match &self.open {
            Some(open) if open.plain => None,
            _ => Some((self.next_msn, self.open_parts())),
        }
    }

    /// Counts complete segments of at least this duration for the peak bit rate (RFC 8216bis, 4.4.6.2).
    pub(super) fn count_peak(&mut self, least: i64) {
        let newest = self.segments.back().filter(|segment| segment.duration >= least);
        if let Some(rate) = newest.and_then(|segment| bits_per_second(segment.bytes, segment.duration)) {
            self.peak = self.peak.max(rate);
        }
    }

    /// Bits per second: the peak and the average of all segments.
    pub(super) fn bandwidth(&self) -> (u64, u64) {
        let open = self.open.as_ref().map_or((0, 0), |open| (open.bytes, open.duration));
        let all = (self.total.0.saturating_add(open.0), self.total.1.saturating_add(open.1));
        let average = bits_per_second(all.0, all.1).unwrap_or(0);
        (self.peak.max(average).max(1), average.max(1))
    }
}

fn bits_per_second(bytes: u64, nanos: i64) -> Option<u64> {
    let bits = u128::from(bytes).saturating_mul(8_000_000_000);
    u64::try_from(bits.checked_div(u128::try_from(nanos).ok()?)?).ok()
}
