//! The smallest size of the comparison runs to its end: every scenario has a number of everybody, and shardcast lost
//! nothing.

use std::path::Path;
use std::process::Command;

use shardcast::bench::model::{Report, Scenario};
use shardcast::bench::report::json;

#[test]
fn every_scenario_measures_every_peer_and_shardcast_loses_nothing() {
    let report = run(&[]);

    let names: Vec<&str> = report.scenarios.iter().map(|scenario| &*scenario.name).collect();
    assert_eq!(names, ["fanout", "latency", "join", "publish", "memory"]);
    for scenario in &report.scenarios {
        assert!(scenario.figures.iter().all(|figure| figure.values.iter().all(|value| value.is_finite())));
        for subject in ["shardcast", "arcly-stream", "tokio::sync::broadcast"] {
            assert!(measures(scenario, subject), "{subject} is missing in {}", scenario.name);
        }
        assert!(scenario.name == "publish" || measures(scenario, "crossbeam-channel each"), "{}", scenario.name);
        assert!(scenario.name == "publish" || measures(scenario, "shardcast: subscriptions"), "{}", scenario.name);
    }

    let lost =
        ["deliveries lost", "deliveries repeated or damaged", "joins that miss", "joins that get frames twice"];
    let figures = || report.scenarios.iter().flat_map(|scenario| &scenario.figures);
    for metric in lost {
        let of = || figures().filter(|figure| figure.metric.starts_with(metric));
        // A subscription that cannot keep up is told what it missed: a publisher that waits for nobody makes it so.
        let unpaced = ("publisher".to_owned(), "unpaced".to_owned());
        let ours = of().filter(|figure| figure.subject.starts_with("shardcast"));
        let ours: Vec<_> =
            ours.filter(|figure| figure.subject == "shardcast" || !figure.params.contains(&unpaced)).collect();
        assert!(!ours.is_empty() && of().count() > ours.len(), "{metric} is not told of everybody");
        assert!(ours.iter().all(|figure| figure.values.iter().all(|share| *share == 0.0)), "{metric}: {ours:?}");
    }
}

#[test]
fn a_peer_that_loses_frames_has_them_in_the_table() {
    let report = run(&["fanout"]);

    // Whoever drops what does not fit cannot keep up with a publisher that waits for nobody.
    let lost = |publisher: &str| {
        let figures = report.scenarios[0].figures.iter().filter(|figure| figure.metric == "deliveries lost");
        let peers = figures.filter(|figure| !figure.subject.starts_with("shardcast"));
        let of = peers.filter(|figure| figure.params[0].1 == publisher);
        of.flat_map(|figure| &figure.values).copied().collect::<Vec<f64>>()
    };
    assert!(lost("unpaced").iter().any(|share| *share > 0.0), "{:?}", lost("unpaced"));
    assert_eq!(lost("paced").len(), 5);
}

fn run(arguments: &[&str]) -> Report {
    let name = format!("report-{}.json", arguments.join("-"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut peers = Command::new(env!("CARGO_BIN_EXE_shardcast-peers"));
    let peers = peers.args(arguments).args(["--size", "test", "--json"]).arg(&file).output();
    let peers = peers.expect("it was built for this test");
    assert!(peers.status.success(), "{}", String::from_utf8_lossy(&peers.stderr));
    json::read(&std::fs::read_to_string(file).expect("it wrote the report")).expect("it can be read")
}

fn measures(scenario: &Scenario, subject: &str) -> bool {
    scenario.figures.iter().any(|figure| figure.subject.starts_with(subject) && !figure.values.is_empty())
}
