//! Where things are: `sidx` in front of a segment (ISO/IEC 14496-12, 8.16.3), and `mfra` at the end of a file
//! (8.8.9).

use bytes::{BufMut, Bytes, BytesMut};

use super::Fragment;
use super::boxes::{patch, put_box, put_full_box};
use crate::limits::MP4_STARTS_MAX;
use crate::media::TrackId;

/// References that one `sidx` has room for.
const REFERENCES_MAX: usize = 65_535;
/// A reference starts with a point at which a decoder can (`starts_with_SAP`, type 1).
const STARTS_WITH_KEY: u32 = 1 << 31 | 1 << 28;

/// Writes `sidx` for one track: how long each of these fragments is, in bytes and in time. It stands directly before
/// the first of them. None if they are none, more than it has room for, or not all of this track.
#[must_use]
pub fn segment_index(track: TrackId, fragments: &[Fragment]) -> Option<Bytes> {
    let start_of = |fragment: &Fragment| fragment.starts.iter().find(|start| start.track == track).copied();
    let first = start_of(fragments.first()?)?;
    let mut references = Vec::with_capacity(fragments.len());
    for fragment in fragments {
        let start = start_of(fragment)?;
        let length = u32::try_from(fragment.length()).ok().filter(|length| length >> 31 == 0)?;
        references.push((length, u32::try_from(start.duration).ok()?, if start.key { STARTS_WITH_KEY } else { 0 }));
    }
    let count = u16::try_from(references.len()).ok().filter(|_| references.len() <= REFERENCES_MAX)?;
    let mut out = BytesMut::new();
    put_full_box(&mut out, b"sidx", 1, 0, |out| {
        out.put_u32(first.number);
        out.put_u32(first.timescale);
        out.put_u64(first.present);
        out.put_u64(0); // first_offset
        out.put_u16(0);
        out.put_u16(count);
        for (length, duration, key) in references {
            out.put_u32(length);
            out.put_u32(duration);
            out.put_u32(key);
        }
    });
    Some(out.freeze())
}

/// Collects where decoders can start, for the end of a file.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    tracks: Vec<TrackStarts>,
}

#[derive(Clone, Debug)]
struct TrackStarts {
    number: u32,
    /// Presentation time, place of the `moof`, which `traf` of it.
    places: Vec<(u64, u64, u8)>,
    /// Of so many starts one is kept.
    kept_of: usize,
    passed: usize,
}

impl Starts {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a fragment which lies at this place in the file.
    pub fn add(&mut self, fragment: &Fragment, at: u64) {
        let moof = at.saturating_add(fragment.moof_at as u64);
        for (nth, start) in (1_u8..).zip(&fragment.starts) {
            if !start.key {
                continue;
            }
            let known = self.tracks.iter().position(|track| track.number == start.number);
            let known = known.unwrap_or_else(|| {
                self.tracks.push(TrackStarts { number: start.number, places: Vec::new(), kept_of: 1, passed: 0 });
                self.tracks.len().saturating_sub(1)
            });
            if let Some(track) = self.tracks.get_mut(known) {
                track.add((start.present, moof, nth));
            }
        }
    }

    /// Writes `mfra`.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut size_at = 0;
        put_box(&mut out, b"mfra", |out| {
            for track in &self.tracks {
                put_full_box(out, b"tfra", 1, 0, |out| {
                    out.put_u32(track.number);
                    out.put_u32(0); // numbers of one byte each
                    out.put_u32(u32::try_from(track.places.len()).unwrap_or(u32::MAX));
                    for (time, moof, nth) in &track.places {
                        out.put_u64(*time);
                        out.put_u64(*moof);
                        out.put_slice(&[*nth, 1, 1]);
                    }
                });
            }
            put_full_box(out, b"mfro", 0, 0, |out| {
                size_at = out.len();
                out.put_u32(0);
            });
        });
        let size = u32::try_from(out.len()).unwrap_or(u32::MAX);
        patch(&mut out, size_at, size);
        out.freeze()
    }
}

impl TrackStarts {
    fn add(&mut self, place: (u64, u64, u8)) {
        if self.places.len() >= MP4_STARTS_MAX {
            let mut nth = 0_usize;
            self.places.retain(|_| {
                nth = nth.wrapping_add(1);
                nth % 2 == 1
            });
            self.kept_of = self.kept_of.saturating_mul(2);
        }
        if self.passed.checked_rem(self.kept_of) == Some(0) {
            self.places.push(place);
        }
        self.passed = self.passed.wrapping_add(1);
    }
}
