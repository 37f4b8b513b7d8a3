//! The tasks without a stream that wait for a wake, so that a shutdown can find them.
//!
//! A task is noted when it is pending for the first time and struck out before it is done; what is
//! ready at its first poll never comes here. One lock for each worker, taken by that worker and, to
//! strike out, by whichever worker finishes the task.

use std::ptr::NonNull;
use std::sync::PoisonError;

use crossbeam_utils::CachePadded;

use crate::cell::{CellRef, Header};
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicUsize, Ordering};
use crate::thread_id;

/// A shard's notes: tasks, and which places are vacant.
struct Notes {
    tasks: Vec<Option<NonNull<Header>>>,
    vacant: Vec<u32>,
}

/// For how many tasks a shard has room from the start.
const ROOM: usize = 64;

impl Notes {
    fn new() -> Self {
        Self {
            tasks: Vec::with_capacity(ROOM),
            vacant: Vec::with_capacity(ROOM),
        }
    }
}

/// The notes of some threads, and how many there are.
type Shard = CachePadded<(Mutex<Notes>, AtomicUsize)>;

/// All notes.
pub(crate) struct Waiting {
    shards: Box<[Shard]>,
}

// SAFETY: the notes are pointers to cells, which are used under the shard's lock while noted.
unsafe impl Send for Waiting {}
// SAFETY: as above.
unsafe impl Sync for Waiting {}

impl Waiting {
    pub(crate) fn new(shards: usize) -> Self {
        let shard = || CachePadded::new((Mutex::new(Notes::new()), AtomicUsize::new(0)));
        Self {
            shards: (0..shards.next_power_of_two()).map(|_| shard()).collect(),
        }
    }

    /// Notes a task that is pending and still the caller's.
    pub(crate) fn note(&self, cell: NonNull<Header>) -> u64 {
        let shard = thread_id::current() & (self.shards.len() - 1);
        let mut notes = self.lock(shard);
        self.shards[shard].1.fetch_add(1, Ordering::SeqCst);
        let place = notes.vacant.pop().unwrap_or_else(|| {
            notes.tasks.push(None);
            u32::try_from(notes.tasks.len() - 1)
                .expect("fewer than 2^32 waiting tasks for a worker")
        });
        notes.tasks[place as usize] = Some(cell);
        (shard as u64) << 32 | u64::from(place)
    }

    /// Strikes a task out, before it is done.
    pub(crate) fn strike(&self, note: u64) {
        let (shard, place) = ((note >> 32) as usize, note as u32);
        let mut notes = self.lock(shard);
        notes.tasks[place as usize] = None;
        notes.vacant.push(place);
        if notes.vacant.len() == notes.tasks.len() && notes.tasks.len() > 1_024 {
            *notes = Notes::new();
        }
        self.shards[shard].1.fetch_sub(1, Ordering::SeqCst);
    }

    /// References to all tasks, with which the caller can do what must not be done under the lock.
    pub(crate) fn held(&self) -> Vec<CellRef> {
        let mut held = Vec::new();
        for shard in 0..self.shards.len() {
            let notes = self.lock(shard);
            let tasks = notes.tasks.iter().flatten();
            // SAFETY: a noted task is not done, so it and its home live while it is noted.
            held.extend(tasks.map(|&cell| unsafe { CellRef::new(cell) }));
        }
        held
    }

    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.1.load(Ordering::SeqCst))
            .sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards
            .iter()
            .all(|shard| shard.1.load(Ordering::SeqCst) == 0)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Notes> {
        self.shards[shard]
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
