//! Publishers that die and come back, or have a backup: their players stay, and decode without an error.
//!
//! `cargo test --release --test interop continuity -- --nocapture` prints how long the picture stood still.

use std::time::Duration;

use crate::media::{self, Media};
use crate::packets::{Packet, Track};
use crate::process::{Process, SOON, wait_for};
use crate::tools::Tool;
use crate::viewer::{Crowd, Seen};
use crate::world::{Player, World, loopback};

const GRACE: &str = "[[app]]\nname = \"live\"\nrepublish_grace = \"20s\"\nabsent = \"wait 20s\"\n\
                     conflict = \"take-over\"\n";
const BACKUP: &str =
    "[[app]]\nname = \"live\"\nrepublish_grace = \"20s\"\nconflict = \"backup\"\nstall_after = \"500ms\"\n";

const VIEWERS: usize = 100;
/// How often the publisher is killed: often enough to meet it in the middle of anything.
const KILLS: usize = 50;
/// How often the publisher is away and comes back.
const FILLED: usize = 5;
/// Half of them from one that was killed, half from one that only sends nothing.
const SWITCHES: usize = 10;

#[test]
fn a_publisher_is_killed_fifty_times_and_its_players_stay_and_decode_cleanly() {
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], GRACE, &["--shards", "2"]) else { return };
    let media = media::h264_aac_short_gop();
    // They come first, and wait for the publisher.
    let crowd = Crowd::watch(loopback(world.port), "live", "again", VIEWERS);
    let mut publisher = world.publish(media, "live/again");
    publisher.wait_until_sent(Duration::from_millis(500));
    let mut real = RealPlayers::start(&world, media, "live/again");

    for kill in 1..=KILLS {
        publisher.wait_until_sent(Duration::from_millis(600));
        crowd.wait_until_begun(kill);
        publisher.process.kill();
        publisher = world.publish(media, "live/again");
    }
    publisher.wait_until_sent(Duration::from_secs(1));
    crowd.wait_until_begun(KILLS + 1);

    crowd.tell_pauses("killed and started again");
    tell("reconnect of a killed ffmpeg", KILLS, &crowd.finish());
    real.finish(media, KILLS);
}

#[test]
fn of_two_publishers_the_one_that_leads_is_killed_or_stopped_and_its_players_stay_and_decode_cleanly() {
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], BACKUP, &["--shards", "2"]) else { return };
    let media = media::h264_aac_short_gop();
    let mut lead = world.publish(media, "live/both");
    lead.wait_until_sent(Duration::from_millis(500));
    let mut backup = world.publish(media, "live/both?backup");
    let crowd = Crowd::watch(loopback(world.port), "live", "both", VIEWERS);
    let mut real = RealPlayers::start(&world, media, "live/both");

    for turn in 0..SWITCHES {
        crowd.wait_until_begun(turn + 1);
        backup.wait_until_sent(Duration::from_millis(1200));
        // Its connection stays open where it is stopped: only that it sends nothing can be told.
        if turn == SWITCHES / 2 {
            crowd.tell_pauses("killed");
        }
        if turn < SWITCHES / 2 {
            lead.process.kill();
        } else {
            lead.process.signal("STOP");
        }
        crowd.wait_until_begun(turn + 2);
        let before = backup.sent();
        backup.wait_until_sent(before + Duration::from_millis(500));
        lead.process.kill();
        lead = backup;
        backup = world.publish(media, "live/both?backup");
    }

    crowd.tell_pauses("silent, for 500 ms until that is a stall");
    tell("switch to a backup", SWITCHES, &crowd.finish());
    real.finish(media, SWITCHES);
}

/// The filler is of another encoder: other codec configuration, other pictures.
#[test]
fn a_filler_is_shown_while_the_publisher_is_away_and_players_decode_it_cleanly() {
    if !crate::tools::found(&[Tool::Ffmpeg]) {
        return;
    }
    let (media, slate) = (media::h264_aac_short_gop(), media::h264_aac_one_keyframe());
    let config = format!("{GRACE}filler = {:?}\n", slate.path);
    let Some(world) = World::start_configured(&[Tool::Ffmpeg], &config, &["--shards", "2"]) else { return };
    let crowd = Crowd::watch(loopback(world.port), "live", "slate", VIEWERS);
    let mut publisher = world.publish(media, "live/slate");
    publisher.wait_until_sent(Duration::from_millis(500));
    let mut real = RealPlayers::start(&world, media, "live/slate");

    for turn in 0..FILLED {
        crowd.wait_until_begun(2 * turn + 1);
        publisher.process.kill();
        crowd.wait_until_begun(2 * turn + 2);
        std::thread::sleep(Duration::from_millis(800));
        publisher = world.publish(media, "live/slate");
        publisher.wait_until_sent(Duration::from_millis(600));
    }
    crowd.wait_until_begun(2 * FILLED + 1);

    crowd.tell_pauses("from publisher to filler and back");
    tell("a filler meanwhile", FILLED, &crowd.finish());
    real.finish(media, FILLED);
}

/// Real players: some decode, one lists what comes.
struct RealPlayers {
    decoders: Vec<Process>,
    lister: Player,
}

impl RealPlayers {
    fn start(world: &World, media: &Media, stream: &str) -> Self {
        let decoders = (0..3).map(|_| world.decode(&media.ffmpeg, stream)).collect();
        let mut lister = world.play(&media.ffmpeg, stream);
        lister.wait_until_it_gets_something();
        Self { decoders, lister }
    }

    /// Nobody has ended, nobody complains, and sound and picture are where they were beside each other.
    fn finish(&mut self, media: &Media, times: usize) {
        for decoder in &mut self.decoders {
            decoder.assert_running();
            decoder.signal("INT");
            wait_for("that the decoder ends", SOON, || decoder.try_wait());
            assert_eq!(decoder.stderr(), "", "the decoder complains");
        }
        let received = self.lister.so_far();
        for track in [received.video(), received.audio()] {
            track.assert_dts_never_falls();
        }
        let lives = lives(received.video(), media.published.video());
        assert!(lives.len() > times, "{} of {times} switches arrived", lives.len() - 1);
        let sound = places(received.audio(), media.published.audio());
        let mut apart: Vec<i64> = lives.iter().filter_map(|life| life.apart_from(&sound)).collect();
        apart.sort_unstable();
        let (Some(least), Some(most)) = (apart.first(), apart.last()) else { panic!("no sound came") };
        println!("  picture and sound are {least} to {most} ms off what was published, in {} lives", apart.len());
        assert!(apart.len() > times / 2 && *least >= -2 && *most <= 2, "{apart:?}");
    }
}

/// A stretch of pictures with one offset to the publisher's timestamps.
struct Life {
    from: i64,
    to: i64,
    offset: i64,
}

impl Life {
    /// How far the sound within it is from where it was beside the pictures: what most of it says, as the first sounds of
    /// a life may be held behind the last of the life before.
    fn apart_from(&self, sound: &[(i64, i64)]) -> Option<i64> {
        let within = sound.iter().filter(|(at, _)| (self.from..=self.to).contains(at));
        let mut offsets: Vec<i64> = within.map(|(_, offset)| offset - self.offset).collect();
        offsets.sort_unstable();
        (offsets.len() >= 8).then(|| offsets[offsets.len() / 2])
    }
}

/// Where each packet came, and by how much it is later than it was published.
fn places(received: &Track, published: &Track) -> Vec<(i64, i64)> {
    let same = |one: &Packet, other: &Packet| (one.size, one.sum) == (other.size, other.sum);
    let only = |packet: &Packet| {
        let mut found = published.packets.iter().filter(|one| same(one, packet));
        found.next().filter(|_| found.next().is_none()).map(|one| (packet.dts, packet.dts - one.dts))
    };
    received.packets.iter().filter_map(only).collect()
}

fn lives(received: &Track, published: &Track) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    for (at, offset) in places(received, published) {
        match lives.last_mut().filter(|life| (life.offset - offset).abs() <= 1) {
            Some(life) => life.to = at,
            None => lives.push(Life { from: at, to: at, offset }),
        }
    }
    lives
}

fn tell(what: &str, times: usize, seen: &[Seen]) {
    let troubles: Vec<&String> = seen.iter().flat_map(|one| &one.troubles).collect();
    assert!(troubles.is_empty(), "{} troubles: {:?}", troubles.len(), &troubles[..troubles.len().min(5)]);
    let (pictures, sounds): (u64, u64) = seen.iter().fold((0, 0), |(p, s), one| (p + one.pictures, s + one.sounds));
    println!("{what}, {times} times, {} viewers: {pictures} pictures, {sounds} sounds", seen.len());
    assert!(seen.iter().all(|one| one.pictures > 0 && one.sounds > 0), "somebody saw nothing");
}
