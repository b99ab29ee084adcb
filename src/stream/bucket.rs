//! A token bucket: what a rate limit is held against where a burst may be longer than a second.

use std::time::Duration;

use crate::clock::Instant;

/// Tokens come at a rate and are spent by amounts; at most [`Bucket::DEPTH`] seconds of them are saved up.
///
/// So a keyframe that is as large as a second of the stream is no excess, while a rate that stays above the limit is
/// found out after `DEPTH * limit / (rate - limit)` seconds: at twice the limit after three.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When it was looked at last; never, at [`Instant::ZERO`].
    at: Instant,
    /// Missing to a full one, in billionths of a token.
    spent: u128,
}

impl Bucket {
    /// Seconds of tokens in a full bucket.
    pub const DEPTH: Duration = Duration::from_secs(3);

    /// Spends an amount at a rate per second.
    ///
    /// # Errors
    /// More was spent than there was: how long until that has come in again.
    pub fn spend(&mut self, now: Instant, amount: u64, per_second: u64) -> Result<(), Duration> {
        let came = now.since(self.at).as_nanos() * u128::from(per_second);
        self.at = now;
        self.spent = self.spent.saturating_sub(came) + u128::from(amount) * NANOS;
        let full = Self::DEPTH.as_nanos() * u128::from(per_second);
        match self.spent.checked_sub(full) {
            Some(missing) if missing > 0 => {
                let nanos = missing.div_ceil(u128::from(per_second.max(1)));
                Err(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
            _ => Ok(()),
        }
    }

    /// Forgives what was spent beyond the last token.
    pub fn forgive(&mut self, per_second: u64) {
        self.spent = self.spent.min(Self::DEPTH.as_nanos() * u128::from(per_second));
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant(1_000_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn a_steady_rate_at_the_limit_is_never_too_much() {
        let mut bucket = Bucket::default();
        for n in 0..10_000 {
            assert_eq!(bucket.spend(ms(n * 10), 10, 1_000), Ok(()));
        }
    }

    #[test]
    fn a_keyframe_as_large_as_three_seconds_is_no_excess_if_the_rest_is_small() {
        let mut bucket = Bucket::default();
        for second in 0..100 {
            let amount = if second % 10 == 0 { 3_000 } else { 600 };
            assert_eq!(bucket.spend(ms(second * 1_000), amount, 1_000), Ok(()), "second {second}");
        }
    }

    #[test]
    fn twice_the_limit_is_found_out_after_three_seconds() {
        let mut bucket = Bucket::default();
        let first = (0..10_000).find(|n| bucket.spend(ms(*n), 2, 1_000).is_err()).unwrap();
        assert!((2_990..=3_010).contains(&first), "after {first} ms");
    }

    #[test]
    fn it_says_how_long_to_wait_and_keeps_to_the_rate_if_that_is_waited() {
        let mut bucket = Bucket::default();
        let (mut now, mut sent) = (ms(0), 0);
        while now < ms(100_000) {
            sent += 500;
            if let Err(wait) = bucket.spend(now, 500, 1_000) {
                now = now + wait;
            }
        }
        assert!((103_000..=104_000).contains(&sent), "{sent} in 100 s: the rate, and a full bucket before");
    }

    #[test]
    fn what_is_forgiven_is_not_waited_for() {
        let mut bucket = Bucket::default();
        assert!(bucket.spend(ms(0), 1_000_000, 1_000).is_err());
        bucket.forgive(1_000);
        assert_eq!(bucket.spend(ms(1_000), 1_000, 1_000), Ok(()));
    }
}
