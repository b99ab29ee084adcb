//! Frames that say which they are, and the sink that believes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shardcast::extension::{FrameSink, SinkVerdict};
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::reason::Reason;

/// Payload of each frame; 73 of them a second are 700 kb/s.
pub(crate) const PAYLOAD_BYTES: usize = 1200;
/// Payloads are made once and used in turn, so that no allocation is measured.
const PAYLOADS: u64 = 256;
/// From one frame to the next: 73 a second.
pub(crate) const PERIOD_NS: u64 = 13_700_000;

/// A stream of frames: payloads begin with their number, modulo [`PAYLOADS`].
pub(crate) struct Frames {
    payloads: Vec<Bytes>,
    next: u64,
    gop: u64,
}

impl Frames {
    /// From a keyframe on, with one each `gop` frames.
    pub(crate) fn new(gop: u64) -> Self {
        let payload = |n: u64| {
            let mut bytes = vec![0; PAYLOAD_BYTES];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Bytes::from(bytes)
        };
        Self { payloads: (0..PAYLOADS).map(payload).collect(), next: 0, gop }
    }

    /// The number of the next frame.
    pub(crate) const fn number(&self) -> u64 {
        self.next
    }

    pub(crate) fn next(&mut self) -> Frame {
        let payload = self.payloads[(self.next % PAYLOADS) as usize].clone();
        let time = Timestamp((self.next * PERIOD_NS).cast_signed());
        let key = self.next.is_multiple_of(self.gop);
        self.next += 1;
        Frame::video(Codec::H264, key, time, time, payload)
    }
}

/// The number in a payload.
#[inline]
pub(crate) fn sequence_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The number in the payload of the frame with this number.
#[inline]
pub(crate) const fn wrapped(number: u64) -> u64 {
    number % PAYLOADS
}

/// Checks number and length of every frame; at its end it adds what was right to a sum.
pub(crate) struct Verifier {
    next: u64,
    right: u64,
    sum: Arc<AtomicU64>,
}

impl Verifier {
    /// The frame with the number `next` is to come first.
    pub(crate) const fn new(next: u64, sum: Arc<AtomicU64>) -> Self {
        Self { next: wrapped(next), right: 0, sum }
    }
}

impl FrameSink for Verifier {
    #[inline]
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let right = sequence_of(&frame.payload) == Some(self.next) && frame.payload.len() == PAYLOAD_BYTES;
        self.right += u64::from(right);
        self.next = wrapped(self.next + 1);
        SinkVerdict::Taken
    }

    fn on_gap(&mut self, frames: u64) {
        panic!("{frames} frames were left out");
    }

    fn on_end(&mut self, _: Reason) {
        self.sum.fetch_add(self.right, Ordering::Relaxed);
    }
}
