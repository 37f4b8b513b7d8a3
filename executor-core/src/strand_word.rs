//! The word of a stream: idle, owned, parked, closed, and what is queued.
//!
//! # States
//! | word | meaning | who may change it |
//! | --- | --- | --- |
//! | `0` | idle | anybody takes it, by push or for a caller-run |
//! | `OWNED` | running or in a lane, nothing newly queued | the owner lets go; anybody pushes |
//! | `OWNED + pointer` | the same, newest queued cell | the owner takes all; anybody pushes |
//! | `OWNED + PARKED (+ pointer)` | a started handler waits for a wake; nobody runs the stream | a waker clears `PARKED` and is the owner |
//! | `OWNED + NOTIFIED` | woken while being run | the owner clears it before a poll |
//! | `+ CLOSED` | no new messages | never cleared |
//!
//! # Invariants
//! - I1. There is one owner while `OWNED` and not `PARKED`: whoever set `OWNED` on an idle word,
//!   cleared `PARKED`, or was handed the stream through a lane. Only it touches the stream's plain
//!   fields and its state.
//! - I2. Cells are pushed only onto an owned word or with `OWNED` in the same exchange: a queued
//!   cell always has somebody who will come for it.
//! - I3. The owner lets go only of a word without queued cells: the exchange fails otherwise.
//!
//! No message is lost between the owner's last look and its letting go, since both are one exchange.

#[cfg(all(test, not(loom)))]
mod tests;

use crate::sync::{AtomicUsize, Ordering};

const OWNED: usize = 1;
const PARKED: usize = 1 << 1;
const NOTIFIED: usize = 1 << 2;
const CLOSED: usize = 1 << 3;
const FLAGS: usize = OWNED | PARKED | NOTIFIED | CLOSED;

/// The word.
pub(crate) struct StrandWord(AtomicUsize);

/// What a push found.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// The stream was idle: the pusher owns it and must schedule it.
    Scheduled,
    /// Somebody will come for it.
    Queued,
    /// Closed; nothing was pushed.
    Closed,
}

/// What an owner found that lets go.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// The stream is idle.
    Idle,
    /// It is idle for good: no message comes any more.
    Over,
    /// Something is queued, and the owner is still the owner.
    Kept,
}

impl StrandWord {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Takes an idle stream for a caller-run.
    #[inline]
    #[must_use]
    pub(crate) fn try_own(&self) -> bool {
        // ORDERING: Acquire pairs with the Release of the last owner's `let_go`.
        self.0
            .compare_exchange(0, OWNED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Pushes a cell; `link` is given what it must point at before each attempt.
    #[inline]
    pub(crate) fn push(&self, cell: usize, mut link: impl FnMut(usize)) -> Push {
        debug_assert_eq!(cell & FLAGS, 0, "cells are aligned to 64 bytes");
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Push::Closed;
            }
            link(word & !FLAGS);
            let next = cell | (word & FLAGS) | OWNED;
            // ORDERING: Release publishes the cell to `take`; Acquire, for the pusher that becomes
            // the owner, sees what the last one did.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if word & OWNED == 0 => return Push::Scheduled,
                Ok(_) => return Push::Queued,
                Err(seen) => word = seen,
            }
        }
    }

    /// Pushes a cell of the framework's own behind what is queued, closed or not; false: the stream
    /// is idle, and nothing was pushed.
    #[must_use]
    pub(crate) fn push_if_busy(&self, cell: usize, mut link: impl FnMut(usize)) -> bool {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if word & OWNED == 0 {
                return false;
            }
            link(word & !FLAGS);
            let next = cell | (word & FLAGS);
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// The owner takes all queued cells, newest first; 0: there are none.
    #[inline]
    pub(crate) fn take(&self) -> usize {
        if self.0.load(Ordering::Relaxed) & !FLAGS == 0 {
            return 0;
        }
        // ORDERING: Acquire pairs with the Release of every push.
        self.0.fetch_and(FLAGS, Ordering::Acquire) & !FLAGS
    }

    /// The owner makes the stream idle, unless something is queued.
    #[inline]
    pub(crate) fn let_go(&self) -> LetGo {
        let mut word = OWNED;
        loop {
            // ORDERING: Release hands the stream's state to the next owner.
            match self.0.compare_exchange_weak(
                word,
                word & CLOSED,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) if word & CLOSED == 0 => return LetGo::Idle,
                Ok(_) => return LetGo::Over,
                Err(seen) if seen & !FLAGS != 0 => return LetGo::Kept,
                Err(seen) => word = seen,
            }
        }
    }

    /// The owner forgets wakes so far, because it is about to poll.
    #[inline]
    pub(crate) fn begin_poll(&self) {
        if self.0.load(Ordering::Relaxed) & NOTIFIED != 0 {
            // ORDERING: Acquire pairs with the Release of the wake.
            self.0.fetch_and(!NOTIFIED, Ordering::Acquire);
        }
    }

    /// The owner leaves a started handler to its waker; false: it was woken meanwhile, and the
    /// caller is still the owner.
    #[must_use]
    pub(crate) fn park(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, parked) = if word & NOTIFIED == 0 {
                (word | PARKED, true)
            } else {
                (word & !NOTIFIED, false)
            };
            // ORDERING: Release hands the handler to the waker that becomes the owner; Acquire sees
            // what the waker's thread did before it.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return parked,
                Err(seen) => word = seen,
            }
        }
    }

    /// A wake; true: the caller is the owner now and must schedule the stream.
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, owner) = if word & OWNED == 0 {
                return false;
            } else if word & PARKED != 0 {
                (word & !PARKED, true)
            } else {
                (word | NOTIFIED, false)
            };
            // ORDERING: Release also when `NOTIFIED` is set already: the poll that follows sees
            // what this thread did before its wake. Acquire for the new owner.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return owner,
                Err(seen) => word = seen,
            }
        }
    }

    /// Refuses messages from now on.
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.load(Ordering::Acquire) & OWNED != 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }
}
