//! RTMP: publish and play, Adobe RTMP 1.0 and Enhanced RTMP v2 (veovera).
//!
//! Wire: [`handshake`] (plain and digest), [`chunk`] (chunks ↔ messages), [`amf`] (AMF0), [`message`] (messages by
//! type); the tags in them are those of [`flv`](crate::container::flv), legacy and enhanced. Session: `session` and
//! `command` know what is legal now, `publish` turns media into frames, `address` reads URLs. Packetizer: frames →
//! messages that all players of a format share. [`client`]: what the other side says, for those who publish and play.
//!
//! A publisher's codec payload is cut out of its message behind the tag header. Sequence headers and
//! `onMetaData` become [`FrameKind::Config`](crate::media::FrameKind::Config) frames with small payloads of their
//! own. Of MP3, G.711, Speex and PCM the first byte of the FLV tag (rate, size, channels) becomes a configuration
//! of one byte, because nothing else tells it; the packetizer puts it back. Colour metadata and channel mappings
//! travel as [`FrameKind::Data`](crate::media::FrameKind::Data) on their track. Enhanced multitrack: the default
//! tracks are those of every protocol, video n > 0 is track 2n + 1 and audio n is track 2n + 2 where these exist.
//!
//! A viewer may add to the name: `token`, `user`, `password` (also `user:password@` before the host),
//! `start=instant`, `start=live`, `start=catch-up` or `behind_ms=30000` ([`Start`](crate::media::Start)),
//! `merge_ms=50`, `max_age_ms=800`, and `multitrack=1` for a player that knows multitrack without saying so.
//!
//! Left out, and why: RTMPE (broken since 2009; RTMPS is TLS in front) and RTMPT (no client left); AMF3 beyond
//! simple values and shared objects (Flash applications); seek, play2, recorded streams (this is a live router);
//! nanosecond offsets on the way to players (no player reads them); AV1 in MPEG-2 TS form (no encoder sends it).

pub mod amf;
pub mod chunk;
pub mod client;
pub mod handshake;
pub mod message;

mod address;
mod command;
mod flv;
mod gather;
mod packetizer;
mod publish;
mod session;

#[cfg(test)]
mod tests;

pub use flv::frames_of_flv;

use super::{Packetizer, Protocol, Session, SessionContext};

/// The RTMP protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtmp;

impl Protocol for Rtmp {
    fn name(&self) -> &'static str {
        "rtmp"
    }

    fn session(&self, context: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(session::RtmpSession::new(context))
    }

    /// `format` is the message stream id, shifted left by one, and whether the player knows multitrack.
    fn packetizer(&self, format: u32) -> Box<dyn Packetizer> {
        Box::new(packetizer::RtmpPacketizer::new(packetizer::Format::from_number(format)))
    }
}
