//! Interval logs for the tools of HdrHistogram: `HistogramLogProcessor`, HdrHistogram log analysers, and the readers of
//! its Java, JavaScript and Python libraries.
//!
//! One log per scenario, one tag per distribution; a distribution without intervals is one line of length zero at the
//! start. The crate's writer emits neither the format's version nor the legend, so both are written before it begins.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};
use hdrhistogram::serialization::{V2DeflateSerializeError, V2DeflateSerializer};

use super::super::model::{Distribution, Interval, Report, Scenario};
use super::histogram::{DecodeError, decode};

/// A report that cannot be written as logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A histogram of the report cannot be read.
    #[error("{scenario}, {metric} of {subject}: {source}")]
    Histogram {
        /// Its scenario.
        scenario: String,
        /// Its subject.
        subject: String,
        /// Its metric.
        metric: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A histogram cannot be written again.
    #[error("a histogram cannot be written: {0:?}")]
    Serialize(V2DeflateSerializeError),
    /// The writer failed.
    #[error("the log cannot be written: {0}")]
    Write(#[from] io::Error),
    /// The report does not say when it began, and a log without that shows intervals in 1970.
    #[error("the report began at {0:?}, which is no time like 2026-03-14T09:26:53Z")]
    Started(String),
}

impl From<IntervalLogWriterError<V2DeflateSerializeError>> for LogError {
    fn from(error: IntervalLogWriterError<V2DeflateSerializeError>) -> Self {
        match error {
            IntervalLogWriterError::SerializeError(error) => Self::Serialize(error),
            IntervalLogWriterError::IoError(error) => Self::Write(error),
        }
    }
}

/// The name of a file and its text, for each scenario that has distributions.
///
/// # Errors
///
/// Where a histogram of the report is damaged, or the report does not say when it began.
pub fn logs(report: &Report) -> Result<Vec<(String, String)>, LogError> {
    let start = seconds_since_epoch(&report.started).ok_or_else(|| LogError::Started(report.started.clone()))?;
    let start = UNIX_EPOCH + Duration::from_secs(start);
    let mut logs: Vec<(String, String)> = Vec::new();
    for scenario in report.scenarios.iter().filter(|scenario| !scenario.distributions.is_empty()) {
        let stem = name(&scenario.name);
        let taken = |name: &String| logs.iter().any(|(other, _)| other == name);
        let file = (1..).map(|nth| if nth == 1 { format!("{stem}.hlog") } else { format!("{stem}-{nth}.hlog") });
        let file = file.into_iter().find(|name| !taken(name)).unwrap_or_default();
        logs.push((file, log(scenario, start)?));
    }
    Ok(logs)
}

fn log(scenario: &Scenario, start: SystemTime) -> Result<String, LogError> {
    let mut lines = Vec::new();
    for distribution in &scenario.distributions {
        let tag = tag(distribution);
        let whole = [Interval { histogram: distribution.histogram.clone(), ..Interval::default() }];
        let intervals = if distribution.intervals.is_empty() { &whole[..] } else { &distribution.intervals };
        for interval in intervals {
            let histogram = decode(&interval.histogram).map_err(|source| LogError::Histogram {
                scenario: scenario.name.clone(),
                subject: distribution.subject.clone(),
                metric: distribution.metric.clone(),
                source,
            })?;
            lines.push((seconds(interval.start_s), seconds(interval.length_s), tag.clone(), histogram));
        }
    }
    // Readers that filter by time stop at the first line that lies behind their window.
    lines.sort_by_key(|line| line.0);

    let mut text = Vec::from(*b"#[Histogram log format version 1.3]\n");
    text.extend_from_slice(
        format!("#shardcast bench {}: {}\n", line(&scenario.name), line(&scenario.about)).as_bytes(),
    );
    text.extend_from_slice(b"#Nanoseconds; Interval_Max in milliseconds.\n");
    text.extend_from_slice(LEGEND);
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    // The greatest value stands in the log for people only.
    builder.with_start_time(start).with_base_time(start).with_max_value_divisor(1e6);
    let mut writer = builder.begin_log_with(&mut text, &mut serializer)?;
    for (start, length, tag, histogram) in &lines {
        writer.write_histogram(histogram, *start, *length, Tag::new(tag))?;
    }
    drop(writer);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `nginx-rtmp/age-at-the-player/players:1000`: a tag has neither blank nor comma.
fn tag(distribution: &Distribution) -> String {
    let params = distribution.params.iter().map(|(name, value)| format!("{name}:{value}"));
    let parts: Vec<String> =
        [distribution.subject.clone(), distribution.metric.clone()].into_iter().chain(params).collect();
    let fits = |c: char| if c.is_whitespace() || c.is_control() || c == ',' { '-' } else { c };
    parts.join("/").chars().map(fits).collect()
}

/// Letters, digits and dashes: a name that any file system takes.
fn name(name: &str) -> String {
    let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if stem.is_empty() { "scenario".to_owned() } else { stem }
}

fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Of a time in RFC 3339 with whole seconds, or fractions which are cut, in UTC or with an offset.
fn seconds_since_epoch(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let fixed = |at: usize, c: &str| text.get(at..=at).is_some_and(|found| found.eq_ignore_ascii_case(c));
    let separated = fixed(4, "-") && fixed(7, "-") && fixed(13, ":") && fixed(16, ":");
    if !separated || !(fixed(10, "t") || fixed(10, " ")) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let offset = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match (offset.as_bytes().first()?, offset.len()) {
        (b'Z' | b'z', 1) => 0,
        (sign @ (b'+' | b'-'), 6) => {
            let minutes = offset.get(1..3)?.parse::<i64>().ok()? * 60 + offset.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    // Howard Hinnant's days_from_civil: the year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3_600 + (minute - offset) * 60 + second).ok()
}

const LEGEND: &[u8] = b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry};

    use super::super::sample;
    use super::*;

    fn intervals(log: &str) -> Vec<IntervalLogHistogram<'_>> {
        let entries = IntervalLogIterator::new(log.as_bytes()).map(|entry| entry.expect("the log parses"));
        let intervals = entries.filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            LogEntry::StartTime(time) | LogEntry::BaseTime(time) => {
                assert_eq!(time.as_secs(), 1_773_480_413);
                None
            }
        });
        intervals.collect()
    }

    #[test]
    fn the_crates_own_reader_gets_every_sample_back() {
        let report = sample::report();
        let logs = logs(&report).unwrap();
        let names: Vec<&str> = logs.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["fanout.hlog", "hop.hlog", "relay.hlog"], "memory has no distributions");
        for (name, text) in &logs {
            sample::keep(name, text);
        }

        let with = report.scenarios.iter().filter(|scenario| !scenario.distributions.is_empty());
        for ((_, log), scenario) in logs.iter().zip(with) {
            assert!(log.starts_with("#[Histogram log format version 1.3]\n"), "Java's reader looks for it");
            let intervals = intervals(log);
            for distribution in &scenario.distributions {
                let mut sum = sample::histogram(&[]);
                for interval in
                    intervals.iter().filter(|interval| interval.tag().as_deref() == Some(&tag(distribution)))
                {
                    let histogram = decode(interval.encoded_histogram()).unwrap();
                    assert!((interval.max() - histogram.max() as f64 / 1e6).abs() < 0.001, "milliseconds");
                    sum.add(histogram).unwrap();
                }
                assert_eq!(sum, decode(&distribution.histogram).unwrap(), "{}", distribution.metric);
            }
            assert!(intervals.is_sorted_by_key(IntervalLogHistogram::start_timestamp));
        }
    }

    #[test]
    fn names_that_a_log_cannot_hold_are_written_so_that_it_can() {
        let mut report = sample::report();
        report.scenarios.truncate(1);
        report.scenarios[0].name = "../fan\nout".to_owned();
        report.scenarios[0].about = "two\nlines".to_owned();
        report.scenarios[0].distributions[0].metric = "a, b\r\nc".to_owned();
        report.scenarios.push(report.scenarios[0].clone());

        let logs = logs(&report).unwrap();

        assert_eq!(logs[0].0, "---fan-out.hlog");
        assert_eq!(logs[1].0, "---fan-out-2.hlog");
        assert_eq!(intervals(&logs[0].1)[0].tag().as_deref(), Some("shardcast/a--b--c"));
    }

    #[test]
    fn a_damaged_histogram_and_a_run_without_a_beginning_are_errors_that_say_so() {
        let mut report = sample::report();
        report.scenarios[1].distributions[0].histogram = "!".to_owned();
        let error = logs(&report).unwrap_err().to_string();
        assert!(error.starts_with("hop, one-way latency of floor: the histogram is not base64"), "{error}");

        report.started = "yesterday".to_owned();
        assert!(matches!(logs(&report), Err(LogError::Started(_))));
    }

    #[test]
    fn times_are_seconds_since_the_epoch() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2026-03-14T09:26:53.250Z", Some(1_773_480_413)),
            ("2026-03-14T10:26:53+01:00", Some(1_773_480_413)),
            ("2026-03-14T07:56:53-01:30", Some(1_773_480_413)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-14T09:26:53Z", None),
            ("2026-03-14 09:26", None),
            ("2026-03-14T09:26:53", None),
            ("2026-03-14T09:26:5äZ", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(seconds_since_epoch(text), seconds, "{text}");
        }
    }
}
