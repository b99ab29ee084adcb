//! What is told of figures and distributions: the spread over the repetitions, the ratio to what they are compared
//! with, and whether a goal is met.

use super::super::model::{Better, Distribution, Figure, Report, Scenario};

/// The middle and the ends of the repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of those values that are numbers; none if there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Self { median: median_of_sorted(&sorted), min, max })
    }
}

/// The numbers among them, least first.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Not a number if there are none.
pub(super) fn median_of_sorted(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => f64::NAN,
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        // Halves first: two great ones must not overflow.
        Some(upper) => sorted[middle - 1] / 2.0 + upper / 2.0,
    }
}

/// Whether a figure is what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its median is.
    Met,
    /// Its median is not.
    Missed,
    /// No repetition gave a number, or neither way is better.
    Unknown,
}

/// The verdict on a figure; none if it has no goal.
#[must_use]
pub fn verdict(figure: &Figure) -> Option<Verdict> {
    let bound = figure.goal.as_ref()?.bound;
    let Some(spread) = Spread::of(&figure.values).filter(|_| bound.is_finite()) else {
        return Some(Verdict::Unknown);
    };
    let met = match figure.better {
        Better::Lower => spread.median <= bound,
        Better::Higher => spread.median >= bound,
        Better::Neither => return Some(Verdict::Unknown),
    };
    Some(if met { Verdict::Met } else { Verdict::Missed })
}

/// How many goals are met, missed and unknown.
#[must_use]
pub fn verdicts(report: &Report) -> [usize; 3] {
    let mut counts = [0; 3];
    for verdict in report.scenarios.iter().flat_map(|scenario| &scenario.figures).filter_map(verdict) {
        counts[match verdict {
            Verdict::Met => 0,
            Verdict::Missed => 1,
            Verdict::Unknown => 2,
        }] += 1;
    }
    counts
}

/// Whether this subject is the bound of the others: a bare loop that does only what must be done.
#[must_use]
pub fn is_floor(subject: &str) -> bool {
    subject == "floor" || subject.starts_with("floor ") || subject.starts_with("floor:")
}

/// The product's own name as a subject.
pub(super) const OURS: &str = "shardcast";

/// The ratio of a figure's median to that of what it is compared with, and its subject: the floor under the same
/// parameters (or under fewer, where the floor does not depend on them), else shardcast itself.
#[must_use]
pub fn ratio<'a>(figures: &'a [Figure], of: &Figure) -> Option<(f64, &'a str)> {
    if is_floor(&of.subject) {
        return None;
    }
    let alike = |other: &&Figure| other.metric == of.metric && other.unit == of.unit && other.subject != of.subject;
    let floors =
        figures.iter().filter(alike).filter(|other| is_floor(&other.subject) && within(&other.params, &of.params));
    let floor = floors.max_by_key(|floor| floor.params.len());
    let ours = || figures.iter().filter(alike).find(|other| other.subject == OURS && other.params == of.params);
    let reference = floor.or_else(ours)?;
    let ratio = Spread::of(&of.values)?.median / Spread::of(&reference.values)?.median;
    ratio.is_finite().then_some((ratio, &reference.subject))
}

fn within(few: &[(String, String)], many: &[(String, String)]) -> bool {
    few.iter().all(|pair| many.contains(pair))
}

/// Figures or distributions of one metric, in the order of their first appearance.
pub(super) struct Metric<'a, T> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) rows: Vec<&'a T>,
}

/// The figures of a scenario by metric and unit.
pub(super) fn metrics(scenario: &Scenario) -> Vec<Metric<'_, Figure>> {
    gather(&scenario.figures, |figure| (&figure.metric, &figure.unit))
}

/// Takes those out of the metrics that must be zero and are, in every repetition of every subject: one sentence tells
/// them all.
pub(super) fn take_silent<'a>(metrics: &mut Vec<Metric<'a, Figure>>) -> Vec<&'a str> {
    let silent = |figure: &&Figure| {
        let must = figure.better == Better::Lower && figure.goal.as_ref().is_some_and(|goal| goal.bound == 0.0);
        must && !figure.values.is_empty() && figure.values.iter().all(|value| *value == 0.0)
    };
    metrics.extract_if(.., |metric| metric.rows.iter().all(silent)).map(|metric| metric.name).collect()
}

/// The distributions of a scenario by metric.
pub(super) fn distributions(scenario: &Scenario) -> Vec<Metric<'_, Distribution>> {
    gather(&scenario.distributions, |distribution| (&distribution.metric, "ns"))
}

fn gather<'a, T>(all: &'a [T], key: impl Fn(&'a T) -> (&'a str, &'a str)) -> Vec<Metric<'a, T>> {
    let mut metrics: Vec<Metric<'a, T>> = Vec::new();
    for one in all {
        let (name, unit) = key(one);
        match metrics.iter_mut().find(|metric| metric.name == name && metric.unit == unit) {
            Some(metric) => metric.rows.push(one),
            None => metrics.push(Metric { name, unit, rows: vec![one] }),
        }
    }
    metrics
}

/// How far apart the two cores used are, by the time that a cache line takes from one to the other: `A` beside each
/// other (SMT siblings), `B` on one cache, `C` across caches or sockets. Ring and hop figures of different classes are
/// of different machines.
#[must_use]
pub fn line_class(ns: f64) -> Option<char> {
    match ns {
        _ if !ns.is_finite() || ns <= 0.0 => None,
        _ if ns < 38.0 => Some('A'),
        _ if ns < 120.0 => Some('B'),
        _ => Some('C'),
    }
}

/// The classes that a run saw, each once, in order: `B`, or `BC` where the cores moved.
#[must_use]
pub fn line_classes(report: &Report) -> String {
    let mut classes: Vec<char> = report.machine.line_ns.iter().filter_map(|ns| line_class(*ns)).collect();
    classes.sort_unstable();
    classes.dedup();
    classes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::model::Goal;
    use super::*;

    fn figure(subject: &str, params: &[(&str, &str)], values: &[f64]) -> Figure {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (subject, metric) = (subject.to_owned(), "cost".to_owned());
        Figure { subject, metric, unit: "ns".to_owned(), params, values: values.to_vec(), ..Figure::default() }
    }

    #[test]
    fn the_spread_ignores_what_is_no_number_and_is_none_of_nothing() {
        let spread = Spread { median: 2.0, min: 1.0, max: 9.0 };
        assert_eq!(Spread::of(&[9.0, f64::NAN, 1.0, 2.0, f64::INFINITY]), Some(spread));
        assert_eq!(Spread::of(&[1.0, 2.0]).map(|spread| spread.median), Some(1.5));
        assert_eq!(Spread::of(&[f64::MAX, f64::MAX]).map(|spread| spread.median), Some(f64::MAX));
        assert_eq!(Spread::of(&[f64::NAN]), None);
    }

    #[test]
    fn a_goal_is_a_bound_from_the_side_that_is_better() {
        let with = |better, bound, values: &[f64]| {
            let goal = Some(Goal { bound, why: String::new() });
            verdict(&Figure { better, goal, ..figure("a", &[], values) })
        };
        assert_eq!(with(Better::Lower, 2.0, &[1.0, 2.0, 9.0]), Some(Verdict::Met));
        assert_eq!(with(Better::Lower, 2.0, &[1.0, 2.1, 9.0]), Some(Verdict::Missed));
        assert_eq!(with(Better::Higher, 2.0, &[1.0, 1.9, 9.0]), Some(Verdict::Missed));
        assert_eq!(with(Better::Higher, 2.0, &[2.0]), Some(Verdict::Met));
        assert_eq!(with(Better::Neither, 2.0, &[2.0]), Some(Verdict::Unknown));
        assert_eq!(with(Better::Lower, 2.0, &[]), Some(Verdict::Unknown));
        assert_eq!(with(Better::Lower, f64::NAN, &[1.0]), Some(Verdict::Unknown));
        assert_eq!(verdict(&figure("a", &[], &[1.0])), None);
    }

    #[test]
    fn only_what_must_be_zero_and_always_was_is_told_in_a_sentence() {
        let must = |metric: &str, bound, values: &[f64]| Figure {
            metric: metric.to_owned(),
            better: Better::Lower,
            goal: Some(Goal { bound, why: String::new() }),
            ..figure("a", &[], values)
        };
        let figures = vec![
            must("damaged", 0.0, &[0.0, 0.0]),
            must("lost", 0.0, &[0.0, 1.0]),
            must("late", 2.0, &[0.0]),
            must("unknown", 0.0, &[f64::NAN]),
            figure("a", &[], &[0.0]),
        ];
        let scenario = Scenario { figures, ..Scenario::default() };
        let mut metrics = metrics(&scenario);
        assert_eq!(take_silent(&mut metrics), ["damaged"]);
        let told: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(told, ["lost", "late", "unknown", "cost"]);
    }

    #[test]
    fn the_ratio_is_to_the_floor_before_it_is_to_shardcast() {
        let thousand = [("players", "1000")];
        let mut figures = vec![
            figure("shardcast", &thousand, &[3.0]),
            figure("nginx-rtmp", &thousand, &[6.0]),
            figure("nginx-rtmp", &[("players", "10")], &[6.0]),
        ];
        assert_eq!(ratio(&figures, &figures[1]), Some((2.0, "shardcast")));
        assert_eq!(ratio(&figures, &figures[0]), None);
        assert_eq!(ratio(&figures, &figures[2]), None, "other parameters");

        figures.push(figure("floor", &[], &[2.0]));
        assert_eq!(ratio(&figures, &figures[1]), Some((3.0, "floor")));
        assert_eq!(ratio(&figures, &figures[0]), Some((1.5, "floor")));
        assert_eq!(ratio(&figures, &figures[3]), None);

        figures.push(figure("floor", &thousand, &[1.0]));
        assert_eq!(ratio(&figures, &figures[0]), Some((3.0, "floor")), "that of the same parameters is nearer");
        figures[4].values = vec![0.0];
        assert_eq!(ratio(&figures, &figures[0]), None);
    }

    #[test]
    fn the_classes_of_a_run_are_named_once_each() {
        let mut report = Report::default();
        report.machine.line_ns = vec![257.0, 53.0, 55.0, f64::NAN, 0.0];
        assert_eq!(line_classes(&report), "BC");
        assert_eq!(line_class(29.0), Some('A'));
    }
}
