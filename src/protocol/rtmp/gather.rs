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
            let doubled = buffer.len().saturating_mul(2).min(length);
            buffer.reserve(needed.max(doubled).saturating_sub(buffer.len()));
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
