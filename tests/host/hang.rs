//! A shard that does not finish its turn.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use shardcast::extension::{Health, Observer};
use shardcast::fact::FactKind;
use shardcast::id::StreamKey;
use shardcast::media::Frame;

use crate::world::{Reel, WAIT, limited, publish};

/// Breaks the one rule of an observer: it blocks the shard until it is let go.
struct Blocks(Mutex<Receiver<()>>);

impl Observer for Blocks {
    fn wants_frames(&self) -> bool {
        true
    }

    fn on_frame(&self, _: &StreamKey, _: &Frame) {
        let _ = self.0.lock().recv_timeout(WAIT);
    }
}

#[test]
fn a_shard_that_hangs_is_told_of_and_is_healthy_again_when_it_goes_on() {
    let (release, blocked) = bounded(0);
    let router = limited(|limits| limits.shard_stall = Duration::from_millis(50))
        .observer(Arc::new(Blocks(Mutex::new(blocked))))
        .start()
        .expect("it starts");
    let events = router.events();
    let mut publisher = publish(&router, "live/a");

    Reel::new().send(&mut publisher, "k");

    let stalled = std::iter::from_fn(|| events.recv_timeout(WAIT)).find(|fact| fact.kind == FactKind::ShardStall);
    assert!(stalled.is_some());
    assert!(matches!(router.health(), Health::Unhealthy(_)), "{:?}", router.health());

    drop(release);
    let clock = router.clock();
    let until = clock.instant() + WAIT;
    while router.health() != Health::Healthy {
        assert!(clock.instant() < until, "{:?}", router.health());
        std::thread::yield_now();
    }
}
