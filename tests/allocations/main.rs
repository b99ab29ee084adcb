//! Heap allocations of a shard: none for a delivery, at most one for a frame that comes in, and how many bytes an
//! idle stream, a subscriber and an idle player hold.
//!
//! The shard runs step by step on the test's own thread, over sockets that take everything, so that a counting
//! allocator sees it and nothing else.
#![cfg(feature = "rtmp")]
#![expect(unsafe_code, reason = "a global allocator that counts is an unsafe trait to implement")]

mod held;
mod rtmp;
mod steady;
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts for each thread on its own.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES_HELD: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    // A thread that ends has nothing to count any more.
    let _ = ALLOCATIONS.try_with(|cell| cell.set(cell.get() + allocations));
    let _ = BYTES_HELD.try_with(|cell| cell.set(cell.get() + bytes));
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is passed on to the system's allocator as it is; counting touches two cells of this thread that
// need no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, signed(size) - signed(layout.size()));
        // SAFETY: the caller keeps the contract of `realloc`, which is the same; our blocks are the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -signed(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same; our blocks are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations of this thread so far.
fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Bytes that this thread has allocated and not freed.
fn bytes_held() -> i64 {
    BYTES_HELD.with(Cell::get)
}

#[test]
fn the_allocator_counts() {
    let (allocations_before, held_before) = (allocations(), bytes_held());
    let boxed = std::hint::black_box(Box::new([0u8; 1000]));
    assert_eq!((allocations() - allocations_before, bytes_held() - held_before), (1, 1000));
    drop(boxed);
    assert_eq!((allocations() - allocations_before, bytes_held() - held_before), (1, 0));
}
