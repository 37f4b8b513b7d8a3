//! Stacks of free blocks, and the two that each thread keeps for each class.

use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};

use super::{CLASSES, MAGAZINE_CELLS, POOLS, take_without_cache};

/// A free block.
struct Free {
    next: *mut Free,
}

/// A stack of at most [`MAGAZINE_CELLS`] free blocks.
pub(crate) struct Magazine {
    head: *mut Free,
    pub(super) len: usize,
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

    pub(super) fn is_shut(&self) -> bool {
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

/// A thread's magazines of one class: the one in use, and a full or empty spare.
pub(crate) struct Pair {
    pub(super) loaded: Magazine,
    pub(super) spare: Magazine,
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
