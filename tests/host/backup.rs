//! Several publishers of one name: who stands by, when the stream goes on with it, and that viewers only see pictures.

use std::time::Duration;

use shardcast::Router;
use shardcast::fact::FactKind;
use shardcast::id::{ConnectionId, ShardId};
use shardcast::media::FrameFlags;
use shardcast::reason::Reason;
use shardcast::router::{Delivery, PublishOptions, Publisher, Subscription};
use shardcast::shard::PublisherEvent;
use shardcast::stream::{AppSpec, Conflict, Filler};

use crate::world::*;

fn backup_app() -> AppSpec {
    // Nothing happens by time unless a test says so.
    AppSpec::new("live").conflict(Conflict::Backup).stall_after(WAIT).return_after(None)
}

fn with(shards: usize, app: AppSpec) -> Router {
    builder(shards).app(app).start().unwrap()
}

/// A publisher that stands by, and has sent these letters.
fn standby(router: &Router, shard: u16, reel: &mut Reel, letters: &str) -> Publisher {
    let mut publisher = publish_on(router, "live/a", shard);
    let kept = |router: &Router| router.stats().iter().map(|shard| shard.counters.frames_standby).sum::<u64>();
    let before = kept(router);
    reel.send(&mut publisher, letters);
    eventually("all of it is kept", || kept(router) == before + letters.len() as u64);
    if letters.contains('k') {
        ready(router, publisher.connection());
    }
    publisher
}

fn ready(router: &Router, connection: ConnectionId) {
    eventually("it could lead", || {
        router.publishers(&key("live/a")).1.iter().any(|seat| seat.connection == connection && seat.ready)
    });
}

fn leads(router: &Router, publisher: &Publisher) {
    eventually("it leads", || {
        router.publishers(&key("live/a")).0.is_some_and(|seat| seat.connection == publisher.connection())
    });
}

/// What comes up to a frame; times only rise, and what begins after a switch is a keyframe that is marked.
fn until(subscription: &mut Subscription, wanted: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut last = i64::MIN;
    loop {
        let delivery = next(subscription);
        if let Delivery::Frame(frame) = &delivery {
            assert!(frame.dts.0 >= last, "{delivery:?} after {seen:?}");
            last = frame.dts.0;
        }
        assert!(!matches!(delivery, Delivery::End(_)), "{delivery:?} after {seen:?}");
        seen.push(show(&delivery));
        if seen.last().is_some_and(|text| text == wanted) {
            return seen;
        }
    }
}

/// A primary on shard 0 that has sent `c0 k1 d2`, and viewers here and on the last shard who have seen that.
fn watched_primary(router: &Router) -> (Publisher, Reel, Vec<Subscription>) {
    let mut primary = publish_on(router, "live/a", 0);
    let mut reel = Reel::starting_at(70_000);
    reel.send(&mut primary, "ckd");
    taken_in(router, "live/a", 3);
    let last = router.shards().len() - 1;
    let shards = [0, u16::try_from(last).unwrap()];
    let mut viewers: Vec<_> = shards.map(|shard| subscribe_on(router, "live/a", shard)).into();
    for viewer in &mut viewers {
        assert_eq!(take(viewer, 3), ["c0", "k1", "d2"]);
    }
    (primary, reel, viewers)
}

#[test]
fn when_the_primary_ends_viewers_go_on_with_the_newest_gop_of_the_backup() {
    for shard in [0, 1] {
        let router = with(2, backup_app());
        let events = router.events();
        let (primary, _, mut viewers) = watched_primary(&router);
        let mut reel = Reel { sent: 100, ..Reel::new() };
        let mut backup = standby(&router, shard, &mut reel, "ckddkda");

        primary.end();
        leads(&router, &backup);
        reel.send(&mut backup, "d");

        let switch = fact(&events, FactKind::Switch);
        assert_eq!(switch.reason, Some(Reason::Ended));
        assert_eq!(switch.who.unwrap().connection, backup.connection());
        for viewer in &mut viewers {
            let config = next_frame(viewer);
            assert_eq!(letter_and_number(&config), "c100");
            let keyframe = next_frame(viewer);
            assert!(keyframe.flags.contains(FrameFlags::DISCONTINUITY) && keyframe.dts.as_millis() > 70_040);
            assert_eq!(letter_and_number(&keyframe), "k104");
            assert_eq!(until(viewer, "d107"), ["d105", "a106", "d107"]);
        }
        assert_eq!(router.streams()[0].home, ShardId(shard));
    }
}

#[test]
fn a_primary_that_sends_nothing_is_passed_over_and_may_come_back_behind() {
    for shard in [0, 1] {
        let router = with(2, backup_app().stall_after(Duration::from_millis(150)));
        let events = router.events();
        let (mut primary, mut old, mut viewers) = watched_primary(&router);
        let mut reel = Reel { sent: 100, ..Reel::new() };
        let mut backup = publish_on(&router, "live/a", shard);
        reel.send(&mut backup, "c");
        // The backup goes on sending; nobody else does.
        let mut sent = 0;
        eventually("the backup leads", || {
            reel.send(&mut backup, if sent % 5 == 0 { "k" } else { "d" });
            sent += 1;
            std::thread::park_timeout(Duration::from_millis(10));
            router.publishers(&key("live/a")).0.is_some_and(|seat| seat.connection == backup.connection())
        });
        reel.send(&mut backup, "k");

        let stall = fact(&events, FactKind::Stall);
        assert_eq!(stall.who.unwrap().connection, primary.connection());
        assert_eq!(fact(&events, FactKind::Switch).reason, Some(Reason::Stalled));
        let last = format!("k{}", reel.sent - 1);
        for viewer in &mut viewers {
            let seen = until(viewer, &last);
            let first = seen.iter().position(|text| text.starts_with('k')).unwrap();
            assert!(seen[..first].iter().all(|text| text == "c100" || text.starts_with('+')), "{seen:?}");
        }
        // It was never told to go away, and is taken in again.
        assert_eq!(primary.event(), None);
        old.send(&mut primary, "kd");
        ready(&router, primary.connection());
    }
}

#[test]
fn by_command_the_stream_goes_on_at_the_next_keyframe_of_the_other_and_nothing_is_lost_before() {
    let router = with(2, backup_app());
    let (mut primary, mut old, mut viewers) = watched_primary(&router);
    let mut reel = Reel { sent: 100, ..Reel::new() };
    let mut backup = standby(&router, 0, &mut reel, "ckd");
    assert_eq!(router.switch_publisher(&key("live/b"), None), Err(Reason::NotFound));

    assert_eq!(router.switch_publisher(&key("live/a"), None), Ok(backup.connection()));
    // One that can be asked is asked for a keyframe.
    assert_eq!(backup.event_timeout(WAIT), Some(PublisherEvent::KeyframeWanted));
    reel.send(&mut backup, "d");
    old.send(&mut primary, "d");
    taken_in(&router, "live/a", 4);
    for viewer in &mut viewers {
        assert_eq!(take(viewer, 1), ["d3"], "the primary leads until then");
    }
    reel.send(&mut backup, "kd");

    for viewer in &mut viewers {
        assert_eq!(until(viewer, "d105"), ["c100", "k104", "d105"]);
    }
    // And back, where the former primary needs a keyframe of its own.
    assert_eq!(router.switch_publisher(&key("live/a"), Some(primary.connection())), Err(Reason::Stalled));
    old.send(&mut primary, "dk");
    ready(&router, primary.connection());
    router.switch_publisher(&key("live/a"), Some(primary.connection())).unwrap();
    old.send(&mut primary, "dkd");
    for viewer in &mut viewers {
        assert_eq!(until(viewer, "d8"), ["c0", "k7", "d8"], "its configuration was sent once, and is given again");
    }
}

#[test]
fn a_primary_that_is_back_leads_again_when_it_has_proved_steady() {
    let router = with(2, backup_app().return_after(Some(Duration::from_millis(100))));
    let events = router.events();
    let (primary, _, mut viewers) = watched_primary(&router);
    let mut reel = Reel { sent: 100, ..Reel::new() };
    let mut backup = standby(&router, 1, &mut reel, "ck");
    primary.end();
    leads(&router, &backup);
    for viewer in &mut viewers {
        assert_eq!(until(viewer, "k101"), ["c100", "k101"]);
    }

    let mut fresh = Reel { sent: 200, ..Reel::new() };
    let mut returned = standby(&router, 0, &mut fresh, "ck");
    eventually("it leads again", || {
        fresh.send(&mut returned, "k");
        reel.send(&mut backup, "d");
        std::thread::park_timeout(Duration::from_millis(10));
        router.publishers(&key("live/a")).0.is_some_and(|seat| seat.connection == returned.connection())
    });

    while fact(&events, FactKind::Switch).reason != Some(Reason::Returned) {}
    fresh.send(&mut returned, "d");
    let last = format!("d{}", fresh.sent - 1);
    for viewer in &mut viewers {
        let seen = until(viewer, &last);
        assert!(!seen.iter().any(|text| text.starts_with('+')), "both sent without a hole: {seen:?}");
    }
}

#[test]
fn who_calls_itself_a_backup_gives_way_although_it_came_first() {
    let router = with(1, backup_app().return_after(Some(Duration::ZERO)).stall_after(Duration::from_millis(100)));
    let options = PublishOptions { backup: true, ..PublishOptions::default() };
    let mut first = router.publish(&key("live/a"), options).unwrap();
    let mut reel = Reel::new();
    reel.send(&mut first, "ck");

    let mut primary = publish(&router, "live/a");
    let mut fresh = Reel { sent: 100, ..Reel::new() };
    eventually("the primary leads", || {
        reel.send(&mut first, "d");
        fresh.send(&mut primary, "k");
        std::thread::park_timeout(Duration::from_millis(5));
        router.publishers(&key("live/a")).0.is_some_and(|seat| seat.connection == primary.connection())
    });
}

#[test]
fn seats_are_few_and_who_leaves_one_gives_it_back() {
    let router = with(2, backup_app());
    let _primary = publish_on(&router, "live/a", 0);
    let mut backups: Vec<_> = (0..3).map(|n| publish_on(&router, "live/a", n % 2)).collect();
    let refused = try_publish(&router, "live/a", 1).unwrap_err();
    assert_eq!(refused.detail(), Some("standbys"), "{refused}");

    backups.pop().unwrap().end();

    eventually("a seat is free", || try_publish(&router, "live/a", 1).is_ok());
}

#[test]
fn a_backup_that_ends_or_is_kicked_is_told_of_and_harms_nobody() {
    let router = with(2, backup_app());
    let events = router.events();
    let (mut primary, mut old, mut viewers) = watched_primary(&router);
    let mut backup = standby(&router, 1, &mut Reel { sent: 100, ..Reel::new() }, "ck");
    assert!(router.kick(backup.connection()));
    assert_eq!(ended(&mut backup), Reason::Kicked);
    assert_eq!(fact(&events, FactKind::StandbyEnd).reason, Some(Reason::Kicked));
    old.send(&mut primary, "d");
    for viewer in &mut viewers {
        assert_eq!(take(viewer, 1), ["d3"]);
    }
    primary.end();
    for viewer in &mut viewers {
        assert_eq!(take_all(viewer), ["ended"]);
    }
}

#[test]
fn a_backup_leads_when_the_shard_of_the_primary_is_lost() {
    let router = with(2, backup_app());
    let (_primary, _, mut viewers) = watched_primary(&router);
    let mut reel = Reel { sent: 100, ..Reel::new() };
    let mut backup = standby(&router, 1, &mut reel, "ckd");

    router.fail_shard(ShardId(0));

    leads(&router, &backup);
    reel.send(&mut backup, "d");
    assert_eq!(until(&mut viewers[1], "d103"), ["c100", "k101", "d102", "d103"]);
}

#[test]
fn a_filler_is_shown_until_the_publisher_is_back_and_no_longer_than_the_grace() {
    for shard in [0, 1] {
        let mut slate = Reel { sent: 500, ..Reel::starting_at(9_000) };
        let frames = "ckdd".chars().map(|letter| slate.frame(letter)).collect();
        let filler = Filler::new(frames).unwrap();
        let app = AppSpec::new("live").republish_grace(Duration::from_millis(900)).filler(filler);
        let router = with(2, app);
        let (primary, _, mut viewers) = watched_primary(&router);

        primary.end();

        for viewer in &mut viewers {
            // Again and again, in real time; the configuration with each round.
            let seen = until(viewer, "c500");
            assert!(seen.is_empty() || seen == ["c500"], "{seen:?}");
            assert_eq!(until(viewer, "c500"), ["k501", "d502", "d503", "c500"]);
        }
        let mut reel = Reel { sent: 100, ..Reel::new() };
        let mut back = standby(&router, shard, &mut reel, "c");
        reel.send(&mut back, "kd");
        for viewer in &mut viewers {
            let seen = until(viewer, "d102");
            assert_eq!(seen[seen.len() - 3..], ["c100", "k101", "d102"], "{seen:?}");
        }
        // It makes room for good, and is shown again until the grace is over.
        back.end();
        for viewer in &mut viewers {
            let seen = take_all(viewer);
            assert!(seen.len() > 8 && seen[1] == "k501" && seen.last().unwrap() == "ended", "{seen:?}");
        }
    }
}

#[test]
fn viewers_of_the_host_may_want_a_keyframe_too() {
    let router = router(2);
    let mut publisher = publish_on(&router, "live/a", 0);
    Reel::new().send(&mut publisher, "ck");
    taken_in(&router, "live/a", 2);
    let viewer = subscribe_on(&router, "live/a", 1);
    eventually("it is linked", || router.inspect(&key("live/a")).is_some_and(|info| info.subscribers > 0));
    assert_eq!(publisher.event(), None);
    viewer.want_keyframe();
    assert_eq!(publisher.event_timeout(WAIT), Some(PublisherEvent::KeyframeWanted));
    assert_eq!(router.stats()[0].counters.keyframes_asked, 1);
}
