//! The manifest of MPEG-DASH (ISO/IEC 23009-1, 5), of the same segments: a period from each discontinuity to the next,
//! segments by their numbers, with a timeline.
//!
//! While the stream goes on, periods stand where their first frames were made; when it has ended, one behind the
//! other from zero. Left out: parts (low latency by chunks), events, a source of time.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::time::Duration;

use super::date::Date;
use super::name::{Name, TrackName};
use super::rendition::{Info, Rendition, Segment};
use super::{SECOND, nanos};
use crate::clock::Wall;
use crate::media::Timestamp;

/// What the manifest is written from.
pub(super) struct View<'a> {
    pub(super) epoch: u64,
    pub(super) renditions: &'a [Rendition],
    /// The target duration in seconds.
    pub(super) target: u64,
    /// How far back a player may go.
    pub(super) window: Duration,
    /// When the first frame of the stream was made.
    pub(super) begun: Wall,
    /// No segment follows.
    pub(super) ended: bool,
}

/// The segments of a track in one period.
struct Stretch<'a> {
    rendition: &'a Rendition,
    info: &'a Info,
    segments: Vec<&'a Segment>,
}

impl Stretch<'_> {
    /// When its first segment is presented, in nanoseconds of the file.
    fn start(&self) -> i64 {
        self.segments.first().map_or(0, |first| nanos_of(first.begin.present, self.info.timescale))
    }

    fn duration(&self) -> i64 {
        self.segments.iter().fold(0, |sum: i64, segment| sum.saturating_add(segment.duration))
    }
}

/// A duration of XML Schema, of nanoseconds.
struct Period(i64);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.max(0) / 1000;
        write!(f, "PT{}.{:06}S", micros / 1_000_000, micros % 1_000_000)
    }
}

impl View<'_> {
    pub(super) fn write(&self) -> Result<String, fmt::Error> {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let listed = || self.renditions.iter().flat_map(Rendition::listed);
        let eras: BTreeSet<u64> = listed().map(|segment| segment.begin.era).collect();
        let periods: Vec<(u64, Vec<Stretch<'_>>)> = eras.into_iter().map(|era| (era, self.stretches(era))).collect();
        let target = Period(seconds(self.target));
        write!(
            out,
            "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" \
             minBufferTime=\"{target}\" maxSegmentDuration=\"{}\"",
            Period(seconds(self.target).saturating_add(SECOND / 2))
        )?;
        if self.ended {
            let all = periods.iter().fold(0, |sum: i64, (_, stretches)| sum.saturating_add(length(stretches)));
            writeln!(out, " type=\"static\" mediaPresentationDuration=\"{}\">", Period(all))?;
        } else {
            let ends = listed().map(|segment| segment.begin.wall.0.saturating_add_signed(segment.duration)).max();
            writeln!(
                out,
                " type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" minimumUpdatePeriod=\"{target}\" \
                 timeShiftBufferDepth=\"{}\" suggestedPresentationDelay=\"{}\">",
                Date(self.begun),
                Date(Wall(ends.unwrap_or(self.begun.0))),
                Period(nanos(self.window)),
                Period(seconds(self.target.saturating_mul(3)))
            )?;
        }
        let mut start = 0_i64;
        for (era, stretches) in &periods {
            // What of the file is shown when the period begins.
            let mut offset = stretches.iter().map(Stretch::start).min().unwrap_or(0);
            if let Some(begin) = stretches.iter().find_map(|stretch| Some(stretch.segments.first()?.begin))
                && !self.ended
            {
                offset = begin.era_present;
                start = i64::try_from(begin.era_wall.0.saturating_sub(self.begun.0)).unwrap_or(i64::MAX);
            }
            writeln!(out, "<Period id=\"{era}\" start=\"{}\">", Period(start))?;
            self.write_sets(&mut out, stretches, offset)?;
            out.push_str("</Period>\n");
            start = start.saturating_add(length(stretches));
        }
        out.push_str("</MPD>\n");
        Ok(out)
    }

    fn stretches(&self, era: u64) -> Vec<Stretch<'_>> {
        let stretch = |rendition| {
            let segments: Vec<&Segment> =
                Rendition::listed(rendition).filter(|segment| segment.begin.era == era).collect();
            let (_, info) = rendition.init(segments.first()?.init)?;
            Some(Stretch { rendition, info, segments })
        };
        self.renditions.iter().filter_map(stretch).collect()
    }

    /// All pictures of one codec are one set to choose from; each sound is a set of its own.
    fn write_sets(&self, out: &mut String, stretches: &[Stretch<'_>], offset: i64) -> fmt::Result {
        let family = |stretch: &Stretch<'_>| {
            let codec = stretch.info.description.codec_string.split('.').next().unwrap_or_default().to_owned();
            let TrackName { video, number } = stretch.rendition.name;
            if video { (codec, 0) } else { (codec, number) }
        };
        let mut sets: Vec<Vec<&Stretch<'_>>> = Vec::new();
        for stretch in stretches {
            let video = stretch.rendition.name.video;
            let same = |set: &&mut Vec<&Stretch<'_>>| {
                set.first().is_some_and(|one| one.rendition.name.video == video && family(one) == family(stretch))
            };
            match sets.iter_mut().find(same) {
                Some(set) => set.push(stretch),
                None => sets.push(vec![stretch]),
            }
        }
        for (nth, set) in sets.iter().enumerate() {
            let video = set.first().is_some_and(|one| one.rendition.name.video);
            let kind = if video { "video" } else { "audio" };
            write!(out, "<AdaptationSet id=\"{nth}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\"")?;
            if set.iter().all(|one| !one.rendition.dependent) {
                out.push_str(" startWithSAP=\"1\"");
            }
            out.push_str(">\n");
            for stretch in set {
                self.write_representation(out, stretch, offset)?;
            }
            out.push_str("</AdaptationSet>\n");
        }
        Ok(())
    }

    fn write_representation(&self, out: &mut String, stretch: &Stretch<'_>, offset: i64) -> fmt::Result {
        let Stretch { rendition, info, segments } = stretch;
        let Some(first) = segments.first() else { return Ok(()) };
        let (name, timescale, description) = (rendition.name, info.timescale, &info.description);
        let codecs = &description.codec_string;
        write!(out, "<Representation id=\"{name}\" codecs=\"{codecs}\" bandwidth=\"{}\"", rendition.bandwidth().0)?;
        if let Some((width, height)) = description.size {
            write!(out, " width=\"{width}\" height=\"{height}\"")?;
        }
        if let Some(rate) = description.frame_rate {
            write!(out, " frameRate=\"{rate}\"")?;
        }
        if let Some(rate) = description.sample_rate {
            write!(out, " audioSamplingRate=\"{rate}\"")?;
        }
        out.push_str(">\n");
        if let Some(channels) = description.channels {
            writeln!(
                out,
                "<AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" \
                 value=\"{channels}\"/>"
            )?;
        }
        let init = Name::Init(self.epoch, name, first.init);
        writeln!(
            out,
            "<SegmentTemplate timescale=\"{timescale}\" presentationTimeOffset=\"{}\" startNumber=\"{}\" \
             initialization=\"{init}\" media=\"seg-{:x}-{name}-$Number$.m4s\">\n<SegmentTimeline>",
            Timestamp(offset).as_ticks(timescale).max(0),
            first.msn,
            self.epoch
        )?;
        // Equal durations are written once; a segment lasts until the next one is decoded.
        let mut start = Some(first.begin.present);
        let mut same: Option<(u64, u64)> = None;
        for (nth, segment) in segments.iter().enumerate() {
            let next = nth.checked_add(1).and_then(|next| segments.get(next)).map(|next| next.begin.decode);
            let own = u64::try_from(Timestamp(segment.duration).as_ticks(timescale)).unwrap_or(0);
            let duration = next.map_or(own, |next| next.saturating_sub(segment.begin.decode));
            match &mut same {
                Some((of, more)) if *of == duration => *more = more.saturating_add(1),
                _ => {
                    write_durations(out, &mut start, same)?;
                    same = Some((duration, 0));
                }
            }
        }
        write_durations(out, &mut start, same)?;
        out.push_str("</SegmentTimeline>\n</SegmentTemplate>\n</Representation>\n");
        Ok(())
    }
}

fn write_durations(out: &mut String, start: &mut Option<u64>, same: Option<(u64, u64)>) -> fmt::Result {
    let Some((duration, more)) = same else { return Ok(()) };
    out.push_str("<S");
    if let Some(start) = start.take() {
        write!(out, " t=\"{start}\"")?;
    }
    write!(out, " d=\"{duration}\"")?;
    if more > 0 {
        write!(out, " r=\"{more}\"")?;
    }
    out.push_str("/>\n");
    Ok(())
}

/// From where the first track begins to where the last one ends.
fn length(stretches: &[Stretch<'_>]) -> i64 {
    let start = stretches.iter().map(Stretch::start).min().unwrap_or(0);
    let end = stretches.iter().map(|stretch| stretch.start().saturating_add(stretch.duration())).max();
    end.unwrap_or(0).saturating_sub(start)
}

fn nanos_of(ticks: u64, timescale: u32) -> i64 {
    Timestamp::from_ticks(i64::try_from(ticks).unwrap_or(i64::MAX), timescale).0
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND)
}
