//! One HTTP connection: one request after the other, and each answered before the next is looked at.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::formats::{self, Format};
use super::request::{self, COOKIE, Method, Request, Wrong};
use super::response::{self, Head};
use super::websocket::{self, Said};
use crate::clock::{Instant, Now};
use crate::extension::{Resource, ResourceAnswer, ResourceRequest, Resources};
use crate::id::StreamKey;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_PARKED_MAX, Limit};
use crate::media::Start;
use crate::protocol::{Input, Output, PlayOptions, PlayRequest, Session, StreamHandle, wishes};
use crate::reason::{Label, Reason};

pub(super) struct HttpSession {
    resources: Option<Arc<dyn Resources>>,
    parked: Arc<AtomicUsize>,
    state: State,
    /// The stream that this connection counts as a viewer of for asking for its files, with its handle.
    viewing: Option<(StreamKey, StreamHandle)>,
    /// Whose files it may have besides: that stream has ended.
    viewed: Option<StreamKey>,
    /// The next play's: a late answer to one before never hits another.
    next_handle: StreamHandle,
    /// What was received and not looked at.
    input: Vec<u8>,
    /// Bytes that were looked at.
    at: u64,
    outputs: VecDeque<Output>,
}

/// What it waits for.
enum State {
    /// A request.
    Request,
    /// Whether it may play.
    Asked { request: Box<Request>, target: Target, handle: StreamHandle },
    /// A file that is not there yet: asked for again at a time, and in the end no more.
    Parked { request: Box<Request>, key: StreamKey, file: String, again: Instant, until: Instant, place: Place },
    /// That an answer is with the socket.
    Sending { keep_alive: bool, until: Instant },
    /// Nothing: media flows until one of both ends it.
    Live { format: Format, keep_alive: bool },
    /// Nothing more.
    Over,
}

/// One of [`HTTP_PARKED_MAX`], given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(places: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = Self(Arc::clone(places));
        (places.fetch_add(1, Ordering::Relaxed) < HTTP_PARKED_MAX).then_some(taken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is asked of a stream.
#[derive(Clone)]
enum Target {
    Live(Format),
    File { key: StreamKey, file: String },
}

impl HttpSession {
    pub(super) const fn new(resources: Option<Arc<dyn Resources>>, parked: Arc<AtomicUsize>) -> Self {
        Self {
            resources,
            parked,
            state: State::Request,
            viewing: None,
            viewed: None,
            next_handle: 1,
            input: Vec::new(),
            at: 0,
            outputs: VecDeque::new(),
        }
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Looks at requests until one must be waited for.
    fn pump(&mut self, now: Now) -> Result<(), Reason> {
        while matches!(self.state, State::Request) && !self.input.is_empty() {
            let (request, length) = match request::read(&self.input) {
                Ok(Some(read)) => read,
                Ok(None) if self.input.len() > HTTP_HEAD_BYTES_MAX => {
                    self.say(431, "the head of this request is too long", false, false);
                    return Err(Reason::Limit(Limit::HandshakeBytes));
                }
                Ok(None) => return Ok(()),
                Err(wrong) => {
                    let status = if wrong == Wrong::TooMany { 431 } else { 400 };
                    self.say(status, "this is no request of HTTP/1.1", false, false);
                    return Err(wrong.reason(self.at));
                }
            };
            self.input.drain(..length);
            self.at += length as u64;
            self.output(Output::Established);
            self.answer(request, now)?;
        }
        Ok(())
    }

    fn answer(&mut self, request: Request, now: Now) -> Result<(), Reason> {
        if request.has_body {
            self.say(413, "no request here has a body", false, false);
            self.state = State::Over;
            self.output(Output::Close(Reason::Unsupported(Label("http.request_body"))));
            return Ok(());
        }
        match request.method {
            Method::Get | Method::Head => {}
            Method::Options => {
                let mut head = Head::new(204);
                head.line("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS");
                head.line("Access-Control-Allow-Headers", "Range").line("Access-Control-Max-Age", 86_400);
                if !request.keep_alive {
                    head.line("Connection", "close");
                }
                let head = head.finish();
                self.output(Output::Send(head));
                return self.go_on(request.keep_alive);
            }
            Method::Other => {
                self.refuse(&request, 405, "only GET, HEAD and OPTIONS are answered here");
                return self.go_on(request.keep_alive);
            }
        }
        if let Some(page) = self.resources.as_ref().and_then(|resources| resources.page(&request.path)) {
            self.give(&request, page, None, now);
            return Ok(());
        }
        match target(&request) {
            Some((_, Target::Live(_))) if !request.is_1_1 => {
                self.refuse(&request, 400, "live media needs HTTP/1.1, whose chunks tell where it ends");
                self.go_on(request.keep_alive)
            }
            Some((key, target)) => self.ask(request, key, target, now),
            None => {
                self.refuse(&request, 404, "there is nothing here: live media is at /APP/NAME.flv and /APP/NAME.ts");
                self.go_on(request.keep_alive)
            }
        }
    }

    /// Asks whether this may be played, unless that is known.
    fn ask(&mut self, request: Request, key: StreamKey, target: Target, now: Now) -> Result<(), Reason> {
        if let Target::File { file, .. } = &target {
            let known = self.viewing.as_ref().map(|(viewing, _)| viewing).or(self.viewed.as_ref()) == Some(&key);
            if known {
                let file = file.clone();
                return self.serve(Box::new(request), key, file, now);
            }
        }
        if let Some((_, handle)) = self.viewing.take() {
            self.output(Output::Stop(handle));
        }
        let handle = self.next_handle;
        self.next_handle = self.next_handle.wrapping_add(1).max(1);
        let credentials = request.credentials();
        let (format, options) = match &target {
            Target::Live(format) => (*format, wishes::play_options(&credentials)),
            // It gets no frames, so it stands at the edge.
            Target::File { .. } => {
                (Format::Files, PlayOptions { start: Some(Start::Live), ..PlayOptions::default() })
            }
        };
        let play = PlayRequest { handle, key, credentials, format: format.to_number(), options };
        self.output(Output::Play(Box::new(play)));
        self.state = State::Asked { request: Box::new(request), target, handle };
        Ok(())
    }

    /// It may play, or not.
    fn playing(&mut self, handle: StreamHandle, result: Result<(), Reason>, now: Now) -> Result<(), Reason> {
        let State::Asked { handle: asked, .. } = &self.state else { return Ok(()) };
        if *asked != handle {
            return Ok(());
        }
        let State::Asked { request, target, .. } = std::mem::replace(&mut self.state, State::Request) else {
            return Ok(());
        };
        match (result, target) {
            (Err(reason), _) => {
                self.refuse(&request, response::status_of(reason), &reason.to_string());
                self.go_on(request.keep_alive)?;
            }
            (Ok(()), Target::Live(format)) => self.begin_live(&request, format, handle),
            (Ok(()), Target::File { key, file }) => {
                self.viewing = Some((key.clone(), handle));
                self.viewed = None;
                self.serve(request, key, file, now)?;
            }
        }
        self.pump(now)
    }

    /// A response that ends with its stream.
    fn begin_live(&mut self, request: &Request, format: Format, handle: StreamHandle) {
        let mut head;
        match &request.websocket {
            Some(key) if format == Format::WebSocketFlv => {
                head = Head::new(101);
                head.line("Upgrade", "websocket").line("Connection", "Upgrade");
                head.line("Sec-WebSocket-Accept", websocket::accept(key));
            }
            _ => {
                head = Head::new(200);
                head.line("Content-Type", format.content_type()).line("Cache-Control", "no-store");
                head.line("Transfer-Encoding", "chunked");
            }
        }
        let mut out = head.finish().to_vec();
        if request.method == Method::Head {
            self.output(Output::Send(out.into()));
            self.output(Output::Stop(handle));
            self.output(Output::Close(Reason::Ended));
            self.state = State::Over;
            return;
        }
        formats::begin(format, &mut out);
        self.output(Output::Send(out.into()));
        let keep_alive = request.keep_alive && format != Format::WebSocketFlv;
        self.state = State::Live { format, keep_alive };
    }

    /// A file of a stream that may be played.
    fn serve(&mut self, request: Box<Request>, key: StreamKey, file: String, now: Now) -> Result<(), Reason> {
        self.serve_until(request, key, file, now, now.mono + PARKED_MAX, None)
    }

    fn serve_until(
        &mut self,
        request: Box<Request>,
        key: StreamKey,
        file: String,
        now: Now,
        until: Instant,
        place: Option<Place>,
    ) -> Result<(), Reason> {
        let asked = ResourceRequest { file: &file, query: &request.query };
        let answer = self.resources.as_ref().map(|resources| resources.file(&key, &asked));
        match answer.unwrap_or(ResourceAnswer::NotFound) {
            ResourceAnswer::Ready(resource) => {
                let cookie = (!request.query.is_empty() && shows_something(&request)).then_some(&key);
                self.give(&request, resource, cookie, now);
                Ok(())
            }
            ResourceAnswer::Wait if now.mono < until => match place.or_else(|| Place::take(&self.parked)) {
                Some(place) => {
                    self.state = State::Parked { request, key, file, again: now.mono + ASK_AGAIN, until, place };
                    Ok(())
                }
                None => {
                    self.refuse(&request, 503, "too many wait for what is not there yet");
                    self.go_on(request.keep_alive)
                }
            },
            ResourceAnswer::Wait => {
                self.refuse(&request, 503, "it did not come in time");
                self.go_on(request.keep_alive)
            }
            ResourceAnswer::NotFound => {
                self.refuse(&request, 404, "there is no such file of this stream, or not any more");
                self.go_on(request.keep_alive)
            }
            ResourceAnswer::Bad(why) => {
                self.refuse(&request, 400, why);
                self.go_on(request.keep_alive)
            }
        }
    }

    /// Sends a file or a page, or a part of it.
    fn give(&mut self, request: &Request, resource: Resource, cookie: Option<&StreamKey>, now: Now) {
        let Resource { body, content_type, max_age, etag, policy } = resource;
        let length: usize = body.iter().map(Bytes::len).sum();
        let etag = etag.map(|etag| format!("\"{etag}\""));
        let known = request.if_none_match.as_deref().zip(etag.as_deref());
        let known =
            known.is_some_and(|(theirs, ours)| theirs == "*" || theirs.split(',').any(|one| one.trim() == ours));
        let range = request.range.as_deref().map_or(Ok(None), |range| response::range(range, length));
        let (status, range) = match range {
            _ if known => (304, 0..0),
            Ok(None) => (200, 0..length),
            Ok(Some(range)) => (206, range),
            Err(()) => (416, 0..0),
        };
        let mut head = Head::new(status);
        match status {
            416 => {
                head.line("Content-Range", format_args!("bytes */{length}")).line("Content-Length", 0);
            }
            304 => {}
            _ => {
                head.line("Content-Type", content_type).line("Content-Length", range.len());
                head.line("Accept-Ranges", "bytes");
            }
        }
        if status == 206 {
            head.line("Content-Range", format_args!("bytes {}-{}/{length}", range.start, range.end - 1));
        }
        match max_age {
            Some(age) => head.line("Cache-Control", format_args!("max-age={}", age.as_secs())),
            None => head.line("Cache-Control", "no-cache"),
        };
        if let Some(etag) = &etag {
            head.line("ETag", etag);
        }
        if let Some(policy) = policy {
            head.line("Content-Security-Policy", policy).line("Referrer-Policy", "no-referrer");
        }
        if let Some(key) = cookie {
            let shown = percent_encode(&request.query);
            head.line("Set-Cookie", format_args!("{COOKIE}={shown}; Path=/hls/{key}/; HttpOnly; SameSite=Lax"));
        }
        if !request.keep_alive {
            head.line("Connection", "close");
        }
        self.output(Output::Share(head.finish()));
        if request.method == Method::Get && matches!(status, 200 | 206) {
            for slice in response::part(&body, &range) {
                self.output(Output::Share(slice));
            }
        }
        let patience = SENT_WITHIN + Duration::from_millis((range.len() / SLOWEST_BYTES_PER_MS) as u64);
        self.state = State::Sending { keep_alive: request.keep_alive, until: now.mono + patience };
    }

    fn refuse(&mut self, request: &Request, status: u16, why: &str) {
        self.say(status, why, request.keep_alive, request.method == Method::Head);
    }

    fn say(&mut self, status: u16, text: &str, keep_alive: bool, head_only: bool) {
        self.output(Output::Send(response::sentence(status, text, keep_alive, head_only)));
    }

    /// Behind an answer: the next request, or the end.
    fn go_on(&mut self, keep_alive: bool) -> Result<(), Reason> {
        self.state = State::Request;
        if !keep_alive {
            self.state = State::Over;
            self.output(Output::Close(Reason::Ended));
        }
        Ok(())
    }

    fn deadline_is_due(&mut self, now: Now) -> Result<(), Reason> {
        match std::mem::replace(&mut self.state, State::Request) {
            State::Parked { request, key, file, again, until, place } if now.mono >= again => {
                self.serve_until(request, key, file, now, until, Some(place))?;
                self.pump(now)
            }
            State::Sending { until, .. } if now.mono >= until => Err(Reason::CloseTimeout),
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    /// What a viewer says while media flows.
    fn heard_while_live(&mut self, format: Format) -> Result<(), Reason> {
        if format != Format::WebSocketFlv {
            // Requests that are to be answered behind it; one who goes on and on with that is no viewer.
            return match self.input.len() > INPUT_BYTES_MAX {
                true => Err(Reason::Limit(Limit::HandshakeBytes)),
                false => Ok(()),
            };
        }
        while let Some(said) = websocket::take(&mut self.input)? {
            match said {
                Said::Close => {
                    self.output(Output::Send(websocket::control(websocket::CLOSE, &[3, 232]).into()));
                    self.output(Output::Close(Reason::PeerClosed));
                    self.state = State::Over;
                    return Ok(());
                }
                Said::Ping(payload) => {
                    self.output(Output::Send(websocket::control(websocket::PONG, &payload).into()));
                }
                Said::Nothing => {}
            }
        }
        Ok(())
    }

    fn ended(&mut self, handle: StreamHandle, reason: Reason, now: Now) -> Result<(), Reason> {
        if let Some((key, _)) = self.viewing.take_if(|(_, viewing)| *viewing == handle) {
            // It may have what is left of it, if it was not sent away.
            self.viewed = matches!(reason, Reason::Ended | Reason::PeerClosed | Reason::Reset).then_some(key);
            return self.pump(now);
        }
        if let State::Live { format, keep_alive } = self.state {
            let in_order = matches!(reason, Reason::Ended | Reason::PeerClosed | Reason::Reset | Reason::Shutdown);
            if in_order || format == Format::WebSocketFlv {
                self.output(Output::Send(formats::end(format).into()));
            }
            if in_order && keep_alive {
                self.state = State::Request;
                return self.pump(now);
            }
            // Without an end its viewer knows that something is missing.
            self.output(Output::Close(reason));
            self.state = State::Over;
        }
        Ok(())
    }
}

impl Session for HttpSession {
    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reason> {
        match input {
            Input::Bytes(bytes) => {
                if !matches!(self.state, State::Over) {
                    self.input.extend_from_slice(&bytes);
                }
                match self.state {
                    State::Live { format, .. } => self.heard_while_live(format),
                    _ if self.input.len() > INPUT_BYTES_MAX => {
                        self.say(431, "so many requests at once are not answered", false, false);
                        Err(Reason::Limit(Limit::HandshakeBytes))
                    }
                    _ => self.pump(now),
                }
            }
            Input::Playing(handle, result) => self.playing(handle, result, now),
            Input::Ended(handle, reason) => self.ended(handle, reason, now),
            Input::Sent => {
                if let State::Sending { keep_alive, .. } = self.state {
                    self.go_on(keep_alive)?;
                }
                self.pump(now)
            }
            Input::Deadline => self.deadline_is_due(now),
            Input::Closing(reason) => {
                if matches!(self.state, State::Request) && self.at == 0 {
                    self.say(503, &reason.to_string(), false, false);
                }
                Ok(())
            }
            Input::Published(..) | Input::Unpublished(..) | Input::KeyframeWanted(_) => Ok(()),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Instant, Reason)> {
        match &self.state {
            State::Parked { again, .. } => Some((*again, Reason::Idle)),
            State::Sending { until, .. } => Some((*until, Reason::CloseTimeout)),
            _ => None,
        }
    }

    fn held_bytes(&self) -> usize {
        self.input.capacity()
    }

    fn can_ask_for_keyframes(&self) -> bool {
        false
    }
}

/// Which stream a path names, and what of it.
fn target(request: &Request) -> Option<(StreamKey, Target)> {
    if let Some(path) = request.path.strip_prefix("/hls/") {
        let (key, file) = path.rsplit_once('/')?;
        let key = StreamKey::parse(key).ok()?;
        return Some((key.clone(), Target::File { key, file: file.to_owned() }));
    }
    let path = request.path.strip_prefix('/')?;
    let (name, format) = match path.rsplit_once('.')? {
        (name, "flv") if request.websocket.as_deref().is_some_and(websocket::is_key) => (name, Format::WebSocketFlv),
        (name, "flv") => (name, Format::Flv),
        (name, "ts") => (name, Format::Ts),
        _ => return None,
    };
    Some((StreamKey::parse(name).ok()?, Target::Live(format)))
}

/// It has something in its query that a cookie is worth while for.
fn shows_something(request: &Request) -> bool {
    let shown = wishes::credentials(&request.query);
    shown.token.is_some() || shown.user.is_some()
}

/// All but letters and digits.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            _ => {
                let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble & 15)]);
                out.extend(['%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
    out
}

/// Requests that a client has sent ahead, and the head of one.
const INPUT_BYTES_MAX: usize = 4 * HTTP_HEAD_BYTES_MAX;
/// Until a file that is asked for before it is there is looked for again.
const ASK_AGAIN: Duration = Duration::from_millis(30);
/// For so long it is looked for at most: three parts' or segments' time of any usual stream (RFC 8216bis, 6.2.5.2).
const PARKED_MAX: Duration = Duration::from_secs(18);
/// An answer is to be with the socket within this, and a time for its length: 16 kB/s.
const SENT_WITHIN: Duration = Duration::from_secs(30);
const SLOWEST_BYTES_PER_MS: usize = 16;
