//! Publishers and subscribers of the host process, as their shard sees them: the far ends of their rings.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::Sender;

use super::message::{HostNote, Message, PackedFrame};
use crate::clock::Instant;
use crate::extension::{Credentials, FrameSource};
use crate::fact::Who;
use crate::id::{ConnectionId, StreamKey};
use crate::limits::SLOT_BYTES;
use crate::protocol::PlayOptions;
use crate::reason::Reason;
use crate::ring::{Consumer, Doorbell, Producer};

/// A host's request to publish.
pub struct HostPublish {
    /// Under which name.
    pub key: StreamKey,
    /// What it shows; `None` if the host vouches for itself.
    pub credentials: Option<Credentials>,
    /// As what it is known.
    pub connection: ConnectionId,
    /// It calls itself a backup.
    pub backup: bool,
    /// Frames come from here.
    pub frames: Consumer<Message<Reason>>,
    /// Wishes go there.
    pub events: Sender<PublisherEvent>,
    /// The answer.
    pub reply: Sender<Result<(), Reason>>,
}

/// What a publisher of the host is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublisherEvent {
    /// Some viewer needs a keyframe.
    KeyframeWanted,
    /// The router ended this publish; what is still sent is not taken.
    Ended(Reason),
}

/// A host's request to subscribe.
pub struct HostSubscribe {
    /// To which stream.
    pub key: StreamKey,
    /// What it shows; `None` if the host vouches for itself.
    pub credentials: Option<Credentials>,
    /// As what it is known.
    pub connection: ConnectionId,
    /// How it wants it.
    pub options: PlayOptions,
    /// Frames go there.
    pub frames: Producer<Message<HostNote>>,
    /// Rings where the host's thread waits.
    pub doorbell: Doorbell,
    /// The answer.
    pub reply: Sender<Result<(), Reason>>,
    /// Frames that were skipped, for the host to read at any time.
    pub skipped: Arc<AtomicU64>,
}

/// A publisher that feeds a shard without a connection.
pub(crate) struct Port {
    pub(crate) stream: Option<usize>,
    pub(crate) feed: Feed,
    /// A frame that there was no memory for yet.
    pub(crate) held: Option<PackedFrame>,
    /// Its publisher was too fast: nothing is taken of it before this time; `ZERO` where it was not.
    pub(crate) rests_until: Instant,
}

/// Where such a publisher's frames come from.
pub(crate) enum Feed {
    /// A thread of the host, through a ring.
    Ring { frames: Consumer<Message<Reason>>, events: Sender<PublisherEvent> },
    /// Code of the host that runs on the shard.
    Source { source: Box<dyn FrameSource>, not_before: Instant },
}

impl Feed {
    /// Bytes of the ring that it comes through.
    pub(crate) fn ring_bytes(&self) -> u64 {
        match self {
            Self::Ring { frames, .. } => (frames.capacity() * SLOT_BYTES) as u64,
            Self::Source { .. } => 0,
        }
    }
}

impl HostEnd {
    /// Bytes of its ring.
    pub(crate) fn ring_bytes(&self) -> u64 {
        (self.frames.capacity() * SLOT_BYTES) as u64
    }
}

/// The far end of a host's subscription.
pub(crate) struct HostEnd {
    pub(crate) frames: Producer<Message<HostNote>>,
    pub(crate) doorbell: Doorbell,
    pub(crate) skipped: Arc<AtomicU64>,
    pub(crate) who: Who,
    /// Something was pushed in this turn: ring once at its end.
    pub(crate) touched: bool,
}
