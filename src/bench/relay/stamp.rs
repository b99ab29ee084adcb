//! What each frame says about itself, so that any server can be judged at its far end.
//!
//! A stamp is the frame's stream and number, the time it was due, the time it was sent and a checksum over these and
//! the body behind it. Every stamp byte has its top bit set, so it never forms a start code inside a NAL unit.

/// Marks a stamp: the uuid of the SEI message in video, the first bytes of the data element in audio.
pub(crate) const UUID: [u8; 16] = *b"\xd5\x8fshardcast-sei\xa7";
/// Digits of seven bits for each of five numbers.
pub(crate) const STAMP_LEN: usize = 5 * NUMBER_LEN;

const NUMBER_LEN: usize = 10;

/// A frame's own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which of the run's streams it belongs to.
    pub(crate) stream: u32,
    /// Counts the frames of one track from 0.
    pub(crate) index: u64,
    /// When the schedule wanted it sent; see [`super::timing::Timing::now`].
    pub(crate) due: u64,
    /// When it was handed to the socket.
    pub(crate) sent: u64,
    /// Over the above and the body.
    pub(crate) check: u32,
}

impl Stamp {
    /// The stamp of a frame whose body has the checksum `body`.
    pub(crate) fn new(stream: u32, index: u64, due: u64, sent: u64, body: u32) -> Self {
        let stamp = Self { stream, index, due, sent, check: 0 };
        Self { check: stamp.checked_with(body), ..stamp }
    }

    /// Whether a body of this checksum belongs to this stamp.
    pub(crate) fn fits(&self, body: u32) -> bool {
        self.check == self.checked_with(body)
    }

    /// Appends the wire form.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for number in [u64::from(self.stream), self.index, self.due, self.sent, u64::from(self.check)] {
            out.extend((0..NUMBER_LEN).map(|i| 0x80 | (number >> (7 * i) & 0x7f).to_le_bytes()[0]));
        }
    }

    /// Reads the wire form; `None` if it is cut or was never one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..STAMP_LEN)?;
        if bytes.iter().any(|byte| byte & 0x80 == 0) {
            return None;
        }
        let mut numbers = bytes.chunks_exact(NUMBER_LEN).map(|digits| {
            digits.iter().enumerate().fold(0, |sum, (i, digit)| sum | u64::from(digit & 0x7f) << (7 * i))
        });
        Some(Self {
            stream: u32::try_from(numbers.next()?).ok()?,
            index: numbers.next()?,
            due: numbers.next()?,
            sent: numbers.next()?,
            check: u32::try_from(numbers.next()?).ok()?,
        })
    }

    fn checked_with(&self, body: u32) -> u32 {
        let mut sum = crc32fast::Hasher::new_with_initial(body);
        sum.update(&self.stream.to_le_bytes());
        for number in [self.index, self.due, self.sent] {
            sum.update(&number.to_le_bytes());
        }
        sum.finalize()
    }
}

/// CRC-32, continued over the pieces of a body as they arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Of one piece.
    pub(crate) fn of(bytes: &[u8]) -> u32 {
        let mut sum = Self::default();
        sum.add(bytes);
        sum.value()
    }

    /// Takes in the next piece.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum so far.
    pub(crate) fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_wire_form_and_fits_only_its_own_body() {
        let stamp = Stamp::new(u32::MAX, 7, u64::MAX, 1 << 62, 0xdead_beef);
        let mut wire = Vec::new();
        stamp.write(&mut wire);
        assert_eq!((wire.len(), Stamp::read(&wire)), (STAMP_LEN, Some(stamp)));
        assert!(stamp.fits(0xdead_beef) && !stamp.fits(0xdead_beee));
        assert_eq!(Stamp::read(&wire[1..]), None, "cut");
        wire[20] &= 0x7f;
        assert_eq!(Stamp::read(&wire), None, "never one");
    }

    #[test]
    fn a_changed_number_does_not_fit() {
        let good = Stamp::new(1, 2, 3, 4, 5);
        for bad in [
            Stamp { stream: 2, ..good },
            Stamp { index: 3, ..good },
            Stamp { due: 4, ..good },
            Stamp { sent: 5, ..good },
            Stamp { check: good.check ^ 1, ..good },
        ] {
            assert!(!bad.fits(5), "{bad:?}");
        }
    }

    #[test]
    fn pieces_sum_to_the_same_as_the_whole() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut pieces = Checksum::default();
        bytes.chunks(7).for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.value(), Checksum::of(&bytes));
    }
}
