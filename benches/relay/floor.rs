//! The floor: no server, only the sends that no server could avoid.
//!
//! Makes the stream itself, on the publisher's schedule, and hands it to each socket with one `sendmsg` for as
//! many messages as the mode merges. Nothing is received, routed or kept, save for a socket that is full.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::{TcpListener, TcpStream};

use socket2::SockRef;

use super::chunk::{self, Outgoing};
use super::media::{Bank, Schedule, Slot, Track};
use super::session::CHUNK_SIZE;
use super::target::Mode;
use super::timing::{MILLISECOND, Timing};

/// A socket that is this far behind is closed.
const BACKLOG_MAX: usize = 16 * 1024 * 1024;
/// From the last viewer's arrival to the first frame.
const LEAD_IN: u64 = 20 * MILLISECOND;

/// A message that waits to be sent.
struct Message {
    slot: Slot,
    /// Chunk header, FLV tag header and stamp; the body is the bank's.
    head: Vec<u8>,
}

struct Viewer {
    stream: TcpStream,
    /// What a full socket did not take.
    backlog: Vec<u8>,
}

/// Prints the port, waits for the viewers, and sends until they have gone.
pub(crate) fn run(players: usize, mode: Mode) -> io::Result<()> {
    let timing = Timing::start();
    let bank = Bank::new();
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    // std listens with a backlog of 128; a ramp of joins may be longer.
    SockRef::from(&listener).listen(4096)?;
    println!("port {}", listener.local_addr()?.port());
    let mut viewers = Vec::with_capacity(players);
    while viewers.len() < players {
        viewers.push(Viewer::new(listener.accept()?.0)?);
    }
    let t0 = timing.now() + LEAD_IN;
    let mut schedule = Schedule::default();
    let mut pending: Vec<Message> = Vec::new();
    let mut merge_until = None;
    while !viewers.is_empty() {
        let due = t0 + schedule.peek().offset_ns;
        if let Some(until) = merge_until.filter(|until| *until <= due) {
            timing.sleep_until(until);
            send(&bank, &mut pending, &mut viewers);
            merge_until = None;
        }
        timing.sleep_until(due);
        let slot = schedule.take();
        pending.push(Message::new(&bank, slot, due, timing.now()));
        match mode {
            Mode::Merge(0) => send(&bank, &mut pending, &mut viewers),
            Mode::Default if slot.track == Track::Video => send(&bank, &mut pending, &mut viewers),
            Mode::Default => {}
            Mode::Merge(window) if merge_until.is_none() => {
                merge_until = Some(due + u64::from(window) * MILLISECOND);
            }
            Mode::Merge(_) => {}
        }
    }
    Ok(())
}

fn send(bank: &Bank, pending: &mut Vec<Message>, viewers: &mut Vec<Viewer>) {
    let bodies = |message: &Message| bank.body(message.slot).bytes.as_slice();
    let slices: Vec<IoSlice<'_>> =
        pending.iter().flat_map(|message| [IoSlice::new(&message.head), IoSlice::new(bodies(message))]).collect();
    viewers.retain_mut(|viewer| viewer.send(&slices).is_ok());
    pending.clear();
}

impl Message {
    fn new(bank: &Bank, slot: Slot, due: u64, sent: u64) -> Self {
        let kind = match slot.track {
            Track::Video => chunk::VIDEO,
            Track::Audio => chunk::AUDIO,
        };
        let mut payload = Vec::new();
        bank.head(slot, due, sent, &mut payload);
        let mut head = Vec::new();
        let len = payload.len() + bank.body(slot).bytes.len();
        Outgoing::media(kind, 1, slot.timestamp()).write_header(len, &mut head);
        head.append(&mut payload);
        Self { slot, head }
    }
}

impl Viewer {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut viewer = Self { stream, backlog: Vec::new() };
        let size = u32::try_from(CHUNK_SIZE).unwrap_or(0).to_be_bytes();
        Outgoing::control(chunk::SET_CHUNK_SIZE).write(&size, chunk::DEFAULT_CHUNK_SIZE, &mut viewer.backlog);
        Ok(viewer)
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let sent = if self.backlog.is_empty() { self.send_now(slices)? } else { 0 };
        let mut skip = sent;
        for slice in slices {
            let skipped = skip.min(slice.len());
            self.backlog.extend(&slice[skipped..]);
            skip -= skipped;
        }
        if !self.backlog.is_empty() {
            self.send_backlog()?;
        }
        Ok(())
    }

    fn send_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match SockRef::from(&self.stream).send_vectored(slices) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    fn send_backlog(&mut self) -> io::Result<()> {
        match self.stream.write(&self.backlog) {
            Ok(written) => drop(self.backlog.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.backlog.len() > BACKLOG_MAX { Err(ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }
}
