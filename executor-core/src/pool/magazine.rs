//! Stacks of free blocks, and the two that each thread keeps for each class.
//!
//! A magazine names its blocks in some of them: every eighth is a *page*, with the next page and
//! seven blocks. So it needs no memory of its own, and whoever takes blocks that another thread gave
//! reads one line of memory for eight, and knows early which will be next.

use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};

use super::{BLOCK_SIZES, CLASSES, MAGAZINE_CELLS, POOLS, take_without_cache};
use crate::fetch::fetch_to_write;

/// Blocks that a page accounts for, itself included.
const PAGE_BLOCKS: usize = 8;
/// How many blocks ahead of their use their memory is fetched, if another thread had them last.
const FETCH_AHEAD: usize = 4;
/// How many lines of a block are fetched: what most submitters write.
const FETCH_LINES: usize = 3;

const _: () = assert!(size_of::<Page>() == BLOCK_SIZES[0]);

/// A free block that names others.
#[repr(C)]
struct Page {
    /// The page below, which is full.
    next: *mut Page,
    blocks: [*mut u8; PAGE_BLOCKS - 1],
}

/// A stack of at most [`MAGAZINE_CELLS`] free blocks.
///
/// The uppermost page names `(len - 1) % PAGE_BLOCKS` blocks, all others seven; a page is popped
/// after the blocks that it names.
pub(crate) struct Magazine {
    page: *mut Page,
    pub(super) len: usize,
}

// SAFETY: a magazine owns its blocks (I1), which are plain memory.
unsafe impl Send for Magazine {}

impl Magazine {
    pub(crate) const EMPTY: Self = Self {
        page: ptr::null_mut(),
        len: 0,
    };

    /// That of a thread without a cache: nothing can be popped, and it looks full.
    const SHUT: Self = Self {
        page: ptr::null_mut(),
        len: MAGAZINE_CELLS,
    };

    /// A magazine with one block.
    ///
    /// # Safety
    /// As [`Magazine::push`].
    pub(super) unsafe fn of(block: NonNull<u8>) -> Self {
        let mut magazine = Self::EMPTY;
        // SAFETY: as the caller says.
        unsafe { magazine.push(block) };
        magazine
    }

    pub(super) fn is_shut(&self) -> bool {
        self.page.is_null() && self.len != 0
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == MAGAZINE_CELLS
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let page = NonNull::new(self.page)?;
        self.len -= 1;
        let named = self.len % PAGE_BLOCKS;
        // SAFETY: I2: the page is ours, and written.
        let names = unsafe { page.as_ref() };
        if named != 0 {
            // SAFETY: I2: the page names as many blocks.
            return Some(unsafe { NonNull::new_unchecked(names.blocks[named - 1]) });
        }
        self.page = names.next;
        Some(page.cast())
    }

    /// # Safety
    /// The caller owns `block`, which is at least 64 bytes and aligned to them.
    #[inline]
    pub(crate) unsafe fn push(&mut self, block: NonNull<u8>) {
        let named = self.len % PAGE_BLOCKS;
        if named == 0 {
            let page = block.cast::<Page>();
            // SAFETY: the caller owns the block.
            let next = unsafe { &raw mut (*page.as_ptr()).next };
            // SAFETY: as above; the names are written when there are any.
            unsafe { next.write(self.page) };
            self.page = page.as_ptr();
        } else {
            // SAFETY: I2: the uppermost page is ours, and has a place left.
            let name = unsafe { &raw mut (*self.page).blocks[named - 1] };
            // SAFETY: as above.
            unsafe { name.write(block.as_ptr()) };
        }
        self.len += 1;
    }

    /// Has the memory fetched of the block that is popped [`FETCH_AHEAD`] pops from now, and in time
    /// that of the page below.
    #[inline]
    fn fetch_ahead(&self, class: usize) {
        let Some(page) = NonNull::new(self.page) else {
            return;
        };
        // SAFETY: I2: the page is ours, and written.
        let names = unsafe { page.as_ref() };
        let named = (self.len - 1) % PAGE_BLOCKS;
        let block = if named >= FETCH_AHEAD {
            if named == FETCH_AHEAD {
                fetch_to_write(names.next, 1);
            }
            names.blocks[named - FETCH_AHEAD]
        } else if named == FETCH_AHEAD - 1 {
            // The page itself comes after all that it names.
            page.as_ptr().cast()
        } else if let Some(below) = NonNull::new(names.next) {
            // SAFETY: I2: all pages but the uppermost are ours, and name seven.
            unsafe { below.as_ref() }.blocks[PAGE_BLOCKS - FETCH_AHEAD + named]
        } else {
            return;
        };
        fetch_to_write(block, FETCH_LINES.min(BLOCK_SIZES[class] / 64));
    }
}

/// A thread's blocks of one class: one that is taken first, a magazine in use, and a full or empty spare.
pub(crate) struct Pair {
    /// The first that was given while there was none here, and so the one that is warm where blocks
    /// are given and taken in turn. Null: there is none. [`NO_CACHE`]: there is no cache, and none may
    /// be put here.
    first: *mut u8,
    pub(super) loaded: Magazine,
    pub(super) spare: Magazine,
    /// So many of the lowest blocks of the loaded magazine were another thread's last.
    foreign: usize,
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
pub(super) fn with_pair<R>(class: usize, run: impl FnOnce(&mut Pair) -> R) -> R {
    // SAFETY: they are this thread's, and `run` does not call back into the cache.
    CACHE.with(|cache| run(unsafe { &mut *cache[class].get() }))
}

/// What no block is.
const NO_CACHE: *mut u8 = ptr::without_provenance_mut(1);

impl Pair {
    const SHUT: Self = Self {
        first: NO_CACHE,
        loaded: Magazine::SHUT,
        spare: Magazine::EMPTY,
        foreign: 0,
    };

    pub(crate) const EMPTY: Self = Self {
        first: ptr::null_mut(),
        loaded: Magazine::EMPTY,
        spare: Magazine::EMPTY,
        foreign: 0,
    };

    /// Takes a block, by `more` if the loaded magazine has none that is needed.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        class: usize,
        more: impl FnOnce(&mut Self) -> NonNull<u8>,
    ) -> NonNull<u8> {
        if let Some(first) = self.take_first() {
            return first;
        }
        let Some(block) = self.loaded.pop() else {
            return more(self);
        };
        if self.loaded.len < self.foreign {
            self.foreign = self.loaded.len;
            self.loaded.fetch_ahead(class);
        }
        block
    }

    /// Takes the block that is taken first, if there is one.
    #[inline(always)]
    pub(super) fn take_first(&mut self) -> Option<NonNull<u8>> {
        if self.first.addr() <= NO_CACHE.addr() {
            return None;
        }
        NonNull::new(std::mem::take(&mut self.first))
    }

    /// Keeps a block as the one that is taken first, if there is none.
    #[inline(always)]
    pub(super) fn give_first(&mut self, block: NonNull<u8>) -> bool {
        let is_free = self.first.is_null();
        if is_free {
            self.first = block.as_ptr();
        }
        is_free
    }

    /// Takes a block from the spare or else from a magazine that `refill` gives.
    pub(crate) fn take_from_next(&mut self, refill: impl FnOnce() -> Magazine) -> NonNull<u8> {
        std::mem::swap(&mut self.loaded, &mut self.spare);
        self.foreign = 0;
        if self.loaded.len == 0 {
            self.loaded = refill();
            self.foreign = self.loaded.len;
        }
        self.loaded.pop().expect("a refilled magazine has blocks")
    }

    /// Keeps a block, by `more` if the loaded magazine is full.
    ///
    /// # Safety
    /// The caller owns `block`, which is at least 64 bytes and aligned to them.
    #[inline(always)]
    pub(crate) unsafe fn give(&mut self, block: NonNull<u8>, more: impl FnOnce(&mut Self)) {
        if self.give_first(block) {
            return;
        }
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
        self.foreign = 0;
        if self.loaded.len != 0 {
            store(std::mem::replace(&mut self.loaded, Magazine::EMPTY));
        }
    }

    /// Gives all blocks up.
    pub(crate) fn empty(mut self, mut store: impl FnMut(Magazine)) {
        if let Some(first) = self.take_first() {
            // SAFETY: it was this thread's, and is of the class.
            store(unsafe { Magazine::of(first) });
        }
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
    pub(super) fn take_more(&mut self, class: usize) -> NonNull<u8> {
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
    pub(super) unsafe fn give_more(&mut self, class: usize, block: NonNull<u8>) {
        if !self.open() {
            // Without a cache the block goes home directly.
            // SAFETY: as the caller says.
            return POOLS[class].store(class, unsafe { Magazine::of(block) });
        }
        if self.loaded.is_full() {
            self.make_room(|full| POOLS[class].store(class, full));
        }
        // SAFETY: as the caller says, and every class has at least 64 bytes.
        unsafe { self.loaded.push(block) };
    }
}
