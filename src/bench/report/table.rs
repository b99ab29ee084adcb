//! The report as a table.

use super::super::model::Report;

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

/// The same in colour.
#[must_use]
pub fn table_in_colour(report: &Report) -> String {
    table(report)
}
