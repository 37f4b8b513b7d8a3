//! Shutdown.

use std::convert::Infallible;

use executor_core::{
    BuildError, Envelope, ExecuteError, Executor, Failure, RejectReason, Shutdown, WorkerCore,
};

use super::{DEADLINE, Gate, Kind, is_pending, on_every_host};

on_every_host![
    nothing_runs_before_the_first_message_and_ending_twice_is_harmless,
    a_closed_executor_gives_the_envelope_back,
    accepted_work_is_handled_by_a_draining_shutdown,
    accepted_work_ends_as_aborted_in_an_aborting_shutdown,
    work_that_races_with_a_shutdown_is_handled_or_handed_back,
    shutting_down_the_core_ends_its_executors,
    a_shutdown_of_the_core_that_is_dropped_goes_on,
    an_executor_built_beside_a_shutdown_loses_nothing,
];

async fn nothing_runs_before_the_first_message_and_ending_twice_is_harmless<S: Kind>(
    core: WorkerCore,
) {
    let executor = S::wide(&core, "wide");
    assert_eq!(executor.totals().finished(), 0);
    for _ in 0..2 {
        assert_eq!(
            executor.drain(DEADLINE).await,
            executor_core::Report::default()
        );
    }
    for mode in [
        Shutdown::Drain,
        Shutdown::Drain,
        Shutdown::Abort,
        Shutdown::Drain,
    ] {
        assert_eq!(
            executor.shutdown(mode, DEADLINE).await,
            executor_core::Report::default()
        );
        assert_eq!(
            executor.drain(DEADLINE).await,
            executor_core::Report::default()
        );
    }
}

async fn a_closed_executor_gives_the_envelope_back<S: Kind>(core: WorkerCore) {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let executor = S::wide(&core, "wide");
        assert!(executor.shutdown(mode, DEADLINE).await.is_complete());
        let envelope = Envelope::new("mine");
        let id = envelope.id();
        let executed = executor
            .execute(S::Key::default(), envelope, |_, _| async {
                Ok::<_, Infallible>(())
            })
            .await;
        let Err(ExecuteError::Rejected(rejected)) = executed else {
            panic!("not refused: {executed:?}")
        };
        assert_eq!(
            (&rejected.reason, rejected.work.id(), rejected.work.payload),
            (&RejectReason::Closed, id, "mine")
        );
        let submitted = executor.try_submit(S::Key::default(), rejected.work, |_, _| async {
            Ok::<_, Infallible>(())
        });
        let rejected = submitted.expect_err("closed");
        assert_eq!(
            (&rejected.reason, rejected.work.id(), rejected.work.payload),
            (&RejectReason::Closed, id, "mine")
        );
        assert_eq!(executor.totals().refused, 2);
    }
}

async fn accepted_work_is_handled_by_a_draining_shutdown<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 16);
    let gate = Gate::new();
    let submit = || {
        let gate = gate.clone();
        executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                gate.pass().await;
                Ok::<_, Infallible>(())
            },
        )
    };
    let accepted: Vec<_> = (0..10).map(|_| submit().expect("room")).collect();
    let mut shutdown = Box::pin(executor.shutdown(Shutdown::Drain, DEADLINE));
    assert!(is_pending(&mut shutdown).await);
    assert_eq!(submit().expect_err("closing").reason, RejectReason::Closed);
    gate.open();
    let report = shutdown.await;
    assert_eq!(
        (report.handled, report.aborted, report.still_running),
        (10, 0, 0)
    );
    for completion in accepted {
        completion.await.expect("handled");
    }
}

async fn accepted_work_ends_as_aborted_in_an_aborting_shutdown<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 16);
    let (never, started) = (Gate::new(), Gate::new());
    let submit = || {
        let (never, started) = (never.clone(), started.clone());
        executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                started.one();
                never.pass().await;
                Ok::<_, Infallible>(())
            },
        )
    };
    let accepted: Vec<_> = (0..10).map(|_| submit().expect("room")).collect();
    started.pass().await;
    let report = executor.shutdown(Shutdown::Abort, DEADLINE).await;
    assert_eq!(
        (report.handled, report.aborted, report.still_running),
        (0, 10, 0)
    );
    assert_eq!(started.count(), 0, "what had not started never runs");
    for completion in accepted {
        let outcome = completion.await;
        assert!(matches!(outcome, Err(Failure::Aborted)), "{outcome:?}");
    }
    assert!(executor.drain(DEADLINE).await.is_complete());
}

async fn work_that_races_with_a_shutdown_is_handled_or_handed_back<S: Kind>(core: WorkerCore) {
    for round in 0..40 {
        let mode = if round % 2 == 0 {
            Shutdown::Drain
        } else {
            Shutdown::Abort
        };
        let executor = S::narrow(&core, 8);
        let mut producers = Vec::new();
        for _ in 0..3 {
            let executor = executor.clone();
            producers.push(tokio::spawn(async move {
                let (mut handled, mut aborted, mut refused) = (0_u64, 0_u64, 0_u64);
                for number in 0..200_u32 {
                    let handler = move |_: Envelope<u32>, _| async move {
                        if number % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                        Ok::<_, Infallible>(())
                    };
                    if number % 2 == 0 {
                        match executor
                            .execute(S::Key::default(), Envelope::new(number), handler)
                            .await
                        {
                            Ok(()) => handled += 1,
                            Err(ExecuteError::Aborted) => aborted += 1,
                            Err(ExecuteError::Rejected(rejected)) => {
                                refused += u64::from(rejected.work.payload == number)
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    } else {
                        match executor.try_submit(S::Key::default(), Envelope::new(number), handler)
                        {
                            Ok(completion) => match completion.await {
                                Ok(()) => handled += 1,
                                Err(Failure::Aborted) => aborted += 1,
                                Err(other) => panic!("{other:?}"),
                            },
                            Err(rejected) => refused += u64::from(rejected.work.payload == number),
                        }
                    }
                    tokio::task::yield_now().await;
                }
                (handled, aborted, refused)
            }));
        }
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let report = executor.shutdown(mode, DEADLINE).await;
        let mut all = 0;
        let mut handled_by_all = 0;
        for producer in producers {
            let (handled, aborted, refused) = producer.await.expect("no assertion failed");
            all += handled + aborted + refused;
            handled_by_all += handled;
            assert!(mode == Shutdown::Abort || aborted == 0);
        }
        assert_eq!(all, 600, "each message was handled, aborted or handed back");
        assert_eq!(executor.totals().handled, handled_by_all);
        assert!(report.is_complete(), "{report:?}");
    }
}

async fn shutting_down_the_core_ends_its_executors<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    executor
        .execute(S::Key::default(), Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        })
        .await
        .expect("handled");
    let (gate, in_handler) = (Gate::new(), core.clone());
    let passing = gate.clone();
    let running = executor.try_submit(
        S::Key::default(),
        Envelope::new(()),
        move |_, _| async move {
            passing.pass().await;
            drop(in_handler);
            Ok::<_, Infallible>(())
        },
    );
    let mut shutdown = Box::pin(core.shutdown(Shutdown::Drain, DEADLINE));
    assert!(is_pending(&mut shutdown).await);
    gate.open();
    let report = shutdown.await;
    assert_eq!((report.handled, report.still_running), (1, 0));
    running.expect("room").await.expect("handled");
    let refused = executor.try_submit(S::Key::default(), Envelope::new(()), |_, _| async {
        Ok::<_, Infallible>(())
    });
    assert_eq!(refused.expect_err("closed").reason, RejectReason::Closed);
    assert!(core.spawn(async {}).is_err());
}

/// Of an executor that is built beside a shutdown each message is handled, ends as aborted, or comes back.
async fn an_executor_built_beside_a_shutdown_loses_nothing<S: Kind>(core: WorkerCore) {
    let (building, begun) = (core.clone(), Gate::new());
    let started = begun.clone();
    let builder = std::thread::spawn(move || {
        let mut submitted = Vec::new();
        while let Ok(executor) = S::build(&building, "beside") {
            let handler = |_, _| async { Ok::<_, Infallible>(()) };
            submitted.extend(executor.try_submit(S::Key::default(), Envelope::new(()), handler));
            started.one();
        }
        submitted
    });
    begun.pass().await;
    assert!(core.shutdown(Shutdown::Drain, DEADLINE).await.is_complete());
    for completion in builder.join().expect("no panic") {
        completion.await.expect("handled");
    }
}

async fn a_shutdown_of_the_core_that_is_dropped_goes_on<S: Kind>(core: WorkerCore) {
    let (first, second) = (S::wide(&core, "first"), S::wide(&core, "second"));
    let gate = Gate::new();
    let passing = gate.clone();
    let running = first.try_submit(
        S::Key::default(),
        Envelope::new(()),
        move |_, _| async move {
            passing.pass().await;
            Ok::<_, Infallible>(())
        },
    );
    let mut shutdown = Box::pin(core.shutdown(Shutdown::Drain, DEADLINE));
    assert!(is_pending(&mut shutdown).await);
    drop(shutdown);
    for executor in [first, second] {
        let refused = executor.try_submit(S::Key::default(), Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        });
        assert_eq!(refused.expect_err("closed").reason, RejectReason::Closed);
    }
    assert_eq!(S::build(&core, "late").err(), Some(BuildError::Closed));
    assert!(core.callbacks().call(|| {}).is_err());
    assert!(core.spawn(async {}).is_err());
    gate.open();
    running.expect("room").await.expect("handled");
    // Who asks again only waits for what goes on by itself.
    assert!(core.shutdown(Shutdown::Drain, DEADLINE).await.is_complete());
}
