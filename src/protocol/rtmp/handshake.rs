//! The handshake, both sides: Adobe RTMP 1.0, section 5.2, and its digest form.
//!
//! The plain form echoes random bytes. In the digest ("complex") form, which Flash players and FFmpeg begin, each
//! side hides an HMAC-SHA256 of its random bytes at a place that those bytes choose, in one of two schemes; the
//! server answers in the form and scheme of the client. Nothing is secret here: it only shows that both speak
//! RTMP. RTMPE (version 6) is refused.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use aws_lc_rs::hmac;
use bytes::{Buf, Bytes};

use crate::reason::{Label, Reason};

/// Bytes of C1, C2, S1 and S2.
pub const PACKET_BYTES: usize = 1536;
/// The one protocol version.
pub const VERSION: u8 = 3;

const VERSION_RTMPE: u8 = 6;
const DIGEST_BYTES: usize = 32;
/// Where a scheme's four offset bytes stand; the digest lies behind them, at most 727 bytes further.
const SCHEMES: [usize; 2] = [8, 772];
const DIGEST_PLACES: usize = 728;

/// The key of the server's digests; its first 36 bytes are for S1.
const SERVER_KEY: [u8; 68] = *b"Genuine Adobe Flash Media Server 001\
\xF0\xEE\xC2\x4A\x80\x68\xBE\xE8\x2E\x00\xD0\xD1\x02\x9E\x7E\x57\
\x6E\xEC\x5D\x2D\x29\x80\x6F\xAB\x93\xB8\xE6\x36\xCF\xEB\x31\xAE";
/// The key of the client's digests; its first 30 bytes are for C1.
const CLIENT_KEY: [u8; 62] = *b"Genuine Adobe Flash Player 001\
\xF0\xEE\xC2\x4A\x80\x68\xBE\xE8\x2E\x00\xD0\xD1\x02\x9E\x7E\x57\
\x6E\xEC\x5D\x2D\x29\x80\x6F\xAB\x93\xB8\xE6\x36\xCF\xEB\x31\xAE";
/// What S1 and C1 of the digest form say as their version.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];
const CLIENT_VERSION: [u8; 4] = [128, 0, 7, 2];

type Packet = [u8; PACKET_BYTES];

/// Why a handshake fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first byte is no version of RTMP: an HTTP request, TLS, or noise.
    #[error("the first byte is not that of RTMP")]
    Version,
    /// RTMPE.
    #[error("RTMPE is not supported")]
    Encrypted,
}

impl From<HandshakeError> for Reason {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Version => Self::Malformed { what: Label("rtmp.version"), at: 0 },
            HandshakeError::Encrypted => Self::Unsupported(Label("rtmp.rtmpe")),
        }
    }
}

/// The server's side.
#[derive(Debug)]
pub struct Server {
    random: [u64; 4],
    state: State,
}

/// The client's side, for load generators and tests.
#[derive(Debug)]
pub struct Client {
    state: State,
    digest: bool,
}

#[derive(Debug)]
enum State {
    ExpectVersion,
    /// C1 or S1, as far as it came.
    Expect1(Gathered),
    /// C2 or S2: bytes still to come. Its content proves nothing that we need.
    Expect2(usize),
    Done,
}

impl Server {
    /// A server whose random bytes grow from `random`.
    #[must_use]
    pub fn new(random: [u64; 4]) -> Self {
        Self { random, state: State::ExpectVersion }
    }

    /// Takes bytes from the front of `input`, appends the answer to `out`, and says whether it is done: what
    /// is left of `input` are chunks.
    ///
    /// # Errors
    /// [`HandshakeError`], at the first byte and without an answer.
    pub fn handle(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        loop {
            match &mut self.state {
                State::ExpectVersion => {
                    let Some(&version) = input.first() else { return Ok(false) };
                    match version {
                        VERSION => {}
                        VERSION_RTMPE => return Err(HandshakeError::Encrypted),
                        _ => return Err(HandshakeError::Version),
                    }
                    input.advance(1);
                    self.state = State::Expect1(Gathered::default());
                }
                State::Expect1(gathered) => {
                    let Some(c1) = gathered.take(input) else { return Ok(false) };
                    answer(self.random, &c1, out);
                    self.state = State::Expect2(PACKET_BYTES);
                }
                State::Expect2(left) => {
                    skip(input, left);
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.state = State::Done;
                }
                State::Done => return Ok(true),
            }
        }
    }
}

impl Client {
    /// A client that appends C0 and C1 to `out`, plain or with a digest.
    #[must_use]
    pub fn new(random: [u64; 4], digest: bool, out: &mut Vec<u8>) -> Self {
        let mut c1 = noise(random, 1);
        if digest {
            put(&mut c1, 4, &CLIENT_VERSION);
            sign(&mut c1, SCHEMES[0], CLIENT_KEY.get(..30).unwrap_or_default());
        } else {
            put(&mut c1, 4, &[0; 4]);
        }
        out.push(VERSION);
        out.extend_from_slice(&c1);
        Self { state: State::ExpectVersion, digest }
    }

    /// Takes bytes from the front of `input`, appends C2 to `out`, and says whether it is done.
    ///
    /// # Errors
    /// [`HandshakeError::Version`].
    pub fn handle(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        loop {
            match &mut self.state {
                State::ExpectVersion => {
                    let Some(&version) = input.first() else { return Ok(false) };
                    if version != VERSION {
                        return Err(HandshakeError::Version);
                    }
                    input.advance(1);
                    self.state = State::Expect1(Gathered::default());
                }
                State::Expect1(gathered) => {
                    let Some(s1) = gathered.take(input) else { return Ok(false) };
                    let found = if self.digest { find(&s1, SERVER_KEY.get(..36).unwrap_or_default()) } else { None };
                    match found {
                        Some((_, digest)) => out.extend_from_slice(&proof(noise([0; 4], 3), &CLIENT_KEY, &digest)),
                        None => out.extend_from_slice(&s1),
                    }
                    self.state = State::Expect2(PACKET_BYTES);
                }
                State::Expect2(left) => {
                    skip(input, left);
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.state = State::Done;
                }
                State::Done => return Ok(true),
            }
        }
    }
}

/// S0, S1 and S2 for this C1.
fn answer(random: [u64; 4], c1: &Packet, out: &mut Vec<u8>) {
    let mut s1 = noise(random, 1);
    put(&mut s1, 4, &[0; 4]);
    // A C1 of the plain form has zeros here, and no digest is looked for.
    let asked = c1.get(4..8).is_some_and(|version| version != [0; 4]);
    let found = if asked { find(c1, CLIENT_KEY.get(..30).unwrap_or_default()) } else { None };
    out.reserve(PACKET_BYTES.saturating_mul(2).saturating_add(1));
    out.push(VERSION);
    match found {
        Some((scheme, digest)) => {
            put(&mut s1, 4, &SERVER_VERSION);
            sign(&mut s1, scheme, SERVER_KEY.get(..36).unwrap_or_default());
            out.extend_from_slice(&s1);
            out.extend_from_slice(&proof(noise(random, 2), &SERVER_KEY, &digest));
        }
        None => {
            out.extend_from_slice(&s1);
            out.extend_from_slice(c1);
        }
    }
}

/// Which scheme the packet's digest is in, and the digest.
fn find(packet: &Packet, key: &[u8]) -> Option<(usize, [u8; DIGEST_BYTES])> {
    SCHEMES.into_iter().find_map(|scheme| {
        let place = place(packet, scheme);
        let there: [u8; DIGEST_BYTES] = *packet.get(place..)?.first_chunk()?;
        (digest(packet, place, key) == there).then_some((scheme, there))
    })
}

fn sign(packet: &mut Packet, scheme: usize, key: &[u8]) {
    let place = place(packet, scheme);
    let digest = digest(packet, place, key);
    put(packet, place, &digest);
}

/// Where the digest is: four bytes, added, modulo 728, behind those four bytes. At most 772 + 4 + 727 + 32 =
/// 1535 bytes from the start, so it never reaches out of the packet.
fn place(packet: &Packet, scheme: usize) -> usize {
    let sum: usize = packet.iter().skip(scheme).take(4).map(|b| usize::from(*b)).fold(0, usize::saturating_add);
    scheme.saturating_add(4).saturating_add(sum.checked_rem(DIGEST_PLACES).unwrap_or(0))
}

const _: () = assert!(SCHEMES[1] + 4 + DIGEST_PLACES - 1 + DIGEST_BYTES <= PACKET_BYTES);

/// HMAC-SHA256 of the packet without the 32 bytes at `place`.
fn digest(packet: &Packet, place: usize, key: &[u8]) -> [u8; DIGEST_BYTES] {
    let behind = place.saturating_add(DIGEST_BYTES);
    mac(key, &[packet.get(..place).unwrap_or_default(), packet.get(behind..).unwrap_or_default()])
}

/// C2 or S2: ends in the HMAC of its own bytes with a key that grows from the peer's digest.
fn proof(mut packet: Packet, key: &[u8], peer: &[u8; DIGEST_BYTES]) -> Packet {
    let key = mac(key, &[peer]);
    let at = PACKET_BYTES.saturating_sub(DIGEST_BYTES);
    let own = mac(&key, &[packet.get(..at).unwrap_or_default()]);
    put(&mut packet, at, &own);
    packet
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().first_chunk().copied().unwrap_or_default()
}

/// A packet of random bytes behind a zero timestamp, by splitmix64 from the session's random bits.
fn noise(random: [u64; 4], salt: u64) -> Packet {
    let [a, b, c, d] = random;
    let mut state = a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47) ^ salt;
    let mut packet = [0; PACKET_BYTES];
    for eight in packet.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        eight.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    put(&mut packet, 0, &[0; 4]);
    packet
}

fn put(packet: &mut Packet, at: usize, bytes: &[u8]) {
    for (to, from) in packet.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

fn skip(input: &mut Bytes, left: &mut usize) {
    let n = input.len().min(*left);
    input.advance(n);
    *left = left.saturating_sub(n);
}

/// A packet as far as it came; nothing is allocated for one that comes in one piece.
#[derive(Debug, Default)]
struct Gathered(Vec<u8>);

impl Gathered {
    fn take(&mut self, input: &mut Bytes) -> Option<Packet> {
        if self.0.is_empty()
            && let Some(whole) = input.first_chunk::<PACKET_BYTES>().copied()
        {
            input.advance(PACKET_BYTES);
            return Some(whole);
        }
        let n = input.len().min(PACKET_BYTES.saturating_sub(self.0.len()));
        self.0.extend_from_slice(input.get(..n).unwrap_or_default());
        input.advance(n);
        self.0.first_chunk().copied()
    }
}
