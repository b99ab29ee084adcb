//! Makes `--mem` a promise of the process: what the router lets go of is not kept by the allocator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use shardcast::limits::{HEAP_LOOKS_APART, HEAP_TRIM_BYTES, LARGE_BYTES};
use shardcast::net::heap;
use shardcast::router::Router;

/// A thread that gives back what a crowd has left behind.
#[derive(Debug)]
pub(super) struct HeapKeeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl HeapKeeper {
    /// What is large goes back when it is freed, from now on; to be called before the router allocates anything.
    pub(super) fn prepare() {
        heap::map_from(LARGE_BYTES);
    }

    pub(super) fn start(router: Arc<Router>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("shardcast-heap".into()).spawn(move || {
            let mut before = 0;
            while !stopped.load(Ordering::SeqCst) {
                let released = router.memory().released;
                // What an idle shard has told stands for a second.
                if released >= HEAP_TRIM_BYTES && released != before {
                    heap::trim();
                }
                before = released;
                std::thread::park_timeout(HEAP_LOOKS_APART);
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
