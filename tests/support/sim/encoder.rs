//! A publisher's encoder: tracks with their own pace, configuration that changes, keyframes every so often.

use std::sync::Arc;

use shardcast::clock::Instant;
use shardcast::id::StreamKey;
use shardcast::media::{Codec, Frame, FrameFlags, FrameKind, Media, Timestamp, TrackId};

use super::book::{BookRef, Sent};
use super::payload::Tag;
use super::rng::Rng;

/// [`shardcast::stream::FOLLOW_WITHIN`].
const FOLLOW_WITHIN: u64 = shardcast::stream::FOLLOW_WITHIN.cast_unsigned();

pub struct Encoder {
    pub id: u32,
    pub key: StreamKey,
    book: BookRef,
    rng: Rng,
    tracks: Vec<Track>,
    seq: u32,
    began: u64,
    base: i64,
    clock: EncoderClock,
    /// By how much its clock was set since it began.
    set: i64,
    /// When it was last.
    set_at: Option<u64>,
    /// Timestamps step back now and then.
    sloppy: bool,
    big: bool,
    /// Nothing refers to some of its deltas.
    disposable: bool,
}

/// How the clock behind its timestamps runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderClock {
    Steady,
    /// It is set now and then: back to zero, by hours, by days, by less than a second.
    Set,
    /// That of one track is.
    SetAlone,
}

struct Track {
    id: TrackId,
    codec: Codec,
    every: u64,
    next_at: u64,
    /// Frames between two keyframes.
    gop: u64,
    count: u64,
    version: u16,
    /// By how much its own clock was set.
    set: i64,
    owes_config: bool,
    owes_key: bool,
}

/// What an encoder makes.
#[derive(Clone, Copy, Debug)]
pub struct Taste {
    pub video: bool,
    pub audio: bool,
    pub second_video: bool,
    pub data: bool,
    pub metadata: bool,
    pub gop: u64,
    /// So many times faster than life.
    pub rate: u64,
    pub sloppy: bool,
    /// Nothing refers to some of its deltas.
    pub disposable: bool,
    /// Frames of up to 200 kB now and then.
    pub big: bool,
    /// Where its clock starts.
    pub base: i64,
    pub clock: EncoderClock,
}

impl Taste {
    /// What every protocol carries.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { second_video: false, data: false, metadata: false, sloppy: false, ..self }
    }
}

impl Encoder {
    pub fn new(book: &BookRef, key: &StreamKey, taste: Taste, now: u64, mut rng: Rng) -> Self {
        let id = book.lock().publisher(key);
        let mut tracks = Vec::new();
        let mut track = |wanted: bool, id: TrackId, codec: Codec, every: u64, gop: u64| {
            if wanted {
                tracks.push(Track {
                    id,
                    codec,
                    every: every / taste.rate.max(1),
                    next_at: now,
                    gop,
                    count: 0,
                    version: 0,
                    set: 0,
                    owes_config: true,
                    owes_key: true,
                });
            }
        };
        track(taste.metadata, TrackId::METADATA, Codec::Script, 3_000_000_000, 0);
        track(taste.video, TrackId::VIDEO, Codec::H264, 40_000_000, taste.gop);
        track(taste.second_video, TrackId(3), Codec::H265, 50_000_000, taste.gop + 3);
        track(taste.audio, TrackId::AUDIO, Codec::Aac, 23_000_000, 0);
        track(taste.data, TrackId(4), Codec::Script, 310_000_000, 0);
        if rng.one_in(3) {
            // Not every encoder begins with its main track.
            let at = rng.below(tracks.len());
            tracks.rotate_left(at);
        }
        Self {
            id,
            key: key.clone(),
            book: Arc::clone(book),
            rng,
            tracks,
            seq: 0,
            began: now,
            base: taste.base,
            clock: taste.clock,
            set: 0,
            set_at: None,
            sloppy: taste.sloppy,
            big: taste.big,
            disposable: taste.disposable,
        }
    }

    /// When the next frame is due.
    pub fn due(&self) -> u64 {
        self.tracks.iter().map(|track| track.next_at).min().unwrap_or(u64::MAX)
    }

    /// The next frame, if it is due.
    pub fn next(&mut self, now: u64) -> Option<Frame> {
        let track = self.tracks.iter_mut().filter(|track| track.next_at <= now).min_by_key(|track| track.next_at)?;
        let captured = i64::try_from(track.next_at - self.began).expect("a short life");
        // Twice within the time in which steps of several tracks are taken for one, nobody can tell which is which.
        let again = self.set_at.is_none_or(|at| now - at > 2 * FOLLOW_WITHIN);
        if self.clock != EncoderClock::Steady && again && self.rng.one_in(40) {
            self.set_at = Some(now);
            let shows = self.base + self.set + captured;
            let hour = 3_600_000_000_000;
            let by = self.rng.pick(&[-shows, hour, -hour, 24 * 24 * hour, -300_000_000, 20_000_000_000]);
            let set = if self.clock == EncoderClock::Set { &mut self.set } else { &mut track.set };
            *set += by;
        }
        let mut dts = self.base + self.set + track.set + captured;
        let media = track.codec.media();
        let kind = if track.owes_config {
            track.owes_config = false;
            track.version += 1;
            FrameKind::Config
        } else {
            let kind = match media {
                Media::Audio => FrameKind::Audio,
                Media::Data if track.id == TrackId::METADATA => {
                    // Metadata is nothing but configuration.
                    track.version += 1;
                    FrameKind::Config
                }
                Media::Data => FrameKind::Data,
                Media::Video if track.owes_key || track.count.is_multiple_of(track.gop) => {
                    track.owes_key = false;
                    track.count = 0;
                    FrameKind::Key
                }
                Media::Video => FrameKind::Delta,
            };
            track.count += 1;
            track.next_at += track.every;
            kind
        };
        let mut pts = dts;
        if media == Media::Video && kind != FrameKind::Config {
            pts += i64::try_from(self.rng.within(0, 3) * 40_000_000).expect("small");
        }
        if self.sloppy && self.rng.one_in(20) {
            dts -= i64::try_from(self.rng.within(0, 200_000_000)).expect("small");
        }
        let len = match kind {
            FrameKind::Key if self.big && self.rng.one_in(4) => self.rng.within(20_000, 200_000),
            FrameKind::Key => self.rng.within(200, 3_000),
            FrameKind::Delta => self.rng.within(16, 900),
            FrameKind::Audio => self.rng.within(16, 200),
            _ => self.rng.within(16, 60),
        };
        let tag = Tag { publisher: self.id, seq: self.seq, track: track.id.0, kind, version: track.version };
        self.seq += 1;
        let disposable = kind == FrameKind::Delta && self.disposable && self.rng.one_in(2);
        self.book.lock().sent(
            self.id,
            Sent {
                track: track.id.0,
                kind,
                captured: (self.clock != EncoderClock::SetAlone && !self.sloppy).then_some((captured, self.set)),
            },
        );
        Some(Frame {
            payload: tag.payload(usize::try_from(len).expect("small")),
            pts: Timestamp(pts),
            dts: Timestamp(dts),
            origin: Instant(now),
            track: track.id,
            kind,
            codec: track.codec,
            flags: if disposable { FrameFlags::DISPOSABLE } else { FrameFlags::default() },
        })
    }

    /// The resolution, or whatever, changes: a new configuration, mostly with a keyframe behind it.
    pub fn change(&mut self) {
        let at = self.rng.below(self.tracks.len());
        let key = !self.rng.one_in(4);
        if let Some(track) = self.tracks.get_mut(at) {
            track.owes_config = true;
            track.owes_key |= key;
        }
    }

    /// The last frame is not sent after all.
    pub fn take_back(&mut self) {
        self.seq -= 1;
        self.book.lock().publishers[self.id as usize].sent.pop();
    }

    /// Somebody needs a keyframe.
    pub fn want_key(&mut self) {
        for track in &mut self.tracks {
            track.owes_key = true;
        }
    }

    /// It speaks again, if it had fallen silent.
    pub fn wake(&mut self, now: u64) {
        for track in &mut self.tracks {
            track.next_at = track.next_at.min(now + track.every);
        }
    }

    /// It lost time: what is due is due from now on.
    pub fn catch_up(&mut self, now: u64) {
        for track in &mut self.tracks {
            track.next_at = track.next_at.max(now);
        }
    }
}
