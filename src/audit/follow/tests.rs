//! What a follower promises: each record once and in order, whatever its destination does and whenever it is killed.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::audit::trail::{Head, Sealed, TrailOptions, segments};
use crate::audit::{AuditPipeline, AuditStats};
use crate::clock::Clock;
use crate::fact::{Fact, FactKind};
use crate::id::ShardId;

/// A folder that is gone after the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shardcast-follow-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn cursor(&self) -> PathBuf {
        self.0.join("followers/place.json")
    }

    /// The lines of the trail, by their numbers.
    pub(super) fn trail(&self) -> BTreeMap<u64, String> {
        let mut lines = BTreeMap::new();
        for (_, path) in segments(&self.0).unwrap() {
            for line in fs::read_to_string(path).unwrap().lines() {
                lines.insert(Head::read(line.as_bytes()).unwrap().seq, line.to_owned());
            }
        }
        lines
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A pipeline whose trail is followed.
pub(super) struct World {
    pipeline: AuditPipeline,
    pub(super) followers: Followers,
}

impl World {
    pub(super) fn start(folder: &Folder, followers: Vec<Follower>) -> Self {
        Self::try_start(folder, followers).unwrap()
    }

    fn try_start(folder: &Folder, followers: Vec<Follower>) -> Result<Self, CursorError> {
        let options = TrailOptions { segment_bytes: 3_000, ..TrailOptions::default() };
        let trail = Trail::open(folder.path(), options).unwrap();
        let (followed, followers) = Followed::start(trail, followers)?;
        let pipeline = AuditPipeline::start(vec![Box::new(followed)], 4096, Clock::start());
        Ok(Self { pipeline, followers })
    }

    /// A few at a time, as a segment ends between two batches and not within one.
    pub(super) fn tell(&self, count: u64) {
        self.tell_by(count, 5);
    }

    fn tell_by(&self, count: u64, few: u64) {
        let mut producer = self.pipeline.producer(7);
        for number in 0..count {
            producer.emit(Fact::new(FactKind::PlayStart, Clock::start().now(), ShardId(0)).count(number));
            while number % few == few - 1 && self.pipeline.stats().written < self.pipeline.stats().attempted {
                thread::yield_now();
            }
        }
    }

    pub(super) fn stop(self) -> (AuditStats, Vec<FollowerStats>) {
        let stats = self.pipeline.stop(Duration::from_secs(20));
        (stats, self.followers.stop(Duration::from_secs(20)))
    }

    /// Ends followers at once, whatever they are at, and then the trail.
    fn stop_amid(self) -> Vec<FollowerStats> {
        let followers = self.followers.stop(Duration::ZERO);
        let _ = self.pipeline.stop(Duration::from_secs(20));
        followers
    }

    pub(super) fn until(&self, what: &str, holds: impl Fn(&FollowerStats) -> bool) -> FollowerStats {
        for _ in 0..6_000 {
            let stats = self.followers.stats().remove(0);
            if holds(&stats) {
                return stats;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("never: {what}: {:?}", self.followers.stats());
    }
}

/// How a place answers to an offer.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Takes,
    /// Takes nothing and fails.
    Fails,
    /// Takes it, and the answer is lost.
    TakesAndFails,
}

/// A destination in memory.
#[derive(Clone, Debug, Default)]
struct Place(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    taken: Vec<(u64, String)>,
    ids: Vec<String>,
    answers: VecDeque<Answer>,
    /// It can tell what it has.
    tells: bool,
    /// Text of records that it will not take.
    unwanted: Option<&'static str>,
    /// The cursor as it was when something was offered: what a kill would leave.
    cursor: Option<PathBuf>,
    left: Option<Vec<u8>>,
}

impl Place {
    fn telling() -> Self {
        let place = Self::default();
        place.0.lock().tells = true;
        place
    }

    fn follower(&self) -> Follower {
        Follower {
            batch_records: 7,
            retry_first: Duration::from_millis(1),
            retry_most: Duration::from_millis(4),
            ..Follower::new("place", Box::new(self.clone()))
        }
    }

    fn taken(&self) -> BTreeMap<u64, String> {
        let taken = self.0.lock().taken.clone();
        let all: BTreeMap<_, _> = taken.iter().cloned().collect();
        assert_eq!(all.len(), taken.len(), "a record was taken twice");
        assert!(taken.is_sorted(), "out of order");
        all
    }
}

impl Destination for Place {
    fn last(&mut self, _log: &str, _known: u64) -> Result<Option<Standing>, DeliveryError> {
        let inner = self.0.lock();
        let last = inner.taken.last().map_or_else(Standing::default, |(seq, line)| {
            let hash = Sealed::read(line.as_bytes()).map(|sealed| sealed.hash);
            Standing { seq: *seq, hash }
        });
        Ok(inner.tells.then_some(last))
    }

    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        let mut inner = self.0.lock();
        if let Some(cursor) = &inner.cursor {
            inner.left = Some(fs::read(cursor).unwrap());
        }
        let answer = inner.answers.pop_front().unwrap_or(Answer::Takes);
        if let Some(unwanted) = inner.unwanted
            && batch.records.iter().any(|record| record.text().contains(unwanted))
        {
            return Err(DeliveryError::refused("it does not like that"));
        }
        if matches!(answer, Answer::Fails) {
            return Err(DeliveryError::later("nobody answers"));
        }
        // As a receiver does that keeps the names of batches.
        if inner.ids.contains(&batch.id()) {
            assert!(batch.again, "a batch of the same name that is not said to come again");
            return Ok(());
        }
        inner.ids.push(batch.id());
        inner.taken.extend(batch.records.iter().map(|record| (record.seq, record.text().to_owned())));
        match answer {
            Answer::TakesAndFails => Err(DeliveryError::later("the answer was lost")),
            _ => Ok(()),
        }
    }
}

#[test]
fn each_record_is_delivered_once_and_in_order_also_after_a_restart() {
    for place in [Place::default(), Place::telling()] {
        let folder = Folder::new();
        for count in [40, 0, 25] {
            let world = World::start(&folder, vec![place.follower()]);
            world.tell(count);
            let (stats, followers) = world.stop();
            assert_eq!((stats.lost, followers[0].lag, &followers[0].state), (0, 0, &FollowerState::Stopped));
        }
        assert_eq!(place.taken(), folder.trail());
        assert!(segments(folder.path()).unwrap().len() > 3, "the trail had several segments");
    }
}

#[test]
fn one_that_is_blocked_holds_up_neither_the_trail_nor_its_end_and_catches_up_later() {
    #[derive(Debug)]
    struct Blocked(Receiver<()>, Place);
    impl Destination for Blocked {
        fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
            let _ = self.0.recv();
            self.1.deliver(batch)
        }
    }
    let folder = Folder::new();
    let place = Place::default();
    let (open, gate): (Sender<()>, _) = bounded(0);
    let other = Place::default();
    let beside = Follower { name: "beside".into(), ..other.follower() };
    let blocked = Follower { destination: Box::new(Blocked(gate, place.clone())), ..place.follower() };
    let world = World::start(&folder, vec![blocked, beside]);
    // Far more than any channel or batch holds.
    world.tell_by(20_000, 2_000);
    let stats = world.pipeline.stop(Duration::from_secs(20));
    assert_eq!((stats.lost, stats.written), (0, 20_000));
    let followers = world.followers.stop(Duration::from_millis(300));
    assert_eq!((followers[0].delivered, followers[0].state.clone()), (0, FollowerState::Following));
    assert!(followers[0].lag >= 20_000);
    drop(open);

    let world = World::start(&folder, vec![place.follower(), Follower { name: "beside".into(), ..other.follower() }]);
    let _ = world.stop();
    assert_eq!(other.taken(), folder.trail());
    // The thread that was left behind may have had its batch through as well: under the same name, so once.
    assert_eq!(place.taken(), folder.trail());
}

#[test]
fn what_will_never_be_taken_is_put_aside_with_its_reason_and_the_trail_says_so_once() {
    let folder = Folder::new();
    let place = Place::telling();
    place.0.lock().unwanted = Some("\"count\":13");
    let world = World::start(&folder, vec![place.follower()]);
    world.tell(30);
    world.until("a record of it", |_| folder.trail().values().any(|line| line.contains("\"follower_refuse\"")));
    let (_, followers) = world.stop();
    assert_eq!((followers[0].refused, followers[0].lag), (1, 0));

    let (trail, taken) = (folder.trail(), place.taken());
    let missing: Vec<_> = trail.iter().filter(|(seq, _)| !taken.contains_key(seq)).collect();
    assert_eq!(missing.len(), 1);
    assert!(missing[0].1.contains("\"count\":13"), "{missing:?}");
    let aside = fs::read_to_string(folder.path().join("followers/place.refused.jsonl")).unwrap();
    assert_eq!(aside.lines().count(), 1);
    let aside: serde_json::Value = serde_json::from_str(&aside).unwrap();
    assert_eq!(
        (aside["refused"].as_u64(), aside["why"].as_str()),
        (Some(*missing[0].0), Some("it does not like that"))
    );
    assert_eq!(aside["record"], serde_json::from_str::<serde_json::Value>(missing[0].1).unwrap());
    let told: Vec<_> = trail.values().filter(|line| line.contains("follower_refuse")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("\"follower\":\"place\",\"count\":1"), "{told:?}");
}

#[test]
fn one_that_takes_nothing_at_all_does_not_fill_the_trail_with_records_of_itself() {
    let folder = Folder::new();
    let place = Place::telling();
    place.0.lock().unwanted = Some("seq");
    let world = World::start(&folder, vec![place.follower()]);
    world.tell(20);
    // The record that says so is refused as well, and no other says that.
    let told = || folder.trail().values().filter(|line| line.contains("follower_refuse")).count();
    world.until("said, and refused", |stats| told() == 1 && stats.lag == 0);
    world.tell(1);
    world.until("said again of the next", |stats| told() == 2 && stats.lag == 0);
    let (_, followers) = world.stop();
    assert_eq!(followers[0].refused, folder.trail().len() as u64);
    // And it is not offered again.
    let world = World::start(&folder, vec![place.follower()]);
    let (_, followers) = world.stop();
    assert_eq!(followers[0].refused, folder.trail().len() as u64);
    let lines = fs::read_to_string(folder.path().join("followers/place.refused.jsonl")).unwrap().lines().count();
    assert_eq!(lines, folder.trail().len());
}

#[test]
fn a_destination_that_knows_more_than_the_trail_shows_that_its_end_was_cut_off() {
    let folder = Folder::new();
    let place = Place::telling();
    let world = World::start(&folder, vec![place.follower()]);
    world.tell(60);
    let _ = world.stop();
    let (_, last) = segments(folder.path()).unwrap().pop().unwrap();
    fs::remove_file(last).unwrap();

    let world = World::start(&folder, vec![place.follower()]);
    let stats = world.until("halted", |stats| matches!(stats.state, FollowerState::Halted(_)));
    let FollowerState::Halted(why) = stats.state else { unreachable!() };
    assert!(why.contains("the end of the trail was cut off"), "{why}");
    // The trail itself says that it is followed no more.
    world.until("on record", |_| folder.trail().values().any(|line| line.contains("\"follower_fail\"")));
}

#[test]
fn nothing_is_delivered_from_behind_a_record_that_was_changed_or_removed() {
    // Changed and sealed anew, as who has the trail in hand can do; changed; removed.
    for how in ["changed", "replaced", "removed"] {
        let folder = Folder::new();
        let place = Place::default();
        let world = World::start(&folder, vec![place.follower()]);
        world.tell(10);
        let _ = world.stop();
        let delivered = place.taken().len();
        // Nobody follows what comes now.
        let world = World::start(&folder, vec![]);
        world.tell(60);
        let _ = world.stop();
        let paths: Vec<_> = segments(folder.path()).unwrap().into_iter().map(|(_, path)| path).collect();
        match how {
            "changed" => {
                let middle = &paths[paths.len() / 2];
                let text = fs::read_to_string(middle).unwrap().replacen("\"bytes\":0", "\"bytes\":1", 1);
                fs::write(middle, text).unwrap();
            }
            "replaced" => {
                let text = fs::read_to_string(folder.cursor()).unwrap();
                let at = text.find("\"hash\":\"").unwrap() + 8;
                fs::write(folder.cursor(), format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])).unwrap();
            }
            _ => paths[..3].iter().for_each(|path| fs::remove_file(path).unwrap()),
        }
        let world = World::start(&folder, vec![place.follower()]);
        let stats = world.until("halted", |stats| matches!(stats.state, FollowerState::Halted(_)));
        let FollowerState::Halted(why) = stats.state else { unreachable!() };
        let expected = match how {
            "changed" => "is broken or does not follow",
            "replaced" => "was replaced or changed",
            _ => "was not delivered yet",
        };
        assert!(why.contains(expected), "{how}: {why}");
        let trail = folder.trail();
        assert!(place.taken().iter().all(|(seq, line)| trail.get(seq).is_none_or(|there| there == line)));
        if how != "changed" {
            assert_eq!(place.taken().len(), delivered, "{how}");
        }
    }
}

#[test]
fn a_destination_that_panics_is_not_asked_again_and_nobody_else_notices() {
    #[derive(Debug)]
    struct Panics;
    impl Destination for Panics {
        fn deliver(&mut self, _batch: &Batch<'_>) -> Result<(), DeliveryError> {
            panic!("on purpose");
        }
    }
    let folder = Folder::new();
    let place = Place::default();
    let world = World::start(&folder, vec![Follower::new("panics", Box::new(Panics)), place.follower()]);
    world.tell(20);
    let stats = world.until("halted", |stats| matches!(stats.state, FollowerState::Halted(_)));
    assert_eq!(stats.state, FollowerState::Halted("its destination panicked".into()));
    let _ = world.stop();
    assert_eq!(place.taken(), folder.trail());
}

#[test]
fn names_and_cursors_that_cannot_be_are_told_at_the_start() {
    let folder = Folder::new();
    let place = Place::default();
    let named = |name: &str| Follower { name: name.into(), ..place.follower() };
    for name in ["", "a/b", "..", "a b", &"x".repeat(65)] {
        let refused = World::try_start(&folder, vec![named(name)]).err().unwrap();
        assert!(matches!(refused, CursorError::Name(_)), "{name}: {refused}");
    }
    let refused = World::try_start(&folder, vec![named("a"), named("a")]).err().unwrap();
    assert!(matches!(refused, CursorError::Twice(_)), "{refused}");

    let world = World::start(&folder, vec![place.follower()]);
    world.tell(1);
    let _ = world.stop();
    let other = Folder::new();
    fs::create_dir_all(other.path().join("followers")).unwrap();
    fs::copy(folder.cursor(), other.cursor()).unwrap();
    let refused = World::try_start(&other, vec![place.follower()]).err().unwrap();
    assert!(matches!(refused, CursorError::OtherTrail { .. }), "{refused}");
    fs::write(other.cursor(), "{}").unwrap();
    let refused = World::try_start(&other, vec![place.follower()]).err().unwrap();
    assert!(matches!(refused, CursorError::File { action: "read", .. }), "{refused}");
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = prop_oneof![4 => Just(Answer::Takes), 2 => Just(Answer::Fails), 2 => Just(Answer::TakesAndFails)];
    proptest::collection::vec(answer, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever a destination answers, and whenever the process is killed: also between a delivery and the cursor.
    #[test]
    fn nothing_is_lost_or_doubled(
        tells in any::<bool>(),
        lives in proptest::collection::vec((0_u64..30, answers(), any::<bool>()), 1..6),
    ) {
        let folder = Folder::new();
        let place = if tells { Place::telling() } else { Place::default() };
        for (count, answers, killed) in lives {
            let world = World::start(&folder, vec![place.follower()]);
            {
                let mut inner = place.0.lock();
                inner.answers = answers.into();
                inner.cursor = Some(folder.cursor());
                inner.left = None;
            }
            world.tell(count);
            if killed {
                let _ = world.stop_amid();
                if let Some(left) = place.0.lock().left.take() {
                    fs::write(folder.cursor(), left).unwrap();
                }
            } else {
                let _ = world.stop();
            }
        }
        place.0.lock().answers.clear();
        let world = World::start(&folder, vec![place.follower()]);
        let (stats, followers) = world.stop();
        prop_assert_eq!(stats.lost, 0);
        prop_assert_eq!(followers[0].lag, 0);
        prop_assert_eq!(place.taken(), folder.trail());
    }
}
