//! Memory that threads share: the SPSC ring between two of them, the doorbell that wakes the one that sleeps, and
//! counters in a mapped file.
//!
//! A slot is one cache line: an 8-byte lap tag and a message of up to 56 bytes, so that a hop moves one line and no
//! index. The consumer never writes a slot; it hands credits back (how far it has read) every eighth of the capacity
//! or when it finds the ring empty. Nothing here blocks, and full is an answer: what was not delivered comes back.
#![expect(unsafe_code, reason = "slots are written and read through a shared pointer; the tag says whose turn it is")]

mod doorbell;
#[cfg(feature = "trail")]
mod mapped;
#[cfg(all(test, loom))]
mod models;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

pub use doorbell::{Doorbell, Wake};
#[cfg(feature = "trail")]
pub use mapped::MappedSlots;
use sync::{AtomicU8, AtomicUsize, Ordering, UnsafeCell};

/// Makes a ring of `capacity` messages, rounded up to a power of two, at least one.
///
/// Everything is allocated here; neither side allocates afterwards.
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let shared = Box::new(Shared {
        slots: (0..capacity).map(|_| Slot::empty()).collect(),
        mask: capacity - 1,
        gone: AtomicU8::new(0),
        credits: Line(AtomicUsize::new(0)),
    });
    let shared = NonNull::from(Box::leak(shared));
    let producer = Producer { shared, tail: 0, head: 0 };
    let consumer = Consumer { shared, head: 0, handed_back: 0, credit_batch: (capacity / 8).max(1) };
    (producer, consumer)
}

/// The sending half. It belongs to one thread at a time.
#[repr(align(128))]
pub struct Producer<T> {
    shared: NonNull<Shared<T>>,
    /// Where the next message goes; `tail - head <= capacity`, wrapping.
    tail: usize,
    /// The consumer's credits when they were last read: it has taken at least everything before this.
    head: usize,
}

impl<T> Producer<T> {
    /// Sends one message, or gives it back.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`] if the consumer is gone, [`PushError::Full`] if it has handed back no room.
    #[inline]
    pub fn push(&mut self, message: T) -> Result<(), PushError<T>> {
        let shared = self.shared();
        if self.is_closed() {
            return Err(PushError::Closed(message));
        }
        if self.tail.wrapping_sub(self.head) > shared.mask {
            self.read_credits();
            if self.tail.wrapping_sub(self.head) > shared.mask {
                return Err(PushError::Full(message));
            }
        }

        let slot = shared.slot(self.tail);
        slot.message.with_mut(|cell| {
            // SAFETY: only this producer writes slots. The consumer does not read the one at `tail`: its tag is not
            // `tail + 1` yet, and the message of the last lap was taken before the credits that we acquired.
            unsafe { cell.write(MaybeUninit::new(message)) }
        });
        self.tail = self.tail.wrapping_add(1);
        // Release: partner is the Acquire of `Slot::holds`; who sees the tag sees the message.
        slot.tag.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Messages that can be pushed now without [`PushError::Full`]. The consumer hands room back in eighths of the
    /// capacity, so there may be more already.
    #[inline]
    pub fn free(&mut self) -> usize {
        self.read_credits();
        self.capacity() - self.tail.wrapping_sub(self.head)
    }

    /// Whether so many messages can be pushed now; asks the consumer only if what is known of it does not suffice.
    #[inline]
    pub fn has_room(&mut self, messages: usize) -> bool {
        if self.tail.wrapping_sub(self.head) + messages > self.capacity() {
            self.read_credits();
        }
        self.tail.wrapping_sub(self.head) + messages <= self.capacity()
    }

    /// Messages that the ring holds at most.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared().mask + 1
    }

    /// Whether the consumer was dropped: no push can succeed any more.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Acquire: partner is the AcqRel of the consumer's `leave`.
        self.shared().gone.load(Ordering::Acquire) & CONSUMER_GONE != 0
    }

    #[inline]
    fn read_credits(&mut self) {
        // Acquire: partner is the Release of `Consumer::hand_back`; the messages before it were taken out.
        self.head = self.shared().credits.0.load(Ordering::Acquire);
    }

    #[inline]
    fn shared<'a>(&self) -> &'a Shared<T> {
        // SAFETY: whoever of the two leaves last frees the ring, and we have not left; nobody holds a `&mut` before.
        // The lifetime does not outlive `self`: every caller drops the reference before it returns.
        unsafe { self.shared.as_ref() }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        leave(self.shared, PRODUCER_GONE);
    }
}

// SAFETY: the messages move to the thread of the consumer, hence `T: Send`; the producer's own state has one owner,
// and what it shares with the consumer is atomic or guarded by the tag.
unsafe impl<T: Send> Send for Producer<T> {}

/// The receiving half. It belongs to one thread at a time.
#[repr(align(128))]
pub struct Consumer<T> {
    shared: NonNull<Shared<T>>,
    /// Where the next message is taken from.
    head: usize,
    /// What the producer was told last; `head - handed_back < credit_batch` between two calls, wrapping.
    handed_back: usize,
    /// An eighth of the capacity, at least one.
    credit_batch: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest message.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let slot = self.shared().slot(self.head);
        if !slot.holds(self.head) {
            self.hand_back();
            return None;
        }

        let message = slot.message.with(|cell| {
            // SAFETY: the tag says that the producer has written this message; it does not touch the slot again
            // before we hand it back, and `head` moves on below, so that nobody takes the message twice.
            unsafe { cell.cast::<T>().read() }
        });
        self.head = self.head.wrapping_add(1);
        if self.head.wrapping_sub(self.handed_back) >= self.credit_batch {
            self.hand_back();
        }
        Some(message)
    }

    /// Whether there is nothing to take now; if so, all room is handed back.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        let empty = !self.shared().slot(self.head).holds(self.head);
        if empty {
            self.hand_back();
        }
        empty
    }

    /// Whether the producer was dropped and everything that it sent was taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let shared = self.shared();
        // Acquire: partner is the AcqRel of the producer's `leave`; every push lies before it, so look at the slot
        // only afterwards.
        let gone = shared.gone.load(Ordering::Acquire) & PRODUCER_GONE != 0;
        gone && !shared.slot(self.head).holds(self.head)
    }

    /// Messages that the ring holds at most.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared().mask + 1
    }

    /// Tells the producer how far we have read, if it does not know.
    #[inline]
    fn hand_back(&mut self) {
        if self.head != self.handed_back {
            self.handed_back = self.head;
            // Release: partner is the Acquire of `Producer::read_credits`; our reads of the slots lie before it.
            self.shared().credits.0.store(self.head, Ordering::Release);
        }
    }

    #[inline]
    fn shared<'a>(&self) -> &'a Shared<T> {
        // SAFETY: whoever of the two leaves last frees the ring, and we have not left; nobody holds a `&mut` before.
        // The lifetime does not outlive `self`: every caller drops the reference before it returns.
        unsafe { self.shared.as_ref() }
    }
}

impl<T> Drop for Consumer<T> {
    /// Drops what was sent so far; what the producer pushes meanwhile goes when the ring is freed.
    fn drop(&mut self) {
        // Leaves also when dropping a message panics, with the credits that say which are still there.
        struct Leave<'a, T>(&'a mut Consumer<T>);
        impl<T> Drop for Leave<'_, T> {
            fn drop(&mut self) {
                self.0.hand_back();
                leave(self.0.shared, CONSUMER_GONE);
            }
        }

        let leave = Leave(self);
        for _ in 0..leave.0.capacity() {
            if leave.0.pop().is_none() {
                break;
            }
        }
    }
}

// SAFETY: the messages come from the thread of the producer, hence `T: Send`; the consumer's own state has one owner,
// and what it shares with the producer is atomic or guarded by the tag.
unsafe impl<T: Send> Send for Consumer<T> {}

/// Why a message was not taken, with the message.
pub enum PushError<T> {
    /// The consumer has handed back no room.
    Full(T),
    /// The consumer is gone.
    Closed(T),
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the ring is full",
            Self::Closed(_) => "the ring's consumer is gone",
        })
    }
}

impl<T> Error for PushError<T> {}

/// What both sides reach. The first line is written once, when a side leaves, and so stays in both caches.
#[repr(align(128))]
struct Shared<T> {
    slots: Box<[Slot<T>]>,
    /// Capacity - 1; the capacity is a power of two, so that positions may wrap.
    mask: usize,
    /// [`PRODUCER_GONE`] and [`CONSUMER_GONE`].
    gone: AtomicU8,
    /// Everything before this position was taken. Written by the consumer alone, read by the producer when it runs
    /// out of room.
    credits: Line<AtomicUsize>,
}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, position: usize) -> &Slot<T> {
        let index = position & self.mask;
        // SAFETY: `index <= mask < slots.len()`; neither changes before the ring is freed.
        unsafe { self.slots.get_unchecked(index) }
    }
}

impl<T> Drop for Shared<T> {
    /// Drops what the producer sent and the consumer did not take.
    fn drop(&mut self) {
        // Relaxed, as in `holds` below whose Acquire has no partner here: `leave` has ordered both sides before us.
        let mut position = self.credits.0.load(Ordering::Relaxed);
        while self.slot(position).holds(position) {
            self.slot(position).message.with_mut(|cell| {
                // SAFETY: both sides have left, so that nobody else has the slot; the tag says that it was written,
                // the credits that it was not taken, and `position` moves on, so that it is dropped once.
                unsafe { cell.cast::<T>().drop_in_place() }
            });
            position = position.wrapping_add(1);
        }
    }
}

/// One message and whether it is there.
#[repr(C, align(64))]
struct Slot<T> {
    /// The position after the message's: differs from lap to lap, zero before the first.
    tag: AtomicUsize,
    message: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Slot<T> {
    fn empty() -> Self {
        Self { tag: AtomicUsize::new(0), message: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Whether the message of this position was written. It stays true after the message was taken, until the
    /// producer comes round: who asks must know by its own head that it was not.
    #[inline]
    fn holds(&self, position: usize) -> bool {
        // Acquire: partner is the Release of `Producer::push`.
        self.tag.load(Ordering::Acquire) == position.wrapping_add(1)
    }
}

/// A value on cache lines of its own; two, since processors fetch neighbours in pairs.
#[repr(align(128))]
struct Line<T>(T);

/// Ends one side's use of the ring; the last one frees it.
fn leave<T>(shared: NonNull<Shared<T>>, side: u8) {
    let gone = {
        // SAFETY: this side has not left yet, so that the ring is not freed; the reference ends with this block.
        let shared = unsafe { shared.as_ref() };
        // AcqRel: partner is the same line on the other side (Release what we did to the slots, Acquire what it did),
        // and the Acquire in both `is_closed`.
        shared.gone.fetch_or(side, Ordering::AcqRel)
    };
    if gone != 0 {
        // SAFETY: it came from a `Box` in `ring`; the other side has left and does not touch it again, and neither
        // do we.
        drop(unsafe { Box::from_raw(shared.as_ptr()) });
    }
}

const PRODUCER_GONE: u8 = 1;
const CONSUMER_GONE: u8 = 2;

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot<[u64; 7]>>() == 64, "tag and 56 bytes are one cache line");
const _: () = assert!(align_of::<Producer<u8>>() == 128 && align_of::<Consumer<u8>>() == 128);
