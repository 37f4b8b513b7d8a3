//! What becomes of a timer's work when the time has come, or when it does not come any more.

use std::ptr::{self, NonNull};

use crate::cell::{Cell, Header, Step};
use crate::core::CoreShared;
use crate::error::Failure;
use crate::task::Promised;

/// What is left to do for admitted work once the turn is over; null: nothing.
pub(crate) type Remains = *const ();

/// How work of one kind is handled; the functions get it as its runner, so nobody else runs it.
pub(crate) struct Kind {
    /// The time has come: puts the work where it is run. `None`: it is refused there, and to be
    /// ended. It runs in the turn, so it waits for nothing, and runs no code of the user's.
    pub(crate) admit: unsafe fn(NonNull<Header>, &CoreShared) -> Option<Remains>,
    /// Does what remains, after the turn.
    pub(crate) settle: unsafe fn(Remains),
    /// Ends the work as aborted or, if its message was taken back, as cancelled; after the turn.
    pub(crate) end: unsafe fn(NonNull<Header>),
    /// To whom it belongs, with whom it ends; null: to the core.
    pub(crate) owner: unsafe fn(NonNull<Header>) -> *const (),
    /// Whether something that runs may wait for it, so that it ends only with the last worker.
    pub(crate) is_awaited: bool,
}

/// A task of the core, or a call.
pub(crate) static TASK: Kind = Kind {
    // A turn that finds the timers open comes before the sweep that closes them, and that before the
    // workers may leave.
    admit: |cell, core| {
        core.timers.is_open().then(|| {
            core.push_admitted(cell.cast());
            ptr::null()
        })
    },
    settle: |_| {},
    end: end_cell,
    owner: |_| ptr::null(),
    is_awaited: false,
};

/// A promise of nothing but the time.
pub(crate) static PROMISE: Kind = Kind {
    // Fulfilled after the turn: whoever is woken by it is the user's.
    admit: |cell, _| Some(cell.as_ptr().cast_const().cast()),
    settle: |cell| {
        if let Some(cell) = NonNull::new(cell.cast_mut().cast()) {
            // SAFETY: `admit` gave the promise, whose only runner we are.
            unsafe { fulfil(cell, Ok(())) };
        }
    },
    // SAFETY: as above.
    end: |cell| unsafe { fulfil(cell, Err(Failure::Aborted)) },
    owner: |_| ptr::null(),
    is_awaited: true,
};

/// Ends a cell that was not started.
///
/// # Safety
/// The caller is its runner, and does not touch it again.
pub(crate) unsafe fn end_cell(cell: NonNull<Header>) {
    // SAFETY: the runner's hold keeps the cell alive.
    let abort = unsafe { cell.as_ref() }.vtable().abort;
    // SAFETY: as the caller says.
    let step = unsafe { abort(cell) };
    debug_assert_eq!(step, Step::Finished, "it was not started");
}

/// # Safety
/// The cell is a promise of `()`, and the caller its only runner.
unsafe fn fulfil(cell: NonNull<Header>, output: Result<(), Failure>) {
    // SAFETY: as the caller says; a promise's body is empty.
    unsafe { Cell::<Promised<()>>::give(cell, output) };
}
