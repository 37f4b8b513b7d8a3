//! Loom models of the permits: the shards are the crate's own, the gate is a stand-in that does with
//! them what `gate` does.
//!
//! Run by `ci.sh loom`. Threads have shards of their own, given by number.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::AtomicUsize as Plain;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread::{self, Thread};

use crate::gate::Served;
use crate::permits::{Attempt, Given, Mode, Permits};

/// A caller in line, and whom to wake.
struct Caller {
    ticket: NonZero<u64>,
    thread: Thread,
}

/// What lies under the gate's lock.
#[derive(Default)]
struct Line {
    /// Who waits, the first first: a caller, or a message.
    waiters: VecDeque<Option<Caller>>,
    last_ticket: u64,
    /// What was not counted with its permit.
    handled: u64,
    mode: Mode,
}

impl Line {
    fn needs(&self) -> Mode {
        match self.waiters.iter().any(Option::is_some) {
            true => Mode::Frozen,
            false if self.waiters.is_empty() => Mode::Open,
            false => Mode::Awaited,
        }
    }

    fn push(&mut self, is_caller: bool) -> Place {
        if !is_caller {
            self.waiters.push_back(None);
            return Place::OfMessage;
        }
        self.last_ticket += 1;
        let ticket = NonZero::new(self.last_ticket).expect("not 0");
        let thread = thread::current();
        self.waiters.push_back(Some(Caller { ticket, thread }));
        Place::OfCaller(ticket)
    }
}

/// What became of somebody who wants a permit.
#[derive(PartialEq, Eq)]
enum Place {
    Taken,
    OfCaller(NonZero<u64>),
    OfMessage,
}

struct Gate {
    permits: Permits,
    limit: usize,
    line: Mutex<Line>,
    served: Served,
    /// Whether what is given first is handed on together with what comes after it.
    puts_off: bool,
    /// Handlers that are live.
    live: Plain,
    /// Counted by handlers, without an order of its own: one that does not see what the handler
    /// before it did, under a limit of one, counts wrong.
    handled: AtomicUsize,
}

impl Gate {
    fn new(limit: usize, puts_off: bool) -> Arc<Self> {
        Arc::new(Self {
            permits: Permits::with_shards(limit, 2),
            limit,
            line: Mutex::new(Line::default()),
            served: Served::nobody(),
            puts_off,
            live: Plain::new(0),
            handled: AtomicUsize::new(0),
        })
    }

    fn handle(&self) {
        assert!(
            self.live.fetch_add(1, SeqCst) < self.limit,
            "above the limit"
        );
        if self.limit == 1 {
            let handled = self.handled.load(loom::sync::atomic::Ordering::Relaxed);
            thread::yield_now();
            self.handled
                .store(handled + 1, loom::sync::atomic::Ordering::Relaxed);
        } else {
            self.handled
                .fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
        }
        self.live.fetch_sub(1, SeqCst);
    }

    /// As `Gate::restrict`.
    fn restrict(&self, line: &mut Line, mode: Mode) {
        if line.mode < mode {
            self.permits.change_mode(line.mode, mode);
            line.mode = mode;
        }
    }

    /// As `Gate::relax_if_calm`, at once.
    fn relax(&self, line: &mut Line) {
        let needed = line.needs();
        if needed != line.mode {
            self.permits.change_mode(line.mode, needed);
            line.mode = needed;
        }
    }

    /// As `Gate::try_take`, then `Gate::take_or_line_up` or `Gate::submit`.
    fn take_or_wait(&self, shard: usize, is_caller: bool) -> Place {
        if self.permits.try_take_at(shard) == Attempt::Taken {
            return Place::Taken;
        }
        let mut line = self.lock();
        let behind_messages = is_caller && line.needs() == Mode::Awaited;
        let mode = if is_caller {
            Mode::Frozen
        } else {
            Mode::Awaited
        };
        self.restrict(&mut line, mode);
        let place = if line.waiters.is_empty() && self.permits.take() {
            Place::Taken
        } else {
            line.push(is_caller)
        };
        self.relax(&mut line);
        drop(line);
        if behind_messages {
            self.serve(shard);
        }
        place
    }

    /// As `Gate::tell`: a message runs here, and a caller where it is.
    fn tell(&self, shard: usize, waiter: Option<Caller>) {
        match waiter {
            Some(caller) => caller.thread.unpark(),
            None => {
                self.handle();
                self.give(shard);
            }
        }
    }

    /// As `Gate::grant`.
    fn grant(&self, line: &mut Line) -> Option<Option<Caller>> {
        let waiter = line.waiters.pop_front()?;
        if let Some(caller) = &waiter {
            self.served.add(caller.ticket);
        }
        Some(waiter)
    }

    /// As `Gate::give_handled`.
    fn give(&self, shard: usize) {
        match self.permits.give_handled_at(shard) {
            Given::Back => return,
            Given::BackAndFull(_) => unreachable!("nobody counts so far"),
            Given::First if self.puts_off && self.permits.give_first_at(shard) => {
                self.lock().handled += 1;
                return self.serve(shard);
            }
            Given::First | Given::AskGate => {}
        }
        let mut line = self.lock();
        line.handled += 1;
        let next = self.grant(&mut line);
        if next.is_none() {
            self.permits.add_at(shard, 1);
        }
        self.relax(&mut line);
        drop(line);
        if let Some(next) = next {
            self.tell(shard, next);
        }
    }

    /// As `Gate::serve`.
    fn serve(&self, shard: usize) {
        let mut line = self.lock();
        let permits = self.permits.take_up_to(line.waiters.len());
        let served: Vec<_> = (0..permits).filter_map(|_| self.grant(&mut line)).collect();
        self.relax(&mut line);
        drop(line);
        for waiter in served {
            self.tell(shard, waiter);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    fn use_permit(&self, shard: usize, is_caller: bool) {
        match self.take_or_wait(shard, is_caller) {
            Place::Taken => {}
            Place::OfCaller(ticket) => {
                while !self.served.has(ticket) {
                    thread::park();
                }
            }
            Place::OfMessage => return,
        }
        self.handle();
        self.give(shard);
    }

    fn assert_whole(&self, handled: usize) {
        assert_eq!(
            self.handled.load(loom::sync::atomic::Ordering::Relaxed),
            handled
        );
        let line = self.lock();
        assert!(line.waiters.is_empty(), "somebody waits for ever");
        assert_eq!(line.handled + self.permits.handled(), handled as u64);
        assert_eq!(self.permits.free(), self.limit);
    }
}

/// Each of several threads uses a permit, of which there is one.
fn share_a_permit<const THREADS: usize>(puts_off: bool, are_callers: [bool; THREADS]) {
    loom::model(move || {
        let gate = Gate::new(1, puts_off);
        let threads = std::array::from_fn::<_, THREADS, _>(|at| (at % 2, are_callers[at]));
        let others: Vec<_> = threads[1..]
            .iter()
            .map(|&(shard, is_caller)| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || gate.use_permit(shard, is_caller))
            })
            .collect();
        gate.use_permit(threads[0].0, threads[0].1);
        for other in others {
            other.join().unwrap();
        }
        gate.assert_whole(THREADS);
    });
}

#[test]
fn two_callers_share_a_permit_and_nobody_waits_for_ever() {
    share_a_permit(false, [true; 2]);
}

#[test]
fn two_messages_share_a_permit_and_nobody_waits_for_ever() {
    share_a_permit(false, [false; 2]);
    share_a_permit(true, [false; 2]);
}

#[test]
fn three_callers_share_a_permit_and_nobody_waits_for_ever() {
    share_a_permit(false, [true; 3]);
}

#[test]
fn three_messages_share_a_permit_and_nobody_waits_for_ever() {
    share_a_permit(false, [false; 3]);
    share_a_permit(true, [false; 3]);
}

#[test]
fn messages_and_a_caller_share_a_permit_and_nobody_waits_for_ever() {
    share_a_permit(true, [false, true, false]);
    share_a_permit(true, [false, false, true]);
}

#[test]
fn what_is_given_beside_the_first_is_handed_on_with_it() {
    loom::model(|| {
        let gate = Gate::new(2, true);
        for takes in [true, true, false] {
            assert_eq!(gate.take_or_wait(0, false) == Place::Taken, takes);
        }
        // Two messages end on threads of one shard, while another comes.
        let threads = [(); 2].map(|()| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.handle();
                gate.give(0);
            })
        });
        gate.use_permit(1, false);
        for thread in threads {
            thread.join().unwrap();
        }
        gate.assert_whole(4);
    });
}

#[test]
fn what_is_counted_under_the_lock_does_not_move() {
    loom::model(|| {
        let gate = Gate::new(1, true);
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.use_permit(1, false));
        let mut line = gate.lock();
        gate.restrict(&mut line, Mode::Frozen);
        let free = gate.permits.free();
        thread::yield_now();
        assert_eq!(gate.permits.free(), free);
        gate.relax(&mut line);
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
        permits.change_mode(Mode::Open, Mode::Awaited);
        let free = permits.free();
        permits.change_mode(Mode::Awaited, Mode::Open);
        let taken = thread.join().unwrap();
        assert!(free == 4 || (taken && free == 3), "{free} are seen");
        assert_eq!(permits.free(), 4 - usize::from(taken));
    });
}
