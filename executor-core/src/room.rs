//! Bounds on what is queued: for each stream, and for all streams of an executor together.
//!
//! Entering and leaving are one atomic operation each (two with a total bound) while nobody waits.
//! Waiters are served in order; a place that becomes free is handed to the first of them, so that
//! nobody can overtake.
//!
//! No waiter is forgotten: it announces itself (`waiting`) before it looks for room a last time,
//! and whoever leaves makes room before looking for waiters; both are `SeqCst`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use crate::completion::Completion;
use crate::error::RejectReason;
use crate::strand::{Strand, StreamOwner};
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicUsize, Ordering, model_fence};
use crate::task::{Promise, promise};

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
trait Waiter: Send {
    fn room(&self) -> &Room;
    fn is_awaited(&self) -> bool;
    /// Hands over the place that was taken for it.
    fn grant(self: Box<Self>);
}

struct StrandWaiter<O: StreamOwner> {
    strand: Arc<Strand<O>>,
    promise: Promise<Slot<O>>,
}

impl<O: StreamOwner> Waiter for StrandWaiter<O> {
    fn room(&self) -> &Room {
        self.strand.room()
    }

    fn is_awaited(&self) -> bool {
        self.promise.is_awaited()
    }

    fn grant(self: Box<Self>) {
        let Self { strand, promise } = *self;
        promise.fulfil(Slot::new(strand));
    }
}

/// The bounds of one executor.
pub(crate) struct Bounds {
    per_stream: usize,
    /// The bound over all streams, and how many are queued.
    total: Option<(usize, AtomicUsize)>,
    /// How many wait, for any stream.
    waiting: AtomicUsize,
    waiters: Mutex<HashMap<usize, VecDeque<Box<dyn Waiter>>>>,
}

impl Bounds {
    pub(crate) fn new(per_stream: usize, total: Option<usize>) -> Self {
        Self {
            per_stream,
            total: total.map(|limit| (limit, AtomicUsize::new(0))),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        }
    }

    /// Takes a place, unless the queue is full or somebody waits for a place in it.
    #[inline]
    pub(crate) fn try_enter(&self, room: &Room) -> Result<(), RejectReason> {
        if self.waiting.load(Ordering::SeqCst) != 0 && self.lock().contains_key(&key(room)) {
            return Err(RejectReason::Full {
                limit: self.per_stream,
            });
        }
        let taken = self.take(room);
        if matches!(taken, Err(RejectReason::TotalFull { .. })) {
            // The place in the room that was held for a moment may have turned a waiter away.
            model_fence();
            if self.waiting.load(Ordering::SeqCst) != 0 {
                self.serve(room);
            }
        }
        taken
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

    /// Gives a place back, or to the first waiter.
    #[inline]
    pub(crate) fn leave(&self, room: &Room) {
        // ORDERING: SeqCst, before the look at `waiting` (see the module).
        room.0.fetch_sub(1, Ordering::SeqCst);
        if let Some((_, queued)) = &self.total {
            queued.fetch_sub(1, Ordering::SeqCst);
        }
        model_fence();
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.serve(room);
        }
    }

    /// Hands free places to those who wait for this room, or for any if the total was the limit.
    #[cold]
    fn serve(&self, room: &Room) {
        loop {
            // A waiter's strand may be its last reference: it is dropped after the lock.
            let mut gone = Vec::new();
            let mut waiters = self.lock();
            let granted = self
                .next_granted(&mut waiters, &mut gone, key(room))
                .or_else(|| {
                    let keys: Vec<_> = if self.total.is_some() {
                        waiters.keys().copied().collect()
                    } else {
                        Vec::new()
                    };
                    keys.into_iter()
                        .find_map(|key| self.next_granted(&mut waiters, &mut gone, key))
                });
            drop(waiters);
            drop(gone);
            match granted {
                Some(waiter) => waiter.grant(),
                None => return,
            }
        }
    }

    /// The first live waiter of a room, with a place taken for it.
    fn next_granted(
        &self,
        waiters: &mut HashMap<usize, VecDeque<Box<dyn Waiter>>>,
        gone: &mut Vec<Box<dyn Waiter>>,
        key: usize,
    ) -> Option<Box<dyn Waiter>> {
        let queue = waiters.get_mut(&key)?;
        while queue.front().is_some_and(|waiter| !waiter.is_awaited()) {
            gone.extend(queue.pop_front());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        let granted = match queue.front() {
            Some(first) if self.take(first.room()).is_ok() => {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                queue.pop_front()
            }
            _ => None,
        };
        if queue.is_empty() {
            waiters.remove(&key);
        }
        granted
    }

    /// Waits in line for a place in the strand's queue.
    pub(crate) fn wait<O: StreamOwner>(&self, strand: &Arc<Strand<O>>) -> Completion<Slot<O>> {
        let (promise, completion) = promise();
        let waiter = Box::new(StrandWaiter {
            strand: Arc::clone(strand),
            promise,
        });
        let mut waiters = self.lock();
        let queue = waiters.entry(key(strand.room())).or_default();
        // Those who gave up at the end of the line leave with the next who comes.
        let (awaited, gone) = queue
            .drain(..)
            .partition::<VecDeque<_>, _>(|waiter| waiter.is_awaited());
        *queue = awaited;
        self.waiting.fetch_sub(gone.len(), Ordering::SeqCst);
        queue.push_back(waiter);
        // ORDERING: SeqCst, before the last look for room in `serve` (see the module).
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(waiters);
        drop(gone);
        model_fence();
        self.serve(strand.room());
        completion
    }

    /// Turns everybody away; their completions end as aborted.
    pub(crate) fn close(&self) {
        let mut waiters = self.lock();
        let turned_away = std::mem::take(&mut *waiters);
        self.waiting.store(0, Ordering::SeqCst);
        drop(waiters);
        drop(turned_away);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, VecDeque<Box<dyn Waiter>>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
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
