//! The host's side: publishers and subscribers with their rings, sinks and sources on the shards, by the same
//! commands as `router/` sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use parking_lot::Mutex;
use shardcast::clock::Now;
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::id::ConnectionId;
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::ring::{Consumer, Doorbell, Producer, PushError, Wake, ring};
use shardcast::shard::{
    Attach, Command, HostNote, HostPublish, HostSubscribe, Message, PackedFrame, Post, PublisherEvent, RunSource,
    Shared,
};

use super::book::{BookRef, Source};
use super::client::Reading;
use super::encoder::Encoder;
use super::rng::Rng;
use super::watcher::{Seen, Watcher};

/// A wake that a test can look at.
#[derive(Clone, Default)]
pub struct Bell(pub Arc<AtomicBool>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct HostPublisher {
    pub connection: ConnectionId,
    pub encoder: Encoder,
    frames: Option<Producer<Message<Reason>>>,
    events: Receiver<PublisherEvent>,
    reply: Receiver<Result<(), Reason>>,
    post: Post,
    live: bool,
    held: Option<Frame>,
    retry_at: u64,
    pub over: bool,
}

impl HostPublisher {
    pub fn new(book: &BookRef, post: &Post, connection: ConnectionId, encoder: Encoder, slots: usize) -> Self {
        let (tx, frames) = ring(slots);
        let (events_tx, events) = bounded(16);
        let (reply_tx, reply) = bounded(1);
        book.lock().expect(Source::Host(connection), &encoder.key, encoder.id);
        let request = HostPublish {
            key: encoder.key.clone(),
            credentials: None,
            connection,
            backup: connection.0 % 4 == 3,
            frames,
            events: events_tx,
            reply: reply_tx,
        };
        let over = post.send(Command::Publish(Box::new(request))).is_err();
        let post = post.clone();
        let frames = Some(tx);
        Self { connection, encoder, frames, events, reply, post, live: false, held: None, retry_at: 0, over }
    }

    pub fn due(&self, now: u64) -> u64 {
        if self.over {
            return u64::MAX;
        }
        if !self.live || !self.events.is_empty() {
            return if self.reply.is_empty() && self.events.is_empty() { now + 1_000_000 } else { now };
        }
        if self.held.is_some() { self.retry_at } else { self.encoder.due() }
    }

    pub fn step(&mut self, now: u64) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                PublisherEvent::KeyframeWanted => self.encoder.want_key(),
                _ => return self.finish(),
            }
        }
        if !self.live {
            match self.reply.try_recv() {
                Ok(Ok(())) => self.live = true,
                Ok(Err(_)) | Err(TryRecvError::Disconnected) => return self.finish(),
                Err(TryRecvError::Empty) => return,
            }
        }
        let Some(frames) = &mut self.frames else { return };
        while let Some(frame) = self.held.take().or_else(|| self.encoder.next(now)) {
            match frames.push(Message::Frame(PackedFrame::pack(&frame, 0))) {
                Ok(()) => {}
                Err(PushError::Full(_)) => {
                    self.held = Some(frame);
                    self.retry_at = now + 1_000_000;
                    break;
                }
                Err(PushError::Closed(_)) => return self.finish(),
            }
        }
        self.post.doorbell().ring();
    }

    /// Ends after what was sent; what the ring had no room for is not sent at all.
    pub fn end(&mut self) {
        if self.held.take().is_some() {
            self.encoder.take_back();
        }
        if let Some(frames) = &mut self.frames {
            let _ = frames.push(Message::Control(Box::new(Reason::Ended)));
        }
        self.finish();
    }

    fn finish(&mut self) {
        self.over = true;
        self.live = false;
        self.frames = None;
        self.post.doorbell().ring();
    }
}

pub struct HostSubscriber {
    pub connection: ConnectionId,
    pub watcher: Watcher,
    frames: Consumer<Message<HostNote>>,
    doorbell: Doorbell,
    woken: Bell,
    asleep: bool,
    reply: Receiver<Result<(), Reason>>,
    answered: bool,
    pub skipped: Arc<AtomicU64>,
    pub reading: Reading,
    next_read: u64,
    post: Post,
    pub over: bool,
}

impl HostSubscriber {
    pub fn new(
        shared: &Shared,
        most: usize,
        post: &Post,
        connection: ConnectionId,
        watcher: Watcher,
        options: PlayOptions,
        slots: usize,
    ) -> Option<Self> {
        // As `Router::subscribe` does.
        let gauge = &shared.gauges.host_subscribers;
        if gauge.fetch_add(1, Ordering::Relaxed) >= most {
            gauge.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (tx, frames) = ring(slots);
        let (reply_tx, reply) = bounded(1);
        let woken = Bell::default();
        let doorbell = Doorbell::new(woken.clone());
        let skipped = Arc::new(AtomicU64::new(0));
        let request = HostSubscribe {
            key: watcher.key.clone(),
            credentials: None,
            connection,
            options,
            frames: tx,
            doorbell: doorbell.clone(),
            reply: reply_tx,
            skipped: Arc::clone(&skipped),
        };
        if post.send(Command::Subscribe(Box::new(request))).is_err() {
            gauge.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self {
            connection,
            watcher,
            frames,
            doorbell,
            woken,
            asleep: false,
            reply,
            answered: false,
            skipped,
            reading: Reading::Fast,
            next_read: 0,
            post: post.clone(),
            over: false,
        })
    }

    /// It leaves, by word or by closing its ring alone.
    pub fn leave(&mut self, silently: bool) {
        if !self.over && !silently {
            let _ = self.post.send(Command::Detach(self.connection));
        }
        self.frames = ring(1).1;
        self.over = true;
    }

    pub fn due(&self, now: u64) -> u64 {
        if self.over {
            return u64::MAX;
        }
        if !self.answered {
            return if self.reply.is_empty() { now + 1_000_000 } else { now };
        }
        match self.reading {
            Reading::Fast if self.asleep && !self.woken.0.load(Ordering::Relaxed) => u64::MAX,
            Reading::Fast => now,
            Reading::Slow(_) | Reading::Bursts(_) => self.next_read,
            Reading::Stalled => u64::MAX,
        }
    }

    pub fn step(&mut self, now: u64) {
        if !self.answered {
            match self.reply.try_recv() {
                Ok(Ok(())) => self.answered = true,
                Ok(Err(_)) | Err(TryRecvError::Disconnected) => self.over = true,
                Err(TryRecvError::Empty) => {}
            }
            return;
        }
        if std::mem::take(&mut self.asleep) {
            self.woken.0.store(false, Ordering::Relaxed);
            self.doorbell.awake();
        }
        let most = match self.reading {
            Reading::Fast => usize::MAX,
            Reading::Slow(rate) => {
                self.next_read = now + 1_000_000;
                // Frames, not bytes.
                usize::try_from(rate).expect("small") / 500 + 1
            }
            Reading::Bursts(pause) => {
                self.next_read = now + pause * 1_000_000;
                usize::MAX
            }
            Reading::Stalled => return,
        };
        for _ in 0..most {
            if !self.take() {
                break;
            }
        }
        if self.reading == Reading::Fast && !self.over {
            self.doorbell.announce_sleep();
            if self.frames.is_empty() && !self.frames.is_closed() {
                self.asleep = true;
            } else {
                self.doorbell.awake();
            }
        }
    }

    fn take(&mut self) -> bool {
        match self.frames.pop() {
            Some(Message::Frame(frame)) => {
                let frame = frame.unpack(shardcast::clock::Instant::ZERO);
                self.watcher.frame(Seen::frame(&frame));
            }
            Some(Message::Control(note)) => match *note {
                HostNote::Gap(frames) => self.watcher.gap(frames),
                HostNote::End(reason) => {
                    self.watcher.end(reason);
                    self.over = true;
                }
            },
            None if self.frames.is_closed() => {
                self.watcher.end(Reason::ShardLost);
                self.over = true;
            }
            None => return false,
        }
        !self.over
    }
}

/// A sink on a shard: what it was given, for the test to look at after each step.
pub struct SinkState {
    pub watcher: Watcher,
    pub mood: SinkMood,
    pub over: bool,
    rng: Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkMood {
    Takes,
    /// Busy once in so many.
    Busy(u64),
    /// Busy until told otherwise.
    Stuck,
    /// Has enough at its next frame.
    Done,
    /// Panics at its next frame.
    Explodes,
}

pub const SINK_EXPLOSION: &str = "sim: the sink explodes";

struct Sink(Arc<Mutex<SinkState>>);

impl FrameSink for Sink {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let mut state = self.0.lock();
        let state = &mut *state;
        match state.mood {
            SinkMood::Busy(n) if state.rng.one_in(n) => return SinkVerdict::Busy,
            SinkMood::Stuck => return SinkVerdict::Busy,
            SinkMood::Done => return SinkVerdict::Done,
            SinkMood::Explodes => {
                state.over = true;
                panic!("{SINK_EXPLOSION}");
            }
            _ => {}
        }
        state.watcher.frame(Seen::frame(frame));
        SinkVerdict::Taken
    }

    fn on_gap(&mut self, frames: u64) {
        self.0.lock().watcher.gap(frames);
    }

    fn on_end(&mut self, reason: Reason) {
        let mut state = self.0.lock();
        state.watcher.end(reason);
        state.over = true;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.lock().over = true;
    }
}

pub struct SinkHandle {
    pub connection: ConnectionId,
    pub state: Arc<Mutex<SinkState>>,
}

impl SinkHandle {
    pub fn attach(post: &Post, connection: ConnectionId, watcher: Watcher, options: PlayOptions, rng: Rng) -> Self {
        let key = watcher.key.clone();
        let state = Arc::new(Mutex::new(SinkState { watcher, mood: SinkMood::Takes, over: false, rng }));
        let (reply, _) = bounded(1);
        let sink = Box::new(Sink(Arc::clone(&state)));
        let _ = post.send(Command::Attach(Box::new(Attach { key, connection, options, sink, reply })));
        Self { connection, state }
    }
}

struct Feed {
    encoder: Encoder,
    state: Arc<Mutex<SourceState>>,
}

#[derive(Default)]
pub struct SourceState {
    pub stop: bool,
    pub over: bool,
    pub change: bool,
    pub live: bool,
}

impl FrameSource for Feed {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let mut state = self.state.lock();
        state.live = true;
        if state.stop {
            return SourcePoll::End;
        }
        if std::mem::take(&mut state.change) {
            self.encoder.change();
        }
        match self.encoder.next(now.mono.0) {
            Some(frame) => SourcePoll::Frame(frame),
            None => SourcePoll::NotBefore(shardcast::clock::Instant(self.encoder.due())),
        }
    }

    fn on_keyframe_wanted(&mut self) {
        self.encoder.want_key();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        (state.over, state.live) = (true, false);
    }
}

pub struct SourceHandle {
    pub state: Arc<Mutex<SourceState>>,
}

impl SourceHandle {
    pub fn run(book: &BookRef, post: &Post, connection: ConnectionId, encoder: Encoder) -> Self {
        let (key, publisher) = (encoder.key.clone(), encoder.id);
        book.lock().expect(Source::Host(connection), &key, publisher);
        let state = Arc::new(Mutex::new(SourceState::default()));
        let (reply, _) = bounded(1);
        let source = Box::new(Feed { encoder, state: Arc::clone(&state) });
        let _ = post.send(Command::Source(Box::new(RunSource { key, connection, source, reply })));
        Self { state }
    }
}
