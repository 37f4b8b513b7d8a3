//! Schedules of streams, on virtual time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use executor_serial::{Envelope, MissedTick, PolicyContext, Tick};
#[cfg(target_os = "linux")]
use executor_serial::{SerialExecutor, VirtualClock, WorkerCore};

#[cfg(target_os = "linux")]
use crate::contract::eventually::threads_named;
use crate::rig::{DEADLINE, SECOND, echo, finish, rig, until};

#[test]
fn a_schedule_ticks_survives_panics_and_is_cancelled() {
    let rig = rig(8);
    let start = rig.core.now();
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ticks);
    let schedule = rig.executor.schedule_every(
        1,
        SECOND,
        MissedTick::Skip,
        move |tick: Envelope<Tick>, _| {
            let noted = Arc::clone(&noted);
            async move {
                noted.lock().expect("whole").push(tick.payload);
                assert_ne!(tick.payload.number, 1, "the second tick panics");
                Ok::<_, Infallible>(())
            }
        },
    );
    let mut schedule = schedule.expect("open");
    let seen = || ticks.lock().expect("whole").len();
    for tick in 1..=3 {
        rig.clock.advance(SECOND);
        until("the tick is handled", || seen() == tick);
        until("the next one is set", || {
            rig.core.next_timer() == Some(start + SECOND * (tick as u32 + 1))
        });
    }
    // Ticks 4 and 5 pass unseen.
    rig.clock.advance(SECOND * 5 / 2);
    until("the late tick is handled", || seen() == 4);
    until("the next one is set", || {
        rig.core.next_timer() == Some(start + SECOND * 6)
    });
    assert!(schedule.cancel() && schedule.cancel());
    assert!(!schedule.reschedule_after(SECOND));
    rig.clock.advance(SECOND * 10);
    let other = rig
        .executor
        .submit_after(1, Duration::ZERO, Envelope::new(1), echo);
    finish(other.expect("open")).expect("handled");
    let dues: Vec<_> = ticks
        .lock()
        .expect("whole")
        .iter()
        .map(|tick| (tick.due - start).as_secs())
        .collect();
    assert_eq!(dues, [1, 2, 3, 4]);
    assert_eq!(rig.executor.metrics().totals.panicked, 1);
}

#[test]
fn no_tick_starts_once_a_cancel_has_returned() {
    for round in 0..if cfg!(debug_assertions) { 300 } else { 5_000 } {
        let rig = rig(8);
        let (cancelled, late) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ticks = Arc::new(AtomicU64::new(0));
        let seen = (
            Arc::clone(&cancelled),
            Arc::clone(&late),
            Arc::clone(&ticks),
        );
        let handler = move |_: Envelope<Tick>, _: PolicyContext<()>| {
            let (cancelled, late, ticks) = &seen;
            late.fetch_add(cancelled.load(Ordering::SeqCst), Ordering::SeqCst);
            ticks.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, Infallible>(()))
        };
        let schedule = rig
            .executor
            .schedule_every(1, SECOND, MissedTick::Burst, handler);
        let mut schedule = schedule.expect("open");
        rig.clock.advance(SECOND * 1_000);
        until("some ticks start", || {
            ticks.load(Ordering::SeqCst) > round % 50
        });
        // One that had begun may get here later.
        let running = u64::from(!schedule.cancel());
        cancelled.store(1, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let drained = (runtime.expect("a runtime")).block_on(rig.executor.drain(DEADLINE));
        assert!(drained.is_complete());
        assert!(late.load(Ordering::SeqCst) <= running, "round {round}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_schedule_does_not_keep_the_core_whose_handles_are_gone() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).name("kept-serial");
    let core = core.build().expect("the threads start");
    let executor = SerialExecutor::<u64>::builder(&core)
        .build()
        .expect("legal");
    let ticks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ticks);
    let handler = move |_: Envelope<Tick>, _: PolicyContext<()>| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, Infallible>(()))
    };
    // Without a handle, the stream lives by its schedule.
    let schedule = executor.schedule_every(1, SECOND, MissedTick::Burst, handler);
    let mut schedule = schedule.expect("open");
    for tick in 1..=3 {
        clock.advance(SECOND);
        until("it ticks", || ticks.load(Ordering::SeqCst) == tick);
        until("the next tick is set", || schedule.reschedule_after(SECOND));
        executor.evict_idle();
    }
    until("the workers are there", || {
        threads_named("kept-serial") == 2
    });
    drop((core, executor));
    until("the workers leave", || threads_named("kept-serial") == 0);
    assert!(!schedule.reschedule_after(SECOND));
    assert!(schedule.cancel());
}
