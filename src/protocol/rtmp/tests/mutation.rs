//! Hundreds of thousands of inputs that are nearly right: none may panic, and what comes out keeps the rules.
//!
//! The same targets run under a coverage-guided fuzzer in `tools/fuzz`. Here a seed makes every run the same.

use bytes::Bytes;

use super::split::{player, publisher, told};
use super::*;
use crate::container::flv::tag;
use crate::media::TrackId;
use crate::protocol::rtmp::amf::{self, Decoder};
use crate::protocol::rtmp::handshake::Server;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % sides.max(1)
    }

    fn byte(&mut self) -> u8 {
        const STRANGE: [u8; 10] = [0, 1, 2, 3, 9, 0x0A, 0x7F, 0x80, 0xC4, 0xFF];
        if self.roll(2) == 0 { STRANGE[self.roll(STRANGE.len())] } else { u8::try_from(self.roll(256)).unwrap() }
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, from: usize) {
        for _ in 0..=self.roll(4) {
            let at = from + self.roll(bytes.len() - from);
            match self.roll(6) {
                0 => bytes[at] ^= 1 << self.roll(8),
                1 | 2 => bytes[at] = self.byte(),
                3 => bytes.truncate(at.max(from + 1)),
                4 => bytes.insert(at, self.byte()),
                _ => {
                    let end = bytes.len().min(at + self.roll(40));
                    let piece = bytes[at..end].to_vec();
                    let to = from + self.roll(bytes.len() - from);
                    bytes.splice(to..to, piece);
                }
            }
        }
    }
}

/// Drives a session as the router would, checking what it says. Gives the number of frames.
fn drive(bytes: &Bytes, dice: &mut Dice) -> usize {
    let mut session = session(&Limits::default());
    let mut rest = bytes.clone();
    let mut payload_bytes = 0;
    let (mut ms, mut frames) = (0, 0);
    while !rest.is_empty() {
        let longest = if dice.roll(8) == 0 { 4 } else { 4_000 };
        let cut = 1 + dice.roll(longest);
        let mut input = Some(Input::Bytes(rest.split_to(cut.min(rest.len()))));
        while let Some(next) = input.take() {
            ms += 10;
            let result = session.handle(at_ms(ms), next);
            while let Some(output) = session.poll() {
                match output {
                    Output::Publish(request) => {
                        let refused = dice.roll(16) == 0;
                        let answer = if refused { Err(Reason::Denied) } else { Ok(()) };
                        input = Some(Input::Published(request.handle, answer));
                    }
                    Output::Play(request) => input = Some(Input::Playing(request.handle, Ok(()))),
                    Output::Frame(_, frame) => {
                        assert!(frame.track < TrackId(16));
                        frames += 1;
                        payload_bytes += frame.payload.len();
                    }
                    _ => {}
                }
            }
            if result.is_err() {
                return frames;
            }
        }
        if dice.roll(50) == 0 {
            let _ = session.handle(at_ms(ms), Input::Ended(1, Reason::Ended));
            let _ = session.handle(at_ms(ms), Input::Unpublished(1, Reason::Kicked));
            let _ = session.handle(at_ms(ms), Input::Closing(Reason::Shutdown));
        }
    }
    // Legacy sound flags are one byte more per change of them.
    assert!(payload_bytes <= 2 * bytes.len());
    frames
}

#[test]
fn a_session_survives_bytes_that_are_nearly_right() {
    let mut dice = Dice(0x5EED);
    let seeds = [publisher(), player()];
    let shaken = handshake_bytes().len();
    let (mut deep, rounds) = (0, 200_000);
    for round in 0..rounds {
        let mut bytes = seeds[round % 3 % 2].clone();
        dice.mutate(&mut bytes, shaken);
        deep += usize::from(drive(&bytes.into(), &mut dice) >= 10);
    }
    // Else the inputs would be so wrong that they test nothing but the first lines.
    assert!(deep > rounds / 10, "{deep} of {rounds} reached media");
}

#[test]
fn values_survive_bytes_that_are_nearly_right() {
    let mut dice = Dice(0xA3F0);
    let mut seed = Vec::new();
    let inner = Value::object([("a", Value::Number(1.0)), ("b", Value::StrictArray(vec![Value::Null; 3]))]);
    for value in [
        Value::string("onMetaData"),
        Value::EcmaArray(vec![("x".into(), inner.clone()), ("y".into(), Value::Boolean(true))]),
        Value::Typed("C".into(), vec![("z".into(), inner)]),
        Value::Date(1.0, 0),
        Value::Xml("<a/>".into()),
    ] {
        amf::encode(&mut seed, &value);
    }
    for _ in 0..300_000 {
        let mut bytes = seed.clone();
        dice.mutate(&mut bytes, 0);
        let mut decoder = Decoder::new(&bytes);
        while let Ok(Some(_)) = decoder.value() {}
        assert!(decoder.position() <= bytes.len());
    }
}

#[test]
fn tags_survive_bytes_that_are_nearly_right() {
    let mut dice = Dice(0x7A65);
    let seeds = [
        &b"\x96\x11hvc1\x00\x00\x00\x05\0\0\0k0\x01\x00\x00\x05\0\0\0k1"[..],
        b"\x97\x02\x00\x01\x00\x01hvc1\0\0\0packet",
        b"\x95\x21Opus\x00\x00\x00\x02o0mp4a\x02\x00\x00\x02a2",
        b"\x17\x01\0\0\x40frame",
        b"\xAF\x01frame",
    ];
    for round in 0..300_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        dice.mutate(&mut bytes, 0);
        for read in [tag::video, tag::audio] {
            let Ok(mut packets) = read(Bytes::copy_from_slice(&bytes)) else { continue };
            while let Ok(Some(packet)) = packets.next() {
                assert!(!packet.payload.is_empty() && packet.payload.len() <= bytes.len());
            }
        }
    }
}

#[test]
fn a_handshake_survives_bytes_that_are_nearly_right() {
    let mut dice = Dice(0x4A5B);
    for round in 0..30_000 {
        let mut bytes = Vec::new();
        let _client = Client::new([round; 4], round % 2 == 0, &mut bytes);
        bytes.extend_from_slice(&[1; 2_000]);
        dice.mutate(&mut bytes, 0);
        let mut server = Server::new([round; 4]);
        let mut out = Vec::new();
        for piece in bytes.chunks(1 + dice.roll(3_000)) {
            if server.handle(&mut Bytes::copy_from_slice(piece), &mut out).is_err() {
                break;
            }
        }
        assert!(out.is_empty() || out.len() == 1 + 2 * PACKET_BYTES);
    }
}

/// What a fuzzer found once, and seeds for the next run.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/corpus").join(target);
    // The folder is no part of the published package.
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn what_a_fuzzer_found_once_is_survived_for_ever() {
    for data in corpus("rtmp_session") {
        let Some((cuts, bytes)) = data.split_first_chunk::<8>() else { continue };
        let cuts = cuts.map(|cut| usize::from(cut) * 16 + 1);
        let _ = told(&Bytes::copy_from_slice(bytes), &cuts);
    }
    for data in corpus("rtmp_handshake") {
        let Some((cut, bytes)) = data.split_first() else { continue };
        let mut server = Server::new([1, 2, 3, 4]);
        for piece in bytes.chunks(usize::from(*cut) * 16 + 1) {
            if server.handle(&mut Bytes::copy_from_slice(piece), &mut Vec::new()) != Ok(false) {
                break;
            }
        }
    }
    for data in corpus("amf0") {
        let mut values = Decoder::new(&data);
        let mut written = Vec::new();
        while let Ok(Some(value)) = values.value() {
            amf::encode(&mut written, &value);
        }
        let mut again = Decoder::new(&written);
        while again.value().unwrap().is_some() {}
    }
}
