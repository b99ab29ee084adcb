//! Which figures belong on one chart, and over which parameter.

use super::super::model::{Distribution, Figure};
use super::plot::Hue;
use super::summary::{OURS, is_floor};

/// Lines that one chart can hold and still be read.
pub(super) const LINES_MAX: usize = 6;

/// What a figure and a distribution have in common.
pub(super) trait Keyed {
    fn subject(&self) -> &str;
    fn params(&self) -> &[(String, String)];

    fn param(&self, name: &str) -> Option<&str> {
        self.params().iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }
}

impl Keyed for Figure {
    fn subject(&self) -> &str {
        &self.subject
    }
    fn params(&self) -> &[(String, String)] {
        &self.params
    }
}

impl Keyed for Distribution {
    fn subject(&self) -> &str {
        &self.subject
    }
    fn params(&self) -> &[(String, String)] {
        &self.params
    }
}

/// The subjects of a whole report, so that each has one colour on all of its charts.
pub(super) struct Subjects<'a>(Vec<&'a str>);

impl<'a> Subjects<'a> {
    pub(super) fn new(all: impl Iterator<Item = &'a str>) -> Self {
        let mut subjects = vec![OURS];
        for subject in all {
            if !is_floor(subject) && !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        Self(subjects)
    }

    fn hue(&self, subject: &str) -> Hue {
        let nth = || self.0.iter().position(|other| *other == subject).unwrap_or(0);
        if is_floor(subject) { Hue::Floor } else { Hue::Nth(nth()) }
    }

    /// The colours of rows that share a chart: those of their subjects, or one after the other where a subject has
    /// more than one.
    pub(super) fn hues<T: Keyed>(&self, rows: &[&T]) -> Vec<Hue> {
        let differ =
            rows.iter().enumerate().all(|(at, row)| rows[..at].iter().all(|other| other.subject() != row.subject()));
        if differ {
            return rows.iter().map(|row| self.hue(row.subject())).collect();
        }
        let mut next = 0..;
        let hue = |row: &&T| if is_floor(row.subject()) { Hue::Floor } else { Hue::Nth(next.next().unwrap_or(0)) };
        rows.iter().map(hue).collect()
    }
}

/// What all rows of a metric have in common stands beside its name, and only the rest in the rows.
pub(super) fn shared<T: Keyed>(rows: &[&T]) -> Vec<(String, String)> {
    let first = rows.first().filter(|_| rows.len() > 1).map_or(&[][..], |row| row.params());
    first.iter().filter(|(name, value)| rows.iter().all(|row| row.param(name) == Some(value))).cloned().collect()
}

/// What all rows have in common, and what tells each from the others.
pub(super) fn labels<T: Keyed>(rows: &[&T], without: Option<&str>) -> (String, Vec<String>) {
    let same_subject = rows.windows(2).all(|pair| pair[0].subject() == pair[1].subject());
    let is_common = |name: &str, value: &str| rows.iter().all(|row| row.param(name) == Some(value));
    let text = |params: Vec<&(String, String)>, subject: Option<&str>| {
        let params = params.into_iter().map(|(name, value)| format!("{name} {value}"));
        subject.map(str::to_owned).into_iter().chain(params).collect::<Vec<_>>().join(" · ")
    };
    let wanted = |name: &str| without != Some(name);
    let first = rows.first();
    let common = first.map_or_else(Vec::new, |row| {
        row.params().iter().filter(|(name, value)| wanted(name) && is_common(name, value)).collect()
    });
    let subject = first.filter(|_| same_subject).map(|row| row.subject());
    let labels = rows.iter().map(|row| {
        let own = row.params().iter().filter(|(name, value)| wanted(name) && !is_common(name, value)).collect();
        let label = text(own, Some(row.subject()).filter(|_| !same_subject));
        if label.is_empty() { row.subject().to_owned() } else { label }
    });
    (text(common, subject), labels.collect())
}

/// Splits rows by parameters until no part has more than `max`.
pub(super) fn facets<'a, T: Keyed>(rows: &[&'a T], max: usize) -> Vec<Vec<&'a T>> {
    if rows.len() <= max {
        return vec![rows.to_vec()];
    }
    // By the parameter that makes the fewest parts, so that as much as can be stays together.
    let names = rows[0].params().iter().map(|(name, _)| &**name);
    let parts = names.map(|name| split(rows, |row| row.param(name))).filter(|parts| parts.len() > 1);
    match parts.min_by_key(Vec::len) {
        Some(parts) => parts.iter().flat_map(|part| facets(part, max)).collect(),
        None => rows.chunks(max).map(<[_]>::to_vec).collect(),
    }
}

/// Rows with an equal key together, in the order of their first appearance.
fn split<'a, T, K: PartialEq>(rows: &[&'a T], key: impl Fn(&'a T) -> K) -> Vec<Vec<&'a T>> {
    let mut parts: Vec<(K, Vec<&'a T>)> = Vec::new();
    for row in rows {
        let own = key(row);
        match parts.iter_mut().find(|(other, _)| *other == own) {
            Some((_, part)) => part.push(row),
            None => parts.push((own, vec![row])),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// One parameter that grows while the others stay: a line for each part.
pub(super) struct Sweep<'a, T> {
    pub(super) over: &'a str,
    /// In which unit the parameter is drawn.
    pub(super) unit: String,
    /// Least first.
    pub(super) lines: Vec<Vec<(f64, &'a T)>>,
}

/// The sweep over that parameter which has the most values, and what is part of none.
pub(super) fn sweep<'a, T: Keyed>(rows: &[&'a T]) -> (Option<Sweep<'a, T>>, Vec<&'a T>) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| row.params()) {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    let mut best: Option<(usize, Sweep<'a, T>)> = None;
    for name in names {
        let Some(sweep) = over(rows, name) else { continue };
        let values = sweep.lines.iter().map(Vec::len).max().unwrap_or(0);
        if best.as_ref().is_none_or(|(most, _)| values > *most) {
            best = Some((values, sweep));
        }
    }
    let Some((_, sweep)) = best else { return (None, rows.to_vec()) };
    let within = |row: &&T| sweep.lines.iter().flatten().any(|(_, other)| std::ptr::eq::<T>(*other, *row));
    let rest = rows.iter().copied().filter(|row| !within(row)).collect();
    (Some(sweep), rest)
}

/// None where not every value is a number of one unit, or none of the others' combinations has two of them.
fn over<'a, T: Keyed>(rows: &[&'a T], name: &str) -> Option<Sweep<'a, T>> {
    let mut unit: Option<String> = None;
    let mut found: Option<&'a str> = None;
    let mut numbered: Vec<(f64, &'a T)> = Vec::new();
    for row in rows {
        let Some((own, value)) = row.params().iter().find(|(own, _)| own == name) else { continue };
        let (value, of) = numeric(value)?;
        if unit.get_or_insert_with(|| of.clone()) != &of {
            return None;
        }
        found = Some(own);
        numbered.push((value, row));
    }
    let others = |row: &'a T| {
        let others = row.params().iter().filter(|(own, _)| own != name).collect::<Vec<_>>();
        (row.subject(), others)
    };
    let rows: Vec<&'a T> = numbered.iter().map(|(_, row)| *row).collect();
    let value =
        |row: &'a T| numbered.iter().find(|(_, other)| std::ptr::eq::<T>(*other, row)).map_or(0.0, |(at, _)| *at);
    let mut lines = Vec::new();
    for part in split(&rows, others) {
        let mut line: Vec<(f64, &'a T)> = part.into_iter().map(|row| (value(row), row)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        if line.first().zip(line.last()).is_some_and(|(first, last)| first.0 < last.0) {
            lines.push(line);
        }
    }
    let (over, unit) = found.zip(unit)?;
    (!lines.is_empty()).then_some(Sweep { over, unit, lines })
}

/// A parameter's value as a number with its unit: sizes in bytes, times in nanoseconds, others as they are.
fn numeric(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !['.', ',', '_'].contains(&c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace([',', '_'], "").parse().ok()?;
    let (factor, unit) = match unit.trim() {
        "B" => (1.0, "B"),
        "kB" | "KB" => (1e3, "B"),
        "MB" => (1e6, "B"),
        "KiB" => (1024.0, "B"),
        "MiB" => (1024.0 * 1024.0, "B"),
        "ns" => (1.0, "ns"),
        "µs" | "us" => (1e3, "ns"),
        "ms" => (1e6, "ns"),
        "s" => (1e9, "ns"),
        // A word behind the number makes it a name: `2 cores shared` and `1 of 3` are no sweep.
        unit if unit.contains(' ') => return None,
        unit => (1.0, unit),
    };
    let number = number * factor;
    number.is_finite().then(|| (number, unit.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::sample::figure;
    use super::*;

    fn figures(of: &[(&str, &[(&str, &str)])]) -> Vec<Figure> {
        of.iter().map(|(subject, params)| figure(subject, "m", "ns", params, vec![1.0])).collect()
    }

    fn refs(figures: &[Figure]) -> Vec<&Figure> {
        figures.iter().collect()
    }

    #[test]
    fn a_parameter_is_a_number_with_its_unit_or_a_name() {
        let cases = [
            ("1000", Some((1_000.0, ""))),
            ("10,000", Some((10_000.0, ""))),
            ("64 KiB", Some((65_536.0, "B"))),
            ("200 B", Some((200.0, "B"))),
            ("350ms", Some((350e6, "ns"))),
            ("2.5 Mb/s", Some((2.5, "Mb/s"))),
            ("default", None),
            ("1 of 3", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(numeric(text), expected.map(|(value, unit)| (value, unit.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_sweep_runs_over_the_parameter_with_the_most_values_least_first() {
        let figures = figures(&[
            ("a", &[("n", "10"), ("payload", "1 KiB")]),
            ("a", &[("n", "1"), ("payload", "1 KiB")]),
            ("a", &[("n", "100"), ("payload", "1 KiB")]),
            ("a", &[("n", "1"), ("payload", "200 B")]),
            ("b", &[("n", "1"), ("payload", "200 B")]),
            ("b", &[("mode", "x")]),
        ]);
        let (sweep, rest) = sweep(&refs(&figures));
        let sweep = sweep.unwrap();
        assert_eq!((sweep.over, sweep.lines.len()), ("n", 1));
        assert_eq!(sweep.lines[0].iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1.0, 10.0, 100.0]);
        assert_eq!(rest.len(), 3);
    }

    #[test]
    fn names_and_mixed_units_are_no_sweep() {
        for values in [["default", "350"], ["1 KiB", "3 ms"], ["5", "5"]] {
            let figures = figures(&[("a", &[("n", values[0])]), ("a", &[("n", values[1])])]);
            assert!(sweep(&refs(&figures)).0.is_none(), "{values:?}");
        }
    }

    #[test]
    fn labels_say_only_what_differs() {
        let figures = figures(&[("a", &[("n", "1"), ("m", "x")]), ("b", &[("n", "1"), ("m", "y")])]);
        let (common, own) = labels(&refs(&figures), None);
        assert_eq!((&*common, own), ("n 1", vec!["a · m x".to_owned(), "b · m y".to_owned()]));
        let (common, own) = labels(&refs(&figures[..1]), Some("n"));
        assert_eq!((&*common, own), ("a · m x", vec!["a".to_owned()]));
        assert_eq!(labels::<Figure>(&[], None), (String::new(), Vec::new()));
    }

    #[test]
    fn many_rows_are_split_by_a_parameter_before_they_are_cut() {
        let all: Vec<Figure> = (0..8)
            .flat_map(|n| {
                let n = n.to_string();
                figures(&[("a", &[("m", "x"), ("n", &n)]), ("a", &[("m", "y"), ("n", &n)])])
            })
            .collect();
        let parts = facets(&refs(&all), 8);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8]);
        assert!(parts.iter().all(|part| part.iter().all(|row| row.param("m") == part[0].param("m"))));
        let same = figures(&[("a", &[] as &[(&str, &str)]); 5]);
        assert_eq!(facets(&refs(&same), 2).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn a_subject_keeps_its_colour_unless_a_chart_has_it_twice() {
        let figures = figures(&[("b", &[]), ("floor", &[]), ("shardcast", &[]), ("b", &[])]);
        let subjects = Subjects::new(figures.iter().map(|figure| &*figure.subject));
        let rows = refs(&figures);
        assert_eq!(subjects.hues(&rows[..3]), [Hue::Nth(1), Hue::Floor, Hue::Nth(0)]);
        assert_eq!(subjects.hues(&rows), [Hue::Nth(0), Hue::Floor, Hue::Nth(1), Hue::Nth(2)]);
    }
}
