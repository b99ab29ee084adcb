use proptest::prelude::*;

use super::super::model::{Better, Figure, Report, Scenario};
use super::compare::{Comparison, Outcome, compare};
use super::{compare_html, sample};

fn report(unit: &str, better: Better, values: &[f64]) -> Report {
    let figure = sample::figure("shardcast", "delivery", unit, &[("subscribers", "10")], values.to_vec());
    let figures = vec![Figure { better, ..figure }];
    let scenario = Scenario { name: "fanout".to_owned(), figures, ..Scenario::default() };
    Report { scenarios: vec![scenario], machine: sample::machine(), ..Report::default() }
}

fn outcome(better: Better, before: &[f64], after: &[f64]) -> Outcome {
    compare(&report("ns", better, before), &report("ns", better, after)).rows[0].outcome
}

/// Seven repetitions around a middle, by a share of it.
fn around(middle: f64, spread: f64) -> Vec<f64> {
    [-1.0, 0.7, -0.4, 0.1, 0.3, -0.6, 0.9].map(|at| middle * (1.0 + spread * at)).to_vec()
}

#[test]
fn identical_samples_are_within_noise() {
    for spread in [0.0, 0.01, 0.5] {
        assert_eq!(outcome(Better::Lower, &around(100.0, spread), &around(100.0, spread)), Outcome::WithinNoise);
    }
}

#[test]
fn ten_percent_more_with_a_small_spread_is_slower_and_less_is_faster() {
    let (low, high) = (around(100.0, 0.01), around(110.0, 0.01));
    assert_eq!(outcome(Better::Lower, &low, &high), Outcome::Regressed);
    assert_eq!(outcome(Better::Lower, &high, &low), Outcome::Improved);
    assert_eq!(outcome(Better::Higher, &low, &high), Outcome::Improved);
    assert_eq!(outcome(Better::Higher, &high, &low), Outcome::Regressed);
    assert_eq!(outcome(Better::Neither, &low, &high), Outcome::Changed);
}

#[test]
fn ten_percent_more_with_a_wide_spread_is_within_noise() {
    assert_eq!(outcome(Better::Lower, &around(100.0, 0.3), &around(110.0, 0.3)), Outcome::WithinNoise);
}

#[test]
fn two_percent_is_no_change_however_sure_it_is() {
    assert_eq!(outcome(Better::Lower, &around(100.0, 0.001), &around(102.0, 0.001)), Outcome::WithinNoise);
    assert_eq!(outcome(Better::Lower, &around(100.0, 0.001), &around(104.0, 0.001)), Outcome::Regressed);
}

#[test]
fn with_four_repetitions_nothing_is_said() {
    let four = [100.0, 100.1, 100.2, f64::NAN, 100.1];
    let comparison = compare(&report("ns", Better::Lower, &four), &report("ns", Better::Lower, &around(200.0, 0.0)));
    assert_eq!(comparison.rows[0].outcome, Outcome::TooFew);
    assert!(comparison.to_string().contains("too few (4 of 5)"), "{comparison}");
}

#[test]
fn losses_after_none_are_worse_and_the_word_fits_what_was_measured() {
    let comparison = compare(&report("", Better::Lower, &[0.0; 5]), &report("", Better::Lower, &[3.0; 5]));
    assert_eq!(comparison.rows[0].outcome, Outcome::Regressed);
    assert_eq!(comparison.rows[0].word(), "WORSE");
    assert!(comparison.to_string().contains("∞×"), "{comparison}");
    let comparison = compare(&report("1/s", Better::Higher, &[9.0; 5]), &report("1/s", Better::Higher, &[3.0; 5]));
    assert_eq!(comparison.rows[0].word(), "SLOWER");
}

#[test]
fn nothing_and_negative_numbers_have_no_ratio() {
    assert_eq!(outcome(Better::Lower, &[], &[1.0; 5]), Outcome::NoRatio);
    assert_eq!(outcome(Better::Lower, &[f64::NAN; 5], &[1.0; 5]), Outcome::NoRatio);
    assert_eq!(outcome(Better::Lower, &[-1.0; 5], &[1.0; 5]), Outcome::NoRatio);
}

#[test]
fn other_machines_are_refused_with_the_reason() {
    let mut other = sample::report();
    other.machine.facts[0].1 = "Another CPU".to_owned();
    let comparison = compare(&sample::report(), &other);
    assert!(comparison.rows.is_empty());
    let expected = "not compared: the first report is of the CPU \"Sample CPU 9000 8-Core Processor\", the second one of \
                    \"Another CPU\"";
    let text = comparison.to_string();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), expected);

    let mut other = sample::report();
    other.machine.cores = 1;
    let refused = compare(&sample::report(), &other).refused;
    assert_eq!(refused.as_deref(), Some("the first report is of 2 cores, the second one of 1 core"));
}

#[test]
fn cores_that_moved_and_other_settings_are_warned_of() {
    let mut other = sample::report();
    other.machine.line_ns = vec![257.0];
    other.machine.facts[1].1 = "Linux 7".to_owned();
    other.scenarios[0].config.insert("frames".to_owned(), "5".to_owned());
    other.scenarios[0].config.insert("new".to_owned(), "1".to_owned());
    let Comparison { warnings, refused, .. } = compare(&sample::report(), &other);
    assert_eq!(refused, None);
    for expected in [
        "of class B before and of class C after",
        "kernel: Linux 6.1.0-sample before, Linux 7 after",
        "fanout, frames: 200000 before, 5 after",
        "fanout, new: not given before, 1 after",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{expected} in {warnings:?}");
    }
}

#[test]
fn what_only_one_has_is_named_and_the_rest_is_matched() {
    let (before, mut after) = (sample::report(), sample::report());
    let same = compare(&before, &after);
    assert!(same.only_before.is_empty() && same.only_after.is_empty());
    assert_eq!(same.count(Outcome::Regressed) + same.count(Outcome::Improved), 0);
    assert_eq!(same.count(Outcome::NoRatio), 1, "the figure without values");

    after.scenarios[3].figures[1].metric = "per viewer".to_owned();
    let comparison = compare(&before, &after);
    assert_eq!(comparison.only_before, ["memory: per subscriber · shardcast · streams 1"]);
    assert_eq!(comparison.only_after, ["memory: per viewer · shardcast · streams 1"]);
    assert_eq!(comparison.rows.len(), same.rows.len() - 1);
}

#[test]
fn the_table_is_no_wider_than_a_terminal() {
    let text = compare(&sample::report(), &sample::report()).to_string();
    for line in text.lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
    assert!(text.contains("within noise"), "{text}");
    assert!(text.contains("hop: one-way latency p99.9"), "{text}");
}

#[test]
fn the_page_says_what_the_table_says() {
    let mut after = sample::report();
    after.scenarios[0].figures[0].values.iter_mut().for_each(|value| *value *= 1.2);
    after.scenarios[0].figures[1].values.iter_mut().for_each(|value| *value *= 1.2);
    after.scenarios[0].figures[2].params[0].1 = "<11>".to_owned();
    let before = sample::report();
    let comparison = compare(&before, &after);
    let page = compare_html::page(&comparison, &before, &after);
    sample::keep("compare.html", &page);
    sample::keep("compare.txt", &comparison.in_colour());
    assert_eq!(super::html_tests::well_formed(&page), Ok(()));
    for expected in ["SLOWER", "faster", "within noise", "1 worse, 1 better", "&lt;11&gt;", "1.20×"] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("<11>"));

    after.machine.cores = 64;
    let page = compare_html::page(&compare(&before, &after), &before, &after);
    assert!(page.contains("the first report is of 2 cores, the second one of 64 cores") && !page.contains("<table"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Swapping the reports swaps the outcomes, for either way of better, and nothing panics.
    #[test]
    fn the_reverse_comparison_is_the_reverse(
        before in prop::collection::vec(1.0_f64..2.0, 5..9),
        after in prop::collection::vec(1.5_f64..4.0, 5..9),
    ) {
        let (there, back) = (outcome(Better::Lower, &before, &after), outcome(Better::Higher, &before, &after));
        let expected = match there {
            Outcome::Regressed => Outcome::Improved,
            Outcome::Improved => Outcome::Regressed,
            other => other,
        };
        prop_assert_eq!(back, expected);
        prop_assert_eq!(outcome(Better::Lower, &after, &after), Outcome::WithinNoise);
    }
}
