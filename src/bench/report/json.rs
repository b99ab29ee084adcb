#![doc = include_str!("../schema.md")]

use serde::Deserialize;
use serde_json::error::Category;

use super::super::model::{Report, SCHEMA};

/// A text that is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON, or ends too early.
    #[error("not a JSON file: {0}")]
    Malformed(#[source] serde_json::Error),
    /// It is JSON, but nothing in it says that it is a report.
    #[error("this JSON file is no report of the harness: it has no schema version")]
    NoReport,
    /// It is a report in another form than this build knows.
    #[error(
        "the report is of schema version {found}, this build reads version {SCHEMA}: use the shardcast that wrote it"
    )]
    OtherSchema {
        /// Its version.
        found: u64,
    },
    /// It says that it is a report of this form, but a field is absent or of another type.
    #[error("a report, but not of the form that its version promises: {0}")]
    Misfit(#[source] serde_json::Error),
}

/// The report as JSON, to be read by people too.
///
/// What is no number is left out of the lists and null elsewhere.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut report = report.clone();
    report.machine.line_ns.retain(|value| value.is_finite());
    for scenario in &mut report.scenarios {
        for figure in &mut scenario.figures {
            figure.values.retain(|value| value.is_finite());
        }
        for distribution in &mut scenario.distributions {
            distribution.p50s.retain(|value| value.is_finite());
            distribution.quantiles.retain(|(q, value)| q.is_finite() && value.is_finite());
        }
    }
    // Strings, numbers, lists and string keys: nothing that JSON cannot say, and a `String` takes all that is written.
    serde_json::to_string_pretty(&report).unwrap_or_else(|error| unreachable!("a report is always JSON: {error}"))
        + "\n"
}

/// The report that [`write()`] made, or that another program wrote by this page.
///
/// # Errors
///
/// Where the text is no JSON, no report, or one of another version.
pub fn read(text: &str) -> Result<Report, ReadError> {
    /// The version is looked at before anything else is believed.
    #[derive(Deserialize)]
    struct Head {
        schema: u64,
    }
    let head: Head = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => ReadError::NoReport,
        Category::Syntax | Category::Eof | Category::Io => ReadError::Malformed(error),
    })?;
    if head.schema != u64::from(SCHEMA) {
        return Err(ReadError::OtherSchema { found: head.schema });
    }
    serde_json::from_str(text).map_err(ReadError::Misfit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::sample;
    use super::*;

    const DOCUMENTED: &str = include_str!("../schema.md");

    /// The names of all fields; the keys of a configuration are the scenario's own.
    fn fields(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    names.insert(name.clone());
                    if name != "config" {
                        fields(value, names);
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
            _ => {}
        }
    }

    #[test]
    fn a_report_survives_the_round_trip() {
        let report = sample::report();
        assert_eq!(read(&write(&report)).unwrap(), report);
        let empty = Report { schema: SCHEMA, ..Report::default() };
        assert_eq!(read(&write(&empty)).unwrap(), empty);
    }

    #[test]
    fn every_field_is_documented_and_nothing_else_is() {
        let mut written = BTreeSet::new();
        fields(&serde_json::from_str(&write(&sample::report())).unwrap(), &mut written);

        let mut documented = BTreeSet::new();
        let rows = DOCUMENTED.lines().filter(|line| line.starts_with("| `"));
        for names in rows.filter_map(|row| row.split('|').nth(1)) {
            documented.extend(names.split(',').map(|name| name.trim().trim_matches('`').to_owned()));
        }
        assert_eq!(written, documented);
    }

    #[test]
    fn what_is_no_number_is_left_out_or_null_and_read_again() {
        let mut report = sample::report();
        report.machine.line_ns = vec![f64::NAN, 53.0];
        report.scenarios[0].figures[0].values = vec![1.0, f64::INFINITY, 2.0];
        report.scenarios[0].distributions[0].max = f64::NAN;

        let read = read(&write(&report)).unwrap();

        assert_eq!(read.machine.line_ns, [53.0]);
        assert_eq!(read.scenarios[0].figures[0].values, [1.0, 2.0]);
        assert!(read.scenarios[0].distributions[0].max.is_nan());
    }

    #[test]
    fn a_file_of_another_version_says_which() {
        let error = read(&json!({ "schema": 7, "anything": [] }).to_string()).unwrap_err();
        assert!(matches!(error, ReadError::OtherSchema { found: 7 }), "{error}");
        assert!(error.to_string().contains("version 7"), "{error}");
    }

    #[test]
    fn what_is_no_report_is_told_from_what_is_no_json() {
        for text in ["", "{", "[1,2", "{\"schema\": 1,}", "shardcast"] {
            assert!(matches!(read(text), Err(ReadError::Malformed(_))), "{text}");
        }
        for text in ["{}", "[]", "12", "{\"schema\": \"one\"}", "{\"schema\": null}", "{\"schema\": -1}"] {
            assert!(matches!(read(text), Err(ReadError::NoReport)), "{text}");
        }
        let error = read("{\"schema\": 1}").unwrap_err();
        assert!(matches!(error, ReadError::Misfit(_)) && error.to_string().contains("started"), "{error}");
    }

    proptest! {
        #[test]
        fn a_report_that_is_cut_off_or_altered_is_no_panic(cut in 0_usize..3_000, byte in 0x20_u8..0x7f) {
            let mut report = sample::report();
            report.scenarios.retain(|scenario| scenario.distributions.is_empty());
            let text = write(&report);
            let cut = cut % (text.len() - 3);
            prop_assert!(read(&text[..cut]).is_err());
            let mut altered = text.into_bytes();
            altered[cut] = byte;
            // Within a string or a number it may be a report again.
            if let Ok(text) = String::from_utf8(altered) {
                let _ = read(&text);
            }
        }
    }
}
