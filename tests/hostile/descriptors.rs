//! F9: the process is out of file descriptors.

use std::time::Duration;

use super::child::Server;
use super::peer::{self, Peer, video};
use super::world::{SOON, now, wait_for};

#[test]
fn without_descriptors_newcomers_are_refused_at_once_and_streams_go_on() {
    let mut server = Server::start("ulimit -n 64;", "");
    let mut publisher = Peer::connect(server.address);
    publisher.send(&peer::publisher("live", "canary"));
    publisher.wait_for_status("NetStream.Publish.Start");
    let mut player = Peer::connect(server.address);
    player.send(&peer::player("live", "canary"));
    player.wait_for_status("NetStream.Play.Start");
    let mut sent = 0_u32;
    let mut frame_arrives = |player: &mut Peer| {
        sent += 1;
        publisher.send(&video(true, sent * 10, &sent.to_be_bytes()));
        let got = player.video(SOON).expect("the stream goes on");
        assert_eq!(*got, sent.to_be_bytes(), "a frame is missing");
    };

    // Fill it up: those who are let in get an answer, the others an end at once.
    let mut inside = Vec::new();
    let mut refused = 0;
    while refused < 200 {
        let mut peer = Peer::connect(server.address);
        let knocked = now();
        peer.send(&peer::hello());
        let closed = loop {
            if peer.received > 0 {
                break false;
            }
            if peer.is_closed(Duration::from_millis(1)) {
                break peer.received == 0;
            }
            assert!(now().since(knocked) < SOON, "neither served nor refused");
        };
        if closed {
            refused += 1;
        } else {
            inside.push(peer);
        }
        assert!(inside.len() < 64, "there are no descriptors for so many");
        frame_arrives(&mut player);
    }
    assert!(inside.len() > 10, "{} were let in only", inside.len());

    // It does not spin meanwhile.
    let (ticks, from) = (server.cpu_ticks(), now());
    while now().since(from) < Duration::from_millis(1_500) {
        frame_arrives(&mut player);
        std::thread::sleep(Duration::from_millis(20));
    }
    let share = (server.cpu_ticks() - ticks) as f64 / 100.0 / now().since(from).as_secs_f64();
    assert!(share < 0.2, "it takes {share} of a core");

    // Descriptors come back: whoever comes then is served.
    let full = server.descriptors();
    drop(inside);
    wait_for("that descriptors are given back", || (server.descriptors() < full).then_some(()));
    let knocked = now();
    wait_for("that newcomers are served again", || {
        let mut peer = Peer::connect(server.address);
        peer.send(&peer::hello());
        peer.is_served().then_some(())
    });
    let took = now().since(knocked);
    assert!(took < Duration::from_secs(1), "served after {took:?}; 200 ms are asked for");
    frame_arrives(&mut player);
    drop((publisher, player));
    server.stop();

    // Each refusal is in the trail, summed up by its reason.
    let trail = server.trail();
    let records = trail.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let refusals: Vec<_> = records.filter(|record| record["event"] == "connection_refuse").collect();
    assert!(refusals.iter().all(|record| record["detail"] == "descriptors"), "{refusals:?}");
    let count: u64 = refusals.iter().filter_map(|record| record["count"].as_u64()).sum();
    assert_eq!(count, refused, "{refusals:?}");
}
