//! The RTMP chunk stream (RTMP 1.0, section 5.3) as a client sees it.
//!
//! The reader keeps control messages whole, but of a media message only its start and a checksum of
//! the rest: a viewer that measures does not need the picture.

use super::media::{self, HEAD_KEPT, Track};
use super::stamp::{Checksum, Stamp};

/// Message types.
pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA: u8 = 18;

/// The chunk size until a `SET_CHUNK_SIZE`.
pub(crate) const DEFAULT_CHUNK_SIZE: usize = 128;
/// The longest control message that is kept; a media message may have 24 bits.
const CONTROL_LEN_MAX: u32 = 64 * 1024;
/// Chunk streams that a server may use at once.
const CHUNK_STREAMS_MAX: usize = 64;
/// Basic header, message header and extended timestamp at their longest.
const HEADER_LEN_MAX: usize = 3 + 11 + 4;
/// Stands for "see the extended timestamp".
const EXTENDED: u32 = 0xff_ffff;

/// What a server may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a chunk size of 0")]
    ChunkSize,
    #[error("a control message of more than {CONTROL_LEN_MAX} bytes")]
    ControlTooLong,
    #[error("a message header inside a message")]
    HeaderInsideMessage,
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    TooManyChunkStreams,
    #[error("a short header on a chunk stream that had no full one")]
    UnknownChunkStream,
}

/// A finished message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    /// All of it for control messages, at most [`HEAD_KEPT`] bytes of media.
    pub(crate) start: &'a [u8],
    /// The stamp of a media message that has one.
    pub(crate) stamp: Option<Stamp>,
    /// The checksum of the body behind the stamp, if it was asked for.
    pub(crate) body: Option<u32>,
}

/// Bytes to messages. Holds at most one header and the starts of unfinished messages.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// The stream of the chunk being read, while `chunk_left > 0`.
    current: usize,
    chunk_left: usize,
    /// A header that was cut by the end of a read.
    partial: Vec<u8>,
}

#[derive(Debug, Default)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    delta: u32,
    extended: bool,
    len: u32,
    kind: u8,
    received: u32,
    start: Vec<u8>,
    stamp: Option<Stamp>,
    sum: Option<Checksum>,
}

impl ChunkReader {
    pub(crate) fn new() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE, streams: Vec::new(), current: 0, chunk_left: 0, partial: Vec::new() }
    }

    /// Takes in bytes and hands over each message that they finish.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        checking: bool,
        mut finished: impl FnMut(&Message<'_>),
    ) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            if self.chunk_left == 0 {
                let used = self.header(bytes)?;
                bytes = &bytes[used..];
                if self.partial.is_empty() {
                    self.finish_if_whole(&mut finished)?;
                }
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.chunk_left));
            self.streams[self.current].add(part, checking);
            self.chunk_left -= part.len();
            bytes = rest;
            self.finish_if_whole(&mut finished)?;
        }
        Ok(())
    }

    /// Reads a chunk's header from what was left and `bytes`; returns what it used of `bytes`.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        if self.partial.is_empty() {
            if let Some(used) = self.parse_header(bytes)? {
                return Ok(used);
            }
            self.partial.extend(bytes);
            debug_assert!(bytes.len() < HEADER_LEN_MAX);
            return Ok(bytes.len());
        }
        self.partial.push(bytes[0]);
        let partial = std::mem::take(&mut self.partial);
        if self.parse_header(&partial)?.is_none() {
            self.partial = partial;
        }
        Ok(1)
    }

    fn parse_header(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let format = bytes[0] >> 6;
        let (id, at) = match (bytes[0] & 0x3f, bytes) {
            (0, [_, low, ..]) => (64 + u32::from(*low), 2),
            (1, [_, low, high, ..]) => (64 + u32::from(*low) + 256 * u32::from(*high), 3),
            (0 | 1, _) => return Ok(None),
            (id, _) => (u32::from(id), 1),
        };
        let known = self.streams.iter().position(|stream| stream.id == id);
        let fields_len = [11, 7, 3, 0][usize::from(format)];
        let Some(fields) = bytes.get(at..at + fields_len) else { return Ok(None) };
        let mut used = at + fields_len;
        let short = match fields {
            [a, b, c, ..] => Some(u32::from_be_bytes([0, *a, *b, *c])),
            _ => None,
        };
        let extended = match (short, known) {
            (Some(short), _) => short == EXTENDED,
            (None, Some(known)) => self.streams[known].extended,
            (None, None) => return Err(Malformed::UnknownChunkStream),
        };
        let mut time = short;
        if extended {
            let Some(long) = bytes[used..].first_chunk() else { return Ok(None) };
            time = short.map(|_| u32::from_be_bytes(*long));
            used += 4;
        }
        let current = match known {
            Some(known) => known,
            None if format != 0 => return Err(Malformed::UnknownChunkStream),
            None if self.streams.len() == CHUNK_STREAMS_MAX => return Err(Malformed::TooManyChunkStreams),
            None => {
                self.streams.push(ChunkStream { id, ..ChunkStream::default() });
                self.streams.len() - 1
            }
        };
        self.streams[current].begin_chunk(format, fields, time, extended)?;
        let left = self.streams[current].left();
        self.current = current;
        self.chunk_left = self.chunk_size.min(left);
        Ok(Some(used))
    }

    fn finish_if_whole(&mut self, finished: &mut impl FnMut(&Message<'_>)) -> Result<(), Malformed> {
        let stream = &mut self.streams[self.current];
        if stream.left() > 0 {
            return Ok(());
        }
        match (stream.kind, stream.start.first_chunk::<4>()) {
            (SET_CHUNK_SIZE, Some(size)) => {
                self.chunk_size = usize::try_from(u32::from_be_bytes(*size) & 0x7fff_ffff).unwrap_or(0);
                if self.chunk_size == 0 {
                    return Err(Malformed::ChunkSize);
                }
            }
            (ABORT, Some(id)) => {
                let id = u32::from_be_bytes(*id);
                self.streams.iter_mut().filter(|stream| stream.id == id).for_each(ChunkStream::clear);
            }
            _ => {}
        }
        let stream = &mut self.streams[self.current];
        finished(&Message {
            kind: stream.kind,
            timestamp: stream.timestamp,
            start: &stream.start,
            stamp: stream.stamp,
            body: stream.sum.as_ref().map(Checksum::value),
        });
        stream.clear();
        Ok(())
    }
}

impl ChunkStream {
    fn begin_chunk(&mut self, format: u8, fields: &[u8], time: Option<u32>, extended: bool) -> Result<(), Malformed> {
        if self.received > 0 {
            return if format == 3 { Ok(()) } else { Err(Malformed::HeaderInsideMessage) };
        }
        if let Some(time) = time {
            self.delta = time;
        }
        self.extended = extended;
        self.timestamp = if format == 0 { self.delta } else { self.timestamp.wrapping_add(self.delta) };
        if let [_, _, _, a, b, c, kind, ..] = fields {
            self.len = u32::from_be_bytes([0, *a, *b, *c]);
            self.kind = *kind;
        }
        if self.track().is_none() && self.len > CONTROL_LEN_MAX {
            return Err(Malformed::ControlTooLong);
        }
        Ok(())
    }

    fn add(&mut self, part: &[u8], checking: bool) {
        self.received += u32::try_from(part.len()).unwrap_or(0);
        let Some(track) = self.track() else {
            self.start.extend(part);
            return;
        };
        let wanted = HEAD_KEPT.min(usize::try_from(self.len).unwrap_or(0)) - self.start.len();
        if wanted == 0 {
            if let Some(sum) = &mut self.sum {
                sum.add(part);
            }
            return;
        }
        let (start, rest) = part.split_at(wanted.min(part.len()));
        self.start.extend(start);
        if start.len() < wanted {
            return;
        }
        if let Some((stamp, body)) = media::find_stamp(track, &self.start) {
            self.stamp = Some(stamp);
            if checking {
                let mut sum = Checksum::default();
                sum.add(self.start.get(body..).unwrap_or_default());
                sum.add(rest);
                self.sum = Some(sum);
            }
        }
    }

    fn clear(&mut self) {
        self.received = 0;
        self.start.clear();
        self.stamp = None;
        self.sum = None;
    }

    fn track(&self) -> Option<Track> {
        track_of(self.kind)
    }

    fn left(&self) -> usize {
        usize::try_from(self.len - self.received).unwrap_or(0)
    }
}

/// The track that a message type carries.
pub(crate) fn track_of(kind: u8) -> Option<Track> {
    match kind {
        VIDEO => Some(Track::Video),
        AUDIO => Some(Track::Audio),
        _ => None,
    }
}

/// Where a message goes and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) chunk_stream: u8,
    pub(crate) stream_id: u32,
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
}

impl Outgoing {
    /// A message on the control stream.
    pub(crate) fn control(kind: u8) -> Self {
        Self { chunk_stream: 2, stream_id: 0, kind, timestamp: 0 }
    }

    /// Media or data at `timestamp`.
    pub(crate) fn media(kind: u8, stream_id: u32, timestamp: u32) -> Self {
        let chunk_stream = match kind {
            AUDIO => 4,
            VIDEO => 6,
            _ => 5,
        };
        Self { chunk_stream, stream_id, kind, timestamp }
    }

    /// Appends the full header of a message of `len` bytes.
    pub(crate) fn write_header(self, len: usize, out: &mut Vec<u8>) {
        out.push(self.chunk_stream);
        let short = self.timestamp.min(EXTENDED);
        out.extend(&short.to_be_bytes()[1..]);
        out.extend(&u32::try_from(len).unwrap_or(0).to_be_bytes()[1..]);
        out.push(self.kind);
        out.extend(self.stream_id.to_le_bytes());
        self.write_extended(out);
    }

    /// Appends a message, cut into chunks.
    pub(crate) fn write(self, body: &[u8], chunk_size: usize, out: &mut Vec<u8>) {
        self.write_header(body.len(), out);
        for (i, part) in body.chunks(chunk_size).enumerate() {
            if i > 0 {
                out.push(0xc0 | self.chunk_stream);
                self.write_extended(out);
            }
            out.extend(part);
        }
    }

    fn write_extended(self, out: &mut Vec<u8>) {
        if self.timestamp >= EXTENDED {
            out.extend(self.timestamp.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::media::{Bank, KBPS, Schedule};
    use super::*;

    /// Two seconds of the schedule, with timestamps that need the extended field from `start_ms` on.
    fn written(start_ms: u32) -> (Vec<u8>, usize) {
        let (bank, mut schedule) = (Bank::new(KBPS), Schedule::default());
        let mut bytes = Vec::new();
        Outgoing::control(SET_CHUNK_SIZE).write(&4096_u32.to_be_bytes(), 128, &mut bytes);
        for _ in 0..146 {
            let slot = schedule.take();
            let mut message = Vec::new();
            bank.message(0, slot, 7, 8, &mut message);
            let kind = if slot.track == Track::Video { VIDEO } else { AUDIO };
            Outgoing::media(kind, 1, start_ms + slot.timestamp()).write(&message, 4096, &mut bytes);
        }
        (bytes, 146)
    }

    #[test]
    fn reads_what_was_written_however_it_is_cut() {
        for start_ms in [0, 0xff_fff0] {
            let (bytes, count) = written(start_ms);
            for cut in [1, 7, 1460, bytes.len()] {
                let (mut reader, mut seen) = (ChunkReader::new(), 0);
                for part in bytes.chunks(cut) {
                    let read = reader.push(part, true, |message| {
                        let Some(stamp) = message.stamp else { return };
                        assert!(stamp.due == 7 && stamp.sent == 8);
                        assert!(message.body.is_some_and(|body| stamp.fits(body)));
                        assert!(message.timestamp >= start_ms && message.timestamp < start_ms + 2_100);
                        seen += 1;
                    });
                    assert_eq!(read, Ok(()));
                }
                assert_eq!(seen, count, "from {start_ms} cut to {cut}");
            }
        }
    }

    /// A full header, then a delta with a new length, a delta alone, and nothing at all.
    #[test]
    fn reads_the_short_headers() {
        let full = [0x06, 0, 0, 100, 0, 0, 1, 9, 1, 0, 0, 0, 0xaa];
        let with_length = [0x46, 0, 0, 33, 0, 0, 2, 9, 0xaa, 0xbb];
        let delta_alone = [0x86, 0, 0, 34, 0xaa, 0xbb];
        let nothing = [0xc6, 0xaa, 0xbb];
        let bytes = [full.as_slice(), &with_length, &delta_alone, &nothing].concat();
        let mut times = Vec::new();
        let read =
            ChunkReader::new().push(&bytes, false, |message| times.push((message.timestamp, message.start.len())));
        assert_eq!(read, Ok(()));
        assert_eq!(times, [(100, 1), (133, 2), (167, 2), (201, 2)]);
    }

    #[test]
    fn notices_a_changed_byte() {
        let (mut bytes, _) = written(0);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let mut corrupt = 0;
        let read = ChunkReader::new().push(&bytes, true, |message| {
            let fits = message.stamp.zip(message.body).is_none_or(|(stamp, body)| stamp.fits(body));
            corrupt += u32::from(!fits);
        });
        assert!(read.is_err() || corrupt == 1, "{corrupt} frames of a stream with one changed byte are corrupt");
    }
}
