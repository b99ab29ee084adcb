//! What a host serves over HTTP beside media that flows: playlists and segments of a stream, and pages.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::id::StreamKey;

/// Answers from memory: called on the shards, so it must neither block nor take long.
pub trait Resources: Send + Sync {
    /// A file of a stream, for somebody who may play it.
    fn file(&self, key: &StreamKey, request: &ResourceRequest<'_>) -> ResourceAnswer;

    /// A page, for everybody; the path begins with a slash and has no query. `None` if there is none.
    fn page(&self, path: &str) -> Option<Resource> {
        let _ = path;
        None
    }
}

/// What is asked of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceRequest<'a> {
    /// The last part of the path, such as `index.m3u8`.
    pub file: &'a str,
    /// Behind the question mark, as it came.
    pub query: &'a str,
}

/// What there is.
#[derive(Clone, Debug)]
pub enum ResourceAnswer {
    /// Here it is.
    Ready(Resource),
    /// Not yet: it is asked again until it is there or the patience of HTTP is at its end.
    Wait,
    /// There is none, and will be none.
    NotFound,
    /// Nothing that one may ask; why, in a sentence.
    Bad(&'static str),
}

/// A file or a page.
#[derive(Clone)]
pub struct Resource {
    /// Its bytes, in order; what others hold as well is not copied.
    pub body: Vec<Bytes>,
    /// Its media type.
    pub content_type: &'static str,
    /// How long it may be kept by whoever has got it; `None`: it is to be asked for again each time.
    pub max_age: Option<Duration>,
    /// Names this content of it: visible ASCII without quotes.
    pub etag: Option<String>,
    /// What the page may load and run, for `Content-Security-Policy`.
    pub policy: Option<&'static str>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length: usize = self.body.iter().map(Bytes::len).sum();
        write!(f, "Resource({}, {length} bytes)", self.content_type)
    }
}
