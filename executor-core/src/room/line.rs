//! Who waits for a place, in line.

use std::alloc::Layout;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::Room;
use crate::pool::{self, Class};
use crate::strand_word::Push;

/// How many lines are kept for the next who wait, at most.
const SPARE_LINES: usize = 64;
/// For how many waiters a line has room that is kept, at most.
const SPARE_WAITERS: usize = 64;

/// Somebody who waits for a place; dropped without one, it was turned away.
pub(crate) trait Waiter: Send {
    fn room(&self) -> &Room;
    /// Uses the place that was taken for it, under the lock: it waits for nothing, and runs no code of the
    /// user's. [`Push::Closed`]: the place cannot be used any more.
    fn admit(&mut self) -> Push;
    /// Tells of it, after the lock, unless it was [`Push::Closed`].
    fn tell(&mut self, pushed: Push);
}

/// A waiter in a block of the pool, of which it is the only owner.
pub(super) struct Queued {
    waiter: NonNull<dyn Waiter>,
    class: Class,
}

// SAFETY: the waiter is owned, and is `Send`.
unsafe impl Send for Queued {}

impl Queued {
    pub(super) fn new<W: Waiter + 'static>(waiter: W) -> Self {
        let class = const { Class::of(Layout::new::<W>()) };
        let block = pool::take(class).cast::<W>();
        // SAFETY: the block is ours, and large and aligned enough by its class.
        unsafe { block.write(waiter) };
        Self {
            waiter: block,
            class,
        }
    }
}

impl Deref for Queued {
    type Target = dyn Waiter;

    fn deref(&self) -> &Self::Target {
        // SAFETY: it lives until `self` is dropped.
        unsafe { self.waiter.as_ref() }
    }
}

impl DerefMut for Queued {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: it lives until `self` is dropped, which owns it.
        unsafe { self.waiter.as_mut() }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        unsafe { self.waiter.drop_in_place() };
        // SAFETY: the block came from this class, and is empty.
        unsafe { pool::give(self.class, self.waiter.cast()) };
    }
}

/// Who waits for a place in one room, the oldest first.
#[derive(Default)]
pub(super) struct Line {
    entries: VecDeque<Entry>,
    /// How many of them gave up.
    gone: usize,
}

struct Entry {
    /// Rises with each that lines up, wherever.
    age: u64,
    /// None once it gave up.
    waiter: Option<Queued>,
}

impl Line {
    /// The first who waits.
    fn first(&self) -> Option<(u64, &Queued)> {
        let entry = self.entries.front()?;
        // Those who gave up in front of it are gone: see `settle`.
        Some((entry.age, entry.waiter.as_ref()?))
    }

    pub(super) fn take_first(&mut self) -> Option<Queued> {
        let taken = self.entries.pop_front()?.waiter;
        self.settle();
        taken
    }

    pub(super) fn take(&mut self, age: u64) -> Option<Queued> {
        let at = self.entries.binary_search_by_key(&age, |entry| entry.age);
        let taken = self.entries[at.ok()?].waiter.take();
        self.gone += usize::from(taken.is_some());
        self.settle();
        taken
    }

    /// Forgets who gave up, in front at once and elsewhere when they are most.
    fn settle(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.waiter.is_none())
        {
            self.entries.pop_front();
            self.gone -= 1;
        }
        if 2 * self.gone > self.entries.len() {
            self.entries.retain(|entry| entry.waiter.is_some());
            self.gone = 0;
        }
    }
}

/// Who waits, by room, and lines that were used before: a line that comes and goes allocates nothing.
#[derive(Default)]
pub(super) struct Lines {
    by_room: HashMap<usize, Line>,
    /// The room of each line by the age of its first.
    by_age: BTreeMap<u64, usize>,
    next_age: u64,
    spare: Vec<Line>,
}

impl Lines {
    pub(super) fn push(&mut self, waiter: Queued) -> u64 {
        let (room, age) = (key(waiter.room()), self.next_age);
        self.next_age += 1;
        let line = (self.by_room.entry(room)).or_insert_with(|| {
            self.by_age.insert(age, room);
            self.spare.pop().unwrap_or_default()
        });
        line.entries.push_back(Entry {
            age,
            waiter: Some(waiter),
        });
        age
    }

    /// Changes the line of a room, if there is one, and notes who comes first then.
    pub(super) fn change<R>(
        &mut self,
        room: usize,
        change: impl FnOnce(&mut Line) -> Option<R>,
    ) -> Option<R> {
        let line = self.by_room.get_mut(&room)?;
        let before = line.first().map(|(age, _)| age);
        let result = change(line);
        let after = line.first().map(|(age, _)| age);
        if before != after {
            if let Some(age) = before {
                self.by_age.remove(&age);
            }
            if let Some(age) = after {
                self.by_age.insert(age, room);
            }
        }
        if after.is_none()
            && let Some(line) = self.by_room.remove(&room)
            && self.spare.len() < SPARE_LINES
            && line.entries.capacity() <= SPARE_WAITERS
        {
            self.spare.push(line);
        }
        result
    }

    pub(super) fn first(&self, room: usize) -> Option<&Queued> {
        self.by_room.get(&room)?.first().map(|(_, first)| first)
    }

    /// The first of each line with its room, the oldest first.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (usize, &Queued)> {
        let rooms = self.by_age.values();
        rooms.filter_map(|&room| Some((room, self.first(room)?)))
    }

    pub(super) fn has(&self, room: usize) -> bool {
        self.by_room.contains_key(&room)
    }

    /// All who wait, and nobody does any more; the caller drops them after the lock.
    #[must_use]
    pub(super) fn take_all(&mut self) -> HashMap<usize, Line> {
        self.by_age.clear();
        std::mem::take(&mut self.by_room)
    }
}

/// What a room is known by.
pub(super) fn key(room: &Room) -> usize {
    std::ptr::from_ref(room).addr()
}
