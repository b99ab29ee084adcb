//! The smallest H.264 that any decoder takes: a grey picture of 1280x720, and pictures that repeat it.
//!
//! Constrained Baseline, CAVLC, one slice a picture (ITU-T H.264, sections 7.3 and 9). What makes a frame as large as
//! real ones is not in here: it is user data beside the slice.

/// Macroblocks of a picture: 80 by 45.
const MACROBLOCKS: u32 = 80 * 45;
/// Bits of `frame_num`: enough for a GOP.
const FRAME_NUM_BITS: u32 = 8;

/// NAL unit types with their `nal_ref_idc` (section 7.4.1).
const SLICE: u8 = 0x41;
const IDR: u8 = 0x65;
const SPS: u8 = 0x67;
const PPS: u8 = 0x68;

/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.2.4.1) with both parameter sets, four bytes a length.
pub(crate) fn decoder_configuration() -> Vec<u8> {
    let (sps, pps) = (sequence_parameters(), picture_parameters());
    let mut record = vec![1, sps[1], sps[2], sps[3], 0xff];
    for (count, set) in [(0xe1, sps), (1, pps)] {
        record.push(count);
        record.extend(u16::try_from(set.len()).unwrap_or(0).to_be_bytes());
        record.extend(set);
    }
    record
}

/// The slice of the picture at this place in its GOP: an IDR picture at 0, copies of it elsewhere.
pub(crate) fn slice(place: u64) -> Vec<u8> {
    let key = place == 0;
    let frame_num = u32::try_from(place % (1 << FRAME_NUM_BITS)).unwrap_or(0);
    let mut bits = Bits::default();
    // first_mb_in_slice; slice_type: all slices of the picture are I, or P.
    bits.ue(0);
    bits.ue(if key { 7 } else { 5 });
    bits.ue(0);
    bits.u(frame_num, FRAME_NUM_BITS);
    if key {
        // idr_pic_id; no_output_of_prior_pics_flag; long_term_reference_flag.
        bits.ue(0);
        bits.u(0, 2);
    } else {
        // No other count of references, no reordering of them, no adaptive marking.
        bits.u(0, 3);
    }
    // slice_qp_delta; disable_deblocking_filter_idc.
    bits.ue(0);
    bits.ue(1);
    if key {
        for _ in 0..MACROBLOCKS {
            // I_16x16_2_0_0 (DC prediction, nothing coded), chroma DC, mb_qp_delta 0, no DC coefficients.
            bits.ue(3);
            bits.ue(0);
            bits.ue(0);
            bits.u(1, 1);
        }
    } else {
        // mb_skip_run: all of them.
        bits.ue(MACROBLOCKS);
    }
    bits.nal(if key { IDR } else { SLICE })
}

fn sequence_parameters() -> Vec<u8> {
    let mut bits = Bits::default();
    // profile_idc 66 with constraint_set0 and 1, level 3.1, seq_parameter_set_id.
    bits.u(0x42_c0_1f, 24);
    bits.ue(0);
    bits.ue(FRAME_NUM_BITS - 4);
    // pic_order_cnt_type 2: pictures are shown in the order in which they are decoded.
    bits.ue(2);
    // One reference, no gaps in frame_num, 80 by 45 macroblocks, frames only, direct_8x8, no cropping, no VUI.
    bits.ue(1);
    bits.u(0, 1);
    bits.ue(80 - 1);
    bits.ue(45 - 1);
    bits.u(0b1100, 4);
    bits.nal(SPS)
}

fn picture_parameters() -> Vec<u8> {
    let mut bits = Bits::default();
    // Both ids; CAVLC, no field order; one slice group; one reference each; no weighting.
    bits.ue(0);
    bits.ue(0);
    bits.u(0, 2);
    bits.ue(0);
    bits.ue(0);
    bits.ue(0);
    bits.u(0, 3);
    // Three quantisers at their defaults; slices say how they deblock; no constrained intra, no redundancy.
    bits.ue(0);
    bits.ue(0);
    bits.ue(0);
    bits.u(0b100, 3);
    bits.nal(PPS)
}

/// Bits, most significant first (section 7.2).
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are used, 0 for all.
    used: u32,
}

impl Bits {
    /// The low `count` bits of `value`.
    fn u(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if value >> at & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 0x80 >> self.used;
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// Unsigned Exp-Golomb (section 9.1). A signed 0 has the same code.
    fn ue(&mut self, value: u32) {
        let code = value + 1;
        let len = u32::BITS - code.leading_zeros();
        self.u(0, len - 1);
        self.u(code, len);
    }

    /// Ends the payload with its stop bit and makes a NAL unit of it: three bytes that would look like a start code
    /// are kept apart (section 7.4.1.1).
    fn nal(mut self, header: u8) -> Vec<u8> {
        self.u(1, 1);
        let mut nal = vec![header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of table 9-2.
    #[test]
    fn exp_golomb_codes_are_those_of_the_specification() {
        let code = |value| {
            let mut bits = Bits::default();
            bits.ue(value);
            (bits.bytes, bits.used)
        };
        assert_eq!(code(0), (vec![0b1000_0000], 1));
        assert_eq!(code(1), (vec![0b0100_0000], 3));
        assert_eq!(code(4), (vec![0b0010_1000], 5));
        assert_eq!(code(7), (vec![0b0001_0000], 7));
        assert_eq!(code(79), (vec![0b0000_0010, 0b1000_0000], 5));
    }

    #[test]
    fn no_nal_unit_contains_a_start_code() {
        for place in 0..60 {
            let nal = slice(place);
            assert!(nal.windows(3).all(|three| three[0] > 0 || three[1] > 0 || three[2] > 3 || three[2] == 3));
        }
        let mut bits = Bits::default();
        bits.u(1, 32);
        assert_eq!(bits.nal(0x67), [0x67, 0, 0, 3, 0, 1, 0x80]);
    }

    #[test]
    fn a_macroblock_of_the_key_picture_is_one_byte() {
        let nal = slice(0);
        assert!(nal.len() > 3600 && nal.len() < 3620, "{}", nal.len());
        assert!(slice(1).len() < 16);
    }
}
