//! Loom models of the words: what is plain memory in the crate is a tracked cell here.
//!
//! Run by `ci.sh loom`. A cell that is freed is marked, not returned, so that a later touch is seen.

mod cell;
mod pool;
mod time;

use std::sync::atomic::AtomicUsize as Plain;
use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::core::leftovers::Leftovers;
use crate::sleep::{Lain, Sleepers};
use crate::strand_word::{LetGo, Push, StrandWord};
use crate::sync::{AtomicUsize, Ordering, model_fence};
use crate::time::wheel::NEVER;

// ---- a stream's word -------------------------------------------------------------------------

#[repr(align(64))]
struct Node {
    next: UnsafeCell<usize>,
    value: UnsafeCell<u32>,
}

struct Stream {
    word: StrandWord,
    /// What was handled, in order; the owner's alone.
    state: UnsafeCell<Vec<u32>>,
}

// SAFETY: loom tracks the accesses, which is the point of the model.
unsafe impl Sync for Stream {}
// SAFETY: as above.
unsafe impl Send for Stream {}

impl Stream {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: StrandWord::new(),
            state: UnsafeCell::new(Vec::new()),
        })
    }

    fn note(&self, value: u32) {
        // SAFETY: the caller owns the stream.
        self.state.with_mut(|state| unsafe { (*state).push(value) });
    }

    fn handled(&self) -> Vec<u32> {
        // SAFETY: all threads were joined.
        self.state.with(|state| unsafe { (*state).clone() })
    }

    fn push(&self, value: u32) {
        let node = Node {
            next: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        };
        let node = Box::into_raw(Box::new(node));
        // SAFETY: the pusher owns the node until the push.
        let link = |next| unsafe { (*node).next.with_mut(|field| *field = next) };
        match self.word.push(node.expose_provenance(), link) {
            Push::Scheduled => self.run(),
            Push::Queued => {}
            Push::Closed => unreachable!("nobody closes it"),
        }
    }

    /// The owner's loop.
    fn run(&self) {
        loop {
            let mut newest = self.word.take();
            if newest == 0 {
                if self.word.let_go() == LetGo::Kept {
                    continue;
                }
                return;
            }
            let mut values = Vec::new();
            while newest != 0 {
                // SAFETY: the owner took the list, each node once.
                let node =
                    unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<Node>(newest)) };
                // SAFETY: as above.
                values.push(node.value.with(|value| unsafe { *value }));
                // SAFETY: as above.
                newest = node.next.with(|next| unsafe { *next });
            }
            values.into_iter().rev().for_each(|value| self.note(value));
        }
    }
}

#[test]
fn every_cell_is_taken_once_and_in_order() {
    loom::model(|| {
        let stream = Stream::new();
        let other = Arc::clone(&stream);
        let producer = thread::spawn(move || other.push(10));
        stream.push(1);
        stream.push(2);
        producer.join().unwrap();
        let mut handled = stream.handled();
        assert!(!stream.word.is_busy());
        handled.retain(|&value| value != 10);
        assert_eq!(handled, [1, 2]);
        assert_eq!(stream.handled().len(), 3);
    });
}

#[test]
fn a_caller_run_excludes_a_push() {
    loom::model(|| {
        let stream = Stream::new();
        let other = Arc::clone(&stream);
        let producer = thread::spawn(move || other.push(10));
        let owned = stream.word.try_own();
        if owned {
            stream.note(1);
            if stream.word.let_go() == LetGo::Kept {
                stream.run();
            }
        }
        producer.join().unwrap();
        assert_eq!(stream.handled().len(), 1 + usize::from(owned));
        assert!(!stream.word.is_busy());
    });
}

#[test]
fn a_wake_resumes_a_parked_handler_once() {
    loom::model(|| {
        let stream = Stream::new();
        let cause = Arc::new(UnsafeCell::new(0));
        assert!(stream.word.try_own());
        let (other, written) = (Arc::clone(&stream), Arc::clone(&cause));
        let waker = thread::spawn(move || {
            // SAFETY: read only after the wake.
            written.with_mut(|cause| unsafe { *cause = 1 });
            if other.word.wake() {
                other.note(1);
            }
        });
        stream.note(0);
        if !stream.word.park() {
            // SAFETY: the wake came before.
            assert_eq!(cause.with(|cause| unsafe { *cause }), 1);
            stream.note(1);
        }
        waker.join().unwrap();
        assert_eq!(stream.handled(), [0, 1]);
    });
}

// ---- who sleeps ------------------------------------------------------------------------------

/// A lane of one piece of work, and workers that end where they would park.
struct Workers {
    sleepers: Sleepers,
    lane: AtomicUsize,
    woken: Plain,
}

impl Workers {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sleepers: Sleepers::new(2),
            lane: AtomicUsize::new(0),
            woken: Plain::new(0),
        })
    }

    fn has_work(&self) -> bool {
        self.lane.load(Ordering::SeqCst) != 0
    }

    fn wake_one(&self) {
        if self.sleepers.wake_one().is_some() {
            self.woken.fetch_add(1, SeqCst);
        }
    }

    /// The caller is no worker, or one that is awake.
    fn push(&self) {
        self.lane.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.wake_for_work().is_some() {
            self.woken.fetch_add(1, SeqCst);
        }
    }

    /// As a worker does that found nothing; true: it took the work, false: it sleeps.
    fn take_or_sleep(&self, index: usize) -> bool {
        self.search_or_sleep(index, self.sleepers.start_searching())
    }

    fn search_or_sleep(&self, index: usize, mut searching: bool) -> bool {
        loop {
            if self.lane.swap(0, Ordering::Acquire) != 0 {
                if searching {
                    self.sleepers.stop_searching();
                    if self.has_work() {
                        self.wake_one();
                    }
                }
                return true;
            }
            let last_look = || self.has_work();
            let lain = (self.sleepers).lie_down(index, searching, NEVER, false, last_look);
            if lain != Lain::Up {
                return false;
            }
            searching = true;
        }
    }

    /// As a worker does that found nothing, naps, and looks again; unless it is woken it sleeps then.
    fn nap(&self) {
        let last_look = || self.has_work();
        let lain = self.sleepers.lie_down(0, false, NEVER, true, last_look);
        let up = match lain {
            Lain::Up => true,
            Lain::Down { naps, .. } => {
                assert!(naps, "nobody else naps");
                self.sleepers.get_up(0)
            }
        };
        if up {
            self.search_or_sleep(0, true);
        }
    }

    /// As a worker does that leaves for good.
    fn retire(&self) {
        if self.sleepers.start_searching() {
            self.sleepers.stop_searching();
            model_fence();
            if self.has_work() {
                self.wake_one();
            }
        }
    }

    fn assert_no_lost_wake(&self) {
        assert!(
            !self.has_work() || self.woken.load(SeqCst) != 0,
            "work, and everybody sleeps"
        );
    }
}

#[test]
fn a_push_meets_a_worker_that_lies_down() {
    loom::model(|| {
        let workers = Workers::new();
        let other = Arc::clone(&workers);
        let sleeper = thread::spawn(move || other.take_or_sleep(0));
        workers.push();
        sleeper.join().unwrap();
        workers.assert_no_lost_wake();
    });
}

#[test]
fn what_is_pushed_while_a_worker_naps_is_found_when_it_gets_up() {
    loom::model(|| {
        let workers = Workers::new();
        let other = Arc::clone(&workers);
        let napper = thread::spawn(move || other.nap());
        workers.push();
        napper.join().unwrap();
        workers.assert_no_lost_wake();
    });
}

#[test]
fn a_searcher_that_leaves_passes_the_push_on() {
    loom::model(|| {
        let workers = Workers::new();
        let other = Arc::clone(&workers);
        let sleeper = thread::spawn(move || other.take_or_sleep(0));
        let other = Arc::clone(&workers);
        let leaver = thread::spawn(move || other.retire());
        workers.push();
        sleeper.join().unwrap();
        leaver.join().unwrap();
        workers.assert_no_lost_wake();
    });
}

// ---- when the last worker is gone ------------------------------------------------------------

#[test]
fn what_is_pushed_when_nobody_is_left_is_run_by_who_pushed_or_who_is_at_it() {
    struct Left {
        leftovers: Leftovers,
        lane: AtomicUsize,
        ran: UnsafeCell<usize>,
    }
    // SAFETY: loom tracks the accesses, which is the point of the model.
    unsafe impl Sync for Left {}

    impl Left {
        fn push(&self) {
            self.lane.fetch_add(1, Ordering::SeqCst);
            self.leftovers.run(
                || self.lane.load(Ordering::SeqCst) != 0,
                || {
                    let taken = self.lane.swap(0, Ordering::Acquire);
                    // SAFETY: whoever runs is alone, which loom checks.
                    self.ran.with_mut(|ran| unsafe { *ran += taken });
                },
            );
        }
    }

    loom::model(|| {
        let left = Arc::new(Left {
            leftovers: Leftovers::new(),
            lane: AtomicUsize::new(0),
            ran: UnsafeCell::new(0),
        });
        let other = Arc::clone(&left);
        let pusher = thread::spawn(move || other.push());
        left.push();
        pusher.join().unwrap();
        // SAFETY: all threads were joined.
        assert_eq!(left.ran.with(|ran| unsafe { *ran }), 2);
    });
}
