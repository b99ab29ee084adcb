//! The view as lines of text: for the terminal, for `--once`, and for tests.

use std::cmp::Ordering;

use crate::cli::control::model::{Follower, Shard, Stats, Stream, Times};
use crate::cli::plain::plain;

/// What streams are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    Viewers,
    Bitrate,
    Fps,
    Age,
    Skipped,
    Name,
}

/// How it is shown.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) sort: Sort,
    /// The other way round.
    pub(super) reversed: bool,
    /// Streams that are scrolled away.
    pub(super) from: usize,
}

/// A line, and whether it is the head of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) head: bool,
}

impl View {
    pub(super) const fn new(sort: Sort) -> Self {
        Self { sort, reversed: false, from: 0 }
    }

    /// All of it.
    pub(super) fn plain(&self, stats: &Stats) -> String {
        self.lines(stats, usize::MAX).into_iter().map(|line| line.text.trim_end().to_owned() + "\n").collect()
    }

    /// As much as fits so many lines.
    pub(super) fn lines(&self, stats: &Stats, height: usize) -> Vec<Line> {
        let mut lines: Vec<Line> = summary(stats).into_iter().map(|text| Line { text, head: false }).collect();
        lines.push(Line { text: String::new(), head: false });
        lines.extend(table(&SHARD_HEADS, stats.shards.iter().map(shard_cells)));
        lines.push(Line { text: String::new(), head: false });
        let streams = self.sorted(stats).into_iter().map(stream_cells);
        let mut streams = table(&STREAM_HEADS, streams).into_iter();
        lines.extend(streams.next());
        lines.extend(streams.skip(self.from));
        lines.truncate(height);
        lines
    }

    fn sorted<'a>(&self, stats: &'a Stats) -> Vec<&'a Stream> {
        let mut streams: Vec<&Stream> = stats.streams.iter().collect();
        streams.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Viewers => b.viewers.cmp(&a.viewers),
                Sort::Bitrate => (b.video_bps + b.audio_bps).cmp(&(a.video_bps + a.audio_bps)),
                Sort::Fps => b.fps.cmp(&a.fps),
                Sort::Age => b.stages.age.p99_ms.total_cmp(&a.stages.age.p99_ms),
                Sort::Skipped => b.skipped.cmp(&a.skipped),
                Sort::Name => Ordering::Equal,
            };
            order.then_with(|| a.stream.cmp(&b.stream))
        });
        if self.reversed {
            streams.reverse();
        }
        streams
    }
}

fn summary(stats: &Stats) -> Vec<String> {
    let audit = &stats.audit;
    let error = audit.last_error.as_ref().map_or_else(String::new, |error| format!(" (the last: {})", plain(error)));
    let mut lines = vec![
        format!(
            "shardcast {}  up {}  {} streams  {} viewers  {} connections  in {}b/s  out {}b/s  over {:.1} s",
            plain(&stats.version),
            time(stats.uptime_s),
            stats.streams.len(),
            stats.viewers,
            stats.connections,
            scaled(stats.bytes_in_per_s * 8.0),
            scaled(stats.bytes_out_per_s * 8.0),
            stats.window_s,
        ),
        format!(
            "audit: {} attempted, {} written, {} lost, {} sink errors{error}",
            audit.attempted, audit.written, audit.lost, audit.sink_errors
        ),
    ];
    lines.extend(audit.followers.iter().map(|follower| {
        let Follower { name, delivered, lag, refused, error, halted } = follower;
        let state = if *halted { "stopped" } else { "failing" };
        let error = error.as_ref().map_or_else(String::new, |error| format!("  {state}: {}", plain(error)));
        format!("  to {}: record {delivered}, {lag} behind, {refused} refused{error}", plain(name))
    }));
    lines
}

const SHARD_HEADS: [&str; 15] = [
    "SHARD",
    "CORE",
    "BUSY",
    "TURNS/S",
    "CONNS",
    "SUBS",
    "IN b/s",
    "OUT b/s",
    "TURN p99",
    "APPEND p99",
    "HOP p99",
    "FIRST p99",
    "AGE p50",
    "AGE p99",
    "AGE max ms",
];

fn shard_cells(shard: &Shard) -> [String; 15] {
    [
        shard.shard.to_string(),
        shard.core.map_or_else(|| "-".into(), |core| core.to_string()),
        format!("{:.1} %", shard.busy * 100.0),
        scaled(shard.turns_per_s),
        shard.connections.to_string(),
        shard.subscribers.to_string(),
        scaled(shard.bytes_in_per_s * 8.0),
        scaled(shard.bytes_out_per_s * 8.0),
        p99(&shard.turn),
        p99(&shard.stages.append),
        p99(&shard.stages.relay),
        p99(&shard.stages.first),
        ms(&shard.stages.age, shard.stages.age.p50_ms),
        p99(&shard.stages.age),
        ms(&shard.stages.age, shard.stages.age.max_ms),
    ]
}

const STREAM_HEADS: [&str; 12] = [
    "STREAM",
    "PUBLISHER",
    "SHARD",
    "UP",
    "VIEWERS",
    "VIDEO b/s",
    "AUDIO b/s",
    "FPS",
    "AGE p50",
    "AGE p99",
    "AGE max ms",
    "SKIP EVICT",
];

fn stream_cells(stream: &Stream) -> [String; 12] {
    let publisher = &stream.publisher;
    let from = publisher.peer.as_ref().or(publisher.principal.as_ref());
    let from = from.map_or_else(|| publisher.protocol.clone(), |from| format!("{} {from}", publisher.protocol));
    [
        plain(&stream.stream),
        plain(&from),
        stream.home.to_string(),
        time(stream.uptime_s),
        stream.viewers.to_string(),
        scaled(number(stream.video_bps)),
        scaled(number(stream.audio_bps)),
        stream.fps.to_string(),
        ms(&stream.stages.age, stream.stages.age.p50_ms),
        p99(&stream.stages.age),
        ms(&stream.stages.age, stream.stages.age.max_ms),
        format!("{} {:>5}", stream.skipped, stream.evicted),
    ]
}

/// Columns as wide as they must be; what is no number stands on the left.
fn table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<Line> {
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let is_text = |head: &str| matches!(head, "STREAM" | "PUBLISHER");
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(heads).map(|((cell, width), head)| {
            if is_text(head) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().enumerate().map(|(index, row)| Line { text: line(row), head: index == 0 }).collect()
}

fn p99(times: &Times) -> String {
    ms(times, times.p99_ms)
}

/// Three digits of a time in milliseconds, if there is any.
fn ms(times: &Times, ms: f64) -> String {
    match times.count {
        0 => "-".into(),
        _ if ms < 1.0 => format!("{ms:.3}"),
        _ if ms < 10.0 => format!("{ms:.2}"),
        _ if ms < 100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// With k, M or G behind it, and a place for it in any case.
fn scaled(value: f64) -> String {
    match value {
        _ if value < 1e3 => format!("{value:.0} "),
        _ if value < 1e6 => format!("{:.1} k", value / 1e3),
        _ if value < 1e9 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a positive time")]
fn time(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::control::model::{Audit, Publisher, Stages};

    fn stream(name: &str, viewers: usize, p99_ms: f64, fps: u64) -> Stream {
        let age = Times { count: 100, p50_ms: 0.25, p99_ms, max_ms: 2.0 * p99_ms };
        Stream {
            stream: name.into(),
            publisher: Publisher {
                protocol: "rtmp".into(),
                peer: Some("127.0.0.1:50000".into()),
                ..Publisher::default()
            },
            uptime_s: 75.0,
            viewers,
            video_bps: 2_500_000,
            audio_bps: 128_000,
            fps,
            skipped: 7,
            evicted: 1,
            stages: Stages { age, ..Stages::default() },
            ..Stream::default()
        }
    }

    fn stats() -> Stats {
        Stats {
            version: "1.2.3".into(),
            uptime_s: 3_725.0,
            window_s: 1.0,
            viewers: 1_005,
            shards: vec![Shard { busy: 0.123, turns_per_s: 4_321.0, core: Some(3), ..Shard::default() }],
            streams: vec![
                stream("live/a", 5, 4.5, 30),
                stream("live/b", 1_000, 120.0, 25),
                stream("live/c", 0, 0.8, 60),
            ],
            audit: Audit {
                attempted: 9,
                written: 8,
                lost: 1,
                sink_errors: 2,
                last_error: Some("disk full\u{1b}[2J".into()),
                ..Audit::default()
            },
            ..Stats::default()
        }
    }

    fn names(view: &View) -> Vec<String> {
        let shown = view.plain(&stats());
        let rows = shown.lines().filter(|line| line.starts_with("live/"));
        rows.map(|line| line.split(' ').next().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn each_place_that_the_trail_is_carried_to_has_a_line() {
        let mut stats = stats();
        let follower = Follower { name: "worm".into(), delivered: 4_700, lag: 11, ..Follower::default() };
        let halted = Follower { error: Some("cut\noff".into()), halted: true, ..follower.clone() };
        stats.audit.followers = vec![follower, halted];
        let shown = View::new(Sort::Name).plain(&stats);
        let lines: Vec<&str> = shown.lines().skip(2).take(2).collect();
        let plain = "  to worm: record 4700, 11 behind, 0 refused";
        assert_eq!(lines, [plain.to_owned(), format!("{plain}  stopped: cut·off")]);
    }

    #[test]
    fn everything_stands_under_its_head() {
        let shown = View::new(Sort::Name).plain(&stats());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("shardcast 1.2.3  up 1h02m  3 streams  1005 viewers"), "{shown}");
        assert_eq!(lines[1], "audit: 9 attempted, 8 written, 1 lost, 2 sink errors (the last: disk full·[2J)");
        let cells = |line: &str| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(cells(lines[3])[..4], ["SHARD", "CORE", "BUSY", "TURNS/S"]);
        assert_eq!(cells(lines[4])[..4], ["0", "3", "12.3 %", "4.3 k"]);
        assert_eq!(cells(lines[6])[..6], ["STREAM", "PUBLISHER", "SHARD", "UP", "VIEWERS", "VIDEO b/s"]);
        let row =
            ["live/a", "rtmp 127.0.0.1:50000", "0", "1m15s", "5", "2.5 M", "128.0 k", "30", "0.250", "4.50", "9.00"];
        assert_eq!(cells(lines[7])[..11], row);
        // A column ends where its head ends.
        let end = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        assert_eq!(end(lines[6], "VIEWERS"), end(lines[8], "1000"), "{shown}");
    }

    #[test]
    fn streams_are_sorted_by_each_key_the_greatest_first() {
        for (sort, expected) in [
            (Sort::Viewers, ["live/b", "live/a", "live/c"]),
            (Sort::Age, ["live/b", "live/a", "live/c"]),
            (Sort::Fps, ["live/c", "live/a", "live/b"]),
            (Sort::Name, ["live/a", "live/b", "live/c"]),
            (Sort::Bitrate, ["live/a", "live/b", "live/c"]),
        ] {
            assert_eq!(names(&View::new(sort)), expected, "{sort:?}");
        }
        let reversed = View { reversed: true, ..View::new(Sort::Viewers) };
        assert_eq!(names(&reversed), ["live/c", "live/a", "live/b"]);
    }

    #[test]
    fn it_scrolls_below_the_head_and_keeps_to_its_height() {
        let view = View { from: 2, ..View::new(Sort::Name) };
        assert_eq!(names(&view), ["live/c"]);
        assert_eq!(view.lines(&stats(), 5).len(), 5);
    }

    #[test]
    fn a_stage_without_a_timed_frame_shows_no_time() {
        assert_eq!(p99(&Times::default()), "-");
        assert_eq!((scaled(999.0), scaled(2.5e9)), ("999 ".into(), "2.50 G".into()));
    }
}
