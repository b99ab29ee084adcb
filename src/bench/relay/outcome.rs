//! What one generator saw in its window, and the sum over several.

use serde::{Deserialize, Serialize};

use super::histogram::Samples;
use super::watch::Counts;

/// One window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Viewers that were to stay, and those of them that were there from before the window until its end.
    pub(crate) players: u64,
    pub(crate) stayed: u64,
    /// Those that saw no keyframe in time, and those whose connection ended.
    pub(crate) never_joined: u64,
    pub(crate) lost: u64,
    /// Why the first of them was lost.
    pub(crate) first_loss: Option<String>,
    /// Nanoseconds that viewers of every kind were there in the window, all together.
    pub(crate) viewer_ns: u64,
    /// Bytes that they received in it.
    pub(crate) bytes: u64,
    /// Frames of the window that came to those who stayed, and that should have come.
    pub(crate) received: u64,
    pub(crate) expected: u64,
    /// What viewers that stay or visit saw, from their first frame on.
    pub(crate) counts: Counts,
    /// What slow readers saw, and how many the server has ended.
    pub(crate) slow_players: u64,
    pub(crate) slow: Counts,
    pub(crate) slow_ended: u64,
    /// Visitors that came in the window, and that saw no keyframe or were cut off.
    pub(crate) visitors: u64,
    pub(crate) visitors_failed: u64,
    /// Messages that publishers could not hand over at once.
    pub(crate) blocked: u64,
    /// Messages that were due in the window, and that were sent.
    pub(crate) due: u64,
    pub(crate) sent: u64,
    /// Receipt minus due, and minus sent, of video frames of the window.
    pub(crate) age: Samples,
    pub(crate) age_since_sent: Samples,
    /// Sent minus due.
    pub(crate) lateness: Samples,
    /// Connect to first whole keyframe: of those that stay, and of visitors.
    pub(crate) join: Samples,
    pub(crate) visitors_join: Samples,
    /// How far the wall clock was stepped, ns.
    pub(crate) clock_step: u64,
}

impl Outcome {
    /// Takes in another generator's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.players += other.players;
        self.stayed += other.stayed;
        self.never_joined += other.never_joined;
        self.lost += other.lost;
        self.first_loss = self.first_loss.take().or_else(|| other.first_loss.clone());
        self.viewer_ns += other.viewer_ns;
        self.bytes += other.bytes;
        self.received += other.received;
        self.expected += other.expected;
        self.counts += other.counts;
        self.slow_players += other.slow_players;
        self.slow += other.slow;
        self.slow_ended += other.slow_ended;
        self.visitors += other.visitors;
        self.visitors_failed += other.visitors_failed;
        self.blocked += other.blocked;
        self.due += other.due;
        self.sent += other.sent;
        for (own, theirs) in [
            (&mut self.age, &other.age),
            (&mut self.age_since_sent, &other.age_since_sent),
            (&mut self.lateness, &other.lateness),
            (&mut self.join, &other.join),
            (&mut self.visitors_join, &other.visitors_join),
        ] {
            own.add(theirs);
        }
        self.clock_step = self.clock_step.max(other.clock_step);
    }
}
