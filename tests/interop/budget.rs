//! A viewer's `max_age`, end to end: over a link that trickles, stalls or comes in bursts a real decoder gets what it
//! can decode, without an error, and what is left out is counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shardcast::clock::Instant;
use shardcast::protocol::rtmp::message::VIDEO;
use socket2::{Domain, Socket, Type};

use crate::media;
use crate::peer::{self, Peer};
use crate::process::{Process, now};
use crate::tools::Tool;
use crate::world::{World, loopback};

const BUDGET_MS: u64 = 1_000;
/// Longer than what is published.
const WHOLE: Duration = Duration::from_secs(60);

/// How a link passes on what the server sends.
#[derive(Clone, Copy, Debug)]
enum Link {
    /// So many bytes per second.
    Trickles(u64),
    /// As fast as can be, and nothing for two and a half of each five seconds.
    Stalls,
    /// All that is there, every 700 ms.
    Bursts,
}

/// Bytes that a link's own system is asked to hold: as few as it takes. It doubles them.
const HELD: usize = 4 * 1024;

/// Listens for viewers, and puts such a link between each of them and the server.
fn link(server: SocketAddr, link: Link) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        while let Ok((viewer, _)) = listener.accept() {
            let upstream = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            upstream.set_recv_buffer_size(HELD).expect("a socket takes its options");
            upstream.connect(&server.into()).expect("the server listens");
            let upstream = TcpStream::from(upstream);
            let (mut up, mut from) = (upstream.try_clone().expect("a handle"), viewer.try_clone().expect("a handle"));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut up);
                let _ = up.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || pass(upstream, viewer, link));
        }
    });
    address
}

fn pass(mut server: TcpStream, mut viewer: TcpStream, link: Link) {
    let mut bytes = vec![0; 1024];
    let began = now();
    loop {
        match link {
            Link::Trickles(per_second) => {
                std::thread::sleep(Duration::from_micros(bytes.len() as u64 * 1_000_000 / per_second));
            }
            Link::Stalls => {
                let at = u64::try_from(now().since(began).as_millis()).unwrap_or(0) % 5_000;
                if at >= 2_500 {
                    std::thread::sleep(Duration::from_millis(5_000 - at));
                }
            }
            Link::Bursts => {
                bytes.resize(1 << 20, 0);
                std::thread::sleep(Duration::from_millis(700));
            }
        }
        let len = server.read(&mut bytes).unwrap_or(0);
        if len == 0 || viewer.write_all(&bytes[..len]).is_err() {
            let _ = viewer.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[test]
fn what_comes_over_a_bad_link_decodes_without_an_error_and_what_is_left_out_is_counted() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--shards", "2", "--data", &data()]) else { return };
    let media = media::h264_aac_short_gop();
    let seconds = 30;
    let rate = fs::metadata(&media.path).expect("it was encoded").len() / seconds;
    let mut publisher = world.publish(media, "live/budget");
    publisher.wait_until_sent(Duration::from_millis(600));
    let links = [Link::Trickles(rate * 6 / 10), Link::Stalls, Link::Bursts];
    let mut decoders: Vec<Process> = links
        .iter()
        .map(|one| {
            let port = link(loopback(world.port), *one).port();
            let url = format!("rtmp://127.0.0.1:{port}/live/budget?max_age_ms={BUDGET_MS}");
            let mut command = Command::new(&media.ffmpeg);
            command.args(["-v", "error", "-nostdin", "-stats_period", "1", "-i", &url]);
            command.args(["-enc_time_base:v", "1/1000", "-f", "null", "-"]);
            Process::start(&world.dir, "decoder", &mut command)
        })
        .collect();
    publisher.process.succeed(WHOLE);

    for (decoder, link) in decoders.iter_mut().zip(links) {
        decoder.succeed(WHOLE);
        assert_eq!(decoder.stderr(), "", "the decoder complains over a link that {link:?}");
    }
    let trail = fs::read_to_string(std::path::Path::new(&data()).join("audit/00000001.jsonl")).expect("a trail");
    let skips = trail.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let skips: u64 = skips.filter(|one| one["event"] == "skip").filter_map(|one| one["count"].as_u64()).sum();
    println!("{skips} frames were left out over {links:?} of a stream of {rate} bytes per second");
    assert!(skips > 100, "{skips} frames were left out: these links were not bad");
    let _ = fs::remove_dir_all(data());
}

fn data() -> String {
    std::env::temp_dir().join(format!("shardcast-budget-{}", std::process::id())).to_string_lossy().into_owned()
}

#[test]
fn what_trickles_is_no_older_than_the_budget_and_what_the_link_holds() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &["--shards", "2"]) else { return };
    let media = media::h264_aac_short_gop();
    let rate = fs::metadata(&media.path).expect("it was encoded").len() / 30;
    let slow = rate / 2;
    let mut publisher = world.publish(media, "live/age");
    publisher.wait_until_sent(Duration::from_millis(600));
    let watch = |address: SocketAddr, name: &'static str| {
        std::thread::spawn(move || {
            let mut peer = Peer::connect(address);
            peer.send(&peer::player("live", name));
            let mut seen: BTreeMap<u32, Instant> = BTreeMap::new();
            while !peer.is_closed(Duration::ZERO) {
                let Some(message) = peer.message(Duration::from_millis(500)) else { continue };
                if message.kind == VIDEO && message.payload.get(1) == Some(&1) {
                    seen.insert(message.timestamp, now());
                }
            }
            seen
        })
    };
    let edge = watch(loopback(world.port), "age");
    let late = watch(link(loopback(world.port), Link::Trickles(slow)), "age?max_age_ms=1000");
    publisher.process.succeed(WHOLE);
    let (edge, late) = (edge.join().expect("no panic"), late.join().expect("no panic"));

    // Until its pace is known it may be older: that takes the first seconds.
    let from = *edge.keys().next().expect("it got pictures") + 8_000;
    let ages = late.range(from..).filter_map(|(time, at)| Some(at.since(*edge.get(time)?)));
    let mut ages: Vec<Duration> = ages.collect();
    ages.sort_unstable();
    let oldest = *ages.last().expect("it got pictures");
    // What the link's and the viewer's systems hold is beyond reach: twice what was asked for, at this pace.
    let beyond = Duration::from_millis(4 * HELD as u64 * 1_000 / slow);
    let most = Duration::from_millis(BUDGET_MS + 40 + 45) + beyond;
    println!(
        "{} pictures of {} came at half of their rate: half of them up to {:.0?} old, the oldest {oldest:.0?} (budget {BUDGET_MS} ms, {beyond:.0?} beyond reach)",
        ages.len(),
        edge.len(),
        ages[ages.len() / 2]
    );
    assert!(oldest <= most, "{oldest:?} is more than {most:?}");
    assert!(ages.len() > 50, "{} pictures came", ages.len());
}
