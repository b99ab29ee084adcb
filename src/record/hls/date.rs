//! `EXT-X-PROGRAM-DATE-TIME`: ISO 8601 in UTC, to the millisecond.

use std::fmt;

use crate::clock::Wall;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;
/// Days of 400 years.
const ERA: u64 = 146_097;

/// A point in time as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Date(pub(super) Wall);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.0 / NANOS, self.0.0 % NANOS / 1_000_000);
        let (year, month, day) = civil(seconds / DAY);
        let second = seconds % DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Year, month and day of a count of days since 1970-01-01.
///
/// [Howard Hinnant, `civil_from_days`](https://howardhinnant.github.io/date_algorithms.html#civil_from_days): a year
/// begins in March, so that the leap day is its last.
#[expect(clippy::arithmetic_side_effects, reason = "64 bits of nanoseconds are 213,504 days: nothing overflows")]
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Date(Wall(seconds * NANOS)).to_string(), text);
        }
        assert_eq!(Date(Wall(1_999_999)).to_string(), "1970-01-01T00:00:00.001Z");
        assert_eq!(Date(Wall(u64::MAX)).to_string(), "2554-07-21T23:34:33.709Z");
    }
}
