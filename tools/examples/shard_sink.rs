//! Code of the host that runs on the shard itself: frames reach it without a hop, and it must not wait.
//!
//! The sink measures keyframe distances; what it finds goes to the host's thread only now and then.

use std::error::Error;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use shardcast::Router;
use shardcast::clock::Now;
use shardcast::extension::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
use shardcast::id::StreamKey;
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::stream::{Absent, AppSpec};

/// What the host is told of each group of pictures.
enum Told {
    Gop { frames: u32, bytes: usize },
    End(Reason),
}

struct GopMeter {
    tell: SyncSender<Told>,
    frames: u32,
    bytes: usize,
}

impl FrameSink for GopMeter {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        if frame.is_key() && self.frames > 0 {
            let gop = Told::Gop { frames: self.frames, bytes: self.bytes };
            match self.tell.try_send(gop) {
                Ok(()) => (self.frames, self.bytes) = (0, 0),
                // The host is behind: this frame is offered again in the next turn.
                Err(TrySendError::Full(_)) => return SinkVerdict::Busy,
                Err(TrySendError::Disconnected(_)) => return SinkVerdict::Done,
            }
        }
        self.frames += 1;
        self.bytes += frame.payload.len();
        SinkVerdict::Taken
    }

    fn on_end(&mut self, reason: Reason) {
        let _ = self.tell.try_send(Told::End(reason));
    }
}

/// A stream of 100 frames, one per millisecond, a keyframe every 25.
struct Pattern(i64);

impl FrameSource for Pattern {
    fn poll_frame(&mut self, now: Now) -> SourcePoll {
        let number = self.0;
        if number == 100 {
            return SourcePoll::End;
        }
        if now.mono.since(shardcast::clock::Instant::ZERO) < Duration::from_millis(number.unsigned_abs()) {
            return SourcePoll::NotBefore(now.mono + Duration::from_millis(1));
        }
        self.0 += 1;
        let time = Timestamp::from_millis(number);
        SourcePoll::Frame(Frame::video(Codec::H264, number % 25 == 0, time, time, Bytes::from_static(&[0; 500])))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let app = AppSpec::new("live").absent(Absent::Wait(Duration::from_secs(1)));
    let router = Router::builder().shards(1).app(app).start()?;
    let key = StreamKey::parse("live/pattern")?;
    let (tell, told): (_, Receiver<Told>) = sync_channel(8);
    router.attach(&key, PlayOptions::instant(), Box::new(GopMeter { tell, frames: 0, bytes: 0 }))?;
    router.run_source(&key, Box::new(Pattern(0)))?;

    let mut gops = Vec::new();
    loop {
        match told.recv_timeout(Duration::from_secs(2))? {
            Told::Gop { frames, bytes } => {
                println!("a GOP of {frames} frames, {bytes} bytes");
                gops.push(frames);
            }
            Told::End(reason) => {
                println!("then {reason}");
                break;
            }
        }
    }
    if gops == [25; 3] { Ok(()) } else { Err(format!("three GOPs of 25 frames were due, not {gops:?}").into()) }
}
