//! The charts of one scenario: figures over a parameter, subjects beside each other, latency by percentile, latency over
//! the run.

use hdrhistogram::Histogram;

use super::super::model::{Better, Distribution, Figure, Scenario};
use super::format::{nanos, quantile, value};
use super::histogram::decode;
use super::plot::{Axis, Bar, Bars, Chart, Hue, Kind, Line, Point};
use super::series::{LINES_MAX, Subjects, Sweep, facets, labels, sweep};
use super::summary::{Metric, Spread, distributions, metrics, ratio, take_silent};

/// Bars that one figure can hold and still be read.
const BARS_MAX: usize = 8;
/// Points of a percentile curve for each further nine.
const POINTS_PER_NINE: u32 = 24;
/// What an interval's chart shows.
const OVER_TIME: [f64; 2] = [0.5, 0.99];

/// All charts, drawn, in the order in which they should be read.
pub(super) fn charts(scenario: &Scenario, subjects: &Subjects<'_>) -> Vec<String> {
    let mut drawn = Vec::new();
    let mut metrics = metrics(scenario);
    take_silent(&mut metrics);
    for metric in metrics {
        let (sweep, rest) = sweep(&metric.rows);
        if let Some(sweep) = sweep {
            drawn.extend(sweep_charts(&metric, &sweep, subjects));
            drawn.extend(bars(scenario, &metric, &at_the_end(&sweep), subjects));
        }
        for part in facets(&rest, BARS_MAX) {
            drawn.extend(bars(scenario, &metric, &part, subjects));
        }
    }
    for metric in distributions(scenario) {
        for part in facets(&metric.rows, LINES_MAX) {
            drawn.extend(percentiles(metric.name, &part, subjects).draw());
        }
        for distribution in metric.rows {
            drawn.extend(over_time(distribution).and_then(|chart| chart.draw()));
        }
    }
    drawn
}

fn sweep_charts(metric: &Metric<'_, Figure>, sweep: &Sweep<'_, Figure>, subjects: &Subjects<'_>) -> Vec<String> {
    let firsts: Vec<&Figure> = sweep.lines.iter().filter_map(|line| Some(line.first()?.1)).collect();
    let line_of = |first: &Figure| {
        sweep.lines.iter().find(|line| line.first().is_some_and(|(_, row)| std::ptr::eq(*row, first)))
    };
    let better = match firsts.first().map(|figure| figure.better) {
        Some(Better::Lower) => "less is better",
        Some(Better::Higher) => "more is better",
        Some(Better::Neither) | None => "",
    };
    let charts = facets(&firsts, LINES_MAX).into_iter().filter_map(|part| {
        let (common, names) = labels(&part, Some(sweep.over));
        let hues = subjects.hues(&part);
        let lines = part.iter().zip(names).zip(hues).map(|((first, label), hue)| {
            let points = line_of(first).into_iter().flatten().filter_map(|(x, figure)| point(*x, sweep.over, figure));
            Line { label, note: String::new(), hue, points: points.collect() }
        });
        let lines: Vec<Line> = lines.collect();
        let at = ticks(&lines);
        let wide = |low: f64, high: f64, factor: f64| low > 0.0 && high / low >= factor;
        let x_kind = if wide(at[0], *at.last()?, 12.0) { Kind::Log } else { Kind::Linear };
        let ys = lines.iter().flat_map(|line| &line.points).map(|point| point.y);
        let (low, high) = ys.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), y| (low.min(y), high.max(y)));
        let y_kind = if wide(low, high, 8.0) { Kind::Log } else { Kind::Linear };
        let chart = Chart {
            title: metric.name.to_owned(),
            subtitle: join(&[&common, better]),
            x: Axis { label: sweep.over.to_owned(), kind: x_kind, unit: sweep.unit.clone(), at },
            y: Axis { label: String::new(), kind: y_kind, unit: metric.unit.to_owned(), at: Vec::new() },
            lines,
        };
        chart.draw()
    });
    charts.collect()
}

fn point(x: f64, over: &str, figure: &Figure) -> Option<Point> {
    let spread = Spread::of(&figure.values)?;
    let at = figure.params.iter().find(|(name, _)| name == over).map_or("", |(_, value)| value);
    let of = |number| value(number, &figure.unit);
    let says =
        format!("{}, {over} {at}: {} [{} – {}]", figure.subject, of(spread.median), of(spread.min), of(spread.max));
    Some(Point { x, y: spread.median, range: Some((spread.min, spread.max)), says })
}

/// Every value of the parameter, once.
fn ticks(lines: &[Line]) -> Vec<f64> {
    let mut at: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|point| point.x).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    if at.is_empty() { vec![0.0] } else { at }
}

/// Of a sweep, what was measured at the greatest value at which most lines were.
fn at_the_end<'a>(sweep: &Sweep<'a, Figure>) -> Vec<&'a Figure> {
    let at =
        |x: f64| sweep.lines.iter().flatten().filter(|(own, _)| *own == x).map(|(_, row)| *row).collect::<Vec<_>>();
    let xs = sweep.lines.iter().flatten().map(|(x, _)| *x);
    xs.map(|x| (at(x), x))
        .max_by(|a, b| a.0.len().cmp(&b.0.len()).then(a.1.total_cmp(&b.1)))
        .map_or_else(Vec::new, |(rows, _)| rows)
}

fn bars(
    scenario: &Scenario,
    metric: &Metric<'_, Figure>,
    rows: &[&Figure],
    subjects: &Subjects<'_>,
) -> Option<String> {
    let rows: Vec<&Figure> = rows.iter().copied().take(BARS_MAX).collect();
    let (common, names) = labels(&rows, None);
    let bars = rows.iter().zip(names).zip(subjects.hues(&rows)).filter_map(|((figure, label), hue)| {
        let note = Bar::note_of(ratio(&scenario.figures, figure));
        Some(Bar { label, hue, spread: Spread::of(&figure.values)?, note })
    });
    let bars = bars.collect();
    Bars { title: metric.name.to_owned(), subtitle: common, unit: metric.unit.to_owned(), bars }.draw()
}

fn percentiles(metric: &str, rows: &[&Distribution], subjects: &Subjects<'_>) -> Chart {
    let (common, names) = labels(rows, None);
    let lines = rows.iter().zip(names).zip(subjects.hues(rows)).map(|((row, label), hue)| {
        let named = row.quantiles.iter().filter(|(q, _)| [0.5, 0.99].contains(q));
        let note = named.map(|(q, ns)| format!("{} {}", quantile(*q), nanos(*ns))).collect::<Vec<_>>().join(" · ");
        Line { label, note, hue, points: curve(row) }
    });
    Chart {
        title: format!("{metric}, by percentile"),
        subtitle: common,
        x: Axis { label: "percentile".to_owned(), kind: Kind::Quantile, unit: String::new(), at: Vec::new() },
        y: Axis { label: String::new(), kind: Kind::Log, unit: "ns".to_owned(), at: Vec::new() },
        lines: lines.collect(),
    }
}

/// As far as 20 samples lie beyond; where the histogram cannot be read, the quantiles that the report names.
fn curve(distribution: &Distribution) -> Vec<Point> {
    let says = |q: f64, ns: f64| format!("{}, {}: {}", distribution.subject, quantile(q), nanos(ns));
    let named = distribution.quantiles.iter().filter(|(q, _)| (0.0..1.0).contains(q));
    let mut points: Vec<Point> =
        named.map(|(q, ns)| Point { x: 1.0 / (1.0 - q), y: *ns, range: None, says: says(*q, *ns) }).collect();
    if let Ok(histogram) = decode(&distribution.histogram) {
        let end = count(histogram.len()) / 20.0;
        let steps = (0..=5 * POINTS_PER_NINE).map(|step| 10_f64.powf(f64::from(step) / f64::from(POINTS_PER_NINE)));
        let at = |x: f64| Point { x, y: ns_at(&histogram, 1.0 - 1.0 / x), range: None, says: String::new() };
        points.extend(steps.take_while(|x| *x <= end).map(at));
    }
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    points
}

fn over_time(distribution: &Distribution) -> Option<Chart> {
    let intervals: Vec<(f64, Histogram<u64>)> = distribution
        .intervals
        .iter()
        .filter_map(|interval| Some((interval.start_s, decode(&interval.histogram).ok()?)))
        .filter(|(_, histogram)| !histogram.is_empty())
        .collect();
    // Two intervals are no course.
    if intervals.len() < 3 {
        return None;
    }
    let line = |nth: usize, label: String, of: &dyn Fn(&Histogram<u64>) -> f64| {
        let points = intervals.iter().map(|(start, histogram)| {
            let ns = of(histogram);
            let says = format!("second {start:.0}, {label}: {}", nanos(ns));
            Point { x: *start, y: ns, range: None, says }
        });
        let points = points.collect();
        Line { label, note: String::new(), hue: Hue::Nth(nth), points }
    };
    let mut lines: Vec<Line> = OVER_TIME
        .iter()
        .enumerate()
        .map(|(nth, q)| line(nth, quantile(*q), &|histogram| ns_at(histogram, *q)))
        .collect();
    lines.push(line(OVER_TIME.len(), "max".to_owned(), &|histogram| count(histogram.max())));
    Some(Chart {
        title: format!("{}, over the run", distribution.metric),
        subtitle: labels(&[distribution], None).0,
        x: Axis { label: "since the start".to_owned(), kind: Kind::Linear, unit: "s".to_owned(), at: Vec::new() },
        y: Axis { label: String::new(), kind: Kind::Log, unit: "ns".to_owned(), at: Vec::new() },
        lines,
    })
}

fn ns_at(histogram: &Histogram<u64>, q: f64) -> f64 {
    count(histogram.value_at_quantile(q))
}

#[expect(clippy::cast_precision_loss, reason = "a place on a chart")]
fn count(number: u64) -> f64 {
    number as f64
}

/// Those that say something.
pub(super) fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" · ")
}
