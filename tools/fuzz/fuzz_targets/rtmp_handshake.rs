//! The server's side of the handshake: one byte says how the rest is cut.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::protocol::rtmp::handshake::{PACKET_BYTES, Server};

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let mut server = Server::new([1, 2, 3, 4]);
    let mut out = Vec::new();
    for piece in bytes.chunks(usize::from(*cut) * 16 + 1) {
        match server.handle(&mut Bytes::copy_from_slice(piece), &mut out) {
            Ok(false) => {}
            Ok(true) | Err(_) => break,
        }
    }
    assert!(out.is_empty() || out.len() == 1 + 2 * PACKET_BYTES);
});
