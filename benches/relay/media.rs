//! What is published: 720p30 H.264 at 2.4 Mb/s with a keyframe each two seconds, and AAC at 127 kb/s.
//!
//! The sequence headers are real, so that any server takes the stream; the pictures are noise. Bodies are made
//! once and shared by every frame that repeats their place in the GOP; only the stamp before them is new.

use super::stamp::{Fnv, STAMP_LEN, Stamp, UUID};
use super::timing::{MILLISECOND, SECOND};

/// Frames a second.
const VIDEO_HZ: u64 = 30;
/// Frames from keyframe to keyframe.
pub(crate) const GOP: u64 = 60;
/// Samples of an AAC frame, and their rate.
const AAC_SAMPLES: u64 = 1024;
const AAC_HZ: u64 = 44_100;

/// Message bytes of a keyframe, and the least and most of a predicted frame.
const KEY_LEN: usize = 60_000;
const DELTA_LEN: std::ops::Range<usize> = 8_000..10_060;
/// Message bytes of an audio frame.
const AUDIO_LEN: usize = 370;

/// `AVCDecoderConfigurationRecord`, ISO/IEC 14496-15 5.2.4.1: High 3.1, 1280x720, from x264.
const AVCC: [u8; 45] = [
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01,
    0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x04, 0x68,
    0xef, 0x8f, 0xcb, 0xfd, 0xf8, 0xf8, 0x00,
];
/// `AudioSpecificConfig`: AAC-LC, 44.1 kHz, stereo.
const ASC: [u8; 2] = [0x12, 0x10];

/// FLV tag header, SEI NAL with the stamp, length of the slice NAL.
const VIDEO_HEAD: usize = 5 + 4 + 3 + UUID.len() + STAMP_LEN + 1 + 4;
/// FLV tag header, uuid, stamp.
const AUDIO_HEAD: usize = 2 + UUID.len() + STAMP_LEN;

/// The two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Track {
    Video,
    Audio,
}

/// A place in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) track: Track,
    /// Counts the frames of the track.
    pub(crate) index: u64,
    /// Since the start of the stream.
    pub(crate) offset_ns: u64,
}

impl Slot {
    /// Whether a decoder can start here.
    pub(crate) fn is_key(self) -> bool {
        self.track == Track::Video && self.index.is_multiple_of(GOP)
    }

    /// The RTMP timestamp.
    pub(crate) fn timestamp(self) -> u32 {
        u32::try_from(self.offset_ns / MILLISECOND).unwrap_or(u32::MAX)
    }
}

/// When what is due: 73 messages a second, in the order of their times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Schedule {
    video: u64,
    audio: u64,
}

impl Schedule {
    /// What is due next.
    pub(crate) fn peek(self) -> Slot {
        let video = video_offset(self.video);
        let audio = self.audio * AAC_SAMPLES * SECOND / AAC_HZ;
        if video <= audio {
            Slot { track: Track::Video, index: self.video, offset_ns: video }
        } else {
            Slot { track: Track::Audio, index: self.audio, offset_ns: audio }
        }
    }

    /// Takes what is due next.
    pub(crate) fn take(&mut self) -> Slot {
        let slot = self.peek();
        match slot.track {
            Track::Video => self.video += 1,
            Track::Audio => self.audio += 1,
        }
        slot
    }
}

/// When video frame `index` is due, since the start of the stream.
pub(crate) fn video_offset(index: u64) -> u64 {
    index * SECOND / VIDEO_HZ
}

/// The part of a message that is the same each time, and its hash.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    hash: u64,
}

/// All bodies: one per place in the GOP, and a few of audio.
#[derive(Debug)]
pub(crate) struct Bank {
    video: Vec<Body>,
    audio: Vec<Body>,
}

impl Bank {
    /// Makes them from a fixed seed.
    pub(crate) fn new() -> Self {
        let mut noise = Noise(0x5eed_0fca_57ed);
        let video = (0..GOP).map(|place| {
            let (len, start) = match place {
                0 => (KEY_LEN, [0x65, 0x88]),
                _ => (DELTA_LEN.start + noise.below(DELTA_LEN.len()), [0x41, 0x9a]),
            };
            noise.body(len - VIDEO_HEAD, &start)
        });
        let video = video.collect();
        Self { video, audio: (0..16).map(|_| noise.body(AUDIO_LEN - AUDIO_HEAD, &[0x21])).collect() }
    }

    /// The body of the frame at `slot`.
    pub(crate) fn body(&self, slot: Slot) -> &Body {
        let bodies = match slot.track {
            Track::Video => &self.video,
            Track::Audio => &self.audio,
        };
        let place = slot.index % bodies.len() as u64;
        &bodies[usize::try_from(place).unwrap_or(0)]
    }

    /// Appends what comes before the body: FLV tag header and stamp.
    pub(crate) fn head(&self, slot: Slot, due: u64, sent: u64, out: &mut Vec<u8>) {
        let body = self.body(slot);
        let stamp = Stamp::new(slot.index, due, sent, body.hash);
        match slot.track {
            Track::Video => {
                out.extend([if slot.is_key() { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
                // SEI, user_data_unregistered: type 5, its size, uuid, stamp, stop bit.
                let sei = UUID.len() + STAMP_LEN;
                out.extend(u32::try_from(sei + 4).unwrap_or(0).to_be_bytes());
                out.extend([0x06, 0x05, u8::try_from(sei).unwrap_or(0)]);
                out.extend(UUID);
                stamp.write(out);
                out.push(0x80);
                out.extend(u32::try_from(body.bytes.len()).unwrap_or(0).to_be_bytes());
            }
            Track::Audio => {
                out.extend([0xaf, 1]);
                out.extend(UUID);
                stamp.write(out);
            }
        }
    }
}

/// The bytes of a message before its body: all that a reader must keep of it.
pub(crate) const HEAD_KEPT: usize = 160;
const _: () = assert!(VIDEO_HEAD <= HEAD_KEPT && AUDIO_HEAD <= HEAD_KEPT);

/// Finds the stamp in the start of a message, and where the body begins behind it; a server may have put NAL
/// units of its own before ours.
pub(crate) fn find_stamp(track: Track, start: &[u8]) -> Option<(Stamp, usize)> {
    let usual = match track {
        Track::Video => VIDEO_HEAD - 5 - STAMP_LEN - UUID.len(),
        Track::Audio => 2,
    };
    let at = match start.get(usual..) {
        Some(rest) if rest.starts_with(&UUID) => usual,
        _ => start.windows(UUID.len()).position(|window| window == UUID)?,
    };
    let stamp = Stamp::read(&start[at + UUID.len()..])?;
    let behind = match track {
        Track::Video => 5,
        Track::Audio => 0,
    };
    Some((stamp, at + UUID.len() + STAMP_LEN + behind))
}

/// The message that configures the video decoder.
pub(crate) fn video_config() -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0], AVCC.as_slice()].concat()
}

/// The message that configures the audio decoder.
pub(crate) fn audio_config() -> Vec<u8> {
    [&[0xaf, 0], ASC.as_slice()].concat()
}

/// xorshift64, without the bytes 0 and 1 so that no start code appears.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    fn body(&mut self, len: usize, start: &[u8]) -> Body {
        let mut bytes = start.to_vec();
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes().map(|byte| byte | 0x02));
        }
        bytes.truncate(len);
        let mut hash = Fnv::EMPTY;
        hash.add(&bytes);
        Body { bytes, hash: hash.0 }
    }
}
