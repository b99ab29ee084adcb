//! Frames → tags.

use bytes::{BufMut, Bytes, BytesMut};

use super::head::{TAG_HEAD_BYTES_MAX, TagHeads, timestamp};
use super::{AUDIO, FILE_HEADER_BYTES, SCRIPT, TAG_BYTES_MAX, TAG_HEADER_BYTES, VIDEO};
use crate::media::{Frame, Media};

/// The begin of a file, up to the first tag: its header, and that no tag was before.
#[must_use]
pub fn file_header(video: bool, audio: bool) -> [u8; FILE_HEADER_BYTES + 4] {
    let has = u8::from(audio) << 2 | u8::from(video);
    [b'F', b'L', b'V', 1, has, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// One tag: its header, the frame's payload as it is, and its length, which stands before the next tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlvTag {
    head: [u8; TAG_HEADER_BYTES + TAG_HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What follows [`FlvTag::head`].
    pub payload: Bytes,
    /// What follows the payload.
    pub length: [u8; 4],
}

impl FlvTag {
    /// The header, and the header of the body.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head.get(..self.head_bytes).unwrap_or_default()
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.head_bytes + self.payload.len() + 4);
        out.put_slice(self.head());
        out.put_slice(&self.payload);
        out.put_slice(&self.length);
        out.freeze()
    }
}

/// Writes the tags of one file.
#[derive(Clone, Debug)]
pub struct Writer {
    heads: TagHeads,
}

impl Writer {
    /// `multitrack`: whether readers know the multitrack of Enhanced RTMP; else only the main tracks are written.
    #[must_use]
    pub const fn new(multitrack: bool) -> Self {
        Self { heads: TagHeads::new(multitrack) }
    }

    /// The tag of a frame; `None` if FLV has none for it, or if it is longer than [`TAG_BYTES_MAX`].
    pub fn write(&mut self, frame: &Frame) -> Option<FlvTag> {
        let tag_head = self.heads.head(frame)?;
        if frame.payload.is_empty() {
            return None;
        }
        let tag_head = tag_head.as_slice();
        let body = u32::try_from(frame.payload.len() + tag_head.len()).ok().filter(|body| *body <= TAG_BYTES_MAX)?;
        let kind = match frame.codec.media() {
            Media::Audio => AUDIO,
            Media::Video => VIDEO,
            Media::Data => SCRIPT,
        };
        let [_, s2, s1, s0] = body.to_be_bytes();
        let [t3, t2, t1, t0] = timestamp(frame).to_be_bytes();
        let mut head = [0; TAG_HEADER_BYTES + TAG_HEAD_BYTES_MAX];
        let tag_header: [u8; TAG_HEADER_BYTES] = [kind, s2, s1, s0, t2, t1, t0, t3, 0, 0, 0];
        let parts = tag_header.iter().chain(tag_head);
        head.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
        let head_bytes = TAG_HEADER_BYTES + tag_head.len();
        let length = (body + 11).to_be_bytes();
        Some(FlvTag { head, head_bytes, payload: frame.payload.clone(), length })
    }
}
