//! A descriptor that becomes readable: how a host waits for shardcast in an event loop of its own.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use socket2::SockRef;

/// Makes its [`Signalled`] readable, from any thread.
#[derive(Debug)]
pub struct Signal(UnixStream);

/// Readable once it was signalled, until it is cleared.
#[derive(Debug)]
pub struct Signalled(UnixStream);

/// Both ends.
///
/// # Errors
/// What the operating system says.
pub fn signal() -> io::Result<(Signal, Signalled)> {
    let (a, b) = UnixStream::pair()?;
    a.set_nonblocking(true)?;
    b.set_nonblocking(true)?;
    Ok((Signal(a), Signalled(b)))
}

impl Signal {
    /// Makes the other end readable.
    pub fn raise(&self) {
        // A full buffer means that it is readable already; a closed one that nobody looks any more.
        let _ = SockRef::from(&self.0).send_with_flags(&[1], libc::MSG_NOSIGNAL);
    }
}

impl Signalled {
    /// Makes it not readable.
    pub fn clear(&mut self) {
        let mut scratch = [0; 64];
        while matches!(self.0.read(&mut scratch), Ok(len) if len > 0) {}
    }
}

impl AsFd for Signalled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
