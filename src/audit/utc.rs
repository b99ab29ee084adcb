//! Wall-clock nanoseconds as RFC 3339 text in UTC.

use crate::clock::Wall;

/// Appends `2026-01-31T23:59:59.123456789Z`.
pub(super) fn write_rfc3339(wall: Wall, out: &mut Vec<u8>) {
    let (seconds, nanos) = (wall.0 / NANOS, wall.0 % NANOS);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    digits(year, 4, out);
    for (before, number) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
        out.push(before);
        digits(number, 2, out);
    }
    out.push(b'.');
    digits(nanos, 9, out);
    out.push(b'Z');
}

/// At least so many digits: several times as fast as formatting, and each record has a time.
fn digits(number: u64, least: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let (mut at, mut rest) = (text.len(), number);
    while rest > 0 || text.len() - at < least {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text[at..]);
}

/// The same as text, for the reports of the harness.
#[cfg(feature = "bench")]
pub(crate) fn rfc3339(wall: Wall) -> String {
    let mut text = Vec::new();
    write_rfc3339(wall, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// `2026-01-31T23:59:59Z`.
#[cfg(feature = "follow-s3")]
pub(super) fn rfc3339_seconds(wall: Wall) -> String {
    let mut text = Vec::new();
    write_rfc3339(wall, &mut text);
    text.truncate(text.len() - ".123456789Z".len());
    text.push(b'Z');
    String::from_utf8_lossy(&text).into_owned()
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian calendar.
///
/// [Howard Hinnant, `civil_from_days`](https://howardhinnant.github.io/date_algorithms.html#civil_from_days),
/// for days after 1970 only: an era has 400 years, a year begins in March so that the leap day is its last.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;
const ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64, nanos: u64) -> String {
        let mut out = Vec::new();
        write_rfc3339(Wall(seconds * NANOS + nanos), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_instants_have_their_known_text() {
        // `date -u -d @SECONDS` of coreutils.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (18_446_744_073, "2554-07-21T23:34:33"),
        ] {
            assert_eq!(text(seconds, 7), format!("{expected}.000000007Z"));
        }
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_day_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
