//! crossbeam-channel: a bounded channel for each subscriber, with shared frames in it. Where it is full, the frame is
//! left out for that subscriber: a publisher that waits for one viewer makes all others wait.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};

use super::{Bus, Polled, ROOM};
use crate::check::Packet;

pub(crate) struct Channels {
    senders: Vec<Sender<Arc<Packet>>>,
    /// Those that have come since the last frame.
    joins: Receiver<Sender<Arc<Packet>>>,
    door: Sender<Sender<Arc<Packet>>>,
}

impl Bus for Channels {
    const NAME: &'static str = "crossbeam-channel each";
    type Item = Packet;
    type Polled = Receiver<Arc<Packet>>;

    fn open() -> Self {
        let (door, joins) = unbounded();
        Self { senders: Vec::new(), joins, door }
    }

    #[inline]
    fn publish(&mut self, packet: Packet) {
        self.senders.extend(self.joins.try_iter());
        let packet = Arc::new(packet);
        // The numbers tell what was left out; who has left is let go of.
        self.senders
            .retain(|sender| !matches!(sender.try_send(Arc::clone(&packet)), Err(TrySendError::Disconnected(_))));
    }

    fn door(&self) -> impl Fn() -> Self::Polled + Send + 'static {
        let door = self.door.clone();
        move || {
            let (sender, receiver) = bounded(ROOM);
            // The publisher has the other end, and lets in whoever came before its next frame.
            let _ = door.send(sender);
            receiver
        }
    }
}

impl Polled for Receiver<Arc<Packet>> {
    type Item = Packet;

    #[inline]
    fn poll(&mut self) -> Option<Arc<Packet>> {
        self.try_recv().ok()
    }
}
