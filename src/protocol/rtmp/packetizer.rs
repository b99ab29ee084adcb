//! Frames → messages that all players of a format share.
//!
//! Every message has a full header with the absolute timestamp, so nothing depends on what a player got before.
//! What stands before a payload is that of an FLV tag. No allocation.

use super::chunk::{MESSAGE_LENGTH_MAX, TIMESTAMP_EXTENDED, be24};
use super::message::{AUDIO, CSID_AUDIO, CSID_DATA, CSID_VIDEO, DATA, VIDEO};
use crate::container::flv::{TAG_HEAD_BYTES_MAX, TagHeads, timestamp};
use crate::media::{Frame, Media};
use crate::protocol::{Body, Head, Packet, Packetizer, SEPARATED_BYTES_MIN};

/// Our chunk size: one header per message, save for key frames of more than a mebibyte.
pub(super) const CHUNK_SIZE: u32 = 1024 * 1024;

/// Chunk header, then the head of the tag: a type-0 header with an extended timestamp, then what FLV has.
const HEAD_BYTES_MAX: usize = (1 + 11 + 4) + TAG_HEAD_BYTES_MAX;

const _: () = assert!(HEAD_BYTES_MAX <= Head::CAPACITY);
const _: () = assert!(CHUNK_SIZE as usize - HEAD_BYTES_MAX >= SEPARATED_BYTES_MIN as usize);

/// How a player wants its messages: the number that travels as the `format` of a play request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// The message stream id of the player's stream: below 2³¹.
    pub(super) stream: u32,
    /// Whether the player knows multitrack; one that does not gets tracks 0, 1 and 2.
    pub(super) multitrack: bool,
}

impl Format {
    pub(super) const fn to_number(self) -> u32 {
        self.stream << 1 | self.multitrack as u32
    }

    pub(super) const fn from_number(number: u32) -> Self {
        Self { stream: number >> 1, multitrack: number & 1 == 1 }
    }
}

/// The packetizer of one format.
#[derive(Debug)]
pub(super) struct RtmpPacketizer {
    stream: u32,
    heads: TagHeads,
}

impl RtmpPacketizer {
    pub(super) const fn new(format: Format) -> Self {
        Self { stream: format.stream, heads: TagHeads::new(format.multitrack) }
    }
}

impl Packetizer for RtmpPacketizer {
    fn packetize(&mut self, frame: &Frame) -> Option<Packet> {
        let tag = self.heads.head(frame)?;
        let tag = tag.as_slice();
        if frame.payload.is_empty() {
            return None;
        }
        let payload = u32::try_from(frame.payload.len()).ok()?;
        let tag_bytes = u32::try_from(tag.len()).ok()?;
        let length = payload.checked_add(tag_bytes).filter(|length| *length <= MESSAGE_LENGTH_MAX)?;
        let (csid, kind) = match frame.codec.media() {
            Media::Audio => (CSID_AUDIO, AUDIO),
            Media::Video => (CSID_VIDEO, VIDEO),
            Media::Data => (CSID_DATA, DATA),
        };
        let csid = csid.to_be_bytes()[3];

        let timestamp = timestamp(frame);
        let field = timestamp.min(TIMESTAMP_EXTENDED);
        let extended = timestamp.to_be_bytes();
        let extended: &[u8] = if field == TIMESTAMP_EXTENDED { &extended } else { &[] };
        let head =
            Head::new(&[&[csid], &be24(field), &be24(length), &[kind], &self.stream.to_le_bytes(), extended, tag]);
        let body = if length <= CHUNK_SIZE {
            Body::Payload
        } else {
            let separator = Head::new(&[&[0xC0 | csid], extended]);
            Body::Chunked { first: CHUNK_SIZE - tag_bytes, every: CHUNK_SIZE, separator }
        };
        Some(Packet { head, body })
    }
}
