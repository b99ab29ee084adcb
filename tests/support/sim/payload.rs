//! What a simulated frame carries: who made it and which it is, so that whoever gets it can say what is missing.

use bytes::{BufMut, Bytes, BytesMut};
use shardcast::media::FrameKind;

/// The first bytes of every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which publisher: an index into the book.
    pub publisher: u32,
    /// Its number for the frame, from 0.
    pub seq: u32,
    pub track: u8,
    pub kind: FrameKind,
    /// The version of the track's configuration that this frame needs, or is.
    pub version: u16,
}

pub const TAG_BYTES: usize = 16;

impl Tag {
    /// A payload of at least [`TAG_BYTES`].
    pub fn payload(self, len: usize) -> Bytes {
        let len = len.max(TAG_BYTES);
        let mut out = BytesMut::with_capacity(len);
        out.put_u32(self.publisher);
        out.put_u32(self.seq);
        out.put_u8(self.track);
        out.put_u8(self.kind as u8);
        out.put_u16(self.version);
        out.put_u32(u32::try_from(len).expect("frames are small"));
        out.resize(len, self.filler());
        if len > TAG_BYTES {
            // Recognisable at both ends.
            out[len - 1] = !self.filler();
        }
        out.freeze()
    }

    /// Reads a payload, if it is whole and nothing foreign is in it.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let head: &[u8; TAG_BYTES] = payload.first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let tag = Self {
            publisher: word(0),
            seq: word(4),
            track: head[8],
            kind: kind_of(head[9])?,
            version: u16::from_be_bytes([head[10], head[11]]),
        };
        let len = usize::try_from(word(12)).ok()?;
        let rest = &payload[TAG_BYTES..];
        let whole = len == payload.len()
            && rest.split_last().is_none_or(|(last, most)| {
                *last == !tag.filler() && most.iter().step_by(31).all(|byte| *byte == tag.filler())
            });
        whole.then_some(tag)
    }

    fn filler(self) -> u8 {
        let mixed = self.seq.wrapping_mul(37).wrapping_add(self.publisher.wrapping_mul(11));
        mixed.to_be_bytes()[3]
    }
}

pub fn kind_of(byte: u8) -> Option<FrameKind> {
    Some(match byte {
        0 => FrameKind::Key,
        1 => FrameKind::Delta,
        2 => FrameKind::Audio,
        3 => FrameKind::Config,
        4 => FrameKind::Data,
        _ => return None,
    })
}
