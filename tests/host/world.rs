//! Routers, publishers with numbered frames, and waiting for what must come.

use std::time::Duration;

use bytes::Bytes;
use shardcast::Router;
use shardcast::clock::Clock;
use shardcast::extension::Credentials;
use shardcast::fact::{Fact, FactKind};
use shardcast::id::{ShardId, StreamKey};
use shardcast::limits::Limits;
use shardcast::media::{Codec, Frame, FrameKind, Timestamp};
use shardcast::reason::Reason;
use shardcast::router::{
    Builder, Cores, Delivery, PublishOptions, Publisher, SendError, SubscribeOptions, Subscription,
};
use shardcast::shard::{Events, PublisherEvent};

/// What must happen happens within this; nothing waits so long unless it has failed.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

pub(crate) fn builder(shards: usize) -> Builder {
    Router::builder().shards(shards).cores(Cores::Unpinned)
}

pub(crate) fn router(shards: usize) -> Router {
    builder(shards).start().expect("a router without listeners starts")
}

pub(crate) fn limited(change: impl FnOnce(&mut Limits)) -> Builder {
    let mut limits = Limits::default();
    change(&mut limits);
    builder(1).limits(limits)
}

pub(crate) fn key(text: &str) -> StreamKey {
    StreamKey::parse(text).expect("a good name")
}

pub(crate) fn publish(router: &Router, name: &str) -> Publisher {
    publish_on(router, name, 0)
}

pub(crate) fn publish_on(router: &Router, name: &str, shard: u16) -> Publisher {
    try_publish(router, name, shard).expect("the name is free")
}

pub(crate) fn try_publish(router: &Router, name: &str, shard: u16) -> Result<Publisher, Reason> {
    router.publish(&key(name), PublishOptions { shard: Some(ShardId(shard)), ..PublishOptions::default() })
}

pub(crate) fn subscribe(router: &Router, name: &str) -> Subscription {
    router.subscribe(&key(name), SubscribeOptions::default()).expect("the stream is there")
}

pub(crate) fn subscribe_on(router: &Router, name: &str, shard: u16) -> Subscription {
    let options = SubscribeOptions { shard: Some(ShardId(shard)), ..SubscribeOptions::default() };
    router.subscribe(&key(name), options).expect("the stream is there")
}

pub(crate) fn refused(router: &Router, name: &str) -> Reason {
    router.subscribe(&key(name), SubscribeOptions::default()).expect_err("it is to be refused")
}

pub(crate) fn with_credentials(query: &str) -> (PublishOptions, SubscribeOptions) {
    let credentials = Some(Credentials::from_query(query));
    let publish = PublishOptions { credentials: credentials.clone(), ..PublishOptions::default() };
    (publish, SubscribeOptions { credentials, ..SubscribeOptions::default() })
}

/// A publisher's frames: one every 40 ms, numbered in their payload. A letter each: `c`onfiguration, `k`ey, `d`elta,
/// `a`udio. Configuration takes the time of what follows it.
pub(crate) struct Reel {
    pub(crate) sent: u64,
    pub(crate) ms: i64,
}

impl Reel {
    pub(crate) const fn new() -> Self {
        Self { sent: 0, ms: 0 }
    }

    pub(crate) const fn starting_at(ms: i64) -> Self {
        Self { sent: 0, ms }
    }

    pub(crate) fn frame(&mut self, letter: char) -> Frame {
        let time = Timestamp::from_millis(self.ms);
        let payload = Bytes::from(format!("{letter}{}", self.sent));
        self.sent += 1;
        if letter != 'c' {
            self.ms += 40;
        }
        match letter {
            'c' => Frame::config(Codec::H264, time, payload),
            'a' => Frame::audio(Codec::Aac, time, payload),
            _ => Frame::video(Codec::H264, letter == 'k', time, time, payload),
        }
    }

    /// Sends a frame for each letter, waiting where the ring is full.
    pub(crate) fn send(&mut self, publisher: &mut Publisher, letters: &str) {
        for letter in letters.chars() {
            send(publisher, self.frame(letter));
        }
    }
}

/// Sends a frame, waiting while the ring is full.
pub(crate) fn send(publisher: &mut Publisher, mut frame: Frame) {
    eventually("room for a frame", || match publisher.send(frame.clone()) {
        Ok(()) => true,
        Err(SendError::Full(back)) => {
            frame = back;
            false
        }
        Err(ended) => panic!("{ended}"),
    });
}

pub(crate) fn letter_and_number(frame: &Frame) -> String {
    let shown = String::from_utf8_lossy(&frame.payload).into_owned();
    let kind = match frame.kind {
        FrameKind::Config => 'c',
        FrameKind::Key => 'k',
        FrameKind::Delta => 'd',
        FrameKind::Audio => 'a',
        FrameKind::Data => 'm',
    };
    assert!(shown.starts_with(kind), "{shown} came as {kind}");
    shown
}

/// The next delivery, whatever it is.
pub(crate) fn next(subscription: &mut Subscription) -> Delivery {
    subscription.recv_timeout(WAIT).expect("something is delivered in time")
}

pub(crate) fn next_frame(subscription: &mut Subscription) -> Frame {
    match next(subscription) {
        Delivery::Frame(frame) => frame,
        other => panic!("a frame was due, not {other:?}"),
    }
}

/// The next deliveries: frames by letter and number, gaps as `+n`, the end as its code.
pub(crate) fn take(subscription: &mut Subscription, count: usize) -> Vec<String> {
    (0..count).map(|_| show(&next(subscription))).collect()
}

pub(crate) fn show(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Frame(frame) => letter_and_number(frame),
        Delivery::Gap(frames) => format!("+{frames}"),
        Delivery::End(reason) => reason.code().into(),
    }
}

/// Everything up to the end.
pub(crate) fn take_all(subscription: &mut Subscription) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        let delivery = next(subscription);
        out.push(show(&delivery));
        if matches!(delivery, Delivery::End(_)) {
            return out;
        }
    }
}

/// Waits until so many frames of a stream were taken in by its home.
pub(crate) fn taken_in(router: &Router, name: &str, frames: u64) {
    eventually("the frames are taken in", || router.inspect(&key(name)).is_some_and(|info| info.frames >= frames));
}

/// Looks until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !holds() {
        assert!(clock.instant().since(shardcast::clock::Instant::ZERO) < WAIT, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Why a publisher was ended; wishes for keyframes are passed over.
pub(crate) fn ended(publisher: &mut Publisher) -> Reason {
    loop {
        if let PublisherEvent::Ended(reason) = publisher.event_timeout(WAIT).expect("its end is told") {
            return reason;
        }
    }
}

/// The next fact of a kind.
pub(crate) fn fact(events: &Events, kind: FactKind) -> Fact {
    loop {
        let fact = events.recv_timeout(WAIT).unwrap_or_else(|| panic!("no {} in time", kind.name()));
        if fact.kind == kind {
            return fact;
        }
    }
}
