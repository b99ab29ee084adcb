//! Bytes to frames and back: what protocols and recorders share.
//!
//! Each container is a folder. A muxer writes headers and leaves payloads where they are; a demuxer is given bytes as
//! they come and yields tracks and frames. Neither sees a socket, a file or a clock.

pub mod flv;
#[cfg(feature = "media")]
pub mod fmp4;
#[cfg(feature = "media")]
pub mod mpegts;
