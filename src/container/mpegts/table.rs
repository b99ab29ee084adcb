//! Program association and program map (ISO/IEC 13818-1, 2.4.4): sections, written and read.

use bytes::Bytes;

use super::crc::crc32;
use super::{BODY_BYTES, SYNC, descriptor, stream_type};
use crate::limits::SECTION_BYTES_MAX;
use crate::media::Codec;

const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;
/// From the byte behind the section length to the checksum, of both tables.
const HEADER_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// The section of a program association table with one program.
pub(super) fn pat(program: u16, map_pid: u16) -> Vec<u8> {
    let [n1, n0] = program.to_be_bytes();
    let [p1, p0] = (0xE000 | map_pid).to_be_bytes();
    section(TABLE_PAT, 1, 0, &[n1, n0, p1, p0])
}

/// The section of a program map; `body` is all between header and checksum.
pub(super) fn pmt(program: u16, version: u8, body: &[u8]) -> Vec<u8> {
    section(TABLE_PMT, program, version, body)
}

fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + HEADER_BYTES - 3 + CRC_BYTES).unwrap_or(u16::MAX);
    let [l1, l0] = (0xB000 | length & 0x0FFF).to_be_bytes();
    let [i1, i0] = id.to_be_bytes();
    // In force now; the only section of its table.
    let mut out = vec![table, l1, l0, i1, i0, 0xC1 | (version & 0x1F) << 1, 0, 0];
    out.extend_from_slice(body);
    out.extend(crc32(&out).to_be_bytes());
    out
}

/// Packets that a section takes.
pub(super) fn section_packets(section: &[u8]) -> usize {
    (1 + section.len()).div_ceil(BODY_BYTES)
}

/// Lays out a section in packets of its own.
pub(super) fn write_section(pid: u16, continuity: &mut u8, section: &[u8], out: &mut Vec<u8>) {
    let [p1, p0] = pid.to_be_bytes();
    // The pointer field: the section begins behind it.
    let bytes = [&[0], section].concat();
    for (index, part) in bytes.chunks(BODY_BYTES).enumerate() {
        *continuity = continuity.wrapping_add(1) & 0x0F;
        out.extend([SYNC, p1 | u8::from(index == 0) << 6, p0, 0x10 | *continuity]);
        out.extend_from_slice(part);
        out.resize(out.len() + BODY_BYTES - part.len(), 0xFF);
    }
}

/// An entry of the program map.
pub(super) fn push_stream(stream_type: u8, pid: u16, descriptors: &[u8], body: &mut Vec<u8>) {
    let [p1, p0] = (0xE000 | pid).to_be_bytes();
    let [l1, l0] = (0xF000 | u16::try_from(descriptors.len()).unwrap_or(0)).to_be_bytes();
    body.extend([stream_type, p1, p0, l1, l0]);
    body.extend_from_slice(descriptors);
}

/// Gathers the sections of one PID.
#[derive(Clone, Debug, Default)]
pub(super) struct SectionReader {
    /// [`SECTION_BYTES_MAX`] at most.
    bytes: Vec<u8>,
    /// A section has begun; else all is passed over up to the next begin.
    inside: bool,
}

impl SectionReader {
    /// Forgets a section that has begun.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        self.inside = false;
    }

    /// Takes the payload of one packet and gives the sections that are whole now, each with a good checksum. Returns
    /// how many were not good.
    pub(super) fn read(&mut self, start: bool, payload: &[u8], mut take: impl FnMut(&[u8])) -> u64 {
        let mut bad = 0;
        let mut rest = payload;
        if start {
            let Some((pointer, behind)) = payload.split_first() else { return 1 };
            let Some((end, begin)) = behind.split_at_checked(usize::from(*pointer)) else {
                self.reset();
                return 1;
            };
            if self.inside {
                bad += self.append(end, &mut take);
            }
            self.reset();
            self.inside = true;
            rest = begin;
        }
        if self.inside {
            bad += self.append(rest, &mut take);
        }
        bad
    }

    fn append(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> u64 {
        self.bytes.extend_from_slice(bytes);
        let (mut at, mut bad) = (0, 0);
        // Each step is a section further on.
        while let Some(&[table, l1, l0]) = self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            if table == 0xFF {
                // Stuffing up to the end of the packet.
                self.reset();
                return bad;
            }
            let end = at + 3 + usize::from(u16::from_be_bytes([l1 & 0x0F, l0]));
            if end - at > SECTION_BYTES_MAX {
                self.reset();
                return bad + 1;
            }
            let Some(section) = self.bytes.get(at..end) else { break };
            if section.len() >= HEADER_BYTES + CRC_BYTES && crc32(section) == 0 {
                take(section);
            } else {
                bad += 1;
            }
            at = end;
        }
        self.bytes.drain(..at);
        bad
    }
}

/// The number and the map's PID of the first program of a section of the program association, if it is in force.
pub(super) fn read_pat(section: &[u8]) -> Option<(u16, u16)> {
    let body = body(TABLE_PAT, section)?;
    let mut programs = body
        .as_chunks()
        .0
        .iter()
        .map(|&[n1, n0, p1, p0]| (u16::from_be_bytes([n1, n0]), u16::from_be_bytes([p1, p0]) & 0x1FFF));
    // Number 0 is the network's own.
    programs.find(|(number, _)| *number != 0)
}

/// A program map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramMap {
    pub(super) pcr_pid: u16,
    pub(super) streams: Vec<MapStream>,
    /// Elementary streams of no codec that we read.
    pub(super) unknown: u64,
}

/// An elementary stream of a program map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapStream {
    pub(super) pid: u16,
    pub(super) codec: Codec,
    pub(super) language: Option<Box<str>>,
    /// What the map says of the decoder's configuration: of Opus alone.
    pub(super) config: Bytes,
    /// Its payloads have metadata cells around them.
    pub(super) cells: bool,
}

/// A section of the map of this program, if it is in force.
pub(super) fn read_pmt(program: u16, section: &[u8]) -> Option<ProgramMap> {
    let body = body(TABLE_PMT, section)?;
    let &[_, _, _, n1, n0] = section.first_chunk()?;
    if u16::from_be_bytes([n1, n0]) != program {
        return None;
    }
    let (&[p1, p0, l1, l0], rest) = body.split_first_chunk()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes([l1 & 0x0F, l0]))..)?;
    let pcr_pid = u16::from_be_bytes([p1, p0]) & 0x1FFF;
    let mut map = ProgramMap { pcr_pid, streams: Vec::new(), unknown: 0 };
    // Each step takes five bytes at least.
    while let Some((&[kind, p1, p0, l1, l0], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([l1 & 0x0F, l0]));
        let Some((descriptors, behind)) = behind.split_at_checked(length) else { break };
        rest = behind;
        let pid = u16::from_be_bytes([p1, p0]) & 0x1FFF;
        match stream(kind, pid, descriptors) {
            Some(stream) => map.streams.push(stream),
            None => map.unknown += 1,
        }
    }
    Some(map)
}

fn body(table: u8, section: &[u8]) -> Option<&[u8]> {
    let (&[id, _, _, _, _, version, number, _], rest) = section.split_first_chunk()?;
    let body = rest.get(..rest.len().checked_sub(CRC_BYTES)?)?;
    // One that is to come later is told again when it is in force. The first of several sections is what is read.
    (id == table && version & 1 == 1 && number == 0).then_some(body)
}

fn stream(kind: u8, pid: u16, descriptors: &[u8]) -> Option<MapStream> {
    let registered = |name: &[u8; 4]| {
        each(descriptors).any(|(tag, body)| tag == descriptor::REGISTRATION && body.starts_with(name))
    };
    let has = |wanted: u8| each(descriptors).any(|(tag, _)| tag == wanted);
    let id3 = || {
        let is_id3 = |body: &[u8]| body.windows(4).any(|name| name == b"ID3 ");
        each(descriptors).any(|(tag, body)| tag == descriptor::METADATA && is_id3(body))
    };
    let mut config = Bytes::new();
    let codec = match kind {
        stream_type::MPEG1_AUDIO | stream_type::MPEG2_AUDIO => Codec::Mp3,
        stream_type::AAC_ADTS => Codec::Aac,
        stream_type::H264 => Codec::H264,
        stream_type::H265 => Codec::H265,
        stream_type::AC3 => Codec::Ac3,
        stream_type::EAC3 => Codec::Eac3,
        stream_type::METADATA if registered(b"KLVA") => Codec::Klv,
        stream_type::METADATA if id3() => Codec::Id3,
        stream_type::PRIVATE_DATA if registered(b"Opus") => {
            let extension = |(tag, body): (u8, &[u8])| match (tag, body) {
                (descriptor::DVB_EXTENSION, [descriptor::EXTENSION_OPUS, config, ..]) => Some(*config),
                _ => None,
            };
            config = super::opus::head(each(descriptors).find_map(extension).unwrap_or(2))?;
            Codec::Opus
        }
        stream_type::PRIVATE_DATA if registered(b"AC-3") || has(descriptor::DVB_AC3) => Codec::Ac3,
        stream_type::PRIVATE_DATA if registered(b"EAC3") || has(descriptor::DVB_EAC3) => Codec::Eac3,
        stream_type::PRIVATE_DATA if registered(b"HEVC") => Codec::H265,
        stream_type::PRIVATE_DATA if registered(b"KLVA") => Codec::Klv,
        _ => return None,
    };
    let language = each(descriptors).find(|(tag, _)| *tag == descriptor::ISO_639_LANGUAGE);
    let language = language.and_then(|(_, body)| super::language::from_iso_639_2(*body.first_chunk()?));
    let cells = kind == stream_type::METADATA && codec == Codec::Klv;
    Some(MapStream { pid, codec, language, config, cells })
}

/// The descriptors: tag and body.
fn each(mut descriptors: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[tag, length], rest) = descriptors.split_first_chunk()?;
        let (body, behind) = rest.split_at_checked(usize::from(length))?;
        descriptors = behind;
        Some((tag, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets(section: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        write_section(0x20, &mut 0, section, &mut out);
        out.chunks(188).map(|packet| packet[4..].to_vec()).collect()
    }

    fn read(packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, u64) {
        let (mut reader, mut found, mut bad) = (SectionReader::default(), Vec::new(), 0);
        for (index, packet) in packets.iter().enumerate() {
            bad += reader.read(index == 0, packet, |section| found.push(section.to_vec()));
        }
        (found, bad)
    }

    #[test]
    fn the_association_is_the_one_that_every_muxer_writes() {
        // As ffmpeg writes it: program 1, its map at 0x1000.
        let expected = [0, 0xB0, 0x0D, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0, 0x2A, 0xB1, 0x04, 0xB2];
        assert_eq!(pat(1, 0x1000), expected);
        assert_eq!(read_pat(&expected), Some((1, 0x1000)));
    }

    #[test]
    fn a_map_of_several_packets_comes_back() {
        let mut body = vec![0xE1, 0, 0xF0, 0];
        let name = [descriptor::ISO_639_LANGUAGE, 4, b'g', b'e', b'r', 0];
        for pid in 0x101..0x121 {
            push_stream(stream_type::AAC_ADTS, pid, &name, &mut body);
        }
        push_stream(0x02, 0x130, &[], &mut body);
        let section = pmt(7, 31, &body);
        let packets = packets(&section);
        assert_eq!(packets.len(), 3);
        let (found, bad) = read(&packets);
        assert_eq!((&found[..], bad), (&[section][..], 0));
        let map = read_pmt(7, &found[0]).unwrap();
        assert_eq!((map.pcr_pid, map.streams.len(), map.unknown), (0x100, 32, 1));
        assert!(map.streams.iter().all(|one| one.codec == Codec::Aac && one.language.as_deref() == Some("de")));
        assert_eq!(read_pmt(8, &found[0]), None, "of another program");
    }

    #[test]
    fn sections_that_share_packets_are_told_apart_and_broken_ones_counted() {
        let (first, second) = (pat(1, 0x100), pat(2, 0x200));
        let mut broken = pat(3, 0x300);
        broken[9] ^= 1;
        let whole = [&[0][..], &first, &broken, &second, &[0xFF; 40]].concat();
        assert_eq!(read(&[whole]), (vec![first.clone(), second.clone()], 1));
        // The second begins before the end of the packet, and goes on in the next, whose pointer says so.
        let stuffed = [&[0][..], &first, &second[..5]].concat();
        let next = [&[11][..], &second[5..], &first, &[0xFF; 100]].concat();
        let (mut reader, mut found) = (SectionReader::default(), Vec::new());
        reader.read(true, &stuffed, |section| found.push(section.to_vec()));
        reader.read(true, &next, |section| found.push(section.to_vec()));
        assert_eq!(found, [first.clone(), second, first]);
        // A section longer than there may be: nothing is gathered of it.
        assert_eq!(read(&[vec![0, 2, 0xBF, 0xFD, 0]]), (vec![], 1));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(
            packets in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..184)), 0..12,
            ),
        ) {
            let mut reader = SectionReader::default();
            for (start, payload) in &packets {
                reader.read(*start, payload, |section| assert!(section.len() <= SECTION_BYTES_MAX));
                prop_assert!(reader.bytes.len() <= SECTION_BYTES_MAX + 184);
                let with_crc = section(TABLE_PMT, 1, 0, payload);
                let _ = (read_pat(payload), read_pmt(1, payload), read_pmt(1, &with_crc));
            }
        }
    }
}
