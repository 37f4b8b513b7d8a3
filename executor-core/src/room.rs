//! Bounds on what is queued: for each stream, and for all streams of an executor together.
//!
//! Entering and leaving are one atomic operation each (two with a total bound) while nobody waits.
//! Waiters of one stream are served in order, and a place that becomes free is handed to the first of
//! them; with a total bound the oldest of all comes first whose own queue has room. Nobody who comes
//! later can overtake: while somebody waits for a place in a queue, or for one of all, newcomers are
//! refused it.
//!
//! What can be queued without its caller, an execution or a delayed message, is queued under the lock
//! when its place is free; a submission that waits is given the place, and is queued when it is polled.
//!
//! Waiters lie in blocks of the pool, and lines are reused: to wait allocates nothing once warm.
//!
//! No waiter is forgotten: it announces itself (`waiting`) before it looks for room a last time,
//! and whoever leaves makes room before looking for waiters; both are `SeqCst`.

use std::alloc::Layout;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use crate::completion::Completion;
use crate::error::{Failure, RejectReason};
use crate::pool::{self, Class, PoolBox};
use crate::strand::{Strand, StreamOwner};
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicUsize, Ordering, model_fence};
use crate::task::Promise;

/// How many lines are kept for the next who wait, at most.
const SPARE_LINES: usize = 64;
/// For how many waiters a line has room that is kept, at most.
const SPARE_WAITERS: usize = 64;

/// An owner keeps to itself at most this part of a bound, and
const STEP_PART: usize = 128;
/// so many places, while it has more to run: producers and owner share a line less often.
const MAX_STEP: usize = 8;

/// How many messages of one stream are queued.
pub(crate) struct Room(AtomicUsize);

impl Room {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn depth(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Somebody who waits for a place; dropped without one, it was turned away.
pub(crate) trait Waiter: Send {
    fn room(&self) -> &Room;
    /// Uses the place that was taken for it, under the lock: it waits for nothing, and runs no code of the
    /// user's. False: it cannot be used any more.
    fn admit(&mut self) -> bool;
    /// Tells of it, after the lock.
    fn tell(&mut self);
}

/// Somebody who is given the place itself.
pub(crate) struct SlotWaiter<O: StreamOwner> {
    strand: Arc<Strand<O>>,
    /// None once it was fulfilled.
    promise: Option<Promise<Slot<O>>>,
}

impl<O: StreamOwner> SlotWaiter<O> {
    pub(crate) fn new(strand: Arc<Strand<O>>, promise: Promise<Slot<O>>) -> Self {
        Self {
            strand,
            promise: Some(promise),
        }
    }
}

impl<O: StreamOwner> Waiter for SlotWaiter<O> {
    fn room(&self) -> &Room {
        self.strand.room()
    }

    fn admit(&mut self) -> bool {
        true
    }

    fn tell(&mut self) {
        if let Some(promise) = self.promise.take() {
            promise.fulfil(Slot::new(Arc::clone(&self.strand)));
        }
    }
}

/// A waiter in a block of the pool, of which it is the only owner.
struct Queued {
    waiter: NonNull<dyn Waiter>,
    class: Class,
}

// SAFETY: the waiter is owned, and is `Send`.
unsafe impl Send for Queued {}

impl Queued {
    fn new<W: Waiter + 'static>(waiter: W) -> Self {
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
struct Line {
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

    fn take_first(&mut self) -> Option<Queued> {
        let taken = self.entries.pop_front()?.waiter;
        self.settle();
        taken
    }

    fn take(&mut self, age: u64) -> Option<Queued> {
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
struct Lines {
    by_room: HashMap<usize, Line>,
    /// The room of each line by the age of its first.
    by_age: BTreeMap<u64, usize>,
    next_age: u64,
    spare: Vec<Line>,
}

impl Lines {
    fn push(&mut self, waiter: Queued) -> u64 {
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
    fn change<R>(&mut self, room: usize, change: impl FnOnce(&mut Line) -> Option<R>) -> Option<R> {
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

    fn first(&self, room: usize) -> Option<&Queued> {
        self.by_room.get(&room)?.first().map(|(_, first)| first)
    }
}

/// The bounds of one executor.
pub(crate) struct Bounds {
    per_stream: usize,
    /// The bound over all streams, and how many are queued.
    total: Option<(usize, AtomicUsize)>,
    /// See [`Bounds::step`].
    step: usize,
    /// How many wait, for any stream.
    waiting: AtomicUsize,
    lines: Mutex<Lines>,
}

impl Bounds {
    /// The bounds for streams that so many workers run.
    pub(crate) fn new(per_stream: usize, total: Option<usize>, workers: usize) -> Self {
        // Each worker has one stream whose places it keeps.
        let bound = total.map_or(per_stream, |total| per_stream.min(total / workers));
        Self {
            per_stream,
            total: total.map(|limit| (limit, AtomicUsize::new(0))),
            step: (bound / STEP_PART).clamp(1, MAX_STEP),
            waiting: AtomicUsize::new(0),
            lines: Mutex::default(),
        }
    }

    pub(crate) fn limits(&self) -> (usize, Option<usize>) {
        let total = self.total.as_ref().map(|(limit, _)| *limit);
        (self.per_stream, total)
    }

    /// Takes a place, unless the queue is full or somebody waits for a place in it.
    #[inline]
    pub(crate) fn try_enter(&self, room: &Room) -> Result<(), RejectReason> {
        if self.total.is_none() && !self.is_waited_for() && take_below(&room.0, self.per_stream) {
            return Ok(());
        }
        self.try_enter_slowly(room)
    }

    #[cold]
    fn try_enter_slowly(&self, room: &Room) -> Result<(), RejectReason> {
        let taken = self.enter(room);
        if matches!(taken, Err(RejectReason::TotalFull { .. })) {
            // The place in the room that was held for a moment may have turned a waiter away.
            self.serve_line(room);
        }
        taken
    }

    /// The same where nobody can be served, as with [`Bounds::vacate`] and [`Bounds::line_up`]: the
    /// caller calls [`Bounds::serve_line`] later.
    #[inline]
    pub(crate) fn enter(&self, room: &Room) -> Result<(), RejectReason> {
        if self.is_waited_for() {
            self.check_lines(room)?;
        }
        self.take(room)
    }

    /// Whether somebody who came before waits for the same place.
    #[cold]
    fn check_lines(&self, room: &Room) -> Result<(), RejectReason> {
        let lines = self.lock();
        if lines.by_room.contains_key(&key(room)) {
            return Err(match &self.total {
                Some((limit, queued)) if queued.load(Ordering::SeqCst) >= *limit => {
                    RejectReason::TotalFull { limit: *limit }
                }
                _ => RejectReason::Full {
                    limit: self.per_stream,
                },
            });
        }
        // Whose own queue has room waits for one of all places.
        let has_room = |&room: &usize| {
            let first = lines.first(room);
            first.is_some_and(|first| first.room().depth() < self.per_stream)
        };
        match &self.total {
            Some((limit, _)) if lines.by_age.values().any(has_room) => {
                Err(RejectReason::TotalFull { limit: *limit })
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn take(&self, room: &Room) -> Result<(), RejectReason> {
        if !take_below(&room.0, self.per_stream) {
            return Err(RejectReason::Full {
                limit: self.per_stream,
            });
        }
        if let Some((limit, queued)) = &self.total
            && !take_below(queued, *limit)
        {
            room.0.fetch_sub(1, Ordering::SeqCst);
            return Err(RejectReason::TotalFull { limit: *limit });
        }
        Ok(())
    }

    /// Gives places back, or to the first waiters.
    #[inline]
    pub(crate) fn leave(&self, room: &Room, places: usize) {
        self.vacate(room, places);
        self.serve_line(room);
    }

    /// Gives places back where nobody can be served.
    #[inline]
    pub(crate) fn vacate(&self, room: &Room, places: usize) {
        // ORDERING: SeqCst, before the look at `waiting` (see the module).
        room.0.fetch_sub(places, Ordering::SeqCst);
        if let Some((_, queued)) = &self.total {
            queued.fetch_sub(places, Ordering::SeqCst);
        }
    }

    /// Hands free places to those who wait, if somebody does.
    #[inline]
    pub(crate) fn serve_line(&self, room: &Room) {
        model_fence();
        if self.is_waited_for() {
            self.serve(room);
        }
    }

    /// How many places an owner that has more to run may keep to itself before it gives them back.
    #[inline]
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    /// Whether somebody waits for a place, in whatever room.
    #[inline]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) != 0
    }

    /// Whether nobody but the room's own stream can make room in it.
    pub(crate) fn is_full(&self, room: &Room) -> bool {
        let depth = room.depth();
        depth >= self.per_stream
            || self
                .total
                .as_ref()
                .is_some_and(|(limit, _)| depth >= *limit)
    }

    /// Whether somebody waits for a place in this room.
    #[inline]
    pub(crate) fn has_line(&self, room: &Room) -> bool {
        self.is_waited_for() && self.has_line_of(room)
    }

    #[cold]
    fn has_line_of(&self, room: &Room) -> bool {
        self.lock().by_room.contains_key(&key(room))
    }

    /// Hands free places to those who wait for this room, or for any if there is a total bound.
    #[cold]
    fn serve(&self, room: &Room) {
        loop {
            let mut lines = self.lock();
            let Some(mut served) = self.next_served(&mut lines, room) else {
                return;
            };
            let admitted = served.admit();
            if !admitted {
                self.vacate(served.room(), 1);
            }
            // Only now, or a newcomer might find nobody in line, and its message be queued first.
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            drop(lines);
            // Its strand may be its last reference, and who is told is the user's: after the lock.
            if admitted {
                served.tell();
            }
        }
    }

    /// The first who waits for a place that is free, which is taken.
    fn next_served(&self, lines: &mut Lines, room: &Room) -> Option<Queued> {
        let takes = |lines: &Lines, room: usize| {
            let first = lines.first(room);
            first.map(|first| self.take(first.room()))
        };
        match &self.total {
            None => {
                takes(lines, key(room))?.ok()?;
                return lines.change(key(room), Line::take_first);
            }
            Some((limit, queued)) if queued.load(Ordering::SeqCst) >= *limit => return None,
            Some(_) => {}
        }
        let mut found = None;
        for &room in lines.by_age.values() {
            match takes(lines, room) {
                Some(Ok(())) => {
                    found = Some(room);
                    break;
                }
                Some(Err(RejectReason::TotalFull { .. })) => break,
                _ => {}
            }
        }
        lines.change(found?, Line::take_first)
    }

    /// Waits in line for a place in the strand's queue, as a waiter that tells of it by its promise; it may
    /// have when this returns.
    pub(crate) fn wait<O: StreamOwner, V: Send + 'static>(
        &self,
        strand: &Arc<Strand<O>>,
        waiter: impl Waiter + 'static,
        told: Completion<V>,
    ) -> InLine<O, V> {
        let place = PoolBox::new(Place {
            strand: Arc::clone(strand),
            age: self.line_up(waiter),
            told: Some(told),
        });
        self.serve_line(strand.room());
        InLine { place }
    }

    /// Puts a waiter in line where nobody can be served; its age.
    pub(crate) fn line_up(&self, waiter: impl Waiter + 'static) -> u64 {
        let waiter = Queued::new(waiter);
        let mut lines = self.lock();
        // ORDERING: SeqCst, before the last look for room in `serve` (see the module).
        self.waiting.fetch_add(1, Ordering::SeqCst);
        lines.push(waiter)
    }

    /// Takes a waiter that is still there out of its line.
    #[cold]
    fn give_up(&self, room: &Room, age: u64) {
        let mut lines = self.lock();
        let gone = lines.change(key(room), |line| line.take(age));
        if gone.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(lines);
        // Its message is the user's.
        drop(gone);
        self.serve_line(room);
    }

    /// Turns everybody away.
    pub(crate) fn close(&self) {
        let mut lines = self.lock();
        let turned_away = std::mem::take(&mut lines.by_room);
        lines.by_age.clear();
        self.waiting.store(0, Ordering::SeqCst);
        drop(lines);
        drop(turned_away);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(room: &Room) -> usize {
    std::ptr::from_ref(room).addr()
}

#[inline]
fn take_below(count: &AtomicUsize, limit: usize) -> bool {
    let mut seen = count.load(Ordering::SeqCst);
    loop {
        if seen >= limit {
            return false;
        }
        match count.compare_exchange_weak(seen, seen + 1, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
}

/// A place in a stream's queue, to be used for one message or given back.
#[must_use = "a dropped slot is given back"]
pub struct Slot<O: StreamOwner>(Option<Arc<Strand<O>>>);

impl<O: StreamOwner> Slot<O> {
    pub(crate) fn new(strand: Arc<Strand<O>>) -> Self {
        Self(Some(strand))
    }

    /// The strand, whose place is used up by the caller.
    pub(crate) fn into_strand(mut self) -> Arc<Strand<O>> {
        self.0.take().expect("a slot is used once")
    }
}

impl<O: StreamOwner> Drop for Slot<O> {
    fn drop(&mut self) {
        if let Some(strand) = self.0.take() {
            strand.leave_room();
        }
    }
}

impl<O: StreamOwner> std::fmt::Debug for Slot<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.0).finish()
    }
}

/// A place in line, a future of what its waiter is told; dropped before it is ready, it is given up.
///
/// It fails when the executor turns everybody away.
#[must_use = "futures do nothing unless polled"]
pub struct InLine<O: StreamOwner, V> {
    // One word: every execution has room for it.
    place: PoolBox<Place<O, V>>,
}

struct Place<O: StreamOwner, V> {
    strand: Arc<Strand<O>>,
    age: u64,
    /// None once it was ready.
    told: Option<Completion<V>>,
}

impl<O: StreamOwner, V> Unpin for InLine<O, V> {}

impl<O: StreamOwner, V> Future for InLine<O, V> {
    type Output = Result<V, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let told = self.place.told.as_mut().expect("it was not ready before");
        let told = ready!(Pin::new(told).poll(context));
        self.place.told = None;
        Poll::Ready(told)
    }
}

impl<O: StreamOwner, V> Drop for Place<O, V> {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            drop(told);
            let shared = self.strand.owner().shared();
            shared.room().give_up(self.strand.room(), self.age);
        }
    }
}

impl<O: StreamOwner, V> std::fmt::Debug for InLine<O, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InLine").finish_non_exhaustive()
    }
}
