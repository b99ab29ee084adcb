//! Names and numbers that must not mix: a stream's name, a shard, a connection.
//!
//! A name is checked once, here, when it enters; everything behind may use it as a path segment, a log field
//! or a map key without looking again.

use std::fmt;
use std::sync::Arc;

use crate::limits::NAME_BYTES_MAX;

/// A shard of one router, counted from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One connection (or one publisher or subscriber of the host), never used twice in the life of a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a stream: two publishers of one name, one after the other, have two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// `application/name` of a stream.
///
/// Both parts consist of `A-Z a-z 0-9 _ . ~ -`, the name may also hold `/` between non-empty segments; no
/// segment is `.` or `..`; together they have at most [`NAME_BYTES_MAX`] bytes. So a key can be used as a
/// relative path, in a log line or in a URL as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    text: Arc<str>,
    app: u16,
}

/// Why a text is no [`StreamKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The application or the name has no characters, or a segment between two slashes has none.
    #[error("the name of an application or stream must not be empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A character outside the allowed set, by its byte offset.
    #[error("the name holds a character at byte {at} that is not one of A-Z a-z 0-9 _ . ~ - /")]
    Character {
        /// Offset in bytes from the start of `application/name`.
        at: usize,
    },
    /// `.` or `..` as a segment.
    #[error("the name holds the segment '.' or '..'")]
    DotSegment,
}

impl StreamKey {
    /// Checks and joins an application and a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn new(app: &str, name: &str) -> Result<Self, NameError> {
        if app.len() + name.len() + 1 > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        check_segment(app, 0)?;
        let mut at = app.len() + 1;
        for segment in name.split('/') {
            check_segment(segment, at)?;
            at += segment.len() + 1;
        }
        let app_len = u16::try_from(app.len()).map_err(|_| NameError::TooLong)?;
        Ok(Self { text: format!("{app}/{name}").into(), app: app_len })
    }

    /// Splits `application/name` at its first slash and checks both.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (app, name) = text.split_once('/').ok_or(NameError::Empty)?;
        Self::new(app, name)
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.text[..usize::from(self.app)]
    }

    /// The name within its application.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[usize::from(self.app) + 1..]
    }

    /// `application/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamKey({})", self.text)
    }
}

impl std::str::FromStr for StreamKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

fn check_segment(segment: &str, offset: usize) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(at) = segment.bytes().position(|b| !(b.is_ascii_alphanumeric() || b"_.~-".contains(&b))) {
        return Err(NameError::Character { at: offset + at });
    }
    if segment == "." || segment == ".." {
        return Err(NameError::DotSegment);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_application_and_name() {
        let key = StreamKey::parse("live/room/42").unwrap();
        assert_eq!((key.app(), key.name(), key.as_str()), ("live", "room/42", "live/room/42"));
    }

    #[test]
    fn names_that_could_escape_a_folder_or_a_log_line_are_refused() {
        for (text, error) in [
            ("live", NameError::Empty),
            ("live/", NameError::Empty),
            ("/a", NameError::Empty),
            ("live//a", NameError::Empty),
            ("live/a/", NameError::Empty),
            ("live/..", NameError::DotSegment),
            ("../a", NameError::DotSegment),
            ("live/a/../b", NameError::DotSegment),
            ("live/./b", NameError::DotSegment),
            ("live/%2e%2e", NameError::Character { at: 5 }),
            ("live/a\\b", NameError::Character { at: 6 }),
            ("live/C:", NameError::Character { at: 6 }),
            ("live/a\0", NameError::Character { at: 6 }),
            ("live/a\u{202e}b", NameError::Character { at: 6 }),
            ("live/a b", NameError::Character { at: 6 }),
        ] {
            assert_eq!(StreamKey::parse(text), Err(error), "{text:?}");
        }
        let long = "n".repeat(NAME_BYTES_MAX);
        assert_eq!(StreamKey::new("live", &long), Err(NameError::TooLong));
    }
}
