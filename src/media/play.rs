//! How a viewer wants its frames.

use std::time::Duration;

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// At the newest cached keyframe, at once.
    #[default]
    Instant,
    /// At the next keyframe that is published.
    Live,
}

/// How frames are gathered into sends: fewer, larger sends cost less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Merge {
    /// Video leaves at once, audio rides with the next video frame (at most 33 ms later, alone where there is
    /// no video).
    #[default]
    AudioRides,
    /// Every frame leaves at once.
    Off,
    /// Everything that came within this time leaves together.
    Window(Duration),
}
