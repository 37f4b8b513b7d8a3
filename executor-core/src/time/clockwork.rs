//! The timers of one core: lanes in front of a wheel, and the turn in which somebody minds it.
//!
//! ```text
//!  schedule ──push──> lane ──┐
//!  cancel, reschedule ──────> ├── the turn: take in, advance, fire ──> streams, lanes, promises
//!  (16 lanes)          lane ──┘    one thread at a time, nobody waits for it
//! ```
//!
//! A lane is chosen by the stream, so timers of one stream come to the wheel in the order of the
//! calls; and the wheel keeps the order of one tick.
//!
//! # The words
//! | word | meaning |
//! | --- | --- |
//! | `turning` | 1: somebody has the turn, and with it the wheel, the entries in it, and those taken |
//! | `next` | a tick not later than that of any timer, in the wheel or a lane; `NEVER`: no timer |
//! | `asked` | a bit for each lane that somebody wants looked at, who could not have the turn |
//! | `unsettled` | how many threads have fired timers in a turn and not yet done what is left of them |
//! | `ending` | the same, and not yet ended those that were refused or cancelled |
//!
//! # Invariants
//! - I1. The wheel is touched in the turn alone. No code of the user's runs in it: what would run
//!   some is left for after it (`remains`). No thread waits for the turn but one that ends a core or
//!   an executor, or has moved a virtual clock: who else comes in vain and must have a lane looked at
//!   leaves a bit in `asked`, and who has the turn looks there after it has let go.
//! - I2. Who schedules pushes first and lowers `next` then. Who turns sets `next` to `NEVER`, takes
//!   all lanes, and lowers it to what the wheel has. So a timer that the take missed was pushed after
//!   it, and its maker sees a `next` that was set after the take, and lowers it.
//! - I3. Whoever lowers `next` looks afterwards whether somebody must be woken for it; who goes to
//!   sleep looks at `next` after it is among the sleepers (`sleep`).
//! - I4. An entry whose push is under way is linked in the wheel or pushed for the first time: the
//!   end of a core, which waits until the wheel is empty, waits for it. So a handle may push without
//!   holding the core, whose clockwork is never freed: it serves a later core.
//! - I5. Who moved the clock has a turn after that in which nothing more is due, and then finds
//!   `unsettled` at 0. What others have fired they fired in turns before, in which they were counted.

use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, Weak};

use crossbeam_utils::CachePadded;

use crate::cell::{Header, USUAL_LINES};
use crate::core::CoreShared;
use crate::fetch::fetch_to_write;
use crate::lane::Lane;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, AtomicU64, AtomicUsize, Ordering, model_fence, yield_now};
use crate::time::entry::{Entry, Fire, Taken};
use crate::time::kind::{Kind, Remains};
use crate::time::remains::{Counted, Ended, Fired, Left, SLICE};
use crate::time::wheel::{NEVER, Wheel};

/// How many lanes there are.
const LANES: usize = if cfg!(loom) { 1 } else { 16 };
/// After how many timers that a thread schedules it takes in what is in the lane, if nobody has the
/// turn: what was written just now is cheap to take in, and lanes stay short.
const INTAKE: u32 = if cfg!(loom) { u32::MAX } else { 64 };

/// The timers of one core.
pub(crate) struct Clockwork {
    lanes: [CachePadded<Lane>; LANES],
    next: CachePadded<AtomicU64>,
    turning: CachePadded<AtomicU8>,
    asked: AtomicU64,
    unsettled: AtomicUsize,
    ending: AtomicUsize,
    wheel: UnsafeCell<Wheel>,
    /// The core that it serves now; locked for a moment, and rarely.
    core: Mutex<Weak<CoreShared>>,
}

// SAFETY: the wheel, with all that it links, is touched in the turn alone (I1).
unsafe impl Sync for Clockwork {}

/// Clockworks that serve no core now.
static IDLE: Mutex<Vec<&'static Clockwork>> = Mutex::new(Vec::new());

thread_local! {
    static SCHEDULED: Cell<u32> = const { Cell::new(0) };
}

/// The turn.
pub(crate) struct Turn<'a> {
    clockwork: &'a Clockwork,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // ORDERING: Release passes the wheel on; SeqCst, before the look at `asked` (I1).
        self.clockwork.turning.store(0, Ordering::SeqCst);
        model_fence();
    }
}

impl Turn<'_> {
    #[inline]
    pub(crate) fn wheel(&mut self) -> &mut Wheel {
        // SAFETY: I1: the turn has it alone, and `&mut self` lends it once.
        unsafe { &mut *self.clockwork.wheel.get() }
    }

    /// Takes in what is in a lane.
    pub(crate) fn take_in(&mut self, lane: usize, ended: &mut Ended) {
        let mut list = self.clockwork.lanes[lane].take();
        while let Some(link) = list.pop() {
            let entry = Entry::of_link(link);
            // SAFETY: an entry in a lane is alive, and its node the turner's (entry, I2).
            let fields = unsafe { entry.as_ref() };
            if fields.node.is_placed() {
                // SAFETY: it is in this wheel.
                unsafe { self.wheel().remove(entry.cast()) };
            }
            match fields.state.take() {
                Taken::At(tick) => {
                    fields.node.due.set(tick);
                    // SAFETY: it is alive until the clockwork lets go of it, and in no list.
                    unsafe { self.wheel().insert(entry.cast()) };
                }
                // SAFETY: nobody else has it.
                Taken::Cancelled => unsafe { ended.push(entry) },
            }
        }
    }

    fn take_in_all(&mut self, ended: &mut Ended) {
        // ORDERING: a swap, for its Acquire: what was pushed before a bit was set is taken below.
        self.clockwork.asked.swap(0, Ordering::SeqCst);
        for lane in 0..LANES {
            self.take_in(lane, ended);
        }
    }

    /// Keeps an entry that is about to be pushed linked, out of the way (I4).
    fn keep(&mut self, entry: NonNull<Entry>) {
        let next = self.wheel().now() + 1;
        // SAFETY: it is alive until the clockwork lets go of it.
        unsafe { entry.as_ref() }.node.due.set(next);
        // SAFETY: as above; it is in no list.
        unsafe { self.wheel().insert(entry.cast()) };
    }

    fn fire(
        &mut self,
        most: usize,
        mut admit: impl FnMut(&'static Kind, NonNull<Header>) -> Option<Remains>,
        fired: &mut Fired<'_>,
    ) {
        let mut due = [NonNull::<Entry>::dangling(); SLICE];
        while fired.count < most {
            // All of them are taken first, so that the cells of many are fetched at once.
            let mut taken = 0;
            while fired.count + taken < most
                && let Some(node) = self.wheel().pop()
            {
                let entry = node.cast::<Entry>();
                // SAFETY: it is alive until the clockwork lets go of it.
                fetch_to_write(unsafe { entry.as_ref() }.cell.as_ptr(), USUAL_LINES);
                due[taken] = entry;
                taken += 1;
            }
            if taken == 0 {
                return;
            }
            for &entry in &due[..taken] {
                self.fire_entry(entry, &mut admit, fired);
            }
        }
    }

    fn fire_entry(
        &mut self,
        entry: NonNull<Entry>,
        admit: &mut impl FnMut(&'static Kind, NonNull<Header>) -> Option<Remains>,
        fired: &mut Fired<'_>,
    ) {
        // SAFETY: it is alive until the clockwork lets go of it.
        let fields = unsafe { entry.as_ref() };
        // Read before: with a handle the entry may be gone after.
        let (kind, cell) = (fields.kind(), fields.cell);
        match fields.state.fire() {
            Fire::Busy => return self.keep(entry),
            Fire::Leave => {}
            // SAFETY: nobody else has it.
            Fire::Free => unsafe { Entry::free(entry) },
        }
        fired.count += 1;
        match admit(kind, cell) {
            Some(remains) if remains.is_null() => {}
            Some(remains) => fired.push(Left::Settle(kind, remains)),
            None => fired.push(Left::Refused(kind, cell)),
        }
    }
}

impl Clockwork {
    pub(crate) fn new() -> Self {
        Self {
            lanes: std::array::from_fn(|_| CachePadded::new(Lane::new())),
            next: CachePadded::new(AtomicU64::new(NEVER)),
            turning: CachePadded::new(AtomicU8::new(0)),
            asked: AtomicU64::new(0),
            unsettled: AtomicUsize::new(0),
            ending: AtomicUsize::new(0),
            wheel: UnsafeCell::new(Wheel::new()),
            core: Mutex::new(Weak::new()),
        }
    }

    /// One that serves no core; it is given back by [`Clockwork::retire`].
    pub(crate) fn lease() -> &'static Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Box::leak(Box::new(Self::new())))
    }

    pub(crate) fn serve(&self, core: Weak<CoreShared>) {
        *self.core.lock().unwrap_or_else(PoisonError::into_inner) = core;
    }

    /// Ends all timers of a core that is gone.
    pub(crate) fn retire(&'static self) {
        self.sweep(|_, _| true);
        self.serve(Weak::new());
        loop {
            // A handle of a timer that has ended may have the turn, for a moment.
            if let Some(mut turn) = self.try_turn() {
                turn.wheel().reset();
                self.next.store(NEVER, Ordering::SeqCst);
                break;
            }
            yield_now();
        }
        IDLE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
    }

    /// The core, while it lives.
    pub(crate) fn core(&self) -> Option<Arc<CoreShared>> {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.upgrade()
    }

    /// A tick not later than that of any timer.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// The lane of whatever is at this address.
    #[inline]
    pub(crate) fn lane_of(address: usize) -> u16 {
        // Cells and streams are aligned to 64 bytes or more, and lie in rows.
        ((address >> 6) ^ (address >> 12)) as u16 % LANES as u16
    }

    /// Pushes a new entry; true: it is the earliest, and somebody may have to be woken for it.
    ///
    /// # Safety
    /// The entry is new, and not used by the caller any more unless it has a handle.
    #[inline]
    pub(crate) unsafe fn schedule(&self, entry: NonNull<Entry>, tick: u64) -> bool {
        // SAFETY: it is the caller's until the push.
        let lane = usize::from(unsafe { entry.as_ref() }.node.tag);
        // SAFETY: as above.
        unsafe { self.push(entry, lane) };
        let earliest = self.lower(tick);
        let scheduled = SCHEDULED.get() + 1;
        if scheduled == INTAKE {
            SCHEDULED.set(0);
            self.intake(lane);
        } else {
            SCHEDULED.set(scheduled);
        }
        earliest
    }

    /// # Safety
    /// The caller owns the entry's link (entry, I3).
    #[inline]
    pub(crate) unsafe fn push(&self, entry: NonNull<Entry>, lane: usize) {
        // SAFETY: as the caller says.
        let _edge = unsafe { self.lanes[lane].push(Entry::link_of(entry), true) };
    }

    /// I2 and I3: called after the push.
    #[inline]
    pub(crate) fn lower(&self, tick: u64) -> bool {
        model_fence();
        // ORDERING: SeqCst, as the push, the turner's store and its take are.
        tick < self.next.load(Ordering::SeqCst)
            && self.next.fetch_min(tick, Ordering::SeqCst) > tick
    }

    #[cold]
    fn intake(&self, lane: usize) {
        if let Some(mut turn) = self.try_turn() {
            let mut ended = Ended::none();
            turn.take_in(lane, &mut ended);
            drop(turn);
            self.serve_asked(&mut ended);
        }
    }

    #[inline]
    pub(crate) fn try_turn(&self) -> Option<Turn<'_>> {
        // ORDERING: Acquire pairs with the Release of the last turn; SeqCst for who comes in vain,
        // after it has left a bit in `asked` (I1).
        let free = self
            .turning
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        free.then(|| Turn { clockwork: self })
    }

    /// Has a lane looked at, now or by whoever has the turn.
    #[cold]
    pub(crate) fn ask(&self, lane: usize) {
        self.asked.fetch_or(1 << lane, Ordering::SeqCst);
        self.serve_asked(&mut Ended::none());
    }

    /// Looks at lanes that were asked for, unless somebody else will (I1).
    #[inline]
    pub(crate) fn serve_asked(&self, ended: &mut Ended) {
        while self.asked.load(Ordering::SeqCst) != 0 {
            model_fence();
            let Some(mut turn) = self.try_turn() else {
                return;
            };
            let asked = self.asked.swap(0, Ordering::SeqCst);
            for lane in (0..LANES).filter(|lane| asked & 1 << lane != 0) {
                turn.take_in(lane, ended);
            }
        }
    }

    /// Fires at most `most` timers, and no more than a [`SLICE`], of those that are due at the tick `now`,
    /// and says how many: fewer were all. None: somebody else has the turn.
    pub(crate) fn turn(&self, core: &CoreShared, now: u64, most: usize) -> Option<usize> {
        // SAFETY: the entry, which was the work's runner, has let go of it.
        self.turn_with(now, most, |kind, cell| unsafe { (kind.admit)(cell, core) })
    }

    /// The same, for admissions of any kind.
    pub(crate) fn turn_with(
        &self,
        now: u64,
        most: usize,
        admit: impl FnMut(&'static Kind, NonNull<Header>) -> Option<Remains>,
    ) -> Option<usize> {
        let mut ending = None;
        let mut ended = Ended::none();
        let mut fired = Fired::new();
        let mut turn = self.try_turn()?;
        self.next.store(NEVER, Ordering::SeqCst);
        turn.take_in_all(&mut ended);
        turn.wheel().advance(now);
        turn.fire(most.min(SLICE), admit, &mut fired);
        let next = turn.wheel().next();
        self.next.fetch_min(next, Ordering::SeqCst);
        fired.count_on(&self.unsettled);
        if !fired.is_settled() || !ended.is_empty() {
            ending = Some(Counted::on(&self.ending));
        }
        drop(turn);
        self.serve_asked(&mut ended);
        let count = fired.count;
        drop((fired, ended, ending));
        Some(count)
    }

    /// Whether nobody is about to end what a turn has taken out.
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.load(Ordering::SeqCst) == 0
    }

    /// Takes turns until nothing more is due (I5).
    pub(crate) fn catch_up(&self, mut turn: impl FnMut() -> Option<usize>) {
        loop {
            match turn() {
                Some(fired) if fired < SLICE => return,
                Some(_) => {}
                // A turn is short, and nothing in it waits.
                None => yield_now(),
            }
        }
    }

    /// Waits until others have done what is left of the timers that they have fired.
    pub(crate) fn wait_until_settled(&self) {
        while self.unsettled.load(Ordering::SeqCst) != 0 {
            yield_now();
        }
    }

    /// Ends all timers for which `which` holds, of what is pending now.
    pub(crate) fn sweep(&self, which: impl Fn(&Kind, NonNull<Header>) -> bool) {
        loop {
            let mut ended = Ended::none();
            let mut swept = Vec::new();
            let mut under_way = false;
            let Some(mut turn) = self.try_turn() else {
                // A turn is short, and nothing in it waits.
                yield_now();
                continue;
            };
            self.next.store(NEVER, Ordering::SeqCst);
            turn.take_in_all(&mut ended);
            turn.wheel().remove_if(|node| {
                let entry = node.cast::<Entry>();
                // SAFETY: entries in the wheel are alive.
                let fields = unsafe { entry.as_ref() };
                let hit = which(fields.kind(), fields.cell);
                if hit {
                    swept.push((entry, fields.kind(), fields.cell));
                }
                hit
            });
            swept.retain(|&(entry, ..)| {
                // SAFETY: taken out, and not let go of yet.
                match unsafe { entry.as_ref() }.state.fire() {
                    Fire::Busy => {
                        turn.keep(entry);
                        under_way = true;
                        return false;
                    }
                    Fire::Leave => {}
                    // SAFETY: nobody else has it.
                    Fire::Free => unsafe { Entry::free(entry) },
                }
                true
            });
            let next = turn.wheel().next();
            self.next.fetch_min(next, Ordering::SeqCst);
            drop(turn);
            self.serve_asked(&mut ended);
            for (_, kind, cell) in swept {
                // SAFETY: the entry, which was its runner, has let go.
                unsafe { (kind.end)(cell) };
            }
            if !under_way {
                return;
            }
            yield_now();
        }
    }
}
