//! As much of the WebSocket protocol (RFC 6455) as one who only sends needs: its handshake, the header of a message, and
//! what a client may say meanwhile.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::reason::{Label, Reason};

/// What answers to a client's key (4.2.2).
pub(super) fn accept(key: &str) -> String {
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes()))
}

/// Whether it is one: the base64 of 16 bytes.
pub(super) fn is_key(key: &str) -> bool {
    BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The header of a message in one frame, from a server (5.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; 10],
    len: usize,
}

impl Header {
    /// Of a binary message of so many bytes.
    pub(super) fn of_message(bytes: usize) -> Self {
        Self::new(BINARY, bytes as u64)
    }

    fn new(opcode: u8, length: u64) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = FIN | opcode;
        let len = match length {
            0..=125 => {
                bytes[1] = length.to_be_bytes()[7];
                2
            }
            126..=0xFFFF => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&length.to_be_bytes()[6..]);
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&length.to_be_bytes());
                10
            }
        };
        Self { bytes, len }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A whole control frame.
pub(super) fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    let mut out = Header::new(opcode, payload.len() as u64).as_slice().to_vec();
    out.extend_from_slice(payload);
    out
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It ends the connection.
    Close,
    /// It wants this back.
    Ping(Vec<u8>),
    /// Anything else, which nobody waits for.
    Nothing,
}

/// Takes a whole frame off the front; `None` if it is not all there.
///
/// # Errors
/// What no client may send: a frame without a mask, or one that is longer than [`CONTROL_BYTES_MAX`]; nobody waits for
/// messages.
pub(super) fn take(input: &mut Vec<u8>) -> Result<Option<Said>, Reason> {
    let &[first, second, ..] = &input[..] else { return Ok(None) };
    let length = usize::from(second & 0x7F);
    if second & 0x80 == 0 {
        return Err(Reason::Misbehaved(Label("websocket.unmasked")));
    }
    if length > CONTROL_BYTES_MAX {
        return Err(Reason::Misbehaved(Label("websocket.message_to_a_player")));
    }
    let Some(masked) = input.get(2..6 + length) else { return Ok(None) };
    let (mask, payload) = masked.split_at(4);
    let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    input.drain(..6 + length);
    Ok(Some(match first & 0x0F {
        CLOSE => Said::Close,
        PING => Said::Ping(payload),
        _ => Said::Nothing,
    }))
}

const FIN: u8 = 0x80;
const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
/// Of a control frame, and of anything that a player says here.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_specification() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ==") && !is_key("") && !is_key("dGhlIHNhbXBsZQ=="));
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn headers_have_the_shortest_length() {
        let of = |bytes| Header::of_message(bytes).as_slice().to_vec();
        assert_eq!(of(125), [0x82, 125]);
        assert_eq!(of(126), [0x82, 126, 0, 126]);
        assert_eq!(of(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn what_a_client_says_is_unmasked_and_taken_whole() {
        // "Hello", masked: RFC 6455, 5.7, as a ping.
        let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for end in 0..ping.len() {
            assert_eq!(take(&mut ping[..end].to_vec()), Ok(None));
        }
        let mut input = [&ping[..], &[0x88, 0x80, 0, 0, 0, 0]].concat();
        assert_eq!(take(&mut input), Ok(Some(Said::Ping(b"Hello".to_vec()))));
        assert_eq!(take(&mut input), Ok(Some(Said::Close)));
        assert!(input.is_empty());
        assert!(take(&mut vec![0x89, 0x05]).is_err(), "without a mask");
        assert!(take(&mut vec![0x82, 0xFE, 1, 0]).is_err(), "a message");
    }
}
