//! Numbers as people read them: three significant digits, thousands set apart, in a unit that suits their size.

/// What stands where nothing was measured.
pub const NONE: &str = "–";

/// Units of one quantity, each a thousand times the one before.
const FAMILIES: [&[&str]; 3] =
    [&["ns", "µs", "ms", "s"], &["B", "kB", "MB", "GB", "TB"], &["1/s", "k/s", "M/s", "G/s"]];

/// A unit that makes a typical value readable: `ms` for 1,200 µs. One row keeps to one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// A value in the original unit is divided by this.
    pub divisor: f64,
    /// The unit that results.
    pub unit: String,
}

impl Scale {
    /// The scale for values of about `typical` `unit`.
    #[must_use]
    pub fn of(unit: &str, typical: f64) -> Self {
        let unit = if unit == "us" { "µs" } else { unit };
        let mut scale = Self { divisor: 1.0, unit: unit.to_owned() };
        let family = FAMILIES.iter().find_map(|family| Some((family, family.iter().position(|name| *name == unit)?)));
        let (Some((family, mut at)), true) = (family, typical.is_finite() && typical != 0.0) else { return scale };
        let typical = typical.abs();
        while typical / scale.divisor >= 999.5 && at + 1 < family.len() {
            (at, scale.divisor) = (at + 1, scale.divisor * 1e3);
        }
        while typical / scale.divisor < 0.9995 && at > 0 {
            (at, scale.divisor) = (at - 1, scale.divisor / 1e3);
        }
        family[at].clone_into(&mut scale.unit);
        scale
    }

    /// The number alone.
    #[must_use]
    pub fn bare(&self, value: f64) -> String {
        let counted = self.unit.is_empty() && value.fract() == 0.0 && value.abs() < 1e15;
        if counted { grouped(&format!("{value:.0}")) } else { number(value / self.divisor) }
    }

    /// The number with its unit.
    #[must_use]
    pub fn with_unit(&self, value: f64) -> String {
        match &*self.unit {
            _ if !value.is_finite() => NONE.to_owned(),
            "" => self.bare(value),
            unit => format!("{} {unit}", self.bare(value)),
        }
    }
}

/// A value in the unit that suits it.
#[must_use]
pub fn value(value: f64, unit: &str) -> String {
    Scale::of(unit, value).with_unit(value)
}

/// A time given in nanoseconds.
#[must_use]
pub fn nanos(ns: f64) -> String {
    value(ns, "ns")
}

/// Three significant digits: `0.0123`, `1.50`, `23.0`, `1,230`; what is no number is [`NONE`].
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounded first, since rounding may add a digit: 9.996 is 10.0.
    let scientific = format!("{value:.2e}");
    let (_, exponent) = scientific.split_once('e').unwrap_or(("", "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..15).contains(&exponent) {
        return scientific;
    }
    let rounded: f64 = scientific.parse().unwrap_or(value);
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    grouped(&format!("{rounded:.decimals$}"))
}

/// As short as it can be, for the ticks of an axis: `0.5`, `20`, `5k`, `2M`.
#[must_use]
pub fn short(value: f64) -> String {
    let size = value.abs();
    let (divisor, suffix) = match size {
        _ if size >= 1e9 => (1e9, "G"),
        _ if size >= 1e6 => (1e6, "M"),
        _ if size >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let text = number(value / divisor);
    let text = if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{suffix}")
}

/// A ratio: `1.24×`, `23.0×`, `0.0412×`.
#[must_use]
pub fn ratio(value: f64) -> String {
    if value == f64::INFINITY { "∞×".to_owned() } else { with_suffix(number(value), "×") }
}

/// A count with its thousands set apart.
#[must_use]
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// The name of a quantile: `p50`, `p99.9`.
#[must_use]
pub fn quantile(q: f64) -> String {
    // Two decimals more than the longest one in use, so that 0.9999 × 100 is not 99.99000000000001.
    let text = format!("{:.4}", q * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Parameters on one line: `subscribers 1000 · payload 1200`.
#[must_use]
pub fn params(params: &[(String, String)]) -> String {
    let parts = params.iter().map(|(name, value)| format!("{name} {value}"));
    parts.collect::<Vec<_>>().join(" · ")
}

/// `1 shard`, `2 shards`.
#[must_use]
pub fn plural(count: usize, of: &str) -> String {
    format!("{} {of}{}", grouped(&count.to_string()), if count == 1 { "" } else { "s" })
}

fn with_suffix(number: String, suffix: &str) -> String {
    if number == NONE { number } else { number + suffix }
}

/// Commas between thousands, in what stands before the decimal point.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, rest) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    let mut text = String::from(sign);
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_significant_digits_with_thousands_apart() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.00"),
            (1.5, "1.50"),
            (23.0, "23.0"),
            (9.996, "10.0"),
            (999.6, "1,000"),
            (1_234.0, "1,230"),
            (12_345_678.0, "12,300,000"),
            (0.012_345, "0.0123"),
            (-4_567.0, "-4,570"),
            (1.234e-7, "1.23e-7"),
            (1.2e20, "1.20e20"),
            (f64::NAN, NONE),
            (f64::INFINITY, NONE),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn a_value_gets_the_unit_that_suits_it() {
        let cases = [
            (1.5, "ns", "1.50 ns"),
            (53_000.0, "ns", "53.0 µs"),
            (999_600.0, "ns", "1.00 ms"),
            (0.25, "ms", "250 µs"),
            (90_000.0, "s", "90,000 s"),
            (0.2, "ns", "0.200 ns"),
            (25_000_000.0, "1/s", "25.0 M/s"),
            (0.5, "1/s", "0.500 1/s"),
            (2048.0, "B", "2.05 kB"),
            (1_234_567.0, "", "1,234,567"),
            (1_234.5, "", "1,230"),
            (1.1, "×", "1.10 ×"),
            (4_200.0, "µs/viewer-s", "4,200 µs/viewer-s"),
            (f64::NAN, "ns", NONE),
        ];
        for (number, unit, text) in cases {
            assert_eq!(value(number, unit), text, "{number} {unit}");
        }
    }

    #[test]
    fn ticks_are_short_and_quantiles_have_their_names() {
        assert_eq!([0.5, 20.0, 2.5, 5_000.0, 1e4, 2e6, 0.0].map(short), ["0.5", "20", "2.5", "5k", "10k", "2M", "0"]);
        assert_eq!([0.5, 0.9, 0.99, 0.999, 0.9999].map(quantile), ["p50", "p90", "p99", "p99.9", "p99.99"]);
        assert_eq!([ratio(1.0), ratio(f64::INFINITY), ratio(f64::NAN)], ["1.00×", "∞×", NONE]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_within_half_a_digit_of_the_value(value in prop::num::f64::NORMAL) {
            let printed: f64 = number(value).replace(',', "").parse().unwrap();
            prop_assert!((printed - value).abs() <= value.abs() * 0.005_001, "{value} printed as {printed}");
        }

        #[test]
        fn nothing_panics_whatever_the_bits(bits: u64, unit in "ns|us|ms|s|B|1/s||×|ä") {
            let number = f64::from_bits(bits);
            for text in [value(number, &unit), short(number), ratio(number), quantile(number), nanos(number)] {
                prop_assert!(!text.is_empty());
            }
        }
    }
}
