//! `shardcast serve` as an operator meets it: what it prints, what it refuses, how it ends.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::media;
use crate::process::{Dir, Process, SOON, now, wait_for};
use crate::tools::Tool;
use crate::world::{self, ENDS_WITHIN, World};

/// What `--drain 2s` and closing everything take at most.
const DRAINS_WITHIN: Duration = Duration::from_secs(8);

#[test]
fn sigterm_tells_the_players_and_ends_the_server_with_success() {
    let Some(mut world) = World::start_shardcast(&[Tool::Ffmpeg], &["--drain", "2s"]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/drain");
    publisher.wait_until_sent(Duration::from_secs(1));
    let mut player = world.play(&media.ffmpeg, "live/drain");
    player.wait_until_it_gets_something();

    world.server.signal("TERM");

    world.server.succeed(DRAINS_WITHIN);
    player.finish(ENDS_WITHIN).video().assert_contiguous_run_of(media.published.video());
    publisher.process.wait(ENDS_WITHIN);
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let Some(mut world) = World::start_shardcast(&[Tool::Ffmpeg], &["--drain", "60s"]) else { return };
    let media = media::h264_aac();
    let mut publisher = world.publish(media, "live/twice");
    publisher.wait_until_sent(Duration::from_secs(1));
    let _silent = TcpStream::connect(world::loopback(world.port)).expect("the server accepts");

    world.server.signal("TERM");
    // Two signals in one instant would be one: the port is closed when the first has been heard.
    wait_for("that the server stops accepting", SOON, || (!world.accepts()).then_some(()));
    world.server.signal("TERM");

    let second = now();
    world.server.wait(SOON);
    assert!(now().since(second) < Duration::from_secs(1), "it took {:?}", now().since(second));
}

#[test]
fn a_port_that_another_program_has_is_named_in_one_sentence() {
    if !world::is_shardcast_tested() {
        return;
    }
    let other = TcpListener::bind(world::loopback(0)).expect("loopback has a free port");
    let port = other.local_addr().expect("it is bound").port();

    refuses_to_start(&world::serve_args(port, &[]), &port.to_string());
}

/// Its shards share a port with SO_REUSEPORT: without care, two servers would share it as well and each would get
/// half of the connections.
#[test]
fn a_port_that_another_shardcast_has_is_refused_too() {
    let Some(world) = World::start_shardcast(&[], &[]) else { return };

    refuses_to_start(&world::serve_args(world.port, &[]), &world.port.to_string());
}

#[test]
fn an_address_that_others_can_reach_needs_open() {
    if !world::is_shardcast_tested() {
        return;
    }
    let address = format!("0.0.0.0:{}", world::free_port());

    refuses_to_start(&["serve", "--rtmp", &address, "--log", "warn"].map(str::to_owned), "--open");
}

#[test]
fn the_printed_commands_publish_and_play() {
    let Some(world) = World::start_shardcast(&[Tool::Ffmpeg], &[]) else { return };
    let [publish, play] = wait_for("that the server prints how to publish and to play", SOON, || {
        let printed = world.server.stdout() + &world.server.stderr();
        let mut commands = printed.lines().filter_map(command_in).map(str::to_owned);
        Some([commands.next()?, commands.next()?])
    });
    let output = publish.rfind("-f flv").unwrap_or_else(|| panic!("ffmpeg publishes FLV, not by: {publish}"));

    let publish = format!("{} -v error -nostdin -t 6 {}", &publish[..output], &publish[output..]);
    let mut publisher = Process::start(&world.dir, "printed-publish", &mut shell(&publish));
    // No player is let in before the stream is there.
    wait_for("that the stream can be played", SOON, || {
        publisher.assert_running();
        let mut player = Process::start(&world.dir, "printed-play", &mut shell(&format!("{play} -t 1 -autoexit")));
        player.wait(SOON).success().then_some(())
    });
    publisher.succeed(SOON);
}

fn refuses_to_start(args: &[String], names: &str) {
    let dir = Dir::new();
    let mut server = world::shardcast(args, &dir);
    let status = server.wait(SOON);
    let told = server.stderr();
    assert!(!status.success(), "it must not end with success");
    assert_eq!(told.lines().count(), 1, "not one sentence:\n{told}");
    assert!(told.contains(names), "{names} is not named:\n{told}");
}

/// The command of a printed line, without what stands before it.
fn command_in(line: &str) -> Option<&str> {
    let start = ["ffmpeg ", "ffplay "].iter().filter_map(|name| line.find(name)).min()?;
    Some(&line[start..]).filter(|command| command.contains("rtmp://"))
}

/// As a person would type it, on a machine without screen and sound. The shell becomes the program, so that
/// nothing is left behind when it is killed.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]);
    shell.env("SDL_VIDEODRIVER", "dummy").env("SDL_AUDIODRIVER", "dummy");
    shell
}
