//! Both forms of the handshake, from both sides, in any pieces.

use bytes::Bytes;

use crate::protocol::rtmp::handshake::{Client, HandshakeError, PACKET_BYTES, Server};

/// Runs both sides against each other, in pieces of `step` bytes; gives S0, S1 and S2.
fn shake(digest: bool, step: usize) -> Vec<u8> {
    let mut server = Server::new([1, 2, 3, 4]);
    let (mut up, mut down, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    let mut client = Client::new([5, 6, 7, 8], digest, &mut up);
    let (mut server_done, mut client_done) = (false, false);
    while !(server_done && client_done) {
        for piece in std::mem::take(&mut up).chunks(step) {
            server_done = server.handle(&mut Bytes::copy_from_slice(piece), &mut down).unwrap();
        }
        answer.extend_from_slice(&down);
        for piece in std::mem::take(&mut down).chunks(step) {
            client_done = client.handle(&mut Bytes::copy_from_slice(piece), &mut up).unwrap();
        }
    }
    answer
}

#[test]
fn both_forms_come_to_an_end_in_any_pieces() {
    for digest in [false, true] {
        let whole = shake(digest, usize::MAX);
        assert_eq!(whole.len(), 1 + 2 * PACKET_BYTES);
        assert_eq!(shake(digest, 1), whole);
        assert_eq!(shake(digest, 1000), whole);
    }
}

#[test]
fn the_plain_form_is_echoed_and_the_digest_form_is_signed() {
    let mut c1 = Vec::new();
    let _client = Client::new([5, 6, 7, 8], false, &mut c1);
    let plain = shake(false, 4096);
    assert_eq!(plain[1 + PACKET_BYTES..], c1[1..]);
    assert_eq!(plain[5..9], [0; 4]);
    assert_ne!(shake(true, 4096)[5..9], [0; 4]);
}

#[test]
fn a_digest_at_the_last_place_of_either_scheme_is_found() {
    // Made and checked by an independent client: the offset bytes sum to 727, the greatest remainder.
    for scheme in [8_usize, 772] {
        for sum in [[255, 255, 217, 0], [0, 0, 0, 0], [255, 255, 218, 0], [255; 4]] {
            let mut c1 = [9_u8; PACKET_BYTES];
            c1[4..8].copy_from_slice(&[128, 0, 7, 2]);
            c1[scheme..scheme + 4].copy_from_slice(&sum);
            let place = scheme + 4 + sum.iter().map(|b| usize::from(*b)).sum::<usize>() % 728;
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"Genuine Adobe Flash Player 001");
            let rest = [&c1[..place], &c1[place + 32..]].concat();
            c1[place..place + 32].copy_from_slice(aws_lc_rs::hmac::sign(&key, &rest).as_ref());

            let mut out = Vec::new();
            let mut input = Bytes::from([&[3][..], &c1].concat());
            Server::new([1; 4]).handle(&mut input, &mut out).unwrap();
            assert_eq!(out[5..9], [4, 5, 0, 1], "scheme {scheme}, {sum:?}");

            // One bit wrong: answered in the plain form.
            c1[place] ^= 1;
            let mut out = Vec::new();
            Server::new([1; 4]).handle(&mut Bytes::from([&[3][..], &c1].concat()), &mut out).unwrap();
            assert_eq!(out[1 + PACKET_BYTES..], c1[..]);
        }
    }
}

#[test]
fn what_is_not_rtmp_is_refused_at_its_first_byte_without_an_answer() {
    for (byte, error) in [
        (b'G', HandshakeError::Version),
        (0x16, HandshakeError::Version),
        (0, HandshakeError::Version),
        (255, HandshakeError::Version),
        (6, HandshakeError::Encrypted),
    ] {
        let mut out = Vec::new();
        let result = Server::new([1; 4]).handle(&mut Bytes::copy_from_slice(&[byte]), &mut out);
        assert_eq!((result, out.len()), (Err(error), 0));
    }
}

#[test]
fn what_follows_the_handshake_is_left_in_the_input() {
    let mut input = Bytes::from([&[3][..], &[0; 2 * PACKET_BYTES], b"chunks"].concat());
    assert_eq!(Server::new([1; 4]).handle(&mut input, &mut Vec::new()), Ok(true));
    assert_eq!(input, &b"chunks"[..]);
}
