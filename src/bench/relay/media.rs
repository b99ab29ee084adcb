//! What is published: 720p30 H.264 with a keyframe each two seconds, and AAC at 127 kb/s.
//!
//! Everything is valid, so that a server may parse it, remux it, even decode it: a grey picture and silence. The stamp
//! of a picture is an SEI message of user data (H.264 D.1.6), another one fills the picture up to the size of a real
//! one; the stamp of an audio frame is in a data stream element (ISO/IEC 14496-3, 4.4.2.7), which decoders skip.
//! Bodies are made once and shared by every frame that repeats their place in the GOP; only the stamp before them is
//! new.

use super::h264;
use super::stamp::{Checksum, STAMP_LEN, Stamp, UUID};
use super::timing::{MILLISECOND, SECOND};

/// Frames a second.
const VIDEO_HZ: u64 = 30;
/// Frames from keyframe to keyframe.
pub(crate) const GOP: u64 = 60;
/// How long a GOP is.
pub(crate) const GOP_NS: u64 = GOP * SECOND / VIDEO_HZ;
/// Samples of an AAC frame, and their rate.
const AAC_SAMPLES: u64 = 1024;
const AAC_HZ: u64 = 44_100;

/// What video and audio need together by default, kb/s; the lengths below are those of it.
pub(crate) const KBPS: u32 = 2_560;
/// The least for which a keyframe has its size.
pub(crate) const KBPS_MIN: u32 = 200;
/// Message bytes of a keyframe, and the least and most of a predicted frame.
const KEY_LEN: usize = 60_000;
const DELTA_LEN: std::ops::Range<usize> = 8_000..10_060;
/// Message bytes of an audio frame, and what audio needs, kb/s.
const AUDIO_LEN: usize = 370;
const AUDIO_KBPS: u32 = 127;

/// `AudioSpecificConfig`: AAC-LC, 44.1 kHz, stereo.
const ASC: [u8; 2] = [0x12, 0x10];
/// A channel pair of silence, and the end of the frame.
const SILENCE: [u8; 9] = [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80];
/// Marks the SEI message that only fills.
const FILLER: [u8; 16] = *b"\xd5\x8fshardcast-pad\xa7";

/// FLV tag header, SEI NAL with the stamp and its stop bit.
const VIDEO_HEAD: usize = 5 + 4 + 3 + UUID.len() + STAMP_LEN + 1;
/// FLV tag header, data stream element up to its data, uuid, stamp.
const AUDIO_HEAD: usize = 2 + 3 + UUID.len() + STAMP_LEN;

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

    /// The RTMP timestamp; it wraps after 49 days.
    pub(crate) fn timestamp(self) -> u32 {
        let [_, _, _, _, low @ ..] = (self.offset_ns / MILLISECOND).to_be_bytes();
        u32::from_be_bytes(low)
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

    /// How many frames of a stream that began at `origin` are due in `window`.
    pub(crate) fn due_in(origin: u64, window: &std::ops::Range<u64>) -> u64 {
        let (mut schedule, mut frames) = (Self::default(), 0);
        while origin + schedule.peek().offset_ns < window.end {
            frames += u64::from(window.contains(&(origin + schedule.take().offset_ns)));
        }
        frames
    }
}

/// When video frame `index` is due, since the start of the stream.
pub(crate) fn video_offset(index: u64) -> u64 {
    index * SECOND / VIDEO_HZ
}

/// By how much stream `stream` of `streams` begins later than the first, so that their keyframes do not coincide.
pub(crate) fn stagger(stream: u32, streams: u32) -> u64 {
    GOP_NS * u64::from(stream) / u64::from(streams.max(1))
}

/// The part of a message that is the same each time, and its checksum.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    sum: u32,
}

/// All bodies: one per place in the GOP, and a few of audio.
#[derive(Debug)]
pub(crate) struct Bank {
    video: Vec<Body>,
    audio: Vec<Body>,
}

impl Bank {
    /// Makes them from a fixed seed, for so many kb/s of video and audio together.
    pub(crate) fn new(kbps: u32) -> Self {
        let mut noise = Noise(0x5eed_0fca_57ed);
        let scaled = |len: usize| {
            let (video, usual) = (kbps.saturating_sub(AUDIO_KBPS), KBPS - AUDIO_KBPS);
            len * usize::try_from(video).unwrap_or(0) / usize::try_from(usual).unwrap_or(1)
        };
        let video = (0..GOP).map(|place| {
            let len = if place == 0 { KEY_LEN } else { DELTA_LEN.start + noise.below(DELTA_LEN.len()) };
            noise.picture(place, scaled(len))
        });
        let video = video.collect();
        Self { video, audio: (0..16).map(|_| noise.sound()).collect() }
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
    pub(crate) fn head(&self, stream: u32, slot: Slot, due: u64, sent: u64, out: &mut Vec<u8>) {
        let body = self.body(slot);
        let stamp = Stamp::new(stream, slot.index, due, sent, body.sum);
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
            }
            Track::Audio => {
                // id_syn_ele 4, tag 0, byte-aligned; count 255 and what is above it.
                let data = UUID.len() + STAMP_LEN + body.bytes.len() - SILENCE.len();
                out.extend([0xaf, 1, 0x81, 0xff, u8::try_from(data - 255).unwrap_or(0)]);
                out.extend(UUID);
                stamp.write(out);
            }
        }
    }

    /// Appends the whole message.
    pub(crate) fn message(&self, stream: u32, slot: Slot, due: u64, sent: u64, out: &mut Vec<u8>) {
        self.head(stream, slot, due, sent, out);
        out.extend(&self.body(slot).bytes);
    }
}

/// The bytes of a message that a reader keeps: a server may have put NAL units of its own before the stamp.
pub(crate) const HEAD_KEPT: usize = 192;
const _: () = assert!(VIDEO_HEAD <= HEAD_KEPT && AUDIO_HEAD <= HEAD_KEPT);
// The count of a data stream element has two bytes of which the first is full.
const _: () = assert!(AUDIO_LEN - 5 - SILENCE.len() >= 255 && AUDIO_LEN - 5 - SILENCE.len() <= 510);

/// Finds the stamp in the start of a message, and where the body begins behind it.
pub(crate) fn find_stamp(track: Track, start: &[u8]) -> Option<(Stamp, usize)> {
    let usual = match track {
        Track::Video => VIDEO_HEAD - 1 - STAMP_LEN - UUID.len(),
        Track::Audio => AUDIO_HEAD - STAMP_LEN - UUID.len(),
    };
    let at = match start.get(usual..) {
        Some(rest) if rest.starts_with(&UUID) => usual,
        _ => start.windows(UUID.len()).position(|window| window == UUID)?,
    };
    let stamp = Stamp::read(&start[at + UUID.len()..])?;
    let stop_bit = usize::from(track == Track::Video);
    Some((stamp, at + UUID.len() + STAMP_LEN + stop_bit))
}

/// The message that configures the video decoder.
pub(crate) fn video_config() -> Vec<u8> {
    [vec![0x17, 0, 0, 0, 0], h264::decoder_configuration()].concat()
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

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes().map(|byte| byte | 0x02));
        }
        bytes.truncate(len);
        bytes
    }

    /// An SEI NAL that fills a message of `len` bytes, and the slice.
    fn picture(&mut self, place: u64, len: usize) -> Body {
        let slice = h264::slice(place);
        // Length, NAL and SEI type before it, stop bit behind it, length of the slice. Its size takes a byte for each 255.
        let room = len.saturating_sub(VIDEO_HEAD + 4 + 2 + 1 + 4 + slice.len());
        let payload = room.saturating_sub(room / 255 + 1).max(FILLER.len());
        let mut sei = vec![0x06, 0x05];
        sei.extend(vec![0xff; payload / 255]);
        sei.push(u8::try_from(payload % 255).unwrap_or(0));
        sei.extend(FILLER);
        sei.extend(self.bytes(payload - FILLER.len()));
        sei.push(0x80);
        let mut bytes = Vec::with_capacity(len);
        for nal in [sei, slice] {
            bytes.extend(u32::try_from(nal.len()).unwrap_or(0).to_be_bytes());
            bytes.extend(nal);
        }
        Body { sum: Checksum::of(&bytes), bytes }
    }

    fn sound(&mut self) -> Body {
        let mut bytes = self.bytes(AUDIO_LEN - AUDIO_HEAD - SILENCE.len());
        bytes.extend(SILENCE);
        Body { sum: Checksum::of(&bytes), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(kbps: u32, seconds: u64) -> Vec<(Slot, Vec<u8>)> {
        let (bank, mut schedule) = (Bank::new(kbps), Schedule::default());
        let mut all = Vec::new();
        while schedule.peek().offset_ns < seconds * SECOND {
            let slot = schedule.take();
            let mut message = Vec::new();
            bank.message(3, slot, 7, 8, &mut message);
            all.push((slot, message));
        }
        all
    }

    #[test]
    fn the_stream_has_the_rate_that_was_asked_for() {
        for kbps in [KBPS_MIN, 1_000, KBPS, 10_000] {
            let bits: usize = messages(kbps, 2).iter().map(|(_, message)| message.len() * 8).sum();
            let got = bits as f64 / 2_000.0;
            assert!((got / f64::from(kbps) - 1.0).abs() < 0.05, "{got} kb/s where {kbps} are wanted");
        }
    }

    /// Every NAL unit has the length that stands before it, and they fill the message.
    #[test]
    fn a_picture_is_an_access_unit_of_stamp_filler_and_slice() {
        for (slot, message) in messages(KBPS, 2).iter().filter(|(slot, _)| slot.track == Track::Video) {
            let (mut rest, mut types) = (&message[5..], Vec::new());
            while let Some((len, behind)) = rest.split_first_chunk::<4>() {
                let (nal, more) = behind.split_at(usize::try_from(u32::from_be_bytes(*len)).unwrap());
                types.push(nal[0] & 0x1f);
                assert!(nal.windows(3).all(|three| three[0] != 0 || three[1] != 0 || three[2] > 2), "a start code");
                rest = more;
            }
            assert_eq!(types, [6, 6, if slot.is_key() { 5 } else { 1 }]);
        }
    }

    #[test]
    fn the_filler_says_its_own_size() {
        for len in [400, 1_000, 9_000, 60_000] {
            let body = Noise(1).picture(1, len);
            let sei_len = usize::try_from(u32::from_be_bytes(*body.bytes.first_chunk().unwrap())).unwrap();
            let sei = &body.bytes[6..4 + sei_len];
            let full = sei.iter().take_while(|byte| **byte == 0xff).count();
            let size = full * 255 + usize::from(sei[full]);
            assert_eq!(sei.len(), full + 1 + size + 1, "size bytes, payload, stop bit");
            assert!(body.bytes.len() + VIDEO_HEAD <= len && body.bytes.len() + VIDEO_HEAD + 4 >= len);
        }
    }

    #[test]
    fn a_stamp_is_found_where_we_put_it_and_behind_units_of_the_server() {
        for (slot, message) in messages(KBPS, 1) {
            let (stamp, body) = find_stamp(slot.track, &message[..HEAD_KEPT]).unwrap();
            assert!((stamp.stream, stamp.due, stamp.sent) == (3, 7, 8) && stamp.fits(Checksum::of(&message[body..])));
            if slot.track == Track::Video {
                let delimited = [&message[..5], &[0, 0, 0, 2, 9, 0xf0], &message[5..]].concat();
                let (moved, body) = find_stamp(slot.track, &delimited[..HEAD_KEPT]).unwrap();
                assert!(moved == stamp && stamp.fits(Checksum::of(&delimited[body..])));
            }
        }
    }

    #[test]
    fn an_audio_frame_says_how_long_its_data_is_and_ends_in_silence() {
        for (_, message) in messages(KBPS, 1).iter().filter(|(slot, _)| slot.track == Track::Audio) {
            assert_eq!(message[..4], [0xaf, 1, 0x81, 0xff]);
            let data = 255 + usize::from(message[4]);
            assert_eq!(message[5 + data..], SILENCE);
        }
    }

    #[test]
    fn frames_due_in_a_window_are_counted_whole() {
        assert_eq!(Schedule::due_in(100, &(100..100 + SECOND)), 30 + 44);
        assert_eq!(Schedule::due_in(100, &(0..100)), 0);
    }
}
