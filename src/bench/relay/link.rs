//! A session on its socket: connects, reads, and keeps what could not be written yet.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

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
        Ok(Self { stream, session, out, connected: false })
    }

    /// The socket can be written to, or has failed to connect.
    pub(crate) fn on_writable(&mut self) -> io::Result<()> {
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
            // A short read emptied the socket: what comes later is a new edge (epoll(7), question 9).
            if read < buffer.len() {
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
