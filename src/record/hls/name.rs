//! Names of files: no text of a user's is in them, and none is used twice.
//!
//! `video0.m3u8`, `init-E-video0-N.mp4`, `seg-E-video0-MSN.m4s`, `part-E-video0-MSN-PART.m4s`: E is the time at which
//! the packager began, in nanoseconds, as a hexadecimal number.

use std::fmt;

/// A media playlist's name: the how-manieth track of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackName {
    pub(super) video: bool,
    pub(super) number: u8,
}

impl fmt::Display for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.video { "video" } else { "audio" }, self.number)
    }
}

/// A file that a playlist may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The multivariant playlist.
    Multivariant,
    /// The manifest of MPEG-DASH.
    Manifest,
    /// A media playlist.
    Playlist(TrackName),
    /// An initialization segment.
    Init(u64, TrackName, u64),
    /// A segment, by its media sequence number.
    Segment(u64, TrackName, u64),
    /// A part of it.
    Part(u64, TrackName, u64, u64),
}

impl Name {
    /// Reads one; there is one spelling of each.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text == super::MULTIVARIANT {
            return Some(Self::Multivariant);
        }
        if text == super::MANIFEST {
            return Some(Self::Manifest);
        }
        if let Some(track) = text.strip_suffix(".m3u8") {
            return Some(Self::Playlist(track_name(track)?));
        }
        if let Some(init) = text.strip_prefix("init-").and_then(|text| text.strip_suffix(".mp4")) {
            let mut fields = init.split('-');
            let init = Self::Init(epoch(fields.next()?)?, track_name(fields.next()?)?, number(fields.next()?)?);
            return fields.next().is_none().then_some(init);
        }
        let text = text.strip_suffix(".m4s")?;
        let segment = text.strip_prefix("seg-");
        let mut fields = segment.or_else(|| text.strip_prefix("part-"))?.split('-');
        let (epoch, track, msn) = (epoch(fields.next()?)?, track_name(fields.next()?)?, number(fields.next()?)?);
        let name = if segment.is_some() {
            Self::Segment(epoch, track, msn)
        } else {
            Self::Part(epoch, track, msn, number(fields.next()?)?)
        };
        fields.next().is_none().then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multivariant => f.write_str(super::MULTIVARIANT),
            Self::Manifest => f.write_str(super::MANIFEST),
            Self::Playlist(track) => write!(f, "{track}.m3u8"),
            Self::Init(epoch, track, init) => write!(f, "init-{epoch:x}-{track}-{init}.mp4"),
            Self::Segment(epoch, track, msn) => write!(f, "seg-{epoch:x}-{track}-{msn}.m4s"),
            Self::Part(epoch, track, msn, part) => write!(f, "part-{epoch:x}-{track}-{msn}-{part}.m4s"),
        }
    }
}

fn track_name(text: &str) -> Option<TrackName> {
    let video = text.strip_prefix("video");
    let digits = video.or_else(|| text.strip_prefix("audio"))?;
    Some(TrackName { video: video.is_some(), number: u8::try_from(number(digits)?).ok()? })
}

/// Decimal, without leading zeros.
fn number(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// Hexadecimal in lower case, without leading zeros.
fn epoch(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    if canonical { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn track() -> impl Strategy<Value = TrackName> {
        (any::<bool>(), any::<u8>()).prop_map(|(video, number)| TrackName { video, number })
    }

    fn name() -> impl Strategy<Value = Name> {
        prop_oneof![
            Just(Name::Multivariant),
            Just(Name::Manifest),
            track().prop_map(Name::Playlist),
            (any::<u64>(), track(), any::<u64>()).prop_map(|(e, t, n)| Name::Init(e, t, n)),
            (any::<u64>(), track(), any::<u64>()).prop_map(|(e, t, n)| Name::Segment(e, t, n)),
            (any::<u64>(), track(), any::<u64>(), any::<u64>()).prop_map(|(e, t, n, p)| Name::Part(e, t, n, p)),
        ]
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in [
            "",
            ".m3u8",
            "video.m3u8",
            "video00.m3u8",
            "video256.m3u8",
            "video+1.m3u8",
            "../video0.m3u8",
            "video0.m3u8/",
            "INDEX.M3U8",
            "index.m3u8\0",
            "seg-1-video0-.m4s",
            "seg-1-video0-1-2.m4s",
            "seg-A-video0-1.m4s",
            "seg-01-video0-1.m4s",
            "part-1-video0-1.m4s",
            "part-1-video0-1-2-3.m4s",
            "seg-1-video0-18446744073709551616.m4s",
            "init-1-video0.mp4",
        ] {
            assert_eq!(Name::read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(name in name()) {
            prop_assert_eq!(Name::read(&name.to_string()), Some(name));
        }

        #[test]
        fn each_name_has_one_spelling(
            text in "(init|seg|part|video)?-?[0-9a-f.-]{0,6}-?(video|audio)?[0-9.+-]{0,8}(m4s|mp4|m3u8)?",
        ) {
            if let Some(name) = Name::read(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
