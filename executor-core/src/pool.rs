//! Lock-free pools of cells, one for each size class, shared by everything in the process.
//!
//! ```text
//!  take / give ── thread magazines ── depot (ArrayQueue of full magazines) ── chunks of 4,096 cells
//!                 2 x 64 cells, no     lock-free, bounded: the cap of what      locked; only when a
//!                 atomic operation     is retained                              depot is empty or full
//! ```
//!
//! # Invariants
//! - I1. A block is in exactly one place: its owner's hands, one magazine, the depot, or its chunk.
//! - I2. A free block's first word links it to the next one of its magazine or chunk.
//! - I3. Magazines change hands whole, by value in a queue slot: there is no shared free list, and
//!   so no ABA.
//! - I4. A chunk is freed when all its blocks are back in it, and only then.
//!
//! With `--cfg executor_no_pool` every block comes from the allocator and goes back at once, so that
//! the sanitizers see a use after return.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::ptr::{self, NonNull};
use std::sync::PoisonError;
// Not those of `sync`: a static outlives the model run that first touched it.
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::sync::plain::{Mutex, MutexGuard, OnceLock};

/// Cells in a chunk, the unit in which memory comes from and returns to the allocator.
pub const CHUNK_CELLS: usize = 4_096;
/// Cells in a magazine; a thread keeps at most two for each size class.
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

/// A free block.
struct Free {
    next: *mut Free,
}

/// A stack of at most [`MAGAZINE_CELLS`] free blocks.
pub(crate) struct Magazine {
    head: *mut Free,
    len: usize,
}

// SAFETY: a magazine owns its blocks (I1), which are plain memory.
unsafe impl Send for Magazine {}

impl Magazine {
    pub(crate) const EMPTY: Self = Self {
        head: ptr::null_mut(),
        len: 0,
    };

    /// That of a thread without a cache: nothing can be popped, and it looks full.
    const SHUT: Self = Self {
        head: ptr::null_mut(),
        len: MAGAZINE_CELLS,
    };

    fn is_shut(&self) -> bool {
        self.head.is_null() && self.len != 0
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == MAGAZINE_CELLS
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.head)?;
        // SAFETY: I2: a block in a magazine starts with its link.
        self.head = unsafe { block.as_ref() }.next;
        self.len -= 1;
        Some(block.cast())
    }

    /// # Safety
    /// The caller owns `block`, which is at least 64 bytes.
    #[inline]
    pub(crate) unsafe fn push(&mut self, block: NonNull<u8>) {
        let block = block.cast::<Free>();
        // SAFETY: the caller owns the block, so its first word may become the link (I2).
        unsafe { block.write(Free { next: self.head }) };
        self.head = block.as_ptr();
        self.len += 1;
    }
}

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

/// All chunks of a class, by address.
struct Chunks {
    by_address: BTreeMap<usize, Chunk>,
    /// Chunks that may have free blocks, the most recent last.
    available: Vec<usize>,
}

/// One allocation of [`CHUNK_CELLS`] blocks.
struct Chunk {
    base: NonNull<u8>,
    free: Magazine,
    /// Blocks never handed out yet lie from here to the end.
    fresh: usize,
}

// SAFETY: a chunk owns its memory; its blocks are plain memory too.
unsafe impl Send for Chunk {}

impl Chunks {
    const fn new() -> Self {
        Self {
            by_address: BTreeMap::new(),
            available: Vec::new(),
        }
    }

    fn layout(class: usize) -> Layout {
        let size = BLOCK_SIZES[class] * CHUNK_CELLS;
        // Aligned to its size, so that a block's address tells its chunk.
        Layout::from_size_align(size, size).expect("a chunk is a power of two of at most 4 MiB")
    }

    /// Fills a magazine from the most recent chunk that has free blocks, or from a new one.
    fn take(&mut self, pool: &Pool, class: usize, magazine: &mut Magazine) {
        while magazine.len < MAGAZINE_CELLS {
            let Some(&base) = self.available.last() else {
                self.grow(pool, class);
                continue;
            };
            let Some(chunk) = self.by_address.get_mut(&base) else {
                self.available.pop();
                continue;
            };
            if let Some(block) = chunk.free.pop() {
                pool.settled.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: the block was free in its chunk and is now ours (I1).
                unsafe { magazine.push(block) };
            } else if chunk.fresh < CHUNK_CELLS {
                // SAFETY: `fresh` is below the number of blocks, so the block is in the chunk.
                let block = unsafe { chunk.base.add(chunk.fresh * BLOCK_SIZES[class]) };
                chunk.fresh += 1;
                // SAFETY: a fresh block was never handed out (I1).
                unsafe { magazine.push(block) };
            } else {
                self.available.pop();
            }
        }
    }

    fn grow(&mut self, pool: &Pool, class: usize) {
        let layout = Self::layout(class);
        // SAFETY: the size is not zero.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let chunk = Chunk {
            base,
            free: Magazine::EMPTY,
            fresh: 0,
        };
        self.by_address.insert(base.as_ptr().addr(), chunk);
        self.available.push(base.as_ptr().addr());
        pool.chunk_bytes.fetch_add(layout.size(), Ordering::Relaxed);
    }

    /// Puts blocks back into their chunks and frees the chunks that are whole again.
    fn put(&mut self, pool: &Pool, class: usize, magazine: &mut Magazine) {
        let layout = Self::layout(class);
        while let Some(block) = magazine.pop() {
            let base = block.as_ptr().addr() & !(layout.size() - 1);
            let chunk = self
                .by_address
                .get_mut(&base)
                .expect("a block's chunk lives (I4)");
            if chunk.free.len == 0 && chunk.fresh == CHUNK_CELLS {
                self.available.push(base);
            }
            // SAFETY: the block came out of a magazine, so it is ours (I1).
            unsafe { chunk.free.push(block) };
            pool.settled.fetch_add(1, Ordering::Relaxed);
            if chunk.free.len == chunk.fresh {
                pool.settled.fetch_sub(chunk.free.len, Ordering::Relaxed);
                let chunk = self.by_address.remove(&base).expect("it was just found");
                // SAFETY: I4: all its blocks are back; it was allocated with this layout.
                unsafe { dealloc(chunk.base.as_ptr(), layout) };
                pool.chunk_bytes.fetch_sub(layout.size(), Ordering::Relaxed);
            }
        }
        if self.available.len() > 2 * self.by_address.len() + 16 {
            self.available.sort_unstable();
            self.available.dedup();
            self.available
                .retain(|base| self.by_address.contains_key(base));
        }
    }
}

/// A thread's magazines of one class: the one in use, and a full or empty spare.
pub(crate) struct Pair {
    loaded: Magazine,
    spare: Magazine,
}

thread_local! {
    /// Without a destructor of its own, so that reaching it takes no check; `KEEPER` has one.
    static CACHE: [UnsafeCell<Pair>; CLASSES] = const {
        [const { UnsafeCell::new(Pair::SHUT) }; CLASSES]
    };
    /// Made when a thread first opens a cache, and dropped when the thread ends.
    static KEEPER: Keeper = const { Keeper };
}

/// Empties a thread's cache when the thread ends.
struct Keeper;

impl Drop for Keeper {
    fn drop(&mut self) {
        for (class, pool) in POOLS.iter().enumerate() {
            let left = with_pair(class, |pair| std::mem::replace(pair, Pair::SHUT));
            left.empty(|magazine| pool.store(class, magazine));
        }
    }
}

/// Lends this thread's magazines of a class to `run`, which does not come back to them.
#[inline(always)]
fn with_pair<R>(class: usize, run: impl FnOnce(&mut Pair) -> R) -> R {
    // SAFETY: they are this thread's, and `run` does not call back into the cache.
    CACHE.with(|cache| run(unsafe { &mut *cache[class].get() }))
}

impl Pair {
    const SHUT: Self = Self {
        loaded: Magazine::SHUT,
        spare: Magazine::EMPTY,
    };

    pub(crate) const EMPTY: Self = Self {
        loaded: Magazine::EMPTY,
        spare: Magazine::EMPTY,
    };

    /// Takes a block, by `more` if the loaded magazine has none.
    #[inline(always)]
    pub(crate) fn take(&mut self, more: impl FnOnce(&mut Self) -> NonNull<u8>) -> NonNull<u8> {
        match self.loaded.pop() {
            Some(block) => block,
            None => more(self),
        }
    }

    /// Takes a block from the spare or else from a magazine that `refill` gives.
    pub(crate) fn take_from_next(&mut self, refill: impl FnOnce() -> Magazine) -> NonNull<u8> {
        std::mem::swap(&mut self.loaded, &mut self.spare);
        if self.loaded.len == 0 {
            self.loaded = refill();
        }
        self.loaded.pop().expect("a refilled magazine has blocks")
    }

    /// Keeps a block, by `more` if the loaded magazine is full.
    ///
    /// # Safety
    /// The caller owns `block`, which is at least 64 bytes.
    #[inline(always)]
    pub(crate) unsafe fn give(&mut self, block: NonNull<u8>, more: impl FnOnce(&mut Self)) {
        if self.loaded.is_full() {
            more(self);
        } else {
            // SAFETY: as the caller says.
            unsafe { self.loaded.push(block) };
        }
    }

    /// Makes room in a full loaded magazine: by the spare, or by giving one to `store`.
    pub(crate) fn make_room(&mut self, store: impl FnOnce(Magazine)) {
        std::mem::swap(&mut self.loaded, &mut self.spare);
        if self.loaded.len != 0 {
            store(std::mem::replace(&mut self.loaded, Magazine::EMPTY));
        }
    }

    /// Gives all blocks up.
    pub(crate) fn empty(self, mut store: impl FnMut(Magazine)) {
        if !self.loaded.is_shut() {
            store(self.loaded);
            store(self.spare);
        }
    }

    /// Makes the loaded magazine usable; false: the thread is ending, and there is no cache.
    fn open(&mut self) -> bool {
        if self.loaded.is_shut() {
            if KEEPER.try_with(|_| ()).is_err() {
                return false;
            }
            *self = Self::EMPTY;
        }
        true
    }

    /// A block although the loaded magazine has none.
    #[cold]
    fn take_more(&mut self, class: usize) -> NonNull<u8> {
        if !self.open() {
            return take_without_cache(class);
        }
        self.take_from_next(|| POOLS[class].refill(class))
    }

    /// Takes a block back although the loaded magazine is full.
    ///
    /// # Safety
    /// The caller owns `block`.
    #[cold]
    unsafe fn give_more(&mut self, class: usize, block: NonNull<u8>) {
        if !self.open() {
            let mut magazine = Magazine::EMPTY;
            // SAFETY: as the caller says; without a cache the block goes home directly.
            unsafe { magazine.push(block) };
            return POOLS[class].store(class, magazine);
        }
        if self.loaded.is_full() {
            self.make_room(|full| POOLS[class].store(class, full));
        }
        // SAFETY: as the caller says, and every class has at least 64 bytes.
        unsafe { self.loaded.push(block) };
    }
}

/// Takes a block for `class`; its contents are undefined.
#[inline]
pub(crate) fn take(class: Class) -> NonNull<u8> {
    match class {
        Class::Pooled(class) if cfg!(not(any(executor_no_pool, loom))) => {
            with_pair(class, |pair| pair.take(|pair| pair.take_more(class)))
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

/// Whether [`settle`] has something to do.
#[inline]
pub(crate) fn is_unsettled() -> bool {
    POOLS
        .iter()
        .any(|pool| pool.settled.load(Ordering::Relaxed) != 0)
}

/// Moves the depots' blocks back into chunks that have free blocks already, and so lets the
/// chunks that a burst left half empty go. Called by a worker that goes to sleep.
#[cold]
pub(crate) fn settle() {
    for (class, pool) in POOLS.iter().enumerate() {
        if pool.settled.load(Ordering::Relaxed) == 0 {
            continue;
        }
        with_pair(class, |pair| {
            let mut chunks = pool.chunks();
            if !pair.loaded.is_shut() {
                chunks.put(pool, class, &mut pair.loaded);
            }
            chunks.put(pool, class, &mut pair.spare);
        });
        while let Some(mut magazine) = pool.depot(class).pop() {
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
mod tests {
    use super::*;

    #[test]
    fn the_block_given_last_is_taken_first() {
        let class = Class::of(Layout::new::<[u64; 8]>());
        let first = take(class);
        // SAFETY: just taken.
        unsafe { give(class, first) };
        let second = take(class);
        assert_eq!(first, second);
        // SAFETY: just taken.
        unsafe { give(class, second) };
    }

    #[test]
    fn live_blocks_are_distinct_and_their_memory_returns_after_a_burst() {
        let class = Class::of(Layout::new::<[u64; 128]>());
        let blocks: Vec<_> = (0..3 * RETAINED_BYTES / 1_024 + 5 * CHUNK_CELLS)
            .map(|_| take(class))
            .collect();
        let distinct: std::collections::HashSet<_> = blocks.iter().collect();
        assert_eq!(distinct.len(), blocks.len());
        let peak = pool_metrics().chunk_bytes;
        for block in blocks {
            // SAFETY: taken above, each once.
            unsafe { give(class, block) };
        }
        settle();
        let left = POOLS[4].chunk_bytes.load(Ordering::Relaxed);
        assert!(
            left <= RETAINED_BYTES && left < peak,
            "{left} of {peak} bytes retained"
        );
    }

    #[test]
    fn ten_threads_of_a_hundred_lose_and_double_nothing() {
        const THREADS: usize = 10;
        const BLOCKS: usize = 100;
        let class = Class::of(Layout::new::<[u64; 16]>());
        let taken = std::sync::Barrier::new(THREADS);
        let all = std::sync::Mutex::new(std::collections::HashSet::new());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (taken, all) = (&taken, &all);
                scope.spawn(move || {
                    for round in 0..20 {
                        let stamp = round * THREADS + thread;
                        let blocks: Vec<_> = (0..BLOCKS).map(|_| take(class)).collect();
                        for block in &blocks {
                            // SAFETY: the block is ours, and larger than a `usize`.
                            unsafe { block.cast::<usize>().write(stamp) };
                        }
                        let mut distinct = all.lock().expect("whole");
                        blocks.iter().for_each(|block| {
                            assert!(distinct.insert(block.as_ptr().addr()), "taken twice");
                        });
                        drop(distinct);
                        // All live at once, and only then given back.
                        if taken.wait().is_leader() {
                            let mut distinct = all.lock().expect("whole");
                            assert_eq!(distinct.len(), THREADS * BLOCKS);
                            distinct.clear();
                        }
                        taken.wait();
                        for block in blocks {
                            // SAFETY: as above.
                            assert_eq!(unsafe { block.cast::<usize>().read() }, stamp);
                            // SAFETY: taken above, each once.
                            unsafe { give(class, block) };
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_fits_no_class_is_oversized() {
        assert!(matches!(
            Class::of(Layout::new::<[u8; 1_025]>()),
            Class::Oversized(_)
        ));
        let layout = Layout::from_size_align(64, 256).expect("legal");
        assert!(matches!(Class::of(layout), Class::Oversized(_)));
        assert_eq!(Class::of(Layout::new::<[u8; 65]>()), Class::Pooled(1));
    }
}
