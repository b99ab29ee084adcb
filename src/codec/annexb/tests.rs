//! Records that encoders have written, and round trips.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// 322x182, Baseline: what libx264 writes.
const SPS: &[u8] =
    b"\x67\x42\xc0\x0d\xda\x05\x46\x78\x89\xb0\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x32\x0f\x14\x2a";
const PPS: &[u8] = b"\x68\xce\x0f\xc8";
/// 322x182, High 4:2:2, 10 bits: `avcC` as ffmpeg writes it.
const AVCC_HIGH: &[u8] = b"\x01\x7a\x00\x0d\xff\xe1\x00\x1a\x67\x7a\x00\x0d\xb6\xcb\x40\xa8\xcf\x11\x17\x80\x88\x00\
    \x00\x03\x00\x08\x00\x00\x03\x01\x90\x78\xa1\x55\x01\x00\x04\x68\xce\x0f\xc8\xfe\xfa\xfa\x00";
/// 322x182, Main 10, of libx265.
const H265_VPS: &[u8] =
    b"\x40\x01\x0c\x01\xff\xff\x02\x20\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3c\x95\x94\x09";
const H265_SPS: &[u8] =
    b"\x42\x01\x01\x02\x20\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3c\xa0\x0a\x88\x0c\x1c\
    \x44\xcd\x96\x56\x54\xa4\xc2\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x0c\x84\x22";
const H265_PPS: &[u8] = b"\x44\x01\xc0\x73\xc1\x89\x27";
/// The begin of the `hvcC` that ffmpeg makes of them, up to the arrays.
const HVCC_HEAD: &[u8] =
    b"\x01\x02\x20\x00\x00\x00\x90\x00\x00\x00\x00\x00\x3c\xf0\x00\xfc\xfd\xfa\xfa\x00\x00\x0f\x03";

fn stream(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [LONG, unit].concat()).collect()
}

fn with_lengths(units: &[&[u8]], length_bytes: usize) -> Vec<u8> {
    let length = |unit: &[u8]| u32::try_from(unit.len()).unwrap().to_be_bytes()[4 - length_bytes..].to_vec();
    units.iter().flat_map(|unit| [length(unit), unit.to_vec()].concat()).collect()
}

fn read(codec: Codec, units: &[&[u8]]) -> (ByteStreamReader, AccessUnit) {
    let mut reader = ByteStreamReader::new(codec).unwrap();
    let unit = reader.read(&stream(units)).unwrap();
    (reader, unit)
}

#[test]
fn the_record_of_h264_is_that_of_another_muxer() {
    let sets = ParameterSets::from_config(Codec::H264, &Bytes::from_static(AVCC_HIGH)).unwrap();
    let (reader, unit) = read(Codec::H264, &[&sets.units()[0], &sets.units()[1]]);
    assert_eq!(&**reader.config(), AVCC_HIGH, "with chroma format and bit depths");
    assert_eq!((reader.size(), unit.new_config, unit.has_sps), (Some((322, 182)), true, true));
}

#[test]
fn the_record_of_h265_is_that_of_another_muxer() {
    let (reader, unit) = read(Codec::H265, &[H265_VPS, H265_SPS, H265_PPS]);
    let mut record = HVCC_HEAD.to_vec();
    for (kind, unit) in (0xA0..).zip([H265_VPS, H265_SPS, H265_PPS]) {
        record.extend([kind, 0, 1]);
        record.extend(with_lengths(&[unit], 2));
    }
    assert_eq!(**reader.config(), record);
    assert_eq!((reader.size(), unit.new_config), (Some((322, 182)), true));
}

#[test]
fn delimiters_and_parameter_sets_go_into_the_record_and_come_back() {
    let (delimiter, message, slice): (&[u8], &[u8], &[u8]) = (&[9, 0xF0], &[6, 5, 1, 0, 0x80], &[0x65, 0x88, 0x84]);
    let (reader, unit) = read(Codec::H264, &[delimiter, SPS, PPS, message, slice]);
    assert_eq!(unit.payload, with_lengths(&[message, slice], 4));
    assert!(unit.random_access && unit.new_config);
    assert_eq!(reader.size(), Some((322, 182)));

    let sets = ParameterSets::from_config(Codec::H264, reader.config()).unwrap();
    let back = sets.byte_stream(&unit.payload, false).unwrap();
    let mut expected = stream(&[delimiter, SPS, PPS]);
    expected.extend([SHORT, message, SHORT, slice].concat());
    assert_eq!(back.to_bytes(), expected);
    assert_eq!(back.len(), expected.len());
}

#[test]
fn a_record_is_new_when_its_parameter_sets_are_and_only_then() {
    let (mut reader, _) = read(Codec::H264, &[SPS, PPS, &[0x65, 0x88]]);
    let same = reader.read(&stream(&[SPS, PPS, &[0x65, 0x88]])).unwrap();
    assert!(!same.new_config);
    let other = reader.read(&stream(&[&[0x68, 0xEE, 0x3C, 0x80], &[0x41, 0x9A]])).unwrap();
    assert!(other.new_config && !other.random_access && !other.has_sps);
    let sets = ParameterSets::from_config(Codec::H264, reader.config()).unwrap();
    assert_eq!(sets.units(), [SPS, &[0x68, 0xEE, 0x3C, 0x80]], "the set of this id was replaced");
}

#[test]
fn parameter_sets_stand_before_each_picture_that_decoding_can_start_at() {
    let (reader, _) = read(Codec::H264, &[SPS, PPS]);
    let sets = ParameterSets::from_config(Codec::H264, reader.config()).unwrap();
    let has_sets = |units: &[&[u8]], key| {
        let payload = with_lengths(units, 4);
        let bytes = sets.byte_stream(&payload, key).unwrap().to_bytes();
        units_of_byte_stream(&bytes).filter(|unit| *unit == SPS).count()
    };
    assert_eq!(has_sets(&[&[0x65, 0x88]], false), 1);
    assert_eq!(has_sets(&[&[0x41, 0x9A]], false), 0);
    assert_eq!(has_sets(&[&[0x41, 0x9A]], true), 1, "an open GOP, which the container calls a keyframe");
    assert_eq!(has_sets(&[SPS, PPS, &[0x65, 0x88]], true), 1, "it has its own");
}

#[test]
fn lengths_of_one_and_two_bytes_are_read_as_the_record_says() {
    for length_bytes in [1, 2, 4] {
        let mut record = AVCC_HIGH.to_vec();
        record[4] = 0xFC | u8::try_from(length_bytes - 1).unwrap();
        let sets = ParameterSets::from_config(Codec::H264, &record.into()).unwrap();
        let payload = with_lengths(&[&[9, 0xF0], &[0x41, 1], &[], &[0x41, 2]], length_bytes);
        let stream = sets.byte_stream(&payload, false).unwrap();
        assert_eq!(*stream.to_bytes(), *b"\0\0\0\x01\x09\xf0\0\0\0\x01\x41\x01\0\0\x01\x41\x02");
        assert_eq!(stream.len(), 17);
        let cut = &payload[..payload.len() - 1];
        assert_eq!(sets.byte_stream(cut, false).unwrap_err(), NalError::Length);
    }
}

#[test]
fn the_record_of_h266_is_read_with_and_without_a_profile() {
    let arrays = |sets: &[(u8, &[u8])]| {
        let mut out = vec![u8::try_from(sets.len()).unwrap()];
        for (kind, unit) in sets {
            out.push(0x80 | kind);
            if *kind != 13 {
                out.extend([0, 1]);
            }
            out.extend(with_lengths(&[unit], 2));
        }
        out
    };
    let sets: &[(u8, &[u8])] = &[(13, b"\0\x69\x01"), (15, b"\0\x79\x01"), (16, b"\0\x81\x02"), (23, b"\0\xb9\x03")];
    let bare = [vec![0xFE], arrays(sets)].concat();
    // Three sub-layers, one level of their own; 1 byte of constraints; one sub-profile.
    let profile = [0x00, 0x31, 0x5F, 1, 0x02, 0x33, 0x00, 0x80, 0x20, 1, 1, 2, 3, 4, 0x07, 0x80, 0x04, 0x38, 0, 0];
    let full = [vec![0xFF], profile.to_vec(), arrays(sets)].concat();
    for record in [bare, full] {
        let sets = ParameterSets::from_config(Codec::H266, &record.into()).unwrap();
        assert_eq!(sets.units(), [&b"\0\x79\x01"[..], b"\0\x81\x02"]);
        let key = with_lengths(&[&[0, 8 << 3 | 1, 7]], 4);
        let stream = sets.byte_stream(&key, false).unwrap();
        let (delimiter, slice): (&[u8], &[u8]) = (&[0, 0xA1, 0xA8], &[0, 8 << 3 | 1, 7]);
        let bytes = stream.to_bytes();
        let units: Vec<_> = units_of_byte_stream(&bytes).collect();
        assert_eq!(units, [delimiter, b"\0\x79\x01", b"\0\x81\x02", slice]);
        // One that has its own, and one at which decoding can't start.
        let own = with_lengths(&[b"\0\x79\x03", slice], 4);
        assert!(sets.byte_stream(&own, false).unwrap().to_bytes().starts_with(&[LONG, delimiter].concat()));
        let later = with_lengths(&[&[0, 1, 7]], 4);
        assert_eq!(
            *sets.byte_stream(&later, false).unwrap().to_bytes(),
            *b"\0\0\0\x01\0\xA1\x28\0\0\0\x01\0\x01\x07"
        );
    }
}

#[test]
fn too_many_parameter_sets_are_an_error_and_not_kept() {
    let mut reader = ByteStreamReader::new(Codec::H265).unwrap();
    let long = [&[0x44, 1, 0x80][..], &[7; 40_000]].concat();
    let other = [&[0x44, 1, 0x40][..], &[7; 40_000]].concat();
    assert!(reader.read(&stream(&[&long])).is_ok());
    assert_eq!(reader.read(&stream(&[&other])), Err(NalError::ParameterSets));
    assert!(reader.read(&stream(&[&long])).is_ok(), "the first is known");
}

#[test]
fn zeros_around_units_and_bytes_before_the_first_are_no_units() {
    let found = |bytes: &'static [u8]| units_of_byte_stream(bytes).collect::<Vec<_>>();
    assert_eq!(found(b"\x07\x00\x00\x01\x41\x02\x00\x00\x00\x00\x01\x42\x00"), [&b"\x41\x02"[..], b"\x42"]);
    assert_eq!(found(b"\x00\x00\x01\x00\x00\x01"), [&b""[..]; 0]);
    assert_eq!(found(b"no start code"), [&b""[..]; 0]);
    assert_eq!(
        found(b"\x00\x00\x01\x41\x01\x00\x01\x00\x02\x01\x00\x00\x01\x43"),
        [&b"\x41\x01\0\x01\0\x02\x01"[..], b"\x43"]
    );
}

/// A NAL unit of no kind that is taken out, without start codes inside.
fn unit() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(3), any::<u8>()], 0..40);
    (prop_oneof![Just(0x41_u8), Just(0x65), Just(0x06), Just(0x01)], body).prop_map(|(first, body)| {
        let mut unit = vec![first];
        for byte in body {
            if byte <= 3 && unit.ends_with(&[0, 0]) {
                unit.push(3);
            }
            unit.push(byte);
        }
        unit.push(0x80);
        unit
    })
}

proptest! {
    #[test]
    fn there_and_back_is_the_identity(units in proptest::collection::vec(unit(), 1..6), key: bool) {
        let units: Vec<&[u8]> = units.iter().map(AsRef::as_ref).collect();
        let payload = with_lengths(&units, 4);
        let (mut reader, _) = read(Codec::H264, &[SPS, PPS]);
        let sets = ParameterSets::from_config(Codec::H264, reader.config()).unwrap();
        let stream = sets.byte_stream(&payload, key).unwrap();
        let bytes = stream.to_bytes();
        prop_assert_eq!(bytes.len(), stream.len());
        let unit = reader.read(&bytes).unwrap();
        prop_assert_eq!(&unit.payload[..], &payload[..]);
        prop_assert!(!unit.new_config);
        prop_assert_eq!(unit.random_access, units.iter().any(|unit| unit[0] == 0x65));
        prop_assert_eq!(unit.has_sps, key || unit.random_access);
    }

    #[test]
    fn no_bytes_do_harm(
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..120),
        at in 0_usize..120,
    ) {
        for codec in [Codec::H264, Codec::H265, Codec::H266] {
            let _ = ParameterSets::from_config(codec, &Bytes::copy_from_slice(&bytes));
        }
        for (codec, record) in [(Codec::H264, SPS), (Codec::H265, H265_SPS)] {
            let mut reader = ByteStreamReader::new(codec).unwrap();
            let _ = reader.read(&bytes);
            // A parameter set that is broken at one place.
            let mut broken = record.to_vec();
            let place = at % broken.len();
            broken.truncate(place);
            broken.extend_from_slice(&bytes);
            let _ = reader.read(&stream(&[&broken, PPS, H265_VPS, H265_PPS]));
            if !reader.config().is_empty() {
                prop_assert!(ParameterSets::from_config(codec, reader.config()).is_ok());
            }
            let sets = ParameterSets::from_config(Codec::H264, &Bytes::from_static(AVCC_HIGH)).unwrap();
            if let Ok(stream) = sets.byte_stream(&bytes, true) {
                prop_assert_eq!(stream.to_bytes().len(), stream.len());
            }
        }
    }
}
