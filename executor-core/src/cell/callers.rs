//! Who waits for whom: a cell may hold that of the handler that waits for it, its caller.
//!
//! A call looks along these links, from the cell that is polled to those that wait for it on other
//! threads (`frame`), while messages come to their ends there.
//!
//! # Invariants
//! - I1. A caller is read, to be held, under the lock of the cell that has it, and given up under it.
//!   Who has a cell alone, or knows that no other cell holds it, needs no lock: nobody comes there.
//! - I2. A message that is over has no caller. So a chain is as long as the calls that are under way,
//!   whatever led to them, and with a cell at most one other is freed.

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::{CellRef, Header, LiveCell};
use crate::sync::plain::{Mutex, MutexGuard};

/// The locks, one for many cells.
static LOCKS: [CachePadded<Mutex<()>>; 16] = [const { CachePadded::new(Mutex::new(())) }; 16];

fn lock(cell: NonNull<Header>) -> MutexGuard<'static, ()> {
    // Cells are aligned to 64 bytes or more, and lie in rows.
    let address = cell.as_ptr().addr();
    let lock = &LOCKS[((address >> 6) ^ (address >> 12)) % LOCKS.len()];
    lock.lock().expect("nothing panics under it")
}

impl LiveCell {
    /// The cell of the handler that waits for this one.
    pub(crate) fn caller(self) -> Option<CellRef> {
        let near = &self.header().near;
        near.caller()?;
        let _lock = lock(self.0);
        // SAFETY: this cell holds it, and keeps it while we have the lock (I1).
        near.caller().map(|caller| unsafe { CellRef::new(caller) })
    }
}

/// Takes the caller from a message that is over, before anybody hears of that (I2). It is to be dropped
/// after: with the last reference to it user code may run.
///
/// # Safety
/// The caller is the runner.
#[inline]
pub(super) unsafe fn cut(cell: NonNull<Header>) -> Option<CellRef> {
    // SAFETY: the runner's hold keeps the cell alive.
    let near = &unsafe { cell.as_ref() }.near;
    near.caller()?;
    cut_caller(cell)
}

#[cold]
fn cut_caller(cell: NonNull<Header>) -> Option<CellRef> {
    // SAFETY: the runner, who calls, keeps the cell alive.
    let header = unsafe { cell.as_ref() };
    let _lock = header.status.is_held().then(|| lock(cell));
    header.near.take_caller()
}
