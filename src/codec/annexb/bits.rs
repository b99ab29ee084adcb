//! Bits of a raw byte sequence payload.

/// Reads bits, highest first; `None` behind the end.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// Of a NAL unit, without its emulation prevention bytes (ISO/IEC 14496-10, 7.3.1), behind `header` bytes.
    pub(super) fn of_unit(unit: &[u8], header: usize) -> Self {
        let mut bytes = Vec::with_capacity(unit.len());
        let mut zeros = 0;
        for byte in unit.iter().skip(header) {
            if zeros >= 2 && *byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            bytes.push(*byte);
        }
        Self { bytes, at: 0 }
    }

    /// The bytes at the current place, which is at the begin of one.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at / 8..).unwrap_or_default()
    }

    pub(super) fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.bit().map(|bit| bit == 1)
    }

    /// Up to 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at.checked_add(count).filter(|at| *at <= self.bytes.len() * 8)?;
        self.at = at;
        Some(())
    }

    /// `ue(v)`: 32 bits at most, as no syntax element has more.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        (1_u32.checked_shl(zeros)? - 1).checked_add(rest)
    }

    /// `se(v)`.
    pub(super) fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let value = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
        i32::try_from(value).ok()
    }
}
