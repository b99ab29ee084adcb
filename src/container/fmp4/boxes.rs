//! Boxes (ISO/IEC 14496-12, 4.2): headers written and read, one level at a time.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::Mp4Error;

/// The four characters that name a box, a brand or a sample entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}

/// Bytes of a header whose size fits 32 bits.
pub(super) const HEADER_BYTES: usize = 8;

/// Writes a box around what `body` writes.
pub(super) fn put_box(out: &mut BytesMut, kind: &[u8; 4], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    body(out);
    // What is written here is bounded by what it is made of: configuration records and runs of samples.
    let size = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    patch(out, start, size);
}

/// Writes a box with version and flags.
pub(super) fn put_full_box(
    out: &mut BytesMut,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut BytesMut),
) {
    put_box(out, kind, |out| {
        out.put_u32(u32::from(version) << 24 | flags);
        body(out);
    });
}

/// Writes over what stands at a place.
pub(super) fn patch(out: &mut BytesMut, at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// What a box's header says, and how long it is itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FourCc,
    /// Bytes of the body; none where it goes on to the end of the file.
    pub(super) body: Option<u64>,
    pub(super) length: usize,
}

impl Header {
    /// None if there are too few bytes to tell.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Mp4Error> {
        let Some((&head, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
        let [s0, s1, s2, s3, k0, k1, k2, k3] = head;
        let kind = FourCc([k0, k1, k2, k3]);
        let (size, length) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => return Ok(Some(Self { kind, body: None, length: HEADER_BYTES })),
            1 => match rest.first_chunk() {
                Some(large) => (u64::from_be_bytes(*large), 16),
                None => return Ok(None),
            },
            size => (u64::from(size), HEADER_BYTES),
        };
        let body = size.checked_sub(length.try_into().unwrap_or(u64::MAX)).ok_or(Mp4Error::Size(kind))?;
        Ok(Some(Self { kind, body: Some(body), length }))
    }
}

/// The boxes within the body of another one. Fewer bytes than a header at the end are passed over, as some writers
/// end a list with zeros.
pub(super) fn children(mut rest: &[u8]) -> impl Iterator<Item = Result<(FourCc, &[u8]), Mp4Error>> {
    let mut next = move || {
        let Some(header) = Header::read(rest)? else { return Ok(None) };
        let body = rest.get(header.length..).unwrap_or_default();
        let length = header.body.map_or(body.len(), |length| usize::try_from(length).unwrap_or(usize::MAX));
        let (body, behind) = body.split_at_checked(length).ok_or(Mp4Error::Size(header.kind))?;
        rest = behind;
        Ok(Some((header.kind, body)))
    };
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken {
            return None;
        }
        let found = next();
        broken = found.is_err();
        found.transpose()
    })
}

/// The first box of a kind, if there is one.
pub(super) fn child<'a>(body: &'a [u8], kind: &[u8; 4]) -> Result<Option<&'a [u8]>, Mp4Error> {
    for found in children(body) {
        let (found, body) = found?;
        if found.0 == *kind {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// The first box of a kind.
pub(super) fn the_child<'a>(body: &'a [u8], kind: &[u8; 4]) -> Result<&'a [u8], Mp4Error> {
    child(body, kind)?.ok_or(Mp4Error::Missing(FourCc(*kind)))
}

/// The fields of a box, one behind the other. An error names the box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    kind: FourCc,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(kind: &[u8; 4], body: &'a [u8]) -> Self {
        Self { kind: FourCc(*kind), rest: body }
    }

    /// Behind version and flags, which come first.
    pub(super) fn full(kind: &[u8; 4], body: &'a [u8]) -> Result<(u8, u32, Self), Mp4Error> {
        let mut fields = Self::new(kind, body);
        let head = fields.u32()?;
        Ok((u8::try_from(head >> 24).unwrap_or(0), head & 0x00FF_FFFF, fields))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Mp4Error::Cut(self.kind))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Mp4Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Mp4Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Mp4Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Mp4Error> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Mp4Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A number of 64 bits in version 1, of 32 bits in version 0.
    pub(super) fn wide(&mut self, version: u8) -> Result<u64, Mp4Error> {
        if version == 0 { Ok(self.u32()?.into()) } else { self.u64() }
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Mp4Error> {
        self.rest = self.rest.get(count..).ok_or(Mp4Error::Cut(self.kind))?;
        Ok(())
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_lie_are_told_from_those_that_are_not_there_yet() {
        let read = |bytes: &[u8]| Header::read(bytes);
        assert_eq!(read(b"\0\0\0\x09moo"), Ok(None));
        assert_eq!(read(b"\0\0\0\x01mdat\0\0\0\0"), Ok(None));
        assert_eq!(read(b"\0\0\0\x07moov"), Err(Mp4Error::Size(FourCc(*b"moov"))));
        assert_eq!(read(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f"), Err(Mp4Error::Size(FourCc(*b"mdat"))));
        let header = read(b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff").unwrap().unwrap();
        assert_eq!((header.body, header.length), (Some(u64::MAX - 16), 16));
        assert_eq!(read(b"\0\0\0\0mdat").unwrap().unwrap().body, None);
    }

    #[test]
    fn a_list_of_boxes_ends_at_the_first_that_does_not_fit() {
        let list = b"\0\0\0\x09free!\0\0\0\x08skip\0\0\0\x10free";
        let found: Vec<_> = children(list).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Ok((FourCc(*b"free"), &b"!"[..])));
        assert_eq!(found[2], Err(Mp4Error::Size(FourCc(*b"free"))));
        assert_eq!(the_child(&list[..17], b"moov"), Err(Mp4Error::Missing(FourCc(*b"moov"))));
    }
}
