//! One elementary stream: PES packets → frames.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::super::audio::{self, Found};
use super::super::pes::PesHeader;
use super::super::table::MapStream;
use super::super::{TIMESCALE, opus};
use super::{Continuity, DemuxCounters, Event};
use crate::clock::Instant;
use crate::codec::annexb::ByteStreamReader;
use crate::limits::AUDIO_GAP_BYTES_MAX;
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Media, NalFormat, Timestamp, Track, TrackId};

/// An elementary stream of the program.
#[derive(Debug)]
pub(super) struct Elementary {
    pub(super) pid: u16,
    pub(super) continuity: Continuity,
    /// Time jumps before the next PES packet.
    pub(super) jump: bool,
    /// Time jumps before the next frame.
    discontinuity: bool,
    track: Track,
    /// [`Event::Track`] was given.
    told: bool,
    /// The PES packet in progress, header included.
    pes: BytesMut,
    gathering: bool,
    /// The random access indicator of the packet that it began in.
    random_access: bool,
    /// Its payloads have metadata cells around them.
    cells: bool,
    /// Of H.264 and H.265.
    nal: Option<(ByteStreamReader, Option<NalFormat>)>,
    /// Sound whose frame is not whole: less than a frame.
    rest: Bytes,
    /// When the next frame of sound begins that no timestamp stands for.
    next: Option<Timestamp>,
}

/// A PES packet.
#[derive(Debug)]
pub(super) struct Pes {
    pub(super) header: PesHeader,
    payload: Bytes,
}

/// What was gathered.
#[derive(Debug)]
pub(super) enum Payload {
    /// Nothing.
    None,
    /// It was cut short, or it is no PES packet.
    Damaged,
    Whole(Pes),
}

impl Elementary {
    pub(super) fn new(id: TrackId, stream: &MapStream) -> Self {
        let track = Track {
            id,
            codec: stream.codec,
            timescale: TIMESCALE,
            config: stream.config.clone(),
            size: None,
            channels: if stream.codec == Codec::Opus { stream.config.get(9).copied() } else { None },
            language: stream.language.clone(),
        };
        Self {
            pid: stream.pid,
            continuity: Continuity::default(),
            jump: false,
            discontinuity: false,
            track,
            told: false,
            pes: BytesMut::new(),
            gathering: false,
            random_access: false,
            cells: stream.cells,
            nal: ByteStreamReader::new(stream.codec).ok().map(|reader| (reader, None)),
            rest: Bytes::new(),
            next: None,
        }
    }

    pub(super) fn id(&self) -> TrackId {
        self.track.id
    }

    pub(super) fn media(&self) -> Media {
        self.track.codec.media()
    }

    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// Whether it is this one of a map.
    pub(super) fn is_of(&self, stream: &MapStream) -> bool {
        let same_config = self.track.codec != Codec::Opus || self.track.config == stream.config;
        (self.pid, self.track.codec, self.cells) == (stream.pid, stream.codec, stream.cells) && same_config
    }

    /// A new map may say something else of it.
    pub(super) fn describe(&mut self, stream: &MapStream, events: &mut VecDeque<Event>) {
        if self.track.language != stream.language {
            self.track.language.clone_from(&stream.language);
            if self.told {
                self.tell(events);
            }
        }
    }

    pub(super) fn begin_pes(&mut self, random_access: bool) {
        self.gathering = true;
        self.discontinuity |= std::mem::take(&mut self.jump);
        self.random_access = random_access;
    }

    /// Appends to the PES packet in progress; says how many bytes.
    pub(super) fn append(&mut self, payload: &[u8]) -> usize {
        if !self.gathering {
            return 0;
        }
        self.pes.extend_from_slice(payload);
        payload.len()
    }

    pub(super) fn pes_bytes(&self) -> usize {
        self.pes.len()
    }

    /// Whether it says how long it is, and is.
    pub(super) fn is_whole(&self) -> bool {
        PesHeader::bytes(&self.pes).is_some_and(|bytes| self.pes.len() >= bytes)
    }

    /// Drops the PES packet in progress; says how many bytes.
    pub(super) fn drop_pes(&mut self) -> usize {
        let bytes = self.pes.len();
        self.pes = BytesMut::new();
        self.gathering = false;
        // The frame of sound that it would have gone on with is lost, too, and so is the time.
        self.rest = Bytes::new();
        self.next = None;
        bytes
    }

    /// Takes the PES packet in progress, and how many bytes were gathered.
    pub(super) fn take_pes(&mut self) -> (usize, Payload) {
        let gathered = self.pes.len();
        if !std::mem::take(&mut self.gathering) || gathered == 0 {
            return (gathered, Payload::None);
        }
        let mut bytes = self.pes.split().freeze();
        match PesHeader::bytes(&bytes) {
            Some(announced) if announced > bytes.len() => return (gathered, Payload::Damaged),
            Some(announced) => bytes.truncate(announced),
            None => {}
        }
        let pes = PesHeader::read(&bytes).map_or(Payload::Damaged, |header| {
            Payload::Whole(Pes { header, payload: bytes.slice(header.payload..) })
        });
        (gathered, pes)
    }

    /// Reads the frames of a PES packet; `times` are of presentation and of decoding.
    pub(super) fn read(
        &mut self,
        now: Instant,
        pes: Pes,
        times: Option<(Timestamp, Timestamp)>,
        events: &mut VecDeque<Event>,
        counters: &mut DemuxCounters,
    ) {
        let mut out = Out { now, events, counters };
        match (self.media(), self.track.codec, times) {
            (Media::Audio, Codec::Opus, _) => self.opus(&pes.payload, times.map(|(pts, _)| pts), &mut out),
            (Media::Audio, ..) => self.sound(pes.payload, times.map(|(pts, _)| pts), &mut out),
            (_, _, None) => out.counters.untimed += 1,
            (Media::Video, _, Some(times)) => self.picture(&pes.payload, times, &mut out),
            (Media::Data, _, Some((pts, _))) => self.data(&pes.payload, pts, &mut out),
        }
    }

    /// Bytes of a frame that is not whole.
    pub(super) fn held_bytes(&self) -> usize {
        self.rest.len()
    }

    fn picture(&mut self, payload: &[u8], (pts, dts): (Timestamp, Timestamp), out: &mut Out<'_>) {
        let Some((reader, format)) = &mut self.nal else { return };
        let Ok(unit) = reader.read(payload) else {
            out.counters.bad_frames += 1;
            return;
        };
        if unit.new_config {
            self.track.config = reader.config().clone();
            self.track.size = reader.size();
            *format = NalFormat::from_config(self.track.codec, &self.track.config);
            self.tell(out.events);
            self.config(dts, out);
        }
        // Nobody could decode what comes before the first parameter sets.
        if unit.payload.is_empty() || !self.told {
            return;
        }
        // Open GOPs have no IDR picture at all; whoever made them says where one may start.
        let key = unit.random_access || (self.random_access && unit.has_sps);
        let format = self.nal.as_ref().and_then(|(_, format)| *format);
        let disposable = !key && format.is_some_and(|format| format.is_disposable(&unit.payload));
        let kind = if key { FrameKind::Key } else { FrameKind::Delta };
        let flags = if disposable { FrameFlags::DISPOSABLE } else { FrameFlags::default() };
        self.frame(unit.payload, kind, flags, (pts, dts), out);
    }

    /// Sound whose frames tell their length: they may begin and end anywhere in PES packets. A timestamp is that of
    /// the first frame which begins in its packet.
    fn sound(&mut self, payload: Bytes, pts: Option<Timestamp>, out: &mut Out<'_>) {
        let old = self.rest.len();
        let mut rest = if old == 0 { payload } else { [&self.rest[..], &payload].concat().into() };
        let (mut at, mut pts, mut gap) = (0, pts, 0);
        // Each step is at least a byte further on.
        while !rest.is_empty() {
            if at >= old
                && let Some(pts) = pts.take()
            {
                self.next = Some(pts);
            }
            let frame = match audio::find(self.track.codec, &rest) {
                Found::Frame(frame) if frame.frame_bytes > rest.len() => break,
                Found::Frame(frame) => frame,
                Found::TooShort => break,
                Found::Nothing => {
                    // Looked for the next one, a byte at a time.
                    out.counters.bad_frames += u64::from(gap == 0);
                    gap += 1;
                    if gap > AUDIO_GAP_BYTES_MAX {
                        rest.clear();
                        break;
                    }
                    at += 1;
                    rest = rest.slice(1..);
                    continue;
                }
            };
            gap = 0;
            let bytes = rest.split_to(frame.frame_bytes);
            at += frame.frame_bytes;
            // What comes before the first timestamp has no place.
            let Some(time) = self.next else { continue };
            self.next = Some(after(time, frame.samples, frame.sample_rate));
            let new_config = frame.config.as_ref().is_some_and(|config| *config != self.track.config);
            if let Some(config) = frame.config.filter(|_| new_config) {
                self.track.config = config;
            }
            if new_config || !self.told || self.track.channels != frame.channels {
                self.track.channels = frame.channels;
                self.tell(out.events);
            }
            if new_config {
                self.config(time, out);
            }
            let payload = bytes.slice(frame.header_bytes..);
            if !payload.is_empty() {
                self.frame(payload, FrameKind::Audio, FrameFlags::default(), (time, time), out);
            }
        }
        // A copy of its own: the payloads before it need not stay for its sake.
        self.rest = Bytes::copy_from_slice(&rest);
    }

    fn opus(&mut self, payload: &Bytes, pts: Option<Timestamp>, out: &mut Out<'_>) {
        self.next = pts.or(self.next);
        let mut rest = payload.clone();
        // Each step takes a control header off at least.
        while !rest.is_empty() {
            let Some((start, end)) = opus::packet(&rest) else {
                out.counters.bad_frames += 1;
                return;
            };
            let packet = rest.split_to(end).slice(start..);
            let Some(time) = self.next else { continue };
            self.next = Some(after(time, opus::samples(&packet), 48_000));
            if !self.told {
                self.tell(out.events);
                self.config(time, out);
            }
            self.frame(packet, FrameKind::Audio, FrameFlags::default(), (time, time), out);
        }
    }

    fn data(&mut self, payload: &Bytes, pts: Timestamp, out: &mut Out<'_>) {
        if !self.told {
            self.tell(out.events);
        }
        let mut rest = payload.clone();
        while !rest.is_empty() {
            let unit = if self.cells {
                // Metadata_AU_cell: service, number, flags, length (ISO/IEC 13818-1, 2.12.4).
                let Some(&[_, _, _, l1, l0]) = rest.first_chunk() else { break };
                let end = 5 + usize::from(u16::from_be_bytes([l1, l0]));
                if end > rest.len() {
                    out.counters.bad_frames += 1;
                    break;
                }
                rest.split_to(end).slice(5..)
            } else {
                rest.split_to(rest.len())
            };
            if !unit.is_empty() {
                self.frame(unit, FrameKind::Data, FrameFlags::default(), (pts, pts), out);
            }
        }
    }

    fn tell(&mut self, events: &mut VecDeque<Event>) {
        self.told = true;
        events.push_back(Event::Track(Box::new(self.track.clone())));
    }

    fn config(&mut self, at: Timestamp, out: &mut Out<'_>) {
        let frame = Frame { origin: out.now, ..Frame::config(self.track.codec, at, self.track.config.clone()) };
        out.events.push_back(Event::Frame(frame.on_track(self.track.id)));
    }

    fn frame(
        &mut self,
        payload: Bytes,
        kind: FrameKind,
        mut flags: FrameFlags,
        (pts, dts): (Timestamp, Timestamp),
        out: &mut Out<'_>,
    ) {
        if std::mem::take(&mut self.discontinuity) {
            flags = flags.union(FrameFlags::DISCONTINUITY);
        }
        let (track, codec) = (self.track.id, self.track.codec);
        out.events.push_back(Event::Frame(Frame { payload, pts, dts, origin: out.now, track, kind, codec, flags }));
    }
}

/// Where frames go.
struct Out<'a> {
    now: Instant,
    events: &'a mut VecDeque<Event>,
    counters: &'a mut DemuxCounters,
}

fn after(time: Timestamp, samples: u32, sample_rate: u32) -> Timestamp {
    time + Timestamp::from_ticks(samples.into(), sample_rate)
}
