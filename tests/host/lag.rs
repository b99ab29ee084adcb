//! Who is too slow: skips are exact and end at a keyframe, nobody else notices, and there is a limit.

use std::time::Duration;

use shardcast::Router;
use shardcast::fact::FactKind;
use shardcast::id::ShardId;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, SubscribeOptions, Subscription};
use shardcast::stream::{AppSpec, LagPolicy};

use crate::world::*;

const YOUNG: Duration = Duration::from_millis(30);

fn impatient(shards: usize, evict_lost: Duration) -> Router {
    let lag = LagPolicy { max_age: YOUNG, evict_lost, ..LagPolicy::default() };
    builder(shards).app(AppSpec::new("live").lag(lag)).start().unwrap()
}

fn small(router: &Router, shard: u16) -> Subscription {
    let options = SubscribeOptions { shard: Some(ShardId(shard)), ring_slots: 8, ..SubscribeOptions::default() };
    router.subscribe(&key("live/a"), options).unwrap()
}

fn number(delivery: &Delivery) -> u64 {
    show(delivery)[1..].parse().unwrap()
}

#[test]
fn a_slow_subscriber_skips_to_a_keyframe_and_is_told_exactly_how_many_frames_it_missed() {
    for shard in [0, 1] {
        let router = impatient(2, Duration::from_secs(9));
        let events = router.events();
        let mut publisher = publish(&router, "live/a");
        let mut slow = small(&router, shard);
        let mut quick = subscribe_on(&router, "live/a", shard);
        let mut reel = Reel::new();

        // It reads nothing: its ring is full, and what waits in the log grows old.
        reel.send(&mut publisher, "ckdddddddddddddddddddd");
        let skip = fact(&events, FactKind::Skip);
        assert_eq!(skip.who.unwrap().connection, slow.connection());
        reel.send(&mut publisher, "ddckd");
        publisher.end();

        let mut last = None;
        let (mut gaps, mut after_gap) = (0, false);
        loop {
            let delivery = next(&mut slow);
            match &delivery {
                Delivery::Gap(frames) => {
                    // c24 is left out and then given again, before k25.
                    assert_eq!(last.unwrap() + frames + 1, 25);
                    assert_eq!(slow.skipped(), *frames);
                    assert_eq!(take(&mut slow, 2), ["c24", "k25"]);
                    (gaps, after_gap, last) = (gaps + 1, true, Some(25));
                }
                Delivery::Frame(_) => {
                    let number = number(&delivery);
                    assert!(last.is_none_or(|last| number == last + 1), "{last:?} then {number}");
                    last = Some(number);
                }
                Delivery::End(reason) => {
                    assert_eq!(*reason, Reason::Ended);
                    break;
                }
            }
        }
        assert_eq!((gaps, after_gap, last), (1, true, Some(26)), "on shard {shard}");

        let seen = take_all(&mut quick);
        assert_eq!(
            (seen.len(), seen.last().map(String::as_str)),
            (28, Some("ended")),
            "the quick one missed nothing"
        );
    }
}

#[test]
fn each_viewer_has_a_patience_of_its_own() {
    let router = router(1);
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let play = PlayOptions::default().max_age(YOUNG);
    let options = SubscribeOptions { play, ring_slots: 8, ..SubscribeOptions::default() };
    let impatient = router.subscribe(&key("live/a"), options).unwrap();
    let _patient = small(&router, 0);

    Reel::new().send(&mut publisher, "ckdddddddddddddddddddd");

    let skip = fact(&events, FactKind::Skip);
    assert_eq!(skip.who.unwrap().connection, impatient.connection());
}

#[test]
fn one_who_never_reads_is_evicted_and_told_why_after_all_that_it_was_given() {
    let router = impatient(1, YOUNG * 4);
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let mut never = small(&router, 0);
    let mut quick = subscribe(&router, "live/a");
    let mut reel = Reel::new();

    let mut evicted = None;
    eventually("it is evicted", || {
        reel.send(&mut publisher, "kd");
        take(&mut quick, 2);
        while let Some(fact) = events.try_recv() {
            if fact.kind == FactKind::Evict {
                evicted = Some(fact);
            }
        }
        evicted.is_some()
    });
    publisher.end();

    let evicted = evicted.unwrap();
    assert_eq!(evicted.who.unwrap().connection, never.connection());
    assert_eq!((evicted.reason, evicted.stream), (Some(Reason::Lag), Some(key("live/a"))));
    assert!(evicted.count > 0, "what it missed is in the record");
    let seen = take_all(&mut never);
    assert_eq!(seen.last().map(String::as_str), Some("lag"));
    let missed = &seen[seen.len() - 2];
    assert_eq!(missed.strip_prefix('+').map(str::parse), Some(Ok(never.skipped())), "{seen:?}");
    let frames: Vec<u64> = seen[..seen.len() - 2].iter().map(|text| text[1..].parse().unwrap()).collect();
    assert!(!frames.is_empty() && frames.iter().enumerate().all(|(at, number)| at as u64 == *number), "{seen:?}");
    assert_eq!(take_all(&mut quick), ["ended"]);
}

#[test]
fn the_end_of_an_evicted_play_tells_the_reason_too() {
    let router = impatient(1, YOUNG);
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let never = small(&router, 0);
    let mut reel = Reel::new();
    let mut kinds = Vec::new();
    eventually("its end is told", || {
        reel.send(&mut publisher, "k");
        while let Some(fact) = events.try_recv() {
            if matches!(fact.kind, FactKind::Evict | FactKind::PlayEnd) {
                assert_eq!(
                    (fact.reason, fact.who.map(|who| who.connection)),
                    (Some(Reason::Lag), Some(never.connection()))
                );
                kinds.push(fact.kind);
            }
        }
        kinds.len() == 2
    });
    assert_eq!(kinds, [FactKind::Evict, FactKind::PlayEnd]);
}

#[test]
fn two_who_join_on_another_shard_at_once_get_all_of_a_gop_that_is_older_than_their_patience() {
    let patience = Duration::from_millis(500);
    let lag = LagPolicy { max_age: patience, ..LagPolicy::default() };
    let router = builder(2).app(AppSpec::new("live").lag(lag)).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    let options = SubscribeOptions { shard: Some(ShardId(1)), ring_slots: 4_096, ..SubscribeOptions::default() };
    for round in 0..4 {
        // More than a turn takes from another shard; only its end is young.
        let mut reel = Reel::new();
        reel.send(&mut publisher, &("ck".to_owned() + &"d".repeat(2_000)));
        let clock = router.clock();
        let since = clock.instant();
        eventually("the GOP is old", || clock.instant().since(since) > patience);
        reel.send(&mut publisher, "d");
        let wanted = usize::try_from(reel.sent).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut joined = router.subscribe(&key("live/a"), options.clone()).unwrap();
                    let got = take(&mut joined, wanted);
                    assert_eq!(got.iter().find(|text| text.starts_with('+')), None, "in round {round}");
                    assert_eq!(got.last(), Some(&format!("d{}", wanted - 1)), "in round {round}");
                });
            }
        });
        eventually("both are gone", || router.inspect(&key("live/a")).unwrap().subscribers == 0);
    }
}
