//! Many streams beside each other, and the order in each.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use executor_core::DEFAULT_BUDGET;
use executor_serial::{Envelope, SerialExecutor, WorkerCore, join_all};

use crate::begun::Begun;
use crate::contract::{DEADLINE, Host, run};

const HOSTS: [Host; 3] = [Host::Threads, Host::TokioMany, Host::TokioOne];

type Order = Arc<Mutex<Vec<u32>>>;

/// A handler that yields before and after it notes its message.
macro_rules! noting {
    ($order:expr) => {{
        let order: Order = Arc::clone(&$order);
        move |message: Envelope<u32>, _| async move {
            tokio::task::yield_now().await;
            order.lock().expect("whole").push(message.payload);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(message.payload)
        }
    }};
}

#[test]
fn messages_admitted_one_after_another_are_handled_so() {
    for host in HOSTS {
        run(host, |core| async move {
            for inline in [true, false] {
                let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
                    .inline(inline)
                    .build()
                    .expect("legal");
                for way in ["submitted", "executed", "mixed"] {
                    let order = Order::default();
                    let (mut submitted, mut executed) = (Vec::new(), Vec::new());
                    for number in 0..10 {
                        let message = Envelope::new(number);
                        if way == "submitted" || way == "mixed" && number % 2 == 0 {
                            let submission = executor.try_submit(1, message, noting!(order));
                            submitted.push(submission.expect("room"));
                        } else {
                            let execution = executor.execute(1, message, noting!(order));
                            executed.push(Begun::new(execution).await);
                        }
                    }
                    for completion in submitted {
                        completion.await.expect("handled");
                    }
                    for execution in executed {
                        execution.end().await.expect("handled");
                    }
                    let order = order.lock().expect("whole").clone();
                    assert_eq!(
                        order,
                        (0..10).collect::<Vec<_>>(),
                        "{way}, inline: {inline}"
                    );
                }
            }
        });
    }
}

#[test]
fn ten_streams_of_a_hundred_are_each_in_order() {
    for host in HOSTS {
        run(host, |core| async move {
            let executor: SerialExecutor<usize> =
                SerialExecutor::builder(&core).build().expect("legal");
            let orders: Vec<_> = (0..10).map(|_| Order::default()).collect();
            let completions: Vec<_> = (0..1_000_u32)
                .map(|number| {
                    let key = (number % 10) as usize;
                    let handler = noting!(orders[key]);
                    let submission = executor.try_submit(key, Envelope::new(number / 10), handler);
                    submission.expect("room")
                })
                .collect();
            for outcome in join_all(completions).await {
                outcome.expect("handled");
            }
            for order in orders {
                assert_eq!(*order.lock().expect("whole"), (0..100).collect::<Vec<_>>());
            }
        });
    }
}

#[test]
fn a_handler_that_blocks_its_thread_delays_its_own_stream_alone() {
    for host in [Host::Threads, Host::TokioMany] {
        run(host, |core| async move {
            let executor: SerialExecutor<u64> =
                SerialExecutor::builder(&core).build().expect("legal");
            let (go_on, gate) = mpsc::channel::<()>();
            let (tell, told) = tokio::sync::oneshot::channel();
            let blocking = executor.try_submit(0, Envelope::new(()), move |_, _| async move {
                tell.send(()).expect("somebody waits");
                gate.recv_timeout(DEADLINE).expect("told in time");
                Ok::<_, Infallible>(())
            });
            told.await.expect("it starts");
            let order = Order::default();
            let behind = executor.try_submit(0, Envelope::new(7), noting!(order));
            // More than a batch, from one thread: some of them lie in the lane of the blocked worker.
            for round in 0..5 {
                let others = (1..500).map(|key| {
                    let echo = |message: Envelope<u64>, _| async move {
                        Ok::<_, Infallible>(message.payload)
                    };
                    (executor.try_submit(key, Envelope::new(key), echo)).expect("room")
                });
                let others: Vec<_> = others.collect();
                for (key, outcome) in (1..).zip(join_all(others).await) {
                    assert_eq!(outcome.expect("handled"), key, "round {round}");
                }
            }
            assert!(order.lock().expect("whole").is_empty());
            go_on.send(()).expect("it waits");
            blocking.expect("room").await.expect("handled");
            assert_eq!(behind.expect("room").await.expect("handled"), 7);
        });
    }
}

#[test]
fn cold_streams_wait_for_a_bounded_number_of_messages_of_hot_ones() {
    const HOT: u64 = 4;
    const COLD: u64 = 1_000;
    run(Host::TokioOne, |_| async {
        // One worker, so that what is counted between two moments is what ran between them.
        let core = WorkerCore::threads(1).build().expect("a thread");
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let hot = Arc::new(AtomicU64::new(0));
        for key in 0..HOT {
            heat(&executor, key, &hot);
        }
        let (inner, counted) = (executor.clone(), Arc::clone(&hot));
        // Submitted on the worker itself, amid the hot ones.
        let submitting = executor.try_submit(COLD, Envelope::new(()), move |_, _| async move {
            let before = counted.load(Ordering::SeqCst);
            let cold = (1..=COLD).map(|number| {
                let counted = Arc::clone(&counted);
                let handler = move |_, _| async move {
                    Ok::<_, Infallible>(counted.load(Ordering::SeqCst) - before)
                };
                (inner.try_submit(COLD + number, Envelope::new(()), handler)).expect("room")
            });
            Ok::<_, Infallible>(cold.collect::<Vec<_>>())
        });
        let cold = submitting.expect("room").await.expect("handled");
        let waits = join_all(cold).await;
        let worst = waits.into_iter().map(|wait| wait.expect("handled")).max();
        // What is left of their slices when the cold ones come, and one slice each.
        let bound = 2 * HOT * DEFAULT_BUDGET as u64;
        assert!(worst.expect("a thousand") <= bound, "{worst:?} of {bound}");
        hot.store(u64::MAX / 2, Ordering::SeqCst);
        assert!(executor.drain(DEADLINE).await.is_complete());
    });
}

/// Keeps a stream busy until `hot` says that it is enough.
fn heat(executor: &SerialExecutor<u64>, key: u64, hot: &Arc<AtomicU64>) {
    let (inner, counted) = (executor.clone(), Arc::clone(hot));
    let submitted = executor.try_submit(key, Envelope::new(()), move |_, _| async move {
        if counted.fetch_add(1, Ordering::SeqCst) < u64::MAX / 2 {
            heat(&inner, key, &counted);
        }
        Ok::<_, Infallible>(())
    });
    drop(submitted.expect("room"));
}

/// How many of `messages` of a hot stream, each with this work, the only worker of a core runs before one
/// of a cold stream, which is queued last.
fn hot_before_cold(core: &WorkerCore, messages: usize, work: fn()) -> u64 {
    let executor: SerialExecutor<u64> = SerialExecutor::builder(core).build().expect("legal");
    let (go_on, gate) = mpsc::channel::<()>();
    // The only worker is busy until all are queued: what follows does not depend on time.
    let blocking = core.spawn_fn_detached(move || {
        gate.recv_timeout(DEADLINE).expect("told in time");
    });
    blocking.expect("open");
    let handled = Arc::new(AtomicU64::new(0));
    let mut hot = Vec::new();
    for _ in 0..messages {
        let handled = Arc::clone(&handled);
        let submitted = executor.try_submit(0, Envelope::new(()), move |_, _| async move {
            work();
            handled.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        });
        hot.push(submitted.expect("room"));
    }
    let before = Arc::clone(&handled);
    let cold = executor.try_submit(1, Envelope::new(()), move |_, _| async move {
        Ok::<_, Infallible>(before.load(Ordering::SeqCst))
    });
    go_on.send(()).expect("it waits");
    let before = cold.expect("room").wait().expect("handled");
    for completion in hot {
        completion.wait().expect("handled");
    }
    before
}

#[test]
fn a_stream_runs_no_more_in_a_row_than_its_budget() {
    const BUDGET: usize = 8;
    let core = WorkerCore::threads(1).budget(BUDGET).build();
    let before = hot_before_cold(&core.expect("a thread"), 100 * BUDGET, || ());
    assert!(
        before <= BUDGET as u64,
        "{before} of the hot stream came first"
    );
}

#[test]
fn a_stream_of_slow_messages_lets_the_others_come_after_some_milliseconds() {
    let core = WorkerCore::threads(1).build().expect("a thread");
    let slow = || thread::sleep(Duration::from_millis(6));
    let before = hot_before_cold(&core, 30, slow);
    assert!(before <= 8, "{before} of the hot stream came first");
}
