//! Bars beside each other, from zero: HTML instead of SVG, so that long names wrap at any width.

use std::fmt::Write as _;

use super::super::format::{self, Scale};
use super::super::html::Text;
use super::super::summary::Spread;
use super::Hue;

/// One bar: the median, with a line from the least to the greatest.
#[derive(Clone, Debug)]
pub(in super::super) struct Bar {
    pub(in super::super) label: String,
    pub(in super::super) hue: Hue,
    pub(in super::super) spread: Spread,
    /// Stands behind the value: the ratio to another bar.
    pub(in super::super) note: String,
}

/// Bars of one metric.
#[derive(Clone, Debug)]
pub(in super::super) struct Bars {
    pub(in super::super) title: String,
    pub(in super::super) subtitle: String,
    pub(in super::super) unit: String,
    pub(in super::super) bars: Vec<Bar>,
}

impl Bars {
    /// The figure; none where there is nothing to compare.
    pub(in super::super) fn draw(&self) -> Option<String> {
        let longest = self.bars.iter().map(|bar| bar.spread.max).fold(0.0, f64::max);
        let comparable = longest > 0.0 && longest.is_finite() && self.bars.iter().all(|bar| bar.spread.min >= 0.0);
        if self.bars.len() < 2 || !comparable {
            return None;
        }
        let share = |value: f64| format::number((value / longest * 100.0).clamp(0.0, 100.0));
        let mut out = String::from("<figure class=\"bars\">");
        let _ = write!(
            out,
            "<figcaption><b>{}</b> <span>{}</span></figcaption>",
            Text(&self.title),
            Text(&self.subtitle)
        );
        for bar in &self.bars {
            let Spread { median, min, max } = bar.spread;
            let scale = Scale::of(&self.unit, median);
            let says = format!("median {} [{} – {}]", scale.with_unit(median), scale.bare(min), scale.bare(max));
            let _ = write!(
                out,
                "<div class=\"bar {}\" title=\"{}\"><span class=\"of\">{}</span><span class=\"value\">{}",
                bar.hue.class(),
                Text(&says),
                Text(&bar.label),
                Text(&scale.with_unit(median))
            );
            if !bar.note.is_empty() {
                let _ = write!(out, " <small>{}</small>", Text(&bar.note));
            }
            let (median, min, width) = (share(median), share(min), share(max - min));
            let _ = write!(
                out,
                "</span><span class=\"track\"><i style=\"width:{median}%\"></i>\
                 <u style=\"left:{min}%;width:{width}%\"></u></span></div>"
            );
        }
        out.push_str("</figure>");
        Some(out)
    }
}

impl Bar {
    /// `1.24× floor`.
    pub(in super::super) fn note_of(ratio: Option<(f64, &str)>) -> String {
        ratio.map_or_else(String::new, |(ratio, of)| format!("{} {of}", format::ratio(ratio)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(medians: &[f64]) -> Bars {
        let bar = |median: &f64| Bar {
            label: "<a>".to_owned(),
            hue: Hue::Floor,
            spread: Spread { median: *median, min: *median, max: *median },
            note: "&".to_owned(),
        };
        let text = |text: &str| text.to_owned();
        Bars { title: text("<t>"), subtitle: text("<s>"), unit: text("ns"), bars: medians.iter().map(bar).collect() }
    }

    #[test]
    fn the_longest_bar_is_as_wide_as_its_track_and_every_text_is_escaped() {
        let drawn = bars(&[1.0, 4.0]).draw().unwrap();
        assert!(drawn.contains("width:25.0%") && drawn.contains("width:100%"), "{drawn}");
        assert!(!drawn.contains("<a>") && !drawn.contains("<t>") && !drawn.contains("<s>"), "{drawn}");
    }

    #[test]
    fn one_bar_zeros_and_negative_values_are_no_comparison() {
        for medians in [&[1.0][..], &[0.0, 0.0], &[-1.0, 2.0], &[]] {
            assert_eq!(bars(medians).draw(), None);
        }
    }
}
