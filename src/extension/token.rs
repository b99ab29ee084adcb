//! Tokens that a web application signs and shardcast checks without asking anybody.
//!
//! A token is `v1.KEYID.CLAIMS.MAC`, fit for a URL as it is:
//!
//! * `v1` stands for HMAC-SHA256; there is no field that would choose an algorithm.
//! * `KEYID` names the secret, so that secrets can be replaced one by one: add the new one, sign with it, remove
//!   the old one when its last token has expired.
//! * `CLAIMS` is base64url (no padding) of `a=ACTION&s=STREAMS&e=EXPIRES`, then `&u=PRINCIPAL` and `&i=ADDRESS` if
//!   there are such, in this order. `ACTION` is `publish`, `play` or `both`; `STREAMS` is a [`KeyPattern`]; `EXPIRES`
//!   are seconds since 1970 UTC, and from that second on the token is expired; `ADDRESS` is the only address that may use it.
//! * `MAC` is base64url of HMAC-SHA256, with the secret, over all that stands before its dot.
//!
//! In Python: `claims = b64url(b"a=play&s=live/demo&e=1767225600")`, `head = b"v1.web." + claims`,
//! `token = head + b"." + b64url(hmac.digest(secret, head, "sha256"))`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Wall;
use crate::extension::{Actions, AuthReply, AuthRequest, Authenticator, Decision, Grant, KeyPattern};
use crate::reason::Reason;

/// Lets in whoever shows a valid token for what it asks; everybody else is denied.
#[derive(Debug)]
pub struct TokenAuthenticator {
    keys: Vec<TokenKey>,
    leeway: Duration,
}

impl TokenAuthenticator {
    /// Accepts tokens signed with any of the keys. Without keys nobody is let in.
    #[must_use]
    pub const fn new(keys: Vec<TokenKey>) -> Self {
        Self { keys, leeway: Duration::ZERO }
    }

    /// Accepts a token for so long after it expired, where the signer's clock is not ours. Zero by default.
    #[must_use]
    pub const fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Whom the token of this request names.
    ///
    /// # Errors
    /// [`Reason::TokenExpired`] for a token that was good for this request, [`Reason::Denied`] for everything else.
    pub fn check(&self, request: &AuthRequest) -> Result<Arc<str>, Reason> {
        let token = request.credentials.token.as_ref().ok_or(Reason::Denied)?;
        let (key, claims) = self.verify(token.expose()).ok_or(Reason::Denied)?;
        if !claims.grant.covers(request.action, &request.key) {
            return Err(Reason::Denied);
        }
        let from = request.peer.map(|peer| peer.ip().to_canonical());
        if claims.address.is_some_and(|address| from != Some(address.to_canonical())) {
            return Err(Reason::Denied);
        }
        let leeway = u64::try_from(self.leeway.as_nanos()).unwrap_or(u64::MAX);
        if request.now.wall.0.saturating_sub(leeway) >= claims.expires.saturating_mul(NANOS) {
            return Err(Reason::TokenExpired);
        }
        Ok(claims.principal.map_or_else(|| key.id.clone(), Into::into))
    }

    /// The claims of a token that one of the keys has signed. Nothing is parsed before its signature is verified.
    fn verify(&self, token: &str) -> Option<(&TokenKey, Claims)> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (head, mac) = token.rsplit_once('.')?;
        let (id, claims) = head.strip_prefix(VERSION)?.split_once('.')?;
        let key = self.keys.iter().find(|key| *key.id == *id)?;
        // Compares in constant time.
        hmac::verify(&key.secret, head.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        Some((key, Claims::parse(&claims)?))
    }
}

impl Authenticator for TokenAuthenticator {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        reply.decide(match self.check(&request) {
            Ok(principal) => Decision::Allow { principal: Some(principal) },
            Err(reason) => Decision::Deny(reason),
        });
    }
}

/// A secret that tokens are signed with, and its name.
#[derive(Clone)]
pub struct TokenKey {
    id: Arc<str>,
    secret: hmac::Key,
}

impl TokenKey {
    /// Names a secret. The name consists of `A-Z a-z 0-9 _ -`, the secret has at least [`SECRET_BYTES_MIN`] bytes.
    ///
    /// # Errors
    /// [`TokenError::KeyId`] or [`TokenError::ShortSecret`].
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, TokenError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        if id.is_empty() || id.len() > WORD_BYTES_MAX || !id.bytes().all(allowed) {
            return Err(TokenError::KeyId);
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(TokenError::ShortSecret);
        }
        Ok(Self { id: id.into(), secret: hmac::Key::new(hmac::HMAC_SHA256, secret) })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// [`TokenError::Principal`].
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        if claims.principal.as_deref().is_some_and(|principal| !is_principal(principal)) {
            return Err(TokenError::Principal);
        }
        let mut token = format!("{VERSION}{}.{}", self.id, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mac = hmac::sign(&self.secret, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        Ok(token)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.id)
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What its holder may do.
    pub grant: Grant,
    /// Seconds since 1970 UTC; from that second on it is expired.
    pub expires: u64,
    /// Who holds it, for the audit trail: `A-Z a-z 0-9 _ . ~ @ -`. The key's name if absent.
    pub principal: Option<Box<str>>,
    /// The only address that may use it.
    pub address: Option<IpAddr>,
}

impl Claims {
    /// When a token that is made now and lasts for `validity` expires, rounded up to a second.
    #[must_use]
    pub fn expires_after(now: Wall, validity: Duration) -> u64 {
        now.0.div_ceil(NANOS).saturating_add(validity.as_secs())
    }

    /// Reads the fields in their one order, each at most once, and nothing else.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('&').peekable();
        let mut field =
            |name: &str| fields.next_if(|field| field.starts_with(name)).map(|field| &field[name.len()..]);
        let actions: Actions = field("a=")?.parse().ok()?;
        let streams: KeyPattern = field("s=")?.parse().ok()?;
        let expires = field("e=")?.parse().ok()?;
        let principal = field("u=").map(Into::into);
        let address = field("i=").map(str::parse).transpose().ok()?;
        let claims = Self { grant: Grant { actions, streams }, expires, principal, address };
        (fields.next().is_none() && claims.principal.as_deref().is_none_or(is_principal)).then_some(claims)
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a={}&s={}&e={}", self.grant.actions, self.grant.streams, self.expires)?;
        if let Some(principal) = &self.principal {
            write!(f, "&u={principal}")?;
        }
        if let Some(address) = self.address {
            write!(f, "&i={address}")?;
        }
        Ok(())
    }
}

/// Why a key or a token cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The name of a key.
    #[error("the id of a token key must have 1 to {WORD_BYTES_MAX} characters out of A-Z a-z 0-9 _ -")]
    KeyId,
    /// The secret of a key.
    #[error("the secret of a token key must have at least {SECRET_BYTES_MIN} bytes: try `openssl rand -hex 32`")]
    ShortSecret,
    /// The principal of a token.
    #[error("the principal of a token must have 1 to {WORD_BYTES_MAX} characters out of A-Z a-z 0-9 _ . ~ @ -")]
    Principal,
}

/// Bytes of a secret at least: with fewer it can be guessed from one token.
pub const SECRET_BYTES_MIN: usize = 16;

/// Bytes of a token at most: version, two words, an address and the longest name in base64 stay well below.
const TOKEN_BYTES_MAX: usize = 1024;
/// Bytes of a key's name or a principal.
const WORD_BYTES_MAX: usize = 64;
const VERSION: &str = "v1.";
const NANOS: u64 = 1_000_000_000;

fn is_principal(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.~@-".contains(&b);
    !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Instant, Now};
    use crate::extension::{Action, Credentials};
    use crate::id::{ConnectionId, StreamKey};

    const SECRET: &[u8] = b"planted-secret-of-the-web-application";
    const EXPIRES: u64 = 1_767_225_600;
    const BEFORE: Wall = Wall((EXPIRES - 1) * NANOS);

    fn key(id: &str) -> TokenKey {
        TokenKey::new(id, SECRET).unwrap()
    }

    fn claims(actions: Actions, streams: &str) -> Claims {
        let grant = Grant { actions, streams: streams.parse().unwrap() };
        Claims { grant, expires: EXPIRES, principal: Some("eve".into()), address: None }
    }

    fn play(token: &str, stream: &str, wall: Wall) -> AuthRequest {
        request(Action::Play, token, stream, wall, "192.0.2.1:5000".parse().unwrap())
    }

    fn request(action: Action, token: &str, stream: &str, wall: Wall, peer: SocketAddr) -> AuthRequest {
        let credentials = Credentials::from_query(&format!("token={token}"));
        let now = Now { mono: Instant::ZERO, wall };
        let key = StreamKey::parse(stream).unwrap();
        AuthRequest::new(action, key, credentials, ConnectionId(1), Some(peer), "rtmp", now)
    }

    fn checked(token: &str, stream: &str, wall: Wall) -> Result<String, Reason> {
        let gate = TokenAuthenticator::new(vec![key("old"), key("web")]);
        gate.check(&play(token, stream, wall)).map(|principal| principal.to_string())
    }

    #[test]
    fn a_token_has_the_documented_form() {
        let claims = Claims { address: Some("192.0.2.1".parse().unwrap()), ..claims(Actions::Play, "live/demo") };
        // python3: hmac.digest(SECRET, head, "sha256") over the claims a=play&s=live/demo&e=1767225600&u=eve&i=192.0.2.1
        assert_eq!(key("web").sign(&claims).unwrap(), EXPECTED_TOKEN);
    }

    #[test]
    fn a_good_token_opens_its_stream_for_its_principal() {
        let token = key("web").sign(&claims(Actions::Play, "live/*")).unwrap();
        assert_eq!(checked(&token, "live/demo", BEFORE), Ok("eve".into()));
    }

    #[test]
    fn a_token_without_a_principal_is_known_by_its_key() {
        let token = key("web").sign(&Claims { principal: None, ..claims(Actions::Play, "*") }).unwrap();
        assert_eq!(checked(&token, "live/demo", BEFORE), Ok("web".into()));
    }

    #[test]
    fn a_token_is_good_until_its_second_and_not_from_then_on() {
        let token = key("web").sign(&claims(Actions::Play, "live/demo")).unwrap();
        let at = |wall| checked(&token, "live/demo", Wall(wall));
        assert!(at(0).is_ok());
        assert!(at(EXPIRES * NANOS - 1).is_ok());
        assert_eq!(at(EXPIRES * NANOS), Err(Reason::TokenExpired));
        assert_eq!(at((EXPIRES + 1) * NANOS), Err(Reason::TokenExpired));
        assert_eq!(at(u64::MAX), Err(Reason::TokenExpired));
    }

    #[test]
    fn a_leeway_bears_with_a_clock_that_is_behind() {
        let token = key("web").sign(&claims(Actions::Play, "*")).unwrap();
        let gate = TokenAuthenticator::new(vec![key("web")]).leeway(Duration::from_secs(30));
        let at = |seconds| gate.check(&play(&token, "live/demo", Wall((EXPIRES + seconds) * NANOS)));
        assert!(at(29).is_ok());
        assert_eq!(at(30), Err(Reason::TokenExpired));
    }

    #[test]
    fn an_expiry_beyond_the_end_of_time_does_not_wrap() {
        let token = key("web").sign(&Claims { expires: u64::MAX, ..claims(Actions::Play, "*") }).unwrap();
        assert!(checked(&token, "live/demo", BEFORE).is_ok());
    }

    #[test]
    fn what_the_token_does_not_grant_is_denied_even_after_it_expired() {
        let token = key("web").sign(&claims(Actions::Play, "live/demo")).unwrap();
        for wall in [BEFORE, Wall(u64::MAX)] {
            assert_eq!(checked(&token, "live/Demo", wall), Err(Reason::Denied), "the case of a letter");
            assert_eq!(checked(&token, "live/demo2", wall), Err(Reason::Denied));
            assert_eq!(checked(&token, "other/demo", wall), Err(Reason::Denied));
            let gate = TokenAuthenticator::new(vec![key("web")]);
            let publish = request(Action::Publish, &token, "live/demo", wall, "192.0.2.1:1".parse().unwrap());
            assert_eq!(gate.check(&publish), Err(Reason::Denied));
        }
    }

    #[test]
    fn a_token_for_one_address_is_denied_from_another() {
        let claims = Claims { address: Some("192.0.2.1".parse().unwrap()), ..claims(Actions::Play, "*") };
        let token = key("web").sign(&claims).unwrap();
        let gate = TokenAuthenticator::new(vec![key("web")]);
        let from = |peer: &str| gate.check(&request(Action::Play, &token, "live/a", BEFORE, peer.parse().unwrap()));
        assert!(from("192.0.2.1:1").is_ok());
        assert!(from("[::ffff:192.0.2.1]:1").is_ok(), "the same address on a dual-stack listener");
        assert_eq!(from("192.0.2.2:1"), Err(Reason::Denied));
        let host = AuthRequest { peer: None, ..play(&token, "live/a", BEFORE) };
        assert_eq!(gate.check(&host), Err(Reason::Denied));
    }

    #[test]
    fn an_unknown_key_a_wrong_secret_and_no_token_are_denied() {
        let claims = claims(Actions::Play, "*");
        let unknown = key("new").sign(&claims).unwrap();
        let forged = TokenKey::new("web", b"another secret of its own").unwrap().sign(&claims).unwrap();
        for token in [&*unknown, &*forged, ""] {
            assert_eq!(checked(token, "live/demo", BEFORE), Err(Reason::Denied), "{token}");
        }
        let nobody = TokenAuthenticator::new(Vec::new());
        let good = key("web").sign(&claims).unwrap();
        assert_eq!(nobody.check(&play(&good, "live/demo", BEFORE)), Err(Reason::Denied));
    }

    #[test]
    fn no_other_algorithm_or_version_exists() {
        let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = b64(&claims(Actions::Both, "*").to_string());
        for token in [
            format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(r#"{"exp":9999999999}"#)),
            format!("v0.web.{claims}."),
            format!("v1.web.{claims}."),
            format!("v1.web.{claims}"),
            format!("v1.none.{claims}."),
            format!("v1..{claims}."),
            "...".into(),
            "v1.".into(),
        ] {
            assert_eq!(checked(&token, "live/demo", BEFORE), Err(Reason::Denied), "{token}");
        }
    }

    #[test]
    fn claims_in_any_other_form_are_denied_though_they_are_signed() {
        for text in [
            "",
            "a=both&s=*",
            "s=*&a=both&e=9999999999",
            "a=both&s=*&e=-1",
            "a=both&s=*&e=99999999999999999999",
            "a=both&s=*&e=9999999999&x=1",
            "a=both&s=*&e=9999999999&e=9999999999",
            "a=both&s=*&e=9999999999&u=",
            "a=both&s=*&e=9999999999&u=a b",
            "a=both&s=*&e=9999999999&i=localhost",
            "a=admin&s=*&e=9999999999",
            "a=both&s=live&e=9999999999",
        ] {
            let key = key("web");
            let head = format!("v1.web.{}", URL_SAFE_NO_PAD.encode(text));
            let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&key.secret, head.as_bytes()));
            assert_eq!(checked(&format!("{head}.{mac}"), "live/demo", BEFORE), Err(Reason::Denied), "{text}");
        }
    }

    #[test]
    fn a_token_with_any_character_changed_is_denied() {
        let token = key("web").sign(&claims(Actions::Both, "*")).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(checked(&changed, "live/demo", BEFORE), Err(Reason::Denied), "byte {at}");
        }
    }

    #[test]
    fn weak_keys_and_odd_names_are_refused() {
        assert_eq!(TokenKey::new("web", b"fifteen bytes..").unwrap_err(), TokenError::ShortSecret);
        for id in ["", "a.b", "a b", &"x".repeat(WORD_BYTES_MAX + 1)] {
            assert_eq!(TokenKey::new(id, SECRET).unwrap_err(), TokenError::KeyId);
        }
        let odd = Claims { principal: Some("a&e=9".into()), ..claims(Actions::Play, "*") };
        assert_eq!(key("web").sign(&odd), Err(TokenError::Principal));
    }

    #[test]
    fn neither_secret_nor_token_is_in_print_outs() {
        let token = key("web").sign(&claims(Actions::Play, "*")).unwrap();
        let gate = TokenAuthenticator::new(vec![key("web")]);
        let shown = format!("{gate:?}{:?}", play(&token, "live/demo", BEFORE));

        let mac = token.rsplit_once('.').unwrap().1;
        assert!(!shown.contains(mac) && !shown.contains("planted-secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_claims_come_back_as_they_were(
            streams in "[a-z]{1,9}/([a-zA-Z0-9_.~-]{1,9}x|[*])",
            expires in any::<u64>(),
            principal in proptest::option::of("[A-Za-z0-9_.~@-]{1,64}"),
            address in proptest::option::of(any::<IpAddr>()),
        ) {
            let claims = Claims { expires, principal: principal.map(Into::into), address, ..claims(Actions::Publish, &streams) };
            let gate = TokenAuthenticator::new(vec![key("web")]);
            let token = key("web").sign(&claims).unwrap();
            prop_assert_eq!(gate.verify(&token).map(|(_, claims)| claims), Some(claims));
        }

        #[test]
        fn no_text_is_let_in(text in ".{0,200}") {
            prop_assert_eq!(checked(&text, "live/demo", BEFORE), Err(Reason::Denied));
        }
    }

    const EXPECTED_TOKEN: &str = "v1.web.YT1wbGF5JnM9bGl2ZS9kZW1vJmU9MTc2NzIyNTYwMCZ1PWV2ZSZpPTE5Mi4wLjIuMQ._fZAdy-H0zOFi35ZqCKR8LMKL8xkHKszGyQI4rHxayg";
}
