//! Permits come back, and their number can change.

use std::convert::Infallible;
use std::panic::resume_unwind;

use executor_parallel::{BuildError, Envelope, ParallelExecutor};

use crate::contract::eventually::in_time;
use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

#[test]
fn every_way_to_end_gives_the_permit_back_once() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let executor = ParallelExecutor::builder(&core)
                .max_concurrency(3)
                .build()
                .expect("legal");
            let mut tasks = Vec::new();
            for task in 0..6_usize {
                let executor = executor.clone();
                tasks.push(tokio::spawn(async move {
                    for number in 0..300_usize {
                        let way = (task + number) % 6;
                        let handler = move |_, _| async move {
                            if number % 2 == 0 {
                                tokio::task::yield_now().await;
                            }
                            match way {
                                0 => resume_unwind(Box::new("storm")),
                                1 => Err("storm"),
                                _ => Ok(()),
                            }
                        };
                        match way {
                            2 => {
                                let mut dropped =
                                    Box::pin(executor.execute(Envelope::new(()), handler));
                                let _ = is_pending(&mut dropped).await;
                            }
                            3 => drop(
                                executor
                                    .try_submit(Envelope::new(()), handler)
                                    .expect("room")
                                    .cancel(),
                            ),
                            4 => drop(
                                executor
                                    .try_submit(Envelope::new(()), handler)
                                    .expect("room")
                                    .await,
                            ),
                            _ => drop(executor.execute(Envelope::new(()), handler).await),
                        }
                    }
                }));
            }
            for task in tasks {
                task.await.expect("the storm passes");
            }
            assert!(executor.drain(DEADLINE).await.is_complete());
            let metrics = executor.metrics();
            assert_eq!(
                (
                    executor.available_permits(),
                    metrics.running,
                    metrics.waiting
                ),
                (3, 0, 0)
            );
            assert!(metrics.totals.panicked > 0 && metrics.totals.failed > 0);
            let mut held: Vec<_> = (0..3)
                .map(|_| {
                    executor
                        .try_execute(Envelope::new(()), |_, _| async { Ok::<_, Infallible>(()) })
                        .expect("free")
                })
                .collect();
            assert!(
                executor
                    .try_execute(Envelope::new(()), |_, _| async { Ok::<_, Infallible>(()) })
                    .is_err(),
                "no fourth permit"
            );
            held.pop();
            assert_eq!(
                executor.available_permits(),
                1,
                "a held permit comes back without a poll"
            );
        });
    }
}

#[test]
fn an_execution_dropped_before_its_end_counts_as_cancelled() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(1)
            .build()
            .expect("legal");
        let waiting = |_, _| std::future::pending::<Result<(), Infallible>>();
        let mut taken = Box::pin(executor.execute(Envelope::new(()), waiting));
        assert!(is_pending(&mut taken).await);
        let mut waited = Box::pin(executor.execute(Envelope::new(()), waiting));
        let mut in_line = Box::pin(executor.execute(Envelope::new(()), waiting));
        assert!(is_pending(&mut waited).await && is_pending(&mut in_line).await);
        drop(in_line);
        assert_eq!(executor.metrics().totals.finished(), 0, "it was in line");
        drop(taken);
        assert_eq!(executor.metrics().totals.cancelled, 1);
        assert!(is_pending(&mut waited).await);
        drop(waited);
        assert_eq!(executor.metrics().totals.cancelled, 2);
        drop(executor.try_execute(Envelope::new(()), waiting));
        let totals = executor.metrics().totals;
        assert_eq!((totals.cancelled, totals.finished()), (3, 3));
        assert_eq!(executor.available_permits(), 1);
    });
}

#[test]
fn a_limit_is_raised_at_once_and_lowered_as_handlers_finish() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(1)
            .build()
            .expect("legal");
        let (gate, started) = (Gate::new(), Gate::new());
        for _ in 0..9 {
            let (gate, started) = (gate.clone(), started.clone());
            let submitted = executor.try_submit(Envelope::new(()), move |_, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            });
            drop(submitted.expect("room"));
        }
        started.pass().await;
        executor.set_max_concurrency(4).expect("legal");
        started.pass_times(3).await;
        assert_eq!(
            (
                executor.max_concurrency(),
                executor.metrics().running,
                executor.metrics().waiting
            ),
            (4, 4, 5)
        );
        executor.set_max_concurrency(2).expect("legal");
        assert_eq!(
            (executor.max_concurrency(), executor.metrics().running),
            (2, 4),
            "nobody is stopped"
        );
        for expected in [3, 2, 2] {
            let before = executor.metrics().totals.handled;
            gate.one();
            in_time("one more is over", || {
                let metrics = executor.metrics();
                metrics.totals.handled != before && metrics.running == expected
            })
            .await;
        }
        started.pass().await;
        gate.open();
        assert!(executor.drain(DEADLINE).await.is_complete());
        assert_eq!(
            (
                executor.available_permits(),
                executor.metrics().totals.handled
            ),
            (2, 9)
        );
    });
}

#[test]
fn a_limit_lowered_and_raised_again_while_handlers_run_is_forgiven() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(4)
            .build()
            .expect("legal");
        let (gate, started) = (Gate::new(), Gate::new());
        for _ in 0..4 {
            let (gate, started) = (gate.clone(), started.clone());
            let submitted = executor.try_submit(Envelope::new(()), move |_, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            });
            drop(submitted.expect("room"));
        }
        started.pass_times(4).await;
        executor.set_max_concurrency(1).expect("legal");
        executor.set_max_concurrency(6).expect("legal");
        assert_eq!(
            (executor.metrics().running, executor.available_permits()),
            (4, 2)
        );
        gate.open();
        assert!(executor.drain(DEADLINE).await.is_complete());
        assert_eq!(
            (executor.metrics().running, executor.available_permits()),
            (0, 6)
        );
    });
}

#[test]
fn a_limit_of_zero_is_refused_and_changes_nothing() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(2)
            .build()
            .expect("legal");
        let error = executor.set_max_concurrency(0).expect_err("0 handlers");
        assert!(matches!(
            error,
            BuildError::OutOfRange {
                option: "max_concurrency",
                value: 0,
                ..
            }
        ));
        assert_eq!(
            (executor.max_concurrency(), executor.available_permits()),
            (2, 2)
        );
    });
}

#[test]
fn a_batch_gives_its_outcomes_in_order() {
    run(Host::TokioMany, |core| async move {
        let executor = ParallelExecutor::builder(&core)
            .max_concurrency(2)
            .queue(3)
            .build()
            .expect("legal");
        let outcomes = executor.execute_batch(
            (0..50).map(Envelope::new),
            |message: Envelope<i32>, _| async move {
                tokio::task::yield_now().await;
                if message.payload % 10 == 0 {
                    Err(message.payload)
                } else {
                    Ok(message.payload * 2)
                }
            },
        );
        for (number, outcome) in (0..).zip(outcomes.await) {
            match outcome {
                Ok(value) => assert_eq!(value, number * 2),
                Err(executor_parallel::ExecuteError::Handler(value)) => {
                    assert!(value == number && number % 10 == 0)
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(
            (
                executor.metrics().totals.handled,
                executor.metrics().totals.failed
            ),
            (45, 5)
        );
    });
}
