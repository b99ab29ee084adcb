//! Wall-clock time as parts of a date in UTC, as RFC 3339 text, and back.

use crate::clock::Wall;

const NANOS_PER_MILLI: u64 = 1_000_000;
const MILLIS_PER_DAY: u64 = 86_400_000;
/// Days of 400 years, after which the calendar repeats itself.
const DAYS_PER_ERA: u64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// A moment in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Utc {
    pub(super) year: u64,
    pub(super) month: u64,
    pub(super) day: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
    pub(super) milli: u64,
}

impl Utc {
    pub(super) const fn of(wall: Wall) -> Self {
        let millis = wall.0 / NANOS_PER_MILLI;
        let (days, milli) = (millis / MILLIS_PER_DAY, millis % MILLIS_PER_DAY);
        let (year, month, day) = date(days);
        let (second, milli) = (milli / 1000, milli % 1000);
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60, milli }
    }

    /// None of a date that no calendar has, or one before 1970.
    pub(super) fn wall(self) -> Option<Wall> {
        let Self { year, month, day, hour, minute, second, milli } = self;
        let sound = (1970..=2500).contains(&year) && hour < 24 && minute < 60 && second < 61 && milli < 1000;
        if !sound || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        // Years begin in March here: the leap day is the last of one.
        let (month_from_march, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
        let (era, year) = (year / 400, year % 400);
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let days = era * DAYS_PER_ERA + year * 365 + year / 4 - year / 100 + day_of_year - DAYS_BEFORE_1970;
        let millis = days * MILLIS_PER_DAY + (hour * 3600 + minute * 60 + second) * 1000 + milli;
        Some(Wall(millis * NANOS_PER_MILLI))
    }
}

/// Year, month and day of a count of days since 1970-01-01.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // A leap day is at the end of each fourth year, but of the hundredth, but of the four hundredth.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

/// `2026-01-31T23:59:59.123Z`.
pub(super) fn rfc3339(wall: Wall) -> String {
    let Utc { year, month, day, hour, minute, second, milli } = Utc::of(wall);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Reads what [`rfc3339`] wrote.
pub(super) fn parse(text: &str) -> Option<Wall> {
    let shape = "0000-00-00T00:00:00.000Z".bytes();
    let fits = |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if text.len() != shape.len() || !text.bytes().zip(shape).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse().ok();
    let utc = Utc {
        year: number(0, 4)?,
        month: number(5, 7)?,
        day: number(8, 10)?,
        hour: number(11, 13)?,
        minute: number(14, 16)?,
        second: number(17, 19)?,
        milli: number(20, 23)?,
    };
    utc.wall()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_have_their_known_text() {
        // `date -u -d @SECONDS` of coreutils.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let wall = Wall((seconds * 1000 + 7) * NANOS_PER_MILLI);
            assert_eq!(rfc3339(wall), expected);
            assert_eq!(parse(expected), Some(wall));
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "1969-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00.000+",
            "2026-01-01T24:00:00.000Z",
            "+026-01-01T00:00:00.000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_two_centuries_is_read_back_and_follows_the_day_before() {
        let mut before = None;
        for day in 0..73_000 {
            let wall = Wall(day * MILLIS_PER_DAY * NANOS_PER_MILLI);
            let text = rfc3339(wall);
            assert_eq!(parse(&text), Some(wall));
            assert!(before.is_none_or(|before| before < text), "{text}");
            before = Some(text);
        }
    }
}
