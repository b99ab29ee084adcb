//! F22: the configuration is read again and again while a stream runs.

use super::child::Server;
use super::peer::{self, Peer, video};
use super::world::{SOON, wait_for};

/// Each tenth of them is wrong.
const RELOADS: u32 = 200;

#[test]
fn two_hundred_reloads_cost_no_frame_and_each_of_them_is_recorded() {
    let mut server = Server::start("", "");
    let mut publisher = Peer::connect(server.address);
    publisher.send(&peer::publisher("live", "canary"));
    publisher.wait_for_status("NetStream.Publish.Start");
    let mut player = Peer::connect(server.address);
    player.send(&peer::player("live", "canary"));
    player.wait_for_status("NetStream.Play.Start");

    let mut wrong = 0;
    for n in 1..=RELOADS {
        // Players of this stream stay within each of these bounds.
        let connections = 100 + n;
        let good = format!("[limits]\nconnections = {connections}\n");
        let is_wrong = n % 10 == 0;
        wrong += usize::from(is_wrong);
        server.reload(if is_wrong { "[limits]\nconnections = -1\n" } else { &good });

        publisher.send(&video(true, n * 10, &n.to_be_bytes()));
        let got = player.video(SOON).expect("the stream goes on");
        assert_eq!(*got, n.to_be_bytes(), "a frame is missing");
        let expected = n as usize;
        wait_for("that the configuration was read", || {
            let log = server.read("stdout") + &server.read("stderr");
            (log.matches("the configuration was read again").count() == expected).then_some(())
        });
    }
    // The last one was wrong: the one before it is in force, and lets in whom it did.
    let mut late = Peer::connect(server.address);
    late.send(&peer::player("live", "canary"));
    late.wait_for_status("NetStream.Play.Start");
    drop((publisher, player, late));
    server.stop();

    let trail = server.trail();
    let records = trail.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let told: Vec<_> = records.filter(|record| record["event"] == "configuration").collect();
    let refused = told.iter().filter(|record| !record["reason"].is_null()).count();
    assert_eq!((told.len(), refused), (RELOADS as usize, wrong), "{:?}", told.last());
}
