//! Who waits until it is on record that it may, and what is done while nothing can be recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shardcast::Router;
use shardcast::audit::{AuditError, AuditSink, Entry, MemorySink, Record};
use shardcast::fact::{Class, FactKind, HostEvent, HostKind};
use shardcast::limits::Limits;
use shardcast::reason::Reason;
use shardcast::shard::{LossPolicy, OnLoss};
use shardcast::stream::{AppSpec, Durable};

use crate::world::*;

/// A sink whose disk can be held up, and be broken.
struct Disk {
    /// One for each flush while it is held up.
    go: Receiver<()>,
    held_up: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    /// Flushes that are through.
    flushed: Arc<AtomicU64>,
    inner: MemorySink,
}

impl AuditSink for Disk {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(AuditError::Sink("the disk is full".into()));
        }
        self.inner.write(records)
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        if self.held_up.load(Ordering::SeqCst) {
            let _ = self.go.recv();
        }
        self.flushed.fetch_add(1, Ordering::SeqCst);
        self.inner.flush()
    }
}

struct World {
    router: Router,
    go: Sender<()>,
    held_up: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    flushed: Arc<AtomicU64>,
    records: MemorySink,
}

fn world(policy: LossPolicy, change: impl FnOnce(&mut Limits)) -> World {
    let (go, going) = channel();
    let (held_up, broken, flushed) = (Arc::default(), Arc::default(), Arc::default());
    let records = MemorySink::new(10_000);
    let disk = Disk {
        go: going,
        held_up: Arc::clone(&held_up),
        broken: Arc::clone(&broken),
        flushed: Arc::clone(&flushed),
        inner: records.clone(),
    };
    let router = limited(change)
        .shards(2)
        .app(AppSpec::new("court").durable(Durable::BeforeEffect))
        .app(AppSpec::new("*"))
        .on_loss(policy)
        .audit(Box::new(disk))
        .start()
        .unwrap();
    World { router, go, held_up, broken, flushed, records }
}

fn kinds(records: &MemorySink) -> Vec<FactKind> {
    let kind = |record: Record| match record.entry {
        Entry::Fact(fact) => Some(fact.kind),
        Entry::Loss(_) => None,
    };
    records.records().into_iter().filter_map(kind).collect()
}

#[test]
fn nobody_starts_before_it_is_on_disk_that_they_may_and_others_do_not_wait_for_that() {
    let world = world(LossPolicy::default(), |limits| limits.audit_deadline = WAIT);
    eventually("the start is flushed", || world.flushed.load(Ordering::SeqCst) > 0);
    world.held_up.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&world.router, "court/hearing"));
        eventually("that it may publish is written", || kinds(&world.records).contains(&FactKind::PublishAllow));

        // The disk is not through: others come and go on the same shard.
        let mut publisher = publish(&world.router, "live/other");
        let mut subscription = subscribe(&world.router, "live/other");
        Reel::new().send(&mut publisher, "ck");
        assert_eq!(take(&mut subscription, 2), ["c0", "k1"]);
        assert!(!waiting.is_finished());
        let live = |name| world.router.streams().iter().any(|stream| stream.key == key(name));
        assert!(live("live/other") && !live("court/hearing"));

        world.held_up.store(false, Ordering::SeqCst);
        world.go.send(()).unwrap();
        let publisher = waiting.join().unwrap();
        let subscription = subscribe(&world.router, "court/hearing");
        drop((publisher, subscription));
    });
    let report = world.router.stop(WAIT);
    assert_eq!((report.audit.lost, report.audit.attempted), (0, report.audit.written));
    let kinds = kinds(&world.records);
    let first = |kind| kinds.iter().position(|there| *there == kind).unwrap_or_else(|| panic!("no {kind:?}"));
    assert!(first(FactKind::PublishAllow) < first(FactKind::PublishStart));
    assert!(first(FactKind::PlayAllow) < kinds.iter().rposition(|there| *there == FactKind::PlayStart).unwrap());
    let allowed = kinds.iter().filter(|kind| matches!(kind, FactKind::PublishAllow | FactKind::PlayAllow)).count();
    assert_eq!(allowed, 2, "where nobody waits nothing is told twice: {kinds:?}");
}

#[test]
fn who_is_not_on_record_in_time_is_refused() {
    let world = world(LossPolicy::default(), |limits| limits.audit_deadline = Duration::from_millis(50));
    eventually("the start is flushed", || world.flushed.load(Ordering::SeqCst) > 0);
    world.held_up.store(true, Ordering::SeqCst);
    assert_eq!(try_publish(&world.router, "court/a", 0).unwrap_err(), Reason::AuditUnavailable);
    drop(world.go);
    world.held_up.store(false, Ordering::SeqCst);
    eventually("the disk is through", || try_publish(&world.router, "court/a", 0).is_ok());
    let report = world.router.stop(WAIT);
    assert_eq!(report.audit.lost, 0);
    assert!(kinds(&world.records).contains(&FactKind::PublishRefuse));
}

#[test]
fn while_decisions_are_lost_nobody_new_is_let_in_and_who_is_there_goes_on() {
    let world = world(LossPolicy::default(), |_| ());
    let mut publisher = publish(&world.router, "live/a");
    let mut subscription = subscribe(&world.router, "live/a");
    let mut reel = Reel::new();
    world.broken.store(true, Ordering::SeqCst);
    eventually("nobody new is let in", || {
        try_publish(&world.router, "live/b", 0).is_err_and(|reason| reason == Reason::AuditUnavailable)
    });
    reel.send(&mut publisher, "ck");
    assert_eq!(take(&mut subscription, 2), ["c0", "k1"]);
    world.broken.store(false, Ordering::SeqCst);
    eventually("it is over", || try_publish(&world.router, "live/c", 0).is_ok());
    drop((publisher, subscription));
    let audit = world.router.stop(WAIT).audit;
    assert!(audit.lost > 0 && audit.attempted == audit.written + audit.lost, "{audit:?}");
}

#[test]
fn what_a_host_knows_is_on_record_under_its_own_name_and_in_its_own_class() {
    const DOOR: HostKind = HostKind::new(10_001, "door_open", Class::Decision, "A door was opened.");
    const HEAT: HostKind = HostKind::new(10_002, "heat", Class::Telemetry, "It is warm.");
    let world = world(LossPolicy::default(), |_| ());
    let events = world.router.events();
    for number in 0..3 {
        let note = Some(format!("room {number}").into());
        world.router.tell(HostEvent { note, ..HostEvent::new(DOOR) });
        world.router.tell(HostEvent::new(HEAT));
    }
    let records = world.records.clone();
    let audit = world.router.stop(WAIT).audit;
    assert_eq!((audit.lost, audit.attempted), (0, audit.written));
    let told: Vec<_> = records
        .records()
        .into_iter()
        .filter_map(|record| match record.entry {
            Entry::Fact(fact) if fact.kind == FactKind::Host => {
                let note = fact.host.as_ref().and_then(|event| event.note.clone());
                Some((record.producer, fact.name(), fact.code(), note))
            }
            _ => None,
        })
        .collect();
    let doors: Vec<_> = told.iter().filter(|(_, name, ..)| *name == "door_open").collect();
    let notes: Vec<_> = doors.iter().map(|(.., note)| note.as_deref().unwrap_or("")).collect();
    assert_eq!(notes, ["room 0", "room 1", "room 2"]);
    let heats: Vec<_> = told.iter().filter(|(_, name, code, _)| (*name, *code) == ("heat", 10_002)).collect();
    assert_eq!(heats.len(), 3);
    assert_ne!(doors[0].0, heats[0].0, "each class has a producer of its own");
    let mut names = Vec::new();
    while let Some(fact) = events.try_recv() {
        names.push(fact.name());
    }
    assert_eq!(names.iter().filter(|name| **name == "door_open").count(), 3, "{names:?}");
}

#[test]
fn who_prefers_to_go_on_goes_on() {
    let policy = LossPolicy { decisions: OnLoss::Continue, telemetry: OnLoss::Continue };
    let world = world(policy, |_| ());
    world.broken.store(true, Ordering::SeqCst);
    let _publisher = publish(&world.router, "live/a");
    eventually("records are lost", || world.router.audit_stats().is_some_and(|stats| stats.lost > 0));
    let _other = publish(&world.router, "live/b");
    // But not where it must be on record first: what no sink took is not, also when the next is taken again.
    assert_eq!(try_publish(&world.router, "court/a", 0).unwrap_err(), Reason::AuditUnavailable);
    world.broken.store(false, Ordering::SeqCst);
    eventually("it can be recorded again", || try_publish(&world.router, "court/a", 0).is_ok());
}

#[test]
fn who_prefers_to_halt_ends_all_sessions_and_lets_nobody_in() {
    let policy = LossPolicy { decisions: OnLoss::Halt, telemetry: OnLoss::Continue };
    let world = world(policy, |_| ());
    let mut publisher = publish(&world.router, "live/a");
    world.broken.store(true, Ordering::SeqCst);
    let _other = try_publish(&world.router, "live/b", 0);
    assert_eq!(ended(&mut publisher), Reason::Shutdown);
    world.broken.store(false, Ordering::SeqCst);
    let refused = try_publish(&world.router, "live/c", 0).unwrap_err();
    assert!(matches!(refused, Reason::AuditUnavailable | Reason::Shutdown), "{refused:?}");
}
