//! Uses that nobody should make: each has a result that is defined, within a bound.

mod block_on;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::hash::{Hash, Hasher};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{
    BuildError, Envelope, ExecuteError, Failure, MAX_BATCH, MAX_WORKERS, MissedTick, Shutdown,
    Tick, WorkerCore,
};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;

use crate::block_on::{DEADLINE, block_on};

async fn echo<S>(
    message: Envelope<u64>,
    _: executor_core::PolicyContext<S>,
) -> Result<u64, Infallible> {
    Ok(message.payload)
}

fn core(workers: usize) -> WorkerCore {
    WorkerCore::threads(workers).build().expect("threads start")
}

fn serial(core: &WorkerCore) -> SerialExecutor<u64> {
    SerialExecutor::builder(core).build().expect("legal")
}

/// The value of an outcome that came in time.
fn value<E, C>(outcome: Result<Result<u64, E>, C>) -> u64 {
    let Ok(Ok(value)) = outcome else {
        panic!("no value in time");
    };
    value
}

/// Whether a core still works, and ends.
fn check(core: &WorkerCore) {
    let executor = serial(core);
    assert_eq!(
        block_on(executor.execute(1, Envelope::new(5), echo)).expect("handled"),
        5
    );
    let submitted = executor.submit(1, Envelope::new(6), echo).expect("open");
    assert_eq!(
        submitted
            .wait_timeout(DEADLINE)
            .expect("in time")
            .expect("handled"),
        6
    );
    let report = block_on(core.shutdown(Shutdown::Drain, DEADLINE));
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn options_work_at_both_ends_of_their_ranges_and_not_beyond() {
    for core in [
        WorkerCore::threads(1).batch(1).budget(1).build(),
        WorkerCore::threads(2)
            .batch(MAX_BATCH)
            .budget(u32::MAX as usize)
            .build(),
        WorkerCore::threads(MAX_WORKERS / 16).build(),
    ] {
        check(&core.expect("legal"));
    }
    let refused = [
        WorkerCore::threads(MAX_WORKERS + 1).build().err(),
        WorkerCore::threads(usize::MAX).build().err(),
        WorkerCore::threads(1).batch(MAX_BATCH + 1).build().err(),
        WorkerCore::threads(1).budget(usize::MAX).build().err(),
    ];
    let core = core(1);
    let builder = || SerialExecutor::<u64>::builder(&core);
    for one in [true, false] {
        let (most, streams) = if one {
            (1, 1)
        } else {
            (u32::MAX as usize, usize::MAX)
        };
        let executor = builder()
            .queue_per_stream(most)
            .queue_total(most)
            .resident_streams(streams)
            .build()
            .expect("legal");
        for key in 0..10 {
            let submitted = executor.submit(key, Envelope::new(key), echo);
            assert_eq!(submitted.expect("it waits").wait().expect("handled"), key);
        }
    }
    let serial = [
        builder().queue_per_stream(usize::MAX).build().err(),
        builder().queue_total(usize::MAX).build().err(),
    ];
    let parallel = || ParallelExecutor::builder(&core);
    for most in [1, executor_parallel::MAX_CONCURRENCY] {
        let executor = parallel().max_concurrency(most).queue(1).build();
        let executor = executor.expect("legal");
        assert_eq!(executor.available_permits(), most);
        let outcome = block_on(executor.execute(Envelope::new(3), echo));
        assert_eq!(outcome.expect("handled"), 3);
        assert!(executor.set_max_concurrency(0).is_err());
        assert!(executor.set_max_concurrency(usize::MAX).is_err());
        assert_eq!(executor.available_permits(), most);
    }
    let parallel = [
        parallel().max_concurrency(usize::MAX).build().err(),
        parallel()
            .max_concurrency(executor_parallel::MAX_CONCURRENCY + 1)
            .build()
            .err(),
    ];
    for error in refused.into_iter().chain(serial).chain(parallel) {
        assert!(
            matches!(error, Some(BuildError::OutOfRange { .. })),
            "{error:?}"
        );
    }
    check(&core);
}

#[test]
fn options_of_nothing_are_refused() {
    let threads = || WorkerCore::threads(1);
    let refused = [
        WorkerCore::threads(0).build().err(),
        threads().workers(0).build().err(),
        threads().batch(0).build().err(),
        threads().budget(0).build().err(),
        threads().tick(Duration::ZERO).build().err(),
        threads().tick(Duration::from_nanos(999)).build().err(),
        threads().tick(Duration::from_secs(2)).build().err(),
        threads().tick(Duration::MAX).build().err(),
    ];
    let core = core(1);
    let serial = || SerialExecutor::<u64>::builder(&core);
    let serial = [
        serial().queue_per_stream(0).build().err(),
        serial().queue_total(0).build().err(),
        serial().resident_streams(0).build().err(),
    ];
    let parallel = || ParallelExecutor::builder(&core);
    let parallel = [
        parallel().max_concurrency(0).build().err(),
        parallel().queue(0).build().err(),
        parallel().queue(usize::MAX).build().err(),
    ];
    for error in refused.into_iter().chain(serial).chain(parallel) {
        assert!(
            matches!(error, Some(BuildError::OutOfRange { .. })),
            "{error:?}"
        );
    }
    check(&core);
}

#[test]
fn a_core_of_the_most_workers_works_and_ends() {
    let core = core(MAX_WORKERS);
    let spawn = |number| core.spawn_fn(move || number).expect("open");
    let spawned: Vec<_> = (0..4 * MAX_WORKERS).map(spawn).collect();
    for (number, spawned) in spawned.into_iter().enumerate() {
        let outcome = spawned.wait_timeout(DEADLINE).expect("in time");
        assert_eq!(outcome.expect("handled"), number);
    }
    check(&core);
}

#[test]
fn names_are_free_but_those_that_no_thread_can_have_are_refused() {
    for name in ["", " ", "../../%s{}", &"long".repeat(10_000)] {
        let core = WorkerCore::threads(1).name(name).build().expect("legal");
        let parallel = ParallelExecutor::builder(&core).name(name).build();
        assert_eq!(parallel.expect("legal").name(), name);
        check(&core);
    }
    let refused = WorkerCore::threads(2).name("zero\0byte").build().err();
    assert!(
        matches!(refused, Some(BuildError::Thread { index: 0, .. })),
        "{refused:?}"
    );
}

#[test]
fn ticks_work_at_both_ends_of_their_range() {
    for tick in [Duration::from_micros(1), Duration::from_secs(1)] {
        let core = WorkerCore::threads(1).tick(tick).build().expect("legal");
        let executor = serial(&core);
        let now = executor.submit_after(1, Duration::ZERO, Envelope::new(1), echo);
        let now = now.expect("open").into_completion();
        assert_eq!(value(now.wait_timeout(DEADLINE)), 1);
        let past = executor.submit_at(1, Instant::now(), Envelope::new(2), echo);
        let past = past.expect("open").into_completion();
        assert_eq!(value(past.wait_timeout(DEADLINE)), 2);
        check(&core);
    }
}

#[test]
fn durations_of_nothing_and_without_end_are_legal() {
    let core = core(1);
    let executor = serial(&core);
    let parallel = ParallelExecutor::builder(&core).build().expect("legal");
    let (let_go, gate) = channel::<()>();
    let blocking = executor.submit(1, Envelope::new(()), move |_, _| async move {
        gate.recv_timeout(DEADLINE).map_err(|_| "not let go")
    });
    let blocking = blocking.expect("room");
    let blocking = blocking.wait_timeout(Duration::ZERO).expect_err("it runs");
    assert!(!block_on(executor.drain(Duration::ZERO)).is_complete());
    assert!(!block_on(core.drain(Duration::ZERO)).is_complete());
    let_go.send(()).expect("it waits");
    let outcome = blocking.wait_timeout(Duration::MAX).expect("in time");
    outcome.expect("handled");
    assert!(block_on(executor.drain(Duration::MAX)).is_complete());
    assert!(block_on(core.drain(Duration::MAX)).is_complete());

    let mut never =
        (executor.submit_after(1, Duration::MAX, Envelope::new(3), echo)).expect("open");
    let under_limit = parallel.submit_after(Duration::MAX, Envelope::new(4), echo);
    assert!(never.is_pending() && never.cancel());
    let back = under_limit.expect("open").recover().expect("pending");
    assert_eq!(back.payload, 4);
    assert!(block_on(core.timeout(Duration::ZERO, pending::<()>())).is_err());
    block_on(core.timeout(Duration::MAX, async {})).expect("in time");

    let late = Envelope::new(5).with_deadline(Instant::now());
    let late = executor.submit(1, late, echo).expect("room");
    assert!(matches!(late.wait(), Err(Failure::Expired)));

    let begun = Instant::now();
    let (tell, told) = channel();
    let always = executor.schedule_every(
        2,
        Duration::ZERO,
        MissedTick::Skip,
        move |_: Envelope<Tick>, _| {
            let _gone = tell.send(6);
            async { Ok::<_, Infallible>(()) }
        },
    );
    for _ in 0..3 {
        assert_eq!(told.recv_timeout(DEADLINE), Ok(6));
    }
    // One may run just now, and goes on; then nobody is left who could tell.
    let _none_runs = always.expect("open").cancel();
    while let Err(RecvTimeoutError::Timeout) | Ok(_) = told.recv_timeout(DEADLINE) {
        assert!(begun.elapsed() < DEADLINE, "the schedule does not end");
    }
    let report = block_on(parallel.shutdown(Shutdown::Drain, Duration::MAX));
    assert!(report.is_complete(), "{report:?}");
    let report = block_on(executor.shutdown(Shutdown::Drain, Duration::ZERO));
    assert_eq!(report.aborted, 0);
    let report = block_on(core.shutdown(Shutdown::Drain, Duration::MAX));
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn a_limit_may_leap_between_its_ends_while_handlers_run() {
    let core = core(2);
    let executor = ParallelExecutor::builder(&core).max_concurrency(1).build();
    let executor = executor.expect("legal");
    let submit = |number| executor.submit(Envelope::new(number), echo).expect("room");
    let begun = Instant::now();
    let submitted: Vec<_> = (0..1_000)
        .map(|number| {
            let most = [executor_parallel::MAX_CONCURRENCY, 1][number as usize % 2];
            executor.set_max_concurrency(most).expect("legal");
            submit(number)
        })
        .collect();
    for (number, completion) in (0..).zip(submitted) {
        assert_eq!(value(completion.wait_timeout(DEADLINE)), number);
    }
    assert!(block_on(executor.drain(DEADLINE)).is_complete());
    assert_eq!(executor.available_permits(), 1);
    assert!(begun.elapsed() < DEADLINE, "each permit is taken by itself");
    check(&core);
}

/// A key that is like all others to a map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alike(u64);

impl Hash for Alike {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[test]
fn keys_with_one_hash_have_streams_of_their_own() {
    let core = core(2);
    let executor = SerialExecutor::<Alike>::builder(&core)
        .state(|key| key.0)
        .resident_streams(8)
        .build()
        .expect("legal");
    let state = |_: Envelope<()>, mut context: executor_core::PolicyContext<u64>| async move {
        Ok::<_, Infallible>(*context.state())
    };
    for key in 0..100 {
        let outcome = block_on(executor.execute(Alike(key % 20), Envelope::new(()), state));
        assert_eq!(outcome.expect("handled"), key % 20);
    }
    check(&core);
}

#[test]
fn large_messages_handlers_and_outputs_come_through() {
    let core = core(2);
    let executor = serial(&core);
    let large = |seed: u8| [seed; 64 << 10];
    for seed in 0..4 {
        let handler = move |message: Envelope<[u8; 64 << 10]>, _| {
            let more = large(seed);
            async move {
                let sum = u64::from(message.payload[1]) + u64::from(more[2]);
                let mut polled = false;
                poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::replace(&mut polled, true) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
                Ok::<_, Infallible>((sum, more))
            }
        };
        let submitted = executor.submit(1, Envelope::new(large(seed)), handler);
        let (sum, more) = submitted.expect("room").wait().expect("handled");
        assert_eq!((sum, more[9]), (2 * u64::from(seed), seed));
    }
    check(&core);
}

/// Uses the executors when its thread ends.
struct AtTheEnd(RefCell<Option<(WorkerCore, std::sync::mpsc::Sender<u64>)>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let Some((core, told)) = self.0.take() else {
            return;
        };
        let executor = serial(&core);
        let submitted = executor.submit(1, Envelope::new(1), echo).expect("open");
        let mut sum = submitted.wait().expect("handled");
        sum += block_on(executor.execute(1, Envelope::new(2), echo)).expect("handled");
        let parallel = ParallelExecutor::builder(&core).build().expect("legal");
        sum += block_on(parallel.execute(Envelope::new(4), echo)).expect("handled");
        let spawned = core.spawn_fn(|| 8).expect("open");
        sum += spawned.wait().expect("handled");
        let soon = Duration::from_millis(1);
        let delayed = executor.submit_after(1, soon, Envelope::new(16), echo);
        let delayed = delayed.expect("open").into_completion();
        sum += delayed.wait().expect("handled");
        let callbacks = core.callbacks();
        let called = callbacks.call_after(soon, || 32).expect("open");
        sum += called.into_completion().wait().expect("handled");
        // What is pending, in line or held when the thread is gone.
        let later = executor.submit_after(1, DEADLINE, Envelope::new(0), echo);
        drop(later.expect("open"));
        drop(executor.submit(1, Envelope::new(0), echo).expect("open"));
        assert!(block_on(executor.drain(DEADLINE)).is_complete());
        assert!(block_on(executor.shutdown(Shutdown::Drain, DEADLINE)).is_complete());
        told.send(sum).expect("somebody waits");
    }
}

thread_local! {
    static AT_THE_END: AtTheEnd = const { AtTheEnd(RefCell::new(None)) };
}

fn told(receiver: &Receiver<u64>) -> u64 {
    receiver.recv_timeout(DEADLINE).expect("told in time")
}

#[test]
fn a_thread_that_ends_may_use_everything() {
    for executors_first in [false, true] {
        let core = core(1);
        let (tell, receiver) = channel();
        let ending = core.clone();
        // What a thread touched first is dropped last, so that both orders come up.
        let thread = thread::spawn(move || {
            if executors_first {
                let executor = serial(&ending);
                block_on(executor.execute(1, Envelope::new(0), echo)).expect("handled");
            }
            AT_THE_END.with(|end| end.0.replace(Some((ending.clone(), tell))));
            let executor = serial(&ending);
            block_on(executor.execute(1, Envelope::new(0), echo)).expect("handled");
        });
        assert_eq!(told(&receiver), 63);
        thread.join().expect("no panic");
        check(&core);
    }
}

#[test]
fn a_handler_that_blocks_on_an_outcome_panics_wherever_it_runs() {
    let core = core(1);
    let executor = serial(&core);
    let waiting = |executor: SerialExecutor<u64>| {
        move |_: Envelope<()>, _| async move {
            // Its own stream: the outcome cannot come while the handler runs.
            let behind = executor.submit(1, Envelope::new(9), echo).expect("room");
            behind.wait().map_err(|_| "no outcome")
        }
    };
    let inline = block_on(executor.execute(1, Envelope::new(()), waiting(executor.clone())));
    assert!(
        matches!(inline, Err(ExecuteError::Panicked(_))),
        "{inline:?}"
    );
    let queued = executor.submit(1, Envelope::new(()), waiting(executor.clone()));
    let queued = queued.expect("room").wait_timeout(DEADLINE);
    assert!(
        matches!(queued, Ok(Err(Failure::Panicked(_)))),
        "{queued:?}"
    );
    check(&core);
}

#[test]
fn a_handler_that_never_wakes_ends_with_an_abort() {
    let core = core(1);
    let executor = serial(&core);
    let never = |_: Envelope<()>, _| pending::<Result<(), Infallible>>();
    let started = executor.submit(1, Envelope::new(()), never).expect("room");
    let queued = executor.submit(1, Envelope::new(()), never).expect("room");
    let report = block_on(executor.drain(Duration::from_millis(20)));
    assert!(!report.is_complete());
    let report = block_on(executor.shutdown(Shutdown::Abort, DEADLINE));
    assert!(report.is_complete(), "{report:?}");
    for completion in [started, queued] {
        assert!(matches!(completion.wait(), Err(Failure::Aborted)));
    }
    check(&core);
}

#[test]
fn a_handler_that_is_woken_from_everywhere_ends() {
    const WAKES: u64 = 2_000;
    let core = core(2);
    let executor = serial(&core);
    let handler = |_: Envelope<()>, _| {
        let mut threads = Vec::new();
        let mut polls = 0_u64;
        poll_fn(move |context| {
            polls += 1;
            context.waker().wake_by_ref();
            let is_first = threads.is_empty();
            if is_first {
                threads.extend((0..4).map(|_| {
                    let waker = context.waker().clone();
                    thread::spawn(move || (0..WAKES).for_each(|_| waker.wake_by_ref()))
                }));
            }
            if is_first || threads.iter().any(|thread| !thread.is_finished()) {
                return Poll::Pending;
            }
            Poll::Ready(Ok::<_, Infallible>(polls))
        })
    };
    let submitted = executor
        .submit(1, Envelope::new(()), handler)
        .expect("room");
    let polls = submitted.wait_timeout(DEADLINE).expect("in time");
    assert!(polls.expect("handled") > 1);
    check(&core);
}

#[test]
fn a_blocking_handler_is_waited_for_and_no_longer_than_asked() {
    let core = core(1);
    let executor = serial(&core);
    let (let_go, gate) = channel::<()>();
    let blocking = executor.submit(1, Envelope::new(()), move |_, _| async move {
        gate.recv_timeout(DEADLINE).map_err(|_| "not let go")
    });
    let blocking = blocking.expect("room");
    let report = block_on(core.drain(Duration::from_millis(20)));
    assert!(!report.is_complete());
    let blocking = blocking
        .wait_timeout(Duration::from_millis(1))
        .expect_err("it blocks");
    let_go.send(()).expect("it waits");
    blocking.wait().expect("handled");
    check(&core);
}
