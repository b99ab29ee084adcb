//! A comparison as one page: what changed first, then everything, each ratio with its interval drawn around one.

use std::fmt::Write as _;

use super::super::model::Report;
use super::charts::join;
use super::compare::{Comparison, Outcome, Row};
use super::html::{Text, document, warnings};

/// The whole page, of the two reports that were compared.
#[must_use]
pub fn page(comparison: &Comparison, before: &Report, after: &Report) -> String {
    let mut body = String::from("<header><h1>shardcast <span>bench compare</span></h1>");
    match &comparison.refused {
        Some(_) => body.push_str("<p class=\"verdict\"><b class=\"missed\">not compared</b></p>"),
        None => counts(&mut body, comparison),
    }
    for (which, report) in [("before", before), ("after", after)] {
        let commit = report.machine.facts.iter().find(|(name, _)| name.eq_ignore_ascii_case("commit"));
        let commit = commit.map_or_else(String::new, |(_, commit)| format!("commit {commit}"));
        let started = report.started.replace('T', " ").replace('Z', " UTC");
        let text = join(&[&started, &commit, &report.size, &report.command]);
        let _ = write!(body, "<p><b>{which}</b> <span>{}</span></p>", Text(&text));
    }
    body.push_str("</header>\n");
    if let Some(refused) = &comparison.refused {
        warnings(&mut body, std::slice::from_ref(refused));
        return document("shardcast bench compare", &body);
    }
    warnings(&mut body, &comparison.warnings);

    let changed = |row: &&Row| matches!(row.outcome, Outcome::Regressed | Outcome::Improved | Outcome::Changed);
    let rows: Vec<&Row> = comparison.rows.iter().filter(changed).collect();
    if !rows.is_empty() {
        body.push_str("<section><h2>what changed</h2>");
        table(&mut body, &rows);
        body.push_str("</section>\n");
    }
    let rows: Vec<&Row> = comparison.rows.iter().collect();
    if !rows.is_empty() {
        body.push_str("<section><h2>everything</h2>");
        table(&mut body, &rows);
        body.push_str("</section>\n");
    }
    for (what, only) in [("only before", &comparison.only_before), ("only after", &comparison.only_after)] {
        if !only.is_empty() {
            let _ = write!(body, "<section class=\"reading\"><h2>{what}</h2><ul>");
            for key in only {
                let _ = write!(body, "<li>{}</li>", Text(key));
            }
            body.push_str("</ul></section>\n");
        }
    }
    body.push_str(READING);
    document("shardcast bench compare", &body)
}

fn counts(body: &mut String, comparison: &Comparison) {
    let class = match (comparison.count(Outcome::Regressed), comparison.count(Outcome::Improved)) {
        (0, 0) => "unknown",
        (0, _) => "met",
        _ => "missed",
    };
    let _ = write!(body, "<p class=\"verdict\"><b class=\"{class}\">{}</b></p>", Text(&comparison.summary()));
}

fn table(body: &mut String, rows: &[&Row]) {
    // All intervals on one scale, so that they can be compared by eye; what is far out ends at the edge.
    let ends = rows.iter().filter(|row| row.outcome != Outcome::TooFew).filter_map(|row| row.ratio);
    let widest =
        ends.flat_map(|(ratio, [low, high])| [ratio, low, high]).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
    let span = widest.map(|ratio| ratio.ln().abs()).fold(0.1, f64::max).min(3.0);
    body.push_str("<div class=\"scroll\"><table>");
    let mut scenario = None;
    for row in rows {
        if scenario != Some(&row.scenario) {
            if scenario.is_some() {
                body.push_str("</tbody>");
            }
            scenario = Some(&row.scenario);
            let _ = write!(
                body,
                "<tbody><tr class=\"metric\"><th>{}</th><th>before</th><th>after</th><th>ratio</th><th>99 % within</th>\
                 <th class=\"ratio\">less – more</th><th></th></tr>",
                Text(&row.scenario)
            );
        }
        table_row(body, row, span);
    }
    if scenario.is_some() {
        body.push_str("</tbody>");
    }
    body.push_str("</table></div>");
}

fn table_row(body: &mut String, row: &Row, span: f64) {
    let (class, text_class) = match row.outcome {
        Outcome::Improved => ("better", "met"),
        Outcome::Regressed => ("worse", "missed"),
        Outcome::Changed | Outcome::NoRatio => ("same", "unknown"),
        Outcome::WithinNoise | Outcome::TooFew => ("same", "dim"),
    };
    let [before, after, ratio, interval] = row.texts();
    let own = super::format::params(&row.params);
    let _ = write!(
        body,
        "<tr class=\"{class}\"><th>{} <span>{}</span></th><td>{}</td><td>{}</td><td><b>{}</b></td>\
         <td class=\"dim\">{}</td><td class=\"ratio\">",
        Text(&row.metric),
        Text(&join(&[&row.subject, &own])),
        Text(&before),
        Text(&after),
        Text(&ratio),
        Text(&interval)
    );
    if let Some((ratio, ends)) = row.ratio.filter(|_| row.outcome != Outcome::TooFew) {
        // Half as much is as far to the left as twice as much is to the right.
        let place = |ratio: f64| 75.0 + (ratio.ln() / span).clamp(-1.0, 1.0) * 70.0;
        let [low, high] = ends.map(place);
        let _ = write!(
            body,
            "<svg viewBox=\"0 0 150 16\" role=\"img\" aria-label=\"{}\"><path d=\"M75 0V16\"/>\
             <path class=\"interval\" d=\"M{low:.1} 8H{high:.1}\"/><g class=\"point\"><circle cx=\"{:.1}\" cy=\"8\" r=\"4\"/></g></svg>",
            Text(&interval),
            place(ratio)
        );
    }
    let _ = write!(body, "</td><td class=\"{text_class}\">{}</td></tr>", Text(&row.word()));
}

const READING: &str = "<section class=\"reading\"><h2>how to read this</h2><ul>\
<li>The ratio is the median after divided by the median before. Its interval comes from drawing the repetitions of both \
sides anew, 2,000 times: 99 % of the ratios lie within.</li>\
<li>A row has changed only if the interval excludes one <b>and</b> the ratio is more than 3 % off. Everything else is within \
noise, or has too few repetitions (five on each side) for a verdict.</li>\
<li>Percentiles beyond p50 are of all repetitions together, so there is one number on each side and no verdict.</li>\
</ul></section>\n";
