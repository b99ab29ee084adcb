//! Publishers that are no connection: files, pipes, MPEG-TS over UDP, and the demo that is built in.
//!
//! [`FileSource`] reads FLV, MPEG-TS and MP4 by what is in them and gives frames in order of decoding time, again and
//! again if it is to loop; [`feed`](feed()) sends them in real time to an [`Outlet`]. [`Feed`] does that on a thread of
//! its own for a router of this process, [`TsReceiver`] the same for datagrams. `push` is the other way out: a client
//! that publishes to a server over RTMP.
//!
//! All of it is a host's: it uses [`Publisher`](crate::router::Publisher) as any program could, and no shard waits for
//! it. Left out: metadata of files (`onMetaData` tells of a length and of places that a loop does not have), the samples
//! that a fragmented MP4 file may have in its movie box, M2TS, and forward error correction of datagrams.

#![forbid(unsafe_code)]

mod datagram;
mod demo;
mod demux;
mod feed;
mod input;
mod interleave;
mod pacer;
mod receiver;
mod sniff;
mod source;

#[cfg(feature = "rtmp")]
pub mod push;

#[cfg(test)]
mod tests;

use std::io;

pub use demo::demo;
pub use feed::{Feed, FeedError, Outlet, Sent, Stop, feed};
pub use pacer::Pacer;
pub use receiver::{TsAddress, TsCounters, TsReceiver};
pub use source::{FileSource, Next};

use crate::container::flv::FlvError;
use crate::container::fmp4::{Mp4Error, ReadError};
use crate::reason::Reason;

/// Why a source gives no more frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The system says so.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// What is in it is not known.
    #[error("it is neither FLV nor MPEG-TS nor MP4")]
    Unknown,
    /// MP4 that is not fragmented is read here and there.
    #[error(
        "it is MP4 that is not fragmented, which cannot come from a pipe: give the file, or write FLV, MPEG-TS or fragmented MP4"
    )]
    NotSeekable,
    /// A pipe has no beginning to return to.
    #[error("a pipe cannot be looped")]
    NotLooped,
    /// No frame of a codec that is known.
    #[error("it has no frame that could be published")]
    Empty,
    /// It is no FLV, or more than may be.
    #[error("{0}")]
    Flv(#[from] FlvError),
    /// It is no MP4, or more than may be.
    #[error("{0}")]
    Mp4(#[from] Mp4Error),
}

impl From<ReadError> for SourceError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            ReadError::Mp4(error) => Self::Mp4(error),
        }
    }
}

/// What happens to a publisher with a thread of its own.
#[derive(Debug)]
#[non_exhaustive]
pub enum IngestEvent {
    /// It publishes.
    Began,
    /// The router does not let it, now.
    Refused(Reason),
    /// The router ended the publish. It is tried again, unless somebody wanted that.
    Ended(Reason),
    /// Nothing came for [`INGEST_SILENCE`](crate::limits::INGEST_SILENCE): the publish ended until something does.
    Silent,
    /// The source has ended, and the publish with it.
    Finished,
    /// The source cannot be read on: it is over.
    Failed(SourceError),
}
