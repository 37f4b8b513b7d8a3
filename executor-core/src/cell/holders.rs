//! Who holds a cell beside its runner and its completion: the handler's wakers, and callers.

use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable};

use super::{Header, LiveCell, free};

static WAKER_VTABLE: RawWakerVTable =
    RawWakerVTable::new(clone_waker, wake_waker, wake_waker_by_ref, drop_waker);

pub(super) fn raw_waker(cell: NonNull<Header>) -> RawWaker {
    RawWaker::new(cell.as_ptr().cast_const().cast(), &WAKER_VTABLE)
}

unsafe fn header_of(data: *const ()) -> NonNull<Header> {
    // SAFETY: wakers are made from non-null cells only.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

unsafe fn clone_waker(data: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned keeps the cell alive.
    let cell = unsafe { header_of(data) };
    // SAFETY: as above.
    unsafe { acquire(cell) };
    raw_waker(cell)
}

/// Counts one more holder of the cell, and of its home with the first.
///
/// # Safety
/// The cell is alive and, if nobody holds it yet, being polled by this thread.
unsafe fn acquire(cell: NonNull<Header>) {
    // SAFETY: the caller keeps the cell alive.
    let header = unsafe { cell.as_ref() };
    if header.status.add_waker() {
        let vtable = header.vtable();
        // SAFETY: the cell is alive.
        let home = unsafe { (vtable.home)(cell) };
        // SAFETY: no other holder: this thread polls the cell, so its home is alive.
        unsafe { (vtable.hold)(home) };
    }
}

/// Uncounts a holder, and frees the cell if it was the last to have it.
///
/// # Safety
/// Balances an `acquire`; the caller does not use the cell any more.
unsafe fn relinquish(cell: NonNull<Header>) {
    // SAFETY: the hold that is being given up keeps the cell alive.
    let header = unsafe { cell.as_ref() };
    let vtable = header.vtable();
    // SAFETY: read before the count falls, since the cell may be gone after.
    let home = unsafe { (vtable.home)(cell) };
    let (last_holder, last) = header.status.drop_waker();
    if last {
        // SAFETY: the status word says that the cell is ours alone; its body is empty, since the
        // runner or the completion has dropped the output.
        unsafe { free(cell) };
    }
    if last_holder {
        // SAFETY: balances the hold of the first.
        unsafe { (vtable.unhold)(home) };
    }
}

unsafe fn wake_waker(data: *const ()) {
    // SAFETY: the waker is alive until it is dropped in the next line.
    unsafe { wake_waker_by_ref(data) };
    // SAFETY: `wake` consumes the waker.
    unsafe { drop_waker(data) };
}

unsafe fn wake_waker_by_ref(data: *const ()) {
    // SAFETY: the waker keeps the cell and its home alive.
    let cell = unsafe { header_of(data) };
    // SAFETY: as above.
    unsafe { wake(cell) };
}

/// Makes the cell's home poll it again, unless it is done.
///
/// # Safety
/// The caller keeps the cell and its home alive.
unsafe fn wake(cell: NonNull<Header>) {
    // SAFETY: as the caller says.
    let header = unsafe { cell.as_ref() };
    if !header.is_done() {
        let vtable = header.vtable();
        // SAFETY: as the caller says.
        let home = unsafe { (vtable.home)(cell) };
        // SAFETY: as the caller says.
        unsafe { (vtable.wake)(cell, home) };
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker that is dropped was counted.
    let cell = unsafe { header_of(data) };
    // SAFETY: as above.
    unsafe { relinquish(cell) };
}

/// A counted reference to a cell, as a waker has one.
#[derive(Debug)]
pub(crate) struct CellRef(NonNull<Header>);

// SAFETY: a `CellRef` reads the status word, and the immutable parts of the scope (I3).
unsafe impl Send for CellRef {}
// SAFETY: as above.
unsafe impl Sync for CellRef {}

impl CellRef {
    /// # Safety
    /// The cell is alive and, if nobody holds it yet, being polled by this thread.
    pub(crate) unsafe fn new(cell: NonNull<Header>) -> Self {
        // SAFETY: as the caller says.
        unsafe { acquire(cell) };
        Self(cell)
    }

    /// The cell, while this is there.
    pub(crate) fn cell(&self) -> LiveCell {
        // SAFETY: the count keeps the cell and its home alive.
        unsafe { LiveCell::new(self.0) }
    }

    /// Makes the cell's home poll it again, unless it is done.
    pub(crate) fn wake(&self) {
        // SAFETY: the count keeps the cell and its home alive.
        unsafe { wake(self.0) };
    }

    /// Gives the count to a plain pointer.
    pub(crate) fn into_raw(self) -> *mut Header {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// The pointer came from `into_raw`, whose count it takes over.
    pub(crate) unsafe fn from_raw(cell: NonNull<Header>) -> Self {
        Self(cell)
    }
}

impl Clone for CellRef {
    fn clone(&self) -> Self {
        // SAFETY: this one keeps the cell and its home alive.
        unsafe { Self::new(self.0) }
    }
}

impl Drop for CellRef {
    fn drop(&mut self) {
        // SAFETY: balances `new`.
        unsafe { relinquish(self.0) };
    }
}
