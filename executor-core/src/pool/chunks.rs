//! The cold side: memory from the allocator, in chunks that go back whole.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use super::magazine::Magazine;
use super::{BLOCK_SIZES, CHUNK_CELLS, MAGAZINE_CELLS, Pool};

/// A page of the larger kind, in bytes, on the usual processors.
const HUGE_PAGE: usize = 2 << 20;
/// The block size of a message with a small payload, in bytes.
const USUAL_MESSAGE: usize = 128;

/// All chunks of a class, by address.
pub(super) struct Chunks {
    by_address: BTreeMap<usize, Chunk>,
    /// Chunks that may have free blocks, the most recent last.
    available: Vec<usize>,
}

/// A free block of a chunk.
struct Free {
    next: *mut Free,
}

/// The free blocks of a chunk.
struct FreeList {
    head: *mut Free,
    len: usize,
}

impl FreeList {
    const EMPTY: Self = Self {
        head: ptr::null_mut(),
        len: 0,
    };

    fn pop(&mut self) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.head)?;
        // SAFETY: I2: a free block of a chunk starts with its link.
        self.head = unsafe { block.as_ref() }.next;
        self.len -= 1;
        Some(block.cast())
    }

    /// # Safety
    /// The caller owns `block`, which is at least 64 bytes.
    unsafe fn push(&mut self, block: NonNull<u8>) {
        let block = block.cast::<Free>();
        // SAFETY: the caller owns the block, so its first word may become the link (I2).
        unsafe { block.write(Free { next: self.head }) };
        self.head = block.as_ptr();
        self.len += 1;
    }
}

/// One allocation of at least [`CHUNK_CELLS`] blocks.
struct Chunk {
    base: NonNull<u8>,
    free: FreeList,
    /// Blocks never handed out yet lie from here to the end.
    fresh: usize,
}

// SAFETY: a chunk owns its memory; its blocks are plain memory too.
unsafe impl Send for Chunk {}

/// Asks for pages that the processor finds quickly, where messages are so many that a chunk is not
/// enough; whether there are any is the system's to say.
fn ask_for_huge_pages(base: NonNull<u8>, size: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: the memory is ours, whole pages of it, and its contents stay as they are.
    let _refused = unsafe { libc::madvise(base.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (base, size);
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self {
            by_address: BTreeMap::new(),
            available: Vec::new(),
        }
    }

    /// How many blocks a chunk of the class has: those of usual messages fill a huge page.
    pub(super) fn blocks(class: usize) -> usize {
        let size = BLOCK_SIZES[class];
        if size < USUAL_MESSAGE || cfg!(executor_tiny) {
            CHUNK_CELLS
        } else {
            CHUNK_CELLS.max(HUGE_PAGE / size)
        }
    }

    fn layout(class: usize) -> Layout {
        let size = BLOCK_SIZES[class] * Self::blocks(class);
        // Aligned to its size, so that a block's address tells its chunk.
        Layout::from_size_align(size, size).expect("a chunk is a power of two of at most 4 MiB")
    }

    /// Fills a magazine from the most recent chunk that has free blocks, or from a new one.
    pub(super) fn take(&mut self, pool: &Pool, class: usize, magazine: &mut Magazine) {
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
            } else if chunk.fresh < Self::blocks(class) {
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
        if !self.by_address.is_empty() && layout.size() >= HUGE_PAGE {
            ask_for_huge_pages(base, layout.size());
        }
        let chunk = Chunk {
            base,
            free: FreeList::EMPTY,
            fresh: 0,
        };
        self.by_address.insert(base.as_ptr().addr(), chunk);
        self.available.push(base.as_ptr().addr());
        pool.chunk_bytes.fetch_add(layout.size(), Ordering::Relaxed);
    }

    /// Puts blocks back into their chunks and frees those that are whole again, but for the last.
    pub(super) fn put(&mut self, pool: &Pool, class: usize, magazine: &mut Magazine) {
        let layout = Self::layout(class);
        while let Some(block) = magazine.pop() {
            let base = block.as_ptr().addr() & !(layout.size() - 1);
            let is_last = self.by_address.len() == 1;
            let chunk = self
                .by_address
                .get_mut(&base)
                .expect("a block's chunk lives (I4)");
            let was_exhausted = chunk.free.len == 0 && chunk.fresh == Self::blocks(class);
            if was_exhausted && self.available.last() != Some(&base) {
                self.available.push(base);
            }
            // SAFETY: the block came out of a magazine, so it is ours (I1).
            unsafe { chunk.free.push(block) };
            pool.settled.fetch_add(1, Ordering::Relaxed);
            if chunk.free.len == chunk.fresh && !is_last {
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
