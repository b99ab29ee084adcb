//! What each frame says about itself, so that any server can be judged at its far end.
//!
//! A stamp is the frame's number, the time it was due, the time it was sent and a checksum over these and the
//! body behind it. Every stamp byte has its top bit set, so it never forms a start code inside a NAL unit.

/// Marks a stamp: the uuid of the SEI message in video, and its tail in audio.
pub(crate) const UUID: [u8; 16] = *b"\xd5\x8fshardcast-sei\xa7";
/// Ten bytes of seven bits for each of four numbers.
pub(crate) const STAMP_LEN: usize = 4 * NUMBER_LEN;

const NUMBER_LEN: usize = 10;

/// A frame's own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Counts the frames of one track from 0.
    pub(crate) index: u64,
    /// When the schedule wanted it sent; see [`super::timing::Timing::now`].
    pub(crate) due: u64,
    /// When it was handed to the socket.
    pub(crate) sent: u64,
    /// [`check`] of the above and of the body.
    pub(crate) check: u64,
}

impl Stamp {
    /// The stamp of a frame whose body has the hash `body`.
    pub(crate) fn new(index: u64, due: u64, sent: u64, body: u64) -> Self {
        Self { index, due, sent, check: check(index, due, sent, body) }
    }

    /// Whether a body of this hash belongs to this stamp.
    pub(crate) fn fits(&self, body: u64) -> bool {
        self.check == check(self.index, self.due, self.sent, body)
    }

    /// Appends the wire form.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for number in [self.index, self.due, self.sent, self.check] {
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
        Some(Self { index: numbers.next()?, due: numbers.next()?, sent: numbers.next()?, check: numbers.next()? })
    }
}

/// FNV-1a, continued over the pieces of a body as they arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(pub(crate) u64);

impl Fnv {
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Takes in the next piece.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn check(index: u64, due: u64, sent: u64, body: u64) -> u64 {
    let mut hash = Fnv(body);
    for number in [index, due, sent] {
        hash.add(&number.to_le_bytes());
    }
    hash.0
}
