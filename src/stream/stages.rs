//! Where the time of a frame goes: how long each stage took, for the frames that are timed.
//!
//! A shard keeps one fine histogram of each stage; a stream has [`Spread`]s, which are coarse and small, since there
//! may be thousands of them. Both are taken when they are read.

use std::time::Duration;

/// A value for each stage of a frame's way, times in nanoseconds.
///
/// Ingest is when the turn began in which the last byte of the frame was read from the publisher's socket, or when the
/// host sent it. What a frame waits for before that, in the buffers of the kernel, no router sees; at most it is as
/// long as the turn before, see [`ShardStats::turn_ns`](crate::shard::ShardStats::turn_ns).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages<T> {
    /// Ingest → in the log of the stream's home. One for each timed frame, on its home shard.
    pub append: T,
    /// In the log of the home → in the log of another shard. One for each timed frame, on each shard that it crosses
    /// to.
    pub relay: T,
    /// In the log of a shard → accepted by the first socket there, or handed to the first sink or ring of the host.
    /// What frames wait for on purpose, to leave together, counts.
    pub first: T,
    /// Ingest → the last byte accepted by a socket, or handed to a sink or a ring of the host: how old the frame was
    /// when it left the router. One for each delivery of a timed frame. What a joiner is replayed from before it came
    /// does not count: that is as old as the cached GOP.
    pub age: T,
}

/// Names a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// [`Stages::append`].
    Append,
    /// [`Stages::relay`].
    Relay,
    /// [`Stages::first`].
    First,
    /// [`Stages::age`].
    Age,
}

impl<T> Stages<T> {
    /// The value of one stage.
    pub const fn of(&mut self, stage: Stage) -> &mut T {
        match stage {
            Stage::Append => &mut self.append,
            Stage::Relay => &mut self.relay,
            Stage::First => &mut self.first,
            Stage::Age => &mut self.age,
        }
    }
}

impl Stages<Spread> {
    /// Adds what another shard, or a later look, has seen.
    pub fn merge(&mut self, other: &Self) {
        self.append.merge(&other.append);
        self.relay.merge(&other.relay);
        self.first.merge(&other.first);
        self.age.merge(&other.age);
    }
}

/// How a time spreads: counts in buckets an eighth of an octave wide, from 1,024 ns to a minute. 24 bytes while empty,
/// 800 from the first value on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    counts: Option<Box<[u32; BUCKETS]>>,
    count: u64,
    /// Exact, in nanoseconds.
    max: u64,
}

impl Spread {
    /// Counts a time so many times.
    pub fn record(&mut self, time: Duration, times: u64) {
        if times == 0 {
            return;
        }
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let counts = self.counts.get_or_insert_with(|| Box::new([0; BUCKETS]));
        let slot = &mut counts[bucket(ns)];
        *slot = slot.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        self.count += times;
        self.max = self.max.max(ns);
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        let Some(from) = &other.counts else { return };
        let counts = self.counts.get_or_insert_with(|| Box::new([0; BUCKETS]));
        for (slot, more) in counts.iter_mut().zip(from.iter()) {
            *slot = slot.saturating_add(*more);
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many times were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The time that this share (0 to 1) of all did not exceed: never told too short, and at most an eighth too long.
    /// Zero if there is none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share"
    )]
    pub fn at_quantile(&self, share: f64) -> Duration {
        let Some(counts) = &self.counts else { return Duration::ZERO };
        let wanted = ((share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return Duration::from_nanos(end_of(index).min(self.max));
            }
        }
        self.max()
    }
}

/// The bucket of a time: one unit each up to eight units, then eight to an octave.
fn bucket(ns: u64) -> usize {
    let units = (ns >> UNIT_BITS).min(UNITS_MAX);
    if units < PER_OCTAVE {
        return small(units);
    }
    let octave = u64::from(units.ilog2()) - PER_OCTAVE_BITS;
    small((octave + 1) * PER_OCTAVE + ((units >> octave) - PER_OCTAVE))
}

/// The end of a bucket, in nanoseconds.
const fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_OCTAVE {
        return (bucket + 1) << UNIT_BITS;
    }
    let octave = bucket / PER_OCTAVE - 1;
    ((bucket % PER_OCTAVE + PER_OCTAVE + 1) << octave) << UNIT_BITS
}

#[expect(clippy::cast_possible_truncation, reason = "less than BUCKETS")]
const fn small(bucket: u64) -> usize {
    bucket as usize
}

/// A unit is 1,024 ns: that is how exactly the origin of a frame crosses from one shard to another.
const UNIT_BITS: u32 = 10;
const PER_OCTAVE_BITS: u64 = 3;
const PER_OCTAVE: u64 = 1 << PER_OCTAVE_BITS;
const OCTAVES: u64 = 26;
/// Longer ones are counted as 68 s; their maximum is exact.
const UNITS_MAX: u64 = (1 << OCTAVES) - 1;
const BUCKETS: usize = small((OCTAVES - PER_OCTAVE_BITS + 1) * PER_OCTAVE);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_is_never_too_short_and_at_most_an_eighth_too_long(
            mut all in proptest::collection::vec(0u64..60_000_000_000, 1..200), share in 0.0f64..=1.0,
        ) {
            let mut spread = Spread::default();
            all.iter().for_each(|ns| spread.record(Duration::from_nanos(*ns), 1));
            all.sort_unstable();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let rank = ((share * all.len() as f64).ceil() as usize).max(1);
            let (exact, told) = (all[rank - 1], spread.at_quantile(share).as_nanos());
            prop_assert!(told >= exact.into(), "{told} for {exact}");
            prop_assert!(told <= u128::from(exact) * 9 / 8 + 1024, "{told} for {exact}");
            prop_assert_eq!(spread.max().as_nanos(), u128::from(all[all.len() - 1]));
        }
    }

    #[test]
    fn what_is_longer_than_a_minute_is_counted_and_its_maximum_is_exact() {
        let mut spread = Spread::default();
        spread.record(Duration::from_secs(3600), 3);
        spread.record(Duration::from_secs(1), 1);
        assert_eq!((spread.count(), spread.max()), (4, Duration::from_secs(3600)));
        assert!(spread.at_quantile(0.9) >= Duration::from_secs(60));
    }

    #[test]
    fn two_merged_are_as_if_all_had_been_counted_in_one() {
        let (mut one, mut other, mut all) = (Spread::default(), Spread::default(), Spread::default());
        for ms in 0..100 {
            let half = if ms % 3 == 0 { &mut one } else { &mut other };
            half.record(Duration::from_millis(ms), ms);
            all.record(Duration::from_millis(ms), ms);
        }
        one.merge(&other);
        assert_eq!(one, all);
        other.merge(&Spread::default());
        assert_eq!(Spread::default().at_quantile(0.5), Duration::ZERO);
    }
}
