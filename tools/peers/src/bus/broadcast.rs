//! `tokio::sync::broadcast`: the channel alone, with shared frames in it.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::arcly::poll;
use super::{Awaited, AwaitedBus, Bus, Polled, ROOM};
use crate::check::Packet;

pub(crate) struct Broadcast(Option<broadcast::Sender<Arc<Packet>>>);

impl Bus for Broadcast {
    const NAME: &'static str = "tokio::sync::broadcast";
    type Item = Packet;
    type Polled = broadcast::Receiver<Arc<Packet>>;

    fn open() -> Self {
        Self(Some(broadcast::channel(ROOM).0))
    }

    #[inline]
    fn publish(&mut self, packet: Packet) {
        if let Some(sender) = &self.0 {
            // An error says that nobody listens.
            let _ = sender.send(Arc::new(packet));
        }
    }

    fn polled(&mut self) -> Self::Polled {
        self.awaited()
    }
}

impl AwaitedBus for Broadcast {
    type Awaited = broadcast::Receiver<Arc<Packet>>;

    fn awaited(&self) -> Self::Awaited {
        self.0.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    fn end(&mut self) {
        self.0 = None;
    }
}

impl Polled for broadcast::Receiver<Arc<Packet>> {
    type Item = Packet;

    #[inline]
    fn poll(&mut self) -> Option<Arc<Packet>> {
        poll(self)
    }
}

impl Awaited for broadcast::Receiver<Arc<Packet>> {
    type Item = Packet;

    #[inline]
    async fn next(&mut self) -> Option<Arc<Packet>> {
        loop {
            match self.recv().await {
                Ok(packet) => return Some(packet),
                // The numbers tell what was lost.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
