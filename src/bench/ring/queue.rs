//! The queues that are compared, and what goes through them.

use bytes::Bytes;

use crate::ring::{Consumer, Producer, PushError};

/// What goes between shards for each frame: a payload and its description, 56 bytes. The payload is static, so that
/// no reference count is measured.
pub(super) struct Message {
    payload: Bytes,
    pub(super) meta: [u64; 3],
}

impl Message {
    #[inline]
    pub(super) fn new(n: u64) -> Self {
        Self { payload: Bytes::from_static(b"frame"), meta: [n, n, n] }
    }

    /// Whether it is the message with this number, and whole.
    #[inline]
    pub(super) fn is(&self, n: u64) -> bool {
        self.payload.len() == 5 && self.meta == [n, n, n]
    }
}

/// One half of a queue that is compared.
pub(super) trait Send1: Send {
    fn send(&mut self, message: Message) -> Result<(), Message>;
}

pub(super) trait Receive1: Send {
    fn receive(&mut self) -> Option<Message>;
}

impl Send1 for Producer<Message> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<(), Message> {
        self.push(message).map_err(|(PushError::Full(back) | PushError::Closed(back))| back)
    }
}

impl Receive1 for Consumer<Message> {
    #[inline]
    fn receive(&mut self) -> Option<Message> {
        self.pop()
    }
}

impl Send1 for rtrb::Producer<Message> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<(), Message> {
        self.push(message).map_err(|rtrb::PushError::Full(back)| back)
    }
}

impl Receive1 for rtrb::Consumer<Message> {
    #[inline]
    fn receive(&mut self) -> Option<Message> {
        self.pop().ok()
    }
}

impl Send1 for crossbeam_channel::Sender<Message> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<(), Message> {
        self.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

impl Receive1 for crossbeam_channel::Receiver<Message> {
    #[inline]
    fn receive(&mut self) -> Option<Message> {
        self.try_recv().ok()
    }
}
