//! What a subscriber gets: everything, in order, from a keyframe on, and not a byte of it copied.

use std::time::Duration;

use bytes::Bytes;
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use shardcast::id::ShardId;
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, PublishOptions, SendError, SubscribeOptions, TryRecvError};

use crate::world::*;

#[test]
fn a_subscriber_gets_configuration_then_a_keyframe_then_every_frame() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckd");
    taken_in(&router, "live/a", 3);

    let mut subscription = subscribe(&router, "live/a");
    reel.send(&mut publisher, "dadkd");
    publisher.end();

    let seen = take_all(&mut subscription);
    assert_eq!(seen, ["c0", "k1", "d2", "d3", "a4", "d5", "k6", "d7", "ended"]);
}

#[test]
fn one_who_comes_late_starts_at_the_cached_keyframe_with_the_configuration_in_force_there() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckdckddcd");
    taken_in(&router, "live/a", 9);

    for shard in [0, 1] {
        let mut late = subscribe_on(&router, "live/a", shard);
        // c3 is the version of k4; c7 came later, and comes in its place.
        assert_eq!(take(&mut late, 6), ["c3", "k4", "d5", "d6", "c7", "d8"], "on shard {shard}");
    }
}

#[test]
fn one_who_wants_to_start_live_waits_for_the_next_keyframe() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckdd");
    taken_in(&router, "live/a", 4);

    let options = SubscribeOptions { play: PlayOptions::live(), ..SubscribeOptions::default() };
    let mut subscription = router.subscribe(&key("live/a"), options).unwrap();
    reel.send(&mut publisher, "dakd");

    assert_eq!(take(&mut subscription, 3), ["c0", "k6", "d7"]);
}

#[test]
fn the_other_shard_s_subscribers_get_the_same_without_gap_or_duplicate_whenever_they_join() {
    const FRAMES: u64 = 600;
    let router = router(3);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    let mut subscriptions = Vec::new();
    for number in 0..FRAMES {
        let letter = match number {
            0 => 'c',
            _ if number % 30 == 1 => 'k',
            _ if number % 3 == 0 => 'a',
            _ => 'd',
        };
        reel.send(&mut publisher, &letter.to_string());
        if number % 40 == 0 && number > 0 {
            // Joined while frames flow, and read by nobody until the end: the ring is large enough for all.
            let shard = Some(ShardId(u16::try_from(number / 40 % 3).unwrap()));
            let options = SubscribeOptions { shard, ring_slots: 1024, ..SubscribeOptions::default() };
            subscriptions.push(router.subscribe(&key("live/a"), options).unwrap());
        }
    }
    // Nobody is on the way to it any more.
    let mut seen: Vec<Vec<String>> = subscriptions.iter_mut().map(|subscription| take(subscription, 1)).collect();
    publisher.end();

    for (subscription, seen) in subscriptions.iter_mut().zip(&mut seen) {
        seen.extend(take_all(subscription));
        let numbers: Vec<u64> = seen[1..seen.len() - 1].iter().map(|text| text[1..].parse().unwrap()).collect();
        assert_eq!(seen[0], "c0");
        assert!(seen[1].starts_with('k'), "{seen:?}");
        assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{seen:?}");
        assert_eq!((numbers.last(), seen.last().map(String::as_str)), (Some(&(FRAMES - 1)), Some("ended")));
    }
}

#[test]
fn a_payload_is_the_same_memory_from_the_publisher_to_every_subscriber_on_any_shard() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let payload = Bytes::from(vec![7; 100_000]);
    let time = Timestamp::from_millis(1);
    let mut here = router
        .subscribe(&key("live/a"), SubscribeOptions { shard: Some(ShardId(0)), ..SubscribeOptions::default() })
        .unwrap();
    let mut there = subscribe_on(&router, "live/a", 1);
    publisher.send(Frame::video(Codec::H264, true, time, time, payload.clone())).unwrap();

    for subscription in [&mut here, &mut there] {
        let frame = next_frame(subscription);
        assert_eq!((frame.payload.as_ptr(), frame.payload.len()), (payload.as_ptr(), payload.len()));
        assert_eq!((frame.pts, frame.dts), (time, time));
    }
}

#[test]
fn a_full_ring_gives_the_frame_back_as_it_was() {
    let router = router(1);
    let options = PublishOptions { ring_slots: 8, ..PublishOptions::default() };
    let mut publisher = router.publish(&key("live/a"), options).unwrap();
    let payload = Bytes::from(vec![7; 1000]);
    let frame = Frame::video(Codec::H264, true, Timestamp::ZERO, Timestamp::ZERO, payload.clone());

    // The shard takes frames meanwhile: somewhere in so many it is found behind.
    let mut taken = 0;
    let full = loop {
        match publisher.send(frame.clone()) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100_000_000, "the ring is never full");
    };

    let SendError::Full(back) = full else { panic!("{full}") };
    assert_eq!(back.payload.as_ptr(), payload.as_ptr());
    assert_eq!((back.pts, back.dts, back.kind), (frame.pts, frame.dts, frame.kind));
    // Everything that was taken arrives, and room comes back.
    taken_in(&router, "live/a", taken);
    eventually("room again", || publisher.free() > 0);
    publisher.send(back).unwrap();
}

#[test]
fn many_frames_are_sent_and_received_at_once() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    let mut reel = Reel::new();
    let mut frames = "ckddkdda".chars().map(|letter| reel.frame(letter));
    assert_eq!(publisher.send_all(&mut frames).unwrap(), 8);

    let mut got = Vec::new();
    eventually("all are there", || {
        subscription.recv_batch(&mut got, 5);
        got.len() == 8
    });
    assert_eq!(subscription.recv_batch(&mut got, 5), 0);
    let seen: Vec<String> = got.iter().map(show).collect();
    assert_eq!(seen, ["c0", "k1", "d2", "d3", "k4", "d5", "d6", "a7"]);
}

#[test]
fn a_batch_is_never_larger_than_asked_for() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    Reel::new().send(&mut publisher, "kdddd");
    eventually("all are delivered", || {
        router.stats().iter().map(|shard| shard.counters.deliveries).sum::<u64>() == 5
    });

    let mut got = Vec::new();
    let counts = [3, 0, 10].map(|most| subscription.recv_batch(&mut got, most));
    assert_eq!((counts, got.len()), ([3, 0, 2], 5));
}

#[test]
fn the_descriptor_of_a_subscription_is_readable_when_there_is_something_and_only_then() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    let mut reel = Reel::new();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    let descriptor = subscription.pollable().unwrap().try_clone_to_owned().unwrap();
    let mut source = UnixStream::from_std(descriptor.into());
    poll.registry().register(&mut source, Token(1), Interest::READABLE).unwrap();

    // Whoever polls first is told to look, once.
    poll.poll(&mut events, Some(WAIT)).unwrap();
    assert!(!events.is_empty());
    assert_eq!(subscription.try_recv().unwrap_err(), TryRecvError::Empty);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "nothing was sent");

    for _ in 0..50 {
        reel.send(&mut publisher, "k");
        poll.poll(&mut events, Some(WAIT)).unwrap();
        assert!(!events.is_empty(), "frame {} was not told", reel.sent);
        let mut got = 0;
        // Edge-triggered: until there is nothing.
        while let Ok(Delivery::Frame(_)) = subscription.try_recv() {
            got += 1;
        }
        assert_eq!(got, 1);
    }

    publisher.end();
    poll.poll(&mut events, Some(WAIT)).unwrap();
    assert!(matches!(subscription.try_recv(), Ok(Delivery::End(Reason::Ended))));
    assert_eq!(subscription.try_recv().unwrap_err(), TryRecvError::Ended(Reason::Ended));
}

#[test]
fn nothing_is_received_when_the_time_is_up() {
    let router = router(1);
    let _publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    assert!(subscription.recv_timeout(Duration::from_millis(5)).is_none());
}
