//! One worker: what it has to run, and what others can take of that.
//!
//! ```text
//!  producers ──push──> lane ──take all──> shelf ──up to a batch──> board ──one by one──> run
//!                       │                   │                        │
//!                       └── another worker takes any of the three when it has nothing itself
//! ```
//!
//! # Invariants
//! - I1. A link is in one lane, on one shelf or in one slot of one board, or is being run.
//! - I2. A shelf is filled by its own worker alone, when it is empty; anybody takes it whole.
//! - I3. A slot of a board is filled by its own worker alone; anybody takes its link with one swap.
//!   What a worker has taken but not begun can therefore be stolen from it. While a batch is run, a few
//!   more can be put behind it.

mod runner;

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;

pub(crate) use self::runner::{Pace, Rest, Runner};
use crate::core::CoreShared;
use crate::lane::{Lane, Link, List};
use crate::park::Parker;
use crate::slice::Slice;
use crate::sync::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

/// The most links on a board.
pub const MAX_BATCH: usize = if cfg!(executor_tiny) { 2 } else { 128 };
/// How many links can be appended to a batch that is run.
const SPARE: usize = if cfg!(executor_tiny) { 1 } else { 4 };
/// How many links of a batch are left at least when something is put off until its end.
const WORTHWHILE: usize = if cfg!(executor_tiny) { 1 } else { 4 };
/// How many looks a worker has to come to its next batch before others take from it: about a microsecond.
const MOMENT: u32 = 128;
/// How many links a thief takes from a board at most.
const LOOT: usize = 16;

/// The part of a worker that others can reach.
pub(crate) struct Worker {
    pub(crate) lane: Lane,
    shelf: AtomicPtr<Link>,
    board: [AtomicPtr<Link>; MAX_BATCH + SPARE],
    /// Slots below this one may be filled.
    filled: AtomicUsize,
    pub(crate) parker: Parker,
    /// 1: it sleeps, or has left, and does not come for what is in its lane; a hint.
    rests: AtomicU8,
    /// 1: as a task, it lets others go on, and has work left.
    to_go_on: AtomicU8,
    /// Written by the worker alone.
    pub(crate) counts: WorkerCounts,
}

/// What a worker counts about itself.
#[derive(Default)]
pub(crate) struct WorkerCounts {
    pub(crate) runs: AtomicU64,
    pub(crate) steals: AtomicU64,
    pub(crate) parks: AtomicU64,
}

impl WorkerCounts {
    #[inline]
    fn add(counter: &AtomicU64, by: u64) {
        // Only the worker writes: no read-modify-write is needed.
        counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    pub(crate) fn parked(&self) {
        Self::add(&self.parks, 1);
    }
}

/// A worker's turn: what running work can see of who runs it.
pub(crate) struct Turn<'a> {
    pub(crate) core: &'a CoreShared,
    /// Whether something of it has lasted long for what waits behind it.
    was_long: Cell<bool>,
}

impl Turn<'_> {
    /// A slice is over of something that goes on behind what waits.
    pub(crate) fn end_slice(&self, slice: &Slice, link: NonNull<Link>) {
        if slice.was_long() {
            self.was_long.set(true);
        }
        self.core.push_admitted(link);
    }
}

thread_local! {
    static HERE: Cell<(*const CoreShared, usize)> = const { Cell::new((ptr::null(), 0)) };
}

/// Which worker of `core` this thread is, if any.
#[inline]
pub(crate) fn here(core: *const CoreShared) -> Option<usize> {
    let (of, index) = HERE.get();
    ptr::eq(of, core).then_some(index)
}

/// Whether this thread is a worker of any core.
pub(crate) fn is_worker_thread() -> bool {
    !HERE.get().0.is_null()
}

/// Makes this thread a worker of `core` until it is dropped.
pub(crate) struct OnDuty((*const CoreShared, usize));

impl OnDuty {
    pub(crate) fn new(core: &CoreShared, index: usize) -> Self {
        Self(HERE.replace((ptr::from_ref(core), index)))
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

fn is_filled(slot: &AtomicPtr<Link>) -> bool {
    !slot.load(Ordering::Relaxed).is_null()
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self {
            lane: Lane::new(),
            shelf: AtomicPtr::new(ptr::null_mut()),
            board: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            filled: AtomicUsize::new(0),
            parker: Parker::new(),
            rests: AtomicU8::new(0),
            to_go_on: AtomicU8::new(0),
            counts: WorkerCounts::default(),
        }
    }

    pub(crate) fn set_to_go_on(&self, is: bool) {
        self.to_go_on.store(u8::from(is), Ordering::Release);
    }

    pub(crate) fn is_to_go_on(&self) -> bool {
        self.to_go_on.load(Ordering::Acquire) != 0
    }

    /// Whether anything is to be had here.
    pub(crate) fn has_work(&self) -> bool {
        !self.lane.is_empty()
            || !self.shelf.load(Ordering::SeqCst).is_null()
            || self.board[..self.filled.load(Ordering::SeqCst)]
                .iter()
                .any(|slot| !slot.load(Ordering::SeqCst).is_null())
    }

    /// Whether something is to be had here that its worker does not come to soon: it rests, or has more
    /// than a batch.
    fn is_left_lying(&self) -> bool {
        let comes_soon =
            self.rests.load(Ordering::Relaxed) == 0 && self.shelf.load(Ordering::Relaxed).is_null();
        !comes_soon && self.has_work()
    }

    /// The same, or it is at the same batch for a while. What a worker is about to run costs more to take
    /// from it than to run.
    fn is_held_up(&self) -> bool {
        self.is_held_up_over(std::hint::spin_loop)
    }

    /// The same, with a pause between two looks.
    fn is_held_up_over(&self, pause: impl Fn()) -> bool {
        if self.is_left_lying() {
            return true;
        }
        if !self.has_work() {
            return false;
        }
        let runs = self.counts.runs.load(Ordering::Relaxed);
        for _ in 0..MOMENT {
            pause();
            if self.counts.runs.load(Ordering::Relaxed) != runs {
                return false;
            }
        }
        self.has_work()
    }

    /// Whether this worker, whose caller is on its thread, has not come to the end of its batch.
    fn is_at_batch(&self) -> bool {
        self.filled.load(Ordering::Relaxed) != 0
    }

    fn take_shelf(&self) -> List {
        if self.shelf.load(Ordering::Relaxed).is_null() {
            return List::new();
        }
        // SAFETY: I2: whoever swaps it out has the list alone.
        // ORDERING: Acquire pairs with the Release of `fill`.
        unsafe { List::from_raw(self.shelf.swap(ptr::null_mut(), Ordering::Acquire)) }
    }

    /// Puts the first links on the board and the rest on the shelf; true: others could help.
    fn fill(&self, mut list: List, batch: usize) -> bool {
        let mut filled = 0;
        while filled < batch {
            let Some(link) = list.pop() else { break };
            // ORDERING: Release passes the link's contents on to a thief.
            self.board[filled].store(link.as_ptr(), Ordering::Release);
            filled += 1;
        }
        self.filled.store(filled, Ordering::Release);
        let more = !list.is_empty();
        if more {
            // ORDERING: Release passes the list on to whoever swaps it out.
            self.shelf.store(list.into_raw(), Ordering::Release);
        }
        more || filled > 1
    }

    /// The last link but a few of this worker's batch, on whose thread this is, if it is left and there is a
    /// slot free behind all: so much is to be done that something put off until its end saves work.
    pub(crate) fn mark_behind(&self) -> Option<&AtomicPtr<Link>> {
        let filled = self.filled.load(Ordering::Relaxed);
        let mark = self.board[..filled].iter().nth_back(WORTHWHILE - 1)?;
        (filled < self.board.len() && is_filled(mark)).then_some(mark)
    }

    /// Puts a link behind the batch, where there is a place; false: others may have looked at this board and
    /// found nothing before it was there.
    ///
    /// # Safety
    /// The caller is on this worker's thread, has `mark` from [`Worker::mark_behind`], and has appended and
    /// run nothing since; it owns `link` and gives it away.
    #[must_use]
    pub(crate) unsafe fn append(&self, link: NonNull<Link>, mark: &AtomicPtr<Link>) -> bool {
        let filled = self.filled.load(Ordering::Relaxed);
        // ORDERING: Release passes the link's contents on to a thief, as in `fill`.
        self.board[filled].store(link.as_ptr(), Ordering::Release);
        self.filled.store(filled + 1, Ordering::Release);
        // Who takes the mark after this look finds the link when it looks again.
        fence(Ordering::SeqCst);
        is_filled(mark)
    }

    /// Takes some links off the end of this board.
    fn rob(&self) -> List {
        let mut loot = ptr::null_mut();
        let mut taken = 0;
        for slot in self.board[..self.filled.load(Ordering::Acquire)]
            .iter()
            .rev()
        {
            if taken == LOOT {
                break;
            }
            if slot.load(Ordering::Relaxed).is_null() {
                continue;
            }
            // ORDERING: Acquire pairs with the Release of `fill`.
            let Some(link) = NonNull::new(slot.swap(ptr::null_mut(), Ordering::Acquire)) else {
                continue;
            };
            // SAFETY: I3: the link is ours, and so the list of loot is.
            unsafe { link.as_ref() }.next.set(loot);
            loot = link.as_ptr();
            taken += 1;
        }
        // SAFETY: the list is ours; prepending while going backwards keeps its order.
        unsafe { List::from_raw(loot) }
    }
}
