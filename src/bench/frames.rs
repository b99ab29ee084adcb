//! Frames that say which they are, and the sink that believes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::extension::{FrameSink, SinkVerdict};
use crate::media::{Codec, Frame, Timestamp};
use crate::reason::Reason;

/// Payload of a frame where it is no parameter; 73 of them a second are 700 kb/s.
pub const PAYLOAD_BYTES: usize = 1200;
/// The least that a payload may have: its number, and the mark of its end.
pub(super) const PAYLOAD_BYTES_MIN: usize = 16;
/// Payloads are made once and used in turn, so that no allocation is measured.
const PAYLOADS: u64 = 256;
/// From one frame to the next: 73 a second.
pub const PERIOD_NS: u64 = 13_700_000;

/// A stream of frames. A payload begins with its number modulo 256 and ends with the number's complement.
pub struct Frames {
    payloads: Vec<Bytes>,
    next: u64,
    gop: u64,
}

impl Frames {
    /// From a keyframe on, with one each `gop` frames.
    #[must_use]
    pub fn new(gop: u64, payload_bytes: usize) -> Self {
        let payload = |n| Bytes::from(payload(n, payload_bytes));
        Self { payloads: (0..PAYLOADS).map(payload).collect(), next: 0, gop }
    }

    /// The number of the next frame.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.next
    }

    /// The next frame, one period after the last. There is always one.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> Frame {
        let payload = self.payloads[(self.next % PAYLOADS) as usize].clone();
        let time = Timestamp((self.next * PERIOD_NS).cast_signed());
        let key = self.next.is_multiple_of(self.gop);
        self.next += 1;
        Frame::video(Codec::H264, key, time, time, payload)
    }
}

/// The payload with this number, every byte of which is known.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..bytes).map(|at| filling(number, at)).collect();
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let end = payload.len() - 8;
    payload[end..].copy_from_slice(&(!number).to_le_bytes());
    payload
}

/// Another pattern for each number: the golden ratio's bits, at another place for each byte.
const fn filling(number: u64, at: usize) -> u8 {
    let mixed = (number + at as u64 / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[at % 8]
}

/// The number that the payload of the frame with this number carries.
#[inline]
pub(super) const fn wrapped(number: u64) -> u64 {
    number % PAYLOADS
}

/// Whether this is the payload of the frame with this number: number, length and end. Cheap enough to be done for
/// every delivery that is timed.
#[inline]
#[must_use]
pub fn is_right(payload: &[u8], number: u64, bytes: usize) -> bool {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    payload.len() == bytes
        && payload.first_chunk().map(word) == Some(wrapped(number))
        && payload.last_chunk().map(word) == Some(!wrapped(number))
}

/// The same, byte by byte.
#[must_use]
pub fn is_whole(payload: &[u8], number: u64, bytes: usize) -> bool {
    let middle = 8..bytes - 8;
    is_right(payload, number, bytes) && middle.clone().all(|at| payload[at] == filling(wrapped(number), at))
}

/// Checks each frame; at its end it adds what was right to a sum.
///
/// `Verifier<false>` checks number, length and end, `Verifier<true>` every byte.
pub(super) struct Verifier<const STRICT: bool> {
    next: u64,
    right: u64,
    payload_bytes: usize,
    sum: Arc<AtomicU64>,
}

impl<const STRICT: bool> Verifier<STRICT> {
    /// The frame with the number 0 is to come first.
    pub(super) const fn new(payload_bytes: usize, sum: Arc<AtomicU64>) -> Self {
        Self { next: 0, right: 0, payload_bytes, sum }
    }
}

impl<const STRICT: bool> FrameSink for Verifier<STRICT> {
    #[inline]
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        let check = if STRICT { is_whole } else { is_right };
        self.right += u64::from(check(&frame.payload, self.next, self.payload_bytes));
        self.next += 1;
        SinkVerdict::Taken
    }

    fn on_gap(&mut self, frames: u64) {
        // They count as missing in the sum; those after them are judged by their own number.
        self.next += frames;
    }

    fn on_end(&mut self, _: Reason) {
        self.sum.fetch_add(self.right, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right<const STRICT: bool>(frames: impl IntoIterator<Item = Frame>) -> u64 {
        let sum = Arc::new(AtomicU64::new(0));
        let mut verifier = Verifier::<STRICT>::new(64, Arc::clone(&sum));
        frames.into_iter().for_each(|frame| assert!(matches!(verifier.on_frame(&frame), SinkVerdict::Taken)));
        verifier.on_end(Reason::Ended);
        sum.load(Ordering::Relaxed)
    }

    fn some(count: usize) -> Vec<Frame> {
        let mut frames = Frames::new(60, 64);
        (0..count).map(|_| frames.next()).collect()
    }

    #[test]
    fn frames_that_come_as_they_were_sent_are_right() {
        // More than there are payloads.
        assert_eq!(right::<false>(some(600)), 600);
        assert_eq!(right::<true>(some(600)), 600);
    }

    #[test]
    fn a_missing_a_repeated_and_a_swapped_frame_are_found() {
        let missing = some(10).into_iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, frame)| frame);
        assert_eq!(right::<false>(missing), 4);

        let mut repeated = some(10);
        repeated.insert(4, repeated[3].clone());
        assert_eq!(right::<false>(repeated), 4);

        let mut swapped = some(10);
        swapped.swap(4, 5);
        assert_eq!(right::<false>(swapped), 8);
    }

    #[test]
    fn a_short_frame_and_a_damaged_end_are_found() {
        let mut frames = some(4);
        frames[1].payload.truncate(63);
        let mut damaged = frames[2].payload.to_vec();
        damaged[60] ^= 1;
        frames[2].payload = damaged.into();
        assert_eq!(right::<false>(frames), 2);
    }

    #[test]
    fn a_bit_in_the_middle_is_found_by_the_strict_one() {
        let mut frames = some(4);
        let mut damaged = frames[2].payload.to_vec();
        damaged[30] ^= 0x10;
        frames[2].payload = damaged.into();
        assert_eq!(right::<false>(frames.clone()), 4);
        assert_eq!(right::<true>(frames), 3);
    }

    #[test]
    fn frames_left_out_count_as_missing_and_no_others() {
        let (frames, sum) = (some(10), Arc::new(AtomicU64::new(0)));
        let mut verifier = Verifier::<false>::new(64, Arc::clone(&sum));
        frames[..4].iter().for_each(|frame| _ = verifier.on_frame(frame));
        verifier.on_gap(2);
        frames[6..].iter().for_each(|frame| _ = verifier.on_frame(frame));
        verifier.on_end(Reason::Ended);
        assert_eq!(sum.load(Ordering::Relaxed), 8);
    }
}
