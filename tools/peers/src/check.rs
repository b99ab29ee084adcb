//! What a subscriber of any library finds: it believes nothing.
//!
//! Every frame says which it is, in its timestamp and again in its payload, whose bytes are all known. Each delivery
//! that is timed is checked for its number, its length, and the number at both ends of the payload; before anything is
//! timed, some frames go the same way and are checked byte by byte.

use std::ops::AddAssign;

use bytes::Bytes;
use shardcast::bench::frames::{Frames, PERIOD_NS, is_right, is_whole};
use shardcast::clock::Instant;
use shardcast::media::Frame;

/// Frames from one keyframe to the next.
pub(crate) const GOP: u64 = 120;

/// A frame as the peers get it. shardcast gets its own form of the same.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) number: u64,
    pub(crate) key: bool,
    /// When it was published.
    pub(crate) sent: Instant,
    pub(crate) payload: Bytes,
}

/// A stream of them.
pub(crate) struct Packets(Frames);

impl Packets {
    pub(crate) fn new(payload_bytes: usize) -> Self {
        Self(Frames::new(GOP, payload_bytes))
    }

    /// The next one, published now.
    #[inline]
    pub(crate) fn next(&mut self, sent: Instant) -> Packet {
        let number = self.0.number();
        let frame = self.0.next();
        Packet { number, key: frame.is_key(), sent, payload: frame.payload }
    }
}

/// What came of what was to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// In their place, and as they were sent.
    pub(crate) right: u64,
    /// Never came.
    pub(crate) lost: u64,
    /// Came again, or after a later one.
    pub(crate) repeated: u64,
    /// Came changed.
    pub(crate) damaged: u64,
}

impl Tally {
    /// All that came, and came once.
    pub(crate) const fn is_clean(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.damaged == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.damaged += other.damaged;
    }
}

/// One subscriber's view of the stream: small, since there are thousands, and each has its turn for each frame.
#[derive(Clone, Debug)]
pub(crate) struct Checker {
    /// The number that is to come.
    next: u64,
    first: u64,
    /// What was wrong so far; nothing, most often.
    wrong: Option<Box<Tally>>,
    payload_bytes: u32,
    strict: bool,
}

impl Checker {
    /// Expects this number first. A strict one looks at every byte.
    pub(crate) fn new(first: u64, payload_bytes: usize, strict: bool) -> Self {
        let payload_bytes = u32::try_from(payload_bytes).expect("a frame is smaller");
        Self { next: first, first, wrong: None, payload_bytes, strict }
    }

    /// A frame of a peer.
    #[inline]
    pub(crate) fn take(&mut self, number: u64, payload: &[u8]) {
        if number == self.next && !self.strict && is_right(payload, number, self.payload_bytes as usize) {
            self.next += 1;
        } else {
            self.look_closer(number, payload);
        }
    }

    /// A frame of shardcast: its number is its place on the timeline.
    #[inline]
    pub(crate) fn take_frame(&mut self, frame: &Frame) {
        self.take(number_of(frame), &frame.payload);
    }

    /// The number that is to come.
    #[inline]
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// What it found of the frames up to this number.
    pub(crate) fn finish(self, sent: u64) -> Tally {
        let mut tally = self.wrong.map_or_else(Tally::default, |wrong| *wrong);
        tally.right = self.next - self.first - tally.lost - tally.damaged;
        tally.lost += sent.saturating_sub(self.next);
        tally
    }

    #[cold]
    fn look_closer(&mut self, number: u64, payload: &[u8]) {
        let whole = if self.strict { is_whole } else { is_right };
        let is_whole = whole(payload, number, self.payload_bytes as usize);
        if number == self.next && is_whole {
            self.next += 1;
            return;
        }
        let wrong = self.wrong.get_or_insert_default();
        if number < self.next {
            wrong.repeated += 1;
            return;
        }
        wrong.lost += number - self.next;
        wrong.damaged += u64::from(!is_whole);
        self.next = number + 1;
    }
}

/// Which of shardcast's frames this is.
#[inline]
pub(crate) const fn number_of(frame: &Frame) -> u64 {
    frame.pts.0.cast_unsigned() / PERIOD_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 64;

    fn tally(strict: bool, packets: impl IntoIterator<Item = Packet>, sent: u64) -> Tally {
        let mut checker = Checker::new(0, BYTES, strict);
        packets.into_iter().for_each(|packet| checker.take(packet.number, &packet.payload));
        checker.finish(sent)
    }

    fn some(count: usize) -> Vec<Packet> {
        let mut packets = Packets::new(BYTES);
        (0..count).map(|_| packets.next(Instant::ZERO)).collect()
    }

    #[test]
    fn frames_that_come_as_they_were_sent_are_right() {
        let clean = Tally { right: 600, ..Tally::default() };
        assert_eq!(tally(false, some(600), 600), clean);
        assert_eq!(tally(true, some(600), 600), clean);
        let mut frames = Frames::new(GOP, BYTES);
        let mut checker = Checker::new(0, BYTES, false);
        (0..600).for_each(|_| checker.take_frame(&frames.next()));
        assert_eq!(checker.finish(600), clean);
    }

    #[test]
    fn what_is_missing_is_lost_also_at_the_end_and_by_whole_turns_of_the_payloads() {
        let mut packets = some(600);
        packets.drain(10..10 + 256);
        assert_eq!(tally(false, packets, 605), Tally { right: 344, lost: 261, ..Tally::default() });
    }

    #[test]
    fn what_comes_again_or_late_is_repeated_and_not_counted_as_right() {
        let mut packets = some(10);
        packets.insert(4, packets[3].clone());
        assert_eq!(tally(false, packets, 10), Tally { right: 10, repeated: 1, ..Tally::default() });
        let mut swapped = some(10);
        swapped.swap(4, 5);
        assert_eq!(tally(false, swapped, 10), Tally { right: 9, lost: 1, repeated: 1, ..Tally::default() });
    }

    #[test]
    fn a_changed_end_is_damage_and_a_changed_middle_for_the_strict_one() {
        let mut packets = some(4);
        let change = |packet: &mut Packet, at: usize| {
            let mut bytes = packet.payload.to_vec();
            bytes[at] ^= 0x10;
            packet.payload = bytes.into();
        };
        change(&mut packets[1], BYTES - 1);
        change(&mut packets[2], BYTES / 2);
        assert_eq!(tally(false, packets.clone(), 4), Tally { right: 3, damaged: 1, ..Tally::default() });
        assert_eq!(tally(true, packets, 4), Tally { right: 2, damaged: 2, ..Tally::default() });
    }
}
