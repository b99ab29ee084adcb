//! The head of a request.

use crate::extension::Credentials;
use crate::protocol::wishes;
use crate::reason::{Label, Reason};

/// What a client asks for, as far as anybody here looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Begins with a slash.
    pub(super) path: String,
    /// Behind the question mark.
    pub(super) query: String,
    /// It is of HTTP/1.1, and knows chunks.
    pub(super) is_1_1: bool,
    /// The connection is to go on behind the answer.
    pub(super) keep_alive: bool,
    /// A WebSocket is asked for, with this key.
    pub(super) websocket: Option<String>,
    /// `If-None-Match`.
    pub(super) if_none_match: Option<String>,
    /// `Range`.
    pub(super) range: Option<String>,
    /// What we gave it: see [`COOKIE`].
    pub(super) cookie: Option<String>,
    /// Bytes that follow, which nobody here wants.
    pub(super) has_body: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Options,
    Other,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is none.
    Malformed(&'static str),
    /// More lines than [`HEADERS_MAX`].
    TooMany,
}

impl Wrong {
    /// Why the connection ends, with the offset of the request in its input.
    pub(super) const fn reason(self, at: u64) -> Reason {
        match self {
            Self::Malformed(what) => Reason::Malformed { what: Label(what), at },
            Self::TooMany => Reason::Malformed { what: Label("http.too_many_headers"), at },
        }
    }
}

/// Reads a head from the front of the input; its length too. `None` if it is not all there.
pub(super) fn read(input: &[u8]) -> Result<Option<(Request, usize)>, Wrong> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Wrong::TooMany),
        Err(httparse::Error::Version) => return Err(Wrong::Malformed("http.version")),
        Err(_) => return Err(Wrong::Malformed("http.head")),
    };
    let target = parsed.path.unwrap_or_default();
    // A proxy's form has the authority before it (RFC 9112, 3.2.2).
    let target = target.split_once("://").map_or(target, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return Err(Wrong::Malformed("http.target"));
    }
    let mut request = Request {
        method: match parsed.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("OPTIONS") => Method::Options,
            _ => Method::Other,
        },
        path: path.to_owned(),
        query: query.to_owned(),
        is_1_1: parsed.version == Some(1),
        keep_alive: parsed.version == Some(1),
        websocket: None,
        if_none_match: None,
        range: None,
        cookie: None,
        has_body: false,
    };
    let (mut upgrades, mut key) = (false, None);
    for header in parsed.headers.iter() {
        let value = || std::str::from_utf8(header.value).unwrap_or_default().trim();
        let name = |known: &str| header.name.eq_ignore_ascii_case(known);
        if name("connection") {
            let has = |word: &str| value().split(',').any(|one| one.trim().eq_ignore_ascii_case(word));
            request.keep_alive = (request.keep_alive && !has("close")) || has("keep-alive");
        } else if name("content-length") {
            request.has_body = value() != "0";
        } else if name("transfer-encoding") {
            request.has_body = true;
        } else if name("upgrade") {
            upgrades = value().eq_ignore_ascii_case("websocket");
        } else if name("sec-websocket-key") {
            key = Some(value().to_owned());
        } else if name("if-none-match") {
            request.if_none_match = Some(value().to_owned());
        } else if name("range") {
            request.range = Some(value().to_owned());
        } else if name("cookie") {
            let ours = value().split(';').find_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='));
            request.cookie = ours.map(str::to_owned);
        }
    }
    request.websocket = key.filter(|_| upgrades);
    Ok(Some((request, length)))
}

impl Request {
    /// What was shown: now, or when we gave it back as a cookie.
    pub(super) fn credentials(&self) -> Credentials {
        let shown = wishes::credentials(&self.query);
        match &self.cookie {
            Some(cookie) if shown.token.is_none() && shown.user.is_none() => {
                let earlier = Credentials::from_query(cookie);
                // It is a query that was encoded once more.
                wishes::credentials(earlier.params.first().map_or("", |(query, _)| query))
            }
            _ => shown,
        }
    }
}

/// The name of the cookie in which a viewer gets back what it has shown.
pub(super) const COOKIE: &str = "shardcast";
/// Lines of a head.
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Request {
        let (request, length) = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        request
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = "GET /live/a.flv?token=x HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: k\r\nIF-NONE-MATCH: \"1\"\r\nCookie: a=b; shardcast=token%3Dy\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..end]), Ok(None));
        }
        let request = one(text);
        assert_eq!((&*request.path, &*request.query, request.keep_alive), ("/live/a.flv", "token=x", true));
        assert_eq!((request.websocket.as_deref(), request.if_none_match.as_deref()), (Some("k"), Some("\"1\"")));
        assert_eq!(request.credentials().token.unwrap().expose(), "x", "what is shown now counts");
        let request = Request { query: "_HLS_msn=3".into(), ..request };
        assert_eq!(request.credentials().token.unwrap().expose(), "y");
    }

    #[test]
    fn connections_end_or_go_on_as_their_version_says() {
        for (version, header, goes_on) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let request = one(&format!("GET / HTTP/{version}\r\n{header}\r\n"));
            assert_eq!(request.keep_alive, goes_on, "{version} {header}");
        }
        assert_eq!(one("GET http://host/a?b HTTP/1.1\r\n\r\n").path, "/a");
        assert_eq!(one("GET http://host HTTP/1.1\r\n\r\n").path, "/");
        assert!(one("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n").has_body);
    }

    #[test]
    fn what_is_no_request_is_told() {
        for text in ["\x16\x03\x01\0", "GET / HTTP/2.0\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "GET a HTTP/1.1\r\n\r\n"] {
            assert!(matches!(read(text.as_bytes()), Err(Wrong::Malformed(_))), "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(read(many.as_bytes()), Err(Wrong::TooMany));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
