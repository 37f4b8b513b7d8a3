//! A global allocator that counts, for the allocations per event in the report.
//!
//! Every allocation is made by the system's allocator. One is counted if it happens on a thread that handles or submits
//! events; the threads that read from git, parse, keep the books and draw the progress bar exclude themselves with
//! [`exclude_this_thread`]. What is not said to be excluded is counted, so that an executor's own threads cannot hide.
//!
//! # Invariants
//! - I1. The layout and the pointer of every call reach the system's allocator unchanged.
//! - I2. Counting does not allocate and does not panic: the thread-locals are constants without a destructor.

#![expect(
    unsafe_code,
    reason = "a global allocator cannot be written without it; nothing else here is unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 32;
const UNASSIGNED: usize = usize::MAX;
const EXCLUDED: usize = usize::MAX - 1;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

static COUNTS: [Count; SHARDS] = [const { Count(AtomicU64::new(0)) }; SHARDS];
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The index of the thread's counter, or one of the two marks above.
    static SHARD: Cell<usize> = const { Cell::new(UNASSIGNED) };
}

/// One counter on cache lines of its own, so that two counting threads do not share one.
#[repr(align(128))]
struct Count(AtomicU64);

struct CountingAllocator;

/// Leaves the allocations of this thread out of the count from now on.
pub(crate) fn exclude_this_thread() {
    SHARD.set(EXCLUDED);
}

/// The allocations counted so far on all threads that are not excluded.
pub(crate) fn counted() -> u64 {
    COUNTS
        .iter()
        .map(|count| count.0.load(Ordering::Relaxed))
        .sum()
}

#[inline]
fn count_one() {
    // A thread that is being torn down may have lost its thread-locals; it handles no events any more.
    let _ = SHARD.try_with(|shard| {
        let index = match shard.get() {
            EXCLUDED => return,
            UNASSIGNED => {
                let index = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
                shard.set(index);
                index
            }
            index => index,
        };
        COUNTS[index].0.fetch_add(1, Ordering::Relaxed);
    });
}

// SAFETY: every method forwards to the system's allocator (I1), which keeps the contract, and counting neither
// allocates nor unwinds (I2).
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promises about `layout` are passed on unchanged (I1).
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as for `alloc` (I1).
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: `pointer` came from this allocator, so from the system's, with this `layout` (I1).
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from this allocator, so from the system's, with this `layout` (I1).
        unsafe { System.dealloc(pointer, layout) }
    }
}
