//! A network in memory: bounded pipes with latency, and readiness that is reported on edges only.
//!
//! An edge is new bytes, an end, or room after a send that could not take everything. It is reported once; nothing is
//! said again before the next edge. A read gives as much as is there (as a kernel does), but what is there comes in
//! pieces: the rest of a cut read has an edge of its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use shardcast::net::{Accepted, Ready, Source};

use super::rng::Rng;

pub type NetRef = Rc<RefCell<Net>>;

/// What may go wrong, and how often: once in so many, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetFaults {
    pub short_reads: u64,
    pub short_writes: u64,
    pub failed_accepts: u64,
    pub failed_registers: u64,
    /// Every report tells all that is ready, not only what changed: as epoll does.
    pub tells_all: bool,
    /// Room is told when a third of the buffer is free, not at the first byte: as Linux does.
    pub late_room: bool,
    /// Peers' systems hold a quarter of what is under way, however much that is: nobody who reads is slow.
    pub wide: bool,
}

pub struct Net {
    conns: Vec<Conn>,
    live: Vec<usize>,
    /// By shard, then by listener.
    listeners: Vec<Vec<Listener>>,
    rng: Rng,
    pub faults: NetFaults,
    /// Until then the process is out of descriptors.
    pub exhausted_until: u64,
    /// In that time connections are accepted and closed, where a reserved descriptor is left.
    pub refuses: bool,
    /// Looks at listeners since this was last set to zero.
    pub looks: u64,
    now: u64,
}

#[derive(Default)]
struct Listener {
    backlog: VecDeque<usize>,
    edge: bool,
    closed: bool,
}

struct Conn {
    shard: usize,
    up: Pipe,
    down: Pipe,
    latency: u64,
    slot: Option<usize>,
    readable: bool,
    writable: bool,
    over: bool,
    /// A send could not take everything: room is an edge.
    blocked: bool,
    reset: bool,
    accepted: bool,
    server_gone: bool,
    client_gone: bool,
}

/// One direction.
struct Pipe {
    flight: VecDeque<(u64, Vec<u8>)>,
    ready: BytesMut,
    /// Bytes under way and unread; `used <= capacity`.
    used: usize,
    capacity: usize,
    /// So many bytes may wait to be sent while the peer's system has no room for them.
    unsent_max: usize,
    /// Of these bytes so many may be under way, or in the peer's system.
    window_most: usize,
    /// What was put there in all, and taken from it.
    put: u64,
    taken: u64,
    /// Where what was put at once ends, counted from the first byte, and when that was.
    puts: VecDeque<(u64, u64)>,
    fin_at: Option<u64>,
    eof: bool,
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self {
            flight: VecDeque::new(),
            ready: BytesMut::new(),
            used: 0,
            capacity,
            unsent_max: usize::MAX,
            window_most: WINDOW_MOST,
            put: 0,
            taken: 0,
            puts: VecDeque::new(),
            fin_at: None,
            eof: false,
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        // Nothing overtakes.
        let at = self.flight.back().map_or(at, |(last, _)| at.max(*last));
        self.used += bytes.len();
        self.flight.push_back((at, bytes.to_vec()));
    }

    fn end(&mut self, at: u64) {
        let at = self.flight.back().map_or(at, |(last, _)| at.max(*last));
        self.fin_at.get_or_insert(at);
    }

    /// Whether something arrived.
    fn arrive(&mut self, now: u64) -> bool {
        let mut news = false;
        while self.flight.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, bytes)) = self.flight.pop_front() {
                self.ready.extend_from_slice(&bytes);
                news = true;
            }
        }
        if !self.eof && self.flight.is_empty() && self.fin_at.is_some_and(|at| at <= now) {
            self.eof = true;
            news = true;
        }
        news
    }

    fn take(&mut self, into: &mut [u8]) {
        self.ready.copy_to_slice(into);
        self.used -= into.len();
    }

    /// The peer's system holds a part of it; the rest waits in the sender's.
    fn window(&self) -> usize {
        (self.capacity / 4).min(self.window_most)
    }

    fn room(&self) -> usize {
        let free = self.capacity - self.used.min(self.capacity);
        free.min(self.unsent_max.saturating_sub(self.used.saturating_sub(self.window())))
    }

    fn next_arrival(&self) -> Option<u64> {
        self.flight.front().map(|(at, _)| *at).or_else(|| self.fin_at.filter(|_| !self.eof))
    }

    fn has_news(&self) -> bool {
        !self.ready.is_empty() || self.eof
    }
}

impl Net {
    pub fn new(shards: usize, listeners: usize, rng: Rng, faults: NetFaults) -> NetRef {
        let listeners = (0..shards).map(|_| (0..listeners).map(|_| Listener::default()).collect()).collect();
        Rc::new(RefCell::new(Self {
            conns: Vec::new(),
            live: Vec::new(),
            listeners,
            rng,
            faults,
            exhausted_until: 0,
            refuses: false,
            looks: 0,
            now: 0,
        }))
    }

    /// Lets everything arrive that is due.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        let conns = &mut self.conns;
        self.live.retain(|id| {
            let conn = &mut conns[*id];
            if conn.up.arrive(now) {
                conn.readable = true;
                conn.over |= conn.up.eof;
            }
            conn.down.arrive(now);
            !(conn.server_gone && conn.client_gone)
        });
    }

    /// Whether a look at the sockets of this shard would find something.
    pub fn has_events(&self, shard: usize) -> bool {
        self.listeners[shard].iter().any(|listener| listener.edge && !listener.closed)
            || self.live.iter().any(|id| {
                let conn = &self.conns[*id];
                conn.shard == shard && conn.slot.is_some() && (conn.readable || conn.writable || conn.over)
            })
    }

    pub fn next_arrival(&self) -> Option<u64> {
        let arrivals = self.live.iter().flat_map(|id| {
            let conn = &self.conns[*id];
            [conn.up.next_arrival(), conn.down.next_arrival()]
        });
        arrivals.flatten().min()
    }

    // --- the peers' side -------------------------------------------------------------------------------------

    pub fn connect(&mut self, shard: usize, listener: usize, capacity: (usize, usize), latency: u64) -> usize {
        let id = self.conns.len();
        let gone = self.listeners[shard][listener].closed;
        let mut down = Pipe::new(capacity.1);
        down.window_most = if self.faults.wide { usize::MAX } else { WINDOW_MOST };
        down.eof = gone;
        self.conns.push(Conn {
            shard,
            up: Pipe::new(capacity.0),
            down,
            latency,
            slot: None,
            readable: false,
            writable: false,
            over: false,
            blocked: false,
            reset: gone,
            accepted: false,
            server_gone: gone,
            client_gone: false,
        });
        self.live.push(id);
        if !gone {
            let listener = &mut self.listeners[shard][listener];
            listener.backlog.push_back(id);
            listener.edge = true;
        }
        id
    }

    /// Sends as much as fits.
    pub fn client_write(&mut self, id: usize, bytes: &[u8]) -> usize {
        let conn = &mut self.conns[id];
        if conn.server_gone || conn.reset {
            return bytes.len();
        }
        let len = bytes.len().min(conn.up.room());
        if len > 0 {
            conn.up.put(self.now + conn.latency, &bytes[..len]);
        }
        len
    }

    /// Reads at most `most` bytes.
    pub fn client_read(&mut self, id: usize, most: usize, into: &mut BytesMut) -> usize {
        let late_room = self.faults.late_room;
        let conn = &mut self.conns[id];
        let len = conn.down.ready.len().min(most);
        if len > 0 {
            into.extend_from_slice(&conn.down.ready[..len]);
            conn.down.ready.advance(len);
            conn.down.used -= len;
            conn.down.taken += len as u64;
        }
        let most = conn.down.capacity.min(conn.down.unsent_max);
        let enough = if late_room { (most / 3).max(1) } else { 1 };
        if conn.blocked && conn.down.room() >= enough {
            conn.blocked = false;
            conn.writable = true;
        }
        len
    }

    /// When the router's socket took the byte of this number, of those that the peer has read; forgets those before.
    pub fn when_taken(&mut self, id: usize, byte: u64) -> u64 {
        let puts = &mut self.conns[id].down.puts;
        while puts.front().is_some_and(|(end, _)| *end <= byte) {
            puts.pop_front();
        }
        puts.front().map_or(self.now, |(_, at)| *at)
    }

    /// Bytes that the peer has read in all.
    pub fn client_has_taken(&self, id: usize) -> u64 {
        self.conns[id].down.taken
    }

    /// Bytes that the peer's system holds of what it has not read.
    pub fn window(&self, id: usize) -> usize {
        self.conns[id].down.window()
    }

    pub fn client_has_news(&self, id: usize) -> bool {
        self.conns[id].reset || self.conns[id].down.has_news()
    }

    pub fn client_has_room(&self, id: usize) -> bool {
        self.conns[id].server_gone || self.conns[id].up.room() > 0
    }

    /// Whether everything was read and the router ended its side, or reset the connection.
    pub fn client_at_end(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        conn.reset || (conn.down.eof && conn.down.ready.is_empty())
    }

    /// Ends the peer's sending side.
    pub fn client_finish(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        conn.up.end(self.now + conn.latency);
    }

    /// Closes the peer's socket: what is still sent to it resets the connection.
    pub fn client_close(&mut self, id: usize) {
        self.client_finish(id);
        self.conns[id].client_gone = true;
        // What it has not read resets the connection at once.
        if self.conns[id].down.used > 0 {
            self.client_reset(id);
        }
    }

    pub fn client_reset(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        conn.client_gone = true;
        conn.reset = true;
        (conn.readable, conn.writable, conn.over) = (true, true, true);
        conn.up.flight.clear();
        conn.up.ready.clear();
    }

    /// From now on the network is wide enough for anything.
    pub fn widen(&mut self) {
        for conn in &mut self.conns {
            conn.latency = conn.latency.min(1_000_000);
            for pipe in [&mut conn.up, &mut conn.down] {
                pipe.capacity = pipe.capacity.max(1 << 20);
            }
            if std::mem::take(&mut conn.blocked) {
                conn.writable = true;
            }
        }
    }

    // --- the router's side -----------------------------------------------------------------------------------

    fn accept(&mut self, shard: usize, index: usize) -> Accepted<usize> {
        self.looks += 1;
        let failed = self.faults.failed_accepts;
        let exhausted = self.now < self.exhausted_until;
        let listener = &mut self.listeners[shard][index];
        if listener.closed {
            return Accepted::Empty;
        }
        if exhausted {
            // The kernel wants a descriptor before it looks whether anybody waits.
            let Some(id) = self.refuses.then(|| listener.backlog.pop_front()).flatten() else {
                return Accepted::Exhausted;
            };
            self.drop_server(id);
            return Accepted::Refused;
        }
        let Some(id) = listener.backlog.pop_front() else { return Accepted::Empty };
        if failed > 0 && self.rng.one_in(failed) {
            self.drop_server(id);
            return Accepted::Failed(io::ErrorKind::ConnectionAborted);
        }
        self.conns[id].accepted = true;
        Accepted::Connection(id, peer_address(id))
    }

    fn register(&mut self, id: usize, slot: usize) -> io::Result<()> {
        if self.faults.failed_registers > 0 && self.rng.one_in(self.faults.failed_registers) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let conn = &mut self.conns[id];
        conn.slot = Some(slot);
        conn.readable = conn.up.has_news() || conn.reset;
        conn.writable = true;
        conn.over = conn.up.eof || conn.reset;
        Ok(())
    }

    fn recv(&mut self, id: usize, into: &mut [u8]) -> io::Result<usize> {
        let short = self.faults.short_reads;
        let conn = &mut self.conns[id];
        if conn.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut len = conn.up.ready.len().min(into.len());
        if len == 0 {
            return if conn.up.eof { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        if short > 0 && self.rng.one_in(short) {
            let cut = 1 + self.rng.below(len);
            if cut < len {
                // The rest came a moment later: an edge of its own.
                len = cut;
                conn.readable = true;
            }
        }
        conn.up.take(&mut into[..len]);
        Ok(len)
    }

    fn send(&mut self, id: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let conn = &mut self.conns[id];
        if conn.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if conn.client_gone {
            conn.reset = true;
            (conn.readable, conn.over) = (true, true);
            return Ok(total);
        }
        let room = conn.down.room();
        let mut len = total.min(room);
        if self.faults.short_writes > 0 && self.rng.one_in(self.faults.short_writes) {
            len = self.rng.below(len + 1);
        }
        if len < total {
            conn.blocked = true;
            if len < room {
                // Room appeared right behind.
                conn.blocked = false;
                conn.writable = true;
            }
        }
        if len == 0 && total > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = Vec::with_capacity(len);
        for slice in slices {
            let take = slice.len().min(len - bytes.len());
            bytes.extend_from_slice(&slice[..take]);
        }
        conn.down.put(self.now + conn.latency, &bytes);
        conn.down.put += len as u64;
        conn.down.puts.push_back((conn.down.put, self.now));
        Ok(len)
    }

    fn finish(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        conn.down.end(self.now + conn.latency);
    }

    fn drop_server(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        conn.server_gone = true;
        conn.slot = None;
        conn.down.end(self.now + conn.latency);
    }

    fn take_events(&mut self, shard: usize, ready: &mut Vec<Ready>) {
        for (index, listener) in self.listeners[shard].iter_mut().enumerate() {
            if std::mem::take(&mut listener.edge) && !listener.closed {
                ready.push(Ready { source: Source::Listener(index), readable: true, writable: false, over: false });
            }
        }
        for id in &self.live {
            let conn = &mut self.conns[*id];
            let Some(slot) = conn.slot.filter(|_| conn.shard == shard) else { continue };
            if !(conn.readable || conn.writable || conn.over) {
                continue;
            }
            let all = self.faults.tells_all;
            let over = std::mem::take(&mut conn.over) || (all && (conn.up.eof || conn.reset));
            let readable = std::mem::take(&mut conn.readable) || over || (all && conn.up.has_news());
            let writable = std::mem::take(&mut conn.writable) || (all && !conn.blocked && conn.down.room() > 0);
            ready.push(Ready { source: Source::Connection(slot), readable, writable, over });
        }
    }

    fn close_listeners(&mut self, shard: usize) {
        for index in 0..self.listeners[shard].len() {
            self.listeners[shard][index].closed = true;
            while let Some(id) = self.listeners[shard][index].backlog.pop_front() {
                self.drop_server(id);
            }
        }
    }
}

/// What a peer's system holds at most: little, so that nearly all that is late is the router's to answer for.
const WINDOW_MOST: usize = 4_096;

/// The address of a peer: one per connection.
pub fn peer_address(id: usize) -> SocketAddr {
    let port = u16::try_from(id % 60_000).expect("below 60,000") + 1024;
    SocketAddr::from(([10, 0, u8::try_from(id / 60_000).unwrap_or(255), 1], port))
}

/// The router's end of a connection; dropping it closes it.
pub struct SimSocket {
    net: NetRef,
    id: usize,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.net.borrow_mut().drop_server(self.id);
    }
}

/// One shard's view of the network, for its `Env`.
pub struct Card {
    pub net: NetRef,
    pub shard: usize,
}

impl Card {
    pub fn wait(&mut self, ready: &mut Vec<Ready>) {
        self.net.borrow_mut().take_events(self.shard, ready);
    }

    pub fn accept(&mut self, listener: usize) -> Accepted<SimSocket> {
        let accepted = self.net.borrow_mut().accept(self.shard, listener);
        match accepted {
            Accepted::Connection(id, peer) => Accepted::Connection(SimSocket { net: Rc::clone(&self.net), id }, peer),
            Accepted::Refused => Accepted::Refused,
            Accepted::Exhausted => Accepted::Exhausted,
            Accepted::Empty => Accepted::Empty,
            Accepted::Failed(kind) => Accepted::Failed(kind),
        }
    }

    pub fn register(&mut self, socket: &SimSocket, slot: usize) -> io::Result<()> {
        self.net.borrow_mut().register(socket.id, slot)
    }

    pub fn recv(&mut self, socket: &SimSocket, into: &mut [u8]) -> io::Result<usize> {
        self.net.borrow_mut().recv(socket.id, into)
    }

    pub fn send(&mut self, socket: &SimSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.net.borrow_mut().send(socket.id, slices)
    }

    pub fn bound_unsent(&mut self, socket: &SimSocket, bytes: usize) {
        self.net.borrow_mut().conns[socket.id].down.unsent_max = bytes;
    }

    pub fn finish(&mut self, socket: &SimSocket) {
        self.net.borrow_mut().finish(socket.id);
    }

    pub fn close_listeners(&mut self) {
        self.net.borrow_mut().close_listeners(self.shard);
    }
}
