//! One clock for all processes of a run.
//!
//! Each process counts monotonic time from a wall-clock anchor that it reads at its start, so that a stamp of one can
//! be subtracted in another. A wall clock that is stepped in between is found by [`Timing::step_ns`].

use std::time::Duration;

use crate::clock::Clock;

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The shared clock: nanoseconds since 1970, never falling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    clock: Clock,
    anchor: u64,
}

impl Timing {
    /// Reads the anchor.
    pub(crate) fn start() -> Self {
        let clock = Clock::start();
        Self { clock, anchor: anchor(&clock) }
    }

    /// The time.
    pub(crate) fn now(&self) -> u64 {
        self.anchor + self.clock.instant().0
    }

    /// How far the wall clock was stepped since the anchor was read; slewing moves both clocks alike.
    pub(crate) fn step_ns(&self) -> u64 {
        anchor(&self.clock).abs_diff(self.anchor)
    }

    /// Sleeps until `due`; returns at once if that has passed.
    pub(crate) fn sleep_until(&self, due: u64) {
        let now = self.now();
        if due > now {
            std::thread::sleep(Duration::from_nanos(due - now));
        }
    }
}

/// The wall time at the clock's zero. The wall clock is read first, so whatever comes between the two readings makes
/// the result too early, by as much as a turn on the core: the latest of several is the one that nothing came between.
fn anchor(clock: &Clock) -> u64 {
    let read = || {
        let now = clock.now();
        now.wall.0.saturating_sub(now.mono.0)
    };
    (0..16).map(|_| read()).max().unwrap_or_else(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_of_one_machine_agree() {
        let (a, b) = (Timing::start(), Timing::start());
        let (before, other, after) = (a.now(), b.now(), a.now());
        assert!(other + MILLISECOND > before && other < after + MILLISECOND, "{before} {other} {after}");
        assert!(a.step_ns() < MILLISECOND);
    }
}
