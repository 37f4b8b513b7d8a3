//! Delayed messages and schedules of streams, on virtual time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use executor_serial::{
    Completion, Delayed, Envelope, Failure, MissedTick, PolicyContext, RejectReason, Report,
    SerialExecutor, Shutdown, Tick, VirtualClock, WorkerCore,
};
use tokio::sync::Semaphore;

#[cfg(target_os = "linux")]
use crate::contract::eventually::threads_named;

const DEADLINE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    clock: VirtualClock,
    core: WorkerCore,
    executor: SerialExecutor<u64>,
}

fn rig(queue: usize) -> Rig {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).build();
    let core = core.expect("the threads start");
    let executor = SerialExecutor::builder(&core).queue_per_stream(queue);
    Rig {
        clock,
        executor: executor.build().expect("legal options"),
        core,
    }
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

async fn echo(message: Envelope<u64>, _: PolicyContext<()>) -> Result<u64, Infallible> {
    Ok(message.payload)
}

#[test]
fn a_delayed_message_is_admitted_at_its_time_behind_what_is_queued() {
    let rig = rig(8);
    let (gate, order) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let noting = |number: u64| {
        let order = Arc::clone(&order);
        move |_: Envelope<u64>, _: PolicyContext<()>| async move {
            order.lock().expect("whole").push(number);
            Ok::<_, Infallible>(())
        }
    };
    let held = Arc::clone(&gate);
    let first = rig.executor.submit(1, Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    let first = first.expect("room");
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    let late = rig
        .executor
        .submit_after(1, SECOND, Envelope::new(0), noting(2));
    let late = late.expect("open");
    let before = rig.executor.submit(1, Envelope::new(0), noting(1));
    let before = before.expect("room");
    assert_eq!(rig.executor.stream(&1).depth(), 1);
    rig.clock.advance(SECOND);
    until("the delayed message is queued", || {
        rig.executor.stream(&1).depth() == 2
    });
    let after = rig.executor.submit(1, Envelope::new(0), noting(3));
    let after = after.expect("room");
    gate.add_permits(1);
    wait(first).expect("handled");
    wait(before).expect("handled");
    finish(late).expect("handled");
    wait(after).expect("handled");
    assert_eq!(*order.lock().expect("whole"), [1, 2, 3]);
}

#[test]
fn equal_deadlines_of_one_stream_are_handled_in_call_order() {
    let rig = rig(200_000);
    let at = rig.core.now() + SECOND;
    let messages = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    let order = Arc::new(Mutex::new(Vec::new()));
    let stream = rig.executor.stream(&7);
    let delayed: Vec<_> = (0..messages)
        .map(|number| {
            let order = Arc::clone(&order);
            let handler = |message: Envelope<u64>, _: PolicyContext<()>| async move {
                order.lock().expect("whole").push(message.payload);
                Ok::<_, Infallible>(())
            };
            let delayed = stream.submit_at(at, Envelope::new(number), handler);
            delayed.expect("open")
        })
        .collect();
    rig.clock.advance(SECOND);
    for message in delayed {
        finish(message).expect("handled");
    }
    let order = order.lock().expect("whole");
    assert!(order.is_sorted() && order.len() as u64 == messages);
}

#[test]
fn a_full_queue_is_waited_for_in_line_and_nothing_is_lost() {
    let rig = rig(1);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let running = rig.executor.submit(1, Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    let running = running.expect("room");
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    let queued = rig
        .executor
        .submit(1, Envelope::new(0), echo)
        .expect("room");
    let delayed: Vec<_> = (1..=5)
        .map(|number| {
            let delayed = rig
                .executor
                .submit_after(1, SECOND, Envelope::new(number), echo);
            delayed.expect("open")
        })
        .collect();
    rig.clock.advance(SECOND);
    until("all five wait in line", || {
        rig.executor.metrics().totals.waited == 5
    });
    assert_eq!(rig.executor.stream(&1).depth(), 1, "the bound holds");
    gate.add_permits(1);
    wait(running).expect("handled");
    assert_eq!(wait(queued).expect("handled"), 0);
    for (message, number) in delayed.into_iter().zip(1..) {
        assert_eq!(finish(message).expect("handled"), number);
    }
}

#[test]
fn those_in_line_at_a_shutdown_end_as_aborted() {
    let rig = rig(1);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let running = rig.executor.submit(1, Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    let queued = rig
        .executor
        .submit(1, Envelope::new(0), echo)
        .expect("room");
    let delayed = rig.executor.submit_after(1, SECOND, Envelope::new(1), echo);
    rig.clock.advance(SECOND);
    until("it waits in line", || {
        rig.executor.metrics().totals.waited == 1
    });
    let executor = rig.executor.clone();
    let shutdown = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let shutdown = executor.shutdown(Shutdown::Drain, DEADLINE);
        runtime.expect("a runtime").block_on(shutdown)
    });
    let delayed = delayed.expect("open");
    assert!(matches!(finish(delayed), Err(Failure::Aborted)));
    gate.add_permits(1);
    wait(running.expect("room")).expect("handled");
    wait(queued).expect("handled");
    assert!(shutdown.join().expect("no panic").is_complete());
}

#[test]
fn a_stream_with_a_pending_timer_is_not_evicted() {
    let rig = rig(8);
    let keys = if cfg!(debug_assertions) {
        2_000
    } else {
        100_000
    };
    let delayed: Vec<_> = (0..keys)
        .map(|key| {
            let delayed = rig
                .executor
                .submit_after(key, SECOND, Envelope::new(key), echo);
            delayed.expect("open")
        })
        .collect();
    assert_eq!(rig.executor.evict_idle(), 0);
    assert_eq!(rig.executor.metrics().resident as u64, keys);
    rig.clock.advance(SECOND);
    for (key, message) in (0..).zip(delayed) {
        assert_eq!(finish(message).expect("handled"), key);
    }
    until("all are evicted", || {
        rig.executor.evict_idle();
        rig.executor.metrics().resident == 0
    });
}

#[test]
fn a_cancelled_message_comes_back_before_and_after_its_time() {
    let rig = rig(8);
    let early = rig.executor.submit_after(1, SECOND, Envelope::new(5), echo);
    let back = early.expect("open").recover().expect("not started");
    assert_eq!(back.payload, 5);

    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let running = rig.executor.submit(1, Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    let queued = rig.executor.submit_after(1, SECOND, Envelope::new(6), echo);
    let mut queued = queued.expect("open");
    rig.clock.advance(SECOND);
    until("it is queued", || rig.executor.stream(&1).depth() == 1);
    assert!(!queued.is_pending() && !queued.reschedule_after(SECOND));
    assert!(queued.cancel() && queued.cancel());
    gate.add_permits(1);
    wait(running.expect("room")).expect("handled");
    until("both are counted", || {
        let totals = rig.executor.metrics().totals;
        totals.cancelled == 2 && totals.handled == 1
    });
}

#[test]
fn a_shutdown_or_the_last_handle_ends_what_is_delayed() {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let rig = rig(8);
        let delayed = rig.executor.submit_after(1, SECOND, Envelope::new(5), echo);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let report = (runtime.expect("a runtime")).block_on(rig.executor.shutdown(mode, DEADLINE));
        assert!(report.is_complete() && report.aborted == 1, "{report:?}");
        assert!(matches!(
            finish(delayed.expect("open")),
            Err(Failure::Aborted)
        ));
        let refused = rig.executor.submit_after(1, SECOND, Envelope::new(9), echo);
        let refused = refused.expect_err("closed");
        assert_eq!(
            (refused.reason, refused.work.payload),
            (RejectReason::Closed, 9)
        );
    }
    let rig = rig(8);
    let delayed = rig.executor.submit_after(1, SECOND, Envelope::new(5), echo);
    drop(rig.executor);
    assert!(matches!(
        finish(delayed.expect("open")),
        Err(Failure::Aborted)
    ));
}

#[test]
fn scheduling_races_a_shutdown_and_every_message_has_an_outcome() {
    for round in 0..if cfg!(debug_assertions) { 100 } else { 1_000 } {
        let rig = rig(1_000);
        let executor = rig.executor.clone();
        let scheduler = thread::spawn(move || {
            let mut delayed = Vec::new();
            for number in 0.. {
                let delay = SECOND * u32::from(number % 2 == 0);
                match executor.submit_after(number % 3, delay, Envelope::new(number), echo) {
                    Ok(message) => delayed.push((number, message)),
                    Err(refused) => {
                        assert_eq!(refused.work.payload, number);
                        break;
                    }
                }
            }
            delayed
        });
        for _ in 0..round % 7 {
            thread::yield_now();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let shutdown = rig.executor.shutdown(Shutdown::Drain, DEADLINE);
        assert!(runtime.expect("a runtime").block_on(shutdown).is_complete());
        for (number, message) in scheduler.join().expect("no panic") {
            match finish(message) {
                Ok(echoed) => assert_eq!(echoed, number),
                Err(failure) => assert!(matches!(failure, Failure::Aborted), "{failure:?}"),
            }
        }
    }
}

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
fn a_deadline_goes_by_the_clock_of_the_core() {
    let rig = rig(8);
    let deadline = rig.core.now() + SECOND;
    let slow = rig.executor.submit(
        1,
        Envelope::new(1).with_deadline(deadline),
        |_, context: PolicyContext<()>| async move {
            context.expired().await;
            Ok::<_, Infallible>(())
        },
    );
    until("it waits for its deadline", || {
        rig.core.next_timer().is_some()
    });
    let late = rig.executor.submit_after(
        2,
        SECOND * 2,
        Envelope::new(2).with_deadline(deadline),
        echo,
    );
    rig.clock.advance(SECOND);
    wait(slow.expect("room")).expect("handled");
    rig.clock.advance(SECOND);
    assert!(matches!(finish(late.expect("open")), Err(Failure::Expired)));
}

#[test]
fn creating_and_cancelling_leaves_memory_as_it_was() {
    let rig = rig(8);
    let rounds = if cfg!(debug_assertions) {
        200_000
    } else {
        10_000_000
    };
    let dropped = Arc::new(AtomicU64::new(0));
    let _far = rig
        .executor
        .submit_after(0, DEADLINE * 1_000, Envelope::new(0), echo);
    let fired = Arc::new(AtomicUsize::new(0));
    let stream = rig.executor.stream(&1);
    let mut after_warm_up = 0;
    for round in 0..rounds {
        let count = Arc::clone(&fired);
        let delayed = stream.submit_after(DEADLINE, Envelope::new(()), |_, _| async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        });
        dropped.fetch_add(
            u64::from(delayed.expect("open").cancel()),
            Ordering::Relaxed,
        );
        if round == rounds / 10 {
            after_warm_up = executor_core::pool_metrics().chunk_bytes;
        }
    }
    assert_eq!(dropped.load(Ordering::Relaxed), rounds);
    // Other tests run beside this one, and use a few chunks.
    let grown = executor_core::pool_metrics()
        .chunk_bytes
        .saturating_sub(after_warm_up);
    assert!(grown < 64 << 20, "grown by {grown} bytes");
    rig.clock.advance(DEADLINE * 2);
    drop(stream);
    assert_eq!(fired.load(Ordering::SeqCst), 0);
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

/// Polls an end that nobody else polls; none: it is pending.
fn poll(end: &mut Pin<Box<dyn Future<Output = Report> + '_>>) -> Option<Report> {
    match end.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(report) => Some(report),
        Poll::Pending => None,
    }
}

/// A message of stream 1 that runs until the gate has a permit.
fn held(rig: &Rig, gate: &Arc<Semaphore>) -> Completion<(), Infallible, u64> {
    let gate = Arc::clone(gate);
    let held = rig.executor.submit(1, Envelope::new(0), |_, _| async move {
        gate.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    held.expect("room")
}

#[test]
fn all_rounds_of_a_drain_have_one_deadline_of_the_clock() {
    let rig = rig(8);
    let (first, second) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (executor, gates) = (
        rig.executor.clone(),
        (Arc::clone(&first), Arc::clone(&second)),
    );
    let parent = rig
        .executor
        .submit(1, Envelope::new(0), move |_, _| async move {
            let (first, second) = gates;
            first.acquire().await.expect("open").forget();
            let child = executor.submit(2, Envelope::new(0), |_, _| async move {
                second.acquire().await.expect("open").forget();
                Ok::<_, Infallible>(())
            });
            drop(child.expect("room"));
            Ok::<_, Infallible>(())
        });
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    let mut drain: Pin<Box<dyn Future<Output = Report>>> =
        Box::pin(rig.executor.drain(SECOND * 10));
    assert!(poll(&mut drain).is_none());
    rig.clock.advance(SECOND * 9);
    first.add_permits(1);
    wait(parent.expect("room")).expect("handled");
    until("the first round is over", || {
        !rig.executor.stream(&1).is_busy()
    });
    assert!(
        poll(&mut drain).is_none(),
        "the child runs, and is waited for"
    );
    rig.clock.advance(SECOND);
    let report = poll(&mut drain).expect("it is over");
    assert_eq!(report.still_running, 1);
    second.add_permits(1);
}

#[test]
fn a_drain_and_a_shutdown_of_the_core_have_one_deadline_of_the_clock() {
    for shuts_down in [false, true] {
        let rig = rig(8);
        let end = |deadline| -> Pin<Box<dyn Future<Output = Report> + '_>> {
            if shuts_down {
                Box::pin(rig.core.shutdown(Shutdown::Drain, deadline))
            } else {
                Box::pin(rig.core.drain(deadline))
            }
        };
        let waiting = rig.core.spawn(std::future::pending::<()>());
        let gate = Arc::new(Semaphore::new(0));
        let message = held(&rig, &gate);
        // However long it takes by another clock, nothing passes on this one.
        let (mut short, mut long) = (end(Duration::from_nanos(1)), end(SECOND * 10));
        assert!(poll(&mut short).is_none() && poll(&mut long).is_none());
        gate.add_permits(1);
        wait(message).expect("handled");
        until("the executor is idle", || {
            !rig.executor.stream(&1).is_busy()
        });
        assert!(poll(&mut short).is_none(), "the clock stands still");
        rig.clock.advance(SECOND * 9);
        assert_ne!(poll(&mut short).expect("it is over").still_running, 0);
        assert!(poll(&mut long).is_none());
        rig.clock.advance(SECOND);
        assert_ne!(poll(&mut long).expect("it is over").still_running, 0);
        drop((short, long, waiting));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let abort = rig.core.shutdown(Shutdown::Abort, DEADLINE);
        assert!(runtime.expect("a runtime").block_on(abort).is_complete());
    }
}

/// A state that ends an executor when it is dropped.
struct Ends(Option<SerialExecutor<u64>>);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

#[test]
fn a_timer_that_finds_who_gave_up_in_line_drops_them_after_the_turn() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).build();
    let core = core.expect("the threads start");
    let other = SerialExecutor::builder(&core).build().expect("legal");
    let pending = other.submit_after(1, SECOND * 100, Envelope::new(0), echo);
    let other = Mutex::new(Some(other));
    let executor: SerialExecutor<u64, Ends> = SerialExecutor::builder(&core)
        .state(move |&key: &u64| Ends(other.lock().expect("whole").take_if(|_| key == 2)))
        .queue_total(1)
        .build()
        .expect("legal");
    // Stream 2 has the other executor in its state.
    let made = executor.submit(2, Envelope::new(0), |_, _| async {
        Ok::<_, Infallible>(())
    });
    wait(made.expect("room")).expect("handled");
    // Stream 1 has a message that runs, and one that is queued: the executor is full.
    let (gate, stream) = (Arc::new(Semaphore::new(0)), executor.stream(&1));
    let held = Arc::clone(&gate);
    let running = stream.submit(Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    until("it runs", || stream.depth() == 0);
    let queued = stream.submit(Envelope::new(0), |_, _| async { Ok::<_, Infallible>(()) });
    // Somebody waits for room in stream 2, gives up, and is the last to have the stream.
    let last = executor.stream(&2);
    let mut waiting =
        Box::pin(last.submit_wait(Envelope::new(0), |_, _| async { Ok::<_, Infallible>(()) }));
    assert!(
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    drop(waiting);
    drop((last, executor));
    let late = stream.submit_after(SECOND, Envelope::new(0), |_, _| async {
        Ok::<_, Infallible>(())
    });
    clock.advance(SECOND);
    // What was delayed there ended with its executor.
    assert!(matches!(
        finish(pending.expect("open")),
        Err(Failure::Aborted)
    ));
    gate.add_permits(1);
    wait(running.expect("room")).expect("handled");
    wait(queued.expect("room")).expect("handled");
    finish(late.expect("open")).expect("handled");
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
