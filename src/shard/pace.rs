//! How many bytes may wait in a viewer's socket: so many that a fast viewer never notices, and so few that they are no
//! older than a share of its budget when a slow one gets them, at the pace of the stream or at its own.
//!
//! The kernel alone would take megabytes, minutes of a stream of sound; and what it has taken is sent, however old.
//! What the viewer's own system has taken and not handed to its player yet is beyond reach, like the network in
//! between.

use std::time::Duration;

use super::Shard;
use super::env::Env;
use super::group::Target;
use super::local::LocalStream;
use crate::clock::{Instant, Now};
use crate::limits::{UNSENT_BOUNDS_PER_FRAME, UNSENT_BYTES_MAX, UNSENT_BYTES_MIN};

/// The pace of one stream, in payload bytes per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// When it is measured again.
    due: Instant,
    /// Bytes that the log had been given at the last look.
    bytes: u64,
    since: Instant,
    /// The pace by which sockets are bounded now; none before the first look.
    per_second: Option<u64>,
    /// Sockets that are still to be bounded by it: those of all groups before this one, and so many of this one.
    left: Option<(usize, usize)>,
}

impl Pace {
    pub(crate) const NEW: Self =
        Self { due: Instant::ZERO, bytes: 0, since: Instant::ZERO, per_second: None, left: None };

    /// Whether there is something to be done.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.due || self.left.is_some()
    }

    /// Looks again; whether sockets are to be bounded anew. A pace that wavers by less than two changes nothing.
    fn measure(&mut self, bytes: u64, now: Instant) -> bool {
        let passed = now.since(self.since);
        let grown = bytes - std::mem::replace(&mut self.bytes, bytes);
        let first = self.due == Instant::ZERO;
        (self.since, self.due) = (now, now + MEASURED_EVERY);
        if first || passed < MEASURED_EVERY / 2 {
            return false;
        }
        let nanos = passed.as_nanos();
        let per_second = u64::try_from(u128::from(grown) * 1_000_000_000 / nanos.max(1)).unwrap_or(u64::MAX);
        if self.per_second.is_some_and(|used| per_second <= used && per_second >= used / 2) {
            return false;
        }
        self.per_second = Some(per_second + per_second / 4);
        true
    }

    /// Whose socket is to be bounded next, by group and number there, if the groups have so many. It goes from the last
    /// to the first: the place of one who leaves meanwhile is taken by one who had its turn.
    fn next(&mut self, size: impl Fn(usize) -> usize) -> Option<(usize, usize)> {
        let (mut group, mut count) = self.left?;
        loop {
            if let Some(at) = count.min(size(group)).checked_sub(1) {
                self.left = Some((group, at));
                return self.left;
            }
            self.left = None;
            group = group.checked_sub(1)?;
            count = size(group);
        }
    }

    /// The bound for a viewer with this budget, whose frames wait so long for each other.
    fn unsent(&self, max_age: Duration, company: Duration) -> u32 {
        let Some(per_second) = self.per_second else { return UNSENT_BYTES_MAX };
        let time = max_age / BUDGET_SHARE + company;
        let bytes = u128::from(per_second) * time.as_millis() / 1_000;
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(UNSENT_BYTES_MIN, UNSENT_BYTES_MAX)
    }
}

impl<E: Env> Shard<E> {
    /// Measures a stream's pace, and bounds the sockets of its viewers where it has changed: some at each frame, as
    /// each takes a system call.
    pub(super) fn measure_pace(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if now.mono >= stream.pace.due && stream.pace.measure(stream.log.bytes_in(), now.mono) {
            stream.pace.left = Some((stream.groups.len(), 0));
        }
        for _ in 0..UNSENT_BOUNDS_PER_FRAME {
            let Some(LocalStream { pace, groups, .. }) = self.streams.get_mut(index) else { return };
            let Some((group, at)) = pace.next(|group| groups.get(group).map_or(0, |group| group.subs.len())) else {
                return;
            };
            let place = groups[group].subs[at].place;
            self.bound_unsent(place);
        }
    }

    /// Before a subscriber is served from its own place: what may wait in its socket, if that reads at another pace.
    pub(super) fn look_at_pace(&mut self, place: usize, now: Instant) {
        let Some(entry) = self.places.get(place) else { return };
        let Some(stream) = self.streams.get(entry.stream()) else { return };
        let Target::Connection(slot) = stream.groups[entry.group()].subs[entry.index()].target else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.look_again(now);
        if connection.has_another_pace() {
            self.bound_unsent(place);
        }
    }

    /// Bounds what may wait in the socket of a subscriber, if it has one.
    pub(super) fn bound_unsent(&mut self, place: usize) {
        let Some(entry) = self.places.get(place) else { return };
        let Some(stream) = self.streams.get(entry.stream()) else { return };
        let group = &stream.groups[entry.group()];
        let Target::Connection(slot) = group.subs[entry.index()].target else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let max_age = entry.max_age().unwrap_or(stream.spec.lag.max_age);
        let mut bytes = stream.pace.unsent(max_age, group.company());
        if let Some(taken) = connection.takes_in(max_age / BUDGET_SHARE) {
            // A slow one takes less than the stream has: what waits for it is as old as that lasts.
            bytes = bytes.min(taken).max(UNSENT_BYTES_MIN);
        }
        if bytes.abs_diff(connection.unsent) > connection.unsent / 8 {
            connection.unsent = bytes;
            self.env.bound_unsent(&mut connection.socket, bytes);
        }
    }
}

/// Long enough for a GOP or two.
const MEASURED_EVERY: Duration = Duration::from_secs(2);
/// The share of a viewer's budget that may wait in its socket.
const BUDGET_SHARE: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(3);

    fn after(paces: &[u64]) -> (Pace, Vec<bool>) {
        let (mut pace, mut bytes) = (Pace::NEW, 0);
        let start = Instant::ZERO + Duration::from_secs(5);
        pace.measure(0, start);
        let mut changed = Vec::new();
        for (n, per_second) in (1..).zip(paces) {
            bytes += per_second * MEASURED_EVERY.as_secs();
            changed.push(pace.measure(bytes, start + MEASURED_EVERY * n));
        }
        (pace, changed)
    }

    #[test]
    fn no_more_than_a_share_of_the_budget_waits_in_a_socket() {
        let (pace, _) = after(&[400_000]);
        let bytes = pace.unsent(BUDGET, Duration::ZERO);
        assert_eq!(bytes, 375_000, "750 ms of 400 kB/s and a quarter more");
        assert_eq!(pace.unsent(BUDGET / 3, Duration::ZERO), 125_000, "whose budget is shorter has less");
        assert_eq!(pace.unsent(BUDGET, Duration::from_millis(250)), 500_000, "what leaves together must fit");
        assert_eq!(Pace::NEW.unsent(BUDGET, Duration::ZERO), UNSENT_BYTES_MAX, "before anything is known");
        assert_eq!(after(&[8_000]).0.unsent(BUDGET, Duration::ZERO), 7_500, "sound alone");
        assert_eq!(after(&[100]).0.unsent(BUDGET, Duration::ZERO), UNSENT_BYTES_MIN);
        assert_eq!(after(&[u64::MAX >> 8]).0.unsent(BUDGET, Duration::ZERO), UNSENT_BYTES_MAX);
    }

    #[test]
    fn sockets_are_left_alone_while_the_pace_wavers() {
        assert_eq!(after(&[400, 450, 300, 480, 251]).1, [true, false, false, false, false]);
        assert_eq!(after(&[400, 600, 200]).1, [true, true, true]);
    }

    #[test]
    fn each_socket_has_its_turn_also_where_others_leave_meanwhile() {
        let mut sizes = vec![2, 0, 3];
        let mut pace = Pace { left: Some((3, 0)), ..Pace::NEW };
        let mut next = |sizes: &[usize]| pace.next(|group| sizes.get(group).copied().unwrap_or(0));
        assert_eq!([next(&sizes), next(&sizes)], [Some((2, 2)), Some((2, 1))]);
        // The first of that group left, and the last, which had its turn, is where it was.
        sizes[2] = 1;
        assert_eq!(next(&sizes), Some((2, 0)));
        assert_eq!([next(&sizes), next(&sizes), next(&sizes)], [Some((0, 1)), Some((0, 0)), None]);
        assert_eq!(pace.left, None);
    }
}
