//! Durations of nothing and without end, and ticks of the shortest and the longest.

use std::convert::Infallible;
use std::future::pending;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use executor_core::{Envelope, Failure, MissedTick, Shutdown, Tick, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_scenarios::{DEADLINE, block_on};

use crate::{check, core, echo, serial, value};

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
