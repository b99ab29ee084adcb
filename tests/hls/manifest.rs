//! The manifest of MPEG-DASH says the same of the same segments as the playlists of HLS.

use std::collections::BTreeMap;

use crate::parsed::{Playlist, nanos};

/// A segment as the manifest has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) uri: String,
    pub(crate) init: String,
    /// When it is presented: on the clock of the wall, or from the begin of what has ended. In nanoseconds.
    pub(crate) at: i64,
    pub(crate) duration: i64,
}

/// The segments of each representation.
pub(crate) fn read(text: &str) -> BTreeMap<String, Vec<Named>> {
    let (mut out, mut open) = (BTreeMap::<String, Vec<Named>>::new(), Vec::new());
    let (mut mpd, mut period, mut id, mut template) =
        (BTreeMap::new(), BTreeMap::new(), String::new(), BTreeMap::new());
    let (mut time, mut number) = (0, 0);
    for tag in text.split('<').skip(1) {
        let (tag, behind) = tag.split_once('>').unwrap_or_else(|| panic!("{text}"));
        assert_eq!(behind.trim(), "", "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{text}");
            continue;
        }
        if tag.starts_with('?') {
            continue;
        }
        let (name, attributes) = (tag.split([' ', '/']).next().unwrap(), attributes(tag));
        match name {
            "MPD" => mpd = attributes,
            "Period" => period = attributes,
            "Representation" => id = attributes["id"].clone(),
            "SegmentTemplate" => {
                template = attributes;
                number = template["startNumber"].parse::<u64>().unwrap();
            }
            "S" => {
                let scale: i64 = template["timescale"].parse().unwrap();
                let ticks = |text: &str| text.parse::<i64>().unwrap();
                time = attributes.get("t").map_or(time, |start| ticks(start));
                let duration = ticks(&attributes["d"]);
                for _ in 0..=attributes.get("r").map_or(0, |more| ticks(more)) {
                    let shown = (time - ticks(&template["presentationTimeOffset"])) * 1_000_000_000 / scale;
                    let begin = mpd.get("availabilityStartTime").map_or(0, |date| date_nanos(date));
                    out.entry(id.clone()).or_default().push(Named {
                        uri: template["media"].replace("$Number$", &number.to_string()),
                        init: template["initialization"].clone(),
                        at: begin + duration_nanos(&period["start"]) + shown,
                        duration: duration * 1_000_000_000 / scale,
                    });
                    (time, number) = (time + duration, number + 1);
                }
            }
            "AdaptationSet" | "SegmentTimeline" | "AudioChannelConfiguration" => {}
            _ => panic!("unknown: {tag}"),
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!((open, &*mpd["profiles"]), (vec![], "urn:mpeg:dash:profile:isoff-live:2011"));
    out
}

/// Both name the same segments, of the same durations, at the same times.
pub(crate) fn agrees<'a>(text: &str, playlists: impl Iterator<Item = (&'a String, &'a Playlist)>) {
    let manifest = read(text);
    let dynamic = text.contains("type=\"dynamic\"");
    for (name, playlist) in playlists {
        let complete: Vec<_> = playlist.segments.iter().filter(|segment| segment.complete.is_some()).collect();
        let Some(named) = manifest.get(name.strip_suffix(".m3u8").unwrap()) else {
            assert!(complete.is_empty(), "{name} is not in\n{text}");
            continue;
        };
        assert_eq!(named.len(), complete.len(), "{name}\n{text}");
        let mut map = None;
        for (named, segment) in named.iter().zip(complete) {
            let (duration, uri) = segment.complete.as_ref().unwrap();
            map = segment.map.as_ref().or(map);
            assert_eq!((&named.uri, Some(&named.init)), (uri, map), "{text}");
            // A tick of what is at least 8 kHz on either side.
            assert!((named.duration - nanos(*duration)).abs() < 260_000, "{named:?}: {duration}");
            if dynamic {
                let apart = named.at - date_nanos(segment.date.as_ref().unwrap());
                // Dates have milliseconds. They are those of the first picture that is decoded, which may not be the
                // first that is shown.
                let most = if playlist.independent { 100_000_000 } else { 300_000_000 };
                assert!((-most..2_000_000).contains(&apart), "{named:?}: {:?}", segment.date);
            }
        }
    }
}

fn attributes(tag: &str) -> BTreeMap<String, String> {
    let (mut out, mut rest) = (BTreeMap::new(), tag.split_once(' ').map_or("", |(_, rest)| rest));
    while let Some((name, value)) = rest.split_once("=\"") {
        let (value, behind) = value.split_once('"').unwrap_or_else(|| panic!("{tag}"));
        assert!(out.insert(name.trim().to_owned(), value.to_owned()).is_none(), "{tag}");
        rest = behind;
    }
    out
}

/// `PT1.5S`.
fn duration_nanos(text: &str) -> i64 {
    let seconds = text.strip_prefix("PT").and_then(|text| text.strip_suffix('S'));
    nanos(seconds.unwrap_or_else(|| panic!("{text}")).parse().unwrap())
}

/// Nanoseconds since the beginning of 2026, of dates in this century.
fn date_nanos(text: &str) -> i64 {
    let (day, time) =
        text.strip_suffix('Z').and_then(|text| text.split_once('T')).unwrap_or_else(|| panic!("{text}"));
    let fields: Vec<i64> = day.split('-').map(|field| field.parse().unwrap()).collect();
    let (year, month, day) = (fields[0], fields[1], fields[2]);
    let days = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][usize::try_from(month - 1).unwrap()];
    let leap = i64::from(year % 4 == 0 && month > 2);
    let days = (year - 2026) * 365 + (year - 1).div_euclid(4) - 2025 / 4 + days + leap + day - 1;
    let mut fields = time.split(':');
    let mut next = || fields.next().unwrap().parse::<f64>().unwrap();
    let seconds = (next() * 60.0 + next()) * 60.0 + next();
    days * 86_400 * 1_000_000_000 + nanos(seconds)
}
