//! Rates over a tumbling window: what a limit is held against, and what people are shown.

use std::time::Duration;

use crate::clock::Instant;

/// Adds up amounts over windows of one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateWindow {
    start: Instant,
    sum: u64,
    /// The last whole window, per second.
    last: u64,
}

impl RateWindow {
    /// Adds an amount, and returns the sum of the running window.
    pub fn add(&mut self, now: Instant, amount: u64) -> u64 {
        let passed = now.since(self.start);
        if passed >= Duration::from_secs(1) {
            self.roll(now, passed);
        }
        self.sum += amount;
        self.sum
    }

    /// The amount per second of the last whole window.
    pub fn per_second(&mut self, now: Instant) -> u64 {
        let passed = now.since(self.start);
        if passed >= Duration::from_secs(1) {
            self.roll(now, passed);
        }
        self.last
    }

    fn roll(&mut self, now: Instant, passed: Duration) {
        let nanos = passed.as_nanos().max(1);
        self.last = u64::try_from(u128::from(self.sum) * 1_000_000_000 / nanos).unwrap_or(u64::MAX);
        self.sum = 0;
        self.start = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_decays_when_nothing_comes() {
        let mut rate = RateWindow::default();
        for ms in 0..1000u64 {
            rate.add(Instant(ms * 1_000_000), 5);
        }
        assert_eq!(rate.per_second(Instant(1_000_000_000)), 5_000);
        assert_eq!(rate.per_second(Instant(3_000_000_000)), 0);
    }
}
