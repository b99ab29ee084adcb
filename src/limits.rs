//! Every bound by name: what it protects, its default, and the reason that whoever exceeds it is given.
//!
//! [`Limits`] are a router's, set on the builder. The constants are structural: sizes of rings and buffers that
//! the rest of the code is laid out for.

use std::fmt;
use std::time::Duration;

/// Bytes of `application/name`.
pub const NAME_BYTES_MAX: usize = 255;
/// Tracks of one stream: their set fits a `u16`.
pub const TRACKS_MAX: usize = 16;
/// Bytes of a decoder configuration record or of metadata: it is kept as long as its stream.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Facts about one publisher's clock in a minute: one that jumps to and fro does not fill the audit trail. The rest is
/// counted in the next.
pub const CLOCK_FACTS_PER_MINUTE: u32 = 6;
/// Publishers that stand by for one stream: each has a GOP in memory.
pub const STANDBYS_MAX: usize = 3;
/// Bytes of a loop that is shown while nobody publishes: it is in memory once.
pub const FILLER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Frames of such a loop: half an hour and more.
pub const FILLER_FRAMES_MAX: usize = 200_000;
/// Time between two keyframe requests to one publisher, however many viewers want one.
pub const KEYFRAME_REQUESTS_APART: Duration = Duration::from_millis(500);
/// Formats and ways of merging that the subscribers of one stream may use on one shard.
pub const GROUPS_MAX: usize = 64;
/// Shards of one router.
pub const SHARDS_MAX: usize = 256;

/// Messages in the ring of an ordered pair of shards: 64 KiB of slots.
pub const PEER_RING_SLOTS: usize = 1024;
/// Messages in the ring between a host's publisher or subscriber and its shard, unless the host says otherwise.
pub const HOST_RING_SLOTS: usize = 256;
/// Slots of a host's ring at least: two of a subscriber's are kept for the marks at its end.
pub const HOST_RING_SLOTS_MIN: usize = 4;
/// Slots of a host's ring at most.
pub const HOST_RING_SLOTS_MAX: usize = 65_536;
/// Commands from other threads that wait for a shard.
pub const COMMANDS_MAX: usize = 4096;
/// Control messages that wait for room in a peer's ring: each stream has at most a few under way.
pub const CONTROL_BACKLOG_MAX: usize = 65_536;

/// Bytes of the arena that sockets are read into; a frame that is kept pins its arena.
pub const ARENA_BYTES: usize = 256 * 1024;
/// Least room that a read is offered; with less the next arena is begun.
pub const READ_BYTES_MIN: usize = 16 * 1024;
/// Most that is read of one connection in one turn, so that no publisher starves its neighbours.
pub const READ_BYTES_PER_TURN: usize = 128 * 1024;
/// Most that is read of all connections in one turn, so that a crowd of them does not either: with the budgets of egress,
/// a turn takes about a millisecond at most. Each read counts as [`CALL_PRICE_BYTES`] more.
pub const INGRESS_BYTES_PER_TURN: u64 = 512 * 1024;
/// What a system call costs, in bytes that the kernel copies meanwhile.
pub const CALL_PRICE_BYTES: usize = 4 * 1024;
/// Connections accepted in one turn by one listener: fewer than what is read of them in a turn, or they would pile up.
pub const ACCEPTS_PER_TURN: usize = 8;
/// Messages taken from one peer's ring in one turn.
pub const MAILBOX_PER_TURN: usize = 512;
/// Frames taken from one host publisher in one turn.
pub const HOST_FRAMES_PER_TURN: usize = 256;
/// Commands taken in one turn.
pub const COMMANDS_PER_TURN: usize = 256;
/// Bytes sent to those at the live edge in one turn, before ingress has its turn again. Each send counts as
/// [`CALL_PRICE_BYTES`] more.
pub const EDGE_BYTES_PER_TURN: usize = 2 * 1024 * 1024;
/// Of these, for one stream before the next has its turn.
pub const EDGE_BYTES_PER_ROUND: usize = 1024 * 1024;
/// Slices of one `sendmsg`.
pub const SLICES_PER_SEND: usize = 64;
/// Bytes of one send: a longer frame is sent in pieces.
pub const SEND_BYTES_MAX: usize = 256 * 1024;
/// Bytes that one subscriber who is behind is sent in one turn, and the rest of a frame: a joiner delays nobody.
pub const CATCH_UP_BYTES_PER_TURN: usize = 128 * 1024;
/// The same for all who are behind: a crowd of joiners does not either. Each send counts as [`CALL_PRICE_BYTES`] more.
pub const BEHIND_BYTES_PER_TURN: u64 = 256 * 1024;
/// Bytes that may wait in a viewer's socket to be sent, at least: a few frames of a stream of sound.
pub const UNSENT_BYTES_MIN: u32 = 4 * 1024;
/// Bytes that may wait in a viewer's socket to be sent, at most: a keyframe of any usual stream.
pub const UNSENT_BYTES_MAX: u32 = 1024 * 1024;
/// Sockets of a stream's viewers that are bounded anew at one frame, when the pace of the stream has changed.
pub const UNSENT_BOUNDS_PER_FRAME: usize = 256;
/// Events that `Poll` reports at once.
pub const POLL_EVENTS: usize = 1024;

/// One frame in so many of each stream is timed on its way, unless the host says otherwise.
pub const SAMPLE_EVERY: u32 = 64;
/// Timed frames of one stream and shard that are known until somebody has accepted them.
pub const TIMED_FRAMES_MAX: usize = 64;
/// Deliveries of a timed frame that share one look at the clock: its ages are too long by so many sends at most.
pub const TIMED_TOGETHER: usize = 16;
/// Streams that a shard tells of in one answer, so that a look at all of them delays nobody.
pub const SURVEY_STREAMS: usize = 64;

/// Bounds of one router. Every field has a default that suits a server of a few thousand players.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of the router, publishers and players together.
    pub connections: usize,
    /// Live publishers of the router.
    pub publishers: usize,
    /// Streams of the router, those that players wait for included.
    pub streams: usize,
    /// Subscribers of one stream on all shards together, roughly: each shard allows its share.
    pub subscribers_per_stream: usize,
    /// Connections of one peer address.
    pub connections_per_address: usize,
    /// New connections per second of the router, over a burst of one second.
    pub accepts_per_second: u32,
    /// From the accept to the end of the protocol's handshake, however many bytes trickle in.
    pub handshake_deadline: Duration,
    /// From the handshake to the first publish or play.
    pub request_deadline: Duration,
    /// Silence of a publisher before it is taken for dead.
    pub publisher_idle: Duration,
    /// How long the last bytes of a closing connection may take.
    pub close_deadline: Duration,
    /// How long an authenticator may take: unanswered is denied.
    pub auth_deadline: Duration,
    /// Bytes that a peer may send before its handshake is done, and that are held of one message, or of unfinished
    /// ones together, before it is let in to publish.
    pub handshake_bytes: usize,
    /// Streams of one connection, publishing and playing together.
    pub streams_per_connection: usize,
    /// One message or frame.
    pub message_bytes: usize,
    /// Bytes of unfinished messages of one connection.
    pub partial_bytes: usize,
    /// Chunk streams of one RTMP connection with an unfinished message.
    pub chunk_streams: usize,
    /// Chunk headers per second of one RTMP connection: the work that tiny chunks cause.
    pub chunk_headers_per_second: u32,
    /// Commands and control messages per second of one connection.
    pub commands_per_second: u32,
    /// Bytes of replies that wait for a peer that does not read.
    pub reply_bytes: usize,
    /// Bytes per second of one connection, `None` for no limit.
    pub bytes_per_second: Option<u64>,
    /// Bits per second of one publisher's media, `None` for no limit.
    pub publisher_bitrate: Option<u64>,
    /// Subscribers of the host (in-process) on the router.
    pub host_subscribers: usize,
    /// Events that wait for one receiver.
    pub events: usize,
    /// Audit records that wait for the writer.
    pub audit_records: usize,
    /// A shard that does not finish its turn for so long is reported as hanging.
    pub shard_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            publishers: 10_000,
            streams: 20_000,
            subscribers_per_stream: 50_000,
            connections_per_address: 65_536,
            accepts_per_second: 20_000,
            handshake_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(60),
            publisher_idle: Duration::from_secs(30),
            close_deadline: Duration::from_secs(2),
            auth_deadline: Duration::from_secs(2),
            handshake_bytes: 64 * 1024,
            streams_per_connection: 16,
            message_bytes: 16 * 1024 * 1024,
            partial_bytes: 24 * 1024 * 1024,
            chunk_streams: 64,
            chunk_headers_per_second: 500_000,
            commands_per_second: 500,
            reply_bytes: 64 * 1024,
            bytes_per_second: None,
            publisher_bitrate: None,
            host_subscribers: 16_384,
            events: 1024,
            audit_records: 8192,
            shard_stall: Duration::from_secs(5),
        }
    }
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::connections`].
    Connections,
    /// [`Limits::publishers`].
    Publishers,
    /// [`Limits::streams`].
    Streams,
    /// [`Limits::subscribers_per_stream`] or [`Limits::host_subscribers`].
    Subscribers,
    /// [`Limits::connections_per_address`].
    ConnectionsPerAddress,
    /// [`Limits::accepts_per_second`].
    AcceptRate,
    /// File descriptors of the process.
    Descriptors,
    /// [`Limits::handshake_bytes`].
    HandshakeBytes,
    /// [`Limits::streams_per_connection`].
    StreamsPerConnection,
    /// [`Limits::message_bytes`].
    MessageBytes,
    /// [`Limits::partial_bytes`].
    PartialBytes,
    /// [`Limits::chunk_streams`].
    ChunkStreams,
    /// [`Limits::chunk_headers_per_second`].
    ChunkRate,
    /// [`Limits::commands_per_second`].
    CommandRate,
    /// [`Limits::reply_bytes`].
    ReplyBytes,
    /// [`Limits::bytes_per_second`].
    ByteRate,
    /// [`Limits::publisher_bitrate`].
    PublisherBitrate,
    /// [`STANDBYS_MAX`].
    Standbys,
    /// [`FILLER_BYTES_MAX`] or [`FILLER_FRAMES_MAX`].
    FillerBytes,
    /// [`TRACKS_MAX`].
    Tracks,
    /// Depth of nested values in a command.
    Depth,
    /// Values in one command.
    Values,
    /// [`AppSpec::delay_max`](crate::stream::AppSpec), or what is kept of this stream: nobody can be so far behind.
    Delay,
    /// [`COMMANDS_MAX`] or [`CONTROL_BACKLOG_MAX`]: the shard is overloaded.
    Backlog,
}

impl Limit {
    /// The stable label of metrics and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Publishers => "publishers",
            Self::Streams => "streams",
            Self::Subscribers => "subscribers",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::AcceptRate => "accepts_per_second",
            Self::Descriptors => "descriptors",
            Self::HandshakeBytes => "handshake_bytes",
            Self::StreamsPerConnection => "streams_per_connection",
            Self::MessageBytes => "message_bytes",
            Self::PartialBytes => "partial_bytes",
            Self::ChunkStreams => "chunk_streams",
            Self::ChunkRate => "chunk_headers_per_second",
            Self::CommandRate => "commands_per_second",
            Self::ReplyBytes => "reply_bytes",
            Self::ByteRate => "bytes_per_second",
            Self::PublisherBitrate => "publisher_bitrate",
            Self::Standbys => "standbys",
            Self::FillerBytes => "filler_bytes",
            Self::Tracks => "tracks",
            Self::Depth => "depth",
            Self::Values => "values",
            Self::Delay => "delay_max",
            Self::Backlog => "backlog",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

const _: () = assert!(PEER_RING_SLOTS.is_power_of_two() && HOST_RING_SLOTS.is_power_of_two());
const _: () = assert!(READ_BYTES_MIN <= ARENA_BYTES && READ_BYTES_PER_TURN <= ARENA_BYTES);
