//! A comparison as one page: what changed first, then everything, each ratio with its interval drawn around one.

use std::fmt::Write as _;

use super::super::model::Report;
use super::charts::join;
use super::compare::{Comparison, Outcome, Row};
use super::format;
use super::html::{Text, document, warnings};
use super::series::shared;

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

    let changed = |row: &Row| matches!(row.outcome, Outcome::Regressed | Outcome::Improved | Outcome::Changed);
    for (title, groups) in
        [("what changed", comparison.by_metric(changed)), ("everything", comparison.by_metric(|_| true))]
    {
        if !groups.is_empty() {
            let _ = write!(body, "<section><h2>{title}</h2>");
            table(&mut body, &groups);
            body.push_str("</section>\n");
        }
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

fn table(body: &mut String, groups: &[Vec<&Row>]) {
    // All intervals on one scale, so that they can be compared by eye; what is far out ends at the edge.
    let rows = groups.iter().flatten().filter(|row| row.outcome != Outcome::TooFew);
    let ends = rows.filter_map(|row| row.ratio).flat_map(|(ratio, [low, high])| [ratio, low, high]);
    let ends = ends.filter(|ratio| ratio.is_finite() && *ratio > 0.0);
    let span = ends.map(|ratio| ratio.ln().abs()).fold(0.1, f64::max).min(3.0);
    body.push_str("<div class=\"scroll\"><table>");
    for rows in groups {
        let shared = shared(rows);
        let _ = write!(
            body,
            "<tbody><tr class=\"metric\"><th>{}: {} <span>{}</span></th><th>before</th><th>after</th><th>ratio</th>\
             <th>99 % within</th><th class=\"ratio\">less – more</th><th></th></tr>",
            Text(&rows[0].scenario),
            Text(&rows[0].metric),
            Text(&format::params(&shared))
        );
        for row in rows {
            table_row(body, row, &shared, span);
        }
        body.push_str("</tbody>");
    }
    body.push_str("</table></div>");
}

fn table_row(body: &mut String, row: &Row, shared: &[(String, String)], span: f64) {
    let (class, text_class) = match row.outcome {
        Outcome::Improved => ("better", "met"),
        Outcome::Regressed => ("worse", "missed"),
        Outcome::Changed | Outcome::NoRatio => ("same", "unknown"),
        Outcome::WithinNoise | Outcome::TooFew => ("same", "dim"),
    };
    let [before, after, ratio, interval] = row.texts();
    let _ = write!(
        body,
        "<tr class=\"{class}\"><th>{}</th><td>{}</td><td>{}</td><td><b>{}</b></td>\
         <td class=\"dim\">{}</td><td class=\"ratio\">",
        Text(&row.label(shared)),
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
