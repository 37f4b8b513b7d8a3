//! Bounds, batches and cold streams beside a hot one.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use executor_serial::{Envelope, ExecuteError, RejectReason, SerialExecutor, Shutdown};

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
fn a_batch_is_contiguous_and_gives_back_what_did_not_fit() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
            .queue_per_stream(5)
            .build()
            .expect("legal");
        let (gate, started, order) = (Gate::new(), Gate::new(), Arc::new(Mutex::new(Vec::new())));
        let (passing, starting) = (gate.clone(), started.clone());
        let first = executor.try_submit(1, Envelope::new(()), move |_, _| async move {
            starting.one();
            passing.pass().await;
            Ok::<_, Infallible>(())
        });
        started.pass().await;
        let recorded = Arc::clone(&order);
        let batch = executor.submit_batch(
            1,
            (0..8).map(Envelope::new),
            move |message: Envelope<u32>, _| {
                let order = Arc::clone(&recorded);
                async move {
                    tokio::task::yield_now().await;
                    order.lock().expect("whole").push(message.payload);
                    Ok::<_, Infallible>(message.payload)
                }
            },
        );
        let refused = batch.refused.expect("three too many");
        assert_eq!(refused.reason, RejectReason::Full { limit: 5 });
        assert_eq!(
            refused
                .work
                .into_iter()
                .map(Envelope::into_payload)
                .collect::<Vec<_>>(),
            [5, 6, 7]
        );
        gate.open();
        first.expect("room").await.expect("handled");
        let outcomes = executor_serial::join_all(batch.accepted).await;
        assert_eq!(
            outcomes.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        assert_eq!(*order.lock().expect("whole"), [0, 1, 2, 3, 4]);
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
fn a_batch_whose_iterator_or_handler_panics_was_not_begun() {
    /// A handler that panics when it is cloned for the fourth time.
    struct Fourth(Arc<AtomicU64>);

    impl Clone for Fourth {
        fn clone(&self) -> Self {
            if self.0.fetch_add(1, Ordering::SeqCst) == 3 {
                resume_unwind(Box::new("cloned"));
            }
            Self(Arc::clone(&self.0))
        }
    }

    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
            .queue_per_stream(8)
            .build()
            .expect("legal");
        let stream = executor.stream(&1);
        let ran = Arc::new(AtomicU64::new(0));
        for by_clone in [false, true] {
            let count = Arc::new(AtomicU64::new(if by_clone { 0 } else { 1 << 32 }));
            let (counted, fourth) = (Arc::clone(&ran), Fourth(count));
            let handler = move |_: Envelope<u64>, _| {
                let (_fourth, counted) = (&fourth, Arc::clone(&counted));
                async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(())
                }
            };
            let envelopes = (0..6).map(|number| {
                if !by_clone && number == 3 {
                    resume_unwind(Box::new("stepped"));
                }
                Envelope::new(number)
            });
            let batch = || stream.submit_batch(envelopes, handler);
            let panic = catch_unwind(AssertUnwindSafe(batch)).expect_err("it panics");
            let said = if by_clone { "cloned" } else { "stepped" };
            assert_eq!(panic.downcast_ref(), Some(&said));
            assert_eq!((stream.depth(), stream.is_busy()), (0, false));
        }
        let echo = |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
        let batch = stream.submit_batch((0..8).map(Envelope::new), echo);
        assert!(batch.refused.is_none(), "no place is lost");
        for (completion, number) in batch.accepted.into_iter().zip(0..) {
            assert_eq!(completion.await.expect("handled"), number);
        }
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_batch_whose_iterator_shuts_the_executor_down_comes_back() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let (inner, stream) = (executor.clone(), executor.stream(&1));
        let envelopes = (0..4).map(move |number| {
            if number == 3 {
                let mut shutdown = Box::pin(inner.shutdown(Shutdown::Drain, DEADLINE));
                let _begun = shutdown
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
            }
            Envelope::new(number)
        });
        let echo = |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
        let batch = stream.submit_batch(envelopes, echo);
        assert!(batch.accepted.is_empty());
        let refused = batch.refused.expect("closed");
        assert_eq!(refused.reason, RejectReason::Closed);
        let numbers: Vec<_> = (refused.work.iter())
            .map(|envelope| envelope.payload)
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(executor.metrics().totals.refused, 4);
        assert_eq!(stream.depth(), 0);
    });
}

#[test]
fn a_drain_waits_for_a_batch_that_a_handler_was_admitting_when_it_began() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let (gate, admitting) = (Gate::new(), Gate::new());
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let (inner, passing, tell) = (executor.clone(), gate.clone(), admitting.clone());
        let submitted = executor.try_submit(1, Envelope::new(()), move |_, _| async move {
            // The iterator's second step comes when the batch has its generation, and is not pushed yet.
            let mut steps = 0;
            let envelopes = std::iter::from_fn(|| {
                steps += 1;
                if steps == 2 {
                    tell.one();
                    may_go_on.recv_timeout(DEADLINE).expect("told in time");
                    return None;
                }
                Some(Envelope::new(()))
            });
            let batch = inner.submit_batch(2, envelopes, move |_, _| {
                let passing = passing.clone();
                async move {
                    passing.pass().await;
                    Ok::<_, Infallible>(())
                }
            });
            assert!(batch.refused.is_none());
            Ok::<_, Infallible>(())
        });
        admitting.pass().await;
        let mut drain = Box::pin(executor.drain(DEADLINE));
        assert!(is_pending(&mut drain).await);
        go_on.send(()).expect("it waits");
        submitted.expect("room").await.expect("handled");
        // Of one message there is no marker left: the next round is on its way, if there is one.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(is_pending(&mut drain).await, "the batch is not handled");
        }
        gate.open();
        assert!(drain.await.is_complete());
    });
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
