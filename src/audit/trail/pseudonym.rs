//! Names for people that only the holder of a key can find again.
//!
//! Where a trail is kept with such a key, addresses and principals stand in it as a keyed hash: the same one is always
//! the same, so that what somebody did can be followed, and who that was is known to nobody without the key. When the key
//! is destroyed the trail is whole as before, and its people are gone.

use aws_lc_rs::hmac;

use super::hash::{from_hex, hex};

/// The key of the hash: 32 secret bytes.
pub struct PseudonymKey {
    key: hmac::Key,
    secret: [u8; 32],
}

/// Why it cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PseudonymKeyError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("it is not 64 lower-case hexadecimal digits")]
    Malformed,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl PseudonymKey {
    /// A new one.
    ///
    /// # Errors
    /// [`PseudonymKeyError::Random`].
    pub fn generate() -> Result<Self, PseudonymKeyError> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| PseudonymKeyError::Random)?;
        Ok(Self::new(secret))
    }

    /// Reads it as [`PseudonymKey::to_hex`] writes it, with or without a line feed.
    ///
    /// # Errors
    /// [`PseudonymKeyError::Malformed`].
    pub fn from_hex(text: &str) -> Result<Self, PseudonymKeyError> {
        from_hex(text.trim_end().as_bytes()).map(Self::new).ok_or(PseudonymKeyError::Malformed)
    }

    fn new(secret: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), secret }
    }

    /// As text: a secret.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.secret)
    }

    /// Which key it is, without saying anything of it: what stands in each segment that is written with it.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&hmac::sign(&self.key, b"shardcast pseudonym key").as_ref()[..8])
    }

    /// What stands in the trail for this address (without its port) or principal: 128 bits of HMAC-SHA256.
    #[must_use]
    pub fn pseudonym(&self, name: &str) -> String {
        format!("p_{}", hex(&hmac::sign(&self.key, name.as_bytes()).as_ref()[..16]))
    }
}

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PseudonymKey({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_pseudonym_for_each_key_and_the_key_is_not_shown() {
        let key = PseudonymKey::from_hex(&format!("{}\n", "0b".repeat(32))).unwrap();
        // python3: hmac.digest(bytes([11] * 32), b"eve", "sha256")[:16].hex()
        assert_eq!(key.pseudonym("eve"), EXPECTED);
        assert_eq!(PseudonymKey::from_hex(&key.to_hex()).unwrap().pseudonym("eve"), key.pseudonym("eve"));
        let other = PseudonymKey::generate().unwrap();
        assert_ne!(other.pseudonym("eve"), key.pseudonym("eve"));
        assert!(!format!("{key:?}").contains("0b0b"));
        for wrong in ["", "0b", &"0B".repeat(32), &"0b".repeat(33)] {
            assert_eq!(PseudonymKey::from_hex(wrong).unwrap_err(), PseudonymKeyError::Malformed);
        }
    }

    const EXPECTED: &str = "p_811818342af36ac59e05e6ffc18b4f48";
}
