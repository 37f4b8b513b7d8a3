//! Bounds, and cold streams beside a hot one.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use executor_serial::{Envelope, RejectReason, SerialExecutor};

use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

#[test]
fn a_full_stream_refuses_or_lets_wait_in_line() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
                .queue_per_stream(2)
                .build()
                .expect("legal");
            let (gate, started, order) =
                (Gate::new(), Gate::new(), Arc::new(Mutex::new(Vec::new())));
            let handler = || {
                let (gate, started, order) = (gate.clone(), started.clone(), Arc::clone(&order));
                move |message: Envelope<u32>, _| async move {
                    started.one();
                    gate.pass().await;
                    order.lock().expect("whole").push(message.payload);
                    Ok::<_, Infallible>(())
                }
            };
            let mut accepted = vec![
                executor
                    .try_submit(1, Envelope::new(0), handler())
                    .expect("room"),
            ];
            started.pass().await;
            accepted.push(
                executor
                    .try_submit(1, Envelope::new(1), handler())
                    .expect("room"),
            );
            accepted.push(
                executor
                    .try_submit(1, Envelope::new(2), handler())
                    .expect("room"),
            );
            for refused in [
                executor.try_submit(1, Envelope::new(9), handler()),
                executor.submit(1, Envelope::new(9), handler()),
            ] {
                let refused = refused.expect_err("full");
                assert_eq!(
                    (refused.reason, refused.work.payload),
                    (RejectReason::Full { limit: 2 }, 9)
                );
            }
            executor
                .try_submit(2, Envelope::new(20), |_, _| async {
                    Ok::<_, Infallible>(())
                })
                .expect("another stream has room")
                .await
                .expect("handled");
            let mut line: Vec<_> = (3..7)
                .map(|number| {
                    Some(Box::pin(executor.submit_wait(
                        1,
                        Envelope::new(number),
                        handler(),
                    )))
                })
                .collect();
            for waiting in line.iter_mut().flatten() {
                assert!(is_pending(waiting).await);
            }
            line[1] = None;
            gate.open();
            for waiting in line.into_iter().flatten() {
                accepted.push(waiting.await.expect("admitted"));
            }
            for completion in accepted {
                completion.await.expect("handled");
            }
            assert_eq!(*order.lock().expect("whole"), [0, 1, 2, 3, 5, 6]);
        });
    }
}

#[test]
fn the_total_budget_holds_over_all_streams() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
            .queue_total(3)
            .build()
            .expect("legal");
        let gate = Gate::new();
        let submit = |key: u64, started: Gate| {
            let gate = gate.clone();
            executor.try_submit(key, Envelope::new(key), move |_, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            })
        };
        let started = Gate::new();
        let mut accepted = Vec::new();
        for key in 0..3 {
            accepted.push(submit(key, started.clone()).expect("room"));
            started.pass().await;
        }
        for key in 0..3 {
            accepted.push(submit(key, started.clone()).expect("only what has not started counts"));
        }
        let refused = submit(77, started.clone()).expect_err("the total is reached");
        assert_eq!(
            (refused.reason, refused.work.payload),
            (RejectReason::TotalFull { limit: 3 }, 77)
        );
        gate.open();
        for completion in accepted {
            completion.await.expect("handled");
        }
        submit(77, started)
            .expect("room again")
            .await
            .expect("handled");
        assert_eq!(executor.metrics().depth, 0);
    });
}

#[test]
fn an_endless_stream_does_not_starve_the_others() {
    for host in [Host::Threads, Host::TokioOne] {
        run(host, |core| async move {
            let executor: SerialExecutor<u64> =
                SerialExecutor::builder(&core).build().expect("legal");
            let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
            for key in 0..4 {
                again(&executor, key, &stop);
            }
            let cold: Vec<_> = (100..1_100)
                .map(|key| {
                    executor
                        .try_submit(key, Envelope::new(()), |_, _| async {
                            Ok::<_, Infallible>(())
                        })
                        .expect("room")
                })
                .collect();
            for completion in cold {
                completion.await.expect("handled beside the hot ones");
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            assert!(executor.drain(DEADLINE).await.is_complete());
        });
    }
}

/// Keeps a stream busy until `stop`.
fn again(executor: &SerialExecutor<u64>, key: u64, stop: &Arc<std::sync::atomic::AtomicBool>) {
    let (inner, stop) = (executor.clone(), Arc::clone(stop));
    let submitted = executor.try_submit(key, Envelope::new(()), move |_, _| async move {
        if !stop.load(std::sync::atomic::Ordering::SeqCst) {
            again(&inner, key, &stop);
        }
        Ok::<_, Infallible>(())
    });
    drop(submitted.expect("room"));
}

/// Panics when it is dropped, unless the thread panics already.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "thrown");
    }
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_does_not_cost_a_cancelled_message() {
    run(Host::Threads, |core| async move {
        let executor = SerialExecutor::<u32>::builder(&core)
            .build()
            .expect("built");
        let stream = executor.stream(&1);
        let (gate, started) = (Gate::new(), Gate::new());
        let (behind, told) = (gate.clone(), started.clone());
        let held = stream.submit(Envelope::new(()), move |_, _| async move {
            told.one();
            behind.pass().await;
            Ok::<_, Infallible>(())
        });
        started.pass().await;
        let grenade = Grenade;
        let queued = stream.submit(Envelope::new(7), move |message, _| async move {
            let _held = &grenade;
            Ok::<_, Infallible>(message.payload)
        });
        let envelope = queued
            .expect("there is room")
            .cancel()
            .expect("it has not started");
        assert_eq!(envelope.payload, 7);
        gate.one();
        held.expect("there is room").await.expect("it is handled");
    });
}

#[test]
fn metrics_tell_the_bounds_and_what_is_queued() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
            .queue_per_stream(5)
            .queue_total(17)
            .resident_streams(7)
            .build()
            .expect("legal");
        let (gate, started) = (Gate::new(), Gate::new());
        let submitted: Vec<_> = (0..3)
            .map(|_| {
                let (gate, started) = (gate.clone(), started.clone());
                let handler = move |_, _| async move {
                    started.one();
                    gate.pass().await;
                    Ok::<_, Infallible>(())
                };
                executor.try_submit(1, Envelope::new(()), handler)
            })
            .collect();
        started.pass().await;
        let metrics = executor.metrics();
        assert_eq!(
            (metrics.queue_per_stream, metrics.queue_total),
            (5, Some(17))
        );
        assert_eq!((metrics.resident_streams, metrics.resident), (7, 1));
        assert_eq!((metrics.busy, metrics.depth), (1, 2));
        let shown = format!("{executor:?}");
        for part in [
            "queue_per_stream: 5",
            "queue_total: Some(17)",
            "resident_streams: 7",
            "depth: 2",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        gate.open();
        for submission in submitted {
            submission.expect("room").await.expect("handled");
        }
    });
}
