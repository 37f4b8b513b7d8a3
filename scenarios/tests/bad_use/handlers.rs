//! Handlers that block, that never wake, and that are woken without need.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use executor_core::{Envelope, ExecuteError, Failure, Shutdown};
use executor_scenarios::{DEADLINE, block_on};
use executor_serial::SerialExecutor;

use crate::{check, core, echo, serial};

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
