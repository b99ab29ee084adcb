//! A generator and the floor on two threads of this process: the whole path of a run but for the server.

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::outcome::Outcome;
use super::plan::{Load, Order, Said, Sends};
use super::settings::{Merge, SlowKind};
use super::talk::Orders;
use super::timing::{MILLISECOND, SECOND, Timing};
use super::{floor, generator};

const PLAYERS: usize = 6;

fn load(port: u16, streams: usize) -> Load {
    let names: Vec<String> = (0..streams).map(|number| format!("s-{number}")).collect();
    Load {
        address: ([127, 0, 0, 1], port).into(),
        host: "localhost".into(),
        app: "live".into(),
        publish: names.clone(),
        play: names,
        bare: true,
        players: PLAYERS,
        generator: 0,
        generators: 1,
        joins_per_s: 1_000,
        churn_per_s: 0,
        stay: SECOND,
        slow_permille: 0,
        slow: SlowKind::Paused,
        kbps: 1_000,
        check_every: 1,
    }
}

/// A floor on a thread; its port.
fn start_floor(plan: Sends) -> (u16, std::thread::JoinHandle<()>) {
    let (port, listening) = bounded(1);
    let mut say = move |said: &Said| {
        if let Said::Listening(number) = said {
            port.send(*number).unwrap();
        }
    };
    let thread = std::thread::spawn(move || floor::run(&plan, &mut say).unwrap());
    (listening.recv().unwrap(), thread)
}

/// Leads a generator through a window of a second.
fn generate(load: &Load) -> Outcome {
    let (order, orders) = unbounded();
    let timing = Timing::start();
    let mut say = |said: &Said| match said {
        Said::Published => order.send(Order::Join).unwrap(),
        Said::Joined => {
            let from = timing.now() + 20 * MILLISECOND;
            order.send(Order::Window { from, until: from + SECOND }).unwrap();
        }
        other => panic!("{other:?}"),
    };
    let given = |orders: Receiver<Order>| move |_| Orders::given(orders);
    generator::run(load, given(orders), &mut say).unwrap()
}

#[test]
fn every_frame_of_the_floor_comes_once_whole_and_in_order() {
    for (streams, merge) in [(1, Merge::AudioRides), (2, Merge::Window(50))] {
        let count = u32::try_from(streams).unwrap();
        let (port, floor) = start_floor(Sends { players: PLAYERS, streams: count, kbps: 1_000, merge });

        let outcome = generate(&load(port, streams));

        floor.join().unwrap();
        assert_eq!((outcome.stayed, outcome.lost, outcome.never_joined), (6, 0, 0), "{outcome:?}");
        assert!(outcome.received == outcome.expected && outcome.expected > 6 * 70, "{outcome:?}");
        let counts = outcome.counts;
        assert!(counts.frames >= outcome.received && counts.checked == counts.frames, "{counts:?}");
        let faults = [counts.corrupt, counts.gaps, counts.repeated, counts.reordered, counts.falls, counts.misrouted];
        assert_eq!(faults, [0; 6]);
        let per_viewer = outcome.viewer_ns as f64 / 6.0 / SECOND as f64;
        assert!((per_viewer - 1.0).abs() < 0.01, "{per_viewer} s of a window of 1 s");
        let age = outcome.age.decode();
        assert!(age.len() >= 6 * 29 && age.min() > 0, "{} samples from {} ns", age.len(), age.min());
    }
}

#[test]
fn two_generators_share_the_viewers_and_their_sum_is_whole() {
    let plan = Sends { players: PLAYERS, streams: 1, kbps: 1_000, merge: Merge::AudioRides };
    let (port, floor) = start_floor(plan);
    let halves: Vec<_> = [0, 1].map(|generator| Load { generator, generators: 2, ..load(port, 1) }).into();

    let halves: Vec<_> = halves.into_iter().map(|load| std::thread::spawn(move || generate(&load))).collect();
    let mut sum = Outcome::default();
    for half in halves {
        let half = half.join().unwrap();
        assert_eq!(half.players, 3);
        sum.add(&half);
    }

    floor.join().unwrap();
    assert_eq!((sum.players, sum.stayed), (6, 6));
    assert!(sum.received == sum.expected && sum.expected > 6 * 70, "{sum:?}");
}

/// They are not waited for, and read on where they stopped once the window is over.
#[test]
fn slow_readers_are_no_part_of_what_is_expected_but_are_judged() {
    let plan = Sends { players: PLAYERS, streams: 1, kbps: 1_000, merge: Merge::AudioRides };
    for slow in [SlowKind::Paused, SlowKind::Trickling] {
        let (port, floor) = start_floor(plan);

        let outcome = generate(&Load { slow_permille: 500, slow, ..load(port, 1) });

        floor.join().unwrap();
        assert_eq!((outcome.players, outcome.stayed, outcome.slow_players), (3, 3, 3));
        assert!(outcome.received == outcome.expected && outcome.expected > 3 * 70, "{outcome:?}");
        let slow = outcome.slow;
        assert!(slow.frames > 0 && slow.checked == slow.frames && slow.corrupt + slow.falls + slow.repeated == 0);
    }
}

/// Nobody listens there: an error with the reason, not a result.
#[test]
fn a_server_that_is_not_there_is_said_so() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let load = Load { bare: false, ..load(port, 1) };
    let (_order, orders) = unbounded();

    let failed = generator::run(&load, |_| Orders::given(orders), &mut |_| {});

    let error = failed.expect_err("there is no server").to_string();
    assert!(error.starts_with("the publisher of stream 0 was lost: ") && error.contains("refused"), "{error}");
}
