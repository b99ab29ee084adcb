//! Values as they are, and as an enemy makes them.

use proptest::prelude::*;

use crate::protocol::rtmp::amf::{AmfError, DEPTH_MAX, Decoder, VALUES_MAX, Value, encode};

fn decode(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut decoder = Decoder::new(bytes);
    let mut out = Vec::new();
    while let Some(value) = decoder.value()? {
        out.push(value);
    }
    assert_eq!(decoder.position(), bytes.len());
    Ok(out)
}

/// The beginning of a container of each kind that may hold another, with the key in front of what it holds.
const CONTAINERS: [&[u8]; 4] = [b"\x03\0\x01a", b"\x08\0\0\0\x01\0\x01a", b"\x0A\0\0\0\x01", b"\x10\0\x01C\0\x01a"];

#[test]
fn nesting_is_bounded_and_costs_no_stack() {
    for container in CONTAINERS {
        for depth in [33, 65, 70_000] {
            assert_eq!(decode(&container.repeat(depth)), Err(AmfError::Depth));
        }
        assert!(matches!(decode(&container.repeat(DEPTH_MAX)), Err(AmfError::End(_))));
    }
    let deepest = [CONTAINERS[2].repeat(DEPTH_MAX), vec![5]].concat();
    assert!(decode(&deepest).is_ok());
}

#[test]
fn counts_and_lengths_that_lie_are_no_more_than_that() {
    for bytes in [
        &b"\x0A\xFF\xFF\xFF\xFF\x05\x05\x05"[..],
        b"\x0A\xFF\xFF\xFF\xFF",
        b"\x02\x00\x05abcd",
        b"\x0C\xFF\xFF\xFF\xFFabc",
        b"\x0F\xFF\xFF\xFF\xFFabc",
        b"\x03\x00\x01",
        b"\x03\x00\x01a\x00",
        b"\x00\x00",
        b"\x01",
        b"\x0B\0\0\0\0\0\0\0\0\0",
        b"\x11",
        b"\x11\x06\xFF\xFF\xFF\xFF",
    ] {
        assert!(matches!(decode(bytes), Err(AmfError::End(_))), "{bytes:02x?}");
    }
    // An associative array says 2^32 - 1 and holds one.
    let array = decode(b"\x08\xFF\xFF\xFF\xFF\x00\x01a\x05\x00\x00\x09").unwrap();
    assert_eq!(array, [Value::EcmaArray(vec![("a".into(), Value::Null)])]);
}

#[test]
fn the_number_of_values_is_bounded() {
    let object = [&b"\x03"[..], &b"\0\x01k\x05".repeat(1_000_000), b"\0\0\x09"].concat();
    assert_eq!(decode(&object), Err(AmfError::Values));
    assert_eq!(decode(&vec![5; VALUES_MAX + 1]), Err(AmfError::Values));
    assert!(decode(&vec![5; VALUES_MAX]).is_ok());
}

#[test]
fn references_are_not_followed_and_unknown_markers_are_refused() {
    assert_eq!(decode(b"\x07\x00\x00").unwrap(), [Value::Reference(0)]);
    assert_eq!(decode(b"\x0D").unwrap(), [Value::Undefined]);
    for marker in [0x04, 0x09, 0x0E, 0x12, 0xFF] {
        assert_eq!(decode(&[5, marker]), Err(AmfError::Marker(1)));
    }
}

#[test]
fn simple_values_behind_an_amf3_switch_are_read() {
    let values =
        decode(b"\x11\x00\x11\x01\x11\x02\x11\x03\x11\x04\x05\x11\x04\xFF\xFF\xFF\xFF\x11\x06\x05ab").unwrap();
    assert_eq!(
        values,
        [
            Value::Undefined,
            Value::Null,
            Value::Boolean(false),
            Value::Boolean(true),
            Value::Number(5.0),
            Value::Number(-1.0),
            Value::string("ab"),
        ]
    );
    for bytes in [&b"\x11\x09"[..], b"\x11\x0A\x01", b"\x11\x06\x04"] {
        assert!(matches!(decode(bytes), Err(AmfError::Amf3(_))));
    }
}

#[test]
fn an_array_whose_end_is_left_out_at_the_end_of_the_message_is_read() {
    let values = decode(b"\x08\0\0\0\x01\0\x01a\x01\x01").unwrap();
    assert_eq!(values[0].get("a"), Some(&Value::Boolean(true)));
}

#[test]
fn text_that_is_not_utf8_is_mended() {
    assert_eq!(decode(b"\x02\x00\x03a\xFFb").unwrap(), [Value::string("a\u{FFFD}b")]);
}

fn value() -> impl Strategy<Value = Value> {
    let text = ".{0,12}".prop_map(Box::<str>::from);
    let number = any::<f64>().prop_filter("NaN is not itself", |n| !n.is_nan());
    let leaf = prop_oneof![
        number.clone().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        text.clone().prop_map(Value::String),
        Just(Value::String("long".repeat(20_000).into())),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<u16>().prop_map(Value::Reference),
        (number, any::<i16>()).prop_map(|(ms, zone)| Value::Date(ms, zone)),
        text.clone().prop_map(Value::Xml),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let members = proptest::collection::vec((".{1,8}".prop_map(Box::<str>::from), inner.clone()), 0..6);
        prop_oneof![
            members.clone().prop_map(Value::Object),
            members.clone().prop_map(Value::EcmaArray),
            (text.clone(), members).prop_map(|(class, members)| Value::Typed(class, members)),
            proptest::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(values in proptest::collection::vec(value(), 0..4)) {
        let mut bytes = Vec::new();
        for value in &values {
            encode(&mut bytes, value);
        }
        prop_assert_eq!(decode(&bytes).unwrap(), values);
    }

    #[test]
    fn noise_is_read_or_refused(bytes in proptest::collection::vec(0_u8..0x14, 0..200)) {
        let mut decoder = Decoder::new(&bytes);
        while let Ok(Some(_)) = decoder.value() {}
    }
}
