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

mod line;
mod place;

use std::sync::{Arc, PoisonError};

pub(crate) use self::line::Waiter;
use self::line::{Line, Lines, Queued, key};
pub(crate) use self::place::SlotWaiter;
pub use self::place::{InLine, Slot};
use crate::completion::Completion;
use crate::error::RejectReason;
use crate::strand::{Strand, StreamOwner};
use crate::strand_word::Push;
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicUsize, Ordering, model_fence};

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
        if lines.has(key(room)) {
            return Err(match self.reached_total() {
                Some(limit) => RejectReason::TotalFull { limit },
                None => RejectReason::Full {
                    limit: self.per_stream,
                },
            });
        }
        // Whose own queue has room waits for one of all places.
        let has_room = |(_, first): (_, &Queued)| first.room().depth() < self.per_stream;
        match &self.total {
            Some((limit, _)) if lines.firsts().any(has_room) => {
                Err(RejectReason::TotalFull { limit: *limit })
            }
            _ => Ok(()),
        }
    }

    /// The bound over all streams, if so many are queued.
    fn reached_total(&self) -> Option<usize> {
        let (limit, queued) = self.total.as_ref()?;
        (queued.load(Ordering::SeqCst) >= *limit).then_some(*limit)
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
        self.lock().has(key(room))
    }

    /// Hands free places to those who wait for this room, or for any if there is a total bound.
    #[cold]
    fn serve(&self, room: &Room) {
        loop {
            let mut lines = self.lock();
            let Some(mut served) = self.next_served(&mut lines, room) else {
                return;
            };
            let pushed = served.admit();
            if pushed == Push::Closed {
                self.vacate(served.room(), 1);
            }
            // Only now, or a newcomer might find nobody in line, and its message be queued first.
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            drop(lines);
            // Its strand may be its last reference, and who is told is the user's: after the lock.
            if pushed != Push::Closed {
                served.tell(pushed);
            }
        }
    }

    /// The first who waits for a place that is free, which is taken.
    fn next_served(&self, lines: &mut Lines, room: &Room) -> Option<Queued> {
        let room = if self.total.is_some() {
            self.take_for_oldest(lines)?
        } else {
            let room = key(room);
            self.take(lines.first(room)?.room()).ok()?;
            room
        };
        lines.change(room, Line::take_first)
    }

    /// The room of the oldest waiter whose place is free, which is taken.
    fn take_for_oldest(&self, lines: &Lines) -> Option<usize> {
        if self.reached_total().is_some() {
            return None;
        }
        for (room, first) in lines.firsts() {
            match self.take(first.room()) {
                Ok(()) => return Some(room),
                Err(RejectReason::TotalFull { .. }) => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Waits in line for a place in the strand's queue, as a waiter that tells of it by its promise; it may
    /// have when this returns.
    pub(crate) fn wait<O: StreamOwner, V: Send + 'static>(
        &self,
        strand: &Arc<Strand<O>>,
        waiter: impl Waiter + 'static,
        told: Completion<V>,
    ) -> InLine<O, V> {
        let in_line = InLine::new(Arc::clone(strand), self.line_up(waiter), told);
        self.serve_line(strand.room());
        in_line
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
        let turned_away = lines.take_all();
        self.waiting.store(0, Ordering::SeqCst);
        drop(lines);
        drop(turned_away);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
