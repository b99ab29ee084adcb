//! Two reports beside each other.

use super::super::model::Report;

/// What differs.
#[derive(Debug)]
pub struct Comparison {
    /// Why they can't be compared.
    pub refused: Option<String>,
}

/// Compares.
#[must_use]
pub fn compare(_: &Report, _: &Report) -> Comparison {
    Comparison { refused: Some("this build cannot compare".to_owned()) }
}

impl Comparison {
    /// With the colours of a terminal.
    #[must_use]
    pub fn in_colour(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.refused.as_deref().unwrap_or_default())
    }
}
