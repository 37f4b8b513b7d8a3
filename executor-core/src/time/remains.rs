//! What is left to do for timers once the turn is over: what may run code of the user.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::cell::Header;
use crate::lane::Link;
use crate::sync::{AtomicUsize, Ordering};
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

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_null()
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

thread_local! {
    /// Whether this thread settles what it has fired.
    static SETTLING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread settles what it has fired; two who do must not wait for each other.
pub(crate) fn is_settling_here() -> bool {
    SETTLING.get()
}

/// Counts somebody who has something left to do of what was taken out in a turn.
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(crate) fn on(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // ORDERING: Release: whoever finds nobody here sees all that was done.
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is left of a fired timer once the turn is over.
#[derive(Clone, Copy)]
pub(crate) enum Left {
    Settle(&'static Kind, Remains),
    Refused(&'static Kind, NonNull<Header>),
}

/// A slice of fired timers; dropped, it does what is left of them.
pub(crate) struct Fired<'a> {
    left: [MaybeUninit<Left>; SLICE],
    len: usize,
    /// How many have fired, those of which nothing is left included.
    pub(crate) count: usize,
    unsettled: Option<Counted<'a>>,
}

impl<'a> Fired<'a> {
    pub(crate) const fn new() -> Self {
        Self {
            left: [MaybeUninit::uninit(); SLICE],
            len: 0,
            count: 0,
            unsettled: None,
        }
    }

    pub(crate) fn push(&mut self, left: Left) {
        self.left[self.len].write(left);
        self.len += 1;
    }

    /// Is counted among those who have something to settle, until it is settled.
    pub(crate) fn count_on(&mut self, unsettled: &'a AtomicUsize) {
        if !self.is_settled() {
            self.unsettled = Some(Counted::on(unsettled));
        }
    }

    /// Whether nothing is left of all that has fired.
    pub(crate) fn is_settled(&self) -> bool {
        self.len == 0
    }

    fn left(&self) -> impl Iterator<Item = Left> {
        let written = &self.left[..self.len];
        // SAFETY: the first `len` were written.
        written.iter().map(|left| unsafe { left.assume_init() })
    }
}

impl Drop for Fired<'_> {
    fn drop(&mut self) {
        let outer = SETTLING.replace(true);
        for left in self.left() {
            if let Left::Settle(kind, remains) = left {
                // SAFETY: `admit` gave it, and it is settled once.
                unsafe { (kind.settle)(remains) };
            }
        }
        SETTLING.set(outer);
        self.unsettled = None;
        for left in self.left() {
            if let Left::Refused(kind, cell) = left {
                // SAFETY: `admit` has refused it, so it is still ours to run.
                unsafe { (kind.end)(cell) };
            }
        }
    }
}
