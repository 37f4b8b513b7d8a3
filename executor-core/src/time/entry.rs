//! A pending timer: 64 pooled bytes between whoever scheduled it and the wheel.
//!
//! # The word
//! The high 60 bits are the tick at which it is to fire. The flags:
//!
//! | flag | set by | meaning |
//! | --- | --- | --- |
//! | `LANE` | whoever pushes it | it is in a lane or about to be: the turner is to look at it |
//! | `HANDLE` | maker | a handle exists; cleared once, never set again |
//! | `CANCELLED` | handle | it will not fire; the turner, when it looks, ends and frees it |
//! | `DONE` | turner | it fired, or ended with its core: the turner touches it no more |
//!
//! # Invariants
//! - I1. Two parties have an entry: the handle while `HANDLE` is set, and the clockwork until `DONE`
//!   or until it has taken a `CANCELLED` entry. Whoever is last frees it, which the transition tells.
//!   A handle that has the turn too takes the entry out of the clockwork, and has it alone.
//! - I2. The node, the work and its kind are the turner's (see `clockwork`) from the first push on.
//! - I3. The link is the pusher's from the transition that sets `LANE` until the push, and the
//!   turner's from the take until it clears `LANE`: an entry is in at most one lane, once.
//! - I4. An entry with `LANE` is never fired: what was asked for before the turner came to fire it
//!   is heeded first. So a cancel or a change of the time that was told `true` is never overtaken.

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::{self, NonNull};

use crate::cell::Header;
use crate::lane::{Link, LinkVTable};
use crate::pool::{self, Class};
use crate::sync::{AtomicU64, Ordering};
use crate::time::kind::Kind;
use crate::time::wheel::Node;

const LANE: u64 = 1;
const HANDLE: u64 = 1 << 1;
const CANCELLED: u64 = 1 << 2;
const DONE: u64 = 1 << 3;
const TICK: u32 = 4;

/// The last tick that a timer can have; with ticks of a millisecond some 36 million years.
pub(crate) const LAST_TICK: u64 = (1 << (u64::BITS - TICK)) - 1;

/// The word.
pub(crate) struct State(AtomicU64);

/// What the turner found on an entry that it took from a lane.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is to fire at this tick.
    At(u64),
    /// It was cancelled: the entry is the turner's alone.
    Cancelled,
}

/// What a turner that came to fire an entry is told.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fire {
    /// Fire it; the entry is the handle's from now on.
    Leave,
    /// Fire it, and free the entry.
    Free,
    /// Somebody asked for something else and will push the entry: leave it alone.
    Busy,
}

/// What a handle achieved.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Done; the caller must push the entry to its lane.
    Push,
    /// Done; the entry is in its lane already.
    Pushed,
    /// Too late: it has fired, or ended with its core.
    Late,
}

/// Where the entry of a handle is.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In a lane, and perhaps in the wheel.
    Lane,
    /// In the wheel.
    Wheel,
    /// Nowhere: it has fired, or ended with its core.
    Fired,
}

impl State {
    /// A pending timer that its maker is about to push.
    pub(crate) fn new(tick: u64, handle: bool) -> Self {
        let handle = if handle { HANDLE } else { 0 };
        Self(AtomicU64::new(tick << TICK | LANE | handle))
    }

    // ---- the turner -------------------------------------------------------------------------

    /// Looks at an entry from a lane.
    pub(crate) fn take(&self) -> Taken {
        // ORDERING: Acquire pairs with the Release of the handle's transition. A cancelled entry
        // has no handle any more, so nobody else changes it.
        let word = self.0.load(Ordering::Acquire);
        if word & CANCELLED != 0 {
            return Taken::Cancelled;
        }
        let word = self.0.fetch_and(!LANE, Ordering::AcqRel);
        if word & CANCELLED != 0 {
            Taken::Cancelled
        } else {
            Taken::At(word >> TICK)
        }
    }

    /// Claims a timer that is due, or that ends with its core.
    #[inline]
    pub(crate) fn fire(&self) -> Fire {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if word & (LANE | CANCELLED) != 0 {
                return Fire::Busy;
            }
            if word & HANDLE == 0 {
                return Fire::Free;
            }
            // ORDERING: Release: the handle frees the entry after all that the turner did with it.
            match self.0.compare_exchange_weak(
                word,
                word | DONE,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Fire::Leave,
                Err(seen) => word = seen,
            }
        }
    }

    // ---- the handle -------------------------------------------------------------------------

    /// Cancels for good, and gives the handle up; when it is late the caller frees the entry.
    pub(crate) fn cancel(&self) -> Asked {
        self.ask(|word| (word & !HANDLE) | CANCELLED | LANE)
    }

    /// Where the entry of a handle is, for who has the turn as well: then nobody changes it.
    #[inline]
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        let word = self.0.load(Ordering::Acquire);
        if word & DONE != 0 {
            Whereabouts::Fired
        } else if word & LANE != 0 {
            Whereabouts::Lane
        } else {
            Whereabouts::Wheel
        }
    }

    /// Asks for another tick.
    pub(crate) fn reschedule(&self, tick: u64) -> Asked {
        self.ask(|word| tick << TICK | (word & ((1 << TICK) - 1)) | LANE)
    }

    fn ask(&self, change: impl Fn(u64) -> u64) -> Asked {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if word & DONE != 0 {
                return Asked::Late;
            }
            // ORDERING: Release passes the handle's thread on to the turner; Acquire for the
            // handle that frees.
            match self.0.compare_exchange_weak(
                word,
                change(word),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) if word & LANE == 0 => return Asked::Push,
                Ok(_) => return Asked::Pushed,
                Err(seen) => word = seen,
            }
        }
    }

    /// Gives the handle up and lets the timer be; true: the caller frees the entry.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        self.0.fetch_and(!HANDLE, Ordering::AcqRel) & DONE != 0
    }

    /// Whether it has neither fired nor ended.
    pub(crate) fn is_pending(&self) -> bool {
        self.0.load(Ordering::Acquire) & DONE == 0
    }
}

/// A timer.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) node: Node,
    /// Its virtual table is the entry's [`Kind`].
    pub(crate) link: Link,
    pub(crate) state: State,
    /// The work that is due then.
    pub(crate) cell: NonNull<Header>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 64, "an entry is one block");

impl Entry {
    const CLASS: Class = Class::of(Layout::new::<Self>());

    /// A new entry, to be pushed into `lane`.
    #[inline]
    pub(crate) fn new(
        tick: u64,
        lane: u16,
        kind: &'static Kind,
        cell: NonNull<Header>,
        handle: bool,
    ) -> NonNull<Self> {
        let block = pool::take(Self::CLASS).cast::<Self>();
        let entry = Self {
            node: Node::new(lane),
            link: Link {
                next: Cell::new(ptr::null_mut()),
                vtable: ptr::from_ref(kind).cast::<LinkVTable>(),
            },
            state: State::new(tick, handle),
            cell,
        };
        // SAFETY: the block is ours, and large and aligned enough by its class.
        unsafe { block.write(entry) };
        block
    }

    /// What its work is.
    pub(crate) fn kind(&self) -> &'static Kind {
        // SAFETY: an entry's link points at its kind, a static (Entry::new).
        unsafe { &*self.link.vtable.cast::<Kind>() }
    }

    /// The link of an entry.
    pub(crate) fn link_of(entry: NonNull<Self>) -> NonNull<Link> {
        let link = entry
            .as_ptr()
            .wrapping_byte_add(std::mem::offset_of!(Self, link));
        // SAFETY: it lies inside an entry, which is not at address 0.
        unsafe { NonNull::new_unchecked(link.cast()) }
    }

    /// The entry of a link.
    pub(crate) fn of_link(link: NonNull<Link>) -> NonNull<Self> {
        let entry = link
            .as_ptr()
            .wrapping_byte_sub(std::mem::offset_of!(Self, link));
        // SAFETY: only entries' links come here, and entries are not at address 0.
        unsafe { NonNull::new_unchecked(entry.cast()) }
    }

    /// Frees an entry.
    ///
    /// # Safety
    /// I1: the caller was told that it is the last.
    #[inline]
    pub(crate) unsafe fn free(entry: NonNull<Self>) {
        // SAFETY: it came from this class, and nothing in it needs a drop.
        unsafe { pool::give(Self::CLASS, entry.cast()) };
    }
}
