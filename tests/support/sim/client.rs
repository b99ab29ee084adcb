//! A peer that speaks the test's own protocol: it publishes, plays, or does neither, well or badly.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use shardcast::id::StreamKey;
use shardcast::protocol::Start;
use shardcast::reason::Reason;

use super::book::{BookRef, Source};
use super::encoder::Encoder;
use super::net::{NetRef, peer_address};
use super::proto::{Heard, Note, Say, Tongue, WITHOUT_DATA, way_of};
use super::rng::Rng;
use super::watcher::{Budget, Seen, Watcher};

/// How a peer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All that is there, at once.
    Fast,
    /// So many bytes each millisecond.
    Slow(u64),
    /// All that is there, every so many milliseconds.
    Bursts(u64),
    /// Nothing.
    Stalled,
}

pub struct Client {
    pub conn: usize,
    pub shard: u16,
    net: NetRef,
    book: BookRef,
    pub tongue: Box<dyn Tongue>,
    outbox: BytesMut,
    inbox: BytesMut,
    pub encoder: Option<Encoder>,
    /// The router said yes.
    pub live: bool,
    pub plays: BTreeMap<u32, Watcher>,
    next_handle: u32,
    pub reading: Reading,
    next_read: u64,
    /// Gone, or its connection is.
    pub over: bool,
    /// Since when it neither publishes nor plays, as far as it knows.
    pub idle_since: Option<u64>,
    /// It stays connected when its business is over.
    pub lingers: bool,
    rng: Rng,
}

impl Client {
    pub fn new(net: &NetRef, book: &BookRef, tongue: Box<dyn Tongue>, conn: usize, shard: u16, rng: Rng) -> Self {
        Self {
            conn,
            shard,
            net: net.clone(),
            book: book.clone(),
            tongue,
            outbox: BytesMut::new(),
            inbox: BytesMut::new(),
            encoder: None,
            live: false,
            plays: BTreeMap::new(),
            next_handle: 0,
            reading: Reading::Fast,
            next_read: 0,
            over: false,
            idle_since: None,
            lingers: false,
            rng,
        }
    }

    pub fn hello(&mut self) {
        self.say(Say::Hello, 0, &[]);
    }

    pub fn publish(&mut self, encoder: Encoder) {
        self.book.lock().expect(Source::Peer(peer_address(self.conn)), &encoder.key, encoder.id);
        self.say(Say::Publish, 0, encoder.key.as_str().as_bytes());
        self.encoder = Some(encoder);
    }

    /// How old what it gets may be, where the run promises anything.
    fn budget(&self, start: Start, merge: u16, max_age_ms: u32) -> Option<Budget> {
        let book = self.book.lock();
        let usual = book.budget?;
        let ms = |ms: u64| ms * 1_000_000;
        let company = u64::from(if merge > 2 { merge } else { 0 }).max(COMPANY_MOST_MS);
        let delay = if let Start::Behind(delay) = start { delay } else { Duration::ZERO };
        let age = if max_age_ms > 0 { ms(max_age_ms.into()) } else { usual };
        let handed = age + ms(company) + u64::try_from(delay.as_nanos()).expect("short");
        // What its own system holds, the least that a socket takes, and the frame that it is in.
        let beyond = (self.net.borrow().window(self.conn) + UNSENT_LEAST + FRAME_MOST) as u64;
        let by_itself = match self.reading {
            // An eighth of the quarter of a budget that waits in a socket is not worth a system call.
            Reading::Slow(rate) => ms(beyond / rate) + age / 32,
            // The frame that a burst ends in waits for the next one.
            Reading::Bursts(pause) => ms(2 * pause),
            _ => 0,
        };
        let since = book.now + ms(JOINED_WITHIN_MS);
        let settled = since + 2 * age + ms(SETTLED_WITHIN_MS);
        Some(Budget { since, handed, read: handed + by_itself + ms(LATENCY_MOST_MS), settled })
    }

    /// Plays with chosen options.
    pub fn play(&mut self, key: &StreamKey, start: Start, merge: u16, max_age_ms: u32) {
        self.next_handle += 1;
        let handle = self.next_handle;
        let flavour = u8::try_from(self.rng.below(4)).expect("below 4");
        let behind = if let Start::Behind(delay) = start { delay.as_millis() } else { 0 };
        let (way, behind) = (way_of(start), u16::try_from(behind).expect("few seconds"));
        let mut rest = vec![flavour, way];
        rest.extend_from_slice(&behind.to_be_bytes());
        rest.extend_from_slice(&merge.to_be_bytes());
        rest.extend_from_slice(&max_age_ms.to_be_bytes());
        rest.extend_from_slice(key.as_str().as_bytes());
        self.say(Say::Play, handle, &rest);
        let name = format!("player {}.{handle}", self.conn);
        let carries_data = u32::from(flavour) != WITHOUT_DATA;
        let mut watcher =
            Watcher::new(&self.book, name, key, self.shard).unmarked(carries_data).starting(Some(start));
        if self.tongue.is_rtmp() {
            watcher = watcher.over_rtmp();
        } else {
            watcher = watcher.promised(self.budget(start, merge, max_age_ms));
        }
        self.plays.insert(handle, watcher);
    }

    pub fn say(&mut self, what: Say, handle: u32, rest: &[u8]) {
        self.book.lock().trace(|| format!("peer {}: says {what:?} {handle}", self.conn));
        self.tongue.say(&mut self.outbox, what, handle, rest);
    }

    pub fn say_garbage(&mut self) {
        self.outbox.extend_from_slice(&[0xff; 40]);
    }

    /// Ends its publish in order.
    pub fn unpublish(&mut self) {
        self.say(Say::Unpublish, 0, &[]);
        self.encoder = None;
        self.live = false;
    }

    pub fn pause(&mut self, handle: u32, paused: bool) {
        self.say(if paused { Say::Pause } else { Say::Resume }, handle, &[]);
        if let Some(watcher) = self.plays.get_mut(&handle) {
            watcher.paused = paused;
        }
    }

    pub fn close(&mut self) {
        if !self.over {
            // Perhaps in the middle of a message.
            let mut net = self.net.borrow_mut();
            let cut = self.rng.below(self.outbox.len() + 1);
            net.client_write(self.conn, &self.outbox[..cut]);
            net.client_close(self.conn);
        }
        self.finish("closes");
    }

    pub fn reset(&mut self) {
        if !self.over {
            self.net.borrow_mut().client_reset(self.conn);
        }
        self.finish("resets");
    }

    /// Ends its sending side and reads on.
    pub fn half_close(&mut self) {
        self.net.borrow_mut().client_finish(self.conn);
        self.encoder = None;
        self.book.lock().trace(|| format!("peer {}: half-closes", self.conn));
    }

    fn finish(&mut self, how: &str) {
        self.book.lock().trace(|| format!("peer {}: {how}", self.conn));
        self.over = true;
        self.live = false;
        self.encoder = None;
        self.plays.clear();
        self.outbox.clear();
    }

    /// When it wants its turn.
    pub fn due(&self, now: u64) -> u64 {
        if self.over {
            return u64::MAX;
        }
        let net = self.net.borrow();
        let idle = self.encoder.is_none() && self.plays.is_empty() && self.outbox.is_empty();
        // It notes when it became idle.
        let mut due = if idle && self.idle_since.is_none() { now } else { u64::MAX };
        if !self.outbox.is_empty() && net.client_has_room(self.conn) {
            due = now;
        }
        if let Some(encoder) = self.encoder.as_ref().filter(|_| self.live && self.outbox.len() < OUTBOX_MOST) {
            due = due.min(encoder.due());
        }
        if net.client_has_news(self.conn) {
            due = due.min(match self.reading {
                Reading::Fast => now,
                Reading::Slow(_) | Reading::Bursts(_) => self.next_read,
                // A reset is noticed all the same.
                Reading::Stalled if net.client_at_end(self.conn) => now,
                Reading::Stalled => u64::MAX,
            });
        }
        due
    }

    pub fn step(&mut self, now: u64) {
        if self.encoder.is_some() || !self.plays.is_empty() || !self.outbox.is_empty() {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
        if let Some(encoder) = self.encoder.as_mut().filter(|_| self.live) {
            while self.outbox.len() < OUTBOX_MOST
                && let Some(frame) = encoder.next(now)
            {
                self.tongue.frame(&mut self.outbox, &frame);
            }
        }
        if !self.outbox.is_empty() {
            let most = if self.rng.one_in(3) { 1 + self.rng.below(self.outbox.len()) } else { self.outbox.len() };
            let written = self.net.borrow_mut().client_write(self.conn, &self.outbox[..most]);
            self.outbox.advance(written);
        }
        self.read(now);
        if !self.over && self.net.borrow().client_at_end(self.conn) {
            self.net.borrow_mut().client_close(self.conn);
            self.finish("is at the end");
        }
    }

    fn read(&mut self, now: u64) {
        let most = match self.reading {
            Reading::Fast => usize::MAX,
            Reading::Slow(rate) if now >= self.next_read => {
                self.next_read = now + 1_000_000;
                usize::try_from(rate).expect("small")
            }
            Reading::Bursts(pause) if now >= self.next_read => {
                self.next_read = now + pause * 1_000_000;
                usize::MAX
            }
            _ => 0,
        };
        if most > 0 {
            self.net.borrow_mut().client_read(self.conn, most, &mut self.inbox);
        }
        loop {
            let mut net = self.net.borrow_mut();
            let first_byte = net.client_has_taken(self.conn) - self.inbox.len() as u64;
            let handed = net.when_taken(self.conn, first_byte);
            drop(net);
            match self.tongue.hear(&mut self.inbox, &mut self.outbox) {
                Ok(Some(heard)) => self.take(heard, handed),
                Ok(None) => return,
                Err(what) => {
                    self.book.lock().trouble(format!("peer {}: {what}", self.conn));
                    return self.reset();
                }
            }
        }
    }

    fn take(&mut self, heard: Heard, handed: u64) {
        match heard {
            Heard::Frame(handle, frame) => match self.plays.get_mut(&handle) {
                Some(watcher) => watcher.frame(Seen { handed, ..Seen::frame(&frame) }),
                // Under way when it stopped.
                None if handle <= self.next_handle => {}
                None => self.book.lock().trouble(format!("peer {}: media on handle {handle}", self.conn)),
            },
            Heard::Note(note, handle) => {
                self.book.lock().trace(|| format!("peer {}: is told {note} of {handle}", self.conn));
                match note {
                    n if n == Note::Published as u8 => self.live = true,
                    n if n == Note::PublishRefused as u8 || n == Note::Unpublished as u8 => {
                        self.encoder = None;
                        self.live = false;
                        self.leave_if_idle();
                    }
                    n if n == Note::PlayRefused as u8 || n == Note::Ended as u8 => {
                        if let Some(mut watcher) = self.plays.remove(&handle) {
                            watcher.end(Reason::Ended);
                        }
                        self.leave_if_idle();
                    }
                    n if n == Note::KeyWanted as u8 => {
                        if let Some(encoder) = &mut self.encoder {
                            encoder.want_key();
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn leave_if_idle(&mut self) {
        if self.plays.is_empty() && self.encoder.is_none() && !self.lingers && !self.over {
            self.close();
        }
    }
}

/// Frames wait so long for each other unless a viewer says otherwise.
const COMPANY_MOST_MS: u64 = 45;
/// A connection that plays at once does so within this.
const JOINED_WITHIN_MS: u64 = 200;
/// The pace of a stream, and of who reads slowly, is known then.
const SETTLED_WITHIN_MS: u64 = 4_000;
/// The network's, and what steps take.
const LATENCY_MOST_MS: u64 = 50;
/// [`UNSENT_BYTES_MIN`](shardcast::limits::UNSENT_BYTES_MIN).
const UNSENT_LEAST: usize = 4_096;
/// A keyframe with its head.
const FRAME_MOST: usize = 3_100;
/// An encoder waits when so much is unsent.
const OUTBOX_MOST: usize = 256 * 1024;
