//! When a frame is due.

use crate::clock::Instant;
use crate::limits::{INGEST_AHEAD_MAX, INGEST_LATE_MAX};
use crate::media::Timestamp;

/// Ties a source's time to the monotonic clock: the first frame is due at once, every other one as much later as its
/// time says. Nothing adds up, however long it runs.
///
/// A source that falls behind by [`INGEST_LATE_MAX`] (its pipe paused, the machine slept) is not hurried afterwards, and
/// one whose clock jumps ahead by [`INGEST_AHEAD_MAX`] is not waited for: its time is tied anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    tied: Option<(Instant, Timestamp)>,
    anew: u64,
}

impl Pacer {
    /// When the frame with this decoding time is due, if it is `now`.
    pub fn due(&mut self, now: Instant, dts: Timestamp) -> Instant {
        if let Some((start, first)) = self.tied {
            let after = dts.0.saturating_sub(first.0);
            let due = Instant(start.0.saturating_add_signed(after));
            if now.since(due) <= INGEST_LATE_MAX && due.since(now) <= INGEST_AHEAD_MAX {
                return due;
            }
            self.anew += 1;
        }
        self.tied = Some((now, dts));
        now
    }

    /// How often time was tied anew.
    #[must_use]
    pub const fn anew(&self) -> u64 {
        self.anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_frame_is_due_when_its_time_says_whenever_the_one_before_was_sent() {
        let mut pacer = Pacer::default();
        let start = Instant(77 * MS);
        assert_eq!(pacer.due(start, Timestamp::from_millis(5_000)), start);
        for late in [0, 3, 900] {
            let due = pacer.due(Instant(77 * MS + late * MS), Timestamp::from_millis(5_040));
            assert_eq!(due, Instant(117 * MS));
        }
        // A day later it is where it must be.
        let day = 86_400_000;
        let now = Instant((77 + day) * MS);
        let due = pacer.due(now, Timestamp::from_millis(5_000 + i64::try_from(day).unwrap()));
        assert_eq!((due, pacer.anew()), (now, 0));
    }

    #[test]
    fn who_is_far_behind_or_far_ahead_begins_anew() {
        let mut pacer = Pacer::default();
        pacer.due(Instant(0), Timestamp::ZERO);
        let now = Instant(1_500 * MS);
        assert_eq!(pacer.due(now, Timestamp::from_millis(40)), now);
        assert_eq!(pacer.due(now, Timestamp::from_millis(80)), Instant(1_540 * MS));
        assert_eq!(pacer.due(now, Timestamp::from_millis(3_600_000)), now);
        assert_eq!(pacer.due(now, Timestamp::from_millis(-5_000)), now);
        assert_eq!(pacer.anew(), 3);
    }
}
