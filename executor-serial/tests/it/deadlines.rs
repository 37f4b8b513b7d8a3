//! Deadlines of messages, drains and shutdowns, which go by the clock of the core.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use executor_serial::{
    Envelope, ExecuteError, Failure, PolicyContext, Report, SerialExecutor, Shutdown,
};
use tokio::sync::Semaphore;

use crate::contract::{Host, run};
use crate::rig::{DEADLINE, SECOND, echo, finish, held, rig, until, wait};

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
fn the_start_goes_by_the_clock_of_the_core_and_stays() {
    let rig = rig(8);
    let core = rig.core.clone();
    let handler = |_: Envelope<u64>, mut context: PolicyContext<()>| async move {
        let first = context.started();
        core.sleep(SECOND * 1_800).await;
        Ok::<_, Infallible>((first, context.started(), core.now()))
    };
    let began = rig.core.now();
    let slow = rig.executor.submit(1, Envelope::new(1), handler);
    until("it sleeps", || rig.core.next_timer().is_some());
    rig.clock.advance(SECOND * 1_800);
    let (first, again, ended) = wait(slow.expect("room")).expect("handled");
    assert_eq!(first, again);
    assert!(ended - first >= SECOND * 1_800, "half an hour went by");
    assert!(
        began - first < Duration::from_millis(1),
        "whole milliseconds"
    );
}

/// Polls an end that nobody else polls; none: it is pending.
fn poll(end: &mut Pin<Box<dyn Future<Output = Report> + '_>>) -> Option<Report> {
    match end.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(report) => Some(report),
        Poll::Pending => None,
    }
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

#[test]
fn a_message_that_expired_and_panics_when_dropped_ends_as_expired() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }

    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let envelope = || Envelope::new(Bomb).with_deadline(std::time::Instant::now());
        let handler = |_: Envelope<Bomb>, _| async { Ok::<_, Infallible>(()) };
        let executed = executor.execute(1, envelope(), handler).await;
        assert!(matches!(executed, Err(ExecuteError::Expired)));
        let next = executor.execute(1, Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        });
        next.await.expect("the stream goes on");
    });
}
