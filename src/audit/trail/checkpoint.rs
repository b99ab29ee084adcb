//! Checkpoints: what the trail was at a time, signed. Kept elsewhere they show what a chain alone cannot: that its end
//! was cut off, or that all of it was written anew.
//!
//! ```text
//! {"v":1,"log":"…","boot":2,"wall":"…","mono_ns":…,"seq":70,"segment":1,"hash":"…","root":"…",
//!  "producers":{"0":[69,60,9]},"ph":"…","key":"…","sig":"…"}
//! ```
//!
//! `producers` has for each what it had told, what of it is written, and what is lost; `ph` is the SHA-256 of the
//! checkpoint before, `sig` the Ed25519 signature over all bytes before `,"sig":`, in base64. Without a key the last
//! two are missing.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::account::Accounts;
use super::hash::{Hasher, from_hex};
use super::key::{SigningKey, VerifyingKey};
use super::{Hash, State};
use crate::audit::json::write_hex;
use crate::audit::utc::write_rfc3339;
use crate::clock::Now;

/// A checkpoint as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which trail.
    pub log: String,
    /// Which boot of it.
    pub boot: u64,
    /// The number of the last record.
    pub seq: u64,
    /// The hash of that record.
    pub hash: Hash,
    /// The root of the tree over all records up to it.
    pub root: Hash,
    /// Of the running boot: what each producer had told, and what of it was written and lost.
    pub producers: BTreeMap<u16, [u64; 3]>,
    /// The hash of the checkpoint before.
    pub before: Hash,
    /// Which key signed it, if any did.
    pub key: Option<String>,
}

/// Why a line is no checkpoint to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no such line.
    #[error("it is no checkpoint")]
    Malformed,
    /// It is not signed.
    #[error("it is not signed")]
    Unsigned,
    /// Another key signed it.
    #[error("another key signed it")]
    OtherKey,
    /// The signature is not that of these bytes.
    #[error("its signature is wrong")]
    Signature,
}

/// Writes a checkpoint with its line feed; its hash.
pub(super) fn write(
    out: &mut Vec<u8>,
    log: &str,
    (boot, segment): (u64, u64),
    now: Now,
    state: &State,
    attempted: &BTreeMap<u16, u64>,
    (before, key): (&Hash, Option<&SigningKey>),
) -> Hash {
    let start = out.len();
    out.extend_from_slice(format!("{{\"v\":1,\"log\":\"{log}\",\"boot\":{boot},\"wall\":\"").as_bytes());
    write_rfc3339(now.wall, out);
    let (mono, seq) = (now.mono.0, state.seq);
    out.extend_from_slice(
        format!("\",\"mono_ns\":{mono},\"seq\":{seq},\"segment\":{segment},\"hash\":\"").as_bytes(),
    );
    write_hex(&state.hash, out);
    out.extend_from_slice(b"\",\"root\":\"");
    write_hex(&state.tree.root(), out);
    out.extend_from_slice(b"\",\"producers\":{");
    let accounts: &Accounts = &state.accounts;
    let producers = attempted.iter().map(|(producer, told)| {
        let account = accounts.get(producer).copied().unwrap_or_default();
        format!("\"{producer}\":[{},{},{}]", told.max(&account.last()), account.written, account.lost)
    });
    out.extend_from_slice(producers.collect::<Vec<_>>().join(",").as_bytes());
    out.extend_from_slice(b"},\"ph\":\"");
    write_hex(before, out);
    out.push(b'"');
    if let Some(key) = key {
        out.extend_from_slice(format!(",\"key\":\"{}\"", key.id()).as_bytes());
        let signature = BASE64_STANDARD.encode(key.sign(&out[start..]));
        out.extend_from_slice(format!("{SIGNATURE}{signature}\"").as_bytes());
    }
    out.push(b'}');
    let hash = Hasher::of(&out[start..]);
    out.push(b'\n');
    hash
}

impl Checkpoint {
    /// Reads a line without its line feed, and checks its signature if there is a key to do so.
    ///
    /// # Errors
    /// It is none, or the key did not sign it.
    pub fn read(line: &[u8], key: Option<&VerifyingKey>) -> Result<Self, CheckpointError> {
        let parsed: Parsed = serde_json::from_slice(line).map_err(|_| CheckpointError::Malformed)?;
        let hash = |digits: &str| from_hex(digits.as_bytes()).ok_or(CheckpointError::Malformed);
        if parsed.v != 1 {
            return Err(CheckpointError::Malformed);
        }
        if let Some(key) = key {
            let (Some(id), Some(signature)) = (&parsed.key, &parsed.sig) else {
                return Err(CheckpointError::Unsigned);
            };
            if id != key.id() {
                return Err(CheckpointError::OtherKey);
            }
            let signature = BASE64_STANDARD.decode(signature).map_err(|_| CheckpointError::Malformed)?;
            let pattern = SIGNATURE.as_bytes();
            let at = line.windows(pattern.len()).rposition(|window| window == pattern);
            let signed = at.and_then(|at| line.get(..at)).ok_or(CheckpointError::Malformed)?;
            if !key.verifies(signed, &signature) {
                return Err(CheckpointError::Signature);
            }
        }
        Ok(Self {
            hash: hash(&parsed.hash)?,
            root: hash(&parsed.root)?,
            before: hash(&parsed.ph)?,
            log: parsed.log,
            boot: parsed.boot,
            seq: parsed.seq,
            producers: parsed.producers,
            key: parsed.key,
        })
    }
}

const SIGNATURE: &str = ",\"sig\":\"";

#[derive(Deserialize)]
struct Parsed {
    v: u64,
    log: String,
    boot: u64,
    seq: u64,
    hash: String,
    root: String,
    producers: BTreeMap<u16, [u64; 3]>,
    ph: String,
    key: Option<String>,
    sig: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::trail::account::Account;

    #[test]
    fn a_checkpoint_is_believed_by_its_key_alone_and_not_with_another_byte() {
        let mut state = State { seq: 70, ..State::default() };
        state.tree.push(&[7; 32]);
        state.accounts.insert(0, Account { written: 60, lost: 9 });
        let key = SigningKey::generate().unwrap();
        let mut out = Vec::new();
        let attempted = BTreeMap::from([(0, 70), (3, 0)]);
        let hash = write(&mut out, "ab", (2, 1), Now::default(), &state, &attempted, (&[1; 32], Some(&key)));

        let line = out.strip_suffix(b"\n").unwrap();
        let read = Checkpoint::read(line, Some(&key.verifying())).unwrap();
        assert_eq!((read.seq, read.root, read.before), (70, state.tree.root(), [1; 32]));
        assert_eq!(read.producers, BTreeMap::from([(0, [70, 60, 9]), (3, [0, 0, 0])]));
        assert_eq!(Hasher::of(line), hash);
        let other = SigningKey::generate().unwrap().verifying();
        assert_eq!(Checkpoint::read(line, Some(&other)), Err(CheckpointError::OtherKey));
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert!(Checkpoint::read(&changed, Some(&key.verifying())).is_err(), "byte {at}");
        }
    }
}
