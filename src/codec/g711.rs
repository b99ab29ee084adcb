//! G.711: nothing is said in the stream, and nothing needs to be.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use super::Description;
use crate::media::Codec;

/// Samples per second (ITU-T G.711, 2).
pub const SAMPLE_RATE: u32 = 8_000;

/// One channel, unless a container says otherwise. The string is the sample entry of QuickTime: there is no other.
pub(super) fn describe(codec: Codec) -> Description {
    let string = if codec == Codec::G711A { "alaw" } else { "ulaw" };
    Description::audio(1, SAMPLE_RATE, string.to_owned())
}
