//! The router in a simulated world: shards on one thread, virtual time, edge-triggered sockets in memory, faults, and
//! checkers after every step. Everything that happens comes from one seed.
//!
//! `SEEDS=n` runs that many seeds (from `FIRST`, default 1), `SEED=n` one of them with a trace of what happened
//! (`-- --nocapture`). The checks stand in `support/sim/watcher.rs` (what a subscriber gets), `book.rs` (facts, and
//! what goes into the logs) and `world.rs` (limits, the calm in which all must flow, the end at which nothing is left).

#[path = "support/sim/mod.rs"]
#[expect(unreachable_pub, reason = "a test has no outside; the word says what other modules use")]
mod sim;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use sim::rng::Rng;
use sim::swarm::Swarm;
use sim::world::World;

#[test]
fn whatever_happens_subscribers_get_what_they_were_promised() {
    run_seeds("whatever_happens", Swarm::new, SEEDS);
}

#[test]
fn a_joiner_gets_no_gap_and_no_duplicate_between_replay_and_live() {
    run_seeds("a_joiner", Swarm::joins, SEEDS / 10);
}

#[test]
fn what_a_slow_reader_gets_is_never_older_than_its_budget() {
    run_seeds("what_a_slow_reader", Swarm::slow, SEEDS / 20);
}

#[test]
fn publishers_end_break_stall_and_are_switched_and_no_viewer_is_sent_away() {
    run_seeds("publishers_end", Swarm::switches, SEEDS / 4);
}

#[test]
fn memory_stays_below_its_cap_and_what_that_costs_is_told() {
    let told = run_seeds("memory", Swarm::crowds, SEEDS / 10);
    // One seed alone may be a lucky one.
    for what in ["gop_drop limit", "memory_pressure limit", "connection_refuse limit", "play_refuse limit"] {
        assert!(told.as_ref().is_none_or(|told| told.contains_key(what)), "no {what}");
    }
}

/// As many as the environment says, or the one that it names, with a trace. What was told, if they are not fewer than
/// usual.
fn run_seeds(test: &str, swarm: fn(&mut Rng) -> Swarm, usual: u64) -> Option<BTreeMap<String, u64>> {
    quiet_panics();
    let (facts, steps) = (Mutex::default(), AtomicU64::new(0));
    if let Some(seed) = number("SEED") {
        if let Err(what) = run(seed, swarm, true, &facts, &steps) {
            panic!("seed {seed}: {what}");
        }
        return None;
    }
    let (first, count) = (number("FIRST").unwrap_or(1), number("SEEDS").unwrap_or(usual));
    let next = AtomicU64::new(first);
    let failed: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(16);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.lock().len() >= FAILURES_MOST {
                        return;
                    }
                    if let Err(what) = run(seed, swarm, false, &facts, &steps) {
                        failed.lock().insert(seed, what);
                    }
                }
            });
        }
    });
    println!("{test}: {count} seeds from {first}, {} steps", steps.load(Ordering::Relaxed));
    for (fact, count) in facts.lock().iter() {
        println!("{count:>9} {fact}");
    }
    let failed = failed.into_inner();
    for (seed, what) in &failed {
        println!("SEED={seed} cargo test --test simulation {test} -- --nocapture: {what}");
    }
    assert!(failed.is_empty(), "{} seeds failed, see above", failed.len());
    (count >= usual).then(|| facts.into_inner())
}

fn run(
    seed: u64,
    swarm: fn(&mut Rng) -> Swarm,
    tracing: bool,
    facts: &Mutex<BTreeMap<String, u64>>,
    steps: &AtomicU64,
) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, swarm, tracing);
        let result = world.run();
        steps.fetch_add(world.steps, Ordering::Relaxed);
        let book = world.book.lock();
        let mut facts = facts.lock();
        for (name, count) in &book.facts {
            *facts.entry((*name).into()).or_default() += count;
        }
        if book.budget.is_some() {
            for (what, percent) in ["when sent", "when read"].into_iter().zip(book.oldest) {
                let oldest = facts.entry(format!("% of its budget was the oldest frame {what}")).or_default();
                *oldest = percent.max(*oldest);
            }
        }
        for ((name, reason), count) in &book.reasons {
            *facts.entry(format!("{name} {reason}")).or_default() += count;
        }
        result
    }));
    outcome.unwrap_or_else(|_| {
        let what = PANIC.with_borrow_mut(Option::take);
        Err(format!("panicked: {}", what.unwrap_or_default()))
    })
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics here are part of the plan, or told with their seed.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANIC.with_borrow_mut(|panic| *panic = Some(info.to_string()));
            // The threads that run seeds have no names.
            if std::thread::current().name().is_some() {
                default(info);
            }
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Without being told otherwise.
const SEEDS: u64 = 4_000;
/// Enough to see that something is wrong.
const FAILURES_MOST: usize = 20;
