//! What is left to do for timers once the turn is over: what may run code of the user.

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::cell::Header;
use crate::lane::Link;
use crate::time::entry::Entry;
use crate::time::kind::{Kind, Remains};

/// How many timers fire in one turn.
pub(crate) const SLICE: usize = if cfg!(executor_tiny) { 2 } else { 64 };

/// Cancelled entries that were taken out, to be ended after the turn.
pub(crate) struct Ended(*mut Link);

impl Ended {
    pub(crate) const fn none() -> Self {
        Self(ptr::null_mut())
    }

    /// Adds an entry.
    ///
    /// # Safety
    /// The entry, with its link, is the caller's alone, and given away.
    pub(crate) unsafe fn push(&mut self, entry: NonNull<Entry>) {
        let link = Entry::link_of(entry);
        // SAFETY: as the caller says.
        unsafe { link.as_ref() }.next.set(self.0);
        self.0 = link.as_ptr();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        while let Some(link) = NonNull::new(self.0) {
            // SAFETY: entries in the chain are ours alone.
            self.0 = unsafe { link.as_ref() }.next.get();
            // SAFETY: as above.
            unsafe { end(Entry::of_link(link)) };
        }
    }
}

/// Ends the work of an entry that is not to fire, and frees it.
///
/// # Safety
/// The entry is the caller's alone.
pub(crate) unsafe fn end(entry: NonNull<Entry>) {
    // SAFETY: as the caller says.
    let fields = unsafe { entry.as_ref() };
    let (kind, cell) = (fields.kind(), fields.cell);
    // SAFETY: as above; it is used no more.
    unsafe { Entry::free(entry) };
    // SAFETY: the work was the entry's, whose runner we are.
    unsafe { (kind.end)(cell) };
}

/// What is left of fired timers once the turn is over.
#[derive(Clone, Copy)]
pub(crate) enum Left {
    Settle(&'static Kind, Remains),
    Refused(&'static Kind, NonNull<Header>),
}

/// A slice of fired timers.
pub(crate) struct Fired {
    left: [MaybeUninit<Left>; SLICE],
    len: usize,
    /// How many have fired, those of which nothing is left included.
    pub(crate) count: usize,
}

impl Fired {
    pub(crate) const fn new() -> Self {
        Self {
            left: [MaybeUninit::uninit(); SLICE],
            len: 0,
            count: 0,
        }
    }

    pub(crate) fn push(&mut self, left: Left) {
        self.left[self.len].write(left);
        self.len += 1;
    }
}

impl Drop for Fired {
    fn drop(&mut self) {
        for left in &self.left[..self.len] {
            // SAFETY: the first `len` were written.
            match unsafe { left.assume_init() } {
                // SAFETY: `admit` gave it, and it is settled once.
                Left::Settle(kind, remains) => unsafe { (kind.settle)(remains) },
                // SAFETY: `admit` has refused it, so it is still ours to run.
                Left::Refused(kind, cell) => unsafe { (kind.end)(cell) },
            }
        }
    }
}
