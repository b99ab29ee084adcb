//! Where a subscriber starts: at the past as it was, at the past made short, at the next keyframe, or behind on purpose.

use std::time::Duration;

use shardcast::Router;
use shardcast::clock::{Clock, Instant};
use shardcast::id::ShardId;
use shardcast::limits::Limit;
use shardcast::media::{Codec, Frame, FrameFlags, Timestamp};
use shardcast::protocol::{PlayOptions, Start};
use shardcast::reason::Reason;
use shardcast::router::{Delivery, SubscribeOptions, Subscription};
use shardcast::stream::{AppSpec, LagPolicy};

use crate::world::*;

const DELAY: Duration = Duration::from_millis(200);

fn starting(router: &Router, start: Option<Start>, shard: u16) -> Result<Subscription, Reason> {
    let play = start.map_or_else(PlayOptions::default, PlayOptions::starting);
    router.subscribe(
        &key("live/a"),
        SubscribeOptions { play, shard: Some(ShardId(shard)), ..SubscribeOptions::default() },
    )
}

fn timed(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let shown = |frame: Frame| format!("{} at {}", letter_and_number(&frame), frame.dts.as_millis());
    (0..count).map(|_| shown(next_frame(subscription))).collect()
}

#[test]
fn one_who_catches_up_gets_the_past_just_before_the_live_edge_and_then_everything_as_it_was() {
    for shard in [0, 1] {
        let router = router(2);
        let mut publisher = publish(&router, "live/a");
        let mut reel = Reel::new();
        reel.send(&mut publisher, "ckadadad");
        taken_in(&router, "live/a", 8);

        let mut joined = starting(&router, Some(Start::CatchUp), shard).unwrap();
        let past = timed(&mut joined, 5);
        reel.send(&mut publisher, "adk");

        // Pictures 80 ms apart are told one millisecond apart; the newest sound is 40 ms older than the newest picture.
        assert_eq!(past, ["c0 at 0", "k1 at 197", "d3 at 198", "d5 at 199", "a6 at 200"], "on shard {shard}");
        assert_eq!(timed(&mut joined, 4), ["d7 at 240", "a8 at 280", "d9 at 320", "k10 at 360"], "on shard {shard}");
    }
}

#[test]
fn where_viewers_start_is_the_applications_word_unless_they_have_their_own() {
    let router = builder(1).app(AppSpec::new("live").start(Start::Live)).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "kd");
    taken_in(&router, "live/a", 2);

    let mut usual = starting(&router, None, 0).unwrap();
    let mut hurried = starting(&router, Some(Start::Instant), 0).unwrap();
    assert_eq!(take(&mut hurried, 2), ["k0", "d1"]);
    reel.send(&mut publisher, "dk");

    assert_eq!(take(&mut usual, 1), ["k3"]);
}

#[test]
fn one_who_wants_the_next_keyframe_gets_no_older_one_on_any_shard() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckd");
    taken_in(&router, "live/a", 3);

    let joined = [0, 1].map(|shard| starting(&router, Some(Start::Live), shard).unwrap());
    reel.send(&mut publisher, "ddkd");

    for (shard, mut live) in joined.into_iter().enumerate() {
        assert_eq!(take(&mut live, 3), ["c0", "k5", "d6"], "on shard {shard}");
    }
}

#[test]
fn one_who_is_to_be_behind_gets_every_frame_when_it_is_so_old() {
    for shard in [0, 1] {
        let clock = Clock::start();
        let app = AppSpec::new("live").delay_max(DELAY);
        let router = builder(2).app(app).start().unwrap();
        let mut publisher = publish(&router, "live/a");
        let mut behind = starting(&router, Some(Start::Behind(DELAY)), shard).unwrap();
        let mut live = starting(&router, None, shard).unwrap();
        let mut reel = Reel::new();
        let mut sent: Vec<Instant> = Vec::new();
        // It has begun before there is another keyframe that it could begin with, however late its shard is.
        for round in [&["k"][..], &["d", "d", "k", "d"]] {
            let before = sent.len();
            for letters in round {
                sent.push(clock.instant());
                reel.send(&mut publisher, letters);
                take(&mut live, 1);
            }
            // Nothing else comes: it is time alone that releases them.
            for (number, sent) in sent.iter().enumerate().skip(before) {
                let frame = next_frame(&mut behind);
                let age = clock.instant().since(*sent);
                assert!(letter_and_number(&frame).ends_with(&number.to_string()));
                assert!(age >= DELAY, "frame {number} came after {age:?}");
            }
        }
        // Also the end: what was published before it is not cut off.
        reel.send(&mut publisher, "d");
        publisher.end();
        assert_eq!(take(&mut behind, 2), ["d5", "ended"]);
    }
}

#[test]
fn one_who_joins_late_to_be_behind_starts_at_the_newest_keyframe_that_is_old_enough_on_any_shard() {
    let app = AppSpec::new("live").delay_max(DELAY);
    let router = builder(2).app(app).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckdckd");
    let clock = Clock::start();
    let since = clock.instant();
    eventually("they are old enough", || clock.instant().since(since) > DELAY);
    reel.send(&mut publisher, "kd");
    taken_in(&router, "live/a", 8);

    let joined = [0, 1].map(|shard| starting(&router, Some(Start::Behind(DELAY)), shard).unwrap());
    for (shard, mut behind) in joined.into_iter().enumerate() {
        assert_eq!(take(&mut behind, 5), ["c3", "k4", "d5", "k6", "d7"], "on shard {shard}");
    }
}

#[test]
fn nobody_can_be_farther_behind_than_what_is_kept() {
    let app = AppSpec::new("live").delay_max(DELAY);
    let router = builder(1).app(app).start().unwrap();
    let _publisher = publish(&router, "live/a");

    let refused = starting(&router, Some(Start::Behind(DELAY * 2)), 0).unwrap_err();
    assert_eq!(refused, Reason::Limit(Limit::Delay));
    starting(&router, Some(Start::Behind(DELAY)), 0).unwrap();

    let plain = self::router(1);
    let _publisher = publish(&plain, "live/a");
    let refused = starting(&plain, Some(Start::Behind(Duration::from_millis(1))), 0).unwrap_err();
    assert_eq!(refused, Reason::Limit(Limit::Delay), "nothing is kept for that unless somebody says so");
}

#[test]
fn one_who_is_late_is_first_spared_what_no_other_frame_needs_and_told_so() {
    // Its ring of 8 is full at once; more than half of its budget of bytes is behind that.
    let lag = LagPolicy { max_age: Duration::from_secs(600), max_bytes: 1_000, ..LagPolicy::default() };
    let router = builder(1).app(AppSpec::new("live").lag(lag)).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    let options = SubscribeOptions { ring_slots: 8, ..SubscribeOptions::default() };
    let mut slow = router.subscribe(&key("live/a"), options).unwrap();
    let mut quick = subscribe(&router, "live/a");
    for number in 0..40i64 {
        let time = Timestamp::from_millis(number * 40);
        let letter = if number == 0 { 'k' } else { 'd' };
        let payload = format!("{letter}{number:019}").into();
        let mut frame = Frame::video(Codec::H264, number == 0, time, time, payload);
        if number % 2 == 1 {
            frame.flags = FrameFlags::DISPOSABLE;
        }
        send(&mut publisher, frame);
        if number == 0 {
            // From the live edge on it can be late.
            assert_eq!(take(&mut slow, 1), ["k0000000000000000000"]);
        }
    }
    let all = take(&mut quick, 40);
    publisher.end();

    let (mut got, mut told) = (vec![all[0].clone()], 0);
    loop {
        match next(&mut slow) {
            Delivery::Gap(frames) => told += frames,
            Delivery::Frame(frame) => got.push(letter_and_number(&frame)),
            Delivery::End(_) => break,
        }
    }

    let needed: Vec<&String> = all.iter().step_by(2).collect();
    assert!(needed.iter().all(|frame| got.contains(frame)), "{got:?}");
    assert!(told > 0 && got.len() + usize::try_from(told).unwrap() == 40, "{told} told, {} came", got.len());
    assert_eq!(slow.skipped(), told);
}

/// What a player without sound shows: the first picture when it comes, and every other so much later as it is to be shown
/// later.
struct Screen {
    joined: Instant,
    /// When the first picture came, and its presentation time in ms.
    first: Option<(Instant, i64)>,
    /// When the picture on it was the newest one for the first time.
    newest: Option<Instant>,
    /// The presentation times that came, as the stream has them, beside those that they came with.
    pictures: Vec<(i64, i64)>,
}

impl Screen {
    fn take(&mut self, now: Instant, frame: &Frame) {
        let number: i64 = letter_and_number(frame)[1..].parse().expect("a number");
        self.first.get_or_insert((now, frame.pts.as_millis()));
        self.pictures.push((number * PICTURE_MS, frame.pts.as_millis()));
    }

    /// How far the picture that is on it now is behind the newest that was published, in ms.
    fn behind(&self, now: Instant, published: i64) -> Option<i64> {
        let (since, first) = self.first?;
        let due = first + i64::try_from(now.since(since).as_millis()).expect("a few seconds");
        let shown = self.pictures.iter().filter(|(_, told)| *told <= due).map(|(is, _)| *is).max()?;
        Some(published - shown)
    }
}

const PICTURE_MS: i64 = 40;
const GOP: i64 = 75;

#[test]
fn the_newest_picture_is_on_a_screen_as_soon_as_each_start_says() {
    let clock = Clock::start();
    let behind = Duration::from_secs(1);
    let router = builder(1).app(AppSpec::new("live").delay_max(behind)).start().unwrap();
    let mut publisher = publish(&router, "live/a");
    let began = clock.instant();
    let starts = [
        ("instant", Start::Instant),
        ("catch-up", Start::CatchUp),
        ("live", Start::Live),
        ("behind 1s", Start::Behind(behind)),
    ];
    let mut players: Vec<(Subscription, Screen)> = Vec::new();
    let mut lags = [0; 4];
    // They join when the keyframe is two seconds old; the next one comes a second later.
    for number in 0..GOP + 50 {
        let due = began + Duration::from_millis(u64::try_from(number * PICTURE_MS).expect("positive"));
        while clock.instant() < due {
            let now = clock.instant();
            for (at, (subscription, screen)) in players.iter_mut().enumerate() {
                while let Ok(delivery) = subscription.try_recv() {
                    let Delivery::Frame(frame) = delivery else { panic!("{}: {delivery:?}", starts[at].0) };
                    screen.take(clock.instant(), &frame);
                }
                let Some(lag) = screen.behind(now, (number - 1) * PICTURE_MS) else { continue };
                lags[at] = lag;
                if lag <= PICTURE_MS {
                    screen.newest.get_or_insert(now);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let time = Timestamp::from_millis(number * PICTURE_MS);
        let letter = if number % GOP == 0 { 'k' } else { 'd' };
        send(
            &mut publisher,
            Frame::video(Codec::H264, letter == 'k', time, time, format!("{letter}{number}").into()),
        );
        if number == 50 {
            taken_in(&router, "live/a", 51);
            for (_, start) in starts {
                let joined = clock.instant();
                let subscription = starting(&router, Some(start), 0).unwrap();
                players.push((subscription, Screen { joined, first: None, newest: None, pictures: Vec::new() }));
            }
        }
    }

    println!("| start | first picture after | newest picture after | behind it three seconds after joining |");
    println!("|---|---|---|---|");
    let mut newest = [None; 4];
    for (at, (_, screen)) in players.iter().enumerate() {
        let after = |when: Instant| when.since(screen.joined).as_millis();
        let first = screen.first.map(|(when, _)| after(when)).expect("everybody saw something");
        newest[at] = screen.newest.map(after);
        let never = newest[at].map_or_else(|| "never".into(), |ms| format!("{ms} ms"));
        println!("| {} | {first} ms | {never} | {} ms |", starts[at].0, lags[at]);
    }
    assert_eq!(newest[0], None, "as published, a player stays where it began");
    assert!(lags[0] >= 1_900 && lags[3] >= 1_000, "{lags:?}");
    assert!(newest[1].is_some_and(|ms| ms < 700), "{newest:?}");
    assert!(newest[2].is_some_and(|ms| (700..1_700).contains(&ms)), "{newest:?}");
    assert_eq!(newest[3], None);
}
