//! AMF0 values: what can be read can be written and is then read as the same bytes again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::rtmp::amf::{Decoder, encode};

fuzz_target!(|data: &[u8]| {
    let mut values = Decoder::new(data);
    let mut written = Vec::new();
    while let Ok(Some(value)) = values.value() {
        encode(&mut written, &value);
    }
    let mut again = Decoder::new(&written);
    let mut rewritten = Vec::new();
    while let Some(value) = again.value().expect("our own bytes are good") {
        encode(&mut rewritten, &value);
    }
    assert_eq!(written, rewritten);
});
