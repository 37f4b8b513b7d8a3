//! Batches: admitted as one or not at all, and waited for.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use executor_serial::{Envelope, RejectReason, SerialExecutor, Shutdown};

use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

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
        // It comes behind what the drain has queued there, so that the drain has heard of all in its first round.
        let behind = executor.try_submit(1, Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        });
        behind.expect("room").await.expect("handled");
        assert!(is_pending(&mut drain).await, "the batch is not handled");
        gate.open();
        assert!(drain.await.is_complete());
    });
}
