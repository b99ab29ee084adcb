//! The floor of everything between two cores: one word on one cache line, written by both in turn.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hdrhistogram::Histogram;
use shardcast::clock::Clock;

use super::{histogram, pin};

/// The bare line between two cores.
pub(crate) struct LineHop {
    pub(crate) cores: [usize; 2],
    pub(crate) round_trips: u64,
}

impl LineHop {
    /// Round trips in nanoseconds, timed by one reading of the clock each.
    pub(crate) fn measure(&self, clock: Clock) -> Histogram<u64> {
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
pub(crate) fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
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
