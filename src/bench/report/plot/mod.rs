//! Charts as SVG, drawn in classes instead of colours so that the page's style can make them light or dark.
//!
//! A chart is a figure of the page: title, legend (HTML, so that it wraps), and an SVG of 420 units' width that keeps its
//! letters readable from 340 to 600 pixels. Every point says its value when pointed at.

mod axis;
mod bars;

use std::fmt::Write as _;

use self::axis::Fitted;
pub(super) use self::axis::{Axis, Kind};
pub(super) use self::bars::{Bar, Bars};
use super::html::Text;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 250.0;
/// What the axes leave free at the top and on the right, and take at the bottom.
const TOP: f64 = 12.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// The width of a digit at the size of the ticks.
const DIGIT: f64 = 6.3;

/// Which colour a line or bar has; the page's style has one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hue {
    /// What only does what must be done: grey and dashed.
    Floor,
    /// The nth of the others; shardcast is the first.
    Nth(usize),
}

impl Hue {
    /// How many differ; the next ones are the first again, dashed.
    const COUNT: usize = 7;

    pub(super) fn class(self) -> String {
        match self {
            Self::Floor => "floor".to_owned(),
            Self::Nth(nth) if nth < Self::COUNT => format!("c{nth}"),
            Self::Nth(nth) => format!("c{} again", nth % Self::COUNT),
        }
    }
}

/// One point, with the ends of its spread where it has one.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) range: Option<(f64, f64)>,
    /// What it says when pointed at; a point without is not marked.
    pub(super) says: String,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) label: String,
    /// Stands in the legend behind the label.
    pub(super) note: String,
    pub(super) hue: Hue,
    pub(super) points: Vec<Point>,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What all lines have in common.
    pub(super) subtitle: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

impl Chart {
    /// The figure; none where no point can be drawn.
    pub(super) fn draw(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = self.x.fit(points().map(|point| point.x))?;
        let ranges = points().filter_map(|point| point.range).flat_map(|(low, high)| [low, high]);
        let y = self.y.fit(points().map(|point| point.y).chain(ranges))?;
        let (x_name, y_name) = (x.named(&self.x.label), y.named(&self.y.label));
        let frame = Frame::new(x, y, &y_name);
        let mut out = String::from("<figure class=\"chart\">");
        let _ = write!(out, "<figcaption><b>{}</b>", Text(&self.title));
        if !self.subtitle.is_empty() {
            let _ = write!(out, " <span>{}</span>", Text(&self.subtitle));
        }
        out.push_str("</figcaption>");
        self.legend(&mut out);
        let _ =
            write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", Text(&self.title));
        frame.axes(&mut out, &x_name, &y_name);
        for line in &self.lines {
            frame.line(&mut out, line);
        }
        out.push_str("</svg></figure>");
        Some(out)
    }

    fn legend(&self, out: &mut String) {
        // What one line is, title and subtitle say.
        if self.lines.len() == 1 && self.lines[0].note.is_empty() {
            return;
        }
        out.push_str("<ul class=\"legend\">");
        for line in &self.lines {
            let _ = write!(out, "<li class=\"{}\"><i></i>{}", line.hue.class(), Text(&line.label));
            if !line.note.is_empty() {
                let _ = write!(out, " <span>{}</span>", Text(&line.note));
            }
            out.push_str("</li>");
        }
        out.push_str("</ul>");
    }
}

/// The area that the axes enclose.
struct Frame {
    x: Fitted,
    y: Fitted,
    left: f64,
    top: f64,
}

impl Frame {
    fn new(x: Fitted, y: Fitted, y_name: &str) -> Self {
        let longest = y.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        let digits = u16::try_from(longest).map_or(0.0, f64::from);
        // The name of the upright axis stands above it, to be read without turning one's head.
        let top = if y_name.is_empty() { TOP } else { TOP + 14.0 };
        Self { x, y, left: (digits * DIGIT + 12.0).max(34.0), top }
    }

    fn px(&self, x: f64) -> f64 {
        self.left + self.x.place(x) * (WIDTH - RIGHT - self.left)
    }

    fn py(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - BOTTOM - self.top)
    }

    fn axes(&self, out: &mut String, x_name: &str, y_name: &str) {
        let (bottom, right, left) = (HEIGHT - BOTTOM, WIDTH - RIGHT, self.left);
        out.push_str("<g class=\"grid\">");
        for (at, _) in &self.y.ticks {
            let y = self.py(*at);
            let _ = write!(out, "<path d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        }
        for (at, _) in &self.x.ticks {
            let x = self.px(*at);
            let _ = write!(out, "<path d=\"M{x:.1} {:.1}V{bottom:.1}\"/>", self.top);
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/></g><g class=\"ticks\">");
        for (at, label) in &self.y.ticks {
            let (x, y) = (left - 6.0, self.py(*at) + 3.8);
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>", Text(label));
        }
        let mut free_from = 0.0;
        for (at, label) in &self.x.ticks {
            let half = u16::try_from(label.chars().count()).map_or(0.0, f64::from) * DIGIT / 2.0;
            // At the right edge a label is shifted so that it stays inside.
            let x = self.px(*at).min(WIDTH - half - 1.0);
            if x - half < free_from {
                continue;
            }
            free_from = x + half + 5.0;
            let y = bottom + 15.0;
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", Text(label));
        }
        let middle = (left + right) / 2.0;
        let _ = write!(out, "</g><g class=\"names\"><text x=\"0\" y=\"{TOP}\">{}</text>", Text(y_name));
        let y = HEIGHT - 6.0;
        let _ =
            write!(out, "<text x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text></g>", Text(x_name));
    }

    fn line(&self, out: &mut String, line: &Line) {
        let drawn = |point: &&Point| self.x.takes(point.x) && self.y.takes(point.y);
        let points: Vec<(f64, f64, &Point)> =
            line.points.iter().filter(drawn).map(|point| (self.px(point.x), self.py(point.y), point)).collect();
        let _ = write!(out, "<g class=\"{}\">", line.hue.class());
        for (x, _, point) in &points {
            if let Some((low, high)) = point.range.filter(|(low, high)| self.y.takes(*low) && self.y.takes(*high)) {
                let _ = write!(out, "<path class=\"range\" d=\"M{x:.1} {:.1}V{:.1}\"/>", self.py(low), self.py(high));
            }
        }
        let path: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(out, "<polyline points=\"{}\"/>", path.join(" "));
        for (x, y, point) in points.iter().filter(|(_, _, point)| !point.says.is_empty()) {
            let says = Text(&point.says);
            let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{says}</title></circle>");
        }
        out.push_str("</g>");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart(kind: Kind, points: &[(f64, f64)]) -> Chart {
        let axis = |label: &str| Axis { label: label.to_owned(), kind, unit: "ns".to_owned(), at: Vec::new() };
        let point = |(x, y): &(f64, f64)| Point { x: *x, y: *y, range: Some((*y, *y)), says: "<says>".to_owned() };
        let line = Line {
            label: "<label>".to_owned(),
            note: "&note".to_owned(),
            hue: Hue::Nth(8),
            points: points.iter().map(point).collect(),
        };
        let (title, subtitle) = ("<title>".to_owned(), "<subtitle>".to_owned());
        Chart { title, subtitle, x: axis("<x>"), y: axis("<y>"), lines: vec![line] }
    }

    #[test]
    fn every_text_of_a_chart_is_escaped() {
        let drawn = chart(Kind::Log, &[(1.0, 2.0), (10.0, 20.0)]).draw().unwrap();
        for text in ["<label>", "&note", "<says>", "<subtitle>", "<x>", "<y>"] {
            assert!(!drawn.contains(text), "{text} in {drawn}");
        }
        assert_eq!(drawn.matches("&lt;title&gt;").count(), 2);
        assert!(drawn.contains("class=\"c1 again\""), "{drawn}");
    }

    #[test]
    fn what_cannot_be_drawn_is_no_chart() {
        for kind in [Kind::Linear, Kind::Log, Kind::Quantile] {
            assert_eq!(chart(kind, &[]).draw(), None);
            assert_eq!(chart(kind, &[(f64::NAN, 1.0)]).draw(), None);
        }
        assert_eq!(chart(Kind::Log, &[(1.0, 0.0), (2.0, -1.0)]).draw(), None);
    }

    proptest! {
        #[test]
        fn all_that_is_drawn_lies_inside(points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..12)) {
            for kind in [Kind::Linear, Kind::Log, Kind::Quantile] {
                let Some(drawn) = chart(kind, &points).draw() else { continue };
                prop_assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
                let coordinates = drawn.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
                for pair in coordinates.split_whitespace() {
                    let (x, y) = pair.split_once(',').unwrap();
                    let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                    prop_assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{pair}");
                }
            }
        }
    }
}
