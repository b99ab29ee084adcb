//! A whole RTMP session: eight bytes say how the rest is cut, the rest is what a peer sends from its first byte.

#![no_main]

use std::net::SocketAddr;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::clock::{Instant, Now};
use shardcast::limits::Limits;
use shardcast::protocol::rtmp::Rtmp;
use shardcast::protocol::{Input, Output, Protocol, SessionContext};

fuzz_target!(|data: &[u8]| {
    let Some((cuts, bytes)) = data.split_first_chunk::<8>() else { return };
    let limits = Limits::default();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut now = Now::default();
    let mut session = Rtmp.session(SessionContext { peer, limits: &limits, now, random: [1, 2, 3, 4] });
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut payload_bytes = 0;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let n = (usize::from(*cut) * 16 + 1).min(rest.len());
        let mut input = Some(Input::Bytes(rest.split_to(n)));
        while let Some(next) = input.take() {
            now.mono = Instant(now.mono.0 + 1_000_000);
            let result = session.handle(now, next);
            while let Some(output) = session.poll() {
                match output {
                    Output::Publish(request) => input = Some(Input::Published(request.handle, Ok(()))),
                    Output::Play(request) => input = Some(Input::Playing(request.handle, Ok(()))),
                    Output::Frame(_, frame) => payload_bytes += frame.payload.len(),
                    _ => {}
                }
            }
            if result.is_err() {
                return;
            }
        }
    }
    assert!(payload_bytes <= 2 * bytes.len());
});
