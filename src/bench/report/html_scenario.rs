//! One scenario on the page: its charts, and behind them every number.

use std::fmt::Write as _;

use super::super::model::{Better, Distribution, Figure, QUANTILES, Scenario};
use super::charts::charts;
use super::format::{self, NONE, Scale, nanos};
use super::html::{Text, warnings};
use super::series::Subjects;
use super::summary::{Metric, Spread, Verdict, distributions, metrics, ratio, take_silent, verdict};

/// Charts that stand open; more are a click away.
const CHARTS_OPEN: usize = 12;
/// Rows of numbers that stand open.
const ROWS_OPEN: usize = 24;

pub(super) fn section(body: &mut String, scenario: &Scenario, at: usize, subjects: &Subjects<'_>) {
    let name = Text(&scenario.name);
    let repetitions = format::plural(scenario.repetitions, "repetition");
    let about = Text(&scenario.about);
    let _ = write!(
        body,
        "<section id=\"s{at}\"><h2>{name} <span>{repetitions}</span></h2><p class=\"about\">{about}</p>"
    );
    warnings(body, &scenario.warnings);
    if !scenario.config.is_empty() {
        body.push_str("<p class=\"config\">");
        for (name, value) in &scenario.config {
            let _ = write!(body, "<span>{} <b>{}</b></span> ", Text(name), Text(value));
        }
        body.push_str("</p>");
    }
    let silent = take_silent(&mut metrics(scenario));
    if !silent.is_empty() {
        let _ = write!(body, "<p class=\"met\">never: {}</p>", Text(&silent.join(", ")));
    }
    let drawn = charts(scenario, subjects);
    let (open, more) = drawn.split_at(drawn.len().min(CHARTS_OPEN));
    if !open.is_empty() {
        let _ = write!(body, "<div class=\"charts\">{}</div>", open.concat());
    }
    if !more.is_empty() {
        let count = format::plural(more.len(), "more chart");
        let _ = write!(
            body,
            "<details><summary>{count}</summary><div class=\"charts\">{}</div></details>",
            more.concat()
        );
    }
    let rows = scenario.figures.len() + scenario.distributions.len();
    if rows > 0 {
        let open = if rows <= ROWS_OPEN { " open" } else { "" };
        let _ = write!(body, "<details{open}><summary>all {}</summary>", format::plural(rows, "number"));
        figures(body, scenario);
        tails(body, scenario);
        body.push_str("</details>");
    }
    body.push_str("</section>\n");
}

fn figures(body: &mut String, scenario: &Scenario) {
    let metrics = metrics(scenario);
    if metrics.is_empty() {
        return;
    }
    body.push_str("<div class=\"scroll\"><table>");
    for metric in &metrics {
        let better = match metric.rows.first().map(|figure| figure.better) {
            Some(Better::Lower) => "less is better",
            Some(Better::Higher) => "more is better",
            Some(Better::Neither) | None => "",
        };
        let _ = write!(
            body,
            "<tbody><tr class=\"metric\"><th>{} <span>{better}</span></th><th>median</th><th>least – greatest</th>\
             <th>ratio</th><th>goal</th></tr>",
            Text(metric.name)
        );
        for figure in &metric.rows {
            figure_row(body, scenario, figure);
        }
        body.push_str("</tbody>");
    }
    body.push_str("</table></div>");
}

fn label(body: &mut String, subject: &str, params: &[(String, String)]) {
    let _ = write!(body, "<tr><th>{} <span>{}</span></th>", Text(subject), Text(&format::params(params)));
}

fn figure_row(body: &mut String, scenario: &Scenario, figure: &Figure) {
    label(body, &figure.subject, &figure.params);
    let spread = Spread::of(&figure.values);
    let bound = figure.goal.as_ref().map(|goal| goal.bound);
    let scale = Scale::of(&figure.unit, spread.map(|spread| spread.median).or(bound).unwrap_or(f64::NAN));
    match spread {
        Some(Spread { median, min, max }) => {
            let (median, min, max) = (scale.with_unit(median), scale.bare(min), scale.bare(max));
            let _ = write!(body, "<td><b>{}</b></td><td class=\"dim\">{min} – {max}</td>", Text(&median));
        }
        None => {
            let _ = write!(body, "<td>{NONE}</td><td></td>");
        }
    }
    match ratio(&scenario.figures, figure) {
        Some((ratio, of)) => {
            let _ = write!(body, "<td>{} <span>{}</span></td>", format::ratio(ratio), Text(of));
        }
        None => body.push_str("<td></td>"),
    }
    let class = match verdict(figure) {
        Some(Verdict::Met) => "met",
        Some(Verdict::Missed) => "missed",
        Some(Verdict::Unknown) => "unknown",
        None => "",
    };
    let sign = if figure.better == Better::Higher { '≥' } else { '≤' };
    let goal = bound.map_or_else(String::new, |bound| format!("{sign} {}", scale.with_unit(bound)));
    let why = figure.goal.as_ref().map_or("", |goal| &goal.why);
    let _ = write!(body, "<td class=\"{class}\" title=\"{}\">{}</td></tr>", Text(why), Text(&goal));
}

fn tails(body: &mut String, scenario: &Scenario) {
    let metrics = distributions(scenario);
    if metrics.is_empty() {
        return;
    }
    body.push_str("<div class=\"scroll\"><table>");
    for metric in &metrics {
        tail_rows(body, metric);
    }
    body.push_str("</table></div>");
}

fn tail_rows(body: &mut String, metric: &Metric<'_, Distribution>) {
    let _ = write!(body, "<tbody><tr class=\"metric\"><th>{}</th>", Text(metric.name));
    for q in QUANTILES {
        let _ = write!(body, "<th>{}</th>", format::quantile(q));
    }
    body.push_str("<th>max</th><th>samples</th></tr>");
    for distribution in &metric.rows {
        label(body, &distribution.subject, &distribution.params);
        for wanted in QUANTILES {
            let found = distribution.quantiles.iter().find(|(q, _)| (q - wanted).abs() < 1e-9);
            let text = found.map_or_else(|| NONE.to_owned(), |(_, ns)| nanos(*ns));
            let _ = write!(body, "<td>{}</td>", Text(&text));
        }
        let max = if distribution.count == 0 { NONE.to_owned() } else { nanos(distribution.max) };
        let _ =
            write!(body, "<td>{}</td><td class=\"dim\">{}</td></tr>", Text(&max), format::count(distribution.count));
    }
    body.push_str("</tbody>");
}
