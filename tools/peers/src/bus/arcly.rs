//! arcly-stream: an engine with one application and one stream on it.
//!
//! Its documentation asks for `subscribe_resilient` in a task per subscriber; the raw receiver can be asked, too, which
//! is cheaper. The GOP cache is on, as it has to be for an instant start, and the ring is cut from 4,096 frames to
//! [`ROOM`](super::ROOM), which its caches like better.

use std::sync::Arc;

use arcly_stream::bus::FrameSink;
use arcly_stream::prelude::{AppSpec, CodecId, Engine, MediaFrame, PublishRegistry, StreamHandle, StreamKey};
use arcly_stream::{Subscription, async_trait::async_trait};
use shardcast::clock::Instant;
use tokio::runtime::Builder;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

use super::{Awaited, AwaitedBus, Bus, Item, Polled, ROOM};
use crate::check::{GOP, Packet};

pub(crate) struct Arcly {
    pub(crate) handle: StreamHandle,
    _engine: Arc<Engine>,
}

/// An engine whose streams have room for so many frames.
pub(crate) fn engine(room: usize) -> Arc<Engine> {
    let gop = usize::try_from(GOP).expect("a few frames");
    Engine::builder().application(AppSpec::new("live").broadcast_capacity(room).gop_cache(gop)).build()
}

/// Publishes a stream.
pub(crate) fn publish(engine: &Engine, name: &str) -> StreamHandle {
    let runtime = Builder::new_current_thread().build().expect("a runtime of this thread");
    runtime.block_on(engine.start_publish(&StreamKey::new("live", name))).expect("nobody else publishes")
}

impl Bus for Arcly {
    const NAME: &'static str = "arcly-stream";
    type Item = MediaFrame;
    type Polled = broadcast::Receiver<Arc<MediaFrame>>;

    fn open() -> Self {
        let engine = engine(ROOM);
        Self { handle: publish(&engine, "bench"), _engine: engine }
    }

    #[inline]
    fn publish(&mut self, packet: Packet) {
        let (number, sent) = (packet.number.cast_signed(), packet.sent.0.cast_signed());
        let frame = MediaFrame::new_video(number, sent, packet.payload, CodecId::H264, packet.key);
        // It says how many subscribers there are, and has no other error than a future one.
        let _ = self.handle.publish_frame(frame);
    }

    fn door(&self) -> impl Fn() -> Self::Polled + Send + 'static {
        let handle = self.handle.clone();
        move || handle.subscribe()
    }
}

impl AwaitedBus for Arcly {
    type Awaited = Subscription;

    fn awaited(&self) -> Subscription {
        self.handle.subscribe_resilient()
    }

    fn end(&mut self) {
        self.handle.close();
    }
}

impl Polled for broadcast::Receiver<Arc<MediaFrame>> {
    type Item = MediaFrame;

    #[inline]
    fn poll(&mut self) -> Option<Arc<MediaFrame>> {
        poll(self)
    }
}

/// What is there, after what was lost: the numbers tell that.
#[inline]
pub(super) fn poll<T: Clone>(receiver: &mut broadcast::Receiver<T>) -> Option<T> {
    loop {
        match receiver.try_recv() {
            Ok(item) => return Some(item),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
        }
    }
}

impl Awaited for Subscription {
    type Item = MediaFrame;

    #[inline]
    async fn next(&mut self) -> Option<Arc<MediaFrame>> {
        self.recv().await
    }
}

impl Item for MediaFrame {
    #[inline]
    fn number(&self) -> u64 {
        self.pts.cast_unsigned()
    }

    fn is_key(&self) -> bool {
        self.is_keyframe()
    }

    fn sent(&self) -> Instant {
        Instant(self.dts.cast_unsigned())
    }

    #[inline]
    fn payload(&self) -> &[u8] {
        &self.data
    }
}

/// The sink of a joiner, as the protocols of arcly-stream have one.
pub(crate) struct Sink<F>(pub(crate) F);

#[async_trait]
impl<F: FnMut(&MediaFrame) -> std::ops::ControlFlow<()> + Send> FrameSink for Sink<F> {
    async fn send(&mut self, frame: Arc<MediaFrame>) -> arcly_stream::Result<std::ops::ControlFlow<()>> {
        Ok((self.0)(&frame))
    }
}
