//! Fan-out: what a shard does for each delivery of a frame; and what a second shard brings.
//!
//! * Local: a lone shard under a null world on one pinned thread; frames come from a host publisher's ring. "turn" is
//!   everything, the frame's own way into the log included; "delivery" is less the turn of the same frames without a
//!   subscriber, which is the fixed price of a frame and not of a delivery (the scenario `publish`). The floors do
//!   nothing but what the receivers do: cursors on shared frames, the same sinks, the same null sockets; what a
//!   delivery costs above the same sinks in a bare loop is the shard's "bookkeeping".
//! * Across: the same number of sinks on one shard, and spread over two.
//!
//! Delivered means received and verified: every receiver checks number, length and end of every frame while it is
//! timed, and every byte of some frames before; the sum of what was right must be the sum of what was sent.

mod across;
mod local;

use super::figures::{Found, Row};
use super::frames::PAYLOAD_BYTES_MIN;
use super::line::on_core;
use super::model::{Better, Scenario};
use super::{BenchError, Context, Size, setting};
use crate::clock::Clock;
use local::{Case, FLOOR, Local, OURS, SINK, VARIANTS};

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Subscribers of the one stream.
    pub subscribers: Vec<usize>,
    /// Payload bytes of a frame.
    pub payloads: Vec<usize>,
    /// Frames that come between two turns of the shard.
    pub flushes: Vec<u64>,
    /// Chunks of deliveries of which the median is taken.
    pub chunks: usize,
    /// Deliveries in one chunk.
    pub deliveries: usize,
    /// Subscribers that are spread over one shard and over two.
    pub across: Vec<usize>,
    /// Deliveries in one run of the shards.
    pub across_deliveries: u64,
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        let (subscribers, payloads, flushes, across): (&[_], &[_], &[_], &[_]) = match size {
            Size::Test => (&[1, 10, 100], &[1200, 65_536], &[1, 4], &[20]),
            Size::Smoke => (&[10, 1_000, 10_000], &[1200], &[1, 16], &[2_000]),
            Size::Standard => (&[1, 10, 100, 1_000, 10_000], &[200, 1200, 65_536], &[1, 16], &[200, 2_000]),
            Size::Full => {
                (&[1, 10, 100, 1_000, 10_000], &[200, 1200, 9_000, 65_536], &[1, 4, 16], &[20, 200, 2_000, 10_000])
            }
        };
        Self {
            repetitions: size.pick([1, 3, 5, 9]),
            subscribers: subscribers.to_vec(),
            payloads: payloads.to_vec(),
            flushes: flushes.to_vec(),
            chunks: size.pick([2, 15, 41, 41]),
            deliveries: size.pick([20, 30_000, 60_000, 60_000]),
            across: across.to_vec(),
            across_deliveries: size.pick([4_000, 40_000_000, 200_000_000, 400_000_000]),
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense; a frame that did not reach a subscriber as it was sent.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    check(settings)?;
    let mut found = Found::new(
        "fanout",
        "What a shard does for each delivery of a frame, and what a second shard brings; received and verified",
        settings.repetitions,
    );
    let core = context.core(1);
    found.config("local on core", core);
    found.config("deliveries in a chunk", settings.deliveries);
    found.config("chunks", settings.chunks);
    let clock = Clock::start();
    let cases = cases(settings);
    let steps = cases.len() * settings.repetitions + settings.across.len() * settings.repetitions;
    let mut step = 0;
    let mut verified = 0;
    for case in &cases {
        verified += on_core(core, || case.every_byte())?;
    }
    for _ in 0..settings.repetitions {
        for case in &cases {
            let (subscribers, payload) = (case.subscribers, case.payload);
            context.progress.step(step, steps, &format!("{subscribers} subscribers, {payload} B"));
            step += 1;
            verified += on_core(core, || repetition(&Local { clock, settings, case }, &mut found))?;
        }
    }
    if let Some(warning) =
        context.too_few_cores(2, "two shards are not measured").filter(|_| !settings.across.is_empty())
    {
        found.warn(warning);
    } else if !settings.across.is_empty() {
        found.config("across on cores", format!("{}, {}", context.core(0), context.core(1)));
        for _ in 0..settings.repetitions {
            for subscribers in &settings.across {
                context.progress.step(step, steps, &format!("{subscribers} subscribers on two shards"));
                step += 1;
                verified += across::repetition(*subscribers, settings, context, &mut found)?;
            }
        }
    }
    found.config("deliveries received and verified", verified);
    Ok(found.finish())
}

fn check(settings: &Settings) -> Result<(), BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    for subscribers in settings.subscribers.iter().chain(&settings.across) {
        setting("subscribers", *subscribers, (1..=100_000).contains(subscribers), "1 to 100,000")?;
    }
    for payload in &settings.payloads {
        let fits = (PAYLOAD_BYTES_MIN..=512 * 1024).contains(payload);
        setting(
            "payload bytes",
            *payload,
            fits,
            "16 to 524,288: a frame carries its number and the mark of its end",
        )?;
    }
    for flush in &settings.flushes {
        let fits = (1..=64).contains(flush);
        setting("frames per flush", usize::try_from(*flush).unwrap_or(usize::MAX), fits, "1 to 64")?;
    }
    Ok(())
}

fn cases(settings: &Settings) -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in &settings.payloads {
        for flush in &settings.flushes {
            for subscribers in &settings.subscribers {
                cases.push(Case { subscribers: *subscribers, payload: *payload, flush: *flush });
            }
        }
    }
    cases
}

/// Every variant of one case; the deliveries that were verified.
fn repetition(local: &Local<'_>, found: &mut Found) -> Result<u64, BenchError> {
    let case = local.case;
    let row = |subject: &str, metric: &str| {
        let row = Row::ns(subject, metric).param("subscribers", case.subscribers);
        row.param("payload", case.payload).param("frames per flush", case.flush)
    };
    // The fixed price of a frame.
    let (alone, mut verified) = local.sinks(0)?;
    let (mut ours, mut receiver) = (f64::NAN, f64::NAN);
    for variant in VARIANTS {
        let (ns, right) = local.run(variant)?;
        verified += right;
        let delivery = if variant.whole_turn { ns - alone / case.subscribers as f64 } else { ns };
        found.push(row(variant.subject, variant.metric), delivery);
        if variant.whole_turn {
            found.push(row(variant.subject, &format!("turn, {}", variant.metric)), ns);
            let rate = row(variant.subject, "").named(&format!("rate, {}", variant.metric), "1/s");
            found.push(rate.better(Better::Higher), 1e9 / ns);
        }
        match (variant.subject, variant.metric) {
            (OURS, SINK) => ours = delivery,
            (FLOOR, SINK) => receiver = delivery,
            _ => {}
        }
    }
    let mut bookkeeping = row(OURS, "bookkeeping of a delivery");
    if case.subscribers >= 10 {
        bookkeeping = bookkeeping.goal(3.0, "at most 3 ns at 10 to 10,000 subscribers, flat");
    }
    found.push(bookkeeping, ours - receiver);
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn every_case_is_measured_for_sinks_and_players() {
        let settings = Settings::of(Size::Test);
        let scenario = on_all_cores(|context| run(&settings, context)).unwrap();

        finite(&scenario);
        for metric in ["delivery to a sink", "delivery to an RTMP player"] {
            for subject in ["shardcast", "floor"] {
                let figures: Vec<_> = scenario
                    .figures
                    .iter()
                    .filter(|figure| figure.metric == metric && figure.subject == subject)
                    .collect();
                assert_eq!(figures.len(), cases(&settings).len(), "{metric} of {subject}");
                assert!(figures.iter().all(|figure| figure.values.len() == settings.repetitions));
            }
        }
        let shards: Vec<_> = scenario.figures.iter().filter(|figure| figure.metric == "rate across shards").collect();
        assert_eq!(shards.len(), 2);
        assert!(shards.iter().all(|figure| figure.values.iter().all(|rate| *rate > 0.0)));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let test = Settings::of(Size::Test);
        for wrong in [
            Settings { payloads: vec![8], ..test.clone() },
            Settings { subscribers: vec![0], ..test.clone() },
            Settings { flushes: vec![65], ..test.clone() },
        ] {
            assert!(matches!(on_all_cores(|context| run(&wrong, context)), Err(BenchError::Setting { .. })));
        }
    }
}
