//! Runs to tables and JSON.

use std::fmt::Write as _;

use super::machine::Machine;
use super::measures::Measures;

/// One run of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) players: usize,
    pub(crate) target: String,
    /// Empty where there is no choice.
    pub(crate) mode: String,
    /// Whether its joins mean something.
    pub(crate) joins: bool,
    pub(crate) result: Result<Measures, String>,
}

/// A table of the cells of `runs` in the order of their first run; each number is the median [least - most].
pub(crate) fn table(runs: &[Run]) -> String {
    let mut rows = vec![
        [
            "target",
            "mode",
            "µs/viewer-s",
            "× floor",
            "CPU s/GB",
            "RSS MB",
            "join p50 ms",
            "p99",
            "age p50 ms",
            "p99",
            "max",
            "lost",
            "gaps",
            "falls",
            "bad",
            "notes",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for run in runs {
        if seen.contains(&(&run.target, &run.mode)) {
            continue;
        }
        seen.push((&run.target, &run.mode));
        rows.push(row(run, runs));
    }
    columns(&rows)
}

fn row(cell: &Run, runs: &[Run]) -> Vec<String> {
    let of = |target: &str, mode: &str| -> Vec<&Measures> {
        let cell = runs.iter().filter(|run| run.target == target && run.mode == mode);
        cell.filter_map(|run| run.result.as_ref().ok()).collect()
    };
    let good = of(&cell.target, &cell.mode);
    let values = |value: fn(&Measures) -> f64| good.iter().map(|run| value(run)).collect::<Vec<f64>>();
    let sum = |value: fn(&Measures) -> f64| values(value).iter().sum::<f64>().to_string();
    let joins = |value| if cell.joins { spread(values(value)) } else { "-".to_owned() };
    // What has no modes sends message by message, as the floor does at 0.
    let floor_mode = if cell.mode == "-" { "0" } else { &cell.mode };
    let floor = median(&of("floor", floor_mode).iter().map(|run| run.us_per_viewer_s()).collect::<Vec<_>>());
    let ratio = match floor {
        Some(floor) if cell.target != "floor" => {
            spread(good.iter().map(|run| run.us_per_viewer_s() / floor).collect())
        }
        _ => "-".to_owned(),
    };
    vec![
        cell.target.clone(),
        cell.mode.clone(),
        spread(values(Measures::us_per_viewer_s)),
        ratio,
        spread(values(Measures::s_per_gb)),
        spread(values(|run| run.rss_mb)),
        joins(|run| run.join_p50_ms),
        joins(|run| run.join_p99_ms),
        spread(values(|run| run.age_p50_ms)),
        spread(values(|run| run.age_p99_ms)),
        spread(values(|run| run.age_max_ms)),
        sum(|run| run.lost + run.never_joined),
        sum(|run| run.gaps),
        sum(|run| run.falls),
        sum(|run| run.corrupt + run.strange),
        notes(cell, runs, &good),
    ]
}

/// What a letter in the last column means; a number behind it says in how many rounds.
pub(crate) const LEGEND: &str = "notes: E run failed, M frames missing in the window, D frames repeated, G generator over 90 % of \
its core, L publisher late (p99 over a tenth of the age's p50), B publisher blocked, F over 5 % of a core used by \
others, S over 1 % stolen, C clock stepped";

fn notes(cell: &Run, runs: &[Run], good: &[&Measures]) -> String {
    let failed = runs.iter().filter(|run| run.target == cell.target && run.mode == cell.mode && run.result.is_err());
    let count = |letter: &str, wrong: fn(&Measures) -> bool| {
        (letter.to_owned(), good.iter().filter(|run| wrong(run)).count())
    };
    let counts = [
        ("E".to_owned(), failed.count()),
        count("M", |run| run.received < run.expected),
        count("D", |run| run.repeated > 0.0),
        count("G", |run| run.generator_busy > 0.9),
        count("L", |run| run.late_p99_ms > 0.1 * run.age_p50_ms),
        count("B", |run| run.blocked > 0.0),
        count("F", |run| run.foreign_busy > 0.05),
        count("S", |run| run.steal > 0.01),
        count("C", |run| run.clock_step_ms > 1.0),
    ];
    counts.iter().filter(|(_, count)| *count > 0).map(|(letter, count)| format!("{letter}{count}")).collect()
}

/// Pads the columns.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let width = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
            let pad = " ".repeat(width - cell.chars().count());
            // Names to the left, numbers to the right.
            text += &if i < 2 { format!("{cell}{pad}  ") } else { format!("{pad}{cell}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// `median [least - most]`.
pub(crate) fn spread(mut values: Vec<f64>) -> String {
    let Some(median) = median(&values) else { return "-".to_owned() };
    if median.is_nan() {
        return "-".to_owned();
    }
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [only] => short(*only),
        [least, .., most] => format!("{} [{}-{}]", short(median), short(*least), short(*most)),
        [] => "-".to_owned(),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(low.midpoint(*high))
}

fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Everything, for a program.
pub(crate) fn json(machine: &Machine, runs: &[Run], remarks: &[String]) -> String {
    let facts: Vec<String> =
        machine.facts.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value))).collect();
    let strings = |list: &[String]| list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let mut out = format!(
        "{{\n\"schema\": 1,\n\"machine\": {{{}}},\n\"warnings\": [{}],\n\"remarks\": [{}],\n\"runs\": [\n",
        facts.join(", "),
        strings(&machine.warnings),
        strings(remarks),
    );
    for (i, run) in runs.iter().enumerate() {
        let comma = if i == 0 { "" } else { ",\n" };
        let _infallible = write!(
            out,
            "{comma}{{\"scenario\": {}, \"players\": {}, \"target\": {}, \"mode\": {}, {}}}",
            quoted(run.scenario),
            run.players,
            quoted(&run.target),
            quoted(&run.mode),
            result(run),
        );
    }
    out + "\n]\n}\n"
}

fn result(run: &Run) -> String {
    let measures = match &run.result {
        Ok(measures) => measures,
        Err(error) => return format!("\"error\": {}", quoted(error)),
    };
    let number = |value: f64| if value.is_finite() { value.to_string() } else { "null".to_owned() };
    let derived = [("us_per_viewer_s", measures.us_per_viewer_s()), ("cpu_s_per_gb", measures.s_per_gb())];
    let fields = derived.into_iter().chain(measures.fields());
    fields.map(|(name, value)| format!("{}: {}", quoted(name), number(value))).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if u32::from(char) < 0x20 => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out + "\""
}
