//! The one seam between a shard and the world: clock, sockets, chance.
//!
//! On its core a shard runs on [`SystemEnv`]; in a test N shards run on one thread over a simulated network with
//! virtual time.

use std::hash::{BuildHasher, Hasher};
use std::io::{self, IoSlice};
use std::time::Duration;

use mio::net::TcpStream;

use crate::clock::{Clock, Instant, Now, Wall};
use crate::net::{Accepted, Network, Ready};

/// What a shard sees of the world. Readiness is edge-triggered: after `WouldBlock` the next change is reported,
/// and nothing before it.
pub trait Env {
    /// A connection.
    type Socket;

    /// The clocks: read once per turn.
    fn now(&mut self) -> Now;

    /// The monotonic clock alone, for a spinning wait.
    fn instant(&mut self) -> Instant;

    /// Waits for readiness or a wake, at most `timeout`, for ever if `None`, and appends what is ready.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>);

    /// Accepts one connection of a listener.
    fn accept(&mut self, listener: usize) -> Accepted<Self::Socket>;

    /// Reports a connection's readiness under this slot from now on.
    ///
    /// # Errors
    /// Why it can't be watched.
    fn register(&mut self, socket: &mut Self::Socket, slot: usize) -> io::Result<()>;

    /// Reads into `into`; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock`, or why the connection is over.
    fn recv(&mut self, socket: &mut Self::Socket, into: &mut [u8]) -> io::Result<usize>;

    /// Sends the slices in one call and tells how many bytes were taken.
    ///
    /// # Errors
    /// `WouldBlock`, or why the connection is over.
    fn send(&mut self, socket: &mut Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Lets the socket take no more once so many bytes wait in it to be sent.
    fn bound_unsent(&mut self, socket: &mut Self::Socket, bytes: u32) {
        let _ = (socket, bytes);
    }

    /// Ends the sending side of a connection.
    fn finish(&mut self, socket: &mut Self::Socket);

    /// Closes all listeners.
    fn close_listeners(&mut self);

    /// Random bits for nonces.
    fn random(&mut self) -> u64;
}

/// The real world.
#[derive(Debug)]
pub struct SystemEnv {
    network: Network,
    clock: Clock,
    random: u64,
    /// How far the wall clock is ahead of the monotonic one, and when that is looked at again.
    wall_ahead: u64,
    wall_due: Instant,
}

impl SystemEnv {
    /// The world through this network and clock.
    #[must_use]
    pub fn new(network: Network, clock: Clock) -> Self {
        // std seeds its hash keys from the operating system.
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self { network, clock, random: seed, wall_ahead: 0, wall_due: Instant::ZERO }
    }
}

impl Env for SystemEnv {
    type Socket = TcpStream;

    fn now(&mut self) -> Now {
        let mono = self.clock.instant();
        if mono >= self.wall_due {
            let now = self.clock.now();
            self.wall_ahead = now.wall.0.saturating_sub(now.mono.0);
            self.wall_due = mono + WALL_AGAIN;
        }
        Now { mono, wall: Wall(mono.0 + self.wall_ahead) }
    }

    fn instant(&mut self) -> Instant {
        self.clock.instant()
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        self.network.wait(timeout, ready);
    }

    fn accept(&mut self, listener: usize) -> Accepted<TcpStream> {
        self.network.accept(listener)
    }

    fn register(&mut self, socket: &mut TcpStream, slot: usize) -> io::Result<()> {
        self.network.register(socket, slot)
    }

    fn recv(&mut self, socket: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        self.network.recv(socket, into)
    }

    fn send(&mut self, socket: &mut TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.network.send(socket, slices)
    }

    fn bound_unsent(&mut self, socket: &mut TcpStream, bytes: u32) {
        self.network.bound_unsent(socket, bytes);
    }

    fn finish(&mut self, socket: &mut TcpStream) {
        self.network.finish(socket);
    }

    fn close_listeners(&mut self) {
        self.network.close_listeners();
    }

    fn random(&mut self) -> u64 {
        // SplitMix64: enough for handshake padding and nonces that nothing secret hangs on.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How old a look at the wall clock may be: whoever steps it sees it in the records soon enough.
const WALL_AGAIN: Duration = Duration::from_millis(100);
