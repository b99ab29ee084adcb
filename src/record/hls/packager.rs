//! The sink: which track a frame is of, and where all tracks are cut together.

use std::sync::Arc;

use super::cutter::{Cutter, Era, Role, Rules, rounded_seconds};
use super::seal::{KeyProvider, Keys};
use super::shelf::{LeftOut, Shelf};
use super::{SECOND, Settings, nanos};
use crate::clock::{Now, Wall};
use crate::extension::{FrameSink, SinkVerdict};
use crate::limits::{CONFIG_BYTES_MAX, HLS_COMPOSITION_MAX, TRACKS_MAX};
use crate::media::{Frame, FrameFlags, FrameKind, Media, Timestamp};
use crate::reason::Reason;

/// Packages one stream: a sink on its home shard.
#[derive(Debug)]
pub struct Packager {
    settings: Settings,
    shelf: Arc<Shelf>,
    keys: Option<Keys>,
    rules: Rules,
    /// The clock on the wall when the other one showed that.
    anchor: Now,
    tracks: Vec<Cutter>,
    /// What all tracks have had a frame of, or will; none before the first frame.
    era: Option<Era>,
    /// Frames were left out before the next one.
    gap: bool,
    /// There are playlists.
    ready: bool,
    ended: bool,
}

impl Packager {
    /// For one stream, from now on: program dates are counted from there by the frames' origins, and the names of
    /// files are made of the time, so that they are others after a restart.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        Self::begin(settings, now, None)
    }

    /// The same with encrypted segments, and so without parts.
    #[must_use]
    pub fn with_keys(settings: Settings, now: Now, keys: impl KeyProvider + 'static) -> Self {
        Self::begin(Settings { part: None, ..settings }, now, Some(Keys::new(keys)))
    }

    fn begin(settings: Settings, now: Now, keys: Option<Keys>) -> Self {
        let settings = settings.within_bounds();
        let shelf = Arc::new(Shelf::new(now.wall.0, settings.clone(), keys.is_some()));
        let rules = Rules::new(&settings);
        let (tracks, era) = (Vec::new(), None);
        Self { settings, shelf, keys, rules, anchor: now, tracks, era, gap: false, ready: false, ended: false }
    }

    /// Where to ask for what has been made.
    #[must_use]
    pub fn shelf(&self) -> Arc<Shelf> {
        self.shelf.clone()
    }

    fn track(&mut self, frame: &Frame) -> Option<usize> {
        let known = self.tracks.iter().position(|track| track.id() == frame.track);
        if known.is_none() && self.tracks.len() < TRACKS_MAX {
            self.tracks.push(Cutter::new(frame.track, frame.codec, self.keys.clone()));
            return self.tracks.len().checked_sub(1);
        }
        known
    }

    fn announce(&mut self, frame: &Frame) {
        if frame.payload.len() > CONFIG_BYTES_MAX {
            return;
        }
        let at = self.track(frame);
        if let Some(track) = at.and_then(|at| self.tracks.get_mut(at)) {
            track.announce(frame.codec, &frame.payload);
        }
    }

    fn media(&mut self, frame: &Frame) -> Result<(), LeftOut> {
        const ONE: LeftOut = LeftOut { before_keyframe: 0, unsupported: 0, impossible: 0, lost: 0 };
        let impossible = LeftOut { impossible: 1, ..ONE };
        let before_keyframe = LeftOut { before_keyframe: 1, ..ONE };
        let apart = frame.pts.0.saturating_sub(frame.dts.0);
        if frame.payload.is_empty()
            || apart.saturating_abs() > nanos(HLS_COMPOSITION_MAX)
            || frame.dts.0.saturating_abs() > FARTHEST
        {
            return Err(impossible);
        }
        let at = self.track(frame).ok_or(impossible)?;
        let number = self.era.map_or(0, |era| era.number);
        let any_video = self.tracks.iter().any(|track| track.is_video() && track.is_in(number));
        let gap = self.gap && (frame.is_video() || !any_video);
        let track = self.tracks.get_mut(at).ok_or(impossible)?;
        if track.is_video() != frame.is_video() || frame.is_video() != (frame.codec.media() == Media::Video) {
            return Err(impossible);
        }
        let in_era = self.era.is_some() && track.is_in(number);
        let jumps = in_era
            && (frame.flags.contains(FrameFlags::DISCONTINUITY)
                || track.jumps(frame, nanos(self.settings.segment).max(SECOND)));
        if frame.kind == FrameKind::Delta && (!in_era || jumps) {
            track.wait_for_key();
        }
        if track.is_waiting(frame) {
            return Err(before_keyframe);
        }
        if gap {
            // Where the next frame is no keyframe, none refers to those that are missing.
            self.gap = false;
        }
        // What waited for a keyframe has missed something, or has just begun.
        let missed = in_era && track.waits();
        let breaks = jumps || missed || gap && frame.kind != FrameKind::Delta;
        if breaks || self.era.is_none() {
            self.begin_era(frame);
        }
        let era = self.era.ok_or(impossible)?;
        let track = self.tracks.get_mut(at).ok_or(impossible)?;
        if frame.dts < era.origin {
            return Err(impossible);
        }
        if !track.is_in(era.number) {
            track.begin(era, frame, &self.shelf).ok_or(LeftOut { unsupported: 1, ..ONE })?;
        }
        self.push(at, frame, era.number);
        Ok(())
    }

    fn push(&mut self, at: usize, frame: &Frame, era: u64) {
        let role = if self.leader(era) == Some(at) { Role::Leads } else { Role::Follows };
        let mut cuts = Vec::new();
        let Some(track) = self.tracks.get_mut(at) else { return };
        let closed = track.closed();
        track.push(frame.clone(), role, &self.rules, &self.shelf, &mut cuts);
        let closed = track.closed() != closed;
        for cut in cuts {
            let others = self.tracks.iter_mut().enumerate().filter(|(other, _)| *other != at);
            others.for_each(|(_, other)| other.follow(cut));
        }
        if closed {
            self.decide(false);
        }
    }

    /// The first video track, or else the first of all.
    fn leader(&self, era: u64) -> Option<usize> {
        let tracks = self.tracks.iter().enumerate().filter(|(_, track)| track.is_in(era));
        tracks.min_by_key(|(_, track)| (!track.is_video(), track.id())).map(|(at, _)| at)
    }

    /// A discontinuity, and everything that is counted from it.
    fn begin_era(&mut self, frame: &Frame) {
        let ends = self.finish();
        let number = self.era.map_or(0, |era| era.number.saturating_add(1));
        let since = i128::from(frame.origin.0).saturating_sub(self.anchor.mono.0.into());
        let since = i64::try_from(since).unwrap_or(0);
        // What comes later is not dated earlier, however late the frames before were.
        let wall = Wall(self.anchor.wall.0.saturating_add_signed(since)).max(ends.unwrap_or_default());
        // There is no time below 0 in a file. A second is a whole number of everybody's ticks.
        let before = self.era.map_or(Timestamp::ZERO, |era| era.origin);
        let fits = frame.dts.0 >= before.0.saturating_add(SECOND);
        let whole = frame.dts.0.div_euclid(SECOND).saturating_sub(1).saturating_mul(SECOND);
        let origin = if fits { before } else { Timestamp(whole) };
        self.era = Some(Era { number, origin, wall, pts: frame.pts });
    }

    /// Ends the open segment of each track, and says when the last frame was made.
    fn finish(&mut self) -> Option<Wall> {
        let era = self.era?;
        let mut ends = Some(era.wall);
        for track in self.tracks.iter_mut().filter(|track| track.is_in(era.number)) {
            ends = ends.max(track.finish(&self.rules, &self.shelf).map(|end| era.wall_at(end)));
        }
        self.decide(false);
        ends
    }

    /// Whether there is enough for playlists; then the target duration is what fits all segments so far.
    fn decide(&mut self, at_the_end: bool) {
        if self.ready {
            return;
        }
        let begun = || self.tracks.iter().filter(|track| track.has_begun());
        let enough = begun().any(|track| track.closed() > 0)
            && (begun().all(|track| track.closed() > 0) || begun().any(|track| track.closed() > 1));
        if !(enough || at_the_end && begun().any(|track| track.closed() > 0)) {
            return;
        }
        let longest = begun().map(Cutter::longest).max().unwrap_or(0);
        let target = rounded_seconds(longest).max(self.rules.least_target());
        self.rules.set_target(target);
        self.ready = true;
        self.shelf.set_target(target);
    }
}

impl FrameSink for Packager {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        if self.ended {
            return SinkVerdict::Done;
        }
        match frame.kind {
            FrameKind::Config if frame.codec.media() != Media::Data => self.announce(frame),
            FrameKind::Config | FrameKind::Data => {}
            _ if frame.codec.media() == Media::Data => {}
            _ => {
                if let Err(left_out) = self.media(frame) {
                    self.shelf.count(left_out);
                }
            }
        }
        SinkVerdict::Taken
    }

    fn on_gap(&mut self, frames: u64) {
        self.gap = true;
        self.shelf.count(LeftOut { lost: frames, ..LeftOut::default() });
    }

    fn on_end(&mut self, _reason: Reason) {
        if !self.ended {
            self.ended = true;
            self.finish();
            self.decide(true);
            self.shelf.end();
        }
    }
}

/// No stream is on for a century: what is farther away is no time.
const FARTHEST: i64 = 100 * 366 * 86_400 * SECOND;
const _: () = assert!(FARTHEST < i64::MAX / 2 && TRACKS_MAX <= u8::MAX as usize + 1);
