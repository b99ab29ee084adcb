//! Non-blocking TCP on one mio `Poll`: listeners, readiness, and the one place that sends.
//!
//! Every send is a `sendmsg` with MSG_NOSIGNAL: a plain `writev` to a dead peer would kill a C++ host by SIGPIPE.
//! No unsafe code on that way: socket2 wraps the call. What is unsafe in `net` is in [`heap`].

pub mod heap;
mod signal;

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

pub use signal::{Signal, Signalled, signal};

use crate::limits::POLL_EVENTS;
use crate::ring::Wake;

/// The sockets of one shard.
#[derive(Debug)]
pub struct Network {
    poll: Poll,
    events: Events,
    listeners: Vec<TcpListener>,
    /// Given up at EMFILE, so that a connection can be accepted and refused instead of stalling the listener.
    reserve: Option<File>,
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Whose.
    pub source: Source,
    /// There may be bytes, an end or an error to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer ended its side, or the connection failed: reading to the end tells which.
    pub over: bool,
}

/// Whose readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The listener with this index.
    Listener(usize),
    /// The connection in this slot.
    Connection(usize),
}

/// What an accept gave.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A connection.
    Connection(S, SocketAddr),
    /// The process is out of file descriptors: one connection was accepted and closed at once.
    Refused,
    /// Out of file descriptors, and nothing could be done: look again later.
    Exhausted,
    /// Nobody is waiting.
    Empty,
    /// That one connection failed before it was accepted; the next may be fine.
    Failed(io::ErrorKind),
}

impl Network {
    /// An empty network.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(POLL_EVENTS),
            listeners: Vec::new(),
            reserve: File::open("/dev/null").ok(),
        })
    }

    /// What wakes a thread that waits in [`Network::wait`].
    ///
    /// # Errors
    /// What the operating system says.
    pub fn waker(&self) -> io::Result<PollWaker> {
        Waker::new(self.poll.registry(), WAKER).map(PollWaker)
    }

    /// Adds a listener; its index is the order of adding.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn listen(&mut self, listener: std::net::TcpListener) -> io::Result<()> {
        let mut listener = TcpListener::from_std(listener);
        let token = Token(LISTENERS + self.listeners.len());
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.listeners.push(listener);
        Ok(())
    }

    /// Closes all listeners: who knocks is refused by the system.
    pub fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    /// Waits for readiness, at most `timeout`, for ever if it is `None`.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        // An interrupted wait is an empty one: the caller's loop comes again.
        if self.poll.poll(&mut self.events, timeout).is_err() {
            return;
        }
        for event in &self.events {
            let source = match event.token() {
                WAKER => continue,
                Token(token) if token >= LISTENERS => Source::Listener(token - LISTENERS),
                Token(slot) => Source::Connection(slot),
            };
            // Ends and errors are found by reading and writing.
            let over = event.is_error() || event.is_read_closed();
            ready.push(Ready {
                source,
                readable: event.is_readable() || over,
                writable: event.is_writable() || event.is_error() || event.is_write_closed(),
                over,
            });
        }
    }

    /// Accepts one connection and registers it in no slot yet.
    pub fn accept(&mut self, listener: usize) -> Accepted<TcpStream> {
        let Some(listener) = self.listeners.get(listener) else { return Accepted::Empty };
        let turn = ACCEPTING.lock();
        match listener.accept() {
            Ok((stream, peer)) => {
                drop(turn);
                if self.reserve.is_none() && !self.renew_reserve() {
                    // Its descriptor is what the reserve needs.
                    drop(stream);
                    self.renew_reserve();
                    return Accepted::Refused;
                }
                let socket = SockRef::from(&stream);
                // Frames must leave at once; a vanished player must be found out even if nothing is sent.
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
                Accepted::Connection(stream, peer)
            }
            Err(error) => match error.raw_os_error() {
                _ if error.kind() == io::ErrorKind::WouldBlock => Accepted::Empty,
                Some(libc::EMFILE | libc::ENFILE) => self.refuse_one(),
                // The system has no memory for another one: whoever asks again at once asks without end.
                Some(libc::ENOBUFS | libc::ENOMEM) => Accepted::Exhausted,
                _ => Accepted::Failed(error.kind()),
            },
        }
    }

    /// Reports the readiness of a connection under this slot, for reading and writing, once and for all.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn register(&mut self, stream: &mut TcpStream, slot: usize) -> io::Result<()> {
        self.poll.registry().register(stream, Token(slot), Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads.
    ///
    /// # Errors
    /// `WouldBlock`, or why the connection is over.
    pub fn recv(&mut self, stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match stream.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Sends slices in one system call, without ever raising SIGPIPE.
    ///
    /// # Errors
    /// `WouldBlock`, or why the connection is over.
    pub fn send(&mut self, stream: &mut TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match SockRef::from(&*stream).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Takes no more once so many bytes wait to be sent for the first time (`TCP_NOTSENT_LOWAT`, tcp(7)): what was
    /// taken cannot be taken back, however old it becomes. What is on its way or read by the peer's system does not
    /// count.
    pub fn bound_unsent(&mut self, stream: &mut TcpStream, bytes: u32) {
        // Only Linux and its kin have it; without it the send buffer is the bound.
        let _ = SockRef::from(&*stream).set_tcp_notsent_lowat(bytes);
    }

    /// Ends the sending side: the peer reads what was sent, then an end.
    pub fn finish(&mut self, stream: &mut TcpStream) {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }

    /// Accepts and closes one connection with the reserved descriptor; nobody else accepts meanwhile.
    fn refuse_one(&mut self) -> Accepted<TcpStream> {
        if self.reserve.take().is_none() {
            self.renew_reserve();
            return Accepted::Exhausted;
        }
        let refused = self.listeners.iter().any(|listener| listener.accept().is_ok());
        self.renew_reserve();
        if refused { Accepted::Refused } else { Accepted::Exhausted }
    }

    fn renew_reserve(&mut self) -> bool {
        self.reserve = File::open("/dev/null").ok();
        self.reserve.is_some()
    }
}

/// Wakes a [`Network::wait`].
#[derive(Debug)]
pub struct PollWaker(Waker);

impl Wake for PollWaker {
    fn wake(&self) {
        // Fails only if the eventfd is full, which means that a wake is on its way.
        let _ = self.0.wake();
    }
}

/// Binds a listening socket; several may share one address (SO_REUSEPORT), and the kernel spreads connections.
///
/// # Errors
/// What the operating system says, for example that the port is in use.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners, as written.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Held for one accept, and while a connection is refused with the reserved descriptor: between its closing and its
/// opening another shard would take it for a connection of its own, and this one could refuse nobody any more.
static ACCEPTING: Mutex<()> = Mutex::new(());

const WAKER: Token = Token(usize::MAX);
/// Tokens from here on are listeners; below are connections' slots.
const LISTENERS: usize = usize::MAX / 2;
/// Connections that the kernel holds for us between two turns.
const BACKLOG: i32 = 4096;
/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
