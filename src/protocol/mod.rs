//! The contract of a protocol, and the protocols that come with shardcast.
//!
//! A protocol has three layers: wire (bytes ↔ messages), session (what is legal now), packetizer (frame → bytes
//! that all players share). None of them sees a socket, a thread or a clock. The built-in ones use nothing but
//! this contract; a host's own protocol is one more implementation, registered on the builder.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "rtmp")]
pub mod rtmp;
#[cfg(any(feature = "http", feature = "rtmp"))]
mod wishes;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Instant, Now};
use crate::extension::Credentials;
use crate::id::StreamKey;
use crate::limits::Limits;
use crate::media::Frame;
pub use crate::media::{Merge, Start};
use crate::reason::Reason;

/// A protocol that a listener speaks. Shared by all shards.
pub trait Protocol: Send + Sync {
    /// Short lower-case name for records and metrics.
    fn name(&self) -> &'static str;

    /// A session for a connection that was just accepted.
    fn session(&self, context: SessionContext<'_>) -> Box<dyn Session>;

    /// A packetizer for one format of this protocol: see [`PlayRequest::format`].
    fn packetizer(&self, format: u32) -> Box<dyn Packetizer>;
}

/// What a session may know at its start.
#[derive(Clone, Copy, Debug)]
pub struct SessionContext<'a> {
    /// The peer's address.
    pub peer: SocketAddr,
    /// The bounds to keep.
    pub limits: &'a Limits,
    /// When it was accepted.
    pub now: Now,
    /// Random bits, for nonces: the session has no other source of chance.
    pub random: [u64; 4],
}

/// One connection's side of a protocol, sans-IO.
///
/// After every `handle`, `poll` is drained to `None`, and `deadline` is asked again. An `Err` ends the
/// connection: what `poll` still gives (an error reply, say) is sent before it is closed.
pub trait Session: Send {
    /// Takes one input.
    ///
    /// # Errors
    /// The reason to close the connection.
    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reason>;

    /// The next thing to do, until `None`.
    fn poll(&mut self) -> Option<Output>;

    /// When `handle` wants [`Input::Deadline`], and for what reason the connection would be closed then if the
    /// session does nothing about it.
    fn deadline(&self) -> Option<(Instant, Reason)>;

    /// Bytes on the heap that it holds besides its fixed size: unfinished messages, input that waits, tables that a
    /// peer can make it grow. An upper bound; what was told by [`Output::Buffer`] does not count again.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Bytes that it may allocate for the next input, besides what it holds and as much as that input has. An upper
    /// bound; what doubles when it is full may double.
    fn growth_bytes(&self) -> usize {
        self.held_bytes()
    }

    /// Whether the peer can be asked for a keyframe of what it publishes; if not, [`Input::KeyframeWanted`] never
    /// comes.
    fn can_ask_for_keyframes(&self) -> bool {
        true
    }
}

/// A session's own number for one of its streams (the RTMP message stream id).
pub type StreamHandle = u32;

/// What a session is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The peer's next bytes, in order and owned: a payload may be cut out of them without a copy. The session
    /// takes all of them and keeps what it can't use yet.
    Bytes(Bytes),
    /// The answer to [`Output::Publish`].
    Published(StreamHandle, Result<(), Reason>),
    /// The answer to [`Output::Play`]. Media follows at once, or when a publisher comes.
    Playing(StreamHandle, Result<(), Reason>),
    /// The player's stream ended; no media follows on this handle.
    Ended(StreamHandle, Reason),
    /// The publish ended by the router's will; what the peer still sends on it is ignored.
    Unpublished(StreamHandle, Reason),
    /// Everything up to the last [`Output::Share`] is with the peer's socket.
    Sent,
    /// Some viewer needs a keyframe of what is published on this handle, if the protocol can ask for one.
    KeyframeWanted(StreamHandle),
    /// [`Session::deadline`] is due.
    Deadline,
    /// The router closes the connection: last words may be sent.
    Closing(Reason),
}

/// What a session wants done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send these bytes, in order with all media that was handed to the peer before.
    Send(Bytes),
    /// Send these bytes, which others hold as well: they are no reply that counts, and may be many. Nothing more is read
    /// until they are with the socket, which [`Input::Sent`] tells; a session sets itself a deadline for that.
    Share(Bytes),
    /// The handshake is done: [`Limits::request_deadline`] takes the place of the handshake's. Said again, that begins
    /// anew: a protocol of many requests says so at each.
    Established,
    /// The peer wants to publish. Nothing more is read until [`Input::Published`] was handled.
    Publish(Box<PublishRequest>),
    /// The peer wants to play. Nothing more is read until [`Input::Playing`] was handled.
    Play(Box<PlayRequest>),
    /// A frame of a stream that is published on this handle.
    Frame(StreamHandle, Frame),
    /// Payloads of frames that follow are parts of a buffer that the session made, of so many bytes; here is one. The
    /// buffer counts as the router's memory until nobody holds any part of it. (What is cut out of [`Input::Bytes`]
    /// counts already.)
    Buffer(Bytes, usize),
    /// What is known of the stream, for people.
    Describe(StreamHandle, Box<Description>),
    /// The publisher's clock wrapped around, and was unwrapped: the frames that follow go on. Jumps are found by the
    /// stream.
    Wrapped(StreamHandle),
    /// The peer ended its publish.
    Unpublish(StreamHandle),
    /// The peer ended its play.
    Stop(StreamHandle),
    /// The player wants no media for a while (`true`), or again from the next keyframe (`false`).
    Pause(StreamHandle, bool),
    /// The player needs a keyframe.
    NeedKeyframe(StreamHandle),
    /// Close the connection in an orderly way when everything before is sent.
    Close(Reason),
}

/// A request to publish.
#[derive(Debug)]
pub struct PublishRequest {
    /// The session's own number for it.
    pub handle: StreamHandle,
    /// Under which name.
    pub key: StreamKey,
    /// What the peer has shown.
    pub credentials: Credentials,
}

/// A request to play.
#[derive(Debug)]
pub struct PlayRequest {
    /// The session's own number for it.
    pub handle: StreamHandle,
    /// Which stream.
    pub key: StreamKey,
    /// What the peer has shown.
    pub credentials: Credentials,
    /// Which of the protocol's formats: all players of one stream and format share their bytes. The protocol
    /// gives the number its meaning in [`Protocol::packetizer`].
    pub format: u32,
    /// How this player wants it.
    pub options: PlayOptions,
}

/// How one viewer wants a stream; what is `None` is as the application says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlayOptions {
    /// Where to start.
    pub start: Option<Start>,
    /// How frames are gathered into sends.
    pub merge: Option<Merge>,
    /// The farthest that this viewer may be behind.
    pub max_age: Option<Duration>,
}

/// What a publisher says of its stream. Hostile until shown otherwise: for display, never for arithmetic.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// Frames per second.
    pub frame_rate: Option<f64>,
    /// Video bits per second.
    pub video_bitrate: Option<f64>,
    /// Audio bits per second.
    pub audio_bitrate: Option<f64>,
    /// Samples per second.
    pub sample_rate: Option<f64>,
    /// Audio channels.
    pub channels: Option<u8>,
    /// The encoder's name, cut to 255 bytes.
    pub encoder: Option<Box<str>>,
}

/// Turns a frame into the bytes of one format, once per stream and shard: every player of the format shares them.
///
/// It is called in the order of the stream, starting at the keyframe of the first player.
pub trait Packetizer: Send {
    /// The bytes of one frame, or `None` if this format does not carry it.
    fn packetize(&mut self, frame: &Frame) -> Option<Packet>;
}

/// A frame's bytes in one format: header, then body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What goes before the body.
    pub head: Head,
    /// The body.
    pub body: Body,
}

/// The body of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The frame's payload as it is.
    Payload,
    /// The frame's payload, with `separator` before each further `every` bytes. The first stretch has `first`
    /// bytes (the head holds the beginning of the first chunk).
    Chunked {
        /// Payload bytes before the first separator.
        first: u32,
        /// Payload bytes between two separators; at least [`SEPARATED_BYTES_MIN`].
        every: u32,
        /// What stands between.
        separator: Head,
    },
    /// The frame's payload, and a few bytes behind it.
    Closed {
        /// What stands behind.
        tail: [u8; 4],
    },
    /// Bytes of the format's own making.
    Own(Bytes),
}

/// Least distance of two separators in [`Body::Chunked`]: bounds the slices of one frame.
pub const SEPARATED_BYTES_MIN: u32 = 64 * 1024;

/// A few header bytes, held in place: no allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl Head {
    /// Bytes that fit.
    pub const CAPACITY: usize = 39;

    /// A header of these bytes.
    ///
    /// # Panics
    /// If there are more than [`Head::CAPACITY`]: the caller's mistake, headers have a fixed size.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut out = Self { bytes: [0; Self::CAPACITY], len: 0 };
        for part in parts {
            out.push(part);
        }
        out
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn push(&mut self, part: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.len += u8::try_from(part.len()).expect("fits, it was copied into 39 bytes");
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({:02x?})", self.as_slice())
    }
}
