//! A steady stream: 30 pictures and 43 sounds per second, a keyframe each second, 2.5 Mb/s.

use std::time::Duration;

use bytes::Bytes;
use shardcast::clock::Now;
use shardcast::extension::{FrameSource, SourcePoll};
use shardcast::media::{Codec, Frame, Timestamp};

use crate::rtmp;
use crate::world::World;

/// Long enough that the log, and all that grows with it, has its full size.
const WARM_UP: u64 = 1_000;
const MEASURED: u64 = 1_000;

/// Players' requests are read into the same arena as the publisher's frames, so its next one may be due in the
/// measured part of one run and before that of the other.
const ONE_ARENA: u64 = 3;

/// What comes next, and how many ms after what came before.
#[derive(Default)]
struct Beat {
    pictures: u64,
    sounds: u64,
    at: u64,
}

enum Kind {
    Key,
    Delta,
    Audio,
}

impl Beat {
    fn next(&mut self) -> (Kind, u64) {
        let (picture, sound) = (self.pictures * 1000 / 30, self.sounds * 1000 / 43);
        let (at, kind) = if picture <= sound {
            self.pictures += 1;
            (picture, if self.pictures % 30 == 1 { Kind::Key } else { Kind::Delta })
        } else {
            self.sounds += 1;
            (sound, Kind::Audio)
        };
        let passed = at - self.at;
        self.at = at;
        (kind, passed)
    }
}

/// Frames whose payloads nobody allocates.
struct Still {
    beat: Beat,
    next: Option<(Kind, Now)>,
}

impl FrameSource for Still {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let at = self.beat.at;
        let (kind, due) = self.next.take().unwrap_or_else(|| {
            let (kind, passed) = self.beat.next();
            (kind, Now { mono: now.mono + Duration::from_millis(passed), ..now })
        });
        if due.mono > now.mono {
            self.next = Some((kind, due));
            return SourcePoll::NotBefore(due.mono);
        }
        let time = Timestamp::from_millis(at.cast_signed());
        SourcePoll::Frame(match kind {
            Kind::Key => Frame::video(Codec::H264, true, time, time, Bytes::from_static(&[0; 60_000])),
            Kind::Delta => Frame::video(Codec::H264, false, time, time, Bytes::from_static(&[0; 8_000])),
            Kind::Audio => Frame::audio(Codec::Aac, time, Bytes::from_static(&[0; 370])),
        })
    }
}

fn pass_until(world: &mut World, frames: u64) {
    while world.shard.counters().frames_in < frames {
        world.pass(Duration::from_millis(5));
    }
}

#[test]
fn a_delivery_to_a_sink_allocates_nothing() {
    let mut world = World::new();
    world.run("live/a", Box::new(Still { beat: Beat::default(), next: None }));
    for _ in 0..200 {
        world.attach("live/a");
    }
    pass_until(&mut world, WARM_UP);
    let before = (world.allocations, world.shard.counters().clone());

    pass_until(&mut world, WARM_UP + MEASURED);

    let counters = world.shard.counters();
    let deliveries = counters.deliveries - before.1.deliveries;
    assert_eq!(deliveries, (counters.frames_in - before.1.frames_in) * 200);
    assert_eq!(world.allocations - before.0, 0, "in {deliveries} deliveries");
}

struct Relay {
    allocations: u64,
    deliveries: u64,
    sends: u64,
    frames: u64,
}

/// An RTMP publisher whose bytes come in pieces of this size, and so many RTMP players.
fn relay(piece: usize, players: usize) -> Relay {
    let mut world = World::new();
    let (mut writer, request) = rtmp::request("publish", "a");
    let publisher = world.connect(request);
    world.send(publisher, rtmp::headers(&mut writer));
    let mut beat = Beat::default();
    let mut send = |world: &mut World, frames: u64| {
        for _ in 0..frames {
            let (kind, passed) = beat.next();
            let ms = u32::try_from(beat.at).unwrap();
            let bytes = match kind {
                Kind::Key => rtmp::video(&mut writer, true, ms, 60_000),
                Kind::Delta => rtmp::video(&mut writer, false, ms, 8_000),
                Kind::Audio => rtmp::audio(&mut writer, ms, 370),
            };
            world.pass(Duration::from_millis(passed));
            for at in (0..bytes.len()).step_by(piece) {
                world.send(publisher, bytes.slice(at..bytes.len().min(at + piece)));
            }
        }
    };
    send(&mut world, 2);
    let players: Vec<usize> = (0..players).map(|_| world.connect(rtmp::request("play", "a").1)).collect();
    send(&mut world, WARM_UP);
    let before = (world.allocations, world.shard.counters().clone());

    send(&mut world, MEASURED);

    assert!(players.iter().all(|player| world.received(*player) > 1_000_000), "all play");
    let counters = world.shard.counters();
    Relay {
        allocations: world.allocations - before.0,
        deliveries: counters.deliveries - before.1.deliveries,
        sends: counters.sends - before.1.sends,
        frames: counters.frames_in - before.1.frames_in,
    }
}

#[test]
fn a_delivery_to_an_rtmp_player_allocates_nothing_and_a_frame_that_comes_in_at_most_once() {
    // Whole messages, what a segment carries on the internet, and what loopback carries.
    for piece in [usize::MAX / 2, 1_448, 65_483] {
        let alone = relay(piece, 0);
        let watched = relay(piece, 200);

        assert_eq!((alone.frames, watched.frames), (MEASURED, MEASURED));
        assert!(watched.deliveries >= 195 * MEASURED && watched.sends > 0, "{}", watched.deliveries);
        eprintln!(
            "in pieces of {piece}: {} allocations for {MEASURED} frames of an RTMP publisher, {} with {} deliveries",
            alone.allocations, watched.allocations, watched.deliveries
        );
        let more = watched.allocations.saturating_sub(alone.allocations);
        assert!(more <= ONE_ARENA, "{more} more in {} deliveries", watched.deliveries);
        assert!(watched.allocations <= MEASURED, "{} for {MEASURED} frames", watched.allocations);
    }
}
