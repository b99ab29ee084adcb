//! `[limits]`: every bound of the router by its name, within what makes sense.

use std::time::Duration;

use shardcast::limits::Limits;

use super::reader::Section;
use super::units::{bytes, count, count_or_none, duration, memory};

macro_rules! read {
    ($section:ident, $limits:ident, { $($field:ident: $read:expr,)* }) => {
        /// Every key of `[limits]`.
        #[cfg(test)]
        pub(super) const KEYS: &[&str] = &[$(stringify!($field)),*];

        pub(super) fn read_limits(mut $section: Section<'_>) -> Limits {
            let mut $limits = Limits::default();
            $limits.memory = super::machine::share();
            $(if let Some(value) = $section.take(stringify!($field), $read) {
                $limits.$field = value;
            })*
            if $limits.partial_bytes < $limits.message_bytes {
                $section.wrong("partial_bytes", "must be at least message_bytes, or no message of that size is ever whole");
            }
            $section.finish();
            $limits
        }
    };
}

read!(section, limits, {
    memory: memory,
    connections: count(1..=MANY),
    publishers: count(1..=MANY),
    streams: count(1..=MANY),
    subscribers_per_stream: count(1..=MANY),
    connections_per_address: count(1..=MANY),
    connections_per_principal: count_or_none(1..=MANY),
    publishers_per_principal: count_or_none(1..=MANY),
    viewers_per_principal: count_or_none(1..=MANY),
    publishers_per_address: count_or_none(1..=MANY),
    viewers_per_address: count_or_none(1..=MANY),
    accepts_per_second_per_address: count_or_none(1..=MANY),
    accepts_per_second: count(1..=MANY),
    handshake_deadline: duration(Duration::from_millis(100)..=HOUR),
    request_deadline: duration(Duration::from_millis(100)..=DAY),
    publisher_idle: duration(Duration::from_millis(100)..=DAY),
    close_deadline: duration(Duration::from_millis(10)..=HOUR),
    auth_deadline: duration(Duration::from_millis(10)..=HOUR),
    handshake_bytes: bytes(8 * KIB..=16 * MIB),
    streams_per_connection: count(1..=65_535),
    message_bytes: bytes(4 * KIB..=256 * MIB),
    partial_bytes: bytes(4 * KIB..=4096 * MIB),
    chunk_streams: count(4..=65_599),
    chunk_headers_per_second: count(1_000..=1_000_000_000),
    commands_per_second: count(10..=1_000_000),
    reply_bytes: bytes(8 * KIB..=1024 * MIB),
    bytes_per_second: count_or_none(1_000..=1_000_000_000_000),
    publisher_bitrate: count_or_none(8_000..=1_000_000_000_000),
    host_subscribers: count(0..=MANY),
    events: count(1..=1_000_000),
    audit_records: count(1..=1_000_000),
    audit_decisions: count(1..=1_000_000),
    audit_deadline: duration(Duration::from_millis(10)..=HOUR),
    shard_stall: duration(Duration::from_millis(100)..=HOUR),
});

const MANY: u64 = 16_777_216;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::super::reader::Problems;
    use super::*;

    fn read(text: &str) -> Result<Limits, Vec<String>> {
        let problems = Problems::new(text);
        let table = DeTable::parse(text).unwrap();
        let limits = read_limits(Section::root(table.get_ref(), &problems));
        let found = problems.into_found();
        if found.is_empty() { Ok(limits) } else { Err(found.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn every_field_of_the_limits_is_a_key() {
        let shown = format!("{:#?}", Limits::default());
        let fields = shown.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        let fields: Vec<_> = fields.filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
        assert_eq!(fields, KEYS);
    }

    #[test]
    fn nothing_given_is_the_default() {
        let mut expected = Limits::default();
        // But for one: a program of its own takes its share of the machine, a part of another leaves that to it.
        expected.memory = super::super::machine::share();
        assert!(expected.memory.is_some());
        assert_eq!(read(""), Ok(expected));
    }

    #[test]
    fn every_limit_at_its_extremes_is_taken_or_refused_by_name() {
        for key in KEYS {
            for value in [
                "0",
                "1",
                "-1",
                "9223372036854775807",
                "-9223372036854775808",
                "0xff",
                "1.5",
                "true",
                "\"\"",
                "[]",
                "{}",
                "\"0s\"",
                "\"1us\"",
                "\"1000000h\"",
                "\"0KiB\"",
                "\"1KiB\"",
                "\"17179869183GiB\"",
                "\"none\"",
                "inf",
            ] {
                if let Err(problems) = read(&format!("{key} = {value}")) {
                    assert!(
                        problems.iter().all(|text| text.starts_with(&format!("line 1: {key} must be "))
                            || text.starts_with("line 1: partial_bytes must be at least")),
                        "{key} = {value}: {problems:?}"
                    );
                }
            }
            // Below, at and above: no number is taken for a key that protects something.
            for value in ["-1", "9223372036854775807", "99999999999999999999999", "true"] {
                assert!(read(&format!("{key} = {value}")).is_err(), "{key} = {value}");
            }
        }
    }

    #[test]
    fn an_error_says_what_is_allowed() {
        for (text, expected) in [
            ("connections = 0", "line 1: connections must be a whole number from 1 to 16777216, not 0"),
            (
                "handshake_deadline = 10",
                "line 1: handshake_deadline must be a time from \"100ms\" to \"1h\" in us, ms, s, m or h, not 10",
            ),
            (
                "\nreply_bytes = \"1KiB\"",
                "line 2: reply_bytes must be bytes from \"8KiB\" to \"1GiB\", such as 65536 or \"64KiB\", not \"1KiB\"",
            ),
            (
                "bytes_per_second = 0",
                "line 1: bytes_per_second must be \"none\" or a whole number from 1000 to 1000000000000, not 0",
            ),
            (
                "message_bytes = \"64MiB\"",
                "line 1: partial_bytes must be at least message_bytes, or no message of that size is ever whole",
            ),
        ] {
            assert_eq!(read(text), Err(vec![expected.into()]));
        }
        let unknown = read("conections = 1").unwrap_err();
        assert!(
            unknown[0]
                .starts_with("line 1: conections is unknown here; known are: memory, connections, publishers, "),
            "{unknown:?}"
        );
    }

    #[test]
    fn what_is_given_is_taken() {
        let limits =
            read("connections = 5\nbytes_per_second = \"none\"\npublisher_bitrate = 8000\nclose_deadline = \"3s\"")
                .unwrap();
        assert_eq!((limits.connections, limits.publisher_bitrate), (5, Some(8000)));
        assert_eq!(read("memory = \"64MiB\"").unwrap().memory, Some(64 << 20));
        assert_eq!(read("memory = \"none\"").unwrap().memory, None);
        assert_eq!((limits.bytes_per_second, limits.close_deadline), (None, Duration::from_secs(3)));
    }
}
