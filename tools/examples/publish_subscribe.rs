//! Publishes a stream from this process and subscribes to it.

use std::error::Error;
use std::thread;

use bytes::Bytes;
use shardcast::Router;
use shardcast::id::StreamKey;
use shardcast::media::{Codec, Frame, Timestamp};
use shardcast::router::{Delivery, PublishOptions, SubscribeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::builder().shards(1).start()?;
    let key = StreamKey::parse("live/demo")?;
    let mut publisher = router.publish(&key, PublishOptions::default())?;
    let mut subscription = router.subscribe(&key, SubscribeOptions::default())?;

    let reader = thread::spawn(move || {
        let mut frames = 0;
        loop {
            match subscription.recv() {
                Delivery::Frame(frame) => {
                    println!("{:>4} ms {:?} {} bytes", frame.pts.as_millis(), frame.kind, frame.payload.len());
                    frames += 1;
                }
                Delivery::Gap(frames) => println!("too slow: {frames} frames were left out"),
                Delivery::End(reason) => return (frames, reason),
            }
        }
    });
    publisher.send(Frame::config(Codec::H264, Timestamp::ZERO, Bytes::from_static(b"avcC")))?;
    for number in 0..4 {
        let time = Timestamp::from_millis(number * 40);
        publisher.send(Frame::video(Codec::H264, number == 0, time, time, Bytes::from(vec![0; 1000])))?;
    }
    publisher.end();
    let (frames, reason) = reader.join().map_err(|_| "the reader failed")?;
    println!("{frames} frames, then: {reason}");
    if frames == 5 { Ok(()) } else { Err("frames are missing".into()) }
}
