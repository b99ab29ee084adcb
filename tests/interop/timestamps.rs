//! Timestamps that need the extended field, and those that do not fit it.

use std::fs;
use std::io::Write as _;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use shardcast::clock::Instant;

use crate::media::{self, Media};
use crate::packets::Packet;
use crate::process::{Process, SOON, now, wait_for};
use crate::tools::Tool;
use crate::world::{ENDS_WITHIN, Player, World};

/// The first timestamp that does not fit the 24 bits of a chunk header.
const EXTENDED: u32 = 1 << 24;

#[test]
fn a_stream_that_grows_into_extended_timestamps_is_played_without_a_gap() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let seconds = (EXTENDED / 1000 - 2).to_string();
    let mut publisher = world.publish_with(media, "live/extended", &["-output_ts_offset", &seconds]);

    publisher.wait_until_sent(Duration::from_secs(1));
    let before = world.play(&media.ffmpeg, "live/extended");
    publisher.wait_until_sent(Duration::from_secs(3));
    let after = world.play(&media.ffmpeg, "live/extended");
    publisher.process.succeed(SOON);

    assert_whole(media, before);
    assert_whole(media, after);
}

#[test]
fn a_stream_that_passes_the_sign_bit_of_its_timestamps_is_played_without_a_gap() {
    passes(1 << 31);
}

#[test]
fn a_stream_whose_timestamps_wrap_around_is_played_without_a_gap() {
    passes(0);
}

/// ffmpeg writes 31 bits of a timestamp, so after 24.8 days its clock falls back to zero.
#[test]
fn the_fall_of_ffmpegs_own_timestamps_after_25_days_costs_no_packet() {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let seconds = ((1_u32 << 31) / 1000 - 3).to_string();
    let mut publisher = world.publish_with(media, "live/fall", &["-output_ts_offset", &seconds]);
    publisher.wait_until_sent(Duration::from_secs(1));

    let mut player = world.play(&media.ffmpeg, "live/fall");
    publisher.process.succeed(SOON);
    let received = player.finish(ENDS_WITHIN);

    for (got, sent) in [(received.video(), media.published.video()), (received.audio(), media.published.audio())] {
        let bytes = |packets: &[Packet]| packets.iter().map(|one| one.sum).collect::<Vec<_>>();
        let (got, sent) = (bytes(&got.packets), bytes(&sent.packets));
        let first = sent.iter().position(|sum| *sum == got[0]).expect("the first packet was published");
        assert!(sent[first..].starts_with(&got), "{got:x?} is no stretch of {sent:x?}");
    }
}

/// Publishes across a timestamp; one player joins before it, one after it.
fn passes(point: u32) {
    let Some(world) = World::start(&[Tool::Ffmpeg]) else { return };
    let media = media::h264_aac();
    let mut pump = Pump::start(&world, media, "live/wrap", point.wrapping_sub(2500));

    pump.pump_until(Duration::from_secs(1));
    let before = world.play(&media.ffmpeg, "live/wrap");
    pump.pump_until(Duration::from_secs(3));
    let after = world.play(&media.ffmpeg, "live/wrap");
    pump.finish();

    assert_whole(media, before);
    assert_whole(media, after);
}

/// The player got everything from its keyframe on, on one steady timeline modulo 2^32.
fn assert_whole(media: &Media, mut player: Player) {
    let received = player.finish(ENDS_WITHIN);
    received.video().assert_starts_with_a_keyframe();
    received.video().assert_dts_never_falls();
    received.audio().assert_dts_never_falls();
    let pictures = received.video().assert_contiguous_run_of(media.published.video());
    let sound = received.audio().assert_contiguous_run_of(media.published.audio());
    assert_eq!(pictures.offset, sound.offset, "picture and sound are on one timeline");
}

/// A publisher that is fed FLV tags with timestamps of our choice, at the speed of their clock: no encoder that one
/// can start has run for 50 days. ffmpeg's RTMP output reads tags out of whatever a muxer writes, and its muxer for
/// raw data writes them as they come.
struct Pump {
    publisher: Process,
    feed: ChildStdin,
    tags: std::vec::IntoIter<Tag>,
    start: Instant,
}

/// One FLV tag, with the size field that follows it, and when to send it.
struct Tag {
    at: Duration,
    bytes: Vec<u8>,
}

impl Pump {
    fn start(world: &World, media: &Media, stream: &str, first_timestamp: u32) -> Self {
        let mut command = Command::new(&media.ffmpeg);
        command.args("-v warning -f data -i pipe:0 -map 0 -c copy -flush_packets 1 -f data".split(' '));
        command.arg(world.url(stream));
        let mut publisher = Process::start_with(&world.dir, "pump", &mut command, Stdio::piped());
        let mut feed = publisher.stdin().expect("it was started with a pipe");
        let file = fs::read(&media.path).expect("the media can be read");
        let (header, tags) = file.split_at(FLV_HEADER_BYTES);
        feed.write_all(header).expect("the publisher reads");
        Self { publisher, feed, tags: tags_of(tags, first_timestamp).into_iter(), start: now() }
    }

    /// Sends what is due until so much of the stream is sent.
    fn pump_until(&mut self, end: Duration) {
        while let Some(tag) = self.tags.as_slice().first().filter(|tag| tag.at < end) {
            wait_for("that a tag is due", SOON, || (now() >= self.start + tag.at).then_some(()));
            self.publisher.assert_running();
            self.feed.write_all(&tag.bytes).expect("the publisher reads");
            self.tags.next();
        }
    }

    fn finish(mut self) {
        self.pump_until(Duration::MAX);
        drop(self.feed);
        self.publisher.succeed(SOON);
    }
}

/// The file header and the size of the tag before the first one.
const FLV_HEADER_BYTES: usize = 13;
/// Type, size of the body, timestamp, stream id.
const TAG_HEADER_BYTES: usize = 11;

/// Cuts FLV tags and moves their timestamps.
fn tags_of(mut file: &[u8], first_timestamp: u32) -> Vec<Tag> {
    let mut tags = Vec::new();
    while let Some(&[_, s2, s1, s0, t2, t1, t0, t3, ..]) = file.first_chunk::<TAG_HEADER_BYTES>() {
        let body = usize::try_from(u32::from_be_bytes([0, s2, s1, s0])).expect("24 bits");
        let timestamp = u32::from_be_bytes([t3, t2, t1, t0]);
        let (tag, rest) = file.split_at(TAG_HEADER_BYTES + body + 4);
        let mut bytes = tag.to_vec();
        let [t3, t2, t1, t0] = timestamp.wrapping_add(first_timestamp).to_be_bytes();
        bytes[4..8].copy_from_slice(&[t2, t1, t0, t3]);
        tags.push(Tag { at: Duration::from_millis(timestamp.into()), bytes });
        file = rest;
    }
    tags
}
