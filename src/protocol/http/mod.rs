//! HTTP/1.1 (RFC 9112): live media as a response without end, playlists and segments, pages.
//!
//! ```text
//! GET /APP/NAME.flv       HTTP-FLV; as WebSocket (RFC 6455) where the client asks for an upgrade
//! GET /APP/NAME.ts        MPEG-TS
//! GET /hls/APP/NAME/FILE  a file of the stream's [`Resources`], for who may play it
//! GET /…                  a page of theirs
//! ```
//!
//! Wire: `request` (httparse reads the head), `response`, `websocket`. Session: `session`. Packetizers: `formats`; all
//! viewers of a format share its bytes, as everywhere.
//!
//! A viewer shows and wants what it does over RTMP, in the query: `token`, `user`, `password`, `start`, `behind_ms`,
//! `merge_ms`, `max_age_ms`. Who asks for a file of a stream counts as its viewer as long as the connection lasts; what
//! it has shown comes back to it as a cookie, so that the players that drop the query of a playlist from its segments are
//! still let in.
//!
//! Left out: bodies of requests, HTTP/2 and TLS (a proxy in front has them), multipart ranges.

mod formats;
mod request;
mod response;
mod session;
#[cfg(test)]
mod tests;
mod websocket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::{Packetizer, Protocol, Session, SessionContext};
use crate::extension::Resources;

/// The HTTP protocol.
#[derive(Clone, Default)]
pub struct Http {
    resources: Option<Arc<dyn Resources>>,
    /// Requests that wait for a file, on all shards.
    parked: Arc<AtomicUsize>,
}

impl Http {
    /// Live media, and what `resources` have.
    #[must_use]
    pub fn with(resources: Arc<dyn Resources>) -> Self {
        Self { resources: Some(resources), parked: Arc::default() }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Protocol for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn session(&self, _context: SessionContext<'_>) -> Box<dyn Session> {
        Box::new(session::HttpSession::new(self.resources.clone(), Arc::clone(&self.parked)))
    }

    fn packetizer(&self, format: u32) -> Box<dyn Packetizer> {
        formats::packetizer(format)
    }
}
