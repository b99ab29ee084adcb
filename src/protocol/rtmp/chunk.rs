//! Chunks ↔ messages: Adobe RTMP 1.0, section 5.3.
//!
//! [`ChunkReader`] is fed owned bytes and gives whole messages. A message that lies in one chunk of one input is
//! cut out of it; one that spans chunks or inputs is gathered once, in a buffer that grows as its bytes arrive.
//! What a peer declares costs nothing, what it sends is bounded by [`ChunkLimits`]. [`ChunkWriter`] is the way
//! back; both serve a client as well as a server.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{Limit, Limits};
use crate::reason::{Label, Reason};

use super::gather::Gather;

/// Bytes of a chunk's payload until the first Set Chunk Size (section 5.4.1).
pub const CHUNK_SIZE_DEFAULT: u32 = 128;
/// Greatest chunk size: no message is longer.
pub const CHUNK_SIZE_MAX: u32 = 0x00FF_FFFF;
/// Longest message that the 24-bit length field can tell.
pub const MESSAGE_LENGTH_MAX: u32 = 0x00FF_FFFF;
/// A timestamp field with this value says that the real one follows in 32 bits.
pub const TIMESTAMP_EXTENDED: u32 = 0x00FF_FFFF;

/// Message type: Set Chunk Size.
pub const SET_CHUNK_SIZE: u8 = 1;
/// Message type: Abort Message.
pub const ABORT: u8 = 2;

/// Chunk stream of protocol control messages.
const CSID_CONTROL: u32 = 2;
/// Basic header, message header and extended timestamp at their longest.
const HEADER_BYTES_MAX: usize = 3 + 11 + 4;

/// A message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chunk stream that it came on.
    pub csid: u32,
    /// Its type id.
    pub kind: u8,
    /// Its message stream id.
    pub stream: u32,
    /// Its timestamp in milliseconds, deltas resolved, modulo 2³².
    pub timestamp: u32,
    /// Its payload.
    pub payload: Bytes,
}

/// What is wrong with a peer's chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A header that refers to an earlier one on its chunk stream, and there is none.
    #[error("chunk header without a predecessor at byte {0}")]
    NoPredecessor(u64),
    /// A new message begins on a chunk stream whose last one is not whole.
    #[error("message interrupted by another on its chunk stream at byte {0}")]
    Interrupted(u64),
    /// Set Chunk Size of 0 or with the top bit set.
    #[error("bad chunk size before byte {0}")]
    ChunkSize(u64),
    /// A Set Chunk Size or Abort message that is too short.
    #[error("control message too short before byte {0}")]
    ControlLength(u64),
    /// A bound of [`ChunkLimits`].
    #[error("the limit '{0}' is reached")]
    Limit(Limit),
}

impl From<ChunkError> for Reason {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::NoPredecessor(at) => Self::Malformed { what: Label("rtmp.chunk_no_predecessor"), at },
            ChunkError::Interrupted(at) => Self::Malformed { what: Label("rtmp.chunk_interrupted"), at },
            ChunkError::ChunkSize(at) => Self::Malformed { what: Label("rtmp.chunk_size"), at },
            ChunkError::ControlLength(at) => Self::Malformed { what: Label("rtmp.control_length"), at },
            ChunkError::Limit(limit) => Self::Limit(limit),
        }
    }
}

/// The bounds of a [`ChunkReader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// See [`Limits::message_bytes`].
    pub message_bytes: usize,
    /// See [`Limits::partial_bytes`].
    pub partial_bytes: usize,
    /// See [`Limits::chunk_streams`].
    pub chunk_streams: usize,
}

impl ChunkLimits {
    /// The same for a peer whom nobody has allowed to publish yet: no message, and no sum of unfinished ones, may
    /// be longer than `bytes`.
    #[must_use]
    pub fn narrowed(self, bytes: usize) -> Self {
        Self {
            message_bytes: self.message_bytes.min(bytes),
            partial_bytes: self.partial_bytes.min(bytes),
            chunk_streams: self.chunk_streams,
        }
    }
}

impl From<&Limits> for ChunkLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            message_bytes: limits.message_bytes,
            partial_bytes: limits.partial_bytes,
            chunk_streams: limits.chunk_streams,
        }
    }
}

/// Bytes to messages.
#[derive(Debug)]
pub struct ChunkReader {
    limits: ChunkLimits,
    chunk_size: u32,
    /// Chunk streams with their last header; at most `limits.chunk_streams`.
    streams: Vec<ChunkStream>,
    /// The stream of the chunk that is read now or was read last, as an index of `streams`.
    current: usize,
    /// Whether a chunk is being read; else the next byte begins a header.
    in_chunk: bool,
    /// Payload bytes of that chunk still to come.
    chunk_left: u32,
    /// The beginning of a header that was cut by the end of an input.
    stash: [u8; HEADER_BYTES_MAX],
    /// 0 ..= HEADER_BYTES_MAX.
    stash_len: usize,
    /// Sum of what the streams have gathered: at most `limits.partial_bytes`.
    partial_bytes: usize,
    /// Offset of the next byte in the connection's input.
    at: u64,
    headers: u32,
    /// All headers so far: the clock by which a chunk stream is idle.
    clock: u64,
    gather: Gather,
}

#[derive(Debug, Default)]
struct ChunkStream {
    csid: u32,
    kind: u8,
    stream: u32,
    length: u32,
    timestamp: u32,
    /// When its last header was, by the reader's clock.
    used: u64,
    /// What a type-3 header that begins a message adds.
    delta: u32,
    /// The 32-bit field of the last header, if it had one: type-3 chunks repeat it.
    extended: Option<u32>,
    /// The bytes so far of a message that is not whole; `None` between messages.
    partial: Option<BytesMut>,
}

/// A chunk header, understood.
struct Header {
    bytes: usize,
    csid: u32,
    fmt: u8,
    /// Timestamp or delta; `None` for type 3.
    time: Option<u32>,
    length: u32,
    kind: u8,
    stream: u32,
    extended: Option<u32>,
}

impl ChunkReader {
    /// A reader whose first byte is at offset `at` of the connection's input (behind the handshake).
    #[must_use]
    pub fn new(limits: ChunkLimits, at: u64) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_DEFAULT,
            streams: Vec::new(),
            current: 0,
            in_chunk: false,
            chunk_left: 0,
            stash: [0; HEADER_BYTES_MAX],
            stash_len: 0,
            partial_bytes: 0,
            at,
            headers: 0,
            clock: 0,
            gather: Gather::default(),
        }
    }

    /// Holds what comes from now on against other bounds.
    pub fn set_limits(&mut self, limits: ChunkLimits) {
        self.limits = limits;
    }

    /// Takes bytes from the front of `input` up to the end of the next message. `None` means that all of
    /// `input` was taken and the message goes on. Set Chunk Size and Abort have had their effect when they are
    /// returned.
    ///
    /// # Errors
    /// [`ChunkError`]; the reader must not be used after it.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Message>, ChunkError> {
        loop {
            if !self.in_chunk {
                let Some(header) = self.take_header(input)? else { return Ok(None) };
                self.begin_chunk(&header)?;
            }
            if let Some(message) = self.take_payload(input)? {
                self.obey(&message)?;
                return Ok(Some(message));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Offset of the next byte in the connection's input.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// How many chunk headers were read since this was asked last.
    pub fn take_headers(&mut self) -> u32 {
        std::mem::take(&mut self.headers)
    }

    /// Bytes held of messages that are not whole.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Bytes on the heap, besides the buffers that [`ChunkReader::take_buffer`] has told of.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let partials = self.streams.iter().filter_map(|stream| stream.partial.as_ref());
        let sizes =
            partials.map(|partial| if self.gather.is_told(partial) { partial.len() } else { partial.capacity() });
        let table = self.streams.capacity().saturating_mul(size_of::<ChunkStream>());
        sizes.fold(table, usize::saturating_add)
    }

    /// Bytes that may be allocated for the next input, besides those and as much as it has.
    #[must_use]
    pub fn growth_bytes(&self) -> usize {
        let partials = self.streams.iter().filter_map(|stream| {
            let length = usize::try_from(stream.length).unwrap_or(usize::MAX);
            Some(self.gather.growth_bytes(stream.partial.as_ref()?, length))
        });
        let table = self.streams.capacity().saturating_mul(size_of::<ChunkStream>());
        partials.fold(table.saturating_add(self.gather.prepared(usize::MAX)), usize::saturating_add)
    }

    /// A part of the buffer that the last message was put together in, and the bytes of that buffer: once for each,
    /// however many messages are cut out of it.
    pub fn take_buffer(&mut self) -> Option<(Bytes, usize)> {
        self.gather.take_fresh()
    }

    fn take_header(&mut self, input: &mut Bytes) -> Result<Option<Header>, ChunkError> {
        let old = self.stash_len;
        if old == 0
            && let Some(header) = self.parse_header(input)?
        {
            self.advance(input, header.bytes);
            return Ok(Some(header));
        }
        // Cut by the end of an input: at most 17 bytes wait in the stash.
        let room = self.stash.get_mut(old..).unwrap_or_default();
        let n = room.len().min(input.len());
        for (to, from) in room.iter_mut().zip(input.iter().take(n)) {
            *to = *from;
        }
        let filled = old.saturating_add(n);
        let stash = self.stash;
        match self.parse_header(stash.get(..filled).unwrap_or_default())? {
            Some(header) => {
                self.advance(input, header.bytes.saturating_sub(old));
                self.stash_len = 0;
                Ok(Some(header))
            }
            None => {
                self.advance(input, n);
                self.stash_len = filled;
                Ok(None)
            }
        }
    }

    /// Reads a header from the front of `bytes`; `None` if it goes on behind them.
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<Header>, ChunkError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let (fmt, low) = (first >> 6, first & 0x3F);
        let (csid, basic) = match (low, rest) {
            (0, [a, ..]) => (u32::from(*a).saturating_add(64), 2_usize),
            (1, [a, b, ..]) => (u32::from(u16::from_le_bytes([*a, *b])).saturating_add(64), 3),
            (0 | 1, _) => return Ok(None),
            (id, _) => (u32::from(id), 1),
        };
        let last = self.streams.iter().find(|s| s.csid == csid);
        let Some(rest) = bytes.get(basic..) else { return Ok(None) };

        let (time, length, kind, stream, fields) = match (fmt, rest, last) {
            (0, [t0, t1, t2, l0, l1, l2, kind, s0, s1, s2, s3, ..], _) => {
                // The message stream id is the one little-endian field (section 5.3.1.2.1).
                let stream = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
                (Some(u24([*t0, *t1, *t2])), u24([*l0, *l1, *l2]), *kind, stream, 11_usize)
            }
            (1, [t0, t1, t2, l0, l1, l2, kind, ..], last) if last.is_some() || csid == CSID_CONTROL => {
                // librtmp (OBS, rtmpdump) sends its first Acknowledgement or Ping Response on chunk stream 2
                // with a type-1 header and no type-0 header before: their stream is 0.
                let stream = last.map_or(0, |s| s.stream);
                (Some(u24([*t0, *t1, *t2])), u24([*l0, *l1, *l2]), *kind, stream, 7)
            }
            (2, [t0, t1, t2, ..], Some(last)) => (Some(u24([*t0, *t1, *t2])), last.length, last.kind, last.stream, 3),
            (3, _, Some(last)) => (None, last.length, last.kind, last.stream, 0),
            (0, _, _) | (1 | 2, _, Some(_)) => return Ok(None),
            (1, _, None) if csid == CSID_CONTROL => return Ok(None),
            _ => return Err(ChunkError::NoPredecessor(self.at)),
        };

        let mut header =
            Header { bytes: basic.saturating_add(fields), csid, fmt, time, length, kind, stream, extended: None };
        let follows = bytes.get(header.bytes..).unwrap_or_default();
        if time == Some(TIMESTAMP_EXTENDED) {
            let [a, b, c, d, ..] = follows else { return Ok(None) };
            let value = u32::from_be_bytes([*a, *b, *c, *d]);
            (header.time, header.extended) = (Some(value), Some(value));
            header.bytes = header.bytes.saturating_add(4);
        } else if let (None, Some(value)) = (time, last.and_then(|s| s.extended)) {
            // Section 5.3.1.3 wants the field repeated in type-3 chunks; old FFmpeg and others leave it out.
            // It is there if its value is: what else stands here is payload.
            let expected = value.to_be_bytes();
            if follows.iter().zip(&expected).all(|(a, b)| a == b) {
                if follows.len() < expected.len() {
                    return Ok(None);
                }
                header.bytes = header.bytes.saturating_add(4);
            }
            header.extended = Some(value);
        }
        Ok(Some(header))
    }

    fn begin_chunk(&mut self, header: &Header) -> Result<(), ChunkError> {
        self.headers = self.headers.saturating_add(1);
        self.clock = self.clock.saturating_add(1);
        self.current = self.index_of(header.csid)?;
        let Some(stream) = self.streams.get_mut(self.current) else { return Ok(()) };
        stream.used = self.clock;
        if stream.partial.is_some() {
            if header.fmt != 3 {
                // Taking a new length for a buffer that is half full was FFmpeg ticket 10191.
                return Err(ChunkError::Interrupted(self.at));
            }
        } else {
            match (header.fmt, header.time) {
                (0, Some(time)) => {
                    stream.timestamp = time;
                    // A type-3 header that begins the next message adds this again (section 5.3.1.2.4).
                    stream.delta = time;
                }
                (_, Some(delta)) => {
                    stream.delta = delta;
                    stream.timestamp = stream.timestamp.wrapping_add(delta);
                }
                (_, None) => stream.timestamp = stream.timestamp.wrapping_add(stream.delta),
            }
            stream.extended = header.extended;
            (stream.length, stream.kind, stream.stream) = (header.length, header.kind, header.stream);
            if usize::try_from(header.length).unwrap_or(usize::MAX) > self.limits.message_bytes {
                return Err(ChunkError::Limit(Limit::MessageBytes));
            }
        }
        let done = stream.partial.as_ref().map_or(0, BytesMut::len);
        let left = stream.length.saturating_sub(u32::try_from(done).unwrap_or(u32::MAX));
        self.chunk_left = left.min(self.chunk_size);
        self.in_chunk = true;
        Ok(())
    }

    fn take_payload(&mut self, input: &mut Bytes) -> Result<Option<Message>, ChunkError> {
        let Some(stream) = self.streams.get_mut(self.current) else { return Ok(None) };
        let length = usize::try_from(stream.length).unwrap_or(usize::MAX);
        let chunk_left = usize::try_from(self.chunk_left).unwrap_or(usize::MAX);
        let n = chunk_left.min(input.len());
        self.at = self.at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));

        if stream.partial.is_none() && n == length {
            let payload = input.split_to(n);
            self.in_chunk = false;
            return Ok(Some(stream.message(payload)));
        }

        if n == 0 {
            return Ok(None);
        }
        if self.partial_bytes.saturating_add(n) > self.limits.partial_bytes {
            return Err(ChunkError::Limit(Limit::PartialBytes));
        }
        let piece = input.get(..n).unwrap_or_default();
        let buffer = match stream.partial.take() {
            Some(mut buffer) => {
                self.gather.append(&mut buffer, piece, length);
                buffer
            }
            None => self.gather.begin(piece, length, self.partial_bytes == 0),
        };
        self.partial_bytes = self.partial_bytes.saturating_add(n);
        input.advance(n);
        self.chunk_left = self.chunk_left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        self.in_chunk = self.chunk_left > 0;
        if buffer.len() < length {
            stream.partial = Some(buffer);
            return Ok(None);
        }
        self.partial_bytes = self.partial_bytes.saturating_sub(length);
        let payload = self.gather.finish(buffer);
        Ok(Some(stream.message(payload)))
    }

    /// Set Chunk Size and Abort act upon the chunks that follow (sections 5.4.1 and 5.4.2).
    fn obey(&mut self, message: &Message) -> Result<(), ChunkError> {
        if !matches!(message.kind, SET_CHUNK_SIZE | ABORT) {
            return Ok(());
        }
        let Some(value) = message.payload.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            return Err(ChunkError::ControlLength(self.at));
        };
        if message.kind == SET_CHUNK_SIZE {
            if value == 0 || value > 0x7FFF_FFFF {
                return Err(ChunkError::ChunkSize(self.at));
            }
            self.chunk_size = value.min(CHUNK_SIZE_MAX);
        } else if let Some(partial) = self.streams.iter_mut().find(|s| s.csid == value).and_then(|s| s.partial.take())
        {
            self.partial_bytes = self.partial_bytes.saturating_sub(partial.len());
        }
        Ok(())
    }

    /// Where this chunk stream is in the table; a new one takes the place of one that is idle if need be.
    fn index_of(&mut self, csid: u32) -> Result<usize, ChunkError> {
        if let Some(index) = self.streams.iter().position(|s| s.csid == csid) {
            return Ok(index);
        }
        let stream = ChunkStream { csid, ..ChunkStream::default() };
        let index = self.streams.len();
        if index < self.limits.chunk_streams.max(1) {
            self.streams.push(stream);
            return Ok(index);
        }
        // The id may be any, the count may not (nginx-rtmp refuses csid 64 of real encoders): the header that
        // was idle for the longest time is forgotten, and if none is idle there are too many.
        let idle = self.streams.iter_mut().enumerate().filter(|(_, s)| s.partial.is_none());
        let (index, longest) = idle.min_by_key(|(_, s)| s.used).ok_or(ChunkError::Limit(Limit::ChunkStreams))?;
        *longest = stream;
        Ok(index)
    }

    fn advance(&mut self, input: &mut Bytes, n: usize) {
        let n = n.min(input.len());
        input.advance(n);
        self.at = self.at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
}

impl ChunkStream {
    fn message(&self, payload: Bytes) -> Message {
        Message { csid: self.csid, kind: self.kind, stream: self.stream, timestamp: self.timestamp, payload }
    }
}

/// Messages to bytes, every message with a full (type 0) header.
#[derive(Clone, Copy, Debug)]
pub struct ChunkWriter {
    chunk_size: u32,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_size: CHUNK_SIZE_DEFAULT }
    }
}

impl ChunkWriter {
    /// Appends a message. A Set Chunk Size message holds from the next one on. What is longer than
    /// [`MESSAGE_LENGTH_MAX`] is cut there: no length field could tell it.
    pub fn write(&mut self, out: &mut Vec<u8>, csid: u32, kind: u8, stream: u32, timestamp: u32, payload: &[u8]) {
        let max = usize::try_from(MESSAGE_LENGTH_MAX).unwrap_or(usize::MAX);
        let payload = payload.get(..max).unwrap_or(payload);
        let length = u32::try_from(payload.len()).unwrap_or(MESSAGE_LENGTH_MAX);
        let field = timestamp.min(TIMESTAMP_EXTENDED);
        basic_header(out, 0, csid);
        out.extend_from_slice(&be24(field));
        out.extend_from_slice(&be24(length));
        out.push(kind);
        out.extend_from_slice(&stream.to_le_bytes());
        let mut chunks = payload.chunks(usize::try_from(self.chunk_size).unwrap_or(usize::MAX).max(1));
        let mut chunk = chunks.next().unwrap_or_default();
        loop {
            if field == TIMESTAMP_EXTENDED {
                out.extend_from_slice(&timestamp.to_be_bytes());
            }
            out.extend_from_slice(chunk);
            match chunks.next() {
                Some(next) => chunk = next,
                None => break,
            }
            basic_header(out, 3, csid);
        }
        if kind == SET_CHUNK_SIZE
            && let Some(size) = payload.first_chunk()
        {
            self.chunk_size = u32::from_be_bytes(*size).clamp(1, CHUNK_SIZE_MAX);
        }
    }
}

/// The basic header in its shortest form (section 5.3.1.1); `csid` from 2 to 65,599.
pub(super) fn basic_header(out: &mut Vec<u8>, fmt: u8, csid: u32) {
    let fmt = fmt << 6;
    let id = csid.saturating_sub(64).to_le_bytes();
    match csid {
        0..=63 => out.push(fmt | u8::try_from(csid).unwrap_or(0x3F)),
        64..=319 => out.extend_from_slice(&[fmt, id[0]]),
        _ => out.extend_from_slice(&[fmt | 1, id[0], id[1]]),
    }
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// The low 24 bits, big-endian.
pub(super) fn be24(value: u32) -> [u8; 3] {
    let [_, a, b, c] = value.to_be_bytes();
    [a, b, c]
}
