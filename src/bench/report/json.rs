//! The report as JSON.

use super::super::model::Report;

/// Writes it.
#[must_use]
pub fn write(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default()
}

/// Reads it.
///
/// # Errors
/// It is not such a report.
pub fn read(text: &str) -> Result<Report, serde_json::Error> {
    serde_json::from_str(text)
}
