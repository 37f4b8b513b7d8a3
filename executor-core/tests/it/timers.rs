//! Timers of a core on virtual time: when they fire, in which order, and who ends or moves them.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{Delayed, Failure, Shutdown};

use crate::outcomes::{DEADLINE, block_on, outcome, wait};
use crate::virtual_clock::virtual_core;

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn nothing_fires_before_its_time_and_everything_at_it() {
    let (clock, core) = virtual_core(2);
    let start = core.now();
    for delay in [0, 1, 63, 64, 65, 4_096, 1 << 20, 1 << 35] {
        let at = start + Duration::from_millis(delay);
        let delayed = core.spawn_fn_at(at, move || delay).expect("open");
        clock.advance_to(at - Duration::from_nanos(u64::from(delay != 0)));
        assert!(delay == 0 || delayed.is_pending());
        clock.advance_to(at);
        assert_eq!(outcome(delayed).expect("it runs"), delay);
    }
}

#[test]
fn durations_of_any_size_are_legal() {
    let (clock, core) = virtual_core(1);
    let longest = core.spawn_fn_after(Duration::MAX, || ()).expect("open");
    let none = core.spawn_fn_after(Duration::ZERO, || ()).expect("open");
    outcome(none).expect("it runs");
    // All together they stay within the clock's 584 years.
    for bit in 0..61 {
        for nanos in [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1] {
            let delay = Duration::from_nanos(nanos);
            let delayed = core.spawn_fn_after(delay, || ()).expect("open");
            clock.advance(delay.saturating_sub(Duration::from_nanos(1)));
            assert!(nanos < 2 || delayed.is_pending(), "{nanos} ns came early");
            clock.advance(MILLISECOND);
            outcome(delayed).expect("it runs");
        }
    }
    assert!(longest.is_pending());
}

#[test]
fn equal_deadlines_fire_in_call_order() {
    let (clock, core) = virtual_core(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let timers: Vec<_> = (0..1_000)
        .map(|call| {
            let order = Arc::clone(&order);
            let note = move || order.lock().expect("whole").push(call);
            core.spawn_fn_after(Duration::from_secs(70), note)
                .expect("open")
        })
        .collect();
    clock.advance(Duration::from_secs(70));
    for timer in timers {
        outcome(timer).expect("it runs");
    }
    let order = order.lock().expect("whole");
    assert!(order.is_sorted() && order.len() == 1_000);
}

#[test]
fn a_cancelled_timer_never_runs_and_says_so_again() {
    let (clock, core) = virtual_core(2);
    let ran = Arc::new(AtomicUsize::new(0));
    let schedule = || {
        let ran = Arc::clone(&ran);
        core.spawn_fn_after(MILLISECOND, move || {
            ran.fetch_add(1, Ordering::SeqCst);
        })
        .expect("open")
    };
    let (mut first, second) = (schedule(), schedule());
    assert!(first.cancel() && first.cancel());
    assert!(!first.reschedule_after(MILLISECOND));
    clock.advance(MILLISECOND);
    outcome(second).expect("it runs");
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    assert!(matches!(block_on(&mut first), Err(Failure::Cancelled)));
}

#[test]
fn a_timer_that_ran_cannot_be_cancelled_or_moved() {
    let (clock, core) = virtual_core(1);
    let mut delayed = core.spawn_fn_after(MILLISECOND, || 7).expect("open");
    clock.advance(MILLISECOND);
    let barrier = core.spawn_fn(|| ()).expect("open");
    wait(barrier).expect("it runs");
    while delayed.is_pending() {
        thread::yield_now();
    }
    assert!(!delayed.reschedule_after(MILLISECOND));
    assert_eq!(block_on(&mut delayed).expect("it runs"), 7);
    assert!(!delayed.cancel());
}

#[test]
fn a_timer_moves_to_an_earlier_and_to_a_later_time() {
    let (clock, core) = virtual_core(1);
    let mut early = core.spawn_fn_after(DEADLINE, || ()).expect("open");
    let mut late = core.spawn_fn_after(MILLISECOND, || ()).expect("open");
    assert!(early.reschedule_after(MILLISECOND));
    assert!(late.reschedule_after(DEADLINE));
    clock.advance(MILLISECOND);
    outcome(early).expect("it runs");
    assert!(late.is_pending());
    clock.advance(DEADLINE);
    outcome(late).expect("it runs");
}

#[test]
fn a_shutdown_ends_what_is_delayed_and_wakes_who_sleeps_last() {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let (clock, core) = virtual_core(2);
        let delayed = core.spawn_fn_after(DEADLINE, || ()).expect("open");
        let future = core.spawn_after(DEADLINE, async {}).expect("open");
        // Made here: a task that started late would sleep from a later time.
        let sleeper = core.spawn(core.sleep(MILLISECOND)).expect("open");
        let outside = core.sleep(DEADLINE);
        let mut shutdown = pin!(core.shutdown(mode, DEADLINE));
        let mut context = Context::from_waker(Waker::noop());
        let early = shutdown.as_mut().poll(&mut context);
        assert!(matches!(outcome(delayed), Err(Failure::Aborted)));
        assert!(matches!(outcome(future), Err(Failure::Aborted)));
        let refused = core.spawn_fn_after(MILLISECOND, || ());
        assert!(refused.is_err());
        clock.advance(MILLISECOND);
        let slept = wait(sleeper);
        assert_eq!(slept.is_ok(), mode == Shutdown::Drain, "{slept:?}");
        if early.is_pending() {
            let report = block_on(shutdown);
            assert!(report.is_complete());
        }
        block_on(outside);
    }
}

#[test]
fn dropping_the_core_ends_what_is_delayed() {
    let (_clock, core) = virtual_core(1);
    let mut delayed = core.spawn_fn_after(DEADLINE, || ()).expect("open");
    let other = core.spawn_fn_after(DEADLINE, || ()).expect("open");
    drop(core);
    assert!(matches!(outcome(other), Err(Failure::Aborted)));
    assert!(!delayed.cancel());
    assert!(!delayed.reschedule_after(MILLISECOND));
}

#[test]
fn very_many_timers_of_one_tick_fire_once_and_may_schedule_more() {
    let timers = if cfg!(debug_assertions) {
        20_000
    } else {
        1_000_000
    };
    let (clock, core) = virtual_core(2);
    let (fired, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..timers {
        let (inner, fired, again) = (core.clone(), Arc::clone(&fired), Arc::clone(&again));
        let call = move || {
            fired.fetch_add(1, Ordering::SeqCst);
            let once_more = move || again.fetch_add(1, Ordering::SeqCst);
            drop(
                inner
                    .spawn_fn_after(Duration::ZERO, once_more)
                    .expect("open"),
            );
        };
        drop(core.spawn_fn_after(MILLISECOND, call).expect("open"));
    }
    clock.advance(MILLISECOND);
    // Others have their turn meanwhile.
    wait(core.spawn_fn(|| ()).expect("open")).expect("it runs");
    let until = Instant::now() + DEADLINE;
    while again.load(Ordering::SeqCst) < timers {
        assert!(Instant::now() < until, "{again:?} of {timers}");
        thread::yield_now();
    }
    assert_eq!(fired.load(Ordering::SeqCst), timers);
    assert!(block_on(core.drain(DEADLINE)).is_complete());
    assert_eq!(again.load(Ordering::SeqCst), timers);
}

#[test]
fn a_cancel_from_another_thread_and_the_fire_agree() {
    let rounds = if cfg!(debug_assertions) {
        2_000
    } else {
        100_000
    };
    let (clock, core) = virtual_core(2);
    let (send, handles) = std::sync::mpsc::channel::<(Delayed<()>, Arc<AtomicUsize>)>();
    let canceller = thread::spawn(move || {
        let mut cancelled = Vec::new();
        for (round, (mut handle, ran)) in handles.into_iter().enumerate() {
            match round % 3 {
                0 => cancelled.push((handle.cancel(), handle, ran)),
                1 => {
                    let moved = handle.reschedule_after(MILLISECOND);
                    cancelled.push((handle.cancel() && moved, handle, ran));
                }
                _ => drop(handle),
            }
        }
        cancelled
    });
    let mut detached = Vec::new();
    for round in 0..rounds {
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let call = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let delayed = core.spawn_fn_after(MILLISECOND, call).expect("open");
        if round % 3 == 2 {
            detached.push(Arc::clone(&ran));
        }
        send.send((delayed, ran)).expect("it listens");
        if round % 2 == 0 {
            clock.advance(MILLISECOND);
        }
    }
    drop(send);
    let cancelled = canceller.join().expect("no panic");
    clock.advance(MILLISECOND * 2);
    for (won, mut handle, ran) in cancelled {
        if won {
            assert!(handle.cancel());
            assert_eq!(ran.load(Ordering::SeqCst), 0, "it ran after a cancel");
        } else if !handle.cancel() {
            outcome(handle).expect("it runs");
            assert_eq!(ran.load(Ordering::SeqCst), 1);
        }
    }
    assert!(block_on(core.drain(DEADLINE)).is_complete());
    for ran in detached {
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }
}
