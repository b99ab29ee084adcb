//! The key that signs checkpoints: Ed25519, in the files that OpenSSL reads too.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::hash::{Hasher, hex};

/// A private key. Whoever has it can sign a trail that never happened: keep it off the machine that is to be trusted
/// the least, and the checkpoints too.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: String,
}

/// The public half: enough to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    bytes: Vec<u8>,
    id: String,
}

/// A file that holds no key of the kind that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no PEM text of that kind.
    #[error("it is no PEM file with a {0}")]
    Pem(&'static str),
    /// What is in it is no Ed25519 key.
    #[error("what is in it is no Ed25519 key")]
    Ed25519,
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate().map(Self::new).map_err(|_| KeyError::Random)
    }

    /// Reads a PKCS #8 private key in PEM, as [`SigningKey::to_pem`] or `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = unwrap(text, PRIVATE).ok_or(KeyError::Pem(PRIVATE))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Self::new).map_err(|_| KeyError::Ed25519)
    }

    fn new(pair: Ed25519KeyPair) -> Self {
        let id = id(pair.public_key().as_ref());
        Self { pair, id }
    }

    /// The key as PEM text, with its public half.
    ///
    /// # Errors
    /// [`KeyError::Ed25519`]: it cannot be written down.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError::Ed25519)?;
        Ok(wrap(der.as_ref(), PRIVATE))
    }

    /// The public half.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey { bytes: self.pair.public_key().as_ref().to_vec(), id: self.id.clone() }
    }

    /// By which checkpoints name it: the first 16 digits of the SHA-256 of its public half.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl VerifyingKey {
    /// Reads a public key in PEM, as [`VerifyingKey::to_pem`] or `openssl pkey -pubout` write it.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = unwrap(text, PUBLIC).ok_or(KeyError::Pem(PUBLIC))?;
        let bytes = der.strip_prefix(SPKI).filter(|bytes| bytes.len() == 32).ok_or(KeyError::Ed25519)?;
        Ok(Self { bytes: bytes.to_vec(), id: id(bytes) })
    }

    /// The key as PEM text (RFC 8410).
    #[must_use]
    pub fn to_pem(&self) -> String {
        wrap(&[SPKI, &self.bytes].concat(), PUBLIC)
    }

    /// As [`SigningKey::id`].
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this key signed the message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

fn id(public: &[u8]) -> String {
    hex(&Hasher::of(public)[..8])
}

fn wrap(der: &[u8], kind: &str) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn unwrap(text: &str, kind: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {kind}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {kind}-----"))?;
    let body: String = body.split_whitespace().collect();
    BASE64_STANDARD.decode(body).ok()
}

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// What stands before the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo`.
const SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_and_read_and_its_signature_is_its_own() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        let public = VerifyingKey::from_pem(&key.verifying().to_pem()).unwrap();
        assert_eq!((again.id(), public.id()), (key.id(), key.id()));

        let signature = again.sign(b"silence");
        assert!(public.verifies(b"silence", &signature) && !public.verifies(b"speech", &signature));
        assert!(!SigningKey::generate().unwrap().verifying().verifies(b"silence", &signature));
        assert!(!format!("{key:?}").contains(key.to_pem().unwrap().lines().nth(1).unwrap()));
    }

    /// Made by OpenSSL 3.
    #[test]
    fn keys_of_openssl_are_read_and_other_files_refused() {
        let private = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEIJYtlkoTRS/FFtDgU9/XoX7sJzdVBq1Vv97DAkHQhSdp\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAAhcslpDCxZTXZYD93h9DxmCgI/zTFTkd3jUIAfB4F4c=\n-----END PUBLIC KEY-----\n";
        let key = SigningKey::from_pem(private).unwrap();
        assert_eq!(key.verifying(), VerifyingKey::from_pem(public).unwrap());
        assert_eq!(SigningKey::from_pem(public).unwrap_err(), KeyError::Pem(PRIVATE));
        assert_eq!(VerifyingKey::from_pem("no key").unwrap_err(), KeyError::Pem(PUBLIC));
    }
}
