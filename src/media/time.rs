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

/// What became of a 32-bit timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireTimestamp {
    /// Where it lies on the stream's timeline.
    pub at: Timestamp,
    /// The publisher's clock jumped: the timeline went on, this frame carries the discontinuity.
    pub jumped: bool,
}

/// Turns a publisher's 32-bit millisecond timestamps into a timeline that only rises.
///
/// A wrap at 2³² is no event. A step back, or forward by more than [`Self::JUMP_MS`], is a jump: time then
/// goes on from the last frame plus one millisecond, and the new distance is kept for all tracks, so that audio
/// and video stay together. A small step back (interleaving of audio and video) is none.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The last 32-bit value and where it was put before rebasing, in ms; `None` before the first frame.
    last: Option<(u32, i64)>,
    /// Added to the unwrapped value, in ms.
    offset_ms: i64,
    /// The highest result so far, in ms.
    high_ms: i64,
}

impl Timeline {
    /// Farther forward than this is a jump, in milliseconds: no encoder pauses that long in one connection.
    pub const JUMP_MS: i64 = 60_000;
    /// Farther back than this is a jump, in milliseconds; less is interleaving of tracks.
    pub const BACK_MS: i64 = 2_000;

    /// A timeline that goes on after `end`, where the stream's former publisher stopped.
    #[must_use]
    pub fn after(end: Timestamp) -> Self {
        Self { last: None, offset_ms: 0, high_ms: end.as_millis() }
    }

    /// Places the next 32-bit millisecond value.
    pub fn place(&mut self, wire_ms: u32) -> WireTimestamp {
        let Some((last_wire, last_at)) = self.last else {
            // The first frame of a publisher: kept as it is on a new stream, moved behind the end of an old one.
            let at = i64::from(wire_ms);
            if self.high_ms > 0 {
                self.offset_ms = self.high_ms + 1 - at;
            }
            self.last = Some((wire_ms, at));
            return self.result(at, self.high_ms > 0);
        };
        // The signed 32-bit distance unwraps 2^32 in both directions.
        let step = i64::from(wire_ms.wrapping_sub(last_wire).cast_signed());
        let at = last_at + step;
        let placed = at + self.offset_ms;
        let jumped = placed - self.high_ms > Self::JUMP_MS || placed < self.high_ms - Self::BACK_MS;
        if jumped {
            self.offset_ms = self.high_ms + 1 - at;
        }
        self.last = Some((wire_ms, at));
        self.result(at, jumped)
    }

    /// The highest point placed so far.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        Timestamp::from_millis(self.high_ms)
    }

    fn result(&mut self, at: i64, jumped: bool) -> WireTimestamp {
        let placed = (at + self.offset_ms).max(0);
        self.high_ms = self.high_ms.max(placed);
        WireTimestamp { at: Timestamp::from_millis(placed), jumped }
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
    fn a_wrap_at_2_to_the_32_is_no_event() {
        let mut line = Timeline::default();
        assert_eq!(line.place(u32::MAX - 9).at, Timestamp::from_millis(4_294_967_286));
        let next = line.place(10);
        assert_eq!((next.at, next.jumped), (Timestamp::from_millis(4_294_967_306), false));
    }

    #[test]
    fn a_jump_of_24_days_costs_one_millisecond_and_is_told() {
        let mut line = Timeline::default();
        line.place(1_000);
        let far = line.place(2_073_601_000);
        assert_eq!((far.at.as_millis(), far.jumped), (1_001, true));
        let next = line.place(2_073_601_040);
        assert_eq!((next.at.as_millis(), next.jumped), (1_041, false));
        let back = line.place(0);
        assert_eq!((back.at.as_millis(), back.jumped), (1_042, true));
    }

    #[test]
    fn interleaved_tracks_may_step_back_a_little() {
        let mut line = Timeline::default();
        line.place(5_000);
        let audio = line.place(4_960);
        assert_eq!((audio.at.as_millis(), audio.jumped), (4_960, false));
    }

    #[test]
    fn a_second_publisher_goes_on_where_the_first_ended() {
        let mut line = Timeline::after(Timestamp::from_millis(90_000));
        let first = line.place(0);
        assert_eq!((first.at.as_millis(), first.jumped), (90_001, true));
        assert_eq!(line.place(40).at.as_millis(), 90_041);
    }
}
