//! Numbers with their bounds, times and sizes with their units, and words out of a few.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

/// A whole number within bounds.
pub(super) fn count<T: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let number = value.as_integer().and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok());
        number.filter(|number| bounds.contains(number)).and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            format!("must be a whole number from {} to {}, not {}", bounds.start(), bounds.end(), shown(value))
        })
    }
}

/// As [`count`], or `"none"` for no bound.
pub(super) fn count_or_none<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<T>, String> {
    move |value| {
        if value.as_str() == Some("none") {
            return Ok(None);
        }
        count(bounds.clone())(value).map(Some).map_err(|_| {
            let (least, most) = (bounds.start(), bounds.end());
            format!("must be \"none\" or a whole number from {least} to {most}, not {}", shown(value))
        })
    }
}

/// One of a few words.
pub(super) fn word<T: Copy, const N: usize>(
    words: [(&'static str, T); N],
) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let known = words.iter().find(|(word, _)| value.as_str() == Some(word));
        known.map(|(_, what)| *what).ok_or_else(|| {
            let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let (last, others) = quoted.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
            format!("must be {} or {last}, not {}", others.join(", "), shown(value))
        })
    }
}

/// Bytes: a whole number, or a text such as `"64KiB"`.
pub(super) fn bytes<T: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let number = match value.as_str() {
            Some(text) => parse_bytes(text),
            None => count(0..=u64::MAX)(value).ok(),
        };
        number.filter(|number| bounds.contains(number)).and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let (least, most) = (show_bytes(*bounds.start()), show_bytes(*bounds.end()));
            format!("must be bytes from {least} to {most}, such as 65536 or \"64KiB\", not {}", shown(value))
        })
    }
}

/// What `limits.memory` and `--mem` say: bytes, `"none"` for no bound, or `"auto"`.
pub(super) fn memory(value: &DeValue<'_>) -> Result<Option<u64>, String> {
    match value.as_str() {
        Some(text) => parse_memory(text),
        None => bytes(MEMORY_LEAST..=MEMORY_MOST)(value).map(Some).map_err(|_| String::new()),
    }
    .map_err(|_| format!("must be \"auto\", \"none\" or bytes from \"16MiB\" on, not {}", shown(value)))
}

/// The same as a text.
pub(crate) fn parse_memory(text: &str) -> Result<Option<u64>, String> {
    match text {
        "auto" => Ok(super::machine::share()),
        "none" => Ok(None),
        _ => parse_bytes(text)
            .filter(|bytes| (MEMORY_LEAST..=MEMORY_MOST).contains(bytes))
            .map(Some)
            .ok_or_else(|| "auto, none, or a size from 16MiB on with its unit, such as 512MiB or 4GiB".into()),
    }
}

const MEMORY_LEAST: u64 = 16 << 20;
const MEMORY_MOST: u64 = 1 << 50;

/// A text such as `"10s"`.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        value.as_str().and_then(parse_duration).filter(|duration| bounds.contains(duration)).ok_or_else(|| {
            let (least, most) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
            format!("must be a time from \"{least}\" to \"{most}\" in us, ms, s, m or h, not {}", shown(value))
        })
    }
}

/// A text.
pub(super) fn text<'a>(value: &'a DeValue<'a>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("must be a text in quotes, not {}", shown(value)))
}

/// `true` or `false`.
pub(super) fn yes_or_no(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, not {}", shown(value)))
}

/// A list of texts, each of which `read` accepts.
pub(super) fn list<T>(
    read: impl Fn(&str) -> Result<T, String>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Vec<T>, String> {
    move |value| {
        let array =
            value.as_array().ok_or_else(|| format!("must be a list such as [\"…\"], not {}", shown(value)))?;
        array.iter().map(|item| text(item.get_ref()).and_then(&read)).collect()
    }
}

/// `10s`, `500ms`, `200us`, `2m`, `1h`; `0` needs no unit but may have one.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = split(text)?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "" if digits == 0 => 0,
        _ => return None,
    };
    digits.checked_mul(micros).map(Duration::from_micros)
}

/// The shortest text that [`parse_duration`] reads as this, down to a microsecond.
pub(crate) fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, length) in [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)] {
        if micros >= length && micros.is_multiple_of(length) {
            return format!("{}{unit}", micros / length);
        }
    }
    if micros == 0 { "0s".into() } else { format!("{micros}us") }
}

pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = split(text)?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    digits.checked_mul(1 << shift)
}

fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
            return format!("\"{}{unit}\"", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start_matches(' ')))
}

/// A value as an error shows it: never long, and no table or list at all.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > 64 => format!("a text of {} bytes", text.len()),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(digits) if digits.radix() == 10 => digits.as_str().into(),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("{} {}", if other.is_integer() || other.is_array() { "an" } else { "a" }, other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_no_fraction() {
        for (text, micros) in [
            ("0", 0),
            ("0s", 0),
            ("1us", 1),
            ("500ms", 500_000),
            ("10s", 10_000_000),
            ("2m", 120_000_000),
            ("1 h", 3_600_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "10 sec", "10S", "99999999999999999999s", "9999999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_shown_time_is_read_back() {
        for micros in [0, 1, 999, 1_000, 1_500, 1_000_000, 90_000_000, 60_000_000, 3_600_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("3 GiB"), Some(3 << 30));
        assert_eq!(parse_bytes("7"), Some(7));
        for text in ["", "KiB", "64kb", "64KB", "-1", "99999999999999999999", "99999999999999GiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!(
            (show_bytes(65_536), show_bytes(65_537), show_bytes(0)),
            ("\"64KiB\"".into(), "65537".into(), "0".into())
        );
    }
}
