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

    fn door(&self) -> impl Fn() -> Self::Polled + Send + 'static {
        let sender = self.0.clone();
        move || receiver(sender.as_ref())
    }
}

impl AwaitedBus for Broadcast {
    type Awaited = broadcast::Receiver<Arc<Packet>>;

    fn awaited(&self) -> Self::Awaited {
        receiver(self.0.as_ref())
    }

    fn end(&mut self) {
        self.0 = None;
    }
}

/// One that is at its end if the stream is.
fn receiver(sender: Option<&broadcast::Sender<Arc<Packet>>>) -> broadcast::Receiver<Arc<Packet>> {
    sender.map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
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
