//! A POST for each batch, signed as Standard Webhooks says (standardwebhooks.com): whoever receives it needs no code of
//! ours to check it.
//!
//! ```text
//! POST …                                           content-type: application/x-ndjson, a record in each line
//! webhook-id: LOG/FIRST-LAST                       the same when it comes again: whoever has it answers 2xx
//! webhook-timestamp: seconds since 1970 UTC
//! webhook-signature: v1,BASE64(HMAC-SHA256(secret, id.timestamp.body))
//! ```

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::destination::{Batch, DeliveryError, Destination};
use super::tls::{Roots, said};
use crate::clock::Clock;

/// Why a webhook cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The address.
    #[error("{0:?} is no address of a webhook: it begins with https:// (or http://, for a machine that is trusted)")]
    Address(String),
    /// The secret.
    #[error("it is no secret of a webhook: whsec_ and the base64 of 24 to 64 bytes")]
    Secret,
}

/// What signs: as Standard Webhooks writes it, `whsec_` and base64.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl WebhookSecret {
    /// Reads one.
    ///
    /// # Errors
    /// [`WebhookError::Secret`].
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let secret = text.trim().strip_prefix("whsec_").and_then(|secret| BASE64_STANDARD.decode(secret).ok());
        let secret = secret.filter(|secret| (24..=64).contains(&secret.len())).ok_or(WebhookError::Secret)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// A [`Destination`] that is told by HTTP.
///
/// 2xx is taken; 400, 413 and 422 is refused for good; anything else is tried again. What came through and was not
/// answered comes again with the same `webhook-id`.
#[derive(Debug)]
pub struct Webhook {
    address: String,
    secret: WebhookSecret,
    agent: ureq::Agent,
    clock: Clock,
}

impl Webhook {
    /// At this address.
    ///
    /// # Errors
    /// [`WebhookError::Address`].
    pub fn new(address: &str, secret: WebhookSecret, roots: &Roots) -> Result<Self, WebhookError> {
        let uri = address.parse::<ureq::http::Uri>().ok();
        let fits = |uri: &ureq::http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if !uri.as_ref().is_some_and(fits) {
            return Err(WebhookError::Address(address.into()));
        }
        Ok(Self { address: address.into(), secret, agent: roots.agent(PATIENCE), clock: Clock::start() })
    }
}

impl Destination for Webhook {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        let (id, body) = (batch.id(), batch.to_lines());
        let timestamp = (self.clock.now().wall.0 / 1_000_000_000).to_string();
        let signature = self.secret.sign(&id, &timestamp, &body);
        let request = self
            .agent
            .post(&self.address)
            .header("content-type", "application/x-ndjson")
            .header("webhook-id", &id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", &signature);
        let mut response = request.send(&body[..]).map_err(DeliveryError::later)?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            400 | 413 | 422 => Err(DeliveryError::refused(said(&mut response))),
            _ => Err(DeliveryError::later(said(&mut response))),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_example_in_the_specification() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_cannot_be_a_secret_or_an_address_is_told_and_none_is_shown() {
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_!!!!"] {
            assert_eq!(WebhookSecret::parse(text).err(), Some(WebhookError::Secret), "{text}");
        }
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "WebhookSecret");
        let roots = Roots::of_this_machine().unwrap();
        for address in ["", "example.org/x", "ftp://example.org", "https://"] {
            let refused = Webhook::new(address, secret.clone(), &roots).err();
            assert_eq!(refused, Some(WebhookError::Address(address.into())));
        }
    }
}
