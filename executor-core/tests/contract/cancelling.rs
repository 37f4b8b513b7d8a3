//! Work that nobody wants any more.

use std::convert::Infallible;

use executor_core::{Envelope, Executor, Failure, Shutdown, WorkerCore};

use super::eventually::in_time;
use super::{DEADLINE, Gate, Kind, is_pending, on_every_host};

on_every_host![
    an_execution_that_is_never_polled_never_happens,
    a_queued_message_that_is_cancelled_comes_back_and_never_runs,
    an_execution_dropped_while_it_waits_for_room_never_runs,
    a_running_handler_sees_its_cancellation,
    a_finished_message_cannot_be_cancelled,
    a_dropped_completion_changes_nothing_for_its_message,
    a_context_returned_by_its_handler_goes_with_the_completion,
    a_context_returned_by_its_handler_goes_with_an_abort,
];

async fn an_execution_that_is_never_polled_never_happens<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 1);
    let ran = Gate::new();
    let in_handler = ran.clone();
    drop(executor.execute(
        S::Key::default(),
        Envelope::new(()),
        move |_, _| async move {
            in_handler.one();
            Ok::<_, Infallible>(())
        },
    ));
    assert!(executor.drain(DEADLINE).await.is_complete());
    assert_eq!((ran.count(), executor.totals().finished()), (0, 0));
    assert!(S::is_whole(&executor));
}

async fn a_queued_message_that_is_cancelled_comes_back_and_never_runs<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 4);
    let (gate, started, ran) = (Gate::new(), Gate::new(), Gate::new());
    let first = {
        let (gate, started) = (gate.clone(), started.clone());
        executor.try_submit(
            S::Key::default(),
            Envelope::new(1),
            move |_, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            },
        )
    };
    let first = first.expect("room");
    started.pass().await;
    let mut queued = Vec::new();
    for number in 0..3 {
        let ran = ran.clone();
        let submitted = executor.try_submit(
            S::Key::default(),
            Envelope::new(number),
            move |_, _| async move {
                ran.one();
                Ok::<_, Infallible>(())
            },
        );
        queued.push(submitted.expect("room"));
    }
    let last = queued.pop().expect("three");
    let mut polled = queued.pop().expect("two");
    assert!(is_pending(&mut polled).await);
    assert_eq!(polled.cancel().expect("not started").into_payload(), 1);
    assert_eq!(
        queued
            .pop()
            .expect("one")
            .cancel()
            .expect("not started")
            .into_payload(),
        0
    );
    gate.open();
    first.await.expect("handled");
    last.await
        .expect("the one behind the cancelled ones is handled");
    assert!(executor.drain(DEADLINE).await.is_complete());
    assert_eq!(
        (
            ran.count(),
            executor.totals().cancelled,
            executor.totals().handled
        ),
        (1, 2, 2)
    );
    assert!(S::is_whole(&executor));
}

async fn an_execution_dropped_while_it_waits_for_room_never_runs<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 1);
    let (gate, started, ran) = (Gate::new(), Gate::new(), Gate::new());
    let mut accepted = Vec::new();
    for _ in 0..2 {
        let (gate, in_handler) = (gate.clone(), started.clone());
        let submitted = executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                in_handler.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            },
        );
        accepted.push(submitted.expect("room"));
        if accepted.len() == 1 {
            started.pass().await;
        }
    }
    let waiting = |text: &'static str| {
        let ran = ran.clone();
        Box::pin(executor.execute(
            S::Key::default(),
            Envelope::new(text),
            move |_, _| async move {
                ran.one();
                Ok::<_, Infallible>(())
            },
        ))
    };
    let (mut given_up, mut kept) = (waiting("given up"), waiting("kept"));
    assert!(is_pending(&mut given_up).await);
    assert!(is_pending(&mut kept).await);
    drop(given_up);
    gate.open();
    kept.await.expect("the next in line is served");
    for completion in accepted {
        completion.await.expect("handled");
    }
    assert!(executor.drain(DEADLINE).await.is_complete());
    assert_eq!(ran.count(), 1);
    assert!(S::is_whole(&executor));
}

async fn a_running_handler_sees_its_cancellation<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let started = Gate::new();
    let in_handler = started.clone();
    let submitted = executor.try_submit(
        S::Key::default(),
        Envelope::new(()),
        move |_, context| async move {
            in_handler.one();
            context.cancelled().await;
            Ok::<_, Infallible>(context.is_cancelled())
        },
    );
    started.pass().await;
    let completion = submitted.expect("room").cancel().expect_err("it runs");
    assert!(
        completion.await.expect("handled"),
        "the handler was woken and saw it"
    );
    assert_eq!(
        (executor.totals().cancelled, executor.totals().handled),
        (0, 1)
    );
}

async fn a_finished_message_cannot_be_cancelled<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let completion = executor.try_submit(S::Key::default(), Envelope::new(()), |_, _| async {
        Ok::<_, Infallible>(5)
    });
    let completion = completion.expect("room");
    // A message counts just before its completion is told.
    in_time("the completion is told", || completion.is_done()).await;
    let completion = completion.cancel().expect_err("it is over");
    assert_eq!(completion.await.expect("handled"), 5);
}

async fn a_dropped_completion_changes_nothing_for_its_message<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let (gate, ran) = (Gate::new(), Gate::new());
    for polls in 0..3 {
        let (gate, ran) = (gate.clone(), ran.clone());
        let completion = executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            move |_, _| async move {
                gate.pass().await;
                ran.one();
                Ok::<_, Infallible>(())
            },
        );
        let mut completion = completion.expect("room");
        for _ in 0..polls {
            assert!(is_pending(&mut completion).await);
        }
    }
    gate.open();
    assert!(executor.drain(DEADLINE).await.is_complete());
    assert_eq!(ran.count(), 3);
}

async fn a_context_returned_by_its_handler_goes_with_the_completion<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 64);
    let gate = Gate::new();
    let submit = || {
        let gate = gate.clone();
        let handler = move |_, context: executor_core::PolicyContext<S::State>| async move {
            gate.one();
            Ok::<_, Infallible>(context)
        };
        let submitted = executor.try_submit(S::Key::default(), Envelope::new(()), handler);
        submitted.expect("room")
    };
    // Dropped while it waits, polled or not, before it starts, and at any moment.
    let mut waiting = submit();
    gate.pass().await;
    assert!(is_pending(&mut waiting).await);
    drop(waiting);
    let waiting = submit();
    gate.pass().await;
    drop(waiting);
    drop(submit());
    gate.pass().await;
    for round in 0..50 {
        let waiting = submit();
        for _ in 0..round {
            std::hint::spin_loop();
        }
        drop(waiting);
    }
    gate.pass_times(50).await;
    assert!(executor.drain(DEADLINE).await.is_complete());
    assert_eq!(executor.totals().handled, 53);
    assert!(S::is_whole(&executor));
}

async fn a_context_returned_by_its_handler_goes_with_an_abort<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 8);
    let gate = Gate::new();
    let in_handler = gate.clone();
    let handler = move |_, context: executor_core::PolicyContext<S::State>| async move {
        in_handler.one();
        Ok::<_, Infallible>(context)
    };
    let submitted = executor.try_submit(S::Key::default(), Envelope::new(()), handler);
    gate.pass().await;
    let report = executor.shutdown(Shutdown::Abort, DEADLINE).await;
    assert_eq!((report.aborted, report.still_running), (1, 0));
    let outcome = submitted.expect("room").await;
    assert!(matches!(outcome, Err(Failure::Aborted)), "{outcome:?}");
}
