//! How sure a ratio of two medians is: the bootstrap, with draws that are the same for the same numbers.

use super::summary::{median_of_sorted, sorted};

/// How often both sides are drawn anew.
const RESAMPLES: usize = 2_000;
/// What of the resampled ratios lies inside of the interval. A comparison has many rows, so one row in a hundred may be
/// wrong, not one in twenty.
const CONFIDENCE: f64 = 0.99;

/// The ratio of `b`'s median to `a`'s, and the interval in which it lies at 99 %; all are one if nothing differs.
///
/// None where a side has no numbers, or negative ones, which have no ratio.
pub(super) fn ratio_of_medians(a: &[f64], b: &[f64], seed: &str) -> Option<(f64, [f64; 2])> {
    let (a, b) = (sorted(a), sorted(b));
    if a.is_empty() || b.is_empty() || a[0] < 0.0 || b[0] < 0.0 {
        return None;
    }
    let point = ratio(median_of_sorted(&a), median_of_sorted(&b));
    let mut random = Random::seeded(seed);
    let mut drawn = (Vec::new(), Vec::new());
    let mut ratios: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let low = random.median(&a, &mut drawn.0);
        let high = random.median(&b, &mut drawn.1);
        ratios.push(ratio(low, high));
    }
    ratios.sort_by(f64::total_cmp);
    let outside = (1.0 - CONFIDENCE) / 2.0;
    Some((point, [at(&ratios, outside), at(&ratios, 1.0 - outside)]))
}

/// Nothing is as much as nothing, and anything is infinitely more.
fn ratio(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { b / a }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index below the length, from a share"
)]
#[expect(clippy::cast_precision_loss, reason = "some thousand resamples")]
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// SplitMix64: small, even, and the same on every machine.
pub(super) struct Random(u64);

impl Random {
    /// The same numbers for the same text (FNV-1a).
    pub(super) fn seeded(text: &str) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The median of as many values drawn from these with replacement.
    fn median(&mut self, from: &[f64], drawn: &mut Vec<f64>) -> f64 {
        drawn.clear();
        let len = from.len() as u64;
        drawn.extend(from.iter().map(|_| from[usize::try_from(self.next() % len).unwrap_or(0)]));
        drawn.sort_by(f64::total_cmp);
        median_of_sorted(drawn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_numbers_give_the_same_interval() {
        let (a, b) = ([1.0, 1.1, 0.9, 1.05, 1.2], [1.4, 1.3, 1.5, 1.6, 1.45]);
        assert_eq!(ratio_of_medians(&a, &b, "x"), ratio_of_medians(&a, &b, "x"));
        let (point, [low, high]) = ratio_of_medians(&a, &b, "x").unwrap();
        assert!((point - 1.45 / 1.05).abs() < 1e-12 && low > 1.0 && high < 1.6 / 0.9 + 1e-12, "{point} {low} {high}");
    }

    #[test]
    fn nothing_and_negative_numbers_have_no_ratio_and_zeros_have_one() {
        assert_eq!(ratio_of_medians(&[], &[1.0], ""), None);
        assert_eq!(ratio_of_medians(&[f64::NAN], &[1.0], ""), None);
        assert_eq!(ratio_of_medians(&[-1.0, 2.0, 3.0], &[1.0], ""), None);
        assert_eq!(ratio_of_medians(&[0.0; 5], &[0.0; 5], ""), Some((1.0, [1.0, 1.0])));
        assert_eq!(ratio_of_medians(&[0.0; 5], &[2.0; 5], ""), Some((f64::INFINITY, [f64::INFINITY; 2])));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// It can be neither below nor above what the values themselves allow.
        #[test]
        fn the_interval_lies_within_the_extremes(
            a in prop::collection::vec(0.1_f64..1e9, 1..12),
            b in prop::collection::vec(0.1_f64..1e9, 1..12),
        ) {
            let (point, [low, high]) = ratio_of_medians(&a, &b, "seed").unwrap();
            let (a, b) = (sorted(&a), sorted(&b));
            let slack = 1e-9;
            prop_assert!(low >= b[0] / a[a.len() - 1] * (1.0 - slack) && high <= b[b.len() - 1] / a[0] * (1.0 + slack));
            prop_assert!(point >= b[0] / a[a.len() - 1] * (1.0 - slack) && low <= high);
        }
    }
}
