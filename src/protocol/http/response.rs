//! Heads of responses, and which part of a file a range asks for.

use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;

use crate::reason::{Blame, Reason};

/// The head of a response, line by line.
pub(super) struct Head {
    text: String,
}

impl Head {
    pub(super) fn new(status: u16) -> Self {
        let mut text = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
        // Whoever may play a stream may do so from any page.
        text.push_str("Access-Control-Allow-Origin: *\r\nX-Content-Type-Options: nosniff\r\n");
        Self { text }
    }

    pub(super) fn line(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        let _ = write!(self.text, "{name}: {value}\r\n");
        self
    }

    pub(super) fn finish(&mut self) -> Bytes {
        self.text.push_str("\r\n");
        std::mem::take(&mut self.text).into()
    }
}

/// A whole response that says something to a person.
pub(super) fn sentence(status: u16, text: &str, keep_alive: bool, head_only: bool) -> Bytes {
    let body = format!("{text}\n");
    let mut head = Head::new(status);
    head.line("Content-Type", "text/plain; charset=utf-8").line("Content-Length", body.len());
    head.line("Cache-Control", "no-store");
    if matches!(status, 503) {
        head.line("Retry-After", 1);
    }
    if !keep_alive {
        head.line("Connection", "close");
    }
    let mut out = head.finish().to_vec();
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
    out.into()
}

/// What a refusal is in HTTP.
pub(super) const fn status_of(reason: Reason) -> u16 {
    match reason {
        Reason::NotFound | Reason::UnknownApp | Reason::BadName | Reason::Ended => 404,
        Reason::Denied | Reason::TokenExpired | Reason::AuthTimeout => 403,
        _ => match reason.blame() {
            Blame::Malformed | Blame::Peer | Blame::Caller => 400,
            _ => 503,
        },
    }
}

const fn phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

/// What `Range: bytes=…` asks for of so many bytes (RFC 9110, 14.1.2). `None`: all of it, also where it is not
/// understood or asks for several parts. `Err`: for nothing that is there.
pub(super) fn range(header: &str, length: usize) -> Result<Option<Range<usize>>, ()> {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => return Err(()),
            Some(suffix) => length.saturating_sub(suffix)..length,
            None => return Ok(None),
        },
        (first, "") => match number(first) {
            Some(first) => first..length,
            None => return Ok(None),
        },
        (first, last) => match number(first).zip(number(last)) {
            Some((first, last)) if first <= last => first..last.saturating_add(1).min(length),
            _ => return Ok(None),
        },
    };
    if range.start < range.end { Ok(Some(range)) } else { Err(()) }
}

/// A part of what slices hold together.
pub(super) fn part(body: &[Bytes], range: &Range<usize>) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut at = 0;
    for slice in body {
        let (start, end) = (range.start.max(at) - at, range.end.clamp(at, at + slice.len()) - at);
        if start < end {
            out.push(slice.slice(start..end));
        }
        at += slice.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_what_the_specification_says() {
        for (header, expected) in [
            ("bytes=0-9", Ok(Some(0..10))),
            ("bytes=90-", Ok(Some(90..100))),
            ("bytes=90-500", Ok(Some(90..100))),
            ("bytes=-7", Ok(Some(93..100))),
            ("bytes=-700", Ok(Some(0..100))),
            ("bytes=100-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=5-2", Ok(None)),
            ("bytes=0-1,5-6", Ok(None)),
            ("lines=1-2", Ok(None)),
        ] {
            assert_eq!(range(header, 100), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_that_of_all(
            slices in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..6),
            from in 0_usize..40, length in 0_usize..40,
        ) {
            let all = slices.concat();
            let range = from.min(all.len())..(from + length).min(all.len());
            let slices: Vec<Bytes> = slices.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(part(&slices, &range).concat(), &all[range]);
        }
    }
}
