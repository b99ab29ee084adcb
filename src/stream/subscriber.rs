//! A subscriber's place in a log: where it starts, when it must skip, and when it is given up.
//!
//! Pure bookkeeping over sequence numbers; nothing here sends. The invariants: what is delivered is a subsequence
//! of the log; after a skip it goes on at a keyframe (of the main video track; other video tracks wait for
//! keyframes of their own); every frame left out is in `gap` until the delivery takes it. Before it must skip, one
//! who falls behind is spared the frames that no other frame refers to: for that it need not go on at a keyframe.

use std::borrow::Cow;
use std::time::Duration;

use super::log::{StreamLog, track_bit};
use super::spec::LagPolicy;
use super::squeeze::Squeeze;
use crate::clock::Instant;
use crate::media::{Frame, FrameFlags, Start};

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
    /// It had started at least once: it never goes back.
    began: bool,
    /// How it starts for the first time.
    start: FirstStart,
    /// The past that it begins with, while it has not passed that.
    squeeze: Option<Squeeze>,
    /// It is spared disposable frames.
    thins: bool,
    /// Disposable frames left out that were not told of yet.
    thinned: u64,
    /// It was calm before, and was put aside.
    again: bool,
    /// A joiner that was given an old GOP may be behind until then.
    exempt_until: Instant,
    window_start: Instant,
    /// Media time skipped in the running window and the one before, in ms.
    lost_ms: [u32; 2],
}

/// What besides its [`LagPolicy`] decides how a subscriber goes on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Frames before this sequence number may be delivered.
    pub limit: u64,
    /// How long frames are held back on purpose: it is not late for that.
    pub hold: Duration,
    /// Whether disposable frames may be left out alone: not on the way to another shard, whose readers have budgets of
    /// their own.
    pub thins: bool,
}

/// How a subscriber starts that has not started yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstStart {
    /// Where the past begins that it is given, as that is.
    Past,
    /// At the same place, but arriving at the live edge.
    CatchUp,
    /// At nothing that was published before it came.
    Live,
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
    /// A subscriber that joins now, and may be given frames before `limit`: the head, unless it is to be behind.
    #[must_use]
    pub fn join(log: &StreamLog, start: Start, limit: u64, policy: &LagPolicy, now: Instant) -> Self {
        let mut cursor = Self {
            next: limit,
            start: match start {
                Start::Live => FirstStart::Live,
                Start::CatchUp => FirstStart::CatchUp,
                Start::Instant | Start::Behind(_) => FirstStart::Past,
            },
            config_from: 0,
            gap: 0,
            skipped: 0,
            skips: 0,
            awaiting: 0,
            position: Position::AwaitingKey,
            started: false,
            began: false,
            squeeze: None,
            thins: false,
            thinned: 0,
            again: false,
            exempt_until: now + policy.max_age,
            window_start: now,
            lost_ms: [0; 2],
        };
        let key = match start {
            Start::Live => None,
            Start::Behind(_) => log.latest_key(limit),
            Start::Instant | Start::CatchUp => log.key(),
        };
        if let Some(key) = key.filter(|_| !(log.is_replaying() && cursor.is_shy_of_replay(log))) {
            cursor.begin(key, log);
        }
        cursor
    }

    /// Another shard's replica: it begins with everything that is kept for those who want to be behind, as they may
    /// come there too.
    #[must_use]
    pub fn replica(log: &StreamLog, policy: &LagPolicy, now: Instant) -> Self {
        let mut cursor = Self::join(log, Start::Instant, log.head(), policy, now);
        if log.keeps_for_delay()
            && let Some(key) = log.first_key(log.tail())
        {
            cursor.begin(key, log);
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
            began: true,
            start: FirstStart::Past,
            squeeze: None,
            thins: false,
            thinned: 0,
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
            && self.squeeze.is_none()
            && !self.thins
            && self.config_from == u64::MAX
            && matches!(self.position, Position::Reading)
    }

    /// It was served up to `to`.
    pub fn advance(&mut self, to: u64) {
        self.next = to;
        if self.squeeze.is_some_and(|squeeze| squeeze.until() <= to) {
            self.squeeze = None;
        }
    }

    /// It was served up to `to`, save for the disposable frames that it is spared.
    pub fn pass(&mut self, log: &StreamLog, to: u64) {
        if self.thins {
            let left_out =
                (self.next..to).filter_map(|seq| log.frame(seq)).filter(|frame| self.spares(frame)).count();
            self.gap += left_out as u64;
            self.skipped += left_out as u64;
            self.thinned += left_out as u64;
        }
        self.advance(to);
    }

    /// Whether a frame is left out although it would be due: nothing refers to it, and this subscriber is behind.
    #[must_use]
    pub const fn spares(&self, frame: &Frame) -> bool {
        self.thins && frame.flags.contains(FrameFlags::DISPOSABLE)
    }

    /// Whether disposable frames are being left out.
    #[must_use]
    pub const fn is_thinning(&self) -> bool {
        self.thins
    }

    /// Disposable frames left out that were not told of yet; now told.
    pub const fn take_thinned(&mut self) -> u64 {
        std::mem::replace(&mut self.thinned, 0)
    }

    /// Whether what is due next is of the past that one who catches up gets on timestamps of its own.
    #[must_use]
    pub const fn is_squeezed(&self) -> bool {
        self.squeeze.is_some()
    }

    /// A frame as this subscriber gets it; `None` if it is of the past and left out.
    #[must_use]
    pub fn stamp<'a>(&self, frame: &'a Frame) -> Option<Cow<'a, Frame>> {
        self.squeeze.map_or(Some(Cow::Borrowed(frame)), |squeeze| squeeze.stamp(frame))
    }

    /// It was served up to where the others stand. From then on it can be late, unless what it got last or gets next
    /// is itself old: then more of the GOP that it began with is still on its way from another shard.
    pub fn arrive(&mut self, log: &StreamLog, policy: &LagPolicy, hold: Duration, now: Instant) {
        let age = part_of_budget(policy, hold, 2);
        let young = |seq| log.frame(seq).map(|frame| now.since(frame.origin) <= age);
        self.thins = false;
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

    /// Decides before a delivery: may it go on, must it skip, is it given up? `policy` has the hold in its age.
    pub fn settle(&mut self, log: &StreamLog, policy: &LagPolicy, bounds: Bounds, now: Instant) -> LagVerdict {
        if self.position == Position::AwaitingKey {
            let Some(start) = self.start_in(log, bounds.limit) else { return LagVerdict::Wait };
            if self.started {
                self.leave_out(start);
                self.resume(start, log);
            } else {
                // The GOP it begins with may be older than its budget, above all on a replica that got it just now.
                self.exempt_until = now + policy.max_age;
                self.begin(start, log);
            }
        }
        // What is held back on purpose does not count.
        let bytes = log.bytes_behind(self.next).saturating_sub(log.bytes_behind(bounds.limit.max(self.next)));
        if !self.is_over(log, policy, bytes, now) {
            let half = || self.is_half_over(log, policy, bounds.hold, bytes, now);
            self.thins = bounds.thins && now >= self.exempt_until && half();
            return LagVerdict::Deliver;
        }
        self.thins = false;
        // The newest keyframe, if going there keeps the promise; else the next one that is published.
        let key = log.latest_key(bounds.limit);
        let key = key.filter(|key| *key >= self.next && log.age(*key, now) <= policy.max_age);
        if key == Some(self.next) {
            // It stands there, with more bytes before it than it may have: the next keyframe would be no smaller.
            return LagVerdict::Deliver;
        }
        let target = key.unwrap_or_else(|| bounds.limit.max(self.next));
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
    pub fn restart(&mut self, head: u64) {
        if self.started && head > self.next {
            self.gap += head - self.next;
            self.skipped += head - self.next;
        }
        self.advance(head);
        self.config_from = head;
        self.awaiting = 0;
        self.thins = false;
        self.started = false;
        self.again = false;
        self.position = Position::AwaitingKey;
    }

    /// It wanted nothing for a while: it goes on at the next keyframe, and nothing counts as left out.
    pub fn pause(&mut self, head: u64) {
        let owed = self.config_from;
        let next = self.next;
        self.started = false;
        self.restart(head);
        self.config_from = if owed < next { owed } else { next };
        self.gap = 0;
    }

    fn is_over(&self, log: &StreamLog, policy: &LagPolicy, bytes: u64, now: Instant) -> bool {
        if self.next < log.tail() {
            return true;
        }
        if now < self.exempt_until {
            return false;
        }
        log.age(self.next, now) > policy.max_age || bytes > policy.max_bytes
    }

    /// Whether half of its budget is used up; once it is, less than a quarter must be, so that it is not spared one
    /// frame and sent the next for ever.
    fn is_half_over(&self, log: &StreamLog, policy: &LagPolicy, hold: Duration, bytes: u64, now: Instant) -> bool {
        let part = if self.thins { 4 } else { 2 };
        let age = part_of_budget(policy, hold, part);
        log.age(self.next, now) > age || bytes > policy.max_bytes / u64::from(part)
    }

    /// Whether what a replica is being given is no place to start at before all of it is there.
    fn is_shy_of_replay(&self, log: &StreamLog) -> bool {
        self.start != FirstStart::Past || log.keeps_for_delay()
    }

    /// Where one who waits can start: a keyframe at or after its place, or any frame without video.
    fn start_in(&mut self, log: &StreamLog, limit: u64) -> Option<u64> {
        if !self.started && self.is_shy_of_replay(log) {
            if log.is_replaying() {
                return None;
            }
            if self.next < log.live_from() {
                // It came, or was left without a publisher, before that.
                match self.start {
                    FirstStart::Live => self.next = log.live_from(),
                    _ if log.has_video() && !self.began => return log.latest_key(limit),
                    _ => {}
                }
            }
        }
        if log.has_video() {
            // One who skipped goes to the newest; one who has waited for the stream misses nothing of it.
            let newest = log.latest_key(limit).filter(|key| *key >= self.next);
            return if self.started { newest } else { log.first_key(self.next).filter(|key| *key < limit) };
        }
        let next = self.next.max(log.tail());
        (log.has_media() && (next < limit || limit == log.head())).then_some(next)
    }

    fn leave_out(&mut self, to: u64) {
        if self.started {
            let frames = to.saturating_sub(self.next);
            self.gap += frames;
            self.skipped += frames;
            if self.config_from == u64::MAX {
                self.config_from = self.next;
            }
        }
        self.advance(to);
    }

    /// Its first start.
    fn begin(&mut self, at: u64, log: &StreamLog) {
        self.resume(at, log);
        self.began = true;
        let start = std::mem::replace(&mut self.start, FirstStart::Past);
        if start == FirstStart::CatchUp && log.frame(at).is_some_and(Frame::is_key) {
            self.squeeze = Squeeze::new(log, at);
        }
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

/// The age at which this part of its budget is used up.
fn part_of_budget(policy: &LagPolicy, hold: Duration, part: u32) -> Duration {
    hold + policy.max_age.saturating_sub(hold) / part
}

#[cfg(test)]
#[path = "subscriber_tests.rs"]
mod tests;
