//! Media playlists (RFC 8216bis, 4.4), whole or as delta updates (6.2.5.1).

use std::fmt::{self, Write};

use super::SECOND;
use super::date::Date;
use super::name::Name;
use super::rendition::{Content, Rendition, Segment};

/// What a client may leave out is at least so many target durations before the end.
const SKIP_TARGETS: u64 = 6;
/// Parts of segments so many target durations before the end are named.
const PART_TARGETS: i64 = 3;
/// How far before the end a player plays, in target durations and in part targets.
const HOLD_BACK: u64 = 3;

/// What a media playlist is written from.
pub(super) struct View<'a> {
    pub(super) epoch: u64,
    /// The target duration in seconds.
    pub(super) target: u64,
    pub(super) rendition: &'a Rendition,
    pub(super) all: &'a [Rendition],
    /// No segment follows.
    pub(super) ended: bool,
    pub(super) end_list: bool,
    /// Segments are encrypted.
    pub(super) locked: bool,
}

/// Nanoseconds as seconds with six decimals.
struct Seconds(i64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.max(0).saturating_add(500) / 1000;
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

impl View<'_> {
    /// Segments at the begin of the playlist that a delta update leaves out.
    pub(super) fn skippable(&self) -> usize {
        if self.rendition.part_target.is_none() {
            return 0;
        }
        let boundary = self.seconds(SKIP_TARGETS);
        let open = self.rendition.open.as_ref().filter(|open| !open.plain);
        let mut behind = open.map_or(0, |open| open.duration);
        let mut kept = 0_usize;
        for segment in self.rendition.listed().rev() {
            if behind >= boundary {
                break;
            }
            behind = behind.saturating_add(segment.duration);
            kept = kept.saturating_add(1);
        }
        self.rendition.listed().count().saturating_sub(kept)
    }

    /// Writes it without so many of the first segments.
    pub(super) fn write(&self, skipped: usize) -> Result<String, fmt::Error> {
        let rendition = self.rendition;
        let mut out = String::with_capacity(LINES_BYTES);
        self.write_header(&mut out, skipped)?;
        let listed = rendition.listed().chain(&rendition.open);
        let before = skipped.checked_sub(1).and_then(|at| rendition.listed().nth(at));
        let mut init = before.map(|segment| segment.init);
        let mut left = listed.clone().fold(0_i64, |sum, segment| sum.saturating_add(segment.duration));
        for (nth, segment) in listed.enumerate() {
            left = left.saturating_sub(segment.duration);
            if nth < skipped {
                continue;
            }
            let complete = rendition.next_msn > segment.msn;
            let parts = !segment.plain && left < self.seconds(PART_TARGETS.unsigned_abs());
            if complete || parts {
                self.write_segment(&mut out, segment, init, parts, complete)?;
            }
            init = Some(segment.init);
        }
        if self.ended {
            if self.end_list {
                out.push_str("#EXT-X-ENDLIST\n");
            }
            return Ok(out);
        }
        if let Some((msn, part)) = rendition.hint() {
            let part = Name::Part(self.epoch, rendition.name, msn, part);
            writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{part}\"")?;
        }
        if rendition.part_target.is_some() {
            self.write_reports(&mut out)?;
        }
        Ok(out)
    }

    fn write_header(&self, out: &mut String, skipped: usize) -> fmt::Result {
        let rendition = self.rendition;
        let first = rendition.listed().next().or(rendition.open.as_ref());
        let sequence = first.map_or(rendition.next_msn, |segment| segment.msn);
        let discontinuities = first.map_or(0, |segment| segment.begin.era.saturating_sub(segment.breaks));
        // EXT-X-MAP needs 6, EXT-X-SKIP 9 (8); EXT-X-GAP came with 8.
        let version = match rendition.part_target {
            Some(_) => 9,
            None if self.locked => 8,
            None => 6,
        };
        writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}", self.target)?;
        let hold_back = self.target.saturating_mul(HOLD_BACK);
        if let Some(part) = rendition.part_target {
            let skip = self.target.saturating_mul(SKIP_TARGETS);
            let part_hold_back = Seconds(part.saturating_mul(HOLD_BACK.cast_signed()));
            writeln!(
                out,
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={skip}.0,HOLD-BACK={hold_back}.0,\
                 PART-HOLD-BACK={part_hold_back}"
            )?;
            writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", Seconds(part))?;
        } else {
            writeln!(out, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK={hold_back}.0")?;
        }
        writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{sequence}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}")?;
        if !rendition.dependent {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        if skipped > 0 {
            writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
        }
        Ok(())
    }

    fn write_segment(
        &self,
        out: &mut String,
        segment: &Segment,
        init: Option<u64>,
        parts: bool,
        complete: bool,
    ) -> fmt::Result {
        let name = self.rendition.name;
        for _ in 0..segment.breaks {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if init != Some(segment.init) {
            if self.locked && init.is_some() {
                // A key would hold for what comes between it and the next one.
                out.push_str("#EXT-X-KEY:METHOD=NONE\n");
            }
            writeln!(out, "#EXT-X-MAP:URI=\"{}\"", Name::Init(self.epoch, name, segment.init))?;
        }
        match &segment.content {
            Content::Clear => {}
            Content::Locked(lock) => {
                writeln!(out, "#EXT-X-KEY:METHOD=AES-128,URI=\"{}\",IV=0x{:032x}", lock.uri, lock.iv)?;
            }
            Content::Gap => out.push_str("#EXT-X-GAP\n"),
        }
        writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", Date(segment.begin.wall))?;
        if parts {
            for (nth, part) in segment.parts.iter().enumerate() {
                let uri = Name::Part(self.epoch, name, segment.msn, nth as u64);
                let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
                writeln!(out, "#EXT-X-PART:DURATION={},URI=\"{uri}\"{independent}", Seconds(part.duration))?;
            }
        }
        if complete {
            let uri = Name::Segment(self.epoch, name, segment.msn);
            writeln!(out, "#EXTINF:{},\n{uri}", Seconds(segment.duration))?;
        }
        Ok(())
    }

    fn write_reports(&self, out: &mut String) -> fmt::Result {
        for other in self.all.iter().filter(|other| other.name != self.rendition.name) {
            let (msn, parts) = match (&other.open, other.segments.back()) {
                (Some(open), _) if !open.plain => (open.msn, open.parts.len()),
                (_, Some(last)) => (last.msn, if last.plain { 0 } else { last.parts.len() }),
                _ => continue,
            };
            write!(out, "#EXT-X-RENDITION-REPORT:URI=\"{}\",LAST-MSN={msn}", Name::Playlist(other.name))?;
            match parts.checked_sub(1) {
                Some(last) => writeln!(out, ",LAST-PART={last}")?,
                None => out.push('\n'),
            }
        }
        Ok(())
    }

    fn seconds(&self, targets: u64) -> i64 {
        i64::try_from(self.target.saturating_mul(targets)).unwrap_or(i64::MAX).saturating_mul(SECOND)
    }
}

/// What a usual playlist has.
const LINES_BYTES: usize = 8 * 1024;
