//! How fast a publisher may send: what is too much is told, waited for, or the end, as the application says.

use std::time::Duration;

use shardcast::clock::{Clock, Instant};
use shardcast::fact::FactKind;
use shardcast::limits::Limit;
use shardcast::reason::Reason;
use shardcast::router::{PublishOptions, SendError};
use shardcast::stream::{AppSpec, Excess, PublisherCaps};

use crate::world::*;

fn capped(caps: PublisherCaps) -> shardcast::Router {
    builder(1).app(AppSpec::new("live").publisher(caps)).start().unwrap()
}

fn bits(bitrate: u64, excess: Excess) -> PublisherCaps {
    PublisherCaps { bitrate: Some(bitrate), excess, ..PublisherCaps::NONE }
}

#[test]
fn what_is_too_much_is_delivered_and_told_once_where_the_application_only_warns() {
    let router = capped(bits(8_000, Excess::Warn));
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    // 3,000 bytes may come at once.
    let mut reel = Reel::new();
    for n in 0..10 {
        let mut frame = reel.frame(if n == 0 { 'k' } else { 'd' });
        frame.payload = [&frame.payload[..], &[0; 998]].concat().into();
        send(&mut publisher, frame);
    }

    for _ in 0..10 {
        next_frame(&mut subscription);
    }
    let told = fact(&events, FactKind::RateLimit);
    assert_eq!((told.reason, told.count), (Some(Reason::Limit(Limit::PublisherBitrate)), 1));
    assert_eq!(router.stats()[0].counters.frames_over_rate, 7);
    publisher.end();
    fact(&events, FactKind::PublishEnd);
    let again = std::iter::from_fn(|| events.try_recv()).find(|fact| fact.kind == FactKind::RateLimit);
    assert_eq!(again, None, "a storm fills no trail");
}

#[test]
fn a_publisher_over_a_cap_is_closed_where_the_application_says_so() {
    // The first frame is too much, or the fourth of sixty pictures: however late the shard is, what comes in meanwhile is
    // not enough for the rest.
    let pictures = PublisherCaps { frame_rate: Some(1), excess: Excess::Close, ..PublisherCaps::NONE };
    for (caps, letters, limit) in [
        (bits(1, Excess::Close), "k", Limit::PublisherBitrate),
        (pictures, &*format!("ck{}", "d".repeat(60)), Limit::PublisherFrameRate),
    ] {
        let router = capped(caps);
        let events = router.events();
        let mut publisher = publish(&router, "live/a");
        let mut reel = Reel::new();
        // The ring has room for all; it may be closed under the last ones, and then a send is what tells the end.
        let refused = letters.chars().find_map(|letter| publisher.send(reel.frame(letter)).err());
        let told = match refused {
            None => ended(&mut publisher),
            Some(SendError::Ended(_, reason)) => reason,
            Some(full @ SendError::Full(_)) => panic!("{full}"),
        };
        let reason = Reason::Limit(limit);
        assert_eq!(told, reason);
        assert_eq!(fact(&events, FactKind::RateLimit).reason, Some(reason));
        assert_eq!(fact(&events, FactKind::PublishEnd).reason, Some(reason));
    }
}

#[test]
fn audio_is_no_picture() {
    let pictures = PublisherCaps { frame_rate: Some(1), excess: Excess::Close, ..PublisherCaps::NONE };
    let router = capped(pictures);
    let mut publisher = publish(&router, "live/a");
    Reel::new().send(&mut publisher, &format!("ckdd{}", "a".repeat(100)));
    taken_in(&router, "live/a", 104);
}

#[test]
fn a_publisher_that_is_held_back_loses_nothing_and_its_ring_is_full_meanwhile() {
    let pictures = PublisherCaps { frame_rate: Some(20), excess: Excess::Throttle, ..PublisherCaps::NONE };
    let router = capped(pictures);
    let options = PublishOptions { ring_slots: 8, ..PublishOptions::default() };
    let mut publisher = router.publish(&key("live/a"), options).unwrap();
    let mut subscription = subscribe(&router, "live/a");
    let clock = Clock::start();
    let (mut reel, mut got) = (Reel::new(), 0_u64);
    let mut next = reel.frame('k');
    // Sixty may come at once, twenty each second from then on.
    while got < 100 {
        match publisher.send(next.clone()) {
            Ok(()) => next = reel.frame('d'),
            Err(error) => assert!(matches!(error, SendError::Full(_)), "{error}"),
        }
        if let Some(delivery) = subscription.recv_timeout(Duration::from_millis(1)) {
            assert!(matches!(delivery, shardcast::router::Delivery::Frame(_)), "{delivery:?}");
            got += 1;
        }
        let ms = u64::try_from(clock.instant().since(Instant::ZERO).as_millis()).unwrap();
        assert!(got <= 61 + ms / 50, "{got} frames after {ms} ms");
        assert!(ms < 10_000, "{got} frames in ten seconds");
    }
}
