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
/// Parameter sets of one kind in a decoder configuration record: all that the one of H.264 has room for.
pub const RECORD_SETS_MAX: usize = 31;
/// NAL units of one access unit that are looked at.
pub const NAL_UNITS_MAX: usize = 4096;
/// OBUs of one temporal unit that are looked at.
pub const OBUS_MAX: usize = 4096;
/// Bytes of a box that is read as a whole: the movie box of a fragmented file, and that of one fragment.
pub const MP4_BOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the movie box of a file that is not fragmented: it has an entry for each sample of hours.
pub const MP4_INDEX_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Tracks of an MP4 file, those counted that are passed over.
pub const MP4_TRACKS_MAX: usize = 64;
/// Runs of samples in one fragment.
pub const MP4_RUNS_MAX: usize = 4096;
/// Samples of one fragment: what is not written out for each is not worth more either.
pub const MP4_SAMPLES_MAX: usize = 1024 * 1024;
/// Bytes of one sample of an MP4 file.
pub const MP4_SAMPLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Places at which a player may start that the index at the end of a file has, per track: of more every second is kept.
pub const MP4_STARTS_MAX: usize = 16 * 1024;
/// Frames of one part of a segment: with more a part is shorter than it should be.
pub const HLS_PART_FRAMES_MAX: usize = 4096;
/// Bytes of one part of a segment, save for one that is a single longer frame.
pub const HLS_PART_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Parts of one segment: then it ends, wherever the next keyframe is.
pub const HLS_SEGMENT_PARTS_MAX: usize = 1024;
/// Bytes of one segment: then it ends, wherever the next keyframe is.
pub const HLS_SEGMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Segments of one track that are kept, those counted that no playlist names any more.
pub const HLS_SEGMENTS_MAX: usize = 16 * 1024;
/// Frames of a track that are waited for until it is known how long its parts are.
pub const HLS_MEASURED_FRAMES_MAX: usize = 256;
/// Cuts that a track which follows another has not come to yet.
pub const HLS_CUTS_MAX: usize = 64;
/// How far a frame may be shown before or after it is decoded: what is farther is no time.
pub const HLS_COMPOSITION_MAX: Duration = Duration::from_secs(60);
/// Width and height of a picture in pixels: what a sample entry of an MP4 file has room for.
pub const PICTURE_SIDE_MAX: u32 = 65_535;
/// Parameter sets of one track: there are rarely more than three.
pub const PARAMETER_SETS_MAX: usize = 64;
/// Bytes of a section of MPEG-TS: more would be no program association or map (ISO/IEC 13818-1, 2.4.4).
pub const SECTION_BYTES_MAX: usize = 1024;
/// Bytes of a PES packet of MPEG-TS that is no picture: its length must be told, in 16 bits.
pub const PES_BYTES_MAX: usize = 6 + 0xFFFF;
/// Bytes between two frames of sound that are looked through for the next one.
pub const AUDIO_GAP_BYTES_MAX: usize = 8 * 1024;
/// Bytes that the header of an FLV file may be longer than that of version 1.
pub const FLV_HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the name of an object on storage: what S3 has room for.
pub const OBJECT_NAME_BYTES_MAX: usize = 1024;
/// Bytes of one component of it: what file systems have room for.
pub const OBJECT_COMPONENT_BYTES_MAX: usize = 255;
/// Components of it: so deep folders are at most.
pub const OBJECT_COMPONENTS_MAX: usize = 16;
/// Bytes of an object that is read, and put back whole, where a backend cannot append to one or cut one.
pub const OBJECT_COPY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Parts of the template that names segments.
pub const RECORD_TEMPLATE_PARTS_MAX: usize = 64;
/// Frames that wait for the storage thread, per recording.
pub const RECORD_QUEUE_FRAMES: usize = 4096;
/// Bytes of these, unless the host says otherwise.
pub const RECORD_QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Frames of a recording that a storage thread takes before the next recording has its turn.
pub const RECORD_FRAMES_PER_TURN: usize = 512;
/// Frames of one fragment: one is written before it is due when it has so many,
pub const RECORD_FRAGMENT_FRAMES_MAX: usize = 4096;
/// or so many bytes.
pub const RECORD_FRAGMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Gaps that the index names for one segment; the last of them takes in all that follow.
pub const RECORD_GAPS_MAX: usize = 256;
/// Bytes of one line of the index of a recording: a longer one is none of ours.
pub const RECORD_LINE_BYTES_MAX: usize = 256 * 1024;
/// Segments of one stream that its index has: the oldest are deleted for the new ones.
pub const RECORD_SEGMENTS_MAX: usize = 200_000;
/// Recordings of one pool.
pub const RECORDINGS_MAX: usize = 4096;
/// Threads of one pool.
pub const RECORD_THREADS_MAX: usize = 64;
/// Bytes that are read of a file or a pipe at once.
pub const INGEST_READ_BYTES: usize = 64 * 1024;
/// Bytes by which is told what a file is: three packets of MPEG-TS, wherever the first one begins.
pub const INGEST_SNIFF_BYTES: usize = 4 * 188;
/// Boxes at the top of an MP4 file that are passed over in search of its first fragment or samples.
pub const INGEST_BOXES_MAX: usize = 1024;
/// Frames of a file that wait for those of its other tracks.
pub const INGEST_HELD_FRAMES_MAX: usize = 8192;
/// Bytes of such frames: a fragment has one track after the other.
pub const INGEST_HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How far a track of a file may be behind the others and still be waited for.
pub const INGEST_HELD_TIME_MAX: Duration = Duration::from_secs(10);
/// A source in real time that is later than this is not hurried: its time begins anew.
pub const INGEST_LATE_MAX: Duration = Duration::from_secs(1);
/// A source in real time never waits longer for its next frame: farther ahead is a jump of its clock.
pub const INGEST_AHEAD_MAX: Duration = Duration::from_secs(10);
/// How long after a publish was refused or lost it is tried again.
pub const INGEST_RETRY: Duration = Duration::from_secs(2);
/// How long no packet of MPEG-TS comes until its publish ends.
pub const INGEST_SILENCE: Duration = Duration::from_secs(5);
/// Bytes that the system is asked to keep of datagrams that were not read yet: half a second of 64 Mb/s.
pub const INGEST_SOCKET_BYTES: usize = 4 * 1024 * 1024;
/// How long a server may take to be connected to, and to answer, a client that pushes.
pub const PUSH_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may take nothing of what is pushed.
pub const PUSH_STALL_MAX: Duration = Duration::from_secs(10);
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
/// Most that is read of all connections in one turn, so that a crowd of them does not either: with the budgets of
/// egress, a turn takes about a millisecond at most. Each read counts as [`CALL_PRICE_BYTES`] more.
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
/// Requests for files that are not there yet, on all shards together: what is more is told to come again.
pub const HTTP_PARKED_MAX: usize = 10_000;
/// Bytes of the head of an HTTP request.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes that wait for one peer and that others hold as well: a segment of a minute at 8 Mb/s.
pub const SHARED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events that `Poll` reports at once.
pub const POLL_EVENTS: usize = 1024;

/// From this part of [`Limits::memory`] on, above what the router holds before anybody comes, nobody new is let in.
pub const MEMORY_REFUSE_PERCENT: u64 = 85;
/// From this part of it on what is held is let go: the largest caches and the slowest viewers first.
pub const MEMORY_SHED_PERCENT: u64 = 95;
/// From this size on a buffer has pages of its own, in a program whose allocator is told so, and leaves nothing behind;
/// what is smaller shares pages with others.
pub const LARGE_BYTES: usize = 64 * 1024;
/// How much must have been let go of for the allocator to be asked for free pages.
pub const HEAP_TRIM_BYTES: u64 = 1024 * 1024;
/// How often the program looks for that.
pub const HEAP_LOOKS_APART: Duration = Duration::from_millis(100);
/// For so long, or twice as long, what was let go of and is small is no room for anything else: long enough for a look
/// and for what it does.
pub const RELEASED_FOR: Duration = Duration::from_millis(250);
/// What a connection is counted with, its session's tables and its place among the subscribers included.
pub const CONNECTION_BYTES: usize = 4096;
/// What a stream is counted with, besides its log and its subscribers.
pub const STREAM_BYTES: usize = 4096;
/// What a shard holds before anybody comes: its tables, its histogram, its stack, its share of the allocator's.
pub const SHARD_BYTES: usize = 1024 * 1024;
/// What the process holds before anybody comes, the pages of its program included.
pub const PROCESS_BYTES: usize = 20 * 1024 * 1024;
/// What each shard must have room for besides what it holds before anybody comes.
pub const SHARD_ROOM_MIN: usize = 8 * 1024 * 1024;
/// Bytes of one line of an audit trail or of its checkpoints: a longer one is none of ours, and is passed over.
pub const AUDIT_LINE_BYTES_MAX: usize = 1024 * 1024;
/// Sources whose refusals of the running second a shard sums up for the trail; those of all others are one sum.
pub const REFUSED_SOURCES_MAX: usize = 1024;
/// Addresses whose connections of the running second a shard counts; what comes from others then counts for all alone.
pub const ADDRESSES_MAX: usize = 16 * 1024;
/// Buffers that are looked at once per second, whether anybody still holds a part of them.
pub const PINS_PER_SWEEP: usize = 4096;

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
    /// Bytes that the router may hold, `None` for no limit. New work is refused before they are used up; when they
    /// nearly are, what is held is let go. No message may be longer than a small part of it, see
    /// [`Limits::within_memory`].
    pub memory: Option<u64>,
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
    /// Connections of one principal that publish or play, `None` for no limit.
    pub connections_per_principal: Option<usize>,
    /// Publishers of one principal, `None` for no limit.
    pub publishers_per_principal: Option<usize>,
    /// Viewers of one principal, `None` for no limit.
    pub viewers_per_principal: Option<usize>,
    /// Publishers of one peer address, `None` for no limit.
    pub publishers_per_address: Option<usize>,
    /// Viewers of one peer address, `None` for no limit.
    pub viewers_per_address: Option<usize>,
    /// New connections per second of one peer address (of one /64 network of IPv6), over a burst of one second; `None`
    /// for no limit.
    pub accepts_per_second_per_address: Option<u32>,
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
    /// Facts of telemetry that wait for the audit writer.
    pub audit_records: usize,
    /// Decisions that wait for it.
    pub audit_decisions: usize,
    /// How long somebody waits until it is on record that it may publish or play; then it is refused.
    pub audit_deadline: Duration,
    /// A shard that does not finish its turn for so long is reported as hanging.
    pub shard_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            connections: 65_536,
            publishers: 10_000,
            streams: 20_000,
            subscribers_per_stream: 50_000,
            connections_per_address: 65_536,
            connections_per_principal: None,
            publishers_per_principal: None,
            viewers_per_principal: None,
            publishers_per_address: None,
            viewers_per_address: None,
            accepts_per_second_per_address: None,
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
            audit_decisions: 4096,
            audit_deadline: Duration::from_secs(1),
            shard_stall: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// The same with messages that fit [`Limits::memory`]: one may be a sixteenth of what is left for each of so many
    /// shards, since a buffer that grows is there twice for a moment; unfinished ones together twice as much.
    #[must_use]
    pub fn within_memory(mut self, shards: usize) -> Self {
        if let Some(memory) = self.memory {
            let left = memory.saturating_sub(self.structure_bytes(shards)) / shards.max(1) as u64;
            let most = usize::try_from(left / 16).unwrap_or(usize::MAX).max(self.handshake_bytes);
            self.message_bytes = self.message_bytes.min(most);
            self.partial_bytes = self.partial_bytes.min(most.saturating_mul(2)).max(self.message_bytes);
        }
        self
    }

    /// The least [`Limits::memory`] with which so many shards can do anything at all.
    #[must_use]
    pub fn memory_least(&self, shards: usize) -> u64 {
        let least = self.structure_bytes(shards) + (shards * SHARD_ROOM_MIN) as u64;
        least.next_multiple_of(1 << 20)
    }

    /// What a router of so many shards holds before anybody comes.
    #[must_use]
    pub fn structure_bytes(&self, shards: usize) -> u64 {
        // A ring's slot is a cache line; a command, a record and an event are boxes or facts.
        let rings = shards * shards.saturating_sub(1) * PEER_RING_SLOTS * SLOT_BYTES;
        let commands = shards * COMMANDS_MAX * SLOT_BYTES;
        let facts = (self.audit_records + self.audit_decisions + self.events) * FACT_BYTES;
        (PROCESS_BYTES + shards * SHARD_BYTES + rings + commands + facts) as u64
    }
}

/// A slot of a ring or channel.
pub(crate) const SLOT_BYTES: usize = 64;
/// A fact in a channel, with the strings that it owns.
const FACT_BYTES: usize = 512;

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::memory`].
    Memory,
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
    /// [`Limits::connections_per_principal`].
    ConnectionsPerPrincipal,
    /// [`Limits::publishers_per_principal`].
    PublishersPerPrincipal,
    /// [`Limits::viewers_per_principal`].
    ViewersPerPrincipal,
    /// [`Limits::publishers_per_address`].
    PublishersPerAddress,
    /// [`Limits::viewers_per_address`].
    ViewersPerAddress,
    /// [`AppSeats::connections`](crate::stream::AppSeats::connections).
    AppConnections,
    /// [`AppSeats::publishers`](crate::stream::AppSeats::publishers).
    AppPublishers,
    /// [`AppSeats::viewers`](crate::stream::AppSeats::viewers).
    AppViewers,
    /// [`Limits::accepts_per_second_per_address`].
    AcceptRatePerAddress,
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
    /// [`Limits::publisher_bitrate`], or that of the application.
    PublisherBitrate,
    /// [`PublisherCaps::frame_rate`](crate::stream::PublisherCaps::frame_rate).
    PublisherFrameRate,
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
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::Publishers => "publishers",
            Self::Streams => "streams",
            Self::Subscribers => "subscribers",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerPrincipal => "connections_per_principal",
            Self::PublishersPerPrincipal => "publishers_per_principal",
            Self::ViewersPerPrincipal => "viewers_per_principal",
            Self::PublishersPerAddress => "publishers_per_address",
            Self::ViewersPerAddress => "viewers_per_address",
            Self::AppConnections => "app_connections",
            Self::AppPublishers => "app_publishers",
            Self::AppViewers => "app_viewers",
            Self::AcceptRatePerAddress => "accepts_per_second_per_address",
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
            Self::PublisherFrameRate => "publisher_frame_rate",
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
// At the mark at which nobody new is let in, each shard can still read from somebody, while all others do too.
const _: () = assert!(
    SHARD_ROOM_MIN as u64 * (100 - MEMORY_REFUSE_PERCENT) / 100
        >= 2 * (ARENA_BYTES + 2 * READ_BYTES_PER_TURN + 2 * CONNECTION_BYTES) as u64
);
const _: () = assert!(MEMORY_REFUSE_PERCENT < MEMORY_SHED_PERCENT && MEMORY_SHED_PERCENT < 100);
const _: () = assert!(READ_BYTES_MIN <= ARENA_BYTES && READ_BYTES_PER_TURN <= ARENA_BYTES);
