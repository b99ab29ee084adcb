//! The floor of everything between two cores: one word on one cache line, written by both in turn; and threads that
//! stay on their core.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use core_affinity::CoreId;
use hdrhistogram::Histogram;

use super::figures::{adjusted, clock_ns, histogram};
use crate::clock::Clock;

/// The bare line between two cores.
pub(super) struct LineHop {
    pub(super) cores: [usize; 2],
    pub(super) round_trips: u64,
}

impl LineHop {
    /// One way in nanoseconds: half of a round trip, timed by one reading of the clock, whose cost is taken off.
    pub(super) fn measure(&self, clock: Clock) -> Histogram<u64> {
        adjusted(&self.round_trips(clock), clock_ns(clock), 2.0)
    }

    fn round_trips(&self, clock: Clock) -> Histogram<u64> {
        #[repr(align(128))]
        struct Line(AtomicU64);
        let line = &Line(AtomicU64::new(0));
        let mut histogram = histogram();
        thread::scope(|scope| {
            scope.spawn(move || {
                pin(self.cores[1]);
                for n in 0..=self.round_trips {
                    wait_until(|| (line.0.load(Ordering::Acquire) == 2 * n + 1).then_some(()));
                    line.0.store(2 * n + 2, Ordering::Release);
                }
            });
            let here = scope.spawn(|| {
                pin(self.cores[0]);
                let mut last = clock.instant();
                for n in 0..=self.round_trips {
                    line.0.store(2 * n + 1, Ordering::Release);
                    wait_until(|| (line.0.load(Ordering::Acquire) == 2 * n + 2).then_some(()));
                    let now = clock.instant();
                    // The first waits for the other thread to be there.
                    if n > 0 {
                        histogram.saturating_record(now.0 - last.0);
                    }
                    last = now;
                }
            });
            here.join().expect("it only counts");
        });
        histogram
    }
}

/// Spins; the peer gets the core only if it seems to have none.
#[inline]
pub fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let mut looks = 0u32;
    loop {
        if let Some(found) = look() {
            return found;
        }
        spin_loop();
        looks += 1;
        if looks.is_multiple_of(1 << 16) {
            thread::yield_now();
        }
    }
}

/// Keeps this thread on one core, if the system lets it.
pub fn pin(core: usize) {
    core_affinity::set_for_current(CoreId { id: core });
}

/// Works on a thread of its own that is kept on one core: this thread keeps all of its cores, so that it can give
/// them to shards.
pub fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        pin(core);
        work()
    };
    thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
