//! Order and exclusion.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use executor_serial::{Envelope, SerialExecutor, WorkerCore};

use crate::contract::DEADLINE;

#[test]
fn a_value_goes_in_and_comes_out() {
    let core = WorkerCore::threads(2).build().expect("two threads");
    let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("defaults");
    let stream = executor.stream(&7);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let value = runtime.block_on(async {
        stream
            .execute(Envelope::new(41_u64), |message, _| async move {
                Ok::<_, Infallible>(message.payload + 1)
            })
            .await
    });
    assert_eq!(value.expect("handled"), 42);
    let value =
        runtime.block_on(
            executor.execute(7, Envelope::new(41_u64), |message, _| async move {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(message.payload + 2)
            }),
        );
    assert_eq!(value.expect("handled"), 43);
    assert_eq!(executor.metrics().totals.handled, 2);
}

#[test]
fn a_million_messages_of_four_producers_are_handled_once_and_in_order() {
    let core = WorkerCore::threads(2).build().expect("two threads");
    let executor: SerialExecutor<u64, [u64; 4]> = SerialExecutor::builder(&core)
        .state(|_| [0_u64; 4])
        .queue_per_stream(4_096)
        .build()
        .expect("legal");
    let handled = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for producer in 0..4_usize {
            let (executor, handled) = (executor.clone(), Arc::clone(&handled));
            scope.spawn(move || {
                let stream = executor.stream(&1);
                for number in 0..250_000_u64 {
                    let handled = Arc::clone(&handled);
                    let submitted = stream.submit(
                        Envelope::new(number),
                        move |message, mut context| async move {
                            let last = &mut context.state()[producer];
                            assert_eq!(*last, message.payload, "each producer's order is kept");
                            *last += 1;
                            handled.fetch_add(1, Ordering::Relaxed);
                            Ok::<_, Infallible>(())
                        },
                    );
                    drop(submitted.expect("a plain thread waits for room"));
                }
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let report = runtime.block_on(executor.drain(std::time::Duration::from_secs(60)));
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(handled.load(Ordering::Relaxed), 1_000_000);
    assert_eq!(executor.metrics().totals.panicked, 0);
}

#[test]
fn an_execution_runs_no_message_but_its_own() {
    const SUBMITTERS: u64 = 8;
    let core = WorkerCore::threads(2).build().expect("threads");
    let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let executing = executor.clone();
    let caller = thread::spawn(move || {
        let handler = move |_: Envelope<()>, _| async move {
            begun.send(()).expect("it is waited for");
            may_go_on.recv_timeout(DEADLINE).expect("told in time");
            Ok::<_, Infallible>(thread::current().id())
        };
        let mut execution = Box::pin(executing.execute(1, Envelope::new(()), handler));
        let mut context = Context::from_waker(Waker::noop());
        let outcome = execution.as_mut().poll(&mut context);
        // Here, and with what was queued meanwhile left to the workers.
        let Poll::Ready(ran_on) = outcome else {
            panic!("the handler is ready at its first poll")
        };
        (ran_on.expect("handled"), thread::current().id())
    });
    has_begun.recv_timeout(DEADLINE).expect("it begins");
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|_| {
            let executor = executor.clone();
            thread::spawn(move || {
                let ran_on = |_, _| async { Ok::<_, Infallible>(thread::current().id()) };
                let submit = |_| executor.try_submit(1, Envelope::new(()), ran_on);
                (0..100)
                    .map(|n| submit(n).expect("room"))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let queued: Vec<_> = (submitters.into_iter())
        .flat_map(|submitter| submitter.join().expect("no panic"))
        .collect();
    go_on.send(()).expect("it waits");
    let (ran_on, caller) = caller.join().expect("no panic");
    assert_eq!(ran_on, caller);
    for completion in queued {
        assert_ne!(completion.wait().expect("handled"), caller);
    }
}
