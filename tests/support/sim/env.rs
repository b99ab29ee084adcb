//! The world of a simulated shard: virtual clocks, the network in memory, chance from the seed.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use shardcast::clock::{Instant, Now, Wall};
use shardcast::net::{Accepted, Ready};
use shardcast::shard::Env;

use super::net::{Card, SimSocket};
use super::rng::Rng;

/// The clocks of the whole simulation, in nanoseconds.
#[derive(Clone, Default)]
pub struct Clocks {
    pub mono: Rc<Cell<u64>>,
    pub wall: Rc<Cell<u64>>,
}

impl Clocks {
    pub fn now(&self) -> Now {
        Now { mono: Instant(self.mono.get()), wall: Wall(self.wall.get()) }
    }

    pub fn advance(&self, ns: u64) {
        self.mono.set(self.mono.get() + ns);
        self.wall.set(self.wall.get() + ns);
    }
}

pub struct SimEnv {
    pub card: Card,
    pub clocks: Clocks,
    pub rng: Rng,
}

impl Env for SimEnv {
    type Socket = SimSocket;

    fn now(&mut self) -> Now {
        self.clocks.now()
    }

    fn instant(&mut self) -> Instant {
        self.clocks.now().mono
    }

    fn wait(&mut self, _timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        self.card.wait(ready);
    }

    fn accept(&mut self, listener: usize) -> Accepted<SimSocket> {
        self.card.accept(listener)
    }

    fn register(&mut self, socket: &mut SimSocket, slot: usize) -> io::Result<()> {
        self.card.register(socket, slot)
    }

    fn recv(&mut self, socket: &mut SimSocket, into: &mut [u8]) -> io::Result<usize> {
        self.card.recv(socket, into)
    }

    fn send(&mut self, socket: &mut SimSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.card.send(socket, slices)
    }

    fn bound_unsent(&mut self, socket: &mut SimSocket, bytes: u32) {
        self.card.bound_unsent(socket, usize::try_from(bytes).expect("a few kilobytes"));
    }

    fn finish(&mut self, socket: &mut SimSocket) {
        self.card.finish(socket);
    }

    fn close_listeners(&mut self) {
        self.card.close_listeners();
    }

    fn random(&mut self) -> u64 {
        self.rng.next()
    }
}
