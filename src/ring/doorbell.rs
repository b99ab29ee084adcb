//! Wakes a thread that sleeps, and costs next to nothing while it does not.
//!
//! Sleeper and sender each store one thing and then look at the other's: the sleeper its flag and then the rings, the
//! sender its messages and then the flag. With a fence between the two on both sides at least one sees the other.

use super::sync::{Arc, AtomicBool, Ordering, fence};

/// How a sleeping thread is woken. A wake is remembered: one that comes before the sleep ends it at once, as with
/// `mio::Waker` and `Thread::unpark`.
pub trait Wake: Send + Sync {
    /// Ends the current sleep of the thread, or the next.
    fn wake(&self);
}

/// The flag that says that a thread sleeps, and the means to wake it. One thread sleeps; any thread may ring.
///
/// The sleeper's order is [`announce_sleep`](Self::announce_sleep), look at everything again, sleep only if there is
/// nothing, [`awake`](Self::awake).
#[derive(Clone)]
pub struct Doorbell(Arc<Bell>);

#[repr(align(128))]
struct Bell {
    sleeping: AtomicBool,
    wake: Box<dyn Wake>,
}

impl Doorbell {
    /// A doorbell of a thread that is awake.
    pub fn new(wake: impl Wake + 'static) -> Self {
        Self(Arc::new(Bell { sleeping: AtomicBool::new(false), wake: Box::new(wake) }))
    }

    /// The sleeper is about to sleep. Afterwards it must look at all its rings again before it does.
    pub fn announce_sleep(&self) {
        // Relaxed: the fence orders it. A swap, here and in `awake`, since loom does not know that nothing comes
        // between what a swap reads and what it writes unless the next write is a swap too; who sleeps can pay it.
        self.0.sleeping.swap(true, Ordering::Relaxed);
        // Partner is the fence in `ring`: either our second look finds the sender's messages, or the sender our flag.
        fence(Ordering::SeqCst);
    }

    /// The sleeper is up and needs no wake.
    pub fn awake(&self) {
        // Relaxed: a sender that still sees the old value wakes once too often.
        self.0.sleeping.swap(false, Ordering::Relaxed);
    }

    /// Whether the thread said that it sleeps and nobody rang since.
    #[must_use]
    pub fn is_sleeping(&self) -> bool {
        // Relaxed: an answer for counters and tests; `ring` decides.
        self.0.sleeping.load(Ordering::Relaxed)
    }

    /// Wakes the thread if it sleeps, and says whether it did. The sender calls this once after its pushes.
    pub fn ring(&self) -> bool {
        // Partner is the fence in `announce_sleep`.
        fence(Ordering::SeqCst);
        // Relaxed, both: the fence orders them after the pushes, and the messages are published by their tags. The
        // load keeps the line shared while the peer is awake; of several senders the swap lets one wake.
        let first = self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::Relaxed);
        if first {
            self.0.wake.wake();
        }
        first
    }
}
