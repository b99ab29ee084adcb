//! A file as it comes → tags → tracks and frames.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{AUDIO, Assembler, FILE_HEADER_BYTES, FlvError, Made, SCRIPT, TAG_HEADER_BYTES, VIDEO};
use crate::clock::Instant;
use crate::limits::FLV_HEADER_BYTES_MAX;
use crate::media::{Frame, FrameKind, Media, Track, TrackId};

/// A tag, its body as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`AUDIO`], [`VIDEO`], [`SCRIPT`], or a type that no specification has.
    pub kind: u8,
    /// In milliseconds, modulo 2³².
    pub timestamp: u32,
    /// What is behind the header.
    pub body: Bytes,
    /// Where the body begins in the file.
    pub at: u64,
}

/// Cuts a file into tags. A tag that comes whole is a slice of what was pushed.
#[derive(Debug, Default)]
pub struct TagReader {
    input: Bytes,
    /// The begin of what is awaited: grows as bytes come.
    partial: BytesMut,
    awaited: Awaited,
    at: u64,
}

/// What comes next in the file.
#[derive(Clone, Copy, Debug, Default)]
enum Awaited {
    #[default]
    FileHeader,
    /// So many bytes of a longer file header.
    MoreHeader(usize),
    /// Length of the tag before, and header.
    TagHeader,
    /// Type, timestamp, bytes.
    Body(u8, u32, usize),
}

impl TagReader {
    /// Takes the next bytes. Then [`TagReader::next_tag`] is called until there is none.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            self.input = [&self.input[..], &bytes].concat().into();
        }
    }

    /// The next tag that is whole.
    ///
    /// # Errors
    /// The bytes are no FLV file; more of them does not help.
    pub fn next_tag(&mut self) -> Result<Option<Tag>, FlvError> {
        loop {
            match self.awaited {
                Awaited::FileHeader => {
                    let Some(header) = self.take(FILE_HEADER_BYTES) else { return Ok(None) };
                    let place = header.get(5..).map_or(0, |mut place| place.get_u32());
                    let more = usize::try_from(place).ok().and_then(|place| place.checked_sub(FILE_HEADER_BYTES));
                    let more = more.filter(|more| *more <= FLV_HEADER_BYTES_MAX && header.starts_with(b"FLV\x01"));
                    self.awaited = Awaited::MoreHeader(more.ok_or(FlvError::Header)?);
                }
                Awaited::MoreHeader(bytes) => {
                    if self.take(bytes).is_none() {
                        return Ok(None);
                    }
                    self.awaited = Awaited::TagHeader;
                }
                Awaited::TagHeader => {
                    let Some(mut header) = self.take(4 + TAG_HEADER_BYTES) else { return Ok(None) };
                    // Each tag stands behind the length of the one before.
                    header.advance(4);
                    let Some(&[kind, s2, s1, s0, t2, t1, t0, t3, ..]) = header.first_chunk::<TAG_HEADER_BYTES>()
                    else {
                        return Ok(None);
                    };
                    let bytes = usize::try_from(u32::from_be_bytes([0, s2, s1, s0])).unwrap_or(usize::MAX);
                    self.awaited = Awaited::Body(kind & 0x1F, u32::from_be_bytes([t3, t2, t1, t0]), bytes);
                }
                Awaited::Body(kind, timestamp, bytes) => {
                    let at = self.at;
                    let Some(body) = self.take(bytes) else { return Ok(None) };
                    self.awaited = Awaited::TagHeader;
                    return Ok(Some(Tag { kind, timestamp, body, at }));
                }
            }
        }
    }

    /// Whether the header of the file was read.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(self.awaited, Awaited::TagHeader | Awaited::Body(..))
    }

    /// Bytes of a tag that is not whole.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.input.len() + self.partial.len()
    }

    /// So many bytes, if they are all there.
    fn take(&mut self, bytes: usize) -> Option<Bytes> {
        let taken = if self.partial.is_empty() && self.input.len() >= bytes {
            self.input.split_to(bytes)
        } else {
            let missing = bytes.saturating_sub(self.partial.len()).min(self.input.len());
            self.partial.extend_from_slice(&self.input.split_to(missing));
            if self.partial.len() < bytes {
                return None;
            }
            self.partial.split().freeze()
        };
        self.at += bytes as u64;
        Some(taken)
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A track begins, or has another codec or configuration than before; the latter follows as a frame.
    Track(Box<Track>),
    /// A frame of a track that was told.
    Frame(Frame),
}

/// Reads tracks and frames. Script data is not looked into beyond its name.
#[derive(Debug, Default)]
pub struct Reader {
    tags: TagReader,
    assembler: Assembler,
    /// [`TRACKS_MAX`](crate::limits::TRACKS_MAX) at most, as the assembler has no more.
    tracks: Vec<Track>,
    events: VecDeque<Event>,
}

impl Reader {
    /// Takes the next bytes. Then [`Reader::poll`] is drained.
    pub fn push(&mut self, bytes: Bytes) {
        self.tags.push(bytes);
    }

    /// The next thing that was read, until `None`; `now` becomes the origin of the frames.
    ///
    /// # Errors
    /// The bytes are no FLV file, or the tag is malformed or of a codec that is not read: whoever goes on gets what
    /// comes behind it.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Event>, FlvError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(tag) = self.tags.next_tag()? else { return Ok(None) };
            self.read(now, tag)?;
        }
    }

    /// Bytes of a tag that is not whole.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.tags.held_bytes()
    }

    fn read(&mut self, now: Instant, tag: Tag) -> Result<(), FlvError> {
        let media = match tag.kind {
            _ if tag.body.is_empty() => return Ok(()),
            AUDIO => Media::Audio,
            VIDEO => Media::Video,
            SCRIPT => {
                if let Some((kind, payload)) = script(tag.body) {
                    let frame = self.assembler.script(now, kind, tag.timestamp, payload)?;
                    told(frame, &mut self.tracks, &mut self.events);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Self { assembler, tracks, events, .. } = self;
        assembler.media(now, media, tag.timestamp, tag.body, &mut |made| {
            if let Made::Frame(frame) = made {
                told(frame, tracks, events);
            }
        })
    }
}

/// Gives a frame, behind its track where that is new or other than before.
fn told(frame: Frame, tracks: &mut Vec<Track>, events: &mut VecDeque<Event>) {
    let index = tracks.iter().position(|track| track.id == frame.track);
    let known = index.and_then(|index| tracks.get(index)).filter(|track| track.codec == frame.codec);
    let config = if frame.kind == FrameKind::Config { Some(&frame.payload) } else { None };
    if known.is_none_or(|track| config.is_some_and(|config| *config != track.config)) {
        let track = new_track(frame.track, &frame, config.cloned().unwrap_or_default());
        events.push_back(Event::Track(Box::new(track.clone())));
        match index.and_then(|index| tracks.get_mut(index)) {
            Some(place) => *place = track,
            None => tracks.push(track),
        }
    }
    events.push_back(Event::Frame(frame));
}

fn new_track(id: TrackId, frame: &Frame, config: Bytes) -> Track {
    Track { id, codec: frame.codec, timescale: 1000, config, size: None, channels: None, language: None }
}

/// What script data is, by its name (AMF 0, 2.4: a string), and without `@setDataFrame` before it; `None` for what only
/// a client or a server says.
fn script(mut body: Bytes) -> Option<(FrameKind, Bytes)> {
    let name = |body: &Bytes| -> Option<Bytes> {
        let Some(&[2, l1, l0]) = body.first_chunk() else { return None };
        let end = 3 + usize::from(u16::from_be_bytes([l1, l0]));
        (end <= body.len()).then(|| body.slice(3..end))
    };
    let mut first = name(&body)?;
    if *first == *b"@setDataFrame" {
        body.advance(3 + first.len());
        first = name(&body)?;
    }
    match first.first() {
        Some(b'@' | b'|') => None,
        _ if *first == *b"onMetaData" => Some((FrameKind::Config, body)),
        _ => Some((FrameKind::Data, body)),
    }
}
