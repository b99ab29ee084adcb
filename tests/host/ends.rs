//! How it ends: by the publisher, by the subscriber, by the operator, by a stop.

use std::time::Duration;

use shardcast::fact::FactKind;
use shardcast::id::ConnectionId;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, SendError, TryRecvError};

use crate::world::*;

#[test]
fn when_the_publisher_ends_subscribers_get_everything_and_then_the_end() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let mut here = subscribe_on(&router, "live/a", 0);
    let mut there = subscribe_on(&router, "live/a", 1);
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ck");
    assert_eq!(take(&mut there, 2), ["c0", "k1"]);
    assert_eq!(take(&mut here, 2), ["c0", "k1"]);

    reel.send(&mut publisher, "dd");
    publisher.end();

    for subscription in [&mut here, &mut there] {
        assert_eq!(take_all(subscription), ["d2", "d3", "ended"]);
        assert_eq!(subscription.try_recv().unwrap_err(), TryRecvError::Ended(Reason::Ended));
        assert!(matches!(subscription.recv(), Delivery::End(Reason::Ended)), "it stays so");
    }
}

#[test]
fn a_publisher_that_is_dropped_ends_its_stream() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    Reel::new().send(&mut publisher, "kd");
    drop(publisher);
    assert_eq!(take_all(&mut subscription), ["k0", "d1", "ended"]);
}

#[test]
fn a_subscription_that_is_dropped_leaves_nothing_behind() {
    let router = router(2);
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let here = subscribe_on(&router, "live/a", 0);
    let there = subscribe_on(&router, "live/a", 1);
    Reel::new().send(&mut publisher, "kd");

    drop((here, there));

    for _ in 0..2 {
        assert_eq!(fact(&events, FactKind::PlayEnd).reason, Some(Reason::Ended));
    }
    eventually("no replica is left", || router.stats().iter().all(|shard| shard.subscribers + shard.replicas == 0));
}

#[test]
fn a_publisher_is_kicked_by_its_stream_or_by_its_number() {
    for by_number in [false, true] {
        let router = router(2);
        let events = router.events();
        let mut publisher = publish_on(&router, "live/a", 1);
        let mut subscription = subscribe_on(&router, "live/a", 0);
        Reel::new().send(&mut publisher, "kd");
        assert_eq!(take(&mut subscription, 2), ["k0", "d1"]);

        let found =
            if by_number { router.kick(publisher.connection()) } else { router.kick_publisher(&key("live/a")) };

        assert!(found);
        assert_eq!(take_all(&mut subscription), ["kicked"]);
        assert_eq!(ended(&mut publisher), Reason::Kicked);
        let refused = publisher.send(Reel::new().frame('k')).unwrap_err();
        assert!(matches!(refused, SendError::Ended(_, Reason::Kicked)), "{refused}");
        let kick = fact(&events, FactKind::Kick);
        assert_eq!((kick.stream, kick.who.unwrap().connection), (Some(key("live/a")), publisher.connection()));
        assert_eq!(fact(&events, FactKind::PublishEnd).reason, Some(Reason::Kicked));
        assert!(!router.kick_publisher(&key("live/a")));
    }
}

#[test]
fn a_subscriber_is_kicked_and_nobody_else_is() {
    let router = router(2);
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let mut kicked = subscribe_on(&router, "live/a", 1);
    let mut other = subscribe_on(&router, "live/a", 1);
    let mut reel = Reel::new();
    reel.send(&mut publisher, "k");
    assert_eq!(take(&mut kicked, 1), ["k0"]);

    assert!(router.kick(kicked.connection()));
    reel.send(&mut publisher, "d");

    assert_eq!(take_all(&mut kicked), ["kicked"]);
    assert_eq!(take(&mut other, 2), ["k0", "d1"]);
    let kick = fact(&events, FactKind::Kick);
    assert_eq!((kick.stream, kick.who.unwrap().connection), (Some(key("live/a")), kicked.connection()));
    let end = fact(&events, FactKind::PlayEnd);
    assert_eq!((end.reason, end.who.unwrap().connection), (Some(Reason::Kicked), kicked.connection()));
    assert!(!router.kick(kicked.connection()));
    assert!(!router.kick(ConnectionId(0)), "nobody has the number 0, links between shards neither");
    reel.send(&mut publisher, "d");
    assert_eq!(take(&mut other, 1), ["d2"]);
}

#[test]
fn a_stop_serves_what_is_there_tells_everybody_and_ends_in_time() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let mut here = subscribe_on(&router, "live/a", 0);
    let mut there = subscribe_on(&router, "live/a", 1);
    Reel::new().send(&mut publisher, "kdd");
    taken_in(&router, "live/a", 3);
    // The other shard has its link.
    assert_eq!(take(&mut there, 1), ["k0"]);

    let report = router.stop(WAIT);

    assert!(report.drained);
    assert_eq!(take_all(&mut here), ["k0", "d1", "d2", "shutdown"]);
    assert_eq!(take_all(&mut there), ["d1", "d2", "shutdown"]);
    assert_eq!(ended(&mut publisher), Reason::Shutdown);
}

#[test]
fn one_who_never_reads_does_not_hold_a_stop_beyond_its_deadline() {
    let router = router(1);
    let clock = router.clock();
    let mut publisher = publish(&router, "live/a");
    let options = shardcast::router::SubscribeOptions { ring_slots: 4, ..Default::default() };
    let mut never = router.subscribe(&key("live/a"), options).unwrap();
    Reel::new().send(&mut publisher, "kddddddddddd");
    taken_in(&router, "live/a", 12);

    let before = clock.instant();
    let _report = router.stop(Duration::from_millis(50));

    assert!(clock.instant().since(before) < Duration::from_secs(2));
    let seen = take_all(&mut never);
    assert_eq!((&*seen[0], seen.last().map(String::as_str)), ("k0", Some("shutdown")));
}

#[test]
fn handles_that_outlive_their_router_say_that_it_is_over() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    let events = router.events();
    drop(router);
    assert_eq!(take_all(&mut subscription).last().map(String::as_str), Some("shutdown"));
    let refused = publisher.send(Reel::new().frame('k')).unwrap_err();
    assert!(matches!(refused, SendError::Ended(_, Reason::Shutdown)), "{refused}");
    while events.try_recv().is_some() {}
    assert!(events.recv_timeout(Duration::ZERO).is_none());
}
