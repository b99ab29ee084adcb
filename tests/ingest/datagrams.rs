//! `serve --ts`: MPEG-TS over UDP, bare, in RTP, and to a group.

use std::net::UdpSocket;

use crate::film::{self, PATIENT, Shown, ffmpeg_path};
use crate::process::{SOON, wait_for};
use crate::tools::{self, Tool};
use crate::world::World;

fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    socket.local_addr().expect("it is bound").port()
}

/// `seconds`: how much is played, if not all.
fn arrives(at: impl Fn(u16) -> String, to: impl Fn(u16) -> String, seconds: Option<&str>) {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let (film, port) = (film::h264("datagrams.ts", "-f mpegts"), free_udp_port());
    let ts = format!("{}=live/ts", at(port));
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], PATIENT, &["--ts", &ts]) else { return };
    let mut sender = film::send(&world, &film, &to(port));
    // To the end, which comes when the sender has been silent for a while.
    let shown = Shown::of(&ffmpeg_path(), &world.url("live/ts"), seconds);
    sender.succeed(SOON);
    match seconds {
        Some(_) => shown.assert_is_of(&film.shown),
        None => shown.assert_ends_with(&film.shown),
    }
    let distance = shown.distance(&film.shown);
    assert!(distance.abs() < 0.003, "sound is {distance} s off");
    wait_for("that silence is told", SOON, || world.server.stderr().contains("is silent").then_some(()));

    let mut again = film::send(&world, &film, &to(port));
    Shown::of(&ffmpeg_path(), &world.url("live/ts"), Some("1")).assert_is_of(&film.shown);
    again.succeed(SOON);
}

#[test]
fn mpeg_ts_over_udp_is_played_ends_with_silence_and_begins_anew() {
    let to = |port| format!("-c copy -f mpegts udp://127.0.0.1:{port}?pkt_size=1316");
    arrives(|port| format!("127.0.0.1:{port}"), to, None);
}

#[test]
fn mpeg_ts_in_rtp_is_recognised() {
    let to = |port| format!("-c copy -f rtp_mpegts rtp://127.0.0.1:{port}");
    // ffmpeg 5.1 does not send the last packets.
    arrives(|port| format!("0.0.0.0:{port}"), to, Some("1"));
}

#[test]
fn a_multicast_group_is_joined() {
    let at = |port| format!("239.255.77.7:{port}@127.0.0.1");
    let options = "pkt_size=1316&localaddr=127.0.0.1&ttl=0";
    arrives(at, |port| format!("-c copy -f mpegts udp://239.255.77.7:{port}?{options}"), None);
}

#[test]
fn an_address_that_is_taken_ends_the_start() {
    if !tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let taken = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let dir = crate::process::Dir::new();
    let ts = format!("{address}=live/ts");
    let mut server =
        crate::world::shardcast(&crate::world::serve_args(crate::world::free_port(), &["--ts", &ts]), &dir);
    assert_eq!(server.wait(SOON).code(), Some(1));
    assert!(server.stderr().contains(&format!("MPEG-TS at {address}: ")), "{}", server.stderr());
}
