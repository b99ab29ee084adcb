//! Where a message that spans chunks or inputs is put together.
//!
//! One buffer serves message after message: what is whole is split off, the room behind it goes on being used.
//! What a message declares is never allocated on its word: a buffer is as large as a message of this connection
//! was before, or grows with the bytes that came.

#![forbid(unsafe_code)]

use bytes::{Bytes, BytesMut};

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
        }
        buffer.extend_from_slice(piece);
    }

    /// The message is whole.
    pub(super) fn finish(&mut self, mut buffer: BytesMut) -> Bytes {
        self.longest = self.longest.max(buffer.len());
        let payload = buffer.split().freeze();
        if buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
        payload
    }

    /// Bytes that may be allocated for a message of `length` before they came.
    fn prepared(&self, length: usize) -> usize {
        length.min(self.longest).min(PREPARED_BYTES_MAX).max(self.shared.max(FIRST_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 0x00FF_FFFF;

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
