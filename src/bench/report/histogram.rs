//! A histogram as text, as it stands in a report: HdrHistogram's V2 form, deflated, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::{DeserializeError, Deserializer, Serializer as _, V2DeflateSerializeError};

/// A text that is no histogram.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is not base64.
    #[error("the histogram is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Its bytes are not what HdrHistogram writes.
    #[error("the histogram's bytes are damaged: {0}")]
    Bytes(#[from] DeserializeError),
}

/// The text of a histogram.
///
/// # Errors
///
/// Where it holds more than its form can say.
pub fn encode(histogram: &Histogram<u64>) -> Result<String, V2DeflateSerializeError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

/// The histogram of a text.
///
/// # Errors
///
/// Where [`encode`] did not make it.
pub fn decode(text: &str) -> Result<Histogram<u64>, DecodeError> {
    let bytes = STANDARD.decode(text)?;
    Ok(Deserializer::new().deserialize(&mut &*bytes)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(samples in prop::collection::vec(1_u64..10_000_000_000, 0..200)) {
            let mut histogram = Histogram::new(3).unwrap();
            for sample in samples {
                histogram.record(sample).unwrap();
            }
            prop_assert_eq!(decode(&encode(&histogram).unwrap()).unwrap(), histogram);
        }

        #[test]
        fn a_damaged_text_is_an_error_and_no_panic(text in "[A-Za-z0-9+/=]{0,80}") {
            prop_assert!(decode(&text).is_err());
        }

        #[test]
        fn a_flipped_bit_is_never_a_panic(at in 0_usize..400, bit in 0_u8..8) {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            for sample in 1..500_u64 {
                histogram.record(sample * sample).unwrap();
            }
            let mut bytes = STANDARD.decode(encode(&histogram).unwrap()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            // Some flips make another histogram that is well-formed.
            let _ = decode(&STANDARD.encode(bytes));
        }
    }
}
