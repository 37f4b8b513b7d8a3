//! Loom models of the permits: the shards are the crate's own, the gate is a stand-in that does with
//! them what `gate` does.
//!
//! Run by `ci.sh loom`. Threads have shards of their own, given by number.

use std::sync::atomic::AtomicUsize as Plain;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

use crate::permits::{Attempt, Given, Permits};

const LIMIT: usize = 1;

/// What lies under the gate's lock.
#[derive(Default)]
struct Line {
    waiters: usize,
    /// What was not counted with its permit.
    handled: u64,
    frozen: bool,
}

struct Gate {
    permits: Permits,
    line: Mutex<Line>,
    /// Handlers that are live.
    live: Plain,
    /// Counted by handlers, without an order of its own: one that does not see what the handler
    /// before it did counts wrong.
    handled: AtomicUsize,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            permits: Permits::with_shards(LIMIT, 2),
            line: Mutex::new(Line::default()),
            live: Plain::new(0),
            handled: AtomicUsize::new(0),
        })
    }

    fn handle(&self) {
        assert!(self.live.fetch_add(1, SeqCst) < LIMIT, "above the limit");
        let handled = self.handled.load(loom::sync::atomic::Ordering::Relaxed);
        thread::yield_now();
        self.handled
            .store(handled + 1, loom::sync::atomic::Ordering::Relaxed);
        self.live.fetch_sub(1, SeqCst);
    }

    /// As `Gate::freeze`.
    fn freeze(&self, line: &mut Line) {
        if !line.frozen {
            line.frozen = true;
            self.permits.freeze();
        }
    }

    /// As `Gate::thaw_if_calm`.
    fn thaw_if_calm(&self, line: &mut Line) {
        if line.waiters == 0 && line.frozen {
            line.frozen = false;
            self.permits.thaw();
        }
    }

    /// As `Gate::try_take`, then `Gate::wait`; true: taken, false: in line.
    fn take_or_wait(&self, shard: usize) -> bool {
        if self.permits.try_take_at(shard) == Attempt::Taken {
            return true;
        }
        let mut line = self.lock();
        self.freeze(&mut line);
        let taken = line.waiters == 0 && self.permits.take_frozen();
        line.waiters += usize::from(!taken);
        self.thaw_if_calm(&mut line);
        taken
    }

    /// As `Gate::give_handled` and `Gate::serve`; whoever is served runs here.
    fn give(&self, shard: usize) {
        match self.permits.give_handled_at(shard) {
            Given::Back => return,
            Given::BackAndFull(_) => unreachable!("nobody counts so far"),
            Given::AskGate => {}
        }
        let mut line = self.lock();
        line.handled += 1;
        self.permits.add_at(shard, 1);
        let served = line.waiters > 0 && self.permits.take_frozen();
        line.waiters -= usize::from(served);
        self.thaw_if_calm(&mut line);
        drop(line);
        if served {
            self.handle();
            self.give(shard);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    fn use_permit(&self, shard: usize) {
        if self.take_or_wait(shard) {
            self.handle();
            self.give(shard);
        }
    }

    fn assert_whole(&self, handled: usize) {
        assert_eq!(
            self.handled.load(loom::sync::atomic::Ordering::Relaxed),
            handled
        );
        let line = self.lock();
        assert_eq!(line.waiters, 0, "somebody waits for ever");
        assert_eq!(line.handled + self.permits.handled(), handled as u64);
        assert_eq!(self.permits.free(), LIMIT);
    }
}

#[test]
fn two_handlers_share_a_permit_and_nobody_waits_for_ever() {
    loom::model(|| {
        let gate = Gate::new();
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.use_permit(1));
        gate.use_permit(0);
        thread.join().unwrap();
        gate.assert_whole(2);
    });
}

#[test]
fn three_handlers_share_a_permit_and_nobody_waits_for_ever() {
    loom::model(|| {
        let gate = Gate::new();
        let threads = [1, 0].map(|shard| {
            let other = Arc::clone(&gate);
            thread::spawn(move || other.use_permit(shard))
        });
        gate.use_permit(0);
        for thread in threads {
            thread.join().unwrap();
        }
        gate.assert_whole(3);
    });
}

#[test]
fn what_is_counted_under_the_lock_does_not_move() {
    loom::model(|| {
        let gate = Gate::new();
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.use_permit(1));
        let mut line = gate.lock();
        gate.freeze(&mut line);
        let free = gate.permits.free();
        thread::yield_now();
        assert_eq!(gate.permits.free(), free);
        gate.thaw_if_calm(&mut line);
        drop(line);
        thread.join().unwrap();
        gate.assert_whole(1);
    });
}

#[test]
fn permits_that_move_between_shards_are_waited_for_before_they_are_counted() {
    loom::model(|| {
        // All lie in the first shard; who looks in the second takes one, and moves another.
        let permits = Arc::new(Permits::with_shards(0, 2));
        permits.add_at(0, 4);
        let other = Arc::clone(&permits);
        let thread = thread::spawn(move || other.try_take_at(1) == Attempt::Taken);
        permits.freeze();
        let free = permits.free();
        permits.thaw();
        let taken = thread.join().unwrap();
        assert!(free == 4 || (taken && free == 3), "{free} are seen");
        assert_eq!(permits.free(), 4 - usize::from(taken));
    });
}
