//! FLV (Adobe FLV 10.1, annex E, and Enhanced RTMP v2): files, and the tags that RTMP has in its messages.
//!
//! [`Reader`] takes a file as it comes and gives tracks and frames, [`Writer`] makes tags of frames. What RTMP shares
//! with them is here: the bodies of audio and video tags, taken apart (`tag`) and put together (`head`), and the frames
//! that they become (`assembler`).
//!
//! Left out: encrypted tags and the index of a file (`keyframes` of `onMetaData`), which is metadata like any other.

mod assembler;
mod head;
mod reader;
pub(crate) mod tag;
pub(crate) mod track;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use assembler::{Assembler, Made};
#[cfg(feature = "rtmp")]
pub(crate) use head::{TAG_HEAD_BYTES_MAX, TagHeads, timestamp};
pub use reader::{Event, Reader, Tag, TagReader};
pub use writer::{FlvTag, Writer, file_header};

use crate::media::Media;

/// Tag type: audio.
pub const AUDIO: u8 = 8;
/// Tag type: video.
pub const VIDEO: u8 = 9;
/// Tag type: script data.
pub const SCRIPT: u8 = 18;
/// Bytes of the body of a tag at most: its length has 24 bits.
pub const TAG_BYTES_MAX: u32 = 0x00FF_FFFF;

/// Bytes of the header of a file.
const FILE_HEADER_BYTES: usize = 9;
/// Bytes of the header of a tag.
const TAG_HEADER_BYTES: usize = 11;

/// What is wrong with a file or a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// It does not begin with `FLV`, version 1, and the place of the first tag.
    #[error("the bytes are no FLV file")]
    Header,
    /// The tag ends within the header of its body.
    #[error("the tag ends within its header")]
    TagEnd,
    /// Enhanced RTMP does not allow it.
    #[error("multitrack within multitrack")]
    Nested,
    /// A packet type that no specification has.
    #[error("unknown packet type")]
    PacketType(Media),
    /// A codec that is not read.
    #[error("unknown codec")]
    Codec(Media),
    /// More than [`TRACKS_MAX`](crate::limits::TRACKS_MAX).
    #[error("too many tracks")]
    Tracks,
    /// More than [`CONFIG_BYTES_MAX`](crate::limits::CONFIG_BYTES_MAX).
    #[error("a decoder configuration record or metadata is too long")]
    ConfigBytes,
}
