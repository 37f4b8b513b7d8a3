//! Intervals and schedules: which ticks come, and what a cancel says of them.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

#[cfg(target_os = "linux")]
use executor_core::VirtualClock;
use executor_core::engine::Rearm;
use executor_core::{MissedTick, Schedule, Tick, When, WorkerCore};

use crate::eventually::eventually;
#[cfg(target_os = "linux")]
use crate::eventually::threads_named;
use crate::outcomes::{DEADLINE, block_on, wait};
use crate::timers::MILLISECOND;
use crate::virtual_clock::virtual_core;

/// The ticks of the table in docs/time.md: nobody looks between 10 and 47.
const MOMENTS: [u32; 8] = [0, 10, 47, 50, 57, 60, 67, 70];
const EXPECTED: [(MissedTick, &[u128]); 3] = [
    (MissedTick::Burst, &[0, 10, 20, 30, 40, 50, 60, 70]),
    (MissedTick::Skip, &[0, 10, 20, 50, 60, 70]),
    (MissedTick::Delay, &[0, 10, 20, 57, 67]),
];

#[test]
fn an_interval_catches_up_skips_or_shifts() {
    for (missed, expected) in EXPECTED {
        let (clock, core) = virtual_core(1);
        let start = core.now();
        let mut interval = core.interval(10 * MILLISECOND, missed);
        let mut ticks = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        for moment in MOMENTS {
            clock.advance_to(start + moment * MILLISECOND);
            while let Poll::Ready(due) = pin!(interval.tick()).poll(&mut context) {
                ticks.push((due - start).as_millis());
            }
        }
        assert_eq!(ticks, expected, "{missed:?}");
    }
}

#[test]
fn a_schedule_catches_up_skips_or_shifts() {
    for (missed, expected) in EXPECTED {
        let (clock, core) = virtual_core(1);
        let start = core.now();
        let ((tell, told), (open, gate)) = (channel(), channel::<()>());
        let gate = Arc::new(Mutex::new(gate));
        let schedule = core.spawn_every(10 * MILLISECOND, missed, move |tick| {
            let (tell, gate) = (tell.clone(), Arc::clone(&gate));
            async move {
                let due = (tick.due - start).as_millis();
                tell.send(due).expect("the test listens");
                if due == 20 {
                    // It lasts until 47.
                    let gate = gate.lock().expect("whole");
                    gate.recv_timeout(DEADLINE).expect("told in time");
                }
            }
        });
        let mut schedule = schedule.expect("open");
        let mut ticks = Vec::new();
        for moment in [10, 20, 47, 50, 57, 60, 67, 70] {
            clock.advance_to(start + moment * MILLISECOND);
            if moment == 47 {
                open.send(()).expect("it waits");
            }
            // What is due at this moment comes, however long it takes; the rest waits for the clock.
            let due = |due: &&u128| {
                **due != 0 && !ticks.contains(*due) && comes_by(missed, **due) <= moment
            };
            for _ in 0..expected.iter().filter(due).count() {
                ticks.push(told.recv_timeout(DEADLINE).expect("it is due"));
            }
            if moment != 20 {
                // The next is set when the handler is over, by the clock of then.
                eventually("the next tick is set", || core.next_timer().is_some());
            }
        }
        schedule.cancel();
        assert_eq!(ticks, expected[1..], "{missed:?}");
    }
}

/// When a tick that is due then can come, if the one of 20 lasts until 47.
fn comes_by(missed: MissedTick, due: u128) -> u32 {
    let held = missed == MissedTick::Burst && (30..47).contains(&due);
    if held { 47 } else { due as u32 }
}

/// A schedule whose ticks say whether they began. Its second tick is scheduled before the schedule
/// knows of it: that is said, and another word is waited for.
fn schedule_with_a_gap(core: &WorkerCore) -> (Schedule, Receiver<bool>, Receiver<()>, Sender<()>) {
    let ((told, begun), (known, scheduled), (go_on, gate)) = (channel(), channel(), channel());
    let (inner, gate) = (core.clone(), Mutex::new(gate));
    let admit = move |when: When, tick: Tick, rearm: Rearm| {
        let told = told.clone();
        let work = async move {
            let rearm = rearm;
            told.send(rearm.begin()).expect("the test listens");
        };
        let When::At(due) = when else {
            panic!("a tick has an instant");
        };
        let delayed = inner.spawn_at(due, work).ok();
        if tick.number == 1 {
            known.send(()).expect("the test listens");
            let gate = gate.lock().expect("whole");
            gate.recv_timeout(DEADLINE).expect("told in time");
        }
        delayed
    };
    let second = MILLISECOND * 1_000;
    let schedule = Schedule::start(core, second, MissedTick::Burst, || false, admit);
    (schedule.expect("open"), begun, scheduled, go_on)
}

#[test]
fn a_tick_that_its_schedule_does_not_know_yet_does_not_start_after_a_cancel() {
    let (clock, core) = virtual_core(2);
    let (mut schedule, begun, scheduled, go_on) = schedule_with_a_gap(&core);
    let ((tell, told), (open, gate)) = (channel(), channel::<()>());
    let blocking = core.spawn_fn(move || {
        tell.send(()).expect("the test listens");
        gate.recv_timeout(DEADLINE).expect("told in time");
    });
    told.recv_timeout(DEADLINE).expect("it blocks a worker");
    // Both ticks are due; the other worker runs the first one and schedules the second.
    clock.advance(MILLISECOND * 2_000);
    assert!(begun.recv_timeout(DEADLINE).expect("the first tick runs"));
    scheduled.recv_timeout(DEADLINE).expect("the second is set");
    assert!(schedule.cancel(), "no tick runs");
    open.send(()).expect("it waits");
    wait(blocking.expect("open")).expect("it ran");
    assert!(!begun.recv_timeout(DEADLINE).expect("it comes"));
    go_on.send(()).expect("it waits");
    assert!(schedule.cancel(), "the same answer");
}

#[test]
fn a_cancel_tells_whether_a_tick_runs_which_goes_on() {
    let (clock, core) = virtual_core(1);
    let ((tell, told), (open, gate)) = (channel(), channel::<()>());
    let (gate, ended) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&ended);
    let schedule = core.spawn_every(MILLISECOND, MissedTick::Burst, move |_| {
        let (tell, gate, count) = (tell.clone(), Arc::clone(&gate), Arc::clone(&count));
        async move {
            tell.send(()).expect("the test listens");
            let gate = gate.lock().expect("whole");
            gate.recv_timeout(DEADLINE).expect("told in time");
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut schedule = schedule.expect("open");
    clock.advance(MILLISECOND * 2);
    told.recv_timeout(DEADLINE).expect("it starts");
    assert!(!schedule.cancel(), "a tick runs");
    open.send(()).expect("it waits");
    assert!(block_on(core.drain(DEADLINE)).is_complete());
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    assert!(!schedule.cancel(), "the same answer");
    clock.advance(MILLISECOND * 10);
    assert!(block_on(core.drain(DEADLINE)).is_complete());
    assert_eq!(ended.load(Ordering::SeqCst), 1, "no tick started after it");
}

#[test]
fn no_tick_starts_once_a_cancel_has_returned() {
    for round in 0..if cfg!(debug_assertions) { 300 } else { 5_000 } {
        let (clock, core) = virtual_core(2);
        let (cancelled, late) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let ticks = Arc::new(AtomicUsize::new(0));
        let seen = (
            Arc::clone(&cancelled),
            Arc::clone(&late),
            Arc::clone(&ticks),
        );
        let schedule = core.spawn_every(MILLISECOND, MissedTick::Burst, move |_| {
            let (cancelled, late, ticks) = &seen;
            late.fetch_add(
                usize::from(cancelled.load(Ordering::SeqCst)),
                Ordering::SeqCst,
            );
            ticks.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        });
        let mut schedule = schedule.expect("open");
        clock.advance(MILLISECOND * 1_000);
        let until = Instant::now() + DEADLINE;
        while ticks.load(Ordering::SeqCst) < 1 + round % 50 {
            assert!(Instant::now() < until, "no tick within {DEADLINE:?}");
            thread::yield_now();
        }
        // One that had begun may get here later.
        let running = usize::from(!schedule.cancel());
        cancelled.store(true, Ordering::SeqCst);
        assert!(block_on(core.drain(DEADLINE)).is_complete());
        assert!(late.load(Ordering::SeqCst) <= running, "round {round}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_schedule_does_not_keep_the_core_whose_handles_are_gone() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).name("kept-core");
    let core = core.build().expect("the threads start");
    let schedule = core.spawn_every(MILLISECOND, MissedTick::Burst, |_| std::future::ready(()));
    let mut schedule = schedule.expect("open");
    eventually("the workers start", || threads_named("kept-core") == 2);
    drop(core);
    eventually("the workers leave", || threads_named("kept-core") == 0);
    assert!(!schedule.reschedule_after(MILLISECOND));
    assert!(schedule.cancel());
}
