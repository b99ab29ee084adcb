//! Recordings of the applications that are to be recorded: in DIR/recordings of `--data DIR`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use shardcast::Router;
use shardcast::id::{ConnectionId, Generation, StreamKey};
use shardcast::protocol::PlayOptions;
use shardcast::record::recorder::{Recorder, RecorderPool, repair};
use shardcast::record::storage::FileSystem;

use super::config::Recording;

/// Puts recorders on streams that come, until it is stopped.
#[derive(Debug)]
pub(super) struct RecordKeeper {
    thread: JoinHandle<()>,
    stop: Sender<()>,
}

impl RecordKeeper {
    /// What a process before has left behind is brought into the index first.
    pub(super) fn start(router: Arc<Router>, data: &Path, recording: Recording) -> Result<Self, String> {
        let folder = data.join(FOLDER);
        let failed = |error: std::io::Error| format!("cannot record to {}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let storage = Arc::new(FileSystem::open(&folder).map_err(failed)?);
        match repair(&*storage) {
            Ok(0) => {}
            Ok(repaired) => tracing::info!("{repaired} recordings that were cut short are in the index now"),
            Err(error) => tracing::warn!("what was recorded before could not be looked through: {error}"),
        }
        let pool = RecorderPool::start(storage, router.clock(), 1).map_err(|error| error.to_string())?;
        let (stop, stopped) = bounded::<()>(0);
        let keeper = Keeper { router, recording, pool, running: HashMap::new() };
        let thread = std::thread::Builder::new().name("shardcast-record".into()).spawn(move || keeper.run(&stopped));
        Ok(Self { thread: thread.map_err(failed)?, stop })
    }

    /// Writes what is queued, and ends.
    pub(super) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

struct Keeper {
    router: Arc<Router>,
    recording: Recording,
    pool: RecorderPool,
    running: HashMap<StreamKey, Running>,
}

struct Running {
    generation: Generation,
    recorder: Recorder,
    sink: ConnectionId,
    /// Frames that were said to be missing.
    told: u64,
}

impl Keeper {
    fn run(mut self, stopped: &Receiver<()>) {
        while matches!(stopped.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout)) {
            self.look();
        }
        for running in self.running.values() {
            self.router.detach(running.sink);
        }
        self.pool.close();
    }

    /// Whoever has come is recorded from the keyframe that is cached of it on.
    fn look(&mut self) {
        let live = self.router.streams();
        self.running.retain(|key, running| {
            let still = live.iter().any(|listed| listed.key == *key && listed.generation == running.generation);
            tell_lost(key, running);
            still
        });
        for listed in live {
            if self.running.contains_key(&listed.key) || !self.recording.wants(listed.key.app()) {
                continue;
            }
            if let Err(why) = self.record(&listed.key, listed.generation) {
                tracing::warn!("{} is not recorded: {why}", listed.key);
            }
        }
    }

    fn record(&mut self, key: &StreamKey, generation: Generation) -> Result<(), String> {
        let (sink, recorder) =
            self.pool.record(key, self.recording.spec.clone()).map_err(|error| error.to_string())?;
        let sink = self.router.attach(key, PlayOptions::instant(), Box::new(sink));
        let sink = sink.map_err(|reason| reason.to_string())?;
        self.running.insert(key.clone(), Running { generation, recorder, sink, told: 0 });
        Ok(())
    }
}

fn tell_lost(key: &StreamKey, running: &mut Running) {
    let stats = running.recorder.stats();
    if stats.lost() > running.told {
        let why = stats.last_error.map(|error| format!(": {error}")).unwrap_or_default();
        tracing::warn!("{} frames of {key} are not in its recording{why}", stats.lost() - running.told);
        running.told = stats.lost();
    }
}

const FOLDER: &str = "recordings";
/// A stream that comes is recorded from the keyframe that is cached of it on, so this costs nothing of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
