//! One worker: where it finds work, how much it takes, and what it runs.
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
//!   What a worker has taken but not begun can therefore be stolen from it.

#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::time::{Duration, Instant};

use crate::core::CoreShared;
use crate::lane::{Lane, Link, List, Pushed};
use crate::park::Parker;
use crate::sleep::Lain;
use crate::sync::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use crate::time::MANY;

/// The most links on a board.
pub const MAX_BATCH: usize = if cfg!(executor_tiny) { 2 } else { 128 };
/// How many links a thief takes from a board at most.
const LOOT: usize = 16;
/// After how many batches a worker looks at the other lanes before its own.
const FAIRNESS_INTERVAL: usize = 61;
/// After how many links of a batch a worker looks for timers that are due, and how many it fires then: what
/// they put into the lanes is run no slower than it comes, and found in the cache.
const TEND_INTERVAL: usize = 16;
/// How long a worker naps that found nothing beside others that did; doubled each time it finds nothing
/// again, up to
const FIRST_NAP: Duration = Duration::from_micros(50);
/// so long, the longest that a worker's batch waits behind a message that blocks it.
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// The part of a worker that others can reach.
pub(crate) struct Worker {
    pub(crate) lane: Lane,
    shelf: AtomicPtr<Link>,
    board: [AtomicPtr<Link>; MAX_BATCH],
    /// Slots below this one may be filled.
    filled: AtomicUsize,
    pub(crate) parker: Parker,
    /// 1: it sleeps, or has left, and does not come for what is in its lane; a hint.
    rests: AtomicU8,
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
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) core: &'a CoreShared,
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

impl Worker {
    pub(crate) fn new() -> Self {
        Self {
            lane: Lane::new(),
            shelf: AtomicPtr::new(ptr::null_mut()),
            board: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            filled: AtomicUsize::new(0),
            parker: Parker::new(),
            rests: AtomicU8::new(0),
            counts: WorkerCounts::default(),
        }
    }

    /// Whether anything is to be had here.
    pub(crate) fn has_work(&self) -> bool {
        !self.lane.is_empty()
            || !self.shelf.load(Ordering::SeqCst).is_null()
            || self.board[..self.filled.load(Ordering::SeqCst)]
                .iter()
                .any(|slot| !slot.load(Ordering::SeqCst).is_null())
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

/// How long a worker may sleep.
#[must_use]
pub(crate) enum Rest {
    /// There is work.
    Not,
    /// Until it is woken, or the next timer is due.
    Until(Instant),
    /// Until it is woken.
    Long,
}

/// What a worker does with its time; shared by the hosts.
pub(crate) struct Runner<'a> {
    core: &'a CoreShared,
    index: usize,
    batches: usize,
    searching: bool,
    nap: Duration,
    /// How much the others had run when this worker last lay down.
    seen: u64,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(core: &'a CoreShared, index: usize) -> Self {
        Self::resumed(core, index, false, 0)
    }

    /// A runner that was woken, and so counts as searching, or was not, and has run so many batches.
    pub(crate) fn resumed(
        core: &'a CoreShared,
        index: usize,
        searching: bool,
        batches: usize,
    ) -> Self {
        let this = Self {
            core,
            index,
            batches,
            searching,
            nap: FIRST_NAP,
            seen: 0,
        };
        this.rest(false);
        this
    }

    pub(crate) fn is_searching(&self) -> bool {
        self.searching
    }

    pub(crate) fn batches(&self) -> usize {
        self.batches
    }

    fn me(&self) -> &'a Worker {
        &self.core.workers[self.index]
    }

    /// Fires what is due, and runs one batch; false: there was nothing to do.
    pub(crate) fn run_batch(&mut self) -> bool {
        let me = self.me();
        self.batches = self.batches.wrapping_add(1);
        // What is left of a list comes first: it is as much as a batch, in which timers fire.
        let fired = me.shelf.load(Ordering::Relaxed).is_null() && self.core.tend(MANY);
        let list = self.find();
        if list.is_empty() {
            return fired;
        }
        let more = me.fill(list, self.core.options.batch);
        self.nap = FIRST_NAP;
        if self.searching {
            self.searching = false;
            self.core.sleepers.stop_searching();
            if self.core.is_unwatched() {
                self.core.wake_one();
            } else if more || self.core.has_work() {
                self.core.wake_for_work();
            }
        } else if more {
            // The board was filled before the look at the sleepers, or one that lies down just now
            // sees no work here while this worker sees nobody to wake.
            fence(Ordering::SeqCst);
            self.core.wake_for_work();
        }
        self.run_board();
        true
    }

    /// The next list: what was pushed for one who sleeps, the shelf, the own lane, then what others
    /// have.
    fn find(&mut self) -> List {
        let me = self.me();
        // One of the others each time, so that the look costs the same however many there are.
        let all = &self.core.workers;
        let other = &all[(self.index + self.batches) % all.len()];
        if other.rests.load(Ordering::Relaxed) != 0 && !other.lane.is_empty() {
            let list = other.lane.take();
            if !list.is_empty() {
                WorkerCounts::add(&me.counts.steals, 1);
                return self.behind_shelf(list);
            }
        }
        if self.batches.is_multiple_of(FAIRNESS_INTERVAL) {
            let list = self.steal_lanes();
            if !list.is_empty() {
                return self.behind_shelf(list);
            }
        }
        let list = me.take_shelf();
        if !list.is_empty() {
            return list;
        }
        let list = me.lane.take();
        if !list.is_empty() {
            return list;
        }
        let list = self.steal_lanes();
        if list.is_empty() {
            self.steal_batches()
        } else {
            list
        }
    }

    /// Stolen lanes go to the own lane's owner order: the shelf must stay single (worker, I2).
    fn behind_shelf(&self, mut list: List) -> List {
        let shelf = self.me().take_shelf();
        if shelf.is_empty() {
            return list;
        }
        let mut edge = false;
        while let Some(link) = list.pop() {
            // SAFETY: the list is ours, and each link is given away once.
            let pushed = unsafe { self.me().lane.push(link, true) };
            debug_assert_ne!(pushed, Pushed::Closed);
            edge |= pushed == Pushed::Edge;
        }
        if edge {
            self.core.wake_for_work();
        }
        shelf
    }

    fn others(&self) -> impl Iterator<Item = &'a Worker> + use<'a> {
        let (before, rest) = self.core.workers.split_at(self.index);
        rest[1..].iter().chain(before).map(|worker| &**worker)
    }

    fn steal_lanes(&self) -> List {
        for other in self.others() {
            let list = other.lane.take();
            if !list.is_empty() {
                WorkerCounts::add(&self.me().counts.steals, 1);
                return list;
            }
        }
        List::new()
    }

    fn steal_batches(&self) -> List {
        for other in self.others() {
            let mut list = other.take_shelf();
            if list.is_empty() {
                list = other.rob();
            }
            if !list.is_empty() {
                WorkerCounts::add(&self.me().counts.steals, 1);
                return list;
            }
        }
        List::new()
    }

    fn run_board(&self) {
        let me = self.me();
        let alone = self.core.workers.len() == 1;
        let turn = Turn { core: self.core };
        let mut ran = 0_usize;
        for slot in &me.board[..me.filled.load(Ordering::Relaxed)] {
            let link = if alone {
                let link = slot.load(Ordering::Relaxed);
                slot.store(ptr::null_mut(), Ordering::Relaxed);
                link
            } else {
                // ORDERING: only this worker fills; thieves only take: Relaxed would do for the
                // contents, Acquire keeps the two takers alike.
                slot.swap(ptr::null_mut(), Ordering::Acquire)
            };
            let Some(link) = NonNull::new(link) else {
                continue;
            };
            ran += 1;
            if ran.is_multiple_of(TEND_INTERVAL) {
                self.core.tend(TEND_INTERVAL);
            }
            // SAFETY: I3: the link is ours.
            let vtable = unsafe { link.as_ref() }.vtable;
            // SAFETY: virtual tables are static.
            let run = unsafe { &*vtable }.run;
            // SAFETY: the link is ours, and its virtual table fits it.
            unsafe { run(link, &turn) };
        }
        me.filled.store(0, Ordering::Relaxed);
        WorkerCounts::add(&me.counts.runs, ran as u64);
    }

    /// Looks for work for a while before sleeping; false: there is none.
    pub(crate) fn search(&mut self, patience: u32) -> bool {
        for round in 0..patience.max(1) {
            if !self.searching {
                self.searching = self.core.sleepers.start_searching();
            }
            // Another one searches, or has got up from its nap, which is over in a moment.
            if !self.searching && round >= patience / 8 {
                return false;
            }
            if self.core.has_work() {
                return true;
            }
            if round % 16 == 15 && round > patience / 2 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Goes to sleep unless there is work after all; `may_nap` says that the host can park for a time.
    pub(crate) fn lie_down(&mut self, may_nap: bool) -> Rest {
        let core = self.core;
        let next = core.timers.watch();
        let may_nap = may_nap && self.others_have_run();
        let is_needed = || core.has_work() || core.should_exit() || core.is_unwatched();
        let lain = (core.sleepers).lie_down(self.index, self.searching, next, may_nap, is_needed);
        self.searching = lain == Lain::Up;
        self.rest(!self.searching);
        let Lain::Down { keeps, naps } = lain else {
            return Rest::Not;
        };
        let until_next = || core.timers.instant_of(next);
        if naps {
            let nap = Instant::now() + self.nap;
            self.nap = (2 * self.nap).min(LONGEST_NAP);
            Rest::Until(if keeps { nap.min(until_next()) } else { nap })
        } else if keeps {
            Rest::Until(until_next())
        } else {
            Rest::Long
        }
    }

    /// Whether other workers have run anything since this one lay down last.
    fn others_have_run(&mut self) -> bool {
        let runs = |worker: &Worker| worker.counts.runs.load(Ordering::Relaxed);
        let ran = self.others().map(runs).sum();
        std::mem::replace(&mut self.seen, ran) != ran
    }

    fn rest(&self, rests: bool) {
        self.me().rests.store(u8::from(rests), Ordering::Relaxed);
    }

    /// Nobody has woken the worker that kept the time or napped; false: somebody does so just now.
    pub(crate) fn wake_up(&mut self) -> bool {
        let up = self.core.sleepers.get_up(self.index);
        self.searching |= up;
        up
    }

    /// The worker was woken by a [`crate::sleep::Sleepers::wake_one`], which made it a searcher.
    pub(crate) fn woken(&mut self) {
        self.rest(false);
        self.searching = true;
    }

    /// Leaves for good.
    pub(crate) fn retire(&mut self) {
        self.rest(true);
        if self.searching {
            self.searching = false;
            self.core.sleepers.stop_searching();
            // A push that saw this searcher has woken nobody (sleep, I3).
            if self.core.has_work() || self.core.is_unwatched() {
                self.core.wake_one();
            }
        }
    }
}
