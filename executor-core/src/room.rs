//! Bounds on what is queued: for each stream, and for all streams of an executor together.
//!
//! Entering and leaving are one atomic operation each (two with a total bound) while nobody waits.
//! Waiters are served in order; a place that becomes free is handed to the first of them, so that
//! nobody can overtake.
//!
//! Waiters lie in blocks of the pool, and lines are reused: to wait allocates nothing once warm.
//!
//! No waiter is forgotten: it announces itself (`waiting`) before it looks for room a last time,
//! and whoever leaves makes room before looking for waiters; both are `SeqCst`.

use std::alloc::Layout;
use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};

use crate::completion::Completion;
use crate::error::RejectReason;
use crate::pool::{self, Class};
use crate::strand::{Strand, StreamOwner};
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicUsize, Ordering, model_fence};
use crate::task::{Promise, promise};

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

/// Somebody who waits for a place.
pub(crate) trait Waiter: Send {
    fn room(&self) -> &Room;
    fn is_awaited(&self) -> bool;
    /// Hands over the place that was taken for it; at most once.
    fn grant(&mut self);
}

struct StrandWaiter<O: StreamOwner> {
    strand: Arc<Strand<O>>,
    /// None once it was fulfilled.
    promise: Option<Promise<Slot<O>>>,
}

impl<O: StreamOwner> Waiter for StrandWaiter<O> {
    fn room(&self) -> &Room {
        self.strand.room()
    }

    fn is_awaited(&self) -> bool {
        self.promise.as_ref().is_some_and(Promise::is_awaited)
    }

    fn grant(&mut self) {
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

/// Who waits for a place in one room, first come first.
type Line = VecDeque<Queued>;

/// Who waits, by room, and lines that were used before: a line that comes and goes allocates nothing.
#[derive(Default)]
struct Lines {
    by_room: HashMap<usize, Line>,
    spare: Vec<Line>,
}

impl Lines {
    fn of(&mut self, room: &Room) -> &mut Line {
        self.by_room
            .entry(key(room))
            .or_insert_with(|| self.spare.pop().unwrap_or_default())
    }

    /// Forgets the room's line when it is empty.
    fn tidy_one(&mut self, room: usize) {
        if self.by_room.get(&room).is_some_and(VecDeque::is_empty)
            && let Some(line) = self.by_room.remove(&room)
        {
            keep(&mut self.spare, line);
        }
    }

    /// Forgets all empty lines.
    fn tidy(&mut self) {
        self.by_room.retain(|_, line| {
            let is_empty = line.is_empty();
            if is_empty {
                keep(&mut self.spare, std::mem::take(line));
            }
            !is_empty
        });
    }
}

fn keep(spare: &mut Vec<Line>, line: Line) {
    if spare.len() < SPARE_LINES && line.capacity() <= SPARE_WAITERS {
        spare.push(line);
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
        if self.is_waited_for() && self.lock().by_room.contains_key(&key(room)) {
            return Err(RejectReason::Full {
                limit: self.per_stream,
            });
        }
        self.take(room)
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

    /// Hands free places to those who wait for this room, or for any if the total was the limit.
    #[cold]
    fn serve(&self, room: &Room) {
        loop {
            // A waiter's strand may be its last reference: it is dropped after the lock.
            let mut gone = Vec::new();
            let mut lines = self.lock();
            let mut granted = (lines.by_room.get_mut(&key(room)))
                .and_then(|line| self.next_granted(line, &mut gone));
            if granted.is_none() && self.total.is_some() {
                granted = (lines.by_room.values_mut())
                    .find_map(|line| self.next_granted(line, &mut gone));
                lines.tidy();
            } else {
                lines.tidy_one(key(room));
            }
            drop(lines);
            drop(gone);
            match granted {
                Some(mut waiter) => waiter.grant(),
                None => return,
            }
        }
    }

    /// The first live waiter of a line, with a place taken for it.
    fn next_granted(&self, line: &mut Line, gone: &mut Vec<Queued>) -> Option<Queued> {
        while line.front().is_some_and(|waiter| !waiter.is_awaited()) {
            gone.extend(line.pop_front());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        let first = line.front()?;
        self.take(first.room()).ok()?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        line.pop_front()
    }

    /// Waits in line for a place in the strand's queue; it may be there when this returns.
    pub(crate) fn wait<O: StreamOwner>(&self, strand: &Arc<Strand<O>>) -> Completion<Slot<O>> {
        let (promise, completion) = promise();
        let waiter = Queued::new(StrandWaiter {
            strand: Arc::clone(strand),
            promise: Some(promise),
        });
        let mut gone = Vec::new();
        let mut lines = self.lock();
        let line = lines.of(strand.room());
        // Those who gave up in the middle of the line leave with the next who comes.
        for _ in 0..line.len() {
            match line.pop_front() {
                Some(waiter) if waiter.is_awaited() => line.push_back(waiter),
                given_up => gone.extend(given_up),
            }
        }
        self.waiting.fetch_sub(gone.len(), Ordering::SeqCst);
        self.push(line, waiter);
        drop(lines);
        drop(gone);
        self.serve_line(strand.room());
        completion
    }

    /// Puts a waiter in line where nobody can be served.
    pub(crate) fn line_up(&self, room: &Room, waiter: impl Waiter + 'static) {
        let waiter = Queued::new(waiter);
        self.push(self.lock().of(room), waiter);
    }

    fn push(&self, line: &mut Line, waiter: Queued) {
        line.push_back(waiter);
        // ORDERING: SeqCst, before the last look for room in `serve` (see the module).
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// Turns everybody away; their completions end as aborted.
    pub(crate) fn close(&self) {
        let mut lines = self.lock();
        let turned_away = std::mem::take(&mut *lines);
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
