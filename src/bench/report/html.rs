//! A report as one page that opens offline: no script, no font, no address; light or dark as the reader's screen is.

use std::fmt::{self, Write as _};

use super::super::model::{Better, Figure, Report};
use super::charts::join;
use super::format::{self, NONE, Scale, nanos};
use super::html_scenario::section;
use super::series::Subjects;
use super::summary::{Spread, Verdict, line_class, line_classes, verdict, verdicts};

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut body = String::new();
    head(&mut body, report);
    warnings(&mut body, &report.warnings);
    goals(&mut body, report);
    let figures = report.scenarios.iter().flat_map(|scenario| &scenario.figures).map(|figure| &*figure.subject);
    let of_distributions = report.scenarios.iter().flat_map(|scenario| &scenario.distributions);
    let subjects = Subjects::new(figures.chain(of_distributions.map(|distribution| &*distribution.subject)));
    for (at, scenario) in report.scenarios.iter().enumerate() {
        section(&mut body, scenario, at, &subjects);
    }
    machine(&mut body, report);
    body.push_str(READING);
    document(&format!("shardcast bench, {}", report.started), &body)
}

/// A page around this body.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}</title><style>{}</style></head><body><main>\n{body}</main></body></html>\n",
        Text(title),
        include_str!("page.css")
    )
}

/// A text that becomes part of a page: nothing in it is markup, in an element or in a quoted attribute.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML has no place for control characters, not even escaped.
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn head(body: &mut String, report: &Report) {
    let [met, missed, unknown] = verdicts(report);
    let _ = write!(body, "<header><h1>shardcast <span>bench</span></h1><p class=\"verdict\">");
    if met + missed + unknown > 0 {
        let _ = write!(body, "<b class=\"met\">{met} of {} goals met</b>", met + missed + unknown);
        for (count, class, word) in [(missed, "missed", "missed"), (unknown, "unknown", "without a number")] {
            if count > 0 {
                let _ = write!(body, " <b class=\"{class}\">{count} {word}</b>");
            }
        }
    }
    let started = report.started.replace('T', " ").replace('Z', " UTC");
    let what = join(&[&report.size, &started, &format::plural(report.machine.cores, "core")]);
    let _ = write!(body, "</p><p class=\"dim\">{}</p><pre>{}</pre>", Text(&what), Text(&report.command));
    if report.scenarios.len() > 1 {
        body.push_str("<nav>");
        for (at, scenario) in report.scenarios.iter().enumerate() {
            let _ = write!(body, "<a href=\"#s{at}\">{}</a>", Text(&scenario.name));
        }
        body.push_str("<a href=\"#machine\">machine</a></nav>");
    }
    body.push_str("</header>\n");
}

pub(super) fn warnings(body: &mut String, warnings: &[String]) {
    if !warnings.is_empty() {
        body.push_str("<ul class=\"warnings\">");
        for warning in warnings {
            let _ = write!(body, "<li>{}</li>", Text(warning));
        }
        body.push_str("</ul>\n");
    }
}

/// All goals of one metric of one subject.
struct Card<'a> {
    scenario: &'a str,
    figures: Vec<(&'a Figure, Verdict)>,
}

impl<'a> Card<'a> {
    /// The one that is farthest from its goal, or nearest to missing it.
    fn worst(&self) -> (&'a Figure, Verdict) {
        let rank = |(figure, verdict): &(&Figure, Verdict)| match verdict {
            Verdict::Unknown => f64::MAX,
            Verdict::Met | Verdict::Missed => used(figure),
        };
        let worst = self.figures.iter().max_by(|a, b| rank(a).total_cmp(&rank(b)));
        *worst.unwrap_or(&self.figures[0])
    }

    fn verdict(&self) -> Verdict {
        let has = |wanted| self.figures.iter().any(|(_, verdict)| *verdict == wanted);
        match () {
            () if has(Verdict::Missed) => Verdict::Missed,
            () if has(Verdict::Unknown) => Verdict::Unknown,
            () => Verdict::Met,
        }
    }
}

/// How much of what a goal allows is used: above one it is missed.
fn used(figure: &Figure) -> f64 {
    let Some((goal, spread)) = figure.goal.as_ref().zip(Spread::of(&figure.values)) else { return f64::NAN };
    if figure.better == Better::Higher { goal.bound / spread.median } else { spread.median / goal.bound }
}

fn goals(body: &mut String, report: &Report) {
    let mut cards: Vec<Card<'_>> = Vec::new();
    for scenario in &report.scenarios {
        for (figure, verdict) in scenario.figures.iter().filter_map(|figure| Some((figure, verdict(figure)?))) {
            let same = |card: &&mut Card<'_>| {
                let first = card.figures[0].0;
                card.scenario == scenario.name && first.metric == figure.metric && first.subject == figure.subject
            };
            match cards.iter_mut().find(same) {
                Some(card) => card.figures.push((figure, verdict)),
                None => cards.push(Card { scenario: &scenario.name, figures: vec![(figure, verdict)] }),
            }
        }
    }
    if cards.is_empty() {
        return;
    }
    cards.sort_by_key(|card| match card.verdict() {
        Verdict::Missed => 0,
        Verdict::Unknown => 1,
        Verdict::Met => 2,
    });
    body.push_str("<section class=\"cards\">");
    for card in &cards {
        draw_card(body, card);
    }
    body.push_str("</section>\n");
}

fn draw_card(body: &mut String, card: &Card<'_>) {
    let (figure, _) = card.worst();
    let (class, word) = match card.verdict() {
        Verdict::Met => ("met", "met"),
        Verdict::Missed => ("missed", "missed"),
        Verdict::Unknown => ("unknown", "no number"),
    };
    let (bound, why) = figure.goal.as_ref().map_or((f64::NAN, ""), |goal| (goal.bound, &goal.why));
    let spread = Spread::of(&figure.values);
    let scale = Scale::of(&figure.unit, spread.map_or(bound, |spread| spread.median));
    let median = spread.map_or_else(|| NONE.to_owned(), |spread| scale.with_unit(spread.median));
    let sign = if figure.better == Better::Higher { '≥' } else { '≤' };
    let met = card.figures.iter().filter(|(_, verdict)| *verdict == Verdict::Met).count();
    let params = format::params(&figure.params);
    let of_all = match card.figures.len() {
        1 => params,
        all => join(&[&format!("worst of {all}, {met} met"), &params]),
    };
    let _ = write!(
        body,
        "<article class=\"card {class}\"><h3>{}<b>{word}</b></h3><p class=\"big\">{}</p>\
         <p class=\"goal\">goal {sign} {} <span>{}</span></p>",
        Text(&figure.metric),
        Text(&median),
        Text(&scale.with_unit(bound)),
        Text(why)
    );
    let used = used(figure);
    if used.is_finite() {
        // The mark of the goal stands at two thirds, so that one that is missed has room to show by how much.
        let width = format::number((used / 1.5 * 100.0).clamp(0.0, 100.0));
        let _ = write!(body, "<p class=\"meter\"><i style=\"width:{width}%\"></i></p>");
    }
    let of = join(&[card.scenario, &figure.subject, &of_all]);
    let _ = write!(body, "<p class=\"dim\">{}</p></article>", Text(&of));
}

fn machine(body: &mut String, report: &Report) {
    let machine = &report.machine;
    body.push_str(
        "<section id=\"machine\"><h2>machine</h2><p class=\"about\">What the numbers are worth nothing without.</p>",
    );
    body.push_str("<dl class=\"facts\">");
    for (name, value) in &machine.facts {
        let _ = write!(body, "<div><dt>{}</dt><dd>{}</dd></div>", Text(name), Text(value));
    }
    if let Some(line) = Spread::of(&machine.line_ns) {
        let ends = format!("{} to {}", format::number(line.min), format::number(line.max));
        let classes = line_classes(report);
        let text = format!("{}, {ends}, class {classes}", nanos(line.median));
        let each = machine.line_ns.iter().map(|ns| match line_class(*ns) {
            Some(class) => format!("{} ({class})", nanos(*ns)),
            None => NONE.to_owned(),
        });
        let each = each.collect::<Vec<_>>().join(", ");
        let title = "bare cache line, one way";
        let _ = write!(body, "<div><dt>{title}</dt><dd title=\"{}\">{}</dd></div>", Text(&each), Text(&text));
    }
    body.push_str("</dl>");
    if !machine.hiccups.is_empty() {
        body.push_str(
            "<div class=\"scroll\"><table><caption>How late a thread that only sleeps was woken meanwhile</caption><thead><tr>\
             <th>core</th><th>p50</th><th>p99</th><th>max</th><th>taken by the hypervisor</th></tr></thead><tbody>",
        );
        for hiccups in &machine.hiccups {
            let _ = write!(body, "<tr><th>{}</th>", hiccups.core);
            for ms in [hiccups.p50_ms, hiccups.p99_ms, hiccups.max_ms] {
                let _ = write!(body, "<td>{}</td>", Text(&format::value(ms, "ms")));
            }
            let _ = write!(body, "<td>{} %</td></tr>", format::number(hiccups.steal * 100.0));
        }
        body.push_str("</tbody></table></div>");
    }
    body.push_str("</section>\n");
}

const READING: &str = "<section class=\"reading\"><h2>how to read this</h2><ul>\
<li>A number is the <b>median</b> of the repetitions; [least – greatest] stands beside it, and thin lines in the charts \
reach from one to the other. A difference smaller than that is none.</li>\
<li><b>floor</b> is a bare loop in the same run that does only what must be done. Ratios are to the floor where there is \
one, otherwise to shardcast.</li>\
<li>On a <b>percentile</b> axis each further nine takes as much room as the one before. A curve ends where fewer than 20 \
samples lie beyond: what is further out was not measured.</li>\
<li>The <b>bare cache line</b> tells how far apart the two cores were: A beside each other, B on one cache, C across \
caches. Ring and hop figures of different classes do not compare.</li>\
<li>Numbers of one machine are no promise for another: take the ratios, or run it there.</li></ul></section>\n";
