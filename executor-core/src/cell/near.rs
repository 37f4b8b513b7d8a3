//! One word for what goes with a cell: its hint while it is queued, the cell that waits for it, and
//! whether its handler's context is alive.
//!
//! # States
//! | word | meaning |
//! | --- | --- |
//! | an address, or 0 | while queued: a hint (`list`); later of no meaning |
//! | an address + `CALLER` | the cell that waits for this one, which is held |
//! | .. + `LIVE` | the handler's context is alive |
//! | .. + `AWAITED` | the same, and it strayed: the runner waits for its drop |
//!
//! # Invariants
//! - I1. While the context is alive, the message is not handled: the cell, its home and the stream's
//!   state live, and no other message of the stream runs.
//! - I2. There is at most one context for a cell: `&mut` of the context is `&mut` of the state.
//! - I3. Hints are written by who has the cell to push it or took it, before it is started; the caller is
//!   noted once, by the maker or by the runner that polls the cell.
//! - I4. Beside the runner only a context that has strayed writes the word.

use std::ptr::{self, NonNull};

use super::{CellRef, Header};
use crate::sync::{AtomicUsize, Ordering};

const CALLER: usize = 1;
const LIVE: usize = 1 << 1;
const AWAITED: usize = 1 << 2;
const CONTEXT: usize = LIVE | AWAITED;
const FLAGS: usize = CALLER | CONTEXT;

const _: () = assert!(FLAGS < crate::pool::BLOCK_SIZES[0]);

/// The word.
pub(crate) struct Near(AtomicUsize);

impl Near {
    pub(crate) fn nothing() -> Self {
        Self(AtomicUsize::new(0))
    }

    // ---- the hint ---------------------------------------------------------------------------

    /// Notes a hint, unless the word is taken, and gives what was there, to be fetched.
    #[inline]
    pub(super) fn hint(&self, cell: *mut Header) -> *const Header {
        let word = self.0.load(Ordering::Relaxed);
        if word & FLAGS == 0 {
            self.0.store(cell.addr(), Ordering::Relaxed);
        }
        ptr::without_provenance(word)
    }

    /// What is there, to be fetched.
    #[inline]
    pub(super) fn get(&self) -> *const Header {
        ptr::without_provenance(self.0.load(Ordering::Relaxed))
    }

    // ---- the caller -------------------------------------------------------------------------

    /// The cell that waits for this one, if one is noted.
    pub(super) fn caller(&self) -> Option<NonNull<Header>> {
        // ORDERING: who walks the chain to this cell comes from a message that was pushed after the caller
        // was noted, and the push orders that; Acquire is for who comes from this cell's own poll.
        let word = self.0.load(Ordering::Acquire);
        if word & CALLER == 0 {
            return None;
        }
        NonNull::new(ptr::with_exposed_provenance_mut(word & !FLAGS))
    }

    /// Notes the cell that waits for this one, unless one is noted (I3).
    pub(crate) fn set_caller(&self, caller: CellRef) {
        if self.0.load(Ordering::Relaxed) & CALLER == 0 {
            self.note(caller.into_raw().expose_provenance());
        }
    }

    /// Writes the caller's address beside what a stray context says meanwhile (I4).
    pub(crate) fn note(&self, address: usize) {
        let _noted = self
            .0
            .fetch_update(Ordering::Release, Ordering::Relaxed, |word| {
                Some(address | CALLER | word & CONTEXT)
            });
    }

    #[cfg(all(test, loom))]
    pub(crate) fn has_caller(&self) -> bool {
        self.caller().is_some()
    }

    /// Gives up the reference to the caller's cell; see `callers` for who may.
    #[inline]
    pub(super) fn take_caller(&self) -> Option<CellRef> {
        if self.0.load(Ordering::Relaxed) & CALLER == 0 {
            return None;
        }
        let caller = self.caller()?;
        self.0.store(0, Ordering::Relaxed);
        // SAFETY: it came from a `CellRef`, and is given up once.
        Some(unsafe { CellRef::from_raw(caller) })
    }

    // ---- the context ------------------------------------------------------------------------

    /// Notes that the handler is given its context; for the runner, once. A cell that `is_new` has neither
    /// hint nor caller.
    #[inline(always)]
    pub(crate) fn context_made(&self, is_new: bool) {
        let mut kept = 0;
        if !is_new {
            let word = self.0.load(Ordering::Relaxed);
            kept = if word & CALLER == 0 { 0 } else { word };
        }
        self.0.store(kept | LIVE, Ordering::Relaxed);
    }

    /// Notes that the context is dropped, in the runner's own poll.
    #[inline]
    pub(crate) fn context_dropped(&self) {
        // This thread is the runner, and has the context: nobody else writes (I4).
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(word & !CONTEXT, Ordering::Relaxed);
    }

    /// Notes that the context is dropped, anywhere else; true: the runner waits for it.
    #[must_use]
    pub(crate) fn context_dropped_elsewhere(&self) -> bool {
        // ORDERING: Release: what it did to the state comes before the next message; Acquire is for
        // the wake that may follow.
        let word = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                Some(word & !CONTEXT)
            });
        word.is_ok_and(|word| word & AWAITED != 0)
    }

    /// Whether there is neither a caller nor a context that is alive.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        // ORDERING: Acquire pairs with the Release of the context's drop.
        self.0.load(Ordering::Acquire) & FLAGS == 0
    }

    /// Whether the context has left the handler's future and is still alive; if so its drop will
    /// wake the cell. For the runner.
    #[inline]
    pub(crate) fn is_straying(&self) -> bool {
        // ORDERING: Acquire pairs with the Release of the context's drop.
        self.0.load(Ordering::Acquire) & CONTEXT != 0 && self.awaits_context()
    }

    #[cold]
    fn awaits_context(&self) -> bool {
        // Never after the drop: a context that is gone would be waited for for ever.
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                (word & CONTEXT != 0).then_some(word & !CONTEXT | AWAITED)
            })
            .is_ok()
    }
}
