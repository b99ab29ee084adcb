//! Now and then: have the tracks moved apart?
//!
//! How far a frame is ahead of its arrival tells its track's clock from the router's; the frame that waited least
//! since the last review tells it without the jitter of the network. Two tracks of one publisher come the same way,
//! so what is left when one is compared with the other is their clocks.

use super::lane::Lane;
use super::{FOLLOW_WITHIN, SECOND, SKEW_MAX, SKEW_STEP, Timeline};

impl Timeline {
    /// Compares the tracks, and begins to correct what has been wrong for long enough.
    pub(super) fn review(&mut self, arrival: i64) {
        self.review_at = arrival.saturating_add(REVIEW_EVERY);
        self.settle_rebase(arrival);
        for lane in self.lanes.iter_mut().filter(|lane| lane.frames >= FRAMES_MIN) {
            lane.settle(arrival);
        }
        let main = self.lanes.iter().position(|lane| lane.video).or_else(|| self.lanes.iter().position(|l| l.began));
        if let Some(main) = main.filter(|main| self.lanes[*main].frames >= FRAMES_MIN) {
            for track in 0..self.lanes.len() {
                if track != main && self.lanes[track].frames >= FRAMES_MIN {
                    self.compare(track, main);
                }
            }
        }
        self.lanes.iter_mut().for_each(Lane::begin_review);
    }

    /// Whether a track's new offset became that of the others is known after a while.
    fn settle_rebase(&mut self, arrival: i64) {
        let Some(rebase) = &mut self.rebase else { return };
        if rebase.settled || arrival.saturating_sub(rebase.at) < FOLLOW_WITHIN {
            return;
        }
        rebase.settled = true;
        let (offset, at) = (rebase.offset, rebase.at);
        let stayed = |lane: &Lane| lane.began && lane.offset != offset && lane.arrival > at;
        self.recent.alone += u64::from(self.lanes.iter().any(stayed));
    }

    fn compare(&mut self, track: usize, main: usize) {
        let (Some(ahead), Some(main_ahead)) = (self.lanes[track].settled, self.lanes[main].settled) else { return };
        let busy = self.lanes[track].is_led() || self.lanes[main].is_led();
        let lane = &mut self.lanes[track];
        let (base, main_base) = *lane.base.get_or_insert((ahead, main_ahead));
        lane.skew = ahead.saturating_sub(base).saturating_sub(main_ahead.saturating_sub(main_base));
        let (reviews, least) = lane.astray;
        lane.astray = if busy || lane.skew.abs() <= SKEW_MAX {
            (0, 0)
        } else if reviews > 0 && (least > 0) == (lane.skew > 0) {
            (reviews + 1, if lane.skew.abs() < least.abs() { lane.skew } else { least })
        } else {
            (1, lane.skew)
        };
        let (reviews, by) = lane.astray;
        if reviews < ASTRAY_REVIEWS {
            return;
        }
        lane.astray = (0, 0);
        if by.abs() >= SKEW_STEP {
            // Time can't fall on the track that is ahead.
            let behind = if by > 0 { main } else { track };
            self.lanes[behind].step_ahead(by.abs());
            self.jumped |= 1 << behind;
            self.recent.realigned += 1;
        } else {
            // The one whose clock differs more from the router's is the one that is wrong.
            let main_moved = main_ahead.saturating_sub(main_base);
            if self.lanes[track].moved().abs() >= main_moved.abs() {
                self.lanes[track].begin_to_lead_back(-by);
            } else {
                self.lanes[main].begin_to_lead_back(by);
            }
            self.recent.led_back += 1;
        }
    }
}

/// Time between two reviews, by arrival, in ns.
const REVIEW_EVERY: i64 = 2 * SECOND;
/// A track with fewer frames since the last review says nothing: how long one is under way depends on its size.
const FRAMES_MIN: u32 = 10;
/// So many reviews in a row must find a track astray to one side.
const ASTRAY_REVIEWS: u32 = 5;
