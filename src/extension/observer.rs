//! A host that wants to see what happens, as it happens.

use crate::fact::Fact;
use crate::id::StreamKey;
use crate::media::Frame;

/// Sees sessions come and go, and frames if it asks for them. Called on the shards, and on the router's own threads for
/// what happens there: it must not block. If it panics it has missed that one fact.
pub trait Observer: Send + Sync {
    /// Something happened: a publish, a play, a refusal, a skip.
    fn on_fact(&self, fact: &Fact) {
        let _ = fact;
    }

    /// Whether [`Observer::on_frame`] is wanted; asked once at the start.
    fn wants_frames(&self) -> bool {
        false
    }

    /// A frame was appended on the home shard of its stream.
    fn on_frame(&self, key: &StreamKey, frame: &Frame) {
        let _ = (key, frame);
    }
}
