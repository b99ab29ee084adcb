//! Tracks of a stream, and the muxer of one segment.

use bytes::Bytes;

use super::ContainerFormat;
use crate::codec::{Description, has_record, record_of_frame};
use crate::container::flv::{Writer, file_header};
use crate::container::fmp4::{Head, Muxer as Fmp4Muxer, Run};
use crate::container::mpegts::Muxer as TsMuxer;
use crate::limits::TRACKS_MAX;
use crate::media::{Codec, Frame, FrameKind, Media, Timestamp, Track, TrackId};

/// What is known of the tracks so far.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    list: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    id: TrackId,
    codec: Codec,
    /// Its configuration in force; of metadata the last one.
    config: Option<Frame>,
    /// The first frame at which a decoder can start: some codecs say there what they are.
    first: Option<Bytes>,
    /// Decode time of the last frame.
    last: Option<Timestamp>,
}

/// What a configuration or a frame changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// What was a track before is something else from here on.
    Changed,
    /// A track that had frames already is known only now.
    Told,
    /// There are more tracks than can be.
    TooMany,
}

impl Tracks {
    pub(super) fn configure(&mut self, config: &Frame) -> Change {
        let Some(known) = self.known(config) else { return Change::TooMany };
        let before = known.config.replace(config.clone());
        if known.codec != config.codec {
            *known = Known { config: known.config.take(), ..Known::new(config) };
            return Change::Changed;
        }
        if before.is_none() && known.last.is_some() && has_record(known.codec) {
            return Change::Told;
        }
        let other = before.is_some_and(|before| before.payload != config.payload);
        if other && config.codec.media() != Media::Data {
            known.first = None;
            return Change::Changed;
        }
        Change::None
    }

    pub(super) fn see(&mut self, frame: &Frame) -> Change {
        let Some(known) = self.known(frame) else { return Change::TooMany };
        let changed = known.codec != frame.codec;
        if changed {
            *known = Known::new(frame);
        }
        if known.first.is_none() && matches!(frame.kind, FrameKind::Key | FrameKind::Audio) {
            // Kept only where it says what the record does not: it pins the buffer that it is in.
            let told = known.config.is_some() && !matches!(frame.codec, Codec::Vp8 | Codec::Vp9);
            known.first = (!told).then(|| frame.payload.clone());
        }
        if changed { Change::Changed } else { Change::None }
    }

    /// The entry of a frame's track, new if it must be.
    fn known(&mut self, frame: &Frame) -> Option<&mut Known> {
        let at = self.list.iter().position(|known| known.id == frame.track).unwrap_or(self.list.len());
        if at == self.list.len() && at < TRACKS_MAX {
            self.list.push(Known::new(frame));
        }
        self.list.get_mut(at)
    }

    /// A decoder can start at this frame: of a stream with pictures, with those of its first track.
    pub(super) fn is_start(&self, frame: &Frame) -> bool {
        let video = |known: &&Known| known.codec.media() == Media::Video;
        match self.list.iter().filter(video).map(|known| known.id).min() {
            Some(video) => frame.is_key() && frame.track == video,
            None => frame.kind == FrameKind::Audio,
        }
    }

    pub(super) fn last(&self, track: TrackId) -> Option<Timestamp> {
        self.list.iter().find(|known| known.id == track)?.last
    }

    pub(super) fn set_last(&mut self, frame: &Frame) {
        if let Some(known) = self.known(frame) {
            known.last = Some(frame.dts);
        }
    }

    /// Their codec strings, as far as they are known.
    pub(super) fn codec_strings(&self) -> Vec<String> {
        self.list.iter().filter_map(Known::codec_string).collect()
    }

    /// Time begins anew.
    pub(super) fn forget_times(&mut self) {
        self.list.iter_mut().for_each(|known| known.last = None);
    }
}

impl Known {
    const fn new(frame: &Frame) -> Self {
        Self { id: frame.track, codec: frame.codec, config: None, first: None, last: None }
    }

    fn track(&self) -> Track {
        let mut config = self.config.as_ref().map(|config| config.payload.clone()).unwrap_or_default();
        if let (true, Some(first)) = (config.is_empty() && has_record(self.codec), &self.first) {
            config = record_of_frame(self.codec, first).unwrap_or_default();
        }
        let described = Description::read(self.codec, &config, self.first.as_deref()).ok();
        Track {
            id: self.id,
            codec: self.codec,
            timescale: described.as_ref().and_then(|it| it.sample_rate).unwrap_or(1000),
            config,
            size: described.as_ref().and_then(|it| it.size),
            channels: described.as_ref().and_then(|it| it.channels),
            language: None,
        }
    }

    fn codec_string(&self) -> Option<String> {
        let track = self.track();
        Description::read(self.codec, &track.config, self.first.as_deref()).ok().map(|it| it.codec_string)
    }
}

/// The muxer of one segment.
#[derive(Debug)]
pub(super) struct SegmentMuxer {
    mux: Mux,
    carried: Vec<TrackId>,
    /// The codec strings of the tracks that are carried, as far as they are known.
    pub(super) codecs: Vec<String>,
    /// What stands before the first fragment; taken with it.
    header: Vec<Bytes>,
}

#[derive(Debug)]
enum Mux {
    Fmp4(Fmp4Muxer),
    MpegTs(TsMuxer),
    /// With the time that is 0 in the file.
    Flv(Writer, Timestamp),
}

/// A fragment as it goes to storage.
#[derive(Debug)]
pub(super) struct Muxed {
    pub(super) pieces: Vec<Bytes>,
    /// Frames in it.
    pub(super) frames: u64,
    /// Frames for which the container has no place.
    pub(super) unwritable: u64,
}

impl SegmentMuxer {
    /// For a segment that begins with these frames. None if the container carries none of the tracks.
    pub(super) fn new(format: ContainerFormat, tracks: &Tracks, frames: &[Frame]) -> Option<Self> {
        let origin = frames.iter().map(|frame| frame.dts).min()?;
        let takes = |known: &&Known| match format {
            ContainerFormat::Fmp4 => Fmp4Muxer::new(&[known.track()]).is_ok(),
            ContainerFormat::MpegTs => TsMuxer::carries(known.codec) && TsMuxer::new(&[known.track()]).is_ok(),
            ContainerFormat::Flv => flv_carries(known),
        };
        let carried: Vec<&Known> = tracks.list.iter().filter(takes).collect();
        let list: Vec<Track> = carried.iter().map(|known| known.track()).collect();
        let has = |media: Media| list.iter().any(|track| track.codec.media() == media);
        if !has(Media::Video) && !has(Media::Audio) {
            return None;
        }
        let (mux, header) = match format {
            ContainerFormat::Fmp4 => {
                let muxer = Fmp4Muxer::new(&list).ok()?.starting_at(origin);
                let init = muxer.init();
                (Mux::Fmp4(muxer), vec![init])
            }
            ContainerFormat::MpegTs => (Mux::MpegTs(TsMuxer::new(&list).ok()?), Vec::new()),
            ContainerFormat::Flv => {
                let mut writer = Writer::new(true);
                let begin = file_header(has(Media::Video), has(Media::Audio));
                let mut header = vec![Bytes::copy_from_slice(&begin)];
                // Metadata first, as players want it.
                let mut configs: Vec<&Frame> = carried.iter().filter_map(|known| known.config.as_ref()).collect();
                configs.sort_by_key(|config| config.codec.media() != Media::Data);
                for config in configs {
                    let config = Frame { dts: Timestamp::ZERO, pts: Timestamp::ZERO, ..config.clone() };
                    header.extend(writer.write(&config).map(|tag| tag.to_bytes()));
                }
                (Mux::Flv(writer, origin), header)
            }
        };
        let codecs = carried.iter().filter_map(|known| known.codec_string()).collect();
        Some(Self { mux, carried: carried.iter().map(|known| known.id).collect(), codecs, header })
    }

    pub(super) fn carries(&self, track: TrackId) -> bool {
        self.carried.contains(&track)
    }

    /// Writes one fragment. `next` is the frame behind it, if that is of the same timeline. None if none of it can be
    /// written.
    pub(super) fn fragment(&mut self, frames: &[Frame], next: Option<&Frame>) -> Option<Muxed> {
        let carried = &self.carried;
        let of = |track: TrackId| frames.iter().filter(move |frame| frame.track == track);
        let all = carried.iter().map(|track| of(*track).count() as u64).sum();
        let mut muxed = Muxed { pieces: std::mem::take(&mut self.header), frames: 0, unwritable: 0 };
        match &mut self.mux {
            Mux::Fmp4(muxer) => {
                let lists: Vec<(TrackId, Vec<Frame>)> =
                    carried.iter().map(|track| (*track, of(*track).cloned().collect())).collect();
                let end = |track: TrackId| next.filter(|next| next.track == track).map(|next| next.dts);
                let runs: Vec<Run<'_>> =
                    lists.iter().map(|(track, frames)| Run { track: *track, frames, end: end(*track) }).collect();
                let Ok(fragment) = muxer.fragment(&runs, Head::default()) else {
                    self.header = muxed.pieces;
                    return None;
                };
                muxed.frames = fragment.payloads.len() as u64;
                muxed.pieces.extend(fragment.slices().cloned());
            }
            Mux::MpegTs(muxer) => {
                for frame in frames.iter().filter(|frame| carried.contains(&frame.track)) {
                    if let Ok(packets) = muxer.write(frame)
                        && !packets.is_empty()
                    {
                        muxed.frames += 1;
                        muxed.pieces.push(packets);
                    }
                }
            }
            Mux::Flv(writer, origin) => {
                for frame in frames.iter().filter(|frame| carried.contains(&frame.track)) {
                    let moved = Frame { dts: frame.dts - *origin, pts: frame.pts - *origin, ..frame.clone() };
                    if let Some(tag) = writer.write(&moved) {
                        muxed.frames += 1;
                        muxed.pieces.extend([
                            Bytes::copy_from_slice(tag.head()),
                            tag.payload.clone(),
                            Bytes::copy_from_slice(&tag.length),
                        ]);
                    }
                }
            }
        }
        muxed.unwritable = u64::saturating_sub(all, muxed.frames);
        Some(muxed)
    }
}

/// FLV has a tag for all that has a frame: of a codec that needs a record, only with it.
fn flv_carries(known: &Known) -> bool {
    let needed = matches!(known.codec, Codec::H264 | Codec::H265 | Codec::H266 | Codec::Aac);
    if needed && known.config.is_none() {
        return false;
    }
    let kind = match known.codec.media() {
        Media::Video => FrameKind::Key,
        Media::Audio => FrameKind::Audio,
        Media::Data => FrameKind::Data,
    };
    let frame = Frame { kind, ..Frame::audio(known.codec, Timestamp::ZERO, Bytes::from_static(&[0])) };
    Writer::new(true).write(&frame.on_track(known.id)).is_some()
}
