//! Chunks as encoders cut them, and as nobody should.

use bytes::Bytes;
use proptest::prelude::*;

use crate::limits::Limit;
use crate::protocol::rtmp::chunk::{ChunkError, ChunkLimits, ChunkReader, ChunkWriter, Message};

const LIMITS: ChunkLimits = ChunkLimits { message_bytes: 1 << 24, partial_bytes: 1 << 25, chunk_streams: 64 };

fn reader() -> ChunkReader {
    ChunkReader::new(LIMITS, 0)
}

fn all(reader: &mut ChunkReader, input: &[u8]) -> Result<Vec<Message>, ChunkError> {
    let mut input = Bytes::copy_from_slice(input);
    let mut out = Vec::new();
    while let Some(message) = reader.read(&mut input)? {
        out.push(message);
    }
    assert!(input.is_empty());
    Ok(out)
}

/// A type-0 header with a one-byte basic header, of a video message on stream 1.
fn full(csid: u8, timestamp: u32, length: u32) -> Vec<u8> {
    let (t, l) = (timestamp.to_be_bytes(), length.to_be_bytes());
    vec![csid, t[1], t[2], t[3], l[1], l[2], l[3], 9, 1, 0, 0, 0]
}

fn control(kind: u8, value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    ChunkWriter::default().write(&mut out, 2, kind, 0, 0, &value.to_be_bytes());
    out
}

#[test]
fn the_three_forms_of_an_id_are_one_chunk_stream() {
    // 70 in two and in three bytes: the type-3 header in one form goes on with what the other began.
    let two = [&[0, 6][..], &full(0, 5, 129)[1..], &[1; 128], &[0xC1, 6, 0], &[2]].concat();
    let messages = all(&mut reader(), &two).unwrap();
    assert_eq!((messages[0].csid, messages[0].payload.len()), (70, 129));
    for csid in [2, 63, 64, 319, 320, 65_599] {
        let mut out = Vec::new();
        ChunkWriter::default().write(&mut out, csid, 9, 1, 7, &[3; 300]);
        let message = all(&mut reader(), &out).unwrap().remove(0);
        assert_eq!((message.csid, &*message.payload), (csid, &[3; 300][..]));
    }
}

#[test]
fn a_header_that_leans_on_another_needs_one() {
    for fmt in 1..4_u8 {
        let mut input = vec![fmt << 6 | 5];
        input.extend_from_slice(&[0; 7]);
        assert_eq!(all(&mut reader(), &input), Err(ChunkError::NoPredecessor(0)), "type {fmt}");
    }
}

#[test]
fn the_first_acknowledgement_of_librtmp_may_lean_on_nothing() {
    let message = all(&mut reader(), &[0x42, 0, 0, 0, 0, 0, 4, 3, 1, 2, 3, 4]).unwrap().remove(0);
    assert_eq!((message.kind, message.stream, &*message.payload), (3, 0, &[1, 2, 3, 4][..]));
}

#[test]
fn a_message_may_not_begin_within_another_of_its_chunk_stream() {
    for (fmt, fields) in [(0_u8, 11), (1, 7), (2, 3)] {
        let mut input = full(5, 0, 200);
        input.extend_from_slice(&[1; 128]);
        input.push(fmt << 6 | 5);
        input.extend_from_slice(&full(5, 0, 100)[1..=fields]);
        input.extend_from_slice(&[2; 100]);
        assert!(matches!(all(&mut reader(), &input), Err(ChunkError::Interrupted(_))), "type {fmt}");
    }
}

#[test]
fn interleaved_messages_stay_whole() {
    let bodies = [vec![4; 300], vec![5; 130], vec![6; 257]];
    let mut pieces: Vec<_> = bodies.iter().map(|b| b.chunks(128)).collect();
    let mut input = Vec::new();
    for round in 0..3 {
        for (csid, (chunks, body)) in (4_u8..).zip(pieces.iter_mut().zip(&bodies)) {
            let Some(chunk) = chunks.next() else { continue };
            if round == 0 {
                input.extend_from_slice(&full(csid, 0, u32::try_from(body.len()).unwrap()));
            } else {
                input.push(0xC0 | csid);
            }
            input.extend_from_slice(chunk);
        }
    }
    let messages = all(&mut reader(), &input).unwrap();
    let seen: Vec<_> = messages.iter().map(|m| (m.csid, m.payload.to_vec())).collect();
    assert_eq!(seen, [(5, bodies[1].clone()), (4, bodies[0].clone()), (6, bodies[2].clone())]);
}

#[test]
fn a_partial_message_that_is_aborted_leaves_nothing_behind() {
    let mut reader = reader();
    let begun = [full(5, 0, 200), vec![1; 128]].concat();
    all(&mut reader, &begun).unwrap();
    assert_eq!(reader.partial_bytes(), 128);
    // Another's, its own, and its own again.
    for (csid, left) in [(9, 128), (5, 0), (5, 0)] {
        all(&mut reader, &control(2, csid)).unwrap();
        assert_eq!(reader.partial_bytes(), left);
    }
    let next = all(&mut reader, &[full(5, 0, 3), b"new".to_vec()].concat()).unwrap().remove(0);
    assert_eq!(next.payload, &b"new"[..]);
}

#[test]
fn timestamps_around_the_24_bit_edge_are_read_with_and_without_repetition() {
    for timestamp in [0x00FF_FFFE_u32, 0x00FF_FFFF, 0x0100_0000, u32::MAX] {
        for repeated in [true, false] {
            let body = [7; 300];
            let mut input = full(5, timestamp.min(0x00FF_FFFF), 300);
            let extended = timestamp.to_be_bytes();
            let extended: &[u8] = if timestamp >= 0x00FF_FFFF { &extended } else { &[] };
            input.extend_from_slice(extended);
            for (index, chunk) in body.chunks(128).enumerate() {
                if index > 0 {
                    input.push(0xC5);
                    input.extend_from_slice(if repeated { extended } else { &[] });
                }
                input.extend_from_slice(chunk);
            }
            for step in [1, 3, input.len()] {
                let mut reader = reader();
                let mut found = Vec::new();
                for piece in input.chunks(step) {
                    found.extend(all(&mut reader, piece).unwrap());
                }
                assert_eq!(found.len(), 1);
                assert_eq!((found[0].timestamp, &*found[0].payload), (timestamp, &body[..]), "{repeated}");
            }
        }
    }
}

#[test]
fn deltas_add_up_and_wrap() {
    let mut input = [full(5, 0x00FF_FFFF, 1), u32::MAX.to_be_bytes().to_vec(), vec![b'a']].concat();
    input.extend_from_slice(&[0x45, 0, 0, 10, 0, 0, 1, 9, b'b']); // type 1: + 10
    input.extend_from_slice(&[0x85, 0, 0, 20, b'c']); // type 2: + 20
    input.extend_from_slice(&[0xC5, b'd']); // type 3: + 20 again
    let times: Vec<u32> = all(&mut reader(), &input).unwrap().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [u32::MAX, 9, 29, 49]);
    // Behind a type-0 header, a type-3 header adds its timestamp (FFmpeg counts on it).
    let input = [full(5, 23, 1), vec![b'a', 0xC5, b'b']].concat();
    let times: Vec<u32> = all(&mut reader(), &input).unwrap().iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [23, 46]);
}

#[test]
fn a_chunk_size_of_zero_or_with_the_top_bit_is_refused_and_a_huge_one_clamped() {
    for size in [0, 0x8000_0000, 0xFFFF_FFFF] {
        assert!(matches!(all(&mut reader(), &control(1, size)), Err(ChunkError::ChunkSize(_))), "{size:#x}");
    }
    let mut reader = reader();
    all(&mut reader, &control(1, 0x7FFF_FFFF)).unwrap();
    let body = vec![1; 70_000];
    let found = all(&mut reader, &[full(5, 0, 70_000), body.clone()].concat()).unwrap().remove(0);
    assert_eq!(found.payload, body);
}

#[test]
fn a_control_message_too_short_for_its_number_is_malformed() {
    for kind in [1, 2] {
        for length in 0..4 {
            let mut out = Vec::new();
            ChunkWriter::default().write(&mut out, 2, kind, 0, 0, &vec![0; length]);
            assert!(matches!(all(&mut reader(), &out), Err(ChunkError::ControlLength(_))));
        }
    }
}

#[test]
fn a_chunk_size_that_changes_in_mid_message_holds_from_the_next_chunk() {
    let mut input = full(5, 0, 200);
    input.extend_from_slice(&[1; 128]);
    input.extend_from_slice(&control(1, 10));
    for _ in 0..7 {
        input.push(0xC5);
        input.extend_from_slice(&[2; 10]);
    }
    input.push(0xC5);
    input.extend_from_slice(&[3; 2]);
    let messages = all(&mut reader(), &input).unwrap();
    assert_eq!(messages[1].payload, [vec![1; 128], vec![2; 70], vec![3; 2]].concat());
}

#[test]
fn many_chunk_streams_are_fine_but_not_many_partial_messages() {
    let mut reader = reader();
    let begin = |csid: u32, length: u32| {
        let id = u16::try_from(csid - 64).unwrap().to_le_bytes();
        [&[1, id[0], id[1]][..], &full(0, 0, length)[1..], &[0]].concat()
    };
    for csid in 64..65_600 {
        assert_eq!(all(&mut reader, &begin(csid, 1)).unwrap().len(), 1);
    }
    // The first of them is forgotten by now.
    assert!(matches!(all(&mut reader, &[0xC0, 0]), Err(ChunkError::NoPredecessor(_))));
    let mut reader = ChunkReader::new(ChunkLimits { chunk_streams: 3, ..LIMITS }, 0);
    all(&mut reader, &control(1, 1)).unwrap();
    for csid in 64..67 {
        all(&mut reader, &begin(csid, 2)).unwrap();
    }
    assert_eq!(all(&mut reader, &begin(67, 2)), Err(ChunkError::Limit(Limit::ChunkStreams)));
}

#[test]
fn a_declared_length_costs_nothing() {
    let mut reader = reader();
    all(&mut reader, &[full(5, 0, 0x00FF_FFFF), vec![1]].concat()).unwrap();
    assert_eq!(reader.partial_bytes(), 1);
    let mut reader = ChunkReader::new(ChunkLimits { message_bytes: 1000, ..LIMITS }, 0);
    assert_eq!(all(&mut reader, &full(5, 0, 1001)), Err(ChunkError::Limit(Limit::MessageBytes)));
    let mut reader = ChunkReader::new(ChunkLimits { partial_bytes: 200, ..LIMITS }, 0);
    let mut input = full(5, 0, 1000);
    input.extend_from_slice(&[0; 128]);
    input.push(0xC5);
    input.extend_from_slice(&[0; 128]);
    assert_eq!(all(&mut reader, &input), Err(ChunkError::Limit(Limit::PartialBytes)));
}

#[test]
fn an_empty_message_of_every_type_is_a_message() {
    for kind in (0..=255).filter(|kind| ![1, 2].contains(kind)) {
        let mut out = Vec::new();
        ChunkWriter::default().write(&mut out, 5, kind, 1, 0, &[]);
        let message = all(&mut reader(), &out).unwrap().remove(0);
        assert_eq!((message.kind, message.payload.len()), (kind, 0));
    }
}

#[test]
fn a_message_in_one_input_is_cut_out_of_it_and_one_in_many_is_gathered_once() {
    let mut reader = reader();
    all(&mut reader, &control(1, 65_536)).unwrap();
    let mut out = Vec::new();
    let mut writer = ChunkWriter::default();
    writer.write(&mut Vec::new(), 2, 1, 0, 0, &65_536_u32.to_be_bytes());
    writer.write(&mut out, 6, 9, 1, 0, &[1; 50_000]);
    let whole = Bytes::from(out);

    let mut input = whole.clone();
    let message = reader.read(&mut input).unwrap().unwrap();
    assert_eq!(message.payload.as_ptr(), whole[12..].as_ptr());

    // Small messages, each cut in two: they share buffers.
    let mut pieces = Vec::new();
    for _ in 0..200 {
        let mut first = whole.slice(..12);
        let mut small = Vec::new();
        writer.write(&mut small, 6, 9, 1, 0, &[2; 500]);
        first = first.slice(..0);
        assert!(reader.read(&mut first).unwrap().is_none());
        let small = Bytes::from(small);
        let (mut a, mut b) = (small.slice(..100), small.slice(100..));
        assert!(reader.read(&mut a).unwrap().is_none());
        pieces.push(reader.read(&mut b).unwrap().unwrap().payload);
    }
    let apart = pieces.windows(2).filter(|pair| pair[0].as_ptr_range().end != pair[1].as_ptr()).count();
    assert!(apart <= 6, "{apart} allocations for 200 messages");
}

#[derive(Clone, Debug)]
struct Sent {
    csid: u32,
    kind: u8,
    stream: u32,
    timestamp: u32,
    payload: Vec<u8>,
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let timestamp = prop_oneof![any::<u32>(), 0x00FF_FFF0_u32..0x0100_0010, 0_u32..100_000];
    let payload = proptest::collection::vec(any::<u8>(), 0..700);
    let one = (2_u32..400, 3_u8..30, any::<u32>(), timestamp, payload)
        .prop_map(|(csid, kind, stream, timestamp, payload)| Sent { csid, kind, stream, timestamp, payload });
    proptest::collection::vec(one, 1..12)
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        messages in sent(),
        sizes in proptest::collection::vec(1_u32..300, 0..3),
        cuts in proptest::collection::vec(1_usize..200, 1..20),
    ) {
        let mut writer = ChunkWriter::default();
        let mut bytes = Vec::new();
        for (index, m) in messages.iter().enumerate() {
            if let Some(size) = sizes.get(index) {
                writer.write(&mut bytes, 2, 1, 0, 0, &size.to_be_bytes());
            }
            writer.write(&mut bytes, m.csid, m.kind, m.stream, m.timestamp, &m.payload);
        }

        let mut reader = reader();
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            found.extend(all(&mut reader, piece).unwrap());
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }

        found.retain(|m| m.kind != 1);
        prop_assert_eq!(found.len(), messages.len());
        for (m, sent) in found.iter().zip(&messages) {
            prop_assert_eq!(
                (m.csid, m.kind, m.stream, m.timestamp, &*m.payload),
                (sent.csid, sent.kind, sent.stream, sent.timestamp, &*sent.payload)
            );
        }
        prop_assert_eq!(reader.partial_bytes(), 0);
        prop_assert_eq!(reader.position(), bytes.len() as u64);
    }
}
