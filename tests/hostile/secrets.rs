//! Row 73: what a peer shows to be let in is found nowhere afterwards.

use std::sync::Arc;

use shardcast::audit::write_line;
use shardcast::extension::{AuthReply, AuthRequest, Authenticator};
use shardcast::protocol::rtmp::amf::Value;
use shardcast::reason::Reason;

use super::child::Server;
use super::peer::{self, Peer, command, connect_to, create_stream, hello, publish};
use super::world::{SOON, Setup, World};

/// What is looked for everywhere.
const PLANTED: &str = "PlantedSecret4711";

/// Everything that asks, with the secret in every place that it may stand in.
fn acts(play: bool) -> Vec<Vec<u8>> {
    let name = |name: &str| {
        if play { command(1, "play", 5.0, &[Value::Null, Value::string(name)]) } else { publish(1, name) }
    };
    let s = PLANTED;
    let start = |connect: Vec<u8>| [hello(), connect, create_stream()].concat();
    let plain = || start(peer::connect("live"));
    vec![
        [plain(), name(&format!("a?token={s}"))].concat(),
        [plain(), name(&format!("a?key={s}&user=eve&password={s}&x={s}"))].concat(),
        [start(connect_to(&format!("live?token={s}"), "rtmp://h/live")), name("a")].concat(),
        [start(connect_to("live", &format!("rtmp://h/live?token={s}"))), name("a")].concat(),
        [start(connect_to("live", &format!("rtmp://eve:{s}@h/live"))), name("a")].concat(),
        // And where it ends with an error: bad names, twice the same command, bytes that are none.
        [plain(), name(&format!("..?token={s}"))].concat(),
        [plain(), name(&format!("a b?token={s}"))].concat(),
        [start(connect_to(&format!("../live?token={s}"), ""))].concat(),
        [start(connect_to("live", &format!("rtmp://eve:{s}@h/live"))), connect_to("live", s)].concat(),
        [plain(), name(&format!("a?token={s}")), vec![0xFF; 100]].concat(),
        [plain(), name(&format!("a?token={}", format!("{s}-").repeat(800)))].concat(),
        [plain(), command(0, "releaseStream", 4.0, &[Value::Null, Value::string(&format!("a?token={s}"))])].concat(),
        [plain(), command(0, &format!("x{s}"), 4.0, &[Value::Null])].concat(),
    ]
}

/// Lets the canaries in and nobody else.
#[derive(Debug)]
struct Nobody;

impl Authenticator for Nobody {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        // What a host logs of a request.
        assert!(!format!("{request:?} {reply:?}").contains(PLANTED), "a request shows its secret");
        if request.key.app() == "canary" {
            reply.allow(None);
        } else {
            reply.deny(Reason::Denied);
        }
    }
}

#[test]
fn no_fact_record_or_answer_holds_what_a_peer_has_shown() {
    for authenticator in [None, Some(Arc::new(Nobody) as Arc<dyn Authenticator>)] {
        let world = World::with(Setup { authenticator, ..Setup::default() });
        for act in [acts(false), acts(true)].concat() {
            let mut peer = world.peer();
            peer.send(&act);
            // Whatever it is told, until the router has seen all of it.
            peer.finish();
            let mut said = String::new();
            while let Some(message) = peer.message(SOON) {
                said.push_str(&String::from_utf8_lossy(&message.payload));
            }
            assert!(!said.contains(PLANTED), "an answer repeats it: {said:?}");
            let id = peer.id;
            drop(peer);
            world.facts.close_of(id);
        }
        let facts = world.facts.look(|facts| format!("{facts:#?}"));
        assert!(!facts.contains(PLANTED), "a fact holds it");
        let reasons = world
            .facts
            .look(|facts| facts.iter().filter_map(|fact| fact.reason).map(|r| r.to_string()).collect::<String>());
        assert!(!reasons.contains(PLANTED), "a reason says it");
        let records = world.finish_with_records();
        assert!(!format!("{records:?}").contains(PLANTED), "a record holds it");
        let mut lines = Vec::new();
        records.iter().for_each(|record| write_line(record, &mut lines));
        assert!(!contains(&lines), "a line holds it");
    }
}

#[test]
fn the_binary_prints_logs_and_writes_no_secret() {
    let config = format!(
        "[[auth.user]]\nname = \"eve\"\npassword = \"{PLANTED}\"\npublish = [\"live/*\"]\nplay = [\"live/*\"]\n"
    );
    let mut server = Server::start("", &config);
    for act in [acts(false), acts(true)].concat() {
        let mut peer = Peer::connect(server.address);
        peer.send(&act);
        peer.finish();
        assert!(peer.is_closed(SOON));
    }
    server.stop();
    let mut found = Vec::new();
    let checkpoints = server.read("audit/checkpoints.jsonl");
    let all = [("stdout", server.read("stdout")), ("stderr", server.read("stderr")), ("trail", server.trail())];
    for (name, text) in all.into_iter().chain([("checkpoints", checkpoints)]) {
        assert!(!text.is_empty(), "{name} is empty");
        found.extend(text.lines().filter(|line| line.contains(PLANTED)).map(|line| format!("{name}: {line}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // It was asked, and has said so: the trail is not empty of what happened.
    let trail = server.trail();
    for event in ["publish_refuse", "play_refuse", "connection_close"] {
        assert!(trail.contains(event), "no {event} in the trail");
    }
}

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes())
}
