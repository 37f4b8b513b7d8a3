//! Timers: the clockwork itself, with work that only counts what becomes of it.

use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize as Plain;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::Arc;
use loom::thread;

use crate::cell::Header;
use crate::sleep::{Lain, Sleepers};
use crate::sync::{AtomicU64, Ordering, model_fence};
use crate::time::clockwork::Clockwork;
use crate::time::entry::Entry;
use crate::time::kind::Kind;
use crate::time::post::{Post, Rest};
use crate::time::remains::SLICE;
use crate::time::timer::Timer;
use crate::time::wheel::NEVER;

/// Stands for a timer's work.
#[derive(Default)]
struct Work {
    fired: Plain,
    settled: Plain,
    ended: Plain,
}

impl Work {
    /// # Safety
    /// The cell was made by `schedule`.
    unsafe fn of<'a>(cell: NonNull<Header>) -> &'a Self {
        // SAFETY: as the caller says; it is never freed.
        unsafe { cell.cast::<Self>().as_ref() }
    }

    fn counts(&self) -> (usize, usize) {
        (self.fired.load(SeqCst), self.ended.load(SeqCst))
    }
}

static COUNTED: Kind = Kind {
    admit: |_, _| unreachable!("the model admits"),
    settle: |work| {
        // SAFETY: it is a counter, which `settle_later` gave.
        let work = unsafe { &*work.cast::<Work>() };
        work.settled.fetch_add(1, SeqCst);
    },
    end: |cell| {
        // SAFETY: all cells here are counters.
        unsafe { Work::of(cell) }.ended.fetch_add(1, SeqCst);
    },
    owner: |_| std::ptr::null(),
    is_awaited: false,
};

fn clockwork() -> &'static Clockwork {
    Box::leak(Box::new(Clockwork::new()))
}

/// A pending timer, and whether it is the earliest.
fn schedule(clockwork: &'static Clockwork, tick: u64) -> (&'static Work, Timer, bool) {
    let work: &'static Work = Box::leak(Box::default());
    let entry = Entry::new(tick, 0, &COUNTED, NonNull::from(work).cast(), true);
    // SAFETY: it is new, and has a handle.
    let earliest = unsafe { clockwork.schedule(entry, tick) };
    // SAFETY: as above.
    (work, unsafe { Timer::new(entry, clockwork) }, earliest)
}

/// Fires what is due at `now`, and leaves something to settle; `None`: somebody else has the turn.
fn settle_later(clockwork: &Clockwork, now: u64) -> Option<usize> {
    clockwork.turn_with(now, SLICE, |_, cell| {
        // SAFETY: all cells here are counters.
        unsafe { Work::of(cell) }.fired.fetch_add(1, SeqCst);
        Some(cell.as_ptr().cast_const().cast())
    })
}

/// Fires what is due at `now`.
fn turn(clockwork: &Clockwork, now: u64) {
    clockwork.turn_with(now, SLICE, |_, cell| {
        // SAFETY: all cells here are counters.
        unsafe { Work::of(cell) }.fired.fetch_add(1, SeqCst);
        Some(std::ptr::null())
    });
}

#[test]
fn a_cancel_or_the_fire_wins_and_the_entry_is_freed_once() {
    for placed in [false, true] {
        loom::model(move || {
            let clockwork = clockwork();
            let (work, timer, _) = schedule(clockwork, 5);
            if placed {
                turn(clockwork, 1);
            }
            let turner = thread::spawn(move || turn(clockwork, 5));
            let cancelled = timer.cancel();
            turner.join().unwrap();
            // Whatever was pushed during the turn was taken in after it.
            let expected = if cancelled { (0, 1) } else { (1, 0) };
            assert_eq!(work.counts(), expected);
            turn(clockwork, 5);
            assert_eq!(work.counts(), expected);
            assert_eq!(clockwork.next(), NEVER);
        });
    }
}

#[test]
fn a_timer_that_is_moved_does_not_fire_at_its_old_time() {
    loom::model(|| {
        let clockwork = clockwork();
        let (work, mut timer, _) = schedule(clockwork, 5);
        turn(clockwork, 1);
        let turner = thread::spawn(move || turn(clockwork, 5));
        let moved = timer.reschedule(9).is_some();
        turner.join().unwrap();
        assert_eq!(work.counts(), (usize::from(!moved), 0));
        turn(clockwork, 8);
        assert_eq!(work.counts(), (usize::from(!moved), 0));
        turn(clockwork, 9);
        assert_eq!(work.counts(), (1, 0));
        drop(timer);
    });
}

#[test]
fn a_dropped_handle_lets_the_timer_fire() {
    loom::model(|| {
        let clockwork = clockwork();
        let (work, timer, _) = schedule(clockwork, 5);
        let turner = thread::spawn(move || turn(clockwork, 5));
        drop(timer);
        turner.join().unwrap();
        assert_eq!(work.counts(), (1, 0));
    });
}

#[test]
fn two_cancels_beside_each_other_both_end_their_timers() {
    loom::model(|| {
        let clockwork = clockwork();
        let (first, one, _) = schedule(clockwork, 5);
        let (second, two, _) = schedule(clockwork, 6);
        let other = thread::spawn(move || one.cancel());
        assert!(two.cancel());
        assert!(other.join().unwrap());
        assert_eq!((first.counts(), second.counts()), ((0, 1), (0, 1)));
    });
}

#[test]
fn a_timer_pushed_during_a_turn_is_told_as_the_next() {
    loom::model(|| {
        let clockwork = clockwork();
        let (_, far, _) = schedule(clockwork, 9);
        let turner = thread::spawn(move || turn(clockwork, 1));
        let (_, near, _) = schedule(clockwork, 5);
        turner.join().unwrap();
        assert!(clockwork.next() <= 5, "{}", clockwork.next());
        drop((far, near));
    });
}

#[test]
fn who_moves_the_clock_finds_all_that_is_due_fired_and_settled() {
    for timers in [1, 2] {
        loom::model(move || {
            let clockwork = clockwork();
            let due: Vec<_> = (0..timers).map(|_| schedule(clockwork, 5).0).collect();
            let worker = thread::spawn(move || settle_later(clockwork, 5));
            clockwork.catch_up(|| settle_later(clockwork, 5));
            clockwork.wait_until_settled();
            for work in due {
                assert_eq!(work.fired.load(SeqCst), 1);
                assert_eq!(work.settled.load(SeqCst), 1);
            }
            worker.join().unwrap();
        });
    }
}

/// A worker that goes to sleep, and one who makes the next tick earlier.
struct Bed {
    sleepers: Sleepers,
    next: AtomicU64,
    woken: Plain,
}

impl Bed {
    /// As `Runner::lie_down`; the tick until which it sleeps.
    fn lie_down(&self) -> u64 {
        loop {
            let next = self.next.load(Ordering::SeqCst);
            let is_unwatched = || self.next.load(Ordering::SeqCst) < self.sleepers.watch();
            match self.sleepers.lie_down(0, false, next, false, is_unwatched) {
                Lain::Up => self.sleepers.stop_searching(),
                Lain::Down { keeps, .. } => return if keeps { next } else { NEVER },
            }
        }
    }

    /// As `Clockwork::lower` and `CoreShared::note_earlier`.
    fn lower(&self, tick: u64) {
        model_fence();
        let earlier = tick < self.next.load(Ordering::SeqCst)
            && self.next.fetch_min(tick, Ordering::SeqCst) > tick;
        model_fence();
        if earlier && tick < self.sleepers.watch() && self.sleepers.wake_keeper().is_some() {
            self.woken.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn an_earlier_timer_meets_a_worker_that_lies_down() {
    for first in [NEVER, 9] {
        loom::model(move || {
            let bed = Arc::new(Bed {
                sleepers: Sleepers::new(1),
                next: AtomicU64::new(first),
                woken: Plain::new(0),
            });
            let until = Arc::new(Plain::new(0));
            let (other, slept) = (Arc::clone(&bed), Arc::clone(&until));
            let sleeper = thread::spawn(move || slept.store(other.lie_down() as usize, SeqCst));
            bed.lower(5);
            sleeper.join().unwrap();
            let woken = bed.woken.load(SeqCst);
            assert!(woken <= 1, "woken {woken} times");
            assert!(
                woken == 1 || until.load(SeqCst) <= 5,
                "it sleeps past the timer"
            );
        });
    }
}

#[test]
fn of_two_that_lie_down_one_keeps_the_time() {
    loom::model(|| {
        let sleepers = Arc::new(Sleepers::new(2));
        let other = Arc::clone(&sleepers);
        let second = thread::spawn(move || other.lie_down(1, false, 7, false, || false));
        let first = sleepers.lie_down(0, false, 7, false, || false);
        assert!(first != second.join().unwrap());
        // The one who keeps the time is woken last.
        let keeps = |lain| matches!(lain, Lain::Down { keeps: true, .. });
        let keeper = usize::from(!keeps(first));
        assert_eq!(sleepers.wake_one(), Some(1 - keeper));
        assert_eq!(sleepers.watch(), 7);
        sleepers.stop_searching();
        assert_eq!(sleepers.wake_keeper(), Some(keeper));
        assert_eq!(sleepers.watch(), NEVER);
    });
}

/// A keeper of the time, with the next tick and what became of those who were called.
struct Watch {
    post: Post<()>,
    next: AtomicU64,
    called: Plain,
    woken: Plain,
}

impl Watch {
    fn new(next: u64) -> Arc<Self> {
        Arc::new(Self {
            post: Post::new(),
            next: AtomicU64::new(next),
            called: Plain::new(0),
            woken: Plain::new(0),
        })
    }

    /// As `Clockwork::lower` and `Keeper::note_earlier`.
    fn lower(&self, tick: u64) {
        model_fence();
        let earlier = tick < self.next.load(Ordering::SeqCst)
            && self.next.fetch_min(tick, Ordering::SeqCst) > tick;
        let count = |counter: &Plain| {
            counter.fetch_add(1, SeqCst);
        };
        if earlier && self.post.note_earlier(tick, |&()| count(&self.woken)) {
            count(&self.called);
        }
    }

    /// As `OnDuty::keep`, until it sleeps or goes; the tick until which it sleeps, if it does.
    fn keep(&self) -> Option<u64> {
        self.post.come(());
        loop {
            let next = self.next.load(Ordering::SeqCst);
            match self
                .post
                .lie_down(next, || self.next.load(Ordering::SeqCst))
            {
                Rest::Not => {}
                Rest::Until => return Some(next),
                Rest::Over => return None,
            }
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.called.load(SeqCst), self.woken.load(SeqCst))
    }
}

#[test]
fn an_earlier_timer_meets_a_keeper_that_lies_down_or_goes() {
    for first in [NEVER, 9] {
        loom::model(move || {
            let watch = Watch::new(first);
            // Called by a timer that is gone, or is the first.
            assert!(watch.post.note_earlier(1, |&()| ()));
            let other = Arc::clone(&watch);
            let keeper = thread::spawn(move || other.keep());
            watch.lower(5);
            match (keeper.join().unwrap(), watch.counts()) {
                (Some(until), (0, 0)) => assert!(until <= 5, "it sleeps past the timer"),
                (Some(_), (0, 1)) => {}
                (None, (1, 0)) => assert_eq!(first, NEVER, "it went with a timer there"),
                (slept, counts) => panic!("{slept:?} and called, woken {counts:?}"),
            }
        });
    }
}

#[test]
fn of_two_first_timers_one_calls_a_keeper() {
    loom::model(|| {
        let watch = Watch::new(NEVER);
        let other = Arc::clone(&watch);
        let second = thread::spawn(move || other.lower(7));
        watch.lower(5);
        second.join().unwrap();
        assert_eq!(watch.counts(), (1, 0));
        assert_eq!(watch.keep(), Some(5));
    });
}

#[test]
fn a_keeper_that_does_not_come_leaves_the_post_to_another() {
    loom::model(|| {
        let watch = Watch::new(NEVER);
        watch.lower(9);
        let other = Arc::clone(&watch);
        let dropped = thread::spawn(move || other.post.leave());
        watch.lower(5);
        dropped.join().unwrap();
        // Called again by the second timer, or by the next.
        let (called, _) = watch.counts();
        watch.lower(3);
        assert_eq!(watch.counts(), (2, 0), "{called} before");
    });
}
