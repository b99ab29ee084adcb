//! The audit trail and the observers: complete, exact, and never in the way.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shardcast::Router;
use shardcast::audit::{AuditError, AuditSink, Entry, MemorySink, Record};
use shardcast::extension::Observer;
use shardcast::fact::{Fact, FactKind};
use shardcast::id::{ShardId, StreamKey};
use shardcast::limits::Limits;
use shardcast::media::Frame;
use shardcast::reason::Reason;
use shardcast::shard::{LossPolicy, OnLoss};

use crate::world::*;

fn facts(records: &[Record]) -> Vec<&Fact> {
    let fact = |record: &'_ Record| matches!(record.entry, Entry::Fact(_));
    records
        .iter()
        .filter(|record| fact(record))
        .map(|record| match &record.entry {
            Entry::Fact(fact) => fact,
            Entry::Loss(_) => unreachable!("filtered"),
        })
        .collect()
}

/// A session of each kind, and a refusal.
fn live_a_little(router: &Router, name: &str) {
    let mut publisher = publish(router, name);
    let mut subscription = subscribe(router, name);
    Reel::new().send(&mut publisher, "ckd");
    assert_eq!(take(&mut subscription, 3), ["c0", "k1", "d2"]);
    assert_eq!(try_publish(router, name, 0).unwrap_err(), Reason::NameTaken);
    publisher.end();
    assert_eq!(take_all(&mut subscription), ["ended"]);
}

#[test]
fn two_routers_in_one_process_have_two_trails_that_know_nothing_of_each_other() {
    let sinks = [MemorySink::new(100), MemorySink::new(100)];
    let routers = sinks.clone().map(|sink| builder(2).audit(Box::new(sink)).start().unwrap());
    for (router, name) in routers.iter().zip(["one/a", "two/a"]) {
        live_a_little(router, name);
    }

    let reports = routers.map(|router| router.stop(WAIT));

    for ((report, sink), name) in reports.iter().zip(&sinks).zip(["one/a", "two/a"]) {
        let records = sink.records();
        let facts = facts(&records);
        assert!(facts.iter().all(|fact| fact.stream.as_ref().is_none_or(|key| key.as_str() == name)));
        let kinds: Vec<&str> = facts.iter().map(|fact| fact.kind.name()).collect();
        for kind in [
            "router_start",
            "publish_start",
            "play_start",
            "publish_refuse",
            "publish_end",
            "play_end",
            "router_stop",
        ] {
            assert_eq!(kinds.iter().filter(|there| **there == kind).count(), 1, "{kind} in {kinds:?}");
        }
        let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, (1..=7).collect::<Vec<u64>>());
        assert_eq!((report.audit.attempted, report.audit.written, report.audit.lost), (7, 7, 0));
        assert!(report.drained);
    }
}

#[test]
fn an_end_tells_bytes_duration_and_who_it_was() {
    let sink = MemorySink::new(100);
    let router = builder(1).audit(Box::new(sink.clone())).start().unwrap();
    live_a_little(&router, "live/a");
    let report = router.stop(WAIT);
    assert_eq!(report.audit.attempted, report.audit.written);

    let records = sink.records();
    let facts = facts(&records);
    let find = |kind| facts.iter().find(|fact| fact.kind == kind).unwrap();
    let (start, end) = (find(FactKind::PublishStart), find(FactKind::PublishEnd));
    assert_eq!((end.bytes, end.reason), (6, Some(Reason::Ended)));
    assert!(end.duration > Duration::ZERO && end.now.mono > start.now.mono && end.now.wall.0 > 0);
    assert_eq!((&start.who, start.generation), (&end.who, end.generation));
    let play = find(FactKind::PlayEnd);
    assert_eq!(
        (play.bytes, play.stream.as_ref().map(StreamKey::as_str)),
        (4, Some("live/a")),
        "media, not configuration"
    );
}

/// Takes nothing until the test lets it.
struct Blocked {
    go: Receiver<()>,
    open: bool,
    inner: MemorySink,
}

impl AuditSink for Blocked {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        if !self.open {
            let _ = self.go.recv();
            self.open = true;
        }
        self.inner.write(records)
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        self.inner.flush()
    }
}

fn blocked(limits: Limits) -> (Router, Sender<()>, MemorySink) {
    let (open, go) = channel();
    let memory = MemorySink::new(100_000);
    let sink = Blocked { go, open: false, inner: memory.clone() };
    let goes_on = LossPolicy { decisions: OnLoss::Continue, telemetry: OnLoss::Continue };
    (builder(1).limits(limits).on_loss(goes_on).audit(Box::new(sink)).start().unwrap(), open, memory)
}

#[test]
fn a_blocked_sink_delays_no_frame_and_what_it_costs_is_counted_to_the_last_record() {
    let mut limits = Limits::default();
    limits.audit_decisions = 16;
    let (router, open, memory) = blocked(limits);
    let mut publisher = publish(&router, "live/a");
    let mut subscription = subscribe(&router, "live/a");
    let mut reel = Reel::new();

    // The sink hangs, its channel is full, and sessions come and go by the hundred: frames do not notice.
    for round in 0..100 {
        drop(publish(&router, &format!("live/{round}")));
        reel.send(&mut publisher, "k");
        assert_eq!(take(&mut subscription, 1), [format!("k{round}")]);
    }
    let stats = router.audit_stats().unwrap();
    assert!(stats.attempted >= 100 && stats.written == 0, "{stats:?}");
    open.send(()).unwrap();
    let report = router.stop(WAIT);

    let audit = report.audit;
    assert_eq!(audit.attempted, audit.written + audit.lost);
    assert!(audit.lost > 0, "{audit:?}");
    let records = memory.records();
    let lost: u64 = records
        .iter()
        .map(|record| match &record.entry {
            Entry::Loss(loss) => loss.count,
            Entry::Fact(_) => 0,
        })
        .sum();
    assert_eq!((facts(&records).len() as u64, lost), (audit.written, audit.lost));
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_sink_that_hangs() {
    let (router, open, _) = blocked(Limits::default());
    let clock = router.clock();
    live_a_little(&router, "live/a");
    let before = clock.instant();

    let report = router.stop(Duration::from_millis(100));

    assert!(clock.instant().since(before) < Duration::from_secs(3));
    assert_eq!(report.audit.attempted, report.audit.written + report.audit.lost);
    assert_eq!(report.audit.written, 0);
    drop(open);
}

#[derive(Default)]
struct Seen {
    facts: Mutex<Vec<Fact>>,
    frames: Mutex<Vec<(StreamKey, String)>>,
    wants_frames: bool,
}

impl Observer for Seen {
    fn on_fact(&self, fact: &Fact) {
        self.facts.lock().unwrap().push(fact.clone());
    }

    fn wants_frames(&self) -> bool {
        self.wants_frames
    }

    fn on_frame(&self, key: &StreamKey, frame: &Frame) {
        self.frames.lock().unwrap().push((key.clone(), letter_and_number(frame)));
    }
}

#[test]
fn observers_see_every_session_with_key_protocol_and_reason_and_frames_if_they_want_them() {
    let (plain, curious) = (Arc::new(Seen::default()), Arc::new(Seen { wants_frames: true, ..Seen::default() }));
    let observer = |seen: &Arc<Seen>| Arc::<Seen>::clone(seen);
    let router = builder(2).observer(observer(&plain)).observer(observer(&curious)).start().unwrap();
    live_a_little(&router, "live/a");
    let _ = router.stop(WAIT);

    for seen in [&plain, &curious] {
        let facts = seen.facts.lock().unwrap();
        let told = |kind| facts.iter().find(|fact| fact.kind == kind).unwrap_or_else(|| panic!("{kind:?}"));
        for (kind, reason) in [
            (FactKind::PublishStart, None),
            (FactKind::PlayStart, None),
            (FactKind::PublishRefuse, Some(Reason::NameTaken)),
            (FactKind::PublishEnd, Some(Reason::Ended)),
            (FactKind::PlayEnd, Some(Reason::Ended)),
        ] {
            let fact = told(kind);
            let who = fact.who.as_ref().unwrap();
            assert_eq!((fact.stream.as_ref(), fact.reason, who.protocol), (Some(&key("live/a")), reason, "host"));
            assert_eq!((fact.shard, who.peer), (ShardId(0), None));
        }
        assert_eq!(told(FactKind::RouterStop).reason, None);
    }
    assert!(plain.frames.lock().unwrap().is_empty());
    let frames = curious.frames.lock().unwrap();
    assert_eq!(*frames, ["c0", "k1", "d2"].map(|text| (key("live/a"), text.to_owned())));
}
