//! SHA-256, and hashes as text.

use aws_lc_rs::digest::{SHA256, digest};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What a trail begins with, where nothing came before.
pub const NOTHING: Hash = [0; 32];

pub(super) struct Hasher;

impl Hasher {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Hash {
        exact(digest(&SHA256, bytes).as_ref())
    }
}

fn exact(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or_else(|_| unreachable!("SHA-256 has 32 bytes"))
}

/// Reads 64 lower-case digits.
#[must_use]
pub fn from_hex(digits: &[u8]) -> Option<Hash> {
    let digits: &[u8; 64] = digits.try_into().ok()?;
    let mut hash = NOTHING;
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

/// The same as text.
#[must_use]
pub fn hex(hash: &[u8]) -> String {
    let mut out = Vec::with_capacity(2 * hash.len());
    crate::audit::json::write_hex(hash, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
