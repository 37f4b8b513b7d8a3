//! The pool's magazines between threads.
//!
//! The magazines and a thread's pair of them are the crate's own. The depot, in the crate a queue of
//! another crate's, is one slot here, and the chunks are a list under a lock.

use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::pool::{MAGAZINE_CELLS, Magazine, Pair};
use crate::sync::{AtomicUsize, Ordering};

/// A block: its first line is the magazine's, the rest is its owner's.
#[repr(C, align(64))]
struct Block {
    page: [usize; 8],
    owner: UnsafeCell<u32>,
}

struct Depot {
    /// A full magazine, boxed, or 0.
    slot: AtomicUsize,
    /// How a magazine is taken out.
    order: Ordering,
    /// Blocks that lie in no magazine.
    loose: Mutex<Vec<usize>>,
    /// Blocks in all.
    made: std::sync::atomic::AtomicUsize,
}

impl Depot {
    fn new(order: Ordering) -> Arc<Self> {
        Arc::new(Self {
            slot: AtomicUsize::new(0),
            order,
            loose: Mutex::new(Vec::new()),
            made: 0.into(),
        })
    }

    fn pop(&self) -> Option<Magazine> {
        let taken = self.slot.swap(0, self.order);
        let magazine = std::ptr::with_exposed_provenance_mut::<Magazine>(taken);
        // SAFETY: the swap made it ours.
        (taken != 0).then(|| *unsafe { Box::from_raw(magazine) })
    }

    fn push(&self, magazine: Magazine) -> Result<(), Magazine> {
        let boxed = Box::into_raw(Box::new(magazine));
        let pushed = self.slot.compare_exchange(
            0,
            boxed.expose_provenance(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        // SAFETY: it was not pushed, so it is still ours.
        pushed
            .map(drop)
            .map_err(|_| *unsafe { Box::from_raw(boxed) })
    }

    /// As `Pool::refill`.
    fn refill(&self) -> Magazine {
        if let Some(magazine) = self.pop() {
            return magazine;
        }
        let mut magazine = Magazine::EMPTY;
        let mut loose = self.loose.lock().unwrap();
        while !magazine.is_full() {
            let block = loose.pop().unwrap_or_else(|| {
                self.made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let block = Block {
                    page: [0; 8],
                    owner: UnsafeCell::new(0),
                };
                Box::into_raw(Box::new(block)).expose_provenance()
            });
            let block = NonNull::new(std::ptr::with_exposed_provenance_mut(block)).unwrap();
            // SAFETY: it lay loose, so it is ours.
            unsafe { magazine.push(block) };
        }
        magazine
    }

    /// As `Pool::store`.
    fn store(&self, magazine: Magazine) {
        let left = if magazine.is_full() {
            self.push(magazine).err()
        } else {
            Some(magazine)
        };
        if let Some(mut magazine) = left {
            let mut loose = self.loose.lock().unwrap();
            while let Some(block) = magazine.pop() {
                loose.push(block.as_ptr().expose_provenance());
            }
        }
    }

    /// Takes more blocks than a thread keeps, uses and returns them, and ends as a thread does.
    fn use_blocks(&self, thread: u32) {
        let mut pair = Pair::EMPTY;
        let blocks: Vec<_> = (0..2 * MAGAZINE_CELLS + 1)
            .map(|_| pair.take(0, |pair| pair.take_from_next(|| self.refill())))
            .collect();
        for block in &blocks {
            own(*block, thread);
        }
        for block in blocks {
            assert_eq!(own(block, 0), thread, "a block has one owner");
            let more = |pair: &mut Pair| {
                pair.make_room(|magazine| self.store(magazine));
                // SAFETY: as below, and there is room now.
                unsafe { pair.give(block, |_| unreachable!()) };
            };
            // SAFETY: taken above, and not used any more.
            unsafe { pair.give(block, more) };
        }
        pair.empty(|magazine| self.store(magazine));
    }

    /// Frees all blocks, and checks that all were there.
    fn dismantle(&self) {
        let mut freed = 0;
        let mut free = |block: usize| {
            let block = std::ptr::with_exposed_provenance_mut::<Block>(block);
            // SAFETY: all threads have given their blocks back.
            let block = unsafe { Box::from_raw(block) };
            // SAFETY: as above.
            assert_eq!(block.owner.with(|owner| unsafe { *owner }), 0);
            freed += 1;
        };
        if let Some(mut magazine) = self.pop() {
            while let Some(block) = magazine.pop() {
                free(block.as_ptr().expose_provenance());
            }
        }
        self.loose.lock().unwrap().drain(..).for_each(free);
        assert_eq!(freed, self.made.load(std::sync::atomic::Ordering::SeqCst));
    }
}

/// Changes the owner's mark of a block, which nobody else may touch now, and gives the one before.
fn own(block: NonNull<u8>, owner: u32) -> u32 {
    // SAFETY: the caller took it out of a magazine, so it is a live `Block` and the caller's.
    let block = unsafe { block.cast::<Block>().as_ref() };
    // SAFETY: as above; loom sees who touches it beside.
    block
        .owner
        .with_mut(|mark| std::mem::replace(unsafe { &mut *mark }, owner))
}

fn two_threads(order: Ordering) {
    loom::model(move || {
        let depot = Depot::new(order);
        let other = Arc::clone(&depot);
        let thread = thread::spawn(move || other.use_blocks(1));
        depot.use_blocks(2);
        thread.join().unwrap();
        depot.dismantle();
    });
}

#[test]
fn a_block_has_one_owner_and_none_is_lost() {
    two_threads(Ordering::Acquire);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_magazine_taken_without_its_order_is_seen() {
    two_threads(Ordering::Relaxed);
}
