//! The judge: what one viewer sees, message by message, and the sums over many.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::chunk::{self, Message};
use super::media::{GOP, Track};
use super::stamp::Stamp;

/// What a viewer remembers of what it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// The stream that it asked for.
    stream: u32,
    video: Seen,
    audio: Seen,
    joined: bool,
}

/// A stamped message, judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) track: Track,
    pub(crate) stamp: Stamp,
    /// Whether it is the keyframe that this viewer could start with.
    pub(crate) joins: bool,
    /// Whether it came for the first time, so that its age means something.
    pub(crate) fresh: bool,
}

/// What was wrong with what came, and how much came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Stamped messages.
    pub(crate) frames: u64,
    /// Those whose body was checked.
    pub(crate) checked: u64,
    /// Bodies that do not fit their stamp.
    pub(crate) corrupt: u64,
    /// Places where frames are missing.
    pub(crate) gaps: u64,
    /// Frames missing there that did not come later either.
    pub(crate) missing: u64,
    /// Frames that came twice.
    pub(crate) repeated: u64,
    /// Frames that came after a later one of their track.
    pub(crate) reordered: u64,
    /// Timestamps below the one before in the same track.
    pub(crate) falls: u64,
    /// Media messages that are neither configuration nor stamped.
    pub(crate) unstamped: u64,
    /// Frames of a stream that was not asked for.
    pub(crate) misrouted: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.checked += other.checked;
        self.corrupt += other.corrupt;
        self.gaps += other.gaps;
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.falls += other.falls;
        self.unstamped += other.unstamped;
        self.misrouted += other.misrouted;
    }
}

impl Watch {
    /// A viewer of this stream that has seen nothing yet.
    pub(crate) fn new(stream: u32) -> Self {
        Self { stream, video: Seen::default(), audio: Seen::default(), joined: false }
    }

    /// Whether a keyframe came.
    #[cfg(test)]
    fn has_joined(&self) -> bool {
        self.joined
    }

    /// Judges a message; `None` if nothing can be learned from it.
    pub(crate) fn on_media(&mut self, message: &Message<'_>, counts: &mut Counts) -> Option<Judged> {
        let track = chunk::track_of(message.kind)?;
        let Some(stamp) = message.stamp else {
            // A configuration has a 0 where a frame has a 1; some servers send empty messages.
            counts.unstamped += u64::from(message.start.get(1).is_some_and(|kind| *kind != 0));
            return None;
        };
        counts.frames += 1;
        if let Some(body) = message.body {
            counts.checked += 1;
            if !stamp.fits(body) {
                // Its numbers cannot be trusted either; so it is missing, too.
                counts.corrupt += 1;
                return None;
            }
        }
        if stamp.stream != self.stream {
            counts.misrouted += 1;
            return None;
        }
        let seen = match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        counts.falls += u64::from(seen.newest.is_some() && message.timestamp < seen.timestamp);
        seen.timestamp = message.timestamp;
        let order = seen.take(stamp.index);
        match order {
            Order::Next => {}
            Order::Gap(missing) => {
                counts.gaps += 1;
                counts.missing += missing;
            }
            Order::Late => {
                counts.reordered += 1;
                counts.missing -= 1;
            }
            Order::Early => counts.reordered += 1,
            Order::Again => counts.repeated += 1,
        }
        let joins = track == Track::Video && !self.joined && stamp.index.is_multiple_of(GOP);
        self.joined |= joins;
        Some(Judged { track, stamp, joins, fresh: order != Order::Again })
    }
}

/// Which frames of one track came.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    first: u64,
    newest: Option<u64>,
    /// Bit `n` says whether `newest - n` came. More than a GOP, so that a cache that is sent twice is found.
    recent: u128,
    timestamp: u32,
}

/// How a frame stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Next,
    /// So many are missing before it.
    Gap(u64),
    /// One that was missing, after a later one.
    Late,
    /// From before the first one that came.
    Early,
    /// One that had come.
    Again,
}

impl Seen {
    fn take(&mut self, index: u64) -> Order {
        let Some(newest) = self.newest else {
            (self.first, self.newest, self.recent) = (index, Some(index), 1);
            return Order::Next;
        };
        if index > newest {
            let step = index - newest;
            let shift = u32::try_from(step).unwrap_or(u32::MAX);
            self.recent = self.recent.checked_shl(shift).unwrap_or(0) | 1;
            self.newest = Some(index);
            return if step == 1 { Order::Next } else { Order::Gap(step - 1) };
        }
        if index < self.first {
            return Order::Early;
        }
        // What is older than we remember has most likely come.
        let bit = u32::try_from(newest - index).ok().and_then(|back| 1_u128.checked_shl(back)).unwrap_or(0);
        if bit == 0 || self.recent & bit != 0 {
            return Order::Again;
        }
        self.recent |= bit;
        Order::Late
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::{ChunkReader, Outgoing};
    use super::super::media::{Bank, KBPS, Schedule, Slot};
    use super::*;

    const STREAM: u32 = 4;

    /// The first `count` messages of a stream, as chunks of a server.
    fn served(count: usize) -> Vec<(Slot, Vec<u8>)> {
        let (bank, mut schedule) = (Bank::new(KBPS), Schedule::default());
        let message = |_| {
            let slot = schedule.take();
            let mut message = Vec::new();
            bank.message(STREAM, slot, 100 + slot.offset_ns, 200 + slot.offset_ns, &mut message);
            let kind = if slot.track == Track::Video { chunk::VIDEO } else { chunk::AUDIO };
            let mut bytes = Vec::new();
            Outgoing::media(kind, 1, slot.timestamp()).write(&message, chunk::DEFAULT_CHUNK_SIZE, &mut bytes);
            (slot, bytes)
        };
        (0..count).map(message).collect()
    }

    /// What a viewer of [`STREAM`] makes of these bytes.
    fn judged(messages: &[(Slot, Vec<u8>)]) -> (Watch, Counts) {
        let (mut watch, mut counts, mut reader) = (Watch::new(STREAM), Counts::default(), ChunkReader::new());
        for (_, bytes) in messages {
            let read = reader.push(bytes, true, |message| {
                let _verdict = watch.on_media(message, &mut counts);
            });
            assert_eq!(read, Ok(()));
        }
        (watch, counts)
    }

    fn clean(frames: u64) -> Counts {
        Counts { frames, checked: frames, ..Counts::default() }
    }

    /// The place of the n-th video frame among the messages.
    fn video(messages: &[(Slot, Vec<u8>)], n: u64) -> usize {
        messages.iter().position(|(slot, _)| slot.track == Track::Video && slot.index == n).unwrap()
    }

    #[test]
    fn a_stream_that_came_as_it_was_sent_has_no_fault() {
        let (watch, counts) = judged(&served(300));
        assert!(watch.has_joined());
        assert_eq!(counts, clean(300));
    }

    #[test]
    fn a_viewer_joins_with_a_keyframe_and_not_before() {
        let messages = served(300);
        let from = video(&messages, 7);
        let (watch, _) = judged(&messages[from..video(&messages, GOP)]);
        assert!(!watch.has_joined());
        let (watch, counts) = judged(&messages[from..]);
        assert!(watch.has_joined());
        assert_eq!(counts.missing, 0, "a stream that is joined late is not missing its beginning");
    }

    #[test]
    fn lost_frames_are_a_gap_of_their_number() {
        let mut messages = served(100);
        for n in [9, 10, 11] {
            messages.remove(video(&messages, n));
        }
        let (_, counts) = judged(&messages);
        assert_eq!(counts, Counts { gaps: 1, missing: 3, ..clean(97) });
    }

    #[test]
    fn a_frame_that_comes_twice_is_repeated_and_its_timestamp_falls() {
        let mut messages = served(100);
        let (at, again) = (video(&messages, 12), video(&messages, 9));
        messages.insert(at, messages[again].clone());
        let (_, counts) = judged(&messages);
        assert_eq!(counts, Counts { repeated: 1, falls: 1, ..clean(101) });
    }

    #[test]
    fn a_frame_after_its_successor_is_reordered_and_not_missing() {
        let mut messages = served(100);
        let (nine, ten) = (video(&messages, 9), video(&messages, 10));
        messages.swap(nine, ten);
        let (_, counts) = judged(&messages);
        assert_eq!(counts, Counts { gaps: 1, reordered: 1, falls: 1, ..clean(100) });
    }

    #[test]
    fn a_whole_group_that_is_sent_again_is_repeated() {
        let messages = served(146);
        let (_, counts) = judged(&[&messages[..], &messages[..]].concat());
        assert_eq!((counts.repeated, counts.reordered, counts.missing), (146, 0, 0));
    }

    #[test]
    fn a_changed_byte_in_body_or_stamp_is_corrupt() {
        // Chunks of 128 bytes with a header of one byte: 5,000 lies in the filler, 70 in the stamp's digits.
        for at in [5_000, 70] {
            let mut messages = served(100);
            let frame = video(&messages, 9);
            messages[frame].1[at] ^= 1;
            let (_, counts) = judged(&messages);
            assert_eq!(counts, Counts { corrupt: 1, gaps: 1, missing: 1, ..clean(100) }, "byte {at}");
        }
    }

    #[test]
    fn what_has_no_stamp_or_belongs_to_another_stream_is_told_apart() {
        let mut bytes = Vec::new();
        Outgoing::media(chunk::VIDEO, 1, 0).write(&[0x27, 1, 0, 0, 0, 0, 0, 0, 1, 9], 128, &mut bytes);
        Outgoing::media(chunk::AUDIO, 1, 0).write(&[0xaf, 0, 0x12, 0x10], 128, &mut bytes);
        let (slot, _) = served(1)[0];
        let (_, counts) = judged(&[(slot, bytes)]);
        assert_eq!(counts, Counts { unstamped: 1, ..Counts::default() });

        let (mut watch, mut counts, mut reader) = (Watch::new(STREAM + 1), Counts::default(), ChunkReader::new());
        for (_, bytes) in served(10) {
            let read = reader.push(&bytes, true, |message| assert!(watch.on_media(message, &mut counts).is_none()));
            assert_eq!(read, Ok(()));
        }
        assert_eq!(counts, Counts { misrouted: 10, ..clean(10) });
        assert!(!watch.has_joined());
    }
}
