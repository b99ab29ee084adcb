//! Bounds: each is exact where it is global, has a reason of its own, and gives back what it counted.

use shardcast::extension::Health;
use shardcast::fact::FactKind;
use shardcast::limits::Limit;
use shardcast::media::TrackId;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::router::{SubscribeOptions, Subscription};
use shardcast::shard::Config;
use shardcast::stream::{Absent, AppSpec};

use crate::world::*;

const SUBSCRIBERS: Reason = Reason::Limit(Limit::Subscribers);

#[test]
fn publishers_are_limited_and_health_says_how_near_the_limit_is() {
    let router = limited(|limits| limits.publishers = 10).start().unwrap();
    let mut publishers: Vec<_> = (0..8).map(|n| publish(&router, &format!("live/{n}"))).collect();
    assert_eq!(router.health(), Health::Healthy);
    publishers.push(publish(&router, "live/8"));
    assert_eq!(router.health(), Health::Degraded("publishers: 9 of 10 are in use".into()));
    publishers.push(publish(&router, "live/9"));
    assert_eq!(router.health(), Health::Unhealthy("publishers: all 10 are in use".into()));

    let events = router.events();
    let reason = try_publish(&router, "live/10", 0).unwrap_err();
    assert_eq!(reason, Reason::Limit(Limit::Publishers));
    let refusal = fact(&events, FactKind::PublishRefuse);
    assert_eq!((refusal.reason, refusal.stream), (Some(reason), Some(key("live/10"))));

    publishers.clear();
    eventually("there is room again", || try_publish(&router, "live/10", 0).is_ok());
    assert_eq!(router.health(), Health::Healthy);
}

#[test]
fn in_process_subscribers_are_limited_and_count_down_however_they_end() {
    let router = limited(|limits| limits.host_subscribers = 2).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    for round in 0..3 {
        let two: Vec<Subscription> = (0..2).map(|_| subscribe(&router, "live/a")).collect();
        assert_eq!(refused(&router, "live/a"), SUBSCRIBERS, "round {round}");
        // One leaves, one is told the end.
        if round == 1 {
            publisher.end();
            for mut one in two {
                take_all(&mut one);
            }
            publisher = publish(&router, "live/a");
        } else {
            drop(two);
        }
        eventually("all are gone", || router.stats()[0].subscribers == 0);
        // A refusal takes no seat.
        assert_eq!(refused(&router, "live/none"), Reason::NotFound);
    }
}

#[test]
fn subscribers_of_one_stream_are_limited_on_each_shard_to_its_share() {
    let mut limits = shardcast::limits::Limits::default();
    limits.subscribers_per_stream = 4;
    let router = builder(2).limits(limits).start().unwrap();
    let _publisher = publish(&router, "live/a");
    let _other = publish(&router, "live/b");
    let mut there = [(); 2].map(|()| subscribe_on(&router, "live/a", 1));
    // The link of the other shard is one of the first shard's two.
    let _here = subscribe_on(&router, "live/a", 0);
    let events = router.events();

    let options = SubscribeOptions { shard: Some(shardcast::id::ShardId(1)), ..SubscribeOptions::default() };
    assert_eq!(router.subscribe(&key("live/a"), options).unwrap_err(), SUBSCRIBERS);

    assert_eq!(fact(&events, FactKind::PlayRefuse).reason, Some(SUBSCRIBERS));
    let _elsewhere = subscribe_on(&router, "live/b", 1);
    assert!(there[0].try_recv().is_err());
}

#[test]
fn streams_that_somebody_publishes_or_waits_for_are_limited() {
    let mut limits = shardcast::limits::Limits::default();
    limits.streams = 2;
    let app = AppSpec::new("live").absent(Absent::Wait(WAIT));
    let router = builder(1).limits(limits).app(app).start().unwrap();
    let _publisher = publish(&router, "live/a");
    let waiting = subscribe(&router, "live/b");

    assert_eq!(refused(&router, "live/c"), Reason::Limit(Limit::Streams));
    assert_eq!(try_publish(&router, "live/c", 0).unwrap_err(), Reason::Limit(Limit::Streams));
    drop(try_publish(&router, "live/b", 0).expect("somebody waits for it: it counts already"));

    drop(waiting);
    eventually("there is room again", || try_publish(&router, "live/c", 0).is_ok());
}

#[test]
fn a_publisher_over_its_bitrate_is_ended_and_the_record_says_so() {
    let router = limited(|limits| limits.publisher_bitrate = Some(80_000)).start().unwrap();
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    let mut frame = reel.frame('k');
    frame.payload = vec![0; 6_000].into();
    send(&mut publisher, frame.clone());
    send(&mut publisher, frame);

    let reason = Reason::Limit(Limit::PublisherBitrate);
    assert_eq!(ended(&mut publisher), reason);
    assert_eq!(fact(&events, FactKind::RateLimit).reason, Some(reason));
    assert_eq!(fact(&events, FactKind::PublishEnd).reason, Some(reason));
}

#[test]
fn frames_that_nobody_may_send_end_the_publish() {
    let router = limited(|limits| limits.message_bytes = 1000).start().unwrap();
    let mut large = Reel::new().frame('k');
    large.payload = vec![0; 1001].into();
    let mut record = Reel::new().frame('c');
    record.payload = vec![0; 64 * 1024 + 1].into();
    let track = Reel::new().frame('k').on_track(TrackId(16));
    for (frame, limit) in [(large, Limit::MessageBytes), (record, Limit::MessageBytes), (track, Limit::Tracks)] {
        let mut publisher = publish(&router, "live/a");
        send(&mut publisher, frame);
        assert_eq!(ended(&mut publisher), Reason::Limit(limit));
    }
}

#[test]
fn limits_and_applications_can_be_replaced_while_it_runs() {
    let router = limited(|limits| limits.publishers = 1).app(AppSpec::new("live")).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    assert_eq!(try_publish(&router, "live/b", 0).unwrap_err(), Reason::Limit(Limit::Publishers));

    router.configure(Config { apps: vec![AppSpec::new("vod").into()], ..Config::default() });

    let _other = publish(&router, "vod/b");
    assert_eq!(try_publish(&router, "live/b", 0).unwrap_err(), Reason::UnknownApp);
    Reel::new().send(&mut publisher, "kd");
    assert_eq!(take(&mut subscription, 2), ["k0", "d1"], "what is under way goes on");
}

#[test]
fn sinks_need_no_seat_of_a_subscriber() {
    struct Nothing;
    impl shardcast::extension::FrameSink for Nothing {
        fn on_frame(&mut self, _: &shardcast::media::Frame) -> shardcast::extension::SinkVerdict {
            shardcast::extension::SinkVerdict::Taken
        }
    }
    let router = limited(|limits| limits.host_subscribers = 0).start().unwrap();
    let _publisher = publish(&router, "live/a");
    assert_eq!(refused(&router, "live/a"), SUBSCRIBERS);
    router.attach(&key("live/a"), PlayOptions::instant(), Box::new(Nothing)).unwrap();
}
