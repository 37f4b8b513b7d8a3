//! The word of a cell: who still has it, and how far its work is.
//!
//! # Bits
//! | bit | set by | meaning |
//! | --- | --- | --- |
//! | `STARTED` | runner or canceller | the work was claimed; a later cancel cannot have it |
//! | `RUNNING` | runner | a free task is being polled |
//! | `NOTIFIED` | waker | a free task was woken; it is in a lane or will be polled again |
//! | `LINGER` | runner | the output is in place, a context that left the handler is still out |
//! | `DONE` | runner | the runner touches the cell no more; the output, if any, is in place |
//! | `JOIN` | maker | a completion exists; cleared once, never set again |
//! | `WAKER` | completion | the waker field is initialised and belongs to the runner |
//! | `TAKING` | runner | the runner is moving the waker out; `DONE` follows |
//! | `CANCEL` | completion | cancellation was asked for |
//! | `CLAIMED` | completion | the canceller was before the runner: the message is gone |
//! | `HELD` | completion | it is waking the handler: the runner must not finish yet |
//! | `HOLLOW` | runner | with `LINGER`: nobody wants the output, and it was dropped already |
//! | the rest | wakers | how many cloned wakers exist (52 bits: cannot overflow) |
//!
//! # Invariants
//! - I1. The cell is freed by whoever makes this true: `DONE`, no `JOIN`, no wakers. Each of the
//!   three parties leaves with one atomic operation, whose answer tells it whether it was last, unless
//!   it knows that it has the cell alone.
//! - I2. The output belongs to the runner before `DONE`, to the completion from `DONE` on while
//!   `JOIN` is set. A runner that finds no `JOIN` drops the output before it sets `DONE`.
//! - I3. The waker field is written by the completion alone, and only while neither `WAKER` nor
//!   `TAKING` nor `DONE` is set; it is moved out by whoever cleared `WAKER`.
//! - I4. Because completions and wakers hold the cell, it is not reused while one exists: a stale
//!   handle cannot meet a later tenant, however often the cell was reused.

use crate::sync::{AtomicU64, Ordering};

const STARTED: u64 = 1;
const RUNNING: u64 = 1 << 1;
const NOTIFIED: u64 = 1 << 2;
const LINGER: u64 = 1 << 3;
const DONE: u64 = 1 << 4;
const JOIN: u64 = 1 << 5;
const WAKER: u64 = 1 << 6;
const TAKING: u64 = 1 << 7;
const CANCEL: u64 = 1 << 8;
const CLAIMED: u64 = 1 << 9;
const HELD: u64 = 1 << 10;
const HOLLOW: u64 = 1 << 11;
const REF: u64 = 1 << 12;
const REFS: u64 = !(REF - 1);

/// The word.
pub(crate) struct Status(AtomicU64);

/// What the runner found when it came to start the work.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The work is the runner's.
    First,
    /// It was started before: poll its future.
    Again,
    /// The output is in place; only a straying context was waited for.
    Lingering,
    /// A canceller has taken the message out.
    Cancelled,
}

/// What is left to do for a runner that has the output in place.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The completion has it; the cell must not be touched again.
    Handed,
    /// Move the waker out, and finish again.
    TakeWaker,
    /// No completion: drop the output, then [`Status::release`].
    Discard,
    /// A canceller is waking the handler at this very moment: finish again.
    Held,
}

/// What a completion found.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The output is there.
    Done,
    /// No waker is registered, and the field is the completion's.
    Vacant,
    /// A waker is registered.
    Registered,
    /// The runner is about to be done: look again soon.
    Taking,
}

/// What a completion that is dropped found.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Detach {
    /// The rest is the runner's.
    Gone,
    /// The output is there: take or drop it.
    Done,
    /// The output waits for a context. The runner does not finish, and so the home lives, until
    /// [`Status::detach_held`]; wake it after that.
    Lingering,
}

/// What a cancel achieved.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The message is the canceller's.
    Won,
    /// The handler runs: wake it, then [`Status::unhold`].
    Running,
    /// Too late: the output is there.
    Done,
}

impl Status {
    pub(crate) fn new(joined: bool) -> Self {
        Self(AtomicU64::new(if joined { JOIN } else { 0 }))
    }

    /// Gives a cell that is still private to its maker a completion.
    pub(crate) fn join_before_sharing(&self) {
        // ORDERING: AcqRel: a waker clone may have been sent away by the first poll already.
        self.0.fetch_or(JOIN, Ordering::AcqRel);
    }

    // ---- the runner -------------------------------------------------------------------------

    /// Claims the work, or says how far it is.
    #[inline]
    pub(crate) fn start(&self) -> Start {
        let word = self.0.load(Ordering::Acquire);
        if word & (STARTED | JOIN) == 0 {
            // Nobody can cancel it and nobody has a waker: the cell is private.
            self.0.store(STARTED | RUNNING, Ordering::Relaxed);
            return Start::First;
        }
        if word & (CLAIMED | JOIN) == CLAIMED {
            // It was never started, so nobody has a waker, and the canceller has left.
            return Start::Cancelled;
        }
        // ORDERING: Acquire sees what wakers and a canceller did; NOTIFIED is cleared before the
        // poll, so that a wake during it counts for the next.
        let word = if word & STARTED == 0 {
            self.0.fetch_or(STARTED | RUNNING, Ordering::AcqRel)
        } else {
            self.0
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                    Some((word & !NOTIFIED) | RUNNING)
                })
                .unwrap_or(word)
        };
        if word & STARTED == 0 {
            Start::First
        } else if word & LINGER != 0 {
            Start::Lingering
        } else if word & CLAIMED != 0 {
            Start::Cancelled
        } else {
            Start::Again
        }
    }

    /// Marks private work as started, without an atomic operation.
    #[inline]
    pub(crate) fn start_private(&self) {
        self.0.store(STARTED | RUNNING, Ordering::Relaxed);
    }

    /// Marks a joined cell that nobody runs as started, before it is shared.
    pub(crate) fn start_joined(&self) {
        self.0.store(STARTED | JOIN, Ordering::Relaxed);
    }

    /// Lets go after a poll that returned Pending; true: it was woken meanwhile, poll it again.
    pub(crate) fn park(&self) -> bool {
        // ORDERING: Release hands the future to the next poller, AcqRel sees a wake's data.
        let word = self.0.fetch_and(!RUNNING, Ordering::AcqRel);
        word & NOTIFIED != 0
    }

    /// Notes that the output waits for a straying context; false: nobody waits for the output.
    ///
    /// Of this and [`Status::detach`] one sees the other, so that an output that nobody wants is
    /// dropped, with the context if that is in it.
    #[must_use]
    pub(crate) fn linger(&self) -> bool {
        self.0.fetch_or(LINGER, Ordering::AcqRel) & JOIN != 0
    }

    /// Notes that a lingering output was dropped.
    pub(crate) fn hollow(&self) {
        self.0.fetch_or(HOLLOW, Ordering::Relaxed);
    }

    /// Whether a lingering output was dropped; for the runner.
    pub(crate) fn is_hollow(&self) -> bool {
        self.0.load(Ordering::Relaxed) & HOLLOW != 0
    }

    /// The output is in place: hands it over, or says what to do first.
    #[inline]
    pub(crate) fn finish(&self) -> Finish {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (next, answer) = if word & JOIN == 0 {
                return Finish::Discard;
            } else if word & HELD != 0 {
                return Finish::Held;
            } else if word & WAKER != 0 {
                ((word & !WAKER) | TAKING, Finish::TakeWaker)
            } else {
                (
                    (word & !(RUNNING | TAKING | NOTIFIED)) | DONE,
                    Finish::Handed,
                )
            };
            // ORDERING: Release publishes the output; Acquire takes the waker's contents over.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return answer,
                Err(seen) => word = seen,
            }
        }
    }

    /// The runner leaves a cell without a completion; true: it was the last, and frees.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        if self.is_private() {
            return true;
        }
        let word = self.0.fetch_or(DONE, Ordering::AcqRel);
        word & (REFS | JOIN) == 0
    }

    /// Whether nobody has a cell but its runner.
    #[inline]
    pub(crate) fn is_private(&self) -> bool {
        // ORDERING: Acquire pairs with the last waker's Release before the memory is reused.
        self.0.load(Ordering::Acquire) & (REFS | JOIN) == 0
    }

    // ---- wakers -----------------------------------------------------------------------------

    /// Counts a new waker; true: it is the only one.
    pub(crate) fn add_waker(&self) -> bool {
        self.0.fetch_add(REF, Ordering::Relaxed) & REFS == 0
    }

    /// Uncounts a waker: (it was the only one, it was the last to have the cell and frees it).
    pub(crate) fn drop_waker(&self) -> (bool, bool) {
        let word = self.0.fetch_sub(REF, Ordering::AcqRel);
        let only = word & REFS == REF;
        (only, only && word & (DONE | JOIN) == DONE)
    }

    /// Wakes a free task; true: the caller must put it into a lane.
    #[must_use]
    pub(crate) fn notify(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & DONE != 0 {
                return false;
            }
            // ORDERING: Release also when the bit is set already, so that the poll that follows
            // sees what this waker's thread wrote before; the exchange is never skipped.
            match self.0.compare_exchange_weak(
                word,
                word | NOTIFIED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return word & (RUNNING | NOTIFIED) == 0 && word & STARTED != 0,
                Err(seen) => word = seen,
            }
        }
    }

    // ---- the completion ---------------------------------------------------------------------

    pub(crate) fn look(&self) -> Look {
        // ORDERING: Acquire pairs with the Release of `finish`: the output is visible.
        let word = self.0.load(Ordering::Acquire);
        if word & DONE != 0 {
            Look::Done
        } else if word & TAKING != 0 {
            Look::Taking
        } else if word & WAKER != 0 {
            Look::Registered
        } else {
            Look::Vacant
        }
    }

    /// Publishes the waker that was just written; false: the output came first.
    #[must_use]
    pub(crate) fn set_waker(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & DONE != 0 {
                return false;
            }
            // ORDERING: Release publishes the waker field; Acquire for the output on failure is
            // taken by the look that follows.
            match self.0.compare_exchange_weak(
                word,
                word | WAKER,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// Takes the registered waker back; false: the runner was first.
    #[must_use]
    pub(crate) fn unset_waker(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & WAKER == 0 {
                return false;
            }
            match self.0.compare_exchange_weak(
                word,
                word & !WAKER,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// Gives the completion up, unless the output is there or lingers.
    pub(crate) fn detach(&self) -> Detach {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (next, answer) = if word & DONE != 0 {
                return Detach::Done;
            } else if word & LINGER != 0 {
                (word | HELD, Detach::Lingering)
            } else {
                (word & !JOIN, Detach::Gone)
            };
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return answer,
                Err(seen) => word = seen,
            }
        }
    }

    /// Gives the completion of a lingering output up, and lets the runner finish.
    pub(crate) fn detach_held(&self) {
        self.0.fetch_and(!(JOIN | HELD), Ordering::AcqRel);
    }

    /// The completion leaves after the output was taken; true: it was the last, and frees.
    #[inline]
    #[must_use]
    pub(crate) fn release_join(&self) -> bool {
        if self.0.load(Ordering::Acquire) & REFS == 0 {
            return true;
        }
        let word = self.0.fetch_and(!JOIN, Ordering::AcqRel);
        word & REFS == 0
    }

    /// Claims work that has not started, or tells a running handler.
    pub(crate) fn cancel(&self) -> Cancel {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (next, answer) = if word & DONE != 0 {
                return Cancel::Done;
            } else if word & STARTED == 0 {
                (word | STARTED | CANCEL | CLAIMED, Cancel::Won)
            } else {
                (word | CANCEL | HELD, Cancel::Running)
            };
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return answer,
                Err(seen) => word = seen,
            }
        }
    }

    /// Claims work that was not started, and gives the completion up, for who is its runner as well:
    /// the cell is private. True: a waker is registered, and the caller's.
    #[must_use]
    pub(crate) fn claim_private(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert_eq!(word & !WAKER, JOIN, "not started, and nobody else's");
        self.0.store(STARTED | CANCEL | CLAIMED, Ordering::Relaxed);
        word & WAKER != 0
    }

    /// The canceller has woken the handler.
    pub(crate) fn unhold(&self) {
        self.0.fetch_and(!HELD, Ordering::Release);
    }

    // ---- queries ----------------------------------------------------------------------------

    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    /// Whether somebody has begun with the work, or made that impossible.
    pub(crate) fn is_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STARTED != 0
    }

    /// Whether a waker, or another cell, has it.
    pub(crate) fn is_held(&self) -> bool {
        self.0.load(Ordering::Acquire) & REFS != 0
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.0.load(Ordering::Acquire) & JOIN != 0
    }

    pub(crate) fn is_cancel_requested(&self) -> bool {
        self.0.load(Ordering::Acquire) & CANCEL != 0
    }
}
