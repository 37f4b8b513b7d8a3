//! A lane: any number of producers, take-all consumers, one word.
//!
//! # States
//! | word | meaning |
//! | --- | --- |
//! | `0` | open and empty |
//! | pointer | open; the newest link, whose `next` leads to older ones |
//! | any `+ CLOSED` | the same, and new work from outside is refused |
//!
//! # Invariants
//! - I1. A link is in at most one lane, list or slot at a time; whoever took it there owns it.
//! - I2. `next` is written only by the link's owner, and is published by the push that follows.
//! - I3. A consumer takes the whole list with one swap: a link is never popped alone, so there is
//!   no ABA, and no half-linked link is ever visible.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use crate::sync::{AtomicUsize, Ordering};
use crate::worker::Turn;

/// What anything that a worker can run begins with.
#[repr(C)]
pub(crate) struct Link {
    /// The next older link while pushed, the next younger one while in a [`List`].
    pub(crate) next: Cell<*mut Link>,
    /// How it is run.
    pub(crate) vtable: *const LinkVTable,
}

/// The head of every virtual table whose values are run by workers.
#[repr(C)]
pub(crate) struct LinkVTable {
    /// Runs one slice of the work; the link belongs to the callee from then on.
    pub(crate) run: unsafe fn(NonNull<Link>, &Turn<'_>),
}

/// Set when new work from outside is refused.
const CLOSED: usize = 1;

/// What a push found.
#[must_use = "a push into an empty lane must be announced to the workers"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The lane was empty: this push is the edge that wakes a worker.
    Edge,
    /// Whoever made the lane non-empty has seen to the wake-up.
    Behind,
    /// The lane is closed; nothing was pushed.
    Closed,
}

/// The word.
pub(crate) struct Lane {
    word: AtomicUsize,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
        }
    }

    /// Pushes `link`; `admitted` work goes in even when the lane is closed.
    ///
    /// # Safety
    /// The caller owns `link` (I1) and gives it away unless the answer is [`Pushed::Closed`].
    #[inline]
    pub(crate) unsafe fn push(&self, link: NonNull<Link>, admitted: bool) -> Pushed {
        // SAFETY: as the caller says.
        unsafe { self.push_between(link, link, admitted) }
    }

    /// Pushes admitted work, in order; none: there is nothing to push.
    pub(crate) fn push_chain(&self, chain: Chain) -> Option<Pushed> {
        let (newest, oldest) = chain.ends?;
        // SAFETY: the chain's links are its owner's.
        Some(unsafe { self.push_between(newest, oldest, true) })
    }

    /// Pushes a chain that leads from the newest to the oldest link.
    ///
    /// # Safety
    /// As for [`Lane::push`], of all links.
    #[inline(always)]
    unsafe fn push_between(
        &self,
        newest: NonNull<Link>,
        oldest: NonNull<Link>,
        admitted: bool,
    ) -> Pushed {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 && !admitted {
                return Pushed::Closed;
            }
            // SAFETY: the caller owns the link until the exchange below publishes it.
            unsafe { oldest.as_ref() }
                .next
                .set(ptr::with_exposed_provenance_mut(word & !CLOSED));
            let pushed = newest.as_ptr().expose_provenance() | (word & CLOSED);
            // ORDERING: Release publishes the link's contents to `take`; SeqCst so that the push
            // comes before the look at the sleepers that follows it (see `sleep`).
            match self
                .word
                .compare_exchange_weak(word, pushed, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) if word & !CLOSED == 0 => return Pushed::Edge,
                Ok(_) => return Pushed::Behind,
                Err(seen) => word = seen,
            }
        }
    }

    /// Takes everything, oldest first.
    pub(crate) fn take(&self) -> List {
        if self.is_empty() {
            return List::new();
        }
        // ORDERING: Acquire pairs with the Release of every push in the list.
        let taken = self.word.fetch_and(CLOSED, Ordering::Acquire) & !CLOSED;
        // SAFETY: I3: the whole list is ours.
        unsafe { List::reversed(ptr::with_exposed_provenance_mut(taken)) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // ORDERING: SeqCst pairs with the push in the sleepers' last look (see `sleep`).
        self.word.load(Ordering::SeqCst) & !CLOSED == 0
    }

    /// Refuses new work from now on.
    pub(crate) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
    }
}

/// Links that one thread owns and is about to push together.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// The newest, whose `next` leads to older ones, and the oldest.
    ends: Option<(NonNull<Link>, NonNull<Link>)>,
}

impl Chain {
    /// Puts a link behind the others.
    ///
    /// # Safety
    /// The caller owns `link` (I1) and gives it away.
    #[inline]
    pub(crate) unsafe fn push(&mut self, link: NonNull<Link>) {
        let oldest = match self.ends {
            None => link,
            Some((newest, oldest)) => {
                // SAFETY: as the caller says.
                unsafe { link.as_ref() }.next.set(newest.as_ptr());
                oldest
            }
        };
        self.ends = Some((link, oldest));
    }
}

/// Links owned by one thread, first in first out.
pub(crate) struct List {
    head: *mut Link,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
        }
    }

    /// Turns a taken list round, so that the oldest comes first.
    ///
    /// # Safety
    /// `newest` is null or heads a list that the caller owns.
    pub(crate) unsafe fn reversed(newest: *mut Link) -> Self {
        let mut head = ptr::null_mut();
        let mut rest = newest;
        while let Some(link) = NonNull::new(rest) {
            // SAFETY: the list is owned, and its links are alive while they are in it (I1).
            rest = unsafe { link.as_ref() }.next.replace(head);
            // The pointer itself, which may be used for all of what it heads.
            head = link.as_ptr();
        }
        Self { head }
    }

    /// A list from a pointer that [`List::into_raw`] gave.
    ///
    /// # Safety
    /// `head` came from `into_raw`, and nobody else has it.
    pub(crate) unsafe fn from_raw(head: *mut Link) -> Self {
        Self { head }
    }

    pub(crate) fn into_raw(self) -> *mut Link {
        self.head
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// This list, or the other one if it is empty.
    #[inline]
    pub(crate) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self.is_empty() { other() } else { self }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<Link>> {
        let link = NonNull::new(self.head)?;
        // SAFETY: the list is owned, and its links are alive while they are in it (I1).
        self.head = unsafe { link.as_ref() }.next.get();
        Some(link)
    }
}
