//! What a file is, by its first bytes.

use std::io::{Read, Seek, SeekFrom};

use super::SourceError;
use super::input::{Input, read_up_to};
use crate::container::fmp4::{FourCc, Mp4Error};
use crate::container::mpegts::PACKET_BYTES;
use crate::limits::INGEST_BOXES_MAX;

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flv,
    MpegTs,
    Mp4,
}

impl Kind {
    /// By [`INGEST_SNIFF_BYTES`](crate::limits::INGEST_SNIFF_BYTES), or by all there is.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"FLV\x01") {
            return Some(Self::Flv);
        }
        if bytes.get(4..8).is_some_and(|kind| BOXES.contains(&kind)) {
            return Some(Self::Mp4);
        }
        // A recording may begin within a packet.
        let sync = |at: usize| bytes.get(at).is_none_or(|byte| *byte == SYNC);
        let begins = |start: &usize| {
            bytes.get(*start) == Some(&SYNC) && sync(*start + PACKET_BYTES) && sync(*start + 2 * PACKET_BYTES)
        };
        (bytes.len() >= PACKET_BYTES && (0..PACKET_BYTES).any(|start| begins(&start))).then_some(Self::MpegTs)
    }
}

/// Whether the first data of an MP4 file are those of a fragment: so a file is that is read as it comes.
pub(super) fn is_fragmented(input: &mut Input) -> Result<bool, SourceError> {
    let mut walk = BoxWalk::default();
    for _ in 0..INGEST_BOXES_MAX {
        input.seek(SeekFrom::Start(walk.next))?;
        let head = read_up_to(&mut input.by_ref().take(HEADER_BYTES_MAX as u64))?;
        if let Some(fragmented) = walk.header(&head)? {
            return Ok(fragmented);
        }
    }
    Ok(false)
}

/// Goes from box to box.
#[derive(Debug, Default)]
pub(super) struct BoxWalk {
    /// Where the next one begins.
    next: u64,
    /// Bytes that were pushed.
    at: u64,
    partial: Vec<u8>,
    told: Option<bool>,
}

impl BoxWalk {
    /// Takes the next bytes of a stream; whether it is fragmented, as soon as that is known.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<bool>, SourceError> {
        let begin = self.at;
        self.at = begin.saturating_add(bytes.len() as u64);
        while self.told.is_none() && self.next < self.at {
            let from = self.next.saturating_add(self.partial.len() as u64).saturating_sub(begin);
            let mine = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
            let missing = wanted(&self.partial).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(mine.get(..missing).unwrap_or(mine));
            if mine.len() < missing {
                break;
            }
            if self.partial.len() < wanted(&self.partial) {
                continue;
            }
            let head = std::mem::take(&mut self.partial);
            self.told = self.header(&head)?;
        }
        Ok(self.told)
    }

    /// Reads the header of the box at `next`, and goes behind that box.
    fn header(&mut self, head: &[u8]) -> Result<Option<bool>, SourceError> {
        let Some((&[s0, s1, s2, s3, k0, k1, k2, k3], rest)) = head.split_first_chunk::<8>() else {
            return Ok(Some(false));
        };
        let kind = [k0, k1, k2, k3];
        match &kind {
            b"moof" => return Ok(Some(true)),
            b"mdat" => return Ok(Some(false)),
            _ => {}
        }
        let size = match (u32::from_be_bytes([s0, s1, s2, s3]), rest.first_chunk()) {
            // To the end of the file.
            (0, _) => return Ok(Some(false)),
            (1, Some(large)) => u64::from_be_bytes(*large),
            (size, _) => u64::from(size),
        };
        let next = self.next.checked_add(size).filter(|_| size >= 8);
        self.next = next.ok_or(Mp4Error::Size(FourCc(kind)))?;
        Ok(None)
    }
}

/// How long a header is that begins so.
fn wanted(begin: &[u8]) -> usize {
    if begin.get(..HEADER_BYTES).is_some_and(|begin| begin.starts_with(&[0, 0, 0, 1])) {
        HEADER_BYTES_MAX
    } else {
        HEADER_BYTES
    }
}

const SYNC: u8 = 0x47;
const HEADER_BYTES: usize = 8;
/// With a size of 64 bits.
const HEADER_BYTES_MAX: usize = 16;
/// What MP4 files begin with.
const BOXES: [&[u8]; 11] =
    [b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"emsg", b"pnot"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let mut packets = vec![0; 4 * PACKET_BYTES];
        packets.iter_mut().step_by(PACKET_BYTES).for_each(|byte| *byte = SYNC);
        let cut = [&[1, 2, 3][..], &packets].concat();
        for (bytes, kind) in [
            (&b"FLV\x01\x05\0\0\0\x09"[..], Some(Kind::Flv)),
            (b"\0\0\0\x18ftypisom", Some(Kind::Mp4)),
            (b"\0\0\0\x18moofabcd", Some(Kind::Mp4)),
            (&packets, Some(Kind::MpegTs)),
            (&cut, Some(Kind::MpegTs)),
            (b"\x1aE\xdf\xa3matroska", None),
            (b"", None),
            (b"G", None),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
        packets[PACKET_BYTES] = 0;
        packets[2 * PACKET_BYTES] = 0;
        assert_eq!(Kind::of(&packets), None);
    }

    #[test]
    fn what_stands_before_the_first_data_tells_plain_from_fragmented_however_it_is_cut() {
        let boxed = |kind: &[u8; 4], body: usize| {
            [&u32::try_from(body + 8).unwrap().to_be_bytes()[..], kind, &vec![7; body]].concat()
        };
        let fragmented = [boxed(b"ftyp", 12), boxed(b"moov", 300), boxed(b"sidx", 24), boxed(b"moof", 50)].concat();
        let wide = [&[0, 0, 0, 1][..], b"uuid", &25_u64.to_be_bytes(), &[7; 9]].concat();
        let plain = [wide, boxed(b"ftyp", 12), boxed(b"moov", 300), boxed(b"free", 0), boxed(b"mdat", 50)].concat();
        for (bytes, expected) in [(fragmented, true), (plain, false)] {
            for cut in [1, 7, 100, bytes.len()] {
                let mut walk = BoxWalk::default();
                let told = bytes.chunks(cut).filter_map(|part| walk.push(part).unwrap()).last();
                assert_eq!(told, Some(expected), "cut to {cut}");
            }
        }
        assert!(BoxWalk::default().push(&[0; 5].repeat(9)).unwrap() == Some(false));
        assert!(BoxWalk::default().push(&[&[0, 0, 0, 3][..], b"ftyp", &[0; 9]].concat()).is_err());
    }
}
