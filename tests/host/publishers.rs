//! Whose name it is: second publishers, takeovers, returns, and wishes for keyframes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shardcast::Router;
use shardcast::clock::Now;
use shardcast::extension::{FrameSource, SourcePoll};
use shardcast::fact::FactKind;
use shardcast::id::ShardId;
use shardcast::media::{FrameFlags, FrameKind};
use shardcast::reason::Reason;
use shardcast::router::{Delivery, PublishOptions, SendError, SubscribeOptions, Subscription};
use shardcast::shard::PublisherEvent;
use shardcast::stream::{Absent, AppSpec, Conflict, GopCache};

use crate::world::*;

fn with_app(shards: usize, app: AppSpec) -> Router {
    builder(shards).app(app).start().unwrap()
}

/// Frames up to one that is this, with their times in ms; every time must be at or after the one before.
fn rising_until(subscription: &mut Subscription, wanted: &str) -> Vec<(String, i64)> {
    let mut seen: Vec<(String, i64)> = Vec::new();
    loop {
        let delivery = next(subscription);
        let Delivery::Frame(frame) = &delivery else { panic!("{delivery:?} after {seen:?}") };
        let at = frame.dts.as_millis();
        assert!(seen.last().is_none_or(|(_, last)| *last <= at), "{at} after {seen:?}");
        seen.push((show(&delivery), at));
        if seen.last().is_some_and(|(text, _)| text == wanted) {
            return seen;
        }
    }
}

#[test]
fn a_second_publisher_is_refused_on_every_shard_while_the_first_is_live() {
    let router = router(2);
    let first = publish_on(&router, "live/a", 0);
    for shard in [0, 1] {
        assert_eq!(try_publish(&router, "live/a", shard).unwrap_err(), Reason::NameTaken);
    }

    first.end();

    eventually("the name is free", || try_publish(&router, "live/a", 1).is_ok());
}

#[test]
fn one_of_many_who_want_a_name_at_once_gets_it() {
    let router = router(4);
    let results = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn({
                    let router = &router;
                    move || try_publish(router, "live/a", n % 4)
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let reasons: Vec<Reason> = results.iter().filter_map(|result| result.as_ref().err().copied()).collect();
    assert_eq!(reasons, [Reason::NameTaken; 7]);
}

#[test]
fn where_the_policy_says_so_the_second_publisher_takes_over_and_time_goes_on() {
    for home in [0, 1] {
        let router = with_app(2, AppSpec::new("live").conflict(Conflict::TakeOver));
        let events = router.events();
        let mut first = publish_on(&router, "live/a", 0);
        let mut reel = Reel::starting_at(100_000);
        reel.send(&mut first, "ckdd");
        taken_in(&router, "live/a", 4);
        let mut here = subscribe_on(&router, "live/a", 0);
        let mut there = subscribe_on(&router, "live/a", 1);
        for subscription in [&mut here, &mut there] {
            rising_until(subscription, "d3");
        }

        let mut second = publish_on(&router, "live/a", home);
        let mut reel = Reel { sent: 50, ..Reel::new() };
        reel.send(&mut second, "cakdd");

        assert_eq!(ended(&mut first), Reason::TakenOver);
        // It is told before its ring is closed.
        eventually("what it still sends is refused", || {
            let refused = first.send(Reel::new().frame('k')).err();
            assert!(refused.as_ref().is_none_or(|why| matches!(why, SendError::Ended(_, Reason::TakenOver))));
            refused.is_some()
        });
        let takeover = fact(&events, FactKind::Takeover);
        assert_eq!(takeover.who.unwrap().connection, second.connection());
        for subscription in [&mut here, &mut there] {
            let seen = rising_until(subscription, "d54");
            let letters: Vec<&str> = seen.iter().map(|(text, _)| &**text).collect();
            assert_eq!(letters, ["c50", "k52", "d53", "d54"], "second publisher on shard {home}");
            assert!(seen[0].1 > 100_080, "time goes on where the first publisher stopped: {seen:?}");
        }
    }
}

#[test]
fn frames_of_one_who_was_ousted_never_come_after_the_new_publisher_s() {
    let router = with_app(3, AppSpec::new("live").conflict(Conflict::TakeOver));
    let mut first = publish_on(&router, "live/a", 0);
    let mut watchers: Vec<Subscription> = (0..3).map(|shard| subscribe_on(&router, "live/a", shard)).collect();
    // The first is kept busy by a thread while its name is taken away, again and again.
    for round in 1..20u16 {
        let next = std::thread::scope(|scope| {
            let old = &mut first;
            scope.spawn(move || {
                let mut reel = Reel { sent: u64::from(round) * 1000, ..Reel::starting_at(i64::from(round) * 7) };
                while old.send(reel.frame('k')).is_ok_and(|()| reel.sent % 1000 < 200) {}
            });
            publish_on(&router, "live/a", round % 3)
        });
        first = next;
        let mut reel = Reel { sent: u64::from(round) * 1000 + 999, ..Reel::new() };
        reel.send(&mut first, "k");
        for watcher in &mut watchers {
            let seen = rising_until_any_gap(watcher, &format!("k{}", u64::from(round) * 1000 + 999));
            assert!(!seen.is_empty());
        }
    }
}

/// As [`rising_until`]; what was under way when a publisher was ousted may be left out.
fn rising_until_any_gap(subscription: &mut Subscription, wanted: &str) -> Vec<(String, i64)> {
    let mut seen: Vec<(String, i64)> = Vec::new();
    loop {
        let delivery = next(subscription);
        let frame = match &delivery {
            Delivery::Frame(frame) => frame,
            Delivery::Gap(_) => continue,
            Delivery::End(_) => panic!("{delivery:?} after {seen:?}, {wanted} is due"),
        };
        let at = frame.dts.as_millis();
        assert!(seen.last().is_none_or(|(_, last)| *last <= at), "{at} after {seen:?}");
        seen.push((show(&delivery), at));
        if show(&delivery) == wanted {
            return seen;
        }
    }
}

#[test]
fn within_the_grace_subscribers_stay_and_time_goes_on_with_the_jump_marked() {
    for (home, letters) in [(0, "ckdd"), (1, "cakdd")] {
        let router = with_app(2, AppSpec::new("live").republish_grace(WAIT));
        let mut first = publish_on(&router, "live/a", 0);
        let mut reel = Reel::starting_at(50_000);
        reel.send(&mut first, "ckd");
        taken_in(&router, "live/a", 3);
        let mut here = subscribe_on(&router, "live/a", 0);
        let mut there = subscribe_on(&router, "live/a", 1);
        for subscription in [&mut here, &mut there] {
            rising_until(subscription, "d2");
        }
        first.end();
        eventually("it is over", || router.streams().is_empty());

        let mut second = publish_on(&router, "live/a", home);
        let mut reel = Reel { sent: 10, ..Reel::new() };
        reel.send(&mut second, letters);

        for subscription in [&mut here, &mut there] {
            let config = next_frame(subscription);
            let key = next_frame(subscription);
            let delta = next_frame(subscription);
            assert_eq!([config.kind, key.kind, delta.kind], [FrameKind::Config, FrameKind::Key, FrameKind::Delta]);
            assert!(key.flags.contains(FrameFlags::DISCONTINUITY), "{letters} on shard {home}");
            assert!(!delta.flags.contains(FrameFlags::DISCONTINUITY));
            assert!(config.dts.as_millis() > 50_040 && key.dts >= config.dts, "{config:?} {key:?}");
            assert_eq!((delta.dts - key.dts).as_millis(), 40);
        }
    }
}

#[test]
fn after_the_grace_subscribers_are_told_the_end() {
    let router = with_app(2, AppSpec::new("live").republish_grace(Duration::from_millis(20)));
    let mut publisher = publish(&router, "live/a");
    Reel::new().send(&mut publisher, "k");
    let mut here = subscribe_on(&router, "live/a", 0);
    let mut there = subscribe_on(&router, "live/a", 1);
    for subscription in [&mut here, &mut there] {
        assert_eq!(take(subscription, 1), ["k0"]);
    }

    publisher.end();

    for subscription in [&mut here, &mut there] {
        assert_eq!(take_all(subscription), ["ended"]);
    }
}

#[test]
fn a_subscriber_may_come_before_the_publisher_where_the_application_lets_it_wait() {
    let router = with_app(2, AppSpec::new("live").absent(Absent::Wait(WAIT)));
    let mut here = subscribe_on(&router, "live/a", 0);
    let mut there = subscribe_on(&router, "live/a", 1);
    assert!(router.streams().is_empty(), "to wait for a stream does not make one");

    let mut publisher = publish_on(&router, "live/a", 1);
    Reel::new().send(&mut publisher, "ckd");

    for subscription in [&mut here, &mut there] {
        assert_eq!(take(subscription, 3), ["c0", "k1", "d2"]);
    }
}

#[test]
fn one_who_waited_in_vain_is_told_that_there_is_no_such_stream() {
    let router = with_app(1, AppSpec::new("live").absent(Absent::Wait(Duration::from_millis(10))));
    let mut subscription = subscribe(&router, "live/a");
    assert_eq!(take_all(&mut subscription), ["not_found"]);
}

#[test]
fn an_absent_stream_and_an_unknown_application_are_refused_at_once() {
    let router = with_app(1, AppSpec::new("live"));
    assert_eq!(refused(&router, "live/a"), Reason::NotFound);
    assert_eq!(refused(&router, "vod/a"), Reason::UnknownApp);
    assert_eq!(try_publish(&router, "vod/a", 0).unwrap_err(), Reason::UnknownApp);
    assert_eq!(try_publish(&router, "live/a", 7).unwrap_err(), Reason::NotFound, "there is no shard 7");
}

#[test]
fn a_publisher_is_asked_once_for_a_keyframe_though_many_need_one() {
    let router = with_app(2, AppSpec::new("live").gop_cache(GopCache::OFF));
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckdd");
    taken_in(&router, "live/a", 4);

    let before = router.clock().instant();
    let mut subscriptions: Vec<_> = (0..40).map(|n| subscribe_on(&router, "live/a", n % 2)).collect();
    assert_eq!(publisher.event_timeout(WAIT), Some(PublisherEvent::KeyframeWanted));
    reel.send(&mut publisher, "k");

    for subscription in &mut subscriptions {
        assert_eq!(take(subscription, 2), ["c0", "k4"]);
    }
    // Another wish only half a second later, however busy this machine is.
    let halves = router.clock().instant().since(before).as_millis() / 500;
    let more = std::iter::from_fn(|| publisher.event()).count();
    assert!(more as u128 <= halves, "{more} more in {halves} half seconds");
}

#[test]
fn nobody_asks_for_a_keyframe_where_one_is_cached() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    Reel::new().send(&mut publisher, "ckdd");
    taken_in(&router, "live/a", 4);

    for shard in [0, 1, 0, 1] {
        assert_eq!(take(&mut subscribe_on(&router, "live/a", shard), 2), ["c0", "k1"]);
    }

    assert_eq!(publisher.event(), None);
}

#[test]
fn a_stream_of_delta_frames_begins_with_its_first_keyframe() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    Reel::new().send(&mut publisher, "cddkd");
    assert_eq!(take(&mut subscription, 3), ["c0", "k3", "d4"]);
    assert_eq!(router.stats()[0].counters.before_key, 2);
}

/// Gives so many frames, always at once, and ends when the test has seen the first.
struct Burst {
    reel: Reel,
    frames: u64,
    seen: Arc<AtomicBool>,
}

fn burst(frames: u64) -> (Box<Burst>, Arc<AtomicBool>) {
    let seen = Arc::new(AtomicBool::new(false));
    (Box::new(Burst { reel: Reel::new(), frames, seen: Arc::clone(&seen) }), seen)
}

impl FrameSource for Burst {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        if self.reel.sent < self.frames {
            let letter = if self.reel.sent.is_multiple_of(50) { 'k' } else { 'd' };
            SourcePoll::Frame(self.reel.frame(letter))
        } else if self.seen.load(Ordering::Relaxed) {
            SourcePoll::End
        } else {
            SourcePoll::NotBefore(now.mono + Duration::from_millis(1))
        }
    }
}

#[test]
fn a_source_runs_on_its_shard_and_ends_its_stream() {
    let router = with_app(2, AppSpec::new("live").absent(Absent::Wait(WAIT)));
    let options =
        |shard| SubscribeOptions { shard: Some(ShardId(shard)), ring_slots: 1024, ..SubscribeOptions::default() };
    let mut both = [0, 1].map(|shard| router.subscribe(&key("live/a"), options(shard)).unwrap());

    let (source, seen) = burst(600);
    router.run_source(&key("live/a"), source).unwrap();

    // The other shard may join when some of it is over: at the newest keyframe then.
    let first = both.each_mut().map(|subscription| take(subscription, 1).remove(0));
    assert!(first.contains(&"k0".to_owned()), "{first:?}");
    seen.store(true, Ordering::Relaxed);
    for (subscription, first) in both.iter_mut().zip(first) {
        let from: usize = first.strip_prefix('k').unwrap().parse().unwrap();
        let seen = take_all(subscription);
        assert_eq!((seen.len(), seen.last().map(String::as_str)), (600 - from, Some("ended")));
    }
}

#[test]
fn a_source_that_always_has_a_frame_keeps_nobody_from_the_shard() {
    let router = router(1);
    let source = router.run_source(&key("live/a"), burst(u64::MAX).0).unwrap();
    let mut other = publish(&router, "live/b");
    let mut subscription = subscribe(&router, "live/b");

    Reel::new().send(&mut other, "kd");

    assert_eq!(take(&mut subscription, 2), ["k0", "d1"]);
    assert!(router.kick(source), "a source is known by its number");
}

/// Wants to be asked at a time that lies behind.
struct Behind;

impl FrameSource for Behind {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        SourcePoll::NotBefore(now.mono - Duration::from_secs(1))
    }
}

#[test]
fn a_source_that_names_a_time_that_is_over_does_not_stop_the_shard() {
    let router = router(1);
    router.run_source(&key("live/a"), Box::new(Behind)).unwrap();
    assert_eq!(router.stats().len(), 1);
}

#[test]
fn a_ring_of_the_least_size_carries_everything() {
    let router = router(1);
    let options = PublishOptions { ring_slots: 1, ..PublishOptions::default() };
    let mut publisher = router.publish(&key("live/a"), options).unwrap();
    let options = SubscribeOptions { ring_slots: 1, ..SubscribeOptions::default() };
    let mut subscription = router.subscribe(&key("live/a"), options).unwrap();
    let mut reel = Reel::new();
    for number in 0..100 {
        reel.send(&mut publisher, "k");
        assert_eq!(take(&mut subscription, 1), [format!("k{number}")]);
    }
    publisher.end();
    assert_eq!(take_all(&mut subscription), ["ended"]);
}
