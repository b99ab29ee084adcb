//! Scenarios one after the other, with the machine watched meanwhile, and the report of all of them.

use super::machine::{self, LineClass, Meters};
use super::memory::{Again, Count};
use super::model::{Machine, Report, SCHEMA, Scenario};
use super::relay::{self, Programs};
use super::{BenchError, Context, audit, fair, fanout, hop, join, memory, publish, ring};
use crate::audit::rfc3339;
use crate::clock::Clock;

/// A scenario to be run, by its name on the command line.
pub struct Job<'a> {
    name: &'static str,
    run: Run<'a>,
}

type Run<'a> = Box<dyn FnOnce(&Context<'_>) -> Result<Scenario, BenchError> + 'a>;

impl<'a> Job<'a> {
    /// A scenario with its settings.
    pub fn new(name: &'static str, run: impl FnOnce(&Context<'_>) -> Result<Scenario, BenchError> + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Every scenario at the context's size, in order.
///
/// Memory comes first: a process that has done much before is not what is started again. `again` and `count` are as in
/// [`memory::Settings`], `programs` as in [`relay::Settings`]: without them there is no `relay`.
#[must_use]
pub fn all(again: Option<Again>, count: Option<Count>, programs: Option<Programs>) -> Vec<Job<'static>> {
    let mut jobs = vec![
        Job::new("memory", move |context| memory::run(&memory::Settings::of(context.size, again, count), context)),
        Job::new("ring", |context| ring::run(&ring::Settings::of(context.size), context)),
        Job::new("hop", |context| hop::run(&hop::Settings::of(context.size), context)),
        Job::new("fanout", |context| fanout::run(&fanout::Settings::of(context.size), context)),
        Job::new("publish", |context| publish::run(&publish::Settings::of(context.size), context)),
        Job::new("join", |context| join::run(&join::Settings::of(context.size), context)),
        Job::new("audit", |context| audit::run(&audit::Settings::of(context.size), context)),
        Job::new("fair", |context| fair::run(&fair::Settings::of(context.size), context)),
    ];
    jobs.extend(programs.map(|programs| {
        Job::new("relay", |context| Ok(relay::run(&relay::Settings::of(context.size, programs), context)?))
    }));
    jobs
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The report. A scenario that failed is in it without figures, and says why among its warnings.
    pub report: Report,
    /// The scenarios that failed or are not valid, and why.
    pub failures: Vec<(&'static str, BenchError)>,
}

/// Runs these scenarios one after the other.
///
/// `size` is the word for it in the report: of the context's size, or `custom` where options were given. `command` is
/// the exact command line. `begins` is told the name of each scenario as it begins, its place from 1, and how many
/// there are.
#[must_use]
pub fn run(
    jobs: Vec<Job<'_>>,
    size: &str,
    command: String,
    context: &Context<'_>,
    begins: &dyn Fn(&str, usize, usize),
) -> Outcome {
    let clock = Clock::start();
    let mut report = Report {
        schema: SCHEMA,
        started: rfc3339(clock.now().wall),
        command,
        size: size.to_owned(),
        machine: Machine {
            facts: machine::facts(context.cores),
            cores: machine::cores().len(),
            ..Machine::default()
        },
        warnings: machine::warnings(context.cores),
        scenarios: Vec::new(),
    };
    for warning in &report.warnings {
        context.progress.note(&format!("warning: {warning}"));
    }
    report.machine.line_ns.extend(machine::line_ns(context.cores));
    let meters = Meters::start(context.cores);
    let mut failures = Vec::new();
    let all = jobs.len();
    for (job, at) in jobs.into_iter().zip(1..) {
        begins(job.name, at, all);
        match (job.run)(context) {
            Ok(scenario) => report.scenarios.push(scenario),
            Err(error) => {
                let warnings = vec![error.to_string()];
                report.scenarios.push(Scenario { name: job.name.to_owned(), warnings, ..Scenario::default() });
                context.progress.note(&format!("{}: {error}", job.name));
                failures.push((job.name, error));
            }
        }
        report.machine.line_ns.extend(machine::line_ns(context.cores));
    }
    let (hiccups, warnings) = meters.stop();
    report.machine.hiccups = hiccups;
    report.warnings.extend(warnings);
    report.warnings.extend(moved(&report.machine.line_ns));
    Outcome { report, failures }
}

/// What to warn of if the cores did not stay at their distance.
fn moved(line_ns: &[f64]) -> Option<String> {
    let (least, most) = line_ns.iter().fold((f64::MAX, 0.0_f64), |(least, most), ns| (least.min(*ns), most.max(*ns)));
    let (near, far) = (LineClass::of(least), LineClass::of(most));
    // Two measurements close to a border are no move.
    (!line_ns.is_empty() && near != far && most > 1.5 * least).then(|| {
        format!(
            "the distance of the two cores changed between {near} and {far}, {least:.0} to {most:.0} ns: figures of two \
             threads are of several distances"
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::{Progress, Size};

    /// Nobody waits.
    struct Unwatched;

    impl Progress for Unwatched {
        fn step(&self, done: usize, all: usize, _: &str) {
            assert!(done < all, "step {done} of {all}");
        }

        fn note(&self, _: &str) {}
    }

    /// Runs something at the size of a test on the cores that there are.
    pub(in crate::bench) fn on_all_cores<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context { size: Size::Test, cores: &machine::cores(), progress: &Unwatched })
    }

    /// Every figure has its values, all of them numbers, and every distribution its samples.
    pub(in crate::bench) fn finite(scenario: &Scenario) {
        assert!(!scenario.figures.is_empty(), "no figures");
        for figure in &scenario.figures {
            assert!(!figure.values.is_empty() && figure.values.len() <= scenario.repetitions, "{figure:?}");
            assert!(figure.values.iter().all(|value| value.is_finite()), "{figure:?}");
        }
        for distribution in &scenario.distributions {
            assert!(distribution.count > 0 && !distribution.histogram.is_empty(), "{distribution:?}");
        }
    }

    #[test]
    fn a_scenario_that_fails_has_no_figures_and_says_why() {
        let jobs = vec![
            Job::new("bad", |_| Err(BenchError::Wrong { what: "frames", found: 9, expected: 10 })),
            Job::new("good", |_| Ok(Scenario { name: "good".into(), ..Scenario::default() })),
        ];

        let outcome = on_all_cores(|context| run(jobs, "test", "bench".into(), context, &|_, _, _| {}));

        let [bad, good] = &outcome.report.scenarios[..] else { panic!("{:?}", outcome.report.scenarios) };
        assert_eq!((&*bad.name, &*good.name), ("bad", "good"));
        assert!(bad.figures.is_empty() && bad.warnings[0].contains("9 instead of 10"), "{bad:?}");
        assert!(matches!(outcome.failures[..], [("bad", BenchError::Wrong { .. })]));
        assert!(good.warnings.is_empty());
        assert!(outcome.report.started.ends_with('Z') && outcome.report.schema == SCHEMA);
        let cores = machine::cores().len();
        assert_eq!(outcome.report.machine.line_ns.len(), if cores > 1 { 3 } else { 0 });
        assert_eq!(outcome.report.machine.hiccups.len(), cores);
    }

    #[test]
    fn cores_that_moved_are_warned_of() {
        assert_eq!(moved(&[53.0, 55.0, 48.0]), None);
        assert_eq!(moved(&[39.0, 41.0]), None);
        assert!(moved(&[53.0, 257.0]).is_some_and(|warning| warning.contains("53 to 257")));
        assert_eq!(moved(&[]), None);
    }

    #[test]
    fn each_scenario_has_a_name_of_its_own() {
        let names: Vec<_> = all(None, None, None).iter().map(|job| job.name).collect();
        assert_eq!(names, ["memory", "ring", "hop", "fanout", "publish", "join", "audit", "fair"]);
    }
}
