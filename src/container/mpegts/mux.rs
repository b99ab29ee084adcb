//! Frames → packets, once for all who get them.

use bytes::Bytes;

use super::pes::{Adaptation, HEADER_BYTES_MAX, PesWriter, header, write_adaptation};
use super::table::{self, push_stream, section_packets, write_section};
use super::{PACKET_BYTES, PID_PAT, TIMESCALE, audio, descriptor, language, opus, stream_type};
use crate::codec::adts::{AdtsError, AdtsFormat};
use crate::codec::annexb::{ByteStream, NalError, ParameterSets};
use crate::limits::{PES_BYTES_MAX, TRACKS_MAX};
use crate::media::{Codec, Frame, FrameFlags, FrameKind, Media, Timestamp, Track, TrackId};

/// Our only program.
const PROGRAM: u16 = 1;
const PID_PMT: u16 = 0x1000;
/// The PID of track 0; the others follow.
const PID_FIRST: u16 = 0x100;
/// The tables are written again after so much time: who joins between two keyframes knows soon what there is.
const TABLES_APART: Timestamp = Timestamp::from_millis(100);
/// So far apart are clock references at most: 100 ms are allowed (ISO/IEC 13818-1, 2.7.2).
const PCR_APART: Timestamp = Timestamp::from_millis(90);
/// So long before it is decoded a frame is there by the clock, in ticks.
const PCR_LEAD: i64 = 9_000;

const _: () = assert!(PID_FIRST as usize + TRACKS_MAX < PID_PMT as usize);

/// Why a frame or a track can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// No track is left whose codec MPEG-TS carries.
    #[error("there is no track that MPEG-TS can carry")]
    NoTrack,
    /// More than [`TRACKS_MAX`], the same one twice, or one whose id is none.
    #[error("track {} is there twice, or is one too many", number(.0))]
    Tracks(TrackId),
    /// The frame is of no track that was told, or of another codec than its track.
    #[error("track {} is not known with this codec", number(.0))]
    UnknownTrack(TrackId),
    /// H.264, H.265, H.266 and AAC can't be written without their decoder configuration record.
    #[error("track {} has no decoder configuration record yet", number(.0))]
    NoConfig(TrackId),
    /// The record or the NAL units are malformed.
    #[error("track {}: {}", number(.0), .1)]
    Nal(TrackId, NalError),
    /// The `AudioSpecificConfig` or the frame fits no ADTS header.
    #[error("track {}: {}", number(.0), .1)]
    Adts(TrackId, AdtsError),
    /// A frame of sound or data longer than a PES packet.
    #[error("a frame of track {} is longer than a PES packet", number(.0))]
    FrameBytes(TrackId),
}

fn number(track: &TrackId) -> u8 {
    track.0
}

/// Writes one program.
///
/// Program association and map stand before each keyframe, at [`Muxer::begin_segment`], and 100 ms after the last ones
/// by the timestamps of the frames: what is cut before a keyframe can be read alone. The clock is that of the first
/// video track, else of the first track. Timestamps are those of the frames, modulo 2³³ ticks.
#[derive(Debug)]
pub struct Muxer {
    /// In the order of their ids.
    tracks: Vec<MuxTrack>,
    /// Index of the track that has the clock.
    clock: usize,
    pat: Vec<u8>,
    pat_continuity: u8,
    /// The map's body, and the section that it is in.
    map: Vec<u8>,
    pmt: Vec<u8>,
    pmt_continuity: u8,
    version: u8,
    /// When the tables were written last; none if they are due.
    tables_at: Option<Timestamp>,
    pcr_at: Option<Timestamp>,
}

#[derive(Debug)]
struct MuxTrack {
    id: TrackId,
    codec: Codec,
    pid: u16,
    continuity: u8,
    language: Option<[u8; 3]>,
    /// Of Opus.
    channel_config: u8,
    /// Of MPEG audio: rates below 32 kHz.
    halved: bool,
    form: Form,
}

/// What a frame needs besides its payload.
#[derive(Debug)]
enum Form {
    /// No decoder configuration record yet.
    Unknown,
    NalUnits(ParameterSets),
    Adts(AdtsFormat),
    Opus,
    Bare,
}

/// A frame's bytes as they go into its PES packet.
enum Payload<'a> {
    NalUnits(ByteStream<'a>),
    Adts([u8; crate::codec::adts::HEADER_BYTES], &'a [u8]),
    Opus(&'a [u8]),
    Bare(&'a [u8]),
}

impl Muxer {
    /// A muxer of these tracks; those that MPEG-TS does not carry are left out.
    ///
    /// # Errors
    /// No track is left, there are too many, or a decoder configuration record is malformed.
    pub fn new(tracks: &[Track]) -> Result<Self, MuxError> {
        let mut muxer = Self {
            tracks: Vec::new(),
            clock: 0,
            pat: table::pat(PROGRAM, PID_PMT),
            pat_continuity: 0x0F,
            map: Vec::new(),
            pmt: Vec::new(),
            pmt_continuity: 0x0F,
            version: 0,
            tables_at: None,
            pcr_at: None,
        };
        muxer.set_tracks(tracks)?;
        Ok(muxer)
    }

    /// Whether frames of this codec are written; all others become nothing.
    #[must_use]
    pub const fn carries(codec: Codec) -> bool {
        matches!(
            codec,
            Codec::H264
                | Codec::H265
                | Codec::H266
                | Codec::Aac
                | Codec::Mp3
                | Codec::Ac3
                | Codec::Eac3
                | Codec::Opus
                | Codec::Id3
                | Codec::Klv
        )
    }

    /// Other tracks than before. The map that stands before the next frame says so, in a new version.
    ///
    /// # Errors
    /// As [`Muxer::new`]; the tracks are those of before then.
    pub fn set_tracks(&mut self, tracks: &[Track]) -> Result<(), MuxError> {
        let mut next: Vec<MuxTrack> = Vec::new();
        for track in tracks.iter().filter(|track| Self::carries(track.codec)) {
            if usize::from(track.id.0) >= TRACKS_MAX || next.iter().any(|other| other.id == track.id) {
                return Err(MuxError::Tracks(track.id));
            }
            let mut new = MuxTrack::new(track)?;
            // The packets of a PID are counted on.
            if let Some(old) = self.tracks.iter().find(|old| old.id == track.id) {
                new.continuity = old.continuity;
                if old.codec == new.codec {
                    new.halved = old.halved;
                }
            }
            next.push(new);
        }
        if next.is_empty() {
            return Err(MuxError::NoTrack);
        }
        next.sort_unstable_by_key(|track| track.id);
        let clock = |media: Media| next.iter().position(|track| track.codec.media() == media);
        self.clock = clock(Media::Video).or_else(|| clock(Media::Audio)).unwrap_or(0);
        self.tracks = next;
        self.pcr_at = None;
        self.make_map();
        Ok(())
    }

    /// The next frame begins with the tables, be it a keyframe or not.
    pub fn begin_segment(&mut self) {
        self.tables_at = None;
    }

    /// The packets of one frame, a multiple of [`PACKET_BYTES`]. A configuration frame is taken in and becomes none, as
    /// does what MPEG-TS does not carry.
    ///
    /// # Errors
    /// See [`MuxError`]; nothing is written of the frame then, and the next one may be.
    pub fn write(&mut self, frame: &Frame) -> Result<Bytes, MuxError> {
        if !Self::carries(frame.codec) || frame.payload.is_empty() {
            return Ok(Bytes::new());
        }
        let known = |track: &MuxTrack| track.id == frame.track && track.codec == frame.codec;
        let index = self.tracks.iter().position(known).ok_or(MuxError::UnknownTrack(frame.track))?;
        let Some(track) = self.tracks.get_mut(index) else { return Ok(Bytes::new()) };
        match (frame.kind, frame.codec.media()) {
            (FrameKind::Config, Media::Video | Media::Audio) => {
                track.configure(&frame.payload)?;
                self.make_map();
                return Ok(Bytes::new());
            }
            (FrameKind::Key | FrameKind::Delta, Media::Video)
            | (FrameKind::Audio, Media::Audio)
            | (_, Media::Data) => {}
            // Colour metadata, channel mappings.
            _ => return Ok(Bytes::new()),
        }
        if frame.codec == Codec::Mp3 && track.halved == audio::is_mpeg1(&frame.payload) {
            track.halved = !track.halved;
            self.make_map();
        }
        self.write_frame(index, frame)
    }

    fn write_frame(&mut self, index: usize, frame: &Frame) -> Result<Bytes, MuxError> {
        let tables = self.tables_are_due(frame);
        let clocked = self.clock == index;
        let pcr_due = self.pcr_at.is_none_or(|at| frame.dts < at || frame.dts - at >= PCR_APART);
        let clock = self.tracks.get(self.clock).map(|track| (track.pid, track.continuity));
        let (Some(track), Some((clock_pid, clock_continuity))) = (self.tracks.get_mut(index), clock) else {
            return Ok(Bytes::new());
        };
        let payload = track.form.payload(track.id, frame)?;
        let bytes = payload.len();
        let video = frame.is_video();
        if !video && bytes + HEADER_BYTES_MAX > PES_BYTES_MAX {
            return Err(MuxError::FrameBytes(track.id));
        }

        let (pts, dts) = (frame.pts.as_ticks(TIMESCALE), frame.dts.as_ticks(TIMESCALE));
        // At the begin of a timeline there is no time before.
        let pcr = Some(if (0..PCR_LEAD).contains(&dts) { 0 } else { dts.saturating_sub(PCR_LEAD) });
        let discontinuity = frame.flags.contains(FrameFlags::DISCONTINUITY);
        let random_access = frame.is_key() || (clocked && !video);
        let adaptation = Adaptation { discontinuity, random_access, pcr: pcr.filter(|_| clocked) };
        // Few pictures, or none for a while: the clock goes on without them.
        let alone = Adaptation { discontinuity, random_access: false, pcr };
        let alone = (pcr_due && !clocked).then_some(alone);
        // Sound and data have one time only.
        let (head, head_bytes) = header(track.stream_id(), bytes, pts, if video { dts } else { pts });

        let before = if tables { section_packets(&self.pat) + section_packets(&self.pmt) } else { 0 };
        let packets = before + usize::from(alone.is_some()) + adaptation.packets(head_bytes + bytes);
        let mut out = Vec::with_capacity(packets * PACKET_BYTES);
        if tables {
            write_section(PID_PAT, &mut self.pat_continuity, &self.pat, &mut out);
            write_section(PID_PMT, &mut self.pmt_continuity, &self.pmt, &mut out);
            self.tables_at = Some(frame.dts);
        }
        if let Some(alone) = alone {
            write_adaptation(clock_pid, clock_continuity, alone, &mut out);
        }
        if clocked || alone.is_some() {
            self.pcr_at = Some(frame.dts);
        }
        let mut pes = PesWriter::new(&mut out, track.pid, &mut track.continuity, adaptation, head_bytes + bytes);
        pes.put(head.get(..head_bytes).unwrap_or_default());
        payload.write(|part| pes.put(part));
        Ok(out.into())
    }

    fn tables_are_due(&self, frame: &Frame) -> bool {
        frame.is_key() || self.tables_at.is_none_or(|at| frame.dts < at || frame.dts - at >= TABLES_APART)
    }

    /// Makes the map anew; another one gets another version.
    fn make_map(&mut self) {
        let pcr_pid = self.tracks.get(self.clock).map_or(PID_FIRST, |track| track.pid);
        let mut program = Vec::new();
        if self.tracks.iter().any(|track| track.codec == Codec::Id3) {
            // Apple, "Timed Metadata for HTTP Live Streaming", 2.3.3: a metadata_pointer_descriptor.
            program.extend([descriptor::METADATA_POINTER, 15]);
            program.extend(b"\xFF\xFFID3 \xFFID3 \x00\x1F");
            program.extend(PROGRAM.to_be_bytes());
        }
        let mut body = (0xE000 | pcr_pid).to_be_bytes().to_vec();
        body.extend((0xF000 | u16::try_from(program.len()).unwrap_or(0)).to_be_bytes());
        body.extend(program);
        for track in &self.tracks {
            push_stream(track.stream_type(), track.pid, &track.descriptors(), &mut body);
        }
        if body == self.map {
            return;
        }
        if !self.map.is_empty() {
            self.version = (self.version + 1) & 0x1F;
        }
        self.pmt = table::pmt(PROGRAM, self.version, &body);
        self.map = body;
        self.tables_at = None;
    }
}

impl MuxTrack {
    fn new(track: &Track) -> Result<Self, MuxError> {
        let mut new = Self {
            id: track.id,
            codec: track.codec,
            pid: PID_FIRST + u16::from(track.id.0),
            // The first packet has 0.
            continuity: 0x0F,
            language: track.language.as_deref().and_then(language::to_iso_639_2),
            channel_config: opus::channel_config(&track.config),
            halved: false,
            form: match track.codec {
                Codec::H264 | Codec::H265 | Codec::H266 | Codec::Aac => Form::Unknown,
                Codec::Opus => Form::Opus,
                _ => Form::Bare,
            },
        };
        if !track.config.is_empty() {
            new.configure(&track.config)?;
        }
        Ok(new)
    }

    fn configure(&mut self, config: &Bytes) -> Result<(), MuxError> {
        match self.codec {
            Codec::H264 | Codec::H265 | Codec::H266 => {
                let sets = ParameterSets::from_config(self.codec, config);
                self.form = Form::NalUnits(sets.map_err(|error| MuxError::Nal(self.id, error))?);
            }
            Codec::Aac => {
                self.form =
                    Form::Adts(AdtsFormat::from_config(config).map_err(|error| MuxError::Adts(self.id, error))?);
            }
            Codec::Opus => self.channel_config = opus::channel_config(config),
            _ => {}
        }
        Ok(())
    }

    fn stream_type(&self) -> u8 {
        match self.codec {
            Codec::H264 => stream_type::H264,
            Codec::H265 => stream_type::H265,
            Codec::H266 => stream_type::H266,
            Codec::Aac => stream_type::AAC_ADTS,
            Codec::Mp3 if self.halved => stream_type::MPEG2_AUDIO,
            Codec::Mp3 => stream_type::MPEG1_AUDIO,
            Codec::Ac3 => stream_type::AC3,
            Codec::Eac3 => stream_type::EAC3,
            Codec::Id3 => stream_type::METADATA,
            _ => stream_type::PRIVATE_DATA,
        }
    }

    fn stream_id(&self) -> u8 {
        match self.codec {
            Codec::H264 | Codec::H265 | Codec::H266 => 0xE0,
            Codec::Aac | Codec::Mp3 => 0xC0,
            // Private stream 1.
            _ => 0xBD,
        }
    }

    fn descriptors(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let registered = match self.codec {
            Codec::H265 => &b"HEVC"[..],
            Codec::Ac3 => &b"AC-3"[..],
            Codec::Eac3 => &b"EAC3"[..],
            Codec::Opus => &b"Opus"[..],
            Codec::Klv => &b"KLVA"[..],
            _ => &[],
        };
        if !registered.is_empty() {
            out.extend([descriptor::REGISTRATION, 4]);
            out.extend(registered);
        }
        match self.codec {
            Codec::Opus => {
                out.extend([descriptor::DVB_EXTENSION, 2, descriptor::EXTENSION_OPUS, self.channel_config]);
            }
            // Apple, "Timed Metadata for HTTP Live Streaming", 2.3.4.
            Codec::Id3 => {
                out.extend([descriptor::METADATA, 13]);
                out.extend(b"\xFF\xFFID3 \xFFID3 \x00\x0F");
            }
            _ => {}
        }
        if let Some([a, b, c]) = self.language {
            out.extend([descriptor::ISO_639_LANGUAGE, 4, a, b, c, 0]);
        }
        out
    }
}

impl Form {
    fn payload<'a>(&'a self, track: TrackId, frame: &'a Frame) -> Result<Payload<'a>, MuxError> {
        let payload = &frame.payload;
        Ok(match self {
            Self::Unknown => return Err(MuxError::NoConfig(track)),
            Self::NalUnits(sets) => {
                let stream = sets.byte_stream(payload, frame.is_key());
                Payload::NalUnits(stream.map_err(|error| MuxError::Nal(track, error))?)
            }
            Self::Adts(format) => {
                let header = format.header(payload.len()).map_err(|error| MuxError::Adts(track, error))?;
                Payload::Adts(header, payload)
            }
            Self::Opus => Payload::Opus(payload),
            Self::Bare => Payload::Bare(payload),
        })
    }
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Self::NalUnits(stream) => stream.len(),
            Self::Adts(header, payload) => header.len() + payload.len(),
            Self::Opus(payload) => opus::control_header_bytes(payload.len()) + payload.len(),
            Self::Bare(payload) => payload.len(),
        }
    }

    fn write(&self, mut put: impl FnMut(&[u8])) {
        match self {
            Self::NalUnits(stream) => stream.write(put),
            Self::Adts(header, payload) => {
                put(header);
                put(payload);
            }
            Self::Opus(payload) => {
                opus::write_control_header(payload.len(), &mut put);
                put(payload);
            }
            Self::Bare(payload) => put(payload),
        }
    }
}
