//! Streams to be packaged: made up, or read from files of ffmpeg's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shardcast::clock::{Instant, Now, Wall};
use shardcast::container::fmp4::{Demuxer, Event};
use shardcast::extension::{FrameSink, SinkVerdict};
use shardcast::media::{Codec, Frame, FrameFlags, Media, Timestamp, TrackId};
use shardcast::reason::Reason;
use shardcast::record::hls::{Answer, MULTIVARIANT, Packager, Request, Settings, Shelf};

use crate::parsed::Playlist;
use crate::watcher::{Leniency, Watcher, demux, media_playlists, text};

/// `AVCDecoderConfigurationRecord` of pictures of 320 by 180 and of 640 by 360.
pub(crate) const SMALL: &[u8] = b"\x01\x4d\x40\x0d\xff\xe1\x00\x19\x67\x4d\x40\x0d\xec\xa0\xa0\xcf\xcf\x80\x88\x00\
    \x00\x03\x00\x08\x00\x00\x03\x01\xe0\x78\xa1\x4c\xb0\x01\x00\x04\x68\xce\x0f\xc8";
pub(crate) const LARGE: &[u8] = b"\x01\x4d\x40\x1e\xff\xe1\x00\x18\x67\x4d\x40\x1e\xec\xa0\x50\x17\xfc\xb8\x08\x80\
    \x00\x00\x03\x00\x80\x00\x00\x1e\x07\x8b\x16\xcb\x01\x00\x04\x68\xce\x0f\xc8";
/// `AudioSpecificConfig` of AAC-LC with two channels, at 48 and at 44.1 kHz.
pub(crate) const SOUND: &[u8] = &[0x11, 0x90];
pub(crate) const SOUND_44: &[u8] = &[0x12, 0x10];
pub(crate) const SECOND: i64 = 1_000_000_000;
/// When the simulated streams begin.
pub(crate) const START: Wall = Wall(1_767_225_600 * 1_000_000_000);

/// Makes frames up, each with a payload of its own.
#[derive(Debug, Default)]
pub(crate) struct Reel {
    pub(crate) frames: Vec<Frame>,
    made: u32,
}

impl Reel {
    pub(crate) fn config(&mut self, codec: Codec, record: &'static [u8], at: i64) {
        self.frames.push(Frame::config(codec, Timestamp(at), Bytes::from_static(record)));
    }

    pub(crate) fn frame(&mut self, track: TrackId, media: Media, key: bool, at: i64) -> &mut Frame {
        self.made += 1;
        let mut payload = vec![0, 0, 0, 6, if key { 0x65 } else { 0x41 }, track.0];
        payload.extend_from_slice(&self.made.to_be_bytes());
        let frame = match media {
            Media::Video => Frame::video(Codec::H264, key, Timestamp(at), Timestamp(at), payload.into()),
            _ => Frame::audio(Codec::Aac, Timestamp(at), payload.into()),
        };
        self.frames.push(frame.on_track(track));
        self.frames.last_mut().unwrap()
    }

    /// Pictures with a keyframe every so many, and sound of 48 kHz, from one time to another; in order of decoding.
    pub(crate) fn run(&mut self, from: i64, to: i64, rate: (i64, i64), group: i64, sound: bool) {
        let picture = |nth: i64| from + nth * SECOND * rate.1 / rate.0;
        let sample = |nth: i64| from + nth * SECOND * 1024 / 48_000;
        let (mut pictures, mut samples) = (0, 0);
        loop {
            if sound && sample(samples) < picture(pictures).min(to) {
                self.frame(TrackId::AUDIO, Media::Audio, true, sample(samples));
                samples += 1;
            } else if picture(pictures) < to {
                self.frame(TrackId::VIDEO, Media::Video, pictures % group == 0, picture(pictures));
                pictures += 1;
            } else {
                break;
            }
        }
    }
}

/// A stream of pictures and sound.
pub(crate) fn usual(seconds: i64) -> Reel {
    let mut reel = Reel::default();
    reel.config(Codec::H264, SMALL, 10 * SECOND);
    reel.config(Codec::Aac, SOUND, 10 * SECOND);
    reel.run(10 * SECOND, (10 + seconds) * SECOND, (30, 1), 60, true);
    reel
}

/// The frames of a fragmented file, as they would be published: in order of decoding, after their configurations.
pub(crate) fn read(file: Vec<u8>) -> Vec<Frame> {
    let (mut demuxer, mut bytes) = (Demuxer::new(), Bytes::from(file));
    let (mut configs, mut frames) = (Vec::new(), Vec::new());
    while let Some(event) = demuxer.push(&mut bytes).expect("ffmpeg writes MP4") {
        match event {
            Event::Track(track) => {
                if !track.config.is_empty() {
                    configs.push(Frame::config(track.codec, Timestamp::ZERO, track.config).on_track(track.id));
                }
            }
            Event::Frame(frame) => frames.push(frame),
        }
    }
    frames.sort_by_key(|frame| frame.dts);
    configs.into_iter().chain(frames).collect()
}

/// A stream that follows another: its own configurations, later times, and the mark that says so.
pub(crate) fn behind(mut first: Vec<Frame>, then: Vec<Frame>, by: i64) -> Vec<Frame> {
    let end = first.iter().map(|frame| frame.dts.0).max().unwrap();
    let start = then.iter().filter(|frame| !is_config(frame)).map(|frame| frame.dts.0).min().unwrap();
    let mut marked = [false; 256];
    for mut frame in then {
        let shift = end + by - start;
        (frame.dts, frame.pts) = (Timestamp(frame.dts.0 + shift), Timestamp(frame.pts.0 + shift));
        let marked = &mut marked[usize::from(frame.track.0)];
        if !is_config(&frame) && !*marked {
            *marked = true;
            frame.flags = frame.flags.union(FrameFlags::DISCONTINUITY);
        }
        first.push(frame);
    }
    first
}

pub(crate) fn is_config(frame: &Frame) -> bool {
    frame.kind == shardcast::media::FrameKind::Config
}

/// What became of a stream.
pub(crate) struct Packaged {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) watcher: Watcher,
}

/// Everything in one window.
pub(crate) fn all() -> Settings {
    let mut settings = Settings::default();
    settings.window = Duration::from_secs(24 * 3600);
    settings
}

/// Packages a stream with a look at everything after each frame.
pub(crate) fn package(frames: &[Frame], settings: Settings, leniency: Leniency) -> Packaged {
    let start = Instant(5 * SECOND.unsigned_abs());
    let mut packager = Packager::new(settings, Now { mono: start, wall: START });
    let shelf = packager.shelf();
    let mut watcher = Watcher::new(shelf.clone(), leniency);
    watcher.look();
    let first = frames.iter().find(|frame| !is_config(frame)).map_or(0, |frame| frame.dts.0);
    for frame in frames {
        let mut frame = frame.clone();
        let age = frame.dts.0.saturating_sub(first);
        frame.origin = Instant(start.0.saturating_add_signed(age));
        assert_eq!(packager.on_frame(&frame), SinkVerdict::Taken);
        watcher.look();
    }
    packager.on_end(Reason::Ended);
    watcher.look();
    assert!(shelf.is_ended());
    assert_eq!(packager.on_frame(&frames[0]), SinkVerdict::Done);
    Packaged { shelf, watcher }
}

impl Packaged {
    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        match self.shelf.get(&Request { path, ..Request::default() }) {
            Answer::Ready(resource) => resource.body.concat(),
            other => panic!("{path}: {other:?}"),
        }
    }

    pub(crate) fn index(&self) -> String {
        String::from_utf8(self.get(MULTIVARIANT)).unwrap()
    }

    pub(crate) fn playlists(&self) -> Vec<String> {
        media_playlists(&self.index())
    }

    pub(crate) fn playlist(&self, name: &str) -> Playlist {
        match self.shelf.get(&Request { path: name, ..Request::default() }) {
            Answer::Ready(resource) => Playlist::read(&text(&resource)),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// The segments of a track one behind the other, behind the initialization segment that they have in common;
    /// another file for each that is another one.
    pub(crate) fn files(&self, name: &str) -> Vec<Vec<u8>> {
        let mut files: Vec<Vec<u8>> = Vec::new();
        for segment in &self.playlist(name).segments {
            if let Some(map) = &segment.map {
                files.push(self.get(map));
            }
            files.last_mut().unwrap().extend(self.get(&segment.complete.as_ref().unwrap().1));
        }
        files
    }

    /// The frames of a track.
    pub(crate) fn frames(&self, name: &str) -> Vec<Frame> {
        self.files(name).iter().flat_map(|file| demux(&[], file).1).collect()
    }

    /// Every frame of a track is there as it was, at times that are moved by the same for all.
    pub(crate) fn holds(&self, name: &str, source: &[&Frame], moved: &mut Option<i64>) {
        let ours = self.frames(name);
        assert_eq!(ours.len(), source.len(), "{name}: frames");
        for (ours, theirs) in ours.iter().zip(source) {
            assert!(ours.payload == theirs.payload && ours.is_key() == theirs.is_key(), "{name} at {:?}", theirs.dts);
            let by = *moved.get_or_insert((ours.dts.0 - theirs.dts.0 + SECOND / 2).div_euclid(SECOND) * SECOND);
            for (ours, theirs) in [(ours.dts, theirs.dts), (ours.pts, theirs.pts)] {
                // Half a tick of 44.1 kHz.
                assert!((ours.0 - theirs.0 - by).abs() < 12_000, "{name}: {ours:?} is {theirs:?} moved by {by}");
            }
        }
    }
}

/// Frames by track, without configurations.
pub(crate) fn by_track(frames: &[Frame]) -> BTreeMap<TrackId, Vec<&Frame>> {
    let mut tracks = BTreeMap::<TrackId, Vec<&Frame>>::new();
    for frame in frames.iter().filter(|frame| !is_config(frame)) {
        tracks.entry(frame.track).or_default().push(frame);
    }
    tracks
}
