//! A hierarchical timer wheel: plain memory, one owner, no clock.
//!
//! ```text
//!  level 0   64 slots of one tick       the rest of the current 64 ticks
//!  level 1   64 slots of 64 ticks       the rest of the current 4,096 ticks
//!   ...
//!  level 10  16 slots of 2^60 ticks     everything else
//!  ready     due, in the order in which it is to fire
//! ```
//!
//! A node lies on the level of the highest base-64 digit in which its tick differs from the present
//! one, in the slot of that digit. When the present reaches a slot, its nodes move down, or are
//! ready. All ticks of 64 bits have a place, so nothing is ever clamped, and a node is moved at most
//! ten times, however far it lies.
//!
//! # Invariants
//! - I1. A node with a place is in exactly one list; one without is in none. A node that is due is in
//!   `ready`, and any other in the slot that is its place.
//! - I2. What lies in a slot is later than the present; slots at or before it are empty.
//! - I3. `occupied` has a bit for each slot that is not empty.
//! - I4. A slot's `least` is at most the least tick in it, and greater than the present.
//! - I5. Nodes of the same tick fire in the order in which they were inserted: at any present they
//!   have the same place, all lists are queues, and a slot is moved as a whole and in order.

use std::cell::Cell;
use std::ptr::{self, NonNull};

/// No tick: later than all others.
pub(crate) const NEVER: u64 = u64::MAX;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = u64::BITS.div_ceil(BITS) as usize;
/// The place of a node that is in no list.
const NOWHERE: u16 = u16::MAX;
/// The place of a node that was due when it was inserted.
const READY: u16 = u16::MAX - 1;

/// What a timer begins with.
#[repr(C)]
pub(crate) struct Node {
    earlier: Cell<*mut Node>,
    later: Cell<*mut Node>,
    /// The tick at which it fires; set by the wheel's owner while the node is in no list.
    pub(crate) due: Cell<u64>,
    place: Cell<u16>,
    /// A number of whoever made the node, of which the wheel knows nothing.
    pub(crate) tag: u16,
}

impl Node {
    pub(crate) const fn new(tag: u16) -> Self {
        Self {
            earlier: Cell::new(ptr::null_mut()),
            later: Cell::new(ptr::null_mut()),
            due: Cell::new(NEVER),
            place: Cell::new(NOWHERE),
            tag,
        }
    }

    /// Whether it is in the wheel.
    pub(crate) fn is_placed(&self) -> bool {
        self.place.get() != NOWHERE
    }
}

/// A queue of nodes.
struct Queue {
    first: *mut Node,
    last: *mut Node,
}

impl Queue {
    const EMPTY: Self = Self {
        first: ptr::null_mut(),
        last: ptr::null_mut(),
    };

    /// # Safety
    /// The node is alive, and in no list.
    unsafe fn push(&mut self, node: NonNull<Node>, place: u16) {
        // SAFETY: as the caller says.
        let fields = unsafe { node.as_ref() };
        fields.place.set(place);
        fields.earlier.set(self.last);
        fields.later.set(ptr::null_mut());
        // SAFETY: nodes in a list are alive (Wheel::insert).
        match unsafe { self.last.as_ref() } {
            Some(last) => last.later.set(node.as_ptr()),
            None => self.first = node.as_ptr(),
        }
        self.last = node.as_ptr();
    }

    /// # Safety
    /// The node is in this list.
    unsafe fn unlink(&mut self, node: NonNull<Node>) {
        // SAFETY: nodes in a list are alive (Wheel::insert).
        let fields = unsafe { node.as_ref() };
        fields.place.set(NOWHERE);
        // SAFETY: as above.
        match unsafe { fields.earlier.get().as_ref() } {
            Some(earlier) => earlier.later.set(fields.later.get()),
            None => self.first = fields.later.get(),
        }
        // SAFETY: as above.
        match unsafe { fields.later.get().as_ref() } {
            Some(later) => later.earlier.set(fields.earlier.get()),
            None => self.last = fields.earlier.get(),
        }
    }

    fn pop(&mut self) -> Option<NonNull<Node>> {
        let node = NonNull::new(self.first)?;
        // SAFETY: it is the first of this list.
        unsafe { self.unlink(node) };
        Some(node)
    }

    /// Appends all nodes of another list, whose places stay as they are.
    fn append(&mut self, other: Self) {
        // SAFETY: nodes in a list are alive (Wheel::insert).
        let Some(first) = (unsafe { other.first.as_ref() }) else {
            return;
        };
        // SAFETY: as above.
        match unsafe { self.last.as_ref() } {
            Some(last) => {
                last.later.set(other.first);
                first.earlier.set(self.last);
            }
            None => self.first = other.first,
        }
        self.last = other.last;
    }
}

struct Slot {
    queue: Queue,
    least: u64,
}

struct Level {
    occupied: u64,
    slots: [Slot; SLOTS],
}

/// The wheel.
pub(crate) struct Wheel {
    /// The present: the last tick to which it was advanced.
    now: u64,
    ready: Queue,
    levels: Box<[Level]>,
}

// SAFETY: a wheel is moved between threads with all that it links, by whoever owns both.
unsafe impl Send for Wheel {}

impl Wheel {
    pub(crate) fn new() -> Self {
        let slot = || Slot {
            queue: Queue::EMPTY,
            least: NEVER,
        };
        let level = |_| Level {
            occupied: 0,
            slots: std::array::from_fn(|_| slot()),
        };
        Self {
            now: 0,
            ready: Queue::EMPTY,
            levels: (0..LEVELS).map(level).collect(),
        }
    }

    /// Inserts a node, behind all others of its tick.
    ///
    /// # Safety
    /// The node is alive and in no list, and stays alive, in place and the wheel's owner's alone
    /// until it was popped or removed.
    #[inline]
    pub(crate) unsafe fn insert(&mut self, node: NonNull<Node>) {
        // SAFETY: as the caller says.
        let due = unsafe { node.as_ref() }.due.get();
        if due <= self.now {
            // SAFETY: as the caller says.
            unsafe { self.ready.push(node, READY) };
            return;
        }
        let level = (self.now ^ due).ilog2() / BITS;
        let slot = (due >> (level * BITS)) as usize % SLOTS;
        let place = level as u16 * SLOTS as u16 + slot as u16;
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        let slot = &mut level.slots[slot];
        slot.least = slot.least.min(due);
        // SAFETY: as the caller says.
        unsafe { slot.queue.push(node, place) };
    }

    /// Takes a node out.
    ///
    /// # Safety
    /// The node is in this wheel.
    pub(crate) unsafe fn remove(&mut self, node: NonNull<Node>) {
        // SAFETY: as the caller says, so it is alive.
        let fields = unsafe { node.as_ref() };
        if fields.due.get() <= self.now {
            // SAFETY: I1.
            return unsafe { self.ready.unlink(node) };
        }
        let place = fields.place.get();
        let (level, slot) = (place as usize / SLOTS, place as usize % SLOTS);
        let level = &mut self.levels[level];
        let queue = &mut level.slots[slot].queue;
        // SAFETY: I1.
        unsafe { queue.unlink(node) };
        if queue.first.is_null() {
            level.occupied &= !(1 << slot);
            level.slots[slot].least = NEVER;
        }
    }

    /// Moves the present to `now`, unless it is there already, and makes ready what is due.
    pub(crate) fn advance(&mut self, now: u64) {
        while let Some((level, slot)) = self.first_slot() {
            let width = level as u32 * BITS;
            // The bits above the slot's own are those of the present: it lies in the same block.
            let above = self.now.checked_shr(width + BITS).unwrap_or(0);
            let block = above.checked_shl(width + BITS).unwrap_or(0);
            let start = block | (slot as u64) << width;
            if start > now {
                break;
            }
            self.now = start;
            let of = &mut self.levels[level];
            of.occupied &= !(1 << slot);
            of.slots[slot].least = NEVER;
            let mut queue = std::mem::replace(&mut of.slots[slot].queue, Queue::EMPTY);
            if level == 0 {
                // All of this one tick: however many there are, they are not touched.
                self.ready.append(queue);
                continue;
            }
            while let Some(node) = queue.pop() {
                // SAFETY: it was just taken out of its list.
                unsafe { self.insert(node) };
            }
        }
        self.now = self.now.max(now);
    }

    /// The occupied slot that the present reaches first.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        // I2: within a block all occupied slots lie ahead, so the lowest is the next.
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }

    /// The present.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The next node that is due, which is then in no list.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<Node>> {
        self.ready.pop()
    }

    /// The tick to which to advance next: that of the earliest node, or of one that was removed
    /// since; [`NEVER`] if the wheel is empty.
    pub(crate) fn next(&self) -> u64 {
        if !self.ready.first.is_null() {
            return self.now;
        }
        self.first_slot()
            .map_or(NEVER, |(level, slot)| self.levels[level].slots[slot].least)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.first.is_null() && self.levels.iter().all(|level| level.occupied == 0)
    }

    /// Takes out all nodes for which `which` holds.
    pub(crate) fn remove_if(&mut self, mut which: impl FnMut(NonNull<Node>) -> bool) {
        let slots = self.levels.iter().flat_map(|level| &level.slots);
        let queues = slots.map(|slot| slot.queue.first).chain([self.ready.first]);
        for first in queues.collect::<Vec<_>>() {
            let mut next = first;
            while let Some(node) = NonNull::new(next) {
                // SAFETY: nodes in a list are alive, and this one has not been removed yet.
                next = unsafe { node.as_ref() }.later.get();
                if which(node) {
                    // SAFETY: it is in this wheel.
                    unsafe { self.remove(node) };
                }
            }
        }
    }

    /// Sets the present of an empty wheel back to the beginning.
    pub(crate) fn reset(&mut self) {
        debug_assert!(self.is_empty(), "only an empty wheel is reset");
        self.now = 0;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
