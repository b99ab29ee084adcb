//! Media playlists read back, by our own reading of RFC 8216bis.

use std::collections::BTreeSet;

/// One media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Playlist {
    pub(crate) version: u64,
    pub(crate) target: u64,
    pub(crate) sequence: u64,
    pub(crate) discontinuities: u64,
    pub(crate) independent: bool,
    pub(crate) part_target: Option<f64>,
    pub(crate) control: Vec<(String, String)>,
    pub(crate) skipped: Option<usize>,
    /// The last may be one that is not complete.
    pub(crate) segments: Vec<Segment>,
    pub(crate) hint: Option<String>,
    pub(crate) reports: Vec<Report>,
    pub(crate) ended: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) breaks: u64,
    /// What is written before it, not what is in force.
    pub(crate) map: Option<String>,
    pub(crate) date: Option<String>,
    /// Where the key is, and the initialization vector.
    pub(crate) key: Option<(String, u128)>,
    pub(crate) gap: bool,
    pub(crate) parts: Vec<Part>,
    /// Duration and URI, once it is complete.
    pub(crate) complete: Option<(f64, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) duration: f64,
    pub(crate) uri: String,
    pub(crate) independent: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) uri: String,
    pub(crate) msn: u64,
    pub(crate) part: Option<u64>,
}

impl Playlist {
    /// Reads one in which there is nothing that is not known here.
    pub(crate) fn read(text: &str) -> Self {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#EXTM3U"), "{text}");
        assert!(text.ends_with('\n') && text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
        let mut playlist = Self::default();
        let (mut segment, mut duration, mut once) = (Segment::default(), None, BTreeSet::new());
        let mut locked = false;
        for line in lines {
            assert!(!playlist.ended, "a line behind the end: {line}");
            let Some(tag) = line.strip_prefix('#') else {
                let duration = duration.take().unwrap_or_else(|| panic!("{line} has no duration\n{text}"));
                segment.complete = Some((duration, line.to_owned()));
                playlist.segments.push(std::mem::take(&mut segment));
                continue;
            };
            let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
            let repeated = [
                "EXT-X-DISCONTINUITY",
                "EXT-X-MAP",
                "EXT-X-PROGRAM-DATE-TIME",
                "EXT-X-PART",
                "EXTINF",
                "EXT-X-KEY",
                "EXT-X-GAP",
            ];
            let several = repeated.contains(&name) || name == "EXT-X-RENDITION-REPORT";
            assert!(several || once.insert(name.to_owned()), "{name} twice\n{text}");
            assert!(duration.is_none(), "{line} between a duration and its URI");
            let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
            match name {
                "EXT-X-VERSION" => playlist.version = number(),
                "EXT-X-TARGETDURATION" => playlist.target = number(),
                "EXT-X-MEDIA-SEQUENCE" => playlist.sequence = number(),
                "EXT-X-DISCONTINUITY-SEQUENCE" => playlist.discontinuities = number(),
                "EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent = true,
                "EXT-X-SERVER-CONTROL" => playlist.control = attributes(value),
                "EXT-X-PART-INF" => playlist.part_target = Some(decimal(&get(value, "PART-TARGET"))),
                "EXT-X-SKIP" => playlist.skipped = Some(get(value, "SKIPPED-SEGMENTS").parse().unwrap()),
                "EXT-X-DISCONTINUITY" => segment.breaks += 1,
                "EXT-X-MAP" => {
                    assert!(!locked, "a key holds for an initialization segment too\n{text}");
                    segment.map = Some(get(value, "URI"));
                }
                "EXT-X-PROGRAM-DATE-TIME" => segment.date = Some(value.to_owned()),
                "EXT-X-GAP" => segment.gap = true,
                "EXT-X-KEY" if value == "METHOD=NONE" => locked = false,
                "EXT-X-KEY" => {
                    assert_eq!(get(value, "METHOD"), "AES-128");
                    let iv = get(value, "IV");
                    let iv = u128::from_str_radix(iv.strip_prefix("0x").unwrap(), 16).unwrap();
                    assert!(segment.key.replace((get(value, "URI"), iv)).is_none());
                    locked = true;
                }
                "EXT-X-PART" => segment.parts.push(Part {
                    duration: decimal(&get(value, "DURATION")),
                    uri: get(value, "URI"),
                    independent: attributes(value)
                        .iter()
                        .any(|(name, value)| name == "INDEPENDENT" && value == "YES"),
                }),
                "EXTINF" => duration = Some(decimal(value.strip_suffix(',').unwrap_or_else(|| panic!("{line}")))),
                "EXT-X-PRELOAD-HINT" => {
                    assert_eq!(get(value, "TYPE"), "PART");
                    playlist.hint = Some(get(value, "URI"));
                }
                "EXT-X-RENDITION-REPORT" => playlist.reports.push(Report {
                    uri: get(value, "URI"),
                    msn: get(value, "LAST-MSN").parse().unwrap(),
                    part: attributes(value)
                        .iter()
                        .find(|(name, _)| name == "LAST-PART")
                        .map(|(_, part)| part.parse().unwrap()),
                }),
                "EXT-X-ENDLIST" => playlist.ended = true,
                _ => panic!("unknown: {line}"),
            }
        }
        if segment != Segment::default() {
            assert!(!segment.parts.is_empty(), "a segment without anything in it\n{text}");
            playlist.segments.push(segment);
        }
        for name in ["EXT-X-TARGETDURATION", "EXT-X-VERSION", "EXT-X-MEDIA-SEQUENCE"] {
            assert!(once.contains(name), "{name} is missing\n{text}");
        }
        playlist
    }

    pub(crate) fn control(&self, name: &str) -> Option<f64> {
        self.control.iter().find(|(known, _)| known == name).map(|(_, value)| decimal(value))
    }

    /// Seconds of all that is named.
    pub(crate) fn duration(&self) -> f64 {
        self.segments.iter().map(Segment::duration).sum()
    }

    /// The last segment that is named, and how many of its parts are.
    pub(crate) fn end(&self) -> (u64, usize) {
        let before = self.sequence + self.skipped.unwrap_or(0) as u64;
        let last = self.segments.last().map_or(0, |last| last.parts.len());
        (before + self.segments.len() as u64, last)
    }
}

impl Segment {
    pub(crate) fn duration(&self) -> f64 {
        match &self.complete {
            Some((duration, _)) => *duration,
            None => self.parts.iter().map(|part| part.duration).sum(),
        }
    }
}

/// `NAME=value,NAME="value, with a comma"`.
pub(crate) fn attributes(list: &str) -> Vec<(String, String)> {
    let (mut rest, mut out) = (list, Vec::new());
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("{list}"));
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or_else(|| panic!("{list}")),
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        assert!(out.iter().all(|(known, _)| known != name), "{name} twice in {list}");
        out.push((name.to_owned(), value.to_owned()));
        rest = behind.strip_prefix(',').unwrap_or_else(|| {
            assert!(behind.is_empty(), "{list}");
            behind
        });
    }
    out
}

fn get(list: &str, name: &str) -> String {
    let found = attributes(list).into_iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("{list} has no {name}")).1
}

fn decimal(text: &str) -> f64 {
    assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{text} is no decimal number");
    text.parse().unwrap()
}

/// Seconds in nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "no time of these tests is as long as that")]
pub(crate) fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}
