//! Seats of an application, a principal and an address: exact over all shards, and given back however a session ends.

use std::net::TcpStream;

use shardcast::fact::FactKind;
use shardcast::limits::Limit;
use shardcast::reason::Reason;
use shardcast::stream::{AppSeats, AppSpec, Conflict};

use super::peer::{self, Peer};
use super::world::{HERE, SOON, Setup, THERE, World, now, wait_for};

/// Publishes or plays, and why not.
fn try_to(world: &World, shard: shardcast::id::ShardId, bytes: &[u8]) -> Result<Peer, Reason> {
    let mut peer = world.peer_on(shard);
    peer.send(bytes);
    let id = peer.id;
    let refused = [FactKind::PublishRefuse, FactKind::PlayRefuse];
    let answer = world.facts.wait("an answer", |facts| {
        let mut of = facts.iter().filter(|fact| fact.who.as_ref().is_some_and(|who| who.connection == id));
        of.find(|fact| {
            refused.contains(&fact.kind) || [FactKind::PublishStart, FactKind::PlayStart].contains(&fact.kind)
        })
        .cloned()
    });
    if refused.contains(&answer.kind) { Err(answer.reason.expect("a refusal has a reason")) } else { Ok(peer) }
}

fn publish(world: &World, shard: shardcast::id::ShardId, app: &str, name: &str) -> Result<Peer, Reason> {
    try_to(world, shard, &peer::publisher(app, name))
}

fn play(world: &World, shard: shardcast::id::ShardId, app: &str, name: &str) -> Result<Peer, Reason> {
    try_to(world, shard, &peer::player(app, name))
}

fn full<T>(limit: Limit, answer: &Result<T, Reason>) {
    assert_eq!(answer.as_ref().err(), Some(&Reason::Limit(limit)));
}

#[test]
fn an_application_has_its_seats_whichever_shard_they_are_taken_on() {
    let seats = AppSeats { publishers: Some(2), viewers: Some(3), connections: Some(4) };
    let apps = vec![AppSpec::new("small").seats(seats), AppSpec::new("*")];
    let world = World::with(Setup { apps, ..Setup::default() });
    let before = world.baseline.clone();
    let first = publish(&world, HERE, "small", "a").unwrap();
    let second = publish(&world, THERE, "small", "b").unwrap();
    full(Limit::AppPublishers, &publish(&world, HERE, "small", "c"));
    let third = play(&world, HERE, "small", "a").unwrap();
    let fourth = play(&world, THERE, "small", "a").unwrap();
    full(Limit::AppConnections, &play(&world, HERE, "small", "b"));
    // Another application is not the one that is full.
    let other = publish(&world, HERE, "large", "a").unwrap();

    // One leaves in order, one breaks off.
    drop(third);
    second.reset();
    wait_for("that their seats are free", || play(&world, THERE, "small", "a").ok());
    drop((first, fourth, other));
    assert_eq!(world.settles_at(&before), Ok(()));
    let whole: Vec<Peer> = (0..2).map(|n| publish(&world, HERE, "small", &n.to_string()).unwrap()).collect();
    full(Limit::AppPublishers, &publish(&world, THERE, "small", "c"));
    drop(whole);
    world.finish();
}

#[test]
fn whoever_takes_a_name_over_is_let_into_a_full_application_and_the_seat_stays_one() {
    let seats = AppSeats { publishers: Some(1), viewers: None, connections: Some(1) };
    let small = AppSpec::new("small").seats(seats).conflict(Conflict::TakeOver);
    let world = World::with(Setup { apps: vec![small, AppSpec::new("*")], ..Setup::default() });
    let before = world.baseline.clone();
    let first = publish(&world, HERE, "small", "a").unwrap();
    let second = publish(&world, THERE, "small", "a").unwrap();
    wait_for("that the first has given its seat back", || {
        let ended = |fact: &shardcast::fact::Fact| {
            fact.kind == FactKind::PublishEnd && fact.who.as_ref().is_some_and(|who| who.connection == first.id)
        };
        world.facts.look(|facts| facts.iter().any(ended)).then_some(())
    });
    assert!(publish(&world, HERE, "small", "b").is_err(), "another name replaces nobody");
    drop((first, second));
    assert_eq!(world.settles_at(&before), Ok(()));
    world.finish();
}

#[test]
fn a_principal_and_an_address_have_their_seats() {
    let mut setup = Setup::default();
    setup.limits.publishers_per_principal = Some(1);
    setup.limits.viewers_per_principal = Some(2);
    setup.limits.connections_per_principal = Some(3);
    setup.limits.publishers_per_address = Some(3);
    // One of them is the canary.
    setup.limits.viewers_per_address = Some(5);
    let world = World::with(setup);
    let before = world.baseline.clone();
    let anna = publish(&world, HERE, "live", "a?user=anna").unwrap();
    full(Limit::PublishersPerPrincipal, &publish(&world, THERE, "live", "b?user=anna"));
    let ben = publish(&world, THERE, "live", "b?user=ben").unwrap();
    let mut viewers: Vec<Peer> = Vec::new();
    for shard in [HERE, THERE] {
        viewers.push(play(&world, shard, "live", "a?user=anna").unwrap());
    }
    full(Limit::ConnectionsPerPrincipal, &play(&world, HERE, "live", "b?user=anna"));
    for _ in 0..2 {
        viewers.push(play(&world, HERE, "live", "a?user=ben").unwrap());
    }
    full(Limit::ViewersPerAddress, &play(&world, HERE, "live", "a"));
    let nobody = publish(&world, HERE, "live", "c").unwrap();
    full(Limit::PublishersPerAddress, &publish(&world, THERE, "live", "d"));
    drop((anna, ben, nobody, viewers));
    assert_eq!(world.settles_at(&before), Ok(()));
    drop(publish(&world, THERE, "live", "a?user=anna").unwrap());
    world.finish();
}

#[test]
fn connections_of_one_address_are_refused_by_rate_before_they_have_a_session() {
    const STORM: u64 = 600;
    let mut setup = Setup::default();
    setup.limits.accepts_per_second_per_address = Some(20);
    let world = World::with(setup);
    let mark = world.facts.count();
    let started = now();
    for _ in 0..STORM {
        drop(TcpStream::connect(world.address));
    }
    let count = |facts: &[shardcast::fact::Fact], kind| {
        let of = facts[mark..].iter().filter(|fact| fact.kind == kind);
        of.map(|fact| if kind == FactKind::ConnectionRefuse { fact.count } else { 1 }).sum::<u64>()
    };
    let opened = world.facts.wait("that all are accounted for", |facts| {
        let opened = count(facts, FactKind::ConnectionOpen);
        (opened + count(facts, FactKind::ConnectionRefuse) >= STORM).then_some(opened)
    });
    let seconds = now().since(started).as_secs() + 2;
    assert!(opened <= 20 * (seconds + 1), "{opened} were let in within {seconds} s");
    world.facts.look(|facts| {
        let refusals = || facts[mark..].iter().filter(|fact| fact.kind == FactKind::ConnectionRefuse);
        assert!(refusals().all(|fact| fact.reason == Some(Reason::Limit(Limit::AcceptRatePerAddress))));
        assert!(refusals().count() as u64 <= 2 * (seconds + 1), "a storm fills no trail");
    });
    // A second later the same address is let in again.
    wait_for("that it is served again", || {
        let mut late = Peer::connect(world.address);
        late.send(&peer::hello());
        late.is_served().then_some(())
    });
    assert!(now().since(started) < SOON + SOON);
    world.finish();
}
