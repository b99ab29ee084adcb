//! HLS and Low-Latency HLS (draft-pantos-hls-rfc8216bis, "RFC 8216bis" below), made once per stream, in memory.
//!
//! [`Packager`] is the sink that cuts a stream into CMAF: one media playlist per track, segments that begin at
//! keyframes, parts of a fraction of a second. A part is the headers that were written for it and slices of the
//! payloads. [`Shelf`] is what has been made so far: any thread asks it for playlists, segments and parts, and is told
//! to wait for what is about to come. Of the same segments there is a manifest of MPEG-DASH.
//!
//! A payload is kept as long as the segment that it is in, and with it the buffer that it was read into.
//!
//! What becomes of a stream's oddities:
//!
//! | in the stream | in the playlists |
//! |---|---|
//! | the first segment is longer than [`Settings::segment`], by its keyframes | a target duration that fits it |
//! | a later one would be longer than that | it ends before any frame; from then on none is called independent |
//! | another configuration, a jump, frames that were left out | a discontinuity, in all tracks at once |
//! | a track is silent meanwhile | its next segment has as many discontinuities as there were |
//! | a frame lasts longer than a part may | a segment without parts |
//! | frame durations that vary by more than 15 % of a part | parts shorter than the 85 % that they should have |
//! | a codec without a place in MP4, frames before a keyframe | left out, and counted in [`Shelf::left_out`] |
//!
//! With a [`KeyProvider`] segments are encrypted: without parts, and without a manifest of MPEG-DASH.
//!
//! Program dates are those of the first frame after each discontinuity, and the stream's own time from there on: all
//! tracks agree. Left out: subtitles, I-frame playlists, byte ranges, `EXT-X-DATERANGE`, `VIDEO-RANGE`, languages of
//! tracks (frames do not say them).

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod cutter;
mod dash;
mod date;
mod measure;
mod multivariant;
mod name;
mod packager;
mod playlist;
mod rendition;
mod seal;
mod shelf;

use std::time::Duration;

use bytes::Bytes;

pub use packager::Packager;
pub use seal::{KeyProvider, SegmentKey};
pub use shelf::{LeftOut, Shelf};

/// How a stream is packaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// A segment ends at the first keyframe after so long: 0.5 to 10 s.
    pub segment: Duration,
    /// It ends before any frame where it would be longer than so, up to half a second more: [`Settings::segment`] to
    /// 60 s. Once there is a target duration, that is the bound.
    pub segment_max: Duration,
    /// How long parts are, roughly: 50 ms to [`Settings::segment`]. They are whole frames. None for plain HLS.
    pub part: Option<Duration>,
    /// How much a media playlist names, at least three target durations. What was named stays available for as long
    /// again (RFC 8216bis, 6.2.2).
    pub window: Duration,
    /// Bytes of payload that are kept of the stream, all tracks together: the oldest segments go before their time.
    pub bytes: u64,
    /// The number of the first segments. One that is greater than all before a restart lets players go on.
    pub first_sequence: u64,
    /// A stream that ends says so (`EXT-X-ENDLIST`). Without, players wait for more.
    pub end_list: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(2),
            segment_max: Duration::from_secs(6),
            part: Some(Duration::from_millis(200)),
            window: Duration::from_secs(20),
            bytes: 256 * 1024 * 1024,
            first_sequence: 0,
            end_list: true,
        }
    }
}

impl Settings {
    /// The same within the bounds that the fields name.
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        self.segment = self.segment.clamp(Duration::from_millis(500), Duration::from_secs(10));
        self.segment_max = self.segment_max.clamp(self.segment, Duration::from_secs(60));
        self.part = self.part.map(|part| part.clamp(Duration::from_millis(50), self.segment));
        self
    }
}

/// What is asked of a [`Shelf`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name of a file: what stands in a playlist, [`MULTIVARIANT`] or [`MANIFEST`].
    pub path: &'a str,
    /// `_HLS_msn`: not before this segment is in the playlist.
    pub msn: Option<u64>,
    /// `_HLS_part`: not before this part of it is.
    pub part: Option<u32>,
    /// `_HLS_skip`: only what is new.
    pub skip: bool,
}

/// The name of the multivariant playlist, with which everything begins.
pub const MULTIVARIANT: &str = "index.m3u8";

/// The name of the manifest of MPEG-DASH (ISO/IEC 23009-1), of the same segments.
pub const MANIFEST: &str = "manifest.mpd";

/// What a [`Shelf`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Here it is.
    Ready(Resource),
    /// It is about to come: to be asked again when [`Shelf::version`] is no longer what it was before the question.
    Wait,
    /// There is no such thing, or not any more.
    NotFound,
    /// Nobody who keeps to RFC 8216bis asks so, and why.
    Bad(&'static str),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What is in it, piece by piece: shared, not copied.
    pub body: Vec<Bytes>,
    /// The media type.
    pub content_type: &'static str,
    /// It never changes, and no other file will ever have its name.
    pub immutable: bool,
    /// How long it may be cached, where it changes.
    pub max_age: Duration,
    /// Another one for other content under the same path and query.
    pub etag: u64,
}

impl Resource {
    /// Bytes of everything.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.body.iter().fold(0, |sum, piece| sum.saturating_add(piece.len() as u64))
    }
}

/// Nanoseconds, as timestamps count.
const fn nanos(duration: Duration) -> i64 {
    let nanos = duration.as_nanos();
    if nanos > i64::MAX as u128 { i64::MAX } else { nanos_of(nanos) }
}

#[expect(clippy::cast_possible_truncation, reason = "the caller has compared it")]
const fn nanos_of(nanos: u128) -> i64 {
    nanos as i64
}

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
