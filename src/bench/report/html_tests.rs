use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::model::{Better, Distribution, Figure, Goal, Hiccups, Interval, Report, SCHEMA, Scenario};
use super::html::page;
use super::{hlog, json, sample, table};

/// Whether elements are closed in the order in which they were opened, and attributes are quoted.
pub(super) fn well_formed(page: &str) -> Result<(), String> {
    const VOID: [&str; 2] = ["meta", "circle/"];
    let mut open: Vec<&str> = Vec::new();
    let body = page.split_once("</style>").ok_or("no style")?.1;
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').ok_or_else(|| format!("never closed: <{part}"))?;
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap_or("");
        if tag.starts_with('/') {
            let expected = if ["html", "head"].contains(&name) { name } else { open.pop().unwrap_or("nothing") };
            if name != expected && name != "body" {
                return Err(format!("</{name}> closes <{expected}>"));
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name) && !["body", "!DOCTYPE"].contains(&name) {
            open.push(name);
        }
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("an open quote in <{tag}>"));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("still open: {open:?}")) }
}

#[test]
fn the_page_is_whole_and_asks_for_nothing_from_elsewhere() {
    let page = page(&sample::report());
    sample::keep("report.html", &page);
    assert_eq!(well_formed(&page), Ok(()));
    for outside in ["http:", "https:", "<script", "<link", "url(", "@import", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_has_a_chart_of_each_kind_and_every_verdict() {
    let page = page(&sample::report());
    for expected in [
        "delivery</b> <span>payload 1200 B · less is better",
        "one-way latency, by percentile",
        "age at the player, over the run",
        ">p99.99</text>",
        ">10k</text>",
        "CPU per viewer-second</b> <span>players 2000 · mode default",
        "class=\"card missed\"><h3>one way p50<b>missed</b>",
        "class=\"card unknown\"><h3>per idle stream<b>no number</b>",
        "worst of 5, ",
        "<tr class=\"metric\"><th>one-way latency</th><th>p50</th><th>p90</th>",
        "spectre_v2: retpolines; &lt;others&gt; &amp; &quot;more&quot;",
        "SAMPLE DATA",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn an_empty_report_is_a_page_too() {
    assert_eq!(well_formed(&page(&Report::default())), Ok(()));
    let scenarios = vec![Scenario::default(), Scenario::default()];
    assert_eq!(well_formed(&page(&Report { scenarios, ..Report::default() })), Ok(()));
}

/// What a file may hold that was written by another program, or by nobody in their right mind.
const HOSTILE: &str = "</script><script>alert(1)</script>'\"<img src=x onerror=y>&amp;\x1b[2J\u{0}";

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(HOSTILE.to_owned()),
        "[a-c]{0,2}",
        "[0-9]{1,4}",
        Just("64 KiB".to_owned()),
        Just("floor".to_owned()),
        any::<String>()
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.1_f64..1e9, 1 => any::<f64>(), 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]
}

fn params() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((text(), text()), 0..3)
}

fn figure() -> impl Strategy<Value = Figure> {
    let unit = prop_oneof![Just("ns".to_owned()), Just("1/s".to_owned()), Just(String::new()), text()];
    let better = prop_oneof![Just(Better::Lower), Just(Better::Higher), Just(Better::Neither)];
    let goal = prop::option::of((number(), text()).prop_map(|(bound, why)| Goal { bound, why }));
    let values = prop::collection::vec(number(), 0..4);
    (text(), text(), unit, params(), better, values, goal).prop_map(
        |(subject, metric, unit, params, better, values, goal)| Figure {
            subject,
            metric,
            unit,
            params,
            better,
            values,
            goal,
        },
    )
}

fn distribution() -> impl Strategy<Value = Distribution> {
    let histogram = prop_oneof![text(), Just(sample::report().scenarios[1].distributions[0].histogram.clone())];
    let interval = (number(), number(), histogram.clone());
    let interval = interval.prop_map(|(start_s, length_s, histogram)| Interval { start_s, length_s, histogram });
    let quantiles = prop::collection::vec((0.0_f64..=1.0, number()), 0..3);
    let intervals = prop::collection::vec(interval, 0..4);
    let key = (text(), text(), params());
    (key, any::<u64>(), quantiles, number(), histogram, intervals).prop_map(
        |((subject, metric, params), count, quantiles, max, histogram, intervals)| Distribution {
            subject,
            metric,
            params,
            count,
            quantiles,
            max,
            p50s: vec![max],
            histogram,
            intervals,
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let scenario = (text(), prop::collection::vec(figure(), 0..9), prop::collection::vec(distribution(), 0..3));
    let scenario = scenario.prop_map(|(name, figures, distributions)| Scenario {
        about: name.clone(),
        config: BTreeMap::from([(name.clone(), name.clone())]),
        warnings: vec![name.clone()],
        name,
        figures,
        distributions,
        ..Scenario::default()
    });
    (text(), prop::collection::vec(scenario, 0..3), number()).prop_map(|(text, scenarios, number)| {
        let mut report = Report { schema: SCHEMA, started: text.clone(), scenarios, ..Report::default() };
        report.command.clone_from(&text);
        report.size.clone_from(&text);
        report.warnings.push(text.clone());
        report.machine.facts.push((text.clone(), text));
        report.machine.line_ns.push(number);
        report.machine.hiccups.push(Hiccups { p50_ms: number, steal: number, ..Hiccups::default() });
        report
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in a report: nothing of it becomes markup, nothing panics, and JSON keeps it.
    #[test]
    fn no_report_breaks_the_page_the_table_or_the_file(report in report()) {
        let page = page(&report);
        prop_assert_eq!(well_formed(&page), Ok(()));
        let markup = ["<script", "<img", "\0"].into_iter().find(|markup| page.contains(markup));
        prop_assert_eq!(markup, None);
        let text = table::table(&report);
        prop_assert!(text.lines().all(|line| !line.contains(char::is_control)));
        let written = json::write(&report);
        let read = json::read(&written).unwrap();
        prop_assert_eq!(json::write(&read), written);
        let _ = hlog::logs(&report);
    }
}
