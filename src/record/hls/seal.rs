//! Encrypted segments: AES-128 in CBC mode with PKCS #7 padding (RFC 8216bis, 4.4.4.4), piece by piece as they come.
//!
//! What is encrypted is copied: into the cipher text. Each segment has an initialization vector of its own, made of
//! when the packager began, its track and its number.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::cipher::{AES_128, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a key, of an initialization vector and of a block.
const BLOCK: usize = 16;
/// Bytes of the URI of a key.
const URI_BYTES_MAX: usize = 2048;

/// Gives out the keys of a stream. Called on its shard: must not block.
pub trait KeyProvider: Send {
    /// The key of the segments of this number, of all tracks: asked for each track, with numbers that grow. To turn to
    /// another key is to return another one. None if there is no key: then there is a gap where the segment would be.
    fn key(&mut self, sequence: u64) -> Option<SegmentKey>;
}

/// A key, and where players get it.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentKey {
    /// The key of AES-128.
    pub key: [u8; BLOCK],
    /// As it stands in the playlist: at most 2,048 printable ASCII characters without quotation marks. With any other
    /// the key is none.
    pub uri: Box<str>,
}

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentKey").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// The provider of a stream, for each of its tracks.
#[derive(Clone)]
pub(super) struct Keys(Arc<Mutex<dyn KeyProvider>>);

impl Keys {
    pub(super) fn new(provider: impl KeyProvider + 'static) -> Self {
        Self(Arc::new(Mutex::new(provider)))
    }

    /// Begins a segment: none if it must be a gap.
    pub(super) fn seal(&self, epoch: u64, track: u8, sequence: u64) -> Option<Seal> {
        let SegmentKey { key, uri } = self.0.lock().key(sequence)?;
        let printable = |byte: u8| (b'!'..=b'~').contains(&byte) && byte != b'"';
        if uri.is_empty() || uri.len() > URI_BYTES_MAX || !uri.bytes().all(printable) {
            return None;
        }
        // 56 bits of numbers are enough for a segment every nanosecond of two years.
        let iv = u128::from(epoch) << 64 | u128::from(track) << 56 | u128::from(sequence & (u64::MAX >> 8));
        let context = EncryptionContext::Iv128(FixedLength::from(iv.to_be_bytes()));
        let key = UnboundCipherKey::new(&AES_128, &key).ok()?;
        let cipher = StreamingEncryptingKey::less_safe_cbc_pkcs7(key, context).ok()?;
        Some(Seal { cipher, lock: Arc::new(Lock { uri, iv }) })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// What a playlist says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) uri: Box<str>,
    pub(super) iv: u128,
}

/// A segment that is being encrypted.
pub(super) struct Seal {
    cipher: StreamingEncryptingKey,
    pub(super) lock: Arc<Lock>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

impl Seal {
    /// What these slices become, as far as it is known: less than a block is held back.
    pub(super) fn update(&mut self, slices: &[Bytes]) -> Option<Vec<Bytes>> {
        let mut sealed = Vec::with_capacity(slices.len());
        for slice in slices {
            let mut out = vec![0; slice.len().checked_add(BLOCK)?];
            let written = self.cipher.update(slice, &mut out).ok()?.written().len();
            out.truncate(written);
            sealed.push(out.into());
        }
        Some(sealed)
    }

    /// What is left, padded to a block.
    pub(super) fn end(self) -> Option<(Bytes, Arc<Lock>)> {
        let mut out = vec![0; BLOCK];
        let (_, update) = self.cipher.finish(&mut out).ok()?;
        let written = update.written().len();
        out.truncate(written);
        Some((out.into(), self.lock))
    }
}
