//! The control socket: how `shardcast top`, and any other program of the same user, asks a server that runs.
//!
//! A Unix stream socket, mode 0600. One JSON object a line, an answer for each, in order:
//!
//! ```text
//! {"v":1,"get":"stats"}                        {"v":1,"stats":{…}}, see `model.rs`
//! {"v":1,"kick":{"stream":"live/demo"}}        {"v":1,"kicked":true}; false if nobody published it
//! {"v":1,"switch":{"stream":"live/demo"}}      {"v":1,"switched":"17"}: the connection of the backup that leads from
//! its next keyframe on; `"to":"17"` beside "stream" asks for that one anything else
//! {"v":1,"error":"a sentence"}
//! ```
//!
//! `v` is the version of the protocol: fields are added without changing it. Rates and times are those since the same
//! connection asked before; in its first answer, rates are those since the server started.
//!
//! Only the user of the server and root are answered. One ordinary thread serves all of them; it asks the shards by
//! messages, as every host does, and no shard ever waits for it. Whoever is silent or slow for too long, or says too
//! much in one line, is closed.

pub(super) mod model;
pub(super) mod place;
mod window;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use serde::Deserialize;
use shardcast::Router;
use shardcast::audit::follow::{FollowerState, FollowerStats, FollowersWatch};
use shardcast::clock::{Clock, Instant};
use shardcast::id::{ConnectionId, StreamKey};
use shardcast::reason::Reason;

use model::{Reply, VERSION};
use place::Place;
use window::Window;

/// The thread that answers; the socket is gone when it has stopped.
pub(super) struct Control {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: JoinHandle<()>,
    place: Place,
}

impl Control {
    /// Binds the socket and answers from now on.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub(super) fn start(path: &Path, router: Arc<Router>, followers: FollowersWatch) -> Result<Self, String> {
        let (listener, place) = Place::bind(path)?;
        let failed = |error: io::Error| format!("the control socket {} does not work: {error}", path.display());
        let poll = Poll::new().map_err(failed)?;
        let mut listener = UnixListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Clock::start();
        let mut desk = Desk {
            poll,
            listener,
            clients: BTreeMap::new(),
            next: FIRST_CLIENT,
            router,
            followers,
            clock,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("shardcast-control".into()).spawn(move || desk.serve());
        let thread = thread.map_err(failed)?;
        Ok(Self { stop, waker, thread, place })
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Ends the thread and removes the socket.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.waker.wake();
        let _ = self.thread.join();
    }
}

/// What the thread owns.
struct Desk {
    poll: Poll,
    listener: UnixListener,
    clients: BTreeMap<usize, Client>,
    next: usize,
    router: Arc<Router>,
    /// Of the audit trail.
    followers: FollowersWatch,
    clock: Clock,
    stop: Arc<AtomicBool>,
}

struct Client {
    stream: UnixStream,
    /// What it has said of a line that is not whole.
    heard: Vec<u8>,
    /// What it has not taken yet.
    answer: Vec<u8>,
    window: Window,
    /// When it must have said the rest of its line, or taken its answer, or said anything.
    deadline: Instant,
    /// It has begun with that.
    amid: bool,
    /// It may not be answered again before.
    not_before: Instant,
    /// It may have said something that was not read for that.
    rests: bool,
    /// It is closed when it has its answer.
    last: bool,
}

impl Desk {
    fn serve(&mut self) {
        let mut events = Events::with_capacity(2 + CLIENTS_MAX);
        while !self.stop.load(Ordering::SeqCst) {
            let next = self.clients.values().map(Client::due).min();
            let timeout = next.map(|at| at.since(self.clock.instant()));
            if self.poll.poll(&mut events, timeout).is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
                return;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.welcome(),
                    WAKER => {}
                    Token(number) => self.attend(number),
                }
            }
            let now = self.clock.instant();
            self.clients.retain(|_, client| client.deadline > now);
            let waiting = self.clients.iter().filter(|(_, client)| client.rests && client.not_before <= now);
            for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
                self.attend(number);
            }
        }
    }

    /// Accepts until nobody waits: readiness is told once.
    fn welcome(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let refusal = if !place::may_ask(&stream) {
                Some("only the user of this server and root may ask it")
            } else if self.clients.len() >= CLIENTS_MAX {
                Some("too many programs ask this server already: close one")
            } else {
                None
            };
            if let Some(sentence) = refusal {
                // It fits the buffer of a new socket, or is lost.
                let _ = stream.write_all(&Reply::error(sentence).line());
                continue;
            }
            let number = self.next;
            self.next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(number), interest).is_ok() {
                let client = Client {
                    stream,
                    heard: Vec::new(),
                    answer: Vec::new(),
                    window: Window::new(),
                    deadline: self.clock.instant() + SILENT_AT_MOST,
                    amid: false,
                    not_before: Instant::ZERO,
                    rests: false,
                    last: false,
                };
                self.clients.insert(number, client);
            }
        }
    }

    /// Reads, answers and writes as far as it goes; a client that is over is let go.
    fn attend(&mut self, number: usize) {
        let Some(mut client) = self.clients.remove(&number) else { return };
        client.rests = false;
        loop {
            match client.send() {
                // What it asks next is read when it has this.
                Ok(false) => break,
                Ok(true) if client.last => return,
                Ok(true) => {}
                Err(_) => return,
            }
            let now = self.clock.instant();
            if now < client.not_before {
                client.rests = true;
                break;
            }
            match client.next_line() {
                Ok(Some(line)) => {
                    client.answer = self.answer(&line, &mut client).line();
                    (client.not_before, client.amid) = (now + ANSWERS_APART, false);
                }
                Ok(None) => break,
                Err(Heard::TooMuch) => {
                    client.answer = Reply::error(&format!("a line may have {LINE_BYTES_MAX} bytes at most")).line();
                    client.last = true;
                }
                Err(Heard::Nothing) => return,
            }
        }
        client.set_deadline(self.clock.instant());
        self.clients.insert(number, client);
    }

    fn answer(&mut self, line: &[u8], client: &mut Client) -> Reply {
        let request: Request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                return Reply::error(&format!(
                    "this is no request ({error}): ask for example {{\"v\":1,\"get\":\"stats\"}}"
                ));
            }
        };
        match request {
            Request { v, .. } if v != VERSION => {
                Reply::error(&format!("this server speaks version {VERSION} of the protocol, not {v}"))
            }
            Request { get: Some(what), kick: None, switch: None, .. } if what == "stats" => self.stats(client),
            Request { get: Some(what), kick: None, switch: None, .. } => {
                Reply::error(&format!("there is no {what:?} to get; there is \"stats\""))
            }
            Request { get: None, kick: Some(kick), switch: None, .. } => match stream_key(&kick.stream) {
                Ok(key) => Reply { kicked: Some(self.router.kick_publisher(&key)), ..Reply::empty() },
                Err(sentence) => Reply::error(&sentence),
            },
            Request { get: None, kick: None, switch: Some(switch), .. } => match self.switch(&switch) {
                Ok(to) => Reply { switched: Some(to.to_string()), ..Reply::empty() },
                Err(sentence) => Reply::error(&sentence),
            },
            Request { .. } => Reply::error("a request has one of \"get\", \"kick\" and \"switch\""),
        }
    }

    fn switch(&self, switch: &Switch) -> Result<ConnectionId, String> {
        let stream = &switch.stream;
        let to = switch.to.as_ref().map(|to| to.parse().map(ConnectionId));
        let to = to.transpose().map_err(|_| "\"to\" is the number of a connection".to_owned())?;
        self.router.switch_publisher(&stream_key(stream)?, to).map_err(|reason| match reason {
            Reason::NotFound => format!("nobody like that stands by for {stream}"),
            Reason::Stalled => format!("who stands by for {stream} has sent nothing that it could go on with"),
            other => format!("{stream} goes on as it was: {other}"),
        })
    }

    /// What is taken from the shards is counted for everybody who asks, so that nobody takes it away from another.
    fn stats(&mut self, asking: &mut Client) -> Reply {
        let (shards, streams) = (self.router.stats(), self.router.survey());
        for window in self.clients.values_mut().map(|client| &mut client.window).chain([&mut asking.window]) {
            window.add(&shards, &streams);
        }
        let mut stats = asking.window.tell(&self.router, &shards, &streams, self.clock.instant());
        stats.audit.followers = self.followers.stats().into_iter().map(follower).collect();
        Reply { stats: Some(stats), ..Reply::empty() }
    }
}

fn follower(stats: FollowerStats) -> model::Follower {
    let FollowerStats { name, delivered, lag, refused, state, .. } = stats;
    let halted = matches!(state, FollowerState::Halted(_));
    let error = match state {
        FollowerState::Failing(why) | FollowerState::Halted(why) => Some(why),
        FollowerState::Following | FollowerState::Stopped => None,
    };
    model::Follower { name, delivered, lag, refused, error, halted }
}

fn stream_key(name: &str) -> Result<StreamKey, String> {
    StreamKey::parse(name).map_err(|error| format!("{name:?} is no name of a stream: {error}"))
}

/// Why there is no line.
enum Heard {
    /// It ended, or failed.
    Nothing,
    TooMuch,
}

impl Client {
    /// When it is looked at again even if it does nothing.
    fn due(&self) -> Instant {
        if self.rests { self.deadline.min(self.not_before) } else { self.deadline }
    }

    fn set_deadline(&mut self, now: Instant) {
        if self.heard.is_empty() && self.answer.is_empty() {
            self.amid = false;
            self.deadline = now + SILENT_AT_MOST;
        } else if !std::mem::replace(&mut self.amid, true) {
            // However little it says or takes at a time.
            self.deadline = now + SLOW_AT_MOST;
        }
    }

    /// The next whole line, if there is one.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Heard> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.heard, rest)));
            }
            if self.heard.len() > LINE_BYTES_MAX {
                return Err(Heard::TooMuch);
            }
            let mut bytes = [0; 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Heard::Nothing),
                Ok(len) => self.heard.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Heard::Nothing),
            }
        }
    }

    /// Writes what it has not taken yet; whether that is all.
    fn send(&mut self) -> io::Result<bool> {
        while !self.answer.is_empty() {
            match self.stream.write(&self.answer) {
                Ok(sent) => drop(self.answer.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.answer = Vec::new();
        Ok(true)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    v: u32,
    get: Option<String>,
    kick: Option<Kick>,
    switch: Option<Switch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    stream: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    stream: String,
    /// A connection, as in the statistics.
    to: Option<String>,
}

/// Programs that may ask at the same time.
const CLIENTS_MAX: usize = 8;
/// Bytes of a request.
const LINE_BYTES_MAX: usize = 4096;
/// How long a request may take to be said, and an answer to be taken.
const SLOW_AT_MOST: Duration = Duration::from_secs(5);
/// From one answer of a client to its next: nobody keeps the shards busy with questions.
const ANSWERS_APART: Duration = Duration::from_millis(50);
/// How long a client may be silent.
const SILENT_AT_MOST: Duration = Duration::from_secs(120);

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
