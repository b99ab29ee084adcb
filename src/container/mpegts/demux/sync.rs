//! Where packets begin.

use super::super::{PACKET_BYTES, SYNC};
use super::DemuxCounters;

/// So many bytes tell for sure: of each place at which a packet may begin, the two packets behind it are in there.
const WINDOW: usize = 3 * PACKET_BYTES;

/// Cuts a stream into packets, and finds them again where it is broken.
#[derive(Debug)]
pub(super) struct Synchronizer {
    /// Less than a packet, or, out of step, than [`WINDOW`].
    rest: Vec<u8>,
    in_step: bool,
    losses: u64,
    skipped: u64,
}

impl Default for Synchronizer {
    fn default() -> Self {
        Self { rest: Vec::new(), in_step: true, losses: 0, skipped: 0 }
    }
}

impl Synchronizer {
    /// Gives all packets that are whole now.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8; PACKET_BYTES])) {
        // Each step takes a packet off, or fills up what is kept, which is then used up by a packet at least.
        while !bytes.is_empty() {
            if self.in_step && self.rest.is_empty() {
                match bytes.split_first_chunk::<PACKET_BYTES>() {
                    Some((packet, behind)) if packet.starts_with(&[SYNC]) => {
                        take(packet);
                        bytes = behind;
                        continue;
                    }
                    _ => {}
                }
            }
            let wanted = if self.in_step { PACKET_BYTES } else { WINDOW };
            let missing = wanted.saturating_sub(self.rest.len()).min(bytes.len());
            let (now, later) = bytes.split_at(missing);
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() >= wanted {
                self.use_up(&mut take);
            }
        }
    }

    /// Nothing more comes: what is kept is all there is to tell from.
    pub(super) fn finish(&mut self, mut take: impl FnMut(&[u8; PACKET_BYTES])) {
        if !self.in_step {
            let begins = |at: &usize| self.rest.get(*at..).is_some_and(|rest| packets_at(rest, 2));
            let at = (0..self.rest.len()).find(begins).unwrap_or(self.rest.len());
            self.skip(at);
        }
        self.take_packets(&mut take);
        self.skip(self.rest.len());
    }

    pub(super) fn count(&self, counters: &mut DemuxCounters) {
        (counters.sync_losses, counters.skipped_bytes) = (self.losses, self.skipped);
    }

    fn use_up(&mut self, take: &mut impl FnMut(&[u8; PACKET_BYTES])) {
        if !self.in_step {
            let begins = |at: &usize| self.rest.get(*at..).is_some_and(|rest| packets_at(rest, 3));
            let Some(at) = (0..PACKET_BYTES).find(begins) else {
                // What follows the last place that was looked at may still begin a packet.
                self.skip(PACKET_BYTES);
                return;
            };
            self.skip(at);
            self.in_step = true;
        }
        self.take_packets(take);
    }

    fn take_packets(&mut self, take: &mut impl FnMut(&[u8; PACKET_BYTES])) {
        let (packets, _) = self.rest.as_chunks::<PACKET_BYTES>();
        let good = packets.iter().take_while(|packet| packet.starts_with(&[SYNC]));
        let mut taken = 0;
        for packet in good {
            take(packet);
            taken += PACKET_BYTES;
        }
        self.rest.drain(..taken);
        if self.rest.len() >= PACKET_BYTES {
            self.in_step = false;
            self.losses += 1;
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.skipped += bytes as u64;
        self.rest.drain(..bytes);
    }
}

/// Whether so many packets can begin one after the other here; behind the end all can.
fn packets_at(bytes: &[u8], count: usize) -> bool {
    bytes.iter().step_by(PACKET_BYTES).take(count).all(|byte| *byte == SYNC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(packets: u8) -> Vec<u8> {
        (0..packets).flat_map(|n| [vec![SYNC], vec![n; PACKET_BYTES - 1]].concat()).collect()
    }

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Synchronizer) {
        let (mut sync, mut found) = (Synchronizer::default(), Vec::new());
        pieces.into_iter().for_each(|piece| sync.push(piece, |packet| found.push(packet[1])));
        sync.finish(|packet| found.push(packet[1]));
        (found, sync)
    }

    #[test]
    fn a_byte_that_is_missing_costs_the_packet_that_it_is_missing_from() {
        let mut bytes = stream(12);
        bytes.remove(4 * PACKET_BYTES + 50);
        let (found, sync) = read([&bytes[..]]);
        assert_eq!(found, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11], "packet 4 is one byte too long, and takes 5 with it");
        assert_eq!((sync.losses, sync.skipped), (1, 187));
    }

    #[test]
    fn a_stream_that_is_joined_in_the_middle_begins_at_the_next_packet() {
        let bytes = stream(5);
        assert_eq!(read([&bytes[100..]]).0, [1, 2, 3, 4]);
        let (found, sync) = read([&b"HTTP/1.1 200 OK\r\n\r\nG"[..], &bytes]);
        assert_eq!((found, sync.losses, sync.skipped), (vec![0, 1, 2, 3, 4], 1, 20));
    }

    #[test]
    fn what_is_no_stream_is_passed_over() {
        let bytes: Vec<u8> =
            (0..100_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()).collect();
        let (found, sync) = read([&bytes[..]]);
        assert_eq!(sync.skipped + (found.len() * PACKET_BYTES) as u64, bytes.len() as u64);
        assert!(found.len() < 10, "{} packets were seen in noise", found.len());
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_packets_are_the_same(
            cuts in proptest::collection::vec(1_usize..700, 1..40),
            broken in 0_usize..2000,
        ) {
            let mut bytes = stream(12);
            bytes.insert(broken, 0);
            let whole = read([&bytes[..]]);
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let cut = read(pieces);
            prop_assert_eq!(&cut.0, &whole.0);
            prop_assert_eq!((cut.1.losses, cut.1.skipped), (whole.1.losses, whole.1.skipped));
            prop_assert!(whole.0.len() >= 9, "{:?}", whole.0);
        }
    }
}
