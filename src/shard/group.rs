//! Subscribers of one stream that share their bytes: one format, one way of merging.
//!
//! Those at the live edge are a cohort: one gathered array of slices serves them all. The others are served one by
//! one from their own place in the log (`egress/`).

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::time::Duration;

use crate::clock::Instant;
use crate::extension::FrameSink;
use crate::id::{ConnectionId, ShardId};
use crate::limits::SLICES_PER_SEND;
use crate::media::{Frame, FrameKind};
use crate::protocol::{Body, Merge, Packet, Packetizer};
use crate::stream::{Cursor, StreamLog};

/// What the subscribers of a group get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Frames as they are: the host, and other shards.
    Frames,
    /// The bytes of a protocol's format.
    Packets {
        /// Index of the protocol.
        protocol: usize,
        /// The protocol's own number.
        format: u32,
    },
}

pub(crate) struct Group {
    pub(crate) format: Format,
    pub(crate) merge: Merge,
    /// So far behind the live edge its subscribers want to be.
    pub(crate) delay: Duration,
    pub(crate) packets: Option<Packets>,
    pub(crate) subs: Vec<Subscriber>,
    /// Everything before was offered to the cohort.
    pub(crate) edge: u64,
    /// A flush that stopped at its budget: where it leads, and how many subscribers it has visited.
    pub(crate) under_way: Option<(u64, usize)>,
    /// The subscriber that the next flush begins with: it rotates, so that nobody is always last.
    pub(crate) first: usize,
}

/// What a delivery to one of the cohort touches: one cache line. What only the others need stands in [`Place`].
pub(crate) struct Subscriber {
    /// The frame that is due next while its cursor is calm; else [`ASIDE`], and the cursor says.
    pub(crate) at: u64,
    /// Payload bytes delivered.
    pub(crate) bytes: u64,
    pub(crate) target: Target,
    /// Its entry in the shard's table of places.
    pub(crate) place: usize,
    /// It waits in a queue to be served on its own.
    pub(crate) queued: bool,
    /// It wants nothing for now.
    pub(crate) paused: bool,
}

pub(crate) enum Target {
    /// The connection in this slot.
    Connection(usize),
    /// The replica on another shard, in its slot.
    Peer(ShardId, u32),
    /// A subscription of the host.
    Host(usize),
    /// Code of the host, right here.
    Sink(Box<dyn FrameSink>),
}

/// Not in the log's order for now: see the cursor.
pub(crate) const ASIDE: u64 = u64::MAX;

const _: () = assert!(size_of::<Subscriber>() <= 64, "a delivery touches one cache line");

impl Subscriber {
    /// Gives its place back to its cursor: something is to be done that the cohort does not do.
    pub(crate) fn step_aside<'a>(&mut self, cursor: &'a mut Option<Box<Cursor>>) -> &'a mut Cursor {
        let at = std::mem::replace(&mut self.at, ASIDE);
        let cursor = cursor.get_or_insert_with(|| Box::new(Cursor::calm(at)));
        if at != ASIDE {
            cursor.advance(at);
        }
        cursor
    }

    /// Takes its place from its cursor, if nothing else is to be known of it.
    pub(crate) fn step_in(&mut self, cursor: &mut Option<Box<Cursor>>) {
        if let Some(calm) = cursor.as_ref().filter(|cursor| cursor.is_calm()) {
            self.at = calm.next();
            if calm.is_spent() {
                *cursor = None;
            }
        }
    }
}

/// What is remembered of a subscriber besides the hot record: where that stands, what happened to it, and what its
/// end will tell.
#[derive(Debug)]
pub(crate) struct Place {
    /// None from when it has caught up until something happens to it. True while the record says [`ASIDE`]; else
    /// behind by what the cohort was served.
    pub(crate) cursor: Option<Box<Cursor>>,
    /// None if it is as the application says.
    pub(crate) terms: Option<Box<Terms>>,
    pub(crate) connection: ConnectionId,
    pub(crate) started: Instant,
    stream: u32,
    group: u32,
    index: u32,
}

/// What only few subscribers have of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The farthest that it may be behind.
    pub(crate) max_age: Option<Duration>,
    /// It came before the publisher, and waits until then.
    pub(crate) wait_until: Instant,
    /// Another shard's replica that was not told yet that it has all that was kept.
    pub(crate) replays: bool,
}

const _: () = assert!(size_of::<Subscriber>() + size_of::<Place>() <= 104, "at most 128 bytes, with slack in tables");

impl Place {
    /// Where a record stands: the stream's slot, its group, and the index there.
    pub(crate) fn new([stream, group, index]: [usize; 3], connection: ConnectionId, started: Instant) -> Self {
        let [stream, group, index] = [stream, group, index].map(small);
        Self { cursor: None, terms: None, connection, started, stream, group, index }
    }

    pub(crate) const fn stream(&self) -> usize {
        self.stream as usize
    }

    pub(crate) const fn group(&self) -> usize {
        self.group as usize
    }

    pub(crate) const fn index(&self) -> usize {
        self.index as usize
    }

    /// Its record was moved within its group.
    pub(crate) fn move_to(&mut self, index: usize) {
        self.index = small(index);
    }

    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.terms.as_ref().and_then(|terms| terms.max_age)
    }

    /// Until when it waits for a publisher.
    pub(crate) fn wait_until(&self) -> Instant {
        self.terms.as_ref().map_or(Instant::FAR, |terms| terms.wait_until)
    }

    /// Frames left out in all.
    pub(crate) fn skipped(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.skipped)
    }

    /// Frames left out that it was not told of.
    pub(crate) fn gap(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.gap())
    }
}

/// Slots and subscribers of one shard are far fewer than 2^32.
fn small(index: usize) -> u32 {
    u32::try_from(index).expect("bounded by the limits of streams and subscribers")
}

/// How much a full table of `len` grows: by an eighth, since a subscriber is promised not to cost more than 128 bytes.
pub(crate) const fn growth(len: usize) -> usize {
    if len < 64 { 8 } else { len / 8 }
}

/// The frames of the log in one format, by sequence number.
pub(crate) struct Packets {
    packetizer: Box<dyn Packetizer>,
    base: u64,
    ring: VecDeque<Option<Packet>>,
    /// Bytes of the bodies in it that are no frame's payload.
    own_bytes: usize,
    /// Whether the format makes such bodies; `None` before the first frame.
    owns: Option<bool>,
    /// It has been given the configuration that was in force where its packets begin.
    primed: bool,
}

impl Packets {
    pub(crate) fn new(packetizer: Box<dyn Packetizer>, base: u64) -> Self {
        Self { packetizer, base, ring: VecDeque::new(), own_bytes: 0, owns: None, primed: false }
    }

    /// Bytes of the table that one frame more needs, if this one is too short for it.
    fn growth(&self, log: &StreamLog) -> usize {
        let needed = usize::try_from(log.head() + 1 - self.base.min(log.head())).unwrap_or(usize::MAX);
        let grows = needed > self.ring.capacity();
        let table = if grows { 2 * needed.max(FIRST_PACKETS) * size_of::<Option<Packet>>() } else { 0 };
        table + if self.own_bytes > 0 { 1 } else { 0 }
    }

    /// Is as long as the log needs, also for packets that are made later.
    pub(crate) fn grow(&mut self, log: &StreamLog, from: u64) {
        if self.own_bytes > 0 {
            return self.cover(log, from, log.head());
        }
        let needed = usize::try_from(log.head() - self.base.min(log.head())).unwrap_or(usize::MAX);
        if needed > self.ring.capacity() {
            let longer = (2 * needed).max(FIRST_PACKETS);
            self.ring.reserve_exact(longer - self.ring.len());
        }
    }

    /// Bytes that covering `from..to` takes at most.
    pub(crate) fn cost(&mut self, log: &StreamLog, from: u64, to: u64) -> u64 {
        let covered = self.base + self.ring.len() as u64;
        let begins = if from < self.base || covered < log.tail() { from.max(log.tail()) } else { covered };
        let frames = to.saturating_sub(begins);
        if frames == 0 {
            return 0;
        }
        let needed = usize::try_from(to - self.base.max(log.tail()).min(begins)).unwrap_or(usize::MAX);
        let grows = needed > self.ring.capacity();
        let table = if grows { 2 * needed.max(FIRST_PACKETS) * size_of::<Option<Packet>>() } else { 0 };
        if self.owns.is_none()
            && let Some(frame) = log.frame(begins)
        {
            self.prime(log, begins);
            self.owns = self.packetizer.packetize(frame).map(|packet| matches!(packet.body, Body::Own(_)));
        }
        let bodies = if self.owns == Some(true) { log.bytes_behind(begins) } else { 0 };
        table as u64 + bodies + frames * if self.owns == Some(true) { OWN_HEAD_BYTES } else { 0 }
    }

    /// Covers `from..to` at least.
    pub(crate) fn cover(&mut self, log: &StreamLog, from: u64, to: u64) {
        if from < self.base {
            self.drop_all();
            self.base = from;
        }
        let mut seq = self.base + self.ring.len() as u64;
        if seq < log.tail() {
            self.drop_all();
            self.base = log.tail();
            seq = self.base;
        }
        if seq < to {
            self.prime(log, seq);
        }
        while seq < to {
            let packet = log.frame(seq).and_then(|frame| self.packetizer.packetize(frame));
            self.own_bytes += own_bytes(packet.as_ref());
            self.ring.push_back(packet);
            seq += 1;
        }
        self.drop_until(log.tail());
    }

    /// Where packets begin, the configuration in force there comes first: it may have gone by long ago, and some formats
    /// have it in their packets.
    fn prime(&mut self, log: &StreamLog, seq: u64) {
        if !std::mem::replace(&mut self.primed, true) {
            for config in log.configs(0, seq) {
                let _ = self.packetizer.packetize(config);
            }
        }
    }

    fn drop_all(&mut self) {
        self.primed = false;
        self.ring.clear();
        self.own_bytes = 0;
    }

    /// Bytes of memory besides the payloads of frames.
    fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<Option<Packet>>() + self.own_bytes
    }

    /// Lets go of what lies before `tail`, and of the room for it.
    pub(crate) fn shrink(&mut self, tail: u64) {
        self.drop_until(tail);
        self.ring.shrink_to(2 * self.ring.len());
    }

    fn drop_until(&mut self, tail: u64) {
        while self.base < tail
            && let Some(packet) = self.ring.pop_front()
        {
            self.own_bytes -= own_bytes(packet.as_ref());
            self.base += 1;
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self, head: u64) {
        self.primed = false;
        self.ring = VecDeque::new();
        self.own_bytes = 0;
        self.base = head;
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Packet> {
        let index = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.ring.get(index)?.as_ref()
    }

    /// The bytes of a frame that is not in the log's order (configuration at a start).
    pub(crate) fn once(&mut self, frame: &Frame) -> Option<Packet> {
        self.packetizer.packetize(frame)
    }
}

/// Bytes of a packet's body, if it is its own.
fn own_bytes(packet: Option<&Packet>) -> usize {
    match packet.map(|packet| &packet.body) {
        Some(Body::Own(bytes)) => bytes.len(),
        _ => 0,
    }
}

impl Group {
    /// An empty group, whose subscribers get what comes from `edge` on.
    pub(crate) const fn new(
        format: Format,
        merge: Merge,
        delay: Duration,
        packets: Option<Packets>,
        edge: u64,
    ) -> Self {
        Self { format, merge, delay, packets, subs: Vec::new(), edge, under_way: None, first: 0 }
    }

    /// Bytes of its table of packets that one frame more needs.
    pub(crate) fn growth(&self, log: &StreamLog) -> usize {
        self.packets.as_ref().map_or(0, |packets| packets.growth(log))
    }

    /// Bytes of memory: its table of subscribers with what is remembered of each, and its packets.
    pub(crate) fn memory(&self) -> usize {
        let subscribers = self.subs.capacity() * (size_of::<Subscriber>() + size_of::<Place>())
            + self.subs.len() * size_of::<Cursor>();
        size_of::<Self>() + subscribers + self.packets.as_ref().map_or(0, Packets::memory)
    }

    /// The subscribers in the order of this flush, without those that it has visited.
    pub(crate) fn round(&mut self, visited: usize) -> impl Iterator<Item = &mut Subscriber> {
        let first = if self.first < self.subs.len() { self.first } else { 0 };
        let (front, back) = self.subs.split_at_mut(first);
        back.iter_mut().chain(front).skip(visited)
    }

    /// Everybody is served from their own place.
    pub(crate) fn queue_all(&mut self, behind: &mut VecDeque<usize>) {
        for sub in &mut self.subs {
            sub.queued = true;
            behind.push_back(sub.place);
        }
    }

    /// A flush is done: everything before `to` was offered.
    pub(crate) const fn finish_round(&mut self, to: u64) {
        self.under_way = None;
        self.edge = to;
        self.first = if self.first + 1 < self.subs.len() { self.first + 1 } else { 0 };
    }

    /// Whether what waits is to be sent now; if not, when.
    pub(crate) fn due(&self, log: &StreamLog, now: Instant) -> Result<(), Instant> {
        if self.under_way.is_some() {
            return Ok(());
        }
        let released = self.released(log, now);
        if released == self.edge && released < log.head() {
            // They want to be behind.
            let next = log.frame(released).map_or(now, |frame| frame.origin + self.delay);
            return Err(next);
        }
        if self.format == Format::Frames {
            return Ok(());
        }
        match self.merge {
            Merge::Off => return Ok(()),
            Merge::AudioRides => {
                let alone = !log.has_video();
                let video = (self.edge..released)
                    .any(|seq| log.frame(seq).is_some_and(|frame| frame.kind != FrameKind::Audio));
                if alone || video {
                    return Ok(());
                }
            }
            Merge::Window(_) => {}
        }
        let Some(oldest) = log.frame(self.edge) else { return Ok(()) };
        let at = oldest.origin + self.hold();
        if at <= now { Ok(()) } else { Err(at) }
    }

    /// Frames before this are old enough for those who want to be behind; for all others that is every frame.
    pub(crate) fn released(&self, log: &StreamLog, now: Instant) -> u64 {
        if self.delay.is_zero() {
            return log.head();
        }
        let old = |seq: &u64| log.frame(*seq).is_some_and(|frame| frame.origin + self.delay <= now);
        let from = self.edge.max(log.tail());
        from + (from..log.head()).take_while(old).count() as u64
    }

    /// How long frames may wait: for others to leave with, and because its subscribers want to be behind.
    pub(crate) fn hold(&self) -> Duration {
        self.company() + self.delay
    }

    /// How long frames may wait for others to leave with.
    pub(crate) const fn company(&self) -> Duration {
        match self.merge {
            Merge::Off => Duration::ZERO,
            Merge::AudioRides => AUDIO_RIDES_AT_MOST,
            Merge::Window(window) => window,
        }
    }
}

/// Longest that audio waits for the next video frame: one interval of 25 frames per second, with room for jitter. With
/// exactly one interval of 30 much of the audio would leave just before the frame that it waits for.
const AUDIO_RIDES_AT_MOST: Duration = Duration::from_millis(45);

/// Frames that one pass offers to a cohort, in place.
pub(crate) struct Batch<'a> {
    /// Those behind `count` are none of it.
    frames: [&'a Frame; FRAMES_PER_PASS],
    count: usize,
    /// Payload bytes of all.
    pub(crate) bytes: u64,
    /// One of them is timed.
    pub(crate) timed: bool,
}

/// Few enough for a stack, many enough that the next pass costs nothing beside this one.
const FRAMES_PER_PASS: usize = 16;
/// Packets that a table has room for at first.
const FIRST_PACKETS: usize = 16;
/// What a body of a format's own making may have besides the payload.
const OWN_HEAD_BYTES: u64 = 64;

impl<'a> Batch<'a> {
    /// The frames of a range of which this is the first, as many as fit.
    #[inline]
    pub(crate) fn gather(log: &'a StreamLog, range: Range<u64>, first: &'a Frame) -> Self {
        let mut batch = Self { frames: [first; FRAMES_PER_PASS], count: 0, bytes: 0, timed: false };
        for (slot, frame) in batch.frames.iter_mut().zip(range.map_while(|seq| log.frame(seq))) {
            *slot = frame;
            batch.count += 1;
            batch.bytes += frame.payload.len() as u64;
            batch.timed |= frame.is_timed();
        }
        batch
    }

    pub(crate) const fn len(&self) -> u64 {
        self.count as u64
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Frame> + '_ {
        self.frames[..self.count].iter().copied()
    }
}

/// Slices of one send, in place.
pub(crate) struct Slices<'a> {
    slices: [IoSlice<'a>; SLICES_PER_SEND],
    count: usize,
    pub(crate) bytes: usize,
    /// What is beyond so many bytes is cut off.
    bytes_max: usize,
}

impl<'a> Slices<'a> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { slices: [IoSlice::new(&[]); SLICES_PER_SEND], count: 0, bytes: 0, bytes_max }
    }

    pub(crate) fn as_slice(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds bytes, those that may be; `false` if there is no slice left.
    pub(crate) fn push(&mut self, bytes: &'a [u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(self.bytes_max - self.bytes)];
        if self.count == SLICES_PER_SEND {
            return false;
        }
        self.slices[self.count] = IoSlice::new(bytes);
        self.count += 1;
        self.bytes += bytes.len();
        true
    }

    /// Adds a whole frame in its format; `false`, and nothing added, if it does not fit.
    pub(crate) fn push_packet(&mut self, packet: &'a Packet, payload: &'a [u8]) -> bool {
        let (count, bytes) = (self.count, self.bytes);
        let mut fits = true;
        for_each_piece(packet, payload, |piece| fits = fits && self.push(piece));
        if !fits {
            self.count = count;
            self.bytes = bytes;
        }
        fits
    }
}

/// The pieces of a frame in its format, in order.
pub(crate) fn for_each_piece<'a>(packet: &'a Packet, payload: &'a [u8], mut take: impl FnMut(&'a [u8])) {
    take(packet.head.as_slice());
    match &packet.body {
        Body::Payload => take(payload),
        Body::Own(bytes) => take(bytes),
        Body::Closed { tail } => {
            take(payload);
            take(tail);
        }
        Body::Chunked { first, every, separator } => {
            let (mut piece, mut rest) = payload.split_at((*first as usize).min(payload.len()));
            take(piece);
            while !rest.is_empty() {
                (piece, rest) = rest.split_at((*every as usize).max(1).min(rest.len()));
                take(separator.as_slice());
                take(piece);
            }
        }
    }
}

/// Bytes of a frame in its format.
pub(crate) fn packet_len(packet: &Packet, payload: &[u8]) -> usize {
    let mut len = 0;
    for_each_piece(packet, payload, |piece| len += piece.len());
    len
}
