//! Drains, and ends from inside.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use executor_core::{Envelope, Executor, Shutdown, WorkerCore};

use super::eventually::in_time;
use super::{DEADLINE, Gate, Kind, is_pending, on_every_host};

on_every_host![
    drain_waits_for_what_was_accepted_and_reports_it,
    an_expired_or_dropped_drain_leaves_everything_usable,
    many_drains_and_shutdowns_at_once_all_return,
    drain_waits_for_what_handlers_submit,
    drain_does_not_wait_for_what_comes_after_it,
    drain_and_shutdown_inside_a_handler_return_at_once,
    the_last_handle_can_be_dropped_inside_a_handler,
    draining_the_core_waits_for_its_executors,
    draining_the_core_waits_for_what_runs_on_its_caller,
    draining_the_core_inside_a_handler_returns_at_once,
    workers_leave_when_an_execution_ends_that_a_shutdown_did_not_wait_for,
];

async fn drain_waits_for_what_was_accepted_and_reports_it<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let (gate, started) = (Gate::new(), Gate::new());
    let handler = || {
        let (gate, started) = (gate.clone(), started.clone());
        move |_, _| async move {
            started.one();
            gate.pass().await;
            Ok::<_, Infallible>(())
        }
    };
    drop(
        executor
            .try_submit(S::Key::default(), Envelope::new(()), handler())
            .expect("room"),
    );
    started.pass().await;
    let mut executed = Box::pin(executor.execute(S::Key::default(), Envelope::new(()), handler()));
    assert!(is_pending(&mut executed).await);
    let mut drain = Box::pin(executor.drain(DEADLINE));
    assert!(is_pending(&mut drain).await);
    gate.open();
    let (executed, report) = tokio::join!(executed, drain);
    executed.expect("handled");
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.handled, report.failed, report.refused), (2, 0, 0));
}

async fn an_expired_or_dropped_drain_leaves_everything_usable<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 4);
    let (gate, started) = (Gate::new(), Gate::new());
    let parked = {
        let (gate, started) = (gate.clone(), started.clone());
        executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            },
        )
    };
    started.pass().await;
    for _ in 0..10 {
        let mut dropped = Box::pin(executor.drain(DEADLINE));
        assert!(is_pending(&mut dropped).await);
        drop(dropped);
        assert_eq!(executor.drain(Duration::ZERO).await.still_running, 1);
    }
    let queued = executor.try_submit(
        S::Key::default(),
        Envelope::new(3),
        |message, _| async move { Ok::<i32, Infallible>(message.payload) },
    );
    gate.open();
    parked.expect("room").await.expect("handled");
    assert_eq!(queued.expect("still accepted").await.expect("handled"), 3);
    let report = executor.drain(DEADLINE).await;
    assert!(report.is_complete(), "{report:?}");
    assert!(S::is_whole(&executor));
}

async fn many_drains_and_shutdowns_at_once_all_return<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 64);
    let gate = Gate::new();
    for _ in 0..32 {
        let gate = gate.clone();
        let submitted = executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                gate.pass().await;
                Ok::<_, Infallible>(())
            },
        );
        drop(submitted.expect("room"));
    }
    let mut drains: Vec<_> = (0..8).map(|_| Box::pin(executor.drain(DEADLINE))).collect();
    for drain in &mut drains {
        assert!(is_pending(drain).await);
    }
    let mut shutdowns: Vec<_> = (0..2)
        .map(|_| Box::pin(executor.shutdown(Shutdown::Drain, DEADLINE)))
        .collect();
    for shutdown in &mut shutdowns {
        assert!(is_pending(shutdown).await);
    }
    gate.open();
    for ending in drains {
        assert_eq!(
            (ending.await.still_running, executor.totals().handled),
            (0, 32)
        );
    }
    for ending in shutdowns {
        assert!(ending.await.is_complete());
    }
}

async fn drain_waits_for_what_handlers_submit<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let (gate, ran) = (Gate::new(), Gate::new());
    let (inner, in_gate, in_ran) = (executor.clone(), gate.clone(), ran.clone());
    let submitted = executor.try_submit(
        S::Key::default(),
        Envelope::new(()),
        move |_, _| async move {
            in_gate.pass().await;
            let child = inner.clone().try_submit(
                S::Key::default(),
                Envelope::new(()),
                move |_, _| async move {
                    let grandchild = inner.try_submit(
                        S::Key::default(),
                        Envelope::new(()),
                        move |_, _| async move {
                            tokio::task::yield_now().await;
                            in_ran.one();
                            Ok::<_, Infallible>(())
                        },
                    );
                    drop(grandchild.expect("room"));
                    Ok::<_, Infallible>(())
                },
            );
            drop(child.expect("room"));
            Ok::<_, Infallible>(())
        },
    );
    drop(submitted.expect("room"));
    let mut drain = Box::pin(executor.drain(DEADLINE));
    assert!(is_pending(&mut drain).await);
    gate.open();
    assert!(drain.await.is_complete());
    assert_eq!(ran.count(), 1);
}

async fn drain_does_not_wait_for_what_comes_after_it<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let submit = |gate: &Gate| {
        let gate = gate.clone();
        let handler = move |_, _| async move {
            gate.pass().await;
            Ok::<_, Infallible>(())
        };
        let submitted = executor.try_submit(S::Key::default(), Envelope::new(()), handler);
        submitted.expect("room")
    };
    let (gate, later_gate) = (Gate::new(), Gate::new());
    drop(submit(&gate));
    let mut drain = Box::pin(executor.drain(DEADLINE));
    assert!(is_pending(&mut drain).await);
    let later = submit(&later_gate);
    gate.open();
    assert!(drain.await.is_complete());
    assert!(!later.is_done(), "the drain has not waited for it");
    later_gate.open();
    assert!(executor.drain(DEADLINE).await.is_complete());
    later.await.expect("handled");
}

async fn drain_and_shutdown_inside_a_handler_return_at_once<S: Kind>(core: WorkerCore) {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let executor = S::wide(&core, "wide");
        let inner = executor.clone();
        let ended = executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                let drained = inner.drain(DEADLINE).await;
                let shut = inner.shutdown(mode, DEADLINE).await;
                Ok::<_, Infallible>((drained.still_running, shut.still_running))
            },
        );
        assert_eq!(
            ended.expect("room").await.expect("handled"),
            (1, 1),
            "{mode:?}: the handler itself"
        );
        let refused = executor.try_submit(S::Key::default(), Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        });
        assert!(refused.is_err());
        assert!(executor.drain(DEADLINE).await.is_complete());
        let executor = S::wide(&core, "wide");
        let inner = executor.clone();
        let ended = executor.execute(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                Ok::<_, Infallible>(inner.shutdown(mode, DEADLINE).await.still_running)
            },
        );
        assert_eq!(ended.await.expect("handled"), 1);
    }
}

async fn the_last_handle_can_be_dropped_inside_a_handler<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    drop(core);
    let gate = Gate::new();
    let (inner, in_gate) = (executor.clone(), gate.clone());
    let completion = executor.try_submit(
        S::Key::default(),
        Envelope::new(()),
        move |_, _| async move {
            in_gate.pass().await;
            drop(inner);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(9)
        },
    );
    drop(executor);
    gate.open();
    assert_eq!(
        completion
            .expect("room")
            .await
            .expect("what was accepted is handled"),
        9
    );
}

async fn draining_the_core_waits_for_its_executors<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 4);
    let (gate, started) = (Gate::new(), Gate::new());
    let handler = || {
        let (gate, started) = (gate.clone(), started.clone());
        move |_, _| async move {
            started.one();
            gate.pass().await;
            Ok::<_, Infallible>(())
        }
    };
    let parked = executor.try_submit(S::Key::default(), Envelope::new(()), handler());
    started.pass().await;
    let queued = executor.try_submit(S::Key::default(), Envelope::new(()), handler());
    assert!(!core.drain(Duration::ZERO).await.is_complete());
    let mut drain = Box::pin(core.drain(DEADLINE));
    assert!(is_pending(&mut drain).await);
    gate.open();
    assert!(drain.await.is_complete());
    for submitted in [parked, queued] {
        assert!(submitted.expect("room").is_done());
    }
    drop(executor);
    assert!(core.drain(DEADLINE).await.is_complete());
}

/// Executes on a thread of its own a message whose handler blocks that thread until it is told.
fn blocking_execution<S: Kind>(
    executor: &S::Executor,
    inside: impl FnOnce() + Send + 'static,
) -> (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let (go_on, gate) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let executor = executor.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let execution = executor.execute(S::Key::default(), Envelope::new(()), |_, _| async move {
            inside();
            tell.send(()).expect("somebody waits");
            gate.recv_timeout(DEADLINE).expect("told in time");
            Ok::<_, Infallible>(())
        });
        runtime.block_on(execution).expect("handled");
    });
    told.recv_timeout(DEADLINE).expect("it starts");
    (go_on, thread)
}

async fn draining_the_core_waits_for_what_runs_on_its_caller<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    for _ in 0..20 {
        let (go_on, thread) = blocking_execution::<S>(&executor, || ());
        let mut drain = Box::pin(core.drain(DEADLINE));
        assert!(is_pending(&mut drain).await);
        assert!(!core.drain(Duration::ZERO).await.is_complete());
        go_on.send(()).expect("it waits");
        assert!(drain.await.is_complete());
        thread.join().expect("handled");
    }
    assert_eq!(executor.totals().handled, 20);
}

async fn draining_the_core_inside_a_handler_returns_at_once<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let inner = core.clone();
    let submitted = executor.try_submit(
        S::Key::default(),
        Envelope::new(()),
        move |_, _| async move {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(inner.drain(DEADLINE).await.is_complete())
        },
    );
    assert!(!submitted.expect("room").await.expect("handled"));
    let inner = core.clone();
    let task = core.spawn(async move { inner.drain(DEADLINE).await.is_complete() });
    assert!(!task.expect("open").await.expect("over"));
    assert!(core.drain(DEADLINE).await.is_complete());
}

async fn workers_leave_when_an_execution_ends_that_a_shutdown_did_not_wait_for<S: Kind>(
    _: WorkerCore,
) {
    for from_inside in [true, false] {
        let core = WorkerCore::threads(2).build().expect("threads");
        let executor = S::wide(&core, "wide");
        let inner = core.clone();
        let (go_on, thread) = blocking_execution::<S>(&executor, move || {
            if from_inside {
                let mut shutdown = std::pin::pin!(inner.shutdown(Shutdown::Drain, DEADLINE));
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(shutdown.as_mut().poll(&mut context).is_ready());
            }
        });
        if !from_inside {
            let report = core.shutdown(Shutdown::Drain, Duration::ZERO).await;
            assert!(!report.is_complete());
        }
        in_time("all workers have looked, and sleep", || {
            core.metrics().asleep == 2
        })
        .await;
        go_on.send(()).expect("it waits");
        thread.join().expect("handled");
        in_time("the workers leave", || core.metrics().asleep == 0).await;
    }
}
