//! Lock-free pools of cells, one for each size class, shared by everything in the process.
//!
//! ```text
//!  take / give ── one cell and ─────── depot (ArrayQueue of full magazines) ── chunks of 4,096 cells
//!                 2 x 64 a thread, no  lock-free, bounded: the cap of what      locked; only when a
//!                 atomic operation     is retained                              depot is empty or full
//! ```
//!
//! # Invariants
//! - I1. A block is in exactly one place: its owner's hands, one magazine, the depot, or its chunk.
//! - I2. A free block is named by its magazine's pages (see `magazine`), or linked to the next of its
//!   chunk by its first word.
//! - I3. Magazines change hands whole, by value in a queue slot: there is no shared free list, and
//!   so no ABA.
//! - I4. A chunk is freed when all its blocks are back in it and it is not the last of its class, and only then.
//!
//! With `--cfg executor_no_pool` every block comes from the allocator and goes back at once, so that
//! the sanitizers see a use after return.

mod boxed;
mod chunks;
mod magazine;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::PoisonError;
// Not those of `sync`: a static outlives the model run that first touched it.
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

pub(crate) use self::boxed::PoolBox;
use self::chunks::Chunks;
use self::magazine::with_pair;
pub(crate) use self::magazine::{Magazine, Pair};
use crate::sync::plain::{Mutex, MutexGuard, OnceLock};

/// Cells in a chunk, at least: the unit in which memory comes from and returns to the allocator.
pub const CHUNK_CELLS: usize = if cfg!(executor_tiny) { 8 } else { 4_096 };
/// Cells in a magazine; a thread keeps at most two for each size class, and one cell more.
pub const MAGAZINE_CELLS: usize = if cfg!(any(executor_tiny, loom)) {
    2
} else {
    64
};
/// Bytes that the depot of one size class retains after a burst.
pub const RETAINED_BYTES: usize = if cfg!(executor_tiny) {
    1 << 12
} else {
    // A hundred thousand messages of usual size, so that bursts of that size stay in the pools.
    32 << 20
};
/// The block sizes, in bytes; what does not fit the largest gets an allocation of its own.
pub const BLOCK_SIZES: [usize; CLASSES] = [64, 128, 256, 512, 1_024];
/// The strictest alignment of a pooled block, in bytes.
pub const BLOCK_ALIGN: usize = 128;

const CLASSES: usize = 5;

/// Which pool serves a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// One of [`BLOCK_SIZES`].
    Pooled(usize),
    /// Too large or too strictly aligned: one allocation.
    Oversized(Layout),
}

impl Class {
    /// The smallest class that holds `layout`.
    pub(crate) const fn of(layout: Layout) -> Self {
        let mut class = 0;
        while class < CLASSES {
            let size = BLOCK_SIZES[class];
            let align = if size < BLOCK_ALIGN {
                size
            } else {
                BLOCK_ALIGN
            };
            if layout.size() <= size && layout.align() <= align {
                return Self::Pooled(class);
            }
            class += 1;
        }
        let align = if layout.align() < 64 {
            64
        } else {
            layout.align()
        };
        match Layout::from_size_align(layout.size(), align) {
            Ok(layout) => Self::Oversized(layout),
            Err(_) => panic!("a cell larger than isize::MAX bytes"),
        }
    }
}

/// What the pools hold, in bytes, and what bypassed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Bytes of all chunks, in use or retained.
    pub chunk_bytes: usize,
    /// Bytes in the depots, ready for any thread.
    pub depot_bytes: usize,
    /// Messages so far that fitted no size class and cost one allocation each.
    pub oversized: usize,
}

/// Reads the pools' figures; they are exact when nothing is running.
#[must_use]
pub fn pool_metrics() -> PoolMetrics {
    let mut metrics = PoolMetrics {
        oversized: OVERSIZED.load(Ordering::Relaxed),
        ..PoolMetrics::default()
    };
    for (class, pool) in POOLS.iter().enumerate() {
        metrics.chunk_bytes += pool.chunk_bytes.load(Ordering::Relaxed);
        let magazines = pool.depot.get().map_or(0, ArrayQueue::len);
        metrics.depot_bytes += magazines * MAGAZINE_CELLS * BLOCK_SIZES[class];
    }
    metrics
}

static OVERSIZED: AtomicUsize = AtomicUsize::new(0);
static POOLS: [Pool; CLASSES] = [const { Pool::new() }; CLASSES];

/// Memory of one class.
struct Pool {
    depot: OnceLock<ArrayQueue<Magazine>>,
    chunks: Mutex<Chunks>,
    chunk_bytes: AtomicUsize,
    /// Blocks that lie free in their chunks.
    settled: AtomicUsize,
}

impl Pool {
    const fn new() -> Self {
        Self {
            depot: OnceLock::new(),
            chunks: Mutex::new(Chunks::new()),
            chunk_bytes: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
        }
    }

    /// Whether more blocks lie free in chunks than one chunk has, so that some could be freed; those that a
    /// thread leaves at its end are not worth it.
    fn is_unsettled(&self, class: usize) -> bool {
        self.settled.load(Ordering::Relaxed) > Chunks::blocks(class)
    }

    fn depot(&self, class: usize) -> &ArrayQueue<Magazine> {
        self.depot.get_or_init(|| {
            ArrayQueue::new((RETAINED_BYTES / (BLOCK_SIZES[class] * MAGAZINE_CELLS)).max(1))
        })
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        // No user code runs under this lock, and a failed allocation leaves the map as it was.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn refill(&self, class: usize) -> Magazine {
        if let Some(magazine) = self.depot(class).pop() {
            return magazine;
        }
        let mut magazine = Magazine::EMPTY;
        self.chunks().take(self, class, &mut magazine);
        magazine
    }

    #[cold]
    fn store(&self, class: usize, magazine: Magazine) {
        if magazine.len == 0 {
            return;
        }
        let whole = magazine.is_full();
        let left = if whole {
            self.depot(class).push(magazine).err()
        } else {
            Some(magazine)
        };
        if let Some(mut magazine) = left {
            self.chunks().put(self, class, &mut magazine);
        }
    }
}

/// Takes a block for `class`; its contents are undefined.
#[inline]
pub(crate) fn take(class: Class) -> NonNull<u8> {
    match class {
        Class::Pooled(class) if cfg!(not(any(executor_no_pool, loom))) => {
            with_pair(class, |pair| pair.take(class, |pair| pair.take_more(class)))
        }
        Class::Pooled(class) => allocate(block_layout(class)),
        Class::Oversized(layout) => {
            OVERSIZED.fetch_add(1, Ordering::Relaxed);
            allocate(layout)
        }
    }
}

/// Gives a block back.
///
/// # Safety
/// `block` came from [`take`] with the same class, and nothing uses it any more.
#[inline]
pub(crate) unsafe fn give(class: Class, block: NonNull<u8>) {
    let layout = match class {
        Class::Pooled(class) if cfg!(not(any(executor_no_pool, loom))) => {
            return with_pair(class, |pair| {
                // SAFETY: as the caller says.
                let more = |pair: &mut Pair| unsafe { pair.give_more(class, block) };
                // SAFETY: the caller owns the block, and every class has at least 64 bytes.
                unsafe { pair.give(block, more) };
            });
        }
        Class::Pooled(class) => block_layout(class),
        Class::Oversized(layout) => layout,
    };
    // SAFETY: the block was allocated with this layout.
    unsafe { dealloc(block.as_ptr(), layout) };
}

/// Gives a block back, in less code: for where blocks are given and taken in turn.
///
/// # Safety
/// As [`give`].
#[inline]
pub(crate) unsafe fn give_warm(class: Class, block: NonNull<u8>) {
    if let Class::Pooled(class) = class
        && cfg!(not(any(executor_no_pool, loom)))
        && with_pair(class, |pair| pair.give_first(block))
    {
        return;
    }
    // SAFETY: as the caller says.
    unsafe { give_apart(class, block) };
}

/// # Safety
/// As [`give`].
#[inline(never)]
unsafe fn give_apart(class: Class, block: NonNull<u8>) {
    // SAFETY: as the caller says.
    unsafe { give(class, block) };
}

/// Whether [`settle`] has something to do.
#[inline]
pub(crate) fn is_unsettled() -> bool {
    (POOLS.iter().enumerate()).any(|(class, pool)| pool.is_unsettled(class))
}

/// Whether [`settle`] has a depot to empty, and not just what this thread took a moment ago: what is worth
/// it where workers pause often.
#[inline]
pub(crate) fn has_surplus() -> bool {
    let has_surplus = |(class, pool): (usize, &Pool)| {
        pool.is_unsettled(class) && pool.depot.get().is_some_and(|depot| !depot.is_empty())
    };
    POOLS.iter().enumerate().any(has_surplus)
}

/// Moves the depots' blocks back into chunks that have free blocks already, and so lets the
/// chunks that a burst left half empty go, until `is_called` away. Called by a worker that goes to sleep:
/// as it counts as the one who searches, nobody else is woken for what is pushed meanwhile.
#[cold]
pub(crate) fn settle(is_called: impl Fn() -> bool) {
    for (class, pool) in POOLS.iter().enumerate() {
        if !pool.is_unsettled(class) {
            continue;
        }
        with_pair(class, |pair| {
            let mut chunks = pool.chunks();
            if let Some(first) = pair.take_first() {
                // SAFETY: it was this thread's, and is of the class.
                chunks.put(pool, class, &mut unsafe { Magazine::of(first) });
            }
            if !pair.loaded.is_shut() {
                chunks.put(pool, class, &mut pair.loaded);
            }
            chunks.put(pool, class, &mut pair.spare);
        });
        // As many as there are now, or it would go on for as long as others give.
        for _ in 0..pool.depot(class).len() {
            let magazine = if is_called() {
                None
            } else {
                pool.depot(class).pop()
            };
            let Some(mut magazine) = magazine else { break };
            pool.chunks().put(pool, class, &mut magazine);
        }
    }
}

#[cold]
fn take_without_cache(class: usize) -> NonNull<u8> {
    let mut magazine = POOLS[class].refill(class);
    let block = magazine.pop().expect("a refilled magazine has blocks");
    POOLS[class].store(class, magazine);
    block
}

fn block_layout(class: usize) -> Layout {
    let size = BLOCK_SIZES[class];
    Layout::from_size_align(size, size.min(BLOCK_ALIGN)).expect("block sizes are powers of two")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no cell is empty, so the size is not zero.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(all(test, not(any(loom, executor_no_pool))))]
mod tests;
