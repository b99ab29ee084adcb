//! Whether a run may be quoted. A run in which something was lost, or which was disturbed, is a failure and no number.

use std::fmt;

use super::cell::Run;
use super::timing::MILLISECOND;

/// Why a run is not valid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Frames that did not come within the drain, and that had to.
    Missing {
        received: u64,
        expected: u64,
    },
    /// A viewer that stays saw something that was not sent like that: how often, and what.
    Wrong(u64, &'static str),
    /// Viewers whose connection ended, with the first reason.
    Lost(u64, String),
    NeverJoined(u64),
    VisitorsFailed {
        failed: u64,
        of: u64,
    },
    /// The schedule was not kept: messages sent and due.
    NotSent {
        sent: u64,
        due: u64,
    },
    /// Messages that the server did not take at once.
    Blocked(u64),
    /// The publisher's p99 beside the p50 of the age, ms.
    Late {
        p99_ms: f64,
        age_p50_ms: f64,
    },
    /// Shares of a core.
    GeneratorBusy(f64),
    OthersBusy(f64),
    Stolen(f64),
    /// Forced context switches of the server a second.
    Preempted(f64),
    ClockStepped(u64),
}

impl Fault {
    /// Whether the machine or the generator is to blame, and not the server.
    pub(crate) const fn is_disturbance(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Wrong(..)
            | Self::Lost(..)
            | Self::NeverJoined(_)
            | Self::VisitorsFailed { .. }
            | Self::Blocked(_) => false,
            Self::NotSent { .. }
            | Self::Late { .. }
            | Self::GeneratorBusy(_)
            | Self::OthersBusy(_)
            | Self::Stolen(_)
            | Self::Preempted(_)
            | Self::ClockStepped(_) => true,
        }
    }
}

/// The generator may use so much of its core.
pub(crate) const GENERATOR_BUSY_MAX: f64 = 0.9;
/// The publisher's p99 may be so much of the p50 of the age.
const LATE_MAX: f64 = 0.1;
/// Others may use so much of a core.
const OTHERS_BUSY_MAX: f64 = 0.05;
/// The hypervisor may take so much of the used cores.
const STOLEN_MAX: f64 = 0.01;
/// The server may be taken from its core so often a second: less than once a tick of a kernel with 250 Hz.
const PREEMPTED_MAX: f64 = 200.0;

/// All that is wrong with a run.
pub(crate) fn faults(run: &Run) -> Vec<Fault> {
    let outcome = &run.outcome;
    let counts = &outcome.counts;
    let mut faults = Vec::new();
    let mut check = |wrong: bool, fault: Fault| faults.extend(wrong.then_some(fault));

    let (received, expected) = (outcome.received, outcome.expected);
    check(received < expected || expected == 0, Fault::Missing { received, expected });
    for (count, what) in [
        (counts.gaps, "gaps"),
        (counts.repeated, "frames that came twice"),
        (counts.reordered, "frames out of order"),
        (counts.corrupt + outcome.slow.corrupt, "damaged frames"),
        (counts.falls + outcome.slow.falls, "timestamps that fall"),
        (counts.misrouted + outcome.slow.misrouted, "frames of another stream"),
        (counts.unstamped + outcome.slow.unstamped, "frames without a stamp"),
        (outcome.slow.repeated + outcome.slow.reordered, "frames twice or out of order for slow readers"),
    ] {
        check(count > 0, Fault::Wrong(count, what));
    }
    let why = outcome.first_loss.clone().unwrap_or_default();
    check(outcome.lost > 0, Fault::Lost(outcome.lost, why));
    check(outcome.never_joined > 0, Fault::NeverJoined(outcome.never_joined));
    let (failed, of) = (outcome.visitors_failed, outcome.visitors);
    check(failed > 0, Fault::VisitorsFailed { failed, of });
    let (sent, due) = (outcome.sent, outcome.due);
    check(sent != due, Fault::NotSent { sent, due });
    check(outcome.blocked > 0, Fault::Blocked(outcome.blocked));

    let ms = |ns: u64| ns as f64 / MILLISECOND as f64;
    let p99_ms = ms(outcome.lateness.decode().value_at_quantile(0.99));
    let age_p50_ms = ms(outcome.age.decode().value_at_quantile(0.5));
    check(p99_ms > LATE_MAX * age_p50_ms, Fault::Late { p99_ms, age_p50_ms });
    check(run.generator_busy > GENERATOR_BUSY_MAX, Fault::GeneratorBusy(run.generator_busy));
    check(run.foreign_busy > OTHERS_BUSY_MAX, Fault::OthersBusy(run.foreign_busy));
    check(run.steal > STOLEN_MAX, Fault::Stolen(run.steal));
    let preempted = run.server.map_or(0.0, |cost| cost.switches_forced_per_s);
    check(preempted > PREEMPTED_MAX, Fault::Preempted(preempted));
    check(outcome.clock_step > MILLISECOND, Fault::ClockStepped(outcome.clock_step));
    faults
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { expected: 0, .. } => f.write_str("no viewer was there for all of the window"),
            Self::Missing { received, expected } => {
                let missing = expected.saturating_sub(*received);
                write!(f, "{missing} of {expected} frames of the window did not come")
            }
            Self::Wrong(count, what) => write!(f, "{count} {what}"),
            Self::Lost(count, why) => write!(f, "{count} viewers were cut off ({why})"),
            Self::NeverJoined(count) => write!(f, "{count} viewers saw no keyframe before the window"),
            Self::VisitorsFailed { failed, of } => {
                write!(f, "{failed} of {of} visitors saw no keyframe while they were there, or were cut off")
            }
            Self::NotSent { sent, due } => write!(f, "{sent} messages were sent where {due} were due"),
            Self::Blocked(count) => write!(f, "the server did not take {count} messages at once"),
            Self::Late { p99_ms, age_p50_ms } => write!(
                f,
                "the publisher was {p99_ms:.2} ms late at p99, more than a tenth of the p50 of the age, {age_p50_ms:.2} ms"
            ),
            Self::GeneratorBusy(share) => write!(f, "the generator used {:.0} % of its core", share * 100.0),
            Self::OthersBusy(share) => write!(f, "others used {:.0} % of a core", share * 100.0),
            Self::Stolen(share) => write!(f, "the hypervisor took {:.1} % of the cores", share * 100.0),
            Self::Preempted(per_s) => write!(f, "the server was taken from its core {per_s:.0} times a second"),
            Self::ClockStepped(ns) => write!(f, "the clock was stepped by {} ms", ns / MILLISECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::super::cell::Cost;
    use super::super::histogram::{Samples, histogram};
    use super::super::outcome::Outcome;
    use super::super::watch::Counts;
    use super::*;

    fn samples(ns: u64) -> Samples {
        let mut one: Histogram<u64> = histogram();
        one.saturating_record(ns);
        Samples::whole(&one)
    }

    fn good() -> Run {
        let counts = Counts { frames: 10, checked: 10, ..Counts::default() };
        let (age, lateness) = (samples(10 * MILLISECOND), samples(MILLISECOND / 10));
        let outcome =
            Outcome { received: 10, expected: 10, sent: 5, due: 5, counts, age, lateness, ..Outcome::default() };
        let server = Cost {
            cpu_s: 0.1,
            rss_mb: 1.0,
            rss_peak_mb: 1.0,
            switches_voluntary_per_s: 9e9,
            switches_forced_per_s: 1.0,
        };
        Run { window_s: 1.0, outcome, server: Some(server), generator_busy: 0.5, foreign_busy: 0.01, steal: 0.001 }
    }

    #[test]
    fn a_good_run_has_no_fault() {
        assert_eq!(faults(&good()), []);
    }

    #[test]
    fn what_the_server_did_wrong_is_no_disturbance() {
        for spoil in [
            (|run| run.outcome.received = 9) as fn(&mut Run),
            |run| run.outcome.counts.gaps = 1,
            |run| run.outcome.counts.repeated = 1,
            |run| run.outcome.counts.reordered = 1,
            |run| run.outcome.counts.corrupt = 1,
            |run| run.outcome.slow.corrupt = 1,
            |run| run.outcome.counts.falls = 1,
            |run| run.outcome.counts.misrouted = 1,
            |run| run.outcome.counts.unstamped = 1,
            |run| run.outcome.lost = 1,
            |run| run.outcome.never_joined = 1,
            |run| run.outcome.visitors_failed = 1,
            |run| run.outcome.blocked = 1,
            |run| (run.outcome.received, run.outcome.expected) = (0, 0),
        ] {
            let mut run = good();
            spoil(&mut run);
            let faults = faults(&run);
            assert!(faults.len() == 1 && !faults[0].is_disturbance(), "{faults:?}");
        }
    }

    #[test]
    fn what_others_did_is_a_disturbance() {
        for spoil in [
            (|run| run.outcome.sent = 4) as fn(&mut Run),
            |run| run.outcome.lateness = samples(2 * MILLISECOND),
            |run| run.generator_busy = 0.91,
            |run| run.foreign_busy = 0.06,
            |run| run.steal = 0.02,
            |run| run.outcome.clock_step = 2 * MILLISECOND,
            |run| run.server = run.server.map(|cost| Cost { switches_forced_per_s: 300.0, ..cost }),
        ] {
            let mut run = good();
            spoil(&mut run);
            let faults = faults(&run);
            assert!(faults.len() == 1 && faults[0].is_disturbance(), "{faults:?}");
        }
    }

    #[test]
    fn gaps_of_slow_readers_are_what_they_asked_for() {
        let mut run = good();
        (run.outcome.slow.gaps, run.outcome.slow.missing, run.outcome.slow_ended) = (3, 90, 1);
        assert_eq!(faults(&run), []);
    }
}
