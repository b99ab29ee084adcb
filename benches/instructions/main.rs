//! The hot functions, each for `tools/callgrind.sh` to count its instructions, which a busy machine does not change.
//!
//! `instructions NAME` prepares one function, does it a few hundred times to warm up, then once more within
//! [`count_instructions_of`], which is where callgrind collects, and prints how often it was done there. Without a name
//! (`cargo test --benches`) all of them run and check what they did.

mod world;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shardcast::clock::Instant;
use shardcast::extension::{FrameSink, SinkVerdict};
use shardcast::limits::{Limits, PEER_RING_SLOTS};
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::protocol::rtmp::Rtmp;
use shardcast::protocol::rtmp::chunk::{ChunkLimits, ChunkReader, ChunkWriter, SET_CHUNK_SIZE};
use shardcast::protocol::rtmp::message::{AUDIO, CSID_AUDIO, CSID_VIDEO, VIDEO};
use shardcast::protocol::{Merge, Protocol};
use shardcast::ring::ring;
use shardcast::shard::{PackedFrame, PeerMessage};
use shardcast::stream::{GopCache, StreamLog};
use world::{FORMAT, PERIOD, PERIOD_NS, World};

/// What can be counted: a name, what is done each time, and what does it and tells how often.
type Function = (&'static str, &'static str, fn() -> u64);

const FUNCTIONS: [Function; 9] = [
    ("chunk_read", "a video message of 10,000 B in chunks of 4,096 B and an audio message of 372 B", chunk_read),
    ("log_append", "a frame into a log that keeps a GOP of 60", log_append),
    ("packetize", "a video frame and an audio frame to RTMP", packetize),
    ("ring", "a message of a peer pushed and popped", push_and_pop),
    ("cohort_flush", "8 frames gathered and sent to 100 RTMP players", cohort_flush),
    ("turn_players", "a frame in, packetized and sent to 100 RTMP players", turn_players),
    ("turn_sinks", "a frame in, and to 100 sinks", turn_sinks),
    ("turn_sink", "a frame in, and to one sink", turn_sink),
    ("join", "a sink attached, and given a GOP of 120", join),
];

fn main() -> ExitCode {
    let name = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    match name.as_deref() {
        None => {
            for (name, what, function) in FUNCTIONS {
                println!("{name:<14}{:>6} times: {what}", function());
            }
            println!("to count their instructions: tools/callgrind.sh");
        }
        // For the script: the names, one a line.
        Some("names") => FUNCTIONS.iter().for_each(|(name, ..)| println!("{name}")),
        Some(wanted) => {
            let Some((.., function)) = FUNCTIONS.iter().find(|(name, ..)| *name == wanted) else {
                eprintln!("no function is named '{wanted}'; `names` lists them");
                return ExitCode::FAILURE;
            };
            println!("{}", function());
        }
    }
    ExitCode::SUCCESS
}

/// Callgrind collects from where this is entered to where it is left; `tools/callgrind.sh` knows it by its name.
#[inline(never)]
fn count_instructions_of(work: &mut dyn FnMut()) {
    work();
}

/// Does it until everything has its size and place, then so often where it is counted.
fn count(times: u64, mut once: impl FnMut()) -> u64 {
    (0..2 * times).for_each(|_| once());
    count_instructions_of(&mut || (0..times).for_each(|_| once()));
    times
}

fn chunk_read() -> u64 {
    let mut reader = ChunkReader::new(ChunkLimits::from(&Limits::default()), 0);
    let mut writer = ChunkWriter::default();
    let mut bytes = Vec::new();
    writer.write(&mut bytes, 2, SET_CHUNK_SIZE, 0, 0, &4096_u32.to_be_bytes());
    assert!(matches!(reader.read(&mut Bytes::from(bytes)), Ok(Some(_))), "a control message");

    let mut bytes = Vec::new();
    writer.write(&mut bytes, CSID_VIDEO, VIDEO, 1, 40, &[7; 10_000]);
    writer.write(&mut bytes, CSID_AUDIO, AUDIO, 1, 40, &[9; 372]);
    let bytes = Bytes::from(bytes);
    count(200, || {
        let mut input = black_box(&bytes).clone();
        let video = reader.read(&mut input).expect("well-formed").expect("whole");
        let audio = reader.read(&mut input).expect("well-formed").expect("whole");
        assert!(video.payload.len() == 10_000 && audio.payload.len() == 372 && input.is_empty());
        black_box((video, audio));
    })
}

fn log_append() -> u64 {
    let mut log = StreamLog::new(GopCache::default(), Duration::from_secs(3));
    let mut frames = Frames::new(60);
    let times = count(600, || {
        let mut frame = frames.next();
        frame.origin = Instant(frame.dts.0.cast_unsigned());
        assert!(log.append(frame.origin, black_box(frame)).gop_dropped.is_none());
        log.sweep();
    });
    assert_eq!(log.head(), frames.count);
    times
}

fn packetize() -> u64 {
    let mut packetizer = Rtmp.packetizer(FORMAT);
    let mut frames = Frames::new(60);
    count(600, || {
        let video = frames.next();
        let audio = Frame::audio(Codec::Aac, video.dts, Bytes::from_static(b"audio"));
        for frame in [video, audio] {
            assert!(black_box(packetizer.packetize(black_box(&frame))).is_some());
        }
    })
}

fn push_and_pop() -> u64 {
    let (mut sender, mut receiver) = ring::<PeerMessage>(PEER_RING_SLOTS);
    let mut frames = Frames::new(60);
    count(2 * PEER_RING_SLOTS as u64, || {
        let message = PeerMessage::Frame(PackedFrame::pack(&frames.next(), 1));
        assert!(sender.push(black_box(message)).is_ok(), "there is room");
        assert!(black_box(receiver.pop()).is_some());
    })
}

fn cohort_flush() -> u64 {
    const PLAYERS: u64 = 100;
    const FRAMES: u64 = 8;
    const TIMES: u64 = 50;
    // The eighth frame is there a moment before the first may wait no longer.
    let mut world = World::new(100, Merge::Window(PERIOD * 7 + Duration::from_micros(500)));
    let mut frames = Frames::new(60);
    for n in 0..2 * TIMES {
        // They come, wait, are packetized when they are due, and leave together.
        for _ in 0..FRAMES {
            world.pass(PERIOD);
            world.send(frames.next());
            world.settle();
        }
        let before = world.counters().deliveries;
        world.pass(Duration::from_millis(1));
        if n < TIMES {
            world.settle();
        } else {
            count_instructions_of(&mut || world.turn());
            assert_eq!(world.counters().deliveries - before, PLAYERS * FRAMES, "they left in this turn");
        }
    }
    TIMES
}

fn turn_players() -> u64 {
    let mut world = World::new(100, Merge::Off);
    let mut frames = Frames::new(60);
    let times = count(120, || {
        world.pass(PERIOD);
        world.send(frames.next());
        world.turn();
    });
    assert_eq!(world.counters().deliveries, frames.count * 100, "every frame left for every player");
    times
}

fn turn_sinks() -> u64 {
    turn_to(100)
}

fn turn_sink() -> u64 {
    turn_to(1)
}

fn turn_to(sinks: u64) -> u64 {
    let mut world = World::new(0, Merge::Off);
    let sum = Arc::new(AtomicU64::new(0));
    (0..sinks).for_each(|_| world.attach(Box::new(Counting { frames: 0, sum: Arc::clone(&sum) })));
    let mut frames = Frames::new(60);
    let times = count(120, || {
        world.pass(PERIOD);
        world.send(frames.next());
        world.turn();
    });
    drop(world);
    assert_eq!(sum.load(Ordering::Relaxed), frames.count * sinks, "every frame reached every sink");
    times
}

fn join() -> u64 {
    const GOP: u64 = 120;
    let mut world = World::new(0, Merge::Off);
    let mut frames = Frames::new(GOP);
    for _ in 0..GOP {
        world.pass(PERIOD);
        world.send(frames.next());
        world.turn();
    }
    let sum = Arc::new(AtomicU64::new(0));
    let times = count(20, || {
        world.attach(Box::new(Counting { frames: 0, sum: Arc::clone(&sum) }));
        world.settle();
    });
    drop(world);
    assert_eq!(sum.load(Ordering::Relaxed), 3 * times * GOP, "every sink got the whole GOP");
    times
}

/// Counts what it gets, and tells when it goes.
struct Counting {
    frames: u64,
    sum: Arc<AtomicU64>,
}

impl FrameSink for Counting {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        self.frames += u64::from(!frame.payload.is_empty());
        SinkVerdict::Taken
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.sum.fetch_add(self.frames, Ordering::Relaxed);
    }
}

/// A stream of frames with a keyframe each `gop`; all have one payload, whose references are counted as in life.
struct Frames {
    payload: Bytes,
    count: u64,
    gop: u64,
}

impl Frames {
    fn new(gop: u64) -> Self {
        Self { payload: Bytes::from(vec![1; 1200]), count: 0, gop }
    }

    #[inline]
    fn next(&mut self) -> Frame {
        let time = Timestamp((self.count * PERIOD_NS).cast_signed());
        let key = self.count.is_multiple_of(self.gop);
        self.count += 1;
        Frame::video(Codec::H264, key, time, time, self.payload.clone())
    }
}
