//! How a viewer wants its frames.

use std::time::Duration;

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// At the newest cached keyframe, at once, with every frame as it was published. A player that plays in real
    /// time from there stays as far behind as that keyframe was old.
    #[default]
    Instant,
    /// At the next keyframe that is published.
    Live,
    /// At the newest cached keyframe, at once, with the past of its GOP on timestamps just before the live edge and
    /// without its sound: a player shows the newest picture as soon as it has decoded the GOP, and plays in real time
    /// from there.
    CatchUp,
    /// At the newest keyframe that is at least so old; from there on every frame is delivered when it is so old.
    /// Refused where it is more than the application keeps.
    Behind(Duration),
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
