//! What disturbs: RTMP clients on one thread, and a publisher of the host where there must be a GOP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use mio::{Events, Poll, Token};
use slab::Slab;

use super::super::BenchError;
use super::super::relay::chunk::{self, Outgoing};
use super::super::relay::link::{Link, Ready};
use super::super::relay::media::video_config;
use super::super::relay::session::{CHUNK_SIZE, Progress, Purpose, Role};
use super::{Disturbance, Settings, send};
use crate::clock::{Clock, Instant};
use crate::id::StreamKey;
use crate::media::{Codec, Frame, Timestamp};
use crate::router::{PublishOptions, Publisher, Router};

/// The thread, until it is stopped.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    happened: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
    /// Keeps the GOP that joiners want.
    _publisher: Option<Publisher>,
}

impl Load {
    /// Lets it loose; it has begun to happen when this returns.
    pub(super) fn start(
        router: &Router,
        address: SocketAddr,
        disturbance: Disturbance,
        settings: &Settings,
    ) -> Result<Self, BenchError> {
        let publisher = match disturbance {
            Disturbance::Joiners => Some(publish_gop(router, settings.gop_bytes)?),
            _ => None,
        };
        let (over, happened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = (disturbance != Disturbance::Calm).then(|| {
            let (ended, count, settings) = (Arc::clone(&over), Arc::clone(&happened), settings.clone());
            thread::spawn(move || {
                let mut clients = Clients::new(address, disturbance, &settings, count)?;
                while !ended.load(Ordering::Relaxed) {
                    clients.turn()?;
                }
                Ok(())
            })
        });
        let clock = Clock::start();
        while thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && happened.load(Ordering::Relaxed) == 0
            && clock.instant() < Instant::ZERO + BEGINS_WITHIN
        {
            thread::sleep(Duration::from_millis(1));
        }
        happened.store(0, Ordering::Relaxed);
        Ok(Self { over, happened, thread, _publisher: publisher })
    }

    /// How often it happened since it began.
    pub(super) fn happened(&self) -> u64 {
        self.happened.load(Ordering::Relaxed)
    }

    pub(super) fn stop(mut self) -> Result<(), BenchError> {
        self.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let done = thread.join().expect("the load's thread does not panic");
        done.map_err(|source| BenchError::System { action: "disturb over sockets", source })
    }
}

const BEGINS_WITHIN: Duration = Duration::from_secs(5);
/// What one connection that is in the way of nobody reads at once.
const READ_LEN: usize = 256 * 1024;
/// Connections of the storm that are under way at once.
const STORM: usize = 64;
/// Players of large keyframes.
const KEY_PLAYERS: usize = 10;
/// Frames of the GOP that joiners get.
const GOP_FRAMES: usize = 128;
/// The pace of the publisher at ten times its rate, and what a frame holds for 25 Mb/s.
const TENFOLD_PERIOD: Duration = Duration::from_micros(3_333);
const TENFOLD_BYTES: usize = 10_400;

/// Fills the GOP cache of a stream that nothing happens in afterwards.
fn publish_gop(router: &Router, bytes: usize) -> Result<Publisher, BenchError> {
    let key = StreamKey::parse("fair/gop").expect("a good name");
    let mut publisher = router.publish(&key, PublishOptions::default())?;
    let payload = Bytes::from(vec![0x55; bytes / GOP_FRAMES]);
    let config = Bytes::from(video_config().split_off(5));
    send(&mut publisher, Frame::config(Codec::H264, Timestamp(0), config))?;
    for n in 0..GOP_FRAMES {
        let time = Timestamp::from_millis(i64::try_from(n).unwrap_or(0) * 33);
        send(&mut publisher, Frame::video(Codec::H264, n == 0, time, time, payload.clone()))?;
    }
    Ok(publisher)
}

/// All clients of one disturbance.
struct Clients {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    address: SocketAddr,
    disturbance: Disturbance,
    clients: Slab<Client>,
    joiners: usize,
    /// Players that are still to connect, once there is a stream.
    players: usize,
    happened: Arc<AtomicU64>,
    /// The message that the publisher repeats, and when it is due again.
    message: Vec<u8>,
    period: Duration,
    clock: Clock,
    due: Instant,
}

struct Client {
    link: Link,
    role: Role,
    /// Pictures received.
    pictures: usize,
    /// It has sent its configuration.
    announced: bool,
}

impl Clients {
    fn new(
        address: SocketAddr,
        disturbance: Disturbance,
        settings: &Settings,
        happened: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let (bytes, period, players) = match disturbance {
            Disturbance::TenfoldRate => (TENFOLD_BYTES, TENFOLD_PERIOD, settings.players),
            _ => (settings.key_bytes, Duration::from_millis(500), KEY_PLAYERS),
        };
        let mut clients = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_LEN],
            address,
            disturbance,
            clients: Slab::new(),
            joiners: settings.joiners,
            players,
            happened,
            message: keyframe(bytes),
            period,
            clock: Clock::start(),
            due: Instant::ZERO,
        };
        if matches!(disturbance, Disturbance::LargeKeyframe | Disturbance::TenfoldRate) {
            clients.connect(Role::Publish)?;
        }
        Ok(clients)
    }

    fn connect(&mut self, role: Role) -> io::Result<()> {
        let stream = if self.disturbance == Disturbance::Joiners { "gop" } else { "noise" };
        let purpose =
            Purpose { role, app: "fair".into(), host: "localhost".into(), stream: stream.into(), number: 0 };
        let entry = self.clients.vacant_entry();
        let link = Link::connect(self.poll.registry(), Token(entry.key()), self.address, purpose, None)?;
        entry.insert(Client { link, role, pictures: 0, announced: false });
        Ok(())
    }

    /// Keeps up the pressure, waits a moment for sockets, and serves them.
    fn turn(&mut self) -> io::Result<()> {
        match self.disturbance {
            Disturbance::Joiners if self.clients.is_empty() => {
                for _ in 0..self.joiners {
                    self.connect(Role::Play)?;
                }
            }
            Disturbance::Connects => {
                while self.clients.len() < STORM {
                    self.connect(Role::Play)?;
                }
            }
            _ => {}
        }
        self.publish()?;
        let wait = self.due.since(self.clock.instant()).min(Duration::from_millis(1));
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.poll.poll(&mut events, Some(wait))?;
        for event in &events {
            self.serve(event.token().0, Ready::from(event))?;
        }
        self.events = events;
        Ok(())
    }

    fn serve(&mut self, at: usize, ready: Ready) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        client.link.on_ready(ready)?;
        let mut pictures = 0;
        if ready.readable {
            // Not the configuration, which is a video message, too.
            client.link.on_readable(&mut self.buffer, false, |message| {
                pictures += usize::from(message.kind == chunk::VIDEO && message.start.get(1) == Some(&NALU));
            })?;
        }
        client.pictures += pictures;
        let shaken = client.link.session().has_shaken();
        let happened = match self.disturbance {
            Disturbance::Connects => usize::from(shaken),
            Disturbance::Joiners => usize::from(client.pictures >= GOP_FRAMES),
            _ => pictures,
        };
        if happened > 0 && matches!(self.disturbance, Disturbance::Connects | Disturbance::Joiners) {
            self.clients.remove(at);
        }
        self.happened.fetch_add(happened as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sends what is due of the publisher, if there is one.
    fn publish(&mut self) -> io::Result<()> {
        let Some((_, client)) = self.clients.iter_mut().find(|(_, client)| client.role == Role::Publish) else {
            return Ok(());
        };
        if client.link.session().progress() != Progress::Started {
            return Ok(());
        }
        let stream_id = client.link.session().stream_id();
        if !client.announced {
            client.announced = true;
            Outgoing::media(chunk::VIDEO, stream_id, 0).write(&video_config(), CHUNK_SIZE, &mut client.link.out);
        }
        // A publisher that is held back sends no more than it can.
        while self.due <= self.clock.instant() && client.link.out.is_empty() {
            let time = u32::try_from(self.clock.instant().since(Instant::ZERO).as_millis()).unwrap_or(0);
            Outgoing::media(chunk::VIDEO, stream_id, time).write(&self.message, CHUNK_SIZE, &mut client.link.out);
            self.due = self.due + self.period;
            client.link.flush()?;
        }
        client.link.flush()?;
        // The stream is there before its players.
        for _ in 0..std::mem::take(&mut self.players) {
            self.connect(Role::Play)?;
        }
        Ok(())
    }
}

/// AVCPacketType of a picture (FLV 10.1, annex E.4.3.2).
const NALU: u8 = 1;

/// The body of a video message: a keyframe of one NAL unit, as FLV has it (AVCVIDEOPACKET, the same annex).
fn keyframe(bytes: usize) -> Vec<u8> {
    let mut body = vec![0x17, NALU, 0, 0, 0];
    let unit = u32::try_from(bytes - 9).unwrap_or(u32::MAX);
    body.extend(unit.to_be_bytes());
    body.push(0x65);
    body.resize(bytes, 0x55);
    body
}
