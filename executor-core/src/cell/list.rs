//! Queued cells, and how their owner walks them without waiting for each.
//!
//! Cells are pushed newest first and run oldest first, so the owner turns what it takes round: two
//! walks along links that another core wrote, in which each step waits for the one before. A cell's hint
//! (`near`) names the cell some steps further on, as far as whoever wrote it knew; it is fetched and never
//! followed, so that it may be wrong, stale or null.

use std::cell::Cell as StdCell;
use std::ptr::{self, NonNull};

use super::Header;
use crate::fetch::fetch_to_read;

/// How many steps ahead a cell is fetched.
const STEPS: usize = 8;
/// How many lines of a cell of usual size its runner touches.
pub(crate) const USUAL_LINES: usize = 2;

/// The cells passed last, of which each step gives the one [`STEPS`] before.
struct Passed {
    cells: [StdCell<*mut Header>; STEPS],
    at: StdCell<usize>,
}

impl Passed {
    const fn none() -> Self {
        Self {
            cells: [const { StdCell::new(ptr::null_mut()) }; STEPS],
            at: StdCell::new(0),
        }
    }

    #[inline]
    fn step(&self, cell: *mut Header) -> *mut Header {
        let at = self.at.get();
        self.at.set((at + 1) % STEPS);
        self.cells[at].replace(cell)
    }
}

thread_local! {
    /// What this thread pushed last, to whatever queue.
    static PUSHED: Passed = const { Passed::none() };
}

/// The address of a cell that is to be pushed, for the word that heads the queue; and its hint.
#[inline]
pub(crate) fn expose(cell: NonNull<Header>) -> usize {
    // SAFETY: the pusher owns the cell.
    let header = unsafe { cell.as_ref() };
    header
        .near
        .hint(PUSHED.with(|pushed| pushed.step(cell.as_ptr())));
    cell.as_ptr().expose_provenance()
}

/// Links a cell that is to be pushed to the next older one.
#[inline]
pub(crate) fn link_to(cell: NonNull<Header>, older: usize) {
    // SAFETY: the pusher owns the cell until its exchange publishes it.
    let header = unsafe { cell.as_ref() };
    let older = ptr::with_exposed_provenance_mut(older);
    header.link.next.set(older);
}

/// Cells that one thread owns, oldest first.
pub(crate) struct CellList {
    head: *mut Header,
}

impl CellList {
    /// Turns a taken list round.
    ///
    /// # Safety
    /// `newest` is 0 or an exposed address, and heads a list that the caller owns.
    pub(crate) unsafe fn reversed(newest: usize) -> Self {
        let passed = Passed::none();
        let mut head = ptr::null_mut::<Header>();
        let mut rest = ptr::with_exposed_provenance_mut::<Header>(newest);
        while let Some(cell) = NonNull::new(rest) {
            // SAFETY: the list is owned, and its cells are alive while they are in it.
            let header = unsafe { cell.as_ref() };
            rest = header.link.next.replace(head.cast()).cast();
            head = cell.as_ptr();
            fetch(header.near.hint(passed.step(head)), 1);
        }
        Self { head }
    }

    /// A list from a pointer that [`CellList::into_raw`] gave.
    ///
    /// # Safety
    /// `head` came from `into_raw`, and nobody else has it.
    pub(crate) unsafe fn from_raw(head: *mut Header) -> Self {
        Self { head }
    }

    pub(crate) fn into_raw(self) -> *mut Header {
        self.head
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<Header>> {
        let cell = NonNull::new(self.head)?;
        // SAFETY: the list is owned, and its cells are alive while they are in it.
        let header = unsafe { cell.as_ref() };
        self.head = header.link.next.get().cast();
        let near = header.near.get();
        fetch(near, USUAL_LINES);
        // As many as of this one: a queue's cells are mostly alike.
        if header.vtable().is_long {
            fetch(near.wrapping_byte_add(64 * USUAL_LINES), USUAL_LINES);
        }
        Some(cell)
    }
}

/// Has the cell fetched that comes some steps after this one, if whoever pushed it pushed that one.
#[inline]
fn fetch(near: *const Header, lines: usize) {
    if !near.is_null() {
        fetch_to_read(near, lines);
    }
}
