//! HLS of whatever somebody asks for: a stream is packaged from the first request on, and as long as there are any.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, RwLock};
use shardcast::Router;
use shardcast::clock::{Clock, Instant};
use shardcast::extension::{FrameSink, Resource, ResourceAnswer, ResourceRequest, SinkVerdict};
use shardcast::id::{ConnectionId, StreamKey};
use shardcast::media::Frame;
use shardcast::protocol::PlayOptions;
use shardcast::reason::Reason;
use shardcast::record::hls::{Answer, Packager, Request, Settings, Shelf};

/// What is packaged now, for all shards.
#[derive(Debug)]
pub(super) struct Shelves {
    settings: Settings,
    clock: Clock,
    all: RwLock<HashMap<StreamKey, Arc<Packaged>>>,
    /// Streams that somebody has asked for and that are not packaged yet.
    wanted: Sender<StreamKey>,
}

/// One stream.
#[derive(Debug)]
struct Packaged {
    shelf: Arc<Shelf>,
    /// The sink; none once it has left the stream by itself.
    sink: Mutex<Option<ConnectionId>>,
    /// When it was asked for last.
    asked: Mutex<Instant>,
    /// When its stream was seen to have ended.
    ended: Mutex<Option<Instant>>,
}

impl Shelves {
    /// With the thread that packages what is wanted, as soon as it is given the router.
    pub(super) fn new(settings: Settings) -> (Arc<Self>, Receiver<StreamKey>) {
        let (wanted, wants) = bounded(WANTED_MAX);
        (Arc::new(Self { settings, clock: Clock::start(), all: RwLock::default(), wanted }), wants)
    }

    /// Called on a shard.
    pub(super) fn file(&self, key: &StreamKey, request: &ResourceRequest<'_>) -> ResourceAnswer {
        let Some(packaged) = self.all.read().get(key).cloned() else {
            // Where there is no room somebody else has asked for the same, or asks again.
            let _ = self.wanted.try_send(key.clone());
            return ResourceAnswer::Wait;
        };
        *packaged.asked.lock() = self.clock.instant();
        let Some(asked) = asked(request) else { return ResourceAnswer::Bad("_HLS_msn and _HLS_part are numbers") };
        match packaged.shelf.get(&asked) {
            Answer::Ready(found) => ResourceAnswer::Ready(Resource {
                max_age: Some(if found.immutable { IMMUTABLE_FOR } else { found.max_age }),
                body: found.body,
                content_type: found.content_type,
                etag: Some(format!("{:x}", found.etag)),
                policy: None,
            }),
            Answer::Wait => ResourceAnswer::Wait,
            Answer::NotFound => ResourceAnswer::NotFound,
            Answer::Bad(why) => ResourceAnswer::Bad(why),
        }
    }
}

fn asked<'a>(request: &ResourceRequest<'a>) -> Option<Request<'a>> {
    let mut asked = Request { path: request.file, ..Request::default() };
    for (name, value) in request.query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "_HLS_msn" => asked.msn = Some(value.parse().ok()?),
            "_HLS_part" => asked.part = Some(value.parse().ok()?),
            "_HLS_skip" => asked.skip = value == "YES" || value == "v2",
            _ => {}
        }
    }
    Some(asked)
}

/// Puts packagers on streams and takes them off again.
#[derive(Debug)]
pub(super) struct HlsKeeper {
    thread: JoinHandle<()>,
    stop: Sender<()>,
}

impl HlsKeeper {
    pub(super) fn start(
        router: Arc<Router>,
        shelves: Arc<Shelves>,
        wants: Receiver<StreamKey>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new().name("shardcast-hls".into()).spawn(move || {
            loop {
                crossbeam_channel::select! {
                    recv(stopped) -> _ => return,
                    recv(wants) -> wanted => if let Ok(key) = wanted { package(&router, &shelves, &key) },
                    default(SWEEP_EVERY) => {}
                }
                sweep(&router, &shelves);
            }
        })?;
        Ok(Self { thread, stop })
    }

    /// Ends the thread, which has the router.
    pub(super) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

fn package(router: &Router, shelves: &Arc<Shelves>, key: &StreamKey) {
    if shelves.all.read().contains_key(key) {
        return;
    }
    let now = router.clock().now();
    let mut settings = shelves.settings.clone();
    // Greater than the number of any segment before, also of another process: players go on.
    settings.first_sequence = now.wall.0 / 1_000_000_000;
    let packager = Packager::new(settings, now);
    let asked = Mutex::new(shelves.clock.instant());
    let packaged =
        Arc::new(Packaged { shelf: packager.shelf(), sink: Mutex::new(None), asked, ended: Mutex::new(None) });
    let sink = Sink { packager, packaged: Arc::clone(&packaged) };
    match router.attach(key, PlayOptions::instant(), Box::new(sink)) {
        Ok(connection) => {
            *packaged.sink.lock() = Some(connection);
            shelves.all.write().insert(key.clone(), packaged);
        }
        // Whoever asked for it will hear that it is not there.
        Err(reason) => tracing::debug!("{key} is not packaged: {reason}"),
    }
}

/// Lets go of what nobody asks for any more.
fn sweep(router: &Router, shelves: &Shelves) {
    let now = shelves.clock.instant();
    let idle: Vec<StreamKey> = {
        let all = shelves.all.read();
        let idle =
            all.iter().filter(|(_, packaged)| now.since(*packaged.asked.lock()) >= KEPT_FOR || packaged.is_over(now));
        idle.map(|(key, _)| key.clone()).collect()
    };
    for key in idle {
        if let Some(packaged) = shelves.all.write().remove(&key)
            && let Some(connection) = packaged.sink.lock().take()
        {
            router.detach(connection);
        }
    }
}

impl Packaged {
    /// Its stream has ended, and its players have had time to see the end; another may begin under its name.
    fn is_over(&self, now: Instant) -> bool {
        self.shelf.is_ended() && now.since(*self.ended.lock().get_or_insert(now)) >= ENDED_FOR
    }
}

/// The packager on its stream.
struct Sink {
    packager: Packager,
    packaged: Arc<Packaged>,
}

impl FrameSink for Sink {
    fn on_frame(&mut self, frame: &Frame) -> SinkVerdict {
        self.packager.on_frame(frame)
    }

    fn on_gap(&mut self, frames: u64) {
        self.packager.on_gap(frames);
    }

    fn on_end(&mut self, reason: Reason) {
        self.packager.on_end(reason);
        self.packaged.sink.lock().take();
    }
}

/// Streams that wait to be packaged.
const WANTED_MAX: usize = 1_024;
/// What nobody asks for for so long is not packaged any more.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// So long after its end what has ended is gone.
const ENDED_FOR: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A segment never changes.
const IMMUTABLE_FOR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_waited_for() {
        let of = |query| asked(&ResourceRequest { file: "video0.m3u8", query });
        let expected = Request { path: "video0.m3u8", msn: Some(7), part: Some(2), skip: true };
        assert_eq!(of("token=x&_HLS_msn=7&_HLS_part=2&_HLS_skip=YES"), Some(expected));
        assert_eq!(of(""), Some(Request { path: "video0.m3u8", ..Request::default() }));
        assert_eq!(of("_HLS_msn=-1"), None);
    }
}
