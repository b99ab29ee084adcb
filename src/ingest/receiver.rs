//! MPEG-TS that comes in datagrams, to one address or to a multicast group.
//!
//! A thread of its own waits at a socket: it is a host's publisher, no shard waits with it. The stream is that of the
//! first sender; while it sends, datagrams of others are counted and left out.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::datagram::{Datagram, Sequence};
use super::{IngestEvent, Outlet, Stop};
use crate::clock::{Clock, Instant};
use crate::container::mpegts::{Demuxer, Event};
use crate::id::StreamKey;
use crate::limits::{INGEST_RETRY, INGEST_SILENCE, INGEST_SOCKET_BYTES, Limits};
use crate::media::{Frame, FrameKind, TrackId};
use crate::reason::{Blame, Reason};
use crate::router::{PublishOptions, Publisher, Router};

/// Where datagrams come to: `ADDRESS:PORT`, or `GROUP:PORT` to join a multicast group; behind it may stand
/// `@ADDRESS`, of the interface to join on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TsAddress {
    /// What is bound.
    pub at: SocketAddr,
    /// The interface of a group of IPv4; that of IPv6 is the scope of the address.
    pub interface: Option<Ipv4Addr>,
}

impl FromStr for TsAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "an address and a port, such as 0.0.0.0:5000 or, to join a group, 239.1.2.3:5000";
        let (at, interface) = match text.split_once('@') {
            Some((at, interface)) => {
                (at, Some(interface.parse().map_err(|_| "behind @ stands the IPv4 address of an interface")?))
            }
            None => (text, None),
        };
        let at: SocketAddr = at.parse().map_err(|_| WRONG)?;
        if interface.is_some() && !(at.is_ipv4() && at.ip().is_multicast()) {
            return Err("an interface is for a group of IPv4, such as 239.1.2.3:5000@192.168.1.5");
        }
        Ok(Self { at, interface })
    }
}

impl fmt::Display for TsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interface {
            Some(interface) => write!(f, "{}@{interface}", self.at),
            None => write!(f, "{}", self.at),
        }
    }
}

/// What came and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TsCounters {
    /// Datagrams that were read.
    pub datagrams: u64,
    /// Of these, such as hold no MPEG-TS.
    pub foreign: u64,
    /// Of these, such as came from somebody else than who is being read.
    pub others: u64,
    /// Datagrams that are missing by the numbers of RTP.
    pub lost_datagrams: u64,
    /// Gaps in the packets of one PID.
    pub lost_packets: u64,
    /// Frames that were published.
    pub frames: u64,
}

/// Receives and publishes on a thread of its own.
pub struct TsReceiver {
    stop: Stop,
    thread: JoinHandle<()>,
    counters: Arc<Counters>,
    address: SocketAddr,
}

impl TsReceiver {
    /// Binds, joins and receives from now on; `tell` hears what becomes of it, on that thread. The stream is published
    /// when its first frame is there, and ends when nothing came for [`INGEST_SILENCE`].
    ///
    /// # Errors
    /// The address cannot be bound, the group not joined, or the thread not started.
    pub fn start(
        router: Arc<Router>,
        key: StreamKey,
        address: TsAddress,
        tell: impl FnMut(IngestEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let socket = open(address)?;
        let (stop, counters, bound) = (Stop::default(), Arc::<Counters>::default(), socket.local_addr()?);
        let mut receive = Receive {
            clock: router.clock(),
            router,
            key,
            stop: stop.clone(),
            counters: Arc::clone(&counters),
            tell: Box::new(tell),
            run: None,
            lost_before: 0,
            again: Instant::ZERO,
        };
        let body = move || receive.receive(&socket);
        let thread = std::thread::Builder::new().name("shardcast-ts".into()).spawn(body)?;
        Ok(Self { stop, thread, counters, address: bound })
    }

    /// What is bound, with its real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came so far.
    #[must_use]
    pub fn counters(&self) -> TsCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        TsCounters {
            datagrams: read(&counters.datagrams),
            foreign: read(&counters.foreign),
            others: read(&counters.others),
            lost_datagrams: read(&counters.lost_datagrams),
            lost_packets: read(&counters.lost_packets),
            frames: read(&counters.frames),
        }
    }

    /// Ends the publish and closes the socket, within a moment.
    pub fn stop(self) {
        self.stop.stop();
        let _ = self.thread.join();
    }
}

impl fmt::Debug for TsReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsReceiver").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counters {
    datagrams: AtomicU64,
    foreign: AtomicU64,
    others: AtomicU64,
    lost_datagrams: AtomicU64,
    lost_packets: AtomicU64,
    frames: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn open(address: TsAddress) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address.at), Type::DGRAM, Some(Protocol::UDP))?;
    let group = address.at.ip().is_multicast();
    // Several may listen to a group on one machine; to an address only one.
    socket.set_reuse_address(group)?;
    // The system gives what it may.
    let _ = socket.set_recv_buffer_size(INGEST_SOCKET_BYTES);
    socket.bind(&address.at.into())?;
    match address.at {
        SocketAddr::V4(at) if group => {
            let interface = address.interface.unwrap_or(Ipv4Addr::UNSPECIFIED);
            socket.join_multicast_v4(at.ip(), &interface)?;
        }
        SocketAddr::V6(at) if group => socket.join_multicast_v6(at.ip(), at.scope_id())?,
        _ => {}
    }
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(socket)
}

struct Receive {
    router: Arc<Router>,
    clock: Clock,
    key: StreamKey,
    stop: Stop,
    counters: Arc<Counters>,
    tell: Box<dyn FnMut(IngestEvent) + Send>,
    run: Option<Run>,
    /// Gaps of the runs before this one.
    lost_before: u64,
    /// Not before that is it tried to publish.
    again: Instant,
}

/// One sender, from its first datagram to its silence.
struct Run {
    sender: SocketAddr,
    sequence: Sequence,
    demuxer: Demuxer,
    publisher: Option<Publisher>,
    /// Records that were told before it was published; one for each track.
    configs: Vec<Frame>,
    last: Instant,
}

impl Receive {
    fn receive(&mut self, socket: &UdpSocket) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.stop.is_stopped() {
            let received = socket.recv_from(&mut buffer);
            let now = self.clock.instant();
            match received {
                Ok((length, sender)) => {
                    self.datagram(now, sender, buffer.get(..length).unwrap_or_default());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // An answer to what was never sent, or a network that is down: it is waited for as for a sender.
                Err(_) => _ = self.stop.wait(READ_TIMEOUT),
            }
            if self.run.as_ref().is_some_and(|run| now.since(run.last) > INGEST_SILENCE) {
                self.end(now);
            }
            self.look();
        }
        let now = self.clock.instant();
        self.end(now);
    }

    fn datagram(&mut self, now: Instant, sender: SocketAddr, bytes: &[u8]) {
        add(&self.counters.datagrams, 1);
        let Some(datagram) = Datagram::read(bytes) else { return add(&self.counters.foreign, 1) };
        let run = self.run.get_or_insert_with(|| Run {
            sender,
            sequence: Sequence::default(),
            demuxer: Demuxer::new((&Limits::default()).into()),
            publisher: None,
            configs: Vec::new(),
            last: now,
        });
        if run.sender != sender {
            return add(&self.counters.others, 1);
        }
        run.last = now;
        if let Some(number) = datagram.sequence {
            add(&self.counters.lost_datagrams, run.sequence.missing(number));
        }
        // What was too long is left out; the rest follows.
        let _ = run.demuxer.push(now, datagram.packets);
        self.publish_all(now);
    }

    /// Publishes what the demuxer has made.
    fn publish_all(&mut self, now: Instant) {
        while let Some(run) = &mut self.run {
            match run.demuxer.poll() {
                Some(Event::Frame(frame)) => self.publish(now, frame),
                Some(Event::Ended(track)) => run.configs.retain(|config| config.track != track),
                Some(_) => {}
                None => {
                    let lost = self.lost_before + run.demuxer.counters().continuity_errors;
                    return self.counters.lost_packets.store(lost, Ordering::Relaxed);
                }
            }
        }
    }

    fn publish(&mut self, now: Instant, frame: Frame) {
        let Some(run) = &mut self.run else { return };
        if frame.kind == FrameKind::Config && frame.track != TrackId::METADATA {
            run.configs.retain(|config| config.track != frame.track);
            run.configs.push(frame.clone());
        }
        if run.publisher.is_none() {
            if now < self.again {
                return;
            }
            match self.router.publish(&self.key, PublishOptions::default()) {
                Ok(publisher) => {
                    (self.tell)(IngestEvent::Began);
                    run.publisher = Some(publisher);
                    // The record that is just told is among them.
                    let is_config = frame.kind == FrameKind::Config;
                    let configs = std::mem::take(&mut run.configs);
                    for config in &configs {
                        self.send(Frame { dts: frame.dts, pts: frame.dts, ..config.clone() });
                    }
                    if let Some(run) = &mut self.run {
                        run.configs = configs;
                    }
                    if is_config {
                        return;
                    }
                }
                Err(reason) => {
                    self.again = now + INGEST_RETRY;
                    return (self.tell)(IngestEvent::Refused(reason));
                }
            }
        }
        self.send(frame);
    }

    /// A full ring is waited for: meanwhile the system keeps datagrams.
    fn send(&mut self, frame: Frame) {
        let mut offered = Some(frame);
        while let Some(frame) = offered.take() {
            let Some(publisher) = self.run.as_mut().and_then(|run| run.publisher.as_mut()) else { return };
            match publisher.offer(frame) {
                Ok(None) => add(&self.counters.frames, 1),
                Ok(Some(_)) if self.stop.wait(FULL_EVERY) => {}
                Ok(back) => offered = back,
                Err(reason) => self.ended(reason),
            }
        }
    }

    /// Whether the router has ended the publish.
    fn look(&mut self) {
        let publisher = self.run.as_mut().and_then(|run| run.publisher.as_mut());
        if let Some(Err(reason)) = publisher.map(Outlet::idle) {
            self.ended(reason);
        }
    }

    fn ended(&mut self, reason: Reason) {
        if let Some(run) = &mut self.run {
            run.publisher = None;
        }
        // Whoever ended it on purpose has rest from it for longer.
        let wait = if reason.blame() == Blame::Operator { INGEST_RETRY * 15 } else { INGEST_RETRY };
        self.again = self.clock.instant() + wait;
        (self.tell)(IngestEvent::Ended(reason));
    }

    /// The sender is silent: what it has begun ends.
    fn end(&mut self, now: Instant) {
        let Some(run) = &mut self.run else { return };
        let _ = run.demuxer.finish(now);
        if run.publisher.is_some() {
            self.publish_all(now);
        }
        let Some(run) = self.run.take() else { return };
        self.lost_before += run.demuxer.counters().continuity_errors;
        if let Some(publisher) = run.publisher {
            publisher.end();
            (self.tell)(IngestEvent::Silent);
        }
    }
}

/// How soon a stop and silence are seen.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
const FULL_EVERY: Duration = Duration::from_millis(1);
const DATAGRAM_BYTES_MAX: usize = 65_536;
