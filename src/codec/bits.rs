//! Bits of a header, most significant first, as all codecs here write them; Exp-Golomb codes of H.264 and its heirs
//! (ITU-T H.264, 9.1), and their payload without the bytes that hide start codes (7.4.1).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use super::CodecError;

/// A cursor over the bits of a few bytes. Whoever reads past the end gets [`CodecError::End`].
#[derive(Clone, Debug)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    /// `0 <= at <= 8 * bytes.len()`.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Result<bool, CodecError> {
        let byte = self.bytes.get(self.at / 8).ok_or(CodecError::End)?;
        let bit = byte.rotate_left(1).rotate_left(u32::try_from(self.at % 8).unwrap_or(0)) & 1;
        self.at = self.at.saturating_add(1);
        Ok(bit == 1)
    }

    /// A number of at most 32 bits.
    pub(crate) fn number(&mut self, bits: u32) -> Result<u32, CodecError> {
        let mut value = 0_u32;
        for _ in 0..bits.min(32) {
            value = value << 1 | u32::from(self.flag()?);
        }
        Ok(value)
    }

    /// A number of at most 8 bits.
    pub(crate) fn byte(&mut self, bits: u32) -> Result<u8, CodecError> {
        Ok(u8::try_from(self.number(bits.min(8))?).unwrap_or(u8::MAX))
    }

    /// Passes over so many bits.
    pub(crate) fn skip(&mut self, bits: usize) -> Result<(), CodecError> {
        let at = self.at.saturating_add(bits);
        if at > self.bytes.len().saturating_mul(8) {
            return Err(CodecError::End);
        }
        self.at = at;
        Ok(())
    }

    /// Passes over the rest of a byte that is begun.
    pub(crate) fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// `ue(v)`.
    pub(crate) fn unsigned(&mut self) -> Result<u32, CodecError> {
        let mut zeros = 0_u32;
        while !self.flag()? {
            zeros = zeros.saturating_add(1);
            if zeros > 31 {
                return Err(CodecError::Value);
            }
        }
        let high = 1_u32.checked_shl(zeros).unwrap_or(0);
        Ok((high | self.number(zeros)?).wrapping_sub(1))
    }

    /// `se(v)`.
    pub(crate) fn signed(&mut self) -> Result<i32, CodecError> {
        let code = self.unsigned()?;
        let magnitude = i32::try_from(code.div_ceil(2)).map_err(|_| CodecError::Value)?;
        Ok(if code % 2 == 1 { magnitude } else { magnitude.wrapping_neg() })
    }
}

/// A NAL unit without its emulation prevention bytes: `00 00 03` stands for `00 00`.
pub(crate) fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0_u8;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros.saturating_add(1) } else { 0 };
        out.push(*byte);
    }
    out
}

/// Splits off so many bytes.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], CodecError> {
    let (head, rest) = bytes.split_at_checked(count).ok_or(CodecError::End)?;
    *bytes = rest;
    Ok(head)
}

/// Splits off a 16-bit number.
pub(crate) fn take_u16(bytes: &mut &[u8]) -> Result<u16, CodecError> {
    let head = take(bytes, 2)?;
    Ok(head.first_chunk().map_or(0, |two| u16::from_be_bytes(*two)))
}

/// Splits off one byte.
pub(crate) fn take_u8(bytes: &mut &[u8]) -> Result<u8, CodecError> {
    Ok(take(bytes, 1)?.first().copied().unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes what [`Bits`] reads, so that tests can make headers out of values.
    #[derive(Default)]
    pub(crate) struct Written {
        pub(crate) bytes: Vec<u8>,
        bits: usize,
    }

    impl Written {
        pub(crate) fn number(mut self, bits: u32, value: u32) -> Self {
            for bit in (0..bits).rev() {
                if self.bits.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                *self.bytes.last_mut().unwrap() |= u8::from(value >> bit & 1 == 1) << (7 - self.bits % 8);
                self.bits += 1;
            }
            self
        }

        pub(crate) fn unsigned(self, value: u32) -> Self {
            let bits = u32::BITS - (value + 1).leading_zeros();
            self.number(bits - 1, 0).number(bits, value + 1)
        }

        pub(crate) fn signed(self, value: i32) -> Self {
            let twice = value.unsigned_abs() * 2;
            self.unsigned(if value > 0 { twice - 1 } else { twice })
        }
    }

    #[test]
    fn a_code_of_more_than_31_zeros_is_no_number() {
        let longest = Written::default().unsigned(u32::MAX - 1).bytes;
        assert_eq!(Bits::new(&longest).unsigned(), Ok(u32::MAX - 1));
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).unsigned(), Err(CodecError::Value));
        assert_eq!(Bits::new(&[0, 0]).unsigned(), Err(CodecError::End));
    }

    #[test]
    fn bytes_that_hide_start_codes_are_left_out() {
        assert_eq!(unescaped(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3, 0, 0, 4]), [0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 4]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            values in proptest::collection::vec((0_u32..1 << 20, -9999_i32..9999, 1_u32..=32), 0..20),
        ) {
            let cut = |value: u32, bits: u32| value & (u32::MAX >> (32 - bits));
            let mut written = Written::default();
            for (unsigned, signed, bits) in &values {
                written = written.unsigned(*unsigned).signed(*signed).number(*bits, cut(*unsigned, *bits));
            }
            let mut read = Bits::new(&written.bytes);
            for (unsigned, signed, bits) in values {
                prop_assert_eq!(read.unsigned(), Ok(unsigned));
                prop_assert_eq!(read.signed(), Ok(signed));
                prop_assert_eq!(read.number(bits), Ok(cut(unsigned, bits)));
            }
        }
    }
}
