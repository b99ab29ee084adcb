//! A session on its socket: connects, reads, and keeps what could not be written yet.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::chunk::Message;
use super::session::{Purpose, Session};

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    session: Session,
    /// What is to be written; grows while the server does not read.
    pub(crate) out: Vec<u8>,
    connected: bool,
    /// The far end has closed, and what it sent before that may still be read.
    ended: bool,
}

/// What the poll said of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    ended: bool,
}

impl From<&Event> for Ready {
    fn from(event: &Event) -> Self {
        Self { readable: event.is_readable(), writable: event.is_writable(), ended: event.is_read_closed() }
    }
}

impl Link {
    /// Starts to connect; `token` will be readable and writable. The kernel may keep `receive_buffer` bytes that have
    /// not been read, if that is given.
    pub(crate) fn connect(
        registry: &Registry,
        token: Token,
        address: SocketAddr,
        purpose: Purpose,
        receive_buffer: Option<usize>,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        if let Some(bytes) = receive_buffer {
            SockRef::from(&stream).set_recv_buffer_size(bytes)?;
        }
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut out = Vec::new();
        let session = Session::new(purpose, &mut out);
        Ok(Self { stream, session, out, connected: false, ended: false })
    }

    /// Takes in what the poll said, and does what is to be done before anything is read.
    pub(crate) fn on_ready(&mut self, ready: Ready) -> io::Result<()> {
        self.ended |= ready.ended;
        if ready.writable { self.on_writable() } else { Ok(()) }
    }

    /// The socket can be written to, or has failed to connect.
    fn on_writable(&mut self) -> io::Result<()> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.stream.set_nodelay(true)?;
            self.connected = true;
        }
        self.flush()
    }

    /// Reads until the socket is empty; returns how many bytes that were.
    pub(crate) fn on_readable(
        &mut self,
        buffer: &mut [u8],
        checking: bool,
        mut media: impl FnMut(&Message<'_>),
    ) -> io::Result<usize> {
        let mut total = 0;
        loop {
            let read = self.read_once(buffer, checking, &mut media)?;
            total += read;
            // A short read emptied the socket: what comes later is a new edge (epoll(7), question 9). Only the end of the
            // stream is none, if its edge has been seen.
            if read == 0 || (read < buffer.len() && !self.ended) {
                return Ok(total);
            }
        }
    }

    /// Reads at most what the buffer holds; returns how many bytes that were, 0 if there are none.
    pub(crate) fn read_once(
        &mut self,
        buffer: &mut [u8],
        checking: bool,
        media: impl FnMut(&Message<'_>),
    ) -> io::Result<usize> {
        let read = loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.session.input(&buffer[..read], checking, &mut self.out, media).map_err(io::Error::other)?;
        if !self.out.is_empty() {
            self.flush()?;
        }
        Ok(read)
    }

    /// Writes as much of [`Self::out`] as the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while self.connected && written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..written);
        Ok(())
    }

    /// The conversation.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::super::session::Role;
    use super::*;

    /// The last bytes and the end come as one edge: there is no other one for the end.
    #[test]
    fn an_end_right_behind_the_last_bytes_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let purpose = Purpose { role: Role::Sink, app: "a".into(), host: "h".into(), stream: "s".into(), number: 0 };
        let address = listener.local_addr().unwrap();
        let mut link = Link::connect(poll.registry(), Token(0), address, purpose, None).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        // A whole acknowledgement message.
        far.write_all(&[2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 9]).unwrap();
        // Not dropped: a reset would be an edge of its own.
        far.shutdown(std::net::Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(50));

        let (mut events, mut buffer, mut end) = (Events::with_capacity(4), vec![0; 1024], None);
        for _ in 0..3 {
            poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                let ready = Ready::from(event);
                let result = link.on_ready(ready).and_then(|()| link.on_readable(&mut buffer, true, |_| {}));
                end = end.or_else(|| result.err().map(|error| error.kind()));
            }
        }
        assert_eq!(end, Some(ErrorKind::UnexpectedEof));
    }
}
