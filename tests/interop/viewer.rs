//! Players of our own, one thread each: cheap enough that a hundred of them watch, and stricter than a real one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use shardcast::protocol::rtmp::message::{AUDIO, VIDEO};

use crate::peer::{self, Peer};
use crate::process::{SOON, now, wait_for};

/// What one of them has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pictures: u64,
    pub(crate) sounds: u64,
    /// What should not have happened.
    pub(crate) troubles: Vec<String>,
}

/// Many that watch the same stream until they are told to stop.
#[derive(Debug)]
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    /// How often any of them has begun with a publisher.
    begun: Arc<AtomicU64>,
    /// For each time but the first of each: how long after the last picture of the one before.
    pauses: Arc<Mutex<Vec<Duration>>>,
    threads: Vec<JoinHandle<Seen>>,
}

impl Crowd {
    pub(crate) fn watch(address: SocketAddr, app: &'static str, name: &'static str, count: usize) -> Self {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pauses = Arc::<Mutex<Vec<Duration>>>::default();
        let viewer = |_| {
            let (stop, begun, pauses) = (Arc::clone(&stop), Arc::clone(&begun), Arc::clone(&pauses));
            std::thread::spawn(move || watch(address, app, name, &stop, &begun, &pauses))
        };
        Self { threads: (0..count).map(viewer).collect(), stop, begun, pauses }
    }

    /// Tells how long the picture has stood still from publisher to publisher since this was asked last.
    pub(crate) fn tell_pauses(&self, what: &str) {
        let mut pauses = std::mem::take(&mut *self.pauses.lock());
        pauses.sort_unstable();
        if let (Some(longest), Some(middle)) = (pauses.last(), pauses.get(pauses.len() / 2)) {
            println!("  {what}: {} pauses, half of them up to {middle:.0?}, the longest {longest:.0?}", pauses.len());
        }
    }

    /// Waits until each of them sees the pictures of so many publishers, one after another.
    pub(crate) fn wait_until_begun(&self, publishers: usize) {
        let wanted = (publishers * self.threads.len()) as u64;
        wait_for(&format!("that all see publisher {publishers}"), SOON, || {
            let ended = self.threads.iter().any(JoinHandle::is_finished);
            (ended || self.begun.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    pub(crate) fn finish(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a viewer does not panic")).collect()
    }
}

fn watch(
    address: SocketAddr,
    app: &str,
    name: &str,
    stop: &AtomicBool,
    begun: &AtomicU64,
    pauses: &Mutex<Vec<Duration>>,
) -> Seen {
    let mut peer = Peer::connect(address);
    let mut seen = Seen::default();
    let mut last = [0_u32; 2];
    let mut needs_key = true;
    let mut before = None;
    peer.send(&peer::player(app, name));
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = peer.message(Duration::from_millis(200)) else {
            if peer.is_closed(Duration::ZERO) {
                seen.troubles.push("it was disconnected".into());
                return seen;
            }
            continue;
        };
        let [first, second, ..] = *message.payload else { continue };
        let track = match message.kind {
            VIDEO => 0,
            AUDIO => 1,
            _ => continue,
        };
        if message.timestamp < last[track] {
            seen.troubles.push(format!("track {track} falls from {} to {}", last[track], message.timestamp));
        }
        last[track] = message.timestamp;
        if second == 0 {
            // A sequence header: what follows may be of another encoder.
            needs_key |= track == 0;
        } else if track == 1 {
            seen.sounds += 1;
        } else {
            let at = now();
            let pause = before.replace(at).map(|before| at.since(before));
            seen.pictures += 1;
            if std::mem::take(&mut needs_key) {
                pauses.lock().extend(pause);
                begun.fetch_add(1, Ordering::Relaxed);
                if first >> 4 != 1 {
                    seen.troubles.push(format!("the picture at {} builds on what never came", message.timestamp));
                }
            }
        }
    }
    seen
}
