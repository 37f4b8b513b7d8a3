//! Timers on real time: none is early, and none is lost, whoever of the core keeps the time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{Elapsed, Failure, Shutdown, WorkerCore};

use crate::outcomes::{DEADLINE, block_on, outcome, wait};
use crate::timers::MILLISECOND;

#[test]
fn an_earlier_timer_overtakes_a_far_one_on_real_time() {
    for core in [WorkerCore::threads(1), WorkerCore::threads(2)] {
        let core = core.build().expect("the threads start");
        let far = core.spawn_fn_after(DEADLINE * 100, || ()).expect("open");
        for _ in 0..20 {
            let (delay, start) = (2 * MILLISECOND, Instant::now());
            let near = core.spawn_fn_after(delay, Instant::now).expect("open");
            let fired = outcome(near).expect("it runs");
            assert!(fired - start >= delay, "{:?} early", fired - start);
        }
        assert!(far.is_pending());
    }
}

#[test]
fn of_very_many_timers_on_real_time_none_is_early() {
    let timers = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    for tick in [1_000, 100, 50].map(Duration::from_micros) {
        let core = WorkerCore::threads(2).tick(tick).build();
        let core = core.expect("the threads start");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let schedule = |index: u32| {
                        let (delay, start) = (index % 5 * MILLISECOND, Instant::now());
                        let early = move || delay.saturating_sub(start.elapsed());
                        core.spawn_fn_after(delay, early).expect("open")
                    };
                    let delayed: Vec<_> = (0..timers).map(schedule).collect();
                    for timer in delayed {
                        assert_eq!(outcome(timer).expect("it runs"), Duration::ZERO);
                    }
                });
            }
        });
    }
}

#[test]
fn equal_delays_are_kept_in_the_order_of_the_calls_whoever_makes_them() {
    let rounds = if cfg!(debug_assertions) {
        2_000
    } else {
        20_000
    };
    let core = WorkerCore::threads(2).tick(Duration::from_micros(100));
    let core = core.build().expect("the threads start");
    let (lane, order) = (core.callbacks(), Arc::new(Mutex::new(Vec::new())));
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        for me in 0..2 {
            let (lane, order, turn) = (&lane, &order, &turn);
            scope.spawn(move || {
                // The threads take turns: each call is made when the one before has returned.
                for call in (me..rounds).step_by(2) {
                    let until = Instant::now() + DEADLINE;
                    while turn.load(Ordering::Acquire) != call {
                        assert!(Instant::now() < until, "no turn within {DEADLINE:?}");
                        thread::yield_now();
                    }
                    let order = Arc::clone(order);
                    let note = move || order.lock().expect("whole").push(call);
                    drop(lane.call_after(MILLISECOND, note).expect("open"));
                    turn.store(call + 1, Ordering::Release);
                }
            });
        }
    });
    let last = lane.call_after(2 * MILLISECOND, || ()).expect("open");
    outcome(last).expect("it runs");
    let order = order.lock().expect("whole");
    assert_eq!(order.len(), rounds);
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_runtime_without_a_timer_keeps_the_time_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let core = WorkerCore::tokio(runtime.handle()).build().expect("legal");
    let far = core.spawn_fn_after(DEADLINE * 100, || ()).expect("open");
    for _ in 0..10 {
        let (delay, start) = (2 * MILLISECOND, Instant::now());
        let near = core.spawn_fn_after(delay, Instant::now).expect("open");
        assert!(outcome(near).expect("it runs") - start >= delay);
    }
    block_on(core.sleep(MILLISECOND));
    assert!(far.is_pending());
    drop(core);
    assert!(matches!(outcome(far), Err(Failure::Aborted)));
    // It would wait for a thread that kept the time for nobody.
    drop(runtime);
}

#[test]
fn handlers_sleep_without_a_runtime() {
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let inner = core.clone();
    let task = core.spawn(async move {
        let start = Instant::now();
        inner.sleep(3 * MILLISECOND).await;
        let slept = start.elapsed();
        let ready = inner.timeout(DEADLINE, async { 5 }).await;
        let over = inner
            .timeout(MILLISECOND, std::future::pending::<()>())
            .await;
        (slept, ready, over)
    });
    let (slept, ready, over) = wait(task.expect("open")).expect("it runs");
    assert!(slept >= 3 * MILLISECOND);
    assert_eq!((ready, over), (Ok(5), Err(Elapsed)));
}

#[test]
fn an_earlier_timer_scheduled_while_a_worker_goes_to_sleep_is_never_late() {
    let rounds = if cfg!(debug_assertions) {
        5_000
    } else {
        50_000
    };
    for workers in [1, 2] {
        // Short ticks, so that a round is not mostly waiting for one.
        let core = WorkerCore::threads(workers).tick(Duration::from_micros(20));
        let core = core.build().expect("built");
        let far = core.spawn_fn_after(DEADLINE * 100, || ()).expect("open");
        for round in 0..rounds / 2 {
            // The worker is about to sleep after the first one: at once, or a little later.
            let first = core.spawn_fn(|| ()).expect("open");
            for _ in 0..round % 97 {
                std::hint::spin_loop();
            }
            let near = core
                .spawn_fn_after(Duration::from_micros(round % 3), || ())
                .expect("open");
            // Lost, it would come with the far one.
            outcome(near).expect("it runs");
            wait(first).expect("it runs");
        }
        assert!(far.is_pending());
    }
}

#[test]
fn a_new_earliest_timer_wakes_one_worker_and_later_ones_none() {
    let core = WorkerCore::threads(2).build().expect("built");
    let asleep = |parks: u64| {
        let until = Instant::now() + DEADLINE;
        loop {
            let metrics = core.metrics();
            if metrics.asleep == 2 && metrics.parks >= parks {
                return metrics.parks;
            }
            assert!(Instant::now() < until, "awake: {metrics:?}");
            thread::yield_now();
        }
    };
    let mut parks = asleep(2);
    let mut timers = Vec::new();
    for hours in (1..=5).rev() {
        let delay = Duration::from_secs(hours * 3_600);
        timers.push(core.spawn_fn_after(delay, || ()).expect("open"));
        let now = asleep(parks + 1);
        assert_eq!(now, parks + 1, "one sleep more for an earlier timer");
        parks = now;
    }
    for _ in 0..1_000 {
        let delay = Duration::from_secs(3_600 * 3);
        timers.push(core.spawn_fn_after(delay, || ()).expect("open"));
    }
    assert_eq!(asleep(parks), parks, "no sleep more for later ones");
}

#[test]
fn a_blocked_worker_does_not_keep_another_from_keeping_the_time() {
    let core = WorkerCore::threads(2).build().expect("built");
    let (open, gate) = std::sync::mpsc::channel::<()>();
    // Fired by the worker that keeps the time, which then is blocked.
    let blocked = core.spawn_fn_after(MILLISECOND, move || gate.recv_timeout(DEADLINE));
    for delay in [2, 5, 10] {
        let next = core
            .spawn_fn_after(delay * MILLISECOND, || ())
            .expect("open");
        outcome(next).expect("it runs");
    }
    open.send(()).expect("it waits");
    outcome(blocked.expect("open"))
        .expect("it runs")
        .expect("it was opened");
}

#[test]
fn a_drain_ends_at_its_deadline_although_every_worker_is_blocked() {
    let core = WorkerCore::threads(1).build().expect("built");
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (tell, started) = std::sync::mpsc::channel();
    let blocked = core.spawn_fn(move || {
        tell.send(()).expect("it listens");
        gate.recv_timeout(DEADLINE)
    });
    started.recv_timeout(DEADLINE).expect("it starts");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("built");
    let drained = runtime.block_on(core.drain(5 * MILLISECOND));
    assert_ne!(drained.still_running, 0, "it is still blocked: {drained:?}");
    let closed = runtime.block_on(core.shutdown(Shutdown::Drain, 5 * MILLISECOND));
    assert_ne!(closed.still_running, 0, "it is still blocked: {closed:?}");
    open.send(()).expect("it waits");
    blocked
        .expect("open")
        .wait()
        .expect("it ran")
        .expect("it was opened");
}
