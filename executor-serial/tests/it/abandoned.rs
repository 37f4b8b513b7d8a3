//! A tokio runtime that is dropped while its core has work.

use std::convert::Infallible;

use executor_serial::{Envelope, Failure, RejectReason, SerialExecutor, WorkerCore};

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
