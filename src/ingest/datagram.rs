//! What a datagram of MPEG-TS holds: packets as they are, or behind a header of RTP (RFC 3550, RFC 2250, section 2).

use crate::container::mpegts::PACKET_BYTES;

/// A datagram, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    /// The sequence number, if RTP is around it.
    pub(super) sequence: Option<u16>,
    /// Packets of MPEG-TS.
    pub(super) packets: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// None if it is neither of the two.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let is_ts = |bytes: &[u8]| bytes.first() == Some(&SYNC) && bytes.len() >= PACKET_BYTES;
        if is_ts(bytes) {
            return Some(Self { sequence: None, packets: bytes });
        }
        let (&[first, kind, s1, s0, ..], _) = bytes.split_first_chunk::<RTP_HEADER_BYTES>()?;
        if first >> 6 != 2 || kind & 0x7F != PAYLOAD_TYPE_MP2T {
            return None;
        }
        let sources = usize::from(first & 0x0F) * 4;
        let mut packets = bytes.get(RTP_HEADER_BYTES + sources..)?;
        if first & 0x10 != 0 {
            let (&[_, _, l1, l0], rest) = packets.split_first_chunk()?;
            packets = rest.get(usize::from(u16::from_be_bytes([l1, l0])) * 4..)?;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*packets.last()?);
            packets = packets.get(..packets.len().checked_sub(padding)?)?;
        }
        is_ts(packets).then(|| Self { sequence: Some(u16::from_be_bytes([s1, s0])), packets })
    }
}

/// Counts what is missing between sequence numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence(Option<u16>);

impl Sequence {
    /// How many datagrams are missing before this one. One that is late or comes twice is not, and moves nothing.
    pub(super) fn missing(&mut self, number: u16) -> u64 {
        let ahead = self.0.map_or(1, |last| number.wrapping_sub(last));
        if ahead == 0 || ahead > u16::MAX / 2 {
            return 0;
        }
        self.0 = Some(number);
        u64::from(ahead - 1)
    }
}

const SYNC: u8 = 0x47;
const RTP_HEADER_BYTES: usize = 12;
/// RFC 3551, section 6.
const PAYLOAD_TYPE_MP2T: u8 = 33;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Vec<u8> {
        let mut packet = vec![0; PACKET_BYTES];
        packet[0] = SYNC;
        packet
    }

    fn rtp(first: u8, more: &[u8], behind: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | 33, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2], more, &packet(), behind].concat()
    }

    #[test]
    fn packets_are_found_with_and_without_rtp() {
        let packet = packet();
        assert_eq!(Datagram::read(&packet), Some(Datagram { sequence: None, packets: &packet }));
        for bytes in [
            rtp(0x80, &[], &[]),
            rtp(0x82, &[9; 8], &[]),
            rtp(0x90, &[0, 0, 0, 1, 5, 5, 5, 5], &[]),
            rtp(0xA0, &[], &[0, 0, 0, 4]),
        ] {
            assert_eq!(Datagram::read(&bytes), Some(Datagram { sequence: Some(0x1234), packets: &packet }));
        }
        let mut other = rtp(0x80, &[], &[]);
        other[1] = 96;
        assert_eq!(Datagram::read(&other), None);
        assert_eq!(Datagram::read(b"hello"), None);
    }

    #[test]
    fn gaps_are_counted_over_the_wrap_and_disorder_is_none() {
        let mut sequence = Sequence::default();
        let missing = [65_534, 65_535, 2, 1, 3, 3, 10].map(|number| sequence.missing(number));
        assert_eq!(missing, [0, 0, 2, 0, 0, 0, 6]);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(datagram) = Datagram::read(&bytes) {
                prop_assert!(datagram.packets.len() <= bytes.len() && datagram.packets[0] == SYNC);
            }
        }
    }
}
