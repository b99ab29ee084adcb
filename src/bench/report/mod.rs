//! A [`Report`](super::model::Report) as people and programs read it.

use super::model::Report;

/// The report as a table.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    for scenario in &report.scenarios {
        text += &format!("\n{}: {}\n", scenario.name, scenario.about);
        for figure in &scenario.figures {
            let mut values = figure.values.clone();
            values.sort_by(f64::total_cmp);
            let of = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
            let params: Vec<String> = figure.params.iter().map(|(name, value)| format!("{name} {value}")).collect();
            text += &format!(
                "  {:<44} {:<24} {:>14.3} [{:.3} - {:.3}] {} {}{}\n",
                figure.metric,
                figure.subject,
                of(values.len() / 2),
                of(0),
                of(values.len().saturating_sub(1)),
                figure.unit,
                params.join(", "),
                figure.goal.as_ref().map_or(String::new(), |goal| format!(" (goal {})", goal.bound)),
            );
        }
        for found in &scenario.distributions {
            let params: Vec<String> = found.params.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let quantiles: Vec<String> =
                found.quantiles.iter().map(|(q, ns)| format!("p{} {ns}", q * 100.0)).collect();
            text += &format!(
                "  {:<44} {:<24} {} max {} ns, {}\n",
                found.metric,
                found.subject,
                quantiles.join(" "),
                found.max,
                params.join(", ")
            );
        }
        for (name, value) in &scenario.config {
            text += &format!("  {name}: {value}\n");
        }
        for warning in &scenario.warnings {
            text += &format!("  warning: {warning}\n");
        }
    }
    for (name, value) in &report.machine.facts {
        text += &format!("{name}: {value}\n");
    }
    for warning in &report.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

/// The report as JSON.
pub mod json {
    use super::Report;

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
}

/// The report as a page.
pub mod html {
    use super::Report;

    /// The page.
    #[must_use]
    pub fn page(report: &Report) -> String {
        format!("<pre>{}</pre>", super::table(report).replace('&', "&amp;").replace('<', "&lt;"))
    }
}

/// The report as interval logs.
pub mod hlog {
    use super::Report;

    /// File names and contents.
    ///
    /// # Errors
    /// A histogram can't be read.
    pub fn logs(_: &Report) -> Result<Vec<(String, String)>, std::fmt::Error> {
        Ok(Vec::new())
    }
}

/// Two reports beside each other.
pub mod compare {
    use super::Report;

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

    impl std::fmt::Display for Comparison {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.refused.as_deref().unwrap_or_default())
        }
    }
}

/// How far it is.
pub mod progress {
    use crate::bench::Progress;

    /// A line for each step.
    #[derive(Debug, Default)]
    pub struct Plain;

    impl Progress for Plain {
        fn step(&self, done: usize, all: usize, what: &str) {
            eprintln!("{done}/{all} {what}");
        }

        fn note(&self, text: &str) {
            eprintln!("{text}");
        }
    }

    /// A bar.
    #[derive(Debug, Default)]
    pub struct Bar;

    impl Progress for Bar {
        fn step(&self, done: usize, all: usize, what: &str) {
            Plain.step(done, all, what);
        }

        fn note(&self, text: &str) {
            Plain.note(text);
        }
    }
}
