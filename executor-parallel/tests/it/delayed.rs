//! Delayed messages and schedules under a limit, on virtual time.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use executor_parallel::{
    Completion, Delayed, Envelope, Failure, MissedTick, ParallelExecutor, PolicyContext,
    RejectReason, Shutdown, Tick, VirtualClock, WorkerCore,
};
use tokio::sync::Semaphore;

#[cfg(target_os = "linux")]
use crate::contract::eventually::threads_named;
use crate::contract::is_pending;

const DEADLINE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn rig(limit: usize, queue: usize) -> (VirtualClock, ParallelExecutor) {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).build();
    let executor = ParallelExecutor::builder(&core.expect("the threads start"))
        .max_concurrency(limit)
        .queue(queue)
        .build();
    (clock, executor.expect("legal options"))
}

fn finish<T: Send, M: Send>(delayed: Delayed<T, Infallible, M>) -> Result<T, Failure> {
    wait(delayed.into_completion())
}

fn wait<T: Send, M: Send>(completion: Completion<T, Infallible, M>) -> Result<T, Failure> {
    completion
        .wait_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("no outcome within {DEADLINE:?}"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::yield_now();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

async fn echo(message: Envelope<u64>, _: PolicyContext<()>) -> Result<u64, Infallible> {
    Ok(message.payload)
}

#[test]
fn delayed_messages_get_permits_at_their_time_also_when_the_queue_is_full() {
    let (clock, executor) = rig(1, 1);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let running = executor.try_submit(Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(0)
    });
    let queued = executor.try_submit(Envelope::new(1), echo).expect("room");
    let delayed: Vec<_> = (2..7)
        .map(|number| executor.submit_after(SECOND, Envelope::new(number), echo))
        .collect();
    assert_eq!(executor.metrics().waiting, 1);
    clock.advance(SECOND);
    assert_eq!(executor.metrics().waiting, 6, "admitted when it returns");
    gate.add_permits(1);
    wait(running.expect("room")).expect("handled");
    assert_eq!(wait(queued).expect("handled"), 1);
    for (number, message) in (2..).zip(delayed) {
        assert_eq!(finish(message.expect("open")).expect("handled"), number);
    }
    until("the permit is back", || executor.available_permits() == 1);
}

#[test]
fn a_cancelled_message_takes_no_permit_before_or_after_its_time() {
    let (clock, executor) = rig(1, 8);
    let early = executor.submit_after(SECOND, Envelope::new(5), echo);
    let back = early.expect("open").recover().expect("not started");
    assert_eq!((back.payload, executor.available_permits()), (5, 1));

    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let running = executor.try_submit(Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(0)
    });
    let mut queued = (executor.submit_after(SECOND, Envelope::new(6), echo)).expect("open");
    clock.advance(SECOND);
    assert!(!queued.is_pending() && queued.cancel());
    gate.add_permits(1);
    wait(running.expect("room")).expect("handled");
    until("the permit is back and both are counted", || {
        executor.available_permits() == 1 && executor.metrics().totals.cancelled == 2
    });
}

#[test]
fn a_shutdown_or_the_last_handle_ends_what_is_delayed() {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let (_clock, executor) = rig(2, 8);
        let delayed = executor.submit_after(SECOND, Envelope::new(5), echo);
        let report = block_on(executor.shutdown(mode, DEADLINE));
        assert!(report.is_complete() && report.aborted == 1, "{report:?}");
        assert!(matches!(
            finish(delayed.expect("open")),
            Err(Failure::Aborted)
        ));
        let refused = executor.submit_after(SECOND, Envelope::new(9), echo);
        let refused = refused.expect_err("closed");
        assert_eq!(
            (refused.reason, refused.work.payload),
            (RejectReason::Closed, 9)
        );
    }
    let (_clock, executor) = rig(2, 8);
    let other = executor.clone();
    let delayed = executor.submit_after(SECOND, Envelope::new(5), echo);
    drop(executor);
    let at_once = other.submit_after(Duration::ZERO, Envelope::new(6), echo);
    assert_eq!(finish(at_once.expect("open")).expect("handled"), 6);
    drop(other);
    assert!(matches!(
        finish(delayed.expect("open")),
        Err(Failure::Aborted)
    ));
}

#[test]
fn a_drain_does_not_wait_for_what_is_delayed() {
    let (clock, executor) = rig(2, 8);
    let delayed = executor.submit_after(SECOND, Envelope::new(5), echo);
    assert!(block_on(executor.drain(DEADLINE)).is_complete());
    clock.advance(SECOND);
    assert!(block_on(executor.drain(DEADLINE)).is_complete());
    assert_eq!(finish(delayed.expect("open")).expect("handled"), 5);
}

#[test]
fn a_schedule_moves_and_ends() {
    let (clock, executor) = rig(2, 8);
    let ticks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ticks);
    let schedule = executor.schedule_every(
        SECOND,
        MissedTick::Delay,
        move |_: Envelope<Tick>, _: PolicyContext<()>| {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>("a failure ends its own tick alone")
            }
        },
    );
    let mut schedule = schedule.expect("open");
    for tick in 1..=3 {
        clock.advance(SECOND);
        until("the tick is counted", || {
            ticks.load(Ordering::SeqCst) == tick
        });
        until("the next one is set, and moved", || {
            schedule.reschedule_after(SECOND)
        });
    }
    assert!(schedule.cancel());
    clock.advance(SECOND * 10);
    assert!(block_on(executor.drain(DEADLINE)).is_complete());
    assert_eq!(ticks.load(Ordering::SeqCst), 3);
}

#[test]
fn no_tick_starts_once_a_cancel_has_returned() {
    for round in 0..if cfg!(debug_assertions) { 300 } else { 5_000 } {
        let (clock, executor) = rig(2, 8);
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
        let schedule = executor.schedule_every(SECOND, MissedTick::Burst, handler);
        let mut schedule = schedule.expect("open");
        clock.advance(SECOND * 1_000);
        until("some ticks start", || {
            ticks.load(Ordering::SeqCst) > round % 50
        });
        // One that had begun may get here later.
        let running = u64::from(!schedule.cancel());
        cancelled.store(1, Ordering::SeqCst);
        assert!(block_on(executor.drain(DEADLINE)).is_complete());
        assert!(late.load(Ordering::SeqCst) <= running, "round {round}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_schedule_does_not_keep_the_core_whose_handles_are_gone() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).name("kept-under");
    let core = core.build().expect("the threads start");
    let executor = ParallelExecutor::builder(&core).build().expect("legal");
    let ticks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ticks);
    let handler = move |_: Envelope<Tick>, _: PolicyContext<()>| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, Infallible>(()))
    };
    let schedule = executor.schedule_every(SECOND, MissedTick::Burst, handler);
    let mut schedule = schedule.expect("open");
    for tick in 1..=3 {
        clock.advance(SECOND);
        until("it ticks", || ticks.load(Ordering::SeqCst) == tick);
        until("the next tick is set", || schedule.reschedule_after(SECOND));
    }
    until("the workers are there", || threads_named("kept-under") == 2);
    drop((core, executor));
    until("the workers leave", || threads_named("kept-under") == 0);
    assert!(!schedule.reschedule_after(SECOND));
    assert!(schedule.cancel());
}

#[cfg(target_os = "linux")]
#[test]
fn a_completion_does_not_keep_the_core_whose_handles_are_gone() {
    let core = WorkerCore::threads(2).name("kept-done").build();
    let core = core.expect("the threads start");
    let executor = ParallelExecutor::builder(&core).build().expect("legal");
    let ready = |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
    let done = executor.submit(Envelope::new(1), ready).expect("room");
    until("it is handled", || done.is_done());
    until("the workers are there", || threads_named("kept-done") == 2);
    drop((core, executor));
    until("the workers leave", || threads_named("kept-done") == 0);
    assert_eq!(done.wait().expect("handled"), 1);
}

#[test]
fn a_drain_does_not_wait_for_what_was_delayed_beyond_its_beginning() {
    let (clock, executor) = rig(2, 8);
    let gates = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
    let held = |at: usize| {
        let gate = Arc::clone(&gates[at]);
        move |_: Envelope<u64>, _: PolicyContext| async move {
            gate.acquire().await.expect("open").forget();
            Ok::<_, Infallible>(())
        }
    };
    let before = executor.try_submit(Envelope::new(0), held(0));
    let delayed = executor.submit_after(SECOND, Envelope::new(1), held(1));
    block_on(async {
        let mut drain = Box::pin(executor.drain(DEADLINE));
        assert!(is_pending(&mut drain).await);
        clock.advance(SECOND);
        until("it runs", || executor.metrics().running == 2);
        gates[0].add_permits(1);
        let deadline = Instant::now() + DEADLINE;
        while is_pending(&mut drain).await {
            assert!(Instant::now() < deadline, "it waits for what came later");
        }
    });
    assert_eq!(executor.metrics().running, 1);
    gates[1].add_permits(1);
    wait(before.expect("room")).expect("handled");
    finish(delayed.expect("open")).expect("handled");
}
