//! Timers of a core, on virtual time and on real time.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::engine::Rearm;
use executor_core::{
    Completion, Delayed, Elapsed, Failure, MissedTick, Schedule, Shutdown, Tick, VirtualClock,
    When, WorkerCore,
};

#[cfg(target_os = "linux")]
use crate::eventually::{eventually, threads_named};

const DEADLINE: Duration = Duration::from_secs(30);
const MILLISECOND: Duration = Duration::from_millis(1);

fn virtual_core(workers: usize) -> (VirtualClock, WorkerCore) {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(workers).clock(&clock).build();
    (clock, core.expect("the threads start"))
}

/// The outcome, or a panic when it does not come.
fn outcome<T: Send>(delayed: Delayed<T>) -> Result<T, Failure> {
    wait(delayed.into_completion())
}

fn wait<T: Send>(completion: Completion<T>) -> Result<T, Failure> {
    completion
        .wait_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("no outcome within {DEADLINE:?}"))
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks on a future, by the system's clock.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, until) = (pin!(future), Instant::now() + DEADLINE);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not ready within {DEADLINE:?}");
        thread::park_timeout(left);
    }
}

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
fn a_sleep_is_reset_and_dropped_while_it_waits() {
    let (clock, core) = virtual_core(1);
    let mut sleep = core.sleep(MILLISECOND);
    let mut context = Context::from_waker(Waker::noop());
    assert!(
        std::pin::Pin::new(&mut sleep)
            .poll(&mut context)
            .is_pending()
    );
    sleep.reset(executor_core::When::After(DEADLINE));
    clock.advance(MILLISECOND);
    assert!(
        std::pin::Pin::new(&mut sleep)
            .poll(&mut context)
            .is_pending()
    );
    drop(sleep);
    let mut again = core.sleep(MILLISECOND);
    assert!(
        std::pin::Pin::new(&mut again)
            .poll(&mut context)
            .is_pending()
    );
    clock.advance(MILLISECOND);
    block_on(again);
}

#[test]
fn an_interval_catches_up_skips_or_shifts() {
    for (missed, expected) in [
        (MissedTick::Burst, [0, 10, 20, 30, 40]),
        (MissedTick::Skip, [0, 10, 40, 50, 60]),
        (MissedTick::Delay, [0, 10, 45, 55, 65]),
    ] {
        let (clock, core) = virtual_core(1);
        let start = core.now();
        let mut interval = core.interval(10 * MILLISECOND, missed);
        let mut ticks = Vec::new();
        for to in [0, 10, 35, 45, 55, 65] {
            clock.advance_to(start + to * MILLISECOND);
            let mut tick = pin!(interval.tick());
            let mut context = Context::from_waker(Waker::noop());
            if to == 35 {
                // Missed: nobody looks at 20 and 30 until 35.
                continue;
            }
            if let Poll::Ready(due) = tick.as_mut().poll(&mut context) {
                ticks.push((due - start).as_millis());
            } else if to <= 10 {
                ticks.push((block_on(tick) - start).as_millis());
            }
        }
        assert!(ticks.len() >= 2, "{missed:?}: {ticks:?}");
        assert_eq!(ticks[..2], expected[..2], "{missed:?}");
    }
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
fn a_drain_gives_up_at_its_deadline() {
    let (clock, core) = virtual_core(1);
    let held = core.spawn(std::future::pending::<()>()).expect("open");
    let mut drain = pin!(core.drain(MILLISECOND));
    let mut context = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut context).is_pending());
    clock.advance(MILLISECOND);
    assert!(!block_on(drain).is_complete());
    drop(held);
    assert!(block_on(core.shutdown(Shutdown::Abort, DEADLINE)).is_complete());
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

#[test]
fn a_virtual_clock_at_its_end_fires_nothing_that_lies_beyond() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(1).clock(&clock).build().expect("built");
    let mut beyond = core.spawn_fn_after(Duration::MAX, || ()).expect("open");
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert!(beyond.cancel(), "it was not fired");
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

/// A waker that is in no hurry: it tells that it is woken, and goes on a while after it was told to.
struct Slow {
    woken: Sender<()>,
    told: AtomicBool,
    done: AtomicBool,
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        self.woken.send(()).expect("the test listens");
        let until = Instant::now() + DEADLINE;
        while !self.told.load(Ordering::SeqCst) {
            assert!(Instant::now() < until, "not told within {DEADLINE:?}");
            thread::yield_now();
        }
        (0..10_000).for_each(|_| thread::yield_now());
        self.done.store(true, Ordering::SeqCst);
    }
}

#[test]
fn an_advance_waits_for_what_another_thread_is_firing() {
    let (clock, core) = virtual_core(1);
    let (woken, waking) = channel();
    let slow = Arc::new(Slow {
        woken,
        told: AtomicBool::new(false),
        done: AtomicBool::new(false),
    });
    let mut sleeper = core.sleep(MILLISECOND);
    let waker = Waker::from(Arc::clone(&slow));
    let polled = std::pin::Pin::new(&mut sleeper).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let other = clock.clone();
    let firing = thread::spawn(move || other.advance(MILLISECOND));
    waking.recv_timeout(DEADLINE).expect("it is being woken");
    slow.told.store(true, Ordering::SeqCst);
    clock.advance(MILLISECOND);
    assert!(slow.done.load(Ordering::SeqCst), "it was not woken yet");
    firing.join().expect("no panic");
}

/// A waker that moves the clock when it is woken, and counts how often.
struct Advancing(VirtualClock, AtomicUsize);

impl Wake for Advancing {
    fn wake(self: Arc<Self>) {
        self.0.advance(MILLISECOND);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn wakers_and_handlers_may_move_the_clock() {
    let (clock, core) = virtual_core(3);
    let waking = Arc::new(Advancing(clock.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&waking));
    let mut sleepers: Vec<_> = (1..=100)
        .map(|delay| core.sleep(delay * MILLISECOND))
        .collect();
    for sleeper in &mut sleepers {
        let polled = std::pin::Pin::new(sleeper).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    // Each of three workers wakes some, which move it further.
    let moving = (0..3).map(|_| {
        let clock = clock.clone();
        core.spawn_fn(move || (0..20).for_each(|_| clock.advance(MILLISECOND)))
    });
    let moving: Vec<_> = moving.collect();
    for moved in moving {
        wait(moved.expect("open")).expect("it ran");
    }
    assert_eq!(waking.1.load(Ordering::SeqCst), sleepers.len());
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
