//! How long the parts of a track may be: a part is whole frames, so it hangs on how long those last.

use super::MILLISECOND;

/// A part that is not the last of its segment has at least so much of the target (RFC 8216bis, 4.4.4.9).
const LEAST_PERCENT: i64 = 85;
/// Frames of a part that are tried.
const FRAMES_MAX: usize = 256;

/// The part target for frames that last so long, in nanoseconds: near `wanted`, whole milliseconds, and such that
/// every part is at most as long and at least 85 % of it, if there is one.
pub(super) fn part_target(steps: &[i64], wanted: i64) -> i64 {
    let sum = steps.iter().fold(0_i64, |sum, step| sum.saturating_add(*step));
    let count = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let Some(average) = sum.checked_div(count).filter(|average| *average > 0) else { return wanted };
    let longest = steps.iter().copied().max().unwrap_or(0);
    let usual = wanted.saturating_add(average / 2).checked_div(average).unwrap_or(1).max(1);
    let usual = usize::try_from(usual).unwrap_or(FRAMES_MAX).min(FRAMES_MAX);
    let targets = (usual..=usual.saturating_mul(4).min(FRAMES_MAX)).map(|frames| {
        let window = |window: &[i64]| window.iter().fold(0_i64, |sum, step| sum.saturating_add(*step));
        let estimate = average.saturating_mul(i64::try_from(frames).unwrap_or(i64::MAX));
        let most = steps.windows(frames).map(window).max().unwrap_or(estimate).max(longest);
        // What a clock of milliseconds rounds off, and a little more.
        let slack = (most / 100).max(2 * MILLISECOND);
        let target = most.saturating_add(slack);
        (target.saturating_add(MILLISECOND.saturating_sub(1)) / MILLISECOND).saturating_mul(MILLISECOND)
    });
    let mut first = None;
    for target in targets {
        if fits(steps, target) {
            return target;
        }
        first.get_or_insert(target);
    }
    first.unwrap_or(wanted)
}

/// Whether the parts that frames of these durations are cut into are all long enough.
fn fits(steps: &[i64], target: i64) -> bool {
    let enough = |part: i64| part.saturating_mul(100) >= target.saturating_mul(LEAST_PERCENT);
    let mut part = 0_i64;
    for step in steps {
        let longer = part.saturating_add(*step);
        if longer > target {
            if !enough(part) {
                return false;
            }
            part = *step;
        } else if longer.saturating_add(*step) > target {
            if !enough(longer) {
                return false;
            }
            part = 0;
        } else {
            part = longer;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: i64 = 200 * MILLISECOND;

    /// Steps of a clock that counts milliseconds.
    fn steps(frames: i64, seconds: i64) -> Vec<i64> {
        let at = |nth: i64| (nth * seconds * 1000 + frames / 2) / frames * MILLISECOND;
        (0..60).map(|nth| at(nth + 1) - at(nth)).collect()
    }

    #[test]
    fn parts_of_all_usual_rates_are_near_what_is_wanted_and_fit() {
        for (frames, seconds) in [
            (24, 1),
            (24_000, 1001),
            (25, 1),
            (30_000, 1001),
            (30, 1),
            (50, 1),
            (60_000, 1001),
            (60, 1),
            (120, 1),
            (15, 1),
            (48_000, 1024),
            (44_100, 1024),
            (50, 1),
            (44_100, 1152),
        ] {
            let steps = steps(frames, seconds);
            let target = part_target(&steps, WANTED);
            assert!(fits(&steps, target), "{frames}/{seconds}: {target}");
            assert!((WANTED * 9 / 10..=WANTED * 5 / 4).contains(&target), "{frames}/{seconds}: {target}");
        }
    }

    #[test]
    fn a_rate_that_varies_has_longer_parts_and_a_slow_one_a_frame_in_each() {
        let varying = [33, 33, 100, 33, 66, 33, 33, 33, 100, 66].map(|ms| ms * MILLISECOND).repeat(4);
        let target = part_target(&varying, WANTED);
        assert!(target > WANTED && fits(&varying, target), "{target}");
        assert_eq!(part_target(&[1000 * MILLISECOND; 3], WANTED), 1010 * MILLISECOND);
    }

    #[test]
    fn without_frames_or_time_it_is_what_is_wanted() {
        assert_eq!(part_target(&[], WANTED), WANTED);
        assert_eq!(part_target(&[0; 9], WANTED), WANTED);
    }

    proptest! {
        #[test]
        fn no_frame_is_longer_than_a_part(steps in prop::collection::vec(0..i64::MAX / 300, 0..64)) {
            let target = part_target(&steps, WANTED);
            if steps.iter().any(|step| *step > steps.len() as i64) {
                prop_assert!(steps.iter().all(|step| *step <= target));
            }
        }
    }
}
