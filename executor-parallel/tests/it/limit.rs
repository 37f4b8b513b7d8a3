//! The limit, and who waits for it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use executor_parallel::{
    Envelope, ExecuteError, Failure, MissingService, ParallelExecutor, PolicyContext, RejectReason,
    Shutdown, WorkerCore,
};

use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

pub(crate) fn limited(core: &WorkerCore, limit: usize) -> ParallelExecutor {
    ParallelExecutor::builder(core)
        .max_concurrency(limit)
        .build()
        .expect("a legal limit")
}

#[test]
fn never_more_handlers_run_than_the_limit_even_when_every_caller_is_gone() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let executor = limited(&core, 3);
            let (gate, started) = (Gate::new(), Gate::new());
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            for _ in 0..10 {
                let (gate, started) = (gate.clone(), started.clone());
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let submitted = executor.try_submit(Envelope::new(()), move |_, _| async move {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    started.one();
                    gate.pass().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(())
                });
                drop(submitted.expect("room"));
            }
            started.pass_times(3).await;
            assert_eq!(
                (executor.metrics().running, executor.metrics().waiting),
                (3, 7)
            );
            for waiting in (0..7).rev() {
                assert_eq!(started.count(), 0, "nobody starts before another ends");
                gate.one();
                started.pass().await;
                assert_eq!(
                    (executor.metrics().running, executor.metrics().waiting),
                    (3, waiting)
                );
            }
            gate.open();
            assert_eq!(executor.drain(DEADLINE).await.still_running, 0);
            assert_eq!(
                (most.load(Ordering::SeqCst), executor.available_permits()),
                (3, 3)
            );
        });
    }
}

#[test]
fn executions_and_submissions_share_one_limit() {
    run(Host::Threads, |core| async move {
        let executor = limited(&core, 1);
        let (gate, started) = (Gate::new(), Gate::new());
        let handler = || {
            let (gate, started) = (gate.clone(), started.clone());
            move |_, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            }
        };
        let submitted = executor.submit(Envelope::new(()), handler()).expect("room");
        started.pass().await;
        let mut executed = Box::pin(executor.execute(Envelope::new(()), handler()));
        assert!(is_pending(&mut executed).await);
        assert_eq!((started.count(), executor.metrics().waiting), (0, 1));
        gate.one();
        submitted.await.expect("handled");
        gate.one();
        executed.await.expect("handled");
        assert_eq!(executor.metrics().totals.waited, 1);
    });
}

#[test]
fn waiters_are_served_in_order_and_one_that_gives_up_hands_its_turn_on() {
    run(Host::Threads, |core| async move {
        let executor = limited(&core, 1);
        let (gate, order) = (Gate::new(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let execution = |number: usize| {
            let (gate, order) = (gate.clone(), Arc::clone(&order));
            Box::pin(
                executor.execute(Envelope::new(number), move |message, _| async move {
                    order.lock().expect("whole").push(message.payload);
                    gate.pass().await;
                    Ok::<_, Infallible>(())
                }),
            )
        };
        let mut line: Vec<_> = (0..6).map(|number| Some(execution(number))).collect();
        for waiter in line.iter_mut().flatten() {
            assert!(is_pending(waiter).await);
        }
        line[1] = None;
        line[4] = None;
        gate.open();
        // Polled from the back, so that the order is the line's and not that of the polls.
        let mut left: Vec<_> = line.into_iter().flatten().rev().collect();
        while !left.is_empty() {
            let mut pending = Vec::new();
            for mut waiter in left {
                if is_pending(&mut waiter).await {
                    pending.push(waiter);
                }
            }
            left = pending;
        }
        assert_eq!(*order.lock().expect("whole"), [0, 2, 3, 5]);
        assert_eq!(executor.available_permits(), 1);
    });
}

#[test]
fn a_waiter_that_was_given_its_permit_and_gives_up_hands_it_on() {
    run(Host::Threads, |core| async move {
        let executor = limited(&core, 1);
        let gate = Gate::new();
        let passing = gate.clone();
        let mut first = Box::pin(executor.execute(Envelope::new(()), move |_, _| async move {
            passing.pass().await;
            Ok::<_, Infallible>(())
        }));
        let ready = || {
            Box::pin(executor.execute(Envelope::new(()), |_, _| async { Ok::<_, Infallible>(()) }))
        };
        let (mut second, mut third) = (ready(), ready());
        assert!(is_pending(&mut first).await);
        assert!(is_pending(&mut second).await);
        assert!(is_pending(&mut third).await);
        gate.open();
        first.await.expect("handled");
        drop(second);
        third.await.expect("handled");
        assert_eq!(
            (
                executor.available_permits(),
                executor.metrics().totals.handled
            ),
            (1, 2)
        );
    });
}

#[test]
fn the_context_of_a_structured_execution_says_where_it_was_to_be_asked() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core).service(7_u8).build();
        let executor = executor.expect("legal options");
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let handler = move |_: Envelope<()>, context: PolicyContext| async move {
            let inside = context.service::<u8>().map(|service| *service);
            *keep.lock().expect("whole") = Some(context);
            Ok::<_, Infallible>(inside)
        };
        let inside = executor.execute(Envelope::new(()), handler).await;
        assert_eq!(inside.expect("handled"), Ok(7));
        let context = kept.lock().expect("whole").take().expect("kept");
        let outside = context.service::<u8>().expect_err("outside");
        assert_eq!(outside, MissingService::OutsideHandler { type_name: "u8" });
        assert!(outside.to_string().contains("outside of the handler"));
    });
}

#[test]
fn the_context_of_a_structured_execution_is_that_of_its_own_executor_wherever_it_is_asked() {
    run(Host::Threads, |core| async move {
        let lending = |service: u8| {
            let builder = ParallelExecutor::builder(&core).service(service);
            builder.build().expect("legal options")
        };
        let (outer, inner) = (lending(1), lending(2));
        let other = core.clone();
        let handler = move |_: Envelope<()>, context: PolicyContext| async move {
            let nested = inner.execute(Envelope::new(()), move |_, own| async move {
                let asked = |context: &PolicyContext| context.service::<u8>().map(|found| *found);
                Ok::<_, Infallible>((asked(&context), asked(&own), context))
            });
            let (of_outer, of_inner, context) = nested.await.expect("handled");
            let elsewhere = other.spawn(async move { context.service::<u8>().map(|_| ()) });
            let elsewhere = elsewhere.expect("open").await.expect("it does not panic");
            Ok::<_, Infallible>((of_outer, of_inner, elsewhere))
        };
        let seen = outer.execute(Envelope::new(()), handler).await;
        let outside = MissingService::OutsideHandler { type_name: "u8" };
        assert_eq!(seen.expect("handled"), (Ok(1), Ok(2), Err(outside)));
    });
}

#[test]
fn try_execute_on_a_full_executor_refuses_without_waiting() {
    run(Host::TokioMany, |core| async move {
        let executor = limited(&core, 1);
        let held = executor.try_execute(Envelope::new(1), |message, _| async move {
            Ok::<i32, Infallible>(message.payload)
        });
        let held = held.expect("a free permit");
        let refused =
            executor.try_execute(Envelope::new(2), |_, _| async { Ok::<_, Infallible>(()) });
        let refused = refused
            .map(|_| ())
            .expect_err("the permit is held before the first poll");
        assert_eq!(
            (refused.reason, refused.work.payload),
            (RejectReason::NoPermit { limit: 1 }, 2)
        );
        assert_eq!(held.await.expect("handled"), 1);
        // Beyond tokio's cooperative budget, where its own semaphore says Pending with permits free.
        for number in 0..1_000 {
            let execution = executor.try_execute(Envelope::new(number), |message, _| async move {
                Ok::<i32, Infallible>(message.payload)
            });
            assert_eq!(
                execution.expect("a free permit").await.expect("handled"),
                number
            );
        }
    });
}

#[test]
fn a_ready_handler_runs_on_its_caller() {
    run(Host::Threads, |core| async move {
        let executor = limited(&core, 1);
        let here = std::thread::current().id();
        let mut execution = Box::pin(executor.execute(Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(std::thread::current().id())
        }));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(execution.as_mut().poll(context))
        })
        .await;
        let std::task::Poll::Ready(Ok(there)) = polled else {
            panic!("not ready at once")
        };
        assert_eq!(here, there);
        assert_eq!(core.metrics().runs, 0, "no worker was bothered");
    });
}

#[test]
fn a_full_queue_refuses_with_the_envelope_and_submit_wait_waits() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(1)
            .queue(1)
            .build()
            .expect("legal");
        let gate = Gate::new();
        let handler = || {
            let gate = gate.clone();
            move |_, _| async move {
                gate.pass().await;
                Ok::<_, Infallible>(())
            }
        };
        let accepted = [
            executor.try_submit(Envelope::new(0), handler()),
            executor.try_submit(Envelope::new(1), handler()),
        ];
        for refused in [
            executor.try_submit(Envelope::new(2), handler()),
            executor.submit(Envelope::new(2), handler()),
        ] {
            let refused = refused.expect_err("full, and blocking would be harmful here");
            assert_eq!(
                (refused.reason, refused.work.payload),
                (RejectReason::Full { limit: 1 }, 2)
            );
        }
        let mut given_up = Box::pin(executor.submit_wait(Envelope::new(3), handler()));
        let mut waiting = Box::pin(executor.submit_wait(Envelope::new(4), handler()));
        assert!(is_pending(&mut given_up).await);
        assert!(is_pending(&mut waiting).await);
        drop(given_up);
        gate.open();
        waiting.await.expect("admitted").await.expect("handled");
        for completion in accepted {
            completion.expect("room").await.expect("handled");
        }
        assert!(executor.drain(DEADLINE).await.is_complete());
        assert_eq!(
            (
                executor.metrics().totals.handled,
                executor.available_permits()
            ),
            (3, 1)
        );
    });
}

#[test]
fn an_abort_turns_callers_in_line_away_with_their_envelopes() {
    run(Host::Threads, |core| async move {
        let executor = limited(&core, 1);
        let never = Gate::new();
        let mut held = Box::pin(executor.execute(Envelope::new(0), move |_, _| async move {
            never.pass().await;
            Ok::<_, Infallible>(())
        }));
        assert!(is_pending(&mut held).await);
        let mut waiting =
            Box::pin(executor.execute(Envelope::new(7), |_, _| async { Ok::<_, Infallible>(()) }));
        assert!(is_pending(&mut waiting).await);
        let report = executor
            .shutdown(
                executor_parallel::Shutdown::Abort,
                std::time::Duration::ZERO,
            )
            .await;
        assert_eq!(
            report.still_running, 1,
            "what runs in a caller's future is the caller's to end"
        );
        let Err(ExecuteError::Rejected(rejected)) = waiting.await else {
            panic!("not turned away")
        };
        assert_eq!(
            (rejected.reason, rejected.work.payload),
            (RejectReason::Closed, 7)
        );
        drop(held);
        assert!(executor.drain(DEADLINE).await.is_complete());
        assert_eq!(executor.available_permits(), 1);
    });
}

#[test]
fn an_execution_that_gave_up_in_line_leaves_its_place_in_the_queue() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(1)
            .queue(1)
            .build()
            .expect("legal options");
        let gate = Gate::new();
        let passing = gate.clone();
        let mut held = Box::pin(executor.execute(Envelope::new(()), move |_, _| async move {
            passing.pass().await;
            Ok::<_, Infallible>(())
        }));
        assert!(is_pending(&mut held).await);
        let quick = |_: Envelope<()>, _: PolicyContext| async { Ok::<_, Infallible>(()) };
        let mut given_up = Box::pin(executor.execute(Envelope::new(()), quick));
        assert!(is_pending(&mut given_up).await);
        drop(given_up);
        assert_eq!(executor.metrics().waiting, 0);
        let queued = executor.try_submit(Envelope::new(()), quick).expect("room");
        gate.open();
        held.await.expect("handled");
        queued.await.expect("handled");
    });
}

#[test]
fn detached_messages_run_under_the_limit_and_are_counted() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let executor = limited(&core, 3);
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            for number in 0..200 {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let handler = move |_: Envelope<()>, _| async move {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    if number % 4 == 0 {
                        Err("no")
                    } else {
                        Ok(number)
                    }
                };
                executor
                    .submit_detached(Envelope::new(()), handler)
                    .expect("room");
            }
            assert_eq!(executor.drain(DEADLINE).await.still_running, 0);
            let totals = executor.metrics().totals;
            assert_eq!((totals.handled, totals.failed), (150, 50));
            assert!(most.load(Ordering::SeqCst) <= 3);
            assert_eq!(executor.available_permits(), 3);
        });
    }
}

#[test]
fn metrics_tell_the_limits_and_who_waits() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(3)
            .queue(17)
            .build()
            .expect("legal options");
        let gate = Gate::new();
        let submitted: Vec<_> = (0..5)
            .map(|_| {
                let gate = gate.clone();
                let handler = move |_, _| async move {
                    gate.pass().await;
                    Ok::<_, Infallible>(())
                };
                executor.try_submit(Envelope::new(()), handler)
            })
            .collect();
        let metrics = executor.metrics();
        assert_eq!((metrics.limit, metrics.queue), (3, 17));
        assert_eq!((metrics.running, metrics.waiting), (3, 2));
        let shown = format!("{executor:?}");
        for part in ["limit: 3", "queue: 17", "running: 3", "waiting: 2"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        gate.open();
        for submission in submitted {
            submission.expect("room").await.expect("handled");
        }
    });
}

#[test]
fn an_abort_ends_what_waits_for_a_permit_although_a_handler_keeps_it() {
    run(Host::Threads, |core| async move {
        let executor = limited(&core, 1);
        let started = Gate::new();
        let (go_on, told) = mpsc::channel::<()>();
        let begun = started.clone();
        let blocks = move |_, _| async move {
            begun.one();
            told.recv().expect("it comes");
            Ok::<_, Infallible>(())
        };
        let blocking = executor.try_submit(Envelope::new(()), blocks);
        let waiting = executor.try_submit(Envelope::new(()), passing);
        started.pass().await;
        let mut shutdown = Box::pin(executor.shutdown(Shutdown::Abort, DEADLINE));
        assert!(is_pending(&mut shutdown).await);
        let aborted = waiting.expect("room").await;
        assert!(matches!(aborted, Err(Failure::Aborted)), "{aborted:?}");
        go_on.send(()).expect("it waits");
        blocking.expect("room").await.expect("it came to its end");
        assert_eq!(shutdown.await.still_running, 0);
        assert_eq!(executor.available_permits(), 1);
    });
}

pub(crate) async fn passing(_: Envelope<()>, _: PolicyContext) -> Result<(), Infallible> {
    Ok(())
}
