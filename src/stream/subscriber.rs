//! A subscriber's place in a log: where it starts, when it must skip, and when it is given up.
//!
//! Pure bookkeeping over sequence numbers; nothing here sends. The invariants: what is delivered is a subsequence
//! of the log; after a skip it goes on at a keyframe (of the main video track; other video tracks wait for
//! keyframes of their own); every frame left out is in `gap` until the delivery takes it.

use std::time::Duration;

use super::log::{StreamLog, track_bit};
use super::spec::LagPolicy;
use crate::clock::Instant;
use crate::media::{Frame, Start};

/// Where a subscriber stands in a log.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The frame that is due next.
    next: u64,
    /// Configuration appended before this sequence number is known to the subscriber.
    config_from: u64,
    /// Frames left out since the last delivery.
    gap: u64,
    /// Frames left out in all.
    pub skipped: u64,
    /// Times that it skipped.
    pub skips: u32,
    /// Video tracks that wait for a keyframe of their own, by bit.
    awaiting: u16,
    position: Position,
    started: bool,
    /// It was calm before, and was put aside.
    again: bool,
    /// A joiner that was given an old GOP may be behind until then.
    exempt_until: Instant,
    window_start: Instant,
    /// Media time skipped in the running window and the one before, in ms.
    lost_ms: [u32; 2],
}

/// Whether frames can be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// From `next` on.
    Reading,
    /// Not before the next keyframe.
    AwaitingKey,
}

/// What to do for a subscriber now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagVerdict {
    /// Deliver from [`Cursor::next`] on.
    Deliver,
    /// Nothing before the next keyframe.
    Wait,
    /// It skipped too much within the window: remove it.
    Evict,
}

impl Cursor {
    /// A subscriber that joins now.
    #[must_use]
    pub fn join(log: &StreamLog, start: Start, policy: &LagPolicy, now: Instant) -> Self {
        let mut cursor = Self {
            next: log.head(),
            config_from: 0,
            gap: 0,
            skipped: 0,
            skips: 0,
            awaiting: 0,
            position: Position::AwaitingKey,
            started: false,
            again: false,
            exempt_until: now + policy.max_age,
            window_start: now,
            lost_ms: [0; 2],
        };
        if start == Start::Instant
            && let Some(key) = log.key()
        {
            cursor.next = key;
            cursor.resume(key, log);
        }
        cursor
    }

    /// One that was calm up to `at`, and of which nothing else is known.
    #[must_use]
    pub const fn calm(at: u64) -> Self {
        Self {
            next: at,
            config_from: u64::MAX,
            gap: 0,
            skipped: 0,
            skips: 0,
            awaiting: 0,
            position: Position::Reading,
            started: true,
            again: true,
            exempt_until: Instant::ZERO,
            window_start: Instant::ZERO,
            lost_ms: [0; 2],
        }
    }

    /// Whether [`Cursor::calm`] would give the same. One that was put aside is kept from then on, since it will be
    /// again.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.is_calm() && !self.again && self.skips == 0 && self.skipped == 0 && self.exempt_until.0 == 0
    }

    /// The sequence number that is due next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Whether it reads on with nothing left out, no configuration owed and no track waiting: until something
    /// happens to it, its place is all that there is to know.
    #[must_use]
    pub const fn is_calm(&self) -> bool {
        self.gap == 0
            && self.awaiting == 0
            && self.config_from == u64::MAX
            && matches!(self.position, Position::Reading)
    }

    /// It was served up to `to`.
    pub const fn advance(&mut self, to: u64) {
        self.next = to;
    }

    /// It was served up to where the others stand. From then on it can be late, unless what it got last or gets next
    /// is itself old: then more of the GOP that it began with is still on its way from another shard.
    pub fn arrive(&mut self, log: &StreamLog, policy: &LagPolicy, now: Instant) {
        let young = |seq| log.frame(seq).map(|frame| now.since(frame.origin) <= policy.max_age);
        // What came before may have been let go of, because it was old.
        let got = self.next.checked_sub(1).and_then(young).unwrap_or(false);
        if got && young(self.next).unwrap_or(true) {
            self.exempt_until = Instant::ZERO;
        }
    }

    /// Whether a track still waits for its keyframe.
    #[must_use]
    pub const fn is_selective(&self) -> bool {
        self.awaiting != 0
    }

    /// Frames left out since the last delivery.
    #[must_use]
    pub const fn gap(&self) -> u64 {
        self.gap
    }

    /// Sequence number since which configuration is owed, if any is.
    #[must_use]
    pub const fn config_owed(&self) -> Option<u64> {
        if self.config_from == u64::MAX { None } else { Some(self.config_from) }
    }

    /// Whether a frame may be delivered to it: delta frames of a track that waits for its keyframe may not.
    pub fn admits(&mut self, frame: &Frame) -> bool {
        if self.awaiting == 0 || !frame.is_video() {
            return true;
        }
        let bit = track_bit(frame.track);
        if self.awaiting & bit == 0 {
            return true;
        }
        if frame.is_key() {
            self.awaiting &= !bit;
            return true;
        }
        false
    }

    /// The configuration that was owed is delivered; later versions come in the log's order.
    pub const fn take_config(&mut self) -> Option<u64> {
        let owed = self.config_owed();
        self.config_from = u64::MAX;
        owed
    }

    /// Configuration up to `seq` is delivered; what is newer is still owed.
    pub const fn take_config_at(&mut self, seq: u64) {
        self.config_from = seq + 1;
    }

    /// Frames left out since the last delivery; now told.
    pub const fn take_gap(&mut self) -> u64 {
        let gap = self.gap;
        self.gap = 0;
        gap
    }

    /// How far behind it is.
    #[must_use]
    pub fn age(&self, log: &StreamLog, now: Instant) -> Duration {
        log.age(self.next.max(log.tail()), now)
    }

    /// Whether it waits for a keyframe.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Decides before a delivery: may it go on, must it skip, is it given up?
    pub fn settle(&mut self, log: &StreamLog, policy: &LagPolicy, now: Instant) -> LagVerdict {
        if self.position == Position::AwaitingKey {
            let Some(start) = self.start_in(log) else { return LagVerdict::Wait };
            if !self.started {
                // The GOP it begins with may be older than its budget, above all on a replica that got it just now.
                self.exempt_until = now + policy.max_age;
            }
            self.leave_out(start);
            self.resume(start, log);
        }
        if !self.is_over(log, policy, now) {
            return LagVerdict::Deliver;
        }
        // The newest keyframe, if going there keeps the promise; else the next one that is published.
        let key = log.latest_key().filter(|key| *key >= self.next && log.age(*key, now) <= policy.max_age);
        if key == Some(self.next) {
            // It stands there, with more bytes before it than it may have: the next keyframe would be no smaller.
            return LagVerdict::Deliver;
        }
        let target = key.unwrap_or_else(|| log.head());
        let lost = log.age(self.next.max(log.tail()), now).saturating_sub(log.age(target, now));
        self.skips = self.skips.saturating_add(1);
        self.leave_out(target);
        if key.is_some() {
            self.resume(target, log);
        } else {
            self.position = if log.has_video() { Position::AwaitingKey } else { Position::Reading };
        }
        if self.lost_too_much(lost, policy, now) {
            return LagVerdict::Evict;
        }
        match self.position {
            Position::Reading => LagVerdict::Deliver,
            Position::AwaitingKey => LagVerdict::Wait,
        }
    }

    /// A new publisher begins: whatever is not delivered is left out, and its first keyframe is awaited.
    pub const fn restart(&mut self, head: u64) {
        if self.started && head > self.next {
            self.gap += head - self.next;
            self.skipped += head - self.next;
        }
        self.next = head;
        self.config_from = head;
        self.awaiting = 0;
        self.started = false;
        self.again = false;
        self.position = Position::AwaitingKey;
    }

    /// It wanted nothing for a while: it goes on at the next keyframe, and nothing counts as left out.
    pub const fn pause(&mut self, head: u64) {
        let owed = self.config_from;
        let next = self.next;
        self.started = false;
        self.restart(head);
        self.config_from = if owed < next { owed } else { next };
        self.gap = 0;
    }

    fn is_over(&self, log: &StreamLog, policy: &LagPolicy, now: Instant) -> bool {
        if self.next < log.tail() {
            return true;
        }
        if now < self.exempt_until {
            return false;
        }
        log.age(self.next, now) > policy.max_age || log.bytes_behind(self.next) > policy.max_bytes
    }

    /// Where one who waits can start: a keyframe at or after its place, or any frame without video.
    fn start_in(&self, log: &StreamLog) -> Option<u64> {
        if log.has_video() {
            // One who skipped goes to the newest; one who has waited for the stream misses nothing of it.
            let newest = log.latest_key().filter(|key| *key >= self.next);
            return if self.started { newest } else { log.first_key(self.next) };
        }
        log.has_media().then(|| self.next.max(log.tail()))
    }

    const fn leave_out(&mut self, to: u64) {
        if self.started {
            let frames = to.saturating_sub(self.next);
            self.gap += frames;
            self.skipped += frames;
            if self.config_from == u64::MAX {
                self.config_from = self.next;
            }
        }
        self.next = to;
    }

    const fn resume(&mut self, at: u64, log: &StreamLog) {
        self.next = at;
        self.position = Position::Reading;
        self.awaiting = log.other_video();
        self.started = true;
    }

    fn lost_too_much(&mut self, lost: Duration, policy: &LagPolicy, now: Instant) -> bool {
        let passed = now.since(self.window_start);
        if passed >= policy.evict_window {
            let previous = if passed < policy.evict_window * 2 { self.lost_ms[0] } else { 0 };
            self.lost_ms = [0, previous];
            self.window_start = now;
        }
        let lost = u32::try_from(lost.as_millis()).unwrap_or(u32::MAX);
        self.lost_ms[0] = self.lost_ms[0].saturating_add(lost);
        // The former window counts by the part of it that still lies within the last `evict_window`.
        let rest = policy.evict_window.saturating_sub(now.since(self.window_start));
        let share = rest.as_secs_f64() / policy.evict_window.as_secs_f64().max(1e-9);
        let sum = f64::from(self.lost_ms[0]) + f64::from(self.lost_ms[1]) * share;
        sum >= policy.evict_lost.as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Timestamp, TrackId};
    use crate::stream::GopCache;
    use bytes::Bytes;

    const SECOND: u64 = 1_000_000_000;

    fn policy() -> LagPolicy {
        LagPolicy {
            max_age: Duration::from_secs(3),
            max_bytes: 1_000_000,
            evict_window: Duration::from_secs(10),
            evict_lost: Duration::from_secs(9),
        }
    }

    fn video(log: &mut StreamLog, key: bool, at: Instant, track: TrackId) -> u64 {
        let time = Timestamp(i64::try_from(at.0).unwrap());
        let mut frame = Frame::video(Codec::H264, key, time, time, Bytes::from_static(b"x")).on_track(track);
        frame.origin = at;
        log.append(at, frame).seq
    }

    fn log() -> StreamLog {
        StreamLog::new(GopCache::default(), Duration::from_secs(3))
    }

    #[test]
    fn one_who_lags_skips_to_the_newest_keyframe_and_every_frame_left_out_is_counted() {
        let mut log = log();
        video(&mut log, true, Instant(0), TrackId::VIDEO);
        let mut cursor = Cursor::join(&log, Start::Instant, &policy(), Instant(0));
        assert_eq!(cursor.settle(&log, &policy(), Instant(0)), LagVerdict::Deliver);
        cursor.take_config();
        cursor.advance(log.head());
        for second in 1..=4 {
            video(&mut log, second == 3, Instant(second * SECOND), TrackId::VIDEO);
        }
        let now = Instant(4 * SECOND + SECOND / 2);
        assert_eq!(cursor.settle(&log, &policy(), now), LagVerdict::Deliver);
        assert_eq!((cursor.next(), cursor.take_gap(), cursor.skips), (3, 2, 1));
        assert_eq!(cursor.take_config(), Some(1), "configuration since then is given again");
    }

    #[test]
    fn without_a_keyframe_young_enough_it_waits_for_the_next() {
        let mut log = log();
        for second in 0..6 {
            video(&mut log, second == 0, Instant(second * SECOND), TrackId::VIDEO);
        }
        let mut cursor = Cursor::join(&log, Start::Instant, &policy(), Instant(5 * SECOND));
        assert_eq!(cursor.next(), 0, "a joiner gets the whole GOP, however old its keyframe is");
        assert_eq!(cursor.settle(&log, &policy(), Instant(5 * SECOND)), LagVerdict::Deliver);
        let late = Instant(8 * SECOND + SECOND / 2);
        assert_eq!(cursor.settle(&log, &policy(), late), LagVerdict::Wait);
        video(&mut log, false, late, TrackId::VIDEO);
        assert_eq!(cursor.settle(&log, &policy(), late), LagVerdict::Wait);
        let key = video(&mut log, true, late, TrackId::VIDEO);
        assert_eq!(cursor.settle(&log, &policy(), late), LagVerdict::Deliver);
        assert_eq!((cursor.next(), cursor.take_gap()), (key, 7));
    }

    #[test]
    fn one_who_never_reads_is_evicted_within_window_and_budget_but_half_speed_is_not() {
        for (reads, evicted) in [(false, true), (true, false)] {
            let mut log = log();
            let mut cursor = Cursor::join(&log, Start::Instant, &policy(), Instant(0));
            let mut verdicts = Vec::new();
            for tick in 0..600u64 {
                let now = Instant(tick * SECOND / 10);
                video(&mut log, tick % 10 == 0, now, TrackId::VIDEO);
                let verdict = cursor.settle(&log, &policy(), now);
                if reads && verdict == LagVerdict::Deliver && tick % 2 == 0 {
                    cursor.take_gap();
                    let next = (cursor.next() + 1).min(log.head());
                    cursor.advance(next);
                }
                verdicts.push(verdict);
            }
            assert_eq!(verdicts.contains(&LagVerdict::Evict), evicted, "reads: {reads}");
        }
    }

    #[test]
    fn one_who_waited_gets_the_whole_gop_that_comes_however_old_it_is() {
        let mut log = log();
        let mut cursor = Cursor::join(&log, Start::Instant, &policy(), Instant(20 * SECOND));
        assert_eq!(cursor.settle(&log, &policy(), Instant(20 * SECOND)), LagVerdict::Wait);
        for second in 10..=20 {
            video(&mut log, second == 10, Instant(second * SECOND), TrackId::VIDEO);
        }
        let now = Instant(24 * SECOND);
        assert_eq!(cursor.settle(&log, &policy(), now), LagVerdict::Deliver);
        assert_eq!((cursor.next(), cursor.gap()), (0, 0));
    }

    #[test]
    fn an_old_gop_that_arrives_in_parts_is_not_late_before_its_young_end() {
        let mut log = log();
        let now = Instant(20 * SECOND);
        video(&mut log, true, Instant(10 * SECOND), TrackId::VIDEO);
        let mut cursor = Cursor::join(&log, Start::Instant, &policy(), now);
        assert_eq!(cursor.settle(&log, &policy(), now), LagVerdict::Deliver);
        let arrive = |cursor: &mut Cursor, log: &StreamLog| {
            cursor.take_config();
            cursor.advance(log.head());
            cursor.arrive(log, &policy(), now);
        };
        arrive(&mut cursor, &log);
        for second in 11..=20 {
            video(&mut log, false, Instant(second * SECOND), TrackId::VIDEO);
        }
        assert_eq!(cursor.settle(&log, &policy(), now), LagVerdict::Deliver);
        assert_eq!((cursor.next(), cursor.gap()), (1, 0), "the rest of its GOP is no older than what it began with");
        assert!(!cursor.is_spent());
        arrive(&mut cursor, &log);
        assert!(cursor.is_spent(), "from the live edge on it is like the others");
        video(&mut log, false, now, TrackId::VIDEO);
        assert_eq!(cursor.settle(&log, &policy(), Instant(24 * SECOND)), LagVerdict::Wait);
    }

    #[test]
    fn a_second_video_track_starts_at_a_keyframe_of_its_own() {
        let mut log = log();
        let (main, side) = (TrackId(0), TrackId(3));
        video(&mut log, true, Instant(0), side);
        video(&mut log, true, Instant(0), main);
        video(&mut log, false, Instant(1), side);
        video(&mut log, true, Instant(2), side);
        let mut cursor = Cursor::join(&log, Start::Instant, &policy(), Instant(2));
        assert_eq!(cursor.settle(&log, &policy(), Instant(2)), LagVerdict::Deliver);
        let got: Vec<_> = (cursor.next()..log.head()).filter(|seq| cursor.admits(log.frame(*seq).unwrap())).collect();
        assert_eq!(got, [1, 3]);
    }

    #[test]
    fn one_who_waited_from_the_start_begins_at_the_first_keyframe_also_without_a_cache() {
        for cache in [GopCache::default(), GopCache::OFF] {
            let mut log = StreamLog::new(cache, Duration::from_secs(3));
            let mut cursor = Cursor::join(&log, Start::Instant, &policy(), Instant(0));
            for n in 0..4 {
                video(&mut log, n % 2 == 1, Instant(n), TrackId::VIDEO);
            }
            assert_eq!(cursor.settle(&log, &policy(), Instant(4)), LagVerdict::Deliver);
            assert_eq!((cursor.next(), cursor.gap(), cursor.skipped), (1, 0, 0), "{cache:?}");
        }
    }

    #[test]
    fn a_keyframe_larger_than_the_bound_of_bytes_is_delivered() {
        let mut log = log();
        let policy = LagPolicy { max_bytes: 0, ..policy() };
        video(&mut log, true, Instant(0), TrackId::VIDEO);
        let mut cursor = Cursor::join(&log, Start::Instant, &policy, Instant(0));
        cursor.advance(log.head());
        cursor.arrive(&log, &policy, Instant(0));
        let key = video(&mut log, true, Instant(1), TrackId::VIDEO);
        assert_eq!(cursor.settle(&log, &policy, Instant(1)), LagVerdict::Deliver);
        assert_eq!((cursor.next(), cursor.take_gap()), (key, 0));
        video(&mut log, true, Instant(2), TrackId::VIDEO);
        assert_eq!(cursor.settle(&log, &policy, Instant(2)), LagVerdict::Deliver);
        assert_eq!(cursor.take_gap(), 1, "but one that is not the newest is skipped");
    }

    #[test]
    fn audio_alone_starts_at_any_frame() {
        let mut log = log();
        let mut early = Cursor::join(&log, Start::Instant, &policy(), Instant(0));
        assert_eq!(early.settle(&log, &policy(), Instant(0)), LagVerdict::Wait);
        for n in 0..5u64 {
            let mut frame = Frame::audio(Codec::Aac, Timestamp(0), Bytes::from_static(b"x"));
            frame.origin = Instant(n);
            log.append(Instant(n), frame);
        }
        assert_eq!(early.settle(&log, &policy(), Instant(5)), LagVerdict::Deliver);
        assert_eq!((early.next(), early.take_gap()), (0, 0));
        let mut late = Cursor::join(&log, Start::Instant, &policy(), Instant(5));
        assert_eq!(late.settle(&log, &policy(), Instant(5)), LagVerdict::Deliver);
        assert_eq!(late.next(), 5);
    }
}
