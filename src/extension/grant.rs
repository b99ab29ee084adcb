//! What a token or a user is allowed: which action, on which streams.

use std::fmt;
use std::str::FromStr;

use crate::extension::Action;
use crate::id::{NameError, StreamKey};

/// One permission. Whatever is not granted is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which actions.
    pub actions: Actions,
    /// On which streams.
    pub streams: KeyPattern,
}

impl Grant {
    /// Whether it covers this action on this stream.
    #[must_use]
    pub fn covers(&self, action: Action, key: &StreamKey) -> bool {
        self.actions.include(action) && self.streams.matches(key)
    }
}

/// `publish`, `play` or `both`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actions {
    /// To publish only.
    Publish,
    /// To play only.
    Play,
    /// To publish and to play.
    Both,
}

impl Actions {
    /// Whether this action is among them.
    #[must_use]
    pub fn include(self, action: Action) -> bool {
        match self {
            Self::Publish => action == Action::Publish,
            Self::Play => action == Action::Play,
            Self::Both => true,
        }
    }

    /// The word that [`Actions::from_str`] reads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
            Self::Both => "both",
        }
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Actions {
    type Err = NotActions;
    fn from_str(text: &str) -> Result<Self, NotActions> {
        match text {
            "publish" => Ok(Self::Publish),
            "play" => Ok(Self::Play),
            "both" => Ok(Self::Both),
            _ => Err(NotActions),
        }
    }
}

/// The text is no [`Actions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the action must be \"publish\", \"play\" or \"both\"")]
pub struct NotActions;

/// `app/name` for one stream, `app/*` or `app/room/*` for all below, `*` for all. Letters are compared as they
/// are: `Live` is not `live`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    All,
    /// With the slash at its end.
    Below(Box<str>),
    One(StreamKey),
}

impl KeyPattern {
    /// All streams.
    pub const ALL: Self = Self(Form::All);

    /// Whether the stream is one of those meant.
    #[must_use]
    pub fn matches(&self, key: &StreamKey) -> bool {
        match &self.0 {
            Form::All => true,
            Form::Below(prefix) => key.as_str().starts_with(&**prefix),
            Form::One(one) => one == key,
        }
    }
}

impl From<StreamKey> for KeyPattern {
    fn from(key: StreamKey) -> Self {
        Self(Form::One(key))
    }
}

impl FromStr for KeyPattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        let Some(above) = text.strip_suffix("/*") else { return StreamKey::parse(text).map(Self::from) };
        // What stands above must be the beginning of some key.
        StreamKey::parse(&format!("{above}/x"))?;
        Ok(Self(Form::Below(format!("{above}/").into())))
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::All => f.write_str("*"),
            Form::Below(prefix) => write!(f, "{prefix}*"),
            Form::One(key) => f.write_str(key.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        pattern.parse::<KeyPattern>().unwrap().matches(&StreamKey::parse(key).unwrap())
    }

    #[test]
    fn a_pattern_matches_what_it_says_and_no_more() {
        assert!(matches("live/a", "live/a"));
        assert!(!matches("live/a", "live/a/b"));
        assert!(!matches("live/a", "live/A"));
        assert!(!matches("live/a", "Live/a"));
        assert!(matches("live/*", "live/a/b"));
        assert!(!matches("live/*", "live2/a"));
        assert!(matches("live/room/*", "live/room/1"));
        assert!(!matches("live/room/*", "live/room"));
        assert!(!matches("live/room/*", "live/room2/1"));
        assert!(matches("*", "anything/at-all"));
    }

    #[test]
    fn a_pattern_that_no_key_could_match_is_refused() {
        for text in ["", "live", "/*", "live//*", "live/..", "../*", "*/a", "live/*/a", "li*/a", "live/a*", "**"] {
            assert!(text.parse::<KeyPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_and_its_actions_are_printed_as_they_are_read() {
        for text in ["*", "live/*", "live/room/*", "live/a"] {
            assert_eq!(text.parse::<KeyPattern>().unwrap().to_string(), text);
        }
        for actions in [Actions::Publish, Actions::Play, Actions::Both] {
            assert_eq!(actions.to_string().parse(), Ok(actions));
        }
        assert_eq!("Play".parse::<Actions>(), Err(NotActions));
    }
}
