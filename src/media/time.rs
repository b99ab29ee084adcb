//! Media time: nanoseconds on the stream's own timeline, and how a protocol's ticks get there.

use std::ops::{Add, Sub};

/// A point on a stream's timeline, in nanoseconds. 1 ms, 1/90,000 s and 1/48,000 s ticks survive the way there
/// and back exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The start of the timeline.
    pub const ZERO: Self = Self(0);

    /// From milliseconds, as RTMP counts.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// In milliseconds, rounded to the nearest.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.saturating_add(500_000).div_euclid(1_000_000)
    }

    /// From ticks of `timescale` per second, rounded to the nearest nanosecond. `timescale` must not be 0.
    #[must_use]
    pub fn from_ticks(ticks: i64, timescale: u32) -> Self {
        let scale = i128::from(timescale.max(1));
        let ns = (i128::from(ticks) * 1_000_000_000 + scale / 2).div_euclid(scale);
        Self(i64::try_from(ns).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX }))
    }

    /// In ticks of `timescale` per second, rounded to the nearest.
    #[must_use]
    pub fn as_ticks(self, timescale: u32) -> i64 {
        let ticks = (i128::from(self.0) * i128::from(timescale) + 500_000_000).div_euclid(1_000_000_000);
        i64::try_from(ticks).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }
}

impl Add for Timestamp {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl Sub for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

/// A 32-bit timestamp unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireTimestamp {
    /// Where it lies on the publisher's timeline.
    pub at: Timestamp,
    /// For the first time it lies behind another wrap at 2³².
    pub wrapped: bool,
}

/// Turns a publisher's 32-bit millisecond timestamps into a timeline without end: of all the values that a number
/// can stand for, it takes the one nearest to the last. Whether that can be true is for the stream to judge
/// (`stream::Timeline`).
#[derive(Clone, Debug, Default)]
pub struct WireClock {
    /// The last 32-bit value and what it stood for, in ms; `None` before the first frame.
    last: Option<(u32, i64)>,
    /// Wraps so far.
    laps: i64,
}

impl WireClock {
    /// Unwraps the next 32-bit millisecond value. Frames of different tracks may step back and forth around a wrap.
    pub fn advance(&mut self, wire_ms: u32) -> WireTimestamp {
        let at = self.unwrap_ms(wire_ms);
        self.last = Some((wire_ms, at));
        let laps = at >> u32::BITS;
        let wrapped = laps > self.laps;
        self.laps = self.laps.max(laps);
        WireTimestamp { at: Timestamp::from_millis(at), wrapped }
    }

    /// What a value stands for that does not move the clock on.
    #[must_use]
    pub fn at(&self, wire_ms: u32) -> Timestamp {
        Timestamp::from_millis(self.unwrap_ms(wire_ms))
    }

    fn unwrap_ms(&self, wire_ms: u32) -> i64 {
        // The signed 32-bit distance unwraps 2^32 in both directions.
        let distance = |last: u32| i64::from(wire_ms.wrapping_sub(last).cast_signed());
        self.last.map_or_else(|| i64::from(wire_ms), |(last, at)| at.saturating_add(distance(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_tick_rates_survive_the_round_trip() {
        for scale in [1_000, 48_000, 44_100, 90_000, 30_000] {
            for ticks in [0, 1, 2, 1_001, 123_456_789, -1, -90_001] {
                assert_eq!(Timestamp::from_ticks(ticks, scale).as_ticks(scale), ticks, "{ticks}/{scale}");
            }
        }
    }

    #[test]
    fn time_goes_on_over_a_wrap_at_2_to_the_32_which_is_told_once() {
        let mut clock = WireClock::default();
        let steps = [u32::MAX - 9, 10, u32::MAX - 4, 11, 31];
        let seen = steps.map(|ms| clock.advance(ms)).map(|one| (one.at.as_millis() - (1 << 32), one.wrapped));
        assert_eq!(seen, [(-10, false), (10, true), (-5, false), (11, false), (31, false)]);
    }

    #[test]
    fn a_value_that_is_only_looked_up_moves_nothing() {
        let mut clock = WireClock::default();
        clock.advance(u32::MAX);
        assert_eq!(clock.at(0).as_millis(), 1 << 32);
        assert_eq!(clock.advance(5), WireTimestamp { at: Timestamp::from_millis((1 << 32) + 5), wrapped: true });
    }

    #[test]
    fn every_wrap_of_a_year_is_told() {
        let mut clock = WireClock::default();
        let hour = 3_600_000_u32;
        let wraps = (0..365 * 24_u32).filter(|n| clock.advance(n.wrapping_mul(hour)).wrapped).count();
        assert_eq!(wraps, 7);
        assert_eq!(clock.at(364_u32.wrapping_mul(24).wrapping_mul(hour)).as_millis(), 364 * 24 * 3_600_000);
    }
}
