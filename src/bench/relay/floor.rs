//! The floor: no server, only the sends that no server could avoid.
//!
//! Makes the streams itself, on the publishers' schedule, and hands them to each socket with one `sendmsg` for as many
//! messages as are merged. Nothing is received, routed or kept, save for a socket that is full.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::chunk::{self, Outgoing};
use super::error::RelayError;
use super::media::{self, Bank, Schedule, Slot, Track};
use super::plan::{Said, Sends};
use super::session::CHUNK_SIZE;
use super::settings::Merge;
use super::timing::{MILLISECOND, Timing};

/// A socket that is this far behind is closed.
const BACKLOG_MAX: usize = 16 * 1024 * 1024;
/// From the last viewer's arrival to the first frame.
const LEAD_IN: u64 = 20 * MILLISECOND;
/// How long a viewer may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message that waits to be sent.
struct Message {
    slot: Slot,
    /// Chunk header, FLV tag header and stamp; the body is the bank's.
    head: Vec<u8>,
}

/// One stream and who watches it.
struct Stream {
    number: u32,
    /// When it starts.
    t0: u64,
    schedule: Schedule,
    viewers: Vec<Viewer>,
    pending: Vec<Message>,
    merge_until: Option<u64>,
}

struct Viewer {
    stream: TcpStream,
    /// What a full socket did not take.
    backlog: Vec<u8>,
}

/// Says its port, waits for the viewers, and sends until they have gone.
pub(crate) fn run(plan: &Sends, say: &mut dyn FnMut(&Said)) -> Result<(), RelayError> {
    let cannot = |error| RelayError::system("the floor cannot listen")(error);
    let timing = Timing::start();
    let bank = Bank::new(plan.kbps);
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(cannot)?;
    // std listens with a backlog of 128; a ramp of joins may be longer.
    SockRef::from(&listener).listen(4096).map_err(cannot)?;
    say(&Said::Listening(listener.local_addr().map_err(cannot)?.port()));

    let mut streams: Vec<Stream> = (0..plan.streams).map(Stream::new).collect();
    for _ in 0..plan.players {
        let accepted = listener.accept().and_then(|(stream, _)| Viewer::accept(stream));
        let (wanted, viewer) = accepted.map_err(RelayError::system("the floor cannot accept a viewer"))?;
        if let Some(stream) = streams.get_mut(usize::try_from(wanted).unwrap_or(usize::MAX)) {
            stream.viewers.push(viewer);
        }
    }
    let start = timing.now() + LEAD_IN;
    for stream in &mut streams {
        stream.t0 = start + media::stagger(stream.number, plan.streams);
    }
    while let Some(next) = streams.iter_mut().filter(|stream| !stream.viewers.is_empty()).min_by_key(|one| one.next())
    {
        timing.sleep_until(next.next());
        next.turn(&bank, plan.merge, &timing);
    }
    Ok(())
}

impl Stream {
    fn new(number: u32) -> Self {
        let (schedule, viewers, pending) = (Schedule::default(), Vec::new(), Vec::new());
        Self { number, t0: 0, schedule, viewers, pending, merge_until: None }
    }

    fn due(&self) -> u64 {
        self.t0 + self.schedule.peek().offset_ns
    }

    /// When it has something to do.
    fn next(&self) -> u64 {
        self.merge_until.map_or_else(|| self.due(), |until| until.min(self.due()))
    }

    /// Does what it is time for.
    fn turn(&mut self, bank: &Bank, merge: Merge, timing: &Timing) {
        let due = self.due();
        if self.merge_until.is_some_and(|until| until <= due) {
            self.merge_until = None;
            return self.send(bank);
        }
        let slot = self.schedule.take();
        self.pending.push(Message::new(bank, self.number, slot, due, timing.now()));
        match merge {
            Merge::Window(0) => self.send(bank),
            Merge::AudioRides if slot.track == Track::Video => self.send(bank),
            Merge::AudioRides => {}
            Merge::Window(ms) => {
                let until = due + u64::from(ms) * MILLISECOND;
                self.merge_until = self.merge_until.or(Some(until));
            }
        }
    }

    fn send(&mut self, bank: &Bank) {
        let bodies = |message: &Message| bank.body(message.slot).bytes.as_slice();
        let slices: Vec<IoSlice<'_>> =
            self.pending.iter().flat_map(|one| [IoSlice::new(&one.head), IoSlice::new(bodies(one))]).collect();
        self.viewers.retain_mut(|viewer| viewer.send(&slices).is_ok());
        self.pending.clear();
    }
}

impl Message {
    fn new(bank: &Bank, stream: u32, slot: Slot, due: u64, sent: u64) -> Self {
        let kind = match slot.track {
            Track::Video => chunk::VIDEO,
            Track::Audio => chunk::AUDIO,
        };
        let mut payload = Vec::new();
        bank.head(stream, slot, due, sent, &mut payload);
        let mut head = Vec::new();
        let len = payload.len() + bank.body(slot).bytes.len();
        Outgoing::media(kind, 1, slot.timestamp()).write_header(len, &mut head);
        head.append(&mut payload);
        Self { slot, head }
    }
}

impl Viewer {
    /// Reads which stream is wanted.
    fn accept(mut stream: TcpStream) -> io::Result<(u32, Self)> {
        let mut wanted = [0; 4];
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut wanted)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut backlog = Vec::new();
        // A message is one chunk, however large.
        let size = u32::try_from(CHUNK_MAX).unwrap_or(0).to_be_bytes();
        Outgoing::control(chunk::SET_CHUNK_SIZE).write(&size, chunk::DEFAULT_CHUNK_SIZE, &mut backlog);
        Ok((u32::from_be_bytes(wanted), Self { stream, backlog }))
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.send_backlog()?;
        }
        let mut skip = if self.backlog.is_empty() { self.send_now(slices)? } else { 0 };
        for slice in slices {
            let skipped = skip.min(slice.len());
            self.backlog.extend(&slice[skipped..]);
            skip -= skipped;
        }
        if self.backlog.len() > BACKLOG_MAX { Err(ErrorKind::OutOfMemory.into()) } else { Ok(()) }
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
        Ok(())
    }
}

/// The largest chunk of RTMP 1.0 (section 5.4.1), more than any message.
const CHUNK_MAX: usize = 0xff_ffff;
const _: () = assert!(CHUNK_SIZE <= CHUNK_MAX);
