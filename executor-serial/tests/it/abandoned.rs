//! A tokio runtime that is dropped while its core has work.

use std::convert::Infallible;
use std::future::Future;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use executor_serial::{Envelope, ExecuteError, Failure, RejectReason, SerialExecutor, WorkerCore};

use crate::contract::DEADLINE;
use crate::contract::eventually::in_time;

#[test]
fn work_left_by_a_dropped_runtime_ends_as_aborted() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let core = WorkerCore::tokio(runtime.handle())
        .build()
        .expect("one worker");
    let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("defaults");
    let submit = |key: u64| {
        executor.try_submit(key, Envelope::new(key), |message, _| async move {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(message.payload)
        })
    };
    let parked = submit(1).expect("open");
    let behind_it = submit(1).expect("open");
    runtime.block_on(in_time("the first has started", || {
        executor.metrics().depth == 1
    }));
    let queued = submit(2).expect("open");
    drop(runtime);
    for completion in [parked, behind_it, queued] {
        let outcome = completion.wait_timeout(DEADLINE).expect("resolved");
        assert!(matches!(outcome, Err(Failure::Aborted)), "{outcome:?}");
    }
    let refused = submit(3).expect_err("nobody would run it");
    assert_eq!(refused.reason, RejectReason::Closed);
    assert_eq!(refused.work.payload, 3);
}

/// A thread outside of the runtime that has begun a message, when the runtime goes.
#[test]
fn what_a_foreign_caller_leaves_after_its_runtime_is_gone_ends_as_aborted() {
    for returns in [true, false] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let core = WorkerCore::tokio(runtime.handle()).build();
        let core = core.expect("one worker");
        let executor: SerialExecutor<u64> =
            SerialExecutor::builder(&core).build().expect("defaults");
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let caller = {
            let executor = executor.clone();
            thread::spawn(move || {
                let handler = move |_: Envelope<()>, _| async move {
                    begun.send(()).expect("it is waited for");
                    may_go_on.recv().expect("it is told");
                    if !returns {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(())
                };
                let mut execution = Box::pin(executor.execute(1, Envelope::new(()), handler));
                let mut context = Context::from_waker(Waker::noop());
                let outcome = execution.as_mut().poll(&mut context);
                // What it left on this thread has ended before.
                match outcome {
                    Poll::Pending => execution.as_mut().poll(&mut context),
                    ready => ready,
                }
            })
        };
        has_begun.recv().expect("it begins");
        let queued = executor.try_submit(1, Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        });
        drop(runtime);
        go_on.send(()).expect("it waits");
        match caller.join().expect("no panic") {
            Poll::Ready(Ok(())) => assert!(returns),
            Poll::Ready(Err(ExecuteError::Aborted)) => assert!(!returns),
            other => panic!("{other:?}"),
        }
        let outcome = queued.expect("open").wait_timeout(DEADLINE);
        let outcome = outcome.expect("resolved");
        assert!(matches!(outcome, Err(Failure::Aborted)), "{outcome:?}");
    }
}
