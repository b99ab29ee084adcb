//! A report on a terminal: 110 columns, a line per figure and distribution.

use std::fmt::Write as _;

use super::super::model::{Better, Distribution, Figure, QUANTILES, Report, Scenario};
use super::charts::join;
use super::columns::{Cell, Columns, Paint, Palette, clean, paragraph};
use super::format::{self, NONE, Scale, nanos};
use super::series::shared;
use super::summary::{
    Metric, Spread, Verdict, distributions, line_classes, metrics, ratio, take_silent, verdict, verdicts,
};

/// The report as text without colour.
#[must_use]
pub fn table(report: &Report) -> String {
    draw(report, Palette { on: false })
}

/// The report as text with the colours of a terminal.
#[must_use]
pub fn table_in_colour(report: &Report) -> String {
    draw(report, Palette { on: true })
}

fn draw(report: &Report, palette: Palette) -> String {
    let mut out = String::new();
    head(&mut out, report, palette);
    for scenario in &report.scenarios {
        scenario_table(&mut out, scenario, palette);
    }
    disturbances(&mut out, report, palette);
    warnings(&mut out, report, palette);
    out
}

fn head(out: &mut String, report: &Report, palette: Palette) {
    paragraph(out, "", &format!("{} size, {}", report.size, report.started), palette, Paint::Bold);
    paragraph(out, "  ", &report.command, palette, Paint::Dim);
    let facts = report.machine.facts.iter().map(|(name, value)| format!("{name} {value}"));
    let facts: Vec<String> = [format::plural(report.machine.cores, "core")].into_iter().chain(facts).collect();
    paragraph(out, "  ", &facts.join("; "), palette, Paint::Dim);
    let [met, missed, unknown] = verdicts(report);
    if met + missed + unknown > 0 {
        let mut line = palette.paint(Paint::Good, &format!("{met} met"));
        if missed > 0 {
            let _ = write!(line, ", {}", palette.paint(Paint::Bad, &format!("{missed} missed")));
        }
        if unknown > 0 {
            let _ = write!(line, ", {}", palette.paint(Paint::Warn, &format!("{unknown} without a number")));
        }
        let _ = writeln!(out, "  goals: {line}");
    }
}

fn scenario_table(out: &mut String, scenario: &Scenario, palette: Palette) {
    out.push('\n');
    let about = format!("{} ({})", scenario.about, format::plural(scenario.repetitions, "repetition"));
    paragraph(out, &format!("{}  ", clean(&scenario.name)), &about, palette, Paint::Bold);
    let config = scenario.config.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>();
    if !config.is_empty() {
        paragraph(out, "  ", &config.join("; "), palette, Paint::Dim);
    }
    for warning in &scenario.warnings {
        paragraph(out, "  ! ", warning, palette, Paint::Warn);
    }
    let mut figures = metrics(scenario);
    let silent = take_silent(&mut figures);
    if !silent.is_empty() {
        paragraph(out, "  ", &format!("never: {}", silent.join(", ")), palette, Paint::Good);
    }
    if !figures.is_empty() {
        let mut columns = Columns::default();
        for metric in &figures {
            figure_rows(&mut columns, scenario, metric);
        }
        columns.draw(out, 2, palette);
    }
    let distributions = distributions(scenario);
    if !distributions.is_empty() {
        out.push('\n');
        let mut columns = Columns::default();
        for metric in &distributions {
            distribution_rows(&mut columns, metric);
        }
        columns.draw(out, 2, palette);
    }
}

fn figure_rows(columns: &mut Columns, scenario: &Scenario, metric: &Metric<'_, Figure>) {
    let better = match metric.rows.first().map(|figure| figure.better) {
        Some(Better::Lower) => "less is better",
        Some(Better::Higher) => "more is better",
        Some(Better::Neither) | None => "",
    };
    let shared = shared(&metric.rows);
    let head = join(&[metric.name, better, &format::params(&shared)]);
    let titles = ["median", "[min – max]", "ratio", "goal"].map(|title| Cell::new(title, Paint::Dim));
    columns.push([Cell::new(head, Paint::Bold)].into_iter().chain(titles).collect());
    for figure in &metric.rows {
        let [median, range] = spread_texts(figure);
        let ratio = ratio(&scenario.figures, figure);
        let ratio = ratio.map_or_else(String::new, |(ratio, of)| format!("{} {of}", format::ratio(ratio)));
        columns.push(vec![
            Cell::plain(label(&figure.subject, &figure.params, &shared)),
            Cell::plain(median),
            Cell::new(range, Paint::Dim),
            Cell::plain(ratio),
            goal(figure),
        ]);
    }
}

/// `  shardcast · subscribers 1000`, below the name of its metric and without what stands there.
fn label(subject: &str, params: &[(String, String)], shared: &[(String, String)]) -> String {
    let own: Vec<(String, String)> = params.iter().filter(|param| !shared.contains(param)).cloned().collect();
    format!("  {}", join(&[subject, &format::params(&own)]))
}

/// Median with its unit, and the ends in the same one.
fn spread_texts(figure: &Figure) -> [String; 2] {
    let Some(spread) = Spread::of(&figure.values) else { return [NONE.to_owned(), String::new()] };
    let scale = Scale::of(&figure.unit, spread.median);
    [scale.with_unit(spread.median), format!("[{} – {}]", scale.bare(spread.min), scale.bare(spread.max))]
}

fn goal(figure: &Figure) -> Cell {
    let Some((goal, verdict)) = figure.goal.as_ref().zip(verdict(figure)) else { return Cell::plain("") };
    let typical = Spread::of(&figure.values).map_or(goal.bound, |spread| spread.median);
    let scale = Scale::of(&figure.unit, typical);
    // The median beside it says the unit.
    let bound = if verdict == Verdict::Unknown { scale.with_unit(goal.bound) } else { scale.bare(goal.bound) };
    let sign = if figure.better == Better::Higher { '≥' } else { '≤' };
    let (word, paint) = match verdict {
        Verdict::Met => ("met", Paint::Good),
        Verdict::Missed => ("MISSED", Paint::Bad),
        Verdict::Unknown => ("?", Paint::Warn),
    };
    Cell::new(format!("{word} {sign} {bound}"), paint)
}

fn distribution_rows(columns: &mut Columns, metric: &Metric<'_, Distribution>) {
    let names = QUANTILES.iter().map(|q| format::quantile(*q)).chain(["max", "samples", ""].map(str::to_owned));
    let titles = names.map(|title| Cell::new(title, Paint::Dim));
    let shared = shared(&metric.rows);
    let head = Cell::new(join(&[metric.name, &format::params(&shared)]), Paint::Bold);
    columns.push([head].into_iter().chain(titles).collect());
    for distribution in &metric.rows {
        let mut row = vec![Cell::plain(label(&distribution.subject, &distribution.params, &shared))];
        for wanted in QUANTILES {
            let found = distribution.quantiles.iter().find(|(q, _)| (q - wanted).abs() < 1e-9);
            row.push(Cell::plain(found.map_or_else(|| NONE.to_owned(), |(_, ns)| nanos(*ns))));
        }
        row.push(Cell::plain(if distribution.count == 0 { NONE.to_owned() } else { nanos(distribution.max) }));
        row.push(Cell::new(format::count(distribution.count), Paint::Dim));
        row.push(Cell::plain(""));
        columns.push(row);
    }
}

fn disturbances(out: &mut String, report: &Report, palette: Palette) {
    let machine = &report.machine;
    if let Some(line) = Spread::of(&machine.line_ns) {
        let text = format!(
            "{} one way, {} to {}, class {}",
            nanos(line.median),
            format::number(line.min),
            format::number(line.max),
            line_classes(report)
        );
        out.push('\n');
        paragraph(out, "bare line  ", &text, palette, Paint::Plain);
    }
    for hiccups in &machine.hiccups {
        let [p50, p99, max] = [hiccups.p50_ms, hiccups.p99_ms, hiccups.max_ms].map(|ms| format::value(ms, "ms"));
        let steal = format::number(hiccups.steal * 100.0);
        let text = format!("woken too late by p50 {p50}, p99 {p99}, max {max}; the hypervisor took {steal} %");
        paragraph(out, &format!("core {}  ", hiccups.core), &text, palette, Paint::Plain);
    }
}

fn warnings(out: &mut String, report: &Report, palette: Palette) {
    let of_scenarios = report.scenarios.iter().filter(|scenario| !scenario.warnings.is_empty());
    let of_scenarios: Vec<&str> = of_scenarios.map(|scenario| &*scenario.name).collect();
    if report.warnings.is_empty() && of_scenarios.is_empty() {
        return;
    }
    out.push('\n');
    for warning in &report.warnings {
        paragraph(out, "! ", warning, palette, Paint::Warn);
    }
    if !of_scenarios.is_empty() {
        paragraph(out, "! ", &format!("warnings above, in {}", of_scenarios.join(", ")), palette, Paint::Warn);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::model::Goal;
    use super::super::sample;
    use super::*;

    #[test]
    fn no_line_of_the_sample_is_wider_than_a_terminal_and_every_number_is_there() {
        let report = sample::report();
        let text = table(&report);
        sample::keep("report.txt", &table_in_colour(&report));
        for line in text.lines() {
            assert!(super::super::columns::width(line) <= super::super::columns::WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
        for figure in report.scenarios.iter().flat_map(|scenario| &scenario.figures) {
            let [median, range] = spread_texts(figure);
            assert!(text.contains(&median) && text.contains(&range), "{}: {median} {range}", figure.metric);
        }
        for warning in ["SAMPLE DATA", "2 cores: the load", "warnings above, in relay, memory"] {
            assert!(text.contains(warning), "{warning} in\n{text}");
        }
        assert!(text.contains("core 1  woken too late by p50 61.0 µs, p99 440 µs, max 7.90 ms"), "{text}");
        assert!(text.contains("bare line  53.1 ns one way, 51.8 to 55.2, class B"), "{text}");
    }

    #[test]
    fn a_row_has_median_range_ratio_and_goal() {
        let mut ours = sample::figure("shardcast", "delivery", "ns", &[("subscribers", "10")], vec![2.0, 2.5, 2.25]);
        ours.goal = Some(Goal { bound: 2.2, why: String::new() });
        let peer = sample::figure("peer", "delivery", "ns", &[("subscribers", "10")], vec![4_500.0]);
        let scenario = Scenario { figures: vec![ours, peer], repetitions: 3, ..Scenario::default() };
        let text = table(&Report { scenarios: vec![scenario], ..Report::default() });
        let row = |of: &str| {
            let row = text.lines().find(|line| line.trim().starts_with(of)).unwrap();
            row.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("shardcast "), "shardcast 2.25 ns [2.00 – 2.50] MISSED ≤ 2.20");
        assert_eq!(row("peer "), "peer 4.50 µs [4.50 – 4.50] 2,000× shardcast");
        assert!(text.contains("delivery · less is better · subscribers 10"), "{text}");
    }

    #[test]
    fn colour_is_only_where_it_is_asked_for_and_changes_no_text() {
        let report = sample::report();
        let plain = table(&report);
        assert!(!plain.contains('\x1b'));
        let mut coloured = table_in_colour(&report);
        assert!(coloured.contains("\x1b[1;31mMISSED"));
        for code in ["1", "2", "32", "1;31", "33", "0"] {
            coloured = coloured.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(coloured, plain);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal_and_emptiness_is_no_panic() {
        let figure = sample::figure("a\x1b[2J\nb", "m\x07", "ns", &[("\r", "\x1b")], vec![f64::NAN]);
        let distribution = Distribution { subject: "\x1b".to_owned(), max: f64::NAN, ..Distribution::default() };
        let mut scenario = Scenario { name: "\x1b".to_owned(), figures: vec![figure], ..Scenario::default() };
        scenario.distributions.push(distribution);
        let mut report = Report { scenarios: vec![scenario, Scenario::default()], ..Report::default() };
        report.machine.hiccups.push(super::super::super::model::Hiccups { p50_ms: f64::NAN, ..Default::default() });
        report.warnings.push("\x1b[2J".to_owned());
        let text = table(&report);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
