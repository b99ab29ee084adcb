//! Packets as they come → tracks and frames.
//!
//! [`Demuxer::push`] takes any pieces of the stream, [`Demuxer::poll`] gives what they made. What is held is bounded by
//! [`DemuxLimits`]. Bytes that are no packets are passed over to where packets begin again; what is damaged on the way
//! (a lost packet, a bad checksum, a PES packet that ends early) is left out and counted.

mod elementary;
mod sync;

use std::collections::VecDeque;

use self::elementary::{Elementary, Payload};
use self::sync::Synchronizer;
use super::table::{self, MapStream, SectionReader};
use super::{PACKET_BYTES, PID_NULL, PID_PAT, TICKS_WRAP, TIMESCALE};
use crate::clock::Instant;
use crate::limits::{Limits, PES_BYTES_MAX, TRACKS_MAX};
use crate::media::{Frame, Media, Timestamp, Track, TrackId};

/// What a demuxer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemuxLimits {
    /// One PES packet of pictures.
    pub frame_bytes: usize,
    /// All unfinished PES packets together.
    pub partial_bytes: usize,
}

impl From<&Limits> for DemuxLimits {
    fn from(limits: &Limits) -> Self {
        Self { frame_bytes: limits.message_bytes, partial_bytes: limits.partial_bytes }
    }
}

/// Why a stream can't be read on. Whoever goes on nevertheless gets what comes behind the frame that was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DemuxError {
    /// More than [`DemuxLimits::frame_bytes`], or, if it is no picture, than a PES packet can have.
    #[error("a PES packet is longer than it may be")]
    FrameBytes,
    /// More than [`DemuxLimits::partial_bytes`].
    #[error("unfinished PES packets are longer than they may be together")]
    PartialBytes,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A track begins, or something else is known of it than before. A decoder configuration record follows as a frame.
    Track(Box<Track>),
    /// The program has this track no more.
    Ended(TrackId),
    /// A frame of a track that was told.
    Frame(Frame),
}

/// What was left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DemuxCounters {
    /// Packets that were read, those of no track included.
    pub packets: u64,
    /// How often no packet stood where one should.
    pub sync_losses: u64,
    /// Bytes that were passed over to find packets again.
    pub skipped_bytes: u64,
    /// Packets that the network says are damaged, or whose header is malformed.
    pub damaged_packets: u64,
    /// Gaps in the continuity of one PID.
    pub continuity_errors: u64,
    /// Packets that came twice, as the standard allows.
    pub duplicates: u64,
    /// Scrambled packets.
    pub scrambled: u64,
    /// Sections with a bad checksum, or too long.
    pub bad_sections: u64,
    /// PES packets that were cut short or are malformed, or in which packets are missing.
    pub damaged_pes: u64,
    /// PES packets of pictures or data without a timestamp.
    pub untimed: u64,
    /// Stretches of an elementary stream that are no frames of its codec; access units with too many parameter sets.
    pub bad_frames: u64,
    /// Elementary streams of codecs that are not read, or over [`TRACKS_MAX`], in the maps so far.
    pub unknown_streams: u64,
}

/// Reads one program.
#[derive(Debug)]
pub struct Demuxer {
    limits: DemuxLimits,
    sync: Synchronizer,
    state: State,
}

/// All but the packet boundaries.
#[derive(Debug)]
struct State {
    pat: Psi,
    pmt: Psi,
    /// Number of the program, and the PID of its map.
    program: Option<(u16, u16)>,
    /// The section of the map in force.
    map: Vec<u8>,
    pcr_pid: u16,
    /// [`TRACKS_MAX`] at most.
    tracks: Vec<Elementary>,
    clock: TickClock,
    events: VecDeque<Event>,
    counters: DemuxCounters,
    /// Bytes of all unfinished PES packets.
    partial: usize,
}

/// Sections of one PID.
#[derive(Debug, Default)]
struct Psi {
    sections: SectionReader,
    continuity: Continuity,
}

impl Demuxer {
    /// A demuxer that has read nothing yet.
    #[must_use]
    pub fn new(limits: DemuxLimits) -> Self {
        let state = State {
            pat: Psi::default(),
            pmt: Psi::default(),
            program: None,
            map: Vec::new(),
            pcr_pid: PID_NULL,
            tracks: Vec::new(),
            clock: TickClock::default(),
            events: VecDeque::new(),
            counters: DemuxCounters::default(),
            partial: 0,
        };
        Self { limits, sync: Synchronizer::default(), state }
    }

    /// Takes the next bytes; `now` becomes the origin of frames that end in them. Then [`Demuxer::poll`] is drained.
    ///
    /// # Errors
    /// A bound was reached. The bytes were taken; the frame that is too long is left out.
    pub fn push(&mut self, now: Instant, bytes: &[u8]) -> Result<(), DemuxError> {
        let (mut result, limits, state) = (Ok(()), self.limits, &mut self.state);
        self.sync.push(bytes, |packet| {
            let one = state.packet(now, limits, packet);
            result = result.and(one);
        });
        self.sync.count(&mut self.state.counters);
        result
    }

    /// The stream has ended: what has no end of its own ends here. Then [`Demuxer::poll`] is drained.
    ///
    /// # Errors
    /// As [`Demuxer::push`].
    pub fn finish(&mut self, now: Instant) -> Result<(), DemuxError> {
        let (mut result, limits, state) = (Ok(()), self.limits, &mut self.state);
        self.sync.finish(|packet| {
            let one = state.packet(now, limits, packet);
            result = result.and(one);
        });
        self.sync.count(&mut self.state.counters);
        for index in 0..self.state.tracks.len() {
            self.state.end_pes(now, index);
        }
        result
    }

    /// The next thing that was read, until `None`.
    pub fn poll(&mut self) -> Option<Event> {
        self.state.events.pop_front()
    }

    /// What was left out so far.
    #[must_use]
    pub fn counters(&self) -> DemuxCounters {
        self.state.counters
    }

    /// Bytes of unfinished PES packets and of frames that wait for their end.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.state.partial + self.state.tracks.iter().map(Elementary::held_bytes).sum::<usize>()
    }
}

impl State {
    fn packet(&mut self, now: Instant, limits: DemuxLimits, packet: &[u8; PACKET_BYTES]) -> Result<(), DemuxError> {
        self.counters.packets += 1;
        let Some(header) = Header::read(packet) else {
            self.counters.damaged_packets += 1;
            return Ok(());
        };
        let payload = packet.get(header.payload..).unwrap_or_default();
        if header.discontinuity && header.pid == self.pcr_pid {
            self.tracks.iter_mut().for_each(|track| track.jump = true);
        }
        let is_map = self.program.is_some_and(|(_, pid)| pid == header.pid);
        if header.pid == PID_PAT || is_map {
            if !header.scrambled {
                self.sections(now, is_map, &header, payload);
            }
            return Ok(());
        }
        let Some(index) = self.tracks.iter().position(|track| track.pid == header.pid) else { return Ok(()) };
        if header.scrambled {
            self.counters.scrambled += 1;
            return Ok(());
        }
        self.track_packet(now, limits, index, &header, payload)
    }

    fn sections(&mut self, now: Instant, is_map: bool, header: &Header, payload: &[u8]) {
        let psi = if is_map { &mut self.pmt } else { &mut self.pat };
        match psi.continuity.next(header) {
            Next::Here => {}
            Next::Nothing => return,
            Next::Duplicate => {
                self.counters.duplicates += 1;
                return;
            }
            Next::Gap => {
                self.counters.continuity_errors += 1;
                psi.sections.reset();
            }
        }
        let (mut found, mut map) = (self.program, None);
        let read = |section: &[u8]| match self.program {
            Some((program, _)) if is_map => {
                if *section != *self.map && table::read_pmt(program, section).is_some() {
                    map = Some(section.to_vec());
                }
            }
            _ => found = table::read_pat(section).or(found),
        };
        self.counters.bad_sections += psi.sections.read(header.start, payload, read);
        if found != self.program && found.is_some_and(|(_, pid)| pid != PID_PAT && pid != PID_NULL) {
            self.program = found;
            // The tracks stay until the map of the new program says otherwise.
            self.pmt = Psi::default();
            self.map.clear();
        }
        if let (Some(section), Some((program, _))) = (map, self.program) {
            self.new_map(now, program, section);
        }
    }

    /// Tracks that the map has no more end, new ones are there from now on; the others stay as they are.
    fn new_map(&mut self, now: Instant, program: u16, section: Vec<u8>) {
        let Some(mut map) = table::read_pmt(program, &section) else { return };
        self.map = section;
        self.pcr_pid = map.pcr_pid;
        self.counters.unknown_streams += map.unknown;
        let stays = |track: &Elementary, streams: &[MapStream]| streams.iter().any(|stream| track.is_of(stream));
        for index in (0..self.tracks.len()).rev() {
            if self.tracks.get(index).is_some_and(|track| !stays(track, &map.streams)) {
                self.end_pes(now, index);
                let track = self.tracks.remove(index);
                if track.is_told() {
                    self.events.push_back(Event::Ended(track.id()));
                }
            }
        }
        for stream in map.streams.drain(..) {
            if let Some(track) = self.tracks.iter_mut().find(|track| track.is_of(&stream)) {
                track.describe(&stream, &mut self.events);
            } else if self.tracks.iter().any(|track| track.pid == stream.pid) {
                // The same PID twice in one map.
                self.counters.unknown_streams += 1;
            } else if let Some(id) = self.free_id(stream.codec.media()) {
                self.tracks.push(Elementary::new(id, &stream));
            } else {
                self.counters.unknown_streams += 1;
            }
        }
    }

    /// The place of the first track of its kind, else the next that is free.
    fn free_id(&self, media: Media) -> Option<TrackId> {
        let first = match media {
            Media::Video => TrackId::VIDEO,
            Media::Audio => TrackId::AUDIO,
            Media::Data => TrackId::METADATA,
        };
        let last = u8::try_from(TRACKS_MAX).unwrap_or(u8::MAX);
        let free = |id: &TrackId| self.tracks.iter().all(|track| track.id() != *id);
        std::iter::once(first).chain((3..last).map(TrackId)).find(free)
    }

    fn track_packet(
        &mut self,
        now: Instant,
        limits: DemuxLimits,
        index: usize,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), DemuxError> {
        let Some(track) = self.tracks.get_mut(index) else { return Ok(()) };
        match track.continuity.next(header) {
            Next::Here => {}
            Next::Nothing => return Ok(()),
            Next::Duplicate => {
                self.counters.duplicates += 1;
                return Ok(());
            }
            Next::Gap => {
                self.counters.continuity_errors += 1;
                let lost = track.drop_pes();
                self.partial -= lost;
                self.counters.damaged_pes += u64::from(lost > 0);
            }
        }
        track.jump |= header.discontinuity;
        if header.discontinuity && !header.start {
            // What comes now is of another stream than what was gathered.
            let lost = track.drop_pes();
            self.partial -= lost;
            self.counters.damaged_pes += u64::from(lost > 0);
        }
        if header.start {
            self.end_pes(now, index);
            let Some(track) = self.tracks.get_mut(index) else { return Ok(()) };
            track.begin_pes(header.random_access);
        }
        let Some(track) = self.tracks.get_mut(index) else { return Ok(()) };
        let most = if track.media() == Media::Video { limits.frame_bytes } else { PES_BYTES_MAX };
        let is_too_long = if track.pes_bytes() + payload.len() > most {
            Some(DemuxError::FrameBytes)
        } else if self.partial + payload.len() > limits.partial_bytes {
            Some(DemuxError::PartialBytes)
        } else {
            None
        };
        if let Some(error) = is_too_long {
            self.partial -= track.drop_pes();
            self.counters.damaged_pes += 1;
            return Err(error);
        }
        self.partial += track.append(payload);
        if track.is_whole() {
            self.end_pes(now, index);
        }
        Ok(())
    }

    /// Reads the PES packet in progress of a track.
    fn end_pes(&mut self, now: Instant, index: usize) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        let (taken, pes) = track.take_pes();
        self.partial -= taken;
        match pes {
            Payload::None => {}
            Payload::Damaged => self.counters.damaged_pes += 1,
            Payload::Whole(pes) => {
                let times = pes.header.pts.map(|pts| self.clock.times(pts, pes.header.dts.unwrap_or(pts)));
                track.read(now, pes, times, &mut self.events, &mut self.counters);
            }
        }
    }
}

/// Turns 33-bit ticks into a timeline without end, for all tracks of the program: of all the times that a number can
/// stand for, the one nearest to the last.
#[derive(Clone, Copy, Debug, Default)]
struct TickClock {
    last: Option<i64>,
}

impl TickClock {
    /// Presentation and decoding time.
    fn times(&mut self, pts: i64, dts: i64) -> (Timestamp, Timestamp) {
        let dts = self.last.map_or(dts, |last| last.saturating_add(distance(last, dts)));
        self.last = Some(dts);
        let pts = dts.saturating_add(distance(dts, pts));
        (Timestamp::from_ticks(pts, TIMESCALE), Timestamp::from_ticks(dts, TIMESCALE))
    }
}

/// From one to the other by the shorter way around.
fn distance(from: i64, to: i64) -> i64 {
    let half = TICKS_WRAP / 2;
    (to.wrapping_sub(from).wrapping_add(half)).rem_euclid(TICKS_WRAP) - half
}

/// The header of a packet (ISO/IEC 13818-1, 2.4.3.2), and what matters of its adaptation field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    pid: u16,
    /// A PES packet or a section begins.
    start: bool,
    scrambled: bool,
    continuity: u8,
    discontinuity: bool,
    random_access: bool,
    /// Where the payload begins; behind the end if there is none.
    payload: usize,
}

impl Header {
    /// `None` if it is damaged.
    fn read(packet: &[u8; PACKET_BYTES]) -> Option<Self> {
        let &[_, b1, b2, b3] = packet.first_chunk()?;
        let control = b3 >> 4 & 3;
        if b1 & 0x80 != 0 || control == 0 {
            return None;
        }
        let (mut payload, mut flags) = (4, 0);
        if control & 2 != 0 {
            let &[length, first] = packet.get(4..)?.first_chunk()?;
            payload = 5 + usize::from(length);
            flags = if length > 0 { first } else { 0 };
            if payload > PACKET_BYTES {
                return None;
            }
        }
        Some(Self {
            pid: u16::from_be_bytes([b1, b2]) & 0x1FFF,
            start: b1 & 0x40 != 0,
            scrambled: b3 & 0xC0 != 0,
            continuity: b3 & 0x0F,
            discontinuity: flags & 0x80 != 0,
            random_access: flags & 0x40 != 0,
            payload: if control & 1 != 0 { payload } else { PACKET_BYTES },
        })
    }
}

/// The continuity counter of one PID.
#[derive(Clone, Copy, Debug, Default)]
struct Continuity {
    last: Option<u8>,
    repeated: bool,
}

/// How a packet follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It is the next.
    Here,
    /// It has no payload, and does not count.
    Nothing,
    /// It is the one before, once more.
    Duplicate,
    /// There were others between them.
    Gap,
}

impl Continuity {
    fn next(&mut self, header: &Header) -> Next {
        if header.payload >= PACKET_BYTES {
            return Next::Nothing;
        }
        let last = self.last.replace(header.continuity);
        let Some(last) = last.filter(|_| !header.discontinuity) else { return Next::Here };
        if header.continuity == last && !self.repeated {
            self.repeated = true;
            return Next::Duplicate;
        }
        self.repeated = false;
        if header.continuity == (last + 1) & 0x0F { Next::Here } else { Next::Gap }
    }
}
