//! Joiners of the peers: the publisher's thread on one core, the joiner's on the other.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::thread;

use arcly_stream::prelude::CancellationToken;
use shardcast::bench::BenchError;
use shardcast::bench::frames::PAYLOAD_BYTES;
use shardcast::bench::line::{pin, wait_until};
use shardcast::clock::Clock;

use super::{Joined, Joiner, Live, PERIOD, Plan};
use crate::bus::{Arcly, Bus, Item, Polled, Sink};
use crate::check::Packets;
use crate::fanout::{joined, runtime};

/// arcly-stream's own loop: the replay, then the subscription.
pub(super) fn drive_to(plan: &Plan) -> Result<Vec<Joined>, BenchError> {
    let bus = Arcly::open();
    let (handle, runtime) = (bus.handle.clone(), runtime());
    Ok(joins(plan, bus, move |nth, clock, live| {
        let (mut joiner, mut found) = (Joiner::new(nth, clock, live), None);
        let mut sink = Sink(|frame: &<Arcly as Bus>::Item| {
            found = joiner.take(frame.number(), frame.is_key(), frame.payload());
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        runtime.block_on(handle.drive_to(&CancellationToken::new(), &mut sink)).expect("the sink has no error");
        found
    }))
}

/// The other order: the subscription, then the replay.
pub(super) fn replay(plan: &Plan) -> Result<Vec<Joined>, BenchError> {
    let bus = Arcly::open();
    let handle = bus.handle.clone();
    Ok(joins(plan, bus, move |nth, clock, live| {
        let mut joiner = Joiner::new(nth, clock, live);
        let mut live = handle.subscribe();
        for frame in handle.replay_buffer() {
            if let Some(joined) = joiner.take(frame.number(), frame.is_key(), frame.payload()) {
                return Some(joined);
            }
        }
        Some(follow(&mut joiner, &mut live))
    }))
}

/// What keeps nothing for joiners.
pub(super) fn bare<B: Bus>(plan: &Plan) -> Result<Vec<Joined>, BenchError> {
    let bus = B::open();
    let door = bus.door();
    Ok(joins(plan, bus, move |nth, clock, live| {
        let mut joiner = Joiner::new(nth, clock, live);
        Some(follow(&mut joiner, &mut door()))
    }))
}

/// Asks until it has seen enough.
fn follow<P: Polled>(joiner: &mut Joiner, live: &mut P) -> Joined {
    wait_until(|| {
        let item = live.poll()?;
        joiner.take(item.number(), item.is_key(), item.payload())
    })
}

fn joins<B: Bus>(
    plan: &Plan,
    mut bus: B,
    mut join: impl FnMut(usize, Clock, &Live) -> Option<Joined> + Send,
) -> Vec<Joined> {
    let (clock, live) = (Clock::start(), &Live::default());
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(plan.publisher);
            let mut packets = Packets::new(PAYLOAD_BYTES);
            let mut due = clock.instant();
            while !live.over.load(Ordering::Relaxed) {
                wait_until(|| (clock.instant() >= due).then_some(()));
                due = clock.instant() + PERIOD;
                bus.publish(packets.next(due));
                live.sent.fetch_add(1, Ordering::Release);
            }
        });
        let joining = scope.spawn(move || {
            pin(plan.joiner);
            wait_until(|| live.is_warm().then_some(()));
            let all = (0..plan.joins).filter_map(|nth| join(nth, clock, live)).collect();
            live.over.store(true, Ordering::Relaxed);
            all
        });
        joined(joining.join())
    })
}
