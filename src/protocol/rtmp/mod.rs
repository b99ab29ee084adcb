//! RTMP: publish and play.

pub mod amf;
pub mod chunk;
pub mod handshake;
pub mod message;

mod gather;
