//! Where a message that spans chunks or inputs is put together.
//!
//! One buffer serves message after message: what is whole is split off, the room behind it goes on being used.
//! What a message declares is never allocated on its word: a buffer is as large as a message of this connection
//! was before, or grows with the bytes that came.

#![forbid(unsafe_code)]

use bytes::{Bytes, BytesMut};

use crate::limits::READ_BYTES_PER_TURN;

/// The first buffer of a connection.
const FIRST_BYTES: usize = 4 * 1024;
/// Buffers for small messages grow to this size, so that many share one allocation.
const SHARED_BYTES: usize = 64 * 1024;
/// More room than this is never prepared before the bytes are there.
const PREPARED_BYTES_MAX: usize = 1024 * 1024;

/// Of a message of which so much came, room is made for the rest at once: to copy megabytes again and again takes
/// longer than a turn may. Pages that nothing is written to are no memory.
const TRUSTED_BYTES: usize = 512 * 1024;

/// The buffer between messages, and what the connection's past has earned it.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Room that the last message left.
    spare: BytesMut,
    /// Size of the next shared buffer: doubles with each that was filled.
    shared: usize,
    /// The longest message that was gathered.
    longest: usize,
    /// Where the buffer of the last message lies in memory, and how long it is: nobody is told of it twice.
    told: Option<(usize, usize)>,
    /// A part of a buffer that nobody was told of, and how long that is.
    fresh: Option<(Bytes, usize)>,
}

impl Gather {
    /// The buffer of a message that says it has `length` bytes and begins with `piece`. `alone`: no other
    /// message of the connection is under way.
    pub(super) fn begin(&mut self, piece: &[u8], length: usize, alone: bool) -> BytesMut {
        // What messages of this connection took before may be prepared for one message at a time.
        let prepared = if alone { self.prepared(length).max(piece.len()) } else { piece.len() };
        let mut buffer = std::mem::take(&mut self.spare);
        // Too short a rest would only be copied out of again.
        if buffer.capacity() < length.min(prepared) {
            buffer = BytesMut::with_capacity(prepared);
            self.told = None;
            self.shared = self.shared.max(FIRST_BYTES / 2).saturating_mul(2).min(SHARED_BYTES);
        }
        self.append(&mut buffer, piece, length);
        buffer
    }

    /// Appends `piece` to a message of `length` bytes.
    pub(super) fn append(&mut self, buffer: &mut BytesMut, piece: &[u8], length: usize) {
        let needed = buffer.len().saturating_add(piece.len());
        if needed > buffer.capacity() {
            let grown =
                if buffer.len() < TRUSTED_BYTES { buffer.len().saturating_mul(2).min(length) } else { length };
            buffer.reserve(needed.max(grown).saturating_sub(buffer.len()));
            self.told = None;
        }
        buffer.extend_from_slice(piece);
    }

    /// The message is whole.
    pub(super) fn finish(&mut self, mut buffer: BytesMut) -> Bytes {
        self.longest = self.longest.max(buffer.len());
        let told = self.is_told(&buffer);
        let (start, bytes) = (buffer.as_ptr().addr(), buffer.capacity());
        let payload = buffer.split().freeze();
        if !told && !payload.is_empty() {
            self.told = Some((start, bytes));
            self.fresh = Some((payload.slice(..1), bytes));
        }
        if buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
        payload
    }

    /// A part of the buffer that the last message came in and how long that is, once for each buffer: it lives as long
    /// as any message that was cut out of it.
    pub(super) fn take_fresh(&mut self) -> Option<(Bytes, usize)> {
        self.fresh.take()
    }

    /// Whether this lies in a buffer that was told of. A new one may lie where an old one did: with it nothing is
    /// told any more.
    pub(super) fn is_told(&self, buffer: &BytesMut) -> bool {
        let at = buffer.as_ptr().addr();
        self.told.is_some_and(|(start, bytes)| at >= start && at < start.saturating_add(bytes))
    }

    /// Bytes that may be allocated for more of a message of `length` bytes, while what is there of it is still held.
    pub(super) fn growth_bytes(&self, buffer: &BytesMut, length: usize) -> usize {
        // A buffer that is too short is made twice as long, or longer if more is asked for.
        let doubled = buffer.capacity().saturating_mul(2);
        match buffer.len().saturating_add(READ_BYTES_PER_TURN) {
            _ if buffer.capacity() >= length => 0,
            // Within the next input that may be so much.
            TRUSTED_BYTES.. => doubled.max(length),
            _ => doubled,
        }
    }

    /// Bytes that may be allocated for a message of `length` before they came.
    pub(super) fn prepared(&self, length: usize) -> usize {
        length.min(self.longest).min(PREPARED_BYTES_MAX).max(self.shared.max(FIRST_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 0x00FF_FFFF;

    #[test]
    fn no_input_makes_a_message_take_more_than_was_foretold() {
        for length in [10_000, 600_000, 3 << 20, LONGEST] {
            let mut gather = Gather::default();
            let piece = [0; READ_BYTES_PER_TURN];
            let mut buffer = gather.begin(&piece[..1], length, true);
            while buffer.len() < length {
                let (held, foretold) = (buffer.capacity(), gather.growth_bytes(&buffer, length));
                let len = piece.len().min(length - buffer.len());
                gather.append(&mut buffer, &piece[..len], length);
                // A new one, beside which the old one was held for a moment.
                let most = held.max(foretold + len);
                assert!(buffer.capacity() <= most, "{} of {length}, and not {most}", buffer.capacity());
            }
        }
    }

    #[test]
    fn what_is_declared_is_not_allocated() {
        assert!(Gather::default().begin(&[1], LONGEST, true).capacity() <= FIRST_BYTES);
        // Nor after a long message, beyond what may be prepared, nor for more than one message at a time.
        let mut gather = Gather::default();
        let long = gather.begin(&[0; 4 << 20], 4 << 20, true);
        let _ = gather.finish(long);
        assert!(gather.begin(&[1], LONGEST, true).capacity() <= PREPARED_BYTES_MAX);
        assert!(gather.begin(&[1], LONGEST, false).capacity() <= SHARED_BYTES);
    }

    #[test]
    fn a_buffer_grows_with_the_bytes_that_came() {
        let mut gather = Gather::default();
        let mut buffer = gather.begin(&[0; 100], LONGEST, true);
        while buffer.len() < 1 << 20 {
            gather.append(&mut buffer, &[7; 1000], LONGEST);
            assert!(buffer.capacity() <= (2 * buffer.len()).max(FIRST_BYTES) || buffer.len() > TRUSTED_BYTES);
        }
        let length = buffer.len();
        assert_eq!(gather.finish(buffer).len(), length);
    }

    #[test]
    fn each_buffer_is_told_of_once_and_whole() {
        let mut gather = Gather::default();
        let (mut end, mut told) = (std::ptr::null(), Vec::new());
        let mut payloads = Vec::new();
        for length in [100, 8_000, 8_000, 8_000, 70_000, 100, 100, 300_000, 8_000].repeat(10) {
            let mut buffer = gather.begin(&vec![1; length / 2], length, true);
            gather.append(&mut buffer, &vec![2; length - length / 2], length);
            let payload = gather.finish(buffer);
            let range = payload.as_ptr_range();
            if range.start != end || told.is_empty() {
                let (part, bytes) = gather.take_fresh().expect("a new buffer");
                assert_eq!(part.as_ptr(), range.start);
                told.push((range.start.addr(), bytes));
            }
            assert!(gather.take_fresh().is_none());
            let within =
                |(start, bytes): &(usize, usize)| range.start.addr() >= *start && range.end.addr() <= start + bytes;
            assert!(told.iter().any(within), "{length} bytes lie in no buffer that was told of");
            end = range.end;
            payloads.push(payload);
        }
    }

    #[test]
    fn messages_of_the_same_length_share_buffers() {
        let mut gather = Gather::default();
        let mut end = std::ptr::null();
        let mut apart = 0;
        for _ in 0..100 {
            let mut buffer = gather.begin(&[1; 4_000], 8_000, true);
            gather.append(&mut buffer, &[2; 4_000], 8_000);
            let payload = gather.finish(buffer);
            apart += usize::from(payload.as_ptr() != end);
            end = payload.as_ptr_range().end;
        }
        assert!(apart <= 20, "{apart} allocations");
    }
}
