//! Code of the host that runs on the shard itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ThreadId;

use shardcast::extension::{FrameSink, SinkVerdict};
use shardcast::fact::FactKind;
use shardcast::id::ShardId;
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::stream::{AppSpec, LagPolicy};

use crate::world::*;

/// Tells the test all that it is told, and does as the test wants.
struct Told {
    tell: Sender<(String, ThreadId)>,
    /// Nothing is taken meanwhile.
    busy: Arc<AtomicBool>,
    /// Frames that it still takes.
    wanted: u64,
    offered: Arc<AtomicU64>,
}

struct Hand {
    told: Receiver<(String, ThreadId)>,
    busy: Arc<AtomicBool>,
    offered: Arc<AtomicU64>,
}

fn sink(wanted: u64) -> (Box<dyn FrameSink>, Hand) {
    let (tell, told) = channel();
    let (busy, offered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sink = Told { tell, busy: Arc::clone(&busy), wanted, offered: Arc::clone(&offered) };
    (Box::new(sink), Hand { told, busy, offered })
}

impl Told {
    fn say(&self, text: String) {
        let _ = self.tell.send((text, std::thread::current().id()));
    }
}

impl FrameSink for Told {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        self.offered.fetch_add(1, Ordering::Relaxed);
        if self.busy.load(Ordering::Relaxed) {
            return SinkVerdict::Busy;
        }
        if self.wanted == 0 {
            return SinkVerdict::Done;
        }
        self.wanted -= 1;
        self.say(letter_and_number(frame));
        SinkVerdict::Taken
    }

    fn on_gap(&mut self, frames: u64) {
        self.say(format!("+{frames}"));
    }

    fn on_end(&mut self, reason: Reason) {
        self.say(reason.code().into());
    }
}

impl Hand {
    fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.told.recv_timeout(WAIT).expect("it is told in time").0).collect()
    }
}

#[test]
fn a_sink_gets_configuration_keyframe_and_frames_on_the_shard_of_the_stream() {
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckd");
    taken_in(&router, "live/a", 3);
    let (one, first) = sink(u64::MAX);
    let (two, second) = sink(u64::MAX);

    router.attach(&key("live/a"), PlayOptions::instant(), one).unwrap();
    router.attach_on(ShardId(1), &key("live/a"), PlayOptions::instant(), two).unwrap();
    reel.send(&mut publisher, "d");
    let hands = [first, second].map(|hand| {
        let told = hand.told.recv_timeout(WAIT).unwrap();
        (hand, told)
    });
    publisher.end();

    let threads = hands.map(|(hand, begin)| {
        let told: Vec<_> =
            std::iter::once(begin).chain((0..4).map(|_| hand.told.recv_timeout(WAIT).unwrap())).collect();
        let texts: Vec<&str> = told.iter().map(|(text, _)| &**text).collect();
        assert_eq!(texts, ["c0", "k1", "d2", "d3", "ended"]);
        let thread = told[0].1;
        assert!(told.iter().all(|(_, on)| *on == thread && *on != std::thread::current().id()));
        thread
    });
    assert_ne!(threads[0], threads[1]);
    assert!(router.stats().iter().all(|shard| shard.subscribers == 0));
}

#[test]
fn a_busy_sink_is_offered_the_frame_again_and_misses_nothing_if_it_comes_back_soon() {
    let router = router(1);
    let mut publisher = publish(&router, "live/a");
    let mut beside = subscribe(&router, "live/a");
    let (sink, hand) = sink(u64::MAX);
    hand.busy.store(true, Ordering::Relaxed);
    router.attach(&key("live/a"), PlayOptions::instant(), sink).unwrap();
    Reel::new().send(&mut publisher, "ckdd");

    assert_eq!(take(&mut beside, 4), ["c0", "k1", "d2", "d3"], "nobody waits for it");
    eventually("it is offered again", || hand.offered.load(Ordering::Relaxed) > 3);
    assert!(hand.told.try_recv().is_err());
    hand.busy.store(false, Ordering::Relaxed);

    assert_eq!(hand.take(4), ["c0", "k1", "d2", "d3"]);
}

#[test]
fn a_sink_that_is_busy_for_too_long_skips_to_a_keyframe_and_is_told_how_many() {
    let lag = LagPolicy { max_age: std::time::Duration::from_millis(20), ..LagPolicy::default() };
    let router = builder(1).app(AppSpec::new("live").lag(lag)).start().unwrap();
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let (sink, hand) = sink(u64::MAX);
    let id = router.attach(&key("live/a"), PlayOptions::instant(), sink).unwrap();
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ck");
    assert_eq!(hand.take(2), ["c0", "k1"]);

    hand.busy.store(true, Ordering::Relaxed);
    reel.send(&mut publisher, "dddd");
    let skip = fact(&events, FactKind::Skip);
    hand.busy.store(false, Ordering::Relaxed);
    reel.send(&mut publisher, "dkd");

    assert_eq!(skip.who.unwrap().connection, id);
    assert_eq!(hand.take(3), ["+5", "k7", "d8"]);
}

#[test]
fn a_sink_that_has_enough_is_taken_off_and_so_is_one_that_is_detached() {
    let router = router(2);
    let events = router.events();
    let mut publisher = publish(&router, "live/a");
    let (enough, first) = sink(2);
    let (detached, second) = sink(u64::MAX);
    let done = router.attach(&key("live/a"), PlayOptions::instant(), enough).unwrap();
    let id = router.attach_on(ShardId(1), &key("live/a"), PlayOptions::instant(), detached).unwrap();

    Reel::new().send(&mut publisher, "kdd");
    assert_eq!(first.take(3), ["k0", "d1", "ended"]);
    assert_eq!(second.take(3), ["k0", "d1", "d2"]);
    router.detach(id);
    assert_eq!(second.take(1), ["ended"]);

    let ends = [(); 2].map(|()| fact(&events, FactKind::PlayEnd));
    assert_eq!(
        ends.map(|end| (end.who.unwrap().connection, end.reason)),
        [done, id].map(|id| (id, Some(Reason::Ended)))
    );
    assert!(first.told.recv_timeout(WAIT).is_err(), "it is dropped");
}

#[test]
fn a_sink_that_is_refused_is_in_the_records_like_any_player() {
    let router = builder(1).app(AppSpec::new("live")).start().unwrap();
    let events = router.events();
    for (name, reason) in [("live/a", Reason::NotFound), ("vod/a", Reason::UnknownApp)] {
        let refused = router.attach(&key(name), PlayOptions::instant(), sink(0).0).unwrap_err();
        let told = fact(&events, FactKind::PlayRefuse);
        assert_eq!((refused, told.reason, told.stream), (reason, Some(reason), Some(key(name))));
    }
}

#[test]
fn a_thousand_sinks_get_the_same_frames() {
    struct Count(Arc<AtomicU64>);
    impl FrameSink for Count {
        fn on_frame(&mut self, _: &Frame) -> SinkVerdict {
            self.0.fetch_add(1, Ordering::Relaxed);
            SinkVerdict::Taken
        }
    }
    let router = router(2);
    let mut publisher = publish(&router, "live/a");
    let count = Arc::new(AtomicU64::new(0));
    for n in 0..1000 {
        let sink = Box::new(Count(Arc::clone(&count)));
        router.attach_on(ShardId(n % 2), &key("live/a"), PlayOptions::instant(), sink).unwrap();
    }

    Reel::new().send(&mut publisher, "ckdddkdd");

    eventually("all have all", || count.load(Ordering::Relaxed) == 8000);
}
