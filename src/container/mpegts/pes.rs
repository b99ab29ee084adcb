//! PES packets laid out in transport packets (ISO/IEC 13818-1, 2.4.3).

use super::{BODY_BYTES, SYNC, TICKS_WRAP};

/// Bytes of a PES header with both timestamps.
pub(super) const HEADER_BYTES_MAX: usize = 19;

/// What an adaptation field says, at the begin of a PES packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Adaptation {
    pub(super) discontinuity: bool,
    pub(super) random_access: bool,
    /// In ticks of 90 kHz.
    pub(super) pcr: Option<i64>,
}

impl Adaptation {
    fn flags(self) -> u8 {
        u8::from(self.discontinuity) << 7 | u8::from(self.random_access) << 6 | u8::from(self.pcr.is_some()) << 4
    }

    /// With its length byte; none if it has nothing to say.
    fn bytes(self) -> usize {
        match self.pcr {
            Some(_) => 8,
            None if self.flags() != 0 => 2,
            None => 0,
        }
    }

    /// Packets of a PES packet of so many bytes that it stands in the first of.
    pub(super) fn packets(self, bytes: usize) -> usize {
        (bytes + self.bytes()).div_ceil(BODY_BYTES)
    }

    /// Writes it, filled up to so many bytes.
    fn write(self, bytes: usize, out: &mut Vec<u8>) {
        let Some(length) = bytes.checked_sub(1) else { return };
        out.push(u8::try_from(length).unwrap_or(u8::MAX));
        if length == 0 {
            return;
        }
        let end = out.len() + length;
        out.push(self.flags());
        if let Some(pcr) = self.pcr {
            // 33 bits, then 6 reserved ones, then 9 of an extension in 27 MHz, which is 0.
            let [.., b4, b3, b2, b1, b0] = ((pcr.rem_euclid(TICKS_WRAP) << 7) | 0x7E).to_be_bytes();
            out.extend([b4, b3, b2, b1, b0, 0]);
        }
        out.resize(end, 0xFF);
    }
}

/// A packet that has nothing but an adaptation field; its continuity counter is that of the packet before it.
pub(super) fn write_adaptation(pid: u16, continuity: u8, adaptation: Adaptation, out: &mut Vec<u8>) {
    let [p1, p0] = pid.to_be_bytes();
    out.extend([SYNC, p1, p0, 0x20 | continuity & 0x0F]);
    adaptation.write(BODY_BYTES, out);
}

/// Lays out the bytes of one PES packet as they come.
#[derive(Debug)]
pub(super) struct PesWriter<'a> {
    out: &'a mut Vec<u8>,
    pid: u16,
    /// Of the packet before; counts on.
    continuity: &'a mut u8,
    /// For the first packet.
    adaptation: Adaptation,
    start: bool,
    /// Bytes that are still to come.
    left: usize,
    /// Bytes that the packet in progress has room for.
    room: usize,
}

impl<'a> PesWriter<'a> {
    /// For a PES packet of so many bytes, header included.
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        pid: u16,
        continuity: &'a mut u8,
        adaptation: Adaptation,
        bytes: usize,
    ) -> Self {
        Self { out, pid, continuity, adaptation, start: true, left: bytes, room: 0 }
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.begin_packet();
            }
            let (now, later) = bytes.split_at(self.room.min(bytes.len()));
            self.out.extend_from_slice(now);
            self.room -= now.len();
            self.left = self.left.saturating_sub(now.len());
            bytes = later;
        }
    }

    fn begin_packet(&mut self) {
        let adaptation = std::mem::take(&mut self.adaptation);
        // More than was announced would be our own mistake; it must not go on for ever.
        self.room = (BODY_BYTES - adaptation.bytes()).min(self.left.max(1));
        let field = BODY_BYTES - self.room;
        *self.continuity = self.continuity.wrapping_add(1) & 0x0F;
        let [p1, p0] = self.pid.to_be_bytes();
        let start = u8::from(std::mem::take(&mut self.start)) << 6;
        let control = if field > 0 { 0x30 } else { 0x10 };
        self.out.extend([SYNC, p1 | start, p0, control | *self.continuity]);
        adaptation.write(field, self.out);
    }
}

/// The header of a PES packet, in `[u8]` and its length.
pub(super) fn header(stream_id: u8, payload: usize, pts: i64, dts: i64) -> ([u8; HEADER_BYTES_MAX], usize) {
    let bytes = if pts == dts { 14 } else { HEADER_BYTES_MAX };
    // 0 says that it goes on until the next one begins; that is for pictures alone.
    let length = u16::try_from(payload + bytes - 6).unwrap_or(0);
    let [l1, l0] = length.to_be_bytes();
    let (flags, prefix) = if pts == dts { (0x80, 2) } else { (0xC0, 3) };
    let [p4, p3, p2, p1, p0] = timestamp(prefix, pts);
    let [d4, d3, d2, d1, d0] = timestamp(1, dts);
    // 0x84: what follows begins with an access unit.
    let rest = u8::try_from(bytes - 9).unwrap_or(0);
    ([0, 0, 1, stream_id, l1, l0, 0x84, flags, rest, p4, p3, p2, p1, p0, d4, d3, d2, d1, d0], bytes)
}

/// 33 bits in 5 bytes, with marker bits.
fn timestamp(prefix: i64, ticks: i64) -> [u8; 5] {
    let ticks = ticks.rem_euclid(TICKS_WRAP);
    let spread = prefix << 36
        | (ticks >> 30 & 7) << 33
        | 1 << 32
        | (ticks >> 15 & 0x7FFF) << 17
        | 1 << 16
        | (ticks & 0x7FFF) << 1
        | 1;
    let [.., b4, b3, b2, b1, b0] = spread.to_be_bytes();
    [b4, b3, b2, b1, b0]
}

/// A PES packet that was gathered whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PesHeader {
    /// In ticks, modulo 2³³.
    pub(super) pts: Option<i64>,
    pub(super) dts: Option<i64>,
    /// Where the payload begins.
    pub(super) payload: usize,
}

impl PesHeader {
    /// Reads it; none if it is none, or if it is of a kind that has no payload of a track.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[0, 0, 1, stream_id, _, _, marker, flags, rest] = bytes.first_chunk()? else { return None };
        // Map, padding, private 2, ECM, EMM, directory, DSM-CC, H.222.1 type E have no such header.
        let bare = matches!(stream_id, 0xBC | 0xBE | 0xBF | 0xF0 | 0xF1 | 0xF2 | 0xF8 | 0xFF);
        let payload = 9 + usize::from(rest);
        if bare || marker >> 6 != 2 || payload > bytes.len() {
            return None;
        }
        let fields = bytes.get(9..payload)?;
        let pts = if flags & 0x80 != 0 { fields.first_chunk().map(ticks) } else { None };
        let dts = if flags & 0xC0 == 0xC0 { fields.get(5..).and_then(<[u8]>::first_chunk).map(ticks) } else { None };
        Some(Self { pts, dts, payload })
    }

    /// Bytes of the PES packet, if the first of them are there and say so.
    pub(super) fn bytes(start: &[u8]) -> Option<usize> {
        let &[_, _, _, _, l1, l0] = start.first_chunk()?;
        Some(usize::from(u16::from_be_bytes([l1, l0]))).filter(|length| *length > 0).map(|length| length + 6)
    }
}

fn ticks(field: &[u8; 5]) -> i64 {
    let [b4, b3, b2, b1, b0] = field.map(i64::from);
    (b4 >> 1 & 7) << 30 | b3 << 22 | (b2 >> 1) << 15 | b1 << 7 | b0 >> 1
}

#[cfg(test)]
mod tests {
    use super::super::PACKET_BYTES;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_is_filled_up_whatever_is_left_over() {
        for bytes in 1..=600 {
            for adaptation in [
                Adaptation::default(),
                Adaptation { random_access: true, ..Adaptation::default() },
                Adaptation { pcr: Some(1), discontinuity: true, random_access: true },
            ] {
                let (mut out, mut continuity) = (Vec::new(), 14);
                let mut writer = PesWriter::new(&mut out, 0x101, &mut continuity, adaptation, bytes);
                let payload: Vec<u8> = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
                payload.chunks(100).for_each(|chunk| writer.put(chunk));

                assert_eq!(out.len(), adaptation.packets(bytes) * PACKET_BYTES);
                let mut back = Vec::new();
                for (n, packet) in out.chunks(PACKET_BYTES).enumerate() {
                    assert_eq!(usize::from(packet[3] & 15), (15 + n) % 16);
                    assert_eq!(packet[1] >> 6 & 1 == 1, n == 0);
                    let start = if packet[3] & 0x20 == 0 { 4 } else { 5 + usize::from(packet[4]) };
                    back.extend_from_slice(&packet[start..]);
                    assert!(n == 0 || back.len() == bytes || start == 4, "stuffing in the middle");
                }
                assert_eq!(back, payload);
            }
        }
    }

    #[test]
    fn the_clock_reference_stands_where_the_standard_wants_it() {
        let mut out = Vec::new();
        write_adaptation(0x100, 7, Adaptation { pcr: Some(0x1_2345_6789), ..Adaptation::default() }, &mut out);
        assert_eq!(out[..12], [0x47, 0x01, 0x00, 0x27, 183, 0x10, 0x91, 0xA2, 0xB3, 0xC4, 0xFE, 0x00]);
        assert_eq!((out.len(), &out[12..]), (188, &[0xFF; 176][..]));
    }

    proptest! {
        #[test]
        fn timestamps_come_back_modulo_2_to_the_33(
            pts in any::<i32>(), far in 0_i64..4, cts in -100_000_i64..100_000, payload in 0_usize..70_000,
        ) {
            let pts = i64::from(pts) + (far << 31);
            let (header, bytes) = header(0xE0, payload, pts, pts - cts);
            let read = PesHeader::read(&header[..bytes]).unwrap();
            prop_assert_eq!(read.payload, bytes);
            prop_assert_eq!(read.pts, Some(pts.rem_euclid(TICKS_WRAP)));
            prop_assert_eq!(read.dts, (cts != 0).then_some((pts - cts).rem_euclid(TICKS_WRAP)));
            let whole = payload + bytes;
            prop_assert_eq!(PesHeader::bytes(&header), (whole - 6 <= 0xFFFF).then_some(whole));
        }
    }
}
