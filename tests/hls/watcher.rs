//! Looks at everything that a shelf offers, over and over, and compares it with the rules and with what it was before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use shardcast::container::fmp4::{Demuxer, Event};
use shardcast::media::{Frame, Media, Timestamp, Track};
use shardcast::record::hls::{Answer, MANIFEST, MULTIVARIANT, Request, Resource, Shelf};

use crate::parsed::{Playlist, Segment, nanos};
use crate::{manifest, oracle};

/// What rounds off a decimal of microseconds, per number.
const MICRO: f64 = 0.000_001;
/// Of so many looks one is at all files that are named.
const LOOKS_AGAIN: usize = 16;

/// What may be so of a stream that is not regular.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leniency {
    /// Frames last so differently that no part target fits all.
    pub(crate) short_parts: bool,
    /// Segments go for want of room.
    pub(crate) crowded: bool,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    shelf: Arc<Shelf>,
    leniency: Leniency,
    seen: BTreeMap<String, Seen>,
    /// What each URI held, by its fingerprint.
    files: BTreeMap<String, u64>,
    target: Option<u64>,
    version: Option<u64>,
    /// Hints that were followed by something else.
    pub(crate) hints_missed: usize,
    pub(crate) looks: usize,
}

/// What is known of a media playlist.
#[derive(Debug, Default)]
struct Seen {
    last: Option<Playlist>,
    /// Each segment by its sequence number: what was written of it, which discontinuity it is behind, its map.
    segments: BTreeMap<u64, (Segment, u64, String)>,
    /// When a segment was no longer named: the time of the playlist's end, and how long that playlist was.
    gone: BTreeMap<u64, (f64, f64)>,
    /// Seconds of all segments so far.
    time: f64,
    longest: f64,
    /// Whether a segment that is complete was looked into.
    opened: BTreeSet<u64>,
    /// Where the last one that was looked into ends.
    end: Option<(u64, u64, Timestamp)>,
}

impl Watcher {
    pub(crate) fn new(shelf: Arc<Shelf>, leniency: Leniency) -> Self {
        Self {
            shelf,
            leniency,
            seen: BTreeMap::new(),
            files: BTreeMap::new(),
            target: None,
            version: None,
            hints_missed: 0,
            looks: 0,
        }
    }

    /// Looks at everything, if anything has changed.
    pub(crate) fn look(&mut self) {
        let version = self.shelf.version();
        if self.version.replace(version) == Some(version) {
            return;
        }
        let index = match self.shelf.get(&Request { path: MULTIVARIANT, ..Request::default() }) {
            Answer::Ready(resource) => text(&resource),
            Answer::Wait | Answer::NotFound => {
                assert!(self.seen.is_empty(), "playlists do not go away");
                return;
            }
            Answer::Bad(why) => panic!("{why}"),
        };
        self.looks += 1;
        let names = media_playlists(&index);
        assert!(!names.is_empty(), "{index}");
        let playlists: Vec<(String, Playlist)> = names.into_iter().map(|name| self.playlist(name)).collect();
        for (name, playlist) in &playlists {
            let mut seen = self.seen.remove(name).unwrap_or_default();
            self.rules(name, playlist);
            self.history(name, playlist, &mut seen);
            self.contents(name, playlist, &mut seen);
            self.reports(playlist, &playlists);
            self.requests(name, playlist);
            seen.last = Some(playlist.clone());
            self.seen.insert(name.clone(), seen);
        }
        let mpd = self.ready(&Request { path: MANIFEST, ..Request::default() });
        assert_eq!(mpd.content_type, "application/dash+xml");
        let mpd = String::from_utf8(mpd.body.concat()).expect("it is text");
        manifest::agrees(&mpd, playlists.iter().map(|(name, playlist)| (name, playlist)));
    }

    /// How many complete segments of a playlist were looked into.
    pub(crate) fn segments(&self, name: &str) -> usize {
        self.seen.get(name).map_or(0, |seen| seen.opened.len())
    }

    pub(crate) fn playlists(&self) -> impl Iterator<Item = (&String, &Playlist)> {
        self.seen.iter().filter_map(|(name, seen)| Some((name, seen.last.as_ref()?)))
    }

    /// A playlist, whole and as a delta update, which must come to the same.
    fn playlist(&self, name: String) -> (String, Playlist) {
        let whole = text(&self.ready(&Request { path: &name, ..Request::default() }));
        oracle::reads(&whole);
        let whole = Playlist::read(&whole);
        let delta = Playlist::read(&text(&self.ready(&Request { path: &name, skip: true, ..Request::default() })));
        let skipped = delta.skipped.unwrap_or(0);
        assert_eq!(skipped + delta.segments.len(), whole.segments.len(), "{name}");
        if skipped == 0 {
            assert_eq!(delta, whole, "{name}");
            return (name, whole);
        }
        let boundary = whole.control("CAN-SKIP-UNTIL").expect("a delta update is only where it was offered");
        let behind: f64 = whole.segments[skipped..].iter().map(Segment::duration).sum();
        assert!(behind >= boundary - 0.001, "{name}: {behind} s are left of {boundary}");
        let mut applied = delta.clone();
        applied.skipped = None;
        applied.segments = [&whole.segments[..skipped], &delta.segments].concat();
        assert_eq!(applied, whole, "{name}");
        assert!(delta.version >= 9, "{name}");
        (name, whole)
    }

    fn rules(&mut self, name: &str, playlist: &Playlist) {
        assert_eq!(*self.target.get_or_insert(playlist.target), playlist.target, "{name}: all have one target");
        let target = playlist.target as f64;
        assert!(playlist.version >= 6, "EXT-X-MAP");
        assert!(playlist.control("HOLD-BACK").unwrap() >= 3.0 * target);
        if let Some(part_target) = playlist.part_target {
            assert!(playlist.control("PART-HOLD-BACK").unwrap() >= 3.0 * part_target - MICRO);
            assert!(playlist.control("CAN-SKIP-UNTIL").unwrap() >= 6.0 * target);
        }
        let count = playlist.segments.len();
        for (nth, segment) in playlist.segments.iter().enumerate() {
            if let Some((duration, _)) = segment.complete {
                assert!((duration + 0.5).floor() <= target, "{name}: {duration} s, target {target}");
                let parts: f64 = segment.parts.iter().map(|part| part.duration).sum();
                let rounding = MICRO * (segment.parts.len() + 1) as f64;
                assert!(segment.parts.is_empty() || (parts - duration).abs() < rounding, "{name}: {segment:?}");
            } else {
                assert_eq!(nth + 1, count, "{name}: only the last one is not complete");
                assert!(playlist.hint.is_some() || playlist.ended, "{name}");
            }
            assert!(segment.date.is_some() && (nth > 0 || segment.map.is_some()), "{name}: {segment:?}");
            for (at, part) in segment.parts.iter().enumerate() {
                let part_target = playlist.part_target.expect("without a target there are no parts");
                assert!(part.duration <= part_target + MICRO, "{name}: {part:?}, target {part_target}");
                let least = if at + 1 == segment.parts.len() || self.leniency.short_parts { 0.0 } else { 0.85 };
                assert!(part.duration >= least * part_target, "{name}: {part:?}, target {part_target}");
            }
        }
        // What is newer than three target durations has parts, all of what is named.
        let mut behind = 0.0;
        for segment in playlist.segments.iter().rev() {
            if behind > 3.0 * target {
                assert!(segment.parts.is_empty(), "{name}: parts of what is long complete");
            }
            behind += segment.duration();
        }
    }

    fn history(&mut self, name: &str, playlist: &Playlist, seen: &mut Seen) {
        let mut discontinuity = playlist.discontinuities;
        let mut map = None;
        for (msn, segment) in (playlist.sequence..).zip(&playlist.segments) {
            discontinuity += segment.breaks;
            map = segment.map.clone().or(map);
            let map = map.clone().expect("the first one has a map");
            let Some((before, of, with)) = seen.segments.get(&msn) else {
                seen.segments.insert(msn, (segment.clone(), discontinuity, map));
                continue;
            };
            let what = format!("{name}: segment {msn}, {before:?}, {segment:?}");
            assert_eq!((*of, with, &before.date), (discontinuity, &map, &segment.date), "{what}");
            if !segment.parts.is_empty() {
                let same = before.parts.len().min(segment.parts.len());
                assert!(before.parts.is_empty() || segment.parts.len() >= before.parts.len(), "{what}");
                assert_eq!(before.parts[..same], segment.parts[..same], "{what}");
            }
            assert!(before.complete.is_none() || before.complete == segment.complete, "{what}");
            seen.segments.insert(msn, (segment.clone(), discontinuity, map));
        }
        let complete: f64 = playlist
            .segments
            .iter()
            .filter_map(|segment| segment.complete.as_ref().map(|(duration, _)| duration))
            .sum();
        let Some(last) = &seen.last else {
            seen.time = playlist.duration();
            seen.longest = seen.time;
            return;
        };
        assert!(playlist.sequence >= last.sequence && playlist.end() >= last.end(), "{name}");
        assert!(!last.ended || playlist == last, "{name} goes on behind its end");
        assert_eq!(playlist.part_target, last.part_target, "{name}");
        assert!(last.independent || !playlist.independent, "{name}");
        let new = usize::try_from(playlist.end().0.saturating_sub(last.end().0)).unwrap();
        let again = usize::from(last.segments.last().is_some_and(|last| last.complete.is_none()));
        let news = &playlist.segments[playlist.segments.len().saturating_sub(new + again)..];
        let open = last.segments.last().filter(|last| last.complete.is_none()).map_or(0.0, Segment::duration);
        seen.time += news.iter().map(Segment::duration).sum::<f64>() - open;
        for msn in last.sequence..playlist.sequence {
            seen.gone.insert(msn, (seen.time, seen.longest));
            if !self.leniency.crowded {
                assert!(complete >= 3.0 * playlist.target as f64 - 0.001, "{name}: only {complete} s are left");
            }
        }
        seen.longest = seen.longest.max(playlist.duration());
        // The hint was right, unless the segment has become one without parts.
        if let Some(hint) = last.hint.as_ref().filter(|_| playlist.hint.as_ref() != Some(hint(last))) {
            let named = playlist.segments.iter().flat_map(|segment| &segment.parts).any(|part| part.uri == *hint);
            self.hints_missed += usize::from(!named && !playlist.ended);
        }
    }

    /// What is named is there, is the same as ever, and holds what it should.
    fn contents(&mut self, name: &str, playlist: &Playlist, seen: &mut Seen) {
        for (msn, segment) in (playlist.sequence..).zip(&playlist.segments) {
            // All that is named is asked for now and then, to see that it is still the same.
            let known = seen.opened.contains(&msn) || segment.complete.is_none() && segment.parts.is_empty();
            if known && !self.looks.is_multiple_of(LOOKS_AGAIN) {
                continue;
            }
            let (_, era, map) = seen.segments[&msn].clone();
            let init = self.file(&map);
            let mut whole = Vec::new();
            for part in &segment.parts {
                let known = self.files.contains_key(&part.uri);
                let bytes = self.file(&part.uri);
                if !known {
                    let (track, frames) = demux(&init, &bytes);
                    assert!(!frames.is_empty(), "{}", part.uri);
                    let key = frames[0].is_key() || track.codec.media() == Media::Audio;
                    assert_eq!(part.independent, key, "{}", part.uri);
                }
                whole.extend_from_slice(&bytes);
            }
            let Some((duration, uri)) = &segment.complete else { continue };
            let bytes = self.file(uri);
            assert!(segment.parts.is_empty() || bytes == whole, "{uri} is not its parts");
            if !seen.opened.insert(msn) {
                continue;
            }
            let (track, frames) = demux(&init, &bytes);
            let key = frames[0].is_key() || track.codec.media() == Media::Audio;
            assert!(key || !playlist.independent, "{name}: {uri} is said to be independent");
            let start = frames[0].dts;
            if let Some((before, of, end)) = seen.end
                && before + 1 == msn
                && of == era
            {
                let apart = (start.0 - end.0) as f64 / 1e9;
                // A tick of what is at least 8 kHz, on either side, and a microsecond.
                assert!(apart.abs() < 0.000_26, "{name}: {apart} s before {uri}");
            }
            seen.end = Some((msn, era, Timestamp(start.0 + nanos(*duration))));
        }
        // What is no longer named stays for as long as players may want it.
        for (msn, (time, longest)) in &seen.gone {
            let Some((segment, ..)) = seen.segments.get(msn) else { continue };
            let Some((duration, uri)) = &segment.complete else { continue };
            let answer = self.shelf.get(&Request { path: uri, ..Request::default() });
            if seen.time - time < duration + longest - 0.001 && !self.leniency.crowded {
                assert!(matches!(answer, Answer::Ready(_)), "{uri} is gone after {} s", seen.time - time);
            } else if seen.time - time > 3.0 * (duration + longest) + 12.0 {
                assert_eq!(answer, Answer::NotFound, "{uri} is still there");
            }
        }
    }

    fn reports(&self, playlist: &Playlist, all: &[(String, Playlist)]) {
        let others = playlist.reports.iter().map(|report| &report.uri).collect::<BTreeSet<_>>();
        assert_eq!(others.len(), playlist.reports.len());
        if !playlist.ended && playlist.part_target.is_some() && playlist.hint.is_some() {
            assert!(playlist.reports.len() < all.len());
        }
        for report in &playlist.reports {
            let (name, other) = all.iter().find(|(name, _)| *name == report.uri).expect("it is of another one");
            let (end, parts) = other.end();
            assert_eq!(report.msn + 1, end, "{name}");
            if let Some(last) = report.part {
                assert_eq!(last + 1, parts as u64, "{name}");
            }
        }
    }

    /// Blocking requests: what is there, what is about to come, and what nobody may ask for.
    fn requests(&self, name: &str, playlist: &Playlist) {
        let get = |msn, part| self.shelf.get(&Request { path: name, msn: Some(msn), part, skip: false });
        let (end, parts) = playlist.end();
        let open = playlist.segments.last().is_some_and(|last| last.complete.is_none());
        let next = if open { end - 1 } else { end };
        assert!(matches!(get(playlist.sequence, None), Answer::Ready(_)) || next == playlist.sequence);
        assert!(matches!(get(0, Some(0)), Answer::Ready(_)) || next == 0);
        if playlist.ended || self.shelf.is_ended() {
            assert!(matches!(get(next + 1_000_000_000, None), Answer::Ready(_)), "nobody waits for what has ended");
            if let Some((_, uri)) = playlist.segments.last().and_then(|last| last.complete.as_ref()) {
                let (before, _) = uri.rsplit_once('-').unwrap();
                let part = format!("{}-{next}-0.m4s", before.replacen("seg", "part", 1));
                assert_eq!(
                    self.shelf.get(&Request { path: &part, ..Request::default() }),
                    Answer::NotFound,
                    "{part}"
                );
            }
            return;
        }
        assert_eq!(get(next, None), Answer::Wait);
        assert_eq!(get(next + 1, None), Answer::Wait);
        assert!(matches!(get(next + 2, None), Answer::Bad(_)));
        assert!(matches!(get(1_000_000_000_000, None), Answer::Bad(_)));
        let none = Request { path: name, part: Some(0), ..Request::default() };
        assert!(matches!(self.shelf.get(&none), Answer::Bad(_)));
        if playlist.part_target.is_some() {
            let there = if open { u32::try_from(parts).unwrap() } else { 0 };
            if there > 0 {
                assert!(matches!(get(next, Some(there - 1)), Answer::Ready(_)));
            }
            assert_eq!(get(next, Some(there)), Answer::Wait);
            assert!(matches!(get(next, Some(there + 1000)), Answer::Bad(_)));
        }
        if let Some(hint) = &playlist.hint {
            assert_eq!(self.shelf.get(&Request { path: hint, ..Request::default() }), Answer::Wait, "{hint}");
        }
    }

    fn ready(&self, request: &Request<'_>) -> Resource {
        match self.shelf.get(request) {
            Answer::Ready(resource) => resource,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// A file that never changes.
    fn file(&mut self, uri: &str) -> Bytes {
        let resource = self.ready(&Request { path: uri, ..Request::default() });
        assert!(resource.immutable && resource.content_type.ends_with("/mp4"), "{uri}: {resource:?}");
        let bytes = resource.body.concat();
        assert_eq!(bytes.len() as u64, resource.length());
        let print = fingerprint(&bytes);
        assert_eq!(*self.files.entry(uri.to_owned()).or_insert(print), print, "{uri} has changed");
        bytes.into()
    }
}

fn hint(playlist: &Playlist) -> &String {
    playlist.hint.as_ref().expect("the caller has looked")
}

/// The media playlists that a multivariant playlist names.
pub(crate) fn media_playlists(index: &str) -> Vec<String> {
    let mut names = BTreeSet::new();
    for line in index.lines() {
        if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:") {
            let uri = crate::parsed::attributes(list).into_iter().find(|(name, _)| name == "URI");
            names.insert(uri.expect("every rendition has a playlist").1);
        } else if !line.starts_with('#') {
            names.insert(line.to_owned());
        }
    }
    names.into_iter().collect()
}

pub(crate) fn text(resource: &Resource) -> String {
    assert_eq!(resource.content_type, "application/vnd.apple.mpegurl");
    assert!(!resource.immutable);
    String::from_utf8(resource.body.concat()).expect("a playlist is text")
}

/// The frames of a segment or of a part.
pub(crate) fn demux(init: &[u8], bytes: &[u8]) -> (Track, Vec<Frame>) {
    let (mut demuxer, mut track, mut frames) = (Demuxer::new(), None, Vec::new());
    let mut all = Bytes::from([init, bytes].concat());
    while let Some(event) = demuxer.push(&mut all).expect("what we write we can read") {
        match event {
            Event::Track(one) => assert!(track.replace(one).is_none(), "one track in each file"),
            Event::Frame(frame) => frames.push(frame),
        }
    }
    assert!(demuxer.is_at_end(), "a file that is cut off");
    (track.expect("there is a track"), frames)
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
