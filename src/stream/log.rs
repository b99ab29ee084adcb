//! StreamLog: the bounded, numbered log of one stream's frames on one shard.
//!
//! One structure for fan-out (cursors read it), GOP cache (it keeps everything since the newest keyframe) and lag
//! (distance of a cursor from its head). Appending is O(1) and touches no subscriber. It never holds more than
//! its bounds, however slow a subscriber is.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::spec::GopCache;
use crate::clock::Instant;
use crate::limits::TRACKS_MAX;
use crate::media::{Frame, FrameKind, Media, TrackId};

/// The log of one stream.
#[derive(Debug)]
pub struct StreamLog {
    /// A ring indexed by sequence number; its length is a power of two and grows up to the bounds.
    slots: Vec<Option<Entry>>,
    /// Sequence number of the oldest frame held. `tail <= head`, `head - tail <= slots.len()`.
    tail: u64,
    /// Sequence number that the next frame gets.
    head: u64,
    /// Payload bytes ever appended.
    bytes_in: u64,
    /// Where a joiner starts: the newest keyframe of the main video track. `tail <= key < head`.
    key: Option<u64>,
    /// Every keyframe of the main video track that is held, cached or not: where those go on who were here before it,
    /// and where those start who want to be behind. Rising; `tail <= keys < head`.
    keys: VecDeque<u64>,
    /// Configuration frames, oldest first: for each track at least the one in force at `tail`.
    configs: Vec<(u64, Frame)>,
    /// Tracks that carry video, by bit: their configuration or a frame of them was seen.
    video: u16,
    /// Whether anything but configuration was seen.
    media: bool,
    /// Payloads of frames that are held no more, until the next sweep; at most [`DROPPED_MAX`].
    dropped: Vec<Bytes>,
    cache: GopCache,
    /// Frames younger than this are kept for those who lag, within the bounds of the cache.
    keep_age: Duration,
    /// For those who want to be behind: so much is kept, and the keyframe before it.
    delay_max: Duration,
    /// What was let go of last was still young: the bounds hold less than the ages ask for.
    crowded: bool,
    /// A replica is being given what its home has kept: its end is not the live edge yet.
    replaying: bool,
    /// Where what the home had kept ended.
    live_from: u64,
}

#[derive(Debug)]
struct Entry {
    frame: Frame,
    /// `bytes_in` before this frame.
    offset: u64,
}

/// What appending did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The frame's sequence number.
    pub seq: u64,
    /// The GOP exceeded a bound and was dropped: this many frames.
    pub gop_dropped: Option<u64>,
}

impl StreamLog {
    /// An empty log that keeps a GOP within `cache`, and otherwise frames up to `keep_age` for those who lag.
    #[must_use]
    pub const fn new(cache: GopCache, keep_age: Duration) -> Self {
        Self {
            slots: Vec::new(),
            tail: 0,
            head: 0,
            bytes_in: 0,
            key: None,
            keys: VecDeque::new(),
            configs: Vec::new(),
            video: 0,
            media: false,
            dropped: Vec::new(),
            cache,
            keep_age,
            delay_max: Duration::ZERO,
            crowded: false,
            replaying: false,
            live_from: 0,
        }
    }

    /// Keeps so much more than those who lag need, and the keyframe before it, within the same bounds.
    #[must_use]
    pub const fn keeping(mut self, delay_max: Duration) -> Self {
        self.delay_max = delay_max;
        self
    }

    /// Appends a frame that arrived now.
    pub fn append(&mut self, now: Instant, frame: Frame) -> Appended {
        let seq = self.head;
        if self.head - self.tail == self.slots.len() as u64 {
            self.make_room(now);
        }
        if frame.is_video() {
            self.video |= track_bit(frame.track);
        }
        if frame.kind == FrameKind::Config {
            self.note_config(seq, &frame);
        } else {
            self.media |= frame.kind != FrameKind::Data;
        }
        if frame.is_key() && self.is_main_video(frame.track) {
            self.key = Some(seq);
            self.keys.push_back(seq);
        }
        let offset = self.bytes_in;
        self.bytes_in += frame.payload.len() as u64;
        let slot = self.slot(seq);
        self.slots[slot] = Some(Entry { frame, offset });
        self.head += 1;
        let gop_dropped = self.drop_oversized_gop(now);
        self.trim(now);
        Appended { seq, gop_dropped }
    }

    /// Frames that never reached this shard keep their numbers: the distance between two frames always tells how many
    /// are left out. What was held before them goes too, as nothing behind the gap builds on it.
    pub fn note_gap(&mut self, frames: u64) {
        while self.tail < self.head {
            self.drop_tail();
        }
        self.key = None;
        self.keys.clear();
        self.head += frames;
        self.tail = self.head;
    }

    /// Forgets everything but the numbering: a new publisher starts afresh.
    pub fn restart(&mut self) {
        while self.tail < self.head {
            self.drop_tail();
        }
        self.sweep();
        self.key = None;
        self.keys.clear();
        self.configs.clear();
        self.video = 0;
        self.media = false;
        self.crowded = false;
        self.replaying = false;
    }

    /// What follows is what the home has kept, until [`StreamLog::replayed`].
    pub const fn replay(&mut self) {
        self.replaying = true;
    }

    /// The end of the log is the live edge.
    pub const fn replayed(&mut self) {
        self.replaying = false;
        self.live_from = self.head;
    }

    /// On a replica, the first frame that was published after it had asked for the stream.
    #[must_use]
    pub const fn live_from(&self) -> u64 {
        self.live_from
    }

    /// Lets go of the payloads of frames that are held no more. Another core may have their counters: that is not
    /// waited for while a frame is on its way.
    pub fn sweep(&mut self) {
        self.dropped.clear();
    }

    /// The oldest sequence number held.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        self.tail
    }

    /// The sequence number of the next frame.
    #[must_use]
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// The newest keyframe at which a joiner can start, if it is still held.
    #[must_use]
    pub const fn key(&self) -> Option<u64> {
        self.key
    }

    /// The newest keyframe that is held before `limit`, be it cached for joiners or not.
    #[must_use]
    pub fn latest_key(&self, limit: u64) -> Option<u64> {
        self.keys.get(self.keys.partition_point(|key| *key < limit).checked_sub(1)?).copied()
    }

    /// The first keyframe that is held at or after `from`, cached or not.
    #[must_use]
    pub fn first_key(&self, from: u64) -> Option<u64> {
        self.keys.get(self.keys.partition_point(|key| *key < from)).copied()
    }

    /// Whether this is a replica that is being given what its home has kept.
    #[must_use]
    pub const fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// Whether those who want to be behind are promised anything.
    #[must_use]
    pub const fn keeps_for_delay(&self) -> bool {
        !self.delay_max.is_zero()
    }

    /// Whether one can be so far behind: not more than is kept by age, nor more than the bounds have let be kept.
    #[must_use]
    pub fn reaches(&self, delay: Duration, now: Instant) -> bool {
        delay <= self.delay_max && !(self.crowded && self.age(self.tail, now) < delay)
    }

    /// Whether video frames were seen: without them any frame is a place to start.
    #[must_use]
    pub const fn has_video(&self) -> bool {
        self.video != 0
    }

    /// Whether any audio or video frame was seen.
    #[must_use]
    pub const fn has_media(&self) -> bool {
        self.media
    }

    /// The video tracks other than the main one, by bit: at a start they wait for keyframes of their own.
    #[must_use]
    pub const fn other_video(&self) -> u16 {
        self.video & self.video.wrapping_sub(1)
    }

    /// The frame with this sequence number, if it is held.
    #[must_use]
    pub fn frame(&self, seq: u64) -> Option<&Frame> {
        self.entry(seq).map(|entry| &entry.frame)
    }

    /// How long ago the frame at `cursor` reached the router; zero at the head.
    #[must_use]
    pub fn age(&self, cursor: u64, now: Instant) -> Duration {
        self.entry(cursor).map_or(Duration::ZERO, |entry| now.since(entry.frame.origin))
    }

    /// Payload bytes from `cursor` to the head.
    #[must_use]
    pub fn bytes_behind(&self, cursor: u64) -> u64 {
        self.entry(cursor).map_or(0, |entry| self.bytes_in - entry.offset)
    }

    /// Payload bytes ever appended.
    #[must_use]
    pub const fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Payload bytes held.
    #[must_use]
    pub fn bytes_held(&self) -> u64 {
        self.bytes_behind(self.tail)
    }

    /// Bytes of memory besides payloads.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.slots.len() * size_of::<Option<Entry>>()
            + self.configs.capacity() * size_of::<(u64, Frame)>()
            + self.dropped.capacity() * size_of::<Bytes>()
            + self.keys.capacity() * size_of::<u64>()
    }

    /// Bytes of the table that the next frame needs, if this one is full.
    #[must_use]
    pub const fn growth(&self) -> usize {
        if self.head - self.tail < self.slots.len() as u64 {
            return 0;
        }
        let slots = if self.slots.is_empty() { FIRST_SLOTS } else { 2 * self.slots.len() };
        slots * size_of::<Option<Entry>>()
    }

    /// Payload bytes of configuration.
    #[must_use]
    pub fn config_bytes(&self) -> u64 {
        self.configs.iter().map(|(_, frame)| frame.payload.len() as u64).sum()
    }

    /// Lets go of everything before the newest keyframe, if there is more than that; how many frames. Those who
    /// stand there skip.
    pub fn shed_lag(&mut self, keep_from: u64) -> u64 {
        self.drop_until(self.latest_key(self.head).unwrap_or(self.tail).min(keep_from))
    }

    /// Lets go of everything before `keep_from`, the cached GOP too: joiners wait for the next keyframe. How many
    /// frames it is.
    pub fn shed(&mut self, keep_from: u64) -> u64 {
        self.key = self.key.filter(|key| *key >= keep_from);
        self.drop_until(keep_from.min(self.head))
    }

    /// Gives back the room of frames that are held no more, if most of it is.
    pub fn shrink(&mut self) {
        let held = usize::try_from(self.head - self.tail).unwrap_or(usize::MAX);
        let enough = (2 * held).next_power_of_two().max(FIRST_SLOTS);
        if 2 * enough <= self.slots.len() {
            self.move_to(enough);
        }
    }

    fn drop_until(&mut self, seq: u64) -> u64 {
        let before = self.tail;
        while self.tail < seq {
            self.drop_tail();
        }
        self.sweep();
        self.tail - before
    }

    /// The configuration in force at `seq` that was appended at or after `from`: one frame per track, oldest first.
    pub fn configs(&self, from: u64, seq: u64) -> impl Iterator<Item = &Frame> {
        self.configs_at(from, seq).map(|(_, frame)| frame)
    }

    /// The same with their sequence numbers.
    pub fn configs_at(&self, from: u64, seq: u64) -> impl Iterator<Item = (u64, &Frame)> {
        self.configs.iter().enumerate().filter_map(move |(index, (at, frame))| {
            let replaced =
                self.configs[index + 1..].iter().any(|(later, other)| *later < seq && other.track == frame.track);
            (*at >= from && *at < seq && !replaced).then_some((*at, frame))
        })
    }

    /// The newest configuration of every track.
    pub fn current_configs(&self) -> impl Iterator<Item = &Frame> {
        self.configs(0, self.head)
    }

    fn is_main_video(&self, track: TrackId) -> bool {
        self.video.trailing_zeros() == u32::from(track.0)
    }

    fn note_config(&mut self, seq: u64, frame: &Frame) {
        if frame.codec.media() == Media::Video {
            self.video |= track_bit(frame.track);
        }
        // Only the newest at or before the tail can still be in force there.
        let tail = self.tail;
        let mut index = 0;
        while index < self.configs.len() {
            let (at, old) = &self.configs[index];
            let track = old.track;
            let replaced = *at <= tail
                && self.configs[index + 1..].iter().any(|(later, other)| *later <= tail && other.track == track);
            if replaced {
                self.configs.remove(index);
            } else {
                index += 1;
            }
        }
        self.configs.push((seq, frame.clone()));
    }

    /// A GOP over a bound is dropped: joiners wait for the next keyframe.
    fn drop_oversized_gop(&mut self, now: Instant) -> Option<u64> {
        let key = self.key?;
        let frames = self.head - key;
        let over = frames > self.cache.frames as u64
            || self.bytes_behind(key) > self.cache.bytes as u64
            || self.age(key, now) > self.cache.age;
        if !over {
            return None;
        }
        self.key = None;
        // A cache that is switched off drops nothing that anybody was promised.
        (self.cache.frames > 0).then_some(frames)
    }

    /// Lets go of what neither the cache nor the lag window needs.
    fn trim(&mut self, now: Instant) {
        let keep = self.key.unwrap_or(self.head);
        while self.tail < keep {
            let young = self.age(self.tail, now) <= self.keep_age || self.is_needed_for_delay(now);
            let fits = self.head - self.tail <= self.frames_max() && self.bytes_held() <= self.bytes_max();
            if young && fits {
                break;
            }
            self.crowded = young;
            self.drop_tail();
        }
    }

    /// Whether the oldest GOP is the newest that is old enough for the longest delay.
    fn is_needed_for_delay(&self, now: Instant) -> bool {
        self.has_video()
            && self.keeps_for_delay()
            && self.keys.get(1).is_none_or(|second| self.age(*second, now) <= self.delay_max)
    }

    fn drop_tail(&mut self) {
        let slot = self.slot(self.tail);
        if let Some(entry) = self.slots[slot].take() {
            if self.dropped.len() == DROPPED_MAX {
                self.dropped.clear();
            }
            self.dropped.push(entry.frame.payload);
        }
        self.tail += 1;
        if self.keys.front().is_some_and(|key| *key < self.tail) {
            self.keys.pop_front();
        }
    }

    /// All slots are in use: trims, or doubles the ring. The bounds of cache and lag window stop the growth.
    fn make_room(&mut self, now: Instant) {
        self.trim(now);
        if self.head - self.tail < self.slots.len() as u64 {
            return;
        }
        self.move_to((self.slots.len() * 2).max(FIRST_SLOTS));
    }

    /// Moves to a ring of this many slots: a power of two, no less than there are frames.
    fn move_to(&mut self, length: usize) {
        let mut slots: Vec<Option<Entry>> = Vec::with_capacity(length);
        slots.resize_with(length, || None);
        let mask = length - 1;
        for seq in self.tail..self.head {
            let slot = self.slot(seq);
            slots[index(seq) & mask] = self.slots[slot].take();
        }
        self.slots = slots;
    }

    const fn frames_max(&self) -> u64 {
        if self.cache.frames > LAG_FRAMES_MIN { self.cache.frames as u64 } else { LAG_FRAMES_MIN as u64 }
    }

    const fn bytes_max(&self) -> u64 {
        if self.cache.bytes > LAG_BYTES_MIN { self.cache.bytes as u64 } else { LAG_BYTES_MIN as u64 }
    }

    fn entry(&self, seq: u64) -> Option<&Entry> {
        if seq < self.tail || seq >= self.head {
            return None;
        }
        self.slots[self.slot(seq)].as_ref()
    }

    const fn slot(&self, seq: u64) -> usize {
        index(seq) & (self.slots.len().wrapping_sub(1))
    }
}

/// Slots of a log that has its first frame: an idle stream stays below 8 kB.
const FIRST_SLOTS: usize = 32;
/// Payloads that wait for a sweep at most.
const DROPPED_MAX: usize = 64;
/// Frames that may be kept for those who lag although the GOP cache is smaller.
const LAG_FRAMES_MIN: usize = 1024;
/// Bytes that may be kept for those who lag although the GOP cache is smaller.
const LAG_BYTES_MIN: usize = 8 * 1024 * 1024;

const _: () = assert!(TRACKS_MAX <= 16 && FIRST_SLOTS.is_power_of_two());

pub(crate) const fn track_bit(track: TrackId) -> u16 {
    1 << (track.0 & 15)
}

#[expect(clippy::cast_possible_truncation, reason = "masked by the ring's length right after")]
const fn index(seq: u64) -> usize {
    seq as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Timestamp};
    use bytes::Bytes;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn frame(kind: FrameKind, ms: u64) -> Frame {
        let time = Timestamp::from_millis(i64::try_from(ms).unwrap());
        let mut frame = match kind {
            FrameKind::Audio => Frame::audio(Codec::Aac, time, Bytes::from_static(&[0; 10])),
            FrameKind::Config => Frame::config(Codec::H264, time, Bytes::copy_from_slice(&ms.to_be_bytes())),
            _ => Frame::video(Codec::H264, kind == FrameKind::Key, time, time, Bytes::from_static(&[0; 100])),
        };
        frame.origin = at(ms);
        frame
    }

    fn log(frames: usize) -> StreamLog {
        let cache = GopCache { frames, bytes: 1_000_000, age: Duration::from_secs(60) };
        StreamLog::new(cache, Duration::from_millis(100))
    }

    #[test]
    fn a_joiner_starts_at_the_newest_keyframe_with_its_configuration() {
        let mut log = log(100);
        log.append(at(0), frame(FrameKind::Config, 0));
        log.append(at(1), frame(FrameKind::Key, 1));
        log.append(at(2), frame(FrameKind::Delta, 2));
        log.append(at(3), frame(FrameKind::Config, 3));
        let second = log.append(at(4), frame(FrameKind::Key, 4));
        log.append(at(5), frame(FrameKind::Config, 5));
        assert_eq!(log.key(), Some(second.seq));
        let in_force: Vec<_> = log.configs(0, second.seq).map(|frame| frame.dts.as_millis()).collect();
        assert_eq!(in_force, [3], "the version of that keyframe, not the first and not the newest");
        assert_eq!(log.configs(4, second.seq).count(), 0, "who has it already gets it not again");
    }

    #[test]
    fn a_gop_over_its_bound_is_dropped_and_told_and_the_next_keyframe_opens_a_new_one() {
        let mut log = log(10);
        log.append(at(0), frame(FrameKind::Key, 0));
        let mut told = None;
        for ms in 1..=10 {
            let appended = log.append(at(ms), frame(FrameKind::Delta, ms));
            told = told.or(appended.gop_dropped);
        }
        assert_eq!((told, log.key()), (Some(11), None));
        let next = log.append(at(11), frame(FrameKind::Key, 11));
        assert_eq!(log.key(), Some(next.seq));
    }

    #[test]
    fn memory_is_bounded_by_age_of_lag_and_by_the_gop_whatever_is_appended() {
        let mut log = log(50);
        for ms in 0..10_000 {
            let kind = if ms % 30 == 0 { FrameKind::Key } else { FrameKind::Delta };
            log.append(at(ms), frame(kind, ms));
            assert!(log.head() - log.tail() <= 102, "100 ms of lag or one GOP of 30");
            assert!(log.key().is_some_and(|key| key >= log.tail()));
        }
        assert!(log.slots.len() <= 128);
    }

    #[test]
    fn configuration_versions_do_not_pile_up() {
        let mut log = log(50);
        for ms in 0..5_000 {
            let kind = if ms % 2 == 0 { FrameKind::Config } else { FrameKind::Key };
            log.append(at(ms), frame(kind, ms));
        }
        assert!(log.configs.len() < 120, "{}", log.configs.len());
        assert_eq!(log.current_configs().count(), 1);
    }

    #[test]
    fn distance_is_told_in_bytes_and_age() {
        let mut log = log(50);
        log.append(at(0), frame(FrameKind::Key, 0));
        log.append(at(40), frame(FrameKind::Delta, 40));
        log.append(at(41), frame(FrameKind::Audio, 41));
        assert_eq!(log.bytes_behind(1), 110);
        assert_eq!(log.age(0, at(50)), Duration::from_millis(50));
        assert_eq!((log.bytes_behind(3), log.age(3, at(50))), (0, Duration::ZERO));
    }
}
