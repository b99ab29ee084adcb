//! The report as a page.

use super::super::model::Report;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    format!("<pre>{}</pre>", super::table::table(report).replace('&', "&amp;").replace('<', "&lt;"))
}
