//! Many at once: connections that do nothing, storms of them, names without end.

use std::net::TcpStream;
use std::time::Duration;

use shardcast::fact::FactKind;
use shardcast::limits::Limit;
use shardcast::reason::Reason;
use shardcast::router::{PublishOptions, SubscribeOptions};
use shardcast::stream::{Absent, AppSpec};

use super::heap;
use super::peer::{self, Peer};
use super::world::{HERE, SOON, Setup, THERE, World, key, now, wait_for};

/// F23.
#[test]
fn thousands_of_idle_connections_are_reaped_at_their_deadline_and_cost_little() {
    const COUNT: usize = 2_000;
    let mut setup = Setup { keeps_facts: false, alone: true, ..Setup::default() };
    setup.limits.handshake_deadline = Duration::from_secs(3);
    let world = World::with(setup);
    let before = world.baseline.clone();
    let held = heap::watch();
    let started = now();
    let idle: Vec<TcpStream> =
        (0..COUNT).map(|_| TcpStream::connect(world.address).expect("the router listens")).collect();
    wait_for("that all are accepted", || {
        let accepted: u64 = world.counters().iter().map(|shard| shard.accepted).sum();
        (accepted >= COUNT as u64).then_some(())
    });
    let each = heap::held().saturating_sub(held) / COUNT;
    assert!(each < 4096, "an idle connection costs {each} bytes");
    if let Err(sizes) = world.settles_at(&before) {
        panic!("{before:?} has become {sizes}");
    }
    let took = now().since(started);
    assert!(took < Duration::from_secs(6), "reaped after {took:?}");
    drop(idle);
    world.finish();
}

/// F24.
#[test]
fn a_storm_of_connections_is_refused_by_rate_and_summed_up_exactly() {
    const STORM: u64 = 1_500;
    let mut setup = Setup::default();
    setup.limits.accepts_per_second = 40;
    let world = World::with(setup);
    let (before, mark) = (world.baseline.clone(), world.facts.count());
    let started = now();
    for _ in 0..STORM {
        drop(TcpStream::connect(world.address));
    }
    let count = |kind| {
        world.facts.look(|facts| {
            let new = facts[mark..].iter().filter(|fact| fact.kind == kind);
            new.map(|fact| if kind == FactKind::ConnectionRefuse { fact.count } else { 1 }).sum::<u64>()
        })
    };
    wait_for("that all are accounted for", || {
        (count(FactKind::ConnectionOpen) + count(FactKind::ConnectionRefuse) >= STORM).then_some(())
    });
    // A second later nothing is told twice.
    let seconds = now().since(started).as_secs() + 2;
    let told = now();
    while now().since(told) < Duration::from_millis(1_200) {
        assert_eq!(count(FactKind::ConnectionOpen) + count(FactKind::ConnectionRefuse), STORM);
        std::thread::sleep(Duration::from_millis(50));
    }
    let opened = count(FactKind::ConnectionOpen);
    assert!(opened <= 40 * (seconds + 1), "{opened} were let in within {seconds} s");
    let records = world.facts.look(|facts| {
        let refusals: Vec<_> =
            facts[mark..].iter().filter(|f| f.kind == FactKind::ConnectionRefuse).cloned().collect();
        assert!(refusals.iter().all(|f| f.reason == Some(Reason::Limit(Limit::AcceptRate))), "{refusals:#?}");
        refusals.len()
    });
    assert!(records as u64 <= 2 * (seconds + 2), "{records} records within {seconds} s");
    if let Err(sizes) = world.settles_at(&before) {
        panic!("{before:?} has become {sizes}");
    }
    world.finish();
}

/// Each limit on connections refuses under its own name.
#[test]
fn a_connection_too_many_is_refused_under_the_name_of_its_limit() {
    for limit in [Limit::Connections, Limit::ConnectionsPerAddress] {
        let mut setup = Setup::default();
        match limit {
            Limit::Connections => setup.limits.connections = 8,
            _ => setup.limits.connections_per_address = 8,
        }
        let world = World::with(setup);
        let mark = world.facts.count();
        let mut inside = Vec::new();
        let mut refused = 0;
        while refused < 20 {
            let mut peer = Peer::connect(world.address);
            peer.send(&peer::hello());
            if peer.is_served() { inside.push(peer) } else { refused += 1 }
        }
        assert!(inside.len() <= 7, "{limit}: {} were let in", inside.len());
        world.facts.wait("that all refusals are told", |facts| {
            let refusals = || facts[mark..].iter().filter(|fact| fact.kind == FactKind::ConnectionRefuse);
            assert!(refusals().all(|fact| fact.reason == Some(Reason::Limit(limit))));
            let count: u64 = refusals().map(|fact| fact.count).sum();
            assert!(count <= refused, "{count} told of {refused}");
            (count == refused).then_some(())
        });
        drop(inside.pop());
        wait_for("that there is room again", || {
            let mut peer = Peer::connect(world.address);
            peer.send(&peer::hello());
            peer.is_served().then_some(())
        });
        drop(inside);
        world.finish();
    }
}

/// Row 71.
#[test]
fn names_without_end_leave_nothing_behind() {
    const PLAYS: u32 = 100_000;
    const RTMP_PLAYS: u32 = 500;
    const PUBLISHES: u32 = 3_000;
    let mut setup = Setup {
        apps: vec![AppSpec::new("*"), AppSpec::new("wait").absent(Absent::Wait(Duration::from_secs(60)))],
        keeps_facts: false,
        alone: true,
        ..Setup::default()
    };
    setup.limits.publishers = 202;
    setup.limits.streams = 300;
    setup.limits.auth_deadline = Duration::from_millis(500);
    let world = World::with(setup);
    let before = world.baseline.clone();
    let on = |shard| SubscribeOptions { shard: Some(shard), ring_slots: 2, ..SubscribeOptions::default() };
    // What the first of them leaves (grown maps, heaps of timers) is not counted.
    let absent = |from: u32, to: u32| {
        for name in from..to {
            let shard = if name % 2 == 0 { HERE } else { THERE };
            let result = world.router.subscribe(&key(&format!("live/absent-{name}")), on(shard));
            assert_eq!(result.err(), Some(Reason::NotFound));
        }
    };
    absent(0, 1_000);
    let held = heap::watch();
    absent(1_000, PLAYS);
    for name in 0..RTMP_PLAYS {
        let mut peer = Peer::connect(world.address);
        peer.send(&peer::player("live", &format!("absent-{name}")));
        assert!(peer.is_closed(SOON));
    }
    assert_eq!(world.settles_at(&before), Ok(()));

    let mut live = Vec::new();
    for name in 0..PUBLISHES {
        match world.router.publish(&key(&format!("live/many-{name}")), PublishOptions::default()) {
            Ok(publisher) => live.push(publisher),
            Err(reason) => assert_eq!(reason, Reason::Limit(Limit::Publishers)),
        }
    }
    assert_eq!(live.len(), 200, "beside the two canaries");

    let mut waiting = Vec::new();
    for name in 0..1_000 {
        match world.router.subscribe(&key(&format!("wait/many-{name}")), on(HERE)) {
            Ok(subscription) => waiting.push(subscription),
            Err(reason) => assert_eq!(reason, Reason::Limit(Limit::Streams)),
        }
    }
    assert_eq!(waiting.len(), 98, "beside 200 publishers and two canaries");
    drop((live, waiting));
    assert_eq!(world.settles_at(&before), Ok(()));
    // A name with its entry in a map is more than 50 bytes: half of them would show.
    wait_for("that the memory is given back", || (heap::held() < held + (2 << 20)).then_some(()));
    world.finish();
}
