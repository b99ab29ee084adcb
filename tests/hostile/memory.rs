//! Rows 9, 10 and 22 to 24: what a peer declares costs nothing, what it sends is bounded.

use std::time::Duration;

use shardcast::limits::Limit;
use shardcast::reason::Reason;

use super::heap;
use super::peer::{self, chunk, control, long_message, video_tag};
use super::rows::Expect::Served;
use super::rows::Stage::{Connected, Publishing};
use super::rows::{Row, limited, malformed, row, run};
use super::world::{HERE, SOON, Setup, World, wait_for};

const MIB: usize = 1 << 20;

fn alone() -> World {
    World::with(Setup { alone: true, ..Setup::default() })
}

#[test]
fn what_is_declared_is_not_allocated() {
    let world = alone();
    let mut publisher = world.peer();
    publisher.send(&peer::publisher("live", "declares"));
    publisher.wait_for_status("NetStream.Publish.Start");
    let held = heap::watch();
    // Thirty messages of sixteen megabytes are declared, of each comes a chunk.
    for csid in 10..40 {
        publisher.send(&chunk(csid, 0, 0x00FF_FFFF, 9, 1, &[0x17; 128]));
    }
    assert!(publisher.is_served());
    let cost = heap::peak() - held;
    assert!(cost < 2 * MIB, "{cost} bytes for 30 × 128 that came");
    drop(publisher);
    world.finish();
}

#[test]
fn attacks_on_memory_are_over_before_it_is_used() {
    let world = alone();
    let size_one = control(1, &1_u32.to_be_bytes());
    let csids = (0..65_533_u32).flat_map(|id| {
        let [low, high, ..] = id.to_le_bytes();
        [&[1, low, high][..], &chunk(0, 0, 2, 9, 1, &[0])[1..]].concat()
    });
    let keys = [&[2, 0, 1, b'x', 3][..], &[0, 1, b'k', 5].repeat(2_000_000)].concat();
    let nested = [&[2, 0, 1, b'x'][..], &[10, 0, 0, 0, 1].repeat(1_000_000)].concat();
    let wide = |bytes: u32| {
        let text = vec![0xFF; usize::try_from(bytes).expect("it fits")];
        [&[2, 0, 1, b'x', 12][..], &bytes.to_be_bytes(), &text].concat()
    };
    let short = |tail: &[u8]| [&[2, 0, 1, b'x'][..], tail].concat();
    let data = |values: &[u8]| long_message(18, 1, 0, values);
    let part = |values: &[u8]| data(&values[..1_000_000]);
    let rows: Vec<(Row, usize)> = vec![
        (
            row(
                "65,533 chunk streams",
                Publishing,
                [size_one, csids.collect()].concat(),
                limited(Limit::ChunkStreams),
            ),
            MIB,
        ),
        (row("an object of 250,000 keys", Publishing, part(&keys), limited(Limit::Values)), 4 * MIB),
        (row("an object of two million keys", Publishing, data(&keys), limited(Limit::MessageBytes)), 18 * MIB),
        (row("200,000 arrays in each other", Publishing, part(&nested), limited(Limit::Depth)), 4 * MIB),
        (row("a megabyte that is no text", Publishing, data(&wide(1_000_000)), Served), 12 * MIB),
        (row("8 MB that are no text", Publishing, data(&wide(8_000_000)), limited(Limit::MessageBytes)), 18 * MIB),
        (row("a command of 8 MB", Publishing, long_message(20, 1, 0, &keys), limited(Limit::MessageBytes)), 18 * MIB),
        (row("8 MB from nobody", Connected, long_message(20, 1, 0, &keys), limited(Limit::HandshakeBytes)), MIB),
        (
            row(
                "16 MB of video from nobody",
                Connected,
                long_message(9, 1, 0, &vec![1; 16_000_000]),
                limited(Limit::HandshakeBytes),
            ),
            MIB,
        ),
        (
            row(
                "a strict array of 2^32-1",
                Publishing,
                data(&short(&[10, 255, 255, 255, 255])),
                malformed("rtmp.amf_end"),
            ),
            MIB,
        ),
        (
            row(
                "a long string of 2^32-1",
                Publishing,
                data(&short(&[12, 255, 255, 255, 255])),
                malformed("rtmp.amf_end"),
            ),
            MIB,
        ),
    ];
    for (row, most) in rows {
        let held = heap::watch();
        // The test's own copies of what it sends are not the router's.
        let own = 2 * row.act.len() + MIB;
        let name = row.name.clone();
        run(&world, &[row]);
        let cost = (heap::peak() - held).saturating_sub(own);
        assert!(cost <= most, "{name}: {cost} bytes");
    }
    world.finish();
}

/// What a publisher sends is held no longer than the application's cache says, also if nobody plays it.
#[test]
fn unfinished_messages_are_bounded_and_freed_with_their_connection() {
    let mut setup = Setup { alone: true, ..Setup::default() };
    setup.limits.partial_bytes = 2 * MIB;
    setup.limits.message_bytes = MIB;
    let world = World::with(setup);
    let before = world.baseline.clone();
    let held = heap::watch();
    let mut publisher = world.peer();
    publisher.send(&peer::publisher("live", "partial"));
    publisher.wait_for_status("NetStream.Publish.Start");
    // 100 kB each of messages that are never whole.
    let piece = vec![0x17; 128];
    for csid in 10..40 {
        publisher.send(&chunk(csid, 0, 1_000_000, 9, 1, &piece));
        let more = [&[0xC0 | csid], &piece[..]].concat().repeat(800);
        if !publisher.send(&more) {
            break;
        }
    }
    assert!(publisher.is_closed(SOON));
    let id = publisher.id;
    drop(publisher);
    let reason = world.facts.close_of(id).reason;
    assert_eq!(reason.and_then(Reason::detail), Some("partial_bytes"));
    let peak = heap::peak() - held;
    // Buffers double as they grow.
    assert!(peak < 8 * MIB, "{peak} bytes at the most");
    assert_eq!(world.settles_at(&before), Ok(()));
    wait_for("that the memory is given back", || (heap::held() < held + MIB).then_some(()));
    world.finish();
}

/// A stream that nobody plays holds its cache and no more; when its publisher goes all of it is given back.
#[test]
fn key_frames_of_fifteen_megabytes_fill_the_cache_and_no_more_and_are_given_back() {
    let world = alone();
    let before = world.baseline.clone();
    let held = heap::held();
    let mut publisher = world.peer();
    publisher.send(&peer::publisher("live", "key"));
    publisher.wait_for_status("NetStream.Publish.Start");
    let tag = video_tag(true, &vec![1; 15 * MIB]);
    let key_frame = long_message(9, 1, 0, &tag);
    drop(tag);
    for _ in 0..6 {
        assert!(publisher.send(&key_frame));
    }
    assert!(publisher.is_served());
    let own = key_frame.capacity();
    let now_held = heap::held() - held - own;
    // 48 MiB of cache, since all are young, and the buffer of one message.
    assert!(now_held < 66 * MIB, "{now_held} bytes after six key frames of 15 MiB");
    let mut viewer = world.subscribe_on(HERE, "live/key");
    assert!(viewer.recv_timeout(Duration::from_secs(5)).is_some());
    drop((publisher, viewer, key_frame));
    assert_eq!(world.settles_at(&before), Ok(()));
    wait_for("that the memory is given back", || (heap::held() < held + MIB).then_some(()));
    world.finish();
}
