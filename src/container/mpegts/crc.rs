//! The checksum of sections (ISO/IEC 13818-1, annex A).

const POLYNOMIAL: u32 = 0x04C1_1DB7;

const TABLE: [u32; 256] = table();

/// Of the bytes of a section; 0 over a section with its checksum.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let [top, ..] = crc.to_be_bytes();
        crc << 8 ^ TABLE.get(usize::from(top ^ byte)).copied().unwrap_or(0)
    })
}

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "worked out when it is compiled")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let mut crc = (at as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_check_value_of_crc_32_mpeg_2_comes_out() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
        assert_eq!(crc32(&[b"123456789".as_slice(), &[0x03, 0x76, 0xE6, 0xE7]].concat()), 0);
    }
}
