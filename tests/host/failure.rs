//! A shard that fails costs its own sessions and nothing else.

use std::sync::Arc;

use shardcast::extension::{FrameSink, Observer, SinkVerdict};
use shardcast::fact::{Fact, FactKind};
use shardcast::id::ShardId;
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::SendError;
use shardcast::stream::{AppSpec, Conflict};

use crate::world::*;

#[test]
fn the_streams_of_a_failed_shard_end_and_others_lose_no_frame() {
    let router = router(3);
    let events = router.events();
    let mut lost = publish_on(&router, "live/lost", 0);
    let mut kept = publish_on(&router, "live/kept", 1);
    let mut of_lost = [0, 1].map(|shard| subscribe_on(&router, "live/lost", shard));
    let mut on_failed = subscribe_on(&router, "live/kept", 0);
    let mut others = [1, 2].map(|shard| subscribe_on(&router, "live/kept", shard));
    let (mut lost_reel, mut reel) = (Reel::new(), Reel::new());
    lost_reel.send(&mut lost, "ck");
    reel.send(&mut kept, "ck");
    for subscription in of_lost.iter_mut().chain([&mut on_failed]).chain(&mut others) {
        assert_eq!(take(subscription, 2), ["c0", "k1"]);
    }

    router.fail_shard(ShardId(0));
    reel.send(&mut kept, &"d".repeat(300));

    for subscription in &mut of_lost {
        assert_eq!(take_all(subscription), ["shard_lost"]);
    }
    assert_eq!(take_all(&mut on_failed).last().map(String::as_str), Some("shard_lost"));
    for subscription in &mut others {
        let expected: Vec<String> = (2..302).map(|number| format!("d{number}")).collect();
        assert_eq!(take(subscription, 300), expected);
    }
    eventually("the publisher is told", || match lost.send(lost_reel.frame('d')) {
        Err(SendError::Ended(_, reason)) => {
            assert_eq!(reason, Reason::ShardLost);
            true
        }
        _ => false,
    });
    let panic = fact(&events, FactKind::ShardPanic);
    assert_eq!((panic.shard, panic.reason), (ShardId(0), Some(Reason::ShardLost)));
    let ends = [(); 3].map(|()| {
        loop {
            let fact = events.recv_timeout(WAIT).expect("ends are told");
            if matches!(fact.kind, FactKind::PublishEnd | FactKind::PlayEnd) {
                break (fact.kind, fact.reason);
            }
        }
    });
    assert!(ends.iter().all(|(_, reason)| *reason == Some(Reason::ShardLost)), "{ends:?}");
}

#[test]
fn new_publishers_and_subscribers_work_on_a_shard_that_failed() {
    let router = router(2);
    for round in 0..10 {
        let old = publish_on(&router, "live/a", 0);
        let other = publish_on(&router, "live/b", 1);
        let _replicas = [subscribe_on(&router, "live/a", 1), subscribe_on(&router, "live/b", 0)];
        let before = router.clock().instant();

        router.fail_shard(ShardId(0));
        drop((old, other));

        let mut publishers = Vec::new();
        for (name, home) in [("live/a", 0), ("live/b", 1)] {
            eventually("it can be published again", || {
                try_publish(&router, name, home).is_ok_and(|publisher| {
                    publishers.push(publisher);
                    true
                })
            });
        }
        assert!(router.clock().instant().since(before).as_secs() < 1, "round {round}");
        for (publisher, (name, reader)) in publishers.iter_mut().zip([("live/a", 1), ("live/b", 0)]) {
            let mut subscription = subscribe_on(&router, name, reader);
            Reel::new().send(publisher, "ckddd");
            let seen = take(&mut subscription, 5);
            assert_eq!(seen, ["c0", "k1", "d2", "d3", "d4"], "{name} in round {round}");
        }
        drop(publishers);
        eventually("the names are free", || router.streams().is_empty());
    }
}

#[test]
fn a_failed_shard_gives_back_what_it_counted() {
    let mut limits = shardcast::limits::Limits::default();
    (limits.publishers, limits.host_subscribers) = (1, 1);
    let router = builder(2).limits(limits).start().unwrap();
    for _ in 0..3 {
        let _publisher = publish_on(&router, "live/a", 0);
        let mut subscription = subscribe_on(&router, "live/a", 0);
        router.fail_shard(ShardId(0));
        assert_eq!(take_all(&mut subscription), ["shard_lost"]);
        eventually("the publisher is not counted any more", || router.streams().is_empty());
    }
}

#[test]
fn subscribers_elsewhere_wait_for_the_publisher_of_a_failed_shard_within_the_grace() {
    let app = AppSpec::new("live").republish_grace(WAIT).conflict(Conflict::TakeOver);
    let router = builder(2).app(app).start().unwrap();
    let mut first = publish_on(&router, "live/a", 0);
    Reel::starting_at(5_000).send(&mut first, "ckd");
    let mut elsewhere = subscribe_on(&router, "live/a", 1);
    assert_eq!(take(&mut elsewhere, 3), ["c0", "k1", "d2"]);

    router.fail_shard(ShardId(0));
    eventually("it is over", || router.streams().is_empty());
    let mut second = publish_on(&router, "live/a", 0);
    Reel { sent: 10, ..Reel::new() }.send(&mut second, "kd");

    let frame = next_frame(&mut elsewhere);
    assert_eq!(letter_and_number(&frame), "k10");
    assert!(frame.dts.as_millis() > 5_040, "time goes on: {frame:?}");
}

#[test]
fn the_sinks_of_a_failed_shard_are_told() {
    struct Told(std::sync::mpsc::Sender<Reason>);
    impl FrameSink for Told {
        fn on_frame(&mut self, _: &Frame) -> SinkVerdict {
            SinkVerdict::Taken
        }
        fn on_end(&mut self, reason: Reason) {
            let _ = self.0.send(reason);
        }
    }
    let router = router(1);
    let _publisher = publish(&router, "live/a");
    let (tell, told) = std::sync::mpsc::channel();
    router.attach(&key("live/a"), PlayOptions::instant(), Box::new(Told(tell))).unwrap();

    router.fail_shard(ShardId(0));

    assert_eq!(told.recv_timeout(WAIT), Ok(Reason::ShardLost));
}

#[test]
fn an_observer_that_panics_costs_nothing_also_where_a_failed_shard_is_told_of() {
    struct Panics;
    impl Observer for Panics {
        fn on_fact(&self, fact: &Fact) {
            panic!("on purpose, at {:?}", fact.kind);
        }
    }
    let router = builder(1).observer(Arc::new(Panics)).start().unwrap();
    let events = router.events();
    for _ in 0..2 {
        let mut publisher = publish(&router, "live/a");
        let mut subscription = subscribe(&router, "live/a");
        Reel::new().send(&mut publisher, "ck");
        assert_eq!(take(&mut subscription, 2), ["c0", "k1"]);
        router.fail_shard(ShardId(0));
        assert_eq!(take_all(&mut subscription), ["shard_lost"]);
        assert_eq!(
            fact(&events, FactKind::ShardPanic).reason,
            Some(Reason::ShardLost),
            "others are told all the same"
        );
        eventually("the name is free", || router.streams().is_empty());
    }
}
