//! A line of a trail: how it is sealed, and what is read from it without parsing all of it.
//!
//! ```text
//! {"v":1,"seq":7,"boot":2,…,"ph":"<the h of the line before>","h":"<SHA-256 of all bytes up to here>"}
//! ```

use std::io::{self, BufRead, Read};

use super::Hash;
use super::hash::{Hasher, from_hex};
use crate::audit::json::write_hex;
use crate::limits::AUDIT_LINE_BYTES_MAX;

/// Ends the line that begins at `start`: with the hash of the one before, and its own.
pub(super) fn seal(out: &mut Vec<u8>, start: usize, before: &Hash) -> Hash {
    out.extend_from_slice(b",\"ph\":\"");
    write_hex(before, out);
    out.push(b'"');
    let hash = Hasher::of(&out[start..]);
    out.extend_from_slice(b",\"h\":\"");
    write_hex(&hash, out);
    out.extend_from_slice(b"\"}\n");
    hash
}

/// What the chain is made of, read from a line without its line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// What is hashed.
    pub body: &'a [u8],
    /// The hash of the line before, as the line says.
    pub before: Hash,
    /// Its own, as it says.
    pub hash: Hash,
}

impl<'a> Sealed<'a> {
    /// `None` if the line does not end as one does.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let (body, seal) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
        let hash = seal.strip_prefix(b",\"h\":\"")?.strip_suffix(b"\"}")?;
        let before = body.get(body.len().checked_sub(BEFORE_BYTES)?..)?;
        let before = before.strip_prefix(b",\"ph\":\"")?.strip_suffix(b"\"")?;
        Some(Self { body, before: from_hex(before)?, hash: from_hex(hash)? })
    }

    /// Whether the hash is that of the bytes.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        Hasher::of(self.body) == self.hash
    }
}

const SEAL_BYTES: usize = 72;
const BEFORE_BYTES: usize = 72;

/// What stands at the beginning of every line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The version of its schema.
    pub version: u64,
    /// Its number in the trail.
    pub seq: u64,
    /// The boot of the trail that it was told in.
    pub boot: u64,
    /// Who told it, with which number; none of what the trail tells itself.
    pub producer: Option<(u16, u64)>,
    /// What it is about.
    pub event: &'a str,
}

impl<'a> Head<'a> {
    /// `None` if it is not one of ours.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        skip(&mut rest, b"{\"v\":")?;
        let version = number(&mut rest)?;
        skip(&mut rest, b",\"seq\":")?;
        let seq = number(&mut rest)?;
        skip(&mut rest, b",\"boot\":")?;
        let boot = number(&mut rest)?;
        let producer = match skip(&mut rest, b",\"producer\":") {
            Some(()) => {
                let producer = u16::try_from(number(&mut rest)?).ok()?;
                skip(&mut rest, b",\"pseq\":")?;
                Some((producer, number(&mut rest)?))
            }
            None => None,
        };
        skip(&mut rest, b",\"wall\":\"")?;
        rest = rest.get(rest.iter().position(|byte| *byte == b'"')? + 1..)?;
        skip(&mut rest, b",\"mono_ns\":")?;
        number(&mut rest)?;
        skip(&mut rest, b",\"event\":\"")?;
        let event = rest.get(..rest.iter().position(|byte| *byte == b'"')?)?;
        Some(Self { version, seq, boot, producer, event: std::str::from_utf8(event).ok()? })
    }
}

/// What comes next in a file of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its line feed.
    Line,
    /// The file ends amid a line.
    Torn,
    /// A line that is longer than any of ours: [`AUDIT_LINE_BYTES_MAX`]. It was passed over.
    TooLong,
    /// The file ends.
    End,
}

/// Reads the next line into `line`, in bounded memory; what it is, and of how many bytes.
///
/// # Errors
/// The file cannot be read.
pub fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(Next, u64)> {
    line.clear();
    let mut read = reader.by_ref().take(AUDIT_LINE_BYTES_MAX as u64).read_until(b'\n', line)? as u64;
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        return Ok((Next::Line, read));
    }
    if read < AUDIT_LINE_BYTES_MAX as u64 {
        return Ok((if read == 0 { Next::End } else { Next::Torn }, read));
    }
    loop {
        let bytes = reader.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let passed = end.map_or(bytes.len(), |at| at + 1);
        reader.consume(passed);
        read += passed as u64;
        if passed == 0 {
            return Ok((Next::Torn, read));
        }
        if end.is_some() {
            return Ok((Next::TooLong, read));
        }
    }
}

fn skip(rest: &mut &[u8], literal: &[u8]) -> Option<()> {
    *rest = rest.strip_prefix(literal)?;
    Some(())
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, behind) = rest.split_at(digits);
    *rest = behind;
    if digits == 0 {
        return None;
    }
    number.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::json::Line;

    #[test]
    fn a_sealed_line_is_read_again_and_any_other_byte_is_noticed() {
        let mut out = b"before\n".to_vec();
        let start = out.len();
        let mut line = Line::begin(7, Some(2), &mut out);
        line.number("producer", 3);
        line.number("pseq", 41);
        line.time("wall", crate::clock::Wall(1_735_689_599_000_000_001));
        line.number("mono_ns", 5);
        line.text("event", "play_start");
        let hash = seal(&mut out, start, &[0xAB; 32]);

        let line = &out[start..out.len() - 1];
        let sealed = Sealed::read(line).unwrap();
        assert_eq!((sealed.before, sealed.hash, sealed.is_whole()), ([0xAB; 32], hash, true));
        let head = Head { version: 1, seq: 7, boot: 2, producer: Some((3, 41)), event: "play_start" };
        assert_eq!(Head::read(line), Some(head));
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            let same = Sealed::read(&changed).is_some_and(|sealed| sealed.is_whole() && sealed.hash == hash);
            assert!(!same, "byte {at}");
        }
        for end in 0..line.len() {
            assert!(Sealed::read(&line[..end]).is_none_or(|sealed| !sealed.is_whole()), "cut at {end}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_passed_over_in_bounded_memory() {
        let mut bytes = b"one\n".to_vec();
        bytes.resize(bytes.len() + 3 * AUDIT_LINE_BYTES_MAX, b'x');
        bytes.extend_from_slice(b"\ntwo\n");
        bytes.resize(bytes.len() + AUDIT_LINE_BYTES_MAX + 7, b'y');
        let mut reader = &bytes[..];
        let mut line = Vec::new();
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), (Next::Line, 4));
        assert_eq!(line, b"one");
        let long = 3 * AUDIT_LINE_BYTES_MAX as u64 + 1;
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), (Next::TooLong, long));
        assert!(line.capacity() <= 2 * AUDIT_LINE_BYTES_MAX, "{}", line.capacity());
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), (Next::Line, 4));
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), (Next::Torn, AUDIT_LINE_BYTES_MAX as u64 + 7));
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), (Next::End, 0));
    }
}
