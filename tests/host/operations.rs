//! What an operator sees: lists, figures, events, health.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardcast::clock::{Instant, Now};
use shardcast::extension::{CapacityCheck, Credentials, Health};
use shardcast::fact::FactKind;
use shardcast::id::ShardId;
use shardcast::media::{Codec, Frame, Media, Timestamp, TrackId};
use shardcast::protocol::{
    Description, Input, Output, Packet, Packetizer, Protocol, PublishRequest, Session, SessionContext,
};
use shardcast::reason::Reason;
use shardcast::stream::Stages;

use crate::world::*;

#[test]
fn live_streams_are_listed_by_name_with_their_homes() {
    let router = router(2);
    let _publishers =
        [("live/b", 1), ("live/a", 0), ("vod/c", 1)].map(|(name, shard)| publish_on(&router, name, shard));
    let _subscription = subscribe_on(&router, "live/b", 0);

    let listed: Vec<_> = router.streams().into_iter().map(|one| (one.key.to_string(), one.home.0)).collect();

    assert_eq!(listed, [("live/a".into(), 0), ("live/b".into(), 1), ("vod/c".into(), 1)]);
}

#[test]
fn an_inspected_stream_tells_its_rates_its_gop_and_its_tracks() {
    let router = router(2);
    let mut publisher = publish_on(&router, "live/a", 1);
    let _subscriptions = [0, 1].map(|shard| subscribe_on(&router, "live/a", shard));
    let time = Timestamp::from_millis;
    send(&mut publisher, Frame::config(Codec::H265, time(0), b"hvcC".as_slice().into()));
    send(&mut publisher, Frame::config(Codec::Opus, time(0), b"OpusHead".as_slice().into()));
    // 25 frames per second of 1,000 bytes, a keyframe every 25, until a whole second has been measured.
    let mut number: i64 = 0;
    eventually("rates are measured", || {
        let key = number % 25 == 0;
        send(
            &mut publisher,
            Frame::video(Codec::H265, key, time(number * 40), time(number * 40), vec![0; 1000].into()),
        );
        send(&mut publisher, Frame::audio(Codec::Opus, time(number * 40), vec![0; 100].into()));
        number += 1;
        router.inspect(&key_of_a()).is_some_and(|info| info.frame_rate > 0 && info.gop.is_some())
    });

    let info = router.inspect(&key_of_a()).unwrap();
    assert_eq!((info.key, info.home, info.connection), (key_of_a(), ShardId(1), publisher.connection()));
    assert_eq!((info.protocol, info.peer, info.principal), ("host", None, None));
    assert_eq!(info.gop, Some((25, time(1000))));
    let ratio = info.video_bitrate / info.frame_rate;
    assert!((7_900..=8_400).contains(&ratio), "{ratio} bits per frame");
    assert!(info.audio_bitrate * 9 < info.video_bitrate && info.audio_bitrate * 11 > info.video_bitrate);
    let frames = u64::try_from(number).unwrap() * 2 + 2;
    assert!(info.frames == frames || info.frames + 2 >= frames, "{} of {frames}", info.frames);
    assert_eq!(info.subscribers, 2, "one here, and the link of the other shard");
    assert!(info.log.0 > 0 && info.log.1 > 1000);
    let tracks: Vec<_> = info.tracks.iter().map(|track| (track.id, track.codec, &*track.config)).collect();
    assert_eq!(
        tracks,
        [(TrackId::VIDEO, Codec::H265, b"hvcC".as_slice()), (TrackId::AUDIO, Codec::Opus, b"OpusHead".as_slice())]
    );
    assert_eq!(info.tracks[0].codec.media(), Media::Video);

    // Nothing comes any more.
    eventually("rates fall to zero", || {
        let info = router.inspect(&key_of_a()).unwrap();
        (info.video_bitrate, info.audio_bitrate, info.frame_rate) == (0, 0, 0)
    });
    assert_eq!(router.inspect(&key("live/none")).map(|info| info.frames), None);
}

#[test]
fn viewers_and_ages_of_a_stream_are_told_for_all_shards_together() {
    let router = builder(2).sample_every(1).start().unwrap();
    let mut publisher = publish_on(&router, "live/a", 0);
    let _other = publish_on(&router, "live/b", 1);
    let mut reel = Reel::new();
    reel.send(&mut publisher, "k");
    taken_in(&router, "live/a", 1);
    let mut subscriptions = [0, 1, 1].map(|shard| subscribe_on(&router, "live/a", shard));
    subscriptions.iter_mut().for_each(|subscription| assert_eq!(take(subscription, 1), ["k0"]));
    drop(router.survey());

    reel.send(&mut publisher, "ddd");
    subscriptions.iter_mut().for_each(|subscription| drop(take(subscription, 3)));

    let mut stages = Stages::default();
    eventually("all stages are told", || {
        let all = router.survey();
        let told = all.iter().map(|info| (info.key.to_string(), info.home.0, info.audience.viewers));
        assert_eq!(told.collect::<Vec<_>>(), [("live/a".into(), 0, 3), ("live/b".into(), 1, 0)]);
        stages.merge(&all[0].audience.stages);
        (stages.append.count(), stages.relay.count(), stages.age.count()) == (3, 3, 9)
    });
    assert!(stages.first.count() == 6 && stages.age.max() >= stages.first.max(), "{stages:?}");
    assert!(stages.age.max() < WAIT, "{stages:?}");
    let again = router.inspect(&key_of_a()).unwrap().audience;
    assert_eq!((again.viewers, again.stages.age.count()), (3, 0), "the times were taken");
}

fn key_of_a() -> shardcast::id::StreamKey {
    key("live/a")
}

/// A protocol whose peers publish by being there, and say what they send.
struct Beacon;

struct BeaconSession(Vec<Output>);

impl Protocol for Beacon {
    fn name(&self) -> &'static str {
        "beacon"
    }

    fn session(&self, _: SessionContext<'_>) -> Box<dyn Session> {
        let request = PublishRequest { handle: 1, key: key("live/beacon"), credentials: Credentials::default() };
        Box::new(BeaconSession(vec![Output::Publish(Box::new(request)), Output::Established]))
    }

    fn packetizer(&self, _: u32) -> Box<dyn Packetizer> {
        struct Nothing;
        impl Packetizer for Nothing {
            fn packetize(&mut self, _: &Frame) -> Option<Packet> {
                None
            }
        }
        Box::new(Nothing)
    }
}

impl Session for BeaconSession {
    fn handle(&mut self, _: Now, input: Input) -> Result<(), Reason> {
        if let Input::Published(1, Ok(())) = input {
            let mut description = Description::default();
            description.size = Some((1920, 1080));
            description.encoder = Some("a beacon".into());
            self.0.push(Output::Describe(1, Box::new(description)));
            let config = Frame::config(Codec::H264, Timestamp::ZERO, b"avcC".as_slice().into());
            self.0.push(Output::Frame(1, config));
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.0.pop()
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        None
    }
}

#[test]
fn what_a_peer_says_of_its_stream_and_where_it_comes_from_is_told() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let router = builder(1).listen(loopback, Arc::new(Beacon)).start().unwrap();
    let events = router.events();
    let mut peer = TcpStream::connect(router.listeners()[0].1).unwrap();
    peer.write_all(b"hello").unwrap();
    taken_in(&router, "live/beacon", 1);

    let info = router.inspect(&key("live/beacon")).unwrap();

    let here = peer.local_addr().unwrap();
    assert_eq!((info.protocol, info.peer), ("beacon", Some(here)));
    assert_eq!((info.description.size, info.description.encoder.as_deref()), (Some((1920, 1080)), Some("a beacon")));
    assert_eq!(info.tracks[0].size, Some((1920, 1080)));
    let start = fact(&events, FactKind::PublishStart);
    let who = start.who.unwrap();
    assert_eq!((who.peer, who.protocol, who.connection), (Some(here), "beacon", info.connection));

    // The connection is kicked by its number, like everything that has one.
    assert!(router.kick(info.connection));
    assert_eq!(fact(&events, FactKind::ConnectionClose).reason, Some(Reason::Kicked));
    assert!(router.streams().is_empty());
}

#[test]
fn a_receiver_of_events_that_is_too_slow_is_told_how_many_it_missed() {
    let router = limited(|limits| limits.events = 4).start().unwrap();
    let slow = router.events();
    for n in 0..10 {
        drop(publish(&router, &format!("live/{n}")));
    }
    eventually("all ends are told", || router.streams().is_empty());

    let mut told = 0;
    let last = router.events();
    drop(publish(&router, "live/last"));
    assert_eq!(fact(&last, FactKind::PublishEnd).stream, Some(key("live/last")));
    while slow.try_recv().is_some() {
        told += 1;
    }

    assert_eq!((told, slow.take_missed()), (4, 22 - 4));
    assert_eq!(slow.take_missed(), 0);
}

#[test]
fn receivers_of_events_come_and_go() {
    let router = router(1);
    drop(router.events());
    let one = router.events();
    let _publisher = publish(&router, "live/a");
    let start = fact(&one, FactKind::PublishStart);
    assert_eq!((start.stream, start.shard), (Some(key("live/a")), ShardId(0)));
    let two = router.events();
    assert!(two.try_recv().is_none(), "from now on");
}

#[test]
fn health_is_the_worst_of_the_router_s_own_and_the_host_s_checks() {
    let used = Arc::new(AtomicU64::new(0));
    let look = Arc::clone(&used);
    let check = CapacityCheck::new("disk", 100, move || look.load(Ordering::Relaxed));
    let router = builder(1).health_check(Arc::new(check)).start().unwrap();
    for (value, expected) in [
        (0, Health::Healthy),
        (95, Health::Degraded("disk: 95 of 100 in use".into())),
        (100, Health::Unhealthy("disk: 100 of 100 in use".into())),
    ] {
        used.store(value, Ordering::Relaxed);
        assert_eq!(router.health(), expected);
    }
}

#[test]
fn every_shard_tells_its_counters_as_plain_values() {
    let router = router(2);
    let mut publisher = publish_on(&router, "live/a", 0);
    let mut there = subscribe_on(&router, "live/a", 1);
    Reel::new().send(&mut publisher, "ckdd");
    assert_eq!(take(&mut there, 4).len(), 4);

    let stats = router.stats();

    let shards: Vec<u16> = stats.iter().map(|shard| shard.shard.0).collect();
    assert_eq!(shards, [0, 1]);
    let [home, replica] = [&stats[0], &stats[1]];
    assert_eq!((home.counters.frames_in, home.counters.relays, home.homes, home.replicas), (4, 4, 1, 0));
    assert_eq!((replica.counters.frames_relayed, replica.counters.deliveries), (4, 4));
    assert_eq!((replica.homes, replica.replicas, replica.subscribers), (0, 1, 1));
    assert!(home.counters.turns > 0 && home.log_bytes > 0 && !home.turn_ns.is_empty());
    assert_eq!(router.shards().len(), 2);
}
